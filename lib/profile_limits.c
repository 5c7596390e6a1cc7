/* The optimizer's linear limit at the measured curvature: how far, how fast, and what crossed it.
 */
#include <math.h>
#include <string.h>

#include "lyap/growth.h"
#include "profile_internal.h"
#include "stats.h"
#include "banned.h"

static const double CROSSING_FROM = .95, CROSSING_TO = 1.2; /* SPEC 9 limit-crossed */
enum { CROSSING_PROBES_LEAST = 3 };

/* ---- coupled decay of methods that precondition: wd P^-1 beside P^-1 H ---- */

static bool is_decay_weighted(const struct lyap_step *step)
{
    const struct lyap_profile *profile = step->profile;
    const enum lyap_optimizer_type type = profile->declaration.optimizer.type;
    return profile->declaration.has_optimizer &&
           (type == LYAP_OPTIMIZER_ADAM || type == LYAP_OPTIMIZER_RMSPROP) &&
           lyap_profile_group_range(profile).decay_most > 0;
}

/* sum wd_l <s_l,s_l> / <s,P s>: the Rayleigh quotient of wd P^-1 along the pushed displacement. */
static struct lyap_value decay_quotient(const struct lyap_step *step)
{
    const struct lyap_declaration *declaration = &step->profile->declaration;
    const struct lyap_value square = lyap_step_total(step, LYAP_REDUCE_PAIR_SS);
    const struct lyap_value weighted = lyap_step_total(step, LYAP_REDUCE_PAIR_SPS);
    const struct lyap_value *const needed[] = { &square, &weighted };
    const enum lyap_reason reason = lyap_first_reason(needed, 2);
    if (reason != LYAP_REASON_NONE)
        return lyap_value_absent(reason);
    double sum = 0;
    for (uint32_t i = 0; i < step->partial->tensor_count; i++) {
        const uint32_t group = i < declaration->set.count ? declaration->set.tensors[i].group : 0;
        sum += lyap_optimizer_group_params(&declaration->optimizer, group)->weight_decay *
               step->partial->rows[LYAP_REDUCE_PAIR_SS][i];
    }
    const double quotient = sum / weighted.value;
    return lyap_value_estimate(quotient, quotient); /* of one direction, near the top one */
}

/* Along the newest pair, held while the sharpness is young. */
static void give_decay(struct lyap_step *step, const struct lyap_value *rho)
{
    const double held = step->profile->history.decay_curvature;
    struct lyap_value value = lyap_value_absent(LYAP_REASON_NOT_APPLICABLE);
    if (is_decay_weighted(step)) {
        value = decay_quotient(step);
        if (!lyap_is(&value) && lyap_is(rho) && !isnan(held))
            value = lyap_value_estimate(held, held);
        else if (!lyap_is(&value))
            value.reason = LYAP_REASON_NO_PROBE;
    }
    lyap_step_give(step, LYAP_METRIC_DECAY_CURVATURE, value);
}

static double decay_of(const struct lyap_step *step)
{
    const double decay = lyap_step_metric(step, LYAP_METRIC_DECAY_CURVATURE);
    return isnan(decay) ? 0 : decay;
}

/* ---- limit, ratio, rates ---- */

static enum lyap_reason limit_reason(const struct lyap_step *step, const struct lyap_transition *t)
{
    if (!step->profile->declaration.has_optimizer)
        return LYAP_REASON_NO_OPTIMIZER;
    if (!(step->lr > 0))
        return LYAP_REASON_NO_LR;
    if (t->method == LYAP_METHOD_NONE || isinf(lyap_transition_limit(t)))
        return LYAP_REASON_NO_LINEAR_LIMIT;
    return step->is_mismatched ? LYAP_REASON_OPTIMIZER_MISMATCH : LYAP_REASON_NONE;
}

static void absent_ratio(struct lyap_step *step, enum lyap_reason reason)
{
    static const enum lyap_metric metrics[] = { LYAP_METRIC_STABILITY_RATIO,
                                                LYAP_METRIC_TRANSITION_RATE,
                                                LYAP_METRIC_MODE_ENERGY_GAIN,
                                                LYAP_METRIC_MODE_ENERGY_RATE };
    for (unsigned i = 0; i < sizeof metrics / sizeof *metrics; i++)
        lyap_step_absent(step, metrics[i], reason);
}

/* Rate at a curvature known within an error: the largest difference over that interval. */
static struct lyap_value rate_within(const struct lyap_transition *t, double curvature,
                                     double error)
{
    enum { PARTS = 8 };
    const double rate = log(lyap_transition_radius(t, curvature));
    double most = 0;
    for (int i = -PARTS; i <= PARTS; i++) {
        const double other = log(lyap_transition_radius(t, curvature + error * i / PARTS));
        most = isfinite(other) ? fmax(most, fabs(other - rate)) : most; /* -inf: it dies at once */
    }
    return lyap_value_estimate(rate, most);
}

static enum lyap_status mode_energy(const struct lyap_transition *t, double curvature,
                                    struct lyap_growth_bound *ret_bound)
{
    double matrix[4];
    const uint32_t width = lyap_transition_matrix(t, curvature, matrix);
    return lyap_growth_energy_bound(width, matrix, ret_bound);
}

/* The exact energy of the mode at the accepted curvature (SPEC 3.3); no error where there is none
 * at an end of the interval. */
