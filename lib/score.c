/* Sums the shares of the fitted table. */
#include "lyap/score.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* min(a / per_a, b / per_b): two different physics must agree. */
struct score_pair {
    enum lyap_observable a, b;
    double per_a, per_b;
};

/* Above `edge` the share is `log_odds`, until the next edge. */
struct score_bin {
    double edge, log_odds;
};

/* Share of one input: an observable, or LYAP_OBSERVABLE_COUNT + i for the i-th pair. */
struct score_term {
    unsigned input;
    double absent;         /* share where the input is absent; below the first edge it is 0 */
    unsigned first, count; /* its bins */
};

struct score_model {
    double base;
    const struct score_term *terms;
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

static bool is_pair(unsigned input)
{
    return input >= LYAP_OBSERVABLE_COUNT;
}

/* NaN: absent. */
static double input_value(unsigned input, const double seen[LYAP_OBSERVABLE_COUNT])
{
    if (!is_pair(input))
        return seen[input];
    const struct score_pair *pair = &pairs[input - LYAP_OBSERVABLE_COUNT];
    const double a = seen[pair->a] / pair->per_a, b = seen[pair->b] / pair->per_b;
    return isnan(a) || isnan(b) ? (double)NAN : fmin(a, b);
}

static double share_of(const struct score_term *term, double value)
{
    const struct score_bin *bin = &bins[term->first];
    double share = 0;
    if (isnan(value))
        return term->absent;
    for (unsigned i = 0; i < term->count && value > bin[i].edge; i++)
        share = bin[i].log_odds;
    return share;
}

static bool has_any_of(const double seen[LYAP_OBSERVABLE_COUNT], const enum lyap_observable *wanted,
                       unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (!isnan(seen[wanted[i]]))
            return true;
    return false;
}

static const struct score_model *model_of(enum lyap_score_kind kind,
                                          const double seen[LYAP_OBSERVABLE_COUNT])
{
    if (kind == LYAP_SCORE_NEXT)
        return &models[SCORE_NEXT];
    static const enum lyap_observable of_tensors[] = { LYAP_OBSERVABLE_DECREASE,
                                                       LYAP_OBSERVABLE_OVERSHOOT,
                                                       LYAP_OBSERVABLE_GRAD_Z };
    static const enum lyap_observable of_norms[] = { LYAP_OBSERVABLE_GRAD_UP,
                                                     LYAP_OBSERVABLE_GRAD_RISE,
                                                     LYAP_OBSERVABLE_PARAM_STEP };
    const bool has_tensors = has_any_of(seen, of_tensors, sizeof of_tensors / sizeof *of_tensors);
    if (!isnan(seen[LYAP_OBSERVABLE_PROBE_RELAPSE]))
        return &models[has_tensors ? SCORE_PROBE : SCORE_PROBE_LOSS];
    if (!has_tensors)
        return &models[has_any_of(seen, of_norms, sizeof of_norms / sizeof *of_norms) ? SCORE_NORMS
                                                                                      : SCORE_LOSS];
    if (seen[LYAP_OBSERVABLE_GAP] > 0)
        return &models[SCORE_GAP];
    return &models[isnan(seen[LYAP_OBSERVABLE_DECREASE]) ? SCORE_BLIND : SCORE_NOW];
}

double lyap_score(enum lyap_score_kind kind, const double seen[LYAP_OBSERVABLE_COUNT])
{
    const struct score_model *model = model_of(kind, seen);
    double sum = model->base;
    bool has_any = false;
    for (unsigned i = 0; i < model->count; i++) {
        const double value = input_value(model->terms[i].input, seen);
        has_any = has_any || !isnan(value);
        sum += share_of(&model->terms[i], value);
    }
    return has_any ? 1 / (1 + exp(-sum)) : (double)NAN;
}

static struct lyap_score_part part_of(const struct score_term *term,
                                      const double seen[LYAP_OBSERVABLE_COUNT])
{
    struct lyap_score_part part = { .b = LYAP_OBSERVABLE_COUNT, .value_b = NAN, .per_b = NAN };
    if (is_pair(term->input)) {
        const struct score_pair *pair = &pairs[term->input - LYAP_OBSERVABLE_COUNT];
        part.a = pair->a;
        part.b = pair->b;
        part.per_a = pair->per_a;
        part.per_b = pair->per_b;
        part.value_b = seen[pair->b];
    } else {
        part.a = (enum lyap_observable)term->input;
        part.per_a = NAN;
    }
    part.value_a = seen[part.a];
    part.log_odds = share_of(term, input_value(term->input, seen));
    return part;
}

uint32_t lyap_score_parts(enum lyap_score_kind kind, const double seen[LYAP_OBSERVABLE_COUNT],
                          struct lyap_score_part ret_parts[LYAP_SCORE_PARTS_MAX])
{
    const struct score_model *model = model_of(kind, seen);
    uint32_t found = 0;
    for (unsigned i = 0; i < model->count; i++) {
        const struct lyap_score_part part = part_of(&model->terms[i], seen);
        const bool is_absent =
            isnan(part.value_a) || (part.b != LYAP_OBSERVABLE_COUNT && isnan(part.value_b));
        if (!(part.log_odds > 0) || is_absent)
            continue;
        uint32_t at = found;
        while (at > 0 && ret_parts[at - 1].log_odds < part.log_odds)
            at--;
        if (at == LYAP_SCORE_PARTS_MAX)
            continue;
        const uint32_t last = found < LYAP_SCORE_PARTS_MAX ? found : LYAP_SCORE_PARTS_MAX - 1;
        memmove(&ret_parts[at + 1], &ret_parts[at], (last - at) * sizeof *ret_parts);
        ret_parts[at] = part;
        found += found < LYAP_SCORE_PARTS_MAX;
    }
    return found;
}

uint32_t lyap_score_version(void)
{
    return SCORE_VERSION;
}
