/* Tensors of the declared layers: found by name, held against what the kind needs. */
#include "lyap/network.h"

#include <assert.h>
#include <string.h>

#include "lyap/declaration.h"
#include "lyap/text.h"
#include "banned.h"

/* What is wrong with the weight of a layer; NULL: nothing. */
typedef const char *fault_of(const struct lyap_layer *layer, const struct lyap_tensor *tensor);

static const char *matrix_fault(const struct lyap_layer *layer, const struct lyap_tensor *tensor)
{
    (void)layer;
    return tensor->rank == 2 ? NULL : "a matrix is needed";
}

static const char *conv_fault(const struct lyap_layer *layer, const struct lyap_tensor *tensor)
{
    if (tensor->rank != lyap_layer_axes(layer) + 2)
        return "channels, channels and the sides of the kernel are needed";
    /* out x in/groups; transposed: in x out/groups. Both times the first has the groups. */
    return tensor->shape[0] % layer->groups == 0 ? NULL : "the groups do not divide the channels";
}

static const char *attention_fault(const struct lyap_layer *layer, const struct lyap_tensor *tensor)
{
    if (tensor->rank != 2)
        return "a matrix is needed";
    return tensor->shape[0] % (3 * (uint64_t)layer->heads) == 0
               ? NULL
               : "its rows are no multiple of 3 times the heads";
}

static const char *block_fault(const struct lyap_layer *layer, const struct lyap_tensor *tensor)
{
    if (tensor->rank != 2)
        return "a matrix is needed";
    if (layer->structure == LYAP_STRUCTURE_SYMMETRIC || tensor->shape[0] == tensor->shape[1])
        return NULL;
    return "a square matrix is needed";
}

static const char *any_fault(const struct lyap_layer *layer, const struct lyap_tensor *tensor)
{
    (void)layer;
    (void)tensor;
    return NULL;
}

static fault_of *const weight_faults[LYAP_LAYER_KIND_COUNT] = {
    [LYAP_LAYER_LINEAR] = matrix_fault,         [LYAP_LAYER_EMBEDDING] = matrix_fault,
    [LYAP_LAYER_CONV1D] = conv_fault,           [LYAP_LAYER_CONV2D] = conv_fault,
    [LYAP_LAYER_CONV3D] = conv_fault,           [LYAP_LAYER_CONV_TRANSPOSE1D] = conv_fault,
    [LYAP_LAYER_CONV_TRANSPOSE2D] = conv_fault, [LYAP_LAYER_CONV_TRANSPOSE3D] = conv_fault,
    [LYAP_LAYER_ATTENTION] = attention_fault,   [LYAP_LAYER_RESIDUAL] = block_fault,
};

static const char *part_fault(const struct lyap_layer *layer, enum lyap_layer_part part,
                              const struct lyap_tensor *tensor)
{
    if (part == LYAP_LAYER_PART_WEIGHT) {
        fault_of *fault = weight_faults[layer->kind];
        return (fault ? fault : any_fault)(layer, tensor);
    }
    if (part == LYAP_LAYER_PART_BIAS)
        return NULL;
    if (tensor->rank != 2)
        return "a matrix is needed";
    const uint64_t width = tensor->shape[part == LYAP_LAYER_PART_OUTPUT ? 1 : 0];
    return width % layer->heads == 0 ? NULL : "the heads do not divide its width";
}

static enum lyap_status part_resolve(struct lyap_network *network, uint32_t index, int part,
                                     const struct lyap_tensor_set *set, struct lyap_error *reterr)
{
    struct lyap_layer *layer = &network->layers[index];
    if (layer->tensors[part] == 0)
        return LYAP_OK;
    const char *name = lyap_network_text(network, layer->tensors[part]);
    const char *field = lyap_layer_part_name((enum lyap_layer_part)part);
    struct lyap_quote quote, shape;
    const int64_t found = lyap_tensor_set_find(set, name, strlen(name));
    if (found < 0)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "layers[%u].%s is %s, which is no tensor of the run", index, field,
                              lyap_quote_string(name, &quote));
    const struct lyap_tensor *tensor = &set->tensors[found];
    const char *fault = part_fault(layer, (enum lyap_layer_part)part, tensor);
    if (!fault && tensor->count == 0)
        fault = "it has no elements";
    if (fault)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "layers[%u].%s is %s with shape %s, which does not fit %s: %s", index,
                              field, lyap_quote_string(name, &quote),
                              lyap_quote_shape(tensor->shape, tensor->rank, &shape),
                              lyap_layer_kind_name((enum lyap_layer_kind)layer->kind), fault);
    layer->index[part] = (int32_t)found;
    return LYAP_OK;
}

enum lyap_status lyap_network_resolve(struct lyap_network *network,
                                      const struct lyap_tensor_set *set, struct lyap_error *reterr)
{
    enum lyap_status first = LYAP_OK;
    for (uint32_t i = 0; i < network->count; i++) {
        struct lyap_layer *layer = &network->layers[i];
        layer->is_misfit = false;
        for (int part = 0; part < LYAP_LAYER_PARTS; part++) {
            layer->index[part] = LYAP_NETWORK_TENSOR_UNKNOWN;
            if (set->count == 0)
                continue;
            const enum lyap_status status = part_resolve(network, i, part, set, reterr);
            layer->is_misfit = layer->is_misfit || status != LYAP_OK;
            first = first ? first : status;
        }
    }
    return first;
}
