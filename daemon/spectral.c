/* Plans and jobs between uploads, engine and worker. */
#include "spectral.h"

#include <math.h>

#include "lyap/alloc.h"
#include "worker.h"

/* ---- plans ---- */

static struct lyap_plan_pin *pin_of(struct lyap_run *run, int64_t step)
{
    struct lyap_plan_pin *oldest = &run->pins[0];
    for (unsigned i = 0; i < LYAP_PLAN_PINS; i++) {
        if (run->pins[i].is_used && run->pins[i].step == step)
            return &run->pins[i];
        if (!run->pins[i].is_used || (oldest->is_used && run->pins[i].step < oldest->step))
            oldest = &run->pins[i];
    }
    lyap_shared_plan_unref(oldest->plan);
    *oldest = (struct lyap_plan_pin){ .is_used = true,
                                      .step = step,
                                      .plan = lyap_shared_plan_ref(run->spectral) };
    return oldest;
}

void lyap_spectral_choose(struct lyap_run *run, struct api_ticket *ticket)
{
    struct lyap_shared_plan *plan =
        ticket->snapshot.world > 1 ? pin_of(run, ticket->snapshot.step)->plan : run->spectral;
    ticket->spectral = lyap_shared_plan_ref(plan);
}

static uint64_t sums_bytes(const struct lyap_spectral_plan *plan)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < plan->count; i++)
        bytes += sizeof(double) * plan->items[i].cols *
                 (plan->items[i].block + LYAP_SPECTRAL_MARKS + (uint64_t)plan->items[i].has_sums);
    return bytes;
}

/* A snapshot that no window takes in. */
static bool is_event(const struct api_ticket *ticket)
{
    const struct lyap_snapshot *snapshot = &ticket->snapshot;
    bool is_bad = lyap_snapshot_has(snapshot, LYAP_META_LOSS) ? !isfinite(snapshot->loss) : false;
    static const enum lyap_reduce counts[] = { LYAP_REDUCE_PARAM_NONFINITE,
                                               LYAP_REDUCE_GRAD_NONFINITE };
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++)
        is_bad = is_bad || lyap_partial_total(&ticket->partial, counts[i]) > 0;
    return is_bad || snapshot->is_skipped;
}

/* The first plan of a run, or the one after the line before in the same body. */
static struct lyap_shared_plan *plan_anew(const struct api_ticket *ticket,
                                          const struct api_ticket *chain)
{
    struct lyap_spectral_plan *plan;
    const struct lyap_tensor_set *set = &ticket->declaration->declaration.set;
    const struct lyap_limits limits = lyap_engine_limits(ticket->engine);
    enum lyap_status status = LYAP_E_NOT_FOUND;
    if (chain && chain->spectral)
        status = lyap_spectral_plan_next(chain->spectral->plan,
                                         is_event(chain) ? NULL : &chain->partial, &plan);
    else if (!ticket->spectral && set->count > 0)
        status = lyap_spectral_plan_first(set, limits.spectral_every, &plan);
    return status == LYAP_OK ? lyap_shared_plan_new(plan) : NULL;
}

void lyap_spectral_prepare(struct api_ticket *ticket, const struct api_ticket *chain)
{
    struct lyap_shared_plan *anew = plan_anew(ticket, chain);
    if (anew) {
        lyap_shared_plan_unref(ticket->spectral);
        ticket->spectral = anew;
    }
    if (!ticket->spectral)
        return;
    const uint64_t bytes = sums_bytes(ticket->spectral->plan);
    if (lyap_queue_grow(ticket->engine->queue, bytes) == LYAP_OK) {
        ticket->reserved_bytes += bytes;
        return;
    }
    lyap_shared_plan_unref(ticket->spectral);
    ticket->spectral = NULL;
}

void lyap_spectral_publish(struct lyap_engine *engine, struct lyap_run *run)
{
    struct lyap_spectral_plan *plan;
    const struct lyap_limits limits = lyap_engine_limits(engine);
    if (!run->is_new_point || !run->profile || run->is_replaying ||
        lyap_profile_spectral_plan(run->profile, limits.spectral_every, &plan) != LYAP_OK)
        return; /* the old one serves on */
    struct lyap_shared_plan *shared = lyap_shared_plan_new(plan);
    if (!shared)
        return;
    lyap_registry_lock(engine->registry);
    lyap_shared_plan_unref(run->spectral);
    run->spectral = shared;
    for (unsigned i = 0; i < LYAP_PLAN_PINS; i++) {
        struct lyap_plan_pin *pin = &run->pins[i];
        if (!pin->is_used || pin->step > run->record.last_step)
            continue;
        lyap_shared_plan_unref(pin->plan);
        *pin = (struct lyap_plan_pin){ 0 };
    }
    lyap_registry_unlock(engine->registry);
}

/* ---- jobs ---- */

/* The kept tensors of the newest point, whole, or NULL. */
static struct lyap_shared_memory *newest_memory(struct lyap_engine *engine, struct lyap_run *run)
{
    struct lyap_shared_memory *memory = NULL;
    lyap_registry_lock(engine->registry);
    if (run->rank_count == 1 && run->ranks[0].memory &&
        run->ranks[0].memory->step == run->record.last_step && !run->is_deleted)
        memory = lyap_shared_memory_ref(run->ranks[0].memory);
    lyap_registry_unlock(engine->registry);
    return memory;
}

static void memory_drop(struct lyap_engine *engine, struct lyap_run *run,
                        struct lyap_shared_memory *memory)
{
    lyap_registry_lock(engine->registry);
    lyap_rank_drop(&run->ranks[0], memory);
    lyap_registry_unlock(engine->registry);
}

void lyap_spectral_offer(struct lyap_engine *engine, struct lyap_run *run)
{
    const struct lyap_limits limits = lyap_engine_limits(engine);
    struct lyap_spectral_job *job = NULL;
    struct lyap_layer_job *layers = NULL;
    if (!run->profile || run->is_replaying || run->has_job)
        return;
    struct lyap_shared_memory *memory = newest_memory(engine, run);
    if (!memory)
        return;
    struct lyap_worker_item *item = lyap_alloc_array(1, sizeof *item);
    enum lyap_status status = item ? LYAP_OK : LYAP_E_NOMEM;
    if (status == LYAP_OK)
        status = lyap_profile_spectral_job(run->profile, limits.spectral_every, &job);
    if (status == LYAP_OK)
        status = lyap_profile_layer_job(run->profile, limits.spectral_every, &layers);
    if (status != LYAP_OK || (!job && !layers)) {
        lyap_spectral_job_free(job);
        lyap_free(item);
        memory_drop(engine, run, memory);
        return;
    }
    *item = (struct lyap_worker_item){
        .run = lyap_run_ref(engine->registry, run),
        .attempt = run->record.attempt,
        .memory = memory,
        .job = job,
        .layers = layers,
        .declaration = lyap_shared_declaration_ref(run->profile_declaration),
    };
    run->has_job = lyap_worker_offer(engine->worker, item);
}

void lyap_spectral_settle(struct lyap_engine *engine)
{
    struct lyap_worker_item *item;
    while ((item = lyap_worker_take(engine->worker))) {
        struct lyap_run *run = item->run;
        run->has_job = false;
        const bool is_wanted =
            run->profile && !run->is_replaying && run->record.attempt == item->attempt;
        if (is_wanted && item->job)
            lyap_profile_spectral_result(run->profile, item->job);
        if (is_wanted && item->layers)
            lyap_profile_layer_result(run->profile, item->layers);
        lyap_worker_item_free(engine->registry, item);
    }
}
