/* The score: golden values of an independent reading of its table, monotone shares, missing inputs,
 * no allocation; what it looks at is the same after a replay of stored points. */
#include <math.h>
#include <string.h>

#include "../oracle/score_values.h"
#include "history.h"
#include "lyap/score.h"
#include "profile_internal.h"
#include "profile_trainer.h"
#include "support.h"

enum { GOLDEN_COUNT = sizeof golden_scores / sizeof *golden_scores };

START_TEST(test_golden)
{
    for (int i = 0; i < GOLDEN_COUNT; i++)
        for (int kind = 0; kind < 2; kind++) {
            const double expected = golden_scores[i][LYAP_OBSERVABLE_COUNT + kind];
            const double score = lyap_score((enum lyap_score_kind)kind, golden_scores[i]);
            if (isnan(expected))
                ck_assert(isnan(score));
            else
                test_close(score, expected, 1e-12);
        }
}
END_TEST

START_TEST(test_nothing_seen)
{
    double seen[LYAP_OBSERVABLE_COUNT];
    struct lyap_score_part parts[LYAP_SCORE_PARTS_MAX];
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        seen[i] = NAN;
    ck_assert(isnan(lyap_score(LYAP_SCORE_NOW, seen)) && isnan(lyap_score(LYAP_SCORE_NEXT, seen)));
    ck_assert_uint_eq(lyap_score_parts(LYAP_SCORE_NOW, seen, parts), 0);
    seen[LYAP_OBSERVABLE_EXCESS] = seen[LYAP_OBSERVABLE_RELAPSE] = 0;
    const double score = lyap_score(LYAP_SCORE_NOW, seen);
    ck_assert_msg(score < LYAP_SCORE_EARLY, "a loss at its least alone: %g", score);
    ck_assert(isnan(lyap_score(LYAP_SCORE_NEXT, seen)));
}
END_TEST

/* A loss that runs away is seen where nothing else was pushed, after a gap as well. */
START_TEST(test_a_loss_alone)
{
    double seen[LYAP_OBSERVABLE_COUNT];
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        seen[i] = NAN;
    static const enum lyap_observable of_losses[] = {
        LYAP_OBSERVABLE_EXCESS,  LYAP_OBSERVABLE_RATIO,        LYAP_OBSERVABLE_TAIL,
        LYAP_OBSERVABLE_RECORD,  LYAP_OBSERVABLE_TWICE,        LYAP_OBSERVABLE_LOSS_Z,
        LYAP_OBSERVABLE_DRIFT,   LYAP_OBSERVABLE_RELAPSE,      LYAP_OBSERVABLE_RELAPSE_TWICE,
        LYAP_OBSERVABLE_REBOUND, LYAP_OBSERVABLE_SLOPE_T,      LYAP_OBSERVABLE_RELAPSE_MID,
        LYAP_OBSERVABLE_SIGMAS,  LYAP_OBSERVABLE_EXCESS_NOISE, LYAP_OBSERVABLE_SLOPE,
        LYAP_OBSERVABLE_RISE_20,
    };
    for (int gap = 0; gap < 2; gap++) {
        seen[LYAP_OBSERVABLE_GAP] = gap;
        for (unsigned i = 0; i < sizeof of_losses / sizeof *of_losses; i++)
            seen[of_losses[i]] = 0;
        ck_assert(lyap_score(LYAP_SCORE_NOW, seen) < LYAP_SCORE_EARLY);
        for (unsigned i = 0; i < sizeof of_losses / sizeof *of_losses; i++)
            seen[of_losses[i]] = 100;
        ck_assert(lyap_score(LYAP_SCORE_NOW, seen) > LYAP_SCORE_DEFAULT);
    }
}
END_TEST

