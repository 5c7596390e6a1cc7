/* Handler of the series of a run. */
#include <string.h>

#include "handlers.h"
#include "series.h"

enum { ROWS_DEFAULT = 1000 };

_Static_assert((int)LYAP_METRIC_COUNT <= (int)LYAP_SERIES_METRICS_MAX,
               "every metric fits one request");
_Static_assert((int)LYAP_TENSOR_METRIC_COUNT <= (int)LYAP_SERIES_METRICS_MAX,
               "likewise of a tensor");

static enum lyap_status add_metric(struct api_series *series, const char *name,
                                   struct lyap_error *reterr)
{
    const uint32_t i = series->metric_count;
    if (i == LYAP_SERIES_METRICS_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "more than %d parameters 'metric'",
                              LYAP_SERIES_METRICS_MAX);
    const bool is_of_tensor = series->query.tensor != NULL;
    const bool is_known = is_of_tensor ? lyap_tensor_metric_parse(name, &series->tensor_metrics[i])
                                       : lyap_metric_parse(name, &series->metrics[i]);
    if (!is_known)
        return lyap_error_set(
            reterr, LYAP_E_INVALID,
            "query parameter 'metric': '%.64s' is not a metric%s (docs/metrics.md "
            "lists them)",
            name, is_of_tensor ? " of a tensor" : "");
    series->names[i] = is_of_tensor ? lyap_tensor_metric_name(series->tensor_metrics[i])
                                    : lyap_metric_info(series->metrics[i])->name;
    for (uint32_t k = 0; k < i; k++)
        if (series->names[k] == series->names[i])
            return LYAP_OK; /* asked for twice: one column */
    series->metric_count++;
    return LYAP_OK;
}

static void add_every_metric(struct api_series *series)
{
    if (series->query.tensor) {
        for (unsigned i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++)
            (void)add_metric(series, lyap_tensor_metric_name((enum lyap_tensor_metric)i), NULL);
        return;
    }
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        (void)add_metric(series, lyap_metric_info((enum lyap_metric)i)->name, NULL);
}

enum lyap_status api_series_metrics(const struct api_request *request, struct api_series *series,
                                    struct lyap_error *reterr)
{
    series->query.tensor = api_query_get(request, "tensor");
    for (uint32_t i = 0; i < request->query_count; i++) {
        if (strcmp(request->query[i].name, "metric") != 0)
            continue;
        const enum lyap_status status = add_metric(series, request->query[i].value, reterr);
        if (status != LYAP_OK)
            return status;
    }
    if (series->metric_count == 0)
        add_every_metric(series);
    return LYAP_OK;
}

static enum lyap_status read_range(const struct api_request *request, struct lyap_query *query,
                                   struct lyap_error *reterr)
{
    const struct api_range steps_from = { 0, LYAP_STEP_MAX, 0 };
    const struct api_range steps_to = { 0, LYAP_STEP_MAX, LYAP_STEP_MAX };
    const struct api_range rows = { 1, LYAP_SERIES_POINTS_MAX, ROWS_DEFAULT };
    const struct api_range points_range = { 1, LYAP_SERIES_POINTS_MAX, 0 };
    int64_t limit, points;
    enum lyap_status status = api_query_int(request, "from", steps_from, &query->from_step, reterr);
    if (status == LYAP_OK)
        status = api_query_int(request, "to", steps_to, &query->to_step, reterr);
    if (status == LYAP_OK)
        status = api_query_int(request, "limit", rows, &limit, reterr);
    if (status == LYAP_OK)
        status = api_query_int(request, "points", points_range, &points, reterr);
    if (status != LYAP_OK)
        return status;
    if (query->from_step > query->to_step)
        return lyap_error_set(reterr, LYAP_E_INVALID, "query parameter 'from' is above 'to'");
    query->points = (uint32_t)points;
    query->limit = (uint32_t)(points > 0 ? points : limit);
    return LYAP_OK;
}

/* The attempt asked for, else the cursor's, else the current one. */
static enum lyap_status read_place(const struct api_request *request, struct api_series *series,
                                   struct lyap_error *reterr)
{
    struct lyap_query *query = &series->query;
    const char *text = api_query_get(request, "cursor");
    const struct api_range attempts = { 1, UINT32_MAX, 0 };
    struct api_cursor cursor = { 'p', 0, -1 };
    int64_t attempt;
    enum lyap_status status = api_query_int(request, "attempt", attempts, &attempt, reterr);
    if (status == LYAP_OK && text)
        status = api_cursor_parse(text, 'p', &cursor, reterr);
    if (status != LYAP_OK)
        return status;
    if (attempt > series->current_attempt)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "run '%s' has no attempt %lld", series->run,
                              (long long)attempt);
    if (attempt > 0 && cursor.attempt > 0 && attempt != cursor.attempt)
        return lyap_error_set(reterr, LYAP_E_CONTRADICTION,
                              "query parameter 'attempt' is %lld, the cursor belongs to %u",
                              (long long)attempt, cursor.attempt);
    query->attempt = attempt > 0          ? (uint32_t)attempt
                     : cursor.attempt > 0 ? cursor.attempt
                                          : series->current_attempt;
    query->after = cursor.after;
    return LYAP_OK;
}

enum lyap_status api_h_profile(const struct api_request *request, struct api_reply *reply,
                               struct lyap_error *reterr)
{
    static const char *const types[] = { API_TYPE_JSON, API_TYPE_NDJSON, API_TYPE_CSV };
    struct lyap_run_record record;
    struct api_series series = { .ports = request->ports,
                                 .budget = request->budget,
                                 .run = request->path_args[0],
                                 .query = api_query_init(LYAP_TABLE_SERIES) };
    enum lyap_status status = api_find_run(request, series.run, &record, reterr);
    if (status != LYAP_OK)
        return status;
    series.current_attempt = record.attempt;
    series.query.run = series.run;
    const int format = api_accept_choose(request->headers.accept, request->route->produces);
    series.format = (enum api_series_format)(format < 0 ? 0 : format);
    reply->content_type = types[series.format];
    status = api_series_metrics(request, &series, reterr);
    if (status == LYAP_OK)
        status = read_range(request, &series.query, reterr);
    if (status == LYAP_OK)
        status = read_place(request, &series, reterr);
    return status == LYAP_OK ? api_series_reply(&series, reply) : status;
}
