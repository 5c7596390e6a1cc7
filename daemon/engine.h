/* engine.h - the one thread that owns run state and the writing connection. It takes complete
 * pushes from the queue, computes their points, evaluates the rules, appends everything in one
 * transaction per batch, and answers after the commit.
 * THREADS: new, start, stop, free, reload: main. submit, call and the ports: any. */
#ifndef LYAP_ENGINE_H
#define LYAP_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "counters.h"
#include "outbox.h"
#include "queue.h"
#include "receivers.h"
#include "registry.h"
#include "rules.h"
#include "settings.h"
#include "silences.h"
#include "store.h"
#include "ticket.h"
#include "worker.h"

/* Settings that SIGHUP may change, read by the engine and at admission. */
struct lyap_limits {
    uint32_t batch_rows, batch_ms;
    uint32_t rank_deadline_s, idle_evict_s, window_save_s, rollbacks_max;
    uint32_t prune_days, metrics_runs_max;
    uint32_t spectral_every;
    uint64_t prune_bytes, disk_reserve_bytes;
};

struct lyap_engine;
struct lyap_deliverer;

/* Reads the rules from the store, and writes the defaults that it lacks. The store stays the
 * caller's; the engine is its only writer. E_NOMEM, E_IO, E_DISK_FULL. */
LYAP_MUST_CHECK enum lyap_status lyap_engine_new(const struct lyap_settings *settings,
                                                 struct lyap_store *store,
                                                 struct lyap_counters *counters,
                                                 struct lyap_engine **ret_engine,
                                                 struct lyap_error *reterr);
/* E_NOMEM: no thread could be made. */
LYAP_MUST_CHECK enum lyap_status lyap_engine_start(struct lyap_engine *engine);
/* Closes the queue, computes and commits what is in it, saves the windows, ends the thread.
 * Afterwards every push and call is answered with E_STOPPING. */
void lyap_engine_stop(struct lyap_engine *engine);
void lyap_engine_free(struct lyap_engine *engine); /* NULL: nothing; after the API is gone */
/* `settings` (those of new) takes over what is reloadable in `fresh`; true: *ret_ignored is not. */
bool lyap_engine_reload(struct lyap_engine *engine, struct lyap_settings *settings,
                        struct lyap_settings *fresh, enum lyap_setting *ret_ignored);
/* Who is woken when something is in the outbox, and sends tests. */
void lyap_engine_deliverer_set(struct lyap_engine *engine, struct lyap_deliverer *deliverer);
/* Fills the ports of api.h; ctx is the engine. */
void lyap_ports_fill(struct lyap_engine *engine, struct api_ports *ret_ports);

/* ---- between the engine's files ---- */

/* Something that a thread asks of the engine and waits for; answered after the commit. */
struct lyap_call {
    struct lyap_job job; /* first */
    enum lyap_status (*run)(struct lyap_engine *engine, void *arg, struct lyap_error *reterr);
    void *arg;
    enum lyap_status status;
    struct lyap_error error;
    bool is_done;
    struct lyap_call *next; /* of the batch */
};
/* Waits for the engine. The callback's status, or E_STOPPING, or the commit's. */
LYAP_MUST_CHECK enum lyap_status lyap_engine_call(
    struct lyap_engine *engine,
    enum lyap_status (*run)(struct lyap_engine *engine, void *arg, struct lyap_error *reterr),
    void *arg, struct lyap_error *reterr);

struct lyap_engine {
    /* Immutable after new. */
    struct lyap_registry *registry;
    struct lyap_queue *queue;
    struct lyap_store *store;
    struct api_feed *feed; /* owned */
    struct lyap_counters *counters;
    struct lyap_worker *worker;
    const struct lyap_settings *settings; /* for config_json, under `mutex` */

    pthread_t thread;
    bool is_started;

    atomic_uint replay_count; /* under way, on threads of the API */

