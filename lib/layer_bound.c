/* Bounds of declared layers from the values of their tensors. */
#include "lyap/layer_bound.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "layer_conv.h"
#include "lyap/alloc.h"
#include "lyap/layer.h"
#include "lyap/residual.h"
#include "banned.h"

static const struct lyap_tensor *tensor_of(const struct lyap_tensor_set *set,
                                           const struct lyap_layer *layer,
                                           enum lyap_layer_part part)
{
    const int32_t index = layer->index[part];
    return index < 0 ? NULL : &set->tensors[index];
}

static struct lyap_spectral_matrix matrix_of(const struct lyap_tensor *tensor, const double *values)
{
    return (struct lyap_spectral_matrix){ values, (uint32_t)tensor->shape[0],
                                          (uint32_t)tensor->shape[1] };
}

static const struct lyap_layer_bound nothing = { .method = LYAP_BOUND_METHOD_NONE,
                                                 .upper = NAN,
                                                 .log_norm = NAN,
                                                 .gain_inf = NAN,
                                                 .value_output = NAN,
                                                 .query_key = NAN,
                                                 .head_product = NAN,
                                                 .gated = NAN,
                                                 .gate_max = NAN };

struct lyap_layer_bound lyap_layer_bound_none(void)
{
    return nothing;
}

/* -- attention -- */
/* Rows of one head's maps; the widths of model and head. Query heads may share a key head. */
struct heads {
    uint32_t count, key_count;
    uint32_t key_width, value_width, model, out;
    const double *query, *key, *value, *output; /* output: out x (count value_width), or NULL */
};

static bool fits(uint64_t rows, uint64_t cols)
{
    return rows >= 1 && cols >= 1 && rows <= INT32_MAX && cols <= INT32_MAX &&
           rows * cols <= LYAP_SPECTRAL_ELEMENTS_MAX;
}

static bool heads_packed(const struct lyap_layer *layer, const struct lyap_tensor *packed,
                         const double *values, struct heads *heads)
{
    if (!packed || !fits(packed->shape[0], packed->shape[1]))
        return false;
    const uint64_t rows = packed->shape[0] / 3;
    heads->count = heads->key_count = layer->heads;
    heads->model = (uint32_t)packed->shape[1];
    heads->key_width = heads->value_width = (uint32_t)(rows / layer->heads);
    heads->query = values;
    heads->key = values ? values + rows * heads->model : NULL;
    heads->value = values ? values + 2 * rows * heads->model : NULL;
    return true;
}

static bool heads_separate(const struct lyap_layer *layer, const struct lyap_tensor_set *set,
                           const struct lyap_layer_values *values, struct heads *heads)
{
    const struct lyap_tensor *query = tensor_of(set, layer, LYAP_LAYER_PART_QUERY);
    const struct lyap_tensor *key = tensor_of(set, layer, LYAP_LAYER_PART_KEY);
    const struct lyap_tensor *value = tensor_of(set, layer, LYAP_LAYER_PART_VALUE);
    if (!query || !key || !value || !fits(query->shape[0], query->shape[1]) ||
        !fits(key->shape[0], key->shape[1]) || !fits(value->shape[0], value->shape[1]))
        return false;
    heads->count = layer->heads;
    heads->model = (uint32_t)query->shape[1];
    heads->key_width = (uint32_t)(query->shape[0] / layer->heads);
    if (heads->key_width == 0 || key->shape[0] % heads->key_width != 0)
        return false;
    heads->key_count = (uint32_t)(key->shape[0] / heads->key_width);
    if (heads->key_count > heads->count || heads->count % heads->key_count != 0 ||
        value->shape[0] % heads->key_count != 0)
        return false;
    heads->value_width = (uint32_t)(value->shape[0] / heads->key_count);
    heads->query = values->parts[LYAP_LAYER_PART_QUERY];
    heads->key = values->parts[LYAP_LAYER_PART_KEY];
    heads->value = values->parts[LYAP_LAYER_PART_VALUE];
    /* Self-attention: one input. */
    return key->shape[1] == heads->model && value->shape[1] == heads->model;
}

