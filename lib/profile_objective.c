/* What the optimizer descends beside the pushed loss: weight decay as an energy, and the non-smooth
 * part that the loss of a proximal run holds. */
#include <math.h>

#include "profile_internal.h"
#include "banned.h"

static double coupled_decay(const struct lyap_step *step, uint32_t tensor)
{
    const struct lyap_declaration *d = &step->profile->declaration;
    const uint32_t group = tensor < d->set.count ? d->set.tensors[tensor].group : 0;
    return lyap_optimizer_group_params(&d->optimizer, group)->weight_decay;
}

static bool is_decay_coupled(const struct lyap_declaration *declaration)
{
    const enum lyap_optimizer_type type = declaration->optimizer.type;
    return declaration->has_optimizer &&
           (type == LYAP_OPTIMIZER_SGD || type == LYAP_OPTIMIZER_ADAM ||
            type == LYAP_OPTIMIZER_RMSPROP);
}

/* The one decay of all tensors, or NaN when groups differ. */
static double uniform_decay(const struct lyap_step *step)
{
    if (!is_decay_coupled(&step->profile->declaration))
        return 0;
    const struct lyap_group_range range = lyap_profile_group_range(step->profile);
    return range.decay_least < range.decay_most ? (double)NAN : range.decay_most;
}

/* sum over tensors of wd_l/2 times a row; NaN when the row is absent. */
static double decay_sum(const struct lyap_step *step, enum lyap_reduce row)
{
    const double *values = step->partial ? step->partial->rows[row] : NULL;
    if (!values)
        return NAN;
    double sum = 0;
    for (uint32_t i = 0; i < step->partial->tensor_count; i++)
        sum += 0.5 * coupled_decay(step, i) * values[i];
    return sum;
}

/* wd of the group of a tensor; decoupled decay counts in the metric P alone (SPEC 3.4). */
static bool is_decay_metric(const struct lyap_declaration *declaration)
{
    return declaration->has_optimizer && declaration->optimizer.type == LYAP_OPTIMIZER_ADAMW;
}

double lyap_step_decay_energy(const struct lyap_step *step)
{
    if (is_decay_metric(&step->profile->declaration))
        return decay_sum(step, LYAP_REDUCE_PARAM_P);
    const double wd = uniform_decay(step);
    const double norm = lyap_step_metric(step, LYAP_METRIC_PARAM_NORM);
    if (wd == 0)
        return 0;
    return isnan(wd) ? decay_sum(step, LYAP_REDUCE_PARAM_SQ) : 0.5 * wd * norm * norm;
}

double lyap_step_decay_drift(const struct lyap_step *step)
{
    if (!is_decay_metric(&step->profile->declaration))
        return 0;
    return decay_sum(step, LYAP_REDUCE_PARAM_P) - decay_sum(step, LYAP_REDUCE_PARAM_P_PREV);
}

/* Without a sum of the decay in P the energy is that of the loss: zeros. */
static struct lyap_decay metric_decay(const struct lyap_step *step)
{
    const struct lyap_decay decay = {
        .energy0 = step->profile->live.decay_energy,
        .energy1 = lyap_step_decay_energy(step),
        .step = decay_sum(step, LYAP_REDUCE_DELTA_P),
        .drift = lyap_step_decay_drift(step),
        .drift0 = step->profile->live.decay_drift,
    };
    const bool is_known = !isnan(decay.energy0 + decay.energy1 + decay.step + decay.drift);
    return is_known ? decay : (struct lyap_decay){ .drift0 = NAN };
}

struct lyap_decay lyap_step_decay(const struct lyap_step *step)
{
    const double wd = uniform_decay(step), before = step->profile->history.last.param_norm;
    const bool is_uniform = !isnan(wd);
    if (is_decay_metric(&step->profile->declaration))
        return metric_decay(step);
    if (wd == 0)
        return (struct lyap_decay){ 0 };
    return (struct lyap_decay){
        .energy0 = is_uniform ? 0.5 * wd * before * before : step->profile->live.decay_energy,
        .energy1 = lyap_step_decay_energy(step),
        .step =
            is_uniform ? 0.5 * wd * step->delta_sq.value : decay_sum(step, LYAP_REDUCE_DELTA_SQ),
    };
}

/* sum over tensors of a row, or of its root. */
static double row_sum(const struct lyap_step *step, enum lyap_reduce row, bool is_root)
{
    const double *values = step->partial ? step->partial->rows[row] : NULL;
    double sum = values ? 0 : (double)NAN;
    for (uint32_t i = 0; values && i < step->partial->tensor_count; i++)
        sum += is_root ? sqrt(values[i]) : values[i];
    return sum;
}

double lyap_step_penalty(const struct lyap_step *step)
{
    const struct lyap_declaration *declaration = &step->profile->declaration;
    const struct lyap_optimizer *optimizer = &declaration->optimizer;
    if (!declaration->has_optimizer)
        return 0;
    switch (optimizer->prox) {
    case LYAP_PROX_NONE:
        break;
    case LYAP_PROX_L1:
        return optimizer->prox_lambda * row_sum(step, LYAP_REDUCE_PARAM_ABS, false);
    case LYAP_PROX_L2:
        return 0.5 * optimizer->prox_lambda * row_sum(step, LYAP_REDUCE_PARAM_SQ, false);
    case LYAP_PROX_GROUP_L1:
        return optimizer->prox_lambda * row_sum(step, LYAP_REDUCE_PARAM_SQ, true);
    case LYAP_PROX_ELASTIC_NET:
        return optimizer->prox_l1 * row_sum(step, LYAP_REDUCE_PARAM_ABS, false) +
               0.5 * optimizer->prox_l2 * row_sum(step, LYAP_REDUCE_PARAM_SQ, false);
    }
    return 0; /* the indicator of a set, at a point of it */
}

/* |g_t + wd theta_t|^2, the gradient of the function with its decay; NaN when a row is absent. */
double lyap_step_objective_grad_sq(const struct lyap_step *step)
{
    const struct lyap_partial *p = step->partial;
    const double *gg = p->rows[LYAP_REDUCE_GRAD_SQ], *gx = p->rows[LYAP_REDUCE_GRAD_PARAM];
    const double *xx = p->rows[LYAP_REDUCE_PARAM_SQ];
    double sum = 0;
    for (uint32_t i = 0; i < p->tensor_count; i++) {
        const double wd = coupled_decay(step, i);
        sum += gg ? gg[i] : (double)NAN;
        if (wd != 0)
            sum += gx && xx ? 2 * wd * gx[i] + wd * wd * xx[i] : (double)NAN;
    }
    return sum;
}
