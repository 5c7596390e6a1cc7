/* Attempts: their life, and receivers that need no transport. */
#include "attempt.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine.h"
#include "log.h"
#include "lyap/alloc.h"
#include "message.h"

/* NULL stays NULL; false when memory is short. */
static bool copy_text(const char *text, const char **ret)
{
    *ret = text ? lyap_alloc_string(text) : NULL;
    return !text || *ret;
}

enum lyap_status lyap_attempt_new(const struct lyap_delivery *delivery,
                                  const struct lyap_receiver *receiver,
                                  struct lyap_attempt **ret_attempt)
{
    struct lyap_attempt *attempt = lyap_alloc_array(1, sizeof *attempt);
    if (!attempt)
        return LYAP_E_NOMEM;
    attempt->delivery = *delivery;
    attempt->receiver = *receiver;
    attempt->pid_fd = -1;
    const bool has_payload = copy_text(delivery->payload_json, &attempt->delivery.payload_json);
    const bool has_target = copy_text(receiver->target, &attempt->receiver.target);
    const bool has_secret = copy_text(receiver->secret, &attempt->receiver.secret);
    attempt->receiver.labels_json = NULL;
    if (!has_payload || !has_target || !has_secret) {
        lyap_attempt_free(attempt, NULL);
        return LYAP_E_NOMEM;
    }
    *ret_attempt = attempt;
    return LYAP_OK;
}

void lyap_attempt_free(struct lyap_attempt *attempt, CURLM *multi)
{
    if (!attempt)
        return;
    if (attempt->easy) {
        (void)curl_multi_remove_handle(multi, attempt->easy);
        curl_easy_cleanup(attempt->easy);
    }
    curl_slist_free_all(attempt->headers);
    lyap_mail_kill(attempt);
    free(attempt->text);
    lyap_free((char *)attempt->delivery.payload_json);
    lyap_free((char *)attempt->receiver.target);
    lyap_free((char *)attempt->receiver.secret);
    lyap_free(attempt);
}

void lyap_attempt_fail(struct lyap_attempt *attempt, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(attempt->error, sizeof attempt->error, format, arguments);
    va_end(arguments);
    for (char *c = attempt->error; *c; c++)
        *c = (unsigned char)*c < ' ' || (unsigned char)*c > '~' ? ' ' : *c;
    attempt->is_over = true;
    attempt->is_delivered = false;
}

static void log_line(struct lyap_attempt *attempt)
{
    char text[LYAP_LOG_LINE_BYTES / 2];
    lyap_log(LYAP_LOG_WARNING, "notification", "receiver=%s tells=%s message=%s",
             attempt->receiver.name, lyap_alert_state_name(attempt->delivery.kind),
             lyap_log_quote(attempt->text, text, sizeof text));
    attempt->is_over = attempt->is_delivered = true;
}

void lyap_attempt_begin(struct lyap_attempt *attempt, const struct lyap_attempt_options *options)
{
    const struct lyap_message message = { .delivery = &attempt->delivery,
                                          .receiver = &attempt->receiver,
                                          .now_ns = lyap_clock_utc_ns(),
                                          .repeat_s = options->repeat_s };
    attempt->start_ns = lyap_clock_ns();
    attempt->end_ns = attempt->start_ns + (int64_t)options->timeout_s * 1000000000;
    enum lyap_status status = lyap_message_text(&message, &attempt->text);
    if (status == LYAP_OK) {
        switch (attempt->receiver.type) {
        case LYAP_RECEIVER_WEBHOOK:
        case LYAP_RECEIVER_ALERTMANAGER:
            status = lyap_http_begin(attempt, options);
            break;
        case LYAP_RECEIVER_SENDMAIL:
            lyap_mail_begin(attempt, options);
            break;
        case LYAP_RECEIVER_LOG:
        case LYAP_RECEIVER_TYPE_COUNT:
            log_line(attempt);
            break;
        }
    }
    if (status != LYAP_OK)
        lyap_attempt_fail(attempt, "%s", lyap_status_text(status));
}
