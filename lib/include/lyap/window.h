/* window.h - sliding window of finite samples.
 * Owns one buffer, allocated at init. THREADS: one owner at a time. */
#ifndef LYAP_WINDOW_H
#define LYAP_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/status.h"

struct lyap_window {   /* embed by value; only window.c touches the fields */
    double *samples;   /* ring of `capacity` slots */
    uint32_t capacity; /* > 0 once initialised */
    uint32_t count;    /* <= capacity */
    uint32_t next;     /* slot the next push overwrites, < capacity */
};
#define LYAP_WINDOW_NULL                                                                           \
    {                                                                                              \
        0                                                                                          \
    }

/* OK; E_INVALID if capacity is 0 or above LYAP_WINDOW_MAX; E_NOMEM.
 * On failure *w is LYAP_WINDOW_NULL, so release is always safe. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_window_init(struct lyap_window *w,
                                                           uint32_t capacity);
LYAP_API void lyap_window_release(struct lyap_window *w);
/* False, nothing stored, for NaN and infinities: one would poison every later moment. */
LYAP_API bool lyap_window_push(struct lyap_window *w, double value);
LYAP_API uint32_t lyap_window_count(const struct lyap_window *w);
LYAP_API bool lyap_window_is_full(const struct lyap_window *w);
/* The i-th newest sample, i < count. */
LYAP_API double lyap_window_newest(const struct lyap_window *w, uint32_t i);

#endif
