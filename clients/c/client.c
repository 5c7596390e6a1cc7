/* The client: declares a run, pushes snapshots, asks. */
#include "lyap_client.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "body.h"
#include "grade.h"
#include "http.h"
#include "lyap/alloc.h"
#include "reply.h"

enum {
    CLIENT_PATH_BYTES = LYAP_RUN_NAME_BYTES_MAX + 64,
    CLIENT_META_FIXED = 6, /* step, loss, lr, attempt, twin_log, twin_name */
    CLIENT_TEXTS = 4,      /* of single numbers */
    CLIENT_META_MAX = 64   /* keys of one push; the wire format has 25 and 32 labels */
};

struct lyap_client {
    struct http *http;
    char *run;
    uint32_t deadline_ms, attempt;
    enum lyap_client_grade grade_kind;
    bool is_minimal;
    struct grade grade;
    struct lyap_client_stats stats;
};

/* Sends and turns any answer other than 2xx into an error. *ret_response is released by the caller
 * with free(text) when OK. */
static enum lyap_status call(struct lyap_client *client, const struct http_request *request,
                             struct http_response *ret_response, struct lyap_error *reterr)
{
    enum lyap_status status =
        http_send(client->http, request, client->deadline_ms, ret_response, reterr);
    if (status != LYAP_OK)
        return status;
    client->stats.repetitions += ret_response->repetitions;
    if (ret_response->status >= 200 && ret_response->status < 300)
        return LYAP_OK;
    status = reply_problem(ret_response->status, ret_response->text, ret_response->length, reterr);
    free(ret_response->text);
    ret_response->text = NULL;
    return status;
}

static enum lyap_status put_run(struct lyap_client *client, const char *json,
                                struct lyap_error *reterr)
{
    char path[CLIENT_PATH_BYTES];
    struct http_response response = { .text = NULL };
    struct reply_run run = { 0 };
    snprintf(path, sizeof path, "/v1/runs/%s", client->run);
    const struct http_piece piece = { json, strlen(json) };
    const struct http_request request = { .method = "PUT",
                                          .path = path,
                                          .content_type = "application/json",
                                          .pieces = &piece,
                                          .piece_count = 1 };
    enum lyap_status status = call(client, &request, &response, reterr);
    if (status == LYAP_OK)
        status = reply_parse_run(response.text, response.length, &run, reterr);
    if (status == LYAP_OK) {
        client->attempt = run.attempt;
        client->grade.seed = run.sketch_seed;
    }
    if (status == LYAP_OK && client->grade_kind == LYAP_CLIENT_PARTIAL && !run.has_seed)
        status = lyap_error_set(reterr, LYAP_E_FORMAT, "the daemon's answer has no sketch_seed");
    free(response.text);
    return status;
}

/* The declaration with what the options say about the attempt; freed with free(). */
static enum lyap_status put_text(const struct lyap_client_options *options, char **ret_text,
                                 struct lyap_error *reterr)
{
    json_error_t error = { .text = "" };
    json_t *root = json_loads(options->declaration ? options->declaration : "{}",
                              JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root)) {
        json_decref(root);
        return lyap_error_set(reterr, LYAP_E_FORMAT, "declaration is no JSON object: %s (line %d)",
                              error.text, error.line);
    }
    int failed = 0;
    if (options->attempt_key) {
        failed |= json_object_set_new(root, "attempt", json_string("new"));
        failed |= json_object_set_new(root, "attempt_key", json_string(options->attempt_key));
    }
    char *text = failed ? NULL : json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(root);
    if (!text)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for the declaration");
    *ret_text = text;
    return LYAP_OK;
}

enum lyap_status lyap_client_open(const struct lyap_client_options *options,
                                  struct lyap_client **ret_client, struct lyap_error *reterr)
{
    char *text = NULL;
    enum lyap_status status = LYAP_OK;
    if (!options->run || !lyap_run_name_is_valid(options->run))
        return lyap_error_set(reterr, LYAP_E_INVALID, "run \"%s\" is not [A-Za-z0-9._-]{1,%d}",
                              options->run ? options->run : "(none)", LYAP_RUN_NAME_BYTES_MAX);
    struct lyap_client *client = lyap_alloc_array(1, sizeof *client);
    if (!client)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for the client");
    client->deadline_ms = options->deadline_ms ? options->deadline_ms : LYAP_CLIENT_DEADLINE_MS;
    client->grade_kind = options->grade;
    client->is_minimal = options->is_minimal;
    client->run = lyap_alloc_string(options->run);
    if (!client->run)
        status = lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for the client");
    if (status == LYAP_OK)
        status = http_new(options->url, options->token, &client->http, reterr);
    if (status == LYAP_OK)
        status = put_text(options, &text, reterr);
    if (status == LYAP_OK && options->grade == LYAP_CLIENT_PARTIAL)
        status = grade_init(&client->grade, options->declaration, options->retention, reterr);
    if (status == LYAP_OK)
        status = put_run(client, text, reterr);
    free(text);
    if (status != LYAP_OK) {
        lyap_client_close(client);
        return status;
    }
    *ret_client = client;
    return LYAP_OK;
}

