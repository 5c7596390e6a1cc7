/* Sums what the trees of the fitted table say. */
#include "lyap/score.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* A node of a tree, in preorder: not above `edge` the next node follows, above it the one `skip`
 * nodes further; a leaf has no `skip`. `share`: what coming here changes of the log odds. */
struct score_node {
    uint8_t observable, absent_above, skip; /* absent_above: where an absent value goes */
    float edge, share;
};

struct score_model {
    double base;
    const uint16_t *roots; /* of its trees in score_nodes */
    unsigned count;
};

/* LYAP_SCORE_NOW has a model for each kind of push: what is large after a gap, where the coming
 * update is unknown, or where no tensor was pushed and losses, perhaps norms, are all there is, is
 * something else; and a job that looks at a fixed batch now and then has two of its own. */
enum {
    SCORE_NOW,
    SCORE_GAP,
    SCORE_BLIND,
    SCORE_NEXT,
    SCORE_LOSS,
    SCORE_NORMS,
    SCORE_PROBE,
    SCORE_PROBE_LOSS
};

#include "score_table.h"

_Static_assert((int)SCORE_OBSERVABLES == (int)LYAP_OBSERVABLE_COUNT,
               "the table was fitted on these observables");

/* Adds to the share of each observable that a tree asks what its answer changes. */
static void walk(const struct score_node *node, const double seen[LYAP_OBSERVABLE_COUNT],
                 double shares[LYAP_OBSERVABLE_COUNT])
{
    while (node->skip > 0) {
        const double value = seen[node->observable];
        const unsigned is_above = isnan(value) ? node->absent_above : value > (double)node->edge;
        const unsigned asked = node->observable;
        node += 1 + (-is_above & (node->skip - 1U)); /* no branch: it would be guessed wrong */
        shares[asked] += (double)node->share;
    }
}

/* Observables that tell what is known. */
static bool has_work(const double seen[LYAP_OBSERVABLE_COUNT])
{
    return !isnan(seen[LYAP_OBSERVABLE_DECREASE]) || !isnan(seen[LYAP_OBSERVABLE_OVERSHOOT]) ||
           !isnan(seen[LYAP_OBSERVABLE_GRAD_Z]);
}

static bool has_norms(const double seen[LYAP_OBSERVABLE_COUNT])
{
    return !isnan(seen[LYAP_OBSERVABLE_GRAD_UP]) || !isnan(seen[LYAP_OBSERVABLE_GRAD_RISE]) ||
           !isnan(seen[LYAP_OBSERVABLE_PARAM_STEP]);
}

static bool has_update(const double seen[LYAP_OBSERVABLE_COUNT])
{
    return !isnan(seen[LYAP_OBSERVABLE_DECREASE]) || !isnan(seen[LYAP_OBSERVABLE_UPDATE_Z]) ||
           !isnan(seen[LYAP_OBSERVABLE_MOMENT]);
}

static bool has_loss(const double seen[LYAP_OBSERVABLE_COUNT])
{
    return !isnan(seen[LYAP_OBSERVABLE_EXCESS]) || !isnan(seen[LYAP_OBSERVABLE_RATIO]) ||
           !isnan(seen[LYAP_OBSERVABLE_LEVEL]);
}

/* NULL: nothing is known that it could judge. */
static const struct score_model *model_of(enum lyap_score_kind kind,
                                          const double seen[LYAP_OBSERVABLE_COUNT])
{
    if (kind == LYAP_SCORE_NEXT)
        return has_update(seen) ? &models[SCORE_NEXT] : NULL;
    const bool has_probe = !isnan(seen[LYAP_OBSERVABLE_PROBE_RELAPSE]);
    const bool has_tensors = !isnan(seen[LYAP_OBSERVABLE_TENSORS]);
    if (has_probe)
        return &models[has_tensors ? SCORE_PROBE : SCORE_PROBE_LOSS];
    if (!has_loss(seen) && !has_norms(seen) && !has_work(seen))
        return NULL;
    if (!has_tensors)
        return &models[has_norms(seen) ? SCORE_NORMS : SCORE_LOSS];
    if (seen[LYAP_OBSERVABLE_GAP] > 0)
        return &models[SCORE_GAP];
    return &models[isnan(seen[LYAP_OBSERVABLE_DECREASE]) ? SCORE_BLIND : SCORE_NOW];
}

double lyap_score(enum lyap_score_kind kind, const double seen[LYAP_OBSERVABLE_COUNT],
                  double ret_shares[LYAP_OBSERVABLE_COUNT])
{
    const struct score_model *model = model_of(kind, seen);
    memset(ret_shares, 0, LYAP_OBSERVABLE_COUNT * sizeof *ret_shares);
    if (!model)
        return NAN;
    double sum = model->base;
    for (unsigned i = 0; i < model->count; i++)
        walk(&nodes[model->roots[i]], seen, ret_shares);
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++)
        sum += ret_shares[i];
    return 1 / (1 + exp(-sum));
}

uint32_t lyap_score_parts(const double shares[LYAP_OBSERVABLE_COUNT],
                          const double seen[LYAP_OBSERVABLE_COUNT],
                          struct lyap_score_part ret_parts[LYAP_SCORE_PARTS_MAX])
{
    uint32_t found = 0;
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++) {
        if (!(shares[i] > 0) || isnan(seen[i]))
            continue;
        uint32_t at = found;
        while (at > 0 && ret_parts[at - 1].log_odds < shares[i])
            at--;
        if (at == LYAP_SCORE_PARTS_MAX)
            continue;
        const uint32_t last = found < LYAP_SCORE_PARTS_MAX ? found : LYAP_SCORE_PARTS_MAX - 1;
        memmove(&ret_parts[at + 1], &ret_parts[at], (last - at) * sizeof *ret_parts);
        ret_parts[at] = (struct lyap_score_part){ .a = (enum lyap_observable)i,
                                                  .b = LYAP_OBSERVABLE_COUNT,
                                                  .value_a = seen[i],
                                                  .value_b = NAN,
                                                  .per_a = NAN,
                                                  .per_b = NAN,
                                                  .log_odds = shares[i] };
        found += found < LYAP_SCORE_PARTS_MAX;
    }
    return found;
}

uint32_t lyap_score_version(void)
{
    return SCORE_VERSION;
}
