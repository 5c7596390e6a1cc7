/* Energies and residuals: oracle values, closed forms (T10, T11, T11b, T12), certified signs. */
#include <math.h>

#include "lyap/energy.h"
#include "support.h"
#include "../oracle/golden_values.h"

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

START_TEST(test_trapezoid)
{
    const double d = .3, *row = golden_trapezoid[0];
    double tau;
    test_close(lyap_energy_trapezoid(0, d * d * d, 0, 3 * d * d * d, &tau), row[0], 1e-15);
    test_close(row[0], -.5 * d * d * d, 1e-15);
    test_close(tau, row[1], 1e-15);
    test_close(lyap_energy_trapezoid(.1, .7, -.2, .5, &tau), row[2], 1e-15);
    test_close(tau, row[3], 1e-15);
    test_close(lyap_energy_trapezoid(0, d * d, 0, 2 * d * d, &tau), 0, 1e-16);
    /* kappa_loss - kappa_grad = 2T / |D|^2 */
    const double t = lyap_energy_trapezoid(.1, .7, -.2, .5, &tau);
    test_close(lyap_energy_kappa_loss(.1, .7, -.2, .04) - lyap_energy_kappa_grad(-.2, .5, .04),
               2 * t / .04, 1e-12);
}
END_TEST

START_TEST(test_heavy_ball_golden)
{
    for (int i = 0; i < COUNT(golden_heavy_ball); i++) {
        const double *row = golden_heavy_ball[i];
        const struct lyap_energy_input in = { .loss0 = row[0],
                                              .loss1 = row[1],
                                              .work0 = row[2],
                                              .grad0_sq = row[3],
                                              .before_sq = row[4],
                                              .delta_sq = row[5],
                                              .lr0 = .02,
                                              .lr1 = .02,
                                              .beta = .9,
                                              .ell = 7 };
        const struct lyap_energy_terms terms = lyap_energy_heavy_ball(&in);
        test_close(lyap_energy_smoothness(&terms), row[6], 1e-12);
        ck_assert(lyap_energy_smoothness(&terms) <= 1e-9); /* T12 */
        ck_assert(lyap_energy_dissipation(&terms) >= lyap_energy_smoothness(&terms));
    }
}
END_TEST

START_TEST(test_adam_golden)
{
    for (int i = 0; i < COUNT(golden_adam); i++) {
        const double *row = golden_adam[i];
        const struct lyap_energy_input in = { .loss0 = row[0],
                                              .loss1 = row[1],
                                              .before_sq = row[2],
                                              .delta_sq = row[3],
                                              .delta_p_before = row[4],
                                              .lr0 = .01,
                                              .lr1 = .01,
                                              .beta = .9,
                                              .ell = row[5] };
        const struct lyap_energy_terms terms = lyap_energy_adam(&in);
        test_close(lyap_energy_smoothness(&terms), row[6], 1e-9);
        ck_assert(lyap_energy_smoothness(&terms) <= 1e-9); /* T12 */
    }
}
END_TEST

/* T11, T11b: GD on a quadratic that diverges. The smoothness residual is blind to it, the
 * dissipation residual is positive at every step. */
START_TEST(test_gd_diverging)
{
    const double h[2] = { 4, .5 }, ell = 4, lr = 2.5 / 4;
    double x[2] = { 1, 1 }, loss = 0;
    double excess = 0; /* of the whole window */
    for (int t = 0; t < 40; t++) {
        struct lyap_energy_input in = { .lr1 = lr, .ell = ell };
        for (int i = 0; i < 2; i++) {
            const double g = h[i] * x[i], d = -lr * g;
            in.loss0 += .5 * h[i] * x[i] * x[i];
            in.work0 += g * d;
            in.delta_sq += d * d;
            x[i] += d;
            in.loss1 += .5 * h[i] * x[i] * x[i];
        }
        loss = in.loss1;
        const struct lyap_energy_terms gd = lyap_energy_gd(&in);
        const struct lyap_energy_terms descent = lyap_energy_descent(&in);
        ck_assert(lyap_energy_smoothness(&gd) <= 1e-12);
        test_close(lyap_energy_smoothness(&gd), lyap_energy_smoothness(&descent), 1e-12);
        if (t >= 5)
            ck_assert(lyap_energy_dissipation(&gd) > 0);
        excess += gd.change + fmax(gd.bound, 0);
    }
    ck_assert(loss > 1e6);
    ck_assert(excess > 0);
    /* Tight where ell is the curvature of the path. */
    const double l = 7, eta = .1, a = 2, b = a - eta * l * a;
    const struct lyap_energy_input tight = { .loss0 = .5 * l * a * a,
                                             .loss1 = .5 * l * b * b,
                                             .work0 = l * a * (b - a),
                                             .delta_sq = (b - a) * (b - a),
                                             .lr1 = eta,
                                             .ell = l };
    const struct lyap_energy_terms terms = lyap_energy_gd(&tight);
    ck_assert(fabs(lyap_energy_smoothness(&terms)) < 1e-14);
}
END_TEST

