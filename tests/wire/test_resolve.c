/* Names on the wire against the tensors of the run. */
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/partial.h"
#include "lyap/role.h"
#include "wire_support.h"

enum { ENTRIES_MAX = 64 };
static struct lyap_wire_entry entries[ENTRIES_MAX];
static char names[ENTRIES_MAX][400];
static uint32_t entry_count;
static struct lyap_snapshot snapshot;
static struct lyap_declaration declaration;
static struct lyap_error err;

/* A body entry of rank 1 or 2 (columns 0: rank 1). */
static struct lyap_wire_entry *add(const char *name, enum lyap_dtype dtype, uint64_t rows,
                                   uint64_t columns)
{
    struct lyap_wire_entry *entry = &entries[entry_count];
    (void)snprintf(names[entry_count], sizeof names[0], "%s", name);
    *entry = (struct lyap_wire_entry){ .name = names[entry_count],
                                       .dtype = dtype,
                                       .rank = columns > 0 ? 2 : 1,
                                       .shape = { rows, columns },
                                       .count = rows * (columns > 0 ? columns : 1) };
    entry->bytes = entry->count * lyap_dtype_bytes(dtype);
    entry_count++;
    return entry;
}

static void shard(const char *json)
{
    ck_assert_int_eq(lyap_wire_query_set(&snapshot, "shard", json, NULL), LYAP_OK);
}

