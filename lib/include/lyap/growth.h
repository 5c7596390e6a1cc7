/* growth.h - what a window of log-norms says about the growth of perturbations, and what an energy
 * promises about it (SPEC 4.1-4.2, 2.6). THREADS: pure functions. */
#ifndef LYAP_GROWTH_H
#define LYAP_GROWTH_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/status.h"

enum {
    LYAP_GROWTH_VALUES_MIN = 65, /* y_0..y_64: eight blocks of eight */
    LYAP_GROWTH_BLOCKS = 8,
    LYAP_GROWTH_WIDTH_MAX = 3 /* states of a transition matrix (transition.h) */
};

/* X(enum, wire name, meaning over the window). In the order of what they say against stability; the
 * number is the value of the metrics window_verdict and active_verdict. */
#define LYAP_GROWTH_TABLE(X)                                                                       \
    X(DECAY, "decay", "fell by more than a factor 2")                                              \
    X(BOUNDED, "bounded", "no rise above a factor 10, from any moment of the window on")           \
    X(INCONCLUSIVE, "inconclusive", "the noise hides whether it grows")                            \
    X(SUBEXPONENTIAL, "subexponential", "grows, and ever more slowly")                             \
    X(UNRESOLVED, "growth-unresolved", "grows; the noise hides how")                               \
    X(EXPONENTIAL, "exponential", "grows at a rate that does not fall")

enum lyap_growth {
#define LYAP_GROWTH_ENUM(name, wire, meaning) LYAP_GROWTH_##name,
    LYAP_GROWTH_TABLE(LYAP_GROWTH_ENUM)
#undef LYAP_GROWTH_ENUM
        LYAP_GROWTH_COUNT
};

/* Class E: 99 % interval under random-walk noise of the log-norm (coverage .95-1.00 measured, E9),
 * conservative for level noise. It speaks of this window alone. */
struct lyap_growth_fit {
    enum lyap_growth verdict;
    double rate, ci;    /* nats per value: divide by the steps between values; half-width */
    double rise, half;  /* nats over the window: rate and ci times the values in the blocks */
    double log_m;       /* max over s <= t of y_t - y_s: log of the largest gain seen */
    double log_m_block; /* the same of the block means */
    double late_ratio;  /* rise of the late half over the early one; NaN unless it grows */
};

/* y: log-norms of one perturbation, renormalisations added back, oldest first, the first when it
 * was injected. E_TOO_FEW below LYAP_GROWTH_VALUES_MIN; E_NUMERIC for a non-finite value (the log
 * of a distance that vanished included). */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_growth_fit(const double *y, uint32_t count,
                                                          struct lyap_growth_fit *ret_fit);
LYAP_API const char *lyap_growth_name(enum lyap_growth growth);
/* The verdict that the table of SPEC 4.3 takes: unresolved growth above ln 100 over the window
 * counts as exponential. */
LYAP_API enum lyap_growth lyap_growth_judged(const struct lyap_growth_fit *fit);

/* The fit of log-norms known at `steps` (ascending): rate and ci per step, by the mean spacing. A
 * window with a gap longer than one of its eight blocks is refused (E_STEP_ORDER): its blocks are
 * not of equal length. E_TOO_FEW, E_NUMERIC. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_growth_fit_steps(const int64_t *steps,
                                                                const double *y, uint32_t count,
                                                                struct lyap_growth_fit *ret_fit);
/* Where the newest injection begins: a log-norm that is 0 after one that was not. 0: no such. */
LYAP_API uint32_t lyap_growth_injection(const double *y, uint32_t count);

/* Solves A'PA - P = -Q; width x width, row-major, width <= LYAP_GROWTH_WIDTH_MAX, Q symmetric and
 * NULL for I. E_NOT_FOUND: the spectral radius of A is >= 1, there is no such P. E_NUMERIC. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_growth_dlyap(uint32_t width, const double *a,
                                                            const double *q, double *ret_p);

/* |A^t| <= gain exp(rate t) for every t >= 0: class I for constant A, C for a run. */
struct lyap_growth_bound {
    double rate; /* log(1 - 1/lambda_max(P))/2 < 0, per step */
    double gain; /* sqrt(lambda_max(P)/lambda_min(P)) >= 1 */
};
/* From the P of lyap_growth_dlyap with Q = I; its errors. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_growth_energy_bound(uint32_t width, const double *a, struct lyap_growth_bound *ret_bound);

/* An incremental energy with c1 I <= P_t <= c2 I that falls by q a step bounds the gain from s to t
 * by sqrt(c2/c1) q^((t-s)/2). True when the fit exceeds that (SPEC 4.3 `theorem-check-failed`):
 * rate > log(q)/2 + ci, or log M > log(condition)/2. Rates of the fit are per step here. */
LYAP_API bool lyap_growth_contradicts(const struct lyap_growth_fit *fit, double q,
                                      double condition);

/* E[(1 - lr a)^2] of SGD along one direction, from the mean and variance of the batches' curvature
 * a there: above 1 the mean square grows. Class C: one direction, correlated with the batch. It
 * says nothing about the typical run, whose exponent may be negative all the same. */
LYAP_API double lyap_growth_mean_square(double lr, double mean_curvature,
                                        double curvature_variance);

#endif
