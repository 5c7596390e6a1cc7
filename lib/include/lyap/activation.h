/* activation.h - range of the derivative of elementwise activations: their Lipschitz constants and
 * whether they are gates (SPEC 1.1, 1.4). Class I, rounded outwards. THREADS: pure functions. */
#ifndef LYAP_ACTIVATION_H
#define LYAP_ACTIVATION_H

#include <stdbool.h>

#include "lyap/status.h"

/* X(enum, name, least derivative, largest derivative, derivation). At kinks: the Clarke interval,
 * which lies within. Parameters beyond those named (leaky_relu's slope and elu's alpha in [0,
 * 1]) need a constant of their own: max(1, |slope|), max(1, alpha). */
#define LYAP_ACTIVATION_TABLE(X)                                                                   \
    X(IDENTITY, "identity", 1, 1, "x")                                                             \
    X(RELU, "relu", 0, 1, "0 or 1")                                                                \
    X(RELU6, "relu6", 0, 1, "0 or 1")                                                              \
    X(LEAKY_RELU, "leaky_relu", 0, 1, "slope or 1, 0 <= slope <= 1")                               \
    X(HARDTANH, "hardtanh", 0, 1, "0 or 1")                                                        \
    X(TANH, "tanh", 0, 1, "1 - tanh^2, largest at 0")                                              \
    X(SIGMOID, "sigmoid", 0, 0.25, "s(1 - s), largest at s = 1/2")                                 \
    X(SOFTPLUS, "softplus", 0, 1, "s(beta x)")                                                     \
    X(SOFTSIGN, "softsign", 0, 1, "1/(1 + |x|)^2, largest at 0")                                   \
    X(LOGSIGMOID, "logsigmoid", 0, 1, "1 - s")                                                     \
    X(ELU, "elu", 0, 1, "1, or alpha exp(x) for x < 0, alpha <= 1")                                \
    X(SELU, "selu", 0, 1.7581, "scale 1.0507, or scale alpha exp(x) <= 1.0507 x 1.67326")          \
    X(GELU, "gelu", -0.1290, 1.1290,                                                               \
      "Phi + x phi, extreme at x^2 = 2: 1/2 +- (erf(1)/2 + exp(-1)/sqrt(pi)) = 1.128904; "         \
      "by tanh 1.128993")                                                                          \
    X(SILU, "silu", -0.0999, 1.0999,                                                               \
      "s + x s(1 - s), extreme where x tanh(x/2) = 2, |x| = 2.399357: 1.099839")                   \
    X(MISH, "mish", -0.1126, 1.0885, "tanh(u) + x s(1 - tanh(u)^2), u = softplus(x); at 1.490571") \
    X(HARDSWISH, "hardswish", -0.5, 1.5, "(2x + 3)/6 for |x| <= 3, else 0 or 1")

enum lyap_activation {
#define LYAP_ACTIVATION_ENUM(name, wire, least, largest, derivation) LYAP_ACTIVATION_##name,
    LYAP_ACTIVATION_TABLE(LYAP_ACTIVATION_ENUM)
#undef LYAP_ACTIVATION_ENUM
        LYAP_ACTIVATION_COUNT
};

struct lyap_activation_range {
    double least, largest; /* of the derivative */
};

LYAP_API struct lyap_activation_range lyap_activation_derivative(enum lyap_activation activation);
/* sup |f'|: |f(x) - f(y)|_2 <= this times |x - y|_2. */
LYAP_API double lyap_activation_lipschitz(enum lyap_activation activation);
/* Is 0 <= f' <= 1? The hypothesis of the gated log-norm (residual.h). */
LYAP_API bool lyap_activation_is_gate(enum lyap_activation activation);

#endif
