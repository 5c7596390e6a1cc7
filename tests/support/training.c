/* Optimizers as their frameworks define them. */
#include "training.h"

#include <math.h>

const uint32_t training_starts[TRAINING_TENSORS + 1] = { 0, 5, 9, TRAINING_SIZE };
const double TRAINING_BETA1 = 0.8, TRAINING_BETA2 = 0.9, TRAINING_EPS = 1e-3;
static const double LAMBDA = 0.3, RADIUS = 1.5, LOW = -0.5, HIGH = 0.8;

bool training_is_proximal(const struct training_kind *kind)
{
    return kind->type == LYAP_OPTIMIZER_PROXGD || kind->type == LYAP_OPTIMIZER_PROJGD;
}

bool training_is_adaptive(const struct training_kind *kind)
{
    return kind->type == LYAP_OPTIMIZER_ADAM || kind->type == LYAP_OPTIMIZER_ADAMW ||
           kind->type == LYAP_OPTIMIZER_RMSPROP;
}

static double norm_of(const double *x, uint32_t first, uint32_t end)
{
    double sum = 0;
    for (uint32_t i = first; i < end; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

static double penalty(const struct training *run)
{
    double sum = 0, norms = 0;
    const double norm = norm_of(run->x, 0, TRAINING_SIZE);
    for (int i = 0; i < TRAINING_SIZE; i++)
        sum += fabs(run->x[i]);
    for (int t = 0; t < TRAINING_TENSORS; t++)
        norms += norm_of(run->x, training_starts[t], training_starts[t + 1]);
    switch (run->kind->prox) {
    case LYAP_PROX_L1:
        return LAMBDA * sum;
    case LYAP_PROX_L2:
        return LAMBDA * norm * norm / 2;
    case LYAP_PROX_GROUP_L1:
        return LAMBDA * norms;
    case LYAP_PROX_ELASTIC_NET:
        return LAMBDA * (sum + norm * norm / 2);
    case LYAP_PROX_NONE:
        break;
    }
    return 0;
}

double training_loss(const struct training *run)
{
    double sum = penalty(run);
    for (int i = 0; i < TRAINING_SIZE; i++)
        sum += 0.5 * run->h[i] * (run->x[i] - run->centre[i]) * (run->x[i] - run->centre[i]);
    return sum;
}

void training_gradient(struct training *run)
{
    for (int i = 0; i < TRAINING_SIZE; i++)
        run->g[i] = run->h[i] * (run->x[i] - run->centre[i]);
}

double training_weight(const struct training *run, int i)
{
    if (run->kind->type == LYAP_OPTIMIZER_RMSPROP)
        return sqrt(run->v[i]) + TRAINING_EPS;
    if (!training_is_adaptive(run->kind) || run->t == 0)
        return 1;
    const double corrected = run->v[i] / (1 - pow(TRAINING_BETA2, run->t));
    return (1 - pow(TRAINING_BETA1, run->t)) * (sqrt(corrected) + TRAINING_EPS);
}

void training_pair(const struct training *run, double *ret_s, double *ret_y)
{
    int top = 0;
    for (int i = 0; i < TRAINING_SIZE; i++) {
        ret_s[i] = ret_y[i] = 0;
        if (run->h[i] / training_weight(run, i) > run->h[top] / training_weight(run, top))
            top = i;
    }
    ret_s[top] = 1e-3;
    ret_y[top] = run->h[top] * ret_s[top];
}

/* ---- proximal and projected steps ---- */

/* Onto { x >= 0, sum = RADIUS }: bisection on the shift. */
static void project_simplex(double *x)
{
    double low = -1e3, high = 1e3;
    for (int n = 0; n < 200; n++) {
        const double shift = 0.5 * (low + high);
        double sum = 0;
        for (int i = 0; i < TRAINING_SIZE; i++)
            sum += fmax(x[i] - shift, 0);
        *(sum > RADIUS ? &low : &high) = shift;
    }
    for (int i = 0; i < TRAINING_SIZE; i++)
        x[i] = fmax(x[i] - high, 0);
}

static void scale(double *x, uint32_t first, uint32_t end, double factor)
{
    for (uint32_t i = first; i < end; i++)
        x[i] *= factor;
}

void training_project(struct training *run)
{
    for (int i = 0; i < TRAINING_SIZE && run->kind->set == LYAP_SET_BOX; i++)
        run->x[i] = fmin(fmax(run->x[i], LOW), HIGH);
    if (run->kind->set == LYAP_SET_BALL)
        scale(run->x, 0, TRAINING_SIZE, fmin(1, RADIUS / norm_of(run->x, 0, TRAINING_SIZE)));
    if (run->kind->set == LYAP_SET_SIMPLEX)
        project_simplex(run->x);
}

static void shrink(struct training *run)
{
    const double by = run->lr * LAMBDA;
    const enum lyap_prox_kind prox = run->kind->prox;
    for (int i = 0; i < TRAINING_SIZE; i++) {
        double *x = &run->x[i];
        if (prox == LYAP_PROX_L1 || prox == LYAP_PROX_ELASTIC_NET)
            *x = copysign(fmax(fabs(*x) - by, 0), *x);
        if (prox == LYAP_PROX_L2 || prox == LYAP_PROX_ELASTIC_NET)
            *x /= 1 + by;
    }
    for (int t = 0; t < TRAINING_TENSORS && prox == LYAP_PROX_GROUP_L1; t++) {
        const uint32_t first = training_starts[t], end = training_starts[t + 1];
        scale(run->x, first, end, fmax(1 - by / norm_of(run->x, first, end), 0));
    }
}

/* ---- updates ---- */

static void step_of(struct training *run, int i, double g)
{
    const struct training_kind *k = run->kind;
    const double b1 = TRAINING_BETA1, b2 = TRAINING_BETA2;
    if (k->type != LYAP_OPTIMIZER_ADAMW)
        g += k->weight_decay * run->x[i];
    if (k->type == LYAP_OPTIMIZER_SIGNSGD) {
        run->x[i] -= run->lr * (double)((g > 0) - (g < 0));
        return;
    }
    if (!training_is_adaptive(k)) {
        run->m[i] = k->momentum * run->m[i] + g;
        run->x[i] -= run->lr * (k->is_nesterov ? g + k->momentum * run->m[i] : run->m[i]);
        return;
    }
    run->v[i] = b2 * run->v[i] + (1 - b2) * g * g;
    run->m[i] = k->type == LYAP_OPTIMIZER_RMSPROP ? g : b1 * run->m[i] + (1 - b1) * g;
    run->x[i] -= run->lr * (run->m[i] / training_weight(run, i) +
                            (k->type == LYAP_OPTIMIZER_ADAMW ? k->weight_decay * run->x[i] : 0));
}

void training_update(struct training *run)
{
    const double norm = norm_of(run->g, 0, TRAINING_SIZE);
    const double clip = run->kind->clip_norm > 0 ? fmin(1, run->kind->clip_norm / norm) : 1;
    run->t++;
    for (int i = 0; i < TRAINING_SIZE; i++)
        step_of(run, i, clip * run->g[i]);
    shrink(run);
    training_project(run);
}

void training_declare(const struct training *run, struct lyap_declaration *declaration)
{
    const struct training_kind *kind = run->kind;
    struct lyap_optimizer *optimizer = &declaration->optimizer;
    lyap_optimizer_defaults(optimizer, kind->type);
    optimizer->base.lr = run->lr;
    optimizer->base.momentum = kind->momentum;
    optimizer->base.is_nesterov = kind->is_nesterov;
    optimizer->base.weight_decay = kind->weight_decay;
    optimizer->base.beta1 = TRAINING_BETA1;
    optimizer->base.beta2 = TRAINING_BETA2;
    optimizer->base.eps = TRAINING_EPS;
    optimizer->prox = kind->prox;
    optimizer->prox_lambda = optimizer->prox_l1 = optimizer->prox_l2 = LAMBDA;
    optimizer->set = kind->set;
    optimizer->set_low = LOW;
    optimizer->set_high = HIGH;
    optimizer->set_radius = RADIUS;
    declaration->has_optimizer = true;
    declaration->data = LYAP_DATA_FULL_BATCH;
}
