/* Derivative ranges of activations. */
#include "lyap/activation.h"

#include <assert.h>
#include <math.h>

#include "banned.h"

static const struct lyap_activation_range ranges[] = {
#define RANGE(name, wire, least, largest, derivation) { least, largest },
    LYAP_ACTIVATION_TABLE(RANGE)
#undef RANGE
};

struct lyap_activation_range lyap_activation_derivative(enum lyap_activation activation)
{
    assert(activation < LYAP_ACTIVATION_COUNT);
    return ranges[activation];
}

double lyap_activation_lipschitz(enum lyap_activation activation)
{
    const struct lyap_activation_range range = lyap_activation_derivative(activation);
    return fmax(fabs(range.least), fabs(range.largest));
}

bool lyap_activation_is_gate(enum lyap_activation activation)
{
    const struct lyap_activation_range range = lyap_activation_derivative(activation);
    return range.least >= 0 && range.largest <= 1;
}
