/* The partial grade on the client's side: rows by hand, predecessors, refusals, memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "grade.h"
#include "support.h"

enum { COUNT = 4 };

static const uint64_t shape[] = { 2, 2 };
static double theta[2][COUNT] = { { 1, -2, 3, 4 }, { 0.9, -1.8, 2.7, 3.6 } };
static double gradient[2][COUNT] = { { 1, -2, 3, 4 }, { 2, 0, 1, -1 } };

static struct lyap_client_push make_push(int64_t step, struct lyap_client_array arrays[2])
{
    arrays[0] = (struct lyap_client_array){ LYAP_ROLE_PARAM, "w", LYAP_DTYPE_F64, 2, shape,
                                            theta[step % 2] };
    arrays[1] = (struct lyap_client_array){ LYAP_ROLE_GRAD,    "w", LYAP_DTYPE_F64, 2, shape,
                                            gradient[step % 2] };
    return (struct lyap_client_push){ .step = step,
                                      .has_loss = true,
                                      .has_lr = true,
                                      .loss = 1,
                                      .lr = 0.1,
                                      .arrays = arrays,
                                      .array_count = 2 };
}

/* The row's only value; NaN when the body has no such array. */
static double value_of(const struct grade_body *body, const char *name)
{
    for (uint32_t i = 0; i < body->array_count; i++)
        if (strcmp(body->arrays[i].prefix, "reduce") == 0 &&
            strcmp(body->arrays[i].name, name) == 0)
            return *(const double *)body->arrays[i].data;
    return NAN;
}

static const char *meta_of(const struct grade_body *body, const char *key)
{
    for (uint32_t i = 0; i < body->meta_count; i++)
        if (strcmp(body->metadata[i].key, key) == 0)
            return body->metadata[i].value;
    return NULL;
}

static void start(struct grade *grade)
{
    struct lyap_client_array arrays[2];
    const struct lyap_client_push push = make_push(0, arrays);
    struct lyap_error err = LYAP_ERROR_NULL;
    char *json = NULL;
    ck_assert_msg(grade_init(grade, "{\"optimizer\":{\"type\":\"sgd\",\"lr\":0.1}}",
                             LYAP_RETENTION_AUTO, &err) == LYAP_OK,
                  "%s", err.text);
    ck_assert_int_eq(grade_learn(grade, &push, &json, &err), LYAP_OK);
    ck_assert_str_eq(json, "{\"tensors\":[{\"name\":\"w\",\"shape\":[2,2]}]}");
    free(json);
    grade->seed = 42;
}

static void reduce(struct grade *grade, int64_t step, struct grade_body *body)
{
    struct lyap_client_array arrays[2];
    const struct lyap_client_push push = make_push(step, arrays);
    struct lyap_error err = LYAP_ERROR_NULL;
    ck_assert_msg(grade_reduce(grade, &push, body, &err) == LYAP_OK, "%s", err.text);
}

START_TEST(rows_of_one_snapshot)
{
    struct grade grade;
    struct grade_body body;
    start(&grade);
    reduce(&grade, 0, &body);
    test_close(value_of(&body, "param_count"), 4, 0);
    test_close(value_of(&body, "param_sq"), 30, 1e-15);
    test_close(value_of(&body, "grad_abs"), 10, 1e-15);
    test_close(value_of(&body, "param_max"), 4, 0);
    test_close(value_of(&body, "grad_param"), 30, 1e-15);
    ck_assert(isnan(value_of(&body, "grad_delta")));
    ck_assert_str_eq(meta_of(&body, "delta_unit"), "1.1102230246251565e-16");
    bool has_sketch = false;
    for (uint32_t i = 0; i < body.array_count; i++)
        if (strcmp(body.arrays[i].prefix, "sketch") == 0) {
            has_sketch = true;
            ck_assert_uint_eq(body.arrays[i].shape[0], LYAP_SKETCH_SIZE);
        }
    ck_assert(has_sketch);
    grade_body_release(&body);
    grade_release(&grade);
}
END_TEST

