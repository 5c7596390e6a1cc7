/* intake_fixture.h - a small model and its pushes, for the tests of the intake. */
#ifndef INTAKE_FIXTURE_H
#define INTAKE_FIXTURE_H

#include "support.h"

#include "lyap/intake.h"

enum { FIXTURE_TENSORS_MAX = 8, FIXTURE_ARRAYS_MAX = 64 };

/* One array of a body: `values` are narrowed to `dtype` when it is sent. */
struct fixture_array {
    enum lyap_role role;
    uint32_t tensor;
    enum lyap_dtype dtype;
    const double *values;
    uint64_t count;
    uint64_t shape[LYAP_TENSOR_RANK_MAX];
    uint32_t rank;
};

struct fixture {
    struct lyap_tensor tensors[FIXTURE_TENSORS_MAX];
    char names[FIXTURE_TENSORS_MAX][16];
    struct lyap_declaration declaration;
    struct lyap_snapshot snapshot;
    struct fixture_array arrays[FIXTURE_ARRAYS_MAX];
    uint32_t array_count;
    enum lyap_retention retention;
    uint64_t updates;
    uint64_t hold_bytes_max;
    uint64_t cut_seed;                         /* 0: one chunk an entry */
    const struct lyap_spectral_plan *spectral; /* or NULL */
};

/* A declaration of `count` vectors of the given lengths, named t0, t1 ...; step 0, retention exact.
 * Owns only what fixture_free releases. */
void fixture_init(struct fixture *fixture, const uint64_t *lengths, uint32_t count);
void fixture_free(struct fixture *fixture);
void fixture_meta(struct fixture *fixture, const char *key, const char *value);
void fixture_step(struct fixture *fixture, int64_t step); /* clears metadata and arrays */
void fixture_add(struct fixture *fixture, enum lyap_role role, uint32_t tensor,
                 enum lyap_dtype dtype, const double *values);
/* Runs plan, bytes and finish. `previous` may be NULL. On failure of the plan the outputs are null.
 */
enum lyap_status fixture_push(const struct fixture *fixture, const struct lyap_memory *previous,
                              struct lyap_memory *take_recycled, struct lyap_partial *ret_partial,
                              struct lyap_memory **ret_memory);
/* As above, and everything must succeed. */
void fixture_must_push(const struct fixture *fixture, const struct lyap_memory *previous,
                       struct lyap_partial *ret_partial, struct lyap_memory **ret_memory);
/* Bytes of `count` values as `dtype`, to nearest even; returns how many bytes. */
uint64_t fixture_narrow(enum lyap_dtype dtype, const double *values, uint64_t count,
                        unsigned char *ret);
/* What the bytes hold after narrowing. */
double fixture_rounded(enum lyap_dtype dtype, double value);
/* Same rows, sketches and scalars, to `tolerance` relative (0: to the last bit). */
void fixture_same(const struct lyap_partial *a, const struct lyap_partial *b, double tolerance);

extern struct lyap_error fixture_error; /* of the last push */

#endif
