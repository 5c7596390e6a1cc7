/* Declared layers compiled: chains, blocks, tensors, copies, limits. */
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/limits.h"
#include "network_support.h"
#include "support.h"

static struct test_network net;

static void teardown(void)
{
    test_network_release(&net);
    ck_assert_int_eq(test_alloc_live(), 0);
}

static void add(uint32_t index, const char *name, enum lyap_layer_kind kind)
{
    test_network_set(&net, index, name, test_network_layer(kind));
}

/* a, outer(inner: b, middle(inner: c, d), e), f from a */
static void nested(void)
{
    static const char *const names[] = { "a", "outer", "b", "middle", "c", "d", "e", "f" };
    test_network_init(&net, 8);
    for (uint32_t i = 0; i < 8; i++)
        add(i, names[i], i == 1 || i == 3 ? LYAP_LAYER_RESIDUAL : LYAP_LAYER_OTHER);
    test_network_inner(&net, 1, "b middle e");
    test_network_inner(&net, 3, "c d");
    uint32_t *from = &net.network.layers[7].from_name;
    ck_assert_int_eq(lyap_network_add_text(&net.network, "a", from), LYAP_OK);
}

START_TEST(inputs_follow_chains_and_blocks)
{
    nested();
    test_network_build(&net);
    static const int32_t from[] = { LYAP_NETWORK_INPUT, 0, 0, 2, 2, 4, 3, 0 };
    static const int32_t parent[] = { LYAP_NETWORK_NONE, LYAP_NETWORK_NONE, 1, 1, 3, 3, 1,
                                      LYAP_NETWORK_NONE };
    for (uint32_t i = 0; i < 8; i++) {
        ck_assert_int_eq(net.network.layers[i].from, from[i]);
        ck_assert_int_eq(net.network.layers[i].parent, parent[i]);
    }
    ck_assert_int_eq(net.network.output, 7);
}
END_TEST

START_TEST(layers_are_found_by_name)
{
    nested();
    test_network_build(&net);
    for (uint32_t i = 0; i < 8; i++) {
        const char *name = lyap_network_name(&net.network, i);
        ck_assert_int_eq(lyap_network_find(&net.network, name, strlen(name)), (int32_t)i);
    }
    ck_assert_int_eq(lyap_network_find(&net.network, "input", 5), LYAP_NETWORK_INPUT);
    ck_assert_int_eq(lyap_network_find(&net.network, "outermost", 5), 1);
    ck_assert_int_eq(lyap_network_find(&net.network, "outermost", 9), LYAP_NETWORK_NONE);
    ck_assert_int_eq(lyap_network_find(&net.network, "", 0), LYAP_NETWORK_NONE);
    ck_assert_int_eq(lyap_network_find(&net.network, "x", LYAP_TENSOR_NAME_BYTES_MAX + 1),
                     LYAP_NETWORK_NONE);
    const struct lyap_network none = LYAP_NETWORK_NULL;
    ck_assert_int_eq(lyap_network_find(&none, "input", 5), LYAP_NETWORK_NONE);
}
END_TEST

START_TEST(blocks_in_a_ring_are_refused)
{
    struct lyap_error err = LYAP_ERROR_NULL;
    test_network_init(&net, 3);
    add(0, "a", LYAP_LAYER_RESIDUAL);
    add(1, "b", LYAP_LAYER_RESIDUAL);
    add(2, "c", LYAP_LAYER_RESIDUAL);
    test_network_inner(&net, 0, "b");
    test_network_inner(&net, 1, "c");
    test_network_inner(&net, 2, "a");
    ck_assert_int_eq(lyap_network_compile(&net.network, &err), LYAP_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "within itself"));
}
END_TEST

