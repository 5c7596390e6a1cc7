/* Energies, residuals, gains and distances of every optimizer through the real intake and profile,
 * on random quadratics whose curvature is known: the inequalities of SPEC 3 hold, the declared
 * update is recognised, and what the profile says is what brute force says. */
#include "intake_fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/profile.h"

enum { TENSORS = 3, SIZE = 10, STEPS = 8, TRIALS = 60 };
static const uint64_t lengths[TENSORS] = { 5, 4, 1 };
static const uint32_t starts[TENSORS + 1] = { 0, 5, 9, 10 };

struct kind {
    const char *name;
    enum lyap_optimizer_type type;
    double momentum, weight_decay;
    bool is_nesterov;
    enum lyap_prox_kind prox;
    enum lyap_set_kind set;
    double rate; /* times 1 / ell: mean */
};

static const struct kind kinds[] = {
    { "gd", LYAP_OPTIMIZER_SGD, 0, 0.1, false, 0, 0, 1.5 },
    { "heavy ball", LYAP_OPTIMIZER_SGD, 0.7, 0, false, 0, 0, 1 },
    { "nesterov", LYAP_OPTIMIZER_SGD, 0.7, 0, true, 0, 0, 0.5 },
    { "adam", LYAP_OPTIMIZER_ADAM, 0, 0, false, 0, 0, 0.3 },
    { "adamw", LYAP_OPTIMIZER_ADAMW, 0, 0.2, false, 0, 0, 0.3 },
    { "rmsprop", LYAP_OPTIMIZER_RMSPROP, 0, 0, false, 0, 0, 0.1 },
    { "l1", LYAP_OPTIMIZER_PROXGD, 0, 0, false, LYAP_PROX_L1, 0, 1 },
    { "l2", LYAP_OPTIMIZER_PROXGD, 0, 0, false, LYAP_PROX_L2, 0, 1 },
    { "group l1", LYAP_OPTIMIZER_PROXGD, 0, 0, false, LYAP_PROX_GROUP_L1, 0, 1 },
    { "elastic net", LYAP_OPTIMIZER_PROXGD, 0, 0, false, LYAP_PROX_ELASTIC_NET, 0, 1 },
    { "box", LYAP_OPTIMIZER_PROJGD, 0, 0, false, 0, LYAP_SET_BOX, 1 },
    { "ball", LYAP_OPTIMIZER_PROJGD, 0, 0, false, 0, LYAP_SET_BALL, 1 },
    { "simplex", LYAP_OPTIMIZER_PROJGD, 0, 0, false, 0, LYAP_SET_SIMPLEX, 1 },
};
enum { KINDS = sizeof kinds / sizeof *kinds };
static const double LAMBDA = 0.3, RADIUS = 1.5, B1 = 0.8, B2 = 0.9, EPS = 1e-3;

struct problem {
    const struct kind *kind;
    double h[SIZE], centre[SIZE], anchor[SIZE], x[SIZE], g[SIZE], m[SIZE], v[SIZE], last[SIZE];
    double ell, lr;
    int t; /* updates so far */
    struct fixture fixture;
    struct lyap_profile *profile;
    struct lyap_memory *memory;
    enum lyap_retention retention;
};

static double sign_of(double x)
{
    return (double)((x > 0) - (x < 0));
}

static double penalty(const struct problem *p)
{
    double sum = 0, square = 0, norms = 0;
    for (int t = 0; t < TENSORS; t++) {
        double part = 0;
        for (uint32_t i = starts[t]; i < starts[t + 1]; i++) {
            sum += fabs(p->x[i]);
            part += p->x[i] * p->x[i];
        }
        square += part;
        norms += sqrt(part);
    }
    switch (p->kind->prox) {
    case LYAP_PROX_L1:
        return LAMBDA * sum;
    case LYAP_PROX_L2:
        return LAMBDA * square / 2;
    case LYAP_PROX_GROUP_L1:
        return LAMBDA * norms;
    case LYAP_PROX_ELASTIC_NET:
        return LAMBDA * sum + LAMBDA * square / 2;
    case LYAP_PROX_NONE:
        break;
    }
    return 0;
}

static double loss_of(const struct problem *p)
{
    double sum = penalty(p);
    for (int i = 0; i < SIZE; i++)
        sum += 0.5 * p->h[i] * (p->x[i] - p->centre[i]) * (p->x[i] - p->centre[i]);
    return sum;
}

static bool is_adaptive(const struct kind *kind)
{
    return kind->type == LYAP_OPTIMIZER_ADAM || kind->type == LYAP_OPTIMIZER_ADAMW ||
           kind->type == LYAP_OPTIMIZER_RMSPROP;
}

