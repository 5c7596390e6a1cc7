/* bench_points - durable points per second for small pushes: one connection, sixteen, and NDJSON
 * batches, beside the time of fdatasync on the same folder in the same run.
 *   bench_points [--seconds N] [--lyapd FILE] [--folder DIR] */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

enum {
    CONNECTIONS_MAX = 16,
    TENSORS = 10,
    ELEMENTS = 1000, /* a tensor */
    ROLES = 2,       /* param, grad */
    LINES = 500,     /* of one NDJSON batch */
    LINE_BYTES = 160,
    SAMPLES_MAX = 1 << 20,
    SYNCS = 200,
    SYNC_BYTES = 4096,
    HEADER_BYTES = 8192
};

/* One connection with a run of its own. */
struct worker {
    pthread_t thread;
    uint16_t port;
    char run[32];
    bool is_batch;
    double until;
    uint64_t points;
    double *latencies; /* owned; of each request */
    uint64_t latency_count;
};

static int tensor_body(uint64_t step, const float *data, char *header, struct iovec pieces[2])
{
    static const char *const roles[ROLES] = { "param", "grad" };
    const size_t bytes = ELEMENTS * sizeof(float);
    size_t length = 8, offset = 0;
    length += (size_t)snprintf(header + length, HEADER_BYTES - length,
                               "{\"__metadata__\":{\"step\":\"%" PRIu64 "\",\"loss\":\"1\","
                               "\"lr\":\"0.1\"}",
                               step);
    for (int t = 0; t < TENSORS; t++)
        for (int r = 0; r < ROLES; r++, offset += bytes)
            length += (size_t)snprintf(header + length, HEADER_BYTES - length,
                                       ",\"%s/t%d\":{\"dtype\":\"F32\",\"shape\":[%d],"
                                       "\"data_offsets\":[%zu,%zu]}",
                                       roles[r], t, ELEMENTS, offset, offset + bytes);
    header[length++] = '}';
    while (length % 8)
        header[length++] = ' ';
    for (int i = 0; i < 8; i++)
        header[i] = (char)(unsigned char)((length - 8) >> (8 * i));
    pieces[0] = (struct iovec){ .iov_base = header, .iov_len = length };
    pieces[1] = (struct iovec){ .iov_base = (void *)(uintptr_t)(data + step % ELEMENTS),
                                .iov_len = offset };
    return 2;
}

static int batch_body(uint64_t step, char *text, struct iovec pieces[1])
{
    size_t length = 0;
    for (uint64_t i = 0; i < LINES; i++)
        length += (size_t)snprintf(text + length, LINE_BYTES,
                                   "{\"step\":%" PRIu64 ",\"loss\":%.6f,\"lr\":0.1,"
                                   "\"grad_norm\":%.6f,\"param_norm\":3.25}\n",
                                   step + i, 1 + 1e-3 * (double)i, 0.5 + 1e-4 * (double)i);
    pieces[0] = (struct iovec){ .iov_base = text, .iov_len = length };
    return 1;
}

static float *numbers(void)
{
    const size_t count = (TENSORS * ROLES + 1) * ELEMENTS;
    float *data = malloc(count * sizeof *data);
    for (size_t i = 0; data && i < count; i++)
        data[i] = (float)(i % 97) / 97;
    return data;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct bench_connection *connection = malloc(sizeof *connection);
    float *data = numbers();
    char *text = malloc(LINES * LINE_BYTES + HEADER_BYTES), path[64];
    if (!connection || !data || !text)
        bench_die("no memory");
    bench_connect(connection, worker->port);
    snprintf(path, sizeof path, "/v1/runs/%s/snapshots", worker->run);
    for (uint64_t step = 0; bench_seconds() < worker->until; step += worker->is_batch ? LINES : 1) {
        struct iovec pieces[2];
        const int count = worker->is_batch ? batch_body(step, text, pieces)
                                           : tensor_body(step, data, text, pieces);
        const double start = bench_seconds();
        const int status = bench_exchange(connection, "POST", path,
                                          worker->is_batch ? "application/x-ndjson"
                                                           : "application/vnd.safetensors",
                                          pieces, count);
        if (status != 200)
            bench_die("%s: %.2000s", path, connection->reply);
        if (worker->latency_count < SAMPLES_MAX)
            worker->latencies[worker->latency_count++] = bench_seconds() - start;
        worker->points += worker->is_batch ? LINES : 1;
    }
    bench_close(connection);
    free(connection);
    free(data);
    free(text);
    return NULL;
}

