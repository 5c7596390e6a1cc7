/* JSON bodies: one document, or one per line. Tensors are lists of numbers and become F64. */
#include "decoder.h"

#include <assert.h>
#include <string.h>

#include "json.h"
#include "lyap/text.h"
#include "metadata.h"

/* One tensor while it is read: shape and data come in any order. */
struct tensor_parts {
    bool has_dtype, has_shape, has_data;
    uint64_t count; /* numbers in data */
};

static enum lyap_status data_read(struct lyap_wire_decoder *decoder, struct lyap_json *json,
                                  uint64_t *ret_count)
{
    uint64_t count = 0;
    bool is_more = false;
    enum lyap_status status = lyap_json_open(json, '[');
    while (status == LYAP_OK) {
        double value;
        status = lyap_json_more(json, &is_more);
        if (status || !is_more)
            break;
        if (lyap_json_peek(json) == '[')
            return lyap_json_fail(json, "data is one flat list of numbers in row-major order");
        status = lyap_json_double(json, &value);
        if (status == LYAP_OK)
            status = lyap_wire_values_append(&decoder->values, value);
        count++;
    }
    *ret_count = count;
    return status;
}

static enum lyap_status dtype_read(struct lyap_json *json)
{
    char *name;
    struct lyap_quote quote;
    const enum lyap_status status = lyap_json_string(json, &name);
    if (status)
        return status;
    if (strcmp(name, lyap_dtype_name(LYAP_DTYPE_F64)) != 0)
        return lyap_json_fail(json, "dtype is %s, but JSON carries F64 alone",
                              lyap_quote_string(name, &quote));
    return LYAP_OK;
}

static enum lyap_status once(struct lyap_json *json, const char *key, bool *has)
{
    if (*has)
        return lyap_json_fail(json, "key %s occurs twice", key);
    *has = true;
    return LYAP_OK;
}

static enum lyap_status part_read(struct lyap_wire_decoder *decoder, struct lyap_json *json,
                                  const char *key, struct lyap_wire_entry *entry,
                                  struct tensor_parts *parts)
{
    struct lyap_quote quote;
    enum lyap_status status;
    if (strcmp(key, "shape") == 0) {
        status = once(json, key, &parts->has_shape);
        return status ? status : lyap_metadata_shape(json, entry->shape, &entry->rank);
    }
    if (strcmp(key, "data") == 0) {
        status = once(json, key, &parts->has_data);
        return status ? status : data_read(decoder, json, &parts->count);
    }
    if (strcmp(key, "dtype") == 0) {
        status = once(json, key, &parts->has_dtype);
        return status ? status : dtype_read(json);
    }
    return lyap_json_fail(json, "unknown key %s; shape, data and dtype are known",
                          lyap_quote_string(key, &quote));
}

static enum lyap_status parts_check(struct lyap_json *json, struct lyap_wire_entry *entry,
                                    const struct tensor_parts *parts)
{
    struct lyap_quote shape;
    if (!parts->has_shape || !parts->has_data)
        return lyap_json_fail(json, "%s is missing", parts->has_shape ? "data" : "shape");
    const enum lyap_status status = lyap_wire_entry_size(entry, json->reterr);
    if (status)
        return status;
    if (entry->count != parts->count)
        return lyap_json_fail(json, "shape %s has %llu elements, data %llu",
                              lyap_quote_shape(entry->shape, entry->rank, &shape),
                              (unsigned long long)entry->count, (unsigned long long)parts->count);
    return LYAP_OK;
}

static enum lyap_status tensor_read(struct lyap_wire_decoder *decoder, struct lyap_json *json,
                                    char *name)
{
    struct tensor_parts parts = { 0 };
    struct lyap_wire_entry *entry;
    char *key = NULL;
    enum lyap_status status = lyap_wire_entries_append(&decoder->entries, &entry, json->reterr);
    if (status)
        return status;
    entry->name = name;
    entry->dtype = LYAP_DTYPE_F64;
    entry->offset = decoder->values.count * sizeof *decoder->values.items;
    status = lyap_json_open(json, '{');
    while (status == LYAP_OK) {
        status = lyap_json_key(json, &key);
        if (status || !key)
            break;
        status = part_read(decoder, json, key, entry, &parts);
    }
    return status ? status : parts_check(json, entry, &parts);
}

static enum lyap_status tensors_read(struct lyap_wire_decoder *decoder, struct lyap_json *json)
{
    char *name = NULL;
    enum lyap_status status = lyap_json_open(json, '{');
    while (status == LYAP_OK) {
        status = lyap_json_key(json, &name);
        if (status || !name)
            break;
        json->name = name;
        status = tensor_read(decoder, json, name);
        json->name = NULL;
    }
    return status ? status : lyap_wire_entries_unique(&decoder->entries, json->reterr);
}

