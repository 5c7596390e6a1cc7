/* The declared layers: kinds, their fields, read into a network. */
#include "declare.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "lyap/limits.h"
#include "value.h"

/* What a field of a layer may be, and the type it is read into. */
enum form {
    FORM_NAME,       /* 1 to 256 bytes; uint32_t, an offset of text */
    FORM_NAMES,      /* list of names; struct lyap_layer_list */
    FORM_POSITIVE,   /* number > 0; double */
    FORM_COUNT,      /* integer >= 1; uint32_t */
    FORM_EXTENTS,    /* integer >= 1, or a list of up to 3; struct lyap_extents */
    FORM_PADDING,    /* integer >= 0, a list of up to 3, "same" or "valid"; struct lyap_extents */
    FORM_MODE,       /* torch's padding modes; uint32_t */
    FORM_STRUCTURE,  /* of a residual block; uint32_t */
    FORM_ACTIVATION, /* a name or {"lipschitz": x}; struct lyap_layer_activation */
};

#define BIT(kind) (1u << LYAP_LAYER_##kind)
enum {
    IS_CONV = BIT(CONV1D) | BIT(CONV2D) | BIT(CONV3D) | BIT(CONV_TRANSPOSE1D) |
              BIT(CONV_TRANSPOSE2D) | BIT(CONV_TRANSPOSE3D),
    IS_NORM = BIT(LAYERNORM) | BIT(RMSNORM) | BIT(GROUPNORM) | BIT(BATCHNORM),
    IS_POOL = BIT(MAXPOOL) | BIT(AVGPOOL),
    HAS_TENSOR = BIT(LINEAR) | IS_CONV | IS_NORM | BIT(ATTENTION) | BIT(EMBEDDING) | BIT(RESIDUAL) |
                 BIT(OTHER),
    LAYER_KEYS_MAX = 24
};

#define AT(field)  offsetof(struct lyap_layer, field)
#define PART(part) offsetof(struct lyap_layer, tensors[LYAP_LAYER_PART_##part])
static const struct {
    const char *key;
    enum form form;
    unsigned kinds;    /* that may have it */
    unsigned required; /* that must have it */
    size_t at;
} fields[] = {
    { "tensor", FORM_NAME, HAS_TENSOR, BIT(LINEAR) | IS_CONV | BIT(EMBEDDING), PART(WEIGHT) },
    { "bias", FORM_NAME, BIT(LINEAR) | IS_CONV | IS_NORM | BIT(RESIDUAL), 0, PART(BIAS) },
    { "activation", FORM_ACTIVATION, ~0u, BIT(ACTIVATION), AT(activation) },
    { "kernel", FORM_EXTENTS, IS_POOL, IS_POOL, AT(kernel) },
    { "stride", FORM_EXTENTS, IS_CONV | IS_POOL, 0, AT(stride) },
    { "padding", FORM_PADDING, IS_CONV | IS_POOL, 0, AT(padding) },
    { "padding_mode", FORM_MODE, IS_CONV, 0, AT(padding_mode) },
    { "dilation", FORM_EXTENTS, IS_CONV | BIT(MAXPOOL), 0, AT(dilation) },
    { "groups", FORM_COUNT, IS_CONV | BIT(GROUPNORM), BIT(GROUPNORM), AT(groups) },
    { "input", FORM_EXTENTS, IS_CONV, 0, AT(input) },
    { "eps", FORM_POSITIVE, IS_NORM, 0, AT(eps) },
    { "heads", FORM_COUNT, BIT(ATTENTION), 0, AT(heads) },
    { "query", FORM_NAME, BIT(ATTENTION), 0, PART(QUERY) },
    { "key", FORM_NAME, BIT(ATTENTION), 0, PART(KEY) },
    { "value", FORM_NAME, BIT(ATTENTION), 0, PART(VALUE) },
    { "output", FORM_NAME, BIT(ATTENTION), 0, PART(OUTPUT) },
    { "step", FORM_POSITIVE, BIT(RESIDUAL), 0, AT(step) },
    { "structure", FORM_STRUCTURE, BIT(RESIDUAL), 0, AT(structure) },
    { "inner", FORM_NAMES, BIT(RESIDUAL), 0, AT(inner) },
    { "shortcut", FORM_NAMES, BIT(RESIDUAL), 0, AT(shortcut) },
    { "from", FORM_NAME, ~0u, 0, AT(from_name) },
};
enum { FIELD_COUNT = sizeof fields / sizeof *fields };
static_assert(FIELD_COUNT + 2 <= LAYER_KEYS_MAX, "name and kind fit as well");
static_assert(LYAP_LAYER_KIND_COUNT <= 32, "a bit each");

