/* Life cycle of a profile and the order of a step. */
#include "lyap/profile.h"

#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "profile_internal.h"
#include "banned.h"

static const enum lyap_reduce state_rows[] = { LYAP_REDUCE_GRAD_STEP, LYAP_REDUCE_STEP_SQ,
                                               LYAP_REDUCE_STEP_P };

/* Flags of the groups that own tensors; without a tensor set every group may. */
static bool *used_groups_of(const struct lyap_declaration *declaration)
{
    const uint32_t count = declaration->optimizer.group_count + 1;
    bool *used = lyap_alloc_array(count, sizeof *used);
    if (!used)
        return NULL;
    for (uint32_t i = 0; i < count; i++)
        used[i] = declaration->set.count == 0;
    for (uint32_t i = 0; i < declaration->set.count; i++)
        if (declaration->set.tensors[i].group < count)
            used[declaration->set.tensors[i].group] = true;
    return used;
}

static uint32_t shortest_window(const struct lyap_declaration *declaration)
{
    enum { DEFAULT = 64 };
    uint32_t window = 0;
    for (uint32_t i = 0; i < declaration->window_count; i++)
        if (window == 0 || declaration->windows[i] < window)
            window = declaration->windows[i];
    return window == 0 ? DEFAULT : window;
}

enum lyap_status lyap_profile_new(const struct lyap_declaration *declaration, double reference_loss,
                                  struct lyap_profile **ret_profile)
{
    enum lyap_status status = LYAP_E_NOMEM;
    struct lyap_profile *profile = lyap_alloc_array(1, sizeof *profile);
    if (!profile)
        return LYAP_E_NOMEM;
    lyap_declaration_init(&profile->declaration);
    lyap_live_init(&profile->live);
    lyap_forward_init(&profile->forward);
    status = lyap_declaration_copy(declaration, &profile->declaration);
    if (status != LYAP_OK)
        goto out;
    status = lyap_history_init(&profile->history, reference_loss, shortest_window(declaration),
                               declaration);
    if (status != LYAP_OK)
        goto out;
    profile->used_groups = used_groups_of(declaration);
    if (!profile->used_groups) {
        status = LYAP_E_NOMEM;
        goto out;
    }
    *ret_profile = profile;
    profile = NULL;
out:
    lyap_profile_free(profile);
    return status;
}

void lyap_profile_free(struct lyap_profile *profile)
{
    if (!profile)
        return;
    lyap_declaration_release(&profile->declaration);
    lyap_free(profile->used_groups);
    lyap_history_release(&profile->history);
    lyap_live_release(&profile->live);
    lyap_pairs_release(&profile->active);
    lyap_pairs_release(&profile->passive);
    lyap_spectral_state_release(&profile->spectral);
    lyap_forward_release(&profile->forward);
    lyap_tensor_z_release(&profile->update_z);
    lyap_tensor_z_release(&profile->grad_z);
    lyap_still_release(&profile->still);
    lyap_free(profile);
}

enum lyap_status lyap_profile_redeclare(struct lyap_profile *profile,
                                        const struct lyap_declaration *declaration)
{
    struct lyap_declaration copy;
    enum lyap_status status = lyap_declaration_copy(declaration, &copy);
    if (status != LYAP_OK)
        return status;
    bool *used = used_groups_of(declaration);
    if (!used) {
        lyap_declaration_release(&copy);
        return LYAP_E_NOMEM;
    }
    lyap_forward_redeclare(&profile->forward, &profile->declaration.network, &copy.network);
    lyap_declaration_release(&profile->declaration);
    lyap_free(profile->used_groups);
    profile->declaration = copy;
    profile->used_groups = used;
    profile->history.track_capacity = lyap_track_capacity(declaration);
    profile->is_state_asked = false;
    return LYAP_OK;
}

bool lyap_is_preconditioned(enum lyap_optimizer_type type)
{
    return type == LYAP_OPTIMIZER_ADAM || type == LYAP_OPTIMIZER_ADAMW ||
           type == LYAP_OPTIMIZER_RMSPROP;
}

struct lyap_transition lyap_profile_transition(const struct lyap_profile *profile, double lr)
{
    if (!profile->declaration.has_optimizer || !(lr > 0))
        return (struct lyap_transition){ .method = LYAP_METHOD_NONE, .lr = lr, .gain = 1 };
    return lyap_transition_strictest(&profile->declaration.optimizer, profile->used_groups, lr);
}

