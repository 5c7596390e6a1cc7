/* Rules: defaults with their sources, checks, the rules in force. */
#include "rules.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"

#define LOG_1E4 9.210340371976182 /* ln 1e4, the level monitor's alarm (SPEC 3.6) */

/* name, metric, comparison, threshold, clear, for, clear steps, once, min points, severity,
 * action, source. NAN as clear: the threshold. */
#define R(n, m, c, t, cl, f, cs, once, mp, sev, act, src)                                          \
    {                                                                                              \
        .name = n, .version = 1, .is_enabled = true, .is_builtin = true, .metric = m,              \
        .comparison = LYAP_CMP_##c, .threshold = t, .clear = cl, .for_steps = f,                   \
        .clear_steps = cs, .is_once = once, .min_points = mp, .severity = LYAP_SEVERITY_##sev,     \
        .action = LYAP_ACTION_##act, .source = src                                                 \
    }

static const struct lyap_rule defaults[] = {
    R("nonfinite", "nonfinite", GT, 0, NAN, 1, 5, false, 1, CRITICAL, STOP,
      "SPEC 6.4: any non-finite parameter, gradient or loss of a step that was not skipped"),
    R("instability", "instability_rules", GE, 1, 0.7, 1, 10, false, 1, CRITICAL, REDUCE_LR,
      "docs/detection.md: R2 R3 R4 R7 R8 at default sensitivity; clears below the early one (x "
      "0.7)"),
    R("edge", "stability_ratio", GT, 0.95, 0.9, 1, 5, false, 1, INFO, CONTINUE,
      "SPEC 9: full-batch training lives there"),
    R("limit-crossed", "limit_crossing", GT, 1.2, NAN, 1, 5, false, 1, WARNING, REDUCE_LR,
      "SPEC 9: the ratio rose past 1.2 in one probe together with the learning rate"),
    R("unstable", "unstable_ratio", GT, 1.05, 1, 1, 5, false, 1, CRITICAL, REDUCE_LR,
      "SPEC 9: past the limit for five probes while the level monitor is in alarm"),
    R("energy-violation", "loss_level_evidence", GE, LOG_1E4, NAN, 1, 16, false, 1, CRITICAL,
      CONTINUE, "SPEC 3.6, 9: level monitor at 1e4; on the training loss class C, so a warning"),
    R("spike", "probe_loss_ratio", GT, 2, 1.5, 1, 3, false, 1, INFO, CONTINUE,
      "SPEC 9: probe loss above twice its best; happens in healthy runs"),
    R("representation-growth", "empirical_gain_growth", GT, 2, 1.5, 1, 3, false, 1, INFO, CONTINUE,
      "SPEC 9: the gain of pushed perturbed activations doubled within the shortest window"),
    R("inconsistent-data", "inconsistency", GT, 0.1, 0.05, 3, 5, false, 1, WARNING, CONTINUE,
      "SPEC 9: loss and gradient are not of the same function; thrice, since one step across the "
      "probe's gradient does next to no work"),
    R("delta-precision", "delta_precision", GT, 0.1, 0.05, 1, 10, false, 1, INFO, CONTINUE,
      "SPEC 6.2: differences of stored parameters drown in their rounding"),
    R("optimizer-mismatch", "update_identity", GT, 0.05, 0.02, 1, 10, true, 1, WARNING, CONTINUE,
      "SPEC 0.1, 9: the update is not the declared optimizer's"),
    R("silent-run", "silent_seconds", GT, 600, NAN, 1, 1, false, 0, WARNING, CONTINUE,
      "field practice: no telemetry for ten minutes (Marin, DLRover)"),
};
#undef R

enum { DEFAULT_COUNT = sizeof defaults / sizeof *defaults };

uint32_t lyap_rules_default_count(void)
{
    return DEFAULT_COUNT;
}

const struct lyap_rule *lyap_rules_default(uint32_t index)
{
    return &defaults[index];
}

const struct lyap_rule *lyap_rules_default_find(const char *name)
{
    for (unsigned i = 0; i < DEFAULT_COUNT; i++)
        if (strcmp(defaults[i].name, name) == 0)
            return &defaults[i];
    return NULL;
}

/* Two thresholds, where NaN (clear: "the threshold") equals NaN. */
static bool same_number(double a, double b)
{
    return (isnan(a) && isnan(b)) || (a <= b && a >= b);
}

