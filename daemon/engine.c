/* The engine thread: batches of pushes and calls, one transaction each. */
#include "engine.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "log.h"
#include "lyap/alloc.h"
#include "ranks.h"

int64_t lyap_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t lyap_clock_utc_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

struct lyap_limits lyap_engine_limits(struct lyap_engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    const struct lyap_limits limits = engine->limits;
    pthread_mutex_unlock(&engine->mutex);
    return limits;
}

static struct lyap_limits limits_of(const struct lyap_settings *settings)
{
    return (struct lyap_limits){
        .batch_rows = (uint32_t)settings->batch_rows,
        .batch_ms = (uint32_t)settings->batch_ms,
        .rank_deadline_s = (uint32_t)settings->rank_deadline_s,
        .idle_evict_s = (uint32_t)settings->idle_evict_s,
        .rollbacks_max = (uint32_t)settings->rollbacks_max,
        .window_save_s = (uint32_t)settings->window_save_s,
        .prune_days = (uint32_t)settings->prune_days,
        .metrics_runs_max = (uint32_t)settings->metrics_runs_max,
        .spectral_every = (uint32_t)settings->spectral_every,
        .prune_bytes = settings->prune_bytes,
        .disk_reserve_bytes = settings->disk_reserve,
    };
}

static struct lyap_outbox_limits outbox_limits_of(const struct lyap_settings *settings)
{
    return (struct lyap_outbox_limits){
        .timeout_s = (int64_t)settings->delivery_timeout_s,
        .retry_s = (int64_t)settings->delivery_retry_s,
        .retry_max_s = (int64_t)settings->delivery_retry_max_s,
        .attempts_max = (int64_t)settings->delivery_attempts_max,
        .age_max_s = (int64_t)settings->delivery_age_max_s,
        .repeat_s = (int64_t)settings->alertmanager_repeat_s,
        .keep_days = (int64_t)settings->delivery_keep_days,
        .rows_max = (int64_t)settings->outbox_rows_max,
    };
}

/* ---- the open batch ---- */

enum lyap_status lyap_engine_begin(struct lyap_engine *engine)
{
    if (engine->is_batch_open)
        return LYAP_OK;
    const enum lyap_status status = engine->store->ops->begin(engine->store);
    engine->is_batch_open = status == LYAP_OK;
    return status;
}

enum lyap_status lyap_engine_touch(struct lyap_engine *engine, struct lyap_run *run)
{
    enum lyap_status status = lyap_engine_begin(engine);
    if (status == LYAP_OK)
        status = lyap_run_refresh(engine, run);
    if (status != LYAP_OK)
        return status;
    if (!run->is_touched) {
        run->is_touched = true;
        run->touched_next = engine->touched;
        engine->touched = lyap_run_ref(engine->registry, run);
    }
    if (!run->is_record_stored) {
        run->record.created_ns = run->record.updated_ns = lyap_clock_utc_ns();
        run->attempt_record.started_ns = run->record.created_ns;
        run->record.declaration_json = run->declaration_json;
        run->record.labels_json = run->labels_json;
        status = engine->store->ops->put_run(engine->store, &run->record);
        run->is_record_stored = status == LYAP_OK;
    }
    if (status == LYAP_OK && !run->is_attempt_stored) {
        run->attempt_record.run_id = run->record.id;
        status = engine->store->ops->put_attempt(engine->store, &run->attempt_record);
        run->is_attempt_stored = status == LYAP_OK;
    }
    return status;
}

