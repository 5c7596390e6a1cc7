/* lookback.h - the points behind the newest one, as far back as expressions of rules look. Pushing
 * the stored points of an attempt in order gives the same content as pushing the live ones.
 * THREADS: one owner at a time. */
#ifndef LYAP_LOOKBACK_H
#define LYAP_LOOKBACK_H

#include "lyap/limits.h"
#include "lyap/point.h"

/* What the rules in force look back at. */
struct lyap_lookback_needs {
    bool metrics[LYAP_METRIC_COUNT];
    uint32_t depth; /* points before the present one, at most LYAP_EXPR_WINDOW_MAX */
    uint32_t first; /* first points of the attempt, likewise */
};

struct lyap_lookback {                  /* embed by value; only lookback.c touches the fields */
    int16_t columns[LYAP_METRIC_COUNT]; /* index of the metric's column, -1: not kept */
    uint32_t column_count, depth, first_depth;
    double *ring;    /* depth rows of column_count values; NaN: absent, infinite: non-finite */
    double *first;   /* first_depth such rows */
    uint64_t points; /* pushed */
};

/* On failure (E_NOMEM) *lookback keeps nothing and can be released and used. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_lookback_init(struct lyap_lookback *lookback, const struct lyap_lookback_needs *needs);
LYAP_API void lyap_lookback_release(struct lyap_lookback *lookback);
/* Whether everything of `needs` is kept. */
LYAP_API bool lyap_lookback_covers(const struct lyap_lookback *lookback,
                                   const struct lyap_lookback_needs *needs);
/* Values of non-finite or skipped steps are not kept (SPEC 6.4), but a non-finite one is counted.
 */
LYAP_API void lyap_lookback_push(struct lyap_lookback *lookback, const struct lyap_point *point);
LYAP_API uint64_t lyap_lookback_points(const struct lyap_lookback *lookback);

/* The finite values of a metric among the `window` points before the last `skipped`, oldest first
 * (room for `window`); returns how many. *ret_nonfinite: how many were there and not finite. */
struct lyap_lookback_range {
    uint32_t window, skipped;
};
LYAP_API uint32_t lyap_lookback_window(const struct lyap_lookback *lookback,
                                       enum lyap_metric metric, struct lyap_lookback_range range,
                                       double *ret_values, uint32_t *ret_nonfinite);
/* The same of the first `count` points of the attempt. */
LYAP_API uint32_t lyap_lookback_first(const struct lyap_lookback *lookback, enum lyap_metric metric,
                                      uint32_t count, double *ret_values);
/* The value `back` points ago, from 1; NaN: absent, or not so many points; infinite: non-finite. */
LYAP_API double lyap_lookback_at(const struct lyap_lookback *lookback, enum lyap_metric metric,
                                 uint32_t back);

#endif
