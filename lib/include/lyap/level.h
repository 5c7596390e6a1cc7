/* level.h - betting e-detector and the loss-level monitor built on it (SPEC 3.6).
 * Embedded by value, no memory of its own. THREADS: one owner at a time. */
#ifndef LYAP_LEVEL_H
#define LYAP_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/status.h"

enum {
    LYAP_BET_COUNT = 7,     /* dyadic bets 2^-8 .. 2^-2 */
    LYAP_LEVEL_BLOCK = 16,  /* pushes per block mean */
    LYAP_LEVEL_BLOCKS = 32, /* block means kept */
    LYAP_LEVEL_BURN_IN = 64 /* values before the scale is frozen */
};

/* Evidence is log M; the alarm is at the log of the average run length 1e4. */
#define LYAP_LEVEL_ALARM 9.210340371976184

/* Null hypothesis: E[clip(r / scale, -3, 3) | past] <= 0. */
struct lyap_edetector {
    double scale;                       /* > 0, frozen */
    double log_process[LYAP_BET_COUNT]; /* log e-process per bet */
    double log_change[LYAP_BET_COUNT];  /* log Shiryaev-Roberts statistic per bet */
};
struct lyap_evidence {
    double process; /* log of the mean e-process; alarm at log(1 / alpha) */
    double change;  /* log of the mean e-detector M; alarm at LYAP_LEVEL_ALARM */
};

LYAP_API void lyap_edetector_init(struct lyap_edetector *d, double scale);
LYAP_API struct lyap_evidence lyap_edetector_push(struct lyap_edetector *d, double residual);

/* "The loss is worse than its own recent past": residual log L - ref - margin, where ref is the
 * lower quartile of the newest block means and margin = max(log 1.5, 4 MAD scales of their
 * residuals from a straight line). A loss <= 0 turns it linear, from there on and anew: residual
 * L - ref - margin with margin = max(3 scale, 4 MAD scales), scale = 1.4826 median |difference|. */
struct lyap_level {
    bool is_linear;
    bool is_armed;    /* the detector's scale is frozen */
    bool is_referred; /* a block is complete */
    uint32_t burn_count, block_count, filled;
    double burn[LYAP_LEVEL_BURN_IN];  /* first values, until armed */
    double blocks[LYAP_LEVEL_BLOCKS]; /* means, oldest first */
    double pending[LYAP_LEVEL_BLOCK];
    double reference, margin;
    struct lyap_edetector detector;
};

LYAP_API void lyap_level_init(struct lyap_level *level);
/* True with evidence once armed. A non-finite loss counts as a huge one. After an alarm the caller
 * initialises anew. */
LYAP_API bool lyap_level_push(struct lyap_level *level, double loss,
                              struct lyap_evidence *ret_evidence);

#endif
