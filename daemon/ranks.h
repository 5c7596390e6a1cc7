/* ranks.h - steps of several ranks: parts are held until the last one arrives, then added in rank
 * order, whatever their arrival.
 * THREADS: owned by the engine. */
#ifndef LYAP_RANKS_H
#define LYAP_RANKS_H

#include "lyap/partial.h"
#include "ticket.h"

struct lyap_open_step {
    struct lyap_open_step *next; /* ascending steps */
    struct lyap_run *run;        /* a reference */
    int64_t step, deadline_ns;
    uint32_t world, arrived;
    struct api_ticket *tickets[]; /* by rank; owned */
};

/* The open step that a ticket belongs to, made when there is none. E_QUEUE_FULL:
 * LYAP_OPEN_STEPS_MAX are open. E_CONTRADICTION: another world size. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status
lyap_ranks_open(struct lyap_engine *engine, const struct api_ticket *ticket, int64_t deadline_ns,
                struct lyap_open_step **ret_open, struct lyap_error *reterr);
/* Sum of the parts of the given tickets (`count` entries, NULL: nothing from this rank) in rank
 * order. Rows that a rank with elements of a tensor lacks are absent for that tensor; differences
 * from unequal predecessors are absent altogether. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_ranks_sum(struct api_ticket *const *tickets, uint32_t count,
                                                uint32_t tensor_count,
                                                struct lyap_partial *ret_sum);
/* Every pushed role of every tensor counts to its declared size or to nothing; E_SHARD_COVERAGE
 * names tensor, role and counts. */
LYAP_MUST_CHECK enum lyap_status lyap_ranks_coverage(const struct lyap_partial *sum,
                                                     const struct lyap_tensor_set *set,
                                                     struct lyap_error *reterr);
/* The step is over, if the batch commits: moves it to a list, because its tickets may still be
 * answered in this batch, and comes back when the batch fails. */
void lyap_ranks_finish(struct lyap_run *run, struct lyap_open_step *open,
                       struct lyap_open_step **finished);
void lyap_ranks_finish_all(struct lyap_run *run, struct lyap_open_step **finished);
/* After the answers of the batch: frees the list, or opens its steps again. */
void lyap_ranks_settle(struct lyap_open_step **finished, bool is_committed);
/* The rank whose scalars count: 0 when it is there, else the lowest. */
const struct api_ticket *lyap_ranks_first(const struct lyap_open_step *open);

#endif
