/* spectral_view.h - what is known of the norm of each weight at one step (SPEC 1.2): measured
 * in the stream, or by the worker at an earlier step and carried on by the increments since. All
 * class I: a bound holds at this step. NaN: not known. THREADS: one owner, that of the profile. */
#ifndef LYAP_SPECTRAL_VIEW_H
#define LYAP_SPECTRAL_VIEW_H

#include "lyap/metric.h"

/* Of one tensor as the matrix rows x rest: of a convolution the flattened kernel, which bounds the
 * norm on images from below alone. */
struct lyap_spectral_view {
    double lower;            /* <= sigma_1, measured at this step */
    double error;            /* how far sigma_1 may lie above it: class E */
    double residual;         /* some singular value lies within it of `lower` */
    double upper;            /* >= sigma_1 */
    double row_norm;         /* >= the largest row norm */
    enum lyap_reason reason; /* why `lower` is absent; NONE: it is there */
};

#endif
