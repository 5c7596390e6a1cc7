/* update_gain.h - how strongly one update answers to the gradient it is made of, |d D_t / d g_t| by
 * coordinate (SPEC 1.6). Unit of every gain: parameter per gradient, as a learning rate.
 * THREADS: pure functions; one owner of a struct lyap_update_gain_sums at a time. */
#ifndef LYAP_UPDATE_GAIN_H
#define LYAP_UPDATE_GAIN_H

#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/status.h"

/* |dD/dg| of a linear rule (class I): `now` of the update made of g, `total` of the sum of all
 * updates g enters with constant eta. */
struct lyap_update_gain {
    double now, total;
};
/* v = momentum v + (1 - dampening) g; D = -lr v, or -lr (g + momentum v) for Nesterov. GD:
 * momentum 0 (dampening is then ignored, as there is nothing to dampen); 0 <= momentum < 1. */
LYAP_API struct lyap_update_gain lyap_update_gain_heavy_ball(double lr, double momentum,
                                                             double dampening);
LYAP_API struct lyap_update_gain lyap_update_gain_nesterov(double lr, double momentum,
                                                           double dampening);
/* prox(eta r) or projection after a GD step, class I upper: every element of the Clarke Jacobian
 * lies between 0 and I, so eta bounds both. */
LYAP_API struct lyap_update_gain lyap_update_gain_prox(double lr);

/* Factors of clipping g to the norm `clip`, on top of the rule's own gain (class I): g itself is
 * cut, so `along` it nothing passes. Both 1 while norm <= clip. At norm = clip the map has a kink
 * and the Clarke Jacobian lies between the two. */
struct lyap_update_gain_clip {
    double across, along;
};
LYAP_API struct lyap_update_gain_clip lyap_update_gain_clip(double norm, double clip);

/* Sign methods (signSGD, Lion) have derivative 0 almost everywhere and an unbounded Clarke set; all
 * there is: |D - D'| <= 2 eta sqrt(flips) for two gradients whose update signs differ in `flips`
 * coordinates (class I). */
LYAP_API double lyap_update_gain_sign_bound(double lr, double flips);

/* Bin of |gain| in a histogram of LYAP_GAIN_BINS counts; the outer bins take what lies beyond. */
LYAP_API unsigned lyap_update_gain_bin(double magnitude);

/* What coordinates add up to; all sums, so that tensors, shards and ranks add. F64 counts, as in a
 * partial. */
struct lyap_update_gain_sums {
    double gain_sq;                /* sum of g^2 gain^2 */
    double grad_sq;                /* sum of g^2 */
    double counts[LYAP_GAIN_BINS]; /* of |gain|; the outer bins take what lies beyond */
};
#define LYAP_UPDATE_GAIN_SUMS_NULL                                                                 \
    {                                                                                              \
        0                                                                                          \
    }
/* sqrt(sum g^2 gain^2 / sum g^2), class I: the gain a gradient's own energy meets. E_TOO_FEW when
 * the gradient is zero everywhere. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_update_gain_weighted(const struct lyap_update_gain_sums *sums, double *ret_gain);
/* Quantile of |gain| over coordinates, 0 <= q <= 1, from the histogram: within a factor 2 of an
 * order statistic (class E), nothing at all below 2^-32 or above 2^32. E_TOO_FEW: no coordinate. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_update_gain_quantile(const struct lyap_update_gain_sums *sums, double q, double *ret_gain);

#endif
