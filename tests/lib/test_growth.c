/* Verdicts: the oracle's, closed forms, the golden cases T7, invariances; energies of matrices. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linalg.h"
#include "lyap/blas.h"
#include "lyap/growth.h"
#include "lyap/transition.h"
#include "support.h"
#include "../oracle/representation_values.h"

enum { VALUES_MAX = 1000 };

#define ROWS(table) (sizeof(table) / sizeof *(table))

/* The series of representation_values.py. */
static uint32_t log_norms(const double row[5], double *ret)
{
    const int kind = (int)row[0];
    const uint32_t size = (uint32_t)row[1];
    struct test_rng rng = { (uint64_t)row[4] };
    double walk = 0;
    for (uint32_t t = 0; t < size; t++) {
        const double laws[4] = { t, log1p(t), sin(t), sqrt(t) };
        const double noise = row[3] * test_rng_normal(&rng);
        walk += noise;
        ret[t] = row[2] * laws[kind % 4] + (kind >= 4 ? walk : noise);
    }
    return size;
}

static struct lyap_growth_fit fit_of(const double *y, uint32_t count)
{
    struct lyap_growth_fit fit;
    ck_assert_int_eq(lyap_growth_fit(y, count, &fit), LYAP_OK);
    ck_assert(fit.half >= 0 && fit.log_m >= 0 && fit.log_m_block >= 0);
    ck_assert(fit.log_m_block <= fit.log_m + 1e-12);
    return fit;
}

START_TEST(test_oracle)
{
    unsigned seen = 0;
    for (size_t i = 0; i < ROWS(golden_growth); i++) {
        const double *row = golden_growth[i];
        double y[VALUES_MAX];
        const struct lyap_growth_fit fit = fit_of(y, log_norms(row, y));
        ck_assert_int_eq(fit.verdict, (int)row[5]);
        test_close(fit.rate, row[6], 1e-11);
        test_close(fit.ci, row[7], 1e-11);
        test_close(fit.rise, row[8], 1e-11);
        test_close(fit.log_m, row[9], 1e-11);
        test_close(fit.log_m_block, row[10], 1e-11);
        if (isfinite(row[11]))
            test_close(fit.late_ratio, row[11], 1e-9);
        else
            ck_assert(isnan(row[11]) ? isnan(fit.late_ratio) : fit.late_ratio == row[11]);
        seen |= 1u << fit.verdict;
    }
    ck_assert_uint_eq(seen, (1u << LYAP_GROWTH_COUNT) - 1); /* every verdict occurs */
}
END_TEST

/* T7: a Jordan block has exponent 0 and grows linearly; pure laws without noise. */
START_TEST(test_golden_cases)
{
    double jordan[401], decay[401], growth[401], wave[401];
    for (int t = 0; t < 401; t++) {
        jordan[t] = 0.5 * log1p((double)t * t); /* |[[1,1],[0,1]]^t (0,1)'| */
        decay[t] = -.02 * t;
        growth[t] = .02 * t;
        wave[t] = .3 * sin(t);
    }
    ck_assert_int_eq(fit_of(jordan, 401).verdict, LYAP_GROWTH_SUBEXPONENTIAL);
    ck_assert_int_eq(fit_of(decay, 401).verdict, LYAP_GROWTH_DECAY);
    ck_assert_int_eq(fit_of(growth, 401).verdict, LYAP_GROWTH_EXPONENTIAL);
    ck_assert_int_eq(fit_of(wave, 401).verdict, LYAP_GROWTH_BOUNDED);
    const struct lyap_growth_fit exact = fit_of(growth, 401);
    test_close(exact.rate, .02, 1e-12);
    ck_assert(exact.ci < 1e-12);
    test_close(exact.log_m, 8, 1e-12);
    test_close(exact.late_ratio, 1, 1e-9);
    for (int g = 0; g < LYAP_GROWTH_COUNT; g++)
        ck_assert_uint_gt(strlen(lyap_growth_name((enum lyap_growth)g)), 4);
}
END_TEST

/* A constant added changes nothing; neither do the oldest count % 8 values, but in log_m. */
START_TEST(test_invariances)
{
    struct test_rng rng = { 3 };
    for (int trial = 0; trial < 200; trial++) {
        double y[VALUES_MAX], shifted[VALUES_MAX];
        const uint32_t count = 65 + (uint32_t)(test_rng_u64(&rng) % 300);
        const double slope = .02 * test_rng_normal(&rng), offset = 10 * test_rng_normal(&rng);
        for (uint32_t i = 0; i < count; i++) {
            y[i] = slope * i + .2 * test_rng_normal(&rng);
            shifted[i] = y[i] + offset;
        }
        const struct lyap_growth_fit a = fit_of(y, count), b = fit_of(shifted, count);
        ck_assert_int_eq(a.verdict, b.verdict);
        test_close(a.rate, b.rate, 1e-12);
        test_close(a.log_m, b.log_m, 1e-12);
        const uint32_t odd = count % 8;
        if (odd == 0 || count - odd < LYAP_GROWTH_VALUES_MIN)
            continue;
        const struct lyap_growth_fit c = fit_of(y + odd, count - odd);
        ck_assert_int_eq(a.verdict, c.verdict);
        test_close(a.ci, c.ci, 1e-14);
        ck_assert(c.log_m <= a.log_m);
    }
}
END_TEST

