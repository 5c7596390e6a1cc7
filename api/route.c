/* The table of routes, and matching a request against it. */
#include "route.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/limits.h"

enum {
    RULE_BODY_MAX = 64 << 10, /* a rule with every label at its limit is under 20 KiB */
    PACK_BODY_MAX = 128 << 10 /* LYAP_RULE_COUNT_MAX names */
};

static const struct api_param params[] = {
    { "limit", API_PARAM_INTEGER, false, NULL,
      "Largest number of rows of this page (lists: 1 to 1000, default 100; profile: 1 to 10000, "
      "default 1000)." },
    { "cursor", API_PARAM_STRING, false, NULL,
      "The `cursor` of an earlier answer: only what comes after it." },
    { "order", API_PARAM_ENUM, false, "asc,desc",
      "asc (default): oldest first, so that a cursor answers what is new; desc: newest first." },
    { "label", API_PARAM_STRING, false, NULL, "`key:value` or `key=value`: a label of the run." },
    { "run_state", API_PARAM_ENUM, false, "blind,warming-up,healthy,unstable,silent,ended",
      "State of the run." },
    { "alert_state", API_PARAM_ENUM, false, "pending,firing,resolved", "State of the alert." },
    { "severity", API_PARAM_ENUM, false, "info,warning,critical", "Severity of the alert." },
    { "delivery_state", API_PARAM_ENUM, false, "waiting,repeating,delivered,failed",
      "State of the delivery." },
    { "receiver", API_PARAM_STRING, false, NULL, "Name of a receiver." },
    { "run", API_PARAM_STRING, false, NULL, "Name of a run; of events: a pattern." },
    { "types", API_PARAM_STRING, false, NULL, "Comma list of point, alert, mark (default: all)." },
    { "last_id", API_PARAM_STRING, false, NULL,
      "Id of the last event seen, for clients that cannot send Last-Event-ID." },
    { "rule", API_PARAM_STRING, false, NULL, "Name of a rule." },
    { "version", API_PARAM_INTEGER, false, NULL, "An earlier version of the rule." },
    { "silenced", API_PARAM_ENUM, false, "true,false", "Whether a silence holds the alert back." },
    { "acked", API_PARAM_ENUM, false, "true,false", "Whether the alert is acknowledged now." },
    { "ended", API_PARAM_ENUM, false, "true,false",
      "Also silences that are over (default false)." },
    { "since", API_PARAM_STRING, false, NULL,
      "Alerts that changed at this time or later: RFC 3339, or seconds since 1970." },
    { "window", API_PARAM_INTEGER, true, NULL,
      "Length of a window in steps, 2 to 65536; repeatable. Without it those of the run." },
    { "at", API_PARAM_INTEGER, false, NULL, "Last step of the windows; the newest when absent." },
    { "metric", API_PARAM_STRING, true, NULL,
      "A metric (repeatable, at most 64); every metric when absent." },
    { "tensor", API_PARAM_STRING, false, NULL,
      "Name of a tensor: the series of its own metrics instead of the point's." },
    { "attempt", API_PARAM_INTEGER, false, NULL, "Attempt of the run; the current one if absent." },
    { "from", API_PARAM_INTEGER, false, NULL, "First step, inclusive." },
    { "to", API_PARAM_INTEGER, false, NULL, "Last step, inclusive." },
    { "points", API_PARAM_INTEGER, false, NULL,
      "Roll the range up to at most this many rows (1 to 10000); minimum and maximum are kept." },
    { "sort", API_PARAM_STRING, false, NULL,
      "Tensor metric to sort by, largest first (default grad_norm)." },
};