/* More of any observable never lowers a score: an instability is not argued away. */
START_TEST(test_monotone)
{
    const enum lyap_observable changed = (enum lyap_observable)_i;
    if (changed == LYAP_OBSERVABLE_GAP)
        return; /* a kind of point, not a quantity */
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        double seen[LYAP_OBSERVABLE_COUNT];
        memcpy(seen, golden_scores[i], sizeof seen);
        double before = 0, x = -20;
        while (x < 2000) {
            seen[changed] = x;
            const double score = lyap_score(LYAP_SCORE_NOW, seen);
            ck_assert_msg(score >= before, "%s = %g: %g after %g", lyap_observable_name(changed), x,
                          score, before);
            before = score;
            x += 0.05 + fabs(x) / 50;
        }
    }
}
END_TEST

/* Shares come in order, are positive and name what was seen. */
START_TEST(test_parts)
{
    struct lyap_score_part parts[LYAP_SCORE_PARTS_MAX];
    uint32_t most = 0;
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        const uint32_t count = lyap_score_parts(LYAP_SCORE_NOW, golden_scores[i], parts);
        most = count > most ? count : most;
        for (uint32_t k = 0; k < count; k++) {
            ck_assert(parts[k].log_odds > 0);
            ck_assert(k == 0 || parts[k].log_odds <= parts[k - 1].log_odds);
            ck_assert(parts[k].value_a == golden_scores[i][parts[k].a]);
            if (parts[k].b != LYAP_OBSERVABLE_COUNT)
                ck_assert(parts[k].value_b == golden_scores[i][parts[k].b]);
        }
    }
    ck_assert_uint_eq(most, LYAP_SCORE_PARTS_MAX);
}
END_TEST

START_TEST(test_no_allocation)
{
    struct lyap_observer observer;
    struct lyap_point point;
    struct lyap_score_part parts[LYAP_SCORE_PARTS_MAX];
    lyap_point_init(&point);
    lyap_observer_init(&observer);
    test_alloc_install();
    const uint64_t before = test_alloc_count();
    for (int i = 0; i < 200; i++) {
        point.metrics[LYAP_METRIC_LOSS] = (struct lyap_value){ .value = 1.0 / (i + 1) };
        point.metrics[LYAP_METRIC_PROGRESS_SCALE] = (struct lyap_value){ .value = .1 };
        lyap_observer_step(&observer, &point);
        (void)lyap_score(LYAP_SCORE_NOW, observer.seen);
        (void)lyap_score_parts(LYAP_SCORE_NOW, observer.seen, parts);
    }
    ck_assert_uint_eq(test_alloc_count(), before);
}
END_TEST

/* A level of 1 for sixty points with E = 1/2, then a jump to 3: by hand. */
START_TEST(test_jump_by_hand)
{
    struct lyap_observer o;
    struct lyap_point p;
    lyap_point_init(&p);
    lyap_observer_init(&o);
    p.metrics[LYAP_METRIC_PROGRESS_SCALE] = (struct lyap_value){ .value = .5 };
    p.metrics[LYAP_METRIC_PREDICTED_DECREASE] = (struct lyap_value){ .value = .2 };
    for (int i = 0; i < 62; i++) {
        p.metrics[LYAP_METRIC_LOSS] = (struct lyap_value){ .value = i < 60 ? 1 : 3 };
        lyap_observer_step(&o, &p);
        if (i == 59)
            test_close(o.seen[LYAP_OBSERVABLE_RECORD], 0, 1e-15);
        if (i == 60) {
            test_close(o.seen[LYAP_OBSERVABLE_RECORD], 4, 1e-15);
            test_close(o.seen[LYAP_OBSERVABLE_TWICE], 0, 1e-15);
            test_close(o.seen[LYAP_OBSERVABLE_TAIL], 200, 1e-12); /* 2 / (.02 E) */
            test_close(o.seen[LYAP_OBSERVABLE_LOSS_Z], log(3) / .1, 1e-12);
            test_close(o.seen[LYAP_OBSERVABLE_REACH], .2 * .5 / 3, 1e-15);
        }
    }
    test_close(o.seen[LYAP_OBSERVABLE_TWICE], 4, 1e-15);
    test_close(o.seen[LYAP_OBSERVABLE_DRIFT], 0, 1e-15); /* three of five are still 1 */
    ck_assert(isnan(o.seen[LYAP_OBSERVABLE_UPDATE_Z]));
}
END_TEST

