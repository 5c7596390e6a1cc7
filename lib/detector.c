/* Loss scale and work windows. */
#include "lyap/detector.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "stats.h"

static const double PROGRESS_SHARE = 0.5;  /* E: half of the progress so far ... */
static const double REFERENCE_SHARE = 0.1; /* ... or a tenth of the initial loss */
static const double SCALE_LEAST = 1e-12;
static const double EDGE_DECAY = 0.8;
enum { SPREAD_COUNT_LEAST = 6 };

void lyap_detector_init(struct lyap_detector *d, double reference)
{
    *d = (struct lyap_detector){ .reference = reference,
                                 .least = NAN,
                                 .is_inherited = isfinite(reference) };
}

/* Appends to a short array, newest last, dropping the oldest when it is full. */
static void append(double *values, uint32_t *count, uint32_t capacity, double value)
{
    if (*count == capacity) {
        memmove(values, values + 1, (capacity - 1) * sizeof *values);
        --*count;
    }
    values[(*count)++] = value;
}

static double newest_median(const double *values, uint32_t count, uint32_t window)
{
    double work[LYAP_DETECTOR_LOSSES];
    const uint32_t n = count < window ? count : window;
    assert(n > 0 && n <= LYAP_DETECTOR_LOSSES);
    memcpy(work, values + count - n, n * sizeof *work);
    return lyap_stats_median(work, n);
}

/* ref is the median of the first three losses, unless inherited; m starts with them. */
static void learn_reference(struct lyap_detector *d, double loss)
{
    if (d->first_count >= 3)
        return;
    d->first[d->first_count++] = loss;
    const double middle = newest_median(d->first, d->first_count, 3);
    if (!d->is_inherited)
        d->reference = middle;
    d->least = isnan(d->least) ? middle : fmin(d->least, middle);
}

static double spread_of(const struct lyap_detector *d)
{
    double work[LYAP_DETECTOR_LOSSES];
    memcpy(work, d->losses, d->loss_count * sizeof *work);
    const double middle = lyap_stats_median(work, d->loss_count);
    return LYAP_STATS_MAD_SCALE * lyap_stats_deviation(work, d->loss_count, middle);
}

struct lyap_loss_view lyap_detector_loss(struct lyap_detector *d, double loss)
{
    assert(isfinite(loss));
    struct lyap_loss_view view = { NAN, NAN, NAN, NAN, NAN, NAN };
    if (d->loss_count > 0) {
        /* Of the losses before; a median <= 0 has no meaning as a level. */
        const double middle = newest_median(d->losses, d->loss_count, LYAP_DETECTOR_MEDIAN);
        if (middle > 0)
            view.ratio = loss / middle;
    }
    append(d->losses, &d->loss_count, LYAP_DETECTOR_LOSSES, loss);
    learn_reference(d, loss);
    const double progress = fmax(d->reference - d->least, 0);
    view.scale =
        fmax(fmax(PROGRESS_SHARE * progress, REFERENCE_SHARE * fabs(d->reference)), SCALE_LEAST);
    view.excess = (loss - d->least) / view.scale;
    if (d->loss_count >= SPREAD_COUNT_LEAST)
        view.spread = spread_of(d) / view.scale;
    if (d->loss_count >= LYAP_DETECTOR_SLOPE) {
        double scaled[LYAP_DETECTOR_SLOPE];
        for (uint32_t i = 0; i < LYAP_DETECTOR_SLOPE; i++)
            scaled[i] = d->losses[d->loss_count - LYAP_DETECTOR_SLOPE + i] / view.scale;
        const struct lyap_line line = lyap_stats_line(scaled, LYAP_DETECTOR_SLOPE);
        view.rise = line.rise;
        view.rise_t = line.t;
    }
    d->least = fmin(d->least, newest_median(d->losses, d->loss_count, LYAP_DETECTOR_LEAST));
    return view;
}

double lyap_detector_work(struct lyap_detector *d, double net_work)
{
    append(d->works, &d->work_count, LYAP_DETECTOR_WORKS, net_work);
    double sum = 0;
    for (uint32_t i = 0; i < d->work_count; i++)
        sum += d->works[i];
    return sum;
}

void lyap_detector_secant(struct lyap_detector *d, double curvature, double delta_p)
{
    append(d->curvatures, &d->curvature_count, LYAP_DETECTOR_CURVATURES, fmax(curvature, 0));
    d->edge_rise = EDGE_DECAY * d->edge_rise + curvature * delta_p;
    d->edge_square = EDGE_DECAY * d->edge_square + delta_p;
}

double lyap_detector_curvature(const struct lyap_detector *d)
{
    return d->curvature_count == 0
               ? (double)NAN
               : newest_median(d->curvatures, d->curvature_count, LYAP_DETECTOR_CURVATURES);
}

double lyap_detector_edge(const struct lyap_detector *d)
{
    return d->edge_square > 0 ? d->edge_rise / d->edge_square : (double)NAN;
}
