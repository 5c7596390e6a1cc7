/* Networks built by hand. */
#include "network_support.h"

#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
#include "support.h"

struct lyap_layer test_network_layer(enum lyap_layer_kind kind)
{
    struct lyap_network network;
    ck_assert_int_eq(lyap_network_init(&network, 1), LYAP_OK);
    struct lyap_layer layer = network.layers[0];
    layer.kind = kind;
    lyap_network_release(&network);
    return layer;
}

void test_network_init(struct test_network *net, uint32_t layers)
{
    *net = (struct test_network){ 0 };
    ck_assert_int_eq(lyap_network_init(&net->network, layers), LYAP_OK);
}

void test_network_set(struct test_network *net, uint32_t layer, const char *name,
                      struct lyap_layer value)
{
    ck_assert_int_eq(lyap_network_add_text(&net->network, name, &value.name), LYAP_OK);
    net->network.layers[layer] = value;
}

void test_network_tensor(struct test_network *net, uint32_t layer, enum lyap_layer_part part,
                         const uint64_t *shape, uint32_t rank)
{
    char name[8];
    struct lyap_tensor *tensor = &net->tensors[net->tensor_count];
    ck_assert_uint_lt(net->tensor_count, TEST_NETWORK_TENSORS);
    snprintf(name, sizeof name, "t%u", net->tensor_count++ % 100);
    *tensor = (struct lyap_tensor){ .name = lyap_alloc_string(name), .rank = rank };
    memcpy(tensor->shape, shape, rank * sizeof *shape);
    uint32_t *offset = &net->network.layers[layer].tensors[part];
    ck_assert_int_eq(lyap_network_add_text(&net->network, name, offset), LYAP_OK);
}

void test_network_inner(struct test_network *net, uint32_t layer, const char *names)
{
    char name[32];
    int used;
    for (; sscanf(names, "%31s%n", name, &used) == 1; names += used)
        ck_assert_int_eq(
            lyap_network_add_member(&net->network, name, &net->network.layers[layer].inner),
            LYAP_OK);
}

void test_network_build(struct test_network *net)
{
    struct lyap_error err = LYAP_ERROR_NULL;
    ck_assert_msg(lyap_network_compile(&net->network, &err) == LYAP_OK, "%s", err.text);
    if (net->tensor_count == 0)
        return;
    struct lyap_tensor *tensors = lyap_alloc_array(net->tensor_count, sizeof *tensors);
    memcpy(tensors, net->tensors, net->tensor_count * sizeof *tensors);
    ck_assert_int_eq(lyap_tensor_set_build(tensors, net->tensor_count, &net->set, &err), LYAP_OK);
    ck_assert_msg(lyap_network_resolve(&net->network, &net->set, &err) == LYAP_OK, "%s", err.text);
}

void test_network_release(struct test_network *net)
{
    lyap_network_release(&net->network);
    lyap_tensor_set_release(&net->set);
    net->tensor_count = 0;
}
