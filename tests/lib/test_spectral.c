/* Singular values: the oracle's, the matrix of T1, certificates on random matrices, streams cut and
 * sharded in every way, extreme scales, bad input, failing memory. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linalg.h"
#include "lyap/blas.h"
#include "lyap/spectral.h"
#include "plain.h"
#include "support.h"
#include "../oracle/representation_values.h"

enum { SIDE_MAX = 40, ENTRIES_MAX = SIDE_MAX * SIDE_MAX };

#define ROWS(table) (sizeof(table) / sizeof *(table))

static struct lyap_spectral_matrix matrix(const double *values, uint32_t rows, uint32_t cols)
{
    return (struct lyap_spectral_matrix){ values, rows, cols };
}

static double norm_of(const struct lyap_spectral_matrix *w)
{
    double norm;
    ck_assert_int_eq(lyap_spectral_norm(w, &norm), LYAP_OK);
    return norm;
}

/* NumPy's n x b normals, read row by row, as b vectors of n. */
static void start_of(struct test_rng *rng, uint32_t n, uint32_t b, double *ret)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < b; j++)
            ret[j * n + i] = test_rng_normal(rng);
    ck_assert_int_eq(lyap_linalg_qr(n, b, ret, NULL), LYAP_OK);
}

/* sigma alone, left as it was on an error. */
static enum lyap_status stream(uint32_t n, uint32_t b, const double *z, double *v, double *sigma)
{
    struct lyap_spectral_estimate estimate;
    const enum lyap_status status = lyap_spectral_stream(n, b, z, v, &estimate);
    if (status == LYAP_OK)
        *sigma = estimate.sigma;
    return status;
}

START_TEST(test_oracle)
{
    for (size_t i = 0; i < ROWS(golden_spectral); i++) {
        const double *row = golden_spectral[i];
        struct test_rng rng = { (uint64_t)row[0] };
        const uint32_t m = (uint32_t)row[1], n = (uint32_t)row[2], b = (uint32_t)row[3];
        double values[ENTRIES_MAX], v[ENTRIES_MAX], z[ENTRIES_MAX] = { 0 }, sigma, upper;
        test_rng_normals(&rng, values, (uint64_t)m * n);
        start_of(&rng, n, b, v);
        const struct lyap_spectral_matrix w = matrix(values, m, n);
        test_close(norm_of(&w), row[11], 1e-12);
        ck_assert_int_eq(lyap_spectral_gram_upper(&w, (uint32_t)row[5], NULL, &upper), LYAP_OK);
        test_close(upper, row[9], 1e-12);
        test_close(plain_upper(&w), row[10], 1e-12);
        plain_products(&w, b, v, z);
        double next[ENTRIES_MAX];
        memcpy(next, v, sizeof next);
        ck_assert_int_eq(stream(n, b, z, next, &sigma), LYAP_OK);
        test_close(sigma, row[8], 1e-9);
        if (b > m) /* more vectors than rows: the stream bears it, QR of W V does not */
            continue;
        struct lyap_spectral_estimate estimate;
        ck_assert_int_eq(lyap_spectral_power(&w, b, (uint32_t)row[4], v, &estimate), LYAP_OK);
        test_close(estimate.sigma, row[6], 1e-11);
        ck_assert(fabs(estimate.residual - row[7]) <= 1e-9);
    }
}
END_TEST

