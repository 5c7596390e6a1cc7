/* Recursive descent over the text of an expression; emits postfix. */
#include <assert.h>
#include <string.h>

#include "lyap/expr.h"
#include "lyap/text.h"
#include "banned.h"

enum { WORD_BYTES_MAX = 64 };
static_assert(LYAP_METRIC_COUNT <= UINT8_MAX && LYAP_TENSOR_METRIC_COUNT <= UINT8_MAX,
              "a metric fits a node");

struct parser {
    const char *text, *at;
    bool is_tensor;
    uint32_t depth;
    struct lyap_expr *expr;
    struct lyap_error *reterr;
};

enum argument_kind { EXPRESSIONS, WINDOW };
static const struct function {
    const char *name;
    enum lyap_expr_op op;
    enum argument_kind kind;
    uint32_t count;   /* of EXPRESSIONS */
    bool takes_least; /* of WINDOW: a third argument, and a fourth */
    uint32_t least;   /* fewest values that make sense */
} functions[] = {
    { "abs", LYAP_EXPR_ABS, EXPRESSIONS, 1, false, 0 },
    { "log", LYAP_EXPR_LOG, EXPRESSIONS, 1, false, 0 },
    { "sqrt", LYAP_EXPR_SQRT, EXPRESSIONS, 1, false, 0 },
    { "min", LYAP_EXPR_MIN, EXPRESSIONS, 2, false, 0 },
    { "max", LYAP_EXPR_MAX, EXPRESSIONS, 2, false, 0 },
    { "lag", LYAP_EXPR_LAG, WINDOW, 0, false, 1 },
    { "mean", LYAP_EXPR_MEAN, WINDOW, 0, true, 1 },
    { "sd", LYAP_EXPR_SD, WINDOW, 0, true, 2 },
    { "median", LYAP_EXPR_MEDIAN, WINDOW, 0, true, 1 },
    { "lowest", LYAP_EXPR_LOWEST, WINDOW, 0, true, 1 },
    { "highest", LYAP_EXPR_HIGHEST, WINDOW, 0, true, 1 },
    { "first_highest", LYAP_EXPR_FIRST_HIGHEST, WINDOW, 0, false, 1 },
};

static void skip_space(struct parser *parser)
{
    while (*parser->at == ' ')
        parser->at++;
}

static enum lyap_status expected(struct parser *parser, const char *what)
{
    struct lyap_quote quote;
    return lyap_error_set(parser->reterr, LYAP_E_FORMAT, "metric, at byte %d (%s): %s is expected",
                          (int)(parser->at - parser->text),
                          *parser->at ? lyap_quote_string(parser->at, &quote) : "the end", what);
}

static bool take(struct parser *parser, char wanted)
{
    skip_space(parser);
    if (*parser->at != wanted)
        return false;
    parser->at++;
    return true;
}

static enum lyap_status emit(struct parser *parser, struct lyap_expr_node node)
{
    if (parser->expr->count == LYAP_EXPR_NODES_MAX)
        return lyap_error_set(parser->reterr, LYAP_E_LIMIT,
                              "metric: the expression has more than %d operands and operators",
                              LYAP_EXPR_NODES_MAX);
    parser->expr->nodes[parser->expr->count++] = node;
    return LYAP_OK;
}

