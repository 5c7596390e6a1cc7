/* bench_ingest - full-grade ingest over one connection against a bare TCP sink that reads the same
 * bytes from the same sender, alternating in one run.
 *   bench_ingest [--mib N] [--rounds N] [--gram-every N] [--lyapd FILE] [--folder DIR]
 * The worker's Gram bounds (spectral_every) are off by default: their processor time is not the
 * upload's. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"

enum {
    TENSORS = 16,
    COLUMNS = 1024,              /* matrices, so that their norms are measured */
    ROLES = 2,                   /* param, grad */
    SINK_BUFFER_BYTES = 1 << 20, /* more does not make the sink faster */
    SHIFT_ELEMENTS = 4096,       /* between the windows of two steps on the pool */
    ROUNDS_MAX = 100,
    WARM_ROUNDS = 3, /* planes are used again from the third snapshot on */
    HEADER_BYTES = 1 << 16
};

struct bench {
    uint64_t mib, rounds;
    const char *lyapd, *folder;
    float *pool; /* owned; normal numbers, every tensor is a window on it */
    uint64_t pool_count, tensor_count;
};

/* Reads requests and answers 200, as little as a server can do. */
static void sink_connection(int fd, char *buffer)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    for (;;) {
        size_t head = 0;
        const char *end = NULL;
        while (!end) {
            const ssize_t got = read(fd, buffer + head, SINK_BUFFER_BYTES - 1 - head);
            if (got <= 0)
                return;
            head += (size_t)got;
            buffer[head] = '\0';
            end = strstr(buffer, "\r\n\r\n");
        }
        const char *field = strcasestr(buffer, "content-length:");
        uint64_t left = field ? strtoull(field + 15, NULL, 10) : 0;
        left -= head - (size_t)(end + 4 - buffer);
        while (left > 0) {
            const ssize_t got = read(fd, buffer, SINK_BUFFER_BYTES);
            if (got <= 0)
                return;
            left -= (uint64_t)got;
        }
        if (write(fd, answer, sizeof answer - 1) != sizeof answer - 1)
            return;
    }
}

/* A process of its own, as lyapd is. */
static pid_t sink_start(uint16_t *ret_port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof address;
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 4) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        bench_die("sink: %s", strerror(errno));
    *ret_port = ntohs(address.sin_port);
    const pid_t pid = fork();
    if (pid != 0) {
        close(listener);
        return pid;
    }
    char *buffer = malloc(SINK_BUFFER_BYTES);
    for (int fd; buffer && (fd = accept(listener, NULL, NULL)) >= 0; close(fd))
        sink_connection(fd, buffer);
    _exit(EXIT_SUCCESS);
}

/* Uniform numbers in [-1, 1): the kernels' time does not depend on the distribution. */
static void fill_pool(struct bench *bench)
{
    uint64_t state = 1;
    bench->tensor_count = bench->mib * (1 << 20) / sizeof(float) / TENSORS / ROLES;
    bench->pool_count =
        bench->tensor_count + (uint64_t)SHIFT_ELEMENTS * (2 * (ROUNDS_MAX + WARM_ROUNDS) + TENSORS);
    bench->pool = malloc(bench->pool_count * sizeof *bench->pool);
    if (!bench->pool)
        bench_die("no memory for %" PRIu64 " MiB", bench->mib);
    for (uint64_t i = 0; i < bench->pool_count; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bench->pool[i] = (float)((double)(state >> 40) / (1 << 23) - 1);
    }
}

