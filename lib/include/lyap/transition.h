/* transition.h - the linear transition of an optimizer at a fixed curvature, its exact stability
 * limit, and the largest stable learning rate (SPEC 2.6). THREADS: pure functions. */
#ifndef LYAP_TRANSITION_H
#define LYAP_TRANSITION_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/optimizer.h"
#include "lyap/status.h"

enum lyap_method {
    LYAP_METHOD_NONE,       /* no linear limit: sign methods, undeclared optimizers */
    LYAP_METHOD_GD,         /* state theta; coupled decay */
    LYAP_METHOD_HEAVY_BALL, /* state (theta_t, theta_{t-1}); coupled decay, dampening */
    LYAP_METHOD_NESTEROV,   /* look-ahead variable; coupled decay */
    LYAP_METHOD_ADAM        /* state (theta, m), frozen P; decoupled decay */
};

struct lyap_transition {
    enum lyap_method method;
    double lr;    /* > 0; eta_ref where groups differ and P is rescaled (SPEC 0.1) */
    double beta;  /* momentum, or beta1 */
    double gain;  /* 1 - dampening: the gradient enters the momentum with this factor */
    double decay; /* weight decay as the method takes it */
};

/* The transition of a group's constants at a learning rate. The coupled decay of the methods that
 * precondition (adam, rmsprop) adds wd P^-1 to P^-1 H, which no single number describes: it is left
 * out here, and the profile adds its Rayleigh quotient along the measured direction to the
 * curvature (decay_curvature). Rmsprop is GD or heavy ball for P^-1 H; proxgd and projgd are GD for
 * the smooth part (a prox is nonexpansive). */
LYAP_API struct lyap_transition lyap_transition_of(enum lyap_optimizer_type type,
                                                   const struct lyap_optimizer_params *params,
                                                   double lr);
/* The group with the smallest limit at eta_ref = `lr`: what is stable for it is stable for all.
 * `used` (group_count + 1 flags, base first) tells which groups own tensors; NULL: all. */
LYAP_API struct lyap_transition lyap_transition_strictest(const struct lyap_optimizer *optimizer,
                                                          const bool *used, double lr);

/* Row-major matrix at curvature `lambda` (of P^-1 H for preconditioned methods); returns its width,
 * 1 or 2, and 0 for LYAP_METHOD_NONE. */
LYAP_API uint32_t lyap_transition_matrix(const struct lyap_transition *t, double lambda,
                                         double ret_matrix[4]);
/* Stable iff -decay < lambda < limit. NaN for LYAP_METHOD_NONE; infinite when gain is 0. */
LYAP_API double lyap_transition_limit(const struct lyap_transition *t);
/* Spectral radius at `lambda`; NaN for LYAP_METHOD_NONE. */
LYAP_API double lyap_transition_radius(const struct lyap_transition *t, double lambda);
/* Supremum of the learning rates that are stable at `lambda` > 0, everything else as it is. NaN for
 * LYAP_METHOD_NONE, infinite when every rate is stable. */
LYAP_API double lyap_transition_lr_max(const struct lyap_transition *t, double lambda);
/* "2(1+beta)/lr - wd" and the like, for evidence. */
LYAP_API const char *lyap_transition_formula(enum lyap_method method);

/* No metric stands on the following: beyond one coordinate it needs a diagonal H, which no push
 * shows; at g = 0 it is block triangular, beta2 beside the 2 x 2 above, so the limit is the same.
 * One step of scalar Adam(W) with v, state (theta, m, v) before the step, bias correction absorbed:
 * the exact Jacobian, row-major 3 x 3 (SPEC 2.6, oracle A_adam3). */
struct lyap_adam_scalar {
    double lr, beta1, beta2, eps, decay;
    double curvature, grad, m, v;
};
LYAP_API void lyap_transition_adam3(const struct lyap_adam_scalar *a, double ret_matrix[9]);

#endif
