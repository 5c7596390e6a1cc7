/* The numbers of each declared layer at one step (SPEC 1.1, 1.3-1.5). */
#include "profile_layers.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "lyap/layer.h"
#include "lyap/residual.h"
#include "banned.h"

struct layers {
    const struct lyap_step *step;
    const struct lyap_network *network;
    const struct lyap_tensor_set *tensors;
    struct lyap_layer_row *rows; /* one per layer; filled */
};

static struct lyap_value with_trust(double value, enum lyap_trust trust)
{
    struct lyap_value v = lyap_value_exact(value);
    v.trust = (uint8_t)trust;
    return isfinite(value) ? v : lyap_value_absent(LYAP_REASON_NONFINITE);
}

static struct lyap_value exact(double value)
{
    return with_trust(value, LYAP_TRUST_I);
}

/* -- what the step knows of the layer's tensors -- */
static struct lyap_value upper_of(const struct layers *layers, int32_t tensor)
{
    const struct lyap_spectral_view *view =
        tensor >= 0 ? lyap_step_spectral_view(layers->step, (uint32_t)tensor) : NULL;
    if (!layers->step->partial)
        return lyap_value_absent(layers->step->sums);
    if (!view || isnan(view->upper))
        return lyap_value_absent(LYAP_REASON_INSUFFICIENT);
    return exact(view->upper);
}

static double row_at(const struct layers *layers, enum lyap_reduce row, int32_t tensor)
{
    const struct lyap_partial *partial = layers->step->partial;
    const bool is_there =
        partial && partial->rows[row] && tensor >= 0 && (uint32_t)tensor < partial->tensor_count;
    return is_there ? partial->rows[row][tensor] : (double)NAN;
}

/* Largest |gamma|: 1 where the layer scales nothing. */
static struct lyap_value scale_of(const struct layers *layers, const struct lyap_layer *layer)
{
    if (layer->tensors[LYAP_LAYER_PART_WEIGHT] == 0)
        return exact(1);
    if (!layers->step->partial)
        return lyap_value_absent(layers->step->sums);
    const double largest =
        row_at(layers, LYAP_REDUCE_PARAM_MAX, layer->index[LYAP_LAYER_PART_WEIGHT]);
    return isnan(largest) ? lyap_value_absent(LYAP_REASON_INSUFFICIENT) : exact(largest);
}

/* As it holds now; the row tells the step of its values. */
static struct lyap_layer_bound kept_bound(const struct layers *layers, uint32_t index)
{
    return lyap_forward_bound(layers->step, index, &layers->rows[index].bound_step);
}

/* NaN: not pushed. */
static struct lyap_act_sums acts_of(const struct layers *layers, uint32_t index)
{
    const struct lyap_act_sums none = { NAN, NAN, NAN, NAN, NAN, NAN, NAN, NULL };
    const struct lyap_partial *partial = layers->step->partial;
    const bool is_there = partial && partial->acts && index < partial->act_count;
    return is_there ? partial->acts[index] : none;
}

static struct lyap_value *value_at(const struct layers *layers, uint32_t index,
                                   enum lyap_layer_metric metric)
{
    return &layers->rows[index].values[metric];
}

static void set(const struct layers *layers, uint32_t index, enum lyap_layer_metric metric,
                struct lyap_value value)
{
    *value_at(layers, index, metric) = value;
}

static struct lyap_value scaled(struct lyap_value value, double factor)
{
    value.value *= factor;
    return value;
}

/* The gain of a layer whose own map is bounded by `gain`, and its local one at the pushed gates. */
static void give_gain(const struct layers *layers, uint32_t index, struct lyap_value gain,
                      enum lyap_bound_method method)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    const struct lyap_act_sums acts = acts_of(layers, index + 1);
    const struct lyap_value whole = scaled(gain, layer->activation.lipschitz);
    struct lyap_value local = scaled(gain, acts.gate_max);
    layers->rows[index].method = (uint8_t)(lyap_is(&gain) ? method : LYAP_BOUND_METHOD_NONE);
    set(layers, index, LYAP_LAYER_METRIC_GAIN, whole);
    local.trust = LYAP_TRUST_E;
    if (!lyap_is(&gain) || !(acts.gate_max <= layer->activation.lipschitz))
        local = whole; /* no gates, or none that say more than the constant */
    set(layers, index, LYAP_LAYER_METRIC_LOCAL_GAIN, local);
}

