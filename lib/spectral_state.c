/* Start vectors, estimates and bounds of a run's weights from snapshot to snapshot. */
#include "spectral_state.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "linalg.h"
#include "lyap/alloc.h"
#include "lyap/sketch.h"
#include "banned.h"

enum {
    BLOCK_START = 4, /* 5 % at worst where singular values cross, two vectors reach 11 % (E1) */
    BLOCK_LEAST = 4,
    BLOCK_TURNS = 6, /* at most, where weights take turns */
    BLOCK_TIGHT = 2, /* where memory is short */
    BLOCK_UP = 2,    /* vectors more where the residual is large */
    CALM_VISITS = 8  /* before one is given up */
};
/* Shares of sigma: beyond RESIDUAL_LARGE the block grows, below RESIDUAL_SMALL it shrinks. */
static const double RESIDUAL_LARGE = 0.03, RESIDUAL_SMALL = 0.01;
static const double RESIDUAL_COLD = 0.05; /* iterate, where the weight is kept */
static const double MARKS_SAFETY = 2;
static const double MOVED_LEAST = 1e-24; /* share of squares: less is rounding */
static const double COLD_CHANGE = 0.1;   /* of |W|_F: the vectors say little about this matrix */
static const double DRIFT_SLACK = 1e-12; /* rounding of sums of increments */

/* ---- bounds ---- */

static double bound_at(const struct lyap_spectral_bound *bound, double drift)
{
    const double moved = drift - bound->drift + DRIFT_SLACK * drift;
    return bound->value + moved;
}

void lyap_spectral_bound_offer(struct lyap_spectral_bound *bound,
                               const struct lyap_spectral_bound *offer, double drift)
{
    const double now = bound_at(bound, drift), offered = bound_at(offer, drift);
    if (isfinite(offered) && !(now <= offered))
        *bound = *offer;
}

/* Of this step. */
static void offer_now(struct lyap_spectral_bound *bound, double value, double drift)
{
    lyap_spectral_bound_offer(bound, &(struct lyap_spectral_bound){ value, drift }, drift);
}

static void bounds_drop(struct lyap_spectral_tensor *tensor)
{
    tensor->upper = tensor->row_norm = (struct lyap_spectral_bound){ NAN, 0 };
    tensor->drift = 0;
    tensor->visit.drift = NAN;
}

/* ---- life ---- */

static void view_reset(struct lyap_spectral_view *view, enum lyap_reason reason)
{
    *view = (struct lyap_spectral_view){ NAN, NAN, NAN, NAN, NAN, reason };
}

static void tensor_release(struct lyap_spectral_tensor *tensor)
{
    lyap_free(tensor->v);
    lyap_free(tensor->marks);
}

void lyap_spectral_state_release(struct lyap_spectral_state *state)
{
    for (uint32_t i = 0; i < state->count; i++)
        tensor_release(&state->tensors[i]);
    lyap_free(state->tensors);
    *state = (struct lyap_spectral_state){ 0 };
}

/* Rows and columns as the tensor streams; rows 0: a vector, or longer than an index. */
static void shape_of(const struct lyap_tensor *declared, uint32_t *ret_rows, uint32_t *ret_cols)
{
    *ret_rows = *ret_cols = 0;
    if (declared->rank < 2 || declared->count == 0)
        return;
    const uint64_t rows = declared->shape[0], cols = declared->count / rows;
    if (rows > INT32_MAX || cols > INT32_MAX)
        return;
    *ret_rows = (uint32_t)rows;
    *ret_cols = (uint32_t)cols;
}

static bool is_same(const struct lyap_spectral_state *state, const struct lyap_tensor_set *set)
{
    if (state->count != set->count)
        return false;
    for (uint32_t i = 0; i < set->count; i++) {
        uint32_t rows, cols;
        shape_of(&set->tensors[i], &rows, &cols);
        const struct lyap_spectral_tensor *tensor = &state->tensors[i];
        if (tensor->cols != cols || (tensor->rows != rows && tensor->rows != 0))
            return false;
    }
    return true;
}

