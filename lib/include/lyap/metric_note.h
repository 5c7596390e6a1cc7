/* metric_note.h - what the error bar of each metric is, and what must hold for the value to mean
 * what its name says: beside the table of metric.h, from which docs/metrics.md takes the rest.
 * THREADS: constants. */
#ifndef LYAP_METRIC_NOTE_H
#define LYAP_METRIC_NOTE_H

#include "lyap/layer_row.h"
#include "lyap/metric.h"

#define LYAP_NOTE_SUM "rounding; from sketches 1/sqrt(k) of the norms"

/* X(enum, error, hypotheses); "-": none beyond what it needs. */
#define LYAP_METRIC_NOTE_TABLE(X)                                                                  \
    X(LOSS, "as pushed", "-")                                                                      \
    X(LR, "as pushed", "-")                                                                        \
    X(PROBE_LOSS, "as pushed", "one batch for the whole run, evaluation mode")                     \
    X(PARAM_NORM, "rounding", "-")                                                                 \
    X(GRAD_NORM, "rounding", "averaged over ranks, before clipping")                               \
    X(UPDATE_NORM, "rounding; sketched 1/sqrt(2k); stored differences: delta_precision", "-")      \
    X(UPDATE_RATIO, "of update_norm; with |theta_t| for |theta_{t-1}|: r^2/(1-r)", "-")            \
    X(GRAD_COSINE, LYAP_NOTE_SUM, "-")                                                             \
    X(UPDATE_COSINE, "1/sqrt(k); three times that where 64 neighbours hold a tenth",               \
      "two updates of equal length that follow each other")                                        \
    X(CURVATURE_ALONG_STEP, LYAP_NOTE_SUM,                                                         \
      "one function at both ends; else C: the change of batch is in it")                           \
    X(SECANT_CURVATURE, LYAP_NOTE_SUM,                                                             \
      "none: of different batches its mean is (1-b^2)/eta of pure noise (SPEC 2.2)")               \
    X(UPDATE_NORM_P, "as update_norm", "Adam: P_{t-1} from pushed or rebuilt m, v")                \
    X(SHARPNESS, "r + 10 % (nine of ten probes are nearer: E4)",                                   \
      "pairs of one fixed function; r <= 0.2 rho, asymmetry <= 0.2")                               \
    X(SHARPNESS_RESIDUAL, LYAP_NOTE_SUM,                                                           \
      "some eigenvalue lies within it of the Ritz value, for exact y = H s")                       \
    X(VISITED_CURVATURE, "its residual r", "a lower bound at best")                                \
    X(STABILITY_LIMIT, "rounding; with coupled decay under Adam: that of decay_curvature",         \
      "constant H, eta, P; local and linear")                                                      \
    X(STABILITY_RATIO, "of sharpness, over the limit",                                             \
      "constant H, eta, P; update_identity <= 0.05. Crossing is a warning, not divergence")        \
    X(TRANSITION_RATE, "of the radius at sharpness +- its error", "as stability_limit")            \
    X(EDGE_RATIO, "none stated", "none: pure noise gives (1-beta)/2 (SPEC 2.2)")                   \
    X(BATCH_SHARPNESS, "none stated: one quotient", "curvature of that batch along its own step")  \
    X(NOISE_FRACTION, "none stated: one draw of both halves", "disjoint halves of equal size")     \
    X(SPECTRAL_NORM, "sigma_1 lies no further above: residual + what moved since the last visit",  \
      "warming up: the first 8 snapshots of a weight; the error is class E")                       \
    X(SPECTRAL_RESIDUAL, "rounding", "-")                                                          \
    X(SPECTRAL_NORM_UPPER, "rounding; Gram <= 0.2 % over, cheap bounds 2 to 10 times", "-")        \
    X(WORK_RESIDUAL, "two loss roundings over the work",                                           \
      "one function at both ends; theta precise")                                                  \
    X(CURVATURE_OF_LOSS, "four loss roundings over |D|^2", "as work_residual")                     \
    X(NET_WORK, LYAP_NOTE_SUM, "of different batches their change is in it")                       \
    X(OVERSHOOT_WORK, LYAP_NOTE_SUM, "D is the update of the step before")                         \
    X(PREDICTED_DECREASE, LYAP_NOTE_SUM, "the declared optimizer, its state known")                \
    X(PREDICTED_CHANGE, "none stated: a median of three secant curvatures",                        \
      "the declared optimizer")                                                                    \
    X(DISSIPATION_RESIDUAL, "of sketched products; AdamW: its decay, O(eta wd)",                   \
      "ell = 1.1 sharpness bounds the curvature on the segment; update exact; one function")       \
    X(DISSIPATION_WINDOW, "none stated: a ratio of sums, never one step",                          \
      "as dissipation_residual")                                                                   \
    X(SMOOTHNESS_RESIDUAL, "as dissipation_residual",                                              \
      "it tests these: ell, update, one function; not dissipation")                                \
    X(ENERGY, LYAP_NOTE_SUM,                                                                       \
      "the form of the declared optimizer: SPEC 3.2 descent (probe, clipped, Nesterov, RMSProp "   \
      "with momentum), 3.3, 3.4, 3.5")                                                             \
    X(ENERGY_CHANGE, LYAP_NOTE_SUM,                                                                \
      "two consecutive updates known where the optimizer has memory")                              \
    X(ENERGY_BOUND, LYAP_NOTE_SUM, "ell = 1.1 sharpness")                                          \
    X(ENERGY_SCALE, LYAP_NOTE_SUM, "-")                                                            \
    X(SUFFICIENT_DECREASE, LYAP_NOTE_SUM, "GD, proximal or projected; convex r: >= 1 - eta ell/2") \
    X(RELATIVE_ERROR, LYAP_NOTE_SUM,                                                               \
      "w is a Clarke element where the gradient is one (ReLU: off a null set); <= 1 + eta ell")    \
    X(LOSS_LEVEL_EVIDENCE, "anytime valid: a false alarm in 10^4 values at most",                  \
      "E[clip(r/scale)] <= 0: the conditional mean of log loss is at most ref + margin")           \
    X(UPDATE_IDENTITY, LYAP_NOTE_SUM,                                                              \
      "one update lies between the snapshots; delta_precision <= .025")                            \
    X(DELTA_PRECISION, "within 25 % below 1 (E11)", "roundings are independent")                   \
    X(PROGRESS_SCALE, "rounding", "-")                                                             \
    X(LOSS_EXCESS, "rounding", "-")                                                                \
    X(LOSS_SPREAD, "rounding", "-")                                                                \
    X(LOSS_RATIO, "rounding", "losses above 0")                                                    \
    X(LOSS_SLOPE, "rounding", "-")                                                                 \
    X(LOSS_SLOPE_T, "rounding", "independent residuals; of noise alone it is not Student")         \
    X(NET_WORK_SUM, LYAP_NOTE_SUM, "as net_work")                                                  \
    X(SECOND_MOMENT_RATIO, "none stated: exact where v was pushed", "-")                           \
    X(UPDATE_Z, "none stated: a baseline of 50 values",                                            \
      "the coming update of the declared optimizer")                                               \
    X(UPDATE_Z_MEDIAN, "as update_z", "as update_z")                                               \
    X(GRAD_Z, "as update_z", "-")                                                                  \
    X(GRAD_Z_MEDIAN, "as update_z", "-")                                                           \
    X(INSTABILITY_SCORE, "its calibration on held-out trainings (docs/detection.md)",              \
      "trainings like those of docs/detection.md")                                                 \
    X(INSTABILITY_SCORE_NEXT, "as instability_score",                                              \
      "as instability_score; the declared optimizer")                                              \
    X(LIMIT_CROSSING, "of stability_ratio", "as stability_ratio")                                  \
    X(UNSTABLE_RATIO, "none stated: as stability_ratio", "as both")                                \
    X(PROBE_LOSS_RATIO, "rounding", "losses above 0; healthy runs cross 2 as well")                \
    X(INCONSISTENCY, "of work_residual", "loss and gradient of one function make it <= 0.1")       \
    X(UPDATE_GAIN, "rounding", "the state is known; coordinatewise derivative")                    \
    X(UPDATE_GAIN_FROZEN, "rounding", "P held")                                                    \
    X(UPDATE_GAIN_TOTAL, "rounding", "constant eta and beta")                                      \
    X(UPDATE_GAIN_P50, "its bin, a factor 2", "-")                                                 \
    X(UPDATE_GAIN_P99, "its bin, a factor 2", "-")                                                 \
    X(FLIP_FRACTION, "rounding",                                                                   \
      "the derivative is 0 almost everywhere, and the Clarke set unbounded")                       \
    X(FLIP_BOUND, "rounding", "-")                                                                 \
    X(CURVATURE_MIN, "r + 10 %", "an upper bound on the least eigenvalue (interlacing)")           \
    X(RITZ_ASYMMETRY, "1/sqrt(k), its floor", "0 for exact y = H s")                               \
    X(DECAY_CURVATURE, "as large as itself: one direction", "P of the push")                       \
    X(RATE_AT_LAMBDA_MIN, "of the radius at curvature_min +- its error", "as transition_rate")     \
    X(MODE_ENERGY_GAIN, "of M at sharpness +- its error, where there is an energy",                \
      "one mode, constant; theta and memory together")                                             \
    X(MODE_ENERGY_RATE, "as mode_energy_gain", "as mode_energy_gain")                              \
    X(MEAN_SQUARE_GAIN, "none stated",                                                             \
      "one direction, correlated with the batch; says nothing of the typical exponent")            \
    X(ANCHOR_ENERGY, "rounding",                                                                   \
      "nonincreasing where L is convex, thetabar a minimiser, eta <= 2/ell; thetabar not of the "  \
      "same window")                                                                               \
    X(ANCHOR_ENERGY_CHANGE, "rounding", "identity")                                                \
    X(ENERGY_DRIFT, "Newey-West standard error", "lag-1 correlation of the batch means below .1")  \
    X(DRIFT_EVIDENCE, "none stated",                                                               \
      "independent batch means; on increments it fires in no real blow-up (E12)")                  \
    X(FORWARD_BOUND, "rounding; above the exact Jacobian by 0.7 to 5.2 nats (E7)",                 \
      "every layer declared with its activation")                                                  \
    X(FORWARD_BOUND_LOCAL, "none stated: above the Jacobian at the inputs",                        \
      "at the pushed inputs alone")                                                                \
    X(RESIDUAL_GAIN, "rounding; from above", "bounds of all Jacobians of f")                       \
    X(CFL_MARGIN, "rounding; from below",                                                          \
      "mu < 0 is known for constant and symmetric blocks alone")                                   \
    X(EMPIRICAL_GAIN, "rounding", "at the scale and direction of the pushed perturbation")         \
    X(EMPIRICAL_GAIN_GROWTH, "rounding", "perturbations of one kind throughout")                   \
    X(TWIN_LOG, "as pushed",                                                                       \
      "same data order and RNG, all of (theta, m, v) evolved; e of SPEC 2.5")                      \
    X(TWIN_LOG_2, "as pushed", "as twin_log")                                                      \
    X(TWIN_LOG_3, "as pushed", "as twin_log")                                                      \
    X(TWIN_LOG_4, "as pushed", "as twin_log")                                                      \
    X(TWIN_RATE, "99 % interval under random-walk noise of the log",                               \
      "of this window; a lower bound on the largest exponent")                                     \
    X(TWIN_GROWTH, "none stated: a maximum, noise included", "of this window")                     \
    X(TWIN_ACTIVE_RATE, "as twin_rate", "as twin_rate")                                            \
    X(WINDOW_VERDICT, "false exponential on power laws <= 2 % (E9)",                               \
      "of this window, no more than 3 windows ahead")                                              \
    X(ACTIVE_VERDICT, "as window_verdict", "as window_verdict")                                    \
    X(SENSITIVE_HORIZON, "of twin_rate, times the steps left", "the rate stays")                   \
    X(UPDATE_GROWTH, "as twin_rate",                                                               \
      "full batch or noise_fraction <= .5, else C: a trend of the noise")                          \
    X(BLOCK_SHARE, "rounding", "blocks begin where a shard does")                                  \
    X(COORDINATE_SHARE, "rounding", "-")                                                           \
    X(DEAD_TENSORS, "rounding", "-")                                                               \
    X(STUCK_TENSORS, "rounding", "-")                                                              \
    X(NONFINITE_PARAM, "rounding", "-")                                                            \
    X(NONFINITE_GRAD, "rounding", "-")

