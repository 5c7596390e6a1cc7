/* How fast the store takes points and gives charts.
 * Usage: bench_store [points] [directory]   default 100000 points in the current directory.
 * Prints, one a line: durable points and metric values per second in batches of 1000, one point a
 * commit, the time of a chart of 1000 points over the whole series, the bytes per point, and what
 * the parts of scores add: finding and encoding them, and writing them, in turns with points that
 * have none. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lyap/parts.h"
#include "store.h"

enum {
    BATCH = 1000,
    CHARTS = 20,
    SINGLE_COMMITS = 500,
    ROUNDS = 99, /* of points with and without parts */
    ROUND_POINTS = BATCH,
    MADE = 20000,      /* parts that are made to time it */
    USUAL_BYTES = 177, /* of parts: the mean of a healthy run (docs/decisions/0012) */
    LARGE_BYTES = 800, /* sixteen parts and six names of 70 bytes */
    SIZES = 3
};

static double clock_s(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

static double now_s(void)
{
    return clock_s(CLOCK_MONOTONIC);
}

static void check(struct lyap_store *store, enum lyap_status status, const char *what)
{
    if (status == LYAP_OK)
        return;
    (void)fprintf(stderr, "bench_store: %s: %s: %s\n", what, lyap_status_slug(status),
                  store ? store->ops->error_text(store) : "");
    exit(EXIT_FAILURE);
}

/* Every metric is there, as in a run that pushes all; values differ from step to step. */
static void make_point(int64_t step, uint64_t *state, struct lyap_point *ret_point)
{
    lyap_point_init(ret_point);
    memset(ret_point->parts, 0xa5, sizeof ret_point->parts);
    ret_point->step = step;
    ret_point->attempt = 1;
    ret_point->time_ns = INT64_C(1700000000000000000) + step * 1000000;
    ret_point->state = LYAP_STATE_HEALTHY;
    ret_point->verdict = LYAP_VERDICT_DISSIPATING;
    for (int i = 0; i < LYAP_METRIC_COUNT; i++) {
        *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
        ret_point->metrics[i].value = (double)(*state >> 11) * 0x1p-53;
        ret_point->metrics[i].reason = LYAP_REASON_NONE;
    }
}

static int64_t put_run(struct lyap_store *store)
{
    struct lyap_run_record run = { .name = "bench",
                                   .attempt = 1,
                                   .retention = LYAP_RETENTION_EXACT,
                                   .last_step = -1,
                                   .action = { .lr = NAN } };
    check(store, store->ops->begin(store), "begin");
    check(store, store->ops->put_run(store, &run), "put_run");
    const struct lyap_attempt_record attempt = {
        .run_id = run.id, .attempt = 1, .first_step = -1, .last_step = -1, .reference_loss = NAN
    };
    check(store, store->ops->put_attempt(store, &attempt), "put_attempt");
    check(store, store->ops->commit(store), "commit");
    return run.id;
}

/* Seconds that `count` points from `first` on take, `batch` a commit, with so many bytes of parts.
 */
static double put_points(struct lyap_store *store, int64_t run_id, int64_t first, int64_t count,
                         int64_t batch, uint16_t parts_bytes)
{
    struct lyap_point point;
    uint64_t state = (uint64_t)first;
    const double start = now_s();
    for (int64_t i = 0; i < count; i++) {
        if (i % batch == 0)
            check(store, store->ops->begin(store), "begin");
        make_point(first + i, &state, &point);
        point.parts_bytes = parts_bytes;
        check(store, store->ops->put_point(store, run_id, &point, NULL, 0), "put_point");
        if (i % batch == batch - 1 || i == count - 1)
            check(store, store->ops->commit(store), "commit");
    }
    return now_s() - start;
}

static uint32_t read_chart(struct lyap_store *store, uint32_t metric_count)
{
    static const enum lyap_metric metrics[] = { LYAP_METRIC_LOSS, LYAP_METRIC_GRAD_NORM,
                                                LYAP_METRIC_STABILITY_RATIO,
                                                LYAP_METRIC_NONFINITE_GRAD };
    const struct lyap_query query = { .table = LYAP_TABLE_SERIES,
                                      .run = "bench",
                                      .to_step = LYAP_STEP_MAX,
                                      .after = -1,
                                      .state = -1,
                                      .severity = -1,
                                      .metrics = metrics,
                                      .metric_count = metric_count,
                                      .points = 1000 };
    struct lyap_cursor *cursor = NULL;
    struct lyap_record record;
    uint32_t rows = 0;
    check(store, store->ops->query(store, &query, &cursor), "query");
    while (cursor->next(cursor, &record) == LYAP_OK)
        rows++;
    cursor->close(cursor);
    return rows;
}

static void chart(struct lyap_store *store, uint32_t metric_count)
{
    double worst = 0, sum = 0;
    uint32_t rows = 0;
    for (int i = 0; i < CHARTS; i++) {
        const double start = now_s();
        rows = read_chart(store, metric_count);
        const double taken = now_s() - start;
        sum += taken;
        worst = taken > worst ? taken : worst;
    }
    (void)printf("chart_ms metrics=%" PRIu32 " points=1000 rows=%" PRIu32 " mean=%.2f worst=%.2f\n",
                 metric_count, rows, 1e3 * sum / CHARTS, 1e3 * worst);
}

/* ---- parts of scores ---- */

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median and the quartiles. */
static void print_ratios(const char *name, double ratios[ROUNDS])
{
    qsort(ratios, ROUNDS, sizeof *ratios, compare);
    (void)printf(" %s=%.3f (%.3f to %.3f)", name, ratios[ROUNDS / 2], ratios[ROUNDS / 4],
                 ratios[3 * ROUNDS / 4]);
}

/* Each round writes points of every size, beginning with another one each time. */
static void write_parts(struct lyap_store *store, int64_t run_id, int64_t first)
{
    static const uint16_t sizes[SIZES] = { 0, USUAL_BYTES, LARGE_BYTES };
    double seconds[SIZES][ROUNDS], cpu[SIZES][ROUNDS];
    for (int r = 0; r < ROUNDS; r++)
        for (int k = 0; k < SIZES; k++, first += ROUND_POINTS) {
            const int i = (r + k) % SIZES;
            const double before = clock_s(CLOCK_PROCESS_CPUTIME_ID);
            seconds[i][r] = put_points(store, run_id, first, ROUND_POINTS, BATCH, sizes[i]);
            cpu[i][r] = clock_s(CLOCK_PROCESS_CPUTIME_ID) - before;
        }
    for (int i = 1; i < SIZES; i++) {
        double rates[ROUNDS], cpus[ROUNDS];
        for (int r = 0; r < ROUNDS; r++) {
            rates[r] = seconds[0][r] / seconds[i][r];
            cpus[r] = cpu[i][r] / cpu[0][r];
        }
        (void)printf("parts_bytes=%d", sizes[i]);
        print_ratios("points_per_s_ratio", rates);
        print_ratios("cpu_ratio", cpus);
        (void)printf("\n");
    }
}

/* From what was observed to bytes, of both scores, which are computed with them. */
static void make_parts(void)
{
    double seen[LYAP_OBSERVABLE_COUNT], shares[LYAP_OBSERVABLE_COUNT];
    unsigned char bytes[LYAP_PARTS_BYTES_MAX];
    struct lyap_parts parts = { .version = lyap_score_version() };
    uint64_t length = 0;
    for (int i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        seen[i] = 10;
    const double start = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < MADE; i++) {
        seen[i % LYAP_OBSERVABLE_COUNT] = i % 20;
        for (unsigned kind = 0; kind < LYAP_SCORE_KIND_COUNT; kind++) {
            (void)lyap_score((enum lyap_score_kind)kind, seen, shares);
            parts.counts[kind] = lyap_score_parts(shares, seen, parts.parts[kind]);
        }
        length += lyap_parts_encode(&parts, bytes);
    }
    (void)printf("parts_made_us=%.2f bytes=%.0f\n",
                 1e6 * (clock_s(CLOCK_PROCESS_CPUTIME_ID) - start) / MADE, (double)length / MADE);
}

int main(int argc, char **argv)
{
    const int64_t points = argc > 1 ? strtoll(argv[1], NULL, 10) : 100000;
    char path[4096];
    char directory[4000];
    (void)snprintf(directory, sizeof directory, "%s/bench_store_XXXXXX", argc > 2 ? argv[2] : ".");
    if (points <= 0 || !mkdtemp(directory)) {
        (void)fprintf(stderr, "usage: bench_store [points > 0] [directory]\n");
        return EXIT_FAILURE;
    }
    (void)snprintf(path, sizeof path, "%s/lyapd.db", directory);
    const struct lyap_store_options options = {
        .path = path, .is_network_forced = true, .reader_count = 1, .busy_timeout_ms = 1000
    };
    struct lyap_store *store = NULL;
    struct lyap_error error = LYAP_ERROR_NULL;
    if (lyap_store_sqlite_open(&options, &store, &error) != LYAP_OK) {
        (void)fprintf(stderr, "bench_store: %s\n", lyap_error_text(&error));
        return EXIT_FAILURE;
    }
    const int64_t run_id = put_run(store);
    const double taken = put_points(store, run_id, 0, points, BATCH, 0);
    (void)printf("batch=%d points=%" PRId64 " points_per_s=%.0f values_per_s=%.0f\n", BATCH, points,
                 (double)points / taken, (double)points * LYAP_METRIC_COUNT / taken);
    const double single = put_points(store, run_id, points, SINGLE_COMMITS, 1, 0);
    (void)printf("batch=1 commits_per_s=%.0f\n", SINGLE_COMMITS / single);
    (void)printf("bytes_per_point=%.0f\n", (double)store->ops->bytes(store) / (double)points);
    chart(store, 1);
    chart(store, 4);
    write_parts(store, run_id, points + SINGLE_COMMITS);
    make_parts();
    store->ops->close(store);

    static const char *const suffixes[] = { "", "-wal", "-shm", ".lock" };
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char name[4200];
        (void)snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        (void)unlink(name);
    }
    return rmdir(directory) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
