/* Transition matrices, limits and their inverses. */
#include "lyap/transition.h"

#include <assert.h>
#include <math.h>

static enum lyap_method momentum_method(const struct lyap_optimizer_params *params)
{
    if (params->momentum == 0)
        return LYAP_METHOD_GD;
    return params->is_nesterov ? LYAP_METHOD_NESTEROV : LYAP_METHOD_HEAVY_BALL;
}

struct lyap_transition lyap_transition_of(enum lyap_optimizer_type type,
                                          const struct lyap_optimizer_params *params, double lr)
{
    struct lyap_transition t = { .method = LYAP_METHOD_NONE, .lr = lr, .gain = 1 };
    switch (type) {
    case LYAP_OPTIMIZER_SGD:
        t.method = momentum_method(params);
        t.beta = params->momentum;
        t.decay = params->weight_decay;
        if (t.method == LYAP_METHOD_HEAVY_BALL) /* without momentum there is nothing to dampen */
            t.gain = 1 - params->dampening;
        break;
    case LYAP_OPTIMIZER_RMSPROP:
        t.method = params->momentum == 0 ? LYAP_METHOD_GD : LYAP_METHOD_HEAVY_BALL;
        t.beta = params->momentum;
        break;
    case LYAP_OPTIMIZER_ADAM:
        t.method = LYAP_METHOD_ADAM;
        t.beta = params->beta1;
        break;
    case LYAP_OPTIMIZER_ADAMW:
        t.method = LYAP_METHOD_ADAM;
        t.beta = params->beta1;
        t.decay = params->weight_decay;
        break;
    case LYAP_OPTIMIZER_PROXGD:
    case LYAP_OPTIMIZER_PROJGD:
        t.method = LYAP_METHOD_GD;
        break;
    case LYAP_OPTIMIZER_LION:
    case LYAP_OPTIMIZER_SIGNSGD:
    case LYAP_OPTIMIZER_OTHER:
    case LYAP_OPTIMIZER_COUNT:
        break;
    }
    return t;
}

struct lyap_transition lyap_transition_strictest(const struct lyap_optimizer *optimizer,
                                                 const bool *used, double lr)
{
    struct lyap_transition found = lyap_transition_of(optimizer->type, &optimizer->base, lr);
    bool is_first = true;
    for (uint32_t i = 0; i <= optimizer->group_count; i++) {
        if (used && !used[i])
            continue;
        const struct lyap_optimizer_params *params = lyap_optimizer_group_params(optimizer, i);
        const struct lyap_transition t = lyap_transition_of(optimizer->type, params, lr);
        if (is_first || lyap_transition_limit(&t) < lyap_transition_limit(&found))
            found = t;
        is_first = false;
    }
    return found;
}

uint32_t lyap_transition_matrix(const struct lyap_transition *t, double lambda,
                                double ret_matrix[4])
{
    const double step = t->lr * t->gain * (lambda + t->decay), b = t->beta;
    const double a = 1 - step;
    switch (t->method) {
    case LYAP_METHOD_NONE:
        return 0;
    case LYAP_METHOD_GD:
        ret_matrix[0] = a;
        return 1;
    case LYAP_METHOD_HEAVY_BALL:
        ret_matrix[0] = 1 + b - step;
        ret_matrix[1] = -b;
        ret_matrix[2] = 1;
        ret_matrix[3] = 0;
        return 2;
    case LYAP_METHOD_NESTEROV:
        ret_matrix[0] = (1 + b) * a;
        ret_matrix[1] = -b * a;
        ret_matrix[2] = 1;
        ret_matrix[3] = 0;
        return 2;
    case LYAP_METHOD_ADAM:
        ret_matrix[0] = 1 - t->lr * t->decay - t->lr * (1 - b) * lambda;
        ret_matrix[1] = -t->lr * b;
        ret_matrix[2] = (1 - b) * lambda;
        ret_matrix[3] = b;
        return 2;
    }
    return 0;
}

