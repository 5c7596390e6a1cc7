/* Encoders: domain -> JSON text. */
#include "codec.h"

#include <math.h>

#include "codec_text.h"
#include "lyap/parts.h"
#include "lyap/verdict.h"

static const char *const push_statuses[] = { "accepted", "duplicate", "waiting" };
static const char *const retentions[] = { "auto", "exact", "sketch" };

static void encode_action(struct api_text *text, const struct lyap_action *action)
{
    api_json_key(text, "action");
    api_json_open(text, '{');
    api_member_string(text, "kind", lyap_action_name(action->kind));
    if (!isnan(action->lr))
        api_member_number(text, "lr", action->lr);
    if (action->kind == LYAP_ACTION_SKIP || action->kind == LYAP_ACTION_ROLLBACK)
        api_member_int(text, "step", action->step);
    if (action->reason[0])
        api_member_string(text, "reason", action->reason);
    api_json_close(text, '}');
}

/* "value":1.74,"trust":"E","error":0.02 or "value":null,"reason":"no-probe"; a code with its word:
 * "value":5,"label":"exponential","trust":"E". */
static void encode_labelled(struct api_text *text, const struct lyap_value *value,
                            const char *label)
{
    api_json_key(text, "value");
    if (value->reason != LYAP_REASON_NONE) {
        api_json_null(text);
        api_member_string(text, "reason", lyap_reason_name((enum lyap_reason)value->reason));
    } else {
        api_json_number(text, value->value);
        if (label)
            api_member_string(text, "label", label);
        api_member_string(text, "trust", lyap_trust_name((enum lyap_trust)value->trust));
        if (!isnan(value->error))
            api_member_number(text, "error", value->error);
    }
}

static void encode_value(struct api_text *text, const struct lyap_value *value)
{
    api_json_open(text, '{');
    encode_labelled(text, value, NULL);
    api_json_close(text, '}');
}

static void encode_observable(struct api_text *text, enum lyap_observable observable, double value,
                              double per)
{
    api_json_open(text, '{');
    api_member_string(text, "name", lyap_observable_name(observable));
    api_member_number(text, "value", value);
    if (!isnan(per))
        api_member_number(text, "per", per);
    api_json_close(text, '}');
}

static void encode_part(struct api_text *text, const struct lyap_score_part *part)
{
    api_json_open(text, '{');
    api_member_number(text, "log_odds", part->log_odds);
    api_json_key(text, "observables");
    api_json_open(text, '[');
    encode_observable(text, part->a, part->value_a, part->per_a);
    if (part->b != LYAP_OBSERVABLE_COUNT)
        encode_observable(text, part->b, part->value_b, part->per_b);
    api_json_close(text, ']');
    api_json_close(text, '}');
}

static void encode_named(struct api_text *text, const struct lyap_named_tensor *tensor)
{
    api_json_open(text, '{');
    api_member_string(text, "name", tensor->name);
    api_member_string(text, tensor->reason == LYAP_NAMED_WORK ? "share_of" : "largest",
                      lyap_named_for_name(tensor->reason));
    api_member_number(text, "value", tensor->value);
    api_json_close(text, '}');
}

/* What a score is made of, beside its value; the tensors go with the score of the present. */
static void encode_parts(struct api_text *text, const struct lyap_parts *parts,
                         enum lyap_score_kind kind)
{
    api_member_int(text, "version", parts->version);
    api_json_key(text, "parts");
    api_json_open(text, '[');
    for (uint32_t i = 0; i < parts->counts[kind]; i++)
        encode_part(text, &parts->parts[kind][i]);
    api_json_close(text, ']');
    if (kind != LYAP_SCORE_NOW)
        return;
    api_json_key(text, "tensors");
    api_json_open(text, '[');
    for (uint32_t i = 0; i < parts->tensor_count; i++)
        encode_named(text, &parts->tensors[i]);
    api_json_close(text, ']');
}

