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

/* mhat = m/(1-b1^t), s = sqrt(v/(1-b2^t)), D = -lr mhat/(s+eps):
 *   dD/dg = -lr (1-b1)/(1-b1^t)/(s+eps) + lr mhat s'/(s+eps)^2,  s' = (1-b2)/(1-b2^t) g/s. */
void lyap_update_gain_adam(const struct lyap_update_gain_adam *adam,
                           const struct lyap_update_gain_state *state, double *ret_exact,
                           double *ret_frozen)
{
    assert(adam->step >= 1);
    const double b1 = adam->beta1, b2 = adam->beta2, lr = adam->lr, eps = adam->eps;
    const double correct1 = 1 / (1 - pow(b1, adam->step)), correct2 = 1 / (1 - pow(b2, adam->step));
    for (uint64_t i = 0; i < state->count; i++) {
        const double g = state->grad[i];
        const double mean = (b1 * state->m[i] + (1 - b1) * g) * correct1;
        const double root = sqrt((b2 * state->v[i] + (1 - b2) * g * g) * correct2);
        const double frozen = -lr * (1 - b1) * correct1 / (root + eps);
        const double slope = root > 0 ? (1 - b2) * correct2 * g / root : 0;
        if (ret_frozen)
            ret_frozen[i] = frozen;
        if (ret_exact) /* divided twice: the square of a small root would underflow */
            ret_exact[i] = frozen + lr * mean / (root + eps) * (slope / (root + eps));
    }
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

void lyap_update_gain_add(struct lyap_update_gain_sums *sums, const double *gain,
                          const double *grad, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (!isfinite(gain[i]) || !isfinite(grad[i])) {
            sums->skipped += 1;
            continue;
        }
        const double change = grad[i] * gain[i];
        sums->gain_sq += change * change;
        sums->grad_sq += grad[i] * grad[i];
        sums->counts[lyap_update_gain_bin(fabs(gain[i]))] += 1;
    }
}

void lyap_update_gain_merge(struct lyap_update_gain_sums *sums,
                            const struct lyap_update_gain_sums *other)
{
    sums->gain_sq += other->gain_sq;
    sums->grad_sq += other->grad_sq;
    sums->skipped += other->skipped;
    for (int i = 0; i < BINS; i++)
        sums->counts[i] += other->counts[i];
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
