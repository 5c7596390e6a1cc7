/* The header of safetensors: entries, metadata, and the rules of the format. */
#include "decoder.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "lyap/text.h"
#include "metadata.h"

enum part { PART_DTYPE = 1, PART_SHAPE = 2, PART_OFFSETS = 4, PARTS_ALL = 7 };

static enum lyap_status dtype_read(struct lyap_json *json, enum lyap_dtype *ret_dtype)
{
    char *name;
    struct lyap_quote quote;
    const enum lyap_status status = lyap_json_string(json, &name);
    if (status)
        return status;
    if (!lyap_dtype_parse(name, strlen(name), ret_dtype))
        return lyap_json_fail(json, "dtype %s is not supported; F64, F32, F16 and BF16 are",
                              lyap_quote_string(name, &quote));
    return LYAP_OK;
}

/* Offset and end of an entry while it is read; its size is known only when all parts are. */
struct extent {
    struct lyap_wire_entry *entry; /* borrowed */
    uint64_t begin, end;
    unsigned parts; /* enum part */
};

static enum lyap_status offsets_read(struct lyap_json *json, struct extent *extent)
{
    uint64_t *const targets[] = { &extent->begin, &extent->end };
    bool is_more = true;
    enum lyap_status status = lyap_json_open(json, '[');
    for (unsigned i = 0; status == LYAP_OK && i < 2; i++) {
        status = lyap_json_more(json, &is_more);
        if (status == LYAP_OK && !is_more)
            return lyap_json_fail(json, "data_offsets has %u numbers, not two", i);
        if (status == LYAP_OK)
            status = lyap_json_unsigned(json, targets[i]);
    }
    if (status == LYAP_OK)
        status = lyap_json_more(json, &is_more);
    if (status == LYAP_OK && is_more)
        return lyap_json_fail(json, "data_offsets has more than two numbers");
    if (status == LYAP_OK && extent->begin > extent->end)
        return lyap_json_fail(json, "data_offsets end, %llu, before they begin, %llu",
                              (unsigned long long)extent->end, (unsigned long long)extent->begin);
    return status;
}

static enum lyap_status part_read(struct lyap_json *json, const char *key, struct extent *extent)
{
    static const char *const names[] = { "dtype", "shape", "data_offsets" };
    static const struct lyap_json_parts known = { names, 3,
                                                  "dtype, shape and data_offsets are known" };
    unsigned i;
    const enum lyap_status status = lyap_json_part(json, key, &known, &extent->parts, &i);
    if (status != LYAP_OK)
        return status;
    switch (1u << i) {
    case PART_DTYPE:
        return dtype_read(json, &extent->entry->dtype);
    case PART_SHAPE:
        return lyap_metadata_shape(json, extent->entry->shape, &extent->entry->rank);
    default:
        return offsets_read(json, extent);
    }
}

static enum lyap_status extent_check(const struct extent *extent, struct lyap_error *reterr)
{
    struct lyap_wire_entry *entry = extent->entry;
    struct lyap_quote name, shape;
    const enum lyap_status status = lyap_wire_entry_size(entry, reterr);
    if (status)
        return status;
    if (extent->end - extent->begin != entry->bytes)
        return lyap_error_set(reterr, LYAP_E_FORMAT,
                              "tensor %s of shape %s in %s needs %llu bytes, but data_offsets give "
                              "it %llu",
                              lyap_quote_string(entry->name, &name),
                              lyap_quote_shape(entry->shape, entry->rank, &shape),
                              lyap_dtype_name(entry->dtype), (unsigned long long)entry->bytes,
                              (unsigned long long)(extent->end - extent->begin));
    entry->offset = extent->begin;
    return LYAP_OK;
}