static void give_local(const struct layers *layers, uint32_t index, struct lyap_value local,
                       enum lyap_trust trust)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    local = scaled(local, layer->activation.lipschitz);
    if (lyap_is(&local))
        local = with_trust(local.value, trust);
    layers->rows[index].method =
        (uint8_t)(lyap_is(&local) ? LYAP_BOUND_METHOD_TOKENS : LYAP_BOUND_METHOD_NONE);
    set(layers, index, LYAP_LAYER_METRIC_GAIN, lyap_value_absent(LYAP_REASON_NO_GLOBAL_BOUND));
    set(layers, index, LYAP_LAYER_METRIC_LOCAL_GAIN, local);
}

/* -- kinds -- */
static void matrix_fill(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    give_gain(layers, index, upper_of(layers, layer->index[LYAP_LAYER_PART_WEIGHT]),
              LYAP_BOUND_METHOD_MATRIX);
    /* Of the gates one by one, the activation included; of the inputs of the step that it is of. */
    const struct lyap_layer_bound bound = kept_bound(layers, index);
    const struct lyap_value *local = value_at(layers, index, LYAP_LAYER_METRIC_LOCAL_GAIN);
    if (isfinite(bound.gated) && !(lyap_is(local) && local->value <= bound.gated))
        set(layers, index, LYAP_LAYER_METRIC_LOCAL_GAIN, with_trust(bound.gated, LYAP_TRUST_E));
}

static void conv_fill(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    const int32_t tensor = layer->index[LYAP_LAYER_PART_WEIGHT];
    const struct lyap_layer_bound bound = kept_bound(layers, index);
    const double frobenius = lyap_layer_frobenius_factor(layers->network, layers->tensors, index) *
                             sqrt(row_at(layers, LYAP_REDUCE_PARAM_SQ, tensor));
    if (!layers->step->partial) {
        give_gain(layers, index, lyap_value_absent(layers->step->sums), LYAP_BOUND_METHOD_NONE);
        return;
    }
    if (bound.upper <= frobenius || !isfinite(frobenius)) {
        const struct lyap_value upper =
            isnan(bound.upper) ? lyap_value_absent(LYAP_REASON_NEEDS_VALUES) : exact(bound.upper);
        give_gain(layers, index, upper, (enum lyap_bound_method)bound.method);
        return;
    }
    give_gain(layers, index, exact(frobenius), LYAP_BOUND_METHOD_FROBENIUS);
}

static void embedding_fill(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    const struct lyap_value upper = upper_of(layers, layer->index[LYAP_LAYER_PART_WEIGHT]);
    const struct lyap_layer_bound bound = kept_bound(layers, index);
    give_gain(layers, index, upper, LYAP_BOUND_METHOD_MATRIX);
    struct lyap_value row_norm = upper;
    if (isfinite(bound.upper) && !(bound.upper > upper.value)) /* a row is no longer than sigma_1 */
        row_norm = exact(bound.upper);
    set(layers, index, LYAP_LAYER_METRIC_ROW_NORM, row_norm);
}

static void norm_fill(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    struct lyap_value scale = scale_of(layers, layer);
    const double spread = acts_of(layers, index + 1).token_spread;
    if (lyap_is(&scale))
        scale = isnan(spread) ? lyap_value_absent(LYAP_REASON_NEEDS_ACTIVATIONS)
                              : exact(lyap_layer_norm_gain(scale.value, spread, layer->eps));
    give_local(layers, index, scale, LYAP_TRUST_E);
}

/* In evaluation, with the gates 1/sqrt(running variance + eps): exact where gamma is kept, channel
 * by channel, else an upper bound. */
