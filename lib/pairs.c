/* Ring of sketched secant pairs. */
#include "pairs.h"

#include <assert.h>
#include <math.h>

#include "linalg.h"
#include "lyap/alloc.h"
#include "banned.h"

enum lyap_status lyap_pairs_init(struct lyap_pairs *pairs, uint32_t capacity, uint32_t size)
{
    assert(capacity > 0 && capacity <= LYAP_RITZ_WINDOW_MAX && size > 0);
    *pairs = (struct lyap_pairs){ .capacity = capacity, .size = size };
    pairs->s = lyap_alloc_array((size_t)capacity * size, sizeof *pairs->s);
    pairs->y = lyap_alloc_array((size_t)capacity * size, sizeof *pairs->y);
    if (!pairs->s || !pairs->y) {
        lyap_pairs_release(pairs);
        return LYAP_E_NOMEM;
    }
    return LYAP_OK;
}

void lyap_pairs_release(struct lyap_pairs *pairs)
{
    lyap_free(pairs->s);
    lyap_free(pairs->y);
    *pairs = (struct lyap_pairs){ 0 };
}

void lyap_pairs_clear(struct lyap_pairs *pairs)
{
    pairs->count = pairs->next = 0;
}

void lyap_pairs_slot(struct lyap_pairs *pairs, double **ret_s, double **ret_y)
{
    assert(pairs->capacity > 0);
    *ret_s = pairs->s + (size_t)pairs->next * pairs->size;
    *ret_y = pairs->y + (size_t)pairs->next * pairs->size;
}

/* Slot of the i-th newest pair. */
static uint32_t slot_of(const struct lyap_pairs *pairs, uint32_t i)
{
    return (pairs->next + pairs->capacity - 1 - i) % pairs->capacity;
}

bool lyap_pairs_commit(struct lyap_pairs *pairs)
{
    const uint32_t a = pairs->next, k = pairs->size;
    const double *s = pairs->s + (size_t)a * k, *y = pairs->y + (size_t)a * k;
    const double ss = lyap_linalg_dot(s, s, k), yy = lyap_linalg_dot(y, y, k);
    if (!isfinite(ss) || !isfinite(yy) || ss <= 0) {
        /* The slot may have held the oldest pair, which is gone. */
        if (pairs->count == pairs->capacity)
            pairs->count--;
        return false;
    }
    pairs->next = (a + 1) % pairs->capacity;
    pairs->count += pairs->count < pairs->capacity;
    for (uint32_t i = 0; i < pairs->count; i++) {
        const uint32_t b = slot_of(pairs, i);
        const double *t = pairs->s + (size_t)b * k, *z = pairs->y + (size_t)b * k;
        pairs->ss[a][b] = pairs->ss[b][a] = lyap_linalg_dot(s, t, k);
        pairs->yy[a][b] = pairs->yy[b][a] = lyap_linalg_dot(y, z, k);
        pairs->sy[a][b] = lyap_linalg_dot(s, z, k);
        pairs->sy[b][a] = lyap_linalg_dot(t, y, k);
    }
    return true;
}

double lyap_pairs_newest_quotient(const struct lyap_pairs *pairs)
{
    assert(pairs->count > 0);
    const uint32_t a = slot_of(pairs, 0);
    return pairs->sy[a][a] / pairs->ss[a][a];
}

enum lyap_status lyap_pairs_ritz(const struct lyap_pairs *pairs, struct lyap_ritz *ret_ritz)
{
    enum { ENTRIES_MAX = LYAP_RITZ_WINDOW_MAX * LYAP_RITZ_WINDOW_MAX };
    double ss[ENTRIES_MAX], sy[ENTRIES_MAX], yy[ENTRIES_MAX];
    const uint32_t n = pairs->count;
    if (n == 0)
        return LYAP_E_TOO_FEW;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            const uint32_t a = slot_of(pairs, n - 1 - i), b = slot_of(pairs, n - 1 - j);
            ss[i * n + j] = pairs->ss[a][b];
            sy[i * n + j] = pairs->sy[a][b];
            yy[i * n + j] = pairs->yy[a][b];
        }
    return lyap_ritz_compute(n, ss, sy, yy, LYAP_RITZ_TOLERANCE, ret_ritz);
}

void lyap_pairs_at(const struct lyap_pairs *pairs, uint32_t i, const double **ret_s,
                   const double **ret_y)
{
    assert(i < pairs->count);
    *ret_s = pairs->s + (size_t)slot_of(pairs, i) * pairs->size;
    *ret_y = pairs->y + (size_t)slot_of(pairs, i) * pairs->size;
}
