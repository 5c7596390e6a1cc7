/* Open alerts of a run: their places, what is remembered of those that are over. */
#include "slots.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"

enum lyap_status lyap_alerts_new(struct lyap_alerts **ret_alerts)
{
    const struct lyap_lookback_needs nothing = { .depth = 0 };
    struct lyap_alerts *alerts = lyap_alloc_array(1, sizeof *alerts);
    if (!alerts)
        return LYAP_E_NOMEM;
    if (lyap_lookback_init(&alerts->lookback, &nothing) != LYAP_OK) {
        lyap_free(alerts);
        return LYAP_E_NOMEM;
    }
    *ret_alerts = alerts;
    return LYAP_OK;
}

static void slot_release(struct lyap_slot *slot)
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
    lyap_free(alerts->rests);
    lyap_lookback_release(&alerts->lookback);
    lyap_free(alerts);
}

/* Slots move, so it is done after every change. */
void lyap_slot_bind(struct lyap_slot *slot)
{
    slot->alert.tensor = slot->tensor;
    slot->alert.summary = slot->summary ? slot->summary : "";
    slot->alert.evidence_json = slot->evidence ? slot->evidence : "{}";
}

void lyap_slot_remove(struct lyap_alerts *alerts, struct lyap_slot *slot)
{
    slot_release(slot);
    *slot = alerts->slots[--alerts->count];
}

struct lyap_slot *lyap_slot_find(struct lyap_alerts *alerts, const char *rule, const char *tensor)
{
    for (uint32_t i = 0; i < alerts->count; i++) {
        struct lyap_slot *slot = &alerts->slots[i];
        if (strcmp(slot->alert.rule, rule) == 0 &&
            strcmp(slot->tensor ? slot->tensor : "", tensor ? tensor : "") == 0)
            return slot;
    }
    return NULL;
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

/* The group that an alert of this cause joins; 0: it is the first. */
static int64_t group_of(const struct lyap_alerts *alerts, const char *cause)
{
    for (uint32_t i = 0; i < alerts->count; i++)
        if (strcmp(alerts->slots[i].alert.cause, cause) == 0)
            return alerts->slots[i].alert.group_id;
    return 0;
}

struct lyap_slot *lyap_slot_open(struct lyap_alerts *alerts, const struct lyap_alert_cause *cause,
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
    struct lyap_slot *slot = &alerts->slots[alerts->count];
    *slot = (struct lyap_slot){ .alert = { .run_id = input->run_id,
                                           .attempt = input->point->attempt,
                                           .pending_step = input->point->step,
                                           .firing_step = -1,
                                           .resolved_step = -1 },
                                .is_silence = cause->entry->kind == LYAP_RULE_SILENT_SECONDS };
    struct lyap_alert *alert = &slot->alert;
    (void)snprintf(alert->run, sizeof alert->run, "%s", input->run);
    (void)snprintf(alert->rule, sizeof alert->rule, "%s", cause->entry->rule.name);
    (void)snprintf(alert->cause, sizeof alert->cause, "%s", lyap_rule_cause(&cause->entry->rule));
    alert->group_id = group_of(alerts, alert->cause);
    if (cause->tensor && !(slot->tensor = strdup(cause->tensor))) {
        *ret_status = LYAP_E_NOMEM;
        return NULL;
    }
    lyap_slot_bind(slot);
    alerts->count++;
    return slot;
}

/* A class C value never wakes anyone. */
static enum lyap_severity severity_of(const struct lyap_alert_cause *cause)
{
    const enum lyap_severity severity = cause->entry->rule.severity;
    const bool is_capped = cause->value.trust == LYAP_TRUST_C && severity == LYAP_SEVERITY_CRITICAL;
    return is_capped ? LYAP_SEVERITY_WARNING : severity;
}

enum lyap_status lyap_slot_describe(struct lyap_slot *slot, const struct lyap_alert_cause *cause)
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
    lyap_slot_bind(slot);
    return LYAP_OK;
}

enum lyap_status lyap_slot_put(struct lyap_slot *slot, const struct lyap_alert_sink *sink)
{
    const enum lyap_status status = sink->put(sink->ctx, &slot->alert);
    slot->alert.notice = LYAP_NOTICE_NONE;
    slot->alert.is_turn = false;
    return status;
}

/* ---- what is over ---- */

struct lyap_fired *lyap_fired_find(const struct lyap_alerts *alerts, const char *rule)
{
    for (uint32_t i = 0; i < alerts->fired_count; i++)
        if (strcmp(alerts->fired[i].rule, rule) == 0)
            return &alerts->fired[i];
    return NULL;
}

/* Rules are bounded (LYAP_RULE_COUNT_MAX), so is this list. */
struct lyap_fired *lyap_fired_note(struct lyap_alerts *alerts, const char *rule)
{
    struct lyap_fired *fired = lyap_fired_find(alerts, rule);
    if (fired)
        return fired;
    void *items = alerts->fired;
    const bool has_grown =
        grow(&items, sizeof *alerts->fired, alerts->fired_count, &alerts->fired_capacity);
    alerts->fired = items;
    if (!has_grown)
        return NULL;
    fired = &alerts->fired[alerts->fired_count++];
    *fired = (struct lyap_fired){ .told = 0 };
    (void)snprintf(fired->rule, sizeof fired->rule, "%s", rule);
    return fired;
}