static void batchnorm_fill(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    const struct lyap_act_sums acts = acts_of(layers, index + 1);
    struct lyap_value scale = scale_of(layers, layer);
    if (lyap_is(&scale) && isnan(acts.gate_max))
        scale = lyap_value_absent(LYAP_REASON_NEEDS_ACTIVATIONS);
    else if (lyap_is(&scale))
        scale = exact(isnan(acts.scaled_max) ? scale.value * acts.gate_max : acts.scaled_max);
    const struct lyap_value gain = scaled(scale, layer->activation.lipschitz);
    layers->rows[index].method =
        (uint8_t)(lyap_is(&gain) ? LYAP_BOUND_METHOD_GATES : LYAP_BOUND_METHOD_NONE);
    set(layers, index, LYAP_LAYER_METRIC_GAIN, gain);
    set(layers, index, LYAP_LAYER_METRIC_LOCAL_GAIN, gain);
}

static void attention_fill(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer_bound bound = kept_bound(layers, index);
    const struct lyap_layer_heads heads = { bound.value_output, bound.head_product };
    const struct lyap_act_sums acts = acts_of(layers, index + 1);
    struct lyap_value gain = lyap_value_absent(LYAP_REASON_NEEDS_VALUES);
    if (isnan(acts.token_norm))
        gain = lyap_value_absent(LYAP_REASON_NEEDS_ACTIVATIONS);
    else if (!isnan(bound.value_output))
        gain = exact(lyap_layer_attention_gain(&heads, sqrt(acts.token_count), acts.token_norm));
    give_local(layers, index, gain, LYAP_TRUST_C);
}

static void fixed_fill(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    give_gain(layers, index, exact(lyap_layer_fixed_gain(layer)), LYAP_BOUND_METHOD_KIND);
}

static void other_fill(const struct layers *layers, uint32_t index)
{
    give_gain(layers, index, lyap_value_absent(LYAP_REASON_UNKNOWN_LAYER_KIND),
              LYAP_BOUND_METHOD_NONE);
}

/* -- residual blocks -- */
/* Bounds of one block, before its own activation. */
struct block {
    struct lyap_value lipschitz, log_norm; /* of f */
    struct lyap_value skip;                /* gain of the shortcut; 1 without */
    struct lyap_value better;              /* log-norm gain; absent where there is none */
    struct lyap_value cfl;                 /* largest h that expands nothing */
};

/* Product of the gains of a list; the first that is absent says why. */
static struct lyap_value list_product(const struct layers *layers,
                                      const struct lyap_layer_list *list,
                                      enum lyap_layer_metric metric)
{
    struct lyap_value product = exact(1);
    for (uint32_t i = list->start; i < list->start + list->count; i++) {
        const uint32_t inner = (uint32_t)layers->network->members[i].layer;
        const struct lyap_value *gain = value_at(layers, inner, metric);
        if (!lyap_is(gain))
            return *gain;
        const uint8_t trust = gain->trust > product.trust ? gain->trust : product.trust;
        product = with_trust(product.value * gain->value, (enum lyap_trust)trust);
        if (!lyap_is(&product))
            return product;
    }
    return product;
}

static struct block free_block(const struct layers *layers, const struct lyap_layer *layer)
{
    const struct lyap_value inner = list_product(layers, &layer->inner, LYAP_LAYER_METRIC_GAIN);
    return (struct block){
        .lipschitz = inner,
        .log_norm = inner, /* mu = L is all that is known */
        .skip = list_product(layers, &layer->shortcut, LYAP_LAYER_METRIC_GAIN),
        .better = lyap_value_absent(LYAP_REASON_MU_NONNEGATIVE),
        .cfl = lyap_value_absent(LYAP_REASON_MU_NONNEGATIVE),
    };
}

static struct block constant_block(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    const struct lyap_layer_bound bound = kept_bound(layers, index);
    struct block block = { .lipschitz = upper_of(layers, layer->index[LYAP_LAYER_PART_WEIGHT]),
                           .skip = exact(1) };
    if (isfinite(bound.upper) && !(block.lipschitz.value < bound.upper))
        block.lipschitz = exact(bound.upper);
    block.log_norm =
        isnan(bound.log_norm) ? lyap_value_absent(LYAP_REASON_NEEDS_VALUES) : exact(bound.log_norm);
    if (!lyap_is(&block.lipschitz) || !lyap_is(&block.log_norm)) {
        block.better = block.cfl = lyap_is(&block.lipschitz) ? block.log_norm : block.lipschitz;
        return block;
    }
    /* Both are bounds, found apart: mu <= L, and mu >= -L where rounding says less. */
    const double lipschitz = block.lipschitz.value;
    block.log_norm.value = fmax(-lipschitz, fmin(lipschitz, block.log_norm.value));
    const struct lyap_residual_bounds both = { lipschitz, block.log_norm.value };
    block.better = exact(lyap_residual_gain(layer->step, &both));
    block.cfl = block.log_norm.value < 0 && lipschitz > 0
                    ? exact(lyap_residual_cfl(&both))
                    : lyap_value_absent(LYAP_REASON_MU_NONNEGATIVE);
    return block;
}

