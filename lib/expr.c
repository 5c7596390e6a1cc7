/* Evaluation of expressions: a stack machine over postfix. */
#include "lyap/expr.h"

#include <assert.h>
#include <math.h>

#include "stats.h"
#include "banned.h"

static bool is_window(const struct lyap_expr_node *node)
{
    return node->op >= LYAP_EXPR_LAG;
}

bool lyap_expr_is_metric(const struct lyap_expr *expr, enum lyap_metric *ret_metric)
{
    if (expr->count != 1 || expr->nodes[0].op != LYAP_EXPR_METRIC)
        return false;
    *ret_metric = (enum lyap_metric)expr->nodes[0].metric;
    return true;
}

void lyap_expr_needs(const struct lyap_expr *expr, struct lyap_lookback_needs *needs)
{
    for (uint32_t i = 0; i < expr->count; i++) {
        const struct lyap_expr_node *node = &expr->nodes[i];
        if (!is_window(node))
            continue;
        uint32_t *reach = node->op == LYAP_EXPR_FIRST_HIGHEST ? &needs->first : &needs->depth;
        const uint32_t wanted = node->window + node->skipped;
        *reach = wanted > *reach ? wanted : *reach;
        needs->metrics[node->metric] = true;
    }
}

void lyap_expr_each_metric(const struct lyap_expr *expr,
                           void (*use)(void *arg, enum lyap_metric metric), void *arg)
{
    bool is_seen[LYAP_METRIC_COUNT] = { false };
    for (uint32_t i = 0; i < expr->count; i++) {
        const struct lyap_expr_node *node = &expr->nodes[i];
        if ((node->op != LYAP_EXPR_METRIC && !is_window(node)) || is_seen[node->metric])
            continue;
        is_seen[node->metric] = true;
        use(arg, (enum lyap_metric)node->metric);
    }
}

/* Of a lag: all between it and the present. */
static struct lyap_lookback_range range_of(const struct lyap_expr_node *node)
{
    return (struct lyap_lookback_range){ node->window, node->skipped };
}

uint32_t lyap_expr_nonfinite(const struct lyap_expr *expr, const struct lyap_lookback *lookback)
{
    double values[LYAP_EXPR_WINDOW_MAX];
    uint32_t most = 0;
    for (uint32_t i = 0; i < expr->count; i++) {
        const struct lyap_expr_node *node = &expr->nodes[i];
        uint32_t nonfinite;
        if (!is_window(node) || node->op == LYAP_EXPR_FIRST_HIGHEST)
            continue;
        (void)lyap_lookback_window(lookback, (enum lyap_metric)node->metric, range_of(node), values,
                                   &nonfinite);
        most = nonfinite > most ? nonfinite : most;
    }
    return most;
}

static struct lyap_value absent(enum lyap_reason reason, uint8_t trust)
{
    return (
        struct lyap_value){ .value = NAN, .error = NAN, .trust = trust, .reason = (uint8_t)reason };
}

static struct lyap_value present(double value, uint8_t trust)
{
    return (struct lyap_value){
        .value = value, .error = NAN, .trust = trust, .reason = LYAP_REASON_NONE
    };
}

/* Unbiased; two passes (never a sum of squares). */
static double deviation(const double *values, uint32_t count, double mean)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += (values[i] - mean) * (values[i] - mean);
    return sqrt(sum / (count - 1));
}

static double extreme(const double *values, uint32_t count, double sign)
{
    double most = sign * values[0];
    for (uint32_t i = 1; i < count; i++)
        most = fmax(most, sign * values[i]);
    return sign * most;
}

static double statistic(enum lyap_expr_op op, double *values, uint32_t count)
{
    switch (op) {
    case LYAP_EXPR_MEAN:
        return lyap_stats_mean(values, count);
    case LYAP_EXPR_SD:
        return deviation(values, count, lyap_stats_mean(values, count));
    case LYAP_EXPR_MEDIAN:
        return lyap_stats_median(values, count);
    case LYAP_EXPR_LOWEST:
        return extreme(values, count, -1);
    case LYAP_EXPR_HIGHEST:
    case LYAP_EXPR_FIRST_HIGHEST:
        return extreme(values, count, 1);
    default:
        assert(!"not a window");
        return NAN;
    }
}

static struct lyap_value lag(const struct lyap_expr_node *node,
                             const struct lyap_lookback *lookback, uint8_t trust)
{
    const double value = lyap_lookback_at(lookback, (enum lyap_metric)node->metric, node->window);
    if (node->window > lyap_lookback_points(lookback))
        return absent(LYAP_REASON_WARMING_UP, trust);
    if (isnan(value))
        return absent(LYAP_REASON_NOT_PUSHED, trust);
    return isinf(value) ? absent(LYAP_REASON_NONFINITE, trust) : present(value, trust);
}

