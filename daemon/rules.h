/* rules.h - thresholds as data: the packs of rules that the daemon brings, the rules in force, and
 * what a rule looks at. The state machine is alerts.h's.
 * THREADS: owned by the engine. */
#ifndef LYAP_RULES_H
#define LYAP_RULES_H

#include "labels.h"
#include "lyap/expr.h"
#include "lyap/record.h"
#include "buffer.h"

/* What a rule compares. METRIC: an expression over points. TENSOR_METRIC: one over the metrics of
 * each tensor that the pattern matches. SILENT_SECONDS: time since the last push of a run that has
 * not ended. NONFINITE: non-finite elements and losses of a point, skipped steps excepted.
 * CONDITION: one of the table of record.h, of a point; OWN: one of the daemon itself. */
enum lyap_rule_kind {
    LYAP_RULE_METRIC,
    LYAP_RULE_TENSOR_METRIC,
    LYAP_RULE_SILENT_SECONDS,
    LYAP_RULE_NONFINITE,
    LYAP_RULE_CONDITION,
    LYAP_RULE_OWN
};

struct lyap_rule_entry {
    struct lyap_rule rule; /* runs_json and source are owned */
    enum lyap_rule_kind kind;
    struct lyap_expr expr;         /* METRIC, TENSOR_METRIC */
    enum lyap_condition condition; /* CONDITION, OWN */
    struct lyap_labels selector;
};

struct lyap_rules {
    struct lyap_rule_entry *entries; /* owned; sorted as they came */
    uint32_t count, capacity;
    struct lyap_lookback_needs needs; /* of the enabled ones */
};
#define LYAP_RULES_NULL                                                                            \
    {                                                                                              \
        0                                                                                          \
    }

/* packs.c: the packs; the first is `default`, which alone is on from the start. NULL past the end.
 */
const struct lyap_pack *lyap_packs_get(uint32_t index);
const struct lyap_pack *lyap_packs_find(const char *name);
/* The rule of this name in any pack, or NULL. */
const struct lyap_rule *lyap_packs_rule(const char *name);
/* Shipped, as stored: true when the two say the same, version apart. */
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

/* Whether the rule looks at runs of this name and these labels. */
bool lyap_rule_selects(const struct lyap_rule_entry *entry, const char *run,
                       const struct lyap_labels *labels);
/* What its alerts are grouped by. */
const char *lyap_rule_cause(const struct lyap_rule *rule);
/* True when the rule compares one metric of the point and nothing else. */
bool lyap_rule_is_of(const struct lyap_rule_entry *entry, enum lyap_metric metric);
bool lyap_rule_compare(enum lyap_comparison comparison, double value, double threshold);
/* Formulas behind what the rule compares, `;` between them. */
void lyap_rule_formula(const struct lyap_rule_entry *entry, struct lyap_buffer *text);
/* docs/rules.md. */
void lyap_rules_markdown(struct lyap_buffer *text);

#endif
