/* What the API asks to change of alerts and silences, on the engine's thread. */
#include <stdio.h>

#include "engine.h"
#include "lyap/alloc.h"

static enum lyap_status find_alert(struct lyap_engine *engine, int64_t id,
                                   struct lyap_alert *ret_alert)
{
    struct lyap_query query = lyap_query_of(LYAP_TABLE_ALERTS, NULL);
    query.after = id - 1;
    query.limit = 1;
    struct lyap_cursor *cursor;
    struct lyap_record record;
    enum lyap_status status = engine->store->ops->query(engine->store, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    status = cursor->next(cursor, &record);
    if (status == LYAP_OK && record.u.alert.id != id)
        status = LYAP_E_NOT_FOUND;
    struct lyap_alert *copy = NULL;
    if (status == LYAP_OK)
        status = lyap_alert_list_copy(&record.u.alert, 1, &copy);
    if (status == LYAP_OK)
        *ret_alert = *copy;
    lyap_free(copy);
    cursor->close(cursor);
    return status;
}

static void acknowledge(struct lyap_alert *alert, const struct api_ack *ack, int64_t now_ns)
{
    if (!lyap_alert_is_acked(alert, now_ns))
        alert->acked_ns = now_ns;
    alert->ack_until_ns = ack->until_ns;
    (void)snprintf(alert->acked_by, sizeof alert->acked_by, "%s", ack->by);
    (void)snprintf(alert->ack_comment, sizeof alert->ack_comment, "%s", ack->comment);
    alert->updated_ns = now_ns;
}

enum lyap_status lyap_command_alert_ack(struct lyap_engine *engine, void *ack,
                                        struct lyap_error *reterr)
{
    struct lyap_alert alert;
    const int64_t alert_id = ((const struct api_ack *)ack)->id;
    const bool was_batch_open = engine->is_batch_open;
    enum lyap_status status = find_alert(engine, alert_id, &alert);
    if (status == LYAP_E_NOT_FOUND)
        return lyap_error_set(reterr, status, "there is no alert %lld", (long long)alert_id);
    if (status != LYAP_OK)
        return status;
    struct lyap_run *run = NULL;
    const int64_t now_ns = lyap_clock_utc_ns();
    if (alert.run[0])
        status = lyap_run_load(engine, alert.run, &run);
    if (status == LYAP_OK)
        status = run ? lyap_engine_touch(engine, run) : lyap_engine_begin(engine);
    /* An open alert may have changed in this very batch: the one in memory is stored. */
    struct lyap_alert *open = status != LYAP_OK ? NULL
                              : run             ? lyap_alerts_find(run->alert_state, alert_id)
                                                : lyap_own_find(engine, alert_id);
    /* Stored as open, gone from memory: this batch resolves it, and would be overwritten. */
    if (status == LYAP_OK && !open && was_batch_open && alert.state != LYAP_ALERT_RESOLVED)
        status = lyap_error_set(reterr, LYAP_E_BUSY, "alert %lld is being resolved",
                                (long long)alert_id);
    struct lyap_alert *acked = open ? open : &alert;
    acknowledge(acked, ack, now_ns);
    if (status == LYAP_OK)
        status = engine->store->ops->put_alert(engine->store, acked);
    if (status == LYAP_OK)
        api_feed_stage_alert(engine->feed, acked);
    lyap_free((char *)alert.tensor);
    lyap_free((char *)alert.summary);
    lyap_free((char *)alert.evidence_json);
    return status;
}

/* ---- silences ---- */

enum lyap_status lyap_run_look(struct lyap_engine *engine, struct lyap_run *run)
{
    const int64_t now_ns = lyap_clock_utc_ns();
    if (run->is_deleted || run->is_stale ||
        !lyap_alerts_is_look_due(run->alert_state, &engine->silences, now_ns))
        return LYAP_OK;
    const struct lyap_alert_watch watch = { .rules = &engine->rules,
                                            .silences = &engine->silences,
                                            .labels = &run->labels,
                                            .now_ns = now_ns };
    const struct lyap_alert_sink sink = lyap_engine_sink(engine);
    const enum lyap_status status = lyap_engine_touch(engine, run);
    return status == LYAP_OK ? lyap_alerts_look(run->alert_state, &watch, &sink) : status;
}

static enum lyap_status look_everywhere(struct lyap_engine *engine)
{
    enum lyap_status status = LYAP_OK;
    struct lyap_run *run = NULL;
    while (status == LYAP_OK && (run = lyap_registry_next(engine->registry, run)))
        status = lyap_run_look(engine, run);
    return status;
}

enum lyap_status lyap_command_silence_put(struct lyap_engine *engine, void *silence,
                                          struct lyap_error *reterr)
{
    struct lyap_silence *added = silence;
    lyap_silences_expire(&engine->silences, added->created_ns);
    enum lyap_status status = lyap_silence_check(added, reterr);
    if (status == LYAP_OK)
        status = lyap_engine_begin(engine);
    if (status != LYAP_OK)
        return status;
    engine->are_silences_changed = true;
    if (engine->silences.count == LYAP_SILENCE_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "%d silences are in force, the maximum",
                              LYAP_SILENCE_COUNT_MAX);
    status = engine->store->ops->put_silence(engine->store, added);
    if (status == LYAP_OK)
        status = lyap_silences_add(&engine->silences, added, reterr);
    return status == LYAP_OK ? look_everywhere(engine) : status;
}

enum lyap_status lyap_command_silence_delete(struct lyap_engine *engine, void *id,
                                             struct lyap_error *reterr)
{
    const int64_t now_ns = lyap_clock_utc_ns();
    struct lyap_silence over = { .id = *(const int64_t *)id, .until_ns = now_ns };
    lyap_silences_expire(&engine->silences, now_ns);
    enum lyap_status status = lyap_engine_begin(engine);
    if (status != LYAP_OK)
        return status;
    engine->are_silences_changed = true;
    if (!lyap_silences_remove(&engine->silences, over.id))
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "no silence %lld is in force",
                              (long long)over.id);
    status = engine->store->ops->put_silence(engine->store, &over);
    return status == LYAP_OK ? look_everywhere(engine) : status;
}
