/* outbox.h - the engine's side of delivery: what is put into the outbox, with the change of the
 * alert and in its transaction; receivers; and what the deliverer reports.
 * THREADS: the engine; lyap_outbox_limits, lyap_outbox_state: any. */
#ifndef LYAP_OUTBOX_H
#define LYAP_OUTBOX_H

#include "lyap/record.h"

struct lyap_attempt;
struct lyap_engine;

/* The settings of delivery, which SIGHUP may change. */
struct lyap_outbox_limits {
    int64_t timeout_s, retry_s, retry_max_s, attempts_max, age_max_s, repeat_s, keep_days, rows_max;
};
struct lyap_outbox_limits lyap_outbox_limits(struct lyap_engine *engine);

/* What waits to be sent, as the last tick saw it. */
struct lyap_outbox_state {
    uint64_t waiting;
    int64_t oldest_ns; /* UTC; 0: nothing waits */
};
struct lyap_outbox_state lyap_outbox_state(struct lyap_engine *engine);

/* The alert was just stored in the open batch: what its notice says is told to those whom it
 * concerns. */
LYAP_MUST_CHECK enum lyap_status lyap_outbox_put(struct lyap_engine *engine,
                                                 const struct lyap_alert *alert);
/* The batch is over: the deliverer is woken when something was put into it. */
void lyap_outbox_settle(struct lyap_engine *engine, bool is_committed);
/* Counts what waits; finished rows go by age. */
LYAP_MUST_CHECK enum lyap_status lyap_outbox_tick(struct lyap_engine *engine, bool is_prune_due);
/* The receivers as stored. */
LYAP_MUST_CHECK enum lyap_status lyap_outbox_load(struct lyap_engine *engine);

/* Callbacks of lyap_engine_call. */
struct lyap_put_receiver_args {
    const struct lyap_receiver *receiver;
    bool keeps_secret, is_created;
};
enum lyap_status lyap_command_receiver_put(struct lyap_engine *engine, void *put_receiver_args,
                                           struct lyap_error *reterr);
enum lyap_status lyap_command_receiver_delete(struct lyap_engine *engine, void *name,
                                              struct lyap_error *reterr);
/* Those of the file take the place of those that came from it before. */
enum lyap_status lyap_command_receivers_replace(struct lyap_engine *engine, void *receivers,
                                                struct lyap_error *reterr);
/* `attempts`: struct lyap_attempt, a list; each with what its row becomes. */
enum lyap_status lyap_command_delivered(struct lyap_engine *engine, void *attempts,
                                        struct lyap_error *reterr);

#endif