/* The run has a [4,3] and b [5]. */
static void setup(void)
{
    entry_count = 0;
    err = (struct lyap_error)LYAP_ERROR_NULL;
    lyap_snapshot_init(&snapshot);
    struct lyap_tensor *tensors = lyap_alloc_array(2, sizeof *tensors);
    tensors[0] =
        (struct lyap_tensor){ .name = lyap_alloc_string("a"), .shape = { 4, 3 }, .rank = 2 };
    tensors[1] = (struct lyap_tensor){ .name = lyap_alloc_string("b"), .shape = { 5 }, .rank = 1 };
    lyap_declaration_init(&declaration);
    ck_assert_int_eq(lyap_tensor_set_build(tensors, 2, &declaration.set, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_network_init(&declaration.network, 1), LYAP_OK);
    uint32_t *name = &declaration.network.layers[0].name;
    ck_assert_int_eq(lyap_network_add_text(&declaration.network, "fc", name), LYAP_OK);
    ck_assert_int_eq(lyap_network_compile(&declaration.network, NULL), LYAP_OK);
}

static void teardown(void)
{
    lyap_snapshot_release(&snapshot);
    lyap_declaration_release(&declaration);
    ck_assert_int_eq(test_alloc_live(), 0);
}

static enum lyap_status resolve(struct lyap_intake_entry **ret)
{
    err = (struct lyap_error)LYAP_ERROR_NULL;
    return lyap_wire_resolve(entries, entry_count, &snapshot, &declaration, ret, &err);
}

static void assert_refused(enum lyap_status status, const char *fragment)
{
    struct lyap_intake_entry *resolved = NULL;
    const enum lyap_status got = resolve(&resolved);
    ck_assert_msg(got == status, "%s: %s", lyap_status_slug(got), err.text);
    ck_assert_msg(strstr(err.text, fragment) != NULL, "\"%s\" lacks \"%s\"", err.text, fragment);
    ck_assert_ptr_null(resolved);
}

START_TEST(full_push_resolves)
{
    struct lyap_intake_entry *resolved;
    add("grad/b", LYAP_DTYPE_BF16, 5, 0);
    add("param/a", LYAP_DTYPE_F32, 4, 3);
    add("act/fc", LYAP_DTYPE_F32, 100, 7);
    add("pair_s/a", LYAP_DTYPE_F64, 4, 3);
    ck_assert_msg(resolve(&resolved) == LYAP_OK, "%s", err.text);
    static const struct {
        enum lyap_intake_kind kind;
        uint32_t what, tensor;
        enum lyap_dtype dtype;
        uint64_t count;
    } expected[] = {
        { LYAP_INTAKE_TENSOR, LYAP_ROLE_GRAD, 1, LYAP_DTYPE_BF16, 5 },
        { LYAP_INTAKE_TENSOR, LYAP_ROLE_PARAM, 0, LYAP_DTYPE_F32, 12 },
        { LYAP_INTAKE_TENSOR, LYAP_ROLE_ACT, 1, LYAP_DTYPE_F32, 700 },
        { LYAP_INTAKE_TENSOR, LYAP_ROLE_PAIR_S, 0, LYAP_DTYPE_F64, 12 },
    };
    for (int i = 0; i < 4; i++) {
        ck_assert_uint_eq(resolved[i].kind, expected[i].kind);
        ck_assert_uint_eq(resolved[i].what, expected[i].what);
        ck_assert_uint_eq(resolved[i].tensor, expected[i].tensor);
        ck_assert_uint_eq(resolved[i].dtype, expected[i].dtype);
        ck_assert_uint_eq(resolved[i].count, expected[i].count);
        const bool is_act = expected[i].what == LYAP_ROLE_ACT; /* its shape is not declared */
        ck_assert_ptr_eq(resolved[i].shape, is_act ? entries[i].shape : NULL);
    }
    lyap_free(resolved);
}
END_TEST

START_TEST(no_tensors_resolve_to_none)
{
    struct lyap_intake_entry *resolved;
    struct lyap_tensor_set set = { .count = 9 };
    ck_assert_int_eq(resolve(&resolved), LYAP_OK);
    lyap_free(resolved);
    ck_assert_int_eq(lyap_wire_param_set(NULL, 0, &snapshot, &set, NULL), LYAP_OK);
    ck_assert_uint_eq(set.count, 0);
    ck_assert_ptr_null(set.tensors);
}
END_TEST

#define LONG100                                                                                    \
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"     \
    "890123456789"
static const struct {
    const char *name;
    enum lyap_status status;
    const char *fragment;
} misnamed[] = {
    { "w", LYAP_E_INVALID,
      "tensor \"w\" has no role; names are role/name, such as param/fc1.weight" },
    { "", LYAP_E_INVALID, "has no role" },
    { "params/w", LYAP_E_UNKNOWN_FIELD,
      "\"params/w\" has an unknown role; known: param, grad, delta, exp_avg, exp_avg_sq, "
      "probe_grad" },
    { "/w", LYAP_E_UNKNOWN_FIELD, "unknown role" },
    { "param/", LYAP_E_INVALID, "has 0 bytes, but must have 1 to 256" },
    { "param/" LONG100 LONG100 LONG100, LYAP_E_INVALID, "has 300 bytes, but must have 1 to 256" },
    { "reduce/param_square", LYAP_E_UNKNOWN_FIELD,
      "no field \"param_square\" (did you mean param_sq?" },
    { "reduce/gradparam", LYAP_E_UNKNOWN_FIELD, "did you mean grad_param?" },
    { "sketch/weights", LYAP_E_UNKNOWN_FIELD, "known: param, grad, delta" },
    { "grad/c", LYAP_E_TENSOR_SET, "tensor \"grad/c\" belongs to no param tensor of the run" },
};

START_TEST(bad_names_are_explained)
{
    add(misnamed[_i].name, LYAP_DTYPE_F64, 2, 0);
    assert_refused(misnamed[_i].status, misnamed[_i].fragment);
}
END_TEST

START_TEST(shapes_are_compared)
{
    add("grad/a", LYAP_DTYPE_F32, 3, 4);
    assert_refused(LYAP_E_INVALID, "\"grad/a\" has shape [3,4], but the run has it as [4,3]");
    entry_count = 0;
    add("grad/a", LYAP_DTYPE_F32, 12, 0);
    assert_refused(LYAP_E_INVALID, "has shape [12], but the run has it as [4,3]");
}
END_TEST

START_TEST(grades_do_not_mix)
{
    struct lyap_tensor_set set;
    add("param/a", LYAP_DTYPE_F32, 4, 3);
    add("reduce/param_sq", LYAP_DTYPE_F64, 2, 0);
    assert_refused(LYAP_E_CONTRADICTION, "full (param/, grad/ ...) or partial (reduce/, sketch/)");
    ck_assert_int_eq(lyap_wire_param_set(entries, entry_count, &snapshot, &set, NULL),
                     LYAP_E_CONTRADICTION);
}
END_TEST

static void add_partial(const char *but)
{
    static const char *const roles[] = { "param", "grad" };
    static const char *const moments[] = { "count",     "sq",  "abs",     "zeros",
                                           "nonfinite", "max", "block_sq" };
    for (int r = 0; r < 2; r++) {
        char name[64];
        for (int m = 0; m < 7; m++) {
            (void)snprintf(name, sizeof name, "reduce/%s_%s", roles[r], moments[m]);
            if (strcmp(name, but) != 0)
                add(name, LYAP_DTYPE_F64, 2, 0);
        }
        (void)snprintf(name, sizeof name, "sketch/%s", roles[r]);
        if (strcmp(name, but) != 0)
            add(name, LYAP_DTYPE_F64, LYAP_SKETCH_SIZE, 0);
    }
}

START_TEST(partial_push_resolves)
{
    struct lyap_intake_entry *resolved;
    struct lyap_tensor_set set = { .count = 9 };
    add_partial("");
    add("reduce/pair_sy", LYAP_DTYPE_F64, 2, 0);
    ck_assert_msg(resolve(&resolved) == LYAP_OK, "%s", err.text);
    ck_assert_uint_eq(resolved[0].kind, LYAP_INTAKE_REDUCE);
    ck_assert_uint_eq(resolved[0].what, LYAP_REDUCE_PARAM_COUNT);
    ck_assert_uint_eq(resolved[7].kind, LYAP_INTAKE_SKETCH);
    ck_assert_uint_eq(resolved[7].count, LYAP_SKETCH_SIZE);
    ck_assert_uint_eq(resolved[16].what, LYAP_REDUCE_PAIR_SY);
    lyap_free(resolved);
    ck_assert_int_eq(lyap_wire_param_set(entries, entry_count, &snapshot, &set, NULL), LYAP_OK);
    ck_assert_uint_eq(set.count, 0);
}
END_TEST

START_TEST(partial_push_is_whole)
{
    add_partial("reduce/grad_max");
    assert_refused(LYAP_E_MISSING_FIELD, "reduce/grad_max is missing; a partial push has");
    entry_count = 0;
    add_partial("sketch/param");
    assert_refused(LYAP_E_MISSING_FIELD, "sketch/param is missing");
}
END_TEST

START_TEST(partial_rows_have_one_form)
{
    add("reduce/param_sq", LYAP_DTYPE_F32, 2, 0);
    assert_refused(LYAP_E_INVALID, "\"reduce/param_sq\" has dtype F32, but must be F64");
    entry_count = 0;
    add("reduce/param_sq", LYAP_DTYPE_F64, 3, 0);
    assert_refused(LYAP_E_INVALID, "has shape [3], but must be [2], a value per tensor of the run");
    entry_count = 0;
    add("reduce/param_sq", LYAP_DTYPE_F64, 2, 1);
    assert_refused(LYAP_E_INVALID, "has shape [2,1], but must be [2]");
    entry_count = 0;
    add("sketch/grad", LYAP_DTYPE_F64, 100, 0);
    assert_refused(LYAP_E_INVALID, "but must be [4096], the size of a sketch");
    entry_count = 0;
    lyap_declaration_release(&declaration);
    add("reduce/param_sq", LYAP_DTYPE_F64, 2, 0);
    assert_refused(LYAP_E_INVALID, "a partial push needs the tensors of the run");
}
END_TEST

static const struct {
    const char *json;
    uint64_t rows, columns; /* of param/a */
    const char *fragment;   /* NULL: fine */
} shards[] = {
    { "{\"a\":{\"shape\":[4,3],\"offset\":7}}", 5, 0, NULL },
    { "{\"a\":{\"shape\":[4,3],\"offset\":6}}", 2, 3, NULL },
    { "{\"a\":{\"shape\":[4,3],\"offset\":12}}", 0, 0, NULL },
    { "{\"a\":{\"shape\":[4,3],\"offset\":7}}", 6, 0, "offset and elements reach beyond the end" },
    { "{\"a\":{\"shape\":[4,3],\"offset\":13}}", 0, 0, "reach beyond the end" },
    { "{\"a\":{\"shape\":[4,3],\"offset\":18446744073709551615}}", 2, 0, "reach beyond the end" },
    { "{\"a\":{\"shape\":[3,4],\"offset\":0}}", 2, 0, "the run has the tensor in another shape" },
    { "{\"a\":{\"shape\":[12],\"offset\":0}}", 2, 0, "the run has the tensor in another shape" },
    { "{\"a\":{\"shape\":[4,3],\"start\":[2,1]}}", 2, 2, NULL },
    { "{\"a\":{\"shape\":[4,3],\"start\":[2,1]}}", 3, 2, "start and shape reach beyond the end" },
    { "{\"a\":{\"shape\":[4,3],\"start\":[2,1]}}", 2, 3, "start and shape reach beyond the end" },
    { "{\"a\":{\"shape\":[4,3],\"start\":[5,0]}}", 1, 1, "start and shape reach beyond the end" },
    { "{\"a\":{\"shape\":[4,3],\"start\":[2,1]}}", 4, 0, "a box has the rank of the whole" },
    { "{\"c\":{\"shape\":[4,3],\"offset\":0}}", 4, 3, "shard: \"c\" is no tensor of the run" },
    { "{\"param/a\":{\"shape\":[4,3],\"offset\":0}}", 4, 3, "names go without role" },
};

START_TEST(shards_lie_within)
{
    struct lyap_intake_entry *resolved = NULL;
    shard(shards[_i].json);
    add("param/a", LYAP_DTYPE_F32, shards[_i].rows, shards[_i].columns);
    if (shards[_i].fragment) {
        assert_refused(LYAP_E_INVALID, shards[_i].fragment);
        return;
    }
    ck_assert_msg(resolve(&resolved) == LYAP_OK, "%s", err.text);
    ck_assert_uint_eq(resolved[0].count, entries[0].count);
    const bool is_box = strstr(shards[_i].json, "start") != NULL;
    ck_assert(is_box ? resolved[0].rank == 2 && resolved[0].shape[1] == 2 : !resolved[0].shape);
    lyap_free(resolved);
}
END_TEST

START_TEST(param_set_has_whole_shapes)
{
    struct lyap_tensor_set set;
    shard("{\"b\":{\"shape\":[5],\"offset\":3},\"a\":{\"shape\":[4,3],\"start\":[0,0]}}");
    add("grad/a", LYAP_DTYPE_F32, 2, 3);
    add("param/b", LYAP_DTYPE_F32, 2, 0);
    add("param/a", LYAP_DTYPE_F32, 2, 3);
    ck_assert_int_eq(lyap_wire_param_set(entries, entry_count, &snapshot, &set, &err), LYAP_OK);
    ck_assert_uint_eq(set.count, 2);
    ck_assert_int_eq(lyap_tensor_set_same(&declaration.set, &set, &err), LYAP_OK);
    ck_assert_str_eq(set.tensors[0].name, "b"); /* in body order */
    lyap_tensor_set_release(&set);
}
END_TEST

START_TEST(survives_every_failing_allocation)
{
    enum lyap_status status = LYAP_E_NOMEM;
    const int64_t live = test_alloc_live();
    uint64_t n = 0;
    add("param/a", LYAP_DTYPE_F32, 4, 3);
    add("grad/b", LYAP_DTYPE_F32, 5, 0);
    while (status == LYAP_E_NOMEM) {
        struct lyap_intake_entry *resolved = NULL;
        struct lyap_tensor_set set = LYAP_TENSOR_SET_NULL;
        test_alloc_fail_at(++n);
        status = lyap_wire_param_set(entries, entry_count, &snapshot, &set, NULL);
        if (status == LYAP_OK)
            status = resolve(&resolved);
        lyap_free(resolved);
        lyap_tensor_set_release(&set);
        ck_assert_int_eq(test_alloc_live(), live);
    }
    test_alloc_fail_at(0);
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_uint_gt(n, 6);
}
END_TEST

int main(void)
{
    test_alloc_install();
    Suite *suite = suite_create("resolve");
    TCase *tcase = tcase_create("resolve");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, full_push_resolves);
    tcase_add_test(tcase, no_tensors_resolve_to_none);
    tcase_add_loop_test(tcase, bad_names_are_explained, 0, sizeof misnamed / sizeof *misnamed);
    tcase_add_test(tcase, shapes_are_compared);
    tcase_add_test(tcase, grades_do_not_mix);
    tcase_add_test(tcase, partial_push_resolves);
    tcase_add_test(tcase, partial_push_is_whole);
    tcase_add_test(tcase, partial_rows_have_one_form);
    tcase_add_loop_test(tcase, shards_lie_within, 0, sizeof shards / sizeof *shards);
    tcase_add_test(tcase, param_set_has_whole_shapes);
    tcase_add_test(tcase, survives_every_failing_allocation);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
