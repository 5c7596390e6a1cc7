/* Receivers and deliveries <-> JSON. */
#include "codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec_json.h"

static const char hidden_path[] = "/..."; /* in place of a path that may be a secret */

/* ---- reading ---- */

/* What the body says; the strings of `receiver` are owned. */
struct reading {
    struct lyap_receiver receiver;
    char *url, *to; /* owned */
    bool has_type, has_secret, has_format;
};

static enum lyap_status dup_string(const char *key, const json_t *value, size_t bytes_max,
                                   char **ret, struct lyap_error *reterr)
{
    const char *text;
    const enum lyap_status status = api_json_get_string(key, value, bytes_max, &text, reterr);
    if (status != LYAP_OK)
        return status;
    if (strlen(text) == 0)
        return lyap_error_set(reterr, LYAP_E_INVALID, "field '%s' is empty", key);
    *ret = strdup(text);
    return *ret ? LYAP_OK : LYAP_E_NOMEM;
}

static enum lyap_status set_type(void *target, const char *key, const json_t *value,
                                 struct lyap_error *reterr)
{
    struct reading *reading = target;
    const char *text = json_string_value(value);
    if (!text || !lyap_receiver_type_parse(text, &reading->receiver.type))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' must be one of webhook, alertmanager, sendmail, log",
                              key);
    reading->has_type = true;
    return LYAP_OK;
}

static enum lyap_status set_format(void *target, const char *key, const json_t *value,
                                   struct lyap_error *reterr)
{
    struct reading *reading = target;
    const char *text = json_string_value(value);
    if (json_is_null(value))
        return LYAP_OK;
    if (!text || !lyap_receiver_format_parse(text, &reading->receiver.format))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' must be one of json, slack, discord", key);
    reading->has_format = true;
    return LYAP_OK;
}

static bool is_printable(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text <= ' ' || (unsigned char)*text > '~')
            return false;
    return true;
}

static enum lyap_status set_url(void *target, const char *key, const json_t *value,
                                struct lyap_error *reterr)
{
    struct reading *reading = target;
    if (json_is_null(value))
        return LYAP_OK;
    const enum lyap_status status =
        dup_string(key, value, LYAP_RECEIVER_TARGET_BYTES_MAX, &reading->url, reterr);
    if (status != LYAP_OK)
        return status;
    const char *url = reading->url;
    const size_t scheme = strncmp(url, "https://", 8) == 0 ? 8 : strncmp(url, "http://", 7) ? 0 : 7;
    if (scheme == 0 || strcspn(url + scheme, "/?#") == 0 || !is_printable(url))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' must be http:// or https:// with a host, in printable "
                              "ASCII",
                              key);
    if (strlen(url) >= strlen(hidden_path) &&
        strcmp(url + strlen(url) - strlen(hidden_path), hidden_path) == 0)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' ends in %s, as it is shown: give the whole one", key,
                              hidden_path);
    return LYAP_OK;
}

/* One address of the plainest kind: nothing in it means anything to a mail program or a header. */
static enum lyap_status set_to(void *target, const char *key, const json_t *value,
                               struct lyap_error *reterr)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-@";
    struct reading *reading = target;
    if (json_is_null(value))
        return LYAP_OK;
    const enum lyap_status status = dup_string(key, value, 254, &reading->to, reterr);
    if (status != LYAP_OK)
        return status;
    const char *at = strchr(reading->to, '@');
    const bool is_plain = strspn(reading->to, alphabet) == strlen(reading->to) &&
                          reading->to[0] != '-' && at != reading->to &&
                          (!at || (at[1] && !strchr(at + 1, '@')));
    return is_plain ? LYAP_OK
                    : lyap_error_set(reterr, LYAP_E_INVALID,
                                     "field '%s' must be one address of A-Z a-z 0-9 . _ + - with "
                                     "at most one @",
                                     key);
}

static enum lyap_status set_secret(void *target, const char *key, const json_t *value,
                                   struct lyap_error *reterr)
{
    struct reading *reading = target;
    reading->has_secret = true;
    if (json_is_null(value))
        return LYAP_OK;
    char *secret = NULL;
    const enum lyap_status status =
        dup_string(key, value, LYAP_RECEIVER_SECRET_BYTES_MAX, &secret, reterr);
    reading->receiver.secret = secret;
    return status;
}

