/* alloc.h - memory of liblyap comes from injected hooks, so that tests fail the n-th allocation.
 * THREADS: set the hooks once, before any other call; afterwards every function is as thread-safe
 * as the hooks (the default, malloc and free, is). */
#ifndef LYAP_ALLOC_H
#define LYAP_ALLOC_H

#include <stddef.h>

#include "lyap/status.h"

struct lyap_alloc_hooks {
    void *(*allocate)(size_t bytes);  /* uninitialised memory or NULL; never called with 0 */
    void (*deallocate)(void *memory); /* accepts NULL */
};

/* NULL restores malloc and free. */
LYAP_API void lyap_alloc_set_hooks(const struct lyap_alloc_hooks *hooks);

/* Zeroed array of count x size bytes; NULL when the product overflows or memory is short.
 * A count of 0 yields a valid pointer, so that NULL always means failure. Caller frees. */
LYAP_API LYAP_MUST_CHECK void *lyap_alloc_array(size_t count, size_t size);
/* As above without zeroing, aligned to 64 bytes (a cache line, the widest vector): the large
 * snapshot buffers, which are overwritten at once. Free with lyap_free_aligned. */
LYAP_API LYAP_MUST_CHECK void *lyap_alloc_aligned(size_t count, size_t size);
/* NUL-terminated copy. */
LYAP_API LYAP_MUST_CHECK char *lyap_alloc_string(const char *text);
LYAP_API void lyap_free(void *memory);
LYAP_API void lyap_free_aligned(void *memory);

#endif
