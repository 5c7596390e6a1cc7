/* Sums over ranks: order, coverage, parts that lack a row, predecessors of unequal steps. */
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "ranks.h"
#include "support.h"

enum { TENSORS = 3, RANKS = 3 };

struct bench {
    struct api_ticket storage[RANKS], *tickets[RANKS];
    struct lyap_tensor tensors[TENSORS];
    struct lyap_tensor_set set;
};

static void set_row(struct lyap_partial *partial, enum lyap_reduce row, double a, double b,
                    double c)
{
    double *values = lyap_partial_row(partial, row);
    ck_assert_ptr_nonnull(values);
    values[0] = a;
    values[1] = b;
    values[2] = c;
}

/* Tensor 0 is cut in three, tensor 1 is rank 0's, tensor 2 is cut between ranks 1 and 2. */
static void bench_init(struct bench *bench)
{
    static char names[TENSORS][4] = { "a", "b", "c" };
    static const double counts[RANKS][TENSORS] = { { 2, 5, 0 }, { 2, 0, 3 }, { 2, 0, 4 } };
    *bench = (struct bench){ .set = { .count = TENSORS } };
    bench->set.tensors = bench->tensors;
    for (int t = 0; t < TENSORS; t++)
        bench->tensors[t] =
            (struct lyap_tensor){ .name = names[t], .count = (uint64_t[]){ 6, 5, 7 }[t] };
    for (int r = 0; r < RANKS; r++) {
        struct api_ticket *ticket = bench->tickets[r] = &bench->storage[r];
        ticket->previous_step = 4;
        ck_assert_int_eq(lyap_partial_init(&ticket->partial, TENSORS, LYAP_SKETCH_SIZE), LYAP_OK);
        set_row(&ticket->partial, LYAP_REDUCE_PARAM_COUNT, counts[r][0], counts[r][1],
                counts[r][2]);
        set_row(&ticket->partial, LYAP_REDUCE_PARAM_SQ, 0.1 * (r + 1), 0.3, 1e16 * (r + 1));
        set_row(&ticket->partial, LYAP_REDUCE_PARAM_MAX, r, 5 - r, 2);
        set_row(&ticket->partial, LYAP_REDUCE_GRAD_DELTA, -r, 1, NAN);
    }
}

static void bench_release(struct bench *bench)
{
    for (int r = 0; r < RANKS; r++)
        lyap_partial_release(&bench->storage[r].partial);
}

START_TEST(sums_are_taken_in_rank_order)
{
    struct bench bench;
    struct lyap_partial sum;
    bench_init(&bench);
    ck_assert_int_eq(lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum), LYAP_OK);
    /* ((0.1 + 0.2) + 0.3): the order shows in the last bit */
    ck_assert_double_eq(sum.rows[LYAP_REDUCE_PARAM_SQ][0], 0.1 + 0.2 + 0.1 * 3);
    ck_assert_double_eq(sum.rows[LYAP_REDUCE_PARAM_COUNT][0], 6);
    ck_assert_double_eq(sum.rows[LYAP_REDUCE_PARAM_MAX][0], 2);
    ck_assert_double_eq(sum.rows[LYAP_REDUCE_PARAM_MAX][1], 5);
    ck_assert_double_eq(sum.rows[LYAP_REDUCE_GRAD_DELTA][0], -3);
    ck_assert_int_eq(lyap_ranks_coverage(&sum, &bench.set, NULL), LYAP_OK);
    lyap_partial_release(&sum);
    bench_release(&bench);
}
END_TEST

START_TEST(coverage_names_tensor_role_and_counts)
{
    static const double wrong[] = { 1, 3 };
    struct bench bench;
    struct lyap_partial sum;
    struct lyap_error error = LYAP_ERROR_NULL;
    bench_init(&bench);
    bench.storage[1].partial.rows[LYAP_REDUCE_PARAM_COUNT][0] = wrong[_i];
    ck_assert_int_eq(lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum), LYAP_OK);
    ck_assert_int_eq(lyap_ranks_coverage(&sum, &bench.set, &error), LYAP_E_SHARD_COVERAGE);
    ck_assert_ptr_nonnull(strstr(error.text, "param_count of a is"));
    ck_assert_ptr_nonnull(strstr(error.text, _i ? "is 7" : "is 5"));
    ck_assert_ptr_nonnull(strstr(error.text, "6 elements"));
    lyap_partial_release(&sum);
    bench_release(&bench);
}
END_TEST

START_TEST(a_tensor_that_nobody_pushed_is_covered)
{
    struct bench bench;
    struct lyap_partial sum;
    bench_init(&bench);
    bench.storage[0].partial.rows[LYAP_REDUCE_PARAM_COUNT][1] = 0;
    ck_assert_int_eq(lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum), LYAP_OK);
    ck_assert_int_eq(lyap_ranks_coverage(&sum, &bench.set, NULL), LYAP_OK);
    lyap_partial_release(&sum);
    bench_release(&bench);
}
END_TEST

