/* linalg.h - the one door to BLAS and LAPACK's Fortran symbols. Matrices are row-major unless said;
 * the small problems (linalg.c) are at most LYAP_LINALG_N_MAX wide and use fixed scratch, the dense
 * ones (linalg_dense.c) have any size that fits LAPACK's 32-bit integers. THREADS: pure functions;
 * OpenBLAS may use threads of its own for the dense ones, as many as it was told. */
#ifndef LYAP_LINALG_H
#define LYAP_LINALG_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/status.h"

enum { LYAP_LINALG_N_MAX = LYAP_RITZ_WINDOW_MAX };

bool lyap_linalg_is_finite(const double *x, uint64_t count);

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
/* QR of b vectors of n elements each, one after another (the columns of an n x b matrix), n >= b,
 * b <= LYAP_LINALG_N_MAX: they become orthonormal; `ret_r` (b x b, row-major, upper triangular, may
 * be NULL) has the factor. E_NUMERIC: a non-finite entry. */
LYAP_MUST_CHECK enum lyap_status lyap_linalg_qr(uint32_t n, uint32_t b, double *vectors,
                                                double *ret_r);
/* Singular values (descending) of a b x b matrix, b <= LYAP_LINALG_N_MAX, and its singular vectors:
 * row i of `ret_left` and `ret_right` belongs to ret_values[i]; both may be NULL. E_NUMERIC. */
LYAP_MUST_CHECK enum lyap_status lyap_linalg_svd(uint32_t b, const double *a, double *ret_values,
                                                 double *ret_left, double *ret_right);
/* Upper triangular R with A = R'R, of the symmetric b x b matrix `a`, b <= LYAP_LINALG_N_MAX.
 * E_NUMERIC: not positive definite, or a non-finite entry. */
LYAP_MUST_CHECK enum lyap_status lyap_linalg_cholesky(uint32_t b, const double *a, double *ret_r);
/* Overwrites each of `count` rows x of b elements with R'^-1 x, that is x' R^-1; R upper triangular
 * with non-zero diagonal. */
void lyap_linalg_solve_triangular(uint32_t b, const double *r, uint32_t count, double *rows);

/* Largest singular value of a rows x cols matrix, which is overwritten. E_NUMERIC, E_NOMEM;
 * E_LIMIT: LAPACK's workspace exceeds its integers. */
LYAP_MUST_CHECK enum lyap_status lyap_linalg_norm(uint32_t rows, uint32_t cols, double *a,
                                                  double *ret_norm);
/* Largest eigenvalue of a symmetric n x n matrix, which is overwritten. Errors as above. */
LYAP_MUST_CHECK enum lyap_status lyap_linalg_top(uint32_t n, double *a, double *ret_value);
/* ret = A'B (p x q) of two matrices with `rows` rows, p and q columns. */
void lyap_linalg_multiply_inner(uint32_t rows, const double *a, uint32_t p, const double *b,
                                uint32_t q, double *ret);
/* ret = A A' (rows x rows) or, with `is_inner`, A'A (cols x cols); both triangles. */
void lyap_linalg_gram(uint32_t rows, uint32_t cols, const double *a, bool is_inner, double *ret);
/* The same of a complex matrix with real and imaginary parts side by side; A* for A'. Only the
 * triangle that lyap_linalg_hermitian_top reads is set. */
void lyap_linalg_gram_complex(uint32_t rows, uint32_t cols, const double *a, bool is_inner,
                              double *ret);
/* Doubles of scratch for the next function. */
uint64_t lyap_linalg_hermitian_scratch(uint32_t n);
/* Largest eigenvalue of the Hermitian n x n matrix of lyap_linalg_gram_complex, which is
 * overwritten. E_NUMERIC. */
LYAP_MUST_CHECK enum lyap_status lyap_linalg_hermitian_top(uint32_t n, double *a, double *scratch,
                                                           double *ret_value);
/* <x, y> in a fixed order: the same number on every CPU. */
double lyap_linalg_dot(const double *x, const double *y, uint64_t count);

#endif
