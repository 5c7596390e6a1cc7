/* Windows of single tensors and layers in the profile's bytes. */
#include "profile_rows.h"

#include <math.h>
#include <string.h>

#include "banned.h"

enum { STUCK_SHIFT = 32, DUE_SHIFT = 63, HALF = 32, NEXT_SHIFT = 8, COUNT_MASK = 0xff };
static const uint64_t STUCK_MASK = 0x7fffffff;

/* Two floats a word, of the filled part of each ring. */
void lyap_tensor_z_put(struct lyap_writer *w, const struct lyap_tensor_z *z)
{
    const bool is_kept = z->tensors <= LYAP_TENSOR_Z_SAVED;
    lyap_put_word(w, is_kept ? z->tensors : 0);
    for (uint32_t i = 0; is_kept && i < z->tensors; i++) {
        const float *ring = z->rings + (size_t)i * LYAP_TENSOR_Z_VALUES;
        lyap_put_word(w, z->counts[i] | (uint64_t)z->nexts[i] << NEXT_SHIFT);
        for (uint32_t k = 0; k < z->counts[i]; k += 2) {
            uint32_t bits[2] = { 0 };
            memcpy(bits, ring + k, k + 1 < z->counts[i] ? sizeof bits : sizeof *bits);
            lyap_put_word(w, bits[0] | (uint64_t)bits[1] << HALF);
        }
    }
}

static bool get_ring(struct lyap_reader *r, struct lyap_tensor_z *z, uint32_t tensor)
{
    const uint64_t head = lyap_get_word(r), count = head & COUNT_MASK, next = head >> NEXT_SHIFT;
    float *ring = z->rings + (size_t)tensor * LYAP_TENSOR_Z_VALUES;
    if (r->is_short || count > LYAP_TENSOR_Z_VALUES || next >= LYAP_TENSOR_Z_VALUES ||
        (count < LYAP_TENSOR_Z_VALUES && next != count))
        return false;
    for (uint32_t k = 0; k < count; k += 2) {
        const uint64_t word = lyap_get_word(r);
        const uint32_t bits[2] = { (uint32_t)word, (uint32_t)(word >> HALF) };
        memcpy(ring + k, bits, k + 1 < count ? sizeof bits : sizeof *bits);
        if (!isfinite(ring[k]) || (k + 1 < count && !isfinite(ring[k + 1])))
            return false;
    }
    z->counts[tensor] = (uint8_t)count;
    z->nexts[tensor] = (uint8_t)next;
    return !r->is_short;
}

enum lyap_status lyap_tensor_z_get(struct lyap_reader *r, uint32_t tensors,
                                   struct lyap_tensor_z *ret_z)
{
    const uint64_t count = lyap_get_word(r);
    if (r->is_short || (count != 0 && (count != tensors || count > LYAP_TENSOR_Z_SAVED)))
        return LYAP_E_FORMAT;
    if (count == 0)
        return LYAP_OK;
    const enum lyap_status status = lyap_tensor_z_reserve(ret_z, tensors);
    for (uint32_t i = 0; status == LYAP_OK && i < tensors; i++)
        if (!get_ring(r, ret_z, i))
            return LYAP_E_FORMAT;
    return status;
}

void lyap_still_put(struct lyap_writer *w, const struct lyap_still *still)
{
    lyap_put_word(w, still->tensors);
    lyap_put_word(w, still->dead_looks | (uint64_t)still->stuck_looks << STUCK_SHIFT);
    for (uint32_t i = 0; i < still->tensors; i++)
        lyap_put_word(w, still->dead[i] | (still->stuck[i] & STUCK_MASK) << STUCK_SHIFT |
                             (uint64_t)still->is_due[i] << DUE_SHIFT);
}

