/* Constants of the coming update, per optimizer group: rates, clip coefficient, counts. */
#include "step.h"

#include <math.h>

double lyap_step_clip_coefficient(double clip_norm, double norm)
{
    return fmin(1.0, clip_norm / (norm + 1e-6));
}

/* The pushed rate of a group, or the declared one where none was pushed. */
static double rate_of(const struct lyap_snapshot *snapshot, uint32_t group, uint32_t group_count,
                      double declared)
{
    if (snapshot->lr_count == 0)
        return declared;
    if (snapshot->lr_count == 1)
        return snapshot->lr[0];
    if (snapshot->lr_count == group_count + 1)
        return snapshot->lr[group];
    return group == 0 ? declared : snapshot->lr[group - 1];
}

static double clip_of(const struct lyap_snapshot *snapshot)
{
    if (!lyap_snapshot_has(snapshot, LYAP_META_CLIP_NORM))
        return 1;
    if (!lyap_snapshot_has(snapshot, LYAP_META_GRAD_NORM))
        return NAN;
    return lyap_step_clip_coefficient(snapshot->clip_norm, snapshot->grad_norm);
}

/* Largest rate of the groups that own a tensor: eta_ref of SPEC 0.1. */
static double reference_rate(const struct lyap_declaration *declaration,
                             const struct lyap_step_rule *rules)
{
    double reference = 0;
    for (uint32_t i = 0; i < declaration->set.count; i++)
        reference = fmax(reference, rules[declaration->set.tensors[i].group].params.lr);
    return reference;
}

static struct lyap_step_rule rule_of(const struct lyap_optimizer *optimizer, uint32_t group)
{
    return (struct lyap_step_rule){ .type = optimizer->type,
                                    .params = *lyap_optimizer_group_params(optimizer, group),
                                    .prox = optimizer->prox,
                                    .prox_lambda = optimizer->prox_lambda,
                                    .prox_l1 = optimizer->prox_l1,
                                    .prox_l2 = optimizer->prox_l2,
                                    .set = optimizer->set,
                                    .set_low = optimizer->set_low,
                                    .set_high = optimizer->set_high,
                                    .set_radius = optimizer->set_radius,
                                    .shrink = NAN,
                                    .shift = NAN };
}

enum lyap_status lyap_step_rules(const struct lyap_declaration *declaration,
                                 const struct lyap_snapshot *snapshot,
                                 struct lyap_step_rule *ret_rules, struct lyap_error *reterr)
{
    const struct lyap_optimizer *optimizer = &declaration->optimizer;
    const uint32_t groups = optimizer->group_count, count = snapshot->lr_count;
    if (count > 1 && count != groups && count != groups + 1)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "lr lists %u rates, but the optimizer has %u groups beside its base: "
                              "give 1, %u or %u",
                              count, groups, groups, groups + 1);
    for (uint32_t g = 0; g <= groups; g++) {
        ret_rules[g] = rule_of(optimizer, g);
        ret_rules[g].params.lr = rate_of(snapshot, g, groups, ret_rules[g].params.lr);
        ret_rules[g].clip = clip_of(snapshot);
    }
    const double reference = reference_rate(declaration, ret_rules);
    for (uint32_t g = 0; g <= groups; g++) {
        const double rate = ret_rules[g].params.lr;
        ret_rules[g].scale = rate > 0 && reference > 0 ? reference / rate : 1;
    }
    return LYAP_OK;
}
