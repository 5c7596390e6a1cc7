/* The profile on real trainings of the golden network (T19): oracle values, curvature against
 * exact power iteration, energies, the limit crossed, a run that diverges. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/advice.h"
#include "lyap/level.h"
#include "lyap/ritz.h"
#include "lyap/transition.h"
#include "profile_trainer.h"
#include "../oracle/golden_values.h"

static const struct lyap_optimizer_params plain = { .lr = .1 };

static enum lyap_reason reason_of(const struct lyap_point *p, enum lyap_metric metric)
{
    return (enum lyap_reason)p->metrics[metric].reason;
}

/* The last nine snapshots, whole. */
struct path {
    double theta[9][NET_SIZE], grad[9][NET_SIZE];
};

static struct lyap_ritz exact_ritz(const struct path *w)
{
    double ss[64] = { 0 }, sy[64] = { 0 }, yy[64] = { 0 };
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++)
            for (int k = 0; k < NET_SIZE; k++) {
                const double s = w->theta[i + 1][k] - w->theta[i][k];
                const double y = w->grad[i + 1][k] - w->grad[i][k];
                const double z = w->grad[j + 1][k] - w->grad[j][k];
                ss[8 * i + j] += s * (w->theta[j + 1][k] - w->theta[j][k]);
                sy[8 * i + j] += s * z;
                yy[8 * i + j] += y * z;
            }
    struct lyap_ritz ritz;
    ck_assert_int_eq(lyap_ritz_compute(8, ss, sy, yy, LYAP_RITZ_TOLERANCE, &ritz), LYAP_OK);
    return ritz;
}

START_TEST(test_golden_network)
{
    struct path w;
    const double *row = golden_network[_i];
    const double tolerance = row[0] == .5 ? 1e-6 : 1e-9;
    const struct lyap_optimizer_params params = { .lr = row[0], .momentum = row[1] };
    struct trainer t;
    struct lyap_point p;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &params);
    for (;;) {
        p = trainer_push(&t);
        if (t.step == 0) {
            test_close(trainer_value(&p, LYAP_METRIC_LOSS), 1.867987566347, 1e-12);
            test_close(trainer_value(&p, LYAP_METRIC_GRAD_NORM), 1.651191554533, 1e-12);
            test_close(golden_net_lambda(&t.net, t.theta, 2000), 3.0175374739, 1e-9);
            ck_assert_int_eq(reason_of(&p, LYAP_METRIC_UPDATE_NORM), LYAP_REASON_NO_PREVIOUS);
        }
        if (t.step == 1)
            test_close(trainer_value(&p, LYAP_METRIC_WORK_RESIDUAL), row[9], 1e-9);
        if (t.step > 1) {
            ck_assert(trainer_value(&p, LYAP_METRIC_UPDATE_IDENTITY) < 1e-9);
            ck_assert(trainer_value(&p, LYAP_METRIC_DELTA_PRECISION) < 1e-9);
        }
        if (t.step >= 292)
            memcpy(w.theta[t.step - 292], t.theta, sizeof t.theta);
        if (t.step >= 292)
            memcpy(w.grad[t.step - 292], t.grad, sizeof t.grad);
        if (t.step == 300)
            break;
        trainer_update(&t);
    }
    test_close(trainer_value(&p, LYAP_METRIC_LOSS), row[2], tolerance);
    test_close(trainer_value(&p, LYAP_METRIC_GRAD_NORM), row[3], 1e-5);
    /* From the vectors exactly; from the sketches within SPEC 5, far nearer at an edge. */
    const struct lyap_ritz exact = exact_ritz(&w);
    test_close(exact.values[0], row[6], row[0] == .5 ? 1e-5 : 1e-8);
    test_close(exact.residuals[0], row[7], row[0] == .5 ? 1e-4 : 1e-8);
    ck_assert_int_eq(lyap_ritz_accept(&exact) == 0, row[8] != 0);
    const double ritz = trainer_value(&p, LYAP_METRIC_VISITED_CURVATURE);
    ck_assert(fabs(ritz / row[6] - 1) < (row[8] != 0 ? 1e-3 : .1));
    test_close(golden_net_lambda(&t.net, t.theta, 2000), row[4], 1e-5);
    const double limit = 2 * (1 + row[1]) / row[0];
    test_close(trainer_value(&p, LYAP_METRIC_STABILITY_LIMIT), limit, 1e-12);
    if (row[8] != 0) {
        test_close(trainer_value(&p, LYAP_METRIC_SHARPNESS), ritz, 0);
        test_close(trainer_value(&p, LYAP_METRIC_STABILITY_RATIO), ritz / limit, 1e-15);
    } else
        ck_assert_int_eq(reason_of(&p, LYAP_METRIC_SHARPNESS), LYAP_REASON_NO_ACCEPTED_CURVATURE);
    trainer_free(&t);
}
END_TEST

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One active pair every five steps: after ten probes the median within 3 %, nine of ten within
 * 10 %, all within the stated error. */
