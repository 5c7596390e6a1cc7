/* Gathering and writing of series. */
#include "series.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "negotiate.h"

enum { FIRST_ROWS = 128 };

/* One metric of one row. */
struct cell {
    double last, min, max;
    bool is_nan;
};

enum phase { GATHER, OPEN, STEPS, COLUMNS, ROWS, CLOSE, DONE };

struct writer {
    struct api_series series;
    struct lyap_cursor *cursor; /* owned; while gathering */
    int64_t *steps;             /* owned, row_capacity */
    uint32_t *resolutions;      /* owned, row_capacity */
    struct cell *cells;         /* owned, row-major, row_capacity x metric_count */
    uint32_t row_count, row_capacity;
    size_t charged_bytes;
    uint32_t resolution; /* the coarsest */
    int64_t last_key;
    enum phase phase;
    uint32_t block; /* JSON columns: 0 last, 1 min, 2 max */
    bool is_open;   /* JSON columns: this one has its name; a slice may end right after it */
    uint32_t column, row;
};

static size_t row_bytes(const struct writer *w)
{
    return sizeof *w->steps + sizeof *w->resolutions + w->series.metric_count * sizeof *w->cells;
}

static void *grown(void *memory, size_t count, size_t size)
{
    return realloc(memory, count * size);
}

static enum lyap_status reserve_row(struct writer *w)
{
    if (w->row_count < w->row_capacity)
        return LYAP_OK;
    const uint32_t capacity = w->row_capacity ? 2 * w->row_capacity : FIRST_ROWS;
    const size_t more = (capacity - w->row_capacity) * row_bytes(w);
    if (!api_budget_take(w->series.budget, more))
        return LYAP_E_BUSY;
    w->charged_bytes += more;
    int64_t *steps = grown(w->steps, capacity, sizeof *steps);
    w->steps = steps ? steps : w->steps;
    uint32_t *resolutions = grown(w->resolutions, capacity, sizeof *resolutions);
    w->resolutions = resolutions ? resolutions : w->resolutions;
    struct cell *cells = grown(w->cells, (size_t)capacity * w->series.metric_count, sizeof *cells);
    w->cells = cells ? cells : w->cells;
    if (!steps || !resolutions || !cells)
        return LYAP_E_NOMEM;
    w->row_capacity = capacity;
    return LYAP_OK;
}

static enum lyap_status keep_row(struct writer *w, const struct lyap_record *record)
{
    const struct lyap_series_row *row = &record->u.series;
    const enum lyap_status status = reserve_row(w);
    if (status != LYAP_OK)
        return status;
    assert(row->count == w->series.metric_count);
    struct cell *cells = w->cells + (size_t)w->row_count * row->count;
    for (uint32_t i = 0; i < row->count; i++)
        cells[i] = (struct cell){ row->last[i], row->min[i], row->max[i], row->is_nan[i] };
    w->steps[w->row_count] = row->step;
    w->resolutions[w->row_count] = row->resolution;
    if (row->resolution > w->resolution)
        w->resolution = row->resolution;
    w->last_key = record->key;
    w->row_count++;
    return LYAP_OK;
}

static void end_gather(struct writer *w)
{
    if (w->cursor)
        w->cursor->close(w->cursor);
    w->cursor = NULL;
    w->phase = OPEN;
}

/* At most API_SLICE_ROWS rows. */
static enum lyap_status gather(struct writer *w)
{
    enum lyap_status status = LYAP_OK;
    if (!w->cursor) {
        struct lyap_query query = w->series.query;
        query.metrics = w->series.metrics;
        query.tensor_metrics = w->series.tensor_metrics;
        query.metric_count = w->series.metric_count;
        status = w->series.ports->query(w->series.ports->ctx, &query, &w->cursor);
        if (status != LYAP_OK) {
            w->cursor = NULL;
            return status;
        }
    }
    for (int i = 0; i < API_SLICE_ROWS && status == LYAP_OK; i++) {
        struct lyap_record record;
        status = w->row_count < w->series.query.limit ? w->cursor->next(w->cursor, &record)
                                                      : LYAP_E_NOT_FOUND;
        if (status == LYAP_OK)
            status = keep_row(w, &record);
    }
    if (status != LYAP_E_NOT_FOUND)
        return status;
    end_gather(w);
    return LYAP_OK;
}

/* ---- values ---- */