static enum lyap_status emit_op(struct parser *parser, enum lyap_expr_op op)
{
    return emit(parser, (struct lyap_expr_node){ .op = (uint8_t)op });
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A name: letters, digits, underscores, and the dot of `point.`. False when it is none. */
static bool take_word(struct parser *parser, char ret_word[WORD_BYTES_MAX + 1])
{
    skip_space(parser);
    size_t length = 0;
    const char *at = parser->at;
    while (is_letter(at[length]) || (length > 0 && (is_digit(at[length]) || at[length] == '.')))
        length++;
    if (length == 0 || length > WORD_BYTES_MAX)
        return false;
    memcpy(ret_word, at, length);
    ret_word[length] = '\0';
    parser->at += length;
    return true;
}

static enum lyap_status unknown_name(struct parser *parser, const char *word)
{
    return lyap_error_set(
        parser->reterr, LYAP_E_UNKNOWN_FIELD,
        parser->is_tensor ? "metric: \"%s\" is no metric of tensors (docs/metrics.md); one of the "
                            "point is point.<name>"
                          : "metric: \"%s\" is no metric of points (docs/metrics.md lists them)",
        word);
}

/* A metric of the point: the bare name, or with the prefix where bare names are a tensor's. */
static bool point_metric(const struct parser *parser, const char *word, enum lyap_metric *ret)
{
    static const char prefix[] = "point.";
    const size_t length = sizeof prefix - 1;
    const bool has_prefix = strncmp(word, prefix, length) == 0;
    if (has_prefix)
        return lyap_metric_parse(word + length, ret);
    return !parser->is_tensor && lyap_metric_parse(word, ret);
}

static enum lyap_status operand(struct parser *parser, const char *word)
{
    struct lyap_expr_node node = { .op = LYAP_EXPR_METRIC };
    enum lyap_metric metric;
    enum lyap_tensor_metric tensor_metric;
    if (point_metric(parser, word, &metric)) {
        node.metric = (uint8_t)metric;
    } else if (parser->is_tensor && strcmp(word, "elements") == 0) {
        node.op = LYAP_EXPR_ELEMENTS;
    } else if (parser->is_tensor && lyap_tensor_metric_parse(word, &tensor_metric)) {
        node.op = LYAP_EXPR_TENSOR_METRIC;
        node.metric = (uint8_t)tensor_metric;
    } else {
        return unknown_name(parser, word);
    }
    return emit(parser, node);
}

/* Digits, in [min, max]. */
static enum lyap_status take_count(struct parser *parser, const char *what, uint32_t min,
                                   uint32_t max, uint32_t *ret_count)
{
    skip_space(parser);
    size_t length = 0;
    int64_t value = -1;
    while (is_digit(parser->at[length]))
        length++;
    if (length == 0 || !lyap_text_integer(parser->at, length, &value))
        return expected(parser, "a whole number");
    if (value < (int64_t)min || value > (int64_t)max)
        return lyap_error_set(parser->reterr, LYAP_E_INVALID,
                              "metric: %s of a window is %lld; %u to %u are allowed", what,
                              (long long)value, min, max);
    parser->at += length;
    *ret_count = (uint32_t)value;
    return LYAP_OK;
}

static enum lyap_status window(struct parser *parser, const struct function *function)
{
    char word[WORD_BYTES_MAX + 1];
    enum lyap_metric metric;
    struct lyap_expr_node node = { .op = (uint8_t)function->op };
    if (!take_word(parser, word))
        return expected(parser, "the name of a metric");
    /* Windows look at points alone, so the prefix may be left out. */
    if (!point_metric(parser, word, &metric) && !lyap_metric_parse(word, &metric))
        return lyap_error_set(parser->reterr, LYAP_E_UNKNOWN_FIELD,
                              "metric: \"%s\" is no metric of points; a window takes one by "
                              "its name",
                              word);
    node.metric = (uint8_t)metric;
    if (!take(parser, ','))
        return expected(parser, "a comma");
    enum lyap_status status =
        take_count(parser, "the length", function->least, LYAP_EXPR_WINDOW_MAX, &node.window);
    if (status != LYAP_OK)
        return status;
    node.least = (node.window + 1) / 2;
    node.least = node.least < function->least ? function->least : node.least;
    bool has_more = function->takes_least && take(parser, ',');
    if (has_more)
        status = take_count(parser, "the least number", function->least, node.window, &node.least);
    has_more = has_more && status == LYAP_OK && take(parser, ',');
    if (has_more)
        status = take_count(parser, "the number left out", 0, LYAP_EXPR_WINDOW_MAX - node.window,
                            &node.skipped);
    if (status == LYAP_OK && !take(parser, ')'))
        status = expected(parser, "a closing bracket");
    return status == LYAP_OK ? emit(parser, node) : status;
}

static enum lyap_status expression(struct parser *parser);

static enum lyap_status arguments(struct parser *parser, const struct function *function)
{
    enum lyap_status status = LYAP_OK;
    for (uint32_t i = 0; status == LYAP_OK && i < function->count; i++) {
        if (i > 0 && !take(parser, ','))
            return expected(parser, "a comma");
        status = expression(parser);
    }
    if (status == LYAP_OK && !take(parser, ')'))
        status = expected(parser, "a closing bracket");
    return status == LYAP_OK ? emit_op(parser, function->op) : status;
}

static enum lyap_status call(struct parser *parser, const char *word)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        const struct function *function = &functions[i];
        if (strcmp(function->name, word) == 0)
            return function->kind == WINDOW ? window(parser, function)
                                            : arguments(parser, function);
    }
    return lyap_error_set(parser->reterr, LYAP_E_UNKNOWN_FIELD,
                          "metric: there is no function '%s'; there are abs, log, sqrt, min, max, "
                          "lag, mean, sd, median, lowest, highest, first_highest",
                          word);
}

