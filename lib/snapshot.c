/* Scalars and labels of one push, from their wire text. One table says of each key where it is
 * kept and what is allowed. */
#include "lyap/snapshot.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/text.h"
#include "banned.h"

static const struct {
    const char *key;
    char type;
} keys[LYAP_META_COUNT] = {
#define ROW(name, wire, type) { wire, type },
    LYAP_META_TABLE(ROW)
#undef ROW
};

/* What a number may be. Losses and norms of a failing run are NaN or infinite, and that is the
 * news; constants of the optimizer never are. */
enum range { ANY, NOT_NEGATIVE, POSITIVE, FRACTION };
static const char *const range_texts[] = {
    [ANY] = "a number, NaN, Infinity or -Infinity",
    [NOT_NEGATIVE] = "a number >= 0, NaN or Infinity",
    [POSITIVE] = "a finite number > 0",
    [FRACTION] = "in [0, 1)",
};

/* Where a key is kept and its limits; lr, twin_log and shard are set apart. */
static const struct field {
    size_t offset;
    int64_t low, high; /* integers */
    size_t bytes;      /* of an integer in memory; room of a string, terminator included */
    enum range range;  /* numbers */
} fields[LYAP_META_COUNT] = {
#define MEMBER(name, member, low, high, range)                                                     \
    [LYAP_META_##name] = { offsetof(struct lyap_snapshot, member), low, high,                      \
                           sizeof((struct lyap_snapshot *)NULL)->member, range }
    MEMBER(STEP, step, 0, LYAP_STEP_MAX, ANY),
    MEMBER(OPTIMIZER_STEP, optimizer_step, 0, LYAP_STEP_MAX, ANY),
    MEMBER(UPDATES, updates, 0, LYAP_STEP_MAX, ANY),
    MEMBER(ATTEMPT, attempt, 1, UINT32_MAX, ANY),
    MEMBER(RANK, rank, 0, LYAP_WORLD_MAX - 1, ANY),
    MEMBER(WORLD, world, 1, LYAP_WORLD_MAX, ANY),
    MEMBER(LOSS, loss, 0, 0, ANY),
    MEMBER(PROBE_LOSS, probe_loss, 0, 0, ANY),
    MEMBER(SAME_BATCH_LOSS, same_batch_loss, 0, 0, ANY),
    MEMBER(HALF_DIFF_SQ, half_diff_sq, 0, 0, NOT_NEGATIVE),
    MEMBER(TWIN_NAME, twin_name, 0, 0, ANY),
    MEMBER(BATCH_ID, batch_id, 0, 0, ANY),
    MEMBER(CLIP_NORM, clip_norm, 0, 0, POSITIVE),
    MEMBER(GRAD_NORM, grad_norm, 0, 0, NOT_NEGATIVE),
    MEMBER(CLIP_FACTOR, clip_factor, 0, 0, POSITIVE),
    MEMBER(LOSS_SCALE, loss_scale, 0, 0, POSITIVE),
    MEMBER(PARAM_NORM, param_norm, 0, 0, NOT_NEGATIVE),
    MEMBER(UPDATE_NORM, update_norm, 0, 0, NOT_NEGATIVE),
    MEMBER(DELTA_UNIT, delta_unit, 0, 0, FRACTION),
    MEMBER(GRAD_UNIT, grad_unit, 0, 0, FRACTION),
    MEMBER(ACT_INPUT_SQ, act_input_sq, 0, 0, NOT_NEGATIVE),
    MEMBER(ACT_INPUT_DIFF_SQ, act_input_diff_sq, 0, 0, NOT_NEGATIVE),
    MEMBER(SKIPPED, is_skipped, 0, 0, ANY),
    MEMBER(STATE_EXACT, is_state_exact, 0, 0, ANY),
    MEMBER(TIME, time_ns, 0, 0, ANY),
    MEMBER(SENT, sent_ns, 0, 0, ANY),
#undef MEMBER
};

enum { LR_COUNT_MAX = LYAP_GROUP_COUNT_MAX + 1 }; /* the base and every group */

/* One key's value, parsed or read back; which member counts follows from the key's type. */
struct value {
    int64_t integer;    /* i, t, b */
    double number;      /* d */
    const char *string; /* s; borrowed */
    const double *list; /* l; borrowed */
    uint32_t list_count;
};

