/* Faults: kill -9, full disk, no memory. What was acknowledged is there; the store recovers without
 * being opened again. */
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lyap/alloc.h"
#include "sqlite/writer.h"
#include "store_support.h"

enum { BATCH = 25 };

static struct test_store test;
static struct lyap_run_record run;

static void setup(void)
{
    test_store_init(&test);
    run = test_put_run(test.store, "run-1", "{}");
}

static void teardown(void)
{
    test_store_release(&test);
}

/* ---- kill -9 ---- */

/* Puts batches for ever; writes one byte to `fd` after each commit. */
static void push_until_killed(int fd)
{
    struct lyap_store *store = NULL;
    const struct lyap_store_options options = test_store_options(test.path);
    if (lyap_store_sqlite_open(&options, &store, NULL) != LYAP_OK)
        _exit(1);
    for (int64_t step = 0;; step++) {
        struct lyap_point point;
        test_point(&point, 1, step, (double)step);
        if (step % BATCH == 0 && store->ops->begin(store) != LYAP_OK)
            _exit(2);
        if (store->ops->put_point(store, run.id, &point, NULL, 0) != LYAP_OK)
            _exit(3);
        if (step % BATCH == BATCH - 1 &&
            (store->ops->commit(store) != LYAP_OK || write(fd, "c", 1) != 1))
            _exit(4);
    }
}

START_TEST(what_was_committed_survives_kill_9)
{
    int pipe_fds[2];
    int64_t acknowledged = 0;
    char byte;
    test_store_close(&test);
    ck_assert_int_eq(pipe(pipe_fds), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        push_until_killed(pipe_fds[1]);
    close(pipe_fds[1]);
    while (acknowledged < 7 * (_i + 1) && read(pipe_fds[0], &byte, 1) == 1)
        acknowledged++;
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    while (read(pipe_fds[0], &byte, 1) == 1)
        acknowledged++;
    int how = 0;
    ck_assert_int_eq(waitpid(child, &how, 0), child);
    ck_assert(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    close(pipe_fds[0]);

    test_store_reopen(&test);
    const struct lyap_query query = test_query(LYAP_TABLE_POINTS, "run-1");
    const int64_t stored = test_count(test.store, &query);
    ck_assert_int_ge(stored, acknowledged * BATCH);
    ck_assert_int_eq(stored % BATCH, 0);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM pragma_integrity_check WHERE "
                                             "integrity_check = 'ok'"),
                     1);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM rollups WHERE level = 1"),
                     (stored - 1) / 8);
}
END_TEST

/* ---- full disk ---- */

static enum lyap_status put_batch(int64_t first)
{
    struct lyap_store *store = test.store;
    enum lyap_status status = store->ops->begin(store);
    for (int64_t step = first; status == LYAP_OK && step < first + BATCH; step++) {
        struct lyap_point point;
        test_point(&point, 1, step, (double)step);
        status = store->ops->put_point(store, run.id, &point, NULL, 0);
    }
    if (status == LYAP_OK)
        status = store->ops->commit(store);
    if (status != LYAP_OK)
        store->ops->rollback(store);
    return status;
}

/* Fills until full, looks at what is left working, makes room and goes on. */
static void assert_recovery(void (*make_room)(void))
{
    const struct lyap_query query = test_query(LYAP_TABLE_POINTS, "run-1");
    enum lyap_status status = LYAP_OK;
    int64_t batches = 0;
    while (batches < 5000 && (status = put_batch(batches * BATCH)) == LYAP_OK)
        batches++;
    ck_assert_int_eq(status, LYAP_E_DISK_FULL);
    ck_assert_str_ne(test.store->ops->error_text(test.store), "");
    ck_assert(!test.store->ops->is_writable(test.store));
    ck_assert_int_eq(test_count(test.store, &query), batches * BATCH);
    ck_assert_int_eq(put_batch(batches * BATCH), LYAP_E_DISK_FULL);
    make_room();
    for (int64_t end = batches + 20; batches < end; batches++)
        STORE_OK(test.store, put_batch(batches * BATCH));
    ck_assert(test.store->ops->is_writable(test.store));
    ck_assert_int_eq(test_count(test.store, &query), batches * BATCH);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM rollups WHERE level = 1"),
                     (batches * BATCH - 1) / 8);
}

