/* Golden cases of SPEC 7 that belong to no module: the generator (7.0), exponents of whole
 * trajectories (7.1, T5), the mean-square radius of drawn batches (7.7, T15), the golden network at
 * its start (7.9, T19). */
#include <math.h>
#include <string.h>

#include "golden_net.h"
#include "linalg.h"
#include "lyap/blas.h"
#include "lyap/growth.h"
#include "lyap/spectral.h"
#include "lyap/transition.h"
#include "support.h"

START_TEST(test_generator)
{
    struct test_rng rng = { 1 };
    ck_assert(test_rng_u64(&rng) == UINT64_C(0x910a2dec89025cc1));
    ck_assert(test_rng_u64(&rng) == UINT64_C(0xbeeb8da1658eec67));
}
END_TEST

enum { MODES = 3, STEPS = 100 };
static const double curvatures[MODES] = { 1, 10, 90 };
static const struct lyap_transition trajectories[] = {
    { LYAP_METHOD_GD, .015, 0, 1, 0 },         { LYAP_METHOD_GD, .0199, 0, 1, 0 },
    { LYAP_METHOD_HEAVY_BALL, .01, .9, 1, 0 }, { LYAP_METHOD_HEAVY_BALL, .037, .9, 1, 0 },
    { LYAP_METHOD_NESTEROV, .01, .9, 1, 0 },   { LYAP_METHOD_ADAM, .3, .9, 1, 0 },
};

/* The optimizer as its framework defines it, not its matrix; Adam with P = 1. */
static double advance(const struct lyap_transition *t, double g, double *m)
{
    const bool is_adam = t->method == LYAP_METHOD_ADAM;
    *m = t->beta * *m + (is_adam ? 1 - t->beta : 1) * g;
    return -t->lr * (t->method == LYAP_METHOD_NESTEROV ? g + t->beta * *m : *m);
}

/* T5: the log spectral radius is the exponent of the envelope of every coordinate. */
START_TEST(test_exponents)
{
    const struct lyap_transition *t = &trajectories[_i];
    for (int mode = 0; mode < MODES; mode++) {
        double x = 1, m = 0, early = 0, late = 0;
        for (int step = 1; step < STEPS; step++) {
            x += advance(t, curvatures[mode] * x, &m);
            if (step >= 30 && step < 50)
                early = fmax(early, fabs(x));
            if (step >= 80)
                late = fmax(late, fabs(x));
        }
        const double radius = lyap_transition_radius(t, curvatures[mode]);
        ck_assert_msg(fabs(log(late / early) / 50 - log(radius)) < .02, "curvature %g: %g, not %g",
                      curvatures[mode], log(late / early) / 50, log(radius));
    }
    const double limit = lyap_transition_limit(t);
    ck_assert(lyap_transition_radius(t, .9999 * limit) < 1);
    ck_assert(lyap_transition_radius(t, 1.0001 * limit) > 1);
}
END_TEST

/* T15: samples of curvature 1 and 3, eta .4. Batches of one: mean 2, variance 1. Both, without
 * replacement: no variance is left. */
START_TEST(test_mean_square)
{
    test_close(lyap_growth_mean_square(.4, 2, 1), .2, 1e-15);
    test_close(lyap_growth_mean_square(.4, 2, 0), .04, 1e-15);
}
END_TEST

static void hessian_of(const struct golden_net *net, double h[NET_SIZE][NET_SIZE])
{
    for (int i = 0; i < NET_SIZE; i++) {
        double unit[NET_SIZE] = { 0 };
        unit[i] = 1;
        golden_net_hvp(net, net->start, unit, h[i]);
    }
}

/* Largest eigenvalue; `factor` -1: of -H. H is then left without it. */
static double take_top(double h[NET_SIZE][NET_SIZE], double factor)
{
    double copy[NET_SIZE][NET_SIZE], v[NET_SIZE], y[NET_SIZE], value;
    struct test_rng rng = { 2 };
    for (int i = 0; i < NET_SIZE; i++)
        for (int j = 0; j < NET_SIZE; j++)
            copy[i][j] = factor * h[i][j];
    ck_assert_int_eq(lyap_linalg_top(NET_SIZE, copy[0], &value), LYAP_OK);
    test_rng_normals(&rng, v, NET_SIZE);
    for (int t = 0; t < 2000; t++) { /* its eigenvector, on a shifted H */
        const double norm = sqrt(lyap_linalg_dot(v, v, NET_SIZE));
        for (int i = 0; i < NET_SIZE; i++)
            y[i] = v[i] / norm;
        for (int i = 0; i < NET_SIZE; i++)
            v[i] = factor * lyap_linalg_dot(h[i], y, NET_SIZE) + 2 * y[i];
    }
    for (int i = 0; i < NET_SIZE; i++)
        for (int j = 0; j < NET_SIZE; j++)
            h[i][j] -= factor * value * y[i] * y[j];
    return factor * value;
}

/* T19: the Hessian-vector product against differences of the gradient, the eigenvalues, the norms
 * of both weights. */
START_TEST(test_golden_start)
{
    static double h[NET_SIZE][NET_SIZE];
    struct golden_net net;
    struct test_rng rng = { 2 };
    double v[NET_SIZE], product[NET_SIZE], at[2][NET_SIZE], g[2][NET_SIZE], norm;
    golden_net_init(&net);
    test_rng_normals(&rng, v, NET_SIZE);
    golden_net_hvp(&net, net.start, v, product);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < NET_SIZE; i++)
            at[k][i] = net.start[i] + (k ? 1e-6 : -1e-6) * v[i];
        (void)golden_net_grad(&net, at[k], g[k]);
    }
    for (int i = 0; i < NET_SIZE; i++)
        test_close((g[1][i] - g[0][i]) / 2e-6, product[i], 1e-7);
    hessian_of(&net, h);
    test_close(take_top(h, 1), 3.0175374739, 1e-9);
    test_close(take_top(h, 1), 2.3104859565, 1e-9);
    test_close(take_top(h, -1), -1.2629751432, 1e-9);
    const struct lyap_spectral_matrix w1 = { net.start, NET_HIDDEN, NET_IN };
    const struct lyap_spectral_matrix w2 = { net.start + 70, NET_OUT, NET_HIDDEN };
    ck_assert_int_eq(lyap_spectral_norm(&w1, &norm), LYAP_OK);
    test_close(norm, 2.0273794906, 1e-9);
    ck_assert_int_eq(lyap_spectral_norm(&w2, &norm), LYAP_OK);
    test_close(norm, 1.2455626322, 1e-9);
}
END_TEST

int main(void)
{
    lyap_blas_one_thread();
    Suite *suite = suite_create("golden");
    TCase *tests = tcase_create("golden");
    tcase_add_test(tests, test_generator);
    tcase_add_loop_test(tests, test_exponents, 0, sizeof trajectories / sizeof *trajectories);
    tcase_add_test(tests, test_mean_square);
    tcase_add_test(tests, test_golden_start);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
