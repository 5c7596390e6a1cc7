/* linalg.h - the one door to BLAS and LAPACK's Fortran symbols: small dense problems with fixed
 * scratch, one thread. Matrices are row-major; those of the eigenproblems are at most
 * LYAP_LINALG_N_MAX wide. THREADS: pure functions. */
#ifndef LYAP_LINALG_H
#define LYAP_LINALG_H

#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/status.h"

enum { LYAP_LINALG_N_MAX = LYAP_RITZ_WINDOW_MAX };

/* Eigenpairs of a symmetric n x n matrix, 1 <= n <= LYAP_LINALG_N_MAX. On OK row j of `a` is the
 * unit eigenvector of ret_values[j], which ascend. E_NUMERIC: no convergence, or a non-finite
 * entry. */
LYAP_MUST_CHECK enum lyap_status lyap_linalg_symmetric(uint32_t n, double *a, double *ret_values);
/* Largest |eigenvalue| of a square matrix. E_NUMERIC as above. */
LYAP_MUST_CHECK enum lyap_status lyap_linalg_radius(uint32_t n, const double *a,
                                                    double *ret_radius);
/* Overwrites b with x of A x = b, 1 <= n <= LYAP_LINALG_N_MAX. E_NUMERIC: singular, or a non-finite
 * entry; b is then undefined. */
LYAP_MUST_CHECK enum lyap_status lyap_linalg_solve(uint32_t n, const double *a, double *b);
/* <x, y> in a fixed order: the same number on every CPU. */
double lyap_linalg_dot(const double *x, const double *y, uint64_t count);

#endif
