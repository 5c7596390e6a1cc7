/* Life of an admitted push, replies. */
#include "ticket.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine.h"
#include "lyap/alloc.h"

struct api_push_reply *lyap_reply_new(const char *run)
{
    struct api_push_reply *reply = lyap_alloc_array(1, sizeof *reply);
    if (!reply)
        return NULL;
    lyap_point_init(&reply->point);
    (void)snprintf(reply->run, sizeof reply->run, "%s", run);
    reply->status = reply->error.status = LYAP_E_INTERNAL;
    return reply;
}

void lyap_reply_fail(struct api_push_reply *reply, enum lyap_status status, const char *text)
{
    assert(status != LYAP_OK);
    lyap_alert_list_free(reply->alerts, reply->alert_count);
    lyap_point_release(&reply->point);
    lyap_point_init(&reply->point);
    reply->alerts = NULL;
    reply->alert_count = 0;
    reply->status = status;
    reply->error.status = status;
    (void)snprintf(reply->error.text, sizeof reply->error.text, "%s", text);
}

/* The rank's upload goes on with the other tickets of its NDJSON body, or is over. */
static void upload_leave(struct api_ticket *ticket)
{
    struct lyap_rank *rank = &ticket->run->ranks[ticket->snapshot.rank];
    assert(rank->tickets > 0);
    if (rank->uploading == ticket)
        rank->uploading = NULL;
    if (--rank->tickets == 0)
        rank->upload_step = -1;
}

void lyap_ticket_answered(struct api_ticket *ticket)
{
    struct lyap_engine *engine = ticket->engine;
    lyap_registry_lock(engine->registry);
    if (ticket->has_upload)
        upload_leave(ticket);
    lyap_registry_unlock(engine->registry);
    ticket->has_upload = false;
    const uint64_t bytes = ticket->is_held ? 0 : ticket->reserved_bytes;
    if (ticket->has_place || bytes)
        lyap_queue_unreserve(engine->queue, ticket->has_place ? 1 : 0, bytes);
    ticket->has_place = false;
    ticket->reserved_bytes -= bytes;
}

void lyap_ticket_free(struct api_ticket *ticket)
{
    if (!ticket)
        return;
    struct lyap_engine *engine = ticket->engine;
    ticket->is_held = false;
    lyap_ticket_answered(ticket);
    lyap_registry_lock(engine->registry);
    if (ticket->run->rank_count > ticket->snapshot.rank) {
        struct lyap_rank *rank = &ticket->run->ranks[ticket->snapshot.rank];
        lyap_rank_drop(rank, ticket->previous);
        lyap_rank_drop(rank, ticket->memory);
    }
    lyap_registry_unlock(engine->registry);
    lyap_run_unref(engine->registry, ticket->run);
    lyap_shared_declaration_unref(ticket->declaration);
    lyap_snapshot_release(&ticket->snapshot);
    lyap_partial_release(&ticket->partial);
    lyap_shared_plan_unref(ticket->spectral);
    if (ticket->reply)
        api_push_reply_free(ticket->reply);
    lyap_free(ticket);
}

static bool text_dup(const char *text, const char **ret)
{
    *ret = NULL;
    if (!text)
        return true;
    *ret = lyap_alloc_string(text);
    return *ret != NULL;
}

/* Null strings where memory was short. */
static bool alert_copy(const struct lyap_alert *source, struct lyap_alert *copy)
{
    *copy = *source;
    copy->tensor = copy->summary = copy->evidence_json = NULL;
    return text_dup(source->tensor, &copy->tensor) && text_dup(source->summary, &copy->summary) &&
           text_dup(source->evidence_json, &copy->evidence_json);
}

enum lyap_status lyap_alerts_copy(const struct lyap_alerts *alerts, struct lyap_alert **ret_copy)
{
    const uint32_t count = lyap_alerts_count(alerts);
    struct lyap_alert *copy = lyap_alloc_array(count, sizeof *copy);
    if (!copy)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        if (alert_copy(lyap_alerts_get(alerts, i), &copy[i]))
            continue;
        lyap_alert_list_free(copy, i + 1);
        return LYAP_E_NOMEM;
    }
    *ret_copy = copy;
    return LYAP_OK;
}

enum lyap_status lyap_alert_list_copy(const struct lyap_alert *alerts, uint32_t count,
                                      struct lyap_alert **ret_copy)
{
    struct lyap_alert *copy = lyap_alloc_array(count, sizeof *copy);
    if (!copy)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        if (alert_copy(&alerts[i], &copy[i]))
            continue;
        lyap_alert_list_free(copy, i + 1);
        return LYAP_E_NOMEM;
    }
    *ret_copy = copy;
    return LYAP_OK;
}

void lyap_alert_list_free(struct lyap_alert *alerts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        lyap_free((char *)alerts[i].tensor);
        lyap_free((char *)alerts[i].summary);
        lyap_free((char *)alerts[i].evidence_json);
    }
    lyap_free(alerts);
}