double lyap_transition_limit(const struct lyap_transition *t)
{
    const double eta = t->lr * t->gain, b = t->beta;
    switch (t->method) {
    case LYAP_METHOD_NONE:
        return NAN;
    case LYAP_METHOD_GD:
    case LYAP_METHOD_HEAVY_BALL: /* GD: beta is 0 */
        return 2 * (1 + b) / eta - t->decay;
    case LYAP_METHOD_NESTEROV:
        return 2 * (1 + b) / ((1 + 2 * b) * eta) - t->decay;
    case LYAP_METHOD_ADAM:
        return (2 - t->lr * t->decay) * (1 + b) / ((1 - b) * t->lr);
    }
    return NAN;
}

/* Roots of x^2 - trace x + det, by the stable formula. */
static double radius_of_two(const double m[4])
{
    const double half = 0.5 * (m[0] + m[3]), det = m[0] * m[3] - m[1] * m[2];
    const double discriminant = half * half - det;
    if (discriminant <= 0)
        return sqrt(fmax(det, 0)); /* a conjugate pair: |x|^2 is the determinant */
    return fabs(half) + sqrt(discriminant);
}

double lyap_transition_radius(const struct lyap_transition *t, double lambda)
{
    double m[4];
    const uint32_t width = lyap_transition_matrix(t, lambda, m);
    if (width == 0)
        return NAN;
    return width == 1 ? fabs(m[0]) : radius_of_two(m);
}

double lyap_transition_lr_max(const struct lyap_transition *t, double lambda)
{
    const double b = t->beta, curvature = lambda + t->decay;
    assert(lambda > 0);
    switch (t->method) {
    case LYAP_METHOD_NONE:
        return NAN;
    case LYAP_METHOD_GD:
    case LYAP_METHOD_HEAVY_BALL:
        return 2 * (1 + b) / (t->gain * curvature);
    case LYAP_METHOD_NESTEROV:
        return 2 * (1 + b) / ((1 + 2 * b) * curvature);
    case LYAP_METHOD_ADAM: /* h < (2 - lr wd)(1 + b)/((1 - b) lr), solved for lr */
        return 2 * (1 + b) / ((1 - b) * lambda + (1 + b) * t->decay);
    }
    return NAN;
}

const char *lyap_transition_formula(enum lyap_method method)
{
    switch (method) {
    case LYAP_METHOD_NONE:
        break;
    case LYAP_METHOD_GD:
        return "2/lr - wd";
    case LYAP_METHOD_HEAVY_BALL:
        return "2(1+beta)/((1-dampening)lr) - wd";
    case LYAP_METHOD_NESTEROV:
        return "2(1+beta)/((1+2beta)lr) - wd";
    case LYAP_METHOD_ADAM:
        return "(2 - lr wd)(1+beta1)/((1-beta1)lr)";
    }
    return "none";
}

void lyap_transition_adam3(const struct lyap_adam_scalar *a, double ret_matrix[9])
{
    const double c1 = 1 - a->beta1, c2 = 1 - a->beta2;
    const double m = a->beta1 * a->m + c1 * a->grad;
    const double v = a->beta2 * a->v + c2 * a->grad * a->grad;
    const double root = sqrt(v), p = root + a->eps, slope = -1 / (2 * root * p * p);
    const double rows[9] = { 1 - a->lr * a->decay -
                                 a->lr * (c1 * a->curvature / p +
                                          m * slope * 2 * c2 * a->grad * a->curvature),
                             -a->lr * a->beta1 / p,
                             -a->lr * m * slope * a->beta2,
                             c1 * a->curvature,
                             a->beta1,
                             0,
                             2 * c2 * a->grad * a->curvature,
                             0,
                             a->beta2 };
    for (unsigned i = 0; i < 9; i++)
        ret_matrix[i] = rows[i];
}
