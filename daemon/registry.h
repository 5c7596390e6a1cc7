/* registry.h - the runs in memory, and what admission needs of each: attempt, last step, slots of
 * running uploads, predecessors, declaration.
 * THREADS: every field of struct lyap_run says whose it is. What the HTTP threads and the engine
 * share is guarded by the registry's one mutex (lyap_registry_lock); nothing is computed and no
 * storage is touched while it is held. */
#ifndef LYAP_REGISTRY_H
#define LYAP_REGISTRY_H

#include "alerts.h"
#include "lyap/advice.h"
#include "api.h"
#include "shared.h"

enum {
    LYAP_RUNS_IN_MEMORY_MAX = 10000, /* about 100 KiB each without tensors */
    LYAP_CLOSED_STEPS = 8,   /* steps closed without a rank that a late rank may ask about */
    LYAP_OPEN_STEPS_MAX = 4, /* steps that ranks may run ahead of the slowest one */
    LYAP_PLAN_PINS = LYAP_OPEN_STEPS_MAX + 1 /* and the one that is refused */
};

/* What one rank keeps. */
struct lyap_rank {
    struct lyap_shared_memory *memory; /* of the last committed finite snapshot, or NULL */
    struct lyap_shared_memory *ahead;  /* of a step that waits for other ranks, or NULL */
    int64_t upload_step;               /* being uploaded or answered; -1: none */
    struct api_ticket *uploading;      /* the newest of it; NULL: all were handed to the engine */
    uint32_t tickets;                  /* of this upload; more than one in NDJSON */
    struct lyap_memory *recycled;      /* buffers of an old generation, or NULL */
};

/* How far training has gone since a memory was left. A push counts its updates from the push before
 * it, which may have left none: a skipped one, a non-finite one. */
struct lyap_passed {
    int64_t step;    /* of the newest push since */
    int64_t updates; /* from the memory to that push */
    bool is_held;    /* that push said that its own update is skipped */
};

/* Updates from the memory to this snapshot. */
int64_t lyap_passed_updates(const struct lyap_passed *passed, const struct lyap_snapshot *snapshot);
/* The same after this snapshot, which left a memory or did not. */
struct lyap_passed lyap_passed_after(const struct lyap_passed *passed,
                                     const struct lyap_snapshot *snapshot, bool has_memory);

/* A step that was closed without some ranks. */
struct lyap_closed_step {
    int64_t step; /* -1: none */
    uint32_t world;
    uint8_t has_rank[LYAP_WORLD_MAX / 8];
};

/* What the ranks of one step measure of their weights. */
struct lyap_plan_pin {
    bool is_used;
    int64_t step;
    struct lyap_shared_plan *plan; /* NULL: the first one */
};

struct lyap_open_step; /* ranks.h */

struct lyap_run {
    /* Immutable. */
    char name[LYAP_RUN_NAME_BYTES_MAX + 1];
    uint64_t sketch_seed;

    /* Guarded by the registry's mutex. */
    struct lyap_run *next; /* in its bucket */
    uint32_t refs;
    bool is_deleted;
    uint32_t attempt;
    int64_t last_step; /* committed; -1: none */
    struct lyap_shared_declaration *declaration;
    bool is_set_learned; /* from a push that is not committed yet: another may replace it */
    enum lyap_retention retention; /* AUTO: not chosen yet */
    uint64_t charged_bytes;        /* of the budget of exact retention */
    struct lyap_rank *ranks;       /* rank_count of them */
    uint32_t rank_count;
    struct lyap_shared_plan *spectral; /* of the next uploads, or NULL */
    struct lyap_plan_pin pins[LYAP_PLAN_PINS];
    struct lyap_passed passed;       /* since the committed memories */
    struct lyap_closed_step *closed; /* LYAP_CLOSED_STEPS, or NULL */
    uint32_t closed_next;
    bool has_point;
    struct lyap_point point;   /* newest committed one; labels owned */
    struct lyap_alert *alerts; /* pending and firing ones; strings owned */
    uint32_t alert_count;
    int64_t active_ns; /* CLOCK_MONOTONIC of the last admission */
    bool is_ended;
    enum lyap_run_state state; /* as stored */

