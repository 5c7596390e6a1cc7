/* Layers: the oracle's gains, and 1000 random Jacobians by central differences for each bound. */
#include <math.h>
#include <string.h>

#include "lyap/blas.h"
#include "lyap/layer.h"
#include "support.h"
#include "../oracle/representation_values.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))

enum { SIZE_MAX_OF_TEST = 128 };

static struct lyap_spectral_matrix matrix(const double *values, uint32_t rows, uint32_t cols)
{
    return (struct lyap_spectral_matrix){ values, rows, cols };
}

static double norm_of(const double *values, uint32_t rows, uint32_t cols)
{
    double norm;
    const struct lyap_spectral_matrix w = matrix(values, rows, cols);
    ck_assert_int_eq(lyap_spectral_norm(&w, &norm), LYAP_OK);
    return norm;
}

struct norm {
    const double *gamma; /* NULL: ones */
    double eps;
    bool is_rms;
};

/* Mean square of a token, about its mean unless `is_rms`. */
static double spread_of(const struct norm *norm, const double *x, uint32_t count)
{
    double mean = 0, sum = 0;
    for (uint32_t i = 0; i < count && !norm->is_rms; i++)
        mean += x[i] / count;
    for (uint32_t i = 0; i < count; i++)
        sum += (x[i] - mean) * (x[i] - mean) / count;
    return sum;
}

static double gain_of(const struct norm *norm, const double *x, uint32_t tokens, uint32_t width)
{
    double scale = norm->gamma ? 0 : 1, least = INFINITY;
    for (uint32_t i = 0; norm->gamma && i < width; i++)
        scale = fmax(scale, fabs(norm->gamma[i]));
    for (uint32_t t = 0; t < tokens; t++)
        least = fmin(least, spread_of(norm, x + t * width, width));
    return lyap_layer_norm_gain(scale, least, norm->eps);
}

START_TEST(test_oracle)
{
    for (size_t i = 0; i < ROWS(golden_norm_gain); i++) {
        const double *row = golden_norm_gain[i];
        struct test_rng rng = { (uint64_t)row[0] };
        const uint32_t tokens = (uint32_t)row[1], n = (uint32_t)row[2];
        double gamma[SIZE_MAX_OF_TEST], x[SIZE_MAX_OF_TEST];
        test_rng_normals(&rng, gamma, n);
        test_rng_normals(&rng, x, (uint64_t)tokens * n);
        const struct norm norm = { gamma, 1e-5, row[3] > 0 };
        test_close(gain_of(&norm, x, tokens, n), row[4], 1e-12);
    }
    struct test_rng rng = { 6 };
    double x[20], a[16], v[16], w[28], gain;
    test_rng_normals(&rng, x, 20);
    test_rng_normals(&rng, a, 16);
    test_rng_normals(&rng, v, 16);
    test_rng_normals(&rng, w, 28);
    const double *expected = golden_attention[0];
    const double value_output = norm_of(v, 4, 4), size = norm_of(x, 5, 4);
    const struct lyap_layer_heads head = { value_output,
                                           value_output * norm_of(a, 4, 4) / sqrt(4) };
    test_close(lyap_layer_attention_gain(&head, sqrt(5), size), expected[0], 1e-12);
    test_close(lyap_layer_attention_gain(&head, expected[2], size), expected[1], 1e-12);
    const struct lyap_spectral_matrix left = matrix(a, 4, 4), right = matrix(w, 4, 7);
    ck_assert_int_eq(lyap_layer_product_norm(&left, &right, &gain), LYAP_OK);
    test_close(gain, expected[3], 1e-12);
    test_close(lyap_layer_log_product(golden_log_product[0], 5), golden_log_product[0][5], 1e-14);
    test_close(lyap_layer_log_product(golden_log_product[0], 3), golden_log_product[0][6], 1e-14);
}
END_TEST

/* Products of random layers with gates: the log bound is above the log of the norm; rescaling a
 * layer shifts it; the order does not matter. */
