/* Gates in groups of inputs: against the norm behind each input's own gates. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/gates.h"
#include "lyap/layer.h"
#include "lyap/limits.h"
#include "support.h"

enum { ROWS = 6, COLS = 5, INPUTS_MAX = 40 };

static double weight[ROWS * COLS], pushed[INPUTS_MAX * ROWS];
static const struct lyap_spectral_matrix w = { weight, ROWS, COLS };

static double norm_behind(const double *gate)
{
    double norm = NAN;
    ck_assert_int_eq(lyap_layer_gated_norm(&w, gate, &norm), LYAP_OK);
    return norm;
}

/* Gates of inputs: of relu (is_mask), or smooth ones of both signs. */
static struct lyap_gates *gates_of(uint64_t inputs, bool is_mask, struct test_rng *rng)
{
    test_rng_normals(rng, weight, ROWS * COLS);
    test_rng_normals(rng, pushed, inputs * ROWS);
    for (uint64_t i = 0; is_mask && i < inputs * ROWS; i++)
        pushed[i] = pushed[i] > 0;
    struct lyap_gates *gates = lyap_gates_new(inputs, ROWS, LYAP_GATE_VALUES_MAX);
    ck_assert_ptr_nonnull(gates);
    const size_t cut = test_rng_u64(rng) % (inputs * ROWS);
    lyap_gates_add(gates, 0, pushed, cut);
    lyap_gates_add(gates, cut, pushed + cut, inputs * ROWS - cut);
    return gates;
}

START_TEST(the_norm_is_above_every_input_and_below_the_largest_gate)
{
    struct test_rng rng = { 71 };
    for (int trial = 0; trial < 1000; trial++) {
        const uint64_t inputs = 1 + test_rng_u64(&rng) % INPUTS_MAX;
        struct lyap_gates *gates = gates_of(inputs, trial % 2, &rng);
        const double flops = trial % 3 ? 1e12 : 3 * lyap_gates_flops(gates, COLS);
        double norm, most = 0, whole, largest = 0;
        ck_assert_int_eq(lyap_gates_norm(gates, &w, flops, &norm), LYAP_OK);
        ck_assert_int_eq(lyap_spectral_norm(&w, &whole), LYAP_OK);
        for (uint64_t i = 0; i < inputs; i++)
            most = fmax(most, norm_behind(pushed + i * ROWS));
        for (uint64_t i = 0; i < inputs * ROWS; i++)
            largest = fmax(largest, fabs(pushed[i]));
        ck_assert(lyap_gates_largest(gates) == largest);
        ck_assert(norm >= most * (1 - 1e-12));
        ck_assert(norm <= largest * whole * (1 + 1e-12));
        if (inputs <= LYAP_GATE_GROUPS && trial % 3)
            test_close(norm, most, 1e-12); /* one input a group */
        lyap_gates_free(gates);
    }
}
END_TEST

START_TEST(groups_fit_what_is_given)
{
    struct lyap_gates *gates = lyap_gates_new(1000, 10, 35);
    ck_assert_uint_eq(gates->groups, 3);
    lyap_gates_free(gates);
    gates = lyap_gates_new(4, 10, 1000);
    ck_assert_uint_eq(gates->groups, 4);
    lyap_gates_free(gates);
    ck_assert_ptr_null(lyap_gates_new(4, 10, 9));
    ck_assert_ptr_null(lyap_gates_new(0, 10, 1000));
}
END_TEST

START_TEST(a_gate_that_is_no_number_gives_no_norm)
{
    struct test_rng rng = { 5 };
    double norm = 7;
    struct lyap_gates *gates = gates_of(3, true, &rng);
    const double bad = NAN, more = 2;
    lyap_gates_add(gates, 4, &bad, 1);
    lyap_gates_add(gates, 4, &more, 1);
    ck_assert(isnan(lyap_gates_largest(gates)));
    ck_assert_int_eq(lyap_gates_norm(gates, &w, 1e12, &norm), LYAP_E_NUMERIC);
    ck_assert(norm == 7);
    lyap_gates_free(gates);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gates");
    TCase *tcase = tcase_create("gates");
    tcase_add_test(tcase, the_norm_is_above_every_input_and_below_the_largest_gate);
    tcase_add_test(tcase, groups_fit_what_is_given);
    tcase_add_test(tcase, a_gate_that_is_no_number_gives_no_norm);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
