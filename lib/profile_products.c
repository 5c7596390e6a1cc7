/* Inner products of a step: exact rows where they were computed, sketches otherwise. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "linalg.h"
#include "lyap/metric.h"
#include "profile_internal.h"
#include "banned.h"

struct lyap_value lyap_value_exact(double value)
{
    return (struct lyap_value){ .value = value, .error = NAN, .trust = LYAP_TRUST_I };
}

struct lyap_value lyap_value_estimate(double value, double error)
{
    return (struct lyap_value){ .value = value, .error = error, .trust = LYAP_TRUST_E };
}

struct lyap_value lyap_value_absent(enum lyap_reason reason)
{
    assert(reason != LYAP_REASON_NONE);
    return (struct lyap_value){ .value = NAN, .error = NAN, .reason = (uint8_t)reason };
}

void lyap_step_give(struct lyap_step *step, enum lyap_metric metric, struct lyap_value value)
{
    struct lyap_value *target = &step->point->metrics[metric];
    const uint8_t trust = target->trust;
    *target = value;
    if (lyap_is(&value) && isnan(value.value))
        *target = lyap_value_absent(LYAP_REASON_INSUFFICIENT);
    if (target->trust < trust || !lyap_is(target))
        target->trust = trust;
}

void lyap_step_absent(struct lyap_step *step, enum lyap_metric metric, enum lyap_reason reason)
{
    lyap_step_give(step, metric, lyap_value_absent(reason));
}

enum lyap_reason lyap_first_reason(const struct lyap_value *const *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!lyap_is(values[i]))
            return (enum lyap_reason)values[i]->reason;
    return LYAP_REASON_NONE;
}

double lyap_step_metric(const struct lyap_step *step, enum lyap_metric metric)
{
    return lyap_history_column(step->point, metric);
}

struct lyap_value lyap_step_total(const struct lyap_step *step, enum lyap_reduce row)
{
    if (!step->partial)
        return lyap_value_absent(step->sums);
    const double total = lyap_partial_total(step->partial, row);
    if (!isnan(total))
        return lyap_value_exact(total);
    return lyap_value_absent(step->partial->is_role_order ? LYAP_REASON_ROLE_ORDER
                                                          : LYAP_REASON_NOT_PUSHED);
}

/* Sums skip non-finite elements, so a product with such a role would be silently short. */
static bool has_nonfinite(const struct lyap_step *step, enum lyap_reduce role)
{
    const struct lyap_value count =
        lyap_step_total(step, (enum lyap_reduce)(role + LYAP_MOMENT_NONFINITE));
    return lyap_is(&count) && count.value > 0;
}

/* Largest share of a role's energy in one 64-block, or one coordinate; NaN when unknown. */
static double share_of(const struct lyap_step *step, enum lyap_reduce role, enum lyap_moment part)
{
    const struct lyap_value largest = lyap_step_total(step, (enum lyap_reduce)(role + part));
    const struct lyap_value sq = lyap_step_total(step, (enum lyap_reduce)(role + LYAP_MOMENT_SQ));
    if (!lyap_is(&largest) || !lyap_is(&sq) || !(sq.value > 0))
        return NAN;
    const double most = part == LYAP_MOMENT_MAX ? largest.value * largest.value : largest.value;
    return fmin(most / sq.value, 1); /* rounding */
}

static double largest_share(const struct lyap_step *step, enum lyap_moment part)
{
    static const enum lyap_reduce roles[] = { LYAP_REDUCE_PARAM_COUNT, LYAP_REDUCE_GRAD_COUNT,
                                              LYAP_REDUCE_DELTA_COUNT,
                                              LYAP_REDUCE_PROBE_GRAD_COUNT };
    double share = NAN;
    for (unsigned i = 0; i < sizeof roles / sizeof *roles; i++)
        share = fmax(share, share_of(step, roles[i], part)); /* fmax prefers the number */
    return share;
}

static void give_share(struct lyap_step *step, enum lyap_metric metric, double share)
{
    if (!isnan(share))
        lyap_step_give(step, metric, lyap_value_exact(share));
    else
        lyap_step_absent(step, metric, step->partial ? LYAP_REASON_NOT_PUSHED : step->sums);
}

static void set_shares(struct lyap_step *step)
{
    const double share = largest_share(step, LYAP_MOMENT_BLOCK_SQ);
    give_share(step, LYAP_METRIC_BLOCK_SHARE, share);
    give_share(step, LYAP_METRIC_COORDINATE_SHARE, largest_share(step, LYAP_MOMENT_MAX));
    if (!step->partial || step->partial->sketch_size == 0)
        return;
    const double k = step->partial->sketch_size;
    const double factor = share > LYAP_LUMP_SHARE ? LYAP_LUMP_FACTOR : 1;
    step->error_share = factor / sqrt(k);
    step->norm_share = factor / sqrt(2 * k);
}

