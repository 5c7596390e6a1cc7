/* profile_rows.h - the windows of single tensors and layers as words of the profile's bytes.
 * THREADS: one owner at a time. */
#ifndef LYAP_PROFILE_ROWS_H
#define LYAP_PROFILE_ROWS_H

#include "profile_internal.h"
#include "words.h"

void lyap_tensor_z_put(struct lyap_writer *w, const struct lyap_tensor_z *z);
/* `tensors` of the declaration, or none. E_FORMAT, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_tensor_z_get(struct lyap_reader *r, uint32_t tensors,
                                                   struct lyap_tensor_z *ret_z);
void lyap_still_put(struct lyap_writer *w, const struct lyap_still *still);
/* `tensors` of the declaration, or none. E_FORMAT, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_still_get(struct lyap_reader *r, uint32_t tensors,
                                                struct lyap_still *ret_still);
/* Of the layers that have values; none, where they are too many for a row of the store. */
void lyap_lows_put(struct lyap_writer *w, const struct lyap_lows *lows);
/* E_FORMAT, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_lows_get(struct lyap_reader *r, struct lyap_lows *ret_lows);

#endif
