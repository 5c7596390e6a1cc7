/* The declared optimizer: defaults, ranges, groups. */
#include "lyap/optimizer.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/glob.h"
#include "lyap/text.h"
#include "banned.h"

static const char *const type_names[LYAP_OPTIMIZER_COUNT] = {
#define ROW(name, wire) wire,
    LYAP_OPTIMIZER_TABLE(ROW)
#undef ROW
};

/* torch's defaults; what a type does not use is 0. */
static const struct {
    double beta1, beta2, eps, weight_decay;
} defaults[LYAP_OPTIMIZER_COUNT] = {
    [LYAP_OPTIMIZER_OTHER] = { 0.9, 0.999, 1e-8, 0 },
    [LYAP_OPTIMIZER_ADAM] = { 0.9, 0.999, 1e-8, 0 },
    [LYAP_OPTIMIZER_ADAMW] = { 0.9, 0.999, 1e-8, 1e-2 },
    [LYAP_OPTIMIZER_RMSPROP] = { 0, 0.99, 1e-8, 0 },
    [LYAP_OPTIMIZER_LION] = { 0.9, 0.99, 0, 0 },
};

/* The constants that have a range; `below` excludes the upper end. */
static const struct constant {
    const char *name, *range;
    size_t offset;
    double high;
    bool is_below;
} constants[] = {
#define CONSTANT(name, range, high, is_below)                                                      \
    {                                                                                              \
#name, range, offsetof(struct lyap_optimizer_params, name), high, is_below                 \
    }
    CONSTANT(lr, ">= 0 and finite", INFINITY, true),
    CONSTANT(momentum, "in [0, 1)", 1, true),
    CONSTANT(dampening, "in [0, 1]", 1, false),
    CONSTANT(beta1, "in [0, 1)", 1, true),
    CONSTANT(beta2, "in [0, 1)", 1, true),
    CONSTANT(eps, ">= 0 and finite", INFINITY, true),
    CONSTANT(weight_decay, ">= 0 and finite", INFINITY, true),
#undef CONSTANT
};

bool lyap_optimizer_type_parse(const char *name, enum lyap_optimizer_type *ret_type)
{
    for (unsigned i = 0; i < LYAP_OPTIMIZER_COUNT; i++) {
        if (strcmp(type_names[i], name) == 0) {
            *ret_type = (enum lyap_optimizer_type)i;
            return true;
        }
    }
    return false;
}

void lyap_optimizer_init(struct lyap_optimizer *optimizer)
{
    *optimizer = (struct lyap_optimizer){ .type = LYAP_OPTIMIZER_OTHER };
    lyap_optimizer_defaults(optimizer, LYAP_OPTIMIZER_OTHER);
}

void lyap_optimizer_defaults(struct lyap_optimizer *optimizer, enum lyap_optimizer_type type)
{
    assert((unsigned)type < LYAP_OPTIMIZER_COUNT);
    optimizer->type = type;
    optimizer->base = (struct lyap_optimizer_params){
        .lr = NAN,
        .beta1 = defaults[type].beta1,
        .beta2 = defaults[type].beta2,
        .eps = defaults[type].eps,
        .weight_decay = defaults[type].weight_decay,
    };
}

static enum lyap_status params_check(const struct lyap_optimizer_params *params, const char *where,
                                     struct lyap_error *reterr)
{
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        const struct constant *c = &constants[i];
        double value;
        memcpy(&value, (const char *)params + c->offset, sizeof value);
        if (c->offset == offsetof(struct lyap_optimizer_params, lr) && isnan(value))
            continue;
        const bool is_in = value >= 0 && (c->is_below ? value < c->high : value <= c->high);
        if (!is_in)
            return lyap_error_set(reterr, LYAP_E_INVALID, "%s.%s is %.9g, but must be %s", where,
                                  c->name, value, c->range);
    }
    if (params->is_nesterov && !(params->momentum > 0 && params->dampening == 0))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "%s.nesterov needs momentum > 0 and dampening 0, but they are %.9g "
                              "and %.9g",
                              where, params->momentum, params->dampening);
    return LYAP_OK;
}

static enum lyap_status pattern_check(const char *pattern, struct lyap_error *reterr)
{
    struct lyap_quote quote;
    const size_t length = strlen(pattern);
    if (length == 0 || length > LYAP_PATTERN_BYTES_MAX)
        return lyap_error_set(
            reterr, LYAP_E_INVALID,
            "optimizer.groups: the pattern %s has %zu bytes, but must have 1 to %d",
            lyap_quote(pattern, length, &quote), length, LYAP_PATTERN_BYTES_MAX);
    return LYAP_OK;
}

static enum lyap_status patterns_check(const struct lyap_optimizer *optimizer,
                                       struct lyap_error *reterr)
{
    uint64_t count = 0, wild = 0;
    for (uint32_t g = 0; g < optimizer->group_count; g++) {
        const struct lyap_optimizer_group *group = &optimizer->groups[g];
        count += group->pattern_count;
        for (uint32_t p = 0; p < group->pattern_count; p++) {
            const enum lyap_status status = pattern_check(group->patterns[p], reterr);
            if (status)
                return status;
            wild += lyap_glob_is_wild(group->patterns[p]);
        }
    }
    if (count > LYAP_PATTERN_COUNT_MAX || wild > LYAP_WILDCARD_COUNT_MAX)
        return lyap_error_set(
            reterr, LYAP_E_INVALID,
            "optimizer.groups have %llu patterns, %llu with wildcards; at most %d "
            "and %d are allowed",
            (unsigned long long)count, (unsigned long long)wild, LYAP_PATTERN_COUNT_MAX,
            LYAP_WILDCARD_COUNT_MAX);
    return LYAP_OK;
}

