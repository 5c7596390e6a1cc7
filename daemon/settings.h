/* settings.h - every setting of the daemon. One table drives the flags, the environment, the
 * configuration file, --help, docs/configuration.md and GET /v1/config.
 * THREADS: built by main before anything starts, then read-only. */
#ifndef LYAP_SETTINGS_H
#define LYAP_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/status.h"
#include "buffer.h"

enum { LYAP_SETTING_TEXT_BYTES_MAX = 4096 }; /* PATH_MAX */

/* X(field, kind, unit, minimum, maximum, default, is_reloadable, paragraph)
 * kind TEXT: minimum and maximum are lengths; NUMBER: values, bytes accept KiB, MiB, GiB; FLAG:
 * true or false. */
#define LYAP_SETTING_TABLE(X)                                                                      \
    X(listen, TEXT, "ADDR:PORT", 1, 255, "127.0.0.1:9470", false,                                  \
      "Address and port to bind; port 0 picks a free one, an IPv6 address stands in brackets. "    \
      "Without a token file only a loopback address is accepted.")                                 \
    X(db, TEXT, "path", 0, 4095, "", false,                                                        \
      "SQLite database, made on first use. Empty: lyapd.db in $STATE_DIRECTORY, else in "          \
      "$XDG_STATE_HOME/lyapd, else in ~/.local/state/lyapd.")                                      \
    X(config, TEXT, "path", 0, 4095, "", false,                                                    \
      "Configuration file of lines `name = value`; # starts a comment. Given by flag or "          \
      "environment only.")                                                                         \
    X(token_file, TEXT, "path", 0, 4095, "", false,                                                \
      "Bearer tokens with their scopes (docs/api.md). Empty: no authentication. The file itself "  \
      "is read again on SIGHUP.")                                                                  \
    X(tls_cert, TEXT, "path", 0, 4095, "", false,                                                  \
      "PEM certificate chain; with tls_key, TLS is spoken on the port.")                           \
    X(tls_key, TEXT, "path", 0, 4095, "", false, "PEM private key of tls_cert.")                   \
    X(threads, NUMBER, "threads", 0, 256, "0", false,                                              \
      "HTTP threads, each of which runs the kernels of the uploads it reads. 0: one a processor.") \
    X(readers, NUMBER, "connections", 1, 64, "8", false,                                           \
      "Read-only database connections; so many queries are answered at once.")                     \
    X(connection_max, NUMBER, "connections", 4, 100000, "256", false,                              \
      "Simultaneous HTTP connections; each may hold connection_memory. From three quarters on, "   \
      "answers close theirs.")                                                                     \
    X(connection_memory, NUMBER, "bytes", 16384, 16777216, "256KiB", false,                        \
      "Buffer of each connection. An upload is read in chunks of at most half of it.")             \
    X(connection_timeout_s, NUMBER, "seconds", 1, 3600, "60", false,                               \
      "A connection on which nothing moves is closed after this long.")                            \
    X(body_bytes_max, NUMBER, "bytes", 1024, 1152921504606846976, "64GiB", false,                  \
      "Largest body of a push; a larger one is refused with 413.")                                 \
    X(upload_seconds_max, NUMBER, "seconds", 1, 86400, "600", false,                               \
      "Longest time one upload may take.")                                                         \
    X(queue_length, NUMBER, "pushes", 1, 1000000, "1024", false,                                   \
      "Pushes between admission and answer; beyond, 503 with Retry-After.")                        \
    X(queue_bytes, NUMBER, "bytes", 1048576, 1152921504606846976, "1GiB", false,                   \
      "Memory that the summaries of those pushes may hold together.")                              \
    X(batch_rows, NUMBER, "snapshots", 1, 100000, "4096", true,                                    \
      "Snapshots that share one commit at most.")                                                  \
    X(batch_ms, NUMBER, "milliseconds", 1, 1000, "20", true,                                       \
      "Time that the engine gathers and computes before it commits, at most.")                     \
    X(retention_memory, NUMBER, "bytes", 0, 1152921504606846976, "2GiB", true,                     \
      "Budget of exact retention: while the runs in memory stay within it together, a new run "    \
      "keeps its last tensors, beyond it only their sketches.")                                    \
    X(rank_deadline_s, NUMBER, "seconds", 1, 3600, "60", true,                                     \
      "How long a step waits for the parts of all ranks before it is closed without them.")        \
    X(idle_evict_s, NUMBER, "seconds", 1, 864000, "3600", true,                                    \
      "A run without a push for this long leaves the memory; its next push reads it back.")        \
    X(rollbacks_max, NUMBER, "rollbacks", 0, 1000, "3", true,                                      \
      "How often a run is advised to roll back before it is advised to stop; 1000 quiet points "   \
      "give them all back.")                                                                       \
    X(window_save_s, NUMBER, "seconds", 1, 3600, "60", true,                                       \
      "How often the sketch windows of changed runs are saved; of many runs 8 MB a second.")       \
    X(spectral_every, NUMBER, "snapshots", 0, 1000000, "50", true,                                 \
      "How often a worker thread bounds the norm of each weight from above by its Gram matrix, "   \
      "in "                                                                                        \
      "exact retention. 0: never.")                                                                \
    X(prune_days, NUMBER, "days", 0, 36500, "0", true, "Points older than this go. 0: none do.")   \
    X(prune_bytes, NUMBER, "bytes", 0, 1152921504606846976, "0", true,                             \
      "While the database is larger than this the oldest points go. 0: none do.")                  \
    X(disk_reserve, NUMBER, "bytes", 0, 1152921504606846976, "64MiB", true,                        \
      "With less free space than this on the database's file system pushes are refused with 507 "  \
      "and readiness fails; reads go on.")                                                         \
    X(network_fs, FLAG, "flag", 0, 1, "false", false,                                              \
      "Accept a database on a network file system, where SQLite's locks and durability are not "   \
      "guaranteed.")                                                                               \
    X(metrics_runs_max, NUMBER, "runs", 0, 10000, "100", true,                                     \
      "Most recently active runs whose newest point GET /metrics shows.")                          \
    X(receivers_file, TEXT, "path", 0, 4095, "", false,                                            \
      "JSON file of receivers of notifications (docs/delivery.md), which the API then cannot "     \
      "change. Read again on SIGHUP. Empty: none.")                                                \
    X(outbox_rows_max, NUMBER, "notifications", 1, 1000000, "10000", true,                         \
      "Notifications that may wait to be sent; beyond, new ones are dropped and counted.")         \
    X(delivery_timeout_s, NUMBER, "seconds", 1, 120, "10", true,                                   \
      "Time for one attempt to notify a receiver.")                                                \
    X(delivery_retry_s, NUMBER, "seconds", 1, 3600, "1", true,                                     \
      "A failed attempt is repeated after a random part of this, doubled with each failure.")      \
    X(delivery_retry_max_s, NUMBER, "seconds", 1, 86400, "300", true,                              \
      "Longest wait between two attempts, also where the receiver asks for a longer one.")         \
    X(delivery_attempts_max, NUMBER, "attempts", 1, 100000, "1000", true,                          \
      "After so many attempts a notification is given up.")                                        \
    X(delivery_age_max_s, NUMBER, "seconds", 60, 31536000, "86400", true,                          \
      "After this long a notification is given up.")                                               \
    X(delivery_keep_days, NUMBER, "days", 0, 36500, "30", true,                                    \
      "Finished notifications of alerts that are over can be read for this long.")                 \
    X(delivery_ca, TEXT, "path", 0, 4095, "", false,                                               \
      "PEM certificates that the TLS servers of receivers are verified with. Empty: those of the " \
      "system.")                                                                                   \
    X(alertmanager_repeat_s, NUMBER, "seconds", 5, 3600, "60", true,                               \
      "A firing alert is told to an Alertmanager this often; it ends there after four missed "     \
      "repetitions.")                                                                              \
    X(sendmail, TEXT, "path", 1, 4095, "/usr/sbin/sendmail", false,                                \
      "Program that takes a mail as its input and the address as its argument.")                   \
    X(log_level, TEXT, "error|warning|info|debug", 4, 7, "info", true,                             \
      "Lines above this level are not written to stderr.")

