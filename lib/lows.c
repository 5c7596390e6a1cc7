/* Sliding minima. */
#include "lows.h"

#include <assert.h>
#include <math.h>

#include "lyap/alloc.h"
#include "banned.h"

enum lyap_status lyap_lows_init(struct lyap_lows *lows, uint32_t series, uint32_t window)
{
    assert(window > 0);
    const uint32_t block = (window + LYAP_LOWS_SLOTS - 1) / LYAP_LOWS_SLOTS;
    return lyap_lows_init_blocks(lows, series, window / block, block);
}

enum lyap_status lyap_lows_init_blocks(struct lyap_lows *lows, uint32_t series, uint32_t slots,
                                       uint32_t block)
{
    struct lyap_lows made = { .series = series, .slots = slots, .block = block };
    made.least = lyap_alloc_array((size_t)series * made.slots, sizeof *made.least);
    made.counts = lyap_alloc_array(series, sizeof *made.counts);
    made.are_full = lyap_alloc_array(series, sizeof *made.are_full);
    if (!made.least || !made.counts || !made.are_full) {
        lyap_lows_release(&made);
        return LYAP_E_NOMEM;
    }
    *lows = made;
    return LYAP_OK;
}

void lyap_lows_release(struct lyap_lows *lows)
{
    lyap_free(lows->least);
    lyap_free(lows->counts);
    lyap_free(lows->are_full);
    *lows = (struct lyap_lows){ 0 };
}

void lyap_lows_push(struct lyap_lows *lows, uint32_t series, double value)
{
    assert(series < lows->series);
    uint32_t *count = &lows->counts[series];
    double *slot = &lows->least[(size_t)series * lows->slots + *count / lows->block];
    *slot = *count % lows->block == 0 ? value : fmin(*slot, value);
    if (++*count == lows->slots * lows->block) {
        *count = 0;
        lows->are_full[series] = 1;
    }
}

uint32_t lyap_lows_used(const struct lyap_lows *lows, uint32_t series)
{
    const uint32_t begun = (lows->counts[series] + lows->block - 1) / lows->block;
    return lows->are_full[series] ? lows->slots : begun;
}

double lyap_lows_least(const struct lyap_lows *lows, uint32_t series)
{
    if (series >= lows->series)
        return NAN;
    double least = NAN;
    for (uint32_t i = 0; i < lyap_lows_used(lows, series); i++)
        least = fmin(least, lows->least[(size_t)series * lows->slots + i]); /* prefers the number */
    return least;
}
