/* Loss-scaled works, the score over them, the level monitor. */
#include <math.h>

#include "lyap/energy.h"
#include "profile_internal.h"
#include "banned.h"

/* E of the newest loss; the reason when there has been none. */
static struct lyap_value scaled(const struct lyap_step *step, struct lyap_value work)
{
    const double scale = step->profile->history.loss.scale;
    if (!lyap_is(&work))
        return work;
    if (isnan(scale))
        return lyap_value_absent(LYAP_REASON_NO_LOSS);
    work.value /= scale;
    work.error /= scale;
    return work;
}

static void give_loss(struct lyap_step *step)
{
    const struct lyap_loss_view *view = &step->profile->history.loss;
    const struct {
        enum lyap_metric metric;
        double value;
    } views[] = {
        { LYAP_METRIC_PROGRESS_SCALE, view->scale }, { LYAP_METRIC_LOSS_EXCESS, view->excess },
        { LYAP_METRIC_LOSS_SPREAD, view->spread },   { LYAP_METRIC_LOSS_RATIO, view->ratio },
        { LYAP_METRIC_LOSS_SLOPE, view->rise },      { LYAP_METRIC_LOSS_SLOPE_T, view->rise_t },
    };
    const bool has_loss = lyap_is(&step->point->metrics[LYAP_METRIC_LOSS]);
    for (unsigned i = 0; i < sizeof views / sizeof *views; i++) {
        if (!has_loss)
            lyap_step_absent(step, views[i].metric, LYAP_REASON_NO_LOSS);
        else if (isnan(views[i].value))
            lyap_step_absent(step, views[i].metric, LYAP_REASON_WARMING_UP);
        else
            lyap_step_give(step, views[i].metric, lyap_value_exact(views[i].value));
    }
}

static void give_works(struct lyap_step *step)
{
    const struct lyap_value *const ends[] = { &step->prev_delta, &step->now_delta };
    const enum lyap_reason reason = lyap_first_reason(ends, 2);
    struct lyap_value net =
        lyap_value_absent(reason == LYAP_REASON_NONE ? LYAP_REASON_NOT_PUSHED : reason);
    if (reason == LYAP_REASON_NONE) {
        net = step->now_delta;
        net.value = 0.5 * (step->prev_delta.value + step->now_delta.value);
        net.error = 0.5 * (step->prev_delta.error + step->now_delta.error);
        net.trust = step->prev_delta.trust > net.trust ? step->prev_delta.trust : net.trust;
    }
    lyap_step_give(step, LYAP_METRIC_NET_WORK, scaled(step, net));
    lyap_step_give(step, LYAP_METRIC_OVERSHOOT_WORK, scaled(step, step->now_delta));
}

/* <dg, D>/<D, P D>: kappa of the detector and, with P = 1, of the work identity. */
static void give_secants(struct lyap_step *step)
{
    const struct lyap_value *const needed[] = { &step->prev_delta, &step->now_delta,
                                                &step->delta_sq, &step->delta_p };
    enum lyap_reason reason = lyap_first_reason(needed, 3);
    if (reason == LYAP_REASON_NONE && step->delta_sq.value == 0)
        reason = LYAP_REASON_ZERO_UPDATE;
    struct lyap_value along = lyap_value_absent(reason ? reason : LYAP_REASON_NOT_PUSHED);
    struct lyap_value secant = along;
    if (reason == LYAP_REASON_NONE) {
        const double rise = step->now_delta.value - step->prev_delta.value;
        const double error = step->now_delta.error + step->prev_delta.error;
        const bool is_sketched = step->is_delta_sketched || !isnan(error);
        along = lyap_value_exact(lyap_energy_kappa_grad(
            step->prev_delta.value, step->now_delta.value, step->delta_sq.value));
        if (!lyap_step_is_batch(step)) /* of two functions: the change of batch is in it */
            along.trust = LYAP_TRUST_C;
        if (is_sketched)
            along.error = error / step->delta_sq.value;
        if (is_sketched && along.trust == LYAP_TRUST_I)
            along.trust = LYAP_TRUST_E;
        secant = step->delta_p;
        if (lyap_is(&secant))
            secant = lyap_value_estimate(rise / step->delta_p.value, error / step->delta_p.value);
    }
    lyap_step_give(step, LYAP_METRIC_CURVATURE_ALONG_STEP, along);
    lyap_step_give(step, LYAP_METRIC_SECANT_CURVATURE, secant);
}

static void give_edge(struct lyap_step *step)
{
    const struct lyap_history *h = &step->profile->history;
    const struct lyap_transition t = lyap_profile_transition(step->profile, step->lr);
    const struct lyap_value *secant = &step->point->metrics[LYAP_METRIC_SECANT_CURVATURE];
    const double mean = lyap_detector_edge(&h->detector);
    if (!lyap_is(secant))
        lyap_step_absent(step, LYAP_METRIC_EDGE_RATIO, (enum lyap_reason)secant->reason);
    else if (isnan(step->lr))
        lyap_step_absent(step, LYAP_METRIC_EDGE_RATIO, LYAP_REASON_NO_LR);
    else if (t.method == LYAP_METHOD_NONE)
        lyap_step_absent(step, LYAP_METRIC_EDGE_RATIO,
                         step->profile->declaration.has_optimizer ? LYAP_REASON_NO_LINEAR_LIMIT
                                                                  : LYAP_REASON_NO_OPTIMIZER);
    else {
        struct lyap_transition bare = t;
        bare.decay = 0; /* c = lr times the limit without decay */
        lyap_step_give(step, LYAP_METRIC_EDGE_RATIO,
                       lyap_value_estimate(mean / lyap_transition_limit(&bare), NAN));
    }
}

