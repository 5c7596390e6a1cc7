/* Queries: which statement answers, its parameters, and the cursor over its rows. */
#include "query.h"

#include <assert.h>

#include "lyap/alloc.h"
#include "writer.h"

static enum lyap_sql_id directed(enum lyap_sql_id ascending, const struct lyap_query *query)
{
    return query->is_descending ? (enum lyap_sql_id)(ascending + 1) : ascending;
}

static void open_statement(struct lyap_rows *rows, enum lyap_sql_id id)
{
    rows->bind = lyap_bind(&rows->reader->sql, id);
}

/* ?1 and ?2 of every paged statement. */
static void open_page(struct lyap_rows *rows, const struct lyap_query *query,
                      enum lyap_sql_id ascending)
{
    open_statement(rows, directed(ascending, query));
    lyap_bind_int(&rows->bind, lyap_query_after(query));
    lyap_bind_int(&rows->bind, lyap_query_limit(query));
}

/* One run is one step of the key, not a walk over all. */
static struct lyap_query of_one_run(const struct lyap_query *query, int64_t run_id)
{
    struct lyap_query one = *query;
    if (query->after < 0)
        one.after = query->is_descending ? run_id + 1 : run_id - 1;
    one.limit = 1;
    return one;
}

static void open_runs(struct lyap_rows *rows, const struct lyap_query *query,
                      const struct lyap_query_target *target)
{
    const struct lyap_query one = of_one_run(query, target->run_id);
    const char *state =
        query->state < 0 ? NULL : lyap_run_state_name((enum lyap_run_state)query->state);
    open_page(rows, query->run ? &one : query,
              query->label_key ? LYAP_SQL_LABEL_RUNS : LYAP_SQL_RUNS);
    lyap_bind_text(&rows->bind, state);
    lyap_bind_int(&rows->bind, target->run_id);
    if (query->label_key) {
        lyap_bind_copy(&rows->bind, query->label_key);
        lyap_bind_copy(&rows->bind, query->label_value);
    }
}

static void open_points(struct lyap_rows *rows, const struct lyap_query *query,
                        const struct lyap_query_target *target)
{
    open_page(rows, query, LYAP_SQL_POINTS);
    lyap_bind_int(&rows->bind, target->run_id);
    lyap_bind_int(&rows->bind, target->attempt);
    lyap_bind_int(&rows->bind, query->from_step);
    lyap_bind_int(&rows->bind, query->to_step);
}

/* Pages by rank: the sort key may repeat and changes with each point. */
static void open_tensors(struct lyap_rows *rows, const struct lyap_query *query,
                         const struct lyap_query_target *target)
{
    rows->rank = query->after + 1;
    open_statement(rows, LYAP_SQL_TENSORS);
    lyap_bind_int(&rows->bind, target->run_id);
    lyap_bind_int(&rows->bind, target->attempt);
    lyap_bind_int(&rows->bind, lyap_query_limit(query));
    lyap_bind_int(&rows->bind, rows->rank);
    lyap_bind_text(&rows->bind, lyap_tensor_metric_name(query->sort));
}

static void open_layers(struct lyap_rows *rows, const struct lyap_query *query,
                        const struct lyap_query_target *target)
{
    open_statement(rows, LYAP_SQL_LAYERS);
    lyap_bind_int(&rows->bind, query->after);
    lyap_bind_int(&rows->bind, lyap_query_limit(query));
    lyap_bind_int(&rows->bind, target->run_id);
    lyap_bind_int(&rows->bind, target->attempt);
}

static void open_attempts(struct lyap_rows *rows, const struct lyap_query *query,
                          const struct lyap_query_target *target)
{
    open_page(rows, query, LYAP_SQL_ATTEMPTS);
    lyap_bind_int(&rows->bind, target->run_id);
}

static void open_events(struct lyap_rows *rows, const struct lyap_query *query,
                        const struct lyap_query_target *target)
{
    open_page(rows, query, query->run ? LYAP_SQL_RUN_EVENTS : LYAP_SQL_EVENTS);
    lyap_bind_int(&rows->bind, target->run_id);
    lyap_bind_int(&rows->bind, query->attempt);
}

static void open_rules(struct lyap_rows *rows, const struct lyap_query *query,
                       const struct lyap_query_target *target)
{
    (void)target;
    open_page(rows, query, LYAP_SQL_RULES);
}

