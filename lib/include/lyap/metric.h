/* metric.h - the table of metrics: name, trust class, unit, formula, hypotheses, needs, source. It
 * drives the point, the database columns, the API, /metrics and docs/metrics.md. THREADS:
 * constants. */
#ifndef LYAP_METRIC_H
#define LYAP_METRIC_H

#include <stdbool.h>
#include <stddef.h>

#include "lyap/status.h"

enum lyap_trust { LYAP_TRUST_I, LYAP_TRUST_E, LYAP_TRUST_C };

/* Why a metric is absent. X(enum, wire name, text) */
#define LYAP_REASON_TABLE(X)                                                                       \
    X(NONE, "present", "the value is there")                                                       \
    X(NOT_PUSHED, "not-pushed", "the push did not carry what this metric needs")                   \
    X(NO_TENSORS, "no-tensors", "the push carried no tensors")                                     \
    X(NO_PREVIOUS, "no-previous-snapshot", "there is no predecessor in this attempt and rank")     \
    X(NONFINITE, "nonfinite", "a non-finite value was pushed")                                     \
    X(DIFFERENT_BATCH, "different-batch", "the two snapshots are not of one function")             \
    X(NO_PROBE, "no-probe", "no probe gradient or active pair was pushed")                         \
    X(NO_ACCEPTED_CURVATURE, "no-accepted-curvature", "no Ritz value passed its residual test")    \
    X(NEEDS_STATE, "needs-optimizer-state", "the optimizer's m and v are not known")               \
    X(NO_OPTIMIZER, "no-optimizer", "no optimizer was declared")                                   \
    X(NO_LINEAR_LIMIT, "no-linear-limit", "the optimizer has no linear stability limit")           \
    X(OPTIMIZER_MISMATCH, "optimizer-mismatch", "the update is not the declared optimizer's")      \
    X(DELTA_PRECISION, "delta-precision", "the update drowns in the rounding of the snapshots")    \
    X(LOSS_PRECISION, "loss-precision", "the work is below the rounding of the loss")              \
    X(SKETCH_RETENTION, "sketch-retention", "sketch retention keeps no snapshots")                 \
    X(ROLE_ORDER, "role-order", "the order of the pushed roles prevents this product")             \
    X(RANK_MISSING, "rank-missing", "a rank's part did not arrive in time")                        \
    X(SHARD_LAYOUT, "shard-layout", "the shards cut what this metric needs whole")                 \
    X(STEP_GAP, "step-gap", "steps between the two snapshots were not pushed")                     \
    X(WARMING_UP, "warming-up", "its window is not full yet")                                      \
    X(SKIPPED, "skipped", "the step was skipped")                                                  \
    X(NO_LR, "no-lr", "no learning rate was pushed or declared")                                   \
    X(NO_LOSS, "no-loss", "no loss was pushed")                                                    \
    X(ZERO_UPDATE, "zero-update", "the update is exactly zero")                                    \
    X(INSUFFICIENT, "insufficient-information", "the data cannot answer this")                     \
    X(NO_LAYERS, "no-layers", "the run declares no layers")                                        \
    X(UNKNOWN_LAYER_KIND, "unknown-layer-kind", "a layer is of kind `other`")                      \
    X(LAYER_MISMATCH, "layer-mismatch", "a layer's tensor is unknown or has another shape")        \
    X(NO_GLOBAL_BOUND, "no-global-bound", "attention and normalisation have local gains alone")    \
    X(NEEDS_ACTIVATIONS, "needs-activations", "the layer's activations or gates were not pushed")  \
    X(NEEDS_VALUES, "needs-values", "its bound is found on kept snapshots: exact retention")       \
    X(NO_RESIDUAL_BLOCK, "no-residual-block", "no residual block is declared")                     \
    X(MU_NONNEGATIVE, "mu-nonnegative", "nothing certifies that the block does not expand")        \
    X(NOT_APPLICABLE, "not-applicable", "it is not defined for this optimizer or model")           \
    X(NOT_ITS_TURN, "not-its-turn", "large models measure their weights in turns")                 \
    X(NO_ENERGY, "no-energy", "the transition is not contractive, so no such energy exists")       \
    X(NO_TWIN, "no-twin", "no twin_log was pushed, or not lately")                                 \
    X(NO_HORIZON, "no-horizon", "the declaration gives no number of steps")

