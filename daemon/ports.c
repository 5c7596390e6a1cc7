/* The ports of api.h: thread-safe entries from the HTTP pool into engine and store. */
#include <assert.h>
#include <stdio.h>

#include "deliverer.h"
#include "engine.h"

static enum lyap_status run_put(void *ctx, const struct api_run_put *put,
                                struct api_run_put_result *ret, struct lyap_error *reterr)
{
    struct lyap_put_run_args args = { .put = put };
    const enum lyap_status status = lyap_engine_call(ctx, lyap_command_run_put, &args, reterr);
    if (status == LYAP_OK)
        *ret = args.result;
    return status;
}

static enum lyap_status run_delete(void *ctx, const char *run, struct lyap_error *reterr)
{
    return lyap_engine_call(ctx, lyap_command_run_delete, (void *)run, reterr);
}

static bool push_is_replaced(void *ctx, const struct api_ticket *ticket)
{
    (void)ctx;
    return atomic_load(&ticket->is_replaced);
}

/* The memories before this one in the same NDJSON body are no longer compared with. */
static void drop_chain(struct api_ticket *ticket)
{
    struct api_ticket *chain = ticket->chain;
    if (!chain || !ticket->memory)
        return;
    lyap_registry_lock(ticket->engine->registry);
    struct lyap_rank *rank = &ticket->run->ranks[ticket->snapshot.rank];
    struct lyap_shared_memory *old[] = { chain->memory, chain->previous, ticket->previous };
    chain->memory = chain->previous = ticket->previous = NULL;
    for (size_t i = 0; i < sizeof old / sizeof *old; i++)
        lyap_rank_drop(rank, old[i]);
    lyap_registry_unlock(ticket->engine->registry);
}

static void count_elements(struct lyap_engine *engine, const struct lyap_partial *partial)
{
    static const enum lyap_reduce rows[] = { LYAP_REDUCE_PARAM_COUNT, LYAP_REDUCE_GRAD_COUNT };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const double total = partial->rows[rows[i]] ? lyap_partial_total(partial, rows[i]) : 0;
        if (total > 0)
            lyap_count_add(&engine->counters->elements, (uint64_t)total);
    }
}

static void push_attach(void *ctx, struct api_ticket *ticket, struct lyap_partial *take_partial,
                        struct lyap_memory *take_memory)
{
    ticket->partial = *take_partial;
    *take_partial = (struct lyap_partial)LYAP_PARTIAL_NULL;
    count_elements(ctx, &ticket->partial);
    /* Without memory for the reference the next push lacks differences; this one is whole. */
    ticket->memory = take_memory ? lyap_shared_memory_new(take_memory) : NULL;
    drop_chain(ticket);
}

/* The daemon stops: the tickets are answered here. */
static void refuse(struct api_ticket *first, api_push_done *done, void *arg)
{
    while (first) {
        struct api_ticket *next = first->next;
        struct api_push_reply *reply = first->reply;
        first->reply = NULL;
        lyap_reply_fail(reply, LYAP_E_STOPPING, "the daemon is shutting down");
        lyap_ticket_free(first);
        done(arg, reply);
        first = next;
    }
}

static void push_submit(void *ctx, struct api_ticket **take_tickets, uint32_t count,
                        api_push_done *done, void *arg)
{
    struct lyap_engine *engine = ctx;
    assert(count > 0);
    lyap_registry_lock(engine->registry);
    for (uint32_t i = 0; i < count; i++) {
        struct api_ticket *ticket = take_tickets[i];
        struct lyap_rank *rank = &ticket->run->ranks[ticket->snapshot.rank];
        if (rank->uploading == ticket)
            rank->uploading = NULL; /* from here on it can no longer be replaced */
        ticket->chain = NULL;
        ticket->next = i + 1 < count ? take_tickets[i + 1] : NULL;
    }
    lyap_registry_unlock(engine->registry);
    take_tickets[0]->done = done;
    take_tickets[0]->done_arg = arg;
    struct api_ticket *first = take_tickets[0];
    if (!lyap_queue_push(engine->queue, &first->job.item))
        refuse(first, done, arg);
}

static void push_abort(void *ctx, struct api_ticket *take_ticket)
{
    struct lyap_engine *engine = ctx;
    lyap_count(&engine->counters->uploads_aborted);
    lyap_ticket_free(take_ticket);
}

static enum lyap_status query(void *ctx, const struct lyap_query *wanted,
                              struct lyap_cursor **ret_cursor)
{
    struct lyap_engine *engine = ctx;
    return engine->store->ops->query(engine->store, wanted, ret_cursor);
}

static enum lyap_status latest(void *ctx, const char *run, struct lyap_point *ret_point)
{
    struct lyap_engine *engine = ctx;
    enum lyap_status status = LYAP_E_NOT_FOUND;
    lyap_registry_lock(engine->registry);
    const struct lyap_run *present = lyap_registry_find(engine->registry, run);
    if (present && present->has_point)
        status = lyap_point_copy(&present->point, ret_point);
    lyap_registry_unlock(engine->registry);
    return status;
}

