/* Addition of partials, names, totals. */
#include "support.h"

#include <math.h>
#include <string.h>

#include "lyap/partial.h"

enum { TENSORS = 3, SIZE = 64 };

static struct lyap_partial empty(void)
{
    struct lyap_partial partial;
    ck_assert_int_eq(lyap_partial_init(&partial, TENSORS, SIZE), LYAP_OK);
    return partial;
}

static void set_row(struct lyap_partial *partial, enum lyap_reduce row, double a, double b,
                    double c)
{
    double *values = lyap_partial_row(partial, row);
    ck_assert_ptr_nonnull(values);
    values[0] = a;
    values[1] = b;
    values[2] = c;
}

static void check_row(const struct lyap_partial *partial, enum lyap_reduce row, double a, double b,
                      double c)
{
    const double expected[TENSORS] = { a, b, c };
    ck_assert_ptr_nonnull(partial->rows[row]);
    for (int i = 0; i < TENSORS; i++) {
        const double value = partial->rows[row][i];
        ck_assert_msg(value == expected[i] || (isnan(value) && isnan(expected[i])),
                      "%s[%d] is %g, expected %g", lyap_reduce_name(row), i, value, expected[i]);
    }
}

START_TEST(names_round_trip)
{
    for (unsigned i = 0; i < LYAP_REDUCE_COUNT; i++) {
        enum lyap_reduce row = LYAP_REDUCE_COUNT;
        const char *name = lyap_reduce_name((enum lyap_reduce)i);
        ck_assert(lyap_reduce_parse(name, strlen(name), &row) && row == (enum lyap_reduce)i);
        ck_assert_ptr_nonnull(strchr("smo", lyap_reduce_combine(row)));
    }
    for (unsigned i = 0; i < LYAP_SKETCH_COUNT; i++) {
        enum lyap_sketch_role role = LYAP_SKETCH_COUNT;
        const char *name = lyap_sketch_name((enum lyap_sketch_role)i);
        ck_assert(lyap_sketch_parse(name, strlen(name), &role) && role == (enum lyap_sketch_role)i);
    }
    enum lyap_reduce row;
    ck_assert(!lyap_reduce_parse("grad_sqq", 8, &row) && !lyap_reduce_parse("", 0, &row));
    ck_assert_int_eq(LYAP_REDUCE_GRAD_COUNT + LYAP_MOMENT_BLOCK_SQ, LYAP_REDUCE_GRAD_BLOCK_SQ);
}
END_TEST

START_TEST(rows_start_as_nan_and_sketches_as_zero)
{
    struct lyap_partial partial = empty();
    check_row(&partial, (lyap_partial_row(&partial, LYAP_REDUCE_GRAD_SQ), LYAP_REDUCE_GRAD_SQ), NAN,
              NAN, NAN);
    const double *sketch = lyap_partial_sketch(&partial, LYAP_SKETCH_GRAD);
    for (int i = 0; i < SIZE; i++)
        ck_assert(sketch[i] == 0);
    ck_assert_ptr_eq(lyap_partial_sketch(&partial, LYAP_SKETCH_GRAD), sketch);
    lyap_partial_release(&partial);
    ck_assert_ptr_null(partial.rows[LYAP_REDUCE_GRAD_SQ]);
}
END_TEST

START_TEST(ranks_add_by_the_rule_of_each_row)
{
    struct lyap_partial sum = empty(), rank = empty();
    set_row(&rank, LYAP_REDUCE_PARAM_COUNT, 4, 0, 2);
    set_row(&rank, LYAP_REDUCE_PARAM_SQ, 1, 0, 3);
    set_row(&rank, LYAP_REDUCE_PARAM_MAX, 5, 0, 1);
    lyap_partial_sketch(&rank, LYAP_SKETCH_PARAM)[7] = 2;
    rank.delta_unit = 0x1p-24;
    rank.is_state_exact = true;
    ck_assert_int_eq(lyap_partial_add(&sum, &rank), LYAP_OK);
    rank.rows[LYAP_REDUCE_PARAM_MAX][2] = 9;
    rank.delta_unit = 0x1p-8;
    ck_assert_int_eq(lyap_partial_add(&sum, &rank), LYAP_OK);
    check_row(&sum, LYAP_REDUCE_PARAM_COUNT, 8, 0, 4);
    check_row(&sum, LYAP_REDUCE_PARAM_SQ, 2, 0, 6);
    check_row(&sum, LYAP_REDUCE_PARAM_MAX, 5, 0, 9);
    ck_assert(sum.sketches[LYAP_SKETCH_PARAM][7] == 4 && sum.delta_unit == 0x1p-8);
    ck_assert(sum.is_state_exact);
    rank.is_state_exact = false;
    ck_assert_int_eq(lyap_partial_add(&sum, &rank), LYAP_OK);
    ck_assert(!sum.is_state_exact);
    lyap_partial_release(&sum);
    lyap_partial_release(&rank);
}
END_TEST

