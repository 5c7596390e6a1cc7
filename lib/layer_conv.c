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
 * map along this axis. torch pads by less than the image (reflect) or by as much (circular). */
static double copies(const struct lyap_layer *layer, const struct axis *axis)
{
    const double most = fmax(axis->before, axis->after), total = (double)axis->before + axis->after;
    if (total == 0 || layer->padding_mode == LYAP_PADDING_ZEROS)
        return 1;
    if (layer->padding_mode == LYAP_PADDING_REFLECT)
        return axis->image > 0 && total < (double)axis->image - 1 ? 2 : 3;
    if (layer->padding_mode == LYAP_PADDING_REPLICATE)
        return axis->image > 1 ? 1 + most : 1 + total;
    return axis->image > 0 ? ceil((axis->image + total) / axis->image) : 3;
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

/* By windows: at stride 1 a torus has no borders, at another its side need not be a multiple. */
double lyap_layer_conv_factor(const struct lyap_layer *layer, const struct lyap_tensor *weight)
{
    double product = 1;
    for (uint32_t i = 0; i < lyap_layer_axes(layer); i++) {
        const struct axis axis = axis_of(layer, i, weight->shape[2 + i]);
        const bool is_closed = axis.stride == 1 && is_torus(layer, &axis);
        product *= coverage(&axis) * (is_closed ? 1 : copies(layer, &axis));
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

/* The torus whose circular convolution bounds this one, times *ret_padding for what padding copies:
 * the image itself where it closes to a torus, else the padded image made so long that nothing
 * wraps around; of a transposed convolution for its output. False: the image is not declared, or
 * too large. */
static bool torus_of(const struct lyap_layer *layer, const struct lyap_tensor *weight,
                     uint32_t ret_sides[2], double *ret_padding)
{
    const uint32_t axes = lyap_layer_axes(layer);
    double product = 1;
    if (axes == 3)
        return false;
    ret_sides[0] = 1;
    for (uint32_t i = 0; i < axes; i++) {
        const struct axis axis = axis_of(layer, i, weight->shape[2 + i]);
        uint64_t side = axis.image;
        if (side == 0)
            return false;
        if (lyap_layer_is_transposed(layer)) { /* the largest output padding */
            side = side * axis.stride + 2 * reach(&axis);
        } else if (!is_torus(layer, &axis)) {
            const bool is_copied = layer->padding_mode != LYAP_PADDING_ZEROS;
            side += reach(&axis) + (is_copied ? (uint64_t)axis.before + axis.after : 0);
            product *= copies(layer, &axis);
        }
        if (side > LYAP_CONV_SIDE_MAX)
            return false;
        ret_sides[axes == 1 ? 1 : i] = (uint32_t)side;
    }
    *ret_padding = sqrt(product);
    return true;
}

/* What the reshaped kernels leave out: the windows of a strided axis are in their bound. */
static double reshape_padding(const struct lyap_layer *layer, const struct lyap_tensor *weight)
{
    double product = 1;
    for (uint32_t i = 0; i < lyap_layer_axes(layer); i++) {
        const struct axis axis = axis_of(layer, i, weight->shape[2 + i]);
        if (axis.stride > 1 || !is_torus(layer, &axis))
            product *= copies(layer, &axis);
    }
    return sqrt(product);
}

enum lyap_status lyap_layer_conv_upper(const struct lyap_layer *layer,
                                       const struct lyap_tensor *weight, const double *kernel,
                                       uint8_t *ret_method, double *ret_upper)
{
    struct lyap_conv conv;
    uint32_t sides[2] = { 0, 0 };
    double upper = NAN, padding = 1;
    if (!conv_of(layer, weight, kernel, &conv))
        return LYAP_E_LIMIT;
    enum lyap_bound_method method = LYAP_BOUND_METHOD_TORUS;
    enum lyap_status status = LYAP_E_LIMIT;
    if (torus_of(layer, weight, sides, &padding))
        status = lyap_conv_torus_norm(&conv, sides[0], sides[1], &upper);
    if (status == LYAP_E_LIMIT) {
        method = LYAP_BOUND_METHOD_RESHAPE;
        padding = reshape_padding(layer, weight);
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
    uint32_t sides[2] = { 0, 0 };
    double padding;
    if (!conv_of(layer, weight, NULL, &conv))
        return 0;
    if (torus_of(layer, weight, sides, &padding)) {
        const double torus = lyap_conv_torus_flops(&conv, sides[0], sides[1]);
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
