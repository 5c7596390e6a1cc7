/* Whose turn it is: what the next uploads measure. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "spectral_state.h"
#include "banned.h"

enum { SQUARINGS_LARGE = 4, SIDE_LARGE = 1024 }; /* 1.8 % over instead of .2 % (E1) */

uint32_t lyap_spectral_squarings(const struct lyap_spectral_tensor *tensor)
{
    const uint32_t side = tensor->rows < tensor->cols ? tensor->rows : tensor->cols;
    return side > SIDE_LARGE ? SQUARINGS_LARGE : LYAP_SPECTRAL_SQUARINGS;
}

double lyap_spectral_gram_flops(const struct lyap_spectral_tensor *tensor)
{
    const bool is_tall = tensor->rows >= tensor->cols;
    const double least = is_tall ? tensor->cols : tensor->rows;
    const double most = is_tall ? tensor->rows : tensor->cols;
    return (most + lyap_spectral_squarings(tensor) * least) * least * least; /* one triangle */
}

double lyap_spectral_budget(double elements)
{
    return fmax(LYAP_SPECTRAL_WORK_FREE, LYAP_SPECTRAL_WORK_ELEMENT * elements);
}

double lyap_spectral_work(const struct lyap_spectral_tensor *tensor)
{
    return (2.0 * tensor->block + LYAP_SPECTRAL_MARKS) * tensor->rows * tensor->cols;
}

double lyap_spectral_cold_work(const struct lyap_spectral_tensor *tensor)
{
    return LYAP_SPECTRAL_ITERATIONS_COLD * 2.0 * tensor->block * tensor->rows * tensor->cols;
}

/* What is left of the work at once of one upload. */
struct at_once {
    double cold, gram;
};

static bool take(double *left, double work)
{
    if (work > *left)
        return false;
    *left -= work;
    return true;
}

static enum lyap_status item_fill(const struct lyap_spectral_tensor *tensor, uint32_t index,
                                  uint32_t gram_every, struct at_once *left,
                                  struct lyap_spectral_item *item)
{
    const bool is_gram = gram_every > 0 && tensor->gram_age >= gram_every &&
                         take(&left->gram, lyap_spectral_gram_flops(tensor));
    const bool is_cold = tensor->is_cold && take(&left->cold, lyap_spectral_cold_work(tensor));
    const size_t size = (size_t)tensor->block * tensor->cols;
    double *v = lyap_alloc_array(size, sizeof *v);
    if (!v)
        return LYAP_E_NOMEM;
    assert(tensor->v);
    memcpy(v, tensor->v, size * sizeof *v);
    *item = (struct lyap_spectral_item){
        .tensor = index,
        .rows = tensor->rows,
        .cols = tensor->cols,
        .block = tensor->block,
        .version = tensor->version,
        .is_warm = tensor->visits >= LYAP_SPECTRAL_WARM_VISITS,
        .is_cold = is_cold,
        .squarings = is_gram ? lyap_spectral_squarings(tensor) : 0,
        .has_sums = tensor->visits % LYAP_SPECTRAL_SUMS_EVERY == 0,
        .v = v,
    };
    return LYAP_OK;
}

/* Flags of the tensors whose turn it is, from the cursor on; at least one. */
static uint32_t choose(struct lyap_spectral_state *state, bool *chosen)
{
    const double budget = lyap_spectral_budget(state->elements);
    double work = 0;
    uint32_t count = 0, i = 0;
    for (; i < state->count; i++) {
        const uint32_t at = (state->cursor + i) % state->count;
        const struct lyap_spectral_tensor *tensor = &state->tensors[at];
        if (!tensor->rows)
            continue;
        if (count > 0 && work + lyap_spectral_work(tensor) > budget)
            break;
        work += lyap_spectral_work(tensor);
        chosen[at] = true;
        count++;
    }
    state->cursor = state->count ? (state->cursor + i) % state->count : 0;
    return count;
}

