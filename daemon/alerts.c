/* State machine of alerts. */
#include "alerts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/glob.h"
#include "slots.h"

bool lyap_point_is_skipped(const struct lyap_point *point)
{
    for (unsigned i = 0; point->is_event_only && i < LYAP_METRIC_COUNT; i++)
        if (point->metrics[i].reason == LYAP_REASON_SKIPPED)
            return true;
    return false;
}

/* What was pushed non-finite; a skipped step says nothing (SPEC 6.4: fp16 infinities there are
 * ordinary). */
static struct lyap_value nonfinite_of(const struct lyap_point *point, bool is_skipped)
{
    static const enum lyap_metric counts[] = { LYAP_METRIC_NONFINITE_PARAM,
                                               LYAP_METRIC_NONFINITE_GRAD };
    static const enum lyap_metric losses[] = { LYAP_METRIC_LOSS, LYAP_METRIC_PROBE_LOSS };
    struct lyap_value value = { .value = 0, .error = NAN, .trust = LYAP_TRUST_I };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        const struct lyap_value *count = &point->metrics[counts[i]];
        if (count->reason == LYAP_REASON_NONE)
            value.value += count->value;
        if (is_skipped || count->reason == LYAP_REASON_SKIPPED)
            value.reason = LYAP_REASON_SKIPPED;
    }
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        const struct lyap_value *loss = &point->metrics[losses[i]];
        if (loss->reason == LYAP_REASON_NONE && !isfinite(loss->value))
            value.value += 1;
    }
    return value;
}

/* Not stored with the point: absent when it is read back. */
static struct lyap_value condition_of(enum lyap_condition condition,
                                      const struct lyap_alert_input *input)
{
    const double value = input->conditions ? input->conditions[condition] : NAN;
    struct lyap_value known = { .value = value, .error = NAN, .trust = LYAP_TRUST_I };
    if (isnan(value))
        known.reason = LYAP_REASON_NOT_PUSHED;
    return known;
}

struct lyap_value lyap_alerts_value(const struct lyap_alerts *alerts,
                                    const struct lyap_rule_entry *entry,
                                    const struct lyap_alert_input *input,
                                    const struct lyap_alert_tensor *tensor)
{
    if (entry->kind == LYAP_RULE_NONFINITE)
        return nonfinite_of(input->point, input->is_skipped);
    if (entry->kind == LYAP_RULE_CONDITION || entry->kind == LYAP_RULE_OWN)
        return condition_of(entry->condition, input);
    struct lyap_expr_input operands = { .point = input->point, .lookback = &alerts->lookback };
    if (entry->kind == LYAP_RULE_TENSOR_METRIC) {
        operands.row = &input->rows[tensor->index];
        operands.elements = (double)input->set->tensors[tensor->index].count;
        operands.windows = tensor->windows;
    }
    return lyap_expr_value(&entry->expr, &operands, NULL);
}

/* Resolves and removes. `why` is added to the summary. */
static enum lyap_status slot_resolve(struct lyap_alerts *alerts, struct lyap_slot *slot,
                                     const char *why, int64_t step, int64_t now_ns,
                                     const struct lyap_alert_sink *sink)
{
    char *summary;
    const int length = asprintf(&summary, "%s; %s", slot->summary ? slot->summary : "", why);
    if (length < 0)
        return LYAP_E_NOMEM;
    free(slot->summary);
    slot->summary = summary;
    lyap_slot_bind(slot);
    slot->alert.state = LYAP_ALERT_RESOLVED;
    slot->alert.is_turn = true;
    slot->alert.resolved_step = step;
    slot->alert.resolved_ns = slot->alert.updated_ns = now_ns;
    lyap_notice_resolve(alerts, slot, now_ns);
    enum lyap_status status = lyap_slot_put(slot, sink);
    if (status == LYAP_OK && slot->alert.firing_ns != 0)
        status = lyap_rest_note(alerts, &slot->alert);
    if (status == LYAP_OK)
        lyap_slot_remove(alerts, slot);
    return status;
}

