/* What a profile keeps of the newest finite snapshot beside its point; per-tensor rows. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "profile_internal.h"
#include "stats.h"
#include "banned.h"

static const enum lyap_sketch_role kept[] = { LYAP_SKETCH_PARAM, LYAP_SKETCH_GRAD,
                                              LYAP_SKETCH_PROBE_GRAD };
static const double Z_FLOOR = 0.1; /* least scale of log |p|: docs/detection.md */
static const double Z_MAX = 1e3;
static const double LOG_EMPTY = -40, LOG_HUGE = 70; /* exactly zero; overflowed */

void lyap_live_init(struct lyap_live *live)
{
    *live = (struct lyap_live){
        .step = -1, .sums_step = -1, .decay_energy = NAN, .decay_drift = NAN, .penalty = NAN
    };
}

void lyap_live_release(struct lyap_live *live)
{
    for (unsigned i = 0; i < LYAP_SKETCH_COUNT; i++)
        lyap_free(live->sketches[i]);
    lyap_free(live->delta);
    lyap_free(live->scratch);
    lyap_free(live->param_sq);
    lyap_free(live->grad_sq);
    lyap_live_init(live);
}

static bool reserve_array(double **array, uint32_t count)
{
    if (!*array)
        *array = lyap_alloc_array(count, sizeof **array);
    return *array != NULL;
}

static enum lyap_status reserve_rows(struct lyap_live *live, uint32_t tensors)
{
    if (live->tensors == tensors)
        return LYAP_OK;
    double *param_sq = lyap_alloc_array(tensors, sizeof *param_sq);
    double *grad_sq = lyap_alloc_array(tensors, sizeof *grad_sq);
    if (!param_sq || !grad_sq) {
        lyap_free(param_sq);
        lyap_free(grad_sq);
        return LYAP_E_NOMEM;
    }
    lyap_free(live->param_sq);
    lyap_free(live->grad_sq);
    live->param_sq = param_sq;
    live->grad_sq = grad_sq;
    live->tensors = tensors;
    live->has_rows = false;
    return LYAP_OK;
}

static enum lyap_status reserve_sketches(struct lyap_profile *profile,
                                         const struct lyap_partial *partial)
{
    struct lyap_live *live = &profile->live;
    const uint32_t k = partial->sketch_size;
    bool is_any = partial->sketches[LYAP_SKETCH_DELTA] != NULL;
    if (live->size != 0 && live->size != k)
        return LYAP_E_INVALID; /* k is part of the wire format: it never changes within a run */
    for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++)
        if (partial->sketches[kept[i]]) {
            live->size = k;
            is_any = true;
            if (!reserve_array(&live->sketches[kept[i]], k))
                return LYAP_E_NOMEM;
        }
    if (is_any) {
        live->size = k;
        if (!reserve_array(&live->delta, k) || !reserve_array(&live->scratch, k))
            return LYAP_E_NOMEM;
    }
    return LYAP_OK;
}

static enum lyap_status reserve_pairs(struct lyap_profile *profile,
                                      const struct lyap_snapshot *snapshot,
                                      const struct lyap_partial *partial)
{
    const struct lyap_declaration *declaration = &profile->declaration;
    const bool is_active =
        partial->sketches[LYAP_SKETCH_PAIR_S] && partial->sketches[LYAP_SKETCH_PAIR_Y];
    const bool is_plain_path =
        (partial->sketches[LYAP_SKETCH_PROBE_GRAD] ||
         (partial->sketches[LYAP_SKETCH_GRAD] &&
          (declaration->data == LYAP_DATA_FULL_BATCH || snapshot->batch_id[0] != '\0'))) &&
        !lyap_is_preconditioned(declaration->optimizer.type);
    const bool is_passive = is_plain_path || partial->sketches[LYAP_SKETCH_PATH_S];
    enum lyap_status status = LYAP_OK;
    if (is_active && profile->active.capacity == 0)
        status = lyap_pairs_init(&profile->active, LYAP_ACTIVE_PAIRS, partial->sketch_size);
    if (status == LYAP_OK && is_passive && profile->passive.capacity == 0)
        status = lyap_pairs_init(&profile->passive, LYAP_PASSIVE_PAIRS, partial->sketch_size);
    return status;
}

void lyap_tensor_z_release(struct lyap_tensor_z *z)
{
    lyap_free(z->rings);
    lyap_free(z->counts);
    lyap_free(z->nexts);
    lyap_free(z->scores);
    *z = (struct lyap_tensor_z){ 0 };
}

