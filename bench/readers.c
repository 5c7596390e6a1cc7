/* Threads that read a stream of events and count what comes. */
#include "readers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

enum { CHUNK_BYTES = 1 << 16, HEAD_BYTES = 32, QUIET_MS = 200 };

struct reader {
    pthread_t thread;
    int fd;
    _Atomic bool is_greeted;
    _Atomic uint64_t bytes;
    uint64_t points, lost;
    char head[HEAD_BYTES + 1]; /* of the line that is being read */
    size_t head_length;
};

struct bench_readers {
    uint32_t count;
    struct reader readers[BENCH_READERS_MAX];
};

static void end_line(struct reader *reader)
{
    static const char point[] = "event: point", hello[] = "event: hello";
    static const char lost[] = "data: {\"lost\":";
    reader->head[reader->head_length] = '\0';
    if (strcmp(reader->head, point) == 0)
        reader->points++;
    else if (strcmp(reader->head, hello) == 0)
        atomic_store(&reader->is_greeted, true);
    else if (strncmp(reader->head, lost, sizeof lost - 1) == 0)
        reader->lost += strtoull(reader->head + sizeof lost - 1, NULL, 10);
    reader->head_length = 0;
}

static void take(struct reader *reader, const char *bytes, size_t length)
{
    while (length > 0) {
        const char *end = memchr(bytes, '\n', length);
        const size_t rest = end ? (size_t)(end - bytes) : length;
        const size_t room = HEAD_BYTES - reader->head_length;
        const size_t kept = rest < room ? rest : room;
        memcpy(reader->head + reader->head_length, bytes, kept);
        reader->head_length += kept;
        if (!end)
            return;
        end_line(reader);
        length -= rest + 1;
        bytes = end + 1;
    }
}

static void *read_along(void *arg)
{
    struct reader *reader = arg;
    char *chunk = malloc(CHUNK_BYTES);
    ssize_t got;
    if (!chunk)
        bench_die("no memory");
    while ((got = read(reader->fd, chunk, CHUNK_BYTES)) > 0) {
        take(reader, chunk, (size_t)got);
        reader->bytes += (uint64_t)got;
    }
    free(chunk);
    return NULL;
}

static void pause_ms(long ms)
{
    const struct timespec time = { .tv_nsec = ms * 1000000 };
    nanosleep(&time, NULL);
}

struct bench_readers *bench_readers_start(uint16_t port, uint32_t count)
{
    /* The older version: its answer has no chunks that would cut lines. */
    static const char request[] = "GET /v1/events?types=point HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n";
    struct bench_readers *readers = calloc(1, sizeof *readers);
    struct bench_connection *connection = malloc(sizeof *connection);
    if (!readers || !connection || count > BENCH_READERS_MAX)
        bench_die("no readers");
    readers->count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct reader *reader = &readers->readers[i];
        bench_connect(connection, port);
        reader->fd = connection->fd;
        if (write(reader->fd, request, sizeof request - 1) != sizeof request - 1 ||
            pthread_create(&reader->thread, NULL, read_along, reader) != 0)
            bench_die("no reader");
    }
    for (uint32_t i = 0; i < count; i++)
        while (!atomic_load(&readers->readers[i].is_greeted))
            pause_ms(1);
    free(connection);
    return readers;
}

static uint64_t bytes_of(struct bench_readers *readers)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < readers->count; i++)
        bytes += readers->readers[i].bytes;
    return bytes;
}

struct bench_read bench_readers_stop(struct bench_readers *readers)
{
    struct bench_read read = { 0 };
    uint64_t before;
    do {
        before = bytes_of(readers);
        pause_ms(QUIET_MS);
    } while (bytes_of(readers) != before);
    for (uint32_t i = 0; i < readers->count; i++) {
        struct reader *reader = &readers->readers[i];
        shutdown(reader->fd, SHUT_RDWR);
        pthread_join(reader->thread, NULL);
        close(reader->fd);
        read.points += reader->points;
        read.lost += reader->lost;
        read.bytes += reader->bytes;
    }
    free(readers);
    return read;
}