    /* The engine's. */
    struct lyap_run_record record; /* as stored, once the open batch is; id 0: not stored yet */
    char *declaration_json, *labels_json;
    struct lyap_attempt_record attempt_record;
    double inherited_loss; /* reference loss of the attempt before */
    int64_t committed_id;  /* 0: never committed */
    bool is_record_stored, is_attempt_stored, is_set_stored, is_set_committed;
    bool is_stale; /* a batch failed: record and alerts are read again first */
    struct lyap_labels labels;
    struct lyap_profile *profile;       /* NULL: to be rebuilt from the store */
    struct lyap_profile *ended_profile; /* of the attempt before: its vectors go on; or NULL */
    bool has_job;                       /* in the worker */
    bool is_replaying;                  /* the rebuilding is under way, up to replay_after */
    int64_t replay_after;
    struct lyap_shared_declaration *profile_declaration;
    struct lyap_alerts *alert_state;
    struct lyap_advice advice; /* of the attempt */
    uint32_t points;           /* of the attempt */
    struct lyap_open_step *open;
    uint32_t open_count;
    struct lyap_point last; /* newest of the open batch; labels owned */
    bool has_last;
    bool is_mismatch_marked; /* event optimizer-mismatch was written in this attempt */
    int64_t idle_ns;         /* since the last admission, as the last tick saw it */
    int64_t saved_step;      /* of the stored sketch windows; -1: none */
    uint32_t save_round;     /* of the engine, in which they were saved last; 0: none yet */
    /* of the open batch */
    struct lyap_run *touched_next;
    bool is_touched, is_new_point;
    struct lyap_shared_declaration *next_declaration; /* or NULL; published with the batch */
    bool is_next_set_learned;
    struct lyap_shared_memory **generation; /* by rank, generation_world of them */
    uint32_t generation_world;
    struct lyap_passed generation_passed; /* since the newest of them, committed or not */
};

struct lyap_registry;

LYAP_MUST_CHECK enum lyap_status lyap_registry_new(uint64_t retention_bytes_max,
                                                   struct lyap_registry **ret_registry);
/* Every ticket is gone by then. */
void lyap_registry_free(struct lyap_registry *registry);
void lyap_registry_lock(struct lyap_registry *registry);
void lyap_registry_unlock(struct lyap_registry *registry);
void lyap_registry_budget_set(struct lyap_registry *registry, uint64_t retention_bytes_max);

/* The functions below need the lock. */

/* Borrowed, or NULL. */
struct lyap_run *lyap_registry_find(struct lyap_registry *registry, const char *name);
/* Takes the run (whose refs become 1). E_BUSY: LYAP_RUNS_IN_MEMORY_MAX. */
LYAP_MUST_CHECK enum lyap_status lyap_registry_add(struct lyap_registry *registry,
                                                   struct lyap_run *take_run);
/* Takes it out of the table and drops the table's reference; tickets keep theirs. */
void lyap_registry_remove(struct lyap_registry *registry, struct lyap_run *run);
uint32_t lyap_registry_count(const struct lyap_registry *registry);
uint64_t lyap_registry_charged(const struct lyap_registry *registry);
/* Runs one after the other: NULL gives the first, the last gives NULL. */
struct lyap_run *lyap_registry_next(struct lyap_registry *registry, struct lyap_run *run);
/* Decides exact or sketch retention when it is not chosen yet, and charges the budget. Sketch, when
 * exact does not fit, also where it was asked for. */
void lyap_registry_choose_retention(struct lyap_registry *registry, struct lyap_run *run);
/* Buffers held are `bytes`: the charge grows to two generations of them. */
void lyap_registry_charge(struct lyap_registry *registry, struct lyap_run *run, uint64_t bytes);
/* E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_run_ranks_grow(struct lyap_run *run, uint32_t world);
/* Frees a predecessor or keeps its buffers for the rank's next upload. */
void lyap_rank_drop(struct lyap_rank *rank, struct lyap_shared_memory *shared);
/* Forgets the predecessors (a new attempt, an idle run). */
void lyap_run_forget(struct lyap_registry *registry, struct lyap_run *run);
/* The predecessors that the open batch would leave are not kept. */
void lyap_run_generation_drop(struct lyap_run *run);
void lyap_run_close_step(struct lyap_run *run, const struct lyap_closed_step *closed);

/* Without the lock. */

/* A run that is not in the table: attempt 1, nothing stored, a fresh sketch seed. E_NOMEM, E_IO
 * (no randomness). */
LYAP_MUST_CHECK enum lyap_status lyap_run_new(const char *name, struct lyap_run **ret_run);
struct lyap_run *lyap_run_ref(struct lyap_registry *registry, struct lyap_run *run);
void lyap_run_unref(struct lyap_registry *registry, struct lyap_run *run);
void lyap_run_free(struct lyap_run *run); /* in no table, without references; NULL: nothing */

#endif