/* The object of one tensor, whose name is in place already. */
static enum lyap_status entry_read(struct lyap_json *json, struct lyap_wire_entry *entry)
{
    struct extent extent = { .entry = entry };
    char *key = NULL;
    enum lyap_status status = lyap_json_open(json, '{');
    while (status == LYAP_OK) {
        status = lyap_json_key(json, &key);
        if (status || !key)
            break;
        status = part_read(json, key, &extent);
    }
    if (status)
        return status;
    if (extent.parts != PARTS_ALL)
        return lyap_json_fail(json, "%s is missing",
                              !(extent.parts & PART_DTYPE)   ? "dtype"
                              : !(extent.parts & PART_SHAPE) ? "shape"
                                                             : "data_offsets");
    return extent_check(&extent, json->reterr);
}

static enum lyap_status metadata_read(struct lyap_json *json, struct lyap_snapshot *snapshot)
{
    char *key = NULL, *value;
    struct lyap_quote quote;
    enum lyap_status status = lyap_json_open(json, '{');
    while (status == LYAP_OK) {
        status = lyap_json_key(json, &key);
        if (status || !key)
            break;
        if (lyap_metadata_has(snapshot, key))
            return lyap_json_fail(json, "key %s occurs twice", lyap_quote_string(key, &quote));
        status = lyap_json_string(json, &value);
        if (status == LYAP_OK)
            status = lyap_metadata_text(snapshot, key, value, json->reterr);
    }
    return status;
}

static enum lyap_status member_read(struct lyap_wire_decoder *decoder, struct lyap_json *json,
                                    char *key, bool *has_metadata)
{
    enum lyap_status status;
    if (strcmp(key, "__metadata__") == 0) {
        if (*has_metadata)
            return lyap_json_fail(json, "__metadata__ occurs twice");
        *has_metadata = true;
        json->name = key;
        status = metadata_read(json, &decoder->snapshot);
    } else {
        struct lyap_wire_entry *entry;
        status = lyap_wire_entries_append(&decoder->entries, &entry, json->reterr);
        if (status)
            return status;
        json->name = entry->name = key;
        status = entry_read(json, entry);
    }
    json->name = NULL;
    return status;
}

/* Entries without bytes come before the entry that starts where they stand. */
static int compare_offsets(const void *a, const void *b)
{
    const struct lyap_wire_entry *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Puts the entries in the order of their bytes, which then follow each other without a gap. */
static enum lyap_status entries_arrange(struct lyap_wire_decoder *decoder,
                                        struct lyap_error *reterr)
{
    struct lyap_wire_entries *entries = &decoder->entries;
    uint64_t end = 0;
    if (entries->count > 0)
        qsort(entries->items, entries->count, sizeof *entries->items, compare_offsets);
    for (uint32_t i = 0; i < entries->count; i++) {
        const struct lyap_wire_entry *entry = &entries->items[i];
        struct lyap_quote quote;
        if (entry->offset != end)
            return lyap_error_set(reterr, LYAP_E_FORMAT,
                                  "tensor %s begins at %llu, but the tensor before it ends at "
                                  "%llu: %s",
                                  lyap_quote_string(entry->name, &quote),
                                  (unsigned long long)entry->offset, (unsigned long long)end,
                                  entry->offset < end ? "they overlap" : "a hole between them");
        end += entry->bytes;
    }
    decoder->data_bytes = end;
    return LYAP_OK;
}

enum lyap_status lyap_safetensors_header(struct lyap_wire_decoder *decoder,
                                         struct lyap_error *reterr)
{
    struct lyap_json json;
    bool has_metadata = false;
    char *key = NULL;
    const struct lyap_wire_buffer *buffer = &decoder->buffer;
    assert(buffer->length == decoder->header_bytes);
    lyap_json_init(&json, buffer->text, buffer->length, "header", reterr);
    if (buffer->text[0] != '{')
        return lyap_json_fail(&json, "does not begin with '{'");
    enum lyap_status status = lyap_json_open(&json, '{');
    while (status == LYAP_OK) {
        status = lyap_json_key(&json, &key);
        if (status || !key)
            break;
        status = member_read(decoder, &json, key, &has_metadata);
    }
    if (status == LYAP_OK)
        status = lyap_json_end(&json, " ");
    if (status == LYAP_OK)
        status = lyap_wire_entries_unique(&decoder->entries, reterr);
    return status ? status : entries_arrange(decoder, reterr);
}
