/* Accept, Content-Type, Prefer, entity tags and cursors. */
#include "negotiate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CURSOR_VERSION = 1 };

static size_t trimmed(const char **text, size_t length)
{
    while (length > 0 && strchr(" \t", **text)) {
        (*text)++;
        length--;
    }
    while (length > 0 && strchr(" \t", (*text)[length - 1]))
        length--;
    return length;
}

/* How specifically a range ("text/csv", "text/ *", "* / *") covers a type: 0 not at all, 1 to 3. */
static int specificity(const char *range, size_t range_length, const char *type, size_t type_length)
{
    if (range_length == 3 && memcmp(range, "*/*", 3) == 0)
        return 1;
    if (range_length == type_length && strncasecmp(range, type, type_length) == 0)
        return 3;
    const bool is_family = range_length > 2 && memcmp(range + range_length - 2, "/*", 2) == 0;
    return is_family && range_length - 1 <= type_length &&
                   strncasecmp(range, type, range_length - 1) == 0
               ? 2
               : 0;
}

/* q of one element of Accept, in thousandths; 1000 when absent or unreadable. */
static int quality(const char *element, size_t length)
{
    for (size_t i = 0; i + 2 < length; i++) {
        if (element[i] != ';')
            continue;
        const char *at = element + i + 1;
        size_t rest = trimmed(&at, length - i - 1);
        if (rest < 3 || strncasecmp(at, "q=", 2) != 0)
            continue;
        char number[8] = { 0 };
        memcpy(number, at + 2, rest - 2 < sizeof number - 1 ? rest - 2 : sizeof number - 1);
        const double q = strtod(number, NULL);
        return q >= 1 ? 1000 : q > 0 ? (int)(q * 1000 + 0.5) : 0;
    }
    return 1000;
}

/* q of a type: that of the most specific range that covers it. */
static int type_quality(const char *accept, const char *type, size_t type_length)
{
    int best = 0, q = 0;
    for (const char *at = accept; *at;) {
        const size_t span = strcspn(at, ",");
        const char *range = at;
        const size_t range_length = trimmed(&range, strcspn(at, ",;"));
        const int covers = specificity(range, range_length, type, type_length);
        if (covers > best) {
            best = covers;
            q = quality(at, span);
        }
        at += span;
        at += *at == ',';
    }
    return q;
}

int api_accept_choose(const char *accept, const char *offered)
{
    if (!accept || !*accept)
        return 0;
    int best = -1, best_q = 0, index = 0;
    for (const char *at = offered; *at; index++) {
        const size_t length = strcspn(at, ",");
        const int q = type_quality(accept, at, length);
        if (q > best_q) {
            best = index;
            best_q = q;
        }
        at += length;
        at += *at == ',';
    }
    return best;
}

bool api_content_type_is(const char *header, const char *type)
{
    if (!header)
        return false;
    const char *start = header;
    const size_t length = trimmed(&start, strcspn(header, ";"));
    return length == strlen(type) && strncasecmp(start, type, length) == 0;
}

bool api_prefer_minimal(const char *header)
{
    for (const char *at = header ? header : ""; *at; at += *at == ',') {
        const char *word = at;
        const size_t length = trimmed(&word, strcspn(at, ",;"));
        if ((length == 14 && strncasecmp(word, "return=minimal", 14) == 0) ||
            (length == 16 && strncasecmp(word, "return=\"minimal\"", 16) == 0))
            return true;
        at += strcspn(at, ",");
    }
    return false;
}

static const struct {
    const char *type;
    enum lyap_wire_format format;
} formats[] = {
    { API_TYPE_SAFETENSORS, LYAP_WIRE_SAFETENSORS },
    { API_TYPE_OCTETS, LYAP_WIRE_SAFETENSORS },
    { API_TYPE_JSON, LYAP_WIRE_JSON },
    { API_TYPE_NDJSON, LYAP_WIRE_NDJSON },
};

