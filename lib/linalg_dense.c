/* Norms and Gram matrices of dense matrices of any size through LAPACK. */
#include "linalg.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

#include "fortran.h"
#include "lyap/alloc.h"
#include "banned.h"

/* Blocking factor that every LAPACK routine here is content with. */
enum { BLOCKING = 32 };

bool lyap_linalg_is_finite(const double *x, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static fortran_integer integer(uint32_t n)
{
    assert(n >= 1 && n <= INT32_MAX);
    return (fortran_integer)n;
}

enum lyap_status lyap_linalg_norm(uint32_t rows, uint32_t cols, double *a, double *ret_norm)
{
    /* Fortran sees the transpose, which has the same singular values. */
    const fortran_integer m = integer(cols), n = integer(rows), one = 1;
    const uint32_t least = rows < cols ? rows : cols;
    const uint64_t largest = rows < cols ? cols : rows;
    if (!lyap_linalg_is_finite(a, (uint64_t)rows * cols))
        return LYAP_E_NUMERIC;

    /* dgesdd without vectors: 3 least + max(largest, 7 least), and room to block. */
    const uint64_t work_size = largest + (10 + 3 * BLOCKING) * (uint64_t)least;
    if (work_size > INT32_MAX)
        return LYAP_E_LIMIT;
    const fortran_integer lwork = (fortran_integer)work_size;
    fortran_integer info = 0;
    double ignored[1];
    enum lyap_status status = LYAP_E_NOMEM;
    double *values = lyap_alloc_array(least, sizeof *values);
    double *work = lyap_alloc_array(work_size, sizeof *work);
    fortran_integer *iwork = lyap_alloc_array(8 * (size_t)least, sizeof *iwork);
    if (!values || !work || !iwork)
        goto out;
    dgesdd_("N", &m, &n, a, &m, values, ignored, &one, ignored, &one, work, &lwork, iwork, &info,
            1);
    status = info == 0 ? LYAP_OK : LYAP_E_NUMERIC;
    if (status == LYAP_OK)
        *ret_norm = values[0];
out:
    lyap_free(iwork);
    lyap_free(work);
    lyap_free(values);
    return status;
}

enum lyap_status lyap_linalg_top(uint32_t n, double *a, double *ret_value)
{
    const fortran_integer order = integer(n);
    if (!lyap_linalg_is_finite(a, (uint64_t)n * n))
        return LYAP_E_NUMERIC;
    const uint64_t work_size = (BLOCKING + 2) * (uint64_t)n;
    if (work_size > INT32_MAX)
        return LYAP_E_LIMIT;
    const fortran_integer lwork = (fortran_integer)work_size;
    fortran_integer info = 0;
    enum lyap_status status = LYAP_E_NOMEM;
    double *values = lyap_alloc_array(n, sizeof *values);
    double *work = lyap_alloc_array(work_size, sizeof *work);
    if (!values || !work)
        goto out;
    dsyev_("N", "U", &order, a, &order, values, work, &lwork, &info, 1, 1);
    status = info == 0 ? LYAP_OK : LYAP_E_NUMERIC;
    if (status == LYAP_OK)
        *ret_value = values[n - 1];
out:
    lyap_free(work);
    lyap_free(values);
    return status;
}

void lyap_linalg_multiply_inner(uint32_t rows, const double *a, uint32_t p, const double *b,
                                uint32_t q, double *ret)
{
    /* Fortran sees A' (p x rows) and B' (q x rows) and makes (A'B)' = B'A, q x p. */
    const fortran_integer m = integer(q), n = integer(p), k = integer(rows);
    const double one = 1, zero = 0;
    dgemm_("N", "T", &m, &n, &k, &one, b, &m, a, &n, &zero, ret, &m, 1, 1);
}

void lyap_linalg_gram(uint32_t rows, uint32_t cols, const double *a, bool is_inner, double *ret)
{
    /* Fortran sees A' (cols x rows): its product without transposition is A'A. */
    const fortran_integer n = integer(is_inner ? cols : rows), k = integer(is_inner ? rows : cols);
    const fortran_integer lda = integer(cols);
    const double one = 1, zero = 0;
    dsyrk_("L", is_inner ? "N" : "T", &n, &k, &one, a, &lda, &zero, ret, &n, 1, 1);
    const size_t order = (size_t)n;
    for (size_t i = 0; i < order; i++) /* Fortran's lower triangle is our upper one */
        for (size_t j = 0; j < i; j++)
            ret[i * order + j] = ret[j * order + i];
}

void lyap_linalg_gram_complex(uint32_t rows, uint32_t cols, const double *a, bool is_inner,
                              double *ret)
{
    /* Of A' (no conjugation): A' conj(A) and conj(A) A', the conjugates of what is asked for, which
     * have the same eigenvalues. */
    const fortran_integer n = integer(is_inner ? cols : rows), k = integer(is_inner ? rows : cols);
    const fortran_integer lda = integer(cols);
    const double one = 1, zero = 0;
    zherk_("L", is_inner ? "N" : "C", &n, &k, &one, a, &lda, &zero, ret, &n, 1, 1);
}

uint64_t lyap_linalg_hermitian_scratch(uint32_t n)
{
    return 2 * (BLOCKING + 1) * (uint64_t)n + 4 * (uint64_t)n; /* work; values and rwork */
}

enum lyap_status lyap_linalg_hermitian_top(uint32_t n, double *a, double *scratch,
                                           double *ret_value)
{
    const fortran_integer order = integer(n), lwork = integer((BLOCKING + 1) * n);
    fortran_integer info = 0;
    double *values = scratch, *rwork = values + n, *work = rwork + 3 * (size_t)n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++)
            if (!lyap_linalg_is_finite(a + 2 * (i * n + j), 2))
                return LYAP_E_NUMERIC;
    zheev_("N", "L", &order, a, &order, values, work, &lwork, rwork, &info, 1, 1);
    if (info != 0)
        return LYAP_E_NUMERIC;
    *ret_value = values[n - 1];
    return LYAP_OK;
}
