/* Observables of a point from its columns and those before it. */
#include "lyap/observe.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "observe_trend.h"
#include "stats.h"
#include "trail.h"

/* Lengths of windows, in points: docs/detection.md. */
enum {
    TAIL_LOSSES = 50, /* of a quantile and of a record */
    RECENT = 2,       /* left out of a record: a spike of three points is still one */
    TAIL_LEAST = 6,   /* losses before a quantile means something */
    Z_VALUES = 50,    /* of robust z-scores */
    Z_LEAST = 10,     /* values before one is given */
    OVERSHOOTS = 20,  /* record of A */
    OVERSHOOT_LEAST = 5,
    GROWTH = 10,      /* points over which gradients and parameters grow */
    MOVED_GROWTH = 5, /* likewise updates, whose noise is smaller */
    DRIFT_SHORT = 5,  /* losses of a median */
    DRIFT_LONG = 20,
    RECORDS = 50, /* of P, reach and S */
    RECORD_LEAST = 5,
    REACH_LEAST = 6,
    LONG = 100, /* of what wanders slowly: gradients, relative updates */
    LONG_LEAST = 20,
    CHANGES = 30, /* of the loss, from push to push */
    CHANGES_LEAST = 8,
    PEAK_SHORT = 5,
    PEAK_LONG = 20,
    RISE_SHORT = 20, /* losses of a line */
    RISE_LONG = 40,
    UNEXPLAINED = 20,
    RATES = 20,
    RATES_LEAST = 3,
    REBOUND = 20,
    PROBES = 20,
    PROBE_RECORD = 10,
    PROBE_RECORD_LEAST = 4,
    PROBE_APART = 2, /* points between the probes of a rise: a pair of probes shows too little */
    PROBE_HOLD = 20  /* points for which a probe is news */
};

static const double TAIL_QUANTILE = 0.9;
static const double TAIL_FLOOR = 0.02; /* of E: least spread of a tail */
static const double DECREASE_FLOOR = 1e-6;
static const double OVERSHOOT_FLOOR = 1e-9;
static const double GROWTH_MAX = 10; /* factor of overshoot_growth */
static const double SIGMA_FLOOR = 0.03;
static const double CHANGE_FLOOR = 0.02;
static const double WORK_FLOOR = 0.003; /* least MAD of A */
static const double SHARE_FLOOR = 0.001;
/* E of docs/detection.md, here of the probe. */
static const double PROGRESS_SHARE = 0.5;
static const double REFERENCE_SHARE = 0.1;
static const double SCALE_LEAST = 1e-12;
/* A loss that tripled counts when it lost a fifth of E, a ten-fold one when it lost a sixteenth. */
static const struct {
    double factor, excess;
} relapses[] = { { 3, 0.2 }, { 10, 0.06 } };

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

/* ---- families of observables ---- */

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
        { LYAP_OBSERVABLE_CURVATURE, LYAP_METRIC_CURVATURE_ALONG_STEP },
        { LYAP_OBSERVABLE_GRAD_COSINE, LYAP_METRIC_GRAD_COSINE },
        { LYAP_OBSERVABLE_MOVED_SLOPE, LYAP_METRIC_UPDATE_GROWTH },
        { LYAP_OBSERVABLE_LEVEL, LYAP_METRIC_LOSS_LEVEL_EVIDENCE },
    };
    for (unsigned i = 0; i < sizeof columns / sizeof *columns; i++)
        o->seen[columns[i].observable] = lyap_column(point, columns[i].metric);
    o->seen[LYAP_OBSERVABLE_GAP] = point->is_gap;
    if (!isnan(lyap_column(point, LYAP_METRIC_NONFINITE_PARAM)) ||
        !isnan(lyap_column(point, LYAP_METRIC_NONFINITE_GRAD)))
        o->seen[LYAP_OBSERVABLE_TENSORS] = 1;
    o->seen[LYAP_OBSERVABLE_OSCILLATION] = -lyap_column(point, LYAP_METRIC_UPDATE_COSINE);
    o->seen[LYAP_OBSERVABLE_SIGMAS] = lyap_column(point, LYAP_METRIC_LOSS_EXCESS) -
                                      4 * lyap_column(point, LYAP_METRIC_LOSS_SPREAD);
}

