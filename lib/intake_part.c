/* Geometry of shards. */
#include "intake_state.h"

#include <inttypes.h>
#include <string.h>

#include "banned.h"

static enum lyap_status check_shape(const struct lyap_tensor *declared,
                                    const struct lyap_shard *shard, struct lyap_error *reterr)
{
    bool is_same = declared->rank == shard->rank;
    for (uint32_t d = 0; is_same && d < declared->rank; d++)
        is_same = declared->shape[d] == shard->shape[d];
    if (is_same)
        return LYAP_OK;
    return lyap_error_set(reterr, LYAP_E_SHARD_COVERAGE,
                          "shard of '%s': its shape is not the declared shape of the whole tensor",
                          declared->name);
}

/* The last dimension that the box does not span, and all behind it, make one contiguous run. */
static void set_runs(const struct lyap_tensor *declared, const struct lyap_shard *shard,
                     const struct lyap_intake_entry *entry, struct lyap_part *part)
{
    uint64_t stride = 1, run = 1;
    uint32_t outer = declared->rank;
    bool is_open = true;
    for (uint32_t d = declared->rank; d-- > 0;) {
        part->extent[d] = entry->shape[d];
        part->start[d] = shard->start[d];
        part->stride[d] = stride;
        if (is_open) {
            run *= entry->shape[d];
            part->run_offset += shard->start[d] * stride;
            outer = d;
            is_open = entry->shape[d] == declared->shape[d];
        }
        stride *= declared->shape[d];
    }
    part->run = run;
    part->outer = outer;
}

static enum lyap_status set_box(const struct lyap_tensor *declared, const struct lyap_shard *shard,
                                const struct lyap_intake_entry *entry, struct lyap_part *part,
                                struct lyap_error *reterr)
{
    if (!entry->shape || entry->rank != declared->rank)
        return lyap_error_set(reterr, LYAP_E_SHARD_COVERAGE,
                              "shard of '%s': the box has rank %" PRIu32
                              ", the declared tensor %" PRIu32,
                              declared->name, entry->rank, declared->rank);
    for (uint32_t d = 0; d < declared->rank; d++) {
        if (shard->start[d] <= declared->shape[d] &&
            entry->shape[d] <= declared->shape[d] - shard->start[d])
            continue;
        return lyap_error_set(reterr, LYAP_E_SHARD_COVERAGE,
                              "shard of '%s': start %" PRIu64 " plus extent %" PRIu64
                              " exceeds %" PRIu64 " in dimension %" PRIu32,
                              declared->name, shard->start[d], entry->shape[d], declared->shape[d],
                              d);
    }
    part->is_box = true;
    set_runs(declared, shard, entry, part);
    return LYAP_OK;
}

enum lyap_status lyap_part_set(const struct lyap_tensor *declared, const struct lyap_shard *shard,
                               const struct lyap_intake_entry *entry, struct lyap_part *ret_part,
                               struct lyap_error *reterr)
{
    struct lyap_part part = { 0 };
    if (check_shape(declared, shard, reterr) != LYAP_OK)
        return LYAP_E_SHARD_COVERAGE;
    if (shard->is_box) {
        const enum lyap_status status = set_box(declared, shard, entry, &part, reterr);
        if (status == LYAP_OK)
            *ret_part = part;
        return status;
    }
    part.offset = shard->offset;
    if (shard->offset > declared->count || entry->count > declared->count - shard->offset)
        return lyap_error_set(reterr, LYAP_E_SHARD_COVERAGE,
                              "shard of '%s': offset %" PRIu64 " plus %" PRIu64
                              " elements exceeds %" PRIu64,
                              declared->name, shard->offset, entry->count, declared->count);
    *ret_part = part;
    return LYAP_OK;
}

static uint64_t mixed(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * UINT64_C(0x9E3779B97F4A7C15) + (hash >> 29);
}

uint64_t lyap_part_key(const struct lyap_part *part)
{
    uint64_t key = mixed(part->is_box, part->offset);
    for (uint32_t d = 0; d < LYAP_TENSOR_RANK_MAX; d++)
        key = mixed(mixed(key, part->extent[d]), part->start[d]);
    return key;
}
