/* network.h - the declared layers of a run, compiled: what each layer is, which tensors it owns,
 * where its input comes from. Plain arrays and offsets, so that a copy is a copy of bytes.
 * A layer's input is one layer's output: layers outside of residual blocks form a chain (the one
 * before in declared order, unless `from` names another), the inner layers of a block form another
 * that starts at the block's input. THREADS: built by one thread, then immutable. */
#ifndef LYAP_NETWORK_H
#define LYAP_NETWORK_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/activation.h"
#include "lyap/status.h"

struct lyap_tensor_set;

/* X(enum, wire name, axes of an image the layer runs over) */
#define LYAP_LAYER_KIND_TABLE(X)                                                                   \
    X(LINEAR, "linear", 0)                                                                         \
    X(CONV1D, "conv1d", 1)                                                                         \
    X(CONV2D, "conv2d", 2)                                                                         \
    X(CONV3D, "conv3d", 3)                                                                         \
    X(CONV_TRANSPOSE1D, "conv_transpose1d", 1)                                                     \
    X(CONV_TRANSPOSE2D, "conv_transpose2d", 2)                                                     \
    X(CONV_TRANSPOSE3D, "conv_transpose3d", 3)                                                     \
    X(EMBEDDING, "embedding", 0)                                                                   \
    X(LAYERNORM, "layernorm", 0)                                                                   \
    X(RMSNORM, "rmsnorm", 0)                                                                       \
    X(GROUPNORM, "groupnorm", 0)                                                                   \
    X(BATCHNORM, "batchnorm", 0)                                                                   \
    X(ATTENTION, "attention", 0)                                                                   \
    X(ACTIVATION, "activation", 0)                                                                 \
    X(MAXPOOL, "maxpool", 3)                                                                       \
    X(AVGPOOL, "avgpool", 3)                                                                       \
    X(ADAPTIVE_AVGPOOL, "adaptive_avgpool", 0)                                                     \
    X(FLATTEN, "flatten", 0)                                                                       \
    X(DROPOUT, "dropout", 0)                                                                       \
    X(RESIDUAL, "residual", 0)                                                                     \
    X(OTHER, "other", 0)

enum lyap_layer_kind {
#define LYAP_LAYER_KIND_ENUM(name, wire, axes) LYAP_LAYER_##name,
    LYAP_LAYER_KIND_TABLE(LYAP_LAYER_KIND_ENUM)
#undef LYAP_LAYER_KIND_ENUM
        LYAP_LAYER_KIND_COUNT
};

/* Tensors of a layer. WEIGHT: gamma of a norm; query, key and value in one of an attention; A or W
 * of a structured residual block. X(enum, wire name of the field) */
#define LYAP_LAYER_PART_TABLE(X)                                                                   \
    X(WEIGHT, "tensor")                                                                            \
    X(BIAS, "bias")                                                                                \
    X(QUERY, "query")                                                                              \
    X(KEY, "key")                                                                                  \
    X(VALUE, "value")                                                                              \
    X(OUTPUT, "output")

enum lyap_layer_part {
#define LYAP_LAYER_PART_ENUM(name, wire) LYAP_LAYER_PART_##name,
    LYAP_LAYER_PART_TABLE(LYAP_LAYER_PART_ENUM)
#undef LYAP_LAYER_PART_ENUM
        LYAP_LAYER_PARTS
};

enum lyap_padding_mode {
    LYAP_PADDING_ZEROS,
    LYAP_PADDING_REFLECT,
    LYAP_PADDING_REPLICATE,
    LYAP_PADDING_CIRCULAR
};

/* f of a residual block x + h f(x) (SPEC 1.4). */
enum lyap_structure {
    LYAP_STRUCTURE_FREE,      /* the chain of inner layers */
    LYAP_STRUCTURE_CONSTANT,  /* A x */
    LYAP_STRUCTURE_SYMMETRIC, /* -W' phi(W x) */
    LYAP_STRUCTURE_GATED      /* phi(A x) */
};

enum {
    LYAP_NETWORK_INPUT = -1, /* as an index of a layer: the network's input x_0 */
    LYAP_NETWORK_NONE = -2,  /* no such layer */
    LYAP_NETWORK_AXES_MAX = 3,
    LYAP_NETWORK_DEPTH_MAX = 8,       /* residual blocks within one another */
    LYAP_NETWORK_TEXT_MAX = 32 << 20, /* 20 000 layers with 6 names of 256 bytes */
    LYAP_NETWORK_TENSOR_UNKNOWN = -1  /* as an index of a tensor */
};
/* Wire name of x_0, as in `act/input` and `"from":"input"`. */
#define LYAP_NETWORK_INPUT_NAME "input"

/* One number for every axis (count 1) or one each; count 0: not declared. */
struct lyap_extents {
    uint32_t count;
    uint32_t at[LYAP_NETWORK_AXES_MAX];
};