START_TEST(products_with_the_predecessor)
{
    struct grade grade;
    struct grade_body body;
    double expected = 0;
    for (int i = 0; i < COUNT; i++)
        expected += gradient[1][i] * (theta[1][i] - theta[0][i]);
    start(&grade);
    reduce(&grade, 0, &body);
    grade_body_release(&body);
    reduce(&grade, 1, &body); /* the first was never accepted */
    ck_assert(isnan(value_of(&body, "grad_delta")));
    grade_body_release(&body);
    reduce(&grade, 0, &body);
    grade_commit(&grade);
    grade_body_release(&body);
    reduce(&grade, 1, &body);
    test_close(value_of(&body, "grad_delta"), expected, 1e-14);
    test_close(value_of(&body, "update_error_sq"), 0, 1e-20);
    grade_body_release(&body);
    grade_release(&grade);
}
END_TEST

START_TEST(nonfinite_snapshot_is_no_predecessor)
{
    struct grade grade;
    struct grade_body body;
    double expected = 0;
    for (int i = 0; i < COUNT; i++)
        expected += gradient[1][i] * (theta[1][i] - theta[0][i]);
    start(&grade);
    reduce(&grade, 0, &body);
    grade_commit(&grade);
    grade_body_release(&body);
    const double kept = gradient[1][0];
    gradient[1][0] = NAN;
    reduce(&grade, 1, &body);
    gradient[1][0] = kept;
    test_close(value_of(&body, "grad_nonfinite"), 1, 0);
    grade_commit(&grade);
    grade_body_release(&body);
    reduce(&grade, 3, &body); /* against step 0, not against the broken one */
    test_close(value_of(&body, "grad_delta"), expected, 1e-14);
    grade_body_release(&body);
    grade_release(&grade);
}
END_TEST

/* The daemon's count: an update that was not made (`updates` 0) or was skipped is none. */
START_TEST(updates_that_were_not_made)
{
    const struct lyap_client_meta meta[] = { { "updates", "0" }, { "skipped", "true" } };
    for (int kind = 0; kind < 2; kind++) {
        struct grade grade;
        struct grade_body body;
        struct lyap_client_array arrays[2];
        start(&grade);
        struct lyap_client_push push = make_push(0, arrays);
        push.metadata = &meta[1];
        push.metadata_count = kind == 1; /* skipped at step 0 */
        ck_assert_int_eq(grade_reduce(&grade, &push, &body, NULL), LYAP_OK);
        grade_commit(&grade);
        grade_body_release(&body);
        push = make_push(2, arrays); /* the same parameters */
        push.step = 1;
        push.metadata = &meta[0];
        push.metadata_count = kind == 0;
        ck_assert_int_eq(grade_reduce(&grade, &push, &body, NULL), LYAP_OK);
        const double error = value_of(&body, "update_error_sq");
        ck_assert_msg(isnan(error) || error == 0, "%g", error); /* not |p|^2 = .3 */
        grade_commit(&grade);
        grade_body_release(&body);
        push = make_push(3, arrays); /* one update from there, as predicted */
        push.step = 2;
        ck_assert_int_eq(grade_reduce(&grade, &push, &body, NULL), LYAP_OK);
        test_close(value_of(&body, "update_error_sq"), 0, 1e-20);
        grade_body_release(&body);
        grade_release(&grade);
    }
}
END_TEST

