/* Observables of a point from its columns and those before it. */
#include "lyap/observe.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "stats.h"

/* Lengths of windows, in points: docs/detection.md. */
enum {
    LOSSES = 52,     /* kept; the newest 50 for quantiles, 3 to 52 before for records */
    RECENT = 2,      /* left out of a record: a spike of three points is still one */
    TAIL_LEAST = 6,  /* losses before a quantile means something */
    Z_VALUES = 50,   /* of robust z-scores */
    Z_LEAST = 10,    /* values before one is given */
    OVERSHOOTS = 20, /* record of A */
    OVERSHOOT_LEAST = 5,
    GROWTH = 10,      /* points over which gradients and parameters grow */
    MOVED_GROWTH = 5, /* likewise updates, whose noise is smaller */
    MISMATCHES = 100,
    DRIFT_SHORT = 5, /* losses of a median */
    DRIFT_LONG = 20
};

static const double TAIL_QUANTILE = 0.9;
static const double TAIL_FLOOR = 0.02; /* of E: least spread of a tail */
static const double Z_FLOOR = 0.1;     /* least scale of a log */
static const double DECREASE_FLOOR = 1e-6;
static const double OVERSHOOT_FLOOR = 1e-9;
static const double GROWTH_MAX = 10; /* factor of overshoot_growth */

static const struct {
    const char *name, *formula;
} infos[LYAP_OBSERVABLE_COUNT] = {
#define ROW(name, wire, formula) { wire, formula },
    LYAP_OBSERVABLE_TABLE(ROW)
#undef ROW
};

const char *lyap_observable_name(enum lyap_observable observable)
{
    return infos[observable].name;
}

const char *lyap_observable_formula(enum lyap_observable observable)
{
    return infos[observable].formula;
}

/* ---- trails ---- */

static void trail_push(struct lyap_trail *trail, uint32_t length, double value)
{
    assert(length <= LYAP_TRAIL_MAX);
    if (trail->count == length) {
        memmove(trail->values, trail->values + 1, (length - 1) * sizeof *trail->values);
        trail->count--;
    }
    trail->values[trail->count++] = value;
}

/* Value `back` points before the newest in the trail; NaN: not there. */
static double trail_back(const struct lyap_trail *trail, uint32_t back)
{
    return back < trail->count ? trail->values[trail->count - 1 - back] : (double)NAN;
}

/* Finite ones of the newest `length` values; returns how many. */
static uint32_t trail_finite(const struct lyap_trail *trail, uint32_t length,
                             double ret[LYAP_TRAIL_MAX])
{
    const uint32_t first = trail->count > length ? trail->count - length : 0;
    uint32_t count = 0;
    for (uint32_t i = first; i < trail->count; i++)
        if (isfinite(trail->values[i]))
            ret[count++] = trail->values[i];
    return count;
}

static double trail_max(const struct lyap_trail *trail, uint32_t length, uint32_t least)
{
    double work[LYAP_TRAIL_MAX], largest = -INFINITY;
    const uint32_t count = trail_finite(trail, length, work);
    for (uint32_t i = 0; i < count; i++)
        largest = fmax(largest, work[i]);
    return count < least ? (double)NAN : largest;
}

/* Distance from the median of the trail, in MADs of at least Z_FLOOR; `is_scaled` false: as it is.
 */
static double trail_z(const struct lyap_trail *trail, double value, bool is_scaled)
{
    double work[LYAP_TRAIL_MAX];
    const uint32_t count = trail_finite(trail, Z_VALUES, work);
    if (count < Z_LEAST || !isfinite(value))
        return NAN;
    const double middle = lyap_stats_median(work, count);
    if (!is_scaled)
        return value - middle;
    const double spread = LYAP_STATS_MAD_SCALE * lyap_stats_deviation(work, count, middle);
    return (value - middle) / fmax(spread, Z_FLOOR);
}

static double log_or_nan(double value)
{
    return value > 0 && isfinite(value) ? log(value) : (double)NAN;
}

/* ---- families of observables ---- */

static double column(const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *v = &point->metrics[metric];
    return v->reason == LYAP_REASON_NONE ? v->value : (double)NAN;
}