void lyap_client_close(struct lyap_client *client)
{
    if (!client)
        return;
    grade_release(&client->grade);
    http_free(client->http);
    lyap_free(client->run);
    lyap_free(client);
}

/* Keys of one push with the texts of its numbers. */
struct metadata {
    struct lyap_client_meta items[CLIENT_META_MAX];
    uint32_t count;
    char texts[CLIENT_TEXTS][BODY_NUMBER_BYTES];
    char twin_logs[LYAP_TWIN_COUNT_MAX * BODY_NUMBER_BYTES];
    char twin_names[LYAP_TWIN_COUNT_MAX * (LYAP_TWIN_NAME_BYTES_MAX + 1)];
};

static void add_meta(struct metadata *metadata, const char *key, const char *value)
{
    assert(metadata->count < CLIENT_META_MAX);
    metadata->items[metadata->count++] = (struct lyap_client_meta){ key, value };
}

/* The twins as two comma lists. */
static enum lyap_status collect_twins(const struct lyap_client_push *push, struct metadata *ret,
                                      struct lyap_error *reterr)
{
    size_t logs = 0, names = 0;
    if (push->twin_count > LYAP_TWIN_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "%" PRIu32 " twins, at most %d",
                              push->twin_count, LYAP_TWIN_COUNT_MAX);
    for (uint32_t i = 0; i < push->twin_count; i++) {
        const struct lyap_client_twin *twin = &push->twins[i];
        const char *name = twin->name ? twin->name : LYAP_TWIN_DEFAULT, *comma = i > 0 ? "," : "";
        char number[BODY_NUMBER_BYTES];
        if (!*name || strlen(name) > LYAP_TWIN_NAME_BYTES_MAX || strchr(name, ','))
            return lyap_error_set(reterr, LYAP_E_INVALID,
                                  "twin %" PRIu32 ": the name \"%.80s\" must have 1 to %d bytes "
                                  "and no comma",
                                  i, name, LYAP_TWIN_NAME_BYTES_MAX);
        body_number(twin->log, number);
        logs += (size_t)snprintf(ret->twin_logs + logs, sizeof ret->twin_logs - logs, "%s%s", comma,
                                 number);
        names += (size_t)snprintf(ret->twin_names + names, sizeof ret->twin_names - names, "%s%s",
                                  comma, name);
    }
    if (push->twin_count > 0) {
        add_meta(ret, "twin_log", ret->twin_logs);
        add_meta(ret, "twin_name", ret->twin_names);
    }
    return LYAP_OK;
}

static enum lyap_status collect(const struct lyap_client *client,
                                const struct lyap_client_push *push, struct metadata *ret,
                                struct lyap_error *reterr)
{
    *ret = (struct metadata){ .count = 0 };
    if (push->metadata_count > CLIENT_META_MAX - CLIENT_META_FIXED - GRADE_META_COUNT)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "%" PRIu32 " metadata keys, at most %d",
                              push->metadata_count,
                              CLIENT_META_MAX - CLIENT_META_FIXED - GRADE_META_COUNT);
    snprintf(ret->texts[0], BODY_NUMBER_BYTES, "%" PRId64, push->step);
    add_meta(ret, "step", ret->texts[0]);
    snprintf(ret->texts[1], BODY_NUMBER_BYTES, "%" PRIu32, client->attempt);
    add_meta(ret, "attempt", ret->texts[1]);
    body_number(push->loss, ret->texts[2]);
    if (push->has_loss)
        add_meta(ret, "loss", ret->texts[2]);
    body_number(push->lr, ret->texts[3]);
    if (push->has_lr)
        add_meta(ret, "lr", ret->texts[3]);
    for (uint32_t i = 0; i < push->metadata_count; i++)
        add_meta(ret, push->metadata[i].key, push->metadata[i].value);
    return collect_twins(push, ret, reterr);
}

