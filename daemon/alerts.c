/* State machine of alerts. */
#include "alerts.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"

/* An open alert. The alert's strings are the owned ones beside it. */
struct slot {
    struct lyap_alert alert;
    char *tensor, *summary, *evidence;
    uint32_t meet_count, clear_count; /* consecutive points */
    bool is_silence;
};

struct fired {
    char rule[LYAP_RULE_NAME_BYTES_MAX + 1];
};

struct lyap_alerts {
    struct slot *slots;
    uint32_t count, capacity, dropped;
    struct fired *fired; /* rules that fired in this attempt, for `once` */
    uint32_t fired_count, fired_capacity;
};

enum lyap_status lyap_alerts_new(struct lyap_alerts **ret_alerts)
{
    struct lyap_alerts *alerts = lyap_alloc_array(1, sizeof *alerts);
    if (!alerts)
        return LYAP_E_NOMEM;
    *ret_alerts = alerts;
    return LYAP_OK;
}

static void slot_release(struct slot *slot)
{
    free(slot->tensor);
    free(slot->summary);
    free(slot->evidence);
}

void lyap_alerts_free(struct lyap_alerts *alerts)
{
    if (!alerts)
        return;
    for (uint32_t i = 0; i < alerts->count; i++)
        slot_release(&alerts->slots[i]);
    lyap_free(alerts->slots);
    lyap_free(alerts->fired);
    lyap_free(alerts);
}

/* The alert borrows the strings that the slot owns; slots move, so it is done after every change.
 */
static void slot_bind(struct slot *slot)
{
    slot->alert.tensor = slot->tensor;
    slot->alert.summary = slot->summary ? slot->summary : "";
    slot->alert.evidence_json = slot->evidence ? slot->evidence : "{}";
}

static void slot_remove(struct lyap_alerts *alerts, struct slot *slot)
{
    slot_release(slot);
    *slot = alerts->slots[--alerts->count];
}

static struct slot *slot_find(struct lyap_alerts *alerts, const char *rule, const char *tensor)
{
    for (uint32_t i = 0; i < alerts->count; i++) {
        struct slot *slot = &alerts->slots[i];
        if (strcmp(slot->alert.rule, rule) == 0 &&
            strcmp(slot->tensor ? slot->tensor : "", tensor ? tensor : "") == 0)
            return slot;
    }
    return NULL;
}

static bool has_fired(const struct lyap_alerts *alerts, const char *rule)
{
    for (uint32_t i = 0; i < alerts->fired_count; i++)
        if (strcmp(alerts->fired[i].rule, rule) == 0)
            return true;
    return false;
}

/* Room for one more item in a growing array; false when memory is short. */
static bool grow(void **items, size_t size, uint32_t count, uint32_t *capacity)
{
    if (count < *capacity)
        return true;
    const uint32_t wanted = *capacity ? *capacity * 2 : 8;
    void *grown = lyap_alloc_array(wanted, size);
    if (!grown)
        return false;
    if (count)
        memcpy(grown, *items, count * size);
    lyap_free(*items);
    *items = grown;
    *capacity = wanted;
    return true;
}

static bool slots_grow(struct lyap_alerts *alerts)
{
    void *slots = alerts->slots;
    const bool has_grown = grow(&slots, sizeof *alerts->slots, alerts->count, &alerts->capacity);
    alerts->slots = slots;
    return has_grown;
}

/* Rules are bounded (LYAP_RULE_COUNT_MAX), so is this list. */
static bool note_fired(struct lyap_alerts *alerts, const char *rule)
{
    if (has_fired(alerts, rule))
        return true;
    void *items = alerts->fired;
    const bool has_grown =
        grow(&items, sizeof *alerts->fired, alerts->fired_count, &alerts->fired_capacity);
    alerts->fired = items;
    if (!has_grown)
        return false;
    struct fired *fired = &alerts->fired[alerts->fired_count++];
    (void)snprintf(fired->rule, sizeof fired->rule, "%s", rule);
    return true;
}

