/* Every row of the table of SPEC 4.3, its qualifiers, and that a verdict is read again from a
 * point. */
#include <math.h>
#include <string.h>

#include "lyap/verdict.h"
#include "support.h"

#define NO NAN
enum { NONE = -1, DEC, BND, INC, SUB, UNR, EXP }; /* enum lyap_growth, or no twin */

static const struct {
    int twin, active;
    double ratio, dissipation, rate, lambda_min_rate, gain;
    enum lyap_verdict verdict;
    const char *mode;
    char trust;
    unsigned qualifiers; /* 1: sensitive, 2: theorem */
} rows[] = {
    { DEC, NONE, .5, -.1, -.01, NO, NO, LYAP_VERDICT_CONSISTENT_STABLE, NULL, 'E', 0 },
    { BND, NONE, 1, 0, .001, NO, NO, LYAP_VERDICT_CONSISTENT_STABLE, NULL, 'E', 0 },
    { BND, NONE, 1.01, -.1, .001, NO, NO, LYAP_VERDICT_EDGE, "sharpness", 'E', 0 },
    { BND, EXP, 1.2, -.1, .1, NO, NO, LYAP_VERDICT_ONSET, "sharpness", 'E', 1 },
    { DEC, SUB, 1.2, .1, .1, NO, NO, LYAP_VERDICT_ONSET, "sharpness", 'E', 0 },
    { EXP, NONE, 1.5, .1, .1, NO, NO, LYAP_VERDICT_CONSISTENT_UNSTABLE, "sharpness", 'E', 0 },
    { EXP, NONE, .5, .1, .1, .05, NO, LYAP_VERDICT_CONSISTENT_UNSTABLE, "lambda_min", 'E', 0 },
    { EXP, NONE, NO, NO, .1, .06, NO, LYAP_VERDICT_CONSISTENT_UNSTABLE, "lambda_min", 'E', 0 },
    { EXP, NONE, .5, .1, .1, .049, NO, LYAP_VERDICT_HIDDEN_INSTABILITY, NULL, 'E', 0 },
    { EXP, NONE, .5, -.1, .1, NO, NO, LYAP_VERDICT_HIDDEN_INSTABILITY, NULL, 'E', 1 },
    { EXP, NONE, NO, -.1, .1, NO, NO, LYAP_VERDICT_SENSITIVE, NULL, 'E', 1 },
    { SUB, NONE, .5, -.1, .01, NO, NO, LYAP_VERDICT_UNBOUNDED_PROFILE, NULL, 'E', 0 },
    { SUB, NONE, NO, NO, .01, NO, NO, LYAP_VERDICT_UNBOUNDED_PROFILE, NULL, 'E', 0 },
    { NONE, NONE, 1.1, NO, NO, NO, NO, LYAP_VERDICT_EDGE, "sharpness", 'C', 0 },
    { NONE, NONE, .9, -.1, NO, NO, NO, LYAP_VERDICT_DISSIPATING, NULL, 'E', 0 },
    { NONE, NONE, .9, .1, NO, NO, NO, LYAP_VERDICT_INCONCLUSIVE, NULL, 'C', 0 },
    { INC, NONE, .5, -.1, .01, NO, NO, LYAP_VERDICT_INCONCLUSIVE, NULL, 'C', 0 },
    { DEC, NONE, 1.1, -.1, -.1, NO, NO, LYAP_VERDICT_INCONCLUSIVE, NULL, 'C', 0 },
    { BND, NONE, .5, NO, 0, NO, NO, LYAP_VERDICT_INCONCLUSIVE, NULL, 'C', 0 },
    { UNR, NONE, .5, -.1, .02, NO, NO, LYAP_VERDICT_INCONCLUSIVE, NULL, 'C', 0 },
    { EXP, NONE, NO, NO, .1, NO, NO, LYAP_VERDICT_INCONCLUSIVE, NULL, 'C', 0 },
    /* A calm random twin does not hide what grows along v. */
    { BND, EXP, .5, -.1, .1, NO, NO, LYAP_VERDICT_HIDDEN_INSTABILITY, NULL, 'E', 1 },
    { NONE, EXP, 1.5, NO, .1, NO, NO, LYAP_VERDICT_CONSISTENT_UNSTABLE, "sharpness", 'E', 0 },
    /* A mode energy exists and allows no growth: the rate breaks it, then the gain. */
    { EXP, NONE, .5, .1, .1, NO, 3, LYAP_VERDICT_HIDDEN_INSTABILITY, NULL, 'E', 2 },
    { BND, NONE, .5, -.1, 0, NO, 1, LYAP_VERDICT_CONSISTENT_STABLE, NULL, 'E', 2 },
    /* With memory the distance of theta alone may turn through zero. */
    { BND, NONE, .5, -.1, 0, NO, 1.2, LYAP_VERDICT_CONSISTENT_STABLE, NULL, 'E', 0 },
};