static const double *sketch_now(const struct lyap_step *step, enum lyap_sketch_role role)
{
    return step->partial ? step->partial->sketches[role] : NULL;
}

static const double *sketch_before(const struct lyap_step *step, enum lyap_sketch_role role)
{
    const struct lyap_live *live = &step->profile->live;
    return live->step >= 0 && live->has_sketch[role] ? live->sketches[role] : NULL;
}

/* The sketch of D: as computed from D, else the difference of two sketches of theta. */
static void find_delta(struct lyap_step *step)
{
    struct lyap_live *live = &step->profile->live;
    if (!step->partial)
        return;
    step->delta = sketch_now(step, LYAP_SKETCH_DELTA);
    const double *now = sketch_now(step, LYAP_SKETCH_PARAM);
    const double *before = sketch_before(step, LYAP_SKETCH_PARAM);
    if (step->delta || !now || !before || !live->scratch)
        return;
    for (uint32_t i = 0; i < live->size; i++)
        live->scratch[i] = now[i] - before[i];
    step->delta = live->scratch;
}

static double norm_of(const double *sketch, uint32_t k)
{
    return sqrt(lyap_linalg_dot(sketch, sketch, k));
}

/* <a - b, c> from sketches (b may be NULL: 0), or `fallback` when one is missing. */
static struct lyap_value sketched(const struct lyap_step *step, const double *a, const double *b,
                                  const double *c, struct lyap_value fallback)
{
    if (!step->partial || !a || !c)
        return fallback;
    const uint32_t k = step->partial->sketch_size;
    const double minus = b ? lyap_linalg_dot(b, c, k) : 0;
    const double spread = norm_of(a, k) * norm_of(c, k) + (b ? norm_of(b, k) * norm_of(c, k) : 0);
    return lyap_value_estimate(lyap_linalg_dot(a, c, k) - minus, step->error_share * spread);
}

