/* ticket.h - one admitted push, from the header of its body to its answer.
 * THREADS: the HTTP thread owns it until submit or abort, the engine afterwards. `is_replaced` is
 * written by the admission of another upload. */
#ifndef LYAP_TICKET_H
#define LYAP_TICKET_H

#include "queue.h"
#include "registry.h"

struct lyap_engine;

/* What the queue carries. */
enum lyap_job_kind { LYAP_JOB_PUSH, LYAP_JOB_CALL };
struct lyap_job {
    struct lyap_queue_item item; /* first */
    enum lyap_job_kind kind;
};

struct api_ticket {
    struct lyap_job job; /* first; used by the first ticket of a submission */
    api_push_done *done; /* of the submission, in its first ticket */
    void *done_arg;
    struct api_ticket *next; /* in the submission */

    struct lyap_engine *engine;
    struct lyap_run *run;                        /* a reference */
    struct lyap_shared_declaration *declaration; /* a reference */
    struct lyap_snapshot snapshot;
    uint32_t attempt;
    struct lyap_shared_memory *previous; /* what the kernels compare with, or NULL */
    struct lyap_shared_plan *spectral;   /* what the kernels measure of the weights, or NULL */
    struct lyap_shared_memory *memory;   /* what this push leaves behind, or NULL */
    int64_t previous_step;               /* of `previous`; -1: none */
    struct api_ticket *chain;            /* the line before in the same body; until submit */
    struct lyap_passed passed;           /* since `previous`, before this push */
    struct lyap_partial partial;         /* tensor_count 0: a push without tensors */
    bool has_upload;                     /* counted in its rank's upload */
    bool has_place;                      /* in the queue; the first of a chain holds it for all */
    uint64_t reserved_bytes;             /* of the queue's memory */
    uint64_t chain_bytes;                /* of the whole NDJSON body up to here */
    _Atomic bool is_replaced;

    bool is_held; /* part of an open step: answered, but not over */
    struct api_push_reply *reply;
};

/* A reply with the run's name and LYAP_E_INTERNAL; NULL: out of memory. */
struct api_push_reply *lyap_reply_new(const char *run);
/* Makes it an error. */
void lyap_reply_fail(struct api_push_reply *reply, enum lyap_status status, const char *text);
/* The answer was given (or never will be): the upload of its rank and the place in the queue are
 * free, the bytes too unless the ticket is held. */
void lyap_ticket_answered(struct api_ticket *ticket);
void lyap_ticket_free(struct api_ticket *ticket); /* NULL: nothing */

/* Deep copies of open alerts, as a reply or a run owns them. */
LYAP_MUST_CHECK enum lyap_status lyap_alerts_copy(const struct lyap_alerts *alerts,
                                                  struct lyap_alert **ret_copy);
LYAP_MUST_CHECK enum lyap_status lyap_alert_list_copy(const struct lyap_alert *alerts,
                                                      uint32_t count, struct lyap_alert **ret_copy);
void lyap_alert_list_free(struct lyap_alert *alerts, uint32_t count);

/* admit.c: the port of this name. */
enum lyap_status lyap_push_admit(void *ctx, const char *run, const struct lyap_snapshot *snapshot,
                                 const struct lyap_tensor_set *pushed, struct api_ticket *chain,
                                 struct api_admission *ret_admission,
                                 struct api_push_reply **ret_duplicate, struct lyap_error *reterr);

#endif
