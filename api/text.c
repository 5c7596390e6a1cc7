/* The growing text buffer and the JSON writer. */
#include "text.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIRST_CAPACITY = 512 };
/* Integers below 10^15 print exactly as integers, without the digit search. */
static const double INTEGER_MAX = 1e15;
static const int64_t NS_PER_S = 1000000000;

void api_text_init(struct api_text *text, size_t bytes_max)
{
    *text = (struct api_text){ .bytes_max = bytes_max };
}

void api_text_release(struct api_text *text)
{
    free(text->bytes);
    *text = (struct api_text){ 0 };
}

void api_text_clear(struct api_text *text)
{
    text->length = 0;
}

char *api_text_detach(struct api_text *text, size_t *ret_length)
{
    char *bytes = text->bytes;
    *ret_length = text->length;
    text->bytes = NULL;
    text->length = text->capacity = 0;
    return bytes;
}

/* Room for `more` bytes; false with the status set otherwise. */
static bool reserve(struct api_text *text, size_t more)
{
    if (text->status != LYAP_OK)
        return false;
    if (more > text->bytes_max || text->length > text->bytes_max - more) {
        text->status = LYAP_E_LIMIT;
        return false;
    }
    const size_t needed = text->length + more;
    if (needed <= text->capacity)
        return true;
    size_t capacity = text->capacity ? text->capacity : FIRST_CAPACITY;
    while (capacity < needed)
        capacity *= 2;
    char *bytes = realloc(text->bytes, capacity);
    if (!bytes) {
        text->status = LYAP_E_NOMEM;
        return false;
    }
    text->bytes = bytes;
    text->capacity = capacity;
    return true;
}

void api_text_append(struct api_text *text, const void *bytes, size_t length)
{
    if (length == 0 || !reserve(text, length))
        return;
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->last = text->bytes[text->length - 1];
}

void api_text_puts(struct api_text *text, const char *string)
{
    api_text_append(text, string, strlen(string));
}

void api_text_printf(struct api_text *text, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    assert(length >= 0);
    if (length > 0 && reserve(text, (size_t)length + 1)) { /* + 1: vsnprintf terminates */
        (void)vsnprintf(text->bytes + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
        text->last = text->bytes[text->length - 1];
    }
    va_end(again);
}

/* A comma unless the value opens its container, follows its key or starts a line. */
static void separate(struct api_text *text)
{
    if (text->last != 0 && !strchr("{[:,\n", text->last))
        api_text_append(text, ",", 1);
}

void api_json_open(struct api_text *text, char bracket)
{
    assert(bracket == '{' || bracket == '[');
    separate(text);
    api_text_append(text, &bracket, 1);
}

void api_json_close(struct api_text *text, char bracket)
{
    assert(bracket == '}' || bracket == ']');
    api_text_append(text, &bracket, 1);
}

/* Length of the UTF-8 sequence at `s` (NUL-terminated), 0 when it is not one (RFC 3629). */
static size_t utf8_sequence(const unsigned char *s)
{
    static const struct {
        unsigned char first, last, second_first, second_last, length;
    } forms[] = {
        { 0x01, 0x7F, 0, 0, 1 },       { 0xC2, 0xDF, 0x80, 0xBF, 2 }, { 0xE0, 0xE0, 0xA0, 0xBF, 3 },
        { 0xE1, 0xEC, 0x80, 0xBF, 3 }, { 0xED, 0xED, 0x80, 0x9F, 3 }, { 0xEE, 0xEF, 0x80, 0xBF, 3 },
        { 0xF0, 0xF0, 0x90, 0xBF, 4 }, { 0xF1, 0xF3, 0x80, 0xBF, 4 }, { 0xF4, 0xF4, 0x80, 0x8F, 4 },
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (s[0] < forms[i].first || s[0] > forms[i].last)
            continue;
        for (size_t k = 1; k < forms[i].length; k++) {
            const unsigned char low = k == 1 ? forms[i].second_first : 0x80;
            const unsigned char high = k == 1 ? forms[i].second_last : 0xBF;
            if (s[k] < low || s[k] > high)
                return 0;
        }
        return forms[i].length;
    }
    return 0;
}

static void escape_one(struct api_text *text, unsigned char c)
{
    static const char plain[] = "\"\\\b\f\n\r\t", code[] = "\"\\bfnrt";
    const char *found = strchr(plain, c);
    if (found)
        api_text_append(text, (char[]){ '\\', code[found - plain] }, 2);
    else
        api_text_printf(text, "\\u%04x", c);
}

void api_json_string(struct api_text *text, const char *string)
{
    if (!string) {
        api_json_null(text);
        return;
    }
    separate(text);
    api_text_append(text, "\"", 1);
    const unsigned char *s = (const unsigned char *)string;
    while (*s) {
        const unsigned char *start = s;
        while (*s >= 0x20 && *s < 0x7F && *s != '"' && *s != '\\')
            s++;
        api_text_append(text, start, (size_t)(s - start));
        if (!*s)
            break;
        const size_t length = utf8_sequence(s);
        if (length == 0)
            api_text_puts(text, "\xEF\xBF\xBD");
        else if (length == 1)
            escape_one(text, *s);
        else
            api_text_append(text, s, length);
        s += length ? length : 1;
    }
    api_text_append(text, "\"", 1);
}

void api_json_key(struct api_text *text, const char *key)
{
    api_json_string(text, key);
    api_text_append(text, ":", 1);
}

void api_json_int(struct api_text *text, int64_t value)
{
    separate(text);
    api_text_printf(text, "%" PRId64, value);
}

void api_number_format(double value, char ret[API_NUMBER_BYTES])
{
    assert(isfinite(value));
    if (fabs(value) < INTEGER_MAX && trunc(value) == value && !(value == 0 && signbit(value))) {
        (void)snprintf(ret, API_NUMBER_BYTES, "%" PRId64, (int64_t)value);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        (void)snprintf(ret, API_NUMBER_BYTES, "%.*g", digits, value);
        if (digits == 17 || strtod(ret, NULL) == value)
            return;
    }
}

void api_json_number(struct api_text *text, double value)
{
    if (isfinite(value)) {
        char number[API_NUMBER_BYTES];
        api_number_format(value, number);
        separate(text);
        api_text_puts(text, number);
        return;
    }
    api_json_string(text, isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
}

void api_json_bool(struct api_text *text, bool value)
{
    api_json_raw(text, value ? "true" : "false");
}

void api_json_null(struct api_text *text)
{
    api_json_raw(text, "null");
}

void api_json_raw(struct api_text *text, const char *json)
{
    separate(text);
    api_text_puts(text, json ? json : "null");
}

void api_time_format(int64_t time_ns, char ret[API_TIME_BYTES])
{
    int64_t seconds = time_ns / NS_PER_S, fraction = time_ns % NS_PER_S;
    if (fraction < 0) {
        seconds--;
        fraction += NS_PER_S;
    }
    const time_t when = (time_t)seconds;
    struct tm parts;
    (void)gmtime_r(&when, &parts);
    size_t length = strftime(ret, API_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    int decimals = 9;
    while (decimals > 0 && fraction % 1000 == 0) {
        fraction /= 1000;
        decimals -= 3;
    }
    if (decimals > 0)
        length += (size_t)snprintf(ret + length, API_TIME_BYTES - length, ".%0*" PRId64, decimals,
                                   fraction);
    assert(length + 1 < API_TIME_BYTES);
    memcpy(ret + length, "Z", 2);
}

void api_json_time(struct api_text *text, int64_t time_ns)
{
    char when[API_TIME_BYTES];
    api_time_format(time_ns, when);
    api_json_string(text, when);
}
