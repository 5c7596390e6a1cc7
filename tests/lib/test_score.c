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

static const double ROUNDING = 1e-6; /* of shares in the table, added up */

static double shares[LYAP_OBSERVABLE_COUNT];

enum { GOLDEN_COUNT = sizeof golden_scores / sizeof *golden_scores };

START_TEST(test_golden)
{
    for (int i = 0; i < GOLDEN_COUNT; i++)
        for (int kind = 0; kind < 2; kind++) {
            const double expected = golden_scores[i][LYAP_OBSERVABLE_COUNT + kind];
            const double score = lyap_score((enum lyap_score_kind)kind, golden_scores[i], shares);
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
    ck_assert(isnan(lyap_score(LYAP_SCORE_NOW, seen, shares)) &&
              isnan(lyap_score(LYAP_SCORE_NEXT, seen, shares)));
    ck_assert_uint_eq(lyap_score_parts(shares, seen, parts), 0);
    seen[LYAP_OBSERVABLE_EXCESS] = seen[LYAP_OBSERVABLE_RELAPSE] = 0;
    const double score = lyap_score(LYAP_SCORE_NOW, seen, shares);
    ck_assert_msg(score < LYAP_SCORE_EARLY, "a loss at its least alone: %g", score);
    ck_assert(isnan(lyap_score(LYAP_SCORE_NEXT, seen, shares)));
}
END_TEST

static void clear(struct lyap_point *p)
{
    lyap_point_init(p);
    for (unsigned m = 0; m < LYAP_METRIC_COUNT; m++)
        p->metrics[m].reason = LYAP_REASON_NO_LOSS;
}

static void give(struct lyap_point *p, enum lyap_metric metric, double value)
{
    p->metrics[metric] = (struct lyap_value){ .value = value };
}

/* Points that bring nothing give no score, however many come, after gaps as well; the first loss
 * gives one. */
START_TEST(test_points_of_nothing)
{
    struct lyap_observer o;
    struct lyap_point p;
    lyap_observer_init(&o);
    clear(&p);
    for (int i = 0; i < 70; i++) {
        p.is_gap = i % 10 == 9;
        lyap_observer_step(&o, &p);
        for (int kind = 0; kind < LYAP_SCORE_KIND_COUNT; kind++)
            ck_assert_msg(isnan(lyap_score((enum lyap_score_kind)kind, o.seen, shares)),
                          "point %d, kind %d", i, kind);
    }
    lyap_observer_init(&o);
    clear(&p);
    give(&p, LYAP_METRIC_LOSS, 2);
    lyap_observer_step(&o, &p);
    const double first = lyap_score(LYAP_SCORE_NOW, o.seen, shares);
    ck_assert_msg(isnan(first) || (first >= 0 && first < LYAP_SCORE_EARLY), "%g", first);
    ck_assert(isnan(lyap_score(LYAP_SCORE_NEXT, o.seen, shares)));
    lyap_point_release(&p);
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
        ck_assert(lyap_score(LYAP_SCORE_NOW, seen, shares) < LYAP_SCORE_EARLY);
        for (unsigned i = 0; i < sizeof of_losses / sizeof *of_losses; i++)
            seen[of_losses[i]] = 100;
        ck_assert(lyap_score(LYAP_SCORE_NOW, seen, shares) > LYAP_SCORE_DEFAULT);
    }
}
END_TEST

/* What physics says of one observable alone: more of it never lowers a score (RISING of
 * bench/detection/fit.py). */
static const enum lyap_observable rising[] = {
    LYAP_OBSERVABLE_EXCESS,        LYAP_OBSERVABLE_RECORD,        LYAP_OBSERVABLE_TWICE,
    LYAP_OBSERVABLE_DRIFT,         LYAP_OBSERVABLE_SLOW_DRIFT,    LYAP_OBSERVABLE_LEVEL,
    LYAP_OBSERVABLE_RELAPSE,       LYAP_OBSERVABLE_RELAPSE_TWICE, LYAP_OBSERVABLE_RELAPSE_MID,
    LYAP_OBSERVABLE_RELAPSE_MEAN,  LYAP_OBSERVABLE_EXCESS_3,      LYAP_OBSERVABLE_EXCESS_5,
    LYAP_OBSERVABLE_OVERSHOOT,     LYAP_OBSERVABLE_OVERSHOOT_3,   LYAP_OBSERVABLE_OVERSHOOT_PEAK,
    LYAP_OBSERVABLE_OVERSHOOT_NEW, LYAP_OBSERVABLE_MOMENT,        LYAP_OBSERVABLE_PROBE_RELAPSE,
    LYAP_OBSERVABLE_PROBE_TWICE,
};

