/* sketch.h - the blocked CountSketch of the wire format (docs/sketch.md): a linear map of all
 * tensors to k sums, from which norms, inner products and Gram matrices are estimated.
 * THREADS: one owner at a time. */
#ifndef LYAP_SKETCH_H
#define LYAP_SKETCH_H

#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/status.h"

/* A sketch in progress. `size` sums and, behind them, room for one block, so that a block that
 * crosses the end is added without wrapping; reading folds it back. */
struct lyap_sketch {
    double *sums; /* owned; size + LYAP_SKETCH_BLOCK */
    uint32_t size;
};
#define LYAP_SKETCH_NULL                                                                           \
    {                                                                                              \
        0                                                                                          \
    }

/* E_INVALID unless LYAP_SKETCH_BLOCK <= size <= 2^31; E_NOMEM. All zero. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_sketch_init(struct lyap_sketch *sketch,
                                                           uint32_t size);
LYAP_API void lyap_sketch_release(struct lyap_sketch *sketch);

/* Seed of one tensor: mix64(run_seed ^ fnv1a64(name without role)). */
LYAP_API uint64_t lyap_sketch_seed(uint64_t run_seed, const char *name, uint64_t length);
/* Adds coordinates first .. first + count - 1 (row-major index in the whole, unsharded tensor),
 * which may start and end anywhere. Non-finite elements, and those above LYAP_MAGNITUDE_MAX, are
 * skipped. */
LYAP_API void lyap_sketch_add(struct lyap_sketch *sketch, uint64_t seed, uint64_t first,
                              const double *x, uint64_t count);
/* Writes the `size` sums. */
LYAP_API void lyap_sketch_read(const struct lyap_sketch *sketch, double *ret);

#endif
