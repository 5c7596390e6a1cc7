/* The advice that goes with an alert, and the ladder it climbs. */
#include "lyap/advice.h"

#include <math.h>
#include <stdio.h>

#include "lyap/transition.h"

static const double RISE_SHARE = 0.1;     /* of what is at stake: an eye sees the curve turn */
static const double LOST_SHARE = 1;       /* of what is at stake: half of the progress */
static const double SAME_RATE = 1 - 1e-3; /* up to the digits a client may have rounded away */
static const double REACHED = 1 + 1e-3;   /* the same from above */
static const double TAKEN = 0.5;          /* of an advised limit: so Guard and docs/api.md */
static const double RATE_RISE = 1.0625;   /* a point: a rate must prove itself to be healthy */

static double column(const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *v = &point->metrics[metric];
    return v->reason == LYAP_REASON_NONE ? v->value : (double)NAN;
}

/* ---- the ladder ---- */

void lyap_advice_init(struct lyap_advice *advice, double healthy_lr)
{
    *advice = (struct lyap_advice){ .calm_step = -1,
                                    .cut_step = -1,
                                    .lr = NAN,
                                    .pushed_lr = NAN,
                                    .is_lowered = !isnan(healthy_lr),
                                    .healthy_lr = healthy_lr,
                                    .healthy_lr_max = healthy_lr };
}

static bool is_quiet(const struct lyap_point *point)
{
    return point->action.kind == LYAP_ACTION_CONTINUE && point->state != LYAP_STATE_UNSTABLE;
}

/* More than the usual spread of the losses above `share` of what is at stake. */
static bool has_risen(const struct lyap_point *point, double share)
{
    const double excess = column(point, LYAP_METRIC_LOSS_EXCESS);
    const double spread = column(point, LYAP_METRIC_LOSS_SPREAD);
    return excess > share + (isnan(spread) ? 0 : spread);
}

static bool is_calm(const struct lyap_point *point)
{
    return is_quiet(point) && !point->is_event_only && !has_risen(point, RISE_SHARE);
}

bool lyap_advice_is_lost(const struct lyap_advice *advice, const struct lyap_point *point)
{
    return advice->lost > 0 && has_risen(point, LOST_SHARE);
}

static bool is_rate(double lr)
{
    return lr > 0 && isfinite(lr);
}

/* What the rate does by itself the healthy one would have done too. A fall while less than what was
 * advised has been taken is its following, however slow; so what advice took stays counted through
 * any rise and fall of the schedule. Above the healthy rate nothing is said about it. */
static double healthy_at(const struct lyap_advice *advice, double lr)
{
    const double before = advice->pushed_lr, healthy = advice->healthy_lr;
    const bool is_followed = lr < before && before > TAKEN * advice->lr * REACHED;
    if (!advice->is_lowered || !is_rate(lr) || isnan(before) || isnan(healthy) || is_followed)
        return healthy;
    const double to = lr < before ? fmin(lr, healthy) : lr;
    return fmin(advice->healthy_lr_max, healthy * (to / fmin(before, healthy)));
}

/* The healthy rate sinks with a schedule at once, but rises slowly: the loss shows only some points
 * later what a rate that somebody raised does. */
static void absorb_rate(struct lyap_advice *advice, const struct lyap_point *point)
{
    const double lr = column(point, LYAP_METRIC_LR);
    const bool is_proof =
        (is_calm(point) && point->state == LYAP_STATE_HEALTHY) || advice->quiet >= LYAP_ADVICE_CALM;
    if (advice->quiet >= LYAP_ADVICE_REFILL)
        advice->is_lowered = false;
    if (!is_rate(lr))
        return;
    advice->healthy_lr = healthy_at(advice, lr);
    advice->pushed_lr = lr;
    if (!is_proof)
        return;
    if (isnan(advice->healthy_lr) || (lr < advice->healthy_lr && !advice->is_lowered))
        advice->healthy_lr = advice->healthy_lr_max = lr;
    else if (lr > advice->healthy_lr)
        advice->healthy_lr = fmin(lr, RATE_RISE * advice->healthy_lr);
    if (!advice->is_lowered || advice->healthy_lr > advice->healthy_lr_max)
        advice->healthy_lr_max = advice->healthy_lr;
}

/* The newest lower rate without a number has not had the time to show yet. */
static bool is_showing(const struct lyap_advice *advice, int64_t step)
{
    return advice->cut_step >= 0 && step - advice->cut_step < LYAP_ADVICE_PATIENCE;
}

/* A lower rate counts when the one before was reached, or, where no rate is known, had time to
 * show. */