START_TEST(test_monotone)
{
    const enum lyap_observable changed = rising[_i / LYAP_SCORE_KIND_COUNT];
    const enum lyap_score_kind kind = (enum lyap_score_kind)(_i % LYAP_SCORE_KIND_COUNT);
    int compared = 0;
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        double seen[LYAP_OBSERVABLE_COUNT];
        memcpy(seen, golden_scores[i], sizeof seen);
        double before = 0, x = -20;
        seen[changed] = x;
        if (isnan(lyap_score(kind, seen, shares)))
            continue; /* too little is known, whatever this one says */
        compared++;
        while (x < 2000) {
            seen[changed] = x;
            const double score = lyap_score(kind, seen, shares);
            ck_assert_msg(score >= before - ROUNDING, "%s = %g: %g after %g",
                          lyap_observable_name(changed), x, score, before);
            before = score;
            x += 0.05 + fabs(x) / 50;
        }
    }
    ck_assert_int_gt(compared, 10);
}
END_TEST

/* Shares come in order, are positive and name what was seen. */
START_TEST(test_parts)
{
    struct lyap_score_part parts[LYAP_SCORE_PARTS_MAX];
    uint32_t most = 0;
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        (void)lyap_score(LYAP_SCORE_NOW, golden_scores[i], shares);
        const uint32_t count = lyap_score_parts(shares, golden_scores[i], parts);
        most = count > most ? count : most;
        for (uint32_t k = 0; k < count; k++) {
            ck_assert(parts[k].log_odds > 0);
            ck_assert(k == 0 || parts[k].log_odds <= parts[k - 1].log_odds);
            ck_assert(parts[k].value_a == golden_scores[i][parts[k].a]);
            ck_assert_uint_eq(parts[k].b, LYAP_OBSERVABLE_COUNT);
        }
    }
    ck_assert_uint_eq(most, LYAP_SCORE_PARTS_MAX);
}
END_TEST

/* The shares are all that tells two scores of one model apart. */
START_TEST(test_shares_add_up)
{
    double base = NAN;
    int compared = 0;
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        const double score = lyap_score(LYAP_SCORE_NEXT, golden_scores[i], shares);
        if (isnan(score))
            continue;
        double rest = log(score / (1 - score));
        for (unsigned k = 0; k < LYAP_OBSERVABLE_COUNT; k++)
            rest -= shares[k];
        if (compared++ == 0)
            base = rest;
        test_close(rest, base, 1e-5);
    }
    ck_assert_int_gt(compared, 10);
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
        (void)lyap_score(LYAP_SCORE_NOW, observer.seen, shares);
        (void)lyap_score_parts(shares, observer.seen, parts);
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

/* A rate that doubles at point 90, losses that rise by a tenth from there on: by hand. */
START_TEST(test_trends_by_hand)
{
    struct lyap_observer o;
    struct lyap_point p;
    lyap_observer_init(&o);
    for (int i = 0; i < 100; i++) {
        clear(&p);
        give(&p, LYAP_METRIC_LR, i < 90 ? .1 : .2);
        give(&p, LYAP_METRIC_LOSS, i < 90 ? 1 : pow(1.1, i - 89));
        give(&p, LYAP_METRIC_PROGRESS_SCALE, .5);
        give(&p, LYAP_METRIC_OVERSHOOT_WORK, .01);
        give(&p, LYAP_METRIC_GRAD_NORM, exp(.01 * i));
        give(&p, LYAP_METRIC_UPDATE_NORM, i % 2 ? 2 : 1);
        give(&p, LYAP_METRIC_SECANT_CURVATURE, 5);
        lyap_observer_step(&o, &p);
        if (i == 19)
            ck_assert(isnan(o.seen[LYAP_OBSERVABLE_OVERSHOOT_20]) &&
                      isnan(o.seen[LYAP_OBSERVABLE_RATE_20]));
    }
    test_close(o.seen[LYAP_OBSERVABLE_RATE_1], 0, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_RATE_20], log(2), 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_RATE_ABOVE], log(2), 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_LOSS_RUN_5], log(1.1), 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_LOSS_RUN_5_2], 2 * log(1.1), 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_GRAD_6], .06, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_GRAD_SHIFT_60], .6, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_MOVED_RUN_5], -log(2), 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_OVERSHOOT_20], .2, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_OVERSHOOT_50], .5, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_RATE_5], 0, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_RATE_50], log(2), 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_MOVED_3], log(2), 1e-12); /* 2 after 1 */
    test_close(o.seen[LYAP_OBSERVABLE_MOVED_6], 0, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_MOVED_20], 0, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_MOVED_50], 0, 1e-12);
    /* median of 20 ones and 1.1^1 ... 1.1^10, against 30 ones */
    test_close(o.seen[LYAP_OBSERVABLE_LOSS_SHIFT_30], 0, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_LOSS_SHIFT_60], 0, 1e-12);
    test_close(o.seen[LYAP_OBSERVABLE_GRAD_SHIFT_20], .2, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_GRAD_SHIFT_30], .3, 1e-9);
    /* median of 1.1^1 ... 1.1^10, against 1 */
    const double rise = (pow(1.1, 5) + pow(1.1, 6)) / 2 - 1;
    test_close(o.seen[LYAP_OBSERVABLE_UNEXPLAINED_20], rise / .5 - .2, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_PATH], 0, 1e-12);
    ck_assert(isnan(o.seen[LYAP_OBSERVABLE_PARAM_50]) && isnan(o.seen[LYAP_OBSERVABLE_EXCESS_3]));
    lyap_point_release(&p);
}
END_TEST

