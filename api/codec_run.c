/* JSON -> run declaration. */
#include "codec.h"

#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/wire.h"

#include "codec_json.h"

/* The fields that are the run's own; the rest is the declaration (lib/wire). Strings are copied:
 * they outlive the JSON. */
static enum lyap_status read_labels(const json_t *object, struct api_run_put *put,
                                    struct lyap_error *reterr)
{
    const json_t *value = json_object_get(object, "labels");
    char *json = NULL;
    if (!value)
        return LYAP_OK;
    const enum lyap_status status = api_json_get_labels("labels", value, &json, reterr);
    if (status == LYAP_OK)
        put->labels_json = json;
    return status;
}

static enum lyap_status read_attempt(const json_t *object, struct api_run_put *put,
                                     struct lyap_error *reterr)
{
    const json_t *attempt = json_object_get(object, "attempt");
    const json_t *key = json_object_get(object, "attempt_key");
    const char *text = NULL;
    if (!attempt && !key)
        return LYAP_OK;
    if (!attempt || !json_is_string(attempt) || strcmp(json_string_value(attempt), "new") != 0)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "field 'attempt' must be \"new\", with an attempt_key");
    if (!key)
        return lyap_error_set(reterr, LYAP_E_MISSING_FIELD,
                              "field 'attempt_key' is missing: the same key gets the same attempt "
                              "when the request is repeated");
    const enum lyap_status status =
        api_json_get_string("attempt_key", key, LYAP_LABEL_BYTES_MAX, &text, reterr);
    if (status != LYAP_OK)
        return status;
    if (!*text)
        return lyap_error_set(reterr, LYAP_E_INVALID, "field 'attempt_key' is empty");
    put->is_new_attempt = true;
    put->attempt_key = strdup(text);
    return put->attempt_key ? LYAP_OK : LYAP_E_NOMEM;
}

static enum lyap_status read_ended(const json_t *object, struct api_run_put *put,
                                   struct lyap_error *reterr)
{
    const json_t *value = json_object_get(object, "ended");
    bool is_ended = false;
    put->ended = -1;
    if (!value)
        return LYAP_OK;
    const enum lyap_status status = api_json_get_bool("ended", value, &is_ended, reterr);
    if (status == LYAP_OK)
        put->ended = is_ended;
    return status;
}

enum lyap_status api_decode_run(const char *json, size_t length, const char *base_json,
                                struct api_run_put *ret_put, struct lyap_error *reterr)
{
    struct api_run_put put = { .ended = -1 };
    json_t *object = NULL;
    char *declaration_json = NULL;
    if (length == 0) { /* a run with defaults */
        json = "{}";
        length = 2;
    }
    lyap_declaration_init(&put.declaration);
    enum lyap_status status = api_json_object(json, length, &object, reterr);
    if (status == LYAP_OK)
        status = read_labels(object, &put, reterr);
    if (status == LYAP_OK)
        status = read_attempt(object, &put, reterr);
    if (status == LYAP_OK)
        status = read_ended(object, &put, reterr);
    json_decref(object);
    if (status == LYAP_OK)
        status = lyap_wire_declaration(json, length, base_json, &put.declaration, &declaration_json,
                                       reterr);
    put.declaration_json = declaration_json;
    if (status == LYAP_OK)
        *ret_put = put;
    else
        api_run_put_release(&put);
    return status;
}

void api_run_put_release(struct api_run_put *put)
{
    lyap_declaration_release(&put->declaration);
    lyap_free((void *)(uintptr_t)put->declaration_json);
    free((void *)(uintptr_t)put->labels_json);
    free((void *)(uintptr_t)put->attempt_key);
    *put = (struct api_run_put){ 0 };
}
