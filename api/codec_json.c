/* Strict reading of JSON objects. */
#include "codec_json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/limits.h"

/* Depth is counted before parsing: jansson's own limit is 2048 levels of recursion. */
static bool depth_is_bounded(const char *json, size_t length)
{
    int depth = 0;
    bool is_string = false;
    for (size_t i = 0; i < length; i++) {
        const char c = json[i];
        if (is_string) {
            i += c == '\\';
            is_string = c != '"';
            continue;
        }
        is_string = c == '"';
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        if (depth > LYAP_JSON_DEPTH_MAX)
            return false;
    }
    return true;
}

enum lyap_status api_json_object(const char *json, size_t length, json_t **ret_object,
                                 struct lyap_error *reterr)
{
    json_error_t error;
    if (!depth_is_bounded(json, length))
        return lyap_error_set(reterr, LYAP_E_LIMIT, "the JSON nests deeper than %d levels",
                              LYAP_JSON_DEPTH_MAX);
    json_t *value = json_loadb(json ? json : "", length, JSON_REJECT_DUPLICATES, &error);
    if (!value && json_error_code(&error) == json_error_out_of_memory)
        return LYAP_E_NOMEM;
    if (!value)
        return lyap_error_set(reterr, LYAP_E_FORMAT, "JSON, line %d column %d: %s", error.line,
                              error.column, error.text);
    if (!json_is_object(value)) {
        json_decref(value);
        return lyap_error_set(reterr, LYAP_E_FORMAT, "the body is not a JSON object");
    }
    *ret_object = value;
    return LYAP_OK;
}

static enum lyap_status unknown_field(const char *key, const struct api_json_field *fields,
                                      size_t count, struct lyap_error *reterr)
{
    char known[224];
    size_t length = 0;
    for (size_t i = 0; i < count && length < sizeof known; i++)
        length += (size_t)snprintf(known + length, sizeof known - length, "%s%s", i ? ", " : "",
                                   fields[i].key);
    return lyap_error_set(reterr, LYAP_E_UNKNOWN_FIELD, "field '%.48s' is not known; known: %s",
                          key, known);
}

enum lyap_status api_json_fields(const json_t *object, const struct api_json_field *fields,
                                 size_t count, void *target, struct lyap_error *reterr)
{
    json_t *walked = (json_t *)(uintptr_t)object; /* jansson's iterator takes no const */
    for (void *at = json_object_iter(walked); at; at = json_object_iter_next(walked, at)) {
        const char *key = json_object_iter_key(at);
        size_t i = 0;
        while (i < count && strcmp(fields[i].key, key) != 0)
            i++;
        if (i == count)
            return unknown_field(key, fields, count, reterr);
        const enum lyap_status status =
            fields[i].set(target, key, json_object_iter_value(at), reterr);
        if (status != LYAP_OK)
            return status;
    }
    return LYAP_OK;
}

enum lyap_status api_json_get_string(const char *key, const json_t *value, size_t bytes_max,
                                     const char **ret, struct lyap_error *reterr)
{
    if (!json_is_string(value))
        return lyap_error_set(reterr, LYAP_E_INVALID, "field '%s' must be a string", key);
    if (json_string_length(value) > bytes_max)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "field '%s' has %zu bytes; at most %zu", key,
                              json_string_length(value), bytes_max);
    *ret = json_string_value(value);
    return LYAP_OK;
}

enum lyap_status api_json_get_int(const char *key, const json_t *value, struct api_json_range range,
                                  int64_t *ret, struct lyap_error *reterr)
{
    if (!json_is_integer(value) || json_integer_value(value) < range.min ||
        json_integer_value(value) > range.max)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' must be an integer from %" PRId64 " to %" PRId64, key,
                              range.min, range.max);
    *ret = json_integer_value(value);
    return LYAP_OK;
}

enum lyap_status api_json_get_number(const char *key, const json_t *value, double *ret,
                                     struct lyap_error *reterr)
{
    const char *word = json_string_value(value);
    if (json_is_number(value))
        *ret = json_number_value(value);
    else if (word && strcmp(word, "NaN") == 0)
        *ret = NAN;
    else if (word && strcmp(word, "Infinity") == 0)
        *ret = INFINITY;
    else if (word && strcmp(word, "-Infinity") == 0)
        *ret = -INFINITY;
    else
        return lyap_error_set(reterr, LYAP_E_INVALID, "field '%s' must be a number", key);
    return LYAP_OK;
}

enum lyap_status api_json_get_bool(const char *key, const json_t *value, bool *ret,
                                   struct lyap_error *reterr)
{
    if (!json_is_boolean(value))
        return lyap_error_set(reterr, LYAP_E_INVALID, "field '%s' must be true or false", key);
    *ret = json_is_true(value);
    return LYAP_OK;
}

enum lyap_status api_json_get_labels(const char *key, const json_t *value, char **ret_json,
                                     struct lyap_error *reterr)
{
    if (!json_is_object(value))
        return lyap_error_set(reterr, LYAP_E_INVALID, "field '%s' must be an object of strings",
                              key);
    if (json_object_size(value) > LYAP_LABEL_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "field '%s' has %zu labels; at most %d", key,
                              json_object_size(value), LYAP_LABEL_COUNT_MAX);
    json_t *walked = (json_t *)(uintptr_t)value;
    for (void *at = json_object_iter(walked); at; at = json_object_iter_next(walked, at)) {
        const char *label = json_object_iter_key(at), *text;
        if (*label == '\0' || strlen(label) > LYAP_LABEL_BYTES_MAX)
            return lyap_error_set(reterr, LYAP_E_LIMIT,
                                  "field '%s': a label's key has 1 to %d bytes", key,
                                  LYAP_LABEL_BYTES_MAX);
        const enum lyap_status status = api_json_get_string(label, json_object_iter_value(at),
                                                            LYAP_LABEL_BYTES_MAX, &text, reterr);
        if (status != LYAP_OK)
            return status;
    }
    *ret_json = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
    return *ret_json ? LYAP_OK : LYAP_E_NOMEM;
}
