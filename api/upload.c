/* Pushes: decoding, admission, kernels, submission and the answer. */
#include "upload.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/wire.h"

#include "codec.h"
#include "negotiate.h"
#include "problem.h"
#include "route.h"

/* One snapshot of the body: the whole of it, or a line. */
struct line {
    enum lyap_status status; /* why it was not admitted */
    struct lyap_error error;
    struct api_push_reply *reply; /* owned: the engine's answer or the first answer repeated */
    struct api_ticket *ticket;    /* owned until submitted */
};

struct api_upload {
    const struct api_request *request;
    const struct api_ports *ports;
    const char *run;
    enum lyap_wire_format format;
    struct lyap_snapshot query;
    uint64_t body_bytes, body_bytes_max;
    bool has_body;
    bool is_minimal;
    enum lyap_status status; /* of the whole body */
    struct lyap_error error;

    struct line *lines; /* owned */
    uint32_t line_count, line_capacity;
    uint32_t encoded; /* lines that the reply holds already */
    struct lyap_wire_decoder
        *decoder;               /* of the current line; NULL between lines and after errors */
    uint64_t charged_bytes;     /* to the budget, for what the decoder holds */
    struct lyap_intake *intake; /* of the current line; NULL without tensors */
    struct api_ticket *ticket;  /* admitted, not yet attached */
    struct api_ticket *chain;   /* the newest attached one */
    bool is_line_started;       /* NDJSON: something but blanks came since the newline */

    pthread_mutex_t lock; /* guards what follows, and lines[].reply once submitted */
    uint32_t submitted_count, answered_count;
    struct api_ticket **tickets; /* owned: from the end of the body to the submission */
    uint32_t *submitted;         /* owned: line of each ticket, in order */
    api_upload_answered *answered;
    void *answered_arg;
    bool is_answered; /* `answered` was or is being called */
    bool is_abandoned;
    bool is_released;
};

static enum lyap_status read_query(const struct api_request *request,
                                   struct lyap_snapshot *snapshot, struct lyap_error *reterr)
{
    for (uint32_t i = 0; i < request->query_count; i++) {
        const enum lyap_status status =
            lyap_wire_query_set(snapshot, request->query[i].name, request->query[i].value, reterr);
        if (status != LYAP_OK)
            return status;
    }
    return LYAP_OK;
}

enum lyap_status api_upload_new(const struct api_request *request, bool has_body,
                                uint64_t body_bytes_max, struct api_upload **ret_upload,
                                struct lyap_error *reterr)
{
    const char *run = request->path_args[0];
    if (!lyap_run_name_is_valid(run))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "run name '%.140s' is not of 1 to %d characters A-Z a-z 0-9 . _ -",
                              run, LYAP_RUN_NAME_BYTES_MAX);
    struct api_upload *upload = calloc(1, sizeof *upload);
    if (!upload)
        return LYAP_E_NOMEM;
    *upload = (struct api_upload){
        .request = request,
        .ports = request->ports,
        .run = run,
        .has_body = has_body,
        .body_bytes_max = body_bytes_max,
        .is_minimal = api_prefer_minimal(request->headers.prefer),
    };
    pthread_mutex_init(&upload->lock, NULL);
    lyap_snapshot_init(&upload->query);
    enum lyap_status status = api_push_format(&request->headers, has_body, &upload->format, reterr);
    if (status == LYAP_OK)
        status = read_query(request, &upload->query, reterr);
    if (status == LYAP_OK)
        *ret_upload = upload;
    else
        api_upload_release(upload);
    return status;
}

static struct line *current_line(struct api_upload *upload)
{
    assert(upload->line_count > 0);
    return &upload->lines[upload->line_count - 1];
}

/* ---- the decoder's events ---- */

