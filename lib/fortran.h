/* fortran.h - BLAS and LAPACK symbols, for linalg*.c alone. The trailing arguments are the hidden
 * lengths of the strings. Complex numbers are pairs of doubles.
 * THREADS: as safe as the BLAS, which works on the arrays of the call alone. */
#ifndef LYAP_FORTRAN_H
#define LYAP_FORTRAN_H

#include <assert.h>
#include <limits.h>
#include <stddef.h>

/* Fortran's INTEGER of the LP64 interface, which Debian's libopenblas has (the ILP64 one is
 * libopenblas64 with suffixed symbols). */
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
void dgeqrf_(const fortran_integer *m, const fortran_integer *n, double *a,
             const fortran_integer *lda, double *tau, double *work, const fortran_integer *lwork,
             fortran_integer *info);
void dorgqr_(const fortran_integer *m, const fortran_integer *n, const fortran_integer *k,
             double *a, const fortran_integer *lda, const double *tau, double *work,
             const fortran_integer *lwork, fortran_integer *info);
void dgesvd_(const char *jobu, const char *jobvt, const fortran_integer *m,
             const fortran_integer *n, double *a, const fortran_integer *lda, double *s, double *u,
             const fortran_integer *ldu, double *vt, const fortran_integer *ldvt, double *work,
             const fortran_integer *lwork, fortran_integer *info, size_t jobu_length,
             size_t jobvt_length);
void dgesdd_(const char *jobz, const fortran_integer *m, const fortran_integer *n, double *a,
             const fortran_integer *lda, double *s, double *u, const fortran_integer *ldu,
             double *vt, const fortran_integer *ldvt, double *work, const fortran_integer *lwork,
             fortran_integer *iwork, fortran_integer *info, size_t jobz_length);
void dpotrf_(const char *uplo, const fortran_integer *n, double *a, const fortran_integer *lda,
             fortran_integer *info, size_t uplo_length);
void dtrsm_(const char *side, const char *uplo, const char *transa, const char *diag,
            const fortran_integer *m, const fortran_integer *n, const double *alpha,
            const double *a, const fortran_integer *lda, double *b, const fortran_integer *ldb,
            size_t side_length, size_t uplo_length, size_t transa_length, size_t diag_length);
void dgemm_(const char *transa, const char *transb, const fortran_integer *m,
            const fortran_integer *n, const fortran_integer *k, const double *alpha,
            const double *a, const fortran_integer *lda, const double *b,
            const fortran_integer *ldb, const double *beta, double *c, const fortran_integer *ldc,
            size_t transa_length, size_t transb_length);
void dsyrk_(const char *uplo, const char *trans, const fortran_integer *n, const fortran_integer *k,
            const double *alpha, const double *a, const fortran_integer *lda, const double *beta,
            double *c, const fortran_integer *ldc, size_t uplo_length, size_t trans_length);
void zherk_(const char *uplo, const char *trans, const fortran_integer *n, const fortran_integer *k,
            const double *alpha, const double *a, const fortran_integer *lda, const double *beta,
            double *c, const fortran_integer *ldc, size_t uplo_length, size_t trans_length);
void zheev_(const char *jobz, const char *uplo, const fortran_integer *n, double *a,
            const fortran_integer *lda, double *w, double *work, const fortran_integer *lwork,
            double *rwork, fortran_integer *info, size_t jobz_length, size_t uplo_length);

#endif
