/* Run declarations: the PUT body merged over what is stored. */
#include "declare.h"

#include <string.h>

#include "lyap/alloc.h"
#include "lyap/wire.h"
#include "tree.h"
#include "value.h"

#define WORDS(table) (table), sizeof(table) / sizeof *(table)

/* Fields of the declaration, and those that PUT handles itself. */
static const char *const own_keys[] = { "optimizer", "tensors",   "layers", "data",
                                        "windows",   "retention", "steps" };
static const char *const all_keys[] = { "optimizer", "tensors",     "layers",    "data",
                                        "windows",   "steps",       "retention", "labels",
                                        "attempt",   "attempt_key", "ended" };

/* Every field of `object` replaces the one of `merged`; null takes it back. */
static enum lyap_status merge(json_t *merged, json_t *object, struct lyap_error *reterr)
{
    const struct lyap_path path = { "declaration" };
    const enum lyap_status status = lyap_value_keys(object, &path, WORDS(all_keys), reterr);
    for (size_t i = 0; status == LYAP_OK && i < sizeof own_keys / sizeof *own_keys; i++) {
        json_t *value = json_object_get(object, own_keys[i]);
        if (!value)
            continue;
        if (json_is_null(value))
            (void)json_object_del(merged, own_keys[i]);
        else if (json_object_set(merged, own_keys[i], value) != 0)
            return LYAP_E_NOMEM;
    }
    return status;
}

static enum lyap_status shape_read(const json_t *list, const struct lyap_path *path,
                                   struct lyap_tensor *tensor, struct lyap_error *reterr)
{
    const struct lyap_value_range range = { 0, LYAP_TENSOR_ELEMENTS_MAX };
    enum lyap_status status = LYAP_OK;
    if (!json_is_array(list) || json_array_size(list) > 0)
        status = lyap_value_list(list, path, LYAP_TENSOR_RANK_MAX, reterr);
    for (size_t i = 0; status == LYAP_OK && i < json_array_size(list); i++) {
        const struct lyap_path here = lyap_path_index(path, i);
        int64_t size = 0;
        status = lyap_value_integer(json_array_get(list, i), &here, range, &size, reterr);
        tensor->shape[i] = (uint64_t)size;
        tensor->rank = (uint32_t)i + 1;
    }
    return status;
}

static enum lyap_status tensor_read(json_t *object, const struct lyap_path *path,
                                    struct lyap_tensor *tensor, struct lyap_error *reterr)
{
    static const char *const keys[] = { "name", "shape" };
    const struct lyap_path name_path = lyap_path_key(path, keys[0]);
    const struct lyap_path shape_path = lyap_path_key(path, keys[1]);
    const char *text;
    enum lyap_status status = lyap_value_object(object, path, reterr);
    if (status == LYAP_OK)
        status = lyap_value_keys(object, path, WORDS(keys), reterr);
    if (status)
        return status;
    const json_t *name = json_object_get(object, keys[0]);
    const json_t *shape = json_object_get(object, keys[1]);
    if (!name || !shape)
        return lyap_value_missing(path, name ? keys[1] : keys[0], reterr);
    status = lyap_value_string(name, &name_path, LYAP_TENSOR_NAME_BYTES_MAX, &text, reterr);
    if (status)
        return status;
    tensor->name = lyap_alloc_string(text);
    return tensor->name ? shape_read(shape, &shape_path, tensor, reterr) : LYAP_E_NOMEM;
}

static enum lyap_status tensors_read(const json_t *list, struct lyap_tensor_set *ret_set,
                                     struct lyap_error *reterr)
{
    const struct lyap_path path = lyap_path_key(NULL, "tensors");
    enum lyap_status status = lyap_value_list(list, &path, LYAP_TENSOR_COUNT_MAX, reterr);
    if (status)
        return status;
    const uint32_t count = (uint32_t)json_array_size(list);
    struct lyap_tensor *tensors = lyap_alloc_array(count, sizeof *tensors);
    if (!tensors)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; status == LYAP_OK && i < count; i++) {
        const struct lyap_path here = lyap_path_index(&path, i);
        status = tensor_read(json_array_get(list, i), &here, &tensors[i], reterr);
    }
    if (status) {
        for (uint32_t i = 0; i < count; i++)
            lyap_free(tensors[i].name);
        lyap_free(tensors);
        return status;
    }
    return lyap_tensor_set_build(tensors, count, ret_set, reterr);
}

