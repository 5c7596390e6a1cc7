/* alerts.h - the open alerts of one run and their state machine (docs/rules.md):
 *
 *   (none) --meets--> pending --meets `for` points in a row--> firing --`clear_for` points-->
 * resolved
 *                        \--does not meet--> resolved, never fired
 *
 * keyed by attempt, rule and tensor. An absent value holds the state; NaN too. What people are told
 * of a change (alert.notice) is decided with it: silences, groups of one cause, rates (notice.c).
 * THREADS: owned by the engine, or by one replay. */
#ifndef LYAP_ALERTS_H
#define LYAP_ALERTS_H

#include "lyap/advice.h"
#include "lyap/declaration.h"
#include "lyap/partial.h"
#include "lyap/profile.h"
#include "rules.h"

enum { LYAP_ALERTS_OPEN_MAX = 256 }; /* of one run; a rule over all tensors opens one a tensor */

/* Notifications are counted by the hour. */
#define LYAP_NOTICE_HOUR_NS INT64_C(3600000000000)

struct lyap_alerts;
struct lyap_silences;

/* What the rules look at. `rows` has one entry per tensor of `set`, or is NULL. */
struct lyap_alert_input {
    const char *run;
    int64_t run_id;
    const struct lyap_labels *labels; /* of the run */
    const struct lyap_point *point;
    const struct lyap_tensor_row *rows;
    const struct lyap_tensor_set *set;
    const struct lyap_partial *partial;   /* for the tensors with the largest share; or NULL */
    const struct lyap_profile *profile;   /* for the parts of `instability`; or NULL */
    uint32_t points;                      /* of the attempt, this one included */
    bool is_skipped;                      /* the optimizer skipped the step */
    const struct lyap_silences *silences; /* or NULL: none */
    int64_t now_ns;                       /* of silences and rates */
    const double *conditions; /* by enum lyap_condition; NaN: absent. NULL: none is known */
};
/* The optimizer skipped the step of a stored point. */
bool lyap_point_is_skipped(const struct lyap_point *point);
/* Stores an alert that changed (and sets its id); its status stops the step. */
struct lyap_alert_sink {
    void *ctx;
    enum lyap_status (*put)(void *ctx, struct lyap_alert *alert);
};

LYAP_MUST_CHECK enum lyap_status lyap_alerts_new(struct lyap_alerts **ret_alerts);
void lyap_alerts_free(struct lyap_alerts *alerts);

/* One stored alert of the current attempt back from the store: open ones go on, resolved ones
 * count for `once`. E_NOMEM, E_LIMIT. */
LYAP_MUST_CHECK enum lyap_status lyap_alerts_restore(struct lyap_alerts *alerts,
                                                     const struct lyap_alert *stored);
/* Starts the counting of replayed points, and the looking back, anew. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_alerts_replay_begin(struct lyap_alerts *alerts,
                                                          const struct lyap_rules *rules);
/* Counts of consecutive points, from the stored points of the attempt in step order; `input` has
 * the point, and its rows when they are stored. Nothing is stored. */
void lyap_alerts_replay(struct lyap_alerts *alerts, const struct lyap_rules *rules,
                        const struct lyap_alert_input *input);
/* Whether the rules in force look back at more than is kept: then begin, and push the stored points
 * that rules->needs names, oldest first. Begin: E_NOMEM. */
bool lyap_alerts_needs_points(const struct lyap_alerts *alerts, const struct lyap_rules *rules);
LYAP_MUST_CHECK enum lyap_status lyap_alerts_lookback_begin(struct lyap_alerts *alerts,
                                                            const struct lyap_rules *rules);
void lyap_alerts_lookback_push(struct lyap_alerts *alerts, const struct lyap_point *point);

/* What the rule (not of silent_seconds) compares at this point; `tensor`: of a tensor rule, whose
 * rows are there. */
struct lyap_alert_tensor {
    uint32_t index;
    const struct lyap_value *windows; /* of lyap_expr_windows, or NULL */
};
struct lyap_value lyap_alerts_value(const struct lyap_alerts *alerts,
                                    const struct lyap_rule_entry *entry,
                                    const struct lyap_alert_input *input,
                                    const struct lyap_alert_tensor *tensor);
/* Evaluates every rule but silent_seconds and those of the daemon itself; open alerts whose rule
 * went, or no longer selects the run, resolve. E_NOMEM and the sink's. */
