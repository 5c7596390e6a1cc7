/* Points: what goes in comes out, bit by bit; batches; columns of the tables. */
#include <float.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "store_support.h"

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

static const double odd_values[] = { 0.0,
                                     -0.0,
                                     1.0,
                                     -1.0,
                                     INFINITY,
                                     -INFINITY,
                                     NAN,
                                     5e-324,
                                     -5e-324,
                                     DBL_MIN,
                                     DBL_MAX,
                                     -DBL_MAX,
                                     0.1,
                                     1e15,
                                     -7e15,
                                     4.5e15,
                                     9007199254740993.0,
                                     1e300,
                                     0x1p-1030,
                                     3.0 };

/* Every metric gets a value, an error, a trust class and a reason by a random draw. */
static void random_point(struct test_rng *rng, int64_t step, struct lyap_point *ret_point)
{
    const size_t count = sizeof odd_values / sizeof *odd_values;
    test_point(ret_point, 1, step, 0.0);
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        struct lyap_value *value = &ret_point->metrics[i];
        value->trust = (uint8_t)(test_rng_u64(rng) % 3);
        value->reason = (uint8_t)(test_rng_u64(rng) % LYAP_REASON_COUNT);
        if (test_rng_u64(rng) % 2)
            value->reason = LYAP_REASON_NONE;
        value->value = value->reason ? NAN : odd_values[test_rng_u64(rng) % count];
        value->error = odd_values[test_rng_u64(rng) % count];
    }
    ret_point->is_event_only = test_rng_u64(rng) % 2;
    ret_point->is_gap = test_rng_u64(rng) % 2;
    ret_point->state = (enum lyap_run_state)(test_rng_u64(rng) % LYAP_STATE_COUNT);
    for (unsigned i = 0; i < LYAP_TWIN_COUNT_MAX; i++) /* some slots are empty */
        if (test_rng_u64(rng) % 2)
            (void)snprintf(ret_point->twin_names[i], sizeof ret_point->twin_names[i], "twin-%u", i);
    ret_point->parts_bytes = (uint16_t)(test_rng_u64(rng) % 3 * (LYAP_PARTS_BYTES_MAX / 2));
    for (unsigned i = 0; i < ret_point->parts_bytes; i++)
        ret_point->parts[i] = (unsigned char)test_rng_u64(rng);
    ret_point->verdict = (enum lyap_verdict)(test_rng_u64(rng) % LYAP_VERDICT_COUNT);
    ret_point->action.kind = (enum lyap_action_kind)(test_rng_u64(rng) % LYAP_ACTION_COUNT);
    ret_point->action.lr = odd_values[test_rng_u64(rng) % 4 + 5];
    ret_point->action.step = step / 2;
    if (step % 2)
        (void)snprintf(ret_point->action.reason, sizeof ret_point->action.reason, "2 / %d", 7);
    ret_point->labels_json = step % 3 ? NULL : (char *)(uintptr_t) "{\"x-a\": \"b\"}";
}

static void assert_same_metrics(const struct lyap_point *a, const struct lyap_point *b)
{
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        const struct lyap_value *x = &a->metrics[i], *y = &b->metrics[i];
        const char *name = lyap_metric_info((enum lyap_metric)i)->name;
        ck_assert_msg(test_same_bits(x->value, y->value), "%s: %a, %a", name, x->value, y->value);
        ck_assert_msg(test_same_bits(x->error, y->error), "%s error: %a, %a", name, x->error,
                      y->error);
        ck_assert_msg(x->trust == y->trust && x->reason == y->reason, "%s: trust, reason", name);
    }
}

