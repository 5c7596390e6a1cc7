/* Life of one upload: new, finish, free. */
#include "intake_state.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "banned.h"

/* Updates whose rule missed by more than this share say that the state is not the optimizer's. */
static const double omega_max = 0.05; /* SPEC 0.1 */

static bool allocate(struct lyap_intake *intake)
{
    const struct lyap_declaration *declaration = intake->config.declaration;
    const uint32_t groups = declaration->optimizer.group_count + 1;
    const size_t chunk_bytes = sizeof *intake->chunks;
    intake->tensors = lyap_alloc_array(intake->tensor_count, sizeof *intake->tensors);
    intake->rules = lyap_alloc_array(groups, sizeof *intake->rules);
    intake->chunks = lyap_alloc_aligned(LYAP_ARRAY_COUNT, chunk_bytes);
    intake->staging = lyap_alloc_aligned(LYAP_SUM_BLOCK, sizeof(double));
    if (intake->config.retention == LYAP_RETENTION_EXACT)
        intake->memory = lyap_memory_new(intake->tensor_count, groups);
    if (!intake->tensors || !intake->rules || !intake->chunks || !intake->staging ||
        (intake->config.retention == LYAP_RETENTION_EXACT && !intake->memory))
        return false;
    memset(intake->chunks, 0, LYAP_ARRAY_COUNT * chunk_bytes);
    return true;
}

/* A predecessor of another declaration is none. */
static const struct lyap_memory *usable(const struct lyap_intake_config *config)
{
    const struct lyap_memory *previous = config->previous;
    const bool is_usable = previous && previous->tensor_count == config->declaration->set.count &&
                           previous->group_count == config->declaration->optimizer.group_count + 1;
    return is_usable ? previous : NULL;
}

enum lyap_status lyap_intake_new(const struct lyap_intake_config *config,
                                 struct lyap_intake **ret_intake, struct lyap_error *reterr)
{
    assert(config->retention != LYAP_RETENTION_AUTO && config->declaration && config->snapshot);
    assert(config->take_recycled == NULL || config->take_recycled != config->previous);
    struct lyap_intake *intake = lyap_alloc_array(1, sizeof *intake);
    if (!intake) {
        lyap_memory_free(config->take_recycled);
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for the upload");
    }
    intake->config = *config;
    intake->config.previous = usable(config);
    intake->kernels = lyap_kernels_best();
    intake->tensor_count = config->declaration->set.count;
    const enum lyap_status status =
        lyap_partial_init(&intake->partial, intake->tensor_count, LYAP_SKETCH_SIZE);
    if (status != LYAP_OK || !allocate(intake)) {
        lyap_intake_free(intake);
        return lyap_error_set(reterr, status != LYAP_OK ? status : LYAP_E_NOMEM,
                              "no memory for an upload of %u tensors",
                              config->declaration->set.count);
    }
    *ret_intake = intake;
    return LYAP_OK;
}

void lyap_intake_free(struct lyap_intake *intake)
{
    if (!intake)
        return;
    for (unsigned i = 0; i < LYAP_SKETCH_COUNT; i++)
        lyap_sketch_release(&intake->sketches[i]);
    lyap_partial_release(&intake->partial);
    lyap_acts_free(intake->acts);
    lyap_memory_free(intake->memory);
    lyap_memory_free(intake->config.take_recycled);
    lyap_free_aligned(intake->row_wide);
    lyap_free_aligned(intake->row_hold);
    lyap_free_aligned(intake->hold);
    lyap_free_aligned(intake->staging);
    lyap_free_aligned(intake->chunks);
    lyap_free(intake->rules);
    lyap_free(intake->parts);
    lyap_free(intake->tensors);
    lyap_free(intake->arrays);
    lyap_free(intake);
}

/* The coefficient follows from the norm of what was just read (torch clips by the norm of all
 * gradients, non-finite ones included: then it is not known). */
static void settle_clip(struct lyap_intake *intake)
{
    if (!intake->is_clip_late || !intake->has_role[LYAP_ROLE_GRAD])
        return;
    double sq = 0;
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        const double value = intake->partial.rows[LYAP_REDUCE_GRAD_SQ][i];
        sq += isnan(value) ? 0 : value; /* a frozen tensor */
    }
    const double clip = lyap_step_clip_coefficient(intake->config.snapshot->clip_norm, sqrt(sq));
    for (uint32_t g = 0; g <= intake->config.declaration->optimizer.group_count; g++)
        intake->rules[g].clip = clip;
}

/* Zero where there was nothing to add up: a tensor that another rank holds, a frozen tensor's
 * gradient. */
