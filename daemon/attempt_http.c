/* Notifications by HTTP: webhooks and Alertmanager. */
#include "attempt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "message.h"

enum { CONNECT_SECONDS_MAX = 5 };

/* Keeps the first bytes; a receiver that sends on and on is broken off. */
static size_t on_response(char *bytes, size_t size, size_t count, void *arg)
{
    struct lyap_attempt *attempt = arg;
    const size_t length = size * count, room = sizeof attempt->response - attempt->response_length;
    const size_t kept = length < room ? length : room;
    memcpy(attempt->response + attempt->response_length, bytes, kept);
    attempt->response_length += kept;
    attempt->response_bytes += length;
    return attempt->response_bytes > LYAP_RESPONSE_BYTES_MAX ? 0 : length;
}

static bool add_header(struct lyap_attempt *attempt, const char *name, const char *value)
{
    char line[256];
    (void)snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(attempt->headers, line);
    if (!longer)
        return false;
    attempt->headers = longer;
    return true;
}

static enum lyap_status add_headers(struct lyap_attempt *attempt)
{
    char key[LYAP_MESSAGE_KEY_BYTES], signature[LYAP_SIGNATURE_BYTES];
    lyap_message_key(&attempt->delivery, key);
    if (!add_header(attempt, "Content-Type", "application/json") ||
        !add_header(attempt, "Idempotency-Key", key))
        return LYAP_E_NOMEM;
    if (!attempt->receiver.secret)
        return LYAP_OK;
    const enum lyap_status status = lyap_signature(
        attempt->receiver.secret, lyap_clock_utc_ns() / 1000000000, attempt->text, signature);
    if (status != LYAP_OK)
        return status;
    return add_header(attempt, "Lyapd-Signature", signature) ? LYAP_OK : LYAP_E_NOMEM;
}

/* The address of the API below what is configured, which may end in a slash. NULL: out of memory.
 */
static char *url_of(const struct lyap_receiver *receiver)
{
    char *url = NULL;
    size_t length = strlen(receiver->target);
    if (receiver->type != LYAP_RECEIVER_ALERTMANAGER)
        return strdup(receiver->target);
    while (length > 0 && receiver->target[length - 1] == '/')
        length--;
    return asprintf(&url, "%.*s/api/v2/alerts", (int)length, receiver->target) < 0 ? NULL : url;
}

/* Certificates are verified (the default of curl), redirects are not followed: they could lead the
 * notification to another host. A resolver that hangs is left behind, not waited for. */
static CURLcode set_up(struct lyap_attempt *attempt, const struct lyap_attempt_options *options,
                       const char *url)
{
    const long timeout_ms = (long)options->timeout_s * 1000;
    const long connect_ms =
        options->timeout_s < CONNECT_SECONDS_MAX ? timeout_ms : CONNECT_SECONDS_MAX * 1000L;
    CURL *easy = attempt->easy;
    CURLcode code = CURLE_OK;
#define SET(option, value)                                                                         \
    if (code == CURLE_OK)                                                                          \
    code = curl_easy_setopt(easy, option, value)
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_FORBID_REUSE, 1L); /* one that went stale would be repeated behind our back */
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_TIMEOUT_MS, timeout_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    SET(CURLOPT_USERAGENT, "lyapd/" LYAP_VERSION);
    SET(CURLOPT_HTTPHEADER, attempt->headers);
    SET(CURLOPT_POSTFIELDS, attempt->text);
    SET(CURLOPT_POSTFIELDSIZE, (long)strlen(attempt->text));
    SET(CURLOPT_WRITEFUNCTION, on_response);
    SET(CURLOPT_WRITEDATA, attempt);
    SET(CURLOPT_PRIVATE, attempt);
    if (options->ca_file[0]) {
        SET(CURLOPT_CAINFO, options->ca_file);
    }
#undef SET
    return code;
}

enum lyap_status lyap_http_begin(struct lyap_attempt *attempt,
                                 const struct lyap_attempt_options *options)
{
    const enum lyap_status status = add_headers(attempt);
    if (status != LYAP_OK)
        return status;
    char *url = url_of(&attempt->receiver);
    CURL *easy = url ? curl_easy_init() : NULL;
    attempt->easy = easy;
    const CURLcode code = easy ? set_up(attempt, options, url) : CURLE_OUT_OF_MEMORY;
    free(url);
    if (code == CURLE_OK && curl_multi_add_handle(options->multi, easy) == CURLM_OK)
        return LYAP_OK;
    curl_easy_cleanup(easy);
    attempt->easy = NULL;
    if (code == CURLE_OK || code == CURLE_OUT_OF_MEMORY)
        return LYAP_E_NOMEM;
    lyap_attempt_fail(attempt, "%s", curl_easy_strerror(code));
    return LYAP_OK;
}

void lyap_http_end(struct lyap_attempt *attempt, CURLcode code)
{
    long http_status = 0;
    curl_off_t retry_after_s = 0;
    (void)curl_easy_getinfo(attempt->easy, CURLINFO_RESPONSE_CODE, &http_status);
    (void)curl_easy_getinfo(attempt->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    attempt->retry_after_s = retry_after_s;
    /* A success with a body that is too long is a success. */
    const bool is_answered = code == CURLE_OK || code == CURLE_WRITE_ERROR;
    if (is_answered && http_status >= 200 && http_status < 300) {
        attempt->is_over = attempt->is_delivered = true;
        return;
    }
    if (is_answered && http_status >= 300 && http_status < 400)
        lyap_attempt_fail(attempt, "HTTP %ld: redirects are not followed", http_status);
    else if (is_answered)
        lyap_attempt_fail(attempt, "HTTP %ld %.*s", http_status, (int)attempt->response_length,
                          attempt->response);
    else
        lyap_attempt_fail(attempt, "%s", curl_easy_strerror(code));
}
