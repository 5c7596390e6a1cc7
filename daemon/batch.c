/* One transaction: what is queued is computed, committed, made visible, answered. */
#include "engine.h"

#include <assert.h>

#include "log.h"
#include "lyap/alloc.h"
#include "ranks.h"
#include "spectral.h"

enum { TICK_MS = 500 };

/* The batch that is being made. Tickets leave it when they are answered. */
struct batch {
    struct api_ticket *first, **end; /* first tickets of the submissions, linked by job.item */
    uint32_t rows;
};

static void batch_add(struct batch *batch, struct api_ticket *ticket)
{
    ticket->job.item.next = NULL;
    *batch->end = ticket;
    batch->end = (struct api_ticket **)&ticket->job.item.next;
}

/* A run that comes back from the store is rebuilt slice by slice, so that a long one does not hold
 * up the others. True: it is not done. *ret_status is only ever a fault. */
static bool is_replaying(struct lyap_run *run, struct lyap_engine *engine,
                         enum lyap_status *ret_status)
{
    bool is_done = true;
    if (run->is_deleted || (run->profile && !run->is_replaying && !run->is_stale))
        return false;
    const enum lyap_status status = lyap_run_rebuild_some(engine, run, &is_done);
    if (lyap_status_is_fault(status))
        *ret_status = status;
    return status == LYAP_OK && !is_done; /* a condition is the push's to answer */
}

static void defer(struct lyap_engine *engine, struct api_ticket *ticket)
{
    struct api_ticket **end = &engine->deferred;
    while (*end)
        end = (struct api_ticket **)&(*end)->job.item.next;
    *end = ticket;
}

static enum lyap_status batch_job(struct lyap_engine *engine, struct batch *batch,
                                  struct lyap_job *job)
{
    if (job->kind == LYAP_JOB_CALL) {
        struct lyap_call *call = (struct lyap_call *)job;
        call->next = engine->calls;
        engine->calls = call;
        call->status = call->run(engine, call->arg, &call->error);
        return lyap_status_is_fault(call->status) ? call->status : LYAP_OK;
    }
    struct api_ticket *first = (struct api_ticket *)job;
    enum lyap_status status = LYAP_OK;
    if (is_replaying(first->run, engine, &status)) {
        job->item.next = NULL;
        defer(engine, first);
        return LYAP_OK;
    }
    batch_add(batch, first);
    for (struct api_ticket *t = first; status == LYAP_OK && t; t = t->next) {
        status = lyap_push_run(engine, t);
        batch->rows++;
    }
    return status;
}

/* The rows of run and attempt, once per batch. */
/* The layers of the newest point: once a batch, the store keeps no older ones. */
static enum lyap_status store_layers(struct lyap_engine *engine, struct lyap_run *run)
{
    struct lyap_layer_batch batch = { .run_id = run->record.id, .attempt = run->record.attempt };
    if (!run->profile || run->is_replaying)
        return LYAP_OK;
    batch.rows = lyap_profile_layers(run->profile, &batch.count, &batch.step);
    batch.network = &run->profile_declaration->declaration.network;
    if (batch.count == 0 || batch.step != run->record.last_step ||
        batch.count != batch.network->count)
        return LYAP_OK;
    return engine->store->ops->put_layers(engine->store, &batch);
}

static enum lyap_status store_touched(struct lyap_engine *engine)
{
    enum lyap_status status = LYAP_OK;
    for (struct lyap_run *run = engine->touched; status == LYAP_OK && run;
         run = run->touched_next) {
        if (run->is_deleted)
            continue;
        if (run->profile && !run->is_replaying)
            run->attempt_record.reference_loss = lyap_profile_reference_loss(run->profile);
        run->record.declaration_json = run->declaration_json;
        run->record.labels_json = run->labels_json;
        status = engine->store->ops->put_run(engine->store, &run->record);
        if (status == LYAP_OK)
            status = engine->store->ops->put_attempt(engine->store, &run->attempt_record);
        if (status == LYAP_OK && run->is_new_point)
            status = store_layers(engine, run);
    }
    return status;
}

