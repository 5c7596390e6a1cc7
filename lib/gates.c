/* Gates of a linear layer in groups of inputs, and the norm of the weight behind them. */
#include "lyap/gates.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/layer.h"
#include "lyap/limits.h"
#include "banned.h"

void lyap_gates_free(struct lyap_gates *gates)
{
    if (!gates)
        return;
    lyap_free(gates->largest);
    lyap_free(gates);
}

static struct lyap_gates *make(uint64_t inputs, uint32_t units, uint32_t groups)
{
    struct lyap_gates *gates = lyap_alloc_array(1, sizeof *gates);
    if (!gates)
        return NULL;
    *gates = (struct lyap_gates){ .units = units, .groups = groups, .inputs = inputs };
    gates->largest = lyap_alloc_array((size_t)units * groups, sizeof *gates->largest);
    if (!gates->largest) {
        lyap_gates_free(gates);
        return NULL;
    }
    return gates;
}

struct lyap_gates *lyap_gates_new(uint64_t inputs, uint32_t units, uint64_t values_max)
{
    if (units == 0 || inputs == 0 || values_max < units)
        return NULL;
    uint64_t groups = values_max / units;
    groups = groups < LYAP_GATE_GROUPS ? groups : LYAP_GATE_GROUPS;
    groups = groups < inputs ? groups : inputs;
    return make(inputs, units, (uint32_t)groups);
}

struct lyap_gates *lyap_gates_dup(const struct lyap_gates *gates)
{
    struct lyap_gates *copy = make(gates->inputs, gates->units, gates->groups);
    if (copy)
        lyap_gates_copy(gates, copy);
    return copy;
}

void lyap_gates_copy(const struct lyap_gates *from, struct lyap_gates *to)
{
    assert(from->units == to->units && from->groups == to->groups);
    to->inputs = from->inputs;
    memcpy(to->largest, from->largest, (size_t)from->units * from->groups * sizeof *to->largest);
}

/* The larger one; NaN where one is. */
static double larger(double a, double b)
{
    return isnan(a) || a >= b ? a : b;
}

void lyap_gates_add(struct lyap_gates *gates, uint64_t first, const double *values, size_t count)
{
    uint64_t unit = first % gates->units, input = first / gates->units;
    assert(first + count <= gates->inputs * gates->units);
    for (size_t i = 0; i < count; i++) {
        /* At most 2^48 inputs, and 16 groups. */
        double *largest = gates->largest + input * gates->groups / gates->inputs * gates->units;
        largest[unit] = larger(largest[unit], fabs(values[i]));
        if (++unit == gates->units) {
            unit = 0;
            input++;
        }
    }
}

double lyap_gates_largest(const struct lyap_gates *gates)
{
    double largest = 0;
    for (size_t i = 0; i < (size_t)gates->units * gates->groups; i++)
        largest = larger(largest, gates->largest[i]);
    return largest;
}

double lyap_gates_flops(const struct lyap_gates *gates, uint32_t cols)
{
    const double rows = gates->units;
    return 4 * rows * cols * fmin(rows, cols); /* bidiagonal form, the most of an SVD */
}

static uint32_t joined_groups(const struct lyap_gates *gates, uint32_t cols, double flops_max)
{
    const double most = flops_max / fmax(lyap_gates_flops(gates, cols), 1);
    return most >= gates->groups ? gates->groups : most >= 1 ? (uint32_t)most : 1;
}

double lyap_gates_norm_flops(const struct lyap_gates *gates, uint32_t cols, double flops_max)
{
    return joined_groups(gates, cols, flops_max) * lyap_gates_flops(gates, cols);
}

enum lyap_status lyap_gates_norm(const struct lyap_gates *gates,
                                 const struct lyap_spectral_matrix *w, double flops_max,
                                 double *ret_norm)
{
    const uint32_t units = gates->units, count = joined_groups(gates, w->cols, flops_max);
    assert(w->rows == units);
    double *largest = lyap_alloc_array(units, sizeof *largest);
    if (!largest)
        return LYAP_E_NOMEM;
    enum lyap_status status = LYAP_OK;
    double norm = 0;
    for (uint32_t g = 0, next = 0; g < count && status == LYAP_OK; g++) {
        memset(largest, 0, units * sizeof *largest);
        const uint32_t end = (uint32_t)((uint64_t)(g + 1) * gates->groups / count);
        for (; next < end; next++)
            for (uint32_t i = 0; i < units; i++)
                largest[i] = larger(largest[i], gates->largest[(size_t)next * units + i]);
        double one = 0;
        status = lyap_layer_gated_norm(w, largest, &one);
        norm = fmax(norm, one);
    }
    lyap_free(largest);
    if (status == LYAP_OK)
        *ret_norm = norm;
    return status;
}
