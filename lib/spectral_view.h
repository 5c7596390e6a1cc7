/* spectral_view.h - what is known of the norm of each weight at one step (SPEC 1.2-1.4): measured
 * in the stream, or by the worker at an earlier step and carried on by the increments since. All
 * class I: a bound holds at this step. NaN: not known. THREADS: one owner, that of the profile. */
#ifndef LYAP_SPECTRAL_VIEW_H
#define LYAP_SPECTRAL_VIEW_H

#include "lyap/metric.h"

/* Of one tensor as the matrix rows x rest. `upper` is of that matrix: for a convolution the norm on
 * images is `layer_upper`. */
struct lyap_spectral_view {
    double lower;            /* <= sigma_1, measured at this step */
    double residual;         /* some singular value lies within it of `lower` */
    double upper;            /* >= sigma_1 */
    double row_norm;         /* >= the largest row norm */
    double layer_upper;      /* recipe CONV: >= the norm of the convolution */
    double log_norm;         /* recipe SQUARE: >= mu_2 */
    double log_norm_inf;     /* recipe SQUARE: >= mu_inf, by a row-sum bound on the increments */
    enum lyap_reason reason; /* why `lower` is absent; NONE: it is there */
};

#endif
