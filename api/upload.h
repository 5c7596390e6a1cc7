/* upload.h - the way of a push: chunks -> decoder -> intake -> ports -> reply. The body is never
 * buffered, and whatever goes wrong is kept until the body is over, because no answer can be sent
 * before. NDJSON is cut into lines here, so that a bad line fails alone.
 * THREADS: bytes, end, submit, reply and release belong to the connection's thread; the engine
 * answers from any thread. */
#ifndef LYAP_API_UPLOAD_H
#define LYAP_API_UPLOAD_H

#include "request.h"

struct api_upload;
typedef void api_upload_answered(void *arg);

/* Looks at the content type, the query string and the run's name: E_UNSUPPORTED, E_INVALID,
 * E_UNKNOWN_FIELD ...; nothing of the body yet. `request` stays borrowed. */
LYAP_MUST_CHECK enum lyap_status api_upload_new(const struct api_request *request, bool has_body,
                                                uint64_t body_bytes_max,
                                                struct api_upload **ret_upload,
                                                struct lyap_error *reterr);
/* Takes all bytes. After an error they are dropped. */
void api_upload_bytes(struct api_upload *upload, const void *bytes, size_t length);
/* OK or the error that the upload met. */
enum lyap_status api_upload_status(const struct api_upload *upload);
/* The body is over. True: something is to be submitted. */
bool api_upload_end(struct api_upload *upload);
/* Hands everything to the engine. `answered` is called once, from any thread, perhaps before this
 * returns; the connection is suspended already. */
void api_upload_submit(struct api_upload *upload, api_upload_answered *answered, void *arg);
/* Gives up waiting. True: `answered` was not called and never will be; false: it was, or is just
 * being called. Any thread, while the connection is suspended. */
LYAP_MUST_CHECK bool api_upload_abandon(struct api_upload *upload);
/* After end, when nothing was submitted, or after `answered`. */
LYAP_MUST_CHECK enum lyap_status
api_upload_reply(struct api_upload *upload, struct api_reply *reply, struct lyap_error *reterr);
/* Accepts NULL, in every state: aborts what was admitted and not submitted; what the engine still
 * holds is freed when it answers. */
void api_upload_release(struct api_upload *upload);

#endif
