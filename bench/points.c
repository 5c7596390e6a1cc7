/* bench_points - durable points per second for small pushes: one connection, sixteen, and NDJSON
 * batches, beside the time of fdatasync on the same folder in the same run. With --compare, what
 * readers of GET /v1/events cost, or points that a score has much to say about: the same load with
 * and without, in turns, as ratios of each round.
 *   bench_points [--seconds N] [--lyapd FILE] [--folder DIR] [--compare readers|parts]
 *                [--rounds N] */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "readers.h"

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
    HEADER_BYTES = 8192,
    VARIANTS_MAX = 3,
    ROUNDS_MAX = 99,
    ASKED = 50 /* points of a run of which the parts are counted */
};

/* How a load pushes. */
struct load {
    const char *name, *word; /* word: begins the names of its runs */
    uint32_t connections;
    bool is_batch;
};
static const struct load loads[] = {
    { "10 x 1000 F32, 1 connection", "tensors", 1, false },
    { "10 x 1000 F32, 16 connections", "tensors", 16, false },
    { "ndjson, 500 lines, 1 connection", "lines", 1, true },
    { "ndjson, 500 lines, 16 connections", "lines", 16, true },
};

/* What is compared under a load; the first of a list is what the others are divided by. */
struct variant {
    const char *name;
    uint32_t readers;
    bool is_rising; /* the loss rises all the time */
};
static const struct variant plain = { "", 0, false };

struct result {
    uint64_t points;
    double rate, cpu; /* points a second; the daemon's processor seconds a point */
    double p50, p99;  /* seconds of a request */
    double parts;     /* of a point */
    struct bench_read read;
};

/* One connection with a run of its own. */
struct worker {
    pthread_t thread;
    uint16_t port;
    char run[64];
    bool is_batch, is_rising;
    double until;
    uint64_t points;
    double *latencies; /* owned; of each request */
    uint64_t latency_count;
};

/* Falls to a noisy plateau, or turns and rises by a thousandth of itself a step. */
static double loss_at(uint64_t step, bool is_rising)
{
    const double noise = (double)(step * 7919 % 1009) / 1009 - 0.5;
    const double fallen = 1 + 2 / (1 + 0.05 * (double)step) + 0.02 * noise;
    return is_rising && step > 200 ? fallen * exp(1e-3 * (double)((step - 200) % 20000)) : fallen;
}

static int tensor_body(const struct worker *worker, uint64_t step, const float *data, char *header,
                       struct iovec pieces[2])
{
    static const char *const roles[ROLES] = { "param", "grad" };
    const size_t bytes = ELEMENTS * sizeof(float);
    size_t length = 8, offset = 0;
    length += (size_t)snprintf(header + length, HEADER_BYTES - length,
                               "{\"__metadata__\":{\"step\":\"%" PRIu64 "\",\"loss\":\"%.6f\","
                               "\"lr\":\"0.1\"}",
                               step, loss_at(step, worker->is_rising));
    for (int t = 0; t < TENSORS; t++)
        for (int r = 0; r < ROLES; r++, offset += bytes)
            length += (size_t)snprintf(header + length, HEADER_BYTES - length,
                                       ",\"%s/t%d\":{\"dtype\":\"F32\",\"shape\":[%d],"
                                       "\"data_offsets\":[%zu,%zu]}",
                                       roles[r], t, ELEMENTS, offset, offset + bytes);
    length = bench_header_close(header, length);
    pieces[0] = (struct iovec){ .iov_base = header, .iov_len = length };
    pieces[1] = (struct iovec){ .iov_base = (void *)(uintptr_t)(data + step % ELEMENTS),
                                .iov_len = offset };
    return 2;
}

