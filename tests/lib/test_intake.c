/* The intake as a whole: cuts, orders, non-finite values, retention, state, errors, memory. */
#include "intake_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "memory.h"

enum { TENSORS = 3, LONGEST = 9000, ROLES = 7 };
static const uint64_t lengths[TENSORS] = { 3, 4096, LONGEST };
static const enum lyap_role roles[ROLES] = { LYAP_ROLE_PARAM,      LYAP_ROLE_GRAD,
                                             LYAP_ROLE_EXP_AVG,    LYAP_ROLE_EXP_AVG_SQ,
                                             LYAP_ROLE_PROBE_GRAD, LYAP_ROLE_PAIR_S,
                                             LYAP_ROLE_PAIR_Y };
static double values[2][ROLES][TENSORS][LONGEST];

static void fill_values(void)
{
    struct test_rng rng = { 23 };
    for (int n = 0; n < 2; n++)
        for (int r = 0; r < ROLES; r++)
            for (int t = 0; t < TENSORS; t++)
                for (uint64_t i = 0; i < lengths[t]; i++) {
                    double x = test_rng_normal(&rng);
                    if (r == 0 && n == 1) /* a small step */
                        x = values[0][0][t][i] + 1e-3 * x;
                    values[n][r][t][i] = roles[r] == LYAP_ROLE_EXP_AVG_SQ ? x * x : x;
                }
}

/* Step n of an Adam run: all roles of all tensors, tensor by tensor. */
static void body(struct fixture *fixture, int n)
{
    fixture_step(fixture, n);
    fixture_meta(fixture, "loss", "0.5");
    fixture_meta(fixture, "lr", "0.001");
    fixture_meta(fixture, "optimizer_step", n ? "8" : "7");
    for (uint32_t t = 0; t < TENSORS; t++)
        for (int r = 0; r < ROLES; r++)
            fixture_add(fixture, roles[r], t, LYAP_DTYPE_F32, values[n][r][t]);
}

static void adam(struct fixture *fixture)
{
    fixture_init(fixture, lengths, TENSORS);
    lyap_optimizer_defaults(&fixture->declaration.optimizer, LYAP_OPTIMIZER_ADAM);
}

static struct lyap_memory *push_first(struct fixture *fixture)
{
    struct lyap_partial partial;
    struct lyap_memory *memory;
    body(fixture, 0);
    fixture_must_push(fixture, NULL, &partial, &memory);
    lyap_partial_release(&partial);
    ck_assert_ptr_nonnull(memory);
    return memory;
}

static void check_same_planes(const struct lyap_memory *a, const struct lyap_memory *b)
{
    for (uint32_t t = 0; t < TENSORS; t++)
        for (unsigned p = 0; p < LYAP_PLANE_COUNT; p++)
            ck_assert_mem_eq(lyap_memory_slot_bytes(a, t, (enum lyap_plane)p),
                             lyap_memory_slot_bytes(b, t, (enum lyap_plane)p),
                             lengths[t] * lyap_dtype_bytes(b->tensors[t].slots[p].dtype));
}

START_TEST(cuts_do_not_matter)
{
    struct fixture fixture;
    struct lyap_partial whole, cut;
    struct lyap_memory *memory, *memory_whole, *memory_cut;
    adam(&fixture);
    memory = push_first(&fixture);
    body(&fixture, 1);
    fixture_must_push(&fixture, memory, &whole, &memory_whole);
    for (uint64_t seed = 1; seed <= 6; seed++) {
        fixture.cut_seed = seed;
        fixture_must_push(&fixture, memory, &cut, &memory_cut);
        fixture_same(&cut, &whole, 0);
        check_same_planes(memory_cut, memory_whole);
        lyap_partial_release(&cut);
        lyap_memory_free(memory_cut);
    }
    ck_assert_ptr_nonnull(whole.sketches[LYAP_SKETCH_PAIR_Y]);
    ck_assert_ptr_nonnull(whole.rows[LYAP_REDUCE_DELTA_P_PREV]);
    lyap_partial_release(&whole);
    lyap_memory_free(memory_whole);
    lyap_memory_free(memory);
    fixture_free(&fixture);
}
END_TEST

