/* Open steps of several ranks. */
#include "ranks.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine.h"
#include "lyap/alloc.h"

/* Rows that compare with the predecessor: worthless when the ranks' predecessors are of unequal
 * steps. */
static const enum lyap_reduce difference_rows[] = {
    LYAP_REDUCE_GRAD_PREV_DELTA, LYAP_REDUCE_GRAD_DELTA,       LYAP_REDUCE_GRAD_DIFF_SQ,
    LYAP_REDUCE_GRAD_GRAD_PREV,  LYAP_REDUCE_DELTA_P,          LYAP_REDUCE_DELTA_P_PREV,
    LYAP_REDUCE_UPDATE_ERROR_SQ, LYAP_REDUCE_STEP_PREV_SQ,     LYAP_REDUCE_SIGN_FLIPS,
    LYAP_REDUCE_PROBE_DELTA,     LYAP_REDUCE_PROBE_PREV_DELTA, LYAP_REDUCE_PROBE_DIFF_SQ,
    LYAP_REDUCE_SAME_DELTA,
};

/* First of the seven moment rows of each pushed role. */
static const enum lyap_reduce role_rows[] = { LYAP_REDUCE_PARAM_COUNT, LYAP_REDUCE_GRAD_COUNT,
                                              LYAP_REDUCE_DELTA_COUNT,
                                              LYAP_REDUCE_PROBE_GRAD_COUNT };

/* Where a step stands, or would stand, in the ascending list. */
static struct lyap_open_step **link_of(struct lyap_run *run, int64_t step)
{
    struct lyap_open_step **link = &run->open;
    while (*link && (*link)->step < step)
        link = &(*link)->next;
    return link;
}

enum lyap_status lyap_ranks_open(struct lyap_engine *engine, const struct api_ticket *ticket,
                                 int64_t deadline_ns, struct lyap_open_step **ret_open,
                                 struct lyap_error *reterr)
{
    struct lyap_run *run = ticket->run;
    const int64_t step = ticket->snapshot.step;
    const uint32_t world = ticket->snapshot.world;
    struct lyap_open_step **link = link_of(run, step);
    if (*link && (*link)->step == step) {
        if ((*link)->world != world)
            return lyap_error_set(reterr, LYAP_E_CONTRADICTION,
                                  "world = %u: another rank of step %lld said %u", world,
                                  (long long)step, (*link)->world);
        *ret_open = *link;
        return LYAP_OK;
    }
    if (run->open_count >= LYAP_OPEN_STEPS_MAX)
        return lyap_error_set(reterr, LYAP_E_QUEUE_FULL,
                              "%u steps wait for other ranks, the maximum", run->open_count);
    struct lyap_open_step *open = lyap_alloc_array(1, sizeof *open + world * sizeof *open->tickets);
    if (!open)
        return LYAP_E_NOMEM;
    open->run = lyap_run_ref(engine->registry, run);
    open->step = step;
    open->world = world;
    open->deadline_ns = deadline_ns;
    open->next = *link;
    *link = open;
    run->open_count++;
    *ret_open = open;
    return LYAP_OK;
}

/* Elements of a tensor that one part has seen. */
static bool holds_elements(const struct lyap_partial *partial, uint32_t tensor)
{
    for (size_t r = 0; r < sizeof role_rows / sizeof *role_rows; r++) {
        const double *row = partial->rows[role_rows[r]];
        if (row && row[tensor] > 0)
            return true;
    }
    return false;
}

/* A sum that one part lacks would be silently short: it is absent for the tensors of that part. */
static void poison_short_rows(struct lyap_partial *sum, const struct lyap_partial *part)
{
    for (uint32_t t = 0; t < sum->tensor_count; t++) {
        if (!holds_elements(part, t))
            continue;
        for (unsigned r = 0; r < LYAP_REDUCE_COUNT; r++) {
            const bool is_sum = lyap_reduce_combine((enum lyap_reduce)r) == 's';
            const size_t width = lyap_reduce_width((enum lyap_reduce)r);
            if (is_sum && sum->rows[r] && (!part->rows[r] || isnan(part->rows[r][t * width])))
                sum->rows[r][t * width] = NAN;
        }
    }
}

static void drop_row(struct lyap_partial *sum, enum lyap_reduce row)
{
    lyap_free(sum->rows[row]);
    sum->rows[row] = NULL;
}

static bool has_tensors(const struct api_ticket *ticket)
{
    return ticket && ticket->partial.tensor_count > 0;
}