enum lyap_reason {
#define LYAP_REASON_ENUM(name, wire, text) LYAP_REASON_##name,
    LYAP_REASON_TABLE(LYAP_REASON_ENUM)
#undef LYAP_REASON_ENUM
        LYAP_REASON_COUNT
};

/* Metrics of a point. X(enum, name, default trust, unit, formula, needs, source)
 * Columns of table `points` carry these names. Adding a row needs a migration (HACKING.md). */
#define LYAP_METRIC_TABLE(X)                                                                       \
    X(LOSS, "loss", I, "loss", "L_t as pushed", "loss", "SPEC 0.1")                                \
    X(LR, "lr", I, "1", "eta of the coming update (the largest of the groups')", "lr", "SPEC 0.1") \
    X(PROBE_LOSS, "probe_loss", I, "loss", "L^P_t", "probe_loss", "SPEC 0.1")                      \
    X(PARAM_NORM, "param_norm", I, "param", "|theta_t|", "param", "SPEC 2.1")                      \
    X(GRAD_NORM, "grad_norm", I, "grad", "|g_t|", "grad", "SPEC 2.1")                              \
    X(UPDATE_NORM, "update_norm", I, "param", "|D_{t-1}|", "predecessor or delta", "SPEC 2.1")     \
    X(UPDATE_RATIO, "update_ratio", I, "1", "|D_{t-1}| / |theta_{t-1}|", "predecessor or delta",   \
      "SPEC 2.1")                                                                                  \
    X(GRAD_COSINE, "grad_cosine", I, "1", "<g_t, g_{t-1}> / (|g_t| |g_{t-1}|)", "predecessor",     \
      "SPEC 2.1")                                                                                  \
    X(UPDATE_COSINE, "update_cosine", E, "1",                                                      \
      "<D_{t-1}, D_{t-2}> / (|D_{t-1}| |D_{t-2}|), sketched", "three snapshots",                   \
      "docs/detection.md")                                                                         \
    X(CURVATURE_ALONG_STEP, "curvature_along_step", I, "loss/param^2",                             \
      "<g_t - g_{t-1}, D> / |D|^2", "predecessor", "SPEC 3.1")                                     \
    X(SECANT_CURVATURE, "secant_curvature", C, "loss/param^2", "<g_t - g_{t-1}, D> / <D, P D>",    \
      "predecessor; Adam: state", "docs/detection.md")                                             \
    X(UPDATE_NORM_P, "update_norm_p", I, "param", "sqrt(<D, P_{t-1} D>)",                          \
      "predecessor; Adam: state", "SPEC 2.1")                                                      \
    X(SHARPNESS, "sharpness", E, "loss/param^2", "accepted top Ritz value of H (of P^-1 H: Adam)", \
      "active pairs or probe gradients or full batch", "SPEC 2.2-2.3")                             \
    X(SHARPNESS_RESIDUAL, "sharpness_residual", I, "loss/param^2", "r of the Ritz pair",           \
      "as sharpness", "SPEC 2.2")                                                                  \
    X(VISITED_CURVATURE, "visited_curvature", C, "loss/param^2",                                   \
      "largest Ritz value without acceptance, a lower bound", "as sharpness", "SPEC 2.2")          \
    X(STABILITY_LIMIT, "stability_limit", I, "loss/param^2",                                       \
      "exact linear limit of the optimizer", "optimizer, lr", "SPEC 2.6")                          \
    X(STABILITY_RATIO, "stability_ratio", E, "1", "sharpness / stability_limit", "both",           \
      "SPEC 2.6")                                                                                  \
    X(TRANSITION_RATE, "transition_rate", E, "1/step", "log spectral radius at sharpness",         \
      "sharpness, optimizer, lr", "SPEC 2.6")                                                      \
    X(EDGE_RATIO, "edge_ratio", C, "1", "lr EMA(<dg,D>) / EMA(<D,PD>) / c, decay .8",              \
      "predecessor; Adam: state", "docs/detection.md")                                             \
    X(BATCH_SHARPNESS, "batch_sharpness", E, "loss/param^2",                                       \
      "<g'_B - g_B, D> / |D|^2 on one batch", "same_batch_grad", "SPEC 2.2")                       \
    X(NOISE_FRACTION, "noise_fraction", E, "1", "nu / (nu + |g|^2), nu = half_diff_sq / 4",        \
      "half_diff_sq", "SPEC 2.4")                                                                  \
    X(SPECTRAL_NORM, "spectral_norm", I, "1",                                                      \
      "largest lower bound of sigma_1 over the weights; E: of an earlier step, where they take "   \
      "turns",                                                                                     \
      "param tensors of rank 2 or more", "SPEC 1.2")                                               \
    X(SPECTRAL_RESIDUAL, "spectral_residual", I, "1",                                              \
      "|W v - sigma u| of that weight: a singular value lies within it of spectral_norm",          \
      "as spectral_norm", "SPEC 1.2")                                                              \
    X(SPECTRAL_NORM_UPPER, "spectral_norm_upper", I, "1",                                          \
      "largest upper bound of sigma_1 over all weights",                                           \
      "param tensors of rank 2 or more; Gram bound: exact retention", "SPEC 1.2")                  \
    X(WORK_RESIDUAL, "work_residual", I, "1", "tau, trapezoid error over work", "one function",    \
      "SPEC 3.1")                                                                                  \
    X(CURVATURE_OF_LOSS, "curvature_of_loss", I, "loss/param^2",                                   \
      "2 (dL - <g_{t-1}, D>) / |D|^2; beside curvature_along_step: they differ by 2T/|D|^2",       \
      "one function", "SPEC 3.1")                                                                  \
    X(NET_WORK, "net_work", I, "1", "W = <g_{t-1} + g_t, D> / 2E", "predecessor",                  \
      "docs/detection.md")                                                                         \
    X(OVERSHOOT_WORK, "overshoot_work", I, "1", "A = <g_t, D> / E", "predecessor",                 \
      "docs/detection.md")                                                                         \
    X(PREDICTED_DECREASE, "predicted_decrease", I, "1", "-<g_t, p_t> / E", "optimizer, lr",        \
      "docs/detection.md")                                                                         \
    X(PREDICTED_CHANGE, "predicted_change", E, "1",                                                \
      "q = (<g_t,p_t> + med3(kappa)+ <p_t,P_t p_t> / 2) / E", "optimizer, predecessor",            \
      "docs/detection.md")                                                                         \
    X(DISSIPATION_RESIDUAL, "dissipation_residual", E, "1", "(dE + max(c,0)|D|^2) / scale",        \
      "one function, optimizer, sharpness", "SPEC 3.0")                                            \
    X(DISSIPATION_WINDOW, "dissipation_window", E, "1",                                            \
      "sum(dE + max(c,0)|D|^2) / sum(scale) over the shortest window", "as dissipation_residual",  \
      "SPEC 3.0")                                                                                  \
    X(SMOOTHNESS_RESIDUAL, "smoothness_residual", E, "1", "(dE + c|D|^2) / scale",                 \
      "one function, optimizer, sharpness", "SPEC 3.0")                                            \
    X(ENERGY, "energy", E, "loss", "E_t of the declared optimizer's energy", "one function",       \
      "SPEC 3.2-3.4")                                                                              \
    X(ENERGY_CHANGE, "energy_change", E, "loss", "E_t - E_{t-1}", "one function", "SPEC 3.0")      \
    X(ENERGY_BOUND, "energy_bound", E, "loss", "c|D|^2, of either sign", "one function",           \
      "SPEC 3.0")                                                                                  \
    X(ENERGY_SCALE, "energy_scale", E, "loss", "positive work scale of the residuals",             \
      "one function", "SPEC 3.0")                                                                  \
    X(SUFFICIENT_DECREASE, "sufficient_decrease", I, "1", "a eta = eta (F_{t-1} - F_t) / |D|^2",   \
      "one function", "SPEC 3.5")                                                                  \
    X(RELATIVE_ERROR, "relative_error", I, "1", "b eta = eta |w| / |D|", "one function",           \
      "SPEC 3.5")                                                                                  \
    X(LOSS_LEVEL_EVIDENCE, "loss_level_evidence", E, "1",                                          \
      "log M of the level monitor; alarm at log 1e4", "probe_loss (else loss: C)", "SPEC 3.6")     \
    X(UPDATE_IDENTITY, "update_identity", I, "1", "omega = |D - p_{t-1}| / |D|",                   \
      "predecessor, optimizer; Adam: state", "SPEC 0.1")                                           \
    X(DELTA_PRECISION, "delta_precision", E, "1", "0.59 u |theta| / |D|", "predecessor",           \
      "SPEC 6.2")                                                                                  \
    X(PROGRESS_SCALE, "progress_scale", I, "loss", "E = max((ref - m)/2, |ref|/10)", "loss",       \
      "docs/detection.md")                                                                         \
    X(LOSS_EXCESS, "loss_excess", I, "1", "x = (L_t - m) / E", "loss", "docs/detection.md")        \
    X(LOSS_SPREAD, "loss_spread", I, "1", "sigma = 1.4826 MAD_50(L) / E", "loss",                  \
      "docs/detection.md")                                                                         \
    X(LOSS_RATIO, "loss_ratio", I, "1", "lambda = L_t / median_20(L)", "loss",                     \
      "docs/detection.md")                                                                         \
    X(LOSS_SLOPE, "loss_slope", I, "1", "OLS rise of L/E over 10 steps", "loss",                   \
      "docs/detection.md")                                                                         \
    X(LOSS_SLOPE_T, "loss_slope_t", I, "1", "t statistic of loss_slope", "loss",                   \
      "docs/detection.md")                                                                         \
    X(NET_WORK_SUM, "net_work_sum", I, "1", "W5 = sum of net_work over 5 points", "predecessor",   \
      "docs/detection.md")                                                                         \
    X(SECOND_MOMENT_RATIO, "second_moment_ratio", E, "1", "RMS_t = max_l sqrt(mean(g^2 / vhat))",  \
      "Adam state", "docs/detection.md")                                                           \
    X(UPDATE_Z, "update_z", E, "1", "largest robust z over tensors of log |p_l|, last 50",         \
      "optimizer, lr; Adam: state", "docs/detection.md")                                           \
    X(UPDATE_Z_MEDIAN, "update_z_median", E, "1", "median over tensors of their z of log |p_l|",   \
      "optimizer, lr; Adam: state", "docs/detection.md")                                           \
    X(GRAD_Z, "grad_z", E, "1", "largest robust z over tensors of log |g_l|, last 50", "grad",     \
      "docs/detection.md")                                                                         \
    X(GRAD_Z_MEDIAN, "grad_z_median", E, "1", "median over tensors of their z of log |g_l|",       \
      "grad", "docs/detection.md")                                                                 \
    X(INSTABILITY_SCORE, "instability_score", E, "1",                                              \
      "calibrated share of such points that lie in the window of an instability, 0 to 1",          \
      "loss; the more the better", "docs/detection.md")                                            \
    X(INSTABILITY_SCORE_NEXT, "instability_score_next", E, "1",                                    \
      "the same from the coming update alone, before it is made", "optimizer, lr; Adam: state",    \
      "docs/detection.md")                                                                         \
    X(LIMIT_CROSSING, "limit_crossing", E, "1",                                                    \
      "stability_ratio when it rose from < .95 (median of 5 probes) to > 1.2 in one probe "        \
      "together with lr; else 0",                                                                  \
      "stability_ratio", "SPEC 9")                                                                 \
    X(UNSTABLE_RATIO, "unstable_ratio", E, "1",                                                    \
      "least stability_ratio of the last 5 probes while the level monitor is in alarm; else 0",    \
      "stability_ratio, loss_level_evidence", "SPEC 9")                                            \
    X(PROBE_LOSS_RATIO, "probe_loss_ratio", I, "1", "probe_loss / its least value of the attempt", \
      "probe_loss", "SPEC 9")                                                                      \
    X(INCONSISTENCY, "inconsistency", E, "1",                                                      \
      "|work_residual| where curvature_along_step lr < .1; else 0", "work_residual", "SPEC 9")     \
    X(UPDATE_GAIN, "update_gain", I, "param/grad",                                                 \
      "sqrt(sum g^2 |dp/dg|^2 / sum g^2); clipped: across g, along g it is 0; prox, projection: "  \
      "the bound eta",                                                                             \
      "optimizer, lr; Adam: state", "SPEC 1.6")                                                    \
    X(UPDATE_GAIN_FROZEN, "update_gain_frozen", I, "param/grad",                                   \
      "the same with P held: eta (1-b1)/(1-b1^t)/(sqrt(vhat)+eps)", "Adam state", "SPEC 1.6")      \
    X(UPDATE_GAIN_TOTAL, "update_gain_total", I, "param/grad",                                     \
      "gain summed over all updates that g enters: eta/(1-beta)", "linear optimizer, lr",          \
      "SPEC 1.6")                                                                                  \
    X(UPDATE_GAIN_P50, "update_gain_p50", E, "param/grad",                                         \
      "median over coordinates of |dp/dg|, from its log2 histogram", "as update_gain", "SPEC 1.6") \
    X(UPDATE_GAIN_P99, "update_gain_p99", E, "param/grad",                                         \
      "99 % quantile over coordinates, from the same", "as update_gain", "SPEC 1.6")               \
    X(FLIP_FRACTION, "flip_fraction", I, "1",                                                      \
      "share of coordinates whose update direction changed", "sign method, predecessor",           \
      "SPEC 1.6")                                                                                  \
    X(FLIP_BOUND, "flip_bound", I, "param",                                                        \
      "2 eta sqrt(flips): bounds |p - p'| of two gradients so many signs apart",                   \
      "sign method, predecessor", "SPEC 1.6")                                                      \
    X(CURVATURE_MIN, "curvature_min", E, "loss/param^2",                                           \
      "least Ritz value that passes the residual test |rho| >= 5 r", "as sharpness", "SPEC 2.2")   \
    X(RITZ_ASYMMETRY, "ritz_asymmetry", I, "1", "|Y - Y'|_F / |Y + Y'|_F of the window of pairs",  \
      "as sharpness, two pairs", "SPEC 2.2")                                                       \
    X(DECAY_CURVATURE, "decay_curvature", E, "loss/param^2",                                       \
      "sum wd <s,s> / <s,P s> of the newest pair: what coupled decay adds to P^-1 H there; "       \
      "stability_limit is reduced by it",                                                          \
      "adam or rmsprop with weight decay, active pairs", "SPEC 2.6")                               \
    X(RATE_AT_LAMBDA_MIN, "rate_at_lambda_min", E, "1/step",                                       \
      "log spectral radius at curvature_min < 0; GD: log(1 + eta |lambda_min|)",                   \
      "curvature_min, optimizer, lr", "SPEC 2.6")                                                  \
    X(MODE_ENERGY_GAIN, "mode_energy_gain", E, "1",                                                \
      "M = sqrt(kappa(P)), A'PA - P = -I of the transition at sharpness: |A^t| <= M e^(rate t)",   \
      "sharpness, optimizer, lr", "SPEC 3.3")                                                      \
    X(MODE_ENERGY_RATE, "mode_energy_rate", E, "1/step", "rate = log(1 - 1/lambda_max(P)) / 2",    \
      "sharpness, optimizer, lr", "SPEC 3.3")                                                      \
    X(MEAN_SQUARE_GAIN, "mean_square_gain", C, "1",                                                \
      "q = (1 - eta mean a)^2 + eta^2 var a over the newest 32 batch_sharpness a; > 1 flags",      \
      "same_batch_grad, plain SGD", "SPEC 2.6")                                                    \
    X(ANCHOR_ENERGY, "anchor_energy", I, "param^2", "V = |theta_t - thetabar|^2_P, P = P_{t-1}",   \
      "anchor; Adam: state", "SPEC 3.5")                                                           \
    X(ANCHOR_ENERGY_CHANGE, "anchor_energy_change", I, "param^2",                                  \
      "2 <D, theta_{t-1} - thetabar>_P + |D|^2_P", "anchor, predecessor or delta; Adam: state",    \
      "SPEC 3.5")                                                                                  \
    X(ENERGY_DRIFT, "energy_drift", E, "1",                                                        \
      "mean of the newest 64 batch means (16 pushes each) of the probe loss's change, over their " \
      "MAD scale in the first 32; error: Newey-West",                                              \
      "probe_loss", "SPEC 3.6")                                                                    \
    X(DRIFT_EVIDENCE, "drift_evidence", C, "1",                                                    \
      "log M of the e-detector on the same batch means; alarm at log 1e4", "probe_loss",           \
      "SPEC 3.6")                                                                                  \
    X(FORWARD_BOUND, "forward_bound", I, "log",                                                    \
      "log of a bound on the network's Lipschitz constant: sum of the layers' log gains",          \
      "layers", "SPEC 1.1")                                                                        \
    X(FORWARD_BOUND_LOCAL, "forward_bound_local", E, "log",                                        \
      "the same at the pushed tokens and gates; with attention: C", "layers, act, gate",           \
      "SPEC 1.5")                                                                                  \
    X(RESIDUAL_GAIN, "residual_gain", I, "1",                                                      \
      "largest gain of a residual block: the better of triangle and log-norm", "layers",           \
      "SPEC 1.4")                                                                                  \
    X(CFL_MARGIN, "cfl_margin", I, "1",                                                            \
      "least (-2 mu / L^2) / h over the residual blocks; >= 1: none expands", "layers",            \
      "SPEC 1.4")                                                                                  \
    X(EMPIRICAL_GAIN, "empirical_gain", I, "1",                                                    \
      "|x'_l - x_l| / |x'_0 - x_0| of the last pushed layer with a tensor, a lower bound",         \
      "act, act_perturbed", "SPEC 1.5")                                                            \
    X(EMPIRICAL_GAIN_GROWTH, "empirical_gain_growth", I, "1",                                      \
      "largest empirical_gain / its least over the points of the shortest window before, over "    \
      "the layers with a tensor",                                                                  \
      "act, act_perturbed", "SPEC 9")                                                              \
    X(TWIN_LOG, "twin_log", I, "1", "y_t of the twin in slot 1, as pushed", "twin_log",            \
      "SPEC 2.5")                                                                                  \
    X(TWIN_LOG_2, "twin_log_2", I, "1", "the same of slot 2", "twin_log", "SPEC 2.5")              \
    X(TWIN_LOG_3, "twin_log_3", I, "1", "the same of slot 3", "twin_log", "SPEC 2.5")              \
    X(TWIN_LOG_4, "twin_log_4", I, "1", "the same of slot 4", "twin_log", "SPEC 2.5")              \
    X(TWIN_RATE, "twin_rate", E, "1/step",                                                         \
      "slope of y of the fastest twin, over the largest full window of at least 64 values",        \
      "twin_log", "SPEC 4.2")                                                                      \
    X(TWIN_GROWTH, "twin_growth", E, "1", "largest log M = max over s <= t of y_t - y_s",          \
      "twin_log", "SPEC 4.2")                                                                      \
    X(TWIN_ACTIVE_RATE, "twin_active_rate", E, "1/step", "slope of y of the twin named active",    \
      "twin_log", "SPEC 4.2")                                                                      \
    X(WINDOW_VERDICT, "window_verdict", E, "1",                                                    \
      "worst of the twins beside active: 0 decay, 1 bounded, 2 inconclusive, 3 subexponential, "   \
      "4 growth-unresolved, 5 exponential (or unresolved and above ln 100)",                       \
      "twin_log", "SPEC 4.2")                                                                      \
    X(ACTIVE_VERDICT, "active_verdict", E, "1", "the same of the twin named active", "twin_log",   \
      "SPEC 4.2")                                                                                  \
    X(SENSITIVE_HORIZON, "sensitive_horizon", E, "1",                                              \
      "twin_rate x remaining steps while a twin is exponential; else 0",                           \
      "twin_log, declared steps", "SPEC 9")                                                        \
    X(UPDATE_GROWTH, "update_growth", E, "1/step",                                                 \
      "slope of log(|D|/eta); with mini-batches a trend of the noise unless noise_fraction <= .5", \
      "predecessor or delta, lr", "SPEC 2.4")                                                      \
    X(BLOCK_SHARE, "block_share", I, "1",                                                          \
      "largest share of |x|^2 in 64 neighbours, x of theta, g, D and the probe's gradient; above " \
      ".1 the "                                                                                    \
      "errors of sketches are stated three times as large",                                        \
      "param or grad", "SPEC 5")                                                                   \
    X(COORDINATE_SHARE, "coordinate_share", I, "1",                                                \
      "largest max x_i^2 / |x|^2 of the same; above .1 the error of a sketch is a lottery",        \
      "param or grad", "SPEC 5")                                                                   \
    X(DEAD_TENSORS, "dead_tensors", I, "count",                                                    \
      "tensors whose pushed gradient was exactly 0 at each of the newest 32 points, while "        \
      "others' "                                                                                   \
      "was not and the parameters moved",                                                          \
      "grad", "docs/detection.md")                                                                 \
    X(STUCK_TENSORS, "stuck_tensors", I, "count",                                                  \
      "tensors that each of the newest 32 updates should have moved and left exactly as they "     \
      "were, "                                                                                     \
      "while others moved",                                                                        \
      "predecessor or delta, optimizer, lr; Adam: state", "docs/detection.md")                     \
    X(NONFINITE_PARAM, "nonfinite_param", I, "count", "non-finite elements of theta_t", "param",   \
      "SPEC 6.4")                                                                                  \
    X(NONFINITE_GRAD, "nonfinite_grad", I, "count", "non-finite elements of g_t", "grad",          \
      "SPEC 6.4")