START_TEST(test_active_probes)
{
    static const struct lyap_optimizer_params runs[] = { { .lr = .1 },
                                                         { .lr = .02, .momentum = .9 } };
    struct trainer t;
    double ratios[64];
    int count = 0, near = 0;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &runs[_i]);
    for (; t.step <= 300; trainer_update(&t)) {
        t.is_probing = t.step % 5 == 0;
        const struct lyap_point p = trainer_push(&t);
        if (!t.is_probing && t.step > 0) {
            ck_assert_int_eq(reason_of(&p, LYAP_METRIC_SHARPNESS), LYAP_REASON_NO_PROBE);
            continue;
        }
        if (t.step < 50)
            continue;
        const double value = trainer_value(&p, LYAP_METRIC_SHARPNESS);
        const double exact = golden_net_lambda(&t.net, t.theta, 200);
        ck_assert(fabs(value - exact) <= p.metrics[LYAP_METRIC_SHARPNESS].error);
        const struct lyap_transition transition =
            lyap_transition_strictest(&t.fixture.declaration.optimizer, NULL, t.lr);
        const double rate = log(lyap_transition_radius(&transition, exact));
        ck_assert(fabs(trainer_value(&p, LYAP_METRIC_TRANSITION_RATE) - rate) <=
                  p.metrics[LYAP_METRIC_TRANSITION_RATE].error + 1e-12);
        ck_assert(p.metrics[LYAP_METRIC_TRANSITION_RATE].error < .5);
        ratios[count++] = value / exact;
        near += fabs(value / exact - 1) <= .1;
        double shares = 0;
        for (int i = 0; i < 4; i++)
            shares += t.rows[i].values[LYAP_TENSOR_METRIC_CURVATURE_SHARE];
        test_close(shares, 1, 1e-12);
    }
    qsort(ratios, (size_t)count, sizeof *ratios, compare);
    ck_assert_msg(fabs(ratios[count / 2] - 1) < .03, "median %.4f", ratios[count / 2]);
    ck_assert_msg(near >= .9 * count, "%d of %d", near, count);
    trainer_free(&t);
}
END_TEST

static double dot(const double *a, const double *b)
{
    double sum = 0;
    for (int i = 0; i < NET_SIZE; i++)
        sum += a[i] * b[i];
    return sum;
}

/* SPEC 5: of the parameters, against a search; the golden gradient is more even at the start. */
START_TEST(test_shares_of_energy)
{
    struct trainer t;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    struct lyap_point p = trainer_push(&t);
    double most[2] = { 0 }, blocks[2] = { 0 };
    const double *const vectors[] = { t.theta, t.grad };
    static const int starts[] = { 0, 60, 70, 100, NET_SIZE }; /* tensors: each is one block */
    for (int v = 0; v < 2; v++)
        for (int l = 0; l < 4; l++) {
            double block = 0;
            for (int i = starts[l]; i < starts[l + 1]; i++) {
                block += vectors[v][i] * vectors[v][i];
                most[v] = fmax(most[v], vectors[v][i] * vectors[v][i]);
            }
            blocks[v] = fmax(blocks[v], block);
        }
    const double sq[2] = { dot(t.theta, t.theta), dot(t.grad, t.grad) };
    test_close(trainer_value(&p, LYAP_METRIC_BLOCK_SHARE),
               fmax(blocks[0] / sq[0], blocks[1] / sq[1]), 1e-12);
    test_close(trainer_value(&p, LYAP_METRIC_COORDINATE_SHARE),
               fmax(most[0] / sq[0], most[1] / sq[1]), 1e-12);
    trainer_free(&t);
}
END_TEST

