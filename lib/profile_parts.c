/* What the scores of this point are made of, and which tensors that names. */
#include <math.h>
#include <string.h>

#include "lyap/parts.h"
#include "profile_internal.h"
#include "banned.h"

enum { SHARES_NAMED_MAX = 3 };

static void name_tensor(const struct lyap_step *step, struct lyap_parts *parts, uint32_t tensor,
                        enum lyap_named_for reason, double value)
{
    const struct lyap_tensor_set *set = &step->profile->declaration.set;
    if (tensor >= set->count || parts->tensor_count == LYAP_PARTS_TENSORS_MAX || !isfinite(value))
        return;
    struct lyap_named_tensor *named = &parts->tensors[parts->tensor_count];
    const size_t length = strlen(set->tensors[tensor].name);
    if (length > LYAP_TENSOR_NAME_BYTES_MAX)
        return;
    memcpy(named->name, set->tensors[tensor].name, length + 1);
    named->reason = reason;
    named->value = value;
    parts->tensor_count++;
}

/* Index of the largest finite value of |row| that `taken` does not name; `count`: there is none. */
static uint32_t largest(const double *row, uint32_t count, const uint32_t *taken, uint32_t takens)
{
    uint32_t best = count;
    for (uint32_t i = 0; i < count; i++) {
        bool is_taken = !isfinite(row[i]) || row[i] == 0;
        for (uint32_t k = 0; k < takens; k++)
            is_taken |= taken[k] == i;
        if (!is_taken && (best == count || fabs(row[i]) > fabs(row[best])))
            best = i;
    }
    return best;
}

/* The tensors in which most of the work was done. */
static void name_shares(const struct lyap_step *step, struct lyap_parts *parts)
{
    const double *row = step->partial->rows[LYAP_REDUCE_GRAD_DELTA];
    const uint32_t count = step->partial->tensor_count;
    uint32_t taken[SHARES_NAMED_MAX];
    double total = 0;
    if (!row)
        return;
    for (uint32_t i = 0; i < count; i++)
        total += isfinite(row[i]) ? fabs(row[i]) : 0;
    for (uint32_t n = 0; n < SHARES_NAMED_MAX; n++) {
        taken[n] = largest(row, count, taken, n);
        if (taken[n] == count)
            return;
        name_tensor(step, parts, taken[n], LYAP_NAMED_WORK, fabs(row[taken[n]]) / total);
    }
}

/* sqrt(mean(g^2 / vhat)) of a tensor; NaN: not known. */
static double moment_of(const struct lyap_step *step, uint32_t tensor)
{
    const double *squares = step->partial->rows[LYAP_REDUCE_RMS_SQ];
    const double *counts = step->partial->rows[LYAP_REDUCE_GRAD_COUNT];
    return squares && counts && counts[tensor] > 0 ? sqrt(squares[tensor] / counts[tensor])
                                                   : (double)NAN;
}

static void name_moment(const struct lyap_step *step, struct lyap_parts *parts)
{
    uint32_t best = step->partial->tensor_count;
    double most = 0;
    for (uint32_t i = 0; i < step->partial->tensor_count; i++) {
        const double moment = moment_of(step, i);
        if (moment > most) {
            most = moment;
            best = i;
        }
    }
    name_tensor(step, parts, best, LYAP_NAMED_MOMENT, most);
}

static bool has_part(const struct lyap_parts *parts, enum lyap_observable observable)
{
    for (unsigned kind = 0; kind < LYAP_SCORE_KIND_COUNT; kind++)
        for (uint32_t i = 0; i < parts->counts[kind]; i++)
            if (parts->parts[kind][i].a == observable || parts->parts[kind][i].b == observable)
                return true;
    return false;
}

static void name_tensors(const struct lyap_step *step, struct lyap_parts *parts)
{
    const struct lyap_profile *profile = step->profile;
    const struct {
        enum lyap_observable observable;
        enum lyap_metric metric;
        const struct lyap_tensor_z *z;
        enum lyap_named_for reason;
    } tops[] = {
        { LYAP_OBSERVABLE_UPDATE_Z, LYAP_METRIC_UPDATE_Z, &profile->update_z, LYAP_NAMED_UPDATE_Z },
        { LYAP_OBSERVABLE_GRAD_Z, LYAP_METRIC_GRAD_Z, &profile->grad_z, LYAP_NAMED_GRAD_Z },
    };
    if (parts->counts[LYAP_SCORE_NOW] > 0)
        name_shares(step, parts);
    for (unsigned i = 0; i < sizeof tops / sizeof *tops; i++)
        if (has_part(parts, tops[i].observable))
            name_tensor(step, parts, tops[i].z->top, tops[i].reason,
                        lyap_step_metric(step, tops[i].metric));
    if (has_part(parts, LYAP_OBSERVABLE_MOMENT))
        name_moment(step, parts);
}

void lyap_step_parts(struct lyap_step *step)
{
    static const enum lyap_metric scores[] = { LYAP_METRIC_INSTABILITY_SCORE,
                                               LYAP_METRIC_INSTABILITY_SCORE_NEXT };
    struct lyap_parts parts;
    parts.version = parts.tensor_count = 0;
    for (unsigned kind = 0; kind < LYAP_SCORE_KIND_COUNT; kind++) {
        const bool is_there = lyap_is(&step->point->metrics[scores[kind]]);
        parts.counts[kind] =
            is_there ? lyap_profile_instability(step->profile, (enum lyap_score_kind)kind,
                                                parts.parts[kind])
                     : 0;
        if (is_there)
            parts.version = lyap_score_version();
    }
    if (step->partial && step->partial->tensor_count == step->profile->declaration.set.count)
        name_tensors(step, &parts);
    step->point->parts_bytes = (uint16_t)lyap_parts_encode(&parts, step->point->parts);
}
