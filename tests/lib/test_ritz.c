/* Ritz values: exact quadratics (T8), the noise artefact (T9), interlacing and the certificate. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linalg.h"
#include "lyap/ritz.h"
#include "pairs.h"
#include "support.h"
#include "../oracle/golden_values.h"

static const double PI = 3.14159265358979323846;

START_TEST(test_quadratic)
{
    struct lyap_ritz r;
    ck_assert_int_eq(lyap_ritz_compute(12, golden_ritz_quadratic[0], golden_ritz_quadratic[1],
                                       golden_ritz_quadratic[2], 1e-6, &r),
                     LYAP_OK);
    const double *expected = golden_ritz_quadratic_result[0];
    test_close(r.values[0], expected[0], 1e-9);
    test_close(r.residuals[0], expected[1], 1e-5);
    ck_assert_uint_eq(r.rank, (uint32_t)expected[4]);
    test_close(r.values[r.rank - 1], expected[2], 1e-6);
    ck_assert(r.asymmetry < 1e-10);
    ck_assert(r.values[0] <= 50 + 1e-6 && r.values[r.rank - 1] >= -1e-6);
    ck_assert_int_eq(lyap_ritz_accept(&r), 0);
    test_close(r.values[0], 50, 1e-3);
}
END_TEST

START_TEST(test_noisy)
{
    struct lyap_ritz r;
    ck_assert_int_eq(lyap_ritz_compute(6, golden_ritz_noisy[0], golden_ritz_noisy[1],
                                       golden_ritz_noisy[2], 1e-2, &r),
                     LYAP_OK);
    const double *expected = golden_ritz_noisy_result[0];
    ck_assert_uint_eq(r.rank, 6);
    for (int i = 0; i < 6; i++) {
        test_close(r.values[i], expected[i], 1e-10);
        test_close(r.residuals[i], expected[6 + i], 1e-10);
    }
    test_close(r.asymmetry, expected[13], 1e-12);
}
END_TEST

/* T9: expected Grams of pure gradient noise announce the stability limit, whatever H is; for SGD
 * the asymmetry refuses them (beside the batch ids). */
START_TEST(test_noise_artefact)
{
    enum { N = 12 };
    const double lr = .1, b = .9;
    double s[N * N] = { 0 }, y[N * N] = { 0 }, z[N * N] = { 0 };
    struct lyap_ritz r;
    for (int i = 0; i < N; i++) {
        s[i * N + i] = lr * lr;
        y[i * N + i] = lr;
        z[i * N + i] = 4;
        if (i > 0)
            y[i * N + i - 1] = -lr;
    }
    ck_assert_int_eq(lyap_ritz_compute(N, s, y, z, 1e-9, &r), LYAP_OK);
    test_close(r.values[0] * lr, 1 - cos(N * PI / (N + 1)), 1e-12);
    ck_assert(r.asymmetry > LYAP_RITZ_ASYMMETRY_MAX);
    ck_assert_int_eq(lyap_ritz_accept(&r), -1);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            s[i * N + j] = lr * lr * pow(b, abs(i - j)) / (1 - b * b);
            y[i * N + j] =
                j > i ? 0 : lr * pow(b, i - j) - (j + 1 <= i ? lr * pow(b, i - j - 1) : 0);
        }
    ck_assert_int_eq(lyap_ritz_compute(N, s, y, z, 1e-12, &r), LYAP_OK);
    ck_assert(r.values[0] * lr > .9 * 2 * (1 + b) && r.values[0] * lr < 2 * (1 + b));
}
END_TEST

/* 1000 random diagonal H: values between the extreme eigenvalues, an eigenvalue within each
 * residual, the top coefficients give the value back. */
