/* glob.h - compiled glob patterns, for matching one pattern against many names. Internal to lib/.
 * THREADS: pure functions. */
#ifndef LYAP_GLOB_H
#define LYAP_GLOB_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/limits.h"

enum { LYAP_GLOB_WORDS = LYAP_PATTERN_BYTES_MAX / 64 + 1 };
/* An automaton over bit sets: state i has matched i characters of the pattern (stars not counted);
 * text costs one shift a byte and 64 states, whatever the stars. */
struct lyap_glob {
    uint64_t accepts[256][LYAP_GLOB_WORDS]; /* states that character c leads onward from */
    uint64_t stays[LYAP_GLOB_WORDS];        /* states before which a star stands */
    uint32_t length;                        /* the accepting state */
};

/* False when the pattern is longer than LYAP_PATTERN_BYTES_MAX. */
bool lyap_glob_compile(const char *pattern, struct lyap_glob *ret_glob);
bool lyap_glob_run(const struct lyap_glob *glob, const char *text);
/* Whether the pattern has a wildcard at all; one without matches by equality. */
bool lyap_glob_is_wild(const char *pattern);

#endif
