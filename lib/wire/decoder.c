/* The decoder of a push: one life cycle over three formats. */
#include "decoder.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/text.h"
#include "metadata.h"

enum { BUFFER_BYTES_MIN = 1024, ITEMS_MIN = 16 };

static const struct {
    enum lyap_status (*feed)(struct lyap_wire_decoder *, const char *, uint64_t,
                             struct lyap_error *);
    enum lyap_status (*finish)(struct lyap_wire_decoder *, struct lyap_error *);
} formats[] = {
    [LYAP_WIRE_SAFETENSORS] = { lyap_safetensors_feed, lyap_safetensors_finish },
    [LYAP_WIRE_JSON] = { lyap_document_feed, lyap_document_finish },
    [LYAP_WIRE_NDJSON] = { lyap_ndjson_feed, lyap_ndjson_finish },
};

/* A copy of `items` with at least twice the room; the old array is freed. NULL: out of memory. */
static void *grown(void *take_items, uint64_t used, uint64_t capacity, size_t size)
{
    void *larger = lyap_alloc_array(capacity, size);
    if (!larger)
        return NULL;
    if (used > 0)
        memcpy(larger, take_items, used * size);
    lyap_free(take_items);
    return larger;
}

enum lyap_status lyap_wire_buffer_append(struct lyap_wire_buffer *buffer, const void *bytes,
                                         uint64_t length)
{
    const uint64_t needed = buffer->length + length + 1;
    if (needed > buffer->capacity) {
        uint64_t capacity = buffer->capacity > 0 ? buffer->capacity : BUFFER_BYTES_MIN;
        while (capacity < needed)
            capacity *= 2;
        char *text = grown(buffer->text, buffer->length, capacity, 1);
        if (!text)
            return LYAP_E_NOMEM;
        buffer->text = text;
        buffer->capacity = capacity;
    }
    if (length > 0)
        memcpy(buffer->text + buffer->length, bytes, length);
    buffer->length += length;
    buffer->text[buffer->length] = '\0';
    return LYAP_OK;
}

enum lyap_status lyap_wire_entries_append(struct lyap_wire_entries *entries,
                                          struct lyap_wire_entry **ret_entry,
                                          struct lyap_error *reterr)
{
    if (entries->count == LYAP_TENSOR_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "more than %d tensors in one body",
                              LYAP_TENSOR_COUNT_MAX);
    if (entries->count == entries->capacity) {
        const uint32_t capacity = entries->capacity > 0 ? 2 * entries->capacity : ITEMS_MIN;
        struct lyap_wire_entry *items =
            grown(entries->items, entries->count, capacity, sizeof *items);
        if (!items)
            return LYAP_E_NOMEM;
        entries->items = items;
        entries->capacity = capacity;
    }
    *ret_entry = &entries->items[entries->count++];
    **ret_entry = (struct lyap_wire_entry){ 0 };
    return LYAP_OK;
}

enum lyap_status lyap_wire_values_append(struct lyap_wire_values *values, double value)
{
    if (values->count == values->capacity) {
        const uint64_t capacity = values->capacity > 0 ? 2 * values->capacity : ITEMS_MIN;
        double *items = grown(values->items, values->count, capacity, sizeof *items);
        if (!items)
            return LYAP_E_NOMEM;
        values->items = items;
        values->capacity = capacity;
    }
    values->items[values->count++] = value;
    return LYAP_OK;
}

