/* Plans, and the sums that uploads make by them. */
#include "lyap/spectral_plan.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/partial.h"
#include "banned.h"

void lyap_spectral_plan_free(struct lyap_spectral_plan *plan)
{
    if (!plan)
        return;
    for (uint32_t i = 0; plan->items && i < plan->count; i++)
        lyap_free(plan->items[i].v);
    lyap_free(plan->items);
    lyap_spectral_state_free(plan->state);
    lyap_free(plan);
}

const struct lyap_spectral_item *lyap_spectral_plan_find(const struct lyap_spectral_plan *plan,
                                                         uint32_t tensor)
{
    uint32_t low = 0, high = plan ? plan->count : 0;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (plan->items[middle].tensor < tensor)
            low = middle + 1;
        else
            high = middle;
    }
    const bool is_found = plan && low < plan->count && plan->items[low].tensor == tensor;
    return is_found ? &plan->items[low] : NULL;
}

void lyap_spectral_sums_free(struct lyap_spectral_sums *sums)
{
    if (!sums)
        return;
    for (uint32_t i = 0; sums->sums && i < sums->count; i++) {
        lyap_free(sums->sums[i].z);
        lyap_free(sums->sums[i].marks);
        lyap_free(sums->sums[i].columns);
    }
    lyap_free(sums->sums);
    lyap_free(sums);
}

static bool sum_init(const struct lyap_spectral_item *item, struct lyap_spectral_sum *sum)
{
    sum->item = item;
    sum->z = lyap_alloc_array((size_t)item->block * item->cols, sizeof *sum->z);
    sum->marks = lyap_alloc_array((size_t)LYAP_SPECTRAL_MARKS * item->cols, sizeof *sum->marks);
    if (item->has_sums)
        sum->columns = lyap_alloc_array(item->cols, sizeof *sum->columns);
    return sum->z && sum->marks && (sum->columns || !item->has_sums);
}

enum lyap_status lyap_spectral_sums_new(const struct lyap_spectral_plan *plan,
                                        struct lyap_spectral_sums **ret_sums)
{
    struct lyap_spectral_sums *sums = lyap_alloc_array(1, sizeof *sums);
    if (!sums)
        return LYAP_E_NOMEM;
    sums->plan = plan;
    sums->count = plan->count;
    sums->sums = lyap_alloc_array(plan->count, sizeof *sums->sums);
    bool is_whole = sums->sums != NULL;
    for (uint32_t i = 0; is_whole && i < plan->count; i++)
        is_whole = sum_init(&plan->items[i], &sums->sums[i]);
    if (!is_whole) {
        lyap_spectral_sums_free(sums);
        return LYAP_E_NOMEM;
    }
    *ret_sums = sums;
    return LYAP_OK;
}

static void sum_add(struct lyap_spectral_sum *target, const struct lyap_spectral_sum *source)
{
    const struct lyap_spectral_item *item = target->item;
    const uint64_t count = (uint64_t)item->block * item->cols;
    for (uint64_t i = 0; i < count; i++)
        target->z[i] += source->z[i];
    for (uint64_t i = 0; i < (uint64_t)LYAP_SPECTRAL_MARKS * item->cols; i++)
        target->marks[i] += source->marks[i];
    for (uint32_t i = 0; target->columns && i < item->cols; i++)
        target->columns[i] += source->columns[i];
    target->row_abs = fmax(target->row_abs, source->row_abs);
    target->row_sq = fmax(target->row_sq, source->row_sq);
    target->rows += source->rows;
    target->is_cut = target->is_cut || source->is_cut;
}

enum lyap_status lyap_spectral_sums_add(struct lyap_spectral_sums **target,
                                        const struct lyap_spectral_sums *source)
{
    if (!source)
        return LYAP_OK;
    if (!*target) {
        const enum lyap_status status = lyap_spectral_sums_new(source->plan, target);
        if (status != LYAP_OK)
            return status;
    }
    const struct lyap_spectral_plan *plan = (*target)->plan;
    if (plan != source->plan && !(plan->is_first && source->plan->is_first))
        return LYAP_OK;
    for (uint32_t i = 0; i < source->count; i++)
        sum_add(&(*target)->sums[i], &source->sums[i]);
    return LYAP_OK;
}

/* The lesser of the Gram bound and sqrt(|W|_1 |W|_inf); NaN without both. */
static double upper_of(const struct lyap_spectral_sum *sum)
{
    const double gram = sum->has_gram ? sum->gram_upper : (double)NAN;
    double largest = 0;
    if (!sum->columns)
        return gram;
    for (uint32_t i = 0; i < sum->item->cols; i++)
        largest = fmax(largest, sum->columns[i]);
    return fmin(gram, sqrt(largest) * sqrt(sum->row_abs));
}

static enum lyap_status finish_sum(struct lyap_partial *partial, struct lyap_spectral_sum *sum)
{
    const struct lyap_spectral_item *item = sum->item;
    const size_t size = (size_t)item->block * item->cols;
    double *rows[3];
    for (unsigned r = 0; r < 3; r++) {
        rows[r] = lyap_partial_row(partial, (enum lyap_reduce)(LYAP_REDUCE_SPECTRAL_NORM + r));
        if (!rows[r])
            return LYAP_E_NOMEM;
    }
    if (!sum->has_next) {
        double *next = lyap_alloc_array(size, sizeof *next);
        if (!next)
            return LYAP_E_NOMEM;
        memcpy(next, item->v, size * sizeof *next);
        const enum lyap_status status =
            lyap_spectral_stream(item->cols, item->block, sum->z, next, &sum->estimate);
        lyap_free(status == LYAP_OK ? sum->z : next);
        if (status != LYAP_OK)
            return status == LYAP_E_NUMERIC ? LYAP_OK : status;
        sum->z = next;
        sum->has_next = true;
    }
    if (item->is_warm || sum->is_cold) {
        rows[0][item->tensor] = sum->estimate.sigma;
        rows[1][item->tensor] = sum->estimate.residual;
    }
    rows[2][item->tensor] = upper_of(sum);
    return LYAP_OK;
}

enum lyap_status lyap_spectral_finish(struct lyap_partial *partial)
{
    struct lyap_spectral_sums *sums = partial->spectral;
    enum lyap_status status = LYAP_OK;
    for (uint32_t i = 0; sums && status == LYAP_OK && i < sums->count; i++) {
        struct lyap_spectral_sum *sum = &sums->sums[i];
        const double *nonfinite = partial->rows[LYAP_REDUCE_PARAM_NONFINITE];
        const bool is_finite = nonfinite && nonfinite[sum->item->tensor] == 0;
        if (sum->rows == sum->item->rows && !sum->is_cut && is_finite)
            status = finish_sum(partial, sum);
    }
    return status;
}
