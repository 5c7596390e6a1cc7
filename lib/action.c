/* The advice that goes with an alert. */
#include <math.h>
#include <stdio.h>

#include "lyap/profile.h"
#include "lyap/transition.h"

static double column(const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *v = &point->metrics[metric];
    return v->reason == LYAP_REASON_NONE ? v->value : (double)NAN;
}

/* The accepted curvature of the point, or the one its stability ratio was made with. */
static double curvature_of(const struct lyap_point *point)
{
    const double own = column(point, LYAP_METRIC_SHARPNESS);
    if (!isnan(own))
        return own;
    return column(point, LYAP_METRIC_STABILITY_RATIO) * column(point, LYAP_METRIC_STABILITY_LIMIT);
}

/* What coupled decay adds to it, where the method preconditions (SPEC 2.6). */
static double with_decay(const struct lyap_point *point, double curvature)
{
    const double decay = column(point, LYAP_METRIC_DECAY_CURVATURE);
    return isnan(decay) ? curvature : curvature + decay;
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

void lyap_action_advise(enum lyap_action_kind wanted, const struct lyap_optimizer *optimizer,
                        const struct lyap_point *point, struct lyap_action *ret_action)
{
    *ret_action = (struct lyap_action){ .kind = wanted, .lr = NAN };
    if (wanted != LYAP_ACTION_REDUCE_LR)
        return;
    const double lr = column(point, LYAP_METRIC_LR);
    const double curvature = with_decay(point, curvature_of(point));
    if (!(lr > 0)) {
        (void)snprintf(ret_action->reason, sizeof ret_action->reason,
                       "reduce the learning rate; it was neither pushed nor declared");
        return;
    }
    struct lyap_transition t = { .method = LYAP_METHOD_NONE, .lr = lr, .gain = 1 };
    if (optimizer)
        t = lyap_transition_strictest(optimizer, NULL, lr);
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
