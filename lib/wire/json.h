/* json.h - a pull reader over one JSON text (RFC 8259, strict). It builds no tree: a hostile text
 * of n bytes costs n bytes. Strings are decoded in place and stay valid as long as the text.
 * Every call returns E_FORMAT with `where` and the byte position in reterr; after a failure the
 * reader is not used again. THREADS: one owner at a time. */
#ifndef LYAP_WIRE_JSON_H
#define LYAP_WIRE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/status.h"

struct lyap_json {
    char *text; /* borrowed; length bytes and a terminating NUL; overwritten by decoded strings */
    uint64_t length, at;
    uint64_t has_items; /* bit d: the object or array at depth d has had an item */
    uint32_t depth;
    const char *where; /* borrowed; what the text is, for messages; never NULL */
    const char *name;  /* borrowed; the member being read, as the client wrote it, or NULL */
    struct lyap_error *reterr;
};

/* The members an object may have, each once. */
struct lyap_json_parts {
    const char *const *names;
    unsigned count;
    const char *known; /* "a and b are known", for the message about another key */
};

void lyap_json_init(struct lyap_json *json, char *text, uint64_t length, const char *where,
                    struct lyap_error *reterr);
/* First byte of the next value without consuming it; NUL at the end. */
char lyap_json_peek(struct lyap_json *json);
/* Opens an object or array: '{' or '['. */
LYAP_MUST_CHECK enum lyap_status lyap_json_open(struct lyap_json *json, char bracket);
/* Next key of the open object, its colon consumed; NULL when the object closes. */
LYAP_MUST_CHECK enum lyap_status lyap_json_key(struct lyap_json *json, char **ret_key);
/* The index of a key among the parts; bit i of `seen` says that part i came, and is set. E_FORMAT:
 * another key, or one that came before. */
LYAP_MUST_CHECK enum lyap_status lyap_json_part(struct lyap_json *json, const char *key,
                                                const struct lyap_json_parts *parts, unsigned *seen,
                                                unsigned *ret_index);
/* True: an element of the open array follows; false: the array closes. */
LYAP_MUST_CHECK enum lyap_status lyap_json_more(struct lyap_json *json, bool *ret_more);
/* UTF-8 without NUL, terminated. */
LYAP_MUST_CHECK enum lyap_status lyap_json_string(struct lyap_json *json, char **ret_string);
/* A number's text, not terminated. */
LYAP_MUST_CHECK enum lyap_status lyap_json_number(struct lyap_json *json, const char **ret_text,
                                                  size_t *ret_length);
/* A number, or one of the strings NaN, Infinity, -Infinity. */
LYAP_MUST_CHECK enum lyap_status lyap_json_double(struct lyap_json *json, double *ret_value);
/* Digits alone: no sign, point or exponent; at most UINT64_MAX. */
LYAP_MUST_CHECK enum lyap_status lyap_json_unsigned(struct lyap_json *json, uint64_t *ret_value);
/* true, false or null; returns the static word. */
LYAP_MUST_CHECK enum lyap_status lyap_json_literal(struct lyap_json *json, const char **ret_word);
/* Nothing but `padding` bytes may follow the value. */
LYAP_MUST_CHECK enum lyap_status lyap_json_end(struct lyap_json *json, const char *padding);
/* Records a message with where and position; returns E_FORMAT. */
enum lyap_status lyap_json_fail(const struct lyap_json *json, const char *format, ...)
    LYAP_PRINTF(2, 3);
/* "expected X, found Y" for the next value. */
enum lyap_status lyap_json_fail_type(struct lyap_json *json, const char *expected);

#endif
