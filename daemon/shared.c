/* Reference counts and deep copies. */
#include "shared.h"

#include <assert.h>
#include <string.h>

#include "lyap/alloc.h"

static enum lyap_status set_dup(const struct lyap_tensor_set *source,
                                struct lyap_tensor_set *ret_copy)
{
    struct lyap_tensor *tensors = lyap_alloc_array(source->count, sizeof *tensors);
    if (!tensors)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; i < source->count; i++) {
        tensors[i] = source->tensors[i];
        tensors[i].name = lyap_alloc_string(source->tensors[i].name);
        if (tensors[i].name)
            continue;
        while (i-- > 0)
            lyap_free(tensors[i].name);
        lyap_free(tensors);
        return LYAP_E_NOMEM;
    }
    return lyap_tensor_set_build(tensors, source->count, ret_copy, NULL);
}

enum lyap_status lyap_shared_declaration_new(const struct lyap_declaration *source,
                                             const struct lyap_tensor_set *set,
                                             struct lyap_shared_declaration **ret_shared)
{
    struct lyap_shared_declaration *shared = lyap_alloc_array(1, sizeof *shared);
    if (!shared)
        return LYAP_E_NOMEM;
    lyap_declaration_init(&shared->declaration);
    enum lyap_status status = lyap_declaration_copy(source, &shared->declaration);
    if (status == LYAP_OK && set) {
        struct lyap_tensor_set copy;
        status = set_dup(set, &copy);
        if (status == LYAP_OK) {
            lyap_tensor_set_release(&shared->declaration.set);
            shared->declaration.set = copy;
        }
    }
    if (status != LYAP_OK) {
        lyap_declaration_release(&shared->declaration);
        lyap_free(shared);
        return status;
    }
    lyap_declaration_resolve_groups(&shared->declaration);
    /* Layers that do not fit tensors learned later are marked, and their numbers absent. */
    lyap_network_resolve(&shared->declaration.network, &shared->declaration.set, NULL);
    atomic_init(&shared->refs, 1);
    *ret_shared = shared;
    return LYAP_OK;
}

struct lyap_shared_declaration *lyap_shared_declaration_ref(struct lyap_shared_declaration *shared)
{
    atomic_fetch_add(&shared->refs, 1);
    return shared;
}

void lyap_shared_declaration_unref(struct lyap_shared_declaration *shared)
{
    if (!shared || atomic_fetch_sub(&shared->refs, 1) > 1)
        return;
    lyap_declaration_release(&shared->declaration);
    lyap_free(shared);
}

struct lyap_shared_memory *lyap_shared_memory_new(struct lyap_memory *take_memory)
{
    assert(take_memory);
    struct lyap_shared_memory *shared = lyap_alloc_array(1, sizeof *shared);
    if (!shared) {
        lyap_memory_free(take_memory);
        return NULL;
    }
    atomic_init(&shared->refs, 1);
    shared->memory = take_memory;
    shared->step = lyap_memory_step(take_memory);
    return shared;
}

struct lyap_shared_memory *lyap_shared_memory_ref(struct lyap_shared_memory *shared)
{
    if (shared)
        atomic_fetch_add(&shared->refs, 1);
    return shared;
}

struct lyap_memory *lyap_shared_memory_unref(struct lyap_shared_memory *shared)
{
    if (!shared || atomic_fetch_sub(&shared->refs, 1) > 1)
        return NULL;
    struct lyap_memory *memory = shared->memory;
    lyap_free(shared);
    return memory;
}

struct lyap_shared_plan *lyap_shared_plan_new(struct lyap_spectral_plan *take_plan)
{
    struct lyap_shared_plan *shared = lyap_alloc_array(1, sizeof *shared);
    if (!shared) {
        lyap_spectral_plan_free(take_plan);
        return NULL;
    }
    atomic_init(&shared->refs, 1);
    shared->plan = take_plan;
    return shared;
}

struct lyap_shared_plan *lyap_shared_plan_ref(struct lyap_shared_plan *shared)
{
    if (shared)
        atomic_fetch_add(&shared->refs, 1);
    return shared;
}

void lyap_shared_plan_unref(struct lyap_shared_plan *shared)
{
    if (!shared || atomic_fetch_sub(&shared->refs, 1) > 1)
        return;
    lyap_spectral_plan_free(shared->plan);
    lyap_free(shared);
}

static enum lyap_status shards_dup(const struct lyap_snapshot *source, struct lyap_snapshot *copy)
{
    if (!source->shard_count)
        return LYAP_OK;
    copy->shards = lyap_alloc_array(source->shard_count, sizeof *copy->shards);
    if (!copy->shards)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; i < source->shard_count; i++) {
        copy->shards[i] = source->shards[i];
        copy->shards[i].tensor = lyap_alloc_string(source->shards[i].tensor);
        copy->shard_count = i + 1;
        if (!copy->shards[i].tensor)
            return LYAP_E_NOMEM;
    }
    return LYAP_OK;
}

static enum lyap_status labels_dup(const struct lyap_snapshot *source, struct lyap_snapshot *copy)
{
    if (!source->label_count)
        return LYAP_OK;
    copy->labels = lyap_alloc_array(source->label_count, sizeof *copy->labels);
    if (!copy->labels)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; i < source->label_count; i++) {
        copy->label_count = i + 1;
        copy->labels[i].key = lyap_alloc_string(source->labels[i].key);
        copy->labels[i].value = lyap_alloc_string(source->labels[i].value);
        if (!copy->labels[i].key || !copy->labels[i].value)
            return LYAP_E_NOMEM;
    }
    return LYAP_OK;
}

enum lyap_status lyap_snapshot_dup(const struct lyap_snapshot *source,
                                   struct lyap_snapshot *ret_copy)
{
    struct lyap_snapshot copy = *source;
    copy.lr = NULL;
    copy.shards = NULL;
    copy.labels = NULL;
    copy.shard_count = copy.label_count = 0;
    enum lyap_status status = LYAP_OK;
    if (source->lr_count) {
        copy.lr = lyap_alloc_array(source->lr_count, sizeof *copy.lr);
        if (copy.lr)
            memcpy(copy.lr, source->lr, source->lr_count * sizeof *copy.lr);
        else
            status = LYAP_E_NOMEM;
    }
    if (status == LYAP_OK)
        status = shards_dup(source, &copy);
    if (status == LYAP_OK)
        status = labels_dup(source, &copy);
    if (status == LYAP_OK)
        *ret_copy = copy;
    else
        lyap_snapshot_release(&copy);
    return status;
}
