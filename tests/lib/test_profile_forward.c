/* The representation metrics of a step: certified bounds against exact Jacobians of 1000 random
 * networks each, reasons, invariances, running maxima, replayed windows. */
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/blas.h"
#include "lyap/profile.h"
#include "network_support.h"
#include "support.h"

enum { TRIALS = 1000, WIDTH_MAX = 5, LAYERS_MAX = 4 };
static const double ROUNDING = 1e-9;

static struct test_network net;
static struct lyap_declaration declaration;
static struct lyap_profile *profile;
static struct lyap_partial partial;
static struct lyap_point point;
static double weights[LAYERS_MAX][WIDTH_MAX * WIDTH_MAX];
static double moved_sq; /* |D|^2 of every tensor; NaN: unknown */

static void forget(void)
{
    moved_sq = 0;
    lyap_profile_free(profile);
    profile = NULL;
    lyap_partial_release(&partial);
    lyap_declaration_release(&declaration);
    test_network_release(&net);
}

static void teardown(void)
{
    forget();
    ck_assert_int_eq(test_alloc_live(), 0);
}

/* A profile of what `net` holds. */
static void begin(void)
{
    test_network_build(&net);
    lyap_declaration_init(&declaration);
    declaration.network = net.network;
    declaration.set = net.set;
    net.network = (struct lyap_network)LYAP_NETWORK_NULL;
    net.set = (struct lyap_tensor_set)LYAP_TENSOR_SET_NULL;
    ck_assert_int_eq(lyap_profile_new(&declaration, NAN, &profile), LYAP_OK);
    ck_assert_int_eq(lyap_partial_init(&partial, declaration.set.count, LYAP_SKETCH_SIZE), LYAP_OK);
}

static void put(enum lyap_reduce row, uint32_t tensor, double value)
{
    lyap_partial_row(&partial, row)[tensor] = value;
}

static double norm_of(const double *values, uint32_t rows, uint32_t cols)
{
    double norm;
    const struct lyap_spectral_matrix w = { values, rows, cols };
    ck_assert_int_eq(lyap_spectral_norm(&w, &norm), LYAP_OK);
    return norm;
}

/* One step on the weights. */
static const struct lyap_layer_row *step(int64_t at)
{
    struct lyap_snapshot snapshot;
    lyap_snapshot_init(&snapshot);
    snapshot.step = at;
    snapshot.loss = 1;
    snapshot.present = 1u << LYAP_META_STEP | 1u << LYAP_META_LOSS;
    for (uint32_t i = 0; i < declaration.set.count; i++) {
        const struct lyap_tensor *tensor = &declaration.set.tensors[i];
        double square = 0, largest = 0, upper;
        for (uint64_t j = 0; j < tensor->count; j++) {
            square += weights[i][j] * weights[i][j];
            largest = fmax(largest, fabs(weights[i][j]));
        }
        for (unsigned m = 0; m < LYAP_MOMENT_ROWS; m++) {
            put((enum lyap_reduce)(LYAP_REDUCE_PARAM_COUNT + m), i, 0);
            put((enum lyap_reduce)(LYAP_REDUCE_GRAD_COUNT + m), i, 0);
            put((enum lyap_reduce)(LYAP_REDUCE_DELTA_COUNT + m), i, 0);
        }
        put(LYAP_REDUCE_DELTA_SQ, i, moved_sq);
        put(LYAP_REDUCE_PARAM_COUNT, i, (double)tensor->count);
        put(LYAP_REDUCE_PARAM_SQ, i, square);
        put(LYAP_REDUCE_PARAM_MAX, i, largest);
        if (tensor->rank == 2) {
            const struct lyap_spectral_matrix w = { weights[i], (uint32_t)tensor->shape[0],
                                                    (uint32_t)tensor->shape[1] };
            ck_assert_int_eq(lyap_spectral_gram_upper(&w, LYAP_SPECTRAL_SQUARINGS, NULL, &upper),
                             LYAP_OK);
            put(LYAP_REDUCE_SPECTRAL_UPPER, i, upper);
        }
    }
    put(LYAP_REDUCE_GRAD_SQ, 0, 1);
    partial.delta_unit = 0x1p-53;
    ck_assert_int_eq(
        lyap_profile_step(profile, &snapshot, &partial, LYAP_REASON_NONE, &point, NULL), LYAP_OK);
    uint32_t count;
    int64_t newest;
    const struct lyap_layer_row *rows = lyap_profile_layers(profile, &count, &newest);
    ck_assert_uint_eq(count, declaration.network.count);
    ck_assert_int_eq(newest, at);
    return rows;
}

