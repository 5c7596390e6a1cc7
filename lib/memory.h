/* memory.h - what one snapshot leaves for the next: planes of elements in their stored types, and
 * the rule of the update that was coming. THREADS: built by one intake, then immutable. */
#ifndef LYAP_MEMORY_H
#define LYAP_MEMORY_H

#include "lyap/dtype.h"
#include "lyap/intake.h"
#include "step.h"

enum lyap_plane {
    LYAP_PLANE_PARAM,
    LYAP_PLANE_GRAD,
    LYAP_PLANE_PROBE,
    LYAP_PLANE_FIRST,  /* see enum lyap_state_part */
    LYAP_PLANE_SECOND, /* likewise */
    LYAP_PLANE_COUNT
};

/* Where one tensor's elements lie in a plane. */
struct lyap_memory_slot {
    uint64_t at; /* bytes from the plane's start */
    enum lyap_dtype dtype;
    bool is_kept;
};

struct lyap_memory_tensor {
    uint64_t count;     /* elements of this rank; 0: it holds none */
    uint64_t shard_key; /* equal for equal shards */
    struct lyap_memory_slot slots[LYAP_PLANE_COUNT];
    enum lyap_state_source state[LYAP_STATE_PARTS]; /* KEPT, ZERO or NONE */
    bool has_grad;                                  /* false: the optimizer leaves it alone */
    double shrink;                                  /* of its late rule; NaN: not known */
};

struct lyap_memory {
    int64_t step;
    uint32_t tensor_count, group_count;
    struct lyap_memory_tensor *tensors;      /* owned */
    struct lyap_step_rule *rules;            /* owned; one per optimizer group: the coming update */
    unsigned char *planes[LYAP_PLANE_COUNT]; /* owned, aligned; NULL when empty */
    uint64_t plane_bytes[LYAP_PLANE_COUNT];  /* capacity, recycled planes may have more than used */
    double *param_sketch;       /* owned; LYAP_SKETCH_SIZE: of theta, all tensors of this rank */
    double clip_factor;         /* stored gradient = factor x true one */
    bool has_grads, has_probes; /* any tensor has */
};

/* Empty, for `tensor_count` tensors and `group_count` rules. NULL: out of memory. */
struct lyap_memory *lyap_memory_new(uint32_t tensor_count, uint32_t group_count);
/* A plane of at least `bytes`, taken from `recycled` (may be NULL) when it has one that fits.
 * False: out of memory. */
bool lyap_memory_plane(struct lyap_memory *memory, enum lyap_plane plane, uint64_t bytes,
                       struct lyap_memory *recycled);
/* The rule of a tensor's update that was coming then, its own `shrink` included. */
struct lyap_step_rule lyap_memory_rule(const struct lyap_memory *memory,
                                       const struct lyap_memory_tensor *tensor, uint32_t group);
/* First byte of a slot that is kept. */
const unsigned char *lyap_memory_slot_bytes(const struct lyap_memory *memory, uint32_t tensor,
                                            enum lyap_plane plane);
/* The parameters of a tensor, widened. False, nothing written: it does not hold `count` of them. */
bool lyap_memory_param(const struct lyap_memory *memory, uint32_t tensor, uint64_t count,
                       double *ret_values);

#endif