enum lyap_status lyap_tensor_z_reserve(struct lyap_tensor_z *z, uint32_t tensors)
{
    if (tensors > LYAP_TENSOR_Z_TENSORS || z->tensors == tensors)
        return LYAP_OK;
    struct lyap_tensor_z made = {
        .tensors = tensors,
        .rings = lyap_alloc_array((size_t)tensors * LYAP_TENSOR_Z_VALUES, sizeof *made.rings),
        .counts = lyap_alloc_array(tensors, 1),
        .nexts = lyap_alloc_array(tensors, 1),
        .scores = lyap_alloc_array(tensors, sizeof *made.scores),
    };
    if (!made.rings || !made.counts || !made.nexts || !made.scores) {
        lyap_tensor_z_release(&made);
        return LYAP_E_NOMEM;
    }
    lyap_tensor_z_release(z);
    *z = made;
    return LYAP_OK;
}

enum lyap_status lyap_profile_reserve(struct lyap_profile *profile,
                                      const struct lyap_snapshot *snapshot,
                                      const struct lyap_partial *partial)
{
    if (!partial || partial->tensor_count == 0)
        return LYAP_OK;
    enum lyap_status status = reserve_sketches(profile, partial);
    if (status == LYAP_OK)
        status = reserve_pairs(profile, snapshot, partial);
    if (status == LYAP_OK)
        status = reserve_rows(&profile->live, partial->tensor_count);
    if (status == LYAP_OK)
        status = lyap_tensor_z_reserve(&profile->update_z, partial->tensor_count);
    if (status == LYAP_OK)
        status = lyap_tensor_z_reserve(&profile->grad_z, partial->tensor_count);
    if (status == LYAP_OK)
        status = lyap_still_reserve(&profile->still, partial->tensor_count);
    if (status == LYAP_OK && profile->declaration.set.count == partial->tensor_count)
        status = lyap_spectral_state_reserve(&profile->spectral, &profile->declaration.set);
    if (status == LYAP_OK && profile->declaration.set.count == partial->tensor_count)
        status = lyap_forward_reserve(&profile->forward, &profile->declaration);
    if (status == LYAP_OK)
        status = lyap_forward_reserve_gates(&profile->forward, partial);
    if (status == LYAP_OK)
        status =
            lyap_forward_reserve_lows(&profile->forward, partial, profile->history.gains.capacity);
    return status;
}

/* ---- keeping ---- */

static void keep_delta(struct lyap_step *step)
{
    struct lyap_live *live = &step->profile->live;
    live->has_delta = step->delta != NULL;
    if (!live->has_delta)
        return;
    live->delta_to = step->snapshot->step;
    live->delta_from = lyap_step_delta_from(step);
    if (step->delta == live->scratch) {
        live->scratch = live->delta;
        live->delta = (double *)step->delta;
    } else
        memcpy(live->delta, step->delta, live->size * sizeof *live->delta);
}

static void keep_rows(struct lyap_step *step)
{
    struct lyap_live *live = &step->profile->live;
    const double *param = step->partial->rows[LYAP_REDUCE_PARAM_SQ];
    const double *grad = step->partial->rows[LYAP_REDUCE_GRAD_SQ];
    for (uint32_t i = 0; i < live->tensors; i++) {
        live->param_sq[i] = param ? param[i] : (double)NAN;
        live->grad_sq[i] = grad ? grad[i] : (double)NAN;
    }
    live->has_rows = true;
}

void lyap_live_keep(struct lyap_step *step)
{
    struct lyap_live *live = &step->profile->live;
    const struct lyap_snapshot *s = step->snapshot;
    const double norm = lyap_step_metric(step, LYAP_METRIC_GRAD_NORM);
    keep_delta(step);
    live->has_rows = false;
    if (step->partial)
        keep_rows(step);
    for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++) {
        const double *sketch = step->partial ? step->partial->sketches[kept[i]] : NULL;
        live->has_sketch[kept[i]] = sketch != NULL;
        if (sketch)
            memcpy(live->sketches[kept[i]], sketch, live->size * sizeof *sketch);
    }
    const double grad_norm = lyap_snapshot_has(s, LYAP_META_GRAD_NORM) ? s->grad_norm : norm;
    live->is_clipped = lyap_snapshot_has(s, LYAP_META_CLIP_NORM) && grad_norm > s->clip_norm;
    live->decay_energy = lyap_step_decay_energy(step);
    live->decay_drift = lyap_step_decay_drift(step);
    live->penalty = lyap_step_penalty(step);
    memcpy(live->batch_id, s->batch_id, sizeof live->batch_id);
    live->passed = 0;
    live->is_held = false;
    live->step = s->step;
    if (step->partial)
        live->sums_step = s->step;
}

/* ---- rows ---- */

