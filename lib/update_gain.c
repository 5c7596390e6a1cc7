/* Gains of single updates and their summary over coordinates. */
#include "lyap/update_gain.h"

#include <assert.h>
#include <math.h>

#include "banned.h"

enum { BINS = LYAP_GAIN_BINS };

/* Sum of the geometric series momentum^0 + momentum^1 + ... */
static double series(double momentum)
{
    assert(momentum >= 0 && momentum < 1);
    return 1 / (1 - momentum);
}

struct lyap_update_gain lyap_update_gain_heavy_ball(double lr, double momentum, double dampening)
{
    const double passed = momentum > 0 ? 1 - dampening : 1;
    return (struct lyap_update_gain){ .now = lr * passed, .total = lr * passed * series(momentum) };
}

struct lyap_update_gain lyap_update_gain_nesterov(double lr, double momentum, double dampening)
{
    const double buffered = momentum * (1 - dampening);
    return (struct lyap_update_gain){ .now = lr * (1 + buffered),
                                      .total = lr * (1 + buffered * series(momentum)) };
}

struct lyap_update_gain lyap_update_gain_prox(double lr)
{
    return (struct lyap_update_gain){ .now = lr, .total = lr };
}

struct lyap_update_gain_clip lyap_update_gain_clip(double norm, double clip)
{
    assert(norm >= 0 && clip >= 0);
    if (norm <= clip)
        return (struct lyap_update_gain_clip){ .across = 1, .along = 1 };
    return (struct lyap_update_gain_clip){ .across = clip / norm, .along = 0 };
}

double lyap_update_gain_sign_bound(double lr, double flips)
{
    assert(flips >= 0);
    return 2 * lr * sqrt(flips);
}

unsigned lyap_update_gain_bin(double magnitude)
{
    if (magnitude <= 0)
        return 0;
    int exponent; /* magnitude = f 2^exponent with 1/2 <= f < 1 */
    (void)frexp(magnitude, &exponent);
    const int bin = exponent - 1 - LYAP_GAIN_LOG2_MIN;
    return (unsigned)(bin < 0 ? 0 : (bin < BINS ? bin : BINS - 1));
}

enum lyap_status lyap_update_gain_weighted(const struct lyap_update_gain_sums *sums,
                                           double *ret_gain)
{
    if (!(sums->grad_sq > 0))
        return LYAP_E_TOO_FEW;
    *ret_gain = sqrt(sums->gain_sq / sums->grad_sq);
    return LYAP_OK;
}

enum lyap_status lyap_update_gain_quantile(const struct lyap_update_gain_sums *sums, double q,
                                           double *ret_gain)
{
    assert(q >= 0 && q <= 1);
    double total = 0;
    for (int i = 0; i < BINS; i++)
        total += sums->counts[i];
    if (!(total > 0))
        return LYAP_E_TOO_FEW;

    /* The order statistic of rank q (total - 1) lies in this bin; gains are taken as log-uniform
     * inside it. */
    const double rank = q * fmax(total - 1, 0);
    double before = 0;
    int bin = 0;
    while (bin < BINS - 1 && before + sums->counts[bin] <= rank)
        before += sums->counts[bin++];
    while (sums->counts[bin] == 0) /* rounding of the rank: the last one that holds something */
        before -= sums->counts[--bin];
    const double share = fmin(fmax((rank - before + 0.5) / sums->counts[bin], 0), 1);
    *ret_gain = exp2(LYAP_GAIN_LOG2_MIN + bin + share);
    return LYAP_OK;
}
