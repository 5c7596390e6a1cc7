/* Runs in memory. */
#include "registry.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "lyap/alloc.h"
#include "ticket.h"

enum { BUCKET_COUNT = 1024 };

struct lyap_registry {
    pthread_mutex_t mutex;
    struct lyap_run *buckets[BUCKET_COUNT];
    uint32_t count;
    uint64_t retention_bytes_max, charged_bytes;
};

enum lyap_status lyap_registry_new(uint64_t retention_bytes_max,
                                   struct lyap_registry **ret_registry)
{
    struct lyap_registry *registry = lyap_alloc_array(1, sizeof *registry);
    if (!registry)
        return LYAP_E_NOMEM;
    pthread_mutex_init(&registry->mutex, NULL);
    registry->retention_bytes_max = retention_bytes_max;
    *ret_registry = registry;
    return LYAP_OK;
}

void lyap_registry_free(struct lyap_registry *registry)
{
    if (!registry)
        return;
    for (unsigned i = 0; i < BUCKET_COUNT; i++) {
        while (registry->buckets[i]) {
            struct lyap_run *run = registry->buckets[i];
            registry->buckets[i] = run->next;
            assert(run->refs == 1);
            lyap_run_free(run);
        }
    }
    pthread_mutex_destroy(&registry->mutex);
    lyap_free(registry);
}

void lyap_registry_lock(struct lyap_registry *registry)
{
    pthread_mutex_lock(&registry->mutex);
}

void lyap_registry_unlock(struct lyap_registry *registry)
{
    pthread_mutex_unlock(&registry->mutex);
}

void lyap_registry_budget_set(struct lyap_registry *registry, uint64_t retention_bytes_max)
{
    lyap_registry_lock(registry);
    registry->retention_bytes_max = retention_bytes_max;
    lyap_registry_unlock(registry);
}

/* FNV-1a, 64 bit. */
static unsigned bucket_of(const char *name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        hash = (hash ^ *c) * UINT64_C(0x100000001b3);
    return (unsigned)((hash ^ hash >> 32) % BUCKET_COUNT);
}

struct lyap_run *lyap_registry_find(struct lyap_registry *registry, const char *name)
{
    struct lyap_run *run = registry->buckets[bucket_of(name)];
    while (run && strcmp(run->name, name) != 0)
        run = run->next;
    return run;
}

enum lyap_status lyap_registry_add(struct lyap_registry *registry, struct lyap_run *take_run)
{
    assert(!lyap_registry_find(registry, take_run->name));
    if (registry->count >= LYAP_RUNS_IN_MEMORY_MAX)
        return LYAP_E_BUSY;
    struct lyap_run **bucket = &registry->buckets[bucket_of(take_run->name)];
    take_run->next = *bucket;
    *bucket = take_run;
    take_run->refs = 1;
    registry->count++;
    return LYAP_OK;
}

static void charge_drop(struct lyap_registry *registry, struct lyap_run *run)
{
    assert(registry->charged_bytes >= run->charged_bytes);
    registry->charged_bytes -= run->charged_bytes;
    run->charged_bytes = 0;
}

/* True when it was the last reference: the caller frees the run. */
static bool run_unref_locked(struct lyap_run *run)
{
    assert(run->refs > 0);
    return --run->refs == 0;
}

void lyap_registry_remove(struct lyap_registry *registry, struct lyap_run *run)
{
    struct lyap_run **link = &registry->buckets[bucket_of(run->name)];
    while (*link != run)
        link = &(*link)->next;
    *link = run->next;
    run->next = NULL;
    registry->count--;
    charge_drop(registry, run);
    if (run_unref_locked(run))
        lyap_run_free(run);
}

uint32_t lyap_registry_count(const struct lyap_registry *registry)
{
    return registry->count;
}

uint64_t lyap_registry_charged(const struct lyap_registry *registry)
{
    return registry->charged_bytes;
}

struct lyap_run *lyap_registry_next(struct lyap_registry *registry, struct lyap_run *run)
{
    if (run && run->next)
        return run->next;
    for (unsigned i = run ? bucket_of(run->name) + 1 : 0; i < BUCKET_COUNT; i++)
        if (registry->buckets[i])
            return registry->buckets[i];
    return NULL;
}