/* What the worker would bring for the step that was just made. */
static void work(void)
{
    struct lyap_layer_job *job;
    ck_assert_int_eq(lyap_profile_layer_job(profile, 1, &job), LYAP_OK);
    ck_assert_ptr_nonnull(job);
    for (uint32_t i = 0; i < job->count; i++) {
        struct lyap_layer_task *task = &job->tasks[i];
        struct lyap_layer_values values = { { NULL } };
        for (int part = 0; part < LYAP_LAYER_PARTS; part++) {
            const int32_t tensor = declaration.network.layers[task->layer].index[part];
            values.parts[part] = tensor < 0 ? NULL : weights[tensor];
        }
        ck_assert_int_eq(lyap_layer_task_bound(task, &declaration, &values), LYAP_OK);
    }
    lyap_profile_layer_result(profile, job);
    lyap_layer_job_free(job);
}

static double value_of(const struct lyap_layer_row *row, enum lyap_layer_metric metric)
{
    ck_assert_msg(row->values[metric].reason == LYAP_REASON_NONE, "%s: %s",
                  lyap_layer_metric_name(metric),
                  lyap_reason_name((enum lyap_reason)row->values[metric].reason));
    return row->values[metric].value;
}

static double metric_of(enum lyap_metric metric)
{
    ck_assert_msg(point.metrics[metric].reason == LYAP_REASON_NONE, "%s",
                  lyap_reason_name((enum lyap_reason)point.metrics[metric].reason));
    return point.metrics[metric].value;
}

static uint32_t below(struct test_rng *rng, uint32_t limit)
{
    return (uint32_t)(test_rng_u64(rng) % limit);
}

/* Slopes anywhere in the range, its ends included. */
static double slope_of(struct test_rng *rng, enum lyap_activation kind)
{
    const struct lyap_activation_range range = lyap_activation_derivative(kind);
    const double at = test_rng_uniform(rng);
    if (at < 0.3)
        return range.largest;
    return at < 0.5 ? range.least : range.least + (range.largest - range.least) * (at - 0.5) * 2;
}

static struct lyap_layer layer_of(enum lyap_layer_kind kind, enum lyap_activation activation)
{
    struct lyap_layer layer = test_network_layer(kind);
    layer.activation =
        (struct lyap_layer_activation){ lyap_activation_lipschitz(activation), activation, true,
                                        lyap_activation_is_gate(activation) };
    return layer;
}

/* out = diag(slopes) W in, W out_rows x inner, in inner x cols. */
static void multiply(struct test_rng *rng, enum lyap_activation activation, const double *w,
                     uint32_t rows, uint32_t inner, uint32_t cols, double *matrix)
{
    double out[WIDTH_MAX * WIDTH_MAX];
    for (uint32_t i = 0; i < rows; i++) {
        const double slope = slope_of(rng, activation);
        for (uint32_t j = 0; j < cols; j++) {
            double sum = 0;
            for (uint32_t k = 0; k < inner; k++)
                sum += w[i * inner + k] * matrix[k * cols + j];
            out[i * cols + j] = slope * sum;
        }
    }
    memcpy(matrix, out, rows * cols * sizeof *out);
}

static void identity(double *matrix, uint32_t n)
{
    memset(matrix, 0, n * n * sizeof *matrix);
    for (uint32_t i = 0; i < n; i++)
        matrix[i * n + i] = 1;
}

/* ---- sequences ---- */

