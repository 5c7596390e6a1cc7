/* expr.h - what a rule compares: an expression over the metrics of a point, of the points before it
 * and, with a tensor pattern, of one tensor (docs/rules.md, docs/decisions/0010).
 *
 *   expression = term { ("+" | "-") term }        term = factor { ("*" | "/") factor }
 *   factor     = "-" factor | number | metric | "(" expression ")"
 *              | ("abs" | "log" | "sqrt") "(" expression ")"
 *              | ("min" | "max") "(" expression "," expression ")"
 *              | "lag" "(" metric "," points ")"
 *              | ("mean" | "sd" | "median" | "lowest" | "highest") "(" metric "," points
 *                [ "," least [ "," skipped ] ] ")"
 *              | "first_highest" "(" metric "," points ")"
 *
 * Windows look at the points before the present one, leaving out the newest `skipped` of them. Of a
 * tensor's expression a bare name is a metric of the tensor (or `elements`), `point.<name>` one of
 * the point; windows are the point's. THREADS: pure functions. */
#ifndef LYAP_EXPR_H
#define LYAP_EXPR_H

#include "lyap/limits.h"
#include "lyap/lookback.h"
#include "lyap/point.h"

enum lyap_expr_op {
    LYAP_EXPR_NUMBER,
    LYAP_EXPR_METRIC,
    LYAP_EXPR_TENSOR_METRIC,
    LYAP_EXPR_ELEMENTS,
    LYAP_EXPR_ADD,
    LYAP_EXPR_SUBTRACT,
    LYAP_EXPR_MULTIPLY,
    LYAP_EXPR_DIVIDE,
    LYAP_EXPR_NEGATE,
    LYAP_EXPR_ABS,
    LYAP_EXPR_LOG,
    LYAP_EXPR_SQRT,
    LYAP_EXPR_MIN,
    LYAP_EXPR_MAX,
    LYAP_EXPR_LAG,
    LYAP_EXPR_MEAN,
    LYAP_EXPR_SD,
    LYAP_EXPR_MEDIAN,
    LYAP_EXPR_LOWEST,
    LYAP_EXPR_HIGHEST,
    LYAP_EXPR_FIRST_HIGHEST
};
struct lyap_expr_node {
    double number;          /* NUMBER */
    uint32_t window, least; /* windows: points, and values needed among them */
    uint32_t skipped;       /* newest points that a window leaves out */
    uint8_t op, metric;     /* enum lyap_expr_op; of METRIC, TENSOR_METRIC and windows */
};
struct lyap_expr { /* postfix */
    struct lyap_expr_node nodes[LYAP_EXPR_NODES_MAX];
    uint32_t count;
};

/* E_FORMAT (place and what was expected), E_UNKNOWN_FIELD (no such metric or function), E_INVALID
 * (range of a window), E_LIMIT (bytes, nodes, depth of brackets). `is_tensor`: of a tensor rule. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_expr_parse(const char *text, bool is_tensor,
                                                          struct lyap_expr *ret_expr,
                                                          struct lyap_error *reterr);
/* True when the expression is one metric of the point and nothing else. */
LYAP_API bool lyap_expr_is_metric(const struct lyap_expr *expr, enum lyap_metric *ret_metric);
/* Widens *needs by what the expression looks back at. */
LYAP_API void lyap_expr_needs(const struct lyap_expr *expr, struct lyap_lookback_needs *needs);

struct lyap_expr_input {
    const struct lyap_point *point;
    const struct lyap_lookback *lookback; /* covers the expression's needs; its points are those
                                             before `point` */
    const struct lyap_tensor_row *row;    /* of a tensor's expression */
    double elements;                      /* of the tensor */
    const struct lyap_value *windows;     /* of lyap_expr_windows, or NULL: found here */
};
/* The values of the windows, one entry a node of the expression: for many tensors of one point. */
LYAP_API void lyap_expr_windows(const struct lyap_expr *expr, const struct lyap_lookback *lookback,
                                struct lyap_value ret_windows[LYAP_EXPR_NODES_MAX]);
/* Values that its windows read at each point. */
LYAP_API uint32_t lyap_expr_cost(const struct lyap_expr *expr);
/* Absent (with the reason, and its name in *ret_absent) when an operand is; a window with too few
 * values is `warming-up`. Division by zero is infinite; what is not a number is NaN. Trust is the
 * weakest operand's. `ret_absent` (a static string, NULL: nothing is absent) may be NULL. */
LYAP_API struct lyap_value lyap_expr_value(const struct lyap_expr *expr,
                                           const struct lyap_expr_input *input,
                                           const char **ret_absent);
/* Calls `use` for each distinct metric of the point that the expression reads. */
LYAP_API void lyap_expr_each_metric(const struct lyap_expr *expr,
                                    void (*use)(void *arg, enum lyap_metric metric), void *arg);
/* Non-finite values that the windows leave out at this point. */
LYAP_API uint32_t lyap_expr_nonfinite(const struct lyap_expr *expr,
                                      const struct lyap_lookback *lookback);

#endif