/* X(enum, trust, error, needs, source) */
#define LYAP_TENSOR_NOTE_TABLE(X)                                                                  \
    X(PARAM_NORM, I, "rounding", "param", "SPEC 2.1")                                              \
    X(GRAD_NORM, I, "rounding", "grad", "SPEC 2.1")                                                \
    X(UPDATE_NORM, I, "rounding; stored differences: delta_precision", "exact retention or delta", \
      "SPEC 2.1")                                                                                  \
    X(UPDATE_RATIO, I, "of update_norm", "exact retention", "SPEC 2.1")                            \
    X(GRAD_COSINE, I, "rounding", "exact retention", "SPEC 2.1")                                   \
    X(ABS_MAX, I, "rounding", "param", "SPEC 5")                                                   \
    X(ZERO_FRACTION, I, "rounding", "grad", "docs/detection.md")                                   \
    X(NONFINITE_PARAM, I, "rounding", "param", "SPEC 6.4")                                         \
    X(NONFINITE_GRAD, I, "rounding", "grad", "SPEC 6.4")                                           \
    X(CURVATURE_SHARE, I, "rounding; of one pair, never an eigenvalue of the tensor's block",      \
      "active pair; Adam: state", "SPEC 2.2")                                                      \
    X(SECOND_MOMENT_RATIO, E, "none stated: exact where v was pushed", "Adam state",               \
      "docs/detection.md")                                                                         \
    X(EMPIRICAL_GAIN, I, "rounding; a lower bound at that scale", "layers, act, act_perturbed",    \
      "SPEC 1.5")                                                                                  \
    X(UPDATE_Z, E, "none stated: a baseline of 50 values", "optimizer, lr; Adam: state",           \
      "docs/detection.md")                                                                         \
    X(GRAD_Z, E, "as update_z", "grad", "docs/detection.md")                                       \
    X(SPECTRAL_NORM, I, "spectral_norm_error", "param of rank 2 or more", "SPEC 1.2")              \
    X(SPECTRAL_NORM_ERROR, E, "-", "as spectral_norm", "docs/decisions/0011")                      \
    X(SPECTRAL_RESIDUAL, I, "rounding", "as spectral_norm", "SPEC 1.2")                            \
    X(SPECTRAL_NORM_UPPER, I, "rounding; Gram <= 0.2 % over",                                      \
      "as spectral_norm; Gram: exact retention", "SPEC 1.2")                                       \
    X(UPDATE_GAIN, I, "rounding", "optimizer, lr; Adam: state", "SPEC 1.6")                        \
    X(DEAD_POINTS, I, "rounding", "grad", "docs/detection.md")                                     \
    X(STUCK_POINTS, I, "rounding", "predecessor or delta, optimizer, lr", "docs/detection.md")