static enum lyap_status admit(struct api_upload *upload, const struct lyap_snapshot *snapshot,
                              const struct lyap_wire_entry *entries, uint32_t entry_count,
                              struct api_admission *ret_admission, struct lyap_error *reterr)
{
    struct lyap_tensor_set pushed = LYAP_TENSOR_SET_NULL;
    enum lyap_status status = lyap_wire_param_set(entries, entry_count, snapshot, &pushed, reterr);
    if (status != LYAP_OK)
        return status;
    struct api_push_reply *first = NULL;
    status = upload->ports->push_admit(upload->ports->ctx, upload->run, snapshot, &pushed,
                                       upload->chain, ret_admission, &first, reterr);
    lyap_tensor_set_release(&pushed);
    if (status == LYAP_OK)
        upload->ticket = ret_admission->ticket;
    if (status == LYAP_E_DUPLICATE)
        current_line(upload)->reply = first;
    return status;
}

static enum lyap_status on_snapshot(void *ctx, struct lyap_snapshot *snapshot,
                                    const struct lyap_wire_entry *entries, uint32_t entry_count,
                                    struct lyap_error *reterr)
{
    struct api_upload *upload = ctx;
    struct lyap_intake_entry *resolved = NULL;
    struct api_admission admission = { 0 };
    enum lyap_status status = admit(upload, snapshot, entries, entry_count, &admission, reterr);
    if (status != LYAP_OK || entry_count == 0)
        goto out;
    status = lyap_wire_resolve(entries, entry_count, snapshot, admission.intake.declaration,
                               &resolved, reterr);
    if (status != LYAP_OK) {
        lyap_memory_free(admission.intake.take_recycled);
        goto out;
    }
    status = lyap_intake_new(&admission.intake, &upload->intake, reterr);
    if (status != LYAP_OK)
        goto out;
    status = lyap_intake_plan(upload->intake, resolved, entry_count, reterr);
out:
    lyap_free(resolved);
    return status;
}

static void on_bytes(void *ctx, uint32_t entry, const void *bytes, uint64_t length)
{
    struct api_upload *upload = ctx;
    lyap_intake_bytes(upload->intake, entry, bytes, length);
}

static enum lyap_status on_end(void *ctx, struct lyap_error *reterr)
{
    struct api_upload *upload = ctx;
    struct lyap_partial partial = LYAP_PARTIAL_NULL;
    struct lyap_memory *memory = NULL;
    if (upload->intake) {
        const enum lyap_status status = lyap_intake_finish(upload->intake, &partial, &memory);
        if (status != LYAP_OK)
            return lyap_error_set(reterr, status, "%s", lyap_status_text(status));
        lyap_intake_free(upload->intake);
        upload->intake = NULL;
    }
    upload->ports->push_attach(upload->ports->ctx, upload->ticket, &partial, memory);
    upload->chain = current_line(upload)->ticket = upload->ticket;
    upload->ticket = NULL;
    return LYAP_OK;
}

/* ---- lines ---- */

static bool line_is_open(const struct api_upload *upload)
{
    return upload->decoder != NULL;
}

/* Ends the work on the current snapshot, without a trace when it was not attached. */
static void line_close(struct api_upload *upload)
{
    lyap_intake_free(upload->intake);
    upload->intake = NULL;
    if (upload->ticket)
        upload->ports->push_abort(upload->ports->ctx, upload->ticket);
    upload->ticket = NULL;
    lyap_wire_decoder_free(upload->decoder);
    upload->decoder = NULL;
    api_budget_return(upload->request->budget, upload->charged_bytes);
    upload->charged_bytes = 0;
}

static void line_fail(struct api_upload *upload, enum lyap_status status,
                      const struct lyap_error *error)
{
    struct line *line = current_line(upload);
    line_close(upload);
    if (line->reply) /* a duplicate is an answer */
        return;
    line->status = status;
    line->error = *error;
}

static enum lyap_status line_append(struct api_upload *upload)
{
    if (upload->line_count == LYAP_NDJSON_LINES_MAX)
        return lyap_error_set(&upload->error, LYAP_E_LIMIT,
                              "the body has more than %d lines (ndjson lines of one commit)",
                              LYAP_NDJSON_LINES_MAX);
    if (upload->line_count == upload->line_capacity) {
        const uint32_t capacity = upload->line_capacity ? 2 * upload->line_capacity : 1;
        struct line *lines = realloc(upload->lines, capacity * sizeof *lines);
        if (!lines)
            return LYAP_E_NOMEM;
        upload->lines = lines;
        upload->line_capacity = capacity;
    }
    upload->lines[upload->line_count++] = (struct line){ .status = LYAP_OK };
    return LYAP_OK;
}

