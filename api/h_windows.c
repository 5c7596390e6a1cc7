/* Handler of the rolling profile: mean, spread and slope of metrics over windows that end at a
 * step, read from the stored points, so that a restart changes nothing. */
#include <math.h>
#include <string.h>

#include "codec_text.h"
#include "handlers.h"
#include "lyap/alloc.h"
#include "lyap/growth.h"
#include "lyap/rolling.h"
#include "lyap/wire.h"
#include "series.h"

/* Columns of the longest window. */
struct table {
    uint32_t windows[LYAP_WINDOW_COUNT_MAX], window_count; /* steps */
    uint32_t longest;
    int64_t at; /* the last step of every window */
    uint32_t rows, capacity;
    int64_t *steps;
    double *values;     /* metric by metric, capacity each */
    bool *is_nonfinite; /* likewise */
    bool *is_event;     /* of a row: a skipped or non-finite point (SPEC 6.4) */
    bool *is_left_out;  /* likewise: its finite values, which enter nothing */
    double *logs;       /* scratch of a fit */
    int64_t *log_steps;
};

static void table_release(struct table *table)
{
    lyap_free(table->steps);
    lyap_free(table->values);
    lyap_free(table->is_nonfinite);
    lyap_free(table->is_event);
    lyap_free(table->is_left_out);
    lyap_free(table->logs);
    lyap_free(table->log_steps);
}

static enum lyap_status add_window(struct table *table, int64_t steps, struct lyap_error *reterr)
{
    if (table->window_count == LYAP_WINDOW_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "more than %d parameters 'window'",
                              LYAP_WINDOW_COUNT_MAX);
    table->windows[table->window_count++] = (uint32_t)steps;
    table->longest = (uint32_t)steps > table->longest ? (uint32_t)steps : table->longest;
    return LYAP_OK;
}

static enum lyap_status take_declared(void *arg, const struct lyap_record *record)
{
    struct table *table = arg;
    const char *json = record->u.run.declaration_json;
    struct lyap_declaration declaration;
    char *canonical = NULL;
    struct lyap_error ignored = LYAP_ERROR_NULL;
    enum lyap_status status = lyap_wire_declaration(json ? json : "{}", strlen(json ? json : "{}"),
                                                    NULL, &declaration, &canonical, &ignored);
    if (status != LYAP_OK)
        return status;
    for (uint32_t i = 0; i < declaration.window_count && status == LYAP_OK; i++)
        status = add_window(table, declaration.windows[i], &ignored);
    lyap_declaration_release(&declaration);
    lyap_free(canonical);
    return status;
}

/* Those asked for, else those declared. */
static enum lyap_status read_windows(const struct api_request *request, struct table *table,
                                     struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    for (uint32_t i = 0; status == LYAP_OK && i < request->query_count; i++) {
        struct api_request one = *request;
        const struct api_range range = { 2, LYAP_WINDOW_MAX, 0 };
        int64_t steps;
        if (strcmp(request->query[i].name, "window") != 0)
            continue;
        one.query[0] = request->query[i];
        one.query_count = 1;
        status = api_query_int(&one, "window", range, &steps, reterr);
        if (status == LYAP_OK)
            status = add_window(table, steps, reterr);
    }
    if (status != LYAP_OK || table->window_count > 0)
        return status;
    struct lyap_query query = api_query_init(LYAP_TABLE_RUNS);
    query.run = request->path_args[0];
    return api_first_row(request, &query, take_declared, table);
}

static enum lyap_status table_reserve(struct table *table, uint32_t metrics,
                                      struct lyap_error *reterr)
{
    const uint64_t values = (uint64_t)table->longest * metrics;
    if (values > LYAP_ROLLING_VALUES_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT,
                              "%u metrics over %u steps are %llu values, the limit is %d: ask for "
                              "fewer metrics",
                              metrics, table->longest, (unsigned long long)values,
                              LYAP_ROLLING_VALUES_MAX);
    table->capacity = table->longest;
    table->steps = lyap_alloc_array(table->longest, sizeof *table->steps);
    table->values = lyap_alloc_array(values, sizeof *table->values);
    table->is_nonfinite = lyap_alloc_array(values, sizeof *table->is_nonfinite);
    table->is_event = lyap_alloc_array(table->longest, sizeof *table->is_event);
    table->is_left_out = lyap_alloc_array(values, sizeof *table->is_left_out);
    table->logs = lyap_alloc_array(table->longest, sizeof *table->logs);
    table->log_steps = lyap_alloc_array(table->longest, sizeof *table->log_steps);
    const bool is_whole = table->steps && table->values && table->is_nonfinite && table->is_event &&
                          table->is_left_out && table->logs && table->log_steps;
    return is_whole ? LYAP_OK : LYAP_E_NOMEM;
}

