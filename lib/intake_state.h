/* intake_state.h - state of one upload. plan fills it, blocks and products run on it.
 * One entry is open at a time, and the products of a tensor run while its last entry streams: so
 * one set of accumulators serves all tensors. */
#ifndef LYAP_INTAKE_STATE_H
#define LYAP_INTAKE_STATE_H

#include "kernels/kernels.h"
#include "lyap/intake.h"
#include "lyap/sketch.h"
#include "memory.h"
#include "step.h"

enum {
    LYAP_CHUNK = 512, /* elements widened at once: a dozen arrays of them stay in the first cache */
    LYAP_PRODUCT_FIRST = LYAP_REDUCE_GRAD_PARAM, /* product rows lie side by side */
    LYAP_PRODUCT_COUNT = LYAP_REDUCE_PAIR_YPY - LYAP_PRODUCT_FIRST + 1,
    LYAP_PAIRWISE_LEVELS = 48,        /* 2^48 blocks */
    LYAP_STREAMED_BYTES_MIN = 1 << 20 /* stored past the caches: a usual second cache */
};

/* Bit of one product row. */
#define LYAP_PRODUCT_BIT(row) (UINT32_C(1) << (LYAP_REDUCE_##row - LYAP_PRODUCT_FIRST))

#define LYAP_PRODUCT_SUM(rows, row) (&(rows)[LYAP_REDUCE_##row - LYAP_PRODUCT_FIRST])

/* Sums of blocks, added pairwise like a binary counter: level i holds the sum of 2^i blocks. */
struct lyap_pairwise {
    double levels[LYAP_PAIRWISE_LEVELS][LYAP_PRODUCT_COUNT];
    uint64_t blocks;
    uint32_t width; /* sums side by side */
};

/* Moments of one role of one tensor, in progress. */
struct lyap_moment_total {
    struct lyap_pairwise sums; /* sq, abs */
    double max, block_sq;
    uint64_t zeros, nonfinite, count;
};

/* What the products of one sum block come to. */
struct lyap_product_sums {
    struct lyap_lanes rows[LYAP_PRODUCT_COUNT]; /* those of enum lyap_pair_sum first */
    struct lyap_moment_sums moments;            /* of D, where it is derived */
};

/* Geometry of the part of a tensor that this rank holds. */
struct lyap_part {
    bool is_box;
    uint64_t offset; /* flat: first element */
    /* Box: contiguous runs of `run` elements; the run's outer coordinates count in `extent`. */
    uint64_t run;
    uint64_t extent[LYAP_TENSOR_RANK_MAX], start[LYAP_TENSOR_RANK_MAX],
        stride[LYAP_TENSOR_RANK_MAX];
    uint32_t outer; /* dimensions outside the run */
    uint64_t run_offset;
};

struct lyap_intake_tensor {
    uint32_t entries[LYAP_ROLE_COUNT]; /* index + 1; 0: not in the body */
    uint32_t first_entry, last_entry;  /* index + 1 */
    uint32_t entry_count;
    uint64_t count; /* elements of this rank */
    uint64_t shard_key;
    uint64_t seed;
    const struct lyap_part *part;              /* NULL: the whole tensor */
    const struct lyap_memory_tensor *previous; /* NULL: no predecessor of the same shard */
    uint32_t rows;                             /* LYAP_PRODUCT_BIT of what is computed */
    enum lyap_state_source state[LYAP_STATE_PARTS];
    double shrink;     /* of the coming update, once its late rule is settled */
    bool has_products; /* its roles are in reach of each other */
    bool is_delta_derived;
};

struct lyap_intake_array {
    struct lyap_intake_entry entry;
    uint64_t bytes, done;
    unsigned char *store; /* where all its bytes go; NULL: block by block through the staging */
    bool has_nonfinite;
    uint64_t samples, width; /* of activations: first and last extent */
};

