/* The ladder of advice: skip, reduce_lr, rollback, stop; each for its reason, none without end. */
#include <math.h>
#include <string.h>

#include "lyap/advice.h"
#include "support.h"

static struct lyap_value value_of(double value)
{
    return (struct lyap_value){ .value = value, .error = NAN, .reason = LYAP_REASON_NONE };
}

static struct lyap_point point_at(int64_t step, double excess, double lr)
{
    struct lyap_point point;
    lyap_point_init(&point);
    point.step = step;
    point.state = LYAP_STATE_HEALTHY;
    point.action = (struct lyap_action){ .kind = LYAP_ACTION_CONTINUE, .lr = NAN };
    point.metrics[LYAP_METRIC_LOSS_EXCESS] = value_of(excess);
    point.metrics[LYAP_METRIC_LR] = value_of(lr);
    point.metrics[LYAP_METRIC_NONFINITE_PARAM] = value_of(0);
    point.metrics[LYAP_METRIC_NONFINITE_GRAD] = value_of(0);
    return point;
}

static struct lyap_action ask_of(struct lyap_advice *advice, struct lyap_point *point,
                                 enum lyap_action_kind wanted, uint32_t used, uint32_t left)
{
    const struct lyap_advice_question question = {
        .wanted = wanted, .point = point, .rollbacks_used = used, .rollbacks_left = left
    };
    point->state = wanted == LYAP_ACTION_CONTINUE ? LYAP_STATE_HEALTHY : LYAP_STATE_UNSTABLE;
    lyap_advice_give(advice, &question, &point->action);
    lyap_advice_absorb(advice, point);
    return point->action;
}

static struct lyap_action ask(struct lyap_advice *advice, struct lyap_point *point,
                              enum lyap_action_kind wanted, uint32_t rollbacks_left)
{
    return ask_of(advice, point, wanted, 0, rollbacks_left);
}

static void quiet(struct lyap_advice *advice, int64_t *step, int count)
{
    for (int i = 0; i < count; i++) {
        struct lyap_point point = point_at((*step)++, 0, 1);
        (void)ask(advice, &point, LYAP_ACTION_CONTINUE, 3);
    }
}

/* A job that follows: skips in a row become a lower rate, lower rates a rollback, then a stop. */
START_TEST(the_ladder_is_climbed)
{
    static const enum lyap_action_kind expected[] = {
        LYAP_ACTION_SKIP,      LYAP_ACTION_SKIP,      LYAP_ACTION_SKIP,     LYAP_ACTION_REDUCE_LR,
        LYAP_ACTION_REDUCE_LR, LYAP_ACTION_REDUCE_LR, LYAP_ACTION_ROLLBACK,
    };
    struct lyap_advice advice;
    int64_t step = 0;
    double lr = 1;
    lyap_advice_init(&advice, NAN);
    quiet(&advice, &step, 20);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct lyap_point point = point_at(step++, 0.5, lr);
        const struct lyap_action action = ask(&advice, &point, LYAP_ACTION_SKIP, 1);
        ck_assert_int_eq(action.kind, expected[i]);
        if (action.kind == LYAP_ACTION_SKIP)
            ck_assert_int_eq(action.step, point.step);
        if (action.kind == LYAP_ACTION_REDUCE_LR) {
            test_close(action.lr, 0.5 * lr, 0);
            lr = action.lr;
        }
        if (action.kind == LYAP_ACTION_ROLLBACK) {
            ck_assert_int_eq(action.step, 19);
            test_close(action.lr, 0.5 * lr, 0);
        }
    }
    struct lyap_point point = point_at(step, 0.5, lr);
    const struct lyap_action action = ask_of(&advice, &point, LYAP_ACTION_REDUCE_LR, 1, 0);
    ck_assert_int_eq(action.kind, LYAP_ACTION_STOP);
    ck_assert_ptr_nonnull(strstr(action.reason, "spent"));
}
END_TEST

