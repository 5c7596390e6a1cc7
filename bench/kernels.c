/* Nanoseconds per element of every kernel, and of whole pushes through the intake.
 *   bench_kernels [million parameters [part of a name]]
 * Each number is the best of several rounds, in processor time of the one thread; the elements of a
 * push are those pushed (param and grad: two per parameter). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/kernels.h"
#include "lyap/alloc.h"
#include "lyap/intake.h"

enum { CHUNK = 512, ROUNDS = 7, REPEATS = 20000, SOCKET_BYTES = 64 << 10 };

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static double x[CHUNK], y[CHUNK], w[CHUNK], z[CHUNK], sums[LYAP_SKETCH_SIZE + LYAP_SKETCH_BLOCK];
static float narrow[CHUNK], narrow_2[CHUNK], narrow_3[CHUNK];
static struct lyap_lanes lanes[LYAP_PAIR_COUNT];
static struct lyap_moment_sums moments;
static const double factors[3] = { 0.9, 0.1, 1e-8 };

static void run_widen(const struct lyap_kernels *k, uint64_t i)
{
    (void)i;
    k->widen[LYAP_DTYPE_F32](narrow, CHUNK, z);
}
static void run_moments(const struct lyap_kernels *k, uint64_t i)
{
    (void)i;
    k->moments(x, CHUNK, &moments);
}
static void run_sketch(const struct lyap_kernels *k, uint64_t i)
{
    const struct lyap_sketch_run run = { 7, i * (CHUNK / LYAP_SKETCH_BLOCK), LYAP_SKETCH_SIZE };
    k->sketch(x, CHUNK / LYAP_SKETCH_BLOCK, &run, sums);
}
static void run_dot(const struct lyap_kernels *k, uint64_t i)
{
    (void)i;
    k->dot(x, y, CHUNK, lanes);
}
static void run_diff_sq(const struct lyap_kernels *k, uint64_t i)
{
    (void)i;
    k->diff_sq(x, y, CHUNK, lanes);
}
static void run_pair(const struct lyap_kernels *k, uint64_t i)
{
    const double *const arrays[4] = { x, y, w, z };
    (void)i;
    k->pair(arrays, CHUNK, lanes);
}
static void run_subtract(const struct lyap_kernels *k, uint64_t i)
{
    (void)i;
    k->subtract(x, y, CHUNK, z);
}
static void run_scan(const struct lyap_kernels *k, uint64_t i)
{
    struct lyap_scan scan;
    (void)i;
    k->scan_f32(narrow, CHUNK, &scan);
}
static void run_absorb(const struct lyap_kernels *k, uint64_t i)
{
    const struct lyap_sketch_run run = { 7, i * (CHUNK / LYAP_SKETCH_BLOCK), LYAP_SKETCH_SIZE };
    k->absorb_f32(narrow, CHUNK / LYAP_SKETCH_BLOCK, &run, &moments, sums);
}
static void run_moved(const struct lyap_kernels *k, uint64_t i)
{
    static struct lyap_moved_sums moved_sums;
    struct lyap_moved moved = { .param = narrow,
                                .grad = narrow_2,
                                .param_prev = narrow_2,
                                .grad_prev = narrow,
                                .step_grad = 0.1 };
    (void)i;
    k->moved_f32(&moved, CHUNK, &moved_sums);
}
static void run_moved_part(const struct lyap_kernels *k, uint64_t i)
{
    static struct lyap_moved_sums moved_sums;
    struct lyap_moved moved = { .param = narrow,
                                .grad = narrow_2,
                                .param_prev = narrow_2,
                                .grad_prev = narrow,
                                .part_prev = narrow,
                                .part = narrow_3,
                                .step_grad = 0.1,
                                .part_delta = 0.9 };
    (void)i;
    k->moved_f32(&moved, CHUNK, &moved_sums);
}
static void run_precondition(const struct lyap_kernels *k, uint64_t i)
{
    (void)i;
    k->precondition(w, CHUNK, factors, z);
}

/* Sixteen rows of a fully connected layer: `block` vectors. */
enum { ROWS = 16, COLS = 512 };
static void project_rows(const struct lyap_kernels *k, uint32_t block, bool has_marks)
{
    static float matrix[ROWS * COLS];
    static double v[8 * COLS], products[8 * COLS], marks[LYAP_SPECTRAL_MARKS * COLS];
    const struct lyap_projection p = {
        .v = v, .z = products, .cols = COLS, .block = block, .marks = has_marks ? marks : NULL
    };
    k->project[LYAP_ROWS_F32](matrix, ROWS, &p);
}
static void run_project_2(const struct lyap_kernels *k, uint64_t i)
{
    if (i % ROWS == 0)
        project_rows(k, 2, false);
}
static void run_project_4(const struct lyap_kernels *k, uint64_t i)
{
    if (i % ROWS == 0)
        project_rows(k, 4, false);
}
static void run_project_8(const struct lyap_kernels *k, uint64_t i)
{
    if (i % ROWS == 0)
        project_rows(k, 8, false);
}
static void run_marks(const struct lyap_kernels *k, uint64_t i)
{
    if (i % ROWS == 0)
        project_rows(k, 0, true);
}
static void run_magnitudes(const struct lyap_kernels *k, uint64_t i)
{
    struct lyap_magnitude_sums magnitudes = { .columns = z };
    (void)i;
    k->magnitudes[LYAP_ROWS_F32](narrow, 1, CHUNK, &magnitudes);
}

