/* worker.h - one thread of low priority for bounds that take seconds (SPEC 1.2), on immutable
 * counted memories of exact retention. At most one job of a run is in it, so that runs share it
 * fairly; the engine hands jobs over and takes them back with their results, and never waits.
 * THREADS: new, start, stop, free: main; offer and take: the engine; depth: any. */
#ifndef LYAP_WORKER_H
#define LYAP_WORKER_H

#include "counters.h"
#include "lyap/layer_job.h"
#include "lyap/spectral_job.h"
#include "registry.h"

enum { LYAP_WORKER_JOBS_MAX = 256 }; /* waiting */

struct lyap_worker_item {
    struct lyap_worker_item *next;
    struct lyap_run *run; /* a reference */
    uint32_t attempt;
    struct lyap_shared_memory *memory;           /* a reference, until the last weight is read */
    struct lyap_spectral_job *job;               /* owned, or NULL */
    struct lyap_layer_job *layers;               /* owned, or NULL */
    struct lyap_shared_declaration *declaration; /* a reference: of the layers */
};
/* Drops references and job; NULL: nothing. */
void lyap_worker_item_free(struct lyap_registry *registry, struct lyap_worker_item *item);

struct lyap_worker;

LYAP_MUST_CHECK enum lyap_status lyap_worker_new(struct lyap_registry *registry,
                                                 struct lyap_counters *counters,
                                                 struct lyap_worker **ret_worker);
/* E_NOMEM: no thread could be made. */
LYAP_MUST_CHECK enum lyap_status lyap_worker_start(struct lyap_worker *worker);
/* Wants the thread to end; it does so between two parts of a computation, after a second or two at
 * most. stop also waits for it. Nothing is offered afterwards. */
void lyap_worker_cancel(struct lyap_worker *worker);
void lyap_worker_stop(struct lyap_worker *worker);
void lyap_worker_free(struct lyap_worker *worker); /* NULL: nothing; stopped by then */

/* Takes the item, in any case. False: it was dropped, and counted: the queue is full or closed. */
bool lyap_worker_offer(struct lyap_worker *worker, struct lyap_worker_item *take_item);
/* The oldest item that is done or was given up, or NULL. */
struct lyap_worker_item *lyap_worker_take(struct lyap_worker *worker);
uint32_t lyap_worker_depth(struct lyap_worker *worker); /* waiting or running */

#endif