static const char *const kind_names[] = {
#define NAME(name, wire, axes) wire,
    LYAP_LAYER_KIND_TABLE(NAME)
#undef NAME
};
static const char *const modes[] = {
    [LYAP_PADDING_ZEROS] = "zeros",
    [LYAP_PADDING_REFLECT] = "reflect",
    [LYAP_PADDING_REPLICATE] = "replicate",
    [LYAP_PADDING_CIRCULAR] = "circular",
};
static const char *const structures[] = {
    [LYAP_STRUCTURE_FREE] = "free",
    [LYAP_STRUCTURE_CONSTANT] = "constant",
    [LYAP_STRUCTURE_SYMMETRIC] = "symmetric",
    [LYAP_STRUCTURE_GATED] = "gated",
};
/* Those whose Lipschitz constant is known (SPEC 1.1); any other gives its own. */
static const char *const activations[] = {
#define NAME(name, wire, least, largest, derivation) wire,
    LYAP_ACTIVATION_TABLE(NAME)
#undef NAME
};

#define WORDS(table) (table), sizeof(table) / sizeof *(table)

/* One layer while it is read. */
struct reader {
    struct lyap_network *network;
    uint32_t index;
    unsigned kind; /* its bit */
    struct lyap_error *reterr;
};

static enum lyap_status name_read(const struct reader *reader, const json_t *value,
                                  const struct lyap_path *path, uint32_t *ret_offset)
{
    const char *name;
    const enum lyap_status status =
        lyap_value_string(value, path, LYAP_TENSOR_NAME_BYTES_MAX, &name, reader->reterr);
    return status ? status : lyap_network_add_text(reader->network, name, ret_offset);
}

static enum lyap_status names_read(const struct reader *reader, const json_t *value,
                                   const struct lyap_path *path, struct lyap_layer_list *list)
{
    enum lyap_status status = LYAP_OK;
    if (!json_is_array(value) || json_array_size(value) > 0)
        status = lyap_value_list(value, path, LYAP_LAYER_COUNT_MAX, reader->reterr);
    for (size_t i = 0; status == LYAP_OK && i < json_array_size(value); i++) {
        const struct lyap_path here = lyap_path_index(path, i);
        const char *name;
        status = lyap_value_string(json_array_get(value, i), &here, LYAP_TENSOR_NAME_BYTES_MAX,
                                   &name, reader->reterr);
        if (status == LYAP_OK)
            status = lyap_network_add_member(reader->network, name, list);
    }
    return status;
}

static enum lyap_status positive_read(const json_t *value, const struct lyap_path *path,
                                      double *ret_number, struct lyap_error *reterr)
{
    double number = 0;
    const enum lyap_status status = lyap_value_number(value, path, &number, reterr);
    if (status == LYAP_OK && !(number > 0))
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s is %.9g, but must be > 0", path->text,
                              number);
    if (status == LYAP_OK)
        *ret_number = number;
    return status;
}

static enum lyap_status count_read(const json_t *value, const struct lyap_path *path, int64_t low,
                                   uint32_t *ret_count, struct lyap_error *reterr)
{
    const struct lyap_value_range range = { low, INT32_MAX };
    int64_t count = 0;
    const enum lyap_status status = lyap_value_integer(value, path, range, &count, reterr);
    if (status == LYAP_OK)
        *ret_count = (uint32_t)count;
    return status;
}

