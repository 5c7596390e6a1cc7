/* observe.h - what the instability score looks at (docs/detection.md): observables of one point,
 * each a function of its stored columns and of short windows of the columns before it. Embedded by
 * value. THREADS: one owner at a time. */
#ifndef LYAP_OBSERVE_H
#define LYAP_OBSERVE_H

#include <stdint.h>

#include "lyap/point.h"
#include "lyap/status.h"

/* X(enum, name, formula). Names of metrics but update_growth mean the metric itself. L loss, E
 * progress_scale, m least median of L, l probe_loss, A overshoot_work, W net_work, P
 * predicted_decrease, q predicted_change. Windows end before the point; "the last n" count it, and
 * so do medians of which a rise is taken. Points are stored with these numbers: new rows come last,
 * none goes. */
#define LYAP_OBSERVABLE_TABLE(X)                                                                   \
    X(EXCESS, "loss_excess", "x = (L - m) / E")                                                    \
    X(RATIO, "loss_ratio", "L / median_20(L)")                                                     \
    X(SIGMAS, "loss_sigmas", "loss_excess - 4 loss_spread")                                        \
    X(TAIL, "loss_tail", "(L - q90) / max(q90 - median, .02 E) of the last 50 losses")             \
    X(RECORD, "loss_record", "(L - max of the losses 3 to 52 before) / E")                         \
    X(TWICE, "loss_twice", "the same of min(L, the loss before)")                                  \
    X(LOSS_Z, "loss_z", "robust z of log L against the last 50")                                   \
    X(SLOPE, "loss_slope", "least-squares rise of L/E over 10")                                    \
    X(SLOPE_T, "loss_slope_t", "its t")                                                            \
    X(OVERSHOOT, "overshoot_work", "A = <g_t, D> / E")                                             \
    X(OVERSHOOT_3, "overshoot_sum", "sum of the last 3 A")                                         \
    X(OVERSHOOT_NEW, "overshoot_record", "A - max of the last 20 A")                               \
    X(OVERSHOOT_UP, "overshoot_growth", "A times its growth over 2 to 3 points, 1 to 10")          \
    X(NET, "net_work", "W = <g_{t-1} + g_t, D> / 2E")                                              \
    X(NET_5, "net_work_sum", "sum of the last 5 W")                                                \
    X(DECREASE, "predicted_decrease", "P = -<g_t, p_t> / E")                                       \
    X(DECREASE_Z, "decrease_rise", "log P - median of the last 50")                                \
    X(CHANGE, "predicted_change", "q, predicted change of the loss over E")                        \
    X(REACH, "reach", "-<g_t, p_t> / L: the share of the loss that the update expects to remove")  \
    X(OSCILLATION, "oscillation", "-update_cosine")                                                \
    X(EDGE, "edge_ratio", "distance to the edge of stability along the path")                      \
    X(UPDATE_Z, "update_z", "largest robust z of log |p_l|")                                       \
    X(UPDATE_Z_MID, "update_z_median", "median over tensors of the same")                          \
    X(GRAD_Z, "grad_z", "largest robust z of log |g_l|")                                           \
    X(GRAD_Z_MID, "grad_z_median", "median over tensors of the same")                              \
    X(GRAD_UP, "grad_growth", "log |g_t| - log |g| ten points before")                             \
    X(MOVED_UP, "update_growth", "log |D|/lr - the same five points before")                       \
    X(MOMENT, "second_moment_ratio", "largest sqrt(mean(g^2 / vhat)) of a tensor")                 \
    X(UPDATE_RATIO, "update_ratio", "|D| / |theta|")                                               \
    X(PARAM_UP, "param_growth", "log |theta_t| - log |theta| ten points before")                   \
    X(MISMATCH, "mismatch", "of points stored before version 3 of the score alone")                \
    X(DRIFT, "drift", "(median_5(L) - least median_20(L) before) / E")                             \
    X(SLOW_DRIFT, "slow_drift", "(median_20(L) - least median_20(L) before) / E")                  \
    X(LEVEL, "level", "loss_level_evidence")                                                       \
    X(RELAPSE, "relapse", "largest of x, min(x/.2, ln(L/m)/ln 3) and min(x/.06, ln(L/m)/ln 10)")   \
    X(RELAPSE_TWICE, "relapse_twice", "the least of the last 2 relapses")                          \
    X(RELAPSE_MID, "relapse_median", "median of the last 3 relapses")                              \
    X(REBOUND, "rebound", "log L - least log L of the last 20")                                    \
    X(RISE_20, "rise_t_20", "t of the least-squares rise of L/E over 20")                          \
    X(RISE_40, "rise_t_40", "t of the least-squares rise of L/E over 40")                          \
    X(EXCESS_NOISE, "excess_noise", "median_3(x) / (.02 + median_30(|change of L| / E))")          \
    X(OVERSHOOT_PEAK, "overshoot_peak", "largest of the last 5 A")                                 \
    X(OVERSHOOT_MADS, "overshoot_mads", "(A - median_50(A)) / max(1.4826 MAD_50(A), .003)")        \
    X(OVERSHOOT_REACH, "overshoot_reach", "A E / L")                                               \
    X(NET_PEAK, "net_peak", "largest of the last 20 W")                                            \
    X(UNEXPLAINED, "unexplained_rise", "sum over 20 of the change of L/E that A does not explain") \
    X(DECREASE_PEAK, "decrease_peak", "largest of the last 20 P")                                  \
    X(DECREASE_NEW, "decrease_record", "P - max of the last 50 P")                                 \
    X(DECREASE_UP, "decrease_jump", "log P - log of the largest of the last 50 P")                 \
    X(DECREASE_SIGMAS, "decrease_sigmas", "P / (.03 + loss_spread)")                               \
    X(CHANGE_SIGMAS, "change_sigmas", "q / (.03 + loss_spread)")                                   \
    X(CHANGE_SHARE, "change_share", "q / max(P, .001)")                                            \
    X(REACH_NEW, "reach_record", "reach - max of the last 50")                                     \
    X(EDGE_NEW, "edge_record", "edge_ratio - max of the last 50")                                  \
    X(RATE_UP, "rate_jump", "log lr - median of the last 20 log lr")                               \
    X(RATIO_UP, "update_ratio_rise", "log of update_ratio - median of the last 100")               \
    X(GRAD_RISE, "grad_rise", "log |g| - median of the last 100")                                  \
    X(GRAD_RUN, "grad_run", "least of the last two rises of log |g| over two points")              \
    X(PARAM_STEP, "param_step", "log |theta_t| - log |theta_{t-1}|")                               \
    X(GAP, "gap", "1 after steps that were not pushed, else 0")                                    \
    X(PROBE_RELAPSE, "probe_relapse", "relapse of the newest l, E that of L or l, the larger")     \
    X(PROBE_TWICE, "probe_relapse_twice", "the least of the last 2 probe_relapse")                 \
    X(PROBE_RISE, "probe_rise", "(l - l of the probe two or more points before) / E")              \
    X(PROBE_RECORD, "probe_record", "(l - max of the last 10 l) / E")                              \
    X(PROBE_FORECAST, "probe_forecast", "probe_relapse if l rises once more by probe_rise")        \
    X(PROBE_REBOUND, "probe_rebound", "log l - least log l of the last 20")                        \
    X(RELAPSE_MEAN, "relapse_mean", "relapse of the mean of the last 3 losses")                    \
    X(RATE_1, "rate_rise_1", "log lr - the same one point before")                                 \
    X(RATE_5, "rate_rise_5", "the same five points before")                                        \
    X(RATE_20, "rate_rise_20", "the same 20 points before")                                        \
    X(RATE_50, "rate_rise_50", "the same 50 points before")                                        \
    X(RATE_ABOVE, "rate_above", "log lr - median of the last 50, this one too")                    \
    X(MOVED_3, "update_rise_3", "log |D| - the same three points before")                          \
    X(MOVED_6, "update_rise_6", "the same six points before")                                      \
    X(MOVED_20, "update_rise_20", "the same 20 points before")                                     \
    X(MOVED_50, "update_rise_50", "the same 50 points before")                                     \
    X(PARAM_5, "param_rise_5", "log |theta_t| - the same five points before")                      \
    X(PARAM_20, "param_rise_20", "the same 20 points before")                                      \
    X(PARAM_50, "param_rise_50", "the same 50 points before")                                      \
    X(GRAD_6, "grad_rise_6", "log |g_t| - the same six points before")                             \
    X(DECREASE_6, "decrease_rise_6", "log P - the same six points before")                         \
    X(LOSS_RUN_5, "loss_run_5", "least of the last 5 rises of log L over one point")               \
    X(LOSS_RUN_5_2, "loss_run_5_2", "least of the last 5 rises of log L over two points")          \
    X(GRAD_RUN_3, "grad_run_3", "least of the last 3 rises of log |g| over one point")             \
    X(GRAD_RUN_5, "grad_run_5", "least of the last 5 rises of log |g| over one point")             \
    X(GRAD_RUN_5_2, "grad_run_5_2", "least of the last 5 rises of log |g| over two points")        \
    X(MOVED_RUN_5, "update_run_5", "least of the last 5 rises of log |D| over one point")          \
    X(LOSS_SHIFT_30, "loss_shift_30", "median_30(log L) - the same 30 points before")              \
    X(LOSS_SHIFT_60, "loss_shift_60", "median_30(log L) - the same 60 points before")              \
    X(GRAD_SHIFT_20, "grad_shift_20", "median_10(log |g|) - the same 20 points before")            \
    X(GRAD_SHIFT_30, "grad_shift_30", "median_30(log |g|) - the same 30 points before")            \
    X(GRAD_SHIFT_60, "grad_shift_60", "median_30(log |g|) - the same 60 points before")            \
    X(MOVED_SHIFT_30, "update_shift_30", "median_30(log |D|) - the same 30 points before")         \
    X(MOVED_SHIFT_60, "update_shift_60", "median_30(log |D|) - the same 60 points before")         \
    X(OVERSHOOT_20, "overshoot_sum_20", "sum of the last 20 A")                                    \
    X(OVERSHOOT_50, "overshoot_sum_50", "sum of the last 50 A")                                    \
    X(UNEXPLAINED_20, "unexplained_20",                                                            \
      "rise of median_10(L) over 20 points in units of E - overshoot_sum_20")                      \
    X(UNEXPLAINED_50, "unexplained_50",                                                            \
      "rise of median_10(L) over 50 points in units of E - overshoot_sum_50")                      \
    X(EXCESS_3, "excess_least_3", "least of the last 3 x")                                         \
    X(EXCESS_5, "excess_least_5", "least of the last 5 x")                                         \
    X(NET_3, "net_least_3", "least of the last 3 W")                                               \
    X(CURVATURE, "curvature_along_step", "<g_t - g_{t-1}, D> / |D|^2")                             \
    X(PATH, "path_curvature", "log of lr <g_t - g_{t-1}, D> / <D, P D>, at least log 1e-12")       \
    X(GRAD_COSINE, "grad_cosine", "cosine of g_t and g_{t-1}")                                     \
    X(MOVED_SLOPE, "update_slope", "slope of log |D|/lr, the metric update_growth")                \
    X(TENSORS, "tensors", "1 where parameters or gradients were pushed")

