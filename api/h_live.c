/* Handler of the live feed. */
#include <stdlib.h>
#include <string.h>

#include "feed.h"
#include "handlers.h"

static enum lyap_status produce(void *ctx, struct api_text *out, bool *ret_is_done)
{
    *ret_is_done = false;
    return api_feed_read(ctx, out);
}

static bool has_more(void *ctx)
{
    return api_feed_has_more(ctx);
}

static void release(void *ctx)
{
    api_feed_close(ctx);
}

/* "point,alert": a comma list; all without it. */
static enum lyap_status read_types(const char *list, unsigned *ret_types, struct lyap_error *reterr)
{
    *ret_types = (1u << API_FEED_TYPE_COUNT) - 1;
    if (!list)
        return LYAP_OK;
    *ret_types = 0;
    for (const char *name = list;; name++) {
        const size_t length = strcspn(name, ",");
        enum api_feed_type type;
        if (!api_feed_type_parse(name, length, &type))
            return lyap_error_set(reterr, LYAP_E_INVALID,
                                  "query parameter 'types': '%.32s' is not a comma list of point, "
                                  "alert, mark",
                                  list);
        *ret_types |= 1u << type;
        name += length;
        if (!*name)
            return LYAP_OK;
    }
}

enum lyap_status api_h_live(const struct api_request *request, struct api_reply *reply,
                            struct lyap_error *reterr)
{
    struct api_feed_filter filter = { .run = api_query_get(request, "run") };
    struct api_feed_reader *reader;
    const char *last_id = request->headers.last_event_id;
    if (filter.run && (!filter.run[0] || strlen(filter.run) > LYAP_PATTERN_BYTES_MAX))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "query parameter 'run' is a pattern of 1 to %d bytes",
                              LYAP_PATTERN_BYTES_MAX);
    enum lyap_status status = read_types(api_query_get(request, "types"), &filter.types, reterr);
    if (status == LYAP_OK)
        status = api_feed_open(request->ports->feed,
                               last_id ? last_id : api_query_get(request, "last_id"), &filter,
                               &reader, reterr);
    if (status != LYAP_OK)
        return status;
    reply->content_type = API_TYPE_EVENTS;
    reply->stream = (struct api_stream){
        .produce = produce, .release = release, .has_more = has_more, .ctx = reader
    };
    return LYAP_OK;
}
