/* The loss-scaled detector: reference values and invariances. */
#include <math.h>
#include <string.h>

#include "lyap/detector.h"
#include "support.h"
#include "../oracle/golden_values.h"

enum { GOLDEN_COUNT = sizeof golden_detector / sizeof *golden_detector };

static void check(double value, double expected)
{
    if (isnan(expected))
        ck_assert(isnan(value));
    else
        test_close(value, expected, 1e-11);
}

START_TEST(test_golden)
{
    struct lyap_detector d;
    lyap_detector_init(&d, NAN);
    ck_assert(isnan(lyap_detector_curvature(&d)) && isnan(lyap_detector_edge(&d)));
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        const double *row = golden_detector[i];
        const struct lyap_loss_view v = lyap_detector_loss(&d, row[0]);
        check(v.scale, row[4]);
        check(v.excess, row[5]);
        check(v.spread, row[6]);
        check(v.ratio, row[7]);
        check(v.rise, row[8]);
        check(v.rise_t, row[9]);
        check(lyap_detector_work(&d, row[1]), row[10]);
        lyap_detector_secant(&d, row[2], row[3]);
        check(lyap_detector_curvature(&d), row[11]);
        check(lyap_detector_edge(&d), row[12]);
    }
}
END_TEST

/* SPEC 6.6 c: the unit of the loss changes the scale alone. */
START_TEST(test_unit_of_the_loss)
{
    struct lyap_detector a, b;
    lyap_detector_init(&a, NAN);
    lyap_detector_init(&b, NAN);
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        const struct lyap_loss_view v = lyap_detector_loss(&a, golden_detector[i][0]);
        const struct lyap_loss_view w = lyap_detector_loss(&b, 1024 * golden_detector[i][0]);
        ck_assert(w.scale == 1024 * v.scale && w.excess == v.excess);
        check(w.ratio, v.ratio);
        check(w.rise_t, v.rise_t);
        check(w.spread, v.spread);
    }
}
END_TEST

START_TEST(test_inherited_reference)
{
    struct lyap_detector d;
    lyap_detector_init(&d, 10);
    struct lyap_loss_view v = lyap_detector_loss(&d, 1);
    ck_assert(d.reference == 10);
    test_close(v.scale, 4.5, 1e-15); /* half of the progress made before the restart */
    test_close(v.excess, 0, 1e-15);
    v = lyap_detector_loss(&d, 2);
    test_close(v.excess, 1 / 4.5, 1e-15);
    ck_assert(d.reference == 10);
}
END_TEST

/* Losses around zero have no level: lambda is absent, the rest goes on. */
START_TEST(test_negative_losses)
{
    struct lyap_detector d;
    lyap_detector_init(&d, NAN);
    for (int i = 0; i < 30; i++) {
        const struct lyap_loss_view v = lyap_detector_loss(&d, -1 - .1 * i);
        ck_assert(isnan(v.ratio));
        ck_assert(v.scale > 0 && isfinite(v.excess));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("detector");
    TCase *tests = tcase_create("detector");
    tcase_add_test(tests, test_golden);
    tcase_add_test(tests, test_unit_of_the_loss);
    tcase_add_test(tests, test_inherited_reference);
    tcase_add_test(tests, test_negative_losses);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