enum lyap_status api_push_format(const struct api_headers *headers, bool has_body,
                                 enum lyap_wire_format *ret_format, struct lyap_error *reterr)
{
    const char *header = headers->content_type;
    *ret_format = LYAP_WIRE_JSON;
    bool is_known = !has_body && !header; /* all is said in the query string */
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (api_content_type_is(header, formats[i].type)) {
            *ret_format = formats[i].format;
            is_known = true;
        }
    }
    if (!is_known)
        return lyap_error_set(reterr, LYAP_E_UNSUPPORTED,
                              "Content-Type is '%.80s'; accepted: %s, %s, %s, %s",
                              header ? header : "", formats[0].type, formats[1].type,
                              formats[2].type, formats[3].type);
    const char *answer = *ret_format == LYAP_WIRE_NDJSON ? API_TYPE_NDJSON : API_TYPE_JSON;
    if (api_accept_choose(headers->accept, answer) < 0)
        return lyap_error_set(reterr, LYAP_E_NOT_ACCEPTABLE, "the answer to this push is %s",
                              answer);
    return LYAP_OK;
}

bool api_etag_matches(const char *if_none_match, const char *etag)
{
    for (const char *at = if_none_match ? if_none_match : ""; *at; at += *at == ',') {
        const char *tag = at;
        size_t length = trimmed(&tag, strcspn(at, ","));
        if (length == 1 && *tag == '*')
            return true;
        if (length > 2 && memcmp(tag, "W/", 2) == 0) {
            tag += 2;
            length -= 2;
        }
        if (length == strlen(etag) && memcmp(tag, etag, length) == 0)
            return true;
        at += strcspn(at, ",");
    }
    return false;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void api_cursor_format(const struct api_cursor *cursor, char ret[API_CURSOR_BYTES])
{
    char text[48];
    const int length = snprintf(text, sizeof text, "%d%c%" PRIu32 ".%" PRId64, CURSOR_VERSION,
                                cursor->table, cursor->attempt, cursor->after);
    char *out = ret;
    for (int i = 0; i < length; i += 3) {
        const unsigned char *in = (const unsigned char *)text + i;
        const int left = length - i;
        const uint32_t word = (uint32_t)in[0] << 16 | (left > 1 ? (uint32_t)in[1] << 8 : 0) |
                              (left > 2 ? (uint32_t)in[2] : 0);
        for (int k = 0; k < (left > 2 ? 4 : left + 1); k++)
            *out++ = alphabet[word >> (18 - 6 * k) & 63];
    }
    *out = '\0';
}

/* False for a character outside the alphabet or a text that is too long. */
static bool base64_decode(const char *text, char *ret, size_t bytes)
{
    uint32_t word = 0;
    unsigned bits = 0;
    size_t length = 0;
    for (; *text; text++) {
        const char *found = strchr(alphabet, *text);
        if (!found)
            return false;
        word = word << 6 | (uint32_t)(found - alphabet);
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        if (length + 1 >= bytes)
            return false;
        ret[length++] = (char)(word >> bits & 0xFF);
    }
    ret[length] = '\0';
    return true;
}

/* "<version><table><attempt>.<after>". Limits of the numbers are checked by writing them again. */
static bool cursor_read(const char *plain, struct api_cursor *ret_cursor)
{
    char *end = NULL;
    if (plain[0] != '0' + CURSOR_VERSION || plain[1] == '\0')
        return false;
    ret_cursor->table = plain[1];
    ret_cursor->attempt = (uint32_t)strtoul(plain + 2, &end, 10);
    if (*end != '.')
        return false;
    ret_cursor->after = strtoll(end + 1, NULL, 10);
    return ret_cursor->after >= -1;
}

enum lyap_status api_cursor_parse(const char *text, char table, struct api_cursor *ret_cursor,
                                  struct lyap_error *reterr)
{
    char plain[48], again[API_CURSOR_BYTES];
    struct api_cursor cursor = { 0 };
    if (base64_decode(text, plain, sizeof plain) && cursor_read(plain, &cursor) &&
        cursor.table == table) {
        /* Only what format writes is accepted: no second spelling of one place. */
        api_cursor_format(&cursor, again);
        if (strcmp(again, text) == 0) {
            *ret_cursor = cursor;
            return LYAP_OK;
        }
    }
    return lyap_error_set(reterr, LYAP_E_INVALID,
                          "query parameter 'cursor' is not one that this list returned");
}