/* T1: singular values 5 4 3 1; a stream of one step a pass follows the ordinary step. */
START_TEST(test_known_sigma)
{
    enum { M = 40, N = 25, B = 2 };
    const struct lyap_spectral_matrix w = matrix(golden_known_sigma[0], M, N);
    struct test_rng rng = { 9 };
    double v[B * N], start[B * N], sigma, upper;
    struct lyap_spectral_estimate estimate;
    start_of(&rng, N, B, start);
    memcpy(v, start, sizeof v);
    ck_assert_int_eq(lyap_spectral_power(&w, B, 30, v, &estimate), LYAP_OK);
    test_close(estimate.sigma, 5, 1e-9);
    ck_assert(estimate.residual < 1e-6);
    ck_assert_int_eq(lyap_spectral_gram_upper(&w, 6, NULL, &upper), LYAP_OK);
    ck_assert(upper >= 5 - 1e-12 && upper <= 5 * pow(4, 1 / 256.) + 1e-9);

    double streamed[B * N];
    memcpy(v, start, sizeof v);
    memcpy(streamed, start, sizeof streamed);
    for (int pass = 0; pass < 12; pass++) {
        double z[B * N] = { 0 };
        plain_products(&w, B, streamed, z);
        ck_assert_int_eq(stream(N, B, z, streamed, &sigma), LYAP_OK);
        ck_assert_int_eq(lyap_spectral_power(&w, B, 1, v, &estimate), LYAP_OK);
        test_close(sigma, estimate.sigma, 1e-9);
        ck_assert(sigma <= 5 + 1e-12);
    }
    test_close(sigma, 5, 2e-3);
}
END_TEST

/* Rows cut into calls give the same bits; shards of rows add. */
START_TEST(test_rows_and_shards)
{
    enum { M = 37, N = 19, B = 3 };
    struct test_rng rng = { 21 };
    double values[M * N], v[B * N], whole[B * N] = { 0 }, cut[B * N] = { 0 };
    double shards[3][B * N] = { { 0 } };
    test_rng_normals(&rng, values, M * N);
    ck_assert_int_eq(lyap_spectral_start(1, N, B, v), LYAP_OK);
    const struct lyap_spectral_matrix w = matrix(values, M, N);
    plain_products(&w, B, v, whole);
    static const uint32_t edges[4] = { 0, 13, 14, M };
    for (int i = 0; i < 3; i++) {
        const struct lyap_spectral_matrix part =
            matrix(values + edges[i] * N, edges[i + 1] - edges[i], N);
        plain_products(&part, B, v, cut);
        plain_products(&part, B, v, shards[i]);
    }
    ck_assert(memcmp(whole, cut, sizeof whole) == 0);
    for (int i = 0; i < B * N; i++)
        test_close(shards[0][i] + shards[1][i] + shards[2][i], whole[i], 1e-12);
}
END_TEST

/* All singular values of a matrix of at most 16 x 16; returns their number. */
static uint32_t spectrum(const struct lyap_spectral_matrix *w, double *ret)
{
    const uint32_t side = w->rows > w->cols ? w->rows : w->cols;
    double square[16 * 16] = { 0 };
    for (uint32_t i = 0; i < w->rows; i++)
        for (uint32_t j = 0; j < w->cols; j++)
            square[i * side + j] = w->values[i * w->cols + j];
    ck_assert_int_eq(lyap_linalg_svd(side, square, ret, NULL, NULL), LYAP_OK);
    return w->rows < w->cols ? w->rows : w->cols;
}

/* A random matrix with columns of uneven size, sometimes of low rank. */
static struct lyap_spectral_matrix random_matrix(struct test_rng *rng, double *values)
{
    const uint32_t m = 1 + (uint32_t)(test_rng_u64(rng) % 16);
    const uint32_t n = 1 + (uint32_t)(test_rng_u64(rng) % 16);
    const double spread = 3 * test_rng_uniform(rng);
    for (uint32_t j = 0; j < n; j++) {
        const double scale = exp(spread * test_rng_normal(rng));
        for (uint32_t i = 0; i < m; i++)
            values[i * n + j] = scale * test_rng_normal(rng);
    }
    if (test_rng_u64(rng) % 4 == 0) /* rank one */
        for (uint32_t i = 1; i < m; i++)
            for (uint32_t j = 0; j < n; j++)
                values[i * n + j] = i * values[j];
    return matrix(values, m, n);
}

/* 1000 random matrices: every lower bound is below, every upper one above, the Gram bound as tight
 * as promised, and a singular value lies within the residual. */