static enum lyap_status fill(const struct lyap_spectral_state *state, const bool *chosen,
                             uint32_t gram_every, struct lyap_spectral_plan *plan)
{
    struct at_once left = { LYAP_SPECTRAL_WORK_COLD, LYAP_SPECTRAL_WORK_GRAM };
    for (uint32_t i = 0; i < state->count; i++) {
        if (!chosen[i])
            continue;
        const enum lyap_status status =
            item_fill(&state->tensors[i], i, gram_every, &left, &plan->items[plan->count]);
        if (status != LYAP_OK)
            return status;
        plan->count++;
    }
    return LYAP_OK;
}

/* NULL of NULL, and without memory. */
static double *dup_of(const double *values, size_t count)
{
    double *copy = values ? lyap_alloc_array(count, sizeof *copy) : NULL;
    if (copy)
        memcpy(copy, values, count * sizeof *copy);
    return copy;
}

static enum lyap_status copy_of(const struct lyap_spectral_state *state,
                                struct lyap_spectral_state **ret_copy)
{
    struct lyap_spectral_state *copy = lyap_alloc_array(1, sizeof *copy);
    if (!copy)
        return LYAP_E_NOMEM;
    *copy = *state;
    copy->tensors = lyap_alloc_array(state->count, sizeof *copy->tensors);
    bool is_whole = copy->tensors != NULL;
    copy->count = is_whole ? state->count : 0;
    for (uint32_t i = 0; i < copy->count; i++) {
        const struct lyap_spectral_tensor *from = &state->tensors[i];
        struct lyap_spectral_tensor *to = &copy->tensors[i];
        *to = *from;
        to->v = dup_of(from->v, (size_t)from->block_max * from->cols);
        to->marks = dup_of(from->marks, (size_t)LYAP_SPECTRAL_MARKS * from->cols);
        is_whole = is_whole && (to->v || !from->v) && (to->marks || !from->marks);
    }
    if (!is_whole) {
        lyap_spectral_state_free(copy);
        return LYAP_E_NOMEM;
    }
    *ret_copy = copy;
    return LYAP_OK;
}

enum lyap_status lyap_spectral_state_plan(struct lyap_spectral_state *state, uint32_t gram_every,
                                          struct lyap_spectral_plan **ret_plan)
{
    enum lyap_status status = LYAP_E_NOMEM;
    bool *chosen = lyap_alloc_array(state->count, sizeof *chosen);
    struct lyap_spectral_plan *plan = lyap_alloc_array(1, sizeof *plan);
    if (!chosen || !plan)
        goto out;
    plan->items = lyap_alloc_array(choose(state, chosen), sizeof *plan->items);
    plan->gram_every = gram_every;
    if (!plan->items)
        goto out;
    status = fill(state, chosen, gram_every, plan);
    if (status == LYAP_OK && lyap_spectral_vector_bytes(state) <= LYAP_SPECTRAL_SMALL_BYTES)
        status = copy_of(state, &plan->state);
    if (status != LYAP_OK)
        goto out;
    *ret_plan = plan;
    plan = NULL;
out:
    lyap_spectral_plan_free(plan);
    lyap_free(chosen);
    return status;
}

enum lyap_status lyap_spectral_plan_first(const struct lyap_tensor_set *set, uint32_t gram_every,
                                          struct lyap_spectral_plan **ret_plan)
{
    struct lyap_spectral_state state = { 0 };
    enum lyap_status status = lyap_spectral_state_reserve(&state, set);
    if (status == LYAP_OK)
        status = lyap_spectral_state_plan(&state, gram_every, ret_plan);
    if (status == LYAP_OK)
        (*ret_plan)->is_first = true;
    lyap_spectral_state_release(&state);
    return status;
}

enum lyap_status lyap_spectral_plan_next(const struct lyap_spectral_plan *plan,
                                         const struct lyap_partial *partial,
                                         struct lyap_spectral_plan **ret_plan)
{
    struct lyap_spectral_state *state;
    if (!plan->state || (partial && partial->tensor_count != plan->state->count))
        return LYAP_E_LIMIT;
    enum lyap_status status = copy_of(plan->state, &state);
    if (status != LYAP_OK)
        return status;
    if (partial)
        lyap_spectral_state_step(state, partial, false); /* bounds are the engine's */
    status = lyap_spectral_state_plan(state, plan->gram_every, ret_plan);
    lyap_spectral_state_free(state);
    return status;
}
