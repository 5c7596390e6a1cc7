/* Bounds of singular values, convolutions, residual blocks, norms, networks (SPEC 1). */
#include <math.h>
#include <string.h>

#include "lyap/activation.h"
#include "lyap/conv.h"
#include "lyap/gates.h"
#include "lyap/layer.h"
#include "lyap/limits.h"
#include "lyap/residual.h"
#include "plain.h"
#include "lyap/spectral.h"
#include "trials.h"

enum { SIDE = 12, ELEMENTS = SIDE * SIDE, OPERATOR_MAX = 1 << 16 };

static struct lyap_spectral_matrix random_matrix(struct test_rng *random, double *values)
{
    const struct lyap_spectral_matrix w = { values, random_count(random, SIDE),
                                            random_count(random, SIDE) };
    test_rng_normals(random, values, w.rows * w.cols);
    return w;
}

static double norm_of(const struct lyap_spectral_matrix *w)
{
    return exact_norm(w->values, w->rows, w->cols);
}

static struct sides power_below(struct test_rng *random)
{
    double values[ELEMENTS], v[SIDE * LYAP_SPECTRAL_BLOCK_MAX];
    const struct lyap_spectral_matrix w = random_matrix(random, values);
    const uint32_t block = lyap_spectral_block(w.rows, w.cols, LYAP_SPECTRAL_BLOCK);
    struct lyap_spectral_estimate found;
    must(lyap_spectral_start(test_rng_u64(random), w.cols, block, v) == LYAP_OK, "start");
    must(lyap_spectral_power(&w, block, 1, v, &found) == LYAP_OK, "power");
    return (struct sides){ found.sigma, norm_of(&w) };
}

static struct sides stream_below(struct test_rng *random)
{
    double values[ELEMENTS], v[SIDE * LYAP_SPECTRAL_BLOCK_MAX];
    struct lyap_spectral_estimate found;
    double z[SIDE * LYAP_SPECTRAL_BLOCK_MAX] = { 0 };
    const struct lyap_spectral_matrix w = random_matrix(random, values);
    const uint32_t block = lyap_spectral_block(w.rows, w.cols, LYAP_SPECTRAL_BLOCK);
    must(lyap_spectral_start(test_rng_u64(random), w.cols, block, v) == LYAP_OK, "start");
    plain_products(&w, block, v, z);
    must(lyap_spectral_stream(w.cols, block, z, v, &found) == LYAP_OK, "stream");
    return (struct sides){ found.sigma, norm_of(&w) };
}

static struct sides gram_above(struct test_rng *random)
{
    double values[ELEMENTS], upper;
    const struct lyap_spectral_matrix w = random_matrix(random, values);
    must(lyap_spectral_gram_upper(&w, LYAP_SPECTRAL_SQUARINGS, NULL, &upper) == LYAP_OK, "gram");
    return (struct sides){ norm_of(&w), upper };
}

/* ---- convolutions, written out as matrices ---- */

struct image {
    struct lyap_conv conv;
    uint32_t side[2], padding[2];
};

static struct image random_image(struct test_rng *random, double *kernel, bool is_strided)
{
    struct image image = { .side = { 2 + random_count(random, 4), 2 + random_count(random, 4) } };
    struct lyap_conv *c = &image.conv;
    c->kernel = kernel;
    c->groups = random_count(random, 2);
    c->out = c->groups * random_count(random, 2);
    c->in = c->groups * random_count(random, 2);
    for (int axis = 0; axis < 2; axis++) {
        c->size[axis] = random_count(random, 3);
        c->stride[axis] = is_strided ? random_count(random, 3) : 1;
        c->dilation[axis] = random_count(random, 2);
        const uint32_t width = (c->size[axis] - 1) * c->dilation[axis];
        image.padding[axis] = width; /* some output whatever the side */
    }
    test_rng_normals(random, kernel, c->out * (c->in / c->groups) * c->size[0] * c->size[1]);
    return image;
}

/* One output row of the operator. */
static void write_row(const struct image *image, uint32_t o, const uint32_t at[2], double *row)
{
    const struct lyap_conv *c = &image->conv;
    const uint32_t in_each = c->in / c->groups, out_each = c->out / c->groups;
    const uint32_t taps = c->size[0] * c->size[1];
    for (uint32_t k = 0; k < in_each * taps; k++) {
        const uint32_t channel = o / out_each * in_each + k / taps;
        const int64_t p = (int64_t)at[0] * c->stride[0] +
                          (int64_t)(k / c->size[1] % c->size[0]) * c->dilation[0] -
                          image->padding[0];
        const int64_t q = (int64_t)at[1] * c->stride[1] +
                          (int64_t)(k % c->size[1]) * c->dilation[1] - image->padding[1];
        if (p >= 0 && p < image->side[0] && q >= 0 && q < image->side[1])
            row[(channel * image->side[0] + (uint64_t)p) * image->side[1] + (uint64_t)q] +=
                c->kernel[(uint64_t)o * in_each * taps + k];
    }
}

