/* Composition, signals. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "lyap/blas.h"
#include "notify.h"
#include "pages.h"

enum { BUSY_TIMEOUT_MS = 5000 }; /* for people's own sqlite3 sessions on the file */

/* Signals become bytes of a pipe. Blocking them for sigwait would not do: OpenBLAS starts threads
 * before main, which take what main blocks, and die of it. */
static int signal_pipe[2] = { -1, -1 };

static void on_signal(int number)
{
    const int saved = errno;
    const unsigned char byte = (unsigned char)number;
    const ssize_t written = write(signal_pipe[1], &byte, 1); /* full: enough wait already */
    (void)written;
    errno = saved;
}

enum lyap_status lyap_daemon_signals(struct lyap_error *reterr)
{
    static const int wanted[] = { SIGTERM, SIGINT, SIGHUP };
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0)
        return lyap_error_set(reterr, LYAP_E_IO, "no pipe: %s", strerror(errno));
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        (void)sigaction(wanted[i], &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* a peer that went is an error of write */
    (void)signal(SIGXFSZ, SIG_IGN); /* so is a file size limit: E_DISK_FULL */
    return LYAP_OK;
}

/* The next signal, or 0 after `timeout_ms` (-1: none). */
static int signal_wait(int timeout_ms)
{
    struct pollfd poll_fd = { .fd = signal_pipe[0], .events = POLLIN };
    unsigned char byte = 0;
    if (poll(&poll_fd, 1, timeout_ms) <= 0)
        return 0;
    return read(signal_pipe[0], &byte, 1) == 1 ? byte : 0;
}

static uint32_t thread_count(const struct lyap_settings *settings)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    if (settings->threads)
        return (uint32_t)settings->threads;
    return processors < 1 ? 1 : processors > 256 ? 256 : (uint32_t)processors;
}

static const char *path_or_null(const char *path)
{
    return path[0] ? path : NULL;
}

static enum lyap_status open_store(struct lyap_daemon *daemon, struct lyap_error *reterr)
{
    const struct lyap_settings *settings = &daemon->settings;
    const struct lyap_store_options options = {
        .path = settings->db,
        .is_network_forced = settings->network_fs,
        .reader_count = (uint32_t)settings->readers,
        .busy_timeout_ms = BUSY_TIMEOUT_MS,
    };
    lyap_settings_make_folder(settings);
    return lyap_store_sqlite_open(&options, &daemon->store, reterr);
}

/* Receivers of the file into the store; also on SIGHUP. An empty setting takes those away that an
 * earlier file left. */
static enum lyap_status load_receivers(struct lyap_daemon *daemon, struct lyap_error *reterr)
{
    struct lyap_receivers receivers = LYAP_RECEIVERS_NULL;
    const char *path = path_or_null(daemon->settings.receivers_file);
    enum lyap_status status = path ? lyap_receivers_read_file(path, &receivers, reterr) : LYAP_OK;
    if (status == LYAP_OK)
        status =
            lyap_engine_call(daemon->engine, lyap_command_receivers_replace, &receivers, reterr);
    lyap_receivers_release(&receivers);
    return status;
}

static enum lyap_status open_delivery(struct lyap_daemon *daemon, struct lyap_error *reterr)
{
    enum lyap_status status = load_receivers(daemon, reterr);
    if (status == LYAP_OK)
        status = lyap_deliverer_new(daemon->engine, &daemon->deliverer);
    if (status == LYAP_OK)
        status = lyap_deliverer_start(daemon->deliverer);
    if (status == LYAP_OK)
        lyap_engine_deliverer_set(daemon->engine, daemon->deliverer);
    return status;
}

static enum lyap_status open_api(struct lyap_daemon *daemon, char *ret_host, size_t host_bytes,
                                 struct lyap_error *reterr)
{
    const struct lyap_settings *settings = &daemon->settings;
    struct api_options options = {
        .host = ret_host,
        .token_file = path_or_null(settings->token_file),
        .tls_cert_file = path_or_null(settings->tls_cert),
        .tls_key_file = path_or_null(settings->tls_key),
        .thread_count = thread_count(settings),
        .connection_count_max = (uint32_t)settings->connection_max,
        .connection_memory_bytes = (uint32_t)settings->connection_memory,
        .connection_timeout_s = (uint32_t)settings->connection_timeout_s,
        .body_bytes_max = settings->body_bytes_max,
        .upload_seconds_max = (uint32_t)settings->upload_seconds_max,
    };
    const enum lyap_status status =
        lyap_settings_address(settings, ret_host, host_bytes, &options.port, reterr);
    if (status != LYAP_OK)
        return status;
    lyap_ports_fill(daemon->engine, &daemon->ports);
    return api_new(&options, &daemon->ports, &daemon->server, reterr);
}

static void announce(const struct lyap_daemon *daemon, const char *host)
{
    char url[320];
    const char *const scheme = daemon->settings.tls_cert[0] ? "https" : "http";
    (void)snprintf(url, sizeof url, strchr(host, ':') ? "%s://[%s]:%u" : "%s://%s:%u", scheme, host,
                   api_port(daemon->server));
    printf("lyapd: listening on %s\n", url);
    (void)fflush(stdout);
    lyap_log(LYAP_LOG_INFO, "ready", "url=%s db=%s", url, daemon->settings.db);
    lyap_notify_ready(url);
}

