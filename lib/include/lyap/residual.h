/* residual.h - logarithmic norms, and the gain of a residual block x + h f(x) (SPEC 1.4). h >= 0;
 * J is any Jacobian of f (Clarke element at kinks). Matrices are row-major n x n. Class I unless
 * said. THREADS: pure functions. */
#ifndef LYAP_RESIDUAL_H
#define LYAP_RESIDUAL_H

#include <stdint.h>

#include "lyap/spectral.h"
#include "lyap/status.h"

enum { LYAP_RESIDUAL_SIDE_MAX = 2048 }; /* of mu_2: 4/3 n^3 flops, a copy of the matrix */

/* What holds for every Jacobian of f: |J|_2 <= lipschitz and lambda_max((J + J')/2) <= log_norm,
 * in 1/units of h. log_norm lies in [-lipschitz, lipschitz]. */
struct lyap_residual_bounds {
    double lipschitz, log_norm;
};

/* -- logarithmic norms -- */
/* mu_2(A) = lambda_max((A + A')/2), exact. The square matrix is borrowed. E_INVALID: not square;
 * E_LIMIT: above LYAP_RESIDUAL_SIDE_MAX; E_NUMERIC: a non-finite entry; E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_residual_log_norm(const struct lyap_spectral_matrix *a, double *ret_log_norm);

/* -- gains -- */
/* |I + h J|_2 <= sqrt(1 + 2 h mu + h^2 L^2) <= 1 + h L. */
LYAP_API double lyap_residual_gain(double h, const struct lyap_residual_bounds *bounds);
/* Largest h for which that gain is <= 1: -2 mu / L^2; 0 when mu >= 0, where nothing certifies a
 * contraction. */
LYAP_API double lyap_residual_cfl(const struct lyap_residual_bounds *bounds);
/* Gain of the implicit step y = x + h f(y): 1/(1 - h mu); infinite when h mu >= 1. */
LYAP_API double lyap_residual_backward_gain(double h, double log_norm);

/* -- blocks with more structure -- */
/* J = A constant: L = sigma_1(A), mu = mu_2(A). Errors as lyap_residual_log_norm. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_residual_constant(const struct lyap_spectral_matrix *a,
                       struct lyap_residual_bounds *ret_bounds);
/* J = -W'DW with 0 <= D <= gate_max (f(x) = -W' phi(W x)), sigma >= sigma_1(W): J is symmetric
 * with eigenvalues in [-gate_max sigma^2, 0]. */
LYAP_API struct lyap_residual_bounds lyap_residual_symmetric(double gate_max, double sigma);
/* Its gain max(1, h gate_max sigma^2 - 1), sharper than lyap_residual_gain of the bounds; and the
 * largest h that expands nothing, 2/(gate_max sigma^2), infinite when sigma is 0. */
LYAP_API double lyap_residual_symmetric_gain(double h, double gate_max, double sigma);
LYAP_API double lyap_residual_symmetric_cfl(double gate_max, double sigma);
/* |I + h D A|_inf over all diagonal 0 <= D <= gate_max, exact: convex in each gate, so the largest
 * of max(1, |1 + h g a_ii| + h g sum_{j != i} |a_ij|), g = gate_max. NaN where an entry is. */
LYAP_API double lyap_residual_gated_gain_inf(uint32_t n, const double *a, double h,
                                             double gate_max);

#endif