/* Role by role, as writers that sort by name send them, and shuffled. */
START_TEST(order_does_not_matter)
{
    struct fixture fixture;
    struct lyap_partial plain, other;
    struct lyap_memory *memory, *left;
    struct test_rng rng = { 3 };
    adam(&fixture);
    memory = push_first(&fixture);
    body(&fixture, 1);
    fixture_must_push(&fixture, memory, &plain, &left);
    lyap_memory_free(left);
    for (int round = 0; round < 6; round++) {
        for (uint32_t i = fixture.array_count; i > 1; i--) {
            const uint32_t j = (uint32_t)(test_rng_u64(&rng) % i);
            const struct fixture_array swapped = fixture.arrays[i - 1];
            fixture.arrays[i - 1] = fixture.arrays[j];
            fixture.arrays[j] = swapped;
        }
        fixture_must_push(&fixture, memory, &other, &left);
        fixture_same(&other, &plain, 1e-12);
        for (unsigned r = 0; r < LYAP_REDUCE_COUNT; r++)
            if (plain.rows[r])
                ck_assert_mem_eq(other.rows[r], plain.rows[r], TENSORS * sizeof(double));
        lyap_partial_release(&other);
        lyap_memory_free(left);
    }
    lyap_partial_release(&plain);
    lyap_memory_free(memory);
    fixture_free(&fixture);
}
END_TEST

/* --- non-finite values */

START_TEST(nonfinite_elements_are_counted_skipped_and_not_remembered)
{
    static double spoiled[LONGEST], cleaned[LONGEST];
    const uint64_t places[] = { 0, 1, 511, 512, 4095, 4096, LONGEST - 1 };
    const double kinds[] = { NAN, INFINITY, -INFINITY };
    struct fixture fixture;
    struct lyap_partial bad, good;
    struct lyap_memory *memory, *left;
    adam(&fixture);
    memory = push_first(&fixture);
    for (int r = 0; r < 2; r++) { /* in param, in grad */
        body(&fixture, 1);
        const uint32_t array = 2 * ROLES + (uint32_t)r;
        memcpy(spoiled, values[1][r][2], sizeof spoiled);
        memcpy(cleaned, spoiled, sizeof cleaned);
        for (unsigned p = 0; p < sizeof places / sizeof *places; p++) {
            spoiled[places[p]] = kinds[p % 3];
            /* A skipped theta moves nothing; a skipped gradient is zero. */
            cleaned[places[p]] = r == 0 ? values[0][0][2][places[p]] : 0;
        }
        fixture.arrays[array].values = cleaned;
        fixture_must_push(&fixture, memory, &good, &left);
        ck_assert_ptr_nonnull(left);
        lyap_memory_free(left);
        fixture.arrays[array].values = spoiled;
        fixture_must_push(&fixture, memory, &bad, &left);
        ck_assert_ptr_null(left);
        ck_assert(bad.rows[r == 0 ? LYAP_REDUCE_PARAM_NONFINITE : LYAP_REDUCE_GRAD_NONFINITE][2] ==
                  7);
        const enum lyap_reduce same[] = { LYAP_REDUCE_DELTA_SQ, LYAP_REDUCE_GRAD_DELTA,
                                          LYAP_REDUCE_GRAD_DIFF_SQ, LYAP_REDUCE_GRAD_PREV_DELTA };
        for (unsigned i = 0; i < 4; i++)
            ck_assert_msg(bad.rows[same[i]][2] == good.rows[same[i]][2], "%s: %g, expected %g",
                          lyap_reduce_name(same[i]), bad.rows[same[i]][2], good.rows[same[i]][2]);
        for (unsigned row = 0; row < LYAP_REDUCE_COUNT; row++)
            for (int t = 0; bad.rows[row] && t < TENSORS; t++)
                ck_assert(isfinite(bad.rows[row][t]));
        for (unsigned s = 0; s < LYAP_SKETCH_COUNT; s++)
            for (int i = 0; i < LYAP_SKETCH_SIZE; i++)
                ck_assert(isfinite(bad.sketches[s][i]));
        lyap_partial_release(&bad);
        lyap_partial_release(&good);
    }
    lyap_memory_free(memory);
    fixture_free(&fixture);
}
END_TEST