/* Shares are of an accepted curvature: of a pair whose own residual passes, else there are none. */
START_TEST(test_shares_are_of_accepted_pairs)
{
    struct trainer t;
    int refused = 0, given = 0;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    for (t.is_probing = true; t.step < 60; trainer_update(&t)) {
        (void)trainer_push(&t);
        const double ss = dot(t.pair_s, t.pair_s), sy = dot(t.pair_s, t.pair_y);
        const double rho = sy / ss, residual_sq = dot(t.pair_y, t.pair_y) / ss - rho * rho;
        const bool is_accepted = rho > 0 && residual_sq <= .04 * rho * rho;
        for (int i = 0; i < 4; i++)
            ck_assert_int_eq(!isnan(t.rows[i].values[LYAP_TENSOR_METRIC_CURVATURE_SHARE]),
                             is_accepted);
        refused += !is_accepted;
        given += is_accepted;
    }
    ck_assert(refused > 3 && given > 3);
    trainer_free(&t);
}
END_TEST

/* A rate raised past the limit between two probes shows at that very push, and the advice is the
 * largest stable rate. */
START_TEST(test_limit_crossing)
{
    struct trainer t;
    struct lyap_point p;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    for (; t.step < 203; trainer_update(&t)) {
        t.is_probing = t.step % 5 == 0;
        p = trainer_push(&t);
        if (t.step > 60)
            ck_assert(trainer_value(&p, LYAP_METRIC_LIMIT_CROSSING) == 0);
    }
    t.lr = .8;
    t.is_probing = false;
    p = trainer_push(&t);
    const double ratio = trainer_value(&p, LYAP_METRIC_STABILITY_RATIO);
    ck_assert(ratio > 1.2);
    test_close(trainer_value(&p, LYAP_METRIC_LIMIT_CROSSING), ratio, 0);
    ck_assert_int_eq(p.verdict, LYAP_VERDICT_EDGE);
    struct lyap_action action;
    struct lyap_advice advice;
    lyap_advice_init(&advice, NAN);
    lyap_advice_give(&advice,
                     &(struct lyap_advice_question){ .wanted = LYAP_ACTION_REDUCE_LR,
                                                     .optimizer = &t.fixture.declaration.optimizer,
                                                     .point = &p },
                     &action);
    test_close(action.lr, .8 / ratio, 1e-12);
    ck_assert_ptr_nonnull(strstr(action.reason, "2/lr - wd"));
    trainer_free(&t);
}
END_TEST

/* GD far above its limit: the score fires before the loss has tripled. */
START_TEST(test_diverging_run_fires)
{
    const struct lyap_optimizer_params params = { .lr = 2.5 };
    struct trainer t;
    bool has_fired = false;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    for (; t.step < 400 && !has_fired; trainer_update(&t)) {
        if (t.step >= 100)
            t.lr = params.lr;
        const struct lyap_point p = trainer_push(&t);
        const double score = trainer_value(&p, LYAP_METRIC_INSTABILITY_SCORE);
        has_fired = score >= LYAP_SCORE_DEFAULT;
        if (t.step < 100)
            ck_assert_msg(!has_fired, "healthy step %d: %g", (int)t.step, score);
        if (t.step >= 12 && t.step < 100)
            ck_assert_int_eq(p.state, LYAP_STATE_HEALTHY);
        if (t.step < 11)
            ck_assert_int_eq(p.state, LYAP_STATE_WARMING_UP);
        if (has_fired) {
            ck_assert_int_eq(p.state, LYAP_STATE_UNSTABLE);
            struct lyap_score_part parts[LYAP_SCORE_PARTS_MAX];
            ck_assert_uint_gt(lyap_profile_instability(t.profile, LYAP_SCORE_NOW, parts), 1);
            ck_assert(parts[0].log_odds >= parts[1].log_odds && parts[1].log_odds > 0);
        }
    }
    ck_assert(has_fired);
    ck_assert_int_le(t.step, 110);
    trainer_free(&t);
}
END_TEST

