/* layer_job.h - bounds of declared layers (layer_bound.h) as a job on the kept tensors of one
 * snapshot: a profile makes it, a worker runs it, the profile takes the results at a later step.
 * THREADS: a job has one owner at a time; run reads declaration and memory, which are immutable. */
#ifndef LYAP_LAYER_JOB_H
#define LYAP_LAYER_JOB_H

#include "lyap/gates.h"
#include "lyap/intake.h"
#include "lyap/layer_bound.h"

enum { LYAP_LAYER_JOB_ELEMENTS_MAX = 1 << 25 }; /* of one layer, widened: 256 MiB */
/* Of one layer: seconds on one core. And of all layers of one job, beyond the first. */
#define LYAP_LAYER_JOB_FLOPS_MAX 1e11
#define LYAP_LAYER_JOB_FLOPS     4e9

struct lyap_layer_task {
    uint32_t layer;
    bool is_done;             /* the bound is a result */
    struct lyap_gates *gates; /* owned; of a linear layer, pushed at that snapshot; or NULL */
    struct lyap_layer_bound bound;
};

struct lyap_layer_job {
    int64_t step; /* of the snapshot */
    uint32_t count;
    struct lyap_layer_task *tasks; /* owned */
};
LYAP_API void lyap_layer_job_free(struct lyap_layer_job *job); /* NULL: nothing */

/* Can a bound of this layer be found by a job at all? */
LYAP_API bool lyap_layer_is_job(const struct lyap_network *network,
                                const struct lyap_tensor_set *set, uint32_t layer);
/* Can the norm behind these gates be found by a job? */
LYAP_API bool lyap_layer_is_gated_job(const struct lyap_network *network,
                                      const struct lyap_tensor_set *set, uint32_t layer,
                                      const struct lyap_gates *gates);
LYAP_API double lyap_layer_task_flops(const struct lyap_layer_task *task,
                                      const struct lyap_declaration *declaration);
/* From whole tensors; errors of lyap_layer_bound and lyap_gates_norm. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_layer_task_bound(struct lyap_layer_task *task, const struct lyap_declaration *declaration,
                      const struct lyap_layer_values *values);
/* `declaration` is the one that made the job. E_INVALID: the memory does not hold the tensors
 * whole; E_LIMIT, E_NUMERIC, E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_layer_task_run(struct lyap_layer_task *task, const struct lyap_declaration *declaration,
                    const struct lyap_memory *memory);

#endif
