/* Stored points of an attempt, fed in step order to what replays them. */
#include <math.h>

#include "engine.h"

/* The rows of tensors beside the points: a cursor and the record it stands on. */
struct rows {
    struct lyap_cursor *cursor; /* NULL: over, or none wanted */
    struct lyap_record record;
};

static enum lyap_status rows_next(struct rows *rows)
{
    const enum lyap_status status = rows->cursor->next(rows->cursor, &rows->record);
    if (status == LYAP_OK)
        return LYAP_OK;
    rows->cursor->close(rows->cursor);
    rows->cursor = NULL;
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

static enum lyap_status rows_open(const struct lyap_feed *feed, struct rows *rows)
{
    struct lyap_query query = lyap_query_of(LYAP_TABLE_TENSOR_POINTS, feed->run);
    query.attempt = feed->attempt;
    query.from_step = feed->after + 1;
    enum lyap_status status = feed->store->ops->query(feed->store, &query, &rows->cursor);
    if (status != LYAP_OK) {
        rows->cursor = NULL;
        return status;
    }
    return rows_next(rows);
}

static void rows_clear(const struct lyap_feed *feed)
{
    for (uint32_t i = 0; i < feed->set->count; i++) {
        feed->rows[i].tensor = i;
        for (int k = 0; k < LYAP_TENSOR_METRIC_COUNT; k++)
            feed->rows[i].values[k] = NAN;
    }
}

/* The rows of a step into feed->rows; *ret_has_any: some are stored. */
static enum lyap_status rows_take(const struct lyap_feed *feed, struct rows *rows, int64_t step,
                                  bool *ret_has_any)
{
    enum lyap_status status = LYAP_OK;
    *ret_has_any = false;
    while (status == LYAP_OK && rows->cursor && rows->record.u.tensor.step <= step) {
        const struct lyap_tensor_record *tensor = &rows->record.u.tensor;
        if (tensor->step == step && tensor->row.tensor < feed->set->count) {
            if (!*ret_has_any)
                rows_clear(feed);
            *ret_has_any = true;
            feed->rows[tensor->row.tensor] = tensor->row;
        }
        status = rows_next(rows);
    }
    return status;
}

enum lyap_status lyap_feed_page(struct lyap_feed *feed, lyap_feed_use *use, void *arg)
{
    struct rows rows = { .cursor = NULL };
    struct lyap_cursor *points;
    struct lyap_record record;
    uint32_t count = 0;
    struct lyap_query query = lyap_query_of(LYAP_TABLE_POINTS, feed->run);
    query.attempt = feed->attempt;
    query.after = feed->after;
    query.limit = feed->limit;
    enum lyap_status status = feed->store->ops->query(feed->store, &query, &points);
    if (status != LYAP_OK)
        return status;
    if (feed->set)
        status = rows_open(feed, &rows);
    while (status == LYAP_OK && (status = points->next(points, &record)) == LYAP_OK) {
        bool has_rows = false;
        feed->after = record.key;
        count++;
        if (rows.cursor)
            status = rows_take(feed, &rows, record.key, &has_rows);
        if (status == LYAP_OK)
            status = use(arg, &record.u.point, has_rows ? feed->rows : NULL);
    }
    points->close(points);
    if (rows.cursor)
        rows.cursor->close(rows.cursor);
    return status == LYAP_E_NOT_FOUND && count == feed->limit ? LYAP_OK : status;
}

/* ---- what rules look back at ---- */

static enum lyap_status on_look_back(void *arg, const struct lyap_point *point,
                                     const struct lyap_tensor_row *rows)
{
    (void)rows;
    lyap_alerts_lookback_push(arg, point);
    return LYAP_OK;
}

/* Step of the `depth`-th newest point; 0: there are not so many. */
static enum lyap_status step_back(struct lyap_engine *engine, const struct lyap_run *run,
                                  uint32_t depth, int64_t *ret_step)
{
    struct lyap_query query = lyap_query_of(LYAP_TABLE_POINTS, run->name);
    struct lyap_cursor *cursor;
    struct lyap_record record;
    query.attempt = run->record.attempt;
    query.is_descending = true;
    query.limit = depth;
    *ret_step = 0;
    enum lyap_status status = engine->store->ops->query(engine->store, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK)
        *ret_step = record.key;
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

static enum lyap_status feed_some(struct lyap_feed *feed, uint32_t limit,
                                  struct lyap_alerts *alerts)
{
    if (limit == 0)
        return LYAP_OK;
    feed->limit = limit;
    const enum lyap_status status = lyap_feed_page(feed, on_look_back, alerts);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

/* A rule that looks back further than those before came into force: the points it needs are read
 * again, the first ones and the newest ones. The batch that brought it has been committed. */
enum lyap_status lyap_run_look_back(struct lyap_engine *engine, struct lyap_run *run)
{
    if (!lyap_alerts_needs_points(run->alert_state, &engine->rules))
        return LYAP_OK;
    const struct lyap_lookback_needs *needs = &engine->rules.needs;
    struct lyap_feed feed = {
        .store = engine->store, .run = run->name, .attempt = run->record.attempt, .after = -1
    };
    int64_t from = 0;
    enum lyap_status status = lyap_alerts_lookback_begin(run->alert_state, &engine->rules);
    if (status != LYAP_OK || run->record.last_step < 0)
        return status;
    status = feed_some(&feed, needs->first, run->alert_state);
    if (status == LYAP_OK && needs->depth)
        status = step_back(engine, run, needs->depth, &from);
    feed.after = from - 1 > feed.after ? from - 1 : feed.after;
    return status == LYAP_OK ? feed_some(&feed, needs->depth, run->alert_state) : status;
}