START_TEST(test_log_product)
{
    enum { N = 4, LAYERS = 5 };
    struct test_rng rng = { 30 };
    for (int trial = 0; trial < 1000; trial++) {
        double product[N * N] = { 0 }, next[N * N], w[N * N], gate[N], gains[LAYERS];
        for (int i = 0; i < N; i++)
            product[i * N + i] = 1;
        for (int l = 0; l < LAYERS; l++) {
            test_rng_normals(&rng, w, N * N);
            for (int i = 0; i < N; i++)
                gate[i] = test_rng_uniform(&rng);
            const struct lyap_spectral_matrix layer = matrix(w, N, N);
            ck_assert_int_eq(lyap_layer_gated_norm(&layer, gate, &gains[l]), LYAP_OK);
            ck_assert(gains[l] <= norm_of(w, N, N) + 1e-9);
            for (int k = 0; k < N * N; k++) {
                next[k] = 0;
                for (int j = 0; j < N; j++)
                    next[k] += gate[k / N] * w[k / N * N + j] * product[j * N + k % N];
            }
            memcpy(product, next, sizeof product);
        }
        const double bound = lyap_layer_log_product(gains, LAYERS);
        ck_assert(log(norm_of(product, N, N)) <= bound + 1e-9);
        const double first = gains[0];
        gains[0] = gains[3];
        gains[3] = 8 * first;
        test_close(lyap_layer_log_product(gains, LAYERS), bound + log(8), 1e-12);
    }
    const double bad[2] = { 1, -1 }, nan[2] = { NAN, 1 };
    ck_assert(isnan(lyap_layer_log_product(bad, 2)) && isnan(lyap_layer_log_product(nan, 2)));
    ck_assert(lyap_layer_log_product(NULL, 0) == 0);
}
END_TEST

static void normalize(const struct norm *norm, uint32_t n, const double *x, double *ret)
{
    double mean = 0, sum = 0;
    for (uint32_t i = 0; i < n && !norm->is_rms; i++)
        mean += x[i] / n;
    for (uint32_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean) / n;
    for (uint32_t i = 0; i < n; i++)
        ret[i] = (norm->gamma ? norm->gamma[i] : 1) * (x[i] - mean) / sqrt(sum + norm->eps);
}

/* LayerNorm and RMSNorm of two tokens: each token's Jacobian stays below the gain of both. */
START_TEST(test_norms)
{
    enum { N = 6 };
    struct test_rng rng = { 33 };
    for (int trial = 0; trial < 1000; trial++) {
        double gamma[N], x[2 * N], jacobian[N * N];
        test_rng_normals(&rng, gamma, N);
        for (int i = 0; i < 2 * N; i++)
            x[i] = 2 + (i < N ? 1 : .3) * test_rng_normal(&rng);
        const struct norm norm = { trial % 3 ? gamma : NULL, 1e-5, trial % 2 == 0 };
        const double gain = gain_of(&norm, x, 2, N);
        for (int token = 0; token < 2; token++) {
            for (int k = 0; k < N; k++) {
                const double h = 1e-4;
                double near[N], plus[N], minus[N];
                memcpy(near, x + token * N, sizeof near);
                near[k] += h;
                normalize(&norm, N, near, plus);
                near[k] -= 2 * h;
                normalize(&norm, N, near, minus);
                for (int i = 0; i < N; i++)
                    jacobian[i * N + k] = (plus[i] - minus[i]) / (2 * h);
            }
            /* 1e-5: the differences' own error */
            ck_assert(norm_of(jacobian, N, N) <= gain * (1 + 1e-5));
        }
    }
}
END_TEST

/* Rows of an embedding under convex mixtures of one-hot rows and under a changed token. */
START_TEST(test_embedding)
{
    enum { WORDS = 6, N = 3 };
    struct test_rng rng = { 40 };
    for (int trial = 0; trial < 1000; trial++) {
        double table[WORDS * N], gain, l1 = 0, l2 = 0, moved = 0;
        test_rng_normals(&rng, table, WORDS * N);
        const struct lyap_spectral_matrix e = matrix(table, WORDS, N);
        ck_assert_int_eq(lyap_layer_embedding_gain(&e, &gain), LYAP_OK);
        double weights[WORDS];
        test_rng_normals(&rng, weights, WORDS);
        for (int w = 0; w < WORDS; w++)
            l1 += fabs(weights[w]);
        for (int k = 0; k < N; k++) {
            double sum = 0;
            for (int w = 0; w < WORDS; w++)
                sum += weights[w] * table[w * N + k];
            l2 += sum * sum;
            moved += (table[k] - table[N + k]) * (table[k] - table[N + k]);
        }
        ck_assert(sqrt(l2) <= gain * l1 + 1e-9);
        ck_assert(sqrt(moved) <= 2 * gain + 1e-9);
        ck_assert(gain <= norm_of(table, WORDS, N) + 1e-9);
    }
}
END_TEST

