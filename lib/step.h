/* step.h - update rules of the declared optimizers (SPEC 0.1), elementwise: the coming update p_t
 * from (theta, g, state), the state itself, and the preconditioner P of SPEC 2.2.
 * SGD is a linear form: p = grad_factor g + param_factor theta + M, where M, the momentum's part,
 * is linear in D_{t-1}, g_{t-1} and theta_{t-1}. So only M is remembered, and sums of p are known
 * even when the clip coefficient is known last. THREADS: pure functions. */
#ifndef LYAP_STEP_H
#define LYAP_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "lyap/declaration.h"
#include "lyap/optimizer.h"
#include "lyap/snapshot.h"

/* FIRST is m (adam, lion) or the momentum's part M of the step (sgd, rmsprop); SECOND is v. */
enum lyap_state_part { LYAP_STATE_FIRST, LYAP_STATE_SECOND, LYAP_STATE_PARTS };
enum lyap_state_source {
    LYAP_STATE_NONE,    /* unknown: what needs it is absent */
    LYAP_STATE_ZERO,    /* not used by the optimizer, or still zero */
    LYAP_STATE_PUSHED,  /* in the body */
    LYAP_STATE_REBUILT, /* from the predecessor's state and gradient, or from D */
    LYAP_STATE_KEPT     /* of a memory: in its plane */
};

/* The update of one optimizer group that comes at one snapshot. */
struct lyap_step_rule {
    enum lyap_optimizer_type type;
    struct lyap_optimizer_params params; /* lr is that of this update; NaN: unknown */
    enum lyap_prox_kind prox;
    double prox_lambda, prox_l1, prox_l2;
    enum lyap_set_kind set;
    double set_low, set_high, set_radius;
    double shrink;       /* late rules: s of p = s (theta - lr g) - theta; of one tensor */
    double shift;        /* simplex: tau of p = max(theta - lr g - tau, 0) - theta */
    double clip;         /* coefficient of the gradient; NaN: not known (yet) */
    double scale;        /* lr_ref / lr, which goes into P */
    double scale_before; /* that of the update before */
    double updates;      /* that the state has seen before this one; NaN: unknown */
    bool is_first;       /* no update came before: the momentum buffer is empty */
};

/* p = grad g + param theta + (delta D + grad_prev g_{t-1} + param_prev theta_{t-1}). */
struct lyap_step_linear {
    double grad, param;                  /* grad without the clip coefficient */
    double delta, grad_prev, param_prev; /* the momentum's part */
};

/* Arrays of one chunk; `count` is a multiple of LYAP_SKETCH_BLOCK. */
struct lyap_step_arrays {
    const double *param, *grad; /* of one snapshot; the true gradient */
    const double *first, *second;
    size_t count;
};

/* True for sgd (and what else is linear in the gradient); for adam, adamw, rmsprop. */
bool lyap_step_is_linear(enum lyap_optimizer_type type);
bool lyap_step_is_adaptive(enum lyap_optimizer_type type);
/* Does the rule read this part of the state? */
bool lyap_step_needs(const struct lyap_step_rule *rule, enum lyap_state_part part);
/* Is FIRST the momentum's part of the step, recovered from D, rather than the pushed m? */
bool lyap_step_is_momentum(const struct lyap_step_rule *rule);
/* False: no formula for this optimizer, or a constant of it is not known. */
bool lyap_step_is_known(const struct lyap_step_rule *rule);
/* A rule with a constant that depends on all elements of the coming point theta - lr g: known when
 * they have been seen, so at the next snapshot or in finish. Group l1 (a group is a tensor) and
 * ball: `shrink`; simplex: `shift`. A ball and a simplex hold all tensors together. */
bool lyap_step_is_late(const struct lyap_step_rule *rule);
/* The late rules whose p is linear in theta and g once `shrink` is known. */
bool lyap_step_is_shrunk(const struct lyap_step_rule *rule);
/* Linear in the gradient: sgd, and what is shrunk. */
bool lyap_step_is_form(const struct lyap_step_rule *rule);
/* The direction of a sign method (-1, 0, 1) for one coordinate, state as held before the update. */
double lyap_step_direction(const struct lyap_step_rule *rule, double grad, double first);
/* Bytes a parameter that a memory keeps for the rule. */
uint64_t lyap_step_state_bytes(const struct lyap_optimizer *optimizer);

/* Factors of a linear rule or of a momentum; `previous`: the rule of the update that led here, NULL
 * when there is none (then the momentum's factors are 0). */
struct lyap_step_linear lyap_step_linear(const struct lyap_step_rule *rule,
                                         const struct lyap_step_rule *previous);

/* e = clip g + wd theta (coupled decay). */
void lyap_step_effective(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                         const struct lyap_step_arrays *arrays, double *ret);
/* One part of the state after the update: of lion, adam, rmsprop; `effective` as above. */
void lyap_step_advance(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                       enum lyap_state_part part, const double *const held_and_effective[2],
                       size_t count, double *ret);
/* P of SPEC 2.2 from v after `updates` updates, times `scale`. */
struct lyap_step_weight {
    const double *second;
    double updates, scale;
};
void lyap_step_precondition(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                            const struct lyap_step_weight *weight, size_t count, double *ret);
/* p. `scratch` holds 3 x count values. */
void lyap_step_update(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                      const struct lyap_step_arrays *arrays, double *scratch, double *ret);
/* ret = 1 / max(vhat, eps^2) of v after the update. */
void lyap_step_inverse(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                       const double *second_next, size_t count, double *ret);
/* Gain (SPEC 1.6) of an adaptive rule, state as held before the update: rets as kernels->gain. */
void lyap_step_gain(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                    const struct lyap_step_arrays *arrays, const double *effective,
                    double *const rets[3]);

/* Learning rates, clip coefficient, P scale and counts of every group (group_count + 1 rules).
 * E_INVALID: the list of lr fits neither the groups nor one for all. */
LYAP_MUST_CHECK enum lyap_status lyap_step_rules(const struct lyap_declaration *declaration,
                                                 const struct lyap_snapshot *snapshot,
                                                 struct lyap_step_rule *ret_rules,
                                                 struct lyap_error *reterr);
/* min(1, clip_norm / (norm + 1e-6)), as torch computes it. */
double lyap_step_clip_coefficient(double clip_norm, double norm);

#endif