/* How far the loss lies outside of what it was, on scales that heavy tails stretch. */
static void see_loss(struct lyap_observer *o, const struct lyap_point *point)
{
    const double loss = lyap_column(point, LYAP_METRIC_LOSS);
    const double scale = lyap_column(point, LYAP_METRIC_PROGRESS_SCALE);
    double work[LYAP_TRAIL_MAX];
    const uint32_t count = lyap_trail_finite(o, LYAP_SERIES_LOSS, TAIL_LOSSES, work);
    if (count >= TAIL_LEAST) {
        const double high = lyap_stats_quantile(work, count, TAIL_QUANTILE);
        const double spread = high - lyap_stats_median(work, count);
        o->seen[LYAP_OBSERVABLE_TAIL] = (loss - high) / fmax(spread, TAIL_FLOOR * scale);
    }
    const double record =
        lyap_trail_max_before(o, LYAP_SERIES_LOSS, RECENT, TAIL_LOSSES, TAIL_LEAST);
    o->seen[LYAP_OBSERVABLE_RECORD] = (loss - record) / scale;
    const double before = lyap_trail_back(o, LYAP_SERIES_LOSS, 0);
    o->seen[LYAP_OBSERVABLE_TWICE] = ((loss < before ? loss : before) - record) / scale;
    o->seen[LYAP_OBSERVABLE_LOSS_Z] =
        lyap_trail_z(o, LYAP_SERIES_LOG_LOSS, lyap_log_or_nan(loss), true);
}

/* Median of the newest `length` losses with the present one; NaN below DRIFT_SHORT of them. */
static double recent_median(const struct lyap_observer *o, double loss, uint32_t length)
{
    double work[LYAP_TRAIL_MAX];
    uint32_t count = lyap_trail_finite(o, LYAP_SERIES_LOSS, length - 1, work);
    if (isfinite(loss))
        work[count++] = loss;
    return count < DRIFT_SHORT ? (double)NAN : lyap_stats_median(work, count);
}

/* Slow loss of what was reached, which no single step shows. */
static void see_drift(struct lyap_observer *o, const struct lyap_point *point)
{
    const double loss = lyap_column(point, LYAP_METRIC_LOSS);
    const double scale = lyap_column(point, LYAP_METRIC_PROGRESS_SCALE);
    const bool is_full = o->counts[LYAP_SERIES_LOSS] >= DRIFT_LONG - 1;
    const double slow = is_full ? recent_median(o, loss, DRIFT_LONG) : (double)NAN;
    o->seen[LYAP_OBSERVABLE_DRIFT] = (recent_median(o, loss, DRIFT_SHORT) - o->least_loss) / scale;
    o->seen[LYAP_OBSERVABLE_SLOW_DRIFT] = (slow - o->least_loss) / scale;
    o->least_loss = fmin(o->least_loss, slow);
}

/* How much of what was reached is lost, on the scale that a loss of its size asks for. */
static double relapse_of(double loss, double excess, double scale)
{
    const double least = loss - excess * scale;
    double relapse = excess;
    for (unsigned i = 0; i < sizeof relapses / sizeof *relapses && least > 0 && loss > 0; i++) {
        const double grown = log(loss / least) / log(relapses[i].factor);
        relapse = fmax(relapse, fmin(fmax(grown, 0), fmax(excess, 0) / relapses[i].excess));
    }
    return relapse;
}

/* t of the line through the newest `length` losses over E with the present one. */
static double rise_t(const struct lyap_observer *o, double scaled, uint32_t length)
{
    double work[LYAP_TRAIL_MAX];
    uint32_t count = lyap_trail_finite(o, LYAP_SERIES_SCALED, length - 1, work);
    if (isfinite(scaled))
        work[count++] = scaled;
    return 4 * count < 3 * length ? (double)NAN : lyap_stats_line(work, count).t;
}

