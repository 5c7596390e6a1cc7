/* The declared layers: kinds, their fields, references between them. */
#include "declare.h"

#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/limits.h"
#include "lyap/text.h"
#include "value.h"

/* What a field of a layer may be. */
enum form {
    FORM_NAME,       /* 1 to 256 bytes */
    FORM_NAMES,      /* list of names */
    FORM_POSITIVE,   /* number > 0 */
    FORM_COUNT,      /* integer >= 1 */
    FORM_EXTENTS,    /* integer >= 1, or a list of up to 3 */
    FORM_PADDING,    /* integer >= 0, a list of up to 3, "same" or "valid" */
    FORM_MODE,       /* torch's padding modes */
    FORM_ACTIVATION, /* a name or {"lipschitz": x} */
};

enum {
    IS_LINEAR = 1u << 0,
    IS_CONV = 1u << 1,
    IS_NORM = 1u << 2,
    IS_ATTENTION = 1u << 3,
    IS_EMBEDDING = 1u << 4,
    IS_ACTIVATION = 1u << 5,
    IS_RESIDUAL = 1u << 6,
    IS_OTHER = 1u << 7,
    HAS_TENSOR = IS_LINEAR | IS_CONV | IS_NORM | IS_ATTENTION | IS_EMBEDDING | IS_OTHER,
    EXTENTS_MAX = 3,
    LAYER_KEYS_MAX = 20
};

static const struct {
    const char *key;
    enum form form;
    unsigned kinds;    /* that may have it */
    unsigned required; /* that must have it */
} fields[] = {
    { "tensor", FORM_NAME, HAS_TENSOR, IS_LINEAR | IS_CONV | IS_EMBEDDING },
    { "bias", FORM_NAME, IS_LINEAR | IS_CONV | IS_NORM, 0 },
    { "activation", FORM_ACTIVATION, ~0u & ~(unsigned)IS_RESIDUAL, IS_ACTIVATION },
    { "stride", FORM_EXTENTS, IS_CONV, 0 },
    { "padding", FORM_PADDING, IS_CONV, 0 },
    { "padding_mode", FORM_MODE, IS_CONV, 0 },
    { "dilation", FORM_EXTENTS, IS_CONV, 0 },
    { "groups", FORM_COUNT, IS_CONV, 0 },
    { "input", FORM_EXTENTS, IS_CONV, 0 },
    { "eps", FORM_POSITIVE, IS_NORM, 0 },
    { "heads", FORM_COUNT, IS_ATTENTION, 0 },
    { "query", FORM_NAME, IS_ATTENTION, 0 },
    { "key", FORM_NAME, IS_ATTENTION, 0 },
    { "value", FORM_NAME, IS_ATTENTION, 0 },
    { "output", FORM_NAME, IS_ATTENTION, 0 },
    { "step", FORM_POSITIVE, IS_RESIDUAL, 0 },
    { "inner", FORM_NAMES, IS_RESIDUAL, IS_RESIDUAL },
};
enum { FIELD_COUNT = sizeof fields / sizeof *fields };

static const char *const kind_names[] = { "linear",    "conv1d",     "conv2d",   "conv3d",
                                          "embedding", "layernorm",  "rmsnorm",  "batchnorm",
                                          "attention", "activation", "residual", "other" };
static const unsigned kind_bits[] = { IS_LINEAR,    IS_CONV,       IS_CONV,     IS_CONV,
                                      IS_EMBEDDING, IS_NORM,       IS_NORM,     IS_NORM,
                                      IS_ATTENTION, IS_ACTIVATION, IS_RESIDUAL, IS_OTHER };
static const char *const modes[] = { "zeros", "reflect", "replicate", "circular" };
/* Those whose Lipschitz constant is known (SPEC 1.1); any other gives its own. */
static const char *const activations[] = { "identity", "relu", "leaky_relu", "tanh",
                                           "sigmoid",  "gelu", "silu",       "softplus" };

