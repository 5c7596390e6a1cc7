/* Weights measured while they stream: the kernels of all instruction sets, every cut of the bytes
 * and of the rows, types, ranks in every order. */
#include "plain.h"
#include "spectral_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"

enum { MOST = 40000 };
static double values[MOST], other[MOST];

/* ---- kernels ---- */

enum { ROWS = 11, COLS_MAX = 71, BLOCK = LYAP_SPECTRAL_BLOCK_MAX, FIRST_ROW = 5 };

struct sums {
    double z[BLOCK * COLS_MAX], columns[COLS_MAX], marks[LYAP_SPECTRAL_MARKS * COLS_MAX];
    uint64_t rows; /* so far */
    struct lyap_magnitude_sums magnitudes;
};

static void run_rows(const struct lyap_kernels *kernels, enum lyap_rows type, const void *rows,
                     size_t count, uint32_t cols, uint32_t block, const double *v,
                     struct sums *sums)
{
    const struct lyap_projection projection = { .v = v,
                                                .z = sums->z,
                                                .cols = cols,
                                                .block = block,
                                                .marks = sums->marks,
                                                .row = FIRST_ROW + sums->rows };
    sums->rows += count;
    sums->magnitudes.columns = sums->columns;
    kernels->project[type](rows, count, &projection);
    kernels->magnitudes[type](rows, count, cols, &sums->magnitudes);
    sums->magnitudes.columns = NULL;
}

static void check_marks(const double *w, uint64_t first, uint64_t rows, uint32_t cols,
                        const double *marks)
{
    for (uint32_t k = 0; k < LYAP_SPECTRAL_MARKS; k++)
        for (uint32_t i = 0; i < cols; i++) {
            double sum = 0;
            for (uint64_t r = 0; r < rows; r++)
                sum += lyap_row_sign(first + r, k) * w[r * cols + i];
            test_close(marks[k * cols + i], sum, 1e-12);
        }
}

/* Half of the signs of many rows, and of the products of two marks. */
START_TEST(signs_are_even)
{
    enum { COUNT = 100000 };
    int sums[3] = { 0 };
    for (uint64_t row = 0; row < COUNT; row++) {
        const int a = (int)lyap_row_sign(row, 0), b = (int)lyap_row_sign(row, 1);
        ck_assert(a * a == 1 && b * b == 1);
        sums[0] += a;
        sums[1] += b;
        sums[2] += a * b;
    }
    for (int i = 0; i < 3; i++)
        ck_assert_int_lt(abs(sums[i]), 5 * 317); /* five standard deviations */
}
END_TEST

/* W'(W v) and magnitudes by the obvious loops. */
static void check_rows(const double *w, uint32_t cols, uint32_t block, const double *v,
                       const struct sums *sums)
{
    double row_abs = 0, row_sq = 0;
    for (int r = 0; r < ROWS; r++) {
        double abs_sum = 0, sq = 0;
        for (uint32_t i = 0; i < cols; i++) {
            abs_sum += fabs(w[r * (int)cols + (int)i]);
            sq += w[r * (int)cols + (int)i] * w[r * (int)cols + (int)i];
        }
        row_abs = fmax(row_abs, abs_sum);
        row_sq = fmax(row_sq, sq);
    }
    test_close(sums->magnitudes.row_abs, row_abs, 1e-13);
    test_close(sums->magnitudes.row_sq, row_sq, 1e-13);
    for (uint32_t i = 0; i < cols; i++) {
        double column = 0;
        for (int r = 0; r < ROWS; r++)
            column += fabs(w[r * (int)cols + (int)i]);
        test_close(sums->columns[i], column, 1e-13);
        for (uint32_t j = 0; j < block; j++) {
            double z = 0;
            for (int r = 0; r < ROWS; r++) {
                double product = 0;
                for (uint32_t k = 0; k < cols; k++)
                    product += w[r * (int)cols + (int)k] * v[j * cols + k];
                z += product * w[r * (int)cols + (int)i];
            }
            test_close(sums->z[j * cols + i], z, 1e-11);
        }
    }
}

