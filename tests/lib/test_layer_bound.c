/* Bounds of declared layers: convolutions of every geometry against their explicit matrices,
 * pooling, attention, structured blocks, increments; 1000 random trials of each inequality. */
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/blas.h"
#include "lyap/layer.h"
#include "lyap/layer_bound.h"
#include "lyap/residual.h"
#include "network_support.h"
#include "support.h"

enum { TRIALS = 1000, SIDE_MAX = 6, CHANNELS_MAX = 4, MATRIX_MAX = 400 };
static const double ROUNDING = 1e-9;

static struct test_network net;

static void teardown(void)
{
    test_network_release(&net);
    ck_assert_int_eq(test_alloc_live(), 0);
}

static double norm_of(const double *values, uint32_t rows, uint32_t cols)
{
    double norm;
    const struct lyap_spectral_matrix w = { values, rows, cols };
    ck_assert_int_eq(lyap_spectral_norm(&w, &norm), LYAP_OK);
    return norm;
}

static double bound_of(uint32_t layer, const double *weight, uint8_t *ret_method)
{
    const struct lyap_layer_values values = { { weight } };
    struct lyap_layer_bound bound;
    ck_assert_uint_eq(lyap_layer_needs(&net.network, &net.set, layer), 1);
    ck_assert_int_eq(lyap_layer_bound(&net.network, &net.set, layer, &values, &bound), LYAP_OK);
    *ret_method = bound.method;
    return bound.upper;
}

/* ---- convolutions ---- */

struct conv {
    int groups, out, in; /* in, out: all channels */
    int size[2], stride[2], dilation[2], padding[2], image[2];
    enum lyap_padding_mode mode;
    bool is_transposed, has_image;
};

static uint32_t below(struct test_rng *rng, uint32_t limit)
{
    return (uint32_t)(test_rng_u64(rng) % limit);
}

static int source_of(const struct conv *c, int axis, int at)
{
    const int n = c->image[axis];
    if (at >= 0 && at < n)
        return at;
    switch (c->mode) {
    case LYAP_PADDING_REFLECT:
        return at < 0 ? -at : 2 * (n - 1) - at;
    case LYAP_PADDING_REPLICATE:
        return at < 0 ? 0 : n - 1;
    case LYAP_PADDING_CIRCULAR:
        return ((at % n) + n) % n;
    default:
        return -1;
    }
}

static int outputs(const struct conv *c, int axis)
{
    const int span = (c->size[axis] - 1) * c->dilation[axis] + 1;
    const int room = c->image[axis] + 2 * c->padding[axis] - span;
    return room < 0 ? 0 : room / c->stride[axis] + 1;
}

/* The matrix of the convolution; of a transposed one, with its smallest output, the map is the
 * transpose, of the same norm. Returns its norm; 0 where nothing comes out. */
static double exact_norm(const struct conv *c, const double *kernel)
{
    static double matrix[MATRIX_MAX * MATRIX_MAX];
    const int rows = outputs(c, 0), cols = outputs(c, 1);
    const int width = c->in * c->image[0] * c->image[1], height = c->out * rows * cols;
    const int in_each = c->in / c->groups, out_each = c->out / c->groups;
    if (height == 0)
        return 0;
    ck_assert_int_le(width * height, MATRIX_MAX * MATRIX_MAX);
    memset(matrix, 0, sizeof matrix);
    for (int o = 0; o < c->out; o++)
        for (int y = 0; y < rows; y++)
            for (int x = 0; x < cols; x++)
                for (int i = 0; i < in_each; i++)
                    for (int a = 0; a < c->size[0]; a++)
                        for (int b = 0; b < c->size[1]; b++) {
                            const int sy = source_of(
                                c, 0, y * c->stride[0] - c->padding[0] + a * c->dilation[0]);
                            const int sx = source_of(
                                c, 1, x * c->stride[1] - c->padding[1] + b * c->dilation[1]);
                            const int channel = o / out_each * in_each + i;
                            if (sy < 0 || sx < 0)
                                continue;
                            matrix[((o * rows + y) * cols + x) * width +
                                   (channel * c->image[0] + sy) * c->image[1] + sx] +=
                                kernel[((o * in_each + i) * c->size[0] + a) * c->size[1] + b];
                        }
    return norm_of(matrix, (uint32_t)height, (uint32_t)width);
}