/* FNV-1a; the name of a tensor is never empty. */
static uint64_t tensor_hash(const char *tensor)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    if (!tensor)
        return 0;
    for (const char *c = tensor; *c; c++)
        hash = (hash ^ (unsigned char)*c) * UINT64_C(1099511628211);
    return hash ? hash : 1;
}

enum lyap_status lyap_rest_note(struct lyap_alerts *alerts, const struct lyap_alert *resolved)
{
    if (!alerts->rests)
        alerts->rests = lyap_alloc_array(LYAP_RESTS_MAX, sizeof *alerts->rests);
    if (!alerts->rests)
        return LYAP_E_NOMEM;
    struct lyap_rest *rest = &alerts->rests[alerts->rest_next];
    *rest = (struct lyap_rest){ .tensor = tensor_hash(resolved->tensor),
                                .step = resolved->resolved_step,
                                .time_ns = resolved->resolved_ns };
    (void)snprintf(rest->rule, sizeof rest->rule, "%s", resolved->rule);
    alerts->rest_next = (alerts->rest_next + 1) % LYAP_RESTS_MAX;
    alerts->rest_count += alerts->rest_count < LYAP_RESTS_MAX;
    return LYAP_OK;
}

bool lyap_rest_holds(const struct lyap_alerts *alerts, const struct lyap_rule *rule,
                     const char *tensor, const struct lyap_point *point)
{
    if (!rule->cooldown_steps && !rule->cooldown_s)
        return false;
    const uint64_t hash = tensor_hash(tensor);
    const int64_t rest_ns = (int64_t)rule->cooldown_s * 1000000000;
    for (uint32_t i = 0; i < alerts->rest_count; i++) {
        const struct lyap_rest *rest = &alerts->rests[i];
        if (rest->tensor == hash && strcmp(rest->rule, rule->name) == 0 &&
            (point->step < rest->step + (int64_t)rule->cooldown_steps ||
             point->time_ns < rest->time_ns + rest_ns))
            return true;
    }
    return false;
}

/* A notification that was sent counts for the hour in which it was. */
static void restore_told(struct lyap_fired *fired, const struct lyap_alert *stored)
{
    if (!stored->notified_ns || stored->held == LYAP_HELD_GROUPED)
        return;
    if (!fired->hour_ns || stored->notified_ns >= fired->hour_ns + LYAP_NOTICE_HOUR_NS) {
        fired->hour_ns = stored->notified_ns;
        fired->told = 0;
    }
    fired->told++;
}

static enum lyap_status restore_fired(struct lyap_alerts *alerts, const struct lyap_alert *stored)
{
    struct lyap_fired *fired = lyap_fired_note(alerts, stored->rule);
    if (!fired)
        return LYAP_E_NOMEM;
    restore_told(fired, stored);
    return stored->state == LYAP_ALERT_RESOLVED ? lyap_rest_note(alerts, stored) : LYAP_OK;
}

enum lyap_status lyap_alerts_restore(struct lyap_alerts *alerts, const struct lyap_alert *stored)
{
    enum lyap_status status = stored->firing_ns != 0 ? restore_fired(alerts, stored) : LYAP_OK;
    if (status != LYAP_OK || stored->state == LYAP_ALERT_RESOLVED)
        return status;
    if (alerts->count == LYAP_ALERTS_OPEN_MAX)
        return LYAP_E_LIMIT;
    if (!slots_grow(alerts))
        return LYAP_E_NOMEM;
    struct lyap_slot *slot = &alerts->slots[alerts->count];
    *slot = (struct lyap_slot){ .alert = *stored };
    slot->tensor = stored->tensor ? strdup(stored->tensor) : NULL;
    slot->summary = strdup(stored->summary ? stored->summary : "");
    slot->evidence = strdup(stored->evidence_json ? stored->evidence_json : "{}");
    if ((stored->tensor && !slot->tensor) || !slot->summary || !slot->evidence) {
        slot_release(slot);
        return LYAP_E_NOMEM;
    }
    lyap_slot_bind(slot);
    alerts->count++;
    return LYAP_OK;
}

/* ---- looking ---- */

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
        const struct lyap_slot *slot = &alerts->slots[i];
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

bool lyap_alerts_has_tensor(const struct lyap_alerts *alerts)
{
    for (uint32_t i = 0; i < alerts->count; i++)
        if (alerts->slots[i].tensor)
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
        if (alert->state != LYAP_ALERT_FIRING || !entry || entry->rule.action <= strongest)
            continue;
        /* A batch or a state that is bad now; a lower rate, or a stop, is wanted until the end. */
        const bool is_momentary =
            entry->rule.action == LYAP_ACTION_SKIP || entry->rule.action == LYAP_ACTION_ROLLBACK;
        if (!is_momentary || alerts->slots[i].clear_count == 0)
            strongest = entry->rule.action; /* the enum is in order of strength */
    }
    return strongest;
}

bool lyap_alerts_advice_is_due(const struct lyap_alerts *alerts, const struct lyap_rules *rules,
                               int64_t step_before, int64_t step)
{
    for (uint32_t i = 0; i < alerts->count; i++) {
        const struct lyap_slot *slot = &alerts->slots[i];
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
