/* Verdict on a window of log-norms; discrete Lyapunov equation of small matrices. */
#include "lyap/growth.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "linalg.h"
#include "banned.h"

enum { BLOCKS = LYAP_GROWTH_BLOCKS, WIDTH_MAX = LYAP_GROWTH_WIDTH_MAX };

/* SPEC 4.2. The six second differences of the block means give the noise: q is the variance of one
 * block step of a random walk; 6.67 q that of the rise over all blocks, 3.97 q that of the late
 * rise minus 0.7 times the early one. */
static const double QUANTILE = 2.6; /* of Student's law with six differences */
static const double RISE_VARIANCE = 6.67, CURVE_VARIANCE = 3.97;
static const double EARLY_SHARE = 0.7; /* late over early: 1 for exp(ct), .23 for any t^p */
static const double LOG_DECAY = 0.69314718055994530942;   /* ln 2 */
static const double LOG_BOUNDED = 2.30258509299404568402; /* ln 10 */
static const double LOG_CERTAIN = 4.60517018598809136804; /* ln 100 (SPEC 4.3) */

static const char *const names[] = {
#define NAME(name, wire, meaning) wire,
    LYAP_GROWTH_TABLE(NAME)
#undef NAME
};

const char *lyap_growth_name(enum lyap_growth growth)
{
    assert(growth < LYAP_GROWTH_COUNT);
    return names[growth];
}

/* Largest y_t - y_s with s <= t. */
static double largest_rise(const double *y, uint32_t count)
{
    double least = y[0], rise = 0;
    for (uint32_t i = 1; i < count; i++) {
        least = fmin(least, y[i]);
        rise = fmax(rise, y[i] - least);
    }
    return rise;
}

static double noise_of(const double b[BLOCKS])
{
    double sum = 0;
    for (unsigned i = 0; i + 2 < BLOCKS; i++) {
        const double bend = b[i + 2] - 2 * b[i + 1] + b[i];
        sum += bend * bend;
    }
    return sum / (BLOCKS - 2);
}

static enum lyap_growth kind_of_growth(const double b[BLOCKS], double q, double rise)
{
    const double early = b[3] - b[0], late = b[7] - b[4];
    const double z =
        (late - EARLY_SHARE * early) / fmax(sqrt(CURVE_VARIANCE * q), 1e-12 * fabs(rise));
    if (z > 1)
        return LYAP_GROWTH_EXPONENTIAL;
    return z < -1 ? LYAP_GROWTH_SUBEXPONENTIAL : LYAP_GROWTH_UNRESOLVED;
}

static enum lyap_growth verdict_of(const struct lyap_growth_fit *fit, const double b[BLOCKS],
                                   double q)
{
    if (fit->rise + fit->half < -LOG_DECAY)
        return LYAP_GROWTH_DECAY;
    if (fit->rise - fit->half > LOG_DECAY)
        return kind_of_growth(b, q, fit->rise);
    if (fit->rise + fit->half <= LOG_BOUNDED && fit->log_m_block <= LOG_BOUNDED)
        return LYAP_GROWTH_BOUNDED;
    return LYAP_GROWTH_INCONCLUSIVE;
}

enum lyap_status lyap_growth_fit(const double *y, uint32_t count, struct lyap_growth_fit *ret_fit)
{
    if (count < LYAP_GROWTH_VALUES_MIN)
        return LYAP_E_TOO_FEW;
    for (uint32_t i = 0; i < count; i++)
        if (!isfinite(y[i]))
            return LYAP_E_NUMERIC;

    const uint32_t length = count / BLOCKS, dropped = count - length * BLOCKS;
    const double total = (double)length * BLOCKS, stretch = (double)BLOCKS / (BLOCKS - 1);
    double b[BLOCKS];
    for (uint32_t i = 0; i < BLOCKS; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < length; j++)
            sum += y[dropped + i * length + j];
        b[i] = sum / length;
    }
    const double q = noise_of(b), rise = (b[BLOCKS - 1] - b[0]) * stretch;
    const double half = QUANTILE * sqrt(RISE_VARIANCE * q) * stretch;
    struct lyap_growth_fit fit = {
        .rate = rise / total,
        .ci = half / total,
        .rise = rise,
        .half = half,
        .log_m = largest_rise(y, count),
        .log_m_block = largest_rise(b, BLOCKS),
        .late_ratio = NAN,
    };
    fit.verdict = verdict_of(&fit, b, q);
    if (rise - half > LOG_DECAY)
        fit.late_ratio = b[3] > b[0] ? (b[7] - b[4]) / (b[3] - b[0]) : INFINITY;
    *ret_fit = fit;
    return LYAP_OK;
}

