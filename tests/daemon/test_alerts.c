/* State machine of alerts, table-driven: a series of values, the states it must go through. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "alerts.h"
#include "engine.h"
#include "lyap/alloc.h"
#include "support.h"

#define ABSENT INFINITY /* in the tables below */

struct record {
    struct lyap_alert alert;
    uint32_t puts;
    int64_t next_id;
    char log[64]; /* one letter per put: p f r */
    char summary[256], evidence[4096], tensor[64];
};

static enum lyap_status record_put(void *ctx, struct lyap_alert *alert)
{
    struct record *record = ctx;
    if (!alert->id)
        alert->id = ++record->next_id;
    ck_assert_uint_lt(record->puts, sizeof record->log - 1);
    record->log[record->puts++] = "pfr"[alert->state];
    record->alert = *alert;
    (void)snprintf(record->summary, sizeof record->summary, "%s", alert->summary);
    (void)snprintf(record->evidence, sizeof record->evidence, "%s", alert->evidence_json);
    (void)snprintf(record->tensor, sizeof record->tensor, "%s", alert->tensor ? alert->tensor : "");
    return LYAP_OK;
}

struct bench {
    struct lyap_rules rules;
    struct lyap_alerts *alerts;
    struct record record;
    struct lyap_alert_sink sink;
    struct lyap_labels labels;
    struct lyap_tensor tensors[2];
    struct lyap_tensor_set set;
    struct lyap_tensor_row rows[2];
    int64_t step;
    bool is_skipped;
};

static void bench_init(struct bench *bench, const struct lyap_rule *rule)
{
    static char first[] = "block.0.weight", second[] = "block.1.weight";
    *bench = (struct bench){ .tensors = { { .name = first, .count = 4 },
                                          { .name = second, .count = 4 } } };
    bench->set = (struct lyap_tensor_set){ .tensors = bench->tensors, .count = 2 };
    bench->sink = (struct lyap_alert_sink){ &bench->record, record_put };
    ck_assert_int_eq(lyap_alerts_new(&bench->alerts), LYAP_OK);
    if (rule)
        ck_assert_int_eq(lyap_rules_put(&bench->rules, rule, NULL), LYAP_OK);
}

static void bench_release(struct bench *bench)
{
    lyap_alerts_free(bench->alerts);
    lyap_rules_release(&bench->rules);
    lyap_labels_release(&bench->labels);
}

static enum lyap_status bench_step(struct bench *bench, const struct lyap_point *point)
{
    const struct lyap_alert_input input = { .run = "run",
                                            .run_id = 1,
                                            .labels = &bench->labels,
                                            .point = point,
                                            .rows = bench->rows,
                                            .set = &bench->set,
                                            .points = (uint32_t)bench->step + 1,
                                            .is_skipped = bench->is_skipped };
    return lyap_alerts_step(bench->alerts, &bench->rules, &input, &bench->sink);
}

static void point_of(struct bench *bench, struct lyap_point *point, enum lyap_metric metric,
                     double value, enum lyap_trust trust)
{
    lyap_point_init(point);
    point->step = bench->step;
    point->attempt = 1;
    point->time_ns = 1000 + bench->step;
    if (isinf(value))
        return;
    point->metrics[metric] = (struct lyap_value){
        .value = value, .error = NAN, .trust = (uint8_t)trust, .reason = LYAP_REASON_NONE
    };
}

static void feed(struct bench *bench, double value, enum lyap_trust trust)
{
    struct lyap_point point;
    point_of(bench, &point, LYAP_METRIC_GRAD_NORM, value, trust);
    ck_assert_int_eq(bench_step(bench, &point), LYAP_OK);
    bench->step++;
}

static struct lyap_rule rule_of(uint32_t for_steps, uint32_t clear_steps, bool is_once)
{
    return (struct lyap_rule){ .name = "big",
                               .version = 1,
                               .is_enabled = true,
                               .metric = "grad_norm",
                               .comparison = LYAP_CMP_GT,
                               .threshold = 10,
                               .clear = 5,
                               .for_steps = for_steps,
                               .clear_steps = clear_steps,
                               .is_once = is_once,
                               .min_points = 1,
                               .severity = LYAP_SEVERITY_CRITICAL,
                               .action = LYAP_ACTION_REDUCE_LR };
}

