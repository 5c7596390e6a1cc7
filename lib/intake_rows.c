/* Which products of a tensor can be computed, from what the body, the declaration and the
 * predecessor hold. */
#include "intake_state.h"

#include <math.h>

#include "banned.h"

#define BIT LYAP_PRODUCT_BIT

static bool is_pushed(const struct lyap_intake_tensor *tensor, enum lyap_role role)
{
    return tensor->entries[role] != 0;
}

/* Where D_{t-1} comes from. A frozen tensor of a push with deltas did not move. */
static bool has_delta(const struct lyap_intake *intake, const struct lyap_intake_tensor *tensor)
{
    const bool is_frozen = intake->has_role[LYAP_ROLE_DELTA] && !is_pushed(tensor, LYAP_ROLE_GRAD);
    return is_pushed(tensor, LYAP_ROLE_DELTA) || tensor->is_delta_derived || is_frozen;
}

/* The last update is known by its rule: exactly one lies between the snapshots. */
static const struct lyap_step_rule *
last_rule(const struct lyap_intake *intake, const struct lyap_intake_tensor *tensor, uint32_t group)
{
    if (!tensor->previous || intake->config.updates != 1)
        return NULL;
    const struct lyap_memory *memory = intake->config.previous;
    const struct lyap_step_rule rule = lyap_memory_rule(memory, tensor->previous, group);
    return lyap_step_is_known(&rule) && isfinite(rule.clip) ? &memory->rules[group] : NULL;
}

/* The part M of a momentum step follows from D and the last rule (SPEC 0.1). */
static enum lyap_state_source momentum_source(const struct lyap_intake *intake,
                                              const struct lyap_intake_tensor *tensor,
                                              uint32_t group)
{
    const struct lyap_step_rule *last = last_rule(intake, tensor, group);
    const bool is_known = last && last->type == intake->rules[group].type && last->params.lr > 0 &&
                          has_delta(intake, tensor);
    return is_known ? LYAP_STATE_REBUILT : LYAP_STATE_NONE;
}

/* m or v: pushed, still zero, or carried on from the predecessor. */
static enum lyap_state_source moment_source(const struct lyap_intake *intake,
                                            const struct lyap_intake_tensor *tensor,
                                            enum lyap_state_part part, uint32_t group)
{
    const enum lyap_role role = part == LYAP_STATE_FIRST ? LYAP_ROLE_EXP_AVG : LYAP_ROLE_EXP_AVG_SQ;
    const struct lyap_step_rule *rule = &intake->rules[group];
    if (is_pushed(tensor, role))
        return LYAP_STATE_PUSHED;
    if (rule->is_first)
        return LYAP_STATE_ZERO;
    const uint64_t updates = intake->config.updates;
    if (!intake->memory || !tensor->previous || tensor->previous->state[part] == LYAP_STATE_NONE ||
        updates > 1)
        return LYAP_STATE_NONE;
    const struct lyap_step_rule *last = &intake->config.previous->rules[group];
    const bool is_continued = last->updates + (double)updates == rule->updates ||
                              (isnan(rule->updates) && isnan(last->updates));
    const bool is_advanced = updates == 0 || last_rule(intake, tensor, group) != NULL;
    return last->type == rule->type && is_continued && is_advanced ? LYAP_STATE_REBUILT
                                                                   : LYAP_STATE_NONE;
}

/* A frozen tensor has no state, and none is needed. */
void lyap_intake_state_sources(const struct lyap_intake *intake, uint32_t index,
                               enum lyap_state_source ret_state[LYAP_STATE_PARTS])
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    const uint32_t group = intake->config.declaration->set.tensors[index].group;
    const struct lyap_step_rule *rule = &intake->rules[group];
    for (unsigned part = 0; part < LYAP_STATE_PARTS; part++) {
        ret_state[part] = LYAP_STATE_ZERO;
        if (!lyap_step_needs(rule, (enum lyap_state_part)part))
            continue;
        const bool is_momentum = part == LYAP_STATE_FIRST && lyap_step_is_momentum(rule);
        ret_state[part] = is_momentum
                              ? momentum_source(intake, tensor, group)
                              : moment_source(intake, tensor, (enum lyap_state_part)part, group);
        const bool was_frozen = !tensor->previous || !tensor->previous->has_grad;
        if (ret_state[part] == LYAP_STATE_NONE && !is_pushed(tensor, LYAP_ROLE_GRAD) && was_frozen)
            ret_state[part] = LYAP_STATE_ZERO;
    }
}