START_TEST(skipped_steps_and_nonfinite_losses_leave_no_memory)
{
    static const char *const metas[][2] = { { "skipped", "true" }, { "loss", "NaN" } };
    struct fixture fixture;
    struct lyap_partial partial;
    struct lyap_memory *memory;
    adam(&fixture);
    for (int i = 0; i < 2; i++) {
        fixture_step(&fixture, 0);
        for (uint32_t t = 0; t < TENSORS; t++)
            fixture_add(&fixture, LYAP_ROLE_PARAM, t, LYAP_DTYPE_F64, values[0][0][t]);
        fixture_meta(&fixture, metas[i][0], metas[i][1]);
        fixture_must_push(&fixture, NULL, &partial, &memory);
        ck_assert_ptr_null(memory);
        ck_assert_ptr_null(partial.rows[LYAP_REDUCE_GRAD_SQ]);
        lyap_partial_release(&partial);
    }
    fixture_free(&fixture);
}
END_TEST

/* --- retention */

START_TEST(sketch_retention_holds_roles_that_lie_side_by_side)
{
    struct fixture fixture;
    struct lyap_partial exact, held, apart;
    struct lyap_memory *memory;
    adam(&fixture);
    body(&fixture, 1);
    fixture_must_push(&fixture, NULL, &exact, &memory);
    lyap_memory_free(memory);
    fixture.retention = LYAP_RETENTION_SKETCH;
    fixture_must_push(&fixture, NULL, &held, &memory);
    ck_assert_ptr_null(memory);
    fixture_same(&held, &exact, 0);
    ck_assert(!held.is_role_order);

    fixture.hold_bytes_max = 6 * 4096 * 4; /* the longest tensor does not fit */
    fixture_must_push(&fixture, NULL, &apart, &memory);
    ck_assert(apart.is_role_order);
    ck_assert(apart.rows[LYAP_REDUCE_GRAD_PARAM][1] == exact.rows[LYAP_REDUCE_GRAD_PARAM][1]);
    ck_assert(isnan(apart.rows[LYAP_REDUCE_GRAD_PARAM][2]));
    ck_assert(isnan(apart.rows[LYAP_REDUCE_STEP_SQ][2]));
    ck_assert(apart.rows[LYAP_REDUCE_GRAD_SQ][2] == exact.rows[LYAP_REDUCE_GRAD_SQ][2]);
    ck_assert_ptr_null(apart.sketches[LYAP_SKETCH_PAIR_S]); /* would lack a tensor */
    ck_assert_mem_eq(apart.sketches[LYAP_SKETCH_GRAD], exact.sketches[LYAP_SKETCH_GRAD],
                     LYAP_SKETCH_SIZE * sizeof(double));
    lyap_partial_release(&apart);
    lyap_partial_release(&held);
    lyap_partial_release(&exact);
    fixture_free(&fixture);
}
END_TEST

/* Plain SGD's step follows from the gradient's moments alone. */
START_TEST(a_plain_step_needs_no_products)
{
    struct fixture fixture;
    struct lyap_partial partial;
    struct lyap_memory *memory;
    fixture_init(&fixture, lengths, TENSORS);
    lyap_optimizer_defaults(&fixture.declaration.optimizer, LYAP_OPTIMIZER_SGD);
    fixture.retention = LYAP_RETENTION_SKETCH;
    fixture.hold_bytes_max = 0;
    fixture_step(&fixture, 5);
    fixture_meta(&fixture, "lr", "0.5");
    for (int r = 0; r < 2; r++)
        for (uint32_t t = 0; t < TENSORS; t++)
            fixture_add(&fixture, roles[r], t, LYAP_DTYPE_F64, values[0][r][t]);
    fixture_must_push(&fixture, NULL, &partial, &memory);
    ck_assert(partial.is_role_order);
    for (int t = 0; t < TENSORS; t++) {
        const double sq = partial.rows[LYAP_REDUCE_GRAD_SQ][t];
        ck_assert(partial.rows[LYAP_REDUCE_STEP_SQ][t] == 0.25 * sq);
        ck_assert(partial.rows[LYAP_REDUCE_GRAD_STEP][t] == -0.5 * sq);
    }
    ck_assert_ptr_null(partial.rows[LYAP_REDUCE_GRAD_PARAM]);
    lyap_partial_release(&partial);
    fixture_free(&fixture);
}
END_TEST

