/* Updates (proximal, projected, sign), linear transitions of optimizers and their mode energies
 * (SPEC 1.6, 2.6, 3.3, 3.5). */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/energy.h"
#include "lyap/growth.h"
#include "lyap/transition.h"
#include "lyap/update_gain.h"
#include "trials.h"

enum { SIZE = 6, HALF = SIZE / 2, POWERS = 40 };

static double norm(const double *x, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

static double distance(const double *x, const double *y)
{
    double difference[SIZE];
    for (int i = 0; i < SIZE; i++)
        difference[i] = x[i] - y[i];
    return norm(difference, SIZE);
}

/* ---- r of F = f + r: its value and its prox of `lr` ---- */

enum kind { L1, L2, GROUP_L1, ELASTIC_NET, BOX, BALL, SIMPLEX, KIND_COUNT };

struct rule {
    enum kind kind;
    double a, b; /* weights of the penalties; a: the half side, radius or sum of the sets */
};

static double shrink(double x, double by)
{
    return copysign(fmax(fabs(x) - by, 0), x);
}

static double penalty(const struct rule *rule, const double *x)
{
    double sum = 0;
    for (int i = 0; i < SIZE; i++)
        sum += fabs(x[i]);
    switch (rule->kind) {
    case L1:
        return rule->a * sum;
    case L2:
        return 0.5 * rule->b * norm(x, SIZE) * norm(x, SIZE);
    case GROUP_L1:
        return rule->a * (norm(x, HALF) + norm(x + HALF, HALF));
    case ELASTIC_NET:
        return rule->a * sum + 0.5 * rule->b * norm(x, SIZE) * norm(x, SIZE);
    case BOX:
    case BALL:
    case SIMPLEX:
    case KIND_COUNT:
        return 0; /* inside the set */
    }
    return 0;
}

/* Onto {x >= 0, sum x = total}: the shift is where the sum falls through the total. */
static void project_simplex(double total, double *x)
{
    double low = -fabs(total), high = 0;
    for (int i = 0; i < SIZE; i++) {
        low = fmin(low, x[i] - total);
        high = fmax(high, x[i]);
    }
    for (int step = 0; step < 200; step++) {
        const double middle = 0.5 * (low + high);
        double sum = 0;
        for (int i = 0; i < SIZE; i++)
            sum += fmax(x[i] - middle, 0);
        *(sum > total ? &low : &high) = middle;
    }
    for (int i = 0; i < SIZE; i++)
        x[i] = fmax(x[i] - high, 0);
}

static void prox_groups(double by, double *x)
{
    for (int start = 0; start < SIZE; start += HALF) {
        const double length = norm(x + start, HALF);
        for (int i = start; i < start + HALF; i++)
            x[i] *= fmax(1 - by / fmax(length, DBL_MIN), 0);
    }
}

static void prox(const struct rule *rule, double lr, double *x)
{
    const double length = norm(x, SIZE);
    if (rule->kind == GROUP_L1)
        prox_groups(lr * rule->a, x);
    if (rule->kind == SIMPLEX)
        project_simplex(rule->a, x);
    for (int i = 0; i < SIZE; i++) {
        if (rule->kind == L1 || rule->kind == ELASTIC_NET)
            x[i] = shrink(x[i], lr * rule->a);
        if (rule->kind == L2 || rule->kind == ELASTIC_NET)
            x[i] /= 1 + lr * rule->b;
        if (rule->kind == BOX)
            x[i] = fmin(fmax(x[i], -rule->a), rule->a);
        if (rule->kind == BALL)
            x[i] *= fmin(1, rule->a / fmax(length, DBL_MIN));
    }
}

static struct rule random_rule(struct test_rng *random)
{
    return (struct rule){ (enum kind)(test_rng_u64(random) % KIND_COUNT),
                          0.1 + test_rng_uniform(random), test_rng_uniform(random) };
}

/* One step on f = (x - c)'H(x - c)/2, H diagonal, from a point of the set. */
struct prox_step {
    double decrease, error, ell_lr; /* a eta, b eta, eta ell */
};

static struct prox_step prox_step(struct test_rng *random)
{
    const struct rule rule = random_rule(random);
    double h[SIZE], c[SIZE], x[SIZE], y[SIZE], w[SIZE], ell = 0, before, after, delta;
    test_rng_normals(random, c, SIZE);
    test_rng_normals(random, x, SIZE);
    for (int i = 0; i < SIZE; i++) {
        h[i] = exp(2 * test_rng_normal(random));
        ell = fmax(ell, h[i]);
    }
    if (rule.kind >= BOX)
        prox(&rule, 1, x);
    const double lr = 2 * test_rng_uniform(random) / ell;
    for (int i = 0; i < SIZE; i++)
        y[i] = x[i] - lr * h[i] * (x[i] - c[i]);
    prox(&rule, lr, y);
    before = penalty(&rule, x);
    after = penalty(&rule, y);
    for (int i = 0; i < SIZE; i++) {
        before += 0.5 * h[i] * (x[i] - c[i]) * (x[i] - c[i]);
        after += 0.5 * h[i] * (y[i] - c[i]) * (y[i] - c[i]);
        w[i] = (h[i] - 1 / lr) * (y[i] - x[i]);
    }
    delta = distance(x, y);
    const struct lyap_energy_h1h2 p =
        lyap_energy_h1h2(before, after, norm(w, SIZE), delta * delta, lr);
    if (delta < 1e-6) /* it did not move: nothing is claimed */
        return prox_step(random);
    return (struct prox_step){ p.decrease, p.error, lr * ell };
}

static struct sides prox_decreases(struct test_rng *random)
{
    const struct prox_step step = prox_step(random);
    return (struct sides){ 1 - 0.5 * step.ell_lr, step.decrease };
}

static struct sides prox_error(struct test_rng *random)
{
    const struct prox_step step = prox_step(random);
    return (struct sides){ step.error, 1 + step.ell_lr };
}

/* Two gradients at one point: how far the updates are apart. */
static struct sides prox_gain(struct test_rng *random)
{
    const struct rule rule = random_rule(random);
    const double lr = test_rng_uniform(random);
    double x[SIZE], g[2][SIZE], y[2][SIZE];
    test_rng_normals(random, x, SIZE);
    for (int k = 0; k < 2; k++) {
        test_rng_normals(random, g[k], SIZE);
        for (int i = 0; i < SIZE; i++)
            y[k][i] = x[i] - lr * g[k][i];
        prox(&rule, lr, y[k]);
    }
    return (struct sides){ distance(y[0], y[1]),
                           lyap_update_gain_prox(lr).now * distance(g[0], g[1]) };
}

static struct sides clip_gain(struct test_rng *random)
{
    double g[SIZE], e[SIZE], moved[SIZE];
    test_rng_normals(random, g, SIZE);
    test_rng_normals(random, e, SIZE);
    const double length = norm(g, SIZE), clip = length * (0.1 + 0.8 * test_rng_uniform(random));
    const struct lyap_update_gain_clip gain = lyap_update_gain_clip(length, clip);
    double along = 0;
    for (int i = 0; i < SIZE; i++)
        along += e[i] * g[i] / (length * length);
    for (int i = 0; i < SIZE; i++) /* the derivative of clip g/|g| along e */
        moved[i] = clip / length * (e[i] - along * g[i]);
    return (struct sides){ norm(moved, SIZE), gain.across * norm(e, SIZE) };
}

static struct sides sign_distance(struct test_rng *random)
{
    double u[SIZE], v[SIZE], flips = 0;
    const double lr = test_rng_uniform(random);
    for (int i = 0; i < SIZE; i++) {
        u[i] = lr * copysign(1, test_rng_normal(random));
        v[i] = lr * copysign(1, test_rng_normal(random));
        flips += u[i] * v[i] < 0;
    }
    return (struct sides){ distance(u, v), lyap_update_gain_sign_bound(lr, flips) };
}

/* ---- transitions ---- */

static struct lyap_transition random_transition(struct test_rng *random)
{
    static const enum lyap_method methods[] = { LYAP_METHOD_GD, LYAP_METHOD_HEAVY_BALL,
                                                LYAP_METHOD_NESTEROV, LYAP_METHOD_ADAM };
    struct lyap_transition t = { .method = methods[test_rng_u64(random) % 4], .gain = 1 };
    t.lr = exp(-6 * test_rng_uniform(random)); /* eta wd < 2, without which nothing is stable */
    t.beta = t.method == LYAP_METHOD_GD ? 0 : 0.99 * test_rng_uniform(random);
    t.decay = 0.2 * test_rng_uniform(random);
    return t;
}

static struct sides stable_below(struct test_rng *random)
{
    const struct lyap_transition t = random_transition(random);
    const double limit = lyap_transition_limit(&t), share = test_rng_uniform(random);
    return (struct sides){ lyap_transition_radius(&t, share * (limit + t.decay) - t.decay), 1 };
}

static struct sides unstable_beyond(struct test_rng *random)
{
    const struct lyap_transition t = random_transition(random);
    const double limit = lyap_transition_limit(&t), beyond = 1e-3 + test_rng_uniform(random);
    const double lambda =
        test_rng_u64(random) % 2 ? limit * (1 + beyond) : -t.decay - beyond / t.lr;
    return (struct sides){ 1, lyap_transition_radius(&t, lambda) };
}

/* Powers of the transition at a stable curvature: the largest excess over the bound. */
static struct sides mode_energy(struct test_rng *random)
{
    struct lyap_growth_bound bound;
    double a[4], power[4] = { 1, 0, 0, 1 }, next[4];
    uint32_t n;
    do {
        const struct lyap_transition t = random_transition(random);
        const double limit = lyap_transition_limit(&t);
        n = lyap_transition_matrix(&t, test_rng_uniform(random) * limit, a);
    } while (lyap_growth_energy_bound(n, a, &bound) != LYAP_OK);
    power[1] = 0;
    if (n == 1)
        power[3] = 0;
    double worst = -INFINITY;
    for (int t = 1; t <= POWERS; t++) {
        memset(next, 0, sizeof next);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < n; j++)
                for (uint32_t k = 0; k < n; k++)
                    next[i * n + j] += a[i * n + k] * power[k * n + j];
        memcpy(power, next, sizeof power);
        worst = fmax(worst, exact_norm(power, n, n) - bound.gain * exp(bound.rate * t));
    }
    return (struct sides){ worst, 0 };
}

const struct trial update_trials[] = {
    { "prox (l1, l2, group l1, elastic net), projection (box, ball, simplex): "
      "\\|p - p'\\| <= eta \\|g - g'\\|",
      "1.6", prox_gain },
    { "derivative of clipping <= clip/\\|g\\|", "1.6", clip_gain },
    { "sign updates: \\|D - D'\\| <= 2 eta sqrt(flips)", "1.6", sign_distance },
    { "GD, heavy ball, Nesterov, Adam with decay, below their limit: spectral radius < 1", "2.6",
      stable_below },
    { "the same beyond it, or below -decay: spectral radius > 1", "2.6", unstable_beyond },
    { "\\|A^t\\| <= M exp(rate t) of the mode energy, 40 powers", "3.3", mode_energy },
    { "the seven proximal and projected steps: a eta >= 1 - eta ell/2", "3.5", prox_decreases },
    { "the same: b eta <= 1 + eta ell", "3.5", prox_error },
};
const uint32_t update_trial_count = sizeof update_trials / sizeof *update_trials;
