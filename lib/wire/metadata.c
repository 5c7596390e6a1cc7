/* Keys of a snapshot out of JSON, and shards. */
#include "metadata.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/text.h"
#include "lyap/wire.h"

enum {
    SHARDS_MIN = 16,
    NUMBER_TEXT_BYTES = 28, /* the longest shortest F64, a comma and a NUL */
    LIST_TEXT_BYTES = (LYAP_GROUP_COUNT_MAX + 2) * NUMBER_TEXT_BYTES
};

bool lyap_metadata_has(const struct lyap_snapshot *snapshot, const char *key)
{
    for (unsigned i = 0; i < LYAP_META_COUNT; i++)
        if (strcmp(lyap_meta_name((enum lyap_meta_key)i), key) == 0)
            return lyap_snapshot_has(snapshot, (enum lyap_meta_key)i);
    for (uint32_t i = 0; i < snapshot->label_count; i++)
        if (strcmp(snapshot->labels[i].key, key) == 0)
            return true;
    return false;
}

enum lyap_status lyap_metadata_shape(struct lyap_json *json, uint64_t *ret_shape,
                                     uint32_t *ret_rank)
{
    uint32_t rank = 0;
    bool is_more = false;
    enum lyap_status status = lyap_json_open(json, '[');
    while (status == LYAP_OK) {
        status = lyap_json_more(json, &is_more);
        if (status || !is_more)
            break;
        if (rank == LYAP_TENSOR_RANK_MAX)
            return lyap_json_fail(json, "more than %d dimensions, the limit", LYAP_TENSOR_RANK_MAX);
        status = lyap_json_unsigned(json, &ret_shape[rank++]);
    }
    *ret_rank = rank;
    return status;
}

/* A list of shards while it grows. */
struct shards {
    struct lyap_shard *items; /* owned, and the names */
    uint32_t count, capacity;
};

static void shards_release(struct shards *shards)
{
    for (uint32_t i = 0; i < shards->count; i++)
        lyap_free(shards->items[i].tensor);
    lyap_free(shards->items);
}

static enum lyap_status shards_append(struct shards *shards, const char *tensor,
                                      struct lyap_shard **ret_shard, struct lyap_error *reterr)
{
    if (shards->count == LYAP_TENSOR_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "shard names more than %d tensors",
                              LYAP_TENSOR_COUNT_MAX);
    if (shards->count == shards->capacity) {
        const uint32_t capacity = shards->capacity > 0 ? 2 * shards->capacity : SHARDS_MIN;
        struct lyap_shard *items = lyap_alloc_array(capacity, sizeof *items);
        if (!items)
            return LYAP_E_NOMEM;
        if (shards->count > 0)
            memcpy(items, shards->items, shards->count * sizeof *items);
        lyap_free(shards->items);
        shards->items = items;
        shards->capacity = capacity;
    }
    char *name = lyap_alloc_string(tensor);
    if (!name)
        return LYAP_E_NOMEM;
    *ret_shard = &shards->items[shards->count++];
    **ret_shard = (struct lyap_shard){ .tensor = name };
    return LYAP_OK;
}

enum shard_part { SHARD_SHAPE = 1, SHARD_OFFSET = 2, SHARD_START = 4 };

static enum lyap_status shard_part_read(struct lyap_json *json, const char *key,
                                        struct lyap_shard *shard, uint32_t *ret_start_rank,
                                        unsigned *parts)
{
    static const char *const names[] = { "shape", "offset", "start" };
    static const struct lyap_json_parts known = { names, 3,
                                                  "shape, and offset or start are known" };
    unsigned i;
    const enum lyap_status status = lyap_json_part(json, key, &known, parts, &i);
    if (status != LYAP_OK)
        return status;
    switch (1u << i) {
    case SHARD_SHAPE:
        return lyap_metadata_shape(json, shard->shape, &shard->rank);
    case SHARD_OFFSET:
        return lyap_json_unsigned(json, &shard->offset);
    default:
        shard->is_box = true;
        return lyap_metadata_shape(json, shard->start, ret_start_rank);
    }
}

static enum lyap_status shard_read(struct lyap_json *json, struct lyap_shard *shard)
{
    uint32_t start_rank = 0;
    unsigned parts = 0;
    char *key = NULL;
    enum lyap_status status = lyap_json_open(json, '{');
    while (status == LYAP_OK) {
        status = lyap_json_key(json, &key);
        if (status || !key)
            break;
        status = shard_part_read(json, key, shard, &start_rank, &parts);
    }
    if (status)
        return status;
    if (parts != (SHARD_SHAPE | SHARD_OFFSET) && parts != (SHARD_SHAPE | SHARD_START))
        return lyap_json_fail(json, "a shard has shape, and either offset or start");
    if (shard->is_box && start_rank != shard->rank)
        return lyap_json_fail(json, "start has %u numbers, shape %u", start_rank, shard->rank);
    return LYAP_OK;
}