/* A stop says what was tried, and nothing that was not. */
START_TEST(a_stop_says_what_was_tried)
{
    static const struct {
        enum lyap_action_kind wanted;
        uint32_t used;
        bool has_lowered, has_gone_back;
    } cases[] = { { LYAP_ACTION_REDUCE_LR, 0, true, false },
                  { LYAP_ACTION_REDUCE_LR, 2, true, true },
                  { LYAP_ACTION_ROLLBACK, 0, false, false },
                  { LYAP_ACTION_ROLLBACK, 2, false, true } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lyap_advice advice;
        struct lyap_action action;
        int64_t step = 0;
        double lr = 1;
        lyap_advice_init(&advice, NAN);
        quiet(&advice, &step, 20);
        for (int n = 0; n <= LYAP_ADVICE_CUTS; n++) {
            struct lyap_point point = point_at(step++, 0.5, lr);
            action = ask_of(&advice, &point, cases[i].wanted, cases[i].used, 0);
            lr = action.kind == LYAP_ACTION_REDUCE_LR ? action.lr : lr;
        }
        ck_assert_int_eq(action.kind, LYAP_ACTION_STOP);
        ck_assert_int_eq(strstr(action.reason, "lower rate") != NULL, cases[i].has_lowered);
        ck_assert_int_eq(strstr(action.reason, "(2)") != NULL, cases[i].has_gone_back);
        ck_assert_int_eq(strstr(action.reason, "spent") != NULL, cases[i].has_gone_back);
        ck_assert_int_eq(strstr(action.reason, "rollbacks_max") != NULL, !cases[i].has_gone_back);
    }
}
END_TEST

/* The same advice standing for many points is one cut; a quiet stretch forgives. */
START_TEST(standing_advice_counts_once_and_calm_forgives)
{
    struct lyap_advice advice;
    int64_t step = 0;
    lyap_advice_init(&advice, NAN);
    for (int i = 0; i < 30; i++) {
        struct lyap_point point = point_at(step++, 0.5, 1); /* never followed: always 0.5 */
        ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 1).kind,
                         LYAP_ACTION_REDUCE_LR);
    }
    ck_assert_uint_eq(advice.cuts, 1);
    quiet(&advice, &step, LYAP_ADVICE_CALM - 1);
    ck_assert_uint_eq(advice.cuts, 1);
    quiet(&advice, &step, 1);
    ck_assert_uint_eq(advice.cuts, 0);
    struct lyap_point point = point_at(step++, 0.5, 1);
    ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_SKIP, 1).kind, LYAP_ACTION_SKIP);
    quiet(&advice, &step, LYAP_ADVICE_SKIP_REST);
    ck_assert_uint_eq(advice.skips, 0);
}
END_TEST

START_TEST(only_clean_parameters_are_worth_a_skip)
{
    struct lyap_advice advice;
    int64_t step = 0;
    lyap_advice_init(&advice, NAN);
    quiet(&advice, &step, 5);
    struct lyap_point point = point_at(step++, 0, 1);
    point.is_event_only = true;
    point.metrics[LYAP_METRIC_NONFINITE_GRAD] = value_of(4);
    ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_ROLLBACK, 1).kind, LYAP_ACTION_SKIP);
    point = point_at(step++, 0, 1);
    point.is_event_only = true;
    point.metrics[LYAP_METRIC_NONFINITE_PARAM] = value_of(4);
    point.metrics[LYAP_METRIC_NONFINITE_GRAD] = value_of(4);
    const struct lyap_action action = ask(&advice, &point, LYAP_ACTION_ROLLBACK, 1);
    ck_assert_int_eq(action.kind, LYAP_ACTION_ROLLBACK);
    ck_assert_int_eq(action.step, 4);
    /* Parameters that were not pushed are not known to be clean. */
    point = point_at(step++, 0, 1);
    point.metrics[LYAP_METRIC_LOSS] = value_of(NAN);
    point.metrics[LYAP_METRIC_NONFINITE_PARAM].reason = LYAP_REASON_NO_TENSORS;
    point.metrics[LYAP_METRIC_NONFINITE_PARAM].value = NAN;
    ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_ROLLBACK, 1).kind, LYAP_ACTION_ROLLBACK);
}
END_TEST

