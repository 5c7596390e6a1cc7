/* Log-norms side by side, and their fit over the windows of a declaration. */
#include "track.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "banned.h"

enum {
    ROOM_FIRST = 64,
    WINDOW_LEAST = LYAP_GROWTH_VALUES_MIN - 1,
};

void lyap_track_release(struct lyap_track *track)
{
    if (!track)
        return;
    lyap_free(track->y);
    lyap_free(track->steps);
    *track = (struct lyap_track){ 0 };
}

void lyap_track_clear(struct lyap_track *track)
{
    track->count = 0;
}

uint32_t lyap_track_capacity(const struct lyap_declaration *declaration)
{
    uint32_t window = WINDOW_LEAST;
    for (uint32_t i = 0; i < declaration->window_count; i++)
        if (declaration->windows[i] > window)
            window = declaration->windows[i];
    return window + 1;
}

/* The newest `count` values move to the front. */
static void keep_newest(struct lyap_track *track, uint32_t count)
{
    const uint32_t old = track->count - count;
    memmove(track->y, track->y + old, count * sizeof *track->y);
    memmove(track->steps, track->steps + old, count * sizeof *track->steps);
    track->count = count;
}

static enum lyap_status grow(struct lyap_track *track, uint32_t room)
{
    double *y = lyap_alloc_array(room, sizeof *y);
    int64_t *steps = lyap_alloc_array(room, sizeof *steps);
    if (!y || !steps) {
        lyap_free(y);
        lyap_free(steps);
        return LYAP_E_NOMEM;
    }
    if (track->count > 0) {
        memcpy(y, track->y, track->count * sizeof *y);
        memcpy(steps, track->steps, track->count * sizeof *steps);
    }
    lyap_free(track->y);
    lyap_free(track->steps);
    track->y = y;
    track->steps = steps;
    track->room = room;
    return LYAP_OK;
}

enum lyap_status lyap_track_reserve(struct lyap_track *track, uint32_t capacity)
{
    const uint32_t most = 2 * capacity;
    assert(capacity >= LYAP_GROWTH_VALUES_MIN);
    if (track->count < track->room)
        return LYAP_OK;
    if (track->room >= most) {
        keep_newest(track, capacity);
        return LYAP_OK;
    }
    const uint32_t room = track->room == 0 ? ROOM_FIRST : 2 * track->room;
    return grow(track, room < most ? room : most);
}

void lyap_track_push(struct lyap_track *track, int64_t step, double y)
{
    if (!isfinite(y))
        return;
    if (track->count > 0 && y == 0 && track->y[track->count - 1] != 0)
        track->count = 0;
    assert(track->count < track->room);
    assert(track->count == 0 || step > track->steps[track->count - 1]);
    track->y[track->count] = y;
    track->steps[track->count++] = step;
}

/* The largest declared window below `limit` that a verdict can use; WINDOW_LEAST is always one. */
static uint32_t next_window(const struct lyap_declaration *declaration, uint32_t limit)
{
    uint32_t window = limit > WINDOW_LEAST ? WINDOW_LEAST : 0;
    for (uint32_t i = 0; i < declaration->window_count; i++)
        if (declaration->windows[i] < limit && declaration->windows[i] > window)
            window = declaration->windows[i];
    return window >= WINDOW_LEAST ? window : 0;
}

enum lyap_reason lyap_track_judge(const struct lyap_track *track,
                                  const struct lyap_declaration *declaration,
                                  struct lyap_track_fit *ret_fit)
{
    enum lyap_reason reason = LYAP_REASON_WARMING_UP;
    for (uint32_t window = next_window(declaration, UINT32_MAX); window > 0;
         window = next_window(declaration, window)) {
        if (track->count <= window)
            continue;
        const uint32_t first = track->count - window - 1;
        struct lyap_growth_fit growth;
        const enum lyap_status status =
            lyap_growth_fit_steps(track->steps + first, track->y + first, window + 1, &growth);
        if (status != LYAP_OK) {
            reason = LYAP_REASON_STEP_GAP;
            continue;
        }
        const int64_t span = track->steps[track->count - 1] - track->steps[first];
        *ret_fit = (struct lyap_track_fit){ growth, window, (double)span / window };
        return LYAP_REASON_NONE;
    }
    return reason;
}