enum lyap_metric {
#define LYAP_METRIC_ENUM(name, wire, trust, unit, formula, needs, source) LYAP_METRIC_##name,
    LYAP_METRIC_TABLE(LYAP_METRIC_ENUM)
#undef LYAP_METRIC_ENUM
        LYAP_METRIC_COUNT
};

/* Metrics of one tensor at one point. X(enum, name, formula) */
#define LYAP_TENSOR_METRIC_TABLE(X)                                                                \
    X(PARAM_NORM, "param_norm", "|theta_l|")                                                       \
    X(GRAD_NORM, "grad_norm", "|g_l|")                                                             \
    X(UPDATE_NORM, "update_norm", "|D_l|")                                                         \
    X(UPDATE_RATIO, "update_ratio", "|D_l| / |theta_l| of the predecessor")                        \
    X(GRAD_COSINE, "grad_cosine", "<g_t, g_{t-1}> / (|g_t| |g_{t-1}|) of the tensor")              \
    X(ABS_MAX, "abs_max", "max |theta_l|")                                                         \
    X(ZERO_FRACTION, "zero_fraction", "share of zeros of g_l")                                     \
    X(NONFINITE_PARAM, "nonfinite_param", "non-finite elements of theta_l")                        \
    X(NONFINITE_GRAD, "nonfinite_grad", "non-finite elements of g_l")                              \
    X(CURVATURE_SHARE, "curvature_share",                                                          \
      "share <s_l,y_l> / <s,y> of an active pair that is accepted by itself; they sum to 1")       \
    X(SECOND_MOMENT_RATIO, "second_moment_ratio", "sqrt(mean(g^2 / vhat)) of the tensor")          \
    X(EMPIRICAL_GAIN, "empirical_gain", "|x'_l - x_l| / |x'_0 - x_0| of the tensor's layer")       \
    X(UPDATE_Z, "update_z", "robust z of log |p_l| against its last 50")                           \
    X(GRAD_Z, "grad_z", "robust z of log |g_l| against its last 50")                               \
    X(SPECTRAL_NORM, "spectral_norm",                                                              \
      "lower bound of sigma_1 of theta_l as shape[0] x rest, by block power iteration")            \
    X(SPECTRAL_NORM_ERROR, "spectral_norm_error",                                                  \
      "sigma_1 lies no further above spectral_norm: residual + |theta_l - that of the last "       \
      "visit|")                                                                                    \
    X(SPECTRAL_RESIDUAL, "spectral_residual", "a singular value lies within it of spectral_norm")  \
    X(SPECTRAL_NORM_UPPER, "spectral_norm_upper",                                                  \
      "upper bound of sigma_1: Gram, |W|_F, sqrt(|W|_1 |W|_inf), or an older one + sum |D_l|_F")   \
    X(UPDATE_GAIN, "update_gain", "sqrt(sum g^2 |dp/dg|^2 / sum g^2) of the tensor")               \
    X(DEAD_POINTS, "dead_points", "newest points in a row that dead_tensors counts for it")        \
    X(STUCK_POINTS, "stuck_points", "newest points in a row that stuck_tensors counts for it")

