/* The declared optimizer out of JSON. */
#include "declare.h"

#include <stddef.h>
#include <string.h>

#include "lyap/alloc.h"
#include "value.h"

/* Constants of the base and of every group. */
static const struct {
    const char *key;
    size_t offset;
    bool is_flag;
} constants[] = {
#define CONSTANT(key, member)                                                                      \
    {                                                                                              \
        key, offsetof(struct lyap_optimizer_params, member), false                                 \
    }
    CONSTANT("lr", lr),
    CONSTANT("momentum", momentum),
    CONSTANT("dampening", dampening),
    CONSTANT("beta1", beta1),
    CONSTANT("beta2", beta2),
    CONSTANT("eps", eps),
    CONSTANT("weight_decay", weight_decay),
#undef CONSTANT
    { "nesterov", offsetof(struct lyap_optimizer_params, is_nesterov), true },
};
enum { CONSTANT_COUNT = sizeof constants / sizeof *constants };

static const char *const base_keys[] = { "type",   "lr",   "momentum",     "dampening", "beta1",
                                         "beta2",  "eps",  "weight_decay", "nesterov",  "amsgrad",
                                         "groups", "prox", "set" };
static const char *const group_keys[] = { "tensors", "lr",  "momentum",     "dampening", "beta1",
                                          "beta2",   "eps", "weight_decay", "nesterov" };
static const char *const types[LYAP_OPTIMIZER_COUNT] = {
#define ROW(name, wire) wire,
    LYAP_OPTIMIZER_TABLE(ROW)
#undef ROW
};

static enum lyap_status params_read(json_t *object, const struct lyap_path *path,
                                    struct lyap_optimizer_params *params, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    for (unsigned i = 0; status == LYAP_OK && i < CONSTANT_COUNT; i++) {
        const json_t *value = json_object_get(object, constants[i].key);
        void *member = (char *)params + constants[i].offset;
        if (!value)
            continue;
        const struct lyap_path here = lyap_path_key(path, constants[i].key);
        status = constants[i].is_flag ? lyap_value_bool(value, &here, member, reterr)
                                      : lyap_value_number(value, &here, member, reterr);
    }
    return status;
}

static enum lyap_status patterns_read(const json_t *list, const struct lyap_path *path,
                                      struct lyap_optimizer_group *group, struct lyap_error *reterr)
{
    enum lyap_status status = lyap_value_list(list, path, LYAP_PATTERN_COUNT_MAX, reterr);
    if (status)
        return status;
    group->patterns = lyap_alloc_array(json_array_size(list), sizeof *group->patterns);
    if (!group->patterns)
        return LYAP_E_NOMEM;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const struct lyap_path here = lyap_path_index(path, i);
        const char *pattern;
        status = lyap_value_string(json_array_get(list, i), &here, LYAP_PATTERN_BYTES_MAX, &pattern,
                                   reterr);
        if (status)
            return status;
        char *copy = lyap_alloc_string(pattern);
        if (!copy)
            return LYAP_E_NOMEM;
        group->patterns[group->pattern_count++] = copy;
    }
    return LYAP_OK;
}

static enum lyap_status group_read(json_t *object, const struct lyap_path *path,
                                   struct lyap_optimizer_group *group, struct lyap_error *reterr)
{
    const struct lyap_path tensors = lyap_path_key(path, "tensors");
    enum lyap_status status = lyap_value_object(object, path, reterr);
    if (status == LYAP_OK)
        status = lyap_value_keys(object, path, group_keys, sizeof group_keys / sizeof *group_keys,
                                 reterr);
    if (status)
        return status;
    const json_t *list = json_object_get(object, "tensors");
    if (!list)
        return lyap_value_missing(path, "tensors", reterr);
    status = patterns_read(list, &tensors, group, reterr);
    return status ? status : params_read(object, path, &group->params, reterr);
}

/* Groups start as the base and override it. */
static enum lyap_status groups_read(const json_t *list, const struct lyap_path *path,
                                    struct lyap_optimizer *optimizer, struct lyap_error *reterr)
{
    if (json_is_array(list) && json_array_size(list) == 0)
        return LYAP_OK;
    enum lyap_status status = lyap_value_list(list, path, LYAP_GROUP_COUNT_MAX, reterr);
    if (status)
        return status;
    optimizer->groups = lyap_alloc_array(json_array_size(list), sizeof *optimizer->groups);
    if (!optimizer->groups)
        return LYAP_E_NOMEM;
    while (status == LYAP_OK && optimizer->group_count < json_array_size(list)) {
        const uint32_t g = optimizer->group_count++;
        const struct lyap_path here = lyap_path_index(path, g);
        optimizer->groups[g].params = optimizer->base;
        status = group_read(json_array_get(list, g), &here, &optimizer->groups[g], reterr);
    }
    return status;
}

/* An object {"kind": one of `kinds`, numbers ...}: which numbers each kind has. */
struct choice {
    const char *kind;
    struct {
        const char *key;
        size_t offset; /* in struct lyap_optimizer */
    } numbers[2];      /* key NULL: fewer */
};
enum { CHOICES_MAX = 4 };
#define IN(member) offsetof(struct lyap_optimizer, member)
static const struct choice proxes[] = {
    [LYAP_PROX_L1 - 1] = { "l1", { { "lambda", IN(prox_lambda) } } },
    [LYAP_PROX_L2 - 1] = { "l2", { { "lambda", IN(prox_lambda) } } },
    [LYAP_PROX_GROUP_L1 - 1] = { "group_l1", { { "lambda", IN(prox_lambda) } } },
    [LYAP_PROX_ELASTIC_NET - 1] = { "elastic_net",
                                    { { "l1", IN(prox_l1) }, { "l2", IN(prox_l2) } } },
};
static const struct choice sets[] = {
    [LYAP_SET_BOX - 1] = { "box", { { "low", IN(set_low) }, { "high", IN(set_high) } } },
    [LYAP_SET_BALL - 1] = { "ball", { { "radius", IN(set_radius) } } },
    [LYAP_SET_SIMPLEX - 1] = { "simplex", { { "radius", IN(set_radius) } } },
};
#undef IN

