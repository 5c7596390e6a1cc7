/* Update gains: the oracle's, finite differences of the updates themselves, impulse responses, the
 * histogram against sorted values. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/update_gain.h"
#include "step.h"
#include "support.h"
#include "../oracle/representation_values.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))

enum { CHUNK = 64 }; /* what kernels take */

/* Coordinates of one Adam run before an update, padded with zeros. */
struct adam {
    double lr, beta1, beta2, eps, step;
    double grad[CHUNK], m[CHUNK], v[CHUNK];
};

/* What the intake computes of them: the derivative; it and the frozen one times the gradient. */
struct gains {
    double exact[CHUNK], moved[CHUNK], frozen[CHUNK];
};

static struct gains gains_of(const struct adam *a)
{
    const struct lyap_step_rule rule = {
        .type = LYAP_OPTIMIZER_ADAM,
        .params = { .lr = a->lr, .beta1 = a->beta1, .beta2 = a->beta2, .eps = a->eps },
        .clip = 1,
        .scale = 1,
        .updates = a->step - 1,
    };
    const struct lyap_step_arrays arrays = {
        .grad = a->grad, .first = a->m, .second = a->v, .count = CHUNK
    };
    struct gains gains;
    double *const rets[3] = { gains.exact, gains.moved, gains.frozen };
    lyap_step_gain(lyap_kernels_best(), &rule, &arrays, a->grad, rets);
    return gains;
}

static void sums_add(struct lyap_update_gain_sums *sums, const double *gain, const double *grad,
                     uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        sums->gain_sq += grad[i] * gain[i] * grad[i] * gain[i];
        sums->grad_sq += grad[i] * grad[i];
        sums->counts[lyap_update_gain_bin(fabs(gain[i]))] += 1;
    }
}

START_TEST(test_oracle)
{
    enum { N = 6 };
    for (size_t i = 0; i < ROWS(golden_adam_gain); i++) {
        const double *row = golden_adam_gain[i], *expected = row + 5 + 3 * N;
        struct adam adam = {
            .step = row[0], .lr = row[1], .beta1 = row[2], .beta2 = row[3], .eps = row[4]
        };
        memcpy(adam.grad, row + 5, N * sizeof *row);
        memcpy(adam.m, row + 5 + N, N * sizeof *row);
        memcpy(adam.v, row + 5 + 2 * N, N * sizeof *row);
        const struct gains gains = gains_of(&adam);
        for (int k = 0; k < N; k++) {
            test_close(gains.exact[k] / expected[k], 1, 1e-10);
            test_close(gains.moved[k], adam.grad[k] * expected[k], 1e-10);
            test_close(fabs(gains.frozen[k]), fabs(adam.grad[k] * expected[N + k]), 1e-12);
        }
        struct lyap_update_gain_sums sums = { 0 };
        double value;
        sums_add(&sums, gains.exact, adam.grad, N);
        ck_assert_int_eq(lyap_update_gain_weighted(&sums, &value), LYAP_OK);
        test_close(value / expected[2 * N], 1, 1e-10);
    }
}
END_TEST

static double adam_update(const struct adam *a, double g)
{
    const double mean = (a->beta1 * a->m[0] + (1 - a->beta1) * g) / (1 - pow(a->beta1, a->step));
    const double square =
        (a->beta2 * a->v[0] + (1 - a->beta2) * g * g) / (1 - pow(a->beta2, a->step));
    return -a->lr * mean / (sqrt(square) + a->eps);
}

/* T4 on 1000 random states: the derivative of the update; and units: gradients times c, with m, v
 * and eps as they then are, divide the gain by c. */
START_TEST(test_adam_derivative)
{
    struct test_rng rng = { 4 };
    for (int trial = 0; trial < 1000; trial++) {
        struct adam adam = { .lr = 1e-3,
                             .beta1 = trial % 4 ? .9 : 0,
                             .beta2 = .99,
                             .eps = 1e-8,
                             .step = 1 + trial % 50,
                             .grad = { test_rng_normal(&rng) },
                             .m = { test_rng_normal(&rng) },
                             .v = { test_rng_uniform(&rng) } };
        const double exact = gains_of(&adam).exact[0], g = adam.grad[0], h = 1e-6;
        const double difference = (adam_update(&adam, g + h) - adam_update(&adam, g - h)) / (2 * h);
        test_close(exact, difference, 1e-8);
        const double c = 1024;
        adam.eps *= c;
        adam.grad[0] *= c;
        adam.m[0] *= c;
        adam.v[0] *= c * c;
        test_close(gains_of(&adam).exact[0] * c, exact, 1e-14);
    }
}
END_TEST

