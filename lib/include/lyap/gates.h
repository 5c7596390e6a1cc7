/* gates.h - the pushed gates phi'(pre-activation) of one linear layer, in groups of inputs (SPEC
 * 1.1). A group keeps the largest |phi'| of each unit over its inputs: sigma_1 of diag(that) W is
 * at least that of every input's diag(phi') W, and the same where a group has one input. THREADS:
 * one owner at a time. */
#ifndef LYAP_GATES_H
#define LYAP_GATES_H

#include <stddef.h>
#include <stdint.h>

#include "lyap/spectral.h"

struct lyap_gates {
    uint32_t units, groups;
    uint64_t inputs;
    double *largest; /* owned; groups x units; NaN: one was */
};

/* For `inputs` rows of `units` gates, in as many groups as LYAP_GATE_GROUPS and `values_max` allow.
 * NULL: out of memory, or not one group fits. */
LYAP_API struct lyap_gates *lyap_gates_new(uint64_t inputs, uint32_t units, uint64_t values_max);
LYAP_API struct lyap_gates *
lyap_gates_dup(const struct lyap_gates *gates); /* NULL: out of memory */
/* From one to another of the same sizes. */
LYAP_API void lyap_gates_copy(const struct lyap_gates *from, struct lyap_gates *to);
LYAP_API void lyap_gates_free(struct lyap_gates *gates); /* NULL: nothing */
/* `count` gates from element `first` of the row-major inputs x units on. */
LYAP_API void lyap_gates_add(struct lyap_gates *gates, uint64_t first, const double *values,
                             size_t count);
/* Over all groups; 0 for none. NaN where one is. */
LYAP_API double lyap_gates_largest(const struct lyap_gates *gates);

/* About how many flops the norm of one group costs, and lyap_gates_norm. */
LYAP_API double lyap_gates_flops(const struct lyap_gates *gates, uint32_t cols);
LYAP_API double lyap_gates_norm_flops(const struct lyap_gates *gates, uint32_t cols,
                                      double flops_max);
/* Largest sigma_1(diag(phi') W) over the inputs, from above. Groups are joined until they cost at
 * most `flops_max`, but one is always taken. Errors of lyap_layer_gated_norm. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_gates_norm(const struct lyap_gates *gates,
                                                          const struct lyap_spectral_matrix *w,
                                                          double flops_max, double *ret_norm);

#endif
