/* drift.h - the drift of a loss on one fixed function in mini-batch training: batch means of its
 * changes, their level with an autocorrelation-robust error, and betting evidence that it rises
 * (SPEC 3.6). Embedded by value, no memory of its own. THREADS: one owner at a time. */
#ifndef LYAP_DRIFT_H
#define LYAP_DRIFT_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/level.h"
#include "lyap/status.h"

enum {
    LYAP_DRIFT_BATCH = 16,   /* changes per batch mean */
    LYAP_DRIFT_BURN_IN = 32, /* batch means before the scale is frozen */
    LYAP_DRIFT_MEANS = 64    /* batch means of the level */
};

struct lyap_drift {
    bool has_start;
    double start;                   /* the loss that the open batch began with */
    uint32_t filled;                /* changes in the open batch, < LYAP_DRIFT_BATCH */
    uint32_t count;                 /* means kept */
    double means[LYAP_DRIFT_MEANS]; /* oldest first, in units of the loss */
    double scale;  /* MAD scale of the burn-in; 0 while it lasts, and for ever if nothing varied */
    bool is_armed; /* the burn-in is over */
    struct lyap_edetector detector;
    double level, error; /* in scales per push; NaN until armed */
    double evidence;     /* log M; NaN until the detector has seen a mean */
};

LYAP_API void lyap_drift_init(struct lyap_drift *drift);
/* Takes the next finite loss of the function. After an alarm (evidence >= LYAP_LEVEL_ALARM) the
 * detector starts anew at the next mean. */
LYAP_API void lyap_drift_push(struct lyap_drift *drift, double loss);

/* Standard error of the mean of `count` >= 1 values with Bartlett weights up to the lag
 * floor(4 (count/100)^(2/9)). */
LYAP_API double lyap_drift_newey_west(const double *values, uint32_t count);

#endif
