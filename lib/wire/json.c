/* Pull reader of JSON. */
#include "json.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lyap/text.h"

static const char space[] = " \t\n\r";

void lyap_json_init(struct lyap_json *json, char *text, uint64_t length, const char *where,
                    struct lyap_error *reterr)
{
    assert(text && text[length] == '\0' && where);
    *json = (struct lyap_json){ .length = length, .where = where, .reterr = reterr };
    json->text = text;
}

enum lyap_status lyap_json_fail(const struct lyap_json *json, const char *format, ...)
{
    char message[LYAP_ERROR_TEXT_BYTES];
    struct lyap_quote quote;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return lyap_error_set(json->reterr, LYAP_E_FORMAT, "%s%s%s: %s (byte %llu)", json->where,
                          json->name ? ", " : "",
                          json->name ? lyap_quote_string(json->name, &quote) : "", message,
                          (unsigned long long)json->at);
}

char lyap_json_peek(struct lyap_json *json)
{
    while (json->at < json->length && json->text[json->at] && strchr(space, json->text[json->at]))
        json->at++;
    return json->text[json->at];
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const char *type_name(char first)
{
    switch (first) {
    case '{':
        return "an object";
    case '[':
        return "a list";
    case '"':
        return "a string";
    case 't':
    case 'f':
        return "true or false";
    case 'n':
        return "null";
    case '}':
    case ']':
    case ',':
    case ':':
        return "no value";
    default:
        return first == '-' || is_digit(first) ? "a number" : "no JSON";
    }
}

enum lyap_status lyap_json_fail_type(struct lyap_json *json, const char *expected)
{
    const char first = lyap_json_peek(json);
    return lyap_json_fail(json, "expected %s, found %s", expected,
                          json->at >= json->length ? "the end" : type_name(first));
}

enum lyap_status lyap_json_open(struct lyap_json *json, char bracket)
{
    assert(bracket == '{' || bracket == '[');
    if (lyap_json_peek(json) != bracket)
        return lyap_json_fail_type(json, type_name(bracket));
    if (json->depth == LYAP_JSON_DEPTH_MAX)
        return lyap_json_fail(json, "nested deeper than %d, the limit", LYAP_JSON_DEPTH_MAX);
    json->at++;
    json->depth++;
    json->has_items &= ~(UINT64_C(1) << json->depth);
    return LYAP_OK;
}

/* Consumes the closing bracket or, between items, the comma. */
static enum lyap_status separate(struct lyap_json *json, char closing, bool *ret_more)
{
    const uint64_t bit = UINT64_C(1) << json->depth;
    const char next = lyap_json_peek(json);
    assert(json->depth > 0);
    if (next == closing) {
        json->at++;
        json->depth--;
        *ret_more = false;
        return LYAP_OK;
    }
    if (json->has_items & bit) {
        if (next != ',')
            return lyap_json_fail(json, "expected ',' or '%c'", closing);
        json->at++;
    }
    json->has_items |= bit;
    *ret_more = true;
    return LYAP_OK;
}

enum lyap_status lyap_json_key(struct lyap_json *json, char **ret_key)
{
    bool is_more = false;
    enum lyap_status status = separate(json, '}', &is_more);
    if (status)
        return status;
    if (!is_more) {
        *ret_key = NULL;
        return LYAP_OK;
    }
    if (lyap_json_peek(json) != '"')
        return lyap_json_fail_type(json, "a key in double quotes");
    status = lyap_json_string(json, ret_key);
    if (status)
        return status;
    if (lyap_json_peek(json) != ':')
        return lyap_json_fail(json, "expected ':' after a key");
    json->at++;
    return LYAP_OK;
}

enum lyap_status lyap_json_part(struct lyap_json *json, const char *key,
                                const struct lyap_json_parts *parts, unsigned *seen,
                                unsigned *ret_index)
{
    struct lyap_quote quote;
    unsigned i = 0;
    while (i < parts->count && strcmp(key, parts->names[i]) != 0)
        i++;
    if (i == parts->count)
        return lyap_json_fail(json, "unknown key %s; %s", lyap_quote_string(key, &quote),
                              parts->known);
    if (*seen & 1u << i)
        return lyap_json_fail(json, "key %s occurs twice", lyap_quote_string(key, &quote));
    *seen |= 1u << i;
    *ret_index = i;
    return LYAP_OK;
}

enum lyap_status lyap_json_more(struct lyap_json *json, bool *ret_more)
{
    return separate(json, ']', ret_more);
}

static bool hex4(const char *text, uint32_t *ret)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        const char c = text[i];
        const int digit = is_digit(c)            ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0)
            return false; /* also at the terminating NUL, so that no byte beyond it is read */
        value = value * 16 + (uint32_t)digit;
    }
    *ret = value;
    return true;
}

static char *utf8_put(char *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
        return out;
    }
    const unsigned tail = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = { 0, 0xC0, 0xE0, 0xF0 };
    *out++ = (char)(lead[tail] | code >> (6 * tail));
    for (unsigned i = tail; i-- > 0;)
        *out++ = (char)(0x80 | (code >> (6 * i) & 0x3F));
    return out;
}

/* \uXXXX at `at`, just after the u; a high surrogate takes its low one along. */
static bool unicode_escape(struct lyap_json *json, uint32_t *ret_code)
{
    const char *text = json->text;
    uint32_t code, low;
    if (!hex4(text + json->at, &code) || code == 0 || (code >= 0xDC00 && code < 0xE000))
        return false;
    json->at += 4;
    if (code >= 0xD800 && code < 0xDC00) {
        if (text[json->at] != '\\' || text[json->at + 1] != 'u' ||
            !hex4(text + json->at + 2, &low) || low < 0xDC00 || low >= 0xE000)
            return false;
        json->at += 6;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    *ret_code = code;
    return true;
}

/* What follows a backslash, appended to out. NULL when it is no escape. */
static char *escape_decode(struct lyap_json *json, char *out)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char name = json->text[json->at];
    uint32_t code;
    if (name == 'u') {
        json->at++;
        return unicode_escape(json, &code) ? utf8_put(out, code) : NULL;
    }
    const char *found = name ? strchr(names, name) : NULL;
    if (!found)
        return NULL;
    json->at++;
    *out++ = values[found - names];
    return out;
}

