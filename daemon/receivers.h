/* receivers.h - the receivers of notifications in force, and which of them an alert goes to.
 * THREADS: owned by the engine; lyap_receivers_read_file: main. */
#ifndef LYAP_RECEIVERS_H
#define LYAP_RECEIVERS_H

#include "labels.h"
#include "lyap/record.h"

struct lyap_receiver_entry {
    struct lyap_receiver receiver; /* its strings are owned */
    struct lyap_labels selector;
};
struct lyap_receivers {
    struct lyap_receiver_entry *entries; /* owned */
    uint32_t count;
};
#define LYAP_RECEIVERS_NULL                                                                        \
    {                                                                                              \
        0                                                                                          \
    }

/* Adds or replaces by name; copies. E_LIMIT, E_NOMEM, E_FORMAT (labels). */
LYAP_MUST_CHECK enum lyap_status lyap_receivers_put(struct lyap_receivers *receivers,
                                                    const struct lyap_receiver *receiver,
                                                    struct lyap_error *reterr);
void lyap_receivers_remove(struct lyap_receivers *receivers, const char *name);
/* NULL: none of this name. */
const struct lyap_receiver_entry *lyap_receivers_find(const struct lyap_receivers *receivers,
                                                      const char *name);
void lyap_receivers_release(struct lyap_receivers *receivers);

/* Whether an alert of a rule with this `notify` (NULL: it names none), severity and labels of its
 * run goes to the receiver. A rule that names receivers reaches them whatever they select. */
bool lyap_receiver_is_meant(const struct lyap_receiver_entry *entry, const char *notify_json,
                            enum lyap_severity severity, const struct lyap_labels *labels);
/* Every name of `notify_json` (NULL: none) is one of a receiver. E_INVALID names the first that is
 * not; E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_receivers_check(const struct lyap_receivers *receivers,
                                                      const char *notify_json,
                                                      struct lyap_error *reterr);

/* A JSON file: an object of receivers as PUT /v1/receivers/{name} takes them, by name. E_IO,
 * E_INVALID with the receiver's name, E_LIMIT, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_receivers_read_file(const char *path,
                                                          struct lyap_receivers *ret_receivers,
                                                          struct lyap_error *reterr);

#endif
