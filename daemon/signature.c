/* Signatures of webhooks. */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attempt.h"

enum { DIGEST_BYTES = 32 };

enum lyap_status lyap_signature(const char *secret, int64_t unix_s, const char *body,
                                char ret_text[LYAP_SIGNATURE_BYTES])
{
    unsigned char digest[DIGEST_BYTES];
    char *signed_text = NULL;
    const int length = asprintf(&signed_text, "%" PRId64 ".%s", unix_s, body);
    if (length < 0)
        return LYAP_E_NOMEM;
    const int result = gnutls_hmac_fast(GNUTLS_MAC_SHA256, secret, strlen(secret), signed_text,
                                        (size_t)length, digest);
    free(signed_text);
    if (result != 0)
        return LYAP_E_INTERNAL;
    int used = snprintf(ret_text, LYAP_SIGNATURE_BYTES, "t=%" PRId64 ",v1=", unix_s);
    for (int i = 0; i < DIGEST_BYTES; i++)
        used += snprintf(ret_text + used, LYAP_SIGNATURE_BYTES - (size_t)used, "%02x", digest[i]);
    return LYAP_OK;
}