static double operator_norm(const struct image *image)
{
    static double matrix[OPERATOR_MAX];
    const struct lyap_conv *c = &image->conv;
    uint32_t out[2];
    for (int axis = 0; axis < 2; axis++)
        out[axis] = (image->side[axis] + 2 * image->padding[axis] -
                     (c->size[axis] - 1) * c->dilation[axis] - 1) /
                        c->stride[axis] +
                    1;
    const uint32_t inputs = c->in * image->side[0] * image->side[1];
    const uint32_t outputs = c->out * out[0] * out[1];
    must((uint64_t)inputs * outputs <= OPERATOR_MAX, "operator size");
    memset(matrix, 0, sizeof *matrix * inputs * outputs);
    uint32_t row = 0;
    for (uint32_t o = 0; o < c->out; o++)
        for (uint32_t y = 0; y < out[0]; y++)
            for (uint32_t x = 0; x < out[1]; x++)
                write_row(image, o, (const uint32_t[]){ y, x }, matrix + inputs * row++);
    return exact_norm(matrix, outputs, inputs);
}

static struct sides reshape_above(struct test_rng *random)
{
    double kernel[256], upper;
    const struct image image = random_image(random, kernel, true);
    must(lyap_conv_reshape_upper(&image.conv, &upper) == LYAP_OK, "reshape");
    return (struct sides){ operator_norm(&image), upper };
}

static struct sides torus_above(struct test_rng *random)
{
    double kernel[256], upper;
    const struct image image = random_image(random, kernel, true);
    const struct lyap_conv *c = &image.conv;
    const uint32_t rows = image.side[0] + (c->size[0] - 1) * c->dilation[0];
    const uint32_t cols = image.side[1] + (c->size[1] - 1) * c->dilation[1];
    must(lyap_conv_torus_norm(c, rows, cols, &upper) == LYAP_OK, "torus");
    return (struct sides){ operator_norm(&image), upper };
}

/* ---- residual blocks ---- */

/* A square matrix with a negative logarithmic norm in half of the draws. */
static uint32_t random_square(struct test_rng *random, double *a)
{
    const uint32_t n = random_count(random, SIDE);
    const double shift = test_rng_uniform(random) < 0.5 ? 4 : 0;
    for (uint32_t i = 0; i < n * n; i++)
        a[i] = test_rng_normal(random) / sqrt(n) - (i % (n + 1) == 0 ? shift : 0);
    return n;
}

static double stepped_norm(uint32_t n, const double *a, double h)
{
    double m[ELEMENTS];
    for (uint32_t i = 0; i < n * n; i++)
        m[i] = h * a[i] + (i % (n + 1) == 0);
    return exact_norm(m, n, n);
}

static struct sides block_gain(struct test_rng *random)
{
    double a[ELEMENTS];
    const uint32_t n = random_square(random, a);
    const double h = 2 * test_rng_uniform(random);
    struct lyap_residual_bounds bounds;
    must(lyap_residual_constant(&(struct lyap_spectral_matrix){ a, n, n }, &bounds) == LYAP_OK,
         "bounds");
    return (struct sides){ stepped_norm(n, a, h), lyap_residual_gain(h, &bounds) };
}

static struct sides block_contracts(struct test_rng *random)
{
    double a[ELEMENTS];
    struct lyap_residual_bounds bounds;
    uint32_t n;
    do { /* until a block can be certified at all */
        n = random_square(random, a);
        must(lyap_residual_constant(&(struct lyap_spectral_matrix){ a, n, n }, &bounds) == LYAP_OK,
             "bounds");
    } while (!(bounds.log_norm < 0));
    const double h = test_rng_uniform(random) * lyap_residual_cfl(&bounds);
    return (struct sides){ stepped_norm(n, a, h), 1 };
}

static struct sides symmetric_block(struct test_rng *random)
{
    double values[ELEMENTS], a[ELEMENTS] = { 0 };
    const struct lyap_spectral_matrix w = random_matrix(random, values);
    const double h = test_rng_uniform(random);
    for (uint32_t k = 0; k < w.rows; k++) {
        const double gate = test_rng_uniform(random);
        for (uint32_t i = 0; i < w.cols; i++)
            for (uint32_t j = 0; j < w.cols; j++)
                a[i * w.cols + j] -= gate * values[k * w.cols + i] * values[k * w.cols + j];
    }
    return (struct sides){ stepped_norm(w.cols, a, h),
                           lyap_residual_symmetric_gain(h, 1, norm_of(&w)) };
}

