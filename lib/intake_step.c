/* What the coming update and the last one are, block by block: sums of the steps, signs, gains. */
#include "intake_chunk.h"

#include "banned.h"

/* A step from zeros is not always zero: a box need not contain 0. */
static void clear_padding(const struct lyap_chunk *chunk, double *x)
{
    for (size_t i = chunk->count; i < chunk->padded; i++)
        x[i] = 0;
}

/* The update that led here, as it was predicted; zero for a tensor that had no gradient. */
static const double *predicted_step(struct lyap_chunk *chunk)
{
    const struct lyap_step_arrays before = { .param = chunk->at[LYAP_ARRAY_PARAM_PREV],
                                             .grad = chunk->at[LYAP_ARRAY_GRAD_PREV],
                                             .first = chunk->at[LYAP_ARRAY_FIRST_PREV],
                                             .second = chunk->at[LYAP_ARRAY_SECOND_PREV],
                                             .count = chunk->padded };
    double *step = lyap_chunk_scratch(chunk, LYAP_ARRAY_STEP);
    if (!chunk->tensor->previous->has_grad)
        return chunk->intake->chunks[LYAP_ARRAY_ZERO];
    lyap_step_update(chunk->intake->kernels, chunk->previous, &before,
                     lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH), step);
    clear_padding(chunk, step);
    return step;
}

static void add_update_error(struct lyap_chunk *chunk)
{
    if (!lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(UPDATE_ERROR_SQ)))
        return;
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    if (lyap_step_is_form(chunk->previous) && chunk->tensor->previous->has_grad) {
        const struct lyap_step_linear linear = lyap_step_linear(chunk->previous, NULL);
        const double factors[2] = { linear.grad * chunk->previous->clip, linear.param };
        const double *const arrays[4] = { chunk->at[LYAP_ARRAY_DELTA],
                                          chunk->at[LYAP_ARRAY_GRAD_PREV],
                                          chunk->at[LYAP_ARRAY_PARAM_PREV],
                                          chunk->at[LYAP_ARRAY_FIRST_PREV] };
        kernels->linear_error(arrays, chunk->padded, factors,
                              LYAP_CHUNK_SUM(chunk, UPDATE_ERROR_SQ));
        return; /* |p_{t-1}|^2 is the row behind */
    }
    const double *step = predicted_step(chunk);
    kernels->diff_sq(chunk->at[LYAP_ARRAY_DELTA], step, chunk->padded,
                     LYAP_CHUNK_SUM(chunk, UPDATE_ERROR_SQ));
    kernels->dot(step, step, chunk->padded, LYAP_CHUNK_SUM(chunk, STEP_PREV_SQ));
}

/* Of a linear rule the sums of q = param_factor theta + M are taken here, and the gradient's part,
 * whose factor may not be known yet, is added in finish. Plain SGD has q = 0. */
static void add_linear_step(struct lyap_chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_linear linear = lyap_step_linear(chunk->rule, NULL);
    const double factors[2] = { linear.param, 1 };
    if (linear.param == 0 && chunk->tensor->state[LYAP_STATE_FIRST] != LYAP_STATE_REBUILT)
        return;
    const double *rest = chunk->at[LYAP_ARRAY_FIRST];
    if (linear.param != 0) {
        double *sum = lyap_chunk_scratch(chunk, LYAP_ARRAY_STEP);
        kernels->combine(chunk->at[LYAP_ARRAY_PARAM], rest, chunk->padded, factors, sum);
        rest = sum;
    }
    kernels->dot(rest, rest, chunk->padded, LYAP_CHUNK_SUM(chunk, STEP_SQ));
    kernels->dot(rest, chunk->at[LYAP_ARRAY_GRAD], chunk->padded, LYAP_CHUNK_SUM(chunk, GRAD_STEP));
}

/* The last direction is in D = -lr (direction + decay theta), which rounding leaves recognisable.
 */
static double last_direction(const struct lyap_step_rule *last, double delta, double param)
{
    const double decay = last->type == LYAP_OPTIMIZER_LION ? last->params.weight_decay : 0;
    const double x = -delta / last->params.lr - decay * (param - delta);
    return (double)((x > 0.5) - (x < -0.5));
}

static void add_sign_flips(struct lyap_chunk *chunk)
{
    const struct lyap_step_arrays now = lyap_chunk_step_arrays(chunk);
    const double *delta = chunk->at[LYAP_ARRAY_DELTA];
    for (size_t i = 0; i < chunk->count; i++) {
        const double direction = lyap_step_direction(chunk->rule, now.grad[i], now.first[i]);
        LYAP_CHUNK_SUM(chunk, SIGN_FLIPS)->lane[i % LYAP_LANES] +=
            direction != last_direction(chunk->previous, delta[i], now.param[i]);
    }
}

