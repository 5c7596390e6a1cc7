/* Defaults, checks and the set of rules in force. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/score.h"
#include "rules.h"
#include "support.h"

START_TEST(every_shipped_rule_is_valid_and_states_its_source)
{
    const struct lyap_pack *pack = lyap_packs_get((uint32_t)_i);
    ck_assert_ptr_eq(lyap_packs_find(pack->name), pack);
    for (uint32_t i = 0; i < pack->count; i++) {
        const struct lyap_rule *rule = &pack->rules[i];
        struct lyap_error error = LYAP_ERROR_NULL;
        ck_assert_msg(lyap_rules_check(rule, &error) == LYAP_OK, "%s: %s", rule->name, error.text);
        ck_assert_ptr_nonnull(rule->source);
        ck_assert(strlen(rule->source) > 8);
        ck_assert(rule->is_builtin && rule->is_enabled && rule->version == 1);
        ck_assert_ptr_eq(lyap_packs_rule(rule->name), rule); /* no name twice */
        ck_assert(lyap_rules_same(rule, rule));
    }
}
END_TEST

/* Name, metric, severity, action of SPEC 9 and of what is computed now. */
static const struct {
    const char *name, *metric;
    double threshold;
    enum lyap_severity severity;
    enum lyap_action_kind action;
} expected[] = {
    { "nonfinite", "nonfinite", 0, LYAP_SEVERITY_CRITICAL, LYAP_ACTION_ROLLBACK },
    { "instability", "instability_score", LYAP_SCORE_DEFAULT, LYAP_SEVERITY_CRITICAL,
      LYAP_ACTION_REDUCE_LR },
    { "instability-early", "instability_score", LYAP_SCORE_EARLY, LYAP_SEVERITY_INFO,
      LYAP_ACTION_CONTINUE },
    { "instability-next", "instability_score_next", LYAP_SCORE_DEFAULT, LYAP_SEVERITY_INFO,
      LYAP_ACTION_CONTINUE },
    { "edge", "stability_ratio", .95, LYAP_SEVERITY_INFO, LYAP_ACTION_CONTINUE },
    { "limit-crossed", "limit_crossing", 1.2, LYAP_SEVERITY_WARNING, LYAP_ACTION_REDUCE_LR },
    { "unstable", "unstable_ratio", 1.05, LYAP_SEVERITY_CRITICAL, LYAP_ACTION_REDUCE_LR },
    { "energy-violation", "loss_level_evidence", 9.210340371976184, LYAP_SEVERITY_CRITICAL,
      LYAP_ACTION_CONTINUE },
    { "spike", "probe_loss_ratio", 2, LYAP_SEVERITY_INFO, LYAP_ACTION_CONTINUE },
    { "representation-growth", "empirical_gain_growth", 2, LYAP_SEVERITY_INFO,
      LYAP_ACTION_CONTINUE },
    { "inconsistent-data", "inconsistency", .1, LYAP_SEVERITY_WARNING, LYAP_ACTION_CONTINUE },
    { "delta-precision", "delta_precision", .1, LYAP_SEVERITY_INFO, LYAP_ACTION_CONTINUE },
    { "optimizer-mismatch", "update_identity", .05, LYAP_SEVERITY_WARNING, LYAP_ACTION_CONTINUE },
    { "dead-tensors", "dead_tensors", 0, LYAP_SEVERITY_INFO, LYAP_ACTION_CONTINUE },
    { "stuck-tensors", "stuck_tensors", 0, LYAP_SEVERITY_WARNING, LYAP_ACTION_CONTINUE },
    { "sensitive", "sensitive_horizon", 2.302585092994046, LYAP_SEVERITY_INFO,
      LYAP_ACTION_CONTINUE },
    { "silent-run", "silent_seconds", 600, LYAP_SEVERITY_WARNING, LYAP_ACTION_CONTINUE },
    { "late-rank", "missing_ranks", 0, LYAP_SEVERITY_WARNING, LYAP_ACTION_CONTINUE },
    { "dropped-pushes", "dropped_pushes", 0, LYAP_SEVERITY_WARNING, LYAP_ACTION_CONTINUE },
    { "clock-skew", "clock_skew_seconds", 30, LYAP_SEVERITY_WARNING, LYAP_ACTION_CONTINUE },
    { "clock-behind", "clock_skew_seconds", -30, LYAP_SEVERITY_WARNING, LYAP_ACTION_CONTINUE },
    { "refused-pushes", "refused_pushes", 0, LYAP_SEVERITY_WARNING, LYAP_ACTION_CONTINUE },
    { "queue-full", "queue_fill", .9, LYAP_SEVERITY_WARNING, LYAP_ACTION_CONTINUE },
    { "disk-low", "disk_headroom", 2, LYAP_SEVERITY_CRITICAL, LYAP_ACTION_CONTINUE },
    { "delivery-failing", "delivery_delay_seconds", 300, LYAP_SEVERITY_WARNING,
      LYAP_ACTION_CONTINUE },
};