static struct conv random_conv(struct test_rng *rng, bool is_one_dimensional)
{
    struct conv c = { .groups = 1 + (int)below(rng, 2), .has_image = below(rng, 3) > 0 };
    c.out = c.groups * (1 + (int)below(rng, CHANNELS_MAX / 2));
    c.in = c.groups * (1 + (int)below(rng, CHANNELS_MAX / 2));
    c.mode = (enum lyap_padding_mode)below(rng, 4);
    c.is_transposed = c.mode == LYAP_PADDING_ZEROS && below(rng, 3) == 0;
    for (int axis = 0; axis < 2; axis++) {
        c.size[axis] = 1 + (int)below(rng, 3);
        c.stride[axis] = 1 + (int)below(rng, 3);
        c.dilation[axis] = 1 + (int)below(rng, 2);
        c.image[axis] = 3 + (int)below(rng, SIDE_MAX - 2);
        /* torch: reflect needs less than the image, circular at most it. */
        c.padding[axis] = (int)below(rng, 3);
    }
    if (is_one_dimensional)
        c.size[0] = c.stride[0] = c.dilation[0] = c.image[0] = 1, c.padding[0] = 0;
    return c;
}

static void declare_conv(const struct conv *c, bool is_one_dimensional)
{
    const int axes = is_one_dimensional ? 1 : 2;
    const int *size = c->size + 2 - axes;
    /* A transposed convolution maps outputs back: its kernel lies as that of the other. */
    struct lyap_layer layer = test_network_layer(
        is_one_dimensional ? (c->is_transposed ? LYAP_LAYER_CONV_TRANSPOSE1D : LYAP_LAYER_CONV1D)
                           : (c->is_transposed ? LYAP_LAYER_CONV_TRANSPOSE2D : LYAP_LAYER_CONV2D));
    layer.groups = (uint32_t)c->groups;
    layer.padding_mode = c->mode;
    struct lyap_extents *const extents[] = { &layer.stride, &layer.padding, &layer.dilation,
                                             &layer.input };
    const int *const sources[] = { c->stride, c->padding, c->dilation, c->image };
    for (int e = 0; e < (c->has_image ? 4 : 3); e++) {
        extents[e]->count = (uint32_t)axes;
        for (int axis = 0; axis < axes; axis++)
            extents[e]->at[axis] = (uint32_t)sources[e][2 - axes + axis];
    }
    for (int axis = 0; c->is_transposed && c->has_image && axis < axes; axis++)
        layer.input.at[axis] = (uint32_t)outputs(c, 2 - axes + axis);
    const uint64_t shape[4] = { (uint64_t)c->out, (uint64_t)(c->in / c->groups), (uint64_t)size[0],
                                axes == 2 ? (uint64_t)size[1] : 0 };
    test_network_release(&net);
    test_network_init(&net, 1);
    test_network_set(&net, 0, "conv", layer);
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, shape, (uint32_t)axes + 2);
    test_network_build(&net);
}

START_TEST(convolutions_stay_below_their_bound)
{
    struct test_rng rng = { 7 };
    const bool is_one = _i == 1;
    double loosest[LYAP_BOUND_METHOD_COUNT] = { 0 };
    uint32_t counts[LYAP_BOUND_METHOD_COUNT] = { 0 };
    for (int trial = 0; trial < TRIALS; trial++) {
        const struct conv c = random_conv(&rng, is_one);
        double kernel[CHANNELS_MAX * CHANNELS_MAX * 9];
        const int elements = c.out * c.in / c.groups * c.size[0] * c.size[1];
        test_rng_normals(&rng, kernel, (uint64_t)elements);
        const double truth = exact_norm(&c, kernel);
        if (truth == 0)
            continue;
        declare_conv(&c, is_one);
        const struct lyap_layer_values values = { { kernel } };
        struct lyap_layer_bound bound;
        ck_assert_int_eq(lyap_layer_bound(&net.network, &net.set, 0, &values, &bound), LYAP_OK);
        ck_assert_msg(truth <= bound.upper * (1 + ROUNDING), "trial %d: %.15g > %.15g", trial,
                      truth, bound.upper);
        loosest[bound.method] = fmax(loosest[bound.method], bound.upper / truth);
        counts[bound.method]++;
        double square = 0;
        for (int i = 0; i < elements; i++)
            square += kernel[i] * kernel[i];
        const double factor = lyap_layer_frobenius_factor(&net.network, &net.set, 0);
        ck_assert_double_le(truth, factor * sqrt(square) * (1 + ROUNDING));
    }
    ck_assert_uint_gt(counts[LYAP_BOUND_METHOD_TORUS], TRIALS / 4);
    ck_assert_uint_gt(counts[LYAP_BOUND_METHOD_RESHAPE], TRIALS / 8);
    /* Not vacuous: paddings and strides that drop much make it loose. */
    ck_assert_double_lt(loosest[LYAP_BOUND_METHOD_TORUS], 30);
}
END_TEST