START_TEST(old_planes_are_recycled)
{
    struct fixture fixture;
    struct lyap_partial fresh, reused;
    struct lyap_memory *memory, *left;
    adam(&fixture);
    struct lyap_memory *old = push_first(&fixture);
    memory = push_first(&fixture);
    body(&fixture, 1);
    const unsigned char *plane = old->planes[LYAP_PLANE_GRAD];
    fixture_must_push(&fixture, memory, &fresh, &left);
    lyap_memory_free(left);
    ck_assert_int_eq(fixture_push(&fixture, memory, old, &reused, &left), LYAP_OK);
    ck_assert_ptr_eq(left->planes[LYAP_PLANE_GRAD], plane);
    fixture_same(&reused, &fresh, 0);
    /* The estimate knows neither probes nor alignment. */
    const uint64_t used = lyap_memory_bytes(left) - left->plane_bytes[LYAP_PLANE_PROBE];
    const uint64_t estimate =
        lyap_memory_bytes_estimate(&fixture.declaration, (3 + 4096 + LONGEST) * 4);
    ck_assert_uint_le(estimate, 2 * used + 2 * used / 100);
    ck_assert_uint_ge(estimate, 2 * used - 2 * used / 100);
    lyap_partial_release(&fresh);
    lyap_partial_release(&reused);
    lyap_memory_free(left);
    lyap_memory_free(memory);
    fixture_free(&fixture);
}
END_TEST

/* --- state */

/* A late joiner knows no m, v; after a push with them it does; after a gap it does not. */
START_TEST(state_is_known_only_without_gaps)
{
    struct fixture fixture;
    struct lyap_partial partial;
    struct lyap_memory *memory = NULL, *next;
    adam(&fixture);
    for (int n = 0; n < 2; n++) {
        fixture_step(&fixture, 50 + n);
        fixture_meta(&fixture, "lr", "0.001");
        for (int r = 0; r < 2; r++)
            for (uint32_t t = 0; t < TENSORS; t++)
                fixture_add(&fixture, roles[r], t, LYAP_DTYPE_F64, values[n][r][t]);
        fixture_must_push(&fixture, memory, &partial, &next);
        ck_assert(!partial.is_state_exact);
        ck_assert_ptr_null(partial.rows[LYAP_REDUCE_STEP_SQ]);
        ck_assert((partial.rows[LYAP_REDUCE_GRAD_DELTA] != NULL) == (n == 1));
        lyap_partial_release(&partial);
        lyap_memory_free(memory);
        memory = next;
    }
    lyap_memory_free(memory);
    memory = push_first(&fixture); /* with state */
    for (uint64_t updates = 0; updates <= 2; updates++) {
        fixture_step(&fixture, 1);
        fixture_meta(&fixture, "lr", "0.001");
        fixture.updates = updates;
        for (int r = 0; r < 2; r++)
            for (uint32_t t = 0; t < TENSORS; t++)
                fixture_add(&fixture, roles[r], t, LYAP_DTYPE_F64, values[1][r][t]);
        fixture_must_push(&fixture, memory, &partial, &next);
        ck_assert(partial.is_state_exact == (updates <= 1));
        ck_assert((partial.rows[LYAP_REDUCE_STEP_SQ] != NULL) == (updates <= 1));
        ck_assert((partial.rows[LYAP_REDUCE_UPDATE_ERROR_SQ] != NULL) == (updates == 1));
        /* The update is no Adam step: the state that was rebuilt is dropped. */
        ck_assert_int_eq(next->tensors[2].state[LYAP_STATE_FIRST],
                         updates == 0 ? LYAP_STATE_KEPT : LYAP_STATE_NONE);
        lyap_partial_release(&partial);
        lyap_memory_free(next);
    }
    lyap_memory_free(memory);
    fixture_free(&fixture);
}
END_TEST