START_TEST(kernels_give_the_same_bits)
{
    static float narrow[ROWS * COLS_MAX];
    static unsigned char unaligned[sizeof narrow + 1];
    static double v[BLOCK * COLS_MAX];
    struct test_rng rng = { 3 };
    for (uint32_t cols = 1; cols <= COLS_MAX; cols += 1 + cols / 9) {
        const uint32_t block = 1 + cols % BLOCK;
        for (uint32_t i = 0; i < ROWS * cols; i++)
            values[i] = narrow[i] = (float)test_rng_normal(&rng);
        test_rng_normals(&rng, v, (uint64_t)block * cols);
        memcpy(unaligned + 1, narrow, ROWS * cols * sizeof *narrow);
        struct sums first;
        memset(&first, 0, sizeof first);
        run_rows(lyap_kernels_variant(0), LYAP_ROWS_F64, values, ROWS, cols, block, v, &first);
        check_rows(values, cols, block, v, &first);
        check_marks(values, FIRST_ROW, ROWS, cols, first.marks);
        for (unsigned k = 0; lyap_kernels_variant(k); k++)
            for (uint32_t cut = 0; cut <= ROWS; cut++) {
                const struct lyap_kernels *kernels = lyap_kernels_variant(k);
                struct sums wide, f32;
                memset(&wide, 0, sizeof wide);
                memset(&f32, 0, sizeof f32);
                run_rows(kernels, LYAP_ROWS_F64, values, cut, cols, block, v, &wide);
                run_rows(kernels, LYAP_ROWS_F64, values + cut * cols, ROWS - cut, cols, block, v,
                         &wide);
                run_rows(kernels, LYAP_ROWS_F32, unaligned + 1, cut, cols, block, v, &f32);
                run_rows(kernels, LYAP_ROWS_F32, unaligned + 1 + cut * cols * sizeof *narrow,
                         ROWS - cut, cols, block, v, &f32);
                ck_assert(memcmp(&first, &wide, sizeof first) == 0);
                ck_assert(memcmp(&first, &f32, sizeof first) == 0);
            }
    }
}
END_TEST

/* ---- uploads ---- */

/* The same bits for every cut; what plain loops make of the rounded matrix. */
START_TEST(any_cut_of_the_bytes)
{
    static const uint64_t shapes[][2] = { { 30, 7 },   { 70, 90 },  { 3, 9000 }, { 4, 2500 },
                                          { 5, 4096 }, { 1, 3000 }, { 4000, 1 }, { 2, 5 } };
    struct test_rng rng = { 5 };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int dtype = 0; dtype < LYAP_DTYPE_COUNT; dtype++) {
            struct fixture fixture;
            const uint64_t count = shapes[s][0] * shapes[s][1];
            if (lyap_dtype_bytes((enum lyap_dtype)dtype) == 2 && count > 1000)
                continue; /* the fixture's rounding to halves tries them all */
            matrix_fixture(&fixture, shapes[s][0], shapes[s][1]);
            fixture.retention = LYAP_RETENTION_SKETCH;
            test_rng_normals(&rng, values, count);
            struct lyap_spectral_plan *plan = first_plan(&fixture);
            const struct lyap_spectral_item *item = &plan->items[0];
            fixture.spectral = plan;
            struct lyap_partial whole, cut;
            struct lyap_memory *memory;
            push_matrix(&fixture, 0, (enum lyap_dtype)dtype, values, NULL, &whole, &memory);
            const struct lyap_spectral_sum *sum = &whole.spectral->sums[0];
            const size_t size = (size_t)item->block * item->cols;
            ck_assert(sum->has_next && !sum->is_cold && sum->rows == shapes[s][0]);

            for (uint64_t i = 0; i < count; i++)
                other[i] = fixture_rounded((enum lyap_dtype)dtype, values[i]);
            const struct lyap_spectral_matrix w = { other, item->rows, item->cols };
            double *z = calloc(size, sizeof *z), *v = malloc(size * sizeof *v);
            struct lyap_spectral_estimate estimate;
            memcpy(v, item->v, size * sizeof *v);
            plain_products(&w, item->block, v, z);
            ck_assert_int_eq(lyap_spectral_stream(item->cols, item->block, z, v, &estimate),
                             LYAP_OK);
            test_close(sum->estimate.sigma / estimate.sigma, 1, 1e-11);
            check_marks(other, 0, item->rows, item->cols, sum->marks);
            test_close(fmin(whole.rows[LYAP_REDUCE_SPECTRAL_UPPER][0],
                            sqrt(whole.rows[LYAP_REDUCE_PARAM_SQ][0])) /
                           plain_upper(&w),
                       1, 1e-12);
            ck_assert_double_nan(whole.rows[LYAP_REDUCE_SPECTRAL_NORM][0]); /* warming up */
            free(z);
            free(v);

            for (uint64_t seed = 1; seed <= 3; seed++) {
                fixture.cut_seed = seed;
                push_matrix(&fixture, 0, (enum lyap_dtype)dtype, values, NULL, &cut, &memory);
                const struct lyap_spectral_sum *again = &cut.spectral->sums[0];
                ck_assert(memcmp(&sum->estimate, &again->estimate, sizeof sum->estimate) == 0);
                ck_assert(memcmp(sum->z, again->z, size * sizeof *sum->z) == 0);
                ck_assert(memcmp(sum->marks, again->marks,
                                 LYAP_SPECTRAL_MARKS * item->cols * sizeof *sum->marks) == 0);
                ck_assert(cut.rows[LYAP_REDUCE_SPECTRAL_UPPER][0] ==
                          whole.rows[LYAP_REDUCE_SPECTRAL_UPPER][0]);
                lyap_partial_release(&cut);
            }
            lyap_partial_release(&whole);
            lyap_spectral_plan_free(plan);
            fixture_free(&fixture);
        }
}
END_TEST

