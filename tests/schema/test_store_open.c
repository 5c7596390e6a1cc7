/* Opening: what is refused and left alone, migrations, the lock, databases of earlier versions.
 * `test_store_open --write-fixture FILE` writes the database of the present version. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sqlite/migrate.h"
#include "sqlite/place.h"
#include "store_support.h"

static struct test_store test;

static void setup(void)
{
    test_store_init(&test);
}

static void teardown(void)
{
    test_store_release(&test);
}

static void execute(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    /* Closing leaves a WAL behind, as after kill -9. */
    ck_assert_int_eq(sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL), SQLITE_OK);
    const int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    ck_assert_msg(rc == SQLITE_OK, "%s", sqlite3_errmsg(db));
    sqlite3_close(db);
}

static enum lyap_status open_again(struct lyap_error *reterr)
{
    const struct lyap_store_options options = test_store_options(test.path);
    *reterr = (struct lyap_error)LYAP_ERROR_NULL;
    return lyap_store_sqlite_open(&options, &test.store, reterr);
}

static size_t read_file(const char *path, unsigned char **ret_bytes)
{
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    const size_t length = (size_t)ftell(file);
    rewind(file);
    *ret_bytes = malloc(length + 1);
    ck_assert_uint_eq(fread(*ret_bytes, 1, length, file), length);
    (void)fclose(file);
    return length;
}

START_TEST(opening_again_migrates_nothing)
{
    const int64_t before = test_sql_int(test.path, "PRAGMA schema_version");
    ck_assert_int_eq(test_sql_int(test.path, "PRAGMA user_version"), lyap_migration_count);
    test_store_reopen(&test);
    test_store_reopen(&test);
    ck_assert_int_eq(test_sql_int(test.path, "PRAGMA schema_version"), before);
    ck_assert_int_eq(test_sql_int(test.path, "PRAGMA application_id"), 0x6c796170);
    ck_assert_int_eq(test_sql_int(test.path, "PRAGMA auto_vacuum"), 2);
    ck_assert(test.store->ops->is_writable(test.store));
    ck_assert_uint_gt(test.store->ops->bytes(test.store), 0);
}
END_TEST

/* _i: whether the new version stands in the database or still in its WAL. */
START_TEST(a_newer_database_is_refused_and_untouched)
{
    unsigned char *before = NULL, *after = NULL;
    struct lyap_error error;
    test_store_close(&test);
    execute(test.path, "PRAGMA user_version = 99; CREATE TABLE later(x)");
    if (_i)
        (void)test_sql_int(test.path, "PRAGMA wal_checkpoint(TRUNCATE)");
    const size_t length = read_file(test.path, &before);
    ck_assert_int_eq(open_again(&error), LYAP_E_NEWER);
    ck_assert_str_eq(error.text, "its version is 99, this lyapd knows versions up to 1");
    ck_assert_uint_eq(read_file(test.path, &after), length);
    ck_assert_int_eq(memcmp(before, after, length), 0);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM later"), 0);
    free(before);
    free(after);
}
END_TEST

START_TEST(files_that_are_not_ours_are_refused)
{
    struct lyap_error error;
    test_store_close(&test);
    (void)unlink(test.path);
    execute(test.path, "CREATE TABLE theirs(x)");
    ck_assert_int_eq(open_again(&error), LYAP_E_FORMAT);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM sqlite_schema"), 1);

    FILE *file = fopen(test.path, "wb");
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 1000; i++)
        (void)fputs("this is no database\n", file);
    (void)fclose(file);
    ck_assert_int_eq(open_again(&error), LYAP_E_FORMAT);
    ck_assert_str_ne(error.text, "");
}
END_TEST

START_TEST(a_second_store_on_the_file_is_refused)
{
    struct lyap_store *second = NULL;
    struct lyap_error error = LYAP_ERROR_NULL;
    const struct lyap_store_options options = test_store_options(test.path);
    char pid[32];
    ck_assert_int_eq(lyap_store_sqlite_open(&options, &second, &error), LYAP_E_BUSY);
    (void)snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    ck_assert_msg(strstr(error.text, pid) != NULL, "%s", error.text);
    /* A person's session is not kept out. */
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM runs"), 0);
    test_store_close(&test);
    ck_assert_int_eq(open_again(&error), LYAP_OK);
}
END_TEST

