/* From the list of entries to a plan: checks against declaration and shards, what comes before. */
#include "intake_state.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "banned.h"

static enum lyap_status copy_entries(struct lyap_intake *intake,
                                     const struct lyap_intake_entry *entries, uint32_t count,
                                     struct lyap_error *reterr)
{
    intake->arrays = lyap_alloc_array(count, sizeof *intake->arrays);
    if (!intake->arrays)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for %" PRIu32 " entries", count);
    intake->array_count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].count > LYAP_TENSOR_ELEMENTS_MAX)
            return lyap_error_set(reterr, LYAP_E_LIMIT,
                                  "entry %" PRIu32 " has %" PRIu64
                                  " elements, the limit is %" PRIu64,
                                  i, entries[i].count, (uint64_t)LYAP_TENSOR_ELEMENTS_MAX);
        intake->arrays[i].entry = entries[i];
        intake->arrays[i].bytes = entries[i].count * lyap_dtype_bytes(entries[i].dtype);
    }
    return LYAP_OK;
}

/* A body is of one grade. */
static enum lyap_status find_grade(struct lyap_intake *intake, struct lyap_error *reterr)
{
    uint32_t tensors = 0;
    for (uint32_t i = 0; i < intake->array_count; i++)
        tensors += intake->arrays[i].entry.kind == LYAP_INTAKE_TENSOR;
    intake->is_partial_grade = intake->array_count > 0 && tensors == 0;
    if (tensors == intake->array_count || tensors == 0)
        return LYAP_OK;
    return lyap_error_set(reterr, LYAP_E_CONTRADICTION,
                          "the body holds %" PRIu32 " tensors beside %" PRIu32
                          " reduce/ and sketch/ arrays: push either",
                          tensors, intake->array_count - tensors);
}

static const struct lyap_tensor *declared_of(const struct lyap_intake *intake, uint32_t index)
{
    return &intake->config.declaration->set.tensors[index];
}

static enum lyap_status index_entries(struct lyap_intake *intake, struct lyap_error *reterr)
{
    for (uint32_t i = 0; i < intake->array_count; i++) {
        const struct lyap_intake_entry *entry = &intake->arrays[i].entry;
        assert(entry->what < LYAP_ROLE_COUNT);
        if (lyap_intake_is_act((enum lyap_role)entry->what))
            continue;
        assert(entry->tensor < intake->tensor_count);
        struct lyap_intake_tensor *tensor = &intake->tensors[entry->tensor];
        if (tensor->entries[entry->what] != 0)
            return lyap_error_set(reterr, LYAP_E_CONTRADICTION, "%s/%s is given twice",
                                  lyap_role_name((enum lyap_role)entry->what),
                                  declared_of(intake, entry->tensor)->name);
        tensor->entries[entry->what] = i + 1;
        tensor->first_entry = tensor->first_entry ? tensor->first_entry : i + 1;
        tensor->last_entry = i + 1;
        tensor->entry_count++;
        intake->has_role[entry->what] = true;
    }
    return LYAP_OK;
}

/* The param tensors of a rank that is alone are those declared; each other role has its param. */
static enum lyap_status check_set(const struct lyap_intake *intake, struct lyap_error *reterr)
{
    const bool is_alone = intake->config.snapshot->world <= 1;
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        const struct lyap_intake_tensor *tensor = &intake->tensors[i];
        if (tensor->entries[LYAP_ROLE_PARAM] == 0 && (is_alone || tensor->entry_count > 0))
            return lyap_error_set(reterr, LYAP_E_TENSOR_SET,
                                  "param/%s is declared, but not in the body",
                                  declared_of(intake, i)->name);
    }
    return LYAP_OK;
}

