/* Who is told: silences, groups, rates, and the looks at what waits for one of them to end. */
#include <stdint.h>
#include <string.h>

#include "silences.h"
#include "slots.h"

/* Sets what the alert says of its silence; true when that changed. */
static bool silence_set(struct lyap_alert *alert, const struct lyap_silence *silence)
{
    const int64_t id = silence ? silence->id : 0, until_ns = silence ? silence->until_ns : 0;
    const bool is_changed = alert->silence_id != id || alert->silenced_until_ns != until_ns;
    alert->silence_id = id;
    alert->silenced_until_ns = until_ns;
    return is_changed;
}

static bool is_silenced(const struct lyap_alert *alert, int64_t now_ns)
{
    return alert->silence_id != 0 && alert->silenced_until_ns > now_ns;
}

void lyap_notice_silence(struct lyap_slot *slot, const struct lyap_alert_input *input)
{
    if (input->silences)
        (void)silence_set(&slot->alert, lyap_silences_match(input->silences, &slot->alert,
                                                            input->labels, input->now_ns));
}

static bool is_told_of(const struct lyap_slot *slot, const struct lyap_slot *but)
{
    return slot != but && strcmp(slot->alert.cause, but->alert.cause) == 0 &&
           slot->alert.state == LYAP_ALERT_FIRING && slot->alert.notified_ns != 0;
}

/* The group was told, of something at least as severe. */
static const struct lyap_alert *told_before(const struct lyap_alerts *alerts,
                                            const struct lyap_slot *slot)
{
    for (uint32_t i = 0; i < alerts->count; i++)
        if (is_told_of(&alerts->slots[i], slot) &&
            alerts->slots[i].alert.severity >= slot->alert.severity)
            return &alerts->slots[i].alert;
    return NULL;
}

/* Takes one notification from the hour's; false: there is none left. */
static bool take_rate(struct lyap_fired *fired, const struct lyap_rule *rule, int64_t now_ns)
{
    if (!fired->hour_ns || now_ns >= fired->hour_ns + LYAP_NOTICE_HOUR_NS) {
        fired->hour_ns = now_ns;
        fired->told = 0;
    }
    if (rule->notify_per_hour && fired->told >= rule->notify_per_hour)
        return false;
    fired->told++;
    return true;
}

enum lyap_status lyap_notice_fire(struct lyap_alerts *alerts, struct lyap_slot *slot,
                                  const struct lyap_rule *rule, int64_t now_ns)
{
    struct lyap_alert *alert = &slot->alert;
    if (alert->notified_ns)
        return LYAP_OK;
    struct lyap_fired *fired = lyap_fired_note(alerts, rule->name);
    if (!fired)
        return LYAP_E_NOMEM;
    const struct lyap_alert *before = told_before(alerts, slot);
    if (is_silenced(alert, now_ns)) {
        alert->held = LYAP_HELD_SILENCED;
    } else if (before) {
        alert->held = LYAP_HELD_GROUPED;
        alert->notified_ns = before->notified_ns;
    } else if (!take_rate(fired, rule, now_ns)) {
        alert->held = LYAP_HELD_RATE_LIMITED;
    } else {
        alert->held = LYAP_HELD_NO;
        alert->notified_ns = now_ns;
        alert->notice = LYAP_NOTICE_FIRING;
    }
    return LYAP_OK;
}

void lyap_notice_resolve(struct lyap_alerts *alerts, struct lyap_slot *slot, int64_t now_ns)
{
    if (!slot->alert.notified_ns)
        return;
    for (uint32_t i = 0; i < alerts->count; i++)
        if (is_told_of(&alerts->slots[i], slot))
            return; /* the group goes on */
    slot->alert.notice =
        is_silenced(&slot->alert, now_ns) ? LYAP_NOTICE_ENDED : LYAP_NOTICE_RESOLVED;
}

/* ---- while time passes ---- */

static bool is_waiting(const struct lyap_slot *slot)
{
    return slot->alert.state == LYAP_ALERT_FIRING && !slot->alert.notified_ns;
}

/* What held this alert back is over: its silence, its hour, the acknowledgement by who knew of it.
 */
static bool is_free(const struct lyap_alerts *alerts, const struct lyap_slot *slot, int64_t now_ns)
{
    const struct lyap_alert *alert = &slot->alert;
    const struct lyap_fired *fired = lyap_fired_find(alerts, alert->rule);
    if (!is_waiting(slot) || alert->held == LYAP_HELD_NO || is_silenced(alert, now_ns) ||
        lyap_alert_is_acked(alert, now_ns))
        return false;
    return alert->held != LYAP_HELD_RATE_LIMITED || !fired ||
           now_ns >= fired->hour_ns + LYAP_NOTICE_HOUR_NS;
}

bool lyap_alerts_is_look_due(const struct lyap_alerts *alerts, const struct lyap_silences *silences,
                             int64_t now_ns)
{
    if (alerts->count == 0)
        return false;
    if (alerts->silences_seen != silences->revision)
        return true;
    for (uint32_t i = 0; i < alerts->count; i++) {
        const struct lyap_alert *alert = &alerts->slots[i].alert;
        if ((alert->silence_id && alert->silenced_until_ns <= now_ns) ||
            is_free(alerts, &alerts->slots[i], now_ns))
            return true;
    }
    return false;
}

bool lyap_alerts_is_held(const struct lyap_alerts *alerts)
{
    for (uint32_t i = 0; i < alerts->count; i++)
        if (is_waiting(&alerts->slots[i]))
            return true;
    return false;
}

/* One alert; stored when something changed. */
static enum lyap_status look(struct lyap_alerts *alerts, struct lyap_slot *slot,
                             const struct lyap_alert_watch *watch,
                             const struct lyap_alert_sink *sink)
{
    struct lyap_alert *alert = &slot->alert;
    const enum lyap_held held = alert->held;
    const struct lyap_rule_entry *entry = lyap_rules_find(watch->rules, alert->rule);
    const struct lyap_silence *silence =
        lyap_silences_match(watch->silences, alert, watch->labels, watch->now_ns);
    const bool is_changed = silence_set(alert, silence);
    enum lyap_status status = LYAP_OK;
    if (is_waiting(slot) && !entry)
        alert->held = LYAP_HELD_NO; /* its rule went; the next point resolves it */
    if (is_waiting(slot) && entry && !lyap_alert_is_acked(alert, watch->now_ns))
        status = lyap_notice_fire(alerts, slot, &entry->rule, watch->now_ns);
    if (status == LYAP_OK && (is_changed || alert->held != held || alert->notice))
        status = lyap_slot_put(slot, sink);
    return status;
}

enum lyap_status lyap_alerts_look(struct lyap_alerts *alerts, const struct lyap_alert_watch *watch,
                                  const struct lyap_alert_sink *sink)
{
    enum lyap_status status = LYAP_OK;
    for (uint32_t i = 0; status == LYAP_OK && i < alerts->count; i++)
        status = look(alerts, &alerts->slots[i], watch, sink);
    if (status == LYAP_OK)
        alerts->silences_seen = watch->silences->revision;
    return status;
}