/* A tensor without gradient did not move and has no part in any sum. */
START_TEST(frozen_tensors_count_as_zero)
{
    struct fixture fixture;
    struct lyap_partial partial;
    struct lyap_memory *memory = NULL, *next;
    adam(&fixture);
    for (int n = 0; n < 2; n++) {
        fixture_step(&fixture, n);
        fixture_meta(&fixture, "lr", "0.001");
        for (uint32_t t = 0; t < TENSORS; t++) {
            fixture_add(&fixture, LYAP_ROLE_PARAM, t, LYAP_DTYPE_F64, values[t == 1 ? 0 : n][0][t]);
            if (t != 1)
                fixture_add(&fixture, LYAP_ROLE_GRAD, t, LYAP_DTYPE_F64, values[n][1][t]);
        }
        fixture_must_push(&fixture, memory, &partial, &next);
        ck_assert(partial.rows[LYAP_REDUCE_GRAD_COUNT][1] == 0);
        ck_assert(partial.rows[LYAP_REDUCE_GRAD_SQ][1] == 0);
        ck_assert(partial.rows[LYAP_REDUCE_STEP_SQ][1] == 0);
        ck_assert(partial.is_state_exact);
        for (unsigned r = 0; r < LYAP_REDUCE_COUNT; r++)
            for (int t = 0; partial.rows[r] && t < TENSORS; t++)
                ck_assert_msg(!isnan(partial.rows[r][t]), "%s[%d] at step %d",
                              lyap_reduce_name((enum lyap_reduce)r), t, n);
        if (n == 1) {
            ck_assert(partial.rows[LYAP_REDUCE_DELTA_SQ][1] == 0);
            ck_assert(partial.rows[LYAP_REDUCE_UPDATE_ERROR_SQ][1] == 0);
        }
        lyap_partial_release(&partial);
        lyap_memory_free(memory);
        memory = next;
    }
    lyap_memory_free(memory);
    fixture_free(&fixture);
}
END_TEST

/* --- errors */

static void check_error(const struct fixture *fixture, enum lyap_status expected, const char *word)
{
    struct lyap_partial partial;
    struct lyap_memory *memory;
    ck_assert_int_eq(fixture_push(fixture, NULL, NULL, &partial, &memory), expected);
    ck_assert_msg(strstr(fixture_error.text, word) != NULL, "'%s' does not name %s",
                  fixture_error.text, word);
    ck_assert_ptr_null(memory);
}

START_TEST(bad_bodies_are_named)
{
    static char name[] = "t2", unknown[] = "nowhere";
    struct lyap_shard shard = { .tensor = name, .shape = { LONGEST }, .rank = 1 };
    struct fixture fixture;
    adam(&fixture);
    body(&fixture, 0);
    fixture.array_count = 2 * ROLES; /* tensor 2 is missing */
    check_error(&fixture, LYAP_E_TENSOR_SET, "param/t2");
    body(&fixture, 0);
    fixture.arrays[ROLES + 1].count = 4095;
    check_error(&fixture, LYAP_E_TENSOR_SET, "4095");
    body(&fixture, 0);
    fixture_add(&fixture, LYAP_ROLE_GRAD, 1, LYAP_DTYPE_F32, values[0][1][1]);
    check_error(&fixture, LYAP_E_CONTRADICTION, "grad/t1");
    fixture_step(&fixture, 0);
    fixture_meta(&fixture, "lr", "0.1,0.2,0.3");
    for (uint32_t t = 0; t < TENSORS; t++)
        fixture_add(&fixture, LYAP_ROLE_PARAM, t, LYAP_DTYPE_F32, values[0][0][t]);
    check_error(&fixture, LYAP_E_INVALID, "lr");

    body(&fixture, 0);
    fixture.snapshot.shards = &shard;
    fixture.snapshot.shard_count = 1;
    shard.offset = 1;
    check_error(&fixture, LYAP_E_SHARD_COVERAGE, "offset");
    shard.offset = 0;
    shard.is_box = true;
    shard.start[0] = 1;
    check_error(&fixture, LYAP_E_SHARD_COVERAGE, "start");
    shard.shape[0] = 5;
    check_error(&fixture, LYAP_E_SHARD_COVERAGE, "shape");
    shard.tensor = unknown;
    check_error(&fixture, LYAP_E_TENSOR_SET, "nowhere");
    fixture.snapshot.shards = NULL;
    fixture.snapshot.shard_count = 0;
    fixture_free(&fixture);
}
END_TEST

