/* Requests from first line to reply. */
#include "exchange.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "negotiate.h"
#include "problem.h"

enum { BODY_FIRST_BYTES = 4096 };
/* No answer can be sent in the middle of a body: the rest is read and dropped. A sender that goes
 * on longer than this after an error is cut off. */
static const uint64_t DROPPED_BYTES_MAX = UINT64_C(1) << 30;

static int64_t monotonic_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum lyap_status api_exchange_init(struct api_exchange *exchange, const char *uri,
                                   const struct api_ports *ports, struct api_budget *budget)
{
    *exchange =
        (struct api_exchange){ .path = strndup(uri, strcspn(uri, "?")), .uri = strdup(uri) };
    if (!exchange->path || !exchange->uri) {
        free(exchange->path);
        free(exchange->uri);
        return LYAP_E_NOMEM;
    }
    char *query = strchr(exchange->uri, '?');
    if (query)
        *query++ = '\0';
    exchange->match = (struct api_match){ .path = exchange->uri, .query = query };
    exchange->request =
        (struct api_request){ .ports = ports, .budget = budget, .path = exchange->path };
    api_text_init(&exchange->body, SIZE_MAX);
    return LYAP_OK;
}

void api_exchange_release(struct api_exchange *exchange)
{
    api_upload_release(exchange->upload);
    api_pending_release(exchange->pending);
    api_text_release(&exchange->body);
    api_budget_return(exchange->request.budget, exchange->charged_bytes);
    free(exchange->path);
    free(exchange->uri);
}

/* ---- begin ---- */

/* Without tokens the daemon trusts whoever reaches loopback. A web page that rebinds its own name
 * to 127.0.0.1 reaches it too, but it cannot forge Host. */
static enum lyap_status authorize(const struct api_exchange *exchange,
                                  const struct api_tokens *tokens, struct lyap_error *reterr)
{
    const struct api_headers *headers = &exchange->request.headers;
    if (tokens)
        return api_tokens_check(tokens, headers->authorization, exchange->request.route->scope,
                                reterr);
    if (headers->host && !api_host_is_loopback(headers->host))
        return lyap_error_set(reterr, LYAP_E_FORBIDDEN,
                              "Host is '%.64s': without a token file only requests to a loopback "
                              "name are answered",
                              headers->host);
    return LYAP_OK;
}

static enum lyap_status too_large(const struct api_exchange *exchange, struct lyap_error *reterr)
{
    const struct api_route *route = exchange->request.route;
    if (exchange->body_bytes_max == 0)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "this method and path take no body");
    return lyap_error_set(reterr, LYAP_E_LIMIT, "the body is larger than %llu bytes (%s)",
                          (unsigned long long)exchange->body_bytes_max,
                          route->flags & API_ROUTE_INGEST ? "body_bytes_max"
                                                          : "the limit of this route");
}

static enum lyap_status check_types(const struct api_exchange *exchange, bool has_body,
                                    struct lyap_error *reterr)
{
    const struct api_route *route = exchange->request.route;
    const struct api_headers *headers = &exchange->request.headers;
    if (has_body && route->flags & API_ROUTE_BODY &&
        !api_content_type_is(headers->content_type, API_TYPE_JSON))
        return lyap_error_set(reterr, LYAP_E_UNSUPPORTED, "Content-Type is '%.80s'; accepted: %s",
                              headers->content_type ? headers->content_type : "", API_TYPE_JSON);
    if (route->produces[0] && api_accept_choose(headers->accept, route->produces) < 0)
        return lyap_error_set(reterr, LYAP_E_NOT_ACCEPTABLE, "Accept is '%.80s'; available: %s",
                              headers->accept, route->produces);
    return LYAP_OK;
}

static enum lyap_status check_head(struct api_exchange *exchange,
                                   const struct api_exchange_head *head, struct lyap_error *reterr)
{
    struct api_request *request = &exchange->request;
    const uint64_t length = head->content_length;
    enum lyap_status status = api_route_match(head->method, &exchange->match, request, reterr);
    if (status == LYAP_OK)
        status = authorize(exchange, head->tokens, reterr);
    if (status != LYAP_OK)
        return status;
    const bool is_ingest = request->route->flags & API_ROUTE_INGEST;
    exchange->body_bytes_max =
        is_ingest ? head->limits.body_bytes_max : request->route->body_bytes_max;
    if (length != UINT64_MAX && length > exchange->body_bytes_max)
        return too_large(exchange, reterr);
    if (is_ingest)
        return api_upload_new(request, length > 0, exchange->body_bytes_max, &exchange->upload,
                              reterr);
    status = check_types(exchange, length > 0, reterr);
    return status == LYAP_OK ? api_route_check_query(request, reterr) : status;
}

bool api_exchange_begin(struct api_exchange *exchange, const struct api_exchange_head *head)
{
    const uint64_t length = head->content_length;
    exchange->started_ms = monotonic_ms();
    exchange->request.headers = head->headers;
    if (exchange->status == LYAP_OK)
        exchange->status = check_head(exchange, head, &exchange->error);
    /* A sender that waits for 100 Continue is answered now; one in full flow would see a broken
     * pipe, unless its body is too long to be read for nothing. */
    const char *expect = head->headers.expect;
    const bool is_waiting = expect && strcasecmp(expect, "100-continue") == 0;
    const bool is_endless = length != UINT64_MAX && length > DROPPED_BYTES_MAX;
    return exchange->status != LYAP_OK && length > 0 && (is_waiting || is_endless);
}

