/* Series: roll-ups equal a brute-force pass over the points, whatever the range, the gaps, the
 * restarts; a spike of one step is never lost. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store_support.h"

enum { POINTS_MAX = 5000 };

static struct test_store test;
static struct lyap_run_record run;
/* What was stored. */
static int64_t steps[POINTS_MAX];
static struct lyap_value losses[POINTS_MAX], norms[POINTS_MAX];
static uint32_t count;

static void setup(void)
{
    test_store_init(&test);
    run = test_put_run(test.store, "run-1", "{}");
    count = 0;
}

static void teardown(void)
{
    test_store_release(&test);
}

static struct lyap_value random_value(struct test_rng *rng)
{
    struct lyap_value value = { test_rng_normal(rng), NAN, 0, LYAP_REASON_NONE };
    switch (test_rng_u64(rng) % 40) {
    case 0:
        value.value = NAN;
        break;
    case 1:
        value.value = INFINITY;
        break;
    case 2:
        value.value = 1e300 * test_rng_normal(rng);
        break;
    case 3:
    case 4:
    case 5:
        value.value = NAN;
        value.reason = LYAP_REASON_WARMING_UP;
    }
    return value;
}

static void put(int64_t step, struct lyap_value loss, struct lyap_value norm)
{
    struct lyap_point point;
    test_point(&point, 1, step, 0.0);
    point.metrics[LYAP_METRIC_LOSS] = loss;
    point.metrics[LYAP_METRIC_GRAD_NORM] = norm;
    STORE_OK(test.store, test.store->ops->put_point(test.store, run.id, &point, NULL, 0));
}

/* Random gaps up to gap_max; batches of random length; now and then a batch is rolled back and
 * pushed again, and the store is closed and opened. */
static void fill(struct test_rng *rng, uint32_t points, uint64_t gap_max)
{
    int64_t step = (int64_t)(test_rng_u64(rng) % gap_max);
    while (count < points) {
        const uint32_t batch = 1 + (uint32_t)(test_rng_u64(rng) % 300);
        const uint32_t first = count;
        test_begin(test.store);
        for (uint32_t i = 0; i < batch && count < points; i++, count++) {
            steps[count] = step;
            losses[count] = random_value(rng);
            norms[count] = random_value(rng);
            put(step, losses[count], norms[count]);
            step += 1 + (int64_t)(test_rng_u64(rng) % gap_max);
        }
        if (test_rng_u64(rng) % 4 == 0) {
            test.store->ops->rollback(test.store);
            if (test_rng_u64(rng) % 2)
                test_store_reopen(&test);
            test_begin(test.store);
            for (uint32_t i = first; i < count; i++)
                put(steps[i], losses[i], norms[i]);
        }
        test_commit(test.store);
        if (test_rng_u64(rng) % 4 == 0)
            test_store_reopen(&test);
    }
}

struct expected {
    double min, max, last;
    bool is_nan;
};

static void expect_add(struct expected *expected, const struct lyap_value *value)
{
    if (value->reason != LYAP_REASON_NONE)
        return;
    if (isnan(value->value)) {
        expected->is_nan = true;
        return;
    }
    expected->min = fmin(expected->min, value->value); /* a NaN operand is ignored */
    expected->max = fmax(expected->max, value->value);
    expected->last = value->value;
}