static const struct {
    uint32_t for_steps, clear_steps;
    bool is_once;
    double values[12];
    int count;
    const char *log;   /* every put */
    uint32_t open_end; /* open alerts after the last value */
} series[] = {
    { 1, 1, false, { 11 }, 1, "f", 1 },
    { 1, 1, false, { 9, 10 }, 2, "", 0 }, /* > is strict */
    { 3, 1, false, { 11, 12, 13 }, 3, "pf", 1 },
    { 3, 1, false, { 11, 12, 9, 11, 12 }, 5, "prp", 1 },
    { 3, 1, false, { 11, ABSENT, 12, NAN, 13 }, 5, "pf", 1 }, /* absent and NaN hold */
    { 3, 1, false, { ABSENT, NAN, ABSENT }, 3, "", 0 },
    { 1, 1, false, { 11, 7 }, 2, "f", 1 },  /* between clear and threshold: still firing */
    { 1, 1, false, { 11, 5 }, 2, "fr", 0 }, /* not > 5 */
    { 1, 3, false, { 11, 4, 4, 4 }, 4, "fr", 0 },
    { 1, 3, false, { 11, 4, 4, 6, 4, 4 }, 6, "f", 1 }, /* 6 > clear starts the count anew */
    { 1, 3, false, { 11, 4, ABSENT, 4, NAN, 4 }, 6, "fr", 0 },
    { 1, 1, false, { 11, 4, 11, 4 }, 4, "frfr", 0 },
    { 1, 1, true, { 11, 4, 11, 12 }, 4, "fr", 0 },               /* once an attempt */
    { 2, 1, true, { 11, 4, 11, 12, 4, 11, 12 }, 7, "prpfr", 0 }, /* pending is not a firing */
    { 1, 2, false, { 11, 4, 12, 4, 4 }, 5, "fr", 0 },
};

START_TEST(states_follow_the_series)
{
    struct bench bench;
    const struct lyap_rule rule =
        rule_of(series[_i].for_steps, series[_i].clear_steps, series[_i].is_once);
    bench_init(&bench, &rule);
    for (int i = 0; i < series[_i].count; i++)
        feed(&bench, series[_i].values[i], LYAP_TRUST_I);
    ck_assert_str_eq(bench.record.log, series[_i].log);
    ck_assert_uint_eq(lyap_alerts_count(bench.alerts), series[_i].open_end);
    bench_release(&bench);
}
END_TEST

START_TEST(steps_values_and_evidence_are_kept)
{
    struct bench bench;
    const struct lyap_rule rule = rule_of(2, 1, false);
    bench_init(&bench, &rule);
    feed(&bench, 1, LYAP_TRUST_I);
    feed(&bench, 11, LYAP_TRUST_I);
    feed(&bench, 12.5, LYAP_TRUST_I);
    const struct lyap_alert *alert = &bench.record.alert;
    ck_assert_int_eq(alert->pending_step, 1);
    ck_assert_int_eq(alert->firing_step, 2);
    ck_assert_int_eq(alert->resolved_step, -1);
    ck_assert_double_eq(alert->value, 12.5);
    ck_assert_double_eq(alert->threshold, 10);
    ck_assert_int_eq(alert->severity, LYAP_SEVERITY_CRITICAL);
    ck_assert(lyap_alerts_is_unstable(bench.alerts));
    ck_assert_int_eq(lyap_alerts_action(bench.alerts, &bench.rules), LYAP_ACTION_REDUCE_LR);
    ck_assert_str_eq(bench.record.summary, "grad_norm = 12.5 > 10 at step 2");
    ck_assert_ptr_nonnull(strstr(bench.record.evidence, "\"value\":12.5"));
    ck_assert_ptr_nonnull(strstr(bench.record.evidence, "\"formula\":\"|g_t|\""));
    ck_assert_ptr_nonnull(strstr(bench.record.evidence, "\"window\":{\"for\":2,\"clear_for\":1}"));
    feed(&bench, 1, LYAP_TRUST_I);
    ck_assert_int_eq(bench.record.alert.resolved_step, 3);
    ck_assert_int_eq(bench.record.alert.id, 1);
    ck_assert(!lyap_alerts_is_unstable(bench.alerts));
    ck_assert_int_eq(lyap_alerts_action(bench.alerts, &bench.rules), LYAP_ACTION_CONTINUE);
    bench_release(&bench);
}
END_TEST