START_TEST(ones_on_a_torus)
{
    const struct conv c = { .groups = 1,
                            .out = 1,
                            .in = 1,
                            .size = { 3, 3 },
                            .stride = { 1, 1 },
                            .dilation = { 1, 1 },
                            .padding = { 1, 1 },
                            .image = { 6, 6 },
                            .mode = LYAP_PADDING_CIRCULAR,
                            .has_image = true };
    const double ones[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    uint8_t method;
    declare_conv(&c, false);
    test_close(bound_of(0, ones, &method), 9, 1e-12);
    ck_assert_uint_eq(method, LYAP_BOUND_METHOD_TORUS);
    test_close(exact_norm(&c, ones), 9, 1e-12);
}
END_TEST

START_TEST(three_dimensions_by_reshaping)
{
    struct test_rng rng = { 3 };
    struct lyap_layer layer = test_network_layer(LYAP_LAYER_CONV3D);
    const uint64_t shape[5] = { 1, 1, 2, 2, 2 };
    test_network_init(&net, 1);
    test_network_set(&net, 0, "conv", layer);
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, shape, 5);
    test_network_build(&net);
    for (int trial = 0; trial < TRIALS; trial++) {
        double kernel[8], matrix[27 * 64] = { 0 };
        test_rng_normals(&rng, kernel, 8);
        for (int o = 0; o < 27; o++) /* 4 x 4 x 4, no padding: 3 x 3 x 3 come out */
            for (int tap = 0; tap < 8; tap++) {
                const int z = o / 9 + tap / 4, y = o / 3 % 3 + tap / 2 % 2, x = o % 3 + tap % 2;
                matrix[o * 64 + (z * 4 + y) * 4 + x] += kernel[tap];
            }
        uint8_t method;
        ck_assert_double_le(norm_of(matrix, 27, 64), bound_of(0, kernel, &method) * (1 + ROUNDING));
        ck_assert_uint_eq(method, LYAP_BOUND_METHOD_RESHAPE);
    }
}
END_TEST

/* ---- pooling ---- */

START_TEST(pooling)
{
    struct lyap_layer layer = test_network_layer(LYAP_LAYER_MAXPOOL);
    layer.kernel = (struct lyap_extents){ 2, { 3, 2 } };
    layer.stride = (struct lyap_extents){ 2, { 2, 2 } };
    test_close(lyap_layer_fixed_gain(&layer), sqrt(2), 1e-15); /* ceil(3/2) x 1 windows */
    layer.stride.count = 0;
    test_close(lyap_layer_fixed_gain(&layer), 1, 0); /* the kernel */
    layer.kind = LYAP_LAYER_AVGPOOL;
    test_close(lyap_layer_fixed_gain(&layer), 1 / sqrt(6), 1e-15);
    layer.stride = (struct lyap_extents){ 1, { 1 } };
    test_close(lyap_layer_fixed_gain(&layer), 1, 1e-15);
    layer.kind = LYAP_LAYER_FLATTEN;
    ck_assert(lyap_layer_fixed_gain(&layer) == 1);
    layer.kind = LYAP_LAYER_LINEAR;
    ck_assert(isnan(lyap_layer_fixed_gain(&layer)));
}
END_TEST

/* Overlapping maximum and mean of a line of n, window 3, stride 2: explicit gains. */
START_TEST(pooling_gains_are_reached_and_not_exceeded)
{
    enum { N = 9, OUT = 4 };
    struct test_rng rng = { 11 };
    struct lyap_layer layer = test_network_layer(LYAP_LAYER_MAXPOOL);
    layer.kernel = (struct lyap_extents){ 2, { 1, 3 } };
    layer.stride = (struct lyap_extents){ 2, { 1, 2 } };
    const double most = lyap_layer_fixed_gain(&layer);
    double reached = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        double x[N], y[N], in = 0, out = 0;
        test_rng_normals(&rng, x, N);
        for (int i = 0; i < N; i++) {
            y[i] = x[i] + (i == 4 ? 3 : 0); /* the middle lies in two windows */
            in += (y[i] - x[i]) * (y[i] - x[i]);
        }
        for (int o = 0; o < OUT; o++) {
            double a = -INFINITY, b = -INFINITY;
            for (int k = 0; k < 3; k++) {
                a = fmax(a, x[2 * o + k]);
                b = fmax(b, y[2 * o + k]);
            }
            out += (a - b) * (a - b);
        }
        ck_assert_double_le(sqrt(out / in), most * (1 + ROUNDING));
        reached = fmax(reached, sqrt(out / in));
    }
    ck_assert_double_gt(reached, 0.7 * most);
    layer.kind = LYAP_LAYER_AVGPOOL;
    double mean[OUT * N] = { 0 };
    for (int o = 0; o < OUT; o++)
        for (int k = 0; k < 3; k++)
            mean[o * N + 2 * o + k] = 1. / 3;
    ck_assert_double_le(norm_of(mean, OUT, N), lyap_layer_fixed_gain(&layer) * (1 + ROUNDING));
}
END_TEST