#define LYAP_SETTING_C_TEXT   char *
#define LYAP_SETTING_C_NUMBER uint64_t
#define LYAP_SETTING_C_FLAG   bool

enum lyap_setting {
#define LYAP_SETTING_ENUM(field, kind, unit, min, max, start, reload, text) LYAP_SETTING_##field,
    LYAP_SETTING_TABLE(LYAP_SETTING_ENUM)
#undef LYAP_SETTING_ENUM
        LYAP_SETTING_COUNT
};

/* Later origins win. */
enum lyap_origin {
    LYAP_ORIGIN_DEFAULT,
    LYAP_ORIGIN_FILE,
    LYAP_ORIGIN_ENVIRONMENT,
    LYAP_ORIGIN_FLAG
};

struct lyap_settings {
#define LYAP_SETTING_FIELD(field, kind, unit, min, max, start, reload, text)                       \
    LYAP_SETTING_C_##kind field;
    LYAP_SETTING_TABLE(LYAP_SETTING_FIELD)
#undef LYAP_SETTING_FIELD
    uint8_t origin[LYAP_SETTING_COUNT]; /* enum lyap_origin */
};

/* Every default. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_settings_init(struct lyap_settings *settings);
void lyap_settings_release(struct lyap_settings *settings);
/* -1 for an unknown name. `-` and `_` are the same in a name. */
int lyap_settings_find(const char *name);
const char *lyap_setting_name(enum lyap_setting setting);
bool lyap_setting_is_flag(enum lyap_setting setting);
/* E_UNKNOWN_FIELD, E_INVALID (the text names setting, value, limit and `where` it was given),
 * E_NOMEM. A value of a weaker origin than the present one is checked and dropped. */