/* The dtype is not known yet: F32 is assumed, and lyap_registry_charge corrects it. */
static uint64_t exact_bytes(const struct lyap_run *run)
{
    const struct lyap_declaration *declaration = &run->declaration->declaration;
    double elements = 0;
    for (uint32_t i = 0; i < declaration->set.count; i++)
        elements += (double)declaration->set.tensors[i].count;
    if (elements * 4 >= 0x1p60) /* declared, beyond every budget */
        return UINT64_MAX;
    return lyap_memory_bytes_estimate(declaration, (uint64_t)elements * 4) +
           lyap_spectral_bytes(&declaration->set);
}

void lyap_registry_choose_retention(struct lyap_registry *registry, struct lyap_run *run)
{
    const enum lyap_retention wanted = run->declaration->declaration.retention;
    if (run->declaration->declaration.set.count == 0 || run->charged_bytes > 0 ||
        run->retention == LYAP_RETENTION_SKETCH)
        return;
    /* Asking for `exact` does not lift the operator's limit. A run that was exact and let go of its
     * predecessors has to fit again. */
    const uint64_t bytes = exact_bytes(run);
    const bool fits = registry->charged_bytes <= registry->retention_bytes_max &&
                      bytes <= registry->retention_bytes_max - registry->charged_bytes;
    run->retention =
        fits && wanted != LYAP_RETENTION_SKETCH ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH;
    if (run->retention == LYAP_RETENTION_EXACT) {
        run->charged_bytes = bytes;
        registry->charged_bytes += bytes;
    }
}

void lyap_registry_charge(struct lyap_registry *registry, struct lyap_run *run, uint64_t bytes)
{
    if (bytes * 2 <= run->charged_bytes)
        return;
    registry->charged_bytes += bytes * 2 - run->charged_bytes;
    run->charged_bytes = bytes * 2;
}

enum lyap_status lyap_run_ranks_grow(struct lyap_run *run, uint32_t world)
{
    if (world <= run->rank_count)
        return LYAP_OK;
    struct lyap_rank *ranks = lyap_alloc_array(world, sizeof *ranks);
    if (!ranks)
        return LYAP_E_NOMEM;
    if (run->rank_count)
        memcpy(ranks, run->ranks, run->rank_count * sizeof *ranks);
    for (uint32_t i = run->rank_count; i < world; i++)
        ranks[i].upload_step = -1;
    lyap_free(run->ranks);
    run->ranks = ranks;
    run->rank_count = world;
    return LYAP_OK;
}

void lyap_rank_drop(struct lyap_rank *rank, struct lyap_shared_memory *shared)
{
    struct lyap_memory *memory = lyap_shared_memory_unref(shared);
    if (!memory)
        return;
    if (!rank->recycled)
        rank->recycled = memory;
    else
        lyap_memory_free(memory);
}

static void rank_release(struct lyap_rank *rank)
{
    lyap_memory_free(lyap_shared_memory_unref(rank->memory));
    lyap_memory_free(lyap_shared_memory_unref(rank->ahead));
    lyap_memory_free(rank->recycled);
    rank->memory = rank->ahead = NULL;
    rank->recycled = NULL;
}

int64_t lyap_passed_updates(const struct lyap_passed *passed, const struct lyap_snapshot *snapshot)
{
    const int64_t newest = lyap_snapshot_has(snapshot, LYAP_META_UPDATES)
                               ? snapshot->updates
                               : snapshot->step - passed->step - passed->is_held;
    return newest < LYAP_STEP_MAX - passed->updates ? passed->updates + newest : LYAP_STEP_MAX;
}

struct lyap_passed lyap_passed_after(const struct lyap_passed *passed,
                                     const struct lyap_snapshot *snapshot, bool has_memory)
{
    return (struct lyap_passed){
        .step = snapshot->step,
        .updates = has_memory ? 0 : lyap_passed_updates(passed, snapshot),
        .is_held = snapshot->is_skipped,
    };
}

void lyap_run_forget(struct lyap_registry *registry, struct lyap_run *run)
{
    for (uint32_t i = 0; i < run->rank_count; i++)
        rank_release(&run->ranks[i]);
    charge_drop(registry, run);
}

