/* trail.h - windows over the newest values of a series that an observer keeps. A value may be NaN:
 * absent. No window is longer than its series is kept.
 * THREADS: pure functions but for push, which has the observer's owner. */
#ifndef LYAP_TRAIL_H
#define LYAP_TRAIL_H

#include <stdbool.h>

#include "lyap/observe.h"

/* What the point has in a column; NaN: absent. */
double lyap_column(const struct lyap_point *point, enum lyap_metric metric);
void lyap_trail_push(struct lyap_observer *o, enum lyap_series series, double value);
/* Value `back` points before the newest of the series; NaN: not there. */
double lyap_trail_back(const struct lyap_observer *o, enum lyap_series series, uint32_t back);
/* Finite ones of the newest `length` values; returns how many. */
uint32_t lyap_trail_finite(const struct lyap_observer *o, enum lyap_series series, uint32_t length,
                           double ret[LYAP_TRAIL_MAX]);
/* Largest, median of the newest `length`; NaN where fewer than `least` of them are finite. */
double lyap_trail_max(const struct lyap_observer *o, enum lyap_series series, uint32_t length,
                      uint32_t least);
double lyap_trail_median(const struct lyap_observer *o, enum lyap_series series, uint32_t length,
                         uint32_t least);
/* lyap_trail_max as it was `back` points before. */
double lyap_trail_max_before(const struct lyap_observer *o, enum lyap_series series, uint32_t back,
                             uint32_t length, uint32_t least);
/* The largest of the newest `length - 1` values and of `value`; NaN: none is known. */
double lyap_trail_peak(const struct lyap_observer *o, enum lyap_series series, uint32_t length,
                       double value);
/* Distance from the median of the newest 50, in MADs of at least 0.1; `is_scaled` false: as it is.
 * NaN below ten values. */
double lyap_trail_z(const struct lyap_observer *o, enum lyap_series series, double value,
                    bool is_scaled);
/* log of a finite positive value, else NaN. */
double lyap_log_or_nan(double value);

#endif
