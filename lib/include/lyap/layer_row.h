/* layer_row.h - the newest numbers of one declared layer (SPEC 1). Gains are dimensionless, of l2
 * norms; logs are natural. THREADS: plain data, pure functions. */
#ifndef LYAP_LAYER_ROW_H
#define LYAP_LAYER_ROW_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/bound_method.h"
#include "lyap/point.h"

/* X(enum, name, trust, formula) */
#define LYAP_LAYER_METRIC_TABLE(X)                                                                 \
    X(GAIN, "gain", I, "upper bound of the layer's Lipschitz constant, its activation included")   \
    X(LOCAL_GAIN, "local_gain", E, "the same at the pushed tokens and gates; attention: C")        \
    X(LOG_PRODUCT, "log_product", I, "log of the bound on |D_{x_0} x_l|: sum of log gains")        \
    X(LOCAL_LOG_PRODUCT, "local_log_product", E, "the same with local gains")                      \
    X(ROW_NORM, "row_norm", I,                                                                     \
      "embedding: largest row norm, half of what one changed token can move")                      \
    X(TRIANGLE, "triangle", I, "block: 1 + h L")                                                   \
    X(LOG_NORM_GAIN, "log_norm_gain", I, "block: sqrt(1 + 2 h mu + h^2 L^2), or of its structure") \
    X(LOG_NORM, "log_norm", I, "block: mu >= lambda_max((J + J')/2) of f")                         \
    X(GAIN_INF, "gain_inf", I, "gated block: its gain in the inf-norm")                            \
    X(CFL_MARGIN, "cfl_margin", I, "block: (-2 mu / L^2) / h; >= 1: certified not to expand")      \
    X(BACKWARD_GAIN, "backward_gain", I, "block: 1 / (1 - h mu), of the implicit step")            \
    X(ACT_NORM, "act_norm", I, "|x_l| of the pushed activations")                                  \
    X(EMPIRICAL_GAIN, "empirical_gain", I, "|x'_l - x_l| / |x'_0 - x_0|, a lower bound")           \
    X(EMPIRICAL_GAIN_MAX, "empirical_gain_max", I, "its running maximum in the attempt")           \
    X(EMPIRICAL_GAIN_GROWTH, "empirical_gain_growth", I,                                           \
      "empirical_gain / its least over the points of the shortest window before")

enum lyap_layer_metric {
#define LYAP_LAYER_METRIC_ENUM(name, wire, trust, formula) LYAP_LAYER_METRIC_##name,
    LYAP_LAYER_METRIC_TABLE(LYAP_LAYER_METRIC_ENUM)
#undef LYAP_LAYER_METRIC_ENUM
        LYAP_LAYER_METRIC_COUNT
};

struct lyap_layer_row {
    uint32_t layer;     /* index in the declared network */
    uint8_t method;     /* enum lyap_bound_method of `gain`, else of `local_gain` */
    int64_t bound_step; /* of the snapshot whose values gave the bound; -1: of this one; linear: of
                           `local_gain`, with the gates of that snapshot */
    struct lyap_value values[LYAP_LAYER_METRIC_COUNT];
};

LYAP_API const char *lyap_layer_metric_name(enum lyap_layer_metric metric);
LYAP_API const char *lyap_layer_metric_formula(enum lyap_layer_metric metric);

#endif