static bool heads_of(const struct lyap_layer *layer, const struct lyap_tensor_set *set,
                     const struct lyap_layer_values *values, struct heads *ret_heads)
{
    struct heads heads = { 0 };
    const struct lyap_tensor *output = tensor_of(set, layer, LYAP_LAYER_PART_OUTPUT);
    const bool is_packed = layer->tensors[LYAP_LAYER_PART_WEIGHT] != 0;
    const bool is_known = is_packed
                              ? heads_packed(layer, tensor_of(set, layer, LYAP_LAYER_PART_WEIGHT),
                                             values->parts[LYAP_LAYER_PART_WEIGHT], &heads)
                              : heads_separate(layer, set, values, &heads);
    if (!is_known || heads.key_width == 0 || heads.value_width == 0)
        return false;
    if (layer->tensors[LYAP_LAYER_PART_OUTPUT] != 0) {
        if (!output || !fits(output->shape[0], output->shape[1]) ||
            output->shape[1] != (uint64_t)heads.count * heads.value_width)
            return false;
        heads.out = (uint32_t)output->shape[0];
        heads.output = values->parts[LYAP_LAYER_PART_OUTPUT];
    }
    *ret_heads = heads;
    return true;
}

/* sigma_1(W_V W_O) of head h. `scratch`: value_width x out. */
static enum lyap_status value_output_norm(const struct heads *heads, uint32_t h, double *scratch,
                                          double *ret_norm)
{
    const uint32_t width = heads->value_width, shared = heads->count / heads->key_count;
    const double *value = heads->value + (size_t)(h / shared) * width * heads->model;
    const struct lyap_spectral_matrix v = { value, width, heads->model };
    if (!heads->output)
        return lyap_spectral_norm(&v, ret_norm);
    const size_t row = (size_t)heads->count * width;
    for (size_t o = 0; o < heads->out; o++)
        for (size_t i = 0; i < width; i++)
            scratch[i * heads->out + o] = heads->output[o * row + (size_t)h * width + i];
    const struct lyap_spectral_matrix transposed = { scratch, width, heads->out };
    return lyap_layer_product_norm(&transposed, &v, ret_norm);
}

static enum lyap_status attention_bound(const struct heads *heads, struct lyap_layer_bound *bound)
{
    const size_t head = (size_t)heads->key_width * heads->model;
    const uint32_t shared = heads->count / heads->key_count;
    double *scratch =
        lyap_alloc_array((size_t)heads->value_width * heads->out + 1, sizeof *scratch);
    if (!scratch)
        return LYAP_E_NOMEM;
    enum lyap_status status = LYAP_OK;
    double a = 0, b = 0, keys = 0;
    for (uint32_t h = 0; h < heads->count && status == LYAP_OK; h++) {
        const struct lyap_spectral_matrix q = { heads->query + h * head, heads->key_width,
                                                heads->model };
        const struct lyap_spectral_matrix k = { heads->key + h / shared * head, heads->key_width,
                                                heads->model };
        double query_key = 0, value_output = 0;
        status = lyap_layer_product_norm(&q, &k, &query_key);
        if (status == LYAP_OK)
            status = value_output_norm(heads, h, scratch, &value_output);
        query_key /= sqrt(heads->key_width);
        a += value_output;
        keys += query_key;
        b += value_output * query_key;
    }
    lyap_free(scratch);
    bound->method = LYAP_BOUND_METHOD_EXACT;
    bound->value_output = a;
    bound->query_key = keys;
    bound->head_product = b;
    return status;
}

/* -- structured residual blocks -- */
static enum lyap_status block_bound(const struct lyap_layer *layer,
                                    const struct lyap_spectral_matrix *a,
                                    struct lyap_layer_bound *bound)
{
    bound->method = LYAP_BOUND_METHOD_EXACT;
    if (layer->structure == LYAP_STRUCTURE_GATED) {
        bound->gain_inf = lyap_residual_gated_gain_inf(a->rows, a->values, layer->step,
                                                       layer->activation.lipschitz);
        return isfinite(bound->gain_inf) ? LYAP_OK : LYAP_E_NUMERIC;
    }
    struct lyap_residual_bounds both;
    const enum lyap_status status = lyap_residual_constant(a, &both);
    if (status == LYAP_OK) {
        bound->upper = both.lipschitz;
        bound->log_norm = both.log_norm;
    }
    return status;
}