/* Norms that grow, a loss that doubles each point from 40 on, a negative curvature: by hand. */
START_TEST(test_more_trends_by_hand)
{
    struct lyap_observer o;
    struct lyap_point p;
    lyap_observer_init(&o);
    for (int i = 0; i < 80; i++) {
        const double loss = i < 40 ? 1 : ldexp(1, i - 39);
        clear(&p);
        give(&p, LYAP_METRIC_LR, .1);
        give(&p, LYAP_METRIC_LOSS, loss);
        give(&p, LYAP_METRIC_PROGRESS_SCALE, .5);
        give(&p, LYAP_METRIC_LOSS_EXCESS, (loss - 1) / .5);
        give(&p, LYAP_METRIC_PARAM_NORM, exp(.02 * i));
        give(&p, LYAP_METRIC_UPDATE_NORM, exp(.03 * i));
        give(&p, LYAP_METRIC_PREDICTED_DECREASE, exp(.05 * i));
        give(&p, LYAP_METRIC_NET_WORK, i % 4 == 1 ? -.25 : .5);
        give(&p, LYAP_METRIC_SECANT_CURVATURE, -3);
        lyap_observer_step(&o, &p);
        if (i == 1)
            ck_assert(isnan(o.seen[LYAP_OBSERVABLE_RELAPSE_MEAN]) &&
                      isnan(o.seen[LYAP_OBSERVABLE_EXCESS_3]) &&
                      isnan(o.seen[LYAP_OBSERVABLE_NET_3]));
        if (i == 40) { /* losses 1 1 2: their mean is 4/3, x = 2/3 */
            test_close(o.seen[LYAP_OBSERVABLE_RELAPSE_MEAN], 2.0 / 3, 1e-12);
            test_close(o.seen[LYAP_OBSERVABLE_EXCESS_3], 0, 1e-15);
        }
        if (i == 43) { /* 4 8 16: x of the least, and of the five */
            test_close(o.seen[LYAP_OBSERVABLE_EXCESS_3], 6, 1e-12);
            test_close(o.seen[LYAP_OBSERVABLE_EXCESS_5], 0, 1e-15);
            test_close(o.seen[LYAP_OBSERVABLE_NET_3], -.25, 1e-15); /* points 41 42 43 */
        }
        if (i == 44) {
            test_close(o.seen[LYAP_OBSERVABLE_EXCESS_5], 2, 1e-12);
            test_close(o.seen[LYAP_OBSERVABLE_NET_3], .5, 1e-15);
        }
    }
    test_close(o.seen[LYAP_OBSERVABLE_PARAM_5], .1, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_PARAM_20], .4, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_PARAM_50], 1, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_MOVED_3], .09, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_MOVED_6], .18, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_MOVED_20], .6, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_MOVED_50], 1.5, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_MOVED_SHIFT_30], .9, 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_DECREASE_6], .3, 1e-9);
    /* medians of 2^11 ... 2^40, and of 20 ones and 2^1 ... 2^10 */
    test_close(o.seen[LYAP_OBSERVABLE_LOSS_SHIFT_30], 25.5 * log(2), 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_LOSS_SHIFT_60], 25.5 * log(2), 1e-9);
    test_close(o.seen[LYAP_OBSERVABLE_PATH], log(1e-12), 1e-12);
    lyap_point_release(&p);
}
END_TEST

/* Probes every fifth point and on the next: 2 at first, then 1, at last 1.3, E = (2 - 1)/2: by
 * hand. */
