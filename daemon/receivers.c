/* Receivers in force. */
#include "receivers.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "lyap/alloc.h"

static void entry_release(struct lyap_receiver_entry *entry)
{
    lyap_free((char *)entry->receiver.target);
    lyap_free((char *)entry->receiver.secret);
    lyap_free((char *)entry->receiver.labels_json);
    lyap_labels_release(&entry->selector);
}

/* NULL stays NULL; false when memory is short. */
static bool copy_text(const char *text, const char **ret)
{
    *ret = text ? lyap_alloc_string(text) : NULL;
    return !text || *ret;
}

static enum lyap_status entry_build(const struct lyap_receiver *receiver,
                                    struct lyap_receiver_entry *ret)
{
    struct lyap_receiver_entry entry = { .receiver = *receiver };
    entry.receiver.target = entry.receiver.secret = entry.receiver.labels_json = NULL;
    enum lyap_status status = lyap_labels_parse(receiver->labels_json, &entry.selector);
    if (status == LYAP_OK && (!copy_text(receiver->target, &entry.receiver.target) ||
                              !copy_text(receiver->secret, &entry.receiver.secret) ||
                              !copy_text(receiver->labels_json, &entry.receiver.labels_json)))
        status = LYAP_E_NOMEM;
    if (status == LYAP_OK)
        *ret = entry;
    else
        entry_release(&entry);
    return status;
}

static struct lyap_receiver_entry *find(const struct lyap_receivers *receivers, const char *name)
{
    for (uint32_t i = 0; i < receivers->count; i++)
        if (strcmp(receivers->entries[i].receiver.name, name) == 0)
            return &receivers->entries[i];
    return NULL;
}

const struct lyap_receiver_entry *lyap_receivers_find(const struct lyap_receivers *receivers,
                                                      const char *name)
{
    return find(receivers, name);
}

enum lyap_status lyap_receivers_put(struct lyap_receivers *receivers,
                                    const struct lyap_receiver *receiver, struct lyap_error *reterr)
{
    struct lyap_receiver_entry *present = find(receivers, receiver->name), entry;
    if (!present && receivers->count == LYAP_RECEIVER_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "there are %d receivers already, the maximum",
                              LYAP_RECEIVER_COUNT_MAX);
    if (!receivers->entries)
        receivers->entries = lyap_alloc_array(LYAP_RECEIVER_COUNT_MAX, sizeof *receivers->entries);
    if (!receivers->entries)
        return LYAP_E_NOMEM;
    const enum lyap_status status = entry_build(receiver, &entry);
    if (status != LYAP_OK)
        return status;
    if (present)
        entry_release(present);
    else
        present = &receivers->entries[receivers->count++];
    *present = entry;
    return LYAP_OK;
}

void lyap_receivers_remove(struct lyap_receivers *receivers, const char *name)
{
    struct lyap_receiver_entry *present = find(receivers, name);
    if (!present)
        return;
    entry_release(present);
    *present = receivers->entries[--receivers->count];
}

void lyap_receivers_release(struct lyap_receivers *receivers)
{
    for (uint32_t i = 0; i < receivers->count; i++)
        entry_release(&receivers->entries[i]);
    lyap_free(receivers->entries);
    *receivers = (struct lyap_receivers)LYAP_RECEIVERS_NULL;
}

/* ---- who is meant ---- */

static bool is_named(const char *notify_json, const char *name)
{
    json_t *names = json_loads(notify_json, 0, NULL);
    bool is_found = false;
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *one = json_string_value(json_array_get(names, i));
        is_found = is_found || (one && strcmp(one, name) == 0);
    }
    json_decref(names);
    return is_found;
}

bool lyap_receiver_is_meant(const struct lyap_receiver_entry *entry, const char *notify_json,
                            enum lyap_severity severity, const struct lyap_labels *labels)
{
    if (notify_json)
        return is_named(notify_json, entry->receiver.name);
    return severity >= entry->receiver.min_severity && lyap_labels_match(&entry->selector, labels);
}

enum lyap_status lyap_receivers_check(const struct lyap_receivers *receivers,
                                      const char *notify_json, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    json_t *names = notify_json ? json_loads(notify_json, 0, NULL) : NULL;
    if (notify_json && !names)
        return LYAP_E_NOMEM; /* it was checked before */
    for (size_t i = 0; status == LYAP_OK && i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (!name || !find(receivers, name))
            status =
                lyap_error_set(reterr, LYAP_E_INVALID,
                               "field 'notify': there is no receiver '%.64s'", name ? name : "");
    }
    json_decref(names);
    return status;
}

/* ---- the file ---- */

static enum lyap_status read_one(const char *path, const char *name, const json_t *value,
                                 struct lyap_receivers *receivers, struct lyap_error *reterr)
{
    struct lyap_receiver receiver;
    struct lyap_error error = LYAP_ERROR_NULL;
    bool keeps_secret;
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    if (!text)
        return LYAP_E_NOMEM;
    enum lyap_status status =
        api_decode_receiver(name, text, strlen(text), &receiver, &keeps_secret, &error);
    free(text);
    if (status == LYAP_OK) {
        receiver.is_from_file = true;
        status = lyap_receivers_put(receivers, &receiver, &error);
        api_receiver_release(&receiver);
    }
    if (status != LYAP_OK && status != LYAP_E_NOMEM)
        status = lyap_error_set(reterr, LYAP_E_INVALID, "%.100s: receiver '%.64s': %.140s", path,
                                name, lyap_error_text(&error));
    return status;
}

enum lyap_status lyap_receivers_read_file(const char *path, struct lyap_receivers *ret_receivers,
                                          struct lyap_error *reterr)
{
    struct lyap_receivers receivers = LYAP_RECEIVERS_NULL;
    enum lyap_status status = LYAP_OK;
    json_error_t error;
    json_t *file = json_load_file(path, JSON_REJECT_DUPLICATES, &error), *value;
    const char *name;
    if (!file)
        return lyap_error_set(reterr, LYAP_E_INVALID, "%.100s: line %d: %.140s", path, error.line,
                              error.text);
    if (!json_is_object(file))
        status = lyap_error_set(reterr, LYAP_E_INVALID, "%.100s: not an object of receivers", path);
    json_object_foreach(file, name, value)
    {
        if (status == LYAP_OK)
            status = read_one(path, name, value, &receivers, reterr);
    }
    json_decref(file);
    if (status == LYAP_OK)
        *ret_receivers = receivers;
    else
        lyap_receivers_release(&receivers);
    return status;
}