/* The shard of each tensor, kept as the geometry of its first entry. */
static enum lyap_status set_parts(struct lyap_intake *intake, struct lyap_error *reterr)
{
    const struct lyap_snapshot *snapshot = intake->config.snapshot;
    const struct lyap_tensor_set *set = &intake->config.declaration->set;
    intake->parts = lyap_alloc_array(snapshot->shard_count, sizeof *intake->parts);
    if (!intake->parts)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for the shards");
    for (uint32_t s = 0; s < snapshot->shard_count; s++) {
        const struct lyap_shard *shard = &snapshot->shards[s];
        const int64_t index = lyap_tensor_set_find(set, shard->tensor, strlen(shard->tensor));
        if (index < 0)
            return lyap_error_set(reterr, LYAP_E_TENSOR_SET, "shard: no tensor '%s' is declared",
                                  shard->tensor);
        struct lyap_intake_tensor *tensor = &intake->tensors[index];
        if (tensor->entry_count == 0)
            continue;
        if (tensor->part)
            return lyap_error_set(reterr, LYAP_E_CONTRADICTION, "shard of '%s' is given twice",
                                  shard->tensor);
        const enum lyap_status status = lyap_part_set(
            &set->tensors[index], shard, &intake->arrays[tensor->first_entry - 1].entry,
            &intake->parts[s], reterr);
        if (status != LYAP_OK)
            return status;
        tensor->part = &intake->parts[s];
        tensor->shard_key = lyap_part_key(tensor->part);
    }
    return LYAP_OK;
}

/* All roles of a tensor have its elements, or the same shard of them. */
static enum lyap_status check_counts(struct lyap_intake *intake, struct lyap_error *reterr)
{
    for (uint32_t i = 0; i < intake->array_count; i++) {
        const struct lyap_intake_entry *entry = &intake->arrays[i].entry;
        if (lyap_intake_is_act((enum lyap_role)entry->what))
            continue;
        struct lyap_intake_tensor *tensor = &intake->tensors[entry->tensor];
        const struct lyap_intake_entry *first = &intake->arrays[tensor->first_entry - 1].entry;
        const bool is_box = tensor->part && tensor->part->is_box;
        const uint64_t expected =
            tensor->part ? first->count : declared_of(intake, entry->tensor)->count;
        bool is_same = entry->count == expected && (!is_box || entry->rank == first->rank);
        for (uint32_t d = 0; is_same && is_box && d < first->rank; d++)
            is_same = entry->shape[d] == first->shape[d];
        if (!is_same)
            return lyap_error_set(reterr, tensor->part ? LYAP_E_SHARD_COVERAGE : LYAP_E_TENSOR_SET,
                                  "%s/%s has %" PRIu64 " elements, %s %" PRIu64,
                                  lyap_role_name((enum lyap_role)entry->what),
                                  declared_of(intake, entry->tensor)->name, entry->count,
                                  tensor->part ? "another role's shard of another shape"
                                               : "the declared shape",
                                  expected);
        tensor->count = entry->count;
    }
    return LYAP_OK;
}

/* Updates that the optimizer's state has seen: said, counted on, or none before the first step. A
 * state that comes without its count is taken to have seen every step. */
static double updates_seen(const struct lyap_intake *intake)
{
    const struct lyap_snapshot *snapshot = intake->config.snapshot;
    const struct lyap_memory *previous = intake->config.previous;
    if (lyap_snapshot_has(snapshot, LYAP_META_OPTIMIZER_STEP))
        return (double)snapshot->optimizer_step;
    if (previous && !isnan(previous->rules[0].updates))
        return previous->rules[0].updates + (double)intake->config.updates;
    const bool has_state =
        intake->has_role[LYAP_ROLE_EXP_AVG] || intake->has_role[LYAP_ROLE_EXP_AVG_SQ];
    const bool is_start = !previous && snapshot->step == 0;
    return has_state || is_start ? (double)snapshot->step : NAN;
}

static enum lyap_status set_rules(struct lyap_intake *intake, struct lyap_error *reterr)
{
    const struct lyap_snapshot *snapshot = intake->config.snapshot;
    const struct lyap_memory *previous = intake->config.previous;
    const enum lyap_status status =
        lyap_step_rules(intake->config.declaration, snapshot, intake->rules, reterr);
    if (status != LYAP_OK)
        return status;
    const bool has_count = lyap_snapshot_has(snapshot, LYAP_META_OPTIMIZER_STEP);
    const bool is_first =
        has_count ? snapshot->optimizer_step == 0 : !previous && snapshot->step == 0;
    const double updates = updates_seen(intake);
    for (uint32_t g = 0; g <= intake->config.declaration->optimizer.group_count; g++) {
        intake->rules[g].updates = updates;
        intake->rules[g].is_first = is_first;
        intake->rules[g].scale_before =
            previous ? previous->rules[g].scale : intake->rules[g].scale;
    }
    intake->is_clip_late = lyap_snapshot_has(snapshot, LYAP_META_CLIP_NORM) &&
                           !lyap_snapshot_has(snapshot, LYAP_META_GRAD_NORM) &&
                           snapshot->world <= 1;
    return LYAP_OK;
}

