/* Pushes of one matrix and what follows from them. */
#include "spectral_fixture.h"

void matrix_fixture(struct fixture *fixture, uint64_t rows, uint64_t cols)
{
    const uint64_t length = rows * cols;
    fixture_init(fixture, &length, 1);
    fixture->tensors[0].rank = 2;
    fixture->tensors[0].shape[0] = rows;
    fixture->tensors[0].shape[1] = cols;
    lyap_optimizer_defaults(&fixture->declaration.optimizer, LYAP_OPTIMIZER_SGD);
}

struct lyap_spectral_plan *first_plan(const struct fixture *fixture)
{
    struct lyap_spectral_plan *plan = NULL;
    ck_assert_int_eq(lyap_spectral_plan_first(&fixture->declaration.set, FIXTURE_GRAM_EVERY, &plan),
                     LYAP_OK);
    return plan;
}

void push_matrix(struct fixture *fixture, int64_t step, enum lyap_dtype dtype, const double *w,
                 const struct lyap_memory *previous, struct lyap_partial *ret_partial,
                 struct lyap_memory **ret_memory)
{
    fixture_step(fixture, step);
    fixture_add(fixture, LYAP_ROLE_PARAM, 0, dtype, w);
    fixture_add(fixture, LYAP_ROLE_GRAD, 0, dtype, w);
    fixture_must_push(fixture, previous, ret_partial, ret_memory);
}

double norm_of(const double *w, uint32_t rows, uint32_t cols)
{
    double norm;
    ck_assert_int_eq(lyap_spectral_norm(&(struct lyap_spectral_matrix){ w, rows, cols }, &norm),
                     LYAP_OK);
    return norm;
}

void run_begin(struct run *run, uint32_t rows, uint32_t cols, enum lyap_retention retention)
{
    *run = (struct run){ .plan = NULL };
    matrix_fixture(&run->fixture, rows, cols);
    run->fixture.retention = retention;
    ck_assert_int_eq(lyap_spectral_state_new(&run->fixture.declaration.set, &run->state), LYAP_OK);
    run->plan = first_plan(&run->fixture);
}

const struct lyap_spectral_view *run_step(struct run *run, const double *w)
{
    struct lyap_partial partial;
    struct lyap_memory *memory;
    run->fixture.spectral = run->plan;
    push_matrix(&run->fixture, run->step++, LYAP_DTYPE_F64, w, run->memory, &partial, &memory);
    lyap_spectral_state_step(run->state, &partial, run->memory != NULL);
    lyap_partial_release(&partial);
    lyap_spectral_plan_free(run->plan);
    ck_assert_int_eq(lyap_spectral_state_plan(run->state, FIXTURE_GRAM_EVERY, &run->plan), LYAP_OK);
    lyap_memory_free(run->memory);
    run->memory = memory;
    return &run->state->tensors[0].view;
}

void run_end(struct run *run)
{
    lyap_spectral_plan_free(run->plan);
    lyap_spectral_state_free(run->state);
    lyap_memory_free(run->memory);
    fixture_free(&run->fixture);
}
