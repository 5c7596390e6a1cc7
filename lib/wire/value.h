/* value.h - checked values out of a JSON tree; messages carry the path of the field. Internal to
 * lib/wire/, with declare*.c the only users of jansson. THREADS: pure functions. */
#ifndef LYAP_WIRE_VALUE_H
#define LYAP_WIRE_VALUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "lyap/status.h"

/* "optimizer.groups[3].lr" */
enum { LYAP_PATH_BYTES = 160 };
struct lyap_path {
    char text[LYAP_PATH_BYTES];
};
/* parent.key, or key alone when parent is NULL; parent[index]. Long paths are cut. */
struct lyap_path lyap_path_key(const struct lyap_path *parent, const char *key);
struct lyap_path lyap_path_index(const struct lyap_path *parent, size_t index);

/* E_INVALID naming path, found type and wanted type. */
LYAP_MUST_CHECK enum lyap_status lyap_value_number(const json_t *value,
                                                   const struct lyap_path *path, double *ret,
                                                   struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status lyap_value_bool(const json_t *value, const struct lyap_path *path,
                                                 bool *ret, struct lyap_error *reterr);
/* An integer from low to high. */
struct lyap_value_range {
    int64_t low, high;
};
LYAP_MUST_CHECK enum lyap_status lyap_value_integer(const json_t *value,
                                                    const struct lyap_path *path,
                                                    struct lyap_value_range range, int64_t *ret,
                                                    struct lyap_error *reterr);
/* 1 to bytes_max bytes; *ret is borrowed from the value. */
LYAP_MUST_CHECK enum lyap_status lyap_value_string(const json_t *value,
                                                   const struct lyap_path *path, size_t bytes_max,
                                                   const char **ret, struct lyap_error *reterr);
/* One of `words`; E_INVALID lists them. */
LYAP_MUST_CHECK enum lyap_status lyap_value_word(const json_t *value, const struct lyap_path *path,
                                                 const char *const *words, size_t word_count,
                                                 unsigned *ret, struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status
lyap_value_object(const json_t *value, const struct lyap_path *path, struct lyap_error *reterr);
/* At least one element, at most `count_max` (E_LIMIT). */
LYAP_MUST_CHECK enum lyap_status lyap_value_list(const json_t *value, const struct lyap_path *path,
                                                 size_t count_max, struct lyap_error *reterr);
/* Every key of the object is among `keys`; E_UNKNOWN_FIELD names the first that is not, and lists
 * them. */
LYAP_MUST_CHECK enum lyap_status lyap_value_keys(json_t *object, const struct lyap_path *path,
                                                 const char *const *keys, size_t key_count,
                                                 struct lyap_error *reterr);
enum lyap_status lyap_value_missing(const struct lyap_path *path, const char *key,
                                    struct lyap_error *reterr);

#endif