static int batch_body(const struct worker *worker, uint64_t step, char *text,
                      struct iovec pieces[1])
{
    size_t length = 0;
    for (uint64_t i = 0; i < LINES; i++)
        length += (size_t)snprintf(text + length, LINE_BYTES,
                                   "{\"step\":%" PRIu64 ",\"loss\":%.6f,\"lr\":0.1,"
                                   "\"grad_norm\":%.6f,\"param_norm\":3.25}\n",
                                   step + i, loss_at(step + i, worker->is_rising),
                                   0.5 + 1e-4 * (double)i);
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
    char *text = malloc(LINES * LINE_BYTES + HEADER_BYTES), path[96];
    if (!connection || !data || !text)
        bench_die("no memory");
    bench_connect(connection, worker->port);
    snprintf(path, sizeof path, "/v1/runs/%s/snapshots", worker->run);
    for (uint64_t step = 0; bench_seconds() < worker->until; step += worker->is_batch ? LINES : 1) {
        struct iovec pieces[2];
        const int count = worker->is_batch ? batch_body(worker, step, text, pieces)
                                           : tensor_body(worker, step, data, text, pieces);
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

/* Parts of the score that the points of a run carry, the mean of some of its last. */
static double parts_of(uint16_t port, const char *run, uint64_t points)
{
    struct bench_connection *connection = malloc(sizeof *connection);
    uint64_t parts = 0;
    uint64_t asked = points < ASKED ? points : ASKED;
    if (!connection)
        bench_die("no memory");
    bench_connect(connection, port);
    for (uint64_t i = 0; i < asked; i++) {
        char path[128];
        snprintf(path, sizeof path, "/v1/runs/%.63s/points/%" PRIu64, run, points - 1 - i);
        if (bench_exchange(connection, "GET", path, "text/plain", NULL, 0) != 200)
            bench_die("%s: %.2000s", path, connection->reply);
        for (const char *at = connection->reply; (at = strstr(at, "\"log_odds\"")); at++)
            parts++;
    }
    bench_close(connection);
    free(connection);
    return (double)parts / (double)asked;
}

static void start_worker(struct worker *worker, const struct bench_daemon *daemon,
                         const struct load *load, const struct variant *variant, double until)
{
    static uint32_t runs; /* each worker has a run that nobody had before */
    *worker = (struct worker){ .port = daemon->port,
                               .is_batch = load->is_batch,
                               .is_rising = variant->is_rising,
                               .until = until,
                               .latencies = malloc(SAMPLES_MAX * sizeof(double)) };
    snprintf(worker->run, sizeof worker->run, "%s-%u", load->word, runs++);
    if (!worker->latencies || pthread_create(&worker->thread, NULL, work, worker))
        bench_die("no thread");
}

static struct result measure(const struct bench_daemon *daemon, const struct load *load,
                             const struct variant *variant, double seconds)
{
    static struct worker workers[CONNECTIONS_MAX];
    static double latencies[SAMPLES_MAX];
    struct result result = { 0 };
    uint64_t count = 0;
    struct bench_readers *readers = bench_readers_start(daemon->port, variant->readers);
    const double cpu = bench_cpu_seconds(daemon->pid), start = bench_seconds();
    for (uint32_t i = 0; i < load->connections; i++)
        start_worker(&workers[i], daemon, load, variant, start + seconds);
    for (uint32_t i = 0; i < load->connections; i++) {
        pthread_join(workers[i].thread, NULL);
        result.points += workers[i].points;
        for (uint64_t j = 0; j < workers[i].latency_count && count < SAMPLES_MAX; j++)
            latencies[count++] = workers[i].latencies[j];
        free(workers[i].latencies);
    }
    if (count == 0)
        bench_die("%s: no answer in time", load->name);
    result.rate = (double)result.points / (bench_seconds() - start);
    result.read = bench_readers_stop(readers);
    result.cpu = (bench_cpu_seconds(daemon->pid) - cpu) / (double)result.points;
    result.p50 = bench_median(latencies, count);
    result.p99 = latencies[count * 99 / 100];
    result.parts = parts_of(daemon->port, workers[0].run, workers[0].points);
    return result;
}

static void measure_loads(const struct bench_daemon *daemon, double seconds)
{
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++) {
        const struct result result = measure(daemon, &loads[i], &plain, seconds);
        printf("%-34s %10.0f points/s   request p50 %7.2f ms  p99 %7.2f ms\n", loads[i].name,
               result.rate, 1e3 * result.p50, 1e3 * result.p99);
    }
}

/* ---- the same load, with and without ---- */

struct comparison {
    const char *name;
    struct variant variants[VARIANTS_MAX];
    uint32_t count;
};
static const struct comparison comparisons[] = {
    { "readers",
      { { "no reader", 0, false }, { "1 reader", 1, false }, { "16 readers", 16, false } },
      3 },
    { "parts", { { "calm loss", 0, false }, { "rising loss", 0, true } }, 2 },
};

/* Medians over the rounds; of ratios the quartiles too. */
static void print_variant(const struct variant *variant, struct result results[][VARIANTS_MAX],
                          uint32_t index, uint32_t rounds)
{
    double rates[ROUNDS_MAX], ratios[ROUNDS_MAX], cpus[ROUNDS_MAX], cpu_ratios[ROUNDS_MAX];
    double points = 0, parts = 0, read = 0, lost = 0;
    for (uint32_t r = 0; r < rounds; r++) {
        const struct result *mine = &results[r][index], *base = &results[r][0];
        rates[r] = mine->rate;
        ratios[r] = mine->rate / base->rate;
        cpus[r] = mine->cpu;
        cpu_ratios[r] = mine->cpu / base->cpu;
        points += (double)mine->points * variant->readers;
        parts += mine->parts / rounds;
        read += (double)mine->read.points;
        lost += (double)mine->read.lost;
    }
    const double rate = bench_median(rates, rounds), ratio = bench_median(ratios, rounds);
    const double cpu_ratio = bench_median(cpu_ratios, rounds);
    printf("  %-12s %8.0f points/s  ratio %.3f (%.3f to %.3f)  cpu %6.1f us/point  ratio %.3f "
           "(%.3f to %.3f)  parts %.1f",
           variant->name, rate, ratio, ratios[rounds / 4], ratios[3 * rounds / 4],
           1e6 * bench_median(cpus, rounds), cpu_ratio, cpu_ratios[rounds / 4],
           cpu_ratios[3 * rounds / 4], parts);
    if (variant->readers)
        printf("  read %.4f lost %.4f", read / points, lost / points);
    printf("\n");
}

/* Every round measures all variants, each time beginning with another one. */
static void compare(const struct bench_daemon *daemon, const struct comparison *comparison,
                    uint32_t rounds, double seconds)
{
    static struct result results[ROUNDS_MAX][VARIANTS_MAX];
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++) {
        (void)measure(daemon, &loads[i], &plain, seconds / 4); /* warms up; not counted */
        for (uint32_t r = 0; r < rounds; r++)
            for (uint32_t k = 0; k < comparison->count; k++) {
                const uint32_t v = (r + k) % comparison->count;
                results[r][v] = measure(daemon, &loads[i], &comparison->variants[v], seconds);
            }
        printf("%s\n", loads[i].name);
        for (uint32_t v = 0; v < comparison->count; v++)
            print_variant(&comparison->variants[v], results, v, rounds);
        fflush(stdout);
    }
}

