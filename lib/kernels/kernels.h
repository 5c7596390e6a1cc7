/* kernels.h - the leaf loops of ingest, compiled once per instruction set, all with the same result
 * to the last bit: sums run in LYAP_LANES fixed lanes, whatever the width of the registers, and
 * contraction is off. `count` is a multiple of LYAP_SKETCH_BLOCK wherever a comment says so:
 * callers pad the last block with zeros. Arrays do not overlap. THREADS: pure functions. */
#ifndef LYAP_KERNELS_H
#define LYAP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "lyap/dtype.h"
#include "lyap/limits.h"
#include "lyap/spectral.h"

enum { LYAP_LANES = 8 }; /* doubles of one cache line; the widest register of today */

/* A sum in progress: element i of a block goes to lane i % LYAP_LANES. */
struct lyap_lanes {
    double lane[LYAP_LANES];
};

/* Moments of one sum block in progress. All zero at the start of the block. */
struct lyap_moment_sums {
    struct lyap_lanes abs, max;
    double sq;       /* sum of the energies of the sketch blocks, in order */
    double block_sq; /* the largest of them */
    uint64_t zeros;
};

/* Products of two snapshots, in this order. */
enum lyap_pair_sum {
    LYAP_PAIR_GRAD_PARAM,
    LYAP_PAIR_GRAD_PREV_DELTA,
    LYAP_PAIR_GRAD_DELTA,
    LYAP_PAIR_GRAD_DIFF_SQ,
    LYAP_PAIR_GRAD_GRAD_PREV,
    LYAP_PAIR_COUNT
};

/* Blocks of a sketch: which coordinates, and where they go. */
struct lyap_sketch_run {
    uint64_t seed;        /* lyap_sketch_seed */
    uint64_t first_block; /* index / LYAP_SKETCH_BLOCK of the first coordinate */
    uint32_t size;        /* k */
};

/* Constants of an adaptive step: rates of m and v (beta1 0: no m), 1 / (1 - beta^n) of both. */
struct lyap_gain {
    double beta1, beta2, inverse1, inverse2, eps, rate;
};

/* Extrema of F32 elements. */
struct lyap_scan {
    uint32_t
        largest; /* the bits of the largest |x|; LYAP_F32_INFINITY or more: one is not finite */
    uint64_t zeros;
};

enum { LYAP_F32_INFINITY = 0x7f800000, LYAP_MOVED_BLOCKS_MAX = 8 };

/* One F32 tensor at t and t - 1 under a linear rule, and the constants of its steps (step.h):
 *   D = param - param_prev
 *   p_{t-1} = step_grad grad_prev + step_param param_prev + part_prev
 *   part    = part_delta D + part_grad grad_prev + part_param param_prev, the momentum's part of
 * p_t rest    = rest_param param + part, which is p_t without the gradient's share. Arrays of a
 * body or a plane are not aligned. Without momentum part and part_prev are NULL. */
struct lyap_moved {
    const void *param, *grad, *param_prev, *grad_prev, *part_prev;
    float *part; /* takes it rounded; what is summed is not */
    double step_grad, step_param, part_delta, part_grad, part_param, rest_param;
};

/* In progress over a sum block. */
struct lyap_moved_sums {
    struct lyap_moment_sums moments; /* of D */
    struct lyap_lanes pair[LYAP_PAIR_COUNT];
    struct lyap_lanes error, size;        /* |D - p_{t-1}|^2, |p_{t-1}|^2 */
    struct lyap_lanes rest_sq, rest_grad; /* |rest|^2, <rest, g>; zero of a rule without rest */
    struct lyap_lanes energies[LYAP_MOVED_BLOCKS_MAX]; /* scratch: of the blocks of D */
};

/* Types of element that the loops over rows read: doubles, and F32 in place. */
enum lyap_rows { LYAP_ROWS_F64, LYAP_ROWS_F32, LYAP_ROWS_COUNT };

/* z_j += W'(W v_j) in progress; vectors one after another. */
struct lyap_projection {
    const double *v;
    double *z;
    size_t cols;
    uint32_t block; /* vectors */
    /* LYAP_SPECTRAL_MARKS vectors: the k-th += W's rows, each with its k-th sign. NULL: none. */
    double *marks;
    uint64_t row; /* index in W of the first row that comes */
};
/* The finaliser of SplitMix64. */
static inline uint64_t lyap_mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}
/* Of a row in the k-th mark: 1 or -1, the same in every snapshot. */
static inline double lyap_row_sign(uint64_t row, uint32_t k)
{
    return lyap_mix64((row + 1) * UINT64_C(0x9E3779B97F4A7C15)) >> k & 1 ? 1 : -1;
}

/* Sums of |w| in progress: of every column, and the largest of a row; likewise of squares. */
struct lyap_magnitude_sums {
    double *columns;
    double row_abs, row_sq;
};