/* The rule met its threshold at this point. */
static enum lyap_status on_meet(struct lyap_alerts *alerts, struct lyap_slot *slot,
                                const struct lyap_alert_cause *cause,
                                const struct lyap_alert_sink *sink)
{
    const struct lyap_rule *rule = &cause->entry->rule;
    enum lyap_status status = LYAP_OK;
    const bool is_new = !slot;
    if (is_new && rule->is_once && lyap_fired_find(alerts, rule->name))
        return LYAP_OK;
    if (is_new && lyap_rest_holds(alerts, rule, cause->tensor, cause->input->point))
        return LYAP_OK;
    if (is_new && !(slot = lyap_slot_open(alerts, cause, &status)))
        return status;
    slot->clear_count = 0;
    if (slot->alert.state == LYAP_ALERT_FIRING)
        return LYAP_OK;
    slot->meet_count++;
    const bool fires = slot->meet_count >= rule->for_steps;
    if (!is_new && !fires)
        return LYAP_OK;
    struct lyap_alert_cause described = *cause;
    described.nonfinite = lyap_expr_nonfinite(&cause->entry->expr, &alerts->lookback);
    status = lyap_slot_describe(slot, &described);
    slot->alert.is_turn = true;
    lyap_notice_silence(slot, cause->input);
    if (status == LYAP_OK && fires) {
        slot->alert.state = LYAP_ALERT_FIRING;
        slot->alert.firing_step = cause->input->point->step;
        slot->alert.firing_ns = cause->input->point->time_ns;
        status = lyap_notice_fire(alerts, slot, rule, cause->input->now_ns);
    }
    return status == LYAP_OK ? lyap_slot_put(slot, sink) : status;
}

/* The rule did not meet its threshold. */
static enum lyap_status on_miss(struct lyap_alerts *alerts, struct lyap_slot *slot,
                                const struct lyap_alert_cause *cause,
                                const struct lyap_alert_sink *sink)
{
    if (!slot)
        return LYAP_OK;
    const struct lyap_rule *rule = &cause->entry->rule;
    const struct lyap_point *point = cause->input->point;
    if (slot->alert.state == LYAP_ALERT_PENDING)
        return slot_resolve(alerts, slot, "never fired", point->step, point->time_ns, sink);
    const double clear = isnan(rule->clear) ? rule->threshold : rule->clear;
    if (lyap_rule_compare(rule->comparison, cause->value.value, clear)) {
        slot->clear_count = 0;
        return LYAP_OK;
    }
    if (++slot->clear_count < rule->clear_steps)
        return LYAP_OK;
    return slot_resolve(alerts, slot, "cleared", point->step, point->time_ns, sink);
}

static enum lyap_status evaluate(struct lyap_alerts *alerts, const struct lyap_alert_cause *cause,
                                 const struct lyap_alert_sink *sink)
{
    const struct lyap_rule *rule = &cause->entry->rule;
    struct lyap_slot *slot = lyap_slot_find(alerts, rule->name, cause->tensor);
    if (cause->value.reason != LYAP_REASON_NONE || isnan(cause->value.value))
        return LYAP_OK; /* absent holds the state; NaN is the rule nonfinite's */
    if (lyap_rule_compare(rule->comparison, cause->value.value, rule->threshold))
        return on_meet(alerts, slot, cause, sink);
    return on_miss(alerts, slot, cause, sink);
}

static enum lyap_status evaluate_tensors(struct lyap_alerts *alerts,
                                         const struct lyap_rule_entry *entry,
                                         const struct lyap_alert_input *input,
                                         const struct lyap_alert_sink *sink)
{
    enum lyap_status status = LYAP_OK;
    struct lyap_value windows[LYAP_EXPR_NODES_MAX];
    if (!input->rows)
        return LYAP_OK;
    lyap_expr_windows(&entry->expr, &alerts->lookback, windows);
    for (uint32_t i = 0; status == LYAP_OK && i < input->set->count; i++) {
        const char *name = input->set->tensors[i].name;
        if (!lyap_glob_match(entry->rule.tensor_pattern, name))
            continue;
        const struct lyap_alert_tensor tensor = { .index = i, .windows = windows };
        const struct lyap_alert_cause cause = {
            .entry = entry,
            .input = input,
            .tensor = name,
            .value = lyap_alerts_value(alerts, entry, input, &tensor),
        };
        status = evaluate(alerts, &cause, sink);
    }
    return status;
}

static bool is_due(const struct lyap_rule_entry *entry, const struct lyap_alert_input *input)
{
    return entry->rule.is_enabled && input->points >= entry->rule.min_points &&
           lyap_rule_selects(entry, input->run, input->labels);
}

