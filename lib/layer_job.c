/* Bounds of declared layers on kept tensors. */
#include "lyap/layer_job.h"

#include "kernels/kernels.h"
#include "lyap/alloc.h"
#include "memory.h"
#include "banned.h"

void lyap_layer_job_free(struct lyap_layer_job *job)
{
    if (!job)
        return;
    lyap_free(job->tasks);
    lyap_free(job);
}

static uint64_t elements_of(const struct lyap_network *network, const struct lyap_tensor_set *set,
                            uint32_t index, uint32_t parts)
{
    const struct lyap_layer *layer = &network->layers[index];
    uint64_t count = 0;
    for (int part = 0; part < LYAP_LAYER_PARTS; part++)
        if (parts >> part & 1)
            count += set->tensors[layer->index[part]].count; /* six of 2^48 at most */
    return count;
}

bool lyap_layer_is_job(const struct lyap_network *network, const struct lyap_tensor_set *set,
                       uint32_t layer)
{
    const uint32_t parts = lyap_layer_needs(network, set, layer);
    return parts != 0 && elements_of(network, set, layer, parts) <= LYAP_LAYER_JOB_ELEMENTS_MAX &&
           lyap_layer_flops(network, set, layer) <= LYAP_LAYER_JOB_FLOPS_MAX;
}

/* Widens one tensor. False: the memory does not hold it whole. */
static bool load(const struct lyap_memory *memory, uint32_t index, uint64_t count, double *ret)
{
    if (index >= memory->tensor_count)
        return false;
    const struct lyap_memory_slot *slot = &memory->tensors[index].slots[LYAP_PLANE_PARAM];
    if (!slot->is_kept || memory->tensors[index].count != count)
        return false;
    lyap_kernels_best()->widen[slot->dtype](lyap_memory_slot_bytes(memory, index, LYAP_PLANE_PARAM),
                                            (size_t)count, ret);
    return true;
}

enum lyap_status lyap_layer_task_run(struct lyap_layer_task *task,
                                     const struct lyap_declaration *declaration,
                                     const struct lyap_memory *memory)
{
    const struct lyap_network *network = &declaration->network;
    const struct lyap_tensor_set *set = &declaration->set;
    if (task->layer >= network->count || !lyap_layer_is_job(network, set, task->layer))
        return LYAP_E_INVALID;
    const uint32_t parts = lyap_layer_needs(network, set, task->layer);
    double *all =
        lyap_alloc_array((size_t)elements_of(network, set, task->layer, parts), sizeof *all);
    if (!all)
        return LYAP_E_NOMEM;
    struct lyap_layer_values values = { { NULL } };
    enum lyap_status status = LYAP_OK;
    double *next = all;
    for (int part = 0; part < LYAP_LAYER_PARTS && status == LYAP_OK; part++) {
        if (!(parts >> part & 1))
            continue;
        const uint32_t index = (uint32_t)network->layers[task->layer].index[part];
        const uint64_t count = set->tensors[index].count;
        values.parts[part] = next;
        status = load(memory, index, count, next) ? LYAP_OK : LYAP_E_INVALID;
        next += count;
    }
    if (status == LYAP_OK)
        status = lyap_layer_bound(network, set, task->layer, &values, &task->bound);
    task->is_done = status == LYAP_OK;
    lyap_free(all);
    return status;
}
