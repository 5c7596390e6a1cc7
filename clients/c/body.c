/* Safetensors bodies. */
#include "body.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/limits.h"

enum {
    BODY_LENGTH_BYTES = 8, /* of the field before the header, little endian */
    BODY_NAME_BYTES = LYAP_TENSOR_NAME_BYTES_MAX + 32
};

void body_number(double value, char ret[BODY_NUMBER_BYTES])
{
    if (isnan(value))
        snprintf(ret, BODY_NUMBER_BYTES, "NaN");
    else if (isinf(value))
        snprintf(ret, BODY_NUMBER_BYTES, value > 0 ? "Infinity" : "-Infinity");
    else
        snprintf(ret, BODY_NUMBER_BYTES, "%.17g", value);
}

enum lyap_status body_count(const char *name, const uint64_t *shape, uint32_t rank,
                            uint64_t *ret_count, struct lyap_error *reterr)
{
    uint64_t count = 1;
    if (rank > LYAP_TENSOR_RANK_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "array \"%s\": rank %" PRIu32 ", at most %d",
                              name, rank, LYAP_TENSOR_RANK_MAX);
    for (uint32_t i = 0; i < rank; i++) {
        if (shape[i] != 0 && count > LYAP_TENSOR_ELEMENTS_MAX / shape[i])
            return lyap_error_set(reterr, LYAP_E_LIMIT,
                                  "array \"%s\": more than %" PRIu64 " elements", name,
                                  LYAP_TENSOR_ELEMENTS_MAX);
        count *= shape[i];
    }
    *ret_count = count;
    return LYAP_OK;
}

static json_t *metadata_object(const struct lyap_client_meta *metadata, uint32_t count,
                               struct lyap_error *reterr)
{
    json_t *object = json_object();
    for (uint32_t i = 0; object && i < count; i++) {
        if (json_object_get(object, metadata[i].key) ||
            json_object_set_new(object, metadata[i].key, json_string(metadata[i].value)) != 0) {
            lyap_error_set(reterr, LYAP_E_INVALID, "metadata \"%s\" is there twice or not UTF-8",
                           metadata[i].key);
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *array_object(const struct body_array *array, uint64_t start, uint64_t end)
{
    json_t *shape = json_array();
    for (uint32_t i = 0; shape && i < array->rank; i++)
        if (json_array_append_new(shape, json_integer((json_int_t)array->shape[i])) != 0) {
            json_decref(shape);
            return NULL;
        }
    return json_pack("{s:s,s:o,s:[I,I]}", "dtype", lyap_dtype_name(array->dtype), "shape", shape,
                     "data_offsets", (json_int_t)start, (json_int_t)end);
}

/* Adds the entry and the piece of one array. */
static enum lyap_status add_array(json_t *header, const struct body_array *array, struct body *body,
                                  struct lyap_error *reterr)
{
    char name[BODY_NAME_BYTES];
    uint64_t count = 0;
    if (!array->name || strlen(array->name) > LYAP_TENSOR_NAME_BYTES_MAX)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "an array's name is missing or above %d bytes",
                              LYAP_TENSOR_NAME_BYTES_MAX);
    snprintf(name, sizeof name, "%s/%s", array->prefix, array->name);
    const enum lyap_status status = body_count(name, array->shape, array->rank, &count, reterr);
    if (status != LYAP_OK)
        return status;
    if (!array->data && count > 0)
        return lyap_error_set(reterr, LYAP_E_INVALID, "array \"%s\" has no data", name);
    const uint64_t bytes = count * lyap_dtype_bytes(array->dtype);
    if (body->bytes > INT64_MAX - bytes)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "the body exceeds 2^63 bytes");
    if (json_object_get(header, name))
        return lyap_error_set(reterr, LYAP_E_INVALID, "array \"%s\" is there twice", name);
    if (json_object_set_new(header, name, array_object(array, body->bytes, body->bytes + bytes)))
        return lyap_error_set(reterr, LYAP_E_INVALID, "array \"%s\": no memory, or not UTF-8",
                              name);
    body->pieces[body->piece_count++] = (struct http_piece){ array->data, bytes };
    body->bytes += bytes;
    return LYAP_OK;
}

/* Length field, JSON, and spaces up to a multiple of eight, so that F64 data lies aligned. */
static enum lyap_status write_header(const json_t *header, struct body *body,
                                     struct lyap_error *reterr)
{
    const size_t flags = JSON_COMPACT | JSON_PRESERVE_ORDER;
    const size_t length = json_dumpb(header, NULL, 0, flags);
    const size_t padded = (length + 7) / 8 * 8;
    if (length == 0 || padded > LYAP_HEADER_BYTES_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "the header has %zu bytes, at most %d", padded,
                              LYAP_HEADER_BYTES_MAX);
    body->header = lyap_alloc_array(BODY_LENGTH_BYTES + padded, 1);
    if (!body->header)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for the header");
    for (int i = 0; i < BODY_LENGTH_BYTES; i++)
        body->header[i] = (char)(unsigned char)((uint64_t)padded >> (8 * i));
    memset(body->header + BODY_LENGTH_BYTES, ' ', padded);
    if (json_dumpb(header, body->header + BODY_LENGTH_BYTES, length, flags) != length)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for the header");
    body->pieces[0] = (struct http_piece){ body->header, BODY_LENGTH_BYTES + padded };
    return LYAP_OK;
}

enum lyap_status body_build(const struct body_array *arrays, uint32_t array_count,
                            const struct lyap_client_meta *metadata, uint32_t metadata_count,
                            struct body *ret_body, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_E_NOMEM;
    struct body body = BODY_NULL;
    json_t *header = json_object();
    json_t *meta = metadata_object(metadata, metadata_count, reterr);
    body.pieces = lyap_alloc_array((size_t)array_count + 1, sizeof *body.pieces);
    if (!meta && reterr && reterr->status != LYAP_OK)
        status = reterr->status;
    if (!header || !meta || !body.pieces || json_object_set(header, "__metadata__", meta) != 0)
        goto out;
    body.piece_count = 1;
    for (uint32_t i = 0; i < array_count; i++) {
        status = add_array(header, &arrays[i], &body, reterr);
        if (status != LYAP_OK)
            goto out;
    }
    status = write_header(header, &body, reterr);
    if (status != LYAP_OK)
        goto out;
    body.bytes += body.pieces[0].length;
    *ret_body = body;
    body = (struct body)BODY_NULL;
out:
    body_release(&body);
    json_decref(meta);
    json_decref(header);
    return status == LYAP_E_NOMEM ? lyap_error_set(reterr, status, "no memory for the body")
                                  : status;
}

void body_release(struct body *body)
{
    lyap_free(body->header);
    lyap_free(body->pieces);
    *body = (struct body)BODY_NULL;
}
