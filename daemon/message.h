/* message.h - what a notification says: the payload that the outbox keeps (the alert as the API
 * shows it, labels of the run, advised action), and the body of it for each kind of receiver
 * (docs/delivery.md). Everything that a run or a client named is escaped and cut to the limits of
 * the receiver's format.
 * THREADS: pure functions. */
#ifndef LYAP_MESSAGE_H
#define LYAP_MESSAGE_H

#include <jansson.h>

#include "lyap/record.h"

enum { LYAP_MESSAGE_KEY_BYTES = 96, LYAP_MESSAGE_TIME_BYTES = 40 };

/* Payload of an alert; free(). `labels_json` of its run, or NULL. NULL: out of memory, or above
 * LYAP_PAYLOAD_BYTES_MAX. */
char *lyap_message_payload(const struct lyap_alert *alert, const char *labels_json,
                           const struct lyap_action *action, int64_t now_ns);
/* Of the test of a receiver. */
char *lyap_message_test_payload(int64_t now_ns);

struct lyap_message {
    const struct lyap_delivery *delivery;
    const struct lyap_receiver *receiver;
    int64_t now_ns;
    uint32_t repeat_s; /* a firing alert is told to an Alertmanager this often */
};
/* The text that is sent: a JSON body, or a mail with its headers; free(). E_FORMAT: the payload is
 * none of ours, or memory was short while it was read (jansson does not always tell); E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_message_text(const struct lyap_message *message,
                                                   char **ret_text);
/* The same for every attempt of one delivery, and for no other one. */
void lyap_message_key(const struct lyap_delivery *delivery, char ret_key[LYAP_MESSAGE_KEY_BYTES]);

/* ---- between the message's files ---- */

/* The members of a payload that every format shows; borrowed from it. */
struct lyap_message_facts {
    const json_t *alert, *labels; /* objects */
    const char *run;              /* NULL: the daemon itself */
    const char *rule, *severity, *tensor, *summary, *action, *since;
    bool is_firing, is_test;
};
void lyap_message_time(int64_t time_ns, char ret_text[LYAP_MESSAGE_TIME_BYTES]);
/* "[critical] instability fires on gpt-7". Names alone: safe in every format. */
void lyap_message_title(const struct lyap_message_facts *facts, char *ret_title, size_t bytes);
/* The first `bytes_max` bytes of UTF-8 text, cut between characters. */
size_t lyap_message_cut(const char *text, size_t bytes_max);

/* message_chat.c, message_alertmanager.c: new references; NULL: out of memory. */
json_t *lyap_message_slack(const struct lyap_message_facts *facts);
json_t *lyap_message_discord(const struct lyap_message_facts *facts);
json_t *lyap_message_alertmanager(const struct lyap_message *message,
                                  const struct lyap_message_facts *facts);
/* message_mail.c: headers and body; free(). */
char *lyap_message_mail(const struct lyap_message *message, const struct lyap_message_facts *facts);

#endif
