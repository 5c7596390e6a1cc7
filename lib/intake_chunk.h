/* intake_chunk.h - one chunk of one tensor while its products are summed; shared by the loops over
 * its arrays. THREADS: as the intake. */
#ifndef LYAP_INTAKE_CHUNK_H
#define LYAP_INTAKE_CHUNK_H

#include "intake_state.h"

/* Which arrays are there, and where. Absent ones that count as zero (a frozen tensor's gradient)
 * point to zeros. */
struct lyap_chunk {
    struct lyap_intake *intake;
    struct lyap_intake_tensor *tensor;
    uint32_t index;
    uint64_t first;       /* element in the tensor */
    size_t count, padded; /* elements; with the zeros up to a whole sketch block */
    const unsigned char *streamed;
    uint64_t streamed_first; /* element that `streamed` starts at */
    const double *at[LYAP_ARRAY_COUNT];
    const struct lyap_step_rule *rule, *previous; /* of the coming update, of the last one */
    struct lyap_lanes *sums;                      /* LYAP_PRODUCT_COUNT */
};

#define LYAP_CHUNK_SUM(chunk, row) LYAP_PRODUCT_SUM((chunk)->sums, row)

static inline bool lyap_chunk_wants(const struct lyap_chunk *chunk, uint32_t bits)
{
    return (chunk->tensor->rows & bits) != 0;
}

static inline double *lyap_chunk_scratch(const struct lyap_chunk *chunk, enum lyap_array array)
{
    return chunk->intake->chunks[array];
}

static inline struct lyap_step_arrays lyap_chunk_step_arrays(const struct lyap_chunk *chunk)
{
    return (struct lyap_step_arrays){ .param = chunk->at[LYAP_ARRAY_PARAM],
                                      .grad = chunk->at[LYAP_ARRAY_GRAD],
                                      .first = chunk->at[LYAP_ARRAY_FIRST],
                                      .second = chunk->at[LYAP_ARRAY_SECOND],
                                      .count = chunk->padded };
}

/* P_t, whose v includes this gradient, times the rule's scale: into LYAP_ARRAY_WEIGHT; the
 * effective gradient and v into LYAP_ARRAY_EFFECTIVE and LYAP_ARRAY_SECOND_NEXT. */
void lyap_chunk_next_weight(struct lyap_chunk *chunk);
/* Rows of the last update's prediction and of the coming update. */
void lyap_chunk_add_steps(struct lyap_chunk *chunk);
/* Rows weighted by P, and the weighted sketches. */
void lyap_chunk_add_weighted(struct lyap_chunk *chunk);

#endif
