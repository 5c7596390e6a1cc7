/* Bodies of responses. */
#include "http_stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The content reader: hands out what is there, produces a slice when nothing is. Returning 0 makes
 * libmicrohttpd call again after the other connections; produce has worked meanwhile, or the
 * connection is suspended until the feed changes. */
struct api_slices {
    struct api_text text;
    size_t sent; /* of text */
    struct api_stream stream;
    bool is_done;
    struct api_streams *streams;
    struct MHD_Connection *connection;
    uint32_t epoch;
    struct api_slices *next; /* in streams->waiting */
};

/* A live stream with nothing to say waits, unless something came since; one whose server stops, or
 * whose token may be gone, ends. True: it is suspended. */
static bool wait_for_feed(struct api_slices *slices)
{
    struct api_streams *streams = slices->streams;
    bool is_suspended = false;
    pthread_mutex_lock(&streams->lock);
    slices->is_done = streams->is_stopping || slices->epoch != streams->epoch;
    if (!slices->is_done && !slices->stream.has_more(slices->stream.ctx)) {
        slices->next = streams->waiting;
        streams->waiting = slices;
        MHD_suspend_connection(slices->connection);
        is_suspended = true;
    }
    pthread_mutex_unlock(&streams->lock);
    return is_suspended;
}

/* With the lock. */
static void resume_waiting(struct api_streams *streams)
{
    while (streams->waiting) {
        struct api_slices *slices = streams->waiting;
        streams->waiting = slices->next;
        MHD_resume_connection(slices->connection);
    }
}

void api_streams_init(struct api_streams *streams, uint32_t timeout_s)
{
    *streams = (struct api_streams){ .timeout_ms = timeout_s * 1000 };
    pthread_mutex_init(&streams->lock, NULL);
}

void api_streams_destroy(struct api_streams *streams)
{
    pthread_mutex_destroy(&streams->lock);
}

void api_streams_wake(void *arg)
{
    struct api_streams *streams = arg;
    pthread_mutex_lock(&streams->lock);
    resume_waiting(streams);
    pthread_mutex_unlock(&streams->lock);
}

void api_streams_renew(struct api_streams *streams)
{
    pthread_mutex_lock(&streams->lock);
    streams->epoch++;
    resume_waiting(streams);
    pthread_mutex_unlock(&streams->lock);
}

void api_streams_stop(struct api_streams *streams)
{
    pthread_mutex_lock(&streams->lock);
    streams->is_stopping = true;
    resume_waiting(streams);
    pthread_mutex_unlock(&streams->lock);
}

static ssize_t read_slices(void *cls, uint64_t position, char *buffer, size_t bytes_max)
{
    struct api_slices *slices = cls;
    (void)position;
    if (slices->sent == slices->text.length) {
        if (slices->stream.has_more && wait_for_feed(slices))
            return 0;
        if (slices->is_done)
            return MHD_CONTENT_READER_END_OF_STREAM;
        api_text_clear(&slices->text);
        slices->sent = 0;
        if (slices->stream.produce(slices->stream.ctx, &slices->text, &slices->is_done) != LYAP_OK)
            return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    size_t length = slices->text.length - slices->sent;
    if (length > bytes_max)
        length = bytes_max;
    if (length > 0)
        memcpy(buffer, slices->text.bytes + slices->sent, length);
    slices->sent += length;
    return (ssize_t)length;
}

static void free_slices(void *cls)
{
    struct api_slices *slices = cls;
    slices->stream.release(slices->stream.ctx);
    api_text_release(&slices->text);
    free(slices);
}

/* A machine that is switched off ends no connection: without this the kernel repeats heartbeats to
 * it for a quarter of an hour, and the stream counts as open. */
static void bound_silence(struct MHD_Connection *connection, unsigned timeout_ms)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info)
        (void)setsockopt(info->connect_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms,
                         sizeof timeout_ms);
}

struct MHD_Response *api_stream_response(struct api_streams *streams,
                                         struct MHD_Connection *connection, struct api_reply *reply)
{
    if (!reply->stream.produce) {
        size_t length;
        char *bytes = api_text_detach(&reply->body, &length);
        struct MHD_Response *response =
            MHD_create_response_from_buffer(length, bytes, MHD_RESPMEM_MUST_FREE);
        if (!response)
            free(bytes);
        return response;
    }
    struct api_slices *slices = calloc(1, sizeof *slices);
    if (!slices)
        return NULL;
    slices->text = reply->body;
    slices->stream = reply->stream;
    slices->streams = streams;
    slices->connection = connection;
    if (slices->stream.has_more)
        bound_silence(connection, streams->timeout_ms);
    pthread_mutex_lock(&streams->lock);
    slices->epoch = streams->epoch;
    pthread_mutex_unlock(&streams->lock);
    api_text_init(&reply->body, API_REPLY_BYTES_MAX);
    reply->stream = (struct api_stream){ 0 };
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, API_SLICE_BYTES, read_slices, slices, free_slices);
    if (!response)
        free_slices(slices);
    return response;
}