static void assert_same_point(const struct lyap_point *a, const struct lyap_point *b)
{
    ck_assert_int_eq(a->step, b->step);
    ck_assert_int_eq(a->time_ns, b->time_ns);
    ck_assert_int_eq(a->attempt, b->attempt);
    ck_assert(a->is_event_only == b->is_event_only && a->is_gap == b->is_gap);
    ck_assert(a->state == b->state && a->verdict == b->verdict);
    ck_assert(memcmp(a->twin_names, b->twin_names, sizeof a->twin_names) == 0);
    ck_assert_int_eq(a->action.kind, b->action.kind);
    ck_assert(test_same_bits(a->action.lr, b->action.lr));
    ck_assert_str_eq(a->action.reason, b->action.reason);
    if (a->action.kind == LYAP_ACTION_SKIP || a->action.kind == LYAP_ACTION_ROLLBACK)
        ck_assert_int_eq(a->action.step, b->action.step);
    ck_assert_pstr_eq(a->labels_json, b->labels_json);
    ck_assert_int_eq(a->parts_bytes, b->parts_bytes);
    ck_assert(memcmp(a->parts, b->parts, a->parts_bytes) == 0);
    assert_same_metrics(a, b);
}

START_TEST(a_point_comes_back_bit_by_bit)
{
    enum { COUNT = 300 };
    static struct lyap_point points[COUNT];
    struct test_rng rng = { 7 };
    for (int i = 0; i < COUNT; i++) {
        random_point(&rng, 3 * i, &points[i]);
        if (i % 50 == 0)
            test_begin(test.store);
        STORE_OK(test.store, test.store->ops->put_point(test.store, run.id, &points[i], NULL, 0));
        if (i % 50 == 49)
            test_commit(test.store);
    }
    test_store_reopen(&test);

    struct lyap_query query = test_query(LYAP_TABLE_POINTS, "run-1");
    for (int descending = 0; descending < 2; descending++) {
        query.is_descending = descending;
        struct lyap_cursor *cursor = test_open(test.store, &query);
        struct lyap_record record;
        for (int i = 0; i < COUNT; i++) {
            const int expected = descending ? COUNT - 1 - i : i;
            ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
            ck_assert_int_eq(record.table, LYAP_TABLE_POINTS);
            ck_assert_int_eq(record.key, points[expected].step);
            assert_same_point(&points[expected], &record.u.point);
        }
        ck_assert_int_eq(cursor->next(cursor, &record), LYAP_E_NOT_FOUND);
        cursor->close(cursor);
    }
}
END_TEST

START_TEST(ranges_limits_and_cursors_page_through_points)
{
    struct lyap_point point;
    test_begin(test.store);
    for (int64_t step = 0; step < 100; step++) {
        test_point(&point, 1, step, 1.0);
        STORE_OK(test.store, test.store->ops->put_point(test.store, run.id, &point, NULL, 0));
    }
    test_commit(test.store);

    struct lyap_query query = test_query(LYAP_TABLE_POINTS, "run-1");
    query.from_step = 10;
    query.to_step = 39;
    ck_assert_uint_eq(test_count(test.store, &query), 30);
    query.limit = 7;
    ck_assert_uint_eq(test_count(test.store, &query), 7);
    query.after = 35;
    ck_assert_uint_eq(test_count(test.store, &query), 4);
    query.is_descending = true;
    query.limit = 0;
    ck_assert_uint_eq(test_count(test.store, &query), 25);
    query.attempt = 2;
    ck_assert_uint_eq(test_count(test.store, &query), 0);
    query.run = "run-2";
    struct lyap_cursor *cursor = NULL;
    ck_assert_int_eq(test.store->ops->query(test.store, &query, &cursor), LYAP_E_NOT_FOUND);
}
END_TEST

START_TEST(steps_only_increase_and_runs_must_exist)
{
    struct lyap_point point;
    test_point(&point, 1, 5, 1.0);
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->put_point(test.store, run.id, &point, NULL, 0));
    ck_assert_int_eq(test.store->ops->put_point(test.store, run.id, &point, NULL, 0),
                     LYAP_E_STEP_ORDER);
    ck_assert_str_eq(test.store->ops->error_text(test.store), "step 5 is not above the last, 5");
    point.step = 6;
    ck_assert_int_eq(test.store->ops->put_point(test.store, run.id + 1, &point, NULL, 0),
                     LYAP_E_NOT_FOUND);
    point.attempt = 2;
    ck_assert_int_eq(test.store->ops->put_point(test.store, run.id, &point, NULL, 0),
                     LYAP_E_NOT_FOUND);
    test.store->ops->rollback(test.store);
}
END_TEST

