/* Random quadratics, and the pushes of a training on one. */
#include "session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/intake.h"

static uint32_t order[TRAINING_TENSORS] = { 0, 1, 2 };
static const char *const names[TRAINING_TENSORS] = { "a", "b", "c" };

static void declare(struct session *s)
{
    struct lyap_declaration *d = &s->declaration;
    lyap_declaration_init(d);
    for (uint32_t t = 0; t < TRAINING_TENSORS; t++)
        s->tensors[t] =
            (struct lyap_tensor){ .name = (char *)names[t],
                                  .rank = 1,
                                  .shape = { training_starts[t + 1] - training_starts[t] },
                                  .count = training_starts[t + 1] - training_starts[t] };
    d->set = (struct lyap_tensor_set){ .tensors = s->tensors,
                                       .count = TRAINING_TENSORS,
                                       .order = order };
    training_declare(&s->run, d);
    must(lyap_profile_new(d, NAN, &s->profile) == LYAP_OK, "a profile");
}

void session_begin(struct session *s, const struct training_kind *kind, struct test_rng *random)
{
    memset(s, 0, sizeof *s);
    s->run.kind = kind;
    for (int i = 0; i < TRAINING_SIZE; i++) {
        s->run.h[i] = 0.2 + 4 * test_rng_uniform(random);
        s->run.centre[i] = test_rng_normal(random);
        s->run.x[i] = test_rng_normal(random);
    }
    /* One leads, and no penalty holds it at zero. */
    const uint32_t lead = random_count(random, TRAINING_SIZE) - 1;
    s->run.h[lead] = 4.2;
    s->run.centre[lead] += copysign(1, s->run.centre[lead]);
    for (int i = 0; i < TRAINING_SIZE; i++)
        s->run.ell = fmax(s->run.ell, s->run.h[i]);
    s->run.lr = kind->rate * (0.2 + test_rng_uniform(random)) / (s->run.ell + kind->weight_decay);
    training_project(&s->run);
    lyap_snapshot_init(&s->snapshot);
    declare(s);
}

void session_end(struct session *s)
{
    lyap_profile_free(s->profile);
    lyap_memory_free(s->memory);
    s->declaration.set = (struct lyap_tensor_set)LYAP_TENSOR_SET_NULL;
    lyap_declaration_release(&s->declaration);
    lyap_snapshot_release(&s->snapshot);
}

/* ---- pushes ---- */

static void meta(struct session *s, const char *key, double value)
{
    char text[40];
    (void)snprintf(text, sizeof text, "%.17g", value);
    must(lyap_snapshot_set(&s->snapshot, key, text, NULL) == LYAP_OK, key);
}

struct lyap_point session_push(struct session *s)
{
    enum { ROLES = 4 };
    static const enum lyap_role roles[ROLES] = { LYAP_ROLE_GRAD, LYAP_ROLE_PARAM, LYAP_ROLE_PAIR_S,
                                                 LYAP_ROLE_PAIR_Y };
    double pair_s[TRAINING_SIZE], pair_y[TRAINING_SIZE];
    const double *const arrays[ROLES] = { s->run.g, s->run.x, pair_s, pair_y };
    struct lyap_intake_entry entries[ROLES * TRAINING_TENSORS];
    const uint32_t count = (s->run.t > 0 ? ROLES : 2) * TRAINING_TENSORS;
    training_pair(&s->run, pair_s, pair_y);
    for (uint32_t e = 0; e < count; e++)
        entries[e] = (struct lyap_intake_entry){ .kind = LYAP_INTAKE_TENSOR,
                                                 .what = roles[e / TRAINING_TENSORS],
                                                 .tensor = e % TRAINING_TENSORS,
                                                 .dtype = LYAP_DTYPE_F64,
                                                 .count = s->tensors[e % TRAINING_TENSORS].count,
                                                 .shape = s->tensors[e % TRAINING_TENSORS].shape,
                                                 .rank = 1 };
    lyap_snapshot_release(&s->snapshot);
    lyap_snapshot_init(&s->snapshot);
    meta(s, "step", s->run.t);
    meta(s, "loss", training_loss(&s->run));
    meta(s, "lr", s->run.lr);
    if (s->run.kind->clip_norm > 0)
        meta(s, "clip_norm", s->run.kind->clip_norm);
    const struct lyap_intake_config config = { .declaration = &s->declaration,
                                               .snapshot = &s->snapshot,
                                               .previous = s->memory,
                                               .updates = 1,
                                               .sketch_seed = 99,
                                               .retention = LYAP_RETENTION_EXACT,
                                               .hold_bytes_max = LYAP_HOLD_BYTES_MAX };
    struct lyap_intake *intake = NULL;
    struct lyap_partial partial;
    struct lyap_memory *memory;
    struct lyap_point point;
    must(lyap_intake_new(&config, &intake, NULL) == LYAP_OK &&
             lyap_intake_plan(intake, entries, count, NULL) == LYAP_OK,
         "the plan of a push");
    for (uint32_t e = 0; e < count; e++)
        lyap_intake_bytes(intake, e,
                          (const unsigned char *)(arrays[e / TRAINING_TENSORS] +
                                                  training_starts[e % TRAINING_TENSORS]),
                          entries[e].count * sizeof(double));
    must(lyap_intake_finish(intake, &partial, &memory) == LYAP_OK &&
             lyap_profile_step(s->profile, &s->snapshot, &partial, LYAP_REASON_NONE, &point,
                               NULL) == LYAP_OK,
         "a step");
    lyap_intake_free(intake);
    lyap_partial_release(&partial);
    lyap_memory_free(s->memory);
    s->memory = memory;
    return point;
}
