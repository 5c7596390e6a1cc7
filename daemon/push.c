/* One push on the engine's thread: alone, or a part of a step of several ranks. */
#include "engine.h"
#include "lyap/alloc.h"
#include "ranks.h"
#include "spectral.h"

bool lyap_status_is_fault(enum lyap_status status)
{
    return status == LYAP_E_NOMEM || status == LYAP_E_IO || status == LYAP_E_DISK_FULL ||
           status == LYAP_E_INTERNAL;
}

/* The memory that the ranks of a step leave behind becomes the predecessor after the commit: when
 * every rank that pushed tensors left one, for differences must have one origin. */
static enum lyap_status generation_take(struct lyap_run *run, struct api_ticket *const *tickets,
                                        uint32_t world)
{
    bool is_whole = true;
    uint32_t left = 0;
    for (uint32_t i = 0; i < world; i++) {
        is_whole = is_whole &&
                   (!tickets[i] || tickets[i]->partial.tensor_count == 0 || tickets[i]->memory);
        left += tickets[i] && tickets[i]->memory;
    }
    const struct api_ticket *first = NULL;
    for (uint32_t i = 0; i < world && !first; i++)
        first = tickets[i];
    if (!is_whole || !left) {
        if (first)
            run->generation_passed =
                lyap_passed_after(&run->generation_passed, &first->snapshot, false);
        return LYAP_OK;
    }
    struct lyap_shared_memory **generation = lyap_alloc_array(world, sizeof *generation);
    if (!generation)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; i < world; i++)
        generation[i] = tickets[i] ? lyap_shared_memory_ref(tickets[i]->memory) : NULL;
    for (uint32_t i = 0; i < run->generation_world; i++)
        lyap_memory_free(lyap_shared_memory_unref(run->generation[i]));
    lyap_free(run->generation);
    run->generation = generation;
    run->generation_world = world;
    run->generation_passed = lyap_passed_after(&run->generation_passed, &first->snapshot, true);
    return LYAP_OK;
}

/* Earlier steps that still wait are closed: a later one is complete. */
static enum lyap_status close_earlier(struct lyap_engine *engine, struct lyap_run *run,
                                      int64_t step)
{
    while (run->open && run->open->step < step) {
        const enum lyap_status status = lyap_step_close_missing(engine, run, run->open);
        if (status != LYAP_OK)
            return status;
    }
    return LYAP_OK;
}

/* No step that several ranks have begun is pushed by one alone. */
static enum lyap_status check_alone(const struct lyap_run *run, int64_t step,
                                    struct lyap_error *reterr)
{
    const struct lyap_open_step *open = run->open;
    while (open && open->step < step)
        open = open->next;
    if (!open || open->step > step)
        return LYAP_OK;
    return lyap_error_set(reterr, LYAP_E_CONTRADICTION,
                          "world = 1: another rank of step %lld said %u", (long long)step,
                          open->world);
}

static enum lyap_status push_single(struct lyap_engine *engine, struct api_ticket *ticket,
                                    struct lyap_error *reterr)
{
    struct lyap_run *run = ticket->run;
    const bool has_tensors = ticket->partial.tensor_count > 0;
    enum lyap_status status = LYAP_OK;
    if (has_tensors)
        status =
            lyap_ranks_coverage(&ticket->partial, &ticket->declaration->declaration.set, reterr);
    const struct lyap_step step = { .run = run,
                                    .snapshot = &ticket->snapshot,
                                    .declaration = ticket->declaration,
                                    .partial = has_tensors ? &ticket->partial : NULL };
    if (status == LYAP_OK)
        status = check_alone(run, ticket->snapshot.step, reterr);
    if (status == LYAP_OK)
        status = close_earlier(engine, run, ticket->snapshot.step);
    if (status == LYAP_OK)
        status = lyap_step_complete(engine, &step);
    if (status == LYAP_OK)
        status = generation_take(run, &ticket, 1);
    return status;
}