struct lyap_group_range lyap_profile_group_range(const struct lyap_profile *profile)
{
    const struct lyap_optimizer *optimizer = &profile->declaration.optimizer;
    struct lyap_group_range range = { NAN, NAN, NAN, NAN };
    for (uint32_t i = 0; i <= optimizer->group_count; i++) {
        const struct lyap_optimizer_params *params = lyap_optimizer_group_params(optimizer, i);
        if (!profile->used_groups[i])
            continue;
        range.lr_least = fmin(range.lr_least, params->lr); /* fmin, fmax prefer the number to NaN */
        range.lr_most = fmax(range.lr_most, params->lr);
        range.decay_least = fmin(range.decay_least, params->weight_decay);
        range.decay_most = fmax(range.decay_most, params->weight_decay);
    }
    return range;
}

/* The largest rate of the coming update: pushed, else declared; NaN: neither. */
static double rate_of(const struct lyap_profile *profile, const struct lyap_snapshot *snapshot)
{
    double lr = NAN;
    for (uint32_t i = 0; i < snapshot->lr_count; i++)
        lr = fmax(lr, snapshot->lr[i]);
    if (snapshot->lr_count > 0 || !profile->declaration.has_optimizer)
        return lr;
    return lyap_profile_group_range(profile).lr_most;
}

/* Non-finite elements of a role, 0 when it was not pushed. */
static double nonfinite_of(const struct lyap_partial *partial, enum lyap_reduce role)
{
    if (!partial)
        return 0;
    const enum lyap_reduce row = (enum lyap_reduce)(role + LYAP_MOMENT_NONFINITE);
    const double count = partial->rows[row] ? lyap_partial_total(partial, row) : 0;
    return isnan(count) ? 0 : count;
}

static bool is_nonfinite(const struct lyap_step *step)
{
    const struct lyap_snapshot *s = step->snapshot;
    return (lyap_snapshot_has(s, LYAP_META_LOSS) && !isfinite(s->loss)) ||
           nonfinite_of(step->partial, LYAP_REDUCE_PARAM_COUNT) > 0 ||
           nonfinite_of(step->partial, LYAP_REDUCE_GRAD_COUNT) > 0;
}

/* Updates made since the finite point before. A push counts from the one before it, whatever that
 * was (docs/wire.md). */
static int64_t updates_since(const struct lyap_step *step)
{
    const struct lyap_history *h = &step->profile->history;
    const struct lyap_live *live = &step->profile->live;
    const struct lyap_snapshot *s = step->snapshot;
    if (h->last.step < 0)
        return 0;
    const int64_t newest = lyap_snapshot_has(s, LYAP_META_UPDATES)
                               ? s->updates
                               : s->step - h->last_step - live->is_held;
    return newest < LYAP_STEP_MAX - live->passed ? live->passed + newest : LYAP_STEP_MAX;
}

static void step_begin(struct lyap_step *step, enum lyap_reason missing)
{
    const struct lyap_history *h = &step->profile->history;
    struct lyap_point *point = step->point;
    const struct lyap_snapshot *s = step->snapshot;
    lyap_point_init(point);
    point->step = s->step;
    point->time_ns = s->time_ns;
    point->attempt = s->attempt > 0 ? (uint32_t)s->attempt : 0;
    point->is_gap = h->last_step >= 0 && s->step != h->last_step + 1;
    if (step->partial && step->partial->tensor_count == 0)
        step->partial = NULL;
    step->sums = step->partial ? LYAP_REASON_NONE : LYAP_REASON_NO_TENSORS;
    if (missing != LYAP_REASON_NONE) {
        step->partial = NULL;
        step->sums = missing;
    }
    step->lr = rate_of(step->profile, s);
    if (is_nonfinite(step) || s->is_skipped) {
        point->is_event_only = true;
        step->sums = s->is_skipped ? LYAP_REASON_SKIPPED : LYAP_REASON_NONFINITE;
    }
    step->updates = updates_since(step);
    step->is_bare = step->profile->live.sums_step < step->profile->live.step;
}