START_TEST(test_certificates)
{
    struct test_rng rng = { 31 };
    for (int trial = 0; trial < 1000; trial++) {
        double values[256], s[16], v[16 * 8], streamed[16 * 8], upper;
        const struct lyap_spectral_matrix w = random_matrix(&rng, values);
        const uint32_t count = spectrum(&w, s), b = lyap_spectral_block(w.rows, w.cols, 2);
        const double slack = 1e-9 * s[0];
        const uint32_t k = (uint32_t)trial % 9;
        test_close(norm_of(&w) / s[0], 1, 1e-12);
        ck_assert_int_eq(lyap_spectral_gram_upper(&w, k, NULL, &upper), LYAP_OK);
        ck_assert(upper >= s[0] - slack && plain_upper(&w) >= s[0] - slack);
        ck_assert(upper <= s[0] * pow(count, 1 / exp2(k + 2.)) + slack);
        ck_assert_int_eq(lyap_spectral_start((uint64_t)trial, w.cols, b, v), LYAP_OK);
        memcpy(streamed, v, sizeof streamed);
        for (int pass = 0; pass < 3; pass++) {
            struct lyap_spectral_estimate estimates[2];
            double z[16 * 8] = { 0 };
            plain_products(&w, b, streamed, z);
            ck_assert_int_eq(lyap_spectral_stream(w.cols, b, z, streamed, &estimates[0]), LYAP_OK);
            ck_assert_int_eq(lyap_spectral_power(&w, b, 1, v, &estimates[1]), LYAP_OK);
            for (int e = 0; e < 2; e++) {
                double nearest = INFINITY;
                ck_assert(estimates[e].sigma >= 0 && estimates[e].sigma <= s[0] + slack);
                for (uint32_t i = 0; i < count; i++)
                    nearest = fmin(nearest, fabs(s[i] - estimates[e].sigma));
                ck_assert(nearest <= estimates[e].residual + slack);
            }
        }
    }
}
END_TEST

/* Two singular values 10^-j apart, for j up to 12: where Cholesky would lose its digits the other
 * lower bound takes over, and never does the estimate exceed sigma_1. */
START_TEST(test_stream_ill_conditioned)
{
    enum { N = 12, B = 2 };
    struct test_rng rng = { 44 };
    for (int trial = 0; trial < 1000; trial++) {
        double u[2 * N], x[2 * N], values[N * N] = { 0 }, v[B * N], sigma = 0;
        test_rng_normals(&rng, u, 2 * N);
        test_rng_normals(&rng, x, 2 * N);
        ck_assert_int_eq(lyap_linalg_qr(N, 2, u, NULL), LYAP_OK);
        ck_assert_int_eq(lyap_linalg_qr(N, 2, x, NULL), LYAP_OK);
        const double second = pow(10, -(trial % 13));
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                values[i * N + j] = 3 * u[i] * x[j] + 3 * second * u[N + i] * x[N + j];
        const struct lyap_spectral_matrix w = matrix(values, N, N);
        ck_assert_int_eq(lyap_spectral_start((uint64_t)trial, N, B, v), LYAP_OK);
        for (int pass = 0; pass < 4; pass++) {
            double z[B * N] = { 0 };
            plain_products(&w, B, v, z);
            ck_assert_int_eq(stream(N, B, z, v, &sigma), LYAP_OK);
            ck_assert(sigma <= 3 * (1 + 1e-9));
        }
        ck_assert(sigma >= 3 * .99);
    }
}
END_TEST