static const struct comparison *find_comparison(const char *name)
{
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++)
        if (strcmp(comparisons[i].name, name) == 0)
            return &comparisons[i];
    bench_die("nothing compares '%s'", name);
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

struct options {
    double seconds;
    uint32_t rounds;
    const char *lyapd, *folder;
    const struct comparison *comparison; /* NULL: none */
};

static struct options read_options(int argc, char **argv)
{
    struct options options = { 3, 5, "build/bin/lyapd", "build", NULL };
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--seconds") == 0)
            options.seconds = strtod(value, NULL);
        else if (strcmp(argv[i], "--rounds") == 0)
            options.rounds = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--lyapd") == 0)
            options.lyapd = value;
        else if (strcmp(argv[i], "--folder") == 0)
            options.folder = value;
        else if (strcmp(argv[i], "--compare") == 0)
            options.comparison = find_comparison(value);
        else
            bench_die("unknown option %s", argv[i]);
    }
    if (argc % 2 == 0 || !(options.seconds > 0) || options.rounds == 0 ||
        options.rounds > ROUNDS_MAX)
        bench_die("bench_points [--seconds N] [--lyapd FILE] [--folder DIR] "
                  "[--compare readers|parts] [--rounds 1 to %d]",
                  ROUNDS_MAX);
    return options;
}

int main(int argc, char **argv)
{
    const struct options options = read_options(argc, argv);
    struct bench_daemon daemon;
    bench_daemon_start(&daemon, options.lyapd, options.folder);
    const double before = sync_seconds(daemon.folder);
    printf("fdatasync of 4 KiB: %.3f ms (%.0f a second)\n", 1e3 * before, 1 / before);
    if (options.comparison)
        compare(&daemon, options.comparison, options.rounds, options.seconds);
    else
        measure_loads(&daemon, options.seconds);
    const double after = sync_seconds(daemon.folder);
    printf("fdatasync of 4 KiB after: %.3f ms\n", 1e3 * after);
    bench_daemon_stop(&daemon);
    return EXIT_SUCCESS;
}
