/* JSON text to tree and back. The text that comes out is stored, compared and shown to people;
 * jansson would print 0.1 with 17 digits. */
#include "tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decoder.h"
#include "json.h"
#include "lyap/alloc.h"
#include "lyap/text.h"

/* A reader and the number of values it made: a tree costs some hundred bytes for each. */
struct builder {
    struct lyap_json json;
    uint32_t values;
};

static enum lyap_status value_build(struct builder *builder, json_t **ret_value);

static enum lyap_status object_build(struct builder *builder, json_t *object)
{
    struct lyap_json *json = &builder->json;
    char *key = NULL;
    enum lyap_status status = lyap_json_open(json, '{');
    while (status == LYAP_OK) {
        json_t *value = NULL;
        struct lyap_quote quote;
        status = lyap_json_key(json, &key);
        if (status || !key)
            break;
        if (json_object_get(object, key))
            return lyap_json_fail(json, "key %s occurs twice", lyap_quote_string(key, &quote));
        status = value_build(builder, &value);
        if (status == LYAP_OK && json_object_set_new_nocheck(object, key, value) != 0)
            status = LYAP_E_NOMEM;
    }
    return status;
}

static enum lyap_status array_build(struct builder *builder, json_t *array)
{
    bool is_more = false;
    enum lyap_status status = lyap_json_open(&builder->json, '[');
    while (status == LYAP_OK) {
        json_t *value = NULL;
        status = lyap_json_more(&builder->json, &is_more);
        if (status || !is_more)
            break;
        status = value_build(builder, &value);
        if (status == LYAP_OK && json_array_append_new(array, value) != 0)
            status = LYAP_E_NOMEM;
    }
    return status;
}

static enum lyap_status number_build(struct lyap_json *json, json_t **ret_value)
{
    const char *text;
    struct lyap_quote quote;
    size_t length;
    int64_t integer;
    double real;
    const enum lyap_status status = lyap_json_number(json, &text, &length);
    if (status)
        return status;
    /* At the ends of int64_t the integer may be a saturated one. */
    if (lyap_text_integer(text, length, &integer) && integer < INT64_MAX && integer > -INT64_MAX)
        *ret_value = json_integer(integer);
    else if (lyap_text_double(text, length, &real))
        *ret_value = json_real(real);
    else
        return lyap_json_fail(json, "%s is beyond F64", lyap_quote(text, length, &quote));
    return LYAP_OK;
}

static enum lyap_status scalar_build(struct lyap_json *json, json_t **ret_value)
{
    const char *word;
    char *string;
    enum lyap_status status;
    switch (lyap_json_peek(json)) {
    case '"':
        status = lyap_json_string(json, &string);
        if (status == LYAP_OK)
            *ret_value = json_string_nocheck(string);
        return status;
    case 't':
    case 'f':
    case 'n':
        status = lyap_json_literal(json, &word);
        if (status == LYAP_OK)
            *ret_value = word[0] == 'n' ? json_null() : json_boolean(word[0] == 't');
        return status;
    default:
        return number_build(json, ret_value);
    }
}

/* Recursion is bounded by the reader's LYAP_JSON_DEPTH_MAX. */
static enum lyap_status value_build(struct builder *builder, json_t **ret_value)
{
    const char first = lyap_json_peek(&builder->json);
    json_t *value = NULL;
    enum lyap_status status;
    if (++builder->values > LYAP_JSON_VALUES_MAX)
        return lyap_error_set(builder->json.reterr, LYAP_E_LIMIT, "%s has more than %d values",
                              builder->json.where, LYAP_JSON_VALUES_MAX);
    if (first == '{' || first == '[') {
        value = first == '{' ? json_object() : json_array();
        if (!value)
            return LYAP_E_NOMEM;
        status = first == '{' ? object_build(builder, value) : array_build(builder, value);
    } else {
        status = scalar_build(&builder->json, &value);
        if (status == LYAP_OK && !value)
            status = LYAP_E_NOMEM;
    }
    if (status) {
        json_decref(value);
        return status;
    }
    *ret_value = value;
    return LYAP_OK;
}

