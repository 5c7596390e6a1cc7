/* The intake's invariances: shards add up to the whole, sums scale as they must (SPEC 6.6). */
#include "intake_fixture.h"

#include <math.h>
#include <string.h>

enum { LONGEST = 9000 };
static const enum lyap_role roles[2] = { LYAP_ROLE_PARAM, LYAP_ROLE_GRAD };
static double values[2][2][LONGEST];

static void fill_values(void)
{
    struct test_rng rng = { 29 };
    for (int n = 0; n < 2; n++)
        for (int r = 0; r < 2; r++)
            test_rng_normals(&rng, values[n][r], LONGEST);
}

/* --- shards: a matrix cut into ranks, flat or in boxes */

enum { ROWS = 70, COLUMNS = 90 };

static void sharded_fixture(struct fixture *fixture)
{
    const uint64_t length = ROWS * COLUMNS;
    fixture_init(fixture, &length, 1);
    fixture->tensors[0].rank = 2;
    fixture->tensors[0].shape[0] = ROWS;
    fixture->tensors[0].shape[1] = COLUMNS;
    lyap_optimizer_defaults(&fixture->declaration.optimizer, LYAP_OPTIMIZER_SGD);
    fixture->declaration.optimizer.base.lr = 0.1;
    fixture->declaration.optimizer.base.momentum = 0.9;
}

struct box {
    uint64_t start[2], extent[2];
};

/* Pushes one rank's shard of step n. */
static void push_shard(struct fixture *fixture, const struct box *box, bool is_flat, int n,
                       const struct lyap_memory *previous, struct lyap_partial *ret_partial,
                       struct lyap_memory **ret_memory)
{
    static double parts[3][ROWS * COLUMNS];
    static char name[] = "t0";
    const enum lyap_role pushed[] = { LYAP_ROLE_PARAM, LYAP_ROLE_GRAD };
    struct lyap_shard shard = { .tensor = name, .shape = { ROWS, COLUMNS }, .rank = 2 };
    uint64_t count = 0;
    fixture_step(fixture, n);
    fixture_meta(fixture, "world", "4");
    for (int r = 0; r < 2; r++) {
        count = 0;
        for (uint64_t i = 0; i < box->extent[0]; i++)
            for (uint64_t j = 0; j < box->extent[1]; j++)
                parts[r][count++] = values[n][r][(box->start[0] + i) * COLUMNS + box->start[1] + j];
        fixture_add(fixture, pushed[r], 0, LYAP_DTYPE_F64, parts[r]);
        fixture->arrays[r].count = count;
        fixture->arrays[r].rank = 2;
        memcpy(fixture->arrays[r].shape, box->extent, sizeof box->extent);
    }
    shard.is_box = !is_flat;
    shard.offset = box->start[0] * COLUMNS + box->start[1];
    memcpy(shard.start, box->start, sizeof box->start);
    fixture->snapshot.shards = &shard;
    fixture->snapshot.shard_count = 1;
    fixture_must_push(fixture, previous, ret_partial, ret_memory);
    fixture->snapshot.shards = NULL;
    fixture->snapshot.shard_count = 0;
}

static const struct box whole_box = { { 0, 0 }, { ROWS, COLUMNS } };
static const struct {
    bool is_flat;
    struct box boxes[4];
} layouts[] = {
    { true,
      { { { 0, 0 }, { 7, COLUMNS } },
        { { 7, 0 }, { 1, 13 } },
        { { 7, 13 }, { 1, 77 } },
        { { 8, 0 }, { 62, COLUMNS } } } },
    { false,
      { { { 0, 0 }, { 31, 45 } },
        { { 31, 0 }, { 39, 45 } },
        { { 0, 45 }, { 31, 45 } },
        { { 31, 45 }, { 39, 45 } } } },
    { false,
      { { { 0, 0 }, { 16, COLUMNS } },
        { { 16, 0 }, { 16, COLUMNS } },
        { { 32, 0 }, { 16, COLUMNS } },
        { { 48, 0 }, { 22, COLUMNS } } } },
};

START_TEST(shards_add_up_to_the_whole)
{
    struct fixture fixture;
    struct lyap_partial whole, sum, part;
    struct lyap_memory *left[2] = { NULL, NULL };
    sharded_fixture(&fixture);
    for (int n = 0; n < 2; n++) {
        push_shard(&fixture, &whole_box, true, n, n ? left[0] : NULL, &whole, &left[n]);
        if (n == 0)
            lyap_partial_release(&whole);
    }
    lyap_memory_free(left[0]);
    lyap_memory_free(left[1]);
    ck_assert_int_eq(lyap_partial_init(&sum, 1, LYAP_SKETCH_SIZE), LYAP_OK);
    for (int b = 0; b < 4; b++) {
        const struct box *box = &layouts[_i].boxes[b];
        push_shard(&fixture, box, layouts[_i].is_flat, 0, NULL, &part, &left[0]);
        lyap_partial_release(&part);
        push_shard(&fixture, box, layouts[_i].is_flat, 1, left[0], &part, &left[1]);
        ck_assert_int_eq(lyap_partial_add(&sum, &part), LYAP_OK);
        lyap_partial_release(&part);
        lyap_memory_free(left[0]);
        lyap_memory_free(left[1]);
    }
    /* Blocks of 64 are cut elsewhere: their largest energy is a shard's own. */
    for (unsigned r = LYAP_REDUCE_PARAM_BLOCK_SQ; r <= LYAP_REDUCE_DELTA_BLOCK_SQ;
         r += LYAP_MOMENT_ROWS)
        sum.rows[r][0] = whole.rows[r][0];
    ck_assert(whole.rows[LYAP_REDUCE_PARAM_COUNT][0] == ROWS * COLUMNS);
    fixture_same(&sum, &whole, 1e-12);
    ck_assert_ptr_nonnull(sum.sketches[LYAP_SKETCH_DELTA]);
    lyap_partial_release(&sum);
    lyap_partial_release(&whole);
    fixture_free(&fixture);
}
END_TEST

