/* The optimizers' update rules on chunks of elements. */
#include "step.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { HAS_FIRST = 1, HAS_SECOND = 2, IS_LINEAR = 4, IS_ADAPTIVE = 8, IS_DECAY_COUPLED = 16 };

/* What each rule reads and how its weight decay enters. */
static const unsigned traits[LYAP_OPTIMIZER_COUNT] = {
    [LYAP_OPTIMIZER_SGD] = IS_LINEAR | IS_DECAY_COUPLED,
    [LYAP_OPTIMIZER_ADAM] = HAS_FIRST | HAS_SECOND | IS_ADAPTIVE | IS_DECAY_COUPLED,
    [LYAP_OPTIMIZER_ADAMW] = HAS_FIRST | HAS_SECOND | IS_ADAPTIVE,
    [LYAP_OPTIMIZER_RMSPROP] = HAS_SECOND | IS_ADAPTIVE | IS_DECAY_COUPLED,
    [LYAP_OPTIMIZER_LION] = HAS_FIRST,
};

static bool is(enum lyap_optimizer_type type, unsigned trait)
{
    assert((unsigned)type < LYAP_OPTIMIZER_COUNT);
    return (traits[type] & trait) != 0;
}

bool lyap_step_is_linear(enum lyap_optimizer_type type)
{
    return is(type, IS_LINEAR);
}

bool lyap_step_is_adaptive(enum lyap_optimizer_type type)
{
    return is(type, IS_ADAPTIVE);
}

bool lyap_step_is_momentum(const struct lyap_step_rule *rule)
{
    const bool has_buffer =
        rule->type == LYAP_OPTIMIZER_SGD || rule->type == LYAP_OPTIMIZER_RMSPROP;
    return has_buffer && rule->params.momentum != 0 && !rule->is_first;
}

bool lyap_step_needs(const struct lyap_step_rule *rule, enum lyap_state_part part)
{
    if (part == LYAP_STATE_SECOND)
        return is(rule->type, HAS_SECOND);
    return is(rule->type, HAS_FIRST) || lyap_step_is_momentum(rule);
}

bool lyap_step_is_known(const struct lyap_step_rule *rule)
{
    if (!isfinite(rule->params.lr))
        return false;
    if (lyap_step_is_late(rule))
        return isfinite(lyap_step_is_shrunk(rule) ? rule->shrink : rule->shift);
    switch (rule->type) {
    case LYAP_OPTIMIZER_ADAM:
    case LYAP_OPTIMIZER_ADAMW:
        return rule->updates >= 0; /* false for NaN */
    default:
        return rule->type != LYAP_OPTIMIZER_OTHER;
    }
}

bool lyap_step_is_shrunk(const struct lyap_step_rule *rule)
{
    return (rule->type == LYAP_OPTIMIZER_PROXGD && rule->prox == LYAP_PROX_GROUP_L1) ||
           (rule->type == LYAP_OPTIMIZER_PROJGD && rule->set == LYAP_SET_BALL);
}

bool lyap_step_is_late(const struct lyap_step_rule *rule)
{
    return lyap_step_is_shrunk(rule) ||
           (rule->type == LYAP_OPTIMIZER_PROJGD && rule->set == LYAP_SET_SIMPLEX);
}

bool lyap_step_is_form(const struct lyap_step_rule *rule)
{
    return is(rule->type, IS_LINEAR) || lyap_step_is_shrunk(rule);
}

uint64_t lyap_step_state_bytes(const struct lyap_optimizer *optimizer)
{
    bool has_momentum = optimizer->base.momentum != 0;
    for (uint32_t g = 0; g < optimizer->group_count; g++)
        has_momentum = has_momentum || optimizer->groups[g].params.momentum != 0;
    const bool has_buffer = has_momentum && (optimizer->type == LYAP_OPTIMIZER_SGD ||
                                             optimizer->type == LYAP_OPTIMIZER_RMSPROP);
    const uint64_t first = is(optimizer->type, HAS_FIRST) || has_buffer ? sizeof(float) : 0;
    const uint64_t second = is(optimizer->type, HAS_SECOND) ? sizeof(float) : 0;
    return first + second;
}

/* SGD as torch computes it (SPEC 0.1): v_t = beta v_{t-1} + (1 - damp) e_t, but v = e at the first
 * update; p = -lr v_t, with Nesterov -lr (e_t + beta v_t). The update before was -lr' v_{t-1} = D,
 * or with Nesterov D = -lr' (e_{t-1} + beta v_{t-1}), which gives v_{t-1}. */
