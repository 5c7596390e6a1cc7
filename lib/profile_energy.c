/* Work identity, energies and dissipation residuals of the last update. */
#include <math.h>

#include "lyap/energy.h"
#include "profile_internal.h"
#include "banned.h"

static const double ELL_FACTOR = 1.1;      /* ell = 1.1 x accepted curvature: SPEC 3.2 */
static const double WORK_ROUNDINGS = 1e4;  /* work below this many loss roundings: SPEC 3.1 */
static const double CONSISTENT_STEP = 0.1; /* kappa eta below which |tau| must be small: SPEC 9 */

/* Which inequality holds for the update (SPEC 3.0-3.5). */
enum form { FORM_DESCENT, FORM_GD, FORM_HEAVY_BALL, FORM_ADAM, FORM_PROX };

/* One function at both ends of the update. */
struct function {
    enum lyap_function kind;
    double loss0, loss1;
    double penalty0, penalty1; /* of a proximal run: what of the losses is not smooth */
    struct lyap_value work0, work1;
    enum lyap_reason reason; /* why there is none */
};

static struct function batch_function(const struct lyap_step *step)
{
    const bool is_proximal = step->profile->declaration.optimizer.prox != LYAP_PROX_NONE;
    return (struct function){ .kind = LYAP_FUNCTION_BATCH,
                              .loss0 = step->profile->history.last.loss,
                              .loss1 = lyap_step_metric(step, LYAP_METRIC_LOSS),
                              .penalty0 = is_proximal ? step->profile->live.penalty : 0,
                              .penalty1 = lyap_step_penalty(step),
                              .work0 = step->prev_delta,
                              .work1 = step->now_delta };
}

/* Full-batch data: the loss the optimizer descends. Else the probe, else equal batch ids. */
static struct function function_of(const struct lyap_step *step)
{
    const bool is_batch = lyap_step_is_batch(step);
    struct function f = { .kind = LYAP_FUNCTION_NONE };
    if (is_batch && step->profile->declaration.data == LYAP_DATA_FULL_BATCH)
        f = batch_function(step);
    if (!(isfinite(f.loss1 - f.loss0) && f.kind) && lyap_step_is_probe(step))
        f = (struct function){ .kind = LYAP_FUNCTION_PROBE,
                               .loss0 = step->profile->history.last.probe_loss,
                               .loss1 = lyap_step_metric(step, LYAP_METRIC_PROBE_LOSS),
                               .work0 = step->probe_prev_delta,
                               .work1 = step->probe_delta };
    if (!(isfinite(f.loss1 - f.loss0) && f.kind) && is_batch)
        f = batch_function(step);
    if (step->pair != LYAP_REASON_NONE)
        f.reason = step->pair;
    else if (!step->is_linked)
        f.reason = step->updates == 0 ? LYAP_REASON_NO_PREVIOUS : LYAP_REASON_STEP_GAP;
    else if (f.kind == LYAP_FUNCTION_NONE)
        f.reason = LYAP_REASON_DIFFERENT_BATCH;
    else if (!isfinite(f.loss1 - f.loss0))
        f.reason = LYAP_REASON_NO_LOSS;
    else if (step->is_imprecise)
        f.reason = LYAP_REASON_DELTA_PRECISION;
    else if (step->delta_sq.value == 0)
        f.reason = LYAP_REASON_ZERO_UPDATE;
    return f;
}

/* Unit roundoff of losses that travel as decimals: F32 when both are F32 numbers. */
static double loss_unit(double loss0, double loss1)
{
    const bool is_single = (double)(float)loss0 == loss0 && (double)(float)loss1 == loss1;
    return is_single ? 0x1p-24 : 0x1p-53;
}

