/* Both grades: a push of tensors, and a push of the rows and sketches made of the same tensors. */
#include "intake_fixture.h"

#include <math.h>
#include <string.h>

enum { TENSORS = 2, LONGEST = 5000 };
static const uint64_t lengths[TENSORS] = { LONGEST, 10 };
static double values[2][5][LONGEST];
static const enum lyap_role roles[5] = { LYAP_ROLE_PARAM, LYAP_ROLE_GRAD, LYAP_ROLE_PROBE_GRAD,
                                         LYAP_ROLE_PAIR_S, LYAP_ROLE_PAIR_Y };

/* The second of two full pushes. */
static void full_push(struct fixture *fixture, struct lyap_partial *ret_partial)
{
    struct test_rng rng = { 4 };
    struct lyap_memory *memory = NULL, *left;
    for (int n = 0; n < 2; n++) {
        fixture_step(fixture, n);
        fixture_meta(fixture, "lr", "0.1");
        for (int r = 0; r < 5; r++) {
            test_rng_normals(&rng, values[n][r], LONGEST);
            for (uint32_t t = 0; t < TENSORS; t++)
                fixture_add(fixture, roles[r], t, LYAP_DTYPE_F32, values[n][r]);
        }
        fixture_must_push(fixture, memory, ret_partial, &left);
        lyap_memory_free(memory);
        memory = left;
        if (n == 0)
            lyap_partial_release(ret_partial);
    }
    lyap_memory_free(memory);
}

struct sent {
    struct lyap_intake_entry entries[LYAP_REDUCE_COUNT + LYAP_SKETCH_COUNT];
    const double *values[LYAP_REDUCE_COUNT + LYAP_SKETCH_COUNT];
    uint32_t count;
};

/* Every row and sketch of a partial, as entries of a body; `without` leaves one row out. */
static struct sent entries_of(const struct lyap_partial *partial, int without)
{
    struct sent sent = { .count = 0 };
    for (unsigned r = 0; r < LYAP_REDUCE_COUNT; r++) {
        if (!partial->rows[r] || (int)r == without)
            continue;
        sent.values[sent.count] = partial->rows[r];
        sent.entries[sent.count++] =
            (struct lyap_intake_entry){ .kind = LYAP_INTAKE_REDUCE,
                                        .what = r,
                                        .dtype = LYAP_DTYPE_F64,
                                        .count = (uint64_t)partial->tensor_count *
                                                 lyap_reduce_width((enum lyap_reduce)r) };
    }
    for (unsigned s = 0; s < LYAP_SKETCH_COUNT; s++) {
        if (!partial->sketches[s] || (int)(LYAP_REDUCE_COUNT + s) == without)
            continue;
        sent.values[sent.count] = partial->sketches[s];
        sent.entries[sent.count++] = (struct lyap_intake_entry){ .kind = LYAP_INTAKE_SKETCH,
                                                                 .what = s,
                                                                 .dtype = LYAP_DTYPE_F64,
                                                                 .count = partial->sketch_size };
    }
    return sent;
}

static enum lyap_status push_entries(const struct fixture *fixture, const struct sent *sent,
                                     struct lyap_partial *ret_partial)
{
    const struct lyap_intake_config config = { .declaration = &fixture->declaration,
                                               .snapshot = &fixture->snapshot,
                                               .retention = LYAP_RETENTION_EXACT,
                                               .updates = 1 };
    struct lyap_intake *intake = NULL;
    struct lyap_memory *memory = NULL;
    fixture_error = (struct lyap_error)LYAP_ERROR_NULL;
    *ret_partial = (struct lyap_partial)LYAP_PARTIAL_NULL;
    ck_assert_int_eq(lyap_intake_new(&config, &intake, &fixture_error), LYAP_OK);
    enum lyap_status status = lyap_intake_plan(intake, sent->entries, sent->count, &fixture_error);
    for (uint32_t i = 0; status == LYAP_OK && i < sent->count; i++) {
        const unsigned char *bytes = (const unsigned char *)sent->values[i];
        const uint64_t length = sent->entries[i].count * 8;
        for (uint64_t at = 0, taken; at < length; at += taken) {
            taken = length - at < 13 ? length - at : 13;
            lyap_intake_bytes(intake, i, bytes + at, taken);
        }
    }
    if (status == LYAP_OK)
        status = lyap_intake_finish(intake, ret_partial, &memory);
    ck_assert_ptr_null(memory);
    lyap_intake_free(intake);
    return status;
}