    pthread_mutex_t mutex; /* of the fields below, up to the engine's own */
    pthread_cond_t call_done;
    struct lyap_limits limits;
    struct lyap_outbox_limits outbox_limits;
    struct lyap_outbox_state outbox_state;
    struct lyap_deliverer *deliverer; /* or NULL; outlives the engine's thread */
    bool is_disk_low;
    double disk_headroom; /* free bytes / disk_reserve; NaN: not known */

    /* The engine thread's own. */
    struct lyap_rules rules;
    struct lyap_receivers receivers;
    struct lyap_silences silences;
    /* in the open batch */
    bool are_rules_changed, are_receivers_changed, are_silences_changed;
    struct lyap_own *own;   /* selfwatch_own.c */
    uint32_t outbox_added;  /* rows, in the open batch */
    bool is_outbox_changed; /* since it was counted */
    bool is_batch_open;
    bool is_batch_full;              /* what is queued belongs to the next one */
    struct lyap_run *touched;        /* list */
    struct lyap_call *calls;         /* of the batch, newest first */
    struct api_ticket *deferred;     /* submissions whose run is being replayed, oldest first */
    struct lyap_open_step *finished; /* steps of several ranks that are over with the batch */
    struct lyap_tensor_row *rows;    /* scratch */
    uint32_t row_capacity;
    int64_t next_tick_ns, next_save_ns, next_prune_ns;
    uint32_t save_round; /* of all runs, begun every window_save_s */
    bool is_round_over;  /* every run is saved */
    uint64_t tick_bytes; /* of windows saved in the present tick */
};

int64_t lyap_clock_ns(void);     /* CLOCK_MONOTONIC */
int64_t lyap_clock_utc_ns(void); /* CLOCK_REALTIME */
struct lyap_limits lyap_engine_limits(struct lyap_engine *engine);

/* engine.c. Opens the batch's transaction on the first write. */
LYAP_MUST_CHECK enum lyap_status lyap_engine_begin(struct lyap_engine *engine);
/* Puts the run into the batch: its rows (run, attempt, tensors) are there from now on, and are
 * brought up to date before the commit. */
LYAP_MUST_CHECK enum lyap_status lyap_engine_touch(struct lyap_engine *engine,
                                                   struct lyap_run *run);
struct lyap_alert_sink lyap_engine_sink(struct lyap_engine *engine);
/* `format` makes the JSON object of the event. */
LYAP_MUST_CHECK enum lyap_status lyap_engine_event(struct lyap_engine *engine, struct lyap_run *run,
                                                   enum lyap_event_kind kind, int64_t step,
                                                   const char *format, ...) LYAP_PRINTF(5, 6);

/* push.c. One push: its reply is filled in when it is refused by a condition; a fault is returned.
 */
LYAP_MUST_CHECK enum lyap_status lyap_push_run(struct lyap_engine *engine,
                                               struct api_ticket *ticket);
/* Faults void the whole batch: no memory, no disk. */
bool lyap_status_is_fault(enum lyap_status status);

/* batch.c. What was deferred and everything queued from `job` (may be NULL) on, bounded by rows and
 * time: one commit, then the answers. */
void lyap_batch_run(struct lyap_engine *engine, struct lyap_job *job);
/* Answers what is still deferred: the daemon stops. */
void lyap_batch_refuse_deferred(struct lyap_engine *engine);
/* The periodic work, when it is time. */
void lyap_batch_tick(struct lyap_engine *engine);
/* After the thread ended: every changed run's sketch windows. */
void lyap_batch_save(struct lyap_engine *engine);
LYAP_MUST_CHECK enum lyap_status lyap_batch_commit(struct lyap_engine *engine);

/* step.c. One complete snapshot -> point, rows, alerts, events of the open batch. `partial` is the
 * sum over its ranks. */
struct lyap_step {
    struct lyap_run *run;
    const struct lyap_snapshot *snapshot;
    struct lyap_shared_declaration *declaration;
    const struct lyap_partial *partial; /* or NULL: no tensors */
    enum lyap_reason missing;           /* NONE or RANK_MISSING */
    uint32_t missing_ranks;
};
LYAP_MUST_CHECK enum lyap_status lyap_step_complete(struct lyap_engine *engine,
                                                    const struct lyap_step *step);
