/* States of a training in memory. */
#include "checkpoint.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool checkpoints_init(struct checkpoints *checkpoints, uint64_t count)
{
    *checkpoints = (struct checkpoints){ .count = count };
    checkpoints->store = calloc(CHECKPOINTS_MAX * 2 * count, sizeof *checkpoints->store);
    for (uint32_t i = 0; i < CHECKPOINTS_MAX; i++)
        checkpoints->slot[i] = i;
    return checkpoints->store != NULL;
}

void checkpoints_release(struct checkpoints *checkpoints)
{
    free(checkpoints->store);
    *checkpoints = (struct checkpoints){ 0 };
}

static float *state_of(const struct checkpoints *checkpoints, uint32_t index)
{
    return checkpoints->store + checkpoints->slot[index] * 2 * checkpoints->count;
}

/* The oldest goes; its room is the last in line. */
static void make_room(struct checkpoints *checkpoints)
{
    const uint32_t freed = checkpoints->slot[0];
    for (uint32_t i = 1; i < CHECKPOINTS_MAX; i++) {
        checkpoints->slot[i - 1] = checkpoints->slot[i];
        checkpoints->steps[i - 1] = checkpoints->steps[i];
    }
    checkpoints->slot[CHECKPOINTS_MAX - 1] = freed;
    checkpoints->used--;
}

void checkpoints_keep(struct checkpoints *checkpoints, long step, const float *params,
                      const float *velocity)
{
    assert(checkpoints->used == 0 || checkpoints->steps[checkpoints->used - 1] < step);
    const size_t bytes = checkpoints->count * sizeof(float);
    if (checkpoints->used == CHECKPOINTS_MAX)
        make_room(checkpoints);
    float *state = state_of(checkpoints, checkpoints->used);
    memcpy(state, params, bytes);
    memcpy(state + checkpoints->count, velocity, bytes);
    checkpoints->steps[checkpoints->used++] = step;
}

long checkpoints_restore(struct checkpoints *checkpoints, int64_t step, float *params,
                         float *velocity)
{
    const size_t bytes = checkpoints->count * sizeof(float);
    uint32_t used = checkpoints->used;
    while (used > 0 && checkpoints->steps[used - 1] > step)
        used--;
    if (used == 0)
        return -1;
    checkpoints->used = used;
    const float *state = state_of(checkpoints, used - 1);
    memcpy(params, state, bytes);
    memcpy(velocity, state + checkpoints->count, bytes);
    return checkpoints->steps[used - 1];
}
