/* text.h - a growing, bounded text buffer and the JSON writer on top of it. Calls never fail one by
 * one: the first failure sticks in `status`, later calls do nothing, the owner looks once at the
 * end. Commas are put by the writer itself from the last byte written, which also survives
 * api_text_clear, so that a document may be produced in slices. THREADS: one owner at a time. */
#ifndef LYAP_API_TEXT_H
#define LYAP_API_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lyap/status.h"

struct api_text {
    char *bytes; /* owned; not terminated */
    size_t length, capacity;
    size_t bytes_max; /* E_LIMIT beyond */
    enum lyap_status status;
    char last; /* last byte written, 0 at the start */
};

void api_text_init(struct api_text *text, size_t bytes_max);
void api_text_release(struct api_text *text);
/* Empties it; keeps memory, status and `last`. */
void api_text_clear(struct api_text *text);
/* Moves the bytes out; the caller frees them. The text is empty afterwards. */
char *api_text_detach(struct api_text *text, size_t *ret_length);

void api_text_append(struct api_text *text, const void *bytes, size_t length);
void api_text_puts(struct api_text *text, const char *string);
void api_text_printf(struct api_text *text, const char *format, ...) LYAP_PRINTF(2, 3);

/* `bracket` is one of { [ } ]. */
void api_json_open(struct api_text *text, char bracket);
void api_json_close(struct api_text *text, char bracket);
void api_json_key(struct api_text *text, const char *key);
/* Escaped; bytes that are not UTF-8 become U+FFFD. NULL is null. */
void api_json_string(struct api_text *text, const char *string);
void api_json_int(struct api_text *text, int64_t value);
/* Shortest text that reads back to the same number; non-finite as "NaN", "Infinity", "-Infinity".
 */
void api_json_number(struct api_text *text, double value);
void api_json_bool(struct api_text *text, bool value);
void api_json_null(struct api_text *text);
/* RFC 3339 in UTC with as many decimals as are not zero (0, 3, 6 or 9). */
void api_json_time(struct api_text *text, int64_t time_ns);
/* A value that is JSON already; NULL is null. */
void api_json_raw(struct api_text *text, const char *json);

enum { API_NUMBER_BYTES = 32, API_TIME_BYTES = 40 };
/* The shortest of 15, 16, 17 digits that reads back to the same finite number. */
void api_number_format(double value, char ret[API_NUMBER_BYTES]);
void api_time_format(int64_t time_ns, char ret[API_TIME_BYTES]);

#endif