static void give(struct lyap_point *p, enum lyap_metric metric, double value)
{
    p->metrics[metric] = (struct lyap_value){ .value = value };
}

/* Thirty calm points, then one of four times the least loss at twice the rate: by hand. */
START_TEST(test_records_by_hand)
{
    struct lyap_observer o;
    struct lyap_point p;
    lyap_point_init(&p);
    lyap_observer_init(&o);
    for (int i = 0; i < 31; i++) {
        const bool is_last = i == 30;
        give(&p, LYAP_METRIC_LOSS, is_last ? .4 : .1);
        give(&p, LYAP_METRIC_LOSS_EXCESS, is_last ? .6 : 0); /* m = .1 */
        give(&p, LYAP_METRIC_PROGRESS_SCALE, .5);
        give(&p, LYAP_METRIC_LOSS_SPREAD, .02);
        give(&p, LYAP_METRIC_LR, is_last ? .2 : .1);
        give(&p, LYAP_METRIC_OVERSHOOT_WORK, is_last ? .5 : -.1);
        give(&p, LYAP_METRIC_PREDICTED_DECREASE, is_last ? .5 : .1);
        give(&p, LYAP_METRIC_PREDICTED_CHANGE, is_last ? .25 : -.1);
        give(&p, LYAP_METRIC_EDGE_RATIO, is_last ? 1 : .3);
        give(&p, LYAP_METRIC_GRAD_NORM, is_last ? 4 : 1);
        lyap_observer_step(&o, &p);
    }
    test_close(o.seen[LYAP_OBSERVABLE_RELAPSE], log(4) / log(3), 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_RELAPSE_TWICE], 0, 1e-15);
    test_close(o.seen[LYAP_OBSERVABLE_RELAPSE_MID], 0, 1e-15);
    test_close(o.seen[LYAP_OBSERVABLE_REBOUND], log(4), 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_EXCESS_NOISE], 0, 1e-15);
    test_close(o.seen[LYAP_OBSERVABLE_OVERSHOOT_PEAK], .5, 1e-15);
    test_close(o.seen[LYAP_OBSERVABLE_OVERSHOOT_MADS], .6 / .003, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_OVERSHOOT_REACH], .5 * .5 / .4, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_DECREASE_NEW], .4, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_DECREASE_UP], log(5), 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_DECREASE_SIGMAS], 10, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_CHANGE_SIGMAS], 5, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_CHANGE_SHARE], .5, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_REACH_NEW], .5 * .5 / .4 - .5, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_EDGE_NEW], .7, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_RATE_UP], log(2), 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_GRAD_RISE], log(4), 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_GRAD_RUN], 0, 1e-12);
    /* 19 steps of unexplained .1 (the loss stays, the work says it falls), then .6 - .5 */
    test_close(o.seen[LYAP_OBSERVABLE_UNEXPLAINED], 2, 1e-12);
    ck_assert(isnan(o.seen[LYAP_OBSERVABLE_RISE_40]) == 0);
    ck_assert(o.seen[LYAP_OBSERVABLE_RISE_20] > o.seen[LYAP_OBSERVABLE_RISE_40]);
    ck_assert(isnan(o.seen[LYAP_OBSERVABLE_PARAM_STEP]) && isnan(o.seen[LYAP_OBSERVABLE_NET_PEAK]));
}
END_TEST

/* Probes every fifth point and on the next: 2 at first, then 1, at last 1.3, E = (2 - 1)/2: by
 * hand. */
