/* Rules: checks, the rules in force. */
#include "rules.h"

#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/glob.h"

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
           a->cooldown_steps == b->cooldown_steps && a->cooldown_s == b->cooldown_s &&
           a->notify_per_hour == b->notify_per_hour && same_text(a->cause, b->cause) &&
           same_text(a->run_pattern, b->run_pattern) && same_text(a->runs_json, b->runs_json) &&
           same_text(a->source, b->source) && same_text(a->notify_json, b->notify_json);
}

/* Kind and expression of a rule; the parser's errors. */
static enum lyap_status rule_resolve(const struct lyap_rule *rule, struct lyap_rule_entry *entry,
                                     struct lyap_error *reterr)
{
    entry->kind = rule->tensor_pattern[0] ? LYAP_RULE_TENSOR_METRIC : LYAP_RULE_METRIC;
    if (strcmp(rule->metric, "silent_seconds") == 0)
        entry->kind = LYAP_RULE_SILENT_SECONDS;
    else if (strcmp(rule->metric, "nonfinite") == 0)
        entry->kind = LYAP_RULE_NONFINITE;
    else if (lyap_condition_parse(rule->metric, &entry->condition))
        entry->kind = lyap_condition_is_own(entry->condition) ? LYAP_RULE_OWN : LYAP_RULE_CONDITION;
    else
        return lyap_expr_parse(rule->metric, entry->kind == LYAP_RULE_TENSOR_METRIC, &entry->expr,
                               reterr);
    if (rule->tensor_pattern[0])
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "tensor: metric %s is of the whole run and takes no pattern",
                              rule->metric);
    if (entry->kind == LYAP_RULE_OWN &&
        (rule->run_pattern[0] || rule->runs_json || rule->cooldown_steps || rule->action))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "metric %s is of the daemon itself, which has no run, labels, steps "
                              "or advice: run, runs, cooldown and action have no meaning",
                              rule->metric);
    return LYAP_OK;
}

static enum lyap_status check_count(const char *field, uint32_t value, uint32_t max,
                                    struct lyap_error *reterr)
{
    if (value <= max)
        return LYAP_OK;
    return lyap_error_set(reterr, LYAP_E_INVALID, "%s = %u: at most %u", field, value, max);
}

/* When it may open and tell again. */
static enum lyap_status check_pace(const struct lyap_rule *rule, struct lyap_error *reterr)
{
    enum lyap_status status =
        check_count("cooldown", rule->cooldown_steps, LYAP_WINDOW_MAX, reterr);
    if (status == LYAP_OK)
        status = check_count("cooldown_s", rule->cooldown_s, LYAP_RULE_SECONDS_MAX, reterr);
    if (status == LYAP_OK)
        status = check_count("notify_per_hour", rule->notify_per_hour, LYAP_RULE_RATE_MAX, reterr);
    if (status == LYAP_OK && rule->cause[0] && !lyap_rule_name_is_valid(rule->cause))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "cause = \"%s\": 1 to %d of A-Z a-z 0-9 . _ -", rule->cause,
                              LYAP_RULE_NAME_BYTES_MAX);
    return status;
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
    const enum lyap_status status = check_pace(rule, reterr);
    return status == LYAP_OK ? rule_resolve(rule, &scratch, reterr) : status;
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

static bool has_expression(const struct lyap_rule_entry *entry)
{
    return entry->kind == LYAP_RULE_METRIC || entry->kind == LYAP_RULE_TENSOR_METRIC;
}

/* What the rules in force look back at. */
static void rules_measure(struct lyap_rules *rules)
{
    rules->needs = (struct lyap_lookback_needs){ .depth = 0 };
    for (uint32_t i = 0; i < rules->count; i++)
        if (rules->entries[i].rule.is_enabled && has_expression(&rules->entries[i]))
            lyap_expr_needs(&rules->entries[i].expr, &rules->needs);
}

