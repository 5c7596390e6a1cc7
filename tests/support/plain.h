/* plain.h - what kernels compute in streams, written as loops over a whole matrix: what tests and
 * trials hold them against. THREADS: pure functions. */
#ifndef LYAP_TEST_PLAIN_H
#define LYAP_TEST_PLAIN_H

#include <stdint.h>

#include "lyap/spectral.h"

/* z += W'(W v), `block` vectors of w->cols elements each, one row of W after the other. */
void plain_products(const struct lyap_spectral_matrix *w, uint32_t block, const double *v,
                    double *z);
/* min(|W|_F, sqrt(|W|_1 |W|_inf)) (SPEC 1.2). */
double plain_upper(const struct lyap_spectral_matrix *w);

#endif