/* A gradient that is never finite again is no bad batch: the weights hold what spoils it. */
START_TEST(skips_do_not_go_on_for_ever)
{
    struct lyap_advice advice;
    int64_t step = 0;
    lyap_advice_init(&advice, NAN);
    quiet(&advice, &step, 5);
    for (int i = 0; i < LYAP_ADVICE_SKIPS + 1; i++) {
        struct lyap_point point = point_at(step++, 0, 1);
        point.is_event_only = true;
        point.metrics[LYAP_METRIC_NONFINITE_GRAD] = value_of(4);
        const struct lyap_action action = ask(&advice, &point, LYAP_ACTION_ROLLBACK, 1);
        ck_assert_int_eq(action.kind,
                         i < LYAP_ADVICE_SKIPS ? LYAP_ACTION_SKIP : LYAP_ACTION_ROLLBACK);
        if (action.kind == LYAP_ACTION_ROLLBACK)
            ck_assert_int_eq(action.step, 4);
    }
}
END_TEST

/* What a job that follows, as Guard does, makes of a fault that no rate mends: it takes half of an
 * advised rate, goes back when told to, and gives up when told to. */
struct follower {
    struct lyap_advice advice;
    double lr, lowest;
    uint32_t rollbacks, cuts;
    bool is_over;
};

static void follow(struct follower *job, struct lyap_point *point, uint32_t rollbacks_max)
{
    const struct lyap_action action =
        ask(&job->advice, point, LYAP_ACTION_REDUCE_LR, rollbacks_max - job->rollbacks);
    if (action.kind == LYAP_ACTION_REDUCE_LR) {
        job->cuts++;
        job->lr = 0.5 * action.lr;
    }
    if (action.kind == LYAP_ACTION_ROLLBACK) {
        job->rollbacks++;
        job->lr = action.lr;
        lyap_advice_init(&job->advice, job->advice.healthy_lr);
    }
    job->is_over = action.kind == LYAP_ACTION_STOP;
    job->lowest = fmin(job->lowest, job->lr);
}

/* `rest`: quiet points between one advice and the next, at which the loss stays risen. */
static struct follower followed(int before, int rest)
{
    struct follower job = { .lr = 0.1, .lowest = 0.1 };
    int64_t step = 0;
    lyap_advice_init(&job.advice, NAN);
    for (int round = 0; round < 100 && !job.is_over; round++) {
        for (int i = 0; i < before; i++) {
            struct lyap_point point = point_at(step++, 0, job.lr);
            (void)ask(&job.advice, &point, LYAP_ACTION_CONTINUE, 3);
        }
        const uint32_t rollbacks = job.rollbacks;
        while (job.rollbacks == rollbacks && !job.is_over && step < 100000) {
            struct lyap_point point = point_at(step++, 0.5, job.lr);
            follow(&job, &point, 3);
            for (int i = 0; i < rest; i++) {
                point = point_at(step++, 0.5, job.lr);
                (void)ask(&job.advice, &point, LYAP_ACTION_CONTINUE, 3);
            }
        }
    }
    return job;
}

START_TEST(a_fault_that_no_rate_mends_is_led_to_a_stop)
{
    static const int rests[] = { 0, 9, LYAP_ADVICE_CALM + 1 };
    for (size_t i = 0; i < sizeof rests / sizeof *rests; i++) {
        const struct follower job = followed(20, rests[i]);
        ck_assert(job.is_over);
        ck_assert_uint_eq(job.rollbacks, 3);
        ck_assert_double_ge(job.lowest, 0.1 / LYAP_ADVICE_SHARE);
        ck_assert_uint_le(job.cuts, LYAP_ADVICE_CUTS);
    }
}
END_TEST

