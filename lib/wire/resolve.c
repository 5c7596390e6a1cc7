/* From entries as they are named on the wire to param sets and to what the intake wants. */
#include "lyap/wire.h"

#include <assert.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/partial.h"
#include "lyap/role.h"
#include "lyap/text.h"
#include "metadata.h"

/* An entry's name, taken apart: reduce/<field>, sketch/<role> or <role>/<tensor>. */
struct target {
    enum lyap_intake_kind kind;
    uint32_t what;
    const char *tensor; /* borrowed from the entry; TENSOR only */
};

static bool is_word(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

/* Edit distance of short words, for "did you mean"; words are cut to WORD_MAX. */
enum { WORD_MAX = 24 };
static unsigned word_distance(const char *a, const char *b)
{
    unsigned row[WORD_MAX + 1];
    const size_t n = strlen(b) < WORD_MAX ? strlen(b) : WORD_MAX;
    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 0; i < WORD_MAX && a[i]; i++) {
        unsigned diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            const unsigned above = row[j + 1];
            unsigned best = diagonal + (a[i] != b[j]);
            if (above + 1 < best)
                best = above + 1;
            if (row[j] + 1 < best)
                best = row[j] + 1;
            row[j + 1] = best;
            diagonal = above;
        }
    }
    return row[n];
}

static const char *nearest_reduce(const char *field)
{
    unsigned best = 0, best_distance = WORD_MAX + 1;
    for (unsigned i = 0; i < LYAP_REDUCE_COUNT; i++) {
        const unsigned distance = word_distance(field, lyap_reduce_name((enum lyap_reduce)i));
        if (distance < best_distance) {
            best = i;
            best_distance = distance;
        }
    }
    return lyap_reduce_name((enum lyap_reduce)best);
}

static enum lyap_status reduce_parse(const char *field, struct target *ret_target,
                                     struct lyap_error *reterr)
{
    enum lyap_reduce row;
    struct lyap_quote quote;
    if (!lyap_reduce_parse(field, strlen(field), &row))
        return lyap_error_set(reterr, LYAP_E_UNKNOWN_FIELD,
                              "reduce/ has no field %s (did you mean %s? docs/wire.md lists them)",
                              lyap_quote_string(field, &quote), nearest_reduce(field));
    *ret_target = (struct target){ LYAP_INTAKE_REDUCE, row, NULL };
    return LYAP_OK;
}

static enum lyap_status sketch_parse(const char *name, struct target *ret_target,
                                     struct lyap_error *reterr)
{
    enum lyap_sketch_role role;
    struct lyap_quote quote;
    if (!lyap_sketch_parse(name, strlen(name), &role))
        return lyap_error_set(reterr, LYAP_E_UNKNOWN_FIELD,
                              "sketch/ has no role %s; known: param, grad, delta, probe_grad, "
                              "pair_s, pair_y",
                              lyap_quote_string(name, &quote));
    *ret_target = (struct target){ LYAP_INTAKE_SKETCH, role, NULL };
    return LYAP_OK;
}

static enum lyap_status tensor_parse(const char *name, const char *slash, struct target *ret_target,
                                     struct lyap_error *reterr)
{
    enum lyap_role role;
    struct lyap_quote quote;
    const char *tensor = slash + 1;
    const size_t bytes = strlen(tensor);
    if (!lyap_role_parse(name, (unsigned long)(slash - name), &role))
        return lyap_error_set(
            reterr, LYAP_E_UNKNOWN_FIELD,
            "tensor %s has an unknown role; known: %s; of partial pushes: reduce, "
            "sketch",
            lyap_quote_string(name, &quote), lyap_role_list());
    if (bytes == 0 || bytes > LYAP_TENSOR_NAME_BYTES_MAX)
        return lyap_error_set(
            reterr, LYAP_E_INVALID,
            "tensor %s: the name after the role has %zu bytes, but must have 1 to "
            "%d",
            lyap_quote_string(name, &quote), bytes, LYAP_TENSOR_NAME_BYTES_MAX);
    *ret_target = (struct target){ LYAP_INTAKE_TENSOR, role, tensor };
    return LYAP_OK;
}