/* P of SPEC 2.2 after `updates` updates. */
static double weight(const struct problem *p, int i, int updates)
{
    if (p->kind->type == LYAP_OPTIMIZER_RMSPROP)
        return sqrt(p->v[i]) + EPS;
    if (!is_adaptive(p->kind))
        return 1;
    return (1 - pow(B1, updates)) * (sqrt(p->v[i] / (1 - pow(B2, updates))) + EPS);
}

/* Brute-force projection onto { x >= 0, sum = RADIUS }: bisection on the shift. */
static void project_simplex(double *x)
{
    double low = -100, high = 100;
    for (int n = 0; n < 200; n++) {
        const double shift = 0.5 * (low + high);
        double sum = 0;
        for (int i = 0; i < SIZE; i++)
            sum += fmax(x[i] - shift, 0);
        *(sum > RADIUS ? &low : &high) = shift;
    }
    for (int i = 0; i < SIZE; i++)
        x[i] = fmax(x[i] - high, 0);
}

static void scale_to(double *x, uint32_t first, uint32_t end, double target, bool is_shrink)
{
    double norm = 0;
    for (uint32_t i = first; i < end; i++)
        norm += x[i] * x[i];
    norm = sqrt(norm);
    const double factor = is_shrink ? fmax(1 - target / norm, 0) : fmin(1, target / norm);
    for (uint32_t i = first; i < end; i++)
        x[i] *= factor;
}

static void proximal_step(struct problem *p)
{
    const double s = p->lr * LAMBDA;
    for (int i = 0; i < SIZE; i++) {
        double *x = &p->x[i];
        *x -= p->lr * p->g[i];
        if (p->kind->prox == LYAP_PROX_L1 || p->kind->prox == LYAP_PROX_ELASTIC_NET)
            *x = sign_of(*x) * fmax(fabs(*x) - s, 0);
        if (p->kind->prox == LYAP_PROX_L2 || p->kind->prox == LYAP_PROX_ELASTIC_NET)
            *x /= 1 + s;
        if (p->kind->set == LYAP_SET_BOX)
            *x = fmin(fmax(*x, -0.5), 0.8);
    }
    for (int t = 0; t < TENSORS && p->kind->prox == LYAP_PROX_GROUP_L1; t++)
        scale_to(p->x, starts[t], starts[t + 1], s, true);
    if (p->kind->set == LYAP_SET_BALL)
        scale_to(p->x, 0, SIZE, RADIUS, false);
    if (p->kind->set == LYAP_SET_SIMPLEX)
        project_simplex(p->x);
}

static void update(struct problem *p)
{
    const struct kind *k = p->kind;
    memcpy(p->last, p->x, sizeof p->x);
    p->t++;
    if (k->type == LYAP_OPTIMIZER_PROXGD || k->type == LYAP_OPTIMIZER_PROJGD) {
        proximal_step(p);
        return;
    }
    for (int i = 0; i < SIZE; i++) {
        double g = p->g[i];
        if (k->type == LYAP_OPTIMIZER_SGD) {
            g += k->weight_decay * p->x[i];
            p->m[i] = k->momentum * p->m[i] + g;
            p->x[i] -= p->lr * (k->is_nesterov ? g + k->momentum * p->m[i] : p->m[i]);
            continue;
        }
        p->v[i] = B2 * p->v[i] + (1 - B2) * g * g;
        p->m[i] = k->type == LYAP_OPTIMIZER_RMSPROP ? g : B1 * p->m[i] + (1 - B1) * g;
        p->x[i] -= p->lr * (p->m[i] / weight(p, i, p->t) +
                            (k->type == LYAP_OPTIMIZER_ADAMW ? k->weight_decay * p->x[i] : 0));
    }
}

