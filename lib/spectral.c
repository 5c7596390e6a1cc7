/* Largest singular value of a stored or a streamed matrix. */
#include "lyap/spectral.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "linalg.h"
#include "lyap/alloc.h"
#include "banned.h"

enum { BLOCK_MAX = LYAP_SPECTRAL_BLOCK_MAX, ENTRIES_MAX = BLOCK_MAX * BLOCK_MAX };
static_assert((int)LYAP_SPECTRAL_BLOCK_MAX <= (int)LYAP_LINALG_N_MAX, "fits the small problems");

/* Cholesky of the Gram matrix loses digits as its condition number: with pivots down to this share
 * of the largest, sigma keeps its lower-bound property to about 1e-10. */
static const double PIVOT_SHARE_MIN = 1e-5;

static bool is_sane(const struct lyap_spectral_matrix *w)
{
    return w->values && w->rows >= 1 && w->rows <= INT32_MAX && w->cols >= 1 &&
           w->cols <= INT32_MAX;
}

static bool is_block(uint32_t cols, uint32_t block)
{
    return block >= 1 && block <= BLOCK_MAX && block <= cols;
}

static uint64_t elements_of(const struct lyap_spectral_matrix *w)
{
    return (uint64_t)w->rows * w->cols;
}

uint32_t lyap_spectral_block(uint32_t rows, uint32_t cols, uint32_t wanted)
{
    uint32_t block = wanted < BLOCK_MAX ? wanted : BLOCK_MAX;
    block = block < rows ? block : rows;
    return block < cols ? block : cols;
}

/* SplitMix64: a well mixed number for each index. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void fill_start(uint64_t seed, uint64_t count, double *ret)
{
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t bits = mix(seed + UINT64_C(0x9E3779B97F4A7C15) * (i + 1));
        ret[i] = (double)(bits >> 11) / 0x1p52 - 1; /* uniform in [-1, 1) */
    }
}

enum lyap_status lyap_spectral_start(uint64_t seed, uint32_t cols, uint32_t block, double *ret_v)
{
    assert(is_block(cols, block));
    fill_start(seed, (uint64_t)cols * block, ret_v);
    return lyap_linalg_qr(cols, block, ret_v, NULL);
}

/* q_j = W v_j. */
static void multiply(const struct lyap_spectral_matrix *w, uint32_t block, const double *v,
                     double *q)
{
    for (uint32_t i = 0; i < w->rows; i++)
        for (uint32_t j = 0; j < block; j++)
            q[(size_t)j * w->rows + i] =
                lyap_linalg_dot(w->values + (size_t)i * w->cols, v + (size_t)j * w->cols, w->cols);
}

static void add_multiple(double *restrict y, const double *restrict x, double factor,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        y[i] += factor * x[i];
}

/* z_j = W' q_j. */
static void multiply_transposed(const struct lyap_spectral_matrix *w, uint32_t block,
                                const double *q, double *z)
{
    memset(z, 0, (size_t)block * w->cols * sizeof *z);
    for (uint32_t i = 0; i < w->rows; i++)
        for (uint32_t j = 0; j < block; j++)
            add_multiple(z + (size_t)j * w->cols, w->values + (size_t)i * w->cols,
                         q[(size_t)j * w->rows + i], w->cols);
}

/* ret_j = sum_i coefficients[j][i] x_i, each of `length` elements. */
static void combine(uint32_t block, const double *coefficients, const double *x, uint32_t length,
                    double *ret)
{
    memset(ret, 0, (size_t)block * length * sizeof *ret);
    for (uint32_t j = 0; j < block; j++)
        for (uint32_t i = 0; i < block; i++)
            add_multiple(ret + (size_t)j * length, x + (size_t)i * length,
                         coefficients[j * block + i], length);
}

/* After the last iteration Q'W V = R': its singular triples X, s, Y give u = Q X and v = V Y. `v`
 * becomes V Y; `next` is scratch of its size. */