/* ---- shards ---- */

enum { TALL = 24, WIDE = 17, RANKS = 4 };

static void push_rows(struct fixture *fixture, uint64_t offset, uint64_t count, bool is_box,
                      struct lyap_partial *ret_partial)
{
    static char name[] = "t0";
    struct lyap_shard shard = { .tensor = name, .shape = { TALL, WIDE }, .rank = 2 };
    struct lyap_memory *memory;
    fixture_step(fixture, 0);
    fixture_meta(fixture, "world", "4");
    for (int r = 0; r < 2; r++) {
        fixture_add(fixture, r ? LYAP_ROLE_GRAD : LYAP_ROLE_PARAM, 0, LYAP_DTYPE_F64,
                    values + offset);
        fixture->arrays[r].count = count;
        fixture->arrays[r].rank = 2;
        fixture->arrays[r].shape[0] = count / WIDE;
        fixture->arrays[r].shape[1] = WIDE;
    }
    shard.is_box = is_box;
    shard.offset = offset;
    shard.start[0] = offset / WIDE;
    fixture->snapshot.shards = &shard;
    fixture->snapshot.shard_count = 1;
    fixture_must_push(fixture, NULL, ret_partial, &memory);
    lyap_memory_free(memory);
    fixture->snapshot.shards = NULL;
    fixture->snapshot.shard_count = 0;
}