/* Heavy ball at 4.2/ell diverges: smoothness negative, dissipation positive at every step. */
START_TEST(test_heavy_ball_diverging)
{
    const double ell = 4, lr = 4.2 / 4, beta = .9;
    double x = 1, m = 0, before = 0;
    for (int t = 0; t < 120; t++) {
        const double g = ell * x;
        m = beta * m + g;
        const double d = -lr * m, y = x + d;
        const struct lyap_energy_input in = { .loss0 = .5 * ell * x * x,
                                              .loss1 = .5 * ell * y * y,
                                              .work0 = g * d,
                                              .grad0_sq = g * g,
                                              .delta_sq = d * d,
                                              .before_sq = before,
                                              .lr0 = lr,
                                              .lr1 = lr,
                                              .beta = beta,
                                              .ell = ell };
        const struct lyap_energy_terms terms = lyap_energy_heavy_ball(&in);
        ck_assert(lyap_energy_smoothness(&terms) <= 1e-9);
        if (t >= 20)
            ck_assert(lyap_energy_dissipation(&terms) > 0);
        before = d * d;
        x = y;
    }
    ck_assert(fabs(x) > 1e6);
}
END_TEST

/* 1000 random quadratics and rates, constant and changing: the certified inequality of heavy ball
 * holds, and so does descent for an arbitrary step. */
START_TEST(test_certified_inequalities)
{
    struct test_rng rng = { 19 };
    for (int trial = 0; trial < 1000; trial++) {
        enum { D = 4 };
        double h[D], x[D], m[D] = { 0 }, before = 0, ell = 0, lr0 = 1;
        const double beta = test_rng_uniform(&rng);
        for (int i = 0; i < D; i++) {
            h[i] = test_rng_normal(&rng);
            x[i] = test_rng_normal(&rng);
            ell = fmax(ell, h[i]);
        }
        double lr = .5 * test_rng_uniform(&rng);
        for (int t = 0; t < 8; t++) {
            if (trial % 2)
                lr *= .7 + .6 * test_rng_uniform(&rng);
            struct lyap_energy_input in = {
                .before_sq = before, .lr0 = t ? lr0 : lr, .lr1 = lr, .beta = beta, .ell = ell
            };
            for (int i = 0; i < D; i++) {
                const double g = h[i] * x[i];
                in.loss0 += .5 * h[i] * x[i] * x[i];
                m[i] = beta * m[i] + g;
                const double d = -lr * m[i];
                in.work0 += g * d;
                in.grad0_sq += g * g;
                in.delta_sq += d * d;
                x[i] += d;
                in.loss1 += .5 * h[i] * x[i] * x[i];
            }
            const struct lyap_energy_terms ball = lyap_energy_heavy_ball(&in);
            const struct lyap_energy_terms descent = lyap_energy_descent(&in);
            ck_assert(lyap_energy_smoothness(&ball) <= 1e-9);
            ck_assert(lyap_energy_smoothness(&descent) <= 1e-9);
            ck_assert(lyap_energy_dissipation(&ball) >= lyap_energy_smoothness(&ball));
            before = in.delta_sq;
            lr0 = lr;
        }
    }
}
END_TEST

/* T13: separable lasso by proximal steps; H1 and H2 of an l-smooth f with a convex r. */
static double shrink(double x, double t)
{
    return copysign(fmax(fabs(x) - t, 0), x);
}

