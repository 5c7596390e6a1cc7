/* Optimizers as their frameworks define them, and the pushes of a run of them. */
#include "session.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/intake.h"

static const uint32_t starts[SESSION_TENSORS + 1] = { 0, 5, 9, SESSION_SIZE };
static uint32_t order[SESSION_TENSORS] = { 0, 1, 2 };
static const char *const names[SESSION_TENSORS] = { "a", "b", "c" };
static const double LAMBDA = 0.3, RADIUS = 1.5, LOW = -0.5, HIGH = 0.8;
static const double B1 = 0.8, B2 = 0.9, EPS = 1e-3;

bool session_is_proximal(const struct session_kind *kind)
{
    return kind->type == LYAP_OPTIMIZER_PROXGD || kind->type == LYAP_OPTIMIZER_PROJGD;
}

static double penalty(const struct session *s)
{
    double sum = 0, square = 0, norms = 0;
    for (int t = 0; t < SESSION_TENSORS; t++) {
        double part = 0;
        for (uint32_t i = starts[t]; i < starts[t + 1]; i++) {
            sum += fabs(s->x[i]);
            part += s->x[i] * s->x[i];
        }
        square += part;
        norms += sqrt(part);
    }
    switch (s->kind->prox) {
    case LYAP_PROX_L1:
        return LAMBDA * sum;
    case LYAP_PROX_L2:
        return LAMBDA * square / 2;
    case LYAP_PROX_GROUP_L1:
        return LAMBDA * norms;
    case LYAP_PROX_ELASTIC_NET:
        return LAMBDA * (sum + square / 2);
    case LYAP_PROX_NONE:
        break;
    }
    return 0;
}

static bool is_adaptive(const struct session_kind *kind)
{
    return kind->type == LYAP_OPTIMIZER_ADAM || kind->type == LYAP_OPTIMIZER_ADAMW ||
           kind->type == LYAP_OPTIMIZER_RMSPROP;
}

/* P of SPEC 2.2 after t updates. */
static double weight(const struct session *s, int i)
{
    if (s->kind->type == LYAP_OPTIMIZER_RMSPROP)
        return sqrt(s->v[i]) + EPS;
    if (!is_adaptive(s->kind) || s->t == 0)
        return 1;
    return (1 - pow(B1, s->t)) * (sqrt(s->v[i] / (1 - pow(B2, s->t))) + EPS);
}

/* ---- proximal and projected steps ---- */

static void project_simplex(double *x)
{
    double low = -1e3, high = 1e3;
    for (int n = 0; n < 200; n++) {
        const double shift = 0.5 * (low + high);
        double sum = 0;
        for (int i = 0; i < SESSION_SIZE; i++)
            sum += fmax(x[i] - shift, 0);
        *(sum > RADIUS ? &low : &high) = shift;
    }
    for (int i = 0; i < SESSION_SIZE; i++)
        x[i] = fmax(x[i] - high, 0);
}

