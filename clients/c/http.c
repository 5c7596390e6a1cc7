/* HTTP exchanges over libcurl. */
#include "http.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lyap/alloc.h"

enum {
    HTTP_REPLY_BYTES_MAX = 64 << 20, /* a page of the largest list stays below 16 MiB */
    HTTP_UPLOAD_BUFFER_BYTES =
        1 << 20,            /* fewer system calls a gigabyte; libcurl takes up to 2 MiB */
    HTTP_CONNECT_MS = 2000, /* a SYN lost once is sent again after 1 s */
    HTTP_PAUSE_MS_FIRST = 50,
    HTTP_PAUSE_MS_MAX = 2000,
    HTTP_HEADER_BYTES = 600
};

struct http {
    CURL *easy;
    char *url;
    char *authorization; /* "Authorization: Bearer ...", or NULL */
    uint64_t jitter;     /* state of the pauses' random part, so that ranks do not march in step */
    char message[CURL_ERROR_SIZE];
};

/* What the callbacks of one exchange share. */
struct exchange {
    const struct http_request *request;
    uint32_t piece;  /* the next byte to send: this piece ... */
    uint64_t offset; /* ... at this offset */
    char *text;
    size_t length, capacity;
    long retry_after_s;
    bool is_too_long;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void sleep_ms(int64_t ms)
{
    struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static uint64_t body_bytes(const struct http_request *request)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < request->piece_count; i++)
        bytes += request->pieces[i].length;
    return bytes;
}

static size_t on_read(char *target, size_t size, size_t count, void *arg)
{
    struct exchange *exchange = arg;
    const struct http_request *request = exchange->request;
    size_t room = size * count, done = 0;
    while (room > 0 && exchange->piece < request->piece_count) {
        const struct http_piece *piece = &request->pieces[exchange->piece];
        const uint64_t left = piece->length - exchange->offset;
        const size_t take = left < room ? (size_t)left : room;
        if (take > 0)
            memcpy(target + done, (const char *)piece->bytes + exchange->offset, take);
        done += take;
        room -= take;
        exchange->offset += take;
        if (exchange->offset == piece->length) {
            exchange->piece++;
            exchange->offset = 0;
        }
    }
    return done;
}

/* libcurl asks for the start again when a connection it reused turns out to be closed. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct exchange *exchange = arg;
    if (origin != SEEK_SET || offset < 0)
        return CURL_SEEKFUNC_CANTSEEK;
    uint64_t left = (uint64_t)offset;
    exchange->piece = 0;
    while (exchange->piece < exchange->request->piece_count &&
           left >= exchange->request->pieces[exchange->piece].length)
        left -= exchange->request->pieces[exchange->piece++].length;
    exchange->offset = left;
    return CURL_SEEKFUNC_OK;
}

/* False beyond HTTP_REPLY_BYTES_MAX or without memory; the text stays NUL-terminated. */
static bool append_text(struct exchange *exchange, const char *bytes, size_t length)
{
    if (length > HTTP_REPLY_BYTES_MAX - exchange->length) {
        exchange->is_too_long = true;
        return false;
    }
    if (exchange->length + length + 1 > exchange->capacity) {
        const size_t capacity = 2 * (exchange->length + length + 1);
        char *text = realloc(exchange->text, capacity);
        if (!text)
            return false;
        exchange->text = text;
        exchange->capacity = capacity;
    }
    memcpy(exchange->text + exchange->length, bytes, length);
    exchange->length += length;
    exchange->text[exchange->length] = '\0';
    return true;
}

static size_t on_write(char *bytes, size_t size, size_t count, void *arg)
{
    return append_text(arg, bytes, size * count) ? size * count : 0;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *arg)
{
    static const char name[] = "retry-after:";
    const size_t length = size * count, name_length = sizeof name - 1;
    if (length > name_length && curl_strnequal(bytes, name, name_length)) {
        char number[16] = { 0 };
        const size_t rest = length - name_length;
        memcpy(number, bytes + name_length, rest < sizeof number ? rest : sizeof number - 1);
        ((struct exchange *)arg)->retry_after_s = strtol(number, NULL, 10);
    }
    return length;
}

