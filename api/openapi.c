/* OpenAPI 3.1, generated from the table of routes. */
#include <string.h>

#include "lyap/snapshot.h"

#include "handlers.h"
#include "problem.h"

static void member(struct api_text *text, const char *key, const char *value)
{
    api_json_key(text, key);
    api_json_string(text, value);
}

static void encode_parameter(struct api_text *text, const char *name, const char *in,
                             const struct api_param *param)
{
    const bool is_path = strcmp(in, "path") == 0;
    const bool is_integer = param && param->type == API_PARAM_INTEGER;
    api_json_open(text, '{');
    member(text, "name", name);
    member(text, "in", in);
    api_json_key(text, "required");
    api_json_bool(text, is_path);
    if (param)
        member(text, "description", param->description);
    api_json_key(text, "schema");
    if (param && param->is_repeatable)
        api_json_raw(text, "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}");
    else
        api_json_raw(text, is_integer ? "{\"type\":\"integer\"" : "{\"type\":\"string\"");
    if (!param || !param->is_repeatable) {
        if (param && param->type == API_PARAM_ENUM) {
            api_json_key(text, "enum");
            api_json_open(text, '[');
            for (const char *at = param->values; *at; at += strspn(at, ",")) {
                char word[32] = { 0 };
                const size_t length = strcspn(at, ",");
                memcpy(word, at, length < sizeof word ? length : sizeof word - 1);
                api_json_string(text, word);
                at += length;
            }
            api_json_close(text, ']');
        }
        api_json_close(text, '}');
    }
    api_json_close(text, '}');
}

static void encode_path_parameters(struct api_text *text, const char *path)
{
    for (const char *at = strchr(path, '{'); at; at = strchr(at, '{')) {
        char name[32] = { 0 };
        at++;
        const size_t length = strcspn(at, "}");
        memcpy(name, at, length < sizeof name ? length : sizeof name - 1);
        encode_parameter(text, name, "path", NULL);
    }
}

/* The scalars of a snapshot may stand in the query string; `shard` is JSON and may not. */
static void encode_meta_parameters(struct api_text *text)
{
    for (int i = 0; i < LYAP_META_COUNT; i++) {
        const struct api_param param = { .description = "As in the metadata of the body." };
        if (i != LYAP_META_SHARD)
            encode_parameter(text, lyap_meta_name((enum lyap_meta_key)i), "query", &param);
    }
}

static void encode_contents(struct api_text *text, const char *types)
{
    api_json_key(text, "content");
    api_json_open(text, '{');
    for (const char *at = types; *at; at += strspn(at, ",")) {
        char type[64] = { 0 };
        const size_t length = strcspn(at, ",");
        memcpy(type, at, length < sizeof type ? length : sizeof type - 1);
        api_json_key(text, type);
        api_json_raw(text, "{\"schema\":{}}");
        at += length;
    }
    api_json_close(text, '}');
}

static void encode_body(struct api_text *text, const struct api_route *route)
{
    const bool is_ingest = route->flags & API_ROUTE_INGEST;
    if (!is_ingest && !(route->flags & API_ROUTE_BODY))
        return;
    api_json_key(text, "requestBody");
    api_json_open(text, '{');
    encode_contents(text, is_ingest ? API_TYPE_SAFETENSORS "," API_TYPE_OCTETS "," API_TYPE_JSON
                                                           "," API_TYPE_NDJSON
                                    : API_TYPE_JSON);
    api_json_close(text, '}');
}

static void encode_responses(struct api_text *text, const struct api_route *route)
{
    api_json_key(text, "responses");
    api_json_open(text, '{');
    api_json_key(text, route->produces[0] ? "200" : "204");
    api_json_open(text, '{');
    member(text, "description", route->produces[0] ? "Success." : "Done; no content.");
    if (route->produces[0])
        encode_contents(text, route->produces);
    api_json_close(text, '}');
    api_json_key(text, "default");
    api_json_raw(text, "{\"$ref\":\"#/components/responses/problem\"}");
    api_json_close(text, '}');
}