enum { TOKENS = 4, WIDTH = 3, HEADS = 2, INPUTS = TOKENS * WIDTH };
struct weights {
    double a[HEADS][WIDTH * WIDTH], v[HEADS][WIDTH * WIDTH];
};

/* Adds softmax(X A X'/sqrt(2)) X V to `ret`; `p` receives the attention matrix. */
static void attend(const double *x, const double *a, const double *v, double *p, double *ret)
{
    for (int i = 0; i < TOKENS; i++) {
        double total = 0;
        for (int j = 0; j < TOKENS; j++) {
            double score = 0;
            for (int k = 0; k < WIDTH * WIDTH; k++)
                score += x[i * WIDTH + k / WIDTH] * a[k] * x[j * WIDTH + k % WIDTH];
            p[i * TOKENS + j] = exp(score / sqrt(2));
            total += p[i * TOKENS + j];
        }
        for (int j = 0; j < TOKENS; j++) {
            p[i * TOKENS + j] /= total;
            for (int k = 0; k < WIDTH * WIDTH; k++)
                ret[i * WIDTH + k % WIDTH] += p[i * TOKENS + j] * x[j * WIDTH + k / WIDTH] * v[k];
        }
    }
}

/* Two heads: the Jacobian at X stays below the sum of the heads' bounds, with and without P. */
START_TEST(test_attention)
{
    struct test_rng rng = { 50 };
    for (int trial = 0; trial < 1000; trial++) {
        double x[INPUTS], jacobian[INPUTS * INPUTS], p[TOKENS * TOKENS], ignored[INPUTS] = { 0 };
        struct weights w;
        struct lyap_layer_heads heads = { 0 };
        double attention = 0; /* the larger |P|_2 */
        test_rng_normals(&rng, x, INPUTS);
        for (int head = 0; head < HEADS; head++) {
            test_rng_normals(&rng, w.a[head], WIDTH * WIDTH);
            test_rng_normals(&rng, w.v[head], WIDTH * WIDTH);
            attend(x, w.a[head], w.v[head], p, ignored);
            const double value_output = norm_of(w.v[head], WIDTH, WIDTH);
            heads.value_output += value_output;
            heads.product += value_output * norm_of(w.a[head], WIDTH, WIDTH) / sqrt(2);
            attention = fmax(attention, norm_of(p, TOKENS, TOKENS));
        }
        for (int k = 0; k < INPUTS; k++) {
            const double h = 1e-5;
            double near[INPUTS], out[2][INPUTS] = { { 0 } };
            for (int side = 0; side < 2; side++) {
                memcpy(near, x, sizeof near);
                near[k] += side ? h : -h;
                for (int head = 0; head < HEADS; head++)
                    attend(near, w.a[head], w.v[head], p, out[side]);
            }
            for (int i = 0; i < INPUTS; i++)
                jacobian[i * INPUTS + k] = (out[1][i] - out[0][i]) / (2 * h);
        }
        ck_assert(attention <= sqrt(TOKENS) + 1e-9);
        const double gain = lyap_layer_attention_gain(
            &heads, trial % 2 == 0 ? attention : sqrt(TOKENS), norm_of(x, TOKENS, WIDTH));
        ck_assert(norm_of(jacobian, INPUTS, INPUTS) <= gain * (1 + 1e-6));
    }
}
END_TEST