static struct lyap_value work_residual(const struct lyap_step *step, const struct function *f)
{
    if (f->reason != LYAP_REASON_NONE)
        return lyap_value_absent(f->reason);
    if (f->work0.trust != LYAP_TRUST_I || f->work1.trust != LYAP_TRUST_I)
        return lyap_value_absent(!step->is_delta_sketched && step->partial->is_role_order
                                     ? LYAP_REASON_ROLE_ORDER
                                     : LYAP_REASON_SKETCH_RETENTION);
    const double work = 0.5 * (fabs(f->work0.value) + fabs(f->work1.value));
    const double rounding = loss_unit(f->loss0, f->loss1) * fmax(fabs(f->loss0), fabs(f->loss1));
    if (work < WORK_ROUNDINGS * rounding)
        return lyap_value_absent(LYAP_REASON_LOSS_PRECISION);
    if (isnan(f->penalty0) || isnan(f->penalty1))
        return lyap_value_absent(LYAP_REASON_NO_PREVIOUS);
    double tau; /* the gradient is that of the smooth part */
    lyap_energy_trapezoid(f->loss0 - f->penalty0, f->loss1 - f->penalty1, f->work0.value,
                          f->work1.value, &tau);
    struct lyap_value value = lyap_value_exact(tau);
    value.error = 2 * rounding / work;
    return value;
}

/* |tau| where the step is short for its curvature: there it must be small. */
static void give_inconsistency(struct lyap_step *step, const struct function *f)
{
    const struct lyap_value *tau = &step->point->metrics[LYAP_METRIC_WORK_RESIDUAL];
    const double lr = step->profile->history.last.lr;
    if (!lyap_is(tau)) {
        lyap_step_absent(step, LYAP_METRIC_INCONSISTENCY, (enum lyap_reason)tau->reason);
        return;
    }
    const double square = lyap_is(&step->delta_p) ? step->delta_p.value : step->delta_sq.value;
    const double length = (f->work1.value - f->work0.value) / square * lr;
    if (isnan(length))
        lyap_step_absent(step, LYAP_METRIC_INCONSISTENCY, LYAP_REASON_NO_LR);
    else
        lyap_step_give(
            step, LYAP_METRIC_INCONSISTENCY,
            lyap_value_estimate(length < CONSISTENT_STEP ? fabs(tau->value) : 0, tau->error));
}

/* From the losses alone, where the one of the gradients is known as well. */
static void give_loss_curvature(struct lyap_step *step, const struct function *f)
{
    const struct lyap_value *tau = &step->point->metrics[LYAP_METRIC_WORK_RESIDUAL];
    if (!lyap_is(tau)) {
        lyap_step_absent(step, LYAP_METRIC_CURVATURE_OF_LOSS, (enum lyap_reason)tau->reason);
        return;
    }
    const double square = step->delta_sq.value;
    struct lyap_value value = lyap_value_exact(lyap_energy_kappa_loss(
        f->loss0 - f->penalty0, f->loss1 - f->penalty1, f->work0.value, square));
    value.error = 4 * loss_unit(f->loss0, f->loss1) * fmax(fabs(f->loss0), fabs(f->loss1)) / square;
    lyap_step_give(step, LYAP_METRIC_CURVATURE_OF_LOSS, value);
}

void lyap_step_work(struct lyap_step *step)
{
    const struct function f = function_of(step);
    lyap_step_give(step, LYAP_METRIC_WORK_RESIDUAL, work_residual(step, &f));
    give_inconsistency(step, &f);
    give_loss_curvature(step, &f);
}

/* ---- energies ---- */

static enum form form_of(const struct lyap_step *step, const struct function *f)
{
    const struct lyap_profile *profile = step->profile;
    const struct lyap_transition t = lyap_profile_transition(profile, 1);
    const enum lyap_optimizer_type type = profile->declaration.optimizer.type;
    if (f->kind != LYAP_FUNCTION_BATCH || profile->live.is_clipped)
        return FORM_DESCENT;
    if (type == LYAP_OPTIMIZER_PROXGD || type == LYAP_OPTIMIZER_PROJGD)
        return FORM_PROX;
    if (type == LYAP_OPTIMIZER_RMSPROP)
        return t.method == LYAP_METHOD_GD ? FORM_ADAM : FORM_DESCENT;
    switch (t.method) {
    case LYAP_METHOD_GD:
        return FORM_GD;
    case LYAP_METHOD_HEAVY_BALL:
        return t.gain > 0 ? FORM_HEAVY_BALL : FORM_DESCENT;
    case LYAP_METHOD_ADAM:
        return FORM_ADAM;
    case LYAP_METHOD_NONE:
    case LYAP_METHOD_NESTEROV:
        break;
    }
    return FORM_DESCENT;
}

static bool has_memory(enum form form)
{
    return form == FORM_HEAVY_BALL || form == FORM_ADAM;
}