static void encode_metrics(struct api_text *text, const struct lyap_point *point)
{
    struct lyap_parts parts;
    const bool has_parts =
        lyap_parts_decode(point->parts, point->parts_bytes, &parts) == LYAP_OK && parts.version > 0;
    api_json_key(text, "metrics");
    api_json_open(text, '{');
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        const struct lyap_value *value = &point->metrics[i];
        api_json_key(text, lyap_metric_info((enum lyap_metric)i)->name);
        api_json_open(text, '{');
        encode_labelled(text, value, lyap_metric_label((enum lyap_metric)i, value->value));
        const bool is_now = i == LYAP_METRIC_INSTABILITY_SCORE;
        if (has_parts && value->reason == LYAP_REASON_NONE &&
            (is_now || i == LYAP_METRIC_INSTABILITY_SCORE_NEXT))
            encode_parts(text, &parts, is_now ? LYAP_SCORE_NOW : LYAP_SCORE_NEXT);
        api_json_close(text, '}');
    }
    api_json_close(text, '}');
}

static void encode_growth(struct api_text *text, const char *key, bool is_known,
                          enum lyap_growth growth)
{
    api_member_string(text, key, is_known ? lyap_growth_name(growth) : NULL);
}

/* What the verdict stands on; read from the stored columns, so that a restart changes nothing. */
static void encode_verdict_detail(struct api_text *text, const struct lyap_point *point)
{
    const struct lyap_sides sides = lyap_verdict_sides(point);
    const struct lyap_judgement judgement = lyap_verdict_judge(&sides);
    const bool has_prediction = !isnan(sides.ratio) || !isnan(judgement.predicted);
    api_json_key(text, "verdict_detail");
    api_json_open(text, '{');
    api_json_key(text, "qualifiers");
    api_json_open(text, '[');
    for (unsigned i = 0; i < LYAP_QUALIFIER_COUNT; i++)
        if (judgement.qualifiers >> i & 1)
            api_json_string(text, lyap_qualifier_name((enum lyap_qualifier)i));
    api_json_close(text, ']');
    encode_growth(text, "twin", sides.has_twin, sides.twin);
    encode_growth(text, "active_twin", sides.has_active, sides.active);
    api_json_key(text, "prediction");
    api_json_open(text, '{');
    api_member_optional(text, "stability_ratio", sides.ratio);
    api_member_optional(text, "rate", judgement.predicted);
    api_member_optional(text, "gain", sides.gain);
    api_json_close(text, '}');
    api_member_string(text, "mode", lyap_mode_name(judgement.mode));
    api_member_string(text, "trust", lyap_trust_name((enum lyap_trust)judgement.trust));
    api_json_key(text, "sides");
    api_json_open(text, '[');
    if (sides.has_twin || sides.has_active)
        api_json_string(text, "twin");
    if (has_prediction)
        api_json_string(text, "prediction");
    if (!isnan(sides.dissipation))
        api_json_string(text, "energy");
    api_json_close(text, ']');
    api_json_close(text, '}');
}

static void encode_twins(struct api_text *text, const struct lyap_point *point)
{
    bool is_any = false;
    for (unsigned i = 0; i < LYAP_TWIN_COUNT_MAX; i++)
        is_any |= point->twin_names[i][0] != '\0';
    if (!is_any)
        return;
    api_json_key(text, "twins");
    api_json_open(text, '[');
    for (unsigned i = 0; i < LYAP_TWIN_COUNT_MAX; i++)
        api_json_string(text, point->twin_names[i][0] ? point->twin_names[i] : NULL);
    api_json_close(text, ']');
}

void api_encode_point_members(struct api_text *text, const char *run,
                              const struct lyap_point *point, bool has_metrics)
{
    api_member_string(text, "run", run);
    api_member_int(text, "attempt", point->attempt);
    api_member_int(text, "step", point->step);
    api_member_time(text, "time", point->time_ns);
    if (has_metrics)
        encode_metrics(text, point);
    if (point->is_event_only)
        api_member_bool(text, "event_only", true);
    if (point->is_gap)
        api_member_bool(text, "gap", true);
    if (point->labels_json)
        api_member_raw(text, "labels", point->labels_json);
    api_member_string(text, "state", lyap_run_state_name(point->state));
    encode_twins(text, point);
    api_member_string(text, "verdict", lyap_verdict_name(point->verdict));
    encode_verdict_detail(text, point);
    encode_action(text, &point->action);
}