/* ---- attention ---- */

enum { TOKENS = 3, MODEL = 4, HEADS = 2, WIDTH = 2 };

/* Self-attention with packed query, key and value, and an output matrix. */
static void attention(const double *packed, const double *output, const double *x, double *ret)
{
    double mixed[TOKENS * MODEL] = { 0 };
    for (int h = 0; h < HEADS; h++) {
        double q[TOKENS][WIDTH] = { 0 }, k[TOKENS][WIDTH] = { 0 }, v[TOKENS][WIDTH] = { 0 };
        for (int t = 0; t < TOKENS; t++)
            for (int i = 0; i < WIDTH; i++)
                for (int j = 0; j < MODEL; j++) {
                    const int row = h * WIDTH + i;
                    q[t][i] += packed[row * MODEL + j] * x[t * MODEL + j];
                    k[t][i] += packed[(MODEL + row) * MODEL + j] * x[t * MODEL + j];
                    v[t][i] += packed[(2 * MODEL + row) * MODEL + j] * x[t * MODEL + j];
                }
        for (int t = 0; t < TOKENS; t++) {
            double p[TOKENS], sum = 0;
            for (int s = 0; s < TOKENS; s++) {
                double score = 0;
                for (int i = 0; i < WIDTH; i++)
                    score += q[t][i] * k[s][i];
                p[s] = exp(score / sqrt(WIDTH));
                sum += p[s];
            }
            for (int s = 0; s < TOKENS; s++)
                for (int i = 0; i < WIDTH; i++)
                    mixed[t * MODEL + h * WIDTH + i] += p[s] / sum * v[s][i];
        }
    }
    for (int t = 0; t < TOKENS; t++)
        for (int i = 0; i < MODEL; i++) {
            ret[t * MODEL + i] = 0;
            for (int j = 0; j < MODEL; j++)
                ret[t * MODEL + i] += output[i * MODEL + j] * mixed[t * MODEL + j];
        }
}

static void declare_attention(void)
{
    const uint64_t packed[2] = { 3 * MODEL, MODEL }, output[2] = { MODEL, MODEL };
    struct lyap_layer layer = test_network_layer(LYAP_LAYER_ATTENTION);
    layer.heads = HEADS;
    test_network_init(&net, 1);
    test_network_set(&net, 0, "attention", layer);
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, packed, 2);
    test_network_tensor(&net, 0, LYAP_LAYER_PART_OUTPUT, output, 2);
    test_network_build(&net);
}

static double jacobian_norm(const double *packed, const double *output, const double *x)
{
    enum { N = TOKENS * MODEL };
    const double h = 1e-6;
    double jacobian[N * N], left[N], right[N], at[N];
    for (int j = 0; j < N; j++) {
        memcpy(at, x, sizeof at);
        at[j] = x[j] + h;
        attention(packed, output, at, right);
        at[j] = x[j] - h;
        attention(packed, output, at, left);
        for (int i = 0; i < N; i++)
            jacobian[i * N + j] = (right[i] - left[i]) / (2 * h);
    }
    return norm_of(jacobian, N, N);
}