static void table_take(struct table *table, const struct lyap_series_row *row)
{
    table->steps[table->rows] = row->step;
    table->is_event[table->rows] = row->is_event_only;
    for (uint32_t m = 0; m < row->count; m++) {
        const size_t at = (size_t)m * table->capacity + table->rows;
        const double value = row->last[m];
        table->is_nonfinite[at] = row->is_nan[m] || isinf(value);
        table->is_left_out[at] = row->is_event_only && isfinite(value);
        table->values[at] = table->is_left_out[at] ? (double)NAN : value;
    }
    table->rows++;
}

static enum lyap_status table_read(const struct api_request *request, struct api_series *series,
                                   struct table *table)
{
    struct lyap_cursor *cursor = NULL;
    struct lyap_record record;
    series->query.metrics = series->metrics;
    series->query.tensor_metrics = series->tensor_metrics;
    series->query.metric_count = series->metric_count;
    series->query.from_step = table->at >= table->longest ? table->at - table->longest + 1 : 0;
    series->query.to_step = table->at;
    series->query.limit = table->capacity;
    enum lyap_status status = request->ports->query(request->ports->ctx, &series->query, &cursor);
    if (status != LYAP_OK)
        return status;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK && table->rows < table->capacity)
        table_take(table, &record.u.series);
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

/* Index of the first row of a window. */
static uint32_t first_row(const struct table *table, uint32_t steps)
{
    uint32_t first = 0;
    while (first < table->rows && table->steps[first] <= table->at - (int64_t)steps)
        first++;
    return first;
}

static uint32_t count_true(const bool *flags, uint32_t count)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++)
        found += flags[i];
    return found;
}

/* The fit of SPEC 4.2 of a twin's log distance, from its newest injection on. */
static void encode_growth(struct api_text *text, struct table *table, uint32_t first, uint32_t m)
{
    uint32_t count = 0;
    for (uint32_t i = first; i < table->rows; i++) {
        const size_t at = (size_t)m * table->capacity + i;
        if (table->is_nonfinite[at] || isnan(table->values[at]))
            continue;
        table->logs[count] = table->values[at];
        table->log_steps[count++] = table->steps[i];
    }
    struct lyap_growth_fit fit;
    const uint32_t from = lyap_growth_injection(table->logs, count);
    const enum lyap_status status =
        lyap_growth_fit_steps(table->log_steps + from, table->logs + from, count - from, &fit);
    api_json_key(text, "growth");
    api_json_open(text, '{');
    if (status == LYAP_OK) {
        api_member_string(text, "verdict", lyap_growth_name(fit.verdict));
        api_member_number(text, "rate", fit.rate);
        api_member_number(text, "error", fit.ci);
        api_member_number(text, "rise", fit.rise);
        api_member_number(text, "log_gain", fit.log_m);
    } else {
        api_json_key(text, "verdict");
        api_json_null(text);
        api_member_string(text, "reason",
                          lyap_reason_name(status == LYAP_E_STEP_ORDER ? LYAP_REASON_STEP_GAP
                                                                       : LYAP_REASON_WARMING_UP));
    }
    api_json_close(text, '}');
}

