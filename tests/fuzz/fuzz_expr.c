/* Expressions under arbitrary text: what is accepted is bounded, and has a value or a reason. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/expr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void evaluate(const struct lyap_expr *expr, bool is_tensor)
{
    struct lyap_lookback lookback;
    struct lyap_lookback_needs needs = { .depth = 0 };
    struct lyap_tensor_row row = { .values = { 1 } };
    struct lyap_point point;
    lyap_expr_needs(expr, &needs);
    if (needs.depth > LYAP_EXPR_WINDOW_MAX || needs.first > LYAP_EXPR_WINDOW_MAX)
        abort();
    if (lyap_lookback_init(&lookback, &needs) != LYAP_OK)
        abort();
    lyap_point_init(&point);
    for (int step = 0; step < 6; step++) {
        for (int i = 0; i < LYAP_METRIC_COUNT; i += 2)
            point.metrics[i] = (struct lyap_value){ .value = step == 3 ? (double)NAN : step - i };
        const struct lyap_expr_input input = {
            .point = &point, .lookback = &lookback, .row = is_tensor ? &row : NULL, .elements = 3
        };
        const char *absent;
        const struct lyap_value value = lyap_expr_value(expr, &input, &absent);
        if ((value.reason != LYAP_REASON_NONE) != (absent != NULL) ||
            (value.reason != LYAP_REASON_NONE && !isnan(value.value)))
            abort();
        (void)lyap_expr_nonfinite(expr, &lookback);
        lyap_lookback_push(&lookback, &point);
    }
    lyap_lookback_release(&lookback);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lyap_expr expr;
    struct lyap_error error = LYAP_ERROR_NULL;
    if (size == 0)
        return 0;
    const bool is_tensor = data[0] & 1;
    char *text = malloc(size);
    if (!text)
        abort();
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (lyap_expr_parse(text, is_tensor, &expr, &error) == LYAP_OK) {
        if (expr.count == 0 || expr.count > LYAP_EXPR_NODES_MAX)
            abort();
        evaluate(&expr, is_tensor);
    } else if (!error.text[0]) {
        abort();
    }
    free(text);
    return 0;
}
