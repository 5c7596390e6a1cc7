/* log.h - one event a line on stderr: key=value pairs, so that a person and a machine read the
 * same. Only daemon/ logs, once, where an error stops travelling.
 * THREADS: any; a line is one write. */
#ifndef LYAP_LOG_H
#define LYAP_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "lyap/status.h"

/* X(enum, name) */
#define LYAP_LOG_LEVEL_TABLE(X)                                                                    \
    X(ERROR, "error")                                                                              \
    X(WARNING, "warning")                                                                          \
    X(INFO, "info")                                                                                \
    X(DEBUG, "debug")

enum lyap_log_level {
#define LYAP_LOG_LEVEL_ENUM(name, text) LYAP_LOG_##name,
    LYAP_LOG_LEVEL_TABLE(LYAP_LOG_LEVEL_ENUM)
#undef LYAP_LOG_LEVEL_ENUM
        LYAP_LOG_LEVEL_COUNT
};

enum { LYAP_LOG_LINE_BYTES = 1024 };

bool lyap_log_level_parse(const char *name, enum lyap_log_level *ret_level);
const char *lyap_log_level_name(enum lyap_log_level level);
/* Lines above this level are dropped. */
void lyap_log_level_set(enum lyap_log_level level);
/* `event` is a stable identifier; `format` gives key=value pairs or is "". */
void lyap_log(enum lyap_log_level level, const char *event, const char *format, ...)
    LYAP_PRINTF(3, 4);
/* `text` in double quotes with quotes, backslashes and control characters replaced; returns
 * `ret`. */
const char *lyap_log_quote(const char *text, char *ret, size_t ret_bytes);

#endif
