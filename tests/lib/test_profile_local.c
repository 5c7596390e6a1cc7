/* What pushed activations and gates say of declared layers: empirical gains, their growth, gains at
 * the gates. */
#include <math.h>

#include "forward_fixture.h"
#include "lyap/blas.h"

static void perturb(uint32_t layer, double sq, double diff_sq)
{
    struct lyap_act_sums *acts = lyap_partial_acts(&partial, declaration.network.count + 1);
    ck_assert_ptr_nonnull(acts);
    acts[layer].sq = sq;
    acts[layer].diff_sq = diff_sq;
}

START_TEST(empirical_gains)
{
    test_network_init(&net, 2);
    test_network_set(&net, 0, "a", test_network_layer(LYAP_LAYER_LINEAR));
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 2, 2 }, 2);
    test_network_set(&net, 1, "softmax",
                     forward_layer(LYAP_LAYER_ACTIVATION, LYAP_ACTIVATION_TANH));
    forward_begin();
    double gains[] = { 2, 1, 4, 3 };
    for (int i = 0; i < 4; i++) {
        perturb(0, 5, 1e-6);
        perturb(1, 9, gains[i] * gains[i] * 1e-6);
        const struct lyap_layer_row *rows = forward_step(i);
        test_close(forward_metric(LYAP_METRIC_EMPIRICAL_GAIN), gains[i], 1e-12);
        test_close(forward_value(rows, LYAP_LAYER_METRIC_EMPIRICAL_GAIN_MAX), i < 2 ? 2 : 4, 1e-12);
        test_close(forward_value(rows, LYAP_LAYER_METRIC_ACT_NORM), 3, 1e-12);
        if (i == 0)
            ck_assert_uint_eq(point.metrics[LYAP_METRIC_EMPIRICAL_GAIN_GROWTH].reason,
                              LYAP_REASON_WARMING_UP);
        else
            test_close(forward_metric(LYAP_METRIC_EMPIRICAL_GAIN_GROWTH),
                       gains[i] / fmin(2, i < 2 ? 2 : 1), 1e-12);
        ck_assert_uint_eq(rows[1].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN].reason,
                          LYAP_REASON_NEEDS_ACTIVATIONS);
    }
    perturb(0, 5, 0); /* the inputs do not differ */
    forward_step(4);
    ck_assert_uint_eq(point.metrics[LYAP_METRIC_EMPIRICAL_GAIN].reason, LYAP_REASON_INSUFFICIENT);
}
END_TEST

/* The gain of the first layer grows, the last one's does not: the worst counts. A layer that was
 * pushed for the first time, and one without a tensor, do not. */
START_TEST(growth_is_of_the_worst_layer)
{
    test_network_init(&net, 4);
    for (uint32_t i = 0; i < 3; i++) {
        static const char *const names[] = { "a", "b", "c" };
        test_network_set(&net, i, names[i], test_network_layer(LYAP_LAYER_LINEAR));
        test_network_tensor(&net, i, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 2, 2 }, 2);
    }
    test_network_set(&net, 3, "d", forward_layer(LYAP_LAYER_ACTIVATION, LYAP_ACTIVATION_TANH));
    forward_begin();
    static const double gains[3][5] = { { 2, 1, 2.5, 5, 1 },
                                        { NAN, NAN, NAN, 7, 7 },
                                        { 1, 1, 1, 1, 4 } };
    static const double growth[5] = { NAN, 1, 2.5, 5, 4 };
    for (int i = 0; i < 5; i++) {
        perturb(0, 5, 1e-6);
        perturb(4, 9, pow(100, i) * 1e-6);
        for (uint32_t l = 0; l < 3; l++)
            perturb(l + 1, 9, gains[l][i] * gains[l][i] * 1e-6);
        const struct lyap_layer_row *rows = forward_step(i);
        if (isnan(growth[i])) {
            ck_assert_uint_eq(point.metrics[LYAP_METRIC_EMPIRICAL_GAIN_GROWTH].reason,
                              LYAP_REASON_WARMING_UP);
            continue;
        }
        test_close(forward_metric(LYAP_METRIC_EMPIRICAL_GAIN_GROWTH), growth[i], 1e-12);
        test_close(forward_value(&rows[0], LYAP_LAYER_METRIC_EMPIRICAL_GAIN_GROWTH),
                   gains[0][i] / (i < 2 ? 2 : 1), 1e-12);
        ck_assert_uint_eq(rows[1].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN_GROWTH].reason,
                          i < 3    ? LYAP_REASON_NEEDS_ACTIVATIONS
                          : i == 3 ? LYAP_REASON_WARMING_UP
                                   : LYAP_REASON_NONE);
    }
    ck_assert_str_eq(lyap_profile_layer_name(profile, 2), "c");
}
END_TEST

