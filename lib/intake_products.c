/* Products of several roles and of two snapshots, block by block. */
#include "intake_chunk.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "banned.h"

enum { CACHE_LINE = 64 };

static void clean(double *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs(x[i]) <= LYAP_MAGNITUDE_MAX))
            x[i] = 0;
}

/* --- loading */

static const unsigned char *role_bytes(const struct lyap_chunk *chunk,
                                       const struct lyap_intake_array *array)
{
    const size_t size = lyap_dtype_bytes(array->entry.dtype);
    const struct lyap_intake *intake = chunk->intake;
    if (array != &intake->arrays[intake->open])
        return array->store + chunk->first * size;
    return chunk->streamed + (chunk->first - chunk->streamed_first) * size;
}

/* Asks for what the next chunk will read of an array that was stored some time ago. */
static void prefetch(const struct lyap_chunk *chunk, const unsigned char *bytes, size_t size)
{
    const uint64_t next = chunk->first + chunk->count;
    const uint64_t left = chunk->tensor->count - next;
    const size_t length = (left < LYAP_CHUNK ? (size_t)left : LYAP_CHUNK) * size;
    for (size_t i = 0; i < length; i += CACHE_LINE)
        __builtin_prefetch(bytes + chunk->count * size + i, 0, 2);
}

/* Widens a role of this body; without it the array stays at zeros. */
static void load_role(struct lyap_chunk *chunk, enum lyap_role role, enum lyap_array target)
{
    struct lyap_intake *intake = chunk->intake;
    const uint32_t entry = chunk->tensor->entries[role];
    const bool is_state = role == LYAP_ROLE_EXP_AVG || role == LYAP_ROLE_EXP_AVG_SQ;
    const enum lyap_state_part part =
        role == LYAP_ROLE_EXP_AVG ? LYAP_STATE_FIRST : LYAP_STATE_SECOND;
    if (entry == 0 || (is_state && chunk->tensor->state[part] != LYAP_STATE_PUSHED))
        return;
    const struct lyap_intake_array *array = &intake->arrays[entry - 1];
    double *x = lyap_chunk_scratch(chunk, target);
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

static void load_previous(struct lyap_chunk *chunk, enum lyap_plane plane, enum lyap_array target)
{
    const struct lyap_memory *memory = chunk->intake->config.previous;
    const struct lyap_memory_tensor *previous = chunk->tensor->previous;
    if (!previous || !previous->slots[plane].is_kept)
        return;
    const enum lyap_dtype dtype = previous->slots[plane].dtype;
    const unsigned char *bytes = lyap_memory_slot_bytes(memory, chunk->index, plane) +
                                 chunk->first * lyap_dtype_bytes(dtype);
    double *x = lyap_chunk_scratch(chunk, target);
    prefetch(chunk, bytes, lyap_dtype_bytes(dtype));
    lyap_chunk_widen(chunk->intake->kernels, dtype, bytes, chunk->count, x);
    if (plane == LYAP_PLANE_GRAD && memory->clip_factor != 1)
        chunk->intake->kernels->divide(x, chunk->padded, memory->clip_factor);
    chunk->at[target] = x;
}

static void load(struct lyap_chunk *chunk)
{
    static const struct {
        enum lyap_role role;
        enum lyap_array target;
    } roles[] = {
        { LYAP_ROLE_PARAM, LYAP_ARRAY_PARAM },          { LYAP_ROLE_GRAD, LYAP_ARRAY_GRAD },
        { LYAP_ROLE_DELTA, LYAP_ARRAY_DELTA },          { LYAP_ROLE_EXP_AVG, LYAP_ARRAY_FIRST },
        { LYAP_ROLE_EXP_AVG_SQ, LYAP_ARRAY_SECOND },    { LYAP_ROLE_PROBE_GRAD, LYAP_ARRAY_PROBE },
        { LYAP_ROLE_SAME_BATCH_GRAD, LYAP_ARRAY_SAME }, { LYAP_ROLE_PAIR_S, LYAP_ARRAY_PAIR_S },
        { LYAP_ROLE_PAIR_Y, LYAP_ARRAY_PAIR_Y },        { LYAP_ROLE_ANCHOR, LYAP_ARRAY_ANCHOR },
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
static void sketch_delta(struct lyap_chunk *chunk, bool is_whole)
{
    struct lyap_intake *intake = chunk->intake;
    const double *source = chunk->at[LYAP_ARRAY_DELTA];
    double *rest = lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH);
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
static uint64_t derive_delta(struct lyap_chunk *chunk, struct lyap_moment_sums *moments)
{
    struct lyap_intake *intake = chunk->intake;
    const uint32_t param = chunk->tensor->entries[LYAP_ROLE_PARAM];
    uint64_t nonfinite = 0;
    if (chunk->tensor->is_delta_derived) {
        double *delta = lyap_chunk_scratch(chunk, LYAP_ARRAY_DELTA);
        intake->kernels->subtract(chunk->at[LYAP_ARRAY_PARAM], chunk->at[LYAP_ARRAY_PARAM_PREV],
                                  chunk->padded, delta);
        nonfinite = lyap_moment_chunk(intake->kernels, delta, chunk->count, moments);
        chunk->at[LYAP_ARRAY_DELTA] = delta;
    }
    if (param != 0 && intake->arrays[param - 1].has_nonfinite)
        clean(lyap_chunk_scratch(chunk, LYAP_ARRAY_PARAM), chunk->count);
    if (chunk->tensor->is_delta_derived)
        sketch_delta(chunk, nonfinite == 0);
    return nonfinite;
}

/* --- the state that the optimizer holds now */

/* Rounds to the plane's type and keeps it for the next snapshot, which alone reads it. */
static void keep_state(struct lyap_chunk *chunk, enum lyap_plane plane, const double *x)
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
        double *narrowed = lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH_3);
        kernels->narrow(x, chunk->count, narrowed);
        source = narrowed;
    }
    lyap_intake_keep(kernels, chunk->tensor->count * size, target, source, chunk->count * size);
}