START_TEST(defaults_are_those_of_the_specification)
{
    const struct lyap_rule *rule = lyap_packs_rule(expected[_i].name);
    ck_assert_ptr_nonnull(rule);
    ck_assert_str_eq(rule->metric, expected[_i].metric);
    test_close(rule->threshold, expected[_i].threshold, 1e-14);
    ck_assert_int_eq(rule->severity, expected[_i].severity);
    ck_assert_int_eq(rule->action, expected[_i].action);
    ck_assert_uint_eq(lyap_packs_get(0)->count, sizeof expected / sizeof *expected);
    ck_assert_str_eq(lyap_packs_get(0)->name, "default");
}
END_TEST

static struct lyap_rule good(void)
{
    return (struct lyap_rule){ .name = "mine",
                               .is_enabled = true,
                               .metric = "grad_norm",
                               .threshold = 10,
                               .clear = NAN,
                               .for_steps = 1,
                               .clear_steps = 1 };
}

static enum lyap_status check_changed(int change, struct lyap_error *error)
{
    struct lyap_rule rule = good();
    switch (change) {
    case 0:
        return lyap_rules_check(&rule, error);
    case 1:
        rule.name[0] = ' ';
        break;
    case 2:
        rule.threshold = NAN;
        break;
    case 3:
        rule.clear = INFINITY;
        break;
    case 4:
        rule.clear = 11; /* beyond the threshold */
        break;
    case 5:
        rule.comparison = LYAP_CMP_LT;
        rule.clear = 9;
        break;
    case 6:
        rule.for_steps = 0;
        break;
    case 7:
        rule.clear_steps = LYAP_WINDOW_MAX + 1;
        break;
    case 8:
        (void)snprintf(rule.metric, sizeof rule.metric, "no_such");
        break;
    default:
        (void)snprintf(rule.tensor_pattern, sizeof rule.tensor_pattern, "*");
        (void)snprintf(rule.metric, sizeof rule.metric, "loss"); /* none of tensors */
        break;
    }
    return lyap_rules_check(&rule, error);
}

static const char *const words[] = { "",      "name", "threshold", "clear",       "clear",
                                     "clear", "for",  "clear_for", "\"no_such\"", "\"loss\"" };

START_TEST(a_refusal_names_the_field)
{
    struct lyap_error error = LYAP_ERROR_NULL;
    const enum lyap_status status = check_changed(_i, &error);
    if (_i == 0) {
        ck_assert_int_eq(status, LYAP_OK);
        return;
    }
    ck_assert_int_ne(status, LYAP_OK);
    ck_assert_msg(strstr(error.text, words[_i]), "\"%s\" lacks %s", error.text, words[_i]);
}
END_TEST