/* What the coming update will do: P and q. */
static void give_predictions(struct lyap_step *step)
{
    struct lyap_value slope = lyap_step_total(step, LYAP_REDUCE_GRAD_STEP);
    struct lyap_value square = lyap_step_total(step, LYAP_REDUCE_STEP_P);
    const struct lyap_declaration *declaration = &step->profile->declaration;
    const bool is_adam = lyap_is_preconditioned(declaration->optimizer.type);
    enum lyap_reason reason = LYAP_REASON_NONE;
    if (!lyap_is(&slope) && step->partial)
        reason = !declaration->has_optimizer ? LYAP_REASON_NO_OPTIMIZER
                 : isnan(step->lr)           ? LYAP_REASON_NO_LR
                 : is_adam                   ? LYAP_REASON_NEEDS_STATE
                                             : (enum lyap_reason)slope.reason;
    if (reason != LYAP_REASON_NONE)
        slope = lyap_value_absent(reason);
    struct lyap_value decrease = slope;
    decrease.value = -slope.value;
    lyap_step_give(step, LYAP_METRIC_PREDICTED_DECREASE, scaled(step, decrease));

    if (!lyap_is(&square) && !is_adam)
        square = lyap_step_total(step, LYAP_REDUCE_STEP_SQ);
    const double curvature = lyap_detector_curvature(&step->profile->history.detector);
    struct lyap_value change = slope;
    if (lyap_is(&slope) && !lyap_is(&square))
        change = square;
    else if (lyap_is(&slope) && isnan(curvature))
        change = lyap_value_absent(LYAP_REASON_WARMING_UP);
    else if (lyap_is(&slope))
        change = lyap_value_estimate(slope.value + 0.5 * curvature * square.value, NAN);
    lyap_step_give(step, LYAP_METRIC_PREDICTED_CHANGE, scaled(step, change));
}

void lyap_step_detect(struct lyap_step *step)
{
    struct lyap_history *h = &step->profile->history;
    lyap_history_absorb(h, LYAP_HISTORY_LOSS, step->point);
    give_loss(step);
    give_works(step);
    give_secants(step);
    lyap_history_absorb(h, LYAP_HISTORY_WORK, step->point);
    step->is_mismatched = h->mismatch > LYAP_MISMATCH_MAX;
    const struct lyap_value *work = &step->point->metrics[LYAP_METRIC_NET_WORK];
    struct lyap_value sum = *work;
    sum.value = h->net_work_sum;
    sum.error = NAN;
    lyap_step_give(step, LYAP_METRIC_NET_WORK_SUM, sum);
    give_edge(step);
    give_predictions(step);
}

static void give_score(struct lyap_step *step, enum lyap_score_kind kind, enum lyap_metric metric,
                       enum lyap_metric needed)
{
    const double score =
        lyap_score(kind, step->profile->history.observer.seen, step->profile->shares[kind]);
    const enum lyap_reason reason = (enum lyap_reason)step->point->metrics[needed].reason;
    if (isnan(score))
        lyap_step_absent(step, metric, reason ? reason : LYAP_REASON_WARMING_UP);
    else
        lyap_step_give(step, metric, lyap_value_estimate(score, NAN));
}

void lyap_step_score(struct lyap_step *step)
{
    lyap_history_absorb(&step->profile->history, LYAP_HISTORY_SCORE, step->point);
    give_score(step, LYAP_SCORE_NOW, LYAP_METRIC_INSTABILITY_SCORE, LYAP_METRIC_LOSS);
    give_score(step, LYAP_SCORE_NEXT, LYAP_METRIC_INSTABILITY_SCORE_NEXT,
               LYAP_METRIC_PREDICTED_DECREASE);
}

void lyap_step_level(struct lyap_step *step)
{
    struct lyap_history *h = &step->profile->history;
    lyap_history_absorb(h, LYAP_HISTORY_LEVEL, step->point);
    const bool is_pushed =
        lyap_is(&step->point->metrics[LYAP_METRIC_PROBE_LOSS]) ||
        (!h->is_level_on_probe && lyap_is(&step->point->metrics[LYAP_METRIC_LOSS]));
    if (h->has_evidence) {
        struct lyap_value evidence = lyap_value_estimate(h->evidence, NAN);
        evidence.trust = h->is_level_on_probe ? LYAP_TRUST_E : LYAP_TRUST_C;
        lyap_step_give(step, LYAP_METRIC_LOSS_LEVEL_EVIDENCE, evidence);
    } else
        lyap_step_absent(step, LYAP_METRIC_LOSS_LEVEL_EVIDENCE,
                         is_pushed              ? LYAP_REASON_WARMING_UP
                         : h->is_level_on_probe ? LYAP_REASON_NO_PROBE
                                                : LYAP_REASON_NO_LOSS);
    double least = INFINITY;
    for (uint32_t i = 0; i < h->probe_count; i++)
        least = fmin(least, h->probe_ratios[i]);
    if (h->probe_count < LYAP_HISTORY_PROBES)
        lyap_step_absent(step, LYAP_METRIC_UNSTABLE_RATIO,
                         h->probe_count == 0 ? LYAP_REASON_NO_PROBE : LYAP_REASON_WARMING_UP);
    else
        lyap_step_give(step, LYAP_METRIC_UNSTABLE_RATIO,
                       lyap_value_estimate(lyap_history_is_alarmed(h) ? least : 0, NAN));
}
