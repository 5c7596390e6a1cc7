/* Batch means of the changes of a loss, and what they say. */
#include "lyap/drift.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "stats.h"
#include "banned.h"

void lyap_drift_init(struct lyap_drift *drift)
{
    *drift = (struct lyap_drift){ .level = NAN, .error = NAN, .evidence = NAN };
}

double lyap_drift_newey_west(const double *values, uint32_t count)
{
    assert(count >= 1);
    const double n = count, mean = lyap_stats_mean(values, count);
    const uint32_t lag_max = (uint32_t)(4 * pow(n / 100, 2.0 / 9));
    double variance = 0;
    for (uint32_t lag = 0; lag <= lag_max && lag < count; lag++) {
        double sum = 0;
        for (uint32_t i = lag; i < count; i++)
            sum += (values[i] - mean) * (values[i - lag] - mean);
        variance += (lag == 0 ? 1 : 2 * (1 - lag / (lag_max + 1.0))) * sum / n;
    }
    return sqrt(fmax(variance, 0) / n);
}

static double mad_scale(const double *values, uint32_t count)
{
    double work[LYAP_DRIFT_MEANS];
    memcpy(work, values, count * sizeof *work);
    const double middle = lyap_stats_median(work, count);
    return LYAP_STATS_MAD_SCALE * lyap_stats_deviation(work, count, middle);
}

static void keep(struct lyap_drift *drift, double mean)
{
    if (drift->count == LYAP_DRIFT_MEANS) {
        memmove(drift->means, drift->means + 1, (LYAP_DRIFT_MEANS - 1) * sizeof *drift->means);
        drift->count--;
    }
    drift->means[drift->count++] = mean;
}

static void close_batch(struct lyap_drift *drift, double mean)
{
    keep(drift, mean);
    if (!drift->is_armed && drift->count < LYAP_DRIFT_BURN_IN)
        return;
    if (!drift->is_armed) {
        drift->is_armed = true;
        drift->scale = mad_scale(drift->means, drift->count);
        lyap_edetector_init(&drift->detector, 1);
    } else if (drift->scale > 0) {
        if (drift->evidence >= LYAP_LEVEL_ALARM)
            lyap_edetector_init(&drift->detector, 1);
        drift->evidence = lyap_edetector_push(&drift->detector, mean / drift->scale).change;
    }
    if (!(drift->scale > 0))
        return;
    drift->level = lyap_stats_mean(drift->means, drift->count) / drift->scale;
    drift->error = lyap_drift_newey_west(drift->means, drift->count) / drift->scale;
}

void lyap_drift_push(struct lyap_drift *drift, double loss)
{
    assert(isfinite(loss));
    if (drift->has_start && ++drift->filled < LYAP_DRIFT_BATCH)
        return;
    if (drift->has_start) /* the mean of the changes is their sum, which telescopes */
        close_batch(drift, (loss - drift->start) / LYAP_DRIFT_BATCH);
    drift->has_start = true;
    drift->start = loss;
    drift->filled = 0;
}
