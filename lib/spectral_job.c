/* Long bounds on kept weights. */
#include "lyap/spectral_job.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "lyap/alloc.h"
#include "memory.h"
#include "banned.h"

void lyap_spectral_job_free(struct lyap_spectral_job *job)
{
    if (!job)
        return;
    for (uint32_t i = 0; job->tasks && i < job->count; i++)
        lyap_free(job->tasks[i].v);
    lyap_free(job->tasks);
    lyap_free(job);
}

uint64_t lyap_spectral_task_elements(const struct lyap_spectral_task *task)
{
    return (uint64_t)task->rows * task->cols;
}

bool lyap_spectral_task_load(const struct lyap_spectral_task *task,
                             const struct lyap_memory *memory, double *ret_values)
{
    return lyap_memory_param(memory, task->tensor, lyap_spectral_task_elements(task), ret_values);
}

enum lyap_status lyap_spectral_task_run(struct lyap_spectral_task *task, const double *values,
                                        const struct lyap_spectral_stop *stop)
{
    const struct lyap_spectral_matrix w = { values, task->rows, task->cols };
    enum lyap_status status = LYAP_OK;
    task->upper = task->estimate.sigma = task->estimate.residual = NAN;
    if (task->is_power) /* one iteration after the other, to look at `stop` between them */
        for (int i = 0; i < LYAP_SPECTRAL_ITERATIONS_COLD && status == LYAP_OK; i++)
            status = stop && stop->is_wanted(stop->ctx)
                         ? LYAP_E_STOPPING
                         : lyap_spectral_power(&w, task->block, 1, task->v, &task->estimate);
    if (status == LYAP_OK && task->is_gram)
        status = lyap_spectral_gram_upper(&w, task->squarings, stop, &task->upper);
    task->is_done = status == LYAP_OK;
    return status;
}
