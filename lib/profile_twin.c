/* Twins: their log distances as pushed, what their windows say, and the growth of update norms. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "profile_internal.h"
#include "banned.h"

/* A twin that was not heard of for so many of its own spacings says nothing about now: one block of
 * the least window. */
enum { SPACINGS_SILENT = 8 };
static const double NOISE_MAX = .5; /* SPEC 2.4: above it the growth is that of the noise */

static const enum lyap_metric logs[LYAP_TWIN_COUNT_MAX] = {
    LYAP_METRIC_TWIN_LOG, LYAP_METRIC_TWIN_LOG_2, LYAP_METRIC_TWIN_LOG_3, LYAP_METRIC_TWIN_LOG_4
};

/* What all the twins say together. */
struct verdicts {
    enum lyap_reason reason; /* NONE: at least one twin has a fit */
    struct lyap_growth_fit fastest;
    double log_m;
    bool is_exponential;
    bool has_others, has_active; /* fits beside active; of active */
    enum lyap_growth others;     /* worst */
    struct lyap_growth_fit active;
    enum lyap_reason active_reason;
};

void lyap_step_twin_logs(struct lyap_step *step)
{
    const struct lyap_snapshot *s = step->snapshot;
    bool taken[LYAP_TWIN_COUNT_MAX] = { false };
    struct lyap_point *point = step->point;
    for (unsigned i = 0; i < LYAP_TWIN_COUNT_MAX; i++)
        lyap_step_absent(step, logs[i], LYAP_REASON_NO_TWIN);
    /* Twins that have a slot keep it, before others look for one. */
    for (unsigned pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < s->twin_count; i++) {
            char name[LYAP_TWIN_NAME_BYTES_MAX + 1];
            if (!lyap_snapshot_twin_name(s, i, name))
                continue;
            const uint32_t slot = lyap_history_twin_slot(&step->profile->history, name, taken);
            const bool is_own = strcmp(step->profile->history.twins[slot].name, name) == 0;
            if (is_own != (pass == 0))
                continue;
            taken[slot] = true;
            memcpy(point->twin_names[slot], name, sizeof name);
            /* A distance that vanished or overflowed was pushed so: a value, not an absence. */
            point->metrics[logs[slot]] = lyap_value_exact(s->twin_log[i]);
        }
}

/* The fit of one twin while it is heard of; else why there is none. */
static enum lyap_reason judge(const struct lyap_step *step, const struct lyap_twin *twin,
                              struct lyap_growth_fit *ret_fit)
{
    struct lyap_track_fit fit;
    if (!twin->name[0])
        return LYAP_REASON_NO_TWIN;
    if (!twin->is_finite)
        return LYAP_REASON_NONFINITE;
    const enum lyap_reason reason =
        lyap_track_judge(&twin->track, &step->profile->declaration, &fit);
    const double age = (double)(step->point->step - twin->step);
    if (reason != LYAP_REASON_NONE)
        return age > SPACINGS_SILENT ? LYAP_REASON_NO_TWIN : reason;
    if (age > SPACINGS_SILENT * fit.spacing)
        return LYAP_REASON_NO_TWIN;
    *ret_fit = fit.growth;
    return LYAP_REASON_NONE;
}

static void add_fit(struct verdicts *all, const struct lyap_growth_fit *fit, bool is_active)
{
    const enum lyap_growth growth = lyap_growth_judged(fit);
    if (all->reason != LYAP_REASON_NONE || fit->rate > all->fastest.rate)
        all->fastest = *fit;
    all->log_m = all->reason != LYAP_REASON_NONE ? fit->log_m : fmax(all->log_m, fit->log_m);
    all->reason = LYAP_REASON_NONE;
    all->is_exponential |= growth == LYAP_GROWTH_EXPONENTIAL;
    if (is_active) {
        all->has_active = true;
        all->active = *fit;
    } else {
        all->others = all->has_others && all->others > growth ? all->others : growth;
        all->has_others = true;
    }
}

