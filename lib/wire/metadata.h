/* metadata.h - keys of a snapshot out of JSON, and shards. Internal to lib/wire/.
 * THREADS: the caller owns the snapshot. */
#ifndef LYAP_WIRE_METADATA_H
#define LYAP_WIRE_METADATA_H

#include "json.h"
#include "lyap/snapshot.h"

/* Whether the body gave this key already: formats forbid to repeat it. */
bool lyap_metadata_has(const struct lyap_snapshot *snapshot, const char *key);
/* One key whose value is the string `value` (safetensors `__metadata__`, query string), shard
 * included; `value` is overwritten. */
LYAP_MUST_CHECK enum lyap_status lyap_metadata_text(struct lyap_snapshot *snapshot, const char *key,
                                                    char *value, struct lyap_error *reterr);
/* One key whose value is the next JSON value: number, string, flag, list (lr), object (shard);
 * null says nothing. */
LYAP_MUST_CHECK enum lyap_status lyap_metadata_json(struct lyap_snapshot *snapshot, const char *key,
                                                    struct lyap_json *json);
/* Shards of `other` where `snapshot` has none; E_CONTRADICTION where both differ. */
LYAP_MUST_CHECK enum lyap_status lyap_metadata_merge_shards(struct lyap_snapshot *snapshot,
                                                            const struct lyap_snapshot *other,
                                                            struct lyap_error *reterr);
/* A list of at most LYAP_TENSOR_RANK_MAX non-negative integers. */
LYAP_MUST_CHECK enum lyap_status lyap_metadata_shape(struct lyap_json *json, uint64_t *ret_shape,
                                                     uint32_t *ret_rank);
/* The shard of a tensor, NULL when it is whole. Shards are sorted by name. */
const struct lyap_shard *lyap_metadata_shard_of(const struct lyap_snapshot *snapshot,
                                                const char *tensor);

#endif