static enum lyap_status rule_put(void *ctx, const struct lyap_rule *rule, bool *ret_is_created,
                                 struct lyap_error *reterr)
{
    struct lyap_put_rule_args args = { .rule = rule };
    const enum lyap_status status = lyap_engine_call(ctx, lyap_command_rule_put, &args, reterr);
    if (status == LYAP_OK)
        *ret_is_created = args.is_created;
    return status;
}

static enum lyap_status rule_delete(void *ctx, const char *name, struct lyap_error *reterr)
{
    return lyap_engine_call(ctx, lyap_command_rule_delete, (void *)name, reterr);
}

static const struct lyap_pack *pack(void *ctx, uint32_t index)
{
    (void)ctx;
    return lyap_packs_get(index);
}

static enum lyap_status pack_put(void *ctx, const struct api_pack_put *put,
                                 struct lyap_error *reterr)
{
    return lyap_engine_call(ctx, lyap_command_pack_put, (void *)put, reterr);
}

static enum lyap_status replay(void *ctx, const struct api_replay_request *request,
                               struct api_replay *ret_replay, struct lyap_error *reterr)
{
    return lyap_replay_run(ctx, request, ret_replay, reterr);
}

static enum lyap_status alert_ack(void *ctx, const struct api_ack *ack, struct lyap_error *reterr)
{
    return lyap_engine_call(ctx, lyap_command_alert_ack, (void *)ack, reterr);
}

static enum lyap_status silence_put(void *ctx, struct lyap_silence *silence,
                                    struct lyap_error *reterr)
{
    return lyap_engine_call(ctx, lyap_command_silence_put, silence, reterr);
}

static enum lyap_status silence_delete(void *ctx, int64_t id, struct lyap_error *reterr)
{
    return lyap_engine_call(ctx, lyap_command_silence_delete, &id, reterr);
}

static enum lyap_status receiver_put(void *ctx, const struct lyap_receiver *receiver,
                                     bool keeps_secret, bool *ret_is_created,
                                     struct lyap_error *reterr)
{
    struct lyap_put_receiver_args args = { .receiver = receiver, .keeps_secret = keeps_secret };
    const enum lyap_status status = lyap_engine_call(ctx, lyap_command_receiver_put, &args, reterr);
    if (status == LYAP_OK)
        *ret_is_created = args.is_created;
    return status;
}

static enum lyap_status receiver_delete(void *ctx, const char *name, struct lyap_error *reterr)
{
    return lyap_engine_call(ctx, lyap_command_receiver_delete, (void *)name, reterr);
}

static void receiver_test(void *ctx, const char *name, api_test_done *done, void *arg)
{
    struct lyap_engine *engine = ctx;
    pthread_mutex_lock(&engine->mutex);
    struct lyap_deliverer *deliverer = engine->deliverer;
    pthread_mutex_unlock(&engine->mutex);
    lyap_deliverer_test(deliverer, name, done, arg);
}

static bool is_ready(void *ctx, char *ret_why, size_t why_bytes)
{
    struct lyap_engine *engine = ctx;
    pthread_mutex_lock(&engine->mutex);
    const bool is_disk_low = engine->is_disk_low;
    const uint64_t reserve = engine->limits.disk_reserve_bytes;
    pthread_mutex_unlock(&engine->mutex);
    const char *why = lyap_queue_is_closed(engine->queue)               ? "shutting down"
                      : !engine->store->ops->is_writable(engine->store) ? "the last commit failed"
                                                                        : NULL;
    if (why)
        (void)snprintf(ret_why, why_bytes, "%s", why);
    else if (is_disk_low)
        (void)snprintf(ret_why, why_bytes, "less than disk_reserve = %llu bytes are free",
                       (unsigned long long)reserve);
    return !why && !is_disk_low;
}

static char *metrics_text(void *ctx)
{
    return lyap_metrics_text(ctx);
}

static char *config_json(void *ctx)
{
    struct lyap_engine *engine = ctx;
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    pthread_mutex_lock(&engine->mutex);
    lyap_settings_json(engine->settings, &text);
    pthread_mutex_unlock(&engine->mutex);
    return lyap_buffer_detach(&text);
}

static int64_t now_ns(void *ctx)
{
    (void)ctx;
    return lyap_clock_utc_ns();
}

void lyap_ports_fill(struct lyap_engine *engine, struct api_ports *ret_ports)
{
    *ret_ports = (struct api_ports){
        .ctx = engine,
        .feed = engine->feed,
        .run_put = run_put,
        .run_delete = run_delete,
        .push_admit = lyap_push_admit,
        .push_is_replaced = push_is_replaced,
        .push_attach = push_attach,
        .push_submit = push_submit,
        .push_abort = push_abort,
        .query = query,
        .latest = latest,
        .rule_put = rule_put,
        .rule_delete = rule_delete,
        .pack = pack,
        .pack_put = pack_put,
        .replay = replay,
        .alert_ack = alert_ack,
        .receiver_put = receiver_put,
        .receiver_delete = receiver_delete,
        .receiver_test = receiver_test,
        .silence_put = silence_put,
        .silence_delete = silence_delete,
        .is_ready = is_ready,
        .metrics_text = metrics_text,
        .config_json = config_json,
        .now_ns = now_ns,
    };
}