static bool is_block_of_values(const struct lyap_layer *layer)
{
    return layer->kind == LYAP_LAYER_RESIDUAL && (layer->structure == LYAP_STRUCTURE_CONSTANT ||
                                                  layer->structure == LYAP_STRUCTURE_GATED);
}

/* -- all kinds -- */
uint32_t lyap_layer_needs(const struct lyap_network *network, const struct lyap_tensor_set *set,
                          uint32_t index)
{
    const struct lyap_layer *layer = &network->layers[index];
    const struct lyap_tensor *weight = tensor_of(set, layer, LYAP_LAYER_PART_WEIGHT);
    const struct lyap_layer_values none = { { NULL } };
    struct heads heads;
    uint32_t parts = 0;
    if (layer->is_misfit)
        return 0;
    if (layer->kind == LYAP_LAYER_ATTENTION) {
        const bool is_known = heads_of(layer, set, &none, &heads);
        for (int part = 0; is_known && part < LYAP_LAYER_PARTS; part++)
            if (part != LYAP_LAYER_PART_BIAS && layer->index[part] >= 0)
                parts |= 1u << part;
        return parts;
    }
    const bool is_needed = lyap_layer_is_conv(layer) || layer->kind == LYAP_LAYER_EMBEDDING ||
                           is_block_of_values(layer);
    return is_needed && weight ? 1u << LYAP_LAYER_PART_WEIGHT : 0;
}

double lyap_layer_flops(const struct lyap_network *network, const struct lyap_tensor_set *set,
                        uint32_t index)
{
    const struct lyap_layer *layer = &network->layers[index];
    const struct lyap_tensor *weight = tensor_of(set, layer, LYAP_LAYER_PART_WEIGHT);
    const struct lyap_layer_values none = { { NULL } };
    struct heads heads;
    if (lyap_layer_needs(network, set, index) == 0)
        return 0;
    if (layer->kind == LYAP_LAYER_ATTENTION) {
        if (!heads_of(layer, set, &none, &heads))
            return 0;
        const double widest = fmax(heads.key_width, heads.value_width);
        const double model = fmax(heads.model, heads.out);
        return 16. * heads.count * widest * widest * model;
    }
    const double count = (double)weight->count;
    if (lyap_layer_is_conv(layer))
        return lyap_layer_conv_flops(layer, weight);
    if (layer->kind == LYAP_LAYER_RESIDUAL && layer->structure == LYAP_STRUCTURE_CONSTANT)
        return 8 * count * (double)weight->shape[0];
    return 2 * count;
}

enum lyap_status lyap_layer_bound(const struct lyap_network *network,
                                  const struct lyap_tensor_set *set, uint32_t index,
                                  const struct lyap_layer_values *values,
                                  struct lyap_layer_bound *ret_bound)
{
    const struct lyap_layer *layer = &network->layers[index];
    const struct lyap_tensor *weight = tensor_of(set, layer, LYAP_LAYER_PART_WEIGHT);
    const double *w = values->parts[LYAP_LAYER_PART_WEIGHT];
    struct lyap_layer_bound bound = nothing;
    struct heads heads;
    enum lyap_status status;
    assert(lyap_layer_needs(network, set, index) != 0);
    if (layer->kind == LYAP_LAYER_ATTENTION) {
        status =
            heads_of(layer, set, values, &heads) ? attention_bound(&heads, &bound) : LYAP_E_INVALID;
    } else if (lyap_layer_is_conv(layer)) {
        status = lyap_layer_conv_upper(layer, weight, w, &bound.method, &bound.upper);
    } else if (!fits(weight->shape[0], weight->shape[1])) {
        status = LYAP_E_LIMIT;
    } else {
        const struct lyap_spectral_matrix matrix = matrix_of(weight, w);
        bound.method = LYAP_BOUND_METHOD_EXACT;
        status = layer->kind == LYAP_LAYER_EMBEDDING
                     ? lyap_layer_embedding_gain(&matrix, &bound.upper)
                     : block_bound(layer, &matrix, &bound);
    }
    if (status == LYAP_OK)
        *ret_bound = bound;
    return status;
}