static enum lyap_status set_min_severity(void *target, const char *key, const json_t *value,
                                         struct lyap_error *reterr)
{
    struct reading *reading = target;
    const char *text = json_string_value(value);
    if (!text || !lyap_severity_parse(text, &reading->receiver.min_severity))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field '%s' must be one of info, warning, critical", key);
    return LYAP_OK;
}

static enum lyap_status set_labels(void *target, const char *key, const json_t *value,
                                   struct lyap_error *reterr)
{
    struct reading *reading = target;
    char *json = NULL;
    if (json_is_null(value))
        return LYAP_OK;
    const enum lyap_status status = api_json_get_labels(key, value, &json, reterr);
    reading->receiver.labels_json = json;
    return status;
}

static enum lyap_status ignore(void *target, const char *key, const json_t *value,
                               struct lyap_error *reterr)
{
    (void)target, (void)key, (void)value, (void)reterr;
    return LYAP_OK; /* what GET answers may be sent back, but for its URL */
}

static const struct api_json_field fields[] = {
    { "type", set_type },     { "url", set_url },       { "to", set_to },
    { "secret", set_secret }, { "format", set_format }, { "min_severity", set_min_severity },
    { "labels", set_labels }, { "receiver", ignore },   { "has_secret", ignore },
    { "from_file", ignore },
};

/* Which fields belong to which type. */
static enum lyap_status check(const struct reading *reading, struct lyap_error *reterr)
{
    const struct lyap_receiver *receiver = &reading->receiver;
    const char *type = lyap_receiver_type_name(receiver->type);
    const bool needs_url =
        receiver->type == LYAP_RECEIVER_WEBHOOK || receiver->type == LYAP_RECEIVER_ALERTMANAGER;
    const bool needs_to = receiver->type == LYAP_RECEIVER_SENDMAIL;
    if (!reading->has_type)
        return lyap_error_set(reterr, LYAP_E_MISSING_FIELD, "field 'type' is missing");
    if (needs_url != (reading->url != NULL))
        return lyap_error_set(reterr, needs_url ? LYAP_E_MISSING_FIELD : LYAP_E_INVALID,
                              "field 'url' %s for type %s",
                              needs_url ? "is missing" : "has no meaning", type);
    if (needs_to != (reading->to != NULL))
        return lyap_error_set(reterr, needs_to ? LYAP_E_MISSING_FIELD : LYAP_E_INVALID,
                              "field 'to' %s for type %s",
                              needs_to ? "is missing" : "has no meaning", type);
    if (receiver->type != LYAP_RECEIVER_WEBHOOK && (receiver->secret || reading->has_format))
        return lyap_error_set(reterr, LYAP_E_INVALID, "field '%s' has no meaning for type %s",
                              receiver->secret ? "secret" : "format", type);
    return LYAP_OK;
}

enum lyap_status api_decode_receiver(const char *name, const char *json, size_t length,
                                     struct lyap_receiver *ret_receiver, bool *ret_keeps_secret,
                                     struct lyap_error *reterr)
{
    struct reading reading = { .receiver = { .min_severity = LYAP_SEVERITY_WARNING } };
    json_t *object = NULL;
    if (!lyap_rule_name_is_valid(name))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "receiver name '%.80s' is not of 1 to %d characters A-Z a-z 0-9 . "
                              "_ -",
                              name, LYAP_RULE_NAME_BYTES_MAX);
    memcpy(reading.receiver.name, name, strlen(name) + 1);
    enum lyap_status status = api_json_object(json, length, &object, reterr);
    if (status == LYAP_OK)
        status = api_json_fields(object, fields, sizeof fields / sizeof *fields, &reading, reterr);
    if (status == LYAP_OK)
        status = check(&reading, reterr);
    json_decref(object);
    char **target = reading.url ? &reading.url : &reading.to;
    reading.receiver.target = *target ? *target : strdup("");
    *target = NULL;
    if (status == LYAP_OK && !reading.receiver.target)
        status = LYAP_E_NOMEM;
    free(reading.url);
    free(reading.to);
    if (status != LYAP_OK) {
        api_receiver_release(&reading.receiver);
        return status;
    }
    *ret_receiver = reading.receiver;
    *ret_keeps_secret = !reading.has_secret;
    return LYAP_OK;
}