static enum lyap_status target_parse(const char *name, struct target *ret_target,
                                     struct lyap_error *reterr)
{
    struct lyap_quote quote;
    const char *slash = strchr(name, '/');
    if (!slash)
        return lyap_error_set(
            reterr, LYAP_E_INVALID,
            "tensor %s has no role; names are role/name, such as param/fc1.weight",
            lyap_quote_string(name, &quote));
    const size_t prefix = (size_t)(slash - name);
    if (is_word(name, prefix, "reduce"))
        return reduce_parse(slash + 1, ret_target, reterr);
    if (is_word(name, prefix, "sketch"))
        return sketch_parse(slash + 1, ret_target, reterr);
    return tensor_parse(name, slash, ret_target, reterr);
}

/* Every name parsed; full and partial grade do not mix. The caller frees the array. */
static enum lyap_status targets_parse(const struct lyap_wire_entry *entries, uint32_t entry_count,
                                      struct target **ret_targets, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    uint32_t full_count = 0;
    struct target *targets = lyap_alloc_array(entry_count, sizeof *targets);
    if (!targets)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; status == LYAP_OK && i < entry_count; i++) {
        status = target_parse(entries[i].name, &targets[i], reterr);
        full_count += targets[i].kind == LYAP_INTAKE_TENSOR;
    }
    if (status == LYAP_OK && full_count > 0 && full_count < entry_count)
        status = lyap_error_set(reterr, LYAP_E_CONTRADICTION,
                                "a push is full (param/, grad/ ...) or partial (reduce/, sketch/), "
                                "not both");
    if (status) {
        lyap_free(targets);
        return status;
    }
    *ret_targets = targets;
    return LYAP_OK;
}

/* The unsharded tensor behind a param entry; the name is the caller's to free. */
static enum lyap_status param_tensor(const struct lyap_wire_entry *entry, const char *name,
                                     const struct lyap_snapshot *snapshot,
                                     struct lyap_tensor *ret_tensor)
{
    const struct lyap_shard *shard = lyap_metadata_shard_of(snapshot, name);
    struct lyap_tensor tensor = { .name = lyap_alloc_string(name),
                                  .rank = shard ? shard->rank : entry->rank };
    if (!tensor.name)
        return LYAP_E_NOMEM;
    memcpy(tensor.shape, shard ? shard->shape : entry->shape, sizeof tensor.shape);
    *ret_tensor = tensor;
    return LYAP_OK;
}

static enum lyap_status params_collect(const struct lyap_wire_entry *entries,
                                       const struct target *targets, uint32_t entry_count,
                                       const struct lyap_snapshot *snapshot,
                                       struct lyap_tensor_set *ret_set)
{
    enum lyap_status status = LYAP_OK;
    for (uint32_t i = 0; status == LYAP_OK && i < entry_count; i++) {
        if (targets[i].kind != LYAP_INTAKE_TENSOR || targets[i].what != LYAP_ROLE_PARAM)
            continue;
        status = param_tensor(&entries[i], targets[i].tensor, snapshot,
                              &ret_set->tensors[ret_set->count]);
        if (status == LYAP_OK)
            ret_set->count++;
    }
    return status;
}

enum lyap_status lyap_wire_param_set(const struct lyap_wire_entry *entries, uint32_t entry_count,
                                     const struct lyap_snapshot *snapshot,
                                     struct lyap_tensor_set *ret_set, struct lyap_error *reterr)
{
    struct lyap_tensor_set set = LYAP_TENSOR_SET_NULL;
    struct target *targets = NULL;
    enum lyap_status status = targets_parse(entries, entry_count, &targets, reterr);
    if (status)
        return status;
    set.tensors = lyap_alloc_array(entry_count, sizeof *set.tensors);
    status =
        set.tensors ? params_collect(entries, targets, entry_count, snapshot, &set) : LYAP_E_NOMEM;
    lyap_free(targets);
    if (status || set.count == 0) {
        lyap_tensor_set_release(&set);
        if (status == LYAP_OK)
            *ret_set = set;
        return status;
    }
    return lyap_tensor_set_build(set.tensors, set.count, ret_set, reterr);
}

