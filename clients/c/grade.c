/* Partial grade on the client. */
#include "grade.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/role.h"
#include "lyap/snapshot.h"
#include "lyap/wire.h"

enum lyap_status grade_init(struct grade *grade, const char *declaration,
                            enum lyap_retention retention, struct lyap_error *reterr)
{
    char *canonical = NULL;
    *grade = (struct grade){ .passed.step = -1, .pending_passed.step = -1, .retention = retention };
    lyap_declaration_init(&grade->declaration);
    if (retention == LYAP_RETENTION_AUTO)
        grade->retention = LYAP_RETENTION_EXACT;
    if (!declaration)
        return LYAP_OK;
    const enum lyap_status status = lyap_wire_declaration(declaration, strlen(declaration), NULL,
                                                          &grade->declaration, &canonical, reterr);
    lyap_free(canonical);
    return status;
}

void grade_release(struct grade *grade)
{
    lyap_memory_free(grade->previous);
    lyap_memory_free(grade->pending);
    lyap_spectral_state_free(grade->spectral);
    lyap_declaration_release(&grade->declaration);
    *grade = (struct grade){ .passed.step = -1 };
}

static enum lyap_status copy_tensor(const struct lyap_client_array *array,
                                    struct lyap_tensor *ret_tensor, struct lyap_error *reterr)
{
    const enum lyap_status status =
        body_count(array->name, array->shape, array->rank, &ret_tensor->count, reterr);
    if (status != LYAP_OK)
        return status;
    ret_tensor->rank = array->rank;
    for (uint32_t i = 0; i < array->rank; i++)
        ret_tensor->shape[i] = array->shape[i];
    ret_tensor->name = lyap_alloc_string(array->name);
    return ret_tensor->name ? LYAP_OK : lyap_error_set(reterr, LYAP_E_NOMEM, "no memory");
}

