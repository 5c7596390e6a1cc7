/* Why an alert changed, for people and as JSON. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alerts.h"
#include "buffer.h"

enum { TENSORS_NAMED_MAX = 5 };

/* Metrics that a person wants beside any alert. */
static const enum lyap_metric inputs[] = {
    LYAP_METRIC_LOSS,
    LYAP_METRIC_LR,
    LYAP_METRIC_GRAD_NORM,
    LYAP_METRIC_UPDATE_NORM,
    LYAP_METRIC_UPDATE_RATIO,
    LYAP_METRIC_SHARPNESS,
    LYAP_METRIC_STABILITY_LIMIT,
    LYAP_METRIC_STABILITY_RATIO,
    LYAP_METRIC_PROGRESS_SCALE,
};

static void add_inputs(struct lyap_buffer *text, const struct lyap_point *point)
{
    const char *comma = "";
    lyap_buffer_add(text, ",\"inputs\":{");
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
        const struct lyap_value *value = &point->metrics[inputs[i]];
        if (value->reason != LYAP_REASON_NONE)
            continue;
        lyap_buffer_add(text, "%s\"%s\":", comma, lyap_metric_info(inputs[i])->name);
        lyap_buffer_json_number(text, value->value);
        comma = ",";
    }
    lyap_buffer_add(text, "}");
}

/* Indices of the largest finite values of |row|, descending; returns how many. */
static uint32_t largest(const double *row, uint32_t count, uint32_t ret[TENSORS_NAMED_MAX])
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        const double size = fabs(row[i]);
        if (!(size > 0) || isinf(size))
            continue;
        uint32_t at = found < TENSORS_NAMED_MAX ? found : TENSORS_NAMED_MAX;
        while (at > 0 && fabs(row[ret[at - 1]]) < size)
            at--;
        if (at == TENSORS_NAMED_MAX)
            continue;
        const uint32_t last = found < TENSORS_NAMED_MAX ? found : TENSORS_NAMED_MAX - 1;
        memmove(&ret[at + 1], &ret[at], (last - at) * sizeof *ret);
        ret[at] = i;
        found += found < TENSORS_NAMED_MAX;
    }
    return found;
}

static void add_tensor_metric(struct lyap_buffer *text, const struct lyap_alert_input *input,
                              uint32_t tensor, enum lyap_tensor_metric metric)
{
    const double value = input->rows ? input->rows[tensor].values[metric] : (double)NAN;
    if (isnan(value))
        return;
    lyap_buffer_add(text, ",\"%s\":", lyap_tensor_metric_name(metric));
    lyap_buffer_json_number(text, value);
}

/* Tensors with the largest share of a sum, with how unusual their coming update and their gradient
 * are. */
static void add_shares(struct lyap_buffer *text, const struct lyap_alert_input *input,
                       enum lyap_reduce sum, const char *name)
{
    const double *row = input->partial ? input->partial->rows[sum] : NULL;
    if (!row || input->partial->tensor_count != input->set->count)
        return;
    double total = 0;
    for (uint32_t i = 0; i < input->set->count; i++)
        total += isfinite(row[i]) ? fabs(row[i]) : 0;
    uint32_t tensors[TENSORS_NAMED_MAX];
    const uint32_t count = largest(row, input->set->count, tensors);
    lyap_buffer_add(text, ",\"tensors\":[");
    for (uint32_t i = 0; i < count; i++) {
        lyap_buffer_add(text, "%s{\"name\":", i ? "," : "");
        lyap_buffer_json_string(text, input->set->tensors[tensors[i]].name);
        lyap_buffer_add(text, ",\"%s\":", name);
        lyap_buffer_json_number(text, row[tensors[i]]);
        lyap_buffer_add(text, ",\"share\":");
        lyap_buffer_json_number(text, fabs(row[tensors[i]]) / total);
        add_tensor_metric(text, input, tensors[i], LYAP_TENSOR_METRIC_UPDATE_Z);
        add_tensor_metric(text, input, tensors[i], LYAP_TENSOR_METRIC_GRAD_Z);
        add_tensor_metric(text, input, tensors[i], LYAP_TENSOR_METRIC_SECOND_MOMENT_RATIO);
        lyap_buffer_add(text, "}");
    }
    lyap_buffer_add(text, "]");
}

