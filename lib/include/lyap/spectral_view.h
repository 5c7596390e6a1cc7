/* spectral_view.h - what is known about sigma_1 of one tensor at the newest point, read as a matrix
 * of shape[0] rows: made by the profile, read by the bounds of layers (network.h).
 * THREADS: plain data. */
#ifndef LYAP_SPECTRAL_VIEW_H
#define LYAP_SPECTRAL_VIEW_H

#include <stdint.h>

/* How an upper bound was found. X(enum, wire name, text) */
#define LYAP_BOUND_METHOD_TABLE(X)                                                                 \
    X(NONE, "none", "there is no bound")                                                           \
    X(EXACT, "exact", "the norm itself, up to rounding")                                           \
    X(FROBENIUS, "frobenius", "|W|_F")                                                             \
    X(CHEAP, "cheap", "min(|W|_F, sqrt(|W|_1 |W|_inf))")                                           \
    X(GRAM, "gram", "squarings of the Gram matrix (SPEC 1.2)")                                     \
    X(RESHAPE, "reshape", "reshaped kernels (SPEC 1.3)")                                           \
    X(TORUS, "torus", "circular convolution on a torus (SPEC 1.3)")                                \
    X(INCREMENT, "increment", "an earlier bound and the sum of |D|_F since")                       \
    X(PRODUCT, "product", "product of the inner layers' bounds")                                   \
    X(LOG_NORM, "log-norm", "sqrt(1 + 2 h mu + h^2 L^2) (SPEC 1.4)")                               \
    X(TOKENS, "tokens", "local: at the pushed tokens")                                             \
    X(GATES, "gates", "local: at the pushed gates")                                                \
    X(LIPSCHITZ, "lipschitz", "constant of the layer's kind")

enum lyap_bound_method {
#define LYAP_BOUND_METHOD_ENUM(name, wire, text) LYAP_BOUND_METHOD_##name,
    LYAP_BOUND_METHOD_TABLE(LYAP_BOUND_METHOD_ENUM)
#undef LYAP_BOUND_METHOD_ENUM
        LYAP_BOUND_METHOD_COUNT
};

struct lyap_spectral_view {
    double lower;       /* <= sigma_1; NaN: unknown */
    double upper;       /* >= sigma_1; NaN: unknown */
    double residual;    /* of `lower` (spectral.h); NaN: unknown */
    int64_t upper_step; /* of the snapshot that `upper` was computed on, increments aside; -1 */
    uint8_t method;     /* enum lyap_bound_method of `upper` */
};

#endif