/* Arrays of one chunk, widened or computed. */
enum lyap_array {
    LYAP_ARRAY_PARAM,
    LYAP_ARRAY_GRAD,
    LYAP_ARRAY_DELTA,
    LYAP_ARRAY_FIRST,
    LYAP_ARRAY_SECOND,
    LYAP_ARRAY_PROBE,
    LYAP_ARRAY_SAME,
    LYAP_ARRAY_PAIR_S,
    LYAP_ARRAY_PAIR_Y,
    LYAP_ARRAY_ANCHOR,
    LYAP_ARRAY_PARAM_PREV,
    LYAP_ARRAY_GRAD_PREV,
    LYAP_ARRAY_PROBE_PREV,
    LYAP_ARRAY_FIRST_PREV,
    LYAP_ARRAY_SECOND_PREV,
    LYAP_ARRAY_EFFECTIVE,
    LYAP_ARRAY_SECOND_NEXT,
    LYAP_ARRAY_STEP,
    LYAP_ARRAY_WEIGHT,  /* P */
    LYAP_ARRAY_SCRATCH, /* three */
    LYAP_ARRAY_SCRATCH_2,
    LYAP_ARRAY_SCRATCH_3,
    LYAP_ARRAY_ZERO, /* stays zero */
    LYAP_ARRAY_COUNT
};

struct lyap_intake {
    struct lyap_intake_config config;
    const struct lyap_kernels *kernels;
    struct lyap_intake_array *arrays; /* owned; one per entry */
    uint32_t array_count;
    uint32_t open;                      /* entry that takes bytes next */
    struct lyap_intake_tensor *tensors; /* owned; as declared */
    uint32_t tensor_count;
    struct lyap_part *parts;            /* owned */
    struct lyap_step_rule *rules;       /* owned; group_count + 1 */
    struct lyap_memory *memory;         /* owned; NULL in sketch retention */
    unsigned char *hold;                /* owned; roles held for products only */
    bool has_sketch[LYAP_SKETCH_COUNT]; /* complete over the tensors of this rank */
    bool is_delta_sketch_late;          /* that of D is the difference of two of theta */
    struct lyap_partial partial;        /* owned */
    struct lyap_sketch sketches[LYAP_SKETCH_COUNT];
    bool is_partial_grade, has_role[LYAP_ROLE_COUNT], has_nonfinite;
    struct lyap_intake_acts *acts; /* owned; NULL: no activations in the body */
    bool is_clip_late; /* the clip coefficient follows from this upload's own gradient */

    struct lyap_moment_total moments;       /* of the open entry */
    struct lyap_moment_total delta_moments; /* of theta differences, along with the products */
    struct lyap_pairwise products;
    uint64_t gain_counts[LYAP_GAIN_BINS]; /* of the open tensor */
    struct lyap_moved moved;              /* constants of the tensor whose products run */
    bool is_moved_plain;                  /* intake_moved.c does them */
    double (*chunks)[LYAP_CHUNK];         /* owned, aligned; LYAP_ARRAY_COUNT */
    unsigned char *staging;               /* owned; one block of any type */

    struct lyap_spectral_sum *row_sum; /* of the open entry, or NULL */
    unsigned char *row_hold;           /* owned, or NULL; rows that blocks cut */
    size_t row_held;                   /* bytes */
    uint64_t row_first;                /* of the rank in the whole tensor */
    double *row_wide;                  /* owned, or NULL; rows of other types than F32 */
};

/* part: the geometry of a shard as entry `entry` has it; names what does not fit.
 * E_SHARD_COVERAGE. */
enum lyap_status lyap_part_set(const struct lyap_tensor *declared, const struct lyap_shard *shard,
                               const struct lyap_intake_entry *entry, struct lyap_part *ret_part,
                               struct lyap_error *reterr);
uint64_t lyap_part_key(const struct lyap_part *part);

/* grade: plan and finish of a push of rows and sketches. */
enum lyap_status lyap_intake_plan_partial(struct lyap_intake *intake, struct lyap_error *reterr);

/* rows: what can be computed */
void lyap_intake_state_sources(const struct lyap_intake *intake, uint32_t index,
                               enum lyap_state_source ret_state[LYAP_STATE_PARTS]);
uint32_t lyap_intake_product_rows(const struct lyap_intake *intake, uint32_t index);

/* layout: what is stored where, and which rows and sketches come out. E_NOMEM. */
enum lyap_status lyap_intake_layout(struct lyap_intake *intake);
/* Activations and gates belong to layers, and have no products. */
bool lyap_intake_is_act(enum lyap_role role);