#define WORDS(table) (table), sizeof(table) / sizeof *(table)

static enum lyap_status positive_check(const json_t *value, const struct lyap_path *path,
                                       struct lyap_error *reterr)
{
    double number;
    const enum lyap_status status = lyap_value_number(value, path, &number, reterr);
    if (status == LYAP_OK && !(number > 0))
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s is %.9g, but must be > 0", path->text,
                              number);
    return status;
}

static enum lyap_status extents_check(const json_t *value, const struct lyap_path *path,
                                      int64_t low, struct lyap_error *reterr)
{
    const struct lyap_value_range range = { low, INT32_MAX };
    int64_t ignored;
    if (!json_is_array(value))
        return lyap_value_integer(value, path, range, &ignored, reterr);
    enum lyap_status status = lyap_value_list(value, path, EXTENTS_MAX, reterr);
    for (size_t i = 0; status == LYAP_OK && i < json_array_size(value); i++) {
        const struct lyap_path here = lyap_path_index(path, i);
        status = lyap_value_integer(json_array_get(value, i), &here, range, &ignored, reterr);
    }
    return status;
}

static enum lyap_status padding_check(const json_t *value, const struct lyap_path *path,
                                      struct lyap_error *reterr)
{
    static const char *const words[] = { "same", "valid" };
    unsigned ignored;
    return json_is_string(value) ? lyap_value_word(value, path, WORDS(words), &ignored, reterr)
                                 : extents_check(value, path, 0, reterr);
}

static enum lyap_status activation_check(json_t *value, const struct lyap_path *path,
                                         struct lyap_error *reterr)
{
    static const char *const keys[] = { "lipschitz" };
    const struct lyap_path constant = lyap_path_key(path, keys[0]);
    unsigned ignored;
    if (!json_is_object(value))
        return lyap_value_word(value, path, WORDS(activations), &ignored, reterr);
    const enum lyap_status status = lyap_value_keys(value, path, WORDS(keys), reterr);
    if (status)
        return status;
    const json_t *number = json_object_get(value, keys[0]);
    return number ? positive_check(number, &constant, reterr)
                  : lyap_value_missing(path, keys[0], reterr);
}

static enum lyap_status names_check(const json_t *value, const struct lyap_path *path,
                                    struct lyap_error *reterr)
{
    enum lyap_status status = lyap_value_list(value, path, LYAP_LAYER_COUNT_MAX, reterr);
    for (size_t i = 0; status == LYAP_OK && i < json_array_size(value); i++) {
        const struct lyap_path here = lyap_path_index(path, i);
        const char *ignored;
        status = lyap_value_string(json_array_get(value, i), &here, LYAP_TENSOR_NAME_BYTES_MAX,
                                   &ignored, reterr);
    }
    return status;
}

static enum lyap_status form_check(enum form form, json_t *value, const struct lyap_path *path,
                                   struct lyap_error *reterr)
{
    const struct lyap_value_range counts = { 1, INT32_MAX };
    const char *name;
    unsigned word;
    int64_t count;
    switch (form) {
    case FORM_NAME:
        return lyap_value_string(value, path, LYAP_TENSOR_NAME_BYTES_MAX, &name, reterr);
    case FORM_NAMES:
        return names_check(value, path, reterr);
    case FORM_POSITIVE:
        return positive_check(value, path, reterr);
    case FORM_COUNT:
        return lyap_value_integer(value, path, counts, &count, reterr);
    case FORM_EXTENTS:
        return extents_check(value, path, 1, reterr);
    case FORM_PADDING:
        return padding_check(value, path, reterr);
    case FORM_MODE:
        return lyap_value_word(value, path, WORDS(modes), &word, reterr);
    case FORM_ACTIVATION:
        return activation_check(value, path, reterr);
    }
    return LYAP_E_INTERNAL;
}