/* Header and windows of one step: matrices, or the same elements as vectors. */
static int make_snapshot(const struct bench *bench, uint64_t step, bool is_flat, char *header,
                         struct iovec *pieces)
{
    char shape[64];
    if (is_flat)
        snprintf(shape, sizeof shape, "%" PRIu64, bench->tensor_count);
    else
        snprintf(shape, sizeof shape, "%" PRIu64 ",%d", bench->tensor_count / COLUMNS, COLUMNS);
    static const char *const roles[ROLES] = { "param", "grad" };
    const uint64_t bytes = bench->tensor_count * sizeof(float);
    uint64_t offset = 0;
    size_t length = 8;
    int count = 1;
    length += (size_t)snprintf(header + length, HEADER_BYTES - length,
                               "{\"__metadata__\":{\"step\":\"%" PRIu64 "\",\"loss\":\"1\","
                               "\"lr\":\"0.1\"}",
                               step);
    for (uint64_t t = 0; t < TENSORS; t++)
        for (uint64_t r = 0; r < ROLES; r++) {
            length += (size_t)snprintf(header + length, HEADER_BYTES - length,
                                       ",\"%s/t%02" PRIu64 "\":{\"dtype\":\"F32\",\"shape\":[%s],"
                                       "\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                                       roles[r], t, shape, offset, offset + bytes);
            offset += bytes;
            pieces[count++] =
                (struct iovec){ .iov_base = bench->pool + (2 * step + r + t) * SHIFT_ELEMENTS,
                                .iov_len = bytes };
        }
    length = bench_header_close(header, length);
    pieces[0] = (struct iovec){ .iov_base = header, .iov_len = length };
    return count;
}

/* One of the things that are measured: pushes to `path`, received by process `pid`. */
struct target {
    const char *name, *path;
    bool is_flat;
    pid_t pid;
    struct bench_connection *connection;
    double seconds[ROUNDS_MAX], cpu_seconds[ROUNDS_MAX], minor_faults[ROUNDS_MAX];
};

/* `round` below 0: not counted. */
static void push(struct target *target, const struct iovec *pieces, int count, int64_t round)
{
    const uint64_t faults = bench_minor_faults(target->pid);
    const double cpu = bench_cpu_seconds(target->pid), start = bench_seconds();
    const int status = bench_exchange(target->connection, "POST", target->path,
                                      "application/vnd.safetensors", pieces, count);
    const double elapsed = bench_seconds() - start;
    if (status != 200)
        bench_die("%s: %.2000s", target->path, target->connection->reply);
    if (round < 0)
        return;
    target->seconds[round] = elapsed;
    target->cpu_seconds[round] = bench_cpu_seconds(target->pid) - cpu;
    target->minor_faults[round] = (double)(bench_minor_faults(target->pid) - faults);
}

static void print_row(const struct bench *bench, struct target *target, const struct target *sink)
{
    const double elements = (double)bench->tensor_count * TENSORS * ROLES;
    double times[ROUNDS_MAX], ratios[ROUNDS_MAX];
    for (uint64_t i = 0; i < bench->rounds; i++) {
        times[i] = target->seconds[i];
        ratios[i] = sink->seconds[i] / target->seconds[i];
    }
    const double median = bench_median(times, bench->rounds);
    const double ratio = bench_median(ratios, bench->rounds);
    printf("%-15s %6.3f %9.3f %9.3f %8.0f   %6.2f %6.2f %6.2f\n", target->name,
           elements * sizeof(float) / median / 1e9, median / elements * 1e9,
           bench_median(target->cpu_seconds, bench->rounds) / elements * 1e9,
           bench_median(target->minor_faults, bench->rounds), ratio, ratios[0],
           ratios[bench->rounds - 1]);
}

/* Processor time of matrices above that of vectors, in per cent. */
static double norms_cost(const struct bench *bench, struct target *matrices, struct target *vectors)
{
    return 100 * (bench_median(matrices->cpu_seconds, bench->rounds) /
                      bench_median(vectors->cpu_seconds, bench->rounds) -
                  1);
}

static void declare(struct bench_connection *connection, const char *run, const char *retention)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/v1/runs/%s", run);
    snprintf(text, sizeof text,
             "{\"retention\":\"%s\",\"optimizer\":{\"type\":\"sgd\",\"lr\":0.1,\"momentum\":0.9}}",
             retention);
    bench_send_text(connection, "PUT", path, "application/json", text);
}

/* Pushes in turns to the sink and to lyapd in both retentions; the first of each, in which a run
 * meets its tensors and its planes their pages, are not counted. */
