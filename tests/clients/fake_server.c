/* Scripted HTTP answers. */
#include "fake_server.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* False when the peer closed or the test stops the server. */
static bool wait_readable(const struct fake_server *server, int fd)
{
    struct pollfd fds[] = { { .fd = fd, .events = POLLIN },
                            { .fd = server->stop_pipe[0], .events = POLLIN } };
    return poll(fds, 2, -1) > 0 && !(fds[1].revents & POLLIN);
}

static bool read_byte(const struct fake_server *server, int fd, char *ret)
{
    return wait_readable(server, fd) && read(fd, ret, 1) == 1;
}

static bool read_head(const struct fake_server *server, int fd, struct fake_request *request)
{
    size_t length = 0;
    while (length + 1 < sizeof request->head) {
        if (!read_byte(server, fd, &request->head[length++]))
            return false;
        request->head[length] = '\0';
        if (length >= 4 && strcmp(request->head + length - 4, "\r\n\r\n") == 0)
            break;
    }
    sscanf(request->head, "%511[^\r]", request->line);
    return true;
}

static bool read_body(const struct fake_server *server, int fd, struct fake_request *request)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    const char *field = strcasestr(request->head, "\r\ncontent-length:");
    const uint64_t length = field ? strtoull(field + 17, NULL, 10) : 0;
    if (strcasestr(request->head, "\r\nexpect: 100") &&
        write(fd, go_on, sizeof go_on - 1) != sizeof go_on - 1)
        return false;
    request->body = calloc(length + 1, 1);
    while (request->body && request->length < length) {
        if (!wait_readable(server, fd))
            return false;
        const ssize_t got = read(fd, request->body + request->length, length - request->length);
        if (got <= 0)
            return false;
        request->length += (uint64_t)got;
    }
    return request->body != NULL;
}

/* Answers one request and closes; false: stop. */
static bool serve(struct fake_server *server, int fd)
{
    struct fake_request *request = &server->requests[server->request_count];
    if (!read_head(server, fd, request) || !read_body(server, fd, request)) {
        free(request->body);
        *request = (struct fake_request){ .body = NULL };
        return true;
    }
    const uint32_t index = server->request_count++;
    const char *answer = index < server->answer_count ? server->answers[index] : NULL;
    if (answer && !*answer)
        return wait_readable(server, server->stop_pipe[0]);
    for (size_t sent = 0; answer && sent < strlen(answer);) {
        const ssize_t got = write(fd, answer + sent, strlen(answer) - sent);
        if (got <= 0)
            break;
        sent += (size_t)got;
    }
    return server->request_count < FAKE_REQUESTS_MAX;
}

static void *run(void *arg)
{
    struct fake_server *server = arg;
    while (wait_readable(server, server->listener)) {
        const int fd = accept(server->listener, NULL, NULL);
        if (fd < 0)
            break;
        const bool goes_on = serve(server, fd);
        close(fd);
        if (!goes_on)
            break;
    }
    return NULL;
}

void fake_server_start(struct fake_server *server, const char *const *answers, uint32_t count)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    *server = (struct fake_server){ .answers = answers, .answer_count = count };
    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(server->listener, 0);
    ck_assert_int_eq(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(server->listener, 8), 0);
    ck_assert_int_eq(getsockname(server->listener, (struct sockaddr *)&address, &length), 0);
    ck_assert_int_eq(pipe(server->stop_pipe), 0);
    server->port = ntohs(address.sin_port);
    snprintf(server->url, sizeof server->url, "http://127.0.0.1:%u", (unsigned)server->port);
    ck_assert_int_eq(pthread_create(&server->thread, NULL, run, server), 0);
}

void fake_server_stop(struct fake_server *server)
{
    ck_assert_int_eq(write(server->stop_pipe[1], "x", 1), 1);
    pthread_join(server->thread, NULL);
    close(server->listener);
    close(server->stop_pipe[0]);
    close(server->stop_pipe[1]);
}

void fake_server_release(struct fake_server *server)
{
    for (uint32_t i = 0; i < server->request_count; i++)
        free(server->requests[i].body);
    server->request_count = 0;
}
