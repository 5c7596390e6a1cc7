/* Encoders of rules, alerts, silences and replays. */
#include "codec.h"
#include "codec_text.h"

/* Empty stands for "none". */
static const char *or_null(const char *text)
{
    return text[0] ? text : NULL;
}

void api_encode_rule(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_rule *rule = &record->u.rule;
    api_json_open(text, '{');
    api_member_string(text, "rule", rule->name);
    api_member_int(text, "version", rule->version);
    api_member_time(text, "updated", rule->updated_ns);
    if (rule->is_deleted)
        api_member_bool(text, "deleted", true);
    api_member_bool(text, "enabled", rule->is_enabled);
    api_member_bool(text, "builtin", rule->is_builtin);
    api_member_string(text, "metric", rule->metric);
    api_member_string(text, "tensor", rule->tensor_pattern[0] ? rule->tensor_pattern : NULL);
    api_member_string(text, "comparison", lyap_comparison_name(rule->comparison));
    api_member_number(text, "threshold", rule->threshold);
    api_member_optional(text, "clear", rule->clear);
    api_member_int(text, "for", rule->for_steps);
    api_member_int(text, "clear_for", rule->clear_steps);
    api_member_bool(text, "once", rule->is_once);
    api_member_int(text, "min_points", rule->min_points);
    api_member_int(text, "cooldown", rule->cooldown_steps);
    api_member_int(text, "cooldown_s", rule->cooldown_s);
    api_member_int(text, "notify_per_hour", rule->notify_per_hour);
    api_member_string(text, "cause", rule->cause[0] ? rule->cause : rule->name);
    api_member_string(text, "severity", lyap_severity_name(rule->severity));
    api_member_string(text, "action", lyap_action_name(rule->action));
    api_member_string(text, "run", rule->run_pattern[0] ? rule->run_pattern : NULL);
    api_member_raw(text, "runs", rule->runs_json);
    api_member_raw(text, "notify", rule->notify_json);
    api_member_string(text, "source", rule->source);
    api_json_close(text, '}');
}

void api_encode_alert(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_alert *alert = &record->u.alert;
    api_json_open(text, '{');
    api_member_int(text, "id", alert->id);
    api_member_string(text, "run", or_null(alert->run));
    api_member_step(text, "attempt", alert->attempt > 0 ? (int64_t)alert->attempt : -1);
    api_member_string(text, "rule", alert->rule);
    api_member_int(text, "rule_version", alert->rule_version);
    api_member_string(text, "tensor", alert->tensor);
    api_member_string(text, "state", lyap_alert_state_name(alert->state));
    api_member_string(text, "severity", lyap_severity_name(alert->severity));
    api_member_step(text, "pending_step", alert->pending_step);
    api_member_step(text, "firing_step", alert->firing_step);
    api_member_step(text, "resolved_step", alert->resolved_step);
    api_member_time(text, "updated", alert->updated_ns);
    api_member_time(text, "fired", alert->firing_ns);
    api_member_time(text, "resolved", alert->resolved_ns);
    api_member_string(text, "cause", alert->cause);
    api_member_int(text, "group", alert->group_id);
    api_member_time(text, "notified", alert->notified_ns);
    api_member_string(text, "held",
                      alert->held == LYAP_HELD_NO ? NULL : lyap_held_name(alert->held));
    api_member_time(text, "silenced_until", alert->silenced_until_ns);
    if (alert->silence_id)
        api_member_int(text, "silence", alert->silence_id);
    api_member_time(text, "acked", alert->acked_ns);
    if (alert->acked_ns) {
        api_member_time(text, "acked_until", alert->ack_until_ns);
        api_member_string(text, "acked_by", alert->acked_by);
        api_member_string(text, "ack_comment", alert->ack_comment);
    }
    api_member_number(text, "value", alert->value);
    api_member_number(text, "threshold", alert->threshold);
    api_member_string(text, "summary", alert->summary);
    api_member_raw(text, "evidence", alert->evidence_json);
    api_json_close(text, '}');
}

void api_encode_alert_group(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_alert_group *group = &record->u.group;
    api_json_open(text, '{');
    api_member_int(text, "group", group->id);
    api_member_string(text, "run", or_null(group->run));
    api_member_step(text, "attempt", group->attempt > 0 ? (int64_t)group->attempt : -1);
    api_member_string(text, "cause", group->cause);
    api_member_string(text, "severity", lyap_severity_name(group->severity));
    api_member_int(text, "firing", group->firing);
    api_member_int(text, "pending", group->pending);
    api_member_int(text, "silenced", group->silenced);
    api_member_int(text, "tensors", group->tensors);
    api_member_string(text, "rules", group->rules);
    api_member_step(text, "first_step", group->first_step);
    api_member_time(text, "updated", group->updated_ns);
    api_member_time(text, "notified", group->notified_ns);
    api_json_close(text, '}');
}

