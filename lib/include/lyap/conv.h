/* conv.h - upper bounds and the exact norm of convolutions in one or two dimensions (SPEC 1.3), as
 * maps of l2 spaces of images. The norm of the kernel flattened to out x rest is no bound. The
 * adjoint (transposed convolution) has the same norm. THREADS: pure functions. */
#ifndef LYAP_CONV_H
#define LYAP_CONV_H

#include <stdint.h>

#include "lyap/status.h"

enum {
    LYAP_CONV_ELEMENTS_MAX = 1 << 26, /* of one kernel: 512 MiB, 4096 x 4096 x 2 x 2 */
    LYAP_CONV_SIDE_MAX = 1 << 14,     /* of a kernel (dilated), an image or its torus */
    LYAP_CONV_STRIDE_MAX = 1 << 10
};
/* The most that one norm on a torus may cost: minutes. */
#define LYAP_CONV_FLOPS_MAX 1e12

/* Axis 0 are rows, axis 1 columns; a 1-d convolution has one row. */
struct lyap_conv {
    const double *kernel; /* borrowed: out x in/groups x size[0] x size[1], row-major, as torch's */
    uint32_t out, in;     /* channels, multiples of groups */
    uint32_t groups;      /* 1: dense; in: depthwise. Bounds are the maximum over the groups */
    uint32_t size[2];
    uint32_t stride[2], dilation[2]; /* >= 1 */
};

/* E_INVALID or E_LIMIT naming the field, its value and what is allowed; every function below
 * asserts that it passes. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_conv_check(const struct lyap_conv *conv,
                                                          struct lyap_error *reterr);

/* Class I, upper; zero or no padding, any input size; circular padding at stride 1, or where the
 * stride divides the sides. Stride 1: sqrt(taps) times the
 * least norm of the four reshaped kernels; stride s: sqrt(R0 R1) times that of out x rest, where R
 * is how often the windows of an axis cover one input, ceil(size / (s / gcd(s,
 * dilation))). 1.02-2.1 over (E8). Not for `reflect` and `replicate`, which put an input into more
 * windows. Four singular value decompositions of the kernel. E_NUMERIC: a non-finite entry;
 * E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_conv_reshape_upper(const struct lyap_conv *conv,
                                                                  double *ret_upper);

/* Class I: the norm on a torus of rows x cols, that is with circular padding, at stride 1; an upper
 * bound at any other stride, which drops outputs; a kernel wider than the torus wraps around. Not a
 * bound for zero padding on the same size.
 * Direct transform of the few taps at each frequency, half of them by symmetry, and the largest
 * eigenvalue of each Gram matrix that could hold the maximum. E_LIMIT: rows or cols above
 * LYAP_CONV_SIDE_MAX, or LYAP_CONV_FLOPS_MAX exceeded; E_NUMERIC; E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_conv_torus_norm(const struct lyap_conv *conv, uint32_t rows, uint32_t cols, double *ret_norm);
/* What that costs at most, in flops: per frequency 8 out in/groups size[1] for the transform, 4 s^2
 * l and 16/3 s^3 per group for Gram matrix and eigenvalue (s and l the smaller and the larger side
 * of the group's matrix). */
LYAP_API double lyap_conv_torus_flops(const struct lyap_conv *conv, uint32_t rows, uint32_t cols);

#endif
