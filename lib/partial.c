/* The additive summary of an upload: rows, sketches, addition over ranks. */
#include "lyap/partial.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "banned.h"

static const struct {
    const char *name;
    char combine;
} rows[LYAP_REDUCE_COUNT] = {
#define ROW(name, wire, combine, formula) { wire, combine },
    LYAP_REDUCE_TABLE(ROW)
#undef ROW
};

static const char *const sketches[LYAP_SKETCH_COUNT] = {
#define ROW(name, wire) wire,
    LYAP_SKETCH_TABLE(ROW)
#undef ROW
};

static bool is_word(const char *word, const char *name, uint64_t length)
{
    return strlen(word) == length && memcmp(word, name, length) == 0;
}

const char *lyap_reduce_name(enum lyap_reduce row)
{
    return (unsigned)row < LYAP_REDUCE_COUNT ? rows[row].name : "unknown";
}

char lyap_reduce_combine(enum lyap_reduce row)
{
    assert((unsigned)row < LYAP_REDUCE_COUNT);
    return rows[row].combine;
}

uint32_t lyap_reduce_width(enum lyap_reduce row)
{
    return row == LYAP_REDUCE_GAIN_LOG2 ? LYAP_GAIN_BINS : 1;
}

bool lyap_reduce_parse(const char *name, uint64_t length, enum lyap_reduce *ret_row)
{
    for (unsigned i = 0; i < LYAP_REDUCE_COUNT; i++) {
        if (is_word(rows[i].name, name, length)) {
            *ret_row = (enum lyap_reduce)i;
            return true;
        }
    }
    return false;
}

const char *lyap_sketch_name(enum lyap_sketch_role role)
{
    return (unsigned)role < LYAP_SKETCH_COUNT ? sketches[role] : "unknown";
}

bool lyap_sketch_parse(const char *name, uint64_t length, enum lyap_sketch_role *ret_role)
{
    for (unsigned i = 0; i < LYAP_SKETCH_COUNT; i++) {
        if (is_word(sketches[i], name, length)) {
            *ret_role = (enum lyap_sketch_role)i;
            return true;
        }
    }
    return false;
}

enum lyap_status lyap_partial_init(struct lyap_partial *partial, uint32_t tensor_count,
                                   uint32_t sketch_size)
{
    *partial = (struct lyap_partial)LYAP_PARTIAL_NULL;
    if (tensor_count > LYAP_TENSOR_COUNT_MAX || sketch_size < LYAP_SKETCH_BLOCK)
        return LYAP_E_INVALID;
    partial->tensor_count = tensor_count;
    partial->sketch_size = sketch_size;
    return LYAP_OK;
}

void lyap_partial_release(struct lyap_partial *partial)
{
    for (unsigned i = 0; i < LYAP_REDUCE_COUNT; i++)
        lyap_free(partial->rows[i]);
    for (unsigned i = 0; i < LYAP_SKETCH_COUNT; i++)
        lyap_free(partial->sketches[i]);
    lyap_spectral_sums_free(partial->spectral);
    for (uint32_t i = 0; partial->acts && i < partial->act_count; i++)
        lyap_gates_free(partial->acts[i].gates);
    lyap_free(partial->acts);
    *partial = (struct lyap_partial)LYAP_PARTIAL_NULL;
}

double *lyap_partial_row(struct lyap_partial *partial, enum lyap_reduce row)
{
    assert((unsigned)row < LYAP_REDUCE_COUNT);
    if (partial->rows[row])
        return partial->rows[row];
    const size_t count = (size_t)partial->tensor_count * lyap_reduce_width(row);
    double *values = lyap_alloc_array(count, sizeof *values);
    for (size_t i = 0; values && i < count; i++)
        values[i] = NAN;
    return partial->rows[row] = values;
}

double *lyap_partial_sketch(struct lyap_partial *partial, enum lyap_sketch_role role)
{
    assert((unsigned)role < LYAP_SKETCH_COUNT);
    if (!partial->sketches[role])
        partial->sketches[role] =
            lyap_alloc_array(partial->sketch_size, sizeof *partial->sketches[role]);
    return partial->sketches[role];
}

struct lyap_act_sums *lyap_partial_acts(struct lyap_partial *partial, uint32_t count)
{
    if (partial->acts)
        return partial->act_count == count ? partial->acts : NULL;
    struct lyap_act_sums *acts = lyap_alloc_array(count, sizeof *acts);
    for (uint32_t i = 0; acts && i < count; i++)
        acts[i] = (struct lyap_act_sums){ NAN, NAN, NAN, NAN, NAN, NAN, NAN, NULL };
    partial->acts = acts;
    partial->act_count = acts ? count : 0;
    return acts;
}

/* What one rank did not push is not missing: its samples are others. */
static double sum_of(double a, double b)
{
    return isnan(a) ? b : isnan(b) ? a : a + b;
}

static void add_acts(struct lyap_partial *target, const struct lyap_partial *source)
{
    for (uint32_t i = 0; source->acts && i < source->act_count; i++) {
        struct lyap_act_sums *to = &target->acts[i];
        const struct lyap_act_sums *from = &source->acts[i];
        to->sq = sum_of(to->sq, from->sq);
        to->diff_sq = sum_of(to->diff_sq, from->diff_sq);
        to->token_spread = fmin(to->token_spread, from->token_spread); /* prefer numbers to NaN */
        to->token_norm = fmax(to->token_norm, from->token_norm);
        to->token_count = fmax(to->token_count, from->token_count);
        to->gate_max = fmax(to->gate_max, from->gate_max);
        to->scaled_max = fmax(to->scaled_max, from->scaled_max);
        lyap_gates_free(to->gates); /* the other side's inputs would be missing */
        to->gates = NULL;
    }
}