static char *tensors_json(const struct lyap_tensor_set *set)
{
    json_t *tensors = json_array();
    for (uint32_t i = 0; tensors && i < set->count; i++) {
        const struct lyap_tensor *tensor = &set->tensors[i];
        json_t *shape = json_array();
        for (uint32_t j = 0; j < tensor->rank; j++)
            json_array_append_new(shape, json_integer((json_int_t)tensor->shape[j]));
        json_array_append_new(tensors,
                              json_pack("{s:s,s:o}", "name", tensor->name, "shape", shape));
    }
    json_t *root = json_pack("{s:o}", "tensors", tensors);
    char *text = json_array_size(tensors) == set->count ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

enum lyap_status grade_learn(struct grade *grade, const struct lyap_client_push *push,
                             char **ret_json, struct lyap_error *reterr)
{
    uint32_t count = 0;
    struct lyap_tensor_set set = LYAP_TENSOR_SET_NULL;
    struct lyap_tensor *tensors = lyap_alloc_array(push->array_count, sizeof *tensors);
    enum lyap_status status = LYAP_OK;
    if (!tensors)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory");
    for (uint32_t i = 0; i < push->array_count && status == LYAP_OK; i++)
        if (push->arrays[i].role == LYAP_ROLE_PARAM)
            status = copy_tensor(&push->arrays[i], &tensors[count++], reterr);
    if (status == LYAP_OK && count == 0)
        status = lyap_error_set(reterr, LYAP_E_MISSING_FIELD,
                                "a partial push needs param arrays, or declared tensors");
    if (status != LYAP_OK) {
        for (uint32_t i = 0; i < count; i++)
            lyap_free(tensors[i].name);
        lyap_free(tensors);
        return status;
    }
    status = lyap_tensor_set_build(tensors, count, &set, reterr);
    if (status != LYAP_OK)
        return status;
    *ret_json = tensors_json(&set);
    if (!*ret_json) {
        lyap_tensor_set_release(&set);
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory");
    }
    grade->declaration.set = set;
    lyap_declaration_resolve_groups(&grade->declaration);
    lyap_network_resolve(&grade->declaration.network, &grade->declaration.set, NULL);
    return LYAP_OK;
}

/* The scalars of a push as the kernels want them: the same parser as the daemon's. */
static enum lyap_status to_snapshot(const struct lyap_client_push *push,
                                    struct lyap_snapshot *snapshot, struct lyap_error *reterr)
{
    char text[BODY_NUMBER_BYTES];
    snprintf(text, sizeof text, "%" PRId64, push->step);
    enum lyap_status status = lyap_snapshot_set(snapshot, "step", text, reterr);
    if (status == LYAP_OK && push->has_loss) {
        body_number(push->loss, text);
        status = lyap_snapshot_set(snapshot, "loss", text, reterr);
    }
    if (status == LYAP_OK && push->has_lr) {
        body_number(push->lr, text);
        status = lyap_snapshot_set(snapshot, "lr", text, reterr);
    }
    for (uint32_t i = 0; i < push->metadata_count && status == LYAP_OK; i++)
        status =
            lyap_snapshot_set(snapshot, push->metadata[i].key, push->metadata[i].value, reterr);
    return status == LYAP_OK ? lyap_snapshot_check(snapshot, reterr) : status;
}

/* What the intake reads. */
struct parts {
    struct lyap_intake_entry *entries; /* owned */
    const void **data;                 /* owned; of each entry, borrowed */
    uint32_t count;
};

/* An activation: its place among the declared layers, and its shape. */
static enum lyap_status act_entry(const struct grade *grade, const struct lyap_client_array *array,
                                  struct lyap_intake_entry *entry, struct lyap_error *reterr)
{
    const struct lyap_network *network = &grade->declaration.network;
    const int32_t layer = lyap_network_find(network, array->name, strlen(array->name));
    if (layer == LYAP_NETWORK_NONE)
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s/%s is of no declared layer",
                              lyap_role_name(array->role), array->name);
    if (array->rank < 2)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "%s/%s has rank %" PRIu32 ", but must be [samples, ...]",
                              lyap_role_name(array->role), array->name, array->rank);
    entry->tensor = (uint32_t)(layer + 1); /* 0: the network's input */
    entry->shape = array->shape;
    entry->rank = array->rank;
    return LYAP_OK;
}

static enum lyap_status to_entry(const struct grade *grade, const struct lyap_client_array *array,
                                 struct lyap_intake_entry *entry, struct lyap_error *reterr)
{
    const struct lyap_tensor_set *set = &grade->declaration.set;
    *entry = (struct lyap_intake_entry){ .kind = LYAP_INTAKE_TENSOR,
                                         .what = array->role,
                                         .dtype = array->dtype };
    const enum lyap_status status =
        body_count(array->name, array->shape, array->rank, &entry->count, reterr);
    if (status != LYAP_OK)
        return status;
    if (array->role == LYAP_ROLE_ACT || array->role == LYAP_ROLE_ACT_PERTURBED)
        return act_entry(grade, array, entry, reterr);
    const int64_t tensor = lyap_tensor_set_find(set, array->name, strlen(array->name));
    if (tensor < 0)
        return lyap_error_set(reterr, LYAP_E_TENSOR_SET, "tensor \"%s\" was not declared",
                              array->name);
    entry->tensor = (uint32_t)tensor;
    return LYAP_OK;
}

/* Gates have no row: they are left out. */
static enum lyap_status to_entries(const struct grade *grade, const struct lyap_client_push *push,
                                   struct parts *parts, struct lyap_error *reterr)
{
    for (uint32_t i = 0; i < push->array_count; i++) {
        if (push->arrays[i].role == LYAP_ROLE_GATE)
            continue;
        const enum lyap_status status =
            to_entry(grade, &push->arrays[i], &parts->entries[parts->count], reterr);
        if (status != LYAP_OK)
            return status;
        parts->data[parts->count++] = push->arrays[i].data;
    }
    return LYAP_OK;
}

