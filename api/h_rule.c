/* Handlers of rules and alerts. */
#include "handlers.h"

#include <string.h>

#include "codec.h"

/* ---- rules ---- */

/* The store may or may not filter rules by name: every row is looked at, at most
 * LYAP_RULE_COUNT_MAX. */
static enum lyap_status encode_rule_named(const struct api_request *request, const char *name,
                                          struct api_text *text, struct lyap_error *reterr)
{
    struct lyap_query query = api_query_init(LYAP_TABLE_RULES);
    struct lyap_cursor *cursor = NULL;
    query.rule = name;
    query.limit = LYAP_RULE_COUNT_MAX;
    enum lyap_status status = request->ports->query(request->ports->ctx, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    struct lyap_record record;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK)
        if (strcmp(record.u.rule.name, name) == 0)
            break;
    if (status == LYAP_OK)
        api_encode_rule(text, &record);
    cursor->close(cursor);
    api_text_puts(text, "\n");
    return status == LYAP_E_NOT_FOUND
               ? lyap_error_set(reterr, status, "there is no rule '%.80s'", name)
               : status;
}

enum lyap_status api_h_rule_list(const struct api_request *request, struct api_reply *reply,
                                 struct lyap_error *reterr)
{
    const struct api_list list = { .name = "rules",
                                   .table = 'u',
                                   .query = api_query_init(LYAP_TABLE_RULES),
                                   .encode = api_encode_rule };
    return api_list_reply(request, &list, reply, reterr);
}

enum lyap_status api_h_rule_get(const struct api_request *request, struct api_reply *reply,
                                struct lyap_error *reterr)
{
    return encode_rule_named(request, request->path_args[0], &reply->body, reterr);
}

enum lyap_status api_h_rule_put(const struct api_request *request, struct api_reply *reply,
                                struct lyap_error *reterr)
{
    const struct api_ports *ports = request->ports;
    struct lyap_rule rule;
    bool is_created = false;
    enum lyap_status status =
        api_decode_rule(request->path_args[0], request->body, request->body_bytes, &rule, reterr);
    if (status != LYAP_OK)
        return status;
    status = ports->rule_put(ports->ctx, &rule, &is_created, reterr);
    api_rule_release(&rule);
    if (status != LYAP_OK)
        return status;
    reply->http_status = is_created ? 201 : 200;
    return encode_rule_named(request, request->path_args[0], &reply->body, reterr);
}

enum lyap_status api_h_rule_delete(const struct api_request *request, struct api_reply *reply,
                                   struct lyap_error *reterr)
{
    const struct api_ports *ports = request->ports;
    const char *name = request->path_args[0];
    if (!lyap_rule_name_is_valid(name))
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no rule '%.80s'", name);
    reply->http_status = 204;
    return ports->rule_delete(ports->ctx, name, reterr);
}

/* ---- alerts ---- */

enum lyap_status api_h_alert_list(const struct api_request *request, struct api_reply *reply,
                                  struct lyap_error *reterr)
{
    struct api_list list = { .name = "alerts",
                             .table = 'l',
                             .query = api_query_init(LYAP_TABLE_ALERTS),
                             .encode = api_encode_alert };
    const char *state = api_query_get(request, "state");
    const char *severity = api_query_get(request, "severity");
    enum lyap_alert_state state_value;
    enum lyap_severity severity_value;
    if (state && lyap_alert_state_parse(state, &state_value))
        list.query.state = (int)state_value;
    if (severity && lyap_severity_parse(severity, &severity_value))
        list.query.severity = (int)severity_value;
    list.query.run = api_query_get(request, "run");
    list.query.rule = api_query_get(request, "rule");
    if (list.query.run) {
        struct lyap_run_record record;
        const enum lyap_status status = api_find_run(request, list.query.run, &record, reterr);
        if (status != LYAP_OK)
            return status;
    }
    return api_list_reply(request, &list, reply, reterr);
}

struct alert_view {
    int64_t id;
    struct api_text *text;
};

static enum lyap_status view_alert(void *arg, const struct lyap_record *record)
{
    const struct alert_view *view = arg;
    if (record->u.alert.id != view->id)
        return LYAP_E_NOT_FOUND;
    api_encode_alert(view->text, record);
    api_text_puts(view->text, "\n");
    return LYAP_OK;
}

/* The key of alerts is their id: the one after id - 1. */
static enum lyap_status encode_alert_by_id(const struct api_request *request, int64_t id,
                                           struct api_text *text, struct lyap_error *reterr)
{
    struct lyap_query query = api_query_init(LYAP_TABLE_ALERTS);
    struct alert_view view = { id, text };
    query.after = id - 1;
    const enum lyap_status status = api_first_row(request, &query, view_alert, &view);
    return status == LYAP_E_NOT_FOUND
               ? lyap_error_set(reterr, status, "there is no alert %lld", (long long)id)
               : status;
}

enum lyap_status api_h_alert_get(const struct api_request *request, struct api_reply *reply,
                                 struct lyap_error *reterr)
{
    int64_t id;
    const enum lyap_status status = api_path_id(request, &id, reterr);
    return status == LYAP_OK ? encode_alert_by_id(request, id, &reply->body, reterr) : status;
}

enum lyap_status api_h_alert_ack(const struct api_request *request, struct api_reply *reply,
                                 struct lyap_error *reterr)
{
    const struct api_ports *ports = request->ports;
    int64_t id;
    enum lyap_status status = api_path_id(request, &id, reterr);
    if (status == LYAP_OK)
        status = ports->alert_ack(ports->ctx, id, reterr);
    return status == LYAP_OK ? encode_alert_by_id(request, id, &reply->body, reterr) : status;
}
