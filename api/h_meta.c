/* Handlers of the daemon itself: index, health, readiness, counters, settings. */
#include "handlers.h"

#include <stdlib.h>

enum lyap_status api_h_index(const struct api_request *request, struct api_reply *reply,
                             struct lyap_error *reterr)
{
    (void)request, (void)reterr;
    struct api_text *text = &reply->body;
    const struct api_route *route;
    api_json_open(text, '{');
    api_json_key(text, "name");
    api_json_string(text, "lyapd");
    api_json_key(text, "routes");
    api_json_open(text, '[');
    for (uint32_t i = 0; (route = api_route_at(i)); i++) {
        api_json_open(text, '{');
        api_json_key(text, "method");
        api_json_string(text, api_method_name(route->method));
        api_json_key(text, "path");
        api_json_string(text, route->path);
        api_json_key(text, "description");
        api_json_string(text, route->description);
        api_json_close(text, '}');
    }
    api_json_close(text, ']');
    api_json_close(text, '}');
    api_text_puts(text, "\n");
    return LYAP_OK;
}

enum lyap_status api_h_health(const struct api_request *request, struct api_reply *reply,
                              struct lyap_error *reterr)
{
    (void)request, (void)reterr;
    api_text_puts(&reply->body, "{\"status\":\"ok\"}\n");
    return LYAP_OK;
}

enum lyap_status api_h_ready(const struct api_request *request, struct api_reply *reply,
                             struct lyap_error *reterr)
{
    char why[160] = "";
    if (!request->ports->is_ready(request->ports->ctx, why, sizeof why))
        return lyap_error_set(reterr, LYAP_E_BUSY, "not ready: %s", why);
    api_text_puts(&reply->body, "{\"status\":\"ready\"}\n");
    return LYAP_OK;
}

static enum lyap_status take_text(struct api_reply *reply, char *take)
{
    if (!take)
        return LYAP_E_NOMEM;
    api_text_puts(&reply->body, take);
    free(take);
    return LYAP_OK;
}

enum lyap_status api_h_metrics(const struct api_request *request, struct api_reply *reply,
                               struct lyap_error *reterr)
{
    (void)reterr;
    reply->content_type = API_TYPE_METRICS;
    return take_text(reply, request->ports->metrics_text(request->ports->ctx));
}

enum lyap_status api_h_config(const struct api_request *request, struct api_reply *reply,
                              struct lyap_error *reterr)
{
    (void)reterr;
    return take_text(reply, request->ports->config_json(request->ports->ctx));
}