static struct block symmetric_block(const struct layers *layers, const struct lyap_layer *layer)
{
    const struct lyap_value sigma = upper_of(layers, layer->index[LYAP_LAYER_PART_WEIGHT]);
    const double gate = layer->activation.lipschitz;
    if (!lyap_is(&sigma))
        return (struct block){ sigma, sigma, exact(1), sigma, sigma };
    const struct lyap_residual_bounds both = lyap_residual_symmetric(gate, sigma.value);
    return (struct block){
        .lipschitz = exact(both.lipschitz),
        .log_norm = exact(both.log_norm),
        .skip = exact(1),
        .better = exact(lyap_residual_symmetric_gain(layer->step, gate, sigma.value)),
        .cfl = exact(lyap_residual_symmetric_cfl(gate, sigma.value)),
    };
}

static struct block gated_block(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    const struct lyap_layer_bound bound = kept_bound(layers, index);
    struct lyap_value lipschitz = upper_of(layers, layer->index[LYAP_LAYER_PART_WEIGHT]);
    lipschitz = scaled(lipschitz, layer->activation.lipschitz);
    set(layers, index, LYAP_LAYER_METRIC_GAIN_INF,
        isnan(bound.gain_inf) ? lyap_value_absent(LYAP_REASON_NEEDS_VALUES)
                              : exact(bound.gain_inf));
    return (struct block){ .lipschitz = lipschitz,
                           .log_norm = lipschitz, /* gating can make mu_2 as large */
                           .skip = exact(1),
                           .better = lyap_value_absent(LYAP_REASON_MU_NONNEGATIVE),
                           .cfl = lyap_value_absent(LYAP_REASON_MU_NONNEGATIVE) };
}

static struct block block_of(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    switch (layer->structure) {
    case LYAP_STRUCTURE_CONSTANT:
        return constant_block(layers, index);
    case LYAP_STRUCTURE_SYMMETRIC:
        return symmetric_block(layers, layer);
    case LYAP_STRUCTURE_GATED:
        return gated_block(layers, index);
    default:
        return free_block(layers, layer);
    }
}

/* skip + h L. */
static struct lyap_value triangle_of(double h, const struct lyap_value *skip,
                                     const struct lyap_value *lipschitz)
{
    if (!lyap_is(skip))
        return *skip;
    if (!lyap_is(lipschitz))
        return *lipschitz;
    const uint8_t trust = skip->trust > lipschitz->trust ? skip->trust : lipschitz->trust;
    return with_trust(skip->value + h * lipschitz->value, (enum lyap_trust)trust);
}

static struct lyap_value backward_of(double h, const struct lyap_value *log_norm, bool is_plain)
{
    if (!lyap_is(log_norm) || !is_plain)
        return lyap_is(log_norm) ? lyap_value_absent(LYAP_REASON_NOT_APPLICABLE) : *log_norm;
    const double gain = lyap_residual_backward_gain(h, log_norm->value);
    return isfinite(gain) ? exact(gain) : lyap_value_absent(LYAP_REASON_MU_NONNEGATIVE);
}

static void local_block(const struct layers *layers, uint32_t index, const struct lyap_value *gain)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    struct lyap_value local = *gain;
    if (layer->structure == LYAP_STRUCTURE_FREE) {
        const struct lyap_value inner =
            list_product(layers, &layer->inner, LYAP_LAYER_METRIC_LOCAL_GAIN);
        const struct lyap_value skip =
            list_product(layers, &layer->shortcut, LYAP_LAYER_METRIC_LOCAL_GAIN);
        local = scaled(triangle_of(layer->step, &skip, &inner), layer->activation.lipschitz);
    }
    set(layers, index, LYAP_LAYER_METRIC_LOCAL_GAIN, local);
}