/* Ranks with whole rows, added in every order. */
START_TEST(shards_of_rows_in_every_order)
{
    static const uint64_t edges[RANKS + 1] = { 0, 5, 6, 17, TALL };
    struct test_rng rng = { 7 };
    struct fixture fixture;
    struct lyap_partial parts[RANKS], whole;
    struct lyap_memory *memory;
    matrix_fixture(&fixture, TALL, WIDE);
    fixture.retention = LYAP_RETENTION_SKETCH;
    test_rng_normals(&rng, values, TALL * WIDE);
    struct lyap_spectral_plan *plan = first_plan(&fixture);
    fixture.spectral = plan;
    push_matrix(&fixture, 0, LYAP_DTYPE_F64, values, NULL, &whole, &memory);
    for (int r = 0; r < RANKS; r++) {
        push_rows(&fixture, edges[r] * WIDE, (edges[r + 1] - edges[r]) * WIDE, r % 2, &parts[r]);
        ck_assert(!parts[r].spectral->sums[0].is_cut && !parts[r].spectral->sums[0].has_next);
    }
    int orders = 0;
    for (int code = 0; code < 256; code++) {
        const int order[RANKS] = { code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6 };
        unsigned seen = 0;
        for (int r = 0; r < RANKS; r++)
            seen |= 1u << order[r];
        if (seen != 15)
            continue;
        orders++;
        struct lyap_partial sum;
        ck_assert_int_eq(lyap_partial_init(&sum, 1, LYAP_SKETCH_SIZE), LYAP_OK);
        for (int r = 0; r < RANKS; r++)
            ck_assert_int_eq(lyap_partial_add(&sum, &parts[order[r]]), LYAP_OK);
        ck_assert_int_eq(lyap_spectral_finish(&sum), LYAP_OK);
        const struct lyap_spectral_sum *a = &sum.spectral->sums[0], *b = &whole.spectral->sums[0];
        ck_assert(a->has_next);
        test_close(a->estimate.sigma, b->estimate.sigma, 1e-12);
        for (int i = 0; i < LYAP_SPECTRAL_MARKS * WIDE; i++)
            test_close(a->marks[i], b->marks[i], 1e-12);
        test_close(sum.rows[LYAP_REDUCE_SPECTRAL_UPPER][0],
                   whole.rows[LYAP_REDUCE_SPECTRAL_UPPER][0], 1e-12);
        lyap_partial_release(&sum);
    }
    ck_assert_int_eq(orders, 24);
    for (int r = 0; r < RANKS; r++)
        lyap_partial_release(&parts[r]);
    lyap_partial_release(&whole);
    lyap_spectral_plan_free(plan);
    fixture_free(&fixture);
}
END_TEST

/* A row that two ranks share, and a rank that is missing: nothing is measured. */
START_TEST(cut_and_missing_rows)
{
    struct fixture fixture;
    struct lyap_partial parts[2], sum;
    struct test_rng rng = { 7 };
    matrix_fixture(&fixture, TALL, WIDE);
    test_rng_normals(&rng, values, TALL * WIDE);
    struct lyap_spectral_plan *plan = first_plan(&fixture);
    fixture.spectral = plan;
    for (uint64_t cut = 0; cut < 2; cut++) { /* 0: a rank is missing */
        const uint64_t middle = cut ? 100 : 5 * WIDE;
        push_rows(&fixture, 0, middle, false, &parts[0]);
        push_rows(&fixture, middle, TALL * WIDE - middle, false, &parts[1]);
        ck_assert_int_eq(lyap_partial_init(&sum, 1, LYAP_SKETCH_SIZE), LYAP_OK);
        for (uint64_t r = 0; r <= cut; r++)
            ck_assert_int_eq(lyap_partial_add(&sum, &parts[r]), LYAP_OK);
        ck_assert_int_eq(lyap_spectral_finish(&sum), LYAP_OK);
        ck_assert(!sum.spectral->sums[0].has_next && sum.spectral->sums[0].is_cut == (cut == 1));
        struct lyap_spectral_state *state;
        ck_assert_int_eq(lyap_spectral_state_new(&fixture.declaration.set, &state), LYAP_OK);
        lyap_spectral_state_step(state, &sum, false);
        ck_assert_int_eq(state->tensors[0].view.reason,
                         cut ? LYAP_REASON_SHARD_LAYOUT : LYAP_REASON_WARMING_UP);
        ck_assert_double_nan(state->tensors[0].view.lower);
        lyap_spectral_state_free(state);
        lyap_partial_release(&sum);
        lyap_partial_release(&parts[0]);
        lyap_partial_release(&parts[1]);
    }
    lyap_spectral_plan_free(plan);
    fixture_free(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spectral_plan");
    TCase *tcase = tcase_create("spectral_plan");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, signs_are_even);
    tcase_add_test(tcase, kernels_give_the_same_bits);
    tcase_add_test(tcase, any_cut_of_the_bytes);
    tcase_add_test(tcase, shards_of_rows_in_every_order);
    tcase_add_test(tcase, cut_and_missing_rows);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