static double tensor_z(struct lyap_tensor_z *z, uint32_t tensor, double norm)
{
    const double x = log(norm + 1e-30);
    if (x > LOG_HUGE)
        return Z_MAX;
    if (x < LOG_EMPTY)
        return NAN; /* a frozen tensor does not alarm when it thaws */
    float *ring = z->rings + (size_t)tensor * LYAP_TENSOR_Z_VALUES;
    const uint8_t count = z->counts[tensor];
    double score = NAN;
    if (count >= LYAP_TENSOR_Z_LEAST) {
        double work[LYAP_TENSOR_Z_VALUES];
        for (uint8_t i = 0; i < count; i++)
            work[i] = (double)ring[i];
        const double middle = lyap_stats_median(work, count);
        const double spread = LYAP_STATS_MAD_SCALE * lyap_stats_deviation(work, count, middle);
        score = fmin(fmax((x - middle) / fmax(spread, Z_FLOOR), -Z_MAX), Z_MAX);
    }
    ring[z->nexts[tensor]] = (float)x;
    z->nexts[tensor] = (uint8_t)((z->nexts[tensor] + 1) % LYAP_TENSOR_Z_VALUES);
    z->counts[tensor] = (uint8_t)(count + (count < LYAP_TENSOR_Z_VALUES));
    return score;
}

double lyap_tensor_z_push(struct lyap_tensor_z *z, uint32_t tensor, double norm)
{
    if (tensor >= z->tensors || isnan(norm))
        return NAN;
    const double score = tensor_z(z, tensor, norm);
    if (isnan(score))
        return score;
    if (z->score_count == 0 || score > z->most) {
        z->most = score;
        z->top = tensor;
    }
    z->scores[z->score_count++] = score;
    return score;
}

static double row_at(const struct lyap_step *step, enum lyap_reduce row, uint32_t tensor)
{
    const double *values = step->partial ? step->partial->rows[row] : NULL;
    return values ? values[tensor] : (double)NAN;
}

/* Norm of a role, NaN when elements of it are non-finite. */
static double norm_at(const struct lyap_step *step, enum lyap_reduce role, uint32_t tensor)
{
    const double bad = row_at(step, (enum lyap_reduce)(role + LYAP_MOMENT_NONFINITE), tensor);
    const double sq = row_at(step, (enum lyap_reduce)(role + LYAP_MOMENT_SQ), tensor);
    return bad > 0 ? (double)NAN : sqrt(sq);
}

static double finite_or_nan(double x)
{
    return isfinite(x) ? x : (double)NAN;
}

static void fill_row(struct lyap_step *step, uint32_t i, struct lyap_tensor_row *row)
{
    struct lyap_profile *profile = step->profile;
    const struct lyap_live *live = &profile->live;
    const bool has_before = live->has_rows && step->is_linked && !step->point->is_event_only;
    const double before = has_before ? sqrt(live->param_sq[i]) : (double)NAN;
    const double grad_before = has_before ? sqrt(live->grad_sq[i]) : (double)NAN;
    const double sy = lyap_step_total(step, LYAP_REDUCE_PAIR_SY).value;
    const double grad = norm_at(step, LYAP_REDUCE_GRAD_COUNT, i);
    const double count = row_at(step, LYAP_REDUCE_GRAD_COUNT, i);
    double *v = row->values;
    v[LYAP_TENSOR_METRIC_PARAM_NORM] = norm_at(step, LYAP_REDUCE_PARAM_COUNT, i);
    v[LYAP_TENSOR_METRIC_GRAD_NORM] = grad;
    v[LYAP_TENSOR_METRIC_UPDATE_NORM] = norm_at(step, LYAP_REDUCE_DELTA_COUNT, i);
    v[LYAP_TENSOR_METRIC_UPDATE_RATIO] = finite_or_nan(v[LYAP_TENSOR_METRIC_UPDATE_NORM] / before);
    v[LYAP_TENSOR_METRIC_GRAD_COSINE] =
        finite_or_nan(row_at(step, LYAP_REDUCE_GRAD_GRAD_PREV, i) / (grad * grad_before));
    v[LYAP_TENSOR_METRIC_ABS_MAX] = row_at(step, LYAP_REDUCE_PARAM_MAX, i);
    v[LYAP_TENSOR_METRIC_ZERO_FRACTION] =
        finite_or_nan(row_at(step, LYAP_REDUCE_GRAD_ZEROS, i) / count);
    v[LYAP_TENSOR_METRIC_NONFINITE_PARAM] = row_at(step, LYAP_REDUCE_PARAM_NONFINITE, i);
    v[LYAP_TENSOR_METRIC_NONFINITE_GRAD] = row_at(step, LYAP_REDUCE_GRAD_NONFINITE, i);
    /* c'Y_l c / rho of the window of one pair (SPEC 2.2): of more, Y_l is not known. */
    if (step->is_pair_accepted)
        v[LYAP_TENSOR_METRIC_CURVATURE_SHARE] =
            finite_or_nan(row_at(step, LYAP_REDUCE_PAIR_SY, i) / sy);
    v[LYAP_TENSOR_METRIC_SECOND_MOMENT_RATIO] =
        finite_or_nan(sqrt(row_at(step, LYAP_REDUCE_RMS_SQ, i) / count));
    const struct lyap_spectral_view *view = lyap_step_spectral_view(step, i);
    if (view) {
        v[LYAP_TENSOR_METRIC_SPECTRAL_NORM] = view->lower;
        v[LYAP_TENSOR_METRIC_SPECTRAL_NORM_ERROR] = view->error;
        v[LYAP_TENSOR_METRIC_SPECTRAL_RESIDUAL] = view->residual;
        v[LYAP_TENSOR_METRIC_SPECTRAL_NORM_UPPER] = view->upper;
    }
    v[LYAP_TENSOR_METRIC_UPDATE_GAIN] =
        finite_or_nan(sqrt(row_at(step, LYAP_REDUCE_GAIN_SQ, i)) / grad);
    if (step->point->is_event_only)
        return;
    v[LYAP_TENSOR_METRIC_DEAD_POINTS] = count > 0 ? profile->still.dead[i] : (double)NAN;
    if (lyap_is(&step->point->metrics[LYAP_METRIC_STUCK_TENSORS]))
        v[LYAP_TENSOR_METRIC_STUCK_POINTS] = profile->still.stuck[i];
    v[LYAP_TENSOR_METRIC_UPDATE_Z] =
        lyap_tensor_z_push(&profile->update_z, i, sqrt(row_at(step, LYAP_REDUCE_STEP_SQ, i)));
    v[LYAP_TENSOR_METRIC_GRAD_Z] = lyap_tensor_z_push(&profile->grad_z, i, grad);
}