static struct sides gated_block(struct test_rng *random)
{
    double a[ELEMENTS] = { 0 }, largest = 0;
    const uint32_t n = random_square(random, a);
    const double h = 2 * test_rng_uniform(random);
    for (uint32_t i = 0; i < n; i++) {
        const double gate = test_rng_uniform(random);
        double sum = 0;
        for (uint32_t j = 0; j < n; j++)
            sum += fabs(h * gate * a[i * n + j] + (i == j));
        largest = fmax(largest, sum);
    }
    return (struct sides){ largest, lyap_residual_gated_gain_inf(n, a, h, 1) };
}

/* ---- norms and whole networks ---- */

/* |J|_2 of a layer norm at one token: diag(gamma) (I - 11'/n - zz'/n) / sqrt(v + eps). */
static struct sides token_norm(struct test_rng *random)
{
    double token[SIDE], gamma[SIDE], j[ELEMENTS], mean = 0, variance = 0, largest = 0;
    const uint32_t n = 1 + random_count(random, SIDE - 1);
    const double eps = 1e-5;
    test_rng_normals(random, token, n);
    test_rng_normals(random, gamma, n);
    for (uint32_t i = 0; i < n; i++) {
        mean += token[i] / n;
        largest = fmax(largest, fabs(gamma[i]));
    }
    for (uint32_t i = 0; i < n; i++)
        variance += (token[i] - mean) * (token[i] - mean) / n;
    const double scale = sqrt(variance + eps);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < n; k++)
            j[i * n + k] =
                gamma[i] / scale *
                ((i == k) - 1.0 / n - (token[i] - mean) * (token[k] - mean) / (n * scale * scale));
    return (struct sides){ exact_norm(j, n, n), lyap_layer_norm_gain(largest, variance, eps) };
}

/* Jacobian of W2 tanh(W1 x) at a random point against the product of the norms. */
static struct sides product_bound(struct test_rng *random)
{
    double first[ELEMENTS], second[ELEMENTS], j[ELEMENTS] = { 0 }, gate[SIDE];
    const uint32_t in = random_count(random, SIDE), mid = random_count(random, SIDE),
                   out = random_count(random, SIDE);
    test_rng_normals(random, first, mid * in);
    test_rng_normals(random, second, out * mid);
    for (uint32_t k = 0; k < mid; k++) {
        const double t = tanh(test_rng_normal(random));
        gate[k] = 1 - t * t;
    }
    for (uint32_t i = 0; i < out; i++)
        for (uint32_t k = 0; k < mid; k++)
            for (uint32_t l = 0; l < in; l++)
                j[i * in + l] += second[i * mid + k] * gate[k] * first[k * in + l];
    const double gains[] = { exact_norm(first, mid, in),
                             lyap_activation_lipschitz(LYAP_ACTIVATION_TANH),
                             exact_norm(second, out, mid) };
    return (struct sides){ exact_norm(j, out, in), exp(lyap_layer_log_product(gains, 3)) };
}

/* ---- local gains: attention at the pushed tokens, gates of several inputs ---- */

enum { TOKENS = 4, WIDTH = 3, INPUTS = TOKENS * WIDTH };

struct head {
    double x[TOKENS][WIDTH], a[WIDTH][WIDTH], v[WIDTH][WIDTH];
    double p[TOKENS][TOKENS]; /* softmax(X A X'/sqrt(dk)), dk = WIDTH */
};

/* E A F' / sqrt(dk) of two rows. */
static double score(const struct head *head, const double *e, const double *f)
{
    double sum = 0;
    for (int i = 0; i < WIDTH; i++)
        for (int j = 0; j < WIDTH; j++)
            sum += e[i] * head->a[i][j] * f[j];
    return sum / sqrt(WIDTH);
}

static void attend(struct head *head)
{
    for (int i = 0; i < TOKENS; i++) {
        double sum = 0;
        for (int j = 0; j < TOKENS; j++)
            sum += head->p[i][j] = exp(score(head, head->x[i], head->x[j]));
        for (int j = 0; j < TOKENS; j++)
            head->p[i][j] /= sum;
    }
}

