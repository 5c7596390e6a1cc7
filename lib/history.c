/* The scalar windows of a profile and the one way they advance. */
#include "history.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "banned.h"

static const enum lyap_metric twin_logs[LYAP_TWIN_COUNT_MAX] = {
    LYAP_METRIC_TWIN_LOG, LYAP_METRIC_TWIN_LOG_2, LYAP_METRIC_TWIN_LOG_3, LYAP_METRIC_TWIN_LOG_4
};

enum lyap_status lyap_history_init(struct lyap_history *history, double reference_loss,
                                   uint32_t window, const struct lyap_declaration *declaration)
{
    const struct lyap_columns none = { -1, NAN, NAN, NAN, NAN, NAN, NAN, NAN };
    *history = (struct lyap_history){
        .last_step = -1,
        .last = none,
        .before = none,
        .mismatch = NAN,
        .loss = { NAN, NAN, NAN, NAN, NAN, NAN },
        .net_work_sum = NAN,
        .sharpness = { NAN, NAN, -1 },
        .least = { NAN, -1 },
        .decay_curvature = NAN,
        .probe_lr = NAN,
        .probe_least = NAN,
        .lr_max = NAN,
        .noise_fraction = NAN,
        .track_capacity = lyap_track_capacity(declaration),
    };
    lyap_detector_init(&history->detector, reference_loss);
    lyap_observer_init(&history->observer);
    lyap_level_init(&history->level);
    lyap_drift_init(&history->drift);
    struct lyap_window *const windows[] = { &history->changes, &history->bounds, &history->scales,
                                            &history->gains };
    for (unsigned i = 0; i < sizeof windows / sizeof *windows; i++) {
        const enum lyap_status status = lyap_window_init(windows[i], window);
        if (status != LYAP_OK) {
            lyap_history_release(history);
            return status;
        }
    }
    return LYAP_OK;
}

void lyap_history_release(struct lyap_history *history)
{
    lyap_window_release(&history->changes);
    lyap_window_release(&history->bounds);
    lyap_window_release(&history->scales);
    lyap_window_release(&history->gains);
    for (unsigned i = 0; i < LYAP_TWIN_COUNT_MAX; i++)
        lyap_track_release(&history->twins[i].track);
    lyap_track_release(&history->updates);
}

enum lyap_status lyap_history_reserve(struct lyap_history *history)
{
    enum lyap_status status = lyap_track_reserve(&history->updates, history->track_capacity);
    for (unsigned i = 0; status == LYAP_OK && i < LYAP_TWIN_COUNT_MAX; i++)
        status = lyap_track_reserve(&history->twins[i].track, history->track_capacity);
    return status;
}

uint32_t lyap_history_twin_slot(const struct lyap_history *history, const char *name,
                                const bool taken[LYAP_TWIN_COUNT_MAX])
{
    uint32_t oldest = LYAP_TWIN_COUNT_MAX;
    for (uint32_t i = 0; i < LYAP_TWIN_COUNT_MAX; i++)
        if (strcmp(history->twins[i].name, name) == 0)
            return i;
    for (uint32_t i = 0; i < LYAP_TWIN_COUNT_MAX; i++) {
        if (taken[i])
            continue;
        if (!history->twins[i].name[0])
            return i;
        if (oldest == LYAP_TWIN_COUNT_MAX || history->twins[i].step < history->twins[oldest].step)
            oldest = i;
    }
    assert(oldest < LYAP_TWIN_COUNT_MAX);
    return oldest;
}

double lyap_history_column(const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *v = &point->metrics[metric];
    return lyap_is(v) ? v->value : (double)NAN;
}

static void absorb_loss(struct lyap_history *h, const struct lyap_point *point)
{
    const double loss = lyap_history_column(point, LYAP_METRIC_LOSS);
    /* E stays what it was where a push brings no loss: works are still scaled by it. */
    h->loss = (struct lyap_loss_view){ h->loss.scale, NAN, NAN, NAN, NAN, NAN };
    if (!isfinite(loss))
        return;
    h->loss = lyap_detector_loss(&h->detector, loss);
    h->has_loss = true;
}

static void absorb_work(struct lyap_history *h, const struct lyap_point *point)
{
    const double work = lyap_history_column(point, LYAP_METRIC_NET_WORK);
    if (isfinite(work))
        h->net_work_sum = lyap_detector_work(&h->detector, work);
    const double curvature = lyap_history_column(point, LYAP_METRIC_SECANT_CURVATURE);
    const double norm = lyap_history_column(point, LYAP_METRIC_UPDATE_NORM_P);
    if (isfinite(curvature) && isfinite(norm))
        lyap_detector_secant(&h->detector, curvature, norm * norm);
    const double omega = lyap_history_column(point, LYAP_METRIC_UPDATE_IDENTITY);
    if (!isnan(omega))
        h->mismatch = omega;
}