START_TEST(test_probe_by_hand)
{
    struct lyap_observer o;
    struct lyap_point p;
    lyap_observer_init(&o);
    for (int i = 0; i < 72; i++) {
        clear(&p);
        if (i % 5 < 2 && i <= 51)
            give(&p, LYAP_METRIC_PROBE_LOSS, i < 20 ? 2 : i < 50 ? 1 : i == 50 ? 1.2 : 1.3);
        lyap_observer_step(&o, &p);
        if (i == 0)
            ck_assert(isnan(o.seen[LYAP_OBSERVABLE_PROBE_RELAPSE]));
        if (i == 1)
            test_close(o.seen[LYAP_OBSERVABLE_PROBE_RELAPSE], 0, 1e-15);
        if (i == 10)
            ck_assert(isnan(o.seen[LYAP_OBSERVABLE_PROBE_REBOUND]));
        if (i >= 51 && i < 71) { /* it is news for twenty points */
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

/* The score of a job's first push, of Adam whose state is unknown; its tensors come or not. */
static struct lyap_value first_score(bool has_tensors)
{
    const struct lyap_optimizer_params params = { .lr = .1, .beta1 = .9, .beta2 = .99 };
    struct trainer t;
    trainer_init(&t, LYAP_OPTIMIZER_ADAM, &params);
    t.is_late = true;
    struct lyap_point p = trainer_push(&t);
    if (!has_tensors) {
        lyap_profile_free(t.profile);
        ck_assert_int_eq(lyap_profile_new(&t.fixture.declaration, NAN, &t.profile), LYAP_OK);
        ck_assert_int_eq(
            lyap_profile_step(t.profile, &t.fixture.snapshot, NULL, LYAP_REASON_NONE, &p, NULL),
            LYAP_OK);
    }
    ck_assert_int_ne(p.metrics[LYAP_METRIC_PREDICTED_DECREASE].reason, LYAP_REASON_NONE);
    trainer_free(&t);
    return p.metrics[LYAP_METRIC_INSTABILITY_SCORE];
}

/* Before any other observable could tell, a push of tensors has a table of pushes of tensors. */
START_TEST(test_first_push)
{
    const struct lyap_value whole = first_score(true), bare = first_score(false);
    ck_assert_int_eq(whole.reason, LYAP_REASON_NONE);
    ck_assert_int_eq(bare.reason, LYAP_REASON_NONE);
    ck_assert_msg(whole.value != bare.value, "%g of tensors and of the loss alone", bare.value);
}
END_TEST

/* What was seen, and so the score, is a function of the stored points. */
START_TEST(test_replay)
{
    const struct lyap_optimizer_params params = { .lr = .1 };
    struct trainer t;
    struct lyap_history replayed;
    int gaps = 0, events = 0, probed = 0;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &params);
    ck_assert_int_eq(lyap_history_init(&replayed, NAN, 64, &t.fixture.declaration), LYAP_OK);
    for (; t.step < 130; trainer_update(&t)) {
        if (t.step > 100)
            t.lr = 2.5;
        if (t.step == 61)
            trainer_update(&t); /* not pushed */
        t.has_probe_loss = t.step % 5 == 0;
        t.loss_factor = t.step == 70 ? NAN : 1;
        const struct lyap_point p = trainer_push(&t);
        ck_assert_int_eq(lyap_history_reserve(&replayed), LYAP_OK);
        lyap_history_replay(&replayed, &p);
        same_bits(t.profile->history.observer.seen, replayed.observer.seen, "replay", (int)t.step);
        const struct lyap_value *score = &p.metrics[LYAP_METRIC_INSTABILITY_SCORE];
        if (!p.is_event_only)
            ck_assert(score->value == lyap_score(LYAP_SCORE_NOW, replayed.observer.seen, shares));
        gaps += p.is_gap;
        probed += !isnan(replayed.observer.seen[LYAP_OBSERVABLE_PROBE_RISE]);
        events += p.is_event_only;
        if (p.is_event_only) /* the job leaves this update out */
            memset(t.grad, 0, sizeof t.grad);
    }
    ck_assert_int_eq(gaps, 1); /* the push that was lost is none */
    ck_assert_int_eq(events, 1);
    ck_assert_int_gt(probed, 100);
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
    tcase_add_test(tests, test_points_of_nothing);
    tcase_add_test(tests, test_a_loss_alone);
    tcase_add_test(tests, test_first_push);
    tcase_add_loop_test(tests, test_monotone, 0,
                        LYAP_SCORE_KIND_COUNT * (sizeof rising / sizeof *rising));
    tcase_add_test(tests, test_parts);
    tcase_add_test(tests, test_shares_add_up);
    tcase_add_test(tests, test_no_allocation);
    tcase_add_test(tests, test_jump_by_hand);
    tcase_add_test(tests, test_records_by_hand);
    tcase_add_test(tests, test_trends_by_hand);
    tcase_add_test(tests, test_more_trends_by_hand);
    tcase_add_test(tests, test_probe_by_hand);
    tcase_add_test(tests, test_replay);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
