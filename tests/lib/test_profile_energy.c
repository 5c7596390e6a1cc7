/* Energies, residuals, gains and distances of every optimizer through the real intake and profile,
 * on random quadratics whose curvature is known: the inequalities of SPEC 3 hold, the declared
 * update is recognised, and what the profile says is what brute force says. */
#include "intake_fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/profile.h"
#include "training.h"

enum { TENSORS = TRAINING_TENSORS, SIZE = TRAINING_SIZE, STEPS = 8, TRIALS = 60 };
static const uint64_t lengths[TENSORS] = { 5, 4, 1 };

static const struct training_kind kinds[] = {
    { "gd", LYAP_OPTIMIZER_SGD, .weight_decay = 0.1, .rate = 1.5 },
    { "heavy ball", LYAP_OPTIMIZER_SGD, .momentum = 0.7, .rate = 1 },
    { "nesterov", LYAP_OPTIMIZER_SGD, .momentum = 0.7, .is_nesterov = true, .rate = 0.5 },
    { "adam", LYAP_OPTIMIZER_ADAM, .rate = 0.3 },
    { "adamw", LYAP_OPTIMIZER_ADAMW, .weight_decay = 0.2, .rate = 0.3 },
    { "rmsprop", LYAP_OPTIMIZER_RMSPROP, .rate = 0.1 },
    { "l1", LYAP_OPTIMIZER_PROXGD, .prox = LYAP_PROX_L1, .rate = 1 },
    { "l2", LYAP_OPTIMIZER_PROXGD, .prox = LYAP_PROX_L2, .rate = 1 },
    { "group l1", LYAP_OPTIMIZER_PROXGD, .prox = LYAP_PROX_GROUP_L1, .rate = 1 },
    { "elastic net", LYAP_OPTIMIZER_PROXGD, .prox = LYAP_PROX_ELASTIC_NET, .rate = 1 },
    { "box", LYAP_OPTIMIZER_PROJGD, .set = LYAP_SET_BOX, .rate = 1 },
    { "ball", LYAP_OPTIMIZER_PROJGD, .set = LYAP_SET_BALL, .rate = 1 },
    { "simplex", LYAP_OPTIMIZER_PROJGD, .set = LYAP_SET_SIMPLEX, .rate = 1 },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

struct problem {
    struct training run;
    double anchor[SIZE], last[SIZE];
    struct fixture fixture;
    struct lyap_profile *profile;
    struct lyap_memory *memory;
    enum lyap_retention retention;
};

static void update(struct problem *p)
{
    memcpy(p->last, p->run.x, sizeof p->last);
    training_update(&p->run);
}

static void problem_init(struct problem *p, const struct training_kind *kind, struct test_rng *rng)
{
    memset(p, 0, sizeof *p);
    p->run.kind = kind;
    p->retention = LYAP_RETENTION_EXACT;
    for (int i = 0; i < SIZE; i++) {
        p->run.h[i] = 0.2 + 4 * test_rng_uniform(rng);
        p->run.centre[i] = test_rng_normal(rng);
        p->anchor[i] = test_rng_normal(rng);
        p->run.x[i] = test_rng_normal(rng);
        p->run.ell = fmax(p->run.ell, p->run.h[i]);
    }
    p->run.lr = kind->rate * (0.2 + test_rng_uniform(rng)) / (p->run.ell + kind->weight_decay);
    training_project(&p->run);
    fixture_init(&p->fixture, lengths, TENSORS);
    struct lyap_declaration *d = &p->fixture.declaration;
    training_declare(&p->run, d);
    ck_assert_int_eq(lyap_profile_new(d, NAN, &p->profile), LYAP_OK);
}

static void problem_free(struct problem *p)
{
    lyap_profile_free(p->profile);
    lyap_memory_free(p->memory);
    fixture_free(&p->fixture);
}

static void add(struct problem *p, enum lyap_role role, const double *values)
{
    for (uint32_t i = 0; i < TENSORS; i++)
        fixture_add(&p->fixture, role, i, LYAP_DTYPE_F64, values + training_starts[i]);
}

static void meta(struct problem *p, const char *key, double value)
{
    char text[40];
    snprintf(text, sizeof text, "%.17g", value);
    fixture_meta(&p->fixture, key, text);
}

/* Pushes theta_t, g_t, the anchor, and the pair along the top curvature of P^-1 H. */
static struct lyap_point push(struct problem *p)
{
    double s[SIZE], y[SIZE];
    training_gradient(&p->run);
    training_pair(&p->run, s, y);
    fixture_step(&p->fixture, p->run.t);
    p->fixture.retention = p->retention;
    meta(p, "loss", training_loss(&p->run));
    meta(p, "lr", p->run.lr);
    const bool is_apart = p->retention == LYAP_RETENTION_EXACT;
    for (uint32_t t = 0; t < TENSORS; t++) {
        const double *const arrays[] = { p->run.x, p->run.g, p->anchor, s, y };
        static const enum lyap_role roles[] = { LYAP_ROLE_PARAM, LYAP_ROLE_GRAD, LYAP_ROLE_ANCHOR,
                                                LYAP_ROLE_PAIR_S, LYAP_ROLE_PAIR_Y };
        for (unsigned r = 0; r < (p->run.t > 0 ? 5 : 3); r++)
            if (!is_apart)
                fixture_add(&p->fixture, roles[r], t, LYAP_DTYPE_F64,
                            arrays[r] + training_starts[t]);
    }
    if (is_apart) {
        add(p, LYAP_ROLE_ANCHOR, p->anchor);
        add(p, LYAP_ROLE_GRAD, p->run.g);
        add(p, LYAP_ROLE_PARAM, p->run.x);
        if (p->run.t > 0)
            add(p, LYAP_ROLE_PAIR_S, s);
        if (p->run.t > 0)
            add(p, LYAP_ROLE_PAIR_Y, y);
    }
    struct lyap_partial partial;
    struct lyap_memory *memory;
    struct lyap_point point;
    fixture_must_push(&p->fixture, p->memory, &partial, &memory);
    ck_assert_int_eq(lyap_profile_step(p->profile, &p->fixture.snapshot, &partial, LYAP_REASON_NONE,
                                       &point, NULL),
                     LYAP_OK);
    lyap_partial_release(&partial);
    lyap_memory_free(p->memory);
    p->memory = memory;
    return point;
}

static const struct lyap_value *metric(const struct problem *p, const struct lyap_point *point,
                                       enum lyap_metric which)
{
    const struct lyap_value *value = &point->metrics[which];
    ck_assert_msg(value->reason == LYAP_REASON_NONE, "%s, step %d: %s is absent: %s",
                  p->run.kind->name, p->run.t, lyap_metric_info(which)->name,
                  lyap_reason_name((enum lyap_reason)value->reason));
    return value;
}

static double value_of(const struct problem *p, const struct lyap_point *point,
                       enum lyap_metric which)
{
    return metric(p, point, which)->value;
}

static void at_most(const struct problem *p, const char *what, double value, double limit)
{
    ck_assert_msg(value <= limit, "%s, step %d: %s is %.17g, above %.17g", p->run.kind->name,
                  p->run.t, what, value, limit);
}

/* The residuals' inequalities with the slack of rounding, and of AdamW's stated error. */
static void check_residuals(const struct problem *p, const struct lyap_point *point)
{
    const double scale = value_of(p, point, LYAP_METRIC_ENERGY_SCALE);
    const struct lyap_value *smooth = metric(p, point, LYAP_METRIC_SMOOTHNESS_RESIDUAL);
    const struct lyap_value *falls = metric(p, point, LYAP_METRIC_DISSIPATION_RESIDUAL);
    const double slack = 1e-9 + 1e-14 * fabs(value_of(p, point, LYAP_METRIC_ENERGY)) / scale;
    const double stated = smooth->error > 0 ? smooth->error : 0;
    at_most(p, "smoothness_residual", smooth->value, slack + stated);
    if (value_of(p, point, LYAP_METRIC_ENERGY_BOUND) >= 0)
        at_most(p, "dissipation_residual", falls->value, slack + stated);
    else
        ck_assert(falls->value >= smooth->value);
}

/* H1 and H2 of SPEC 3.5, w a Clarke element: with a convex r. */
static void check_h1h2(const struct problem *p, const struct lyap_point *point)
{
    const double step = p->run.lr * p->run.ell, n = value_of(p, point, LYAP_METRIC_UPDATE_NORM);
    const double slack = 1e-9 + 1e-14 * training_loss(&p->run) * p->run.lr / (n * n);
    at_most(p, "1 - eta ell/2 - a eta", 1 - step / 2,
            value_of(p, point, LYAP_METRIC_SUFFICIENT_DECREASE) + slack);
    at_most(p, "b eta", value_of(p, point, LYAP_METRIC_RELATIVE_ERROR), 1 + step + slack);
}

/* The distance energy in the metric of the last update, against brute force. */
static void check_anchor(const struct problem *p, const struct lyap_point *point)
{
    double after = 0, before = 0;
    for (int i = 0; i < SIZE; i++) {
        const double a = p->run.x[i] - p->anchor[i], b = p->last[i] - p->anchor[i];
        after += training_weight(&p->run, i) * a * a;
        before += training_weight(&p->run, i) * b * b;
    }
    test_close(value_of(p, point, LYAP_METRIC_ANCHOR_ENERGY), after, 1e-10);
    test_close(value_of(p, point, LYAP_METRIC_ANCHOR_ENERGY_CHANGE), after - before, 1e-9);
}

static void check_point(const struct problem *p, const struct lyap_point *point)
{
    if (point->metrics[LYAP_METRIC_UPDATE_NORM].value < 1e-6)
        return; /* at rest */
    at_most(p, "update_identity", value_of(p, point, LYAP_METRIC_UPDATE_IDENTITY), 1e-8);
    const struct lyap_value *tau = &point->metrics[LYAP_METRIC_WORK_RESIDUAL];
    if (tau->reason != LYAP_REASON_LOSS_PRECISION) /* a quadratic */
        at_most(p, "|work_residual|", fabs(metric(p, point, LYAP_METRIC_WORK_RESIDUAL)->value),
                1e-9 + 10 * tau->error);
    if (tau->reason != LYAP_REASON_LOSS_PRECISION) {
        const struct lyap_value *of_loss = metric(p, point, LYAP_METRIC_CURVATURE_OF_LOSS);
        const double along = value_of(p, point, LYAP_METRIC_CURVATURE_ALONG_STEP);
        at_most(p, "|curvature_of_loss - curvature_along_step|", fabs(of_loss->value - along),
                1e-9 + 10 * of_loss->error);
    }
    check_anchor(p, point);
    if (training_is_proximal(p->run.kind))
        check_h1h2(p, point);
    if (p->run.t >= 3)
        check_residuals(p, point);
}

START_TEST(test_inequalities)
{
    struct test_rng rng = { (uint64_t)_i + 1 };
    for (int trial = 0; trial < TRIALS; trial++) {
        struct problem p;
        problem_init(&p, &kinds[_i], &rng);
        for (int step = 0; step < STEPS; step++) {
            const struct lyap_point point = push(&p);
            if (step > 0)
                check_point(&p, &point);
            update(&p);
        }
        problem_free(&p);
    }
}
END_TEST

/* Without exact retention: what sums of the push give stays, the simplex's step needs the elements.
 */
START_TEST(test_sketch_retention)
{
    struct test_rng rng = { (uint64_t)_i + 100 };
    struct problem p;
    problem_init(&p, &kinds[_i], &rng);
    p.retention = LYAP_RETENTION_SKETCH;
    struct lyap_point point = push(&p);
    const struct lyap_value *decrease = &point.metrics[LYAP_METRIC_PREDICTED_DECREASE];
    const bool is_simplex = kinds[_i].set == LYAP_SET_SIMPLEX;
    ck_assert_int_eq(decrease->reason == LYAP_REASON_NONE, !is_simplex);
    if (!training_is_adaptive(&kinds[_i]))
        (void)value_of(&p, &point, LYAP_METRIC_ANCHOR_ENERGY);
    double slope = 0;
    update(&p);
    for (int i = 0; i < SIZE; i++)
        slope += p.run.g[i] * (p.run.x[i] - p.last[i]);
    if (!is_simplex)
        test_close(decrease->value * point.metrics[LYAP_METRIC_PROGRESS_SCALE].value, -slope, 1e-9);
    point = push(&p);
    ck_assert_int_eq(point.metrics[LYAP_METRIC_UPDATE_IDENTITY].reason,
                     LYAP_REASON_SKETCH_RETENTION);
    problem_free(&p);
}
END_TEST

/* T14: projected GD on the unit ball, H = diag(1,5), b = (4,0): twins do not part, the limit is
 * (1,0), and the profile certifies every step. */
START_TEST(test_ball)
{
    static const struct training_kind kind = { "ball", LYAP_OPTIMIZER_PROJGD, .set = LYAP_SET_BALL,
                                               .rate = 1 };
    struct test_rng rng = { 14 };
    struct problem twins[2];
    double distance = INFINITY;
    for (int k = 0; k < 2; k++) {
        struct problem *p = &twins[k];
        problem_init(p, &kind, &rng);
        for (int i = 0; i < SIZE; i++) {
            p->run.h[i] = i == 0 ? 1 : 5;
            p->run.centre[i] = i == 0 ? 6 : 0; /* the radius is 1.5: T14 scaled by it */
            p->run.x[i] = i == k ? 1.5 : 0;
        }
        p->run.ell = 5;
        p->run.lr = 0.3;
    }
    for (int step = 0; step < 50; step++) {
        double sq = 0;
        for (int k = 0; k < 2; k++) {
            const struct lyap_point point = push(&twins[k]);
            if (step > 0)
                check_point(&twins[k], &point);
            update(&twins[k]);
        }
        for (int i = 0; i < SIZE; i++)
            sq += (twins[0].run.x[i] - twins[1].run.x[i]) * (twins[0].run.x[i] - twins[1].run.x[i]);
        ck_assert(sqrt(sq) <= distance + 1e-12);
        distance = sqrt(sq);
    }
    test_close(twins[0].run.x[0], 1.5, 1e-8);
    test_close(twins[1].run.x[0], 1.5, 1e-8);
    problem_free(&twins[0]);
    problem_free(&twins[1]);
}
END_TEST

/* Adam's gains against their formulas, coordinate by coordinate, and the quantiles' bins. */
START_TEST(test_gains)
{
    struct test_rng rng = { 5 };
    struct problem p;
    problem_init(&p, &kinds[3], &rng);
    for (int step = 0; step < STEPS; step++) {
        const struct lyap_point point = push(&p);
        double exact = 0, frozen = 0, square = 0, largest = 0;
        for (int i = 0; i < SIZE; i++) {
            const double g = p.run.g[i], e = 1e-6 * fabs(g) + 1e-12;
            double steps[2];
            for (int k = 0; k < 2; k++) {
                const double x = g + (k ? e : -e), n = p.run.t + 1;
                const double v = (TRAINING_BETA2 * p.run.v[i] + (1 - TRAINING_BETA2) * x * x) /
                                 (1 - pow(TRAINING_BETA2, n));
                steps[k] = -p.run.lr * (TRAINING_BETA1 * p.run.m[i] + (1 - TRAINING_BETA1) * x) /
                           (1 - pow(TRAINING_BETA1, n)) / (sqrt(v) + TRAINING_EPS);
            }
            const double v = (TRAINING_BETA2 * p.run.v[i] + (1 - TRAINING_BETA2) * g * g) /
                             (1 - pow(TRAINING_BETA2, p.run.t + 1));
            const double gain = (steps[1] - steps[0]) / (2 * e);
            const double held = p.run.lr * (1 - TRAINING_BETA1) /
                                (1 - pow(TRAINING_BETA1, p.run.t + 1)) / (sqrt(v) + TRAINING_EPS);
            exact += g * g * gain * gain;
            frozen += g * g * held * held;
            square += g * g;
            largest = fmax(largest, fabs(gain));
        }
        test_close(value_of(&p, &point, LYAP_METRIC_UPDATE_GAIN), sqrt(exact / square), 1e-5);
        test_close(value_of(&p, &point, LYAP_METRIC_UPDATE_GAIN_FROZEN), sqrt(frozen / square),
                   1e-9);
        const double p50 = value_of(&p, &point, LYAP_METRIC_UPDATE_GAIN_P50);
        const double p99 = value_of(&p, &point, LYAP_METRIC_UPDATE_GAIN_P99);
        ck_assert(p50 <= p99 && p99 <= 2 * largest);
        update(&p);
    }
    problem_free(&p);
}
END_TEST

static void absent(const struct problem *p, const struct lyap_point *point, enum lyap_metric which,
                   enum lyap_reason reason)
{
    const enum lyap_reason found = (enum lyap_reason)point->metrics[which].reason;
    ck_assert_msg(found == reason, "%s, step %d: %s: %s, expected %s", p->run.kind->name, p->run.t,
                  lyap_metric_info(which)->name, lyap_reason_name(found), lyap_reason_name(reason));
}

/* What a sign method, an unknown optimizer and a late joiner cannot have, and why. */
START_TEST(test_reasons)
{
    static const struct training_kind sign = { "signsgd", LYAP_OPTIMIZER_SIGNSGD, .rate = 0.1 };
    static const struct training_kind other = { "other", LYAP_OPTIMIZER_OTHER, .rate = 0.1 };
    struct test_rng rng = { 6 };
    struct problem p;
    problem_init(&p, &sign, &rng);
    struct lyap_point point = push(&p);
    absent(&p, &point, LYAP_METRIC_UPDATE_GAIN, LYAP_REASON_NOT_APPLICABLE);
    absent(&p, &point, LYAP_METRIC_UPDATE_GAIN_P99, LYAP_REASON_NOT_APPLICABLE);
    absent(&p, &point, LYAP_METRIC_FLIP_FRACTION, LYAP_REASON_NO_PREVIOUS);
    absent(&p, &point, LYAP_METRIC_ENERGY_DRIFT, LYAP_REASON_INSUFFICIENT);
    absent(&p, &point, LYAP_METRIC_MEAN_SQUARE_GAIN, LYAP_REASON_NOT_APPLICABLE);
    absent(&p, &point, LYAP_METRIC_ANCHOR_ENERGY_CHANGE, LYAP_REASON_NO_PREVIOUS);
    update(&p);
    p.run.x[3] = 2 * p.run.centre[3] - p.last[3]; /* behind the minimum: its sign turns */
    point = push(&p);
    ck_assert(value_of(&p, &point, LYAP_METRIC_FLIP_FRACTION) >= 0.1);
    const double flips = SIZE * value_of(&p, &point, LYAP_METRIC_FLIP_FRACTION);
    test_close(value_of(&p, &point, LYAP_METRIC_FLIP_BOUND), 2 * p.run.lr * sqrt(flips), 1e-12);
    problem_free(&p);

    problem_init(&p, &other, &rng);
    point = push(&p);
    absent(&p, &point, LYAP_METRIC_UPDATE_GAIN, LYAP_REASON_NO_OPTIMIZER);
    absent(&p, &point, LYAP_METRIC_FLIP_BOUND, LYAP_REASON_NO_OPTIMIZER);
    absent(&p, &point, LYAP_METRIC_RATE_AT_LAMBDA_MIN, LYAP_REASON_NO_LINEAR_LIMIT);
    problem_free(&p);

    problem_init(&p, &kinds[3], &rng);
    p.run.t = 7; /* the first push of a run that began elsewhere */
    for (int i = 0; i < SIZE; i++)
        p.run.v[i] = 1;
    point = push(&p);
    absent(&p, &point, LYAP_METRIC_UPDATE_GAIN, LYAP_REASON_NEEDS_STATE);
    absent(&p, &point, LYAP_METRIC_UPDATE_GAIN_FROZEN, LYAP_REASON_NEEDS_STATE);
    absent(&p, &point, LYAP_METRIC_UPDATE_GAIN_P50, LYAP_REASON_NEEDS_STATE);
    absent(&p, &point, LYAP_METRIC_DECAY_CURVATURE, LYAP_REASON_NOT_APPLICABLE);
    problem_free(&p);
}
END_TEST

/* Least and top curvature of one window, and growth along a negative one: 1 + eta |lambda|. */
START_TEST(test_negative_curvature)
{
    struct test_rng rng = { 8 };
    struct problem p;
    problem_init(&p, &kinds[0], &rng);
    for (int i = 0; i < SIZE; i++)
        p.run.h[i] = -0.5 - 0.1 * i; /* a hill: the pair is along its least steep direction */
    (void)push(&p);
    update(&p);
    const struct lyap_point point = push(&p);
    absent(&p, &point, LYAP_METRIC_SHARPNESS, LYAP_REASON_NO_ACCEPTED_CURVATURE);
    test_close(value_of(&p, &point, LYAP_METRIC_CURVATURE_MIN), -0.5, 1e-9);
    test_close(value_of(&p, &point, LYAP_METRIC_RATE_AT_LAMBDA_MIN),
               log(1 - p.run.lr * (p.run.kind->weight_decay - 0.5)), 1e-9);
    problem_free(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile_energy");
    TCase *tests = tcase_create("profile_energy");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_inequalities, 0, KINDS);
    tcase_add_loop_test(tests, test_sketch_retention, 0, KINDS);
    tcase_add_test(tests, test_ball);
    tcase_add_test(tests, test_gains);
    tcase_add_test(tests, test_reasons);
    tcase_add_test(tests, test_negative_curvature);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
