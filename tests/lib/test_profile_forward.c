/* The representation metrics of a step: certified bounds against exact Jacobians of 1000 random
 * networks each, reasons, invariances. */
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/blas.h"
#include "forward_fixture.h"

enum { TRIALS = 1000, WIDTH_MAX = FORWARD_WIDTH_MAX, LAYERS_MAX = FORWARD_LAYERS_MAX };
static const double ROUNDING = 1e-9;

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
            test_network_set(&net, i, name, forward_layer(LYAP_LAYER_LINEAR, activations[i]));
            test_network_tensor(&net, i, LYAP_LAYER_PART_WEIGHT, shape, 2);
            test_rng_normals(&rng, weights[i], shape[0] * shape[1]);
        }
        forward_begin();
        forward_step(0);
        double jacobian[WIDTH_MAX * WIDTH_MAX];
        identity(jacobian, widths[0]);
        for (uint32_t i = 0; i < layers; i++)
            multiply(&rng, activations[i], weights[i], widths[i + 1], widths[i], widths[0],
                     jacobian);
        const double exact = forward_norm(jacobian, widths[layers], widths[0]);
        ck_assert_double_le(log(fmax(exact, 1e-300)),
                            forward_metric(LYAP_METRIC_FORWARD_BOUND) + ROUNDING);
        ck_assert_uint_eq(point.metrics[LYAP_METRIC_FORWARD_BOUND].trust, LYAP_TRUST_I);
        forward_forget();
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
    struct lyap_layer layer = is_gated(block) ? forward_layer(LYAP_LAYER_RESIDUAL, gate)
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
    test_network_set(&net, 1, "up", forward_layer(LYAP_LAYER_LINEAR, smooth));
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
    forward_begin();
    const struct lyap_layer_row *rows = forward_step(0);
    if (structure == LYAP_STRUCTURE_CONSTANT || structure == LYAP_STRUCTURE_GATED) {
        forward_work();
        rows = forward_step(1);
        ck_assert_int_eq(rows[0].bound_step, 0);
    }
    block_jacobian(rng, &block, jacobian);
    const double exact = forward_norm(jacobian, n, n);
    ck_assert_double_le(exact, forward_value(rows, LYAP_LAYER_METRIC_GAIN) * (1 + ROUNDING));
    ck_assert_double_le(exact, forward_value(rows, LYAP_LAYER_METRIC_TRIANGLE) * (1 + ROUNDING));
    ck_assert(forward_metric(LYAP_METRIC_RESIDUAL_GAIN) ==
              forward_value(rows, LYAP_LAYER_METRIC_GAIN));
    const struct lyap_value *cfl = &rows->values[LYAP_LAYER_METRIC_CFL_MARGIN];
    if (cfl->reason == LYAP_REASON_NONE && cfl->value >= 1)
        ck_assert_double_le(exact, 1 + ROUNDING); /* certified */
    else if (structure == LYAP_STRUCTURE_FREE || structure == LYAP_STRUCTURE_GATED)
        ck_assert_uint_eq(cfl->reason, LYAP_REASON_MU_NONNEGATIVE);
    if (structure == LYAP_STRUCTURE_GATED)
        ck_assert_double_le(inf_norm(jacobian, n),
                            forward_value(rows, LYAP_LAYER_METRIC_GAIN_INF) * (1 + ROUNDING));
    if (structure == LYAP_STRUCTURE_CONSTANT)
        ck_assert_double_le(exact,
                            forward_value(rows, LYAP_LAYER_METRIC_LOG_NORM_GAIN) * (1 + ROUNDING));
    forward_forget();
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
    forward_begin();
    const struct lyap_layer_row *rows = forward_step(0);
    ck_assert_uint_eq(rows->values[LYAP_LAYER_METRIC_LOG_NORM].reason, LYAP_REASON_NEEDS_VALUES);
    forward_work();
    rows = forward_step(1);
    test_close(forward_value(rows, LYAP_LAYER_METRIC_LOG_NORM_GAIN), sqrt(1.25), 1e-12);
    test_close(forward_metric(LYAP_METRIC_FORWARD_BOUND), log(sqrt(1.25)), 1e-12);
    test_close(forward_value(rows, LYAP_LAYER_METRIC_BACKWARD_GAIN), 1, 1e-12);
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
        forward_begin();
        forward_step(0);
        bounds[i] = forward_metric(LYAP_METRIC_FORWARD_BOUND);
        forward_forget();
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
    forward_begin();
    const struct lyap_layer_row *rows = forward_step(0);
    test_close(forward_value(rows, LYAP_LAYER_METRIC_GAIN), sqrt(3 * 14.), 1e-12);
    ck_assert_uint_eq(rows->method, LYAP_BOUND_METHOD_FROBENIUS);
    struct lyap_layer_job *job;
    ck_assert_int_eq(lyap_profile_layer_job(profile, 1, &job), LYAP_OK);
    ck_assert_uint_eq(job->count, 1);
    job->tasks[0].is_done = true;
    job->tasks[0].bound = lyap_layer_bound_none();
    job->tasks[0].bound.upper = 6;
    job->tasks[0].bound.method = LYAP_BOUND_METHOD_RESHAPE;
    lyap_profile_layer_result(profile, job);
    rows = forward_step(1);
    test_close(forward_value(rows, LYAP_LAYER_METRIC_GAIN), 6, 0);
    ck_assert_int_eq(rows->bound_step, 0);
    moved_sq = 1e-4; /* by .01, at each of two steps; three windows hold one input */
    forward_step(2);
    rows = forward_step(3);
    test_close(forward_value(rows, LYAP_LAYER_METRIC_GAIN), 6 + 2 * 0.01 * sqrt(3), 1e-12);
    ck_assert_uint_eq(rows->method, LYAP_BOUND_METHOD_INCREMENT);
    ck_assert_int_eq(rows->bound_step, 0);
    moved_sq = NAN; /* no difference connects this step with the one before */
    rows = forward_step(4);
    ck_assert_uint_eq(rows->method, LYAP_BOUND_METHOD_FROBENIUS);
    moved_sq = 0;
    lyap_profile_layer_result(profile, job); /* of before the break */
    rows = forward_step(5);
    ck_assert_uint_eq(rows->method, LYAP_BOUND_METHOD_FROBENIUS);
    lyap_layer_job_free(job);
}
END_TEST

