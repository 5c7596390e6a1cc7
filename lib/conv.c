/* Norms of convolutions. */
#include "lyap/conv.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "linalg.h"
#include "lyap/alloc.h"
#include "lyap/spectral.h"
#include "banned.h"

static const double PI = 3.14159265358979323846;

/* -- shapes -- */
static uint64_t extent(const struct lyap_conv *conv, int axis)
{
    return (uint64_t)(conv->size[axis] - 1) * conv->dilation[axis] + 1;
}

static enum lyap_status axis_check(const struct lyap_conv *conv, int axis,
                                   struct lyap_error *reterr)
{
    static const char *const names[2] = { "rows", "columns" };
    if (conv->size[axis] < 1 || conv->dilation[axis] < 1 || conv->stride[axis] < 1)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "convolution, %s: size %u, stride %u and dilation %u must be >= 1",
                              names[axis], conv->size[axis], conv->stride[axis],
                              conv->dilation[axis]);
    if (conv->size[axis] > LYAP_CONV_SIDE_MAX || conv->dilation[axis] > LYAP_CONV_SIDE_MAX ||
        extent(conv, axis) > LYAP_CONV_SIDE_MAX)
        return lyap_error_set(
            reterr, LYAP_E_LIMIT, "convolution, %s: size %u with dilation %u is wider than %d",
            names[axis], conv->size[axis], conv->dilation[axis], LYAP_CONV_SIDE_MAX);
    if (conv->stride[axis] > LYAP_CONV_STRIDE_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "convolution, %s: stride %u, at most %d",
                              names[axis], conv->stride[axis], LYAP_CONV_STRIDE_MAX);
    return LYAP_OK;
}

enum lyap_status lyap_conv_check(const struct lyap_conv *conv, struct lyap_error *reterr)
{
    if (!conv->kernel)
        return lyap_error_set(reterr, LYAP_E_INVALID, "convolution without a kernel");
    if (conv->groups < 1 || conv->out < 1 || conv->in < 1 || conv->out % conv->groups != 0 ||
        conv->in % conv->groups != 0)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "convolution: %u out and %u in channels are no positive multiples of "
                              "%u groups",
                              conv->out, conv->in, conv->groups);
    for (int axis = 0; axis < 2; axis++) {
        const enum lyap_status status = axis_check(conv, axis, reterr);
        if (status != LYAP_OK)
            return status;
    }
    const uint32_t in_each = conv->in / conv->groups;
    const double elements = (double)conv->out * in_each * conv->size[0] * conv->size[1];
    if (elements > LYAP_CONV_ELEMENTS_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "convolution: %.0f elements, at most %d",
                              elements, LYAP_CONV_ELEMENTS_MAX);
    return LYAP_OK;
}

/* One group as a dense kernel: out x in x size[0] x size[1]. */
struct group {
    const double *kernel;
    uint32_t out, in, rows, cols; /* cols, rows: taps */
};

static size_t group_count(const struct group *g)
{
    return (size_t)g->out * g->in * g->rows * g->cols;
}

static struct group group_at(const struct lyap_conv *conv, uint32_t index)
{
    struct group g = { .out = conv->out / conv->groups,
                       .in = conv->in / conv->groups,
                       .rows = conv->size[0],
                       .cols = conv->size[1] };
    g.kernel = conv->kernel + index * group_count(&g);
    return g;
}

/* -- reshape bound -- */
/* The four matrices: out x (in rows cols), in x (out rows cols), (out rows) x (in cols), (out cols)
 * x (in rows). */
enum { RESHAPES = 4 };

