/* Twins in a profile: slots, windows, injections, gaps, what is not finite, replay, failed memory.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/growth.h"
#include "lyap/profile.h"
#include "support.h"

static struct lyap_declaration declaration;
static struct lyap_profile *profile;

static void setup(void)
{
    lyap_declaration_init(&declaration);
    declaration.steps = 1000;
    ck_assert_int_eq(lyap_profile_new(&declaration, NAN, &profile), LYAP_OK);
}

static void teardown(void)
{
    lyap_profile_free(profile);
    lyap_declaration_release(&declaration);
}

static struct lyap_snapshot snapshot_of(int64_t step, const char *logs, const char *names)
{
    struct lyap_snapshot s;
    char text[32];
    lyap_snapshot_init(&s);
    (void)snprintf(text, sizeof text, "%lld", (long long)step);
    ck_assert_int_eq(lyap_snapshot_set(&s, "step", text, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_set(&s, "loss", "1", NULL), LYAP_OK);
    if (logs)
        ck_assert_int_eq(lyap_snapshot_set(&s, "twin_log", logs, NULL), LYAP_OK);
    if (names)
        ck_assert_int_eq(lyap_snapshot_set(&s, "twin_name", names, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_check(&s, NULL), LYAP_OK);
    return s;
}

static struct lyap_point push_to(struct lyap_profile *p, int64_t step, const char *logs,
                                 const char *names)
{
    struct lyap_point point;
    struct lyap_snapshot s = snapshot_of(step, logs, names);
    ck_assert_int_eq(lyap_profile_step(p, &s, NULL, LYAP_REASON_NONE, &point, NULL), LYAP_OK);
    lyap_snapshot_release(&s);
    return point;
}

static struct lyap_point push(int64_t step, double y)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.17g", y);
    return push_to(profile, step, text, NULL);
}

static enum lyap_reason reason(const struct lyap_point *point, enum lyap_metric metric)
{
    return (enum lyap_reason)point->metrics[metric].reason;
}

static double value(const struct lyap_point *point, enum lyap_metric metric)
{
    ck_assert_msg(reason(point, metric) == LYAP_REASON_NONE, "%s: %s",
                  lyap_metric_info(metric)->name, lyap_reason_name(reason(point, metric)));
    return point->metrics[metric].value;
}

/* The rate is per step however far the pushes are apart; it comes with the 65th value. */
START_TEST(test_rate)
{
    const int spacing = _i;
    struct lyap_point point = { .step = -1 };
    for (int i = 0; i <= 64; i++) {
        point = push(spacing * i, .02 * spacing * i);
        if (i < 64)
            ck_assert_int_eq(reason(&point, LYAP_METRIC_TWIN_RATE), LYAP_REASON_WARMING_UP);
    }
    ck_assert_str_eq(point.twin_names[0], "random");
    test_close(value(&point, LYAP_METRIC_TWIN_LOG), .02 * spacing * 64, 1e-15);
    test_close(value(&point, LYAP_METRIC_TWIN_RATE), .02, 1e-12);
    test_close(value(&point, LYAP_METRIC_TWIN_GROWTH), .02 * spacing * 64, 1e-12);
    ck_assert(value(&point, LYAP_METRIC_WINDOW_VERDICT) == LYAP_GROWTH_EXPONENTIAL);
    ck_assert_str_eq(lyap_metric_label(LYAP_METRIC_WINDOW_VERDICT, 5), "exponential");
    test_close(value(&point, LYAP_METRIC_SENSITIVE_HORIZON), .02 * (1000 - 64 * spacing), 1e-9);
    ck_assert_int_eq(reason(&point, LYAP_METRIC_TWIN_ACTIVE_RATE), LYAP_REASON_NO_TWIN);
}
END_TEST

/* y is 0 again: another perturbation, which starts anew. */
START_TEST(test_injection)
{
    struct lyap_point point = { .step = -1 };
    for (int i = 0; i <= 100; i++)
        point = push(i, .05 * i);
    test_close(value(&point, LYAP_METRIC_TWIN_RATE), .05, 1e-12);
    for (int i = 0; i <= 64; i++) {
        point = push(101 + i, -.02 * i);
        if (i < 64)
            ck_assert_int_eq(reason(&point, LYAP_METRIC_TWIN_RATE), LYAP_REASON_WARMING_UP);
    }
    test_close(value(&point, LYAP_METRIC_TWIN_RATE), -.02, 1e-12);
    ck_assert(value(&point, LYAP_METRIC_WINDOW_VERDICT) == LYAP_GROWTH_DECAY);
    ck_assert(value(&point, LYAP_METRIC_SENSITIVE_HORIZON) == 0);
}
END_TEST

/* A gap longer than a block of the window hides its shape; after it the window fills again. */
START_TEST(test_gap_and_silence)
{
    struct lyap_point point = { .step = -1 };
    for (int i = 0; i <= 70; i++)
        point = push(i < 40 ? i : i + 3, .01 * (i < 40 ? i : i + 3));
    test_close(value(&point, LYAP_METRIC_TWIN_RATE), .01, 1e-3); /* a short one is bridged */
    point = push(173, 1.73);
    ck_assert_int_eq(reason(&point, LYAP_METRIC_TWIN_RATE), LYAP_REASON_STEP_GAP);
    for (int i = 1; i <= 64; i++)
        point = push(173 + i, .01 * (173 + i));
    test_close(value(&point, LYAP_METRIC_TWIN_RATE), .01, 1e-12);
    for (int i = 238; i <= 245; i++)
        point = push_to(profile, i, NULL, NULL);
    test_close(value(&point, LYAP_METRIC_TWIN_RATE), .01, 1e-12); /* heard of lately */
    ck_assert_int_eq(reason(&point, LYAP_METRIC_TWIN_LOG), LYAP_REASON_NO_TWIN);
    point = push_to(profile, 246, NULL, NULL);
    ck_assert_int_eq(reason(&point, LYAP_METRIC_TWIN_RATE), LYAP_REASON_NO_TWIN);
}
END_TEST

