/* Replies: life cycle and gathering of small streams; the budget of bytes in the making. */
#include "request.h"

#include <stdatomic.h>
#include <string.h>

#include "budget.h"

bool api_budget_take(struct api_budget *budget, size_t bytes)
{
    size_t used = atomic_load(&budget->used);
    do {
        if (bytes > budget->bytes_max - used)
            return false;
    } while (!atomic_compare_exchange_weak(&budget->used, &used, used + bytes));
    return true;
}

void api_budget_return(struct api_budget *budget, size_t bytes)
{
    atomic_fetch_sub(&budget->used, bytes);
}

void api_reply_init(struct api_reply *reply)
{
    *reply = (struct api_reply){ .http_status = 200, .content_type = API_TYPE_JSON };
    api_text_init(&reply->body, API_REPLY_BYTES_MAX);
}

void api_reply_release(struct api_reply *reply)
{
    if (reply->stream.release)
        reply->stream.release(reply->stream.ctx);
    api_text_release(&reply->body);
    api_reply_init(reply);
}

enum lyap_status api_reply_gather(struct api_reply *reply)
{
    /* Calls that append nothing are counted too: the handler's thread serves other connections. */
    enum { CALLS_MAX = 16 };
    struct api_stream *stream = &reply->stream;
    bool is_done = false;
    for (int i = 0; stream->produce && !stream->has_more && i < CALLS_MAX; i++) {
        const enum lyap_status status = stream->produce(stream->ctx, &reply->body, &is_done);
        if (status != LYAP_OK)
            return status;
        if (is_done) {
            stream->release(stream->ctx);
            *stream = (struct api_stream){ 0 };
        } else if (reply->body.length >= API_SLICE_BYTES) {
            break;
        }
    }
    return reply->body.status;
}
