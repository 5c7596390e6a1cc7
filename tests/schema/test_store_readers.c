/* Readers beside the writer: they see whole batches, never wait for it, and are bounded. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "store_support.h"

enum { BATCH = 40, BATCHES = 150, READERS = 3 };

static struct test_store test;
static struct lyap_run_record run;
static atomic_bool is_writing;
static atomic_uint_fast64_t torn, shrunk, failed, queries;

static void setup(void)
{
    test_store_init(&test);
    run = test_put_run(test.store, "run-1", "{}");
}

static void teardown(void)
{
    test_store_release(&test);
}

/* No ck_assert here: Check's are for the main thread. */
static int64_t count_rows(const struct lyap_query *query)
{
    struct lyap_cursor *cursor = NULL;
    struct lyap_record record;
    int64_t rows = 0;
    if (test.store->ops->query(test.store, query, &cursor) != LYAP_OK)
        return -1;
    enum lyap_status status;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK)
        rows++;
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND ? rows : -1;
}

static void *read_on(void *argument)
{
    static const enum lyap_metric metrics[] = { LYAP_METRIC_LOSS };
    struct lyap_query points = test_query(LYAP_TABLE_POINTS, "run-1");
    struct lyap_query series = test_query(LYAP_TABLE_SERIES, "run-1");
    int64_t before = 0;
    (void)argument;
    series.metrics = metrics;
    series.metric_count = 1;
    series.points = 50;
    do {
        const int64_t rows = count_rows(&points);
        failed += rows < 0;
        torn += rows % BATCH != 0;
        shrunk += rows < before;
        before = rows;
        const int64_t bins = count_rows(&series);
        failed += bins < 0 || bins > 50;
        queries += 2;
    } while (is_writing);
    return NULL;
}

START_TEST(readers_see_whole_batches)
{
    pthread_t threads[READERS];
    is_writing = true;
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_on, NULL), 0);
    for (int64_t step = 0; step < (int64_t)BATCH * BATCHES; step++) {
        struct lyap_point point;
        test_point(&point, 1, step, 1.0);
        if (step % BATCH == 0)
            test_begin(test.store);
        STORE_OK(test.store, test.store->ops->put_point(test.store, run.id, &point, NULL, 0));
        if (step % BATCH == BATCH - 1)
            test_commit(test.store);
    }
    is_writing = false;
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_uint_eq(failed, 0);
    ck_assert_uint_eq(torn, 0);
    ck_assert_uint_eq(shrunk, 0);
    ck_assert_uint_gt(queries, 0);
    const struct lyap_query query = test_query(LYAP_TABLE_POINTS, "run-1");
    ck_assert_uint_eq(test_count(test.store, &query), BATCH * BATCHES);
}
END_TEST

START_TEST(a_cursor_holds_its_snapshot)
{
    const struct lyap_query query = test_query(LYAP_TABLE_POINTS, "run-1");
    struct lyap_point point;
    struct lyap_record record;
    test_begin(test.store);
    for (int64_t step = 0; step < 10; step++) {
        test_point(&point, 1, step, 1.0);
        STORE_OK(test.store, test.store->ops->put_point(test.store, run.id, &point, NULL, 0));
    }
    test_commit(test.store);
    struct lyap_cursor *cursor = test_open(test.store, &query);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    test_begin(test.store);
    test_point(&point, 1, 10, 1.0);
    STORE_OK(test.store, test.store->ops->put_point(test.store, run.id, &point, NULL, 0));
    test_commit(test.store);
    int rows = 1;
    while (cursor->next(cursor, &record) == LYAP_OK)
        rows++;
    ck_assert_int_eq(rows, 10);
    cursor->close(cursor);
    ck_assert_uint_eq(test_count(test.store, &query), 11);
}
END_TEST

static void *close_later(void *argument)
{
    struct lyap_cursor *cursor = argument;
    const struct timespec pause = { .tv_nsec = 100000000 };
    (void)nanosleep(&pause, NULL);
    cursor->close(cursor);
    return NULL;
}

START_TEST(readers_are_bounded_and_waited_for_a_bounded_time)
{
    const struct lyap_query query = test_query(LYAP_TABLE_RUNS, NULL);
    struct lyap_cursor *cursors[READERS], *more = NULL;
    pthread_t closer;
    for (int i = 0; i < READERS; i++)
        cursors[i] = test_open(test.store, &query);
    ck_assert_int_eq(test.store->ops->query(test.store, &query, &more), LYAP_E_BUSY);
    ck_assert_int_eq(pthread_create(&closer, NULL, close_later, cursors[0]), 0);
    ck_assert_int_eq(test.store->ops->query(test.store, &query, &more), LYAP_OK);
    ck_assert_int_eq(pthread_join(closer, NULL), 0);
    more->close(more);
    for (int i = 1; i < READERS; i++)
        cursors[i]->close(cursors[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_readers");
    TCase *tcase = tcase_create("store_readers");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, readers_see_whole_batches);
    tcase_add_test(tcase, a_cursor_holds_its_snapshot);
    tcase_add_test(tcase, readers_are_bounded_and_waited_for_a_bounded_time);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
