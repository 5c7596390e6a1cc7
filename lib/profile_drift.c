/* Mini-batch training: drift of the probe's loss, and the mean square along the updates. */
#include <math.h>

#include "lyap/growth.h"
#include "profile_internal.h"
#include "banned.h"

enum { BATCHES_LEAST = 8 };

static void give_drift(struct lyap_step *step)
{
    const struct lyap_drift *drift = &step->profile->history.drift;
    enum lyap_reason reason = LYAP_REASON_NONE;
    if (!lyap_is(&step->point->metrics[LYAP_METRIC_PROBE_LOSS]))
        reason = LYAP_REASON_INSUFFICIENT; /* no probe, no verdict on the drift: SPEC 3.6 */
    else if (!drift->is_armed)
        reason = LYAP_REASON_WARMING_UP;
    else if (!(drift->scale > 0))
        reason = LYAP_REASON_LOSS_PRECISION;
    if (reason != LYAP_REASON_NONE) {
        lyap_step_absent(step, LYAP_METRIC_ENERGY_DRIFT, reason);
        lyap_step_absent(step, LYAP_METRIC_DRIFT_EVIDENCE, reason);
        return;
    }
    lyap_step_give(step, LYAP_METRIC_ENERGY_DRIFT, lyap_value_estimate(drift->level, drift->error));
    if (isnan(drift->evidence))
        lyap_step_absent(step, LYAP_METRIC_DRIFT_EVIDENCE, LYAP_REASON_WARMING_UP);
    else
        lyap_step_give(step, LYAP_METRIC_DRIFT_EVIDENCE, lyap_value_estimate(drift->evidence, NAN));
}

/* Plain gradient descent on one curvature at a time: what the formula is of. */
static enum lyap_reason mean_square_reason(const struct lyap_step *step,
                                           const struct lyap_transition *t)
{
    const struct lyap_history *h = &step->profile->history;
    const struct lyap_declaration *declaration = &step->profile->declaration;
    if (!declaration->has_optimizer)
        return LYAP_REASON_NO_OPTIMIZER;
    if (declaration->optimizer.type != LYAP_OPTIMIZER_SGD)
        return LYAP_REASON_NOT_APPLICABLE;
    if (!(step->lr > 0))
        return LYAP_REASON_NO_LR;
    if (t->method != LYAP_METHOD_GD || !lyap_step_has_one_rate(step))
        return LYAP_REASON_NOT_APPLICABLE;
    if (h->batch_count == 0)
        return LYAP_REASON_NOT_PUSHED;
    return h->batch_count < BATCHES_LEAST ? LYAP_REASON_WARMING_UP : LYAP_REASON_NONE;
}

static void give_mean_square(struct lyap_step *step)
{
    const struct lyap_history *h = &step->profile->history;
    const struct lyap_transition t = lyap_profile_transition(step->profile, step->lr);
    const enum lyap_reason reason = mean_square_reason(step, &t);
    double mean = 0, variance = 0;
    if (reason != LYAP_REASON_NONE) {
        lyap_step_absent(step, LYAP_METRIC_MEAN_SQUARE_GAIN, reason);
        return;
    }
    for (uint32_t i = 0; i < h->batch_count; i++)
        mean += h->batches[i] / h->batch_count;
    for (uint32_t i = 0; i < h->batch_count; i++)
        variance += (h->batches[i] - mean) * (h->batches[i] - mean) / h->batch_count;
    lyap_step_give(
        step, LYAP_METRIC_MEAN_SQUARE_GAIN,
        lyap_value_estimate(lyap_growth_mean_square(step->lr, mean + t.decay, variance), NAN));
}

void lyap_step_drift(struct lyap_step *step)
{
    struct lyap_history *h = &step->profile->history;
    lyap_history_absorb(h, LYAP_HISTORY_BATCH, step->point);
    lyap_history_absorb(h, LYAP_HISTORY_DRIFT, step->point);
    give_drift(step);
    give_mean_square(step);
}