static struct verdicts judge_all(const struct lyap_step *step)
{
    struct verdicts all = { .reason = LYAP_REASON_NO_TWIN, .active_reason = LYAP_REASON_NO_TWIN };
    for (unsigned i = 0; i < LYAP_TWIN_COUNT_MAX; i++) {
        const struct lyap_twin *twin = &step->profile->history.twins[i];
        const bool is_active = strcmp(twin->name, LYAP_TWIN_ACTIVE) == 0;
        struct lyap_growth_fit fit;
        const enum lyap_reason reason = judge(step, twin, &fit);
        if (reason == LYAP_REASON_NONE)
            add_fit(&all, &fit, is_active);
        else if (all.reason == LYAP_REASON_NO_TWIN)
            all.reason = reason;
        if (is_active)
            all.active_reason = reason;
    }
    return all;
}

static void give_or(struct lyap_step *step, enum lyap_metric metric, enum lyap_reason reason,
                    double value, double error)
{
    lyap_step_give(step, metric,
                   reason == LYAP_REASON_NONE ? lyap_value_estimate(value, error)
                                              : lyap_value_absent(reason));
}

static void give_horizon(struct lyap_step *step, const struct verdicts *all)
{
    const int64_t steps = step->profile->declaration.steps;
    const int64_t left = steps > step->point->step ? steps - step->point->step : 0;
    const enum lyap_reason reason = all->reason != LYAP_REASON_NONE ? all->reason
                                    : steps == 0                    ? LYAP_REASON_NO_HORIZON
                                                                    : LYAP_REASON_NONE;
    const double scale = all->is_exponential ? (double)left : 0;
    give_or(step, LYAP_METRIC_SENSITIVE_HORIZON, reason, all->fastest.rate * scale,
            all->fastest.ci * scale);
}

static void give_update_growth(struct lyap_step *step)
{
    const struct lyap_history *h = &step->profile->history;
    const struct lyap_declaration *declaration = &step->profile->declaration;
    const struct lyap_value *norm = &step->point->metrics[LYAP_METRIC_UPDATE_NORM];
    struct lyap_track_fit fit = { .spacing = NAN };
    enum lyap_reason reason = lyap_track_judge(&h->updates, declaration, &fit);
    if (!lyap_is(norm))
        reason = (enum lyap_reason)norm->reason;
    else if (h->updates.count == 0 && isnan(h->last.lr))
        reason = LYAP_REASON_NO_LR;
    give_or(step, LYAP_METRIC_UPDATE_GROWTH, reason, fit.growth.rate, fit.growth.ci);
    const bool is_of_map =
        declaration->data == LYAP_DATA_FULL_BATCH || h->noise_fraction <= NOISE_MAX;
    if (reason == LYAP_REASON_NONE && !is_of_map)
        step->point->metrics[LYAP_METRIC_UPDATE_GROWTH].trust = LYAP_TRUST_C;
}

void lyap_step_twins(struct lyap_step *step)
{
    lyap_step_twin_logs(step);
    lyap_history_absorb(&step->profile->history, LYAP_HISTORY_TWINS, step->point);
    const struct verdicts all = judge_all(step);
    const struct lyap_growth_fit *fastest = &all.fastest, *active = &all.active;
    give_or(step, LYAP_METRIC_TWIN_RATE, all.reason, fastest->rate, fastest->ci);
    give_or(step, LYAP_METRIC_TWIN_GROWTH, all.reason, all.log_m, NAN);
    give_or(step, LYAP_METRIC_TWIN_ACTIVE_RATE, all.active_reason, active->rate, active->ci);
    give_or(step, LYAP_METRIC_ACTIVE_VERDICT, all.active_reason, lyap_growth_judged(active), NAN);
    const enum lyap_reason reason = all.has_others                   ? LYAP_REASON_NONE
                                    : all.reason == LYAP_REASON_NONE ? LYAP_REASON_NO_TWIN
                                                                     : all.reason;
    give_or(step, LYAP_METRIC_WINDOW_VERDICT, reason, all.others, NAN);
    give_horizon(step, &all);
    give_update_growth(step);
}