#define JSON_ONLY API_TYPE_JSON
#define SERIES    API_TYPE_JSON "," API_TYPE_NDJSON ",text/csv"
#define PUSHED    API_TYPE_JSON "," API_TYPE_NDJSON
/* clang-format off */
static const struct api_route routes[] = {
    { API_GET, API_SCOPE_NONE, "/", api_h_index, 0, 0,
      "", JSON_ONLY,
      "Index of the routes." },
    { API_GET, API_SCOPE_NONE, "/healthz", api_h_health, 0, 0,
      "", JSON_ONLY,
      "Liveness: the process answers." },
    { API_GET, API_SCOPE_READ, "/readyz", api_h_ready, 0, 0,
      "", JSON_ONLY,
      "Readiness: the store is writable and the engine takes pushes; 503 says what is wrong." },
    { API_GET, API_SCOPE_READ, "/metrics", api_h_metrics, 0, 0,
      "", "text/plain",
      "The daemon's own counters and the newest metrics of each run, as Prometheus text." },
    { API_GET, API_SCOPE_READ, "/v1/config", api_h_config, 0, 0,
      "", JSON_ONLY,
      "Effective settings, without secrets." },
    { API_GET, API_SCOPE_NONE, "/v1/openapi.json", api_h_openapi, 0, 0,
      "", JSON_ONLY,
      "This interface as OpenAPI 3.1." },
    { API_GET, API_SCOPE_READ, "/v1/runs", api_h_run_list, 0, API_ROUTE_LIST,
      "label run_state order limit cursor", JSON_ONLY,
      "Runs, filtered by label and state." },
    { API_PUT, API_SCOPE_PUSH, "/v1/runs/{run}", api_h_run_put, LYAP_JSON_BYTES_MAX, API_ROUTE_BODY,
      "", JSON_ONLY,
      "Create a run or change its declaration, labels or attempt; what the body leaves out "
      "stays." },
    { API_GET, API_SCOPE_READ, "/v1/runs/{run}", api_h_run_get, 0, 0,
      "", JSON_ONLY,
      "One run with its last point and firing alerts." },
    { API_DELETE, API_SCOPE_ADMIN, "/v1/runs/{run}", api_h_run_delete, 0, 0,
      "", "",
      "Delete a run with all its points and alerts." },
    { API_POST, API_SCOPE_PUSH, "/v1/runs/{run}/snapshots", NULL, 0, API_ROUTE_INGEST,
      "", PUSHED,
      "Push a snapshot; also creates the run. The query string may carry the keys of the "
      "metadata." },
    { API_GET, API_SCOPE_READ, "/v1/runs/{run}/profile", api_h_profile, 0, 0,
      "metric tensor attempt from to points limit cursor", SERIES,
      "Series of metrics, rolled up when `points` is given." },
    { API_GET, API_SCOPE_READ, "/v1/runs/{run}/profile/windows", api_h_windows, 0, 0,
      "metric tensor window at attempt", JSON_ONLY,
      "Rolling profile: mean, spread and slope of metrics over the last steps, for each window." },
    { API_GET, API_SCOPE_READ, "/v1/runs/{run}/profile/latest", api_h_latest, 0, 0,
      "", JSON_ONLY,
      "The last point: every metric with value, trust and error, or the reason why it is "
      "absent." },
    { API_GET, API_SCOPE_READ, "/v1/runs/{run}/points/{step}", api_h_point, 0, 0,
      "attempt", JSON_ONLY,
      "One stored point: every metric, and what its scores are made of." },
    { API_GET, API_SCOPE_READ, "/v1/runs/{run}/layers", api_h_layers, 0, API_ROUTE_LIST,
      "attempt limit cursor", JSON_ONLY,
      "Newest bounds and gains of each declared layer, in declared order." },
    { API_GET, API_SCOPE_READ, "/v1/runs/{run}/tensors", api_h_tensors, 0, API_ROUTE_LIST,
      "attempt sort limit cursor", JSON_ONLY,
      "Newest metrics of each tensor." },
    { API_GET, API_SCOPE_READ, "/v1/runs/{run}/attempts", api_h_attempts, 0, API_ROUTE_LIST,
      "order limit cursor", JSON_ONLY,
      "Attempts of a run." },
    { API_GET, API_SCOPE_READ, "/v1/runs/{run}/events", api_h_events, 0, API_ROUTE_LIST,
      "order limit cursor", JSON_ONLY,
      "Marks of a run: attempts, learning-rate changes, non-finite values, skipped steps." },
    { API_GET, API_SCOPE_READ, "/v1/events", api_h_live, 0, API_ROUTE_LIVE,
      "run types last_id", "text/event-stream",
      "Server-sent events: points, alerts and marks as they are committed. Does not end." },
    { API_GET, API_SCOPE_READ, "/v1/rules", api_h_rule_list, 0, API_ROUTE_LIST,
      "limit cursor", JSON_ONLY,
      "Rules." },
    { API_GET, API_SCOPE_READ, "/v1/rules/{rule}", api_h_rule_get, 0, 0,
      "version", JSON_ONLY,
      "One rule, or an earlier version of it." },
    { API_GET, API_SCOPE_READ, "/v1/rules/{rule}/versions", api_h_rule_versions, 0, API_ROUTE_LIST,
      "order limit cursor", JSON_ONLY,
      "Versions of a rule, also of one that is gone." },
    { API_POST, API_SCOPE_READ, "/v1/rules/{rule}/replay", api_h_rule_replay, RULE_BODY_MAX,
      API_ROUTE_BODY, "run attempt from to", JSON_ONLY,
      "Where a rule (the stored one, or the one in the body) would have fired on a stored run, and "
      "whether that was right." },
    { API_PUT, API_SCOPE_ADMIN, "/v1/rules/{rule}", api_h_rule_put, RULE_BODY_MAX, API_ROUTE_BODY,
      "", JSON_ONLY,
      "Create or replace a rule." },
    { API_DELETE, API_SCOPE_ADMIN, "/v1/rules/{rule}", api_h_rule_delete, 0, 0,
      "", "",
      "Delete a rule." },
    { API_GET, API_SCOPE_READ, "/v1/packs", api_h_pack_list, 0, 0,
      "", JSON_ONLY,
      "Packs of rules that the daemon brings." },
    { API_GET, API_SCOPE_READ, "/v1/packs/{pack}", api_h_pack_get, 0, 0,
      "", JSON_ONLY,
      "One pack." },
    { API_PUT, API_SCOPE_ADMIN, "/v1/packs/{pack}", api_h_pack_put, PACK_BODY_MAX, API_ROUTE_BODY,
      "", JSON_ONLY,
      "Switch a pack, or some of its rules, on or off." },
    { API_GET, API_SCOPE_READ, "/v1/alerts", api_h_alert_list, 0, API_ROUTE_LIST,
      "run alert_state severity rule silenced acked since order limit cursor", JSON_ONLY,
      "Alerts." },
    { API_GET, API_SCOPE_READ, "/v1/alert-groups", api_h_group_list, 0, API_ROUTE_LIST,
      "run order limit cursor", JSON_ONLY,
      "Open alerts by run, attempt and cause: what is told as one." },
    { API_GET, API_SCOPE_READ, "/v1/alerts/{id}", api_h_alert_get, 0, 0,
      "", JSON_ONLY,
      "One alert." },
    { API_POST, API_SCOPE_ADMIN, "/v1/alerts/{id}/ack", api_h_alert_ack, RULE_BODY_MAX,
      API_ROUTE_BODY, "", JSON_ONLY,
      "Acknowledge an alert." },
    { API_GET, API_SCOPE_READ, "/v1/alerts/{id}/deliveries", api_h_alert_deliveries, 0,
      API_ROUTE_LIST,
      "delivery_state receiver order limit cursor", JSON_ONLY,
      "Notifications of an alert: attempts, last error, next attempt, time of success." },
    { API_GET, API_SCOPE_READ, "/v1/deliveries", api_h_delivery_list, 0, API_ROUTE_LIST,
      "delivery_state receiver order limit cursor", JSON_ONLY,
      "Notifications of every alert." },
    { API_GET, API_SCOPE_ADMIN, "/v1/receivers", api_h_receiver_list, 0, API_ROUTE_LIST,
      "limit cursor", JSON_ONLY,
      "Receivers of notifications, without their secrets." },
    { API_GET, API_SCOPE_ADMIN, "/v1/receivers/{receiver}", api_h_receiver_get, 0, 0,
      "", JSON_ONLY,
      "One receiver, without its secrets." },
    { API_PUT, API_SCOPE_ADMIN, "/v1/receivers/{receiver}", api_h_receiver_put, RULE_BODY_MAX,
      API_ROUTE_BODY,
      "", JSON_ONLY,
      "Create or replace a receiver." },
    { API_DELETE, API_SCOPE_ADMIN, "/v1/receivers/{receiver}", api_h_receiver_delete, 0, 0,
      "", "",
      "Delete a receiver." },
    { API_POST, API_SCOPE_ADMIN, "/v1/receivers/{receiver}/test", NULL, 0, API_ROUTE_PENDING,
      "", JSON_ONLY,
      "Send a test notification; answers what became of it." },
    { API_GET, API_SCOPE_READ, "/v1/silences", api_h_silence_list, 0, API_ROUTE_LIST,
      "ended order limit cursor", JSON_ONLY,
      "Silences in force." },
    { API_POST, API_SCOPE_ADMIN, "/v1/silences", api_h_silence_post, RULE_BODY_MAX, API_ROUTE_BODY,
      "", JSON_ONLY,
      "Keep matching alerts from notifying for a time." },
    { API_DELETE, API_SCOPE_ADMIN, "/v1/silences/{id}", api_h_silence_delete, 0, 0,
      "", "",
      "End a silence." },
};
/* clang-format on */
enum {
    ROUTE_COUNT = sizeof routes / sizeof *routes,
    PARAM_COUNT = sizeof params / sizeof *params,
};