/* A value per tensor, of a histogram a row of bins per tensor. */
static enum lyap_status row_check(const struct lyap_wire_entry *entry, enum lyap_reduce row,
                                  uint32_t tensors, struct lyap_error *reterr)
{
    struct lyap_quote name, shape;
    const uint32_t width = lyap_reduce_width(row);
    const bool is_wide = width > 1;
    if (is_wide ? entry->rank == 2 && entry->shape[0] == tensors && entry->shape[1] == width
                : entry->rank == 1 && entry->count == tensors)
        return LYAP_OK;
    return lyap_error_set(reterr, LYAP_E_INVALID,
                          "tensor %s has shape %s, but must be [%u%s], %s per tensor of the run",
                          lyap_quote_string(entry->name, &name),
                          lyap_quote_shape(entry->shape, entry->rank, &shape), tensors,
                          is_wide ? ",64" : "", is_wide ? "64 counts" : "a value");
}

static enum lyap_status partial_check(const struct lyap_wire_entry *entry,
                                      const struct target *target,
                                      const struct lyap_tensor_set *declared,
                                      struct lyap_error *reterr)
{
    struct lyap_quote name, shape;
    if (declared->count == 0)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "a partial push needs the tensors of the run; declare them with PUT, "
                              "or push param/ tensors first");
    if (entry->dtype != LYAP_DTYPE_F64)
        return lyap_error_set(reterr, LYAP_E_INVALID, "tensor %s has dtype %s, but must be F64",
                              lyap_quote_string(entry->name, &name), lyap_dtype_name(entry->dtype));
    if (target->kind == LYAP_INTAKE_REDUCE)
        return row_check(entry, (enum lyap_reduce)target->what, declared->count, reterr);
    if (entry->rank != 1 || entry->count != LYAP_SKETCH_SIZE)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "tensor %s has shape %s, but must be [%d], the size of a sketch",
                              lyap_quote_string(entry->name, &name),
                              lyap_quote_shape(entry->shape, entry->rank, &shape),
                              LYAP_SKETCH_SIZE);
    return LYAP_OK;
}

static enum lyap_status shard_refuse(const struct lyap_wire_entry *entry,
                                     const struct lyap_shard *shard, const char *why,
                                     struct lyap_error *reterr)
{
    struct lyap_quote name, here, whole;
    return lyap_error_set(reterr, LYAP_E_INVALID, "tensor %s of shape %s, a shard of %s: %s",
                          lyap_quote_string(entry->name, &name),
                          lyap_quote_shape(entry->shape, entry->rank, &here),
                          lyap_quote_shape(shard->shape, shard->rank, &whole), why);
}

/* The entry lies within the whole tensor. */
static enum lyap_status shard_check(const struct lyap_wire_entry *entry,
                                    const struct lyap_shard *shard,
                                    const struct lyap_tensor *tensor, struct lyap_error *reterr)
{
    if (shard->rank != tensor->rank ||
        memcmp(shard->shape, tensor->shape, tensor->rank * sizeof *tensor->shape) != 0)
        return shard_refuse(entry, shard, "the run has the tensor in another shape", reterr);
    if (!shard->is_box) {
        if (shard->offset > tensor->count || entry->count > tensor->count - shard->offset)
            return shard_refuse(entry, shard, "offset and elements reach beyond the end", reterr);
        return LYAP_OK;
    }
    if (entry->rank != shard->rank)
        return shard_refuse(entry, shard, "a box has the rank of the whole", reterr);
    for (uint32_t i = 0; i < shard->rank; i++)
        if (shard->start[i] > shard->shape[i] ||
            entry->shape[i] > shard->shape[i] - shard->start[i])
            return shard_refuse(entry, shard, "start and shape reach beyond the end", reterr);
    return LYAP_OK;
}

