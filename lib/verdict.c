/* State and verdict of a point from its metrics, without a twin (SPEC 4.3). */
#include <math.h>

#include "profile_internal.h"
#include "banned.h"

static bool is_above(const struct lyap_step *step, enum lyap_metric metric, double limit)
{
    return lyap_step_metric(step, metric) > limit;
}

static enum lyap_run_state state_of(const struct lyap_step *step)
{
    const struct lyap_history *h = &step->profile->history;
    const struct lyap_point *point = step->point;
    const bool has_loss = h->has_loss || lyap_is(&point->metrics[LYAP_METRIC_LOSS]);
    const bool has_tensors = h->has_tensors || lyap_is(&point->metrics[LYAP_METRIC_PARAM_NORM]) ||
                             lyap_is(&point->metrics[LYAP_METRIC_GRAD_NORM]) || step->partial;
    if (point->is_event_only && !step->snapshot->is_skipped)
        return LYAP_STATE_UNSTABLE;
    if (!has_loss && !has_tensors)
        return LYAP_STATE_BLIND;
    if (lyap_step_metric(step, LYAP_METRIC_INSTABILITY_SCORE) >= LYAP_SCORE_DEFAULT ||
        lyap_history_is_alarmed(h))
        return LYAP_STATE_UNSTABLE;
    const uint64_t count = h->finite_count + !point->is_event_only;
    return count < LYAP_HISTORY_WARM_UP ? LYAP_STATE_WARMING_UP : LYAP_STATE_HEALTHY;
}

static enum lyap_verdict verdict_of(const struct lyap_step *step)
{
    const struct lyap_history *h = &step->profile->history;
    const struct lyap_point *point = step->point;
    const struct lyap_value *ratio = &point->metrics[LYAP_METRIC_STABILITY_RATIO];
    const double window = lyap_step_metric(step, LYAP_METRIC_DISSIPATION_WINDOW);
    if (h->is_level_on_probe && lyap_history_is_alarmed(h))
        return LYAP_VERDICT_ENERGY_VIOLATION;
    if (is_above(step, LYAP_METRIC_STABILITY_RATIO, 1))
        return LYAP_VERDICT_EDGE;
    if (lyap_is(ratio) && ratio->value <= 1 && window <= 0)
        return LYAP_VERDICT_DISSIPATING;
    const bool has_function = h->has_function || lyap_is(&point->metrics[LYAP_METRIC_PROBE_LOSS]) ||
                              lyap_is(&point->metrics[LYAP_METRIC_VISITED_CURVATURE]) ||
                              lyap_is(&point->metrics[LYAP_METRIC_ENERGY]);
    return has_function ? LYAP_VERDICT_INCONCLUSIVE : LYAP_VERDICT_INSUFFICIENT;
}

void lyap_step_verdict(struct lyap_step *step)
{
    step->point->state = state_of(step);
    step->point->verdict = verdict_of(step);
}