/* What the score is made of, largest share first. */
static void add_parts(struct lyap_buffer *text, const struct lyap_profile *profile,
                      enum lyap_score_kind kind)
{
    struct lyap_score_part parts[LYAP_SCORE_PARTS_MAX];
    const uint32_t count = lyap_profile_instability(profile, kind, parts);
    lyap_buffer_add(text, ",\"score_version\":%u,\"parts\":[", lyap_score_version());
    for (uint32_t i = 0; i < count; i++) {
        lyap_buffer_add(text, "%s{\"log_odds\":", i ? "," : "");
        lyap_buffer_json_number(text, parts[i].log_odds);
        lyap_buffer_add(text, ",\"observables\":[{\"name\":\"%s\",\"value\":",
                        lyap_observable_name(parts[i].a));
        lyap_buffer_json_number(text, parts[i].value_a);
        lyap_buffer_add(text, "}]}");
    }
    lyap_buffer_add(text, "]");
}

/* Non-finite elements of a tensor; 0 where not known. */
static double nonfinite_of(const struct lyap_tensor_row *row, enum lyap_tensor_metric metric)
{
    return row->values[metric] > 0 ? row->values[metric] : 0;
}

/* The first tensors with non-finite values, in declared order: the first is the layer to look at.
 */
static void add_nonfinite(struct lyap_buffer *text, const struct lyap_alert_input *input)
{
    uint32_t named = 0;
    lyap_buffer_add(text, ",\"tensors\":[");
    for (uint32_t i = 0; input->rows && i < input->set->count && named < TENSORS_NAMED_MAX; i++) {
        const double param = nonfinite_of(&input->rows[i], LYAP_TENSOR_METRIC_NONFINITE_PARAM);
        const double grad = nonfinite_of(&input->rows[i], LYAP_TENSOR_METRIC_NONFINITE_GRAD);
        if (param + grad <= 0)
            continue;
        lyap_buffer_add(text, "%s{\"name\":", named++ ? "," : "");
        lyap_buffer_json_string(text, input->set->tensors[i].name);
        lyap_buffer_add(text, ",\"param\":%.0f,\"grad\":%.0f}", param, grad);
    }
    lyap_buffer_add(text, "]");
}

static bool is_still(const struct lyap_alert_cause *cause)
{
    return lyap_rule_is_of(cause->entry, LYAP_METRIC_DEAD_TENSORS) ||
           lyap_rule_is_of(cause->entry, LYAP_METRIC_STUCK_TENSORS);
}

/* How long a tensor has been dead or stuck, as the rule asks; NaN: not long enough. */
static double still_points(const struct lyap_alert_cause *cause, uint32_t tensor)
{
    const bool is_dead = lyap_rule_is_of(cause->entry, LYAP_METRIC_DEAD_TENSORS);
    const double points =
        cause->input->rows[tensor]
            .values[is_dead ? LYAP_TENSOR_METRIC_DEAD_POINTS : LYAP_TENSOR_METRIC_STUCK_POINTS];
    return points >= LYAP_STILL_POINTS ? points : (double)NAN;
}

static void add_still(struct lyap_buffer *text, const struct lyap_alert_cause *cause)
{
    uint32_t named = 0;
    lyap_buffer_add(text, ",\"tensors\":[");
    for (uint32_t i = 0;
         cause->input->rows && i < cause->input->set->count && named < TENSORS_NAMED_MAX; i++) {
        const double points = still_points(cause, i);
        if (isnan(points))
            continue;
        lyap_buffer_add(text, "%s{\"name\":", named++ ? "," : "");
        lyap_buffer_json_string(text, cause->input->set->tensors[i].name);
        lyap_buffer_add(text, ",\"points\":%.0f}", points);
    }
    lyap_buffer_add(text, "]");
}

/* The rows of the declared layers at this point, or NULL. */
static const struct lyap_layer_row *layers_of(const struct lyap_alert_input *input,
                                              uint32_t *ret_count)
{
    int64_t step = -1;
    const struct lyap_layer_row *rows =
        input->profile ? lyap_profile_layers(input->profile, ret_count, &step) : NULL;
    return step == input->point->step ? rows : NULL;
}