/* ---- growth over a restart ---- */

enum { GAIN_LAYERS = 2, GAIN_STEPS = 100 };

static void begin_gains(const char *first)
{
    test_network_init(&net, GAIN_LAYERS);
    for (uint32_t i = 0; i < GAIN_LAYERS; i++) {
        test_network_set(&net, i, i ? "second" : first, test_network_layer(LYAP_LAYER_LINEAR));
        test_network_tensor(&net, i, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 2, 2 }, 2);
        weights[i][0] = weights[i][3] = 1;
    }
    forward_begin();
    input_diff_sq = 1e-6;
}

/* Gains that wander and rise in the end; returns the growth of each layer, and of the point:
 * a ratio, or the reason of its absence below zero. */
static void gains_step(int step, double ret_growth[GAIN_LAYERS + 1])
{
    for (uint32_t i = 0; i < GAIN_LAYERS; i++) {
        const double gain = 3 + sin(0.7 * step + i) + (step > 60 ? 0.2 * (step - 60) : 0);
        forward_put(LYAP_REDUCE_ACT_SQ, i, 1);
        forward_put(LYAP_REDUCE_ACT_DIFF_SQ, i, 1e-6 * gain * gain);
    }
    const struct lyap_layer_row *rows = forward_step(step);
    for (uint32_t i = 0; i <= GAIN_LAYERS; i++) {
        const struct lyap_value *v = i < GAIN_LAYERS
                                         ? &rows[i].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN_GROWTH]
                                         : &point.metrics[LYAP_METRIC_EMPIRICAL_GAIN_GROWTH];
        ret_growth[i] = v->reason == LYAP_REASON_NONE ? v->value : -v->reason;
    }
}

/* What a daemon does that ends and starts again: `points` are stored, the windows saved. */
static void reload(const struct lyap_point *points, int count, const void *bytes, uint64_t length)
{
    lyap_profile_free(profile);
    ck_assert_int_eq(lyap_profile_new(&declaration, NAN, &profile), LYAP_OK);
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(lyap_profile_replay(profile, &points[i]), LYAP_OK);
    ck_assert_int_eq(lyap_profile_load(profile, bytes, length), LYAP_OK);
}

/* In the midst of growth, before the window is full and after: as without a restart. */
START_TEST(growth_goes_on_after_a_restart)
{
    const int cut = (const int[]){ 10, 63, 64, 80 }[_i];
    static double expected[GAIN_STEPS][GAIN_LAYERS + 1];
    static struct lyap_point points[GAIN_STEPS];
    double growth[GAIN_LAYERS + 1];
    void *bytes;
    uint64_t length;
    begin_gains("first");
    for (int i = 0; i < GAIN_STEPS; i++)
        gains_step(i, expected[i]);
    forward_forget();
    ck_assert(expected[80][0] > 1.5 && expected[80][1] > 1.5);
    begin_gains("first");
    for (int i = 0; i < GAIN_STEPS; i++) {
        gains_step(i, growth);
        points[i] = point;
        for (int k = 0; k <= GAIN_LAYERS; k++)
            ck_assert_msg(growth[k] == expected[i][k], "step %d, %d: %.17g, without restart %.17g",
                          i, k, growth[k], expected[i][k]);
        if (i != cut)
            continue;
        ck_assert_int_eq(lyap_profile_save(profile, &bytes, &length), LYAP_OK);
        reload(points, i + 1, bytes, length);
        lyap_free(bytes);
    }
}
END_TEST