static enum lyap_status conclude(const struct lyap_spectral_matrix *w, uint32_t block,
                                 const double *r, const double *q, double *const v_next[2],
                                 struct lyap_spectral_estimate *ret_estimate)
{
    double *v = v_next[0], *next = v_next[1];
    double transposed[ENTRIES_MAX], values[BLOCK_MAX], left[ENTRIES_MAX], right[ENTRIES_MAX];
    for (uint32_t i = 0; i < block; i++)
        for (uint32_t j = 0; j < block; j++)
            transposed[i * block + j] = r[j * block + i];
    enum lyap_status status = lyap_linalg_svd(block, transposed, values, left, right);
    if (status != LYAP_OK)
        return status;
    combine(block, right, v, w->cols, next);
    memcpy(v, next, (size_t)block * w->cols * sizeof *v);

    double sum = 0;
    for (uint32_t i = 0; i < w->rows; i++) {
        double u = 0;
        for (uint32_t j = 0; j < block; j++)
            u += left[j] * q[(size_t)j * w->rows + i];
        const double wv = lyap_linalg_dot(w->values + (size_t)i * w->cols, v, w->cols);
        sum += (wv - values[0] * u) * (wv - values[0] * u);
    }
    *ret_estimate = (struct lyap_spectral_estimate){ values[0], sqrt(sum) };
    return LYAP_OK;
}

enum lyap_status lyap_spectral_power(const struct lyap_spectral_matrix *w, uint32_t block,
                                     uint32_t iterations, double *v,
                                     struct lyap_spectral_estimate *ret_estimate)
{
    assert(is_sane(w) && is_block(w->cols, block) && block <= w->rows && iterations >= 1);
    const size_t size = (size_t)block * w->cols;
    double r[ENTRIES_MAX];
    enum lyap_status status = LYAP_E_NOMEM;
    double *q = lyap_alloc_array((size_t)block * w->rows, sizeof *q);
    double *work = lyap_alloc_array(size, sizeof *work);
    double *next = lyap_alloc_array(size, sizeof *next);
    if (!q || !work || !next)
        goto out;
    memcpy(work, v, size * sizeof *work);
    status = lyap_linalg_qr(w->cols, block, work, NULL);
    for (uint32_t i = 0; i < iterations && status == LYAP_OK; i++) {
        multiply(w, block, work, q);
        status = lyap_linalg_qr(w->rows, block, q, NULL);
        if (status != LYAP_OK)
            break;
        multiply_transposed(w, block, q, work);
        status = lyap_linalg_qr(w->cols, block, work, r);
    }
    if (status == LYAP_OK)
        status = conclude(w, block, r, q, (double *const[2]){ work, next }, ret_estimate);
    if (status == LYAP_OK)
        memcpy(v, work, size * sizeof *v);
out:
    lyap_free(next);
    lyap_free(work);
    lyap_free(q);
    return status;
}

/* G = (V'Z + Z'V)/2 = (W V)'(W V). */
static void gram_of(uint32_t cols, uint32_t block, const double *v, const double *z, double *g)
{
    for (uint32_t i = 0; i < block; i++)
        for (uint32_t j = 0; j <= i; j++) {
            const double *vi = v + (size_t)i * cols, *vj = v + (size_t)j * cols;
            const double *zi = z + (size_t)i * cols, *zj = z + (size_t)j * cols;
            g[i * block + j] = g[j * block + i] =
                0.5 * (lyap_linalg_dot(vi, zj, cols) + lyap_linalg_dot(vj, zi, cols));
        }
}

/* R of G = R'R. False: numerically singular. */
static bool factor_gram(uint32_t block, const double *g, double *r)
{
    if (lyap_linalg_cholesky(block, g, r) != LYAP_OK)
        return false;
    double least = INFINITY, largest = 0;
    for (uint32_t i = 0; i < block; i++) {
        least = fmin(least, r[i * block + i] * r[i * block + i]);
        largest = fmax(largest, r[i * block + i] * r[i * block + i]);
    }
    return least >= PIVOT_SHARE_MIN * largest;
}

/* The best vector of span V has |W v|^2 = l, the largest eigenvalue of G = Y L Y', and with u = W
 * v/|W v| the residual |W'u - |W v| v| = |Z y - l V y| / sqrt(l): some singular value lies within
 * it of sqrt(l), and within `residual` of sigma >= sqrt(l). */