/* Factors, transposition and permuted rows; sizes at the ends of the exponent range. */
START_TEST(test_invariances)
{
    enum { M = 9, N = 6, B = 2 };
    static const double factors[] = { -1, 0x1p10, 1e-120, 1e140 };
    struct test_rng rng = { 51 };
    double values[M * N], changed[M * N], v[B * N], upper, other;
    struct lyap_spectral_estimate a, b;
    test_rng_normals(&rng, values, M * N);
    const struct lyap_spectral_matrix w = matrix(values, M, N);
    ck_assert_int_eq(lyap_spectral_start(7, N, B, v), LYAP_OK);
    ck_assert_int_eq(lyap_spectral_power(&w, B, 2, v, &a), LYAP_OK);
    ck_assert_int_eq(lyap_spectral_gram_upper(&w, 4, NULL, &upper), LYAP_OK);
    for (size_t f = 0; f < ROWS(factors); f++) {
        const double size = fabs(factors[f]);
        for (int i = 0; i < M * N; i++)
            changed[i] = factors[f] * values[i];
        const struct lyap_spectral_matrix scaled = matrix(changed, M, N);
        ck_assert_int_eq(lyap_spectral_start(7, N, B, v), LYAP_OK);
        ck_assert_int_eq(lyap_spectral_power(&scaled, B, 2, v, &b), LYAP_OK);
        test_close(b.sigma / size, a.sigma, 1e-12);
        test_close(b.residual / size, a.residual, 1e-9);
        test_close(norm_of(&scaled) / size, norm_of(&w), 1e-12);
        ck_assert_int_eq(lyap_spectral_gram_upper(&scaled, 4, NULL, &other), LYAP_OK);
        test_close(other / size, upper, 1e-12);
    }
    for (int i = 0; i < M; i++) /* transposed, with the rows in reverse order */
        for (int j = 0; j < N; j++)
            changed[j * M + (M - 1 - i)] = values[i * N + j];
    const struct lyap_spectral_matrix turned = matrix(changed, N, M);
    test_close(norm_of(&turned), norm_of(&w), 1e-13);
    ck_assert_int_eq(lyap_spectral_gram_upper(&turned, 4, NULL, &other), LYAP_OK);
    test_close(other, upper, 1e-13);
    /* An orthonormal start does not depend on where it is made, and is one. */
    for (int i = 0; i < B; i++)
        for (int j = 0; j < B; j++) {
            ck_assert_int_eq(lyap_spectral_start(3, N, B, v), LYAP_OK);
            test_close(lyap_linalg_dot(v + i * N, v + j * N, N), i == j, 1e-14);
        }
}
END_TEST

/* Shapes at which LAPACK takes other ways; a vector's only singular value is its length. */
START_TEST(test_shapes)
{
    enum { COUNT = 100000 };
    static const uint32_t shapes[][2] = { { COUNT, 1 }, { 1, COUNT }, { 500, 3 },  { 3, 500 },
                                          { 70, 65 },   { 65, 70 },   { 200, 120 } };
    static double values[COUNT];
    struct test_rng rng = { 81 };
    test_rng_normals(&rng, values, COUNT);
    test_close(norm_of(&(struct lyap_spectral_matrix){ values, COUNT, 1 }),
               sqrt(lyap_linalg_dot(values, values, COUNT)), 1e-12);
    for (size_t i = 0; i < ROWS(shapes); i++) {
        const struct lyap_spectral_matrix w = matrix(values, shapes[i][0], shapes[i][1]);
        double upper;
        ck_assert_int_eq(lyap_spectral_gram_upper(&w, LYAP_SPECTRAL_SQUARINGS_MAX, NULL, &upper),
                         LYAP_OK);
        test_close(norm_of(&w), upper, 1e-5); /* 120^(1/2^22) is 1.1e-6 over */
        ck_assert(norm_of(&w) <= upper * (1 + 1e-9));
    }
}
END_TEST