static enum lyap_reason energy_reason(const struct lyap_step *step, const struct function *f,
                                      enum form form)
{
    const struct lyap_history *h = &step->profile->history;
    if (f->reason != LYAP_REASON_NONE)
        return f->reason;
    if (!step->is_single)
        return LYAP_REASON_STEP_GAP;
    if (form == FORM_DESCENT)
        return LYAP_REASON_NONE;
    if (step->is_mismatched)
        return LYAP_REASON_OPTIMIZER_MISMATCH;
    if (!(h->last.lr > 0))
        return LYAP_REASON_NO_LR;
    return lyap_is(&step->delta_p) ? LYAP_REASON_NONE : (enum lyap_reason)step->delta_p.reason;
}

/* Why the energy before the update is not known: momentum needs the update before. */
static enum lyap_reason memory_reason(const struct lyap_step *step, enum form form, double beta)
{
    const struct lyap_history *h = &step->profile->history;
    if (!has_memory(form) || beta == 0)
        return LYAP_REASON_NONE;
    if (h->before.step < 0 || isnan(h->last.update_norm_p))
        return LYAP_REASON_NO_PREVIOUS;
    if (h->last.step - h->before.step != 1)
        return LYAP_REASON_STEP_GAP;
    if (!(h->before.lr > 0))
        return LYAP_REASON_NO_LR;
    const struct lyap_value before = lyap_step_total(step, LYAP_REDUCE_DELTA_P_PREV);
    if (form == FORM_ADAM && !lyap_is(&before))
        return LYAP_REASON_NEEDS_STATE;
    return LYAP_REASON_NONE;
}

static struct lyap_energy_input input_of(const struct lyap_step *step, const struct function *f,
                                         enum form form)
{
    const struct lyap_history *h = &step->profile->history;
    const struct lyap_transition t = lyap_profile_transition(step->profile, 1);
    const double beta =
        step->profile->declaration.optimizer.type == LYAP_OPTIMIZER_RMSPROP ? 0 : t.beta;
    struct lyap_energy_input in = {
        .loss0 = f->loss0,
        .loss1 = f->loss1,
        .work0 = f->work0.value,
        .grad0_sq = h->last.grad_norm * h->last.grad_norm,
        .delta_sq = form == FORM_DESCENT && !lyap_is(&step->delta_p) ? step->delta_sq.value
                                                                     : step->delta_p.value,
        .lr1 = h->last.lr * t.gain,
        .lr0 = h->last.lr * t.gain,
        .beta = beta,
    };
    if (has_memory(form) && beta > 0) {
        in.before_sq = h->last.update_norm_p * h->last.update_norm_p;
        in.lr0 = h->before.lr * t.gain;
        in.delta_p_before = lyap_step_total(step, LYAP_REDUCE_DELTA_P_PREV).value;
    }
    return in;
}

static struct lyap_energy_terms terms_of(enum form form, const struct lyap_energy_input *in)
{
    struct lyap_energy_terms terms;
    switch (form) {
    case FORM_GD:
        return lyap_energy_gd(in);
    case FORM_HEAVY_BALL:
        return lyap_energy_heavy_ball(in);
    case FORM_ADAM:
        return lyap_energy_adam(in);
    case FORM_PROX:
        terms = lyap_energy_gd(in);
        terms.scale = in->delta_sq / in->lr1;
        return terms;
    case FORM_DESCENT:
        break;
    }
    return lyap_energy_descent(in);
}

/* E at the end of the update. */
static double energy_of(enum form form, const struct lyap_energy_input *in)
{
    const double memory = 0.5 * in->beta / in->lr1 * in->delta_sq;
    switch (form) {
    case FORM_HEAVY_BALL:
        return in->loss1 + memory;
    case FORM_ADAM:
        return in->loss1 + memory / (1 - in->beta);
    case FORM_DESCENT:
    case FORM_GD:
    case FORM_PROX:
        break;
    }
    return in->loss1;
}

/* What the inequality of Adam leaves out of AdamW's decay, in the loss's unit: its momentum does
 * not average wd P theta, and what is missing changes by <P D_before + dP theta, D> in a step.
 * Without the decay's own energy: all of it. */
