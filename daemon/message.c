/* Payloads of the outbox, and the bodies made of them. */
#include "message.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api.h"
#include "buffer.h"

/* ---- payload ---- */

void lyap_message_time(int64_t time_ns, char ret_text[LYAP_MESSAGE_TIME_BYTES])
{
    const time_t seconds = (time_t)(time_ns / 1000000000);
    struct tm utc = { 0 };
    char date[32] = "";
    (void)gmtime_r(&seconds, &utc);
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(ret_text, LYAP_MESSAGE_TIME_BYTES, "%s.%03dZ", date,
                   (int)(time_ns % 1000000000 / 1000000));
}

/* Its parts are JSON already: nothing is parsed, so that want of memory cannot change a byte. */
char *lyap_message_payload(const struct lyap_alert *alert, const char *labels_json,
                           const struct lyap_action *action, int64_t now_ns)
{
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    char since[LYAP_MESSAGE_TIME_BYTES];
    char *shown = api_alert_text(alert);
    if (!shown)
        return NULL;
    lyap_message_time(now_ns, since);
    lyap_buffer_add(&text, "{\"alert\":%s,\"labels\":%s,\"action\":{\"kind\":\"%s\"", shown,
                    labels_json ? labels_json : "{}", lyap_action_name(action->kind));
    free(shown);
    if (isfinite(action->lr)) {
        lyap_buffer_add(&text, ",\"lr\":");
        lyap_buffer_json_number(&text, action->lr);
    }
    lyap_buffer_add(&text, "},\"since\":\"%s\"}", since);
    if (text.length > LYAP_PAYLOAD_BYTES_MAX) {
        lyap_buffer_release(&text);
        return NULL;
    }
    return lyap_buffer_detach(&text);
}

char *lyap_message_test_payload(int64_t now_ns)
{
    const struct lyap_action action = { .kind = LYAP_ACTION_CONTINUE, .lr = NAN };
    const struct lyap_alert alert = {
        .rule = "test",
        .state = LYAP_ALERT_FIRING,
        .severity = LYAP_SEVERITY_INFO,
        .pending_step = -1,
        .firing_step = -1,
        .resolved_step = -1,
        .updated_ns = now_ns,
        .firing_ns = now_ns,
        .summary = "A test of this receiver: nothing is wrong.",
        .evidence_json = "{}",
    };
    return lyap_message_payload(&alert, NULL, &action, now_ns);
}

void lyap_message_key(const struct lyap_delivery *delivery, char ret_key[LYAP_MESSAGE_KEY_BYTES])
{
    (void)snprintf(ret_key, LYAP_MESSAGE_KEY_BYTES, "lyapd-%" PRId64 "-%s-%" PRIx64,
                   delivery->alert_id, lyap_alert_state_name(delivery->kind),
                   (uint64_t)delivery->created_ns);
}

/* ---- what every format shows ---- */

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static bool facts_of(const json_t *payload, const struct lyap_delivery *delivery,
                     struct lyap_message_facts *ret_facts)
{
    const json_t *alert = json_object_get(payload, "alert");
    const struct lyap_message_facts facts = {
        .alert = alert,
        .labels = json_object_get(payload, "labels"),
        .run = text_of(alert, "run"),
        .rule = text_of(alert, "rule"),
        .severity = text_of(alert, "severity"),
        .tensor = text_of(alert, "tensor"),
        .summary = text_of(alert, "summary"),
        .action = text_of(json_object_get(payload, "action"), "kind"),
        .since = text_of(payload, "since"),
        .is_firing = delivery->kind == LYAP_ALERT_FIRING,
        .is_test = delivery->alert_id == 0,
    };
    *ret_facts = facts;
    return json_is_object(alert) && json_is_object(facts.labels) && facts.rule && facts.severity &&
           facts.summary && facts.action && facts.since;
}

void lyap_message_title(const struct lyap_message_facts *facts, char *ret_title, size_t bytes)
{
    const char *verb = facts->is_firing ? "fires on" : "resolved on";
    if (facts->is_test)
        (void)snprintf(ret_title, bytes, "lyapd: test notification");
    else
        (void)snprintf(ret_title, bytes, "[%s] %s %s %s", facts->severity, facts->rule, verb,
                       facts->run ? facts->run : "lyapd itself");
}

size_t lyap_message_cut(const char *text, size_t bytes_max)
{
    size_t length = strlen(text);
    if (length <= bytes_max)
        return length;
    length = bytes_max;
    while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
        length--; /* not in the middle of a character */
    return length;
}

/* ---- bodies ---- */

static json_t *plain_body(const struct lyap_message *message, const json_t *payload)
{
    const struct lyap_delivery *delivery = message->delivery;
    char key[LYAP_MESSAGE_KEY_BYTES], sent[LYAP_MESSAGE_TIME_BYTES];
    lyap_message_key(delivery, key);
    lyap_message_time(message->now_ns, sent);
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:b, s:s, s:O, s:O, s:O}", "version", 1, "key", key, "receiver",
        delivery->receiver, "tells", lyap_alert_state_name(delivery->kind), "test",
        delivery->alert_id == 0, "sent", sent, "alert", json_object_get(payload, "alert"), "labels",
        json_object_get(payload, "labels"), "action", json_object_get(payload, "action"));
}

static json_t *body_of(const struct lyap_message *message, const json_t *payload,
                       const struct lyap_message_facts *facts)
{
    if (message->receiver->type == LYAP_RECEIVER_ALERTMANAGER)
        return lyap_message_alertmanager(message, facts);
    switch (message->receiver->format) {
    case LYAP_FORMAT_SLACK:
        return lyap_message_slack(facts);
    case LYAP_FORMAT_DISCORD:
        return lyap_message_discord(facts);
    case LYAP_FORMAT_JSON:
    case LYAP_FORMAT_COUNT:
        break;
    }
    return plain_body(message, payload);
}

enum lyap_status lyap_message_text(const struct lyap_message *message, char **ret_text)
{
    struct lyap_message_facts facts;
    json_t *payload = json_loads(message->delivery->payload_json, 0, NULL);
    if (!facts_of(payload, message->delivery, &facts)) {
        json_decref(payload);
        return LYAP_E_FORMAT;
    }
    char *text = NULL;
    if (message->receiver->type == LYAP_RECEIVER_SENDMAIL) {
        text = lyap_message_mail(message, &facts);
    } else {
        json_t *body = body_of(message, payload, &facts);
        text = body ? json_dumps(body, JSON_COMPACT) : NULL;
        json_decref(body);
    }
    json_decref(payload);
    if (!text)
        return LYAP_E_NOMEM;
    *ret_text = text;
    return LYAP_OK;
}
