/* Names of the numbers of a layer and of the ways to a bound. */
#include "lyap/layer_row.h"

#include <assert.h>

#include "banned.h"

static const char *const method_names[] = {
#define NAME(name, wire, text) wire,
    LYAP_BOUND_METHOD_TABLE(NAME)
#undef NAME
};

static const struct {
    const char *name, *formula;
} metrics[LYAP_LAYER_METRIC_COUNT] = {
#define ROW(name, wire, trust, formula) { wire, formula },
    LYAP_LAYER_METRIC_TABLE(ROW)
#undef ROW
};

const char *lyap_layer_metric_name(enum lyap_layer_metric metric)
{
    assert(metric < LYAP_LAYER_METRIC_COUNT);
    return metrics[metric].name;
}

const char *lyap_layer_metric_formula(enum lyap_layer_metric metric)
{
    assert(metric < LYAP_LAYER_METRIC_COUNT);
    return metrics[metric].formula;
}

const char *lyap_bound_method_name(enum lyap_bound_method method)
{
    assert(method < LYAP_BOUND_METHOD_COUNT);
    return method_names[method];
}
