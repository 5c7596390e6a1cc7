/* route.h - the one table of routes, and the pure functions that match a request against it.
 * THREADS: constants and pure functions. */
#ifndef LYAP_API_ROUTE_H
#define LYAP_API_ROUTE_H

#include "request.h"

enum api_scope { API_SCOPE_NONE, API_SCOPE_READ, API_SCOPE_PUSH, API_SCOPE_ADMIN, API_SCOPE_COUNT };
const char *api_scope_name(enum api_scope scope);

enum api_route_flags {
    API_ROUTE_INGEST = 1u << 0,  /* the body goes to upload.c chunk by chunk; query: meta keys */
    API_ROUTE_BODY = 1u << 1,    /* takes a JSON body */
    API_ROUTE_LIST = 1u << 2,    /* ordinary rows by `limit` and `cursor` */
    API_ROUTE_PENDING = 1u << 3, /* answered later: pending.c */
    API_ROUTE_LIVE = 1u << 4,    /* does not end: feed.c */
};

enum api_param_type { API_PARAM_STRING, API_PARAM_INTEGER, API_PARAM_ENUM };
struct api_param {
    const char *name;
    enum api_param_type type;
    bool is_repeatable;
    const char *values; /* of ENUM, separated by commas */
    const char *description;
};

struct api_route {
    enum api_method method;
    enum api_scope scope;
    const char *path; /* "/v1/runs/{run}" */
    api_handler *handler;
    uint64_t body_bytes_max; /* API_ROUTE_INGEST: the server's body_bytes_max instead */
    uint32_t flags;
    const char *params;   /* names of rows of the parameter table, separated by spaces */
    const char *produces; /* media types, separated by commas */
    const char *description;
};

const struct api_route *api_route_at(uint32_t index); /* NULL past the end */
/* As the query string writes it: the table tells run_state from alert_state, both are `state`. */
const char *api_param_wire_name(const struct api_param *param);

/* Path and query string as sent, without the '?'; decoded in place, the request points into them.
 */
struct api_match {
    char *path;
    char *query;    /* or NULL */
    char allow[40]; /* methods of the path, once it was found */
};
/* Finds the row of a path and method, and splits the parameters. `method` may be HEAD, which is
 * GET's. E_FORMAT (bad percent encoding), E_LIMIT (too many parameters), E_NOT_FOUND, E_METHOD. */
LYAP_MUST_CHECK enum lyap_status api_route_match(const char *method, struct api_match *buffers,
                                                 struct api_request *request,
                                                 struct lyap_error *reterr);
/* Every parameter is known to the row, and once unless repeatable. E_UNKNOWN_FIELD lists the known
 * ones, E_CONTRADICTION, E_INVALID (not among the values of an enum). */
LYAP_MUST_CHECK enum lyap_status api_route_check_query(const struct api_request *request,
                                                       struct lyap_error *reterr);
/* Walks a row's parameters; `*cursor` starts at route->params. False at the end. */
bool api_route_next_param(const char **cursor, const struct api_param **ret_param);

/* First value of a parameter, or NULL. */
const char *api_query_get(const struct api_request *request, const char *name);
/* Decimal integer in [min, max]; `fallback` when absent. E_INVALID names both limits. */
struct api_range {
    int64_t min, max, fallback;
};
LYAP_MUST_CHECK enum lyap_status api_query_int(const struct api_request *request, const char *name,
                                               struct api_range range, int64_t *ret_value,
                                               struct lyap_error *reterr);

/* The handlers of h_*.c. */
api_handler api_h_run_put, api_h_run_get, api_h_run_delete, api_h_run_list, api_h_profile,
    api_h_windows, api_h_latest, api_h_point, api_h_live, api_h_tensors, api_h_layers,
    api_h_attempts, api_h_events, api_h_rule_list, api_h_rule_get, api_h_rule_put,
    api_h_rule_delete, api_h_rule_versions, api_h_rule_replay, api_h_pack_list, api_h_pack_get,
    api_h_pack_put, api_h_group_list, api_h_silence_list, api_h_silence_post, api_h_silence_delete,
    api_h_alert_deliveries, api_h_delivery_list, api_h_receiver_list, api_h_receiver_get,
    api_h_receiver_put, api_h_receiver_delete, api_h_alert_list, api_h_alert_get, api_h_alert_ack,
    api_h_health, api_h_ready, api_h_metrics, api_h_config, api_h_openapi, api_h_index;

#endif