/* The rule of an open alert went, was switched off, or looks at something else or at other runs by
 * now. */
static bool is_orphan(const struct lyap_slot *slot, const struct lyap_rules *rules,
                      const struct lyap_labels *labels)
{
    const struct lyap_rule_entry *entry = lyap_rules_find(rules, slot->alert.rule);
    if (entry && (entry->kind == LYAP_RULE_OWN) != (slot->alert.run[0] == '\0'))
        return true;
    if (!entry || !entry->rule.is_enabled || !lyap_rule_selects(entry, slot->alert.run, labels))
        return true;
    if (entry->kind != LYAP_RULE_TENSOR_METRIC || !slot->tensor)
        return (entry->kind == LYAP_RULE_TENSOR_METRIC) != (slot->tensor != NULL);
    return !lyap_glob_match(entry->rule.tensor_pattern, slot->tensor);
}

static enum lyap_status resolve_orphans(struct lyap_alerts *alerts, const struct lyap_rules *rules,
                                        const struct lyap_alert_input *input,
                                        const struct lyap_alert_sink *sink)
{
    enum lyap_status status = LYAP_OK;
    for (uint32_t i = alerts->count; status == LYAP_OK && i-- > 0;)
        if (is_orphan(&alerts->slots[i], rules, input->labels))
            status = slot_resolve(alerts, &alerts->slots[i], "rule-deleted", input->point->step,
                                  input->point->time_ns, sink);
    return status;
}

enum lyap_status lyap_alerts_step(struct lyap_alerts *alerts, const struct lyap_rules *rules,
                                  const struct lyap_alert_input *input,
                                  const struct lyap_alert_sink *sink)
{
    enum lyap_status status = resolve_orphans(alerts, rules, input, sink);
    for (uint32_t i = 0; status == LYAP_OK && i < rules->count; i++) {
        const struct lyap_rule_entry *entry = &rules->entries[i];
        if (!is_due(entry, input) || entry->kind == LYAP_RULE_SILENT_SECONDS ||
            entry->kind == LYAP_RULE_OWN)
            continue;
        if (entry->kind == LYAP_RULE_TENSOR_METRIC) {
            status = evaluate_tensors(alerts, entry, input, sink);
            continue;
        }
        const struct lyap_alert_cause cause = {
            .entry = entry,
            .input = input,
            .value = lyap_alerts_value(alerts, entry, input, NULL),
        };
        status = evaluate(alerts, &cause, sink);
    }
    lyap_lookback_push(&alerts->lookback, input->point);
    return status;
}

enum lyap_status lyap_alerts_own(struct lyap_alerts *alerts, const struct lyap_rules *rules,
                                 const struct lyap_alert_input *input,
                                 const struct lyap_alert_sink *sink)
{
    enum lyap_status status = resolve_orphans(alerts, rules, input, sink);
    for (uint32_t i = 0; status == LYAP_OK && i < rules->count; i++) {
        const struct lyap_rule_entry *entry = &rules->entries[i];
        if (!is_due(entry, input) || entry->kind != LYAP_RULE_OWN)
            continue;
        const struct lyap_alert_cause cause = {
            .entry = entry,
            .input = input,
            .value = condition_of(entry->condition, input),
        };
        status = evaluate(alerts, &cause, sink);
    }
    return status;
}

enum lyap_status lyap_alerts_silent(struct lyap_alerts *alerts, const struct lyap_rules *rules,
                                    const struct lyap_alert_input *input, double seconds,
                                    const struct lyap_alert_sink *sink)
{
    enum lyap_status status = LYAP_OK;
    for (uint32_t i = 0; status == LYAP_OK && i < rules->count; i++) {
        const struct lyap_rule_entry *entry = &rules->entries[i];
        if (!is_due(entry, input) || entry->kind != LYAP_RULE_SILENT_SECONDS)
            continue;
        const struct lyap_alert_cause cause = {
            .entry = entry,
            .input = input,
            .value = { .value = seconds, .error = NAN, .trust = LYAP_TRUST_I },
        };
        status = evaluate(alerts, &cause, sink);
    }
    return status;
}