/* X(enum, error, needs, hypotheses, source); trust stands in layer_row.h. */
#define LYAP_LAYER_NOTE_TABLE(X)                                                                   \
    X(GAIN, "rounding; how far above: docs/accuracy.md",                                           \
      "param; convolutions, attention, structured blocks tighter or only with exact retention "    \
      "and one rank",                                                                              \
      "evaluation mode; the declared activation", "SPEC 1.1-1.5")                                  \
    X(LOCAL_GAIN, "none stated: above the Jacobian at the inputs",                                 \
      "act, gate; linear gates one by one: exact retention, one rank",                             \
      "at the inputs pushed at that step, or at bound_step", "SPEC 1.1, 1.5")                      \
    X(LOG_PRODUCT, "sum of the layers'", "gain of every layer before",                             \
      "a chain: from declares another source", "SPEC 1.1")                                         \
    X(LOCAL_LOG_PRODUCT, "sum of the layers'", "local_gain of every layer before",                 \
      "each at its own worst input", "SPEC 1.1")                                                   \
    X(ROW_NORM, "rounding", "param", "one changed token moves its row by twice that at most",      \
      "SPEC 1.5")                                                                                  \
    X(TRIANGLE, "rounding", "gains of the inner layers", "-", "SPEC 1.4")                          \
    X(LOG_NORM_GAIN, "rounding", "structure; constant: exact retention",                           \
      "mu and L bound all Jacobians of f", "SPEC 1.4")                                             \
    X(LOG_NORM, "rounding", "as log_norm_gain; free blocks: mu = L", "as log_norm_gain",           \
      "SPEC 1.4")                                                                                  \
    X(GAIN_INF, "rounding", "gated block, exact retention", "0 <= phi' <= its constant",           \
      "SPEC 1.4")                                                                                  \
    X(CFL_MARGIN, "rounding", "as log_norm_gain", "mu < 0; mu >= 0 is never certified",            \
      "SPEC 1.4")                                                                                  \
    X(BACKWARD_GAIN, "rounding", "as log_norm_gain", "h mu < 1", "SPEC 1.4")                       \
    X(ACT_NORM, "rounding", "act", "-", "SPEC 1.5")                                                \
    X(EMPIRICAL_GAIN, "rounding", "act, act_perturbed of the layer and of the input",              \
      "at that scale and direction: a lower bound", "SPEC 1.5")                                    \
    X(EMPIRICAL_GAIN_MAX, "rounding", "as empirical_gain", "of the attempt", "SPEC 1.5")           \
    X(EMPIRICAL_GAIN_GROWTH, "rounding", "as empirical_gain",                                      \
      "perturbations of one kind throughout", "SPEC 9")

struct lyap_metric_note {
    enum lyap_trust trust;
    const char *error, *needs, *hypotheses, *source;
};
LYAP_API struct lyap_metric_note lyap_metric_note(enum lyap_metric metric);
LYAP_API struct lyap_metric_note lyap_tensor_metric_note(enum lyap_tensor_metric metric);
LYAP_API struct lyap_metric_note lyap_layer_metric_note(enum lyap_layer_metric metric);

#endif