void lyap_snapshot_init(struct lyap_snapshot *snapshot)
{
    *snapshot = (struct lyap_snapshot){
        .world = 1,
        .loss = NAN,
        .probe_loss = NAN,
        .same_batch_loss = NAN,
        .half_diff_sq = NAN,
        .clip_norm = NAN,
        .grad_norm = NAN,
        .clip_factor = NAN,
        .loss_scale = NAN,
        .param_norm = NAN,
        .update_norm = NAN,
        .delta_unit = NAN,
        .grad_unit = NAN,
        .act_input_sq = NAN,
        .act_input_diff_sq = NAN,
    };
}

void lyap_snapshot_release(struct lyap_snapshot *snapshot)
{
    if (!snapshot)
        return;
    lyap_free(snapshot->lr);
    for (uint32_t i = 0; i < snapshot->shard_count; i++)
        lyap_free(snapshot->shards[i].tensor);
    lyap_free(snapshot->shards);
    for (uint32_t i = 0; i < snapshot->label_count; i++) {
        lyap_free(snapshot->labels[i].key);
        lyap_free(snapshot->labels[i].value);
    }
    lyap_free(snapshot->labels);
    lyap_snapshot_init(snapshot);
}

bool lyap_snapshot_has(const struct lyap_snapshot *snapshot, enum lyap_meta_key key)
{
    return snapshot->present >> key & 1;
}

const char *lyap_meta_name(enum lyap_meta_key key)
{
    assert((unsigned)key < LYAP_META_COUNT);
    return keys[key].key;
}

static bool key_parse(const char *name, enum lyap_meta_key *ret_key)
{
    for (unsigned i = 0; i < LYAP_META_COUNT; i++) {
        if (strcmp(keys[i].key, name) == 0) {
            *ret_key = (enum lyap_meta_key)i;
            return true;
        }
    }
    return false;
}

static const void *member_const(const struct lyap_snapshot *snapshot, enum lyap_meta_key key)
{
    return (const char *)snapshot + fields[key].offset;
}

static void *member(struct lyap_snapshot *snapshot, enum lyap_meta_key key)
{
    return (char *)snapshot + fields[key].offset;
}

static struct value value_load(const struct lyap_snapshot *snapshot, enum lyap_meta_key key)
{
    struct value value = { 0 };
    uint32_t word;
    switch (keys[key].type) {
    case 'd':
        memcpy(&value.number, member_const(snapshot, key), sizeof value.number);
        break;
    case 'i':
        if (fields[key].bytes == sizeof word) {
            memcpy(&word, member_const(snapshot, key), sizeof word);
            value.integer = word;
        } else {
            memcpy(&value.integer, member_const(snapshot, key), sizeof value.integer);
        }
        break;
    case 's':
        value.string = member_const(snapshot, key);
        break;
    case 't':
        memcpy(&value.integer, member_const(snapshot, key), sizeof value.integer);
        break;
    case 'b':
        value.integer = *(const bool *)member_const(snapshot, key);
        break;
    case 'l':
        value.list = snapshot->lr;
        value.list_count = snapshot->lr_count;
        break;
    case 'f':
        value.list = snapshot->twin_log;
        value.list_count = snapshot->twin_count;
        break;
    }
    return value;
}

