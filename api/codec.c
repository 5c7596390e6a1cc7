/* Encoders: domain -> JSON text. */
#include "codec.h"

#include <math.h>

static const char *const push_statuses[] = { "accepted", "duplicate", "waiting" };
static const char *const retentions[] = { "auto", "exact", "sketch" };

static void member_string(struct api_text *text, const char *key, const char *value)
{
    api_json_key(text, key);
    api_json_string(text, value);
}

static void member_int(struct api_text *text, const char *key, int64_t value)
{
    api_json_key(text, key);
    api_json_int(text, value);
}

/* -1 stands for "not yet" in steps. */
static void member_step(struct api_text *text, const char *key, int64_t step)
{
    api_json_key(text, key);
    if (step < 0)
        api_json_null(text);
    else
        api_json_int(text, step);
}

static void member_number(struct api_text *text, const char *key, double value)
{
    api_json_key(text, key);
    api_json_number(text, value);
}

/* NaN stands for "absent" in the fields that use this. */
static void member_optional(struct api_text *text, const char *key, double value)
{
    api_json_key(text, key);
    if (isnan(value))
        api_json_null(text);
    else
        api_json_number(text, value);
}

static void member_bool(struct api_text *text, const char *key, bool value)
{
    api_json_key(text, key);
    api_json_bool(text, value);
}

static void member_raw(struct api_text *text, const char *key, const char *json)
{
    api_json_key(text, key);
    api_json_raw(text, json);
}

/* 0 stands for "not yet" in times. */
static void member_time(struct api_text *text, const char *key, int64_t time_ns)
{
    api_json_key(text, key);
    if (time_ns == 0)
        api_json_null(text);
    else
        api_json_time(text, time_ns);
}

static void encode_action(struct api_text *text, const struct lyap_action *action)
{
    api_json_key(text, "action");
    api_json_open(text, '{');
    member_string(text, "kind", lyap_action_name(action->kind));
    if (!isnan(action->lr))
        member_number(text, "lr", action->lr);
    if (action->reason[0])
        member_string(text, "reason", action->reason);
    api_json_close(text, '}');
}

/* {"value":1.74,"trust":"E","error":0.02} or {"value":null,"reason":"no-probe"}. */
static void encode_value(struct api_text *text, const struct lyap_value *value)
{
    api_json_open(text, '{');
    api_json_key(text, "value");
    if (value->reason != LYAP_REASON_NONE) {
        api_json_null(text);
        member_string(text, "reason", lyap_reason_name((enum lyap_reason)value->reason));
    } else {
        api_json_number(text, value->value);
        member_string(text, "trust", lyap_trust_name((enum lyap_trust)value->trust));
        if (!isnan(value->error))
            member_number(text, "error", value->error);
    }
    api_json_close(text, '}');
}

static void encode_metrics(struct api_text *text, const struct lyap_point *point)
{
    api_json_key(text, "metrics");
    api_json_open(text, '{');
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        api_json_key(text, lyap_metric_info((enum lyap_metric)i)->name);
        encode_value(text, &point->metrics[i]);
    }
    api_json_close(text, '}');
}

void api_encode_point_members(struct api_text *text, const char *run,
                              const struct lyap_point *point, bool has_metrics)
{
    member_string(text, "run", run);
    member_int(text, "attempt", point->attempt);
    member_int(text, "step", point->step);
    member_time(text, "time", point->time_ns);
    if (has_metrics)
        encode_metrics(text, point);
    if (point->is_event_only)
        member_bool(text, "event_only", true);
    if (point->is_gap)
        member_bool(text, "gap", true);
    if (point->labels_json)
        member_raw(text, "labels", point->labels_json);
    member_string(text, "state", lyap_run_state_name(point->state));
    member_string(text, "verdict", lyap_verdict_name(point->verdict));
    encode_action(text, &point->action);
}

static void encode_push_alerts(struct api_text *text, const struct api_push_reply *reply)
{
    api_json_key(text, "alerts");
    api_json_open(text, '[');
    for (uint32_t i = 0; i < reply->alert_count; i++) {
        const struct lyap_alert *alert = &reply->alerts[i];
        api_json_open(text, '{');
        member_int(text, "id", alert->id);
        member_string(text, "rule", alert->rule);
        member_string(text, "tensor", alert->tensor);
        member_string(text, "state", lyap_alert_state_name(alert->state));
        member_string(text, "severity", lyap_severity_name(alert->severity));
        member_step(text, "since_step",
                    alert->state == LYAP_ALERT_PENDING ? alert->pending_step : alert->firing_step);
        member_string(text, "summary", alert->summary);
        api_json_close(text, '}');
    }
    api_json_close(text, ']');
}

void api_encode_push(struct api_text *text, const struct api_push_reply *reply, bool is_minimal)
{
    api_json_open(text, '{');
    member_string(text, "status", push_statuses[reply->push]);
    if (reply->push == API_PUSH_WAITING) {
        member_string(text, "run", reply->run);
        member_int(text, "attempt", reply->point.attempt);
        member_int(text, "step", reply->point.step);
    } else {
        api_encode_point_members(text, reply->run, &reply->point, !is_minimal);
    }
    api_json_key(text, "want");
    api_json_raw(text, reply->wants_state ? "[\"exp_avg\",\"exp_avg_sq\"]" : "[]");
    encode_push_alerts(text, reply);
    api_json_close(text, '}');
}

