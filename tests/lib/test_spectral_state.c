/* Norms of weights over many snapshots: bounds on the right side, crossing singular values, turns,
 * jobs of the worker, chains of plans, failing memory. */
#include "spectral_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linalg.h"
#include "lyap/alloc.h"
#include "lyap/spectral_job.h"

enum { MOST = 65536 };
static double values[MOST], other[MOST];

static double largest_row(const double *w, uint32_t rows, uint32_t cols)
{
    double largest = 0;
    for (uint32_t r = 0; r < rows; r++)
        largest = fmax(largest, lyap_linalg_dot(w + (size_t)r * cols, w + (size_t)r * cols, cols));
    return sqrt(largest);
}

/* 1000 random matrices, and how they move on: no bound is on the wrong side. */
START_TEST(bounds_hold)
{
    struct test_rng rng = { 11 };
    int measured = 0, carried = 0;
    for (int trial = 0; trial < 1000; trial++) {
        struct run run;
        const uint32_t rows = 1 + (uint32_t)(test_rng_u64(&rng) % 13);
        const uint32_t cols = 1 + (uint32_t)(test_rng_u64(&rng) % 13);
        const bool is_exact = trial % 2;
        const double pace = exp(-3 * test_rng_uniform(&rng));
        run_begin(&run, rows, cols, is_exact ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        test_rng_normals(&rng, values, (uint64_t)rows * cols);
        for (int t = 0; t < 11; t++) {
            const struct lyap_spectral_view *view = run_step(&run, values);
            const double sigma = norm_of(values, rows, cols), slack = 1e-9 * sigma;
            ck_assert(!(view->lower > sigma + slack) && view->upper >= sigma - slack);
            ck_assert(view->row_norm >= largest_row(values, rows, cols) - slack);
            ck_assert(isnan(view->lower) || sigma <= view->lower + view->error + slack);
            ck_assert(isnan(view->lower) == (!is_exact && t < LYAP_SPECTRAL_WARM_VISITS));
            ck_assert((view->reason == LYAP_REASON_WARMING_UP) == isnan(view->lower));
            measured += !isnan(view->lower);
            double square = 0;
            for (uint32_t i = 0; i < rows * cols; i++)
                square += values[i] * values[i];
            carried += is_exact && view->upper < .999 * sqrt(square);
            for (uint32_t i = 0; i < rows * cols; i++)
                values[i] += pace * .1 * test_rng_normal(&rng);
        }
        run_end(&run);
    }
    ck_assert_int_gt(measured, 5000);
    ck_assert_int_gt(carried, 2000);
}
END_TEST

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Trained layers drift and their singular values cross (E1): an orthogonal basis that turns slowly,
 * with values that change places. After ten snapshots the error is 1 % in the median, 5 % at worst.
 */
START_TEST(crossing_singular_values)
{
    enum { SIDE = 48, VALUES = 12, STEPS = 160 };
    static double u[VALUES * SIDE], v[VALUES * SIDE];
    for (int retention = 0; retention < 2; retention++) {
        struct test_rng rng = { 13 + (uint64_t)retention };
        struct run run;
        double errors[STEPS];
        int count = 0;
        run_begin(&run, SIDE, SIDE, retention ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        test_rng_normals(&rng, u, VALUES * SIDE);
        test_rng_normals(&rng, v, VALUES * SIDE);
        test_rng_normals(&rng, other, SIDE * SIDE);
        for (int t = 0; t < STEPS; t++) {
            for (int i = 0; i < VALUES * SIDE; i++) {
                u[i] += .02 * test_rng_normal(&rng) / sqrt(SIDE);
                v[i] += .02 * test_rng_normal(&rng) / sqrt(SIDE);
            }
            ck_assert_int_eq(lyap_linalg_qr(SIDE, VALUES, u, NULL), LYAP_OK);
            ck_assert_int_eq(lyap_linalg_qr(SIDE, VALUES, v, NULL), LYAP_OK);
            for (int i = 0; i < SIDE * SIDE; i++)
                values[i] = .05 * other[i];
            for (int k = 0; k < VALUES; k++) {
                const double s = 2 + sin(.05 * t * (1 + .1 * k) + k);
                for (int i = 0; i < SIDE; i++)
                    for (int j = 0; j < SIDE; j++)
                        values[i * SIDE + j] += s * u[k * SIDE + i] * v[k * SIDE + j];
            }
            const struct lyap_spectral_view *view = run_step(&run, values);
            if (t >= 10)
                errors[count++] = 1 - view->lower / norm_of(values, SIDE, SIDE);
        }
        qsort(errors, (size_t)count, sizeof *errors, ascending);
        ck_assert_msg(errors[count / 2] <= .01 && errors[count - 1] <= .05, "median %g, worst %g",
                      errors[count / 2], errors[count - 1]);
        run_end(&run);
    }
}
END_TEST

/* ---- what a block of old vectors does not know ---- */

/* W += s u v' of random directions of length 1. */
static void add_rank_one(struct test_rng *rng, uint32_t side, double s, double *w)
{
    double u[128], v[128];
    test_rng_normals(rng, u, side);
    test_rng_normals(rng, v, side);
    s /= sqrt(lyap_linalg_dot(u, u, side) * lyap_linalg_dot(v, v, side));
    for (uint32_t i = 0; i < side; i++)
        for (uint32_t j = 0; j < side; j++)
            w[i * side + j] += s * u[i] * v[j];
}

/* A step and its truth, which lies between the norm and its error above it. */
static double shortfall_of(struct run *run, uint32_t side, const double *w)
{
    const struct lyap_spectral_view *view = run_step(run, w);
    const double sigma = norm_of(w, side, side), slack = 1e-9 * sigma;
    if (isnan(view->lower))
        return NAN;
    ck_assert_msg(view->lower <= sigma + slack && sigma <= view->lower + view->error + slack,
                  "%g and %g above, truth %g", view->lower, view->error, sigma);
    ck_assert(view->lower + view->error <= view->upper + slack);
    return 1 - view->lower / sigma;
}

/* A new singular value twice the largest, at once, of a weight that has converged: its first norm
 * has an error that says so, the second has found it. */
START_TEST(sudden_directions)
{
    enum { SIDE = 96, CALM = 14 };
    struct test_rng rng = { 41 };
    int missed = 0;
    for (int trial = 0; trial < 40; trial++) {
        struct run run;
        run_begin(&run, SIDE, SIDE, trial % 2 ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        for (int i = 0; i < SIDE * SIDE; i++)
            values[i] = test_rng_normal(&rng) / sqrt(SIDE);
        add_rank_one(&rng, SIDE, 4, values);
        for (int t = 0; t < CALM; t++)
            (void)shortfall_of(&run, SIDE, values);
        ck_assert(run.state->tensors[0].view.error < .01);
        add_rank_one(&rng, SIDE, 8, values);
        missed += shortfall_of(&run, SIDE, values) > .1;
        ck_assert(run.state->tensors[0].view.error > 3);
        ck_assert(shortfall_of(&run, SIDE, values) < .05);
        (void)shortfall_of(&run, SIDE, values);
        ck_assert(shortfall_of(&run, SIDE, values) < 1e-3);
        ck_assert(run.state->tensors[0].view.error < .1);
        run_end(&run);
    }
    ck_assert_int_gt(missed, 30); /* the case is one */
}
END_TEST

/* Values that grow out of the crowd below them while the leading one stays, as in training. */
START_TEST(growing_directions)
{
    enum { SIDE = 96, STEPS = 60, NEW = 4 };
    struct test_rng rng = { 43 };
    for (int retention = 0; retention < 2; retention++) {
        double u[SIDE * SIDE], worst = 0;
        struct run run;
        run_begin(&run, SIDE, SIDE, retention ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        for (int i = 0; i < SIDE * SIDE; i++)
            values[i] = test_rng_normal(&rng) / sqrt(SIDE);
        for (int t = 0; t < STEPS; t++) {
            if (t % (STEPS / NEW) == 0) {
                memset(u, 0, sizeof u);
                add_rank_one(&rng, SIDE, .5, u);
            }
            for (int i = 0; i < SIDE * SIDE; i++)
                values[i] += u[i];
            const double missing = shortfall_of(&run, SIDE, values);
            worst = t >= 10 ? fmax(worst, missing) : worst;
        }
        ck_assert_msg(worst < .05, "retention %d: %g", retention, worst);
        run_end(&run);
    }
}
END_TEST

/* Two equal values have no one vector; a leading one that turns at every snapshot is followed. */
START_TEST(equal_and_turning)
{
    enum { SIDE = 32 };
    struct test_rng rng = { 47 };
    for (int retention = 0; retention < 2; retention++) {
        struct run run;
        run_begin(&run, SIDE, SIDE, retention ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        for (int i = 0; i < SIDE * SIDE; i++)
            values[i] = i % (SIDE + 1) != 0 ? 0 : i < 2 * SIDE ? 5 : 3;
        double missing = 1;
        for (int t = 0; t < 24; t++)
            missing = shortfall_of(&run, SIDE, values);
        ck_assert(fabs(missing) < 1e-6 && run.state->tensors[0].view.error < 1e-2);
        for (int t = 0; t < 40; t++) {
            for (int i = 0; i < SIDE * SIDE; i++) { /* a hump that wanders along the rows */
                const double apart = (i % SIDE - .8 * t) / 4;
                values[i] = .1 * test_rng_normal(&rng) + exp(-apart * apart);
            }
            missing = shortfall_of(&run, SIDE, values);
            ck_assert_msg(t < 2 || missing < .05, "step %d: %g", t, missing);
        }
        run_end(&run);
    }
}
END_TEST

/* Every element is another: of no use are vectors, nor what was known. */
START_TEST(another_matrix)
{
    enum { SIDE = 24 };
    struct test_rng rng = { 53 };
    for (int trial = 0; trial < 100; trial++) {
        struct run run;
        run_begin(&run, SIDE, SIDE, trial % 2 ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        for (int t = 0; t < 12; t++) {
            test_rng_normals(&rng, values, SIDE * SIDE);
            (void)shortfall_of(&run, SIDE, values);
        }
        run_end(&run);
    }
}
END_TEST

/* SPEC 6.6 (g) and 7.2: the matrix of T1 has 5; factors and the transpose. */
START_TEST(invariances)
{
    enum { M = 40, N = 25 };
    struct test_rng rng = { 17 };
    double u[M], v[N], uu = 0, vv = 0, sigma[4];
    static const double s[4] = { 5, 4, 3, 1 };
    test_rng_normals(&rng, u, M);
    test_rng_normals(&rng, v, N);
    for (int i = 0; i < M; i++)
        uu += u[i] * u[i];
    for (int i = 0; i < N; i++)
        vv += v[i] * v[i];
    memset(values, 0, sizeof(double) * M * N);
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++)
                values[i * N + j] +=
                    s[k] * ((i == k) - 2 * u[i] * u[k] / uu) * ((j == k) - 2 * v[j] * v[k] / vv);
    for (int form = 0; form < 4; form++) { /* as it is, negated, a thousandth, transposed */
        static const double factors[4] = { 1, -1, 1e-3, 1 };
        struct run run;
        const bool is_turned = form == 3;
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++)
                other[is_turned ? j * M + i : i * N + j] = factors[form] * values[i * N + j];
        run_begin(&run, is_turned ? N : M, is_turned ? M : N, LYAP_RETENTION_EXACT);
        for (int t = 0; t < 20; t++)
            sigma[form] = run_step(&run, other)->lower;
        const struct lyap_spectral_view *view = &run.state->tensors[0].view;
        test_close(sigma[form] / fabs(factors[form]), 5, 1e-9);
        ck_assert(view->upper / fabs(factors[form]) <= 5 * pow(4, 1 / 256.) + 1e-9);
        ck_assert(view->residual <= 1e-4 * sigma[form]);
        run_end(&run);
    }
    ck_assert(sigma[0] == sigma[1]);
    test_close(1e3 * sigma[2], sigma[0], 1e-12);
}
END_TEST

/* Bounds stay apart from what no difference connects. */
START_TEST(unlinked_steps_drop_bounds)
{
    enum { SIDE = 10 };
    struct test_rng rng = { 19 };
    struct run run;
    run_begin(&run, SIDE, SIDE, LYAP_RETENTION_EXACT);
    test_rng_normals(&rng, values, SIDE * SIDE);
    (void)run_step(&run, values);
    lyap_memory_free(run.memory);
    run.memory = NULL; /* as after a restart */
    for (int i = 0; i < SIDE * SIDE; i++)
        values[i] *= 3;
    const struct lyap_spectral_view *view = run_step(&run, values);
    ck_assert(view->upper >= norm_of(values, SIDE, SIDE) * (1 - 1e-12));
    run_end(&run);
}
END_TEST

/* ---- turns ---- */

START_TEST(large_models_take_turns)
{
    enum { COUNT = 30 };
    struct lyap_tensor *tensors = lyap_alloc_array(COUNT, sizeof *tensors);
    struct lyap_tensor_set set;
    struct lyap_spectral_state *state;
    int visits[COUNT] = { 0 };
    for (uint32_t i = 0; i < COUNT; i++) {
        char name[8];
        snprintf(name, sizeof name, "t%u", i);
        tensors[i] = (struct lyap_tensor){ .name = lyap_alloc_string(name),
                                           .shape = { 1000 * (1 + i % 3), 1000 },
                                           .rank = i % 10 == 9 ? 1 : 2,
                                           .count = (uint64_t)1000000 * (1 + i % 3) };
    }
    ck_assert_int_eq(lyap_tensor_set_build(tensors, COUNT, &set, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_spectral_state_new(&set, &state), LYAP_OK);
    for (int round = 0; round < 40; round++) {
        struct lyap_spectral_plan *plan;
        double work = 0;
        ck_assert_int_eq(lyap_spectral_state_plan(state, 50, &plan), LYAP_OK);
        ck_assert_ptr_null(plan->state);
        for (uint32_t i = 0; i < plan->count; i++) {
            const struct lyap_spectral_item *item = &plan->items[i];
            ck_assert(i == 0 || plan->items[i - 1].tensor < item->tensor);
            ck_assert_ptr_eq(lyap_spectral_plan_find(plan, item->tensor), item);
            ck_assert(!item->is_cold && item->squarings == 0); /* the worker's */
            work += (2.0 * item->block + LYAP_SPECTRAL_MARKS) * item->rows * item->cols;
            visits[item->tensor]++;
        }
        ck_assert(work <= LYAP_SPECTRAL_WORK_ELEMENT * state->elements && plan->count > 0);
        lyap_spectral_plan_free(plan);
    }
    int least = INT32_MAX, most = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        if (i % 10 == 9) {
            ck_assert_int_eq(visits[i], 0);
            continue;
        }
        least = visits[i] < least ? visits[i] : least;
        most = visits[i] > most ? visits[i] : most;
    }
    ck_assert(least >= 14 && most - least <= 1); /* blocks of four: two in five snapshots */
    lyap_spectral_state_free(state);
    lyap_tensor_set_release(&set);
}
END_TEST

/* Rows so long that their vectors exceed the memory of a run get smaller blocks, then none. */
START_TEST(long_rows_are_bounded)
{
    struct lyap_tensor *tensors = lyap_alloc_array(3, sizeof *tensors);
    struct lyap_tensor_set set;
    struct lyap_spectral_state *state;
    static const uint64_t cols[3] = { 100, 1500000, 20000000 };
    for (uint32_t i = 0; i < 3; i++) {
        char name[8];
        snprintf(name, sizeof name, "t%u", i);
        tensors[i] = (struct lyap_tensor){ .name = lyap_alloc_string(name),
                                           .shape = { 10, cols[i] },
                                           .rank = 2,
                                           .count = 10 * cols[i] };
    }
    ck_assert_int_eq(lyap_tensor_set_build(tensors, 3, &set, NULL), LYAP_OK);
    ck_assert(lyap_spectral_bytes(&set) <= 3 * (uint64_t)LYAP_SPECTRAL_BYTES_MAX);
    ck_assert_int_eq(lyap_spectral_state_new(&set, &state), LYAP_OK);
    ck_assert(lyap_spectral_vector_bytes(state) <= LYAP_SPECTRAL_BYTES_MAX);
    ck_assert(state->tensors[0].v && state->tensors[1].v && !state->tensors[2].v);
    ck_assert_int_eq(state->tensors[2].view.reason, LYAP_REASON_NOT_APPLICABLE);
    lyap_spectral_state_free(state);
    lyap_tensor_set_release(&set);
}
END_TEST

/* ---- jobs ---- */

START_TEST(jobs_bound_later_steps)
{
    enum { SIDE = 96 };
    struct test_rng rng = { 23 };
    struct run run;
    struct lyap_spectral_job *job = NULL, *none = NULL;
    run_begin(&run, 4 * SIDE, SIDE, LYAP_RETENTION_EXACT);
    run.state->tensors[0].gram_age = 0;
    test_rng_normals(&rng, values, 4 * SIDE * SIDE);
    (void)run_step(&run, values);
    run.state->tensors[0].is_cold = true;
    run.state->tensors[0].gram_age = UINT32_MAX;
    ck_assert_int_eq(lyap_spectral_state_job(run.state, 0, 1, &none), LYAP_OK);
    ck_assert_ptr_null(none); /* small: at once */
    struct lyap_spectral_task task = { .tensor = 0,
                                       .rows = 4 * SIDE,
                                       .cols = SIDE,
                                       .is_gram = true,
                                       .is_power = true,
                                       .block = 4,
                                       .squarings = 6,
                                       .drift = run.state->tensors[0].drift };
    task.v = lyap_alloc_array(4 * SIDE, sizeof *task.v);
    memcpy(task.v, run.state->tensors[0].v, 4 * SIDE * sizeof *task.v);
    job = lyap_alloc_array(1, sizeof *job);
    job->tasks = lyap_alloc_array(1, sizeof *job->tasks);
    job->tasks[0] = task;
    job->count = 1;
    job->epoch = run.state->epoch;
    ck_assert_uint_eq(lyap_spectral_task_elements(&job->tasks[0]), 4 * SIDE * SIDE);
    ck_assert(lyap_spectral_task_load(&job->tasks[0], run.memory, other));
    ck_assert(memcmp(other, values, sizeof(double) * 4 * SIDE * SIDE) == 0);
    ck_assert_int_eq(lyap_spectral_task_run(&job->tasks[0], other, NULL), LYAP_OK);
    const double sigma = norm_of(values, 4 * SIDE, SIDE);
    ck_assert(job->tasks[0].upper >= sigma && job->tasks[0].upper <= 1.02 * sigma);
    ck_assert(job->tasks[0].estimate.sigma <= sigma && job->tasks[0].estimate.sigma >= .9 * sigma);

    double moved = 0;
    for (int t = 0; t < 3; t++) { /* the weight moves on before the result comes */
        double square = 0;
        for (int i = 0; i < 4 * SIDE * SIDE; i++) {
            const double d = 1e-3 * test_rng_normal(&rng);
            values[i] += d;
            square += d * d;
        }
        moved += sqrt(square);
        run.state->tensors[0].gram_age = 0; /* no bound at once */
        (void)run_step(&run, values);
    }
    run.state->tensors[0].gram_age = 0;
    lyap_spectral_state_result(run.state, job);
    const struct lyap_spectral_view *view = run_step(&run, values);
    test_close(view->upper, job->tasks[0].upper + moved, 1e-9);
    ck_assert(view->upper >= norm_of(values, 4 * SIDE, SIDE));
    ck_assert(!run.state->tensors[0].is_cold);

    lyap_spectral_state_unlink(run.state); /* results of before say nothing now */
    const uint64_t version = run.state->tensors[0].version;
    lyap_spectral_state_result(run.state, job);
    ck_assert_double_nan(run.state->tensors[0].upper.value);
    ck_assert_uint_eq(run.state->tensors[0].version, version);
    lyap_spectral_job_free(job);
    run_end(&run);
}
END_TEST

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static bool at_second(void *ctx)
{
    return ++*(int *)ctx >= 2;
}

START_TEST(large_weights_become_jobs)
{
    enum { SIDE = 256 };
    struct test_rng rng = { 29 };
    struct run run;
    struct lyap_spectral_job *job = NULL, *again = NULL;
    run_begin(&run, SIDE, SIDE, LYAP_RETENTION_EXACT);
    test_rng_normals(&rng, values, SIDE * SIDE);
    (void)run_step(&run, values);
    ck_assert_int_eq(lyap_spectral_state_job(run.state, 0, 50, &job), LYAP_OK);
    ck_assert(job && job->count == 1 && job->tasks[0].is_gram && !job->tasks[0].is_power);
    ck_assert_int_eq(lyap_spectral_state_job(run.state, 0, 50, &again), LYAP_OK);
    ck_assert_ptr_null(again); /* due once */
    ck_assert_int_eq(lyap_spectral_state_job(run.state, 0, 0, &again), LYAP_OK);
    ck_assert_ptr_null(again);
    int asked = 0;
    const struct lyap_spectral_stop stop = { at_second, &asked }, go = { never, NULL };
    ck_assert_int_eq(lyap_spectral_task_run(&job->tasks[0], values, &stop), LYAP_E_STOPPING);
    ck_assert(!job->tasks[0].is_done && asked == 2);
    ck_assert_int_eq(lyap_spectral_task_run(&job->tasks[0], values, &go), LYAP_OK);
    ck_assert(job->tasks[0].is_done && job->tasks[0].upper >= norm_of(values, SIDE, SIDE));
    lyap_spectral_job_free(job);
    run_end(&run);
}
END_TEST

/* ---- chains of plans ---- */

/* The plan that follows from a finished sum is the one that the state makes. */
START_TEST(next_plan_is_the_states)
{
    enum { SIDE = 20 };
    struct test_rng rng = { 31 };
    struct run run;
    struct lyap_spectral_plan *chain;
    run_begin(&run, SIDE, SIDE, LYAP_RETENTION_EXACT);
    chain = first_plan(&run.fixture);
    test_rng_normals(&rng, values, SIDE * SIDE);
    for (int t = 0; t < 12; t++) {
        struct lyap_partial partial;
        struct lyap_memory *memory;
        struct lyap_spectral_plan *next;
        run.fixture.spectral = chain;
        push_matrix(&run.fixture, t, LYAP_DTYPE_F64, values, NULL, &partial, &memory);
        lyap_memory_free(memory);
        ck_assert_int_eq(lyap_spectral_plan_next(chain, &partial, &next), LYAP_OK);
        (void)run_step(&run, values);
        ck_assert_uint_eq(next->items[0].block, run.plan->items[0].block);
        ck_assert_uint_eq(next->items[0].version, run.plan->items[0].version);
        ck_assert_uint_eq(next->items[0].squarings, run.plan->items[0].squarings);
        ck_assert(memcmp(next->items[0].v, run.plan->items[0].v,
                         sizeof(double) * SIDE * next->items[0].block) == 0);
        lyap_partial_release(&partial);
        lyap_spectral_plan_free(chain);
        chain = next;
        for (int i = 0; i < SIDE * SIDE; i++)
            values[i] += .05 * test_rng_normal(&rng);
    }
    lyap_spectral_plan_free(chain);
    run_end(&run);
}
END_TEST

/* ---- failing memory ---- */

/* One upload from plan to job; the first status that is not OK. */
static enum lyap_status upload(struct fixture *fixture)
{
    struct lyap_spectral_state *state = NULL;
    struct lyap_spectral_plan *plan = NULL, *next = NULL;
    struct lyap_spectral_job *job = NULL;
    struct lyap_partial partial = LYAP_PARTIAL_NULL, sum = LYAP_PARTIAL_NULL;
    struct lyap_memory *memory = NULL;
    enum lyap_status status = lyap_spectral_state_new(&fixture->declaration.set, &state);
    if (status == LYAP_OK)
        status = lyap_spectral_plan_first(&fixture->declaration.set, FIXTURE_GRAM_EVERY, &plan);
    fixture->spectral = plan;
    if (status == LYAP_OK)
        status = fixture_push(fixture, NULL, NULL, &partial, &memory);
    if (status == LYAP_OK)
        status = lyap_partial_init(&sum, 1, LYAP_SKETCH_SIZE);
    if (status == LYAP_OK)
        status = lyap_partial_add(&sum, &partial);
    if (status == LYAP_OK)
        status = lyap_spectral_finish(&sum);
    if (status == LYAP_OK)
        status = lyap_spectral_plan_next(plan, &partial, &next);
    if (status == LYAP_OK) {
        lyap_spectral_state_step(state, &partial, false);
        status = lyap_spectral_state_job(state, 0, 1, &job);
    }
    lyap_spectral_job_free(job);
    lyap_partial_release(&sum);
    lyap_partial_release(&partial);
    lyap_memory_free(memory);
    lyap_spectral_plan_free(next);
    lyap_spectral_plan_free(plan);
    lyap_spectral_state_free(state);
    return status;
}

START_TEST(failing_memory)
{
    struct test_rng rng = { 37 };
    struct fixture fixture;
    test_rng_normals(&rng, values, 200 * 200);
    matrix_fixture(&fixture, 200, 200);
    fixture_step(&fixture, 0);
    fixture_add(&fixture, LYAP_ROLE_PARAM, 0, LYAP_DTYPE_F64, values);
    fixture_add(&fixture, LYAP_ROLE_GRAD, 0, LYAP_DTYPE_F64, values);
    test_alloc_install();
    const int64_t live = test_alloc_live();
    uint64_t n = 1;
    for (;; n++) {
        test_alloc_fail_at(n);
        const enum lyap_status status = upload(&fixture);
        ck_assert_int_eq(test_alloc_live(), live);
        if (status == LYAP_OK)
            break;
        ck_assert_int_eq(status, LYAP_E_NOMEM);
    }
    ck_assert_uint_gt(n, 40);
    test_alloc_fail_at(0);
    fixture_free(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spectral_state");
    TCase *tcase = tcase_create("spectral_state");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, bounds_hold);
    tcase_add_test(tcase, crossing_singular_values);
    tcase_add_test(tcase, sudden_directions);
    tcase_add_test(tcase, growing_directions);
    tcase_add_test(tcase, equal_and_turning);
    tcase_add_test(tcase, another_matrix);
    tcase_add_test(tcase, invariances);
    tcase_add_test(tcase, unlinked_steps_drop_bounds);
    tcase_add_test(tcase, large_models_take_turns);
    tcase_add_test(tcase, long_rows_are_bounded);
    tcase_add_test(tcase, jobs_bound_later_steps);
    tcase_add_test(tcase, large_weights_become_jobs);
    tcase_add_test(tcase, next_plan_is_the_states);
    tcase_add_test(tcase, failing_memory);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