/* Every rank's part is there. */
static enum lyap_status complete_open(struct lyap_engine *engine, struct lyap_run *run,
                                      struct lyap_open_step *open, struct lyap_error *reterr)
{
    const struct api_ticket *first = lyap_ranks_first(open);
    struct lyap_shared_declaration *declaration = first->declaration;
    const uint32_t tensor_count = declaration->declaration.set.count;
    struct lyap_partial sum = LYAP_PARTIAL_NULL;
    bool has_tensors = false;
    enum lyap_status status = LYAP_OK;
    for (uint32_t i = 0; i < open->world; i++)
        has_tensors = has_tensors || open->tickets[i]->partial.tensor_count > 0;
    if (has_tensors)
        status = lyap_ranks_sum(open->tickets, open->world, tensor_count, &sum);
    if (status == LYAP_OK && has_tensors)
        status = lyap_spectral_finish(&sum);
    if (status == LYAP_OK && has_tensors)
        status = lyap_ranks_coverage(&sum, &declaration->declaration.set, reterr);
    if (status == LYAP_OK)
        status = close_earlier(engine, run, open->step);
    const struct lyap_step step = { .run = run,
                                    .snapshot = &first->snapshot,
                                    .declaration = declaration,
                                    .partial = has_tensors ? &sum : NULL };
    if (status == LYAP_OK)
        status = lyap_step_complete(engine, &step);
    if (status == LYAP_OK)
        status = generation_take(run, open->tickets, open->world);
    lyap_partial_release(&sum);
    return status;
}

static enum lyap_status push_rank(struct lyap_engine *engine, struct api_ticket *ticket,
                                  struct lyap_error *reterr)
{
    struct lyap_run *run = ticket->run;
    const struct lyap_limits limits = lyap_engine_limits(engine);
    struct lyap_open_step *open;
    const uint32_t rank = ticket->snapshot.rank;
    enum lyap_status status = lyap_ranks_open(
        engine, ticket, lyap_clock_ns() + (int64_t)limits.rank_deadline_s * 1000000000, &open,
        reterr);
    if (status != LYAP_OK)
        return status;
    if (open->tickets[rank]) { /* pushed again: the new part counts; the old one was answered */
        lyap_ticket_free(open->tickets[rank]);
        open->tickets[rank] = NULL;
        open->arrived--;
    }
    open->tickets[rank] = ticket;
    open->arrived++;
    ticket->is_held = true;
    if (open->arrived < open->world) {
        ticket->reply->push = API_PUSH_WAITING;
        ticket->reply->point.attempt = ticket->attempt;
        ticket->reply->point.step = open->step;
        return LYAP_OK;
    }
    status = complete_open(engine, run, open, reterr);
    /* The last ticket is answered like any other; the rest of the step is over with it. */
    ticket->is_held = false;
    open->tickets[rank] = NULL;
    open->arrived--;
    if (status == LYAP_OK)
        lyap_ranks_finish(run, open, &engine->finished);
    return status;
}

/* What admission saw may have changed during the upload. */
static enum lyap_status check_current(const struct lyap_run *run, const struct api_ticket *ticket,
                                      struct lyap_error *reterr)
{
    const int64_t step = ticket->snapshot.step;
    if (atomic_load(&ticket->is_replaced))
        return LYAP_E_REPLACED;
    if (run->is_deleted)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "run %s was deleted meanwhile", run->name);
    if (ticket->attempt != run->record.attempt)
        return lyap_error_set(reterr, LYAP_E_STALE_ATTEMPT,
                              "attempt %u of %s ended during the upload", ticket->attempt,
                              run->name);
    if (step <= run->record.last_step)
        return lyap_error_set(reterr,
                              ticket->snapshot.world > 1 ? LYAP_E_STEP_CLOSED : LYAP_E_STEP_ORDER,
                              "step %lld was closed during the upload; the last is %lld",
                              (long long)step, (long long)run->record.last_step);
    return LYAP_OK;
}

/* One push; a condition becomes its answer, a fault is returned. */
enum lyap_status lyap_push_run(struct lyap_engine *engine, struct api_ticket *ticket)
{
    struct lyap_run *run = ticket->run;
    struct lyap_error error = LYAP_ERROR_NULL;
    enum lyap_status status = lyap_run_refresh(engine, run);
    if (status == LYAP_OK)
        status = check_current(run, ticket, &error);
    if (status == LYAP_OK)
        status = lyap_run_rebuild(engine, run);
    ticket->reply->status = ticket->reply->error.status = LYAP_OK;
    ticket->reply->push = API_PUSH_ACCEPTED;
    if (status == LYAP_OK)
        status = ticket->snapshot.world > 1 ? push_rank(engine, ticket, &error)
                                            : push_single(engine, ticket, &error);
    if (status == LYAP_OK && ticket->reply->push == API_PUSH_ACCEPTED)
        status = lyap_step_reply(run, ticket->reply);
    if (status == LYAP_OK || lyap_status_is_fault(status))
        return status;
    (void)lyap_error_set(&error, status, "%s", lyap_status_text(status));
    lyap_reply_fail(ticket->reply, status, error.text);
    return LYAP_OK;
}
