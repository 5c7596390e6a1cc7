/* The representation family of a step: layers, what is kept of them, the metrics of the point. */
#include "profile_forward.h"

#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "profile_layers.h"
#include "banned.h"

/* ---- memory ---- */

void lyap_forward_init(struct lyap_forward *forward)
{
    *forward = (struct lyap_forward){ .rows_step = -1, .marked_step = -1 };
}

void lyap_forward_release(struct lyap_forward *forward)
{
    for (uint32_t i = 0; forward->layers && i < forward->count; i++)
        lyap_gates_free(forward->layers[i].gates);
    lyap_lows_release(&forward->lows);
    lyap_free(forward->layers);
    lyap_free(forward->rows);
    lyap_free(forward->distance);
    lyap_free(forward->marked);
    lyap_forward_init(forward);
}

/* Nothing connects the kept bounds with what comes. */
static void forward_break(struct lyap_forward *forward)
{
    for (uint32_t i = 0; i < forward->count; i++) {
        forward->layers[i].step = -1;
        forward->layers[i].age = UINT32_MAX;
    }
    for (uint32_t i = 0; i < forward->tensors; i++)
        forward->distance[i] = 0;
    forward->marked_step = -1;
}

enum lyap_status lyap_forward_reserve(struct lyap_forward *forward,
                                      const struct lyap_declaration *declaration)
{
    const uint32_t count = declaration->network.count, tensors = declaration->set.count;
    if (count == 0 || (forward->count == count && forward->tensors == tensors))
        return LYAP_OK;
    struct lyap_forward next;
    lyap_forward_init(&next);
    next.layers = lyap_alloc_array(count, sizeof *next.layers);
    next.rows = lyap_alloc_array(count, sizeof *next.rows);
    next.distance = lyap_alloc_array(tensors, sizeof *next.distance);
    next.marked = lyap_alloc_array(tensors, sizeof *next.marked);
    if (!next.layers || !next.rows || !next.distance || !next.marked) {
        lyap_forward_release(&next);
        return LYAP_E_NOMEM;
    }
    next.count = count;
    next.tensors = tensors;
    for (uint32_t i = 0; i < count; i++)
        next.layers[i] = (struct lyap_forward_layer){ .gain_max = NAN, .gates_step = -1 };
    forward_break(&next);
    lyap_forward_release(forward);
    *forward = next;
    return LYAP_OK;
}

/* What was pushed of a layer's gates, or NULL. */
static const struct lyap_gates *pushed_gates(const struct lyap_forward *forward,
                                             const struct lyap_partial *partial, uint32_t layer)
{
    const bool is_there = partial->acts && partial->act_count == forward->count + 1;
    return is_there ? partial->acts[layer + 1].gates : NULL;
}

enum lyap_status lyap_forward_reserve_gates(struct lyap_forward *forward,
                                            const struct lyap_partial *partial)
{
    for (uint32_t i = 0; i < forward->count; i++) {
        struct lyap_forward_layer *kept = &forward->layers[i];
        const struct lyap_gates *pushed = pushed_gates(forward, partial, i);
        if (!pushed || (kept->gates && kept->gates->units == pushed->units &&
                        kept->gates->groups == pushed->groups))
            continue;
        struct lyap_gates *room = lyap_gates_dup(pushed);
        if (!room)
            return LYAP_E_NOMEM;
        lyap_gates_free(kept->gates);
        kept->gates = room;
        kept->gates_step = -1;
    }
    return LYAP_OK;
}

static void keep_gates(struct lyap_step *step)
{
    struct lyap_forward *forward = &step->profile->forward;
    for (uint32_t i = 0; i < forward->count; i++) {
        const struct lyap_gates *pushed = pushed_gates(forward, step->partial, i);
        if (!pushed)
            continue;
        lyap_gates_copy(pushed, forward->layers[i].gates);
        forward->layers[i].gates_step = step->snapshot->step;
    }
}

void lyap_forward_redeclare(struct lyap_forward *forward, const struct lyap_network *before,
                            const struct lyap_network *after)
{
    const bool is_same =
        before->count == after->count && before->text_bytes == after->text_bytes &&
        (before->text_bytes == 0 || memcmp(before->text, after->text, before->text_bytes) == 0);
    forward_break(forward);
    if (!is_same)
        lyap_forward_release(forward);
}

/* ---- kept bounds ---- */

struct lyap_layer_bound lyap_forward_bound(const struct lyap_step *step, uint32_t index,
                                           int64_t *ret_step)
{
    const struct lyap_declaration *declaration = &step->profile->declaration;
    const struct lyap_forward *forward = &step->profile->forward;
    const struct lyap_layer *layer = &declaration->network.layers[index];
    const struct lyap_forward_layer *kept = &forward->layers[index];
    struct lyap_layer_moved moved = { { 0 }, { 0 } };
    *ret_step = kept->step;
    if (kept->step < 0)
        return lyap_layer_bound_none();
    for (int part = 0; part < LYAP_LAYER_PARTS; part++) {
        const int32_t tensor = layer->index[part];
        if (tensor < 0)
            continue;
        const struct lyap_spectral_view *view = lyap_step_spectral_view(step, (uint32_t)tensor);
        moved.distance[part] = forward->distance[tensor] - kept->moved_at[part];
        moved.upper[part] = view ? view->upper : (double)NAN;
    }
    return lyap_layer_bound_after(&declaration->network, &declaration->set, index, &kept->bound,
                                  &moved);
}

