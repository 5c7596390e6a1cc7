/* How strongly the coming update answers to the gradient it is made of (SPEC 1.6). */
#include <math.h>

#include "lyap/update_gain.h"
#include "profile_internal.h"
#include "step.h"
#include "banned.h"

enum kind { KIND_NONE, KIND_LINEAR, KIND_ADAPTIVE, KIND_PROXIMAL, KIND_SIGN };

static enum kind kind_of(const struct lyap_declaration *declaration)
{
    static const enum kind kinds[LYAP_OPTIMIZER_COUNT] = {
        [LYAP_OPTIMIZER_SGD] = KIND_LINEAR,      [LYAP_OPTIMIZER_ADAM] = KIND_ADAPTIVE,
        [LYAP_OPTIMIZER_ADAMW] = KIND_ADAPTIVE,  [LYAP_OPTIMIZER_RMSPROP] = KIND_ADAPTIVE,
        [LYAP_OPTIMIZER_PROXGD] = KIND_PROXIMAL, [LYAP_OPTIMIZER_PROJGD] = KIND_PROXIMAL,
        [LYAP_OPTIMIZER_LION] = KIND_SIGN,       [LYAP_OPTIMIZER_SIGNSGD] = KIND_SIGN,
    };
    return declaration->has_optimizer ? kinds[declaration->optimizer.type] : KIND_NONE;
}

/* The factor that clipping leaves of the gradient across it; NaN where its norm is not known. */
static double clip_of(const struct lyap_step *step)
{
    const struct lyap_snapshot *s = step->snapshot;
    const double norm = lyap_snapshot_has(s, LYAP_META_GRAD_NORM)
                            ? s->grad_norm
                            : lyap_step_metric(step, LYAP_METRIC_GRAD_NORM);
    if (!lyap_snapshot_has(s, LYAP_META_CLIP_NORM))
        return 1;
    return lyap_step_clip_coefficient(s->clip_norm, norm);
}

/* How much longer than one update a gradient acts: total over now, of a group's constants. */
static double total_factor(const struct lyap_optimizer_params *params)
{
    const struct lyap_update_gain gain = params->is_nesterov
                                             ? lyap_update_gain_nesterov(1, params->momentum, 0)
                                             : lyap_update_gain_heavy_ball(1, params->momentum, 0);
    return gain.total / gain.now;
}

/* sqrt(sum factor_l^2 row_l / sum |g_l|^2); `is_total`: with the factors above. */
static struct lyap_value weighted_gain(const struct lyap_step *step, enum lyap_reduce row,
                                       bool is_total)
{
    if (!step->partial)
        return lyap_value_absent(step->sums);
    const struct lyap_declaration *declaration = &step->profile->declaration;
    const struct lyap_value gain = lyap_step_total(step, row);
    const struct lyap_value square = lyap_step_total(step, LYAP_REDUCE_GRAD_SQ);
    const struct lyap_value *const needed[] = { &square, &gain };
    const enum lyap_reason reason = lyap_first_reason(needed, 2);
    struct lyap_update_gain_sums sums = { .gain_sq = gain.value, .grad_sq = square.value };
    double value;
    if (reason != LYAP_REASON_NONE)
        return lyap_value_absent(reason);
    if (is_total)
        sums.gain_sq = 0;
    for (uint32_t i = 0; is_total && i < step->partial->tensor_count; i++) {
        const uint32_t group = i < declaration->set.count ? declaration->set.tensors[i].group : 0;
        const double factor =
            total_factor(lyap_optimizer_group_params(&declaration->optimizer, group));
        sums.gain_sq += factor * factor * step->partial->rows[row][i];
    }
    if (lyap_update_gain_weighted(&sums, &value) != LYAP_OK)
        return lyap_value_absent(LYAP_REASON_INSUFFICIENT);
    return lyap_value_exact(value);
}

/* Without the row: the state is not known, or the clip coefficient. */
static struct lyap_value adaptive_gain(const struct lyap_step *step, enum lyap_reduce row)
{
    struct lyap_value gain = weighted_gain(step, row, false);
    if (gain.reason == LYAP_REASON_NOT_PUSHED)
        gain.reason = LYAP_REASON_NEEDS_STATE;
    return gain;
}

/* Every element of a prox's Clarke Jacobian lies between 0 and I: eta, clipped, bounds it. */
static struct lyap_value proximal_gain(const struct lyap_step *step)
{
    const double clip = clip_of(step);
    if (isnan(clip))
        return lyap_value_absent(LYAP_REASON_NOT_PUSHED);
    return lyap_value_exact(clip * lyap_update_gain_prox(step->lr).now);
}

