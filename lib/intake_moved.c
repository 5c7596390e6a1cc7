/* Products of F32 parameters and gradients under a linear rule, without widened copies: what almost
 * every upload consists of. The sums are those of intake_products.c to the last bit. */
#include "intake_state.h"

#include <assert.h>
#include <string.h>

#include "banned.h"

enum { SMALL = LYAP_SKETCH_BLOCK, SIZE = sizeof(float) };

_Static_assert(LYAP_MOVED_BLOCKS_MAX *LYAP_SKETCH_BLOCK == LYAP_CHUNK, "a chunk is one call");

static bool is_f32_slot(const struct lyap_memory_tensor *tensor, enum lyap_plane plane)
{
    return tensor->slots[plane].is_kept && tensor->slots[plane].dtype == LYAP_DTYPE_F32;
}

static bool is_f32_role(const struct lyap_intake *intake, const struct lyap_intake_tensor *tensor,
                        enum lyap_role role)
{
    const uint32_t entry = tensor->entries[role];
    return entry != 0 && intake->arrays[entry - 1].entry.dtype == LYAP_DTYPE_F32;
}

/* Param and grad, now and before, as they are, and nothing else. */
static bool has_plain_roles(const struct lyap_intake *intake,
                            const struct lyap_intake_tensor *tensor)
{
    const struct lyap_memory_tensor *previous = tensor->previous;
    return previous && tensor->is_delta_derived && intake->is_delta_sketch_late &&
           !intake->has_sketch[LYAP_SKETCH_PATH_S] && tensor->entry_count == 2 &&
           is_f32_role(intake, tensor, LYAP_ROLE_PARAM) &&
           is_f32_role(intake, tensor, LYAP_ROLE_GRAD) && is_f32_slot(previous, LYAP_PLANE_PARAM) &&
           is_f32_slot(previous, LYAP_PLANE_GRAD) && !previous->slots[LYAP_PLANE_PROBE].is_kept &&
           !lyap_snapshot_has(intake->config.snapshot, LYAP_META_CLIP_FACTOR) &&
           intake->config.previous->clip_factor == 1;
}

/* Momentum's part is known for both updates, or there is none. */
static bool has_plain_state(const struct lyap_intake *intake, uint32_t index, bool is_momentum)
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    if (!is_momentum)
        return !tensor->previous->slots[LYAP_PLANE_FIRST].is_kept;
    return tensor->state[LYAP_STATE_FIRST] == LYAP_STATE_REBUILT && intake->memory &&
           is_f32_slot(&intake->memory->tensors[index], LYAP_PLANE_FIRST) &&
           is_f32_slot(tensor->previous, LYAP_PLANE_FIRST);
}

void lyap_moved_open(struct lyap_intake *intake)
{
    const uint32_t index = intake->arrays[intake->open].entry.tensor;
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    const uint32_t group = intake->config.declaration->set.tensors[index].group;
    intake->is_moved_plain = false;
    if (!has_plain_roles(intake, tensor))
        return;
    const struct lyap_step_rule *rule = &intake->rules[group];
    const struct lyap_step_rule *previous = &intake->config.previous->rules[group];
    if (!lyap_step_is_linear(rule->type) || !lyap_step_is_linear(previous->type) ||
        !has_plain_state(intake, index, lyap_step_is_momentum(rule)))
        return;
    const struct lyap_step_linear now = lyap_step_linear(rule, previous);
    const struct lyap_step_linear before = lyap_step_linear(previous, NULL);
    intake->moved = (struct lyap_moved){ .step_grad = before.grad * previous->clip,
                                         .step_param = before.param,
                                         .part_delta = now.delta,
                                         .part_grad = now.grad_prev,
                                         .part_param = now.param_prev,
                                         .rest_param = now.param };
    intake->is_moved_plain = true;
}

/* Elements from `first` of a role of the tensor that streams by; its open block is `streamed`. */
static const unsigned char *role_at(const struct lyap_intake *intake, enum lyap_role role,
                                    uint64_t first, const unsigned char *streamed)
{
    const uint32_t index = intake->arrays[intake->open].entry.tensor;
    const struct lyap_intake_array *array =
        &intake->arrays[intake->tensors[index].entries[role] - 1];
    return array == &intake->arrays[intake->open] ? streamed : array->store + first * SIZE;
}

static const unsigned char *plane_at(const struct lyap_intake *intake, enum lyap_plane plane,
                                     uint64_t first)
{
    const uint32_t index = intake->arrays[intake->open].entry.tensor;
    return lyap_memory_slot_bytes(intake->config.previous, index, plane) + first * SIZE;
}

static void chunk(struct lyap_intake *intake, uint64_t first, size_t count,
                  const unsigned char *streamed, struct lyap_moved_sums *sums)
{
    const uint32_t index = intake->arrays[intake->open].entry.tensor;
    const bool has_part = intake->tensors[index].previous->slots[LYAP_PLANE_FIRST].is_kept;
    struct lyap_moved moved = intake->moved;
    moved.param = role_at(intake, LYAP_ROLE_PARAM, first, streamed);
    moved.grad = role_at(intake, LYAP_ROLE_GRAD, first, streamed);
    moved.param_prev = plane_at(intake, LYAP_PLANE_PARAM, first);
    moved.grad_prev = plane_at(intake, LYAP_PLANE_GRAD, first);
    if (has_part) {
        moved.part_prev = plane_at(intake, LYAP_PLANE_FIRST, first);
        moved.part = (void *)intake->chunks[LYAP_ARRAY_SCRATCH];
    }
    intake->kernels->moved_f32(&moved, count, sums);
    if (!has_part)
        return;
    const struct lyap_memory_slot *slot = &intake->memory->tensors[index].slots[LYAP_PLANE_FIRST];
    lyap_intake_keep(intake->kernels, intake->tensors[index].count * SIZE,
                     intake->memory->planes[LYAP_PLANE_FIRST] + slot->at + first * SIZE, moved.part,
                     count * SIZE);
}

static bool is_finite_role(const struct lyap_intake *intake, enum lyap_role role)
{
    const uint32_t index = intake->arrays[intake->open].entry.tensor;
    return !intake->arrays[intake->tensors[index].entries[role] - 1].has_nonfinite;
}

uint64_t lyap_moved_block(struct lyap_intake *intake, uint64_t first, uint64_t count,
                          const unsigned char *streamed, struct lyap_product_sums *sums)
{
    const uint64_t whole = count - count % SMALL;
    struct lyap_moved_sums moved = { 0 };
    if (!intake->is_moved_plain || !is_finite_role(intake, LYAP_ROLE_PARAM) ||
        !is_finite_role(intake, LYAP_ROLE_GRAD))
        return 0;
    for (uint64_t at = 0; at < whole; at += LYAP_CHUNK) {
        const size_t taken = whole - at < LYAP_CHUNK ? (size_t)(whole - at) : LYAP_CHUNK;
        chunk(intake, first + at, taken, streamed + at * SIZE, &moved);
    }
    sums->moments = moved.moments;
    memcpy(sums->rows, moved.pair, sizeof moved.pair);
    *LYAP_PRODUCT_SUM(sums->rows, UPDATE_ERROR_SQ) = moved.error;
    *LYAP_PRODUCT_SUM(sums->rows, STEP_PREV_SQ) = moved.size;
    *LYAP_PRODUCT_SUM(sums->rows, STEP_SQ) = moved.rest_sq;
    *LYAP_PRODUCT_SUM(sums->rows, GRAD_STEP) = moved.rest_grad;
    return whole;
}