/* What is not finite is kept as pushed, and stays out of the window. */
START_TEST(test_nonfinite)
{
    for (int i = 0; i <= 64; i++)
        (void)push(i, .01 * i);
    struct lyap_point point = push_to(profile, 65, "Infinity", NULL);
    ck_assert(value(&point, LYAP_METRIC_TWIN_LOG) == INFINITY);
    ck_assert_int_eq(reason(&point, LYAP_METRIC_TWIN_RATE), LYAP_REASON_NONFINITE);
    point = push(66, .66);
    test_close(value(&point, LYAP_METRIC_TWIN_RATE), .01, 1e-3);
}
END_TEST

/* Slots by first appearance; a fifth name takes the slot that was silent the longest. */
START_TEST(test_slots)
{
    struct lyap_point point = push_to(profile, 0, "1,2", "b, active");
    ck_assert_str_eq(point.twin_names[0], "b");
    ck_assert_str_eq(point.twin_names[1], "active");
    point = push_to(profile, 1, "3,4", "c,b");
    ck_assert_str_eq(point.twin_names[0], "b");
    ck_assert_str_eq(point.twin_names[1], "");
    ck_assert_str_eq(point.twin_names[2], "c");
    ck_assert(value(&point, LYAP_METRIC_TWIN_LOG) == 4);
    ck_assert_int_eq(reason(&point, LYAP_METRIC_TWIN_LOG_2), LYAP_REASON_NO_TWIN);
    ck_assert(value(&point, LYAP_METRIC_TWIN_LOG_3) == 3);
    point = push_to(profile, 2, "5,6,7,8", "d,e,b,c");
    ck_assert_str_eq(point.twin_names[3], "d");
    ck_assert_str_eq(point.twin_names[1], "e"); /* active was silent the longest */
    ck_assert(value(&point, LYAP_METRIC_TWIN_LOG_2) == 6);
}
END_TEST

/* A profile that replays the stored columns goes on to the last bit: across injections, gaps, a
 * change of names, and a buffer that was moved. */
START_TEST(test_replay_continues)
{
    struct lyap_profile *other;
    struct test_rng rng = { 5 };
    ck_assert_int_eq(lyap_profile_new(&declaration, NAN, &other), LYAP_OK);
    double a = 0, b = 0;
    for (int i = 0, step = 0; i < 2500; i++, step += i % 97 == 0 ? 30 : 1) {
        char text[80];
        a = i % 700 == 699 ? 0 : a + .01 + .02 * test_rng_normal(&rng);
        b += .05 * test_rng_normal(&rng);
        (void)snprintf(text, sizeof text, "%.17g,%.17g", a, b);
        const char *names = i > 1500 ? "active,new" : "random,active";
        struct lyap_point live = push_to(profile, step, text, names);
        if (i < 1200) {
            ck_assert_int_eq(lyap_profile_replay(other, &live), LYAP_OK);
            continue;
        }
        struct lyap_point again = push_to(other, step, text, names);
        for (unsigned m = LYAP_METRIC_TWIN_LOG; m <= LYAP_METRIC_UPDATE_GROWTH; m++) {
            ck_assert_int_eq(live.metrics[m].reason, again.metrics[m].reason);
            ck_assert(memcmp(&live.metrics[m].value, &again.metrics[m].value, sizeof(double)) ==
                          0 ||
                      isnan(live.metrics[m].value));
        }
        ck_assert_int_eq(live.verdict, again.verdict);
    }
    lyap_profile_free(other);
}
END_TEST

/* Each allocation fails once: nothing has advanced, and the push succeeds when tried again. */
START_TEST(test_failed_memory)
{
    struct lyap_point point = { .step = -1 };
    unsigned failures = 0;
    test_alloc_install();
    for (int i = 0; i <= 200; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "%.17g", .01 * i);
        struct lyap_snapshot s = snapshot_of(i, text, NULL);
        enum lyap_status status;
        for (uint64_t n = 1;; n++) {
            test_alloc_fail_at(n);
            status = lyap_profile_step(profile, &s, NULL, LYAP_REASON_NONE, &point, NULL);
            test_alloc_fail_at(0);
            if (status == LYAP_OK)
                break;
            ck_assert_int_eq(status, LYAP_E_NOMEM);
            failures++;
        }
        lyap_snapshot_release(&s);
    }
    ck_assert_uint_gt(failures, 0);
    test_close(value(&point, LYAP_METRIC_TWIN_RATE), .01, 1e-12);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile_twin");
    TCase *tc = tcase_create("profile_twin");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_rate, 1, 8);
    tcase_add_test(tc, test_injection);
    tcase_add_test(tc, test_gap_and_silence);
    tcase_add_test(tc, test_nonfinite);
    tcase_add_test(tc, test_slots);
    tcase_add_test(tc, test_replay_continues);
    tcase_add_test(tc, test_failed_memory);
    suite_add_tcase(suite, tc);
    return test_main(suite);
}
