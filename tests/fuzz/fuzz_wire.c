/* Decoder runs for the harnesses: a hash over the events stands for them. */
#include "fuzz_wire.h"

#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"

enum { BODY_BYTES_MAX = 1 << 20 };

struct run {
    uint64_t hash;
    enum lyap_status status;
    const struct lyap_wire_entry *entries; /* of the open snapshot */
    uint32_t entry_count, entry;
    uint64_t done; /* bytes of it */
    int is_open;
};

static void check(int is_true)
{
    if (!is_true)
        abort();
}

static void mix(struct run *run, const void *bytes, uint64_t length)
{
    const unsigned char *at = bytes;
    for (uint64_t i = 0; i < length; i++)
        run->hash = (run->hash ^ at[i]) * UINT64_C(0x100000001B3);
}

static void resolve(const struct lyap_snapshot *snapshot, const struct lyap_wire_entry *entries,
                    uint32_t entry_count)
{
    struct lyap_declaration declaration;
    struct lyap_intake_entry *resolved = NULL;
    struct lyap_error err = LYAP_ERROR_NULL;
    lyap_declaration_init(&declaration);
    if (lyap_wire_param_set(entries, entry_count, snapshot, &declaration.set, &err) != LYAP_OK) {
        check(declaration.set.count == 0 && err.status != LYAP_OK);
        return;
    }
    if (lyap_wire_resolve(entries, entry_count, snapshot, &declaration, &resolved, &err) ==
        LYAP_OK) {
        for (uint32_t i = 0; i < entry_count; i++)
            check(resolved[i].kind != LYAP_INTAKE_TENSOR ||
                  resolved[i].tensor < declaration.set.count);
        lyap_free(resolved);
    }
    lyap_declaration_release(&declaration);
}

static enum lyap_status on_snapshot(void *ctx, struct lyap_snapshot *snapshot,
                                    const struct lyap_wire_entry *entries, uint32_t entry_count,
                                    struct lyap_error *reterr)
{
    struct run *run = ctx;
    (void)reterr;
    check(!run->is_open);
    check(lyap_snapshot_check(snapshot, NULL) == LYAP_OK);
    *run = (struct run){
        .hash = run->hash, .entries = entries, .entry_count = entry_count, .is_open = 1
    };
    mix(run, &snapshot->step, sizeof snapshot->step);
    mix(run, &snapshot->present, sizeof snapshot->present);
    for (uint32_t i = 0; i < entry_count; i++) {
        check(entries[i].rank <= LYAP_TENSOR_RANK_MAX);
        check(entries[i].bytes == entries[i].count * lyap_dtype_bytes(entries[i].dtype));
        mix(run, entries[i].name, strlen(entries[i].name));
        mix(run, entries[i].shape, entries[i].rank * sizeof *entries[i].shape);
    }
    resolve(snapshot, entries, entry_count);
    return LYAP_OK;
}

static void skip_full(struct run *run)
{
    while (run->entry < run->entry_count && run->done == run->entries[run->entry].bytes) {
        run->entry++;
        run->done = 0;
    }
}

static void on_bytes(void *ctx, uint32_t entry, const void *bytes, uint64_t length)
{
    struct run *run = ctx;
    skip_full(run);
    check(run->is_open && entry == run->entry && entry < run->entry_count);
    check(length > 0 && length <= run->entries[entry].bytes - run->done);
    run->done += length;
    mix(run, bytes, length);
}

static enum lyap_status on_end(void *ctx, struct lyap_error *reterr)
{
    struct run *run = ctx;
    (void)reterr;
    skip_full(run);
    check(run->is_open && run->entry == run->entry_count);
    run->is_open = 0;
    mix(run, "end", 3);
    return LYAP_OK;
}

static struct run decode(enum lyap_wire_format format, const uint8_t *body, uint64_t length,
                         uint64_t chunk_bytes)
{
    struct run run = { .hash = UINT64_C(0xCBF29CE484222325) };
    const struct lyap_wire_options options = { .format = format,
                                               .body_bytes_max = BODY_BYTES_MAX,
                                               .events = { &run, on_snapshot, on_bytes, on_end } };
    struct lyap_error err = LYAP_ERROR_NULL;
    struct lyap_wire_decoder *decoder = NULL;
    check(lyap_wire_decoder_new(&options, &decoder) == LYAP_OK);
    enum lyap_status status = LYAP_OK;
    for (uint64_t at = 0; status == LYAP_OK && at < length;) {
        const uint64_t part = chunk_bytes < length - at ? chunk_bytes : length - at;
        status = lyap_wire_feed(decoder, body + at, part, &err);
        at += part;
    }
    if (status == LYAP_OK)
        status = lyap_wire_finish(decoder, &err);
    check((status == LYAP_OK) == (err.status == LYAP_OK) && err.status == status);
    check(status == LYAP_OK || strlen(err.text) > 0);
    check(status != LYAP_OK || !run.is_open);
    run.status = status;
    lyap_wire_decoder_free(decoder);
    return run;
}

void fuzz_decode(enum lyap_wire_format format, const uint8_t *body, uint64_t length,
                 uint64_t chunk_bytes)
{
    const struct run whole = decode(format, body, length, length > 0 ? length : 1);
    const struct run cut = decode(format, body, length, chunk_bytes);
    check(whole.status == cut.status);
    check(whole.status != LYAP_OK || whole.hash == cut.hash);
}