static const struct {
    const char *name;
    void (*run)(const struct lyap_kernels *kernels, uint64_t round);
} rows[] = { { "widen F32", run_widen },
             { "moments", run_moments },
             { "sketch", run_sketch },
             { "dot", run_dot },
             { "diff_sq", run_diff_sq },
             { "pair (5 products)", run_pair },
             { "subtract", run_subtract },
             { "precondition", run_precondition },
             { "scan F32", run_scan },
             { "absorb F32", run_absorb },
             { "moved F32", run_moved },
             { "moved F32, momentum", run_moved_part },
             { "project F32, b = 2", run_project_2 },
             { "project F32, b = 4", run_project_4 },
             { "project F32, b = 8", run_project_8 },
             { "marks F32", run_marks },
             { "magnitudes F32", run_magnitudes } };

static void bench_row(unsigned row)
{
    printf("%-20s", rows[row].name);
    for (unsigned v = 0; lyap_kernels_variant(v); v++) {
        double best = 1e300;
        for (int round = 0; round < ROUNDS; round++) {
            const double start = now_ns();
            for (uint64_t i = 0; i < REPEATS; i++)
                rows[row].run(lyap_kernels_variant(v), i);
            const double took = (now_ns() - start) / ((double)REPEATS * CHUNK);
            best = took < best ? took : best;
        }
        printf("  %-6s %6.3f", lyap_kernels_variant(v)->name, best);
    }
    printf("\n");
}

/* One push of `roles`, in pieces as a socket delivers them. */
static double push_ns(const struct lyap_intake_config *config, const enum lyap_role *roles,
                      uint32_t role_count, const float *values, struct lyap_memory **ret_memory)
{
    struct lyap_intake_entry entries[4];
    const uint64_t count = config->declaration->set.tensors[0].count;
    struct lyap_intake *intake = NULL;
    struct lyap_partial partial;
    for (uint32_t r = 0; r < role_count; r++)
        entries[r] = (struct lyap_intake_entry){
            .kind = LYAP_INTAKE_TENSOR, .what = roles[r], .dtype = LYAP_DTYPE_F32, .count = count
        };
    const double start = now_ns();
    if (lyap_intake_new(config, &intake, NULL) != LYAP_OK ||
        lyap_intake_plan(intake, entries, role_count, NULL) != LYAP_OK)
        abort();
    for (uint32_t r = 0; r < role_count; r++) {
        const unsigned char *bytes = (const unsigned char *)values;
        const uint64_t length = count * sizeof *values;
        for (uint64_t at = 0; at < length; at += SOCKET_BYTES) {
            const uint64_t left = length - at;
            /* The same 64 KiB again and again, as a receive buffer is. */
            lyap_intake_bytes(intake, r, bytes, left < SOCKET_BYTES ? left : SOCKET_BYTES);
        }
    }
    if (lyap_intake_finish(intake, &partial, ret_memory) != LYAP_OK)
        abort();
    lyap_intake_free(intake);
    lyap_partial_release(&partial);
    return (now_ns() - start) / ((double)count * role_count);
}

