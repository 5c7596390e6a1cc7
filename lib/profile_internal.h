/* profile_internal.h - the inside of a profile, shared by the profile_*.c files.
 *
 *   step_begin -> products -> basic -> spectral -> forward -> detect -> curvature -> energy
 *     -> twins -> still -> rows -> score -> verdict -> live
 *
 * Each part computes metrics from the step and the history, then lets the history absorb the
 * columns it just wrote. THREADS: one owner at a time. */
#ifndef LYAP_PROFILE_INTERNAL_H
#define LYAP_PROFILE_INTERNAL_H

#include "history.h"
#include "lyap/partial.h"
#include "lyap/profile.h"
#include "lyap/transition.h"
#include "pairs.h"
#include "profile_forward.h"
#include "spectral_state.h"

enum {
    LYAP_ACTIVE_PAIRS = 4,  /* SPEC 2.3 */
    LYAP_PASSIVE_PAIRS = 8, /* SPEC 2.2 */
    LYAP_TENSOR_Z_VALUES = 50,
    LYAP_TENSOR_Z_LEAST = 10,
    LYAP_TENSOR_Z_TENSORS = 20000, /* tensors with a window: 4 MB each of updates and gradients */
    LYAP_TENSOR_Z_SAVED = 4096, /* more are not saved: 2 MB each, once a minute; they fill anew */
    LYAP_LOWS_SAVED_BYTES_MAX = 4 << 20 /* the same, of the gains of some 8000 layers */
};
#define LYAP_ROUNDING_RMS        0.42 /* of u |x|, measured: SPEC 6.2 */
#define LYAP_MISMATCH_MAX        0.05 /* omega, SPEC 0.1 */
#define LYAP_DELTA_PRECISION_MAX 0.1  /* SPEC 6.2 */
#define LYAP_LUMP_SHARE          0.1 /* block share above which a sketch error is tripled, SPEC 5 */
#define LYAP_LUMP_FACTOR         3.0

/* Which function the passive pairs belong to. */
enum lyap_function {
    LYAP_FUNCTION_NONE,
    LYAP_FUNCTION_PROBE,
    LYAP_FUNCTION_BATCH, /* full batch, or equal batch ids */
    LYAP_FUNCTION_COUNT
};

/* Robust baseline of the log of a norm per tensor: rings side by side. */
struct lyap_tensor_z {
    uint32_t tensors; /* 0: none */
    float *rings;     /* tensors x LYAP_TENSOR_Z_VALUES */
    uint8_t *counts, *nexts;
    double *scores; /* of the newest point, those that are known side by side */
    uint32_t score_count;
    double most;  /* the largest of them */
    uint32_t top; /* whose it is */
};

/* Points in a row, per tensor, without a gradient and without a move. */
struct lyap_still {
    uint32_t tensors; /* 0: none */
    uint32_t *dead, *stuck;
    bool *is_due; /* the coming update of the newest snapshot is not zero there */
    bool has_due; /* anywhere */
    uint32_t dead_looks, stuck_looks;
};

/* What belongs to the newest finite snapshot and cannot be read from its point. */
struct lyap_live {
    int64_t step;      /* -1: nothing, also after a replay */
    int64_t passed;    /* updates from there to the newest point, which may be an event */
    bool is_held;      /* that point said that its own update is skipped */
    int64_t sums_step; /* of the newest finite point with tensors; -1: none */
    char batch_id[LYAP_BATCH_ID_BYTES_MAX + 1];
    bool is_clipped;                     /* its coming update is clipped */
    double decay_energy, decay_drift;    /* lyap_step_decay_energy, _drift; NaN unknown */
    double penalty;                      /* lyap_step_penalty; NaN unknown */
    uint32_t size;                       /* k of the sketches; 0: none allocated */
    double *sketches[LYAP_SKETCH_COUNT]; /* of param, grad, probe_grad; allocated on first use */
    bool has_sketch[LYAP_SKETCH_COUNT];
    double *delta, *scratch; /* sketch of the last D, and room for the next */
    bool has_delta;
    int64_t delta_from, delta_to; /* steps that the last D connects */
    uint32_t tensors;             /* length of the rows below; 0: none */
    double *param_sq, *grad_sq;   /* per tensor */
    bool has_rows;
};