static enum lyap_status residual_of(uint32_t cols, uint32_t block, const double *v, const double *z,
                                    double *g, struct lyap_spectral_estimate *estimate)
{
    double values[BLOCK_MAX];
    const enum lyap_status status = lyap_linalg_symmetric(block, g, values);
    if (status != LYAP_OK)
        return status;
    const double *y = g + (size_t)(block - 1) * block, square = values[block - 1];
    double sum = 0;
    for (uint32_t i = 0; i < cols && square > 0; i++) {
        double missed = 0;
        for (uint32_t j = 0; j < block; j++)
            missed += y[j] * (z[(size_t)j * cols + i] - square * v[(size_t)j * cols + i]);
        sum += missed * missed;
    }
    const double inner = square > 0 ? sqrt(square) : 0;
    estimate->residual = (inner > 0 ? sqrt(sum) / inner : 0) + fmax(estimate->sigma - inner, 0);
    return LYAP_OK;
}

/* With Z = Q S: sigma_1 of S R^-1, or the root of that of S; `left` has the left singular vectors,
 * the first of which belongs to it. */
static enum lyap_status sigma_of(uint32_t block, const double *s, const double *r, bool is_regular,
                                 double *left, double *ret_sigma)
{
    double small[ENTRIES_MAX], values[BLOCK_MAX], right[ENTRIES_MAX];
    memcpy(small, s, (size_t)block * block * sizeof *small);
    if (is_regular)
        lyap_linalg_solve_triangular(block, r, block, small);
    const enum lyap_status status = lyap_linalg_svd(block, small, values, left, right);
    if (status == LYAP_OK)
        *ret_sigma = is_regular ? values[0] : sqrt(values[0]);
    return status;
}

enum lyap_status lyap_spectral_stream(uint32_t cols, uint32_t block, const double *z, double *v,
                                      struct lyap_spectral_estimate *ret_estimate)
{
    assert(is_block(cols, block) && cols <= INT32_MAX);
    const size_t size = (size_t)block * cols;
    double g[ENTRIES_MAX], r[ENTRIES_MAX], s[ENTRIES_MAX], left[ENTRIES_MAX];
    struct lyap_spectral_estimate estimate = { 0 };
    if (!lyap_linalg_is_finite(z, size))
        return LYAP_E_NUMERIC;
    double *next = lyap_alloc_array(size, sizeof *next);
    if (!next)
        return LYAP_E_NOMEM;
    memcpy(next, z, size * sizeof *next);
    gram_of(cols, block, v, z, g);
    const bool is_regular = factor_gram(block, g, r);
    enum lyap_status status = lyap_linalg_qr(cols, block, next, s);
    if (status == LYAP_OK)
        status = sigma_of(block, s, r, is_regular, left, &estimate.sigma);
    if (status == LYAP_OK)
        status = residual_of(cols, block, v, z, g, &estimate);
    if (status != LYAP_OK)
        goto out;
    if (estimate.sigma > 0)
        combine(block, left, next, cols, v);
    *ret_estimate = estimate;
out:
    lyap_free(next);
    return status;
}

bool lyap_spectral_is_basis(uint32_t cols, uint32_t block, const double *v)
{
    static const double tolerance = 1e-9;
    for (uint32_t i = 0; i < block; i++)
        for (uint32_t j = 0; j <= i; j++) {
            const double product =
                lyap_linalg_dot(v + (size_t)i * cols, v + (size_t)j * cols, cols);
            if (!(fabs(product - (i == j)) <= tolerance))
                return false;
        }
    return true;
}

enum lyap_status lyap_spectral_resize(uint64_t seed, uint32_t cols, uint32_t block, uint32_t wanted,
                                      double *v)
{
    assert(is_block(cols, block) && is_block(cols, wanted));
    if (wanted <= block)
        return LYAP_OK;
    fill_start(seed, (uint64_t)cols * (wanted - block), v + (size_t)cols * block);
    return lyap_linalg_qr(cols, wanted, v, NULL);
}