/* The predecessors of the next pushes; with the lock. */
static void publish_generation(struct lyap_engine *engine, struct lyap_run *run)
{
    for (uint32_t i = 0; i < run->generation_world; i++) {
        struct lyap_rank *rank = &run->ranks[i];
        if (run->generation[i])
            lyap_registry_charge(engine->registry, run,
                                 lyap_memory_bytes(run->generation[i]->memory) *
                                     run->generation_world);
        lyap_rank_drop(rank, rank->memory);
        rank->memory = run->generation[i];
    }
    run->passed = run->generation_passed;
    for (uint32_t i = 0; i < run->rank_count; i++) {
        struct lyap_rank *rank = &run->ranks[i];
        if (rank->ahead && rank->ahead->step <= run->record.last_step) {
            lyap_rank_drop(rank, rank->ahead);
            rank->ahead = NULL;
        }
    }
    lyap_free(run->generation);
    run->generation = NULL;
    run->generation_world = 0;
}

/* Makes the batch visible: what admission and readers see of the run. */
static void publish(struct lyap_engine *engine, struct lyap_run *run)
{
    struct lyap_alert *alerts = NULL;
    struct lyap_point point;
    uint32_t count = lyap_alerts_count(run->alert_state);
    if (lyap_alerts_copy(run->alert_state, &alerts) != LYAP_OK)
        count = 0; /* replies to duplicates are then without alerts */
    lyap_spectral_publish(engine, run);
    const bool has_copy = run->is_new_point && lyap_point_copy(&run->last, &point) == LYAP_OK;
    lyap_registry_lock(engine->registry);
    lyap_alert_list_free(run->alerts, run->alert_count);
    run->alerts = alerts;
    run->alert_count = count;
    if (run->attempt != run->record.attempt) {
        lyap_run_forget(engine->registry, run);
        run->retention = LYAP_RETENTION_AUTO; /* chosen anew, with what was declared since */
        lyap_free(run->closed);               /* steps of the attempt that ended */
        run->closed = NULL;
    }
    run->attempt = run->record.attempt;
    run->last_step = run->record.last_step;
    run->is_ended = run->record.state == LYAP_STATE_ENDED;
    run->state = run->record.state;
    if (run->is_new_point || !run->has_last) {
        lyap_point_release(&run->point);
        run->has_point = has_copy;
        if (has_copy)
            run->point = point;
    }
    if (run->next_declaration) {
        lyap_shared_declaration_unref(run->declaration);
        run->declaration = run->next_declaration;
        run->next_declaration = NULL;
        run->is_set_learned = run->is_next_set_learned;
    }
    if (run->is_new_point && run->is_set_stored)
        run->is_set_learned = false;
    publish_generation(engine, run);
    lyap_registry_unlock(engine->registry);
    run->committed_id = run->record.id;
    run->is_set_committed = run->is_set_stored;
    if (run->is_new_point)
        lyap_spectral_offer(engine, run);
    run->is_new_point = false;
}

static void forget_deleted(struct lyap_engine *engine, struct lyap_run *run)
{
    lyap_registry_lock(engine->registry);
    lyap_run_generation_drop(run);
    lyap_registry_remove(engine->registry, run);
    lyap_registry_unlock(engine->registry);
}

static void untouch_all(struct lyap_engine *engine, bool is_committed)
{
    while (engine->touched) {
        struct lyap_run *run = engine->touched;
        engine->touched = run->touched_next;
        run->touched_next = NULL;
        run->is_touched = false;
        if (!is_committed)
            lyap_run_rolled_back(engine, run);
        else if (run->is_deleted)
            forget_deleted(engine, run);
        else
            publish(engine, run);
        lyap_run_unref(engine->registry, run);
    }
}

enum lyap_status lyap_batch_commit(struct lyap_engine *engine)
{
    if (!engine->is_batch_open)
        return LYAP_OK;
    enum lyap_status status = store_touched(engine);
    const int64_t start_ns = lyap_clock_ns();
    if (status == LYAP_OK)
        status = engine->store->ops->commit(engine->store);
    if (status == LYAP_OK) {
        lyap_count(&engine->counters->batches);
        lyap_count_add(&engine->counters->commit_ns, (uint64_t)(lyap_clock_ns() - start_ns));
        engine->is_batch_open = false;
    }
    return status;
}