static void fill_empty(struct lyap_intake *intake)
{
    static const struct {
        enum lyap_reduce first;
        enum lyap_role role;
    } moments[] = { { LYAP_REDUCE_PARAM_COUNT, LYAP_ROLE_PARAM },
                    { LYAP_REDUCE_GRAD_COUNT, LYAP_ROLE_GRAD },
                    { LYAP_REDUCE_DELTA_COUNT, LYAP_ROLE_DELTA },
                    { LYAP_REDUCE_PROBE_GRAD_COUNT, LYAP_ROLE_PROBE_GRAD } };
    double **rows = intake->partial.rows;
    for (uint32_t i = 0; i < intake->tensor_count; i++) {
        const struct lyap_intake_tensor *tensor = &intake->tensors[i];
        for (unsigned r = 0; r < LYAP_REDUCE_COUNT; r++) {
            const size_t width = lyap_reduce_width((enum lyap_reduce)r);
            if (rows[r] && tensor->entry_count == 0)
                memset(rows[r] + i * width, 0, width * sizeof *rows[r]);
        }
        for (unsigned m = 0; m < sizeof moments / sizeof *moments; m++) {
            const bool is_delta = moments[m].role == LYAP_ROLE_DELTA;
            const bool is_still =
                intake->has_role[LYAP_ROLE_DELTA] && tensor->entries[LYAP_ROLE_GRAD] == 0;
            const bool is_zero = tensor->entries[moments[m].role] == 0 && (!is_delta || is_still);
            for (unsigned r = 0; is_zero && r < LYAP_MOMENT_ROWS; r++)
                if (rows[moments[m].first + r])
                    rows[moments[m].first + r][i] = 0;
        }
    }
}

static bool is_state_exact(const struct lyap_intake *intake)
{
    if (!lyap_step_is_adaptive(intake->config.declaration->optimizer.type))
        return false;
    for (uint32_t i = 0; i < intake->tensor_count; i++)
        if (intake->tensors[i].entry_count > 0 &&
            (intake->tensors[i].state[LYAP_STATE_FIRST] == LYAP_STATE_NONE ||
             intake->tensors[i].state[LYAP_STATE_SECOND] == LYAP_STATE_NONE))
            return false;
    return true;
}

static bool is_finite_snapshot(const struct lyap_intake *intake)
{
    const struct lyap_snapshot *snapshot = intake->config.snapshot;
    const bool has_loss = lyap_snapshot_has(snapshot, LYAP_META_LOSS);
    return !intake->has_nonfinite && (!has_loss || isfinite(snapshot->loss));
}

/* A rebuilt state whose last prediction missed is not what the optimizer holds. */
static void drop_wrong_state(struct lyap_intake *intake)
{
    const double error_sq = lyap_partial_total(&intake->partial, LYAP_REDUCE_UPDATE_ERROR_SQ);
    const double delta_sq = lyap_partial_total(&intake->partial, LYAP_REDUCE_DELTA_SQ);
    if (!(error_sq > omega_max * omega_max * delta_sq))
        return;
    for (uint32_t i = 0; i < intake->tensor_count; i++)
        for (unsigned p = 0; p < LYAP_STATE_PARTS; p++)
            if (intake->tensors[i].state[p] == LYAP_STATE_REBUILT &&
                lyap_step_is_adaptive(intake->config.declaration->optimizer.type))
                intake->memory->tensors[i].state[p] = LYAP_STATE_NONE;
}

static void settle_memory(struct lyap_intake *intake)
{
    struct lyap_memory *memory = intake->memory;
    const struct lyap_snapshot *snapshot = intake->config.snapshot;
    intake->kernels->settle();
    memory->step = snapshot->step;
    memory->has_grads = intake->has_role[LYAP_ROLE_GRAD];
    memory->has_probes = intake->has_role[LYAP_ROLE_PROBE_GRAD];
    if (lyap_snapshot_has(snapshot, LYAP_META_CLIP_FACTOR))
        memory->clip_factor = snapshot->clip_factor;
    lyap_sketch_read(&intake->sketches[LYAP_SKETCH_PARAM], memory->param_sketch);
    memcpy(memory->rules, intake->rules, memory->group_count * sizeof *memory->rules);
    drop_wrong_state(intake);
}

static void read_sketches(struct lyap_intake *intake)
{
    double *const *sketches = intake->partial.sketches;
    for (unsigned i = 0; i < LYAP_SKETCH_COUNT; i++)
        if (intake->has_sketch[i])
            lyap_sketch_read(&intake->sketches[i], sketches[i]);
    if (!intake->is_delta_sketch_late || !intake->has_sketch[LYAP_SKETCH_DELTA])
        return;
    const double *before = intake->config.previous->param_sketch;
    for (uint32_t i = 0; i < LYAP_SKETCH_SIZE; i++)
        sketches[LYAP_SKETCH_DELTA][i] += sketches[LYAP_SKETCH_PARAM][i] - before[i];
}

enum lyap_status lyap_intake_finish(struct lyap_intake *intake, struct lyap_partial *ret_partial,
                                    struct lyap_memory **ret_memory)
{
    struct lyap_memory *memory = NULL;
    if (intake->open < intake->array_count)
        return LYAP_E_FORMAT;
    if (!intake->is_partial_grade) {
        fill_empty(intake);
        settle_clip(intake);
        lyap_late_settle(intake);
        lyap_products_finish(intake);
        lyap_acts_finish(intake);
        read_sketches(intake);
        intake->partial.is_state_exact = is_state_exact(intake);
        const enum lyap_status status = lyap_intake_spectral_finish(intake);
        if (status != LYAP_OK)
            return status;
    }
    const bool is_kept = intake->memory && !intake->is_partial_grade &&
                         !intake->config.snapshot->is_skipped && is_finite_snapshot(intake);
    if (is_kept) {
        settle_memory(intake);
        memory = intake->memory;
        intake->memory = NULL;
    }
    *ret_partial = intake->partial;
    intake->partial = (struct lyap_partial)LYAP_PARTIAL_NULL;
    *ret_memory = memory;
    return LYAP_OK;
}