START_TEST(bad_options_are_refused_with_a_text)
{
    struct lyap_error error;
    test_store_close(&test);
    struct lyap_store_options options = test_store_options("/nonexistent/lyapd.db");
    for (int forced = 0; forced < 2; forced++) {
        options.is_network_forced = forced;
        error = (struct lyap_error)LYAP_ERROR_NULL;
        ck_assert_int_eq(lyap_store_sqlite_open(&options, &test.store, &error), LYAP_E_IO);
        ck_assert_msg(strstr(error.text, "No such file") != NULL, "%s", error.text);
    }
    options = test_store_options(test.path);
    options.reader_count = 0;
    error = (struct lyap_error)LYAP_ERROR_NULL;
    ck_assert_int_eq(lyap_store_sqlite_open(&options, &test.store, &error), LYAP_E_INVALID);
    ck_assert_str_eq(error.text, "readers: 0 is not within 1 .. 64");
    ck_assert_int_eq(open_again(&error), LYAP_OK);
}
END_TEST

START_TEST(network_file_systems_are_known)
{
    static const uint64_t local[] = { 0xEF53 /* ext */, 0x58465342 /* XFS */,
                                      0x01021994 /* tmpfs */, 0x9123683E /* btrfs */,
                                      0x794C7630 /* overlay */ };
    ck_assert_str_eq(lyap_place_network_name(0x6969), "NFS");
    ck_assert_str_eq(lyap_place_network_name(0xFF534D42), "CIFS");
    ck_assert_str_eq(lyap_place_network_name(0x0BD00BD0), "Lustre");
    ck_assert_str_eq(lyap_place_network_name(0x65735546), "FUSE");
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        ck_assert_ptr_null(lyap_place_network_name(local[i]));
}
END_TEST

/* ---- databases of earlier versions ---- */

static void write_fixture(struct lyap_store *store)
{
    const struct lyap_run_record run = test_put_run(store, "old-run", "{\"team\":\"vision\"}");
    struct lyap_tensor tensors[] = {
        { .name = (char *)(uintptr_t) "fc1.weight", .rank = 1, .shape = { 4 } }
    };
    const struct lyap_tensor_set set = { .tensors = tensors, .count = 1 };
    test_begin(store);
    STORE_OK(store, store->ops->put_tensors(store, run.id, 1, &set));
    for (int64_t step = 0; step < 100; step++) {
        struct lyap_point point;
        struct lyap_tensor_row row = { .tensor = 0 };
        for (int i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++)
            row.values[i] = i + (double)step;
        test_point(&point, 1, step, step == 50 ? NAN : 1.0 / (double)(step + 1));
        point.metrics[LYAP_METRIC_SHARPNESS] =
            (struct lyap_value){ 8.0 + (double)step, 0.25, LYAP_TRUST_C, LYAP_REASON_NONE };
        STORE_OK(store, store->ops->put_point(store, run.id, &point, &row, step % 10 == 0));
    }
    const struct lyap_event_record event = { .run_id = run.id,
                                             .step = 50,
                                             .attempt = 1,
                                             .kind = LYAP_EVENT_NONFINITE,
                                             .detail_json = "{}" };
    STORE_OK(store, store->ops->put_event(store, &event));
    struct lyap_alert alert = { .run_id = run.id,
                                .attempt = 1,
                                .rule = "nonfinite",
                                .state = LYAP_ALERT_FIRING,
                                .pending_step = 50,
                                .firing_step = 50,
                                .resolved_step = -1,
                                .value = 1,
                                .threshold = 0,
                                .summary = "a NaN",
                                .evidence_json = "{}" };
    STORE_OK(store, store->ops->put_alert(store, &alert));
    test_commit(store);
}

static void assert_fixture_point(struct lyap_store *store)
{
    struct lyap_record record;
    struct lyap_query query = test_query(LYAP_TABLE_POINTS, "old-run");
    ck_assert_uint_eq(test_count(store, &query), 100);
    query.from_step = query.to_step = 50;
    struct lyap_cursor *cursor = test_open(store, &query);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    ck_assert_double_nan(record.u.point.metrics[LYAP_METRIC_LOSS].value);
    ck_assert_int_eq(record.u.point.metrics[LYAP_METRIC_LOSS].reason, LYAP_REASON_NONE);
    ck_assert_int_eq(record.u.point.metrics[LYAP_METRIC_LR].reason, LYAP_REASON_NOT_PUSHED);
    ck_assert_double_eq(record.u.point.metrics[LYAP_METRIC_SHARPNESS].value, 58.0);
    ck_assert_double_eq(record.u.point.metrics[LYAP_METRIC_SHARPNESS].error, 0.25);
    ck_assert_int_eq(record.u.point.metrics[LYAP_METRIC_SHARPNESS].trust, LYAP_TRUST_C);
    cursor->close(cursor);
}

