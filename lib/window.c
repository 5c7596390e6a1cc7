/* Ring of the newest finite samples. */
#include "lyap/window.h"

#include <assert.h>
#include <math.h>

#include "lyap/alloc.h"
#include "banned.h"

static bool window_is_sane(const struct lyap_window *w)
{
    return w->samples && w->count <= w->capacity && w->next < w->capacity;
}

enum lyap_status lyap_window_init(struct lyap_window *w, uint32_t capacity)
{
    *w = (struct lyap_window)LYAP_WINDOW_NULL;
    if (capacity == 0 || capacity > LYAP_WINDOW_MAX)
        return LYAP_E_INVALID;

    double *samples = lyap_alloc_array(capacity, sizeof *samples);
    if (!samples)
        return LYAP_E_NOMEM;

    *w = (struct lyap_window){ .samples = samples, .capacity = capacity };
    return LYAP_OK;
}

void lyap_window_release(struct lyap_window *w)
{
    if (!w)
        return;
    lyap_free(w->samples);
    *w = (struct lyap_window)LYAP_WINDOW_NULL;
}

bool lyap_window_push(struct lyap_window *w, double value)
{
    assert(window_is_sane(w));
    if (!isfinite(value))
        return false;
    w->samples[w->next] = value;
    w->next = (w->next + 1) % w->capacity;
    w->count += w->count < w->capacity;
    return true;
}

uint32_t lyap_window_count(const struct lyap_window *w)
{
    return w->count;
}

bool lyap_window_is_full(const struct lyap_window *w)
{
    return w->count == w->capacity;
}

double lyap_window_newest(const struct lyap_window *w, uint32_t i)
{
    assert(window_is_sane(w) && i < w->count);
    return w->samples[(w->next + w->capacity - 1 - i) % w->capacity];
}
