/* Log lines. */
#include "log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const names[LYAP_LOG_LEVEL_COUNT] = {
#define ROW(name, text) text,
    LYAP_LOG_LEVEL_TABLE(ROW)
#undef ROW
};

static _Atomic int level_max = LYAP_LOG_INFO;

bool lyap_log_level_parse(const char *name, enum lyap_log_level *ret_level)
{
    for (unsigned i = 0; i < LYAP_LOG_LEVEL_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret_level = (enum lyap_log_level)i;
            return true;
        }
    }
    return false;
}

const char *lyap_log_level_name(enum lyap_log_level level)
{
    return names[level];
}

void lyap_log_level_set(enum lyap_log_level level)
{
    atomic_store(&level_max, (int)level);
}

void lyap_log(enum lyap_log_level level, const char *event, const char *format, ...)
{
    assert((unsigned)level < LYAP_LOG_LEVEL_COUNT);
    if ((int)level > atomic_load(&level_max))
        return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char line[LYAP_LOG_LINE_BYTES];
    size_t length = strftime(line, sizeof line, "time=%Y-%m-%dT%H:%M:%S", &utc);
    length += (size_t)snprintf(line + length, sizeof line - length, ".%03ldZ level=%s event=%s",
                               now.tv_nsec / 1000000, names[level], event);
    if (format[0]) {
        line[length++] = ' ';
        va_list arguments;
        va_start(arguments, format);
        const int more = vsnprintf(line + length, sizeof line - length, format, arguments);
        va_end(arguments);
        if (more > 0)
            length += (size_t)more;
    }
    if (length > sizeof line - 1)
        length = sizeof line - 1;
    line[length++] = '\n';
    /* Nothing can be done about a log that cannot be written. */
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written;
}

const char *lyap_log_quote(const char *text, char *ret, size_t ret_bytes)
{
    assert(ret_bytes >= 3);
    size_t length = 0;
    ret[length++] = '"';
    for (const unsigned char *c = (const unsigned char *)text; *c && length + 2 < ret_bytes; c++)
        ret[length++] = *c < 0x20 || *c == 0x7f ? ' ' : *c == '"' || *c == '\\' ? '\'' : (char)*c;
    ret[length++] = '"';
    ret[length] = '\0';
    return ret;
}
