/* Spectral metrics of a step, and what a profile hands to uploads and worker for the next ones. */
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "profile_internal.h"
#include "banned.h"

/* ---- the step ---- */

/* A weight that is measured in turns has its newest estimate, which is no bound at this step. */
static struct lyap_value value_of(double value, bool is_now)
{
    if (isnan(value))
        return lyap_value_absent(LYAP_REASON_NOT_PUSHED);
    return is_now ? lyap_value_exact(value) : lyap_value_estimate(value, NAN);
}

static bool is_weight(const struct lyap_spectral_tensor *tensor)
{
    return tensor->view.reason != LYAP_REASON_NOT_APPLICABLE;
}

/* The weight with the largest estimate stands for the point, once all have one. */
static void give_norm(struct lyap_step *step)
{
    const struct lyap_spectral_state *state = &step->profile->spectral;
    const struct lyap_spectral_tensor *largest = NULL;
    enum lyap_reason reason = LYAP_REASON_NOT_APPLICABLE;
    for (uint32_t i = 0; i < state->count; i++) {
        const struct lyap_spectral_tensor *tensor = &state->tensors[i];
        if (!is_weight(tensor))
            continue;
        if (isnan(tensor->newest.sigma)) {
            reason = tensor->view.reason;
            largest = NULL;
            break;
        }
        if (!largest || tensor->newest.sigma > largest->newest.sigma)
            largest = tensor;
    }
    if (!largest) {
        lyap_step_absent(step, LYAP_METRIC_SPECTRAL_NORM, reason);
        lyap_step_absent(step, LYAP_METRIC_SPECTRAL_RESIDUAL, reason);
        return;
    }
    const bool is_now = largest->view.reason == LYAP_REASON_NONE;
    struct lyap_value norm = value_of(largest->newest.sigma, is_now);
    norm.error = largest->newest_error + (is_now ? 0 : largest->drift - largest->visit.drift);
    lyap_step_give(step, LYAP_METRIC_SPECTRAL_NORM, norm);
    lyap_step_give(step, LYAP_METRIC_SPECTRAL_RESIDUAL, value_of(largest->newest.residual, is_now));
}

/* A bound of the largest needs all. */
static void give_upper(struct lyap_step *step)
{
    const struct lyap_spectral_state *state = &step->profile->spectral;
    enum lyap_reason reason = LYAP_REASON_NOT_APPLICABLE;
    double upper = NAN;
    for (uint32_t i = 0; i < state->count; i++) {
        const struct lyap_spectral_tensor *tensor = &state->tensors[i];
        if (!is_weight(tensor))
            continue;
        reason = isnan(tensor->view.upper) ? LYAP_REASON_NOT_PUSHED : LYAP_REASON_NONE;
        if (reason != LYAP_REASON_NONE)
            break;
        upper = fmax(upper, tensor->view.upper);
    }
    lyap_step_give(step, LYAP_METRIC_SPECTRAL_NORM_UPPER,
                   reason == LYAP_REASON_NONE ? lyap_value_exact(upper)
                                              : lyap_value_absent(reason));
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
    give_norm(step);
    give_upper(step);
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