START_TEST(sequences_stay_below_the_product)
{
    struct test_rng rng = { 21 };
    for (int trial = 0; trial < TRIALS; trial++) {
        const uint32_t layers = 1 + below(&rng, LAYERS_MAX);
        uint32_t widths[LAYERS_MAX + 1];
        enum lyap_activation activations[LAYERS_MAX];
        test_network_init(&net, layers);
        for (uint32_t i = 0; i <= layers; i++)
            widths[i] = 1 + below(&rng, WIDTH_MAX);
        for (uint32_t i = 0; i < layers; i++) {
            const char name[2] = { (char)('a' + i), '\0' };
            const uint64_t shape[2] = { widths[i + 1], widths[i] };
            activations[i] = (enum lyap_activation)below(&rng, LYAP_ACTIVATION_COUNT);
            test_network_set(&net, i, name, layer_of(LYAP_LAYER_LINEAR, activations[i]));
            test_network_tensor(&net, i, LYAP_LAYER_PART_WEIGHT, shape, 2);
            test_rng_normals(&rng, weights[i], shape[0] * shape[1]);
        }
        begin();
        step(0);
        double jacobian[WIDTH_MAX * WIDTH_MAX];
        identity(jacobian, widths[0]);
        for (uint32_t i = 0; i < layers; i++)
            multiply(&rng, activations[i], weights[i], widths[i + 1], widths[i], widths[0],
                     jacobian);
        const double exact = norm_of(jacobian, widths[layers], widths[0]);
        ck_assert_double_le(log(fmax(exact, 1e-300)),
                            metric_of(LYAP_METRIC_FORWARD_BOUND) + ROUNDING);
        ck_assert_uint_eq(point.metrics[LYAP_METRIC_FORWARD_BOUND].trust, LYAP_TRUST_I);
        forget();
    }
}
END_TEST

/* ---- residual blocks ---- */

/* One random block x + h f(x) on vectors of n; f of two matrices goes through m. */
struct block {
    enum lyap_structure structure;
    uint32_t n, m;
    double h;
};

static const enum lyap_activation gate = LYAP_ACTIVATION_RELU, smooth = LYAP_ACTIVATION_GELU,
                                  plain = LYAP_ACTIVATION_IDENTITY;

static bool is_gated(const struct block *block)
{
    return block->structure == LYAP_STRUCTURE_SYMMETRIC || block->structure == LYAP_STRUCTURE_GATED;
}

static void declare_block(const struct block *block)
{
    const bool is_free = block->structure == LYAP_STRUCTURE_FREE;
    const uint64_t up[2] = { block->m, block->n }, down[2] = { block->n, block->m };
    const uint64_t square[2] = { block->n, block->n };
    struct lyap_layer layer = is_gated(block) ? layer_of(LYAP_LAYER_RESIDUAL, gate)
                                              : test_network_layer(LYAP_LAYER_RESIDUAL);
    layer.structure = block->structure;
    layer.step = block->h;
    test_network_init(&net, is_free ? 3 : 1);
    test_network_set(&net, 0, "block", layer);
    if (!is_free) {
        const bool is_symmetric = block->structure == LYAP_STRUCTURE_SYMMETRIC;
        test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, is_symmetric ? up : square, 2);
        return;
    }
    test_network_set(&net, 1, "up", layer_of(LYAP_LAYER_LINEAR, smooth));
    test_network_tensor(&net, 1, LYAP_LAYER_PART_WEIGHT, up, 2);
    test_network_set(&net, 2, "down", test_network_layer(LYAP_LAYER_LINEAR));
    test_network_tensor(&net, 2, LYAP_LAYER_PART_WEIGHT, down, 2);
    test_network_inner(&net, 0, "up down");
}

/* I + h J at random slopes. */
static void block_jacobian(struct test_rng *rng, const struct block *block, double *jacobian)
{
    const uint32_t n = block->n, m = block->m;
    double transposed[WIDTH_MAX * WIDTH_MAX];
    identity(jacobian, n);
    switch (block->structure) {
    case LYAP_STRUCTURE_FREE:
        multiply(rng, smooth, weights[0], m, n, n, jacobian);
        multiply(rng, plain, weights[1], n, m, n, jacobian);
        break;
    case LYAP_STRUCTURE_SYMMETRIC:
        for (uint32_t i = 0; i < m; i++)
            for (uint32_t j = 0; j < n; j++)
                transposed[j * m + i] = -weights[0][i * n + j];
        multiply(rng, gate, weights[0], m, n, n, jacobian);
        multiply(rng, plain, transposed, n, m, n, jacobian);
        break;
    default:
        multiply(rng, is_gated(block) ? gate : plain, weights[0], n, n, n, jacobian);
    }
    for (uint32_t i = 0; i < n * n; i++)
        jacobian[i] = (i % (n + 1) == 0) + block->h * jacobian[i];
}

static double inf_norm(const double *matrix, uint32_t n)
{
    double most = 0;
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < n; j++)
            sum += fabs(matrix[i * n + j]);
        most = fmax(most, sum);
    }
    return most;
}

