/* The trainer's network: its gradient against finite differences, its probe against the curvature
 * of a power iteration in double precision. */
#include <math.h>
#include <stdlib.h>

#include "checkpoint.h"
#include "data.h"
#include "mlp.h"
#include "probe.h"
#include "support.h"

enum { SAMPLES = 32 };

static const uint32_t widths[] = { 6, 5, 4, 3 };
static float inputs[SAMPLES * 6];
static uint8_t labels[SAMPLES];

static void make_model(struct mlp *mlp, float **ret_params)
{
    struct test_rng rng = { 7 };
    ck_assert(mlp_init(mlp, widths, 4, SAMPLES));
    *ret_params = malloc(mlp->count * sizeof(float));
    ck_assert_ptr_nonnull(*ret_params);
    mlp_start(mlp, 3, *ret_params);
    for (uint32_t i = 0; i < SAMPLES * 6; i++)
        inputs[i] = (float)test_rng_normal(&rng);
    for (uint32_t i = 0; i < SAMPLES; i++)
        labels[i] = (uint8_t)(test_rng_u64(&rng) % 3);
}

static double dot(const float *a, const float *b, uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

START_TEST(parameters_are_laid_out_without_holes)
{
    struct mlp mlp;
    ck_assert(mlp_init(&mlp, widths, 4, SAMPLES));
    ck_assert_uint_eq(mlp.count, 6 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3);
    ck_assert_uint_eq(mlp.weight_at[1], 35);
    ck_assert_uint_eq(mlp.bias_at[2], 35 + 24 + 12);
    mlp_release(&mlp);
}
END_TEST

/* Each block of parameters along random directions: central differences. */
START_TEST(gradient_matches_finite_differences)
{
    struct mlp mlp;
    struct test_rng rng = { 11 };
    float *params;
    make_model(&mlp, &params);
    float *grad = malloc(mlp.count * sizeof *grad), *moved = malloc(mlp.count * sizeof *moved);
    mlp_loss(&mlp, params, inputs, labels, SAMPLES, grad);
    const double step = 1e-2;
    for (uint32_t block = 0; block < 6; block++) {
        const uint32_t l = block / 2;
        const bool is_bias = block % 2 == 1;
        const uint64_t from = is_bias ? mlp.bias_at[l] : mlp.weight_at[l];
        const uint64_t to = is_bias ? from + widths[l + 1] : mlp.bias_at[l];
        double losses[2], slope = 0, length = 0;
        const uint64_t start = rng.state;
        for (int side = 0; side < 2; side++) {
            rng.state = start;
            slope = length = 0;
            for (uint64_t i = 0; i < mlp.count; i++) {
                const bool is_inside = i >= from && i < to;
                const double v = is_inside ? test_rng_normal(&rng) : 0;
                moved[i] = (float)(params[i] + (side ? step : -step) * v);
                slope += v * grad[i];
                length += v * v;
            }
            losses[side] = mlp_loss(&mlp, moved, inputs, labels, SAMPLES, NULL);
        }
        const double measured = (losses[1] - losses[0]) / (2 * step);
        const double scale = sqrt(length * dot(grad, grad, mlp.count));
        ck_assert_msg(fabs(measured - slope) <= 1e-3 * scale, "block %u: %g, expected %g", block,
                      slope, measured);
    }
    free(moved);
    free(grad);
    free(params);
    mlp_release(&mlp);
}
END_TEST

START_TEST(loss_of_equal_logits_is_log_of_classes)
{
    struct mlp mlp;
    float *params;
    make_model(&mlp, &params);
    for (uint64_t i = mlp.weight_at[2]; i < mlp.count; i++)
        params[i] = 0;
    test_close(mlp_loss(&mlp, params, inputs, labels, SAMPLES, NULL), log(3), 1e-12);
    free(params);
    mlp_release(&mlp);
}
END_TEST

/* <s, y> / <s, s> of repeated probes is the top curvature: no direction has more. */
START_TEST(probe_finds_the_top_curvature)
{
    struct mlp mlp;
    struct probe probe;
    struct test_rng rng = { 5 };
    float *params;
    make_model(&mlp, &params);
    ck_assert(probe_init(&probe, &mlp, inputs, labels, SAMPLES, 9));
    double curvature = 0, before = 0;
    for (int i = 0; i < 60; i++) {
        before = curvature;
        probe_measure(&probe, params);
        curvature =
            dot(probe.pair_s, probe.pair_y, mlp.count) / dot(probe.pair_s, probe.pair_s, mlp.count);
    }
    ck_assert_double_gt(curvature, 0);
    test_close(curvature / before, 1, 2e-3);
    test_close(probe.loss, mlp_loss(&mlp, params, inputs, labels, SAMPLES, NULL), 1e-12);
    for (int i = 0; i < 20; i++) {
        for (uint64_t j = 0; j < mlp.count; j++)
            probe.direction[j] = (float)test_rng_normal(&rng);
        const double length = sqrt(dot(probe.direction, probe.direction, mlp.count));
        for (uint64_t j = 0; j < mlp.count; j++)
            probe.direction[j] = (float)(probe.direction[j] / length);
        probe_measure(&probe, params);
        const double other =
            dot(probe.pair_s, probe.pair_y, mlp.count) / dot(probe.pair_s, probe.pair_s, mlp.count);
        ck_assert_double_le(other, 1.01 * curvature);
    }
    free(params);
    probe_release(&probe);
    mlp_release(&mlp);
}
END_TEST

START_TEST(data_set_is_whole)
{
    struct data data;
    uint32_t per_class[DATA_CLASSES] = { 0 };
    double sum = 0;
    ck_assert(data_load("clients/c/examples/data/digits.txt", &data));
    ck_assert_uint_eq(data.count, 1797);
    for (uint32_t i = 0; i < data.count; i++)
        per_class[data.labels[i]]++;
    for (int c = 0; c < DATA_CLASSES; c++)
        ck_assert(per_class[c] >= 174 && per_class[c] <= 183);
    for (uint32_t i = 0; i < data.count * DATA_PIXELS; i++)
        sum += data.pixels[i];
    test_close(sum / (data.count * DATA_PIXELS), 0, 1e-6);
    data_release(&data);
    ck_assert(!data_load("clients/c/examples/data/README.md", &data));
    ck_assert(!data_load("no/such/file", &data));
}
END_TEST

enum { KEPT = 3 };

static void keep(struct checkpoints *checkpoints, long step)
{
    const float value = (float)step;
    const float params[KEPT] = { value, value + 1, value + 2 };
    const float velocity[KEPT] = { -value, -value - 1, -value - 2 };
    checkpoints_keep(checkpoints, step, params, velocity);
}

static long restore(struct checkpoints *checkpoints, int64_t step)
{
    float params[KEPT], velocity[KEPT];
    const long found = checkpoints_restore(checkpoints, step, params, velocity);
    for (int i = 0; found >= 0 && i < KEPT; i++) {
        ck_assert_float_eq(params[i], (float)(found + i));
        ck_assert_float_eq(velocity[i], (float)(-found - i));
    }
    return found;
}

/* The newest at or before a step, whole; what came later is forgotten, the oldest makes room. */
START_TEST(checkpoints_are_those_of_the_way_that_was_kept)
{
    struct checkpoints checkpoints;
    ck_assert(checkpoints_init(&checkpoints, KEPT));
    ck_assert_int_eq(restore(&checkpoints, 100), -1);
    for (long step = 10; step <= 60; step += 10) /* 30 .. 60 stay */
        keep(&checkpoints, step);
    ck_assert_int_eq(restore(&checkpoints, 29), -1);
    ck_assert_uint_eq(checkpoints.used, 4);
    ck_assert_int_eq(restore(&checkpoints, 49), 40);
    ck_assert_int_eq(restore(&checkpoints, 1000), 40);
    for (long step = 45; step <= 48; step++) /* 40 is the one that makes room after 30 */
        keep(&checkpoints, step);
    ck_assert_int_eq(restore(&checkpoints, 44), -1);
    ck_assert_int_eq(restore(&checkpoints, 48), 48);
    ck_assert_int_eq(restore(&checkpoints, 45), 45);
    ck_assert_int_eq(restore(&checkpoints, -1), -1);
    checkpoints_release(&checkpoints);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer_model");
    TCase *tcase = tcase_create("model");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, parameters_are_laid_out_without_holes);
    tcase_add_test(tcase, gradient_matches_finite_differences);
    tcase_add_test(tcase, loss_of_equal_logits_is_log_of_classes);
    tcase_add_test(tcase, probe_finds_the_top_curvature);
    tcase_add_test(tcase, data_set_is_whole);
    tcase_add_test(tcase, checkpoints_are_those_of_the_way_that_was_kept);
    return test_main(suite);
}
