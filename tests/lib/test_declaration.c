/* Tensor sets and declarations: building, finding, comparing, copying, groups. */
#include "lyap/declaration.h"

#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/glob.h"
#include "support.h"

/* Tensors "<prefix><i>" of shape [i + 1, 2]. */
static struct lyap_tensor *tensors(const char *prefix, uint32_t count)
{
    struct lyap_tensor *array = lyap_alloc_array(count, sizeof *array);
    for (uint32_t i = 0; i < count; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "%s%u", prefix, i);
        array[i] = (struct lyap_tensor){ .name = lyap_alloc_string(name),
                                         .shape = { i + 1, 2 },
                                         .rank = 2 };
    }
    return array;
}

static struct lyap_tensor_set built(const char *prefix, uint32_t count)
{
    struct lyap_tensor_set set = LYAP_TENSOR_SET_NULL;
    ck_assert_int_eq(lyap_tensor_set_build(tensors(prefix, count), count, &set, NULL), LYAP_OK);
    return set;
}

START_TEST(set_finds_every_tensor)
{
    enum { COUNT = 300 };
    struct lyap_tensor_set set = built("layer.", COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        const char *name = set.tensors[i].name;
        ck_assert_int_eq(lyap_tensor_set_find(&set, name, strlen(name)), i);
        ck_assert_uint_eq(set.tensors[i].count, 2 * (i + 1));
    }
    for (uint32_t i = 1; i < COUNT; i++)
        ck_assert_int_lt(strcmp(set.tensors[set.order[i - 1]].name, set.tensors[set.order[i]].name),
                         0);
    /* Not terminated: only the given bytes count. */
    ck_assert_int_eq(lyap_tensor_set_find(&set, "layer.10rest", 8), 10);
    ck_assert_int_eq(lyap_tensor_set_find(&set, "layer.10rest", 7), 1);
    ck_assert_int_eq(lyap_tensor_set_find(&set, "layer.", 6), -1);
    ck_assert_int_eq(lyap_tensor_set_find(&set, "zzz", 3), -1);
    ck_assert_int_eq(lyap_tensor_set_find(&set, "", 0), -1);
    lyap_tensor_set_release(&set);
    lyap_tensor_set_release(&set); /* the null value */
    ck_assert_int_eq(lyap_tensor_set_find(&set, "a", 1), -1);
}
END_TEST

START_TEST(set_of_strange_shapes)
{
    struct lyap_tensor *array = tensors("t", 3);
    array[0].rank = 0; /* a scalar */
    array[1].shape[0] = 0;
    array[1].shape[1] = UINT64_MAX; /* no elements, whatever the other sizes */
    array[1].rank = 1;
    array[2].shape[0] = LYAP_TENSOR_ELEMENTS_MAX / 2; /* exactly the limit */
    struct lyap_tensor_set set;
    ck_assert_int_eq(lyap_tensor_set_build(array, 3, &set, NULL), LYAP_OK);
    ck_assert_uint_eq(set.tensors[0].count, 1);
    ck_assert_uint_eq(set.tensors[1].count, 0);
    ck_assert_uint_eq(set.tensors[2].count, LYAP_TENSOR_ELEMENTS_MAX);
    lyap_tensor_set_release(&set);
}
END_TEST

static void name_twice(struct lyap_tensor *t)
{
    memcpy(t[2].name, t[0].name, 3);
}
static void name_empty(struct lyap_tensor *t)
{
    t[1].name[0] = '\0';
}
static void name_absent(struct lyap_tensor *t)
{
    lyap_free(t[1].name);
    t[1].name = NULL;
}
static void name_long(struct lyap_tensor *t)
{
    lyap_free(t[1].name);
    t[1].name = lyap_alloc_array(LYAP_TENSOR_NAME_BYTES_MAX + 2, 1);
    memset(t[1].name, 'n', LYAP_TENSOR_NAME_BYTES_MAX + 1);
}
static void rank_high(struct lyap_tensor *t)
{
    t[1].rank = LYAP_TENSOR_RANK_MAX + 1;
}
static void too_large(struct lyap_tensor *t)
{
    t[1].shape[0] = LYAP_TENSOR_ELEMENTS_MAX;
}
static void overflows(struct lyap_tensor *t)
{
    t[1].shape[0] = t[1].shape[1] = UINT64_C(1) << 32;
}