static void measure(const struct bench_daemon *daemon, const char *what, uint32_t connections,
                    bool is_batch, double seconds)
{
    static struct worker workers[CONNECTIONS_MAX];
    static double latencies[SAMPLES_MAX];
    uint64_t points = 0, count = 0;
    const double start = bench_seconds();
    for (uint32_t i = 0; i < connections; i++) {
        workers[i] = (struct worker){ .port = daemon->port,
                                      .is_batch = is_batch,
                                      .until = start + seconds,
                                      .latencies = malloc(SAMPLES_MAX * sizeof(double)) };
        snprintf(workers[i].run, sizeof workers[i].run, "%s-%u-%u", is_batch ? "lines" : "tensors",
                 connections, i);
        if (!workers[i].latencies || pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            bench_die("no thread");
    }
    for (uint32_t i = 0; i < connections; i++) {
        pthread_join(workers[i].thread, NULL);
        points += workers[i].points;
        for (uint64_t j = 0; j < workers[i].latency_count && count < SAMPLES_MAX; j++)
            latencies[count++] = workers[i].latencies[j];
        free(workers[i].latencies);
    }
    const double elapsed = bench_seconds() - start;
    if (count == 0)
        bench_die("%s: no answer in time", what);
    const double median = bench_median(latencies, count);
    printf("%-34s %10.0f points/s   request p50 %7.2f ms  p99 %7.2f ms\n", what,
           (double)points / elapsed, 1e3 * median, 1e3 * latencies[count * 99 / 100]);
}

/* Median time of a small append and fdatasync. */
static double sync_seconds(const char *folder)
{
    char path[PATH_MAX], block[SYNC_BYTES] = { 1 };
    double times[SYNCS];
    snprintf(path, sizeof path, "%s/fdatasync", folder);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    for (int i = 0; i < SYNCS; i++) {
        const double start = bench_seconds();
        if (fd < 0 || write(fd, block, sizeof block) != SYNC_BYTES || fdatasync(fd) != 0)
            bench_die("%s: %s", path, strerror(errno));
        times[i] = bench_seconds() - start;
    }
    close(fd);
    unlink(path);
    return bench_median(times, SYNCS);
}

int main(int argc, char **argv)
{
    double seconds = 3;
    const char *lyapd = "build/bin/lyapd", *folder = "build";
    struct bench_daemon daemon;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0)
            seconds = strtod(argv[i + 1], NULL);
        else if (strcmp(argv[i], "--lyapd") == 0)
            lyapd = argv[i + 1];
        else if (strcmp(argv[i], "--folder") == 0)
            folder = argv[i + 1];
        else
            bench_die("unknown option %s", argv[i]);
    }
    if (argc % 2 == 0 || !(seconds > 0))
        bench_die("bench_points [--seconds N] [--lyapd FILE] [--folder DIR]");
    bench_daemon_start(&daemon, lyapd, folder);
    const double before = sync_seconds(daemon.folder);
    printf("fdatasync of 4 KiB: %.3f ms (%.0f a second)\n", 1e3 * before, 1 / before);
    measure(&daemon, "10 x 1000 F32, 1 connection", 1, false, seconds);
    measure(&daemon, "10 x 1000 F32, 16 connections", 16, false, seconds);
    measure(&daemon, "ndjson, 500 lines, 1 connection", 1, true, seconds);
    measure(&daemon, "ndjson, 500 lines, 16 connections", 16, true, seconds);
    const double after = sync_seconds(daemon.folder);
    printf("fdatasync of 4 KiB after: %.3f ms\n", 1e3 * after);
    bench_daemon_stop(&daemon);
    return EXIT_SUCCESS;
}
