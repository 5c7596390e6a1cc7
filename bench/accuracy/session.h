/* session.h - a training on a random quadratic, pushed through intake and profile like a body over
 * HTTP. THREADS: one owner at a time. */
#ifndef LYAP_BENCH_SESSION_H
#define LYAP_BENCH_SESSION_H

#include "lyap/profile.h"
#include "training.h"
#include "trials.h"

struct session {
    struct training run;
    struct lyap_declaration declaration;
    struct lyap_tensor tensors[TRAINING_TENSORS];
    struct lyap_snapshot snapshot;
    struct lyap_profile *profile;
    struct lyap_memory *memory;
};

/* Draws the quadratic, the start and a rate about the kind's. */
void session_begin(struct session *session, const struct training_kind *kind,
                   struct test_rng *random);
void session_end(struct session *session);
/* Pushes theta_t, g_t and, from the first update on, the pair of the top curvature. */
struct lyap_point session_push(struct session *session);

#endif
