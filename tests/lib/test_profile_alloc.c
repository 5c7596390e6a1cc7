/* Failed allocations of a profile: E_NOMEM, nothing lost, no window advanced. */
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "profile_internal.h"
#include "profile_trainer.h"

static const struct lyap_optimizer_params plain = { .lr = .1 };

static void same_points(const struct lyap_point *a, const struct lyap_point *b)
{
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        const struct lyap_value *x = &a->metrics[i], *y = &b->metrics[i];
        ck_assert_int_eq(x->reason, y->reason);
        ck_assert_int_eq(x->trust, y->trust);
        ck_assert(memcmp(&x->value, &y->value, sizeof x->value) == 0 ||
                  (isnan(x->value) && isnan(y->value)));
    }
    ck_assert_int_eq(a->state, b->state);
    ck_assert_int_eq(a->verdict, b->verdict);
}

static void same_saved(const struct lyap_profile *a, const struct lyap_profile *b)
{
    void *x, *y;
    uint64_t x_length, y_length;
    ck_assert_int_eq(lyap_profile_save(a, &x, &x_length), LYAP_OK);
    ck_assert_int_eq(lyap_profile_save(b, &y, &y_length), LYAP_OK);
    ck_assert_uint_eq(x_length, y_length);
    ck_assert_int_eq(memcmp(x, y, x_length), 0);
    lyap_free(x);
    lyap_free(y);
}

/* Each allocation of a first step fails in a profile of its own, those of the windows of tensors
 * among them: nothing has advanced, and the step made again leaves the same windows as ever. */
START_TEST(test_failed_allocations_of_a_step)
{
    struct trainer t;
    struct lyap_profile *p, *calm;
    struct lyap_point a, b;
    enum lyap_status status = LYAP_E_NOMEM;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    t.has_probe_loss = t.is_probing = true;
    (void)trainer_push(&t);
    test_alloc_install();
    ck_assert_int_eq(lyap_profile_new(&t.fixture.declaration, NAN, &calm), LYAP_OK);
    ck_assert_int_eq(
        lyap_profile_step(calm, &t.fixture.snapshot, &t.partial, LYAP_REASON_NONE, &b, t.rows),
        LYAP_OK);
    const int64_t before = test_alloc_live();
    uint64_t failures = 0;
    for (uint64_t n = 1; status != LYAP_OK; n++) {
        ck_assert_int_eq(lyap_profile_new(&t.fixture.declaration, NAN, &p), LYAP_OK);
        test_alloc_fail_at(n);
        status =
            lyap_profile_step(p, &t.fixture.snapshot, &t.partial, LYAP_REASON_NONE, &a, t.rows);
        test_alloc_fail_at(0);
        if (status != LYAP_OK) {
            failures++;
            ck_assert_int_eq(status, LYAP_E_NOMEM);
            ck_assert_uint_eq(p->history.finite_count, 0);
            ck_assert_int_eq(
                lyap_profile_step(p, &t.fixture.snapshot, &t.partial, LYAP_REASON_NONE, &a, t.rows),
                LYAP_OK);
        }
        same_points(&a, &b);
        same_saved(p, calm);
        lyap_profile_free(p);
        ck_assert_int_eq(test_alloc_live(), before);
    }
    /* Sketches and pairs apart: four arrays of each window of tensors, three of dead and stuck. */
    ck_assert_uint_ge(failures, 4 + 4 + 3 + 2);
    lyap_profile_free(calm);
    lyap_alloc_set_hooks(NULL);
    trainer_free(&t);
}
END_TEST

/* Every allocation of new, step, save and load fails once: E_NOMEM, nothing lost, no window
 * advanced, and the repeated step gives the point of an undisturbed profile. */
START_TEST(test_failed_allocations)
{
    struct trainer t;
    struct lyap_profile *p = NULL, *calm = NULL;
    struct lyap_point a, b;
    enum lyap_status status;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    t.has_probe_loss = t.is_probing = true;
    (void)trainer_push(&t);
    test_alloc_install();
    for (uint64_t n = 1;; n++) {
        test_alloc_fail_at(n);
        status = lyap_profile_new(&t.fixture.declaration, NAN, &p);
        if (status == LYAP_OK)
            break;
        ck_assert_int_eq(status, LYAP_E_NOMEM);
        ck_assert_int_eq(test_alloc_live(), 0);
    }
    test_alloc_fail_at(0);
    ck_assert_int_eq(lyap_profile_new(&t.fixture.declaration, NAN, &calm), LYAP_OK);
    uint64_t failures = 0;
    for (uint64_t n = 1;; n++) {
        test_alloc_fail_at(n);
        status = lyap_profile_step(p, &t.fixture.snapshot, &t.partial, LYAP_REASON_NONE, &a, NULL);
        if (status == LYAP_OK)
            break;
        ck_assert_int_eq(status, LYAP_E_NOMEM);
        ck_assert_uint_eq(p->history.finite_count, 0);
        failures++;
    }
    test_alloc_fail_at(0);
    ck_assert_uint_ge(failures, 4); /* what was allocated before a failure stays for the retry */
    ck_assert_int_eq(
        lyap_profile_step(calm, &t.fixture.snapshot, &t.partial, LYAP_REASON_NONE, &b, NULL),
        LYAP_OK);
    same_points(&a, &b);
    void *bytes = NULL;
    uint64_t length = 0;
    test_alloc_fail_at(1);
    ck_assert_int_eq(lyap_profile_save(p, &bytes, &length), LYAP_E_NOMEM);
    test_alloc_fail_at(0);
    ck_assert_int_eq(lyap_profile_save(p, &bytes, &length), LYAP_OK);
    for (uint64_t n = 1;; n++) {
        const int64_t before = test_alloc_live();
        test_alloc_fail_at(n);
        status = lyap_profile_load(calm, bytes, length);
        if (status == LYAP_OK)
            break;
        ck_assert_int_eq(status, LYAP_E_NOMEM);
        ck_assert_int_eq(test_alloc_live(), before);
    }
    for (uint64_t n = 1;; n++) {
        test_alloc_fail_at(n);
        status = lyap_profile_redeclare(p, &t.fixture.declaration);
        if (status == LYAP_OK)
            break;
        ck_assert_int_eq(status, LYAP_E_NOMEM);
    }
    test_alloc_fail_at(0);
    lyap_free(bytes);
    lyap_profile_free(p);
    lyap_profile_free(calm);
    ck_assert_int_eq(test_alloc_live(), 0);
    lyap_alloc_set_hooks(NULL);
    trainer_free(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile_alloc");
    TCase *tests = tcase_create("failed allocations");
    tcase_add_test(tests, test_failed_allocations_of_a_step);
    tcase_add_test(tests, test_failed_allocations);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