static enum lyap_status extents_read(const json_t *value, const struct lyap_path *path, int64_t low,
                                     struct lyap_extents *ret_extents, struct lyap_error *reterr)
{
    struct lyap_extents extents = { .count = 1 };
    enum lyap_status status = LYAP_OK;
    if (json_is_array(value)) {
        status = lyap_value_list(value, path, LYAP_NETWORK_AXES_MAX, reterr);
        extents.count = (uint32_t)json_array_size(value);
        for (size_t i = 0; status == LYAP_OK && i < extents.count; i++) {
            const struct lyap_path here = lyap_path_index(path, i);
            status = count_read(json_array_get(value, i), &here, low, &extents.at[i], reterr);
        }
    } else {
        status = count_read(value, path, low, &extents.at[0], reterr);
    }
    if (status == LYAP_OK)
        *ret_extents = extents;
    return status;
}

static enum lyap_status padding_read(const json_t *value, const struct lyap_path *path,
                                     struct lyap_layer *layer, struct lyap_error *reterr)
{
    static const char *const words[] = { "same", "valid" };
    unsigned word = 0;
    if (!json_is_string(value))
        return extents_read(value, path, 0, &layer->padding, reterr);
    const enum lyap_status status = lyap_value_word(value, path, WORDS(words), &word, reterr);
    layer->is_padding_same = status == LYAP_OK && word == 0;
    return status;
}

static enum lyap_status word_read(const json_t *value, const struct lyap_path *path,
                                  const char *const *words, size_t word_count, uint32_t *ret_word,
                                  struct lyap_error *reterr)
{
    unsigned word = 0;
    const enum lyap_status status = lyap_value_word(value, path, words, word_count, &word, reterr);
    if (status == LYAP_OK)
        *ret_word = word;
    return status;
}

static enum lyap_status activation_read(json_t *value, const struct lyap_path *path,
                                        struct lyap_layer_activation *activation,
                                        struct lyap_error *reterr)
{
    static const char *const keys[] = { "lipschitz" };
    const struct lyap_path constant = lyap_path_key(path, keys[0]);
    activation->is_declared = true;
    if (!json_is_object(value)) {
        uint32_t word = 0;
        const enum lyap_status status = word_read(value, path, WORDS(activations), &word, reterr);
        activation->kind = (enum lyap_activation)word;
        activation->lipschitz = lyap_activation_lipschitz(activation->kind);
        activation->is_gate = lyap_activation_is_gate(activation->kind);
        return status;
    }
    const enum lyap_status status = lyap_value_keys(value, path, WORDS(keys), reterr);
    if (status)
        return status;
    const json_t *number = json_object_get(value, keys[0]);
    activation->is_gate = false; /* |phi'| <= x says nothing about its sign */
    return number ? positive_read(number, &constant, &activation->lipschitz, reterr)
                  : lyap_value_missing(path, keys[0], reterr);
}

static enum lyap_status field_read(const struct reader *reader, unsigned field, json_t *value,
                                   const struct lyap_path *path)
{
    struct lyap_layer *layer = &reader->network->layers[reader->index];
    void *target = (char *)layer + fields[field].at;
    switch (fields[field].form) {
    case FORM_NAME:
        return name_read(reader, value, path, target);
    case FORM_NAMES:
        return names_read(reader, value, path, target);
    case FORM_POSITIVE:
        return positive_read(value, path, target, reader->reterr);
    case FORM_COUNT:
        return count_read(value, path, 1, target, reader->reterr);
    case FORM_EXTENTS:
        return extents_read(value, path, 1, target, reader->reterr);
    case FORM_PADDING:
        return padding_read(value, path, layer, reader->reterr);
    case FORM_MODE:
        return word_read(value, path, WORDS(modes), target, reader->reterr);
    case FORM_STRUCTURE:
        return word_read(value, path, WORDS(structures), target, reader->reterr);
    case FORM_ACTIVATION:
        return activation_read(value, path, target, reader->reterr);
    }
    return LYAP_E_INTERNAL;
}