static struct lyap_step_linear sgd_factors(const struct lyap_step_rule *rule,
                                           const struct lyap_step_rule *previous)
{
    const struct lyap_optimizer_params *c = &rule->params;
    const bool has_buffer = c->momentum != 0 && !rule->is_first;
    double gain = has_buffer ? 1 - c->dampening : 1;
    if (c->is_nesterov)
        gain = 1 + c->momentum * gain;
    struct lyap_step_linear factors = { .grad = -c->lr * gain,
                                        .param = -c->lr * gain * c->weight_decay };
    if (!has_buffer || !previous)
        return factors;
    factors.delta = c->lr / previous->params.lr * c->momentum;
    if (c->is_nesterov) {
        factors.grad_prev = c->lr * c->momentum * previous->clip;
        factors.param_prev = c->lr * c->momentum * previous->params.weight_decay;
    }
    return factors;
}

struct lyap_step_linear lyap_step_linear(const struct lyap_step_rule *rule,
                                         const struct lyap_step_rule *previous)
{
    if (rule->type == LYAP_OPTIMIZER_SGD)
        return sgd_factors(rule, previous);
    if (lyap_step_is_shrunk(rule))
        return (struct lyap_step_linear){ .grad = -rule->params.lr * rule->shrink,
                                          .param = rule->shrink - 1 };
    struct lyap_step_linear factors = { 0 };
    if (lyap_step_is_momentum(rule) && previous)
        factors.delta = rule->params.lr / previous->params.lr * rule->params.momentum;
    return factors;
}

void lyap_step_effective(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                         const struct lyap_step_arrays *arrays, double *ret)
{
    const double decay = is(rule->type, IS_DECAY_COUPLED) ? rule->params.weight_decay : 0;
    const double factors[2] = { rule->clip, decay };
    kernels->combine(arrays->grad, arrays->param, arrays->count, factors, ret);
}

void lyap_step_advance(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                       enum lyap_state_part part, const double *const held_and_effective[2],
                       size_t count, double *ret)
{
    const double *held = held_and_effective[0], *effective = held_and_effective[1];
    const double beta1 =
        rule->type == LYAP_OPTIMIZER_LION ? rule->params.beta2 : rule->params.beta1;
    const double beta = part == LYAP_STATE_FIRST ? beta1 : rule->params.beta2;
    const double factors[2] = { beta, 1 - beta };
    if (part == LYAP_STATE_FIRST)
        kernels->combine(held, effective, count, factors, ret);
    else
        kernels->combine_sq(held, effective, count, factors, ret);
}

/* Bias corrections of m and v after `updates` updates; rmsprop has none. */
static double correction(const struct lyap_step_rule *rule, double beta, double updates)
{
    return rule->type == LYAP_OPTIMIZER_RMSPROP ? 1 : 1 - pow(beta, updates);
}

void lyap_step_precondition(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                            const struct lyap_step_weight *weight, size_t count, double *ret)
{
    const double corrected1 = correction(rule, rule->params.beta1, weight->updates);
    const double corrected2 = correction(rule, rule->params.beta2, weight->updates);
    const double factors[3] = { weight->scale * corrected1, 1 / corrected2, rule->params.eps };
    kernels->precondition(weight->second, count, factors, ret);
}

/* -lr m/P with m, v advanced by this gradient; rmsprop: e in the place of m, and the buffer's part
 * M is added; adamw: its decay. */
static void adaptive_update(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                            const struct lyap_step_arrays *arrays, double *scratch, double *ret)
{
    const size_t count = arrays->count;
    double *effective = scratch, *next = scratch + count, *weight = scratch + 2 * count;
    const double *numerator = effective;
    lyap_step_effective(kernels, rule, arrays, effective);
    const double *const second[2] = { arrays->second, effective };
    lyap_step_advance(kernels, rule, LYAP_STATE_SECOND, second, count, next);
    const struct lyap_step_weight plain_weight = { next, rule->updates + 1, 1 };
    lyap_step_precondition(kernels, rule, &plain_weight, count, weight);
    if (is(rule->type, HAS_FIRST)) {
        const double *const first[2] = { arrays->first, effective };
        lyap_step_advance(kernels, rule, LYAP_STATE_FIRST, first, count, next);
        numerator = next;
    }
    kernels->quotient(numerator, weight, count, -rule->params.lr, ret);
    const double decay[2] = { 1, -rule->params.lr * rule->params.weight_decay };
    const double plain[2] = { 1, 1 };
    if (rule->type == LYAP_OPTIMIZER_ADAMW && rule->params.weight_decay != 0)
        kernels->combine(ret, arrays->param, count, decay, ret);
    if (lyap_step_is_momentum(rule))
        kernels->combine(ret, arrays->first, count, plain, ret);
}

static double sign_of(double x)
{
    return (double)((x > 0) - (x < 0));
}