static enum lyap_status choice_numbers(json_t *object, const struct lyap_path *path,
                                       const struct choice *choice,
                                       struct lyap_optimizer *optimizer, struct lyap_error *reterr)
{
    const char *keys[3] = { "kind" };
    size_t key_count = 1;
    enum lyap_status status = LYAP_OK;
    for (unsigned i = 0; i < 2 && choice->numbers[i].key; i++)
        keys[key_count++] = choice->numbers[i].key;
    status = lyap_value_keys(object, path, keys, key_count, reterr);
    for (unsigned i = 0; status == LYAP_OK && i + 1 < key_count; i++) {
        const char *key = choice->numbers[i].key;
        const struct lyap_path here = lyap_path_key(path, key);
        const json_t *value = json_object_get(object, key);
        double number = 0;
        if (!value)
            return lyap_value_missing(path, key, reterr);
        status = lyap_value_number(value, &here, &number, reterr);
        memcpy((char *)optimizer + choice->numbers[i].offset, &number, sizeof number);
    }
    return status;
}

static enum lyap_status choice_read(json_t *object, const struct lyap_path *path,
                                    const struct choice *choices, size_t count,
                                    struct lyap_optimizer *optimizer, unsigned *ret_index,
                                    struct lyap_error *reterr)
{
    const char *kinds[CHOICES_MAX];
    const struct lyap_path kind_path = lyap_path_key(path, "kind");
    unsigned index = 0;
    for (size_t i = 0; i < count; i++)
        kinds[i] = choices[i].kind;
    enum lyap_status status = lyap_value_object(object, path, reterr);
    if (status)
        return status;
    const json_t *kind = json_object_get(object, "kind");
    if (!kind)
        return lyap_value_missing(path, "kind", reterr);
    status = lyap_value_word(kind, &kind_path, kinds, count, &index, reterr);
    if (status == LYAP_OK)
        status = choice_numbers(object, path, &choices[index], optimizer, reterr);
    if (status == LYAP_OK)
        *ret_index = index;
    return status;
}

static enum lyap_status rule_read(json_t *object, const struct lyap_path *path,
                                  struct lyap_optimizer *optimizer, struct lyap_error *reterr)
{
    json_t *prox = json_object_get(object, "prox"), *set = json_object_get(object, "set");
    const json_t *amsgrad = json_object_get(object, "amsgrad");
    enum lyap_status status = LYAP_OK;
    unsigned index = 0;
    if (amsgrad) {
        const struct lyap_path here = lyap_path_key(path, "amsgrad");
        status = lyap_value_bool(amsgrad, &here, &optimizer->is_amsgrad, reterr);
    }
    if (status == LYAP_OK && prox) {
        const struct lyap_path here = lyap_path_key(path, "prox");
        status = choice_read(prox, &here, proxes, sizeof proxes / sizeof *proxes, optimizer, &index,
                             reterr);
        optimizer->prox = (enum lyap_prox_kind)(index + 1);
    }
    if (status == LYAP_OK && set) {
        const struct lyap_path here = lyap_path_key(path, "set");
        status =
            choice_read(set, &here, sets, sizeof sets / sizeof *sets, optimizer, &index, reterr);
        optimizer->set = (enum lyap_set_kind)(index + 1);
    }
    return status;
}

static enum lyap_status optimizer_read(json_t *object, struct lyap_optimizer *optimizer,
                                       struct lyap_error *reterr)
{
    const struct lyap_path path = lyap_path_key(NULL, "optimizer");
    const struct lyap_path type_path = lyap_path_key(&path, "type");
    const struct lyap_path groups_path = lyap_path_key(&path, "groups");
    unsigned type = 0;
    enum lyap_status status = lyap_value_object(object, &path, reterr);
    if (status == LYAP_OK)
        status =
            lyap_value_keys(object, &path, base_keys, sizeof base_keys / sizeof *base_keys, reterr);
    if (status)
        return status;
    const json_t *type_value = json_object_get(object, "type");
    const json_t *groups = json_object_get(object, "groups");
    if (!type_value)
        return lyap_value_missing(&path, "type", reterr);
    status = lyap_value_word(type_value, &type_path, types, LYAP_OPTIMIZER_COUNT, &type, reterr);
    if (status)
        return status;
    lyap_optimizer_defaults(optimizer, (enum lyap_optimizer_type)type);
    status = params_read(object, &path, &optimizer->base, reterr);
    if (status == LYAP_OK)
        status = rule_read(object, &path, optimizer, reterr);
    if (status == LYAP_OK && groups)
        status = groups_read(groups, &groups_path, optimizer, reterr);
    return status ? status : lyap_optimizer_check(optimizer, reterr);
}

enum lyap_status lyap_declare_optimizer(json_t *value, struct lyap_optimizer *ret_optimizer,
                                        struct lyap_error *reterr)
{
    struct lyap_optimizer optimizer;
    lyap_optimizer_init(&optimizer);
    const enum lyap_status status = optimizer_read(value, &optimizer, reterr);
    if (status) {
        lyap_optimizer_release(&optimizer);
        return status;
    }
    *ret_optimizer = optimizer;
    return LYAP_OK;
}
