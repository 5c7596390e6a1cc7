/* shared.h - what several threads hold at once, by reference count: declarations, the memory a
 * snapshot leaves for its successor, plans of what uploads measure. All are immutable once shared.
 * THREADS: ref and unref from any thread. */
#ifndef LYAP_SHARED_H
#define LYAP_SHARED_H

#include <stdatomic.h>

#include "lyap/declaration.h"
#include "lyap/intake.h"
#include "lyap/snapshot.h"

struct lyap_shared_declaration {
    _Atomic uint32_t refs;
    struct lyap_declaration declaration;
};
/* Copies; `set` (or NULL) replaces the copy's tensors, groups are resolved anew. E_NOMEM, or what
 * the set's build says. */
LYAP_MUST_CHECK enum lyap_status
lyap_shared_declaration_new(const struct lyap_declaration *source,
                            const struct lyap_tensor_set *set,
                            struct lyap_shared_declaration **ret_shared);
struct lyap_shared_declaration *lyap_shared_declaration_ref(struct lyap_shared_declaration *shared);
void lyap_shared_declaration_unref(struct lyap_shared_declaration *shared); /* NULL: nothing */

struct lyap_shared_memory {
    _Atomic uint32_t refs;
    int64_t step;
    struct lyap_memory *memory;
};
/* Takes the memory in any case. NULL: out of memory. */
struct lyap_shared_memory *lyap_shared_memory_new(struct lyap_memory *take_memory);
struct lyap_shared_memory *lyap_shared_memory_ref(struct lyap_shared_memory *shared); /* or NULL */
/* The last reference gives the memory itself back, for its buffers to be used again; otherwise
 * NULL. */
LYAP_MUST_CHECK struct lyap_memory *lyap_shared_memory_unref(struct lyap_shared_memory *shared);

struct lyap_shared_plan {
    _Atomic uint32_t refs;
    struct lyap_spectral_plan *plan;
};
/* Takes the plan in any case. NULL: out of memory. */
struct lyap_shared_plan *lyap_shared_plan_new(struct lyap_spectral_plan *take_plan);
struct lyap_shared_plan *lyap_shared_plan_ref(struct lyap_shared_plan *shared); /* or NULL */
void lyap_shared_plan_unref(struct lyap_shared_plan *shared);                   /* NULL: nothing */

/* Deep copy of a snapshot's scalars, shards and labels. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_snapshot_dup(const struct lyap_snapshot *source,
                                                   struct lyap_snapshot *ret_copy);

#endif