static void block_fill(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    const struct block block = block_of(layers, index);
    const struct lyap_value triangle = triangle_of(layer->step, &block.skip, &block.lipschitz);
    const bool is_plain = layer->shortcut.count == 0;
    struct lyap_value gain = triangle;
    enum lyap_bound_method method = LYAP_BOUND_METHOD_TRIANGLE;
    if (lyap_is(&block.better) && !(gain.value <= block.better.value)) {
        gain = block.better;
        method = LYAP_BOUND_METHOD_LOG_NORM;
    }
    /* phi of a structured block is inside of f. */
    const double outer = layer->structure == LYAP_STRUCTURE_FREE ? layer->activation.lipschitz : 1;
    gain = scaled(gain, outer);
    layers->rows[index].method = (uint8_t)(lyap_is(&gain) ? method : LYAP_BOUND_METHOD_NONE);
    set(layers, index, LYAP_LAYER_METRIC_GAIN, gain);
    local_block(layers, index, &gain);
    set(layers, index, LYAP_LAYER_METRIC_TRIANGLE, triangle);
    set(layers, index, LYAP_LAYER_METRIC_LOG_NORM_GAIN, block.better);
    set(layers, index, LYAP_LAYER_METRIC_LOG_NORM, block.log_norm);
    set(layers, index, LYAP_LAYER_METRIC_CFL_MARGIN,
        lyap_is(&block.cfl) ? exact(block.cfl.value / layer->step) : block.cfl);
    set(layers, index, LYAP_LAYER_METRIC_BACKWARD_GAIN,
        backward_of(layer->step, &block.log_norm, is_plain));
}

/* -- all layers -- */
typedef void fill_of(const struct layers *layers, uint32_t index);
static fill_of *const fills[LYAP_LAYER_KIND_COUNT] = {
    [LYAP_LAYER_LINEAR] = matrix_fill,
    [LYAP_LAYER_CONV1D] = conv_fill,
    [LYAP_LAYER_CONV2D] = conv_fill,
    [LYAP_LAYER_CONV3D] = conv_fill,
    [LYAP_LAYER_CONV_TRANSPOSE1D] = conv_fill,
    [LYAP_LAYER_CONV_TRANSPOSE2D] = conv_fill,
    [LYAP_LAYER_CONV_TRANSPOSE3D] = conv_fill,
    [LYAP_LAYER_EMBEDDING] = embedding_fill,
    [LYAP_LAYER_LAYERNORM] = norm_fill,
    [LYAP_LAYER_RMSNORM] = norm_fill,
    [LYAP_LAYER_GROUPNORM] = norm_fill,
    [LYAP_LAYER_BATCHNORM] = batchnorm_fill,
    [LYAP_LAYER_ATTENTION] = attention_fill,
    [LYAP_LAYER_ACTIVATION] = fixed_fill,
    [LYAP_LAYER_MAXPOOL] = fixed_fill,
    [LYAP_LAYER_AVGPOOL] = fixed_fill,
    [LYAP_LAYER_ADAPTIVE_AVGPOOL] = fixed_fill,
    [LYAP_LAYER_FLATTEN] = fixed_fill,
    [LYAP_LAYER_DROPOUT] = fixed_fill,
    [LYAP_LAYER_RESIDUAL] = block_fill,
    [LYAP_LAYER_OTHER] = other_fill,
};

static void fill(const struct layers *layers, uint32_t index)
{
    const struct lyap_layer *layer = &layers->network->layers[index];
    if (layer->is_misfit)
        give_gain(layers, index, lyap_value_absent(LYAP_REASON_LAYER_MISMATCH),
                  LYAP_BOUND_METHOD_NONE);
    else
        fills[layer->kind](layers, index);
}

static uint32_t depth_of(const struct lyap_network *network, uint32_t index)
{
    uint32_t depth = 0;
    for (int32_t at = network->layers[index].parent; at >= 0; at = network->layers[at].parent)
        depth++;
    return depth;
}

