/* profile_layers.h - the numbers of each declared layer at one step, from the sums of the step and
 * the bounds that are kept between steps. THREADS: the caller owns what is pointed to. */
#ifndef LYAP_PROFILE_LAYERS_H
#define LYAP_PROFILE_LAYERS_H

#include "lyap/layer_row.h"
#include "profile_internal.h"

/* A row per declared layer; everything but the running maxima. Inner layers of blocks have no
 * product of their own. */
void lyap_layers_fill(const struct lyap_step *step, struct lyap_layer_row *ret_rows);
/* The kept bound of a layer as it holds at this step, all NaN without one; *ret_step: of the
 * snapshot whose values gave it, -1. */
struct lyap_layer_bound lyap_forward_bound(const struct lyap_step *step, uint32_t index,
                                           int64_t *ret_step);

#endif