static void setup(struct fixture *fixture, struct lyap_partial *ret_full)
{
    fixture_init(fixture, lengths, TENSORS);
    lyap_optimizer_defaults(&fixture->declaration.optimizer, LYAP_OPTIMIZER_SGD);
    full_push(fixture, ret_full);
    fixture_step(fixture, 1);
}

START_TEST(both_grades_give_the_same_partial)
{
    struct fixture fixture;
    struct lyap_partial full, partial;
    setup(&fixture, &full);
    fixture_meta(&fixture, "delta_unit", "5.9604644775390625e-08");
    fixture_meta(&fixture, "grad_unit", "5.9604644775390625e-08");
    const struct sent sent = entries_of(&full, -1);
    ck_assert_uint_gt(sent.count, 40);
    ck_assert_msg(push_entries(&fixture, &sent, &partial) == LYAP_OK, "%s", fixture_error.text);
    fixture_same(&partial, &full, 0);
    lyap_partial_release(&partial);
    lyap_partial_release(&full);
    fixture_free(&fixture);
}
END_TEST

START_TEST(what_must_be_there_is_named)
{
    struct fixture fixture;
    struct lyap_partial full, partial;
    setup(&fixture, &full);
    for (int row = 0; row < LYAP_REDUCE_COUNT + LYAP_SKETCH_COUNT; row++) {
        const bool is_row = row < LYAP_REDUCE_COUNT;
        const bool is_needed = row < 2 * LYAP_MOMENT_ROWS ||
                               row == LYAP_REDUCE_COUNT + LYAP_SKETCH_PARAM ||
                               row == LYAP_REDUCE_COUNT + LYAP_SKETCH_GRAD;
        const struct sent sent = entries_of(&full, row);
        const enum lyap_status status = push_entries(&fixture, &sent, &partial);
        ck_assert_int_eq(status, is_needed ? LYAP_E_MISSING_FIELD : LYAP_OK);
        const char *name = is_row ? lyap_reduce_name((enum lyap_reduce)row)
                                  : lyap_sketch_name(row - LYAP_REDUCE_COUNT);
        ck_assert(!is_needed || strstr(fixture_error.text, name));
        lyap_partial_release(&partial);
    }
    lyap_partial_release(&full);
    fixture_free(&fixture);
}
END_TEST

START_TEST(bad_entries_are_named)
{
    static const struct {
        enum lyap_dtype dtype;
        uint64_t count;
        const char *word;
    } cases[] = { { LYAP_DTYPE_F32, TENSORS, "F64" },
                  { LYAP_DTYPE_F64, TENSORS + 1, "one per declared tensor" } };
    struct fixture fixture;
    struct lyap_partial full, partial;
    setup(&fixture, &full);
    for (unsigned i = 0; i < 2; i++) {
        struct sent sent = entries_of(&full, -1);
        sent.entries[3].dtype = cases[i].dtype;
        sent.entries[3].count = cases[i].count;
        ck_assert_int_eq(push_entries(&fixture, &sent, &partial), LYAP_E_INVALID);
        ck_assert_ptr_nonnull(strstr(fixture_error.text, cases[i].word));
        ck_assert_ptr_nonnull(strstr(fixture_error.text, "reduce/param_zeros"));
    }
    struct sent sent = entries_of(&full, -1);
    sent.entries[1].what = sent.entries[0].what;
    ck_assert_int_eq(push_entries(&fixture, &sent, &partial), LYAP_E_CONTRADICTION);
    sent = entries_of(&full, -1);
    sent.entries[0] = (struct lyap_intake_entry){ .kind = LYAP_INTAKE_TENSOR,
                                                  .what = LYAP_ROLE_PARAM,
                                                  .dtype = LYAP_DTYPE_F64,
                                                  .count = LONGEST };
    ck_assert_int_eq(push_entries(&fixture, &sent, &partial), LYAP_E_CONTRADICTION);
    lyap_partial_release(&full);
    fixture_free(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("intake_grade");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, both_grades_give_the_same_partial);
    tcase_add_test(tcase, what_must_be_there_is_named);
    tcase_add_test(tcase, bad_entries_are_named);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