double lyap_spectral_vector_bytes(const struct lyap_spectral_state *state)
{
    double bytes = 0;
    for (uint32_t i = 0; i < state->count; i++)
        if (state->tensors[i].rows)
            bytes += sizeof(double) * (double)state->tensors[i].cols *
                     (state->tensors[i].block_max + LYAP_SPECTRAL_MARKS);
    return bytes;
}

/* Blocks that fit the memory of a run: smaller ones everywhere, then none for the longest rows. */
static void fit_blocks(struct lyap_spectral_state *state)
{
    for (uint32_t most = LYAP_SPECTRAL_BLOCK_MAX;
         lyap_spectral_vector_bytes(state) > LYAP_SPECTRAL_BYTES_MAX;) {
        uint32_t longest = 0;
        most = most > BLOCK_TIGHT ? most / 2 : 0;
        for (uint32_t i = 0; i < state->count; i++) {
            struct lyap_spectral_tensor *tensor = &state->tensors[i];
            if (most)
                tensor->block_max = tensor->block_max < most ? tensor->block_max : most;
            if (tensor->rows &&
                (!state->tensors[longest].rows || tensor->cols > state->tensors[longest].cols))
                longest = i;
        }
        if (!most)
            state->tensors[longest].rows = 0;
    }
}

static void tensor_init(struct lyap_spectral_tensor *tensor, const struct lyap_tensor *declared)
{
    shape_of(declared, &tensor->rows, &tensor->cols);
    tensor->newest = (struct lyap_spectral_estimate){ NAN, NAN };
    tensor->newest_error = NAN;
    tensor->visit = (struct lyap_spectral_visit){ NAN, NAN, NAN };
    tensor->frobenius_cold = NAN;
    tensor->gram_age = UINT32_MAX;
    tensor->is_cold = true;
    bounds_drop(tensor);
    view_reset(&tensor->view, tensor->rows ? LYAP_REASON_WARMING_UP : LYAP_REASON_NOT_APPLICABLE);
    if (tensor->rows)
        tensor->block_max =
            lyap_spectral_block(tensor->rows, tensor->cols, LYAP_SPECTRAL_BLOCK_MAX);
}

/* Start vectors, the same for a tensor of this name in every run and order. */
static enum lyap_status begin(struct lyap_spectral_tensor *tensor, const char *name)
{
    if (!tensor->rows) { /* a vector, or its rows are too long for the run's memory */
        view_reset(&tensor->view, LYAP_REASON_NOT_APPLICABLE);
        return LYAP_OK;
    }
    tensor->block = tensor->block_max < BLOCK_START ? tensor->block_max : BLOCK_START;
    tensor->v = lyap_alloc_array((size_t)tensor->block_max * tensor->cols, sizeof *tensor->v);
    tensor->marks =
        lyap_alloc_array((size_t)LYAP_SPECTRAL_MARKS * tensor->cols, sizeof *tensor->marks);
    if (!tensor->v || !tensor->marks)
        return LYAP_E_NOMEM;
    const uint64_t seed = lyap_sketch_seed(0, name, strlen(name));
    return lyap_spectral_start(seed, tensor->cols, tensor->block, tensor->v) == LYAP_OK
               ? LYAP_OK
               : LYAP_E_INTERNAL;
}

/* Where weights take turns, more vectors mean fewer visits, of which a norm that moves needs more.
 */
static void fit_turns(struct lyap_spectral_state *state)
{
    double work = 0, elements = 0;
    for (uint32_t i = 0; i < state->count; i++) {
        struct lyap_spectral_tensor largest = state->tensors[i];
        largest.block = largest.block_max;
        elements += (double)largest.rows * largest.cols;
        work += lyap_spectral_work(&largest);
    }
    for (uint32_t i = 0; work > lyap_spectral_budget(elements) && i < state->count; i++)
        if (state->tensors[i].block_max > BLOCK_TURNS)
            state->tensors[i].block_max = BLOCK_TURNS;
}

/* Sizes of everything, no vectors yet. */
static enum lyap_status measure(struct lyap_spectral_state *state,
                                const struct lyap_tensor_set *set)
{
    state->tensors = lyap_alloc_array(set->count, sizeof *state->tensors);
    if (!state->tensors)
        return LYAP_E_NOMEM;
    state->count = set->count;
    for (uint32_t i = 0; i < set->count; i++)
        tensor_init(&state->tensors[i], &set->tensors[i]);
    fit_turns(state);
    fit_blocks(state);
    return LYAP_OK;
}