/* P_t, whose v includes this gradient. */
void lyap_chunk_next_weight(struct lyap_chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_arrays arrays = lyap_chunk_step_arrays(chunk);
    double *effective = lyap_chunk_scratch(chunk, LYAP_ARRAY_EFFECTIVE);
    double *next = lyap_chunk_scratch(chunk, LYAP_ARRAY_SECOND_NEXT);
    const double *const sources[2] = { arrays.second, effective };
    lyap_step_effective(kernels, chunk->rule, &arrays, effective);
    lyap_step_advance(kernels, chunk->rule, LYAP_STATE_SECOND, sources, chunk->padded, next);
    const struct lyap_step_weight weight = { next, chunk->rule->updates + 1, chunk->rule->scale };
    lyap_step_precondition(kernels, chunk->rule, &weight, chunk->padded,
                           lyap_chunk_scratch(chunk, LYAP_ARRAY_WEIGHT));
}

/* After next_weight, which leaves the effective gradient and the next v. */
static void add_adaptive_gain(struct lyap_chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_arrays arrays = lyap_chunk_step_arrays(chunk);
    const double *effective = lyap_chunk_scratch(chunk, LYAP_ARRAY_EFFECTIVE);
    double *x = lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH);
    lyap_step_inverse(kernels, chunk->rule, lyap_chunk_scratch(chunk, LYAP_ARRAY_SECOND_NEXT),
                      chunk->padded, x);
    kernels->dot_weighted(effective, effective, x, chunk->padded, LYAP_CHUNK_SUM(chunk, RMS_SQ));
    double *const gains[3] = { x, lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH_2),
                               lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH_3) };
    lyap_step_gain(kernels, chunk->rule, &arrays, effective, gains);
    kernels->dot(gains[1], gains[1], chunk->padded, LYAP_CHUNK_SUM(chunk, GAIN_SQ));
    kernels->dot(gains[2], gains[2], chunk->padded, LYAP_CHUNK_SUM(chunk, GAIN_FROZEN_SQ));
    if (chunk->intake->partial.rows[LYAP_REDUCE_GAIN_LOG2])
        kernels->histogram(gains[0], chunk->count, chunk->intake->gain_counts);
}

/* p_t as an array, for every rule that is not linear. */
static void add_step(struct lyap_chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_arrays arrays = lyap_chunk_step_arrays(chunk);
    double *step = lyap_chunk_scratch(chunk, LYAP_ARRAY_STEP);
    if (!lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(STEP_SQ)) ||
        chunk->tensor->entries[LYAP_ROLE_GRAD] == 0)
        return; /* without a gradient there is no update: the sums stay 0 */
    if (lyap_step_is_late(chunk->rule))
        return; /* settled when everything has arrived */
    if (lyap_step_is_linear(chunk->rule->type)) {
        add_linear_step(chunk);
        return;
    }
    lyap_step_update(kernels, chunk->rule, &arrays, lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH),
                     step);
    clear_padding(chunk, step);
    kernels->dot(step, step, chunk->padded, LYAP_CHUNK_SUM(chunk, STEP_SQ));
    kernels->dot(step, arrays.grad, chunk->padded, LYAP_CHUNK_SUM(chunk, GRAD_STEP));
    if (lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(SIGN_FLIPS)))
        add_sign_flips(chunk);
    if (lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(STEP_P)) &&
        lyap_step_is_adaptive(chunk->rule->type)) {
        lyap_chunk_next_weight(chunk);
        kernels->dot_weighted(step, step, lyap_chunk_scratch(chunk, LYAP_ARRAY_WEIGHT),
                              chunk->padded, LYAP_CHUNK_SUM(chunk, STEP_P));
        if (lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(PARAM_P)))
            kernels->dot_weighted(arrays.param, arrays.param,
                                  lyap_chunk_scratch(chunk, LYAP_ARRAY_WEIGHT), chunk->padded,
                                  LYAP_CHUNK_SUM(chunk, PARAM_P));
    }
    if (lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(RMS_SQ) | LYAP_PRODUCT_BIT(GAIN_SQ)))
        add_adaptive_gain(chunk);
}

void lyap_chunk_add_steps(struct lyap_chunk *chunk)
{
    add_update_error(chunk);
    add_step(chunk);
}