static int compare_shards(const void *a, const void *b)
{
    const struct lyap_shard *x = a, *y = b;
    return strcmp(x->tensor, y->tensor);
}

static enum lyap_status shards_sort(struct shards *shards, struct lyap_json *json)
{
    if (shards->count > 0)
        qsort(shards->items, shards->count, sizeof *shards->items, compare_shards);
    for (uint32_t i = 1; i < shards->count; i++) {
        struct lyap_quote quote;
        if (compare_shards(&shards->items[i - 1], &shards->items[i]) == 0)
            return lyap_json_fail(json, "tensor %s occurs twice",
                                  lyap_quote_string(shards->items[i].tensor, &quote));
    }
    return LYAP_OK;
}

/* The object {"tensor": {"shape": ..., "offset" or "start": ...}, ...}. */
static enum lyap_status shards_read(struct lyap_json *json, struct shards *shards)
{
    const char *name_before = json->name;
    char *key = NULL;
    enum lyap_status status = lyap_json_open(json, '{');
    while (status == LYAP_OK) {
        struct lyap_shard *shard = NULL;
        status = lyap_json_key(json, &key);
        if (status || !key)
            break;
        json->name = key;
        status = shards_append(shards, key, &shard, json->reterr);
        if (status == LYAP_OK)
            status = shard_read(json, shard);
        json->name = name_before;
    }
    return status ? status : shards_sort(shards, json);
}

static bool shards_equal(const struct lyap_shard *a, const struct lyap_shard *b)
{
    const size_t bytes = a->rank * sizeof *a->shape;
    return strcmp(a->tensor, b->tensor) == 0 && a->rank == b->rank && a->is_box == b->is_box &&
           memcmp(a->shape, b->shape, bytes) == 0 &&
           (a->is_box ? memcmp(a->start, b->start, bytes) == 0 : a->offset == b->offset);
}

/* Stores the shards, or compares them with those that were given before. Takes the list. */
static enum lyap_status shards_give(struct lyap_snapshot *snapshot, struct shards *take_shards,
                                    struct lyap_error *reterr)
{
    if (!lyap_snapshot_has(snapshot, LYAP_META_SHARD)) {
        snapshot->shards = take_shards->items;
        snapshot->shard_count = take_shards->count;
        snapshot->present |= 1u << LYAP_META_SHARD;
        return LYAP_OK;
    }
    bool is_same = snapshot->shard_count == take_shards->count;
    for (uint32_t i = 0; is_same && i < take_shards->count; i++)
        is_same = shards_equal(&snapshot->shards[i], &take_shards->items[i]);
    shards_release(take_shards);
    if (!is_same)
        return lyap_error_set(reterr, LYAP_E_CONTRADICTION, "shard is given twice, differently");
    return LYAP_OK;
}

static enum lyap_status shard_json(struct lyap_snapshot *snapshot, struct lyap_json *json)
{
    struct shards shards = { 0 };
    const enum lyap_status status = shards_read(json, &shards);
    if (status) {
        shards_release(&shards);
        return status;
    }
    return shards_give(snapshot, &shards, json->reterr);
}

enum lyap_status lyap_metadata_text(struct lyap_snapshot *snapshot, const char *key, char *value,
                                    struct lyap_error *reterr)
{
    struct lyap_json json;
    if (strcmp(key, lyap_meta_name(LYAP_META_SHARD)) != 0)
        return lyap_snapshot_set(snapshot, key, value, reterr);
    lyap_json_init(&json, value, strlen(value), "shard", reterr);
    struct shards shards = { 0 };
    enum lyap_status status = shards_read(&json, &shards);
    if (status == LYAP_OK)
        status = lyap_json_end(&json, " \t\n\r");
    if (status) {
        shards_release(&shards);
        return status;
    }
    return shards_give(snapshot, &shards, reterr);
}

/* A number as snapshot_set reads it: an integer that was written with a point or exponent (7.0, as
 * some languages print it) is written anew. */
static enum lyap_status number_text(struct lyap_json *json, struct lyap_quote *ret_text)
{
    const char *text;
    struct lyap_quote quote;
    double value;
    size_t length;
    const enum lyap_status status = lyap_json_number(json, &text, &length);
    if (status)
        return status;
    const bool is_integer =
        !memchr(text, '.', length) && !memchr(text, 'e', length) && !memchr(text, 'E', length);
    if (is_integer && length < NUMBER_TEXT_BYTES) {
        memcpy(ret_text->text, text, length);
        ret_text->text[length] = '\0';
        return LYAP_OK;
    }
    if (!lyap_text_double(text, length, &value))
        return lyap_json_fail(json, "%s is beyond F64", lyap_quote(text, length, &quote));
    lyap_quote_double(value, ret_text);
    return LYAP_OK;
}