static bool is_weight(double value)
{
    return isfinite(value) && value >= 0;
}

static enum lyap_status prox_check(const struct lyap_optimizer *optimizer,
                                   struct lyap_error *reterr)
{
    const bool wants = optimizer->type == LYAP_OPTIMIZER_PROXGD;
    if (wants != (optimizer->prox != LYAP_PROX_NONE))
        return lyap_error_set(reterr, LYAP_E_INVALID, "optimizer.prox %s",
                              wants ? "is needed by type proxgd" : "goes with type proxgd alone");
    if (!is_weight(optimizer->prox_lambda) || !is_weight(optimizer->prox_l1) ||
        !is_weight(optimizer->prox_l2))
        return lyap_error_set(
            reterr, LYAP_E_INVALID,
            "optimizer.prox: lambda, l1, l2 are %.9g, %.9g, %.9g, but must be >= 0 "
            "and finite",
            optimizer->prox_lambda, optimizer->prox_l1, optimizer->prox_l2);
    return LYAP_OK;
}

static enum lyap_status set_check(const struct lyap_optimizer *optimizer, struct lyap_error *reterr)
{
    const bool wants = optimizer->type == LYAP_OPTIMIZER_PROJGD;
    if (wants != (optimizer->set != LYAP_SET_NONE))
        return lyap_error_set(reterr, LYAP_E_INVALID, "optimizer.set %s",
                              wants ? "is needed by type projgd" : "goes with type projgd alone");
    const bool has_radius = optimizer->set == LYAP_SET_BALL || optimizer->set == LYAP_SET_SIMPLEX;
    if (has_radius && !(isfinite(optimizer->set_radius) && optimizer->set_radius > 0))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "optimizer.set.radius is %.9g, but must be > 0 and finite",
                              optimizer->set_radius);
    /* An end may be infinite: the non-negative orthant is a box. */
    if (optimizer->set == LYAP_SET_BOX && !(optimizer->set_low < optimizer->set_high))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "optimizer.set: low is %.9g, but must be below high, %.9g",
                              optimizer->set_low, optimizer->set_high);
    return LYAP_OK;
}

enum lyap_status lyap_optimizer_check(const struct lyap_optimizer *optimizer,
                                      struct lyap_error *reterr)
{
    if (optimizer->group_count > LYAP_GROUP_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "optimizer.groups has %u entries; at most %d are allowed",
                              optimizer->group_count, LYAP_GROUP_COUNT_MAX);
    enum lyap_status status = params_check(&optimizer->base, "optimizer", reterr);
    for (uint32_t g = 0; status == LYAP_OK && g < optimizer->group_count; g++) {
        char where[40];
        (void)snprintf(where, sizeof where, "optimizer.groups[%u]", g);
        status = params_check(&optimizer->groups[g].params, where, reterr);
    }
    if (status == LYAP_OK)
        status = patterns_check(optimizer, reterr);
    if (status == LYAP_OK)
        status = prox_check(optimizer, reterr);
    if (status == LYAP_OK)
        status = set_check(optimizer, reterr);
    return status;
}

static enum lyap_status group_copy(const struct lyap_optimizer_group *source,
                                   struct lyap_optimizer_group *target)
{
    target->params = source->params;
    target->patterns = lyap_alloc_array(source->pattern_count, sizeof *target->patterns);
    if (!target->patterns)
        return LYAP_E_NOMEM;
    for (; target->pattern_count < source->pattern_count; target->pattern_count++) {
        char *copy = lyap_alloc_string(source->patterns[target->pattern_count]);
        if (!copy)
            return LYAP_E_NOMEM;
        target->patterns[target->pattern_count] = copy;
    }
    return LYAP_OK;
}

enum lyap_status lyap_optimizer_copy(const struct lyap_optimizer *optimizer,
                                     struct lyap_optimizer *ret_copy)
{
    struct lyap_optimizer copy = *optimizer;
    enum lyap_status status = LYAP_OK;
    copy.groups = NULL;
    copy.group_count = 0;
    if (optimizer->group_count > 0) {
        copy.groups = lyap_alloc_array(optimizer->group_count, sizeof *copy.groups);
        if (!copy.groups)
            return LYAP_E_NOMEM;
    }
    while (status == LYAP_OK && copy.group_count < optimizer->group_count) {
        const uint32_t g = copy.group_count++;
        status = group_copy(&optimizer->groups[g], &copy.groups[g]);
    }
    if (status) {
        lyap_optimizer_release(&copy);
        return status;
    }
    *ret_copy = copy;
    return LYAP_OK;
}

void lyap_optimizer_release(struct lyap_optimizer *optimizer)
{
    if (!optimizer)
        return;
    for (uint32_t g = 0; g < optimizer->group_count; g++) {
        for (uint32_t p = 0; p < optimizer->groups[g].pattern_count; p++)
            lyap_free(optimizer->groups[g].patterns[p]);
        lyap_free(optimizer->groups[g].patterns);
    }
    lyap_free(optimizer->groups);
    optimizer->groups = NULL;
    optimizer->group_count = 0;
}

const struct lyap_optimizer_params *
lyap_optimizer_group_params(const struct lyap_optimizer *optimizer, uint32_t group)
{
    assert(group <= optimizer->group_count);
    return group == 0 ? &optimizer->base : &optimizer->groups[group - 1].params;
}
