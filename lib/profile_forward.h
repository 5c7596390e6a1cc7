/* profile_forward.h - what a profile keeps of the declared layers between steps: bounds of whole
 * tensors with the distance moved since, running maxima, the newest rows.
 * THREADS: one owner, the profile's. */
#ifndef LYAP_PROFILE_FORWARD_H
#define LYAP_PROFILE_FORWARD_H

#include "lows.h"
#include "lyap/layer_bound.h"
#include "lyap/layer_row.h"
#include "lyap/partial.h"

struct lyap_forward_layer {
    struct lyap_layer_bound bound;
    int64_t step;                      /* of the bound's snapshot; -1: there is none */
    double moved_at[LYAP_LAYER_PARTS]; /* distances of its tensors at that step */
    uint32_t age;             /* snapshots since a bound was asked for; UINT32_MAX: never */
    double gain_max;          /* largest empirical gain; NaN: none yet */
    struct lyap_gates *gates; /* owned; newest pushed ones of a linear layer, or NULL */
    int64_t gates_step;       /* that they are of; -1: none */
};

struct lyap_forward {
    uint32_t count;                    /* layers; 0: nothing allocated */
    struct lyap_forward_layer *layers; /* owned */
    struct lyap_layer_row *rows;       /* owned; newest */
    int64_t rows_step;                 /* -1: none yet */
    struct lyap_lows lows;             /* empirical gains; from the first pushed ones on */
    uint32_t cursor;                   /* layer that the next job begins with */
    uint32_t tensors;                  /* length of the next two */
    double *distance;                  /* owned; sum of |D_l|_F since the last break */
    double *marked;                    /* owned; distances at `marked_step` */
    int64_t marked_step;               /* of the job under way; -1: none, or broken since */
};

void lyap_forward_init(struct lyap_forward *forward);
void lyap_forward_release(struct lyap_forward *forward);
/* The layers were declared again: bounds go, running maxima stay where the layers are the same. */
void lyap_forward_redeclare(struct lyap_forward *forward, const struct lyap_network *before,
                            const struct lyap_network *after);
/* For the declared layers and tensors; another number of them starts anew. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_forward_reserve(struct lyap_forward *forward,
                                                      const struct lyap_declaration *declaration);
/* Room for the gates of a push. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_forward_reserve_gates(struct lyap_forward *forward,
                                                            const struct lyap_partial *partial);
/* Room for the windows of empirical gains, of `window` values each. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_forward_reserve_lows(struct lyap_forward *forward,
                                                           const struct lyap_partial *partial,
                                                           uint32_t window);
struct lyap_step;
/* What the newest rows say of empirical gains: maxima and growth of the layers, the point's. */
void lyap_forward_empirical(struct lyap_step *step);

#endif
