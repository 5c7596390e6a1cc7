/* bound_method.h - how an upper bound of a layer's gain was found. THREADS: pure functions. */
#ifndef LYAP_BOUND_METHOD_H
#define LYAP_BOUND_METHOD_H

#include "lyap/status.h"

/* X(enum, wire name, text) */
#define LYAP_BOUND_METHOD_TABLE(X)                                                                 \
    X(NONE, "none", "there is no bound")                                                           \
    X(EXACT, "exact", "the norm itself, up to rounding, or its bound carried on")                  \
    X(MATRIX, "matrix", "upper bound of sigma_1 of the matrix, as spectral_norm_upper (SPEC 1.2)") \
    X(FROBENIUS, "frobenius", "|K|_F and the windows that hold one input (SPEC 1.3)")              \
    X(RESHAPE, "reshape", "reshaped kernels (SPEC 1.3)")                                           \
    X(TORUS, "torus", "circular convolution on a torus (SPEC 1.3)")                                \
    X(INCREMENT, "increment", "an earlier bound and the sum of |D|_F since (SPEC 1.2)")            \
    X(TRIANGLE, "triangle", "1 + h L (SPEC 1.4)")                                                  \
    X(LOG_NORM, "log-norm", "sqrt(1 + 2 h mu + h^2 L^2), or of the structure (SPEC 1.4)")          \
    X(TOKENS, "tokens", "local: at the pushed tokens (SPEC 1.5)")                                  \
    X(GATES, "gates", "local: at the pushed gates (SPEC 1.1)")                                     \
    X(KIND, "kind", "constant of the layer's kind")

enum lyap_bound_method {
#define LYAP_BOUND_METHOD_ENUM(name, wire, text) LYAP_BOUND_METHOD_##name,
    LYAP_BOUND_METHOD_TABLE(LYAP_BOUND_METHOD_ENUM)
#undef LYAP_BOUND_METHOD_ENUM
        LYAP_BOUND_METHOD_COUNT
};

LYAP_API const char *lyap_bound_method_name(enum lyap_bound_method method);

#endif
