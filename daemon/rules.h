/* rules.h - thresholds as data: the table of defaults, the rules in force, and what a rule looks
 * at. The state machine is alerts.h's.
 * THREADS: owned by the engine. */
#ifndef LYAP_RULES_H
#define LYAP_RULES_H

#include "labels.h"
#include "lyap/metric.h"
#include "lyap/record.h"
#include "buffer.h"

/* What a rule compares. SILENT_SECONDS: time since the last push of a run that has not ended.
 * NONFINITE: non-finite elements and losses of a point, skipped steps excepted. */
enum lyap_rule_kind {
    LYAP_RULE_METRIC,
    LYAP_RULE_TENSOR_METRIC,
    LYAP_RULE_SILENT_SECONDS,
    LYAP_RULE_NONFINITE
};

struct lyap_rule_entry {
    struct lyap_rule rule; /* runs_json and source are owned */
    enum lyap_rule_kind kind;
    enum lyap_metric metric;               /* METRIC */
    enum lyap_tensor_metric tensor_metric; /* TENSOR_METRIC */
    struct lyap_labels selector;
};

struct lyap_rules {
    struct lyap_rule_entry *entries; /* owned; sorted as they came */
    uint32_t count, capacity;
};
#define LYAP_RULES_NULL                                                                            \
    {                                                                                              \
        0                                                                                          \
    }

/* Number of the defaults and one of them (static strings). */
uint32_t lyap_rules_default_count(void);
const struct lyap_rule *lyap_rules_default(uint32_t index);
/* The default of this name, or NULL. */
const struct lyap_rule *lyap_rules_default_find(const char *name);
/* Default, as stored: true when the two say the same, version apart. */
bool lyap_rules_same(const struct lyap_rule *a, const struct lyap_rule *b);

/* E_INVALID naming field, value and range; E_UNKNOWN_FIELD for a metric that is none. */
LYAP_MUST_CHECK enum lyap_status lyap_rules_check(const struct lyap_rule *rule,
                                                  struct lyap_error *reterr);
/* Adds or replaces by name; copies. As lyap_rules_check, E_LIMIT, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status
lyap_rules_put(struct lyap_rules *rules, const struct lyap_rule *rule, struct lyap_error *reterr);
void lyap_rules_remove(struct lyap_rules *rules, const char *name);
struct lyap_rule_entry *lyap_rules_find(const struct lyap_rules *rules, const char *name);
void lyap_rules_release(struct lyap_rules *rules);

bool lyap_rule_compare(enum lyap_comparison comparison, double value, double threshold);
/* Formula behind what the rule compares. */
const char *lyap_rule_formula(const struct lyap_rule_entry *entry);
/* docs/rules.md. */
void lyap_rules_markdown(struct lyap_buffer *text);

#endif