/* Of a layer with a tensor; the input goes into the metadata; a gate has no row. */
START_TEST(rows_of_activations)
{
    static const uint64_t outputs[] = { 1, 3 };
    static const double x[2][COUNT] = { { 1, 2, 3, 4 }, { 1, 2, 3, 5 } };
    static const double y[2][3] = { { 1, 2, 2 }, { 3, 2, 2 } };
    struct lyap_client_array arrays[8];
    struct lyap_client_push push = make_push(0, arrays);
    struct lyap_error err = LYAP_ERROR_NULL;
    struct grade grade;
    struct grade_body body;
    char *json = NULL;
    ck_assert_int_eq(grade_init(&grade,
                                "{\"layers\":[{\"name\":\"fc\",\"kind\":\"linear\","
                                "\"tensor\":\"w\"}]}",
                                LYAP_RETENTION_AUTO, &err),
                     LYAP_OK);
    ck_assert_int_eq(grade_learn(&grade, &push, &json, &err), LYAP_OK);
    free(json);
    for (int i = 0; i < 2; i++) {
        const enum lyap_role role = i == 0 ? LYAP_ROLE_ACT : LYAP_ROLE_ACT_PERTURBED;
        arrays[2 + i] = (struct lyap_client_array){ role, "input", LYAP_DTYPE_F64, 2, shape, x[i] };
        arrays[4 + i] = (struct lyap_client_array){ role, "fc", LYAP_DTYPE_F64, 2, outputs, y[i] };
    }
    arrays[6] =
        (struct lyap_client_array){ LYAP_ROLE_GATE, "fc", LYAP_DTYPE_F64, 2, outputs, y[0] };
    push.array_count = 7;
    ck_assert_msg(grade_reduce(&grade, &push, &body, &err) == LYAP_OK, "%s", err.text);
    test_close(value_of(&body, "act_sq"), 9, 1e-15);
    test_close(value_of(&body, "act_diff_sq"), 4, 1e-15);
    ck_assert_str_eq(meta_of(&body, "act_input_sq"), "30");
    ck_assert_str_eq(meta_of(&body, "act_input_diff_sq"), "1");
    grade_body_release(&body);
    push.array_count = 2;
    ck_assert_int_eq(grade_reduce(&grade, &push, &body, &err), LYAP_OK);
    ck_assert(isnan(value_of(&body, "act_sq")) && !meta_of(&body, "act_input_sq"));
    grade_body_release(&body);
    push.array_count = 5;
    arrays[4].name = "nowhere";
    ck_assert_int_eq(grade_reduce(&grade, &push, &body, &err), LYAP_E_INVALID);
    ck_assert_str_eq(err.text, "act/nowhere is of no declared layer");
    grade_body_release(&body);
    grade_release(&grade);
}
END_TEST

START_TEST(refusals)
{
    struct grade grade;
    struct grade_body body;
    struct lyap_client_array arrays[2];
    struct lyap_client_push push = make_push(0, arrays);
    const struct lyap_client_meta unknown = { "colour", "red" };
    start(&grade);
    arrays[1].name = "other";
    ck_assert_int_eq(grade_reduce(&grade, &push, &body, NULL), LYAP_E_TENSOR_SET);
    grade_body_release(&body);
    arrays[1].name = "w";
    push.metadata = &unknown;
    push.metadata_count = 1;
    ck_assert_int_eq(grade_reduce(&grade, &push, &body, NULL), LYAP_E_UNKNOWN_FIELD);
    grade_body_release(&body);
    grade_release(&grade);
    ck_assert_int_ne(grade_init(&grade, "{\"optimizer\":7}", LYAP_RETENTION_AUTO, NULL), LYAP_OK);
    grade_release(&grade);
}
END_TEST

START_TEST(releases_everything_when_memory_ends)
{
    for (uint64_t n = 1; n < 1000; n++) {
        struct grade grade;
        struct grade_body body;
        struct lyap_client_array arrays[2];
        const struct lyap_client_push push = make_push(0, arrays);
        test_alloc_install();
        start(&grade);
        const uint64_t before = test_alloc_count();
        test_alloc_fail_at(n);
        const enum lyap_status status = grade_reduce(&grade, &push, &body, NULL);
        const bool was_reached = test_alloc_count() >= before + n;
        test_alloc_fail_at(0);
        ck_assert_int_eq(status, was_reached ? LYAP_E_NOMEM : LYAP_OK);
        grade_body_release(&body);
        grade_release(&grade);
        ck_assert_int_eq(test_alloc_live(), 0);
        if (!was_reached)
            return;
    }
    ck_abort_msg("the sweep did not end");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("c_grade");
    TCase *tcase = tcase_create("grade");
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, rows_of_one_snapshot);
    tcase_add_test(tcase, products_with_the_predecessor);
    tcase_add_test(tcase, nonfinite_snapshot_is_no_predecessor);
    tcase_add_test(tcase, updates_that_were_not_made);
    tcase_add_test(tcase, rows_of_activations);
    tcase_add_test(tcase, refusals);
    tcase_add_test(tcase, releases_everything_when_memory_ends);
    return test_main(suite);
}
