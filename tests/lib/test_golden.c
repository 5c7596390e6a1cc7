/* Golden cases of SPEC 7 that belong to no module: the generator (7.0), exponents of whole
 * trajectories (7.1, T5), the mean-square radius of drawn batches (7.7, T15), sketches and bf16
 * (7.8, T16, T17), the golden network at its start (7.9, T19). The others are named where they
 * stand: T1 spectral, T2 conv, T3 residual, T4 update_gain, T6 transition, T7 growth, T8 and T9
 * ritz, T10 to T13 energy, T14 profile_energy, T18 level. */
#include <math.h>
#include <string.h>

#include "golden_net.h"
#include "linalg.h"
#include "intake_fixture.h"
#include "lyap/blas.h"
#include "lyap/growth.h"
#include "lyap/sketch.h"
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

enum { SKETCH_SIZE = 256, SKETCHED = 640 };

static void add_sketch(const double *x, uint64_t first, uint64_t count, uint64_t seed,
                       double ret[SKETCH_SIZE])
{
    struct lyap_sketch sketch;
    ck_assert_int_eq(lyap_sketch_init(&sketch, SKETCH_SIZE), LYAP_OK);
    lyap_sketch_add(&sketch, seed, first, x + first, count);
    lyap_sketch_read(&sketch, ret);
    lyap_sketch_release(&sketch);
}

/* T16: of parts at any place, the sum is the sketch of the whole, and that of a sum of vectors; a
 * block keeps its norm; inner products are right in the mean. */
START_TEST(test_sketches)
{
    double a[SKETCHED], b[SKETCHED], both[SKETCHED], sketches[4][SKETCH_SIZE], mean = 0;
    struct test_rng rng_a = { 21 }, rng_b = { 22 };
    test_rng_normals(&rng_a, a, SKETCHED);
    test_rng_normals(&rng_b, b, SKETCHED);
    for (int i = 0; i < SKETCHED; i++)
        both[i] = a[i] + b[i];
    add_sketch(a, 0, SKETCHED, 5, sketches[0]);
    add_sketch(a, 0, 90, 5, sketches[1]);
    add_sketch(a, 90, SKETCHED - 90, 5, sketches[2]);
    for (int i = 0; i < SKETCH_SIZE; i++)
        test_close(sketches[1][i] + sketches[2][i], sketches[0][i], 1e-12);
    add_sketch(b, 0, SKETCHED, 5, sketches[1]);
    add_sketch(both, 0, SKETCHED, 5, sketches[2]);
    for (int i = 0; i < SKETCH_SIZE; i++)
        test_close(sketches[0][i] + sketches[1][i], sketches[2][i], 1e-12);
    add_sketch(a, 0, 64, 5, sketches[3]);
    test_close(lyap_linalg_dot(sketches[3], sketches[3], SKETCH_SIZE), lyap_linalg_dot(a, a, 64),
               1e-12);
    enum { SEEDS = 300 };
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        add_sketch(a, 0, SKETCHED, seed, sketches[0]);
        add_sketch(b, 0, SKETCHED, seed, sketches[1]);
        mean += lyap_linalg_dot(sketches[0], sketches[1], SKETCH_SIZE) / SEEDS;
    }
    const double norms = sqrt(lyap_linalg_dot(a, a, SKETCHED) * lyap_linalg_dot(b, b, SKETCHED));
    ck_assert(fabs(mean - lyap_linalg_dot(a, b, SKETCHED)) <
              4 * norms / sqrt(SKETCH_SIZE * (double)SEEDS));
}
END_TEST

/* T17: what is left of two numbers in bf16, as it is widened again. */
START_TEST(test_bf16)
{
    static const double pushed[] = { 1 + 0x1p-9, 1.01 }, kept[] = { 1, 1.0078125 };
    unsigned char bytes[4];
    double found[2];
    ck_assert_uint_eq(fixture_narrow(LYAP_DTYPE_BF16, pushed, 2, bytes), sizeof bytes);
    lyap_dtype_widen(LYAP_DTYPE_BF16, bytes, 2, found);
    for (int i = 0; i < 2; i++)
        ck_assert(found[i] == kept[i]);
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
    tcase_add_test(tests, test_sketches);
    tcase_add_test(tests, test_bf16);
    tcase_add_test(tests, test_golden_start);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