enum lyap_status lyap_document_parse(struct lyap_wire_decoder *decoder, struct lyap_error *reterr)
{
    struct lyap_json json;
    struct lyap_quote quote;
    bool has_tensors = false;
    char *key = NULL;
    lyap_json_init(&json, decoder->buffer.text, decoder->buffer.length, "snapshot", reterr);
    enum lyap_status status = lyap_json_open(&json, '{');
    while (status == LYAP_OK) {
        status = lyap_json_key(&json, &key);
        if (status || !key)
            break;
        const bool is_tensors = strcmp(key, "tensors") == 0;
        if (is_tensors ? has_tensors : lyap_metadata_has(&decoder->snapshot, key))
            return lyap_json_fail(&json, "key %s occurs twice", lyap_quote_string(key, &quote));
        has_tensors = has_tensors || is_tensors;
        json.name = is_tensors ? NULL : key; /* failures name the field */
        status = is_tensors ? tensors_read(decoder, &json)
                            : lyap_metadata_json(&decoder->snapshot, key, &json);
        json.name = NULL;
    }
    return status ? status : lyap_json_end(&json, " \t\n\r");
}

enum lyap_status lyap_document_replay(struct lyap_wire_decoder *decoder, struct lyap_error *reterr)
{
    const struct lyap_wire_events *events = &decoder->options.events;
    decoder->entries.count = 0;
    decoder->values.count = 0;
    lyap_snapshot_release(&decoder->snapshot);
    enum lyap_status status = lyap_document_parse(decoder, reterr);
    if (status == LYAP_OK)
        status = lyap_wire_begin(decoder, reterr);
    if (status)
        return status;
    for (uint32_t i = 0; i < decoder->entries.count; i++) {
        const struct lyap_wire_entry *entry = &decoder->entries.items[i];
        assert(entry->offset + entry->bytes <= decoder->values.count * sizeof(double));
        if (entry->bytes > 0)
            events->bytes(events->ctx, i, (const char *)decoder->values.items + entry->offset,
                          entry->bytes);
    }
    return events->end(events->ctx, reterr);
}

static enum lyap_status append(struct lyap_wire_decoder *decoder, const char *bytes,
                               uint64_t length, const char *what, struct lyap_error *reterr)
{
    if (length > LYAP_JSON_BYTES_MAX - decoder->buffer.length)
        return lyap_error_set(reterr, LYAP_E_LIMIT,
                              "%s exceeds %d bytes, the limit (larger models: safetensors)", what,
                              LYAP_JSON_BYTES_MAX);
    return lyap_wire_buffer_append(&decoder->buffer, bytes, length);
}

enum lyap_status lyap_document_feed(struct lyap_wire_decoder *decoder, const char *bytes,
                                    uint64_t length, struct lyap_error *reterr)
{
    return append(decoder, bytes, length, "the JSON document", reterr);
}

enum lyap_status lyap_document_finish(struct lyap_wire_decoder *decoder, struct lyap_error *reterr)
{
    if (decoder->buffer.length == 0)
        return lyap_error_set(reterr, LYAP_E_FORMAT, "the body is empty");
    return lyap_document_replay(decoder, reterr);
}

static bool is_blank(const struct lyap_wire_buffer *buffer)
{
    for (uint64_t i = 0; i < buffer->length; i++)
        if (buffer->text[i] != ' ' && buffer->text[i] != '\t' && buffer->text[i] != '\r')
            return false;
    return true;
}

/* The line in the buffer, its end removed; errors get its number. */
static enum lyap_status line_decode(struct lyap_wire_decoder *decoder, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    struct lyap_error err = LYAP_ERROR_NULL;
    if (!is_blank(&decoder->buffer)) {
        if (decoder->snapshots == LYAP_NDJSON_LINES_MAX)
            status = lyap_error_set(&err, LYAP_E_LIMIT, "more than %d snapshots in one body",
                                    LYAP_NDJSON_LINES_MAX);
        else
            status = lyap_document_replay(decoder, &err);
        if (status == LYAP_OK)
            decoder->snapshots++;
    }
    decoder->buffer.length = 0;
    decoder->line++;
    if (status)
        return lyap_error_set(reterr, status, "line %u: %s", decoder->line,
                              err.status ? err.text : lyap_status_text(status));
    return LYAP_OK;
}

enum lyap_status lyap_ndjson_feed(struct lyap_wire_decoder *decoder, const char *bytes,
                                  uint64_t length, struct lyap_error *reterr)
{
    while (length > 0) {
        const char *newline = memchr(bytes, '\n', length);
        const uint64_t part = newline ? (uint64_t)(newline - bytes) : length;
        enum lyap_status status = append(decoder, bytes, part, "a line", reterr);
        if (status == LYAP_OK && newline)
            status = line_decode(decoder, reterr);
        if (status)
            return status;
        const uint64_t taken = part + (newline != NULL);
        bytes += taken;
        length -= taken;
    }
    return LYAP_OK;
}

enum lyap_status lyap_ndjson_finish(struct lyap_wire_decoder *decoder, struct lyap_error *reterr)
{
    const enum lyap_status status =
        decoder->buffer.length > 0 ? line_decode(decoder, reterr) : LYAP_OK;
    if (status == LYAP_OK && decoder->snapshots == 0)
        return lyap_error_set(reterr, LYAP_E_FORMAT, "the body has no snapshot");
    return status;
}