static bool same_text(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

bool lyap_rules_same(const struct lyap_rule *a, const struct lyap_rule *b)
{
    return same_text(a->metric, b->metric) && same_text(a->tensor_pattern, b->tensor_pattern) &&
           a->comparison == b->comparison && same_number(a->threshold, b->threshold) &&
           same_number(a->clear, b->clear) && a->for_steps == b->for_steps &&
           a->clear_steps == b->clear_steps && a->is_once == b->is_once &&
           a->min_points == b->min_points && a->severity == b->severity && a->action == b->action &&
           same_text(a->runs_json, b->runs_json) && same_text(a->source, b->source) &&
           same_text(a->notify_json, b->notify_json);
}

/* Kind and metric of a rule; E_UNKNOWN_FIELD. */
static enum lyap_status rule_resolve(const struct lyap_rule *rule, struct lyap_rule_entry *entry,
                                     struct lyap_error *reterr)
{
    if (rule->tensor_pattern[0]) {
        entry->kind = LYAP_RULE_TENSOR_METRIC;
        if (lyap_tensor_metric_parse(rule->metric, &entry->tensor_metric))
            return LYAP_OK;
        return lyap_error_set(reterr, LYAP_E_UNKNOWN_FIELD,
                              "metric = \"%s\" is no metric of tensors; a rule with a tensor "
                              "pattern needs one",
                              rule->metric);
    }
    if (strcmp(rule->metric, "silent_seconds") == 0)
        entry->kind = LYAP_RULE_SILENT_SECONDS;
    else if (strcmp(rule->metric, "nonfinite") == 0)
        entry->kind = LYAP_RULE_NONFINITE;
    else if (lyap_metric_parse(rule->metric, &entry->metric))
        entry->kind = LYAP_RULE_METRIC;
    else
        return lyap_error_set(reterr, LYAP_E_UNKNOWN_FIELD,
                              "metric = \"%s\" is no metric of points, nor silent_seconds or "
                              "nonfinite",
                              rule->metric);
    return LYAP_OK;
}

enum lyap_status lyap_rules_check(const struct lyap_rule *rule, struct lyap_error *reterr)
{
    struct lyap_rule_entry scratch = { .kind = LYAP_RULE_METRIC };
    if (!lyap_rule_name_is_valid(rule->name))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "name of a rule: 1 to %d of A-Z a-z 0-9 . _ -",
                              LYAP_RULE_NAME_BYTES_MAX);
    if (!isfinite(rule->threshold))
        return lyap_error_set(reterr, LYAP_E_INVALID, "threshold = %g: must be a finite number",
                              rule->threshold);
    if (isinf(rule->clear))
        return lyap_error_set(reterr, LYAP_E_INVALID, "clear = %g: must be a finite number",
                              rule->clear);
    const bool is_above = rule->comparison == LYAP_CMP_GT || rule->comparison == LYAP_CMP_GE;
    if (is_above ? rule->clear > rule->threshold : rule->clear < rule->threshold)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "clear = %g lies beyond threshold = %g: the alert could fire and "
                              "clear at once",
                              rule->clear, rule->threshold);
    if (rule->for_steps < 1 || rule->for_steps > LYAP_WINDOW_MAX)
        return lyap_error_set(reterr, LYAP_E_INVALID, "for = %u: must be 1 to %d points",
                              rule->for_steps, LYAP_WINDOW_MAX);
    if (rule->clear_steps < 1 || rule->clear_steps > LYAP_WINDOW_MAX)
        return lyap_error_set(reterr, LYAP_E_INVALID, "clear_for = %u: must be 1 to %d points",
                              rule->clear_steps, LYAP_WINDOW_MAX);
    return rule_resolve(rule, &scratch, reterr);
}

static void entry_release(struct lyap_rule_entry *entry)
{
    lyap_free((char *)entry->rule.runs_json);
    lyap_free((char *)entry->rule.source);
    lyap_free((char *)entry->rule.notify_json);
    lyap_labels_release(&entry->selector);
}

static enum lyap_status entry_build(const struct lyap_rule *rule, struct lyap_rule_entry *ret,
                                    struct lyap_error *reterr)
{
    struct lyap_rule_entry entry = { .rule = *rule };
    entry.rule.runs_json = entry.rule.source = entry.rule.notify_json = NULL;
    enum lyap_status status = lyap_rules_check(rule, reterr);
    if (status == LYAP_OK)
        status = rule_resolve(rule, &entry, reterr);
    if (status == LYAP_OK)
        status = lyap_labels_parse(rule->runs_json, &entry.selector);
    if (status == LYAP_E_FORMAT)
        (void)lyap_error_set(reterr, status, "runs: must be an object of strings");
    if (status == LYAP_OK && rule->runs_json &&
        !(entry.rule.runs_json = lyap_alloc_string(rule->runs_json)))
        status = LYAP_E_NOMEM;
    if (status == LYAP_OK && rule->source && !(entry.rule.source = lyap_alloc_string(rule->source)))
        status = LYAP_E_NOMEM;
    if (status == LYAP_OK && rule->notify_json &&
        !(entry.rule.notify_json = lyap_alloc_string(rule->notify_json)))
        status = LYAP_E_NOMEM;
    if (status == LYAP_OK)
        *ret = entry;
    else
        entry_release(&entry);
    return status;
}

static enum lyap_status rules_grow(struct lyap_rules *rules, struct lyap_error *reterr)
{
    if (rules->count >= LYAP_RULE_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "there are %d rules already, the maximum",
                              LYAP_RULE_COUNT_MAX);
    if (rules->count < rules->capacity)
        return LYAP_OK;
    const uint32_t capacity = rules->capacity ? rules->capacity * 2 : 16;
    struct lyap_rule_entry *entries = lyap_alloc_array(capacity, sizeof *entries);
    if (!entries)
        return LYAP_E_NOMEM;
    if (rules->count)
        memcpy(entries, rules->entries, rules->count * sizeof *entries);
    lyap_free(rules->entries);
    rules->entries = entries;
    rules->capacity = capacity;
    return LYAP_OK;
}

