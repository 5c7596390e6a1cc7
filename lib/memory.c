/* Planes of one generation: allocation, recycling, budget. */
#include "memory.h"

#include <assert.h>

#include "lyap/alloc.h"
#include "banned.h"

struct lyap_memory *lyap_memory_new(uint32_t tensor_count, uint32_t group_count)
{
    struct lyap_memory *memory = lyap_alloc_array(1, sizeof *memory);
    if (!memory)
        return NULL;
    memory->tensor_count = tensor_count;
    memory->group_count = group_count;
    memory->clip_factor = 1;
    memory->tensors = lyap_alloc_array(tensor_count, sizeof *memory->tensors);
    memory->rules = lyap_alloc_array(group_count, sizeof *memory->rules);
    memory->param_sketch = lyap_alloc_array(LYAP_SKETCH_SIZE, sizeof *memory->param_sketch);
    if (memory->tensors && memory->rules && memory->param_sketch)
        return memory;
    lyap_memory_free(memory);
    return NULL;
}

void lyap_memory_free(struct lyap_memory *memory)
{
    if (!memory)
        return;
    for (unsigned i = 0; i < LYAP_PLANE_COUNT; i++)
        lyap_free_aligned(memory->planes[i]);
    lyap_free(memory->param_sketch);
    lyap_free(memory->rules);
    lyap_free(memory->tensors);
    lyap_free(memory);
}

/* A fresh page costs more than the kernels' work on it: the plane of an old generation is better,
 * unless it wastes more than it holds. */
bool lyap_memory_plane(struct lyap_memory *memory, enum lyap_plane plane, uint64_t bytes,
                       struct lyap_memory *recycled)
{
    assert(!memory->planes[plane]);
    if (bytes == 0)
        return true;
    if (recycled && recycled->plane_bytes[plane] >= bytes &&
        recycled->plane_bytes[plane] / 2 <= bytes) {
        memory->planes[plane] = recycled->planes[plane];
        memory->plane_bytes[plane] = recycled->plane_bytes[plane];
        recycled->planes[plane] = NULL;
        recycled->plane_bytes[plane] = 0;
        return true;
    }
    memory->planes[plane] = bytes <= SIZE_MAX ? lyap_alloc_aligned((size_t)bytes, 1) : NULL;
    memory->plane_bytes[plane] = memory->planes[plane] ? bytes : 0;
    return memory->planes[plane] != NULL;
}

struct lyap_step_rule lyap_memory_rule(const struct lyap_memory *memory,
                                       const struct lyap_memory_tensor *tensor, uint32_t group)
{
    struct lyap_step_rule rule = memory->rules[group];
    rule.shrink = tensor->shrink;
    return rule;
}

const unsigned char *lyap_memory_slot_bytes(const struct lyap_memory *memory, uint32_t tensor,
                                            enum lyap_plane plane)
{
    const struct lyap_memory_slot *slot = &memory->tensors[tensor].slots[plane];
    assert(slot->is_kept);
    return memory->planes[plane] + slot->at;
}

bool lyap_memory_param(const struct lyap_memory *memory, uint32_t tensor, uint64_t count,
                       double *ret_values)
{
    if (tensor >= memory->tensor_count || memory->tensors[tensor].count != count)
        return false;
    const struct lyap_memory_slot *slot = &memory->tensors[tensor].slots[LYAP_PLANE_PARAM];
    if (!slot->is_kept)
        return false;
    lyap_dtype_widen(slot->dtype, lyap_memory_slot_bytes(memory, tensor, LYAP_PLANE_PARAM),
                     (size_t)count, ret_values);
    return true;
}

uint64_t lyap_memory_bytes(const struct lyap_memory *memory)
{
    uint64_t bytes = sizeof *memory + memory->tensor_count * sizeof *memory->tensors +
                     memory->group_count * sizeof *memory->rules +
                     LYAP_SKETCH_SIZE * sizeof *memory->param_sketch;
    for (unsigned i = 0; i < LYAP_PLANE_COUNT; i++)
        bytes += memory->plane_bytes[i];
    return bytes;
}

int64_t lyap_memory_step(const struct lyap_memory *memory)
{
    return memory->step;
}

uint64_t lyap_memory_bytes_estimate(const struct lyap_declaration *declaration,
                                    uint64_t param_bytes)
{
    uint64_t elements = 0;
    for (uint32_t i = 0; i < declaration->set.count; i++)
        elements += declaration->set.tensors[i].count;
    const uint64_t state = elements * lyap_step_state_bytes(&declaration->optimizer);
    const uint64_t fixed = declaration->set.count * sizeof(struct lyap_memory_tensor) +
                           LYAP_SKETCH_SIZE * sizeof(double);
    return 2 * (2 * param_bytes + state + fixed);
}