struct lyap_kernels {
    const char *name;
    /* Exact; `source` is unaligned, any count. */
    void (*widen[LYAP_DTYPE_COUNT])(const void *source, size_t count, double *ret);
    /* Copies past the caches, where the target (aligned to a cache line) is not read again soon:
     * a store that misses would first read the line. settle, before others may read it. */
    void (*stream)(void *target, const void *source, size_t bytes);
    void (*settle)(void);
    /* count: multiple of the block; elements finite and |x| <= LYAP_MAGNITUDE_MAX, or the sums say
     * so by not being finite. */
    void (*moments)(const double *x, size_t count, struct lyap_moment_sums *sums);
    /* Adds `blocks` whole blocks; `sums` has size + LYAP_SKETCH_BLOCK values: a block never wraps,
     * the caller folds the last ones onto the first. */
    void (*sketch)(const double *x, size_t blocks, const struct lyap_sketch_run *run, double *sums);
    /* <x, y>, |x - y|^2 and <x, w y>; count: multiple of the block. */
    void (*dot)(const double *x, const double *y, size_t count, struct lyap_lanes *sum);
    void (*diff_sq)(const double *x, const double *y, size_t count, struct lyap_lanes *sum);
    void (*dot_weighted)(const double *x, const double *y, const double *w, size_t count,
                         struct lyap_lanes *sum);
    /* The products of two snapshots in one pass: arrays are theta_t's gradient pair and D. */
    void (*pair)(const double *const arrays[4], size_t count, struct lyap_lanes *sums);
    /* ret = x - y; and ret = a x + b y, elementwise. */
    void (*subtract)(const double *x, const double *y, size_t count, double *ret);
    void (*combine)(const double *x, const double *y, size_t count, const double factors[2],
                    double *ret);
    /* ret = a x + b y^2, elementwise. */
    void (*combine_sq)(const double *x, const double *y, size_t count, const double factors[2],
                       double *ret);
    /* Of a linear step p = factors[0] g + factors[1] theta + M: |D - p|^2, |p|^2; arrays: D, g,
     * theta, M. */
    void (*linear_error)(const double *const arrays[4], size_t count, const double factors[2],
                         struct lyap_lanes sums[2]);
    /* ret = 1 / max(factors[0] v, factors[1]), 0 where both are 0, elementwise. */
    void (*inverse)(const double *v, size_t count, const double factors[2], double *ret);
    /* The derivative of the adaptive step (SPEC 1.6), elementwise; arrays: g pushed, g effective,
     * m, v. Into rets: the derivative, g times it, g times that with P held. */
    void (*gain)(const double *const arrays[4], size_t count, const struct lyap_gain *constants,
                 double *const rets[3]);
    /* Adds to LYAP_GAIN_BINS counts by log2 |x| (lyap_update_gain_bin); what is not finite in none.
     * Any count below 2^32. */
    void (*histogram)(const double *x, size_t count, uint64_t *counts);
    /* Rounds to F32; `ret` is unaligned. */
    void (*narrow)(const double *x, size_t count, void *ret);
    /* ret = factors[0] (sqrt(factors[1] v) + factors[2]), elementwise. */
    void (*precondition)(const double *v, size_t count, const double factors[3], double *ret);
    /* ret = factor x / y, elementwise. */
    void (*quotient)(const double *x, const double *y, size_t count, double factor, double *ret);
    /* x /= divisor, elementwise. */
    void (*divide)(double *x, size_t count, double divisor);
    /* F32 in place, unaligned; count: multiple of the block. absorb adds to moments (all but max
     * and zeros) and sketch; elements are finite. */
    void (*scan_f32)(const void *source, size_t count, struct lyap_scan *ret);
    void (*absorb_f32)(const void *source, size_t blocks, const struct lyap_sketch_run *run,
                       struct lyap_moment_sums *sums, double *sketch_sums);
    /* count: multiple of the block, LYAP_MOVED_BLOCKS_MAX of them at most; elements are finite. */
    void (*moved_f32)(const struct lyap_moved *arrays, size_t count, struct lyap_moved_sums *sums);
    /* Whole rows of p->cols elements, one after another, F32 unaligned: any number of both. Rows
     * are added one by one, so that their cut into calls does not show. */
    void (*project[LYAP_ROWS_COUNT])(const void *rows, size_t count,
                                     const struct lyap_projection *p);
    void (*magnitudes[LYAP_ROWS_COUNT])(const void *rows, size_t count, size_t cols,
                                        struct lyap_magnitude_sums *sums);
};

/* The widest variant this CPU has. Cheap: the choice is one look at a table of the compiler. */
const struct lyap_kernels *lyap_kernels_best(void);
/* Every variant this CPU can run, widest first; NULL when index is past the last. For tests. */
const struct lyap_kernels *lyap_kernels_variant(unsigned index);

/* Lanes in their fixed order. */
static inline double lyap_lanes_total(const struct lyap_lanes *sum)
{
    const double *s = sum->lane;
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

#endif
