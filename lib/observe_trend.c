/* How the columns of a point moved against the points before: one table of rises, runs, shifts,
 * sums and least values. */
#include <math.h>

#include "observe_trend.h"
#include "trail.h"

/* Windows count the point. */
enum trend {
    TREND_RISE, /* the value - that of `length` points before */
    TREND_RUN,  /* least of the last `length` rises over `lag` points, all known */
    TREND_SUM,  /* of the last `length`, unknown ones left out */
    TREND_LEAST /* of the last `length`, all known */
};

enum { SHORT = 20, LONG = 50, MIDDLE_LEAST = 3 };

static const double CURVATURE_FLOOR = 1e-12;

static const struct {
    enum lyap_observable observable;
    enum lyap_series series;
    enum trend trend;
    uint32_t length, lag;
} trends[] = {
    { LYAP_OBSERVABLE_RATE_1, LYAP_SERIES_RATE, TREND_RISE, 1, 0 },
    { LYAP_OBSERVABLE_RATE_5, LYAP_SERIES_RATE, TREND_RISE, 5, 0 },
    { LYAP_OBSERVABLE_RATE_20, LYAP_SERIES_RATE, TREND_RISE, 20, 0 },
    { LYAP_OBSERVABLE_RATE_50, LYAP_SERIES_RATE, TREND_RISE, 50, 0 },
    { LYAP_OBSERVABLE_MOVED_3, LYAP_SERIES_UPDATE, TREND_RISE, 3, 0 },
    { LYAP_OBSERVABLE_MOVED_6, LYAP_SERIES_UPDATE, TREND_RISE, 6, 0 },
    { LYAP_OBSERVABLE_MOVED_20, LYAP_SERIES_UPDATE, TREND_RISE, 20, 0 },
    { LYAP_OBSERVABLE_MOVED_50, LYAP_SERIES_UPDATE, TREND_RISE, 50, 0 },
    { LYAP_OBSERVABLE_PARAM_5, LYAP_SERIES_PARAM, TREND_RISE, 5, 0 },
    { LYAP_OBSERVABLE_PARAM_20, LYAP_SERIES_PARAM, TREND_RISE, 20, 0 },
    { LYAP_OBSERVABLE_PARAM_50, LYAP_SERIES_PARAM, TREND_RISE, 50, 0 },
    { LYAP_OBSERVABLE_GRAD_6, LYAP_SERIES_GRAD, TREND_RISE, 6, 0 },
    { LYAP_OBSERVABLE_DECREASE_6, LYAP_SERIES_DECREASE, TREND_RISE, 6, 0 },
    { LYAP_OBSERVABLE_LOSS_RUN_5, LYAP_SERIES_LOG_LOSS, TREND_RUN, 5, 1 },
    { LYAP_OBSERVABLE_LOSS_RUN_5_2, LYAP_SERIES_LOG_LOSS, TREND_RUN, 5, 2 },
    { LYAP_OBSERVABLE_GRAD_RUN_3, LYAP_SERIES_GRAD, TREND_RUN, 3, 1 },
    { LYAP_OBSERVABLE_GRAD_RUN_5, LYAP_SERIES_GRAD, TREND_RUN, 5, 1 },
    { LYAP_OBSERVABLE_GRAD_RUN_5_2, LYAP_SERIES_GRAD, TREND_RUN, 5, 2 },
    { LYAP_OBSERVABLE_MOVED_RUN_5, LYAP_SERIES_UPDATE, TREND_RUN, 5, 1 },
    { LYAP_OBSERVABLE_OVERSHOOT_20, LYAP_SERIES_OVERSHOOT, TREND_SUM, SHORT, 0 },
    { LYAP_OBSERVABLE_OVERSHOOT_50, LYAP_SERIES_OVERSHOOT, TREND_SUM, LONG, 0 },
    { LYAP_OBSERVABLE_EXCESS_3, LYAP_SERIES_EXCESS, TREND_LEAST, 3, 0 },
    { LYAP_OBSERVABLE_EXCESS_5, LYAP_SERIES_EXCESS, TREND_LEAST, 5, 0 },
    { LYAP_OBSERVABLE_NET_3, LYAP_SERIES_NET, TREND_LEAST, 3, 0 },
};

