/* declare.h - the parts of a run declaration. Internal to lib/wire/. THREADS: the
 * caller owns the JSON value; nothing is kept. */
#ifndef LYAP_WIRE_DECLARE_H
#define LYAP_WIRE_DECLARE_H

#include <jansson.h>

#include "lyap/network.h"
#include "lyap/optimizer.h"

/* The `optimizer` object; checked. On failure *ret_optimizer is untouched. */
LYAP_MUST_CHECK enum lyap_status lyap_declare_optimizer(json_t *value,
                                                        struct lyap_optimizer *ret_optimizer,
                                                        struct lyap_error *reterr);
/* The `layers` list, compiled; its tensors are not resolved. On failure *ret_network is untouched.
 */
LYAP_MUST_CHECK enum lyap_status
lyap_declare_layers(json_t *value, struct lyap_network *ret_network, struct lyap_error *reterr);

#endif
