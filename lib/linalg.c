/* Eigenproblems of small dense matrices through LAPACK. */
#include "linalg.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "fortran.h"
#include "banned.h"

/* dsyev asks for 3n - 1, dgeev without vectors for 3n, dgesvd for 5n, dgeqrf and dorgqr for n; more
 * lets them block, which n = 16 does not repay. */
enum { WORK_SIZE = 8 * LYAP_LINALG_N_MAX, ENTRIES_MAX = LYAP_LINALG_N_MAX * LYAP_LINALG_N_MAX };

static bool is_finite(const double *a, uint32_t count)
{
    return lyap_linalg_is_finite(a, count);
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

enum lyap_status lyap_linalg_qr(uint32_t n, uint32_t b, double *vectors, double *ret_r)
{
    assert(b >= 1 && b <= LYAP_LINALG_N_MAX && n >= b && n <= INT32_MAX);
    for (uint32_t i = 0; i < b; i++)
        if (!is_finite(vectors + (size_t)i * n, n))
            return LYAP_E_NUMERIC;
    const fortran_integer rows = (fortran_integer)n, columns = (fortran_integer)b;
    const fortran_integer lwork = WORK_SIZE;
    fortran_integer info = 0;
    double work[WORK_SIZE], tau[LYAP_LINALG_N_MAX];
    dgeqrf_(&rows, &columns, vectors, &rows, tau, work, &lwork, &info);
    for (uint32_t i = 0; i < b && ret_r; i++)
        for (uint32_t j = 0; j < b; j++)
            ret_r[i * b + j] = j < i ? 0 : vectors[(size_t)j * n + i];
    if (info == 0)
        dorgqr_(&rows, &columns, &columns, vectors, &rows, tau, work, &lwork, &info);
    return info == 0 ? LYAP_OK : LYAP_E_NUMERIC;
}

enum lyap_status lyap_linalg_svd(uint32_t b, const double *a, double *ret_values, double *ret_left,
                                 double *ret_right)
{
    assert(b >= 1 && b <= LYAP_LINALG_N_MAX && !ret_left == !ret_right);
    if (!is_finite(a, b * b))
        return LYAP_E_NUMERIC;
    const fortran_integer order = (fortran_integer)b, lwork = WORK_SIZE;
    const char *job = ret_left ? "A" : "N";
    fortran_integer info = 0;
    double copy[ENTRIES_MAX], u[ENTRIES_MAX], vt[ENTRIES_MAX];
    double work[WORK_SIZE], values[LYAP_LINALG_N_MAX];
    memcpy(copy, a, b * b * sizeof *a);
    /* Fortran sees A' = V S U': its columns of "U" are our right vectors, one after another, and
     * its rows of "V'" our left ones. */
    dgesvd_(job, job, &order, &order, copy, &order, values, u, &order, vt, &order, work, &lwork,
            &info, 1, 1);
    if (info != 0)
        return LYAP_E_NUMERIC;
    memcpy(ret_values, values, b * sizeof *values);
    for (uint32_t i = 0; i < b && ret_left; i++)
        for (uint32_t j = 0; j < b; j++) {
            ret_right[i * b + j] = u[i * b + j];
            ret_left[i * b + j] = vt[j * b + i];
        }
    return LYAP_OK;
}

enum lyap_status lyap_linalg_cholesky(uint32_t b, const double *a, double *ret_r)
{
    assert(b >= 1 && b <= LYAP_LINALG_N_MAX);
    if (!is_finite(a, b * b))
        return LYAP_E_NUMERIC;
    const fortran_integer order = (fortran_integer)b;
    fortran_integer info = 0;
    double copy[ENTRIES_MAX];
    memcpy(copy, a, b * b * sizeof *a);
    dpotrf_("L", &order, copy, &order, &info, 1); /* its lower triangle is our upper one */
    if (info != 0)
        return LYAP_E_NUMERIC;
    for (uint32_t i = 0; i < b; i++)
        for (uint32_t j = 0; j < b; j++)
            ret_r[i * b + j] = j < i ? 0 : copy[i * b + j];
    return LYAP_OK;
}

void lyap_linalg_solve_triangular(uint32_t b, const double *r, uint32_t count, double *rows)
{
    assert(b >= 1 && b <= LYAP_LINALG_N_MAX && count >= 1 && count <= INT32_MAX);
    const fortran_integer order = (fortran_integer)b, columns = (fortran_integer)count;
    const double one = 1;
    /* Fortran sees the columns x and L = R'. */
    dtrsm_("L", "L", "N", "N", &order, &columns, &one, r, &order, rows, &order, 1, 1, 1, 1);
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