static void block_trial(struct test_rng *rng, enum lyap_structure structure)
{
    const uint32_t n = 2 + below(rng, WIDTH_MAX - 1), m = 1 + below(rng, WIDTH_MAX);
    const struct block block = { structure, n, m, 0.05 + test_rng_uniform(rng) };
    double jacobian[WIDTH_MAX * WIDTH_MAX];
    declare_block(&block);
    for (int i = 0; i < 2; i++)
        test_rng_normals(rng, weights[i], WIDTH_MAX * WIDTH_MAX);
    begin();
    const struct lyap_layer_row *rows = step(0);
    if (structure == LYAP_STRUCTURE_CONSTANT || structure == LYAP_STRUCTURE_GATED) {
        work();
        rows = step(1);
        ck_assert_int_eq(rows[0].bound_step, 0);
    }
    block_jacobian(rng, &block, jacobian);
    const double exact = norm_of(jacobian, n, n);
    ck_assert_double_le(exact, value_of(rows, LYAP_LAYER_METRIC_GAIN) * (1 + ROUNDING));
    ck_assert_double_le(exact, value_of(rows, LYAP_LAYER_METRIC_TRIANGLE) * (1 + ROUNDING));
    ck_assert(metric_of(LYAP_METRIC_RESIDUAL_GAIN) == value_of(rows, LYAP_LAYER_METRIC_GAIN));
    const struct lyap_value *cfl = &rows->values[LYAP_LAYER_METRIC_CFL_MARGIN];
    if (cfl->reason == LYAP_REASON_NONE && cfl->value >= 1)
        ck_assert_double_le(exact, 1 + ROUNDING); /* certified */
    else if (structure == LYAP_STRUCTURE_FREE || structure == LYAP_STRUCTURE_GATED)
        ck_assert_uint_eq(cfl->reason, LYAP_REASON_MU_NONNEGATIVE);
    if (structure == LYAP_STRUCTURE_GATED)
        ck_assert_double_le(inf_norm(jacobian, n),
                            value_of(rows, LYAP_LAYER_METRIC_GAIN_INF) * (1 + ROUNDING));
    if (structure == LYAP_STRUCTURE_CONSTANT)
        ck_assert_double_le(exact,
                            value_of(rows, LYAP_LAYER_METRIC_LOG_NORM_GAIN) * (1 + ROUNDING));
    forget();
}

START_TEST(blocks_stay_below_their_gain)
{
    struct test_rng rng = { 22 + (uint64_t)_i };
    for (int trial = 0; trial < TRIALS; trial++)
        block_trial(&rng, (enum lyap_structure)_i);
}
END_TEST

/* SPEC 7.2: the skew matrix at h = 1/2 has sqrt(1.25), and the log-norm bound is exact. */
START_TEST(the_skew_block)
{
    struct lyap_layer block = test_network_layer(LYAP_LAYER_RESIDUAL);
    block.structure = LYAP_STRUCTURE_CONSTANT;
    block.step = 0.5;
    test_network_init(&net, 1);
    test_network_set(&net, 0, "block", block);
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 2, 2 }, 2);
    const double skew[4] = { 0, 1, -1, 0 };
    memcpy(weights[0], skew, sizeof skew);
    begin();
    const struct lyap_layer_row *rows = step(0);
    ck_assert_uint_eq(rows->values[LYAP_LAYER_METRIC_LOG_NORM].reason, LYAP_REASON_NEEDS_VALUES);
    work();
    rows = step(1);
    test_close(value_of(rows, LYAP_LAYER_METRIC_LOG_NORM_GAIN), sqrt(1.25), 1e-12);
    test_close(metric_of(LYAP_METRIC_FORWARD_BOUND), log(sqrt(1.25)), 1e-12);
    test_close(value_of(rows, LYAP_LAYER_METRIC_BACKWARD_GAIN), 1, 1e-12);
    ck_assert_uint_eq(rows->method, LYAP_BOUND_METHOD_LOG_NORM);
    ck_assert_uint_eq(point.metrics[LYAP_METRIC_CFL_MARGIN].reason, LYAP_REASON_MU_NONNEGATIVE);
}
END_TEST

/* SPEC 6.6 g: a weight times c moves the bound by log c; the order of declaration does not matter.
 */
