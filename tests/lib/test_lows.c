/* Sliding minima against a search of all values. */
#include <math.h>

#include "lows.h"
#include "support.h"

enum { VALUES = 400, SERIES = 3 };

static double least_of(const double *values, int end, uint32_t newest)
{
    double least = NAN;
    for (int i = end > (int)newest ? end - (int)newest : 0; i < end; i++)
        least = fmin(least, values[i]);
    return least;
}

/* Exact up to as many slots; of longer windows a block less at most, never more. */
START_TEST(least_of_the_newest)
{
    static const uint32_t windows[] = { 1, 7, 64, 65, 150, 1000 };
    const uint32_t window = windows[_i];
    static double values[SERIES][VALUES];
    struct test_rng rng = { 3 };
    struct lyap_lows lows;
    ck_assert_int_eq(lyap_lows_init(&lows, SERIES, window), LYAP_OK);
    for (int i = 0; i < VALUES; i++)
        for (uint32_t s = 0; s < SERIES; s++) {
            const double found = lyap_lows_least(&lows, s);
            const double most = least_of(values[s], i, window);
            const double fewest =
                least_of(values[s], i, window - window / LYAP_LOWS_SLOTS - lows.block + 1);
            if (i == 0)
                ck_assert(isnan(found));
            else if (window <= LYAP_LOWS_SLOTS)
                ck_assert(found == most);
            else
                ck_assert(found >= most && found <= fewest);
            values[s][i] = test_rng_normal(&rng) - 0.01 * i * s;
            lyap_lows_push(&lows, s, values[s][i]);
        }
    ck_assert(isnan(lyap_lows_least(&lows, SERIES)));
    lyap_lows_release(&lows);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    struct lyap_lows lows = { 0 };
    test_alloc_install();
    const int64_t live = test_alloc_live();
    for (uint64_t n = 1; n <= 3; n++) {
        test_alloc_fail_at(n);
        ck_assert_int_eq(lyap_lows_init(&lows, 2, 5), LYAP_E_NOMEM);
        ck_assert_int_eq(test_alloc_live(), live);
    }
    test_alloc_fail_at(0);
    ck_assert_uint_eq(lows.series, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lows");
    TCase *tcase = tcase_create("lows");
    tcase_add_loop_test(tcase, least_of_the_newest, 0, 6);
    tcase_add_test(tcase, every_allocation_may_fail);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
