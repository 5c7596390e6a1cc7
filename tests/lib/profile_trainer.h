/* profile_trainer.h - trains the golden network and feeds a profile through the real intake. */
#ifndef PROFILE_TRAINER_H
#define PROFILE_TRAINER_H

#include "golden_net.h"
#include "intake_fixture.h"
#include "lyap/profile.h"

struct trainer {
    struct golden_net net;
    struct fixture fixture;
    struct lyap_profile *profile;
    struct lyap_memory *memory;
    double theta[NET_SIZE], grad[NET_SIZE], first[NET_SIZE], second[NET_SIZE];
    double loss, loss_factor; /* what is pushed is factor x loss and gradient */
    double lr;
    int64_t step;
    bool has_sketches;    /* false: sketches of the partial are dropped */
    bool is_probing;      /* an active pair goes with the next push */
    bool has_probe_loss;  /* probe loss and gradient of the same batch */
    const char *batch_id; /* NULL: none */
    bool is_late; /* the optimizer ran before the first push: optimizer_step starts at 100 */
    double direction[NET_SIZE], pair_s[NET_SIZE], pair_y[NET_SIZE];
    struct lyap_partial partial; /* of the newest push */
    struct lyap_tensor_row rows[4];
};

/* Declares `type` with the constants of `params`, full-batch data. */
void trainer_init(struct trainer *t, enum lyap_optimizer_type type,
                  const struct lyap_optimizer_params *params);
void trainer_free(struct trainer *t);
/* Pushes theta_t, g_t and what was asked for; the point. */
struct lyap_point trainer_push(struct trainer *t);
/* The optimizer's update; counts the step. */
void trainer_update(struct trainer *t);
double trainer_value(const struct lyap_point *point, enum lyap_metric metric);

#endif
