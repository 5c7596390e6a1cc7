/* Bodies for Slack, Discord and what is compatible with them. */
#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"

enum {
    /* Of the documented maxima: 3000 characters of a section, 4096 of an embed's description. The
     * rest is for what escaping adds. */
    SUMMARY_BYTES_MAX = 1500,
    FIELD_BYTES_MAX = 500, /* of 1024 characters */
    LABELS_SHOWN_MAX = 8,  /* of 25 fields of an embed */
    COLOUR_FIRING = 0xd62728,
    COLOUR_RESOLVED = 0x2ca02c,
    COLOUR_TEST = 0x7f7f7f
};

/* Slack reads & < > as its own: <!channel> would wake everyone. Control characters go. */
static void add_escaped(struct lyap_buffer *text, const char *value, size_t bytes_max)
{
    const size_t length = lyap_message_cut(value, bytes_max);
    for (size_t i = 0; i < length; i++) {
        const char c = value[i];
        const char *entity = c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : NULL;
        if (entity)
            lyap_buffer_add(text, "%s", entity);
        else
            lyap_buffer_add(text, "%c", (unsigned char)c < ' ' ? ' ' : c);
    }
    if (value[length])
        lyap_buffer_add(text, "...");
}

/* "tensor: w, team: vision, advice: reduce_lr": what is known beside the summary. */
static void add_details(struct lyap_buffer *text, const struct lyap_message_facts *facts)
{
    const char *key;
    json_t *value, *labels = (json_t *)(uintptr_t)facts->labels;
    int shown = 0;
    lyap_buffer_add(text, "advice: %s", facts->action);
    if (facts->tensor) {
        lyap_buffer_add(text, ", tensor: ");
        add_escaped(text, facts->tensor, FIELD_BYTES_MAX);
    }
    json_object_foreach(labels, key, value)
    {
        if (shown++ == LABELS_SHOWN_MAX)
            break;
        lyap_buffer_add(text, ", ");
        add_escaped(text, key, 64);
        lyap_buffer_add(text, ": ");
        add_escaped(text, json_string_value(value) ? json_string_value(value) : "", 64);
    }
}

json_t *lyap_message_slack(const struct lyap_message_facts *facts)
{
    char title[512];
    struct lyap_buffer summary = LYAP_BUFFER_NULL, details = LYAP_BUFFER_NULL;
    lyap_message_title(facts, title, sizeof title);
    lyap_buffer_add(&summary, "*%s*\n", title);
    add_escaped(&summary, facts->summary, SUMMARY_BYTES_MAX);
    add_details(&details, facts);
    char *section = lyap_buffer_detach(&summary), *context = lyap_buffer_detach(&details);
    json_t *body =
        section && context
            ? json_pack("{s:s, s:[{s:s, s:{s:s, s:s}}, {s:s, s:[{s:s, s:s}]}]}", "text", title,
                        "blocks", "type", "section", "text", "type", "mrkdwn", "text", section,
                        "type", "context", "elements", "type", "mrkdwn", "text", context)
            : NULL;
    free(section);
    free(context);
    return body;
}

/* As above, but markup is not escaped: Discord has no entities. Mentions are switched off. */
json_t *lyap_message_discord(const struct lyap_message_facts *facts)
{
    char title[256];
    struct lyap_buffer details = LYAP_BUFFER_NULL;
    const int colour = facts->is_test     ? COLOUR_TEST
                       : facts->is_firing ? COLOUR_FIRING
                                          : COLOUR_RESOLVED;
    const size_t length = lyap_message_cut(facts->summary, SUMMARY_BYTES_MAX);
    lyap_message_title(facts, title, sizeof title);
    add_details(&details, facts);
    char *context = lyap_buffer_detach(&details);
    json_t *body = context
                       ? json_pack("{s:s, s:{s:[]}, s:[{s:s, s:s%, s:i, s:s, s:{s:s}}]}", "content",
                                   title, "allowed_mentions", "parse", "embeds", "title", title,
                                   "description", facts->summary, length, "color", colour,
                                   "timestamp", facts->since, "footer", "text", context)
                       : NULL;
    free(context);
    return body;
}
