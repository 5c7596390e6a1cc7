/* body.h - a snapshot as a safetensors body: header text, then the caller's arrays in place.
 * THREADS: one owner at a time. */
#ifndef LYAP_CLIENT_BODY_H
#define LYAP_CLIENT_BODY_H

#include "http.h"
#include "lyap/dtype.h"
#include "lyap_client.h"

/* One array as the wire names it: role/name, reduce/field, sketch/role. */
struct body_array {
    const char *prefix, *name; /* written as prefix/name */
    enum lyap_dtype dtype;
    uint32_t rank;
    const uint64_t *shape;
    const void *data;
};

struct body {
    char *header;              /* owned; length field and padded JSON */
    struct http_piece *pieces; /* owned; the header and each array */
    uint32_t piece_count;
    uint64_t bytes;
};
#define BODY_NULL                                                                                  \
    {                                                                                              \
        0                                                                                          \
    }

/* A number as the wire writes it; the words NaN, Infinity, -Infinity included. */
enum { BODY_NUMBER_BYTES = 32 };
void body_number(double value, char ret[BODY_NUMBER_BYTES]);

/* Elements of a shape; E_LIMIT beyond LYAP_TENSOR_ELEMENTS_MAX or LYAP_TENSOR_RANK_MAX. */
LYAP_MUST_CHECK enum lyap_status body_count(const char *name, const uint64_t *shape, uint32_t rank,
                                            uint64_t *ret_count, struct lyap_error *reterr);
/* E_INVALID (name, duplicate, missing data), E_LIMIT, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status body_build(const struct body_array *arrays, uint32_t array_count,
                                            const struct lyap_client_meta *metadata,
                                            uint32_t metadata_count, struct body *ret_body,
                                            struct lyap_error *reterr);
void body_release(struct body *body);

#endif
