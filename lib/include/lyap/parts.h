/* parts.h - what the scores of a point are made of, as it is stored with the point: the largest
 * shares of each score and the tensors that they come from. A later table of the score says nothing
 * about an earlier point, so they are kept, not recomputed. THREADS: pure functions. */
#ifndef LYAP_PARTS_H
#define LYAP_PARTS_H

#include "lyap/score.h"

/* What a tensor is named for. WORK: its share of the overshoot work |<g_t, D>|; others: the tensor
 * whose value the metric of the point is. */
enum lyap_named_for {
    LYAP_NAMED_WORK,
    LYAP_NAMED_UPDATE_Z,
    LYAP_NAMED_GRAD_Z,
    LYAP_NAMED_MOMENT,
    LYAP_NAMED_COUNT
};

struct lyap_named_tensor {
    char name[LYAP_TENSOR_NAME_BYTES_MAX + 1];
    enum lyap_named_for reason;
    double value;
};

struct lyap_parts {
    uint32_t version;                       /* of the score's table; 0: there was no score */
    uint32_t counts[LYAP_SCORE_KIND_COUNT]; /* by enum lyap_score_kind */
    struct lyap_score_part parts[LYAP_SCORE_KIND_COUNT][LYAP_SCORE_PARTS_MAX];
    uint32_t tensor_count;
    struct lyap_named_tensor tensors[LYAP_PARTS_TENSORS_MAX];
};

/* Returns the number of bytes; 0 for version 0. */
LYAP_API uint32_t lyap_parts_encode(const struct lyap_parts *parts,
                                    unsigned char ret_bytes[LYAP_PARTS_BYTES_MAX]);
/* E_FORMAT: not bytes of lyap_parts_encode. No bytes: version 0. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_parts_decode(const unsigned char *bytes, uint32_t length, struct lyap_parts *ret_parts);
/* "overshoot_work", "update_z" ... */
LYAP_API const char *lyap_named_for_name(enum lyap_named_for reason);

#endif