static bool numbers_equal(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static bool values_equal(char type, const struct value *a, const struct value *b)
{
    switch (type) {
    case 'd':
        return numbers_equal(a->number, b->number);
    case 's':
        assert(a->string && b->string);
        return strcmp(a->string, b->string) == 0;
    case 'l':
    case 'f':
        if (a->list_count != b->list_count)
            return false;
        for (uint32_t i = 0; i < a->list_count; i++)
            if (!numbers_equal(a->list[i], b->list[i]))
                return false;
        return true;
    default:
        return a->integer == b->integer;
    }
}

static const char *value_text(char type, const struct value *value, struct lyap_quote *ret)
{
    switch (type) {
    case 'd':
        return lyap_quote_double(value->number, ret);
    case 's':
        return lyap_quote_string(value->string, ret);
    case 'l':
    case 'f':
        assert(value->list && value->list_count > 0);
        lyap_quote_double(value->list[0], ret);
        if (value->list_count > 1)
            memcpy(ret->text + strlen(ret->text), ",...", 5);
        return ret->text;
    case 'b':
        return value->integer ? "true" : "false";
    default:
        (void)snprintf(ret->text, sizeof ret->text, "%lld", (long long)value->integer);
        return ret->text;
    }
}

static enum lyap_status value_store(struct lyap_snapshot *snapshot, enum lyap_meta_key key,
                                    const struct value *value)
{
    const uint32_t word = (uint32_t)value->integer;
    double *list;
    switch (keys[key].type) {
    case 'd':
        memcpy(member(snapshot, key), &value->number, sizeof value->number);
        break;
    case 'i':
        if (fields[key].bytes == sizeof word)
            memcpy(member(snapshot, key), &word, sizeof word);
        else
            memcpy(member(snapshot, key), &value->integer, sizeof value->integer);
        break;
    case 's':
        assert(strlen(value->string) < fields[key].bytes);
        memcpy(member(snapshot, key), value->string, strlen(value->string) + 1);
        break;
    case 't':
        memcpy(member(snapshot, key), &value->integer, sizeof value->integer);
        break;
    case 'b':
        *(bool *)member(snapshot, key) = value->integer != 0;
        break;
    case 'l':
        list = lyap_alloc_array(value->list_count, sizeof *list);
        if (!list)
            return LYAP_E_NOMEM;
        memcpy(list, value->list, value->list_count * sizeof *list);
        snapshot->lr = list;
        snapshot->lr_count = value->list_count;
        break;
    case 'f':
        memcpy(snapshot->twin_log, value->list, value->list_count * sizeof *value->list);
        snapshot->twin_count = value->list_count;
        break;
    }
    snapshot->present |= 1u << key;
    return LYAP_OK;
}

/* Stores a value, or compares it with the one that was given before. */
static enum lyap_status value_give(struct lyap_snapshot *snapshot, enum lyap_meta_key key,
                                   const struct value *value, struct lyap_error *reterr)
{
    if (!lyap_snapshot_has(snapshot, key))
        return value_store(snapshot, key, value);
    const struct value before = value_load(snapshot, key);
    struct lyap_quote old_text, new_text;
    if (values_equal(keys[key].type, &before, value))
        return LYAP_OK;
    return lyap_error_set(reterr, LYAP_E_CONTRADICTION, "%s is given as %s and as %s",
                          keys[key].key, value_text(keys[key].type, &before, &old_text),
                          value_text(keys[key].type, value, &new_text));
}

/* The message of every refused value: key, value, what is allowed. */
static enum lyap_status refuse(const char *key, const char *text, const char *allowed,
                               struct lyap_error *reterr)
{
    struct lyap_quote quote;
    return lyap_error_set(reterr, LYAP_E_INVALID, "%s is %s, but must be %s", key,
                          lyap_quote_string(text, &quote), allowed);
}

static enum lyap_status integer_parse(enum lyap_meta_key key, const char *text,
                                      struct value *ret_value, struct lyap_error *reterr)
{
    const struct field *field = &fields[key];
    if (lyap_text_integer(text, strlen(text), &ret_value->integer) &&
        ret_value->integer >= field->low && ret_value->integer <= field->high)
        return LYAP_OK;
    char allowed[64];
    (void)snprintf(allowed, sizeof allowed, "an integer from %lld to %lld", (long long)field->low,
                   (long long)field->high);
    return refuse(keys[key].key, text, allowed, reterr);
}

static bool is_in_range(double number, enum range range)
{
    switch (range) {
    case POSITIVE:
        return isfinite(number) && number > 0;
    case NOT_NEGATIVE:
        return isnan(number) || number >= 0;
    case FRACTION:
        return number >= 0 && number < 1;
    case ANY:
        break;
    }
    return true;
}

static enum lyap_status number_parse(enum lyap_meta_key key, const char *text,
                                     struct value *ret_value, struct lyap_error *reterr)
{
    const enum range range = fields[key].range;
    if (lyap_text_double(text, strlen(text), &ret_value->number) &&
        is_in_range(ret_value->number, range))
        return LYAP_OK;
    return refuse(keys[key].key, text, range_texts[range], reterr);
}

static enum lyap_status string_parse(enum lyap_meta_key key, const char *text,
                                     struct value *ret_value, struct lyap_error *reterr)
{
    const size_t length = strlen(text), bytes_max = fields[key].bytes - 1;
    ret_value->string = text;
    if (length > 0 && length <= bytes_max && lyap_text_is_utf8(text, length))
        return LYAP_OK;
    char allowed[48];
    (void)snprintf(allowed, sizeof allowed, "1 to %zu bytes of UTF-8", bytes_max);
    return refuse(keys[key].key, text, allowed, reterr);
}

/* How many numbers a list may have, and which. */
struct list_rule {
    uint32_t count_max;
    enum range range;
    const char *many, *allowed; /* for people: what there is one value of; what each must be */
};
static const struct list_rule lr_rule = { LR_COUNT_MAX, NOT_NEGATIVE, "a parameter group",
                                          "a finite number >= 0, or a comma list of such" };
static const struct list_rule twin_rule = { LYAP_TWIN_COUNT_MAX, ANY, "a twin",
                                            "a number, or a comma list of numbers" };

static bool list_number(const char *at, size_t length, const struct list_rule *rule,
                        double *ret_number)
{
    return lyap_text_double(at, length, ret_number) &&
           (rule->range == ANY || (isfinite(*ret_number) && *ret_number >= 0));
}

/* "0.1" or "0.1, 0.01": `list` holds LR_COUNT_MAX numbers. */
static enum lyap_status list_parse(enum lyap_meta_key key, const char *text, double *list,
                                   struct value *ret_value, struct lyap_error *reterr)
{
    const struct list_rule *rule = key == LYAP_META_LR ? &lr_rule : &twin_rule;
    uint32_t count = 0;
    for (const char *at = text;; at++) {
        at += strspn(at, " ");
        const size_t cell = strcspn(at, ",");
        size_t length = cell;
        while (length > 0 && at[length - 1] == ' ')
            length--;
        if (count == rule->count_max)
            return lyap_error_set(reterr, LYAP_E_LIMIT, "%s has more than %u values, one %s",
                                  keys[key].key, rule->count_max, rule->many);
        if (!list_number(at, length, rule, &list[count++]))
            return refuse(keys[key].key, text, rule->allowed, reterr);
        at += cell;
        if (!*at)
            break;
    }
    ret_value->list = list;
    ret_value->list_count = count;
    return LYAP_OK;
}

static enum lyap_status flag_parse(enum lyap_meta_key key, const char *text,
                                   struct value *ret_value, struct lyap_error *reterr)
{
    static const char *const words[] = { "false", "true", "0", "1", "False", "True" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(text, words[i]) == 0) {
            ret_value->integer = i % 2;
            return LYAP_OK;
        }
    }
    return refuse(keys[key].key, text, "true or false", reterr);
}

