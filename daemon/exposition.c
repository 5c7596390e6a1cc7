/* GET /metrics: counters, gauges, and the newest point of the most active runs. */
#include "engine.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"

/* What is shown of one run. */
struct shown {
    int64_t active_ns;
    char name[LYAP_RUN_NAME_BYTES_MAX + 1];
    double values[LYAP_METRIC_COUNT];
    bool has_value[LYAP_METRIC_COUNT];
    int64_t step;
    uint32_t firing;
    enum lyap_run_state state;
};

static int by_activity(const void *a, const void *b)
{
    const struct lyap_run *const *x = a, *const *y = b;
    return ((*x)->active_ns < (*y)->active_ns) - ((*x)->active_ns > (*y)->active_ns);
}

static uint32_t firing_count(const struct lyap_run *run)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < run->alert_count; i++)
        count += run->alerts[i].state == LYAP_ALERT_FIRING;
    return count;
}

static void show_run(const struct lyap_run *run, struct shown *shown)
{
    *shown = (struct shown){ .active_ns = run->active_ns,
                             .step = run->point.step,
                             .firing = firing_count(run),
                             .state = run->state };
    memcpy(shown->name, run->name, sizeof shown->name);
    for (unsigned m = 0; m < LYAP_METRIC_COUNT; m++) {
        shown->has_value[m] = run->point.metrics[m].reason == LYAP_REASON_NONE;
        shown->values[m] = run->point.metrics[m].value;
    }
}

/* Copies of the newest points; the lock is held for as long as they take to copy. */
static uint32_t show_runs(struct lyap_engine *engine, struct shown *shown, uint32_t count_max,
                          uint32_t *ret_firing)
{
    struct lyap_run *run = NULL;
    uint32_t count = 0, firing = 0;
    lyap_registry_lock(engine->registry);
    const uint32_t total = lyap_registry_count(engine->registry);
    struct lyap_run **runs = lyap_alloc_array(total, sizeof(struct lyap_run *));
    while ((run = lyap_registry_next(engine->registry, run))) {
        firing += firing_count(run);
        if (runs && run->has_point)
            runs[count++] = run;
    }
    if (count)
        qsort(runs, count, sizeof(struct lyap_run *), by_activity);
    if (count > count_max)
        count = count_max;
    for (uint32_t i = 0; i < count; i++)
        show_run(runs[i], &shown[i]);
    lyap_registry_unlock(engine->registry);
    lyap_free(runs);
    *ret_firing = firing;
    return count;
}

static void add_gauge(struct lyap_buffer *text, const char *name, const char *help, double value)
{
    lyap_buffer_add(text, "# HELP %s %s\n# TYPE %s gauge\n%s %.17g\n", name, help, name, name,
                    value);
}

/* Prometheus writes non-finite numbers in its own way. */
static void add_value(struct lyap_buffer *text, double value)
{
    if (isnan(value))
        lyap_buffer_add(text, "NaN\n");
    else if (isinf(value))
        lyap_buffer_add(text, value > 0 ? "+Inf\n" : "-Inf\n");
    else
        lyap_buffer_add(text, "%.17g\n", value);
}

static void add_runs(struct lyap_buffer *text, const struct shown *shown, uint32_t count)
{
    lyap_buffer_add(text, "# HELP lyapd_run_metric Newest point of the most active runs.\n"
                          "# TYPE lyapd_run_metric gauge\n");
    for (uint32_t i = 0; i < count; i++) {
        for (unsigned m = 0; m < LYAP_METRIC_COUNT; m++) {
            if (!shown[i].has_value[m])
                continue;
            lyap_buffer_add(text, "lyapd_run_metric{run=\"%s\",metric=\"%s\"} ", shown[i].name,
                            lyap_metric_info((enum lyap_metric)m)->name);
            add_value(text, shown[i].values[m]);
        }
    }
    lyap_buffer_add(text, "# HELP lyapd_run_step Step of that point.\n"
                          "# TYPE lyapd_run_step gauge\n");
    for (uint32_t i = 0; i < count; i++)
        lyap_buffer_add(text, "lyapd_run_step{run=\"%s\"} %" PRId64 "\n", shown[i].name,
                        shown[i].step);
    lyap_buffer_add(text, "# HELP lyapd_run_state State of the run: 1 for the one it is in.\n"
                          "# TYPE lyapd_run_state gauge\n");
    for (uint32_t i = 0; i < count; i++)
        for (int s = 0; s < LYAP_STATE_COUNT; s++)
            lyap_buffer_add(text, "lyapd_run_state{run=\"%s\",state=\"%s\"} %d\n", shown[i].name,
                            lyap_run_state_name((enum lyap_run_state)s),
                            shown[i].state == (enum lyap_run_state)s);
    lyap_buffer_add(text, "# HELP lyapd_run_alerts_firing Alerts of the run that fire.\n"
                          "# TYPE lyapd_run_alerts_firing gauge\n");
    for (uint32_t i = 0; i < count; i++)
        lyap_buffer_add(text, "lyapd_run_alerts_firing{run=\"%s\"} %u\n", shown[i].name,
                        shown[i].firing);
}

char *lyap_metrics_text(struct lyap_engine *engine)
{
    const struct lyap_limits limits = lyap_engine_limits(engine);
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    uint32_t firing = 0;
    struct shown *shown = lyap_alloc_array(limits.metrics_runs_max, sizeof *shown);
    if (!shown)
        return NULL;
    const uint32_t count = show_runs(engine, shown, limits.metrics_runs_max, &firing);
    lyap_registry_lock(engine->registry);
    const uint32_t runs = lyap_registry_count(engine->registry);
    const uint64_t charged = lyap_registry_charged(engine->registry);
    lyap_registry_unlock(engine->registry);
    lyap_counters_write(engine->counters, &text);
    add_gauge(&text, "lyapd_queue_depth", "Pushes between admission and answer.",
              lyap_queue_depth(engine->queue));
    add_gauge(&text, "lyapd_worker_depth", "Jobs that wait for the worker or run in it.",
              lyap_worker_depth(engine->worker));
    add_gauge(&text, "lyapd_runs", "Runs in memory.", runs);
    add_gauge(&text, "lyapd_retention_bytes", "Budget used by exact retention.", (double)charged);
    add_gauge(&text, "lyapd_alerts_firing", "Alerts that fire, of the runs in memory.", firing);
    add_gauge(&text, "lyapd_database_bytes", "Size of the database and its log.",
              (double)engine->store->ops->bytes(engine->store));
    const struct lyap_outbox_state outbox = lyap_outbox_state(engine);
    add_gauge(&text, "lyapd_deliveries_waiting", "Notifications that wait to be sent.",
              (double)outbox.waiting);
    add_gauge(&text, "lyapd_delivery_oldest_seconds", "Age of the oldest of them; 0 without one.",
              outbox.oldest_ns ? (double)(lyap_clock_utc_ns() - outbox.oldest_ns) / 1e9 : 0);
    const struct api_feed_counts feed = api_feed_count(engine->feed);
    add_gauge(&text, "lyapd_event_streams", "Open streams of GET /v1/events.", feed.readers);
    add_runs(&text, shown, count);
    lyap_free(shown);
    return lyap_buffer_detach(&text);
}
