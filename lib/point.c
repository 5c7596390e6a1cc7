/* Points: life cycle and the names of states, verdicts and actions. */
#include "lyap/point.h"

#include <math.h>

#include "lyap/alloc.h"
#include "names.h"

static const char *const states[LYAP_STATE_COUNT] = { "blind",    "warming-up", "healthy",
                                                      "unstable", "silent",     "ended" };
static const char *const verdicts[LYAP_VERDICT_COUNT] = {
#define ROW(name, wire) wire,
    LYAP_VERDICT_TABLE(ROW)
#undef ROW
};
static const char *const actions[LYAP_ACTION_COUNT] = { "continue", "reduce_lr", "skip", "rollback",
                                                        "stop" };

const char *lyap_run_state_name(enum lyap_run_state state)
{
    return states[state];
}

const char *lyap_verdict_name(enum lyap_verdict verdict)
{
    return verdicts[verdict];
}

const char *lyap_action_name(enum lyap_action_kind kind)
{
    return actions[kind];
}

bool lyap_action_parse(const char *name, enum lyap_action_kind *ret_kind)
{
    const int i = LYAP_NAMES_FIND(actions, name);
    if (i < 0)
        return false;
    *ret_kind = (enum lyap_action_kind)i;
    return true;
}

void lyap_point_init(struct lyap_point *point)
{
    *point =
        (struct lyap_point){ .step = -1, .action = { .kind = LYAP_ACTION_CONTINUE, .lr = NAN } };
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        point->metrics[i] = (struct lyap_value){
            .value = NAN,
            .error = NAN,
            .trust = (uint8_t)lyap_metric_info((enum lyap_metric)i)->trust,
            .reason = LYAP_REASON_NOT_PUSHED,
        };
}

void lyap_point_release(struct lyap_point *point)
{
    lyap_free(point->labels_json);
    point->labels_json = NULL;
}

enum lyap_status lyap_point_copy(const struct lyap_point *source, struct lyap_point *ret_copy)
{
    char *labels = NULL;
    if (source->labels_json && !(labels = lyap_alloc_string(source->labels_json)))
        return LYAP_E_NOMEM;
    *ret_copy = *source;
    ret_copy->labels_json = labels;
    return LYAP_OK;
}