/* Of m, v at t - 1 and the gradient of update t - 1. A tensor that had no gradient then was left
 * alone; so was every one when no update lies between (updates 0). */
static void rebuild_state(struct lyap_chunk *chunk, enum lyap_state_part part,
                          const double *effective)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const enum lyap_array held =
        part == LYAP_STATE_FIRST ? LYAP_ARRAY_FIRST_PREV : LYAP_ARRAY_SECOND_PREV;
    const enum lyap_array target = part == LYAP_STATE_FIRST ? LYAP_ARRAY_FIRST : LYAP_ARRAY_SECOND;
    double *state = lyap_chunk_scratch(chunk, target);
    const double *const sources[2] = { chunk->at[held], effective };
    if (chunk->tensor->previous->has_grad && chunk->intake->config.updates == 1)
        lyap_step_advance(kernels, chunk->previous, part, sources, chunk->padded, state);
    else
        memcpy(state, chunk->at[held], chunk->padded * sizeof *state);
    chunk->at[target] = state;
}

/* M, the part of a momentum step that past updates decide. */
static void rebuild_momentum(struct lyap_chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_linear linear = lyap_step_linear(chunk->rule, chunk->previous);
    double *part = lyap_chunk_scratch(chunk, LYAP_ARRAY_FIRST);
    const double factors[2] = { linear.delta, linear.grad_prev },
                 rest[2] = { 1, linear.param_prev };
    kernels->combine(chunk->at[LYAP_ARRAY_DELTA], chunk->at[LYAP_ARRAY_GRAD_PREV], chunk->padded,
                     factors, part);
    if (linear.param_prev != 0)
        kernels->combine(part, chunk->at[LYAP_ARRAY_PARAM_PREV], chunk->padded, rest, part);
    chunk->at[LYAP_ARRAY_FIRST] = part;
}

static void hold_state(struct lyap_chunk *chunk)
{
    const enum lyap_state_source *state = chunk->tensor->state;
    double *effective = lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH);
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

static void add_dot(struct lyap_chunk *chunk, enum lyap_reduce row, enum lyap_array x,
                    enum lyap_array y)
{
    const unsigned index = (unsigned)row - LYAP_PRODUCT_FIRST;
    if ((chunk->tensor->rows >> index) & 1)
        chunk->intake->kernels->dot(chunk->at[x], chunk->at[y], chunk->padded, &chunk->sums[index]);
}

