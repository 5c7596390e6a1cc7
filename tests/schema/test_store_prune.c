/* Prune and deletion: bounded work, points go, roll-ups and the end of a series stay. */
#include <math.h>
#include <stdio.h>
#include <string.h>

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

static int64_t time_of(int64_t step)
{
    struct lyap_point point;
    test_point(&point, 1, step, 0.0);
    return point.time_ns;
}

static void put_points(const struct lyap_run_record *run, int64_t from, int64_t to)
{
    struct lyap_tensor_row rows[2] = { { .tensor = 0 }, { .tensor = 1 } };
    test_begin(test.store);
    for (int64_t step = from; step < to; step++) {
        struct lyap_point point;
        test_point(&point, 1, step, step == 100 ? 1e6 : 1.0);
        STORE_OK(test.store, test.store->ops->put_point(test.store, run->id, &point, rows, 2));
    }
    test_commit(test.store);
}

/* Calls until nothing is left to do; returns how many calls that took. */
static int prune(int64_t before_ns, uint64_t bytes_max)
{
    bool is_more = true;
    int calls = 0;
    while (is_more) {
        ck_assert_int_lt(calls, 500);
        test_begin(test.store);
        STORE_OK(test.store, test.store->ops->prune(test.store, before_ns, bytes_max, &is_more));
        test_commit(test.store);
        calls++;
    }
    return calls;
}

static double chart_max(const char *run, uint32_t points, uint32_t *ret_rows)
{
    static const enum lyap_metric metrics[] = { LYAP_METRIC_LOSS };
    struct lyap_query query = test_query(LYAP_TABLE_SERIES, run);
    struct lyap_record record;
    double max = NAN;
    query.metrics = metrics;
    query.metric_count = 1;
    query.points = points;
    *ret_rows = 0;
    struct lyap_cursor *cursor = test_open(test.store, &query);
    while (cursor->next(cursor, &record) == LYAP_OK) {
        max = fmax(max, record.u.series.max[0]);
        ++*ret_rows;
    }
    cursor->close(cursor);
    return max;
}

START_TEST(points_go_by_age_and_their_roll_ups_stay)
{
    const struct lyap_run_record run = test_put_run(test.store, "run-1", "{}");
    const struct lyap_query query = test_query(LYAP_TABLE_POINTS, "run-1");
    uint32_t rows = 0;
    put_points(&run, 0, 3000);
    const int64_t bins = test_sql_int(test.path, "SELECT count(*) FROM rollups");
    ck_assert_int_eq(prune(time_of(0), 0), 1); /* nothing is older */
    ck_assert_uint_eq(test_count(test.store, &query), 3000);
    ck_assert_int_gt(prune(time_of(2003), 0), 3);
    /* Whole bins of 8 steps. */
    ck_assert_int_eq(test_sql_int(test.path, "SELECT min(step) FROM points"), 2000);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT min(step) FROM tensor_points"), 2000);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM rollups"), bins);
    /* The spike of step 100 is still on the chart, at any resolution. */
    ck_assert_double_eq(chart_max("run-1", 375, &rows), 1e6);
    ck_assert_uint_eq(rows, 375);
    ck_assert_double_eq(chart_max("run-1", 4000, &rows), 1e6);
    ck_assert_double_eq(chart_max("run-1", 1, &rows), 1e6);

    /* Everything is old: the open bin stays, for the end of the series. */
    (void)prune(INT64_MAX, 0);
    ck_assert_uint_eq(test_count(test.store, &query), 8);
    ck_assert_double_eq(chart_max("run-1", 1000, &rows), 1e6);
    ck_assert_uint_eq(rows, 375);
    put_points(&run, 3000, 3100);
    (void)prune(INT64_MAX, 0);
    ck_assert_uint_eq(test_count(test.store, &query), 4);
    ck_assert_double_eq(chart_max("run-1", 1000, &rows), 1e6);
    ck_assert_uint_eq(rows, 388);
}
END_TEST

/* Range queries that begin or end where points were pruned. */
START_TEST(pruned_ranges_are_read_in_whole_bins)
{
    static const enum lyap_metric metrics[] = { LYAP_METRIC_LOSS };
    const struct lyap_run_record run = test_put_run(test.store, "run-1", "{}");
    struct lyap_record record;
    put_points(&run, 0, 500);
    (void)prune(time_of(300), 0);
    struct lyap_query query = test_query(LYAP_TABLE_SERIES, "run-1");
    query.metrics = metrics;
    query.metric_count = 1;
    query.points = 100;
    query.from_step = 99;
    query.to_step = 101;
    struct lyap_cursor *cursor = test_open(test.store, &query);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    ck_assert_uint_eq(record.u.series.resolution, 8);
    ck_assert_int_eq(record.u.series.step, 103);
    ck_assert_double_eq(record.u.series.max[0], 1e6);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_E_NOT_FOUND);
    cursor->close(cursor);
}
END_TEST

