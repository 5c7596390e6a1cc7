/* E-detector and level monitor: oracle sequences, T18, reset and linear mode. */
#include <math.h>

#include "lyap/level.h"
#include "support.h"
#include "../oracle/golden_values.h"

enum {
    EVIDENCE_COUNT = sizeof golden_edetector / sizeof *golden_edetector,
    LEVEL_COUNT = sizeof golden_level / sizeof *golden_level
};

START_TEST(test_edetector_golden)
{
    struct lyap_edetector d;
    lyap_edetector_init(&d, 0.7);
    for (int i = 0; i < EVIDENCE_COUNT; i++) {
        const struct lyap_evidence e = lyap_edetector_push(&d, golden_edetector[i][0]);
        test_close(e.process, golden_edetector[i][1], 1e-12);
        test_close(e.change, golden_edetector[i][2], 1e-12);
    }
}
END_TEST

/* T18: an alternating residual never alarms, a constant positive one does. */
START_TEST(test_edetector_closed_form)
{
    struct lyap_edetector d;
    lyap_edetector_init(&d, 1);
    for (int t = 0; t < 1000; t++)
        ck_assert(lyap_edetector_push(&d, t % 2 ? -1 : 1).change < LYAP_LEVEL_ALARM);
    lyap_edetector_init(&d, 1);
    struct lyap_evidence e = { 0 };
    for (int t = 0; t < 200; t++)
        e = lyap_edetector_push(&d, .5);
    ck_assert(e.process > LYAP_LEVEL_ALARM);
    lyap_edetector_init(&d, 2);
    double mean = 0;
    for (int i = 2; i <= 8; i++)
        mean += (1 + 3 * ldexp(1, -i)) / 7;
    test_close(lyap_edetector_push(&d, 100).process, log(mean), 1e-12);
}
END_TEST

START_TEST(test_level_golden)
{
    struct lyap_level level;
    lyap_level_init(&level);
    for (int i = 0; i < LEVEL_COUNT; i++) {
        const double *row = golden_level[i];
        struct lyap_evidence e;
        ck_assert_int_eq(lyap_level_push(&level, row[0], &e), !isnan(row[2]));
        if (!isnan(row[2])) {
            test_close(e.process, row[1], 1e-9);
            test_close(e.change, row[2], 1e-9);
        }
        if (!isnan(row[3]))
            test_close(level.reference, row[3], 1e-12);
        test_close(level.margin, row[4], 1e-12);
    }
}
END_TEST

/* T18: the alarm comes at the 19th push of a threefold loss, for any unit of the loss. */
START_TEST(test_level_delay)
{
    static const double units[] = { 1, 1e-6, 1e9 };
    struct lyap_level level;
    struct lyap_evidence e;
    lyap_level_init(&level);
    for (int t = 0; t < 400; t++)
        if (lyap_level_push(&level, units[_i] * (1 + (t % 2 ? -.01 : .01)), &e))
            ck_assert(e.change < LYAP_LEVEL_ALARM);
    int quiet = 0;
    for (int t = 0; t < 40; t++) {
        ck_assert(lyap_level_push(&level, 3 * units[_i], &e));
        quiet += e.change < LYAP_LEVEL_ALARM;
    }
    ck_assert_int_eq(quiet, 18);
}
END_TEST

/* A loss that passes zero: linear from there, warming up anew, and it still sees a jump. */
START_TEST(test_level_linear)
{
    struct lyap_level level;
    struct lyap_evidence e;
    struct test_rng rng = { 3 };
    lyap_level_init(&level);
    for (int t = 0; t < 100; t++)
        (void)lyap_level_push(&level, 1, &e);
    ck_assert(level.is_armed && !level.is_linear);
    for (int t = 0; t < 64; t++) {
        ck_assert(!lyap_level_push(&level, -1 + .1 * test_rng_normal(&rng), &e));
        ck_assert(level.is_linear);
    }
    for (int t = 0; t < 200; t++) {
        ck_assert(lyap_level_push(&level, -1 + .1 * test_rng_normal(&rng), &e));
        ck_assert(e.change < LYAP_LEVEL_ALARM);
    }
    for (int t = 0; t < 40; t++)
        (void)lyap_level_push(&level, 1 + .1 * test_rng_normal(&rng), &e);
    ck_assert(e.change > LYAP_LEVEL_ALARM);
}
END_TEST

START_TEST(test_level_nonfinite_counts_as_huge)
{
    struct lyap_level level;
    struct lyap_evidence e;
    lyap_level_init(&level);
    for (int t = 0; t < 100; t++)
        (void)lyap_level_push(&level, 1, &e);
    int pushes = 0;
    do
        ck_assert(lyap_level_push(&level, _i ? INFINITY : NAN, &e));
    while (++pushes < 40 && e.change < LYAP_LEVEL_ALARM);
    ck_assert_int_eq(pushes, 19); /* clipped: no faster than a threefold loss */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("level");
    TCase *tests = tcase_create("level");
    tcase_add_test(tests, test_edetector_golden);
    tcase_add_test(tests, test_edetector_closed_form);
    tcase_add_test(tests, test_level_golden);
    tcase_add_loop_test(tests, test_level_delay, 0, 3);
    tcase_add_test(tests, test_level_linear);
    tcase_add_loop_test(tests, test_level_nonfinite_counts_as_huge, 0, 2);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