static enum lyap_status number(struct parser *parser)
{
    const char *at = parser->at;
    size_t length = 0;
    double value;
    while (is_digit(at[length]) || at[length] == '.' ||
           ((at[length] == 'e' || at[length] == 'E') && length > 0) ||
           ((at[length] == '-' || at[length] == '+') && length > 0 &&
            (at[length - 1] == 'e' || at[length - 1] == 'E')))
        length++;
    if (length == 0 || !lyap_text_double(at, length, &value))
        return expected(parser, "a metric, a number, a function or a bracket");
    parser->at += length;
    return emit(parser, (struct lyap_expr_node){ .op = LYAP_EXPR_NUMBER, .number = value });
}

static enum lyap_status factor(struct parser *parser)
{
    char word[WORD_BYTES_MAX + 1];
    enum lyap_status status;
    if (parser->depth == LYAP_EXPR_DEPTH_MAX)
        return lyap_error_set(parser->reterr, LYAP_E_LIMIT,
                              "metric: the expression nests deeper than %d", LYAP_EXPR_DEPTH_MAX);
    parser->depth++;
    if (take(parser, '-')) {
        status = factor(parser);
        if (status == LYAP_OK)
            status = emit_op(parser, LYAP_EXPR_NEGATE);
    } else if (take(parser, '(')) {
        status = expression(parser);
        if (status == LYAP_OK && !take(parser, ')'))
            status = expected(parser, "a closing bracket");
    } else if (take_word(parser, word)) {
        status = take(parser, '(') ? call(parser, word) : operand(parser, word);
    } else {
        status = number(parser);
    }
    parser->depth--;
    return status;
}

static enum lyap_status term(struct parser *parser)
{
    enum lyap_status status = factor(parser);
    while (status == LYAP_OK) {
        const bool is_product = take(parser, '*');
        if (!is_product && !take(parser, '/'))
            break;
        status = factor(parser);
        if (status == LYAP_OK)
            status = emit_op(parser, is_product ? LYAP_EXPR_MULTIPLY : LYAP_EXPR_DIVIDE);
    }
    return status;
}

static enum lyap_status expression(struct parser *parser)
{
    enum lyap_status status = term(parser);
    while (status == LYAP_OK) {
        const bool is_sum = take(parser, '+');
        if (!is_sum && !take(parser, '-'))
            break;
        status = term(parser);
        if (status == LYAP_OK)
            status = emit_op(parser, is_sum ? LYAP_EXPR_ADD : LYAP_EXPR_SUBTRACT);
    }
    return status;
}

enum lyap_status lyap_expr_parse(const char *text, bool is_tensor, struct lyap_expr *ret_expr,
                                 struct lyap_error *reterr)
{
    struct lyap_expr expr = { .count = 0 };
    struct parser parser = {
        .text = text, .at = text, .is_tensor = is_tensor, .expr = &expr, .reterr = reterr
    };
    if (strlen(text) > LYAP_EXPR_BYTES_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "metric has %zu bytes; at most %d",
                              strlen(text), LYAP_EXPR_BYTES_MAX);
    enum lyap_status status = expression(&parser);
    skip_space(&parser);
    if (status == LYAP_OK && *parser.at)
        status = expected(&parser, "an operator or the end");
    if (status == LYAP_OK)
        *ret_expr = expr;
    return status;
}
