/* The outbox and the receivers, on the engine's thread. */
#include "outbox.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attempt.h"
#include "deliverer.h"
#include "engine.h"
#include "log.h"
#include "message.h"

static const int64_t second_ns = 1000000000;

struct lyap_outbox_limits lyap_outbox_limits(struct lyap_engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    const struct lyap_outbox_limits limits = engine->outbox_limits;
    pthread_mutex_unlock(&engine->mutex);
    return limits;
}

struct lyap_outbox_state lyap_outbox_state(struct lyap_engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    const struct lyap_outbox_state state = engine->outbox_state;
    pthread_mutex_unlock(&engine->mutex);
    return state;
}

/* ---- alerts ---- */

/* The run of an alert in memory: an alert changes only while its run is. NULL: the daemon's own. */
static struct lyap_run *run_of(struct lyap_engine *engine, const struct lyap_alert *alert)
{
    if (!alert->run[0])
        return NULL;
    lyap_registry_lock(engine->registry);
    struct lyap_run *run = lyap_registry_find(engine->registry, alert->run);
    lyap_registry_unlock(engine->registry);
    return run;
}

static char *payload_of(struct lyap_engine *engine, const struct lyap_alert *alert,
                        const struct lyap_run *run)
{
    const struct lyap_rule_entry *entry = lyap_rules_find(&engine->rules, alert->rule);
    const struct lyap_action action = { .kind = entry ? entry->rule.action : LYAP_ACTION_CONTINUE,
                                        .lr = NAN };
    return lyap_message_payload(alert, run ? run->labels_json : NULL, &action, lyap_clock_utc_ns());
}

static bool has_room(struct lyap_engine *engine)
{
    const struct lyap_outbox_limits limits = lyap_outbox_limits(engine);
    if (lyap_outbox_state(engine).waiting + engine->outbox_added < (uint64_t)limits.rows_max)
        return true;
    lyap_count(&engine->counters->deliveries_dropped);
    lyap_log(LYAP_LOG_ERROR, "delivery-dropped", "outbox_rows_max=%lld",
             (long long)limits.rows_max);
    return false;
}

static enum lyap_status put_one(struct lyap_engine *engine, const struct lyap_alert *alert,
                                const struct lyap_receiver *receiver, const char *payload)
{
    const int64_t now_ns = lyap_clock_utc_ns();
    struct lyap_delivery delivery = { .alert_id = alert->id,
                                      .kind = LYAP_ALERT_FIRING,
                                      .state = LYAP_DELIVERY_WAITING,
                                      .created_ns = now_ns,
                                      .next_ns = now_ns,
                                      .payload_json = payload };
    int64_t id = 0;
    memcpy(delivery.receiver, receiver->name, sizeof delivery.receiver);
    if (!has_room(engine))
        return LYAP_OK;
    const enum lyap_status status = engine->store->ops->put_delivery(engine->store, &delivery, &id);
    engine->outbox_added += status == LYAP_OK && id > 0;
    return status;
}

static enum lyap_status put_firing(struct lyap_engine *engine, const struct lyap_alert *alert)
{
    static const struct lyap_labels none = LYAP_LABELS_NULL;
    const struct lyap_rule_entry *rule = lyap_rules_find(&engine->rules, alert->rule);
    const struct lyap_run *run = run_of(engine, alert);
    enum lyap_status status = LYAP_OK;
    char *payload = NULL;
    for (uint32_t i = 0; status == LYAP_OK && i < engine->receivers.count; i++) {
        const struct lyap_receiver_entry *entry = &engine->receivers.entries[i];
        if (!lyap_receiver_is_meant(entry, rule ? rule->rule.notify_json : NULL, alert->severity,
                                    run ? &run->labels : &none))
            continue;
        if (!payload && !(payload = payload_of(engine, alert, run)))
            status = LYAP_E_NOMEM;
        if (status == LYAP_OK)
            status = put_one(engine, alert, &entry->receiver, payload);
    }
    free(payload);
    return status;
}

enum lyap_status lyap_outbox_put(struct lyap_engine *engine, const struct lyap_alert *alert)
{
    uint32_t count = 0;
    char *payload = NULL;
    if (alert->notice == LYAP_NOTICE_NONE)
        return LYAP_OK;
    if (alert->notice == LYAP_NOTICE_FIRING)
        return put_firing(engine, alert);
    if (alert->notice == LYAP_NOTICE_RESOLVED &&
        !(payload = payload_of(engine, alert, run_of(engine, alert))))
        return LYAP_E_NOMEM;
    const enum lyap_status status = engine->store->ops->resolve_deliveries(
        engine->store, alert->group_id, payload, lyap_clock_utc_ns(), &count);
    engine->outbox_added += status == LYAP_OK ? count : 0;
    engine->is_outbox_changed = true; /* what repeated may be done */
    free(payload);
    return status;
}

