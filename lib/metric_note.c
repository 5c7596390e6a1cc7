/* Notes on metrics, by number. */
#include "lyap/metric_note.h"

#include <assert.h>

#include "banned.h"

/* Trust, needs and source of a point's metrics stand in their table. */
static const struct lyap_metric_note points[LYAP_METRIC_COUNT] = {
#define ROW(name, error, hypotheses)                                                               \
    [LYAP_METRIC_##name] = { LYAP_TRUST_I, error, NULL, hypotheses, NULL },
    LYAP_METRIC_NOTE_TABLE(ROW)
#undef ROW
};

static const struct lyap_metric_note tensors[LYAP_TENSOR_METRIC_COUNT] = {
#define ROW(name, trust, error, needs, source)                                                     \
    [LYAP_TENSOR_METRIC_##name] = { LYAP_TRUST_##trust, error, needs, "-", source },
    LYAP_TENSOR_NOTE_TABLE(ROW)
#undef ROW
};

static const struct lyap_metric_note layers[LYAP_LAYER_METRIC_COUNT] = {
#define ROW(name, error, needs, hypotheses, source)                                                \
    [LYAP_LAYER_METRIC_##name] = { LYAP_TRUST_I, error, needs, hypotheses, source },
    LYAP_LAYER_NOTE_TABLE(ROW)
#undef ROW
};

static const enum lyap_trust layer_trusts[LYAP_LAYER_METRIC_COUNT] = {
#define ROW(name, wire, trust, formula) LYAP_TRUST_##trust,
    LYAP_LAYER_METRIC_TABLE(ROW)
#undef ROW
};

struct lyap_metric_note lyap_metric_note(enum lyap_metric metric)
{
    const struct lyap_metric_info *info = lyap_metric_info(metric);
    struct lyap_metric_note note = points[metric];
    assert(note.error && note.hypotheses);
    note.trust = info->trust;
    note.needs = info->needs;
    note.source = info->source;
    return note;
}

struct lyap_metric_note lyap_tensor_metric_note(enum lyap_tensor_metric metric)
{
    assert(metric < LYAP_TENSOR_METRIC_COUNT && tensors[metric].error);
    return tensors[metric];
}

struct lyap_metric_note lyap_layer_metric_note(enum lyap_layer_metric metric)
{
    assert(metric < LYAP_LAYER_METRIC_COUNT && layers[metric].error);
    struct lyap_metric_note note = layers[metric];
    note.trust = layer_trusts[metric];
    return note;
}