/* With no healthy rate before the first advice, its own is the measure, also behind a rollback. */
START_TEST(what_was_never_calm_is_led_to_a_stop_too)
{
    static const int rests[] = { 0, LYAP_ADVICE_CALM + 1 };
    for (size_t i = 0; i < sizeof rests / sizeof *rests; i++) {
        const struct follower job = followed(0, rests[i]);
        ck_assert(job.is_over);
        ck_assert_uint_le(job.cuts, LYAP_ADVICE_CUTS);
        ck_assert_double_ge(job.lowest, 0.1 / LYAP_ADVICE_SHARE);
    }
    struct lyap_advice advice;
    lyap_advice_init(&advice, NAN);
    struct lyap_point point = point_at(0, 0, 0.1);
    point.state = LYAP_STATE_WARMING_UP;
    lyap_advice_absorb(&advice, &point);
    point = point_at(1, 3, 0.1);
    ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_ROLLBACK, 3).kind, LYAP_ACTION_ROLLBACK);
    test_close(advice.healthy_lr, 0.1, 0);
}
END_TEST

static double healthy_after(struct lyap_advice *advice, int64_t *step, int count, double lr)
{
    for (int i = 0; i < count; i++) {
        struct lyap_point point = point_at((*step)++, 0, lr);
        (void)ask(advice, &point, LYAP_ACTION_CONTINUE, 3);
    }
    return advice->healthy_lr;
}

/* A schedule lowers the reference; a rate that somebody raised has not proved itself by a few
 * points before the loss shows what it does; what advice lowered is no reference for the next. */
START_TEST(the_rate_at_which_training_last_was_healthy)
{
    struct lyap_advice advice;
    int64_t step = 0;
    lyap_advice_init(&advice, NAN);
    struct lyap_point point = point_at(step++, 0, 7);
    point.state = LYAP_STATE_WARMING_UP;
    lyap_advice_absorb(&advice, &point);
    ck_assert_double_nan(advice.healthy_lr);
    test_close(healthy_after(&advice, &step, 1, 0.1), 0.1, 0);
    test_close(healthy_after(&advice, &step, 1, 0.001), 0.001, 0);
    test_close(healthy_after(&advice, &step, 1, 0), 0.001, 0);
    ck_assert_double_le(healthy_after(&advice, &step, 5, 1), 0.002);
    test_close(healthy_after(&advice, &step, 200, 1), 1, 0);
    point = point_at(step++, 0.5, 1);
    const struct lyap_action action = ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 1);
    test_close(healthy_after(&advice, &step, LYAP_ADVICE_REFILL - 1, action.lr), 1, 0);
    test_close(healthy_after(&advice, &step, 1, action.lr), action.lr, 0);
    lyap_advice_init(&advice, 3);
    test_close(healthy_after(&advice, &step, 30, 0.5), 3, 0);
}
END_TEST

/* A job that follows, under a schedule of its own: `share` of what that gives is left. */
static double cut_once(struct lyap_advice *advice, int64_t *step, double scheduled, double share)
{
    struct lyap_point point = point_at((*step)++, 0.5, share * scheduled);
    const struct lyap_action action = ask(advice, &point, LYAP_ACTION_REDUCE_LR, 3);
    return action.kind == LYAP_ACTION_REDUCE_LR ? 0.5 * action.lr / scheduled : NAN;
}

static double cosine(int64_t step, int64_t steps)
{
    return 0.5 * (1 + cos(acos(-1) * (double)step / (double)steps));
}

/* What the schedule lowers is no advice that did not help: late in it a lower rate is advised as it
 * would be without the one that came early. */
