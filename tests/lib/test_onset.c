/* Onsets of finished loss curves: table cases by hand. */
#include <math.h>

#include "lyap/onset.h"
#include "support.h"

enum { STEPS_MAX = 240 };

/* A level, then another, then back: the shape of a case. */
static const struct {
    double level, excursion, after;
    int at, length;     /* of the excursion */
    int count;          /* events */
    int64_t onset, end; /* of the first */
    bool is_nonfinite;
} cases[] = {
    { 1, 1.05, 1, 50, 5, 0, 0, 0, false },     /* half of E = 0.1 */
    { 1, 1.2, 1, 50, 5, 1, 50, 55, false },    /* above, and back: spiked */
    { 1, 1.2, 1, 50, 190, 1, 50, -1, false },  /* and stays: diverged */
    { 1, 1.2, 1.06, 50, 5, 1, 50, -1, false }, /* not below m + E/2 */
    { 1, 1.2, 1.04, 50, 5, 1, 50, 55, false }, /* below it */
    { 1, NAN, 1, 50, 1, 1, 50, 51, true },     /* a NaN, and the level again */
    { 1, INFINITY, 1, 50, 190, 1, 50, -1, true },
    { 1, NAN, 1, 1, 2, 1, 1, 3, true },       /* before any level is known */
    { -1, -0.95, -1, 50, 5, 0, 0, 0, false }, /* a negative loss: E = 0.1 */
    { -1, -0.8, -1, 50, 5, 1, 50, 55, false },
};

START_TEST(excursions)
{
    struct lyap_onset onset = LYAP_ONSET_NULL;
    for (int t = 0; t < STEPS_MAX; t++) {
        const bool is_out = t >= cases[_i].at && t < cases[_i].at + cases[_i].length;
        const bool is_after = t >= cases[_i].at + cases[_i].length;
        lyap_onset_push(&onset, t,
                        is_out     ? cases[_i].excursion
                        : is_after ? cases[_i].after
                                   : cases[_i].level);
    }
    ck_assert_uint_eq(onset.count, (unsigned)cases[_i].count);
    if (cases[_i].count == 0)
        return;
    ck_assert_int_eq(onset.events[0].onset_step, cases[_i].onset);
    ck_assert_int_eq(onset.events[0].end_step, cases[_i].end);
    ck_assert(onset.events[0].is_nonfinite == cases[_i].is_nonfinite);
}
END_TEST

/* From 10 down to 1: half of the progress, 4.5, and the bounds of what tripled and grew tenfold. */
START_TEST(the_margin_follows_the_progress)
{
    static const struct {
        double lowest, loss;
        bool is_onset;
    } margins[] = {
        { 8, 8.9, false },                           /* p/2 = 1, ref/10 = 1 */
        { 8, 9.1, true },      { 4, 6.9, false },    /* p/2 = 3 */
        { 4, 7.1, true },      { 0.3, 0.85, false }, /* below 3m: p/2 = 4.85 */
        { 0.3, 1.2, false },                         /* tripled, but not a tenth of 10 above */
        { 0.3, 1.4, true },                          /* tripled and visibly so: above 0.3 + 1 */
        { 0.01, 0.25, false },                       /* tenfold, but below 0.01 + 0.3 */
        { 0.01, 0.32, true },
    };
    for (size_t i = 0; i < sizeof margins / sizeof *margins; i++) {
        struct lyap_onset onset = LYAP_ONSET_NULL;
        for (int t = 0; t < 3; t++)
            lyap_onset_push(&onset, t, 10);
        for (int t = 3; t < 20; t++)
            lyap_onset_push(&onset, t, margins[i].lowest);
        lyap_onset_push(&onset, 20, margins[i].loss);
        ck_assert_msg((onset.count == 1) == margins[i].is_onset, "case %zu", i);
    }
}
END_TEST

START_TEST(soon_after_is_the_same_event)
{
    for (int gap = 20; gap <= 80; gap += 60) {
        struct lyap_onset onset = LYAP_ONSET_NULL;
        for (int t = 0; t < 200; t++)
            lyap_onset_push(&onset, t, t == 30 || t == 31 + gap ? 2 : 1);
        ck_assert_uint_eq(onset.count, gap < LYAP_ONSET_MERGE ? 1 : 2);
        ck_assert_int_eq(onset.events[0].end_step, gap < LYAP_ONSET_MERGE ? 32 + gap : 31);
    }
}
END_TEST

START_TEST(events_are_bounded)
{
    struct lyap_onset onset = LYAP_ONSET_NULL;
    for (int t = 0; t < 100 * (LYAP_ONSETS_MAX + 10); t++)
        lyap_onset_push(&onset, t, t % 100 == 50 ? 5 : 1);
    ck_assert_uint_eq(onset.count, LYAP_ONSETS_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("onset");
    TCase *tests = tcase_create("onset");
    tcase_add_loop_test(tests, excursions, 0, sizeof cases / sizeof *cases);
    tcase_add_test(tests, the_margin_follows_the_progress);
    tcase_add_test(tests, soon_after_is_the_same_event);
    tcase_add_test(tests, events_are_bounded);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