enum lyap_tensor_metric {
#define LYAP_TENSOR_METRIC_ENUM(name, wire, formula) LYAP_TENSOR_METRIC_##name,
    LYAP_TENSOR_METRIC_TABLE(LYAP_TENSOR_METRIC_ENUM)
#undef LYAP_TENSOR_METRIC_ENUM
        LYAP_TENSOR_METRIC_COUNT
};

struct lyap_metric_info {
    const char *name, *unit, *formula, *needs, *source;
    enum lyap_trust trust;
};

LYAP_API const struct lyap_metric_info *lyap_metric_info(enum lyap_metric metric);
/* The word behind a value that is a code (window_verdict, active_verdict); NULL: it is a number. */
LYAP_API const char *lyap_metric_label(enum lyap_metric metric, double value);
LYAP_API bool lyap_metric_parse(const char *name, enum lyap_metric *ret_metric);
LYAP_API const char *lyap_tensor_metric_name(enum lyap_tensor_metric metric);
LYAP_API const char *lyap_tensor_metric_formula(enum lyap_tensor_metric metric);
LYAP_API bool lyap_tensor_metric_parse(const char *name, enum lyap_tensor_metric *ret_metric);
LYAP_API const char *lyap_trust_name(enum lyap_trust trust);
LYAP_API const char *lyap_reason_name(enum lyap_reason reason);
LYAP_API const char *lyap_reason_text(enum lyap_reason reason);
LYAP_API bool lyap_reason_parse(const char *name, enum lyap_reason *ret_reason);

#endif