static void give_mode_energy(struct lyap_step *step, const struct lyap_transition *t,
                             double curvature, double error)
{
    struct lyap_growth_bound bound, ends[2];
    const enum lyap_status status = mode_energy(t, curvature, &bound);
    if (status != LYAP_OK) {
        const enum lyap_reason reason =
            status == LYAP_E_NOT_FOUND ? LYAP_REASON_NO_ENERGY : LYAP_REASON_INSUFFICIENT;
        lyap_step_absent(step, LYAP_METRIC_MODE_ENERGY_GAIN, reason);
        lyap_step_absent(step, LYAP_METRIC_MODE_ENERGY_RATE, reason);
        return;
    }
    double gain = NAN, rate = NAN;
    if (mode_energy(t, curvature - error, &ends[0]) == LYAP_OK &&
        mode_energy(t, curvature + error, &ends[1]) == LYAP_OK) {
        gain = fmax(fabs(ends[0].gain - bound.gain), fabs(ends[1].gain - bound.gain));
        rate = fmax(fabs(ends[0].rate - bound.rate), fabs(ends[1].rate - bound.rate));
    }
    lyap_step_give(step, LYAP_METRIC_MODE_ENERGY_GAIN, lyap_value_estimate(bound.gain, gain));
    lyap_step_give(step, LYAP_METRIC_MODE_ENERGY_RATE, lyap_value_estimate(bound.rate, rate));
}

static void give_limit(struct lyap_step *step, double limit)
{
    const struct lyap_value *decay = &step->point->metrics[LYAP_METRIC_DECAY_CURVATURE];
    lyap_step_give(step, LYAP_METRIC_STABILITY_LIMIT,
                   is_decay_weighted(step) ? lyap_value_estimate(limit, decay->error)
                                           : lyap_value_exact(limit));
}

static void give_ratio(struct lyap_step *step, const struct lyap_transition *t,
                       const struct lyap_value *rho)
{
    enum lyap_reason reason = limit_reason(step, t);
    const double limit = lyap_transition_limit(t) - decay_of(step);
    if (reason == LYAP_REASON_NONE)
        give_limit(step, limit);
    else
        lyap_step_absent(step, LYAP_METRIC_STABILITY_LIMIT, reason);
    if (reason == LYAP_REASON_NONE && !lyap_is(rho))
        reason = (enum lyap_reason)rho->reason;
    if (reason != LYAP_REASON_NONE) {
        absent_ratio(step, reason);
        return;
    }
    /* A limit that decay has pushed below zero leaves no stable curvature at all. */
    lyap_step_give(step, LYAP_METRIC_STABILITY_RATIO,
                   limit > 0 ? lyap_value_estimate(rho->value / limit, rho->error / limit)
                             : lyap_value_estimate(INFINITY, NAN));
    const double curvature = rho->value + decay_of(step);
    lyap_step_give(step, LYAP_METRIC_TRANSITION_RATE, rate_within(t, curvature, rho->error));
    give_mode_energy(step, t, curvature, rho->error);
}

/* Growth along the least accepted curvature, while it is young and negative. */
static void give_least_rate(struct lyap_step *step, const struct lyap_transition *t)
{
    const struct lyap_history *h = &step->profile->history;
    enum lyap_reason reason = limit_reason(step, t);
    const bool is_young =
        h->least.step >= 0 && step->point->step - h->least.step <= LYAP_HISTORY_SHARPNESS_AGE_MAX;
    if (reason == LYAP_REASON_NONE && !is_young)
        reason = (enum lyap_reason)step->point->metrics[LYAP_METRIC_CURVATURE_MIN].reason;
    else if (reason == LYAP_REASON_NONE && !(h->least.value < 0))
        reason = LYAP_REASON_NO_ACCEPTED_CURVATURE;
    if (reason != LYAP_REASON_NONE) {
        lyap_step_absent(step, LYAP_METRIC_RATE_AT_LAMBDA_MIN, reason);
        return;
    }
    const double error = step->point->metrics[LYAP_METRIC_CURVATURE_MIN].error;
    lyap_step_give(step, LYAP_METRIC_RATE_AT_LAMBDA_MIN,
                   rate_within(t, h->least.value,
                               isnan(error) ? lyap_sharpness_error(h->least.value, 0) : error));
}

/* Before the point joins the ring of probes: did the ratio cross the limit with the rate? */
static void give_crossing(struct lyap_step *step)
{
    const struct lyap_history *h = &step->profile->history;
    const struct lyap_value *ratio = &step->point->metrics[LYAP_METRIC_STABILITY_RATIO];
    if (!lyap_is(ratio)) {
        lyap_step_absent(step, LYAP_METRIC_LIMIT_CROSSING, (enum lyap_reason)ratio->reason);
        return;
    }
    if (h->probe_count < CROSSING_PROBES_LEAST) {
        lyap_step_absent(step, LYAP_METRIC_LIMIT_CROSSING, LYAP_REASON_WARMING_UP);
        return;
    }
    double work[LYAP_HISTORY_PROBES];
    memcpy(work, h->probe_ratios, h->probe_count * sizeof *work);
    const double newest = h->probe_ratios[h->probe_count - 1];
    const double median = lyap_stats_median(work, h->probe_count);
    const bool is_crossed = median < CROSSING_FROM && newest <= CROSSING_TO &&
                            ratio->value > CROSSING_TO && step->lr > h->probe_lr;
    lyap_step_give(step, LYAP_METRIC_LIMIT_CROSSING,
                   lyap_value_estimate(is_crossed ? ratio->value : 0, ratio->error));
}

void lyap_step_limits(struct lyap_step *step)
{
    const struct lyap_transition t = lyap_profile_transition(step->profile, step->lr);
    const struct lyap_value rho = lyap_step_sharpness(step);
    give_decay(step, &rho);
    give_ratio(step, &t, &rho);
    give_least_rate(step, &t);
    give_crossing(step);
}