static bool is_absent(const struct cell *cell, double value)
{
    return isnan(value) && !cell->is_nan;
}

static double part(const struct cell *cell, uint32_t block)
{
    return block == 0 ? cell->last : block == 1 ? cell->min : cell->max;
}

static const struct cell *cell_at(const struct writer *w, uint32_t row, uint32_t column)
{
    return &w->cells[(size_t)row * w->series.metric_count + column];
}

static void write_json_cell(const struct writer *w, struct api_text *out, uint32_t row,
                            uint32_t column, uint32_t block)
{
    const struct cell *cell = cell_at(w, row, column);
    const double value = part(cell, block);
    if (is_absent(cell, value))
        api_json_null(out);
    else
        api_json_number(out, value);
}

static bool is_rolled_up(const struct writer *w)
{
    return w->resolution > 1;
}

static void write_cursor(const struct writer *w, struct api_text *out)
{
    char text[API_CURSOR_BYTES];
    struct api_cursor cursor = { 'p', w->series.query.attempt, w->last_key };
    /* Nothing is left of an attempt that ended: what is new comes in the next one. */
    if (w->row_count == 0 && w->series.query.attempt < w->series.current_attempt)
        cursor = (struct api_cursor){ 'p', w->series.query.attempt + 1, -1 };
    api_cursor_format(&cursor, text);
    api_json_key(out, "cursor");
    api_json_string(out, text);
}

/* ---- JSON columns ---- */

static void open_json(struct writer *w, struct api_text *out)
{
    api_json_open(out, '{');
    api_json_key(out, "run");
    api_json_string(out, w->series.run);
    api_json_key(out, "attempt");
    api_json_int(out, w->series.query.attempt);
    if (w->series.query.tensor) {
        api_json_key(out, "tensor");
        api_json_string(out, w->series.query.tensor);
    }
    api_json_key(out, "step");
    api_json_open(out, '[');
    w->phase = STEPS;
}

static void write_steps(struct writer *w, struct api_text *out)
{
    for (; w->row < w->row_count && out->length < API_SLICE_BYTES; w->row++)
        api_json_int(out, w->steps[w->row]);
    if (w->row < w->row_count)
        return;
    api_json_close(out, ']');
    w->row = 0;
    w->phase = COLUMNS;
}

static void write_columns(struct writer *w, struct api_text *out)
{
    static const char *const blocks[] = { "series", "min", "max" };
    if (!w->is_open && w->column == 0) {
        api_json_key(out, blocks[w->block]);
        api_json_open(out, '{');
    }
    if (!w->is_open) {
        api_json_key(out, w->series.names[w->column]);
        api_json_open(out, '[');
        w->is_open = true;
    }
    for (; w->row < w->row_count && out->length < API_SLICE_BYTES; w->row++)
        write_json_cell(w, out, w->row, w->column, w->block);
    if (w->row < w->row_count)
        return;
    api_json_close(out, ']');
    w->row = 0;
    w->is_open = false;
    if (++w->column < w->series.metric_count)
        return;
    api_json_close(out, '}');
    w->column = 0;
    if (++w->block == (is_rolled_up(w) ? 3u : 1u))
        w->phase = CLOSE;
}

static void close_json(struct writer *w, struct api_text *out)
{
    api_json_key(out, "resolution");
    api_json_int(out, w->resolution);
    write_cursor(w, out);
    api_json_close(out, '}');
    api_text_puts(out, "\n");
    w->phase = DONE;
}

/* ---- NDJSON ---- */

static void write_ndjson_row(const struct writer *w, struct api_text *out, uint32_t row)
{
    static const char *const blocks[] = { NULL, "min", "max" };
    const uint32_t block_count = w->resolutions[row] > 1 ? 3 : 1;
    api_json_open(out, '{');
    api_json_key(out, "step");
    api_json_int(out, w->steps[row]);
    for (uint32_t block = 0; block < block_count; block++) {
        if (blocks[block]) {
            api_json_key(out, blocks[block]);
            api_json_open(out, '{');
        }
        for (uint32_t column = 0; column < w->series.metric_count; column++) {
            api_json_key(out, w->series.names[column]);
            write_json_cell(w, out, row, column, block);
        }
        if (blocks[block])
            api_json_close(out, '}');
    }
    if (block_count > 1) {
        api_json_key(out, "resolution");
        api_json_int(out, w->resolutions[row]);
    }
    api_json_close(out, '}');
    api_text_puts(out, "\n");
}

