/* Metrics of one snapshot and of its update: losses, rates, norms, cosines, checks of the push. */
#include <math.h>

#include "linalg.h"
#include "profile_internal.h"
#include "banned.h"

static struct lyap_value root_of(struct lyap_value sq)
{
    if (!lyap_is(&sq))
        return sq;
    sq.value = sqrt(fmax(sq.value, 0));
    sq.error = 0.5 * sq.error / sq.value;
    return sq;
}

/* Norm of a pushed role; of a push without tensors the number that came with it. */
static struct lyap_value role_norm(const struct lyap_step *step, enum lyap_reduce role,
                                   enum lyap_meta_key key, double pushed)
{
    const struct lyap_value bad =
        lyap_step_total(step, (enum lyap_reduce)(role + LYAP_MOMENT_NONFINITE));
    if (lyap_is(&bad) && bad.value > 0)
        return lyap_value_absent(LYAP_REASON_NONFINITE);
    const struct lyap_value sq = lyap_step_total(step, (enum lyap_reduce)(role + LYAP_MOMENT_SQ));
    if (!lyap_is(&sq) && lyap_snapshot_has(step->snapshot, key))
        return lyap_value_exact(pushed);
    return root_of(sq);
}

static void give_scalars(struct lyap_step *step)
{
    const struct lyap_snapshot *s = step->snapshot;
    struct lyap_value *loss = &step->point->metrics[LYAP_METRIC_LOSS];
    struct lyap_value *probe = &step->point->metrics[LYAP_METRIC_PROBE_LOSS];
    /* A NaN loss that was pushed is a value: these two bypass the check of lyap_step_give. */
    *loss = lyap_snapshot_has(s, LYAP_META_LOSS) ? lyap_value_exact(s->loss)
                                                 : lyap_value_absent(LYAP_REASON_NO_LOSS);
    *probe = lyap_snapshot_has(s, LYAP_META_PROBE_LOSS) ? lyap_value_exact(s->probe_loss)
                                                        : lyap_value_absent(LYAP_REASON_NO_PROBE);
    lyap_step_give(step, LYAP_METRIC_LR,
                   isnan(step->lr) ? lyap_value_absent(LYAP_REASON_NO_LR)
                                   : lyap_value_exact(step->lr));
    lyap_step_give(step, LYAP_METRIC_NONFINITE_PARAM,
                   lyap_step_total(step, LYAP_REDUCE_PARAM_NONFINITE));
    lyap_step_give(step, LYAP_METRIC_NONFINITE_GRAD,
                   lyap_step_total(step, LYAP_REDUCE_GRAD_NONFINITE));
    lyap_step_give(step, LYAP_METRIC_PARAM_NORM,
                   role_norm(step, LYAP_REDUCE_PARAM_COUNT, LYAP_META_PARAM_NORM, s->param_norm));
    lyap_step_give(step, LYAP_METRIC_GRAD_NORM,
                   role_norm(step, LYAP_REDUCE_GRAD_COUNT, LYAP_META_GRAD_NORM, s->grad_norm));
}

static void give_probe_ratio(struct lyap_step *step)
{
    const double now = lyap_step_metric(step, LYAP_METRIC_PROBE_LOSS);
    const double least = fmin(step->profile->history.probe_least, now);
    if (isnan(now))
        lyap_step_absent(step, LYAP_METRIC_PROBE_LOSS_RATIO, LYAP_REASON_NO_PROBE);
    else if (!(least > 0)) /* a ratio of losses needs an absolute scale */
        lyap_step_absent(step, LYAP_METRIC_PROBE_LOSS_RATIO, LYAP_REASON_INSUFFICIENT);
    else
        lyap_step_give(step, LYAP_METRIC_PROBE_LOSS_RATIO, lyap_value_exact(now / least));
}

/* |D| / |theta_{t-1}|. Where theta_{t-1} was not pushed, |theta_t| stands for it: they differ by at
 * most |D|. */
static struct lyap_value update_ratio(const struct lyap_step *step, struct lyap_value norm)
{
    const double before = step->profile->history.last.param_norm;
    const double now = lyap_step_metric(step, LYAP_METRIC_PARAM_NORM);
    if (!lyap_is(&norm))
        return norm;
    if (step->updates > 0 && before > 0 && (step->is_linked || step->is_single))
        return (struct lyap_value){ norm.value / before, norm.error / before, norm.trust, 0 };
    const double ratio = norm.value / now;
    if (!(ratio < 1))
        return lyap_value_absent(LYAP_REASON_NO_PREVIOUS);
    return lyap_value_estimate(ratio, ratio * ratio / (1 - ratio) + 0);
}

