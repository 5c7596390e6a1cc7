/* Sharpness and the least curvature from secant pairs. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "linalg.h"
#include "profile_internal.h"
#include "banned.h"

static const double GAP_TAU_MAX = 0.05;   /* SPEC 6.5: pairs over a gap */
static const double GAP_SHARE_LEAST = .1; /* least gap assumed to the second eigenvalue */
static const double METHOD_ERROR = .1;    /* nine of ten probes are nearer: SPEC 2.3, E4 */

/* A Ritz value with its residual; `is_pair`: there was a pair at this step. */
struct estimate {
    bool is_pair, is_accepted;
    double value, residual;
    double visited, visited_residual; /* the largest, accepted or not */
    double least, least_residual;     /* the least accepted one, of either sign; NaN: none */
    double asymmetry;                 /* of the window; NaN below two pairs */
    enum lyap_reason reason;
};

/* <x, x>_P of an active pair: the weighted row, or the plain one where P is 1. */
static struct lyap_value weighted(const struct lyap_step *step, enum lyap_reduce row,
                                  enum lyap_reduce plain)
{
    const struct lyap_value value = lyap_step_total(step, row);
    if (lyap_is(&value))
        return value;
    if (lyap_is_preconditioned(step->profile->declaration.optimizer.type))
        return lyap_value_absent(LYAP_REASON_NEEDS_STATE);
    return lyap_step_has_one_rate(step) ? lyap_step_total(step, plain) : value;
}

/* The exact quotient of the pushed pair and its exact residual. */
static void single_pair(struct lyap_step *step, struct estimate *e)
{
    const struct lyap_value sy = lyap_step_total(step, LYAP_REDUCE_PAIR_SY);
    const struct lyap_value ss = weighted(step, LYAP_REDUCE_PAIR_SPS, LYAP_REDUCE_PAIR_SS);
    const struct lyap_value yy = weighted(step, LYAP_REDUCE_PAIR_YPY, LYAP_REDUCE_PAIR_YY);
    if (!lyap_is(&sy))
        return;
    e->is_pair = true;
    const struct lyap_value *const needed[] = { &ss, &yy };
    e->reason = lyap_first_reason(needed, 2);
    if (e->reason == LYAP_REASON_NONE && !(ss.value > 0))
        e->reason = LYAP_REASON_INSUFFICIENT;
    if (e->reason != LYAP_REASON_NONE)
        return;
    e->value = e->visited = sy.value / ss.value;
    e->residual = e->visited_residual = sqrt(fmax(yy.value / ss.value - e->value * e->value, 0));
    e->is_accepted = e->value > 0 && e->residual <= LYAP_RITZ_RESIDUAL_MAX * e->value;
    step->is_pair_accepted = e->is_accepted;
    if (e->residual <= LYAP_RITZ_RESIDUAL_MAX * fabs(e->value)) {
        e->least = e->value;
        e->least_residual = e->residual;
    }
}

/* The least accepted value of a window; a single pair's own stays where the window has none. */
static void take_least(struct estimate *e, const struct lyap_ritz *ritz, double correction)
{
    const int least = lyap_ritz_accept_least(ritz);
    e->asymmetry = ritz->asymmetry;
    if (least < 0)
        return;
    const double value = ritz->values[least] + (least == 0 ? correction : 0);
    if (e->least <= value)
        return;
    e->least = value;
    e->least_residual = ritz->residuals[least];
}

/* Joins the exact quotient of the newest pair with the Ritz values of the last four. `correction`
 * moves these by what the sketch got wrong about the newest quotient: the errors nearly cancel.
 * The quotient is best once the client's power iteration has converged, the window while it has
 * not: its weight is the quotient's residual over the residual that would refuse it. A slow
 * iteration is low by r^2 / gap (Temple); the gap is that to the second Ritz value. */
static void join_window(struct estimate *e, const struct lyap_ritz *ritz, double correction)
{
    const double top = ritz->values[0] + correction;
    const double second = ritz->rank > 1 ? fmax(ritz->values[1] + correction, 0) : 0;
    if (!(e->visited >= top)) {
        e->visited = top;
        e->visited_residual = ritz->residuals[0];
    }
    if (lyap_ritz_accept(ritz) == 0) {
        const double limit = LYAP_RITZ_RESIDUAL_MAX * e->value;
        const double weight = e->is_accepted ? fmin(e->residual / limit, 1) : 1;
        e->value += weight * (top - e->value);
        e->residual += weight * (ritz->residuals[0] - e->residual);
        e->is_accepted = true;
    }
    if (!e->is_accepted)
        return;
    const double gap = fmax(e->value - second, fmax(e->residual, GAP_SHARE_LEAST * e->value));
    e->value += e->residual * e->residual / gap;
}