static enum lyap_status layer_fields(json_t *layer, const struct lyap_path *path, unsigned kind,
                                     struct lyap_error *reterr)
{
    const char *keys[LAYER_KEYS_MAX] = { "name", "kind" };
    size_t key_count = 2;
    for (unsigned i = 0; i < FIELD_COUNT; i++)
        if (fields[i].kinds & kind)
            keys[key_count++] = fields[i].key;
    enum lyap_status status = lyap_value_keys(layer, path, keys, key_count, reterr);
    for (unsigned i = 0; status == LYAP_OK && i < FIELD_COUNT; i++) {
        json_t *value = json_object_get(layer, fields[i].key);
        const struct lyap_path here = lyap_path_key(path, fields[i].key);
        if (value)
            status = form_check(fields[i].form, value, &here, reterr);
        else if (fields[i].required & kind)
            status = lyap_value_missing(path, fields[i].key, reterr);
    }
    return status;
}

static enum lyap_status layer_check(json_t *layer, const struct lyap_path *path,
                                    const char **ret_name, struct lyap_error *reterr)
{
    const struct lyap_path name_path = lyap_path_key(path, "name");
    const struct lyap_path kind_path = lyap_path_key(path, "kind");
    unsigned kind = 0;
    enum lyap_status status = lyap_value_object(layer, path, reterr);
    if (status)
        return status;
    const json_t *name = json_object_get(layer, "name");
    const json_t *kind_value = json_object_get(layer, "kind");
    if (!name || !kind_value)
        return lyap_value_missing(path, name ? "kind" : "name", reterr);
    status = lyap_value_string(name, &name_path, LYAP_TENSOR_NAME_BYTES_MAX, ret_name, reterr);
    if (status == LYAP_OK)
        status = lyap_value_word(kind_value, &kind_path, WORDS(kind_names), &kind, reterr);
    return status ? status : layer_fields(layer, path, kind_bits[kind], reterr);
}

static int compare_names(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static enum lyap_status names_unique(const char **names, size_t count, struct lyap_error *reterr)
{
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 1; i < count; i++) {
        struct lyap_quote quote;
        if (strcmp(names[i - 1], names[i]) == 0)
            return lyap_error_set(reterr, LYAP_E_INVALID, "layers: the name %s occurs twice",
                                  lyap_quote_string(names[i], &quote));
    }
    return LYAP_OK;
}

/* The inner layers of residual blocks exist. `names` are sorted. */
static enum lyap_status references_check(const json_t *layers, const char **names, size_t count,
                                         struct lyap_error *reterr)
{
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *inner = json_object_get(json_array_get(layers, i), "inner");
        for (size_t j = 0; j < json_array_size(inner); j++) {
            const char *name = json_string_value(json_array_get(inner, j));
            struct lyap_quote quote;
            if (!bsearch(&name, names, count, sizeof *names, compare_names))
                return lyap_error_set(reterr, LYAP_E_INVALID,
                                      "layers[%zu].inner names %s, which is no declared layer", i,
                                      lyap_quote_string(name, &quote));
        }
    }
    return LYAP_OK;
}

enum lyap_status lyap_declare_layers(json_t *value, struct lyap_error *reterr)
{
    const struct lyap_path path = lyap_path_key(NULL, "layers");
    if (json_is_array(value) && json_array_size(value) == 0)
        return LYAP_OK;
    enum lyap_status status = lyap_value_list(value, &path, LYAP_LAYER_COUNT_MAX, reterr);
    if (status)
        return status;
    const size_t count = json_array_size(value);
    const char **names = lyap_alloc_array(count, sizeof *names);
    if (!names)
        return LYAP_E_NOMEM;
    for (size_t i = 0; status == LYAP_OK && i < count; i++) {
        const struct lyap_path here = lyap_path_index(&path, i);
        status = layer_check(json_array_get(value, i), &here, &names[i], reterr);
    }
    if (status == LYAP_OK)
        status = names_unique(names, count, reterr);
    if (status == LYAP_OK)
        status = references_check(value, names, count, reterr);
    lyap_free(names);
    return status;
}