START_TEST(scaling_a_weight)
{
    struct test_rng rng = { 31 };
    double bounds[2];
    for (int i = 0; i < 2; i++) {
        test_network_init(&net, 1);
        test_network_set(&net, 0, "a", test_network_layer(LYAP_LAYER_LINEAR));
        test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 4, 3 }, 2);
        if (i == 0)
            test_rng_normals(&rng, weights[0], 12);
        for (int j = 0; i == 1 && j < 12; j++)
            weights[0][j] *= -7;
        begin();
        step(0);
        bounds[i] = metric_of(LYAP_METRIC_FORWARD_BOUND);
        forget();
    }
    test_close(bounds[1] - bounds[0], log(7), 1e-12);
}
END_TEST

/* ---- what moves ---- */

START_TEST(a_break_drops_what_was_kept)
{
    struct lyap_layer conv = test_network_layer(LYAP_LAYER_CONV1D);
    test_network_init(&net, 1);
    test_network_set(&net, 0, "conv", conv);
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, (const uint64_t[3]){ 1, 1, 3 }, 3);
    weights[0][0] = 1, weights[0][1] = -2, weights[0][2] = 3;
    begin();
    const struct lyap_layer_row *rows = step(0);
    test_close(value_of(rows, LYAP_LAYER_METRIC_GAIN), sqrt(3 * 14.), 1e-12);
    ck_assert_uint_eq(rows->method, LYAP_BOUND_METHOD_FROBENIUS);
    struct lyap_layer_job *job;
    ck_assert_int_eq(lyap_profile_layer_job(profile, 1, &job), LYAP_OK);
    ck_assert_uint_eq(job->count, 1);
    job->tasks[0].is_done = true;
    job->tasks[0].bound = lyap_layer_bound_none();
    job->tasks[0].bound.upper = 6;
    job->tasks[0].bound.method = LYAP_BOUND_METHOD_RESHAPE;
    lyap_profile_layer_result(profile, job);
    rows = step(1);
    test_close(value_of(rows, LYAP_LAYER_METRIC_GAIN), 6, 0);
    ck_assert_int_eq(rows->bound_step, 0);
    moved_sq = 1e-4; /* by .01, at each of two steps; three windows hold one input */
    step(2);
    rows = step(3);
    test_close(value_of(rows, LYAP_LAYER_METRIC_GAIN), 6 + 2 * 0.01 * sqrt(3), 1e-12);
    ck_assert_uint_eq(rows->method, LYAP_BOUND_METHOD_INCREMENT);
    ck_assert_int_eq(rows->bound_step, 0);
    moved_sq = NAN; /* no difference connects this step with the one before */
    rows = step(4);
    ck_assert_uint_eq(rows->method, LYAP_BOUND_METHOD_FROBENIUS);
    moved_sq = 0;
    lyap_profile_layer_result(profile, job); /* of before the break */
    rows = step(5);
    ck_assert_uint_eq(rows->method, LYAP_BOUND_METHOD_FROBENIUS);
    lyap_layer_job_free(job);
}
END_TEST

/* ---- empirical gains ---- */

static void perturb(uint32_t layer, double sq, double diff_sq)
{
    struct lyap_act_sums *acts = lyap_partial_acts(&partial, declaration.network.count + 1);
    ck_assert_ptr_nonnull(acts);
    acts[layer].sq = sq;
    acts[layer].diff_sq = diff_sq;
}

START_TEST(empirical_gains)
{
    test_network_init(&net, 2);
    test_network_set(&net, 0, "a", test_network_layer(LYAP_LAYER_LINEAR));
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 2, 2 }, 2);
    test_network_set(&net, 1, "softmax", layer_of(LYAP_LAYER_ACTIVATION, LYAP_ACTIVATION_TANH));
    begin();
    double gains[] = { 2, 1, 4, 3 };
    for (int i = 0; i < 4; i++) {
        perturb(0, 5, 1e-6);
        perturb(1, 9, gains[i] * gains[i] * 1e-6);
        const struct lyap_layer_row *rows = step(i);
        test_close(metric_of(LYAP_METRIC_EMPIRICAL_GAIN), gains[i], 1e-12);
        test_close(value_of(rows, LYAP_LAYER_METRIC_EMPIRICAL_GAIN_MAX), i < 2 ? 2 : 4, 1e-12);
        test_close(value_of(rows, LYAP_LAYER_METRIC_ACT_NORM), 3, 1e-12);
        if (i == 0)
            ck_assert_uint_eq(point.metrics[LYAP_METRIC_EMPIRICAL_GAIN_GROWTH].reason,
                              LYAP_REASON_WARMING_UP);
        else
            test_close(metric_of(LYAP_METRIC_EMPIRICAL_GAIN_GROWTH),
                       gains[i] / fmin(2, i < 2 ? 2 : 1), 1e-12);
        ck_assert_uint_eq(rows[1].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN].reason,
                          LYAP_REASON_NEEDS_ACTIVATIONS);
    }
    perturb(0, 5, 0); /* the inputs do not differ */
    step(4);
    ck_assert_uint_eq(point.metrics[LYAP_METRIC_EMPIRICAL_GAIN].reason, LYAP_REASON_INSUFFICIENT);
}
END_TEST

