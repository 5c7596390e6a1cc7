/* deliverer.h - the thread that empties the outbox. It reads due rows and receivers through the
 * store, sends with bounded concurrency and time, and reports through the engine, which alone
 * writes. A receiver that hangs holds its own slots and nobody else's. What is under way when the
 * daemon ends is sent again at the next start.
 * THREADS: new, start, stop, free: main. wake, test: any. */
#ifndef LYAP_DELIVERER_H
#define LYAP_DELIVERER_H

#include "api.h"

struct lyap_engine;
struct lyap_deliverer;

LYAP_MUST_CHECK enum lyap_status lyap_deliverer_new(struct lyap_engine *engine,
                                                    struct lyap_deliverer **ret_deliverer);
/* E_NOMEM: no thread could be made. */
LYAP_MUST_CHECK enum lyap_status lyap_deliverer_start(struct lyap_deliverer *deliverer);
/* Reports what has ended, breaks off the rest, answers tests with E_STOPPING, ends the thread. The
 * engine still runs. */
void lyap_deliverer_stop(struct lyap_deliverer *deliverer);
void lyap_deliverer_free(struct lyap_deliverer *deliverer); /* NULL: nothing; stopped */
/* Something is in the outbox. */
void lyap_deliverer_wake(struct lyap_deliverer *deliverer);
/* As the port receiver_test. */
void lyap_deliverer_test(struct lyap_deliverer *deliverer, const char *receiver,
                         api_test_done *done, void *arg);

#endif