static int compare_names(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

enum lyap_status lyap_wire_entries_unique(const struct lyap_wire_entries *entries,
                                          struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    struct lyap_quote quote;
    if (entries->count < 2)
        return LYAP_OK;
    const char **names = lyap_alloc_array(entries->count, sizeof *names);
    if (!names)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; i < entries->count; i++)
        names[i] = entries->items[i].name;
    qsort(names, entries->count, sizeof *names, compare_names);
    for (uint32_t i = 1; status == LYAP_OK && i < entries->count; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            status = lyap_error_set(reterr, LYAP_E_FORMAT, "tensor %s occurs twice",
                                    lyap_quote_string(names[i], &quote));
    lyap_free(names);
    return status;
}

enum lyap_status lyap_wire_entry_size(struct lyap_wire_entry *entry, struct lyap_error *reterr)
{
    uint64_t count = 1;
    bool is_empty = false;
    for (uint32_t i = 0; i < entry->rank; i++) {
        const uint64_t size = entry->shape[i];
        struct lyap_quote name, shape;
        is_empty = is_empty || size == 0;
        if (size > 0 && count > LYAP_TENSOR_ELEMENTS_MAX / size)
            return lyap_error_set(reterr, LYAP_E_LIMIT,
                                  "tensor %s of shape %s has more than 2^48 elements, the limit",
                                  lyap_quote_string(entry->name, &name),
                                  lyap_quote_shape(entry->shape, entry->rank, &shape));
        count *= size > 0 ? size : 1;
    }
    entry->count = is_empty ? 0 : count;
    entry->bytes = entry->count * lyap_dtype_bytes(entry->dtype);
    return LYAP_OK;
}

enum lyap_status lyap_wire_begin(struct lyap_wire_decoder *decoder, struct lyap_error *reterr)
{
    const struct lyap_wire_options *options = &decoder->options;
    struct lyap_snapshot *snapshot = &decoder->snapshot;
    enum lyap_status status = LYAP_OK;
    if (options->query) {
        status = lyap_snapshot_merge(snapshot, options->query, reterr);
        if (status == LYAP_OK)
            status = lyap_metadata_merge_shards(snapshot, options->query, reterr);
    }
    if (status == LYAP_OK)
        status = lyap_snapshot_check(snapshot, reterr);
    if (status)
        return status;
    return options->events.snapshot(options->events.ctx, snapshot, decoder->entries.items,
                                    decoder->entries.count, reterr);
}

enum lyap_status lyap_wire_decoder_new(const struct lyap_wire_options *options,
                                       struct lyap_wire_decoder **ret_decoder)
{
    assert((unsigned)options->format < sizeof formats / sizeof *formats);
    assert(options->events.snapshot && options->events.bytes && options->events.end);
    struct lyap_wire_decoder *decoder = lyap_alloc_array(1, sizeof *decoder);
    if (!decoder)
        return LYAP_E_NOMEM;
    decoder->options = *options;
    lyap_snapshot_init(&decoder->snapshot);
    *ret_decoder = decoder;
    return LYAP_OK;
}

void lyap_wire_decoder_free(struct lyap_wire_decoder *decoder)
{
    if (!decoder)
        return;
    lyap_snapshot_release(&decoder->snapshot);
    lyap_free(decoder->buffer.text);
    lyap_free(decoder->entries.items);
    lyap_free(decoder->values.items);
    lyap_free(decoder);
}

uint64_t lyap_wire_held_bytes(const struct lyap_wire_decoder *decoder)
{
    return decoder->buffer.capacity +
           (uint64_t)decoder->entries.capacity * sizeof *decoder->entries.items +
           decoder->values.capacity * sizeof *decoder->values.items;
}

/* Remembers a failure and tells the caller; the first one stands. */
static enum lyap_status settle(struct lyap_wire_decoder *decoder, enum lyap_status status,
                               struct lyap_error *reterr)
{
    if (status)
        (void)lyap_error_set(&decoder->err, status, "%s", lyap_status_text(status));
    if (decoder->err.status == LYAP_OK)
        return LYAP_OK;
    return lyap_error_set(reterr, decoder->err.status, "%s", decoder->err.text);
}

enum lyap_status lyap_wire_feed(struct lyap_wire_decoder *decoder, const void *bytes,
                                uint64_t length, struct lyap_error *reterr)
{
    const uint64_t bytes_max = decoder->options.body_bytes_max;
    enum lyap_status status = LYAP_OK;
    if (decoder->err.status == LYAP_OK && length > 0) {
        if (length > bytes_max - decoder->received)
            status = lyap_error_set(&decoder->err, LYAP_E_LIMIT,
                                    "the body exceeds %llu bytes, the limit",
                                    (unsigned long long)bytes_max);
        else
            status = formats[decoder->options.format].feed(decoder, bytes, length, &decoder->err);
        decoder->received += length;
    }
    return settle(decoder, status, reterr);
}

enum lyap_status lyap_wire_finish(struct lyap_wire_decoder *decoder, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    if (decoder->err.status == LYAP_OK)
        status = formats[decoder->options.format].finish(decoder, &decoder->err);
    return settle(decoder, status, reterr);
}
