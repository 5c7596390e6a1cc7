/* Handlers of one point: the newest, and any that is stored. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "handlers.h"

static enum lyap_status reply_point(const char *run, struct lyap_point *take_point,
                                    struct api_reply *reply)
{
    api_json_open(&reply->body, '{');
    api_encode_point_members(&reply->body, run, take_point, true);
    api_json_close(&reply->body, '}');
    api_text_puts(&reply->body, "\n");
    lyap_point_release(take_point);
    return LYAP_OK;
}

enum lyap_status api_h_latest(const struct api_request *request, struct api_reply *reply,
                              struct lyap_error *reterr)
{
    const char *run = request->path_args[0];
    struct lyap_run_record record;
    struct lyap_point point;
    enum lyap_status status = api_find_run(request, run, &record, reterr);
    if (status != LYAP_OK)
        return status;
    status = api_last_point(request, run, &point);
    if (status == LYAP_E_NOT_FOUND)
        return lyap_error_set(reterr, status, "run '%s' has no point yet", run);
    return status == LYAP_OK ? reply_point(run, &point, reply) : status;
}

static enum lyap_status read_step(const char *text, int64_t *ret_step, struct lyap_error *reterr)
{
    errno = 0;
    const long long step = strtoll(text, NULL, 10);
    if (strspn(text, "0123456789") != strlen(text) || errno != 0 || step > LYAP_STEP_MAX)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "'%.32s' is no step", text);
    *ret_step = step;
    return LYAP_OK;
}

static enum lyap_status keep_point(void *arg, const struct lyap_record *record)
{
    return lyap_point_copy(&record->u.point, arg);
}

enum lyap_status api_h_point(const struct api_request *request, struct api_reply *reply,
                             struct lyap_error *reterr)
{
    const char *run = request->path_args[0];
    struct lyap_run_record record;
    struct lyap_point point;
    struct lyap_query query = api_query_init(LYAP_TABLE_POINTS);
    int64_t step = 0, attempt;
    enum lyap_status status = api_find_run(request, run, &record, reterr);
    if (status == LYAP_OK)
        status = read_step(request->path_args[1], &step, reterr);
    if (status != LYAP_OK)
        return status;
    const struct api_range attempts = { 1, UINT32_MAX, record.attempt };
    status = api_query_int(request, "attempt", attempts, &attempt, reterr);
    if (status != LYAP_OK)
        return status;
    query.run = run;
    query.attempt = (uint32_t)attempt;
    query.from_step = query.to_step = step;
    query.limit = 1;
    status = api_first_row(request, &query, keep_point, &point);
    if (status == LYAP_E_NOT_FOUND)
        return lyap_error_set(reterr, status, "attempt %lld of run '%s' has no point of step %lld",
                              (long long)attempt, run, (long long)step);
    return status == LYAP_OK ? reply_point(run, &point, reply) : status;
}
