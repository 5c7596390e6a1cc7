/* queue.h - the bounded way from the HTTP threads to the engine. A place is reserved when a push
 * is admitted, before its body is read, so that a push never finds the queue full at its end; the
 * items themselves are intrusive, so that lyap_queue_push cannot fail for want of memory.
 * THREADS: every function from any thread, but one consumer. */
#ifndef LYAP_QUEUE_H
#define LYAP_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/status.h"

struct lyap_queue_item { /* embed as the first member */
    struct lyap_queue_item *next;
};

struct lyap_queue;

/* At most `length_max` places that together reserve at most `bytes_max`. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_queue_new(uint32_t length_max, uint64_t bytes_max,
                                                struct lyap_queue **ret_queue);
void lyap_queue_free(struct lyap_queue *queue); /* empty by then */

/* E_QUEUE_FULL, E_STOPPING. A single reservation above bytes_max is accepted when it is alone:
 * otherwise a model larger than the budget could never push. */
LYAP_MUST_CHECK enum lyap_status lyap_queue_reserve(struct lyap_queue *queue, uint64_t bytes);
/* More bytes for a place that is held. E_QUEUE_FULL. */
LYAP_MUST_CHECK enum lyap_status lyap_queue_grow(struct lyap_queue *queue, uint64_t bytes);
/* Gives back a place (or none: the place went before, its bytes stayed) and bytes. */
void lyap_queue_unreserve(struct lyap_queue *queue, uint32_t places, uint64_t bytes);
uint32_t lyap_queue_depth(struct lyap_queue *queue); /* places reserved */

/* False when the queue was closed: the item stays the caller's. */
bool lyap_queue_push(struct lyap_queue *queue, struct lyap_queue_item *take_item);
/* Oldest item; waits until `deadline_ns` of CLOCK_MONOTONIC (0: not at all) for one. NULL: none
 * came, or the queue is closed and empty. */
struct lyap_queue_item *lyap_queue_pop(struct lyap_queue *queue, int64_t deadline_ns);
/* No more pushes and reservations; what is queued can still be popped. */
void lyap_queue_close(struct lyap_queue *queue);
bool lyap_queue_is_closed(struct lyap_queue *queue);

#endif