struct lyap_profile {
    struct lyap_declaration declaration;
    bool *used_groups; /* group_count + 1 */
    struct lyap_history history;
    double shares[LYAP_SCORE_KIND_COUNT][LYAP_OBSERVABLE_COUNT]; /* of the newest scores */
    struct lyap_live live;
    struct lyap_pairs active, passive;
    enum lyap_function passive_function;
    struct lyap_tensor_z update_z, grad_z;
    struct lyap_still still;
    struct lyap_spectral_state spectral;
    struct lyap_forward forward;
    bool is_state_wanted, is_state_asked;
};

/* One step while it is computed. */
struct lyap_step {
    struct lyap_profile *profile;
    const struct lyap_snapshot *snapshot;
    const struct lyap_partial *partial; /* NULL: no sums, `sums` says why */
    struct lyap_point *point;
    enum lyap_reason sums;
    double lr;              /* eta_ref of the coming update; NaN unknown */
    int64_t updates;        /* since the finite point before; 0: there is none */
    bool is_delta_known;    /* |D|, exactly or from sketches */
    bool is_delta_sketched; /* from sketches alone */
    bool is_linked;         /* D connects the finite point before with this one */
    bool is_single;         /* D is one update */
    bool is_bare;           /* the finite point before had no tensors: differences reach past it */
    bool is_imprecise;      /* D drowns in rounding */
    bool is_mismatched;     /* omega above its limit on the newest pair */
    bool is_pair_accepted;  /* the pushed active pair is by itself an accepted Ritz pair */
    enum lyap_reason pair;  /* why two-snapshot quantities are absent; NONE */
    const double *delta;    /* sketch of D, or NULL */
    double error_share;     /* sketched inner products: error / (|a||b|) */
    double norm_share;      /* sketched norms: relative error */
    /* Inner products with D and between gradients, exact or sketched. */
    struct lyap_value delta_sq, delta_p, prev_delta, now_delta, grad_diff_sq, grad_grad_prev;
    struct lyap_value probe_prev_delta, probe_delta, probe_diff_sq;
};

/* ---- values ---- */
struct lyap_value lyap_value_exact(double value);
struct lyap_value lyap_value_estimate(double value, double error);
struct lyap_value lyap_value_absent(enum lyap_reason reason);
/* Writes a metric; a NaN that nobody pushed becomes insufficient-information. Trust I falls to the
 * table's class, so that an exact sum does not make an estimator exact. */
void lyap_step_give(struct lyap_step *step, enum lyap_metric metric, struct lyap_value value);
void lyap_step_absent(struct lyap_step *step, enum lyap_metric metric, enum lyap_reason reason);
/* First reason that is not NONE among the values; NONE when all are there. */
enum lyap_reason lyap_first_reason(const struct lyap_value *const *values, uint32_t count);
/* Total of a row: exact, or absent with the reason of missing sums. */
struct lyap_value lyap_step_total(const struct lyap_step *step, enum lyap_reduce row);
double lyap_step_metric(const struct lyap_step *step, enum lyap_metric metric);
/* The step that D goes back to. */
int64_t lyap_step_delta_from(const struct lyap_step *step);

/* One rate for every group that owns tensors: nothing was folded into P (SPEC 0.1). */
bool lyap_step_has_one_rate(const struct lyap_step *step);
/* Least and largest declared numbers of the groups that have tensors; NaN: none has one. */
struct lyap_group_range {
    double lr_least, lr_most, decay_least, decay_most;
};
struct lyap_group_range lyap_profile_group_range(const struct lyap_profile *profile);
/* True when this and the finite point before are of one function: by the probe (gradients and
 * losses on both sides), or by full-batch data or equal batch ids. */
bool lyap_step_is_probe(const struct lyap_step *step);
bool lyap_step_is_batch(const struct lyap_step *step);
/* The newest accepted curvature with its error, while it is young enough to serve. */
struct lyap_value lyap_step_sharpness(const struct lyap_step *step);
double lyap_sharpness_error(double value, double residual);

