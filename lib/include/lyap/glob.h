/* glob.h - glob patterns: * any run of bytes, ? one byte; case-sensitive. THREADS: pure functions.
 */
#ifndef LYAP_GLOB_H
#define LYAP_GLOB_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/status.h"

enum { LYAP_GLOB_WORDS = LYAP_PATTERN_BYTES_MAX / 64 + 1 };
/* An automaton over bit sets: state i has matched i characters of the pattern (stars not counted);
 * text costs one shift a byte and 64 states, whatever the stars. */
struct lyap_glob {
    uint64_t accepts[256][LYAP_GLOB_WORDS]; /* states that character c leads onward from */
    uint64_t stays[LYAP_GLOB_WORDS];        /* states before which a star stands */
    uint32_t length;                        /* the accepting state */
};

/* For matching one pattern against many names. False when it is longer than LYAP_PATTERN_BYTES_MAX.
 */
LYAP_API bool lyap_glob_compile(const char *pattern, struct lyap_glob *ret_glob);
LYAP_API bool lyap_glob_run(const struct lyap_glob *glob, const char *text);
/* Whether the pattern has a wildcard at all; one without matches by equality. */
LYAP_API bool lyap_glob_is_wild(const char *pattern);
/* Both in one, linear in the lengths. A pattern that is too long matches nothing (check refuses
 * it).
 */
LYAP_API bool lyap_glob_match(const char *pattern, const char *text);

#endif