/* acts: those of the layers. E_INVALID, E_CONTRADICTION, E_NOMEM. */
enum lyap_status lyap_acts_plan(struct lyap_intake *intake, struct lyap_error *reterr);
void lyap_acts_free(struct lyap_intake_acts *acts); /* NULL: nothing */
void lyap_acts_open(struct lyap_intake *intake, const struct lyap_intake_array *array);
/* `count` elements from `first` of the open entry, raw. */
void lyap_acts_block(struct lyap_intake *intake, const struct lyap_intake_array *array,
                     uint64_t first, uint64_t count, const unsigned char *bytes);
void lyap_acts_close(struct lyap_intake *intake, const struct lyap_intake_array *array);
/* When all entries have come: what needs tensors and gates. */
void lyap_acts_finish(struct lyap_intake *intake);

/* blocks: lyap_intake_bytes, and */
/* Opens the next entry that has bytes; called once by the plan, then by lyap_intake_bytes. */
void lyap_intake_advance(struct lyap_intake *intake);
void lyap_pairwise_reset(struct lyap_pairwise *sums, uint32_t width);
void lyap_pairwise_push(struct lyap_pairwise *sums, const double *values);
void lyap_pairwise_total(const struct lyap_pairwise *sums, double *ret);
void lyap_moment_reset(struct lyap_moment_total *total);
/* One chunk of finite or non-finite values, padded with zeros to whole sketch blocks; non-finite
 * ones become 0 in place. Returns how many there were. */
uint64_t lyap_moment_chunk(const struct lyap_kernels *kernels, double *x, size_t count,
                           struct lyap_moment_sums *sums);
void lyap_moment_close_block(struct lyap_moment_total *total, const struct lyap_moment_sums *sums,
                             uint64_t count, uint64_t nonfinite);
void lyap_moment_write(const struct lyap_moment_total *total, struct lyap_partial *partial,
                       enum lyap_reduce first_row, uint32_t tensor);
size_t lyap_padded(size_t count);
/* Widens and pads. */
void lyap_chunk_widen(const struct lyap_kernels *kernels, enum lyap_dtype dtype,
                      const unsigned char *bytes, size_t count, double *ret);
void lyap_intake_sketch(struct lyap_intake *intake, enum lyap_sketch_role role, uint32_t index,
                        uint64_t first, size_t count, const double *x);

/* Copies to a plane, past the caches where the tensor is large: it leaves them before it is read
 * again. */
void lyap_intake_keep(const struct lyap_kernels *kernels, uint64_t tensor_bytes,
                      unsigned char *target, const void *source, uint64_t length);

/* spectral */
/* E_NOMEM. */
enum lyap_status lyap_intake_spectral_layout(struct lyap_intake *intake);
void lyap_intake_spectral_open(struct lyap_intake *intake, const struct lyap_intake_array *array);
/* Raw bytes of the open entry, in order. */
void lyap_intake_spectral_block(struct lyap_intake *intake, const struct lyap_intake_array *array,
                                const unsigned char *bytes, uint64_t length);
/* E_NOMEM. */
enum lyap_status lyap_intake_spectral_finish(struct lyap_intake *intake);

/* moved */
void lyap_moved_open(struct lyap_intake *intake);
/* The products of the first elements of a block into `sums`, all zero before; how many elements it
 * did: none when the general way must go over them. */
uint64_t lyap_moved_block(struct lyap_intake *intake, uint64_t first, uint64_t count,
                          const unsigned char *streamed, struct lyap_product_sums *sums);

/* products */
void lyap_products_open(struct lyap_intake *intake);
/* Block of `count` elements from `first` of a tensor whose roles have all arrived so far;
 * `streamed` is the raw block of the open entry. */
void lyap_products_block(struct lyap_intake *intake, uint32_t index, uint64_t first, uint64_t count,
                         const unsigned char *streamed);
void lyap_products_close(struct lyap_intake *intake, uint32_t index);
/* finish: after all tensors, the rows that follow from whole sums and the constants of late rules.
 */
void lyap_products_finish(struct lyap_intake *intake);
/* late: constants of late rules (step.h) and the simplex's rows of the coming update, in a second
 * pass over what is stored. */
bool lyap_late_is_reachable(const struct lyap_intake *intake, const struct lyap_step_rule *rule);
void lyap_late_settle(struct lyap_intake *intake);

#endif
