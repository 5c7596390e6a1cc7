/* Receivers and the outbox. */
#include "writer.h"

#include <assert.h>
#include <inttypes.h>

enum lyap_status lyap_writer_put_receiver(struct lyap_store *store,
                                          const struct lyap_receiver *receiver)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(writer->is_batch_open && lyap_rule_name_is_valid(receiver->name));
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PUT_RECEIVER);
    lyap_bind_text(&bind, receiver->name);
    lyap_bind_text(&bind, lyap_receiver_type_name(receiver->type));
    lyap_bind_text(&bind, lyap_receiver_format_name(receiver->format));
    lyap_bind_text(&bind, receiver->target);
    lyap_bind_text(&bind, receiver->secret);
    lyap_bind_text(&bind, lyap_severity_name(receiver->min_severity));
    lyap_bind_text(&bind, receiver->labels_json);
    lyap_bind_int(&bind, receiver->is_from_file);
    return lyap_sql_run(&bind, lyap_writer_call(writer));
}

enum lyap_status lyap_writer_delete_receiver(struct lyap_store *store, const char *name)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_DELETE_RECEIVER);
    lyap_bind_text(&bind, name);
    const enum lyap_status status = lyap_sql_run(&bind, reterr);
    if (status == LYAP_OK && sqlite3_changes(writer->sql.db) == 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "receiver %s", name);
    return status;
}

enum lyap_status lyap_writer_put_delivery(struct lyap_store *store,
                                          const struct lyap_delivery *delivery, int64_t *ret_id)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(writer->is_batch_open && delivery->kind != LYAP_ALERT_PENDING);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PUT_DELIVERY);
    lyap_bind_int(&bind, delivery->alert_id);
    lyap_bind_text(&bind, delivery->receiver);
    lyap_bind_text(&bind, lyap_alert_state_name(delivery->kind));
    lyap_bind_text(&bind, lyap_delivery_state_name(delivery->state));
    lyap_bind_int(&bind, delivery->attempts);
    lyap_bind_int(&bind, delivery->created_ns);
    lyap_bind_nonzero(&bind, delivery->next_ns);
    lyap_bind_nonzero(&bind, delivery->delivered_ns);
    lyap_bind_text(&bind, delivery->error[0] ? delivery->error : NULL);
    lyap_bind_text(&bind, delivery->payload_json);
    const enum lyap_status status = lyap_sql_run(&bind, lyap_writer_call(writer));
    if (status != LYAP_OK)
        return status == LYAP_E_CONFLICT ? LYAP_E_NOT_FOUND : status; /* the alert */
    *ret_id = sqlite3_changes(writer->sql.db) == 0 ? 0 : sqlite3_last_insert_rowid(writer->sql.db);
    return LYAP_OK;
}

enum lyap_status lyap_writer_resolve_deliveries(struct lyap_store *store, int64_t group_id,
                                                const char *payload_json, int64_t now_ns,
                                                uint32_t *ret_count)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_RESOLVE_REPEATING);
    lyap_bind_int(&bind, group_id);
    enum lyap_status status = lyap_sql_run(&bind, reterr);
    *ret_count = 0;
    if (status != LYAP_OK || !payload_json)
        return status;
    bind = lyap_bind(&writer->sql, LYAP_SQL_RESOLVE_DELIVERIES);
    lyap_bind_int(&bind, group_id);
    lyap_bind_text(&bind, payload_json);
    lyap_bind_int(&bind, now_ns);
    status = lyap_sql_run(&bind, reterr);
    if (status == LYAP_OK)
        *ret_count = (uint32_t)sqlite3_changes(writer->sql.db);
    return status;
}

enum lyap_status lyap_writer_update_delivery(struct lyap_store *store,
                                             const struct lyap_delivery *delivery)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_UPDATE_DELIVERY);
    lyap_bind_text(&bind, lyap_delivery_state_name(delivery->state));
    lyap_bind_nonzero(&bind, delivery->next_ns);
    lyap_bind_int(&bind, delivery->attempts);
    lyap_bind_nonzero(&bind, delivery->delivered_ns);
    lyap_bind_text(&bind, delivery->error[0] ? delivery->error : NULL);
    lyap_bind_int(&bind, delivery->id);
    const enum lyap_status status = lyap_sql_run(&bind, reterr);
    if (status == LYAP_OK && sqlite3_changes(writer->sql.db) == 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "delivery %" PRId64, delivery->id);
    if (status != LYAP_OK || delivery->state != LYAP_DELIVERY_REPEATING)
        return status;
    bind = lyap_bind(&writer->sql, LYAP_SQL_END_REPEATING);
    lyap_bind_int(&bind, delivery->id);
    return lyap_sql_run(&bind, reterr);
}

enum lyap_status lyap_writer_fail_deliveries(struct lyap_store *store, const char *receiver,
                                             const char *error)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_FAIL_DELIVERIES);
    lyap_bind_text(&bind, receiver);
    lyap_bind_text(&bind, error);
    return lyap_sql_run(&bind, lyap_writer_call(writer));
}

enum lyap_status lyap_writer_prune_deliveries(struct lyap_store *store, int64_t before_ns)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PRUNE_DELIVERIES);
    lyap_bind_int(&bind, before_ns);
    return lyap_sql_run(&bind, lyap_writer_call(writer));
}

enum lyap_status lyap_writer_count_deliveries(struct lyap_store *store, uint64_t *ret_waiting,
                                              int64_t *ret_oldest_ns)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_COUNT_DELIVERIES);
    const enum lyap_status status = lyap_sql_step(&bind, lyap_writer_call(writer));
    if (status != LYAP_OK)
        return status;
    struct lyap_row row = { .stmt = bind.stmt };
    *ret_waiting = (uint64_t)lyap_row_int(&row);
    *ret_oldest_ns = lyap_row_int(&row); /* NULL reads as 0 */
    lyap_sql_idle(&bind);
    return LYAP_OK;
}
