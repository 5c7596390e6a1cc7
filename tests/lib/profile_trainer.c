/* A training loop on the golden network. */
#include "profile_trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"

static const uint64_t lengths[4] = { 60, 10, 30, 3 };
static const uint32_t starts[4] = { 0, 60, 70, 100 };

void trainer_init(struct trainer *t, enum lyap_optimizer_type type,
                  const struct lyap_optimizer_params *params)
{
    memset(t, 0, sizeof *t);
    golden_net_init(&t->net);
    memcpy(t->theta, t->net.start, sizeof t->theta);
    fixture_init(&t->fixture, lengths, 4);
    struct lyap_declaration *d = &t->fixture.declaration;
    lyap_optimizer_defaults(&d->optimizer, type);
    d->optimizer.base = *params;
    d->has_optimizer = true;
    d->data = LYAP_DATA_FULL_BATCH;
    t->lr = params->lr;
    t->loss_factor = 1;
    t->has_sketches = true;
    struct test_rng rng = { 4 };
    test_rng_normals(&rng, t->direction, NET_SIZE);
    ck_assert_int_eq(lyap_profile_new(d, NAN, &t->profile), LYAP_OK);
}

void trainer_free(struct trainer *t)
{
    lyap_profile_free(t->profile);
    lyap_memory_free(t->memory);
    lyap_partial_release(&t->partial);
    fixture_free(&t->fixture);
}

static void meta(struct trainer *t, const char *key, double value)
{
    char text[40];
    snprintf(text, sizeof text, "%.17g", value);
    fixture_meta(&t->fixture, key, text);
}

static void add(struct trainer *t, enum lyap_role role, const double *values)
{
    for (uint32_t i = 0; i < 4; i++)
        fixture_add(&t->fixture, role, i, LYAP_DTYPE_F64, values + starts[i]);
}

static double norm(const double *x)
{
    double sum = 0;
    for (int i = 0; i < NET_SIZE; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* P up to a factor: what the client divides by in its power iteration. */
static double preconditioner(const struct trainer *t, int i)
{
    const struct lyap_optimizer *o = &t->fixture.declaration.optimizer;
    if (o->type == LYAP_OPTIMIZER_SGD || t->step == 0)
        return 1;
    return sqrt(t->second[i] / (1 - pow(o->base.beta2, (double)t->step))) + o->base.eps;
}

/* s = 1e-4 |theta| v / |v|; y = g(theta + s) - g(theta); v <- P^-1 y. */
static void make_pair(struct trainer *t)
{
    double moved[NET_SIZE], grad[NET_SIZE];
    const double scale = 1e-4 * norm(t->theta) / norm(t->direction);
    for (int i = 0; i < NET_SIZE; i++) {
        t->pair_s[i] = scale * t->direction[i];
        moved[i] = t->theta[i] + t->pair_s[i];
    }
    golden_net_grad(&t->net, moved, grad);
    for (int i = 0; i < NET_SIZE; i++) {
        t->pair_y[i] = t->loss_factor * grad[i] - t->grad[i];
        t->direction[i] = t->pair_y[i] / preconditioner(t, i);
    }
}

struct lyap_point trainer_push(struct trainer *t)
{
    t->loss = t->loss_factor * golden_net_grad(&t->net, t->theta, t->grad);
    for (int i = 0; i < NET_SIZE; i++)
        t->grad[i] *= t->loss_factor;
    fixture_step(&t->fixture, t->step);
    meta(t, "loss", t->loss);
    meta(t, "lr", t->lr);
    if (t->batch_id)
        fixture_meta(&t->fixture, "batch_id", t->batch_id);
    if (t->is_late)
        meta(t, "optimizer_step", 100 + (double)t->step);
    add(t, LYAP_ROLE_PARAM, t->theta);
    add(t, LYAP_ROLE_GRAD, t->grad);
    if (t->has_probe_loss) {
        meta(t, "probe_loss", t->loss);
        add(t, LYAP_ROLE_PROBE_GRAD, t->grad);
    }
    if (t->is_probing) {
        make_pair(t);
        add(t, LYAP_ROLE_PAIR_S, t->pair_s);
        add(t, LYAP_ROLE_PAIR_Y, t->pair_y);
    }
    lyap_partial_release(&t->partial);
    struct lyap_memory *memory;
    fixture_must_push(&t->fixture, t->memory, &t->partial, &memory);
    for (unsigned i = 0; i < LYAP_SKETCH_COUNT && !t->has_sketches; i++) {
        lyap_free(t->partial.sketches[i]);
        t->partial.sketches[i] = NULL;
    }
    struct lyap_point point;
    ck_assert_int_eq(lyap_profile_step(t->profile, &t->fixture.snapshot, &t->partial,
                                       LYAP_REASON_NONE, &point, t->rows),
                     LYAP_OK);
    lyap_memory_free(t->memory);
    t->memory = memory;
    return point;
}

void trainer_update(struct trainer *t)
{
    const struct lyap_optimizer *o = &t->fixture.declaration.optimizer;
    const struct lyap_optimizer_params *p = &o->base;
    const double n = (double)++t->step;
    for (int i = 0; i < NET_SIZE; i++) {
        const double g = t->grad[i];
        if (o->type == LYAP_OPTIMIZER_SGD) {
            t->first[i] = p->momentum * t->first[i] + g + p->weight_decay * t->theta[i];
            t->theta[i] -= t->lr * t->first[i];
            continue;
        }
        t->first[i] = p->beta1 * t->first[i] + (1 - p->beta1) * g;
        t->second[i] = p->beta2 * t->second[i] + (1 - p->beta2) * g * g;
        const double m = t->first[i] / (1 - pow(p->beta1, n));
        const double v = t->second[i] / (1 - pow(p->beta2, n));
        t->theta[i] -= t->lr * (m / (sqrt(v) + p->eps) + p->weight_decay * t->theta[i]);
    }
}

double trainer_value(const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *v = &point->metrics[metric];
    ck_assert_msg(v->reason == LYAP_REASON_NONE, "step %lld: %s is absent: %s",
                  (long long)point->step, lyap_metric_info(metric)->name,
                  lyap_reason_name((enum lyap_reason)v->reason));
    return v->value;
}