/* Largest and median z over the tensors; the tensors' own reasons are those of `source`. */
static void give_z(struct lyap_step *step, struct lyap_tensor_z *z, enum lyap_metric source,
                   enum lyap_metric largest, enum lyap_metric median)
{
    const enum lyap_reason reason = (enum lyap_reason)step->point->metrics[source].reason;
    if (z->score_count == 0) {
        lyap_step_absent(step, largest, reason ? reason : LYAP_REASON_WARMING_UP);
        lyap_step_absent(step, median, reason ? reason : LYAP_REASON_WARMING_UP);
        return;
    }
    lyap_step_give(step, largest, lyap_value_estimate(z->most, NAN));
    lyap_step_give(step, median,
                   lyap_value_estimate(lyap_stats_median(z->scores, z->score_count), NAN));
}

/* A tensor's gain is that of the last declared layer which has it as its own. */
static void fill_gains(const struct lyap_step *step, struct lyap_tensor_row *rows)
{
    const struct lyap_network *network = &step->profile->declaration.network;
    for (uint32_t i = 0; i < network->count; i++) {
        const int32_t tensor = network->layers[i].index[LYAP_LAYER_PART_WEIGHT];
        const double gain = lyap_step_tensor_gain(step, i);
        if (tensor >= 0 && (uint32_t)tensor < step->partial->tensor_count && !isnan(gain))
            rows[tensor].values[LYAP_TENSOR_METRIC_EMPIRICAL_GAIN] = gain;
    }
}

void lyap_step_rows(struct lyap_step *step, struct lyap_tensor_row *ret_rows)
{
    const uint32_t count = step->partial ? step->partial->tensor_count : 0;
    struct lyap_profile *profile = step->profile;
    struct lyap_tensor_row unseen;
    profile->update_z.score_count = profile->grad_z.score_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        /* The windows advance whether or not the caller wants the rows. */
        struct lyap_tensor_row *row = ret_rows ? &ret_rows[i] : &unseen;
        row->tensor = i;
        for (unsigned j = 0; j < LYAP_TENSOR_METRIC_COUNT; j++)
            row->values[j] = NAN;
        fill_row(step, i, row);
    }
    if (count > 0 && ret_rows)
        fill_gains(step, ret_rows);
    if (step->point->is_event_only)
        return;
    give_z(step, &profile->update_z, LYAP_METRIC_PREDICTED_DECREASE, LYAP_METRIC_UPDATE_Z,
           LYAP_METRIC_UPDATE_Z_MEDIAN);
    give_z(step, &profile->grad_z, LYAP_METRIC_GRAD_NORM, LYAP_METRIC_GRAD_Z,
           LYAP_METRIC_GRAD_Z_MEDIAN);
}
