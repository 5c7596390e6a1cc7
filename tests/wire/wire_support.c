/* Bodies and traces of the wire tests. */
#include "wire_support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/text.h"

/* The consumer of the events, which checks their order as it goes. */
struct consumer {
    const struct trace_options *options;
    struct trace *trace;
    FILE *stream;
    const struct lyap_wire_entry *entries; /* NULL: between snapshots */
    uint32_t entry_count;
    uint32_t entry;
    uint64_t done;          /* bytes of it */
    unsigned char *payload; /* of the present entry */
    unsigned events;
};

static void write_number(FILE *stream, double value)
{
    struct lyap_quote quote;
    fprintf(stream, " %s", lyap_quote_double(value, &quote));
}

static void write_snapshot(FILE *stream, const struct lyap_snapshot *s)
{
    fprintf(stream, "snapshot present=%x step=%lld", s->present, (long long)s->step);
    write_number(stream, s->loss);
    for (uint32_t i = 0; i < s->lr_count; i++)
        write_number(stream, s->lr[i]);
    fprintf(stream, " rank=%u/%u time=%lld skipped=%d batch=%s", s->rank, s->world,
            (long long)s->time_ns, s->is_skipped, s->batch_id);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        const struct lyap_shard *shard = &s->shards[i];
        struct lyap_quote shape, start;
        fprintf(stream, " shard:%s%s@%s%llu", shard->tensor,
                lyap_quote_shape(shard->shape, shard->rank, &shape),
                shard->is_box ? lyap_quote_shape(shard->start, shard->rank, &start) : "",
                (unsigned long long)shard->offset);
    }
    for (uint32_t i = 0; i < s->label_count; i++)
        fprintf(stream, " %s=%s", s->labels[i].key, s->labels[i].value);
    fputc('\n', stream);
}

static enum lyap_status refuse_or_go_on(struct consumer *consumer, struct lyap_error *reterr)
{
    if (++consumer->events == consumer->options->refuse_at)
        return lyap_error_set(reterr, LYAP_E_CONFLICT, "refused by the test");
    return LYAP_OK;
}

static enum lyap_status on_snapshot(void *ctx, struct lyap_snapshot *snapshot,
                                    const struct lyap_wire_entry *entries, uint32_t entry_count,
                                    struct lyap_error *reterr)
{
    struct consumer *consumer = ctx;
    ck_assert_msg(!consumer->entries, "a snapshot before the end of the last");
    static const struct lyap_wire_entry none;
    consumer->entries = entry_count > 0 ? entries : &none;
    consumer->entry_count = entry_count;
    consumer->entry = 0;
    consumer->done = 0;
    consumer->trace->snapshots++;
    write_snapshot(consumer->stream, snapshot);
    for (uint32_t i = 0; i < entry_count; i++) {
        struct lyap_quote shape;
        fprintf(consumer->stream, "entry %s %s %s %llu\n", entries[i].name,
                consumer->options->is_dtype_hidden ? "" : lyap_dtype_name(entries[i].dtype),
                lyap_quote_shape(entries[i].shape, entries[i].rank, &shape),
                (unsigned long long)entries[i].count);
        ck_assert_uint_eq(entries[i].bytes, entries[i].count * lyap_dtype_bytes(entries[i].dtype));
    }
    return refuse_or_go_on(consumer, reterr);
}

static void entry_close(struct consumer *consumer)
{
    const struct lyap_wire_entry *entry = &consumer->entries[consumer->entry];
    double *values = malloc(entry->count * sizeof *values + 1);
    lyap_dtype_widen(entry->dtype, consumer->payload, entry->count, values);
    fprintf(consumer->stream, "values %s", entry->name);
    for (uint64_t i = 0; i < entry->count; i++)
        write_number(consumer->stream, values[i]);
    fputc('\n', consumer->stream);
    free(values);
    free(consumer->payload);
    consumer->payload = NULL;
    consumer->entry++;
    consumer->done = 0;
}

static void skip_empty(struct consumer *consumer)
{
    while (consumer->entry < consumer->entry_count && consumer->entries[consumer->entry].bytes == 0)
        consumer->entry++;
}

