/* Parts of a score as bytes: version, counts, then observables, names and numbers; little-endian.
 */
#include "lyap/parts.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "banned.h"

enum { ALONE = 255 }; /* in place of the second observable of a conjunction */

_Static_assert((int)LYAP_OBSERVABLE_COUNT < (int)ALONE, "an observable is a byte");
_Static_assert(4 + LYAP_SCORE_KIND_COUNT + 1 +
                       LYAP_SCORE_KIND_COUNT * LYAP_SCORE_PARTS_MAX * (2 + 5 * 8) +
                       LYAP_PARTS_TENSORS_MAX * (2 + 8 + LYAP_TENSOR_NAME_BYTES_MAX + 1) <=
                   LYAP_PARTS_BYTES_MAX,
               "the largest parts fit");

static const char *const names[LYAP_NAMED_COUNT] = { "overshoot_work", "update_z", "grad_z",
                                                     "second_moment_ratio" };

const char *lyap_named_for_name(enum lyap_named_for reason)
{
    return names[reason];
}

struct sink {
    unsigned char *bytes;
    uint32_t length;
};

static void put_bytes(struct sink *sink, uint64_t word, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        sink->bytes[sink->length++] = (unsigned char)(word >> (8 * i));
}

static void put_double(struct sink *sink, double value)
{
    uint64_t word;
    memcpy(&word, &value, sizeof word);
    put_bytes(sink, word, 8);
}

static void put_part(struct sink *sink, const struct lyap_score_part *part)
{
    const bool is_pair = part->b != LYAP_OBSERVABLE_COUNT;
    put_bytes(sink, part->a, 1);
    put_bytes(sink, is_pair ? (unsigned)part->b : ALONE, 1);
    put_double(sink, part->log_odds);
    put_double(sink, part->value_a);
    if (!is_pair)
        return;
    put_double(sink, part->value_b);
    put_double(sink, part->per_a);
    put_double(sink, part->per_b);
}

uint32_t lyap_parts_encode(const struct lyap_parts *parts,
                           unsigned char ret_bytes[LYAP_PARTS_BYTES_MAX])
{
    struct sink sink = { 0 };
    if (parts->version == 0)
        return 0;
    sink.bytes = ret_bytes;
    put_bytes(&sink, parts->version, 4);
    for (unsigned kind = 0; kind < LYAP_SCORE_KIND_COUNT; kind++)
        put_bytes(&sink, parts->counts[kind], 1);
    put_bytes(&sink, parts->tensor_count, 1);
    for (unsigned kind = 0; kind < LYAP_SCORE_KIND_COUNT; kind++)
        for (uint32_t i = 0; i < parts->counts[kind]; i++)
            put_part(&sink, &parts->parts[kind][i]);
    for (uint32_t i = 0; i < parts->tensor_count; i++) {
        const struct lyap_named_tensor *tensor = &parts->tensors[i];
        const size_t length = strlen(tensor->name);
        put_bytes(&sink, tensor->reason, 1);
        put_double(&sink, tensor->value);
        put_bytes(&sink, length, 2);
        memcpy(sink.bytes + sink.length, tensor->name, length);
        sink.length += (uint32_t)length;
    }
    return sink.length;
}

struct source {
    const unsigned char *bytes;
    uint32_t length, at;
    bool is_short;
};

static uint64_t get_bytes(struct source *source, unsigned count)
{
    uint64_t word = 0;
    if (source->length - source->at < count) {
        source->is_short = true;
        return 0;
    }
    for (unsigned i = 0; i < count; i++)
        word |= (uint64_t)source->bytes[source->at++] << (8 * i);
    return word;
}

static double get_double(struct source *source)
{
    const uint64_t word = get_bytes(source, 8);
    double value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static bool get_part(struct source *source, struct lyap_score_part *ret_part)
{
    const uint64_t a = get_bytes(source, 1), b = get_bytes(source, 1);
    if (a >= LYAP_OBSERVABLE_COUNT || (b >= LYAP_OBSERVABLE_COUNT && b != ALONE))
        return false;
    *ret_part = (struct lyap_score_part){ .a = (enum lyap_observable)a,
                                          .b = LYAP_OBSERVABLE_COUNT,
                                          .value_b = NAN,
                                          .per_a = NAN,
                                          .per_b = NAN };
    ret_part->log_odds = get_double(source);
    ret_part->value_a = get_double(source);
    if (b == ALONE)
        return !source->is_short;
    ret_part->b = (enum lyap_observable)b;
    ret_part->value_b = get_double(source);
    ret_part->per_a = get_double(source);
    ret_part->per_b = get_double(source);
    return !source->is_short;
}

static bool get_tensor(struct source *source, struct lyap_named_tensor *ret_tensor)
{
    const uint64_t reason = get_bytes(source, 1);
    ret_tensor->value = get_double(source);
    const uint64_t length = get_bytes(source, 2);
    if (source->is_short || reason >= LYAP_NAMED_COUNT || length > LYAP_TENSOR_NAME_BYTES_MAX ||
        source->length - source->at < length)
        return false;
    ret_tensor->reason = (enum lyap_named_for)reason;
    memcpy(ret_tensor->name, source->bytes + source->at, length);
    ret_tensor->name[length] = '\0';
    source->at += (uint32_t)length;
    return true;
}

enum lyap_status lyap_parts_decode(const unsigned char *bytes, uint32_t length,
                                   struct lyap_parts *ret_parts)
{
    struct source source = { .bytes = bytes, .length = length };
    ret_parts->version = ret_parts->tensor_count = 0;
    memset(ret_parts->counts, 0, sizeof ret_parts->counts);
    if (length == 0)
        return LYAP_OK;
    const uint64_t version = get_bytes(&source, 4);
    uint32_t counts[LYAP_SCORE_KIND_COUNT];
    for (unsigned kind = 0; kind < LYAP_SCORE_KIND_COUNT; kind++)
        counts[kind] = (uint32_t)get_bytes(&source, 1);
    const uint64_t tensors = get_bytes(&source, 1);
    if (source.is_short || version == 0 || tensors > LYAP_PARTS_TENSORS_MAX)
        return LYAP_E_FORMAT;
    for (unsigned kind = 0; kind < LYAP_SCORE_KIND_COUNT; kind++) {
        if (counts[kind] > LYAP_SCORE_PARTS_MAX)
            return LYAP_E_FORMAT;
        for (uint32_t i = 0; i < counts[kind]; i++)
            if (!get_part(&source, &ret_parts->parts[kind][i]))
                return LYAP_E_FORMAT;
    }
    for (uint32_t i = 0; i < tensors; i++)
        if (!get_tensor(&source, &ret_parts->tensors[i]))
            return LYAP_E_FORMAT;
    if (source.at != source.length)
        return LYAP_E_FORMAT;
    ret_parts->version = (uint32_t)version;
    memcpy(ret_parts->counts, counts, sizeof counts);
    ret_parts->tensor_count = (uint32_t)tensors;
    return LYAP_OK;
}
