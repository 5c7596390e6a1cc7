/* attempt.h - one attempt to deliver one notification: an HTTP request that the deliverer's curl
 * handle drives, a mail that a sendmail process takes, or a line of the log. An attempt never
 * blocks: it begins, is over at some later time, and says how it went.
 * THREADS: owned by the deliverer. */
#ifndef LYAP_ATTEMPT_H
#define LYAP_ATTEMPT_H

#include <curl/curl.h>
#include <sys/types.h>

#include "api.h"
#include "lyap/record.h"

enum {
    LYAP_RESPONSE_BYTES_MAX = 64 << 10, /* of an answer; more breaks it off */
    LYAP_RESPONSE_BYTES_KEPT = 120      /* for the error's text */
};

struct lyap_attempt {
    struct lyap_attempt *next;
    struct lyap_delivery delivery; /* payload owned; alert_id 0: a test */
    struct lyap_receiver receiver; /* strings owned */
    char *text;                    /* what is sent; owned */
    int64_t start_ns, end_ns;      /* CLOCK_MONOTONIC: begun, and when it is given up */

    CURL *easy; /* HTTP; NULL: none */
    struct curl_slist *headers;
    char response[LYAP_RESPONSE_BYTES_KEPT];
    size_t response_length, response_bytes;
    pid_t pid; /* sendmail; 0: none */
    int pid_fd;

    bool is_over, is_delivered;
    int64_t retry_after_s; /* what the receiver asked for; 0: nothing */
    char error[LYAP_ERROR_TEXT_BYTES];

    api_test_done *test_done; /* of a test */
    void *test_arg;
};

struct lyap_attempt_options {
    CURLM *multi;
    const char *sendmail; /* path of the program */
    const char *ca_file;  /* empty: those of the system */
    uint32_t timeout_s;
    uint32_t repeat_s;
};

/* A copy of receiver and delivery. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_attempt_new(const struct lyap_delivery *delivery,
                                                  const struct lyap_receiver *receiver,
                                                  struct lyap_attempt **ret_attempt);
/* Breaks off what is under way. NULL: nothing. */
void lyap_attempt_free(struct lyap_attempt *attempt, CURLM *multi);
/* Begins; what cannot begin is over, undelivered. */
void lyap_attempt_begin(struct lyap_attempt *attempt, const struct lyap_attempt_options *options);
/* It is over, undelivered, because of this. */
void lyap_attempt_fail(struct lyap_attempt *attempt, const char *format, ...) LYAP_PRINTF(2, 3);

/* attempt_http.c. E_NOMEM; over after lyap_http_end, with what curl said of it. */
LYAP_MUST_CHECK enum lyap_status lyap_http_begin(struct lyap_attempt *attempt,
                                                 const struct lyap_attempt_options *options);
void lyap_http_end(struct lyap_attempt *attempt, CURLcode code);
/* attempt_mail.c. Over when the process ended, or when its time was up. */
void lyap_mail_begin(struct lyap_attempt *attempt, const struct lyap_attempt_options *options);
void lyap_mail_look(struct lyap_attempt *attempt, int64_t now_ns);
void lyap_mail_kill(struct lyap_attempt *attempt);

/* "t=<unix s>,v1=<hex HMAC-SHA256 of "t.body">" under `secret`. E_NOMEM, E_INTERNAL. */
enum { LYAP_SIGNATURE_BYTES = 96 };
LYAP_MUST_CHECK enum lyap_status lyap_signature(const char *secret, int64_t unix_s,
                                                const char *body,
                                                char ret_text[LYAP_SIGNATURE_BYTES]);

#endif