START_TEST(test_zero_and_bad)
{
    double values[12] = { 0 }, v[8], before[8], z[8] = { 0 }, out = 7;
    const struct lyap_spectral_matrix w = matrix(values, 3, 4);
    struct lyap_spectral_estimate estimate = { 7, 7 };
    ck_assert_int_eq(lyap_spectral_start(1, 4, 2, v), LYAP_OK);
    memcpy(before, v, sizeof v);
    ck_assert_int_eq(stream(4, 2, z, v, &out), LYAP_OK);
    ck_assert(out == 0 && memcmp(v, before, sizeof v) == 0); /* a zero matrix keeps its start */
    ck_assert_int_eq(lyap_spectral_power(&w, 2, 1, v, &estimate), LYAP_OK);
    ck_assert(estimate.sigma == 0 && estimate.residual == 0);
    ck_assert_int_eq(lyap_spectral_gram_upper(&w, 3, NULL, &out), LYAP_OK);
    ck_assert(out == 0);
    static const double bad[] = { NAN, INFINITY, -INFINITY };
    for (size_t i = 0; i < ROWS(bad); i++) {
        values[5] = bad[i];
        z[3] = bad[i];
        out = 7;
        estimate.sigma = 7;
        memcpy(v, before, sizeof v);
        ck_assert_int_eq(lyap_spectral_power(&w, 2, 1, v, &estimate), LYAP_E_NUMERIC);
        ck_assert_int_eq(stream(4, 2, z, v, &out), LYAP_E_NUMERIC);
        ck_assert_int_eq(lyap_spectral_gram_upper(&w, 3, NULL, &out), LYAP_E_NUMERIC);
        ck_assert_int_eq(lyap_spectral_norm(&w, &out), LYAP_E_NUMERIC);
        ck_assert(out == 7 && estimate.sigma == 7 && memcmp(v, before, sizeof v) == 0);
    }
    const struct lyap_spectral_matrix wide = matrix(values, 2049, 2049);
    ck_assert_int_eq(lyap_spectral_gram_upper(&wide, 1, NULL, &out), LYAP_E_LIMIT);
    const struct lyap_spectral_matrix large = matrix(values, 1 << 15, 1 << 15);
    ck_assert_int_eq(lyap_spectral_norm(&large, &out), LYAP_E_LIMIT);
    ck_assert_uint_eq(lyap_spectral_block(100, 1, 2), 1);
    ck_assert_uint_eq(lyap_spectral_block(3, 100, 99), 3);
    ck_assert_uint_eq(lyap_spectral_block(100, 100, 99), LYAP_SPECTRAL_BLOCK_MAX);
}
END_TEST

enum call { POWER, STREAM, GRAM, NORM, CALLS };

static enum lyap_status run(enum call call, const struct lyap_spectral_matrix *w, double *v)
{
    static const double z[10] = { 1, 2, 3, 4, 5, 5, 4, 2, 1, 7 };
    struct lyap_spectral_estimate estimate;
    double out;
    switch (call) {
    case POWER:
        return lyap_spectral_power(w, 2, 2, v, &estimate);
    case STREAM:
        return stream(5, 2, z, v, &out);
    case GRAM:
        return lyap_spectral_gram_upper(w, 2, NULL, &out);
    case NORM:
        return lyap_spectral_norm(w, &out);
    case CALLS:
        break;
    }
    return LYAP_E_INVALID;
}

START_TEST(test_no_memory)
{
    struct test_rng rng = { 71 };
    double values[20], v[10];
    test_rng_normals(&rng, values, 20);
    const struct lyap_spectral_matrix w = matrix(values, 4, 5);
    ck_assert_int_eq(lyap_spectral_start(1, 5, 2, v), LYAP_OK);
    test_alloc_install();
    for (int call = 0; call < CALLS; call++) {
        enum lyap_status status = LYAP_E_NOMEM;
        for (uint64_t n = 1; status != LYAP_OK; n++) {
            test_alloc_fail_at(n);
            status = run((enum call)call, &w, v);
            ck_assert(status == LYAP_OK ? n > 1 : status == LYAP_E_NOMEM);
            ck_assert_int_eq(test_alloc_live(), 0);
            ck_assert_uint_lt(n, 10);
        }
        test_alloc_fail_at(0);
    }
}
END_TEST

int main(void)
{
    lyap_blas_one_thread();
    Suite *suite = suite_create("spectral");
    TCase *tests = tcase_create("spectral");
    tcase_add_test(tests, test_oracle);
    tcase_add_test(tests, test_known_sigma);
    tcase_add_test(tests, test_rows_and_shards);
    tcase_add_test(tests, test_certificates);
    tcase_add_test(tests, test_stream_ill_conditioned);
    tcase_add_test(tests, test_invariances);
    tcase_add_test(tests, test_shapes);
    tcase_add_test(tests, test_zero_and_bad);
    tcase_add_test(tests, test_no_memory);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
