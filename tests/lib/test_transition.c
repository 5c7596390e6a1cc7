/* Transition matrices, limits and largest stable rates: oracle values and closed forms (T5, T6). */
#include <math.h>

#include "linalg.h"
#include "lyap/transition.h"
#include "support.h"
#include "../oracle/golden_values.h"

enum { GOLDEN_COUNT = sizeof golden_transition / sizeof *golden_transition };
static const enum lyap_method methods[] = { LYAP_METHOD_NONE, LYAP_METHOD_GD,
                                            LYAP_METHOD_HEAVY_BALL, LYAP_METHOD_NESTEROV,
                                            LYAP_METHOD_ADAM };

static struct lyap_transition golden(int i)
{
    const double *row = golden_transition[i];
    return (struct lyap_transition){
        .method = methods[(int)row[0]], .lr = row[1], .beta = row[2], .gain = 1, .decay = row[3]
    };
}

START_TEST(test_golden)
{
    const struct lyap_transition t = golden(_i);
    const double *row = golden_transition[_i];
    test_close(lyap_transition_radius(&t, row[4]), row[5], 1e-12);
    test_close(lyap_transition_limit(&t), row[6], 1e-14);
    /* The closed form agrees with LAPACK; double roots lose half the digits there. */
    double m[4], radius;
    const uint32_t n = lyap_transition_matrix(&t, row[4], m);
    ck_assert_int_eq(lyap_linalg_radius(n, m, &radius), LYAP_OK);
    test_close(radius, row[5], 1e-7);
}
END_TEST

/* Just below the limit the radius is below 1, just above it is above; and the largest rate is the
 * inverse of the limit. */
START_TEST(test_limit_separates)
{
    const struct lyap_transition t = golden(_i);
    const double limit = lyap_transition_limit(&t);
    ck_assert(lyap_transition_radius(&t, limit * .9999) < 1);
    ck_assert(lyap_transition_radius(&t, limit * 1.0001) > 1);
    const double lambda = fabs(golden_transition[_i][4]) + .1;
    const double lr_max = lyap_transition_lr_max(&t, lambda);
    struct lyap_transition at = t;
    at.lr = lr_max;
    test_close(lyap_transition_limit(&at) / lambda, 1, 1e-12);
    at.lr = lr_max * .9999;
    ck_assert(lyap_transition_radius(&at, lambda) < 1);
    at.lr = lr_max * 1.0001;
    ck_assert(lyap_transition_radius(&at, lambda) > 1);
}
END_TEST

START_TEST(test_closed_forms)
{
    struct lyap_transition t = { LYAP_METHOD_ADAM, 1e-3, .9, 1, 0 };
    test_close(lyap_transition_limit(&t) * 1e-3, 38, 1e-12);
    t.decay = .1;
    test_close(lyap_transition_limit(&t), 38000 - 1.9, 1e-12);
    /* Between (1 - sqrt beta)^2 and (1 + sqrt beta)^2 the radius is sqrt beta. */
    t = (struct lyap_transition){ LYAP_METHOD_HEAVY_BALL, .01, .9, 1, 0 };
    test_close(lyap_transition_radius(&t, 10), sqrt(.9), 1e-15);
    t.gain = .5; /* dampening halves the rate */
    const struct lyap_transition half = { LYAP_METHOD_HEAVY_BALL, .005, .9, 1, 0 };
    test_close(lyap_transition_limit(&t), lyap_transition_limit(&half), 1e-15);
    test_close(lyap_transition_radius(&t, 3), lyap_transition_radius(&half, 3), 1e-15);
    test_close(lyap_transition_lr_max(&t, 40), 2 * 1.9 / (.5 * 40), 1e-15);
    t.gain = 0;
    ck_assert(isinf(lyap_transition_limit(&t)));
    t.method = LYAP_METHOD_NONE;
    ck_assert(isnan(lyap_transition_limit(&t)) && isnan(lyap_transition_radius(&t, 1)));
    ck_assert(isnan(lyap_transition_lr_max(&t, 1)));
}
END_TEST

/* T6: the scalar Adam Jacobian, and a step of it by finite differences. */
static void adam_step(const struct lyap_adam_scalar *a, const double z[3], double ret[3])
{
    const double g = z[0] * z[0] * z[0];
    ret[1] = a->beta1 * z[1] + (1 - a->beta1) * g;
    ret[2] = a->beta2 * z[2] + (1 - a->beta2) * g * g;
    ret[0] = z[0] * (1 - a->lr * a->decay) - a->lr * ret[1] / (sqrt(ret[2]) + a->eps);
}