enum lyap_growth lyap_growth_judged(const struct lyap_growth_fit *fit)
{
    return fit->verdict == LYAP_GROWTH_UNRESOLVED && fit->rise > LOG_CERTAIN
               ? LYAP_GROWTH_EXPONENTIAL
               : fit->verdict;
}

enum lyap_status lyap_growth_fit_steps(const int64_t *steps, const double *y, uint32_t count,
                                       struct lyap_growth_fit *ret_fit)
{
    if (count < LYAP_GROWTH_VALUES_MIN)
        return LYAP_E_TOO_FEW;
    const int64_t span = steps[count - 1] - steps[0];
    for (uint32_t i = 1; i < count; i++) {
        assert(steps[i] > steps[i - 1]);
        if (steps[i] - steps[i - 1] > span / BLOCKS)
            return LYAP_E_STEP_ORDER;
    }
    struct lyap_growth_fit fit;
    const enum lyap_status status = lyap_growth_fit(y, count, &fit);
    if (status != LYAP_OK)
        return status;
    const double spacing = (double)span / (count - 1);
    fit.rate /= spacing;
    fit.ci /= spacing;
    *ret_fit = fit;
    return LYAP_OK;
}

uint32_t lyap_growth_injection(const double *y, uint32_t count)
{
    for (uint32_t i = count; i-- > 1;)
        if (y[i] == 0 && y[i - 1] != 0)
            return i;
    return 0;
}

/* The matrix of P -> P - A'PA on row-major P. */
static void stein_matrix(uint32_t n, const double *a, double *ret)
{
    const uint32_t size = n * n;
    for (uint32_t row = 0; row < size; row++)
        for (uint32_t column = 0; column < size; column++) {
            const double product =
                a[column / n * n + row / n] * a[column % n * n + row % n]; /* A_ki A_lj */
            ret[row * size + column] = (row == column ? 1 : 0) - product;
        }
}

enum lyap_status lyap_growth_dlyap(uint32_t width, const double *a, const double *q, double *ret_p)
{
    assert(width >= 1 && width <= WIDTH_MAX);
    enum { ENTRIES_MAX = WIDTH_MAX * WIDTH_MAX };
    const uint32_t n = width, size = n * n;
    double matrix[ENTRIES_MAX * ENTRIES_MAX], p[ENTRIES_MAX], radius;
    enum lyap_status status = lyap_linalg_radius(n, a, &radius);
    if (status != LYAP_OK)
        return status;
    if (radius >= 1)
        return LYAP_E_NOT_FOUND;
    for (uint32_t i = 0; i < size; i++) {
        p[i] = q ? q[i] : (i % (n + 1) == 0 ? 1 : 0);
        if (!isfinite(p[i]))
            return LYAP_E_NUMERIC;
    }
    stein_matrix(n, a, matrix);
    status = lyap_linalg_solve(size, matrix, p);
    if (status != LYAP_OK)
        return status;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            ret_p[i * n + j] = 0.5 * (p[i * n + j] + p[j * n + i]);
    return LYAP_OK;
}

enum lyap_status lyap_growth_energy_bound(uint32_t width, const double *a,
                                          struct lyap_growth_bound *ret_bound)
{
    double p[WIDTH_MAX * WIDTH_MAX], values[WIDTH_MAX];
    enum lyap_status status = lyap_growth_dlyap(width, a, NULL, p);
    if (status != LYAP_OK)
        return status;
    status = lyap_linalg_symmetric(width, p, values);
    if (status != LYAP_OK)
        return status;
    const double least = values[0], largest = values[width - 1];
    if (!(least > 0)) /* P >= I in exact arithmetic: the equation was too ill-conditioned */
        return LYAP_E_NUMERIC;
    *ret_bound = (struct lyap_growth_bound){ .rate = 0.5 * log1p(-1 / fmax(largest, 1)),
                                             .gain = sqrt(largest / least) };
    return LYAP_OK;
}

bool lyap_growth_contradicts(const struct lyap_growth_fit *fit, double q, double condition)
{
    assert(q > 0 && condition >= 1);
    return fit->rate > 0.5 * log(q) + fit->ci || fit->log_m > 0.5 * log(condition);
}

double lyap_growth_mean_square(double lr, double mean_curvature, double curvature_variance)
{
    const double mean = 1 - lr * mean_curvature;
    return mean * mean + lr * lr * curvature_variance;
}