static void encode_operation(struct api_text *text, const struct api_route *route)
{
    static const char *const keys[API_METHOD_COUNT] = { "get", "put", "post", "delete" };
    const struct api_param *param;
    api_json_key(text, keys[route->method]);
    api_json_open(text, '{');
    member(text, "summary", route->description);
    api_json_key(text, "parameters");
    api_json_open(text, '[');
    encode_path_parameters(text, route->path);
    for (const char *cursor = route->params; api_route_next_param(&cursor, &param);)
        encode_parameter(text, api_param_wire_name(param), "query", param);
    if (route->flags & API_ROUTE_INGEST)
        encode_meta_parameters(text);
    api_json_close(text, ']');
    encode_body(text, route);
    encode_responses(text, route);
    if (route->scope != API_SCOPE_NONE) {
        api_json_key(text, "security");
        api_text_printf(text, "[{\"bearer\":[\"%s\"]}]", api_scope_name(route->scope));
    }
    api_json_close(text, '}');
}

/* Rows of one path become one object; the first row of the path writes it. */
static void encode_paths(struct api_text *text)
{
    const struct api_route *route, *other;
    for (uint32_t i = 0; (route = api_route_at(i)); i++) {
        uint32_t first = 0;
        while (strcmp(api_route_at(first)->path, route->path) != 0)
            first++;
        if (first != i)
            continue;
        api_json_key(text, route->path);
        api_json_open(text, '{');
        for (uint32_t k = i; (other = api_route_at(k)); k++)
            if (strcmp(other->path, route->path) == 0)
                encode_operation(text, other);
        api_json_close(text, '}');
    }
}

static void encode_problem_types(struct api_text *text)
{
    api_json_key(text, "enum");
    api_json_open(text, '[');
    for (int i = LYAP_OK + 1; i < LYAP_STATUS_COUNT; i++) {
        char type[96] = "urn:lyapd:problem:";
        strncat(type, lyap_status_slug((enum lyap_status)i), sizeof type - strlen(type) - 1);
        api_json_string(text, type);
    }
    api_json_close(text, ']');
}

static void encode_components(struct api_text *text)
{
    api_json_key(text, "components");
    api_json_open(text, '{');
    api_json_key(text, "securitySchemes");
    api_json_raw(text, "{\"bearer\":{\"type\":\"http\",\"scheme\":\"bearer\"}}");
    api_json_key(text, "responses");
    api_json_raw(text, "{\"problem\":{\"description\":\"An error (RFC 9457).\",\"content\":{"
                       "\"application/problem+json\":{\"schema\":{\"$ref\":"
                       "\"#/components/schemas/problem\"}}}}}");
    api_json_key(text, "schemas");
    api_json_raw(text, "{\"problem\":{\"type\":\"object\",\"required\":[\"type\",\"title\","
                       "\"status\"],\"properties\":{\"title\":{\"type\":\"string\"},\"status\":{"
                       "\"type\":\"integer\"},\"detail\":{\"type\":\"string\"},\"instance\":{"
                       "\"type\":\"string\"},\"line\":{\"type\":\"integer\"},\"type\":{"
                       "\"type\":\"string\"");
    encode_problem_types(text);
    api_text_puts(text, "}}}}");
    api_json_close(text, '}');
}

enum lyap_status api_h_openapi(const struct api_request *request, struct api_reply *reply,
                               struct lyap_error *reterr)
{
    (void)request, (void)reterr;
    struct api_text *text = &reply->body;
    api_json_open(text, '{');
    member(text, "openapi", "3.1.0");
    api_json_key(text, "info");
    api_json_raw(text, "{\"title\":\"lyapd\",\"version\":\"1\",\"description\":\"Monitoring of "
                       "training stability.\"}");
    api_json_key(text, "paths");
    api_json_open(text, '{');
    encode_paths(text);
    api_json_close(text, '}');
    encode_components(text);
    api_json_close(text, '}');
    api_text_puts(text, "\n");
    return LYAP_OK;
}