/* Metrics that are observables as they are. */
static void see_columns(struct lyap_observer *o, const struct lyap_point *point)
{
    static const struct {
        enum lyap_observable observable;
        enum lyap_metric metric;
    } columns[] = {
        { LYAP_OBSERVABLE_EXCESS, LYAP_METRIC_LOSS_EXCESS },
        { LYAP_OBSERVABLE_RATIO, LYAP_METRIC_LOSS_RATIO },
        { LYAP_OBSERVABLE_SLOPE, LYAP_METRIC_LOSS_SLOPE },
        { LYAP_OBSERVABLE_SLOPE_T, LYAP_METRIC_LOSS_SLOPE_T },
        { LYAP_OBSERVABLE_OVERSHOOT, LYAP_METRIC_OVERSHOOT_WORK },
        { LYAP_OBSERVABLE_NET, LYAP_METRIC_NET_WORK },
        { LYAP_OBSERVABLE_NET_5, LYAP_METRIC_NET_WORK_SUM },
        { LYAP_OBSERVABLE_DECREASE, LYAP_METRIC_PREDICTED_DECREASE },
        { LYAP_OBSERVABLE_CHANGE, LYAP_METRIC_PREDICTED_CHANGE },
        { LYAP_OBSERVABLE_EDGE, LYAP_METRIC_EDGE_RATIO },
        { LYAP_OBSERVABLE_UPDATE_Z, LYAP_METRIC_UPDATE_Z },
        { LYAP_OBSERVABLE_UPDATE_Z_MID, LYAP_METRIC_UPDATE_Z_MEDIAN },
        { LYAP_OBSERVABLE_GRAD_Z, LYAP_METRIC_GRAD_Z },
        { LYAP_OBSERVABLE_GRAD_Z_MID, LYAP_METRIC_GRAD_Z_MEDIAN },
        { LYAP_OBSERVABLE_MOMENT, LYAP_METRIC_SECOND_MOMENT_RATIO },
        { LYAP_OBSERVABLE_UPDATE_RATIO, LYAP_METRIC_UPDATE_RATIO },
        { LYAP_OBSERVABLE_LEVEL, LYAP_METRIC_LOSS_LEVEL_EVIDENCE },
    };
    for (unsigned i = 0; i < sizeof columns / sizeof *columns; i++)
        o->seen[columns[i].observable] = column(point, columns[i].metric);
    o->seen[LYAP_OBSERVABLE_GAP] = point->is_gap;
    o->seen[LYAP_OBSERVABLE_OSCILLATION] = -column(point, LYAP_METRIC_UPDATE_COSINE);
    o->seen[LYAP_OBSERVABLE_SIGMAS] =
        column(point, LYAP_METRIC_LOSS_EXCESS) - 4 * column(point, LYAP_METRIC_LOSS_SPREAD);
}

/* How far the loss lies outside of what it was, on scales that heavy tails stretch. */
static void see_loss(struct lyap_observer *o, const struct lyap_point *point)
{
    const double loss = column(point, LYAP_METRIC_LOSS);
    const double scale = column(point, LYAP_METRIC_PROGRESS_SCALE);
    double work[LYAP_TRAIL_MAX];
    const uint32_t count = trail_finite(&o->losses, LOSSES - RECENT, work);
    if (count >= TAIL_LEAST) {
        const double high = lyap_stats_quantile(work, count, TAIL_QUANTILE);
        const double spread = high - lyap_stats_median(work, count);
        o->seen[LYAP_OBSERVABLE_TAIL] = (loss - high) / fmax(spread, TAIL_FLOOR * scale);
    }
    struct lyap_trail old = o->losses;
    old.count = old.count > RECENT ? old.count - RECENT : 0;
    const double record = trail_max(&old, LOSSES - RECENT, TAIL_LEAST);
    o->seen[LYAP_OBSERVABLE_RECORD] = (loss - record) / scale;
    const double before = trail_back(&o->losses, 0);
    o->seen[LYAP_OBSERVABLE_TWICE] = ((loss < before ? loss : before) - record) / scale;
    o->seen[LYAP_OBSERVABLE_LOSS_Z] = trail_z(&o->log_losses, log_or_nan(loss), true);
}

/* Median of the newest `length` losses with the present one; NaN below DRIFT_SHORT of them. */
static double recent_median(const struct lyap_observer *o, double loss, uint32_t length)
{
    double work[LYAP_TRAIL_MAX];
    uint32_t count = trail_finite(&o->losses, length - 1, work);
    if (isfinite(loss))
        work[count++] = loss;
    return count < DRIFT_SHORT ? (double)NAN : lyap_stats_median(work, count);
}

/* Slow loss of what was reached, which no single step shows. */
static void see_drift(struct lyap_observer *o, const struct lyap_point *point)
{
    const double loss = column(point, LYAP_METRIC_LOSS);
    const double scale = column(point, LYAP_METRIC_PROGRESS_SCALE);
    const bool is_full = o->losses.count >= DRIFT_LONG - 1;
    const double slow = is_full ? recent_median(o, loss, DRIFT_LONG) : (double)NAN;
    o->seen[LYAP_OBSERVABLE_DRIFT] = (recent_median(o, loss, DRIFT_SHORT) - o->least_loss) / scale;
    o->seen[LYAP_OBSERVABLE_SLOW_DRIFT] = (slow - o->least_loss) / scale;
    o->least_loss = fmin(o->least_loss, slow);
}

