/* decoder.h - what the formats of one push share: buffers, entries, the snapshot of the body being
 * decoded, and the events. Internal to lib/wire/. THREADS: one owner at a time, that of the
 * decoder. */
#ifndef LYAP_WIRE_DECODER_H
#define LYAP_WIRE_DECODER_H

#include "lyap/wire.h"

/* A growing byte buffer that is always terminated; text is NULL before the first byte. */
struct lyap_wire_buffer {
    char *text; /* owned */
    uint64_t length, capacity;
};

/* Entries of the body, names borrowed from a buffer. */
struct lyap_wire_entries {
    struct lyap_wire_entry *items; /* owned */
    uint32_t count, capacity;
};

/* Numbers of all tensors of a JSON document, one after another in entry order. */
struct lyap_wire_values {
    double *items; /* owned */
    uint64_t count, capacity;
};

enum lyap_wire_stage { LYAP_STAGE_LENGTH, LYAP_STAGE_HEADER, LYAP_STAGE_DATA };

struct lyap_wire_decoder {
    struct lyap_wire_options options;
    struct lyap_error err;          /* of the failure; status OK while there is none */
    uint64_t received;              /* bytes of the body so far */
    struct lyap_wire_buffer buffer; /* header, document or line */
    struct lyap_wire_entries entries;
    struct lyap_wire_values values;
    struct lyap_snapshot snapshot;
    /* safetensors */
    enum lyap_wire_stage stage;
    uint64_t header_bytes;
    uint64_t data_bytes; /* of all entries */
    uint32_t entry;      /* the one whose bytes come next */
    uint64_t entry_done; /* bytes of it that went on */
    /* ndjson */
    uint32_t line;      /* from 0; blank lines count */
    uint32_t snapshots; /* lines that were not blank */
};

/* Appends `length` bytes, growing by doubling: memory follows what arrived, never what was
 * announced. The caller bounds the total. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_wire_buffer_append(struct lyap_wire_buffer *buffer,
                                                         const void *bytes, uint64_t length);
/* A new zeroed entry at the end; E_LIMIT beyond LYAP_TENSOR_COUNT_MAX, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_wire_entries_append(struct lyap_wire_entries *entries,
                                                          struct lyap_wire_entry **ret_entry,
                                                          struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status lyap_wire_values_append(struct lyap_wire_values *values,
                                                         double value);
/* E_FORMAT naming an entry that occurs twice. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_wire_entries_unique(const struct lyap_wire_entries *entries,
                                                          struct lyap_error *reterr);
/* Sets count and bytes of the entry from shape and dtype. E_LIMIT beyond
 * LYAP_TENSOR_ELEMENTS_MAX. */
LYAP_MUST_CHECK enum lyap_status lyap_wire_entry_size(struct lyap_wire_entry *entry,
                                                      struct lyap_error *reterr);

/* Merges the query into the decoded snapshot, checks it and raises the snapshot event. */
LYAP_MUST_CHECK enum lyap_status lyap_wire_begin(struct lyap_wire_decoder *decoder,
                                                 struct lyap_error *reterr);

/* Formats: feed consumes all of `bytes`; finish ends the body. */
LYAP_MUST_CHECK enum lyap_status lyap_safetensors_feed(struct lyap_wire_decoder *decoder,
                                                       const char *bytes, uint64_t length,
                                                       struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status lyap_safetensors_finish(struct lyap_wire_decoder *decoder,
                                                         struct lyap_error *reterr);
/* safetensors header in decoder->buffer -> snapshot, entries in offset order, data_bytes. */
LYAP_MUST_CHECK enum lyap_status lyap_safetensors_header(struct lyap_wire_decoder *decoder,
                                                         struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status lyap_document_feed(struct lyap_wire_decoder *decoder,
                                                    const char *bytes, uint64_t length,
                                                    struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status lyap_document_finish(struct lyap_wire_decoder *decoder,
                                                      struct lyap_error *reterr);
/* JSON text in decoder->buffer -> snapshot, entries, values. */
LYAP_MUST_CHECK enum lyap_status lyap_document_parse(struct lyap_wire_decoder *decoder,
                                                     struct lyap_error *reterr);
/* Parses the buffer and raises all events of its snapshot, end included. */
LYAP_MUST_CHECK enum lyap_status lyap_document_replay(struct lyap_wire_decoder *decoder,
                                                      struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status lyap_ndjson_feed(struct lyap_wire_decoder *decoder,
                                                  const char *bytes, uint64_t length,
                                                  struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status lyap_ndjson_finish(struct lyap_wire_decoder *decoder,
                                                    struct lyap_error *reterr);

#endif