static void absorb_sharpness(struct lyap_history *h, const struct lyap_point *point)
{
    const double value = lyap_history_column(point, LYAP_METRIC_SHARPNESS);
    const double least = lyap_history_column(point, LYAP_METRIC_CURVATURE_MIN);
    if (isfinite(least)) {
        h->least.value = least;
        h->least.step = point->step;
    }
    if (!isfinite(value))
        return;
    h->sharpness.value = value;
    h->sharpness.residual = lyap_history_column(point, LYAP_METRIC_SHARPNESS_RESIDUAL);
    h->sharpness.step = point->step;
}

/* Appends to the newest `capacity` values. */
static void push_newest(double *values, uint32_t *count, uint32_t capacity, double value)
{
    if (*count == capacity) {
        memmove(values, values + 1, (capacity - 1) * sizeof *values);
        --*count;
    }
    values[(*count)++] = value;
}

/* A probe is a point with an accepted curvature of its own. */
static void absorb_ratio(struct lyap_history *h, const struct lyap_point *point)
{
    const double ratio = lyap_history_column(point, LYAP_METRIC_STABILITY_RATIO);
    const double decay = lyap_history_column(point, LYAP_METRIC_DECAY_CURVATURE);
    if (isfinite(decay))
        h->decay_curvature = decay;
    if (!lyap_is(&point->metrics[LYAP_METRIC_SHARPNESS]) || !isfinite(ratio))
        return;
    push_newest(h->probe_ratios, &h->probe_count, LYAP_HISTORY_PROBES, ratio);
    h->probe_lr = lyap_history_column(point, LYAP_METRIC_LR);
}

static void absorb_batch(struct lyap_history *h, const struct lyap_point *point)
{
    const double curvature = lyap_history_column(point, LYAP_METRIC_BATCH_SHARPNESS);
    if (isfinite(curvature))
        push_newest(h->batches, &h->batch_count, LYAP_HISTORY_BATCHES, curvature);
}

static void absorb_drift(struct lyap_history *h, const struct lyap_point *point)
{
    const double loss = lyap_history_column(point, LYAP_METRIC_PROBE_LOSS);
    if (isfinite(loss))
        lyap_drift_push(&h->drift, loss);
}

static void absorb_level(struct lyap_history *h, const struct lyap_point *point)
{
    const struct lyap_value *probe = &point->metrics[LYAP_METRIC_PROBE_LOSS];
    const struct lyap_value *loss = &point->metrics[LYAP_METRIC_LOSS];
    const struct lyap_value *source = NULL;
    struct lyap_evidence evidence;
    if (h->alarm_left > 0)
        h->alarm_left--;
    h->has_evidence = false;
    if (lyap_is(probe)) {
        if (!h->is_level_on_probe)
            lyap_level_init(&h->level); /* another function: anew */
        h->is_level_on_probe = true;
        h->probe_least = fmin(h->probe_least, probe->value);
        source = probe;
    } else if (!h->is_level_on_probe && lyap_is(loss)) {
        source = loss;
    }
    if (!source || !lyap_level_push(&h->level, source->value, &evidence))
        return;
    h->has_evidence = true;
    h->evidence = evidence.change;
    if (evidence.change >= LYAP_LEVEL_ALARM) {
        const bool is_linear = h->level.is_linear; /* a scale of losses is for the whole attempt */
        h->alarm_left = LYAP_HISTORY_ALARM_HOLD;
        lyap_level_init(&h->level);
        h->level.is_linear = is_linear;
    }
}

static void absorb_energy(struct lyap_history *h, const struct lyap_point *point)
{
    const double change = lyap_history_column(point, LYAP_METRIC_ENERGY_CHANGE);
    const double bound = lyap_history_column(point, LYAP_METRIC_ENERGY_BOUND);
    const double scale = lyap_history_column(point, LYAP_METRIC_ENERGY_SCALE);
    if (!isfinite(change) || !isfinite(bound) || !isfinite(scale))
        return;
    (void)lyap_window_push(&h->changes, change);
    (void)lyap_window_push(&h->bounds, bound);
    (void)lyap_window_push(&h->scales, scale);
}

static void absorb_representation(struct lyap_history *h, const struct lyap_point *point)
{
    const double gain = lyap_history_column(point, LYAP_METRIC_EMPIRICAL_GAIN);
    if (isfinite(gain))
        (void)lyap_window_push(&h->gains, gain);
}

static void absorb_score(struct lyap_history *h, const struct lyap_point *point)
{
    lyap_observer_step(&h->observer, point);
}

