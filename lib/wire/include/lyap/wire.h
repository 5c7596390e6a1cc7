/* wire.h - decodes the body of a push, whatever its format, into the same events (docs/wire.md).
 * safetensors streams: the header (at most LYAP_HEADER_BYTES_MAX) is the only part that is
 * buffered, tensor bytes go on as they come. JSON and NDJSON documents (at most LYAP_JSON_BYTES_MAX
 * each) are parsed and replayed as F64 arrays. No I/O. THREADS: one decoder has one owner at a
 * time. */
#ifndef LYAP_WIRE_H
#define LYAP_WIRE_H

#include "lyap/declaration.h"
#include "lyap/dtype.h"
#include "lyap/intake.h"
#include "lyap/snapshot.h"
#include "lyap/status.h"

enum lyap_wire_format { LYAP_WIRE_SAFETENSORS, LYAP_WIRE_JSON, LYAP_WIRE_NDJSON };

/* One array of the body, in body order. */
struct lyap_wire_entry {
    char *name; /* as written: role/name, reduce/field or sketch/role; owned by the
                   decoder */
    enum lyap_dtype dtype;
    uint32_t rank;
    uint64_t shape[LYAP_TENSOR_RANK_MAX];
    uint64_t count, bytes; /* may be 0; such an entry gets no bytes event */
    uint64_t offset;       /* safetensors: of its first byte in the data */
};

/* Called in this order for each snapshot of the body: snapshot, bytes ..., end. Bytes come entry by
 * entry in the order of `entries`. The end of safetensors and JSON comes from finish, when the body
 * is known to be whole; that of an NDJSON line from feed or finish. A status other than OK stops
 * the decoder, which returns it. */
struct lyap_wire_events {
    void *ctx;
    /* `snapshot` is borrowed until end; entries too. */
    enum lyap_status (*snapshot)(void *ctx, struct lyap_snapshot *snapshot,
                                 const struct lyap_wire_entry *entries, uint32_t entry_count,
                                 struct lyap_error *reterr);
    void (*bytes)(void *ctx, uint32_t entry, const void *bytes, uint64_t length);
    enum lyap_status (*end)(void *ctx, struct lyap_error *reterr);
};

struct lyap_wire_options {
    enum lyap_wire_format format;
    const struct lyap_snapshot
        *query;              /* keys of the query string, merged into each snapshot; or NULL */
    uint64_t body_bytes_max; /* E_LIMIT beyond */
    struct lyap_wire_events events;
};

struct lyap_wire_decoder;
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_wire_decoder_new(const struct lyap_wire_options *options,
                      struct lyap_wire_decoder **ret_decoder);
LYAP_API void lyap_wire_decoder_free(struct lyap_wire_decoder *decoder);
/* Memory of the header or document so far: the caller bounds the sum over its decoders. */
LYAP_API uint64_t lyap_wire_held_bytes(const struct lyap_wire_decoder *decoder);
/* Consumes all of `bytes`. After a failure every further call returns the same status. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_wire_feed(struct lyap_wire_decoder *decoder,
                                                         const void *bytes, uint64_t length,
                                                         struct lyap_error *reterr);
/* The body is over: E_FORMAT when it is truncated, says where. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_wire_finish(struct lyap_wire_decoder *decoder,
                                                           struct lyap_error *reterr);
/* Sets a key of the query string: lyap_snapshot_set, and `shard` as well. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_wire_query_set(struct lyap_snapshot *snapshot,
                                                              const char *key, const char *value,
                                                              struct lyap_error *reterr);

/* The param tensors of the body with their unsharded shapes (shards of the snapshot applied). A
 * partial push or one without tensors gives count 0. Unknown role: E_UNKNOWN_FIELD that lists the
 * known ones. A full and a partial part in one body: E_CONTRADICTION. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_wire_param_set(const struct lyap_wire_entry *entries,
                                                              uint32_t entry_count,
                                                              const struct lyap_snapshot *snapshot,
                                                              struct lyap_tensor_set *ret_set,
                                                              struct lyap_error *reterr);
/* Entries as the intake wants them: names resolved against the declared tensors and layers.
 * E_TENSOR_SET (a tensor the declaration lacks), E_INVALID (shape, dtype of a partial row; an
 * activation of no declared layer), E_NOMEM. Caller frees with
 * lyap_free. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_wire_resolve(const struct lyap_wire_entry *entries, uint32_t entry_count,
                  const struct lyap_snapshot *snapshot, const struct lyap_declaration *declaration,
                  struct lyap_intake_entry **ret_entries, struct lyap_error *reterr);

/* Run declaration <-> JSON (the PUT body's fields: optimizer, tensors, layers, data, windows,
 * retention). Strict: unknown keys name themselves. `base_json` (stored declaration or NULL)
 * supplies fields that `json` leaves out; a field given replaces it whole, null takes it back.
 * *ret_json: the merged canonical text, freed with lyap_free. Keys that PUT handles itself (labels,
 * attempt, attempt_key) are ignored here. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_wire_declaration(const char *json, uint64_t length, const char *base_json,
                      struct lyap_declaration *ret_declaration, char **ret_json,
                      struct lyap_error *reterr);

#endif