/* What the windows of the other rules read and this one's would stays bounded. */
static enum lyap_status check_cost(const struct lyap_rules *rules,
                                   const struct lyap_rule_entry *entry, struct lyap_error *reterr)
{
    uint64_t values = has_expression(entry) ? lyap_expr_cost(&entry->expr) : 0;
    for (uint32_t i = 0; values > 0 && i < rules->count; i++)
        if (has_expression(&rules->entries[i]) &&
            strcmp(rules->entries[i].rule.name, entry->rule.name) != 0)
            values += lyap_expr_cost(&rules->entries[i].expr);
    if (values <= LYAP_RULE_WINDOW_VALUES_MAX)
        return LYAP_OK;
    return lyap_error_set(
        reterr, LYAP_E_LIMIT,
        "metric: the windows of all rules together would read %llu values at each "
        "point; at most %d",
        (unsigned long long)values, LYAP_RULE_WINDOW_VALUES_MAX);
}

enum lyap_status lyap_rules_put(struct lyap_rules *rules, const struct lyap_rule *rule,
                                struct lyap_error *reterr)
{
    struct lyap_rule_entry entry;
    enum lyap_status status = entry_build(rule, &entry, reterr);
    if (status != LYAP_OK)
        return status;
    struct lyap_rule_entry *present = lyap_rules_find(rules, rule->name);
    status = check_cost(rules, &entry, reterr);
    if (status == LYAP_OK && !present)
        status = rules_grow(rules, reterr);
    if (status != LYAP_OK) {
        entry_release(&entry);
        return status;
    }
    if (present)
        entry_release(present);
    *(present ? present : &rules->entries[rules->count++]) = entry;
    rules_measure(rules);
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
    rules_measure(rules);
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

bool lyap_rule_selects(const struct lyap_rule_entry *entry, const char *run,
                       const struct lyap_labels *labels)
{
    const char *pattern = entry->rule.run_pattern;
    return (!pattern[0] || lyap_glob_match(pattern, run)) &&
           lyap_labels_match(&entry->selector, labels);
}

const char *lyap_rule_cause(const struct lyap_rule *rule)
{
    return rule->cause[0] ? rule->cause : rule->name;
}

bool lyap_rule_is_of(const struct lyap_rule_entry *entry, enum lyap_metric metric)
{
    enum lyap_metric found;
    return entry->kind == LYAP_RULE_METRIC && lyap_expr_is_metric(&entry->expr, &found) &&
           found == metric;
}

static void add_formula(struct lyap_buffer *text, bool is_alone, const char *name,
                        const char *formula)
{
    if (is_alone)
        lyap_buffer_add(text, "%s", formula);
    else
        lyap_buffer_add(text, "%s%s: %s", text->length ? "; " : "", name, formula);
}

void lyap_rule_formula(const struct lyap_rule_entry *entry, struct lyap_buffer *text)
{
    if (entry->kind == LYAP_RULE_SILENT_SECONDS)
        lyap_buffer_add(text, "seconds since the last push");
    if (entry->kind == LYAP_RULE_NONFINITE)
        lyap_buffer_add(text, "non-finite elements of theta_t and g_t, and non-finite losses");
    if (entry->kind == LYAP_RULE_CONDITION || entry->kind == LYAP_RULE_OWN)
        lyap_buffer_add(text, "%s", lyap_condition_formula(entry->condition));
    if (!has_expression(entry))
        return;
    const bool is_alone = entry->expr.count == 1;
    for (uint32_t i = 0; i < entry->expr.count; i++) {
        const struct lyap_expr_node *node = &entry->expr.nodes[i];
        const enum lyap_metric metric = (enum lyap_metric)node->metric;
        const enum lyap_tensor_metric tensor_metric = (enum lyap_tensor_metric)node->metric;
        if (node->op == LYAP_EXPR_METRIC || node->op >= LYAP_EXPR_LAG)
            add_formula(text, is_alone, lyap_metric_info(metric)->name,
                        lyap_metric_info(metric)->formula);
        if (node->op == LYAP_EXPR_TENSOR_METRIC)
            add_formula(text, is_alone, lyap_tensor_metric_name(tensor_metric),
                        lyap_tensor_metric_formula(tensor_metric));
    }
}
