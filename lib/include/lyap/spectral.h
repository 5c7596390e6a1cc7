/* spectral.h - the largest singular value sigma_1 of a matrix from below and from above (SPEC 1.2).
 * Matrices are row-major rows x cols doubles; a block of vectors is `block` vectors of cols
 * elements, one after another. What is bounded has the unit of W. "True" means up to rounding, of
 * about 1e-14 relative. Nothing here keeps memory. THREADS: pure functions. */
#ifndef LYAP_SPECTRAL_H
#define LYAP_SPECTRAL_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/status.h"

enum {
    LYAP_SPECTRAL_BLOCK = 2,             /* median error 6e-3 at one iteration a snapshot (E1) */
    LYAP_SPECTRAL_MARKS = 2,             /* sums of signed rows: what moved, seen from afar */
    LYAP_SPECTRAL_BLOCK_MAX = 8,         /* more vectors cost more than more iterations */
    LYAP_SPECTRAL_ITERATIONS_COLD = 8,   /* at first sight, and after |W|_F moved by 10 % */
    LYAP_SPECTRAL_SQUARINGS = 6,         /* of the Gram bound: at most .2 % over (E1) */
    LYAP_SPECTRAL_SQUARINGS_MAX = 20,    /* r^(1/2^22): below rounding for any rank */
    LYAP_SPECTRAL_GRAM_SIDE_MAX = 2048,  /* 1e11 flops, 64 MiB */
    LYAP_SPECTRAL_ELEMENTS_MAX = 1 << 28 /* of a matrix that is copied: 2 GiB */
};

struct lyap_spectral_matrix {
    const double *values; /* borrowed, row-major */
    uint32_t rows, cols;  /* 1 .. INT32_MAX */
};

/* The block size a matrix bears: at most `wanted`, rows and cols. */
LYAP_API uint32_t lyap_spectral_block(uint32_t rows, uint32_t cols, uint32_t wanted);
/* Start vectors, orthonormal, up to rounding the same for the same seed everywhere; block <=
 * LYAP_SPECTRAL_BLOCK_MAX and cols. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_spectral_start(uint64_t seed, uint32_t cols,
                                                              uint32_t block, double *ret_v);

/* -- from below, W at hand (class I, lower) -- */
struct lyap_spectral_estimate {
    double sigma;    /* <= sigma_1 */
    double residual; /* |W v - sigma u|: some singular value lies within it of sigma, not
                        necessarily the largest */
};
/* `iterations` (>= 1) times Q = qr(W V), [V, R] = qr(W'Q); sigma = sigma_1(R). 4 rows cols block
 * flops each. `v` (see lyap_spectral_block) holds the start and, on OK, what the next snapshot
 * starts from, the best vector first. E_NUMERIC: a non-finite entry; E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_power(const struct lyap_spectral_matrix *w, uint32_t block, uint32_t iterations,
                    double *v, struct lyap_spectral_estimate *ret_estimate);

/* -- from below, W streamed by whole rows (class I, lower) -- */
/* One power step from Z = W'(W V) alone, V orthonormal and fixed before the first row; row shards
 * of several ranks add, Z by Z. With G = V'Z = R'R (Cholesky): W'Q = Z R^-1, sigma = sigma_1(Z
 * R^-1); where G is numerically singular sigma = sqrt(sigma_1(Z)), also a lower bound. The residual
 * is as above. `v` becomes qr(Z), the best vector first, or stays when Z = 0. E_NUMERIC: a
 * non-finite entry, v as before; E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_stream(uint32_t cols, uint32_t block, const double *z, double *v,
                     struct lyap_spectral_estimate *ret_estimate);
/* Whether they are orthonormal, to 1e-9: then a stream's estimate is a bound. */
LYAP_API bool lyap_spectral_is_basis(uint32_t cols, uint32_t block, const double *v);
/* Orthonormal vectors for another block size: the first ones stay, new ones come from `seed`. `v`
 * has room for `wanted` (<= LYAP_SPECTRAL_BLOCK_MAX and cols). */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_resize(uint64_t seed, uint32_t cols, uint32_t block, uint32_t wanted, double *v);

/* Asked between parts of a long computation, from the thread that computes. */
struct lyap_spectral_stop {
    bool (*is_wanted)(void *ctx);
    void *ctx;
};

/* -- from above (class I, upper) -- */
/* sigma_1 <= value <= sigma_1 r^(1/2^(k+2)) with k squarings of the smaller Gram matrix, r = rank.
 * (2 max + 2 k min) min^2 flops and 16 min^2 bytes: seconds for min = 2048, never in a thread that
 * answers. E_LIMIT: min above LYAP_SPECTRAL_GRAM_SIDE_MAX, or too many elements; E_NUMERIC;
 * E_NOMEM; E_STOPPING: `stop` (may be NULL) wanted it, asked before each squaring. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_spectral_gram_upper(const struct lyap_spectral_matrix *w, uint32_t squarings,
                         const struct lyap_spectral_stop *stop, double *ret_upper);
/* sigma_1 itself by a singular value decomposition: a few min^2 max flops and a copy of W. E_LIMIT:
 * more than LYAP_SPECTRAL_ELEMENTS_MAX elements; E_NUMERIC; E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_spectral_norm(const struct lyap_spectral_matrix *w,
                                                             double *ret_norm);

#endif