void api_encode_run_members(struct api_text *text, const struct lyap_run_record *run)
{
    member_string(text, "run", run->name);
    member_time(text, "created", run->created_ns);
    member_time(text, "updated", run->updated_ns);
    member_int(text, "attempt", run->attempt);
    member_step(text, "last_step", run->last_step);
    member_string(text, "state", lyap_run_state_name(run->state));
    member_string(text, "verdict", lyap_verdict_name(run->verdict));
    encode_action(text, &run->action);
    member_string(text, "retention", retentions[run->retention]);
    api_json_key(text, "sketch_seed");
    api_text_printf(text, "\"%llu\"", (unsigned long long)run->sketch_seed);
    member_raw(text, "labels", run->labels_json ? run->labels_json : "{}");
}

void api_encode_run(struct api_text *text, const struct lyap_record *record)
{
    api_json_open(text, '{');
    api_encode_run_members(text, &record->u.run);
    api_json_close(text, '}');
}

void api_encode_attempt(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_attempt_record *attempt = &record->u.attempt;
    api_json_open(text, '{');
    member_int(text, "attempt", attempt->attempt);
    member_string(text, "key", attempt->key[0] ? attempt->key : NULL);
    member_time(text, "started", attempt->started_ns);
    member_time(text, "ended", attempt->ended_ns);
    member_step(text, "first_step", attempt->first_step);
    member_step(text, "last_step", attempt->last_step);
    member_optional(text, "reference_loss", attempt->reference_loss);
    api_json_close(text, '}');
}

void api_encode_event(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_event_record *event = &record->u.event;
    api_json_open(text, '{');
    member_int(text, "id", event->id);
    member_int(text, "attempt", event->attempt);
    member_step(text, "step", event->step);
    member_time(text, "time", event->time_ns);
    member_string(text, "kind", lyap_event_name(event->kind));
    member_raw(text, "detail", event->detail_json);
    api_json_close(text, '}');
}

void api_encode_rule(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_rule *rule = &record->u.rule;
    api_json_open(text, '{');
    member_string(text, "rule", rule->name);
    member_int(text, "version", rule->version);
    member_bool(text, "enabled", rule->is_enabled);
    member_bool(text, "builtin", rule->is_builtin);
    member_string(text, "metric", rule->metric);
    member_string(text, "tensor", rule->tensor_pattern[0] ? rule->tensor_pattern : NULL);
    member_string(text, "comparison", lyap_comparison_name(rule->comparison));
    member_number(text, "threshold", rule->threshold);
    member_optional(text, "clear", rule->clear);
    member_int(text, "for", rule->for_steps);
    member_int(text, "clear_for", rule->clear_steps);
    member_bool(text, "once", rule->is_once);
    member_int(text, "min_points", rule->min_points);
    member_string(text, "severity", lyap_severity_name(rule->severity));
    member_string(text, "action", lyap_action_name(rule->action));
    member_raw(text, "runs", rule->runs_json);
    member_raw(text, "notify", rule->notify_json);
    member_string(text, "source", rule->source);
    api_json_close(text, '}');
}

void api_encode_alert(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_alert *alert = &record->u.alert;
    api_json_open(text, '{');
    member_int(text, "id", alert->id);
    member_string(text, "run", alert->run[0] ? alert->run : NULL);
    member_step(text, "attempt", alert->attempt > 0 ? (int64_t)alert->attempt : -1);
    member_string(text, "rule", alert->rule);
    member_int(text, "rule_version", alert->rule_version);
    member_string(text, "tensor", alert->tensor);
    member_string(text, "state", lyap_alert_state_name(alert->state));
    member_string(text, "severity", lyap_severity_name(alert->severity));
    member_step(text, "pending_step", alert->pending_step);
    member_step(text, "firing_step", alert->firing_step);
    member_step(text, "resolved_step", alert->resolved_step);
    member_time(text, "updated", alert->updated_ns);
    member_time(text, "fired", alert->firing_ns);
    member_time(text, "acked", alert->acked_ns);
    member_number(text, "value", alert->value);
    member_number(text, "threshold", alert->threshold);
    member_string(text, "summary", alert->summary);
    member_raw(text, "evidence", alert->evidence_json);
    api_json_close(text, '}');
}

void api_encode_tensor(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_tensor_record *tensor = &record->u.tensor;
    api_json_open(text, '{');
    member_string(text, "tensor", tensor->name);
    member_int(text, "step", tensor->step);
    api_json_key(text, "metrics");
    api_json_open(text, '{');
    for (unsigned i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++)
        member_optional(text, lyap_tensor_metric_name((enum lyap_tensor_metric)i),
                        tensor->row.values[i]);
    api_json_close(text, '}');
    api_json_close(text, '}');
}
