/* Mean, spread and slope of a window. */
#include "lyap/rolling.h"

#include <math.h>

#include "banned.h"

static void count_values(const int64_t *steps, const double *values, const bool *is_nonfinite,
                         uint32_t count, struct lyap_rolling *r)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        r->nonfinite += is_nonfinite[i];
        if (is_nonfinite[i] || isnan(values[i]))
            continue;
        if (r->count == 0)
            r->first_step = steps[i];
        r->last_step = steps[i];
        r->count++;
        sum += values[i];
    }
    if (r->count > 0)
        r->mean = sum / r->count;
}

void lyap_rolling_of(const int64_t *steps, const double *values, const bool *is_nonfinite,
                     uint32_t count, struct lyap_rolling *ret_rolling)
{
    struct lyap_rolling r = { .first_step = -1,
                              .last_step = -1,
                              .mean = NAN,
                              .spread = NAN,
                              .slope = NAN,
                              .slope_error = NAN };
    count_values(steps, values, is_nonfinite, count, &r);
    double step_mean = 0, rest = 0, yy = 0, xy = 0, xx = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!is_nonfinite[i] && !isnan(values[i])) {
            step_mean += (double)(steps[i] - r.first_step) / r.count;
            rest += values[i] - r.mean; /* what rounding left out of the mean */
        }
    if (r.count > 0)
        r.mean += rest / r.count;
    for (uint32_t i = 0; i < count; i++) {
        if (is_nonfinite[i] || isnan(values[i]))
            continue;
        const double x = (double)(steps[i] - r.first_step) - step_mean, y = values[i] - r.mean;
        yy += y * y;
        xy += x * y;
        xx += x * x;
    }
    if (r.count >= 2) {
        r.spread = sqrt(yy / (r.count - 1));
        r.slope = xy / xx;
    }
    if (r.count >= 3)
        r.slope_error = sqrt(fmax(yy - xy * xy / xx, 0) / (r.count - 2) / xx);
    *ret_rolling = r;
}