static const struct push {
    const char *name;
    enum lyap_optimizer_type type;
    double momentum;
    enum lyap_retention retention;
} pushes[] = {
    { "sgd, exact retention", LYAP_OPTIMIZER_SGD, 0, LYAP_RETENTION_EXACT },
    { "momentum, exact retention", LYAP_OPTIMIZER_SGD, 0.9, LYAP_RETENTION_EXACT },
    { "adamw rebuilt, exact retention", LYAP_OPTIMIZER_ADAMW, 0, LYAP_RETENTION_EXACT },
    { "sgd, sketch retention", LYAP_OPTIMIZER_SGD, 0, LYAP_RETENTION_SKETCH },
};

static void bench_push(const struct push *push, uint64_t count)
{
    static char tensor_name[] = "w";
    static const enum lyap_role roles[] = { LYAP_ROLE_PARAM, LYAP_ROLE_GRAD };
    struct lyap_tensor tensor = { tensor_name, { count }, 1, 0, count };
    struct lyap_declaration declaration;
    struct lyap_snapshot snapshot;
    float *values = malloc(SOCKET_BYTES);
    double best = 1e300;
    struct lyap_memory *generations[2] = { NULL, NULL };
    lyap_declaration_init(&declaration);
    lyap_snapshot_init(&snapshot);
    lyap_optimizer_defaults(&declaration.optimizer, push->type);
    /* The parameters below never move: with rate 0 Adam predicts just that, and its rebuilt state
     * is not dropped as wrong. */
    declaration.optimizer.base.lr = push->type == LYAP_OPTIMIZER_ADAMW ? 0 : 1e-3;
    declaration.optimizer.base.momentum = push->momentum;
    declaration.set = (struct lyap_tensor_set){ .tensors = &tensor, .count = 1 };
    for (uint64_t i = 0; values && i < SOCKET_BYTES / sizeof *values; i++)
        values[i] = (float)((double)(i * 2654435761u % 1000003) / 1e6 - 0.5);
    for (int round = 0; values && round < ROUNDS; round++) {
        snapshot.step = round;
        struct lyap_memory *left = NULL;
        const struct lyap_intake_config config = { .declaration = &declaration,
                                                   .snapshot = &snapshot,
                                                   .previous = generations[0],
                                                   .updates = 1,
                                                   .take_recycled = generations[1],
                                                   .retention = push->retention,
                                                   .hold_bytes_max = LYAP_HOLD_BYTES_MAX };
        const double took = push_ns(&config, roles, 2, values, &left);
        generations[1] = generations[0];
        generations[0] = left;
        best = round > 1 && took < best ? took : best;
    }
    printf("%-34s %6.3f ns per pushed F32 element\n", push->name, best);
    lyap_memory_free(generations[0]);
    lyap_memory_free(generations[1]);
    declaration.set = (struct lyap_tensor_set)LYAP_TENSOR_SET_NULL;
    lyap_declaration_release(&declaration);
    lyap_snapshot_release(&snapshot);
    free(values);
}

int main(int argc, char **argv)
{
    const uint64_t count = (uint64_t)((argc > 1 ? strtod(argv[1], NULL) : 16.0) * 1e6);
    for (int i = 0; i < CHUNK; i++) {
        narrow[i] = (float)i - 255.5f;
        narrow_2[i] = 1.0f / (float)(i + 3);
        x[i] = narrow[i];
        y[i] = 1.0 / (i + 1);
        w[i] = 0.5 + y[i];
    }
    const char *only = argc > 2 ? argv[2] : "";
    if (strstr("kernels", only)) {
        printf("ns per element, %d elements in the first cache\n", CHUNK);
        for (unsigned row = 0; row < sizeof rows / sizeof *rows; row++)
            bench_row(row);
    }
    printf("pushes of %.1f million parameters, param and grad, variant %s\n", (double)count / 1e6,
           lyap_kernels_best()->name);
    for (unsigned i = 0; i < sizeof pushes / sizeof *pushes; i++)
        if (strstr(pushes[i].name, only))
            bench_push(&pushes[i], count);
    return 0;
}