/* -- later -- */
/* |(A + E)(B + F) - A B| for the present A + E, B + F. */
static double product_moved(double a, double moved_a, double b, double moved_b)
{
    return a * moved_b + moved_a * b + moved_a * moved_b;
}

static void attention_after(const struct heads *heads, const struct lyap_layer *layer,
                            const struct lyap_layer_moved *moved, struct lyap_layer_bound *bound)
{
    const bool is_packed = layer->tensors[LYAP_LAYER_PART_WEIGHT] != 0;
    const int q = is_packed ? LYAP_LAYER_PART_WEIGHT : LYAP_LAYER_PART_QUERY;
    const int k = is_packed ? LYAP_LAYER_PART_WEIGHT : LYAP_LAYER_PART_KEY;
    const int v = is_packed ? LYAP_LAYER_PART_WEIGHT : LYAP_LAYER_PART_VALUE;
    const int o = LYAP_LAYER_PART_OUTPUT;
    const double *d = moved->distance, *u = moved->upper;
    const double values = heads->out > 0 ? product_moved(u[o], d[o], u[v], d[v]) : d[v];
    const double keys = product_moved(u[q], d[q], u[k], d[k]) / sqrt(heads->key_width);
    bound->head_product +=
        keys * bound->value_output + values * bound->query_key + heads->count * values * keys;
    bound->value_output += heads->count * values;
    bound->query_key += heads->count * keys;
}

struct lyap_layer_bound lyap_layer_bound_after(const struct lyap_network *network,
                                               const struct lyap_tensor_set *set, uint32_t index,
                                               const struct lyap_layer_bound *bound,
                                               const struct lyap_layer_moved *moved)
{
    const struct lyap_layer *layer = &network->layers[index];
    const struct lyap_layer_values none = { { NULL } };
    struct lyap_layer_bound later = *bound;
    struct heads heads;
    double most = 0;
    for (int part = 0; part < LYAP_LAYER_PARTS; part++)
        if (part != LYAP_LAYER_PART_BIAS && layer->index[part] >= 0)
            most = isnan(moved->distance[part]) ? NAN : fmax(most, moved->distance[part]);
    if (most == 0)
        return later;
    later.method = LYAP_BOUND_METHOD_INCREMENT;
    if (layer->kind == LYAP_LAYER_ATTENTION) {
        if (!heads_of(layer, set, &none, &heads))
            return nothing;
        attention_after(&heads, layer, moved, &later);
        return later;
    }
    const double distance = moved->distance[LYAP_LAYER_PART_WEIGHT];
    const uint64_t side = set->tensors[layer->index[LYAP_LAYER_PART_WEIGHT]].shape[0];
    later.upper += lyap_layer_frobenius_factor(network, set, index) * distance;
    later.log_norm += distance;
    later.gated += bound->gate_max * distance;
    later.gain_inf += layer->step * layer->activation.lipschitz * sqrt((double)side) * distance;
    return later;
}

/* -- without values -- */
double lyap_layer_frobenius_factor(const struct lyap_network *network,
                                   const struct lyap_tensor_set *set, uint32_t index)
{
    const struct lyap_layer *layer = &network->layers[index];
    const struct lyap_tensor *weight = tensor_of(set, layer, LYAP_LAYER_PART_WEIGHT);
    return weight && lyap_layer_is_conv(layer) ? lyap_layer_conv_factor(layer, weight) : 1;
}

double lyap_layer_fixed_gain(const struct lyap_layer *layer)
{
    switch (layer->kind) {
    case LYAP_LAYER_ACTIVATION:
    case LYAP_LAYER_FLATTEN:
    case LYAP_LAYER_DROPOUT:
    case LYAP_LAYER_ADAPTIVE_AVGPOOL:
        return 1;
    case LYAP_LAYER_MAXPOOL:
    case LYAP_LAYER_AVGPOOL:
        return lyap_layer_pool_gain(layer);
    default:
        return NAN;
    }
}
