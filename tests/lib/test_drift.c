/* Drift of a loss: oracle sequence, a series without variation, the error of a mean. */
#include <math.h>

#include "lyap/drift.h"
#include "support.h"
#include "../oracle/golden_values.h"

enum { ROWS = sizeof golden_drift / sizeof *golden_drift };

START_TEST(test_golden)
{
    struct test_rng rng = { 61 };
    struct lyap_drift drift;
    double walk = 0;
    int row = 0;
    lyap_drift_init(&drift);
    for (int t = 0; t < 1400; t++) {
        walk = 0.8 * walk + 0.05 * test_rng_normal(&rng);
        lyap_drift_push(&drift, 2 * exp(-t / 500.0) + walk + (t > 900 ? 0.004 * (t - 900) : 0));
        ck_assert_int_eq(drift.is_armed, t >= LYAP_DRIFT_BURN_IN * LYAP_DRIFT_BATCH);
        if (row < ROWS && t == (int)golden_drift[row][0]) {
            test_close(drift.level, golden_drift[row][1], 1e-9);
            test_close(drift.error, golden_drift[row][2], 1e-9);
            test_close(drift.evidence, golden_drift[row][3], 1e-9);
            row++;
        }
    }
    ck_assert_int_eq(row, ROWS);
}
END_TEST

START_TEST(test_constant)
{
    struct lyap_drift drift;
    lyap_drift_init(&drift);
    for (int t = 0; t < 1000; t++)
        lyap_drift_push(&drift, 3);
    ck_assert(drift.is_armed && drift.scale == 0);
    ck_assert(isnan(drift.level) && isnan(drift.evidence));
}
END_TEST

/* A steady rise alarms, and the detector starts anew after it. */
START_TEST(test_alarm)
{
    struct lyap_drift drift;
    bool is_alarmed = false, is_anew = false;
    lyap_drift_init(&drift);
    for (int t = 0; t < 3000; t++) {
        lyap_drift_push(&drift, (t < 512 ? 0 : 0.5 * (t - 512)) + 0.1 * sin(0.7 * t * t));
        is_anew = is_anew || (is_alarmed && drift.evidence < LYAP_LEVEL_ALARM);
        is_alarmed = is_alarmed || drift.evidence >= LYAP_LEVEL_ALARM;
    }
    ck_assert(is_alarmed && is_anew);
}
END_TEST

START_TEST(test_newey_west)
{
    const double one = 7, pair[2] = { 1, 3 };
    test_close(lyap_drift_newey_west(&one, 1), 0, 0);
    test_close(lyap_drift_newey_west(pair, 2), 0.5, 1e-12); /* lag 1 takes half: (1 - 1/2)/2 */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("drift");
    TCase *tests = tcase_create("drift");
    tcase_add_test(tests, test_golden);
    tcase_add_test(tests, test_constant);
    tcase_add_test(tests, test_alarm);
    tcase_add_test(tests, test_newey_west);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
