/* writer.h - the SQLite store: the writing connection with what it remembers between batches, and
 * the pool of readers. THREADS: as store.h; the fields are the writer's, but `pool` and
 * `is_writable`. */
#ifndef LYAP_STORE_WRITER_H
#define LYAP_STORE_WRITER_H

#include <stdatomic.h>

#include "annotation.h"
#include "pool.h"
#include "rollup.h"
#include "sql.h"
#include "store.h"

/* Annotations seen last, by a hash of run and marks: most points repeat the marks of the one
 * before. */
enum { LYAP_INTERN_SLOTS = 64 };
struct lyap_interned {
    int64_t run_id, id; /* run_id 0: free */
    struct lyap_marks marks;
};

struct lyap_writer {
    struct lyap_store base; /* first: what the caller holds */
    struct lyap_sql sql;
    struct lyap_pool pool;
    struct lyap_rollups rollups;
    struct lyap_interned interned[LYAP_INTERN_SLOTS];
    struct lyap_error error; /* of the last failure; error_text */
    bool is_batch_open;
    atomic_bool is_writable;
    int lock_fd; /* -1: none */
    char *path, *wal_path;
};

static inline struct lyap_writer *lyap_writer_of(struct lyap_store *store)
{
    return (struct lyap_writer *)store;
}

/* Starts a call: the error of an earlier one is forgotten. */
static inline struct lyap_error *lyap_writer_call(struct lyap_writer *writer)
{
    writer->error = (struct lyap_error)LYAP_ERROR_NULL;
    return &writer->error;
}
/* The four columns of an action. */
void lyap_bind_action(struct lyap_bind *bind, const struct lyap_action *action);

/* The functions of struct lyap_store_ops. */
enum lyap_status lyap_writer_begin(struct lyap_store *store);
enum lyap_status lyap_writer_commit(struct lyap_store *store);
void lyap_writer_rollback(struct lyap_store *store);
enum lyap_status lyap_writer_put_run(struct lyap_store *store, struct lyap_run_record *run);
enum lyap_status lyap_writer_delete_run(struct lyap_store *store, int64_t run_id);
enum lyap_status lyap_writer_put_attempt(struct lyap_store *store,
                                         const struct lyap_attempt_record *attempt);
enum lyap_status lyap_writer_put_layers(struct lyap_store *store,
                                        const struct lyap_layer_batch *batch);
enum lyap_status lyap_writer_put_tensors(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                         const struct lyap_tensor_set *set);
enum lyap_status lyap_writer_get_tensors(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                         struct lyap_tensor_set *ret_set);
enum lyap_status lyap_writer_put_point(struct lyap_store *store, int64_t run_id,
                                       const struct lyap_point *point,
                                       const struct lyap_tensor_row *rows, uint32_t row_count);
enum lyap_status lyap_writer_put_event(struct lyap_store *store,
                                       const struct lyap_event_record *event);
enum lyap_status lyap_writer_put_rule(struct lyap_store *store, struct lyap_rule *rule);
enum lyap_status lyap_writer_delete_rule(struct lyap_store *store, const char *name,
                                         int64_t now_ns);
enum lyap_status lyap_writer_put_silence(struct lyap_store *store, struct lyap_silence *silence);
enum lyap_status lyap_writer_put_alert(struct lyap_store *store, struct lyap_alert *alert);
enum lyap_status lyap_writer_put_receiver(struct lyap_store *store,
                                          const struct lyap_receiver *receiver);
enum lyap_status lyap_writer_delete_receiver(struct lyap_store *store, const char *name);
enum lyap_status lyap_writer_put_delivery(struct lyap_store *store,
                                          const struct lyap_delivery *delivery, int64_t *ret_id);
enum lyap_status lyap_writer_resolve_deliveries(struct lyap_store *store, int64_t group_id,
                                                const char *payload_json, int64_t now_ns,
                                                uint32_t *ret_count);
enum lyap_status lyap_writer_update_delivery(struct lyap_store *store,
                                             const struct lyap_delivery *delivery);
enum lyap_status lyap_writer_fail_deliveries(struct lyap_store *store, const char *receiver,
                                             const char *error);
enum lyap_status lyap_writer_prune_deliveries(struct lyap_store *store, int64_t before_ns);
enum lyap_status lyap_writer_count_deliveries(struct lyap_store *store, uint64_t *ret_waiting,
                                              int64_t *ret_oldest_ns);
enum lyap_status lyap_writer_put_profile(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                         int64_t step, const void *bytes, uint64_t length);
enum lyap_status lyap_writer_get_profile(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                         int64_t *ret_step, void **ret_bytes, uint64_t *ret_length);
enum lyap_status lyap_writer_prune(struct lyap_store *store, int64_t before_ns, uint64_t bytes_max,
                                   bool *ret_more);
enum lyap_status lyap_writer_query(struct lyap_store *store, const struct lyap_query *query,
                                   struct lyap_cursor **ret_cursor);

#endif
