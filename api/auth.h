/* auth.h - bearer tokens with scopes, from a file that holds their SHA-256 only. One token a line:
 *     scope[,scope] sha256-in-hex [name]
 * `#` starts a comment. Scopes: read, push, admin; admin includes the other two. THREADS: a table
 * is immutable; the server swaps whole tables. */
#ifndef LYAP_API_AUTH_H
#define LYAP_API_AUTH_H

#include "route.h"

struct api_tokens;

/* E_INVALID names file and line; E_IO; E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status api_tokens_load(const char *path, struct api_tokens **ret_tokens,
                                                 struct lyap_error *reterr);
void api_tokens_free(struct api_tokens *tokens);
/* `authorization` is the header or NULL. E_UNAUTHORIZED, E_FORBIDDEN. */
LYAP_MUST_CHECK enum lyap_status api_tokens_check(const struct api_tokens *tokens,
                                                  const char *authorization, enum api_scope scope,
                                                  struct lyap_error *reterr);

/* True for localhost, 127.0.0.0/8 and ::1, with or without a port. */
bool api_host_is_loopback(const char *host);

/* First 16 bytes of the SHA-256 of `bytes` as a quoted entity tag. */
void api_etag_of(const void *bytes, size_t length, char ret[40]);

#endif
