/* The daemon's alerts about itself: conditions that belong to no run, through the same rules,
 * silences and receivers. */
#include <math.h>
#include <string.h>

#include "engine.h"
#include "log.h"
#include "lyap/alloc.h"

enum { MINUTE = 60 };
static const int64_t second_ns = 1000000000;

struct lyap_own {
    struct lyap_alerts *alerts;
    bool is_changed;          /* in the open batch */
    bool is_stale;            /* the batch failed: to be read again */
    uint64_t refused[MINUTE]; /* in all, at the seconds of the last minute */
    int64_t last_second;      /* of CLOCK_MONOTONIC; 0: none yet */
};

/* ---- as stored ---- */

static enum lyap_status read_state(struct lyap_engine *engine, enum lyap_alert_state state,
                                   struct lyap_alerts *alerts)
{
    struct lyap_query query = lyap_query_of(LYAP_TABLE_ALERTS, NULL);
    struct lyap_cursor *cursor;
    struct lyap_record record;
    query.state = (int)state;
    query.limit = 0; /* open ones alone */
    enum lyap_status status = engine->store->ops->query(engine->store, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK) {
        if (record.u.alert.run[0])
            continue;
        status = lyap_alerts_restore(alerts, &record.u.alert);
        if (status != LYAP_OK)
            break;
    }
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND || status == LYAP_E_LIMIT ? LYAP_OK : status;
}

static enum lyap_status read_alerts(struct lyap_engine *engine)
{
    struct lyap_alerts *alerts = NULL;
    enum lyap_status status = lyap_alerts_new(&alerts);
    if (status == LYAP_OK)
        status = read_state(engine, LYAP_ALERT_PENDING, alerts);
    if (status == LYAP_OK)
        status = read_state(engine, LYAP_ALERT_FIRING, alerts);
    if (status == LYAP_OK)
        status = lyap_alerts_replay_begin(alerts, &engine->rules);
    if (status != LYAP_OK) {
        lyap_alerts_free(alerts);
        return status;
    }
    lyap_alerts_free(engine->own->alerts);
    engine->own->alerts = alerts;
    engine->own->is_stale = false;
    return LYAP_OK;
}

enum lyap_status lyap_own_load(struct lyap_engine *engine)
{
    engine->own = lyap_alloc_array(1, sizeof *engine->own);
    return engine->own ? read_alerts(engine) : LYAP_E_NOMEM;
}

void lyap_own_free(struct lyap_own *own)
{
    if (!own)
        return;
    lyap_alerts_free(own->alerts);
    lyap_free(own);
}

void lyap_own_settle(struct lyap_engine *engine, bool is_committed)
{
    engine->own->is_stale |= engine->own->is_changed && !is_committed;
    engine->own->is_changed = false;
}

struct lyap_alert *lyap_own_find(struct lyap_engine *engine, int64_t id)
{
    return lyap_alerts_find(engine->own->alerts, id);
}

/* ---- conditions ---- */

/* Pushes refused although nothing was wrong with them. */
static uint64_t refused_in_all(const struct lyap_counters *counters)
{
    static const enum lyap_status ours[] = { LYAP_E_QUEUE_FULL, LYAP_E_NOMEM, LYAP_E_DISK_FULL,
                                             LYAP_E_IO, LYAP_E_BUSY };
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        sum += atomic_load_explicit(&counters->refused[ours[i]], memory_order_relaxed);
    return sum;
}

static double refused_of_minute(struct lyap_own *own, const struct lyap_counters *counters,
                                int64_t now_ns)
{
    const uint64_t now = refused_in_all(counters);
    const int64_t second = now_ns / second_ns;
    /* Seconds since the last look had what is counted now, at most. */
    int64_t from = own->last_second ? own->last_second + 1 : second - MINUTE + 1;
    if (from < second - MINUTE + 1)
        from = second - MINUTE + 1;
    const uint64_t before = own->last_second ? own->refused[own->last_second % MINUTE] : now;
    for (; from <= second; from++)
        own->refused[from % MINUTE] = from == second ? now : before;
    own->last_second = second;
    return (double)(now - own->refused[(second + 1) % MINUTE]);
}

static void read_conditions(struct lyap_engine *engine, int64_t now_ns,
                            double ret_conditions[LYAP_CONDITION_COUNT])
{
    const struct lyap_outbox_state outbox = lyap_outbox_state(engine);
    pthread_mutex_lock(&engine->mutex);
    const double headroom = engine->disk_headroom;
    const uint64_t length = engine->settings->queue_length;
    pthread_mutex_unlock(&engine->mutex);
    for (int i = 0; i < LYAP_CONDITION_COUNT; i++)
        ret_conditions[i] = NAN;
    ret_conditions[LYAP_CONDITION_REFUSED_PUSHES] =
        refused_of_minute(engine->own, engine->counters, now_ns);
    ret_conditions[LYAP_CONDITION_QUEUE_FILL] =
        (double)lyap_queue_depth(engine->queue) / (double)length;
    ret_conditions[LYAP_CONDITION_DISK_HEADROOM] = headroom;
    ret_conditions[LYAP_CONDITION_DELIVERY_DELAY] =
        outbox.oldest_ns ? (double)(lyap_clock_utc_ns() - outbox.oldest_ns) / 1e9 : 0;
}

/* ---- the look ---- */

/* An alert that changes opens the batch: an idle daemon writes nothing. */
static enum lyap_status own_put(void *ctx, struct lyap_alert *alert)
{
    struct lyap_engine *engine = ctx;
    const struct lyap_alert_sink sink = lyap_engine_sink(engine);
    const enum lyap_status status = lyap_engine_begin(engine);
    engine->own->is_changed = true;
    return status == LYAP_OK ? sink.put(sink.ctx, alert) : status;
}

enum lyap_status lyap_own_look(struct lyap_engine *engine, int64_t now_ns)
{
    static const struct lyap_labels none = LYAP_LABELS_NULL;
    struct lyap_own *own = engine->own;
    double conditions[LYAP_CONDITION_COUNT];
    struct lyap_point point;
    enum lyap_status status = own->is_stale ? read_alerts(engine) : LYAP_OK;
    if (status != LYAP_OK)
        return status;
    read_conditions(engine, now_ns, conditions);
    lyap_point_init(&point);
    point.attempt = 0;
    point.step = -1;
    point.time_ns = lyap_clock_utc_ns();
    const struct lyap_alert_input input = { .run = "",
                                            .labels = &none,
                                            .point = &point,
                                            .points = UINT32_MAX,
                                            .silences = &engine->silences,
                                            .now_ns = point.time_ns,
                                            .conditions = conditions };
    const struct lyap_alert_watch watch = { .rules = &engine->rules,
                                            .silences = &engine->silences,
                                            .labels = &none,
                                            .now_ns = point.time_ns };
    const struct lyap_alert_sink sink = { .ctx = engine, .put = own_put };
    status = lyap_alerts_own(own->alerts, &engine->rules, &input, &sink);
    if (status == LYAP_OK && lyap_alerts_is_look_due(own->alerts, &engine->silences, point.time_ns))
        status = lyap_alerts_look(own->alerts, &watch, &sink);
    lyap_point_release(&point);
    return status;
}