enum lyap_status http_new(const char *url, const char *token, struct http **ret_http,
                          struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_E_NOMEM;
    if (!url || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0))
        return lyap_error_set(reterr, LYAP_E_INVALID, "url \"%s\" is not http:// or https://",
                              url ? url : "(none)");
    struct http *http = lyap_alloc_array(1, sizeof *http);
    if (!http)
        goto out;
    http->url = lyap_alloc_string(url);
    if (!http->url)
        goto out;
    for (size_t end = strlen(http->url); end > 0 && http->url[end - 1] == '/'; end--)
        http->url[end - 1] = '\0';
    if (token) {
        static const char field[] = "Authorization: Bearer ";
        const size_t bytes = sizeof field + strlen(token);
        http->authorization = lyap_alloc_array(bytes, 1);
        if (!http->authorization)
            goto out;
        memcpy(http->authorization, field, sizeof field - 1);
        memcpy(http->authorization + sizeof field - 1, token, strlen(token) + 1);
    }
    http->easy = curl_easy_init();
    if (!http->easy)
        goto out;
    http->jitter = (uint64_t)now_ms() ^ (uint64_t)(uintptr_t)http;
    *ret_http = http;
    http = NULL;
    status = LYAP_OK;
out:
    http_free(http);
    return status == LYAP_OK ? status : lyap_error_set(reterr, status, "no memory for the client");
}

void http_free(struct http *http)
{
    if (!http)
        return;
    curl_easy_cleanup(http->easy);
    lyap_free(http->authorization);
    lyap_free(http->url);
    lyap_free(http);
}

/* SIGPIPE of a connection that breaks under TLS must not end a training: libcurl is told to leave
 * signals alone (NOSIGNAL, for threads), so it is blocked here and a pending one is taken away. */
static CURLcode perform_without_sigpipe(CURL *easy)
{
    sigset_t pipe_only, before, pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    const bool was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    const CURLcode code = curl_easy_perform(easy);
    sigpending(&pending);
    if (!was_pending && sigismember(&pending, SIGPIPE) == 1) {
        const struct timespec at_once = { 0 };
        while (sigtimedwait(&pipe_only, NULL, &at_once) < 0 && errno == EINTR)
            ;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

static struct curl_slist *append(struct curl_slist *list, const char *line, bool *is_ok)
{
    if (!*is_ok || !line)
        return list;
    struct curl_slist *longer = curl_slist_append(list, line);
    *is_ok = longer != NULL;
    return longer ? longer : list;
}

static struct curl_slist *append_field(struct curl_slist *list, const char *name, const char *value,
                                       bool *is_ok)
{
    char line[HTTP_HEADER_BYTES];
    if (!value)
        return list;
    const int length = snprintf(line, sizeof line, "%s: %s", name, value);
    *is_ok = *is_ok && length > 0 && (size_t)length < sizeof line;
    return append(list, line, is_ok);
}

static void set_callbacks(CURL *easy, struct exchange *exchange)
{
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
}

/* A daemon on this machine is never reached through the proxy of the environment. */
static bool is_loopback(const char *url)
{
    const char *host = strstr(url, "://") + 3;
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost", 9) == 0 ||
           strncmp(host, "[::1]", 5) == 0;
}

static void set_body(CURL *easy, const struct http_request *request)
{
    if (!request->content_type)
        return;
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_bytes(request));
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)HTTP_UPLOAD_BUFFER_BYTES);
}

/* One try. The handle keeps its connections over the reset. */
static CURLcode perform(struct http *http, const char *url, struct curl_slist *fields,
                        struct exchange *exchange, int64_t left_ms)
{
    CURL *easy = http->easy;
    curl_easy_reset(easy);
    http->message[0] = '\0';
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, http->message);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    if (is_loopback(url))
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)left_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(left_ms < HTTP_CONNECT_MS ? left_ms : HTTP_CONNECT_MS));
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fields);
    set_callbacks(easy, exchange);
    set_body(easy, exchange->request);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, exchange->request->method);
    exchange->piece = 0;
    exchange->offset = 0;
    exchange->length = 0;
    exchange->retry_after_s = 0;
    return perform_without_sigpipe(easy);
}