/* Scratch rows for `count` tensors. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_engine_rows_grow(struct lyap_engine *engine, uint32_t count);
/* Closes an open step without the ranks that are missing: its scalars are kept. */
LYAP_MUST_CHECK enum lyap_status lyap_step_close_missing(struct lyap_engine *engine,
                                                         struct lyap_run *run,
                                                         struct lyap_open_step *open);
/* The answer to a push whose step is the newest of the batch. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_step_reply(struct lyap_run *run,
                                                 struct api_push_reply *reply);

/* load.c. The run of this name, from memory or the store; E_NOT_FOUND. */
LYAP_MUST_CHECK enum lyap_status lyap_run_load(struct lyap_engine *engine, const char *name,
                                               struct lyap_run **ret_run);
/* As above; a run that does not exist is made. Registered in the table, stored with its first
 * batch. */
LYAP_MUST_CHECK enum lyap_status lyap_run_load_or_new(struct lyap_engine *engine, const char *name,
                                                      struct lyap_run **ret_run, bool *ret_is_new);
/* Record, attempt and open alerts as stored, after a batch that failed. */
LYAP_MUST_CHECK enum lyap_status lyap_run_refresh(struct lyap_engine *engine, struct lyap_run *run);
/* As above, and the profile as the stored points make it, when it is not in memory. */
LYAP_MUST_CHECK enum lyap_status lyap_run_rebuild(struct lyap_engine *engine, struct lyap_run *run);
/* One bounded slice of that; *ret_is_done when it was the last. */
LYAP_MUST_CHECK enum lyap_status lyap_run_rebuild_some(struct lyap_engine *engine,
                                                       struct lyap_run *run, bool *ret_is_done);
/* The open batch is void: what it changed in memory is read back before the next step. */
void lyap_run_rolled_back(struct lyap_engine *engine, struct lyap_run *run);
/* load.c, for its neighbours. A query with every filter open. */
struct lyap_query lyap_query_of(enum lyap_table table, const char *run);
/* Every row, page by page, until `row` returns another status than OK. */
LYAP_MUST_CHECK enum lyap_status
lyap_query_each(struct lyap_engine *engine, struct lyap_query query,
                enum lyap_status (*row)(void *arg, const struct lyap_record *record), void *arg);

/* load_points.c. Stored points in step order, a page at a time. Any thread. */
struct lyap_feed {
    struct lyap_store *store;
    const char *run;
    uint32_t attempt;
    int64_t after;                     /* step of the last point fed; -1: none */
    uint32_t limit;                    /* points of a page, > 0 */
    const struct lyap_tensor_set *set; /* NULL: no rows of tensors */
    struct lyap_tensor_row *rows;      /* scratch for set->count of them */
};
/* `rows` NULL: none are stored at this step. */
typedef enum lyap_status lyap_feed_use(void *arg, const struct lyap_point *point,
                                       const struct lyap_tensor_row *rows);
/* E_NOT_FOUND: this was the last page; the status of `use`; faults. */
LYAP_MUST_CHECK enum lyap_status lyap_feed_page(struct lyap_feed *feed, lyap_feed_use *use,
                                                void *arg);
/* Reads the points that the rules in force look back at, when they are not kept. */
LYAP_MUST_CHECK enum lyap_status lyap_run_look_back(struct lyap_engine *engine,
                                                    struct lyap_run *run);

/* load_rules.c */
LYAP_MUST_CHECK enum lyap_status lyap_rules_load(struct lyap_engine *engine);
LYAP_MUST_CHECK enum lyap_status lyap_silences_load(struct lyap_engine *engine);
/* Runs that had not ended at the last stop, for the rule silent-run, and those with an alert that
 * somebody is still to be told of. */
