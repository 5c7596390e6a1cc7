/* Admission of a push, when its header is known and its body is not. */
#include "ticket.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine.h"
#include "lyap/alloc.h"
#include "spectral.h"

enum {
    CHAIN_BYTES_MAX = 256 << 20, /* summaries of one NDJSON body: they wait for one commit */
    ROWS_TYPICAL = 48            /* rows that a full push with all roles computes */
};

/* Memory of a push's summary until its answer: rows per tensor, sketches per role, the ticket. */
static uint64_t summary_bytes(const struct lyap_tensor_set *pushed)
{
    if (pushed->count == 0)
        return sizeof(struct api_ticket);
    return sizeof(struct api_ticket) + (uint64_t)pushed->count * ROWS_TYPICAL * sizeof(double) +
           LYAP_SKETCH_COUNT * (uint64_t)LYAP_SKETCH_SIZE * sizeof(double);
}

struct find_args {
    const char *name;
    struct lyap_run *run;
};

/* On the engine's thread. The reference is the caller's. */
static enum lyap_status find_run(struct lyap_engine *engine, void *arg, struct lyap_error *reterr)
{
    struct find_args *args = arg;
    bool is_new;
    const enum lyap_status status = lyap_run_load_or_new(engine, args->name, &args->run, &is_new);
    if (status == LYAP_E_BUSY)
        return lyap_error_set(reterr, status, "%d runs are in memory, the maximum",
                              LYAP_RUNS_IN_MEMORY_MAX);
    if (status == LYAP_OK)
        (void)lyap_run_ref(engine->registry, args->run);
    return status;
}

/* A reference to the run, which is read from the store or made when it is not in memory. */
static enum lyap_status run_get(struct lyap_engine *engine, const char *name,
                                struct lyap_run **ret_run, struct lyap_error *reterr)
{
    lyap_registry_lock(engine->registry);
    struct lyap_run *run = lyap_registry_find(engine->registry, name);
    if (run)
        run->refs++;
    lyap_registry_unlock(engine->registry);
    struct find_args args = { .name = name, .run = run };
    if (!run) {
        const enum lyap_status status = lyap_engine_call(engine, find_run, &args, reterr);
        if (status != LYAP_OK)
            return status;
    }
    *ret_run = args.run;
    return LYAP_OK;
}

static enum lyap_status check_attempt(const struct lyap_run *run,
                                      const struct lyap_snapshot *snapshot,
                                      struct lyap_error *reterr)
{
    if (!lyap_snapshot_has(snapshot, LYAP_META_ATTEMPT) || snapshot->attempt == run->attempt)
        return LYAP_OK;
    return lyap_error_set(reterr, LYAP_E_STALE_ATTEMPT,
                          "attempt = %lld: the current attempt of %s is %u",
                          (long long)snapshot->attempt, run->name, run->attempt);
}

/* One rank may hold a part of the tensors, so that a subset is right where there are several. */
static enum lyap_status check_subset(const struct lyap_tensor_set *declared,
                                     const struct lyap_tensor_set *pushed,
                                     struct lyap_error *reterr)
{
    for (uint32_t i = 0; i < pushed->count; i++) {
        const struct lyap_tensor *tensor = &pushed->tensors[i];
        const int64_t at = lyap_tensor_set_find(declared, tensor->name, strlen(tensor->name));
        const struct lyap_tensor *known = at < 0 ? NULL : &declared->tensors[at];
        if (known && known->rank == tensor->rank &&
            memcmp(known->shape, tensor->shape, tensor->rank * sizeof *tensor->shape) == 0)
            continue;
        return lyap_error_set(reterr, LYAP_E_TENSOR_SET,
                              "tensor %.128s %s; where ranks hold different tensors, declare them "
                              "all with PUT /v1/runs/{run}",
                              tensor->name, known ? "has another shape" : "is not declared");
    }
    return LYAP_OK;
}