void lyap_outbox_settle(struct lyap_engine *engine, bool is_committed)
{
    if (engine->are_receivers_changed && !is_committed && lyap_outbox_load(engine) != LYAP_OK)
        lyap_log(LYAP_LOG_ERROR, "receivers-not-read", "detail=\"%s\"",
                 engine->store->ops->error_text(engine->store));
    const bool is_changed = engine->outbox_added > 0 || engine->are_receivers_changed;
    engine->are_receivers_changed = false;
    engine->is_outbox_changed |= is_changed;
    if (is_committed) {
        pthread_mutex_lock(&engine->mutex);
        engine->outbox_state.waiting += engine->outbox_added;
        struct lyap_deliverer *deliverer = engine->deliverer;
        pthread_mutex_unlock(&engine->mutex);
        if (is_changed && deliverer)
            lyap_deliverer_wake(deliverer);
    }
    engine->outbox_added = 0;
}

enum lyap_status lyap_outbox_tick(struct lyap_engine *engine, bool is_prune_due)
{
    const struct lyap_store_ops *ops = engine->store->ops;
    const struct lyap_outbox_limits limits = lyap_outbox_limits(engine);
    struct lyap_outbox_state state;
    enum lyap_status status = LYAP_OK;
    if (is_prune_due) {
        const int64_t before_ns = lyap_clock_utc_ns() - limits.keep_days * 86400 * second_ns;
        status = lyap_engine_begin(engine);
        if (status == LYAP_OK)
            status = ops->prune_deliveries(engine->store, before_ns);
    }
    if (status != LYAP_OK || !engine->is_outbox_changed)
        return status;
    status = ops->count_deliveries(engine->store, &state.waiting, &state.oldest_ns);
    if (status != LYAP_OK)
        return status;
    engine->is_outbox_changed = false;
    pthread_mutex_lock(&engine->mutex);
    engine->outbox_state = state;
    pthread_mutex_unlock(&engine->mutex);
    return LYAP_OK;
}

static const char receiver_gone[] = "the receiver was deleted";

static void give_up(struct lyap_delivery *delivery)
{
    delivery->state = delivery->delivered_ns ? LYAP_DELIVERY_DELIVERED : LYAP_DELIVERY_FAILED;
    delivery->next_ns = 0;
    memcpy(delivery->error, receiver_gone, sizeof receiver_gone);
}

enum lyap_status lyap_command_delivered(struct lyap_engine *engine, void *attempts,
                                        struct lyap_error *reterr)
{
    (void)reterr;
    enum lyap_status status = lyap_engine_begin(engine);
    for (const struct lyap_attempt *a = attempts; status == LYAP_OK && a; a = a->next) {
        struct lyap_delivery delivery = a->delivery;
        if (delivery.next_ns && !lyap_receivers_find(&engine->receivers, delivery.receiver))
            give_up(&delivery); /* its receiver was deleted meanwhile */
        status = engine->store->ops->update_delivery(engine->store, &delivery);
        if (status == LYAP_E_NOT_FOUND) /* its run was deleted meanwhile */
            status = LYAP_OK;
    }
    engine->is_outbox_changed = true;
    return status;
}

/* ---- receivers ---- */

enum lyap_status lyap_outbox_load(struct lyap_engine *engine)
{
    const struct lyap_query query = { .table = LYAP_TABLE_RECEIVERS,
                                      .after = -1,
                                      .limit = LYAP_RECEIVER_COUNT_MAX,
                                      .state = -1,
                                      .severity = -1 };
    struct lyap_receivers receivers = LYAP_RECEIVERS_NULL;
    struct lyap_cursor *cursor;
    struct lyap_record record;
    enum lyap_status status = engine->store->ops->query(engine->store, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK) {
        status = lyap_receivers_put(&receivers, &record.u.receiver, NULL);
        if (status != LYAP_OK)
            break;
    }
    cursor->close(cursor);
    if (status != LYAP_E_NOT_FOUND) {
        lyap_receivers_release(&receivers);
        return status;
    }
    lyap_receivers_release(&engine->receivers);
    engine->receivers = receivers;
    return LYAP_OK;
}

