/* Handlers of alerts and silences. */
#include <string.h>

#include "codec.h"
#include "handlers.h"
#include "lyap/text.h"

/* "true": such alone, "false": others alone, absent: any. */
static int only_if(const struct api_request *request, const char *name)
{
    const char *text = api_query_get(request, name);
    if (!text)
        return 0;
    return strcmp(text, "true") == 0 ? 1 : -1;
}

static enum lyap_status read_since(const struct api_request *request, int64_t *ret_ns,
                                   struct lyap_error *reterr)
{
    const char *text = api_query_get(request, "since");
    if (!text || lyap_text_time(text, strlen(text), ret_ns))
        return LYAP_OK;
    return lyap_error_set(reterr, LYAP_E_INVALID,
                          "query parameter 'since' is '%.40s'; a time of RFC 3339 or seconds since "
                          "1970 is needed",
                          text);
}

static enum lyap_status check_run(const struct api_request *request, const char *run,
                                  struct lyap_error *reterr)
{
    struct lyap_run_record record;
    return run ? api_find_run(request, run, &record, reterr) : LYAP_OK;
}

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
    list.query.silenced = only_if(request, "silenced");
    list.query.acked = only_if(request, "acked");
    list.query.now_ns = request->ports->now_ns(request->ports->ctx);
    enum lyap_status status = read_since(request, &list.query.since_ns, reterr);
    if (status == LYAP_OK)
        status = check_run(request, list.query.run, reterr);
    return status == LYAP_OK ? api_list_reply(request, &list, reply, reterr) : status;
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
    struct api_ack ack;
    int64_t id;
    enum lyap_status status = api_path_id(request, &id, reterr);
    if (status == LYAP_OK)
        status = api_decode_ack(request->body, request->body_bytes, ports->now_ns(ports->ctx), &ack,
                                reterr);
    if (status != LYAP_OK)
        return status;
    ack.id = id;
    status = ports->alert_ack(ports->ctx, &ack, reterr);
    return status == LYAP_OK ? encode_alert_by_id(request, id, &reply->body, reterr) : status;
}

enum lyap_status api_h_group_list(const struct api_request *request, struct api_reply *reply,
                                  struct lyap_error *reterr)
{
    struct api_list list = { .name = "groups",
                             .table = 'g',
                             .query = api_query_init(LYAP_TABLE_ALERT_GROUPS),
                             .encode = api_encode_alert_group };
    list.query.run = api_query_get(request, "run");
    list.query.now_ns = request->ports->now_ns(request->ports->ctx);
    const enum lyap_status status = check_run(request, list.query.run, reterr);
    return status == LYAP_OK ? api_list_reply(request, &list, reply, reterr) : status;
}

/* ---- silences ---- */

enum lyap_status api_h_silence_list(const struct api_request *request, struct api_reply *reply,
                                    struct lyap_error *reterr)
{
    struct api_list list = { .name = "silences",
                             .table = 'q',
                             .query = api_query_init(LYAP_TABLE_SILENCES),
                             .encode = api_encode_silence };
    const char *all = api_query_get(request, "ended");
    if (!all || strcmp(all, "true") != 0)
        list.query.now_ns = request->ports->now_ns(request->ports->ctx);
    return api_list_reply(request, &list, reply, reterr);
}

enum lyap_status api_h_silence_post(const struct api_request *request, struct api_reply *reply,
                                    struct lyap_error *reterr)
{
    const struct api_ports *ports = request->ports;
    struct lyap_record record = { .table = LYAP_TABLE_SILENCES };
    struct lyap_silence *silence = &record.u.silence;
    enum lyap_status status = api_decode_silence(request->body, request->body_bytes,
                                                 ports->now_ns(ports->ctx), silence, reterr);
    if (status != LYAP_OK)
        return status;
    status = ports->silence_put(ports->ctx, silence, reterr);
    if (status == LYAP_OK) {
        reply->http_status = 201;
        api_encode_silence(&reply->body, &record);
        api_text_puts(&reply->body, "\n");
    }
    api_silence_release(silence);
    return status;
}

enum lyap_status api_h_silence_delete(const struct api_request *request, struct api_reply *reply,
                                      struct lyap_error *reterr)
{
    const struct api_ports *ports = request->ports;
    int64_t id;
    const enum lyap_status status = api_path_id(request, &id, reterr);
    reply->http_status = 204;
    return status == LYAP_OK ? ports->silence_delete(ports->ctx, id, reterr) : status;
}