/* |a - b|^2 from sketches. */
static struct lyap_value sketched_difference(const struct lyap_step *step, const double *a,
                                             const double *b, struct lyap_value fallback)
{
    if (!step->partial || !a || !b)
        return fallback;
    double sum = 0;
    for (uint32_t i = 0; i < step->partial->sketch_size; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return lyap_value_estimate(sum, 2 * step->norm_share * sum);
}

static enum lyap_reason pair_reason(const struct lyap_step *step)
{
    if (!step->partial)
        return step->sums;
    if (step->is_delta_known)
        return LYAP_REASON_NONE;
    if (step->profile->live.step < 0)
        return LYAP_REASON_NO_PREVIOUS;
    return step->partial->is_role_order ? LYAP_REASON_ROLE_ORDER : LYAP_REASON_NOT_PUSHED;
}

/* A row between two snapshots: exact, or absent with the reason of the pair. */
static struct lyap_value pair_row(const struct lyap_step *step, enum lyap_reduce row)
{
    struct lyap_value value = lyap_step_total(step, row);
    if (!lyap_is(&value) && step->pair != LYAP_REASON_NONE)
        value.reason = (uint8_t)step->pair;
    return value;
}

static struct lyap_value pair_row_finite(const struct lyap_step *step, enum lyap_reduce row,
                                         enum lyap_reduce role)
{
    return has_nonfinite(step, role) ? lyap_value_absent(LYAP_REASON_NONFINITE)
                                     : pair_row(step, row);
}

static void link_delta(struct lyap_step *step)
{
    step->delta_sq = lyap_step_total(step, LYAP_REDUCE_DELTA_SQ);
    find_delta(step);
    if (!lyap_is(&step->delta_sq) && step->delta) {
        step->delta_sq = sketched(step, step->delta, NULL, step->delta, step->delta_sq);
        step->delta_sq.error = 2 * step->norm_share * step->delta_sq.value;
        step->is_delta_sketched = true;
    }
    step->is_delta_known = lyap_is(&step->delta_sq);
    const bool is_pushed = step->partial && step->partial->delta_unit == 0 &&
                           step->delta != step->profile->live.scratch;
    step->is_single = is_pushed || (step->updates == 1 && !step->is_bare);
    /* A pushed D is the last update; a difference reaches back to the last snapshot with tensors.
     */
    step->is_linked = step->is_delta_known && step->updates > 0 && !step->is_bare &&
                      (!is_pushed || step->updates == 1);
    step->pair = pair_reason(step);
    if (!step->is_delta_known)
        step->delta_sq = lyap_value_absent(step->pair);
}

bool lyap_step_has_one_rate(const struct lyap_step *step)
{
    const struct lyap_snapshot *s = step->snapshot;
    for (uint32_t i = 1; i < s->lr_count; i++)
        if (s->lr[i] != s->lr[0])
            return false;
    if (s->lr_count > 0)
        return true;
    const struct lyap_group_range range = lyap_profile_group_range(step->profile);
    return !(range.lr_least < range.lr_most);
}

/* <D,P D>: without preconditioner P is 1, unless the kernels folded unequal rates into it. */
static void set_delta_p(struct lyap_step *step)
{
    step->delta_p = pair_row(step, LYAP_REDUCE_DELTA_P);
    if (lyap_is(&step->delta_p) || !step->is_delta_known)
        return;
    if (lyap_is_preconditioned(step->profile->declaration.optimizer.type))
        step->delta_p = lyap_value_absent(LYAP_REASON_NEEDS_STATE);
    else if (lyap_step_has_one_rate(step))
        step->delta_p = step->delta_sq;
}

void lyap_step_products(struct lyap_step *step)
{
    set_shares(step);
    link_delta(step);
    const double *g = sketch_now(step, LYAP_SKETCH_GRAD);
    const double *before = sketch_before(step, LYAP_SKETCH_GRAD);
    const double *probe = sketch_now(step, LYAP_SKETCH_PROBE_GRAD);
    const double *probe_before = sketch_before(step, LYAP_SKETCH_PROBE_GRAD);
    const struct {
        enum lyap_reduce row, role;
        struct lyap_value *ret;
        const double *sketch; /* times D */
    } products[] = {
        { LYAP_REDUCE_GRAD_DELTA, LYAP_REDUCE_GRAD_COUNT, &step->now_delta, g },
        { LYAP_REDUCE_GRAD_PREV_DELTA, LYAP_REDUCE_GRAD_COUNT, &step->prev_delta, before },
        { LYAP_REDUCE_PROBE_DELTA, LYAP_REDUCE_PROBE_GRAD_COUNT, &step->probe_delta, probe },
        { LYAP_REDUCE_PROBE_PREV_DELTA, LYAP_REDUCE_PROBE_GRAD_COUNT, &step->probe_prev_delta,
          probe_before },
    };
    for (unsigned i = 0; i < sizeof products / sizeof *products; i++) {
        struct lyap_value value = pair_row_finite(step, products[i].row, products[i].role);
        if (!lyap_is(&value) && value.reason != LYAP_REASON_NONFINITE)
            value = sketched(step, products[i].sketch, NULL, step->delta, value);
        *products[i].ret = value;
    }
    step->grad_grad_prev = pair_row(step, LYAP_REDUCE_GRAD_GRAD_PREV);
    if (!lyap_is(&step->grad_grad_prev))
        step->grad_grad_prev = sketched(step, g, NULL, before, step->grad_grad_prev);
    step->grad_diff_sq = pair_row(step, LYAP_REDUCE_GRAD_DIFF_SQ);
    if (!lyap_is(&step->grad_diff_sq))
        step->grad_diff_sq = sketched_difference(step, g, before, step->grad_diff_sq);
    step->probe_diff_sq =
        pair_row_finite(step, LYAP_REDUCE_PROBE_DIFF_SQ, LYAP_REDUCE_PROBE_GRAD_COUNT);
    if (!lyap_is(&step->probe_diff_sq) && step->probe_diff_sq.reason != LYAP_REASON_NONFINITE)
        step->probe_diff_sq = sketched_difference(step, probe, probe_before, step->probe_diff_sq);
    set_delta_p(step);
    if (!step->is_linked && step->is_delta_known) {
        /* g_{t-1} of the update was not pushed: the rows mix two times. */
        const struct lyap_value gap = lyap_value_absent(LYAP_REASON_STEP_GAP);
        step->prev_delta = step->grad_diff_sq = step->probe_prev_delta = step->probe_diff_sq = gap;
    }
    if (step->is_bare && lyap_is(&step->grad_grad_prev))
        step->grad_grad_prev = lyap_value_absent(LYAP_REASON_STEP_GAP);
}

int64_t lyap_step_delta_from(const struct lyap_step *step)
{
    const struct lyap_live *live = &step->profile->live;
    return step->is_single ? step->snapshot->step - 1 : live->sums_step;
}

bool lyap_step_is_probe(const struct lyap_step *step)
{
    return step->is_linked && lyap_is(&step->probe_delta) && lyap_is(&step->probe_prev_delta);
}

bool lyap_step_is_batch(const struct lyap_step *step)
{
    const struct lyap_profile *profile = step->profile;
    const char *before = profile->live.batch_id, *now = step->snapshot->batch_id;
    if (!step->is_linked || !lyap_is(&step->prev_delta) || !lyap_is(&step->now_delta))
        return false;
    if (profile->declaration.data == LYAP_DATA_FULL_BATCH)
        return true;
    return now[0] != '\0' && strcmp(now, before) == 0;
}
