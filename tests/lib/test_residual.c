/* Residual blocks: the oracle's log-norms and gains, closed forms (T3), 1000 random blocks for each
 * certified inequality. */
#include <math.h>
#include <string.h>

#include "lyap/blas.h"
#include "lyap/residual.h"
#include "support.h"
#include "../oracle/representation_values.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))

enum { N_MAX = 12, ENTRIES_MAX = N_MAX * N_MAX };

static struct lyap_spectral_matrix square(const double *values, uint32_t n)
{
    return (struct lyap_spectral_matrix){ values, n, n };
}

static double norm_of(const double *values, uint32_t n)
{
    double norm;
    const struct lyap_spectral_matrix w = square(values, n);
    ck_assert_int_eq(lyap_spectral_norm(&w, &norm), LYAP_OK);
    return norm;
}

static double log_norm_of(const double *values, uint32_t n)
{
    double mu;
    const struct lyap_spectral_matrix w = square(values, n);
    ck_assert_int_eq(lyap_residual_log_norm(&w, &mu), LYAP_OK);
    return mu;
}

/* ret = I + h diag(gate) A; gate NULL: ones. */
static void step_matrix(uint32_t n, const double *a, double h, const double *gate, double *ret)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            ret[i * n + j] = (i == j) + h * (gate ? gate[i] : 1) * a[i * n + j];
}

START_TEST(test_oracle)
{
    for (size_t i = 0; i < ROWS(golden_residual); i++) {
        const double *row = golden_residual[i];
        const uint32_t n = (uint32_t)row[1];
        double a[ENTRIES_MAX] = { -1, 10, -10, -1 };
        struct test_rng rng = { (uint64_t)row[0] };
        for (uint32_t k = 0; k < n * n && row[0] > 0; k++)
            a[k] = test_rng_normal(&rng) - (k % (n + 1) == 0);
        struct lyap_residual_bounds bounds;
        const struct lyap_spectral_matrix w = square(a, n);
        ck_assert_int_eq(lyap_residual_constant(&w, &bounds), LYAP_OK);
        test_close(bounds.log_norm, row[2], 1e-12);
        test_close(bounds.lipschitz, row[3], 1e-12);
        test_close(lyap_residual_gain(.3, &bounds), row[4], 1e-12);
        test_close(lyap_residual_cfl(&bounds), row[5], 1e-12);
    }
}
END_TEST

START_TEST(test_closed_forms)
{
    const double skew[4] = { 0, 1, -1, 0 }, spiral[4] = { -1, 10, -10, -1 };
    const double gated[4] = { -1, 10, 0, 0 }; /* diag(1, 0) times it */
    double step[4];
    test_close(log_norm_of(skew, 2), 0, 1e-15);
    const struct lyap_residual_bounds rotation = { 1, 0 }, contraction = { 1, -1 };
    test_close(lyap_residual_gain(.5, &rotation), sqrt(1.25), 1e-15);
    step_matrix(2, skew, .5, NULL, step);
    test_close(norm_of(step, 2), sqrt(1.25), 1e-14); /* attained */
    test_close(lyap_residual_cfl(&contraction), 2, 1e-15);
    test_close(lyap_residual_gain(.5, &contraction), .5, 1e-15);
    ck_assert(lyap_residual_cfl(&rotation) == 0);
    test_close(log_norm_of(spiral, 2), -1, 1e-13);
    test_close(log_norm_of(gated, 2), 4.5249378105604451, 1e-12); /* gates make mu_2 positive */
    const struct lyap_residual_bounds triangle = { 3, 3 };        /* mu = L is all that is known */
    test_close(lyap_residual_gain(.2, &triangle), 1.6, 1e-15);
    test_close(lyap_residual_gain(.2, &(struct lyap_residual_bounds){ 3, 50 }), 1.6, 1e-15);
    test_close(lyap_residual_backward_gain(.5, -2), .5, 1e-15);
    ck_assert(isinf(lyap_residual_backward_gain(.5, 2)) && lyap_residual_backward_gain(0, 9) == 1);
    test_close(lyap_residual_symmetric_gain(3, 1, 1), 2, 1e-15);
    ck_assert(lyap_residual_symmetric_gain(2, 1, 1) == 1);
    test_close(lyap_residual_symmetric_cfl(.25, 2), 2, 1e-15);
    ck_assert(isinf(lyap_residual_symmetric_cfl(1, 0)));
}
END_TEST