static enum lyap_status line_open(struct api_upload *upload)
{
    const struct lyap_wire_options options = {
        .format = upload->format == LYAP_WIRE_NDJSON ? LYAP_WIRE_JSON : upload->format,
        .query = &upload->query,
        .body_bytes_max = upload->body_bytes_max,
        .events = { upload, on_snapshot, on_bytes, on_end },
    };
    enum lyap_status status = line_append(upload);
    if (status == LYAP_OK)
        status = lyap_wire_decoder_new(&options, &upload->decoder);
    return status;
}

/* Headers and documents count as bodies in the making. */
static enum lyap_status charge(struct api_upload *upload, struct lyap_error *reterr)
{
    const uint64_t held = lyap_wire_held_bytes(upload->decoder);
    if (held <= upload->charged_bytes)
        return LYAP_OK;
    if (!api_budget_take(upload->request->budget, held - upload->charged_bytes))
        return lyap_error_set(reterr, LYAP_E_BUSY,
                              "too many headers and documents are being received");
    upload->charged_bytes = held;
    return LYAP_OK;
}

static void line_bytes(struct api_upload *upload, const void *bytes, size_t length)
{
    struct lyap_error error = LYAP_ERROR_NULL;
    enum lyap_status status = lyap_wire_feed(upload->decoder, bytes, length, &error);
    if (status == LYAP_OK)
        status = charge(upload, &error);
    if (status != LYAP_OK)
        line_fail(upload, status, &error);
}

static void line_finish(struct api_upload *upload)
{
    struct lyap_error error = LYAP_ERROR_NULL;
    const enum lyap_status status = lyap_wire_finish(upload->decoder, &error);
    if (status != LYAP_OK)
        line_fail(upload, status, &error);
    else
        line_close(upload);
}

/* ---- the body ---- */

static void fail(struct api_upload *upload, enum lyap_status status)
{
    line_close(upload);
    upload->status = status;
    if (upload->error.status == LYAP_OK)
        (void)lyap_error_set(&upload->error, status, "%s", lyap_status_text(status));
}

static bool is_blank(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!strchr(" \t\r", bytes[i]))
            return false;
    return true;
}

/* Part of one line; `is_last` when its newline follows. */
static void ndjson_part(struct api_upload *upload, const char *part, size_t length, bool is_last)
{
    if (!upload->is_line_started && !is_blank(part, length)) {
        upload->is_line_started = true;
        const enum lyap_status status = line_open(upload);
        if (status != LYAP_OK) {
            fail(upload, status);
            return;
        }
    }
    if (line_is_open(upload) && length > 0)
        line_bytes(upload, part, length);
    if (!is_last)
        return;
    if (line_is_open(upload))
        line_finish(upload);
    upload->is_line_started = false;
}

static void ndjson_bytes(struct api_upload *upload, const char *bytes, size_t length)
{
    while (length > 0 && upload->status == LYAP_OK) {
        const char *newline = memchr(bytes, '\n', length);
        const size_t part = newline ? (size_t)(newline - bytes) : length;
        ndjson_part(upload, bytes, part, newline != NULL);
        bytes += part + (newline != NULL);
        length -= part + (newline != NULL);
    }
}

static bool is_replaced(struct api_upload *upload)
{
    return upload->ticket && upload->ports->push_is_replaced(upload->ports->ctx, upload->ticket);
}

void api_upload_bytes(struct api_upload *upload, const void *bytes, size_t length)
{
    if (upload->status != LYAP_OK)
        return;
    upload->body_bytes += length;
    if (upload->body_bytes > upload->body_bytes_max) {
        (void)lyap_error_set(&upload->error, LYAP_E_LIMIT,
                             "the body is larger than %llu bytes (body_bytes_max)",
                             (unsigned long long)upload->body_bytes_max);
        fail(upload, LYAP_E_LIMIT);
        return;
    }
    if (is_replaced(upload)) {
        fail(upload, LYAP_E_REPLACED);
        return;
    }
    if (upload->format == LYAP_WIRE_NDJSON) {
        ndjson_bytes(upload, bytes, length);
        return;
    }
    if (upload->line_count == 0) {
        const enum lyap_status status = line_open(upload);
        if (status != LYAP_OK) {
            fail(upload, status);
            return;
        }
    }
    if (line_is_open(upload))
        line_bytes(upload, bytes, length);
}

