/* rolling.h - what a window of a series says: mean, spread, slope (docs/api.md, windows). Two
 * passes over the values themselves, never sums of squares. THREADS: pure functions. */
#ifndef LYAP_ROLLING_H
#define LYAP_ROLLING_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/status.h"

struct lyap_rolling {
    uint32_t count;                /* finite values */
    uint32_t nonfinite;            /* of what was pushed; they enter nothing else */
    int64_t first_step, last_step; /* of the finite values; -1: none */
    double mean;                   /* NaN without a value */
    double spread;                 /* standard deviation, n - 1; NaN below two values */
    double slope;                  /* least squares, per step; NaN below two values */
    double slope_error;            /* its standard error; NaN below three values */
};

/* `values` NaN: no value at that step; `is_nonfinite` (count flags): one that was not finite. Steps
 * rise. */
LYAP_API void lyap_rolling_of(const int64_t *steps, const double *values, const bool *is_nonfinite,
                              uint32_t count, struct lyap_rolling *ret_rolling);

#endif
