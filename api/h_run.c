/* Handlers of runs, attempts, events and tensors. */
#include "handlers.h"

#include <stdlib.h>
#include <string.h>

#include "codec.h"

static int find_state(const char *word)
{
    for (int i = 0; word && i < LYAP_STATE_COUNT; i++)
        if (strcmp(lyap_run_state_name((enum lyap_run_state)i), word) == 0)
            return i;
    return -1;
}

/* label=key:value or key=value; the first of the two signs separates. Cuts the parameter in place:
 * its memory is the request's. */
static enum lyap_status split_label(const char *label, struct lyap_query *query,
                                    struct lyap_error *reterr)
{
    char *sign = strpbrk((char *)(uintptr_t)label, ":=");
    if (!sign || sign == label)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "query parameter 'label' is '%.64s'; key:value is needed", label);
    *sign = '\0';
    query->label_key = label;
    query->label_value = sign + 1;
    return LYAP_OK;
}

enum lyap_status api_h_run_list(const struct api_request *request, struct api_reply *reply,
                                struct lyap_error *reterr)
{
    struct api_list list = { .name = "runs",
                             .table = 'r',
                             .query = api_query_init(LYAP_TABLE_RUNS),
                             .encode = api_encode_run };
    const char *label = api_query_get(request, "label");
    list.query.state = find_state(api_query_get(request, "state"));
    const enum lyap_status status = label ? split_label(label, &list.query, reterr) : LYAP_OK;
    return status == LYAP_OK ? api_list_reply(request, &list, reply, reterr) : status;
}

/* ---- PUT ---- */

static enum lyap_status keep_declaration(void *arg, const struct lyap_record *record)
{
    char **ret_json = arg;
    *ret_json = strdup(record->u.run.declaration_json ? record->u.run.declaration_json : "{}");
    return *ret_json ? LYAP_OK : LYAP_E_NOMEM;
}

struct run_view {
    struct api_text *text;
    uint32_t attempt; /* 0: the current one */
    const struct lyap_point *point;
    bool has_point;
};

static void encode_declaration(struct api_text *text, const char *json)
{
    api_json_key(text, "declaration");
    api_json_raw(text, json ? json : "{}");
}

static enum lyap_status view_run(void *arg, const struct lyap_record *record)
{
    const struct run_view *view = arg;
    struct lyap_run_record run = record->u.run;
    run.attempt = view->attempt ? view->attempt : run.attempt;
    api_json_open(view->text, '{');
    api_encode_run_members(view->text, &run);
    encode_declaration(view->text, run.declaration_json);
    if (!view->has_point)
        api_json_close(view->text, '}'); /* GET goes on with point and alerts */
    return view->text->status;
}

enum lyap_status api_h_run_put(const struct api_request *request, struct api_reply *reply,
                               struct lyap_error *reterr)
{
    const char *run = request->path_args[0];
    const struct api_ports *ports = request->ports;
    char *base = NULL;
    struct api_run_put put = { 0 };
    struct api_run_put_result result = { 0 };
    struct lyap_query query = api_query_init(LYAP_TABLE_RUNS);
    query.run = run;
    enum lyap_status status = api_check_run_name(run, reterr);
    if (status == LYAP_OK)
        status = api_first_row(request, &query, keep_declaration, &base);
    if (status == LYAP_E_NOT_FOUND)
        status = LYAP_OK;
    if (status == LYAP_OK)
        status = api_decode_run(request->body, request->body_bytes, base, &put, reterr);
    free(base);
    if (status != LYAP_OK)
        return status;
    put.run = run;
    status = ports->run_put(ports->ctx, &put, &result, reterr);
    api_run_put_release(&put);
    if (status != LYAP_OK)
        return status;
    reply->http_status = result.is_created ? 201 : 200;
    struct run_view view = { .text = &reply->body, .attempt = result.attempt };
    status = api_first_row(request, &query, view_run, &view);
    api_text_puts(&reply->body, "\n");
    return status;
}

/* ---- GET ---- */

