/* Pushes of a small model, cut into chunks of any length. */
#include "intake_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct lyap_error fixture_error;

void fixture_init(struct fixture *fixture, const uint64_t *lengths, uint32_t count)
{
    memset(fixture, 0, sizeof *fixture);
    lyap_declaration_init(&fixture->declaration);
    for (uint32_t i = 0; i < count; i++) {
        snprintf(fixture->names[i], sizeof fixture->names[i], "t%u", i);
        fixture->tensors[i] = (struct lyap_tensor){
            .name = fixture->names[i], .shape = { lengths[i] }, .rank = 1, .count = lengths[i]
        };
    }
    static uint32_t order[FIXTURE_TENSORS_MAX] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    fixture->declaration.set =
        (struct lyap_tensor_set){ .tensors = fixture->tensors, .count = count, .order = order };
    fixture->retention = LYAP_RETENTION_EXACT;
    fixture->updates = 1;
    fixture->hold_bytes_max = LYAP_HOLD_BYTES_MAX;
    lyap_snapshot_init(&fixture->snapshot);
    fixture_step(fixture, 0);
}

void fixture_free(struct fixture *fixture)
{
    fixture->declaration.set = (struct lyap_tensor_set)LYAP_TENSOR_SET_NULL;
    lyap_declaration_release(&fixture->declaration);
    lyap_snapshot_release(&fixture->snapshot);
}

void fixture_meta(struct fixture *fixture, const char *key, const char *value)
{
    struct lyap_error err = LYAP_ERROR_NULL;
    ck_assert_msg(lyap_snapshot_set(&fixture->snapshot, key, value, &err) == LYAP_OK, "%s: %s", key,
                  err.text);
}

void fixture_step(struct fixture *fixture, int64_t step)
{
    char text[32];
    lyap_snapshot_release(&fixture->snapshot);
    lyap_snapshot_init(&fixture->snapshot);
    snprintf(text, sizeof text, "%lld", (long long)step);
    fixture_meta(fixture, "step", text);
    fixture->array_count = 0;
}

void fixture_add(struct fixture *fixture, enum lyap_role role, uint32_t tensor,
                 enum lyap_dtype dtype, const double *values)
{
    ck_assert(fixture->array_count < FIXTURE_ARRAYS_MAX);
    const uint64_t count = fixture->tensors[tensor].count;
    fixture->arrays[fixture->array_count++] = (struct fixture_array){ .role = role,
                                                                      .tensor = tensor,
                                                                      .dtype = dtype,
                                                                      .values = values,
                                                                      .count = count,
                                                                      .shape = { count },
                                                                      .rank = 1 };
}

/* Nearest value of a 16-bit format by search over all of them: slow and obvious. */
static uint16_t nearest16(enum lyap_dtype dtype, double value)
{
    uint16_t best = 0;
    double best_error = INFINITY;
    for (uint32_t i = 0; i < 65536; i++) {
        const uint16_t pattern = (uint16_t)i;
        double decoded;
        lyap_dtype_widen(dtype, &pattern, 1, &decoded);
        const double error = fabs(decoded - value);
        if (error < best_error || (error == best_error && pattern % 2 == 0)) {
            best = pattern;
            best_error = error;
        }
    }
    return best;
}

uint64_t fixture_narrow(enum lyap_dtype dtype, const double *values, uint64_t count,
                        unsigned char *ret)
{
    const uint64_t size = lyap_dtype_bytes(dtype);
    for (uint64_t i = 0; i < count; i++) {
        const float single = (float)values[i];
        uint16_t half = 0;
        if (dtype == LYAP_DTYPE_F16 || dtype == LYAP_DTYPE_BF16)
            half = nearest16(dtype, values[i]);
        const void *source = dtype == LYAP_DTYPE_F64   ? (const void *)&values[i]
                             : dtype == LYAP_DTYPE_F32 ? (const void *)&single
                                                       : (const void *)&half;
        memcpy(ret + i * size, source, size);
    }
    return count * size;
}

double fixture_rounded(enum lyap_dtype dtype, double value)
{
    unsigned char bytes[8];
    double rounded;
    fixture_narrow(dtype, &value, 1, bytes);
    lyap_dtype_widen(dtype, bytes, 1, &rounded);
    return rounded;
}

