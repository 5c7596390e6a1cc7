/* The table of SPEC 4.3, from its sides. */
#include "lyap/verdict.h"

#include <math.h>

#include "banned.h"

static const double TOLERANCE = 0.69314718055994530942; /* ln 2 (SPEC 4.2) */
static const double ROUNDING = 1e-9;

static const char *const modes[] = { [LYAP_MODE_NONE] = NULL,
                                     [LYAP_MODE_SHARPNESS] = "sharpness",
                                     [LYAP_MODE_LAMBDA_MIN] = "lambda_min" };
static const char *const qualifiers[LYAP_QUALIFIER_COUNT] = {
#define ROW(name, wire) wire,
    LYAP_QUALIFIER_TABLE(ROW)
#undef ROW
};

const char *lyap_mode_name(enum lyap_verdict_mode mode)
{
    return modes[mode];
}

const char *lyap_qualifier_name(enum lyap_qualifier qualifier)
{
    return qualifiers[qualifier];
}

/* ---- what the rows of the table ask ---- */

static bool is_calm(enum lyap_growth growth)
{
    return growth == LYAP_GROWTH_DECAY || growth == LYAP_GROWTH_BOUNDED;
}

static bool grows(enum lyap_growth growth)
{
    return growth >= LYAP_GROWTH_SUBEXPONENTIAL;
}

static bool has_any_twin(const struct lyap_sides *s)
{
    return s->has_twin || s->has_active;
}

/* Worst of all twins: no row may call stable what one of them contradicts. */
static enum lyap_growth worst(const struct lyap_sides *s)
{
    if (!s->has_twin)
        return s->active;
    return s->has_active && s->active > s->twin ? s->active : s->twin;
}

static bool is_above(const struct lyap_sides *s) /* s > 1; false when unknown */
{
    return s->ratio > 1;
}

static bool is_below(const struct lyap_sides *s) /* s <= 1; false when unknown */
{
    return s->ratio <= 1;
}

static bool dissipates(const struct lyap_sides *s)
{
    return s->dissipation <= 0;
}

static bool is_exponential(const struct lyap_sides *s)
{
    return has_any_twin(s) && worst(s) == LYAP_GROWTH_EXPONENTIAL;
}

static bool explains(const struct lyap_sides *s) /* lambda_min grows at half the rate at least */
{
    return s->lambda_min_rate > 0 && s->lambda_min_rate >= 0.5 * s->rate;
}

/* ---- the rows, from the top ---- */

static bool violated(const struct lyap_sides *s)
{
    return s->is_violated;
}

static bool stable(const struct lyap_sides *s)
{
    return has_any_twin(s) && is_calm(worst(s)) && is_below(s) && dissipates(s);
}

static bool onset(const struct lyap_sides *s)
{
    return s->has_twin && is_calm(s->twin) && is_above(s) && s->has_active && grows(s->active);
}

static bool edge(const struct lyap_sides *s)
{
    return has_any_twin(s) && worst(s) == LYAP_GROWTH_BOUNDED && is_above(s);
}

static bool unstable(const struct lyap_sides *s)
{
    return is_exponential(s) && (is_above(s) || explains(s));
}

static bool hidden(const struct lyap_sides *s)
{
    return is_exponential(s) && is_below(s);
}

static bool sensitive(const struct lyap_sides *s)
{
    return is_exponential(s) && dissipates(s);
}

static bool unbounded(const struct lyap_sides *s)
{
    return has_any_twin(s) && worst(s) == LYAP_GROWTH_SUBEXPONENTIAL;
}

static bool edge_alone(const struct lyap_sides *s)
{
    return !has_any_twin(s) && is_above(s);
}

static bool dissipating(const struct lyap_sides *s)
{
    return !has_any_twin(s) && is_below(s) && dissipates(s);
}

static bool blind(const struct lyap_sides *s)
{
    return !has_any_twin(s) && !s->has_function;
}

static bool always(const struct lyap_sides *s)
{
    (void)s;
    return true;
}

static const struct row {
    bool (*applies)(const struct lyap_sides *s);
    enum lyap_verdict verdict;
    enum lyap_trust trust;
} rows[] = {
    { violated, LYAP_VERDICT_ENERGY_VIOLATION, LYAP_TRUST_E },
    { stable, LYAP_VERDICT_CONSISTENT_STABLE, LYAP_TRUST_E },
    { onset, LYAP_VERDICT_ONSET, LYAP_TRUST_E },
    { edge, LYAP_VERDICT_EDGE, LYAP_TRUST_E },
    { unstable, LYAP_VERDICT_CONSISTENT_UNSTABLE, LYAP_TRUST_E },
    { hidden, LYAP_VERDICT_HIDDEN_INSTABILITY, LYAP_TRUST_E },
    { sensitive, LYAP_VERDICT_SENSITIVE, LYAP_TRUST_E },
    { unbounded, LYAP_VERDICT_UNBOUNDED_PROFILE, LYAP_TRUST_E },
    { edge_alone, LYAP_VERDICT_EDGE, LYAP_TRUST_C },
    { dissipating, LYAP_VERDICT_DISSIPATING, LYAP_TRUST_E },
    { blind, LYAP_VERDICT_INSUFFICIENT, LYAP_TRUST_C },
    { always, LYAP_VERDICT_INCONCLUSIVE, LYAP_TRUST_C },
};

