/* text.h - numbers, times and quoted words of wire text, whatever the locale.
 * THREADS: pure functions. */
#ifndef LYAP_TEXT_H
#define LYAP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lyap/status.h"

/* A client's text inside a message for people: cut, in printable ASCII, in double quotes. */
enum { LYAP_QUOTE_BYTES = 72 };
struct lyap_quote {
    char text[LYAP_QUOTE_BYTES];
};
LYAP_API const char *lyap_quote(const char *value, size_t length, struct lyap_quote *ret_quote);
/* The same of a terminated string. */
LYAP_API const char *lyap_quote_string(const char *value, struct lyap_quote *ret_quote);
/* "[2,3]"; cut to "[2,3..." when it is too long. */
LYAP_API const char *lyap_quote_shape(const uint64_t *shape, uint32_t rank,
                                      struct lyap_quote *ret_quote);

/* The shortest of %.15g .. %.17g that reads back as the value; NaN, Infinity, -Infinity. */
LYAP_API const char *lyap_quote_double(double value, struct lyap_quote *ret_quote);

/* Decimal numbers as JSON and Python write them, and nan, inf, infinity in any case and sign. False
 * for anything else, hexadecimal and decimals beyond F64 included. */
LYAP_API bool lyap_text_double(const char *text, size_t length, double *ret);
/* Decimal digits with an optional sign; saturates at the ends of int64_t, so that the caller's
 * range check names the limit. */
LYAP_API bool lyap_text_integer(const char *text, size_t length, int64_t *ret);
/* RFC 3339 with offset, or seconds since 1970 with up to nine decimals (more are cut), in
 * nanoseconds UTC. False outside 1970 .. 2262 too. */
LYAP_API bool lyap_text_time(const char *text, size_t length, int64_t *ret_ns);
/* True for well-formed UTF-8 (no surrogates, no overlong forms). */
LYAP_API bool lyap_text_is_utf8(const char *text, size_t length);

#endif
