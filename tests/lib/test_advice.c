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

static struct lyap_action ask(struct lyap_advice *advice, struct lyap_point *point,
                              enum lyap_action_kind wanted, uint32_t rollbacks_left)
{
    const struct lyap_advice_question question = { .wanted = wanted,
                                                   .point = point,
                                                   .rollbacks_left = rollbacks_left };
    point->state = wanted == LYAP_ACTION_CONTINUE ? LYAP_STATE_HEALTHY : LYAP_STATE_UNSTABLE;
    lyap_advice_give(advice, &question, &point->action);
    lyap_advice_absorb(advice, point);
    return point->action;
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
    lyap_advice_init(&advice);
    quiet(&advice, &step, 20);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct lyap_point point = point_at(step++, 2, lr);
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
    struct lyap_point point = point_at(step, 2, lr);
    const struct lyap_action action = ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 0);
    ck_assert_int_eq(action.kind, LYAP_ACTION_STOP);
    ck_assert_ptr_nonnull(strstr(action.reason, "spent"));
}
END_TEST

/* The same advice standing for many points is one cut; a quiet stretch forgives. */
START_TEST(standing_advice_counts_once_and_calm_forgives)
{
    struct lyap_advice advice;
    int64_t step = 0;
    lyap_advice_init(&advice);
    for (int i = 0; i < 30; i++) {
        struct lyap_point point = point_at(step++, 2, 1); /* never followed: always 0.5 */
        ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_REDUCE_LR, 1).kind,
                         LYAP_ACTION_REDUCE_LR);
    }
    ck_assert_uint_eq(advice.cuts, 1);
    quiet(&advice, &step, LYAP_ADVICE_CALM - 1);
    ck_assert_uint_eq(advice.cuts, 1);
    quiet(&advice, &step, 1);
    ck_assert_uint_eq(advice.cuts, 0);
    struct lyap_point point = point_at(step++, 2, 1);
    ck_assert_int_eq(ask(&advice, &point, LYAP_ACTION_SKIP, 1).kind, LYAP_ACTION_SKIP);
    quiet(&advice, &step, LYAP_ADVICE_SKIP_REST);
    ck_assert_uint_eq(advice.skips, 0);
}
END_TEST

START_TEST(only_clean_parameters_are_worth_a_skip)
{
    struct lyap_advice advice;
    int64_t step = 0;
    lyap_advice_init(&advice);
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

/* A loss that has begun to rise ends what may be gone back to; noise within its spread does not. */
START_TEST(the_step_to_go_back_to)
{
    struct lyap_advice advice;
    lyap_advice_init(&advice);
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
    tcase_add_test(tests, the_step_to_go_back_to);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
