/* Medians, deviations and lines. */
#include "stats.h"

#include <assert.h>
#include <math.h>

/* Hoare's selection: afterwards values[rank] is the order statistic, none before it is larger, none
 * after it smaller. */
static double select_rank(double *values, uint32_t count, uint32_t rank)
{
    int64_t low = 0, high = (int64_t)count - 1;
    const int64_t wanted = rank;
    while (low < high) {
        const double pivot = values[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (values[i] < pivot)
                i++;
            while (values[j] > pivot)
                j--;
            if (i <= j) {
                const double swapped = values[i];
                values[i++] = values[j];
                values[j--] = swapped;
            }
        }
        if (wanted <= j)
            high = j;
        else if (wanted >= i)
            low = i;
        else
            break; /* between the parts: equal to the pivot */
    }
    return values[wanted];
}

static double least(const double *values, uint32_t count)
{
    double found = values[0];
    for (uint32_t i = 1; i < count; i++)
        found = fmin(found, values[i]);
    return found;
}

double lyap_stats_median(double *values, uint32_t count)
{
    assert(count > 0);
    const uint32_t middle = count / 2;
    const double lower = select_rank(values, count, count % 2 ? middle : middle - 1);
    if (count % 2)
        return lower;
    return 0.5 * (lower + least(values + middle, count - middle));
}

double lyap_stats_deviation(double *values, uint32_t count, double centre)
{
    for (uint32_t i = 0; i < count; i++)
        values[i] = fabs(values[i] - centre);
    return lyap_stats_median(values, count);
}

double lyap_stats_quantile(double *values, uint32_t count, double q)
{
    assert(count > 0 && q >= 0 && q <= 1);
    const double place = q * (count - 1);
    const uint32_t rank = (uint32_t)place;
    const double below = select_rank(values, count, rank);
    if (rank + 1 >= count)
        return below;
    const double above = least(values + rank + 1, count - rank - 1);
    return below + (place - rank) * (above - below);
}

double lyap_stats_mean(const double *values, uint32_t count)
{
    assert(count > 0);
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += values[i];
    return sum / count;
}

struct lyap_line lyap_stats_line(const double *values, uint32_t count)
{
    assert(count >= 2);
    const double middle = 0.5 * (count - 1), mean = lyap_stats_mean(values, count);
    double xx = 0, xy = 0, rr = 0;
    for (uint32_t i = 0; i < count; i++) {
        const double x = i - middle;
        xx += x * x;
        xy += x * values[i];
    }
    const double slope = xy / xx;
    for (uint32_t i = 0; i < count; i++) {
        const double r = values[i] - mean - slope * (i - middle);
        rr += r * r;
    }
    const double freedom = count > 3 ? count - 2.0 : 1.0;
    const double error = sqrt(rr / freedom / xx);
    return (struct lyap_line){ .mean = mean,
                               .slope = slope,
                               .rise = slope * (count - 1),
                               .t = slope / (error + 1e-12 + 1e-3 * fabs(slope)) };
}
