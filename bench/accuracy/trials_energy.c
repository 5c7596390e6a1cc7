/* Energies of optimizers on random quadratics, proximal steps, Ritz values (SPEC 2.2, 3). */
#include <math.h>

#include "lyap/energy.h"
#include "lyap/ritz.h"
#include "trials.h"

enum { SIZE = 5, STEPS = 20, PAIRS = 4 };

/* L = x'Hx/2 with H = diag(h): rotations change none of what is claimed. */
struct bowl {
    double h[SIZE], x[SIZE], ell, least;
};

static struct bowl random_bowl(struct test_rng *random)
{
    struct bowl bowl = { .ell = 0, .least = INFINITY };
    for (int i = 0; i < SIZE; i++) {
        bowl.h[i] = exp(2 * test_rng_normal(random));
        bowl.x[i] = test_rng_normal(random);
        bowl.ell = fmax(bowl.ell, bowl.h[i]);
        bowl.least = fmin(bowl.least, bowl.h[i]);
    }
    return bowl;
}

static double loss_of(const struct bowl *bowl)
{
    double loss = 0;
    for (int i = 0; i < SIZE; i++)
        loss += 0.5 * bowl->h[i] * bowl->x[i] * bowl->x[i];
    return loss;
}

static double square(const double *x)
{
    double sum = 0;
    for (int i = 0; i < SIZE; i++)
        sum += x[i] * x[i];
    return sum;
}

/* Heavy ball; beta 0: gradient descent. Returns the largest of one of the residuals. */
static double largest_residual(struct test_rng *random, double beta, double rate_of_limit,
                               double (*residual)(const struct lyap_energy_terms *))
{
    struct bowl bowl = random_bowl(random);
    const double lr = rate_of_limit * 2 * (1 - beta) / bowl.ell;
    double d[SIZE] = { 0 }, largest = -INFINITY;
    for (int t = 0; t < STEPS; t++) {
        struct lyap_energy_input in = { .loss0 = loss_of(&bowl),
                                        .before_sq = square(d),
                                        .lr0 = lr,
                                        .lr1 = lr,
                                        .beta = beta,
                                        .ell = bowl.ell };
        double g[SIZE];
        for (int i = 0; i < SIZE; i++) {
            g[i] = bowl.h[i] * bowl.x[i];
            d[i] = beta * d[i] - lr * g[i];
            in.work0 += g[i] * d[i];
            bowl.x[i] += d[i];
        }
        in.grad0_sq = square(g);
        in.delta_sq = square(d);
        in.loss1 = loss_of(&bowl);
        const struct lyap_energy_terms terms =
            beta > 0 ? lyap_energy_heavy_ball(&in) : lyap_energy_gd(&in);
        largest = fmax(largest, residual(&terms));
    }
    return largest;
}

static struct sides gd_dissipates(struct test_rng *random)
{
    const double rate = test_rng_uniform(random);
    return (struct sides){ largest_residual(random, 0, rate, lyap_energy_dissipation), 0 };
}

static struct sides gd_is_smooth(struct test_rng *random)
{
    const double rate = 3 * test_rng_uniform(random);
    return (struct sides){ largest_residual(random, 0, rate, lyap_energy_smoothness), 0 };
}

static struct sides ball_dissipates(struct test_rng *random)
{
    const double beta = 0.05 + 0.9 * test_rng_uniform(random), rate = test_rng_uniform(random);
    return (struct sides){ largest_residual(random, beta, rate, lyap_energy_dissipation), 0 };
}

static struct sides ball_is_smooth(struct test_rng *random)
{
    const double beta = 0.05 + 0.9 * test_rng_uniform(random), rate = 30 * test_rng_uniform(random);
    return (struct sides){ largest_residual(random, beta, rate, lyap_energy_smoothness), 0 };
}

/* Past the linear limit the leading mode grows: the residual must say so once it leads. */
static struct sides diverging_is_seen(struct test_rng *random, double beta)
{
    struct bowl bowl = random_bowl(random);
    const double lr = (2.1 + test_rng_uniform(random)) * (1 + beta) / bowl.ell;
    double d[SIZE] = { 0 }, residual = 0;
    for (int t = 0; t < 400 && loss_of(&bowl) < 1e200; t++) {
        struct lyap_energy_input in = { .loss0 = loss_of(&bowl),
                                        .before_sq = square(d),
                                        .lr0 = lr,
                                        .lr1 = lr,
                                        .beta = beta,
                                        .ell = bowl.ell };
        for (int i = 0; i < SIZE; i++) {
            const double g = bowl.h[i] * bowl.x[i];
            d[i] = beta * d[i] - lr * g;
            in.work0 += g * d[i];
            in.grad0_sq += g * g;
            bowl.x[i] += d[i];
        }
        in.delta_sq = square(d);
        in.loss1 = loss_of(&bowl);
        const struct lyap_energy_terms terms =
            beta > 0 ? lyap_energy_heavy_ball(&in) : lyap_energy_gd(&in);
        residual = lyap_energy_dissipation(&terms);
    }
    return (struct sides){ 0, residual };
}

static struct sides gd_diverging(struct test_rng *random)
{
    return diverging_is_seen(random, 0);
}

static struct sides ball_diverging(struct test_rng *random)
{
    const double beta = 0.05 + 0.9 * test_rng_uniform(random);
    return diverging_is_seen(random, beta);
}