enum lyap_status lyap_daemon_open(struct lyap_daemon *daemon, struct lyap_error *reterr)
{
    char host[256];
    enum lyap_log_level level = LYAP_LOG_INFO;
    (void)lyap_log_level_parse(daemon->settings.log_level, &level);
    lyap_pages_install();
    lyap_log_level_set(level);
    lyap_blas_one_thread();
    enum lyap_status status = open_store(daemon, reterr);
    if (status == LYAP_OK)
        status = lyap_engine_new(&daemon->settings, daemon->store, &daemon->counters,
                                 &daemon->engine, reterr);
    if (status == LYAP_OK)
        status = lyap_engine_start(daemon->engine);
    if (status == LYAP_OK)
        status = open_delivery(daemon, reterr);
    if (status == LYAP_OK)
        status = open_api(daemon, host, sizeof host, reterr);
    if (status == LYAP_OK)
        announce(daemon, host);
    return lyap_error_set(reterr, status, "%s", lyap_status_text(status));
}

static void reload(struct lyap_daemon *daemon)
{
    struct lyap_settings fresh = { 0 };
    struct lyap_error error = LYAP_ERROR_NULL;
    enum lyap_setting ignored;
    char text[LYAP_ERROR_TEXT_BYTES + 2];
    lyap_notify_reloading();
    enum lyap_status status = lyap_settings_load(&fresh, daemon->argc, daemon->argv, &error);
    if (status == LYAP_OK &&
        lyap_engine_reload(daemon->engine, &daemon->settings, &fresh, &ignored))
        lyap_log(LYAP_LOG_WARNING, "setting-needs-restart", "setting=%s",
                 lyap_setting_name(ignored));
    enum lyap_log_level level = LYAP_LOG_INFO;
    (void)lyap_log_level_parse(daemon->settings.log_level, &level);
    lyap_log_level_set(level);
    if (status == LYAP_OK)
        status = load_receivers(daemon, &error);
    if (status == LYAP_OK)
        status = api_reload(daemon->server, &error);
    if (status == LYAP_OK)
        lyap_log(LYAP_LOG_INFO, "reloaded", "status=ok");
    else
        lyap_log(LYAP_LOG_ERROR, "reload-failed", "detail=%s",
                 lyap_log_quote(lyap_error_text(&error), text, sizeof text));
    lyap_settings_release(&fresh);
    char url[32];
    (void)snprintf(url, sizeof url, "port %u", api_port(daemon->server));
    lyap_notify_ready(url);
}

void lyap_daemon_wait(struct lyap_daemon *daemon)
{
    const uint64_t interval_us = lyap_notify_interval_us();
    const int timeout_ms = interval_us ? (int)(interval_us / 1000) : -1;
    for (;;) {
        const int got = signal_wait(timeout_ms);
        if (interval_us)
            lyap_notify_alive(); /* after a signal too: the wait starts anew */
        if (got == SIGHUP)
            reload(daemon);
        if (got != SIGTERM && got != SIGINT)
            continue;
        lyap_log(LYAP_LOG_INFO, "stopping", "signal=%s", got == SIGTERM ? "TERM" : "INT");
        return;
    }
}

void lyap_daemon_close(struct lyap_daemon *daemon)
{
    /* What was answered is on the disk: a stop that hangs in a file system ends by SIGALRM. */
    (void)alarm(LYAP_STOP_SECONDS_MAX);
    lyap_notify_stopping();
    if (daemon->server)
        api_quiesce(daemon->server);
    lyap_deliverer_stop(daemon->deliverer);
    if (daemon->engine)
        lyap_engine_stop(daemon->engine);
    if (daemon->server)
        api_free(daemon->server);
    lyap_engine_free(daemon->engine);
    lyap_deliverer_free(daemon->deliverer);
    if (daemon->store)
        daemon->store->ops->close(daemon->store);
    lyap_settings_release(&daemon->settings);
}

bool lyap_daemon_print(const struct lyap_daemon *daemon, enum lyap_mode mode)
{
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    switch (mode) {
    case LYAP_MODE_HELP:
        lyap_settings_help(&text);
        break;
    case LYAP_MODE_VERSION:
        lyap_buffer_add(&text, "lyapd %s\n", LYAP_VERSION);
        break;
    case LYAP_MODE_PRINT_CONFIG:
        lyap_settings_print(&daemon->settings, &text);
        break;
    case LYAP_MODE_DOCS_CONFIGURATION:
        lyap_settings_markdown(&text);
        break;
    case LYAP_MODE_DOCS_RULES:
        lyap_rules_markdown(&text);
        break;
    case LYAP_MODE_SERVE:
        return false;
    }
    char *bytes = lyap_buffer_detach(&text);
    const bool is_written = bytes && fputs(bytes, stdout) >= 0 && fflush(stdout) == 0;
    free(bytes);
    return is_written;
}
