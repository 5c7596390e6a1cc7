/* Logarithmic norms and gains of residual blocks. */
#include "lyap/residual.h"

#include <assert.h>
#include <math.h>

#include "linalg.h"
#include "lyap/alloc.h"
#include "banned.h"

enum lyap_status lyap_residual_log_norm(const struct lyap_spectral_matrix *a, double *ret_log_norm)
{
    const uint32_t n = a->rows;
    if (n < 1 || a->cols != n)
        return LYAP_E_INVALID;
    if (n > LYAP_RESIDUAL_SIDE_MAX)
        return LYAP_E_LIMIT;
    double *symmetric = lyap_alloc_array((size_t)n * n, sizeof *symmetric);
    if (!symmetric)
        return LYAP_E_NOMEM;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            symmetric[i * n + j] = 0.5 * a->values[i * n + j] + 0.5 * a->values[j * n + i];
    const enum lyap_status status = lyap_linalg_top(n, symmetric, ret_log_norm);
    lyap_free(symmetric);
    return status;
}

/* Sum of |a_ij| over j != i. */
static double off_diagonal(uint32_t n, const double *row, uint32_t i)
{
    double sum = 0;
    for (uint32_t j = 0; j < n; j++)
        sum += j == i ? 0 : fabs(row[j]);
    return sum;
}

/* The larger one, NaN if either is. */
static double larger(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : fmax(a, b);
}

double lyap_residual_gain(double h, const struct lyap_residual_bounds *bounds)
{
    assert(h >= 0);
    const double l = bounds->lipschitz;
    const double mu = bounds->log_norm > l ? l : bounds->log_norm; /* mu <= L of every matrix */
    return sqrt(larger(0, 1 + 2 * h * mu + h * h * l * l));
}

double lyap_residual_cfl(const struct lyap_residual_bounds *bounds)
{
    const double l = bounds->lipschitz, mu = bounds->log_norm;
    if (isnan(l) || isnan(mu))
        return NAN;
    return mu < 0 ? -2 * mu / (l * l) : 0;
}

double lyap_residual_backward_gain(double h, double log_norm)
{
    assert(h >= 0);
    const double rest = 1 - h * log_norm;
    return rest <= 0 ? INFINITY : 1 / rest;
}

enum lyap_status lyap_residual_constant(const struct lyap_spectral_matrix *a,
                                        struct lyap_residual_bounds *ret_bounds)
{
    struct lyap_residual_bounds bounds;
    enum lyap_status status = lyap_residual_log_norm(a, &bounds.log_norm);
    if (status != LYAP_OK)
        return status;
    status = lyap_spectral_norm(a, &bounds.lipschitz);
    if (status == LYAP_OK)
        *ret_bounds = bounds;
    return status;
}

struct lyap_residual_bounds lyap_residual_symmetric(double gate_max, double sigma)
{
    return (struct lyap_residual_bounds){ .lipschitz = gate_max * sigma * sigma, .log_norm = 0 };
}

double lyap_residual_symmetric_gain(double h, double gate_max, double sigma)
{
    assert(h >= 0);
    return larger(1, h * gate_max * sigma * sigma - 1);
}

double lyap_residual_symmetric_cfl(double gate_max, double sigma)
{
    return 2 / (gate_max * sigma * sigma);
}

double lyap_residual_gated_gain_inf(uint32_t n, const double *a, double h, double gate_max)
{
    assert(n >= 1 && h >= 0 && gate_max >= 0);
    const double step = h * gate_max;
    double largest = 1; /* closed gates */
    for (uint32_t i = 0; i < n; i++) {
        const double *row = a + (size_t)i * n;
        largest = larger(largest, fabs(1 + step * row[i]) + step * off_diagonal(n, row, i));
    }
    return largest;
}