/* Windows of other layers, or older than the newest point, are left out: they fill anew. */
START_TEST(growth_of_another_time_is_left_out)
{
    enum { CUT = 20 };
    const bool is_renamed = _i == 1;
    static struct lyap_point points[CUT + 1];
    double growth[GAIN_LAYERS + 1];
    void *bytes = NULL;
    uint64_t length = 0;
    begin_gains("first");
    for (int i = 0; i <= CUT; i++) {
        gains_step(i, growth);
        points[i] = point;
        if (i == (is_renamed ? CUT : CUT - 1))
            ck_assert_int_eq(lyap_profile_save(profile, &bytes, &length), LYAP_OK);
    }
    if (is_renamed) {
        forward_forget();
        begin_gains("other");
    }
    reload(points, CUT + 1, bytes, length);
    lyap_free(bytes);
    gains_step(CUT + 1, growth);
    ck_assert(growth[0] == -LYAP_REASON_WARMING_UP);
    gains_step(CUT + 2, growth);
    ck_assert(growth[0] > 0);
}
END_TEST

/* Words of the windows that are not theirs, or no memory: refused, and nothing changes. */
START_TEST(bad_windows_are_refused)
{
    enum { CUT = 5, WORDS = 3 + GAIN_LAYERS * (2 + CUT) };
    static const struct {
        int at;
        uint64_t word;
    } strange[] = {
        { 0, UINT64_MAX },                         /* series that follow */
        { 0, 0 },                                  /* fewer than there are */
        { 0, 1 },                                  /* the same */
        { 0, 3 },                                  /* more than all */
        { 1, UINT64_MAX },                         /* series */
        { 1, 1 },                                  /* fewer than follow */
        { 2, 0 },                                  /* slots and block */
        { 2, 64 },                                 /* no block */
        { 2, UINT64_C(1) << 32 },                  /* no slot */
        { 2, 65 | UINT64_C(1) << 32 },             /* too many slots */
        { 2, 64 | UINT64_MAX << 32 },              /* longer than any window */
        { 3, GAIN_LAYERS },                        /* no such layer */
        { 3, 1 },                                  /* one twice */
        { 3, UINT64_C(2) << 32 },                  /* neither full nor not */
        { 4, 64 },                                 /* as many as wrap */
        { 4, 0 },                                  /* no value, and some follow */
        { 5, UINT64_C(0x7ff8000000000000) },       /* NaN */
        { 4 + CUT, UINT64_C(0x7ff0000000000000) }, /* infinity */
    };
    double growth[GAIN_LAYERS + 1];
    void *bytes, *after;
    uint64_t length, after_length;
    begin_gains("first");
    for (int i = 0; i < CUT; i++)
        gains_step(i, growth);
    ck_assert_int_eq(lyap_profile_save(profile, &bytes, &length), LYAP_OK);
    unsigned char *tail = (unsigned char *)bytes + length - 8 * WORDS;
    for (unsigned i = 0; i < sizeof strange / sizeof *strange; i++) {
        unsigned char kept[8];
        memcpy(kept, tail + 8 * strange[i].at, 8);
        memcpy(tail + 8 * strange[i].at, &strange[i].word, 8);
        ck_assert_msg(lyap_profile_load(profile, bytes, length) == LYAP_E_FORMAT, "%u", i);
        memcpy(tail + 8 * strange[i].at, kept, 8);
    }
    enum lyap_status status = LYAP_E_NOMEM;
    for (uint64_t n = 1; status == LYAP_E_NOMEM; n++) {
        test_alloc_fail_at(n);
        status = lyap_profile_load(profile, bytes, length);
        test_alloc_fail_at(0);
    }
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_int_eq(lyap_profile_save(profile, &after, &after_length), LYAP_OK);
    ck_assert_uint_eq(length, after_length);
    ck_assert_int_eq(memcmp(bytes, after, length), 0);
    lyap_free(bytes);
    lyap_free(after);
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
    forward_begin();
    const struct lyap_layer_row *rows = forward_step(0);
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
    forward_begin();
    forward_step(0);
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
    tcase_add_checked_fixture(tcase, NULL, forward_teardown);
    tcase_add_test(tcase, sequences_stay_below_the_product);
    tcase_add_loop_test(tcase, blocks_stay_below_their_gain, 0, 4);
    tcase_add_test(tcase, the_skew_block);
    tcase_add_test(tcase, scaling_a_weight);
    tcase_add_test(tcase, a_break_drops_what_was_kept);
    tcase_add_loop_test(tcase, growth_goes_on_after_a_restart, 0, 4);
    tcase_add_loop_test(tcase, growth_of_another_time_is_left_out, 0, 2);
    tcase_add_test(tcase, bad_windows_are_refused);
    tcase_add_test(tcase, reasons);
    tcase_add_test(tcase, every_allocation_may_fail);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