enum lyap_status lyap_alerts_restore(struct lyap_alerts *alerts, const struct lyap_alert *stored)
{
    if (stored->firing_step >= 0 && !note_fired(alerts, stored->rule))
        return LYAP_E_NOMEM;
    if (stored->state == LYAP_ALERT_RESOLVED)
        return LYAP_OK;
    if (alerts->count == LYAP_ALERTS_OPEN_MAX)
        return LYAP_E_LIMIT;
    if (!slots_grow(alerts))
        return LYAP_E_NOMEM;
    struct slot *slot = &alerts->slots[alerts->count];
    *slot = (struct slot){ .alert = *stored };
    slot->tensor = stored->tensor ? strdup(stored->tensor) : NULL;
    slot->summary = strdup(stored->summary ? stored->summary : "");
    slot->evidence = strdup(stored->evidence_json ? stored->evidence_json : "{}");
    if ((stored->tensor && !slot->tensor) || !slot->summary || !slot->evidence) {
        slot_release(slot);
        return LYAP_E_NOMEM;
    }
    slot_bind(slot);
    alerts->count++;
    return LYAP_OK;
}

/* The point's value as a rule sees it. NONFINITE counts what was pushed non-finite; a skipped step
 * says nothing (SPEC 6.4: fp16 infinities there are ordinary). */
