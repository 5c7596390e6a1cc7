/* checkpoint.h - the last few states of a training, in memory, to go back to. THREADS: one owner.
 */
#ifndef TRAINER_CHECKPOINT_H
#define TRAINER_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

enum { CHECKPOINTS_MAX = 4 };

struct checkpoints {
    float *store;                /* owned; CHECKPOINTS_MAX times params, velocity */
    uint64_t count;              /* parameters */
    long steps[CHECKPOINTS_MAX]; /* of the push that was about to be made; rising */
    uint32_t slot[CHECKPOINTS_MAX], used;
};

/* False without memory. */
bool checkpoints_init(struct checkpoints *checkpoints, uint64_t count);
void checkpoints_release(struct checkpoints *checkpoints);
/* Keeps the state that `step` begins with, a step above the last one kept; the oldest makes room.
 */
void checkpoints_keep(struct checkpoints *checkpoints, long step, const float *params,
                      const float *velocity);
/* The newest state at or before `step`; later ones are forgotten, they belong to a way that was
 * left. Its step, or -1 when there is none, and then nothing is changed. */
long checkpoints_restore(struct checkpoints *checkpoints, int64_t step, float *params,
                         float *velocity);

#endif
