/* declaration.h - what a run says about itself: tensors, optimizer, layers, data, retention,
 * windows. PUT /v1/runs/{run} creates it; a first push learns what was not declared. THREADS: built
 * by one thread, then immutable and shared by reference count in the daemon. */
#ifndef LYAP_DECLARATION_H
#define LYAP_DECLARATION_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/network.h"
#include "lyap/optimizer.h"
#include "lyap/status.h"

struct lyap_tensor {
    char *name; /* owned; without role */
    uint64_t shape[LYAP_TENSOR_RANK_MAX];
    uint32_t rank;  /* 0: a scalar, one element */
    uint32_t group; /* optimizer group, set when optimizer and tensors are both known */
    uint64_t count; /* product of shape, of the whole unsharded tensor */
};

/* The param tensors of a run, in declared (or first pushed) order. */
struct lyap_tensor_set {
    struct lyap_tensor *tensors; /* owned */
    uint32_t count;
    uint32_t *order; /* owned; indices sorted by name, for lyap_tensor_set_find */
};
#define LYAP_TENSOR_SET_NULL                                                                       \
    {                                                                                              \
        0                                                                                          \
    }

enum lyap_retention { LYAP_RETENTION_AUTO, LYAP_RETENTION_EXACT, LYAP_RETENTION_SKETCH };
enum lyap_data_kind { LYAP_DATA_MINIBATCH, LYAP_DATA_FULL_BATCH };

enum { LYAP_WINDOW_COUNT_MAX = 8 };

struct lyap_declaration {
    struct lyap_tensor_set set;      /* count 0: not yet known */
    struct lyap_optimizer optimizer; /* type `other` when not declared */
    bool has_optimizer;
    enum lyap_retention retention;
    enum lyap_data_kind data;
    uint32_t windows[LYAP_WINDOW_COUNT_MAX]; /* steps; default 64, 256, 1024 */
    uint32_t window_count;
    int64_t steps;               /* of the whole training; 0: not declared */
    struct lyap_network network; /* count 0: no layers are declared */
};

/* Builds `order` and `count`; takes ownership of the array in any case. E_INVALID (duplicate name,
 * rank, zero count of tensors), E_LIMIT, E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_tensor_set_build(struct lyap_tensor *take_tensors,
                                                                uint32_t count,
                                                                struct lyap_tensor_set *ret_set,
                                                                struct lyap_error *reterr);
LYAP_API void lyap_tensor_set_release(struct lyap_tensor_set *set);
/* -1 when absent; O(log n). `name` need not be terminated. */
LYAP_API int64_t lyap_tensor_set_find(const struct lyap_tensor_set *set, const char *name,
                                      uint64_t length);
/* Same names and shapes, order ignored; names the first difference in reterr (E_TENSOR_SET). */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_tensor_set_same(const struct lyap_tensor_set *declared, const struct lyap_tensor_set *pushed,
                     struct lyap_error *reterr);

LYAP_API void lyap_declaration_init(struct lyap_declaration *declaration);
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_declaration_copy(const struct lyap_declaration *source, struct lyap_declaration *ret_copy);
LYAP_API void lyap_declaration_release(struct lyap_declaration *declaration);
/* Fills set.tensors[i].group from the optimizer's patterns. The tensors of layers:
 * lyap_network_resolve. */
LYAP_API void lyap_declaration_resolve_groups(struct lyap_declaration *declaration);

#endif
