/* pairs.h - sliding window of sketched secant pairs (s, y) with their Gram matrices (SPEC 2.2).
 * Memory is allocated at init. THREADS: one owner at a time. */
#ifndef LYAP_PAIRS_H
#define LYAP_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/ritz.h"

struct lyap_pairs {
    uint32_t capacity; /* pairs, <= LYAP_RITZ_WINDOW_MAX; 0: not initialised */
    uint32_t size;     /* k values of a sketch */
    uint32_t count, next;
    double *s, *y; /* capacity x size each */
    /* By slot: ss[i][j] = <s_i, s_j> and so on. */
    double ss[LYAP_RITZ_WINDOW_MAX][LYAP_RITZ_WINDOW_MAX];
    double sy[LYAP_RITZ_WINDOW_MAX][LYAP_RITZ_WINDOW_MAX];
    double yy[LYAP_RITZ_WINDOW_MAX][LYAP_RITZ_WINDOW_MAX];
};

LYAP_MUST_CHECK enum lyap_status lyap_pairs_init(struct lyap_pairs *pairs, uint32_t capacity,
                                                 uint32_t size);
void lyap_pairs_release(struct lyap_pairs *pairs);
void lyap_pairs_clear(struct lyap_pairs *pairs);

/* The slot of the next pair, for the caller to fill; then commit. The oldest pair is overwritten.
 * Commit drops a pair with a zero or non-finite displacement and says false. */
void lyap_pairs_slot(struct lyap_pairs *pairs, double **ret_s, double **ret_y);
bool lyap_pairs_commit(struct lyap_pairs *pairs);
/* <s,y>/<s,s> of the newest pair; count > 0. */
double lyap_pairs_newest_quotient(const struct lyap_pairs *pairs);
/* Ritz values over all pairs, oldest first. E_TOO_FEW without one. */
LYAP_MUST_CHECK enum lyap_status lyap_pairs_ritz(const struct lyap_pairs *pairs,
                                                 struct lyap_ritz *ret_ritz);
/* The i-th newest pair, i < count; borrowed until the next slot. */
void lyap_pairs_at(const struct lyap_pairs *pairs, uint32_t i, const double **ret_s,
                   const double **ret_y);

#endif