static enum lyap_status full_body(const struct lyap_client_push *push,
                                  const struct metadata *metadata, struct body *ret_body,
                                  struct lyap_error *reterr)
{
    struct body_array *arrays = lyap_alloc_array(push->array_count, sizeof *arrays);
    if (!arrays)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for the push");
    for (uint32_t i = 0; i < push->array_count; i++) {
        const struct lyap_client_array *array = &push->arrays[i];
        arrays[i] = (struct body_array){ .prefix = lyap_role_name(array->role),
                                         .name = array->name,
                                         .dtype = array->dtype,
                                         .rank = array->rank,
                                         .shape = array->shape,
                                         .data = array->data };
    }
    const enum lyap_status status =
        body_build(arrays, push->array_count, metadata->items, metadata->count, ret_body, reterr);
    lyap_free(arrays);
    return status;
}

static enum lyap_status partial_body(struct lyap_client *client,
                                     const struct lyap_client_push *push, struct metadata *metadata,
                                     struct grade_body *ret_reduced, struct body *ret_body,
                                     struct lyap_error *reterr)
{
    char *tensors = NULL;
    enum lyap_status status = LYAP_OK;
    if (client->grade.declaration.set.count == 0) {
        status = grade_learn(&client->grade, push, &tensors, reterr);
        if (status == LYAP_OK)
            status = put_run(client, tensors, reterr);
        free(tensors);
    }
    if (status == LYAP_OK)
        status = grade_reduce(&client->grade, push, ret_reduced, reterr);
    if (status != LYAP_OK)
        return status;
    for (uint32_t i = 0; i < ret_reduced->meta_count; i++)
        add_meta(metadata, ret_reduced->metadata[i].key, ret_reduced->metadata[i].value);
    return body_build(ret_reduced->arrays, ret_reduced->array_count, metadata->items,
                      metadata->count, ret_body, reterr);
}

static enum lyap_status post(struct lyap_client *client, const struct body *body,
                             struct lyap_client_reply *ret_reply, struct lyap_error *reterr)
{
    char path[CLIENT_PATH_BYTES];
    struct http_response response = { .text = NULL };
    struct timespec now; /* by which the daemon tells a wrong clock from a late push */
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(path, sizeof path, "/v1/runs/%s/snapshots?sent=%lld.%03ld", client->run,
             (long long)now.tv_sec, now.tv_nsec / 1000000);
    const struct http_request request = { .method = "POST",
                                          .path = path,
                                          .content_type = "application/vnd.safetensors",
                                          .prefer = client->is_minimal ? "return=minimal" : NULL,
                                          .pieces = body->pieces,
                                          .piece_count = body->piece_count };
    enum lyap_status status = call(client, &request, &response, reterr);
    if (status == LYAP_OK)
        status = reply_parse_push(response.text, response.length, ret_reply, reterr);
    free(response.text);
    return status;
}

enum lyap_status lyap_client_push(struct lyap_client *client, const struct lyap_client_push *push,
                                  struct lyap_client_reply *ret_reply, struct lyap_error *reterr)
{
    const bool is_partial = client->grade_kind == LYAP_CLIENT_PARTIAL && push->array_count > 0;
    struct metadata metadata;
    struct grade_body reduced = { .array_count = 0 };
    struct body body = BODY_NULL;
    struct lyap_client_reply reply;
    enum lyap_status status = collect(client, push, &metadata, reterr);
    if (status == LYAP_OK)
        status = is_partial ? partial_body(client, push, &metadata, &reduced, &body, reterr)
                            : full_body(push, &metadata, &body, reterr);
    if (status == LYAP_OK)
        status = post(client, &body, &reply, reterr);
    if (status == LYAP_OK) {
        client->stats.pushes++;
        client->stats.bytes += body.bytes;
        if (is_partial)
            grade_commit(&client->grade);
        if (ret_reply)
            *ret_reply = reply;
    } else {
        client->stats.failures++;
    }
    body_release(&body);
    grade_body_release(&reduced);
    return status;
}

enum lyap_status lyap_client_get(struct lyap_client *client, const char *path, char **ret_text,
                                 struct lyap_error *reterr)
{
    struct http_response response = { .text = NULL };
    const struct http_request request = { .method = "GET", .path = path };
    if (path[0] != '/')
        return lyap_error_set(reterr, LYAP_E_INVALID, "path \"%s\" does not start with /", path);
    const enum lyap_status status = call(client, &request, &response, reterr);
    if (status == LYAP_OK)
        *ret_text = response.text;
    return status;
}

enum lyap_status lyap_client_end(struct lyap_client *client, struct lyap_error *reterr)
{
    return put_run(client, "{\"ended\":true}", reterr);
}

uint32_t lyap_client_attempt(const struct lyap_client *client)
{
    return client->attempt;
}

struct lyap_client_stats lyap_client_get_stats(const struct lyap_client *client)
{
    return client->stats;
}

void lyap_client_free(char *text)
{
    free(text);
}
