/* spectral_job.h - bounds that take too long for a thread that answers, as jobs on the kept tensors
 * of one snapshot (SPEC 1.2). A profile makes them, a worker runs them, the profile takes the
 * results at a later step. THREADS: a job has one owner at a time; run is a pure function of the
 * job and the memory. */
#ifndef LYAP_SPECTRAL_JOB_H
#define LYAP_SPECTRAL_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/intake.h"
#include "lyap/spectral.h"

enum { LYAP_SPECTRAL_JOB_ELEMENTS_MAX = 1 << 25 }; /* of one weight, widened: 256 MiB */
/* Of one weight: seconds on one core. Between two looks at `stop` a fraction of it passes. */
#define LYAP_SPECTRAL_JOB_FLOPS_MAX 1e11
/* Of all weights of one job, beyond the first. */
#define LYAP_SPECTRAL_JOB_FLOPS 4e9

struct lyap_spectral_task {
    uint32_t tensor, rows, cols;
    bool is_power, is_gram;
    uint32_t block, squarings;
    uint64_t version; /* of v */
    double drift;     /* of the tensor at the job's snapshot */
    double *v;        /* owned; is_power: start, then result; else NULL */
    bool is_done;     /* the fields below are results; NaN where there is none */
    double upper;
    struct lyap_spectral_estimate estimate;
};

struct lyap_spectral_job {
    int64_t step; /* of the snapshot */
    uint64_t epoch;
    uint32_t count;
    struct lyap_spectral_task *tasks; /* owned */
};
LYAP_API void lyap_spectral_job_free(struct lyap_spectral_job *job); /* NULL: nothing */

/* Doubles of the widened weight of a task. */
LYAP_API uint64_t lyap_spectral_task_elements(const struct lyap_spectral_task *task);
/* Widens it. False: the memory does not hold it whole. */
LYAP_API bool lyap_spectral_task_load(const struct lyap_spectral_task *task,
                                      const struct lyap_memory *memory, double *ret_values);
/* Fills the results. E_STOPPING, E_NOMEM, E_LIMIT, E_NUMERIC: they are NaN. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_task_run(struct lyap_spectral_task *task, const double *values,
                       const struct lyap_spectral_stop *stop);

#endif