START_TEST(test_certificates)
{
    enum { D = 24, N = 5 };
    struct test_rng rng = { 77 };
    for (int trial = 0; trial < 1000; trial++) {
        double h[D], s[N][D], y[N][D], ss[N * N], sy[N * N], yy[N * N];
        test_rng_normals(&rng, h, D);
        for (int i = 0; i < N; i++) {
            test_rng_normals(&rng, s[i], D);
            for (int k = 0; k < D; k++) {
                s[i][k] *= exp(3 * i - 6.);
                y[i][k] = h[k] * s[i][k];
            }
        }
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                ss[i * N + j] = lyap_linalg_dot(s[i], s[j], D);
                sy[i * N + j] = lyap_linalg_dot(s[i], y[j], D);
                yy[i * N + j] = lyap_linalg_dot(y[i], y[j], D);
            }
        struct lyap_ritz r;
        ck_assert_int_eq(lyap_ritz_compute(N, ss, sy, yy, 1e-2, &r), LYAP_OK);
        ck_assert(r.asymmetry < 1e-12);
        double top = -1e300, bottom = 1e300;
        for (int k = 0; k < D; k++) {
            top = fmax(top, h[k]);
            bottom = fmin(bottom, h[k]);
        }
        for (uint32_t v = 0; v < r.rank; v++) {
            double nearest = 1e300;
            for (int k = 0; k < D; k++)
                nearest = fmin(nearest, fabs(h[k] - r.values[v]));
            ck_assert(nearest <= r.residuals[v] + 1e-9);
            ck_assert(r.values[v] <= top + 1e-9 && r.values[v] >= bottom - 1e-9);
            ck_assert(v == 0 || r.values[v] <= r.values[v - 1]);
        }
        double value = 0, norm = 0;
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                value += r.top[i] * sy[i * N + j] * r.top[j];
                norm += r.top[i] * ss[i * N + j] * r.top[j];
            }
        test_close(norm, 1, 1e-9);
        test_close(value, r.values[0], 1e-9);
    }
}
END_TEST

/* SPEC 6.6 b: a rotation (here two reflections) of parameters and gradients, and the length of a
 * displacement, change no value. */
START_TEST(test_invariances)
{
    enum { D = 24, N = 5 };
    struct test_rng rng = { 78 };
    double s[N][D], y[N][D], h[D], u[2][D];
    struct lyap_ritz before, after;
    test_rng_normals(&rng, h, D);
    test_rng_normals(&rng, u[0], D);
    test_rng_normals(&rng, u[1], D);
    for (int i = 0; i < N; i++) {
        test_rng_normals(&rng, s[i], D);
        for (int k = 0; k < D; k++)
            y[i][k] = h[k] * s[i][k] + .05 * test_rng_normal(&rng);
    }
    for (int pass = 0; pass < 2; pass++) {
        double ss[N * N], sy[N * N], yy[N * N];
        for (int i = 0; i < N * N; i++) {
            ss[i] = lyap_linalg_dot(s[i / N], s[i % N], D);
            sy[i] = lyap_linalg_dot(s[i / N], y[i % N], D);
            yy[i] = lyap_linalg_dot(y[i / N], y[i % N], D);
        }
        ck_assert_int_eq(lyap_ritz_compute(N, ss, sy, yy, 1e-2, pass ? &after : &before), LYAP_OK);
        for (int i = 0; i < N; i++)
            for (int r = 0; r < 2; r++) {
                const double uu = lyap_linalg_dot(u[r], u[r], D);
                const double us = 2 * lyap_linalg_dot(u[r], s[i], D) / uu;
                const double uy = 2 * lyap_linalg_dot(u[r], y[i], D) / uu;
                const double length = r == 0 ? 1 : exp(4 * i - 8.);
                for (int k = 0; k < D; k++) {
                    s[i][k] = length * (s[i][k] - us * u[r][k]);
                    y[i][k] = length * (y[i][k] - uy * u[r][k]);
                }
            }
    }
    ck_assert_uint_eq(before.rank, after.rank);
    test_close(after.asymmetry, before.asymmetry, 1e-10);
    for (uint32_t i = 0; i < before.rank; i++) {
        test_close(after.values[i], before.values[i], 1e-10);
        test_close(after.residuals[i], before.residuals[i], 1e-7);
    }
}
END_TEST