static void send_entry(const struct fixture *fixture, struct lyap_intake *intake, uint32_t index,
                       struct test_rng *rng)
{
    const struct fixture_array *array = &fixture->arrays[index];
    unsigned char *bytes = malloc(array->count * 8 + 1);
    ck_assert_ptr_nonnull(bytes);
    /* An odd address: chunks come unaligned. */
    const uint64_t length = fixture_narrow(array->dtype, array->values, array->count, bytes + 1);
    for (uint64_t at = 0; at < length;) {
        uint64_t taken = length - at;
        if (fixture->cut_seed) {
            const uint64_t kind = test_rng_u64(rng) % 4, draw = test_rng_u64(rng);
            const uint64_t wanted = kind == 0 ? 1 : kind == 1 ? draw % 100 : draw % 40000;
            taken = wanted < taken ? wanted : taken;
        }
        /* A copy of its own, so that the sanitizer sees a read past the chunk. */
        unsigned char *chunk = malloc(taken + 1);
        ck_assert_ptr_nonnull(chunk);
        memcpy(chunk, bytes + 1 + at, taken);
        lyap_intake_bytes(intake, index, chunk, taken);
        free(chunk);
        at += taken;
    }
    free(bytes);
}

enum lyap_status fixture_push(const struct fixture *fixture, const struct lyap_memory *previous,
                              struct lyap_memory *take_recycled, struct lyap_partial *ret_partial,
                              struct lyap_memory **ret_memory)
{
    struct lyap_intake_entry entries[FIXTURE_ARRAYS_MAX];
    struct lyap_intake *intake = NULL;
    struct test_rng rng = { fixture->cut_seed };
    const struct lyap_intake_config config = { .declaration = &fixture->declaration,
                                               .snapshot = &fixture->snapshot,
                                               .previous = previous,
                                               .updates = fixture->updates,
                                               .take_recycled = take_recycled,
                                               .sketch_seed = 99,
                                               .retention = fixture->retention,
                                               .hold_bytes_max = fixture->hold_bytes_max,
                                               .spectral = fixture->spectral };
    fixture_error = (struct lyap_error)LYAP_ERROR_NULL;
    *ret_partial = (struct lyap_partial)LYAP_PARTIAL_NULL;
    *ret_memory = NULL;
    for (uint32_t i = 0; i < fixture->array_count; i++)
        entries[i] = (struct lyap_intake_entry){ .kind = LYAP_INTAKE_TENSOR,
                                                 .what = fixture->arrays[i].role,
                                                 .tensor = fixture->arrays[i].tensor,
                                                 .dtype = fixture->arrays[i].dtype,
                                                 .count = fixture->arrays[i].count,
                                                 .shape = fixture->arrays[i].shape,
                                                 .rank = fixture->arrays[i].rank };
    enum lyap_status status = lyap_intake_new(&config, &intake, &fixture_error);
    if (status == LYAP_OK)
        status = lyap_intake_plan(intake, entries, fixture->array_count, &fixture_error);
    for (uint32_t i = 0; status == LYAP_OK && i < fixture->array_count; i++)
        send_entry(fixture, intake, i, &rng);
    if (status == LYAP_OK)
        status = lyap_intake_finish(intake, ret_partial, ret_memory);
    lyap_intake_free(intake);
    return status;
}

void fixture_must_push(const struct fixture *fixture, const struct lyap_memory *previous,
                       struct lyap_partial *ret_partial, struct lyap_memory **ret_memory)
{
    const enum lyap_status status = fixture_push(fixture, previous, NULL, ret_partial, ret_memory);
    ck_assert_msg(status == LYAP_OK, "%s", lyap_error_text(&fixture_error));
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void same_values(const double *a, const double *b, uint32_t count, double tolerance,
                        const char *name)
{
    double scale = 0;
    ck_assert_msg((a == NULL) == (b == NULL), "%s is on one side only", name);
    for (uint32_t i = 0; a && i < count; i++)
        scale = fmax(scale, isnan(b[i]) ? 0 : fabs(b[i]));
    for (uint32_t i = 0; a && i < count; i++) {
        const bool is_same = tolerance == 0 ? bits_of(a[i]) == bits_of(b[i])
                                            : fabs(a[i] - b[i]) <= tolerance * scale;
        ck_assert_msg(is_same || (isnan(a[i]) && isnan(b[i])), "%s[%u]: %.17g and %.17g", name, i,
                      a[i], b[i]);
    }
}

void fixture_same(const struct lyap_partial *a, const struct lyap_partial *b, double tolerance)
{
    ck_assert_uint_eq(a->tensor_count, b->tensor_count);
    for (unsigned r = 0; r < LYAP_REDUCE_COUNT; r++)
        same_values(a->rows[r], b->rows[r],
                    a->tensor_count * lyap_reduce_width((enum lyap_reduce)r), tolerance,
                    lyap_reduce_name((enum lyap_reduce)r));
    for (unsigned s = 0; s < LYAP_SKETCH_COUNT; s++)
        same_values(a->sketches[s], b->sketches[s], a->sketch_size, tolerance,
                    lyap_sketch_name((enum lyap_sketch_role)s));
    ck_assert(a->delta_unit == b->delta_unit && a->grad_unit == b->grad_unit);
    ck_assert(a->is_state_exact == b->is_state_exact);
}