static struct lyap_value value_of(const struct lyap_rule_entry *entry,
                                  const struct lyap_point *point, bool is_skipped)
{
    static const enum lyap_metric counts[] = { LYAP_METRIC_NONFINITE_PARAM,
                                               LYAP_METRIC_NONFINITE_GRAD };
    static const enum lyap_metric losses[] = { LYAP_METRIC_LOSS, LYAP_METRIC_PROBE_LOSS };
    if (entry->kind == LYAP_RULE_METRIC)
        return point->metrics[entry->metric];
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

/* Resolves and removes. `why` is added to the summary. */
static enum lyap_status slot_resolve(struct lyap_alerts *alerts, struct slot *slot, const char *why,
                                     int64_t step, int64_t now_ns,
                                     const struct lyap_alert_sink *sink)
{
    char *summary;
    const int length = asprintf(&summary, "%s; %s", slot->summary ? slot->summary : "", why);
    if (length < 0)
        return LYAP_E_NOMEM;
    free(slot->summary);
    slot->summary = summary;
    slot_bind(slot);
    slot->alert.state = LYAP_ALERT_RESOLVED;
    slot->alert.resolved_step = step;
    slot->alert.updated_ns = now_ns;
    const enum lyap_status status = sink->put(sink->ctx, &slot->alert);
    if (status == LYAP_OK)
        slot_remove(alerts, slot);
    return status;
}

/* A class C value never wakes anyone. */
static enum lyap_severity severity_of(const struct lyap_alert_cause *cause)
{
    const enum lyap_severity severity = cause->entry->rule.severity;
    const bool is_capped = cause->value.trust == LYAP_TRUST_C && severity == LYAP_SEVERITY_CRITICAL;
    return is_capped ? LYAP_SEVERITY_WARNING : severity;
}

/* Describes the alert anew, by the value that made it change. */
static enum lyap_status slot_describe(struct slot *slot, const struct lyap_alert_cause *cause)
{
    char *summary = lyap_evidence_summary(cause), *evidence = lyap_evidence_json(cause);
    if (!summary || !evidence) {
        free(summary);
        free(evidence);
        return LYAP_E_NOMEM;
    }
    free(slot->summary);
    free(slot->evidence);
    slot->summary = summary;
    slot->evidence = evidence;
    slot->alert.value = cause->value.value;
    slot->alert.threshold = cause->entry->rule.threshold;
    slot->alert.rule_version = cause->entry->rule.version;
    slot->alert.severity = severity_of(cause);
    slot->alert.updated_ns = cause->input->point->time_ns;
    slot_bind(slot);
    return LYAP_OK;
}

/* A new slot, not yet counted; NULL when every place is taken (counted) or memory is short. */
static struct slot *slot_open(struct lyap_alerts *alerts, const struct lyap_alert_cause *cause,
                              enum lyap_status *ret_status)
{
    *ret_status = LYAP_OK;
    if (alerts->count == LYAP_ALERTS_OPEN_MAX) {
        alerts->dropped++;
        return NULL;
    }
    if (!slots_grow(alerts)) {
        *ret_status = LYAP_E_NOMEM;
        return NULL;
    }
    const struct lyap_alert_input *input = cause->input;
    struct slot *slot = &alerts->slots[alerts->count];
    *slot = (struct slot){ .alert = { .run_id = input->run_id,
                                      .attempt = input->point->attempt,
                                      .pending_step = input->point->step,
                                      .firing_step = -1,
                                      .resolved_step = -1 },
                           .is_silence = cause->entry->kind == LYAP_RULE_SILENT_SECONDS };
    (void)snprintf(slot->alert.run, sizeof slot->alert.run, "%s", input->run);
    (void)snprintf(slot->alert.rule, sizeof slot->alert.rule, "%s", cause->entry->rule.name);
    if (cause->tensor && !(slot->tensor = strdup(cause->tensor))) {
        *ret_status = LYAP_E_NOMEM;
        return NULL;
    }
    slot_bind(slot);
    alerts->count++;
    return slot;
}

/* The rule met its threshold at this point. */
static enum lyap_status on_meet(struct lyap_alerts *alerts, struct slot *slot,
                                const struct lyap_alert_cause *cause,
                                const struct lyap_alert_sink *sink)
{
    const struct lyap_rule *rule = &cause->entry->rule;
    enum lyap_status status = LYAP_OK;
    const bool is_new = !slot;
    if (is_new && rule->is_once && has_fired(alerts, rule->name))
        return LYAP_OK;
    if (is_new && !(slot = slot_open(alerts, cause, &status)))
        return status;
    slot->clear_count = 0;
    if (slot->alert.state == LYAP_ALERT_FIRING)
        return LYAP_OK;
    slot->meet_count++;
    const bool fires = slot->meet_count >= rule->for_steps;
    if (!is_new && !fires)
        return LYAP_OK;
    status = slot_describe(slot, cause);
    if (status != LYAP_OK)
        return status;
    if (fires) {
        slot->alert.state = LYAP_ALERT_FIRING;
        slot->alert.firing_step = cause->input->point->step;
        slot->alert.firing_ns = cause->input->point->time_ns;
        if (!note_fired(alerts, rule->name))
            return LYAP_E_NOMEM;
    }
    return sink->put(sink->ctx, &slot->alert);
}

/* The rule did not meet its threshold. */
static enum lyap_status on_miss(struct lyap_alerts *alerts, struct slot *slot,
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
    struct slot *slot = slot_find(alerts, rule->name, cause->tensor);
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
    for (uint32_t i = 0; input->rows && status == LYAP_OK && i < input->set->count; i++) {
        const char *name = input->set->tensors[i].name;
        if (!lyap_glob_match(entry->rule.tensor_pattern, name))
            continue;
        const double value = input->rows[i].values[entry->tensor_metric];
        const struct lyap_alert_cause cause = {
            .entry = entry,
            .input = input,
            .tensor = name,
            .value = { .value = value, .error = NAN, .trust = LYAP_TRUST_E },
        };
        status = evaluate(alerts, &cause, sink);
    }
    return status;
}

static bool is_due(const struct lyap_rule_entry *entry, const struct lyap_alert_input *input)
{
    return entry->rule.is_enabled && input->points >= entry->rule.min_points &&
           lyap_labels_match(&entry->selector, input->labels);
}

/* The rule of an open alert went, was switched off, or looks at something else or at other runs by
 * now. */
static bool is_orphan(const struct slot *slot, const struct lyap_rules *rules,
                      const struct lyap_labels *labels)
{
    const struct lyap_rule_entry *entry = lyap_rules_find(rules, slot->alert.rule);
    if (!entry || !entry->rule.is_enabled || !lyap_labels_match(&entry->selector, labels))
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
        if (!is_due(entry, input) || entry->kind == LYAP_RULE_SILENT_SECONDS)
            continue;
        if (entry->kind == LYAP_RULE_TENSOR_METRIC) {
            status = evaluate_tensors(alerts, entry, input, sink);
            continue;
        }
        const struct lyap_alert_cause cause = { .entry = entry,
                                                .input = input,
                                                .value = value_of(entry, input->point,
                                                                  input->is_skipped) };
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
        struct slot *slot = &alerts->slots[i];
        if (rule && strcmp(slot->alert.rule, rule) != 0)
            continue;
        const enum lyap_status status = slot_resolve(alerts, slot, why, step, now_ns, sink);
        if (status != LYAP_OK)
            return status;
    }
    return LYAP_OK;
}

/* Replays the counting of one restored alert. */
static void slot_replay(struct slot *slot, const struct lyap_rule_entry *entry,
                        const struct lyap_point *point)
{
    if (point->step < slot->alert.pending_step)
        return;
    const struct lyap_value value = value_of(entry, point, false);
    if (value.reason != LYAP_REASON_NONE || isnan(value.value))
        return;
    const struct lyap_rule *rule = &entry->rule;
    const double clear = isnan(rule->clear) ? rule->threshold : rule->clear;
    if (slot->alert.state == LYAP_ALERT_PENDING)
        slot->meet_count++; /* a point that missed would have resolved it */
    else if (point->step <= slot->alert.firing_step ||
             lyap_rule_compare(rule->comparison, value.value, clear))
        slot->clear_count = 0;
    else
        slot->clear_count++;
}

