/* The HTTP server: with http_stream.c, everything that knows libmicrohttpd. */
#include "api.h"

#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "exchange.h"
#include "feed.h"
#include "http_stream.h"

enum {
    BUDGET_BYTES = 512 << 20, /* headers, bodies and replies in the making, all connections */
    STOP_ANSWER_MS = 3000,    /* for requests in work, before waiting ones are given up */
    STOP_GIVE_UP_MS = 1000,   /* for their answers; together well under the 10 s of SIGTERM */
    PEM_BYTES_MAX = 1 << 20,
};

struct exchange; /* one request and its reply */

/* One connection. libmicrohttpd 0.9.75 forgets to say that a request is completed when the
 * arguments of its URI do not fit the connection's memory: what is left of it is released with the
 * connection.
 */
struct peer {
    struct exchange *exchange; /* the present one, or NULL */
};

struct api_server {
    struct MHD_Daemon *daemon;
    struct api_options options;
    struct api_ports ports;
    struct api_budget budget;
    char *token_file, *tls_cert, *tls_key; /* owned */
    MHD_socket listen_socket;              /* ours once quiesced, else MHD_INVALID_SOCKET */
    _Atomic uint32_t connection_count;

    pthread_rwlock_t tokens_lock;
    struct api_tokens *tokens; /* owned; NULL: no auth, loopback only */

    struct api_streams streams;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool is_stopping;
    uint32_t active_count;      /* requests between begin and completed */
    struct exchange *suspended; /* list of those that wait for the engine */
};

struct exchange {
    struct api_exchange core;
    struct api_server *server;
    struct MHD_Connection *connection;
    struct peer *peer;
    bool is_begun, is_ended;
    struct exchange *next, **link; /* in server->suspended */
};

/* ---- answer ---- */

static void header(struct MHD_Response *response, const char *name, const char *value)
{
    if (value && value[0])
        (void)MHD_add_response_header(response, name, value);
}

static bool is_stopping(struct api_server *server)
{
    pthread_mutex_lock(&server->lock);
    const bool stopping = server->is_stopping;
    pthread_mutex_unlock(&server->lock);
    return stopping;
}

/* Few places are left: connections that only wait for their next request make room. */
static bool is_crowded(struct api_server *server)
{
    return server->connection_count >= server->options.connection_count_max / 4 * 3;
}

static void add_headers(const struct exchange *exchange, const struct api_reply *reply,
                        struct MHD_Response *response)
{
    if (reply->http_status != 204 && reply->http_status != 304)
        header(response, "Content-Type", reply->content_type);
    header(response, "ETag", reply->etag);
    header(response, "Allow", reply->allow);
    header(response, "WWW-Authenticate", reply->is_unauthorized ? "Bearer" : NULL);
    header(response, "Preference-Applied", reply->is_minimal ? "return=minimal" : NULL);
    header(response, "Cache-Control", "no-cache");
    header(response, "Vary", "Accept, Authorization");
    header(response, "X-Content-Type-Options", "nosniff");
    const bool is_last = is_stopping(exchange->server) || is_crowded(exchange->server);
    header(response, "Connection", is_last ? "close" : NULL);
    if (reply->retry_after_s > 0) {
        char seconds[16];
        (void)snprintf(seconds, sizeof seconds, "%u", reply->retry_after_s);
        header(response, "Retry-After", seconds);
    }
}