/* The largest accepted Ritz value of a window of path pairs. */
static void take_window(struct estimate *e, const struct lyap_pairs *pairs)
{
    struct lyap_ritz ritz;
    if (lyap_pairs_ritz(pairs, &ritz) != LYAP_OK) {
        e->reason = LYAP_REASON_INSUFFICIENT;
        return;
    }
    const int accepted = lyap_ritz_accept(&ritz);
    take_least(e, &ritz, 0);
    if (pairs->count < 2)
        e->asymmetry = NAN;
    e->visited = ritz.values[0];
    e->visited_residual = ritz.residuals[0];
    e->is_accepted = accepted >= 0;
    if (accepted >= 0) {
        e->value = ritz.values[accepted];
        e->residual = ritz.residuals[accepted];
    }
}

static struct estimate active_estimate(struct lyap_step *step)
{
    struct estimate e = {
        .visited = NAN, .least = NAN, .asymmetry = NAN, .reason = LYAP_REASON_NO_PROBE
    };
    struct lyap_pairs *pairs = &step->profile->active;
    single_pair(step, &e);
    if (!e.is_pair || e.reason != LYAP_REASON_NONE)
        return e;
    const double *s = step->partial->sketches[LYAP_SKETCH_PAIR_S];
    const double *y = step->partial->sketches[LYAP_SKETCH_PAIR_Y];
    if (!s || !y || pairs->capacity == 0)
        return e;
    double *slot_s, *slot_y;
    lyap_pairs_slot(pairs, &slot_s, &slot_y);
    memcpy(slot_s, s, pairs->size * sizeof *s);
    memcpy(slot_y, y, pairs->size * sizeof *y);
    struct lyap_ritz ritz;
    if (!lyap_pairs_commit(pairs) || pairs->count < 2 || lyap_pairs_ritz(pairs, &ritz) != LYAP_OK)
        return e;
    const double correction = e.value - lyap_pairs_newest_quotient(pairs);
    take_least(&e, &ritz, correction);
    join_window(&e, &ritz, correction);
    return e;
}

/* P is not one number: pairs of the path need it before they are sketched. */
static bool is_path_weighted(const struct lyap_step *step)
{
    return lyap_is_preconditioned(step->profile->declaration.optimizer.type) ||
           !lyap_step_has_one_rate(step);
}

/* Why the last update makes no secant pair of one function; NONE when it does. */
static enum lyap_reason passive_reason(const struct lyap_step *step, enum lyap_function function)
{
    const struct lyap_value *diff =
        function == LYAP_FUNCTION_PROBE ? &step->probe_diff_sq : &step->grad_diff_sq;
    const double tau = lyap_step_metric(step, LYAP_METRIC_WORK_RESIDUAL);
    const double norm = lyap_step_metric(step, LYAP_METRIC_GRAD_NORM);
    if (function == LYAP_FUNCTION_NONE)
        return step->pair != LYAP_REASON_NONE ? step->pair
               : lyap_is(&step->now_delta)    ? LYAP_REASON_DIFFERENT_BATCH
                                              : LYAP_REASON_NO_PROBE;
    if (is_path_weighted(step) && !step->partial->sketches[LYAP_SKETCH_PATH_S])
        return LYAP_REASON_NO_PROBE; /* P is not known, or the sketches of it were not pushed */
    if (!step->delta)
        return LYAP_REASON_NOT_PUSHED;
    if (step->is_imprecise ||
        (lyap_is(diff) && LYAP_ROUNDING_RMS * sqrt(2) * step->partial->grad_unit * norm >
                              LYAP_DELTA_PRECISION_MAX * sqrt(diff->value)))
        return LYAP_REASON_DELTA_PRECISION;
    if (!step->is_single && !(fabs(tau) < GAP_TAU_MAX))
        return LYAP_REASON_STEP_GAP;
    return LYAP_REASON_NONE;
}

/* D and its change of the gradient into the next slot; false: their sketches are not there. */
static bool fill_path(const struct lyap_step *step, struct lyap_pairs *pairs,
                      enum lyap_sketch_role role)
{
    const struct lyap_live *live = &step->profile->live;
    const bool is_weighted = is_path_weighted(step);
    const double *now = step->partial->sketches[is_weighted ? LYAP_SKETCH_PATH_Y : role];
    const double *before = live->sketches[role];
    const double *delta = is_weighted ? step->partial->sketches[LYAP_SKETCH_PATH_S] : step->delta;
    double *s, *y;
    if (!now || !delta || pairs->capacity == 0 ||
        (!is_weighted && (live->step < 0 || !live->has_sketch[role])))
        return false;
    lyap_pairs_slot(pairs, &s, &y);
    memcpy(s, delta, pairs->size * sizeof *s);
    for (uint32_t i = 0; i < pairs->size; i++)
        y[i] = is_weighted ? now[i] : now[i] - before[i];
    return true;
}