START_TEST(test_empirical)
{
    double gain = 7;
    ck_assert_int_eq(lyap_layer_empirical_gain(9, 4, &gain), LYAP_OK);
    test_close(gain, 1.5, 1e-15);
    ck_assert_int_eq(lyap_layer_empirical_gain(0, 4, &gain), LYAP_OK);
    ck_assert(gain == 0);
    gain = 7;
    ck_assert_int_eq(lyap_layer_empirical_gain(9, 0, &gain), LYAP_E_TOO_FEW);
    static const double bad[] = { NAN, INFINITY, -1 };
    for (size_t i = 0; i < ROWS(bad); i++) {
        ck_assert_int_eq(lyap_layer_empirical_gain(bad[i], 1, &gain), LYAP_E_NUMERIC);
        ck_assert_int_eq(lyap_layer_empirical_gain(1, bad[i], &gain), LYAP_E_NUMERIC);
    }
    ck_assert(gain == 7);
    /* A gated layer's own difference never exceeds its gain. */
    struct test_rng rng = { 60 };
    for (int trial = 0; trial < 1000; trial++) {
        double w[12], x[3], in = 0, out = 0;
        test_rng_normals(&rng, w, 12);
        test_rng_normals(&rng, x, 3);
        for (int i = 0; i < 4; i++) {
            const double y = w[3 * i] * x[0] + w[3 * i + 1] * x[1] + w[3 * i + 2] * x[2];
            out += tanh(y) * tanh(y);
        }
        for (int k = 0; k < 3; k++)
            in += x[k] * x[k];
        ck_assert_int_eq(lyap_layer_empirical_gain(out, in, &gain), LYAP_OK);
        ck_assert(gain <= norm_of(w, 4, 3) + 1e-9);
    }
}
END_TEST

START_TEST(test_bad_input)
{
    double values[6] = { 1, 2, 3, 4, NAN, 6 }, gain = 7;
    const double ones[3] = { 1, 1, 1 }, bad_gamma[3] = { 1, INFINITY, 1 };
    const struct lyap_spectral_matrix m = matrix(values, 2, 3), first = matrix(values, 1, 3);
    ck_assert(!isfinite(lyap_layer_norm_gain(1, NAN, 1)));
    ck_assert(!isfinite(lyap_layer_norm_gain(INFINITY, 1, 1)));
    ck_assert(!isfinite(lyap_layer_norm_gain(1, 0, 0)));
    ck_assert_int_eq(lyap_layer_embedding_gain(&m, &gain), LYAP_E_NUMERIC);
    ck_assert_int_eq(lyap_layer_gated_norm(&m, ones, &gain), LYAP_E_NUMERIC);
    ck_assert_int_eq(lyap_layer_gated_norm(&first, &bad_gamma[1], &gain), LYAP_E_NUMERIC);
    ck_assert_int_eq(lyap_layer_product_norm(&m, &m, &gain), LYAP_E_NUMERIC);
    ck_assert_int_eq(lyap_layer_product_norm(&m, &first, &gain), LYAP_E_INVALID);
    ck_assert(
        !isfinite(lyap_layer_attention_gain(&(struct lyap_layer_heads){ 1, INFINITY }, 1, 1)));
    ck_assert(!isfinite(lyap_layer_attention_gain(&(struct lyap_layer_heads){ 1, 1 }, 1, NAN)));
    const struct lyap_spectral_matrix large = matrix(values, 1 << 15, 1 << 15);
    ck_assert_int_eq(lyap_layer_gated_norm(&large, ones, &gain), LYAP_E_LIMIT);
    ck_assert_int_eq(lyap_layer_product_norm(&large, &large, &gain), LYAP_E_LIMIT);
    ck_assert(gain == 7);
}
END_TEST

START_TEST(test_no_memory)
{
    const double values[6] = { 1, 2, 3, 4, 5, 6 };
    const struct lyap_spectral_matrix m = matrix(values, 2, 3);
    double gain;
    test_alloc_install();
    for (int call = 0; call < 2; call++) {
        enum lyap_status status = LYAP_E_NOMEM;
        for (uint64_t n = 1; status != LYAP_OK; n++) {
            test_alloc_fail_at(n);
            status = call == 0 ? lyap_layer_gated_norm(&m, values, &gain)
                               : lyap_layer_product_norm(&m, &m, &gain);
            ck_assert(status == LYAP_OK ? n > 1 : status == LYAP_E_NOMEM);
            ck_assert_int_eq(test_alloc_live(), 0);
            ck_assert_uint_lt(n, 20);
        }
        test_alloc_fail_at(0);
    }
}
END_TEST

int main(void)
{
    lyap_blas_one_thread();
    Suite *suite = suite_create("layer");
    TCase *tests = tcase_create("layer");
    tcase_add_test(tests, test_oracle);
    tcase_add_test(tests, test_log_product);
    tcase_add_test(tests, test_norms);
    tcase_add_test(tests, test_embedding);
    tcase_add_test(tests, test_attention);
    tcase_add_test(tests, test_empirical);
    tcase_add_test(tests, test_bad_input);
    tcase_add_test(tests, test_no_memory);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