/* The residuals of one Adam run: ell in the norm of each step's P, which changes. */
struct adam_run {
    double smoothness, certified; /* largest; dissipation of the steps with c >= 0, -inf: none */
};

static struct adam_run adam_run(struct test_rng *random)
{
    struct bowl bowl = random_bowl(random);
    const double b1 = 0.9, b2 = 0.999, eps = 1e-8, eta = exp(test_rng_normal(random)) * 0.05;
    struct adam_run run = { -INFINITY, -INFINITY };
    double m[SIZE] = { 0 }, v[SIZE] = { 0 }, d[SIZE] = { 0 }, p[SIZE], before[SIZE];
    double lr0 = eta;
    for (int t = 1; t <= STEPS; t++) {
        struct lyap_energy_input in = { .loss0 = loss_of(&bowl), .beta = b1, .lr0 = lr0 };
        in.lr1 = eta / (1 - pow(b1, t));
        for (int i = 0; i < SIZE; i++) {
            const double g = bowl.h[i] * bowl.x[i];
            m[i] = b1 * m[i] + (1 - b1) * g;
            v[i] = b2 * v[i] + (1 - b2) * g * g;
            before[i] = t > 1 ? p[i] : 0;
            p[i] = sqrt(v[i] / (1 - pow(b2, t))) + eps;
            in.before_sq += before[i] * d[i] * d[i];
            d[i] = -in.lr1 * m[i] / p[i];
            in.delta_sq += p[i] * d[i] * d[i];
            in.delta_p_before += before[i] * d[i] * d[i];
            in.work0 += g * d[i];
            in.ell = fmax(in.ell, bowl.h[i] / p[i]);
            bowl.x[i] += d[i];
        }
        in.loss1 = loss_of(&bowl);
        if (t > 1) {
            const struct lyap_energy_terms terms = lyap_energy_adam(&in);
            run.smoothness = fmax(run.smoothness, lyap_energy_smoothness(&terms));
            if (terms.bound >= 0)
                run.certified = fmax(run.certified, lyap_energy_dissipation(&terms));
        }
        lr0 = in.lr1;
    }
    return run;
}

static struct sides adam_is_smooth(struct test_rng *random)
{
    return (struct sides){ adam_run(random).smoothness, 0 };
}

static struct sides adam_dissipates(struct test_rng *random)
{
    struct adam_run run;
    do
        run = adam_run(random);
    while (isinf(run.certified)); /* until a step is certified at all */
    return (struct sides){ run.certified, 0 };
}

/* ---- Ritz values of exact pairs y = H s ---- */

static struct lyap_ritz random_ritz(struct test_rng *random, const struct bowl *bowl)
{
    double s[PAIRS][SIZE], sg[PAIRS * PAIRS], yg[PAIRS * PAIRS], zg[PAIRS * PAIRS];
    struct lyap_ritz ritz;
    for (int i = 0; i < PAIRS; i++)
        test_rng_normals(random, s[i], SIZE);
    for (int i = 0; i < PAIRS; i++)
        for (int j = 0; j < PAIRS; j++) {
            double ss = 0, sy = 0, yy = 0;
            for (int k = 0; k < SIZE; k++) {
                const double y = bowl->h[k] * s[j][k];
                ss += s[i][k] * s[j][k];
                sy += s[i][k] * y;
                yy += bowl->h[k] * s[i][k] * y;
            }
            sg[i * PAIRS + j] = ss;
            yg[i * PAIRS + j] = sy;
            zg[i * PAIRS + j] = yy;
        }
    must(lyap_ritz_compute(PAIRS, sg, yg, zg, LYAP_RITZ_TOLERANCE, &ritz) == LYAP_OK, "ritz");
    return ritz;
}

static struct sides ritz_below(struct test_rng *random)
{
    const struct bowl bowl = random_bowl(random);
    return (struct sides){ random_ritz(random, &bowl).values[0], bowl.ell };
}

static struct sides ritz_certificate(struct test_rng *random)
{
    const struct bowl bowl = random_bowl(random);
    const struct lyap_ritz ritz = random_ritz(random, &bowl);
    double nearest = INFINITY;
    for (int i = 0; i < SIZE; i++)
        nearest = fmin(nearest, fabs(bowl.h[i] - ritz.values[0]));
    return (struct sides){ nearest, ritz.residuals[0] };
}

const struct trial energy_trials[] = {
    { "GD below its limit: dissipation residual <= 0", "3.2", gd_dissipates },
    { "GD at any rate: smoothness residual <= 0", "3.0", gd_is_smooth },
    { "GD past its limit: dissipation residual > 0 once the mode leads", "3.0", gd_diverging },
    { "heavy ball below 2(1-beta)/ell: dissipation residual <= 0", "3.3", ball_dissipates },
    { "heavy ball at any rate: smoothness residual <= 0", "3.3", ball_is_smooth },
    { "heavy ball past 2(1+beta)/ell: dissipation residual > 0 once the mode leads", "3.0",
      ball_diverging },
    { "Adam with changing P: smoothness residual <= 0", "3.4", adam_is_smooth },
    { "Adam, steps with c >= 0: dissipation residual <= 0", "3.4", adam_dissipates },
    { "top Ritz value <= largest eigenvalue", "2.2", ritz_below },
    { "an eigenvalue within the Ritz residual", "2.2", ritz_certificate },
};
const uint32_t energy_trial_count = sizeof energy_trials / sizeof *energy_trials;
