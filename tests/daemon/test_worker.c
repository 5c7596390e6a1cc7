/* The worker thread: results, order over runs, the bound of its queue, deletion and stop. */
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "lyap/alloc.h"
#include "support.h"
#include "worker.h"

enum { SIDE = 64, WAIT_MS = 20000 };

static struct lyap_registry *registry;
static struct lyap_counters counters;
static struct lyap_worker *worker;
static double values[SIDE * SIDE];

static void setup(void)
{
    struct test_rng rng = { 3 };
    test_rng_normals(&rng, values, SIDE * SIDE);
    memset(&counters, 0, sizeof counters);
    ck_assert_int_eq(lyap_registry_new(1 << 30, &registry), LYAP_OK);
    ck_assert_int_eq(lyap_worker_new(registry, &counters, &worker), LYAP_OK);
}

static void teardown(void)
{
    lyap_worker_free(worker);
    lyap_registry_free(registry);
}

static struct lyap_run *add_run(const char *name)
{
    struct lyap_run *run;
    ck_assert_int_eq(lyap_run_new(name, &run), LYAP_OK);
    lyap_registry_lock(registry);
    ck_assert_int_eq(lyap_run_ranks_grow(run, 1), LYAP_OK);
    ck_assert_int_eq(lyap_registry_add(registry, run), LYAP_OK);
    lyap_registry_unlock(registry);
    return run;
}