/* Secant pairs of the path itself: changes of the probe gradient, or of the full batch's. */
static struct estimate passive_estimate(struct lyap_step *step)
{
    struct estimate e = { .visited = NAN, .least = NAN, .asymmetry = NAN };
    struct lyap_profile *profile = step->profile;
    struct lyap_pairs *pairs = &profile->passive;
    const enum lyap_function function = lyap_step_is_probe(step)   ? LYAP_FUNCTION_PROBE
                                        : lyap_step_is_batch(step) ? LYAP_FUNCTION_BATCH
                                                                   : LYAP_FUNCTION_NONE;
    const enum lyap_sketch_role role =
        function == LYAP_FUNCTION_PROBE ? LYAP_SKETCH_PROBE_GRAD : LYAP_SKETCH_GRAD;
    e.reason = passive_reason(step, function);
    if (function != profile->passive_function && function != LYAP_FUNCTION_NONE) {
        lyap_pairs_clear(pairs);
        profile->passive_function = function;
    } else if (function == LYAP_FUNCTION_NONE && profile->passive_function == LYAP_FUNCTION_BATCH &&
               profile->declaration.data != LYAP_DATA_FULL_BATCH)
        lyap_pairs_clear(pairs); /* the next equal ids are another batch */
    if (e.reason != LYAP_REASON_NONE)
        return e;
    if (!fill_path(step, pairs, role)) {
        e.reason = LYAP_REASON_NOT_PUSHED;
        return e;
    }
    e.is_pair = lyap_pairs_commit(pairs);
    if (e.is_pair)
        take_window(&e, pairs);
    else
        e.reason = LYAP_REASON_ZERO_UPDATE;
    return e;
}

static void give_least(struct lyap_step *step, const struct estimate *e)
{
    if (isnan(e->asymmetry))
        lyap_step_absent(step, LYAP_METRIC_RITZ_ASYMMETRY, LYAP_REASON_WARMING_UP);
    else
        lyap_step_give(step, LYAP_METRIC_RITZ_ASYMMETRY,
                       lyap_value_estimate(e->asymmetry, step->error_share));
    if (isnan(e->least))
        lyap_step_absent(step, LYAP_METRIC_CURVATURE_MIN, LYAP_REASON_NO_ACCEPTED_CURVATURE);
    else
        lyap_step_give(
            step, LYAP_METRIC_CURVATURE_MIN,
            lyap_value_estimate(e->least, lyap_sharpness_error(e->least, e->least_residual)));
}

static void give_sharpness(struct lyap_step *step)
{
    static const enum lyap_metric metrics[] = {
        LYAP_METRIC_SHARPNESS, LYAP_METRIC_SHARPNESS_RESIDUAL, LYAP_METRIC_VISITED_CURVATURE,
        LYAP_METRIC_RITZ_ASYMMETRY, LYAP_METRIC_CURVATURE_MIN
    };
    struct estimate e = active_estimate(step);
    /* A run that probes is judged by its probes: path pairs see less (SPEC 2.2). */
    if (!e.is_pair && step->profile->active.count == 0)
        e = passive_estimate(step);
    if (!e.is_pair || e.reason != LYAP_REASON_NONE || isnan(e.visited)) {
        const enum lyap_reason reason =
            e.reason != LYAP_REASON_NONE ? e.reason : LYAP_REASON_NO_PROBE;
        for (unsigned i = 0; i < sizeof metrics / sizeof *metrics; i++)
            lyap_step_absent(step, metrics[i], reason);
        return;
    }
    lyap_step_give(step, LYAP_METRIC_VISITED_CURVATURE,
                   lyap_value_estimate(e.visited, e.visited_residual));
    give_least(step, &e);
    lyap_step_give(step, LYAP_METRIC_SHARPNESS_RESIDUAL,
                   lyap_value_exact(e.is_accepted ? e.residual : e.visited_residual));
    if (e.is_accepted)
        lyap_step_give(step, LYAP_METRIC_SHARPNESS,
                       lyap_value_estimate(e.value, lyap_sharpness_error(e.value, e.residual)));
    else
        lyap_step_absent(step, LYAP_METRIC_SHARPNESS, LYAP_REASON_NO_ACCEPTED_CURVATURE);
}

double lyap_sharpness_error(double value, double residual)
{
    return residual + METHOD_ERROR * fabs(value);
}

/* The newest accepted curvature, while it is young enough to serve. */
struct lyap_value lyap_step_sharpness(const struct lyap_step *step)
{
    const struct lyap_history *h = &step->profile->history;
    const struct lyap_value *now = &step->point->metrics[LYAP_METRIC_SHARPNESS];
    if (h->sharpness.step < 0 ||
        step->point->step - h->sharpness.step > LYAP_HISTORY_SHARPNESS_AGE_MAX)
        return lyap_value_absent(now->reason == LYAP_REASON_NONE ? LYAP_REASON_NO_ACCEPTED_CURVATURE
                                                                 : (enum lyap_reason)now->reason);
    return lyap_value_estimate(h->sharpness.value,
                               lyap_sharpness_error(h->sharpness.value, h->sharpness.residual));
}

void lyap_step_curvature(struct lyap_step *step)
{
    struct lyap_history *h = &step->profile->history;
    give_sharpness(step);
    lyap_history_absorb(h, LYAP_HISTORY_SHARPNESS, step->point);
    lyap_step_limits(step);
    lyap_history_absorb(h, LYAP_HISTORY_RATIO, step->point);
}