/* Learns the tensors from the first push, or compares them. */
static enum lyap_status check_tensors(struct lyap_run *run, const struct lyap_snapshot *snapshot,
                                      const struct lyap_tensor_set *pushed,
                                      struct lyap_error *reterr)
{
    const struct lyap_declaration *declared = &run->declaration->declaration;
    if (pushed->count == 0)
        return LYAP_OK;
    enum lyap_status status = LYAP_OK;
    if (declared->set.count > 0) {
        status = snapshot->world > 1 ? check_subset(&declared->set, pushed, reterr)
                                     : lyap_tensor_set_same(&declared->set, pushed, reterr);
        const bool is_free = run->is_set_learned && run->rank_count > 0 &&
                             run->ranks[0].tickets == 0 && snapshot->world == 1;
        if (status == LYAP_OK || !is_free)
            return status;
        if (reterr)
            reterr->status = LYAP_OK; /* the push that it was learned from broke off */
    }
    struct lyap_shared_declaration *learned;
    status = lyap_shared_declaration_new(declared, pushed, &learned);
    if (status != LYAP_OK)
        return status;
    lyap_shared_declaration_unref(run->declaration);
    run->declaration = learned;
    run->is_set_learned = true;
    return LYAP_OK;
}

/* The rank is free, or uploads the same step, which this one then replaces. */
static enum lyap_status check_upload(struct lyap_run *run, const struct lyap_snapshot *snapshot,
                                     const struct api_ticket *chain, struct lyap_error *reterr)
{
    struct lyap_rank *rank = &run->ranks[snapshot->rank];
    if (chain || rank->tickets == 0)
        return LYAP_OK;
    if (rank->tickets == 1 && rank->uploading && rank->upload_step == snapshot->step) {
        atomic_store(&rank->uploading->is_replaced, true);
        rank->uploading->has_upload = false;
        rank->uploading = NULL;
        rank->tickets = 0;
        rank->upload_step = -1;
        return LYAP_OK;
    }
    return lyap_error_set(reterr, LYAP_E_UPLOAD_BUSY,
                          "step %lld of rank %u is being uploaded; one upload per run and rank",
                          (long long)rank->upload_step, snapshot->rank);
}

/* What the kernels compare with: the line before in the same body, the part of a step that still
 * waits for other ranks, or the last committed snapshot. */
static void choose_previous(struct lyap_run *run, struct api_ticket *ticket,
                            struct api_ticket *chain)
{
    struct lyap_rank *rank = &run->ranks[ticket->snapshot.rank];
    struct lyap_shared_memory *previous = rank->memory;
    ticket->passed = run->passed;
    if (rank->ahead && rank->ahead->step < ticket->snapshot.step) {
        previous = rank->ahead;
        ticket->passed = (struct lyap_passed){ .step = previous->step };
    }
    if (chain) {
        previous = chain->memory ? chain->memory : chain->previous;
        ticket->passed = lyap_passed_after(&chain->passed, &chain->snapshot, chain->memory != NULL);
    }
    ticket->previous = lyap_shared_memory_ref(previous);
    ticket->previous_step = previous ? previous->step : -1;
    ticket->chain = chain;
}

