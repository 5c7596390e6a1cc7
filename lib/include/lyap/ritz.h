/* ritz.h - Ritz values of a curvature from secant pairs, and the test that accepts them (SPEC 2.2).
 * THREADS: pure functions. */
#ifndef LYAP_RITZ_H
#define LYAP_RITZ_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/status.h"

/* tol of SPEC 2.2: directions whose share of the scaled Gram matrix is below it are dropped. */
#define LYAP_RITZ_TOLERANCE     1e-2
#define LYAP_RITZ_RESIDUAL_MAX  0.2 /* accepted: r <= this times rho */
#define LYAP_RITZ_ASYMMETRY_MAX 0.2

struct lyap_ritz {
    uint32_t rank;    /* directions kept; values and residuals have this many entries */
    double asymmetry; /* |Y - Y'|_F / |Y + Y'|_F; 0 for one function with constant curvature */
    double values[LYAP_RITZ_WINDOW_MAX];    /* descending */
    double residuals[LYAP_RITZ_WINDOW_MAX]; /* some eigenvalue lies within it of the value */
    double top[LYAP_RITZ_WINDOW_MAX];       /* coefficients c of values[0] in the unscaled pairs */
};

/* S_ij = <s_i,s_j>, Y_ij = <s_i,y_j>, Z_ij = <y_i,y_j>, row-major, weighted by P for preconditioned
 * methods; 1 <= count <= LYAP_RITZ_WINDOW_MAX. E_NUMERIC: non-finite entries, no positive
 * direction, no convergence. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_ritz_compute(uint32_t count, const double *s,
                                                            const double *y, const double *z,
                                                            double tolerance,
                                                            struct lyap_ritz *ret_ritz);
/* Index of the largest positive value whose residual and the window's asymmetry pass; -1: none. */
LYAP_API int lyap_ritz_accept(const struct lyap_ritz *ritz);
/* Index of the least value, of either sign, whose residual is within LYAP_RITZ_RESIDUAL_MAX of its
 * size and whose window's asymmetry passes; -1: none. */
LYAP_API int lyap_ritz_accept_least(const struct lyap_ritz *ritz);

#endif