START_TEST(test_bad_input)
{
    struct lyap_ritz r;
    const double zero[4] = { 0 }, one[4] = { 1, 0, 0, 1 }, bad[4] = { 1, NAN, 0, 1 };
    ck_assert_int_eq(lyap_ritz_compute(2, zero, one, one, 1e-2, &r), LYAP_E_NUMERIC);
    ck_assert_int_eq(lyap_ritz_compute(2, bad, one, one, 1e-2, &r), LYAP_E_NUMERIC);
    ck_assert_int_eq(lyap_ritz_compute(2, one, bad, one, 1e-2, &r), LYAP_E_NUMERIC);
    /* One pair is its quotient, and a NaN asymmetry is never accepted. */
    ck_assert_int_eq(lyap_ritz_compute(1, (const double[]){ 4 }, (const double[]){ 6 },
                                       (const double[]){ 10 }, 1e-2, &r),
                     LYAP_OK);
    test_close(r.values[0], 1.5, 1e-15);
    test_close(r.residuals[0], .5, 1e-12);
    ck_assert_int_eq(lyap_ritz_accept(&r), -1);
    r.residuals[0] = .1;
    ck_assert_int_eq(lyap_ritz_accept(&r), 0);
    r.asymmetry = NAN;
    ck_assert_int_eq(lyap_ritz_accept(&r), -1);
    r = (struct lyap_ritz){ .rank = 1, .values = { -2 }, .residuals = { 0 } };
    ck_assert_int_eq(lyap_ritz_accept(&r), -1);
}
END_TEST

/* The ring keeps the newest pairs; its Gram matrices are those of the pairs it holds. */
START_TEST(test_ring)
{
    enum { K = 16, CAPACITY = 4 };
    struct lyap_pairs p;
    struct test_rng rng = { 9 };
    double all_s[9][K], all_y[9][K], *s, *y;
    test_alloc_install();
    for (uint64_t n = 1; n <= 2; n++) {
        test_alloc_fail_at(n);
        ck_assert_int_eq(lyap_pairs_init(&p, CAPACITY, K), LYAP_E_NOMEM);
        ck_assert_int_eq(test_alloc_live(), 0);
    }
    ck_assert_int_eq(lyap_pairs_init(&p, CAPACITY, K), LYAP_OK);
    struct lyap_ritz r;
    ck_assert_int_eq(lyap_pairs_ritz(&p, &r), LYAP_E_TOO_FEW);
    for (int n = 0; n < 9; n++) {
        test_rng_normals(&rng, all_s[n], K);
        test_rng_normals(&rng, all_y[n], K);
        lyap_pairs_slot(&p, &s, &y);
        memcpy(s, all_s[n], sizeof all_s[n]);
        memcpy(y, all_y[n], sizeof all_y[n]);
        ck_assert(lyap_pairs_commit(&p));
        ck_assert_uint_eq(p.count, n < CAPACITY ? (unsigned)n + 1 : CAPACITY);
        test_close(lyap_pairs_newest_quotient(&p),
                   lyap_linalg_dot(all_s[n], all_y[n], K) / lyap_linalg_dot(all_s[n], all_s[n], K),
                   1e-14);
    }
    double ss[16], sy[16], yy[16];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            ss[4 * i + j] = lyap_linalg_dot(all_s[5 + i], all_s[5 + j], K);
            sy[4 * i + j] = lyap_linalg_dot(all_s[5 + i], all_y[5 + j], K);
            yy[4 * i + j] = lyap_linalg_dot(all_y[5 + i], all_y[5 + j], K);
        }
    struct lyap_ritz direct;
    ck_assert_int_eq(lyap_pairs_ritz(&p, &r), LYAP_OK);
    ck_assert_int_eq(lyap_ritz_compute(4, ss, sy, yy, LYAP_RITZ_TOLERANCE, &direct), LYAP_OK);
    for (uint32_t i = 0; i < direct.rank; i++)
        test_close(r.values[i], direct.values[i], 1e-12);
    test_close(r.asymmetry, direct.asymmetry, 1e-12);
    /* A zero displacement is refused; the oldest pair was overwritten all the same. */
    lyap_pairs_slot(&p, &s, &y);
    memset(s, 0, K * sizeof *s);
    ck_assert(!lyap_pairs_commit(&p));
    ck_assert_uint_eq(p.count, 3);
    lyap_pairs_release(&p);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ritz");
    TCase *tests = tcase_create("ritz");
    tcase_add_test(tests, test_quadratic);
    tcase_add_test(tests, test_noisy);
    tcase_add_test(tests, test_noise_artefact);
    tcase_add_test(tests, test_certificates);
    tcase_add_test(tests, test_invariances);
    tcase_add_test(tests, test_bad_input);
    tcase_add_test(tests, test_ring);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
