/* pending.h - a request that the daemon answers later: POST /v1/receivers/{receiver}/test, which
 * takes as long as the receiver does. The connection is suspended meanwhile, so that no thread
 * waits.
 * THREADS: new, submit, reply, release: the connection's thread; abandon: any, while the
 * connection is suspended; the daemon answers from any thread. */
#ifndef LYAP_API_PENDING_H
#define LYAP_API_PENDING_H

#include "request.h"

struct api_pending;
typedef void api_pending_answered(void *arg);

/* E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status api_pending_new(struct api_pending **ret_pending);
/* Hands it to the daemon. `answered` is called once, from any thread, perhaps before this
 * returns. */
void api_pending_submit(struct api_pending *pending, const struct api_request *request,
                        api_pending_answered *answered, void *arg);
/* As api_upload_abandon. */
LYAP_MUST_CHECK bool api_pending_abandon(struct api_pending *pending);
/* After `answered`, or after an abandonment. */
LYAP_MUST_CHECK enum lyap_status
api_pending_reply(struct api_pending *pending, struct api_reply *reply, struct lyap_error *reterr);
void api_pending_release(struct api_pending *pending); /* NULL: nothing */

#endif
