/* Expressions: grammar, values, reasons, windows against brute force. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/expr.h"
#include "support.h"

static struct lyap_point point_of(double loss, double grad_norm)
{
    struct lyap_point point;
    lyap_point_init(&point);
    point.metrics[LYAP_METRIC_LOSS] = (struct lyap_value){ .value = loss, .error = 0.5 };
    point.metrics[LYAP_METRIC_GRAD_NORM] =
        (struct lyap_value){ .value = grad_norm, .error = NAN, .trust = LYAP_TRUST_E };
    return point;
}

static struct lyap_lookback lookback_for(const struct lyap_expr *expr)
{
    struct lyap_lookback lookback;
    struct lyap_lookback_needs needs = { .depth = 0 };
    lyap_expr_needs(expr, &needs);
    ck_assert_int_eq(lyap_lookback_init(&lookback, &needs), LYAP_OK);
    ck_assert(lyap_lookback_covers(&lookback, &needs));
    return lookback;
}

static struct lyap_value value_of(const char *text, const struct lyap_point *points, uint32_t count)
{
    struct lyap_expr expr;
    struct lyap_error error = LYAP_ERROR_NULL;
    ck_assert_msg(lyap_expr_parse(text, false, &expr, &error) == LYAP_OK, "%s: %s", text,
                  error.text);
    struct lyap_lookback lookback = lookback_for(&expr);
    for (uint32_t i = 0; i + 1 < count; i++)
        lyap_lookback_push(&lookback, &points[i]);
    const struct lyap_expr_input input = { .point = &points[count - 1], .lookback = &lookback };
    const struct lyap_value value = lyap_expr_value(&expr, &input, NULL);
    lyap_lookback_release(&lookback);
    return value;
}

static const struct {
    const char *text;
    double expected; /* at loss 3, grad_norm 8 */
} values[] = {
    { "loss", 3 },
    { "grad_norm / loss", 8.0 / 3 },
    { "2 + 3 * 4 - 6 / 3", 12 },
    { "(2 + 3) * 4", 20 },
    { "10 - 2 - 3", 5 }, /* left to right */
    { "16 / 4 / 2", 2 },
    { "-loss + 1", -2 },
    { "- -loss", 3 },
    { "2 * -loss", -6 },
    { "min(loss, grad_norm)", 3 },
    { "max(loss, grad_norm) - 1", 7 },
    { "abs(loss - grad_norm)", 5 },
    { "log(grad_norm / 8)", 0 },
    { "sqrt(grad_norm * 2)", 4 },
    { "1e2 + 1.5e-1", 100.15 },
    { "point.loss", 3 },
    { "loss / 0", INFINITY },
    { "-loss / 0", -INFINITY },
    { "0 / 0", NAN },
    { "max(0 / 0, 1)", NAN },
    { " loss*  2 ", 6 },
};

START_TEST(values_of_operators)
{
    const struct lyap_point point = point_of(3, 8);
    const struct lyap_value value = value_of(values[_i].text, &point, 1);
    ck_assert_int_eq(value.reason, LYAP_REASON_NONE);
    if (isnan(values[_i].expected))
        ck_assert_double_nan(value.value);
    else if (isinf(values[_i].expected))
        ck_assert(value.value >= values[_i].expected && value.value <= values[_i].expected);
    else
        test_close(value.value, values[_i].expected, 1e-15);
}
END_TEST

