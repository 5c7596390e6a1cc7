/* intake.h - turns the tensors of one upload, as their bytes arrive, into a partial and the memory
 * the next upload is compared with. The heart of ingest: one pass, chunks of any length and
 * alignment, results that do not depend on how the bytes were cut (sums close per LYAP_SUM_BLOCK
 * elements).
 *
 *   lyap_intake_new -> lyap_intake_plan (all entries, in body order)
 *     -> lyap_intake_bytes (entry 0 .. n-1, in order, each in any number of chunks)
 *     -> lyap_intake_finish -> partial (always) and memory (finite exact-retention pushes)
 *
 * THREADS: one intake has one owner at a time; `previous` and `declaration` are shared read-only.
 */
#ifndef LYAP_INTAKE_H
#define LYAP_INTAKE_H

#include "lyap/declaration.h"
#include "lyap/dtype.h"
#include "lyap/partial.h"
#include "lyap/role.h"
#include "lyap/snapshot.h"
#include "lyap/status.h"

/* What one snapshot leaves behind for its successor: theta, g, probe gradient in their dtypes
 * (exact retention), the predicted update or Adam's (m, v), and the scalars of its push. Immutable
 * once finished; the daemon counts references and calls lyap_memory_free on the last. */
struct lyap_memory;
LYAP_API void lyap_memory_free(struct lyap_memory *memory);
LYAP_API uint64_t lyap_memory_bytes(const struct lyap_memory *memory);
LYAP_API int64_t lyap_memory_step(const struct lyap_memory *memory);
/* Bytes a run needs per rank under exact retention (two generations, state included): the budget
 * charge. */
LYAP_API uint64_t lyap_memory_bytes_estimate(const struct lyap_declaration *declaration,
                                             uint64_t param_bytes);

struct lyap_intake_config {
    const struct lyap_declaration *declaration; /* set known; outlives the intake */
    const struct lyap_snapshot *snapshot; /* lr, clip, skipped, shards ...; outlives the intake */
    const struct lyap_memory *previous;   /* predecessor of the same attempt and rank, or NULL */
    uint64_t
        updates; /* optimizer updates between previous and this: 1 unless steps were not pushed */
    struct lyap_memory *take_recycled; /* an old generation whose buffers are reused, or NULL */
    uint64_t sketch_seed;              /* one per run */
    enum lyap_retention retention;     /* EXACT or SKETCH */
    uint64_t hold_bytes_max;           /* LYAP_HOLD_BYTES_MAX */
    /* Weights to measure, or NULL; made for the tensors of `declaration`; outlives the partial. */
    const struct lyap_spectral_plan *spectral;
};

/* One array of the body: a tensor of a full push, or a row or sketch of a partial push (always
 * F64). */
enum lyap_intake_kind { LYAP_INTAKE_TENSOR, LYAP_INTAKE_REDUCE, LYAP_INTAKE_SKETCH };
struct lyap_intake_entry {
    enum lyap_intake_kind kind;
    uint32_t what;   /* enum lyap_role, lyap_reduce or lyap_sketch_role, by kind */
    uint32_t tensor; /* TENSOR: index in the declared set; activations, gates: 0 for the network's
                        input, l + 1 for layer l */
    enum lyap_dtype dtype;
    uint64_t count; /* elements in this body (the shard's, when sharded) */
    /* TENSOR: extents in this body; borrowed until the plan returns. Only a box shard and
     * activations need them; NULL and 0 otherwise. */
    const uint64_t *shape;
    uint32_t rank;
};

struct lyap_intake;

LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_intake_new(const struct lyap_intake_config *config,
                                                          struct lyap_intake **ret_intake,
                                                          struct lyap_error *reterr);
LYAP_API void lyap_intake_free(struct lyap_intake *intake);
/* Checks shapes against the declaration and shards, decides what is held and which products are
 * exact. E_TENSOR_SET, E_SHARD_COVERAGE, E_INVALID, E_CONTRADICTION, E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_intake_plan(struct lyap_intake *intake,
                                                           const struct lyap_intake_entry *entries,
                                                           uint32_t entry_count,
                                                           struct lyap_error *reterr);
/* The next `length` bytes of entry `index`; the last byte of an entry closes it. Never fails: all
 * memory was allocated by the plan. */
LYAP_API void lyap_intake_bytes(struct lyap_intake *intake, uint32_t index, const void *bytes,
                                uint64_t length);
/* E_NOMEM, E_FORMAT (an entry is short). *ret_memory is NULL when nothing is retained (sketch
 * retention, non-finite values, a skipped step keeps theta). */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_intake_finish(struct lyap_intake *intake,
                                                             struct lyap_partial *ret_partial,
                                                             struct lyap_memory **ret_memory);
#endif
