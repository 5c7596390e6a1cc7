/* codec_json.h - strict reading of a JSON object into fields by a table. Only codec_*.c include it:
 * jansson stays there. THREADS: pure functions. */
#ifndef LYAP_API_CODEC_JSON_H
#define LYAP_API_CODEC_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lyap/status.h"

/* Parses one object: duplicate keys, trailing text and depth are errors (E_FORMAT, with position).
 * The caller decrefs. */
LYAP_MUST_CHECK enum lyap_status api_json_object(const char *json, size_t length,
                                                 json_t **ret_object, struct lyap_error *reterr);

/* Sets one field of `target` from the value of its key. */
typedef enum lyap_status api_json_setter(void *target, const char *key, const json_t *value,
                                         struct lyap_error *reterr);
struct api_json_field {
    const char *key;
    api_json_setter *set;
};
/* E_UNKNOWN_FIELD lists the known ones. */
LYAP_MUST_CHECK enum lyap_status api_json_fields(const json_t *object,
                                                 const struct api_json_field *fields, size_t count,
                                                 void *target, struct lyap_error *reterr);

/* Checked values; E_INVALID names key and range. Numbers accept "NaN", "Infinity", "-Infinity". */
LYAP_MUST_CHECK enum lyap_status api_json_get_string(const char *key, const json_t *value,
                                                     size_t bytes_max, const char **ret,
                                                     struct lyap_error *reterr);
struct api_json_range {
    int64_t min, max;
};
LYAP_MUST_CHECK enum lyap_status api_json_get_int(const char *key, const json_t *value,
                                                  struct api_json_range range, int64_t *ret,
                                                  struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status api_json_get_number(const char *key, const json_t *value,
                                                     double *ret, struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status api_json_get_bool(const char *key, const json_t *value, bool *ret,
                                                   struct lyap_error *reterr);
/* An object of strings within the limits of labels, as canonical text: freed with free(). */
LYAP_MUST_CHECK enum lyap_status api_json_get_labels(const char *key, const json_t *value,
                                                     char **ret_json, struct lyap_error *reterr);

#endif