static struct lyap_spectral_matrix reshape(const struct group *g, int which, double *ret)
{
    const size_t heights[RESHAPES] = { g->out, g->in, (size_t)g->out * g->rows,
                                       (size_t)g->out * g->cols };
    const size_t height = heights[which];
    assert(height > 0);
    const size_t width = group_count(g) / height;
    size_t from = 0;
    for (size_t o = 0; o < g->out; o++)
        for (size_t i = 0; i < g->in; i++)
            for (size_t tap = 0; tap < (size_t)g->rows * g->cols; tap++) {
                const size_t a = tap / g->cols, b = tap % g->cols;
                const size_t targets[RESHAPES] = {
                    from,
                    i * width + o * g->rows * g->cols + tap,
                    (o * g->rows + a) * width + i * g->cols + b,
                    (o * g->cols + b) * width + i * g->rows + a,
                };
                ret[targets[which]] = g->kernel[from++];
            }
    return (struct lyap_spectral_matrix){ ret, (uint32_t)height, (uint32_t)width };
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
    while (b != 0) {
        const uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* How many windows of an axis hold one input at most: taps a with a dilation in one residue class
 * modulo the stride. */
static double coverage(const struct lyap_conv *conv, int axis)
{
    const uint32_t stride = conv->stride[axis];
    const uint32_t period = stride / gcd(stride, conv->dilation[axis]);
    assert(period > 0); /* lyap_conv_check wants strides above 0 */
    const uint32_t taps = (conv->size[axis] + period - 1) / period;
    return taps;
}

static enum lyap_status group_upper(const struct group *g, bool is_strided, double *scratch,
                                    double *ret_norm)
{
    double least = INFINITY;
    for (int which = 0; which < (is_strided ? 1 : RESHAPES); which++) {
        const struct lyap_spectral_matrix m = reshape(g, which, scratch);
        double norm;
        const enum lyap_status status = lyap_linalg_norm(m.rows, m.cols, scratch, &norm);
        if (status != LYAP_OK)
            return status;
        least = fmin(least, norm);
    }
    *ret_norm = least;
    return LYAP_OK;
}

enum lyap_status lyap_conv_reshape_upper(const struct lyap_conv *conv, double *ret_upper)
{
    assert(lyap_conv_check(conv, NULL) == LYAP_OK);
    const bool is_strided = conv->stride[0] > 1 || conv->stride[1] > 1;
    const struct group first = group_at(conv, 0);
    double *scratch = lyap_alloc_array(group_count(&first), sizeof *scratch);
    if (!scratch)
        return LYAP_E_NOMEM;
    enum lyap_status status = LYAP_OK;
    double largest = 0;
    for (uint32_t i = 0; i < conv->groups && status == LYAP_OK; i++) {
        const struct group g = group_at(conv, i);
        double norm = 0;
        status = group_upper(&g, is_strided, scratch, &norm);
        largest = fmax(largest, norm);
    }
    lyap_free(scratch);
    if (status == LYAP_OK)
        *ret_upper = sqrt(coverage(conv, 0) * coverage(conv, 1)) * largest;
    return status;
}

/* -- torus -- */
/* Scratch of one call; complex numbers are pairs of doubles. */
struct torus {
    uint32_t sides[2], dilation[2];
    uint32_t order;      /* of the Gram matrix: the smaller side of out x in */
    double scale;        /* largest |entry| of the kernel: squares stay in range */
    double *twiddles[2]; /* exp(-2 pi i k / side), side entries an axis */
    double *half;        /* out x in x cols: transformed along the rows */
    double *symbol;      /* out x in at one frequency */
    double *gram;        /* order x order */
    double *scratch;
};

static void torus_release(struct torus *t)
{
    lyap_free(t->twiddles[0]);
    lyap_free(t->twiddles[1]);
    lyap_free(t->half);
    lyap_free(t->symbol);
    lyap_free(t->gram);
    lyap_free(t->scratch);
}

static enum lyap_status torus_init(struct torus *t, const struct group *g)
{
    const size_t pairs = (size_t)g->out * g->in, complex_size = 2 * sizeof(double);
    for (int axis = 0; axis < 2; axis++)
        t->twiddles[axis] = lyap_alloc_array(t->sides[axis], complex_size);
    t->half = lyap_alloc_array(pairs * g->cols, complex_size);
    t->symbol = lyap_alloc_array(pairs, complex_size);
    t->gram = lyap_alloc_array((size_t)t->order * t->order, complex_size);
    t->scratch = lyap_alloc_array(lyap_linalg_hermitian_scratch(t->order), sizeof *t->scratch);
    if (!t->twiddles[0] || !t->twiddles[1] || !t->half || !t->symbol || !t->gram || !t->scratch)
        return LYAP_E_NOMEM;
    for (int axis = 0; axis < 2; axis++)
        for (uint32_t k = 0; k < t->sides[axis]; k++) {
            const double angle = -2 * PI * k / t->sides[axis];
            t->twiddles[axis][2 * k] = cos(angle);
            t->twiddles[axis][2 * (size_t)k + 1] = sin(angle);
        }
    return LYAP_OK;
}

/* The twiddle of frequency x tap x dilation, reduced exactly: kernels wider than the torus wrap. */
static const double *twiddle_at(const struct torus *t, int axis, uint32_t frequency, uint32_t tap)
{
    const uint64_t product = (uint64_t)tap * t->dilation[axis] % t->sides[axis] * frequency;
    return t->twiddles[axis] + 2 * (product % t->sides[axis]);
}

static void transform_rows(const struct torus *t, const struct group *g, uint32_t frequency)
{
    const size_t pairs = (size_t)g->out * g->in;
    for (size_t i = 0; i < 2 * pairs * g->cols; i++)
        t->half[i] = 0;
    for (uint32_t a = 0; a < g->rows; a++) {
        const double *w = twiddle_at(t, 0, frequency, a);
        for (size_t pair = 0; pair < pairs; pair++) {
            const double *taps = g->kernel + (pair * g->rows + a) * g->cols;
            double *out = t->half + 2 * pair * g->cols;
            for (uint32_t b = 0; b < g->cols; b++) {
                const double x = taps[b] / t->scale;
                out[2 * b] += x * w[0];
                out[2 * b + 1] += x * w[1];
            }
        }
    }
}

/* Fills the symbol; returns its squared Frobenius norm. */
static double transform_columns(const struct torus *t, const struct group *g, uint32_t frequency)
{
    const size_t pairs = (size_t)g->out * g->in;
    for (size_t i = 0; i < 2 * pairs; i++)
        t->symbol[i] = 0;
    for (uint32_t b = 0; b < g->cols; b++) {
        const double *w = twiddle_at(t, 1, frequency, b);
        for (size_t pair = 0; pair < pairs; pair++) {
            const double *x = t->half + 2 * (pair * g->cols + b);
            t->symbol[2 * pair] += x[0] * w[0] - x[1] * w[1];
            t->symbol[2 * pair + 1] += x[0] * w[1] + x[1] * w[0];
        }
    }
    return lyap_linalg_dot(t->symbol, t->symbol, 2 * pairs);
}

/* |G|_F of the triangle that is set (column-major lower: our upper). */
static double gram_norm(const struct torus *t)
{
    double sum = 0;
    for (size_t i = 0; i < t->order; i++)
        for (size_t j = i; j < t->order; j++) {
            const double *z = t->gram + 2 * (i * t->order + j);
            sum += (i == j ? 1 : 2) * (z[0] * z[0] + z[1] * z[1]);
        }
    return sqrt(sum);
}

/* Raises *top, the largest squared singular value so far, by the symbol's. |F|_F^2 and |F F*|_F
 * bound it: most frequencies need no eigenvalue. */
static enum lyap_status raise(const struct torus *t, const struct group *g, double frobenius_sq,
                              double *top)
{
    if (frobenius_sq <= *top)
        return LYAP_OK;
    if (t->order == 1) {
        *top = frobenius_sq;
        return LYAP_OK;
    }
    lyap_linalg_gram_complex(g->out, g->in, t->symbol, g->in < g->out, t->gram);
    if (gram_norm(t) <= *top)
        return LYAP_OK;
    double value;
    const enum lyap_status status =
        lyap_linalg_hermitian_top(t->order, t->gram, t->scratch, &value);
    if (status == LYAP_OK)
        *top = fmax(*top, value);
    return status;
}

/* The kernel is real: frequency (-p, -q) has the conjugate symbol of (p, q). */
static enum lyap_status group_torus(const struct torus *t, const struct group *g, double *top)
{
    for (uint32_t p = 0; p <= t->sides[0] / 2; p++) {
        const bool is_own_mirror = p == 0 || 2 * p == t->sides[0];
        const uint32_t last = is_own_mirror ? t->sides[1] / 2 : t->sides[1] - 1;
        transform_rows(t, g, p);
        for (uint32_t q = 0; q <= last; q++) {
            const enum lyap_status status = raise(t, g, transform_columns(t, g, q), top);
            if (status != LYAP_OK)
                return status;
        }
    }
    return LYAP_OK;
}

/* Largest |entry|; NaN or infinite when one is. */
static double largest_entry(const double *x, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(x[i]))
            return x[i];
        largest = fmax(largest, fabs(x[i]));
    }
    return largest;
}