/* GD at an edge of stability: the residual is positive in a part of the steps, the window is not;
 * smoothness holds. Below the limit both are negative. */
START_TEST(test_dissipation)
{
    static const double rates[] = { .1, .5 };
    const struct lyap_optimizer_params params = { .lr = rates[_i] };
    struct trainer t;
    int count = 0, rising = 0;
    double window = NAN;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &params);
    for (; t.step <= 300; trainer_update(&t)) {
        t.is_probing = t.step % 5 == 0;
        const struct lyap_point p = trainer_push(&t);
        if (t.step < 100)
            continue;
        count++;
        rising += trainer_value(&p, LYAP_METRIC_DISSIPATION_RESIDUAL) > 0;
        ck_assert(trainer_value(&p, LYAP_METRIC_SMOOTHNESS_RESIDUAL) <=
                  trainer_value(&p, LYAP_METRIC_DISSIPATION_RESIDUAL));
        test_close(trainer_value(&p, LYAP_METRIC_ENERGY), t.loss, 1e-14);
        window = trainer_value(&p, LYAP_METRIC_DISSIPATION_WINDOW);
        if (_i == 0) {
            ck_assert_int_eq(p.verdict, LYAP_VERDICT_DISSIPATING);
            ck_assert(trainer_value(&p, LYAP_METRIC_SUFFICIENT_DECREASE) >= 1 - .5 * .1 * 8);
            ck_assert(trainer_value(&p, LYAP_METRIC_RELATIVE_ERROR) <= 1 + .1 * 8);
        }
    }
    ck_assert(window <= (_i == 0 ? -.2 : .05));
    if (_i == 0)
        ck_assert_int_eq(rising, 0);
    else
        ck_assert_msg(rising > count / 10 && rising < count * 6 / 10, "%d of %d", rising, count);
    trainer_free(&t);
}
END_TEST

/* Heavy ball with coupled decay: E = L + wd/2|theta|^2 + beta/(2 lr)|D|^2, and its certificate. */
START_TEST(test_heavy_ball_energy)
{
    const struct lyap_optimizer_params params = { .lr = .005, .momentum = .9, .weight_decay = .01 };
    struct trainer t;
    double before = NAN;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &params);
    for (; t.step <= 120; trainer_update(&t)) {
        t.is_probing = t.step % 5 == 0;
        const struct lyap_point p = trainer_push(&t);
        if (t.step < 2)
            continue;
        const double theta = trainer_value(&p, LYAP_METRIC_PARAM_NORM);
        const double delta = trainer_value(&p, LYAP_METRIC_UPDATE_NORM);
        const double energy = trainer_value(&p, LYAP_METRIC_ENERGY);
        test_close(energy, t.loss + .005 * theta * theta + .9 / .01 * delta * delta, 1e-12);
        ck_assert(trainer_value(&p, LYAP_METRIC_UPDATE_IDENTITY) < 1e-9);
        if (!isnan(before))
            test_close(trainer_value(&p, LYAP_METRIC_ENERGY_CHANGE), energy - before, 1e-12);
        before = energy;
        if (t.step > 50) { /* lr < 2(1 - beta)/ell: certified */
            ck_assert(trainer_value(&p, LYAP_METRIC_SMOOTHNESS_RESIDUAL) <= 1e-9);
            ck_assert(trainer_value(&p, LYAP_METRIC_DISSIPATION_RESIDUAL) <= 1e-9);
        }
    }
    trainer_free(&t);
}
END_TEST