static enum lyap_status sink_put(void *ctx, struct lyap_alert *alert)
{
    struct lyap_engine *engine = ctx;
    alert->updated_ns = lyap_clock_utc_ns();
    if (alert->is_turn && alert->state == LYAP_ALERT_FIRING)
        lyap_count(&engine->counters->alerts_fired);
    enum lyap_status status = engine->store->ops->put_alert(engine->store, alert);
    if (status == LYAP_OK)
        api_feed_stage_alert(engine->feed, alert);
    if (status == LYAP_OK)
        status = lyap_outbox_put(engine, alert);
    if (status != LYAP_OK || alert->severity == LYAP_SEVERITY_INFO ||
        alert->state == LYAP_ALERT_PENDING || !(alert->is_turn || alert->notice))
        return status;
    char summary[LYAP_LOG_LINE_BYTES / 2];
    lyap_log(alert->state == LYAP_ALERT_FIRING ? LYAP_LOG_WARNING : LYAP_LOG_INFO, "alert",
             "state=%s run=%s attempt=%u rule=%s severity=%s id=%lld group=%lld held=%s summary=%s",
             lyap_alert_state_name(alert->state), alert->run, alert->attempt, alert->rule,
             lyap_severity_name(alert->severity), (long long)alert->id, (long long)alert->group_id,
             lyap_held_name(alert->held), lyap_log_quote(alert->summary, summary, sizeof summary));
    return LYAP_OK;
}

struct lyap_alert_sink lyap_engine_sink(struct lyap_engine *engine)
{
    return (struct lyap_alert_sink){ .ctx = engine, .put = sink_put };
}

enum lyap_status lyap_engine_event(struct lyap_engine *engine, struct lyap_run *run,
                                   enum lyap_event_kind kind, int64_t step, const char *format, ...)
{
    char *detail;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&detail, format, arguments);
    va_end(arguments);
    if (length < 0)
        return LYAP_E_NOMEM;
    const struct lyap_event_record event = { .run_id = run->record.id,
                                             .step = step,
                                             .time_ns = lyap_clock_utc_ns(),
                                             .attempt = run->record.attempt,
                                             .kind = kind,
                                             .detail_json = detail };
    const enum lyap_status status = engine->store->ops->put_event(engine->store, &event);
    if (status == LYAP_OK)
        api_feed_stage_mark(engine->feed, run->name, &event);
    free(detail);
    return status;
}

/* ---- life cycle ---- */

static void *engine_main(void *arg)
{
    struct lyap_engine *engine = arg;
    for (;;) {
        struct lyap_job *job = (struct lyap_job *)lyap_queue_pop(
            engine->queue, engine->deferred ? 0 : engine->next_tick_ns);
        if (!job && lyap_queue_is_closed(engine->queue))
            break;
        if (job || engine->deferred)
            lyap_batch_run(engine, job);
        lyap_batch_tick(engine);
    }
    lyap_batch_refuse_deferred(engine);
    return NULL;
}

enum lyap_status lyap_engine_new(const struct lyap_settings *settings, struct lyap_store *store,
                                 struct lyap_counters *counters, struct lyap_engine **ret_engine,
                                 struct lyap_error *reterr)
{
    struct lyap_engine *engine = lyap_alloc_array(1, sizeof *engine);
    if (!engine)
        return LYAP_E_NOMEM;
    engine->store = store;
    engine->counters = counters;
    engine->settings = settings;
    engine->limits = limits_of(settings);
    engine->outbox_limits = outbox_limits_of(settings);
    engine->is_outbox_changed = true;
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_cond_init(&engine->call_done, NULL);
    engine->feed = api_feed_new(lyap_clock_utc_ns());
    enum lyap_status status = engine->feed
                                  ? lyap_registry_new(settings->retention_memory, &engine->registry)
                                  : LYAP_E_NOMEM;
    if (status == LYAP_OK)
        status =
            lyap_queue_new((uint32_t)settings->queue_length, settings->queue_bytes, &engine->queue);
    if (status == LYAP_OK)
        status = lyap_worker_new(engine->registry, counters, &engine->worker);
    if (status == LYAP_OK)
        status = lyap_rules_load(engine);
    if (status == LYAP_OK)
        status = lyap_outbox_load(engine);
    if (status == LYAP_OK)
        status = lyap_silences_load(engine);
    if (status == LYAP_OK)
        status = lyap_own_load(engine);
    if (status == LYAP_OK)
        status = lyap_runs_load_watched(engine);
    if (status == LYAP_OK)
        status = lyap_batch_commit(engine);
    if (status != LYAP_OK) {
        if (engine->is_batch_open)
            store->ops->rollback(store);
        lyap_engine_free(engine);
        return lyap_error_set(reterr, status, "rules and runs cannot be read: %s",
                              store->ops->error_text(store));
    }
    lyap_disk_check(engine);
    *ret_engine = engine;
    return LYAP_OK;
}