static const char *const methods[API_METHOD_COUNT] = { "GET", "PUT", "POST", "DELETE" };
static const char *const scopes[API_SCOPE_COUNT] = { "none", "read", "push", "admin" };

const char *api_method_name(enum api_method method)
{
    return methods[method];
}

const char *api_scope_name(enum api_scope scope)
{
    return scopes[scope];
}

const struct api_route *api_route_at(uint32_t index)
{
    return index < ROUTE_COUNT ? &routes[index] : NULL;
}

const char *api_param_wire_name(const struct api_param *param)
{
    const char *state = strstr(param->name, "_state");
    return state ? state + 1 : param->name;
}

bool api_route_next_param(const char **cursor, const struct api_param **ret_param)
{
    const char *word = *cursor + strspn(*cursor, " ");
    const size_t length = strcspn(word, " ");
    if (length == 0)
        return false;
    *cursor = word + length;
    for (size_t i = 0; i < PARAM_COUNT; i++) {
        if (strlen(params[i].name) == length && memcmp(params[i].name, word, length) == 0) {
            *ret_param = &params[i];
            return true;
        }
    }
    assert(!"a route names a parameter that the table lacks");
    return false;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *found = c ? strchr(digits, c) : NULL;
    if (!found)
        return -1;
    const int at = (int)(found - digits);
    return at < 16 ? at : at - 6;
}

