/* score.h - the instability score: log odds, summed over small trees that were fitted on the design
 * trainings (docs/detection.md, bench/detection/fit.py). A tree asks a few observables in turn;
 * what each answer changes is that observable's share, so that the shares add up to the log odds.
 * THREADS: pure functions. */
#ifndef LYAP_SCORE_H
#define LYAP_SCORE_H

#include <stdint.h>

#include "lyap/observe.h"
#include "lyap/sensitivity.h"

enum lyap_score_kind {
    LYAP_SCORE_NOW,  /* everything seen of the point */
    LYAP_SCORE_NEXT, /* what is known of the coming update alone */
    LYAP_SCORE_KIND_COUNT
};

enum { LYAP_SCORE_PARTS_MAX = 8 };

/* One share of a score: of observable `a`; `b` is LYAP_OBSERVABLE_COUNT. Points stored by tables
 * before the third have shares of conjunctions, the smaller of a/per_a and b/per_b, too. */
struct lyap_score_part {
    enum lyap_observable a, b;
    double value_a, value_b, per_a, per_b;
    double log_odds; /* added to the score's */
};

/* 0 to 1; NaN when too little was seen to say anything. `ret_shares`: what each observable changed
 * of the log odds; base and shares add up to them; all 0 without a score. */
LYAP_API double lyap_score(enum lyap_score_kind kind, const double seen[LYAP_OBSERVABLE_COUNT],
                           double ret_shares[LYAP_OBSERVABLE_COUNT]);
/* The largest positive shares of observables that were seen, descending; returns how many. */
LYAP_API uint32_t lyap_score_parts(const double shares[LYAP_OBSERVABLE_COUNT],
                                   const double seen[LYAP_OBSERVABLE_COUNT],
                                   struct lyap_score_part ret_parts[LYAP_SCORE_PARTS_MAX]);
/* Version of the table: the number of times it was fitted anew. */
LYAP_API uint32_t lyap_score_version(void);

#endif
