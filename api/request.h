/* request.h - what a handler sees: the request as matched, and the reply it fills. No microhttpd
 * type. Strings of a request are borrowed from the connection until the reply was sent. THREADS: a
 * request has one owner at a time, the connection's thread. */
#ifndef LYAP_API_REQUEST_H
#define LYAP_API_REQUEST_H

#include "api.h"
#include "text.h"

enum {
    API_PATH_ARGS_MAX = 2,
    API_SEGMENTS_MAX = 6,
    API_QUERY_PARAMS_MAX = 128,     /* 64 metrics and every other key twice over */
    API_REPLY_BYTES_MAX = 64 << 20, /* a reply that is built whole: 10 000 lines of 6 KiB */
    API_SLICE_ROWS = 256,           /* rows a reply reads from storage before others have a turn */
    API_SLICE_BYTES = 32 << 10,     /* text it produces before others have a turn */
};

enum api_method { API_GET, API_PUT, API_POST, API_DELETE, API_METHOD_COUNT };
const char *api_method_name(enum api_method method);

/* Query parameters after percent decoding, in order of appearance. */
struct api_query_param {
    const char *name, *value;
};

struct api_headers { /* NULL: absent */
    const char *accept, *content_type, *if_none_match, *prefer, *authorization, *expect, *host;
    const char *last_event_id;
};

/* Bytes that replies and bodies in the making may hold, over all connections. */
struct api_budget;
bool api_budget_take(struct api_budget *budget, size_t bytes);
void api_budget_return(struct api_budget *budget, size_t bytes);

struct api_route;
struct api_request {
    const struct api_ports *ports;
    struct api_budget *budget;
    const struct api_route *route;
    const char *path;                         /* without query, as sent: `instance` of a problem */
    const char *path_args[API_PATH_ARGS_MAX]; /* decoded, in order of the pattern */
    struct api_query_param query[API_QUERY_PARAMS_MAX];
    uint32_t query_count;
    struct api_headers headers;
    const char *body; /* whole, for routes without the ingest flag */
    size_t body_bytes;
};

/* A reply that is produced in slices. Each call appends to `out`; a call that appends nothing must
 * have done bounded work towards the next bytes. */
struct api_stream {
    enum lyap_status (*produce)(void *ctx, struct api_text *out, bool *ret_is_done);
    void (*release)(void *ctx);
    void *ctx;
    /* Of a stream without end: false when produce has nothing to do until the feed changes; the
     * connection is suspended meanwhile. NULL: it has an end. */
    bool (*has_more)(void *ctx);
};

struct api_reply {
    uint32_t http_status;
    const char *content_type; /* static */
    struct api_text body;
    struct api_stream stream; /* produce NULL: the body is whole */
    char allow[40];           /* of a 405 */
    uint32_t retry_after_s;   /* 0: none */
    bool is_minimal;          /* Preference-Applied: return=minimal */
    bool is_unauthorized;     /* WWW-Authenticate */
    char etag[40];            /* empty: none */
};
void api_reply_init(struct api_reply *reply);
void api_reply_release(struct api_reply *reply);
/* Runs the stream to its end, or until the body is larger than a slice: small replies are whole and
 * get a length and an entity tag. */
LYAP_MUST_CHECK enum lyap_status api_reply_gather(struct api_reply *reply);

typedef enum lyap_status api_handler(const struct api_request *request, struct api_reply *reply,
                                     struct lyap_error *reterr);

#define API_TYPE_JSON        "application/json"
#define API_TYPE_NDJSON      "application/x-ndjson"
#define API_TYPE_CSV         "text/csv; charset=utf-8"
#define API_TYPE_PROBLEM     "application/problem+json"
#define API_TYPE_EVENTS      "text/event-stream"
#define API_TYPE_METRICS     "text/plain; version=0.0.4; charset=utf-8"
#define API_TYPE_SAFETENSORS "application/vnd.safetensors"
#define API_TYPE_OCTETS      "application/octet-stream"

#endif