static enum lyap_status put_receiver(struct lyap_engine *engine,
                                     const struct lyap_receiver *receiver,
                                     struct lyap_error *reterr)
{
    enum lyap_status status = lyap_engine_begin(engine);
    if (status != LYAP_OK)
        return status;
    engine->are_receivers_changed = true;
    status = lyap_receivers_put(&engine->receivers, receiver, reterr);
    if (status != LYAP_OK)
        return status;
    /* The copy: what was given may have borrowed from the one that it replaced. */
    const struct lyap_receiver_entry *entry =
        lyap_receivers_find(&engine->receivers, receiver->name);
    return engine->store->ops->put_receiver(engine->store, &entry->receiver);
}

enum lyap_status lyap_command_receiver_put(struct lyap_engine *engine, void *put_receiver_args,
                                           struct lyap_error *reterr)
{
    struct lyap_put_receiver_args *args = put_receiver_args;
    struct lyap_receiver receiver = *args->receiver;
    const struct lyap_receiver_entry *present =
        lyap_receivers_find(&engine->receivers, receiver.name);
    if (present && present->receiver.is_from_file)
        return lyap_error_set(reterr, LYAP_E_CONFLICT,
                              "receiver %s comes from receivers_file: change it there",
                              receiver.name);
    if (present && args->keeps_secret && receiver.type == LYAP_RECEIVER_WEBHOOK)
        receiver.secret = present->receiver.secret;
    args->is_created = !present;
    return put_receiver(engine, &receiver, reterr);
}

static enum lyap_status remove_receiver(struct lyap_engine *engine, const char *name)
{
    const struct lyap_store_ops *ops = engine->store->ops;
    enum lyap_status status = lyap_engine_begin(engine);
    if (status == LYAP_OK)
        status = ops->delete_receiver(engine->store, name);
    if (status == LYAP_OK)
        status = ops->fail_deliveries(engine->store, name, receiver_gone);
    if (status != LYAP_OK)
        return status;
    engine->are_receivers_changed = true;
    lyap_receivers_remove(&engine->receivers, name);
    return LYAP_OK;
}

/* The first rule that names the receiver, or NULL. */
static const char *named_by(const struct lyap_engine *engine, const char *name)
{
    static const struct lyap_labels none = LYAP_LABELS_NULL;
    const struct lyap_receiver_entry *entry = lyap_receivers_find(&engine->receivers, name);
    for (uint32_t i = 0; i < engine->rules.count; i++) {
        const struct lyap_rule *rule = &engine->rules.entries[i].rule;
        if (rule->notify_json &&
            lyap_receiver_is_meant(entry, rule->notify_json, rule->severity, &none))
            return rule->name;
    }
    return NULL;
}

enum lyap_status lyap_command_receiver_delete(struct lyap_engine *engine, void *name,
                                              struct lyap_error *reterr)
{
    const struct lyap_receiver_entry *present = lyap_receivers_find(&engine->receivers, name);
    if (!present)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no receiver %s",
                              (const char *)name);
    if (present->receiver.is_from_file)
        return lyap_error_set(reterr, LYAP_E_CONFLICT,
                              "receiver %s comes from receivers_file: delete it there",
                              (const char *)name);
    const char *rule = named_by(engine, name);
    if (rule)
        return lyap_error_set(reterr, LYAP_E_CONFLICT, "rule %s notifies receiver %s", rule,
                              (const char *)name);
    return remove_receiver(engine, name);
}

enum lyap_status lyap_command_receivers_replace(struct lyap_engine *engine, void *receivers,
                                                struct lyap_error *reterr)
{
    const struct lyap_receivers *wanted = receivers;
    enum lyap_status status = LYAP_OK;
    for (uint32_t i = engine->receivers.count; status == LYAP_OK && i-- > 0;) {
        const struct lyap_receiver *present = &engine->receivers.entries[i].receiver;
        char name[LYAP_RULE_NAME_BYTES_MAX + 1];
        memcpy(name, present->name, sizeof name);
        if (present->is_from_file && !lyap_receivers_find(wanted, name))
            status = remove_receiver(engine, name);
    }
    for (uint32_t i = 0; status == LYAP_OK && i < wanted->count; i++)
        status = put_receiver(engine, &wanted->entries[i].receiver, reterr);
    return status;
}
