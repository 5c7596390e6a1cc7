/* Labels. */
#include "labels.h"

#include <jansson.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/glob.h"

static enum lyap_status item_add(struct lyap_labels *labels, const char *key, const json_t *value)
{
    if (!json_is_string(value))
        return LYAP_E_FORMAT;
    if (labels->count == LYAP_LABEL_COUNT_MAX)
        return LYAP_E_LIMIT;
    struct lyap_label *item = &labels->items[labels->count++];
    item->key = lyap_alloc_string(key);
    item->value = lyap_alloc_string(json_string_value(value));
    return item->key && item->value ? LYAP_OK : LYAP_E_NOMEM;
}

enum lyap_status lyap_labels_parse(const char *json, struct lyap_labels *ret)
{
    struct lyap_labels labels = LYAP_LABELS_NULL;
    enum lyap_status status = LYAP_OK;
    json_t *object = NULL;
    const char *key;
    json_t *value;
    if (!json || !json[0])
        goto out;
    object = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(object)) {
        status = LYAP_E_FORMAT;
        goto out;
    }
    labels.items = lyap_alloc_array(LYAP_LABEL_COUNT_MAX, sizeof *labels.items);
    if (!labels.items)
        status = LYAP_E_NOMEM;
    json_object_foreach(object, key, value)
    {
        if (status == LYAP_OK)
            status = item_add(&labels, key, value);
    }
out:
    json_decref(object);
    if (status == LYAP_OK)
        *ret = labels;
    else
        lyap_labels_release(&labels);
    return status;
}

void lyap_labels_release(struct lyap_labels *labels)
{
    for (uint32_t i = 0; i < labels->count; i++) {
        lyap_free(labels->items[i].key);
        lyap_free(labels->items[i].value);
    }
    lyap_free(labels->items);
    *labels = (struct lyap_labels)LYAP_LABELS_NULL;
}

static bool has(const struct lyap_labels *labels, const struct lyap_label *wanted)
{
    for (uint32_t i = 0; i < labels->count; i++)
        if (strcmp(labels->items[i].key, wanted->key) == 0)
            return lyap_glob_match(wanted->value, labels->items[i].value);
    return false;
}

bool lyap_labels_match(const struct lyap_labels *selector, const struct lyap_labels *labels)
{
    for (uint32_t i = 0; i < selector->count; i++)
        if (!has(labels, &selector->items[i]))
            return false;
    return true;
}

void lyap_labels_json(const struct lyap_label *items, uint32_t count, struct lyap_buffer *text)
{
    lyap_buffer_add(text, "{");
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            lyap_buffer_add(text, ",");
        lyap_buffer_json_string(text, items[i].key);
        lyap_buffer_add(text, ":");
        lyap_buffer_json_string(text, items[i].value);
    }
    lyap_buffer_add(text, "}");
}