/* The advice of the next point, as a job that does (or does not) lower its rate sees it. */
static struct lyap_action decide_next(struct bench *bench, struct lyap_run *run, double value,
                                      double lr, double next)
{
    struct lyap_point point;
    point_of(bench, &point, LYAP_METRIC_GRAD_NORM, value, LYAP_TRUST_I);
    point.metrics[LYAP_METRIC_INSTABILITY_SCORE_NEXT] =
        (struct lyap_value){ .value = next, .error = NAN, .reason = LYAP_REASON_NONE };
    point.metrics[LYAP_METRIC_LR] =
        (struct lyap_value){ .value = lr, .error = NAN, .reason = LYAP_REASON_NONE };
    ck_assert_int_eq(bench_step(bench, &point), LYAP_OK);
    run->alert_state = bench->alerts;
    lyap_action_decide(run, &bench->rules, 3, &point);
    run->last = point;
    run->has_last = true;
    bench->step++;
    return point.action;
}

static struct lyap_action decide(struct bench *bench, struct lyap_run *run, double value, double lr)
{
    return decide_next(bench, run, value, lr, 0);
}

/* At the lower rate an update may still be a bad one: it is left out, and the rate stands. */
START_TEST(a_bad_update_at_the_lower_rate_is_left_out)
{
    struct bench bench;
    const struct lyap_rule rule = rule_of(1, 5, false);
    bench_init(&bench, &rule);
    struct lyap_run run = { 0 };
    lyap_advice_init(&run.advice, NAN);
    ck_assert_int_eq(decide_next(&bench, &run, 1, 1, 1).kind, LYAP_ACTION_CONTINUE); /* no alert */
    ck_assert_int_eq(decide_next(&bench, &run, 11, 1, 1).kind, LYAP_ACTION_REDUCE_LR);
    for (int i = 0; i < 6; i++) {
        const int64_t step = bench.step;
        const bool is_bad = i != 1;
        const struct lyap_action action = decide_next(&bench, &run, 11, 0.5, is_bad ? 0.9 : 0.1);
        ck_assert_int_eq(action.kind, is_bad && i < 4 ? LYAP_ACTION_SKIP : LYAP_ACTION_CONTINUE);
        if (action.kind == LYAP_ACTION_SKIP)
            ck_assert_int_eq(action.step, step);
        test_close(action.lr, 0.5, 0);
    }
    bench_release(&bench);
}
END_TEST

