/* Pushes: admission, the engine thread and its answers. */
#include "fake_state.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lyap/alloc.h"

/* The status named after a prefix of the run's name; OK without the prefix. */
static enum lyap_status steered(const char *run, const char *prefix)
{
    const size_t length = strlen(prefix);
    if (strncmp(run, prefix, length) != 0)
        return LYAP_OK;
    for (int i = 0; i < LYAP_STATUS_COUNT; i++)
        if (strcmp(lyap_status_slug((enum lyap_status)i), run + length) == 0)
            return (enum lyap_status)i;
    return LYAP_E_INTERNAL;
}

static struct api_push_reply *reply_new(const char *run, const struct lyap_point *point)
{
    struct api_push_reply *reply = lyap_alloc_array(1, sizeof *reply);
    assert(reply);
    (void)snprintf(reply->run, sizeof reply->run, "%s", run);
    lyap_point_init(&reply->point);
    if (point)
        assert(lyap_point_copy(point, &reply->point) == LYAP_OK);
    return reply;
}

static const struct lyap_point *find_point(const struct fake_run *run, int64_t step)
{
    for (uint32_t i = 0; run && i < run->point_count; i++)
        if (run->points[i].attempt == run->attempt && run->points[i].step == step)
            return &run->points[i];
    return NULL;
}

static int64_t last_step(const struct fake_run *run, const struct api_ticket *chain)
{
    if (chain)
        return chain->step;
    if (run->point_count == 0 || run->points[run->point_count - 1].attempt < run->attempt)
        return -1;
    return run->points[run->point_count - 1].step;
}

static enum lyap_status check_step(const struct fake_run *run, const struct lyap_snapshot *snapshot,
                                   const struct api_ticket *chain,
                                   struct api_push_reply **ret_duplicate, struct lyap_error *reterr)
{
    const struct lyap_point *known = find_point(run, snapshot->step);
    if (known) {
        *ret_duplicate = reply_new(run->name, known);
        (*ret_duplicate)->push = API_PUSH_DUPLICATE;
        return LYAP_E_DUPLICATE;
    }
    if (snapshot->step <= last_step(run, chain))
        return lyap_error_set(reterr, LYAP_E_STEP_ORDER, "step %lld is not above %lld",
                              (long long)snapshot->step, (long long)last_step(run, chain));
    return LYAP_OK;
}

static struct api_ticket *ticket_new(const struct fake_run *run,
                                     const struct lyap_snapshot *snapshot,
                                     const struct lyap_tensor_set *pushed)
{
    struct api_ticket *ticket = calloc(1, sizeof *ticket);
    assert(ticket);
    (void)snprintf(ticket->run, sizeof ticket->run, "%s", run->name);
    struct lyap_declaration source = run->declaration;
    if (source.set.count == 0)
        source.set = *pushed;
    assert(lyap_declaration_copy(&source, &ticket->declaration) == LYAP_OK);
    ticket->step = snapshot->step;
    ticket->loss = snapshot->loss;
    ticket->lr = snapshot->lr_count ? snapshot->lr[0] : NAN;
    ticket->present = snapshot->present;
    return ticket;
}

static void ticket_free(struct api_ticket *ticket)
{
    lyap_declaration_release(&ticket->declaration);
    lyap_partial_release(&ticket->partial);
    lyap_memory_free(ticket->memory);
    free(ticket);
}

static enum lyap_status push_admit(void *ctx, const char *name,
                                   const struct lyap_snapshot *snapshot,
                                   const struct lyap_tensor_set *pushed, struct api_ticket *chain,
                                   struct api_admission *ret_admission,
                                   struct api_push_reply **ret_duplicate, struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    enum lyap_status status = steered(name, "admit-");
    if (status != LYAP_OK)
        return lyap_error_set(reterr, status, "steered");
    fake_lock(fake);
    struct fake_run *run = fake_run_find(fake, name);
    if (!run)
        run = fake_run_create(fake, name);
    assert(run);
    status = check_step(run, snapshot, chain, ret_duplicate, reterr);
    if (status == LYAP_OK) {
        struct api_ticket *ticket = ticket_new(run, snapshot, pushed);
        *ret_admission = (struct api_admission){
            .ticket = ticket,
            .intake = { .declaration = &ticket->declaration,
                        .snapshot = snapshot,
                        .updates = 1,
                        .sketch_seed = 1,
                        .retention = LYAP_RETENTION_SKETCH,
                        .hold_bytes_max = LYAP_HOLD_BYTES_MAX },
        };
        fake->admitted++;
    }
    fake_unlock(fake);
    return status;
}

static bool push_is_replaced(void *ctx, const struct api_ticket *ticket)
{
    (void)ctx;
    return strcmp(ticket->run, "replaced") == 0;
}

static void push_attach(void *ctx, struct api_ticket *ticket, struct lyap_partial *take_partial,
                        struct lyap_memory *take_memory)
{
    struct fake *fake = ctx;
    assert(!ticket->is_attached);
    ticket->is_attached = true;
    ticket->partial = *take_partial;
    ticket->memory = take_memory;
    fake_lock(fake);
    fake->attached++;
    fake_unlock(fake);
}

static void push_abort(void *ctx, struct api_ticket *take_ticket)
{
    struct fake *fake = ctx;
    fake_lock(fake);
    fake->aborted++;
    fake_unlock(fake);
    ticket_free(take_ticket);
}

/* ---- the engine ---- */

static void set_metric(struct lyap_point *point, enum lyap_metric metric, double value)
{
    point->metrics[metric].value = value;
    point->metrics[metric].reason = LYAP_REASON_NONE;
}

