/* spectral_state.h - what a run knows of the largest singular value of each weight: start vectors,
 * the newest estimate, upper bounds and how far the weight moved since (SPEC 1.2).
 *
 * A bound at step s holds at t with the sum of |D|_F between added: `drift` is that running sum,
 * and a bound remembers the drift at its step. Where a difference is not known the bounds are
 * dropped. THREADS: one owner, the profile's. */
#ifndef LYAP_SPECTRAL_STATE_H
#define LYAP_SPECTRAL_STATE_H

#include "lyap/declaration.h"
#include "lyap/partial.h"
#include "lyap/spectral_job.h"
#include "spectral_view.h"

/* Upper bound; NaN: none. */
struct lyap_spectral_bound {
    double value, drift;
};

/* NaN: not known. */
struct lyap_spectral_visit {
    double drift, frobenius; /* of the weight then */
    double moved;            /* |W - W before|_F since the visit before it */
};

struct lyap_spectral_tensor {
    uint32_t rows, cols; /* rows 0: no matrix, or its vectors exceed the run's memory */
    uint32_t block, block_max;
    uint32_t visits;      /* since the start vectors */
    uint32_t calm_visits; /* in a row with a small residual */
    uint64_t version;     /* of v */
    double *v;            /* owned; room for block_max x cols; NULL: no rows */
    double *marks; /* owned; of the newest visit: LYAP_SPECTRAL_MARKS x cols; NULL: no rows */
    bool has_marks;
    struct lyap_spectral_visit visit; /* the newest */
    double drift;
    double frobenius_cold; /* |W|_F of the cold start; NaN: none yet */
    uint32_t gram_age;     /* snapshots since the Gram bound was asked for; UINT32_MAX: never */
    bool is_cold;          /* a cold start is wanted */
    struct lyap_spectral_estimate newest; /* sigma NaN: none that counts yet */
    double newest_error;
    struct lyap_spectral_bound upper, row_norm;
    struct lyap_spectral_view view;
};

struct lyap_spectral_state {
    uint32_t count;
    struct lyap_spectral_tensor *tensors; /* owned; as declared */
    uint32_t cursor;                      /* tensor that the next plan begins with */
    uint32_t job_cursor;
    uint64_t epoch;  /* changes when the drifts lose their meaning */
    double elements; /* of all matrices */
};

/* Empty, count 0, until lyap_spectral_state_reserve. */
void lyap_spectral_state_release(struct lyap_spectral_state *state);
/* For the tensors of a set; what is known stays where they are as many with the same matrices.
 * E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_spectral_state_reserve(struct lyap_spectral_state *state,
                                                             const struct lyap_tensor_set *set);
/* No difference connects what comes with what was: the bounds go, the vectors stay. */
void lyap_spectral_state_unlink(struct lyap_spectral_state *state);

/* Multiply-adds of one upload of a model of so many elements. */
double lyap_spectral_budget(double elements);
/* Multiply-adds of measuring a weight in a stream, its marks included, and of its cold start;
 * squarings and flops of
 * its Gram bound. */
double lyap_spectral_work(const struct lyap_spectral_tensor *tensor);
double lyap_spectral_cold_work(const struct lyap_spectral_tensor *tensor);
uint32_t lyap_spectral_squarings(const struct lyap_spectral_tensor *tensor);
double lyap_spectral_gram_flops(const struct lyap_spectral_tensor *tensor);
/* Bytes of all vectors at their largest blocks, and of the marks. */
double lyap_spectral_vector_bytes(const struct lyap_spectral_state *state);

/* Vectors of the block, the last, that are kept for what moved. */
uint32_t lyap_spectral_mark_count(const struct lyap_spectral_tensor *tensor);
/* Of the block, which is finite; a new version: what still streams with the old one does not
 * replace it. */
void lyap_spectral_orthonormalize(struct lyap_spectral_tensor *tensor);

/* Takes the offer where it is the lower one at `drift`; NaN is none. */
void lyap_spectral_bound_offer(struct lyap_spectral_bound *bound,
                               const struct lyap_spectral_bound *offer, double drift);
/* Long bounds that are due on the kept snapshot of `step`, the newest: the Gram bound of each
 * weight after `every` snapshots (0: never), cold starts. NULL: none. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_spectral_state_job(struct lyap_spectral_state *state,
                                                         int64_t step, uint32_t every,
                                                         struct lyap_spectral_job **ret_job);
/* Takes what is done and still holds. */
void lyap_spectral_state_result(struct lyap_spectral_state *state,
                                const struct lyap_spectral_job *job);
#endif
