/* layer_bound.h - what a declared layer's tensors themselves say about its gain (SPEC 1.2-1.5):
 * dense work on whole tensors, for a thread that answers nobody. Of a linear layer the norm of its
 * matrix is enough (spectral_norm_upper), so that it needs none of this.
 * Class I, upper, unless said. THREADS: pure functions. */
#ifndef LYAP_LAYER_BOUND_H
#define LYAP_LAYER_BOUND_H

#include "lyap/declaration.h"
#include "lyap/bound_method.h"
#include "lyap/status.h"

/* Fields that the kind does not have are NaN. */
struct lyap_layer_bound {
    uint8_t method;      /* enum lyap_bound_method of `upper` */
    double upper;        /* convolution: its norm; embedding: largest row norm; constant: sigma_1 */
    double log_norm;     /* constant: mu_2(A); exact */
    double gain_inf;     /* gated: |I + h D A|_inf over all gates */
    double value_output; /* attention: a = sum over heads of sigma_1(W_V W_O) */
    double query_key;    /* attention: sum of sigma_1(W_Q W_K')/sqrt(dk) */
    double head_product; /* attention: b = sum of the products of both: gain a |P|_2 + b |X|_2^2 */
    double gated;        /* linear: largest sigma_1(diag(gate) W) over the pushed inputs; class E */
    double gate_max;     /* of those gates */
};

/* All NaN: there is none. */
LYAP_API struct lyap_layer_bound lyap_layer_bound_none(void);

/* Whole tensors, row-major, NULL where the layer has none: borrowed. */
struct lyap_layer_values {
    const double *parts[LYAP_LAYER_PARTS];
};

/* Does a bound of this layer need values (and are its tensors known)? Bit p: those of part p. */
LYAP_API uint32_t lyap_layer_needs(const struct lyap_network *network,
                                   const struct lyap_tensor_set *set, uint32_t layer);
/* About how many flops that costs. */
LYAP_API double lyap_layer_flops(const struct lyap_network *network,
                                 const struct lyap_tensor_set *set, uint32_t layer);
/* E_LIMIT: too large for any method; E_NUMERIC: a non-finite entry; E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_layer_bound(const struct lyap_network *network,
                                                           const struct lyap_tensor_set *set,
                                                           uint32_t layer,
                                                           const struct lyap_layer_values *values,
                                                           struct lyap_layer_bound *ret_bound);

/* How far the tensors can have moved since: sums of |D|_F per part, and present upper bounds of
 * sigma_1 (attention alone reads them). The bound that holds now (SPEC 1.2). */
struct lyap_layer_moved {
    double distance[LYAP_LAYER_PARTS], upper[LYAP_LAYER_PARTS];
};
LYAP_API struct lyap_layer_bound lyap_layer_bound_after(const struct lyap_network *network,
                                                        const struct lyap_tensor_set *set,
                                                        uint32_t layer,
                                                        const struct lyap_layer_bound *bound,
                                                        const struct lyap_layer_moved *moved);

/* -- without values -- */
/* |conv| <= this times the Frobenius norm of the kernel; 1 for other kinds. */
LYAP_API double lyap_layer_frobenius_factor(const struct lyap_network *network,
                                            const struct lyap_tensor_set *set, uint32_t layer);
/* Gain of a kind that has no tensor: pooling, flattening, dropout in evaluation, activation; its
 * own activation not included. NaN for other kinds. */
LYAP_API double lyap_layer_fixed_gain(const struct lyap_layer *layer);

#endif