static const struct {
    void (*spoil)(struct lyap_tensor *);
    const char *fragment;
} spoilt[] = {
    { name_twice, "\"t0\" occurs twice" },
    { name_empty, "has 0 bytes" },
    { name_absent, "has 0 bytes" },
    { name_long, "has 257 bytes, but must have 1 to 256" },
    { rank_high, "9 dimensions; at most 8" },
    { too_large, "2^48" },
    { overflows, "2^48" },
};

START_TEST(set_refuses)
{
    struct lyap_tensor *array = tensors("t", 3);
    struct lyap_tensor_set set = LYAP_TENSOR_SET_NULL;
    struct lyap_error err = LYAP_ERROR_NULL;
    spoilt[_i].spoil(array);
    ck_assert_int_eq(lyap_tensor_set_build(array, 3, &set, &err), LYAP_E_INVALID);
    ck_assert_msg(strstr(err.text, spoilt[_i].fragment) != NULL, "%s", err.text);
    ck_assert_ptr_null(set.tensors);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

START_TEST(set_refuses_counts)
{
    struct lyap_tensor_set set = LYAP_TENSOR_SET_NULL;
    struct lyap_error err = LYAP_ERROR_NULL;
    ck_assert_int_eq(lyap_tensor_set_build(NULL, 0, &set, &err), LYAP_E_INVALID);
    const uint32_t many = LYAP_TENSOR_COUNT_MAX + 1;
    struct lyap_tensor *array = lyap_alloc_array(many, sizeof *array);
    err = (struct lyap_error)LYAP_ERROR_NULL;
    ck_assert_int_eq(lyap_tensor_set_build(array, many, &set, &err), LYAP_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(err.text, "100001 tensors exceed the limit of 100000"));
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

START_TEST(same_ignores_order_and_names_differences)
{
    struct lyap_tensor_set a = built("t", 4);
    struct lyap_tensor *reversed = tensors("t", 4);
    const struct lyap_tensor first = reversed[0];
    reversed[0] = reversed[3];
    reversed[3] = first;
    struct lyap_tensor_set b;
    ck_assert_int_eq(lyap_tensor_set_build(reversed, 4, &b, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_tensor_set_same(&a, &b, NULL), LYAP_OK);

    struct lyap_error err = LYAP_ERROR_NULL;
    b.tensors[1].shape[1] = 7;
    ck_assert_int_eq(lyap_tensor_set_same(&a, &b, &err), LYAP_E_TENSOR_SET);
    ck_assert_str_eq(err.text, "param tensor \"t1\" has shape [2,7], but the run has it as [2,2]");
    lyap_tensor_set_release(&b);

    struct lyap_tensor_set fewer = built("t", 3), more = built("t", 5);
    err = (struct lyap_error)LYAP_ERROR_NULL;
    ck_assert_int_eq(lyap_tensor_set_same(&a, &fewer, &err), LYAP_E_TENSOR_SET);
    ck_assert_str_eq(err.text, "param tensor \"t3\" of the run is missing from the push");
    err = (struct lyap_error)LYAP_ERROR_NULL;
    ck_assert_int_eq(lyap_tensor_set_same(&a, &more, &err), LYAP_E_TENSOR_SET);
    ck_assert_str_eq(err.text, "param tensor \"t4\" is not among the tensors of the run");
    lyap_tensor_set_release(&fewer);
    lyap_tensor_set_release(&more);
    lyap_tensor_set_release(&a);
}
END_TEST

START_TEST(build_survives_every_failing_allocation)
{
    enum lyap_status status = LYAP_E_NOMEM;
    struct lyap_tensor_set set = LYAP_TENSOR_SET_NULL;
    uint64_t n = 0;
    while (status == LYAP_E_NOMEM) {
        struct lyap_tensor *array = tensors("t", 5);
        test_alloc_fail_at(++n);
        status = lyap_tensor_set_build(array, 5, &set, NULL);
        test_alloc_fail_at(0);
        ck_assert(status == LYAP_OK || test_alloc_live() == 0);
    }
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_uint_eq(n, 3);
    lyap_tensor_set_release(&set);
}
END_TEST

static struct lyap_declaration declared(void)
{
    struct lyap_declaration declaration;
    lyap_declaration_init(&declaration);
    declaration.set = built("t", 4);
    ck_assert_int_eq(lyap_network_init(&declaration.network, 1), LYAP_OK);
    uint32_t *name = &declaration.network.layers[0].name;
    ck_assert_int_eq(lyap_network_add_text(&declaration.network, "fc", name), LYAP_OK);
    ck_assert_int_eq(lyap_network_compile(&declaration.network, NULL), LYAP_OK);
    struct lyap_optimizer *optimizer = &declaration.optimizer;
    optimizer->groups = lyap_alloc_array(3, sizeof *optimizer->groups);
    optimizer->group_count = 3;
    static const char *const patterns[] = { "t2", "t?", "*" };
    for (uint32_t g = 0; g < 3; g++) {
        optimizer->groups[g].patterns = lyap_alloc_array(1, sizeof(char *));
        optimizer->groups[g].patterns[0] = lyap_alloc_string(patterns[g]);
        optimizer->groups[g].pattern_count = 1;
        optimizer->groups[g].params = optimizer->base;
    }
    return declaration;
}

START_TEST(defaults_of_a_declaration)
{
    struct lyap_declaration declaration;
    lyap_declaration_init(&declaration);
    ck_assert_uint_eq(declaration.set.count, 0);
    ck_assert_uint_eq(declaration.window_count, 3);
    ck_assert_uint_eq(declaration.windows[2], 1024);
    ck_assert(!declaration.has_optimizer);
    ck_assert_uint_eq(declaration.retention, LYAP_RETENTION_AUTO);
    lyap_declaration_resolve_groups(&declaration);
    lyap_declaration_release(&declaration);
}
END_TEST

/* The first group with a pattern that matches. */
static uint32_t group_of(const struct lyap_optimizer *optimizer, const char *tensor)
{
    for (uint32_t g = 0; g < optimizer->group_count; g++)
        for (uint32_t p = 0; p < optimizer->groups[g].pattern_count; p++)
            if (lyap_glob_match(optimizer->groups[g].patterns[p], tensor))
                return g + 1;
    return 0;
}

/* The compiled, look-up based resolution gives what matching tensor by tensor gives. */
START_TEST(groups_resolve_as_they_match)
{
    struct lyap_declaration declaration = declared();
    for (int round = 0; round < 2; round++) {
        lyap_declaration_resolve_groups(&declaration);
        for (uint32_t i = 0; i < declaration.set.count; i++) {
            const struct lyap_tensor *tensor = &declaration.set.tensors[i];
            ck_assert_uint_eq(tensor->group, group_of(&declaration.optimizer, tensor->name));
        }
    }
    ck_assert_uint_eq(declaration.set.tensors[2].group, 1);
    ck_assert_uint_eq(declaration.set.tensors[1].group, 2);
    lyap_declaration_release(&declaration);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

START_TEST(copy_survives_every_failing_allocation)
{
    struct lyap_declaration source = declared(), copy;
    const int64_t live = test_alloc_live();
    enum lyap_status status = LYAP_E_NOMEM;
    uint64_t n = 0;
    while (status == LYAP_E_NOMEM) {
        test_alloc_fail_at(++n);
        status = lyap_declaration_copy(&source, &copy);
        ck_assert(status == LYAP_OK || test_alloc_live() == live);
    }
    test_alloc_fail_at(0);
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_uint_gt(n, 10);
    ck_assert_int_eq(lyap_tensor_set_same(&source.set, &copy.set, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_tensor_set_find(&copy.set, "t3", 2), 3);
    ck_assert_str_eq(lyap_network_name(&copy.network, 0), "fc");
    lyap_declaration_release(&source);
    ck_assert_str_eq(copy.set.tensors[3].name, "t3"); /* owns its names */
    lyap_declaration_release(&copy);
    lyap_declaration_release(&copy);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

int main(void)
{
    test_alloc_install();
    Suite *suite = suite_create("declaration");
    TCase *tcase = tcase_create("declaration");
    tcase_add_test(tcase, set_finds_every_tensor);
    tcase_add_test(tcase, set_of_strange_shapes);
    tcase_add_loop_test(tcase, set_refuses, 0, sizeof spoilt / sizeof *spoilt);
    tcase_add_test(tcase, set_refuses_counts);
    tcase_add_test(tcase, same_ignores_order_and_names_differences);
    tcase_add_test(tcase, build_survives_every_failing_allocation);
    tcase_add_test(tcase, defaults_of_a_declaration);
    tcase_add_test(tcase, groups_resolve_as_they_match);
    tcase_add_test(tcase, copy_survives_every_failing_allocation);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
