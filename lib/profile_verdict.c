/* State and verdict of a point from its metrics. */
#include <math.h>

#include "lyap/verdict.h"
#include "profile_internal.h"
#include "banned.h"

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
    struct lyap_sides sides = lyap_verdict_sides(point);
    sides.is_violated = h->is_level_on_probe && lyap_history_is_alarmed(h);
    sides.has_function = h->has_function || lyap_is(&point->metrics[LYAP_METRIC_PROBE_LOSS]) ||
                         lyap_is(&point->metrics[LYAP_METRIC_VISITED_CURVATURE]) ||
                         lyap_is(&point->metrics[LYAP_METRIC_ENERGY]);
    return lyap_verdict_judge(&sides).verdict;
}

void lyap_step_verdict(struct lyap_step *step)
{
    step->point->state = state_of(step);
    step->point->verdict = verdict_of(step);
}
