/* Products of several roles and of two snapshots, block by block. */
#include "intake_state.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "banned.h"

enum { CACHE_LINE = 64 };

/* One chunk of one tensor: which arrays are there, and where. Absent ones that count as zero (a
 * frozen tensor's gradient) point to zeros. */
struct chunk {
    struct lyap_intake *intake;
    struct lyap_intake_tensor *tensor;
    uint32_t index;
    uint64_t first;       /* element in the tensor */
    size_t count, padded; /* elements; with the zeros up to a whole sketch block */
    const unsigned char *streamed;
    uint64_t streamed_first; /* element that `streamed` starts at */
    const double *at[LYAP_ARRAY_COUNT];
    const struct lyap_step_rule *rule, *previous; /* of the coming update, of the last one */
    struct lyap_lanes *sums;                      /* LYAP_PRODUCT_COUNT */
};

static bool wants(const struct chunk *chunk, uint32_t bits)
{
    return (chunk->tensor->rows & bits) != 0;
}

static double *scratch(const struct chunk *chunk, enum lyap_array array)
{
    return chunk->intake->chunks[array];
}

#define SUM_OF(chunk, row) LYAP_PRODUCT_SUM((chunk)->sums, row)

static void clean(double *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs(x[i]) <= LYAP_MAGNITUDE_MAX))
            x[i] = 0;
}

/* --- loading */

static const unsigned char *role_bytes(const struct chunk *chunk,
                                       const struct lyap_intake_array *array)
{
    const size_t size = lyap_dtype_bytes(array->entry.dtype);
    const struct lyap_intake *intake = chunk->intake;
    if (array != &intake->arrays[intake->open])
        return array->store + chunk->first * size;
    return chunk->streamed + (chunk->first - chunk->streamed_first) * size;
}

/* Asks for what the next chunk will read of an array that was stored some time ago. */
static void prefetch(const struct chunk *chunk, const unsigned char *bytes, size_t size)
{
    const uint64_t next = chunk->first + chunk->count;
    const uint64_t left = chunk->tensor->count - next;
    const size_t length = (left < LYAP_CHUNK ? (size_t)left : LYAP_CHUNK) * size;
    for (size_t i = 0; i < length; i += CACHE_LINE)
        __builtin_prefetch(bytes + chunk->count * size + i, 0, 2);
}

/* Widens a role of this body; without it the array stays at zeros. */
static void load_role(struct chunk *chunk, enum lyap_role role, enum lyap_array target)
{
    struct lyap_intake *intake = chunk->intake;
    const uint32_t entry = chunk->tensor->entries[role];
    const bool is_state = role == LYAP_ROLE_EXP_AVG || role == LYAP_ROLE_EXP_AVG_SQ;
    const enum lyap_state_part part =
        role == LYAP_ROLE_EXP_AVG ? LYAP_STATE_FIRST : LYAP_STATE_SECOND;
    if (entry == 0 || (is_state && chunk->tensor->state[part] != LYAP_STATE_PUSHED))
        return;
    const struct lyap_intake_array *array = &intake->arrays[entry - 1];
    double *x = scratch(chunk, target);
    const unsigned char *bytes = role_bytes(chunk, array);
    if (array != &intake->arrays[intake->open])
        prefetch(chunk, bytes, lyap_dtype_bytes(array->entry.dtype));
    lyap_chunk_widen(intake->kernels, array->entry.dtype, bytes, chunk->count, x);
    if (role == LYAP_ROLE_GRAD && lyap_snapshot_has(intake->config.snapshot, LYAP_META_CLIP_FACTOR))
        intake->kernels->divide(x, chunk->padded, intake->config.snapshot->clip_factor);
    if (array->has_nonfinite && role != LYAP_ROLE_PARAM) /* theta: after the difference */
        clean(x, chunk->count);
    chunk->at[target] = x;
}

