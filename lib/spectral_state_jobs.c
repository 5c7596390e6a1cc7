/* What the worker is asked for, and what becomes of its answers. */
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "spectral_state.h"
#include "banned.h"

/* What is due of a tensor; flops 0: nothing. */
static struct lyap_spectral_task due_of(const struct lyap_spectral_tensor *tensor, uint32_t index,
                                        uint32_t every, double *ret_flops)
{
    struct lyap_spectral_task task = { .tensor = index,
                                       .rows = tensor->rows,
                                       .cols = tensor->cols,
                                       .drift = tensor->drift,
                                       .block = tensor->block,
                                       .squarings = lyap_spectral_squarings(tensor) };
    *ret_flops = 0;
    if (!tensor->rows || lyap_spectral_task_elements(&task) > LYAP_SPECTRAL_JOB_ELEMENTS_MAX)
        return task;
    const uint32_t side = tensor->rows < tensor->cols ? tensor->rows : tensor->cols;
    const double gram = lyap_spectral_gram_flops(tensor);
    const double power = 2 * lyap_spectral_cold_work(tensor);
    task.is_power = tensor->is_cold && power > 2 * LYAP_SPECTRAL_WORK_COLD &&
                    power <= LYAP_SPECTRAL_JOB_FLOPS_MAX;
    task.is_gram = every > 0 && tensor->gram_age >= every && gram > LYAP_SPECTRAL_WORK_GRAM &&
                   side <= LYAP_SPECTRAL_GRAM_SIDE_MAX && gram <= LYAP_SPECTRAL_JOB_FLOPS_MAX;
    *ret_flops = (task.is_power ? power : 0) + (task.is_gram ? gram : 0);
    return task;
}

/* Tensors from the cursor on, until the work suffices for one job. Without `tasks` counts them. */
static uint32_t gather(struct lyap_spectral_state *state, uint32_t every,
                       struct lyap_spectral_task *tasks)
{
    double flops = 0;
    uint32_t count = 0, i = 0;
    for (; i < state->count; i++) {
        const uint32_t at = (state->job_cursor + i) % state->count;
        double more;
        const struct lyap_spectral_task task = due_of(&state->tensors[at], at, every, &more);
        if (more == 0)
            continue;
        if (count > 0 && flops + more > LYAP_SPECTRAL_JOB_FLOPS)
            break;
        flops += more;
        if (tasks)
            tasks[count] = task;
        count++;
    }
    if (tasks && state->count)
        state->job_cursor = (state->job_cursor + i) % state->count;
    return count;
}

enum lyap_status lyap_spectral_state_job(struct lyap_spectral_state *state, int64_t step,
                                         uint32_t every, struct lyap_spectral_job **ret_job)
{
    const uint32_t count = gather(state, every, NULL);
    *ret_job = NULL;
    if (count == 0)
        return LYAP_OK;
    struct lyap_spectral_job *job = lyap_alloc_array(1, sizeof *job);
    if (job)
        job->tasks = lyap_alloc_array(count, sizeof *job->tasks);
    if (!job || !job->tasks) {
        lyap_free(job);
        return LYAP_E_NOMEM;
    }
    job->step = step;
    job->epoch = state->epoch;
    job->count = gather(state, every, job->tasks);
    for (uint32_t i = 0; i < count; i++) {
        struct lyap_spectral_task *task = &job->tasks[i];
        struct lyap_spectral_tensor *tensor = &state->tensors[task->tensor];
        if (task->is_gram)
            tensor->gram_age = 0;
        if (!task->is_power)
            continue;
        const size_t size = (size_t)task->block * task->cols;
        task->v = lyap_alloc_array(size, sizeof *task->v);
        task->is_power = task->v != NULL; /* without memory it stays due */
        if (task->v)
            memcpy(task->v, tensor->v, size * sizeof *task->v);
    }
    *ret_job = job;
    return LYAP_OK;
}

/* Half of the block from the job; beside it the best vectors that visits since have made, and what
 * moved since: the job knows only its own snapshot. */
static void take_power(struct lyap_spectral_tensor *tensor, const struct lyap_spectral_task *task)
{
    const size_t cols = tensor->cols;
    const uint32_t marks = lyap_spectral_mark_count(tensor), rest = tensor->block - marks;
    const uint32_t half = (rest + 1) / 2, taken = task->block < half ? task->block : half;
    tensor->is_cold = false;
    memmove(tensor->v + taken * cols, tensor->v, (rest - taken) * cols * sizeof *tensor->v);
    memcpy(tensor->v, task->v, taken * cols * sizeof *tensor->v);
    lyap_spectral_orthonormalize(tensor);
    tensor->calm_visits = 0;
    if (tensor->visits < LYAP_SPECTRAL_WARM_VISITS)
        tensor->visits = LYAP_SPECTRAL_WARM_VISITS;
}

void lyap_spectral_state_result(struct lyap_spectral_state *state,
                                const struct lyap_spectral_job *job)
{
    for (uint32_t i = 0; i < job->count; i++) {
        const struct lyap_spectral_task *task = &job->tasks[i];
        if (!task->is_done || task->tensor >= state->count)
            continue;
        struct lyap_spectral_tensor *tensor = &state->tensors[task->tensor];
        if (tensor->rows != task->rows || tensor->cols != task->cols)
            continue;
        if (task->is_power && tensor->is_cold)
            take_power(tensor, task);
        if (task->is_gram && job->epoch == state->epoch)
            lyap_spectral_bound_offer(&tensor->upper,
                                      &(struct lyap_spectral_bound){ task->upper, task->drift },
                                      tensor->drift);
    }
}