static void open_versions(struct lyap_rows *rows, const struct lyap_query *query,
                          const struct lyap_query_target *target)
{
    (void)target;
    open_page(rows, query, LYAP_SQL_RULE_VERSIONS);
    lyap_bind_copy(&rows->bind, query->rule);
}

static void open_silences(struct lyap_rows *rows, const struct lyap_query *query,
                          const struct lyap_query_target *target)
{
    (void)target;
    open_page(rows, query, LYAP_SQL_SILENCES);
    lyap_bind_int(&rows->bind, query->now_ns);
}

static void open_groups(struct lyap_rows *rows, const struct lyap_query *query,
                        const struct lyap_query_target *target)
{
    open_page(rows, query, LYAP_SQL_ALERT_GROUPS);
    lyap_bind_int(&rows->bind, target->run_id);
    lyap_bind_int(&rows->bind, query->now_ns);
}

static void open_tensor_points(struct lyap_rows *rows, const struct lyap_query *query,
                               const struct lyap_query_target *target)
{
    open_statement(rows, LYAP_SQL_TENSOR_POINTS);
    lyap_bind_int(&rows->bind, target->run_id);
    lyap_bind_int(&rows->bind, target->attempt);
    lyap_bind_int(&rows->bind, query->from_step);
    lyap_bind_int(&rows->bind, query->to_step);
}

/* The index that serves the narrowest filter. */
static enum lyap_sql_id alerts_statement(const struct lyap_query *query)
{
    if (query->run)
        return LYAP_SQL_RUN_ALERTS;
    if (query->since_ns > 0)
        return LYAP_SQL_CHANGED_ALERTS;
    return query->state >= 0 ? LYAP_SQL_STATE_ALERTS : LYAP_SQL_ALERTS;
}

static void open_alerts(struct lyap_rows *rows, const struct lyap_query *query,
                        const struct lyap_query_target *target)
{
    const char *state =
        query->state < 0 ? NULL : lyap_alert_state_name((enum lyap_alert_state)query->state);
    open_page(rows, query, alerts_statement(query));
    lyap_bind_text(&rows->bind, state);
    lyap_bind_text(&rows->bind, query->severity < 0
                                    ? NULL
                                    : lyap_severity_name((enum lyap_severity)query->severity));
    lyap_bind_copy(&rows->bind, query->rule);
    lyap_bind_int(&rows->bind, target->run_id);
    lyap_bind_int(&rows->bind, query->attempt);
    lyap_bind_int(&rows->bind, query->silenced);
    lyap_bind_int(&rows->bind, query->acked);
    lyap_bind_int(&rows->bind, query->since_ns);
    lyap_bind_int(&rows->bind, query->now_ns);
}

static void open_receivers(struct lyap_rows *rows, const struct lyap_query *query,
                           const struct lyap_query_target *target)
{
    (void)target;
    open_page(rows, query, LYAP_SQL_RECEIVERS);
}

static void open_due(struct lyap_rows *rows, const struct lyap_query *query)
{
    open_statement(rows, LYAP_SQL_DUE_DELIVERIES);
    lyap_bind_copy(&rows->bind, query->receiver);
    lyap_bind_int(&rows->bind, lyap_query_limit(query));
}

static void open_deliveries(struct lyap_rows *rows, const struct lyap_query *query,
                            const struct lyap_query_target *target)
{
    const char *state =
        query->state < 0 ? NULL : lyap_delivery_state_name((enum lyap_delivery_state)query->state);
    (void)target;
    if (query->is_due_first) {
        open_due(rows, query);
        return;
    }
    open_page(rows, query, query->alert ? LYAP_SQL_ALERT_DELIVERIES : LYAP_SQL_DELIVERIES);
    lyap_bind_text(&rows->bind, state);
    lyap_bind_copy(&rows->bind, query->receiver);
    lyap_bind_int(&rows->bind, query->alert);
}