/* A word in a list: a name, or a number that JSON cannot write ("NaN"). */
static enum lyap_status word_text(struct lyap_json *json, struct lyap_quote *ret_text)
{
    char *string;
    const enum lyap_status status = lyap_json_string(json, &string);
    if (status)
        return status;
    const size_t length = strlen(string);
    if (length == 0 || length >= sizeof ret_text->text || strchr(string, ','))
        return lyap_json_fail(json, "a word of a list has 1 to %zu bytes and no comma",
                              sizeof ret_text->text - 1);
    memcpy(ret_text->text, string, length + 1);
    return LYAP_OK;
}

/* [0.1, 0.01] as "0.1,0.01"; `ret_text` holds LIST_TEXT_BYTES. */
static enum lyap_status list_text(struct lyap_json *json, char *ret_text)
{
    struct lyap_quote number;
    size_t used = 0;
    bool is_more = false;
    enum lyap_status status = lyap_json_open(json, '[');
    while (status == LYAP_OK) {
        status = lyap_json_more(json, &is_more);
        if (status || !is_more)
            break;
        status =
            lyap_json_peek(json) == '"' ? word_text(json, &number) : number_text(json, &number);
        if (status)
            break;
        const size_t length = strlen(number.text);
        if (used + length + 2 > LIST_TEXT_BYTES)
            return lyap_json_fail(json, "a list of more than %d numbers", LYAP_GROUP_COUNT_MAX + 1);
        if (used > 0)
            ret_text[used++] = ',';
        memcpy(ret_text + used, number.text, length);
        used += length;
    }
    ret_text[used] = '\0';
    return status;
}

static enum lyap_status list_json(struct lyap_snapshot *snapshot, const char *key,
                                  struct lyap_json *json)
{
    char text[LIST_TEXT_BYTES];
    const enum lyap_status status = list_text(json, text);
    return status ? status : lyap_snapshot_set(snapshot, key, text, json->reterr);
}

enum lyap_status lyap_metadata_json(struct lyap_snapshot *snapshot, const char *key,
                                    struct lyap_json *json)
{
    struct lyap_quote number;
    const char *word;
    char *string;
    enum lyap_status status;
    switch (lyap_json_peek(json)) {
    case '{':
        if (strcmp(key, lyap_meta_name(LYAP_META_SHARD)) != 0)
            return lyap_json_fail_type(json, "a number, string, flag or list");
        return shard_json(snapshot, json);
    case '[':
        return list_json(snapshot, key, json);
    case '"':
        status = lyap_json_string(json, &string);
        return status ? status : lyap_metadata_text(snapshot, key, string, json->reterr);
    case 't':
    case 'f':
    case 'n':
        status = lyap_json_literal(json, &word);
        if (status || word[0] == 'n')
            return status;
        return lyap_snapshot_set(snapshot, key, word, json->reterr);
    default:
        status = number_text(json, &number);
        return status ? status : lyap_snapshot_set(snapshot, key, number.text, json->reterr);
    }
}

enum lyap_status lyap_metadata_merge_shards(struct lyap_snapshot *snapshot,
                                            const struct lyap_snapshot *other,
                                            struct lyap_error *reterr)
{
    struct shards copy = { 0 };
    if (!lyap_snapshot_has(other, LYAP_META_SHARD))
        return LYAP_OK;
    for (uint32_t i = 0; i < other->shard_count; i++) {
        struct lyap_shard *shard = NULL;
        const enum lyap_status status =
            shards_append(&copy, other->shards[i].tensor, &shard, reterr);
        if (status) {
            shards_release(&copy);
            return status;
        }
        char *name = shard->tensor;
        *shard = other->shards[i];
        shard->tensor = name;
    }
    return shards_give(snapshot, &copy, reterr);
}

enum lyap_status lyap_wire_query_set(struct lyap_snapshot *snapshot, const char *key,
                                     const char *value, struct lyap_error *reterr)
{
    char *copy = lyap_alloc_string(value);
    if (!copy)
        return LYAP_E_NOMEM;
    const enum lyap_status status = lyap_metadata_text(snapshot, key, copy, reterr);
    lyap_free(copy);
    return status;
}

static int compare_shard_name(const void *key, const void *item)
{
    const struct lyap_shard *shard = item;
    return strcmp(key, shard->tensor);
}

const struct lyap_shard *lyap_metadata_shard_of(const struct lyap_snapshot *snapshot,
                                                const char *tensor)
{
    if (snapshot->shard_count == 0)
        return NULL;
    return bsearch(tensor, snapshot->shards, snapshot->shard_count, sizeof *snapshot->shards,
                   compare_shard_name);
}