START_TEST(depth_is_bounded)
{
    enum { COUNT = LYAP_NETWORK_DEPTH_MAX + 2 };
    struct lyap_error err = LYAP_ERROR_NULL;
    char name[2] = "a", inner[2] = "b";
    test_network_init(&net, COUNT);
    for (uint32_t i = 0; i < COUNT; i++, name[0]++)
        add(i, name, i + 1 < COUNT ? LYAP_LAYER_RESIDUAL : LYAP_LAYER_OTHER);
    for (uint32_t i = 0; i + 1 < COUNT; i++, inner[0]++)
        test_network_inner(&net, i, inner);
    ck_assert_int_eq(lyap_network_compile(&net.network, &err), LYAP_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 8 residual blocks"));
}
END_TEST

START_TEST(tensors_that_do_not_fit_are_marked)
{
    struct lyap_error err = LYAP_ERROR_NULL;
    test_network_init(&net, 3);
    add(0, "a", LYAP_LAYER_LINEAR);
    add(1, "b", LYAP_LAYER_LINEAR);
    add(2, "c", LYAP_LAYER_LINEAR);
    test_network_tensor(&net, 0, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 2, 3 }, 2);
    test_network_tensor(&net, 1, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 2, 3 }, 2);
    test_network_tensor(&net, 2, LYAP_LAYER_PART_WEIGHT, (const uint64_t[2]){ 3, 2 }, 2);
    test_network_build(&net);
    net.set.tensors[1].rank = 1; /* as if learned from another push */
    ck_assert_int_eq(lyap_network_resolve(&net.network, &net.set, &err), LYAP_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "layers[1].tensor is \"t1\" with shape [2]"));
    ck_assert(!net.network.layers[0].is_misfit && net.network.layers[1].is_misfit);
    ck_assert_int_eq(net.network.layers[1].index[LYAP_LAYER_PART_WEIGHT],
                     LYAP_NETWORK_TENSOR_UNKNOWN);
    ck_assert_int_eq(net.network.layers[2].index[LYAP_LAYER_PART_WEIGHT], 2);
    const struct lyap_tensor_set empty = LYAP_TENSOR_SET_NULL;
    ck_assert_int_eq(lyap_network_resolve(&net.network, &empty, &err), LYAP_OK);
    ck_assert(!net.network.layers[1].is_misfit);
}
END_TEST

START_TEST(extents)
{
    const struct lyap_extents none = { 0 }, one = { 1, { 3 } }, two = { 2, { 3, 4 } };
    ck_assert_uint_eq(lyap_extents_at(&none, 1, 7), 7);
    ck_assert_uint_eq(lyap_extents_at(&one, 2, 7), 3);
    ck_assert_uint_eq(lyap_extents_at(&two, 1, 7), 4);
}
END_TEST

START_TEST(copies_are_whole_and_every_allocation_may_fail)
{
    nested();
    test_network_build(&net);
    struct lyap_network copy;
    const int64_t live = test_alloc_live();
    enum lyap_status status = LYAP_E_NOMEM;
    uint64_t n = 0;
    while (status == LYAP_E_NOMEM) {
        test_alloc_fail_at(++n);
        status = lyap_network_copy(&net.network, &copy);
        ck_assert(status == LYAP_OK || test_alloc_live() == live);
    }
    test_alloc_fail_at(0);
    ck_assert_uint_eq(n, 5);
    lyap_network_release(&net.network);
    ck_assert_int_eq(lyap_network_find(&copy, "middle", 6), 3);
    ck_assert_str_eq(lyap_network_name(&copy, 7), "f");
    ck_assert_int_eq(copy.members[copy.layers[1].inner.start + 1].layer, 3);
    lyap_network_release(&copy);
    lyap_network_release(&copy);
    lyap_network_release(NULL);
}
END_TEST

START_TEST(building_survives_every_failed_allocation)
{
    enum lyap_status status = LYAP_E_NOMEM;
    uint64_t n = 0;
    for (; status == LYAP_E_NOMEM; n++) {
        struct lyap_network network = LYAP_NETWORK_NULL;
        test_alloc_fail_at(n + 1);
        status = lyap_network_init(&network, 2);
        for (uint32_t i = 0; status == LYAP_OK && i < 2; i++)
            status = lyap_network_add_text(&network, i == 0 ? "block" : "inner of the block",
                                           &network.layers[i].name);
        if (status == LYAP_OK)
            status =
                lyap_network_add_member(&network, "inner of the block", &network.layers[0].inner);
        if (status == LYAP_OK)
            status = lyap_network_compile(&network, NULL);
        lyap_network_release(&network);
        ck_assert_int_eq(test_alloc_live(), 0);
    }
    test_alloc_fail_at(0);
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_uint_gt(n, 5);
}
END_TEST

int main(void)
{
    test_alloc_install();
    Suite *suite = suite_create("network");
    TCase *tcase = tcase_create("network");
    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_test(tcase, inputs_follow_chains_and_blocks);
    tcase_add_test(tcase, layers_are_found_by_name);
    tcase_add_test(tcase, blocks_in_a_ring_are_refused);
    tcase_add_test(tcase, depth_is_bounded);
    tcase_add_test(tcase, tensors_that_do_not_fit_are_marked);
    tcase_add_test(tcase, extents);
    tcase_add_test(tcase, copies_are_whole_and_every_allocation_may_fail);
    tcase_add_test(tcase, building_survives_every_failed_allocation);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