static void count_cut(struct lyap_advice *advice, const struct lyap_point *point)
{
    const double lr = column(point, LYAP_METRIC_LR), advised = point->action.lr;
    if (isnan(advised)) {
        if (is_showing(advice, point->step))
            return;
        advice->cut_step = point->step;
        advice->cuts++;
        return;
    }
    if (isnan(advice->lr) || (advised < advice->lr * SAME_RATE && lr <= advice->lr * REACHED))
        advice->cuts++;
}

/* Counts what the point was answered with. */
static void absorb_action(struct lyap_advice *advice, const struct lyap_point *point)
{
    const struct lyap_action *action = &point->action;
    const double lr = column(point, LYAP_METRIC_LR);
    if (action->kind == LYAP_ACTION_SKIP)
        advice->skips++;
    if (action->kind == LYAP_ACTION_ROLLBACK)
        advice->is_back_due = true;
    if (action->kind == LYAP_ACTION_REDUCE_LR)
        count_cut(advice, point);
    if (action->kind != LYAP_ACTION_REDUCE_LR && action->kind != LYAP_ACTION_ROLLBACK)
        return;
    advice->lr = fmin(advice->lr, action->lr); /* the one that is not NaN */
    advice->is_lowered = true;
    if (isnan(advice->healthy_lr) && is_rate(lr))
        advice->healthy_lr = advice->healthy_lr_max = lr;
}

void lyap_advice_absorb(struct lyap_advice *advice, const struct lyap_point *point)
{
    if (is_calm(point))
        advice->calm_step = point->step;
    advice->quiet = is_quiet(point) ? advice->quiet + 1 : 0;
    absorb_rate(advice, point);
    absorb_action(advice, point);
    advice->lost = has_risen(point, LOST_SHARE) ? advice->lost + 1 : 0;
    if (advice->quiet >= LYAP_ADVICE_SKIP_REST)
        advice->skips = 0;
    if (advice->quiet >= LYAP_ADVICE_CALM) {
        advice->cuts = 0;
        advice->cut_step = -1;
        advice->lr = NAN;
        advice->is_back_due = false;
    }
}

/* ---- reduce_lr ---- */

/* Below it no rate is advised; NaN: no rate is known to have been healthy. */
static double least_rate(const struct lyap_advice *advice, const struct lyap_point *point)
{
    return healthy_at(advice, column(point, LYAP_METRIC_LR)) / LYAP_ADVICE_SHARE;
}

/* The accepted curvature of the point, or the one its stability ratio was made with. */
static double curvature_of(const struct lyap_point *point)
{
    const double own = column(point, LYAP_METRIC_SHARPNESS);
    if (!isnan(own))
        return own;
    return column(point, LYAP_METRIC_STABILITY_RATIO) * column(point, LYAP_METRIC_STABILITY_LIMIT);
}

static void halve(double lr, double curvature, double lr_max, struct lyap_action *ret_action)
{
    ret_action->lr = 0.5 * lr;
    if (isnan(lr_max))
        (void)snprintf(ret_action->reason, sizeof ret_action->reason,
                       "half the present learning rate %.4g: no accepted curvature to compute the "
                       "stability limit from",
                       lr);
    else
        (void)snprintf(ret_action->reason, sizeof ret_action->reason,
                       "half the present learning rate %.4g: the linear limit at curvature %.4g "
                       "allows up to %.4g, so it is not the cause",
                       lr, curvature, lr_max);
}

static void reduce(const struct lyap_advice_question *question, struct lyap_action *ret_action)
{
    const double lr = column(question->point, LYAP_METRIC_LR);
    const double curvature = curvature_of(question->point);
    if (!(lr > 0)) {
        (void)snprintf(
            ret_action->reason, sizeof ret_action->reason,
            "reduce the learning rate, say to half: none is pushed or declared, so that no "
            "number can be given");
        return;
    }
    struct lyap_transition t = { .method = LYAP_METHOD_NONE, .lr = lr, .gain = 1 };
    if (question->optimizer)
        t = lyap_transition_strictest(question->optimizer, NULL, lr);
    const double lr_max = curvature > 0 ? lyap_transition_lr_max(&t, curvature) : (double)NAN;
    if (!(lr_max < lr)) {
        halve(lr, curvature, lr_max, ret_action);
        return;
    }
    ret_action->lr = lr_max;
    (void)snprintf(ret_action->reason, sizeof ret_action->reason,
                   "curvature %.4g reaches the limit %s at lr %.4g: the largest stable rate, the "
                   "limit itself; now %.4g",
                   curvature, lyap_transition_formula(t.method), lr_max, lr);
}

/* ---- skip, rollback, stop ---- */