/* A dead coordinate reaches eta/eps, and adds nothing to the sums, whatever eps. */
START_TEST(test_dead_coordinates)
{
    struct adam adam = { .lr = 1e-3, .beta2 = .999, .eps = 1e-8, .step = 10 };
    struct gains gains = gains_of(&adam);
    test_close(gains.exact[0], -1e5, 1e-12);
    ck_assert(gains.moved[0] == 0 && gains.frozen[0] == 0);
    adam.eps = 0;
    gains = gains_of(&adam);
    ck_assert(!isfinite(gains.exact[0]) && gains.moved[0] == 0 && gains.frozen[0] == 0);
    const struct lyap_update_gain_sums none = { 0 };
    double value = 7;
    ck_assert_int_eq(lyap_update_gain_weighted(&none, &value), LYAP_E_TOO_FEW);
    ck_assert_int_eq(lyap_update_gain_quantile(&none, .5, &value), LYAP_E_TOO_FEW);
    ck_assert(value == 7);
}
END_TEST

/* Response of D_0 and of the sum of all D to a unit gradient at step 0. */
START_TEST(test_impulse)
{
    for (int nesterov = 0; nesterov < 2; nesterov++)
        for (int i = 0; i < 12; i++) {
            const int row = i / 4;
            const double lr = .1, beta = .3 * (i % 4), tau = .25 * row;
            double v = 0, sum = 0, first = 0;
            for (int t = 0; t < 600; t++) {
                const double g = t == 0;
                v = beta * v + (beta > 0 ? 1 - tau : 1) * g;
                const double update = nesterov ? lr * (g + beta * v) : lr * v;
                first = t == 0 ? update : first;
                sum += update;
            }
            const struct lyap_update_gain gain = nesterov
                                                     ? lyap_update_gain_nesterov(lr, beta, tau)
                                                     : lyap_update_gain_heavy_ball(lr, beta, tau);
            test_close(gain.now, first, 1e-14);
            test_close(gain.total, sum, 1e-12);
        }
    test_close(lyap_update_gain_heavy_ball(.1, .9, 0).total, 1, 1e-12);
    test_close(lyap_update_gain_nesterov(.1, .9, 0).now, .19, 1e-15);
    test_close(lyap_update_gain_nesterov(.1, .9, 0).total, 1, 1e-12);
}
END_TEST

