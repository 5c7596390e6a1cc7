/* Checked values out of a JSON tree. */
#include "value.h"

#include <stdio.h>
#include <string.h>

#include "lyap/text.h"

struct lyap_path lyap_path_key(const struct lyap_path *parent, const char *key)
{
    struct lyap_path path;
    (void)snprintf(path.text, sizeof path.text, "%.120s%s%s", parent ? parent->text : "",
                   parent ? "." : "", key);
    return path;
}

struct lyap_path lyap_path_index(const struct lyap_path *parent, size_t index)
{
    struct lyap_path path;
    (void)snprintf(path.text, sizeof path.text, "%.120s[%zu]", parent->text, index);
    return path;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    default:
        return "null";
    }
}

static enum lyap_status wrong_type(const json_t *value, const struct lyap_path *path,
                                   const char *wanted, struct lyap_error *reterr)
{
    return lyap_error_set(reterr, LYAP_E_INVALID, "%s is %s, but must be %s", path->text,
                          type_name(value), wanted);
}

enum lyap_status lyap_value_number(const json_t *value, const struct lyap_path *path, double *ret,
                                   struct lyap_error *reterr)
{
    if (!json_is_number(value))
        return wrong_type(value, path, "a number", reterr);
    *ret = json_number_value(value);
    return LYAP_OK;
}

enum lyap_status lyap_value_bool(const json_t *value, const struct lyap_path *path, bool *ret,
                                 struct lyap_error *reterr)
{
    if (!json_is_boolean(value))
        return wrong_type(value, path, "true or false", reterr);
    *ret = json_is_true(value);
    return LYAP_OK;
}

enum lyap_status lyap_value_integer(const json_t *value, const struct lyap_path *path,
                                    struct lyap_value_range range, int64_t *ret,
                                    struct lyap_error *reterr)
{
    if (!json_is_integer(value))
        return wrong_type(value, path, "an integer", reterr);
    const int64_t number = json_integer_value(value);
    if (number < range.low || number > range.high)
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s is %lld, but must be from %lld to %lld",
                              path->text, (long long)number, (long long)range.low,
                              (long long)range.high);
    *ret = number;
    return LYAP_OK;
}

enum lyap_status lyap_value_string(const json_t *value, const struct lyap_path *path,
                                   size_t bytes_max, const char **ret, struct lyap_error *reterr)
{
    if (!json_is_string(value))
        return wrong_type(value, path, "a string", reterr);
    const size_t length = json_string_length(value);
    if (length == 0 || length > bytes_max)
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s has %zu bytes, but must have 1 to %zu",
                              path->text, length, bytes_max);
    *ret = json_string_value(value);
    return LYAP_OK;
}

/* "a, b, c", cut to fit. */
static void words_join(const char *const *words, size_t count, char *ret, size_t bytes)
{
    size_t used = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < count && used < bytes; i++)
        used += (size_t)snprintf(ret + used, bytes - used, "%s%s", i > 0 ? ", " : "", words[i]);
}

static int word_find(const char *const *words, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(words[i], word) == 0)
            return (int)i;
    return -1;
}

enum lyap_status lyap_value_word(const json_t *value, const struct lyap_path *path,
                                 const char *const *words, size_t word_count, unsigned *ret,
                                 struct lyap_error *reterr)
{
    char list[LYAP_ERROR_TEXT_BYTES];
    struct lyap_quote quote;
    words_join(words, word_count, list, sizeof list);
    if (!json_is_string(value))
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s is %s, but must be one of %s", path->text,
                              type_name(value), list);
    const int found = word_find(words, word_count, json_string_value(value));
    if (found < 0)
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s is %s, but must be one of %s", path->text,
                              lyap_quote_string(json_string_value(value), &quote), list);
    *ret = (unsigned)found;
    return LYAP_OK;
}

enum lyap_status lyap_value_object(const json_t *value, const struct lyap_path *path,
                                   struct lyap_error *reterr)
{
    return json_is_object(value) ? LYAP_OK : wrong_type(value, path, "an object", reterr);
}

enum lyap_status lyap_value_list(const json_t *value, const struct lyap_path *path,
                                 size_t count_max, struct lyap_error *reterr)
{
    if (!json_is_array(value))
        return wrong_type(value, path, "a list", reterr);
    const size_t count = json_array_size(value);
    if (count == 0)
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s is empty", path->text);
    if (count > count_max)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "%s has %zu entries, the limit is %zu",
                              path->text, count, count_max);
    return LYAP_OK;
}

enum lyap_status lyap_value_keys(json_t *object, const struct lyap_path *path,
                                 const char *const *keys, size_t key_count,
                                 struct lyap_error *reterr)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        char list[LYAP_ERROR_TEXT_BYTES];
        struct lyap_quote quote;
        if (word_find(keys, key_count, key) >= 0)
            continue;
        words_join(keys, key_count, list, sizeof list);
        return lyap_error_set(reterr, LYAP_E_UNKNOWN_FIELD, "%s has an unknown field %s; known: %s",
                              path->text, lyap_quote_string(key, &quote), list);
    }
    return LYAP_OK;
}

enum lyap_status lyap_value_missing(const struct lyap_path *path, const char *key,
                                    struct lyap_error *reterr)
{
    return lyap_error_set(reterr, LYAP_E_MISSING_FIELD, "%s.%s is missing", path->text, key);
}
