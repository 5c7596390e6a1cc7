/* role.h - what a pushed tensor is, and the time it belongs to at snapshot t (docs/wire.md).
 * THREADS: pure functions. */
#ifndef LYAP_ROLE_H
#define LYAP_ROLE_H

#include <stdbool.h>

#include "lyap/status.h"

/* X(enum, wire name, what it is) */
#define LYAP_ROLE_TABLE(X)                                                                         \
    X(PARAM, "param", "theta_t")                                                                   \
    X(GRAD, "grad", "g_t, before clipping")                                                        \
    X(DELTA, "delta", "D_{t-1} = theta_t - theta_{t-1}, the update that led here")                 \
    X(EXP_AVG, "exp_avg", "m as the optimizer holds it, after update t-1")                         \
    X(EXP_AVG_SQ, "exp_avg_sq", "v as the optimizer holds it, after update t-1")                   \
    X(PROBE_GRAD, "probe_grad", "g^P(theta_t) on the fixed probe batch")                           \
    X(SAME_BATCH_GRAD, "same_batch_grad", "the previous batch's gradient at theta_t")              \
    X(PAIR_S, "pair_s", "displacement s of an active pair")                                        \
    X(PAIR_Y, "pair_y", "g^P(theta+s) - g^P(theta)")                                               \
    X(ACT, "act", "activations x_l of the probe inputs")                                           \
    X(ACT_PERTURBED, "act_perturbed", "x'_l of the perturbed probe inputs")                        \
    X(GATE, "gate", "phi'(pre-activation)")                                                        \
    X(ANCHOR, "anchor", "thetabar, a fixed point of comparison, never of the window itself")

enum lyap_role {
#define LYAP_ROLE_ENUM(name, wire, text) LYAP_ROLE_##name,
    LYAP_ROLE_TABLE(LYAP_ROLE_ENUM)
#undef LYAP_ROLE_ENUM
        LYAP_ROLE_COUNT
};

LYAP_API const char *lyap_role_name(enum lyap_role role);
/* True and *ret_role for a known wire name of `length` bytes. */
LYAP_API bool lyap_role_parse(const char *name, unsigned long length, enum lyap_role *ret_role);
/* "param, grad, ..." for error messages. */
LYAP_API const char *lyap_role_list(void);

#endif