double lyap_conv_torus_flops(const struct lyap_conv *conv, uint32_t rows, uint32_t cols)
{
    const double out = (double)conv->out / conv->groups, in = (double)conv->in / conv->groups;
    const double least = fmin(out, in), largest = fmax(out, in);
    const double transform = 8 * out * in * conv->size[1];
    const double value = 4 * least * least * largest + 16. / 3 * least * least * least;
    const double half = floor(rows / 2.) + 1;
    const double rows_transform = 4 * out * in * conv->size[0] * conv->size[1];
    return conv->groups * half * (cols * (transform + value) + rows_transform);
}

enum lyap_status lyap_conv_torus_norm(const struct lyap_conv *conv, uint32_t rows, uint32_t cols,
                                      double *ret_norm)
{
    assert(lyap_conv_check(conv, NULL) == LYAP_OK && rows >= 1 && cols >= 1);
    if (rows > LYAP_CONV_SIDE_MAX || cols > LYAP_CONV_SIDE_MAX ||
        lyap_conv_torus_flops(conv, rows, cols) > LYAP_CONV_FLOPS_MAX)
        return LYAP_E_LIMIT;
    struct group g = group_at(conv, 0);
    struct torus t = { .sides = { rows, cols },
                       .dilation = { conv->dilation[0], conv->dilation[1] },
                       .order = g.in < g.out ? g.in : g.out,
                       .scale = largest_entry(conv->kernel, conv->groups * group_count(&g)) };
    if (!isfinite(t.scale))
        return LYAP_E_NUMERIC;
    if (t.scale == 0) {
        *ret_norm = 0;
        return LYAP_OK;
    }
    double top = 0;
    enum lyap_status status = torus_init(&t, &g);
    for (uint32_t i = 0; i < conv->groups && status == LYAP_OK; i++) {
        g = group_at(conv, i);
        status = group_torus(&t, &g, &top);
    }
    torus_release(&t);
    if (status == LYAP_OK)
        *ret_norm = t.scale * sqrt(top);
    return status;
}
