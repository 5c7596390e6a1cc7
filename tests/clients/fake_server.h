/* fake_server.h - an HTTP server of scripted answers on loopback, for the client's tests.
 * THREADS: start and stop from the test; `requests` may be read after stop. */
#ifndef TEST_FAKE_SERVER_H
#define TEST_FAKE_SERVER_H

#include <pthread.h>
#include <stdint.h>

enum { FAKE_REQUESTS_MAX = 16, FAKE_BODY_BYTES_MAX = 1 << 20 };

/* One answer: the whole response text; NULL: read the request, close without an answer; an empty
 * text: say nothing until stop. */
struct fake_request {
    char line[512];  /* "POST /path HTTP/1.1" */
    char head[4096]; /* all header lines */
    char *body;      /* owned */
    uint64_t length;
};

struct fake_server {
    const char *const *answers; /* borrowed */
    uint32_t answer_count;
    int listener, stop_pipe[2];
    uint16_t port;
    char url[64];
    pthread_t thread;
    struct fake_request requests[FAKE_REQUESTS_MAX];
    uint32_t request_count;
};

void fake_server_start(struct fake_server *server, const char *const *answers, uint32_t count);
void fake_server_stop(struct fake_server *server);
/* After stop, when the requests were looked at. */
void fake_server_release(struct fake_server *server);

#endif
