/* Windows of single tensors in the profile's bytes. */
#include "profile_rows.h"

#include "banned.h"

enum { STUCK_SHIFT = 32, DUE_SHIFT = 63 };
static const uint64_t STUCK_MASK = 0x7fffffff;

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
