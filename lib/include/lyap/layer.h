/* layer.h - gains of layers that are no plain matrix, and their product along a network (SPEC 1.1,
 * 1.5). Matrices are row-major and borrowed; gains are dimensionless, of l2 norms (Frobenius over
 * tokens) unless said. Where tokens or gates are pushed, the gain is local: it holds at those
 * inputs. THREADS: pure functions. */
#ifndef LYAP_LAYER_H
#define LYAP_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/spectral.h"
#include "lyap/status.h"

/* sum of log gains (class I if they are, upper): log of the product bound on |D_{x_0} x_l|. A gain
 * of 0 counts as 1e-300; NaN where one is NaN or negative. Its level and its trend are a ceiling,
 * not the gain (E7). */
LYAP_API double lyap_layer_log_product(const double *gains, uint64_t count);

/* sigma_1(diag(gate) W) for one input's gates phi'(pre-activation), one per row of W. Class E: the
 * maximum over inputs holds for those seen. Errors of lyap_spectral_norm. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_layer_gated_norm(const struct lyap_spectral_matrix *w, const double *gate, double *ret_norm);

/* LayerNorm and RMSNorm: max|gamma| / sqrt(v + eps), v the least token variance (RMSNorm: mean
 * square). Class I at these tokens; not finite where v + eps is 0. */
LYAP_API double lyap_layer_norm_gain(double scale, double spread, double eps);
/* Embedding: largest row norm, the gain from l1 of one-hot rows to l2: one changed token moves its
 * row by at most twice that. For l2 input: lyap_spectral_norm. Class I. E_NUMERIC. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_layer_embedding_gain(const struct lyap_spectral_matrix *table, double *ret_gain);

/* sigma_1(A'B) of two matrices with equally many rows: with torch's query and key weights (key
 * width x model width) that of W_Q W_K'. E_INVALID: rows differ; errors of lyap_spectral_norm. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_layer_product_norm(const struct lyap_spectral_matrix *a, const struct lyap_spectral_matrix *b,
                        double *ret_norm);

/* Dot-product attention on row tokens, softmax(X A X'/sqrt(dk)) X V in each head, A = W_Q W_K',
 * V = W_V W_O; upper bounds of sums over the heads. */
struct lyap_layer_heads {
    double value_output; /* of sigma_1(V) */
    double product;      /* of sigma_1(V) sigma_1(A)/sqrt(dk) */
};
/* sum over heads of sigma_1(V) [|P|_2 + |X|_2^2 sigma_1(A)/sqrt(dk)] at X; `attention` >= |P|_2 of
 * every head: sqrt(tokens), as of any row-stochastic matrix, if no more is known. Class I, local;
 * vacuous in practice (class C as a statement about the network). Attention has no global constant.
 */
LYAP_API double lyap_layer_attention_gain(const struct lyap_layer_heads *heads, double attention,
                                          double token_norm);

/* |x'_l - x_l| / |x'_0 - x_0| from the squared differences: a lower bound of the gain at that scale
 * (class I). E_TOO_FEW: the inputs do not differ; E_NUMERIC. */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_layer_empirical_gain(double difference_sq, double input_difference_sq, double *ret_gain);

#endif
