/* slots.h - what one run's alerts remember, between the files of alerts.h: the open alerts, what
 * fired in this attempt, the points that rules look back at.
 * THREADS: owned by the engine, or by one replay. */
#ifndef LYAP_SLOTS_H
#define LYAP_SLOTS_H

#include "alerts.h"

/* An open alert. The alert's strings are the owned ones beside it. */
struct lyap_slot {
    struct lyap_alert alert;
    char *tensor, *summary, *evidence;
    uint32_t meet_count, clear_count; /* consecutive points */
    bool is_silence;                  /* of a silent_seconds rule */
};

/* A rule that fired in this attempt. */
struct lyap_fired {
    char rule[LYAP_RULE_NAME_BYTES_MAX + 1];
    int64_t hour_ns; /* when the hour began that `told` counts notifications of; 0: none */
    uint32_t told;
};

/* The last alerts that resolved after they fired, for cooldowns. */
enum { LYAP_RESTS_MAX = LYAP_ALERTS_OPEN_MAX };
struct lyap_rest {
    char rule[LYAP_RULE_NAME_BYTES_MAX + 1];
    uint64_t tensor; /* hash of the name, 0: none */
    int64_t step, time_ns;
};

struct lyap_alerts {
    struct lyap_slot *slots;
    uint32_t count, capacity, dropped;
    struct lyap_fired *fired;
    uint32_t fired_count, fired_capacity;
    struct lyap_rest *rests; /* LYAP_RESTS_MAX of them once one is kept */
    uint32_t rest_count, rest_next;
    struct lyap_lookback lookback;
    uint64_t silences_seen; /* revision at the last look */
};

struct lyap_slot *lyap_slot_find(struct lyap_alerts *alerts, const char *rule, const char *tensor);
/* A new slot; NULL when every place is taken (counted) or memory is short (E_NOMEM). */
struct lyap_slot *lyap_slot_open(struct lyap_alerts *alerts, const struct lyap_alert_cause *cause,
                                 enum lyap_status *ret_status);
/* The alert's strings after one of the slot's changed. */
void lyap_slot_bind(struct lyap_slot *slot);
/* Describes the alert anew, by the value that made it change. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_slot_describe(struct lyap_slot *slot,
                                                    const struct lyap_alert_cause *cause);
void lyap_slot_remove(struct lyap_alerts *alerts, struct lyap_slot *slot);

/* NULL: the rule did not fire in this attempt. */
struct lyap_fired *lyap_fired_find(const struct lyap_alerts *alerts, const char *rule);
/* Found or added; NULL: out of memory. */
struct lyap_fired *lyap_fired_note(struct lyap_alerts *alerts, const char *rule);
/* E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_rest_note(struct lyap_alerts *alerts,
                                                const struct lyap_alert *resolved);
/* Whether the rule rests after an alert of this tensor resolved. */
bool lyap_rest_holds(const struct lyap_alerts *alerts, const struct lyap_rule *rule,
                     const char *tensor, const struct lyap_point *point);

/* notice.c. Matches the silences, and decides what is told of an alert that fires or resolves; sets
 * alert.notice. E_NOMEM. */
void lyap_notice_silence(struct lyap_slot *slot, const struct lyap_alert_input *input);
LYAP_MUST_CHECK enum lyap_status lyap_notice_fire(struct lyap_alerts *alerts,
                                                  struct lyap_slot *slot,
                                                  const struct lyap_rule *rule, int64_t now_ns);
void lyap_notice_resolve(struct lyap_alerts *alerts, struct lyap_slot *slot, int64_t now_ns);
/* Stores the alert with its notice, which is spent then. */
LYAP_MUST_CHECK enum lyap_status lyap_slot_put(struct lyap_slot *slot,
                                               const struct lyap_alert_sink *sink);

#endif