START_TEST(test_probe_by_hand)
{
    struct lyap_observer o;
    struct lyap_point p;
    lyap_observer_init(&o);
    for (int i = 0; i < 102; i++) {
        lyap_point_init(&p);
        for (unsigned m = 0; m < LYAP_METRIC_COUNT; m++)
            p.metrics[m].reason = LYAP_REASON_NO_LOSS;
        if (i % 5 < 2 && i <= 51)
            give(&p, LYAP_METRIC_PROBE_LOSS, i < 20 ? 2 : i < 50 ? 1 : i == 50 ? 1.2 : 1.3);
        lyap_observer_step(&o, &p);
        if (i == 0)
            ck_assert(isnan(o.seen[LYAP_OBSERVABLE_PROBE_RELAPSE]));
        if (i == 1)
            test_close(o.seen[LYAP_OBSERVABLE_PROBE_RELAPSE], 0, 1e-15);
        if (i == 10)
            ck_assert(isnan(o.seen[LYAP_OBSERVABLE_PROBE_REBOUND]));
        if (i >= 51 && i < 101) { /* it is news for fifty points */
            test_close(o.seen[LYAP_OBSERVABLE_PROBE_RELAPSE], .6, 1e-12);
            test_close(o.seen[LYAP_OBSERVABLE_PROBE_TWICE], .4, 1e-12);
            test_close(o.seen[LYAP_OBSERVABLE_PROBE_RISE], .6, 1e-12); /* since point 46 */
            test_close(o.seen[LYAP_OBSERVABLE_PROBE_RECORD], .2, 1e-12);
            test_close(o.seen[LYAP_OBSERVABLE_PROBE_FORECAST], 1.2, 1e-12);
            test_close(o.seen[LYAP_OBSERVABLE_PROBE_REBOUND], log(1.3), 1e-12);
        }
    }
    for (int i = LYAP_OBSERVABLE_PROBE_RELAPSE; i <= LYAP_OBSERVABLE_PROBE_REBOUND; i++)
        ck_assert(isnan(o.seen[i]));
    /* The scale of the training's progress, where it is the larger one. */
    give(&p, LYAP_METRIC_PROBE_LOSS, 2);
    give(&p, LYAP_METRIC_PROGRESS_SCALE, 4);
    lyap_observer_step(&o, &p);
    test_close(o.seen[LYAP_OBSERVABLE_PROBE_RELAPSE], log(2) / log(3), 1e-12);
    lyap_point_release(&p);
}
END_TEST

static void same_bits(const double *a, const double *b, const char *what, int step)
{
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        ck_assert_msg(memcmp(&a[i], &b[i], sizeof *a) == 0 || (isnan(a[i]) && isnan(b[i])),
                      "%s of step %d: %s", what, step,
                      lyap_observable_name((enum lyap_observable)i));
}

/* What was seen, and so the score, is a function of the stored points. */
START_TEST(test_replay)
{
    const struct lyap_optimizer_params params = { .lr = .1 };
    struct trainer t;
    struct lyap_history replayed;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &params);
    ck_assert_int_eq(lyap_history_init(&replayed, NAN, 64, &t.fixture.declaration), LYAP_OK);
    for (; t.step < 130; trainer_update(&t)) {
        if (t.step > 100)
            t.lr = 2.5;
        const struct lyap_point p = trainer_push(&t);
        ck_assert_int_eq(lyap_history_reserve(&replayed), LYAP_OK);
        lyap_history_replay(&replayed, &p);
        same_bits(t.profile->history.observer.seen, replayed.observer.seen, "replay", (int)t.step);
        const struct lyap_value *score = &p.metrics[LYAP_METRIC_INSTABILITY_SCORE];
        if (!p.is_event_only)
            ck_assert(score->value == lyap_score(LYAP_SCORE_NOW, replayed.observer.seen));
    }
    lyap_history_release(&replayed);
    trainer_free(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("score");
    TCase *tests = tcase_create("score");
    tcase_add_test(tests, test_golden);
    tcase_add_test(tests, test_nothing_seen);
    tcase_add_test(tests, test_a_loss_alone);
    tcase_add_loop_test(tests, test_monotone, 0, LYAP_OBSERVABLE_COUNT);
    tcase_add_test(tests, test_parts);
    tcase_add_test(tests, test_no_allocation);
    tcase_add_test(tests, test_jump_by_hand);
    tcase_add_test(tests, test_records_by_hand);
    tcase_add_test(tests, test_probe_by_hand);
    tcase_add_test(tests, test_replay);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