/* The gates that the newest snapshot brought, where a job can use them. */
static const struct lyap_gates *due_gates(const struct lyap_profile *profile, uint32_t layer)
{
    const struct lyap_declaration *declaration = &profile->declaration;
    const struct lyap_forward_layer *kept = &profile->forward.layers[layer];
    const bool is_gated =
        kept->gates_step == profile->forward.rows_step &&
        lyap_layer_is_gated_job(&declaration->network, &declaration->set, layer, kept->gates);
    return is_gated ? kept->gates : NULL;
}

static bool is_due(const struct lyap_profile *profile, uint32_t every, uint32_t layer)
{
    const struct lyap_declaration *declaration = &profile->declaration;
    return profile->forward.layers[layer].age >= every &&
           (lyap_layer_is_job(&declaration->network, &declaration->set, layer) ||
            due_gates(profile, layer));
}

static bool is_any_due(const struct lyap_profile *profile, uint32_t every)
{
    const struct lyap_forward *forward = &profile->forward;
    if (every == 0 || forward->rows_step < 0 || forward->rows_step != profile->live.step)
        return false;
    for (uint32_t i = 0; i < forward->count; i++)
        if (is_due(profile, every, i))
            return true;
    return false;
}

enum lyap_status lyap_profile_layer_job(struct lyap_profile *profile, uint32_t every,
                                        struct lyap_layer_job **ret_job)
{
    struct lyap_forward *forward = &profile->forward;
    const struct lyap_declaration *declaration = &profile->declaration;
    double flops = 0;
    *ret_job = NULL;
    if (!is_any_due(profile, every))
        return LYAP_OK;
    struct lyap_layer_job *job = lyap_alloc_array(1, sizeof *job);
    if (!job || !(job->tasks = lyap_alloc_array(forward->count, sizeof *job->tasks))) {
        lyap_layer_job_free(job);
        return LYAP_E_NOMEM;
    }
    job->step = forward->rows_step;
    uint32_t seen = 0;
    for (; seen < forward->count && flops < LYAP_LAYER_JOB_FLOPS; seen++) {
        const uint32_t i = (forward->cursor + seen) % forward->count;
        if (!is_due(profile, every, i))
            continue;
        struct lyap_layer_task *task = &job->tasks[job->count++];
        *task = (struct lyap_layer_task){ .layer = i };
        const struct lyap_gates *gates = due_gates(profile, i);
        if (gates && !(task->gates = lyap_gates_dup(gates))) {
            lyap_layer_job_free(job);
            return LYAP_E_NOMEM;
        }
        flops += lyap_layer_task_flops(task, declaration);
    }
    for (uint32_t i = 0; i < job->count; i++)
        forward->layers[job->tasks[i].layer].age = 0;
    forward->cursor = forward->count > 0 ? (forward->cursor + seen) % forward->count : 0;
    memcpy(forward->marked, forward->distance, forward->tensors * sizeof *forward->marked);
    forward->marked_step = job->step;
    *ret_job = job;
    return LYAP_OK;
}

static void take_bound(struct lyap_profile *profile, const struct lyap_layer_task *task)
{
    struct lyap_forward *forward = &profile->forward;
    const struct lyap_layer *layer = &profile->declaration.network.layers[task->layer];
    struct lyap_forward_layer *kept = &forward->layers[task->layer];
    kept->bound = task->bound;
    kept->step = forward->marked_step;
    for (int part = 0; part < LYAP_LAYER_PARTS; part++)
        kept->moved_at[part] = layer->index[part] >= 0 ? forward->marked[layer->index[part]] : 0;
}

void lyap_profile_layer_result(struct lyap_profile *profile, const struct lyap_layer_job *job)
{
    struct lyap_forward *forward = &profile->forward;
    for (uint32_t i = 0; i < job->count && job->step == forward->marked_step; i++)
        if (job->tasks[i].is_done && job->tasks[i].layer < forward->count)
            take_bound(profile, &job->tasks[i]);
}

/* How far each tensor moved with this step; only an exact difference of what is stored connects two
 * kept snapshots. */
