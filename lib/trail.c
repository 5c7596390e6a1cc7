/* Windows over the newest values of a column. */
#include "trail.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "stats.h"

enum { Z_VALUES = 50, Z_LEAST = 10 }; /* of robust z-scores; values before one is given */

/* Where the values of a series begin: each enumerator follows on the last of the series before. */
enum {
#define RANGE(name, length) FIRST_##name, LAST_##name = FIRST_##name + (length)-1,
    LYAP_SERIES_TABLE(RANGE)
#undef RANGE
        ALL
};

#define FITS(name, length)                                                                         \
    _Static_assert((length) <= LYAP_TRAIL_MAX, "a window of " #name " has room in a work array");
LYAP_SERIES_TABLE(FITS)
#undef FITS
_Static_assert((int)ALL == (int)LYAP_SERIES_VALUES, "series have no gaps");

static const double Z_FLOOR = 0.1; /* least scale of a log */

static const struct {
    uint32_t first, length; /* of its values in those of an observer */
} places[LYAP_SERIES_COUNT] = {
#define PLACE(name, length) { FIRST_##name, length },
    LYAP_SERIES_TABLE(PLACE)
#undef PLACE
};

double lyap_column(const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *v = &point->metrics[metric];
    return v->reason == LYAP_REASON_NONE ? v->value : (double)NAN;
}

void lyap_trail_push(struct lyap_observer *o, enum lyap_series series, double value)
{
    double *values = &o->values[places[series].first];
    uint32_t *count = &o->counts[series];
    if (*count == places[series].length) {
        memmove(values, values + 1, (*count - 1) * sizeof *values);
        --*count;
    }
    values[(*count)++] = value;
}

double lyap_trail_back(const struct lyap_observer *o, enum lyap_series series, uint32_t back)
{
    const uint32_t count = o->counts[series];
    assert(back < places[series].length); /* it would be absent for ever */
    return back < count ? o->values[places[series].first + count - 1 - back] : (double)NAN;
}

static uint32_t finite_before(const struct lyap_observer *o, enum lyap_series series, uint32_t back,
                              uint32_t length, double ret[LYAP_TRAIL_MAX])
{
    const double *values = &o->values[places[series].first];
    const uint32_t end = o->counts[series] > back ? o->counts[series] - back : 0;
    uint32_t count = 0;
    assert(back + length <= places[series].length);
    for (uint32_t i = end > length ? end - length : 0; i < end; i++)
        if (isfinite(values[i]))
            ret[count++] = values[i];
    return count;
}

uint32_t lyap_trail_finite(const struct lyap_observer *o, enum lyap_series series, uint32_t length,
                           double ret[LYAP_TRAIL_MAX])
{
    return finite_before(o, series, 0, length, ret);
}

double lyap_trail_max_before(const struct lyap_observer *o, enum lyap_series series, uint32_t back,
                             uint32_t length, uint32_t least)
{
    double work[LYAP_TRAIL_MAX], largest = -INFINITY;
    const uint32_t count = finite_before(o, series, back, length, work);
    for (uint32_t i = 0; i < count; i++)
        largest = fmax(largest, work[i]);
    return count < least ? (double)NAN : largest;
}

double lyap_trail_max(const struct lyap_observer *o, enum lyap_series series, uint32_t length,
                      uint32_t least)
{
    return lyap_trail_max_before(o, series, 0, length, least);
}

double lyap_trail_peak(const struct lyap_observer *o, enum lyap_series series, uint32_t length,
                       double value)
{
    return fmax(lyap_trail_max(o, series, length - 1, 1), value); /* fmax prefers the number */
}

double lyap_trail_median(const struct lyap_observer *o, enum lyap_series series, uint32_t length,
                         uint32_t least)
{
    double work[LYAP_TRAIL_MAX];
    const uint32_t count = lyap_trail_finite(o, series, length, work);
    return count < least ? (double)NAN : lyap_stats_median(work, count);
}

double lyap_trail_z(const struct lyap_observer *o, enum lyap_series series, double value,
                    bool is_scaled)
{
    double work[LYAP_TRAIL_MAX];
    const uint32_t count = lyap_trail_finite(o, series, Z_VALUES, work);
    if (count < Z_LEAST || !isfinite(value))
        return NAN;
    const double middle = lyap_stats_median(work, count);
    if (!is_scaled)
        return value - middle;
    const double spread = LYAP_STATS_MAD_SCALE * lyap_stats_deviation(work, count, middle);
    return (value - middle) / fmax(spread, Z_FLOOR);
}

double lyap_log_or_nan(double value)
{
    return value > 0 && isfinite(value) ? log(value) : (double)NAN;
}