START_TEST(a_sum_that_a_rank_lacks_is_absent_not_short)
{
    struct bench bench;
    struct lyap_partial sum;
    bench_init(&bench);
    bench.storage[2].partial.rows[LYAP_REDUCE_PARAM_SQ][0] = NAN;
    bench.storage[2].partial.rows[LYAP_REDUCE_PARAM_SQ][1] = NAN; /* it has nothing of b */
    ck_assert_int_eq(lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum), LYAP_OK);
    ck_assert(isnan(sum.rows[LYAP_REDUCE_PARAM_SQ][0]));
    ck_assert(!isnan(sum.rows[LYAP_REDUCE_PARAM_SQ][1]));
    lyap_partial_release(&sum);

    lyap_free(bench.storage[1].partial.rows[LYAP_REDUCE_GRAD_DELTA]);
    bench.storage[1].partial.rows[LYAP_REDUCE_GRAD_DELTA] = NULL;
    ck_assert_int_eq(lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum), LYAP_OK);
    ck_assert(isnan(sum.rows[LYAP_REDUCE_GRAD_DELTA][0]));
    ck_assert(!isnan(sum.rows[LYAP_REDUCE_GRAD_DELTA][1])); /* rank 0 alone holds b */
    lyap_partial_release(&sum);
    bench_release(&bench);
}
END_TEST

START_TEST(a_sketch_that_a_rank_lacks_is_absent)
{
    struct bench bench;
    struct lyap_partial sum;
    bench_init(&bench);
    for (int r = 0; r < RANKS; r++) {
        lyap_partial_sketch(&bench.storage[r].partial, LYAP_SKETCH_PARAM)[7] = r + 1;
        if (r != 1)
            lyap_partial_sketch(&bench.storage[r].partial, LYAP_SKETCH_GRAD)[7] = 1;
    }
    ck_assert_int_eq(lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum), LYAP_OK);
    ck_assert_double_eq(sum.sketches[LYAP_SKETCH_PARAM][7], 6);
    ck_assert_ptr_null(sum.sketches[LYAP_SKETCH_GRAD]);
    lyap_partial_release(&sum);
    bench_release(&bench);
}
END_TEST

START_TEST(unequal_predecessors_give_no_differences)
{
    struct bench bench;
    struct lyap_partial sum;
    bench_init(&bench);
    bench.storage[2].previous_step = 3;
    ck_assert_int_eq(lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum), LYAP_OK);
    ck_assert_ptr_null(sum.rows[LYAP_REDUCE_GRAD_DELTA]);
    ck_assert_double_eq(sum.rows[LYAP_REDUCE_PARAM_COUNT][0], 6);
    lyap_partial_release(&sum);
    bench_release(&bench);
}
END_TEST

START_TEST(a_rank_without_tensors_adds_nothing)
{
    struct bench bench;
    struct lyap_partial sum;
    bench_init(&bench);
    lyap_partial_release(&bench.storage[1].partial);
    bench.storage[1].previous_step = -1;
    bench.tickets[2] = NULL;
    ck_assert_int_eq(lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum), LYAP_OK);
    ck_assert_double_eq(sum.rows[LYAP_REDUCE_PARAM_COUNT][0], 2);
    ck_assert_double_eq(sum.rows[LYAP_REDUCE_GRAD_DELTA][1], 1);
    lyap_partial_release(&sum);
    bench_release(&bench);
}
END_TEST

START_TEST(the_state_is_exact_when_every_part_is)
{
    struct bench bench;
    struct lyap_partial sum;
    bench_init(&bench);
    for (int r = 0; r < RANKS; r++)
        bench.storage[r].partial.is_state_exact = true;
    ck_assert_int_eq(lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum), LYAP_OK);
    ck_assert(sum.is_state_exact);
    lyap_partial_release(&sum);
    bench.storage[1].partial.is_state_exact = false;
    ck_assert_int_eq(lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum), LYAP_OK);
    ck_assert(!sum.is_state_exact);
    lyap_partial_release(&sum);
    bench_release(&bench);
}
END_TEST

START_TEST(memory_may_end_anywhere)
{
    struct bench bench;
    test_alloc_install();
    bench_init(&bench);
    const int64_t live = test_alloc_live();
    for (uint64_t n = 1;; n++) {
        struct lyap_partial sum;
        test_alloc_fail_at(n);
        const enum lyap_status status = lyap_ranks_sum(bench.tickets, RANKS, TENSORS, &sum);
        test_alloc_fail_at(0);
        if (status == LYAP_OK) {
            lyap_partial_release(&sum);
            ck_assert_int_eq(test_alloc_live(), live);
            break;
        }
        ck_assert_int_eq(status, LYAP_E_NOMEM);
        ck_assert_int_eq(test_alloc_live(), live);
    }
    bench_release(&bench);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ranks");
    TCase *tests = tcase_create("ranks");
    tcase_add_test(tests, sums_are_taken_in_rank_order);
    tcase_add_loop_test(tests, coverage_names_tensor_role_and_counts, 0, 2);
    tcase_add_test(tests, a_tensor_that_nobody_pushed_is_covered);
    tcase_add_test(tests, a_sum_that_a_rank_lacks_is_absent_not_short);
    tcase_add_test(tests, a_sketch_that_a_rank_lacks_is_absent);
    tcase_add_test(tests, unequal_predecessors_give_no_differences);
    tcase_add_test(tests, a_rank_without_tensors_adds_nothing);
    tcase_add_test(tests, the_state_is_exact_when_every_part_is);
    tcase_add_test(tests, memory_may_end_anywhere);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