/* The layers whose empirical gain grew most. */
static void add_layers(struct lyap_buffer *text, const struct lyap_alert_input *input)
{
    uint32_t count = 0, named[TENSORS_NAMED_MAX];
    const struct lyap_layer_row *rows = layers_of(input, &count);
    double *growth = rows ? calloc(count, sizeof *growth) : NULL;
    if (!growth)
        return;
    for (uint32_t i = 0; i < count; i++) {
        const struct lyap_value *value = &rows[i].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN_GROWTH];
        growth[i] = value->reason == LYAP_REASON_NONE ? value->value : 0;
    }
    count = largest(growth, count, named);
    lyap_buffer_add(text, ",\"layers\":[");
    for (uint32_t i = 0; i < count; i++) {
        lyap_buffer_add(text, "%s{\"name\":", i ? "," : "");
        lyap_buffer_json_string(text, lyap_profile_layer_name(input->profile, named[i]));
        lyap_buffer_add(text, ",\"growth\":");
        lyap_buffer_json_number(text, growth[named[i]]);
        lyap_buffer_add(text, "}");
    }
    lyap_buffer_add(text, "]");
    free(growth);
}

struct operands {
    struct lyap_buffer *text;
    const struct lyap_point *point;
    const char *comma;
};

static void add_formula(struct lyap_buffer *text, const struct lyap_rule_entry *entry)
{
    struct lyap_buffer formula = LYAP_BUFFER_NULL;
    lyap_rule_formula(entry, &formula);
    char *string = lyap_buffer_detach(&formula);
    lyap_buffer_add(text, ",\"formula\":");
    lyap_buffer_json_string(text, string);
    text->has_failed |= !string;
    free(string);
}

/* The metrics of an expression of several, at this point. */
static void add_operand(void *arg, enum lyap_metric metric)
{
    struct operands *operands = arg;
    const struct lyap_value *value = &operands->point->metrics[metric];
    lyap_buffer_add(operands->text, "%s\"%s\":", operands->comma, lyap_metric_info(metric)->name);
    if (value->reason == LYAP_REASON_NONE)
        lyap_buffer_json_number(operands->text, value->value);
    else
        lyap_buffer_add(operands->text, "null");
    operands->comma = ",";
}

static void add_operands(struct lyap_buffer *text, const struct lyap_alert_cause *cause)
{
    if (cause->entry->expr.count < 2)
        return;
    struct operands operands = { .text = text, .point = cause->input->point, .comma = "" };
    lyap_buffer_add(text, ",\"operands\":{");
    lyap_expr_each_metric(&cause->entry->expr, add_operand, &operands);
    lyap_buffer_add(text, "}");
}

char *lyap_evidence_json(const struct lyap_alert_cause *cause)
{
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    const struct lyap_rule *rule = &cause->entry->rule;
    lyap_buffer_add(&text, "{\"metric\":");
    lyap_buffer_json_string(&text, rule->metric);
    if (cause->tensor) {
        lyap_buffer_add(&text, ",\"tensor\":");
        lyap_buffer_json_string(&text, cause->tensor);
    }
    add_formula(&text, cause->entry);
    lyap_buffer_add(&text, ",\"step\":%lld,\"value\":", (long long)cause->input->point->step);
    lyap_buffer_json_number(&text, cause->value.value);
    lyap_buffer_add(&text, ",\"trust\":\"%s\"",
                    lyap_trust_name((enum lyap_trust)cause->value.trust));
    if (!isnan(cause->value.error)) {
        lyap_buffer_add(&text, ",\"error\":");
        lyap_buffer_json_number(&text, cause->value.error);
    }
    lyap_buffer_add(
        &text, ",\"comparison\":\"%s\",\"threshold\":", lyap_comparison_name(rule->comparison));
    lyap_buffer_json_number(&text, rule->threshold);
    lyap_buffer_add(&text, ",\"clear\":");
    lyap_buffer_json_number(&text, isnan(rule->clear) ? rule->threshold : rule->clear);
    lyap_buffer_add(&text, ",\"window\":{\"for\":%u,\"clear_for\":%u", rule->for_steps,
                    rule->clear_steps);
    if (cause->nonfinite)
        lyap_buffer_add(&text, ",\"nonfinite\":%u", cause->nonfinite);
    lyap_buffer_add(&text, "}");
    add_operands(&text, cause);
    if (rule->source) {
        lyap_buffer_add(&text, ",\"source\":");
        lyap_buffer_json_string(&text, rule->source);
    }
    add_inputs(&text, cause->input->point);
    if (cause->entry->kind == LYAP_RULE_NONFINITE)
        add_nonfinite(&text, cause->input);
    const bool is_now = lyap_rule_is_of(cause->entry, LYAP_METRIC_INSTABILITY_SCORE);
    const bool is_next = lyap_rule_is_of(cause->entry, LYAP_METRIC_INSTABILITY_SCORE_NEXT);
    if ((is_now || is_next) && cause->input->profile)
        add_parts(&text, cause->input->profile, is_now ? LYAP_SCORE_NOW : LYAP_SCORE_NEXT);
    if (is_now || is_next)
        add_shares(&text, cause->input, LYAP_REDUCE_GRAD_DELTA, "work");
    if (lyap_rule_is_of(cause->entry, LYAP_METRIC_UPDATE_IDENTITY))
        add_shares(&text, cause->input, LYAP_REDUCE_UPDATE_ERROR_SQ, "error_sq");
    if (is_still(cause))
        add_still(&text, cause);
    if (lyap_rule_is_of(cause->entry, LYAP_METRIC_EMPIRICAL_GAIN_GROWTH))
        add_layers(&text, cause->input);
    lyap_buffer_add(&text, "}");
    return lyap_buffer_detach(&text);
}