START_TEST(a_schedule_does_not_use_up_the_rates)
{
    const int64_t steps = LYAP_ADVICE_REFILL - 50;
    for (int has_ceiling = 0; has_ceiling < 2; has_ceiling++) {
        struct lyap_advice advice;
        int64_t step = 0;
        double share = 1, ceiling = INFINITY;
        lyap_advice_init(&advice, NAN);
        while (step < 20)
            (void)healthy_after(&advice, &step, 1, cosine(step, steps));
        share = cut_once(&advice, &step, cosine(step, steps), 1);
        test_close(share, 0.25, 1e-12);
        if (has_ceiling)
            ceiling = share * cosine(step - 1, steps);
        while (step < steps - 20)
            (void)healthy_after(&advice, &step, 1,
                                has_ceiling ? fmin(ceiling, cosine(step, steps))
                                            : share * cosine(step, steps));
        ck_assert_double_lt(cosine(step, steps), 1.0 / LYAP_ADVICE_SHARE);
        const double again = cut_once(&advice, &step, cosine(step, steps), has_ceiling ? 1 : share);
        test_close(again, has_ceiling ? 0.25 : 0.25 * share, 1e-12);
    }
}
END_TEST

/* Nor does one that falls and rises give anything back: what advice took stays counted. */
START_TEST(a_schedule_that_swings_does_not_lift_the_bound)
{
    static const double swing[] = { 1, 0.5, 0.01, 0.2 };
    struct lyap_advice advice;
    int64_t step = 0;
    double share = 1, least = 1;
    lyap_advice_init(&advice, NAN);
    (void)healthy_after(&advice, &step, 20, 1);
    share = cut_once(&advice, &step, 1, 1);
    for (int round = 0; round < 40 && !isnan(share); round++) {
        for (int i = 0; i < LYAP_ADVICE_CALM + 10; i++)
            (void)healthy_after(&advice, &step, 1, share * swing[step % 4]);
        least = share;
        share = cut_once(&advice, &step, swing[step % 4], share);
    }
    ck_assert_double_nan(share);
    test_close(least, 1.0 / LYAP_ADVICE_SHARE, 1e-9);
}
END_TEST

/* However it goes down: part of the way, in small steps, or late. */
START_TEST(a_job_that_follows_in_its_own_way_is_bounded_too)
{
    for (int way = 0; way < 3; way++) {
        struct lyap_advice advice;
        int64_t step = 0;
        double share = 1, least = 1;
        lyap_advice_init(&advice, NAN);
        (void)healthy_after(&advice, &step, 20, 1);
        for (int round = 0; round < 40 && !isnan(share); round++) {
            const double aim = cut_once(&advice, &step, 1, share);
            const double to = way == 0 ? 0.75 * share : aim;
            (void)healthy_after(&advice, &step, way == 2 ? 30 : 1, share);
            for (int i = 1; i <= 20 && way == 1; i++)
                (void)healthy_after(&advice, &step, 1, share * pow(to / share, i / 20.0));
            least = isnan(aim) ? share : to;
            share = isnan(aim) ? NAN : to;
            (void)healthy_after(&advice, &step, LYAP_ADVICE_CALM, least);
        }
        ck_assert_double_nan(share);
        ck_assert_double_ge(least, 0.5 / LYAP_ADVICE_SHARE);
    }
}
END_TEST

/* Of a job that does not follow, falling rates are no cuts. */
START_TEST(a_schedule_does_not_climb_the_ladder)
{
    struct lyap_advice advice;
    int64_t step = 0;
    lyap_advice_init(&advice, NAN);
    (void)healthy_after(&advice, &step, 20, 1);
    for (int i = 0; i < 50; i++) {
        struct lyap_point point = point_at(step++, 0.5, 1 - 0.008 * i);
        ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 3).kind,
                         LYAP_ACTION_REDUCE_LR);
    }
    ck_assert_uint_eq(advice.cuts, 1);
}
END_TEST

