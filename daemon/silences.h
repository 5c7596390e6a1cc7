/* silences.h - the silences in force: which alerts notify nobody, until when.
 * THREADS: owned by the engine. */
#ifndef LYAP_SILENCES_H
#define LYAP_SILENCES_H

#include "labels.h"
#include "lyap/record.h"

struct lyap_silence_entry {
    struct lyap_silence silence; /* its strings are not kept: labels_json NULL, comment "" */
    struct lyap_labels selector;
};
struct lyap_silences {
    struct lyap_silence_entry *entries; /* owned; at most LYAP_SILENCE_COUNT_MAX */
    uint32_t count, capacity;
    uint64_t revision; /* counts changes */
};
#define LYAP_SILENCES_NULL                                                                         \
    {                                                                                              \
        0                                                                                          \
    }

/* E_INVALID naming field, value and limit: nothing to match, a pattern, its end. */
LYAP_MUST_CHECK enum lyap_status lyap_silence_check(const struct lyap_silence *silence,
                                                    struct lyap_error *reterr);
/* Copies. E_LIMIT, E_FORMAT (labels), E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_silences_add(struct lyap_silences *silences,
                                                   const struct lyap_silence *silence,
                                                   struct lyap_error *reterr);
/* False: none of this id is in force. */
bool lyap_silences_remove(struct lyap_silences *silences, int64_t id);
/* Drops those that are over. */
void lyap_silences_expire(struct lyap_silences *silences, int64_t now_ns);
void lyap_silences_release(struct lyap_silences *silences);
/* The one that lasts longest of those that match the alert of a run with these labels, or NULL. */
const struct lyap_silence *lyap_silences_match(const struct lyap_silences *silences,
                                               const struct lyap_alert *alert,
                                               const struct lyap_labels *labels, int64_t now_ns);

#endif
