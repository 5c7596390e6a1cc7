/* JSON -> silence, acknowledgement, pack. */
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "codec_json.h"
#include "lyap/text.h"

static const int64_t second_ns = 1000000000;

static enum lyap_status copy_string(const char *key, const json_t *value, char *ret, size_t bytes,
                                    struct lyap_error *reterr)
{
    const char *text;
    if (json_is_null(value))
        return LYAP_OK;
    const enum lyap_status status = api_json_get_string(key, value, bytes - 1, &text, reterr);
    if (status == LYAP_OK)
        memcpy(ret, text, strlen(text) + 1);
    return status;
}

/* The end of something that begins now: seconds of it, or the time itself. */
struct span {
    int64_t now_ns, until_ns; /* until_ns 0: not said */
};

static enum lyap_status set_duration(struct span *span, const char *key, const json_t *value,
                                     struct lyap_error *reterr)
{
    int64_t seconds;
    const struct api_json_range range = { 1, LYAP_RULE_SECONDS_MAX };
    if (span->until_ns)
        return lyap_error_set(reterr, LYAP_E_CONTRADICTION,
                              "'duration_s' and 'until' both say when it ends");
    const enum lyap_status status = api_json_get_int(key, value, range, &seconds, reterr);
    if (status == LYAP_OK)
        span->until_ns = span->now_ns + seconds * second_ns;
    return status;
}

static enum lyap_status set_until(struct span *span, const char *key, const json_t *value,
                                  struct lyap_error *reterr)
{
    const char *text = json_string_value(value);
    int64_t until_ns;
    if (span->until_ns)
        return lyap_error_set(reterr, LYAP_E_CONTRADICTION,
                              "'duration_s' and 'until' both say when it ends");
    if (!text || !lyap_text_time(text, json_string_length(value), &until_ns))
        return lyap_error_set(reterr, LYAP_E_INVALID, "field '%s' must be a time of RFC 3339", key);
    if (until_ns <= span->now_ns ||
        until_ns > span->now_ns + (int64_t)LYAP_RULE_SECONDS_MAX * second_ns)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' is %.40s; it lies up to %d seconds ahead", key, text,
                              LYAP_RULE_SECONDS_MAX);
    span->until_ns = until_ns;
    return LYAP_OK;
}

/* ---- silences ---- */

struct silence_target {
    struct lyap_silence silence;
    struct span span;
};

static enum lyap_status set_run(void *target, const char *key, const json_t *value,
                                struct lyap_error *reterr)
{
    struct lyap_silence *silence = &((struct silence_target *)target)->silence;
    return copy_string(key, value, silence->run, sizeof silence->run, reterr);
}

static enum lyap_status set_rule(void *target, const char *key, const json_t *value,
                                 struct lyap_error *reterr)
{
    struct lyap_silence *silence = &((struct silence_target *)target)->silence;
    return copy_string(key, value, silence->rule, sizeof silence->rule, reterr);
}

static enum lyap_status set_by(void *target, const char *key, const json_t *value,
                               struct lyap_error *reterr)
{
    struct lyap_silence *silence = &((struct silence_target *)target)->silence;
    return copy_string(key, value, silence->by, sizeof silence->by, reterr);
}

static enum lyap_status set_severity(void *target, const char *key, const json_t *value,
                                     struct lyap_error *reterr)
{
    const char *text = json_string_value(value);
    enum lyap_severity severity;
    if (json_is_null(value))
        return LYAP_OK;
    if (!text || !lyap_severity_parse(text, &severity))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' must be one of info, warning, critical", key);
    ((struct silence_target *)target)->silence.severity = (int)severity;
    return LYAP_OK;
}

static enum lyap_status set_labels(void *target, const char *key, const json_t *value,
                                   struct lyap_error *reterr)
{
    char *json = NULL;
    if (json_is_null(value))
        return LYAP_OK;
    const enum lyap_status status = api_json_get_labels(key, value, &json, reterr);
    if (status == LYAP_OK)
        ((struct silence_target *)target)->silence.labels_json = json;
    return status;
}

static enum lyap_status set_comment(void *target, const char *key, const json_t *value,
                                    struct lyap_error *reterr)
{
    const char *text;
    const enum lyap_status status =
        api_json_get_string(key, value, LYAP_COMMENT_BYTES_MAX, &text, reterr);
    if (status != LYAP_OK)
        return status;
    char *copy = strdup(text);
    if (!copy)
        return LYAP_E_NOMEM;
    ((struct silence_target *)target)->silence.comment = copy;
    return LYAP_OK;
}

static enum lyap_status set_silence_duration(void *target, const char *key, const json_t *value,
                                             struct lyap_error *reterr)
{
    return set_duration(&((struct silence_target *)target)->span, key, value, reterr);
}

static enum lyap_status set_silence_until(void *target, const char *key, const json_t *value,
                                          struct lyap_error *reterr)
{
    return set_until(&((struct silence_target *)target)->span, key, value, reterr);
}

static const struct api_json_field silence_fields[] = {
    { "run", set_run },
    { "rule", set_rule },
    { "severity", set_severity },
    { "labels", set_labels },
    { "comment", set_comment },
    { "by", set_by },
    { "duration_s", set_silence_duration },
    { "until", set_silence_until },
};

