/* grade.h - the partial grade on the client's side: liblyap's intake makes the sums here that the
 * daemon would make of the tensors. THREADS: one owner at a time. */
#ifndef LYAP_CLIENT_GRADE_H
#define LYAP_CLIENT_GRADE_H

#include "body.h"
#include "lyap/intake.h"
#include "lyap_client.h"

/* What happened since a snapshot that products are made with: as the daemon counts it. */
struct grade_passed {
    int64_t step, updates; /* of the last push, -1: none; made before it */
    bool is_held;          /* its own update was skipped */
};

struct grade {
    struct lyap_declaration declaration;  /* set.count 0: not yet known */
    struct lyap_memory *previous;         /* owned; of the last accepted finite push, or NULL */
    struct lyap_memory *pending;          /* owned; of the push under way */
    struct grade_passed passed;           /* since `previous`, up to the last accepted push */
    struct grade_passed pending_passed;   /* up to the push under way */
    struct lyap_spectral_state *spectral; /* owned; of the weights' norms; NULL: not begun */
    uint64_t seed;
    enum lyap_retention retention;
};

/* A partial as arrays to send, with the metadata that belongs to it. */
enum { GRADE_META_COUNT = 5 };
struct grade_body {
    struct lyap_spectral_plan *plan; /* owned; what the partial was measured by */
    struct lyap_partial partial;
    struct body_array arrays[LYAP_REDUCE_COUNT + LYAP_SKETCH_COUNT];
    uint32_t array_count;
    uint64_t tensor_count, sketch_size, gain_shape[2]; /* the shapes of the arrays */
    struct lyap_client_meta metadata[GRADE_META_COUNT];
    uint32_t meta_count;
    char texts[GRADE_META_COUNT][BODY_NUMBER_BYTES];
};

/* `declaration` is JSON or NULL. E_FORMAT and what lyap_wire_declaration says, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status grade_init(struct grade *grade, const char *declaration,
                                            enum lyap_retention retention,
                                            struct lyap_error *reterr);
void grade_release(struct grade *grade);
/* Learns the tensors from the param arrays of a push; *ret_json is {"tensors":[...]} for the
 * daemon, freed with free(). */
LYAP_MUST_CHECK enum lyap_status grade_learn(struct grade *grade,
                                             const struct lyap_client_push *push, char **ret_json,
                                             struct lyap_error *reterr);
/* E_TENSOR_SET, E_INVALID, E_UNKNOWN_FIELD (metadata), E_NOMEM. ret_body is filled in place (its
 * arrays point into it) and released with grade_body_release. */
LYAP_MUST_CHECK enum lyap_status grade_reduce(struct grade *grade,
                                              const struct lyap_client_push *push,
                                              struct grade_body *ret_body,
                                              struct lyap_error *reterr);
void grade_body_release(struct grade_body *body);
/* The push was accepted: it is the predecessor of the next. */
void grade_commit(struct grade *grade);

#endif
