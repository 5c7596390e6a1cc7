/* labels.h - labels of runs and the label selectors of rules: JSON objects of strings.
 * THREADS: one owner at a time. */
#ifndef LYAP_LABELS_H
#define LYAP_LABELS_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/snapshot.h"
#include "lyap/status.h"
#include "buffer.h"

struct lyap_labels {
    struct lyap_label *items; /* owned */
    uint32_t count;
};
#define LYAP_LABELS_NULL                                                                           \
    {                                                                                              \
        0                                                                                          \
    }

/* NULL and "" mean none. E_FORMAT (no object of strings), E_LIMIT, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_labels_parse(const char *json, struct lyap_labels *ret);
void lyap_labels_release(struct lyap_labels *labels);
/* True when every key of `selector` is in `labels` with a value that its glob matches. */
bool lyap_labels_match(const struct lyap_labels *selector, const struct lyap_labels *labels);
/* The object as JSON. */
void lyap_labels_json(const struct lyap_label *items, uint32_t count, struct lyap_buffer *text);

#endif
