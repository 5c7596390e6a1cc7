/* Handlers of receivers and deliveries. */
#include "handlers.h"

#include <string.h>

#include "codec.h"

/* ---- receivers ---- */

/* At most LYAP_RECEIVER_COUNT_MAX rows. */
static enum lyap_status encode_receiver_named(const struct api_request *request, const char *name,
                                              struct api_text *text, struct lyap_error *reterr)
{
    struct lyap_query query = api_query_init(LYAP_TABLE_RECEIVERS);
    struct lyap_cursor *cursor = NULL;
    query.limit = LYAP_RECEIVER_COUNT_MAX;
    enum lyap_status status = request->ports->query(request->ports->ctx, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    struct lyap_record record;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK)
        if (strcmp(record.u.receiver.name, name) == 0)
            break;
    if (status == LYAP_OK)
        api_encode_receiver(text, &record);
    cursor->close(cursor);
    api_text_puts(text, "\n");
    return status == LYAP_E_NOT_FOUND
               ? lyap_error_set(reterr, status, "there is no receiver '%.80s'", name)
               : status;
}

enum lyap_status api_h_receiver_list(const struct api_request *request, struct api_reply *reply,
                                     struct lyap_error *reterr)
{
    const struct api_list list = { .name = "receivers",
                                   .table = 'v',
                                   .query = api_query_init(LYAP_TABLE_RECEIVERS),
                                   .encode = api_encode_receiver };
    return api_list_reply(request, &list, reply, reterr);
}

enum lyap_status api_h_receiver_get(const struct api_request *request, struct api_reply *reply,
                                    struct lyap_error *reterr)
{
    return encode_receiver_named(request, request->path_args[0], &reply->body, reterr);
}

enum lyap_status api_h_receiver_put(const struct api_request *request, struct api_reply *reply,
                                    struct lyap_error *reterr)
{
    const struct api_ports *ports = request->ports;
    struct lyap_receiver receiver;
    bool keeps_secret = false, is_created = false;
    enum lyap_status status =
        api_decode_receiver(request->path_args[0], request->body, request->body_bytes, &receiver,
                            &keeps_secret, reterr);
    if (status != LYAP_OK)
        return status;
    status = ports->receiver_put(ports->ctx, &receiver, keeps_secret, &is_created, reterr);
    api_receiver_release(&receiver);
    if (status != LYAP_OK)
        return status;
    reply->http_status = is_created ? 201 : 200;
    return encode_receiver_named(request, request->path_args[0], &reply->body, reterr);
}

enum lyap_status api_h_receiver_delete(const struct api_request *request, struct api_reply *reply,
                                       struct lyap_error *reterr)
{
    const struct api_ports *ports = request->ports;
    const char *name = request->path_args[0];
    if (!lyap_rule_name_is_valid(name))
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no receiver '%.80s'", name);
    reply->http_status = 204;
    return ports->receiver_delete(ports->ctx, name, reterr);
}

/* ---- deliveries ---- */

static enum lyap_status delivery_list(const struct api_request *request, int64_t alert,
                                      struct api_reply *reply, struct lyap_error *reterr)
{
    struct api_list list = { .name = "deliveries",
                             .table = 'd',
                             .query = api_query_init(LYAP_TABLE_DELIVERIES),
                             .encode = api_encode_delivery };
    const char *state = api_query_get(request, "state");
    enum lyap_delivery_state state_value;
    if (state && lyap_delivery_state_parse(state, &state_value))
        list.query.state = (int)state_value;
    list.query.receiver = api_query_get(request, "receiver");
    list.query.alert = alert;
    return api_list_reply(request, &list, reply, reterr);
}

enum lyap_status api_h_delivery_list(const struct api_request *request, struct api_reply *reply,
                                     struct lyap_error *reterr)
{
    return delivery_list(request, 0, reply, reterr);
}

static enum lyap_status is_alert(void *arg, const struct lyap_record *record)
{
    return record->u.alert.id == *(const int64_t *)arg ? LYAP_OK : LYAP_E_NOT_FOUND;
}

enum lyap_status api_h_alert_deliveries(const struct api_request *request, struct api_reply *reply,
                                        struct lyap_error *reterr)
{
    int64_t id;
    enum lyap_status status = api_path_id(request, &id, reterr);
    if (status != LYAP_OK)
        return status;
    struct lyap_query query = api_query_init(LYAP_TABLE_ALERTS);
    query.after = id - 1;
    status = api_first_row(request, &query, is_alert, &id);
    if (status == LYAP_E_NOT_FOUND)
        return lyap_error_set(reterr, status, "there is no alert %lld", (long long)id);
    return status == LYAP_OK ? delivery_list(request, id, reply, reterr) : status;
}
