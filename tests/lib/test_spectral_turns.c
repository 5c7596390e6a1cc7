/* Whose turn it is to be measured, jobs of the worker, chains of plans, failing memory. */
#include "spectral_fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/spectral_job.h"

enum { MOST = 65536 };
static double values[MOST], other[MOST];

static struct lyap_tensor weight(uint32_t number, uint64_t rows, uint64_t cols)
{
    char name[8];
    snprintf(name, sizeof name, "t%u", number);
    return (struct lyap_tensor){
        .name = lyap_alloc_string(name), .shape = { rows, cols }, .rank = 2, .count = rows * cols
    };
}

START_TEST(large_models_take_turns)
{
    enum { COUNT = 30 };
    struct lyap_tensor *tensors = lyap_alloc_array(COUNT, sizeof *tensors);
    struct lyap_tensor_set set;
    struct lyap_spectral_state *state;
    int visits[COUNT] = { 0 };
    for (uint32_t i = 0; i < COUNT; i++) {
        tensors[i] = weight(i, 1000 * (1 + i % 3), 1000);
        if (i % 10 == 9)
            tensors[i].rank = 1;
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
    for (uint32_t i = 0; i < 3; i++)
        tensors[i] = weight(i, 10, cols[i]);
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
    Suite *suite = suite_create("spectral_turns");
    TCase *tcase = tcase_create("spectral_turns");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, large_models_take_turns);
    tcase_add_test(tcase, long_rows_are_bounded);
    tcase_add_test(tcase, jobs_bound_later_steps);
    tcase_add_test(tcase, large_weights_become_jobs);
    tcase_add_test(tcase, next_plan_is_the_states);
    tcase_add_test(tcase, failing_memory);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