START_TEST(the_oldest_points_go_by_size_and_the_file_shrinks)
{
    const struct lyap_run_record a = test_put_run(test.store, "a", "{}");
    const struct lyap_run_record b = test_put_run(test.store, "b", "{}");
    put_points(&a, 0, 3000);
    put_points(&b, 3000, 15000); /* younger */
    (void)test_sql_int(test.path, "PRAGMA wal_checkpoint(TRUNCATE)");
    const uint64_t before = test.store->ops->bytes(test.store);
    const uint64_t target = before / 10 * 6;
    (void)prune(0, target);
    const struct lyap_query of_a = test_query(LYAP_TABLE_POINTS, "a");
    const struct lyap_query of_b = test_query(LYAP_TABLE_POINTS, "b");
    ck_assert_uint_eq(test_count(test.store, &of_a), 8);
    ck_assert_uint_gt(test_count(test.store, &of_b), 1000);
    (void)test_sql_int(test.path, "PRAGMA wal_checkpoint(TRUNCATE)");
    ck_assert_uint_le(test.store->ops->bytes(test.store), target);
    ck_assert_int_eq(prune(0, before), 1);
}
END_TEST

START_TEST(a_deleted_run_is_gone_at_once_and_its_rows_soon)
{
    static const char *const tables[] = { "points",   "tensor_points", "rollups",   "annotations",
                                          "events",   "alerts",        "profiles",  "tensors",
                                          "attempts", "runs",          "run_labels" };
    struct lyap_store *store = test.store;
    const struct lyap_run_record run = test_put_run(store, "run-1", "{\"team\":\"a\"}");
    struct lyap_tensor tensors[] = { { .name = (char *)(uintptr_t) "a" },
                                     { .name = (char *)(uintptr_t) "b" } };
    const struct lyap_tensor_set set = { .tensors = tensors, .count = 2 };
    put_points(&run, 0, 1000);
    test_begin(store);
    STORE_OK(store, store->ops->put_tensors(store, run.id, 1, &set));
    const struct lyap_event_record event = { .run_id = run.id, .attempt = 1, .detail_json = "{}" };
    STORE_OK(store, store->ops->put_event(store, &event));
    struct lyap_alert alert = { .run_id = run.id, .attempt = 1, .rule = "r" };
    STORE_OK(store, store->ops->put_alert(store, &alert));
    struct lyap_delivery delivery = { .alert_id = alert.id,
                                      .receiver = "ops",
                                      .kind = LYAP_ALERT_FIRING,
                                      .next_ns = 1,
                                      .payload_json = "{}" };
    int64_t delivery_id = 0;
    STORE_OK(store, store->ops->put_delivery(store, &delivery, &delivery_id));
    STORE_OK(store, store->ops->put_profile(store, run.id, 1, 3, "x", 1));
    STORE_OK(store, store->ops->delete_run(store, run.id));
    ck_assert_int_eq(store->ops->delete_run(store, run.id), LYAP_E_NOT_FOUND);
    test_commit(store);

    struct lyap_cursor *cursor = NULL;
    struct lyap_query query = test_query(LYAP_TABLE_POINTS, "run-1");
    ck_assert_int_eq(store->ops->query(store, &query, &cursor), LYAP_E_NOT_FOUND);
    query = test_query(LYAP_TABLE_RUNS, NULL);
    ck_assert_uint_eq(test_count(store, &query), 0);
    query = test_query(LYAP_TABLE_ALERTS, NULL);
    ck_assert_uint_eq(test_count(store, &query), 0);
    query = test_query(LYAP_TABLE_EVENTS, NULL);
    ck_assert_uint_eq(test_count(store, &query), 0);

    /* The name is free, and what has it now is not touched. */
    const struct lyap_run_record again = test_put_run(store, "run-1", "{}");
    put_points(&again, 0, 10);
    ck_assert_int_gt(prune(0, 0), 5);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char sql[160];
        (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s WHERE %s = %lld", tables[i],
                       strcmp(tables[i], "runs") == 0 ? "id" : "run_id", (long long)run.id);
        ck_assert_msg(test_sql_int(test.path, sql) == 0, "%s", tables[i]);
    }
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM deliveries"), 0);
    query = test_query(LYAP_TABLE_POINTS, "run-1");
    ck_assert_uint_eq(test_count(store, &query), 10);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_prune");
    TCase *tcase = tcase_create("store_prune");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, points_go_by_age_and_their_roll_ups_stay);
    tcase_add_test(tcase, pruned_ranges_are_read_in_whole_bins);
    tcase_add_test(tcase, the_oldest_points_go_by_size_and_the_file_shrinks);
    tcase_add_test(tcase, a_deleted_run_is_gone_at_once_and_its_rows_soon);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