START_TEST(attention_is_bounded_where_it_is)
{
    struct test_rng rng = { 5 };
    declare_attention();
    ck_assert_uint_eq(lyap_layer_needs(&net.network, &net.set, 0),
                      1u << LYAP_LAYER_PART_WEIGHT | 1u << LYAP_LAYER_PART_OUTPUT);
    for (int trial = 0; trial < TRIALS; trial++) {
        double packed[3 * MODEL * MODEL], output[MODEL * MODEL], x[TOKENS * MODEL];
        struct lyap_layer_values values = { { NULL } };
        struct lyap_layer_bound bound;
        test_rng_normals(&rng, packed, 3 * MODEL * MODEL);
        test_rng_normals(&rng, output, MODEL * MODEL);
        test_rng_normals(&rng, x, TOKENS * MODEL);
        values.parts[LYAP_LAYER_PART_WEIGHT] = packed;
        values.parts[LYAP_LAYER_PART_OUTPUT] = output;
        ck_assert_int_eq(lyap_layer_bound(&net.network, &net.set, 0, &values, &bound), LYAP_OK);
        const double tokens = norm_of(x, TOKENS, MODEL);
        const double gain =
            bound.value_output * sqrt(TOKENS) + bound.head_product * tokens * tokens;
        ck_assert_double_le(jacobian_norm(packed, output, x), gain * (1 + 1e-6));
    }
}
END_TEST

/* ---- increments ---- */

static double frobenius(const double *a, const double *b, int count)
{
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum);
}

START_TEST(attention_after_its_weights_moved)
{
    struct test_rng rng = { 6 };
    declare_attention();
    for (int trial = 0; trial < TRIALS; trial++) {
        double packed[2][3 * MODEL * MODEL], output[2][MODEL * MODEL];
        struct lyap_layer_bound bounds[2];
        for (int i = 0; i < 2; i++) {
            struct lyap_layer_values values = { { NULL } };
            test_rng_normals(&rng, packed[i], 3 * MODEL * MODEL);
            test_rng_normals(&rng, output[i], MODEL * MODEL);
            for (int j = 0; i == 1 && j < 3 * MODEL * MODEL; j++)
                packed[1][j] = packed[0][j] + 0.1 * packed[1][j];
            for (int j = 0; i == 1 && j < MODEL * MODEL; j++)
                output[1][j] = output[0][j] + 0.1 * output[1][j];
            values.parts[LYAP_LAYER_PART_WEIGHT] = packed[i];
            values.parts[LYAP_LAYER_PART_OUTPUT] = output[i];
            ck_assert_int_eq(lyap_layer_bound(&net.network, &net.set, 0, &values, &bounds[i]),
                             LYAP_OK);
        }
        struct lyap_layer_moved moved = { { 0 }, { 0 } };
        moved.distance[LYAP_LAYER_PART_WEIGHT] = frobenius(packed[0], packed[1], 3 * MODEL * MODEL);
        moved.distance[LYAP_LAYER_PART_OUTPUT] = frobenius(output[0], output[1], MODEL * MODEL);
        moved.upper[LYAP_LAYER_PART_WEIGHT] = norm_of(packed[1], 3 * MODEL, MODEL);
        moved.upper[LYAP_LAYER_PART_OUTPUT] = norm_of(output[1], MODEL, MODEL);
        const struct lyap_layer_bound after =
            lyap_layer_bound_after(&net.network, &net.set, 0, &bounds[0], &moved);
        ck_assert_uint_eq(after.method, LYAP_BOUND_METHOD_INCREMENT);
        ck_assert_double_le(bounds[1].value_output, after.value_output * (1 + ROUNDING));
        ck_assert_double_le(bounds[1].query_key, after.query_key * (1 + ROUNDING));
        ck_assert_double_le(bounds[1].head_product, after.head_product * (1 + ROUNDING));
    }
}
END_TEST