static void batch_rollback(struct lyap_engine *engine, enum lyap_status status)
{
    char text[LYAP_ERROR_TEXT_BYTES];
    lyap_count(&engine->counters->batch_failures);
    lyap_log(LYAP_LOG_ERROR, "commit-failed", "status=%s detail=%s", lyap_status_slug(status),
             lyap_log_quote(engine->store->ops->error_text(engine->store), text, sizeof text));
    if (engine->is_batch_open)
        engine->store->ops->rollback(engine->store);
    engine->is_batch_open = false;
    const enum lyap_status read = engine->are_rules_changed ? lyap_rules_load(engine) : LYAP_OK;
    if (read != LYAP_OK)
        lyap_log(LYAP_LOG_ERROR, "rules-not-read", "status=%s", lyap_status_slug(read));
    const enum lyap_status silences =
        engine->are_silences_changed ? lyap_silences_load(engine) : LYAP_OK;
    if (silences != LYAP_OK)
        lyap_log(LYAP_LOG_ERROR, "silences-not-read", "status=%s", lyap_status_slug(silences));
}

/* The waiting part becomes a predecessor for the rank's next step, which may come before this one
 * is complete. */
static void note_ahead(struct lyap_engine *engine, struct api_ticket *ticket)
{
    if (!ticket->memory)
        return;
    lyap_registry_lock(engine->registry);
    struct lyap_run *run = ticket->run;
    /* Complete, or of an attempt that ended, in the same batch. */
    if (ticket->snapshot.step <= run->last_step || ticket->attempt != run->attempt) {
        lyap_registry_unlock(engine->registry);
        return;
    }
    struct lyap_rank *rank = &run->ranks[ticket->snapshot.rank];
    struct lyap_shared_memory *old = rank->ahead;
    rank->ahead = lyap_shared_memory_ref(ticket->memory);
    lyap_rank_drop(rank, old);
    lyap_registry_unlock(engine->registry);
}

static void answer(struct lyap_engine *engine, struct api_ticket *ticket, api_push_done *done,
                   void *arg)
{
    struct api_push_reply *reply = ticket->reply;
    ticket->reply = NULL;
    if (reply->status != LYAP_OK)
        lyap_count(&engine->counters->refused[reply->status]);
    else if (reply->push == API_PUSH_WAITING)
        lyap_count(&engine->counters->pushes_waiting);
    else
        lyap_count(&engine->counters->pushes_accepted);
    const bool is_held = ticket->is_held;
    if (is_held) {
        note_ahead(engine, ticket);
        lyap_ticket_answered(ticket);
    } else {
        lyap_ticket_free(ticket);
    }
    done(arg, reply);
}

static void batch_answer(struct lyap_engine *engine, struct batch *batch, enum lyap_status status)
{
    const char *text = status == LYAP_E_DISK_FULL
                           ? "no space is left for the database; nothing acknowledged is lost"
                           : lyap_status_text(status);
    while (batch->first) {
        struct api_ticket *ticket = batch->first;
        batch->first = (struct api_ticket *)ticket->job.item.next;
        api_push_done *done = ticket->done;
        void *arg = ticket->done_arg;
        while (ticket) {
            struct api_ticket *next = ticket->next;
            ticket->next = NULL;
            if (status != LYAP_OK && !ticket->is_held)
                lyap_reply_fail(ticket->reply, status, text);
            answer(engine, ticket, done, arg);
            ticket = next;
        }
    }
    pthread_mutex_lock(&engine->mutex);
    while (engine->calls) {
        struct lyap_call *call = engine->calls;
        engine->calls = call->next;
        if (status != LYAP_OK && call->status == LYAP_OK)
            call->status = lyap_error_set(&call->error, status, "%s", text);
        call->is_done = true;
    }
    pthread_cond_broadcast(&engine->call_done);
    pthread_mutex_unlock(&engine->mutex);
}