/* |I + hA| <= gain <= 1 + hL; |I + hA| <= 1 up to the CFL limit; the implicit step as bounded. */
START_TEST(test_constant_blocks)
{
    struct test_rng rng = { 13 };
    int certified = 0;
    for (int trial = 0; trial < 1000; trial++) {
        const uint32_t n = 1 + (uint32_t)(test_rng_u64(&rng) % 8);
        double a[64], step[64];
        struct lyap_residual_bounds bounds;
        const double shift = 4 * test_rng_normal(&rng), h = test_rng_uniform(&rng);
        for (uint32_t i = 0; i < n * n; i++)
            a[i] = test_rng_normal(&rng) - (i % (n + 1) == 0 ? shift : 0);
        const struct lyap_spectral_matrix w = square(a, n);
        ck_assert_int_eq(lyap_residual_constant(&w, &bounds), LYAP_OK);
        ck_assert(fabs(bounds.log_norm) <= bounds.lipschitz + 1e-9);
        step_matrix(n, a, h, NULL, step);
        const double gain = lyap_residual_gain(h, &bounds);
        ck_assert(norm_of(step, n) <= gain + 1e-9);
        ck_assert(gain <= 1 + h * bounds.lipschitz + 1e-9);
        const double limit = lyap_residual_cfl(&bounds);
        ck_assert((limit > 0) == (bounds.log_norm < 0));
        step_matrix(n, a, limit, NULL, step);
        ck_assert(norm_of(step, n) <= 1 + 1e-9);
        test_close(lyap_residual_gain(limit, &bounds), 1, 1e-9);
        certified += limit > 0;
        /* |(I - hA)^-1| <= g is |x| <= g |x - hAx| for every x */
        const double backward = lyap_residual_backward_gain(h, bounds.log_norm);
        double x[8], xx = 0, yy = 0;
        test_rng_normals(&rng, x, n);
        for (uint32_t i = 0; i < n; i++) {
            double y = x[i];
            for (uint32_t j = 0; j < n; j++)
                y -= h * a[i * n + j] * x[j];
            xx += x[i] * x[i];
            yy += y * y;
        }
        ck_assert(isinf(backward) || sqrt(xx) <= backward * sqrt(yy) + 1e-9);
    }
    ck_assert_int_gt(certified, 100);
}
END_TEST

/* J = -W'DW: norm, log-norm and gain for random gates; the limit expands nothing. */
START_TEST(test_symmetric_blocks)
{
    enum { M = 5, N = 4 };
    struct test_rng rng = { 15 };
    for (int trial = 0; trial < 1000; trial++) {
        double w[M * N], gate[M], j[N * N] = { 0 }, step[N * N], sigma;
        const double gate_max = .1 + 2 * test_rng_uniform(&rng), h = test_rng_uniform(&rng);
        test_rng_normals(&rng, w, M * N);
        ck_assert_int_eq(lyap_spectral_norm(&(struct lyap_spectral_matrix){ w, M, N }, &sigma),
                         LYAP_OK);
        for (int i = 0; i < M; i++) {
            gate[i] = gate_max * (trial % 3 ? test_rng_uniform(&rng) : test_rng_uniform(&rng) > .5);
            for (int k = 0; k < N * N; k++)
                j[k] -= w[i * N + k / N] * gate[i] * w[i * N + k % N];
        }
        const struct lyap_residual_bounds bounds = lyap_residual_symmetric(gate_max, sigma);
        ck_assert(norm_of(j, N) <= bounds.lipschitz + 1e-9);
        ck_assert(log_norm_of(j, N) <= bounds.log_norm + 1e-9);
        step_matrix(N, j, h, NULL, step);
        const double gain = lyap_residual_symmetric_gain(h, gate_max, sigma);
        ck_assert(norm_of(step, N) <= gain + 1e-9);
        ck_assert(gain <= lyap_residual_gain(h, &bounds) + 1e-9);
        step_matrix(N, j, lyap_residual_symmetric_cfl(gate_max, sigma), NULL, step);
        ck_assert(norm_of(step, N) <= 1 + 1e-9);
    }
}
END_TEST

static double norm_inf(uint32_t n, const double *a)
{
    double largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < n; j++)
            sum += fabs(a[i * n + j]);
        largest = fmax(largest, sum);
    }
    return largest;
}

