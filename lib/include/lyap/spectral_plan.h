/* spectral_plan.h - which weights the next uploads measure the largest singular value of, with
 * which vectors, and what comes of it (SPEC 1.2). A weight is the matrix shape[0] x rest,
 * row-major, as it streams: V has the length of a row. Of a convolution that is the kernel
 * flattened to out x rest, a lower bound of its norm on images as large as the kernel or larger.
 *
 *   state -> plan -> uploads of all ranks (Z = W'(W V), row by row) -> sums added -> finished ->
 * state
 *
 * THREADS: the state has one owner; a plan is immutable and shared; sums have one owner at a time.
 */
#ifndef LYAP_SPECTRAL_PLAN_H
#define LYAP_SPECTRAL_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/spectral.h"
#include "lyap/status.h"

struct lyap_tensor_set;
struct lyap_partial;

enum {
    LYAP_SPECTRAL_WARM_VISITS = 8, /* measured so often without its own cold start, it counts */
    LYAP_SPECTRAL_SUMS_EVERY = 8,  /* visits between the sums of magnitudes */
    LYAP_SPECTRAL_GRAM_EVERY = 50, /* snapshots between Gram bounds of a weight */
    LYAP_SPECTRAL_BYTES_MAX = 64 << 20,     /* of the vectors of one run */
    LYAP_SPECTRAL_SMALL_BYTES = 1 << 18,    /* of them in a small model: plans carry their state */
    LYAP_SPECTRAL_SAVED_BYTES_MAX = 4 << 20 /* of them, in the stored windows */
};
/* Multiply-adds of one upload: so many for free, then two vectors' (4) for each element, which is
 * about 3 % of the time of an upload. */
#define LYAP_SPECTRAL_WORK_FREE    0x1p24
#define LYAP_SPECTRAL_WORK_ELEMENT 4.0
/* At once where W is kept, of one upload: multiply-adds of iterations (64 an element of a block of
 * four), flops of Gram bounds. What exceeds these alone is the worker's. */
#define LYAP_SPECTRAL_WORK_COLD 0x1p24
#define LYAP_SPECTRAL_WORK_GRAM 0x1p26

/* One weight whose turn it is. */
struct lyap_spectral_item {
    uint32_t tensor;
    uint32_t rows, cols, block;
    uint64_t version;   /* of these vectors in the state */
    bool is_warm;       /* the estimate counts */
    bool is_cold;       /* where W is kept whole: iterate at once */
    bool has_sums;      /* sums of magnitudes too */
    uint32_t squarings; /* where W is kept whole: of a Gram bound at once; 0: none */
    double *v;          /* owned; block x cols, orthonormal */
};

struct lyap_spectral_plan {
    uint32_t gram_every;
    bool is_first; /* of a run of which nothing is known: made anew, it is the same */
    struct lyap_spectral_state *state; /* owned; what it was made of, of small models; else NULL */
    uint32_t count;
    struct lyap_spectral_item *items; /* owned; ascending by tensor */
};
/* Of a run of which nothing is known: start vectors by the tensor's name; `gram_every` as
 * below. E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_plan_first(const struct lyap_tensor_set *set, uint32_t gram_every,
                         struct lyap_spectral_plan **ret_plan);
/* The plan that the state will make after the upload by `plan` with this finished sum (NULL: no
 * finite snapshot), so that several snapshots of one body give what they give one by one. Of a
 * large model, whose plan has no state: E_LIMIT. E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_plan_next(const struct lyap_spectral_plan *plan, const struct lyap_partial *partial,
                        struct lyap_spectral_plan **ret_plan);
/* Bytes of vectors that a run of these tensors holds at most: in the state, in a plan, in sums. */
LYAP_API uint64_t lyap_spectral_bytes(const struct lyap_tensor_set *set);
LYAP_API void lyap_spectral_plan_free(struct lyap_spectral_plan *plan); /* NULL: nothing */
/* NULL: it is not this tensor's turn. */
LYAP_API const struct lyap_spectral_item *
lyap_spectral_plan_find(const struct lyap_spectral_plan *plan, uint32_t tensor);

/* What is known of the weights of a run. A profile has one; a client of the partial grade has its
 * own. E_NOMEM. */
struct lyap_spectral_state;
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_state_new(const struct lyap_tensor_set *set, struct lyap_spectral_state **ret_state);
LYAP_API void lyap_spectral_state_free(struct lyap_spectral_state *state); /* NULL: nothing */
/* One finite snapshot, finished. `has_delta`: its row delta_sq connects it with the one before. */
LYAP_API void lyap_spectral_state_step(struct lyap_spectral_state *state,
                                       const struct lyap_partial *partial, bool has_delta);
/* The next uploads' turn; the Gram bound of small weights after `gram_every` snapshots (0: never).
 * E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_state_plan(struct lyap_spectral_state *state, uint32_t gram_every,
                         struct lyap_spectral_plan **ret_plan);

/* What the rows of one item add up to. */
struct lyap_spectral_sum {
    const struct lyap_spectral_item *item; /* of the plan */
    double *z;                             /* owned; block x cols; the next V once it is finished */
    double *marks;                         /* owned; LYAP_SPECTRAL_MARKS x cols */
    double *columns;                       /* owned; cols sums of |w|, or NULL */
    double row_abs, row_sq;
    uint64_t rows; /* of all ranks so far */
    bool is_cut;   /* a row was cut between ranks */
    bool is_cold;  /* iterated from its own start on the whole W: the estimate counts */
    bool has_gram;
    double gram_upper;
    bool has_next; /* finished: z is the next V, and */
    struct lyap_spectral_estimate estimate;
};

struct lyap_spectral_sums {
    const struct lyap_spectral_plan *plan; /* borrowed: outlives the sums */
    uint32_t count;                        /* of the plan's items */
    struct lyap_spectral_sum *sums;        /* owned; as the plan's items */
};
/* All zero. E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_sums_new(const struct lyap_spectral_plan *plan, struct lyap_spectral_sums **ret_sums);
LYAP_API void lyap_spectral_sums_free(struct lyap_spectral_sums *sums); /* NULL: nothing */
/* *target += source, both may be NULL; an empty target becomes a copy. Sums of different plans do
 * not add: their items stay short of rows. E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_sums_add(struct lyap_spectral_sums **target, const struct lyap_spectral_sums *source);
/* All ranks were added: the finished rows spectral_norm, spectral_residual (where the item is
 * warm), spectral_upper (where it has sums) of the partial, and the next vectors. Items whose rows
 * are not all there, or not finite, give nothing. E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_spectral_finish(struct lyap_partial *partial);

#endif
