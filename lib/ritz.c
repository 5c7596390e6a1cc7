/* Rayleigh-Ritz on a window of secant pairs. */
#include "lyap/ritz.h"

#include <assert.h>
#include <math.h>

#include "linalg.h"

enum { N_MAX = LYAP_RITZ_WINDOW_MAX, ENTRIES_MAX = N_MAX * N_MAX };
/* The floor of a squared norm: an exactly zero displacement scales to zero, not to NaN. */
static const double TINY = 1e-300;

/* ret = D A D, and the Frobenius norms of its antisymmetric and symmetric part (times two). */
static void scale_pairs(uint32_t n, const double *a, const double *d, double *ret, double *ret_asym)
{
    double minus = 0, plus = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            ret[i * n + j] = a[i * n + j] * d[i] * d[j];
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            const double difference = ret[i * n + j] - ret[j * n + i];
            const double sum = ret[i * n + j] + ret[j * n + i];
            minus += difference * difference;
            plus += sum * sum;
        }
    *ret_asym = sqrt(minus) / fmax(sqrt(plus), TINY);
}

static void symmetrize(uint32_t n, double *a)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++)
            a[i * n + j] = a[j * n + i] = 0.5 * (a[i * n + j] + a[j * n + i]);
}

/* x' A y with the symmetric part of A. */
static double form(uint32_t n, const double *a, const double *x, const double *y)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            sum += x[i] * a[i * n + j] * y[j];
    return sum;
}

/* Whitened basis of the scaled Gram matrix: rows of `ret`, largest direction last; its rank. */
static enum lyap_status whiten(uint32_t n, double *gram, double tolerance, double *ret,
                               uint32_t *ret_rank)
{
    double w[N_MAX];
    enum lyap_status status = lyap_linalg_symmetric(n, gram, w);
    if (status != LYAP_OK)
        return status;
    uint32_t rank = 0;
    for (uint32_t k = 0; k < n; k++) {
        if (!(w[k] > tolerance * w[n - 1]) || !(w[k] > 0))
            continue;
        for (uint32_t i = 0; i < n; i++)
            ret[rank * n + i] = gram[k * n + i] / sqrt(w[k]);
        rank++;
    }
    *ret_rank = rank;
    return rank > 0 ? LYAP_OK : LYAP_E_NUMERIC;
}

enum lyap_status lyap_ritz_compute(uint32_t count, const double *s, const double *y,
                                   const double *z, double tolerance, struct lyap_ritz *ret_ritz)
{
    assert(count >= 1 && count <= N_MAX);
    double d[N_MAX], gram[ENTRIES_MAX], curvature[ENTRIES_MAX], square[ENTRIES_MAX];
    double basis[ENTRIES_MAX], small[ENTRIES_MAX], values[N_MAX], ignored;
    struct lyap_ritz ritz = { 0 };
    for (uint32_t i = 0; i < count; i++)
        d[i] = 1 / sqrt(fmax(s[i * count + i], TINY));
    scale_pairs(count, s, d, gram, &ignored);
    scale_pairs(count, y, d, curvature, &ritz.asymmetry);
    scale_pairs(count, z, d, square, &ignored);
    symmetrize(count, gram);
    symmetrize(count, curvature);
    symmetrize(count, square);

    enum lyap_status status = whiten(count, gram, tolerance, basis, &ritz.rank);
    if (status != LYAP_OK)
        return status;
    for (uint32_t i = 0; i < ritz.rank; i++)
        for (uint32_t j = 0; j < ritz.rank; j++)
            small[i * ritz.rank + j] = form(count, curvature, &basis[i * count], &basis[j * count]);
    symmetrize(ritz.rank, small);
    status = lyap_linalg_symmetric(ritz.rank, small, values);
    if (status != LYAP_OK)
        return status;

    for (uint32_t k = 0; k < ritz.rank; k++) {
        const uint32_t source = ritz.rank - 1 - k;
        double c[N_MAX] = { 0 };
        for (uint32_t j = 0; j < ritz.rank; j++)
            for (uint32_t i = 0; i < count; i++)
                c[i] += small[source * ritz.rank + j] * basis[j * count + i];
        ritz.values[k] = values[source];
        ritz.residuals[k] =
            sqrt(fmax(form(count, square, c, c) - values[source] * values[source], 0));
        for (uint32_t i = 0; i < count && k == 0; i++)
            ritz.top[i] = c[i] * d[i];
    }
    *ret_ritz = ritz;
    return LYAP_OK;
}

int lyap_ritz_accept(const struct lyap_ritz *ritz)
{
    if (!(ritz->asymmetry <= LYAP_RITZ_ASYMMETRY_MAX))
        return -1;
    for (uint32_t i = 0; i < ritz->rank; i++)
        if (ritz->values[i] > 0 && ritz->residuals[i] <= LYAP_RITZ_RESIDUAL_MAX * ritz->values[i])
            return (int)i;
    return -1;
}

int lyap_ritz_accept_least(const struct lyap_ritz *ritz)
{
    if (!(ritz->asymmetry <= LYAP_RITZ_ASYMMETRY_MAX))
        return -1;
    for (uint32_t i = ritz->rank; i-- > 0;)
        if (ritz->residuals[i] <= LYAP_RITZ_RESIDUAL_MAX * fabs(ritz->values[i]))
            return (int)i;
    return -1;
}
