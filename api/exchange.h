/* exchange.h - one request from its first line to its reply, without knowing the HTTP library:
 * begin (headers) -> take (each chunk of the body) -> end (body complete) -> reply.
 * Whatever goes wrong is kept in `status` until it can be said. THREADS: the connection's thread;
 * an exchange whose upload was submitted is resumed from any thread, see upload.h. */
#ifndef LYAP_API_EXCHANGE_H
#define LYAP_API_EXCHANGE_H

#include "auth.h"
#include "budget.h"
#include "pending.h"
#include "route.h"
#include "upload.h"

struct api_exchange {
    struct api_request request;
    struct api_match match;
    char *path; /* owned: as sent, without query */
    char *uri;  /* owned: decoded in place by the matcher */
    enum lyap_status status;
    struct lyap_error error;
    struct api_upload *upload;   /* owned; of ingest routes */
    struct api_pending *pending; /* owned; of routes that are answered later */
    struct api_text body;        /* of the others */
    size_t charged_bytes;        /* to the budget, for body */
    uint64_t body_bytes_max, dropped_bytes;
    int64_t started_ms;
};

/* What the server knows. */
struct api_exchange_limits {
    uint64_t body_bytes_max;
    uint32_t upload_seconds_max;
};
struct api_exchange_head {
    const char *method;
    struct api_headers headers;
    uint64_t content_length;         /* UINT64_MAX: chunked, not known */
    const struct api_tokens *tokens; /* NULL: no auth */
    struct api_exchange_limits limits;
};

/* E_NOMEM. `uri` is copied. */
LYAP_MUST_CHECK enum lyap_status api_exchange_init(struct api_exchange *exchange, const char *uri,
                                                   const struct api_ports *ports,
                                                   struct api_budget *budget);
void api_exchange_release(struct api_exchange *exchange);
/* Checks all that can be said before the body. True: the reply should go out now, although a body
 * is announced. */
bool api_exchange_begin(struct api_exchange *exchange, const struct api_exchange_head *head);
/* Takes all bytes. False: cut the sender off. */
bool api_exchange_take(struct api_exchange *exchange, const char *bytes, size_t length,
                       struct api_exchange_limits limits);
/* True: suspend the connection, then submit. Once. */
bool api_exchange_end(struct api_exchange *exchange);
/* `answered` is called once, from any thread, perhaps before this returns. */
void api_exchange_submit(struct api_exchange *exchange, void (*answered)(void *arg), void *arg);
/* Gives up waiting, as api_upload_abandon. Any thread, while the connection is suspended. */
LYAP_MUST_CHECK bool api_exchange_abandon(struct api_exchange *exchange);
/* The reply, a problem document included, with its entity tag. */
void api_exchange_reply(struct api_exchange *exchange, struct api_reply *ret_reply);

#endif
