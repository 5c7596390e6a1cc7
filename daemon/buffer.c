/* Growing strings. */
#include "buffer.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { CAPACITY_MIN = 256 };

/* Room for `more` bytes and the NUL. */
static bool text_reserve(struct lyap_buffer *text, size_t more)
{
    if (text->has_failed)
        return false;
    if (text->length + more + 1 <= text->capacity)
        return true;
    size_t capacity = text->capacity ? text->capacity : CAPACITY_MIN;
    while (capacity < text->length + more + 1)
        capacity *= 2;
    char *bytes = capacity <= LYAP_BUFFER_BYTES_MAX ? realloc(text->bytes, capacity) : NULL;
    if (!bytes) {
        text->has_failed = true;
        return false;
    }
    text->bytes = bytes;
    text->capacity = capacity;
    return true;
}

void lyap_buffer_add(struct lyap_buffer *text, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0)
        text->has_failed = true;
    else if (text_reserve(text, (size_t)length)) {
        (void)vsnprintf(text->bytes + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

void lyap_buffer_json_string(struct lyap_buffer *text, const char *value)
{
    if (!value) {
        lyap_buffer_add(text, "null");
        return;
    }
    lyap_buffer_add(text, "\"");
    for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
        if (*c == '"' || *c == '\\')
            lyap_buffer_add(text, "\\%c", *c);
        else if (*c < 0x20)
            lyap_buffer_add(text, "\\u%04x", *c);
        else
            lyap_buffer_add(text, "%c", *c);
    }
    lyap_buffer_add(text, "\"");
}

void lyap_buffer_json_number(struct lyap_buffer *text, double value)
{
    if (isnan(value)) {
        lyap_buffer_add(text, "\"NaN\"");
        return;
    }
    if (isinf(value)) {
        lyap_buffer_add(text, value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    char shorter[40];
    (void)snprintf(shorter, sizeof shorter, "%.15g", value);
    const bool is_exact = !(strtod(shorter, NULL) < value) && !(strtod(shorter, NULL) > value);
    if (is_exact)
        lyap_buffer_add(text, "%s", shorter);
    else
        lyap_buffer_add(text, "%.17g", value);
}

char *lyap_buffer_detach(struct lyap_buffer *text)
{
    if (!text_reserve(text, 0)) {
        lyap_buffer_release(text);
        return NULL;
    }
    text->bytes[text->length] = '\0';
    char *bytes = text->bytes;
    *text = (struct lyap_buffer)LYAP_BUFFER_NULL;
    return bytes;
}

void lyap_buffer_release(struct lyap_buffer *text)
{
    free(text->bytes);
    *text = (struct lyap_buffer)LYAP_BUFFER_NULL;
}
