/* Bearer tokens, and digests. */
#include "auth.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    DIGEST_BYTES = 32,
    TOKEN_COUNT_MAX = 1024, /* people and jobs of one installation; keeps the scan under 0.1 ms */
    LINE_BYTES_MAX = 512,
    TOKEN_BYTES_MAX = 1024,
};

struct token {
    unsigned char digest[DIGEST_BYTES];
    uint32_t scopes; /* 1u << enum api_scope */
};
struct api_tokens {
    uint32_t count;
    struct token tokens[TOKEN_COUNT_MAX];
};

static bool digest_of(const void *bytes, size_t length, unsigned char ret[DIGEST_BYTES])
{
    return gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes, length, ret) == 0;
}

static bool parse_hex(const char *text, unsigned char ret[DIGEST_BYTES])
{
    if (strlen(text) != 2 * DIGEST_BYTES ||
        strspn(text, "0123456789abcdefABCDEF") != 2 * DIGEST_BYTES)
        return false;
    for (int i = 0; i < DIGEST_BYTES; i++) {
        const char pair[] = { text[2 * i], text[2 * i + 1], '\0' };
        ret[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    return true;
}

static bool parse_scopes(char *text, uint32_t *ret_scopes)
{
    char *state = NULL;
    *ret_scopes = 0;
    for (char *word = strtok_r(text, ",", &state); word; word = strtok_r(NULL, ",", &state)) {
        int found = -1;
        for (int i = API_SCOPE_READ; i < API_SCOPE_COUNT; i++)
            if (strcmp(word, api_scope_name((enum api_scope)i)) == 0)
                found = i;
        if (found < 0)
            return false;
        *ret_scopes |= found == API_SCOPE_ADMIN ? ~0u : 1u << found;
    }
    return *ret_scopes != 0;
}

/* E_NOT_FOUND: the line is empty or a comment. */
static enum lyap_status parse_line(char *line, struct token *ret_token)
{
    line[strcspn(line, "#\r\n")] = '\0';
    char *state = NULL;
    char *scopes = strtok_r(line, " \t", &state);
    char *digest = scopes ? strtok_r(NULL, " \t", &state) : NULL;
    if (!scopes)
        return LYAP_E_NOT_FOUND;
    if (!digest || !parse_hex(digest, ret_token->digest) ||
        !parse_scopes(scopes, &ret_token->scopes))
        return LYAP_E_INVALID;
    return LYAP_OK;
}

static enum lyap_status read_lines(FILE *file, const char *path, struct api_tokens *tokens,
                                   struct lyap_error *reterr)
{
    char line[LINE_BYTES_MAX];
    for (unsigned number = 1; fgets(line, sizeof line, file); number++) {
        if (!strchr(line, '\n') && !feof(file))
            return lyap_error_set(reterr, LYAP_E_INVALID, "%s:%u: the line is longer than %d bytes",
                                  path, number, LINE_BYTES_MAX - 2);
        struct token token;
        const enum lyap_status status = parse_line(line, &token);
        if (status == LYAP_E_NOT_FOUND)
            continue;
        if (status != LYAP_OK)
            return lyap_error_set(reterr, status,
                                  "%s:%u: 'scope[,scope] sha256-in-hex [name]' is needed, with "
                                  "scopes read, push, admin",
                                  path, number);
        if (tokens->count == TOKEN_COUNT_MAX)
            return lyap_error_set(reterr, LYAP_E_INVALID, "%s:%u: more than %d tokens", path,
                                  number, (int)TOKEN_COUNT_MAX);
        tokens->tokens[tokens->count++] = token;
    }
    if (ferror(file))
        return lyap_error_set(reterr, LYAP_E_IO, "token file %s: read failed", path);
    return LYAP_OK;
}

enum lyap_status api_tokens_load(const char *path, struct api_tokens **ret_tokens,
                                 struct lyap_error *reterr)
{
    struct api_tokens *tokens = calloc(1, sizeof *tokens);
    if (!tokens)
        return LYAP_E_NOMEM;
    FILE *file = fopen(path, "re");
    enum lyap_status status =
        file ? read_lines(file, path, tokens, reterr)
             : lyap_error_set(reterr, LYAP_E_IO, "token file %s: %s", path, strerror(errno));
    if (status == LYAP_OK && tokens->count == 0)
        status = lyap_error_set(reterr, LYAP_E_INVALID, "token file %s holds no token", path);
    if (file)
        fclose(file);
    if (status == LYAP_OK)
        *ret_tokens = tokens;
    else
        api_tokens_free(tokens);
    return status;
}

void api_tokens_free(struct api_tokens *tokens)
{
    free(tokens);
}

/* Looks at every token and every byte, whatever it finds: the time tells nothing. */
static uint32_t scopes_of(const struct api_tokens *tokens, const unsigned char *digest)
{
    uint32_t scopes = 0;
    for (uint32_t i = 0; i < tokens->count; i++) {
        unsigned difference = 0;
        for (int k = 0; k < DIGEST_BYTES; k++)
            difference |= tokens->tokens[i].digest[k] ^ digest[k];
        scopes |= tokens->tokens[i].scopes & (0u - (uint32_t)(difference == 0));
    }
    return scopes;
}

enum lyap_status api_tokens_check(const struct api_tokens *tokens, const char *authorization,
                                  enum api_scope scope, struct lyap_error *reterr)
{
    static const char scheme[] = "Bearer ";
    if (scope == API_SCOPE_NONE)
        return LYAP_OK;
    if (!authorization || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return lyap_error_set(reterr, LYAP_E_UNAUTHORIZED,
                              "Authorization: Bearer <token> is needed");
    const char *token = authorization + sizeof scheme - 1;
    token += strspn(token, " ");
    const size_t length = strlen(token);
    unsigned char digest[DIGEST_BYTES];
    if (length == 0 || length > TOKEN_BYTES_MAX || !digest_of(token, length, digest))
        return lyap_error_set(reterr, LYAP_E_UNAUTHORIZED, "the token is not valid");
    const uint32_t scopes = scopes_of(tokens, digest);
    if (scopes == 0)
        return lyap_error_set(reterr, LYAP_E_UNAUTHORIZED, "the token is not valid");
    if (!(scopes & 1u << scope))
        return lyap_error_set(reterr, LYAP_E_FORBIDDEN, "the token lacks scope '%s'",
                              api_scope_name(scope));
    return LYAP_OK;
}

bool api_host_is_loopback(const char *host)
{
    const bool is_bracketed = host[0] == '[';
    const char *name = host + is_bracketed;
    size_t length = strcspn(name, is_bracketed ? "]" : ":");
    if (!is_bracketed && strchr(name, ':') != strrchr(name, ':'))
        length = strlen(name); /* a bare IPv6 address */
    if (length == 9 && strncasecmp(name, "localhost", 9) == 0)
        return true;
    if (length == 3 && memcmp(name, "::1", 3) == 0)
        return true;
    return length > 4 && memcmp(name, "127.", 4) == 0 && strspn(name, "0123456789.") == length;
}

void api_etag_of(const void *bytes, size_t length, char ret[40])
{
    unsigned char digest[DIGEST_BYTES] = { 0 };
    ret[0] = '\0';
    if (!digest_of(bytes, length, digest))
        return;
    char *out = ret;
    *out++ = '"';
    for (int i = 0; i < DIGEST_BYTES / 2; i++, out += 2)
        (void)snprintf(out, 3, "%02x", digest[i]);
    memcpy(out, "\"", 2);
}