/* Non-finite in what the coming update is made of, and the parameters still clean. */
static bool is_only_coming(const struct lyap_point *point)
{
    const double params = column(point, LYAP_METRIC_NONFINITE_PARAM);
    const double grads = column(point, LYAP_METRIC_NONFINITE_GRAD);
    const double loss = column(point, LYAP_METRIC_LOSS);
    const bool has_loss = point->metrics[LYAP_METRIC_LOSS].reason == LYAP_REASON_NONE;
    return params <= 0 && (grads > 0 || (has_loss && !isfinite(loss)));
}

static void skip(const struct lyap_point *point, const char *why, struct lyap_action *ret_action)
{
    ret_action->kind = LYAP_ACTION_SKIP;
    ret_action->step = point->step;
    (void)snprintf(ret_action->reason, sizeof ret_action->reason,
                   "leave out the update of step %lld: %s", (long long)point->step, why);
}

static void go_back(const struct lyap_advice *advice, const struct lyap_advice_question *question,
                    struct lyap_action *ret_action)
{
    const double lr = column(question->point, LYAP_METRIC_LR);
    const double least = least_rate(advice, question->point);
    const bool is_least = 0.5 * lr < least;
    ret_action->kind = LYAP_ACTION_ROLLBACK;
    ret_action->step = advice->calm_step;
    ret_action->lr = is_least ? fmin(lr, least) : 0.5 * lr;
    (void)snprintf(ret_action->reason, sizeof ret_action->reason,
                   "step %lld was the last at which nothing was wrong; go on from there or before "
                   "at %s, with other batches; rollbacks left: %u",
                   (long long)advice->calm_step, is_least ? "the least rate" : "half the rate",
                   question->rollbacks_left);
}

static void stop(const char *why, struct lyap_action *ret_action)
{
    ret_action->kind = LYAP_ACTION_STOP;
    (void)snprintf(ret_action->reason, sizeof ret_action->reason, "%s", why);
}

/* Where a rollback is due and none is left. */
static void give_up(const struct lyap_advice_question *question, struct lyap_action *ret_action)
{
    const bool is_lowered = question->wanted != LYAP_ACTION_ROLLBACK;
    ret_action->kind = LYAP_ACTION_STOP;
    if (question->rollbacks_used == 0)
        (void)snprintf(ret_action->reason, sizeof ret_action->reason,
                       "%s, and rollbacks_max allows no going back",
                       is_lowered ? "a lower rate did not help" : "the state is not sound");
    else
        (void)snprintf(ret_action->reason, sizeof ret_action->reason,
                       "%s: the rollbacks of this run are spent (%u)",
                       is_lowered ? "neither a lower rate nor going back helped"
                                  : "going back did not help",
                       question->rollbacks_used);
}

void lyap_advice_give(const struct lyap_advice *advice, const struct lyap_advice_question *question,
                      struct lyap_action *ret_action)
{
    enum lyap_action_kind kind = question->wanted;
    *ret_action = (struct lyap_action){ .kind = kind, .lr = NAN };
    if (kind == LYAP_ACTION_ROLLBACK && advice->skips < LYAP_ADVICE_SKIPS &&
        is_only_coming(question->point)) {
        skip(question->point, "its gradient or loss is not finite, the parameters are", ret_action);
        return;
    }
    if (kind == LYAP_ACTION_SKIP && advice->skips < LYAP_ADVICE_SKIPS) {
        skip(question->point, "it would do harm", ret_action);
        return;
    }
    if (kind == LYAP_ACTION_SKIP)
        ret_action->kind = kind = LYAP_ACTION_REDUCE_LR; /* so many batches are not the exception */
    if (kind == LYAP_ACTION_REDUCE_LR && advice->calm_step >= 0 && question->rollbacks_left > 0 &&
        lyap_advice_is_lost(advice, question->point)) {
        go_back(advice, question, ret_action);
        return;
    }
    if (kind == LYAP_ACTION_REDUCE_LR &&
        (advice->cuts < LYAP_ADVICE_CUTS || is_showing(advice, question->point->step))) {
        struct lyap_action lower = *ret_action;
        reduce(question, &lower);
        if (!(lower.lr < least_rate(advice, question->point) * SAME_RATE)) {
            *ret_action = lower;
            return;
        }
    }
    if (kind == LYAP_ACTION_REDUCE_LR)
        kind = LYAP_ACTION_ROLLBACK;
    if (kind != LYAP_ACTION_ROLLBACK)
        return;
    if (advice->calm_step < 0)
        stop("no step of this attempt is known to be sound", ret_action);
    else if (question->rollbacks_left == 0)
        give_up(question, ret_action);
    else
        go_back(advice, question, ret_action);
}