static void give_update(struct lyap_step *step)
{
    const struct lyap_snapshot *s = step->snapshot;
    struct lyap_value norm = root_of(step->delta_sq);
    if (!lyap_is(&norm) && lyap_snapshot_has(s, LYAP_META_UPDATE_NORM))
        norm = lyap_value_exact(s->update_norm);
    lyap_step_give(step, LYAP_METRIC_UPDATE_NORM, norm);
    lyap_step_give(step, LYAP_METRIC_UPDATE_RATIO, update_ratio(step, norm));
    lyap_step_give(step, LYAP_METRIC_UPDATE_NORM_P, root_of(step->delta_p));

    const double now = lyap_step_metric(step, LYAP_METRIC_PARAM_NORM);
    const double unit = step->partial ? step->partial->delta_unit : 0;
    struct lyap_value precision = step->delta_sq;
    if (lyap_is(&precision) && precision.value == 0)
        precision = lyap_value_absent(LYAP_REASON_ZERO_UPDATE);
    if (lyap_is(&precision))
        precision = lyap_value_estimate(
            unit == 0 ? 0 : LYAP_ROUNDING_RMS * sqrt(2) * unit * now / norm.value, NAN);
    lyap_step_give(step, LYAP_METRIC_DELTA_PRECISION, precision);
    step->is_imprecise =
        lyap_step_metric(step, LYAP_METRIC_DELTA_PRECISION) > LYAP_DELTA_PRECISION_MAX;
}

/* <a,b>/(|a||b|); the error of a sketched product is divided with it. */
static struct lyap_value cosine(struct lyap_value product, double norm_a, double norm_b)
{
    if (!lyap_is(&product))
        return product;
    const double norms = norm_a * norm_b;
    if (!(norms > 0))
        return lyap_value_absent(LYAP_REASON_INSUFFICIENT);
    product.value = fmin(fmax(product.value / norms, -1), 1);
    product.error /= norms;
    return product;
}

/* <D, D_before> needs the last two updates to be of equal length and to follow each other. */
static struct lyap_value update_cosine(const struct lyap_step *step)
{
    const struct lyap_live *live = &step->profile->live;
    if (!step->is_delta_known)
        return lyap_value_absent(step->pair);
    if (!step->delta)
        return lyap_value_absent(LYAP_REASON_NOT_PUSHED);
    if (!live->has_delta)
        return lyap_value_absent(LYAP_REASON_NO_PREVIOUS);
    const int64_t from = lyap_step_delta_from(step);
    if (live->delta_to - live->delta_from != step->snapshot->step - from ||
        (!step->is_linked && live->delta_to != from))
        return lyap_value_absent(LYAP_REASON_STEP_GAP);
    const uint32_t k = step->partial->sketch_size;
    const double a = lyap_linalg_dot(step->delta, step->delta, k);
    const double b = lyap_linalg_dot(live->delta, live->delta, k);
    if (!(a > 0) || !(b > 0))
        return lyap_value_absent(LYAP_REASON_ZERO_UPDATE);
    const double product = lyap_linalg_dot(step->delta, live->delta, k) / sqrt(a * b);
    return lyap_value_estimate(fmin(fmax(product, -1), 1), step->error_share);
}

static void give_cosines(struct lyap_step *step)
{
    const double norm = lyap_step_metric(step, LYAP_METRIC_GRAD_NORM);
    lyap_step_give(step, LYAP_METRIC_GRAD_COSINE,
                   cosine(step->grad_grad_prev, norm, step->profile->history.last.grad_norm));
    lyap_step_give(step, LYAP_METRIC_UPDATE_COSINE, update_cosine(step));
}

static struct lyap_value batch_sharpness(const struct lyap_step *step)
{
    const struct lyap_value same = lyap_step_total(step, LYAP_REDUCE_SAME_DELTA);
    const struct lyap_value *const needed[] = { &same, &step->prev_delta, &step->delta_sq };
    const enum lyap_reason reason = lyap_first_reason(needed, 3);
    if (reason != LYAP_REASON_NONE)
        return lyap_value_absent(reason);
    if (step->delta_sq.value == 0)
        return lyap_value_absent(LYAP_REASON_ZERO_UPDATE);
    return lyap_value_estimate((same.value - step->prev_delta.value) / step->delta_sq.value, NAN);
}