static void close_ndjson(struct writer *w, struct api_text *out)
{
    api_json_open(out, '{');
    api_json_key(out, "run");
    api_json_string(out, w->series.run);
    api_json_key(out, "attempt");
    api_json_int(out, w->series.query.attempt);
    write_cursor(w, out);
    api_json_close(out, '}');
    api_text_puts(out, "\n");
    w->phase = DONE;
}

/* ---- CSV ---- */

static void open_csv(struct writer *w, struct api_text *out)
{
    static const char *const suffixes[] = { "", "_min", "_max" };
    api_text_puts(out, "step");
    for (uint32_t block = 0; block < (is_rolled_up(w) ? 3u : 1u); block++)
        for (uint32_t column = 0; column < w->series.metric_count; column++)
            api_text_printf(out, ",%s%s", w->series.names[column], suffixes[block]);
    api_text_puts(out, "\r\n");
}

static void write_csv_number(struct api_text *out, double value)
{
    char number[API_NUMBER_BYTES] = "NaN";
    if (isinf(value))
        memcpy(number, value > 0 ? "Infinity\0" : "-Infinity", sizeof "-Infinity");
    else if (!isnan(value))
        api_number_format(value, number);
    api_text_puts(out, number);
}

static void write_csv_row(const struct writer *w, struct api_text *out, uint32_t row)
{
    api_text_printf(out, "%lld", (long long)w->steps[row]);
    for (uint32_t block = 0; block < (is_rolled_up(w) ? 3u : 1u); block++) {
        for (uint32_t column = 0; column < w->series.metric_count; column++) {
            const struct cell *cell = cell_at(w, row, column);
            const double value = part(cell, block);
            api_text_puts(out, ",");
            if (!is_absent(cell, value))
                write_csv_number(out, value);
        }
    }
    api_text_puts(out, "\r\n");
}

/* ---- the stream ---- */

static void open_series(struct writer *w, struct api_text *out)
{
    w->phase = ROWS;
    if (w->series.format == API_SERIES_JSON)
        open_json(w, out);
    else if (w->series.format == API_SERIES_CSV)
        open_csv(w, out);
}

static void write_rows(struct writer *w, struct api_text *out)
{
    const bool is_csv = w->series.format == API_SERIES_CSV;
    for (; w->row < w->row_count && out->length < API_SLICE_BYTES; w->row++)
        (is_csv ? write_csv_row : write_ndjson_row)(w, out, w->row);
    if (w->row == w->row_count)
        w->phase = is_csv ? DONE : CLOSE;
}

static enum lyap_status produce_series(void *ctx, struct api_text *out, bool *ret_is_done)
{
    struct writer *w = ctx;
    if (w->phase == GATHER) {
        const enum lyap_status status = gather(w);
        if (status != LYAP_OK || w->phase == GATHER)
            return status;
    }
    while (w->phase != DONE && out->length < API_SLICE_BYTES && out->status == LYAP_OK) {
        switch (w->phase) {
        case OPEN:
            open_series(w, out);
            break;
        case STEPS:
            write_steps(w, out);
            break;
        case COLUMNS:
            write_columns(w, out);
            break;
        case ROWS:
            write_rows(w, out);
            break;
        case CLOSE:
            (w->series.format == API_SERIES_JSON ? close_json : close_ndjson)(w, out);
            break;
        case GATHER:
        case DONE:
            break;
        }
    }
    *ret_is_done = w->phase == DONE;
    return out->status;
}

static void release_series(void *ctx)
{
    struct writer *w = ctx;
    if (w->cursor)
        w->cursor->close(w->cursor);
    api_budget_return(w->series.budget, w->charged_bytes);
    free(w->steps);
    free(w->resolutions);
    free(w->cells);
    free(w);
}

enum lyap_status api_series_reply(const struct api_series *series, struct api_reply *reply)
{
    assert(series->metric_count > 0 && series->metric_count <= LYAP_SERIES_METRICS_MAX);
    struct writer *w = calloc(1, sizeof *w);
    if (!w)
        return LYAP_E_NOMEM;
    w->series = *series;
    w->last_key = series->query.after;
    w->resolution = 1;
    reply->stream =
        (struct api_stream){ .produce = produce_series, .release = release_series, .ctx = w };
    return LYAP_OK;
}