static void load_previous(struct chunk *chunk, enum lyap_plane plane, enum lyap_array target)
{
    const struct lyap_memory *memory = chunk->intake->config.previous;
    const struct lyap_memory_tensor *previous = chunk->tensor->previous;
    if (!previous || !previous->slots[plane].is_kept)
        return;
    const enum lyap_dtype dtype = previous->slots[plane].dtype;
    const unsigned char *bytes = lyap_memory_slot_bytes(memory, chunk->index, plane) +
                                 chunk->first * lyap_dtype_bytes(dtype);
    double *x = scratch(chunk, target);
    prefetch(chunk, bytes, lyap_dtype_bytes(dtype));
    lyap_chunk_widen(chunk->intake->kernels, dtype, bytes, chunk->count, x);
    if (plane == LYAP_PLANE_GRAD && memory->clip_factor != 1)
        chunk->intake->kernels->divide(x, chunk->padded, memory->clip_factor);
    chunk->at[target] = x;
}

static void load(struct chunk *chunk)
{
    static const struct {
        enum lyap_role role;
        enum lyap_array target;
    } roles[] = {
        { LYAP_ROLE_PARAM, LYAP_ARRAY_PARAM },          { LYAP_ROLE_GRAD, LYAP_ARRAY_GRAD },
        { LYAP_ROLE_DELTA, LYAP_ARRAY_DELTA },          { LYAP_ROLE_EXP_AVG, LYAP_ARRAY_FIRST },
        { LYAP_ROLE_EXP_AVG_SQ, LYAP_ARRAY_SECOND },    { LYAP_ROLE_PROBE_GRAD, LYAP_ARRAY_PROBE },
        { LYAP_ROLE_SAME_BATCH_GRAD, LYAP_ARRAY_SAME }, { LYAP_ROLE_PAIR_S, LYAP_ARRAY_PAIR_S },
        { LYAP_ROLE_PAIR_Y, LYAP_ARRAY_PAIR_Y },
    };
    static const enum lyap_array planes[LYAP_PLANE_COUNT] = {
        [LYAP_PLANE_PARAM] = LYAP_ARRAY_PARAM_PREV,   [LYAP_PLANE_GRAD] = LYAP_ARRAY_GRAD_PREV,
        [LYAP_PLANE_PROBE] = LYAP_ARRAY_PROBE_PREV,   [LYAP_PLANE_FIRST] = LYAP_ARRAY_FIRST_PREV,
        [LYAP_PLANE_SECOND] = LYAP_ARRAY_SECOND_PREV,
    };
    for (unsigned i = 0; i < LYAP_ARRAY_COUNT; i++)
        chunk->at[i] = chunk->intake->chunks[LYAP_ARRAY_ZERO];
    for (unsigned i = 0; i < sizeof roles / sizeof *roles; i++)
        load_role(chunk, roles[i].role, roles[i].target);
    for (unsigned i = 0; i < LYAP_PLANE_COUNT; i++)
        load_previous(chunk, (enum lyap_plane)i, planes[i]);
}

/* The sketch of D where it is not the difference of the sketches of theta: everywhere, or at the
 * elements that are left out of D. */
static void sketch_delta(struct chunk *chunk, bool is_whole)
{
    struct lyap_intake *intake = chunk->intake;
    const double *source = chunk->at[LYAP_ARRAY_DELTA];
    double *rest = scratch(chunk, LYAP_ARRAY_SCRATCH);
    if (intake->is_delta_sketch_late && is_whole)
        return;
    if (intake->is_delta_sketch_late) {
        intake->kernels->subtract(chunk->at[LYAP_ARRAY_PARAM], chunk->at[LYAP_ARRAY_PARAM_PREV],
                                  chunk->padded, rest);
        intake->kernels->subtract(source, rest, chunk->padded, rest);
        source = rest;
    }
    lyap_intake_sketch(intake, LYAP_SKETCH_DELTA, chunk->index, chunk->first, chunk->count, source);
}

/* D = theta_t - theta_{t-1}; its moments and sketch, which a pushed delta had when it arrived. */
static uint64_t derive_delta(struct chunk *chunk, struct lyap_moment_sums *moments)
{
    struct lyap_intake *intake = chunk->intake;
    const uint32_t param = chunk->tensor->entries[LYAP_ROLE_PARAM];
    uint64_t nonfinite = 0;
    if (chunk->tensor->is_delta_derived) {
        double *delta = scratch(chunk, LYAP_ARRAY_DELTA);
        intake->kernels->subtract(chunk->at[LYAP_ARRAY_PARAM], chunk->at[LYAP_ARRAY_PARAM_PREV],
                                  chunk->padded, delta);
        nonfinite = lyap_moment_chunk(intake->kernels, delta, chunk->count, moments);
        chunk->at[LYAP_ARRAY_DELTA] = delta;
    }
    if (param != 0 && intake->arrays[param - 1].has_nonfinite)
        clean(scratch(chunk, LYAP_ARRAY_PARAM), chunk->count);
    if (chunk->tensor->is_delta_derived)
        sketch_delta(chunk, nonfinite == 0);
    return nonfinite;
}