static void forward_move(struct lyap_step *step)
{
    struct lyap_forward *forward = &step->profile->forward;
    const double *delta_sq = step->partial ? step->partial->rows[LYAP_REDUCE_DELTA_SQ] : NULL;
    if (!delta_sq || !step->is_linked || step->is_delta_sketched ||
        !(step->partial->delta_unit > 0) || step->partial->tensor_count != forward->tensors) {
        forward_break(forward);
        return;
    }
    for (uint32_t i = 0; i < forward->tensors; i++)
        forward->distance[i] += sqrt(delta_sq[i]);
    for (uint32_t i = 0; i < forward->count; i++)
        forward->layers[i].age += forward->layers[i].age < UINT32_MAX;
}

/* ---- the point ---- */

static const enum lyap_metric all_metrics[] = {
    LYAP_METRIC_FORWARD_BOUND, LYAP_METRIC_FORWARD_BOUND_LOCAL, LYAP_METRIC_RESIDUAL_GAIN,
    LYAP_METRIC_CFL_MARGIN,    LYAP_METRIC_EMPIRICAL_GAIN,      LYAP_METRIC_EMPIRICAL_GAIN_GROWTH,
};

static void give_absent(struct lyap_step *step, enum lyap_reason reason)
{
    for (unsigned i = 0; i < sizeof all_metrics / sizeof *all_metrics; i++)
        lyap_step_absent(step, all_metrics[i], reason);
}

/* The largest or least value over the blocks; the first absent one says why there is none. */
static struct lyap_value over_blocks(const struct lyap_step *step, enum lyap_layer_metric metric,
                                     bool is_largest)
{
    const struct lyap_network *network = &step->profile->declaration.network;
    struct lyap_value best = lyap_value_absent(LYAP_REASON_NO_RESIDUAL_BLOCK);
    for (uint32_t i = 0; i < network->count; i++) {
        const struct lyap_value *value = &step->profile->forward.rows[i].values[metric];
        if (network->layers[i].kind != LYAP_LAYER_RESIDUAL)
            continue;
        if (!lyap_is(value)) /* one block without a certificate: there is none for all */
            return *value;
        if (!lyap_is(&best) || (is_largest ? value->value > best.value : value->value < best.value))
            best = *value;
    }
    return best;
}

void lyap_step_forward(struct lyap_step *step)
{
    struct lyap_profile *profile = step->profile;
    struct lyap_forward *forward = &profile->forward;
    const struct lyap_network *network = &profile->declaration.network;
    if (network->count == 0) {
        give_absent(step, LYAP_REASON_NO_LAYERS);
        return;
    }
    if (!step->partial || forward->count != network->count) {
        give_absent(step, step->partial ? LYAP_REASON_INSUFFICIENT : step->sums);
        forward_break(forward);
        return;
    }
    forward_move(step);
    lyap_layers_fill(step, forward->rows);
    forward->rows_step = step->snapshot->step;
    keep_gates(step);
    const struct lyap_value *output = forward->rows[network->output].values;
    lyap_step_give(step, LYAP_METRIC_FORWARD_BOUND, output[LYAP_LAYER_METRIC_LOG_PRODUCT]);
    lyap_step_give(step, LYAP_METRIC_FORWARD_BOUND_LOCAL,
                   output[LYAP_LAYER_METRIC_LOCAL_LOG_PRODUCT]);
    lyap_step_give(step, LYAP_METRIC_RESIDUAL_GAIN,
                   over_blocks(step, LYAP_LAYER_METRIC_GAIN, true));
    lyap_step_give(step, LYAP_METRIC_CFL_MARGIN,
                   over_blocks(step, LYAP_LAYER_METRIC_CFL_MARGIN, false));
    lyap_forward_empirical(step);
}

double lyap_step_tensor_gain(const struct lyap_step *step, uint32_t layer)
{
    const struct lyap_forward *forward = &step->profile->forward;
    if (step->point->is_event_only || forward->rows_step != step->snapshot->step)
        return NAN;
    const struct lyap_value *value = &forward->rows[layer].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN];
    return lyap_is(value) ? value->value : (double)NAN;
}

const struct lyap_layer_row *lyap_profile_layers(const struct lyap_profile *profile,
                                                 uint32_t *ret_count, int64_t *ret_step)
{
    const struct lyap_forward *forward = &profile->forward;
    const bool is_there = forward->rows_step >= 0;
    *ret_count = is_there ? forward->count : 0;
    *ret_step = forward->rows_step;
    return is_there ? forward->rows : NULL;
}

const char *lyap_profile_layer_name(const struct lyap_profile *profile, uint32_t layer)
{
    return lyap_network_name(&profile->declaration.network, layer);
}

enum lyap_status lyap_profile_layers_recall(struct lyap_profile *profile, uint32_t layer,
                                            const char *name, double gain_max)
{
    const struct lyap_network *network = &profile->declaration.network;
    if (layer >= network->count || strcmp(lyap_network_name(network, layer), name) != 0)
        return LYAP_OK;
    const enum lyap_status status = lyap_forward_reserve(&profile->forward, &profile->declaration);
    if (status == LYAP_OK)
        profile->forward.layers[layer].gain_max = gain_max;
    return status;
}