static const struct {
    const char *text;
    bool is_tensor;
    enum lyap_status status;
    const char *word;
} refusals[] = {
    { "", false, LYAP_E_FORMAT, "byte 0" },
    { "loss +", false, LYAP_E_FORMAT, "the end" },
    { "loss loss", false, LYAP_E_FORMAT, "byte 5" },
    { "(loss", false, LYAP_E_FORMAT, "bracket" },
    { "loss)", false, LYAP_E_FORMAT, "byte 4" },
    { "min(loss)", false, LYAP_E_FORMAT, "comma" },
    { "abs(loss, loss)", false, LYAP_E_FORMAT, "bracket" },
    { "mean(loss)", false, LYAP_E_FORMAT, "comma" },
    { "mean(loss, x)", false, LYAP_E_FORMAT, "whole number" },
    { "mean(loss + 1, 5)", false, LYAP_E_FORMAT, "comma" },
    { "lag(loss, 3, 2)", false, LYAP_E_FORMAT, "bracket" },
    { "1.2.3", false, LYAP_E_FORMAT, "byte 0" },
    { "1e", false, LYAP_E_FORMAT, "byte 0" },
    { "0x10", false, LYAP_E_FORMAT, "byte 1" },
    { "loss\n", false, LYAP_E_FORMAT, "byte 4" },
    { "los", false, LYAP_E_UNKNOWN_FIELD, "\"los\"" },
    { "nonfinite + 1", false, LYAP_E_UNKNOWN_FIELD, "nonfinite" },
    { "elements", false, LYAP_E_UNKNOWN_FIELD, "elements" },
    { "abs_max", false, LYAP_E_UNKNOWN_FIELD, "abs_max" },
    { "loss", true, LYAP_E_UNKNOWN_FIELD, "point." },
    { "point.abs_max", true, LYAP_E_UNKNOWN_FIELD, "abs_max" },
    { "mean(abs_max, 5)", true, LYAP_E_UNKNOWN_FIELD, "abs_max" },
    { "median(nope, 5)", false, LYAP_E_UNKNOWN_FIELD, "nope" },
    { "frobnicate(loss)", false, LYAP_E_UNKNOWN_FIELD, "frobnicate" },
    { "mean(loss, 0)", false, LYAP_E_INVALID, "4096" },
    { "mean(loss, 4097)", false, LYAP_E_INVALID, "4097" },
    { "mean(loss, 99999999999999999999)", false, LYAP_E_INVALID, "4096" },
    { "sd(loss, 1)", false, LYAP_E_INVALID, "2 to 4096" },
    { "mean(loss, 5, 6)", false, LYAP_E_INVALID, "1 to 5" },
    { "mean(loss, 4000, 1, 97)", false, LYAP_E_INVALID, "0 to 96" },
    { "mean(loss, 5, 1, 2, 3)", false, LYAP_E_FORMAT, "bracket" },
    { "lag(loss, 5, 1)", false, LYAP_E_FORMAT, "bracket" },
};

START_TEST(refusals_say_where_and_why)
{
    struct lyap_expr expr = { .count = 77 };
    struct lyap_error error = LYAP_ERROR_NULL;
    ck_assert_int_eq(lyap_expr_parse(refusals[_i].text, refusals[_i].is_tensor, &expr, &error),
                     refusals[_i].status);
    ck_assert_msg(strstr(error.text, refusals[_i].word), "%s: %s lacks %s", refusals[_i].text,
                  error.text, refusals[_i].word);
    ck_assert_uint_eq(expr.count, 77); /* untouched */
}
END_TEST

static enum lyap_status parse_repeated(const char *before, const char *unit, const char *after,
                                       int count)
{
    char text[4096];
    struct lyap_expr expr;
    size_t length = 0;
    for (int i = 0; i < 2 * count + 1; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s",
                                   i < count    ? before
                                   : i == count ? unit
                                                : after);
    return lyap_expr_parse(text, false, &expr, NULL);
}

START_TEST(everything_is_bounded)
{
    ck_assert_int_eq(parse_repeated("(", "lr", ")", LYAP_EXPR_DEPTH_MAX - 1), LYAP_OK);
    ck_assert_int_eq(parse_repeated("(", "lr", ")", LYAP_EXPR_DEPTH_MAX), LYAP_E_LIMIT);
    ck_assert_int_eq(parse_repeated("-", "lr", "", LYAP_EXPR_DEPTH_MAX - 1), LYAP_OK);
    ck_assert_int_eq(parse_repeated("-", "lr", "", LYAP_EXPR_DEPTH_MAX), LYAP_E_LIMIT);
    ck_assert_int_eq(parse_repeated("", "lr", "+lr", 15), LYAP_OK); /* 31 nodes */
    ck_assert_int_eq(parse_repeated("", "lr", "+lr", 16), LYAP_E_LIMIT);
    ck_assert_int_eq(parse_repeated("", "lr", " ", LYAP_EXPR_BYTES_MAX - 2), LYAP_OK);
    ck_assert_int_eq(parse_repeated("", "lr", " ", LYAP_EXPR_BYTES_MAX - 1), LYAP_E_LIMIT);
}
END_TEST