/* Sketches that a part with elements lacks. */
static void drop_short_sketches(struct lyap_partial *sum, const struct lyap_partial *part)
{
    for (unsigned s = 0; s < LYAP_SKETCH_COUNT; s++) {
        if (sum->sketches[s] && !part->sketches[s]) {
            lyap_free(sum->sketches[s]);
            sum->sketches[s] = NULL;
        }
    }
}

/* Whether all parts with tensors compare with the same step. */
static bool same_predecessor(struct api_ticket *const *tickets, uint32_t count)
{
    const struct api_ticket *first = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (!has_tensors(tickets[i]))
            continue;
        if (first && tickets[i]->previous_step != first->previous_step)
            return false;
        first = tickets[i];
    }
    return true;
}

enum lyap_status lyap_ranks_sum(struct api_ticket *const *tickets, uint32_t count,
                                uint32_t tensor_count, struct lyap_partial *ret_sum)
{
    struct lyap_partial sum;
    uint32_t parts = 0;
    enum lyap_status status = lyap_partial_init(&sum, tensor_count, LYAP_SKETCH_SIZE);
    bool is_state_exact = true;
    for (uint32_t i = 0; status == LYAP_OK && i < count; i++) {
        if (!has_tensors(tickets[i]))
            continue;
        status = lyap_partial_add(&sum, &tickets[i]->partial);
        is_state_exact = is_state_exact && tickets[i]->partial.is_state_exact;
        parts++;
    }
    if (status != LYAP_OK) {
        lyap_partial_release(&sum);
        return status;
    }
    sum.is_state_exact = parts > 0 && is_state_exact;
    for (uint32_t i = 0; parts > 1 && i < count; i++) {
        if (!has_tensors(tickets[i]))
            continue;
        poison_short_rows(&sum, &tickets[i]->partial);
        drop_short_sketches(&sum, &tickets[i]->partial);
    }
    if (!same_predecessor(tickets, count))
        for (size_t r = 0; r < sizeof difference_rows / sizeof *difference_rows; r++)
            drop_row(&sum, difference_rows[r]);
    *ret_sum = sum;
    return LYAP_OK;
}

enum lyap_status lyap_ranks_coverage(const struct lyap_partial *sum,
                                     const struct lyap_tensor_set *set, struct lyap_error *reterr)
{
    assert(sum->tensor_count == set->count);
    for (size_t r = 0; r < sizeof role_rows / sizeof *role_rows; r++) {
        const double *row = sum->rows[role_rows[r]];
        for (uint32_t t = 0; row && t < set->count; t++) {
            const double seen = row[t], wanted = (double)set->tensors[t].count;
            const bool is_whole = seen >= wanted && seen <= wanted;
            if (is_whole || !(seen > 0))
                continue;
            return lyap_error_set(reterr, LYAP_E_SHARD_COVERAGE,
                                  "%s of %.128s is %.0f over all ranks; the tensor has %.0f "
                                  "elements",
                                  lyap_reduce_name(role_rows[r]), set->tensors[t].name, seen,
                                  wanted);
        }
    }
    return LYAP_OK;
}

void lyap_ranks_finish(struct lyap_run *run, struct lyap_open_step *open,
                       struct lyap_open_step **finished)
{
    struct lyap_open_step **link = link_of(run, open->step);
    assert(*link == open);
    *link = open->next;
    run->open_count--;
    open->next = *finished;
    *finished = open;
}

void lyap_ranks_finish_all(struct lyap_run *run, struct lyap_open_step **finished)
{
    while (run->open)
        lyap_ranks_finish(run, run->open, finished);
}

static void open_free(struct lyap_open_step *open)
{
    struct lyap_registry *registry = NULL;
    for (uint32_t i = 0; i < open->world; i++) {
        if (open->tickets[i])
            registry = open->tickets[i]->engine->registry;
        lyap_ticket_free(open->tickets[i]);
    }
    assert(registry);
    lyap_run_unref(registry, open->run);
    lyap_free(open);
}

void lyap_ranks_settle(struct lyap_open_step **finished, bool is_committed)
{
    while (*finished) {
        struct lyap_open_step *open = *finished;
        *finished = open->next;
        struct lyap_open_step **link = link_of(open->run, open->step);
        const bool is_taken = *link && (*link)->step == open->step;
        if (is_committed || is_taken) {
            open_free(open);
            continue;
        }
        open->next = *link;
        *link = open;
        open->run->open_count++;
    }
}

const struct api_ticket *lyap_ranks_first(const struct lyap_open_step *open)
{
    for (uint32_t i = 0; i < open->world; i++)
        if (open->tickets[i])
            return open->tickets[i];
    return NULL;
}