/* A job of a batch that failed before its turn is answered with the rest. */
static enum lyap_status batch_join(struct lyap_engine *engine, struct batch *batch,
                                   struct lyap_job *job, enum lyap_status status)
{
    if (job->kind == LYAP_JOB_CALL) {
        struct lyap_call *call = (struct lyap_call *)job;
        call->next = engine->calls;
        engine->calls = call;
    } else {
        batch_add(batch, (struct api_ticket *)job);
    }
    return status;
}

/* What waited for its run, in the order in which it came. */
static enum lyap_status batch_deferred(struct lyap_engine *engine, struct batch *batch)
{
    struct api_ticket *ticket = engine->deferred;
    enum lyap_status status = LYAP_OK;
    engine->deferred = NULL;
    while (ticket) {
        struct api_ticket *next = (struct api_ticket *)ticket->job.item.next;
        if (status == LYAP_OK)
            status = batch_job(engine, batch, &ticket->job);
        else
            batch_add(batch, ticket);
        ticket = next;
    }
    return status;
}

/* Commits, or undoes what failed; then tells all that goes with a batch which it was. */
static enum lyap_status batch_close(struct lyap_engine *engine, enum lyap_status status)
{
    if (status == LYAP_OK)
        status = lyap_batch_commit(engine);
    if (status != LYAP_OK)
        batch_rollback(engine, status);
    lyap_outbox_settle(engine, status == LYAP_OK);
    api_feed_settle(engine->feed, status == LYAP_OK);
    lyap_own_settle(engine, status == LYAP_OK);
    untouch_all(engine, status == LYAP_OK);
    return status;
}

/* Takes what is queued, bounded by rows and time, commits and answers. */
void lyap_batch_run(struct lyap_engine *engine, struct lyap_job *job)
{
    const struct lyap_limits limits = lyap_engine_limits(engine);
    const int64_t end_ns = lyap_clock_ns() + (int64_t)limits.batch_ms * 1000000;
    struct batch batch = { .end = &batch.first };
    engine->are_rules_changed = engine->are_silences_changed = engine->is_batch_full = false;
    lyap_spectral_settle(engine);
    enum lyap_status status = batch_deferred(engine, &batch);
    while (job) {
        status = status == LYAP_OK ? batch_job(engine, &batch, job)
                                   : batch_join(engine, &batch, job, status);
        engine->is_batch_full |= batch.rows >= limits.batch_rows || lyap_clock_ns() >= end_ns;
        job = status == LYAP_OK && !engine->is_batch_full
                  ? (struct lyap_job *)lyap_queue_pop(engine->queue, 0)
                  : NULL;
    }
    status = batch_close(engine, status);
    batch_answer(engine, &batch, status);
    lyap_ranks_settle(&engine->finished, status == LYAP_OK);
}

void lyap_batch_refuse_deferred(struct lyap_engine *engine)
{
    struct batch batch = { .first = engine->deferred };
    engine->deferred = NULL;
    batch_answer(engine, &batch, LYAP_E_STOPPING);
}

void lyap_batch_tick(struct lyap_engine *engine)
{
    const int64_t now_ns = lyap_clock_ns();
    if (now_ns < engine->next_tick_ns)
        return;
    engine->next_tick_ns = now_ns + (int64_t)TICK_MS * 1000000;
    engine->are_rules_changed = engine->are_silences_changed = false;
    lyap_spectral_settle(engine);
    api_feed_beat(engine->feed, now_ns);
    enum lyap_status status = lyap_engine_tick(engine, now_ns);
    status = batch_close(engine, status);
    lyap_ranks_settle(&engine->finished, status == LYAP_OK);
}

/* Every changed run's sketch windows, in one last batch; parts of open steps are dropped, as their
 * 202 said. */
void lyap_batch_save(struct lyap_engine *engine)
{
    enum lyap_status status = LYAP_OK;
    struct lyap_run *run = NULL;
    while ((run = lyap_registry_next(engine->registry, run))) {
        lyap_ranks_finish_all(run, &engine->finished);
        if (status == LYAP_OK)
            status = lyap_run_save_windows(engine, run);
    }
    (void)batch_close(engine, status);
    lyap_ranks_settle(&engine->finished, true);
}