enum lyap_status lyap_rules_put(struct lyap_rules *rules, const struct lyap_rule *rule,
                                struct lyap_error *reterr)
{
    struct lyap_rule_entry entry;
    enum lyap_status status = entry_build(rule, &entry, reterr);
    if (status != LYAP_OK)
        return status;
    struct lyap_rule_entry *present = lyap_rules_find(rules, rule->name);
    if (!present && (status = rules_grow(rules, reterr)) != LYAP_OK) {
        entry_release(&entry);
        return status;
    }
    if (present)
        entry_release(present);
    *(present ? present : &rules->entries[rules->count++]) = entry;
    return LYAP_OK;
}

void lyap_rules_remove(struct lyap_rules *rules, const char *name)
{
    struct lyap_rule_entry *entry = lyap_rules_find(rules, name);
    if (!entry)
        return;
    entry_release(entry);
    const uint32_t index = (uint32_t)(entry - rules->entries);
    memmove(entry, entry + 1, (rules->count - index - 1) * sizeof *entry);
    rules->count--;
}

struct lyap_rule_entry *lyap_rules_find(const struct lyap_rules *rules, const char *name)
{
    for (uint32_t i = 0; i < rules->count; i++)
        if (strcmp(rules->entries[i].rule.name, name) == 0)
            return &rules->entries[i];
    return NULL;
}

void lyap_rules_release(struct lyap_rules *rules)
{
    for (uint32_t i = 0; i < rules->count; i++)
        entry_release(&rules->entries[i]);
    lyap_free(rules->entries);
    *rules = (struct lyap_rules)LYAP_RULES_NULL;
}

bool lyap_rule_compare(enum lyap_comparison comparison, double value, double threshold)
{
    switch (comparison) {
    case LYAP_CMP_GT:
        return value > threshold;
    case LYAP_CMP_GE:
        return value >= threshold;
    case LYAP_CMP_LT:
        return value < threshold;
    case LYAP_CMP_LE:
        break;
    }
    return value <= threshold;
}

const char *lyap_rule_formula(const struct lyap_rule_entry *entry)
{
    switch (entry->kind) {
    case LYAP_RULE_METRIC:
        return lyap_metric_info(entry->metric)->formula;
    case LYAP_RULE_TENSOR_METRIC:
        return lyap_tensor_metric_formula(entry->tensor_metric);
    case LYAP_RULE_SILENT_SECONDS:
        return "seconds since the last push";
    case LYAP_RULE_NONFINITE:
        break;
    }
    return "non-finite elements of theta_t and g_t, and non-finite losses";
}

static void number_markdown(struct lyap_buffer *text, double value)
{
    char digits[40];
    (void)snprintf(digits, sizeof digits, "%.4g", value);
    lyap_buffer_add(text, "%s", digits);
}

void lyap_rules_markdown(struct lyap_buffer *text)
{
    lyap_buffer_add(
        text,
        "# Rules\n\n"
        "Written by `lyapd --docs rules` from the table in `daemon/rules.c`.\n\n"
        "A rule compares a metric of each point (docs/metrics.md), of each tensor its pattern "
        "matches, or a condition of\nthe daemon (`nonfinite`, `silent_seconds`) with a threshold. "
        "An alert is pending from the first point that meets\nthe comparison, firing after `for` "
        "such points in a row, resolved after `clear_for` points in a row on the good side\nof "
        "`clear`. A point without the metric changes nothing: absent is neither good nor bad. NaN "
        "is the business of rule\n`nonfinite` alone. A value of trust class C raises at most a "
        "warning. Only warning and critical notify.\n\n"
        "`PUT /v1/rules/{name}` makes a rule or replaces one of these. `DELETE` of a replaced "
        "default brings the default\nback, `DELETE` of a default as it came switches it off "
        "(`\"enabled\":true` by PUT switches it on again), `DELETE` of\nany other rule removes it. "
        "Open alerts of a rule that went, or no longer selects the run, resolve.\n\n"
        "| rule | fires when | for | clears at | after | severity | action | source |\n"
        "|---|---|---|---|---|---|---|---|\n");
    for (unsigned i = 0; i < DEFAULT_COUNT; i++) {
        const struct lyap_rule *rule = &defaults[i];
        lyap_buffer_add(text, "| `%s` | `%s` %s ", rule->name, rule->metric,
                        lyap_comparison_name(rule->comparison));
        number_markdown(text, rule->threshold);
        lyap_buffer_add(text, "%s | %u | ", rule->is_once ? ", once an attempt" : "",
                        rule->for_steps);
        number_markdown(text, isnan(rule->clear) ? rule->threshold : rule->clear);
        lyap_buffer_add(text, " | %u | %s | %s | %s |\n", rule->clear_steps,
                        lyap_severity_name(rule->severity), lyap_action_name(rule->action),
                        rule->source);
    }
}