enum lyap_status lyap_engine_start(struct lyap_engine *engine)
{
    engine->next_tick_ns = lyap_clock_ns();
    if (lyap_worker_start(engine->worker) != LYAP_OK)
        return LYAP_E_NOMEM;
    if (pthread_create(&engine->thread, NULL, engine_main, engine) != 0) {
        lyap_worker_stop(engine->worker);
        return LYAP_E_NOMEM;
    }
    engine->is_started = true;
    return LYAP_OK;
}

void lyap_engine_stop(struct lyap_engine *engine)
{
    lyap_queue_close(engine->queue);
    if (!engine->is_started)
        return;
    lyap_worker_cancel(engine->worker);
    pthread_join(engine->thread, NULL);
    engine->is_started = false;
    lyap_worker_stop(engine->worker);
    lyap_batch_save(engine);
}

void lyap_engine_free(struct lyap_engine *engine)
{
    if (!engine)
        return;
    assert(!engine->is_started && !engine->touched && !engine->calls);
    lyap_worker_free(engine->worker);
    lyap_registry_free(engine->registry);
    lyap_queue_free(engine->queue);
    lyap_rules_release(&engine->rules);
    lyap_receivers_release(&engine->receivers);
    lyap_silences_release(&engine->silences);
    lyap_own_free(engine->own);
    lyap_free(engine->rows);
    api_feed_free(engine->feed);
    pthread_cond_destroy(&engine->call_done);
    pthread_mutex_destroy(&engine->mutex);
    lyap_free(engine);
}

void lyap_engine_deliverer_set(struct lyap_engine *engine, struct lyap_deliverer *deliverer)
{
    pthread_mutex_lock(&engine->mutex);
    engine->deliverer = deliverer;
    pthread_mutex_unlock(&engine->mutex);
}

bool lyap_engine_reload(struct lyap_engine *engine, struct lyap_settings *settings,
                        struct lyap_settings *fresh, enum lyap_setting *ret_ignored)
{
    pthread_mutex_lock(&engine->mutex);
    const bool is_ignored = lyap_settings_reload(settings, fresh, ret_ignored);
    engine->limits = limits_of(settings);
    engine->outbox_limits = outbox_limits_of(settings);
    const uint64_t budget = settings->retention_memory;
    pthread_mutex_unlock(&engine->mutex);
    lyap_registry_budget_set(engine->registry, budget);
    return is_ignored;
}

enum lyap_status lyap_engine_call(struct lyap_engine *engine,
                                  enum lyap_status (*run)(struct lyap_engine *engine, void *arg,
                                                          struct lyap_error *reterr),
                                  void *arg, struct lyap_error *reterr)
{
    struct lyap_call call = { .job.kind = LYAP_JOB_CALL, .run = run, .arg = arg };
    if (!lyap_queue_push(engine->queue, &call.job.item))
        return lyap_error_set(reterr, LYAP_E_STOPPING, "the daemon is shutting down");
    pthread_mutex_lock(&engine->mutex);
    while (!call.is_done)
        pthread_cond_wait(&engine->call_done, &engine->mutex);
    pthread_mutex_unlock(&engine->mutex);
    if (call.status != LYAP_OK)
        (void)lyap_error_set(reterr, call.status, "%s",
                             call.error.text[0] ? call.error.text : lyap_status_text(call.status));
    return call.status;
}