static const struct {
    enum lyap_series series;
    uint32_t length;
} middles[LYAP_MIDDLE_COUNT] = {
    [LYAP_MIDDLE_RATE_50] = { LYAP_SERIES_RATE, 50 },
    [LYAP_MIDDLE_GRAD_10] = { LYAP_SERIES_GRAD, 10 },
    [LYAP_MIDDLE_GRAD_30] = { LYAP_SERIES_GRAD, 30 },
    [LYAP_MIDDLE_UPDATE_30] = { LYAP_SERIES_UPDATE, 30 },
    [LYAP_MIDDLE_LOG_LOSS_30] = { LYAP_SERIES_LOG_LOSS, 30 },
    [LYAP_MIDDLE_LOSS_10] = { LYAP_SERIES_LOSS, 10 },
};

/* Rises of a median over `lag` points. */
static const struct {
    enum lyap_observable observable;
    enum lyap_middle middle;
    uint32_t lag;
} shifts[] = {
    { LYAP_OBSERVABLE_LOSS_SHIFT_30, LYAP_MIDDLE_LOG_LOSS_30, 30 },
    { LYAP_OBSERVABLE_LOSS_SHIFT_60, LYAP_MIDDLE_LOG_LOSS_30, 60 },
    { LYAP_OBSERVABLE_GRAD_SHIFT_20, LYAP_MIDDLE_GRAD_10, 20 },
    { LYAP_OBSERVABLE_GRAD_SHIFT_30, LYAP_MIDDLE_GRAD_30, 30 },
    { LYAP_OBSERVABLE_GRAD_SHIFT_60, LYAP_MIDDLE_GRAD_30, 60 },
    { LYAP_OBSERVABLE_MOVED_SHIFT_30, LYAP_MIDDLE_UPDATE_30, 30 },
    { LYAP_OBSERVABLE_MOVED_SHIFT_60, LYAP_MIDDLE_UPDATE_30, 60 },
};

static double rise(const struct lyap_trail *trail, uint32_t at, uint32_t lag)
{
    return lyap_trail_back(trail, at) - lyap_trail_back(trail, at + lag);
}

/* Least of the newest `length` values, or of their rises over `lag` points; NaN: one is unknown. */
static double least(const struct lyap_trail *trail, uint32_t length, uint32_t lag)
{
    double lowest = INFINITY;
    for (uint32_t i = 0; i < length; i++) {
        const double value = lag > 0 ? rise(trail, i, lag) : lyap_trail_back(trail, i);
        if (isnan(value))
            return NAN;
        lowest = fmin(lowest, value);
    }
    return lowest;
}

/* NaN until a point before the window is there: a sum of fewer would grow with the run. */
static double sum(const struct lyap_trail *trail, uint32_t length)
{
    double known[LYAP_TRAIL_MAX], total = 0;
    if (trail->count <= length)
        return NAN;
    const uint32_t count = lyap_trail_finite(trail, length, known);
    for (uint32_t i = 0; i < count; i++)
        total += known[i];
    return total;
}

static double trend_of(const struct lyap_trail *trail, enum trend trend, uint32_t length,
                       uint32_t lag)
{
    switch (trend) {
    case TREND_RISE:
        return rise(trail, 0, length);
    case TREND_RUN:
        return least(trail, length, lag);
    case TREND_SUM:
        return sum(trail, length);
    case TREND_LEAST:
        return least(trail, length, 0);
    }
    return NAN;
}

static double column(const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *v = &point->metrics[metric];
    return v->reason == LYAP_REASON_NONE ? v->value : (double)NAN;
}