static void encode_metric(struct api_text *text, const struct api_series *series,
                          struct table *table, uint32_t first, uint32_t m)
{
    struct lyap_rolling r;
    const size_t at = (size_t)m * table->capacity + first;
    const uint32_t count = table->rows - first;
    const uint32_t left_out = count_true(table->is_left_out + at, count);
    lyap_rolling_of(table->steps + first, table->values + at, table->is_nonfinite + at, count, &r);
    api_json_key(text, series->names[m]);
    api_json_open(text, '{');
    api_member_int(text, "count", r.count);
    api_member_int(text, "absent", (int64_t)count - r.count - r.nonfinite - left_out);
    api_member_int(text, "nonfinite", r.nonfinite);
    api_member_int(text, "left_out", left_out);
    api_member_step(text, "first_step", r.first_step);
    api_member_step(text, "last_step", r.last_step);
    api_member_optional(text, "mean", r.mean);
    api_member_optional(text, "spread", r.spread);
    api_member_optional(text, "slope", r.slope);
    api_member_optional(text, "slope_error", r.slope_error);
    if (r.count < 3) /* what is null needs more values */
        api_member_string(text, "reason", lyap_reason_name(LYAP_REASON_WARMING_UP));
    if (!series->query.tensor && strncmp(series->names[m], "twin_log", strlen("twin_log")) == 0)
        encode_growth(text, table, first, m);
    api_json_close(text, '}');
}

static void encode_windows(struct api_text *text, const struct api_series *series,
                           struct table *table)
{
    api_json_open(text, '{');
    api_member_string(text, "run", series->run);
    api_member_int(text, "attempt", series->query.attempt);
    api_member_step(text, "at", table->at);
    api_json_key(text, "windows");
    api_json_open(text, '[');
    for (uint32_t w = 0; w < table->window_count; w++) {
        const uint32_t steps = table->windows[w], first = first_row(table, steps);
        api_json_open(text, '{');
        api_member_int(text, "steps", steps);
        api_member_int(text, "points", table->rows - first);
        api_member_int(text, "events", count_true(table->is_event + first, table->rows - first));
        api_member_number(text, "coverage", (double)(table->rows - first) / steps);
        api_json_key(text, "metrics");
        api_json_open(text, '{');
        for (uint32_t m = 0; m < series->metric_count; m++)
            encode_metric(text, series, table, first, m);
        api_json_close(text, '}');
        api_json_close(text, '}');
    }
    api_json_close(text, ']');
    api_json_close(text, '}');
    api_text_puts(text, "\n");
}

/* The last step of an attempt: of the current one it is known, else it is looked up. */
static enum lyap_status last_step(void *arg, const struct lyap_record *record)
{
    *(int64_t *)arg = record->u.attempt.last_step;
    return LYAP_OK;
}

static enum lyap_status read_place(const struct api_request *request, struct api_series *series,
                                   const struct lyap_run_record *run, int64_t *ret_at,
                                   struct lyap_error *reterr)
{
    const struct api_range attempts = { 1, run->attempt, run->attempt };
    const struct api_range steps = { 0, LYAP_STEP_MAX, -1 };
    int64_t attempt, at, newest = run->last_step;
    enum lyap_status status = api_query_int(request, "attempt", attempts, &attempt, reterr);
    if (status == LYAP_OK)
        status = api_query_int(request, "at", steps, &at, reterr);
    if (status != LYAP_OK)
        return status;
    series->query.attempt = (uint32_t)attempt;
    if (attempt != run->attempt && at < 0) {
        struct lyap_query query = api_query_init(LYAP_TABLE_ATTEMPTS);
        query.run = series->run;
        query.after = attempt - 1;
        status = api_first_row(request, &query, last_step, &newest);
    }
    *ret_at = at < 0 ? newest : at;
    return status;
}

enum lyap_status api_h_windows(const struct api_request *request, struct api_reply *reply,
                               struct lyap_error *reterr)
{
    struct lyap_run_record record;
    struct table table = { .at = -1 };
    struct api_series series = { .ports = request->ports,
                                 .run = request->path_args[0],
                                 .query = api_query_init(LYAP_TABLE_SERIES) };
    enum lyap_status status = api_find_run(request, series.run, &record, reterr);
    if (status != LYAP_OK)
        return status;
    series.query.run = series.run;
    status = api_series_metrics(request, &series, reterr);
    if (status == LYAP_OK)
        status = read_place(request, &series, &record, &table.at, reterr);
    if (status == LYAP_OK)
        status = read_windows(request, &table, reterr);
    if (status == LYAP_OK)
        status = table_reserve(&table, series.metric_count, reterr);
    if (status == LYAP_OK && table.at >= 0)
        status = table_read(request, &series, &table);
    if (status == LYAP_OK)
        encode_windows(&reply->body, &series, &table);
    table_release(&table);
    return status == LYAP_OK ? reply->body.status : status;
}
