/* Events, rules and alerts. */
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

enum lyap_status lyap_writer_put_rule(struct lyap_store *store, const struct lyap_rule *rule)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(writer->is_batch_open && lyap_rule_name_is_valid(rule->name));
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PUT_RULE);
    lyap_bind_text(&bind, rule->name);
    lyap_bind_int(&bind, rule->version);
    lyap_bind_int(&bind, rule->is_enabled);
    lyap_bind_int(&bind, rule->is_builtin);
    lyap_bind_text(&bind, rule->metric);
    lyap_bind_text(&bind, rule->tensor_pattern);
    lyap_bind_text(&bind, lyap_comparison_name(rule->comparison));
    lyap_bind_double(&bind, rule->threshold);
    lyap_bind_double(&bind, rule->clear);
    lyap_bind_int(&bind, rule->for_steps);
    lyap_bind_int(&bind, rule->clear_steps);
    lyap_bind_int(&bind, rule->is_once);
    lyap_bind_int(&bind, rule->min_points);
    lyap_bind_text(&bind, lyap_severity_name(rule->severity));
    lyap_bind_text(&bind, lyap_action_name(rule->action));
    lyap_bind_text(&bind, rule->runs_json);
    lyap_bind_text(&bind, rule->source);
    lyap_bind_text(&bind, rule->notify_json);
    return lyap_sql_run(&bind, lyap_writer_call(writer));
}

enum lyap_status lyap_writer_delete_rule(struct lyap_store *store, const char *name)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_DELETE_RULE);
    lyap_bind_text(&bind, name);
    const enum lyap_status status = lyap_sql_run(&bind, reterr);
    if (status == LYAP_OK && sqlite3_changes(writer->sql.db) == 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "rule %s", name);
    return status;
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
    lyap_bind_nonzero(&bind, alert->firing_ns);
    lyap_bind_nonzero(&bind, alert->acked_ns);
    lyap_bind_double(&bind, alert->value);
    lyap_bind_double(&bind, alert->threshold);
    lyap_bind_text(&bind, alert->summary ? alert->summary : "");
    lyap_bind_text(&bind, alert->evidence_json ? alert->evidence_json : "{}");
    if (!is_new)
        lyap_bind_int(&bind, alert->id);
    const enum lyap_status status = lyap_sql_run(&bind, reterr);
    if (status != LYAP_OK)
        return status == LYAP_E_CONFLICT ? LYAP_E_NOT_FOUND : status; /* the run */
    if (is_new)
        alert->id = sqlite3_last_insert_rowid(writer->sql.db);
    else if (sqlite3_changes(writer->sql.db) == 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "alert %" PRId64, alert->id);
    return LYAP_OK;
}