static enum lyap_status encode_firing(const struct api_request *request, const char *run,
                                      struct api_text *text)
{
    struct lyap_query query = api_query_init(LYAP_TABLE_ALERTS);
    struct lyap_cursor *cursor = NULL;
    query.run = run;
    query.state = LYAP_ALERT_FIRING;
    query.limit = LYAP_LIST_LIMIT_MAX; /* more than a run can have open */
    enum lyap_status status = request->ports->query(request->ports->ctx, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    struct lyap_record record;
    api_json_key(text, "alerts");
    api_json_open(text, '[');
    while ((status = cursor->next(cursor, &record)) == LYAP_OK)
        api_encode_alert(text, &record);
    api_json_close(text, ']');
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

enum lyap_status api_h_run_get(const struct api_request *request, struct api_reply *reply,
                               struct lyap_error *reterr)
{
    const char *run = request->path_args[0];
    struct api_text *text = &reply->body;
    struct run_view view = { .text = text, .has_point = true };
    struct lyap_run_record record;
    struct lyap_query query = api_query_init(LYAP_TABLE_RUNS);
    query.run = run;
    enum lyap_status status = api_find_run(request, run, &record, reterr);
    if (status == LYAP_OK)
        status = api_first_row(request, &query, view_run, &view);
    if (status != LYAP_OK)
        return status;
    struct lyap_point point;
    status = api_last_point(request, run, &point);
    api_json_key(text, "point");
    if (status == LYAP_OK) {
        api_json_open(text, '{');
        api_encode_point_members(text, run, &point, true);
        api_json_close(text, '}');
        lyap_point_release(&point);
    } else if (status == LYAP_E_NOT_FOUND) {
        api_json_null(text);
    } else {
        return status;
    }
    status = encode_firing(request, run, text);
    api_json_close(text, '}');
    api_text_puts(text, "\n");
    return status;
}

enum lyap_status api_h_run_delete(const struct api_request *request, struct api_reply *reply,
                                  struct lyap_error *reterr)
{
    const struct api_ports *ports = request->ports;
    const char *run = request->path_args[0];
    enum lyap_status status = api_check_run_name(run, reterr);
    if (status == LYAP_OK)
        status = ports->run_delete(ports->ctx, run, reterr);
    reply->http_status = 204;
    return status;
}

/* ---- what belongs to one run ---- */

static enum lyap_status list_of_run(const struct api_request *request, struct api_list *list,
                                    struct api_reply *reply, struct lyap_error *reterr)
{
    struct lyap_run_record record;
    list->run = list->query.run = request->path_args[0];
    const enum lyap_status status = api_find_run(request, list->run, &record, reterr);
    return status == LYAP_OK ? api_list_reply(request, list, reply, reterr) : status;
}

enum lyap_status api_h_attempts(const struct api_request *request, struct api_reply *reply,
                                struct lyap_error *reterr)
{
    struct api_list list = { .name = "attempts",
                             .table = 'a',
                             .query = api_query_init(LYAP_TABLE_ATTEMPTS),
                             .encode = api_encode_attempt };
    return list_of_run(request, &list, reply, reterr);
}

enum lyap_status api_h_events(const struct api_request *request, struct api_reply *reply,
                              struct lyap_error *reterr)
{
    struct api_list list = { .name = "events",
                             .table = 'e',
                             .query = api_query_init(LYAP_TABLE_EVENTS),
                             .encode = api_encode_event };
    return list_of_run(request, &list, reply, reterr);
}

enum lyap_status api_h_layers(const struct api_request *request, struct api_reply *reply,
                              struct lyap_error *reterr)
{
    struct api_list list = { .name = "layers",
                             .table = 'y',
                             .query = api_query_init(LYAP_TABLE_LAYERS),
                             .encode = api_encode_layer };
    const struct api_range range = { 0, UINT32_MAX, 0 };
    int64_t attempt;
    const enum lyap_status status = api_query_int(request, "attempt", range, &attempt, reterr);
    if (status != LYAP_OK)
        return status;
    list.query.attempt = (uint32_t)attempt;
    return list_of_run(request, &list, reply, reterr);
}

enum lyap_status api_h_tensors(const struct api_request *request, struct api_reply *reply,
                               struct lyap_error *reterr)
{
    struct api_list list = { .name = "tensors",
                             .table = 't',
                             .query = api_query_init(LYAP_TABLE_TENSORS),
                             .encode = api_encode_tensor };
    const char *sort = api_query_get(request, "sort");
    const struct api_range range = { 0, UINT32_MAX, 0 };
    int64_t attempt;
    const enum lyap_status status = api_query_int(request, "attempt", range, &attempt, reterr);
    if (status != LYAP_OK)
        return status;
    list.sort = sort ? sort : "grad_norm";
    if (!lyap_tensor_metric_parse(list.sort, &list.query.sort))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "query parameter 'sort': '%.64s' is not a metric of a tensor", sort);
    list.query.attempt = (uint32_t)attempt;
    return list_of_run(request, &list, reply, reterr);
}
