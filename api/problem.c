/* Problem documents, and what each status is in HTTP. */
#include "problem.h"

#include <assert.h>

enum { RETRY_SOON_S = 1, RETRY_DISK_S = 30 };

static const struct api_problem_info infos[LYAP_STATUS_COUNT] = {
    [LYAP_OK] = { 200, 0 },
    [LYAP_E_INVALID] = { 400, 0 },
    [LYAP_E_NOMEM] = { 503, RETRY_SOON_S },
    [LYAP_E_TOO_FEW] = { 409, 0 },
    [LYAP_E_FORMAT] = { 400, 0 },
    [LYAP_E_LIMIT] = { 413, 0 },
    [LYAP_E_UNKNOWN_FIELD] = { 400, 0 },
    [LYAP_E_MISSING_FIELD] = { 400, 0 },
    [LYAP_E_CONTRADICTION] = { 400, 0 },
    [LYAP_E_UNSUPPORTED] = { 415, 0 },
    [LYAP_E_NOT_ACCEPTABLE] = { 406, 0 },
    [LYAP_E_NOT_FOUND] = { 404, 0 },
    [LYAP_E_METHOD] = { 405, 0 },
    [LYAP_E_EXISTS] = { 409, 0 },
    [LYAP_E_CONFLICT] = { 409, 0 },
    [LYAP_E_DUPLICATE] = { 409, 0 },
    [LYAP_E_STALE_ATTEMPT] = { 409, 0 },
    [LYAP_E_STEP_ORDER] = { 409, 0 },
    [LYAP_E_STEP_CLOSED] = { 409, 0 },
    [LYAP_E_TENSOR_SET] = { 409, 0 },
    [LYAP_E_SHARD_COVERAGE] = { 422, 0 },
    [LYAP_E_UPLOAD_BUSY] = { 503, RETRY_SOON_S },
    [LYAP_E_REPLACED] = { 409, 0 },
    [LYAP_E_QUEUE_FULL] = { 503, RETRY_SOON_S },
    [LYAP_E_STOPPING] = { 503, RETRY_SOON_S },
    [LYAP_E_UNAUTHORIZED] = { 401, 0 },
    [LYAP_E_FORBIDDEN] = { 403, 0 },
    [LYAP_E_BUSY] = { 503, RETRY_SOON_S },
    [LYAP_E_IO] = { 500, 0 },
    [LYAP_E_DISK_FULL] = { 507, RETRY_DISK_S },
    [LYAP_E_NEWER] = { 500, 0 },
    [LYAP_E_NUMERIC] = { 500, 0 },
    [LYAP_E_INTERNAL] = { 500, 0 },
};

struct api_problem_info api_problem_info(enum lyap_status status)
{
    const unsigned index = (unsigned)status;
    if (index >= LYAP_STATUS_COUNT || infos[index].http_status == 0)
        return infos[LYAP_E_INTERNAL];
    return infos[index];
}

void api_problem_encode(struct api_text *text, enum lyap_status status,
                        const struct lyap_error *error, const char *instance, int64_t line)
{
    assert(status != LYAP_OK);
    api_json_open(text, '{');
    api_json_key(text, "type");
    api_text_printf(text, "\"urn:lyapd:problem:%s\"", lyap_status_slug(status));
    api_json_key(text, "title");
    api_json_string(text, lyap_status_text(status));
    api_json_key(text, "status");
    api_json_int(text, api_problem_info(status).http_status);
    api_json_key(text, "detail");
    api_json_string(text,
                    error && error->text[0] ? lyap_error_text(error) : lyap_status_text(status));
    if (instance) {
        api_json_key(text, "instance");
        api_json_string(text, instance);
    }
    if (line >= 0) {
        api_json_key(text, "line");
        api_json_int(text, line);
    }
    api_json_close(text, '}');
}

void api_problem_reply(struct api_reply *reply, enum lyap_status status,
                       const struct lyap_error *error, const char *instance)
{
    api_reply_release(reply);
    const struct api_problem_info info = api_problem_info(status);
    reply->http_status = info.http_status;
    reply->retry_after_s = info.retry_after_s;
    reply->is_unauthorized = status == LYAP_E_UNAUTHORIZED;
    reply->content_type = API_TYPE_PROBLEM;
    api_problem_encode(&reply->body, status, error, instance, -1);
    api_text_puts(&reply->body, "\n");
}