START_TEST(test_h1h2_lasso)
{
    const double a[3] = { 1, 2, 4 }, b[3] = { 3, -1, .1 }, lambda = 1, lr = .25;
    double x[3] = { 0, 0, 0 };
    for (int t = 0; t < 60; t++) {
        double f0 = 0, f1 = 0, diff_sq = 0, diff_delta = 0, delta_sq = 0, y[3];
        for (int i = 0; i < 3; i++) {
            const double g0 = a[i] * (x[i] - b[i]);
            y[i] = shrink(x[i] - lr * g0, lr * lambda);
            const double g1 = a[i] * (y[i] - b[i]), d = y[i] - x[i];
            f0 += .5 * a[i] * (x[i] - b[i]) * (x[i] - b[i]) + lambda * fabs(x[i]);
            f1 += .5 * a[i] * (y[i] - b[i]) * (y[i] - b[i]) + lambda * fabs(y[i]);
            diff_sq += (g1 - g0) * (g1 - g0);
            diff_delta += (g1 - g0) * d;
            delta_sq += d * d;
        }
        if (delta_sq > 1e-16) {
            const double w = lyap_energy_subgradient_norm(diff_sq, diff_delta, delta_sq, lr);
            const struct lyap_energy_h1h2 p = lyap_energy_h1h2(f0, f1, w, delta_sq, lr);
            ck_assert(p.decrease >= 1 - .5 * lr * 4 - 1e-6);
            ck_assert(p.error <= 1 + lr * 4);
        }
        for (int i = 0; i < 3; i++)
            x[i] = y[i];
    }
    test_close(x[0], 2, 1e-7);
    test_close(x[1], -.5, 1e-7);
    test_close(x[2], 0, 1e-7);
}
END_TEST

/* SPEC 6.6 c and d: units of the loss and of the parameters leave every residual alone. */
START_TEST(test_invariances)
{
    const double c[2] = { 8, .125 };
    const struct lyap_energy_input in = { .loss0 = 2,
                                          .loss1 = 1.7,
                                          .work0 = -.4,
                                          .grad0_sq = 3,
                                          .delta_sq = .05,
                                          .before_sq = .07,
                                          .delta_p_before = .06,
                                          .lr0 = .1,
                                          .lr1 = .12,
                                          .beta = .8,
                                          .ell = 5 };
    struct lyap_energy_terms (*const forms[])(const struct lyap_energy_input *) = {
        lyap_energy_descent, lyap_energy_gd, lyap_energy_heavy_ball, lyap_energy_adam
    };
    for (int k = 0; k < 2; k++) {
        struct lyap_energy_input loss = in, param = in;
        loss.loss0 *= c[k];
        loss.loss1 *= c[k];
        loss.work0 *= c[k];
        loss.grad0_sq *= c[k] * c[k];
        loss.lr0 /= c[k];
        loss.lr1 /= c[k];
        loss.ell *= c[k];
        const double sq = c[k] * c[k];
        param.grad0_sq /= sq;
        param.delta_sq *= sq;
        param.before_sq *= sq;
        param.delta_p_before *= sq;
        param.lr0 *= sq;
        param.lr1 *= sq;
        param.ell /= sq;
        for (int f = 0; f < 4; f++) {
            const struct lyap_energy_terms a = forms[f](&in), b = forms[f](&loss);
            const struct lyap_energy_terms d = forms[f](&param);
            test_close(lyap_energy_dissipation(&b), lyap_energy_dissipation(&a), 1e-12);
            test_close(lyap_energy_smoothness(&d), lyap_energy_smoothness(&a), 1e-12);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("energy");
    TCase *tests = tcase_create("energy");
    tcase_add_test(tests, test_trapezoid);
    tcase_add_test(tests, test_heavy_ball_golden);
    tcase_add_test(tests, test_adam_golden);
    tcase_add_test(tests, test_gd_diverging);
    tcase_add_test(tests, test_heavy_ball_diverging);
    tcase_add_test(tests, test_certified_inequalities);
    tcase_add_test(tests, test_h1h2_lasso);
    tcase_add_test(tests, test_invariances);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