enum lyap_status lyap_spectral_state_reserve(struct lyap_spectral_state *state,
                                             const struct lyap_tensor_set *set)
{
    struct lyap_spectral_state fresh = { .epoch = state->epoch + 1 };
    if (is_same(state, set))
        return LYAP_OK;
    enum lyap_status status = measure(&fresh, set);
    for (uint32_t i = 0; i < fresh.count && status == LYAP_OK; i++) {
        status = begin(&fresh.tensors[i], set->tensors[i].name);
        fresh.elements += (double)fresh.tensors[i].rows * fresh.tensors[i].cols;
    }
    struct lyap_spectral_state *dropped = status == LYAP_OK ? state : &fresh;
    const struct lyap_spectral_state kept = status == LYAP_OK ? fresh : *state;
    lyap_spectral_state_release(dropped);
    *state = kept;
    return status;
}

enum lyap_status lyap_spectral_state_new(const struct lyap_tensor_set *set,
                                         struct lyap_spectral_state **ret_state)
{
    struct lyap_spectral_state *state = lyap_alloc_array(1, sizeof *state);
    if (!state)
        return LYAP_E_NOMEM;
    const enum lyap_status status = lyap_spectral_state_reserve(state, set);
    if (status == LYAP_OK)
        *ret_state = state;
    else
        lyap_free(state);
    return status;
}

void lyap_spectral_state_free(struct lyap_spectral_state *state)
{
    if (!state)
        return;
    lyap_spectral_state_release(state);
    lyap_free(state);
}

void lyap_spectral_state_unlink(struct lyap_spectral_state *state)
{
    for (uint32_t i = 0; i < state->count; i++)
        bounds_drop(&state->tensors[i]);
    state->epoch++;
}

/* ---- one snapshot ---- */

static double row_at(const struct lyap_partial *partial, enum lyap_reduce row, uint32_t tensor)
{
    return partial->rows[row] ? partial->rows[row][tensor] : (double)NAN;
}

/* More vectors where the estimate is poor, fewer where it is good for long. */
static void adapt(struct lyap_spectral_tensor *tensor)
{
    const double share = tensor->view.residual / tensor->view.lower;
    tensor->calm_visits = share < RESIDUAL_SMALL ? tensor->calm_visits + 1 : 0;
    uint32_t block = tensor->block;
    if (share > RESIDUAL_LARGE)
        block += BLOCK_UP;
    else if (tensor->calm_visits >= CALM_VISITS && block > BLOCK_LEAST)
        block--;
    if (block == tensor->block || block > tensor->block_max)
        return;
    tensor->calm_visits = 0;
    if (lyap_spectral_resize(tensor->version, tensor->cols, tensor->block, block, tensor->v) ==
        LYAP_OK)
        tensor->block = block;
}

static void take_vectors(struct lyap_spectral_tensor *tensor, uint32_t block, const double *v)
{
    memcpy(tensor->v, v, (size_t)block * tensor->cols * sizeof *v);
    tensor->block = block;
    tensor->version++;
}

uint32_t lyap_spectral_mark_count(const struct lyap_spectral_tensor *tensor)
{
    const uint32_t half = tensor->block / 2;
    return half < LYAP_SPECTRAL_MARKS ? half : LYAP_SPECTRAL_MARKS;
}

void lyap_spectral_orthonormalize(struct lyap_spectral_tensor *tensor)
{
    tensor->version++;
    if (lyap_linalg_qr(tensor->cols, tensor->block, tensor->v, NULL) == LYAP_OK)
        return;
    const enum lyap_status status =
        lyap_spectral_start(tensor->version, tensor->cols, tensor->block, tensor->v);
    assert(status == LYAP_OK);
    (void)status;
}

/* W'r of fixed signs r differs from visit to visit by what moved, weighed by its size. These
 * directions replace the last vectors of a block: a singular value that came up since is then found
 * at the next visit, for which iterations alone, from vectors that hardly know it, take many. */
