/* Norms of weights over many snapshots: bounds on the right side, crossing singular values,
 * stated errors, invariances. */
#include "spectral_fixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "linalg.h"

enum { MOST = 65536 };
static double values[MOST], other[MOST];

static double largest_row(const double *w, uint32_t rows, uint32_t cols)
{
    double largest = 0;
    for (uint32_t r = 0; r < rows; r++)
        largest = fmax(largest, lyap_linalg_dot(w + (size_t)r * cols, w + (size_t)r * cols, cols));
    return sqrt(largest);
}

/* 1000 random matrices, and how they move on: no bound is on the wrong side. */
START_TEST(bounds_hold)
{
    struct test_rng rng = { 11 };
    int measured = 0, carried = 0;
    for (int trial = 0; trial < 1000; trial++) {
        struct run run;
        const uint32_t rows = 1 + (uint32_t)(test_rng_u64(&rng) % 13);
        const uint32_t cols = 1 + (uint32_t)(test_rng_u64(&rng) % 13);
        const bool is_exact = trial % 2;
        const double pace = exp(-3 * test_rng_uniform(&rng));
        run_begin(&run, rows, cols, is_exact ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        test_rng_normals(&rng, values, (uint64_t)rows * cols);
        for (int t = 0; t < 11; t++) {
            const struct lyap_spectral_view *view = run_step(&run, values);
            const double sigma = norm_of(values, rows, cols), slack = 1e-9 * sigma;
            ck_assert(!(view->lower > sigma + slack) && view->upper >= sigma - slack);
            ck_assert(view->row_norm >= largest_row(values, rows, cols) - slack);
            ck_assert(isnan(view->lower) || sigma <= view->lower + view->error + slack);
            ck_assert(isnan(view->lower) == (!is_exact && t < LYAP_SPECTRAL_WARM_VISITS));
            ck_assert((view->reason == LYAP_REASON_WARMING_UP) == isnan(view->lower));
            measured += !isnan(view->lower);
            double square = 0;
            for (uint32_t i = 0; i < rows * cols; i++)
                square += values[i] * values[i];
            carried += is_exact && view->upper < .999 * sqrt(square);
            for (uint32_t i = 0; i < rows * cols; i++)
                values[i] += pace * .1 * test_rng_normal(&rng);
        }
        run_end(&run);
    }
    ck_assert_int_gt(measured, 5000);
    ck_assert_int_gt(carried, 2000);
}
END_TEST

/* W += s a b'. */
static void add_outer(double s, const double *a, uint32_t rows, const double *b, uint32_t cols,
                      double *w)
{
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < cols; j++)
            w[i * cols + j] += s * a[i] * b[j];
}

