/* lows.h - the least of the newest values of several series side by side. Of windows up to
 * LYAP_LOWS_SLOTS exact; longer ones are cut into so many blocks, and the oldest goes as a whole:
 * then of up to a block less than the window. THREADS: one owner at a time. */
#ifndef LYAP_LOWS_H
#define LYAP_LOWS_H

#include <stdint.h>

#include "lyap/status.h"

enum { LYAP_LOWS_SLOTS = 64 };

struct lyap_lows {
    uint32_t series, slots, block; /* series 0: nothing allocated */
    double *least;                 /* owned; series x slots; of full blocks, the newest one open */
    uint32_t *counts;  /* owned; values pushed, of each series; wraps at slots x block */
    uint8_t *are_full; /* owned; it wrapped */
};

/* E_NOMEM; *lows is then as it was. */
LYAP_MUST_CHECK enum lyap_status lyap_lows_init(struct lyap_lows *lows, uint32_t series,
                                                uint32_t window);
/* The same for a window of `slots` blocks of `block` values. */
LYAP_MUST_CHECK enum lyap_status lyap_lows_init_blocks(struct lyap_lows *lows, uint32_t series,
                                                       uint32_t slots, uint32_t block);
void lyap_lows_release(struct lyap_lows *lows);
void lyap_lows_push(struct lyap_lows *lows, uint32_t series, double value);
/* NaN: none yet. */
double lyap_lows_least(const struct lyap_lows *lows, uint32_t series);
/* Slots that hold something. */
uint32_t lyap_lows_used(const struct lyap_lows *lows, uint32_t series);

#endif