static struct lyap_value window_value(const struct lyap_expr_node *node,
                                      const struct lyap_lookback *lookback)
{
    const enum lyap_metric metric = (enum lyap_metric)node->metric;
    const uint8_t trust = (uint8_t)lyap_metric_info(metric)->trust;
    double values[LYAP_EXPR_WINDOW_MAX];
    uint32_t nonfinite, count;
    if (node->op == LYAP_EXPR_LAG)
        return lag(node, lookback, trust);
    if (node->op == LYAP_EXPR_FIRST_HIGHEST && lyap_lookback_points(lookback) < node->window)
        return absent(LYAP_REASON_WARMING_UP, trust);
    count = node->op == LYAP_EXPR_FIRST_HIGHEST
                ? lyap_lookback_first(lookback, metric, node->window, values)
                : lyap_lookback_window(lookback, metric, range_of(node), values, &nonfinite);
    if (count < node->least)
        return absent(LYAP_REASON_WARMING_UP, trust);
    return present(statistic((enum lyap_expr_op)node->op, values, count), trust);
}

/* A tensor's values carry no reason of their own. */
static struct lyap_value tensor_value(const struct lyap_expr_node *node,
                                      const struct lyap_tensor_row *row)
{
    const double value = row->values[node->metric];
    return isnan(value) ? absent(LYAP_REASON_NOT_PUSHED, LYAP_TRUST_E)
                        : present(value, LYAP_TRUST_E);
}

void lyap_expr_windows(const struct lyap_expr *expr, const struct lyap_lookback *lookback,
                       struct lyap_value ret_windows[LYAP_EXPR_NODES_MAX])
{
    for (uint32_t i = 0; i < expr->count; i++)
        if (is_window(&expr->nodes[i]))
            ret_windows[i] = window_value(&expr->nodes[i], lookback);
}

uint32_t lyap_expr_cost(const struct lyap_expr *expr)
{
    uint32_t values = 0;
    for (uint32_t i = 0; i < expr->count; i++)
        values += is_window(&expr->nodes[i]) ? expr->nodes[i].window : 0;
    return values;
}

static struct lyap_value operand(const struct lyap_expr *expr, uint32_t index,
                                 const struct lyap_expr_input *input)
{
    const struct lyap_expr_node *node = &expr->nodes[index];
    switch (node->op) {
    case LYAP_EXPR_NUMBER:
        return present(node->number, LYAP_TRUST_I);
    case LYAP_EXPR_METRIC:
        return input->point->metrics[node->metric];
    case LYAP_EXPR_TENSOR_METRIC:
        return tensor_value(node, input->row);
    case LYAP_EXPR_ELEMENTS:
        return present(input->elements, LYAP_TRUST_I);
    default:
        return input->windows ? input->windows[index] : window_value(node, input->lookback);
    }
}

static const char *operand_name(const struct lyap_expr_node *node)
{
    return node->op == LYAP_EXPR_TENSOR_METRIC
               ? lyap_tensor_metric_name((enum lyap_tensor_metric)node->metric)
               : lyap_metric_info((enum lyap_metric)node->metric)->name;
}

static bool is_operator(const struct lyap_expr_node *node)
{
    return node->op >= LYAP_EXPR_ADD && node->op <= LYAP_EXPR_MAX;
}

static bool is_unary(const struct lyap_expr_node *node)
{
    return node->op >= LYAP_EXPR_NEGATE && node->op <= LYAP_EXPR_SQRT;
}

/* NaN on either side is NaN: fmin and fmax would drop it. */
static double chosen(double a, double b, bool is_max)
{
    if (isnan(a) || isnan(b))
        return NAN;
    return is_max ? fmax(a, b) : fmin(a, b);
}

static double apply(const struct lyap_expr_node *node, double a, double b)
{
    switch (node->op) {
    case LYAP_EXPR_ADD:
        return a + b;
    case LYAP_EXPR_SUBTRACT:
        return a - b;
    case LYAP_EXPR_MULTIPLY:
        return a * b;
    case LYAP_EXPR_DIVIDE:
        return a / b;
    case LYAP_EXPR_NEGATE:
        return -a;
    case LYAP_EXPR_ABS:
        return fabs(a);
    case LYAP_EXPR_LOG:
        return log(a);
    case LYAP_EXPR_SQRT:
        return sqrt(a);
    default:
        return chosen(a, b, node->op == LYAP_EXPR_MAX);
    }
}

struct lyap_value lyap_expr_value(const struct lyap_expr *expr, const struct lyap_expr_input *input,
                                  const char **ret_absent)
{
    struct lyap_value stack[LYAP_EXPR_NODES_MAX] = { { .value = 0 } };
    uint32_t top = 0;
    assert(expr->count > 0);
    if (ret_absent)
        *ret_absent = NULL;
    for (uint32_t i = 0; i < expr->count; i++) {
        const struct lyap_expr_node *node = &expr->nodes[i];
        if (is_operator(node)) {
            assert(top >= (is_unary(node) ? 1 : 2)); /* the parser emits operands first */
            const struct lyap_value b = is_unary(node) ? present(NAN, LYAP_TRUST_I) : stack[--top];
            struct lyap_value *a = &stack[top - 1];
            *a = present(apply(node, a->value, b.value), a->trust > b.trust ? a->trust : b.trust);
            continue;
        }
        stack[top] = operand(expr, i, input);
        if (stack[top].reason != LYAP_REASON_NONE) {
            if (ret_absent)
                *ret_absent = operand_name(node);
            return absent((enum lyap_reason)stack[top].reason, stack[top].trust);
        }
        top++;
    }
    assert(top == 1);
    return stack[0];
}