enum lyap_observable {
#define LYAP_OBSERVABLE_ENUM(name, wire, formula) LYAP_OBSERVABLE_##name,
    LYAP_OBSERVABLE_TABLE(LYAP_OBSERVABLE_ENUM)
#undef LYAP_OBSERVABLE_ENUM
        LYAP_OBSERVABLE_COUNT,
    LYAP_OBSERVABLE_PROBED = LYAP_OBSERVABLE_PROBE_REBOUND - LYAP_OBSERVABLE_PROBE_RELAPSE + 1
};

enum { LYAP_TRAIL_MAX = 100 };

/* X(enum, values kept): what is remembered of the points, before the present one for most
 * observables, with it for trends. */
#define LYAP_SERIES_TABLE(X)                                                                       \
    X(LOSS, 52)                                                                                    \
    X(LOG_LOSS, 50)                                                                                \
    X(RATE, 51)   /* log lr */                                                                     \
    X(GRAD, 100)  /* log |g| */                                                                    \
    X(PARAM, 51)  /* log |theta| */                                                                \
    X(UPDATE, 51) /* log |D| */                                                                    \
    X(MOVE, 5)    /* log |D|/lr */                                                                 \
    X(RATIO, 100) /* log update_ratio */                                                           \
    X(OVERSHOOT, 51)                                                                               \
    X(NET, 19)                                                                                     \
    X(EXCESS, 5)                                                                                   \
    X(RELAPSE, 2)                                                                                  \
    X(SCALED, 39) /* L / E */                                                                      \
    X(CHANGE, 30) /* |change of L| / E */                                                          \
    X(UNEXPLAINED, 19)                                                                             \
    X(PROMISE, 50)          /* P */                                                                \
    X(DECREASE, 7)          /* log P */                                                            \
    X(DECREASE_FLOORED, 50) /* log P, that of nothing as well */                                   \
    X(REACH, 50)                                                                                   \
    X(EDGE, 50)                                                                                    \
    X(PROBE, 20)       /* losses of the newest probes */                                           \
    X(PROBE_POINT, 20) /* points before each */                                                    \
    /* medians of the newest values of a series, as they were at the newest points */              \
    X(MIDDLE_RATE_50, 1)                                                                           \
    X(MIDDLE_GRAD_10, 21)                                                                          \
    X(MIDDLE_GRAD_30, 61)                                                                          \
    X(MIDDLE_UPDATE_30, 61)                                                                        \
    X(MIDDLE_LOG_LOSS_30, 61)                                                                      \
    X(MIDDLE_LOSS_10, 51)