/* Losses that last, against noise and against what the work explains. */
static void see_relapse(struct lyap_observer *o, const struct lyap_point *point)
{
    const double loss = lyap_column(point, LYAP_METRIC_LOSS);
    const double excess = lyap_column(point, LYAP_METRIC_LOSS_EXCESS);
    const double scale = lyap_column(point, LYAP_METRIC_PROGRESS_SCALE);
    const double scaled = loss / scale;
    const double relapse = relapse_of(loss, excess, scale);
    const double last = lyap_trail_back(o, LYAP_SERIES_RELAPSE, 0);
    double three[] = { relapse, last, lyap_trail_back(o, LYAP_SERIES_RELAPSE, 1) };
    double excesses[] = { excess, lyap_trail_back(o, LYAP_SERIES_EXCESS, 0),
                          lyap_trail_back(o, LYAP_SERIES_EXCESS, 1) };
    const double noise = lyap_trail_median(o, LYAP_SERIES_CHANGE, CHANGES, CHANGES_LEAST);
    o->seen[LYAP_OBSERVABLE_RELAPSE] = relapse;
    o->seen[LYAP_OBSERVABLE_RELAPSE_TWICE] =
        isnan(relapse) || isnan(last) ? (double)NAN : fmin(relapse, last);
    if (isfinite(three[0] + three[1] + three[2]))
        o->seen[LYAP_OBSERVABLE_RELAPSE_MID] = lyap_stats_median(three, 3);
    if (isfinite(excesses[0] + excesses[1] + excesses[2]))
        o->seen[LYAP_OBSERVABLE_EXCESS_NOISE] =
            lyap_stats_median(excesses, 3) / (CHANGE_FLOOR + noise);
    const double mean =
        (loss + lyap_trail_back(o, LYAP_SERIES_LOSS, 0) + lyap_trail_back(o, LYAP_SERIES_LOSS, 1)) /
        3;
    o->seen[LYAP_OBSERVABLE_RELAPSE_MEAN] = relapse_of(mean, excess + (mean - loss) / scale, scale);
    o->seen[LYAP_OBSERVABLE_RISE_20] = rise_t(o, scaled, RISE_SHORT);
    o->seen[LYAP_OBSERVABLE_RISE_40] = rise_t(o, scaled, RISE_LONG);
    double logs[LYAP_TRAIL_MAX], least = INFINITY;
    const uint32_t count = lyap_trail_finite(o, LYAP_SERIES_LOG_LOSS, REBOUND, logs);
    for (uint32_t i = 0; i < count; i++)
        least = fmin(least, logs[i]);
    o->seen[LYAP_OBSERVABLE_REBOUND] =
        count < RECORD_LEAST ? (double)NAN : lyap_log_or_nan(loss) - least;
    const double change = (loss - lyap_trail_back(o, LYAP_SERIES_LOSS, 0)) / scale;
    double sum = 0, work[LYAP_TRAIL_MAX];
    const double unexplained = change - lyap_column(point, LYAP_METRIC_OVERSHOOT_WORK);
    const uint32_t terms = lyap_trail_finite(o, LYAP_SERIES_UNEXPLAINED, UNEXPLAINED - 1, work);
    for (uint32_t i = 0; i < terms; i++)
        sum += work[i];
    o->seen[LYAP_OBSERVABLE_UNEXPLAINED] = sum + (isfinite(unexplained) ? unexplained : 0);
    lyap_trail_push(o, LYAP_SERIES_SCALED, scaled);
    lyap_trail_push(o, LYAP_SERIES_CHANGE, fabs(change));
    lyap_trail_push(o, LYAP_SERIES_UNEXPLAINED, unexplained);
    lyap_trail_push(o, LYAP_SERIES_RELAPSE, relapse);
}

