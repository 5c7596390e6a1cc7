/* negotiate.h - the pure parts of HTTP headers: Accept, Content-Type, Prefer, entity tags, cursors.
 * THREADS: pure functions. */
#ifndef LYAP_API_NEGOTIATE_H
#define LYAP_API_NEGOTIATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lyap/status.h"
#include "lyap/wire.h"

#include "request.h"

/* Index in `offered` (media types separated by commas, best first) of the one that `accept` likes
 * best; 0 without a header, -1 when none is acceptable. */
int api_accept_choose(const char *accept, const char *offered);
/* Same type and subtype, parameters ignored, case-insensitive. NULL matches nothing. */
bool api_content_type_is(const char *header, const char *type);
/* Prefer: return=minimal among the preferences (RFC 7240). */
bool api_prefer_minimal(const char *header);
/* How a push is read; without a body and its type JSON, since all may stand in the query string.
 * E_UNSUPPORTED, E_NOT_ACCEPTABLE: the answer has one type. */
LYAP_MUST_CHECK enum lyap_status api_push_format(const struct api_headers *headers, bool has_body,
                                                 enum lyap_wire_format *ret_format,
                                                 struct lyap_error *reterr);
/* If-None-Match holds the tag or is `*`; compared weakly (RFC 9110). */
bool api_etag_matches(const char *if_none_match, const char *etag);

/* Where a list goes on. Opaque to clients: base64url of a short versioned text. */
struct api_cursor {
    char table;       /* which list it belongs to */
    uint32_t attempt; /* 0: of no attempt */
    int64_t after;    /* key of the last row; -1: from the start */
};
enum { API_CURSOR_BYTES = 80 };
void api_cursor_format(const struct api_cursor *cursor, char ret[API_CURSOR_BYTES]);
/* E_INVALID: not one of ours, or of another list. */
LYAP_MUST_CHECK enum lyap_status api_cursor_parse(const char *text, char table,
                                                  struct api_cursor *ret_cursor,
                                                  struct lyap_error *reterr);

#endif
