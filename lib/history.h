/* history.h - the scalar memory of a profile: everything in it is a function of the columns of the
 * points absorbed so far, so that a replay of stored points rebuilds it bit for bit.
 * THREADS: one owner at a time. */
#ifndef LYAP_HISTORY_H
#define LYAP_HISTORY_H

#include "lyap/detector.h"
#include "lyap/drift.h"
#include "lyap/level.h"
#include "lyap/observe.h"
#include "lyap/point.h"
#include "lyap/window.h"
#include "track.h"

enum {
    LYAP_HISTORY_PROBES = 5,      /* SPEC 9: last 5 probes */
    LYAP_HISTORY_BATCHES = 32,    /* same-batch curvatures of mean_square_gain */
    LYAP_HISTORY_ALARM_HOLD = 16, /* points for which a level alarm counts as present: one block */
    LYAP_HISTORY_SHARPNESS_AGE_MAX = 20, /* steps an accepted curvature may serve: SPEC 2.3's
                                            longest measured probe spacing */
    LYAP_HISTORY_WARM_UP = 12            /* points; before them every run looks abnormal */
};

/* Columns of a finite point that the next one needs; NaN: absent. */
struct lyap_columns {
    int64_t step; /* -1: there is none */
    double loss, probe_loss, lr, param_norm, grad_norm, update_norm, update_norm_p;
};

struct lyap_twin {
    char name[LYAP_TWIN_NAME_BYTES_MAX + 1]; /* empty: the slot is free */
    int64_t step;                            /* of its newest value, finite or not */
    bool is_finite;                          /* that value */
    struct lyap_track track;
};

struct lyap_history {
    int64_t last_step; /* of any point; -1: none yet */
    uint64_t finite_count;
    bool has_loss, has_tensors; /* ever */
    bool has_function;          /* ever a probe, a pair or two snapshots of one function */
    struct lyap_columns last, before;
    double mismatch; /* newest update_identity; NaN: never known */

    struct lyap_detector detector;
    struct lyap_loss_view loss; /* of the newest finite loss */
    double net_work_sum;        /* W5; NaN before the first */
    struct lyap_observer observer;

    struct {
        double value, residual;
        int64_t step; /* -1: never accepted */
    } sharpness;
    struct {
        double value;
        int64_t step;                     /* -1: never */
    } least;                              /* newest curvature_min */
    double decay_curvature;               /* newest; NaN: never known */
    double batches[LYAP_HISTORY_BATCHES]; /* newest batch_sharpness, newest last */
    uint32_t batch_count;
    double probe_ratios[LYAP_HISTORY_PROBES]; /* newest last */
    uint32_t probe_count;
    double probe_lr;    /* of the newest probe; NaN */
    double probe_least; /* least probe loss; NaN */
    double lr_max;      /* largest lr; NaN: never known */

    struct lyap_level level;
    bool is_level_on_probe;
    bool has_evidence;
    double evidence;     /* log M of the newest push, where has_evidence */
    uint32_t alarm_left; /* points for which the last level alarm still counts */

    struct lyap_drift drift; /* of the probe loss */

    struct lyap_window changes, bounds, scales; /* of dissipation_window */
    struct lyap_window gains;                   /* empirical_gain */

    struct lyap_twin twins[LYAP_TWIN_COUNT_MAX];
    struct lyap_track updates; /* log(|D|/eta) of single updates */
    double noise_fraction;     /* newest; NaN: never known */
    uint32_t track_capacity;
};

/* Parts of absorbing a finite point, in this order. Each reads the columns named; the live path
 * calls one as soon as its columns are computed, a replay calls all. */
enum lyap_history_part {
    LYAP_HISTORY_LOSS,           /* loss */
    LYAP_HISTORY_WORK,           /* net_work, secant_curvature, update_norm_p, update_identity */
    LYAP_HISTORY_SHARPNESS,      /* sharpness, sharpness_residual, curvature_min */
    LYAP_HISTORY_RATIO,          /* sharpness (presence), stability_ratio, lr, decay_curvature */
    LYAP_HISTORY_BATCH,          /* batch_sharpness */
    LYAP_HISTORY_LEVEL,          /* probe_loss, loss */
    LYAP_HISTORY_DRIFT,          /* probe_loss */
    LYAP_HISTORY_ENERGY,         /* energy_change, energy_bound, energy_scale */
    LYAP_HISTORY_REPRESENTATION, /* empirical_gain */
    LYAP_HISTORY_SCORE,          /* what lyap/observe.h names */
    LYAP_HISTORY_TWINS,          /* twin_names, twin_log and its kin, noise_fraction, update_norm,
                                    lr */
    LYAP_HISTORY_LAST,           /* step and the columns of struct lyap_columns */
    LYAP_HISTORY_PART_COUNT
};

/* `window` of dissipation_window; the longest of `declaration` is kept of each twin. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_history_init(struct lyap_history *history,
                                                   double reference_loss, uint32_t window,
                                                   const struct lyap_declaration *declaration);
void lyap_history_release(struct lyap_history *history);
void lyap_history_absorb(struct lyap_history *history, enum lyap_history_part part,
                         const struct lyap_point *point);
/* Room for what one point can add, so that absorbing it cannot fail. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status lyap_history_reserve(struct lyap_history *history);
/* The whole of a point, after reserve; event-only ones leave only their step. */
void lyap_history_replay(struct lyap_history *history, const struct lyap_point *point);
/* Least empirical gain of the window; NaN: none yet. */
double lyap_history_gain_least(const struct lyap_history *history);
/* The slot of a twin: its own, else a free one, else the one that has been silent the longest of
 * those that `taken` does not mark. */
uint32_t lyap_history_twin_slot(const struct lyap_history *history, const char *name,
                                const bool taken[LYAP_TWIN_COUNT_MAX]);
bool lyap_history_is_alarmed(const struct lyap_history *history);

/* The value of a column, NaN when absent; whether a value is present. */
double lyap_history_column(const struct lyap_point *point, enum lyap_metric metric);
static inline bool lyap_is(const struct lyap_value *v)
{
    return v->reason == LYAP_REASON_NONE;
}

#endif
