/* words.h - little-endian 64-bit words of a profile's bytes. Header-only.
 * THREADS: pure functions. */
#ifndef LYAP_WORDS_H
#define LYAP_WORDS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Writes when `bytes` is there, counts always. */
struct lyap_writer {
    unsigned char *bytes;
    uint64_t length;
};
struct lyap_reader {
    const unsigned char *bytes;
    uint64_t length, at;
    bool is_short; /* read past the end: everything since is 0 */
};

static inline void lyap_put_word(struct lyap_writer *w, uint64_t word)
{
    for (unsigned i = 0; i < 8 && w->bytes; i++)
        w->bytes[w->length + i] = (unsigned char)(word >> (8 * i));
    w->length += 8;
}

static inline void lyap_put_doubles(struct lyap_writer *w, const double *values, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t word;
        memcpy(&word, &values[i], sizeof word);
        lyap_put_word(w, word);
    }
}

static inline uint64_t lyap_get_word(struct lyap_reader *r)
{
    uint64_t word = 0;
    if (r->length - r->at < 8) {
        r->is_short = true;
        return 0;
    }
    for (unsigned i = 0; i < 8; i++)
        word |= (uint64_t)r->bytes[r->at + i] << (8 * i);
    r->at += 8;
    return word;
}

static inline void lyap_get_doubles(struct lyap_reader *r, double *ret, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t word = lyap_get_word(r);
        memcpy(&ret[i], &word, sizeof word);
    }
}

#endif