START_TEST(blocks_and_kernels_after_their_weights_moved)
{
    enum { N = 4 };
    static const struct {
        enum lyap_layer_kind kind;
        enum lyap_structure structure;
    } cases[] = { { LYAP_LAYER_RESIDUAL, LYAP_STRUCTURE_CONSTANT },
                  { LYAP_LAYER_RESIDUAL, LYAP_STRUCTURE_GATED },
                  { LYAP_LAYER_EMBEDDING, LYAP_STRUCTURE_FREE },
                  { LYAP_LAYER_CONV2D, LYAP_STRUCTURE_FREE } };
    struct test_rng rng = { 8 };
    struct lyap_layer layer = test_network_layer(cases[_i].kind);
    layer.structure = cases[_i].structure;
    layer.step = 0.3;
    layer.input = (struct lyap_extents){ 1, { 4 } };
    const uint64_t shape[4] = { N, cases[_i].kind == LYAP_LAYER_CONV2D ? 1 : N, 2, 2 };
    test_network_init(&net, 1);
    test_network_set(&net, 0, "layer", layer);
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, shape,
                        cases[_i].kind == LYAP_LAYER_CONV2D ? 4 : 2);
    test_network_build(&net);
    for (int trial = 0; trial < TRIALS; trial++) {
        double w[2][N * N];
        struct lyap_layer_bound bounds[2];
        test_rng_normals(&rng, w[0], N * N);
        test_rng_normals(&rng, w[1], N * N);
        for (int i = 0; i < N * N; i++)
            w[1][i] = w[0][i] + 0.2 * w[1][i];
        for (int i = 0; i < 2; i++) {
            const struct lyap_layer_values values = { { w[i] } };
            ck_assert_int_eq(lyap_layer_bound(&net.network, &net.set, 0, &values, &bounds[i]),
                             LYAP_OK);
        }
        struct lyap_layer_moved moved = { { frobenius(w[0], w[1], N * N) }, { 0 } };
        const struct lyap_layer_bound after =
            lyap_layer_bound_after(&net.network, &net.set, 0, &bounds[0], &moved);
        const double pairs[3][2] = { { bounds[1].upper, after.upper },
                                     { bounds[1].log_norm, after.log_norm },
                                     { bounds[1].gain_inf, after.gain_inf } };
        for (int i = 0; i < 3; i++) {
            ck_assert_int_eq(isnan(pairs[i][0]), isnan(pairs[i][1]));
            if (!isnan(pairs[i][0]))
                ck_assert_double_le(pairs[i][0], pairs[i][1] + ROUNDING);
        }
        moved.distance[0] = 0; /* where nothing moved, the bound is the bound */
        ck_assert_mem_eq(&(struct lyap_layer_bound[1]){ lyap_layer_bound_after(
                             &net.network, &net.set, 0, &bounds[0], &moved) }[0]
                              .upper,
                         &bounds[0].upper, sizeof bounds[0].upper);
    }
}
END_TEST

/* ---- failures ---- */

START_TEST(nonfinite_values_are_refused)
{
    double w[4] = { 1, 2, NAN, 4 };
    const struct lyap_layer_values values = { { w } };
    struct lyap_layer_bound bound;
    struct lyap_layer layer = test_network_layer(LYAP_LAYER_RESIDUAL);
    layer.structure = LYAP_STRUCTURE_CONSTANT;
    test_network_init(&net, 1);
    test_network_set(&net, 0, "layer", layer);
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 2, 2 }, 2);
    test_network_build(&net);
    ck_assert_int_eq(lyap_layer_bound(&net.network, &net.set, 0, &values, &bound), LYAP_E_NUMERIC);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    double packed[3 * MODEL * MODEL], output[MODEL * MODEL];
    struct test_rng rng = { 9 };
    struct lyap_layer_values values = { { NULL } };
    struct lyap_layer_bound bound;
    test_rng_normals(&rng, packed, 3 * MODEL * MODEL);
    test_rng_normals(&rng, output, MODEL * MODEL);
    values.parts[LYAP_LAYER_PART_WEIGHT] = packed;
    values.parts[LYAP_LAYER_PART_OUTPUT] = output;
    declare_attention();
    enum lyap_status status = LYAP_E_NOMEM;
    const int64_t live = test_alloc_live();
    uint64_t n = 0;
    while (status == LYAP_E_NOMEM) {
        test_alloc_fail_at(++n);
        status = lyap_layer_bound(&net.network, &net.set, 0, &values, &bound);
        ck_assert_int_eq(test_alloc_live(), live);
    }
    test_alloc_fail_at(0);
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_uint_gt(n, 3);
}
END_TEST

int main(void)
{
    test_alloc_install();
    lyap_blas_one_thread();
    Suite *suite = suite_create("layer_bound");
    TCase *tcase = tcase_create("layer_bound");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_loop_test(tcase, convolutions_stay_below_their_bound, 0, 2);
    tcase_add_test(tcase, ones_on_a_torus);
    tcase_add_test(tcase, three_dimensions_by_reshaping);
    tcase_add_test(tcase, pooling);
    tcase_add_test(tcase, pooling_gains_are_reached_and_not_exceeded);
    tcase_add_test(tcase, attention_is_bounded_where_it_is);
    tcase_add_test(tcase, attention_after_its_weights_moved);
    tcase_add_loop_test(tcase, blocks_and_kernels_after_their_weights_moved, 0, 4);
    tcase_add_test(tcase, nonfinite_values_are_refused);
    tcase_add_test(tcase, every_allocation_may_fail);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