static enum lyap_status windows_read(const json_t *list, struct lyap_declaration *declaration,
                                     struct lyap_error *reterr)
{
    const struct lyap_path path = lyap_path_key(NULL, "windows");
    struct lyap_value_range range = { 2, LYAP_WINDOW_MAX };
    enum lyap_status status = lyap_value_list(list, &path, LYAP_WINDOW_COUNT_MAX, reterr);
    if (status)
        return status;
    declaration->window_count = 0;
    for (size_t i = 0; status == LYAP_OK && i < json_array_size(list); i++) {
        const struct lyap_path here = lyap_path_index(&path, i);
        int64_t steps = 0;
        status = lyap_value_integer(json_array_get(list, i), &here, range, &steps, reterr);
        declaration->windows[declaration->window_count++] = (uint32_t)steps;
        range.low = steps + 1; /* they ascend */
    }
    return status;
}

/* Steps of the whole training; null or absent: not known. */
static enum lyap_status steps_read(const json_t *value, struct lyap_declaration *declaration,
                                   struct lyap_error *reterr)
{
    const struct lyap_path path = lyap_path_key(NULL, "steps");
    const struct lyap_value_range range = { 1, LYAP_STEP_MAX };
    return lyap_value_integer(value, &path, range, &declaration->steps, reterr);
}

static enum lyap_status words_read(const json_t *merged, struct lyap_declaration *declaration,
                                   struct lyap_error *reterr)
{
    static const char *const retentions[] = { [LYAP_RETENTION_AUTO] = "auto",
                                              [LYAP_RETENTION_EXACT] = "exact",
                                              [LYAP_RETENTION_SKETCH] = "sketch" };
    static const char *const kinds[] = {
        [LYAP_DATA_MINIBATCH] = "minibatch", [LYAP_DATA_FULL_BATCH] = "full-batch"
    };
    const struct lyap_path retention_path = lyap_path_key(NULL, "retention");
    const struct lyap_path data_path = lyap_path_key(NULL, "data");
    const json_t *retention = json_object_get(merged, "retention");
    const json_t *data = json_object_get(merged, "data");
    enum lyap_status status = LYAP_OK;
    unsigned index = 0;
    if (retention) {
        status = lyap_value_word(retention, &retention_path, WORDS(retentions), &index, reterr);
        if (status)
            return status;
        declaration->retention = (enum lyap_retention)index;
    }
    if (data) {
        status = lyap_value_word(data, &data_path, WORDS(kinds), &index, reterr);
        if (status)
            return status;
        declaration->data = (enum lyap_data_kind)index;
    }
    return LYAP_OK;
}

static enum lyap_status fields_read(json_t *merged, struct lyap_declaration *declaration,
                                    struct lyap_error *reterr)
{
    json_t *optimizer = json_object_get(merged, "optimizer");
    json_t *layers = json_object_get(merged, "layers");
    const json_t *tensors = json_object_get(merged, "tensors");
    const json_t *windows = json_object_get(merged, "windows");
    const json_t *steps = json_object_get(merged, "steps");
    enum lyap_status status = words_read(merged, declaration, reterr);
    if (status == LYAP_OK && optimizer) {
        status = lyap_declare_optimizer(optimizer, &declaration->optimizer, reterr);
        declaration->has_optimizer = true;
    }
    if (status == LYAP_OK && tensors)
        status = tensors_read(tensors, &declaration->set, reterr);
    if (status == LYAP_OK && windows)
        status = windows_read(windows, declaration, reterr);
    if (status == LYAP_OK && steps)
        status = steps_read(steps, declaration, reterr);
    if (status == LYAP_OK && layers)
        status = lyap_declare_layers(layers, &declaration->network, reterr);
    if (status == LYAP_OK)
        status = lyap_network_resolve(&declaration->network, &declaration->set, reterr);
    return status;
}

enum lyap_status lyap_wire_declaration(const char *json, uint64_t length, const char *base_json,
                                       struct lyap_declaration *ret_declaration, char **ret_json,
                                       struct lyap_error *reterr)
{
    struct lyap_declaration declaration;
    json_t *object = NULL, *merged = NULL;
    char *text = NULL;
    lyap_declaration_init(&declaration);
    enum lyap_status status = lyap_tree_load(json, length, "declaration", &object, reterr);
    if (status == LYAP_OK && base_json)
        status =
            lyap_tree_load(base_json, strlen(base_json), "stored declaration", &merged, reterr);
    if (status == LYAP_OK && !base_json && !(merged = json_object()))
        status = LYAP_E_NOMEM;
    if (status == LYAP_OK)
        status = merge(merged, object, reterr);
    if (status == LYAP_OK)
        status = fields_read(merged, &declaration, reterr);
    if (status == LYAP_OK)
        status = lyap_tree_text(merged, &text);
    json_decref(object);
    json_decref(merged);
    if (status) {
        lyap_declaration_release(&declaration);
        return status;
    }
    lyap_declaration_resolve_groups(&declaration);
    *ret_declaration = declaration;
    *ret_json = text;
    return LYAP_OK;
}