/* Level noise .1: the interval covers the true rate in at least 95 of 100, and no growth of e^0 is
 * called one. */
START_TEST(test_coverage)
{
    struct test_rng rng = { 19 };
    int covered = 0, grown = 0;
    for (int trial = 0; trial < 1000; trial++) {
        double y[256];
        const double rate = trial % 2 ? .012 : 0;
        for (int t = 0; t < 256; t++)
            y[t] = rate * t + .1 * test_rng_normal(&rng);
        const struct lyap_growth_fit fit = fit_of(y, 256);
        covered += fabs(fit.rate - rate) <= fit.ci;
        grown += rate == 0 && fit.verdict != LYAP_GROWTH_BOUNDED;
    }
    ck_assert_int_ge(covered, 950);
    ck_assert_int_eq(grown, 0);
}
END_TEST

START_TEST(test_bad_windows)
{
    double y[LYAP_GROWTH_VALUES_MIN] = { 0 };
    struct lyap_growth_fit fit = { .rate = 7 };
    ck_assert_int_eq(lyap_growth_fit(y, LYAP_GROWTH_VALUES_MIN - 1, &fit), LYAP_E_TOO_FEW);
    ck_assert_int_eq(lyap_growth_fit(y, 0, &fit), LYAP_E_TOO_FEW);
    const double bad[3] = { NAN, INFINITY, -INFINITY };
    for (int i = 0; i < 3; i++)
        for (int at = 0; at < LYAP_GROWTH_VALUES_MIN; at += 16) {
            y[at] = bad[i];
            ck_assert_int_eq(lyap_growth_fit(y, LYAP_GROWTH_VALUES_MIN, &fit), LYAP_E_NUMERIC);
            y[at] = 0;
        }
    ck_assert(fit.rate == 7);
    fit = fit_of(y, LYAP_GROWTH_VALUES_MIN); /* all zero: no noise, no growth */
    ck_assert_int_eq(fit.verdict, LYAP_GROWTH_BOUNDED);
    ck_assert(fit.rate == 0 && fit.ci == 0 && isnan(fit.late_ratio));
}
END_TEST

START_TEST(test_dlyap_oracle)
{
    struct lyap_growth_bound bound;
    double p[9];
    for (size_t i = 0; i < ROWS(golden_dlyap); i++) {
        const double *row = golden_dlyap[i];
        ck_assert_int_eq(lyap_growth_dlyap(2, row, NULL, p), LYAP_OK);
        for (int k = 0; k < 4; k++)
            test_close(p[k], row[4 + k], 1e-9);
        ck_assert_int_eq(lyap_growth_energy_bound(2, row, &bound), LYAP_OK);
        test_close(bound.rate, row[8], 1e-9);
        test_close(bound.gain, row[9], 1e-9);
    }
    const double *a = golden_dlyap3[0], *q = golden_dlyap3[1];
    ck_assert_int_eq(lyap_growth_dlyap(3, a, NULL, p), LYAP_OK);
    for (int k = 0; k < 9; k++)
        test_close(p[k], golden_dlyap3[2][k], 1e-8);
    ck_assert_int_eq(lyap_growth_dlyap(3, a, q, p), LYAP_OK);
    for (int k = 0; k < 9; k++)
        test_close(p[k], golden_dlyap3[3][k], 1e-8);
    ck_assert_int_eq(lyap_growth_energy_bound(3, a, &bound), LYAP_OK);
    test_close(bound.rate, golden_dlyap3_bound[0][0], 1e-9);
    test_close(bound.gain, golden_dlyap3_bound[0][1], 1e-9);
}
END_TEST

/* Row-major ret = a b. */
static void product(uint32_t n, const double *a, const double *b, double *ret)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            ret[i * n + j] = 0;
            for (uint32_t k = 0; k < n; k++)
                ret[i * n + j] += a[i * n + k] * b[k * n + j];
        }
}

/* |A|_2 from the eigenvalues of A'A. */
static double norm_two(uint32_t n, const double *a)
{
    double gram[9], values[3];
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            gram[i * n + j] = 0;
            for (uint32_t k = 0; k < n; k++)
                gram[i * n + j] += a[k * n + i] * a[k * n + j];
        }
    ck_assert_int_eq(lyap_linalg_symmetric(n, gram, values), LYAP_OK);
    return sqrt(fmax(values[n - 1], 0));
}

/* 1000 random stable matrices of width 1..3: the equation holds, and every power keeps the bound.
 */
