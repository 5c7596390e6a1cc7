/* Handlers of rules, their versions and replays. */
#include "handlers.h"

#include <string.h>

#include "codec.h"

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

/* ---- versions ---- */

struct version_view {
    int64_t version;
    struct api_text *text;
};

static enum lyap_status view_version(void *arg, const struct lyap_record *record)
{
    const struct version_view *view = arg;
    if (record->key != view->version)
        return LYAP_E_NOT_FOUND;
    api_encode_rule(view->text, record);
    api_text_puts(view->text, "\n");
    return LYAP_OK;
}

static enum lyap_status encode_version(const struct api_request *request, const char *name,
                                       struct api_text *text, struct lyap_error *reterr)
{
    struct lyap_query query = api_query_init(LYAP_TABLE_RULE_VERSIONS);
    struct version_view view = { .text = text };
    const struct api_range range = { 1, INT32_MAX, 1 };
    enum lyap_status status = api_query_int(request, "version", range, &view.version, reterr);
    if (status != LYAP_OK)
        return status;
    query.rule = name;
    query.after = view.version - 1;
    status = api_first_row(request, &query, view_version, &view);
    return status == LYAP_E_NOT_FOUND
               ? lyap_error_set(reterr, status, "rule '%.80s' has no version %lld on record", name,
                                (long long)view.version)
               : status;
}

enum lyap_status api_h_rule_get(const struct api_request *request, struct api_reply *reply,
                                struct lyap_error *reterr)
{
    const char *name = request->path_args[0];
    return api_query_get(request, "version")
               ? encode_version(request, name, &reply->body, reterr)
               : encode_rule_named(request, name, &reply->body, reterr);
}

enum lyap_status api_h_rule_versions(const struct api_request *request, struct api_reply *reply,
                                     struct lyap_error *reterr)
{
    struct api_list list = { .name = "versions",
                             .table = 'v',
                             .query = api_query_init(LYAP_TABLE_RULE_VERSIONS),
                             .encode = api_encode_rule };
    list.query.rule = request->path_args[0];
    return api_list_reply(request, &list, reply, reterr);
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

/* ---- replay ---- */

static enum lyap_status read_range(const struct api_request *request,
                                   struct api_replay_request *replay, struct lyap_error *reterr)
{
    const struct api_range attempts = { 1, INT32_MAX, 0 }, from = { 0, LYAP_STEP_MAX, 0 },
                           to = { 0, LYAP_STEP_MAX, LYAP_STEP_MAX };
    int64_t attempt = 0;
    enum lyap_status status = api_query_int(request, "attempt", attempts, &attempt, reterr);
    if (status == LYAP_OK)
        status = api_query_int(request, "from", from, &replay->from_step, reterr);
    if (status == LYAP_OK)
        status = api_query_int(request, "to", to, &replay->to_step, reterr);
    replay->attempt = (uint32_t)attempt;
    if (status == LYAP_OK && !replay->run)
        return lyap_error_set(reterr, LYAP_E_MISSING_FIELD, "query parameter 'run' is missing");
    return status == LYAP_OK ? api_check_run_name(replay->run, reterr) : status;
}

enum lyap_status api_h_rule_replay(const struct api_request *request, struct api_reply *reply,
                                   struct lyap_error *reterr)
{
    const struct api_ports *ports = request->ports;
    struct api_replay_request replay = { .run = api_query_get(request, "run"),
                                         .rule = request->path_args[0] };
    struct api_replay result;
    struct lyap_rule body = { .name = "" };
    enum lyap_status status = read_range(request, &replay, reterr);
    if (status == LYAP_OK && request->body_bytes > 0) {
        status = api_decode_rule(replay.rule, request->body, request->body_bytes, &body, reterr);
        replay.body = &body;
    }
    if (status == LYAP_OK)
        status = ports->replay(ports->ctx, &replay, &result, reterr);
    if (status == LYAP_OK) {
        api_encode_replay(&reply->body, &replay, &result);
        api_replay_release(&result);
    }
    api_rule_release(&body);
    return status;
}
