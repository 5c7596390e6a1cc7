/* Mails: headers of names alone, and a body in quoted-printable, so that nothing that a run or a
 * client named can become a header, a dot line or an overlong one. */
#include "message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "buffer.h"

enum { LINE_BYTES_MAX = 72, EVIDENCE_BYTES_MAX = 16 << 10 };

/* RFC 2045 6.7. */
static void add_quoted(struct lyap_buffer *mail, const char *text, size_t length)
{
    int column = 0;
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c == '\n') {
            lyap_buffer_add(mail, "\n");
            column = 0;
            continue;
        }
        if (column >= LINE_BYTES_MAX) {
            lyap_buffer_add(mail, "=\n");
            column = 0;
        }
        const bool is_end = i + 1 == length || text[i + 1] == '\n';
        const bool is_plain = c > ' ' && c <= '~' && c != '=' && !(c == '.' && column == 0);
        if (is_plain || (c == ' ' && !is_end)) {
            lyap_buffer_add(mail, "%c", c);
            column++;
        } else {
            lyap_buffer_add(mail, "=%02X", c);
            column += 3;
        }
    }
}

static void add_fact(struct lyap_buffer *text, const char *name, const char *value)
{
    if (value)
        lyap_buffer_add(text, "%-9s %s\n", name, value);
}

/* A member of the alert that is a number, an infinity in words, or null. */
static void add_number(struct lyap_buffer *text, const char *name, const json_t *value)
{
    if (json_is_string(value))
        add_fact(text, name, json_string_value(value));
    else if (json_is_number(value))
        lyap_buffer_add(text, "%-9s %.9g\n", name, json_number_value(value));
}

static char *plain_text(const struct lyap_message_facts *facts)
{
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    const char *key;
    json_t *value, *labels = (json_t *)(uintptr_t)facts->labels;
    lyap_buffer_add(&text, "%s\n\n", facts->summary);
    add_fact(&text, "run:", facts->run ? facts->run : "(the daemon itself)");
    add_fact(&text, "rule:", facts->rule);
    add_fact(&text, "severity:", facts->severity);
    add_fact(&text, "since:", facts->since);
    add_fact(&text, "tensor:", facts->tensor);
    add_fact(&text, "advice:", facts->action);
    add_number(&text, "attempt:", json_object_get(facts->alert, "attempt"));
    add_number(&text, "fired at:", json_object_get(facts->alert, "firing_step"));
    add_number(&text, "resolved:", json_object_get(facts->alert, "resolved_step"));
    add_number(&text, "value:", json_object_get(facts->alert, "value"));
    add_number(&text, "limit:", json_object_get(facts->alert, "threshold"));
    json_object_foreach(labels, key, value)
        lyap_buffer_add(&text, "label:    %s = %s\n", key,
                        json_string_value(value) ? json_string_value(value) : "");
    char *evidence = json_dumps(json_object_get(facts->alert, "evidence"), JSON_INDENT(1));
    if (evidence)
        lyap_buffer_add(&text, "\nevidence:\n%.*s\n",
                        (int)lyap_message_cut(evidence, EVIDENCE_BYTES_MAX), evidence);
    text.has_failed = text.has_failed || !evidence;
    free(evidence);
    return lyap_buffer_detach(&text);
}

char *lyap_message_mail(const struct lyap_message *message, const struct lyap_message_facts *facts)
{
    struct lyap_buffer mail = LYAP_BUFFER_NULL;
    char title[512], key[LYAP_MESSAGE_KEY_BYTES];
    char *text = plain_text(facts);
    if (!text)
        return NULL;
    lyap_message_title(facts, title, sizeof title);
    lyap_message_key(message->delivery, key);
    lyap_buffer_add(&mail, "To: %s\nSubject: %s\nMessage-ID: <%s@lyapd.localhost>\n",
                    message->receiver->target, title, key);
    lyap_buffer_add(&mail, "Auto-Submitted: auto-generated\nMIME-Version: 1.0\n"
                           "Content-Type: text/plain; charset=utf-8\n"
                           "Content-Transfer-Encoding: quoted-printable\n\n");
    add_quoted(&mail, text, strlen(text));
    free(text);
    return lyap_buffer_detach(&mail);
}