LYAP_MUST_CHECK enum lyap_status lyap_settings_set(struct lyap_settings *settings, const char *name,
                                                   const char *value, enum lyap_origin origin,
                                                   const char *where, struct lyap_error *reterr);
/* Defaults, file, environment, flags (args.c, config.c), then what depends on several settings:
 * the database path, the pair of TLS files, the log level. E_INVALID, E_UNKNOWN_FIELD, E_IO,
 * E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_settings_load(struct lyap_settings *settings, int argc,
                                                    char *const *argv, struct lyap_error *reterr);
/* Takes over the reloadable settings of `fresh`; true when another one differs too, whose name is
 * *ret_ignored. Swaps texts, so release both afterwards. */
bool lyap_settings_reload(struct lyap_settings *settings, struct lyap_settings *fresh,
                          enum lyap_setting *ret_ignored);
/* Host and port of `listen`. E_INVALID. */
LYAP_MUST_CHECK enum lyap_status lyap_settings_address(const struct lyap_settings *settings,
                                                       char *ret_host, size_t host_bytes,
                                                       uint16_t *ret_port,
                                                       struct lyap_error *reterr);

/* Makes the missing folders of the default database; failures show when it is opened. */
void lyap_settings_make_folder(const struct lyap_settings *settings);

/* Effective values: `name = value` lines, as the configuration file takes them, or JSON. */
void lyap_settings_print(const struct lyap_settings *settings, struct lyap_buffer *text);
void lyap_settings_json(const struct lyap_settings *settings, struct lyap_buffer *text);
void lyap_settings_help(struct lyap_buffer *text);
/* docs/configuration.md. */
void lyap_settings_markdown(struct lyap_buffer *text);

/* args.c: one flag after the other. What main does instead of serving is *ret_mode. */
enum lyap_mode {
    LYAP_MODE_SERVE,
    LYAP_MODE_HELP,
    LYAP_MODE_VERSION,
    LYAP_MODE_PRINT_CONFIG,
    LYAP_MODE_DOCS_CONFIGURATION,
    LYAP_MODE_DOCS_RULES
};
LYAP_MUST_CHECK enum lyap_status
lyap_args_mode(int argc, char *const *argv, enum lyap_mode *ret_mode, struct lyap_error *reterr);
/* Sets every flag; with `only` not NULL that one alone. E_UNKNOWN_FIELD, E_INVALID. */
LYAP_MUST_CHECK enum lyap_status lyap_args_apply(int argc, char *const *argv, const char *only,
                                                 struct lyap_settings *settings,
                                                 struct lyap_error *reterr);
/* LYAPD_NAME variables; `only` as above. */
LYAP_MUST_CHECK enum lyap_status
lyap_environment_apply(const char *only, struct lyap_settings *settings, struct lyap_error *reterr);
/* config.c. E_IO when the file cannot be read, E_INVALID and E_UNKNOWN_FIELD with the line. */
LYAP_MUST_CHECK enum lyap_status lyap_config_apply(const char *path, struct lyap_settings *settings,
                                                   struct lyap_error *reterr);

#endif