static uint32_t plain_rows(const struct lyap_intake *intake,
                           const struct lyap_intake_tensor *tensor)
{
    const bool *has = intake->has_role;
    const struct lyap_memory *memory = tensor->previous ? intake->config.previous : NULL;
    const bool grad = has[LYAP_ROLE_GRAD], grad_prev = memory && memory->has_grads;
    const bool probe = has[LYAP_ROLE_PROBE_GRAD], probe_prev = memory && memory->has_probes;
    const bool s = has[LYAP_ROLE_PAIR_S], y = has[LYAP_ROLE_PAIR_Y];
    const bool delta = has_delta(intake, tensor);
    return (grad ? BIT(GRAD_PARAM) : 0) | (grad && delta ? BIT(GRAD_DELTA) : 0) |
           (grad_prev && delta ? BIT(GRAD_PREV_DELTA) : 0) |
           (grad && grad_prev ? BIT(GRAD_DIFF_SQ) | BIT(GRAD_GRAD_PREV) : 0) |
           (probe && delta ? BIT(PROBE_DELTA) : 0) |
           (probe_prev && delta ? BIT(PROBE_PREV_DELTA) : 0) |
           (probe && probe_prev ? BIT(PROBE_DIFF_SQ) : 0) |
           (has[LYAP_ROLE_SAME_BATCH_GRAD] && delta ? BIT(SAME_DELTA) : 0) |
           (s ? BIT(PAIR_SS) : 0) | (y ? BIT(PAIR_YY) : 0) | (s && y ? BIT(PAIR_SY) : 0);
}

/* D is one update of a sign method, so it holds the signs of that update. */
static bool has_last_direction(const struct lyap_intake *intake,
                               const struct lyap_intake_tensor *tensor, uint32_t group)
{
    const bool is_single = is_pushed(tensor, LYAP_ROLE_DELTA) || intake->config.updates == 1;
    if (!tensor->previous || !is_single || !has_delta(intake, tensor))
        return false;
    const struct lyap_step_rule *last = &intake->config.previous->rules[group];
    return last->type == intake->rules[group].type && last->params.lr > 0;
}

/* Decoupled decay has an energy of its own, in the metric P (SPEC 3.4). */
static bool has_decay_metric(const struct lyap_step_rule *rule)
{
    return rule->type == LYAP_OPTIMIZER_ADAMW && rule->params.weight_decay > 0;
}

static uint32_t step_rows(const struct lyap_intake *intake, const struct lyap_intake_tensor *tensor,
                          uint32_t group)
{
    const struct lyap_step_rule *rule = &intake->rules[group];
    const bool is_linear = lyap_step_is_linear(rule->type);
    const bool is_late = lyap_step_is_late(rule);
    const bool has_clip = isfinite(rule->clip) || ((is_linear || is_late) && intake->is_clip_late);
    const bool is_known = is_late
                              ? isfinite(rule->params.lr) && lyap_late_is_reachable(intake, rule)
                              : lyap_step_is_known(rule);
    const bool is_sign = rule->type == LYAP_OPTIMIZER_LION || rule->type == LYAP_OPTIMIZER_SIGNSGD;
    if (!intake->has_role[LYAP_ROLE_GRAD] || !is_known || !has_clip)
        return 0;
    if (tensor->state[LYAP_STATE_FIRST] == LYAP_STATE_NONE ||
        tensor->state[LYAP_STATE_SECOND] == LYAP_STATE_NONE)
        return is_linear ? BIT(GAIN_SQ) : 0; /* linear: whatever the momentum is */
    return BIT(STEP_SQ) | BIT(GRAD_STEP) | BIT(STEP_P) | (is_linear ? BIT(GAIN_SQ) : 0) |
           (lyap_step_is_adaptive(rule->type) ? BIT(RMS_SQ) | BIT(GAIN_SQ) | BIT(GAIN_FROZEN_SQ)
                                              : 0) |
           (has_decay_metric(rule) ? BIT(PARAM_P) : 0) |
           (is_sign && has_last_direction(intake, tensor, group) ? BIT(SIGN_FLIPS) : 0);
}