/* --- the state that the optimizer holds now */

/* Rounds to the plane's type and keeps it for the next snapshot, which alone reads it. */
static void keep_state(struct chunk *chunk, enum lyap_plane plane, const double *x)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    struct lyap_memory *memory = chunk->intake->memory;
    if (!memory || !memory->tensors[chunk->index].slots[plane].is_kept)
        return;
    const struct lyap_memory_slot *slot = &memory->tensors[chunk->index].slots[plane];
    const size_t size = lyap_dtype_bytes(slot->dtype);
    unsigned char *target = memory->planes[plane] + slot->at + chunk->first * size;
    const void *source = x;
    if (slot->dtype == LYAP_DTYPE_F32) {
        double *narrowed = scratch(chunk, LYAP_ARRAY_SCRATCH_3);
        kernels->narrow(x, chunk->count, narrowed);
        source = narrowed;
    }
    lyap_intake_keep(kernels, chunk->tensor->count * size, target, source, chunk->count * size);
}

/* Of m, v at t - 1 and the gradient of update t - 1. A tensor that had no gradient then was left
 * alone; so was every one when no update lies between (updates 0). */
static void rebuild_state(struct chunk *chunk, enum lyap_state_part part, const double *effective)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const enum lyap_array held =
        part == LYAP_STATE_FIRST ? LYAP_ARRAY_FIRST_PREV : LYAP_ARRAY_SECOND_PREV;
    const enum lyap_array target = part == LYAP_STATE_FIRST ? LYAP_ARRAY_FIRST : LYAP_ARRAY_SECOND;
    double *state = scratch(chunk, target);
    const double *const sources[2] = { chunk->at[held], effective };
    if (chunk->tensor->previous->has_grad && chunk->intake->config.updates == 1)
        lyap_step_advance(kernels, chunk->previous, part, sources, chunk->padded, state);
    else
        memcpy(state, chunk->at[held], chunk->padded * sizeof *state);
    chunk->at[target] = state;
}

/* M, the part of a momentum step that past updates decide. */
static void rebuild_momentum(struct chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_linear linear = lyap_step_linear(chunk->rule, chunk->previous);
    double *part = scratch(chunk, LYAP_ARRAY_FIRST);
    const double factors[2] = { linear.delta, linear.grad_prev },
                 rest[2] = { 1, linear.param_prev };
    kernels->combine(chunk->at[LYAP_ARRAY_DELTA], chunk->at[LYAP_ARRAY_GRAD_PREV], chunk->padded,
                     factors, part);
    if (linear.param_prev != 0)
        kernels->combine(part, chunk->at[LYAP_ARRAY_PARAM_PREV], chunk->padded, rest, part);
    chunk->at[LYAP_ARRAY_FIRST] = part;
}

static void hold_state(struct chunk *chunk)
{
    const enum lyap_state_source *state = chunk->tensor->state;
    double *effective = scratch(chunk, LYAP_ARRAY_SCRATCH);
    const bool is_momentum = lyap_step_is_momentum(chunk->rule);
    if (state[LYAP_STATE_SECOND] == LYAP_STATE_REBUILT ||
        (state[LYAP_STATE_FIRST] == LYAP_STATE_REBUILT && !is_momentum)) {
        const struct lyap_step_arrays before = { .param = chunk->at[LYAP_ARRAY_PARAM_PREV],
                                                 .grad = chunk->at[LYAP_ARRAY_GRAD_PREV],
                                                 .count = chunk->padded };
        lyap_step_effective(chunk->intake->kernels, chunk->previous, &before, effective);
    }
    if (state[LYAP_STATE_SECOND] == LYAP_STATE_REBUILT) {
        rebuild_state(chunk, LYAP_STATE_SECOND, effective);
        keep_state(chunk, LYAP_PLANE_SECOND, chunk->at[LYAP_ARRAY_SECOND]);
    }
    if (state[LYAP_STATE_FIRST] != LYAP_STATE_REBUILT)
        return;
    if (is_momentum)
        rebuild_momentum(chunk);
    else
        rebuild_state(chunk, LYAP_STATE_FIRST, effective);
    keep_state(chunk, LYAP_PLANE_FIRST, chunk->at[LYAP_ARRAY_FIRST]);
}

