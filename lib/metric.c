/* The tables of metrics, reasons and trust classes, by number and by name. */
#include "lyap/metric.h"

#include <string.h>

#include "lyap/growth.h"

static const struct lyap_metric_info metrics[LYAP_METRIC_COUNT] = {
#define ROW(name, wire, trust, unit, formula, needs, source)                                       \
    { wire, unit, formula, needs, source, LYAP_TRUST_##trust },
    LYAP_METRIC_TABLE(ROW)
#undef ROW
};

static const struct {
    const char *name, *formula;
} tensor_metrics[LYAP_TENSOR_METRIC_COUNT] = {
#define ROW(name, wire, formula) { wire, formula },
    LYAP_TENSOR_METRIC_TABLE(ROW)
#undef ROW
};

static const struct {
    const char *name, *text;
} reasons[LYAP_REASON_COUNT] = {
#define ROW(name, wire, text) { wire, text },
    LYAP_REASON_TABLE(ROW)
#undef ROW
};

static const char *const trusts[] = { "I", "E", "C" };

const struct lyap_metric_info *lyap_metric_info(enum lyap_metric metric)
{
    return &metrics[metric];
}

const char *lyap_metric_label(enum lyap_metric metric, double value)
{
    if ((metric != LYAP_METRIC_WINDOW_VERDICT && metric != LYAP_METRIC_ACTIVE_VERDICT) ||
        !(value >= 0 && value < LYAP_GROWTH_COUNT))
        return NULL;
    return lyap_growth_name((enum lyap_growth)value);
}

bool lyap_metric_parse(const char *name, enum lyap_metric *ret_metric)
{
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        if (strcmp(metrics[i].name, name) == 0) {
            *ret_metric = (enum lyap_metric)i;
            return true;
        }
    }
    return false;
}

const char *lyap_tensor_metric_name(enum lyap_tensor_metric metric)
{
    return tensor_metrics[metric].name;
}

const char *lyap_tensor_metric_formula(enum lyap_tensor_metric metric)
{
    return tensor_metrics[metric].formula;
}

bool lyap_tensor_metric_parse(const char *name, enum lyap_tensor_metric *ret_metric)
{
    for (unsigned i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++) {
        if (strcmp(tensor_metrics[i].name, name) == 0) {
            *ret_metric = (enum lyap_tensor_metric)i;
            return true;
        }
    }
    return false;
}

const char *lyap_trust_name(enum lyap_trust trust)
{
    return trusts[trust];
}

const char *lyap_reason_name(enum lyap_reason reason)
{
    return reasons[reason].name;
}

const char *lyap_reason_text(enum lyap_reason reason)
{
    return reasons[reason].text;
}

bool lyap_reason_parse(const char *name, enum lyap_reason *ret_reason)
{
    for (unsigned i = 0; i < LYAP_REASON_COUNT; i++) {
        if (strcmp(reasons[i].name, name) == 0) {
            *ret_reason = (enum lyap_reason)i;
            return true;
        }
    }
    return false;
}
