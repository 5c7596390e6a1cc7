/* safetensors as it arrives: eight bytes of length, the header, the data.
 *
 *   | N, little endian | N bytes of JSON, space-padded | tensor bytes, without a gap |
 *   0                  8                               8 + N
 *
 * Only the header is kept. */
#include "decoder.h"

#include <assert.h>

enum { LENGTH_BYTES = 8, HEADER_BYTES_MIN = 2 }; /* "{}" */

static enum lyap_status header_announced(struct lyap_wire_decoder *decoder,
                                         struct lyap_error *reterr)
{
    uint64_t length = 0;
    for (unsigned i = LENGTH_BYTES; i-- > 0;)
        length = length << 8 | (unsigned char)decoder->buffer.text[i];
    if (length < HEADER_BYTES_MIN)
        return lyap_error_set(reterr, LYAP_E_FORMAT,
                              "the header has %llu bytes, but the shortest, {}, has 2",
                              (unsigned long long)length);
    if (length > LYAP_HEADER_BYTES_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT,
                              "the header has %llu bytes, the limit is %d (is this a safetensors "
                              "body?)",
                              (unsigned long long)length, LYAP_HEADER_BYTES_MAX);
    decoder->header_bytes = length;
    decoder->buffer.length = 0;
    decoder->stage = LYAP_STAGE_HEADER;
    return LYAP_OK;
}

static enum lyap_status header_complete(struct lyap_wire_decoder *decoder,
                                        struct lyap_error *reterr)
{
    const uint64_t bytes_max = decoder->options.body_bytes_max;
    const uint64_t before = LENGTH_BYTES + decoder->header_bytes;
    enum lyap_status status = lyap_safetensors_header(decoder, reterr);
    if (status)
        return status;
    if (before > bytes_max || decoder->data_bytes > bytes_max - before)
        return lyap_error_set(reterr, LYAP_E_LIMIT,
                              "the body will have %llu bytes of tensors, the limit of a body is "
                              "%llu bytes",
                              (unsigned long long)decoder->data_bytes,
                              (unsigned long long)bytes_max);
    decoder->stage = LYAP_STAGE_DATA;
    return lyap_wire_begin(decoder, reterr);
}

/* Collects up to `wanted` bytes in the buffer; returns how many of `bytes` it took. */
static enum lyap_status collect(struct lyap_wire_decoder *decoder, const char *bytes,
                                uint64_t length, uint64_t wanted, uint64_t *ret_taken)
{
    const uint64_t missing = wanted - decoder->buffer.length;
    *ret_taken = length < missing ? length : missing;
    return lyap_wire_buffer_append(&decoder->buffer, bytes, *ret_taken);
}

static enum lyap_status feed_prefix(struct lyap_wire_decoder *decoder, const char *bytes,
                                    uint64_t length, uint64_t *ret_taken, struct lyap_error *reterr)
{
    const bool is_header = decoder->stage == LYAP_STAGE_HEADER;
    const uint64_t wanted = is_header ? decoder->header_bytes : LENGTH_BYTES;
    const enum lyap_status status = collect(decoder, bytes, length, wanted, ret_taken);
    if (status || decoder->buffer.length < wanted)
        return status;
    return is_header ? header_complete(decoder, reterr) : header_announced(decoder, reterr);
}

/* Passes tensor bytes on; entries without elements have none and get no event. */
static enum lyap_status feed_data(struct lyap_wire_decoder *decoder, const char *bytes,
                                  uint64_t length, struct lyap_error *reterr)
{
    const struct lyap_wire_events *events = &decoder->options.events;
    const struct lyap_wire_entries *entries = &decoder->entries;
    while (length > 0) {
        while (decoder->entry < entries->count &&
               decoder->entry_done == entries->items[decoder->entry].bytes) {
            decoder->entry++;
            decoder->entry_done = 0;
        }
        if (decoder->entry == entries->count)
            return lyap_error_set(reterr, LYAP_E_FORMAT,
                                  "bytes follow the last tensor; the header describes %llu bytes "
                                  "of tensors",
                                  (unsigned long long)decoder->data_bytes);
        const uint64_t left = entries->items[decoder->entry].bytes - decoder->entry_done;
        const uint64_t part = length < left ? length : left;
        events->bytes(events->ctx, decoder->entry, bytes, part);
        decoder->entry_done += part;
        bytes += part;
        length -= part;
    }
    return LYAP_OK;
}

enum lyap_status lyap_safetensors_feed(struct lyap_wire_decoder *decoder, const char *bytes,
                                       uint64_t length, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    while (status == LYAP_OK && length > 0 && decoder->stage != LYAP_STAGE_DATA) {
        uint64_t taken = 0;
        status = feed_prefix(decoder, bytes, length, &taken, reterr);
        bytes += taken;
        length -= taken;
    }
    return status ? status : feed_data(decoder, bytes, length, reterr);
}

enum lyap_status lyap_safetensors_finish(struct lyap_wire_decoder *decoder,
                                         struct lyap_error *reterr)
{
    const struct lyap_wire_events *events = &decoder->options.events;
    if (decoder->stage != LYAP_STAGE_DATA) {
        const bool is_header = decoder->stage == LYAP_STAGE_HEADER;
        return lyap_error_set(reterr, LYAP_E_FORMAT,
                              "the body ends in the %s, after %llu of %llu bytes of it",
                              is_header ? "header" : "length of the header",
                              (unsigned long long)decoder->buffer.length,
                              is_header ? (unsigned long long)decoder->header_bytes
                                        : (unsigned long long)LENGTH_BYTES);
    }
    const uint64_t expected = LENGTH_BYTES + decoder->header_bytes + decoder->data_bytes;
    if (decoder->received < expected)
        return lyap_error_set(reterr, LYAP_E_FORMAT,
                              "the body ends after %llu of %llu bytes, in tensor data",
                              (unsigned long long)decoder->received, (unsigned long long)expected);
    return events->end(events->ctx, reterr);
}
