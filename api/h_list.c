/* Lists in slices, and single rows. */
#include "handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct lyap_query api_query_init(enum lyap_table table)
{
    return (struct lyap_query){ .table = table,
                                .to_step = LYAP_STEP_MAX,
                                .after = -1,
                                .limit = 1,
                                .state = -1,
                                .severity = -1 };
}

/* Every slice is a query of its own, from the key where the last one ended: no read connection is
 * held while a slow client reads. */
struct listing {
    const struct api_ports *ports;
    struct api_list list;
    uint32_t limit, sent;
    int64_t after;
    bool is_open;
};

static void open_list(struct listing *listing, struct api_text *out)
{
    listing->is_open = true;
    api_json_open(out, '{');
    if (listing->list.run) {
        api_json_key(out, "run");
        api_json_string(out, listing->list.run);
    }
    if (listing->list.query.attempt > 0) {
        api_json_key(out, "attempt");
        api_json_int(out, listing->list.query.attempt);
    }
    if (listing->list.sort) {
        api_json_key(out, "sort");
        api_json_string(out, listing->list.sort);
    }
    api_json_key(out, listing->list.name);
    api_json_open(out, '[');
}

static void close_list(const struct listing *listing, struct api_text *out, bool has_more)
{
    char text[API_CURSOR_BYTES];
    const struct api_cursor cursor = { listing->list.table, listing->list.query.attempt,
                                       listing->after };
    api_cursor_format(&cursor, text);
    api_json_close(out, ']');
    api_json_key(out, "cursor");
    api_json_string(out, text);
    api_json_key(out, "more");
    api_json_bool(out, has_more);
    api_json_close(out, '}');
    api_text_puts(out, "\n");
}

/* One row beyond the limit is asked for: it says whether there is more. */
static enum lyap_status produce_list(void *ctx, struct api_text *out, bool *ret_is_done)
{
    struct listing *listing = ctx;
    struct lyap_query query = listing->list.query;
    const uint32_t left = listing->limit - listing->sent;
    struct lyap_cursor *cursor = NULL;
    query.after = listing->after;
    query.limit = left < API_SLICE_ROWS ? left + 1 : API_SLICE_ROWS;
    enum lyap_status status = listing->ports->query(listing->ports->ctx, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    if (!listing->is_open)
        open_list(listing, out);
    struct lyap_record record;
    uint32_t rows = 0;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK) {
        rows++;
        if (listing->sent == listing->limit)
            break;
        listing->list.encode(out, &record);
        listing->after = record.key;
        listing->sent++;
    }
    cursor->close(cursor);
    if (status != LYAP_OK && status != LYAP_E_NOT_FOUND)
        return status;
    const bool is_beyond = status == LYAP_OK;
    *ret_is_done = is_beyond || rows < query.limit;
    if (*ret_is_done)
        close_list(listing, out, is_beyond);
    return out->status;
}

static enum lyap_status read_place(const struct api_request *request, struct listing *listing,
                                   struct lyap_error *reterr)
{
    const char *text = api_query_get(request, "cursor");
    const char *order = api_query_get(request, "order");
    const struct api_range range = { 1, LYAP_LIST_LIMIT_MAX, LYAP_LIST_LIMIT_DEFAULT };
    int64_t limit;
    enum lyap_status status = api_query_int(request, "limit", range, &limit, reterr);
    listing->after = -1;
    if (status == LYAP_OK && text) {
        struct api_cursor cursor;
        status = api_cursor_parse(text, listing->list.table, &cursor, reterr);
        if (status == LYAP_OK)
            listing->after = cursor.after;
    }
    if (status != LYAP_OK)
        return status;
    listing->limit = (uint32_t)limit;
    listing->list.query.is_descending = order && strcmp(order, "desc") == 0;
    return LYAP_OK;
}

enum lyap_status api_list_reply(const struct api_request *request, const struct api_list *list,
                                struct api_reply *reply, struct lyap_error *reterr)
{
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing)
        return LYAP_E_NOMEM;
    listing->ports = request->ports;
    listing->list = *list;
    const enum lyap_status status = read_place(request, listing, reterr);
    if (status != LYAP_OK) {
        free(listing);
        return status;
    }
    reply->stream = (struct api_stream){ .produce = produce_list, .release = free, .ctx = listing };
    return LYAP_OK;
}

enum lyap_status api_check_run_name(const char *run, struct lyap_error *reterr)
{
    if (lyap_run_name_is_valid(run))
        return LYAP_OK;
    return lyap_error_set(reterr, LYAP_E_INVALID,
                          "run name '%.140s' is not of 1 to %d characters A-Z a-z 0-9 . _ -", run,
                          LYAP_RUN_NAME_BYTES_MAX);
}

enum lyap_status api_first_row(const struct api_request *request, const struct lyap_query *query,
                               api_row_use *use, void *arg)
{
    const struct api_ports *ports = request->ports;
    struct lyap_cursor *cursor = NULL;
    enum lyap_status status = ports->query(ports->ctx, query, &cursor);
    if (status != LYAP_OK)
        return status;
    struct lyap_record record;
    status = cursor->next(cursor, &record);
    if (status == LYAP_OK)
        status = use(arg, &record);
    cursor->close(cursor);
    return status;
}

static enum lyap_status keep_run(void *arg, const struct lyap_record *record)
{
    struct lyap_run_record *run = arg;
    *run = record->u.run;
    run->declaration_json = run->labels_json = NULL;
    return LYAP_OK;
}

enum lyap_status api_find_run(const struct api_request *request, const char *run,
                              struct lyap_run_record *ret_run, struct lyap_error *reterr)
{
    enum lyap_status status = api_check_run_name(run, reterr);
    if (status != LYAP_OK)
        return status;
    struct lyap_query query = api_query_init(LYAP_TABLE_RUNS);
    query.run = run;
    status = api_first_row(request, &query, keep_run, ret_run);
    return status == LYAP_E_NOT_FOUND ? lyap_error_set(reterr, status, "there is no run '%s'", run)
                                      : status;
}

static enum lyap_status keep_point(void *arg, const struct lyap_record *record)
{
    return lyap_point_copy(&record->u.point, arg);
}

enum lyap_status api_last_point(const struct api_request *request, const char *run,
                                struct lyap_point *ret_point)
{
    const struct api_ports *ports = request->ports;
    const enum lyap_status status = ports->latest(ports->ctx, run, ret_point);
    if (status != LYAP_E_NOT_FOUND)
        return status;
    struct lyap_query query = api_query_init(LYAP_TABLE_POINTS);
    query.run = run;
    query.is_descending = true;
    return api_first_row(request, &query, keep_point, ret_point);
}

enum lyap_status api_path_id(const struct api_request *request, int64_t *ret_id,
                             struct lyap_error *reterr)
{
    const char *text = request->path_args[0];
    errno = 0;
    const long long id = strtoll(text, NULL, 10);
    if (strspn(text, "0123456789") != strlen(text) || errno != 0 || id < 1)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "'%.32s' is no id", text);
    *ret_id = id;
    return LYAP_OK;
}