static bool is_try_later(CURLcode code, long http_status)
{
    if (code != CURLE_OK)
        return code != CURLE_WRITE_ERROR && code != CURLE_URL_MALFORMAT &&
               code != CURLE_UNSUPPORTED_PROTOCOL && code != CURLE_OUT_OF_MEMORY;
    return http_status == 408 || http_status == 429 || http_status == 502 || http_status == 503 ||
           http_status == 504 || http_status == 507;
}

/* Half fixed, half random (xorshift). */
static int64_t pause_ms(struct http *http, int64_t base_ms, const struct exchange *exchange)
{
    http->jitter ^= http->jitter << 13;
    http->jitter ^= http->jitter >> 7;
    http->jitter ^= http->jitter << 17;
    const int64_t pause = base_ms / 2 + (int64_t)(http->jitter % (uint64_t)(base_ms / 2 + 1));
    const int64_t asked = exchange->retry_after_s > 0 ? exchange->retry_after_s * 1000 : 0;
    return pause > asked ? pause : asked;
}

static enum lyap_status give_up(const struct http *http, CURLcode code,
                                const struct exchange *exchange, struct lyap_error *reterr)
{
    if (exchange->is_too_long)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "the answer exceeds %d bytes",
                              HTTP_REPLY_BYTES_MAX);
    const char *why = http->message[0] ? http->message : curl_easy_strerror(code);
    return lyap_error_set(reterr, LYAP_E_IO, "%s %s: %s", exchange->request->method, http->url,
                          why);
}

static enum lyap_status exchange_until(struct http *http, const char *url,
                                       struct curl_slist *fields, int64_t deadline,
                                       struct exchange *exchange,
                                       struct http_response *ret_response,
                                       struct lyap_error *reterr)
{
    int64_t base_ms = HTTP_PAUSE_MS_FIRST;
    for (uint32_t repetitions = 0;; repetitions++) {
        const int64_t left = deadline - now_ms();
        long status = 0;
        const CURLcode code = perform(http, url, fields, exchange, left > 1 ? left : 1);
        curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
        const int64_t pause = pause_ms(http, base_ms, exchange);
        const bool is_last = !is_try_later(code, status) || now_ms() + pause >= deadline;
        if (is_last && code != CURLE_OK)
            return give_up(http, code, exchange, reterr);
        if (is_last) {
            *ret_response = (struct http_response){ .status = status,
                                                    .text = exchange->text,
                                                    .length = exchange->length,
                                                    .repetitions = repetitions };
            exchange->text = NULL;
            return LYAP_OK;
        }
        sleep_ms(pause);
        base_ms = base_ms * 2 < HTTP_PAUSE_MS_MAX ? base_ms * 2 : HTTP_PAUSE_MS_MAX;
    }
}

enum lyap_status http_send(struct http *http, const struct http_request *request,
                           uint32_t deadline_ms, struct http_response *ret_response,
                           struct lyap_error *reterr)
{
    assert(request->path[0] == '/');
    const int64_t deadline = now_ms() + deadline_ms;
    struct exchange exchange = { .request = request };
    enum lyap_status status = LYAP_E_NOMEM;
    struct curl_slist *fields = NULL;
    bool is_ok = true;
    const size_t url_bytes = strlen(http->url) + strlen(request->path) + 1;
    char *url = lyap_alloc_array(url_bytes, 1);
    if (!url)
        goto out;
    snprintf(url, url_bytes, "%s%s", http->url, request->path);
    fields = append(fields, http->authorization, &is_ok);
    fields = append_field(fields, "Content-Type", request->content_type, &is_ok);
    fields = append_field(fields, "Prefer", request->prefer, &is_ok);
    if (!is_ok || !append_text(&exchange, "", 0))
        goto out;
    status = exchange_until(http, url, fields, deadline, &exchange, ret_response, reterr);
out:
    curl_slist_free_all(fields);
    lyap_free(url);
    free(exchange.text);
    return status == LYAP_E_NOMEM ? lyap_error_set(reterr, status, "no memory for the request")
                                  : status;
}
