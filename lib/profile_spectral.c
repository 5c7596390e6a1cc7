/* Spectral metrics of a step, and what a profile hands to uploads and worker for the next ones. */
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "profile_internal.h"
#include "banned.h"

/* ---- the step ---- */

/* The weight with the largest estimate stands for the point; a bound of the largest needs all. */
static void give_largest(struct lyap_step *step)
{
    const struct lyap_spectral_state *state = &step->profile->spectral;
    enum lyap_reason reason = LYAP_REASON_NOT_APPLICABLE;
    double lower = NAN, residual = NAN, upper = NAN;
    bool has_all = true;
    for (uint32_t i = 0; i < state->count; i++) {
        const struct lyap_spectral_view *view = &state->tensors[i].view;
        if (view->reason == LYAP_REASON_NOT_APPLICABLE)
            continue;
        has_all = has_all && !isnan(view->upper);
        upper = fmax(upper, view->upper);
        if (view->reason != LYAP_REASON_NONE) {
            reason = view->reason;
        } else if (!(view->lower <= lower)) {
            lower = view->lower;
            residual = view->residual;
        }
    }
    if (isnan(lower)) {
        lyap_step_absent(step, LYAP_METRIC_SPECTRAL_NORM, reason);
        lyap_step_absent(step, LYAP_METRIC_SPECTRAL_RESIDUAL, reason);
    } else {
        lyap_step_give(step, LYAP_METRIC_SPECTRAL_NORM, lyap_value_exact(lower));
        lyap_step_give(step, LYAP_METRIC_SPECTRAL_RESIDUAL,
                       isnan(residual) ? lyap_value_absent(LYAP_REASON_NOT_PUSHED)
                                       : lyap_value_exact(residual));
    }
    if (has_all && !isnan(upper))
        lyap_step_give(step, LYAP_METRIC_SPECTRAL_NORM_UPPER, lyap_value_exact(upper));
    else
        lyap_step_absent(step, LYAP_METRIC_SPECTRAL_NORM_UPPER,
                         reason == LYAP_REASON_NONE ? LYAP_REASON_WARMING_UP : reason);
}

/* A stored difference connects two kept snapshots exactly; a pushed one was rounded by itself. */
static bool has_delta(const struct lyap_step *step)
{
    return step->is_linked && !step->is_delta_sketched && step->partial->delta_unit > 0;
}

void lyap_step_spectral(struct lyap_step *step)
{
    struct lyap_spectral_state *state = &step->profile->spectral;
    if (!step->partial || step->partial->tensor_count != state->count) {
        const enum lyap_reason reason = step->partial ? LYAP_REASON_INSUFFICIENT : step->sums;
        lyap_spectral_state_unlink(state);
        lyap_step_absent(step, LYAP_METRIC_SPECTRAL_NORM, reason);
        lyap_step_absent(step, LYAP_METRIC_SPECTRAL_RESIDUAL, reason);
        lyap_step_absent(step, LYAP_METRIC_SPECTRAL_NORM_UPPER, reason);
        return;
    }
    lyap_spectral_state_step(state, step->partial, has_delta(step));
    give_largest(step);
}

const struct lyap_spectral_view *lyap_step_spectral_view(const struct lyap_step *step,
                                                         uint32_t tensor)
{
    const struct lyap_spectral_state *state = &step->profile->spectral;
    const bool is_there = step->partial && !step->point->is_event_only && tensor < state->count;
    return is_there ? &state->tensors[tensor].view : NULL;
}

/* ---- between steps ---- */

void lyap_profile_spectral_move(struct lyap_profile *from, struct lyap_profile *to)
{
    lyap_spectral_state_release(&to->spectral);
    to->spectral = from->spectral;
    from->spectral = (struct lyap_spectral_state){ 0 };
    lyap_spectral_state_unlink(&to->spectral);
}

enum lyap_status lyap_profile_spectral_plan(struct lyap_profile *profile, uint32_t gram_every,
                                            struct lyap_spectral_plan **ret_plan)
{
    return lyap_spectral_state_plan(&profile->spectral, gram_every, ret_plan);
}

enum lyap_status lyap_profile_spectral_job(struct lyap_profile *profile, uint32_t every,
                                           struct lyap_spectral_job **ret_job)
{
    return lyap_spectral_state_job(&profile->spectral, profile->live.step, every, ret_job);
}

void lyap_profile_spectral_result(struct lyap_profile *profile, const struct lyap_spectral_job *job)
{
    lyap_spectral_state_result(&profile->spectral, job);
}
