/* track.h - the newest log-norms of one perturbation, in step order, and their fit (SPEC 4.2).
 * Owns one buffer that grows with what comes, up to twice its capacity: the newest values always
 * lie side by side. THREADS: one owner at a time. */
#ifndef LYAP_TRACK_H
#define LYAP_TRACK_H

#include "lyap/declaration.h"
#include "lyap/growth.h"
#include "lyap/metric.h"

struct lyap_track { /* zeroed: empty, nothing owned */
    double *y;
    int64_t *steps;
    uint32_t count, room;
};

struct lyap_track_fit {
    struct lyap_growth_fit growth; /* rates per step */
    uint32_t window;               /* values after the first */
    double spacing;                /* steps from value to value, in the mean */
};

void lyap_track_release(struct lyap_track *track);
/* Values that the largest of `windows` needs. */
uint32_t lyap_track_capacity(const struct lyap_declaration *declaration);
/* Room for one more value. E_NOMEM: nothing has changed. */
LYAP_MUST_CHECK enum lyap_status lyap_track_reserve(struct lyap_track *track, uint32_t capacity);
/* After reserve. A y of 0 after another is a new injection: the track starts anew. Values that are
 * not finite leave no trace. */
void lyap_track_push(struct lyap_track *track, int64_t step, double y);
void lyap_track_clear(struct lyap_track *track);

/* The fit over the largest declared window that is full, of at least 64 values, and has no gap
 * longer than an eighth of it. NONE, WARMING_UP or STEP_GAP. */
enum lyap_reason lyap_track_judge(const struct lyap_track *track,
                                  const struct lyap_declaration *declaration,
                                  struct lyap_track_fit *ret_fit);

#endif
