/* partial.h - the additive summary of one upload (docs/wire.md 3): what the kernels make of the
 * tensors, what a partial push carries, and what the engine adds over ranks.
 * Every row holds one F64 per tensor in declared order (gain_log2: 64 side by side); NaN means not
 * computed. Sums skip
 * non-finite elements, which R_nonfinite counts. Sketches are global (over all tensors), k values
 * each. D = D_{t-1} = theta_t - theta_{t-1}; p = p_t, the coming update, clipping included; P as
 * SPEC 2.2. THREADS: one owner at a time. */
#ifndef LYAP_PARTIAL_H
#define LYAP_PARTIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/gates.h"
#include "lyap/limits.h"
#include "lyap/spectral_plan.h"
#include "lyap/status.h"

/* X(enum, wire name, combine: s sum, m maximum, o one rank's finished value, formula) */
#define LYAP_REDUCE_ROLE(X, ROLE, role)                                                            \
    X(ROLE##_COUNT, role "_count", 's', "elements seen")                                           \
    X(ROLE##_SQ, role "_sq", 's', "sum of x^2")                                                    \
    X(ROLE##_ABS, role "_abs", 's', "sum of |x|")                                                  \
    X(ROLE##_ZEROS, role "_zeros", 's', "count of x == 0")                                         \
    X(ROLE##_NONFINITE, role "_nonfinite", 's', "count of NaN and infinities")                     \
    X(ROLE##_MAX, role "_max", 'm', "max |x|")                                                     \
    X(ROLE##_BLOCK_SQ, role "_block_sq", 'm', "largest sum of x^2 over a 64-block")

#define LYAP_REDUCE_TABLE(X)                                                                       \
    LYAP_REDUCE_ROLE(X, PARAM, "param")                                                            \
    LYAP_REDUCE_ROLE(X, GRAD, "grad")                                                              \
    LYAP_REDUCE_ROLE(X, DELTA, "delta")                                                            \
    LYAP_REDUCE_ROLE(X, PROBE_GRAD, "probe_grad")                                                  \
    X(GRAD_PARAM, "grad_param", 's', "<g_t, theta_t>")                                             \
    X(GRAD_PREV_DELTA, "grad_prev_delta", 's', "<g_{t-1}, D>")                                     \
    X(GRAD_DELTA, "grad_delta", 's', "<g_t, D>")                                                   \
    X(GRAD_DIFF_SQ, "grad_diff_sq", 's', "|g_t - g_{t-1}|^2")                                      \
    X(GRAD_GRAD_PREV, "grad_grad_prev", 's', "<g_t, g_{t-1}>")                                     \
    X(DELTA_P, "delta_p", 's', "<D, P_{t-1} D>")                                                   \
    X(DELTA_P_PREV, "delta_p_prev", 's', "<D, P_{t-2} D>")                                         \
    X(STEP_SQ, "step_sq", 's', "|p_t|^2")                                                          \
    X(GRAD_STEP, "grad_step", 's', "<g_t, p_t>")                                                   \
    X(STEP_P, "step_p", 's', "<p_t, P_t p_t>")                                                     \
    X(RMS_SQ, "rms_sq", 's', "sum of g^2 / max(vhat, eps^2)")                                      \
    X(GAIN_SQ, "gain_sq", 's', "sum of g^2 gain^2 (SPEC 1.6)")                                     \
    X(GAIN_FROZEN_SQ, "gain_frozen_sq", 's', "the same with P held")                               \
    X(PARAM_P, "param_p", 's', "<theta_t, P_t theta_t>, without the rates of groups")              \
    X(PARAM_P_PREV, "param_p_prev", 's', "<theta_t, P_{t-1} theta_t>, likewise")                   \
    X(ANCHOR_SQ, "anchor_sq", 's', "<theta_t - thetabar, P_{t-1} (theta_t - thetabar)>")           \
    X(ANCHOR_DELTA, "anchor_delta", 's', "<D, P_{t-1} (theta_t - thetabar)>")                      \
    X(UPDATE_ERROR_SQ, "update_error_sq", 's', "|D - p_{t-1}|^2")                                  \
    X(STEP_PREV_SQ, "step_prev_sq", 's', "|p_{t-1}|^2")                                            \
    X(SIGN_FLIPS, "sign_flips", 's', "count of sign changes of the update direction")              \
    X(PROBE_DELTA, "probe_delta", 's', "<g^P_t, D>")                                               \
    X(PROBE_PREV_DELTA, "probe_prev_delta", 's', "<g^P_{t-1}, D>")                                 \
    X(PROBE_DIFF_SQ, "probe_diff_sq", 's', "|g^P_t - g^P_{t-1}|^2")                                \
    X(SAME_DELTA, "same_delta", 's', "<same_batch_grad, D>")                                       \
    X(PAIR_SS, "pair_ss", 's', "<s, s>")                                                           \
    X(PAIR_SY, "pair_sy", 's', "<s, y>")                                                           \
    X(PAIR_YY, "pair_yy", 's', "<y, y>")                                                           \
    X(PAIR_SPS, "pair_sps", 's', "<s, P s>")                                                       \
    X(PAIR_YPY, "pair_ypy", 's', "<y, P^-1 y>")                                                    \
    X(GAIN_LOG2, "gain_log2", 's', "counts of |gain| by log2, LYAP_GAIN_BINS a tensor")            \
    X(ACT_SQ, "act_sq", 's', "|x_l|^2")                                                            \
    X(ACT_DIFF_SQ, "act_diff_sq", 's', "|x'_l - x_l|^2")                                           \
    X(SPECTRAL_NORM, "spectral_norm", 'o', "finished value of one rank")                           \
    X(SPECTRAL_RESIDUAL, "spectral_residual", 'o', "finished value of one rank")                   \
    X(SPECTRAL_UPPER, "spectral_upper", 'o', "finished value of one rank")

enum lyap_reduce {
#define LYAP_REDUCE_ENUM(name, wire, combine, formula) LYAP_REDUCE_##name,
    LYAP_REDUCE_TABLE(LYAP_REDUCE_ENUM)
#undef LYAP_REDUCE_ENUM
        LYAP_REDUCE_COUNT
};

/* The seven rows of one role lie side by side: LYAP_REDUCE_PARAM_COUNT + LYAP_MOMENT_SQ is
 * param_sq. */
enum lyap_moment {
    LYAP_MOMENT_COUNT,
    LYAP_MOMENT_SQ,
    LYAP_MOMENT_ABS,
    LYAP_MOMENT_ZEROS,
    LYAP_MOMENT_NONFINITE,
    LYAP_MOMENT_MAX,
    LYAP_MOMENT_BLOCK_SQ,
    LYAP_MOMENT_ROWS
};

/* X(enum, wire name) of sketch/<name>; pair_s is of P^1/2 s, pair_y of P^-1/2 y (SPEC 2.2); path_s
 * and path_y likewise of D and of what it changed in the gradient of one function, P = P_{t-1}. */
#define LYAP_SKETCH_TABLE(X)                                                                       \
    X(PARAM, "param")                                                                              \
    X(GRAD, "grad")                                                                                \
    X(DELTA, "delta")                                                                              \
    X(PROBE_GRAD, "probe_grad")                                                                    \
    X(PAIR_S, "pair_s")                                                                            \
    X(PAIR_Y, "pair_y")                                                                            \
    X(PATH_S, "path_s")                                                                            \
    X(PATH_Y, "path_y")

enum lyap_sketch_role {
#define LYAP_SKETCH_ENUM(name, wire) LYAP_SKETCH_##name,
    LYAP_SKETCH_TABLE(LYAP_SKETCH_ENUM)
#undef LYAP_SKETCH_ENUM
        LYAP_SKETCH_COUNT
};

/* What the pushed activations of one layer come to, and those of its input where the layer reads
 * statistics of tokens (SPEC 1.5). NaN: not pushed, or not computed. */
struct lyap_act_sums {
    double sq, diff_sq;  /* |x_l|^2, |x'_l - x_l|^2 over all samples */
    double token_spread; /* normalisation: least variance (rmsnorm: mean square) of a token of
                            x_{l-1} */
    double
        token_norm; /* attention: largest |X|_2 (or |X|_F, when the tokens are wide) of a sample */
    double token_count; /* attention: tokens of a sample */
    double gate_max;    /* largest |phi'| */
    double scaled_max;  /* batchnorm: largest |gamma_c| gate_c, where gamma is kept */
    struct lyap_gates
        *gates; /* owned; of a linear layer or batchnorm, of one rank alone; NULL: none */
};

struct lyap_partial {
    uint32_t tensor_count;
    uint32_t sketch_size;                /* k, LYAP_SKETCH_SIZE */
    double *rows[LYAP_REDUCE_COUNT];     /* owned; NULL: the whole row was not computed */
    double *sketches[LYAP_SKETCH_COUNT]; /* owned; NULL: not computed */
    /* owned; NULL: no weight was measured. In memory alone: a partial push carries the finished
     * rows.
     */
    struct lyap_spectral_sums *spectral;
    /* owned; NULL: no activations were pushed. Index 0 is the network's input, l + 1 layer l. In
     * memory alone: a partial push carries the rows act_sq and act_diff_sq. */
    struct lyap_act_sums *acts;
    uint32_t act_count;
    /* The intake takes these of a partial push from its metadata (delta_unit, grad_unit,
     * state_exact). */
    double delta_unit;   /* unit roundoff of the stored theta; 0 when D was pushed (SPEC 6.2) */
    double grad_unit;    /* unit roundoff of the pushed gradients (SPEC 6.3) */
    bool is_role_order;  /* products are absent or sketched because of the order of roles */
    bool is_state_exact; /* Adam's m, v were pushed, or rebuilt from step 0 */
};
#define LYAP_PARTIAL_NULL                                                                          \
    {                                                                                              \
        0                                                                                          \
    }

LYAP_API const char *lyap_reduce_name(enum lyap_reduce row);
LYAP_API char lyap_reduce_combine(enum lyap_reduce row);
/* Values per tensor: 1, or LYAP_GAIN_BINS. */
LYAP_API uint32_t lyap_reduce_width(enum lyap_reduce row);
LYAP_API bool lyap_reduce_parse(const char *name, uint64_t length, enum lyap_reduce *ret_row);
LYAP_API const char *lyap_sketch_name(enum lyap_sketch_role role);
LYAP_API bool lyap_sketch_parse(const char *name, uint64_t length, enum lyap_sketch_role *ret_role);

LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_partial_init(struct lyap_partial *partial, uint32_t tensor_count, uint32_t sketch_size);
LYAP_API void lyap_partial_release(struct lyap_partial *partial);
/* Row of tensor_count values (times its width), allocated on first use and filled with NaN. NULL:
 * out of memory. */
LYAP_API double *lyap_partial_row(struct lyap_partial *partial, enum lyap_reduce row);
/* Sketch of sketch_size values, allocated on first use and zeroed. NULL: out of memory. */
LYAP_API double *lyap_partial_sketch(struct lyap_partial *partial, enum lyap_sketch_role role);
/* Of `count` layers, the input included; allocated on first use and filled with NaN. NULL: out of
 * memory. */
LYAP_API struct lyap_act_sums *lyap_partial_acts(struct lyap_partial *partial, uint32_t count);
/* target += source, elementwise by each row's combine rule. What one side did not compute (NaN, or
 * no row or sketch at all) although it saw elements of the tensor (param_count > 0) is missing from
 * the sum: it becomes NaN, a sketch NULL. A side without elements adds nothing, so an empty partial
 * is the start of a sum. Units: maximum. Activations are of the ranks
 * that pushed them. E_INVALID (sizes), E_NOMEM (target unchanged in value). */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_partial_add(struct lyap_partial *target,
                                                           const struct lyap_partial *source);
/* Sum over tensors of one row of width 1; NaN when the row is NULL or any tensor is NaN; maximum
 * for 'm' rows.
 */
LYAP_API double lyap_partial_total(const struct lyap_partial *partial, enum lyap_reduce row);

#endif