/* Tensor 0 lies on both ranks, 1 on the first, 2 on the second; only the first computed the row. */
START_TEST(a_short_sum_is_missing_not_small)
{
    struct lyap_partial sum = empty(), first = empty(), second = empty();
    set_row(&first, LYAP_REDUCE_PARAM_COUNT, 4, 4, 0);
    set_row(&second, LYAP_REDUCE_PARAM_COUNT, 4, 0, 4);
    set_row(&first, LYAP_REDUCE_GRAD_DELTA, 1, 2, NAN);
    lyap_partial_sketch(&first, LYAP_SKETCH_DELTA);
    ck_assert_int_eq(lyap_partial_add(&sum, &first), LYAP_OK);
    check_row(&sum, LYAP_REDUCE_GRAD_DELTA, 1, 2, NAN);
    ck_assert_ptr_nonnull(sum.sketches[LYAP_SKETCH_DELTA]);
    ck_assert_int_eq(lyap_partial_add(&sum, &second), LYAP_OK);
    check_row(&sum, LYAP_REDUCE_GRAD_DELTA, NAN, 2, NAN);
    ck_assert_ptr_null(sum.sketches[LYAP_SKETCH_DELTA]);
    lyap_partial_release(&sum);
    ck_assert_int_eq(lyap_partial_init(&sum, TENSORS, SIZE), LYAP_OK); /* the other order */
    ck_assert_int_eq(lyap_partial_add(&sum, &second), LYAP_OK);
    ck_assert_int_eq(lyap_partial_add(&sum, &first), LYAP_OK);
    check_row(&sum, LYAP_REDUCE_GRAD_DELTA, NAN, 2, NAN);
    ck_assert_ptr_null(sum.sketches[LYAP_SKETCH_DELTA]);
    lyap_partial_release(&sum);
    lyap_partial_release(&first);
    lyap_partial_release(&second);
}
END_TEST

START_TEST(finished_values_come_from_one_rank)
{
    struct lyap_partial sum = empty(), first = empty(), second = empty();
    set_row(&first, LYAP_REDUCE_PARAM_COUNT, 4, 4, 4);
    set_row(&second, LYAP_REDUCE_PARAM_COUNT, 4, 4, 4);
    set_row(&first, LYAP_REDUCE_SPECTRAL_NORM, 3, NAN, NAN);
    set_row(&second, LYAP_REDUCE_SPECTRAL_NORM, NAN, 2, NAN);
    ck_assert_int_eq(lyap_partial_add(&sum, &first), LYAP_OK);
    ck_assert_int_eq(lyap_partial_add(&sum, &second), LYAP_OK);
    check_row(&sum, LYAP_REDUCE_SPECTRAL_NORM, 3, 2, NAN);
    lyap_partial_release(&sum);
    lyap_partial_release(&first);
    lyap_partial_release(&second);
}
END_TEST

START_TEST(totals)
{
    struct lyap_partial partial = empty();
    ck_assert(isnan(lyap_partial_total(&partial, LYAP_REDUCE_GRAD_SQ)));
    set_row(&partial, LYAP_REDUCE_GRAD_SQ, 1, 2, 4);
    set_row(&partial, LYAP_REDUCE_GRAD_MAX, 1, 5, 4);
    set_row(&partial, LYAP_REDUCE_GRAD_DELTA, 1, NAN, 4);
    ck_assert(lyap_partial_total(&partial, LYAP_REDUCE_GRAD_SQ) == 7);
    ck_assert(lyap_partial_total(&partial, LYAP_REDUCE_GRAD_MAX) == 5);
    ck_assert(isnan(lyap_partial_total(&partial, LYAP_REDUCE_GRAD_DELTA)));
    lyap_partial_release(&partial);
}
END_TEST

START_TEST(bad_sizes_and_no_memory)
{
    struct lyap_partial sum, rank;
    ck_assert_int_eq(lyap_partial_init(&sum, LYAP_TENSOR_COUNT_MAX + 1, SIZE), LYAP_E_INVALID);
    ck_assert_int_eq(lyap_partial_init(&sum, 1, SIZE), LYAP_OK);
    ck_assert_int_eq(lyap_partial_init(&rank, 2, SIZE), LYAP_OK);
    ck_assert_int_eq(lyap_partial_add(&sum, &rank), LYAP_E_INVALID);
    test_alloc_install();
    sum = empty(), rank = empty();
    set_row(&rank, LYAP_REDUCE_PARAM_COUNT, 1, 1, 1);
    lyap_partial_sketch(&rank, LYAP_SKETCH_PARAM);
    for (uint64_t n = 1; n <= 2; n++) {
        test_alloc_fail_at(n);
        ck_assert_int_eq(lyap_partial_add(&sum, &rank), LYAP_E_NOMEM);
        lyap_partial_release(&sum);
        sum = empty();
    }
    test_alloc_fail_at(1);
    ck_assert_ptr_null(lyap_partial_row(&sum, LYAP_REDUCE_GRAD_SQ));
    lyap_partial_release(&sum);
    lyap_partial_release(&rank);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("partial");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, names_round_trip);
    tcase_add_test(tcase, rows_start_as_nan_and_sketches_as_zero);
    tcase_add_test(tcase, ranks_add_by_the_rule_of_each_row);
    tcase_add_test(tcase, a_short_sum_is_missing_not_small);
    tcase_add_test(tcase, finished_values_come_from_one_rank);
    tcase_add_test(tcase, totals);
    tcase_add_test(tcase, bad_sizes_and_no_memory);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