enum lyap_series {
#define LYAP_SERIES_ENUM(name, length) LYAP_SERIES_##name,
    LYAP_SERIES_TABLE(LYAP_SERIES_ENUM)
#undef LYAP_SERIES_ENUM
        LYAP_SERIES_COUNT,
#define LYAP_SERIES_SUM(name, length) +(length)
    LYAP_SERIES_VALUES = 0 LYAP_SERIES_TABLE(LYAP_SERIES_SUM)
#undef LYAP_SERIES_SUM
};

struct lyap_observer {
    double seen[LYAP_OBSERVABLE_COUNT];  /* of the newest point; NaN: absent */
    double values[LYAP_SERIES_VALUES];   /* of one series after the other, oldest first */
    uint32_t counts[LYAP_SERIES_COUNT];  /* values that are there */
    double probe_first[3];               /* losses of the first probes */
    double probe_least;                  /* least median of three of them; NaN: none yet */
    double told[LYAP_OBSERVABLE_PROBED]; /* by the newest probe: PROBE_RELAPSE and the next */
    uint64_t points;                     /* observed */
    double lr;                           /* of the point before; NaN */
    double least_loss;                   /* least median of 20 losses; NaN before the first */
};

LYAP_API void lyap_observer_init(struct lyap_observer *observer);
/* Observes a finite point (`seen`), then remembers its columns. */
LYAP_API void lyap_observer_step(struct lyap_observer *observer, const struct lyap_point *point);
LYAP_API const char *lyap_observable_name(enum lyap_observable observable);
LYAP_API const char *lyap_observable_formula(enum lyap_observable observable);

#endif
