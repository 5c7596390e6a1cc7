/* Windows and short-sample statistics against brute force. */
#include <math.h>
#include <stdlib.h>

#include "lyap/window.h"
#include "stats.h"
#include "support.h"

START_TEST(test_capacity_is_checked)
{
    struct lyap_window w;
    ck_assert_int_eq(lyap_window_init(&w, 0), LYAP_E_INVALID);
    ck_assert_int_eq(lyap_window_init(&w, LYAP_WINDOW_MAX + 1u), LYAP_E_INVALID);
    lyap_window_release(&w);
    lyap_window_release(NULL);
    test_alloc_install();
    test_alloc_fail_at(1);
    ck_assert_int_eq(lyap_window_init(&w, 8), LYAP_E_NOMEM);
    ck_assert_ptr_null(w.samples);
    ck_assert_int_eq(lyap_window_init(&w, 8), LYAP_OK);
    lyap_window_release(&w);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

START_TEST(test_slides)
{
    struct lyap_window w;
    ck_assert_int_eq(lyap_window_init(&w, 5), LYAP_OK);
    ck_assert_uint_eq(lyap_window_count(&w), 0);
    for (int i = 1; i <= 12; i++) {
        ck_assert(lyap_window_push(&w, i));
        ck_assert(!lyap_window_push(&w, NAN));
        ck_assert(!lyap_window_push(&w, -INFINITY));
        ck_assert_uint_eq(lyap_window_count(&w), i < 5 ? (unsigned)i : 5u);
        ck_assert_int_eq(lyap_window_is_full(&w), i >= 5);
        ck_assert(lyap_window_newest(&w, 0) == i);
    }
    for (uint32_t i = 0; i < 5; i++)
        ck_assert(lyap_window_newest(&w, i) == 12 - i);
    lyap_window_release(&w);
}
END_TEST

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Order statistics of random samples, ties included, against a sort. */
START_TEST(test_order_statistics)
{
    struct test_rng rng = { 7 };
    for (unsigned trial = 0; trial < 1000; trial++) {
        double a[64], b[64];
        const uint32_t n = 1 + (uint32_t)(test_rng_u64(&rng) % 64);
        for (uint32_t i = 0; i < n; i++)
            a[i] = b[i] = trial % 3 ? test_rng_normal(&rng) : floor(4 * test_rng_uniform(&rng));
        qsort(b, n, sizeof *b, compare);
        const double q = test_rng_uniform(&rng), place = q * (n - 1);
        const uint32_t low = (uint32_t)place, high = low + (low + 1 < n);
        test_close(lyap_stats_quantile(a, n, q), b[low] + (place - low) * (b[high] - b[low]),
                   1e-15);
        test_close(lyap_stats_median(a, n), 0.5 * (b[(n - 1) / 2] + b[n / 2]), 1e-15);
        for (uint32_t i = 0; i < n; i++)
            b[i] = fabs(b[i] - 0.25);
        qsort(b, n, sizeof *b, compare);
        test_close(lyap_stats_deviation(a, n, 0.25), 0.5 * (b[(n - 1) / 2] + b[n / 2]), 1e-15);
    }
}
END_TEST

START_TEST(test_line)
{
    double y[10];
    for (int i = 0; i < 10; i++)
        y[i] = 3 + 2 * i;
    struct lyap_line line = lyap_stats_line(y, 10);
    test_close(line.mean, 12, 1e-15);
    test_close(line.slope, 2, 1e-15);
    test_close(line.rise, 18, 1e-15);
    test_close(line.t, 2 / (1e-12 + 2e-3), 1e-12);
    y[0] = y[9] = 0; /* Residuals: t of a regression done by hand. */
    line = lyap_stats_line((const double[]){ 0, 1, 0, 3 }, 4);
    test_close(line.slope, 0.8, 1e-15);
    test_close(line.t, 0.8 / (sqrt(2.8 / 2 / 5) + 1e-12 + 0.8e-3), 1e-12);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("window");
    TCase *tests = tcase_create("window");
    tcase_add_test(tests, test_capacity_is_checked);
    tcase_add_test(tests, test_slides);
    tcase_add_test(tests, test_order_statistics);
    tcase_add_test(tests, test_line);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