static void set_page_limit(const char *sql)
{
    sqlite3 *db = lyap_writer_of(test.store)->sql.db;
    ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void lift_page_limit(void)
{
    set_page_limit("PRAGMA max_page_count = 1000000");
}

START_TEST(a_full_database_recovers)
{
    set_page_limit("PRAGMA max_page_count = 150");
    assert_recovery(lift_page_limit);
}
END_TEST

static void lift_file_limit(void)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(a_failing_write_recovers)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = 1 << 20;
    (void)signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_recovery(lift_file_limit);
}
END_TEST

/* ---- no memory ---- */

static void release_cursor(struct lyap_cursor *cursor)
{
    if (cursor)
        cursor->close(cursor);
}

/* Everything that allocates, once; `step` grows. */
static enum lyap_status use_everything(int64_t step)
{
    static const enum lyap_metric metrics[] = { LYAP_METRIC_LOSS };
    struct lyap_store *store = test.store;
    struct lyap_point point;
    struct lyap_tensor_set set = LYAP_TENSOR_SET_NULL;
    struct lyap_cursor *cursor = NULL;
    struct lyap_record record;
    struct lyap_query query = test_query(LYAP_TABLE_SERIES, "run-1");
    query.metrics = metrics;
    query.metric_count = 1;
    query.points = 5;
    test_point(&point, 1, step, 0.5);
    enum lyap_status status = store->ops->begin(store);
    if (status == LYAP_OK)
        status = store->ops->put_point(store, run.id, &point, NULL, 0);
    if (status == LYAP_OK)
        status = store->ops->commit(store);
    if (status != LYAP_OK)
        store->ops->rollback(store);
    if (status == LYAP_OK)
        status = store->ops->get_tensors(store, run.id, 1, &set);
    lyap_tensor_set_release(&set);
    if (status == LYAP_OK)
        status = store->ops->query(store, &query, &cursor);
    while (status == LYAP_OK)
        status = cursor->next(cursor, &record);
    release_cursor(cursor);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

static void put_tensors(void)
{
    struct lyap_tensor tensors[] = { { .name = (char *)(uintptr_t) "a" },
                                     { .name = (char *)(uintptr_t) "b" } };
    const struct lyap_tensor_set set = { .tensors = tensors, .count = 2 };
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->put_tensors(test.store, run.id, 1, &set));
    test_commit(test.store);
}

START_TEST(every_failing_allocation_of_ours_is_reported)
{
    const struct lyap_store_options options = test_store_options(test.path);
    put_tensors();
    test_store_close(&test);
    test_alloc_install();
    bool is_done = false;
    for (uint64_t n = 1; !is_done; n++) {
        struct lyap_error error = LYAP_ERROR_NULL;
        ck_assert_uint_lt(n, 100);
        test_alloc_fail_at(n);
        enum lyap_status status = lyap_store_sqlite_open(&options, &test.store, &error);
        if (status == LYAP_OK)
            status = use_everything((int64_t)n);
        is_done = test_alloc_count() < n;
        ck_assert_msg(status == (is_done ? LYAP_OK : LYAP_E_NOMEM), "%s", lyap_status_slug(status));
        test_store_close(&test);
        ck_assert_int_eq(test_alloc_live(), 0);
        test_alloc_install();
    }
    lyap_alloc_set_hooks(NULL);
    test_store_reopen(&test);
}
END_TEST

/* SQLite's own memory, with the n-th request from now on failing. */
static sqlite3_mem_methods real;
static uint64_t sqlite_fail_at;
static bool has_failed;

