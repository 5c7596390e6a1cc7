/* optimizer.h - the declared optimizer: its update rule, constants, and parameter groups (SPEC
 * 0.1). A plain description; step.h-style kernels and transition.h read it. THREADS: immutable
 * after it was built. */
#ifndef LYAP_OPTIMIZER_H
#define LYAP_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/status.h"

/* X(enum, wire name) */
#define LYAP_OPTIMIZER_TABLE(X)                                                                    \
    X(OTHER, "other")                                                                              \
    X(SGD, "sgd")                                                                                  \
    X(ADAM, "adam")                                                                                \
    X(ADAMW, "adamw")                                                                              \
    X(RMSPROP, "rmsprop")                                                                          \
    X(LION, "lion")                                                                                \
    X(SIGNSGD, "signsgd")                                                                          \
    X(PROXGD, "proxgd")                                                                            \
    X(PROJGD, "projgd")

enum lyap_optimizer_type {
#define LYAP_OPTIMIZER_ENUM(name, wire) LYAP_OPTIMIZER_##name,
    LYAP_OPTIMIZER_TABLE(LYAP_OPTIMIZER_ENUM)
#undef LYAP_OPTIMIZER_ENUM
        LYAP_OPTIMIZER_COUNT
};

enum lyap_prox_kind {
    LYAP_PROX_NONE,
    LYAP_PROX_L1,
    LYAP_PROX_L2,
    LYAP_PROX_GROUP_L1,
    LYAP_PROX_ELASTIC_NET
};
enum lyap_set_kind { LYAP_SET_NONE, LYAP_SET_BOX, LYAP_SET_BALL, LYAP_SET_SIMPLEX };

/* Constants of one parameter group. lr is the declared start value; a snapshot's own lr wins. */
struct lyap_optimizer_params {
    double lr;           /* >= 0 (a warm-up starts at 0), or NaN when never declared */
    double momentum;     /* [0, 1): sgd, rmsprop */
    double dampening;    /* [0, 1]: sgd; tau of SPEC 2.6 */
    double beta1, beta2; /* [0, 1): adam, adamw, lion; beta2 is rmsprop's alpha */
    double eps;          /* >= 0 */
    double weight_decay; /* >= 0; coupled for sgd, adam, rmsprop; decoupled for adamw, lion */
    bool is_nesterov;    /* sgd */
};

struct lyap_optimizer_group {
    char **patterns; /* globs (* and ?) over tensor names; the first group that matches wins */
    uint32_t pattern_count;
    struct lyap_optimizer_params
        params; /* fully resolved: base constants with this group's overrides */
};

struct lyap_optimizer {
    enum lyap_optimizer_type type;
    bool is_amsgrad;                   /* adam(w): declared, for the reason `optimizer-mismatch` */
    struct lyap_optimizer_params base; /* tensors that no group matches */
    struct lyap_optimizer_group *groups; /* owned */
    uint32_t group_count;
    enum lyap_prox_kind prox;
    double prox_lambda, prox_l1, prox_l2;
    enum lyap_set_kind set;
    double set_low, set_high, set_radius;
};

LYAP_API bool lyap_optimizer_type_parse(const char *name, enum lyap_optimizer_type *ret_type);
/* Type `other` with torch's default constants and lr NaN; owns nothing. */
LYAP_API void lyap_optimizer_init(struct lyap_optimizer *optimizer);
/* torch's defaults of a type: betas .9 .999, eps 1e-8, adamw decay 1e-2, rmsprop alpha .99, lion .9
 * .99. */
LYAP_API void lyap_optimizer_defaults(struct lyap_optimizer *optimizer,
                                      enum lyap_optimizer_type type);
/* E_INVALID naming the constant, its value and its range. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_optimizer_check(const struct lyap_optimizer *optimizer, struct lyap_error *reterr);
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_optimizer_copy(const struct lyap_optimizer *optimizer, struct lyap_optimizer *ret_copy);
LYAP_API void lyap_optimizer_release(struct lyap_optimizer *optimizer);
/* Of a tensor's group: 0 is the base, i + 1 is groups[i]. */
LYAP_API const struct lyap_optimizer_params *
lyap_optimizer_group_params(const struct lyap_optimizer *optimizer, uint32_t group);

#endif
