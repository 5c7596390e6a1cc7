/* spectral_fixture.h - a run of one weight, for the tests of its norm. */
#ifndef SPECTRAL_FIXTURE_H
#define SPECTRAL_FIXTURE_H

#include "intake_fixture.h"
#include "spectral_state.h"

enum { FIXTURE_GRAM_EVERY = 5 };

/* One F64 matrix, retention exact. */
void matrix_fixture(struct fixture *fixture, uint64_t rows, uint64_t cols);
struct lyap_spectral_plan *first_plan(const struct fixture *fixture);
/* One snapshot of `w`; the partial must be released before the plan. */
void push_matrix(struct fixture *fixture, int64_t step, enum lyap_dtype dtype, const double *w,
                 const struct lyap_memory *previous, struct lyap_partial *ret_partial,
                 struct lyap_memory **ret_memory);
double norm_of(const double *w, uint32_t rows, uint32_t cols);

/* State, plan, predecessor from snapshot to snapshot. */
struct run {
    struct fixture fixture;
    struct lyap_spectral_state *state;
    struct lyap_spectral_plan *plan;
    struct lyap_memory *memory;
    int64_t step;
};
void run_begin(struct run *run, uint32_t rows, uint32_t cols, enum lyap_retention retention);
const struct lyap_spectral_view *run_step(struct run *run, const double *w);
void run_end(struct run *run);

#endif