enum lyap_status lyap_still_get(struct lyap_reader *r, uint32_t tensors,
                                struct lyap_still *ret_still)
{
    const uint64_t count = lyap_get_word(r), looks = lyap_get_word(r);
    if (r->is_short || (count != 0 && count != tensors))
        return LYAP_E_FORMAT;
    if (count == 0)
        return LYAP_OK;
    const enum lyap_status status = lyap_still_reserve(ret_still, tensors);
    if (status != LYAP_OK)
        return status;
    ret_still->dead_looks = (uint32_t)looks;
    ret_still->stuck_looks = (uint32_t)(looks >> STUCK_SHIFT);
    for (uint32_t i = 0; i < tensors; i++) {
        const uint64_t word = lyap_get_word(r);
        ret_still->dead[i] = (uint32_t)word;
        ret_still->stuck[i] = (uint32_t)(word >> STUCK_SHIFT & STUCK_MASK);
        ret_still->is_due[i] = word >> DUE_SHIFT;
        ret_still->has_due |= ret_still->is_due[i];
    }
    return r->is_short ? LYAP_E_FORMAT : LYAP_OK;
}

static uint64_t lows_bytes(const struct lyap_lows *lows, uint64_t *ret_series)
{
    uint64_t bytes = 0;
    *ret_series = 0;
    for (uint32_t i = 0; i < lows->series; i++) {
        const uint32_t used = lyap_lows_used(lows, i);
        bytes += used * sizeof(double);
        *ret_series += used > 0;
    }
    return bytes;
}

void lyap_lows_put(struct lyap_writer *w, const struct lyap_lows *lows)
{
    uint64_t count;
    const bool is_kept = lows_bytes(lows, &count) <= LYAP_LOWS_SAVED_BYTES_MAX && count > 0;
    lyap_put_word(w, is_kept ? count : 0);
    if (!is_kept)
        return;
    lyap_put_word(w, lows->series);
    lyap_put_word(w, lows->slots | (uint64_t)lows->block << HALF);
    for (uint32_t i = 0; i < lows->series; i++) {
        const uint32_t used = lyap_lows_used(lows, i);
        if (used == 0)
            continue;
        lyap_put_word(w, i | (uint64_t)lows->are_full[i] << HALF);
        lyap_put_word(w, lows->counts[i]);
        lyap_put_doubles(w, lows->least + (size_t)i * lows->slots, used);
    }
}

static bool get_series(struct lyap_reader *r, struct lyap_lows *lows)
{
    const uint64_t head = lyap_get_word(r), count = lyap_get_word(r);
    const uint32_t i = (uint32_t)head, is_full = (uint32_t)(head >> HALF);
    if (r->is_short || i >= lows->series || is_full > 1 ||
        count >= (uint64_t)lows->slots * lows->block || lyap_lows_used(lows, i) > 0)
        return false;
    lows->counts[i] = (uint32_t)count;
    lows->are_full[i] = (uint8_t)is_full;
    double *least = lows->least + (size_t)i * lows->slots;
    const uint32_t used = lyap_lows_used(lows, i);
    lyap_get_doubles(r, least, used);
    for (uint32_t k = 0; k < used; k++)
        if (!isfinite(least[k]))
            return false;
    return used > 0 && !r->is_short;
}

enum lyap_status lyap_lows_get(struct lyap_reader *r, struct lyap_lows *ret_lows)
{
    const uint64_t count = lyap_get_word(r);
    if (count == 0)
        return r->is_short ? LYAP_E_FORMAT : LYAP_OK;
    const uint64_t series = lyap_get_word(r), blocks = lyap_get_word(r);
    const uint32_t slots = (uint32_t)blocks, block = (uint32_t)(blocks >> HALF);
    if (r->is_short || series > LYAP_LAYER_COUNT_MAX || count > series || slots == 0 ||
        slots > LYAP_LOWS_SLOTS || block == 0 || (uint64_t)slots * block > LYAP_WINDOW_MAX)
        return LYAP_E_FORMAT;
    const enum lyap_status status = lyap_lows_init_blocks(ret_lows, (uint32_t)series, slots, block);
    for (uint64_t i = 0; status == LYAP_OK && i < count; i++)
        if (!get_series(r, ret_lows))
            return LYAP_E_FORMAT;
    return status;
}