enum lyap_status lyap_tree_load(const char *text, uint64_t length, const char *where,
                                json_t **ret_object, struct lyap_error *reterr)
{
    struct lyap_wire_buffer copy = { 0 };
    struct builder builder = { .values = 0 };
    json_t *object = NULL;
    if (length > LYAP_JSON_BYTES_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "%s has %llu bytes, the limit is %d", where,
                              (unsigned long long)length, LYAP_JSON_BYTES_MAX);
    enum lyap_status status = lyap_wire_buffer_append(&copy, text, length);
    if (status)
        return status;
    lyap_json_init(&builder.json, copy.text, copy.length, where, reterr);
    if (lyap_json_peek(&builder.json) != '{')
        status = lyap_json_fail_type(&builder.json, "an object");
    if (status == LYAP_OK)
        status = value_build(&builder, &object);
    if (status == LYAP_OK)
        status = lyap_json_end(&builder.json, " \t\n\r");
    lyap_free(copy.text);
    if (status) {
        json_decref(object);
        return status;
    }
    *ret_object = object;
    return LYAP_OK;
}

static enum lyap_status put(struct lyap_wire_buffer *out, const char *text)
{
    return lyap_wire_buffer_append(out, text, strlen(text));
}

static enum lyap_status put_string(struct lyap_wire_buffer *out, const char *text)
{
    enum lyap_status status = put(out, "\"");
    for (; status == LYAP_OK && *text; text++) {
        const unsigned char c = (unsigned char)*text;
        char escape[8];
        if (c == '"' || c == '\\') {
            (void)snprintf(escape, sizeof escape, "\\%c", c);
            status = put(out, escape);
        } else if (c < 0x20) {
            (void)snprintf(escape, sizeof escape, "\\u%04x", c);
            status = put(out, escape);
        } else {
            status = lyap_wire_buffer_append(out, text, 1);
        }
    }
    return status ? status : put(out, "\"");
}

static enum lyap_status put_scalar(struct lyap_wire_buffer *out, const json_t *value)
{
    struct lyap_quote number;
    switch (json_typeof(value)) {
    case JSON_STRING:
        return put_string(out, json_string_value(value));
    case JSON_INTEGER:
        (void)snprintf(number.text, sizeof number.text, "%lld",
                       (long long)json_integer_value(value));
        return put(out, number.text);
    case JSON_REAL: /* -0.0 would come back as the integer 0 */
        return put(out, json_real_value(value) == 0
                            ? "0"
                            : lyap_quote_double(json_real_value(value), &number));
    case JSON_TRUE:
        return put(out, "true");
    case JSON_FALSE:
        return put(out, "false");
    default:
        return put(out, "null");
    }
}

static int compare_keys(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static enum lyap_status put_value(struct lyap_wire_buffer *out, json_t *value);

static enum lyap_status put_object(struct lyap_wire_buffer *out, json_t *object)
{
    size_t count = 0;
    const char *key;
    json_t *member;
    const char **keys = lyap_alloc_array(json_object_size(object), sizeof *keys);
    if (!keys)
        return LYAP_E_NOMEM;
    json_object_foreach(object, key, member) keys[count++] = key;
    qsort(keys, count, sizeof *keys, compare_keys);
    enum lyap_status status = put(out, "{");
    for (size_t i = 0; status == LYAP_OK && i < count; i++) {
        if (i > 0)
            status = put(out, ",");
        if (status == LYAP_OK)
            status = put_string(out, keys[i]);
        if (status == LYAP_OK)
            status = put(out, ":");
        if (status == LYAP_OK)
            status = put_value(out, json_object_get(object, keys[i]));
    }
    lyap_free(keys);
    return status ? status : put(out, "}");
}

static enum lyap_status put_array(struct lyap_wire_buffer *out, const json_t *array)
{
    enum lyap_status status = put(out, "[");
    for (size_t i = 0; status == LYAP_OK && i < json_array_size(array); i++) {
        if (i > 0)
            status = put(out, ",");
        if (status == LYAP_OK)
            status = put_value(out, json_array_get(array, i));
    }
    return status ? status : put(out, "]");
}

/* Recursion is bounded: the text was refused beyond LYAP_JSON_DEPTH_MAX. */
static enum lyap_status put_value(struct lyap_wire_buffer *out, json_t *value)
{
    if (json_is_object(value))
        return put_object(out, value);
    if (json_is_array(value))
        return put_array(out, value);
    return put_scalar(out, value);
}

enum lyap_status lyap_tree_text(json_t *value, char **ret_json)
{
    struct lyap_wire_buffer out = { 0 };
    const enum lyap_status status = put_value(&out, value);
    if (status) {
        lyap_free(out.text);
        return status;
    }
    *ret_json = out.text;
    return LYAP_OK;
}
