/* Events and alerts. */
#include "writer.h"

#include <assert.h>
#include <inttypes.h>

enum lyap_status lyap_writer_put_event(struct lyap_store *store,
                                       const struct lyap_event_record *event)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PUT_EVENT);
    lyap_bind_int(&bind, event->run_id);
    lyap_bind_int(&bind, event->attempt);
    lyap_bind_int(&bind, event->step);
    lyap_bind_int(&bind, event->time_ns);
    lyap_bind_text(&bind, lyap_event_name(event->kind));
    lyap_bind_text(&bind, event->detail_json);
    return lyap_sql_run(&bind, lyap_writer_call(writer));
}

/* When it fired and resolved, who knows of it, who shall not. */
static void bind_told(struct lyap_bind *bind, const struct lyap_alert *alert)
{
    lyap_bind_nonzero(bind, alert->firing_ns);
    lyap_bind_nonzero(bind, alert->resolved_ns);
    lyap_bind_nonzero(bind, alert->acked_ns);
    lyap_bind_nonzero(bind, alert->ack_until_ns);
    lyap_bind_text(bind, alert->acked_by[0] ? alert->acked_by : NULL);
    lyap_bind_text(bind, alert->ack_comment[0] ? alert->ack_comment : NULL);
    lyap_bind_text(bind, alert->cause);
    lyap_bind_nonzero(bind, alert->group_id);
    lyap_bind_nonzero(bind, alert->silence_id);
    lyap_bind_nonzero(bind, alert->silenced_until_ns);
    lyap_bind_nonzero(bind, alert->notified_ns);
    lyap_bind_text(bind, lyap_held_name(alert->held));
}

enum lyap_status lyap_writer_put_alert(struct lyap_store *store, struct lyap_alert *alert)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open);
    const bool is_new = alert->id == 0;
    struct lyap_bind bind =
        lyap_bind(&writer->sql, is_new ? LYAP_SQL_INSERT_ALERT : LYAP_SQL_UPDATE_ALERT);
    lyap_bind_nonzero(&bind, alert->run_id);
    lyap_bind_int(&bind, alert->attempt);
    lyap_bind_text(&bind, alert->rule);
    lyap_bind_int(&bind, alert->rule_version);
    lyap_bind_text(&bind, alert->tensor);
    lyap_bind_text(&bind, lyap_alert_state_name(alert->state));
    lyap_bind_text(&bind, lyap_severity_name(alert->severity));
    lyap_bind_step(&bind, alert->pending_step);
    lyap_bind_step(&bind, alert->firing_step);
    lyap_bind_step(&bind, alert->resolved_step);
    lyap_bind_int(&bind, alert->updated_ns);
    bind_told(&bind, alert);
    lyap_bind_double(&bind, alert->value);
    lyap_bind_double(&bind, alert->threshold);
    lyap_bind_text(&bind, alert->summary ? alert->summary : "");
    lyap_bind_text(&bind, alert->evidence_json ? alert->evidence_json : "{}");
    if (!is_new)
        lyap_bind_int(&bind, alert->id);
    const enum lyap_status status = lyap_sql_run(&bind, reterr);
    if (status != LYAP_OK)
        return status == LYAP_E_CONFLICT ? LYAP_E_NOT_FOUND : status; /* the run */
    if (is_new) {
        alert->id = sqlite3_last_insert_rowid(writer->sql.db);
        alert->group_id = alert->group_id ? alert->group_id : alert->id;
    }
    if (!is_new && sqlite3_changes(writer->sql.db) == 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "alert %" PRId64, alert->id);
    return LYAP_OK;
}