/* Works against the largest of their past and against the noise of the losses. */
static void see_records(struct lyap_observer *o, const struct lyap_point *point)
{
    const double work = lyap_column(point, LYAP_METRIC_OVERSHOOT_WORK);
    const double decrease = lyap_column(point, LYAP_METRIC_PREDICTED_DECREASE);
    const double change = lyap_column(point, LYAP_METRIC_PREDICTED_CHANGE);
    const double net = lyap_column(point, LYAP_METRIC_NET_WORK);
    const double edge = lyap_column(point, LYAP_METRIC_EDGE_RATIO);
    const double sigma = lyap_column(point, LYAP_METRIC_LOSS_SPREAD);
    const double reach = o->seen[LYAP_OBSERVABLE_REACH];
    const double promised = lyap_trail_max(o, LYAP_SERIES_PROMISE, RECORDS, RECORD_LEAST);
    double past[LYAP_TRAIL_MAX];
    const uint32_t count = lyap_trail_finite(o, LYAP_SERIES_OVERSHOOT, Z_VALUES, past);
    if (count >= Z_LEAST) {
        const double middle = lyap_stats_median(past, count);
        const double mad = LYAP_STATS_MAD_SCALE * lyap_stats_deviation(past, count, middle);
        o->seen[LYAP_OBSERVABLE_OVERSHOOT_MADS] = (work - middle) / fmax(mad, WORK_FLOOR);
    }
    const double loss = lyap_column(point, LYAP_METRIC_LOSS);
    if (loss > 0)
        o->seen[LYAP_OBSERVABLE_OVERSHOOT_REACH] =
            work * lyap_column(point, LYAP_METRIC_PROGRESS_SCALE) / loss;
    o->seen[LYAP_OBSERVABLE_OVERSHOOT_PEAK] =
        lyap_trail_peak(o, LYAP_SERIES_OVERSHOOT, PEAK_SHORT, work);
    o->seen[LYAP_OBSERVABLE_NET_PEAK] = lyap_trail_peak(o, LYAP_SERIES_NET, PEAK_LONG, net);
    o->seen[LYAP_OBSERVABLE_DECREASE_PEAK] =
        lyap_trail_peak(o, LYAP_SERIES_PROMISE, PEAK_LONG, decrease);
    o->seen[LYAP_OBSERVABLE_DECREASE_NEW] = decrease - promised;
    if (!isnan(decrease) && !isnan(promised))
        o->seen[LYAP_OBSERVABLE_DECREASE_UP] =
            log(fmax(decrease, DECREASE_FLOOR)) - log(fmax(promised, DECREASE_FLOOR));
    o->seen[LYAP_OBSERVABLE_DECREASE_SIGMAS] = decrease / (SIGMA_FLOOR + sigma);
    o->seen[LYAP_OBSERVABLE_CHANGE_SIGMAS] = change / (SIGMA_FLOOR + sigma);
    if (!isnan(decrease))
        o->seen[LYAP_OBSERVABLE_CHANGE_SHARE] = change / fmax(decrease, SHARE_FLOOR);
    o->seen[LYAP_OBSERVABLE_REACH_NEW] =
        reach - lyap_trail_max(o, LYAP_SERIES_REACH, RECORDS, REACH_LEAST);
    o->seen[LYAP_OBSERVABLE_EDGE_NEW] =
        edge - lyap_trail_max(o, LYAP_SERIES_EDGE, RECORDS, RECORD_LEAST);
    lyap_trail_push(o, LYAP_SERIES_REACH, reach);
}

/* The loss of `PROBE_APART` points before the present one or more; NaN: none was probed. */
static double probe_before(const struct lyap_observer *o)
{
    for (uint32_t i = 0; i < o->counts[LYAP_SERIES_PROBE]; i++)
        if ((double)o->points - lyap_trail_back(o, LYAP_SERIES_PROBE_POINT, i) >= PROBE_APART)
            return lyap_trail_back(o, LYAP_SERIES_PROBE, i);
    return NAN;
}

/* A probe's loss is one function of the parameters, without the noise of batches: it is held
 * against its own past on the scale of `progress`, which a new attempt inherits, or of its own. */
static void tell_probe(struct lyap_observer *o, double loss, double progress)
{
    double first[3], logs[LYAP_TRAIL_MAX], lowest = INFINITY;
    memcpy(first, o->probe_first, sizeof first);
    const uint32_t probes = o->counts[LYAP_SERIES_PROBE];
    const double reference = lyap_stats_median(first, probes < 3 ? probes : 3);
    const double own =
        fmax(PROGRESS_SHARE * (reference - o->probe_least), REFERENCE_SHARE * fabs(reference));
    const double scale = fmax(fmax(own, SCALE_LEAST), progress); /* fmax prefers the number */
    const double relapse = relapse_of(loss, (loss - o->probe_least) / scale, scale);
    const double rise = loss - probe_before(o), next = loss + rise;
    const double last = o->told[0];
    const uint32_t count = lyap_trail_finite(o, LYAP_SERIES_PROBE, PROBES, logs);
    for (uint32_t i = 0; i < count; i++)
        lowest = fmin(lowest, logs[i]);
    const double record = lyap_trail_max(o, LYAP_SERIES_PROBE, PROBE_RECORD, PROBE_RECORD_LEAST);
    const double told[LYAP_OBSERVABLE_PROBED] = {
        relapse,
        isnan(last) ? (double)NAN : fmin(relapse, last),
        rise / scale,
        (loss - record) / scale,
        relapse_of(next, (next - o->probe_least) / scale, scale),
        count < RECORD_LEAST ? (double)NAN : lyap_log_or_nan(loss) - lyap_log_or_nan(lowest),
    };
    memcpy(o->told, told, sizeof told);
}