/* Gates over all of [0, g]: the gain in the inf-norm holds and is attained at a vertex. */
START_TEST(test_gated_blocks)
{
    enum { N = 4 };
    struct test_rng rng = { 18 };
    for (int trial = 0; trial < 1000; trial++) {
        double a[N * N], step[N * N], gate[N];
        const double g = .2 + test_rng_uniform(&rng), h = 2 * test_rng_uniform(&rng);
        for (int i = 0; i < N * N; i++)
            a[i] = test_rng_normal(&rng) - (i % (N + 1) == 0 ? 3 : 0);
        const double gain = lyap_residual_gated_gain_inf(N, a, h, g);
        double gain_seen = 0;
        for (int vertex = 0; vertex < 1 << (N + 1); vertex++) {
            for (int i = 0; i < N; i++)
                gate[i] = g * (vertex >> N ? test_rng_uniform(&rng) : vertex >> i & 1);
            step_matrix(N, a, h, gate, step);
            gain_seen = fmax(gain_seen, norm_inf(N, step));
        }
        test_close(gain_seen, gain, 1e-12);
    }
}
END_TEST

/* mu(cA + dI) = c mu(A) + d for c > 0; orthogonal changes of basis keep it. */
START_TEST(test_invariances)
{
    enum { N = 5 };
    struct test_rng rng = { 25 };
    double a[N * N], b[N * N], permuted[N * N];
    test_rng_normals(&rng, a, N * N);
    for (int i = 0; i < N * N; i++)
        b[i] = 2.5 * a[i] - (i % (N + 1) == 0 ? 7 : 0);
    test_close(log_norm_of(b, N), 2.5 * log_norm_of(a, N) - 7, 1e-12);
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) /* reversed order, signs alternating */
            permuted[i * N + j] = ((i + j) % 2 ? -1 : 1) * a[(N - 1 - i) * N + N - 1 - j];
    test_close(log_norm_of(permuted, N), log_norm_of(a, N), 1e-13);
}
END_TEST

START_TEST(test_bad_input)
{
    double a[4] = { 1, 2, NAN, 4 }, out = 7;
    struct lyap_residual_bounds bounds = { 7, 7 };
    const struct lyap_spectral_matrix w = square(a, 2), wide = { a, 1, 2 }, none = { a, 0, 0 };
    ck_assert_int_eq(lyap_residual_log_norm(&w, &out), LYAP_E_NUMERIC);
    ck_assert_int_eq(lyap_residual_constant(&w, &bounds), LYAP_E_NUMERIC);
    ck_assert_int_eq(lyap_residual_log_norm(&wide, &out), LYAP_E_INVALID);
    ck_assert_int_eq(lyap_residual_log_norm(&none, &out), LYAP_E_INVALID);
    const struct lyap_spectral_matrix large = square(a, LYAP_RESIDUAL_SIDE_MAX + 1);
    ck_assert_int_eq(lyap_residual_log_norm(&large, &out), LYAP_E_LIMIT);
    ck_assert(out == 7 && bounds.lipschitz == 7);
    ck_assert(isnan(lyap_residual_gated_gain_inf(2, a, 1, 1)));
    bounds = (struct lyap_residual_bounds){ NAN, -1 };
    ck_assert(isnan(lyap_residual_gain(1, &bounds)) && isnan(lyap_residual_cfl(&bounds)));
    bounds = (struct lyap_residual_bounds){ 1, NAN };
    ck_assert(isnan(lyap_residual_gain(1, &bounds)) && isnan(lyap_residual_cfl(&bounds)));
    ck_assert(isnan(lyap_residual_backward_gain(1, NAN)));
    ck_assert(isnan(lyap_residual_symmetric_gain(1, 1, NAN)));
}
END_TEST

START_TEST(test_no_memory)
{
    const double a[4] = { 1, 2, 3, 4 };
    const struct lyap_spectral_matrix w = square(a, 2);
    struct lyap_residual_bounds bounds;
    enum lyap_status status = LYAP_E_NOMEM;
    test_alloc_install();
    for (uint64_t n = 1; status != LYAP_OK; n++) {
        test_alloc_fail_at(n);
        status = lyap_residual_constant(&w, &bounds);
        ck_assert(status == LYAP_OK ? n > 4 : status == LYAP_E_NOMEM);
        ck_assert_int_eq(test_alloc_live(), 0);
        ck_assert_uint_lt(n, 20);
    }
}
END_TEST

int main(void)
{
    lyap_blas_one_thread();
    Suite *suite = suite_create("residual");
    TCase *tests = tcase_create("residual");
    tcase_add_test(tests, test_oracle);
    tcase_add_test(tests, test_closed_forms);
    tcase_add_test(tests, test_constant_blocks);
    tcase_add_test(tests, test_symmetric_blocks);
    tcase_add_test(tests, test_gated_blocks);
    tcase_add_test(tests, test_invariances);
    tcase_add_test(tests, test_bad_input);
    tcase_add_test(tests, test_no_memory);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