static bool fails(void)
{
    if (sqlite_fail_at == 0 || --sqlite_fail_at > 0)
        return false;
    has_failed = true;
    return true;
}
static void *faulty_malloc(int bytes)
{
    return fails() ? NULL : real.xMalloc(bytes);
}
static void *faulty_realloc(void *memory, int bytes)
{
    return fails() ? NULL : real.xRealloc(memory, bytes);
}

static void install_faulty_memory(void)
{
    ck_assert_int_eq(sqlite3_shutdown(), SQLITE_OK);
    ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real), SQLITE_OK);
    sqlite3_mem_methods faulty = real;
    faulty.xMalloc = faulty_malloc;
    faulty.xRealloc = faulty_realloc;
    ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &faulty), SQLITE_OK);
    ck_assert_int_eq(sqlite3_initialize(), SQLITE_OK);
}

static void remove_faulty_memory(void)
{
    sqlite_fail_at = 0;
    ck_assert_int_eq(sqlite3_shutdown(), SQLITE_OK);
    ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &real), SQLITE_OK);
    ck_assert_int_eq(sqlite3_initialize(), SQLITE_OK);
}

/* Opening makes thousands of requests: all of the first ones, then a sample with a prime stride. */
START_TEST(open_survives_failing_sqlite_memory)
{
    const struct lyap_store_options options = test_store_options(test.path);
    test_store_close(&test);
    install_faulty_memory();
    uint64_t failures = 0;
    for (uint64_t n = 1;; n += n < 60 ? 1 : 211) {
        struct lyap_error error = LYAP_ERROR_NULL;
        has_failed = false;
        sqlite_fail_at = n;
        const enum lyap_status status = lyap_store_sqlite_open(&options, &test.store, &error);
        sqlite_fail_at = 0;
        failures += status != LYAP_OK;
        ck_assert_msg(status == LYAP_OK || status == LYAP_E_NOMEM, "%s: %s",
                      lyap_status_slug(status), lyap_error_text(&error));
        if (status == LYAP_OK)
            test_store_close(&test);
        if (!has_failed)
            break;
    }
    ck_assert_uint_gt(failures, 50);
    remove_faulty_memory();
    test_store_reopen(&test);
}
END_TEST

START_TEST(points_and_queries_survive_failing_sqlite_memory)
{
    const struct lyap_query query = test_query(LYAP_TABLE_POINTS, "run-1");
    test_store_close(&test);
    install_faulty_memory();
    test_store_reopen(&test);
    int64_t stored = 0, failures = 0, step = 0;
    for (uint64_t n = 1;; n++, step++) {
        has_failed = false;
        sqlite_fail_at = n;
        const enum lyap_status status = use_everything(step);
        sqlite_fail_at = 0;
        ck_assert_msg(status == LYAP_OK || status == LYAP_E_NOMEM, "n %llu: %s",
                      (unsigned long long)n, lyap_status_slug(status));
        failures += status != LYAP_OK;
        /* The point is there or it is not; a failing query after it takes nothing back. */
        const int64_t now = test_count(test.store, &query);
        ck_assert(now == stored + 1 || (now == stored && status == LYAP_E_NOMEM));
        stored = now;
        if (!has_failed)
            break;
        ck_assert_uint_lt(n, 5000);
    }
    ck_assert_int_gt(failures, 5);
    test_store_close(&test);
    remove_faulty_memory();
    test_store_reopen(&test);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM pragma_integrity_check WHERE "
                                             "integrity_check = 'ok'"),
                     1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_fault");
    TCase *tcase = tcase_create("store_fault");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, what_was_committed_survives_kill_9, 0, 4);
    tcase_add_test(tcase, a_full_database_recovers);
    tcase_add_test(tcase, a_failing_write_recovers);
    tcase_add_test(tcase, every_failing_allocation_of_ours_is_reported);
    tcase_add_test(tcase, open_survives_failing_sqlite_memory);
    tcase_add_test(tcase, points_and_queries_survive_failing_sqlite_memory);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