/* The gain of the first layer grows, the last one's does not: the worst counts. A layer that was
 * pushed for the first time, and one without a tensor, do not. */
START_TEST(growth_is_of_the_worst_layer)
{
    test_network_init(&net, 4);
    for (uint32_t i = 0; i < 3; i++) {
        static const char *const names[] = { "a", "b", "c" };
        test_network_set(&net, i, names[i], test_network_layer(LYAP_LAYER_LINEAR));
        test_network_tensor(&net, i, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 2, 2 }, 2);
    }
    test_network_set(&net, 3, "d", layer_of(LYAP_LAYER_ACTIVATION, LYAP_ACTIVATION_TANH));
    begin();
    static const double gains[3][5] = { { 2, 1, 2.5, 5, 1 },
                                        { NAN, NAN, NAN, 7, 7 },
                                        { 1, 1, 1, 1, 4 } };
    static const double growth[5] = { NAN, 1, 2.5, 5, 4 };
    for (int i = 0; i < 5; i++) {
        perturb(0, 5, 1e-6);
        perturb(4, 9, pow(100, i) * 1e-6);
        for (uint32_t l = 0; l < 3; l++)
            perturb(l + 1, 9, gains[l][i] * gains[l][i] * 1e-6);
        const struct lyap_layer_row *rows = step(i);
        if (isnan(growth[i])) {
            ck_assert_uint_eq(point.metrics[LYAP_METRIC_EMPIRICAL_GAIN_GROWTH].reason,
                              LYAP_REASON_WARMING_UP);
            continue;
        }
        test_close(metric_of(LYAP_METRIC_EMPIRICAL_GAIN_GROWTH), growth[i], 1e-12);
        test_close(value_of(&rows[0], LYAP_LAYER_METRIC_EMPIRICAL_GAIN_GROWTH),
                   gains[0][i] / (i < 2 ? 2 : 1), 1e-12);
        ck_assert_uint_eq(rows[1].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN_GROWTH].reason,
                          i < 3    ? LYAP_REASON_NEEDS_ACTIVATIONS
                          : i == 3 ? LYAP_REASON_WARMING_UP
                                   : LYAP_REASON_NONE);
    }
    ck_assert_str_eq(lyap_profile_layer_name(profile, 2), "c");
}
END_TEST

/* ---- gates ---- */

/* 0/1 gates of 20 inputs on a 3 x 4 weight, one unit open in each: the norm behind them is that of
 * the longest row, far from max |gate| sigma_1. */
START_TEST(local_gain_is_of_the_gates_one_by_one)
{
    enum { INPUTS = 20 };
    test_network_init(&net, 1);
    test_network_set(&net, 0, "fc", layer_of(LYAP_LAYER_LINEAR, LYAP_ACTIVATION_RELU));
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 3, 4 }, 2);
    for (int i = 0; i < 12; i++)
        weights[0][i] = 1 + i / 4 * 0.1; /* rows of length 2, 2.2, 2.4: sigma_1 3.82 */
    begin();
    struct lyap_act_sums *acts = lyap_partial_acts(&partial, 2);
    double gates[INPUTS * 3] = { 0 };
    for (int i = 0; i < INPUTS; i++)
        gates[3 * i + i * 3 / INPUTS] = 1;
    acts[1].gate_max = 1;
    acts[1].gates = lyap_gates_new(INPUTS, 3, LYAP_GATE_VALUES_MAX);
    lyap_gates_add(acts[1].gates, 0, gates, 7); /* cut anywhere */
    lyap_gates_add(acts[1].gates, 7, gates + 7, INPUTS * 3 - 7);
    const struct lyap_layer_row *rows = step(0);
    const double whole = sqrt(4 + 4.84 + 5.76);
    test_close(value_of(rows, LYAP_LAYER_METRIC_LOCAL_GAIN), whole, 2e-3);
    work();
    lyap_gates_free(acts[1].gates);
    acts[1].gates = NULL;
    acts[1].gate_max = NAN;
    moved_sq = 1e-4;
    rows = step(1);
    test_close(value_of(rows, LYAP_LAYER_METRIC_LOCAL_GAIN), 2.4 + 0.01, 1e-12);
    ck_assert_uint_eq(rows->values[LYAP_LAYER_METRIC_LOCAL_GAIN].trust, LYAP_TRUST_E);
    test_close(value_of(rows, LYAP_LAYER_METRIC_GAIN), whole, 2e-3);
    ck_assert_int_eq(rows->bound_step, 0);
    test_close(metric_of(LYAP_METRIC_FORWARD_BOUND_LOCAL), log(2.4 + 0.01), 1e-12);
    struct lyap_layer_job *job;
    ck_assert_int_eq(lyap_profile_layer_job(profile, 1, &job), LYAP_OK);
    ck_assert_ptr_null(job); /* no gates came with step 1 */
}
END_TEST