static enum MHD_Result send_reply(struct exchange *exchange, struct api_reply *reply)
{
    struct MHD_Response *response =
        api_stream_response(&exchange->server->streams, exchange->connection, reply);
    if (!response)
        return MHD_NO;
    add_headers(exchange, reply, response);
    const enum MHD_Result result =
        MHD_queue_response(exchange->connection, reply->http_status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer(struct exchange *exchange)
{
    struct api_reply reply;
    api_exchange_reply(&exchange->core, &reply);
    const enum MHD_Result result = send_reply(exchange, &reply);
    api_reply_release(&reply);
    return result;
}

/* ---- begin ---- */

static const char *request_header(const struct exchange *exchange, const char *name)
{
    return MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
}

/* UINT64_MAX: chunked, not known. */
static uint64_t content_length(const struct exchange *exchange)
{
    const char *text = request_header(exchange, "Content-Length");
    if (text)
        return strtoull(text, NULL, 10);
    return request_header(exchange, "Transfer-Encoding") ? UINT64_MAX : 0;
}

static struct api_exchange_limits limits_of(const struct api_server *server)
{
    return (struct api_exchange_limits){ server->options.body_bytes_max,
                                         server->options.upload_seconds_max };
}

static enum MHD_Result begin(struct exchange *exchange, const char *method)
{
    struct api_server *server = exchange->server;
    struct api_exchange_head head = {
        .method = method,
        .headers = {
            .accept = request_header(exchange, "Accept"),
            .content_type = request_header(exchange, "Content-Type"),
            .if_none_match = request_header(exchange, "If-None-Match"),
            .prefer = request_header(exchange, "Prefer"),
            .authorization = request_header(exchange, "Authorization"),
            .expect = request_header(exchange, "Expect"),
            .host = request_header(exchange, "Host"),
            .last_event_id = request_header(exchange, "Last-Event-ID"),
        },
        .content_length = content_length(exchange),
        .limits = limits_of(server),
    };
    exchange->is_begun = true;
    pthread_mutex_lock(&server->lock);
    server->active_count++;
    if (server->is_stopping)
        exchange->core.status =
            lyap_error_set(&exchange->core.error, LYAP_E_STOPPING, "the daemon is shutting down");
    pthread_mutex_unlock(&server->lock);
    pthread_rwlock_rdlock(&server->tokens_lock);
    head.tokens = server->tokens;
    const bool is_answered_now = api_exchange_begin(&exchange->core, &head);
    pthread_rwlock_unlock(&server->tokens_lock);
    return is_answered_now ? answer(exchange) : MHD_YES;
}

/* ---- finish ---- */

static void suspend(struct exchange *exchange)
{
    struct api_server *server = exchange->server;
    pthread_mutex_lock(&server->lock);
    exchange->next = server->suspended;
    exchange->link = &server->suspended;
    if (exchange->next)
        exchange->next->link = &exchange->next;
    server->suspended = exchange;
    MHD_suspend_connection(exchange->connection);
    pthread_mutex_unlock(&server->lock);
}

/* Under the lock from the list to the resumption, so that an empty list means: none suspended. The
 * connection's thread may free the exchange as soon as it is resumed. */
static void resume_locked(struct exchange *exchange)
{
    struct api_server *server = exchange->server;
    *exchange->link = exchange->next;
    if (exchange->next)
        exchange->next->link = exchange->link;
    MHD_resume_connection(exchange->connection);
    pthread_cond_broadcast(&server->changed);
}

static void resume(void *arg)
{
    struct exchange *exchange = arg;
    struct api_server *server = exchange->server;
    pthread_mutex_lock(&server->lock);
    resume_locked(exchange);
    pthread_mutex_unlock(&server->lock);
}

static enum MHD_Result finish(struct exchange *exchange)
{
    if (!exchange->is_ended) {
        exchange->is_ended = true;
        if (api_exchange_end(&exchange->core)) {
            suspend(exchange); /* before the engine has it: a resume that comes first is lost */
            api_exchange_submit(&exchange->core, resume, exchange);
            return MHD_YES;
        }
    }
    return answer(exchange);
}

/* ---- callbacks ---- */

static void exchange_free(struct exchange *exchange)
{
    struct api_server *server = exchange->server;
    const bool is_begun = exchange->is_begun;
    exchange->peer->exchange = NULL;
    api_exchange_release(&exchange->core);
    free(exchange);
    if (!is_begun)
        return;
    pthread_mutex_lock(&server->lock);
    assert(server->active_count > 0);
    server->active_count--;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct api_server *server = cls;
    struct peer *peer = *context;
    (void)connection;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        server->connection_count++;
        *context = calloc(1, sizeof *peer);
        return;
    }
    if (peer && peer->exchange)
        exchange_free(peer->exchange);
    server->connection_count--;
    free(peer);
    *context = NULL;
}

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct api_server *server = cls;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct peer *peer = info ? info->socket_context : NULL;
    struct exchange *exchange = peer ? calloc(1, sizeof *exchange) : NULL;
    if (!exchange)
        return NULL;
    exchange->server = server;
    exchange->connection = connection;
    exchange->peer = peer;
    if (api_exchange_init(&exchange->core, uri, &server->ports, &server->budget) != LYAP_OK) {
        free(exchange);
        return NULL;
    }
    if (peer->exchange)
        exchange_free(peer->exchange);
    peer->exchange = exchange;
    return exchange;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload_data,
                                 size_t *upload_data_size, void **con_cls)
{
    (void)cls, (void)connection, (void)url, (void)version;
    struct exchange *exchange = *con_cls;
    if (!exchange)
        return MHD_NO;
    if (!exchange->is_begun)
        return begin(exchange, method);
    if (*upload_data_size == 0)
        return finish(exchange);
    const bool is_taken = api_exchange_take(&exchange->core, upload_data, *upload_data_size,
                                            limits_of(exchange->server));
    *upload_data_size = 0; /* a byte left would stall the connection until its timeout */
    return is_taken ? MHD_YES : MHD_NO;
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
                         enum MHD_RequestTerminationCode code)
{
    struct exchange *exchange = *con_cls;
    (void)cls, (void)connection, (void)code;
    if (exchange)
        exchange_free(exchange);
    *con_cls = NULL;
}