static void absorb_twin(struct lyap_twin *twin, const struct lyap_point *point, unsigned slot)
{
    const char *name = point->twin_names[slot];
    const double y = lyap_history_column(point, twin_logs[slot]);
    if (!name[0])
        return;
    if (strcmp(twin->name, name) != 0) {
        lyap_track_clear(&twin->track);
        memcpy(twin->name, name, sizeof twin->name);
    }
    twin->step = point->step;
    twin->is_finite = isfinite(y);
    lyap_track_push(&twin->track, point->step, y);
}

/* |D_{t-1}| of point t goes with the rate of point t - 1: single updates alone. */
static void absorb_twins(struct lyap_history *h, const struct lyap_point *point)
{
    for (unsigned i = 0; i < LYAP_TWIN_COUNT_MAX; i++)
        absorb_twin(&h->twins[i], point, i);
    const double noise = lyap_history_column(point, LYAP_METRIC_NOISE_FRACTION);
    if (isfinite(noise))
        h->noise_fraction = noise;
    const double norm = lyap_history_column(point, LYAP_METRIC_UPDATE_NORM);
    const bool has_sums = isfinite(h->last.param_norm) || isfinite(h->last.grad_norm) ||
                          isfinite(h->last.update_norm);
    if (norm > 0 && h->last.lr > 0 && has_sums && point->step == h->last.step + 1)
        lyap_track_push(&h->updates, point->step, log(norm / h->last.lr));
}

static void absorb_last(struct lyap_history *h, const struct lyap_point *point)
{
    static const enum lyap_metric functions[] = { LYAP_METRIC_PROBE_LOSS,
                                                  LYAP_METRIC_VISITED_CURVATURE,
                                                  LYAP_METRIC_ENERGY };
    h->before = h->last;
    h->last = (struct lyap_columns){
        .step = point->step,
        .loss = lyap_history_column(point, LYAP_METRIC_LOSS),
        .probe_loss = lyap_history_column(point, LYAP_METRIC_PROBE_LOSS),
        .lr = lyap_history_column(point, LYAP_METRIC_LR),
        .param_norm = lyap_history_column(point, LYAP_METRIC_PARAM_NORM),
        .grad_norm = lyap_history_column(point, LYAP_METRIC_GRAD_NORM),
        .update_norm = lyap_history_column(point, LYAP_METRIC_UPDATE_NORM),
        .update_norm_p = lyap_history_column(point, LYAP_METRIC_UPDATE_NORM_P),
    };
    h->lr_max = fmax(h->lr_max, h->last.lr); /* fmax prefers the number to NaN */
    h->has_tensors |= !isnan(h->last.param_norm) || !isnan(h->last.grad_norm);
    for (unsigned i = 0; i < sizeof functions / sizeof *functions; i++)
        h->has_function |= lyap_is(&point->metrics[functions[i]]);
    h->last_step = point->step;
    h->finite_count++;
}

void lyap_history_absorb(struct lyap_history *history, enum lyap_history_part part,
                         const struct lyap_point *point)
{
    static void (*const parts[LYAP_HISTORY_PART_COUNT])(struct lyap_history *,
                                                        const struct lyap_point *) = {
        [LYAP_HISTORY_LOSS] = absorb_loss,
        [LYAP_HISTORY_WORK] = absorb_work,
        [LYAP_HISTORY_SHARPNESS] = absorb_sharpness,
        [LYAP_HISTORY_RATIO] = absorb_ratio,
        [LYAP_HISTORY_BATCH] = absorb_batch,
        [LYAP_HISTORY_LEVEL] = absorb_level,
        [LYAP_HISTORY_DRIFT] = absorb_drift,
        [LYAP_HISTORY_ENERGY] = absorb_energy,
        [LYAP_HISTORY_REPRESENTATION] = absorb_representation,
        [LYAP_HISTORY_SCORE] = absorb_score,
        [LYAP_HISTORY_TWINS] = absorb_twins,
        [LYAP_HISTORY_LAST] = absorb_last,
    };
    assert(!point->is_event_only);
    parts[part](history, point);
}

void lyap_history_replay(struct lyap_history *history, const struct lyap_point *point)
{
    if (point->is_event_only) {
        history->last_step = point->step;
        return;
    }
    for (unsigned i = 0; i < LYAP_HISTORY_PART_COUNT; i++)
        lyap_history_absorb(history, (enum lyap_history_part)i, point);
}

double lyap_history_gain_least(const struct lyap_history *history)
{
    double least = NAN;
    for (uint32_t i = 0; i < lyap_window_count(&history->gains); i++)
        least = fmin(least,
                     lyap_window_newest(&history->gains, i)); /* fmin prefers the number to NaN */
    return least;
}

bool lyap_history_is_alarmed(const struct lyap_history *history)
{
    return history->alarm_left > 0;
}