static void follow_marks(struct lyap_spectral_tensor *tensor, const double *marks)
{
    const size_t cols = tensor->cols;
    const uint32_t most = lyap_spectral_mark_count(tensor);
    double square = 0;
    uint32_t taken = 0;
    for (uint32_t k = 0; k < LYAP_SPECTRAL_MARKS; k++) {
        double *last = tensor->marks + k * cols, moved = 0, size = 0;
        for (size_t i = 0; i < cols; i++) {
            const double now = marks[k * cols + i];
            last[i] = now - last[i];
            moved += last[i] * last[i];
            size += now * now;
        }
        square += moved;
        if (tensor->has_marks && taken < most && isfinite(moved) && moved > MOVED_LEAST * size)
            memcpy(tensor->v + (tensor->block - ++taken) * cols, last, cols * sizeof *last);
    }
    tensor->visit.moved = tensor->has_marks ? sqrt(square / LYAP_SPECTRAL_MARKS) : (double)NAN;
    memcpy(tensor->marks, marks, LYAP_SPECTRAL_MARKS * cols * sizeof *marks);
    tensor->has_marks = true;
    if (taken > 0)
        lyap_spectral_orthonormalize(tensor);
}

/* |W - W of the visit before|_F, or more: by the differences of the snapshots where they are known;
 * else by the marks, which see one direction in three at less than its half, and by |W|_F, in which
 * a new direction shows. */
static double moved_since(const struct lyap_spectral_tensor *tensor,
                          const struct lyap_spectral_visit *before, double frobenius)
{
    if (!isnan(before->drift))
        return tensor->drift - before->drift;
    const double grown =
        sqrt(fabs(frobenius - before->frobenius) * (frobenius + before->frobenius));
    return fmax(MARKS_SAFETY * tensor->visit.moved, grown);
}

/* What the uploads of this snapshot measured. */
static void absorb(struct lyap_spectral_tensor *tensor, const struct lyap_spectral_sum *sum,
                   double frobenius)
{
    const struct lyap_spectral_visit before = tensor->visit;
    const struct lyap_spectral_item *item = sum->item;
    tensor->visits += tensor->visits < UINT32_MAX;
    if (sum->is_cold) {
        tensor->is_cold = false;
        tensor->visits =
            tensor->visits > LYAP_SPECTRAL_WARM_VISITS ? tensor->visits : LYAP_SPECTRAL_WARM_VISITS;
        tensor->frobenius_cold = NAN; /* set to what it is now by follow_frobenius */
    }
    tensor->view.lower = sum->estimate.sigma;
    tensor->view.residual = sum->estimate.residual;
    if (tensor->version == item->version && item->block <= tensor->block_max)
        take_vectors(tensor, item->block, sum->z);
    if (!sum->is_cold && sum->estimate.residual > RESIDUAL_COLD * sum->estimate.sigma)
        tensor->is_cold = true; /* not in two visits on end: what does not help is left to time */
    if (sum->estimate.sigma > 0)
        adapt(tensor);
    follow_marks(tensor, sum->marks);
    tensor->visit.drift = tensor->drift;
    tensor->visit.frobenius = frobenius;
    tensor->visit.moved = moved_since(tensor, &before, frobenius);
}

/* sigma_1 moved by no more than the weight since the visit before, of which the vectors knew it;
 * and it is no more than the upper bound. NaN: neither is known. */
static double error_of(const struct lyap_spectral_view *view, double moved)
{
    const double most = isnan(view->upper) ? (double)NAN : fmax(view->upper - view->lower, 0);
    return fmin(view->residual + moved, most); /* fmin prefers the number */
}

/* A weight that grew or shrank by much is another one: its vectors start anew, where it is kept. */
static void follow_frobenius(struct lyap_spectral_tensor *tensor, double frobenius)
{
    if (isnan(tensor->frobenius_cold))
        tensor->frobenius_cold = frobenius;
    if (fabs(frobenius - tensor->frobenius_cold) > COLD_CHANGE * tensor->frobenius_cold) {
        tensor->is_cold = true;
        tensor->frobenius_cold = frobenius;
    }
}