/* The api never logs; libmicrohttpd would write to stderr. */
LYAP_PRINTF(2, 0) static void on_log(void *cls, const char *format, va_list arguments)
{
    (void)cls, (void)format, (void)arguments;
}

/* ---- life cycle ---- */

static enum lyap_status read_pem(const char *path, char **ret_text, struct lyap_error *reterr)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s: %s", path, strerror(errno));
    char *text = calloc(1, PEM_BYTES_MAX);
    const size_t length = text ? fread(text, 1, PEM_BYTES_MAX - 1, file) : 0;
    fclose(file);
    if (!text)
        return LYAP_E_NOMEM;
    if (length == 0 || length == PEM_BYTES_MAX - 1) {
        free(text);
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s: not a PEM file of at most %d bytes",
                              path, PEM_BYTES_MAX - 2);
    }
    *ret_text = text;
    return LYAP_OK;
}

static enum lyap_status load_secrets(struct api_server *server, struct lyap_error *reterr)
{
    const struct api_options *options = &server->options;
    enum lyap_status status = LYAP_OK;
    if (options->token_file && !(server->token_file = strdup(options->token_file)))
        return LYAP_E_NOMEM;
    if (server->token_file)
        status = api_tokens_load(server->token_file, &server->tokens, reterr);
    if (status == LYAP_OK && !options->tls_cert_file != !options->tls_key_file)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "TLS needs both tls_cert_file and tls_key_file");
    if (status == LYAP_OK && options->tls_cert_file)
        status = read_pem(options->tls_cert_file, &server->tls_cert, reterr);
    if (status == LYAP_OK && options->tls_key_file)
        status = read_pem(options->tls_key_file, &server->tls_key, reterr);
    return status;
}

static enum lyap_status start(struct api_server *server, const struct api_address *address,
                              struct lyap_error *reterr)
{
    const struct api_options *o = &server->options;
    struct sockaddr_storage socket = address->socket;
    /* Poll, not epoll: libmicrohttpd 0.9.75 arms epoll by edges, and an end of file that comes with
     * the last bytes of a broken upload goes unseen until the connection's timeout. */
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    flags |= address->is_ipv6 ? MHD_USE_IPv6 : 0;
    flags |= server->tls_key ? MHD_USE_TLS : 0;
    const struct MHD_OptionItem tls[] = {
        { server->tls_key ? MHD_OPTION_HTTPS_MEM_KEY : MHD_OPTION_END, 0, server->tls_key },
        { MHD_OPTION_HTTPS_MEM_CERT, 0, server->tls_cert },
        { MHD_OPTION_END, 0, NULL },
    };
    const struct MHD_OptionItem pool[] = {
        { o->thread_count > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, o->thread_count,
          NULL },
        { MHD_OPTION_END, 0, NULL },
    };
    errno = 0;
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&socket, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, server, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)o->connection_count_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)o->connection_memory_bytes, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)o->connection_timeout_s, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY, pool,
        MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
    if (!server->daemon)
        return lyap_error_set(reterr, LYAP_E_IO, "cannot listen on %s port %u: %s", o->host,
                              o->port, errno ? strerror(errno) : "the server did not start");
    return LYAP_OK;
}