static void give_gains(struct lyap_step *step, enum kind kind)
{
    struct lyap_value now = lyap_value_absent(LYAP_REASON_NOT_APPLICABLE);
    struct lyap_value frozen = now, total = now;
    if (kind == KIND_LINEAR) {
        now = weighted_gain(step, LYAP_REDUCE_GAIN_SQ, false);
        total = weighted_gain(step, LYAP_REDUCE_GAIN_SQ, true);
    } else if (kind == KIND_ADAPTIVE) {
        now = adaptive_gain(step, LYAP_REDUCE_GAIN_SQ);
        frozen = adaptive_gain(step, LYAP_REDUCE_GAIN_FROZEN_SQ);
    } else if (kind == KIND_PROXIMAL) {
        now = total = proximal_gain(step);
    }
    lyap_step_give(step, LYAP_METRIC_UPDATE_GAIN, now);
    lyap_step_give(step, LYAP_METRIC_UPDATE_GAIN_FROZEN, frozen);
    lyap_step_give(step, LYAP_METRIC_UPDATE_GAIN_TOTAL, total);
}

/* Of the histogram over all coordinates; the bin is all that is known of a value in it. */
static struct lyap_value quantile(const struct lyap_step *step, double share)
{
    const double *counts = step->partial->rows[LYAP_REDUCE_GAIN_LOG2];
    struct lyap_update_gain_sums sums = LYAP_UPDATE_GAIN_SUMS_NULL;
    double value;
    for (size_t i = 0; counts && i < (size_t)step->partial->tensor_count * LYAP_GAIN_BINS; i++)
        sums.counts[i % LYAP_GAIN_BINS] += counts[i];
    if (!counts && step->partial->tensor_count <= LYAP_GAIN_TENSORS_MAX)
        return lyap_value_absent(LYAP_REASON_NOT_PUSHED);
    if (lyap_update_gain_quantile(&sums, share, &value) != LYAP_OK)
        return lyap_value_absent(LYAP_REASON_INSUFFICIENT);
    const double low = exp2(floor(log2(value)));
    return lyap_value_estimate(value, fmax(value - low, 2 * low - value));
}

static void give_quantiles(struct lyap_step *step, enum kind kind)
{
    static const struct {
        enum lyap_metric metric;
        double share;
    } quantiles[] = { { LYAP_METRIC_UPDATE_GAIN_P50, 0.5 }, { LYAP_METRIC_UPDATE_GAIN_P99, 0.99 } };
    const struct lyap_value *gain = &step->point->metrics[LYAP_METRIC_UPDATE_GAIN];
    for (unsigned i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        struct lyap_value value = *gain;
        if (lyap_is(gain) && kind != KIND_PROXIMAL) /* eta bounds every coordinate */
            value = quantile(step, quantiles[i].share);
        lyap_step_give(step, quantiles[i].metric, value);
    }
}

static void give_flips(struct lyap_step *step, enum kind kind)
{
    struct lyap_value share = lyap_value_absent(LYAP_REASON_NOT_APPLICABLE), bound = share;
    if (kind == KIND_SIGN) {
        const struct lyap_value flips = lyap_step_total(step, LYAP_REDUCE_SIGN_FLIPS);
        const struct lyap_value count = lyap_step_total(step, LYAP_REDUCE_GRAD_COUNT);
        if (lyap_is(&flips) && count.value > 0) {
            share = lyap_value_exact(flips.value / count.value);
            bound = lyap_value_exact(lyap_update_gain_sign_bound(step->lr, flips.value));
        } else
            share = bound =
                lyap_value_absent(step->pair != LYAP_REASON_NONE ? step->pair
                                  : step->profile->declaration.optimizer.type == LYAP_OPTIMIZER_LION
                                      ? LYAP_REASON_NEEDS_STATE
                                      : LYAP_REASON_NOT_PUSHED);
    }
    lyap_step_give(step, LYAP_METRIC_FLIP_FRACTION, share);
    lyap_step_give(step, LYAP_METRIC_FLIP_BOUND, bound);
}

void lyap_step_gains(struct lyap_step *step)
{
    static const enum lyap_metric metrics[] = {
        LYAP_METRIC_UPDATE_GAIN,     LYAP_METRIC_UPDATE_GAIN_FROZEN, LYAP_METRIC_UPDATE_GAIN_TOTAL,
        LYAP_METRIC_UPDATE_GAIN_P50, LYAP_METRIC_UPDATE_GAIN_P99,    LYAP_METRIC_FLIP_FRACTION,
        LYAP_METRIC_FLIP_BOUND
    };
    const enum kind kind = kind_of(&step->profile->declaration);
    enum lyap_reason reason = LYAP_REASON_NONE;
    if (kind == KIND_NONE)
        reason = LYAP_REASON_NO_OPTIMIZER;
    else if (!step->partial)
        reason = step->sums;
    else if (isnan(step->lr))
        reason = LYAP_REASON_NO_LR;
    if (reason != LYAP_REASON_NONE) {
        for (unsigned i = 0; i < sizeof metrics / sizeof *metrics; i++)
            lyap_step_absent(step, metrics[i], reason);
        return;
    }
    give_gains(step, kind);
    give_quantiles(step, kind);
    give_flips(step, kind);
}
