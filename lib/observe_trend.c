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
    enum lyap_series middle, series;
    uint32_t length;
} middles[] = {
    { LYAP_SERIES_MIDDLE_RATE_50, LYAP_SERIES_RATE, 50 },
    { LYAP_SERIES_MIDDLE_GRAD_10, LYAP_SERIES_GRAD, 10 },
    { LYAP_SERIES_MIDDLE_GRAD_30, LYAP_SERIES_GRAD, 30 },
    { LYAP_SERIES_MIDDLE_UPDATE_30, LYAP_SERIES_UPDATE, 30 },
    { LYAP_SERIES_MIDDLE_LOG_LOSS_30, LYAP_SERIES_LOG_LOSS, 30 },
    { LYAP_SERIES_MIDDLE_LOSS_10, LYAP_SERIES_LOSS, 10 },
};

/* Rises of a median over `lag` points. */
static const struct {
    enum lyap_observable observable;
    enum lyap_series middle;
    uint32_t lag;
} shifts[] = {
    { LYAP_OBSERVABLE_LOSS_SHIFT_30, LYAP_SERIES_MIDDLE_LOG_LOSS_30, 30 },
    { LYAP_OBSERVABLE_LOSS_SHIFT_60, LYAP_SERIES_MIDDLE_LOG_LOSS_30, 60 },
    { LYAP_OBSERVABLE_GRAD_SHIFT_20, LYAP_SERIES_MIDDLE_GRAD_10, 20 },
    { LYAP_OBSERVABLE_GRAD_SHIFT_30, LYAP_SERIES_MIDDLE_GRAD_30, 30 },
    { LYAP_OBSERVABLE_GRAD_SHIFT_60, LYAP_SERIES_MIDDLE_GRAD_30, 60 },
    { LYAP_OBSERVABLE_MOVED_SHIFT_30, LYAP_SERIES_MIDDLE_UPDATE_30, 30 },
    { LYAP_OBSERVABLE_MOVED_SHIFT_60, LYAP_SERIES_MIDDLE_UPDATE_30, 60 },
};

static double rise(const struct lyap_observer *o, enum lyap_series series, uint32_t at,
                   uint32_t lag)
{
    return lyap_trail_back(o, series, at) - lyap_trail_back(o, series, at + lag);
}

/* Least of the newest `length` values, or of their rises over `lag` points; NaN: one is unknown. */
static double least(const struct lyap_observer *o, enum lyap_series series, uint32_t length,
                    uint32_t lag)
{
    double lowest = INFINITY;
    for (uint32_t i = 0; i < length; i++) {
        const double value = lag > 0 ? rise(o, series, i, lag) : lyap_trail_back(o, series, i);
        if (isnan(value))
            return NAN;
        lowest = fmin(lowest, value);
    }
    return lowest;
}

/* NaN until a point before the window is there: a sum of fewer would grow with the run. */
static double sum(const struct lyap_observer *o, enum lyap_series series, uint32_t length)
{
    double known[LYAP_TRAIL_MAX], total = 0;
    if (o->counts[series] <= length)
        return NAN;
    const uint32_t count = lyap_trail_finite(o, series, length, known);
    for (uint32_t i = 0; i < count; i++)
        total += known[i];
    return total;
}

static double trend_of(const struct lyap_observer *o, enum lyap_series series, enum trend trend,
                       uint32_t length, uint32_t lag)
{
    switch (trend) {
    case TREND_RISE:
        return rise(o, series, 0, length);
    case TREND_RUN:
        return least(o, series, length, lag);
    case TREND_SUM:
        return sum(o, series, length);
    case TREND_LEAST:
        return least(o, series, length, 0);
    }
    return NAN;
}

/* A third of a median's values must be known, and three. */
static void remember_middles(struct lyap_observer *o)
{
    for (unsigned i = 0; i < sizeof middles / sizeof *middles; i++) {
        const uint32_t third = middles[i].length / 3;
        const uint32_t needed = third > MIDDLE_LEAST ? third : MIDDLE_LEAST;
        lyap_trail_push(o, middles[i].middle,
                        lyap_trail_median(o, middles[i].series, middles[i].length, needed));
    }
}

/* Rises of the loss that the work along the path does not explain, as when the objective moves. */
static void see_unexplained(struct lyap_observer *o, double scale)
{
    o->seen[LYAP_OBSERVABLE_UNEXPLAINED_20] =
        rise(o, LYAP_SERIES_MIDDLE_LOSS_10, 0, SHORT) / scale -
        o->seen[LYAP_OBSERVABLE_OVERSHOOT_20];
    o->seen[LYAP_OBSERVABLE_UNEXPLAINED_50] = rise(o, LYAP_SERIES_MIDDLE_LOSS_10, 0, LONG) / scale -
                                              o->seen[LYAP_OBSERVABLE_OVERSHOOT_50];
}

void lyap_observe_trends(struct lyap_observer *o, const struct lyap_point *point)
{
    remember_middles(o);
    for (unsigned i = 0; i < sizeof trends / sizeof *trends; i++)
        o->seen[trends[i].observable] =
            trend_of(o, trends[i].series, trends[i].trend, trends[i].length, trends[i].lag);
    for (unsigned i = 0; i < sizeof shifts / sizeof *shifts; i++)
        o->seen[shifts[i].observable] = rise(o, shifts[i].middle, 0, shifts[i].lag);
    o->seen[LYAP_OBSERVABLE_RATE_ABOVE] =
        lyap_trail_back(o, LYAP_SERIES_RATE, 0) - lyap_trail_back(o, LYAP_SERIES_MIDDLE_RATE_50, 0);
    see_unexplained(o, lyap_column(point, LYAP_METRIC_PROGRESS_SCALE));
    const double curvature = lyap_column(point, LYAP_METRIC_SECANT_CURVATURE);
    const double rate = lyap_column(point, LYAP_METRIC_LR);
    if (!isnan(curvature + rate))
        o->seen[LYAP_OBSERVABLE_PATH] = log(fmax(curvature * rate, CURVATURE_FLOOR));
}
