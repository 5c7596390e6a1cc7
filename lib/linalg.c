/* Eigenproblems of small dense matrices through LAPACK. */
#include "linalg.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* LAPACK's Fortran INTEGER of the LP64 interface, which Debian's libopenblas has (the ILP64 one is
 * libopenblas64 with suffixed symbols). The trailing arguments are the hidden string lengths. */
typedef int fortran_integer;
static_assert(sizeof(fortran_integer) * CHAR_BIT == 32, "LP64 LAPACK");

void dsyev_(const char *jobz, const char *uplo, const fortran_integer *n, double *a,
            const fortran_integer *lda, double *w, double *work, const fortran_integer *lwork,
            fortran_integer *info, size_t jobz_length, size_t uplo_length);
void dgeev_(const char *jobvl, const char *jobvr, const fortran_integer *n, double *a,
            const fortran_integer *lda, double *wr, double *wi, double *vl,
            const fortran_integer *ldvl, double *vr, const fortran_integer *ldvr, double *work,
            const fortran_integer *lwork, fortran_integer *info, size_t jobvl_length,
            size_t jobvr_length);
void dgesv_(const fortran_integer *n, const fortran_integer *nrhs, double *a,
            const fortran_integer *lda, fortran_integer *ipiv, double *b,
            const fortran_integer *ldb, fortran_integer *info);

/* dsyev asks for 3n - 1, dgeev without vectors for 3n; more lets them block, which n = 16 does not
 * repay. */
enum { WORK_SIZE = 8 * LYAP_LINALG_N_MAX, ENTRIES_MAX = LYAP_LINALG_N_MAX * LYAP_LINALG_N_MAX };

static bool is_finite(const double *a, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!isfinite(a[i]))
            return false;
    return true;
}

enum lyap_status lyap_linalg_symmetric(uint32_t n, double *a, double *ret_values)
{
    assert(n >= 1 && n <= LYAP_LINALG_N_MAX);
    if (!is_finite(a, n * n))
        return LYAP_E_NUMERIC;
    const fortran_integer order = (fortran_integer)n, lwork = WORK_SIZE;
    fortran_integer info = 0;
    double work[WORK_SIZE], values[LYAP_LINALG_N_MAX];
    /* Columns of Fortran are rows of ours: the eigenvectors come out as rows. */
    dsyev_("V", "U", &order, a, &order, values, work, &lwork, &info, 1, 1);
    if (info != 0)
        return LYAP_E_NUMERIC;
    memcpy(ret_values, values, n * sizeof *values);
    return LYAP_OK;
}

enum lyap_status lyap_linalg_radius(uint32_t n, const double *a, double *ret_radius)
{
    assert(n >= 1 && n <= LYAP_LINALG_N_MAX);
    if (!is_finite(a, n * n))
        return LYAP_E_NUMERIC;
    const fortran_integer order = (fortran_integer)n, one = 1, lwork = WORK_SIZE;
    fortran_integer info = 0;
    double copy[ENTRIES_MAX], work[WORK_SIZE];
    double real[LYAP_LINALG_N_MAX], imaginary[LYAP_LINALG_N_MAX], none[1];
    memcpy(copy, a, n * n * sizeof *a); /* the transpose has the same eigenvalues */
    dgeev_("N", "N", &order, copy, &order, real, imaginary, none, &one, none, &one, work, &lwork,
           &info, 1, 1);
    if (info != 0)
        return LYAP_E_NUMERIC;
    double radius = 0;
    for (uint32_t i = 0; i < n; i++)
        radius = fmax(radius, hypot(real[i], imaginary[i]));
    *ret_radius = radius;
    return LYAP_OK;
}

enum lyap_status lyap_linalg_solve(uint32_t n, const double *a, double *b)
{
    assert(n >= 1 && n <= LYAP_LINALG_N_MAX);
    if (!is_finite(a, n * n) || !is_finite(b, n))
        return LYAP_E_NUMERIC;
    const fortran_integer order = (fortran_integer)n, one = 1;
    fortran_integer info = 0, pivots[LYAP_LINALG_N_MAX];
    double transposed[ENTRIES_MAX];
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            transposed[j * n + i] = a[i * n + j];
    dgesv_(&order, &one, transposed, &order, pivots, b, &order, &info);
    return info == 0 && is_finite(b, n) ? LYAP_OK : LYAP_E_NUMERIC;
}

double lyap_linalg_dot(const double *x, const double *y, uint64_t count)
{
    enum { LANES = 8 };
    double lanes[LANES] = { 0 };
    uint64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (unsigned j = 0; j < LANES; j++)
            lanes[j] += x[i + j] * y[i + j];
    double tail = 0;
    for (; i < count; i++)
        tail += x[i] * y[i];
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7])) + tail;
}