static void see_work(struct lyap_observer *o, const struct lyap_point *point)
{
    const double work = column(point, LYAP_METRIC_OVERSHOOT_WORK);
    const double decrease = column(point, LYAP_METRIC_PREDICTED_DECREASE);
    const double before[3] = { trail_back(&o->works, 0), trail_back(&o->works, 1),
                               trail_back(&o->works, 2) };
    double sum = work;
    for (unsigned i = 0; i < 2; i++)
        sum += isnan(before[i]) ? 0 : before[i];
    o->seen[LYAP_OBSERVABLE_OVERSHOOT_3] = sum;
    o->seen[LYAP_OBSERVABLE_OVERSHOOT_NEW] =
        work - trail_max(&o->works, OVERSHOOTS, OVERSHOOT_LEAST);
    const double base = fmax(before[1], before[2]); /* fmax prefers the number */
    const double growth = work / fmax(base, OVERSHOOT_FLOOR);
    o->seen[LYAP_OBSERVABLE_OVERSHOOT_UP] =
        isnan(base) ? base : work * fmin(fmax(growth, 1), GROWTH_MAX);
    const double log_decrease = isnan(decrease) ? decrease : log(fmax(decrease, DECREASE_FLOOR));
    o->seen[LYAP_OBSERVABLE_DECREASE_Z] = trail_z(&o->decreases, log_decrease, false);
    const double loss = column(point, LYAP_METRIC_LOSS);
    if (loss > 0)
        o->seen[LYAP_OBSERVABLE_REACH] =
            decrease * column(point, LYAP_METRIC_PROGRESS_SCALE) / loss;
}

/* log |D| over the rate that made it. */
static double log_move(const struct lyap_observer *o, const struct lyap_point *point)
{
    return log_or_nan(column(point, LYAP_METRIC_UPDATE_NORM) / o->lr);
}

static void see_growth(struct lyap_observer *o, const struct lyap_point *point)
{
    const double grad = log_or_nan(column(point, LYAP_METRIC_GRAD_NORM));
    const double param = log_or_nan(column(point, LYAP_METRIC_PARAM_NORM));
    const double omega = column(point, LYAP_METRIC_UPDATE_IDENTITY);
    o->seen[LYAP_OBSERVABLE_GRAD_UP] = grad - trail_back(&o->grads, GROWTH - 1);
    o->seen[LYAP_OBSERVABLE_PARAM_UP] = param - trail_back(&o->params, GROWTH - 1);
    o->seen[LYAP_OBSERVABLE_MOVED_UP] =
        log_move(o, point) - trail_back(&o->moves, MOVED_GROWTH - 1);
    o->mismatch = isnan(omega) ? o->mismatch : omega;
    o->seen[LYAP_OBSERVABLE_MISMATCH] = fmax(o->mismatch, trail_max(&o->mismatches, MISMATCHES, 1));
}

void lyap_observer_init(struct lyap_observer *observer)
{
    *observer = (struct lyap_observer){ .lr = NAN, .mismatch = NAN, .least_loss = NAN };
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        observer->seen[i] = NAN;
}

static void remember(struct lyap_observer *o, const struct lyap_point *point)
{
    const double loss = column(point, LYAP_METRIC_LOSS);
    const double decrease = column(point, LYAP_METRIC_PREDICTED_DECREASE);
    trail_push(&o->moves, MOVED_GROWTH, log_move(o, point));
    trail_push(&o->losses, LOSSES, loss);
    trail_push(&o->log_losses, Z_VALUES, log_or_nan(loss));
    trail_push(&o->works, OVERSHOOTS, column(point, LYAP_METRIC_OVERSHOOT_WORK));
    trail_push(&o->decreases, Z_VALUES,
               isnan(decrease) ? decrease : log(fmax(decrease, DECREASE_FLOOR)));
    trail_push(&o->grads, GROWTH, log_or_nan(column(point, LYAP_METRIC_GRAD_NORM)));
    trail_push(&o->params, GROWTH, log_or_nan(column(point, LYAP_METRIC_PARAM_NORM)));
    trail_push(&o->mismatches, MISMATCHES, column(point, LYAP_METRIC_UPDATE_IDENTITY));
    o->lr = column(point, LYAP_METRIC_LR);
}

void lyap_observer_step(struct lyap_observer *observer, const struct lyap_point *point)
{
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        observer->seen[i] = NAN;
    see_columns(observer, point);
    see_loss(observer, point);
    see_drift(observer, point);
    see_work(observer, point);
    see_growth(observer, point);
    remember(observer, point);
}