static void problem_init(struct problem *p, const struct kind *kind, struct test_rng *rng)
{
    memset(p, 0, sizeof *p);
    p->kind = kind;
    p->retention = LYAP_RETENTION_EXACT;
    for (int i = 0; i < SIZE; i++) {
        p->h[i] = 0.2 + 4 * test_rng_uniform(rng);
        p->centre[i] = test_rng_normal(rng);
        p->anchor[i] = test_rng_normal(rng);
        p->x[i] = test_rng_normal(rng);
        p->ell = fmax(p->ell, p->h[i]);
    }
    p->lr = kind->rate * (0.2 + test_rng_uniform(rng)) / (p->ell + kind->weight_decay);
    if (kind->set != LYAP_SET_NONE) { /* start in the set */
        const double lr = p->lr;
        p->lr = 0;
        proximal_step(p);
        p->lr = lr;
    }
    fixture_init(&p->fixture, lengths, TENSORS);
    struct lyap_declaration *d = &p->fixture.declaration;
    lyap_optimizer_defaults(&d->optimizer, kind->type);
    d->optimizer.base.lr = p->lr;
    d->optimizer.base.momentum = kind->momentum;
    d->optimizer.base.is_nesterov = kind->is_nesterov;
    d->optimizer.base.weight_decay = kind->weight_decay;
    d->optimizer.base.beta1 = B1;
    d->optimizer.base.beta2 = B2;
    d->optimizer.base.eps = EPS;
    d->optimizer.prox = kind->prox;
    d->optimizer.prox_lambda = d->optimizer.prox_l1 = d->optimizer.prox_l2 = LAMBDA;
    d->optimizer.set = kind->set;
    d->optimizer.set_low = -0.5;
    d->optimizer.set_high = 0.8;
    d->optimizer.set_radius = RADIUS;
    d->has_optimizer = true;
    d->data = LYAP_DATA_FULL_BATCH;
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
        fixture_add(&p->fixture, role, i, LYAP_DTYPE_F64, values + starts[i]);
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
    double s[SIZE] = { 0 }, y[SIZE] = { 0 };
    int top = 0;
    for (int i = 0; i < SIZE; i++) {
        p->g[i] = p->h[i] * (p->x[i] - p->centre[i]);
        if (p->t > 0 && p->h[i] / weight(p, i, p->t) > p->h[top] / weight(p, top, p->t))
            top = i;
    }
    s[top] = 1e-3;
    y[top] = p->h[top] * s[top];
    fixture_step(&p->fixture, p->t);
    p->fixture.retention = p->retention;
    meta(p, "loss", loss_of(p));
    meta(p, "lr", p->lr);
    const bool is_apart = p->retention == LYAP_RETENTION_EXACT;
    for (uint32_t t = 0; t < TENSORS; t++) {
        const double *const arrays[] = { p->x, p->g, p->anchor, s, y };
        static const enum lyap_role roles[] = { LYAP_ROLE_PARAM, LYAP_ROLE_GRAD, LYAP_ROLE_ANCHOR,
                                                LYAP_ROLE_PAIR_S, LYAP_ROLE_PAIR_Y };
        for (unsigned r = 0; r < (p->t > 0 ? 5 : 3); r++)
            if (!is_apart)
                fixture_add(&p->fixture, roles[r], t, LYAP_DTYPE_F64, arrays[r] + starts[t]);
    }
    if (is_apart) {
        add(p, LYAP_ROLE_ANCHOR, p->anchor);
        add(p, LYAP_ROLE_GRAD, p->g);
        add(p, LYAP_ROLE_PARAM, p->x);
        if (p->t > 0)
            add(p, LYAP_ROLE_PAIR_S, s);
        if (p->t > 0)
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
    ck_assert_msg(value->reason == LYAP_REASON_NONE, "%s, step %d: %s is absent: %s", p->kind->name,
                  p->t, lyap_metric_info(which)->name,
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
    ck_assert_msg(value <= limit, "%s, step %d: %s is %.17g, above %.17g", p->kind->name, p->t,
                  what, value, limit);
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
    const double step = p->lr * p->ell, n = value_of(p, point, LYAP_METRIC_UPDATE_NORM);
    const double slack = 1e-9 + 1e-14 * loss_of(p) * p->lr / (n * n);
    at_most(p, "1 - eta ell/2 - a eta", 1 - step / 2,
            value_of(p, point, LYAP_METRIC_SUFFICIENT_DECREASE) + slack);
    at_most(p, "b eta", value_of(p, point, LYAP_METRIC_RELATIVE_ERROR), 1 + step + slack);
}

/* The distance energy in the metric of the last update, against brute force. */
static void check_anchor(const struct problem *p, const struct lyap_point *point)
{
    double after = 0, before = 0;
    for (int i = 0; i < SIZE; i++) {
        const double a = p->x[i] - p->anchor[i], b = p->last[i] - p->anchor[i];
        after += weight(p, i, p->t) * a * a;
        before += weight(p, i, p->t) * b * b;
    }
    test_close(value_of(p, point, LYAP_METRIC_ANCHOR_ENERGY), after, 1e-10);
    test_close(value_of(p, point, LYAP_METRIC_ANCHOR_ENERGY_CHANGE), after - before, 1e-9);
}

static void check_point(const struct problem *p, const struct lyap_point *point)
{
    const bool is_prox =
        p->kind->type == LYAP_OPTIMIZER_PROXGD || p->kind->type == LYAP_OPTIMIZER_PROJGD;
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
    if (is_prox)
        check_h1h2(p, point);
    if (p->t >= 3)
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
    if (!is_adaptive(&kinds[_i]))
        (void)value_of(&p, &point, LYAP_METRIC_ANCHOR_ENERGY);
    double slope = 0;
    update(&p);
    for (int i = 0; i < SIZE; i++)
        slope += p.g[i] * (p.x[i] - p.last[i]);
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
    static const struct kind kind = { "ball", LYAP_OPTIMIZER_PROJGD, 0, 0, false,
                                      0,      LYAP_SET_BALL,         1 };
    struct test_rng rng = { 14 };
    struct problem twins[2];
    double distance = INFINITY;
    for (int k = 0; k < 2; k++) {
        struct problem *p = &twins[k];
        problem_init(p, &kind, &rng);
        for (int i = 0; i < SIZE; i++) {
            p->h[i] = i == 0 ? 1 : 5;
            p->centre[i] = i == 0 ? 6 : 0; /* the radius is 1.5: T14 scaled by it */
            p->x[i] = i == k ? 1.5 : 0;
        }
        p->ell = 5;
        p->lr = 0.3;
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
            sq += (twins[0].x[i] - twins[1].x[i]) * (twins[0].x[i] - twins[1].x[i]);
        ck_assert(sqrt(sq) <= distance + 1e-12);
        distance = sqrt(sq);
    }
    test_close(twins[0].x[0], 1.5, 1e-8);
    test_close(twins[1].x[0], 1.5, 1e-8);
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
            const double g = p.g[i], e = 1e-6 * fabs(g) + 1e-12;
            double steps[2];
            for (int k = 0; k < 2; k++) {
                const double x = g + (k ? e : -e), n = p.t + 1;
                const double v = (B2 * p.v[i] + (1 - B2) * x * x) / (1 - pow(B2, n));
                steps[k] =
                    -p.lr * (B1 * p.m[i] + (1 - B1) * x) / (1 - pow(B1, n)) / (sqrt(v) + EPS);
            }
            const double v = (B2 * p.v[i] + (1 - B2) * g * g) / (1 - pow(B2, p.t + 1));
            const double gain = (steps[1] - steps[0]) / (2 * e);
            const double held = p.lr * (1 - B1) / (1 - pow(B1, p.t + 1)) / (sqrt(v) + EPS);
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
    ck_assert_msg(found == reason, "%s, step %d: %s: %s, expected %s", p->kind->name, p->t,
                  lyap_metric_info(which)->name, lyap_reason_name(found), lyap_reason_name(reason));
}

/* What a sign method, an unknown optimizer and a late joiner cannot have, and why. */
START_TEST(test_reasons)
{
    static const struct kind sign = { "signsgd", LYAP_OPTIMIZER_SIGNSGD, 0, 0, false, 0, 0, 0.1 };
    static const struct kind other = { "other", LYAP_OPTIMIZER_OTHER, 0, 0, false, 0, 0, 0.1 };
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
    for (int i = 0; i < SIZE; i++) {
        p.last[i] = p.x[i];
        p.x[i] -= p.lr * sign_of(p.g[i]);
    }
    p.x[3] = 2 * p.centre[3] - p.last[3]; /* behind the minimum: its sign turns */
    p.t = 1;
    point = push(&p);
    ck_assert(value_of(&p, &point, LYAP_METRIC_FLIP_FRACTION) >= 0.1);
    const double flips = SIZE * value_of(&p, &point, LYAP_METRIC_FLIP_FRACTION);
    test_close(value_of(&p, &point, LYAP_METRIC_FLIP_BOUND), 2 * p.lr * sqrt(flips), 1e-12);
    problem_free(&p);

    problem_init(&p, &other, &rng);
    point = push(&p);
    absent(&p, &point, LYAP_METRIC_UPDATE_GAIN, LYAP_REASON_NO_OPTIMIZER);
    absent(&p, &point, LYAP_METRIC_FLIP_BOUND, LYAP_REASON_NO_OPTIMIZER);
    absent(&p, &point, LYAP_METRIC_RATE_AT_LAMBDA_MIN, LYAP_REASON_NO_LINEAR_LIMIT);
    problem_free(&p);

    problem_init(&p, &kinds[3], &rng);
    p.t = 7; /* the first push of a run that began elsewhere */
    for (int i = 0; i < SIZE; i++)
        p.v[i] = 1;
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
        p.h[i] = -0.5 - 0.1 * i; /* a hill: the pair is along its least steep direction */
    (void)push(&p);
    update(&p);
    const struct lyap_point point = push(&p);
    absent(&p, &point, LYAP_METRIC_SHARPNESS, LYAP_REASON_NO_ACCEPTED_CURVATURE);
    test_close(value_of(&p, &point, LYAP_METRIC_CURVATURE_MIN), -0.5, 1e-9);
    test_close(value_of(&p, &point, LYAP_METRIC_RATE_AT_LAMBDA_MIN),
               log(1 - p.lr * (p.kind->weight_decay - 0.5)), 1e-9);
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