static void encode_push_alerts(struct api_text *text, const struct api_push_reply *reply)
{
    api_json_key(text, "alerts");
    api_json_open(text, '[');
    for (uint32_t i = 0; i < reply->alert_count; i++) {
        const struct lyap_alert *alert = &reply->alerts[i];
        api_json_open(text, '{');
        api_member_int(text, "id", alert->id);
        api_member_string(text, "rule", alert->rule);
        api_member_string(text, "tensor", alert->tensor);
        api_member_string(text, "state", lyap_alert_state_name(alert->state));
        api_member_string(text, "severity", lyap_severity_name(alert->severity));
        api_member_step(text, "since_step",
                        alert->state == LYAP_ALERT_PENDING ? alert->pending_step
                                                           : alert->firing_step);
        api_member_string(text, "summary", alert->summary);
        api_json_close(text, '}');
    }
    api_json_close(text, ']');
}

void api_encode_push(struct api_text *text, const struct api_push_reply *reply, bool is_minimal)
{
    api_json_open(text, '{');
    api_member_string(text, "status", push_statuses[reply->push]);
    if (reply->push == API_PUSH_WAITING) {
        api_member_string(text, "run", reply->run);
        api_member_int(text, "attempt", reply->point.attempt);
        api_member_int(text, "step", reply->point.step);
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
    api_member_string(text, "run", run->name);
    api_member_time(text, "created", run->created_ns);
    api_member_time(text, "updated", run->updated_ns);
    api_member_int(text, "attempt", run->attempt);
    api_member_step(text, "last_step", run->last_step);
    api_member_string(text, "state", lyap_run_state_name(run->state));
    api_member_string(text, "verdict", lyap_verdict_name(run->verdict));
    encode_action(text, &run->action);
    api_member_string(text, "retention", retentions[run->retention]);
    api_json_key(text, "sketch_seed");
    api_text_printf(text, "\"%llu\"", (unsigned long long)run->sketch_seed);
    api_member_raw(text, "labels", run->labels_json ? run->labels_json : "{}");
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
    api_member_int(text, "attempt", attempt->attempt);
    api_member_string(text, "key", attempt->key[0] ? attempt->key : NULL);
    api_member_time(text, "started", attempt->started_ns);
    api_member_time(text, "ended", attempt->ended_ns);
    api_member_step(text, "first_step", attempt->first_step);
    api_member_step(text, "last_step", attempt->last_step);
    api_member_optional(text, "reference_loss", attempt->reference_loss);
    api_json_close(text, '}');
}

void api_encode_event_members(struct api_text *text, const struct lyap_event_record *event)
{
    api_member_int(text, "attempt", event->attempt);
    api_member_step(text, "step", event->step);
    api_member_time(text, "time", event->time_ns);
    api_member_string(text, "kind", lyap_event_name(event->kind));
    api_member_raw(text, "detail", event->detail_json);
}

void api_encode_event(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_event_record *event = &record->u.event;
    api_json_open(text, '{');
    api_member_int(text, "id", event->id);
    api_encode_event_members(text, event);
    api_json_close(text, '}');
}

void api_encode_layer(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_layer_record *layer = &record->u.layer;
    api_json_open(text, '{');
    api_member_string(text, "layer", layer->name);
    api_member_string(text, "kind", layer->kind);
    api_member_int(text, "step", layer->step);
    api_member_string(text, "method", layer->method);
    api_json_key(text, "bound_step");
    if (layer->row.bound_step < 0)
        api_json_null(text);
    else
        api_json_int(text, layer->row.bound_step);
    for (unsigned i = 0; i < LYAP_LAYER_METRIC_COUNT; i++) {
        api_json_key(text, lyap_layer_metric_name((enum lyap_layer_metric)i));
        encode_value(text, &layer->row.values[i]);
    }
    api_json_close(text, '}');
}

void api_encode_tensor(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_tensor_record *tensor = &record->u.tensor;
    api_json_open(text, '{');
    api_member_string(text, "tensor", tensor->name);
    api_member_int(text, "step", tensor->step);
    api_json_key(text, "metrics");
    api_json_open(text, '{');
    for (unsigned i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++)
        api_member_optional(text, lyap_tensor_metric_name((enum lyap_tensor_metric)i),
                            tensor->row.values[i]);
    api_json_close(text, '}');
    api_json_close(text, '}');
}
