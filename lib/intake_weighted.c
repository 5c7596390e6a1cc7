/* Products weighted by P, block by block. */
#include "intake_chunk.h"

#include <assert.h>
#include <math.h>

#include "banned.h"

/* Products weighted by P, which is one number per group unless the rule is adaptive (then finish
 * fills these rows from the plain ones). */
static void add_weighted_pair(struct lyap_chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    struct lyap_intake *intake = chunk->intake;
    double *weight = lyap_chunk_scratch(chunk, LYAP_ARRAY_WEIGHT);
    double *s = lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH),
           *y = lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH_2);
    const struct lyap_step_weight held = { chunk->at[LYAP_ARRAY_SECOND], chunk->rule->updates,
                                           chunk->rule->scale };
    if (held.updates >= 1)
        lyap_step_precondition(kernels, chunk->rule, &held, chunk->padded, weight);
    else
        lyap_chunk_next_weight(chunk);
    for (size_t i = 0; i < chunk->padded; i++) {
        const double root = sqrt(weight[i]);
        s[i] = root * chunk->at[LYAP_ARRAY_PAIR_S][i];
        y[i] = chunk->at[LYAP_ARRAY_PAIR_Y][i] != 0 ? chunk->at[LYAP_ARRAY_PAIR_Y][i] / root : 0;
    }
    if (lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(PAIR_SPS))) {
        kernels->dot(s, s, chunk->padded, LYAP_CHUNK_SUM(chunk, PAIR_SPS));
        lyap_intake_sketch(intake, LYAP_SKETCH_PAIR_S, chunk->index, chunk->first, chunk->count, s);
    }
    if (lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(PAIR_YPY))) {
        kernels->dot(y, y, chunk->padded, LYAP_CHUNK_SUM(chunk, PAIR_YPY));
        lyap_intake_sketch(intake, LYAP_SKETCH_PAIR_Y, chunk->index, chunk->first, chunk->count, y);
    }
}

static void add_delta_p(struct lyap_chunk *chunk, const struct lyap_step_weight *of,
                        const struct lyap_step_rule *rule, struct lyap_lanes *sum)
{
    const double *delta = chunk->at[LYAP_ARRAY_DELTA];
    double *weight = lyap_chunk_scratch(chunk, LYAP_ARRAY_WEIGHT);
    lyap_step_precondition(chunk->intake->kernels, rule, of, chunk->padded, weight);
    chunk->intake->kernels->dot_weighted(delta, delta, weight, chunk->padded, sum);
}

/* The point relative to the anchor: its square and its product with D, weighted where `weight` is
 * there (else finish scales the sums). */
static void add_anchor(struct lyap_chunk *chunk, const double *weight)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const double *delta = chunk->at[LYAP_ARRAY_DELTA];
    double *away = lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH);
    if (!lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(ANCHOR_SQ)))
        return;
    kernels->subtract(chunk->at[LYAP_ARRAY_PARAM], chunk->at[LYAP_ARRAY_ANCHOR], chunk->padded,
                      away);
    if (weight) {
        kernels->dot_weighted(away, away, weight, chunk->padded, LYAP_CHUNK_SUM(chunk, ANCHOR_SQ));
        kernels->dot_weighted(away, delta, weight, chunk->padded,
                              LYAP_CHUNK_SUM(chunk, ANCHOR_DELTA));
        return;
    }
    kernels->dot(away, away, chunk->padded, LYAP_CHUNK_SUM(chunk, ANCHOR_SQ));
    kernels->dot(away, delta, chunk->padded, LYAP_CHUNK_SUM(chunk, ANCHOR_DELTA));
}

/* Sketches of P^1/2 D and of P^-1/2 times the change of the gradient (SPEC 2.2). */
static void add_path(struct lyap_chunk *chunk, const double *weight)
{
    struct lyap_intake *intake = chunk->intake;
    const bool is_probe = intake->has_role[LYAP_ROLE_PROBE_GRAD] && intake->config.previous &&
                          intake->config.previous->has_probes;
    const double *now = chunk->at[is_probe ? LYAP_ARRAY_PROBE : LYAP_ARRAY_GRAD];
    const double *before = chunk->at[is_probe ? LYAP_ARRAY_PROBE_PREV : LYAP_ARRAY_GRAD_PREV];
    const double *delta = chunk->at[LYAP_ARRAY_DELTA];
    double *s = lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH);
    double *y = lyap_chunk_scratch(chunk, LYAP_ARRAY_SCRATCH_2);
    assert(s && y);
    if (!intake->has_sketch[LYAP_SKETCH_PATH_S])
        return;
    for (size_t i = 0; i < chunk->padded; i++) {
        const double root = sqrt(weight ? weight[i] : chunk->rule->scale_before);
        const double change = now[i] - before[i];
        s[i] = root * delta[i];
        y[i] = change != 0 ? change / root : 0;
    }
    lyap_intake_sketch(intake, LYAP_SKETCH_PATH_S, chunk->index, chunk->first, chunk->count, s);
    lyap_intake_sketch(intake, LYAP_SKETCH_PATH_Y, chunk->index, chunk->first, chunk->count, y);
}

/* Everything with P_{t-1}, of v as held now and the rates of the update t-1. */
static void add_last_weighted(struct lyap_chunk *chunk)
{
    const struct lyap_kernels *kernels = chunk->intake->kernels;
    const struct lyap_step_weight now = { chunk->at[LYAP_ARRAY_SECOND], chunk->rule->updates,
                                          chunk->rule->scale_before };
    const double *param = chunk->at[LYAP_ARRAY_PARAM];
    const double *weight = lyap_chunk_scratch(chunk, LYAP_ARRAY_WEIGHT);
    if (!lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(DELTA_P) | LYAP_PRODUCT_BIT(ANCHOR_SQ) |
                                     LYAP_PRODUCT_BIT(PARAM_P_PREV)))
        return;
    add_delta_p(chunk, &now, chunk->rule, LYAP_CHUNK_SUM(chunk, DELTA_P));
    add_anchor(chunk, weight);
    add_path(chunk, weight);
    if (lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(PARAM_P_PREV)))
        kernels->dot_weighted(param, param, weight, chunk->padded,
                              LYAP_CHUNK_SUM(chunk, PARAM_P_PREV));
}

void lyap_chunk_add_weighted(struct lyap_chunk *chunk)
{
    if (!lyap_step_is_adaptive(chunk->rule->type)) {
        add_anchor(chunk, NULL);
        add_path(chunk, NULL);
        return;
    }
    add_last_weighted(chunk);
    /* P_{t-2}: v one snapshot ago, the rates of the update t-2. */
    if (lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(DELTA_P_PREV))) {
        const struct lyap_step_weight before = { chunk->at[LYAP_ARRAY_SECOND_PREV],
                                                 chunk->previous->updates,
                                                 chunk->previous->scale_before };
        add_delta_p(chunk, &before, chunk->previous, LYAP_CHUNK_SUM(chunk, DELTA_P_PREV));
    }
    if (lyap_chunk_wants(chunk, LYAP_PRODUCT_BIT(PAIR_SPS) | LYAP_PRODUCT_BIT(PAIR_YPY)))
        add_weighted_pair(chunk);
}
