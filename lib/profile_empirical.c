/* Empirical gains of pushed perturbed activations: their maxima, their growth, the point's (SPEC
 * 1.5, 9). */
#include <assert.h>
#include <math.h>

#include "profile_forward.h"
#include "profile_internal.h"
#include "banned.h"

static const struct lyap_value *gain_of(const struct lyap_forward *forward, uint32_t layer)
{
    return &forward->rows[layer].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN];
}

static bool has_acts(const struct lyap_partial *partial)
{
    return partial->acts || partial->rows[LYAP_REDUCE_ACT_DIFF_SQ];
}

enum lyap_status lyap_forward_reserve_lows(struct lyap_forward *forward,
                                           const struct lyap_partial *partial, uint32_t window)
{
    if (forward->count == 0 || forward->lows.series == forward->count || !has_acts(partial))
        return LYAP_OK;
    return lyap_lows_init(&forward->lows, forward->count, window);
}

/* Of the last declared layer with a tensor of its own that was pushed: in both grades the same. */
static uint32_t last_layer(const struct lyap_step *step, struct lyap_value *ret_gain)
{
    const struct lyap_network *network = &step->profile->declaration.network;
    *ret_gain = lyap_value_absent(LYAP_REASON_NEEDS_ACTIVATIONS);
    for (uint32_t i = network->count; i-- > 0;) {
        const struct lyap_value *value = gain_of(&step->profile->forward, i);
        if (network->layers[i].index[LYAP_LAYER_PART_WEIGHT] >= 0 &&
            (lyap_is(value) || value->reason != LYAP_REASON_NEEDS_ACTIVATIONS)) {
            *ret_gain = *value;
            return i;
        }
    }
    return network->count;
}

static void keep_maximum(struct lyap_forward *forward, uint32_t layer)
{
    const struct lyap_value *gain = gain_of(forward, layer);
    double *most = &forward->layers[layer].gain_max;
    if (lyap_is(gain))
        *most = fmax(*most, gain->value); /* fmax prefers the number to NaN */
    forward->rows[layer].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN_MAX] =
        isnan(*most) ? lyap_value_absent((enum lyap_reason)gain->reason) : lyap_value_exact(*most);
}

/* Against the least before this point; `least` stands in where the window is empty, after a
 * restart that nothing was saved before. */
static void give_growth(struct lyap_forward *forward, uint32_t layer, double least)
{
    const struct lyap_value *gain = gain_of(forward, layer);
    struct lyap_value *growth =
        &forward->rows[layer].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN_GROWTH];
    const double own = lyap_lows_least(&forward->lows, layer);
    least = isnan(own) ? least : own;
    *growth = *gain;
    if (!lyap_is(gain))
        return;
    *growth = least > 0 ? lyap_value_exact(gain->value / least)
                        : lyap_value_absent(LYAP_REASON_WARMING_UP);
    if (layer < forward->lows.series)
        lyap_lows_push(&forward->lows, layer, gain->value);
}

/* The worst of the layers with a tensor of their own. */
static struct lyap_value worst_growth(const struct lyap_step *step)
{
    const struct lyap_network *network = &step->profile->declaration.network;
    struct lyap_value worst = lyap_value_absent(LYAP_REASON_NEEDS_ACTIVATIONS);
    for (uint32_t i = 0; i < network->count; i++) {
        const struct lyap_value *growth =
            &step->profile->forward.rows[i].values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN_GROWTH];
        if (network->layers[i].index[LYAP_LAYER_PART_WEIGHT] < 0)
            continue;
        if (lyap_is(growth) ? !(lyap_is(&worst) && worst.value >= growth->value)
                            : !lyap_is(&worst) && growth->reason != LYAP_REASON_NEEDS_ACTIVATIONS)
            worst = *growth;
    }
    return worst;
}

void lyap_forward_empirical(struct lyap_step *step)
{
    struct lyap_forward *forward = &step->profile->forward;
    struct lyap_value gain;
    const uint32_t last = last_layer(step, &gain);
    const double least = lyap_history_gain_least(&step->profile->history);
    for (uint32_t i = 0; i < forward->count; i++) {
        keep_maximum(forward, i);
        give_growth(forward, i, i == last ? least : (double)NAN);
    }
    lyap_step_give(step, LYAP_METRIC_EMPIRICAL_GAIN, gain);
    lyap_step_give(step, LYAP_METRIC_EMPIRICAL_GAIN_GROWTH, worst_growth(step));
    lyap_history_absorb(&step->profile->history, LYAP_HISTORY_REPRESENTATION, step->point);
}
