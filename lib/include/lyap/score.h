/* score.h - the instability score: log odds that add up over observables and over conjunctions of
 * two, each share a monotone step function from a table fitted on the design trainings
 * (docs/detection.md, bench/detection/fit.py). THREADS: pure functions. */
#ifndef LYAP_SCORE_H
#define LYAP_SCORE_H

#include <stdint.h>

#include "lyap/observe.h"
#include "lyap/sensitivity.h"

enum lyap_score_kind {
    LYAP_SCORE_NOW, /* everything seen of the point */
    LYAP_SCORE_NEXT /* what is known of the coming update alone */
};

enum { LYAP_SCORE_PARTS_MAX = 8 };

/* One share of a score. `b` is LYAP_OBSERVABLE_COUNT for a single observable; a conjunction counts
 * the smaller of a/per_a and b/per_b. */
struct lyap_score_part {
    enum lyap_observable a, b;
    double value_a, value_b, per_a, per_b;
    double log_odds; /* added to the score's */
};

/* 0 to 1; NaN when too little was seen to say anything. */
LYAP_API double lyap_score(enum lyap_score_kind kind, const double seen[LYAP_OBSERVABLE_COUNT]);
/* The largest positive shares, descending; returns how many. */
LYAP_API uint32_t lyap_score_parts(enum lyap_score_kind kind,
                                   const double seen[LYAP_OBSERVABLE_COUNT],
                                   struct lyap_score_part ret_parts[LYAP_SCORE_PARTS_MAX]);
/* Version of the table: the number of times it was fitted anew. */
LYAP_API uint32_t lyap_score_version(void);

#endif
