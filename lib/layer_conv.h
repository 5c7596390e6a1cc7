/* layer_conv.h - convolutions and pooling as they are declared: their geometry in the terms of
 * lyap/conv.h, padding modes included. THREADS: pure functions. */
#ifndef LYAP_LAYER_CONV_H
#define LYAP_LAYER_CONV_H

#include "lyap/declaration.h"

bool lyap_layer_is_conv(const struct lyap_layer *layer);
/* Upper bound of the norm on images. With the size of the image by a torus where that is not too
 * dear, else by reshaped kernels. E_LIMIT, E_NUMERIC, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_layer_conv_upper(const struct lyap_layer *layer,
                                                       const struct lyap_tensor *weight,
                                                       const double *kernel, uint8_t *ret_method,
                                                       double *ret_upper);
/* |conv| <= factor |kernel|_F. */
double lyap_layer_conv_factor(const struct lyap_layer *layer, const struct lyap_tensor *weight);
double lyap_layer_conv_flops(const struct lyap_layer *layer, const struct lyap_tensor *weight);
/* Largest gain of a pooling layer: an input lies in R windows at most, R the product of
 * ceil(kernel/stride) over the axes (dilation as in lyap/conv.h). Maximum: sqrt(R). Mean over K
 * elements, padding counted: sqrt(R / K). */
double lyap_layer_pool_gain(const struct lyap_layer *layer);

#endif