START_TEST(advice_stands_and_is_not_compounded)
{
    struct bench bench;
    const struct lyap_rule rule = rule_of(1, 5, false);
    bench_init(&bench, &rule);
    struct lyap_run run = { 0 };
    lyap_advice_init(&run.advice, NAN);
    ck_assert_int_eq(decide(&bench, &run, 1, 1).kind, LYAP_ACTION_CONTINUE);
    struct lyap_action action = decide(&bench, &run, 11, 1);
    ck_assert_int_eq(action.kind, LYAP_ACTION_REDUCE_LR);
    test_close(action.lr, 0.5, 0);
    action = decide(&bench, &run, 11, 1); /* not followed: the same again */
    ck_assert_int_eq(action.kind, LYAP_ACTION_REDUCE_LR);
    test_close(action.lr, 0.5, 0);
    for (int i = 0; i < 8; i++) { /* followed: nothing more while it may still settle */
        action = decide(&bench, &run, 11, 0.5);
        ck_assert_int_eq(action.kind, LYAP_ACTION_CONTINUE);
        test_close(action.lr, 0.5, 0);
    }
    action = decide(&bench, &run, 11, 0.5); /* ten steps later, and it goes on: advise again */
    ck_assert_int_eq(action.kind, LYAP_ACTION_REDUCE_LR);
    test_close(action.lr, 0.25, 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(decide(&bench, &run, 1, 0.25).kind, LYAP_ACTION_CONTINUE);
    action = decide(&bench, &run, 1, 0.25); /* resolved: the advice is gone */
    ck_assert_int_eq(action.kind, LYAP_ACTION_CONTINUE);
    ck_assert(isnan(action.lr));
    action = decide(&bench, &run, 11, 0.25); /* a new alert is new advice */
    test_close(action.lr, 0.125, 0);
    bench_release(&bench);
}
END_TEST

/* Where the job does not say its rate, a lower one gets the same time to show before more is asked.
 */
START_TEST(advice_without_a_number_stands_too)
{
    struct bench bench;
    const struct lyap_rule rule = rule_of(1, 5, false);
    bench_init(&bench, &rule);
    struct lyap_run run = { 0 };
    lyap_advice_init(&run.advice, NAN);
    ck_assert_int_eq(decide(&bench, &run, 1, NAN).kind, LYAP_ACTION_CONTINUE);
    for (int i = 0; i < LYAP_ADVICE_CUTS * LYAP_ADVICE_PATIENCE; i++) {
        const struct lyap_action action = decide(&bench, &run, 11, NAN);
        ck_assert_int_eq(action.kind, LYAP_ACTION_REDUCE_LR);
        ck_assert(isnan(action.lr));
    }
    ck_assert_int_ne(decide(&bench, &run, 11, NAN).kind, LYAP_ACTION_REDUCE_LR);
    bench_release(&bench);
}
END_TEST

START_TEST(class_c_is_at_most_a_warning)
{
    struct bench bench;
    const struct lyap_rule rule = rule_of(1, 1, false);
    bench_init(&bench, &rule);
    feed(&bench, 11, LYAP_TRUST_C);
    ck_assert_int_eq(bench.record.alert.severity, LYAP_SEVERITY_WARNING);
    ck_assert(!lyap_alerts_is_unstable(bench.alerts));
    bench_release(&bench);
}
END_TEST

static const struct {
    const char *selector, *labels;
    uint32_t min_points;
    bool is_enabled;
    uint32_t expected;
} dues[] = {
    { NULL, "{}", 1, true, 1 },
    { "{\"team\":\"vision\"}", "{\"team\":\"vision\",\"x\":\"1\"}", 1, true, 1 },
    { "{\"team\":\"vision\"}", "{\"team\":\"audio\"}", 1, true, 0 },
    { "{\"team\":\"vision\"}", "{}", 1, true, 0 },
    { "{\"a\":\"1\",\"b\":\"2\"}", "{\"a\":\"1\"}", 1, true, 0 },
    { NULL, "{}", 2, true, 0 },
    { NULL, "{}", 1, false, 0 },
};

START_TEST(rules_apply_where_they_are_due)
{
    struct bench bench;
    struct lyap_rule rule = rule_of(1, 1, false);
    rule.runs_json = dues[_i].selector;
    rule.min_points = dues[_i].min_points;
    rule.is_enabled = dues[_i].is_enabled;
    bench_init(&bench, &rule);
    ck_assert_int_eq(lyap_labels_parse(dues[_i].labels, &bench.labels), LYAP_OK);
    feed(&bench, 11, LYAP_TRUST_I);
    ck_assert_uint_eq(lyap_alerts_count(bench.alerts), dues[_i].expected);
    bench_release(&bench);
}
END_TEST

START_TEST(tensor_rules_open_one_alert_a_tensor)
{
    struct bench bench;
    struct lyap_rule rule = rule_of(1, 1, false);
    (void)snprintf(rule.tensor_pattern, sizeof rule.tensor_pattern, "block.*.weight");
    bench_init(&bench, &rule);
    for (int i = 0; i < 2; i++)
        for (int m = 0; m < LYAP_TENSOR_METRIC_COUNT; m++)
            bench.rows[i].values[m] = NAN;
    bench.rows[1].values[LYAP_TENSOR_METRIC_GRAD_NORM] = 20;
    feed(&bench, ABSENT, LYAP_TRUST_I);
    ck_assert_uint_eq(lyap_alerts_count(bench.alerts), 1);
    ck_assert_str_eq(bench.record.tensor, "block.1.weight");
    bench.rows[0].values[LYAP_TENSOR_METRIC_GRAD_NORM] = 30;
    feed(&bench, ABSENT, LYAP_TRUST_I);
    ck_assert_uint_eq(lyap_alerts_count(bench.alerts), 2);
    bench.rows[1].values[LYAP_TENSOR_METRIC_GRAD_NORM] = 1;
    feed(&bench, ABSENT, LYAP_TRUST_I);
    ck_assert_uint_eq(lyap_alerts_count(bench.alerts), 1);
    ck_assert_str_eq(bench.record.log, "ffr");
    bench_release(&bench);
}
END_TEST

START_TEST(nonfinite_names_the_first_tensor)
{
    struct bench bench;
    bench_init(&bench, lyap_packs_rule("nonfinite"));
    struct lyap_point point;
    point_of(&bench, &point, LYAP_METRIC_NONFINITE_GRAD, 3, LYAP_TRUST_I);
    bench.rows[1].values[LYAP_TENSOR_METRIC_NONFINITE_GRAD] = 3;
    bench.is_skipped = true; /* fp16 with loss scaling: ordinary */
    ck_assert_int_eq(bench_step(&bench, &point), LYAP_OK);
    ck_assert_uint_eq(lyap_alerts_count(bench.alerts), 0);
    bench.is_skipped = false;
    ck_assert_int_eq(bench_step(&bench, &point), LYAP_OK);
    ck_assert_str_eq(bench.record.summary,
                     "3 non-finite values at step 0, first in block.1.weight (grad)");
    ck_assert_ptr_nonnull(
        strstr(bench.record.evidence, "{\"name\":\"block.1.weight\",\"param\":0,\"grad\":3}"));
    ck_assert_int_eq(lyap_alerts_action(bench.alerts, &bench.rules), LYAP_ACTION_ROLLBACK);
    bench.rows[1].values[LYAP_TENSOR_METRIC_NONFINITE_GRAD] = 0;
    for (int i = 0; i < 5; i++) {
        ck_assert_uint_eq(lyap_alerts_count(bench.alerts), 1);
        feed(&bench, 1, LYAP_TRUST_I);
    }
    ck_assert_uint_eq(lyap_alerts_count(bench.alerts), 0);
    bench_release(&bench);
}
END_TEST

START_TEST(a_nan_loss_is_nonfinite)
{
    struct bench bench;
    bench_init(&bench, lyap_packs_rule("nonfinite"));
    struct lyap_point point;
    point_of(&bench, &point, LYAP_METRIC_LOSS, NAN, LYAP_TRUST_I);
    ck_assert_int_eq(bench_step(&bench, &point), LYAP_OK);
    ck_assert_str_eq(bench.record.summary, "1 non-finite values at step 0, the loss");
    bench_release(&bench);
}
END_TEST

static double silent_for(struct bench *bench, double seconds)
{
    struct lyap_point point;
    point_of(bench, &point, LYAP_METRIC_LOSS, 1, LYAP_TRUST_I);
    const struct lyap_alert_input input = {
        .run = "run", .run_id = 1, .labels = &bench->labels, .point = &point
    };
    ck_assert_int_eq(
        lyap_alerts_silent(bench->alerts, &bench->rules, &input, seconds, &bench->sink), LYAP_OK);
    return lyap_alerts_is_silent(bench->alerts);
}

START_TEST(silence_fires_and_a_push_resolves)
{
    struct bench bench;
    bench_init(&bench, lyap_packs_rule("silent-run"));
    ck_assert(!silent_for(&bench, 599));
    ck_assert(silent_for(&bench, 601));
    ck_assert(!lyap_alerts_is_unstable(bench.alerts));
    ck_assert(silent_for(&bench, 900));
    ck_assert(!silent_for(&bench, 0));
    ck_assert_str_eq(bench.record.log, "fr");
    bench_release(&bench);
}
END_TEST

/* What a restart does: open alerts from the store, counts from the stored points. */
START_TEST(alerts_survive_a_restart)
{
    static const double values[] = { 1, 11, 12, 13, 4, 4, 11, 4, 4, 4, 11, 12 };
    const struct lyap_rule rule = rule_of(3, 3, false);
    enum { COUNT = sizeof values / sizeof *values };
    for (int cut = 1; cut < COUNT; cut++) {
        struct bench whole, first, second;
        bench_init(&whole, &rule);
        bench_init(&first, &rule);
        bench_init(&second, &rule);
        for (int i = 0; i < COUNT; i++)
            feed(&whole, values[i], LYAP_TRUST_I);
        for (int i = 0; i < cut; i++)
            feed(&first, values[i], LYAP_TRUST_I);
        for (uint32_t i = 0; i < lyap_alerts_count(first.alerts); i++)
            ck_assert_int_eq(lyap_alerts_restore(second.alerts, lyap_alerts_get(first.alerts, i)),
                             LYAP_OK);
        ck_assert_int_eq(lyap_alerts_replay_begin(second.alerts, &second.rules), LYAP_OK);
        for (int i = 0; i < cut; i++) {
            struct lyap_point point;
            point_of(&second, &point, LYAP_METRIC_GRAD_NORM, values[i], LYAP_TRUST_I);
            const struct lyap_alert_input input = { .run = "run",
                                                    .labels = &second.labels,
                                                    .point = &point };
            lyap_alerts_replay(second.alerts, &second.rules, &input);
            second.step++;
        }
        for (int i = cut; i < COUNT; i++)
            feed(&second, values[i], LYAP_TRUST_I);
        char joined[128];
        (void)snprintf(joined, sizeof joined, "%s%s", first.record.log, second.record.log);
        ck_assert_str_eq(joined, whole.record.log);
        bench_release(&whole);
        bench_release(&first);
        bench_release(&second);
    }
}
END_TEST

START_TEST(once_survives_a_restart)
{
    struct bench bench;
    const struct lyap_rule rule = rule_of(1, 1, true);
    bench_init(&bench, &rule);
    const struct lyap_alert stored = { .id = 4,
                                       .rule = "big",
                                       .state = LYAP_ALERT_RESOLVED,
                                       .firing_step = 7,
                                       .firing_ns = 7,
                                       .resolved_step = 9 };
    ck_assert_int_eq(lyap_alerts_restore(bench.alerts, &stored), LYAP_OK);
    feed(&bench, 11, LYAP_TRUST_I);
    ck_assert_str_eq(bench.record.log, "");
    bench_release(&bench);
}
END_TEST

START_TEST(everything_resolves_with_the_attempt)
{
    struct bench bench;
    const struct lyap_rule rule = rule_of(1, 1, false);
    bench_init(&bench, &rule);
    ck_assert_int_eq(lyap_rules_put(&bench.rules, lyap_packs_rule("nonfinite"), NULL), LYAP_OK);
    feed(&bench, 11, LYAP_TRUST_I);
    ck_assert_int_eq(lyap_alerts_resolve(bench.alerts, NULL, "attempt-ended", 5, 9, &bench.sink),
                     LYAP_OK);
    ck_assert_uint_eq(lyap_alerts_count(bench.alerts), 0);
    ck_assert_ptr_nonnull(strstr(bench.record.summary, "attempt-ended"));
    bench_release(&bench);
}
END_TEST

static enum lyap_status count_put(void *ctx, struct lyap_alert *alert)
{
    uint32_t *puts = ctx;
    alert->id = ++*puts;
    return LYAP_OK;
}

START_TEST(open_alerts_are_bounded)
{
    struct bench bench;
    struct lyap_rule rule = rule_of(1, 1, false);
    (void)snprintf(rule.tensor_pattern, sizeof rule.tensor_pattern, "*");
    bench_init(&bench, &rule);
    enum { TENSORS = LYAP_ALERTS_OPEN_MAX + 10 };
    static struct lyap_tensor tensors[TENSORS];
    static struct lyap_tensor_row rows[TENSORS];
    static char names[TENSORS][16];
    struct lyap_tensor_set set = { .tensors = tensors, .count = TENSORS };
    for (int i = 0; i < TENSORS; i++) {
        (void)snprintf(names[i], sizeof names[i], "t%d", i);
        tensors[i].name = names[i];
        rows[i].values[LYAP_TENSOR_METRIC_GRAD_NORM] = 99;
    }
    struct lyap_point point;
    point_of(&bench, &point, LYAP_METRIC_LOSS, 1, LYAP_TRUST_I);
    const struct lyap_alert_input input = { .run = "run",
                                            .labels = &bench.labels,
                                            .point = &point,
                                            .rows = rows,
                                            .set = &set,
                                            .points = 1 };
    uint32_t puts = 0;
    const struct lyap_alert_sink sink = { &puts, count_put };
    ck_assert_int_eq(lyap_alerts_step(bench.alerts, &bench.rules, &input, &sink), LYAP_OK);
    ck_assert_uint_eq(puts, LYAP_ALERTS_OPEN_MAX);
    ck_assert_uint_eq(lyap_alerts_count(bench.alerts), LYAP_ALERTS_OPEN_MAX);
    ck_assert_uint_eq(lyap_alerts_dropped(bench.alerts), 10);
    bench_release(&bench);
}
END_TEST

START_TEST(memory_may_end_anywhere)
{
    const struct lyap_rule rule = rule_of(1, 1, false);
    test_alloc_install();
    for (uint64_t n = 1;; n++) {
        struct bench bench = { .step = 0 };
        struct lyap_point point;
        bench.sink = (struct lyap_alert_sink){ &bench.record, record_put };
        test_alloc_fail_at(n);
        enum lyap_status status = lyap_alerts_new(&bench.alerts);
        if (status == LYAP_OK)
            status = lyap_rules_put(&bench.rules, &rule, NULL);
        point_of(&bench, &point, LYAP_METRIC_GRAD_NORM, 11, LYAP_TRUST_I);
        if (status == LYAP_OK)
            status = bench_step(&bench, &point);
        ck_assert(status == LYAP_OK || status == LYAP_E_NOMEM);
        bench_release(&bench);
        ck_assert_int_eq(test_alloc_live(), 0);
        if (status == LYAP_OK)
            break;
    }
    test_alloc_fail_at(0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("alerts");
    TCase *tests = tcase_create("alerts");
    tcase_add_loop_test(tests, states_follow_the_series, 0, sizeof series / sizeof *series);
    tcase_add_test(tests, steps_values_and_evidence_are_kept);
    tcase_add_test(tests, a_bad_update_at_the_lower_rate_is_left_out);
    tcase_add_test(tests, advice_stands_and_is_not_compounded);
    tcase_add_test(tests, advice_without_a_number_stands_too);
    tcase_add_test(tests, class_c_is_at_most_a_warning);
    tcase_add_loop_test(tests, rules_apply_where_they_are_due, 0, sizeof dues / sizeof *dues);
    tcase_add_test(tests, tensor_rules_open_one_alert_a_tensor);
    tcase_add_test(tests, nonfinite_names_the_first_tensor);
    tcase_add_test(tests, a_nan_loss_is_nonfinite);
    tcase_add_test(tests, silence_fires_and_a_push_resolves);
    tcase_add_test(tests, alerts_survive_a_restart);
    tcase_add_test(tests, once_survives_a_restart);
    tcase_add_test(tests, everything_resolves_with_the_attempt);
    tcase_add_test(tests, open_alerts_are_bounded);
    tcase_add_test(tests, memory_may_end_anywhere);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