/* SPEC 6.6 c, d: powers of two, so that the sums scale exactly. */
START_TEST(sums_scale_with_loss_and_parameters)
{
    static double scaled[2][2][LONGEST];
    const double cases[2][2] = { { 1, 4 }, { 4, 0.25 } }; /* factors of theta, g */
    const double theta = cases[_i][0], grad = cases[_i][1];
    struct fixture fixture;
    struct lyap_partial plain, other;
    struct lyap_memory *memory[2] = { NULL, NULL }, *left;
    const uint64_t length = LONGEST;
    fixture_init(&fixture, &length, 1);
    lyap_optimizer_defaults(&fixture.declaration.optimizer, LYAP_OPTIMIZER_SGD);
    fixture.declaration.optimizer.base.momentum = 0.9;
    for (int n = 0; n < 2; n++) {
        for (int k = 0; k < 2; k++) {
            const double factors[2] = { k ? theta : 1, k ? grad : 1 };
            fixture_step(&fixture, n);
            fixture.declaration.optimizer.base.lr = 0.125 * factors[0] / factors[1];
            for (int r = 0; r < 2; r++) {
                for (int i = 0; i < LONGEST; i++)
                    scaled[k][r][i] = factors[r] * values[n][r][i];
                fixture_add(&fixture, roles[r], 0, LYAP_DTYPE_F64, scaled[k][r]);
            }
            fixture_must_push(&fixture, memory[k], k ? &other : &plain, &left);
            lyap_memory_free(memory[k]);
            memory[k] = left;
        }
        if (n == 0) {
            lyap_partial_release(&plain);
            lyap_partial_release(&other);
        }
    }
    const struct {
        enum lyap_reduce row;
        double factor;
    } rows[] = { { LYAP_REDUCE_GRAD_DELTA, theta * grad },
                 { LYAP_REDUCE_GRAD_PREV_DELTA, theta * grad },
                 { LYAP_REDUCE_DELTA_SQ, theta * theta },
                 { LYAP_REDUCE_GRAD_DIFF_SQ, grad * grad },
                 { LYAP_REDUCE_STEP_SQ, theta * theta },
                 { LYAP_REDUCE_GRAD_STEP, theta * grad },
                 { LYAP_REDUCE_UPDATE_ERROR_SQ, theta * theta } };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        test_close(other.rows[rows[i].row][0] / (rows[i].factor * plain.rows[rows[i].row][0]), 1,
                   1e-13);
    lyap_partial_release(&plain);
    lyap_partial_release(&other);
    lyap_memory_free(memory[0]);
    lyap_memory_free(memory[1]);
    fixture_free(&fixture);
}
END_TEST

/* Pushed gradients are clip_factor times the true ones. */
START_TEST(clip_factor_is_divided_out)
{
    static double clipped[2][LONGEST];
    struct fixture fixture;
    struct lyap_partial plain, other;
    struct lyap_memory *memory[2] = { NULL, NULL }, *left;
    const uint64_t length = LONGEST;
    fixture_init(&fixture, &length, 1);
    lyap_optimizer_defaults(&fixture.declaration.optimizer, LYAP_OPTIMIZER_SGD);
    for (int n = 0; n < 2; n++) {
        for (int k = 0; k < 2; k++) {
            fixture_step(&fixture, n);
            fixture_meta(&fixture, "lr", "0.1");
            if (k == 1)
                fixture_meta(&fixture, "clip_factor", n ? "0.5" : "0.25");
            for (int i = 0; i < LONGEST; i++)
                clipped[k][i] = values[n][1][i] * (k ? (n ? 0.5 : 0.25) : 1);
            fixture_add(&fixture, LYAP_ROLE_PARAM, 0, LYAP_DTYPE_F64, values[n][0]);
            fixture_add(&fixture, LYAP_ROLE_GRAD, 0, LYAP_DTYPE_F64, clipped[k]);
            fixture_must_push(&fixture, memory[k], k ? &other : &plain, &left);
            lyap_memory_free(memory[k]);
            memory[k] = left;
        }
        fixture_same(&other, &plain, 0);
        lyap_partial_release(&plain);
        lyap_partial_release(&other);
    }
    lyap_memory_free(memory[0]);
    lyap_memory_free(memory[1]);
    fixture_free(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("intake_shards");
    TCase *tcase = tcase_create("all");
    fill_values();
    tcase_add_loop_test(tcase, shards_add_up_to_the_whole, 0, 3);
    tcase_add_loop_test(tcase, sums_scale_with_loss_and_parameters, 0, 2);
    tcase_add_test(tcase, clip_factor_is_divided_out);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
