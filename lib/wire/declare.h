/* declare.h - the parts of a run declaration. Internal to lib/wire/. THREADS: the
 * caller owns the JSON value; nothing is kept. */
#ifndef LYAP_WIRE_DECLARE_H
#define LYAP_WIRE_DECLARE_H

#include <jansson.h>

#include "lyap/optimizer.h"

/* The `optimizer` object; checked. On failure *ret_optimizer is untouched. */
LYAP_MUST_CHECK enum lyap_status lyap_declare_optimizer(json_t *value,
                                                        struct lyap_optimizer *ret_optimizer,
                                                        struct lyap_error *reterr);
/* Checks the `layers` list; it is kept as JSON. */
LYAP_MUST_CHECK enum lyap_status lyap_declare_layers(json_t *value, struct lyap_error *reterr);

#endif
