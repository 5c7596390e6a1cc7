/* Declared convolutions: geometry, padding as an extension of the image, bounds. */
#include "layer_conv.h"

#include <math.h>
#include <stddef.h>

#include "lyap/conv.h"
#include "lyap/bound_method.h"
#include "banned.h"

bool lyap_layer_is_conv(const struct lyap_layer *layer)
{
    return layer->kind >= LYAP_LAYER_CONV1D && layer->kind <= LYAP_LAYER_CONV_TRANSPOSE3D;
}

/* One axis of the image. */
struct axis {
    uint32_t kernel, stride, dilation;
    uint32_t image;         /* 0: not declared */
    uint32_t before, after; /* padding */
};

/* (kernel - 1) dilation, saturated: a client's numbers. */
static uint64_t reach(const struct axis *axis)
{
    return (uint64_t)(axis->kernel - 1) * axis->dilation;
}

static struct axis axis_of(const struct lyap_layer *layer, uint32_t index, uint64_t kernel)
{
    struct axis axis = { .kernel = kernel > INT32_MAX ? INT32_MAX : (uint32_t)kernel,
                         .stride = lyap_extents_at(&layer->stride, index, 1),
                         .dilation = lyap_extents_at(&layer->dilation, index, 1),
                         .image = lyap_extents_at(&layer->input, index, 0) };
    axis.before = axis.after = lyap_extents_at(&layer->padding, index, 0);
    if (layer->is_padding_same) {
        const uint64_t total = reach(&axis) < INT32_MAX ? reach(&axis) : INT32_MAX;
        axis.before = (uint32_t)(total / 2);
        axis.after = (uint32_t)(total - total / 2);
    }
    return axis;
}

/* Circular padding that closes the image to a torus, or less: the convolution is the one on the
 * torus, outputs dropped. */
static bool is_torus(const struct lyap_layer *layer, const struct axis *axis)
{
    return layer->padding_mode == LYAP_PADDING_CIRCULAR &&
           (uint64_t)axis->before + axis->after <= reach(axis);
}

/* How many copies of one element the padded image has at most: the squared norm of the padding as a
 * map along this axis. Infinite where that depends on a size that is not declared. */
static double copies(const struct lyap_layer *layer, const struct axis *axis)
{
    const double most = fmax(axis->before, axis->after), total = (double)axis->before + axis->after;
    if (total == 0 || layer->padding_mode == LYAP_PADDING_ZEROS || is_torus(layer, axis))
        return 1;
    if (layer->padding_mode == LYAP_PADDING_REFLECT)
        return axis->image > 0 && total < (double)axis->image - 1 ? 2 : 3;
    if (layer->padding_mode == LYAP_PADDING_REPLICATE)
        return axis->image > 1 ? 1 + most : 1 + total;
    return axis->image > 0 ? ceil((axis->image + total) / axis->image) : INFINITY;
}