/* Decodes percent escapes in place; an encoded NUL would cut the string and is refused. */
static bool decode(char *text, bool is_query)
{
    char *out = text;
    for (const char *in = text; *in; in++) {
        char c = is_query && *in == '+' ? ' ' : *in;
        if (*in == '%') {
            const int high = hex_digit(in[1]), low = high < 0 ? -1 : hex_digit(in[2]);
            if (low < 0 || high * 16 + low == 0)
                return false;
            c = (char)(high * 16 + low);
            in += 2;
        }
        *out++ = c;
    }
    *out = '\0';
    return true;
}

/* Cuts at every '/': "/v1/runs" becomes "v1", "runs"; "/" one empty segment. -1: too many. */
static int split_path(char *path, const char *ret_segments[API_SEGMENTS_MAX])
{
    int count = 0;
    for (char *at = path; at; count++) {
        if (*at != '/' || count == API_SEGMENTS_MAX)
            return -1;
        *at++ = '\0';
        ret_segments[count] = at;
        at = strchr(at, '/');
    }
    return count;
}

static bool path_matches(const char *pattern, const char *const *segments, int segment_count,
                         const char *ret_args[API_PATH_ARGS_MAX])
{
    int arg_count = 0;
    for (int i = 0; i < segment_count; i++) {
        if (*pattern++ != '/')
            return false;
        const size_t length = strcspn(pattern, "/");
        if (pattern[0] == '{') {
            assert(arg_count < API_PATH_ARGS_MAX);
            if (segments[i][0] == '\0')
                return false;
            ret_args[arg_count++] = segments[i];
        } else if (strlen(segments[i]) != length || memcmp(pattern, segments[i], length) != 0) {
            return false;
        }
        pattern += length;
    }
    return *pattern == '\0';
}

static void allow_add(char *allow, size_t bytes, const char *method)
{
    const size_t length = strlen(allow);
    (void)snprintf(allow + length, bytes - length, "%s%s", length ? ", " : "", method);
}

/* Looks at every row of the path before it says that the method is missing. */
static enum lyap_status find_row(const char *method, const char *const *segments, int count,
                                 struct api_match *buffers, struct api_request *request,
                                 struct lyap_error *reterr)
{
    const bool is_head = strcmp(method, "HEAD") == 0;
    buffers->allow[0] = '\0';
    for (uint32_t i = 0; i < ROUTE_COUNT; i++) {
        const char *args[API_PATH_ARGS_MAX] = { NULL };
        if (!path_matches(routes[i].path, segments, count, args))
            continue;
        const char *name = methods[routes[i].method];
        allow_add(buffers->allow, sizeof buffers->allow, name);
        if (routes[i].method == API_GET)
            allow_add(buffers->allow, sizeof buffers->allow, "HEAD");
        if (strcmp(is_head ? "GET" : method, name) == 0) {
            request->route = &routes[i];
            memcpy(request->path_args, args, sizeof args);
        }
    }
    if (buffers->allow[0] == '\0')
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND,
                              "there is no such path; GET / lists the routes");
    if (!request->route)
        return lyap_error_set(reterr, LYAP_E_METHOD, "this path has %s, not %.16s", buffers->allow,
                              method);
    return LYAP_OK;
}