/* Indices of layers: members[start .. start + count). */
struct lyap_layer_list {
    uint32_t start, count;
};

struct lyap_layer_activation {
    double lipschitz;          /* >= sup |phi'| */
    enum lyap_activation kind; /* IDENTITY when its constant was declared instead */
    bool is_declared, is_gate; /* is_gate: 0 <= phi' <= 1 */
};

/* Offsets of text: lyap_network_text; 0: not declared. */
struct lyap_layer {
    uint32_t name;
    uint32_t kind; /* enum lyap_layer_kind */
    uint32_t tensors[LYAP_LAYER_PARTS];
    int32_t index[LYAP_LAYER_PARTS]; /* in the tensor set; LYAP_NETWORK_TENSOR_UNKNOWN */
    struct lyap_layer_activation activation;
    struct lyap_extents kernel, stride, padding, dilation, input;
    bool is_padding_same; /* torch's "same": (kernel - 1) dilation in all */
    uint32_t padding_mode, groups, heads;
    double eps;         /* 1e-5 by default */
    double step;        /* h of a residual block, 1 by default */
    uint32_t structure; /* enum lyap_structure */
    struct lyap_layer_list inner, shortcut;
    uint32_t from_name;
    int32_t from;   /* layer whose output is the input, LYAP_NETWORK_INPUT */
    int32_t parent; /* the block whose inner or shortcut list holds it; LYAP_NETWORK_NONE */
    bool is_misfit; /* a tensor is not in the set, or its shape does not fit the kind */
};

struct lyap_network_member {
    uint32_t name;
    int32_t layer;
};

struct lyap_network {
    struct lyap_layer *layers; /* owned; declared order */
    uint32_t count;            /* 0: no layers are declared */
    int32_t output;            /* last layer outside of blocks; LYAP_NETWORK_NONE without layers */
    struct lyap_network_member *members; /* owned */
    uint32_t member_count, member_room;
    char *text; /* owned; begins with the empty string */
    uint32_t text_bytes, text_room;
    uint32_t *order; /* owned; layers by name */
};
#define LYAP_NETWORK_NULL                                                                          \
    {                                                                                              \
        0                                                                                          \
    }

LYAP_API const char *lyap_layer_kind_name(enum lyap_layer_kind kind);
LYAP_API const char *lyap_layer_part_name(enum lyap_layer_part part);

/* -- building -- */
/* `count` layers (1 .. LYAP_LAYER_COUNT_MAX) with the defaults. E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_network_init(struct lyap_network *network,
                                                            uint32_t count);
/* E_LIMIT, E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_network_add_text(struct lyap_network *network, const char *text, uint32_t *ret_offset);
/* Appends a name to the list that was begun last: members of one list lie side by side. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_network_add_member(struct lyap_network *network,
                                                                  const char *name,
                                                                  struct lyap_layer_list *list);
/* Names are set: resolves references between layers. E_INVALID naming the field: a name that occurs
 * twice or is reserved, a reference to no layer or to a later one, a layer in two blocks or within
 * itself; E_LIMIT: LYAP_NETWORK_DEPTH_MAX; E_NOMEM. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_network_compile(struct lyap_network *network,
                                                               struct lyap_error *reterr);
/* Finds the tensors. A layer whose tensor is not in the set or has a shape that does not fit is
 * marked is_misfit, and E_INVALID names the first one; the rest is resolved in any case, so that a
 * caller may go on. An empty set resolves nothing and is no error. */
LYAP_API enum lyap_status lyap_network_resolve(struct lyap_network *network,
                                               const struct lyap_tensor_set *set,
                                               struct lyap_error *reterr);
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_network_copy(const struct lyap_network *source,
                                                            struct lyap_network *ret_copy);
/* Accepts NULL, the null value and half-built networks. */
LYAP_API void lyap_network_release(struct lyap_network *network);

/* -- reading -- */
LYAP_API const char *lyap_network_text(const struct lyap_network *network, uint32_t offset);
LYAP_API const char *lyap_network_name(const struct lyap_network *network, uint32_t layer);
/* Index of a layer, LYAP_NETWORK_INPUT for `input`, LYAP_NETWORK_NONE. `name` need not be
 * terminated. O(log n). */
LYAP_API int32_t lyap_network_find(const struct lyap_network *network, const char *name,
                                   uint64_t length);
/* Extent along an axis, `otherwise` when not declared. */
LYAP_API uint32_t lyap_extents_at(const struct lyap_extents *extents, uint32_t axis,
                                  uint32_t otherwise);
/* Axes of the image, 0 for layers without. */
LYAP_API uint32_t lyap_layer_axes(const struct lyap_layer *layer);
LYAP_API bool lyap_layer_is_transposed(const struct lyap_layer *layer);

#endif