static void remember_probe(struct lyap_observer *o, double loss)
{
    double newest[LYAP_TRAIL_MAX];
    if (o->counts[LYAP_SERIES_PROBE] < 3)
        o->probe_first[o->counts[LYAP_SERIES_PROBE]] = loss;
    lyap_trail_push(o, LYAP_SERIES_PROBE, loss);
    lyap_trail_push(o, LYAP_SERIES_PROBE_POINT, (double)o->points);
    const uint32_t count = lyap_trail_finite(o, LYAP_SERIES_PROBE, 3, newest);
    o->probe_least = fmin(o->probe_least, lyap_stats_median(newest, count));
}

/* What the newest probe told, for as long as it is news. */
static void see_probe(struct lyap_observer *o, const struct lyap_point *point)
{
    const double loss = lyap_column(point, LYAP_METRIC_PROBE_LOSS);
    if (isfinite(loss)) {
        if (o->counts[LYAP_SERIES_PROBE] > 0)
            tell_probe(o, loss, lyap_column(point, LYAP_METRIC_PROGRESS_SCALE));
        remember_probe(o, loss);
    }
    if ((double)o->points - lyap_trail_back(o, LYAP_SERIES_PROBE_POINT, 0) < PROBE_HOLD)
        memcpy(&o->seen[LYAP_OBSERVABLE_PROBE_RELAPSE], o->told, sizeof o->told);
    o->points++;
}

/* log P, that of nothing as well. */
static double log_decrease(const struct lyap_point *point)
{
    const double decrease = lyap_column(point, LYAP_METRIC_PREDICTED_DECREASE);
    return isnan(decrease) ? decrease : log(fmax(decrease, DECREASE_FLOOR));
}

static void see_work(struct lyap_observer *o, const struct lyap_point *point)
{
    const double work = lyap_column(point, LYAP_METRIC_OVERSHOOT_WORK);
    const double decrease = lyap_column(point, LYAP_METRIC_PREDICTED_DECREASE);
    const double before[3] = { lyap_trail_back(o, LYAP_SERIES_OVERSHOOT, 0),
                               lyap_trail_back(o, LYAP_SERIES_OVERSHOOT, 1),
                               lyap_trail_back(o, LYAP_SERIES_OVERSHOOT, 2) };
    double sum = work;
    for (unsigned i = 0; i < 2; i++)
        sum += isnan(before[i]) ? 0 : before[i];
    o->seen[LYAP_OBSERVABLE_OVERSHOOT_3] = sum;
    o->seen[LYAP_OBSERVABLE_OVERSHOOT_NEW] =
        work - lyap_trail_max(o, LYAP_SERIES_OVERSHOOT, OVERSHOOTS, OVERSHOOT_LEAST);
    const double base = fmax(before[1], before[2]); /* fmax prefers the number */
    const double growth = work / fmax(base, OVERSHOOT_FLOOR);
    o->seen[LYAP_OBSERVABLE_OVERSHOOT_UP] =
        isnan(base) ? base : work * fmin(fmax(growth, 1), GROWTH_MAX);
    o->seen[LYAP_OBSERVABLE_DECREASE_Z] =
        lyap_trail_z(o, LYAP_SERIES_DECREASE_FLOORED, log_decrease(point), false);
    const double loss = lyap_column(point, LYAP_METRIC_LOSS);
    if (loss > 0)
        o->seen[LYAP_OBSERVABLE_REACH] =
            decrease * lyap_column(point, LYAP_METRIC_PROGRESS_SCALE) / loss;
}

/* log |D| over the rate that made it. */
static double log_move(const struct lyap_observer *o, const struct lyap_point *point)
{
    return lyap_log_or_nan(lyap_column(point, LYAP_METRIC_UPDATE_NORM) / o->lr);
}