static double decoupled_error(const struct lyap_step *step, const struct lyap_energy_input *in,
                              const struct lyap_decay *decay, double wd)
{
    const double memory = in->beta / (1 - in->beta);
    if (isnan(decay->drift0)) {
        const double share =
            wd * in->lr1 * step->profile->history.last.param_norm / sqrt(step->delta_sq.value);
        return 2 * share * (1 + 2 * in->beta) / (1 - in->beta) * in->delta_sq / in->lr1;
    }
    const double path = wd * sqrt(in->before_sq * in->delta_sq);
    const double turn =
        sqrt(2 * wd * fabs(decay->drift0) * fabs(in->delta_sq - in->delta_p_before));
    return memory * (path + turn);
}

/* Error of a residual: what sketched products carry, and AdamW's decay. */
static double residual_error(const struct lyap_step *step, const struct function *f,
                             const struct lyap_energy_input *in, const struct lyap_decay *decay,
                             double scale)
{
    double error = 0;
    if (f->work0.trust != LYAP_TRUST_I)
        error += f->work0.error;
    if (step->is_delta_sketched)
        error += step->delta_sq.error * fabs(1 / in->lr1 - 0.5 * in->ell);
    const struct lyap_transition t = lyap_profile_transition(step->profile, 1);
    if (t.method == LYAP_METHOD_ADAM && t.decay > 0 && f->kind == LYAP_FUNCTION_BATCH)
        error += decoupled_error(step, in, decay, t.decay);
    return error / scale;
}

static const enum lyap_metric residual_metrics[] = { LYAP_METRIC_ENERGY_BOUND,
                                                     LYAP_METRIC_ENERGY_SCALE,
                                                     LYAP_METRIC_DISSIPATION_RESIDUAL,
                                                     LYAP_METRIC_SMOOTHNESS_RESIDUAL };

static void absent_residuals(struct lyap_step *step, enum lyap_reason reason)
{
    for (unsigned i = 0; i < sizeof residual_metrics / sizeof *residual_metrics; i++)
        lyap_step_absent(step, residual_metrics[i], reason);
}

static void give_residuals(struct lyap_step *step, const struct function *f,
                           struct lyap_energy_input *in, enum form form,
                           const struct lyap_decay *decay)
{
    const struct lyap_value rho = lyap_step_sharpness(step);
    if (!lyap_is(&rho)) {
        absent_residuals(step, (enum lyap_reason)rho.reason);
        return;
    }
    in->ell = ELL_FACTOR * rho.value;
    struct lyap_energy_terms terms = terms_of(form, in);
    terms.bound -= decay->step + decay->drift; /* the decay's own curvature; its change with P */
    if (!(terms.scale > 0)) {
        absent_residuals(step, LYAP_REASON_INSUFFICIENT);
        return;
    }
    const double error = residual_error(step, f, in, decay, terms.scale);
    lyap_step_give(step, LYAP_METRIC_ENERGY_BOUND, lyap_value_estimate(terms.bound, NAN));
    lyap_step_give(step, LYAP_METRIC_ENERGY_SCALE, lyap_value_estimate(terms.scale, NAN));
    lyap_step_give(step, LYAP_METRIC_DISSIPATION_RESIDUAL,
                   lyap_value_estimate(lyap_energy_dissipation(&terms), error));
    lyap_step_give(step, LYAP_METRIC_SMOOTHNESS_RESIDUAL,
                   lyap_value_estimate(lyap_energy_smoothness(&terms), error));
}

static void give_energy(struct lyap_step *step, const struct function *f)
{
    const enum form form = form_of(step, f);
    enum lyap_reason reason = energy_reason(step, f, form);
    if (reason != LYAP_REASON_NONE) {
        lyap_step_absent(step, LYAP_METRIC_ENERGY, reason);
        lyap_step_absent(step, LYAP_METRIC_ENERGY_CHANGE, reason);
        absent_residuals(step, reason);
        return;
    }
    struct lyap_energy_input in = input_of(step, f, form);
    struct lyap_decay decay = { 0 };
    if (form == FORM_DESCENT) { /* by the gradient, so of the smooth part alone */
        in.loss0 -= f->penalty0;
        in.loss1 -= f->penalty1;
    }
    if (form == FORM_GD || form == FORM_HEAVY_BALL || form == FORM_ADAM) {
        decay = lyap_step_decay(step);
        in.loss0 += decay.energy0;
        in.loss1 += decay.energy1;
        /* <theta, D> = (|theta_t|^2 - |theta_{t-1}|^2 - |D|^2) / 2 */
        in.work0 += decay.energy1 - decay.energy0 - decay.step;
    }
    lyap_step_give(step, LYAP_METRIC_ENERGY, lyap_value_estimate(energy_of(form, &in), NAN));
    reason = memory_reason(step, form, in.beta);
    if (reason == LYAP_REASON_NONE && isnan(decay.energy0))
        reason = LYAP_REASON_NO_PREVIOUS;
    if (reason != LYAP_REASON_NONE) {
        lyap_step_absent(step, LYAP_METRIC_ENERGY_CHANGE, reason);
        absent_residuals(step, reason);
        return;
    }
    lyap_step_give(step, LYAP_METRIC_ENERGY_CHANGE,
                   lyap_value_estimate(terms_of(form, &in).change, NAN));
    give_residuals(step, f, &in, form, &decay);
}

