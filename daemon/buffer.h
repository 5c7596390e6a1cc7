/* buffer.h - a growing string for JSON, Prometheus text and Markdown that the daemon writes itself.
 * The first failure sticks, so that a writer checks once, at the end.
 * THREADS: one owner at a time. */
#ifndef LYAP_BUFFER_H
#define LYAP_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "lyap/status.h"

enum { LYAP_BUFFER_BYTES_MAX = 16 << 20 }; /* metrics of 10 000 runs; evidence stays under 4 KiB */

struct lyap_buffer {
    char *bytes; /* NUL-terminated once something was added */
    size_t length, capacity;
    bool has_failed;
};
#define LYAP_BUFFER_NULL                                                                           \
    {                                                                                              \
        0                                                                                          \
    }

void lyap_buffer_add(struct lyap_buffer *text, const char *format, ...) LYAP_PRINTF(2, 3);
/* A JSON string with its quotes. NULL: null. */
void lyap_buffer_json_string(struct lyap_buffer *text, const char *value);
/* The shortest of 15 or 17 digits that reads back as the same number; "NaN", "Infinity" and
 * "-Infinity" as strings. */
void lyap_buffer_json_number(struct lyap_buffer *text, double value);
/* The string, which the caller frees with free(); NULL when memory was short. Leaves the null
 * value. */
char *lyap_buffer_detach(struct lyap_buffer *text);
void lyap_buffer_release(struct lyap_buffer *text);

#endif