static const struct lyap_spectral_sum *sum_of(const struct lyap_partial *partial, uint32_t tensor)
{
    const struct lyap_spectral_sums *sums = partial->spectral;
    const struct lyap_spectral_item *item =
        sums ? lyap_spectral_plan_find(sums->plan, tensor) : NULL;
    return item ? &sums->sums[item - sums->plan->items] : NULL;
}

static enum lyap_reason reason_of(const struct lyap_spectral_tensor *tensor,
                                  const struct lyap_partial *partial,
                                  const struct lyap_spectral_sum *sum)
{
    if (!partial->spectral)
        return LYAP_REASON_NOT_PUSHED; /* a client's sums without these rows */
    if (sum && sum->is_cut)
        return LYAP_REASON_SHARD_LAYOUT;
    const bool is_warming = sum ? !sum->item->is_warm : tensor->visits < LYAP_SPECTRAL_WARM_VISITS;
    return is_warming ? LYAP_REASON_WARMING_UP : LYAP_REASON_NOT_ITS_TURN;
}

static void step_tensor(struct lyap_spectral_tensor *tensor, const struct lyap_partial *partial,
                        uint32_t index, bool has_delta)
{
    const double moved = has_delta ? sqrt(row_at(partial, LYAP_REDUCE_DELTA_SQ, index)) : NAN;
    const double frobenius = sqrt(row_at(partial, LYAP_REDUCE_PARAM_SQ, index));
    const struct lyap_spectral_sum *sum = sum_of(partial, index);
    if (isnan(moved))
        bounds_drop(tensor);
    else
        tensor->drift += moved;
    tensor->gram_age += tensor->gram_age < UINT32_MAX;
    view_reset(&tensor->view, LYAP_REASON_NONE);
    if (sum && sum->has_next)
        absorb(tensor, sum, frobenius);
    if (sum && sum->has_gram)
        tensor->gram_age = 0;
    if (!isnan(frobenius))
        follow_frobenius(tensor, frobenius);

    struct lyap_spectral_view *view = &tensor->view;
    view->lower = row_at(partial, LYAP_REDUCE_SPECTRAL_NORM, index);
    view->residual = row_at(partial, LYAP_REDUCE_SPECTRAL_RESIDUAL, index);
    view->reason = isnan(view->lower) ? reason_of(tensor, partial, sum) : LYAP_REASON_NONE;
    offer_now(&tensor->upper, frobenius, tensor->drift);
    offer_now(&tensor->upper, row_at(partial, LYAP_REDUCE_SPECTRAL_UPPER, index), tensor->drift);
    offer_now(&tensor->row_norm, frobenius, tensor->drift);
    if (sum && sum->has_next && sum->columns)
        offer_now(&tensor->row_norm, sqrt(sum->row_sq), tensor->drift);
    view->upper = bound_at(&tensor->upper, tensor->drift);
    view->row_norm = bound_at(&tensor->row_norm, tensor->drift);
    if (isnan(view->lower))
        return;
    view->error = error_of(view, sum && sum->has_next ? tensor->visit.moved : (double)NAN);
    tensor->newest = (struct lyap_spectral_estimate){ view->lower, view->residual };
    tensor->newest_error = view->error;
}

void lyap_spectral_state_step(struct lyap_spectral_state *state, const struct lyap_partial *partial,
                              bool has_delta)
{
    assert(partial->tensor_count == state->count);
    const double *delta = partial->rows[LYAP_REDUCE_DELTA_SQ];
    for (uint32_t i = 0; i < state->count; i++)
        if (state->tensors[i].rows)
            step_tensor(&state->tensors[i], partial, i, has_delta && delta);
    if (!has_delta || !delta)
        state->epoch++;
}

uint64_t lyap_spectral_bytes(const struct lyap_tensor_set *set)
{
    enum { COPIES = 3 };
    struct lyap_spectral_state state = { 0 };
    double bytes = LYAP_SPECTRAL_BYTES_MAX; /* without memory to tell */
    if (measure(&state, set) == LYAP_OK)
        bytes = lyap_spectral_vector_bytes(&state);
    lyap_spectral_state_release(&state);
    return COPIES * (uint64_t)bytes;
}