enum lyap_status lyap_json_string(struct lyap_json *json, char **ret_string)
{
    if (lyap_json_peek(json) != '"')
        return lyap_json_fail_type(json, "a string");
    char *const start = json->text + ++json->at;
    char *out = start;
    for (;;) {
        const char c = json->text[json->at];
        if (json->at >= json->length)
            return lyap_json_fail(json, "a string is not closed");
        if (c == '"')
            break;
        if ((unsigned char)c < 0x20)
            return lyap_json_fail(json, "a string contains a control character");
        json->at++;
        if (c != '\\')
            *out++ = c;
        else if (!(out = escape_decode(json, out)))
            return lyap_json_fail(json, "a string contains an escape that is not allowed");
    }
    json->at++;
    *out = '\0'; /* at most over the closing quote */
    if (!lyap_text_is_utf8(start, (size_t)(out - start)))
        return lyap_json_fail(json, "a string is not UTF-8");
    *ret_string = start;
    return LYAP_OK;
}

static const char *digits_skip(const char *at)
{
    while (is_digit(*at))
        at++;
    return at;
}

/* End of the number that starts at `at`, NULL when it is none. */
static const char *number_skip(const char *at)
{
    if (*at == '-')
        at++;
    const char *end = digits_skip(at);
    if (end == at || (*at == '0' && end > at + 1))
        return NULL;
    if (*end == '.') {
        at = end + 1;
        end = digits_skip(at);
        if (end == at)
            return NULL;
    }
    if (*end == 'e' || *end == 'E') {
        at = end + 1;
        if (*at == '+' || *at == '-')
            at++;
        end = digits_skip(at);
        if (end == at)
            return NULL;
    }
    return end;
}

enum lyap_status lyap_json_number(struct lyap_json *json, const char **ret_text, size_t *ret_length)
{
    const char first = lyap_json_peek(json);
    const char *start = json->text + json->at;
    if (first != '-' && !is_digit(first))
        return lyap_json_fail_type(json, "a number");
    const char *end = number_skip(start);
    if (!end)
        return lyap_json_fail(json, "malformed number");
    *ret_text = start;
    *ret_length = (size_t)(end - start);
    json->at += *ret_length;
    return LYAP_OK;
}

static enum lyap_status nonfinite(struct lyap_json *json, double *ret_value)
{
    char *word = NULL;
    const enum lyap_status status = lyap_json_string(json, &word);
    if (status)
        return status;
    assert(word);
    const bool is_known =
        strcmp(word, "NaN") == 0 || strcmp(word, "Infinity") == 0 || strcmp(word, "-Infinity") == 0;
    if (!is_known || !lyap_text_double(word, strlen(word), ret_value)) {
        struct lyap_quote quote;
        return lyap_json_fail(json, "%s is no number; of strings NaN, Infinity, -Infinity are",
                              lyap_quote_string(word, &quote));
    }
    return LYAP_OK;
}

enum lyap_status lyap_json_double(struct lyap_json *json, double *ret_value)
{
    const char *text = NULL;
    size_t length = 0;
    const char first = lyap_json_peek(json);
    if (first == '"')
        return nonfinite(json, ret_value);
    if (first != '-' && !is_digit(first))
        return lyap_json_fail_type(json, "a number");
    const enum lyap_status status = lyap_json_number(json, &text, &length);
    if (status)
        return status;
    if (!lyap_text_double(text, length, ret_value)) {
        struct lyap_quote quote;
        return lyap_json_fail(json, "%s is beyond F64", lyap_quote(text, length, &quote));
    }
    return LYAP_OK;
}

enum lyap_status lyap_json_unsigned(struct lyap_json *json, uint64_t *ret_value)
{
    const char *text = NULL;
    struct lyap_quote quote;
    size_t length = 0;
    uint64_t value = 0;
    const enum lyap_status status = lyap_json_number(json, &text, &length);
    if (status)
        return status;
    for (size_t i = 0; i < length; i++) {
        const uint64_t digit = (uint64_t)(text[i] - '0');
        if (!is_digit(text[i]))
            return lyap_json_fail(json, "%s is not a non-negative integer",
                                  lyap_quote(text, length, &quote));
        if (value > (UINT64_MAX - digit) / 10)
            return lyap_json_fail(json, "%s does not fit 64 bits",
                                  lyap_quote(text, length, &quote));
        value = value * 10 + digit;
    }
    *ret_value = value;
    return LYAP_OK;
}

enum lyap_status lyap_json_literal(struct lyap_json *json, const char **ret_word)
{
    static const char *const words[] = { "true", "false", "null" };
    (void)lyap_json_peek(json);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const size_t length = strlen(words[i]);
        if (strncmp(json->text + json->at, words[i], length) == 0) {
            json->at += length;
            *ret_word = words[i];
            return LYAP_OK;
        }
    }
    return lyap_json_fail_type(json, "a value");
}

enum lyap_status lyap_json_end(struct lyap_json *json, const char *padding)
{
    while (json->at < json->length && json->text[json->at] && strchr(padding, json->text[json->at]))
        json->at++;
    if (json->at < json->length)
        return lyap_json_fail(json, "bytes follow the end of the JSON text");
    return LYAP_OK;
}
