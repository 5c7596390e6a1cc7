/* Where the bytes of a body are stored, and which rows and sketches come out of it. */
#include "intake_state.h"

#include <assert.h>
#include <math.h>

#include "lyap/alloc.h"
#include "banned.h"

enum { SLOT_ALIGNMENT = 64 };

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + SLOT_ALIGNMENT - 1) / SLOT_ALIGNMENT * SLOT_ALIGNMENT;
}

/* Bytes to hold until the tensor's last role streams by; of the last itself nothing is held. */
static uint64_t held_bytes(const struct lyap_intake *intake,
                           const struct lyap_intake_tensor *tensor)
{
    uint64_t bytes = 0;
    for (unsigned role = 0; role < LYAP_ROLE_COUNT; role++) {
        const uint32_t entry = tensor->entries[role];
        if (entry != 0 && entry != tensor->last_entry)
            bytes += aligned(intake->arrays[entry - 1].bytes);
    }
    return bytes;
}

/* In exact retention all roles of a body meet. Otherwise those that lie side by side and fit. */
static bool is_in_reach(const struct lyap_intake *intake, const struct lyap_intake_tensor *tensor)
{
    const uint32_t spread = tensor->last_entry - tensor->first_entry + 1;
    if (intake->memory)
        return true;
    return spread == tensor->entry_count &&
           held_bytes(intake, tensor) <= intake->config.hold_bytes_max;
}

static void mark_products(struct lyap_intake *intake)
{
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        struct lyap_intake_tensor *tensor = &intake->tensors[i];
        if (tensor->entry_count == 0)
            continue;
        tensor->has_products = is_in_reach(intake, tensor);
        if (!tensor->has_products)
            intake->partial.is_role_order = true;
        const bool is_frozen =
            intake->has_role[LYAP_ROLE_DELTA] && tensor->entries[LYAP_ROLE_GRAD] == 0;
        tensor->is_delta_derived = tensor->has_products && tensor->previous &&
                                   tensor->entries[LYAP_ROLE_DELTA] == 0 && !is_frozen;
    }
}

static void mark_rows(struct lyap_intake *intake)
{
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        if (intake->tensors[i].entry_count == 0)
            continue;
        lyap_intake_state_sources(intake, i, intake->tensors[i].state);
        intake->tensors[i].rows = lyap_intake_product_rows(intake, i);
    }
}

/* The slot of a tensor in a plane of the new memory; `role` tells its type where it was pushed. */
static void lay_slot(struct lyap_intake *intake, uint32_t index, enum lyap_plane plane,
                     enum lyap_dtype dtype, uint64_t *plane_bytes)
{
    struct lyap_memory_slot *slot = &intake->memory->tensors[index].slots[plane];
    *slot = (struct lyap_memory_slot){ .at = *plane_bytes, .dtype = dtype, .is_kept = true };
    *plane_bytes += aligned(intake->tensors[index].count * lyap_dtype_bytes(dtype));
}

static const enum lyap_role plane_roles[LYAP_PLANE_COUNT] = {
    [LYAP_PLANE_PARAM] = LYAP_ROLE_PARAM,       [LYAP_PLANE_GRAD] = LYAP_ROLE_GRAD,
    [LYAP_PLANE_PROBE] = LYAP_ROLE_PROBE_GRAD,  [LYAP_PLANE_FIRST] = LYAP_ROLE_EXP_AVG,
    [LYAP_PLANE_SECOND] = LYAP_ROLE_EXP_AVG_SQ,
};

static enum lyap_state_source kept(enum lyap_state_source source)
{
    const bool is_stored = source == LYAP_STATE_PUSHED || source == LYAP_STATE_REBUILT;
    return is_stored ? LYAP_STATE_KEPT : source;
}

static void lay_tensor(struct lyap_intake *intake, uint32_t index, uint64_t *plane_bytes)
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    struct lyap_memory_tensor *left = &intake->memory->tensors[index];
    const uint32_t param = tensor->entries[LYAP_ROLE_PARAM];
    const bool is_double = intake->arrays[param - 1].entry.dtype == LYAP_DTYPE_F64;
    left->count = tensor->count;
    left->shard_key = tensor->shard_key;
    left->has_grad = tensor->entries[LYAP_ROLE_GRAD] != 0;
    left->shrink = NAN;
    for (unsigned p = 0; p < LYAP_PLANE_COUNT; p++) {
        const uint32_t entry = tensor->entries[plane_roles[p]];
        const bool is_state = p >= LYAP_PLANE_FIRST;
        const enum lyap_state_source source =
            is_state ? tensor->state[p - LYAP_PLANE_FIRST] : LYAP_STATE_PUSHED;
        if (is_state)
            left->state[p - LYAP_PLANE_FIRST] = kept(source);
        if (source == LYAP_STATE_PUSHED && entry != 0)
            lay_slot(intake, index, (enum lyap_plane)p, intake->arrays[entry - 1].entry.dtype,
                     &plane_bytes[p]);
        else if (source == LYAP_STATE_REBUILT)
            lay_slot(intake, index, (enum lyap_plane)p, is_double ? LYAP_DTYPE_F64 : LYAP_DTYPE_F32,
                     &plane_bytes[p]);
    }
}