enum lyap_status api_upload_status(const struct api_upload *upload)
{
    if (upload->status != LYAP_OK || upload->format == LYAP_WIRE_NDJSON || upload->line_count == 0)
        return upload->status;
    return upload->lines[0].status;
}

/* An empty body is a document of its own: an empty object when no type was given, so that all may
 * stand in the query string; else an empty, and so a truncated, one. */
static void body_is_empty(struct api_upload *upload)
{
    if (upload->format == LYAP_WIRE_NDJSON) {
        fail(upload, lyap_error_set(&upload->error, LYAP_E_FORMAT, "the body has no line"));
        return;
    }
    const enum lyap_status status = line_open(upload);
    if (status != LYAP_OK) {
        fail(upload, status);
        return;
    }
    if (!upload->has_body && !upload->request->headers.content_type)
        line_bytes(upload, "{}", 2);
}

/* Latest first: a ticket of the chain goes before the one it builds on. */
static void abort_tickets(struct api_upload *upload)
{
    for (uint32_t i = upload->line_count; i-- > 0;) {
        if (upload->lines[i].ticket)
            upload->ports->push_abort(upload->ports->ctx, upload->lines[i].ticket);
        upload->lines[i].ticket = NULL;
    }
    upload->chain = NULL;
}

/* The tickets move from their lines into one array. */
static enum lyap_status gather_tickets(struct api_upload *upload)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < upload->line_count; i++)
        count += upload->lines[i].ticket != NULL;
    if (count == 0)
        return LYAP_OK;
    upload->tickets = malloc(count * sizeof(struct api_ticket *));
    upload->submitted = malloc(count * sizeof *upload->submitted);
    if (!upload->tickets || !upload->submitted)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; i < upload->line_count; i++) {
        if (!upload->lines[i].ticket)
            continue;
        upload->tickets[upload->submitted_count] = upload->lines[i].ticket;
        upload->submitted[upload->submitted_count++] = i;
        upload->lines[i].ticket = NULL;
    }
    return LYAP_OK;
}

bool api_upload_end(struct api_upload *upload)
{
    if (upload->status == LYAP_OK && upload->line_count == 0)
        body_is_empty(upload);
    if (upload->status == LYAP_OK && is_replaced(upload))
        fail(upload, LYAP_E_REPLACED);
    if (line_is_open(upload))
        line_finish(upload);
    if (upload->status == LYAP_OK) {
        const enum lyap_status status = gather_tickets(upload);
        if (status != LYAP_OK)
            fail(upload, status);
    }
    if (upload->status != LYAP_OK)
        abort_tickets(upload);
    return upload->submitted_count > 0;
}

/* ---- submission ---- */

static void destroy(struct api_upload *upload)
{
    for (uint32_t i = 0; i < upload->line_count; i++)
        api_push_reply_free(upload->lines[i].reply);
    lyap_snapshot_release(&upload->query);
    pthread_mutex_destroy(&upload->lock);
    free(upload->tickets);
    free(upload->submitted);
    free(upload->lines);
    free(upload);
}

/* The engine's thread: one call per ticket, in order. After the last the engine holds nothing. */
static void on_done(void *arg, struct api_push_reply *take_reply)
{
    struct api_upload *upload = arg;
    pthread_mutex_lock(&upload->lock);
    assert(upload->answered_count < upload->submitted_count);
    const uint32_t line = upload->submitted[upload->answered_count++];
    if (!upload->is_abandoned) {
        upload->lines[line].reply = take_reply;
        take_reply = NULL;
    }
    const bool is_last = upload->answered_count == upload->submitted_count;
    const bool is_destroyed = is_last && upload->is_released;
    const bool is_answer = is_last && !upload->is_answered;
    upload->is_answered |= is_answer;
    /* Read under the lock: once it is answered, the connection's thread may release the upload. */
    api_upload_answered *answered = upload->answered;
    void *answered_arg = upload->answered_arg;
    pthread_mutex_unlock(&upload->lock);

    api_push_reply_free(take_reply);
    if (is_destroyed)
        destroy(upload);
    if (is_answer)
        answered(answered_arg);
}