static struct lyap_sides sides_of(int i)
{
    struct lyap_sides s = { .has_function = true,
                            .has_twin = rows[i].twin >= 0,
                            .has_active = rows[i].active >= 0,
                            .rate = rows[i].rate,
                            .rate_ci = .002,
                            .log_m = log(4.1), /* twice 2.05 */
                            .ratio = rows[i].ratio,
                            .sharpness_rate = rows[i].ratio - 1,
                            .lambda_min_rate = rows[i].lambda_min_rate,
                            .gain = rows[i].gain,
                            .dissipation = rows[i].dissipation };
    if (s.has_twin)
        s.twin = (enum lyap_growth)rows[i].twin;
    if (s.has_active)
        s.active = (enum lyap_growth)rows[i].active;
    return s;
}

static void judged_as_row(const struct lyap_sides *s, int i)
{
    const struct lyap_judgement j = lyap_verdict_judge(s);
    const char *mode = lyap_mode_name(j.mode);
    ck_assert_msg(j.verdict == rows[i].verdict, "row %d: %s, expected %s", i,
                  lyap_verdict_name(j.verdict), lyap_verdict_name(rows[i].verdict));
    ck_assert_msg((mode == NULL) == (rows[i].mode == NULL), "row %d: mode", i);
    if (mode)
        ck_assert_str_eq(mode, rows[i].mode);
    ck_assert_int_eq(lyap_trust_name((enum lyap_trust)j.trust)[0], rows[i].trust);
    ck_assert_msg(j.qualifiers == rows[i].qualifiers, "row %d: qualifiers %u", i, j.qualifiers);
}

START_TEST(test_rows)
{
    const struct lyap_sides s = sides_of(_i);
    judged_as_row(&s, _i);
    struct lyap_sides bad = s;
    bad.is_violated = true; /* first of all, whatever the rest */
    ck_assert_int_eq(lyap_verdict_judge(&bad).verdict, LYAP_VERDICT_ENERGY_VIOLATION);
}
END_TEST

/* Neither a twin nor a function: there is nothing to judge by. */
START_TEST(test_nothing)
{
    struct lyap_sides s = sides_of(15);
    s.ratio = s.dissipation = NAN;
    ck_assert_int_eq(lyap_verdict_judge(&s).verdict, LYAP_VERDICT_INCONCLUSIVE);
    s.has_function = false;
    ck_assert_int_eq(lyap_verdict_judge(&s).verdict, LYAP_VERDICT_INSUFFICIENT);
    s.has_twin = true;
    s.twin = LYAP_GROWTH_INCONCLUSIVE;
    ck_assert_int_eq(lyap_verdict_judge(&s).verdict, LYAP_VERDICT_INCONCLUSIVE);
}
END_TEST

static void give(struct lyap_point *point, enum lyap_metric metric, double value)
{
    if (isnan(value))
        return;
    point->metrics[metric].value = value;
    point->metrics[metric].reason = LYAP_REASON_NONE;
}

