/* Gains of normalisations, embeddings, attention, and products of gains. */
#include "lyap/layer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "linalg.h"
#include "lyap/alloc.h"
#include "banned.h"

static const double GAIN_LEAST = 1e-300; /* log of a gain of 0 */

double lyap_layer_log_product(const double *gains, uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += gains[i] >= 0 ? log(fmax(gains[i], GAIN_LEAST)) : NAN;
    return sum;
}

static uint64_t elements_of(const struct lyap_spectral_matrix *m)
{
    return (uint64_t)m->rows * m->cols;
}

enum lyap_status lyap_layer_gated_norm(const struct lyap_spectral_matrix *w, const double *gate,
                                       double *ret_norm)
{
    const uint64_t count = elements_of(w);
    assert(count >= 1);
    if (count > LYAP_SPECTRAL_ELEMENTS_MAX)
        return LYAP_E_LIMIT;
    double *gated = lyap_alloc_aligned(count, sizeof *gated);
    if (!gated)
        return LYAP_E_NOMEM;
    for (size_t i = 0; i < w->rows; i++)
        for (size_t j = 0; j < w->cols; j++)
            gated[i * w->cols + j] = gate[i] * w->values[i * w->cols + j];
    const enum lyap_status status = lyap_linalg_norm(w->rows, w->cols, gated, ret_norm);
    lyap_free_aligned(gated);
    return status;
}

double lyap_layer_norm_gain(double scale, double spread, double eps)
{
    return scale / sqrt(spread + eps);
}

enum lyap_status lyap_layer_embedding_gain(const struct lyap_spectral_matrix *table,
                                           double *ret_gain)
{
    assert(table->rows >= 1 && table->cols >= 1);
    double largest = 0;
    for (uint32_t i = 0; i < table->rows; i++) {
        const double *row = table->values + (size_t)i * table->cols;
        const double square = lyap_linalg_dot(row, row, table->cols);
        if (!isfinite(square))
            return LYAP_E_NUMERIC;
        largest = fmax(largest, square);
    }
    *ret_gain = sqrt(largest);
    return LYAP_OK;
}

enum lyap_status lyap_layer_product_norm(const struct lyap_spectral_matrix *a,
                                         const struct lyap_spectral_matrix *b, double *ret_norm)
{
    assert(a->rows >= 1 && a->cols >= 1 && b->cols >= 1);
    const uint64_t count = (uint64_t)a->cols * b->cols;
    if (a->rows != b->rows)
        return LYAP_E_INVALID;
    if (count > LYAP_SPECTRAL_ELEMENTS_MAX)
        return LYAP_E_LIMIT;
    if (!lyap_linalg_is_finite(a->values, elements_of(a)) ||
        !lyap_linalg_is_finite(b->values, elements_of(b)))
        return LYAP_E_NUMERIC;
    double *product = lyap_alloc_aligned(count, sizeof *product);
    if (!product)
        return LYAP_E_NOMEM;
    lyap_linalg_multiply_inner(a->rows, a->values, a->cols, b->values, b->cols, product);
    const enum lyap_status status = lyap_linalg_norm(a->cols, b->cols, product, ret_norm);
    lyap_free_aligned(product);
    return status;
}

double lyap_layer_attention_gain(const struct lyap_layer_heads *heads, double attention,
                                 double token_norm)
{
    return heads->value_output * attention + heads->product * token_norm * token_norm;
}

enum lyap_status lyap_layer_empirical_gain(double difference_sq, double input_difference_sq,
                                           double *ret_gain)
{
    if (!(difference_sq >= 0) || !(input_difference_sq >= 0) || isinf(difference_sq) ||
        isinf(input_difference_sq))
        return LYAP_E_NUMERIC;
    if (input_difference_sq == 0)
        return LYAP_E_TOO_FEW;
    *ret_gain = sqrt(difference_sq) / sqrt(input_difference_sq);
    return LYAP_OK;
}