void api_receiver_release(struct lyap_receiver *receiver)
{
    free((void *)(uintptr_t)receiver->target);
    free((void *)(uintptr_t)receiver->secret);
    free((void *)(uintptr_t)receiver->labels_json);
    receiver->target = receiver->secret = receiver->labels_json = NULL;
}

/* ---- writing ---- */

static void member(struct api_text *text, const char *key, const char *value)
{
    api_json_key(text, key);
    api_json_string(text, value);
}

static void member_time(struct api_text *text, const char *key, int64_t time_ns)
{
    api_json_key(text, key);
    if (time_ns == 0)
        api_json_null(text);
    else
        api_json_time(text, time_ns);
}

/* Without user, password and query; and without path where that is the secret. */
static void member_url(struct api_text *text, const struct lyap_receiver *receiver)
{
    char shown[LYAP_RECEIVER_TARGET_BYTES_MAX + sizeof hidden_path];
    const char *url = receiver->target;
    const size_t scheme = strcspn(url, "/") + 2;
    const size_t authority = strcspn(url + scheme, "/?#");
    size_t user = 0;
    for (size_t i = 0; i < authority; i++)
        user = url[scheme + i] == '@' ? i + 1 : user;
    const char *path = url + scheme + authority;
    const bool is_hidden =
        receiver->type == LYAP_RECEIVER_WEBHOOK && receiver->format != LYAP_FORMAT_JSON;
    const int path_length = is_hidden ? 0 : (int)strcspn(path, "?#");
    (void)snprintf(shown, sizeof shown, "%.*s%.*s%.*s%s", (int)scheme, url, (int)(authority - user),
                   url + scheme + user, path_length, path,
                   is_hidden || path[path_length] || user ? hidden_path : "");
    member(text, "url", shown);
}

void api_encode_receiver(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_receiver *receiver = &record->u.receiver;
    api_json_open(text, '{');
    member(text, "receiver", receiver->name);
    member(text, "type", lyap_receiver_type_name(receiver->type));
    if (receiver->type == LYAP_RECEIVER_SENDMAIL)
        member(text, "to", receiver->target);
    if (receiver->type == LYAP_RECEIVER_WEBHOOK || receiver->type == LYAP_RECEIVER_ALERTMANAGER)
        member_url(text, receiver);
    if (receiver->type == LYAP_RECEIVER_WEBHOOK) {
        member(text, "format", lyap_receiver_format_name(receiver->format));
        api_json_key(text, "has_secret");
        api_json_bool(text, receiver->secret != NULL);
    }
    member(text, "min_severity", lyap_severity_name(receiver->min_severity));
    api_json_key(text, "labels");
    api_json_raw(text, receiver->labels_json);
    api_json_key(text, "from_file");
    api_json_bool(text, receiver->is_from_file);
    api_json_close(text, '}');
}

void api_encode_delivery(struct api_text *text, const struct lyap_record *record)
{
    const struct lyap_delivery *delivery = &record->u.delivery;
    api_json_open(text, '{');
    api_json_key(text, "id");
    api_json_int(text, delivery->id);
    api_json_key(text, "alert");
    api_json_int(text, delivery->alert_id);
    member(text, "receiver", delivery->receiver);
    member(text, "tells", lyap_alert_state_name(delivery->kind));
    member(text, "state", lyap_delivery_state_name(delivery->state));
    api_json_key(text, "attempts");
    api_json_int(text, delivery->attempts);
    member_time(text, "created", delivery->created_ns);
    member_time(text, "next", delivery->next_ns);
    member_time(text, "delivered", delivery->delivered_ns);
    member(text, "error", delivery->error[0] ? delivery->error : NULL);
    api_json_close(text, '}');
}

char *api_alert_text(const struct lyap_alert *alert)
{
    const struct lyap_record record = { .table = LYAP_TABLE_ALERTS, .u.alert = *alert };
    struct api_text text;
    api_text_init(&text, LYAP_PAYLOAD_BYTES_MAX);
    api_encode_alert(&text, &record);
    api_text_append(&text, "", 1);
    size_t length;
    char *bytes = text.status == LYAP_OK ? api_text_detach(&text, &length) : NULL;
    api_text_release(&text);
    return bytes;
}