/* ---- parts, in the order of a step ---- */
void lyap_step_products(struct lyap_step *step);
void lyap_step_basic(struct lyap_step *step);
void lyap_step_spectral(struct lyap_step *step);
/* What is known of a tensor's norm at this step; NULL: nothing. */
const struct lyap_spectral_view *lyap_step_spectral_view(const struct lyap_step *step,
                                                         uint32_t tensor);
void lyap_step_forward(struct lyap_step *step);
/* Empirical gain of a layer at this step; NaN: none. */
double lyap_step_tensor_gain(const struct lyap_step *step, uint32_t layer);
/* twin_log and its kin, as pushed, with the names of their slots; also of event-only points. */
void lyap_step_twin_logs(struct lyap_step *step);
void lyap_step_detect(struct lyap_step *step);
void lyap_step_work(struct lyap_step *step);
void lyap_step_curvature(struct lyap_step *step);
void lyap_step_limits(struct lyap_step *step); /* of lyap_step_curvature */
void lyap_step_gains(struct lyap_step *step);
void lyap_step_anchor(struct lyap_step *step);
void lyap_step_drift(struct lyap_step *step);
void lyap_step_level(struct lyap_step *step);
void lyap_step_energy(struct lyap_step *step);
void lyap_step_twins(struct lyap_step *step);
void lyap_step_verdict(struct lyap_step *step);
void lyap_step_still(struct lyap_step *step);
void lyap_step_rows(struct lyap_step *step, struct lyap_tensor_row *ret_rows);
/* After the rows: observes the point and gives the scores. */
void lyap_step_score(struct lyap_step *step);
/* After the scores: what they are made of. */
void lyap_step_parts(struct lyap_step *step);

/* ---- live memory ---- */
void lyap_live_init(struct lyap_live *live);
void lyap_live_release(struct lyap_live *live);
/* Everything the step will need, so that nothing fails once a window has advanced. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_profile_reserve(struct lyap_profile *profile,
                                                      const struct lyap_snapshot *snapshot,
                                                      const struct lyap_partial *partial);
/* The snapshot becomes the predecessor. */
void lyap_live_keep(struct lyap_step *step);
/* Robust z of the log of a tensor's norm, NaN without baseline; then remembers it. */
double lyap_tensor_z_push(struct lyap_tensor_z *z, uint32_t tensor, double norm);
void lyap_tensor_z_release(struct lyap_tensor_z *z);
/* Above LYAP_TENSOR_Z_TENSORS there is none. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_tensor_z_reserve(struct lyap_tensor_z *z, uint32_t tensors);
LYAP_MUST_CHECK enum lyap_status lyap_still_reserve(struct lyap_still *still, uint32_t tensors);
void lyap_still_release(struct lyap_still *still);

/* Transition of the declared optimizer at the step's rate; method NONE without one. */
struct lyap_transition lyap_profile_transition(const struct lyap_profile *profile, double lr);
/* True for optimizers whose curvature is that of P^-1 H. */
bool lyap_is_preconditioned(enum lyap_optimizer_type type);

/* ---- what is descended beside the loss ---- */

/* sum wd_l/2 |theta_l|^2 over tensors with coupled decay; adamw: |.|_{P_t}. NaN when it needs rows
 * that are absent. 0 for other rules. */
double lyap_step_decay_energy(const struct lyap_step *step);
/* sum wd_l/2 |theta_l|^2_{P_t - P_{t-1}}: how much of that is of the change of P. */
double lyap_step_decay_drift(const struct lyap_step *step);
/* The decay's energy at both ends of the update, of the update itself (wd/2 |D|^2), and its drift;
 * drift0 is that of the update before. Where it is adamw's and not known: zeros, and drift0 NaN. */
struct lyap_decay {
    double energy0, energy1, step, drift, drift0;
};
struct lyap_decay lyap_step_decay(const struct lyap_step *step);
/* r(theta_t) of a proximal run; 0 for others. NaN when its row is absent. */
double lyap_step_penalty(const struct lyap_step *step);
double lyap_step_objective_grad_sq(const struct lyap_step *step);

#endif