/* Without a rate nobody knows whether it was lowered: it gets time to show all the same. */
START_TEST(a_rate_that_is_not_known_is_lowered_as_patiently)
{
    struct lyap_advice advice;
    int64_t step = 0;
    lyap_advice_init(&advice, NAN);
    (void)healthy_after(&advice, &step, 20, NAN);
    for (int i = 0; i < LYAP_ADVICE_PATIENCE; i++) {
        struct lyap_point point = point_at(step++, 0.5, NAN);
        ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 3).kind,
                         LYAP_ACTION_REDUCE_LR);
        ck_assert_uint_eq(advice.cuts, 1);
    }
    for (uint32_t cut = 2; cut <= LYAP_ADVICE_CUTS; cut++, step += LYAP_ADVICE_PATIENCE) {
        for (int i = 0; i < LYAP_ADVICE_PATIENCE; i++) {
            struct lyap_point point = point_at(step + i, 0.5, NAN);
            ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 3).kind,
                             LYAP_ACTION_REDUCE_LR);
            ck_assert_uint_eq(advice.cuts, cut);
        }
    }
    struct lyap_point point = point_at(step, 0.5, NAN);
    ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 3).kind, LYAP_ACTION_ROLLBACK);
}
END_TEST

/* Nor does a rollback that cannot be followed: there may be no checkpoint that old. */
START_TEST(a_rollback_lowers_the_rate_no_further_either)
{
    struct lyap_advice advice;
    int64_t step = 0;
    double lr = 1;
    lyap_advice_init(&advice, NAN);
    quiet(&advice, &step, 20);
    for (int i = 0; i < 30; i++) {
        struct lyap_point point = point_at(step++, 3, lr);
        const struct lyap_action action = ask(&advice, &point, LYAP_ACTION_ROLLBACK, 3);
        ck_assert_int_eq(action.kind, LYAP_ACTION_ROLLBACK);
        ck_assert_double_le(action.lr, lr);
        lr = action.lr;
    }
    test_close(lr, 1.0 / LYAP_ADVICE_SHARE, 0);
    lr *= 0.01; /* a schedule went on: advice never raises a rate */
    struct lyap_point point = point_at(step++, 3, lr);
    test_close(ask(&advice, &point, LYAP_ACTION_ROLLBACK, 3).lr, lr, 0);
}
END_TEST

/* Half of the progress gone, and not for one batch alone: a lower rate would not bring it back. */
START_TEST(what_is_lost_is_gone_back_to)
{
    static const struct {
        double excess, spread;
        enum lyap_action_kind second;
    } cases[] = { { 1.5, NAN, LYAP_ACTION_ROLLBACK },
                  { 1.5, 0.2, LYAP_ACTION_ROLLBACK },
                  { 1.5, 0.6, LYAP_ACTION_REDUCE_LR }, /* such losses are usual here */
                  { 0.9, 0.0, LYAP_ACTION_REDUCE_LR },
                  { INFINITY, NAN, LYAP_ACTION_ROLLBACK } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lyap_advice advice;
        int64_t step = 0;
        lyap_advice_init(&advice, NAN);
        quiet(&advice, &step, 7);
        for (int n = 0; n < 2; n++) {
            struct lyap_point point = point_at(step++, cases[i].excess, n ? 0.5 : 1);
            point.metrics[LYAP_METRIC_LOSS_SPREAD] = value_of(cases[i].spread);
            if (isnan(cases[i].spread))
                point.metrics[LYAP_METRIC_LOSS_SPREAD].reason = LYAP_REASON_WARMING_UP;
            ck_assert_int_eq(lyap_advice_is_lost(&advice, &point),
                             n == 1 && cases[i].second == LYAP_ACTION_ROLLBACK);
            const struct lyap_action action = ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 1);
            ck_assert_int_eq(action.kind, n ? cases[i].second : LYAP_ACTION_REDUCE_LR);
            if (action.kind == LYAP_ACTION_ROLLBACK)
                ck_assert_int_eq(action.step, 6);
        }
    }
}
END_TEST