static void give_h1h2(struct lyap_step *step, const struct function *f)
{
    const enum form form = form_of(step, f);
    enum lyap_reason reason = energy_reason(step, f, form);
    const double lr = step->profile->history.last.lr;
    double norm = NAN;
    struct lyap_decay decay = { 0 };
    if (reason == LYAP_REASON_NONE && f->kind != LYAP_FUNCTION_BATCH)
        reason = LYAP_REASON_DIFFERENT_BATCH;
    if (reason == LYAP_REASON_NONE && form == FORM_GD && lyap_step_has_one_rate(step)) {
        decay = lyap_step_decay(step);
        norm = sqrt(lyap_step_objective_grad_sq(step));
    } else if (reason == LYAP_REASON_NONE && form == FORM_PROX && lyap_is(&step->grad_diff_sq))
        norm = lyap_energy_subgradient_norm(step->grad_diff_sq.value,
                                            step->now_delta.value - step->prev_delta.value,
                                            step->delta_sq.value, lr);
    else if (reason == LYAP_REASON_NONE)
        reason = LYAP_REASON_NOT_APPLICABLE;
    if (reason != LYAP_REASON_NONE) {
        lyap_step_absent(step, LYAP_METRIC_SUFFICIENT_DECREASE, reason);
        lyap_step_absent(step, LYAP_METRIC_RELATIVE_ERROR, reason);
        return;
    }
    const struct lyap_energy_h1h2 pair = lyap_energy_h1h2(
        f->loss0 + decay.energy0, f->loss1 + decay.energy1, norm, step->delta_sq.value, lr);
    struct lyap_value a = lyap_value_exact(pair.decrease), b = lyap_value_exact(pair.error);
    if (step->is_delta_sketched)
        a.trust = b.trust = LYAP_TRUST_E;
    lyap_step_give(step, LYAP_METRIC_SUFFICIENT_DECREASE, a);
    lyap_step_give(step, LYAP_METRIC_RELATIVE_ERROR, b);
}

static void give_window(struct lyap_step *step)
{
    struct lyap_history *h = &step->profile->history;
    const struct lyap_value *residual = &step->point->metrics[LYAP_METRIC_DISSIPATION_RESIDUAL];
    if (!lyap_is(residual)) {
        lyap_step_absent(step, LYAP_METRIC_DISSIPATION_WINDOW, (enum lyap_reason)residual->reason);
        return;
    }
    if (!lyap_window_is_full(&h->changes)) {
        lyap_step_absent(step, LYAP_METRIC_DISSIPATION_WINDOW, LYAP_REASON_WARMING_UP);
        return;
    }
    double excess = 0, scale = 0;
    for (uint32_t i = 0; i < lyap_window_count(&h->changes); i++) {
        excess += lyap_window_newest(&h->changes, i) + fmax(lyap_window_newest(&h->bounds, i), 0);
        scale += lyap_window_newest(&h->scales, i);
    }
    lyap_step_give(step, LYAP_METRIC_DISSIPATION_WINDOW, lyap_value_estimate(excess / scale, NAN));
}

void lyap_step_energy(struct lyap_step *step)
{
    const struct function f = function_of(step);
    give_energy(step, &f);
    give_h1h2(step, &f);
    lyap_history_absorb(&step->profile->history, LYAP_HISTORY_ENERGY, step->point);
    give_window(step);
}