START_TEST(rules_are_put_replaced_and_removed)
{
    struct lyap_rules rules = LYAP_RULES_NULL;
    struct lyap_rule rule = good();
    ck_assert_int_eq(lyap_rules_put(&rules, &rule, NULL), LYAP_OK);
    rule.threshold = 20;
    ck_assert_int_eq(lyap_rules_put(&rules, &rule, NULL), LYAP_OK);
    ck_assert_uint_eq(rules.count, 1);
    ck_assert_double_eq(lyap_rules_find(&rules, "mine")->rule.threshold, 20);
    rule.runs_json = "[1]";
    ck_assert_int_eq(lyap_rules_put(&rules, &rule, NULL), LYAP_E_FORMAT);
    ck_assert_ptr_null(lyap_rules_find(&rules, "mine")->rule.runs_json);
    rule = *lyap_packs_rule("edge");
    ck_assert_int_eq(lyap_rules_put(&rules, &rule, NULL), LYAP_OK);
    lyap_rules_remove(&rules, "mine");
    lyap_rules_remove(&rules, "mine");
    ck_assert_uint_eq(rules.count, 1);
    ck_assert_str_eq(rules.entries[0].rule.name, "edge");
    lyap_rules_release(&rules);
}
END_TEST

START_TEST(windows_of_all_rules_are_bounded)
{
    struct lyap_rules rules = LYAP_RULES_NULL;
    struct lyap_error error = LYAP_ERROR_NULL;
    struct lyap_rule rule = good();
    (void)snprintf(rule.metric, sizeof rule.metric, "mean(loss, 4096) + sd(lr, 4096)");
    const int fit = LYAP_RULE_WINDOW_VALUES_MAX / 8192;
    for (int i = 0; i < fit; i++) {
        (void)snprintf(rule.name, sizeof rule.name, "r%d", i);
        ck_assert_int_eq(lyap_rules_put(&rules, &rule, NULL), LYAP_OK);
        ck_assert_int_eq(lyap_rules_put(&rules, &rule, NULL), LYAP_OK); /* itself is not counted */
    }
    ck_assert_uint_eq(rules.needs.depth, 4096);
    (void)snprintf(rule.name, sizeof rule.name, "one-more");
    ck_assert_int_eq(lyap_rules_put(&rules, &rule, &error), LYAP_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(error.text, "262144"));
    (void)snprintf(rule.metric, sizeof rule.metric, "loss");
    ck_assert_int_eq(lyap_rules_put(&rules, &rule, NULL), LYAP_OK); /* without windows */
    lyap_rules_release(&rules);
}
END_TEST

START_TEST(rules_are_bounded)
{
    struct lyap_rules rules = LYAP_RULES_NULL;
    struct lyap_rule rule = good();
    for (int i = 0; i < LYAP_RULE_COUNT_MAX; i++) {
        (void)snprintf(rule.name, sizeof rule.name, "r%d", i);
        ck_assert_int_eq(lyap_rules_put(&rules, &rule, NULL), LYAP_OK);
    }
    (void)snprintf(rule.name, sizeof rule.name, "one-more");
    ck_assert_int_eq(lyap_rules_put(&rules, &rule, NULL), LYAP_E_LIMIT);
    lyap_rules_release(&rules);
}
END_TEST

START_TEST(comparisons)
{
    ck_assert(lyap_rule_compare(LYAP_CMP_GT, 2, 1) && !lyap_rule_compare(LYAP_CMP_GT, 1, 1));
    ck_assert(lyap_rule_compare(LYAP_CMP_GE, 1, 1) && !lyap_rule_compare(LYAP_CMP_GE, 0, 1));
    ck_assert(lyap_rule_compare(LYAP_CMP_LT, 0, 1) && !lyap_rule_compare(LYAP_CMP_LT, 1, 1));
    ck_assert(lyap_rule_compare(LYAP_CMP_LE, 1, 1) && !lyap_rule_compare(LYAP_CMP_LE, 2, 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rules");
    TCase *tests = tcase_create("rules");
    tcase_add_loop_test(tests, every_shipped_rule_is_valid_and_states_its_source, 0, (int)3);
    tcase_add_loop_test(tests, defaults_are_those_of_the_specification, 0,
                        sizeof expected / sizeof *expected);
    tcase_add_loop_test(tests, a_refusal_names_the_field, 0, 10);
    tcase_add_test(tests, rules_are_put_replaced_and_removed);
    tcase_add_test(tests, windows_of_all_rules_are_bounded);
    tcase_add_test(tests, rules_are_bounded);
    tcase_add_test(tests, comparisons);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