static enum lyap_status time_parse(enum lyap_meta_key key, const char *text,
                                   struct value *ret_value, struct lyap_error *reterr)
{
    if (lyap_text_time(text, strlen(text), &ret_value->integer))
        return LYAP_OK;
    return refuse(keys[key].key, text,
                  "RFC 3339 with an offset (2026-11-23T17:00:00Z) or seconds since 1970", reterr);
}

static enum lyap_status label_check(const char *key, const char *value, struct lyap_error *reterr)
{
    struct lyap_quote quote;
    const size_t key_bytes = strlen(key), value_bytes = strlen(value);
    if (key_bytes > LYAP_LABEL_BYTES_MAX || value_bytes > LYAP_LABEL_BYTES_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT,
                              "label %s has a key of %zu and a value of %zu bytes; at most %d are "
                              "allowed for each",
                              lyap_quote_string(key, &quote), key_bytes, value_bytes,
                              LYAP_LABEL_BYTES_MAX);
    if (!lyap_text_is_utf8(key, key_bytes) || !lyap_text_is_utf8(value, value_bytes))
        return lyap_error_set(reterr, LYAP_E_INVALID, "label %s is not UTF-8",
                              lyap_quote_string(key, &quote));
    return LYAP_OK;
}

static enum lyap_status label_append(struct lyap_snapshot *snapshot, const char *key,
                                     const char *value)
{
    if (!snapshot->labels)
        snapshot->labels = lyap_alloc_array(LYAP_LABEL_COUNT_MAX, sizeof *snapshot->labels);
    if (!snapshot->labels)
        return LYAP_E_NOMEM;
    struct lyap_label label = { lyap_alloc_string(key), lyap_alloc_string(value) };
    if (!label.key || !label.value) {
        lyap_free(label.key);
        lyap_free(label.value);
        return LYAP_E_NOMEM;
    }
    snapshot->labels[snapshot->label_count++] = label;
    return LYAP_OK;
}