/* Largest |entry|; NaN or infinite when one is. */
static double largest_entry(const struct lyap_spectral_matrix *w)
{
    double largest = 0;
    const uint64_t count = elements_of(w);
    for (uint64_t i = 0; i < count; i++) {
        const double magnitude = fabs(w->values[i]);
        if (!(magnitude <= largest))
            largest = magnitude;
        if (!isfinite(magnitude))
            return magnitude;
    }
    return largest;
}

/* |G|_F of n x n, and G /= |G|_F. */
static double normalize(double *g, uint64_t count)
{
    const double norm = sqrt(lyap_linalg_dot(g, g, count));
    for (uint64_t i = 0; i < count && norm > 0; i++)
        g[i] /= norm;
    return norm;
}

/* sigma_1 of a matrix with largest entry 1 is at most exp(l/2), where G_0 = W'W, G_{i+1} =
 * (G_i/|G_i|_F)^2 and l = sum_i log|G_i|_F / 2^i: the 2^k-th root of |(W'W)^(2^k)|_F. */
static double gram_bound(uint32_t n, uint32_t squarings, double *g, double *square,
                         const struct lyap_spectral_stop *stop)
{
    const uint64_t count = (uint64_t)n * n;
    double log_norm = log(normalize(g, count)), share = 1;
    for (uint32_t i = 0; i < squarings; i++) {
        if (stop && stop->is_wanted(stop->ctx))
            return NAN;
        lyap_linalg_gram(n, n, g, true, square);
        double *swap = g;
        g = square;
        square = swap;
        share /= 2;
        log_norm += share * log(normalize(g, count));
    }
    return exp(0.5 * log_norm);
}

enum lyap_status lyap_spectral_gram_upper(const struct lyap_spectral_matrix *w, uint32_t squarings,
                                          const struct lyap_spectral_stop *stop, double *ret_upper)
{
    assert(is_sane(w) && squarings <= LYAP_SPECTRAL_SQUARINGS_MAX);
    const bool is_tall = w->rows >= w->cols;
    const uint32_t side = is_tall ? w->cols : w->rows;
    const uint64_t count = elements_of(w);
    if (side > LYAP_SPECTRAL_GRAM_SIDE_MAX || count > LYAP_SPECTRAL_ELEMENTS_MAX)
        return LYAP_E_LIMIT;
    const double largest = largest_entry(w);
    if (!isfinite(largest))
        return LYAP_E_NUMERIC;
    if (largest == 0) {
        *ret_upper = 0;
        return LYAP_OK;
    }

    enum lyap_status status = LYAP_E_NOMEM;
    double *scaled = lyap_alloc_aligned(count, sizeof *scaled);
    double *g = lyap_alloc_aligned((uint64_t)side * side, sizeof *g);
    double *square = lyap_alloc_aligned((uint64_t)side * side, sizeof *square);
    if (!scaled || !g || !square)
        goto out;
    for (uint64_t i = 0; i < count; i++) /* so that no square over- or underflows */
        scaled[i] = w->values[i] / largest;
    lyap_linalg_gram(w->rows, w->cols, scaled, is_tall, g);
    const double upper = largest * gram_bound(side, squarings, g, square, stop);
    status = isnan(upper) ? LYAP_E_STOPPING : LYAP_OK;
    if (status == LYAP_OK)
        *ret_upper = upper;
out:
    lyap_free_aligned(square);
    lyap_free_aligned(g);
    lyap_free_aligned(scaled);
    return status;
}

enum lyap_status lyap_spectral_norm(const struct lyap_spectral_matrix *w, double *ret_norm)
{
    assert(is_sane(w));
    const uint64_t count = elements_of(w);
    if (count > LYAP_SPECTRAL_ELEMENTS_MAX)
        return LYAP_E_LIMIT;
    double *copy = lyap_alloc_aligned(count, sizeof *copy);
    if (!copy)
        return LYAP_E_NOMEM;
    memcpy(copy, w->values, count * sizeof *copy);
    const enum lyap_status status = lyap_linalg_norm(w->rows, w->cols, copy, ret_norm);
    lyap_free_aligned(copy);
    return status;
}