void api_upload_submit(struct api_upload *upload, api_upload_answered *answered, void *arg)
{
    assert(upload->submitted_count > 0 && upload->tickets);
    const struct api_ports *ports = upload->ports;
    struct api_ticket **tickets = upload->tickets;
    upload->tickets = NULL;
    upload->chain = NULL;
    upload->answered = answered;
    upload->answered_arg = arg;
    ports->push_submit(ports->ctx, tickets, upload->submitted_count, on_done, upload);
    free(tickets);
}

bool api_upload_abandon(struct api_upload *upload)
{
    pthread_mutex_lock(&upload->lock);
    const bool is_ours = !upload->is_answered;
    if (is_ours)
        upload->is_answered = upload->is_abandoned = true;
    pthread_mutex_unlock(&upload->lock);
    return is_ours;
}

void api_upload_release(struct api_upload *upload)
{
    if (!upload)
        return;
    line_close(upload);
    abort_tickets(upload);
    pthread_mutex_lock(&upload->lock);
    const bool is_held = upload->answered_count < upload->submitted_count && !upload->tickets;
    upload->is_released = true;
    pthread_mutex_unlock(&upload->lock);
    if (!is_held)
        destroy(upload);
}

/* ---- the answer ---- */

/* OK, or why the snapshot of this line was not stored. */
static enum lyap_status line_status(const struct line *line, const struct lyap_error **ret_error)
{
    static const struct lyap_error none = LYAP_ERROR_NULL;
    *ret_error = line->reply ? &line->reply->error : &line->error;
    if (line->reply)
        return line->reply->status;
    if (line->status != LYAP_OK)
        return line->status;
    *ret_error = &none;
    return LYAP_E_STOPPING; /* abandoned */
}

static enum lyap_status produce_lines(void *ctx, struct api_text *out, bool *ret_is_done)
{
    struct api_upload *upload = ctx;
    for (; upload->encoded < upload->line_count && out->length < API_SLICE_BYTES;
         upload->encoded++) {
        struct line *line = &upload->lines[upload->encoded];
        const struct lyap_error *error;
        const enum lyap_status status = line_status(line, &error);
        if (status == LYAP_OK)
            api_encode_push(out, line->reply, upload->is_minimal);
        else
            api_problem_encode(out, status, error, NULL, upload->encoded);
        api_text_puts(out, "\n");
        api_push_reply_free(line->reply);
        line->reply = NULL;
    }
    *ret_is_done = upload->encoded == upload->line_count;
    return out->status;
}

static void release_nothing(void *ctx)
{
    (void)ctx; /* the request owns the upload, and outlives its reply */
}

enum lyap_status api_upload_reply(struct api_upload *upload, struct api_reply *reply,
                                  struct lyap_error *reterr)
{
    if (upload->status != LYAP_OK) {
        *reterr = upload->error;
        return upload->status;
    }
    reply->is_minimal = upload->is_minimal;
    if (upload->format == LYAP_WIRE_NDJSON) {
        reply->content_type = API_TYPE_NDJSON;
        reply->stream = (struct api_stream){ .produce = produce_lines,
                                             .release = release_nothing,
                                             .ctx = upload };
        return LYAP_OK;
    }
    const struct line *line = current_line(upload);
    const struct lyap_error *error;
    const enum lyap_status status = line_status(line, &error);
    if (status != LYAP_OK) {
        *reterr = *error;
        return status;
    }
    reply->http_status = line->reply->push == API_PUSH_WAITING ? 202 : 200;
    api_encode_push(&reply->body, line->reply, upload->is_minimal);
    api_text_puts(&reply->body, "\n");
    return LYAP_OK;
}