static void remember(struct lyap_observer *o, const struct lyap_point *point)
{
    static const struct {
        enum lyap_series series;
        enum lyap_metric metric;
        bool is_log;
    } columns[] = {
        { LYAP_SERIES_RATE, LYAP_METRIC_LR, true },
        { LYAP_SERIES_GRAD, LYAP_METRIC_GRAD_NORM, true },
        { LYAP_SERIES_PARAM, LYAP_METRIC_PARAM_NORM, true },
        { LYAP_SERIES_UPDATE, LYAP_METRIC_UPDATE_NORM, true },
        { LYAP_SERIES_LOG_LOSS, LYAP_METRIC_LOSS, true },
        { LYAP_SERIES_LOSS, LYAP_METRIC_LOSS, false },
        { LYAP_SERIES_DECREASE, LYAP_METRIC_PREDICTED_DECREASE, true },
        { LYAP_SERIES_OVERSHOOT, LYAP_METRIC_OVERSHOOT_WORK, false },
        { LYAP_SERIES_NET, LYAP_METRIC_NET_WORK, false },
        { LYAP_SERIES_EXCESS, LYAP_METRIC_LOSS_EXCESS, false },
    };
    for (unsigned i = 0; i < sizeof columns / sizeof *columns; i++) {
        const double value = column(point, columns[i].metric);
        lyap_trail_push(&o->series[columns[i].series], LYAP_TRAIL_MAX,
                        columns[i].is_log ? lyap_log_or_nan(value) : value);
    }
}

/* A third of a median's values must be known, and three. */
static void remember_middles(struct lyap_observer *o)
{
    for (unsigned i = 0; i < LYAP_MIDDLE_COUNT; i++) {
        const uint32_t third = middles[i].length / 3;
        const uint32_t needed = third > MIDDLE_LEAST ? third : MIDDLE_LEAST;
        lyap_trail_push(
            &o->middles[i], LYAP_TRAIL_MAX,
            lyap_trail_median(&o->series[middles[i].series], middles[i].length, needed));
    }
}

/* Rises of the loss that the work along the path does not explain, as when the objective moves. */
static void see_unexplained(struct lyap_observer *o, double scale)
{
    const struct lyap_trail *losses = &o->middles[LYAP_MIDDLE_LOSS_10];
    o->seen[LYAP_OBSERVABLE_UNEXPLAINED_20] =
        rise(losses, 0, SHORT) / scale - o->seen[LYAP_OBSERVABLE_OVERSHOOT_20];
    o->seen[LYAP_OBSERVABLE_UNEXPLAINED_50] =
        rise(losses, 0, LONG) / scale - o->seen[LYAP_OBSERVABLE_OVERSHOOT_50];
}

void lyap_observe_trends(struct lyap_observer *observer, const struct lyap_point *point)
{
    remember(observer, point);
    remember_middles(observer);
    for (unsigned i = 0; i < sizeof trends / sizeof *trends; i++)
        observer->seen[trends[i].observable] = trend_of(
            &observer->series[trends[i].series], trends[i].trend, trends[i].length, trends[i].lag);
    for (unsigned i = 0; i < sizeof shifts / sizeof *shifts; i++)
        observer->seen[shifts[i].observable] =
            rise(&observer->middles[shifts[i].middle], 0, shifts[i].lag);
    observer->seen[LYAP_OBSERVABLE_RATE_ABOVE] =
        lyap_trail_back(&observer->series[LYAP_SERIES_RATE], 0) -
        lyap_trail_back(&observer->middles[LYAP_MIDDLE_RATE_50], 0);
    see_unexplained(observer, column(point, LYAP_METRIC_PROGRESS_SCALE));
    const double curvature = column(point, LYAP_METRIC_SECANT_CURVATURE);
    const double rate = column(point, LYAP_METRIC_LR);
    if (!isnan(curvature + rate))
        observer->seen[LYAP_OBSERVABLE_PATH] = log(fmax(curvature * rate, CURVATURE_FLOOR));
}