static void see_growth(struct lyap_observer *o, const struct lyap_point *point)
{
    const double grad = lyap_log_or_nan(lyap_column(point, LYAP_METRIC_GRAD_NORM));
    const double param = lyap_log_or_nan(lyap_column(point, LYAP_METRIC_PARAM_NORM));
    o->seen[LYAP_OBSERVABLE_GRAD_UP] = grad - lyap_trail_back(o, LYAP_SERIES_GRAD, GROWTH - 1);
    o->seen[LYAP_OBSERVABLE_PARAM_UP] = param - lyap_trail_back(o, LYAP_SERIES_PARAM, GROWTH - 1);
    o->seen[LYAP_OBSERVABLE_MOVED_UP] =
        log_move(o, point) - lyap_trail_back(o, LYAP_SERIES_MOVE, MOVED_GROWTH - 1);
    const double ratio = lyap_log_or_nan(lyap_column(point, LYAP_METRIC_UPDATE_RATIO));
    const double rate = lyap_log_or_nan(lyap_column(point, LYAP_METRIC_LR));
    const double rise = grad - lyap_trail_back(o, LYAP_SERIES_GRAD, 1);
    const double before =
        lyap_trail_back(o, LYAP_SERIES_GRAD, 0) - lyap_trail_back(o, LYAP_SERIES_GRAD, 2);
    o->seen[LYAP_OBSERVABLE_GRAD_RUN] =
        isnan(rise) || isnan(before) ? (double)NAN : fmin(rise, before);
    o->seen[LYAP_OBSERVABLE_GRAD_RISE] =
        grad - lyap_trail_median(o, LYAP_SERIES_GRAD, LONG, LONG_LEAST);
    o->seen[LYAP_OBSERVABLE_RATIO_UP] =
        ratio - lyap_trail_median(o, LYAP_SERIES_RATIO, LONG, LONG_LEAST);
    o->seen[LYAP_OBSERVABLE_RATE_UP] =
        rate - lyap_trail_median(o, LYAP_SERIES_RATE, RATES, RATES_LEAST);
    o->seen[LYAP_OBSERVABLE_PARAM_STEP] = param - lyap_trail_back(o, LYAP_SERIES_PARAM, 0);
}

void lyap_observer_init(struct lyap_observer *observer)
{
    *observer = (struct lyap_observer){ .lr = NAN, .least_loss = NAN, .probe_least = NAN };
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        observer->seen[i] = NAN;
    for (unsigned i = 0; i < LYAP_OBSERVABLE_PROBED; i++)
        observer->told[i] = NAN;
}

/* What observables of a point look at after it, and trends already with it. */
static void remember(struct lyap_observer *o, const struct lyap_point *point)
{
    static const struct {
        enum lyap_series series;
        enum lyap_metric metric;
        bool is_log;
    } columns[] = {
        { LYAP_SERIES_LOSS, LYAP_METRIC_LOSS, false },
        { LYAP_SERIES_LOG_LOSS, LYAP_METRIC_LOSS, true },
        { LYAP_SERIES_RATE, LYAP_METRIC_LR, true },
        { LYAP_SERIES_GRAD, LYAP_METRIC_GRAD_NORM, true },
        { LYAP_SERIES_PARAM, LYAP_METRIC_PARAM_NORM, true },
        { LYAP_SERIES_UPDATE, LYAP_METRIC_UPDATE_NORM, true },
        { LYAP_SERIES_RATIO, LYAP_METRIC_UPDATE_RATIO, true },
        { LYAP_SERIES_OVERSHOOT, LYAP_METRIC_OVERSHOOT_WORK, false },
        { LYAP_SERIES_NET, LYAP_METRIC_NET_WORK, false },
        { LYAP_SERIES_EXCESS, LYAP_METRIC_LOSS_EXCESS, false },
        { LYAP_SERIES_PROMISE, LYAP_METRIC_PREDICTED_DECREASE, false },
        { LYAP_SERIES_DECREASE, LYAP_METRIC_PREDICTED_DECREASE, true },
        { LYAP_SERIES_EDGE, LYAP_METRIC_EDGE_RATIO, false },
    };
    for (unsigned i = 0; i < sizeof columns / sizeof *columns; i++) {
        const double value = lyap_column(point, columns[i].metric);
        lyap_trail_push(o, columns[i].series, columns[i].is_log ? lyap_log_or_nan(value) : value);
    }
    lyap_trail_push(o, LYAP_SERIES_DECREASE_FLOORED, log_decrease(point));
    lyap_trail_push(o, LYAP_SERIES_MOVE, log_move(o, point));
    o->lr = lyap_column(point, LYAP_METRIC_LR);
}

void lyap_observer_step(struct lyap_observer *observer, const struct lyap_point *point)
{
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        observer->seen[i] = NAN;
    see_columns(observer, point);
    see_loss(observer, point);
    see_drift(observer, point);
    see_relapse(observer, point);
    see_work(observer, point);
    see_records(observer, point);
    see_growth(observer, point);
    remember(observer, point);
    lyap_observe_trends(observer, point);
    see_probe(observer, point);
}
