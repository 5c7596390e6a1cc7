/* stats.h - robust and least-squares statistics of short samples. Every function takes finite
 * values and at least one of them. THREADS: pure functions. */
#ifndef LYAP_STATS_H
#define LYAP_STATS_H

#include <stdint.h>

/* 1.4826: the MAD of a normal law is its standard deviation divided by this. */
#define LYAP_STATS_MAD_SCALE 1.4826

/* The mean of the two middle values for an even count. Reorders `values`. */
double lyap_stats_median(double *values, uint32_t count);
/* Median of |values - centre|. Overwrites `values`. */
double lyap_stats_deviation(double *values, uint32_t count, double centre);
/* Quantile by linear interpolation between order statistics, 0 <= q <= 1. Reorders `values`. */
double lyap_stats_quantile(double *values, uint32_t count, double q);
double lyap_stats_mean(const double *values, uint32_t count);

struct lyap_line {
    double mean, slope; /* at the middle of the window; per sample */
    double rise;        /* slope times (count - 1) */
    double t;           /* slope / (its standard error + 1e-12 + 1e-3 |slope|) */
};
/* Least-squares line through equally spaced samples, count >= 2. */
struct lyap_line lyap_stats_line(const double *values, uint32_t count);

#endif
