/* words.h - words of text columns to enums and back. An unknown word (edited by hand) is the first
 * of its enum. THREADS: pure functions. */
#ifndef LYAP_STORE_WORDS_H
#define LYAP_STORE_WORDS_H

#include "lyap/record.h"

enum lyap_run_state lyap_word_state(const char *word);
enum lyap_verdict lyap_word_verdict(const char *word);
enum lyap_action_kind lyap_word_action(const char *word);
enum lyap_event_kind lyap_word_event(const char *word);
enum lyap_retention lyap_word_retention(const char *word);
enum lyap_comparison lyap_word_comparison(const char *word);
enum lyap_severity lyap_word_severity(const char *word);
enum lyap_alert_state lyap_word_alert_state(const char *word);
enum lyap_receiver_type lyap_word_receiver_type(const char *word);
enum lyap_receiver_format lyap_word_receiver_format(const char *word);
enum lyap_delivery_state lyap_word_delivery_state(const char *word);
enum lyap_held lyap_word_held(const char *word);
const char *lyap_retention_word(enum lyap_retention retention);

#endif
