/* session.h - a training on a random quadratic, pushed through intake and profile like a body over
 * HTTP. The quadratic is diagonal: rotations change none of what is claimed of it.
 * THREADS: one owner at a time. */
#ifndef LYAP_BENCH_SESSION_H
#define LYAP_BENCH_SESSION_H

#include "lyap/profile.h"
#include "trials.h"

enum { SESSION_TENSORS = 3, SESSION_SIZE = 10 };

struct session_kind {
    const char *name;
    enum lyap_optimizer_type type;
    double momentum, weight_decay;
    bool is_nesterov;
    double clip_norm; /* of the gradient; 0: none */
    enum lyap_prox_kind prox;
    enum lyap_set_kind set;
    double rate; /* rates are about so many 1 / ell */
};
bool session_is_proximal(const struct session_kind *kind);

struct session {
    const struct session_kind *kind;
    double h[SESSION_SIZE], centre[SESSION_SIZE], x[SESSION_SIZE], g[SESSION_SIZE];
    double m[SESSION_SIZE], v[SESSION_SIZE];
    double ell, lr, loss;
    int t; /* updates so far */
    struct lyap_declaration declaration;
    struct lyap_tensor tensors[SESSION_TENSORS];
    struct lyap_snapshot snapshot;
    struct lyap_profile *profile;
    struct lyap_memory *memory;
};

/* Draws the quadratic and the start; the rate is `lr`, or drawn about the kind's where that is 0.
 */
void session_begin(struct session *session, const struct session_kind *kind, struct random *random);
void session_end(struct session *session);
/* Sets the rate that the next updates have. */
void session_set_lr(struct session *session, double lr);
/* Makes the gradient at theta_t; then the optimizer's update. */
void session_gradient(struct session *session);
void session_update(struct session *session);
/* Pushes theta_t, g_t and, from the first update on, the pair of the top curvature. */
struct lyap_point session_push(struct session *session);

#endif