void api_encode_silence(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_silence *silence = &record->u.silence;
    api_json_open(text, '{');
    api_member_int(text, "id", silence->id);
    api_member_string(text, "run", or_null(silence->run));
    api_member_string(text, "rule", or_null(silence->rule));
    api_member_string(
        text, "severity",
        silence->severity < 0 ? NULL : lyap_severity_name((enum lyap_severity)silence->severity));
    api_member_raw(text, "labels", silence->labels_json);
    api_member_string(text, "comment", silence->comment);
    api_member_string(text, "by", silence->by);
    api_member_time(text, "created", silence->created_ns);
    api_member_time(text, "until", silence->until_ns);
    api_json_close(text, '}');
}

/* ---- replays ---- */

static const char *const outcomes[API_OUTCOME_COUNT] = {
#define ROW(name, wire) wire,
    API_OUTCOME_TABLE(ROW)
#undef ROW
};

static void encode_absent(struct api_text *text, const struct api_replay *replay)
{
    api_json_key(text, "absent");
    api_json_open(text, '{');
    for (int i = 1; i < LYAP_REASON_COUNT; i++)
        if (replay->absent[i])
            api_member_int(text, lyap_reason_name((enum lyap_reason)i), replay->absent[i]);
    api_json_close(text, '}');
}

static void encode_end(struct api_text *text, const struct api_replay *replay)
{
    api_json_key(text, "end");
    api_json_open(text, '{');
    api_member_string(text, "kind", replay->end);
    api_member_string(text, "told_from", replay->truth);
    api_json_key(text, "onsets");
    api_json_open(text, '[');
    for (uint32_t i = 0; i < replay->onset.count; i++) {
        const struct lyap_onset_event *event = &replay->onset.events[i];
        api_json_open(text, '{');
        api_member_int(text, "step", event->onset_step);
        api_member_step(text, "recovered_step", event->end_step);
        api_member_bool(text, "nonfinite", event->is_nonfinite);
        api_json_close(text, '}');
    }
    api_json_close(text, ']');
    api_json_close(text, '}');
}

static void encode_replay_alert(struct api_text *text, const struct api_replay_alert *alert)
{
    api_json_open(text, '{');
    api_member_string(text, "tensor", alert->tensor);
    api_member_string(text, "severity", lyap_severity_name(alert->severity));
    api_member_step(text, "pending_step", alert->pending_step);
    api_member_step(text, "firing_step", alert->firing_step);
    api_member_step(text, "resolved_step", alert->resolved_step);
    api_member_number(text, "value", alert->value);
    api_member_string(text, "outcome", alert->firing_step < 0 ? NULL : outcomes[alert->outcome]);
    api_json_key(text, "lead_steps");
    if (alert->firing_step >= 0 && alert->outcome == API_OUTCOME_RIGHT)
        api_json_int(text, alert->lead_steps);
    else
        api_json_null(text);
    api_json_close(text, '}');
}

static void encode_counts(struct api_text *text, const struct api_replay *replay)
{
    api_json_key(text, "counts");
    api_json_open(text, '{');
    for (int i = 0; i < API_OUTCOME_COUNT; i++)
        api_member_int(text, outcomes[i], replay->outcomes[i]);
    api_member_int(text, "missed", replay->missed);
    api_json_close(text, '}');
}

void api_encode_replay(struct api_text *text, const struct api_replay_request *request,
                       const struct api_replay *replay)
{
    api_json_open(text, '{');
    api_member_string(text, "rule", request->rule);
    api_member_string(text, "run", request->run);
    api_member_int(text, "attempt", replay->attempt);
    api_member_step(text, "first_step", replay->first_step);
    api_member_step(text, "last_step", replay->last_step);
    api_member_int(text, "points", replay->points);
    api_member_int(text, "evaluated", replay->evaluated);
    encode_absent(text, replay);
    encode_end(text, replay);
    encode_counts(text, replay);
    api_member_int(text, "healthy_points", replay->healthy_points);
    api_member_int(text, "notifications", replay->notifications);
    api_json_key(text, "alerts");
    api_json_open(text, '[');
    for (uint32_t i = 0; i < replay->alert_count; i++)
        encode_replay_alert(text, &replay->alerts[i]);
    api_json_close(text, ']');
    api_member_int(text, "omitted", replay->omitted);
    api_member_bool(text, "complete", replay->is_complete);
    api_json_close(text, '}');
    api_text_puts(text, "\n");
}
