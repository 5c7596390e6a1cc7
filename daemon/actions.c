/* What a job is advised to do, and the state a person asks for first. */
#include "engine.h"

#include <math.h>
#include <stdio.h>

#include "lyap/sensitivity.h"

/* The alerts win over the profile: a firing critical one is what `unstable` means. */
static enum lyap_run_state state_of(const struct lyap_run *run, enum lyap_run_state profile_state)
{
    return lyap_alerts_is_unstable(run->alert_state) ? LYAP_STATE_UNSTABLE : profile_state;
}

/* A learning rate at the advised one, up to the digits that a client may have rounded away. */
static bool is_followed(double lr, double advised)
{
    return lr <= advised * (1 + 1e-3);
}

/* The rate is low already and the coming update is still one of those that end badly: a job that
 * waits leaves it out, for a few in a row; others lose nothing. */
static bool is_worth_a_skip(const struct lyap_advice *advice, const struct lyap_point *point)
{
    const struct lyap_value *next = &point->metrics[LYAP_METRIC_INSTABILITY_SCORE_NEXT];
    return next->reason == LYAP_REASON_NONE && next->value >= LYAP_SCORE_DEFAULT &&
           advice->skips < LYAP_ADVICE_SKIPS;
}

/* Advice stands until the alert resolves: a job that has followed it is not told to halve its rate
 * again at every step that the alert takes to clear. The point before carries what was advised, so
 * that advice survives a restart. */
static void hold(const struct lyap_advice *advice, const struct lyap_action *standing,
                 struct lyap_point *point)
{
    const double lr = point->metrics[LYAP_METRIC_LR].value;
    if (!is_followed(lr, standing->lr)) {
        point->action = *standing;
        point->action.kind = LYAP_ACTION_REDUCE_LR;
        return;
    }
    if (is_worth_a_skip(advice, point)) {
        point->action = (struct lyap_action){ .kind = LYAP_ACTION_SKIP, .lr = standing->lr };
        point->action.step = point->step;
        (void)snprintf(point->action.reason, sizeof point->action.reason,
                       "leave out the update of step %lld: it alone scores %.2f at the lower rate",
                       (long long)point->step,
                       point->metrics[LYAP_METRIC_INSTABILITY_SCORE_NEXT].value);
        return;
    }
    point->action = (struct lyap_action){ .kind = LYAP_ACTION_CONTINUE, .lr = standing->lr };
    (void)snprintf(
        point->action.reason, sizeof point->action.reason,
        "the learning rate %.4g is at or below the advised %.4g; the alert is still open", lr,
        standing->lr);
}

/* A lower rate was advised for the alerts that are open, and nothing has come that asks for more.
 */
static bool is_standing(const struct lyap_run *run, const struct lyap_rules *rules,
                        const struct lyap_advice_question *question)
{
    const struct lyap_point *point = question->point;
    return question->wanted == LYAP_ACTION_REDUCE_LR && run->has_last &&
           (!isnan(run->last.action.lr) || run->last.action.kind == LYAP_ACTION_REDUCE_LR) &&
           run->last.action.kind != LYAP_ACTION_ROLLBACK &&
           !lyap_advice_is_lost(&run->advice, point) &&
           !lyap_alerts_advice_is_due(run->alert_state, rules, run->last.step, point->step);
}

void lyap_action_decide(struct lyap_run *run, const struct lyap_rules *rules,
                        uint32_t rollbacks_max, struct lyap_point *point)
{
    const uint32_t used = run->record.rollbacks;
    const struct lyap_advice_question question = {
        .wanted = lyap_alerts_action(run->alert_state, rules),
        .optimizer =
            run->profile_declaration ? &run->profile_declaration->declaration.optimizer : NULL,
        .point = point,
        .rollbacks_used = used,
        .rollbacks_left = used < rollbacks_max ? rollbacks_max - used : 0,
    };
    point->state = state_of(run, point->state);
    if (is_standing(run, rules, &question))
        hold(&run->advice, &run->last.action, point);
    else
        lyap_advice_give(&run->advice, &question, &point->action);
    if (point->action.kind == LYAP_ACTION_SKIP && run->has_last)
        point->action.lr = run->last.action.lr; /* what stands goes on behind a batch left out */
    lyap_advice_absorb(&run->advice, point);
    if (run->advice.quiet >= LYAP_ADVICE_REFILL)
        run->record.rollbacks = 0;
}