/* Adam with the state rebuilt by the intake: omega, the energy of SPEC 3.4, the limit 38/lr. */
START_TEST(test_adam)
{
    const struct lyap_optimizer_params params = {
        .lr = .002, .beta1 = .9, .beta2 = .999, .eps = 1e-8
    };
    struct trainer t;
    trainer_init(&t, LYAP_OPTIMIZER_ADAM, &params);
    for (; t.step <= 80; trainer_update(&t)) {
        t.is_probing = t.step % 5 == 0 && t.step > 0;
        t.fixture.declaration.optimizer.base = params;
        const struct lyap_point p = trainer_push(&t);
        if (t.step < 2)
            continue;
        ck_assert(trainer_value(&p, LYAP_METRIC_UPDATE_IDENTITY) < 1e-7);
        test_close(trainer_value(&p, LYAP_METRIC_STABILITY_LIMIT), 38 / .002, 1e-12);
        const double q = trainer_value(&p, LYAP_METRIC_UPDATE_NORM_P);
        test_close(trainer_value(&p, LYAP_METRIC_ENERGY), t.loss + .9 / (2 * .1 * .002) * q * q,
                   1e-12);
        if (t.step > 40) {
            ck_assert(trainer_value(&p, LYAP_METRIC_DISSIPATION_RESIDUAL) < 0);
            ck_assert(trainer_value(&p, LYAP_METRIC_SECOND_MOMENT_RATIO) > 0);
            ck_assert(trainer_value(&p, LYAP_METRIC_PREDICTED_DECREASE) > 0);
            (void)trainer_value(&p, LYAP_METRIC_PREDICTED_CHANGE);
        }
        ck_assert(!lyap_profile_wants_state(t.profile));
    }
    trainer_free(&t);
}
END_TEST

/* SPEC 6.6 c: the unit of the loss, with the rate in its inverse, changes no ratio. */
START_TEST(test_unit_of_the_loss)
{
    static const enum lyap_metric ratios[] = {
        LYAP_METRIC_STABILITY_RATIO,     LYAP_METRIC_WORK_RESIDUAL,
        LYAP_METRIC_UPDATE_NORM,         LYAP_METRIC_DISSIPATION_RESIDUAL,
        LYAP_METRIC_SMOOTHNESS_RESIDUAL, LYAP_METRIC_SUFFICIENT_DECREASE,
        LYAP_METRIC_RELATIVE_ERROR,      LYAP_METRIC_NET_WORK,
        LYAP_METRIC_OVERSHOOT_WORK,      LYAP_METRIC_PREDICTED_DECREASE,
        LYAP_METRIC_PREDICTED_CHANGE,    LYAP_METRIC_EDGE_RATIO,
        LYAP_METRIC_LOSS_EXCESS,         LYAP_METRIC_INSTABILITY_SCORE,
    };
    struct trainer a, b;
    const struct lyap_optimizer_params params = { .lr = .1 / 8 };
    trainer_init(&a, LYAP_OPTIMIZER_SGD, &plain);
    trainer_init(&b, LYAP_OPTIMIZER_SGD, &params);
    b.loss_factor = 8;
    for (int i = 0; i < 60; i++) {
        a.is_probing = b.is_probing = i % 5 == 0;
        const struct lyap_point p = trainer_push(&a), q = trainer_push(&b);
        for (unsigned k = 0; i > 40 && k < sizeof ratios / sizeof *ratios; k++)
            test_close(trainer_value(&q, ratios[k]), trainer_value(&p, ratios[k]), 1e-6);
        trainer_update(&a);
        trainer_update(&b);
    }
    trainer_free(&a);
    trainer_free(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile");
    TCase *tests = tcase_create("profile");
    tcase_add_loop_test(tests, test_golden_network, 0, 4);
    tcase_add_loop_test(tests, test_active_probes, 0, 2);
    tcase_add_test(tests, test_shares_are_of_accepted_pairs);
    tcase_add_test(tests, test_shares_of_energy);
    tcase_add_test(tests, test_limit_crossing);
    tcase_add_test(tests, test_diverging_run_fires);
    tcase_add_loop_test(tests, test_dissipation, 0, 2);
    tcase_add_test(tests, test_heavy_ball_energy);
    tcase_add_test(tests, test_adam);
    tcase_add_test(tests, test_unit_of_the_loss);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