/* --- sums */

static void add_dot(struct chunk *chunk, enum lyap_reduce row, enum lyap_array x, enum lyap_array y)
{
    const unsigned index = (unsigned)row - LYAP_PRODUCT_FIRST;
    if ((chunk->tensor->rows >> index) & 1)
        chunk->intake->kernels->dot(chunk->at[x], chunk->at[y], chunk->padded, &chunk->sums[index]);
}

static void add_plain_products(struct chunk *chunk)
{
    const double *const arrays[4] = { chunk->at[LYAP_ARRAY_PARAM], chunk->at[LYAP_ARRAY_GRAD],
                                      chunk->at[LYAP_ARRAY_DELTA],
                                      chunk->at[LYAP_ARRAY_GRAD_PREV] };
    chunk->intake->kernels->pair(arrays, chunk->padded, chunk->sums);
    add_dot(chunk, LYAP_REDUCE_PROBE_DELTA, LYAP_ARRAY_PROBE, LYAP_ARRAY_DELTA);
    add_dot(chunk, LYAP_REDUCE_PROBE_PREV_DELTA, LYAP_ARRAY_PROBE_PREV, LYAP_ARRAY_DELTA);
    add_dot(chunk, LYAP_REDUCE_SAME_DELTA, LYAP_ARRAY_SAME, LYAP_ARRAY_DELTA);
    add_dot(chunk, LYAP_REDUCE_PAIR_SS, LYAP_ARRAY_PAIR_S, LYAP_ARRAY_PAIR_S);
    add_dot(chunk, LYAP_REDUCE_PAIR_SY, LYAP_ARRAY_PAIR_S, LYAP_ARRAY_PAIR_Y);
    add_dot(chunk, LYAP_REDUCE_PAIR_YY, LYAP_ARRAY_PAIR_Y, LYAP_ARRAY_PAIR_Y);
    if (wants(chunk, LYAP_PRODUCT_BIT(PROBE_DIFF_SQ)))
        chunk->intake->kernels->diff_sq(chunk->at[LYAP_ARRAY_PROBE],
                                        chunk->at[LYAP_ARRAY_PROBE_PREV], chunk->padded,
                                        SUM_OF(chunk, PROBE_DIFF_SQ));
}

static struct lyap_step_arrays step_arrays(const struct chunk *chunk)
{
    return (struct lyap_step_arrays){ .param = chunk->at[LYAP_ARRAY_PARAM],
                                      .grad = chunk->at[LYAP_ARRAY_GRAD],
                                      .first = chunk->at[LYAP_ARRAY_FIRST],
                                      .second = chunk->at[LYAP_ARRAY_SECOND],
                                      .count = chunk->padded };
}

/* A step from zeros is not always zero: a box need not contain 0. */
static void clear_padding(const struct chunk *chunk, double *x)
{
    for (size_t i = chunk->count; i < chunk->padded; i++)
        x[i] = 0;
}

/* The update that led here, as it was predicted; zero for a tensor that had no gradient. */
static const double *predicted_step(struct chunk *chunk)
{
    const struct lyap_step_arrays before = { .param = chunk->at[LYAP_ARRAY_PARAM_PREV],
                                             .grad = chunk->at[LYAP_ARRAY_GRAD_PREV],
                                             .first = chunk->at[LYAP_ARRAY_FIRST_PREV],
                                             .second = chunk->at[LYAP_ARRAY_SECOND_PREV],
                                             .count = chunk->padded };
    double *step = scratch(chunk, LYAP_ARRAY_STEP);
    if (!chunk->tensor->previous->has_grad)
        return chunk->intake->chunks[LYAP_ARRAY_ZERO];
    lyap_step_update(chunk->intake->kernels, chunk->previous, &before,
                     scratch(chunk, LYAP_ARRAY_SCRATCH), step);
    clear_padding(chunk, step);
    return step;
}