LYAP_MUST_CHECK enum lyap_status lyap_alerts_step(struct lyap_alerts *alerts,
                                                  const struct lyap_rules *rules,
                                                  const struct lyap_alert_input *input,
                                                  const struct lyap_alert_sink *sink);
/* Evaluates the silent_seconds rules; `seconds` 0 after a push resolves. */
LYAP_MUST_CHECK enum lyap_status lyap_alerts_silent(struct lyap_alerts *alerts,
                                                    const struct lyap_rules *rules,
                                                    const struct lyap_alert_input *input,
                                                    double seconds,
                                                    const struct lyap_alert_sink *sink);
/* Evaluates the rules of the daemon itself: `input` has no run, a point without step, and the
 * conditions. Open alerts of a rule that went resolve. */
LYAP_MUST_CHECK enum lyap_status lyap_alerts_own(struct lyap_alerts *alerts,
                                                 const struct lyap_rules *rules,
                                                 const struct lyap_alert_input *input,
                                                 const struct lyap_alert_sink *sink);
/* Whether a silent_seconds rule that watches this run would be met after so long (INFINITY: ever).
 */
bool lyap_alerts_silence_meets(const struct lyap_rules *rules, const struct lyap_alert_input *input,
                               double seconds);
/* Resolves the alerts of `rule` (NULL: all) with `why` added to the summary. */
LYAP_MUST_CHECK enum lyap_status lyap_alerts_resolve(struct lyap_alerts *alerts, const char *rule,
                                                     const char *why, int64_t step, int64_t now_ns,
                                                     const struct lyap_alert_sink *sink);
/* What time changes: silences that began or ended, hours of a rate that are over. Alerts that still
 * fire are told then. */
struct lyap_alert_watch {
    const struct lyap_rules *rules;
    const struct lyap_silences *silences;
    const struct lyap_labels *labels; /* of the run */
    int64_t now_ns;
};
bool lyap_alerts_is_look_due(const struct lyap_alerts *alerts, const struct lyap_silences *silences,
                             int64_t now_ns);
LYAP_MUST_CHECK enum lyap_status lyap_alerts_look(struct lyap_alerts *alerts,
                                                  const struct lyap_alert_watch *watch,
                                                  const struct lyap_alert_sink *sink);
/* An alert fires of which nobody was told yet. */
bool lyap_alerts_is_held(const struct lyap_alerts *alerts);
/* The open alert of this id, or NULL; the caller may acknowledge it and stores it then. */
struct lyap_alert *lyap_alerts_find(struct lyap_alerts *alerts, int64_t id);

uint32_t lyap_alerts_count(const struct lyap_alerts *alerts);
const struct lyap_alert *lyap_alerts_get(const struct lyap_alerts *alerts, uint32_t index);
uint32_t lyap_alerts_dropped(const struct lyap_alerts *alerts); /* for want of a place */
/* A firing critical alert of another kind than silent_seconds; a firing silent one. */
bool lyap_alerts_is_unstable(const struct lyap_alerts *alerts);
bool lyap_alerts_is_silent(const struct lyap_alerts *alerts);
bool lyap_alerts_has_tensor(const struct lyap_alerts *alerts); /* an open alert of a tensor */
/* Strongest action of the firing alerts (stop > rollback > skip > reduce_lr > continue). */
enum lyap_action_kind lyap_alerts_action(const struct lyap_alerts *alerts,
                                         const struct lyap_rules *rules);
/* Whether an alert that advises a lower learning rate fired at `step`, or has gone on unabated past
 * another LYAP_ADVICE_PATIENCE steps since the point at `step_before`. */
bool lyap_alerts_advice_is_due(const struct lyap_alerts *alerts, const struct lyap_rules *rules,
                               int64_t step_before, int64_t step);

/* evidence.c: summary for people and evidence as JSON; free() both. */
struct lyap_alert_cause {
    const struct lyap_rule_entry *entry;
    const struct lyap_alert_input *input;
    const char *tensor; /* or NULL */
    struct lyap_value value;
    uint32_t nonfinite; /* values that the windows left out */
};
char *lyap_evidence_summary(const struct lyap_alert_cause *cause);
char *lyap_evidence_json(const struct lyap_alert_cause *cause);

#endif