START_TEST(test_bound_of_powers)
{
    struct test_rng rng = { 5 };
    for (int trial = 0; trial < 1000; trial++) {
        const uint32_t n = 1 + (uint32_t)trial % 3;
        double a[9], p[9], pa[9], power[9], next[9], radius;
        test_rng_normals(&rng, a, n * n);
        ck_assert_int_eq(lyap_linalg_radius(n, a, &radius), LYAP_OK);
        const double target = .05 + .94 * test_rng_uniform(&rng);
        for (uint32_t i = 0; i < n * n; i++)
            a[i] *= target / radius;
        ck_assert_int_eq(lyap_growth_dlyap(n, a, NULL, p), LYAP_OK);
        product(n, p, a, pa);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < n; j++) {
                double sum = -p[i * n + j];
                for (uint32_t k = 0; k < n; k++)
                    sum += a[k * n + i] * pa[k * n + j];
                ck_assert(fabs(sum + (i == j)) <= 1e-9 * (1 + norm_two(n, p)));
            }
        struct lyap_growth_bound bound;
        ck_assert_int_eq(lyap_growth_energy_bound(n, a, &bound), LYAP_OK);
        ck_assert(bound.rate < 0 && bound.gain >= 1);
        memset(power, 0, sizeof power);
        for (uint32_t i = 0; i < n; i++)
            power[i * n + i] = 1;
        for (int t = 0; t <= 60; t++) {
            ck_assert(norm_two(n, power) <= bound.gain * exp(bound.rate * t) * (1 + 1e-9));
            product(n, power, a, next);
            memcpy(power, next, n * n * sizeof *next);
        }
    }
}
END_TEST

START_TEST(test_dlyap_closed_and_bad)
{
    double p[9];
    const double half = .5, one = 1, bad = NAN;
    ck_assert_int_eq(lyap_growth_dlyap(1, &half, NULL, p), LYAP_OK);
    test_close(p[0], 1 / (1 - .25), 1e-15);
    ck_assert_int_eq(lyap_growth_dlyap(1, &half, &(double){ 3 }, p), LYAP_OK);
    test_close(p[0], 4, 1e-15);
    ck_assert_int_eq(lyap_growth_dlyap(1, &one, NULL, p), LYAP_E_NOT_FOUND);
    ck_assert_int_eq(lyap_growth_dlyap(1, &bad, NULL, p), LYAP_E_NUMERIC);
    ck_assert_int_eq(lyap_growth_dlyap(1, &half, &bad, p), LYAP_E_NUMERIC);
    const double jordan[4] = { 1, 1, 0, 1 };
    struct lyap_growth_bound bound;
    ck_assert_int_eq(lyap_growth_energy_bound(2, jordan, &bound), LYAP_E_NOT_FOUND);
    /* Exactly at the linear limit of heavy ball there is no energy, just below there is. */
    struct lyap_transition t = {
        .method = LYAP_METHOD_HEAVY_BALL, .lr = .01, .beta = .9, .gain = 1
    };
    double a[4];
    lyap_transition_matrix(&t, lyap_transition_limit(&t) * 1.0001, a);
    ck_assert_int_eq(lyap_growth_energy_bound(2, a, &bound), LYAP_E_NOT_FOUND);
    lyap_transition_matrix(&t, lyap_transition_limit(&t) * .9999, a);
    ck_assert_int_eq(lyap_growth_energy_bound(2, a, &bound), LYAP_OK);
}
END_TEST

START_TEST(test_theorem_and_mean_square)
{
    const struct lyap_growth_fit fit = { .rate = -.1, .ci = .02, .log_m = 1 };
    ck_assert(!lyap_growth_contradicts(&fit, exp(-.2), exp(2)));
    ck_assert(!lyap_growth_contradicts(&fit, exp(-.22), exp(2))); /* within the interval */
    ck_assert(lyap_growth_contradicts(&fit, exp(-.26), exp(2)));  /* decays too slowly */
    ck_assert(lyap_growth_contradicts(&fit, exp(-.2), exp(1.9))); /* a larger gain than c2/c1 */
    /* T15: H in {1, 3}, lr .4, batches of one. */
    test_close(lyap_growth_mean_square(.4, 2, 1), .04 + .16, 1e-15);
    test_close(lyap_growth_mean_square(.4, 2, 0), .04, 1e-15);
    /* Against the average it stands for. */
    struct test_rng rng = { 8 };
    double mean = 0, square = 0, sum = 0;
    enum { N = 1000 };
    for (int i = 0; i < N; i++) {
        const double a = 3 + test_rng_normal(&rng), factor = 1 - .3 * a;
        mean += a / N;
        square += a * a / N;
        sum += factor * factor / N;
    }
    test_close(lyap_growth_mean_square(.3, mean, square - mean * mean), sum, 1e-10);
}
END_TEST

int main(void)
{
    lyap_blas_one_thread();
    Suite *suite = suite_create("growth");
    TCase *tests = tcase_create("growth");
    tcase_add_test(tests, test_oracle);
    tcase_add_test(tests, test_golden_cases);
    tcase_add_test(tests, test_invariances);
    tcase_add_test(tests, test_coverage);
    tcase_add_test(tests, test_bad_windows);
    tcase_add_test(tests, test_dlyap_oracle);
    tcase_add_test(tests, test_bound_of_powers);
    tcase_add_test(tests, test_dlyap_closed_and_bad);
    tcase_add_test(tests, test_theorem_and_mean_square);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