/* Inner layers before the blocks that hold them. */
static void fill_all(const struct layers *layers)
{
    for (uint32_t depth = LYAP_NETWORK_DEPTH_MAX + 1; depth-- > 0;)
        for (uint32_t i = 0; i < layers->network->count; i++)
            if (depth_of(layers->network, i) == depth)
                fill(layers, i);
}

static void product_fill(const struct layers *layers, uint32_t index, enum lyap_layer_metric gain,
                         enum lyap_layer_metric product)
{
    const int32_t from = layers->network->layers[index].from;
    const struct lyap_value *own = value_at(layers, index, gain);
    const struct lyap_value before =
        from >= 0 ? *value_at(layers, (uint32_t)from, product) : exact(0);
    if (!lyap_is(&before) || !lyap_is(own)) {
        set(layers, index, product, lyap_is(&before) ? *own : before);
        return;
    }
    const uint8_t trust = own->trust > before.trust ? own->trust : before.trust;
    set(layers, index, product,
        with_trust(before.value + lyap_layer_log_product(&own->value, 1), (enum lyap_trust)trust));
}

static void empirical_fill(const struct layers *layers, uint32_t index)
{
    const struct lyap_step *step = layers->step;
    const int32_t tensor = layers->network->layers[index].index[LYAP_LAYER_PART_WEIGHT];
    const struct lyap_act_sums input = acts_of(layers, 0);
    struct lyap_act_sums acts = acts_of(layers, index + 1);
    double input_diff_sq = input.diff_sq;
    if (step->partial && !step->partial->acts) { /* partial grade */
        acts.sq = row_at(layers, LYAP_REDUCE_ACT_SQ, tensor);
        acts.diff_sq = row_at(layers, LYAP_REDUCE_ACT_DIFF_SQ, tensor);
        if (lyap_snapshot_has(step->snapshot, LYAP_META_ACT_INPUT_DIFF_SQ))
            input_diff_sq = step->snapshot->act_input_diff_sq;
    }
    const enum lyap_reason why = step->partial && step->partial->is_role_order && !isnan(acts.sq)
                                     ? LYAP_REASON_ROLE_ORDER
                                     : LYAP_REASON_NEEDS_ACTIVATIONS;
    struct lyap_value gain = lyap_value_absent(why);
    double value;
    if (!isnan(acts.sq))
        set(layers, index, LYAP_LAYER_METRIC_ACT_NORM, exact(sqrt(acts.sq)));
    if (!isnan(acts.diff_sq) && !isnan(input_diff_sq))
        gain = lyap_layer_empirical_gain(acts.diff_sq, input_diff_sq, &value) == LYAP_OK
                   ? exact(value)
                   : lyap_value_absent(LYAP_REASON_INSUFFICIENT);
    set(layers, index, LYAP_LAYER_METRIC_EMPIRICAL_GAIN, gain);
}

void lyap_layers_fill(const struct lyap_step *step, struct lyap_layer_row *ret_rows)
{
    const struct lyap_declaration *declaration = &step->profile->declaration;
    const struct lyap_network *network = &declaration->network;
    const struct layers layers = { step, network, &declaration->set, ret_rows };
    for (uint32_t i = 0; i < network->count; i++) {
        struct lyap_layer_row *row = &ret_rows[i];
        *row = (struct lyap_layer_row){ .layer = i, .bound_step = -1 };
        for (unsigned m = 0; m < LYAP_LAYER_METRIC_COUNT; m++)
            row->values[m] = lyap_value_absent(LYAP_REASON_NOT_APPLICABLE);
        row->values[LYAP_LAYER_METRIC_ACT_NORM] = lyap_value_absent(LYAP_REASON_NEEDS_ACTIVATIONS);
        empirical_fill(&layers, i);
    }
    fill_all(&layers);
    for (uint32_t i = 0; i < network->count; i++) {
        if (network->layers[i].parent != LYAP_NETWORK_NONE)
            continue;
        product_fill(&layers, i, LYAP_LAYER_METRIC_GAIN, LYAP_LAYER_METRIC_LOG_PRODUCT);
        product_fill(&layers, i, LYAP_LAYER_METRIC_LOCAL_GAIN, LYAP_LAYER_METRIC_LOCAL_LOG_PRODUCT);
    }
}