static void server_destroy(struct api_server *server)
{
    api_feed_on_change(server->ports.feed, NULL, NULL);
    api_tokens_free(server->tokens);
    if (server->tls_key)
        explicit_bzero(server->tls_key, strlen(server->tls_key));
    free(server->tls_cert);
    free(server->tls_key);
    free(server->token_file);
    api_streams_destroy(&server->streams);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    pthread_rwlock_destroy(&server->tokens_lock);
    free(server);
}

static struct api_server *server_create(const struct api_options *options,
                                        const struct api_ports *ports)
{
    struct api_server *server = calloc(1, sizeof *server);
    if (!server)
        return NULL;
    server->options = *options;
    server->ports = *ports;
    server->budget.bytes_max = BUDGET_BYTES;
    server->listen_socket = MHD_INVALID_SOCKET;
    pthread_rwlock_init(&server->tokens_lock, NULL);
    pthread_mutex_init(&server->lock, NULL);
    api_streams_init(&server->streams, options->connection_timeout_s);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &clock);
    pthread_condattr_destroy(&clock);
    return server;
}

enum lyap_status api_new(const struct api_options *options, const struct api_ports *ports,
                         struct api_server **ret_server, struct lyap_error *reterr)
{
    struct api_address address;
    struct api_server *server = server_create(options, ports);
    if (!server)
        return LYAP_E_NOMEM;
    enum lyap_status status = api_address_parse(options->host, options->port, &address, reterr);
    if (status == LYAP_OK)
        status = load_secrets(server, reterr);
    if (status == LYAP_OK && !server->tokens && !address.is_loopback)
        status = lyap_error_set(reterr, LYAP_E_INVALID,
                                "listen address %s is not loopback: that needs a token file",
                                options->host);
    api_feed_limit(ports->feed, options->connection_count_max / 2);
    api_feed_on_change(ports->feed, api_streams_wake, &server->streams);
    if (status == LYAP_OK)
        status = start(server, &address, reterr);
    if (status == LYAP_OK)
        *ret_server = server;
    else
        server_destroy(server);
    return status;
}

uint16_t api_port(const struct api_server *server)
{
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info ? info->port : 0;
}

enum lyap_status api_reload(struct api_server *server, struct lyap_error *reterr)
{
    if (!server->token_file)
        return LYAP_OK;
    struct api_tokens *tokens = NULL;
    const enum lyap_status status = api_tokens_load(server->token_file, &tokens, reterr);
    if (status != LYAP_OK)
        return status; /* the old ones stay */
    pthread_rwlock_wrlock(&server->tokens_lock);
    struct api_tokens *old = server->tokens;
    server->tokens = tokens;
    pthread_rwlock_unlock(&server->tokens_lock);
    api_tokens_free(old);
    api_streams_renew(&server->streams);
    return LYAP_OK;
}

void api_quiesce(struct api_server *server)
{
    pthread_mutex_lock(&server->lock);
    const bool was_stopping = server->is_stopping;
    server->is_stopping = true;
    pthread_mutex_unlock(&server->lock);
    api_streams_stop(&server->streams);
    if (!was_stopping)
        server->listen_socket = MHD_quiesce_daemon(server->daemon);
}

/* Waits until no request is in work, at most `limit_ms`. Called with the lock held. */
static void wait_idle(struct api_server *server, int limit_ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += limit_ms / 1000;
    while (server->active_count > 0)
        if (pthread_cond_timedwait(&server->changed, &server->lock, &until) != 0)
            return;
}

void api_free(struct api_server *server)
{
    if (!server)
        return;
    api_quiesce(server);
    pthread_mutex_lock(&server->lock);
    wait_idle(server, STOP_ANSWER_MS);
    /* libmicrohttpd aborts when it is stopped with a connection suspended. */
    for (struct exchange *exchange = server->suspended, *next; exchange; exchange = next) {
        next = exchange->next;
        if (api_exchange_abandon(&exchange->core))
            resume_locked(exchange);
    }
    while (server->suspended) /* those whose answer is just on its way */
        pthread_cond_wait(&server->changed, &server->lock);
    wait_idle(server, STOP_GIVE_UP_MS);
    pthread_mutex_unlock(&server->lock);
    MHD_stop_daemon(server->daemon);
    if (server->listen_socket != MHD_INVALID_SOCKET)
        close(server->listen_socket);
    server_destroy(server);
}
