/* Glob patterns by bit-parallel simulation (Baeza-Yates and Gonnet, 1992): linear in the text. */
#include "lyap/glob.h"

#include <assert.h>
#include <string.h>

#include "banned.h"

static void bit_set(uint64_t *words, uint32_t bit)
{
    words[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static void accept_any(struct lyap_glob *glob, uint32_t state)
{
    for (unsigned c = 1; c < 256; c++)
        bit_set(glob->accepts[c], state);
}

bool lyap_glob_compile(const char *pattern, struct lyap_glob *ret_glob)
{
    if (strlen(pattern) > LYAP_PATTERN_BYTES_MAX)
        return false;
    memset(ret_glob, 0, sizeof *ret_glob);
    uint32_t state = 0;
    for (const char *p = pattern; *p; p++) {
        if (*p == '*')
            bit_set(ret_glob->stays, state);
        else if (*p == '?')
            accept_any(ret_glob, state++);
        else
            bit_set(ret_glob->accepts[(unsigned char)*p], state++);
    }
    ret_glob->length = state;
    assert(state <= LYAP_PATTERN_BYTES_MAX);
    return true;
}

bool lyap_glob_run(const struct lyap_glob *glob, const char *text)
{
    const uint32_t words = glob->length / 64 + 1;
    uint64_t states[LYAP_GLOB_WORDS] = { 1 };
    for (const char *t = text; *t; t++) {
        const uint64_t *accepts = glob->accepts[(unsigned char)*t];
        uint64_t carry = 0, any = 0;
        for (uint32_t w = 0; w < words; w++) {
            const uint64_t onward = states[w] & accepts[w];
            states[w] = (onward << 1) | carry | (states[w] & glob->stays[w]);
            carry = onward >> 63;
            any |= states[w];
        }
        if (any == 0)
            return false;
    }
    return states[glob->length / 64] >> (glob->length % 64) & 1;
}

bool lyap_glob_is_wild(const char *pattern)
{
    return strpbrk(pattern, "*?") != NULL;
}

bool lyap_glob_match(const char *pattern, const char *text)
{
    struct lyap_glob glob;
    if (!lyap_glob_is_wild(pattern))
        return strcmp(pattern, text) == 0;
    if (strcmp(pattern, "*") == 0) /* the usual one of rules, which ask for every tensor */
        return true;
    return lyap_glob_compile(pattern, &glob) && lyap_glob_run(&glob, text);
}