static void assert_fixture_series(struct lyap_store *store)
{
    static const enum lyap_metric metrics[] = { LYAP_METRIC_LOSS, LYAP_METRIC_SHARPNESS };
    struct lyap_record record;
    struct lyap_query query = test_query(LYAP_TABLE_SERIES, "old-run");
    query.metrics = metrics;
    query.metric_count = 2;
    query.points = 13;
    struct lyap_cursor *cursor = test_open(store, &query);
    for (int bin = 0; bin < 13; bin++) {
        ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
        ck_assert_double_eq(record.u.series.min[1], 8.0 + 8 * bin);
        ck_assert_int_eq(record.u.series.is_nan[0], bin == 6);
    }
    cursor->close(cursor);
}

static void assert_fixture(struct lyap_store *store)
{
    assert_fixture_point(store);
    assert_fixture_series(store);
    struct lyap_query query = test_query(LYAP_TABLE_TENSORS, "old-run");
    ck_assert_uint_eq(test_count(store, &query), 1);
    query = test_query(LYAP_TABLE_ALERTS, "old-run");
    ck_assert_uint_eq(test_count(store, &query), 1);
    query = test_query(LYAP_TABLE_EVENTS, "old-run");
    ck_assert_uint_eq(test_count(store, &query), 1);
}

START_TEST(databases_of_earlier_versions_open)
{
    unsigned char *bytes = NULL;
    char name[64];
    for (int version = 1; version <= lyap_migration_count; version++) {
        test_store_close(&test);
        (void)snprintf(name, sizeof name, "tests/fixtures/db/version-%d.db", version);
        const size_t length = read_file(name, &bytes);
        FILE *file = fopen(test.path, "wb");
        ck_assert_ptr_nonnull(file);
        ck_assert_uint_eq(fwrite(bytes, 1, length, file), length);
        ck_assert_int_eq(fclose(file), 0);
        free(bytes);
        ck_assert_int_eq(test_sql_int(test.path, "PRAGMA user_version"), version);
        test_store_reopen(&test);
        ck_assert_int_eq(test_sql_int(test.path, "PRAGMA user_version"), lyap_migration_count);
        assert_fixture(test.store);
    }
}
END_TEST

/* Every SQL example of docs/storage.md runs. */
START_TEST(the_examples_of_the_page_run)
{
    static const char open_mark[] = "```sql\n", close_mark[] = "```";
    unsigned char *bytes = NULL;
    const size_t length = read_file("docs/storage.md", &bytes);
    bytes[length] = '\0';
    int count = 0;
    for (char *text = (char *)bytes; (text = strstr(text, open_mark)) != NULL; count++) {
        text += sizeof open_mark - 1;
        char *end = strstr(text, close_mark);
        ck_assert_ptr_nonnull(end);
        *end = '\0';
        execute(test.path, text);
        text = end + 1;
    }
    ck_assert_int_ge(count, 7);
    free(bytes);
}
END_TEST

static const char *fixture_path;

START_TEST(write_the_fixture)
{
    char lock[128];
    (void)snprintf(test.path, sizeof test.path, "%s", fixture_path);
    (void)snprintf(lock, sizeof lock, "%s.lock", test.path);
    (void)unlink(test.path);
    test_store_reopen(&test);
    write_fixture(test.store);
    assert_fixture(test.store);
    test_store_close(&test);
    execute(test.path, "PRAGMA journal_mode = DELETE; VACUUM");
    (void)unlink(lock);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("store_open");
    TCase *tcase = tcase_create("store_open");
    suite_add_tcase(suite, tcase);
    if (argc == 3 && strcmp(argv[1], "--write-fixture") == 0) {
        fixture_path = argv[2];
        tcase_add_test(tcase, write_the_fixture);
        return test_main(suite);
    }
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, opening_again_migrates_nothing);
    tcase_add_loop_test(tcase, a_newer_database_is_refused_and_untouched, 0, 2);
    tcase_add_test(tcase, files_that_are_not_ours_are_refused);
    tcase_add_test(tcase, a_second_store_on_the_file_is_refused);
    tcase_add_test(tcase, bad_options_are_refused_with_a_text);
    tcase_add_test(tcase, network_file_systems_are_known);
    tcase_add_test(tcase, databases_of_earlier_versions_open);
    tcase_add_test(tcase, the_examples_of_the_page_run);
    return test_main(suite);
}