/* "first in fc1.weight (grad)": the tensor that a person looks at first. */
static void add_first_nonfinite(struct lyap_buffer *text, const struct lyap_alert_input *input)
{
    for (uint32_t i = 0; input->rows && i < input->set->count; i++) {
        const bool is_param = nonfinite_of(&input->rows[i], LYAP_TENSOR_METRIC_NONFINITE_PARAM) > 0;
        const bool is_grad = nonfinite_of(&input->rows[i], LYAP_TENSOR_METRIC_NONFINITE_GRAD) > 0;
        if (!is_param && !is_grad)
            continue;
        lyap_buffer_add(text, ", first in %s (%s)", input->set->tensors[i].name,
                        is_param ? "param" : "grad");
        return;
    }
    const struct lyap_value *loss = &input->point->metrics[LYAP_METRIC_LOSS];
    if (loss->reason == LYAP_REASON_NONE && !isfinite(loss->value))
        lyap_buffer_add(text, ", the loss");
}

/* ", first fc1.weight" */
static void add_first_still(struct lyap_buffer *text, const struct lyap_alert_cause *cause)
{
    for (uint32_t i = 0; is_still(cause) && cause->input->rows && i < cause->input->set->count; i++)
        if (!isnan(still_points(cause, i))) {
            lyap_buffer_add(text, ", first %s", cause->input->set->tensors[i].name);
            return;
        }
}

char *lyap_evidence_summary(const struct lyap_alert_cause *cause)
{
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    const struct lyap_rule *rule = &cause->entry->rule;
    const long long step = (long long)cause->input->point->step;
    switch (cause->entry->kind) {
    case LYAP_RULE_NONFINITE:
        lyap_buffer_add(&text, "%.0f non-finite values at step %lld", cause->value.value, step);
        add_first_nonfinite(&text, cause->input);
        break;
    case LYAP_RULE_SILENT_SECONDS:
        lyap_buffer_add(&text, "no push for %.0f s, last step %lld", cause->value.value, step);
        break;
    case LYAP_RULE_OWN:
        lyap_buffer_add(&text, "%s = %.4g %s %.4g", rule->metric, cause->value.value,
                        lyap_comparison_name(rule->comparison), rule->threshold);
        break;
    case LYAP_RULE_CONDITION:
    case LYAP_RULE_METRIC:
    case LYAP_RULE_TENSOR_METRIC:
        lyap_buffer_add(&text, "%s%s%s = %.4g %s %.4g at step %lld", rule->metric,
                        cause->tensor ? " of " : "", cause->tensor ? cause->tensor : "",
                        cause->value.value, lyap_comparison_name(rule->comparison), rule->threshold,
                        step);
        add_first_still(&text, cause);
        break;
    }
    return lyap_buffer_detach(&text);
}