static double norm_of(const double *x, uint32_t first, uint32_t end)
{
    double sum = 0;
    for (uint32_t i = first; i < end; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

static void scale(double *x, uint32_t first, uint32_t end, double factor)
{
    for (uint32_t i = first; i < end; i++)
        x[i] *= factor;
}

static void project(struct session *s)
{
    for (int i = 0; i < SESSION_SIZE && s->kind->set == LYAP_SET_BOX; i++)
        s->x[i] = fmin(fmax(s->x[i], LOW), HIGH);
    if (s->kind->set == LYAP_SET_BALL)
        scale(s->x, 0, SESSION_SIZE, fmin(1, RADIUS / norm_of(s->x, 0, SESSION_SIZE)));
    if (s->kind->set == LYAP_SET_SIMPLEX)
        project_simplex(s->x);
}

static void shrink(struct session *s)
{
    const double by = s->lr * LAMBDA;
    const enum lyap_prox_kind prox = s->kind->prox;
    for (int i = 0; i < SESSION_SIZE; i++) {
        double *x = &s->x[i];
        if (prox == LYAP_PROX_L1 || prox == LYAP_PROX_ELASTIC_NET)
            *x = copysign(fmax(fabs(*x) - by, 0), *x);
        if (prox == LYAP_PROX_L2 || prox == LYAP_PROX_ELASTIC_NET)
            *x /= 1 + by;
    }
    for (int t = 0; t < SESSION_TENSORS && prox == LYAP_PROX_GROUP_L1; t++)
        scale(s->x, starts[t], starts[t + 1],
              fmax(1 - by / norm_of(s->x, starts[t], starts[t + 1]), 0));
}

/* ---- updates ---- */

void session_gradient(struct session *s)
{
    s->loss = penalty(s);
    for (int i = 0; i < SESSION_SIZE; i++) {
        const double apart = s->x[i] - s->centre[i];
        s->g[i] = s->h[i] * apart;
        s->loss += 0.5 * s->h[i] * apart * apart;
    }
}

static void step_of(struct session *s, int i, double g)
{
    const struct session_kind *k = s->kind;
    if (k->type != LYAP_OPTIMIZER_ADAMW)
        g += k->weight_decay * s->x[i];
    if (!is_adaptive(k)) {
        s->m[i] = k->momentum * s->m[i] + g;
        s->x[i] -= s->lr * (k->is_nesterov ? g + k->momentum * s->m[i] : s->m[i]);
        return;
    }
    s->v[i] = B2 * s->v[i] + (1 - B2) * g * g;
    s->m[i] = k->type == LYAP_OPTIMIZER_RMSPROP ? g : B1 * s->m[i] + (1 - B1) * g;
    s->x[i] -= s->lr * (s->m[i] / weight(s, i) +
                        (k->type == LYAP_OPTIMIZER_ADAMW ? k->weight_decay * s->x[i] : 0));
}

void session_update(struct session *s)
{
    const double norm = norm_of(s->g, 0, SESSION_SIZE);
    const double clip = s->kind->clip_norm > 0 ? fmin(1, s->kind->clip_norm / norm) : 1;
    s->t++;
    for (int i = 0; i < SESSION_SIZE; i++)
        step_of(s, i, clip * s->g[i]);
    shrink(s);
    project(s);
}

/* ---- the run ---- */

static void declare(struct session *s)
{
    struct lyap_declaration *d = &s->declaration;
    lyap_declaration_init(d);
    for (uint32_t t = 0; t < SESSION_TENSORS; t++)
        s->tensors[t] = (struct lyap_tensor){ .name = (char *)names[t],
                                              .rank = 1,
                                              .shape = { starts[t + 1] - starts[t] },
                                              .count = starts[t + 1] - starts[t] };
    d->set =
        (struct lyap_tensor_set){ .tensors = s->tensors, .count = SESSION_TENSORS, .order = order };
    lyap_optimizer_defaults(&d->optimizer, s->kind->type);
    d->optimizer.base.lr = s->lr;
    d->optimizer.base.momentum = s->kind->momentum;
    d->optimizer.base.is_nesterov = s->kind->is_nesterov;
    d->optimizer.base.weight_decay = s->kind->weight_decay;
    d->optimizer.base.beta1 = B1;
    d->optimizer.base.beta2 = B2;
    d->optimizer.base.eps = EPS;
    d->optimizer.prox = s->kind->prox;
    d->optimizer.prox_lambda = d->optimizer.prox_l1 = d->optimizer.prox_l2 = LAMBDA;
    d->optimizer.set = s->kind->set;
    d->optimizer.set_low = LOW;
    d->optimizer.set_high = HIGH;
    d->optimizer.set_radius = RADIUS;
    d->has_optimizer = true;
    d->data = LYAP_DATA_FULL_BATCH;
    must(lyap_profile_new(d, NAN, &s->profile) == LYAP_OK, "a profile");
}

void session_begin(struct session *s, const struct session_kind *kind, struct random *random)
{
    memset(s, 0, sizeof *s);
    s->kind = kind;
    for (int i = 0; i < SESSION_SIZE; i++) {
        s->h[i] = 0.2 + 4 * random_uniform(random);
        s->centre[i] = random_normal(random);
        s->x[i] = random_normal(random);
    }
    /* One leads, and no penalty holds it at zero. */
    const uint32_t lead = random_count(random, SESSION_SIZE) - 1;
    s->h[lead] = 4.2;
    s->centre[lead] += copysign(1, s->centre[lead]);
    for (int i = 0; i < SESSION_SIZE; i++)
        s->ell = fmax(s->ell, s->h[i]);
    s->lr = kind->rate * (0.2 + random_uniform(random)) / (s->ell + kind->weight_decay);
    project(s);
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

void session_set_lr(struct session *s, double lr)
{
    s->lr = lr;
}

/* ---- pushes ---- */

static void meta(struct session *s, const char *key, double value)
{
    char text[40];
    (void)snprintf(text, sizeof text, "%.17g", value);
    must(lyap_snapshot_set(&s->snapshot, key, text, NULL) == LYAP_OK, key);
}

/* Along the largest curvature of P^-1 H. */
static void make_pair(const struct session *s, double *pair_s, double *pair_y)
{
    int top = 0;
    for (int i = 0; i < SESSION_SIZE; i++) {
        pair_s[i] = pair_y[i] = 0;
        if (s->h[i] / weight(s, i) > s->h[top] / weight(s, top))
            top = i;
    }
    pair_s[top] = 1e-3;
    pair_y[top] = s->h[top] * 1e-3;
}

struct lyap_point session_push(struct session *s)
{
    enum { ROLES = 4 };
    static const enum lyap_role roles[ROLES] = { LYAP_ROLE_GRAD, LYAP_ROLE_PARAM, LYAP_ROLE_PAIR_S,
                                                 LYAP_ROLE_PAIR_Y };
    double pair_s[SESSION_SIZE], pair_y[SESSION_SIZE];
    const double *const arrays[ROLES] = { s->g, s->x, pair_s, pair_y };
    struct lyap_intake_entry entries[ROLES * SESSION_TENSORS];
    const uint32_t count = (s->t > 0 ? ROLES : 2) * SESSION_TENSORS;
    make_pair(s, pair_s, pair_y);
    for (uint32_t e = 0; e < count; e++)
        entries[e] = (struct lyap_intake_entry){ .kind = LYAP_INTAKE_TENSOR,
                                                 .what = roles[e / SESSION_TENSORS],
                                                 .tensor = e % SESSION_TENSORS,
                                                 .dtype = LYAP_DTYPE_F64,
                                                 .count = s->tensors[e % SESSION_TENSORS].count,
                                                 .shape = s->tensors[e % SESSION_TENSORS].shape,
                                                 .rank = 1 };
    lyap_snapshot_release(&s->snapshot);
    lyap_snapshot_init(&s->snapshot);
    meta(s, "step", s->t);
    meta(s, "loss", s->loss);
    meta(s, "lr", s->lr);
    if (s->kind->clip_norm > 0)
        meta(s, "clip_norm", s->kind->clip_norm);
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
        lyap_intake_bytes(
            intake, e,
            (const unsigned char *)(arrays[e / SESSION_TENSORS] + starts[e % SESSION_TENSORS]),
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