LYAP_MUST_CHECK enum lyap_status lyap_runs_load_watched(struct lyap_engine *engine);
/* Sketch windows of a run into the open batch. */
LYAP_MUST_CHECK enum lyap_status lyap_run_save_windows(struct lyap_engine *engine,
                                                       struct lyap_run *run);
/* Stored point of a step; E_NOT_FOUND. Any thread. */
LYAP_MUST_CHECK enum lyap_status lyap_point_load(struct lyap_engine *engine, const char *run,
                                                 uint32_t attempt, int64_t step,
                                                 struct lyap_point *ret_point);

/* attempts.c */
LYAP_MUST_CHECK enum lyap_status lyap_attempt_open(struct lyap_engine *engine, struct lyap_run *run,
                                                   const char *key);

/* selfwatch.c. Silent runs, rank deadlines, saving, eviction, pruning, disk space; bounded work.
 * Status of a failed write. */
LYAP_MUST_CHECK enum lyap_status lyap_engine_tick(struct lyap_engine *engine, int64_t now_ns);
void lyap_disk_check(struct lyap_engine *engine);

/* selfwatch_own.c. Alerts of the daemon itself: as stored; one look at its conditions and silences;
 * after a batch, which may have failed. */
LYAP_MUST_CHECK enum lyap_status lyap_own_load(struct lyap_engine *engine);
LYAP_MUST_CHECK enum lyap_status lyap_own_look(struct lyap_engine *engine, int64_t now_ns);
void lyap_own_settle(struct lyap_engine *engine, bool is_committed);
/* The open one of this id, or NULL. */
struct lyap_alert *lyap_own_find(struct lyap_engine *engine, int64_t id);
void lyap_own_free(struct lyap_own *own); /* NULL: nothing */

/* actions.c. State, verdict and advice of a point under the alerts that fire. */
void lyap_action_decide(struct lyap_run *run, const struct lyap_rules *rules,
                        uint32_t rollbacks_max, struct lyap_point *point);

/* commands.c: the callbacks of the ports that write. */
struct lyap_put_run_args {
    const struct api_run_put *put;
    struct api_run_put_result result;
};
enum lyap_status lyap_command_run_put(struct lyap_engine *engine, void *put_run_args,
                                      struct lyap_error *reterr);
enum lyap_status lyap_command_run_delete(struct lyap_engine *engine, void *name,
                                         struct lyap_error *reterr);
struct lyap_put_rule_args {
    const struct lyap_rule *rule;
    bool is_created;
};
enum lyap_status lyap_command_rule_put(struct lyap_engine *engine, void *put_rule_args,
                                       struct lyap_error *reterr);
enum lyap_status lyap_command_rule_delete(struct lyap_engine *engine, void *name,
                                          struct lyap_error *reterr);
enum lyap_status lyap_command_pack_put(struct lyap_engine *engine, void *pack_put,
                                       struct lyap_error *reterr);
/* Into the open batch and into force; sets version and time. */
LYAP_MUST_CHECK enum lyap_status lyap_rule_store(struct lyap_engine *engine, struct lyap_rule *rule,
                                                 struct lyap_error *reterr);
enum lyap_status lyap_command_alert_ack(struct lyap_engine *engine, void *ack,
                                        struct lyap_error *reterr);
enum lyap_status lyap_command_silence_put(struct lyap_engine *engine, void *silence,
                                          struct lyap_error *reterr);
enum lyap_status lyap_command_silence_delete(struct lyap_engine *engine, void *id,
                                             struct lyap_error *reterr);
/* Tells of alerts of this run that a silence or a rate no longer holds back. */
LYAP_MUST_CHECK enum lyap_status lyap_run_look(struct lyap_engine *engine, struct lyap_run *run);

/* replay.c. A rule on stored points, on the caller's thread. */
enum lyap_status lyap_replay_run(struct lyap_engine *engine,
                                 const struct api_replay_request *request,
                                 struct api_replay *ret_replay, struct lyap_error *reterr);

/* exposition.c: GET /metrics; free(). */
char *lyap_metrics_text(struct lyap_engine *engine);

#endif