static enum lyap_status parse_query(char *query, struct api_request *request,
                                    struct lyap_error *reterr)
{
    for (char *at = query, *next; at; at = next) {
        if ((next = strchr(at, '&')))
            *next++ = '\0';
        if (*at == '\0')
            continue;
        if (request->query_count == API_QUERY_PARAMS_MAX)
            return lyap_error_set(reterr, LYAP_E_LIMIT,
                                  "the query string has more than %d parameters",
                                  (int)API_QUERY_PARAMS_MAX);
        char *value = strchr(at, '=');
        if (value)
            *value++ = '\0';
        else
            value = at + strlen(at);
        if (!decode(at, true) || !decode(value, true))
            return lyap_error_set(reterr, LYAP_E_FORMAT,
                                  "the query string holds a broken percent escape near '%.40s'",
                                  at);
        request->query[request->query_count++] = (struct api_query_param){ at, value };
    }
    return LYAP_OK;
}

enum lyap_status api_route_match(const char *method, struct api_match *buffers,
                                 struct api_request *request, struct lyap_error *reterr)
{
    const char *segments[API_SEGMENTS_MAX];
    const int count = split_path(buffers->path, segments);
    if (count < 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND,
                              "there is no such path; GET / lists the routes");
    for (int i = 0; i < count; i++)
        if (!decode((char *)(uintptr_t)segments[i], false))
            return lyap_error_set(reterr, LYAP_E_FORMAT, "the path holds a broken percent escape");
    enum lyap_status status = find_row(method, segments, count, buffers, request, reterr);
    if (status == LYAP_OK && buffers->query)
        status = parse_query(buffers->query, request, reterr);
    return status;
}

static const struct api_param *row_param(const struct api_route *route, const char *name)
{
    const struct api_param *param;
    for (const char *cursor = route->params; api_route_next_param(&cursor, &param);)
        if (strcmp(api_param_wire_name(param), name) == 0)
            return param;
    return NULL;
}

static void known_params(const struct api_route *route, char *ret, size_t bytes)
{
    const struct api_param *param;
    size_t length = 0;
    ret[0] = '\0';
    for (const char *cursor = route->params; api_route_next_param(&cursor, &param);)
        length += (size_t)snprintf(ret + length, bytes - length, "%s%s", length ? ", " : "",
                                   api_param_wire_name(param));
}

static bool list_has(const char *list, const char *word)
{
    const size_t length = strlen(word);
    for (; *list; list += strspn(list, ",")) {
        const size_t span = strcspn(list, ",");
        if (span == length && memcmp(list, word, length) == 0)
            return true;
        list += span;
    }
    return false;
}

enum lyap_status api_route_check_query(const struct api_request *request, struct lyap_error *reterr)
{
    for (uint32_t i = 0; i < request->query_count; i++) {
        const struct api_query_param *given = &request->query[i];
        const struct api_param *param = row_param(request->route, given->name);
        char known[160];
        known_params(request->route, known, sizeof known);
        if (!param)
            return lyap_error_set(reterr, LYAP_E_UNKNOWN_FIELD,
                                  "query parameter '%.64s' is not known here; known: %s",
                                  given->name, known[0] ? known : "none");
        if (!param->is_repeatable && api_query_get(request, given->name) != given->value)
            return lyap_error_set(reterr, LYAP_E_CONTRADICTION,
                                  "query parameter '%s' is given twice", given->name);
        if (param->type == API_PARAM_ENUM && !list_has(param->values, given->value))
            return lyap_error_set(reterr, LYAP_E_INVALID,
                                  "query parameter '%s' is '%.64s'; allowed: %s", given->name,
                                  given->value, param->values);
    }
    return LYAP_OK;
}

const char *api_query_get(const struct api_request *request, const char *name)
{
    for (uint32_t i = 0; i < request->query_count; i++)
        if (strcmp(request->query[i].name, name) == 0)
            return request->query[i].value;
    return NULL;
}

enum lyap_status api_query_int(const struct api_request *request, const char *name,
                               struct api_range range, int64_t *ret_value,
                               struct lyap_error *reterr)
{
    const char *text = api_query_get(request, name);
    *ret_value = range.fallback;
    if (!text)
        return LYAP_OK;
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    const bool is_number = *text && strspn(text, "-0123456789") == strlen(text) && !*end;
    if (!is_number || errno != 0 || value < range.min || value > range.max)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "query parameter '%s' is '%.32s'; an integer from %" PRId64
                              " to %" PRId64 " is needed",
                              name, text, range.min, range.max);
    *ret_value = value;
    return LYAP_OK;
}