START_TEST(an_absent_side_is_named_with_its_reason)
{
    struct lyap_expr expr;
    const char *absent = "untouched";
    const struct lyap_point point = point_of(3, 8);
    ck_assert_int_eq(lyap_expr_parse("loss / param_norm", false, &expr, NULL), LYAP_OK);
    struct lyap_lookback lookback = lookback_for(&expr);
    const struct lyap_expr_input input = { .point = &point, .lookback = &lookback };
    const struct lyap_value value = lyap_expr_value(&expr, &input, &absent);
    ck_assert_int_eq(value.reason, LYAP_REASON_NOT_PUSHED);
    ck_assert_double_nan(value.value);
    ck_assert_str_eq(absent, "param_norm");
    ck_assert_int_eq(lyap_expr_parse("loss + grad_norm", false, &expr, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_expr_value(&expr, &input, &absent).trust, LYAP_TRUST_E);
    ck_assert_ptr_null(absent);
    ck_assert_int_eq(lyap_expr_parse("loss", false, &expr, NULL), LYAP_OK);
    test_close(lyap_expr_value(&expr, &input, NULL).error, 0.5, 0); /* of one metric it is known */
    lyap_lookback_release(&lookback);
}
END_TEST

START_TEST(tensors_have_their_own_names)
{
    struct lyap_expr expr;
    struct lyap_tensor_row row;
    const struct lyap_point point = point_of(3, 8);
    for (int i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++)
        row.values[i] = NAN;
    row.values[LYAP_TENSOR_METRIC_GRAD_NORM] = 4;
    ck_assert_int_eq(lyap_expr_parse("grad_norm / point.grad_norm * elements", true, &expr, NULL),
                     LYAP_OK);
    struct lyap_lookback lookback = lookback_for(&expr);
    const struct lyap_expr_input input = {
        .point = &point, .lookback = &lookback, .row = &row, .elements = 10
    };
    test_close(lyap_expr_value(&expr, &input, NULL).value, 5, 1e-15);
    ck_assert_int_eq(lyap_expr_parse("abs_max", true, &expr, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_expr_value(&expr, &input, NULL).reason, LYAP_REASON_NOT_PUSHED);
    lyap_lookback_release(&lookback);
}
END_TEST

/* ---- windows ---- */

enum { POINTS = 60 };

/* Statistics of the finite values among the last `window` before `at`, written anew. */
static double brute(const char *name, const double *series, int at, int window, int least)
{
    double kept[POINTS] = { 0 }, sum = 0, low = INFINITY, high = -INFINITY;
    int count = 0;
    for (int i = at - window < 0 ? 0 : at - window; i < at; i++)
        if (isfinite(series[i]))
            kept[count++] = series[i];
    if (count < least)
        return NAN;
    for (int i = 0; i < count; i++) /* sorted, for the median */
        for (int j = i + 1; j < count; j++)
            if (kept[j] < kept[i]) {
                const double swap = kept[i];
                kept[i] = kept[j];
                kept[j] = swap;
            }
    for (int i = 0; i < count; i++) {
        sum += kept[i];
        low = fmin(low, kept[i]);
        high = fmax(high, kept[i]);
    }
    double squares = 0;
    for (int i = 0; i < count; i++)
        squares += (kept[i] - sum / count) * (kept[i] - sum / count);
    if (strcmp(name, "mean") == 0)
        return sum / count;
    if (strcmp(name, "sd") == 0)
        return sqrt(squares / (count - 1));
    if (strcmp(name, "median") == 0)
        return (kept[(count - 1) / 2] + kept[count / 2]) / 2;
    return strcmp(name, "lowest") == 0 ? low : high;
}

START_TEST(windows_agree_with_brute_force)
{
    static const char *const names[] = { "mean", "sd", "median", "lowest", "highest" };
    static const int windows[][2] = { { 2, 2 }, { 7, 4 }, { 8, 1 }, { 20, 10 }, { 59, 3 } };
    struct test_rng rng = { 7 };
    double series[POINTS];
    struct lyap_point points[POINTS];
    for (int i = 0; i < POINTS; i++) {
        series[i] = i % 11 == 5 ? NAN : i % 13 == 6 ? INFINITY : test_rng_normal(&rng);
        points[i] = point_of(series[i], 1);
    }
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
            for (int at = 0; at < POINTS; at++) {
                char text[64];
                const int least = n == 1 && windows[w][1] < 2 ? 2 : windows[w][1];
                (void)snprintf(text, sizeof text, "%s(loss, %d, %d)", names[n], windows[w][0],
                               least);
                const struct lyap_value value = value_of(text, points, (uint32_t)at + 1);
                const double expected = brute(names[n], series, at, windows[w][0], least);
                ck_assert_int_eq(value.reason,
                                 isnan(expected) ? LYAP_REASON_WARMING_UP : LYAP_REASON_NONE);
                if (!isnan(expected))
                    test_close(value.value, expected, 1e-13);
            }
}
END_TEST

START_TEST(half_of_a_window_is_enough_unless_said_otherwise)
{
    struct lyap_point points[6];
    for (int i = 0; i < 6; i++)
        points[i] = point_of(i, 1);
    ck_assert_int_eq(value_of("mean(loss, 5)", points, 3).reason, LYAP_REASON_WARMING_UP);
    test_close(value_of("mean(loss, 5)", points, 4).value, 1, 0); /* three of five */
    ck_assert_int_eq(value_of("mean(loss, 5, 5)", points, 5).reason, LYAP_REASON_WARMING_UP);
    test_close(value_of("mean(loss, 5, 5)", points, 6).value, 2, 0);
    test_close(value_of("mean(loss, 5, 1)", points, 2).value, 0, 0);
}
END_TEST

/* A fourth argument leaves the newest points out: the window is that of so many points before. */
START_TEST(windows_may_end_earlier)
{
    static const int skips[] = { 0, 1, 4, 13 };
    struct test_rng rng = { 8 };
    double series[POINTS];
    struct lyap_point points[POINTS];
    for (int i = 0; i < POINTS; i++) {
        series[i] = i % 11 == 5 ? NAN : test_rng_normal(&rng);
        points[i] = point_of(series[i], 1);
    }
    for (size_t s = 0; s < sizeof skips / sizeof *skips; s++)
        for (int at = 0; at < POINTS; at++) {
            char text[64];
            (void)snprintf(text, sizeof text, "sd(loss, 9, 3, %d) + mean(loss, 20)", skips[s]);
            const struct lyap_value value = value_of(text, points, (uint32_t)at + 1);
            const int end = at - skips[s];
            const double expected = (end < 0 ? (double)NAN : brute("sd", series, end, 9, 3)) +
                                    brute("mean", series, at, 20, 10);
            ck_assert_int_eq(value.reason,
                             isnan(expected) ? LYAP_REASON_WARMING_UP : LYAP_REASON_NONE);
            if (!isnan(expected))
                test_close(value.value, expected, 1e-13);
        }
}
END_TEST

/* For many tensors of one point the windows are found once. */
START_TEST(windows_found_before_are_the_same)
{
    struct lyap_expr expr;
    struct lyap_value windows[LYAP_EXPR_NODES_MAX];
    struct lyap_point point = point_of(3, 8);
    ck_assert_int_eq(lyap_expr_parse("loss - mean(loss, 4) * lag(grad_norm, 2) + sd(loss, 4)",
                                     false, &expr, NULL),
                     LYAP_OK);
    ck_assert_uint_eq(lyap_expr_cost(&expr), 10);
    struct lyap_lookback lookback = lookback_for(&expr);
    for (int i = 0; i < 8; i++) {
        const struct lyap_expr_input here = { .point = &point, .lookback = &lookback };
        struct lyap_expr_input before = here;
        lyap_expr_windows(&expr, &lookback, windows);
        before.windows = windows;
        before.lookback = NULL;
        const struct lyap_value a = lyap_expr_value(&expr, &here, NULL);
        const struct lyap_value b = lyap_expr_value(&expr, &before, NULL);
        ck_assert_int_eq(a.reason, b.reason);
        ck_assert(isnan(a.value) ? isnan(b.value) : a.value >= b.value && a.value <= b.value);
        ck_assert((a.reason == LYAP_REASON_NONE) == (i >= 2));
        point = point_of(i * i, i);
        lyap_lookback_push(&lookback, &point);
    }
    lyap_lookback_release(&lookback);
}
END_TEST

START_TEST(lags_and_first_values)
{
    struct lyap_point points[6];
    for (int i = 0; i < 6; i++)
        points[i] = point_of(10 - i, 1);
    test_close(value_of("lag(loss, 1)", points, 6).value, 6, 0);
    test_close(value_of("lag(loss, 5)", points, 6).value, 10, 0);
    ck_assert_int_eq(value_of("lag(loss, 6)", points, 6).reason, LYAP_REASON_WARMING_UP);
    ck_assert_int_eq(value_of("lag(param_norm, 2)", points, 6).reason, LYAP_REASON_NOT_PUSHED);
    points[4] = point_of(NAN, 1);
    ck_assert_int_eq(value_of("lag(loss, 1)", points, 6).reason, LYAP_REASON_NONFINITE);
    ck_assert_int_eq(value_of("first_highest(loss, 3)", points, 3).reason, LYAP_REASON_WARMING_UP);
    test_close(value_of("first_highest(loss, 3)", points, 4).value, 10, 0);
    test_close(value_of("first_highest(loss, 3)", points, 6).value, 10, 0);
}
END_TEST

START_TEST(events_are_in_no_window_and_counted)
{
    struct lyap_expr expr;
    ck_assert_int_eq(lyap_expr_parse("mean(loss, 4, 1)", false, &expr, NULL), LYAP_OK);
    struct lyap_lookback lookback = lookback_for(&expr);
    struct lyap_point point = point_of(2, 1);
    lyap_lookback_push(&lookback, &point);
    point.metrics[LYAP_METRIC_LOSS].value = 100;
    point.is_event_only = true; /* a skipped step */
    lyap_lookback_push(&lookback, &point);
    point.metrics[LYAP_METRIC_LOSS].value = -INFINITY;
    lyap_lookback_push(&lookback, &point);
    const struct lyap_expr_input input = { .point = &point, .lookback = &lookback };
    test_close(lyap_expr_value(&expr, &input, NULL).value, 2, 0);
    ck_assert_uint_eq(lyap_expr_nonfinite(&expr, &lookback), 1);
    ck_assert_uint_eq(lyap_lookback_points(&lookback), 3);
    lyap_lookback_release(&lookback);
}
END_TEST

START_TEST(needs_are_the_widest)
{
    struct lyap_expr expr;
    struct lyap_lookback_needs needs = { .depth = 3 };
    ck_assert_int_eq(
        lyap_expr_parse("mean(loss, 9) + lag(lr, 12) + first_highest(grad_norm, 5) + param_norm",
                        false, &expr, NULL),
        LYAP_OK);
    lyap_expr_needs(&expr, &needs);
    ck_assert_uint_eq(needs.depth, 12);
    ck_assert_uint_eq(needs.first, 5);
    ck_assert(needs.metrics[LYAP_METRIC_LOSS] && needs.metrics[LYAP_METRIC_LR] &&
              needs.metrics[LYAP_METRIC_GRAD_NORM] && !needs.metrics[LYAP_METRIC_PARAM_NORM]);
    struct lyap_lookback lookback;
    test_alloc_install();
    for (uint64_t n = 1; n <= 2; n++) {
        test_alloc_fail_at(n);
        ck_assert_int_eq(lyap_lookback_init(&lookback, &needs), LYAP_E_NOMEM);
        ck_assert(!lyap_lookback_covers(&lookback, &needs));
        ck_assert_int_eq(test_alloc_live(), 0);
    }
    test_alloc_fail_at(0);
    ck_assert_int_eq(lyap_lookback_init(&lookback, &needs), LYAP_OK);
    needs.depth++;
    ck_assert(!lyap_lookback_covers(&lookback, &needs));
    lyap_lookback_release(&lookback);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("expr");
    TCase *tests = tcase_create("expr");
    tcase_add_loop_test(tests, values_of_operators, 0, sizeof values / sizeof *values);
    tcase_add_loop_test(tests, refusals_say_where_and_why, 0, sizeof refusals / sizeof *refusals);
    tcase_add_test(tests, everything_is_bounded);
    tcase_add_test(tests, an_absent_side_is_named_with_its_reason);
    tcase_add_test(tests, tensors_have_their_own_names);
    tcase_add_test(tests, windows_agree_with_brute_force);
    tcase_add_test(tests, half_of_a_window_is_enough_unless_said_otherwise);
    tcase_add_test(tests, windows_may_end_earlier);
    tcase_add_test(tests, windows_found_before_are_the_same);
    tcase_add_test(tests, lags_and_first_values);
    tcase_add_test(tests, events_are_in_no_window_and_counted);
    tcase_add_test(tests, needs_are_the_widest);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