static bool is_state_kept(const struct lyap_memory_tensor *previous)
{
    return previous->state[LYAP_STATE_FIRST] != LYAP_STATE_NONE &&
           previous->state[LYAP_STATE_SECOND] != LYAP_STATE_NONE;
}

static uint32_t update_rows(const struct lyap_intake *intake,
                            const struct lyap_intake_tensor *tensor, uint32_t group)
{
    const struct lyap_memory *memory = intake->config.previous;
    const bool is_known = last_rule(intake, tensor, group) && is_state_kept(tensor->previous) &&
                          memory->has_grads && has_delta(intake, tensor);
    return is_known ? BIT(UPDATE_ERROR_SQ) | BIT(STEP_PREV_SQ) : 0;
}

/* P_{t-1} is of the state held now, which one update at least has made. */
static uint32_t weighted_rows(const struct lyap_intake *intake,
                              const struct lyap_intake_tensor *tensor, uint32_t group)
{
    const struct lyap_step_rule *rule = &intake->rules[group];
    const bool *has = intake->has_role;
    const uint32_t pair =
        (has[LYAP_ROLE_PAIR_S] ? BIT(PAIR_SPS) : 0) | (has[LYAP_ROLE_PAIR_Y] ? BIT(PAIR_YPY) : 0);
    const bool delta = has_delta(intake, tensor);
    const uint32_t anchor =
        has[LYAP_ROLE_ANCHOR] ? BIT(ANCHOR_SQ) | (delta ? BIT(ANCHOR_DELTA) : 0) : 0;
    if (!lyap_step_is_adaptive(rule->type))
        return pair | anchor | (delta ? BIT(DELTA_P) : 0) |
               (delta && tensor->previous ? BIT(DELTA_P_PREV) : 0);
    const bool has_second = tensor->state[LYAP_STATE_SECOND] != LYAP_STATE_NONE;
    const bool has_weight =
        has_second &&
        (rule->updates >= 1 || (rule->updates >= 0 && has[LYAP_ROLE_GRAD] && isfinite(rule->clip)));
    const bool has_before = tensor->previous &&
                            tensor->previous->state[LYAP_STATE_SECOND] != LYAP_STATE_NONE &&
                            intake->config.previous->rules[group].type == rule->type &&
                            intake->config.previous->rules[group].updates >= 1;
    const bool has_last = has_second && rule->updates >= 1;
    return (has_weight ? pair : 0) | (has_last ? anchor : 0) |
           (delta && has_last ? BIT(DELTA_P) : 0) |
           (delta && has_last && has_decay_metric(rule) ? BIT(PARAM_P_PREV) : 0) |
           (delta && has_before ? BIT(DELTA_P_PREV) : 0);
}

/* Without products in reach, what one role's moments give: a step of plain SGD, P a number. */
static uint32_t reachable_rows(const struct lyap_intake *intake, uint32_t group)
{
    const struct lyap_step_rule *rule = &intake->rules[group];
    const bool is_plain = lyap_step_is_linear(rule->type) && !lyap_step_is_momentum(rule) &&
                          rule->params.weight_decay == 0;
    return (is_plain ? BIT(STEP_SQ) | BIT(GRAD_STEP) | BIT(STEP_P) : 0) |
           (lyap_step_is_linear(rule->type) ? BIT(GAIN_SQ) : 0) |
           (lyap_step_is_adaptive(rule->type) ? 0 : BIT(DELTA_P));
}

uint32_t lyap_intake_product_rows(const struct lyap_intake *intake, uint32_t index)
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    const uint32_t group = intake->config.declaration->set.tensors[index].group;
    const uint32_t rows = plain_rows(intake, tensor) | step_rows(intake, tensor, group) |
                          update_rows(intake, tensor, group) | weighted_rows(intake, tensor, group);
    return tensor->has_products ? rows : rows & reachable_rows(intake, group);
}
