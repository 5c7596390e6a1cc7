/* http.h - one HTTP exchange after another with one server: deadline, repetition with growing
 * pauses, bodies streamed from several places in memory. THREADS: one owner at a time. */
#ifndef LYAP_CLIENT_HTTP_H
#define LYAP_CLIENT_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "lyap/status.h"

struct http;

/* A piece of a request's body, borrowed. */
struct http_piece {
    const void *bytes;
    uint64_t length;
};

struct http_request {
    const char *method;       /* "GET", "PUT", "POST" */
    const char *path;         /* from the slash on, with query, already encoded */
    const char *content_type; /* NULL: no body */
    const char *prefer;       /* value of Prefer, or NULL */
    const struct http_piece *pieces;
    uint32_t piece_count;
};

struct http_response {
    long status;
    char *text; /* NUL-terminated body, freed with free() */
    size_t length;
    uint32_t repetitions;
};

/* Copies its arguments. E_INVALID (not an http or https URL), E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status http_new(const char *url, const char *token,
                                          struct http **ret_http, struct lyap_error *reterr);
void http_free(struct http *http);
/* Repeats until an answer other than "try later" or the deadline; the last such answer is returned,
 * too. E_IO (no answer in time), E_LIMIT (an answer beyond HTTP_REPLY_BYTES_MAX), E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status http_send(struct http *http, const struct http_request *request,
                                           uint32_t deadline_ms, struct http_response *ret_response,
                                           struct lyap_error *reterr);

#endif