/* ---- gates ---- */

/* 0/1 gates of 20 inputs on a 3 x 4 weight, one unit open in each: the norm behind them is that of
 * the longest row, far from max |gate| sigma_1. */
START_TEST(local_gain_is_of_the_gates_one_by_one)
{
    enum { INPUTS = 20 };
    test_network_init(&net, 1);
    test_network_set(&net, 0, "fc", forward_layer(LYAP_LAYER_LINEAR, LYAP_ACTIVATION_RELU));
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 3, 4 }, 2);
    static const double rows_of[3] = { 1, 1.1, 1.2 };
    for (int i = 0; i < 12; i++)
        weights[0][i] = rows_of[i / 4]; /* rows of length 2, 2.2, 2.4: sigma_1 3.82 */
    forward_begin();
    struct lyap_act_sums *acts = lyap_partial_acts(&partial, 2);
    double gates[INPUTS * 3] = { 0 };
    for (int i = 0; i < INPUTS; i++)
        gates[3 * i + i * 3 / INPUTS] = 1;
    acts[1].gate_max = 1;
    acts[1].gates = lyap_gates_new(INPUTS, 3, LYAP_GATE_VALUES_MAX);
    lyap_gates_add(acts[1].gates, 0, gates, 7); /* cut anywhere */
    lyap_gates_add(acts[1].gates, 7, gates + 7, INPUTS * 3 - 7);
    const struct lyap_layer_row *rows = forward_step(0);
    const double whole = sqrt(4 + 4.84 + 5.76);
    test_close(forward_value(rows, LYAP_LAYER_METRIC_LOCAL_GAIN), whole, 2e-3);
    forward_work();
    lyap_gates_free(acts[1].gates);
    acts[1].gates = NULL;
    acts[1].gate_max = NAN;
    moved_sq = 1e-4;
    rows = forward_step(1);
    test_close(forward_value(rows, LYAP_LAYER_METRIC_LOCAL_GAIN), 2.4 + 0.01, 1e-12);
    ck_assert_uint_eq(rows->values[LYAP_LAYER_METRIC_LOCAL_GAIN].trust, LYAP_TRUST_E);
    test_close(forward_value(rows, LYAP_LAYER_METRIC_GAIN), whole, 2e-3);
    ck_assert_int_eq(rows->bound_step, 0);
    test_close(forward_metric(LYAP_METRIC_FORWARD_BOUND_LOCAL), log(2.4 + 0.01), 1e-12);
    struct lyap_layer_job *job;
    ck_assert_int_eq(lyap_profile_layer_job(profile, 1, &job), LYAP_OK);
    ck_assert_ptr_null(job); /* no gates came with step 1 */
}
END_TEST

int main(void)
{
    test_alloc_install();
    lyap_blas_one_thread();
    Suite *suite = suite_create("profile_local");
    TCase *tcase = tcase_create("profile_local");
    tcase_add_checked_fixture(tcase, NULL, forward_teardown);
    tcase_add_test(tcase, empirical_gains);
    tcase_add_test(tcase, growth_is_of_the_worst_layer);
    tcase_add_test(tcase, local_gain_is_of_the_gates_one_by_one);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