/* Asks once for Adam's state, when gradients came but the coming update is unknown. */
static void watch_state(struct lyap_step *step)
{
    struct lyap_profile *profile = step->profile;
    if (!step->partial || !profile->declaration.has_optimizer ||
        !lyap_is_preconditioned(profile->declaration.optimizer.type) ||
        isnan(lyap_partial_total(step->partial, LYAP_REDUCE_GRAD_SQ)))
        return;
    bool is_known = true;
    for (unsigned i = 0; i < sizeof state_rows / sizeof *state_rows; i++)
        is_known &= !isnan(lyap_partial_total(step->partial, state_rows[i]));
    profile->is_state_wanted = !is_known;
}

/* A point outside every window: only what is defined without a predecessor. */
static void step_event(struct lyap_step *step, struct lyap_tensor_row *ret_rows)
{
    struct lyap_profile *profile = step->profile;
    const enum lyap_reason why = step->sums;
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        lyap_step_absent(step, (enum lyap_metric)i, why);
    lyap_step_basic(step);
    lyap_step_twin_logs(step);
    lyap_step_verdict(step);
    lyap_step_rows(step, ret_rows);
    lyap_history_replay(&profile->history, step->point);
    profile->live.passed = step->updates;
    profile->live.is_held = step->snapshot->is_skipped;
}

static void step_finite(struct lyap_step *step, struct lyap_tensor_row *ret_rows)
{
    struct lyap_history *h = &step->profile->history;
    lyap_step_products(step);
    lyap_step_basic(step);
    lyap_step_spectral(step);
    lyap_step_forward(step);
    lyap_step_detect(step);
    lyap_step_work(step);
    lyap_step_curvature(step);
    lyap_step_gains(step);
    lyap_step_anchor(step);
    lyap_step_level(step);
    lyap_step_drift(step);
    lyap_step_energy(step);
    lyap_step_twins(step);
    lyap_step_still(step);
    lyap_step_rows(step, ret_rows);
    lyap_step_score(step);
    lyap_step_parts(step);
    lyap_step_verdict(step);
    watch_state(step);
    lyap_live_keep(step);
    lyap_history_absorb(h, LYAP_HISTORY_LAST, step->point);
}

enum lyap_status lyap_profile_step(struct lyap_profile *profile,
                                   const struct lyap_snapshot *snapshot,
                                   const struct lyap_partial *partial, enum lyap_reason missing,
                                   struct lyap_point *ret_point, struct lyap_tensor_row *ret_rows)
{
    enum lyap_status status = lyap_history_reserve(&profile->history);
    if (status == LYAP_OK)
        status = lyap_profile_reserve(profile, snapshot, partial);
    if (status != LYAP_OK)
        return status;
    struct lyap_step step = {
        .profile = profile, .snapshot = snapshot, .partial = partial, .point = ret_point
    };
    step_begin(&step, missing);
    if (ret_point->is_event_only)
        step_event(&step, ret_rows);
    else
        step_finite(&step, ret_rows);
    return LYAP_OK;
}

enum lyap_status lyap_profile_replay(struct lyap_profile *profile, const struct lyap_point *point)
{
    const enum lyap_status status = lyap_history_reserve(&profile->history);
    if (status != LYAP_OK)
        return status;
    lyap_history_replay(&profile->history, point);
    profile->live.step = -1;
    profile->live.has_rows = false;
    profile->live.has_delta = false;
    profile->live.decay_energy = profile->live.decay_drift = profile->live.penalty = NAN;
    profile->live.passed = profile->history.last_step - profile->history.last.step;
    profile->live.is_held = false;
    profile->live.sums_step = -1;
    profile->live.is_clipped = false;
    profile->live.batch_id[0] = '\0';
    memset(profile->live.has_sketch, 0, sizeof profile->live.has_sketch);
    return LYAP_OK;
}

bool lyap_profile_wants_state(struct lyap_profile *profile)
{
    if (!profile->is_state_wanted || profile->is_state_asked)
        return false;
    profile->is_state_asked = true;
    return true;
}

double lyap_profile_reference_loss(const struct lyap_profile *profile)
{
    return profile->history.detector.reference;
}

uint32_t lyap_profile_instability(const struct lyap_profile *profile, enum lyap_score_kind kind,
                                  struct lyap_score_part ret_parts[LYAP_SCORE_PARTS_MAX])
{
    return lyap_score_parts(profile->shares[kind], profile->history.observer.seen, ret_parts);
}
