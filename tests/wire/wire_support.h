/* wire_support.h - bodies, and a decoder run whose events become one text that tests compare. */
#ifndef LYAP_TEST_WIRE_SUPPORT_H
#define LYAP_TEST_WIRE_SUPPORT_H

#include <stddef.h>
#include <stdio.h>

#include "lyap/wire.h"
#include "support.h"

/* What a decoder raised, in words: snapshots with keys and entries, the values of every entry as
 * F64, ends. Chunk borders leave no trace. */
struct trace {
    char *text; /* malloc'ed */
    enum lyap_status status;
    struct lyap_error err;
    unsigned snapshots, ends;
};

struct trace_options {
    enum lyap_wire_format format;
    const struct lyap_snapshot *query;
    uint64_t body_bytes_max; /* 0: no limit */
    size_t chunk_bytes;      /* 0: in one piece */
    size_t first_bytes;      /* > 0: two pieces, the first of this length */
    bool is_dtype_hidden;    /* leaves dtypes out of the trace */
    unsigned refuse_at;      /* the n-th event (from 1) answers E_CONFLICT; 0: none */
};

struct trace trace_run(const struct trace_options *options, const void *body, size_t length);
void trace_release(struct trace *trace);

/* A safetensors body: length, header, `data_bytes` bytes 0, 1, 2 ...; malloc'ed. */
char *body_make(const char *header, size_t data_bytes, size_t *ret_length);

/* The trace failed so. */
void trace_assert_failed(const struct trace *trace, enum lyap_status status, const char *fragment);

#endif