/* Tensor rows are not replayed: alerts of tensor rules keep the counts they have. */
static bool is_replayed(const struct lyap_rule_entry *entry)
{
    return entry && (entry->kind == LYAP_RULE_METRIC || entry->kind == LYAP_RULE_NONFINITE);
}

void lyap_alerts_replay_begin(struct lyap_alerts *alerts, const struct lyap_rules *rules)
{
    for (uint32_t i = 0; i < alerts->count; i++) {
        struct slot *slot = &alerts->slots[i];
        const struct lyap_rule_entry *entry = lyap_rules_find(rules, slot->alert.rule);
        slot->is_silence = entry && entry->kind == LYAP_RULE_SILENT_SECONDS;
        if (is_replayed(entry))
            slot->meet_count = slot->clear_count = 0;
    }
}

void lyap_alerts_replay(struct lyap_alerts *alerts, const struct lyap_rules *rules,
                        const struct lyap_point *point)
{
    for (uint32_t i = 0; i < alerts->count; i++) {
        struct slot *slot = &alerts->slots[i];
        const struct lyap_rule_entry *entry = lyap_rules_find(rules, slot->alert.rule);
        if (is_replayed(entry))
            slot_replay(slot, entry, point);
    }
}

struct lyap_alert *lyap_alerts_find(struct lyap_alerts *alerts, int64_t id)
{
    for (uint32_t i = 0; i < alerts->count; i++)
        if (alerts->slots[i].alert.id == id)
            return &alerts->slots[i].alert;
    return NULL;
}

uint32_t lyap_alerts_count(const struct lyap_alerts *alerts)
{
    return alerts->count;
}

const struct lyap_alert *lyap_alerts_get(const struct lyap_alerts *alerts, uint32_t index)
{
    assert(index < alerts->count);
    return &alerts->slots[index].alert;
}

uint32_t lyap_alerts_dropped(const struct lyap_alerts *alerts)
{
    return alerts->dropped;
}

bool lyap_alerts_is_unstable(const struct lyap_alerts *alerts)
{
    for (uint32_t i = 0; i < alerts->count; i++) {
        const struct slot *slot = &alerts->slots[i];
        if (slot->alert.state == LYAP_ALERT_FIRING && !slot->is_silence &&
            slot->alert.severity == LYAP_SEVERITY_CRITICAL)
            return true;
    }
    return false;
}

bool lyap_alerts_is_silent(const struct lyap_alerts *alerts)
{
    for (uint32_t i = 0; i < alerts->count; i++)
        if (alerts->slots[i].alert.state == LYAP_ALERT_FIRING && alerts->slots[i].is_silence)
            return true;
    return false;
}

enum lyap_action_kind lyap_alerts_action(const struct lyap_alerts *alerts,
                                         const struct lyap_rules *rules)
{
    enum lyap_action_kind strongest = LYAP_ACTION_CONTINUE;
    for (uint32_t i = 0; i < alerts->count; i++) {
        const struct lyap_alert *alert = &alerts->slots[i].alert;
        const struct lyap_rule_entry *entry = lyap_rules_find(rules, alert->rule);
        if (alert->state == LYAP_ALERT_FIRING && entry && entry->rule.action > strongest)
            strongest = entry->rule.action; /* the enum is in order of strength */
    }
    return strongest;
}

bool lyap_alerts_advice_is_due(const struct lyap_alerts *alerts, const struct lyap_rules *rules,
                               int64_t step_before, int64_t step)
{
    for (uint32_t i = 0; i < alerts->count; i++) {
        const struct slot *slot = &alerts->slots[i];
        const struct lyap_rule_entry *entry = lyap_rules_find(rules, slot->alert.rule);
        if (slot->alert.state != LYAP_ALERT_FIRING || !entry ||
            entry->rule.action != LYAP_ACTION_REDUCE_LR)
            continue;
        const int64_t age = step - slot->alert.firing_step,
                      age_before = step_before - slot->alert.firing_step;
        const bool is_new = age == 0 || age_before < 0;
        if (is_new || (slot->clear_count == 0 &&
                       age / LYAP_ADVICE_PATIENCE > age_before / LYAP_ADVICE_PATIENCE))
            return true;
    }
    return false;
}
