/* Products and norms of whole matrices. */
#include "plain.h"

#include <math.h>
#include <stddef.h>

void plain_products(const struct lyap_spectral_matrix *w, uint32_t block, const double *v,
                    double *z)
{
    for (uint32_t i = 0; i < w->rows; i++)
        for (uint32_t b = 0; b < block; b++) {
            const double *row = w->values + (size_t)i * w->cols;
            double product = 0;
            for (uint32_t k = 0; k < w->cols; k++)
                product += row[k] * v[(size_t)b * w->cols + k];
            for (uint32_t k = 0; k < w->cols; k++)
                z[(size_t)b * w->cols + k] += product * row[k];
        }
}

double plain_upper(const struct lyap_spectral_matrix *w)
{
    double square = 0, row_max = 0, column_max = 0;
    for (uint32_t i = 0; i < w->rows; i++) {
        double row = 0;
        for (uint32_t k = 0; k < w->cols; k++) {
            const double x = w->values[(size_t)i * w->cols + k];
            square += x * x;
            row += fabs(x);
        }
        row_max = fmax(row_max, row);
    }
    for (uint32_t k = 0; k < w->cols; k++) {
        double column = 0;
        for (uint32_t i = 0; i < w->rows; i++)
            column += fabs(w->values[(size_t)i * w->cols + k]);
        column_max = fmax(column_max, column);
    }
    return fmin(sqrt(square), sqrt(row_max * column_max));
}
