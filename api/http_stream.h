/* http_stream.h - bodies of responses: whole ones, those that are produced in slices, and live
 * ones, whose connection is suspended while there is nothing to say. Internal to http.c. THREADS:
 * init, destroy: main; response: the connection's thread; wake, renew, stop: any. */
#ifndef LYAP_API_HTTP_STREAM_H
#define LYAP_API_HTTP_STREAM_H

#include <microhttpd.h>
#include <pthread.h>

#include "request.h"

struct api_slices;
struct api_streams {
    pthread_mutex_t lock;       /* guards what follows */
    struct api_slices *waiting; /* list of live ones that wait for the feed, suspended */
    bool is_stopping;
    uint32_t epoch;      /* counts the token files: live streams end with theirs */
    unsigned timeout_ms; /* set by init: a peer that vanished may leave so much unacknowledged */
};

void api_streams_init(struct api_streams *streams, uint32_t timeout_s);
void api_streams_destroy(struct api_streams *streams);
/* The feed has changed; `arg` is a struct api_streams. */
void api_streams_wake(void *arg);
/* Live streams end, and may be opened anew. */
void api_streams_renew(struct api_streams *streams);
/* Live streams end, now and later. */
void api_streams_stop(struct api_streams *streams);
/* Takes the body or the stream out of the reply. NULL: out of memory. */
struct MHD_Response *api_stream_response(struct api_streams *streams,
                                         struct MHD_Connection *connection,
                                         struct api_reply *reply);

#endif
