/* probe.h - the active curvature pair (SPEC 2.3): s = e v, y = g(theta + s) - g(theta) on one fixed
 * probe batch, then v <- y / |y|: a power iteration that costs one extra gradient a probe.
 * THREADS: one owner. */
#ifndef TRAINER_PROBE_H
#define TRAINER_PROBE_H

#include "mlp.h"

struct probe {
    struct mlp *model;      /* borrowed */
    const float *inputs;    /* borrowed; the probe batch */
    const uint8_t *labels;  /* borrowed */
    uint32_t count;         /* samples */
    float *direction;       /* owned; v, norm 1 */
    float *moved, *grad;    /* owned; theta + s, gradient at theta */
    float *pair_s, *pair_y; /* owned; the newest pair */
    double loss;            /* of the probe batch at theta */
};

bool probe_init(struct probe *probe, struct mlp *model, const float *inputs, const uint8_t *labels,
                uint32_t count, uint64_t seed);
void probe_release(struct probe *probe);
/* Fills grad, loss, pair_s and pair_y at `params`. */
void probe_measure(struct probe *probe, const float *params);

#endif