/* Planes of the new memory; what was pushed into one is stored there as it arrives. */
static enum lyap_status lay_memory(struct lyap_intake *intake)
{
    struct lyap_memory *memory = intake->memory;
    uint64_t bytes[LYAP_PLANE_COUNT] = { 0 };
    for (uint32_t i = 0; i < intake->tensor_count; i++)
        if (intake->tensors[i].entry_count > 0)
            lay_tensor(intake, i, bytes);
    for (unsigned p = 0; p < LYAP_PLANE_COUNT; p++)
        if (!lyap_memory_plane(memory, (enum lyap_plane)p, bytes[p], intake->config.take_recycled))
            return LYAP_E_NOMEM;
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        for (unsigned p = 0; p < LYAP_PLANE_COUNT; p++) {
            const uint32_t entry = intake->tensors[i].entries[plane_roles[p]];
            const struct lyap_memory_slot *slot = &memory->tensors[i].slots[p];
            const bool is_pushed =
                p < LYAP_PLANE_FIRST ||
                intake->tensors[i].state[p - LYAP_PLANE_FIRST] == LYAP_STATE_PUSHED;
            if (entry != 0 && slot->is_kept && is_pushed)
                intake->arrays[entry - 1].store = memory->planes[p] + slot->at;
        }
    }
    return LYAP_OK;
}

/* Roles that are held for their tensor's products only. The buffer starts anew whenever no tensor
 * is waiting: with the roles of a tensor side by side it is as large as the largest tensor needs.
 */
static enum lyap_status lay_hold(struct lyap_intake *intake)
{
    for (int pass = 0; pass < 2; pass++) { /* measure, then place */
        uint64_t at = 0, most = 0;
        uint32_t waiting = 0;
        for (uint32_t e = 0; e < intake->array_count; e++) {
            struct lyap_intake_array *array = &intake->arrays[e];
            if (lyap_intake_is_act(array->entry.what))
                continue;
            const struct lyap_intake_tensor *tensor = &intake->tensors[array->entry.tensor];
            waiting += tensor->first_entry == e + 1;
            const bool is_last = tensor->last_entry == e + 1;
            if (tensor->has_products && !is_last && !array->store) {
                if (pass == 1)
                    array->store = intake->hold + at;
                at += aligned(array->bytes);
                most = at > most ? at : most;
            }
            waiting -= is_last;
            at = waiting == 0 ? 0 : at;
        }
        if (pass == 0 && most > 0 && !(intake->hold = lyap_alloc_aligned((size_t)most, 1)))
            return LYAP_E_NOMEM;
        if (most == 0)
            break;
    }
    return LYAP_OK;
}

/* A sketch is linear: that of D follows from two of theta where every element of both is in a D. */
static bool is_delta_sketch_late(const struct lyap_intake *intake)
{
    const struct lyap_memory *previous = intake->config.previous;
    for (uint32_t i = 0; previous && i < intake->tensor_count; i++) {
        const struct lyap_intake_tensor *tensor = &intake->tensors[i];
        if (tensor->entry_count > 0 ? !tensor->is_delta_derived : previous->tensors[i].count > 0)
            return false;
    }
    return previous != NULL;
}

/* Pairs of the path, weighted: of one function at both ends, and P known for every tensor. Where P
 * is 1 the sketches of D and of the gradients serve. */
static bool has_path(const struct lyap_intake *intake)
{
    const struct lyap_memory *previous = intake->config.previous;
    const struct lyap_declaration *declaration = intake->config.declaration;
    if (!previous || !intake->has_sketch[LYAP_SKETCH_DELTA])
        return false;
    const bool is_probe = intake->has_role[LYAP_ROLE_PROBE_GRAD] && previous->has_probes;
    const bool is_full = declaration->data == LYAP_DATA_FULL_BATCH && previous->has_grads &&
                         intake->has_role[LYAP_ROLE_GRAD];
    bool is_weighted = lyap_step_is_adaptive(declaration->optimizer.type);
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        const struct lyap_intake_tensor *tensor = &intake->tensors[i];
        if (tensor->entry_count == 0)
            continue;
        if (!tensor->previous || !(tensor->rows & LYAP_PRODUCT_BIT(DELTA_P)))
            return false;
        is_weighted =
            is_weighted || intake->rules[declaration->set.tensors[i].group].scale_before != 1;
    }
    return is_weighted && (is_probe || is_full);
}