/* A free block needs its inner layers, a structured one the tensor that carries it. */
static enum lyap_status block_check(const struct lyap_layer *layer, const struct lyap_path *path,
                                    struct lyap_error *reterr)
{
    if (layer->kind != LYAP_LAYER_RESIDUAL)
        return LYAP_OK;
    const bool has_tensor = layer->tensors[LYAP_LAYER_PART_WEIGHT] != 0;
    if (layer->structure == LYAP_STRUCTURE_FREE && layer->inner.count == 0)
        return lyap_value_missing(path, "inner", reterr);
    if (layer->structure == LYAP_STRUCTURE_FREE && has_tensor)
        return lyap_error_set(reterr, LYAP_E_CONTRADICTION,
                              "%s.tensor belongs to a structure other than free", path->text);
    if (layer->structure != LYAP_STRUCTURE_FREE && !has_tensor)
        return lyap_value_missing(path, "tensor", reterr);
    if (layer->structure == LYAP_STRUCTURE_CONSTANT && layer->activation.is_declared)
        return lyap_error_set(reterr, LYAP_E_CONTRADICTION,
                              "%s.activation: the structure constant has none", path->text);
    const bool is_gated =
        layer->structure == LYAP_STRUCTURE_SYMMETRIC || layer->structure == LYAP_STRUCTURE_GATED;
    if (is_gated && !layer->activation.is_gate)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "%s.activation must have a derivative from 0 to 1 for the structure "
                              "%s",
                              path->text, structures[layer->structure]);
    return LYAP_OK;
}

static enum lyap_status layer_fields(const struct reader *reader, json_t *object,
                                     const struct lyap_path *path)
{
    const char *keys[LAYER_KEYS_MAX] = { "name", "kind" };
    size_t key_count = 2;
    for (unsigned i = 0; i < FIELD_COUNT; i++)
        if (fields[i].kinds & reader->kind)
            keys[key_count++] = fields[i].key;
    enum lyap_status status = lyap_value_keys(object, path, keys, key_count, reader->reterr);
    for (unsigned i = 0; status == LYAP_OK && i < FIELD_COUNT; i++) {
        json_t *value = json_object_get(object, fields[i].key);
        const struct lyap_path here = lyap_path_key(path, fields[i].key);
        if (value)
            status = field_read(reader, i, value, &here);
        else if (fields[i].required & reader->kind)
            status = lyap_value_missing(path, fields[i].key, reader->reterr);
    }
    if (status)
        return status;
    return block_check(&reader->network->layers[reader->index], path, reader->reterr);
}

static enum lyap_status layer_read(struct reader *reader, json_t *object,
                                   const struct lyap_path *path)
{
    struct lyap_layer *layer = &reader->network->layers[reader->index];
    const struct lyap_path name_path = lyap_path_key(path, "name");
    const struct lyap_path kind_path = lyap_path_key(path, "kind");
    enum lyap_status status = lyap_value_object(object, path, reader->reterr);
    if (status)
        return status;
    const json_t *name = json_object_get(object, "name");
    const json_t *kind = json_object_get(object, "kind");
    if (!name || !kind)
        return lyap_value_missing(path, name ? "kind" : "name", reader->reterr);
    status = name_read(reader, name, &name_path, &layer->name);
    if (status == LYAP_OK)
        status = word_read(kind, &kind_path, WORDS(kind_names), &layer->kind, reader->reterr);
    if (status)
        return status;
    reader->kind = 1u << layer->kind;
    return layer_fields(reader, object, path);
}

enum lyap_status lyap_declare_layers(json_t *value, struct lyap_network *ret_network,
                                     struct lyap_error *reterr)
{
    const struct lyap_path path = lyap_path_key(NULL, "layers");
    struct lyap_network network = LYAP_NETWORK_NULL;
    if (json_is_array(value) && json_array_size(value) == 0) {
        *ret_network = network;
        return LYAP_OK;
    }
    enum lyap_status status = lyap_value_list(value, &path, LYAP_LAYER_COUNT_MAX, reterr);
    if (status == LYAP_OK)
        status = lyap_network_init(&network, (uint32_t)json_array_size(value));
    for (uint32_t i = 0; status == LYAP_OK && i < network.count; i++) {
        const struct lyap_path here = lyap_path_index(&path, i);
        struct reader reader = { &network, i, 0, reterr };
        status = layer_read(&reader, json_array_get(value, i), &here);
    }
    if (status == LYAP_OK)
        status = lyap_network_compile(&network, reterr);
    if (status) {
        lyap_network_release(&network);
        return status;
    }
    *ret_network = network;
    return LYAP_OK;
}