static double norm_of(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* Finite differences of clipping: along g nothing passes, across it clip/|g|; and no direction
 * passes more. */
START_TEST(test_clip)
{
    enum { N = 4 };
    struct test_rng rng = { 12 };
    for (int trial = 0; trial < 1000; trial++) {
        double g[N], e[N], plus[N], minus[N], difference[N], along = 0;
        test_rng_normals(&rng, g, N);
        test_rng_normals(&rng, e, N);
        const double norm = norm_of(g, N), clip = norm * (.2 + 1.6 * test_rng_uniform(&rng));
        const struct lyap_update_gain_clip gain = lyap_update_gain_clip(norm, clip);
        if (fabs(norm - clip) < 1e-2)
            continue;
        for (int i = 0; i < N; i++)
            along += e[i] * g[i] / norm;
        const double h = 1e-6;
        for (int i = 0; i < N; i++) {
            plus[i] = g[i] + h * e[i];
            minus[i] = g[i] - h * e[i];
        }
        const double a = fmin(1, clip / norm_of(plus, N)), b = fmin(1, clip / norm_of(minus, N));
        for (int i = 0; i < N; i++) {
            difference[i] = (a * plus[i] - b * minus[i]) / (2 * h);
            const double part = along * g[i] / norm;
            test_close(difference[i], gain.across * (e[i] - part) + gain.along * part, 1e-7);
        }
        ck_assert(norm_of(difference, N) <= gain.across * norm_of(e, N) + 1e-7);
    }
    ck_assert(lyap_update_gain_clip(1, 1).along == 1 && lyap_update_gain_clip(0, 0).across == 1);
}
END_TEST

/* prox of l1, the box and the ball: 1000 pairs of gradients, the updates differ by at most eta
 * times their difference. */
START_TEST(test_prox)
{
    enum { N = 5 };
    struct test_rng rng = { 6 };
    for (int trial = 0; trial < 1000; trial++) {
        const double lr = .5 * test_rng_uniform(&rng), limit = test_rng_uniform(&rng);
        double x[N], g[2][N], out[2][N], dg[N], dx[N];
        test_rng_normals(&rng, x, N);
        for (int k = 0; k < 2; k++) {
            test_rng_normals(&rng, g[k], N);
            for (int i = 0; i < N; i++)
                out[k][i] = x[i] - lr * g[k][i];
            const double shrink = fmin(1, limit / norm_of(out[k], N));
            for (int i = 0; i < N; i++) {
                const double u = out[k][i];
                const double values[3] = { copysign(fmax(fabs(u) - limit, 0), u),
                                           fmin(fmax(u, -limit), limit), shrink * u };
                out[k][i] = values[trial % 3];
            }
        }
        for (int i = 0; i < N; i++) {
            dg[i] = g[0][i] - g[1][i];
            dx[i] = out[0][i] - out[1][i];
        }
        ck_assert(norm_of(dx, N) <= lyap_update_gain_prox(lr).now * norm_of(dg, N) + 1e-9);
    }
}
END_TEST

START_TEST(test_sign_bound)
{
    enum { N = 40 };
    struct test_rng rng = { 2 };
    for (int trial = 0; trial < 1000; trial++) {
        double difference[N], flips = 0;
        for (int i = 0; i < N; i++) {
            const double a = test_rng_normal(&rng), b = a + test_rng_normal(&rng);
            const double s = a > 0 ? 1 : -1, t = b > 0 ? 1 : -1;
            difference[i] = .01 * (s - t);
            flips += s != t;
        }
        const double bound = lyap_update_gain_sign_bound(.01, flips);
        test_close(norm_of(difference, N), bound, 1e-12); /* and it is attained */
    }
}
END_TEST

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

START_TEST(test_quantiles)
{
    enum { N = 501 };
    static const double levels[] = { 0, .01, .5, .99, 1 };
    struct test_rng rng = { 10 };
    double gain[N], grad[N];
    struct lyap_update_gain_sums whole = LYAP_UPDATE_GAIN_SUMS_NULL;
    for (int i = 0; i < N; i++) {
        gain[i] = (i % 2 ? -1 : 1) * exp(4 * test_rng_normal(&rng));
        grad[i] = test_rng_normal(&rng);
    }
    sums_add(&whole, gain, grad, N);
    for (int i = 0; i < N; i++)
        gain[i] = fabs(gain[i]);
    qsort(gain, N, sizeof *gain, ascending);
    double previous = 0;
    for (size_t i = 0; i < ROWS(levels); i++) {
        double value;
        ck_assert_int_eq(lyap_update_gain_quantile(&whole, levels[i], &value), LYAP_OK);
        const double exact = gain[(int)(levels[i] * (N - 1))];
        ck_assert(value >= .5 * exact && value <= 2 * exact);
        ck_assert(value >= previous);
        previous = value;
    }
}
END_TEST

/* Edges of the bins: exact powers of two, zero, what lies beyond. */
START_TEST(test_bins)
{
    const double grad[6] = { 1, 1, 1, 1, 1, 1 };
    const double gain[6] = { 1, -1.999, 2, 0, 0x1p-40, 0x1p40 };
    struct lyap_update_gain_sums sums = LYAP_UPDATE_GAIN_SUMS_NULL;
    sums_add(&sums, gain, grad, 6);
    ck_assert(sums.counts[32] == 2 && sums.counts[33] == 1);
    ck_assert(sums.counts[0] == 2 && sums.counts[63] == 1);
    ck_assert(sums.grad_sq == 6);
    for (int at = 0; at < LYAP_GAIN_BINS; at++) { /* one coordinate: every quantile is it */
        struct lyap_update_gain_sums one = LYAP_UPDATE_GAIN_SUMS_NULL;
        double value;
        one.counts[at] = 1;
        for (int q = 0; q <= 4; q++) {
            ck_assert_int_eq(lyap_update_gain_quantile(&one, q / 4., &value), LYAP_OK);
            test_close(log2(value), at - 31.5, 1e-12);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("update_gain");
    TCase *tests = tcase_create("update_gain");
    tcase_add_test(tests, test_oracle);
    tcase_add_test(tests, test_adam_derivative);
    tcase_add_test(tests, test_dead_coordinates);
    tcase_add_test(tests, test_impulse);
    tcase_add_test(tests, test_clip);
    tcase_add_test(tests, test_prox);
    tcase_add_test(tests, test_sign_bound);
    tcase_add_test(tests, test_quantiles);
    tcase_add_test(tests, test_bins);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