START_TEST(test_adam3)
{
    const double z[3] = { 1.3, .4, .7 };
    const struct lyap_adam_scalar a = {
        .01, .9, .99, 1e-3, .1, 3 * z[0] * z[0], z[0] * z[0] * z[0], z[1], z[2]
    };
    double m[9];
    lyap_transition_adam3(&a, m);
    for (int i = 0; i < 9; i++)
        test_close(m[i], golden_adam3[0][i], 1e-14);
    for (int j = 0; j < 3; j++) {
        double up[3] = { z[0], z[1], z[2] }, down[3] = { z[0], z[1], z[2] }, fu[3], fd[3];
        up[j] += 1e-6;
        down[j] -= 1e-6;
        adam_step(&a, up, fu);
        adam_step(&a, down, fd);
        for (int i = 0; i < 3; i++)
            ck_assert(fabs((fu[i] - fd[i]) / 2e-6 - m[3 * i + j]) < 1e-8);
    }
}
END_TEST

/* T5: the spectral radius is the exponent of a coordinate, for heavy ball below its limit. */
START_TEST(test_exponent_of_a_trajectory)
{
    const struct lyap_transition t = { LYAP_METHOD_HEAVY_BALL, .037, .9, 1, 0 };
    double x = 1, m = 0, early = 0, late = 0;
    for (int i = 0; i < 100; i++) {
        m = .9 * m + 90 * x;
        x -= .037 * m;
        if (i >= 29 && i < 49)
            early = fmax(early, fabs(x));
        if (i >= 79)
            late = fmax(late, fabs(x));
    }
    ck_assert(fabs(log(late / early) / 50 - log(lyap_transition_radius(&t, 90))) < .02);
}
END_TEST

START_TEST(test_optimizers)
{
    struct lyap_optimizer_params p = {
        .lr = .1, .momentum = .9, .dampening = .1, .beta1 = .8, .weight_decay = .01
    };
    struct lyap_transition t = lyap_transition_of(LYAP_OPTIMIZER_SGD, &p, .2);
    ck_assert_int_eq(t.method, LYAP_METHOD_HEAVY_BALL);
    test_close(t.gain, .9, 1e-15);
    test_close(t.lr, .2, 0);
    p.is_nesterov = true;
    t = lyap_transition_of(LYAP_OPTIMIZER_SGD, &p, .2);
    ck_assert_int_eq(t.method, LYAP_METHOD_NESTEROV);
    p.momentum = 0;
    t = lyap_transition_of(LYAP_OPTIMIZER_SGD, &p, .2);
    ck_assert_int_eq(t.method, LYAP_METHOD_GD);
    test_close(lyap_transition_limit(&t), 10 - .01, 1e-15);
    t = lyap_transition_of(LYAP_OPTIMIZER_ADAMW, &p, .2);
    test_close(t.decay, .01, 0);
    test_close(lyap_transition_limit(&t), (2 - .002) * 1.8 / (.2 * .2), 1e-15);
    t = lyap_transition_of(LYAP_OPTIMIZER_ADAM, &p, .2);
    test_close(t.decay, 0, 0);
    ck_assert_int_eq(lyap_transition_of(LYAP_OPTIMIZER_LION, &p, .2).method, LYAP_METHOD_NONE);
    ck_assert_int_eq(lyap_transition_of(LYAP_OPTIMIZER_OTHER, &p, .2).method, LYAP_METHOD_NONE);
    t = lyap_transition_of(LYAP_OPTIMIZER_RMSPROP, &p, .2);
    ck_assert_int_eq(t.method, LYAP_METHOD_GD);
}
END_TEST

/* Groups: the strictest one that owns tensors. */
START_TEST(test_strictest_group)
{
    struct lyap_optimizer_group groups[2] = { { .params = { .weight_decay = .5 } },
                                              { .params = { .weight_decay = .7 } } };
    const struct lyap_optimizer o = { .type = LYAP_OPTIMIZER_SGD,
                                      .groups = groups,
                                      .group_count = 2 };
    struct lyap_transition t = lyap_transition_strictest(&o, NULL, .1);
    test_close(t.decay, .7, 0);
    const bool used[] = { true, true, false };
    t = lyap_transition_strictest(&o, used, .1);
    test_close(t.decay, .5, 0);
    const bool only_base[] = { true, false, false };
    t = lyap_transition_strictest(&o, only_base, .1);
    test_close(t.decay, 0, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("transition");
    TCase *tests = tcase_create("transition");
    tcase_add_loop_test(tests, test_golden, 0, GOLDEN_COUNT);
    tcase_add_loop_test(tests, test_limit_separates, 0, GOLDEN_COUNT);
    tcase_add_test(tests, test_closed_forms);
    tcase_add_test(tests, test_adam3);
    tcase_add_test(tests, test_exponent_of_a_trajectory);
    tcase_add_test(tests, test_optimizers);
    tcase_add_test(tests, test_strictest_group);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