static void add_plain_products(struct lyap_chunk *chunk)
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
    if (lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(PROBE_DIFF_SQ)))
        chunk->intake->kernels->diff_sq(chunk->at[LYAP_ARRAY_PROBE],
                                        chunk->at[LYAP_ARRAY_PROBE_PREV], chunk->padded,
                                        LYAP_CHUNK_SUM(chunk, PROBE_DIFF_SQ));
}

void lyap_products_open(struct lyap_intake *intake)
{
    lyap_moment_reset(&intake->delta_moments);
    lyap_pairwise_reset(&intake->products, LYAP_PRODUCT_COUNT);
    memset(intake->gain_counts, 0, sizeof intake->gain_counts);
    lyap_moved_open(intake);
}

void lyap_products_block(struct lyap_intake *intake, uint32_t index, uint64_t first, uint64_t count,
                         const unsigned char *streamed)
{
    const uint32_t group = intake->config.declaration->set.tensors[index].group;
    struct lyap_product_sums sums = { 0 };
    uint64_t nonfinite = 0;
    struct lyap_chunk chunk = { .intake = intake,
                                .tensor = &intake->tensors[index],
                                .index = index,
                                .streamed = streamed,
                                .streamed_first = first,
                                .rule = &intake->rules[group],
                                .sums = sums.rows };
    struct lyap_step_rule before;
    if (chunk.tensor->previous) {
        before = lyap_memory_rule(intake->config.previous, chunk.tensor->previous, group);
        chunk.previous = &before;
    }
    const uint64_t done = lyap_moved_block(intake, first, count, streamed, &sums);
    for (uint64_t at = done; at < count; at += LYAP_CHUNK) {
        chunk.first = first + at;
        chunk.count = count - at < LYAP_CHUNK ? (size_t)(count - at) : LYAP_CHUNK;
        chunk.padded = lyap_padded(chunk.count);
        load(&chunk);
        nonfinite += derive_delta(&chunk, &sums.moments);
        add_plain_products(&chunk);
        hold_state(&chunk);
        lyap_chunk_add_steps(&chunk);
        lyap_chunk_add_weighted(&chunk);
    }
    double totals[LYAP_PRODUCT_COUNT];
    for (unsigned i = 0; i < LYAP_PRODUCT_COUNT; i++)
        totals[i] = lyap_lanes_total(&sums.rows[i]);
    lyap_pairwise_push(&intake->products, totals);
    if (chunk.tensor->is_delta_derived)
        lyap_moment_close_block(&intake->delta_moments, &sums.moments, count, nonfinite);
}

/* A point of comparison with a hole in it is none. */
static void drop_anchor(struct lyap_intake *intake, const struct lyap_intake_tensor *tensor,
                        uint32_t index)
{
    const uint32_t entry = tensor->entries[LYAP_ROLE_ANCHOR];
    if (entry == 0 || !intake->arrays[entry - 1].has_nonfinite)
        return;
    if (tensor->rows & LYAP_PRODUCT_BIT(ANCHOR_SQ))
        intake->partial.rows[LYAP_REDUCE_ANCHOR_SQ][index] = NAN;
    if (tensor->rows & LYAP_PRODUCT_BIT(ANCHOR_DELTA))
        intake->partial.rows[LYAP_REDUCE_ANCHOR_DELTA][index] = NAN;
}

void lyap_products_close(struct lyap_intake *intake, uint32_t index)
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    double totals[LYAP_PRODUCT_COUNT];
    lyap_pairwise_total(&intake->products, totals);
    for (unsigned i = 0; i < LYAP_PRODUCT_COUNT; i++)
        if ((tensor->rows >> i) & 1)
            intake->partial.rows[LYAP_PRODUCT_FIRST + i][index] = totals[i];
    double *counts = intake->partial.rows[LYAP_REDUCE_GAIN_LOG2];
    for (size_t i = 0; counts && (tensor->rows & LYAP_PRODUCT_BIT(GAIN_SQ)) && i < LYAP_GAIN_BINS;
         i++)
        counts[(size_t)index * LYAP_GAIN_BINS + i] = (double)intake->gain_counts[i];
    drop_anchor(intake, tensor, index);
    if (tensor->is_delta_derived)
        lyap_moment_write(&intake->delta_moments, &intake->partial, LYAP_REDUCE_DELTA_COUNT, index);
}