static void add_update_error(struct chunk *chunk)
{
    if (!wants(chunk, LYAP_PRODUCT_BIT(UPDATE_ERROR_SQ)))
        return;
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    if (lyap_step_is_linear(chunk->previous->type) && chunk->tensor->previous->has_grad) {
        const struct lyap_step_linear linear = lyap_step_linear(chunk->previous, NULL);
        const double factors[2] = { linear.grad * chunk->previous->clip, linear.param };
        const double *const arrays[4] = { chunk->at[LYAP_ARRAY_DELTA],
                                          chunk->at[LYAP_ARRAY_GRAD_PREV],
                                          chunk->at[LYAP_ARRAY_PARAM_PREV],
                                          chunk->at[LYAP_ARRAY_FIRST_PREV] };
        kernels->linear_error(arrays, chunk->padded, factors, SUM_OF(chunk, UPDATE_ERROR_SQ));
        return; /* |p_{t-1}|^2 is the row behind */
    }
    const double *step = predicted_step(chunk);
    kernels->diff_sq(chunk->at[LYAP_ARRAY_DELTA], step, chunk->padded,
                     SUM_OF(chunk, UPDATE_ERROR_SQ));
    kernels->dot(step, step, chunk->padded, SUM_OF(chunk, STEP_PREV_SQ));
}

/* Of a linear rule the sums of q = param_factor theta + M are taken here, and the gradient's part,
 * whose factor may not be known yet, is added in finish. Plain SGD has q = 0. */
static void add_linear_step(struct chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_linear linear = lyap_step_linear(chunk->rule, NULL);
    const double factors[2] = { linear.param, 1 };
    if (linear.param == 0 && chunk->tensor->state[LYAP_STATE_FIRST] != LYAP_STATE_REBUILT)
        return;
    const double *rest = chunk->at[LYAP_ARRAY_FIRST];
    if (linear.param != 0) {
        double *sum = scratch(chunk, LYAP_ARRAY_STEP);
        kernels->combine(chunk->at[LYAP_ARRAY_PARAM], rest, chunk->padded, factors, sum);
        rest = sum;
    }
    kernels->dot(rest, rest, chunk->padded, SUM_OF(chunk, STEP_SQ));
    kernels->dot(rest, chunk->at[LYAP_ARRAY_GRAD], chunk->padded, SUM_OF(chunk, GRAD_STEP));
}

static void add_sign_flips(struct chunk *chunk, const double *step)
{
    const double *delta = chunk->at[LYAP_ARRAY_DELTA];
    for (size_t i = 0; i < chunk->count; i++)
        SUM_OF(chunk, SIGN_FLIPS)->lane[i % LYAP_LANES] += step[i] * delta[i] < 0;
}

/* P_t, whose v includes this gradient. */
static void next_weight(struct chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_arrays arrays = step_arrays(chunk);
    double *effective = scratch(chunk, LYAP_ARRAY_EFFECTIVE);
    double *next = scratch(chunk, LYAP_ARRAY_SECOND_NEXT);
    const double *const sources[2] = { arrays.second, effective };
    lyap_step_effective(kernels, chunk->rule, &arrays, effective);
    lyap_step_advance(kernels, chunk->rule, LYAP_STATE_SECOND, sources, chunk->padded, next);
    const struct lyap_step_weight weight = { next, chunk->rule->updates + 1, chunk->rule->scale };
    lyap_step_precondition(kernels, chunk->rule, &weight, chunk->padded,
                           scratch(chunk, LYAP_ARRAY_WEIGHT));
}

/* After next_weight, which leaves the effective gradient and the next v. */
static void add_adaptive_gain(struct chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_arrays arrays = step_arrays(chunk);
    const double *effective = scratch(chunk, LYAP_ARRAY_EFFECTIVE);
    double *x = scratch(chunk, LYAP_ARRAY_SCRATCH);
    lyap_step_inverse(kernels, chunk->rule, scratch(chunk, LYAP_ARRAY_SECOND_NEXT), chunk->padded,
                      x);
    kernels->dot_weighted(effective, effective, x, chunk->padded, SUM_OF(chunk, RMS_SQ));
    lyap_step_gain(kernels, chunk->rule, &arrays, effective, x);
    kernels->dot(x, x, chunk->padded, SUM_OF(chunk, GAIN_SQ));
}