static enum lyap_verdict_mode mode_of(const struct lyap_sides *s, enum lyap_verdict verdict)
{
    const bool is_named = verdict == LYAP_VERDICT_EDGE || verdict == LYAP_VERDICT_ONSET ||
                          verdict == LYAP_VERDICT_CONSISTENT_UNSTABLE;
    if (!is_named)
        return LYAP_MODE_NONE;
    return is_above(s) ? LYAP_MODE_SHARPNESS : LYAP_MODE_LAMBDA_MIN;
}

/* A twin's distance is that of theta. Where the optimizer has memory, a mode turns in the plane of
 * both: the distance passes zero and rises again, which M, a bound on the whole state, allows. M of
 * a method without memory is 1 (P is a number). */
static bool is_state_seen(const struct lyap_sides *s)
{
    return s->gain <= 1 + ROUNDING;
}

bool lyap_verdict_contradicts(const struct lyap_sides *s)
{
    if (!has_any_twin(s) || !(s->gain >= 1) || !is_below(s) || s->lambda_min_rate > 0)
        return false;
    /* With the neutral mode no q < 1 holds for all of the state (docs/decisions/0013). */
    const struct lyap_growth_fit fit = { .rate = grows(worst(s)) ? s->rate : -INFINITY,
                                         .ci = s->rate_ci,
                                         .log_m =
                                             is_state_seen(s) ? s->log_m - TOLERANCE : -INFINITY };
    return lyap_growth_contradicts(&fit, 1, s->gain * s->gain);
}

struct lyap_judgement lyap_verdict_judge(const struct lyap_sides *s)
{
    const struct row *row = rows;
    while (!row->applies(s))
        row++;
    struct lyap_judgement result = { .verdict = row->verdict,
                                     .mode = mode_of(s, row->verdict),
                                     .trust = (uint8_t)row->trust,
                                     .predicted = NAN };
    if (!isnan(s->sharpness_rate) || !isnan(s->lambda_min_rate)) /* fmax prefers the number */
        result.predicted = fmax(0, fmax(s->sharpness_rate, s->lambda_min_rate));
    if (is_exponential(s) && dissipates(s))
        result.qualifiers |= 1u << LYAP_QUALIFIER_SENSITIVE;
    if (lyap_verdict_contradicts(s))
        result.qualifiers |= 1u << LYAP_QUALIFIER_THEOREM;
    return result;
}

static double column(const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *value = &point->metrics[metric];
    return value->reason == LYAP_REASON_NONE ? value->value : (double)NAN;
}

/* False: absent. */
static bool growth_column(const struct lyap_point *point, enum lyap_metric metric,
                          enum lyap_growth *ret_growth)
{
    const double code = column(point, metric);
    if (!(code >= 0 && code < LYAP_GROWTH_COUNT))
        return false;
    *ret_growth = (enum lyap_growth)code;
    return true;
}

struct lyap_sides lyap_verdict_sides(const struct lyap_point *point)
{
    struct lyap_sides sides = {
        .is_violated = point->verdict == LYAP_VERDICT_ENERGY_VIOLATION,
        .has_function = point->verdict != LYAP_VERDICT_INSUFFICIENT,
        .rate = column(point, LYAP_METRIC_TWIN_RATE),
        .rate_ci = point->metrics[LYAP_METRIC_TWIN_RATE].error,
        .log_m = column(point, LYAP_METRIC_TWIN_GROWTH),
        .ratio = column(point, LYAP_METRIC_STABILITY_RATIO),
        .sharpness_rate = column(point, LYAP_METRIC_TRANSITION_RATE),
        .lambda_min_rate = column(point, LYAP_METRIC_RATE_AT_LAMBDA_MIN),
        .gain = column(point, LYAP_METRIC_MODE_ENERGY_GAIN),
        .dissipation = column(point, LYAP_METRIC_DISSIPATION_WINDOW),
    };
    sides.has_twin = growth_column(point, LYAP_METRIC_WINDOW_VERDICT, &sides.twin);
    sides.has_active = growth_column(point, LYAP_METRIC_ACTIVE_VERDICT, &sides.active);
    return sides;
}