/* Whether this side saw elements of the tensor: if so, what it did not compute is missing. */
static bool holds(const struct lyap_partial *partial, uint32_t tensor)
{
    const double *counts = partial->rows[LYAP_REDUCE_PARAM_COUNT];
    return counts && counts[tensor] > 0;
}

static bool holds_any(const struct lyap_partial *partial)
{
    for (uint32_t i = 0; i < partial->tensor_count; i++)
        if (holds(partial, i))
            return true;
    return false;
}

static double combined(char combine, double a, double b)
{
    if (combine == 's')
        return a + b;
    return a > b ? a : b; /* maximum; of finished values one rank has one */
}

/* A sum that lacks one side's elements is not the sum: NaN stays, unless that side has none. */
static void add_row(struct lyap_partial *target, const struct lyap_partial *source,
                    enum lyap_reduce row)
{
    const char combine = rows[row].combine;
    double *sum = target->rows[row];
    const uint32_t width = lyap_reduce_width(row);
    const size_t count = (size_t)target->tensor_count * width;
    for (size_t i = 0; sum && i < count; i++) {
        const uint32_t tensor = (uint32_t)(i / width);
        const double added = source->rows[row] ? source->rows[row][i] : NAN;
        const bool is_needed = combine != 'o' && holds(source, tensor);
        const bool is_kept = combine != 'o' && holds(target, tensor);
        if (!isnan(added) && !isnan(sum[i]))
            sum[i] = combined(combine, sum[i], added);
        else if (isnan(added) && is_needed)
            sum[i] = NAN;
        else if (isnan(sum[i]) && !is_kept)
            sum[i] = added;
    }
}

static void add_sketch(struct lyap_partial *target, const struct lyap_partial *source,
                       enum lyap_sketch_role role, bool is_complete)
{
    double *sum = target->sketches[role];
    for (uint32_t i = 0; sum && source->sketches[role] && i < target->sketch_size; i++)
        sum[i] += source->sketches[role][i];
    if (!is_complete) {
        lyap_free(sum);
        target->sketches[role] = NULL;
    }
}

static enum lyap_status allocate_as(struct lyap_partial *target, const struct lyap_partial *source)
{
    for (unsigned r = 0; r < LYAP_REDUCE_COUNT; r++)
        if (source->rows[r] && !lyap_partial_row(target, (enum lyap_reduce)r))
            return LYAP_E_NOMEM;
    for (unsigned s = 0; s < LYAP_SKETCH_COUNT; s++)
        if (source->sketches[s] && !lyap_partial_sketch(target, (enum lyap_sketch_role)s))
            return LYAP_E_NOMEM;
    if (source->acts && !lyap_partial_acts(target, source->act_count))
        return LYAP_E_NOMEM;
    return LYAP_OK;
}

enum lyap_status lyap_partial_add(struct lyap_partial *target, const struct lyap_partial *source)
{
    if (target->tensor_count != source->tensor_count || target->sketch_size != source->sketch_size)
        return LYAP_E_INVALID;
    if (target->acts && source->acts && target->act_count != source->act_count)
        return LYAP_E_INVALID;
    const bool is_target_used = holds_any(target), is_source_used = holds_any(source);
    bool is_complete[LYAP_SKETCH_COUNT];
    for (unsigned s = 0; s < LYAP_SKETCH_COUNT; s++)
        is_complete[s] =
            (target->sketches[s] || !is_target_used) && (source->sketches[s] || !is_source_used);
    if (allocate_as(target, source) != LYAP_OK ||
        lyap_spectral_sums_add(&target->spectral, source->spectral) != LYAP_OK)
        return LYAP_E_NOMEM;

    for (unsigned s = 0; s < LYAP_SKETCH_COUNT; s++)
        add_sketch(target, source, (enum lyap_sketch_role)s, is_complete[s]);
    /* param_count, the first row, says what each side holds: it is added last. */
    for (unsigned r = LYAP_REDUCE_COUNT; r-- > 0;)
        add_row(target, source, (enum lyap_reduce)r);
    add_acts(target, source);
    target->is_state_exact = (is_target_used || is_source_used) &&
                             (target->is_state_exact || !is_target_used) &&
                             (source->is_state_exact || !is_source_used);
    target->delta_unit = fmax(target->delta_unit, source->delta_unit);
    target->grad_unit = fmax(target->grad_unit, source->grad_unit);
    target->is_role_order = target->is_role_order || source->is_role_order;
    return LYAP_OK;
}

double lyap_partial_total(const struct lyap_partial *partial, enum lyap_reduce row)
{
    assert((unsigned)row < LYAP_REDUCE_COUNT && lyap_reduce_width(row) == 1);
    const double *values = partial->rows[row];
    if (!values)
        return NAN;
    double total = 0;
    for (uint32_t i = 0; i < partial->tensor_count; i++) {
        if (isnan(values[i]))
            return NAN;
        total = rows[row].combine == 'm' ? fmax(total, values[i]) : total + values[i];
    }
    return total;
}