/* Independent elements whose singular values lie below about 2. */
static void crowd(struct test_rng *rng, uint32_t side, double *w)
{
    for (uint32_t i = 0; i < side * side; i++)
        w[i] = test_rng_normal(rng) / sqrt(side);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Trained layers drift and their singular values cross (E1): an orthogonal basis that turns slowly,
 * with values that change places. After ten snapshots the error is 1 % in the median, 5 % at worst.
 */
START_TEST(crossing_singular_values)
{
    enum { SIDE = 48, VALUES = 12, STEPS = 160 };
    static double u[VALUES * SIDE], v[VALUES * SIDE];
    for (int retention = 0; retention < 2; retention++) {
        struct test_rng rng = { 13 + (uint64_t)retention };
        struct run run;
        double errors[STEPS];
        int count = 0;
        run_begin(&run, SIDE, SIDE, retention ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        test_rng_normals(&rng, u, VALUES * SIDE);
        test_rng_normals(&rng, v, VALUES * SIDE);
        test_rng_normals(&rng, other, SIDE * SIDE);
        for (int t = 0; t < STEPS; t++) {
            for (int i = 0; i < VALUES * SIDE; i++) {
                u[i] += .02 * test_rng_normal(&rng) / sqrt(SIDE);
                v[i] += .02 * test_rng_normal(&rng) / sqrt(SIDE);
            }
            ck_assert_int_eq(lyap_linalg_qr(SIDE, VALUES, u, NULL), LYAP_OK);
            ck_assert_int_eq(lyap_linalg_qr(SIDE, VALUES, v, NULL), LYAP_OK);
            for (int i = 0; i < SIDE * SIDE; i++)
                values[i] = .05 * other[i];
            for (int k = 0; k < VALUES; k++) {
                const double s = 2 + sin(.05 * t * (1 + .1 * k) + k);
                add_outer(s, u + (ptrdiff_t)k * SIDE, SIDE, v + (ptrdiff_t)k * SIDE, SIDE, values);
            }
            const struct lyap_spectral_view *view = run_step(&run, values);
            if (t >= 10)
                errors[count++] = 1 - view->lower / norm_of(values, SIDE, SIDE);
        }
        qsort(errors, (size_t)count, sizeof *errors, ascending);
        ck_assert_msg(errors[count / 2] <= .01 && errors[count - 1] <= .05, "median %g, worst %g",
                      errors[count / 2], errors[count - 1]);
        run_end(&run);
    }
}
END_TEST

/* ---- what a block of old vectors does not know ---- */

/* W += s u v' of random directions of length 1. */
static void add_rank_one(struct test_rng *rng, uint32_t side, double s, double *w)
{
    double u[128], v[128];
    test_rng_normals(rng, u, side);
    test_rng_normals(rng, v, side);
    s /= sqrt(lyap_linalg_dot(u, u, side) * lyap_linalg_dot(v, v, side));
    add_outer(s, u, side, v, side, w);
}

/* A step and its truth, which lies between the norm and its error above it. */
static double shortfall_of(struct run *run, uint32_t side, const double *w)
{
    const struct lyap_spectral_view *view = run_step(run, w);
    const double sigma = norm_of(w, side, side), slack = 1e-9 * sigma;
    if (isnan(view->lower))
        return NAN;
    ck_assert_msg(view->lower <= sigma + slack && sigma <= view->lower + view->error + slack,
                  "%g and %g above, truth %g", view->lower, view->error, sigma);
    ck_assert(view->lower + view->error <= view->upper + slack);
    return 1 - view->lower / sigma;
}

/* A new singular value twice the largest, at once, of a weight that has converged: its first norm
 * has an error that says so, the second has found it. */
START_TEST(sudden_directions)
{
    enum { SIDE = 96, CALM = 14 };
    struct test_rng rng = { 41 };
    int missed = 0;
    for (int trial = 0; trial < 40; trial++) {
        struct run run;
        run_begin(&run, SIDE, SIDE, trial % 2 ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        crowd(&rng, SIDE, values);
        add_rank_one(&rng, SIDE, 4, values);
        for (int t = 0; t < CALM; t++)
            (void)shortfall_of(&run, SIDE, values);
        ck_assert(run.state->tensors[0].view.error < .01);
        add_rank_one(&rng, SIDE, 8, values);
        missed += shortfall_of(&run, SIDE, values) > .1;
        ck_assert(run.state->tensors[0].view.error > 3);
        ck_assert(shortfall_of(&run, SIDE, values) < .05);
        (void)shortfall_of(&run, SIDE, values);
        ck_assert(shortfall_of(&run, SIDE, values) < 1e-3);
        ck_assert(run.state->tensors[0].view.error < .1);
        run_end(&run);
    }
    ck_assert_int_gt(missed, 30); /* the case is one */
}
END_TEST

/* Values that grow out of the crowd below them while the leading one stays, as in training. */
START_TEST(growing_directions)
{
    enum { SIDE = 96, STEPS = 60, NEW = 4 };
    struct test_rng rng = { 43 };
    for (int retention = 0; retention < 2; retention++) {
        double u[SIDE * SIDE], worst = 0;
        struct run run;
        run_begin(&run, SIDE, SIDE, retention ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        crowd(&rng, SIDE, values);
        for (int t = 0; t < STEPS; t++) {
            if (t % (STEPS / NEW) == 0) {
                memset(u, 0, sizeof u);
                add_rank_one(&rng, SIDE, .5, u);
            }
            for (int i = 0; i < SIDE * SIDE; i++)
                values[i] += u[i];
            const double missing = shortfall_of(&run, SIDE, values);
            worst = t >= 10 ? fmax(worst, missing) : worst;
        }
        ck_assert_msg(worst < .05, "retention %d: %g", retention, worst);
        run_end(&run);
    }
}
END_TEST

/* Two equal values have no one vector; a leading one that turns at every snapshot is followed. */
START_TEST(equal_and_turning)
{
    enum { SIDE = 32 };
    struct test_rng rng = { 47 };
    for (int retention = 0; retention < 2; retention++) {
        struct run run;
        run_begin(&run, SIDE, SIDE, retention ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        for (int i = 0; i < SIDE * SIDE; i++)
            values[i] = i % (SIDE + 1) != 0 ? 0 : i < 2 * SIDE ? 5 : 3;
        double missing = 1;
        for (int t = 0; t < 24; t++)
            missing = shortfall_of(&run, SIDE, values);
        ck_assert(fabs(missing) < 1e-6 && run.state->tensors[0].view.error < 1e-2);
        for (int t = 0; t < 40; t++) {
            for (int i = 0; i < SIDE * SIDE; i++) { /* a hump that wanders along the rows */
                const double apart = (i % SIDE - .8 * t) / 4;
                values[i] = .1 * test_rng_normal(&rng) + exp(-apart * apart);
            }
            missing = shortfall_of(&run, SIDE, values);
            ck_assert_msg(t < 2 || missing < .05, "step %d: %g", t, missing);
        }
        run_end(&run);
    }
}
END_TEST

/* Every element is another: of no use are vectors, nor what was known. */
START_TEST(another_matrix)
{
    enum { SIDE = 24 };
    struct test_rng rng = { 53 };
    for (int trial = 0; trial < 100; trial++) {
        struct run run;
        run_begin(&run, SIDE, SIDE, trial % 2 ? LYAP_RETENTION_EXACT : LYAP_RETENTION_SKETCH);
        for (int t = 0; t < 12; t++) {
            test_rng_normals(&rng, values, SIDE * SIDE);
            (void)shortfall_of(&run, SIDE, values);
        }
        run_end(&run);
    }
}
END_TEST

/* Column k of the reflection I - 2 u u' / |u|^2. */
static void reflect(const double *u, uint32_t side, uint32_t k, double *ret)
{
    double square = 0;
    for (uint32_t i = 0; i < side; i++)
        square += u[i] * u[i];
    for (uint32_t i = 0; i < side; i++)
        ret[i] = (i == k) - 2 * u[i] * u[k] / square;
}

/* SPEC 6.6 (g) and 7.2: the matrix of T1 has 5; factors and the transpose. */
START_TEST(invariances)
{
    enum { M = 40, N = 25 };
    struct test_rng rng = { 17 };
    double u[M], v[N], a[M], b[N], sigma[4];
    static const double s[4] = { 5, 4, 3, 1 };
    test_rng_normals(&rng, u, M);
    test_rng_normals(&rng, v, N);
    memset(values, 0, sizeof(double) * M * N);
    for (uint32_t k = 0; k < 4; k++) {
        reflect(u, M, k, a);
        reflect(v, N, k, b);
        add_outer(s[k], a, M, b, N, values);
    }
    for (int form = 0; form < 4; form++) { /* as it is, negated, a thousandth, transposed */
        static const double factors[4] = { 1, -1, 1e-3, 1 };
        struct run run;
        const bool is_turned = form == 3;
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++)
                other[is_turned ? j * M + i : i * N + j] = factors[form] * values[i * N + j];
        run_begin(&run, is_turned ? N : M, is_turned ? M : N, LYAP_RETENTION_EXACT);
        for (int t = 0; t < 20; t++)
            sigma[form] = run_step(&run, other)->lower;
        const struct lyap_spectral_view *view = &run.state->tensors[0].view;
        test_close(sigma[form] / fabs(factors[form]), 5, 1e-9);
        ck_assert(view->upper / fabs(factors[form]) <= 5 * pow(4, 1 / 256.) + 1e-9);
        ck_assert(view->residual <= 1e-4 * sigma[form]);
        run_end(&run);
    }
    ck_assert(sigma[0] == sigma[1]);
    test_close(1e3 * sigma[2], sigma[0], 1e-12);
}
END_TEST

/* Bounds stay apart from what no difference connects. */
START_TEST(unlinked_steps_drop_bounds)
{
    enum { SIDE = 10 };
    struct test_rng rng = { 19 };
    struct run run;
    run_begin(&run, SIDE, SIDE, LYAP_RETENTION_EXACT);
    test_rng_normals(&rng, values, SIDE * SIDE);
    (void)run_step(&run, values);
    lyap_memory_free(run.memory);
    run.memory = NULL; /* as after a restart */
    for (int i = 0; i < SIDE * SIDE; i++)
        values[i] *= 3;
    const struct lyap_spectral_view *view = run_step(&run, values);
    ck_assert(view->upper >= norm_of(values, SIDE, SIDE) * (1 - 1e-12));
    run_end(&run);
}
END_TEST

/* A client's sums may have a norm and neither |W|_F nor a bound: nothing limits its error then. */
START_TEST(norms_without_a_bound)
{
    const double squares[2] = { 10, NAN };
    for (int i = 0; i < 2; i++) {
        struct run run;
        struct lyap_partial partial;
        run_begin(&run, 3, 3, LYAP_RETENTION_EXACT);
        ck_assert_int_eq(lyap_partial_init(&partial, 1, LYAP_SKETCH_BLOCK), LYAP_OK);
        lyap_partial_row(&partial, LYAP_REDUCE_PARAM_SQ)[0] = squares[i];
        lyap_partial_row(&partial, LYAP_REDUCE_SPECTRAL_NORM)[0] = 3;
        lyap_partial_row(&partial, LYAP_REDUCE_SPECTRAL_RESIDUAL)[0] = .1;
        lyap_spectral_state_step(run.state, &partial, false);
        const struct lyap_spectral_view *view = &run.state->tensors[0].view;
        ck_assert(view->reason == LYAP_REASON_NONE && view->lower == 3);
        if (isnan(squares[i]))
            ck_assert(isnan(view->upper) && isnan(view->error));
        else
            test_close(view->error, sqrt(10) - 3, 1e-15);
        lyap_partial_release(&partial);
        run_end(&run);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spectral_state");
    TCase *tcase = tcase_create("spectral_state");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, bounds_hold);
    tcase_add_test(tcase, crossing_singular_values);
    tcase_add_test(tcase, sudden_directions);
    tcase_add_test(tcase, growing_directions);
    tcase_add_test(tcase, equal_and_turning);
    tcase_add_test(tcase, another_matrix);
    tcase_add_test(tcase, invariances);
    tcase_add_test(tcase, unlinked_steps_drop_bounds);
    tcase_add_test(tcase, norms_without_a_bound);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