/* Everything that needs the lock; the ticket has run, snapshot and engine. */
static enum lyap_status admit_locked(struct api_ticket *ticket,
                                     const struct lyap_tensor_set *pushed, struct api_ticket *chain,
                                     struct lyap_error *reterr)
{
    struct lyap_run *run = ticket->run;
    const struct lyap_snapshot *snapshot = &ticket->snapshot;
    if (run->is_deleted)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "run %s was deleted meanwhile", run->name);
    if (chain && atomic_load(&chain->is_replaced))
        return LYAP_E_REPLACED;
    enum lyap_status status = check_attempt(run, snapshot, reterr);
    if (status == LYAP_OK && snapshot->step <= run->last_step)
        return LYAP_E_STEP_ORDER; /* explained by the caller, who looks for a duplicate */
    if (status == LYAP_OK && chain && snapshot->step <= chain->snapshot.step)
        return lyap_error_set(reterr, LYAP_E_STEP_ORDER,
                              "step %lld follows step %lld in the same body",
                              (long long)snapshot->step, (long long)chain->snapshot.step);
    if (status == LYAP_OK)
        status = lyap_run_ranks_grow(run, snapshot->world);
    if (status == LYAP_OK)
        status = check_upload(run, snapshot, chain, reterr);
    if (status == LYAP_OK)
        status = check_tensors(run, snapshot, pushed, reterr);
    if (status != LYAP_OK)
        return status;
    lyap_registry_choose_retention(ticket->engine->registry, run);
    struct lyap_rank *rank = &run->ranks[snapshot->rank];
    rank->upload_step = snapshot->step;
    rank->uploading = ticket;
    rank->tickets++;
    ticket->has_upload = true;
    ticket->attempt = run->attempt;
    ticket->declaration = lyap_shared_declaration_ref(run->declaration);
    choose_previous(run, ticket, chain);
    if (pushed->count > 0)
        lyap_spectral_choose(run, ticket);
    run->active_ns = lyap_clock_ns();
    return LYAP_OK;
}

/* A place in the queue; the lines of one NDJSON body share one. */
static enum lyap_status reserve(struct api_ticket *ticket, const struct lyap_tensor_set *pushed,
                                const struct api_ticket *chain, struct lyap_error *reterr)
{
    const uint64_t bytes = summary_bytes(pushed);
    ticket->chain_bytes = (chain ? chain->chain_bytes : 0) + bytes;
    if (ticket->chain_bytes > CHAIN_BYTES_MAX)
        return lyap_error_set(
            reterr, LYAP_E_LIMIT,
            "the summaries of this body exceed %d MiB: send fewer lines a request",
            CHAIN_BYTES_MAX >> 20);
    struct lyap_queue *queue = ticket->engine->queue;
    const enum lyap_status status =
        chain ? lyap_queue_grow(queue, bytes) : lyap_queue_reserve(queue, bytes);
    if (status == LYAP_OK) {
        ticket->reserved_bytes = bytes;
        ticket->has_place = !chain;
    }
    return status;
}

/* Of the sender's clock. The lines of a body that comes slowly share the time at which it began. */
static double ahead_of(const struct lyap_snapshot *snapshot, const struct api_ticket *chain,
                       int64_t now_ns)
{
    const struct lyap_snapshot *before = chain ? &chain->snapshot : NULL;
    if (before && lyap_snapshot_has(before, LYAP_META_SENT) && before->sent_ns == snapshot->sent_ns)
        return before->ahead_s;
    return ((double)snapshot->sent_ns - (double)now_ns) / 1e9;
}

static enum lyap_status ticket_new(struct lyap_engine *engine, struct lyap_run *run,
                                   const struct lyap_snapshot *snapshot,
                                   const struct api_ticket *chain, struct api_ticket **ret_ticket)
{
    struct api_ticket *ticket = lyap_alloc_array(1, sizeof *ticket);
    if (!ticket)
        return LYAP_E_NOMEM;
    ticket->engine = engine;
    ticket->job.kind = LYAP_JOB_PUSH;
    ticket->reply = lyap_reply_new(run->name);
    lyap_snapshot_init(&ticket->snapshot);
    if (!ticket->reply || lyap_snapshot_dup(snapshot, &ticket->snapshot) != LYAP_OK) {
        if (ticket->reply)
            api_push_reply_free(ticket->reply);
        lyap_free(ticket);
        return LYAP_E_NOMEM;
    }
    const int64_t now_ns = lyap_clock_utc_ns();
    if (!lyap_snapshot_has(snapshot, LYAP_META_TIME))
        ticket->snapshot.time_ns = now_ns;
    if (lyap_snapshot_has(snapshot, LYAP_META_SENT))
        ticket->snapshot.ahead_s = ahead_of(snapshot, chain, now_ns);
    ticket->run = lyap_run_ref(engine->registry, run);
    *ret_ticket = ticket;
    return LYAP_OK;
}

