/* detector.h - the loss-scaled instability detector: what is at stake (E) and what the last
 * updates did to it (docs/detection.md). Embedded by value.
 * THREADS: one owner at a time. */
#ifndef LYAP_DETECTOR_H
#define LYAP_DETECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/status.h"

enum {
    LYAP_DETECTOR_LOSSES = 50,   /* MAD of sigma */
    LYAP_DETECTOR_MEDIAN = 20,   /* lambda */
    LYAP_DETECTOR_LEAST = 5,     /* running minimum of medians of five */
    LYAP_DETECTOR_SLOPE = 10,    /* least-squares line */
    LYAP_DETECTOR_WORKS = 5,     /* W5 */
    LYAP_DETECTOR_CURVATURES = 3 /* med3 of q */
};

struct lyap_detector {
    double reference; /* ref; NaN until the first loss */
    double least;     /* m; NaN until the first loss */
    bool is_inherited;
    double first[3]; /* the first losses, whose median is ref */
    uint32_t first_count;
    double losses[LYAP_DETECTOR_LOSSES]; /* newest last */
    uint32_t loss_count;
    double works[LYAP_DETECTOR_WORKS];
    uint32_t work_count;
    double curvatures[LYAP_DETECTOR_CURVATURES];
    uint32_t curvature_count;
    double edge_rise, edge_square; /* EMA of <dg,D> and <D,PD>, decay .8 */
};

/* What the newest loss says; NaN: not enough data for that one. */
struct lyap_loss_view {
    double scale, excess, spread, ratio, rise, rise_t;
};

/* `reference` NaN: learned from the first three losses. */
LYAP_API void lyap_detector_init(struct lyap_detector *d, double reference);
/* Takes a finite loss. */
LYAP_API struct lyap_loss_view lyap_detector_loss(struct lyap_detector *d, double loss);
/* Takes W = net work over E; returns the sum of the newest five. */
LYAP_API double lyap_detector_work(struct lyap_detector *d, double net_work);
/* Takes <dg,D>/<D,PD> and <D,PD>. */
LYAP_API void lyap_detector_secant(struct lyap_detector *d, double curvature, double delta_p);
/* Median of the newest three max(kappa, 0); NaN before the first. */
LYAP_API double lyap_detector_curvature(const struct lyap_detector *d);
/* EMA(<dg,D>)/EMA(<D,PD>); NaN before the first. */
LYAP_API double lyap_detector_edge(const struct lyap_detector *d);

#endif