static void measure(const struct bench *bench, const struct bench_daemon *daemon, pid_t sink,
                    uint16_t sink_port)
{
    static struct bench_connection to_lyapd, to_sink;
    static struct target targets[] = {
        { .name = "bare TCP sink", .path = "/sink", .connection = &to_sink },
        { .name = "lyapd, exact", .path = "/v1/runs/exact/snapshots", .connection = &to_lyapd },
        { .name = "lyapd, sketch", .path = "/v1/runs/sketch/snapshots", .connection = &to_lyapd },
        { .name = "exact, vectors",
          .path = "/v1/runs/exact-flat/snapshots",
          .is_flat = true,
          .connection = &to_lyapd },
        { .name = "sketch, vectors",
          .path = "/v1/runs/sketch-flat/snapshots",
          .is_flat = true,
          .connection = &to_lyapd },
    };
    enum { TARGETS = sizeof targets / sizeof *targets };
    static char header[HEADER_BYTES];
    struct iovec pieces[TENSORS * ROLES + 1];
    for (int i = 0; i < TARGETS; i++)
        targets[i].pid = i ? daemon->pid : sink;
    bench_connect(&to_lyapd, daemon->port);
    bench_connect(&to_sink, sink_port);
    declare(&to_lyapd, "exact", "exact");
    declare(&to_lyapd, "sketch", "sketch");
    declare(&to_lyapd, "exact-flat", "exact");
    declare(&to_lyapd, "sketch-flat", "sketch");
    for (uint64_t step = 0; step < bench->rounds + WARM_ROUNDS; step++) {
        for (int i = 0; i < TARGETS; i++) {
            const int count = make_snapshot(bench, step, targets[i].is_flat, header, pieces);
            push(&targets[i], pieces, count, (int64_t)step - WARM_ROUNDS);
        }
    }
    printf("%" PRIu64 " MiB a push (%d tensors, param and grad, F32), %" PRIu64 " rounds\n",
           bench->mib, TENSORS, bench->rounds);
    printf("%-15s %6s %9s %9s %8s   %6s %6s %6s\n", "", "GB/s", "ns/elem", "cpu ns", "faults",
           "ratio", "min", "max");
    for (int i = 0; i < TARGETS; i++)
        print_row(bench, &targets[i], &targets[0]);
    printf("norms of weights, processor time: %+.1f %% exact, %+.1f %% sketch\n",
           norms_cost(bench, &targets[1], &targets[3]),
           norms_cost(bench, &targets[2], &targets[4]));
    printf("resident after: %.0f MiB\n", (double)bench_daemon_rss(daemon) / (1 << 20));
    bench_close(&to_lyapd);
    bench_close(&to_sink);
}

int main(int argc, char **argv)
{
    struct bench bench = { .mib = 256, .rounds = 7, .lyapd = "build/bin/lyapd", .folder = "build" };
    struct bench_daemon daemon;
    const char *gram_every = "0";
    uint16_t sink_port;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--mib") == 0)
            bench.mib = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--rounds") == 0)
            bench.rounds = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--gram-every") == 0)
            gram_every = argv[i + 1];
        else if (strcmp(argv[i], "--lyapd") == 0)
            bench.lyapd = argv[i + 1];
        else if (strcmp(argv[i], "--folder") == 0)
            bench.folder = argv[i + 1];
        else
            bench_die("unknown option %s", argv[i]);
    }
    if (argc % 2 == 0 || bench.mib < 1 || bench.rounds < 1 || bench.rounds > ROUNDS_MAX)
        bench_die("bench_ingest [--mib N] [--rounds 1..%d] [--gram-every N] [--lyapd FILE] "
                  "[--folder DIR]",
                  ROUNDS_MAX);
    setenv("LYAPD_SPECTRAL_EVERY", gram_every, 1);
    fill_pool(&bench);
    const pid_t sink = sink_start(&sink_port);
    bench_daemon_start(&daemon, bench.lyapd, bench.folder);
    measure(&bench, &daemon, sink, sink_port);
    bench_daemon_stop(&daemon);
    kill(sink, SIGTERM);
    waitpid(sink, NULL, 0);
    free(bench.pool);
    return EXIT_SUCCESS;
}
