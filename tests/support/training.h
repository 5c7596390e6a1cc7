/* training.h - a diagonal quadratic and the optimizer that descends it, as its framework defines
 * it: what tests and trials push, and hold the profile against. Diagonal: rotations change none of
 * what is claimed of it. THREADS: one owner at a time. */
#ifndef LYAP_TEST_TRAINING_H
#define LYAP_TEST_TRAINING_H

#include "lyap/declaration.h"

enum { TRAINING_TENSORS = 3, TRAINING_SIZE = 10 };
extern const uint32_t training_starts[TRAINING_TENSORS + 1];
extern const double TRAINING_BETA1, TRAINING_BETA2, TRAINING_EPS;

struct training_kind {
    const char *name;
    enum lyap_optimizer_type type;
    double momentum, weight_decay;
    bool is_nesterov;
    double clip_norm; /* of the gradient; 0: none */
    enum lyap_prox_kind prox;
    enum lyap_set_kind set;
    double rate; /* rates are about so many 1 / ell */
};
bool training_is_proximal(const struct training_kind *kind);
bool training_is_adaptive(const struct training_kind *kind);

/* sum h (x - centre)^2 / 2 and what the optimizer holds. */
struct training {
    const struct training_kind *kind;
    double h[TRAINING_SIZE], centre[TRAINING_SIZE], x[TRAINING_SIZE], g[TRAINING_SIZE];
    double m[TRAINING_SIZE], v[TRAINING_SIZE];
    double ell, lr;
    int t; /* updates so far */
};

/* Of x, the penalty included; and its gradient without, into g. */
double training_loss(const struct training *run);
void training_gradient(struct training *run);
/* The update of x by g. */
void training_update(struct training *run);
/* Puts x into the set, if there is one. */
void training_project(struct training *run);
/* P of SPEC 2.2 after the updates so far. */
double training_weight(const struct training *run, int i);
/* s and y = H s along the largest curvature of P^-1 H. */
void training_pair(const struct training *run, double *ret_s, double *ret_y);
/* The optimizer, on one function. */
void training_declare(const struct training *run, struct lyap_declaration *declaration);

#endif