static void store_point(struct fake *fake, const struct api_ticket *ticket,
                        struct lyap_point *point)
{
    struct fake_run *run = fake_run_find(fake, ticket->run);
    lyap_point_init(point);
    point->step = ticket->step;
    point->time_ns = 1700000000500000000;
    point->attempt = run ? run->attempt : 1;
    point->state = LYAP_STATE_HEALTHY;
    if (ticket->present & 1u << LYAP_META_LOSS)
        set_metric(point, LYAP_METRIC_LOSS, ticket->loss);
    if (ticket->present & 1u << LYAP_META_LR)
        set_metric(point, LYAP_METRIC_LR, ticket->lr);
    if (ticket->partial.tensor_count > 0)
        set_metric(point, LYAP_METRIC_PARAM_NORM,
                   sqrt(lyap_partial_total(&ticket->partial, LYAP_REDUCE_PARAM_SQ)));
    if (!run || run->point_count == FAKE_POINTS_MAX)
        return;
    if (run->point_count == run->point_capacity) {
        run->point_capacity = run->point_capacity ? 2 * run->point_capacity : 16;
        run->points = realloc(run->points, run->point_capacity * sizeof *run->points);
        assert(run->points);
    }
    run->points[run->point_count++] = *point;
    api_feed_stage_point(fake->ports.feed, run->name, point);
    api_feed_settle(fake->ports.feed, true);
}

static void add_alert(struct api_push_reply *reply)
{
    reply->alerts = lyap_alloc_array(1, sizeof *reply->alerts);
    assert(reply->alerts);
    reply->alert_count = 1;
    reply->alerts[0] = (struct lyap_alert){ .id = 17,
                                            .rule = "instability",
                                            .state = LYAP_ALERT_FIRING,
                                            .severity = LYAP_SEVERITY_CRITICAL,
                                            .firing_step = reply->point.step,
                                            .summary = lyap_alloc_string("it \"diverges\"") };
}

static struct api_push_reply *answer(struct fake *fake, struct api_ticket *ticket)
{
    struct lyap_point point;
    const enum lyap_status status = steered(ticket->run, "answer-");
    struct api_push_reply *reply = reply_new(ticket->run, NULL);
    assert(ticket->is_attached);
    if (status != LYAP_OK) {
        reply->status = lyap_error_set(&reply->error, status, "steered answer");
        return reply;
    }
    reply->push = strcmp(ticket->run, "waiting") == 0 ? API_PUSH_WAITING : API_PUSH_ACCEPTED;
    if (reply->push == API_PUSH_WAITING) {
        reply->point.step = ticket->step;
        reply->point.attempt = 1;
        return reply;
    }
    fake_lock(fake);
    store_point(fake, ticket, &point);
    fake_unlock(fake);
    reply->point = point;
    reply->wants_state = ticket->step == 3;
    if (ticket->step == 7)
        add_alert(reply);
    return reply;
}

static void answer_batch(struct fake *fake, struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        struct api_push_reply *reply = answer(fake, batch->tickets[i]);
        ticket_free(batch->tickets[i]);
        batch->done(batch->arg, reply);
    }
    free(batch->tickets);
    free(batch);
}

/* The first batch that may be answered now; those of `never` wait for the stop. */
static struct batch *take_batch(struct fake *fake)
{
    for (struct batch **at = &fake->first; *at; at = &(*at)->next) {
        struct batch *batch = *at;
        if (!fake->is_stopping && strcmp(batch->tickets[0]->run, "never") == 0)
            continue;
        *at = batch->next;
        if (fake->last == &batch->next)
            fake->last = at;
        return batch;
    }
    return NULL;
}

static void *engine(void *arg)
{
    struct fake *fake = arg;
    fake_lock(fake);
    for (;;) {
        struct batch *batch = take_batch(fake);
        if (!batch && fake->is_stopping)
            break;
        if (!batch) {
            pthread_cond_wait(&fake->changed, &fake->lock);
            continue;
        }
        fake_unlock(fake);
        if (strcmp(batch->tickets[0]->run, "slow") == 0)
            (void)nanosleep(&(struct timespec){ .tv_nsec = 333000000 }, NULL);
        answer_batch(fake, batch);
        fake_lock(fake);
    }
    fake_unlock(fake);
    return NULL;
}

static void push_submit(void *ctx, struct api_ticket **take_tickets, uint32_t count,
                        api_push_done *done, void *arg)
{
    struct fake *fake = ctx;
    struct batch *batch = calloc(1, sizeof *batch);
    assert(batch && count > 0);
    batch->tickets = malloc(count * sizeof(struct api_ticket *));
    assert(batch->tickets);
    memcpy(batch->tickets, take_tickets, count * sizeof(struct api_ticket *));
    batch->count = count;
    batch->done = done;
    batch->arg = arg;
    const bool is_inline = strcmp(take_tickets[0]->run, "inline") == 0;
    fake_lock(fake);
    fake->submitted += count;
    if (!is_inline) {
        *fake->last = batch;
        fake->last = &batch->next;
        pthread_cond_signal(&fake->changed);
    }
    fake_unlock(fake);
    if (is_inline)
        answer_batch(fake, batch);
}

void fake_engine_start(struct fake *fake)
{
    const int result = pthread_create(&fake->engine, NULL, engine, fake);
    assert(result == 0);
}

void fake_engine_ports(struct api_ports *ports)
{
    ports->push_admit = push_admit;
    ports->push_is_replaced = push_is_replaced;
    ports->push_attach = push_attach;
    ports->push_submit = push_submit;
    ports->push_abort = push_abort;
}