static void fill_admission(struct api_ticket *ticket, const struct lyap_tensor_set *pushed,
                           const struct api_ticket *chain, struct api_admission *ret)
{
    struct lyap_run *run = ticket->run;
    lyap_registry_lock(ticket->engine->registry);
    const bool is_exact = run->retention == LYAP_RETENTION_EXACT;
    struct lyap_memory *recycled = NULL;
    if (is_exact && pushed->count > 0) {
        recycled = run->ranks[ticket->snapshot.rank].recycled;
        run->ranks[ticket->snapshot.rank].recycled = NULL;
    }
    lyap_registry_unlock(ticket->engine->registry);
    if (pushed->count > 0)
        lyap_spectral_prepare(ticket, chain);
    const struct lyap_passed none = { .step = ticket->snapshot.step - 1 };
    *ret = (struct api_admission){
        .ticket = ticket,
        .intake = {
            .declaration = &ticket->declaration->declaration,
            .snapshot = &ticket->snapshot,
            .previous = ticket->previous ? ticket->previous->memory : NULL,
            .updates = (uint64_t)lyap_passed_updates(ticket->previous ? &ticket->passed : &none,
                                                    &ticket->snapshot),
            .take_recycled = recycled,
            .sketch_seed = run->sketch_seed,
            .retention = is_exact ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH,
            .hold_bytes_max = LYAP_HOLD_BYTES_MAX,
            .spectral = ticket->spectral ? ticket->spectral->plan : NULL,
        },
    };
}

/* What is known of a rank's part in a step that is over. */
enum part { PART_UNKNOWN, PART_TAKEN, PART_MISSED };

static enum part part_of(const struct lyap_run *run, int64_t step, uint32_t rank)
{
    for (unsigned i = 0; run->closed && i < LYAP_CLOSED_STEPS; i++) {
        const struct lyap_closed_step *closed = &run->closed[i];
        if (closed->step != step)
            continue;
        return rank < closed->world && (closed->has_rank[rank / 8] >> rank % 8 & 1) ? PART_TAKEN
                                                                                    : PART_MISSED;
    }
    return PART_UNKNOWN;
}

static enum lyap_status step_order_error(const struct lyap_run *run, int64_t step,
                                         int64_t last_step, struct lyap_error *reterr)
{
    return lyap_error_set(
        reterr, LYAP_E_STEP_ORDER,
        "step %lld is not above %lld, the last of %s; after a restart or rollback "
        "PUT {\"attempt\":\"new\",\"attempt_key\":\"...\"} opens an attempt",
        (long long)step, (long long)last_step, run->name);
}

/* The step is not above the last one: a duplicate of a stored one, a part that comes too late, or
 * a mistake. */
static enum lyap_status explain_old_step(struct lyap_engine *engine, struct lyap_run *run,
                                         const struct lyap_snapshot *snapshot,
                                         struct api_push_reply **ret_duplicate,
                                         struct lyap_error *reterr)
{
    struct api_push_reply *reply = lyap_reply_new(run->name);
    if (!reply)
        return LYAP_E_NOMEM;
    lyap_registry_lock(engine->registry);
    const uint32_t attempt = run->attempt;
    const int64_t last_step = run->last_step;
    const enum part part = part_of(run, snapshot->step, snapshot->rank);
    enum lyap_status status = LYAP_E_NOT_FOUND;
    if (run->has_point && run->point.step == snapshot->step)
        status = lyap_point_copy(&run->point, &reply->point);
    if (run->alert_count &&
        lyap_alert_list_copy(run->alerts, run->alert_count, &reply->alerts) == LYAP_OK)
        reply->alert_count = run->alert_count;
    lyap_registry_unlock(engine->registry);
    if (status == LYAP_E_NOT_FOUND)
        status = lyap_point_load(engine, run->name, attempt, snapshot->step, &reply->point);
    const bool is_missing =
        reply->point.metrics[LYAP_METRIC_PARAM_NORM].reason == LYAP_REASON_RANK_MISSING;
    if (status == LYAP_E_NOT_FOUND)
        status = step_order_error(run, snapshot->step, last_step, reterr);
    else if (status == LYAP_OK && (part == PART_MISSED || (part == PART_UNKNOWN && is_missing)))
        status = lyap_error_set(reterr, LYAP_E_STEP_CLOSED, "step %lld was closed without rank %u",
                                (long long)snapshot->step, snapshot->rank);
    if (status != LYAP_OK) {
        api_push_reply_free(reply);
        return status;
    }
    reply->status = reply->error.status = LYAP_OK;
    reply->push = API_PUSH_DUPLICATE;
    *ret_duplicate = reply;
    return LYAP_E_DUPLICATE;
}