/* p_t as an array, for every rule that is not linear. */
static void add_step(struct chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_arrays arrays = step_arrays(chunk);
    double *step = scratch(chunk, LYAP_ARRAY_STEP);
    if (!wants(chunk, LYAP_PRODUCT_BIT(STEP_SQ)) || chunk->tensor->entries[LYAP_ROLE_GRAD] == 0)
        return; /* without a gradient there is no update: the sums stay 0 */
    if (lyap_step_is_linear(chunk->rule->type)) {
        add_linear_step(chunk);
        return;
    }
    lyap_step_update(kernels, chunk->rule, &arrays, scratch(chunk, LYAP_ARRAY_SCRATCH), step);
    clear_padding(chunk, step);
    kernels->dot(step, step, chunk->padded, SUM_OF(chunk, STEP_SQ));
    kernels->dot(step, arrays.grad, chunk->padded, SUM_OF(chunk, GRAD_STEP));
    if (wants(chunk, LYAP_PRODUCT_BIT(SIGN_FLIPS)))
        add_sign_flips(chunk, step);
    if (wants(chunk, LYAP_PRODUCT_BIT(STEP_P)) && lyap_step_is_adaptive(chunk->rule->type)) {
        next_weight(chunk);
        kernels->dot_weighted(step, step, scratch(chunk, LYAP_ARRAY_WEIGHT), chunk->padded,
                              SUM_OF(chunk, STEP_P));
    }
    if (wants(chunk, LYAP_PRODUCT_BIT(RMS_SQ) | LYAP_PRODUCT_BIT(GAIN_SQ)))
        add_adaptive_gain(chunk);
}

/* Products weighted by P, which is one number per group unless the rule is adaptive (then finish
 * fills these rows from the plain ones). */
static void add_weighted_pair(struct chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    struct lyap_intake *intake = chunk->intake;
    double *weight = scratch(chunk, LYAP_ARRAY_WEIGHT);
    double *s = scratch(chunk, LYAP_ARRAY_SCRATCH), *y = scratch(chunk, LYAP_ARRAY_SCRATCH_2);
    const struct lyap_step_weight held = { chunk->at[LYAP_ARRAY_SECOND], chunk->rule->updates,
                                           chunk->rule->scale };
    if (held.updates >= 1)
        lyap_step_precondition(kernels, chunk->rule, &held, chunk->padded, weight);
    else
        next_weight(chunk);
    for (size_t i = 0; i < chunk->padded; i++) {
        const double root = sqrt(weight[i]);
        s[i] = root * chunk->at[LYAP_ARRAY_PAIR_S][i];
        y[i] = chunk->at[LYAP_ARRAY_PAIR_Y][i] != 0 ? chunk->at[LYAP_ARRAY_PAIR_Y][i] / root : 0;
    }
    if (wants(chunk, LYAP_PRODUCT_BIT(PAIR_SPS))) {
        kernels->dot(s, s, chunk->padded, SUM_OF(chunk, PAIR_SPS));
        lyap_intake_sketch(intake, LYAP_SKETCH_PAIR_S, chunk->index, chunk->first, chunk->count, s);
    }
    if (wants(chunk, LYAP_PRODUCT_BIT(PAIR_YPY))) {
        kernels->dot(y, y, chunk->padded, SUM_OF(chunk, PAIR_YPY));
        lyap_intake_sketch(intake, LYAP_SKETCH_PAIR_Y, chunk->index, chunk->first, chunk->count, y);
    }
}

static void add_delta_p(struct chunk *chunk, const struct lyap_step_weight *of,
                        const struct lyap_step_rule *rule, struct lyap_lanes *sum)
{
    const double *delta = chunk->at[LYAP_ARRAY_DELTA];
    double *weight = scratch(chunk, LYAP_ARRAY_WEIGHT);
    lyap_step_precondition(chunk->intake->kernels, rule, of, chunk->padded, weight);
    chunk->intake->kernels->dot_weighted(delta, delta, weight, chunk->padded, sum);
}