START_TEST(rollback_leaves_nothing)
{
    struct lyap_point point;
    const struct lyap_query query = test_query(LYAP_TABLE_POINTS, "run-1");
    for (int round = 0; round < 3; round++) {
        test_begin(test.store);
        for (int64_t step = 0; step < 20; step++) {
            test_point(&point, 1, step, NAN);
            STORE_OK(test.store, test.store->ops->put_point(test.store, run.id, &point, NULL, 0));
        }
        test.store->ops->rollback(test.store);
        ck_assert_uint_eq(test_count(test.store, &query), 0);
    }
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM rollups"), 0);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM annotations"), 0);
}
END_TEST

START_TEST(a_person_reads_the_file_with_sql)
{
    struct lyap_point point;
    test_begin(test.store);
    for (int64_t step = 0; step < 3; step++) {
        test_point(&point, 1, step, step == 1 ? NAN : 0.5);
        STORE_OK(test.store, test.store->ops->put_point(test.store, run.id, &point, NULL, 0));
    }
    test_commit(test.store);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT step FROM points WHERE loss IS NULL AND "
                                             "nan_metrics = 'loss'"),
                     1);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM points_named WHERE run = 'run-1'"
                                             " AND time LIKE '2023-11-14T22:13:20%'"),
                     3);
    ck_assert_int_eq(test_sql_int(test.path,
                                  "SELECT count(*) FROM points_named WHERE "
                                  "json_extract(annotation_text, '$.sharpness') = 'not-pushed'"),
                     3);
}
END_TEST

/* The metric table and the migrations name the same columns. */
START_TEST(columns_are_the_metric_tables)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    char name[128];
    ck_assert_int_eq(sqlite3_open(test.path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db,
                                        "SELECT count(*) FROM pragma_table_info(?) WHERE name = ?",
                                        -1, &stmt, NULL),
                     SQLITE_OK);
    static const struct {
        const char *table, *suffix;
    } columns[] = { { "points", "" },        { "points", "_error" }, { "rollups", "_min" },
                    { "rollups", "_max" },   { "rollups", "_mean" }, { "rollups", "_last" },
                    { "rollups", "_count" }, { "rollups", "_nans" } };
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
            (void)snprintf(name, sizeof name, "%s%s", lyap_metric_info((enum lyap_metric)i)->name,
                           columns[c].suffix);
            sqlite3_reset(stmt);
            sqlite3_bind_text(stmt, 1, columns[c].table, -1, SQLITE_STATIC);
            sqlite3_bind_text(stmt, 2, name, -1, SQLITE_STATIC);
            ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
            ck_assert_msg(sqlite3_column_int(stmt, 0) == 1, "%s.%s", columns[c].table, name);
        }
    }
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    /* And no others: 15 columns of a point that are no metrics, 9 of a roll-up, 4 of a tensor. */
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM pragma_table_info('points')"),
                     18 + 2 * LYAP_METRIC_COUNT);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM pragma_table_info('rollups')"),
                     9 + 6 * LYAP_METRIC_COUNT);
    ck_assert_int_eq(
        test_sql_int(test.path, "SELECT count(*) FROM pragma_table_info('tensor_points')"),
        4 + LYAP_TENSOR_METRIC_COUNT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_point");
    TCase *tcase = tcase_create("store_point");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_point_comes_back_bit_by_bit);
    tcase_add_test(tcase, ranges_limits_and_cursors_page_through_points);
    tcase_add_test(tcase, steps_only_increase_and_runs_must_exist);
    tcase_add_test(tcase, rollback_leaves_nothing);
    tcase_add_test(tcase, a_person_reads_the_file_with_sql);
    tcase_add_test(tcase, columns_are_the_metric_tables);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
