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
    for (uint32_t i = 0; job->tasks && i < job->count; i++)
        lyap_gates_free(job->tasks[i].gates);
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

static const struct lyap_tensor *weight_of(const struct lyap_network *network,
                                           const struct lyap_tensor_set *set, uint32_t layer)
{
    const int32_t index = network->layers[layer].index[LYAP_LAYER_PART_WEIGHT];
    return index < 0 ? NULL : &set->tensors[index];
}

bool lyap_layer_is_gated_job(const struct lyap_network *network, const struct lyap_tensor_set *set,
                             uint32_t layer, const struct lyap_gates *gates)
{
    const struct lyap_tensor *weight = weight_of(network, set, layer);
    return gates && network->layers[layer].kind == LYAP_LAYER_LINEAR &&
           !network->layers[layer].is_misfit && weight && weight->rank == 2 &&
           weight->shape[0] == gates->units && weight->count <= LYAP_LAYER_JOB_ELEMENTS_MAX &&
           lyap_gates_flops(gates, (uint32_t)weight->shape[1]) <= LYAP_LAYER_JOB_FLOPS_MAX;
}

double lyap_layer_task_flops(const struct lyap_layer_task *task,
                             const struct lyap_declaration *declaration)
{
    const struct lyap_network *network = &declaration->network;
    const struct lyap_tensor_set *set = &declaration->set;
    double flops = lyap_layer_flops(network, set, task->layer);
    if (task->gates)
        flops += lyap_gates_norm_flops(task->gates,
                                       (uint32_t)weight_of(network, set, task->layer)->shape[1],
                                       LYAP_LAYER_JOB_FLOPS);
    return flops;
}

enum lyap_status lyap_layer_task_bound(struct lyap_layer_task *task,
                                       const struct lyap_declaration *declaration,
                                       const struct lyap_layer_values *values)
{
    const struct lyap_network *network = &declaration->network;
    const struct lyap_tensor_set *set = &declaration->set;
    struct lyap_layer_bound bound = lyap_layer_bound_none();
    enum lyap_status status = LYAP_OK;
    if (lyap_layer_needs(network, set, task->layer) != 0)
        status = lyap_layer_bound(network, set, task->layer, values, &bound);
    if (status == LYAP_OK && task->gates) {
        const struct lyap_tensor *weight = weight_of(network, set, task->layer);
        const struct lyap_spectral_matrix w = { values->parts[LYAP_LAYER_PART_WEIGHT],
                                                (uint32_t)weight->shape[0],
                                                (uint32_t)weight->shape[1] };
        status = lyap_gates_norm(task->gates, &w, LYAP_LAYER_JOB_FLOPS, &bound.gated);
        bound.gate_max = lyap_gates_largest(task->gates);
        bound.method = LYAP_BOUND_METHOD_GATES;
    }
    task->is_done = status == LYAP_OK;
    if (task->is_done)
        task->bound = bound;
    return status;
}

enum lyap_status lyap_layer_task_run(struct lyap_layer_task *task,
                                     const struct lyap_declaration *declaration,
                                     const struct lyap_memory *memory)
{
    const struct lyap_network *network = &declaration->network;
    const struct lyap_tensor_set *set = &declaration->set;
    if (task->layer >= network->count ||
        !(task->gates ? lyap_layer_is_gated_job(network, set, task->layer, task->gates)
                      : lyap_layer_is_job(network, set, task->layer)))
        return LYAP_E_INVALID;
    const uint32_t parts = lyap_layer_needs(network, set, task->layer) |
                           (task->gates ? 1u << LYAP_LAYER_PART_WEIGHT : 0);
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
        status = lyap_memory_param(memory, index, count, next) ? LYAP_OK : LYAP_E_INVALID;
        next += count;
    }
    if (status == LYAP_OK)
        status = lyap_layer_task_bound(task, declaration, &values);
    lyap_free(all);
    return status;
}