enum lyap_status api_decode_silence(const char *json, size_t length, int64_t now_ns,
                                    struct lyap_silence *ret_silence, struct lyap_error *reterr)
{
    struct silence_target target = { .silence = { .severity = -1, .created_ns = now_ns },
                                     .span = { .now_ns = now_ns } };
    json_t *object = NULL;
    enum lyap_status status = api_json_object(json, length, &object, reterr);
    if (status == LYAP_OK)
        status = api_json_fields(object, silence_fields,
                                 sizeof silence_fields / sizeof *silence_fields, &target, reterr);
    if (status == LYAP_OK && !target.span.until_ns)
        status = lyap_error_set(reterr, LYAP_E_MISSING_FIELD,
                                "field 'duration_s' (or 'until') is missing");
    target.silence.until_ns = target.span.until_ns;
    if (status == LYAP_OK && !target.silence.comment && !(target.silence.comment = strdup("")))
        status = LYAP_E_NOMEM;
    json_decref(object);
    if (status == LYAP_OK)
        *ret_silence = target.silence;
    else
        api_silence_release(&target.silence);
    return status;
}

void api_silence_release(struct lyap_silence *silence)
{
    free((void *)(uintptr_t)silence->labels_json);
    free((void *)(uintptr_t)silence->comment);
    silence->labels_json = silence->comment = NULL;
}

/* ---- acknowledgements ---- */

struct ack_target {
    struct api_ack ack;
    struct span span;
};

static enum lyap_status set_ack_by(void *target, const char *key, const json_t *value,
                                   struct lyap_error *reterr)
{
    struct api_ack *ack = &((struct ack_target *)target)->ack;
    return copy_string(key, value, ack->by, sizeof ack->by, reterr);
}

static enum lyap_status set_ack_comment(void *target, const char *key, const json_t *value,
                                        struct lyap_error *reterr)
{
    struct api_ack *ack = &((struct ack_target *)target)->ack;
    return copy_string(key, value, ack->comment, sizeof ack->comment, reterr);
}

static enum lyap_status set_ack_duration(void *target, const char *key, const json_t *value,
                                         struct lyap_error *reterr)
{
    return set_duration(&((struct ack_target *)target)->span, key, value, reterr);
}

static enum lyap_status set_ack_until(void *target, const char *key, const json_t *value,
                                      struct lyap_error *reterr)
{
    return set_until(&((struct ack_target *)target)->span, key, value, reterr);
}

static const struct api_json_field ack_fields[] = {
    { "by", set_ack_by },
    { "comment", set_ack_comment },
    { "duration_s", set_ack_duration },
    { "until", set_ack_until },
};

enum lyap_status api_decode_ack(const char *json, size_t length, int64_t now_ns,
                                struct api_ack *ret_ack, struct lyap_error *reterr)
{
    struct ack_target target = { .span = { .now_ns = now_ns } };
    json_t *object = NULL;
    enum lyap_status status = LYAP_OK;
    if (length > 0)
        status = api_json_object(json, length, &object, reterr);
    if (status == LYAP_OK && object)
        status = api_json_fields(object, ack_fields, sizeof ack_fields / sizeof *ack_fields,
                                 &target, reterr);
    json_decref(object);
    if (status != LYAP_OK)
        return status;
    target.ack.until_ns = target.span.until_ns;
    *ret_ack = target.ack;
    return LYAP_OK;
}

/* ---- packs ---- */

static enum lyap_status set_enabled(void *target, const char *key, const json_t *value,
                                    struct lyap_error *reterr)
{
    return api_json_get_bool(key, value, &((struct api_pack_put *)target)->is_enabled, reterr);
}

static enum lyap_status set_rules(void *target, const char *key, const json_t *value,
                                  struct lyap_error *reterr)
{
    struct api_pack_put *put = target;
    const size_t count = json_array_size(value);
    if (!json_is_array(value) || count == 0 || count > LYAP_RULE_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_INVALID, "field '%s' must be a list of 1 to %d names",
                              key, LYAP_RULE_COUNT_MAX);
    put->names = calloc(count, sizeof *put->names);
    if (!put->names)
        return LYAP_E_NOMEM;
    for (size_t i = 0; i < count; i++) {
        const char *name;
        const enum lyap_status status = api_json_get_string(
            key, json_array_get(value, i), LYAP_RULE_NAME_BYTES_MAX, &name, reterr);
        if (status != LYAP_OK)
            return status;
        put->names[i] = strdup(name);
        if (!put->names[i])
            return LYAP_E_NOMEM;
        put->name_count++;
    }
    return LYAP_OK;
}

static const struct api_json_field pack_fields[] = {
    { "enabled", set_enabled },
    { "rules", set_rules },
};

enum lyap_status api_decode_pack_put(const char *json, size_t length, struct api_pack_put *ret_put,
                                     struct lyap_error *reterr)
{
    struct api_pack_put put = { .name_count = 0 };
    json_t *object = NULL;
    enum lyap_status status = api_json_object(json, length, &object, reterr);
    if (status == LYAP_OK)
        status = api_json_fields(object, pack_fields, sizeof pack_fields / sizeof *pack_fields,
                                 &put, reterr);
    if (status == LYAP_OK && !json_object_get(object, "enabled"))
        status = lyap_error_set(reterr, LYAP_E_MISSING_FIELD, "field 'enabled' is missing");
    json_decref(object);
    if (status == LYAP_OK)
        *ret_put = put;
    else
        api_pack_put_release(&put);
    return status;
}

void api_pack_put_release(struct api_pack_put *put)
{
    for (uint32_t i = 0; i < put->name_count; i++)
        free((void *)(uintptr_t)put->names[i]);
    free(put->names);
    put->names = NULL;
    put->name_count = 0;
}