/* Activations have the shape of the probe inputs; everything else that of the parameter. */
static bool is_of_layer(const struct target *target)
{
    return target->kind == LYAP_INTAKE_TENSOR &&
           (target->what == LYAP_ROLE_ACT || target->what == LYAP_ROLE_ACT_PERTURBED ||
            target->what == LYAP_ROLE_GATE);
}

/* 0: the network's input, l + 1: layer l. */
static enum lyap_status layer_resolve(const struct lyap_wire_entry *entry,
                                      const struct target *target,
                                      const struct lyap_network *network, int64_t *ret_index,
                                      struct lyap_error *reterr)
{
    struct lyap_quote quote, shape;
    const int32_t layer = lyap_network_find(network, target->tensor, strlen(target->tensor));
    if (layer == LYAP_NETWORK_NONE)
        return lyap_error_set(reterr, LYAP_E_INVALID, "tensor %s is of no declared layer%s",
                              lyap_quote_string(entry->name, &quote),
                              network->count == 0 ? "; the run declares no layers" : "");
    if (target->what == LYAP_ROLE_GATE && layer == LYAP_NETWORK_INPUT)
        return lyap_error_set(reterr, LYAP_E_INVALID, "tensor %s: the input has no gate",
                              lyap_quote_string(entry->name, &quote));
    if (entry->rank < 2)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "tensor %s has shape %s, but must be [samples, ...]",
                              lyap_quote_string(entry->name, &quote),
                              lyap_quote_shape(entry->shape, entry->rank, &shape));
    *ret_index = layer + 1;
    return LYAP_OK;
}

static enum lyap_status tensor_check(const struct lyap_wire_entry *entry,
                                     const struct target *target,
                                     const struct lyap_snapshot *snapshot,
                                     const struct lyap_tensor *tensor, struct lyap_error *reterr)
{
    struct lyap_quote name, here, declared;
    const struct lyap_shard *shard = lyap_metadata_shard_of(snapshot, target->tensor);
    if (shard)
        return shard_check(entry, shard, tensor, reterr);
    if (entry->rank != tensor->rank ||
        memcmp(entry->shape, tensor->shape, tensor->rank * sizeof *tensor->shape) != 0)
        return lyap_error_set(
            reterr, LYAP_E_INVALID,
            "tensor %s has shape %s, but the run has it as %s (a part of it needs "
            "the key shard)",
            lyap_quote_string(entry->name, &name),
            lyap_quote_shape(entry->shape, entry->rank, &here),
            lyap_quote_shape(tensor->shape, tensor->rank, &declared));
    return LYAP_OK;
}

static enum lyap_status
entry_resolve(const struct lyap_wire_entry *entry, const struct target *target,
              const struct lyap_snapshot *snapshot, const struct lyap_declaration *declaration,
              struct lyap_intake_entry *ret_entry, struct lyap_error *reterr)
{
    const struct lyap_tensor_set *declared = &declaration->set;
    const bool is_act = is_of_layer(target);
    struct lyap_quote quote;
    int64_t index = 0;
    enum lyap_status status;
    if (target->kind != LYAP_INTAKE_TENSOR) {
        status = partial_check(entry, target, declared, reterr);
    } else if (is_act) {
        status = layer_resolve(entry, target, &declaration->network, &index, reterr);
    } else {
        index = lyap_tensor_set_find(declared, target->tensor, strlen(target->tensor));
        if (index < 0)
            return lyap_error_set(reterr, LYAP_E_TENSOR_SET,
                                  "tensor %s belongs to no param tensor of the run",
                                  lyap_quote_string(entry->name, &quote));
        status = tensor_check(entry, target, snapshot, &declared->tensors[index], reterr);
    }
    if (status)
        return status;
    *ret_entry = (struct lyap_intake_entry){
        .kind = target->kind,
        .what = target->what,
        .tensor = (uint32_t)index,
        .dtype = entry->dtype,
        .count = entry->count,
    };
    const struct lyap_shard *shard =
        target->tensor && !is_act ? lyap_metadata_shard_of(snapshot, target->tensor) : NULL;
    if (is_act || (shard && shard->is_box)) {
        ret_entry->shape = entry->shape;
        ret_entry->rank = entry->rank;
    }
    return LYAP_OK;
}

