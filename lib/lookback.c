/* Ring of the newest points' values, and the first ones of the attempt. */
#include "lyap/lookback.h"

#include <assert.h>
#include <math.h>

#include "lyap/alloc.h"
#include "banned.h"

static void keep_nothing(struct lyap_lookback *lookback)
{
    *lookback = (struct lyap_lookback){ .points = 0 };
    for (int i = 0; i < LYAP_METRIC_COUNT; i++)
        lookback->columns[i] = -1;
}

enum lyap_status lyap_lookback_init(struct lyap_lookback *lookback,
                                    const struct lyap_lookback_needs *needs)
{
    assert(needs->depth <= LYAP_EXPR_WINDOW_MAX && needs->first <= LYAP_EXPR_WINDOW_MAX);
    keep_nothing(lookback);
    int16_t count = 0;
    for (int i = 0; i < LYAP_METRIC_COUNT; i++)
        if (needs->metrics[i])
            lookback->columns[i] = count++;
    lookback->column_count = (uint32_t)count;
    if (count == 0)
        return LYAP_OK;
    double *ring = NULL, *first = NULL;
    if (needs->depth)
        ring = lyap_alloc_array((size_t)needs->depth * (size_t)count, sizeof *ring);
    if (needs->first)
        first = lyap_alloc_array((size_t)needs->first * (size_t)count, sizeof *first);
    if ((needs->depth && !ring) || (needs->first && !first)) {
        lyap_free(ring);
        lyap_free(first);
        keep_nothing(lookback);
        return LYAP_E_NOMEM;
    }
    lookback->ring = ring;
    lookback->first = first;
    lookback->depth = needs->depth;
    lookback->first_depth = needs->first;
    return LYAP_OK;
}

void lyap_lookback_release(struct lyap_lookback *lookback)
{
    lyap_free(lookback->ring);
    lyap_free(lookback->first);
    keep_nothing(lookback);
}

bool lyap_lookback_covers(const struct lyap_lookback *lookback,
                          const struct lyap_lookback_needs *needs)
{
    for (int i = 0; i < LYAP_METRIC_COUNT; i++)
        if (needs->metrics[i] && lookback->columns[i] < 0)
            return false;
    return needs->depth <= lookback->depth && needs->first <= lookback->first_depth;
}

static double kept(const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *value = &point->metrics[metric];
    if (value->reason != LYAP_REASON_NONE)
        return NAN;
    if (!isfinite(value->value))
        return INFINITY;
    return point->is_event_only ? NAN : value->value;
}

void lyap_lookback_push(struct lyap_lookback *lookback, const struct lyap_point *point)
{
    const size_t columns = lookback->column_count;
    double *recent =
        lookback->depth ? &lookback->ring[lookback->points % lookback->depth * columns] : NULL;
    double *first = lookback->points < lookback->first_depth
                        ? &lookback->first[lookback->points * columns]
                        : NULL;
    for (int i = 0; i < LYAP_METRIC_COUNT; i++) {
        const int column = lookback->columns[i];
        if (column < 0)
            continue;
        const double value = kept(point, (enum lyap_metric)i);
        if (recent)
            recent[column] = value;
        if (first)
            first[column] = value;
    }
    lookback->points++;
}

uint64_t lyap_lookback_points(const struct lyap_lookback *lookback)
{
    return lookback->points;
}

double lyap_lookback_at(const struct lyap_lookback *lookback, enum lyap_metric metric,
                        uint32_t back)
{
    assert(lookback->columns[metric] >= 0 && back >= 1 && back <= lookback->depth);
    if (back > lookback->points)
        return NAN;
    const uint64_t row = (lookback->points - back) % lookback->depth;
    return lookback->ring[row * lookback->column_count + (uint64_t)lookback->columns[metric]];
}

uint32_t lyap_lookback_window(const struct lyap_lookback *lookback, enum lyap_metric metric,
                              struct lyap_lookback_range range, double *ret_values,
                              uint32_t *ret_nonfinite)
{
    const uint64_t reach = (uint64_t)range.window + range.skipped;
    assert(lookback->columns[metric] >= 0 && range.window >= 1 && reach <= lookback->depth);
    const uint64_t past = lookback->points < reach ? lookback->points : reach;
    const uint32_t held = past > range.skipped ? (uint32_t)past - range.skipped : 0;
    const double *column = &lookback->ring[lookback->columns[metric]];
    uint64_t row = (lookback->points - past) % lookback->depth;
    uint32_t count = 0, nonfinite = 0;
    for (uint32_t i = 0; i < held; i++) {
        const double value = column[row * lookback->column_count];
        row = row + 1 == lookback->depth ? 0 : row + 1; /* a division a value would be the cost */
        if (isfinite(value))
            ret_values[count++] = value;
        nonfinite += isinf(value) ? 1 : 0;
    }
    *ret_nonfinite = nonfinite;
    return count;
}

uint32_t lyap_lookback_first(const struct lyap_lookback *lookback, enum lyap_metric metric,
                             uint32_t count, double *ret_values)
{
    assert(lookback->columns[metric] >= 0 && count <= lookback->first_depth);
    uint32_t found = 0;
    for (uint32_t i = 0; i < count && i < lookback->points; i++) {
        const double value =
            lookback->first[(size_t)i * lookback->column_count + (size_t)lookback->columns[metric]];
        if (isfinite(value))
            ret_values[found++] = value;
    }
    return found;
}