static enum lyap_status check_daemon(struct lyap_engine *engine, struct lyap_error *reterr)
{
    pthread_mutex_lock(&engine->mutex);
    const bool is_disk_low = engine->is_disk_low;
    pthread_mutex_unlock(&engine->mutex);
    if (is_disk_low)
        return lyap_error_set(reterr, LYAP_E_DISK_FULL,
                              "less space is free than disk_reserve demands; reads go on");
    if (lyap_queue_is_closed(engine->queue))
        return lyap_error_set(reterr, LYAP_E_STOPPING, "the daemon is shutting down");
    return LYAP_OK;
}

static enum lyap_status admit(struct lyap_engine *engine, const char *name,
                              const struct lyap_snapshot *snapshot,
                              const struct lyap_tensor_set *pushed, struct api_ticket *chain,
                              struct api_ticket **ret_ticket, struct api_push_reply **ret_duplicate,
                              struct lyap_error *reterr)
{
    struct lyap_run *run = NULL;
    struct api_ticket *ticket = NULL;
    enum lyap_status status = check_daemon(engine, reterr);
    if (status == LYAP_OK)
        status = run_get(engine, name, &run, reterr);
    if (status != LYAP_OK)
        return status;
    status = ticket_new(engine, run, snapshot, chain, &ticket);
    if (status != LYAP_OK)
        goto out;
    status = reserve(ticket, pushed, chain, reterr);
    if (status != LYAP_OK)
        goto out;
    lyap_registry_lock(engine->registry);
    status = admit_locked(ticket, pushed, chain, reterr);
    lyap_registry_unlock(engine->registry);
    if (status == LYAP_E_STEP_ORDER && (!reterr || reterr->status == LYAP_OK))
        status = explain_old_step(engine, run, snapshot, ret_duplicate, reterr);
    if (status == LYAP_OK) {
        *ret_ticket = ticket;
        ticket = NULL;
    }
out:
    lyap_ticket_free(ticket);
    lyap_run_unref(engine->registry, run);
    return status;
}

enum lyap_status lyap_push_admit(void *ctx, const char *run, const struct lyap_snapshot *snapshot,
                                 const struct lyap_tensor_set *pushed, struct api_ticket *chain,
                                 struct api_admission *ret_admission,
                                 struct api_push_reply **ret_duplicate, struct lyap_error *reterr)
{
    struct lyap_engine *engine = ctx;
    struct api_ticket *ticket = NULL;
    struct lyap_error error = LYAP_ERROR_NULL;
    const enum lyap_status status =
        admit(engine, run, snapshot, pushed, chain, &ticket, ret_duplicate, &error);
    if (status == LYAP_OK)
        fill_admission(ticket, pushed, chain, ret_admission);
    else if (status == LYAP_E_DUPLICATE)
        lyap_count(&engine->counters->pushes_duplicate);
    else
        lyap_count(&engine->counters->refused[status]);
    if (status != LYAP_OK)
        (void)lyap_error_set(reterr, status, "%s", lyap_error_text(&error));
    return status;
}