/* A misspelt name in `shard` would silently make a whole tensor of a part. */
static enum lyap_status shards_are_declared(const struct lyap_snapshot *snapshot,
                                            const struct lyap_tensor_set *declared,
                                            struct lyap_error *reterr)
{
    for (uint32_t i = 0; i < snapshot->shard_count; i++) {
        const char *name = snapshot->shards[i].tensor;
        struct lyap_quote quote;
        if (lyap_tensor_set_find(declared, name, strlen(name)) < 0)
            return lyap_error_set(reterr, LYAP_E_INVALID,
                                  "shard: %s is no tensor of the run (names go without role)",
                                  lyap_quote_string(name, &quote));
    }
    return LYAP_OK;
}

/* What a partial push must bring: the moments of param and grad, and their sketches. */
static enum lyap_status partial_is_whole(const struct target *targets, uint32_t count,
                                         struct lyap_error *reterr)
{
    bool rows[LYAP_REDUCE_COUNT] = { false }, sketches[LYAP_SKETCH_COUNT] = { false };
    static const enum lyap_reduce firsts[] = { LYAP_REDUCE_PARAM_COUNT, LYAP_REDUCE_GRAD_COUNT };
    static const enum lyap_sketch_role roles[] = { LYAP_SKETCH_PARAM, LYAP_SKETCH_GRAD };
    if (count == 0 || targets[0].kind == LYAP_INTAKE_TENSOR)
        return LYAP_OK;
    for (uint32_t i = 0; i < count; i++)
        *(targets[i].kind == LYAP_INTAKE_REDUCE ? &rows[targets[i].what]
                                                : &sketches[targets[i].what]) = true;
    for (unsigned r = 0; r < 2; r++) {
        for (unsigned m = 0; m < LYAP_MOMENT_ROWS; m++)
            if (!rows[firsts[r] + m])
                return lyap_error_set(reterr, LYAP_E_MISSING_FIELD,
                                      "reduce/%s is missing; a partial push has the moments of "
                                      "param and grad, and their sketches",
                                      lyap_reduce_name((enum lyap_reduce)(firsts[r] + m)));
        if (!sketches[roles[r]])
            return lyap_error_set(reterr, LYAP_E_MISSING_FIELD,
                                  "sketch/%s is missing; a partial push has the moments of param "
                                  "and grad, and their sketches",
                                  lyap_sketch_name(roles[r]));
    }
    return LYAP_OK;
}

enum lyap_status lyap_wire_resolve(const struct lyap_wire_entry *entries, uint32_t entry_count,
                                   const struct lyap_snapshot *snapshot,
                                   const struct lyap_declaration *declaration,
                                   struct lyap_intake_entry **ret_entries,
                                   struct lyap_error *reterr)
{
    struct target *targets = NULL;
    struct lyap_intake_entry *resolved = NULL;
    enum lyap_status status = targets_parse(entries, entry_count, &targets, reterr);
    if (status)
        return status;
    resolved = lyap_alloc_array(entry_count, sizeof *resolved);
    status = resolved ? shards_are_declared(snapshot, &declaration->set, reterr) : LYAP_E_NOMEM;
    for (uint32_t i = 0; status == LYAP_OK && i < entry_count; i++)
        status =
            entry_resolve(&entries[i], &targets[i], snapshot, declaration, &resolved[i], reterr);
    if (status == LYAP_OK)
        status = partial_is_whole(targets, entry_count, reterr);
    lyap_free(targets);
    if (status) {
        lyap_free(resolved);
        return status;
    }
    *ret_entries = resolved;
    return LYAP_OK;
}