/* The predecessor of each tensor: the same elements of the same tensor. */
static void match_previous(struct lyap_intake *intake)
{
    const struct lyap_memory *previous = intake->config.previous;
    for (uint32_t i = 0; previous && i < intake->tensor_count; i++) {
        struct lyap_intake_tensor *tensor = &intake->tensors[i];
        const struct lyap_memory_tensor *before = &previous->tensors[i];
        if (before->slots[LYAP_PLANE_PARAM].is_kept && before->count == tensor->count &&
            before->shard_key == tensor->shard_key)
            tensor->previous = before;
    }
}

static void set_seeds(struct lyap_intake *intake)
{
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        const char *name = declared_of(intake, i)->name;
        intake->tensors[i].seed = lyap_sketch_seed(intake->config.sketch_seed, name, strlen(name));
    }
}

static void set_units(struct lyap_intake *intake)
{
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        const struct lyap_intake_tensor *tensor = &intake->tensors[i];
        const uint32_t param = tensor->entries[LYAP_ROLE_PARAM];
        const uint32_t grad = tensor->entries[LYAP_ROLE_GRAD];
        const bool is_still = intake->has_role[LYAP_ROLE_DELTA] && grad == 0;
        struct lyap_partial *partial = &intake->partial;
        if (param != 0 && tensor->entries[LYAP_ROLE_DELTA] == 0 && !is_still)
            partial->delta_unit =
                fmax(partial->delta_unit,
                     lyap_dtype_unit_roundoff(intake->arrays[param - 1].entry.dtype));
        if (grad != 0)
            partial->grad_unit = fmax(
                partial->grad_unit, lyap_dtype_unit_roundoff(intake->arrays[grad - 1].entry.dtype));
    }
}

static enum lyap_status plan_full(struct lyap_intake *intake, struct lyap_error *reterr)
{
    static enum lyap_status (*const checks[])(struct lyap_intake *,
                                              struct lyap_error *) = { index_entries, set_parts,
                                                                       check_counts, set_rules };
    for (unsigned i = 0; i < sizeof checks / sizeof *checks; i++) {
        const enum lyap_status status = checks[i](intake, reterr);
        if (status != LYAP_OK)
            return status;
    }
    if (check_set(intake, reterr) != LYAP_OK)
        return LYAP_E_TENSOR_SET;
    const enum lyap_status status = lyap_acts_plan(intake, reterr);
    if (status != LYAP_OK)
        return status;
    match_previous(intake);
    set_seeds(intake);
    set_units(intake);
    if (lyap_intake_layout(intake) != LYAP_OK)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for the planes of the snapshot");
    return LYAP_OK;
}

enum lyap_status lyap_intake_plan(struct lyap_intake *intake,
                                  const struct lyap_intake_entry *entries, uint32_t entry_count,
                                  struct lyap_error *reterr)
{
    assert(!intake->arrays);
    enum lyap_status status = copy_entries(intake, entries, entry_count, reterr);
    if (status == LYAP_OK)
        status = find_grade(intake, reterr);
    if (status == LYAP_OK)
        status = intake->is_partial_grade ? lyap_intake_plan_partial(intake, reterr)
                                          : plan_full(intake, reterr);
    for (uint32_t i = 0; i < intake->array_count; i++)
        intake->arrays[i].entry.shape = NULL;       /* borrowed until here */
    lyap_memory_free(intake->config.take_recycled); /* what it had to give was taken */
    intake->config.take_recycled = NULL;
    if (status == LYAP_OK)
        lyap_intake_advance(intake);
    return status;
}
