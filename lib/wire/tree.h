/* tree.h - JSON trees of jansson, built by our own reader: limits, messages and the difference
 * between malformed text and missing memory are ours. Internal to lib/wire/. THREADS: a tree has
 * one owner at a time. */
#ifndef LYAP_WIRE_TREE_H
#define LYAP_WIRE_TREE_H

#include <jansson.h>
#include <stdint.h>

#include "lyap/status.h"

/* An object; `where` names the text in messages. E_FORMAT (duplicate keys and trailing bytes
 * included), E_LIMIT (LYAP_JSON_BYTES_MAX, LYAP_JSON_VALUES_MAX), E_NOMEM. The caller decrefs. */
LYAP_MUST_CHECK enum lyap_status lyap_tree_load(const char *text, uint64_t length,
                                                const char *where, json_t **ret_object,
                                                struct lyap_error *reterr);
/* Compact text, keys sorted, numbers as short as they can be and still read back the same. Freed
 * with lyap_free. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_tree_text(json_t *value, char **ret_json);

#endif
