/* Bodies for the Alertmanager v2 API. */
#include "message.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum {
    PATIENCE = 4, /* an alert ends by itself when so many repetitions are missed */
    LABEL_BYTES_MAX = 300,
    ANNOTATION_BYTES_MAX = 2000,
    TEST_SECONDS = 60
};

/* Prometheus' alphabet: [a-zA-Z_][a-zA-Z0-9_]*. */
static void label_name(const char *key, char ret_name[LABEL_BYTES_MAX])
{
    size_t length = 0;
    if (isdigit((unsigned char)key[0]))
        ret_name[length++] = '_';
    for (; *key && length < LABEL_BYTES_MAX - 1; key++)
        ret_name[length++] = isalnum((unsigned char)*key) ? *key : '_';
    ret_name[length] = '\0';
}

static bool set_text(json_t *object, const char *key, const char *value, size_t bytes_max)
{
    return !value || !value[0] ||
           json_object_set_new(object, key,
                               json_stringn(value, lyap_message_cut(value, bytes_max))) == 0;
}

/* The labels of the run first: our own names win. They are those of the first notification of the
 * alert, for by its labels Alertmanager knows that it is the same one. */
static json_t *labels_of(const struct lyap_message *message, const struct lyap_message_facts *facts)
{
    char name[LABEL_BYTES_MAX], id[32];
    const char *key;
    json_t *value, *run_labels = (json_t *)(uintptr_t)facts->labels, *labels = json_object();
    bool is_whole = labels != NULL;
    json_object_foreach(run_labels, key, value)
    {
        label_name(key, name);
        is_whole = is_whole && set_text(labels, name, json_string_value(value), LABEL_BYTES_MAX);
    }
    (void)snprintf(id, sizeof id, "%lld", (long long)message->delivery->alert_id);
    const struct {
        const char *key, *value;
    } own[] = {
        { "alertname", facts->rule }, { "severity", facts->severity },
        { "run", facts->run },        { "tensor", facts->tensor },
        { "alert_id", id },           { "source", "lyapd" },
    };
    for (size_t i = 0; is_whole && i < sizeof own / sizeof *own; i++)
        is_whole = set_text(labels, own[i].key, own[i].value, LABEL_BYTES_MAX);
    if (!is_whole) {
        json_decref(labels);
        return NULL;
    }
    return labels;
}

static json_t *annotations_of(const struct lyap_message_facts *facts)
{
    char title[512];
    json_t *annotations = json_object();
    lyap_message_title(facts, title, sizeof title);
    if (set_text(annotations, "summary", title, ANNOTATION_BYTES_MAX) &&
        set_text(annotations, "description", facts->summary, ANNOTATION_BYTES_MAX) &&
        set_text(annotations, "action", facts->action, ANNOTATION_BYTES_MAX))
        return annotations;
    json_decref(annotations);
    return NULL;
}

json_t *lyap_message_alertmanager(const struct lyap_message *message,
                                  const struct lyap_message_facts *facts)
{
    const struct lyap_delivery *delivery = message->delivery;
    const int64_t lasts_s = facts->is_test ? TEST_SECONDS : (int64_t)message->repeat_s * PATIENCE;
    const int64_t end_ns =
        facts->is_firing ? message->now_ns + lasts_s * 1000000000 : delivery->created_ns;
    char ends[LYAP_MESSAGE_TIME_BYTES];
    lyap_message_time(end_ns, ends);
    return json_pack("[{s:o, s:o, s:s, s:s}]", "labels", labels_of(message, facts), "annotations",
                     annotations_of(facts), "startsAt", facts->since, "endsAt", ends);
}