bool lyap_alerts_silence_meets(const struct lyap_rules *rules, const struct lyap_alert_input *input,
                               double seconds)
{
    for (uint32_t i = 0; i < rules->count; i++) {
        const struct lyap_rule_entry *entry = &rules->entries[i];
        if (entry->kind == LYAP_RULE_SILENT_SECONDS && is_due(entry, input) &&
            lyap_rule_compare(entry->rule.comparison, seconds, entry->rule.threshold))
            return true;
    }
    return false;
}

enum lyap_status lyap_alerts_resolve(struct lyap_alerts *alerts, const char *rule, const char *why,
                                     int64_t step, int64_t now_ns,
                                     const struct lyap_alert_sink *sink)
{
    for (uint32_t i = alerts->count; i-- > 0;) {
        struct lyap_slot *slot = &alerts->slots[i];
        if (rule && strcmp(slot->alert.rule, rule) != 0)
            continue;
        const enum lyap_status status = slot_resolve(alerts, slot, why, step, now_ns, sink);
        if (status != LYAP_OK)
            return status;
    }
    return LYAP_OK;
}

/* ---- back from the store ---- */

/* Replays the counting of one restored alert. */
static void slot_replay(struct lyap_slot *slot, const struct lyap_rule *rule, int64_t step,
                        const struct lyap_value *value)
{
    if (value->reason != LYAP_REASON_NONE || isnan(value->value))
        return;
    const double clear = isnan(rule->clear) ? rule->threshold : rule->clear;
    if (slot->alert.state == LYAP_ALERT_PENDING)
        slot->meet_count++; /* a point that missed would have resolved it */
    else if (step <= slot->alert.firing_step ||
             lyap_rule_compare(rule->comparison, value->value, clear))
        slot->clear_count = 0;
    else
        slot->clear_count++;
}

/* Index of the slot's tensor; false: the rule looks at the tensors, and they are not there. */
static bool find_tensor(const struct lyap_slot *slot, const struct lyap_alert_input *input,
                        uint32_t *ret_index)
{
    *ret_index = 0;
    if (!slot->tensor)
        return true;
    for (uint32_t i = 0; input->rows && i < input->set->count; i++) {
        if (strcmp(input->set->tensors[i].name, slot->tensor) != 0)
            continue;
        *ret_index = i;
        return true;
    }
    return false;
}

enum lyap_status lyap_alerts_replay_begin(struct lyap_alerts *alerts,
                                          const struct lyap_rules *rules)
{
    for (uint32_t i = 0; i < alerts->count; i++) {
        struct lyap_slot *slot = &alerts->slots[i];
        const struct lyap_rule_entry *entry = lyap_rules_find(rules, slot->alert.rule);
        slot->is_silence = entry && entry->kind == LYAP_RULE_SILENT_SECONDS;
        if (entry && !slot->is_silence)
            slot->meet_count = slot->clear_count = 0;
    }
    return lyap_alerts_lookback_begin(alerts, rules);
}

void lyap_alerts_replay(struct lyap_alerts *alerts, const struct lyap_rules *rules,
                        const struct lyap_alert_input *input)
{
    for (uint32_t i = 0; i < alerts->count; i++) {
        struct lyap_slot *slot = &alerts->slots[i];
        const struct lyap_rule_entry *entry = lyap_rules_find(rules, slot->alert.rule);
        struct lyap_alert_tensor tensor = { .windows = NULL };
        if (!entry || slot->is_silence || input->point->step < slot->alert.pending_step ||
            (entry->kind == LYAP_RULE_TENSOR_METRIC) != (slot->tensor != NULL) ||
            !find_tensor(slot, input, &tensor.index))
            continue;
        const struct lyap_value value = lyap_alerts_value(alerts, entry, input, &tensor);
        slot_replay(slot, &entry->rule, input->point->step, &value);
    }
    lyap_lookback_push(&alerts->lookback, input->point);
}

bool lyap_alerts_needs_points(const struct lyap_alerts *alerts, const struct lyap_rules *rules)
{
    return !lyap_lookback_covers(&alerts->lookback, &rules->needs);
}

enum lyap_status lyap_alerts_lookback_begin(struct lyap_alerts *alerts,
                                            const struct lyap_rules *rules)
{
    lyap_lookback_release(&alerts->lookback);
    return lyap_lookback_init(&alerts->lookback, &rules->needs);
}

void lyap_alerts_lookback_push(struct lyap_alerts *alerts, const struct lyap_point *point)
{
    lyap_lookback_push(&alerts->lookback, point);
}