/* ---- take ---- */

static void fail(struct api_exchange *exchange, enum lyap_status status)
{
    exchange->status = status;
    api_text_release(&exchange->body);
}

static void take_body(struct api_exchange *exchange, const char *bytes, size_t length)
{
    struct api_text *body = &exchange->body;
    if (length > exchange->body_bytes_max - body->length) {
        fail(exchange, too_large(exchange, &exchange->error));
        return;
    }
    /* The budget is charged ahead of the capacity that append will take. */
    size_t needed = exchange->charged_bytes ? exchange->charged_bytes : BODY_FIRST_BYTES;
    while (needed < body->length + length)
        needed *= 2;
    if (needed > exchange->charged_bytes) {
        if (!api_budget_take(exchange->request.budget, needed - exchange->charged_bytes)) {
            fail(exchange, lyap_error_set(&exchange->error, LYAP_E_BUSY,
                                          "too many bodies are being received"));
            return;
        }
        exchange->charged_bytes = needed;
    }
    api_text_append(body, bytes, length);
    if (body->status != LYAP_OK)
        fail(exchange, body->status);
}

bool api_exchange_take(struct api_exchange *exchange, const char *bytes, size_t length,
                       struct api_exchange_limits limits)
{
    const int64_t limit_ms = (int64_t)limits.upload_seconds_max * 1000;
    if (limit_ms > 0 && monotonic_ms() - exchange->started_ms > limit_ms)
        return false;
    enum lyap_status status = exchange->status;
    if (status == LYAP_OK && exchange->upload) {
        api_upload_bytes(exchange->upload, bytes, length);
        status = api_upload_status(exchange->upload);
    } else if (status == LYAP_OK) {
        take_body(exchange, bytes, length);
        status = exchange->status;
    }
    /* The rest of a duplicate is bounded by the limits of an upload: its answer is worth it. */
    if (status != LYAP_OK && status != LYAP_E_DUPLICATE)
        exchange->dropped_bytes += length;
    return exchange->dropped_bytes <= DROPPED_BYTES_MAX;
}

/* ---- end and reply ---- */

bool api_exchange_end(struct api_exchange *exchange)
{
    exchange->request.body = exchange->body.bytes;
    exchange->request.body_bytes = exchange->body.length;
    if (exchange->status != LYAP_OK)
        return false;
    if (exchange->upload)
        return api_upload_end(exchange->upload);
    if (!(exchange->request.route->flags & API_ROUTE_PENDING))
        return false;
    exchange->status = api_pending_new(&exchange->pending);
    return exchange->status == LYAP_OK;
}

void api_exchange_submit(struct api_exchange *exchange, void (*answered)(void *arg), void *arg)
{
    if (exchange->upload)
        api_upload_submit(exchange->upload, answered, arg);
    else
        api_pending_submit(exchange->pending, &exchange->request, answered, arg);
}

bool api_exchange_abandon(struct api_exchange *exchange)
{
    return exchange->upload ? api_upload_abandon(exchange->upload)
                            : api_pending_abandon(exchange->pending);
}

static enum lyap_status make_reply(struct api_exchange *exchange, struct api_reply *reply,
                                   struct lyap_error *reterr)
{
    if (exchange->status != LYAP_OK) {
        *reterr = exchange->error;
        return exchange->status;
    }
    const enum lyap_status status =
        exchange->upload    ? api_upload_reply(exchange->upload, reply, reterr)
        : exchange->pending ? api_pending_reply(exchange->pending, reply, reterr)
                            : exchange->request.route->handler(&exchange->request, reply, reterr);
    return status == LYAP_OK ? api_reply_gather(reply) : status;
}

/* Small successful reads carry a strong tag of their content. */
static void tag(const struct api_exchange *exchange, struct api_reply *reply)
{
    const struct api_route *route = exchange->request.route;
    if (reply->http_status != 200 || !route || route->method != API_GET || reply->stream.produce)
        return;
    api_etag_of(reply->body.bytes, reply->body.length, reply->etag);
    if (!api_etag_matches(exchange->request.headers.if_none_match, reply->etag))
        return;
    reply->http_status = 304;
    api_text_clear(&reply->body);
}

void api_exchange_reply(struct api_exchange *exchange, struct api_reply *ret_reply)
{
    struct lyap_error error = LYAP_ERROR_NULL;
    api_reply_init(ret_reply);
    const enum lyap_status status = make_reply(exchange, ret_reply, &error);
    if (status != LYAP_OK) {
        api_problem_reply(ret_reply, status, &error, exchange->path);
        if (status == LYAP_E_METHOD)
            memcpy(ret_reply->allow, exchange->match.allow, sizeof ret_reply->allow);
    }
    tag(exchange, ret_reply);
}
