/* Windows of single tensors in the profile's bytes. */
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