static bool same(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static void assert_stat(const struct lyap_series_row *row, uint32_t metric,
                        const struct expected *expected)
{
    ck_assert_msg(same(row->min[metric], expected->min) && same(row->max[metric], expected->max),
                  "step %lld: min %g max %g, expected %g %g", (long long)row->step,
                  row->min[metric], row->max[metric], expected->min, expected->max);
    ck_assert_int_eq(row->is_nan[metric], expected->is_nan);
    ck_assert(same(row->last[metric], expected->is_nan ? NAN : expected->last));
}

/* The stored points of one bin inside the range, from index i on; returns the index behind it. */
static uint32_t expect_bin(uint32_t i, int64_t to, int64_t resolution,
                           struct expected ret_expected[2])
{
    const int64_t bin = steps[i] / resolution;
    for (int m = 0; m < 2; m++)
        ret_expected[m] = (struct expected){ NAN, NAN, NAN, false };
    for (; i < count && steps[i] <= to && steps[i] / resolution == bin; i++) {
        expect_add(&ret_expected[0], &losses[i]);
        expect_add(&ret_expected[1], &norms[i]);
    }
    return i;
}

static uint32_t bins_within(int64_t from, int64_t to, int64_t resolution)
{
    uint32_t bins = 0;
    int64_t last = -1;
    for (uint32_t i = 0; i < count; i++) {
        const int64_t bin = steps[i] / resolution;
        if (steps[i] < from || steps[i] > to || bin == last)
            continue;
        last = bin;
        bins++;
    }
    return bins;
}

static void assert_series(int64_t from, int64_t to, uint32_t points)
{
    static const enum lyap_metric metrics[] = { LYAP_METRIC_LOSS, LYAP_METRIC_GRAD_NORM };
    struct lyap_query query = test_query(LYAP_TABLE_SERIES, "run-1");
    query.from_step = from;
    query.to_step = to;
    query.metrics = metrics;
    query.metric_count = 2;
    query.points = points;
    struct lyap_cursor *cursor = test_open(test.store, &query);
    struct lyap_record record;
    struct expected expected[2];
    uint32_t i = 0, rows = 0;
    int64_t resolution = 1;
    while (i < count && steps[i] < from)
        i++;
    while (cursor->next(cursor, &record) == LYAP_OK) {
        const struct lyap_series_row *row = &record.u.series;
        resolution = row->resolution;
        ck_assert(i < count && steps[i] <= to);
        i = expect_bin(i, to, resolution, expected);
        ck_assert_int_eq(row->step, steps[i - 1]);
        ck_assert_int_eq(record.key, steps[i - 1]);
        assert_stat(row, 0, &expected[0]);
        assert_stat(row, 1, &expected[1]);
        rows++;
    }
    cursor->close(cursor);
    ck_assert_msg(i == count || steps[i] > to, "the series ends early");
    ck_assert(points == 0 ? resolution == 1 : rows <= points);
    /* The level is the finest possible, but for bins that the range only cuts. */
    if (rows > 0 && resolution > 1)
        ck_assert_uint_gt(bins_within(from, to, resolution / 8) + 2, points);
}

static const uint64_t gaps[] = { 1, 9, 400, 30000, 1200000 };

START_TEST(roll_ups_equal_brute_force)
{
    const uint64_t gap_max = gaps[_i];
    struct test_rng rng = { 11 + (uint64_t)_i };
    fill(&rng, _i == 0 ? POINTS_MAX : 1500, gap_max);
    const int64_t last = steps[count - 1];
    static const uint32_t points[] = { 0, 1, 2, 3, 10, 50, 100, 499, 1000, 4000 };
    assert_series(0, LYAP_STEP_MAX, 0);
    assert_series(0, LYAP_STEP_MAX, 1);
    assert_series(0, LYAP_STEP_MAX, 100);
    for (int i = 0; i < 120; i++) {
        int64_t from = (int64_t)(test_rng_uniform(&rng) * (double)last);
        int64_t to = (int64_t)(test_rng_uniform(&rng) * 1.1 * (double)last);
        if (i % 3 == 0) /* aligned ranges are a case of their own */
            from = from / 512 * 512;
        if (i % 5 == 0)
            to = to / 64 * 64 - 1;
        assert_series(from, to, points[test_rng_u64(&rng) % 10]);
    }
}
END_TEST

START_TEST(the_mean_and_the_counts_are_right_after_restarts)
{
    struct test_rng rng = { 5 };
    fill(&rng, 3000, 1);
    for (int level = 1; level <= 3; level++) {
        char sql[160];
        (void)snprintf(
            sql, sizeof sql,
            "SELECT count(*) FROM rollups WHERE level = %d AND (points <> 1 << 3 * level"
            " OR bin <> first_step >> 3 * level OR last_step <> first_step + points - 1)",
            level);
        ck_assert_int_eq(test_sql_int(test.path, sql), 0);
    }
    /* Against SQL's own avg over the points, where no infinity or 1e300 is among them. */
    ck_assert_int_gt(
        test_sql_int(test.path,
                     "SELECT count(*) FROM rollups r WHERE level < 4 AND loss_max < 1e6 AND "
                     "loss_min > -1e6"),
        20);
    ck_assert_int_eq(
        test_sql_int(test.path,
                     "SELECT count(*) FROM rollups r WHERE level < 4 AND loss_max < 1e6 AND "
                     "loss_min > -1e6 AND (SELECT abs(avg(loss) - r.loss_mean) > 1e-12 OR "
                     "count(loss) <> r.loss_count OR "
                     "coalesce(sum(nan_metrics LIKE 'loss%'), 0) <> coalesce(r.loss_nans, 0) "
                     "FROM points WHERE step BETWEEN r.first_step AND r.last_step)"),
        0);
}
END_TEST

START_TEST(a_spike_of_one_step_is_kept_at_every_resolution)
{
    static const enum lyap_metric metrics[] = { LYAP_METRIC_LOSS };
    const struct lyap_value usual = { 1.0, NAN, 0, LYAP_REASON_NONE };
    const struct lyap_value spike = { 1e6, NAN, 0, LYAP_REASON_NONE };
    const struct lyap_value dip = { -1e6, NAN, 0, LYAP_REASON_NONE };
    test_begin(test.store);
    for (int64_t step = 0; step < 20000; step++)
        put(step, step == 12345 ? spike : step == 19999 ? dip : usual, usual);
    test_commit(test.store);
    for (uint32_t points = 1; points < 5000; points = points * 3 + 1) {
        struct lyap_query query = test_query(LYAP_TABLE_SERIES, "run-1");
        query.metrics = metrics;
        query.metric_count = 1;
        query.points = points;
        struct lyap_cursor *cursor = test_open(test.store, &query);
        struct lyap_record record;
        int spikes = 0, dips = 0;
        while (cursor->next(cursor, &record) == LYAP_OK) {
            spikes += record.u.series.max[0] == 1e6;
            dips += record.u.series.min[0] == -1e6;
        }
        cursor->close(cursor);
        ck_assert_int_eq(spikes, 1);
        ck_assert_int_eq(dips, 1);
    }
}
END_TEST

START_TEST(cursors_continue_and_bad_queries_are_refused)
{
    static const enum lyap_metric metrics[LYAP_SERIES_METRICS_MAX + 1] = { LYAP_METRIC_LOSS };
    struct test_rng rng = { 3 };
    fill(&rng, 200, 1);
    struct lyap_query query = test_query(LYAP_TABLE_SERIES, "run-1");
    query.metrics = metrics;
    query.metric_count = 1;
    query.limit = 60;
    uint32_t rows = 0;
    struct lyap_record record;
    for (int page = 0; page < 4; page++) {
        struct lyap_cursor *cursor = test_open(test.store, &query);
        for (; cursor->next(cursor, &record) == LYAP_OK; rows++)
            query.after = record.key;
        cursor->close(cursor);
    }
    ck_assert_uint_eq(rows, 200);
    query.after = -1;
    query.is_descending = true;
    struct lyap_cursor *cursor = test_open(test.store, &query);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    ck_assert_int_eq(record.key, steps[199]);
    cursor->close(cursor);

    query.points = 10;
    ck_assert_int_eq(test.store->ops->query(test.store, &query, &cursor), LYAP_E_INVALID);
    query.is_descending = false;
    query.metric_count = LYAP_SERIES_METRICS_MAX + 1;
    ck_assert_int_eq(test.store->ops->query(test.store, &query, &cursor), LYAP_E_LIMIT);
    query.metric_count = 0;
    ck_assert_int_eq(test.store->ops->query(test.store, &query, &cursor), LYAP_E_LIMIT);
    query.metric_count = 1;
    query.run = NULL;
    ck_assert_int_eq(test.store->ops->query(test.store, &query, &cursor), LYAP_E_INVALID);
    query.run = "run-1";
    query.attempt = 9;
    ck_assert_uint_eq(test_count(test.store, &query), 0);
}
END_TEST

/* Tensor series have no roll-ups: bins are made while reading, of the same bounds. */
START_TEST(tensor_series_keep_min_and_max)
{
    static const enum lyap_tensor_metric metrics[] = { LYAP_TENSOR_METRIC_UPDATE_NORM,
                                                       LYAP_TENSOR_METRIC_ABS_MAX };
    struct lyap_tensor tensors[] = {
        { .name = (char *)(uintptr_t) "a.w", .rank = 2, .shape = { 2, 3 } },
        { .name = (char *)(uintptr_t) "a.b" }
    };
    const struct lyap_tensor_set set = { .tensors = tensors, .count = 2 };
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->put_tensors(test.store, run.id, 1, &set));
    for (int64_t step = 0; step < 1000; step++) {
        struct lyap_point point;
        struct lyap_tensor_row rows[2] = { { .tensor = 0 }, { .tensor = 1 } };
        for (unsigned i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++)
            rows[0].values[i] = rows[1].values[i] = NAN;
        rows[1].values[LYAP_TENSOR_METRIC_UPDATE_NORM] = step == 700 ? 1e3 : (double)step / 1e3;
        test_point(&point, 1, step, 1.0);
        STORE_OK(test.store,
                 test.store->ops->put_point(test.store, run.id, &point, rows, step % 2 ? 0 : 2));
    }
    test_commit(test.store);

    struct lyap_query query = test_query(LYAP_TABLE_SERIES, "run-1");
    query.tensor = "a.b";
    query.tensor_metrics = metrics;
    query.metric_count = 2;
    ck_assert_uint_eq(test_count(test.store, &query), 500);
    query.points = 20;
    struct lyap_cursor *cursor = test_open(test.store, &query);
    struct lyap_record record;
    int rows = 0, spikes = 0;
    for (; cursor->next(cursor, &record) == LYAP_OK; rows++) {
        const struct lyap_series_row *row = &record.u.series;
        ck_assert_uint_eq(row->resolution, 64);
        ck_assert_int_eq(row->step % 2, 0);
        spikes += row->max[0] == 1e3;
        ck_assert(row->min[0] <= row->last[0]);
        ck_assert_double_nan(row->max[1]);
        ck_assert(!row->is_nan[1]);
    }
    cursor->close(cursor);
    ck_assert_int_eq(rows, 16);
    ck_assert_int_eq(spikes, 1);
    query.tensor = "a.c";
    ck_assert_int_eq(test.store->ops->query(test.store, &query, &cursor), LYAP_E_NOT_FOUND);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_series");
    TCase *tcase = tcase_create("store_series");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, roll_ups_equal_brute_force, 0, sizeof gaps / sizeof *gaps);
    tcase_add_test(tcase, the_mean_and_the_counts_are_right_after_restarts);
    tcase_add_test(tcase, a_spike_of_one_step_is_kept_at_every_resolution);
    tcase_add_test(tcase, cursors_continue_and_bad_queries_are_refused);
    tcase_add_test(tcase, tensor_series_keep_min_and_max);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
