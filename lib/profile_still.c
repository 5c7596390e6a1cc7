/* Tensors that do not take part although others do: no gradient reaches them, or the update that is
 * due leaves them as they were. */
#include <math.h>

#include "lyap/alloc.h"
#include "profile_internal.h"
#include "banned.h"

static const double RATE_SHARE = .01; /* of the largest rate so far */

void lyap_still_release(struct lyap_still *still)
{
    lyap_free(still->dead);
    lyap_free(still->stuck);
    lyap_free(still->is_due);
    *still = (struct lyap_still){ 0 };
}

enum lyap_status lyap_still_reserve(struct lyap_still *still, uint32_t tensors)
{
    if (still->tensors == tensors)
        return LYAP_OK;
    struct lyap_still made = {
        .tensors = tensors,
        .dead = lyap_alloc_array(tensors, sizeof *made.dead),
        .stuck = lyap_alloc_array(tensors, sizeof *made.stuck),
        .is_due = lyap_alloc_array(tensors, sizeof *made.is_due),
    };
    if (!made.dead || !made.stuck || !made.is_due) {
        lyap_still_release(&made);
        return LYAP_E_NOMEM;
    }
    lyap_still_release(still);
    *still = made;
    return LYAP_OK;
}

static const double *row_of(const struct lyap_step *step, enum lyap_reduce row)
{
    return step->partial ? step->partial->rows[row] : NULL;
}

static void count_up(uint32_t *count)
{
    *count += *count < UINT32_MAX;
}

/* A training that stands as a whole (rate 0 of a warm-up) says nothing about one tensor. */
static bool is_moving(const struct lyap_step *step)
{
    const struct lyap_value *norm = &step->point->metrics[LYAP_METRIC_UPDATE_NORM];
    return !lyap_is(norm) || norm->value > 0;
}

/* A tensor without a gradient is frozen, or unused: nothing is expected of it. */
static void see_gradients(const struct lyap_step *step, struct lyap_still *still)
{
    const double *counts = row_of(step, LYAP_REDUCE_GRAD_COUNT);
    const double *largest = row_of(step, LYAP_REDUCE_GRAD_MAX);
    bool is_any = false;
    for (uint32_t i = 0; counts && largest && i < still->tensors; i++)
        is_any |= largest[i] > 0;
    if (!is_any || !is_moving(step))
        return;
    count_up(&still->dead_looks);
    for (uint32_t i = 0; i < still->tensors; i++) {
        if (!(counts[i] > 0) || largest[i] > 0)
            still->dead[i] = 0;
        else
            count_up(&still->dead[i]);
    }
}

/* Only single updates, exactly known. At rates that have all but vanished, what rounds away does
 * not matter. */
static bool can_see_moves(const struct lyap_step *step)
{
    const struct lyap_history *h = &step->profile->history;
    return step->is_linked && step->is_single && !step->is_delta_sketched &&
           lyap_step_metric(step, LYAP_METRIC_UPDATE_NORM) > 0 &&
           h->last.lr >= RATE_SHARE * h->lr_max;
}

static void see_moves(const struct lyap_step *step, struct lyap_still *still)
{
    const double *counts = row_of(step, LYAP_REDUCE_DELTA_COUNT);
    const double *largest = row_of(step, LYAP_REDUCE_DELTA_MAX);
    if (!counts || !largest || !still->has_due || !can_see_moves(step))
        return;
    count_up(&still->stuck_looks);
    for (uint32_t i = 0; i < still->tensors; i++) {
        if (!still->is_due[i] || !(counts[i] > 0) || largest[i] > 0)
            still->stuck[i] = 0;
        else
            count_up(&still->stuck[i]);
    }
}

/* Which tensors the coming update should move. */
static void expect_moves(const struct lyap_step *step, struct lyap_still *still)
{
    const double *squares = row_of(step, LYAP_REDUCE_STEP_SQ);
    still->has_due = false;
    for (uint32_t i = 0; i < still->tensors; i++) {
        still->is_due[i] = squares && squares[i] > 0;
        still->has_due |= still->is_due[i];
    }
}

static void give_count(struct lyap_step *step, enum lyap_metric metric, const uint32_t *points,
                       uint32_t looks, enum lyap_reason reason)
{
    uint32_t count = 0;
    if (reason == LYAP_REASON_NONE && looks < LYAP_STILL_POINTS)
        reason = LYAP_REASON_WARMING_UP;
    if (reason != LYAP_REASON_NONE) {
        lyap_step_absent(step, metric, reason);
        return;
    }
    for (uint32_t i = 0; i < step->profile->still.tensors; i++)
        count += points[i] >= LYAP_STILL_POINTS;
    lyap_step_give(step, metric, lyap_value_exact(count));
}

static enum lyap_reason moves_reason(const struct lyap_step *step)
{
    static const enum lyap_metric needed[] = { LYAP_METRIC_UPDATE_NORM,
                                               LYAP_METRIC_PREDICTED_DECREASE };
    for (unsigned i = 0; i < sizeof needed / sizeof *needed; i++)
        if (!lyap_is(&step->point->metrics[needed[i]]) &&
            step->point->metrics[needed[i]].reason != LYAP_REASON_NO_LOSS)
            return (enum lyap_reason)step->point->metrics[needed[i]].reason;
    if (step->is_delta_sketched)
        return LYAP_REASON_SKETCH_RETENTION;
    return row_of(step, LYAP_REDUCE_DELTA_MAX) ? LYAP_REASON_NONE : LYAP_REASON_NOT_PUSHED;
}

void lyap_step_still(struct lyap_step *step)
{
    struct lyap_still *still = &step->profile->still;
    const struct lyap_value *grad = &step->point->metrics[LYAP_METRIC_GRAD_NORM];
    enum lyap_reason reason = step->partial ? (enum lyap_reason)grad->reason : step->sums;
    if (step->partial) {
        see_gradients(step, still);
        see_moves(step, still);
        expect_moves(step, still);
    }
    give_count(step, LYAP_METRIC_DEAD_TENSORS, still->dead, still->dead_looks, reason);
    if (reason == LYAP_REASON_NONE)
        reason = moves_reason(step);
    give_count(step, LYAP_METRIC_STUCK_TENSORS, still->stuck, still->stuck_looks, reason);
}
