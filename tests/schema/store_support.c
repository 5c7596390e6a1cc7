/* A store in a new directory. */
#include "store_support.h"

#include <dirent.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lyap/point.h"

struct lyap_store_options test_store_options(const char *path)
{
    /* Forced: the tests may run on any file system; test_store_open looks at the refusal. */
    return (struct lyap_store_options){
        .path = path, .is_network_forced = true, .reader_count = 3, .busy_timeout_ms = 1000
    };
}

void test_store_reopen(struct test_store *test)
{
    test_store_close(test);
    struct lyap_error error = LYAP_ERROR_NULL;
    const struct lyap_store_options options = test_store_options(test->path);
    const enum lyap_status status = lyap_store_sqlite_open(&options, &test->store, &error);
    ck_assert_msg(status == LYAP_OK, "open: %s", lyap_error_text(&error));
}

void test_store_init(struct test_store *test)
{
    *test = (struct test_store){ 0 };
    const char *base = getenv("TMPDIR");
    (void)snprintf(test->directory, sizeof test->directory, "%s/lyap_store_XXXXXX",
                   base && strlen(base) < 32 ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(test->directory));
    (void)snprintf(test->path, sizeof test->path, "%s/lyapd.db", test->directory);
    test_store_reopen(test);
}

void test_store_close(struct test_store *test)
{
    if (test->store)
        test->store->ops->close(test->store);
    test->store = NULL;
}

void test_store_release(struct test_store *test)
{
    test_store_close(test);
    DIR *directory = opendir(test->directory);
    ck_assert_ptr_nonnull(directory);
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL)
        if (entry->d_name[0] != '.')
            (void)unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    ck_assert_int_eq(rmdir(test->directory), 0);
}

void test_store_ok(struct lyap_store *store, enum lyap_status status, const char *what)
{
    ck_assert_msg(status == LYAP_OK, "%s: %s (%s)", what, lyap_status_slug(status),
                  store->ops->error_text(store));
}

void test_begin(struct lyap_store *store)
{
    STORE_OK(store, store->ops->begin(store));
}

void test_commit(struct lyap_store *store)
{
    STORE_OK(store, store->ops->commit(store));
}

void test_put_attempt(struct lyap_store *store, int64_t run_id, uint32_t attempt)
{
    const struct lyap_attempt_record record = {
        .run_id = run_id,
        .attempt = attempt,
        .started_ns = 1000,
        .first_step = -1,
        .last_step = -1,
        .reference_loss = NAN,
        .healthy_lr = NAN,
    };
    STORE_OK(store, store->ops->put_attempt(store, &record));
}

struct lyap_run_record test_put_run(struct lyap_store *store, const char *name,
                                    const char *labels_json)
{
    struct lyap_run_record run = {
        .created_ns = 1000,
        .updated_ns = 1000,
        .attempt = 1,
        .retention = LYAP_RETENTION_EXACT,
        .last_step = -1,
        .declaration_json = "{}",
        .labels_json = labels_json,
        .action = { .lr = NAN },
    };
    (void)snprintf(run.name, sizeof run.name, "%s", name);
    test_begin(store);
    STORE_OK(store, store->ops->put_run(store, &run));
    test_put_attempt(store, run.id, 1);
    test_commit(store);
    return run;
}

void test_point(struct lyap_point *ret_point, uint32_t attempt, int64_t step, double loss)
{
    lyap_point_init(ret_point);
    ret_point->attempt = attempt;
    ret_point->step = step;
    ret_point->time_ns = INT64_C(1700000000000000000) + step * 1000000;
    ret_point->metrics[LYAP_METRIC_LOSS].value = loss;
    ret_point->metrics[LYAP_METRIC_LOSS].reason = LYAP_REASON_NONE;
}

struct lyap_query test_query(enum lyap_table table, const char *run)
{
    return (struct lyap_query){
        .table = table,
        .run = run,
        .to_step = LYAP_STEP_MAX,
        .after = -1,
        .state = -1,
        .severity = -1,
    };
}

struct lyap_cursor *test_open(struct lyap_store *store, const struct lyap_query *query)
{
    struct lyap_cursor *cursor = NULL;
    const enum lyap_status status = store->ops->query(store, query, &cursor);
    ck_assert_msg(status == LYAP_OK, "query: %s", lyap_status_slug(status));
    return cursor;
}

uint32_t test_count(struct lyap_store *store, const struct lyap_query *query)
{
    struct lyap_cursor *cursor = test_open(store, query);
    struct lyap_record record;
    enum lyap_status status;
    uint32_t count = 0;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK)
        count++;
    ck_assert_int_eq(status, LYAP_E_NOT_FOUND);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_E_NOT_FOUND);
    cursor->close(cursor);
    return count;
}

bool test_same_bits(double a, double b)
{
    uint64_t a_bits, b_bits;
    memcpy(&a_bits, &a, sizeof a_bits);
    memcpy(&b_bits, &b, sizeof b_bits);
    return a_bits == b_bits || (isnan(a) && isnan(b));
}

int64_t test_sql_int(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    ck_assert_int_eq(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_busy_timeout(db, 2000), SQLITE_OK);
    const int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
    const int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}