static enum lyap_status label_set(struct lyap_snapshot *snapshot, const char *key,
                                  const char *value, struct lyap_error *reterr)
{
    struct lyap_quote name, old_text, new_text;
    const enum lyap_status status = label_check(key, value, reterr);
    if (status)
        return status;
    for (uint32_t i = 0; i < snapshot->label_count; i++) {
        if (strcmp(snapshot->labels[i].key, key) != 0)
            continue;
        if (strcmp(snapshot->labels[i].value, value) == 0)
            return LYAP_OK;
        return lyap_error_set(reterr, LYAP_E_CONTRADICTION, "label %s is given as %s and as %s",
                              lyap_quote_string(key, &name),
                              lyap_quote_string(snapshot->labels[i].value, &old_text),
                              lyap_quote_string(value, &new_text));
    }
    if (snapshot->label_count == LYAP_LABEL_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "more than %d labels (keys that start with x-)",
                              LYAP_LABEL_COUNT_MAX);
    return label_append(snapshot, key, value);
}

static enum lyap_status unknown_key(const char *key, struct lyap_error *reterr)
{
    struct lyap_quote quote;
    char list[LYAP_ERROR_TEXT_BYTES];
    size_t used = 0;
    for (unsigned i = 0; i < LYAP_META_COUNT && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? " " : "",
                                 keys[i].key);
    return lyap_error_set(reterr, LYAP_E_UNKNOWN_FIELD,
                          "%s is not a key of a snapshot (labels start with x-); known: %s",
                          lyap_quote_string(key, &quote), list);
}

static enum lyap_status value_parse(enum lyap_meta_key key, const char *text, double *list,
                                    struct value *ret_value, struct lyap_error *reterr)
{
    switch (keys[key].type) {
    case 'i':
        return integer_parse(key, text, ret_value, reterr);
    case 'd':
        return number_parse(key, text, ret_value, reterr);
    case 's':
        return string_parse(key, text, ret_value, reterr);
    case 'l':
    case 'f':
        return list_parse(key, text, list, ret_value, reterr);
    case 'b':
        return flag_parse(key, text, ret_value, reterr);
    case 't':
        return time_parse(key, text, ret_value, reterr);
    default:
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "shard is JSON and belongs into the metadata of the body");
    }
}

enum lyap_status lyap_snapshot_set(struct lyap_snapshot *snapshot, const char *key,
                                   const char *value, struct lyap_error *reterr)
{
    enum lyap_meta_key known;
    if (strncmp(key, "x-", 2) == 0)
        return label_set(snapshot, key, value, reterr);
    if (!key_parse(key, &known))
        return unknown_key(key, reterr);
    double list[LR_COUNT_MAX];
    struct value parsed = { 0 };
    const enum lyap_status status = value_parse(known, value, list, &parsed, reterr);
    return status ? status : value_give(snapshot, known, &parsed, reterr);
}

enum lyap_status lyap_snapshot_merge(struct lyap_snapshot *snapshot,
                                     const struct lyap_snapshot *other, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    for (unsigned i = 0; status == LYAP_OK && i < LYAP_META_COUNT; i++) {
        const enum lyap_meta_key key = (enum lyap_meta_key)i;
        if (key == LYAP_META_SHARD || !lyap_snapshot_has(other, key))
            continue;
        const struct value value = value_load(other, key);
        status = value_give(snapshot, key, &value, reterr);
    }
    for (uint32_t i = 0; status == LYAP_OK && i < other->label_count; i++)
        status = label_set(snapshot, other->labels[i].key, other->labels[i].value, reterr);
    return status;
}