/* ---- reasons ---- */

START_TEST(reasons)
{
    struct lyap_layer attention = test_network_layer(LYAP_LAYER_ATTENTION);
    test_network_init(&net, 3);
    test_network_set(&net, 0, "other", test_network_layer(LYAP_LAYER_OTHER));
    test_network_set(&net, 1, "attention", attention);
    test_network_set(&net, 2, "norm", test_network_layer(LYAP_LAYER_LAYERNORM));
    test_network_tensor(&net, 2, LYAP_LAYER_PART_WEIGHT, (const uint64_t[1]){ 3 }, 1);
    begin();
    const struct lyap_layer_row *rows = step(0);
    static const enum lyap_reason gains[] = { LYAP_REASON_UNKNOWN_LAYER_KIND,
                                              LYAP_REASON_NO_GLOBAL_BOUND,
                                              LYAP_REASON_NO_GLOBAL_BOUND };
    static const enum lyap_reason locals[] = { LYAP_REASON_UNKNOWN_LAYER_KIND,
                                               LYAP_REASON_NEEDS_ACTIVATIONS,
                                               LYAP_REASON_NEEDS_ACTIVATIONS };
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(rows[i].values[LYAP_LAYER_METRIC_GAIN].reason, gains[i]);
        ck_assert_uint_eq(rows[i].values[LYAP_LAYER_METRIC_LOCAL_GAIN].reason, locals[i]);
    }
    ck_assert_uint_eq(point.metrics[LYAP_METRIC_FORWARD_BOUND].reason,
                      LYAP_REASON_UNKNOWN_LAYER_KIND);
    ck_assert_uint_eq(point.metrics[LYAP_METRIC_CFL_MARGIN].reason, LYAP_REASON_NO_RESIDUAL_BLOCK);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    test_network_init(&net, 1);
    test_network_set(&net, 0, "a", test_network_layer(LYAP_LAYER_CONV1D));
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, (const uint64_t[3]){ 1, 1, 3 }, 3);
    begin();
    step(0);
    struct lyap_layer_job *job = NULL;
    enum lyap_status status = LYAP_E_NOMEM;
    const int64_t live = test_alloc_live();
    uint64_t n = 0;
    while (status == LYAP_E_NOMEM) {
        test_alloc_fail_at(++n);
        status = lyap_profile_layer_job(profile, 1, &job);
        ck_assert(status == LYAP_OK || test_alloc_live() == live);
    }
    test_alloc_fail_at(0);
    ck_assert_uint_eq(n, 3);
    ck_assert_ptr_nonnull(job);
    lyap_layer_job_free(job);
}
END_TEST

int main(void)
{
    test_alloc_install();
    lyap_blas_one_thread();
    Suite *suite = suite_create("profile_forward");
    TCase *tcase = tcase_create("profile_forward");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_test(tcase, sequences_stay_below_the_product);
    tcase_add_loop_test(tcase, blocks_stay_below_their_gain, 0, 4);
    tcase_add_test(tcase, the_skew_block);
    tcase_add_test(tcase, scaling_a_weight);
    tcase_add_test(tcase, a_break_drops_what_was_kept);
    tcase_add_test(tcase, empirical_gains);
    tcase_add_test(tcase, growth_is_of_the_worst_layer);
    tcase_add_test(tcase, local_gain_is_of_the_gates_one_by_one);
    tcase_add_test(tcase, reasons);
    tcase_add_test(tcase, every_allocation_may_fail);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