/* How many windows of the axis hold one element at most (lyap/conv.h). */
static double coverage(const struct axis *axis)
{
    uint32_t a = axis->stride, b = axis->dilation;
    while (b != 0) {
        const uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    const double period = (double)axis->stride / a;
    return ceil(axis->kernel / period);
}

/* Product over the axes of the copies: the squared norm of the padding. */
static double padding_factor(const struct lyap_layer *layer, const struct lyap_tensor *weight)
{
    double product = 1;
    for (uint32_t i = 0; i < lyap_layer_axes(layer); i++) {
        const struct axis axis = axis_of(layer, i, weight->shape[2 + i]);
        product *= copies(layer, &axis);
    }
    return product;
}

double lyap_layer_conv_factor(const struct lyap_layer *layer, const struct lyap_tensor *weight)
{
    double product = padding_factor(layer, weight);
    for (uint32_t i = 0; i < lyap_layer_axes(layer); i++) {
        const struct axis axis = axis_of(layer, i, weight->shape[2 + i]);
        product *= coverage(&axis);
    }
    return sqrt(product);
}

/* In the terms of lyap/conv.h: one axis is its columns; of three the first two are folded into
 * rows, at stride 1, which drops no output and so is a bound. */
static bool conv_of(const struct lyap_layer *layer, const struct lyap_tensor *weight,
                    const double *kernel, struct lyap_conv *ret_conv)
{
    const uint32_t axes = lyap_layer_axes(layer);
    const uint64_t *shape = weight->shape;
    if (shape[0] > INT32_MAX || shape[1] > INT32_MAX / layer->groups)
        return false;
    struct lyap_conv conv = { .kernel = kernel,
                              .out = (uint32_t)shape[0],
                              .in = (uint32_t)shape[1] * layer->groups,
                              .groups = layer->groups,
                              .size = { 1, 1 },
                              .stride = { 1, 1 },
                              .dilation = { 1, 1 } };
    if (axes == 3) {
        if (shape[2] * shape[3] > LYAP_CONV_SIDE_MAX || shape[4] > LYAP_CONV_SIDE_MAX)
            return false;
        conv.size[0] = (uint32_t)(shape[2] * shape[3]);
        conv.size[1] = (uint32_t)shape[4];
    }
    for (uint32_t i = 0; axes < 3 && i < axes; i++) {
        const struct axis axis = axis_of(layer, i, shape[2 + i]);
        const uint32_t at = axes == 1 ? 1 : i;
        conv.size[at] = axis.kernel;
        conv.stride[at] = axis.stride;
        conv.dilation[at] = axis.dilation;
    }
    static const double any = 0;
    if (!kernel)
        conv.kernel = &any; /* geometry alone */
    *ret_conv = conv;
    return lyap_conv_check(&conv, NULL) == LYAP_OK;
}

/* The image that a zero-padded convolution runs over, once other padding was laid around it; of a
 * transposed convolution its output. False: not declared, or too large. */
static bool image_of(const struct lyap_layer *layer, const struct lyap_tensor *weight,
                     uint32_t ret_sides[2])
{
    const uint32_t axes = lyap_layer_axes(layer);
    if (axes == 3)
        return false;
    ret_sides[0] = 1;
    for (uint32_t i = 0; i < axes; i++) {
        const struct axis axis = axis_of(layer, i, weight->shape[2 + i]);
        uint64_t side = axis.image;
        if (side == 0)
            return false;
        if (lyap_layer_is_transposed(layer)) /* the largest output padding */
            side = side * axis.stride + reach(&axis);
        else if (layer->padding_mode != LYAP_PADDING_ZEROS && !is_torus(layer, &axis))
            side += (uint64_t)axis.before + axis.after;
        if (side > LYAP_CONV_SIDE_MAX)
            return false;
        ret_sides[axes == 1 ? 1 : i] = (uint32_t)side;
    }
    return true;
}

/* All axes close to a torus, or have nothing to close. */
static bool is_circular(const struct lyap_layer *layer, const struct lyap_tensor *weight)
{
    for (uint32_t i = 0; i < lyap_layer_axes(layer); i++) {
        const struct axis axis = axis_of(layer, i, weight->shape[2 + i]);
        if (!is_torus(layer, &axis))
            return false;
    }
    return true;
}

static enum lyap_status torus_upper(const struct lyap_layer *layer,
                                    const struct lyap_tensor *weight, const struct lyap_conv *conv,
                                    double *ret_upper)
{
    uint32_t sides[2];
    if (!image_of(layer, weight, sides))
        return LYAP_E_LIMIT;
    return is_circular(layer, weight) ? lyap_conv_torus_norm(conv, sides[0], sides[1], ret_upper)
                                      : lyap_conv_zero_upper(conv, sides[0], sides[1], ret_upper);
}

enum lyap_status lyap_layer_conv_upper(const struct lyap_layer *layer,
                                       const struct lyap_tensor *weight, const double *kernel,
                                       uint8_t *ret_method, double *ret_upper)
{
    const double padding = sqrt(padding_factor(layer, weight));
    struct lyap_conv conv;
    double upper = NAN;
    if (!conv_of(layer, weight, kernel, &conv) || isinf(padding))
        return LYAP_E_LIMIT;
    enum lyap_bound_method method = LYAP_BOUND_METHOD_TORUS;
    enum lyap_status status = torus_upper(layer, weight, &conv, &upper);
    if (status == LYAP_E_LIMIT) {
        method = LYAP_BOUND_METHOD_RESHAPE;
        status = lyap_conv_reshape_upper(&conv, &upper);
    }
    if (status == LYAP_OK) {
        *ret_method = (uint8_t)method;
        *ret_upper = padding * upper;
    }
    return status;
}

double lyap_layer_conv_flops(const struct lyap_layer *layer, const struct lyap_tensor *weight)
{
    struct lyap_conv conv;
    uint32_t sides[2];
    if (!conv_of(layer, weight, NULL, &conv))
        return 0;
    if (image_of(layer, weight, sides)) {
        const double torus = lyap_conv_torus_flops(&conv, sides[0] + (uint32_t)conv.size[0],
                                                   sides[1] + (uint32_t)conv.size[1]);
        if (torus <= LYAP_CONV_FLOPS_MAX)
            return torus;
    }
    /* Four decompositions of a group's kernel, each 4 small^2 large at least. */
    const double out = (double)conv.out / conv.groups, in = (double)conv.in / conv.groups;
    const double taps = (double)conv.size[0] * conv.size[1];
    const double small = fmin(out * conv.size[0], in * conv.size[1]);
    return 16. * conv.groups * out * in * taps * fmax(small, fmin(out, in));
}

double lyap_layer_pool_gain(const struct lyap_layer *layer)
{
    /* One number stands for any number of axes: three are the most a maximum can gain by, one is
     * the least that a mean loses by. */
    const bool is_mean = layer->kind == LYAP_LAYER_AVGPOOL;
    const uint32_t axes = layer->kernel.count > 1 ? layer->kernel.count
                          : is_mean               ? 1
                                                  : LYAP_NETWORK_AXES_MAX;
    double gain_sq = 1;
    for (uint32_t i = 0; i < axes; i++) {
        struct axis axis = { .kernel = lyap_extents_at(&layer->kernel, i, 1),
                             .dilation = lyap_extents_at(&layer->dilation, i, 1) };
        axis.stride = lyap_extents_at(&layer->stride, i, axis.kernel);
        gain_sq *= coverage(&axis) / (is_mean ? axis.kernel : 1);
    }
    return sqrt(gain_sq);
}