START_TEST(a_short_entry_does_not_finish)
{
    struct fixture fixture;
    struct lyap_intake *intake = NULL;
    struct lyap_partial partial;
    struct lyap_memory *memory;
    struct lyap_intake_entry entries[TENSORS];
    adam(&fixture);
    const struct lyap_intake_config config = { .declaration = &fixture.declaration,
                                               .snapshot = &fixture.snapshot,
                                               .retention = LYAP_RETENTION_SKETCH };
    for (uint32_t t = 0; t < TENSORS; t++)
        entries[t] = (struct lyap_intake_entry){
            .what = LYAP_ROLE_PARAM, .tensor = t, .dtype = LYAP_DTYPE_F64, .count = lengths[t]
        };
    ck_assert_int_eq(lyap_intake_new(&config, &intake, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_intake_plan(intake, entries, TENSORS, NULL), LYAP_OK);
    lyap_intake_bytes(intake, 0, values[0][0][0], 3 * 8);
    lyap_intake_bytes(intake, 1, values[0][0][1], 4096 * 8 - 1);
    ck_assert_int_eq(lyap_intake_finish(intake, &partial, &memory), LYAP_E_FORMAT);
    lyap_intake_free(intake);
    fixture_free(&fixture);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    struct fixture fixture;
    struct lyap_partial partial;
    struct lyap_memory *memory, *left;
    enum lyap_status status;
    test_alloc_install();
    adam(&fixture);
    memory = push_first(&fixture);
    body(&fixture, 1);
    const int64_t live = test_alloc_live();
    for (uint64_t n = 1;; n++) {
        test_alloc_fail_at(n);
        status = fixture_push(&fixture, memory, NULL, &partial, &left);
        if (status == LYAP_OK)
            break;
        ck_assert_int_eq(status, LYAP_E_NOMEM);
        ck_assert_int_eq(test_alloc_live(), live);
        ck_assert(n < 1000);
    }
    test_alloc_fail_at(0);
    lyap_partial_release(&partial);
    lyap_memory_free(left);
    lyap_memory_free(memory);
    fixture_free(&fixture);
    ck_assert_int_eq(test_alloc_live(), 0);
    lyap_alloc_set_hooks(NULL);
}
END_TEST

/* A tensor of no elements, and bodies where it is first, last or alone in its role. */
START_TEST(empty_tensors_close_by_themselves)
{
    const uint64_t counts[3] = { 0, 70, 0 };
    struct fixture fixture;
    struct lyap_partial partial;
    struct lyap_memory *memory = NULL, *next;
    fixture_init(&fixture, counts, 3);
    lyap_optimizer_defaults(&fixture.declaration.optimizer, LYAP_OPTIMIZER_SGD);
    for (int n = 0; n < 2; n++) {
        fixture_step(&fixture, n);
        for (uint32_t t = 0; t < 3; t++)
            for (int r = 0; r < 2; r++)
                fixture_add(&fixture, roles[r], t, LYAP_DTYPE_F64, values[n][r][1]);
        fixture_must_push(&fixture, memory, &partial, &next);
        ck_assert(partial.rows[LYAP_REDUCE_PARAM_COUNT][0] == 0);
        ck_assert(partial.rows[LYAP_REDUCE_GRAD_PARAM][2] == 0);
        ck_assert(partial.rows[LYAP_REDUCE_PARAM_COUNT][1] == 70);
        lyap_partial_release(&partial);
        lyap_memory_free(memory);
        memory = next;
    }
    lyap_memory_free(memory);
    fixture_free(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("intake");
    TCase *tcase = tcase_create("all");
    fill_values();
    tcase_add_test(tcase, cuts_do_not_matter);
    tcase_add_test(tcase, order_does_not_matter);
    tcase_add_test(tcase, nonfinite_elements_are_counted_skipped_and_not_remembered);
    tcase_add_test(tcase, skipped_steps_and_nonfinite_losses_leave_no_memory);
    tcase_add_test(tcase, sketch_retention_holds_roles_that_lie_side_by_side);
    tcase_add_test(tcase, a_plain_step_needs_no_products);
    tcase_add_test(tcase, old_planes_are_recycled);
    tcase_add_test(tcase, state_is_known_only_without_gaps);
    tcase_add_test(tcase, frozen_tensors_count_as_zero);
    tcase_add_test(tcase, bad_bodies_are_named);
    tcase_add_test(tcase, a_short_entry_does_not_finish);
    tcase_add_test(tcase, every_allocation_may_fail);
    tcase_add_test(tcase, empty_tensors_close_by_themselves);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
