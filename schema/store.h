/* store.h - the storage interface: a struct of functions, so that another database can follow.
 * One writer (the engine thread) owns `struct lyap_store`'s write functions; any thread may read
 * through query(), which uses read-only connections of its own pool. What commit() answered OK
 * survives kill -9 and power loss. THREADS: write functions: the engine only. query, is_writable:
 * any thread. */
#ifndef LYAP_STORE_H
#define LYAP_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/network.h"
#include "lyap/record.h"

struct lyap_store;

struct lyap_store_options {
    const char *path;
    bool is_network_forced;   /* accept a database on a network file system */
    uint32_t reader_count;    /* read-only connections, >= 1 */
    uint32_t busy_timeout_ms; /* for people's own sqlite3 sessions on the file */
};

struct lyap_layer_batch {
    int64_t run_id;
    uint32_t attempt, count;
    int64_t step;
    const struct lyap_network *network; /* names and kinds of the rows' layers */
    const struct lyap_layer_row *rows;
};

/* Write functions append to the open batch. After any failure roll back: nothing of the batch is
 * stored. E_IO, E_DISK_FULL, E_NOMEM are faults, forwarded. Strings are copied. */
struct lyap_store_ops {
    void (*close)(struct lyap_store *store);
    enum lyap_status (*begin)(struct lyap_store *store);
    enum lyap_status (*commit)(struct lyap_store *store);
    void (*rollback)(struct lyap_store *store);

    /* id 0: inserted and set; else updated. The name is unique: E_EXISTS. */
    enum lyap_status (*put_run)(struct lyap_store *store, struct lyap_run_record *run);
    /* Gone for every reader with the commit, the name is free; its rows go with prune. */
    enum lyap_status (*delete_run)(struct lyap_store *store, int64_t run_id);
    enum lyap_status (*put_attempt)(struct lyap_store *store,
                                    const struct lyap_attempt_record *attempt);
    /* Tensor names and shapes of an attempt, once (else E_CONFLICT); rows of put_point refer to
     * their index. */
    enum lyap_status (*put_tensors)(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                    const struct lyap_tensor_set *set);
    /* One wide row, its roll-ups, and `row_count` tensor rows (0: none this step). E_STEP_ORDER;
     * E_NOT_FOUND: put_attempt comes first. */
    enum lyap_status (*put_point)(struct lyap_store *store, int64_t run_id,
                                  const struct lyap_point *point,
                                  const struct lyap_tensor_row *rows, uint32_t row_count);
    /* The newest numbers of every declared layer, in place of those of the attempt before.
     * E_NOT_FOUND: put_attempt comes first. */
    enum lyap_status (*put_layers)(struct lyap_store *store, const struct lyap_layer_batch *batch);
    enum lyap_status (*put_event)(struct lyap_store *store, const struct lyap_event_record *event);
    /* Adds or replaces by name, as the version after the newest that the name ever had; sets it. */
    enum lyap_status (*put_rule)(struct lyap_store *store, struct lyap_rule *rule);
    /* Its versions stay, and one more that says it went at now_ns. E_NOT_FOUND. */
    enum lyap_status (*delete_rule)(struct lyap_store *store, const char *name, int64_t now_ns);
    /* id 0: inserted and set; else its until_ns is updated. E_NOT_FOUND. */
    enum lyap_status (*put_silence)(struct lyap_store *store, struct lyap_silence *silence);
    enum lyap_status (*put_alert)(struct lyap_store *store,
                                  struct lyap_alert *alert); /* id as put_run; run_id 0: none;
                                                               group_id 0 becomes the id */
    enum lyap_status (*put_receiver)(struct lyap_store *store,
                                     const struct lyap_receiver *receiver);
    enum lyap_status (*delete_receiver)(struct lyap_store *store, const char *name);
    /* Into the outbox; once per alert, receiver and kind: again it is OK and nothing
     * happens. *ret_id 0 then. E_NOT_FOUND: the alert. */
    enum lyap_status (*put_delivery)(struct lyap_store *store, const struct lyap_delivery *delivery,
                                     int64_t *ret_id);
    /* The group of alerts is over: for each of them a delivery of kind RESOLVED to every receiver
     * that has one of kind FIRING, whose members `labels` and `since` its payload takes over: by
     * them Alertmanager knows the alert. What repeats is done. *ret_count of them. Payload NULL:
     * nobody is told. */
    enum lyap_status (*resolve_deliveries)(struct lyap_store *store, int64_t group_id,
                                           const char *payload_json, int64_t now_ns,
                                           uint32_t *ret_count);
    /* State, attempts, next_ns, delivered_ns and error after an attempt; REPEATING becomes
     * DELIVERED when no alert of its group fires any more. E_NOT_FOUND: it is gone. */
    enum lyap_status (*update_delivery)(struct lyap_store *store,
                                        const struct lyap_delivery *delivery);
    /* What waits for a receiver that is no more fails with `error`. */
    enum lyap_status (*fail_deliveries)(struct lyap_store *store, const char *receiver,
                                        const char *error);
    /* Those that are finished, older than this, and not of an open alert; a bounded number. */
    enum lyap_status (*prune_deliveries)(struct lyap_store *store, int64_t before_ns);
    /* Rows that wait, and the time of the oldest of them (0: none); the open batch included. */
    enum lyap_status (*count_deliveries)(struct lyap_store *store, uint64_t *ret_waiting,
                                         int64_t *ret_oldest_ns);
    /* Sketch windows of a profile; NULL deletes. */
    enum lyap_status (*put_profile)(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                    int64_t step, const void *bytes, uint64_t length);
    enum lyap_status (*get_profile)(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                    int64_t *ret_step, void **ret_bytes, uint64_t *ret_length);
    /* Declared tensors of an attempt; an empty set when none. Caller releases. */
    enum lyap_status (*get_tensors)(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                    struct lyap_tensor_set *ret_set);
    /* In an open batch. Removes rows of deleted runs; points older than a time (0: none); the
     * oldest until the file is below a size (0: any). Bounded work per call, *ret_more when there
     * is more to do. Runs, alerts, events and roll-ups stay. */
    enum lyap_status (*prune)(struct lyap_store *store, int64_t before_ns, uint64_t bytes_max,
                              bool *ret_more);

    /* Any thread; sees what is committed. E_NOT_FOUND: the run of a run-bound table does not exist;
     * E_BUSY: every reader is taken. */
    enum lyap_status (*query)(struct lyap_store *store, const struct lyap_query *query,
                              struct lyap_cursor **ret_cursor);
    bool (*is_writable)(struct lyap_store *store); /* readiness: the last commit did not fail */
    uint64_t (*bytes)(struct lyap_store *store);   /* size of the database and its WAL */
    /* Last error of the writer, for the log. */
    const char *(*error_text)(struct lyap_store *store);
};

struct lyap_store {
    const struct lyap_store_ops *ops;
};

/* Opens or creates and migrates. E_NEWER (refused, untouched), E_CONFLICT (network file system),
 * E_BUSY (another lyapd writes it), E_FORMAT (not a database of lyapd), E_IO, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_store_sqlite_open(const struct lyap_store_options *options,
                                                        struct lyap_store **ret_store,
                                                        struct lyap_error *reterr);
#endif
