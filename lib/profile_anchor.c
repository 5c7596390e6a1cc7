/* The loss-free energy |theta - thetabar|^2_P of a pushed point of comparison (SPEC 3.5). */
#include "profile_internal.h"
#include "banned.h"

static struct lyap_value anchor_row(const struct lyap_step *step, enum lyap_reduce row)
{
    struct lyap_value value = lyap_step_total(step, row);
    const bool is_pushed = step->partial && step->partial->rows[row];
    if (!lyap_is(&value) && is_pushed && !step->partial->is_role_order)
        value.reason = lyap_is_preconditioned(step->profile->declaration.optimizer.type)
                           ? LYAP_REASON_NEEDS_STATE
                           : LYAP_REASON_NONFINITE;
    return value;
}

void lyap_step_anchor(struct lyap_step *step)
{
    const struct lyap_value square = anchor_row(step, LYAP_REDUCE_ANCHOR_SQ);
    struct lyap_value change = anchor_row(step, LYAP_REDUCE_ANCHOR_DELTA);
    lyap_step_give(step, LYAP_METRIC_ANCHOR_ENERGY, square);
    if (!lyap_is(&square))
        change = square;
    else if (!lyap_is(&change) || !lyap_is(&step->delta_p))
        change = lyap_value_absent(step->pair != LYAP_REASON_NONE ? step->pair
                                   : lyap_is(&change) ? (enum lyap_reason)step->delta_p.reason
                                                      : (enum lyap_reason)change.reason);
    else /* 2 <D, theta_t - D - thetabar>_P + |D|^2_P */
        change.value = 2 * change.value - step->delta_p.value;
    lyap_step_give(step, LYAP_METRIC_ANCHOR_ENERGY_CHANGE, change);
}