/* The weights whose turn it is. */
static enum lyap_status plan_spectral(struct grade *grade, struct lyap_spectral_plan **ret_plan,
                                      struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    if (!grade->spectral)
        status = lyap_spectral_state_new(&grade->declaration.set, &grade->spectral);
    if (status == LYAP_OK)
        status = lyap_spectral_state_plan(grade->spectral, LYAP_SPECTRAL_GRAM_EVERY, ret_plan);
    return status == LYAP_OK ? status : lyap_error_set(reterr, status, "no memory");
}

static int64_t updates_since(const struct grade_passed *passed,
                             const struct lyap_snapshot *snapshot)
{
    const int64_t newest = lyap_snapshot_has(snapshot, LYAP_META_UPDATES)
                               ? snapshot->updates
                               : snapshot->step - passed->step - passed->is_held;
    return newest < LYAP_STEP_MAX - passed->updates ? passed->updates + newest : LYAP_STEP_MAX;
}

static enum lyap_status run_intake(struct grade *grade, const struct lyap_client_push *push,
                                   const struct lyap_snapshot *snapshot, const struct parts *parts,
                                   struct grade_body *ret_body, struct lyap_error *reterr)
{
    const bool has_previous = grade->previous && push->step > grade->passed.step;
    const struct grade_passed none = { .step = push->step - 1 };
    const struct lyap_intake_config config = {
        .declaration = &grade->declaration,
        .snapshot = snapshot,
        .previous = has_previous ? grade->previous : NULL,
        .updates = (uint64_t)updates_since(has_previous ? &grade->passed : &none, snapshot),
        .sketch_seed = grade->seed,
        .retention = grade->retention,
        .hold_bytes_max = LYAP_HOLD_BYTES_MAX,
        .spectral = ret_body->plan,
    };
    struct lyap_intake *intake = NULL;
    enum lyap_status status = lyap_intake_new(&config, &intake, reterr);
    if (status == LYAP_OK)
        status = lyap_intake_plan(intake, parts->entries, parts->count, reterr);
    for (uint32_t i = 0; i < parts->count && status == LYAP_OK; i++)
        lyap_intake_bytes(intake, i, parts->data[i],
                          parts->entries[i].count * lyap_dtype_bytes(parts->entries[i].dtype));
    if (status == LYAP_OK)
        status = lyap_intake_finish(intake, &ret_body->partial, &grade->pending);
    lyap_intake_free(intake);
    return status;
}

static void add_array(struct grade_body *body, const char *prefix, const char *name,
                      const uint64_t *shape, const double *data)
{
    if (data)
        body->arrays[body->array_count++] = (struct body_array){ .prefix = prefix,
                                                                 .name = name,
                                                                 .dtype = LYAP_DTYPE_F64,
                                                                 .rank = 1,
                                                                 .shape = shape,
                                                                 .data = data };
}

static void add_row(struct grade_body *body, enum lyap_reduce row, const double *data)
{
    const bool is_wide = lyap_reduce_width(row) > 1;
    add_array(body, "reduce", lyap_reduce_name(row),
              is_wide ? body->gain_shape : &body->tensor_count, data);
    if (data && is_wide)
        body->arrays[body->array_count - 1].rank = 2;
}

static void add_meta(struct grade_body *body, const char *key, double value)
{
    char *text = body->texts[body->meta_count];
    body_number(value, text);
    body->metadata[body->meta_count++] = (struct lyap_client_meta){ key, text };
}