START_TEST(test_read_from_a_point)
{
    struct lyap_point point;
    lyap_point_init(&point);
    point.verdict = rows[_i].verdict;
    const struct lyap_sides s = sides_of(_i);
    give(&point, LYAP_METRIC_TWIN_RATE, s.rate);
    point.metrics[LYAP_METRIC_TWIN_RATE].error = s.rate_ci;
    give(&point, LYAP_METRIC_TWIN_GROWTH, s.log_m);
    give(&point, LYAP_METRIC_STABILITY_RATIO, s.ratio);
    give(&point, LYAP_METRIC_TRANSITION_RATE, s.sharpness_rate);
    give(&point, LYAP_METRIC_RATE_AT_LAMBDA_MIN, s.lambda_min_rate);
    give(&point, LYAP_METRIC_MODE_ENERGY_GAIN, s.gain);
    give(&point, LYAP_METRIC_DISSIPATION_WINDOW, s.dissipation);
    give(&point, LYAP_METRIC_WINDOW_VERDICT, s.has_twin ? (double)rows[_i].twin : (double)NAN);
    give(&point, LYAP_METRIC_ACTIVE_VERDICT, s.has_active ? (double)rows[_i].active : (double)NAN);
    const struct lyap_sides again = lyap_verdict_sides(&point);
    judged_as_row(&again, _i);
}
END_TEST

/* q = 1 and the tolerance ln 2 (docs/decisions/0013), each hypothesis in turn. */
START_TEST(test_theorem)
{
    const struct lyap_sides fails = { .has_twin = true,
                                      .twin = LYAP_GROWTH_EXPONENTIAL,
                                      .rate = .02,
                                      .rate_ci = .01,
                                      .log_m = 3,
                                      .ratio = .5,
                                      .sharpness_rate = -.1,
                                      .lambda_min_rate = NAN,
                                      .gain = 1,
                                      .dissipation = NAN };
    ck_assert(lyap_verdict_contradicts(&fails));
    ck_assert(lyap_verdict_judge(&fails).qualifiers & 1u << LYAP_QUALIFIER_THEOREM);
    struct lyap_sides s = fails;
    s.rate_ci = .021; /* the rate is within its interval; M alone is too large */
    ck_assert(lyap_verdict_contradicts(&s));
    s.log_m = log(2) - 1e-9;
    ck_assert(!lyap_verdict_contradicts(&s));
    s = fails;
    s.twin = LYAP_GROWTH_BOUNDED; /* it rose by less than a factor 2 */
    s.log_m = .6;
    ck_assert(!lyap_verdict_contradicts(&s));
    s = fails;
    s.gain = 5; /* memory: a turning mode may rise; the rate may not */
    s.twin = LYAP_GROWTH_BOUNDED;
    ck_assert(!lyap_verdict_contradicts(&s));
    s.twin = LYAP_GROWTH_SUBEXPONENTIAL;
    ck_assert(lyap_verdict_contradicts(&s));
    s.rate = NAN;
    ck_assert(!lyap_verdict_contradicts(&s));
    s = fails;
    s.gain = NAN; /* no explicit energy */
    ck_assert(!lyap_verdict_contradicts(&s));
    s = fails;
    s.ratio = 1.001; /* its hypothesis does not hold */
    ck_assert(!lyap_verdict_contradicts(&s));
    s = fails;
    s.lambda_min_rate = .001; /* a negative curvature explains growth */
    ck_assert(!lyap_verdict_contradicts(&s));
    s = fails;
    s.has_twin = false;
    ck_assert(!lyap_verdict_contradicts(&s));
}
END_TEST

/* Unresolved growth counts as exponential above ln 100, and only there. */
START_TEST(test_judged)
{
    struct lyap_growth_fit fit = { .verdict = LYAP_GROWTH_UNRESOLVED, .rise = 4.6 };
    ck_assert_int_eq(lyap_growth_judged(&fit), LYAP_GROWTH_UNRESOLVED);
    fit.rise = 4.61;
    ck_assert_int_eq(lyap_growth_judged(&fit), LYAP_GROWTH_EXPONENTIAL);
    fit.verdict = LYAP_GROWTH_SUBEXPONENTIAL;
    ck_assert_int_eq(lyap_growth_judged(&fit), LYAP_GROWTH_SUBEXPONENTIAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("verdict");
    TCase *tc = tcase_create("verdict");
    const int count = sizeof rows / sizeof *rows;
    tcase_add_loop_test(tc, test_rows, 0, count);
    tcase_add_test(tc, test_nothing);
    tcase_add_loop_test(tc, test_read_from_a_point, 0, count);
    tcase_add_test(tc, test_theorem);
    tcase_add_test(tc, test_judged);
    suite_add_tcase(suite, tc);
    return test_main(suite);
}