static void on_bytes(void *ctx, uint32_t index, const void *bytes, uint64_t length)
{
    struct consumer *consumer = ctx;
    ck_assert_ptr_nonnull(consumer->entries);
    skip_empty(consumer);
    ck_assert_uint_eq(index, consumer->entry);
    ck_assert_uint_lt(index, consumer->entry_count);
    const struct lyap_wire_entry *entry = &consumer->entries[index];
    ck_assert_uint_gt(length, 0);
    ck_assert_uint_le(length, entry->bytes - consumer->done);
    if (!consumer->payload)
        consumer->payload = malloc(entry->bytes);
    memcpy(consumer->payload + consumer->done, bytes, length);
    consumer->done += length;
    if (consumer->done == entry->bytes)
        entry_close(consumer);
}

static enum lyap_status on_end(void *ctx, struct lyap_error *reterr)
{
    struct consumer *consumer = ctx;
    ck_assert_ptr_nonnull(consumer->entries);
    skip_empty(consumer);
    ck_assert_uint_eq(consumer->entry, consumer->entry_count);
    consumer->entries = NULL;
    consumer->trace->ends++;
    fputs("end\n", consumer->stream);
    return refuse_or_go_on(consumer, reterr);
}

static enum lyap_status feed_all(struct lyap_wire_decoder *decoder,
                                 const struct trace_options *options, const char *body,
                                 size_t length, struct lyap_error *reterr)
{
    size_t chunk = options->chunk_bytes > 0 ? options->chunk_bytes : length;
    if (options->first_bytes > 0)
        chunk = options->first_bytes;
    for (size_t at = 0; at < length;) {
        const size_t part = chunk < length - at ? chunk : length - at;
        /* A copy of its own, so that a read beyond the chunk is a read beyond an allocation. */
        char *copy = malloc(part);
        memcpy(copy, body + at, part);
        const enum lyap_status status = lyap_wire_feed(decoder, copy, part, reterr);
        free(copy);
        if (status)
            return status;
        at += part;
        if (options->first_bytes > 0)
            chunk = length;
    }
    return lyap_wire_finish(decoder, reterr);
}

/* After a failure every further call fails alike. */
static void assert_stays_failed(struct lyap_wire_decoder *decoder, const struct trace *trace)
{
    struct lyap_error again = LYAP_ERROR_NULL;
    ck_assert_int_eq(lyap_wire_feed(decoder, "x", 1, &again), trace->status);
    ck_assert_str_eq(again.text, trace->err.text);
    ck_assert_int_eq(lyap_wire_finish(decoder, NULL), trace->status);
}

struct trace trace_run(const struct trace_options *options, const void *body, size_t length)
{
    struct trace trace = { .err = LYAP_ERROR_NULL };
    struct consumer consumer = { .options = options, .trace = &trace };
    size_t size;
    consumer.stream = open_memstream(&trace.text, &size);
    const struct lyap_wire_options wire = {
        .format = options->format,
        .query = options->query,
        .body_bytes_max = options->body_bytes_max > 0 ? options->body_bytes_max : UINT64_MAX,
        .events = { &consumer, on_snapshot, on_bytes, on_end },
    };
    struct lyap_wire_decoder *decoder = NULL;
    trace.status = lyap_wire_decoder_new(&wire, &decoder);
    if (trace.status == LYAP_OK) {
        trace.status = feed_all(decoder, options, body, length, &trace.err);
        if (trace.status)
            assert_stays_failed(decoder, &trace);
    }
    lyap_wire_decoder_free(decoder);
    free(consumer.payload);
    fclose(consumer.stream);
    return trace;
}

void trace_release(struct trace *trace)
{
    free(trace->text);
    trace->text = NULL;
}

char *body_make(const char *header, size_t data_bytes, size_t *ret_length)
{
    const size_t header_bytes = strlen(header);
    char *body = malloc(8 + header_bytes + data_bytes);
    for (unsigned i = 0; i < 8; i++)
        body[i] = (char)(header_bytes >> (8 * i) & 0xFF);
    memcpy(body + 8, header, header_bytes);
    for (size_t i = 0; i < data_bytes; i++)
        body[8 + header_bytes + i] = (char)i;
    *ret_length = 8 + header_bytes + data_bytes;
    return body;
}

void trace_assert_failed(const struct trace *trace, enum lyap_status status, const char *fragment)
{
    ck_assert_msg(trace->status == status, "status %s, expected %s: %s",
                  lyap_status_slug(trace->status), lyap_status_slug(status), trace->err.text);
    ck_assert_msg(strstr(trace->err.text, fragment) != NULL, "\"%s\" lacks \"%s\"", trace->err.text,
                  fragment);
}