/* A sketch is of all tensors of this rank, or it is not given. */
static void mark_sketches(struct lyap_intake *intake)
{
    static const struct {
        enum lyap_role role;
        enum lyap_sketch_role sketch;
    } rows[] = {
        { LYAP_ROLE_PARAM, LYAP_SKETCH_PARAM },   { LYAP_ROLE_GRAD, LYAP_SKETCH_GRAD },
        { LYAP_ROLE_DELTA, LYAP_SKETCH_DELTA },   { LYAP_ROLE_PROBE_GRAD, LYAP_SKETCH_PROBE_GRAD },
        { LYAP_ROLE_PAIR_S, LYAP_SKETCH_PAIR_S }, { LYAP_ROLE_PAIR_Y, LYAP_SKETCH_PAIR_Y }
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        intake->has_sketch[rows[i].sketch] = intake->has_role[rows[i].role];
    const bool is_adaptive = lyap_step_is_adaptive(intake->config.declaration->optimizer.type);
    bool has_any_delta = intake->has_role[LYAP_ROLE_DELTA], has_every_delta = true;
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        const struct lyap_intake_tensor *tensor = &intake->tensors[i];
        if (tensor->entry_count == 0)
            continue;
        const bool is_still =
            intake->has_role[LYAP_ROLE_DELTA] && tensor->entries[LYAP_ROLE_GRAD] == 0;
        has_any_delta = has_any_delta || tensor->is_delta_derived;
        has_every_delta = has_every_delta && (tensor->entries[LYAP_ROLE_DELTA] != 0 ||
                                              tensor->is_delta_derived || is_still);
        if (is_adaptive && !(tensor->rows & LYAP_PRODUCT_BIT(PAIR_SPS)))
            intake->has_sketch[LYAP_SKETCH_PAIR_S] = false;
        if (is_adaptive && !(tensor->rows & LYAP_PRODUCT_BIT(PAIR_YPY)))
            intake->has_sketch[LYAP_SKETCH_PAIR_Y] = false;
    }
    intake->has_sketch[LYAP_SKETCH_DELTA] = has_any_delta && has_every_delta;
    intake->is_delta_sketch_late = is_delta_sketch_late(intake);
    intake->has_sketch[LYAP_SKETCH_PATH_S] = intake->has_sketch[LYAP_SKETCH_PATH_Y] =
        has_path(intake);
}

static enum lyap_status allocate_moment_rows(struct lyap_intake *intake, enum lyap_reduce first)
{
    for (unsigned i = 0; i < LYAP_MOMENT_ROWS; i++)
        if (!lyap_partial_row(&intake->partial, (enum lyap_reduce)(first + i)))
            return LYAP_E_NOMEM;
    return LYAP_OK;
}

/* Rows exist as soon as one tensor has them; all sketches are summed, some are given. */
static enum lyap_status allocate_outputs(struct lyap_intake *intake)
{
    uint32_t rows = 0;
    bool has_delta = intake->has_role[LYAP_ROLE_DELTA];
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        rows |= intake->tensors[i].rows;
        has_delta = has_delta || intake->tensors[i].is_delta_derived;
    }
    const struct {
        bool is_needed;
        enum lyap_reduce first;
    } moments[] = { { intake->has_role[LYAP_ROLE_PARAM], LYAP_REDUCE_PARAM_COUNT },
                    { intake->has_role[LYAP_ROLE_GRAD], LYAP_REDUCE_GRAD_COUNT },
                    { has_delta, LYAP_REDUCE_DELTA_COUNT },
                    { intake->has_role[LYAP_ROLE_PROBE_GRAD], LYAP_REDUCE_PROBE_GRAD_COUNT } };
    for (unsigned i = 0; i < sizeof moments / sizeof *moments; i++)
        if (moments[i].is_needed && allocate_moment_rows(intake, moments[i].first) != LYAP_OK)
            return LYAP_E_NOMEM;
    for (unsigned i = 0; i < LYAP_PRODUCT_COUNT; i++)
        if (((rows >> i) & 1) &&
            !lyap_partial_row(&intake->partial, (enum lyap_reduce)(LYAP_PRODUCT_FIRST + i)))
            return LYAP_E_NOMEM;
    const uint32_t gains = rows & LYAP_PRODUCT_BIT(GAIN_SQ);
    if (gains && intake->tensor_count <= LYAP_GAIN_TENSORS_MAX &&
        !lyap_partial_row(&intake->partial, LYAP_REDUCE_GAIN_LOG2))
        return LYAP_E_NOMEM;
    for (unsigned i = 0; i < LYAP_SKETCH_COUNT; i++) {
        const enum lyap_sketch_role role = (enum lyap_sketch_role)i;
        if (lyap_sketch_init(&intake->sketches[i], LYAP_SKETCH_SIZE) != LYAP_OK)
            return LYAP_E_NOMEM;
        if (intake->has_sketch[i] && !lyap_partial_sketch(&intake->partial, role))
            return LYAP_E_NOMEM;
    }
    return LYAP_OK;
}

enum lyap_status lyap_intake_layout(struct lyap_intake *intake)
{
    mark_products(intake);
    mark_rows(intake);
    mark_sketches(intake);
    if (intake->memory && lay_memory(intake) != LYAP_OK)
        return LYAP_E_NOMEM;
    if (lay_hold(intake) != LYAP_OK || lyap_intake_spectral_layout(intake) != LYAP_OK)
        return LYAP_E_NOMEM;
    return allocate_outputs(intake);
}