/* The derivative of P X V along E (one token's coordinate), as one column of the Jacobian. */
static void differentiate(const struct head *head, int token, int coordinate, double *jacobian)
{
    double unit[WIDTH] = { 0 };
    unit[coordinate] = 1;
    for (int i = 0; i < TOKENS; i++) {
        double ds[TOKENS], mean = 0, row[WIDTH] = { 0 };
        for (int j = 0; j < TOKENS; j++) {
            ds[j] = (i == token ? score(head, unit, head->x[j]) : 0) +
                    (j == token ? score(head, head->x[i], unit) : 0);
            mean += head->p[i][j] * ds[j];
        }
        for (int j = 0; j < TOKENS; j++)
            for (int k = 0; k < WIDTH; k++)
                row[k] +=
                    head->p[i][j] * ((ds[j] - mean) * head->x[j][k] + (j == token ? unit[k] : 0));
        for (int o = 0; o < WIDTH; o++)
            for (int k = 0; k < WIDTH; k++)
                jacobian[(i * WIDTH + o) * INPUTS + token * WIDTH + coordinate] +=
                    row[k] * head->v[k][o];
    }
}

static struct sides attention(struct test_rng *random)
{
    struct head head;
    double jacobian[INPUTS * INPUTS] = { 0 };
    test_rng_normals(random, head.x[0], TOKENS * WIDTH);
    test_rng_normals(random, head.a[0], WIDTH * WIDTH);
    test_rng_normals(random, head.v[0], WIDTH * WIDTH);
    attend(&head);
    for (int token = 0; token < TOKENS; token++)
        for (int coordinate = 0; coordinate < WIDTH; coordinate++)
            differentiate(&head, token, coordinate, jacobian);
    const double value_output = exact_norm(head.v[0], WIDTH, WIDTH);
    const double query_key = exact_norm(head.a[0], WIDTH, WIDTH) / sqrt(WIDTH);
    const struct lyap_layer_heads bounds = { value_output, value_output * query_key };
    const double tokens = exact_norm(head.x[0], TOKENS, WIDTH);
    return (struct sides){ exact_norm(jacobian, INPUTS, INPUTS),
                           lyap_layer_attention_gain(&bounds, sqrt(TOKENS), tokens) };
}

/* More inputs than groups: several share one. */
static struct sides gates_of_inputs(struct test_rng *random)
{
    enum { ROWS = 40 };
    double values[ELEMENTS], gates[ROWS][SIDE], gated[ELEMENTS], largest = 0, norm;
    const struct lyap_spectral_matrix w = random_matrix(random, values);
    const uint32_t inputs = random_count(random, ROWS);
    struct lyap_gates *kept = lyap_gates_new(inputs, w.rows, LYAP_GATE_VALUES_MAX);
    must(kept != NULL, "gates");
    for (uint32_t n = 0; n < inputs; n++) {
        for (uint32_t i = 0; i < w.rows; i++) {
            gates[n][i] = test_rng_uniform(random);
            for (uint32_t j = 0; j < w.cols; j++)
                gated[i * w.cols + j] = gates[n][i] * values[i * w.cols + j];
        }
        lyap_gates_add(kept, (uint64_t)n * w.rows, gates[n], w.rows);
        largest = fmax(largest, exact_norm(gated, w.rows, w.cols));
    }
    must(lyap_gates_norm(kept, &w, 1e9, &norm) == LYAP_OK, "norm of gates");
    lyap_gates_free(kept);
    return (struct sides){ largest, norm };
}

const struct trial gain_trials[] = {
    { "block power iteration <= sigma_1", "1.2", power_below },
    { "streamed iteration <= sigma_1", "1.2", stream_below },
    { "sigma_1 <= Gram bound", "1.2", gram_above },
    { "convolution (groups, stride, dilation) <= reshape bound", "1.3", reshape_above },
    { "convolution (groups, stride, dilation) <= torus bound", "1.3", torus_above },
    { "\\|I + hA\\| <= sqrt(1 + 2h mu + h^2 L^2)", "1.4", block_gain },
    { "\\|I + hA\\| <= 1 for h <= -2 mu/L^2", "1.4", block_contracts },
    { "\\|I - hW'DW\\| <= max(1, h \\|W\\|^2 - 1)", "1.4", symmetric_block },
    { "\\|I + hDA\\|_inf <= the gated bound", "1.4", gated_block },
    { "layer norm's Jacobian at a token <= its local gain", "1.5", token_norm },
    { "Jacobian of W2 tanh(W1 x) <= product bound", "1.1", product_bound },
    { "sigma_1(diag(gate) W) of every input <= the bound of their groups", "1.1", gates_of_inputs },
    { "Jacobian of an attention head at its tokens <= its local gain", "1.5", attention },
};
const uint32_t gain_trial_count = sizeof gain_trials / sizeof *gain_trials;
