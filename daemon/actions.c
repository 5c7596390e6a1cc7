/* What a job is advised to do, and the state a person asks for first. */
#include "engine.h"

/* The alerts win over the profile: a firing critical one is what `unstable` means. */
static enum lyap_run_state state_of(const struct lyap_run *run, enum lyap_run_state profile_state)
{
    return lyap_alerts_is_unstable(run->alert_state) ? LYAP_STATE_UNSTABLE : profile_state;
}

void lyap_action_decide(const struct lyap_run *run, const struct lyap_rules *rules,
                        const struct lyap_optimizer *optimizer, struct lyap_point *point)
{
    const enum lyap_action_kind wanted = lyap_alerts_action(run->alert_state, rules);
    point->state = state_of(run, point->state);
    lyap_action_advise(wanted, optimizer, point, &point->action);
}
