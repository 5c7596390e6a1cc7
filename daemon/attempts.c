/* Opening an attempt: windows, detectors and predecessors start anew (docs/api.md). */
#include "engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "ranks.h"

/* Event of the new attempt; its key is the client's text. */
static enum lyap_status mark_attempt(struct lyap_engine *engine, struct lyap_run *run)
{
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    lyap_buffer_json_string(&text, run->attempt_record.key);
    char *key = lyap_buffer_detach(&text);
    const enum lyap_status status =
        key ? lyap_engine_event(engine, run, LYAP_EVENT_ATTEMPT, -1,
                                "{\"attempt\":%u,\"attempt_key\":%s}", run->record.attempt, key)
            : LYAP_E_NOMEM;
    free(key);
    return status;
}

/* The reference loss goes on: otherwise the progress already made would shrink the scale of every
 * detector (docs/detection.md). */
static void next_attempt(struct lyap_run *run, const char *key, int64_t now_ns)
{
    const double reference = lyap_profile_reference_loss(run->profile);
    run->inherited_loss = isnan(reference) ? run->inherited_loss : reference;
    const double healthy_lr = run->advice.is_back_due ? run->advice.healthy_lr : NAN;
    if (run->advice.is_back_due)
        run->record.rollbacks++;
    run->record.attempt++;
    run->record.last_step = -1;
    run->record.state = LYAP_STATE_WARMING_UP;
    run->record.verdict = LYAP_VERDICT_INSUFFICIENT;
    run->record.action = (struct lyap_action){ .kind = LYAP_ACTION_CONTINUE, .lr = NAN };
    run->record.updated_ns = now_ns;
    run->attempt_record = (struct lyap_attempt_record){ .run_id = run->record.id,
                                                        .attempt = run->record.attempt,
                                                        .started_ns = now_ns,
                                                        .first_step = -1,
                                                        .last_step = -1,
                                                        .reference_loss = run->inherited_loss,
                                                        .healthy_lr = healthy_lr };
    (void)snprintf(run->attempt_record.key, sizeof run->attempt_record.key, "%s", key ? key : "");
    run->is_attempt_stored = run->is_set_stored = false; /* rows of the new one */
    run->has_last = false;
    run->saved_step = -1;
    lyap_profile_free(run->ended_profile);
    run->ended_profile = run->profile;
    run->profile = NULL;
    run->is_replaying = false;
    lyap_shared_declaration_unref(run->profile_declaration);
    run->profile_declaration = NULL;
}

enum lyap_status lyap_attempt_open(struct lyap_engine *engine, struct lyap_run *run,
                                   const char *key)
{
    const struct lyap_alert_sink sink = lyap_engine_sink(engine);
    const int64_t now_ns = lyap_clock_utc_ns();
    struct lyap_alerts *alerts;
    enum lyap_status status = lyap_run_rebuild(engine, run);
    if (status == LYAP_OK)
        status = lyap_engine_touch(engine, run);
    if (status == LYAP_OK)
        status = lyap_alerts_resolve(run->alert_state, NULL, "attempt-ended", run->record.last_step,
                                     now_ns, &sink);
    run->attempt_record.ended_ns = now_ns;
    run->attempt_record.reference_loss =
        status == LYAP_OK ? lyap_profile_reference_loss(run->profile) : NAN;
    if (status == LYAP_OK)
        status = engine->store->ops->put_attempt(engine->store, &run->attempt_record);
    if (status == LYAP_OK)
        status = engine->store->ops->put_profile(engine->store, run->record.id, run->record.attempt,
                                                 -1, NULL, 0);
    if (status == LYAP_OK)
        status = lyap_alerts_new(&alerts);
    if (status != LYAP_OK)
        return status;
    lyap_alerts_free(run->alert_state);
    run->alert_state = alerts;
    lyap_ranks_finish_all(run, &engine->finished);
    /* Of a push in the same batch: no predecessor crosses attempts. */
    lyap_registry_lock(engine->registry);
    lyap_run_generation_drop(run);
    lyap_registry_unlock(engine->registry);
    next_attempt(run, key, now_ns);
    status = lyap_engine_touch(engine, run);
    return status == LYAP_OK ? mark_attempt(engine, run) : status;
}
