/* network_support.h - networks built by hand: layers, their tensors, the set of those. */
#ifndef LYAP_TEST_NETWORK_SUPPORT_H
#define LYAP_TEST_NETWORK_SUPPORT_H

#include "lyap/declaration.h"

enum { TEST_NETWORK_TENSORS = 16 };

struct test_network {
    struct lyap_network network;
    struct lyap_tensor_set set;
    struct lyap_tensor tensors[TEST_NETWORK_TENSORS]; /* until the set is built */
    uint32_t tensor_count;
};

/* A layer of this kind with the defaults. */
struct lyap_layer test_network_layer(enum lyap_layer_kind kind);
void test_network_init(struct test_network *net, uint32_t layers);
/* Puts the layer at its place under a name; lists of members are added afterwards. */
void test_network_set(struct test_network *net, uint32_t layer, const char *name,
                      struct lyap_layer value);
/* A tensor of its own, named t0, t1 ... in the order of the calls. */
void test_network_tensor(struct test_network *net, uint32_t layer, enum lyap_layer_part part,
                         const uint64_t *shape, uint32_t rank);
/* Members of a residual block, space-separated. */
void test_network_inner(struct test_network *net, uint32_t layer, const char *names);
/* Compiles and resolves; fails the test where that fails. */
void test_network_build(struct test_network *net);
void test_network_release(struct test_network *net);

#endif