/* Lion: sign of beta1 m + (1 - beta1) g; signsgd: sign of g. */
double lyap_step_direction(const struct lyap_step_rule *rule, double grad, double first)
{
    const double beta = rule->type == LYAP_OPTIMIZER_LION ? rule->params.beta1 : 0;
    return sign_of(beta * first + (1 - beta) * rule->clip * grad);
}

/* With Lion's decoupled decay. */
static void sign_update(const struct lyap_step_rule *rule, const struct lyap_step_arrays *arrays,
                        double *ret)
{
    const double decay = rule->type == LYAP_OPTIMIZER_LION ? rule->params.weight_decay : 0;
    for (size_t i = 0; i < arrays->count; i++) {
        const double direction = lyap_step_direction(rule, arrays->grad[i], arrays->first[i]);
        ret[i] = -rule->params.lr * (direction + decay * arrays->param[i]);
    }
}

static double shrunk(double x, double threshold)
{
    return sign_of(x) * fmax(fabs(x) - threshold, 0);
}

/* prox of lr r with r = lambda |x|_1, lambda/2 |x|^2, or l1 |x|_1 + l2/2 |x|^2; the box clamps, the
 * simplex cuts off at its shift. */
static double proximal(const struct lyap_step_rule *rule, double x)
{
    const double lr = rule->params.lr;
    if (rule->type == LYAP_OPTIMIZER_PROJGD && rule->set == LYAP_SET_SIMPLEX)
        return fmax(x - rule->shift, 0);
    if (rule->type == LYAP_OPTIMIZER_PROJGD)
        return fmin(fmax(x, rule->set_low), rule->set_high);
    if (rule->prox == LYAP_PROX_L1)
        return shrunk(x, lr * rule->prox_lambda);
    if (rule->prox == LYAP_PROX_L2)
        return x / (1 + lr * rule->prox_lambda);
    return shrunk(x, lr * rule->prox_l1) / (1 + lr * rule->prox_l2);
}

static void proximal_update(const struct lyap_step_rule *rule,
                            const struct lyap_step_arrays *arrays, double *ret)
{
    const double factor = rule->params.lr * rule->clip;
    for (size_t i = 0; i < arrays->count; i++)
        ret[i] = proximal(rule, arrays->param[i] - factor * arrays->grad[i]) - arrays->param[i];
}

static void linear_update(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                          const struct lyap_step_arrays *arrays, double *ret)
{
    const struct lyap_step_linear linear = lyap_step_linear(rule, NULL);
    const double factors[2] = { linear.grad * rule->clip, linear.param }, plain[2] = { 1, 1 };
    kernels->combine(arrays->grad, arrays->param, arrays->count, factors, ret);
    if (lyap_step_is_momentum(rule))
        kernels->combine(ret, arrays->first, arrays->count, plain, ret);
}

void lyap_step_update(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                      const struct lyap_step_arrays *arrays, double *scratch, double *ret)
{
    if (lyap_step_is_form(rule))
        linear_update(kernels, rule, arrays, ret);
    else if (is(rule->type, IS_ADAPTIVE))
        adaptive_update(kernels, rule, arrays, scratch, ret);
    else if (rule->type == LYAP_OPTIMIZER_PROXGD || rule->type == LYAP_OPTIMIZER_PROJGD)
        proximal_update(rule, arrays, ret);
    else
        sign_update(rule, arrays, ret);
}

void lyap_step_inverse(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                       const double *second_next, size_t count, double *ret)
{
    const double eps = rule->params.eps;
    const double corrected = correction(rule, rule->params.beta2, rule->updates + 1);
    const double factors[2] = { 1 / corrected, eps * eps };
    kernels->inverse(second_next, count, factors, ret);
}

/* The exact derivative of p in g, v's dependence on g included (SPEC 1.6, adam_gain). */
void lyap_step_gain(const struct lyap_kernels *kernels, const struct lyap_step_rule *rule,
                    const struct lyap_step_arrays *arrays, const double *effective,
                    double *const rets[3])
{
    const struct lyap_optimizer_params *c = &rule->params;
    const bool has_first = is(rule->type, HAS_FIRST);
    const double updates = rule->updates + 1;
    const struct lyap_gain constants = {
        .beta1 = has_first ? c->beta1 : 0,
        .beta2 = c->beta2,
        .inverse1 = has_first ? 1 / correction(rule, c->beta1, updates) : 1,
        .inverse2 = 1 / correction(rule, c->beta2, updates),
        .eps = c->eps,
        .rate = c->lr * rule->clip,
    };
    const double *const sources[4] = { arrays->grad, effective, arrays->first, arrays->second };
    kernels->gain(sources, arrays->count, &constants, rets);
}
