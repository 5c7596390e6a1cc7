/* Rows that follow from the sums of whole tensors: after all of them have arrived. */
#include "intake_state.h"

#include <math.h>

#include "lyap/update_gain.h"

#include "banned.h"

#define VALUE(intake, row, index) ((intake)->partial.rows[LYAP_REDUCE_##row][index])

/* p = (s - 1) theta - s lr g with the s of the whole. */
static void finish_shrunk(struct lyap_intake *intake, const struct lyap_step_rule *rule,
                          uint32_t index)
{
    const bool is_moved = intake->tensors[index].entries[LYAP_ROLE_GRAD] != 0;
    const double shrink = intake->tensors[index].shrink;
    const double grad = -shrink * rule->params.lr * rule->clip, param = shrink - 1;
    const double sq = VALUE(intake, PARAM_SQ, index), slope = VALUE(intake, GRAD_PARAM, index);
    if (!is_moved)
        return; /* the sums are 0 */
    const double grad_sq = VALUE(intake, GRAD_SQ, index);
    const double step_sq = param * param * sq + 2 * param * grad * slope + grad * grad * grad_sq;
    VALUE(intake, STEP_SQ, index) = step_sq < 0 ? 0 : step_sq;
    VALUE(intake, GRAD_STEP, index) = param * slope + grad * grad_sq;
}

/* p = a g + q: |p|^2 = |q|^2 + 2 a <q, g> + a^2 |g|^2, <g, p> = <q, g> + a |g|^2. */
static void finish_linear(struct lyap_intake *intake, const struct lyap_step_rule *rule,
                          uint32_t index)
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    const bool is_moved = tensor->entries[LYAP_ROLE_GRAD] != 0;
    const double factor = is_moved ? lyap_step_linear(rule, NULL).grad * rule->clip : 0;
    const double grad_sq = is_moved ? VALUE(intake, GRAD_SQ, index) : 0;
    const double rest_sq = tensor->has_products ? VALUE(intake, STEP_SQ, index) : 0;
    const double rest_grad = tensor->has_products ? VALUE(intake, GRAD_STEP, index) : 0;
    const double sq = rest_sq + 2 * factor * rest_grad + factor * factor * grad_sq;
    VALUE(intake, STEP_SQ, index) = sq < 0 ? 0 : sq; /* rounding; NaN stays */
    VALUE(intake, GRAD_STEP, index) = rest_grad + factor * grad_sq;
}

/* The gain of a linear rule is one number, whatever its momentum is. */
static void finish_gain(struct lyap_intake *intake, const struct lyap_step_rule *rule,
                        uint32_t index)
{
    const bool is_moved = intake->tensors[index].entries[LYAP_ROLE_GRAD] != 0;
    const double factor = is_moved ? lyap_step_linear(rule, NULL).grad * rule->clip : 0;
    double *counts = intake->partial.rows[LYAP_REDUCE_GAIN_LOG2];
    VALUE(intake, GAIN_SQ, index) = is_moved ? factor * factor * VALUE(intake, GRAD_SQ, index) : 0;
    for (size_t b = 0; counts && b < LYAP_GAIN_BINS; b++)
        counts[(size_t)index * LYAP_GAIN_BINS + b] = 0;
    if (counts && is_moved && isfinite(factor))
        counts[(size_t)index * LYAP_GAIN_BINS + lyap_update_gain_bin(fabs(factor))] =
            VALUE(intake, GRAD_COUNT, index);
}

/* Rows that are a multiple of another, because P is one number per group. */
static void finish_scaled(struct lyap_intake *intake, const struct lyap_step_rule *rule,
                          uint32_t index)
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    const struct lyap_memory *previous = intake->config.previous;
    const uint32_t group = intake->config.declaration->set.tensors[index].group;
    const double oldest = tensor->previous ? previous->rules[group].scale_before : 1;
    const struct {
        uint32_t bit;
        enum lyap_reduce row, source;
        double factor;
    } scaled[] = {
        { LYAP_PRODUCT_BIT(DELTA_P), LYAP_REDUCE_DELTA_P, LYAP_REDUCE_DELTA_SQ,
          rule->scale_before },
        { LYAP_PRODUCT_BIT(ANCHOR_SQ), LYAP_REDUCE_ANCHOR_SQ, LYAP_REDUCE_ANCHOR_SQ,
          rule->scale_before },
        { LYAP_PRODUCT_BIT(ANCHOR_DELTA), LYAP_REDUCE_ANCHOR_DELTA, LYAP_REDUCE_ANCHOR_DELTA,
          rule->scale_before },
        { LYAP_PRODUCT_BIT(DELTA_P_PREV), LYAP_REDUCE_DELTA_P_PREV, LYAP_REDUCE_DELTA_SQ, oldest },
        { LYAP_PRODUCT_BIT(STEP_P), LYAP_REDUCE_STEP_P, LYAP_REDUCE_STEP_SQ, rule->scale },
        { LYAP_PRODUCT_BIT(PAIR_SPS), LYAP_REDUCE_PAIR_SPS, LYAP_REDUCE_PAIR_SS, rule->scale },
        { LYAP_PRODUCT_BIT(PAIR_YPY), LYAP_REDUCE_PAIR_YPY, LYAP_REDUCE_PAIR_YY, 1 / rule->scale },
    };
    for (unsigned i = 0; i < sizeof scaled / sizeof *scaled; i++)
        if (tensor->rows & scaled[i].bit)
            intake->partial.rows[scaled[i].row][index] =
                scaled[i].factor * intake->partial.rows[scaled[i].source][index];
}

/* Decay acts through each group's own rate: its rows have P as the group's optimizer has it. */
static void finish_unscaled(struct lyap_intake *intake, const struct lyap_step_rule *rule,
                            uint32_t index)
{
    const uint32_t rows = intake->tensors[index].rows;
    if (rows & LYAP_PRODUCT_BIT(PARAM_P))
        VALUE(intake, PARAM_P, index) /= rule->scale;
    if (rows & LYAP_PRODUCT_BIT(PARAM_P_PREV))
        VALUE(intake, PARAM_P_PREV, index) /= rule->scale_before;
}

void lyap_products_finish(struct lyap_intake *intake)
{
    const struct lyap_tensor *declared = intake->config.declaration->set.tensors;
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        const struct lyap_step_rule *rule = &intake->rules[declared[i].group];
        const bool is_linear = lyap_step_is_linear(rule->type);
        if (lyap_step_is_shrunk(rule) && (intake->tensors[i].rows & LYAP_PRODUCT_BIT(STEP_SQ)))
            finish_shrunk(intake, rule, i);
        if (is_linear && (intake->tensors[i].rows & LYAP_PRODUCT_BIT(STEP_SQ)))
            finish_linear(intake, rule, i);
        if (is_linear && (intake->tensors[i].rows & LYAP_PRODUCT_BIT(GAIN_SQ)))
            finish_gain(intake, rule, i);
        if (!lyap_step_is_adaptive(rule->type))
            finish_scaled(intake, rule, i);
        else
            finish_unscaled(intake, rule, i);
    }
}