/* What an upload of one matrix leaves. */
static struct lyap_shared_memory *keep(void)
{
    struct lyap_declaration declaration;
    struct lyap_snapshot snapshot;
    struct lyap_tensor *tensors = lyap_alloc_array(1, sizeof *tensors);
    struct lyap_intake *intake;
    struct lyap_partial partial;
    struct lyap_memory *memory;
    lyap_declaration_init(&declaration);
    lyap_snapshot_init(&snapshot);
    ck_assert_int_eq(lyap_snapshot_set(&snapshot, "step", "0", NULL), LYAP_OK);
    tensors[0] = (struct lyap_tensor){
        .name = lyap_alloc_string("w"), .shape = { SIDE, SIDE }, .rank = 2, .count = SIDE * SIDE
    };
    ck_assert_int_eq(lyap_tensor_set_build(tensors, 1, &declaration.set, NULL), LYAP_OK);
    const struct lyap_intake_config config = { .declaration = &declaration,
                                               .snapshot = &snapshot,
                                               .updates = 1,
                                               .retention = LYAP_RETENTION_EXACT,
                                               .hold_bytes_max = 1 << 20 };
    const struct lyap_intake_entry entry = { .what = LYAP_ROLE_PARAM,
                                             .dtype = LYAP_DTYPE_F64,
                                             .count = SIDE * SIDE };
    ck_assert_int_eq(lyap_intake_new(&config, &intake, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_intake_plan(intake, &entry, 1, NULL), LYAP_OK);
    lyap_intake_bytes(intake, 0, values, sizeof values);
    ck_assert_int_eq(lyap_intake_finish(intake, &partial, &memory), LYAP_OK);
    lyap_intake_free(intake);
    lyap_partial_release(&partial);
    lyap_snapshot_release(&snapshot);
    lyap_declaration_release(&declaration);
    return lyap_shared_memory_new(memory);
}

static struct lyap_worker_item *item_of(struct lyap_run *run, uint32_t tasks)
{
    struct lyap_worker_item *item = lyap_alloc_array(1, sizeof *item);
    item->run = lyap_run_ref(registry, run);
    item->memory = keep();
    item->job = lyap_alloc_array(1, sizeof *item->job);
    item->job->count = tasks;
    item->job->tasks = lyap_alloc_array(tasks, sizeof *item->job->tasks);
    for (uint32_t i = 0; i < tasks; i++)
        item->job->tasks[i] = (struct lyap_spectral_task){
            .rows = SIDE, .cols = SIDE, .is_gram = true, .squarings = 6
        };
    return item;
}

static struct lyap_worker_item *wait_for(void)
{
    const struct timespec pause = { .tv_nsec = 1000000 };
    struct lyap_worker_item *item = NULL;
    for (int i = 0; i < WAIT_MS && !(item = lyap_worker_take(worker)); i++)
        nanosleep(&pause, NULL);
    ck_assert_ptr_nonnull(item);
    return item;
}

START_TEST(jobs_come_back_in_their_order)
{
    struct lyap_run *runs[3] = { add_run("a"), add_run("b"), add_run("c") };
    double norm;
    const struct lyap_spectral_matrix w = { values, SIDE, SIDE };
    ck_assert_int_eq(lyap_spectral_norm(&w, &norm), LYAP_OK);
    ck_assert_int_eq(lyap_worker_start(worker), LYAP_OK);
    for (int i = 0; i < 6; i++)
        ck_assert(lyap_worker_offer(worker, item_of(runs[i % 3], 2)));
    for (int i = 0; i < 6; i++) {
        struct lyap_worker_item *item = wait_for();
        ck_assert_ptr_eq(item->run, runs[i % 3]);
        ck_assert_ptr_null(item->memory); /* its buffers are the run's again */
        for (int t = 0; t < 2; t++) {
            ck_assert(item->job->tasks[t].is_done);
            ck_assert(item->job->tasks[t].upper >= norm &&
                      item->job->tasks[t].upper <= 1.02 * norm);
        }
        lyap_worker_item_free(registry, item);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_nonnull(runs[i]->ranks[0].recycled);
    ck_assert_uint_eq(lyap_worker_depth(worker), 0);
    ck_assert_uint_eq(atomic_load(&counters.worker_jobs), 6);
    ck_assert_uint_eq(atomic_load(&counters.worker_tasks), 12);
    lyap_worker_stop(worker);
}
END_TEST

/* The thread is not started: what is offered waits, up to the bound, and is freed in the end. */
START_TEST(a_full_queue_drops)
{
    struct lyap_run *run = add_run("a");
    for (int i = 0; i < LYAP_WORKER_JOBS_MAX; i++)
        ck_assert(lyap_worker_offer(worker, item_of(run, 1)));
    ck_assert_uint_eq(lyap_worker_depth(worker), LYAP_WORKER_JOBS_MAX);
    ck_assert(!lyap_worker_offer(worker, item_of(run, 1)));
    ck_assert_uint_eq(atomic_load(&counters.worker_dropped), 1);
    ck_assert_ptr_null(lyap_worker_take(worker));
}
END_TEST

START_TEST(a_deleted_run_is_given_up)
{
    struct lyap_run *run = add_run("a");
    lyap_registry_lock(registry);
    run->is_deleted = true;
    lyap_registry_unlock(registry);
    ck_assert_int_eq(lyap_worker_start(worker), LYAP_OK);
    ck_assert(lyap_worker_offer(worker, item_of(run, 3)));
    struct lyap_worker_item *item = wait_for();
    for (int t = 0; t < 3; t++)
        ck_assert(!item->job->tasks[t].is_done);
    ck_assert_ptr_null(item->memory);
    lyap_worker_item_free(registry, item);
    lyap_worker_stop(worker);
}
END_TEST

START_TEST(stop_leaves_what_waits)
{
    struct lyap_run *run = add_run("a");
    ck_assert_int_eq(lyap_worker_start(worker), LYAP_OK);
    for (int i = 0; i < 50; i++)
        ck_assert(lyap_worker_offer(worker, item_of(run, 20)));
    lyap_worker_stop(worker);
    ck_assert_uint_lt(atomic_load(&counters.worker_tasks), 1000);
    ck_assert(!lyap_worker_offer(worker, item_of(run, 1)));
    lyap_worker_stop(worker); /* again: nothing */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("worker");
    TCase *tcase = tcase_create("worker");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, jobs_come_back_in_their_order);
    tcase_add_test(tcase, a_full_queue_drops);
    tcase_add_test(tcase, a_deleted_run_is_given_up);
    tcase_add_test(tcase, stop_leaves_what_waits);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