static const struct {
    void (*open)(struct lyap_rows *rows, const struct lyap_query *query,
                 const struct lyap_query_target *target);
    bool is_run_bound;
} tables[] = {
    [LYAP_TABLE_RUNS] = { open_runs, false },
    [LYAP_TABLE_POINTS] = { open_points, true },
    [LYAP_TABLE_SERIES] = { NULL, true }, /* series.c: several statements */
    [LYAP_TABLE_TENSORS] = { open_tensors, true },
    [LYAP_TABLE_LAYERS] = { open_layers, true },
    [LYAP_TABLE_ATTEMPTS] = { open_attempts, true },
    [LYAP_TABLE_EVENTS] = { open_events, false },
    [LYAP_TABLE_RULES] = { open_rules, false },
    [LYAP_TABLE_ALERTS] = { open_alerts, false },
    [LYAP_TABLE_RECEIVERS] = { open_receivers, false },
    [LYAP_TABLE_DELIVERIES] = { open_deliveries, false },
    [LYAP_TABLE_RULE_VERSIONS] = { open_versions, false },
    [LYAP_TABLE_SILENCES] = { open_silences, false },
    [LYAP_TABLE_ALERT_GROUPS] = { open_groups, false },
    [LYAP_TABLE_TENSOR_POINTS] = { open_tensor_points, true },
};

static enum lyap_status find_target(struct lyap_rows *rows, const struct lyap_query *query,
                                    struct lyap_query_target *ret_target)
{
    *ret_target = (struct lyap_query_target){ .attempt = query->attempt };
    if (!query->run)
        return tables[query->table].is_run_bound ? LYAP_E_INVALID : LYAP_OK;
    struct lyap_bind bind = lyap_bind(&rows->reader->sql, LYAP_SQL_FIND_RUN);
    lyap_bind_text(&bind, query->run);
    const enum lyap_status status = lyap_sql_step(&bind, NULL);
    if (status != LYAP_OK)
        return status;
    struct lyap_row row = { .stmt = bind.stmt };
    ret_target->run_id = lyap_row_int(&row);
    if (query->attempt == 0)
        ret_target->attempt = (uint32_t)lyap_row_int(&row);
    lyap_sql_idle(&bind);
    return LYAP_OK;
}

static enum lyap_status rows_next(struct lyap_cursor *cursor, struct lyap_record *ret_record)
{
    struct lyap_rows *rows = (struct lyap_rows *)cursor;
    if (rows->is_done)
        return LYAP_E_NOT_FOUND;
    enum lyap_status status;
    if (rows->table == LYAP_TABLE_SERIES) {
        status = lyap_series_next(rows, ret_record);
    } else {
        status = lyap_sql_step(&rows->bind, NULL);
        if (status == LYAP_OK)
            lyap_decode(rows, ret_record);
        else
            rows->bind.stmt = NULL;
    }
    /* A text that could not be allocated reads as NULL: such a row is not handed out. */
    if (status == LYAP_OK && sqlite3_errcode(rows->reader->sql.db) == SQLITE_NOMEM)
        status = LYAP_E_NOMEM;
    rows->is_done = status != LYAP_OK; /* a finished statement would start again */
    return status;
}

static void rows_close(struct lyap_cursor *cursor)
{
    struct lyap_rows *rows = (struct lyap_rows *)cursor;
    if (!rows)
        return;
    if (rows->bind.stmt)
        lyap_sql_idle(&rows->bind);
    if (rows->reader)
        lyap_pool_give(rows->pool, rows->reader);
    lyap_free(rows->series);
    lyap_free(rows);
}

enum lyap_status lyap_writer_query(struct lyap_store *store, const struct lyap_query *query,
                                   struct lyap_cursor **ret_cursor)
{
    struct lyap_query_target target;
    struct lyap_rows *rows = lyap_alloc_array(1, sizeof *rows);
    if (!rows)
        return LYAP_E_NOMEM;
    rows->base = (struct lyap_cursor){ .next = rows_next, .close = rows_close };
    rows->pool = &lyap_writer_of(store)->pool;
    rows->table = query->table;
    rows->marks_id = -1;
    enum lyap_status status = lyap_pool_take(rows->pool, &rows->reader);
    if (status == LYAP_OK)
        status = find_target(rows, query, &target);
    if (status == LYAP_OK && query->table == LYAP_TABLE_SERIES)
        status = lyap_series_open(rows, query, &target);
    else if (status == LYAP_OK)
        tables[query->table].open(rows, query, &target);
    if (status == LYAP_OK && rows->bind.rc != SQLITE_OK)
        status = lyap_sql_status(rows->reader->sql.db, rows->bind.rc);
    if (status != LYAP_OK) {
        rows_close(&rows->base);
        return status;
    }
    *ret_cursor = &rows->base;
    return LYAP_OK;
}
