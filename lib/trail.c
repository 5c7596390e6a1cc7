/* Windows over the newest values of a column. */
#include "trail.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "stats.h"

enum { Z_VALUES = 50, Z_LEAST = 10 }; /* of robust z-scores; values before one is given */

static const double Z_FLOOR = 0.1; /* least scale of a log */

void lyap_trail_push(struct lyap_trail *trail, uint32_t length, double value)
{
    assert(length <= LYAP_TRAIL_MAX);
    if (trail->count == length) {
        memmove(trail->values, trail->values + 1, (length - 1) * sizeof *trail->values);
        trail->count--;
    }
    trail->values[trail->count++] = value;
}

double lyap_trail_back(const struct lyap_trail *trail, uint32_t back)
{
    return back < trail->count ? trail->values[trail->count - 1 - back] : (double)NAN;
}

uint32_t lyap_trail_finite(const struct lyap_trail *trail, uint32_t length,
                           double ret[LYAP_TRAIL_MAX])
{
    const uint32_t first = trail->count > length ? trail->count - length : 0;
    uint32_t count = 0;
    for (uint32_t i = first; i < trail->count; i++)
        if (isfinite(trail->values[i]))
            ret[count++] = trail->values[i];
    return count;
}

double lyap_trail_max(const struct lyap_trail *trail, uint32_t length, uint32_t least)
{
    double work[LYAP_TRAIL_MAX], largest = -INFINITY;
    const uint32_t count = lyap_trail_finite(trail, length, work);
    for (uint32_t i = 0; i < count; i++)
        largest = fmax(largest, work[i]);
    return count < least ? (double)NAN : largest;
}

double lyap_trail_peak(const struct lyap_trail *trail, uint32_t length, double value)
{
    return fmax(lyap_trail_max(trail, length - 1, 1), value); /* fmax prefers the number */
}

double lyap_trail_median(const struct lyap_trail *trail, uint32_t length, uint32_t least)
{
    double work[LYAP_TRAIL_MAX];
    const uint32_t count = lyap_trail_finite(trail, length, work);
    return count < least ? (double)NAN : lyap_stats_median(work, count);
}

double lyap_trail_z(const struct lyap_trail *trail, double value, bool is_scaled)
{
    double work[LYAP_TRAIL_MAX];
    const uint32_t count = lyap_trail_finite(trail, Z_VALUES, work);
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