/* What opens an attempt soon after a rollback was advised follows it; after a calm it does not. */
START_TEST(a_rollback_is_due_until_calm)
{
    struct lyap_advice advice;
    int64_t step = 0;
    lyap_advice_init(&advice, NAN);
    quiet(&advice, &step, 5);
    ck_assert(!advice.is_back_due);
    struct lyap_point point = point_at(step++, 3, 1);
    ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_ROLLBACK, 1).kind, LYAP_ACTION_ROLLBACK);
    quiet(&advice, &step, LYAP_ADVICE_CALM - 1);
    ck_assert(advice.is_back_due);
    quiet(&advice, &step, 1);
    ck_assert(!advice.is_back_due);
}
END_TEST

/* Where it cannot be gone back to, a lower rate is better than an end. */
START_TEST(what_is_lost_does_not_stop_the_run)
{
    struct lyap_advice advice;
    int64_t step = 0;
    lyap_advice_init(&advice, NAN);
    quiet(&advice, &step, 7);
    for (int n = 0; n < 2; n++) {
        struct lyap_point point = point_at(step++, 3, 1);
        ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 0).kind,
                         LYAP_ACTION_REDUCE_LR);
    }
    lyap_advice_init(&advice, NAN); /* no sound step */
    for (int n = 0; n < 2; n++) {
        struct lyap_point point = point_at(step++, 3, 1);
        ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 3).kind,
                         LYAP_ACTION_REDUCE_LR);
    }
}
END_TEST

/* A loss that has begun to rise ends what may be gone back to; noise within its spread does not. */
START_TEST(the_step_to_go_back_to)
{
    struct lyap_advice advice;
    lyap_advice_init(&advice, NAN);
    struct lyap_point point = point_at(0, 2, 1);
    (void)ask(&advice, &point, LYAP_ACTION_CONTINUE, 1);
    ck_assert_int_eq(advice.calm_step, -1);
    ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_ROLLBACK, 1).kind, LYAP_ACTION_STOP);
    point = point_at(1, 0.05, 1);
    (void)ask(&advice, &point, LYAP_ACTION_CONTINUE, 1);
    ck_assert_int_eq(advice.calm_step, 1);
    point = point_at(2, 0.3, 1);
    (void)ask(&advice, &point, LYAP_ACTION_CONTINUE, 1);
    ck_assert_int_eq(advice.calm_step, 1);
    point = point_at(3, 0.3, 1);
    point.metrics[LYAP_METRIC_LOSS_SPREAD] = value_of(0.25);
    (void)ask(&advice, &point, LYAP_ACTION_CONTINUE, 1);
    ck_assert_int_eq(advice.calm_step, 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("advice");
    TCase *tests = tcase_create("advice");
    tcase_add_test(tests, the_ladder_is_climbed);
    tcase_add_test(tests, standing_advice_counts_once_and_calm_forgives);
    tcase_add_test(tests, only_clean_parameters_are_worth_a_skip);
    tcase_add_test(tests, skips_do_not_go_on_for_ever);
    tcase_add_test(tests, a_fault_that_no_rate_mends_is_led_to_a_stop);
    tcase_add_test(tests, what_was_never_calm_is_led_to_a_stop_too);
    tcase_add_test(tests, the_rate_at_which_training_last_was_healthy);
    tcase_add_test(tests, a_stop_says_what_was_tried);
    tcase_add_test(tests, a_schedule_does_not_use_up_the_rates);
    tcase_add_test(tests, a_schedule_that_swings_does_not_lift_the_bound);
    tcase_add_test(tests, a_job_that_follows_in_its_own_way_is_bounded_too);
    tcase_add_test(tests, a_schedule_does_not_climb_the_ladder);
    tcase_add_test(tests, a_rate_that_is_not_known_is_lowered_as_patiently);
    tcase_add_test(tests, a_rollback_lowers_the_rate_no_further_either);
    tcase_add_test(tests, what_is_lost_is_gone_back_to);
    tcase_add_test(tests, a_rollback_is_due_until_calm);
    tcase_add_test(tests, what_is_lost_does_not_stop_the_run);
    tcase_add_test(tests, the_step_to_go_back_to);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