static void to_body(struct grade_body *body)
{
    const struct lyap_partial *partial = &body->partial;
    body->tensor_count = partial->tensor_count;
    body->sketch_size = partial->sketch_size;
    body->gain_shape[0] = partial->tensor_count;
    body->gain_shape[1] = LYAP_GAIN_BINS;
    for (int i = 0; i < LYAP_REDUCE_COUNT; i++)
        add_row(body, (enum lyap_reduce)i, partial->rows[i]);
    for (int i = 0; i < LYAP_SKETCH_COUNT; i++)
        add_array(body, "sketch", lyap_sketch_name((enum lyap_sketch_role)i), &body->sketch_size,
                  partial->sketches[i]);
    add_meta(body, "delta_unit", partial->delta_unit);
    add_meta(body, "grad_unit", partial->grad_unit);
    body->metadata[body->meta_count++] =
        (struct lyap_client_meta){ "state_exact", partial->is_state_exact ? "true" : "false" };
    if (partial->acts && !isnan(partial->acts[0].sq))
        add_meta(body, "act_input_sq", partial->acts[0].sq);
    if (partial->acts && !isnan(partial->acts[0].diff_sq))
        add_meta(body, "act_input_diff_sq", partial->acts[0].diff_sq);
}

/* The rows of activations: a value for each tensor that is a layer's. */
static enum lyap_status fill_acts(const struct lyap_network *network, struct lyap_partial *partial,
                                  struct lyap_error *reterr)
{
    if (!partial->acts)
        return LYAP_OK;
    double *sq = lyap_partial_row(partial, LYAP_REDUCE_ACT_SQ);
    double *diff_sq = lyap_partial_row(partial, LYAP_REDUCE_ACT_DIFF_SQ);
    if (!sq || !diff_sq)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory");
    for (uint32_t l = 0; l < network->count; l++) {
        const int32_t tensor = network->layers[l].index[LYAP_LAYER_PART_WEIGHT];
        if (tensor < 0)
            continue;
        sq[tensor] = partial->acts[l + 1].sq;
        diff_sq[tensor] = partial->acts[l + 1].diff_sq;
    }
    return LYAP_OK;
}

enum lyap_status grade_reduce(struct grade *grade, const struct lyap_client_push *push,
                              struct grade_body *ret_body, struct lyap_error *reterr)
{
    struct lyap_snapshot snapshot;
    struct parts parts = { 0 };
    enum lyap_status status;
    *ret_body = (struct grade_body){ .array_count = 0 };
    lyap_memory_free(grade->pending);
    grade->pending = NULL;
    lyap_snapshot_init(&snapshot);
    status = to_snapshot(push, &snapshot, reterr);
    if (status != LYAP_OK)
        goto out;
    grade->pending_passed =
        (struct grade_passed){ snapshot.step, updates_since(&grade->passed, &snapshot),
                               snapshot.is_skipped };
    parts.entries = lyap_alloc_array(push->array_count, sizeof *parts.entries);
    parts.data = lyap_alloc_array(push->array_count, sizeof *parts.data);
    status = parts.entries && parts.data ? to_entries(grade, push, &parts, reterr)
                                         : lyap_error_set(reterr, LYAP_E_NOMEM, "no memory");
    if (status != LYAP_OK)
        goto out;
    status = plan_spectral(grade, &ret_body->plan, reterr);
    if (status == LYAP_OK)
        status = run_intake(grade, push, &snapshot, &parts, ret_body, reterr);
    if (status == LYAP_OK)
        status = fill_acts(&grade->declaration.network, &ret_body->partial, reterr);
    if (status == LYAP_OK) {
        lyap_spectral_state_step(grade->spectral, &ret_body->partial, false);
        to_body(ret_body);
    }
out:
    lyap_free(parts.entries);
    lyap_free(parts.data);
    lyap_snapshot_release(&snapshot);
    return status;
}

void grade_body_release(struct grade_body *body)
{
    lyap_partial_release(&body->partial);
    lyap_spectral_plan_free(body->plan);
    body->plan = NULL;
    body->array_count = 0;
}

void grade_commit(struct grade *grade)
{
    grade->passed = grade->pending_passed;
    if (!grade->pending) /* non-finite or without tensors: never a predecessor */
        return;
    lyap_memory_free(grade->previous);
    grade->previous = grade->pending;
    grade->pending = NULL;
    grade->passed.updates = 0;
}