void lyap_run_generation_drop(struct lyap_run *run)
{
    for (uint32_t i = 0; i < run->generation_world; i++)
        lyap_rank_drop(&run->ranks[i], run->generation[i]);
    lyap_free(run->generation);
    run->generation = NULL;
    run->generation_world = 0;
    run->generation_passed = run->passed;
}

void lyap_run_close_step(struct lyap_run *run, const struct lyap_closed_step *closed)
{
    if (!run->closed) {
        run->closed = lyap_alloc_array(LYAP_CLOSED_STEPS, sizeof *run->closed);
        if (!run->closed)
            return; /* a late rank is then told from the stored point alone */
        for (unsigned i = 0; i < LYAP_CLOSED_STEPS; i++)
            run->closed[i].step = -1;
    }
    run->closed[run->closed_next++ % LYAP_CLOSED_STEPS] = *closed;
}

enum lyap_status lyap_run_new(const char *name, struct lyap_run **ret_run)
{
    assert(lyap_run_name_is_valid(name));
    enum lyap_status status = LYAP_E_NOMEM;
    struct lyap_run *run = lyap_alloc_array(1, sizeof *run);
    if (!run)
        return status;
    (void)snprintf(run->name, sizeof run->name, "%s", name);
    (void)snprintf(run->record.name, sizeof run->record.name, "%s", name);
    run->attempt = run->record.attempt = run->attempt_record.attempt = 1;
    run->last_step = run->record.last_step = run->saved_step = -1;
    run->attempt_record.first_step = run->attempt_record.last_step = -1;
    run->attempt_record.reference_loss = run->inherited_loss = NAN;
    run->attempt_record.healthy_lr = NAN;
    run->record.action = (struct lyap_action){ .kind = LYAP_ACTION_CONTINUE, .lr = NAN };
    struct lyap_declaration declaration;
    lyap_declaration_init(&declaration);
    if (lyap_shared_declaration_new(&declaration, NULL, &run->declaration) != LYAP_OK)
        goto out;
    run->declaration_json = lyap_alloc_string("{}");
    run->labels_json = lyap_alloc_string("{}");
    if (!run->declaration_json || !run->labels_json ||
        lyap_alerts_new(&run->alert_state) != LYAP_OK)
        goto out;
    if (getrandom(&run->sketch_seed, sizeof run->sketch_seed, 0) != sizeof run->sketch_seed) {
        status = LYAP_E_IO;
        goto out;
    }
    run->sketch_seed >>= 1; /* SQLite's integers are signed */
    run->record.sketch_seed = run->sketch_seed;
    *ret_run = run;
    run = NULL;
    status = LYAP_OK;
out:
    lyap_declaration_release(&declaration);
    lyap_run_free(run);
    return status;
}

struct lyap_run *lyap_run_ref(struct lyap_registry *registry, struct lyap_run *run)
{
    lyap_registry_lock(registry);
    run->refs++;
    lyap_registry_unlock(registry);
    return run;
}

void lyap_run_unref(struct lyap_registry *registry, struct lyap_run *run)
{
    lyap_registry_lock(registry);
    const bool is_last = run_unref_locked(run);
    lyap_registry_unlock(registry);
    if (is_last)
        lyap_run_free(run);
}

void lyap_run_free(struct lyap_run *run)
{
    if (!run)
        return;
    assert(!run->is_touched);
    for (uint32_t i = 0; i < run->rank_count; i++)
        rank_release(&run->ranks[i]);
    lyap_free(run->ranks);
    lyap_free(run->closed);
    lyap_shared_declaration_unref(run->declaration);
    lyap_shared_declaration_unref(run->profile_declaration);
    lyap_shared_declaration_unref(run->next_declaration);
    lyap_profile_free(run->profile);
    lyap_profile_free(run->ended_profile);
    lyap_shared_plan_unref(run->spectral);
    for (unsigned i = 0; i < LYAP_PLAN_PINS; i++)
        lyap_shared_plan_unref(run->pins[i].plan);
    lyap_alerts_free(run->alert_state);
    lyap_alert_list_free(run->alerts, run->alert_count);
    lyap_labels_release(&run->labels);
    lyap_point_release(&run->point);
    lyap_point_release(&run->last);
    lyap_free(run->declaration_json);
    lyap_free(run->labels_json);
    assert(!run->open && !run->generation);
    lyap_free(run);
}