static struct lyap_value noise_fraction(const struct lyap_step *step)
{
    const struct lyap_snapshot *s = step->snapshot;
    const double norm = lyap_step_metric(step, LYAP_METRIC_GRAD_NORM);
    if (!lyap_snapshot_has(s, LYAP_META_HALF_DIFF_SQ))
        return lyap_value_absent(LYAP_REASON_NOT_PUSHED);
    if (isnan(norm))
        return lyap_value_absent(
            (enum lyap_reason)step->point->metrics[LYAP_METRIC_GRAD_NORM].reason);
    const double nu = 0.25 * s->half_diff_sq;
    return lyap_value_estimate(nu / (nu + norm * norm), NAN);
}

/* omega of one update; over a gap the declaration cannot be checked. */
static struct lyap_value update_identity(const struct lyap_step *step)
{
    const struct lyap_value error = lyap_step_total(step, LYAP_REDUCE_UPDATE_ERROR_SQ);
    if (!step->is_delta_known)
        return lyap_value_absent(step->pair);
    if (step->is_delta_sketched)
        return lyap_value_absent(LYAP_REASON_SKETCH_RETENTION);
    if (!step->is_single || !step->is_linked)
        return lyap_value_absent(LYAP_REASON_STEP_GAP);
    if (!step->profile->declaration.has_optimizer)
        return lyap_value_absent(LYAP_REASON_NO_OPTIMIZER);
    if (!lyap_is(&error))
        return lyap_is_preconditioned(step->profile->declaration.optimizer.type)
                   ? lyap_value_absent(LYAP_REASON_NEEDS_STATE)
                   : error;
    if (step->delta_sq.value == 0)
        return lyap_value_absent(LYAP_REASON_ZERO_UPDATE);
    /* The rounding of theta alone makes omega about delta_precision (SPEC 6.2), at the end of every
     * decaying schedule: there it says nothing about the declaration. */
    if (lyap_step_metric(step, LYAP_METRIC_DELTA_PRECISION) > 0.5 * LYAP_MISMATCH_MAX)
        return lyap_value_absent(LYAP_REASON_DELTA_PRECISION);
    return lyap_value_exact(sqrt(error.value / step->delta_sq.value));
}

/* Why there is no second moment: only methods that precondition have one, known or not. */
static enum lyap_reason second_moment_reason(const struct lyap_step *step)
{
    const struct lyap_declaration *declaration = &step->profile->declaration;
    if (!step->partial)
        return step->sums;
    if (!declaration->has_optimizer)
        return LYAP_REASON_NO_OPTIMIZER;
    return lyap_is_preconditioned(declaration->optimizer.type) ? LYAP_REASON_NEEDS_STATE
                                                               : LYAP_REASON_NOT_APPLICABLE;
}

/* max over tensors of sqrt(mean(g^2 / vhat)). */
static struct lyap_value second_moment_ratio(const struct lyap_step *step)
{
    const double *rms = step->partial ? step->partial->rows[LYAP_REDUCE_RMS_SQ] : NULL;
    const double *counts = step->partial ? step->partial->rows[LYAP_REDUCE_GRAD_COUNT] : NULL;
    double largest = NAN;
    for (uint32_t i = 0; rms && counts && i < step->partial->tensor_count; i++)
        if (counts[i] > 0)
            largest = fmax(largest, sqrt(rms[i] / counts[i]));
    return isnan(largest) ? lyap_value_absent(second_moment_reason(step))
                          : lyap_value_estimate(largest, NAN);
}

void lyap_step_basic(struct lyap_step *step)
{
    give_scalars(step);
    if (step->point->is_event_only)
        return;
    give_probe_ratio(step);
    give_update(step);
    give_cosines(step);
    lyap_step_give(step, LYAP_METRIC_BATCH_SHARPNESS, batch_sharpness(step));
    lyap_step_give(step, LYAP_METRIC_NOISE_FRACTION, noise_fraction(step));
    lyap_step_give(step, LYAP_METRIC_UPDATE_IDENTITY, update_identity(step));
    lyap_step_give(step, LYAP_METRIC_SECOND_MOMENT_RATIO, second_moment_ratio(step));
}