static void add_weighted(struct chunk *chunk)
{
    if (!lyap_step_is_adaptive(chunk->rule->type))
        return;
    /* P_{t-1}, P_{t-2}: v as held now and one snapshot ago, the rates of the updates t-1, t-2. */
    if (wants(chunk, LYAP_PRODUCT_BIT(DELTA_P))) {
        const struct lyap_step_weight now = { chunk->at[LYAP_ARRAY_SECOND], chunk->rule->updates,
                                              chunk->rule->scale_before };
        add_delta_p(chunk, &now, chunk->rule, SUM_OF(chunk, DELTA_P));
    }
    if (wants(chunk, LYAP_PRODUCT_BIT(DELTA_P_PREV))) {
        const struct lyap_step_weight before = { chunk->at[LYAP_ARRAY_SECOND_PREV],
                                                 chunk->previous->updates,
                                                 chunk->previous->scale_before };
        add_delta_p(chunk, &before, chunk->previous, SUM_OF(chunk, DELTA_P_PREV));
    }
    if (wants(chunk, LYAP_PRODUCT_BIT(PAIR_SPS) | LYAP_PRODUCT_BIT(PAIR_YPY)))
        add_weighted_pair(chunk);
}

void lyap_products_open(struct lyap_intake *intake)
{
    lyap_moment_reset(&intake->delta_moments);
    lyap_pairwise_reset(&intake->products, LYAP_PRODUCT_COUNT);
    lyap_moved_open(intake);
}

void lyap_products_block(struct lyap_intake *intake, uint32_t index, uint64_t first, uint64_t count,
                         const unsigned char *streamed)
{
    const uint32_t group = intake->config.declaration->set.tensors[index].group;
    struct lyap_product_sums sums = { 0 };
    uint64_t nonfinite = 0;
    struct chunk chunk = { .intake = intake,
                           .tensor = &intake->tensors[index],
                           .index = index,
                           .streamed = streamed,
                           .streamed_first = first,
                           .rule = &intake->rules[group],
                           .sums = sums.rows };
    if (chunk.tensor->previous)
        chunk.previous = &intake->config.previous->rules[group];
    const uint64_t done = lyap_moved_block(intake, first, count, streamed, &sums);
    for (uint64_t at = done; at < count; at += LYAP_CHUNK) {
        chunk.first = first + at;
        chunk.count = count - at < LYAP_CHUNK ? (size_t)(count - at) : LYAP_CHUNK;
        chunk.padded = lyap_padded(chunk.count);
        load(&chunk);
        nonfinite += derive_delta(&chunk, &sums.moments);
        add_plain_products(&chunk);
        hold_state(&chunk);
        add_update_error(&chunk);
        add_step(&chunk);
        add_weighted(&chunk);
    }
    double totals[LYAP_PRODUCT_COUNT];
    for (unsigned i = 0; i < LYAP_PRODUCT_COUNT; i++)
        totals[i] = lyap_lanes_total(&sums.rows[i]);
    lyap_pairwise_push(&intake->products, totals);
    if (chunk.tensor->is_delta_derived)
        lyap_moment_close_block(&intake->delta_moments, &sums.moments, count, nonfinite);
}

void lyap_products_close(struct lyap_intake *intake, uint32_t index)
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    double totals[LYAP_PRODUCT_COUNT];
    lyap_pairwise_total(&intake->products, totals);
    for (unsigned i = 0; i < LYAP_PRODUCT_COUNT; i++)
        if ((tensor->rows >> i) & 1)
            intake->partial.rows[LYAP_PRODUCT_FIRST + i][index] = totals[i];
    if (tensor->is_delta_derived)
        lyap_moment_write(&intake->delta_moments, &intake->partial, LYAP_REDUCE_DELTA_COUNT, index);
}

/* --- after all tensors */

#define VALUE(intake, row, index) ((intake)->partial.rows[LYAP_REDUCE_##row][index])

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
    VALUE(intake, GAIN_SQ, index) = factor * factor * grad_sq;
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

void lyap_products_finish(struct lyap_intake *intake)
{
    const struct lyap_tensor *declared = intake->config.declaration->set.tensors;
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        const struct lyap_step_rule *rule = &intake->rules[declared[i].group];
        const bool has_step = (intake->tensors[i].rows & LYAP_PRODUCT_BIT(STEP_SQ)) != 0;
        if (lyap_step_is_linear(rule->type) && has_step)
            finish_linear(intake, rule, i);
        if (!lyap_step_is_adaptive(rule->type))
            finish_scaled(intake, rule, i);
    }
}
