/* Activations and gates as they stream: against slow sums, however the bytes are cut, in any order
 * of roles, held or not. */
#include <math.h>
#include <string.h>

#include "intake_fixture.h"
#include "lyap/alloc.h"
#include "lyap/blas.h"
#include "lyap/spectral.h"

enum { SAMPLES = 3, TOKENS = 5, WIDTH = 700, ELEMENTS = SAMPLES * TOKENS * WIDTH, LAYERS = 6 };
static const uint64_t shape[3] = { SAMPLES, TOKENS, WIDTH };

static struct fixture fixture;
static double act[ELEMENTS], moved[ELEMENTS], gate[ELEMENTS], weight[WIDTH], small[60];

/* input -> norm (gamma t0), rms, group, attention; all read the input. */
static struct lyap_network network_of(void)
{
    static const enum lyap_layer_kind kinds[LAYERS] = {
        LYAP_LAYER_LAYERNORM, LYAP_LAYER_RMSNORM, LYAP_LAYER_GROUPNORM,
        LYAP_LAYER_ATTENTION, LYAP_LAYER_LINEAR,  LYAP_LAYER_ATTENTION
    };
    static const char *const names[LAYERS] = { "norm", "rms", "group", "attn", "fc", "late" };
    struct lyap_network network;
    ck_assert_int_eq(lyap_network_init(&network, LAYERS), LYAP_OK);
    for (uint32_t i = 0; i < LAYERS; i++) {
        struct lyap_layer *layer = &network.layers[i];
        layer->kind = kinds[i];
        layer->groups = kinds[i] == LYAP_LAYER_GROUPNORM ? TOKENS : 1;
        ck_assert_int_eq(lyap_network_add_text(&network, names[i], &layer->name), LYAP_OK);
        if (i < 4)
            ck_assert_int_eq(lyap_network_add_text(&network, "input", &layer->from_name), LYAP_OK);
    }
    ck_assert_int_eq(
        lyap_network_add_text(&network, "t0", &network.layers[0].tensors[LYAP_LAYER_PART_WEIGHT]),
        LYAP_OK);
    ck_assert_int_eq(lyap_network_compile(&network, NULL), LYAP_OK);
    return network;
}

static void setup(void)
{
    struct test_rng rng = { 4 };
    const uint64_t lengths[1] = { WIDTH };
    fixture_init(&fixture, lengths, 1);
    fixture.declaration.network = network_of();
    ck_assert_int_eq(
        lyap_network_resolve(&fixture.declaration.network, &fixture.declaration.set, NULL),
        LYAP_OK);
    test_rng_normals(&rng, act, ELEMENTS);
    test_rng_normals(&rng, moved, ELEMENTS);
    test_rng_normals(&rng, gate, ELEMENTS);
    test_rng_normals(&rng, weight, WIDTH);
    test_rng_normals(&rng, small, 60);
    for (int i = 0; i < ELEMENTS; i++) {
        act[i] = 3 + act[i];
        moved[i] = act[i] + 1e-3 * moved[i];
    }
    fixture_add(&fixture, LYAP_ROLE_PARAM, 0, LYAP_DTYPE_F64, weight);
    fixture_add(&fixture, LYAP_ROLE_GRAD, 0, LYAP_DTYPE_F64, weight);
}

static void teardown(void)
{
    fixture_free(&fixture);
    ck_assert_int_eq(test_alloc_live(), 0);
}

static void add(enum lyap_role role, uint32_t layer, enum lyap_dtype dtype, const double *values,
                const uint64_t *extents, uint32_t rank)
{
    struct fixture_array *array = &fixture.arrays[fixture.array_count++];
    *array = (struct fixture_array){
        .role = role, .tensor = layer, .dtype = dtype, .values = values, .count = 1, .rank = rank
    };
    for (uint32_t i = 0; i < rank; i++) {
        array->shape[i] = extents[i];
        array->count *= extents[i];
    }
}

static struct lyap_partial push(void)
{
    struct lyap_partial partial;
    struct lyap_memory *memory = NULL;
    fixture_must_push(&fixture, NULL, &partial, &memory);
    lyap_memory_free(memory);
    return partial;
}

static double square(const double *x, const double *y)
{
    double sum = 0;
    for (int i = 0; i < ELEMENTS; i++)
        sum += (x[i] - (y ? y[i] : 0)) * (x[i] - (y ? y[i] : 0));
    return sum;
}

/* Least variance (mean square: is_rms) over tokens of `length`. */
static double spread(uint64_t length, bool is_rms)
{
    double least = INFINITY;
    for (uint64_t t = 0; t < ELEMENTS / length; t++) {
        double mean = 0, sum = 0;
        for (uint64_t i = 0; i < length && !is_rms; i++)
            mean += act[t * length + i] / (double)length;
        for (uint64_t i = 0; i < length; i++)
            sum += pow(act[t * length + i] - mean, 2);
        least = fmin(least, sum / (double)length);
    }
    return least;
}

START_TEST(sums_are_those_of_slow_loops)
{
    add(LYAP_ROLE_ACT, 0, LYAP_DTYPE_F64, act, shape, 3);
    add(LYAP_ROLE_ACT_PERTURBED, 0, LYAP_DTYPE_F64, moved, shape, 3);
    add(LYAP_ROLE_GATE, 5, LYAP_DTYPE_F64, gate, shape, 3);
    fixture.cut_seed = (uint64_t)_i;
    fixture.retention = _i % 2 ? LYAP_RETENTION_SKETCH : LYAP_RETENTION_EXACT;
    struct lyap_partial partial = push();
    ck_assert_uint_eq(partial.act_count, LAYERS + 1);
    const struct lyap_act_sums *sums = partial.acts;
    test_close(sums[0].sq / square(act, NULL), 1, 1e-13);
    test_close(sums[0].diff_sq / square(moved, act), 1, 1e-13);
    ck_assert(isnan(sums[1].sq) && isnan(sums[0].gate_max));
    test_close(sums[1].token_spread, spread(WIDTH, false), 1e-12);
    test_close(sums[2].token_spread, spread(WIDTH, true), 1e-12);
    /* A group is one token here: the sample's elements over five groups. */
    test_close(sums[3].token_spread, spread(WIDTH, false), 1e-12);
    /* Tokens are wider than a Gram matrix is kept for. */
    double largest = 0;
    for (int s = 0; s < SAMPLES; s++) {
        double sum = 0;
        for (int i = 0; i < TOKENS * WIDTH; i++)
            sum += pow(act[s * TOKENS * WIDTH + i], 2);
        largest = fmax(largest, sqrt(sum));
    }
    test_close(sums[4].token_norm, largest, 1e-12);
    ck_assert(sums[4].token_count == TOKENS);
    double most = 0;
    for (int i = 0; i < ELEMENTS; i++)
        most = fmax(most, fabs(gate[i]));
    ck_assert(sums[5].gate_max == most);
    ck_assert(!partial.is_role_order);
    lyap_partial_release(&partial);
}
END_TEST

START_TEST(the_cut_of_the_bytes_does_not_show)
{
    struct lyap_partial whole, cut;
    add(LYAP_ROLE_ACT_PERTURBED, 0, LYAP_DTYPE_F32, moved, shape, 3);
    add(LYAP_ROLE_GATE, 1, LYAP_DTYPE_F32, gate, shape, 3);
    add(LYAP_ROLE_ACT, 0, LYAP_DTYPE_F32, act, shape, 3);
    whole = push();
    ck_assert(isfinite(whole.acts[0].diff_sq)); /* held past the gate */
    for (uint64_t seed = 1; seed < 6; seed++) {
        fixture.cut_seed = seed;
        cut = push();
        ck_assert_mem_eq(&cut.acts[0].sq, &whole.acts[0].sq, sizeof(double));
        ck_assert_mem_eq(&cut.acts[0].diff_sq, &whole.acts[0].diff_sq, sizeof(double));
        ck_assert_mem_eq(&cut.acts[1].token_spread, &whole.acts[1].token_spread, sizeof(double));
        ck_assert_mem_eq(&cut.acts[4].token_norm, &whole.acts[4].token_norm, sizeof(double));
        lyap_partial_release(&cut);
    }
    lyap_partial_release(&whole);
}
END_TEST

/* |X|_2 <= sqrt(|X'X|_F) <= 4th root of the rank times |X|_2. */
START_TEST(narrow_tokens_have_a_gram_matrix)
{
    const uint64_t extents[3] = { 3, 5, 4 };
    add(LYAP_ROLE_ACT, 5, LYAP_DTYPE_F64, small, extents, 3); /* fc: read by the last */
    struct lyap_partial partial = push();
    double largest = 0;
    for (int s = 0; s < 3; s++) {
        double norm;
        const struct lyap_spectral_matrix x = { small + s * 20, 5, 4 };
        ck_assert_int_eq(lyap_spectral_norm(&x, &norm), LYAP_OK);
        largest = fmax(largest, norm);
    }
    const double bound = partial.acts[6].token_norm;
    ck_assert_double_ge(bound, largest * (1 - 1e-12));
    ck_assert_double_le(bound, largest * pow(4, 0.25) * (1 + 1e-12));
    ck_assert(partial.acts[6].token_count == 5);
    lyap_partial_release(&partial);
}
END_TEST

START_TEST(what_does_not_fit_has_no_distance)
{
    fixture.hold_bytes_max = ELEMENTS * 8 - 1;
    add(LYAP_ROLE_ACT, 0, LYAP_DTYPE_F64, act, shape, 3);
    add(LYAP_ROLE_ACT_PERTURBED, 0, LYAP_DTYPE_F64, moved, shape, 3);
    struct lyap_partial partial = push();
    ck_assert(isnan(partial.acts[0].diff_sq) && isfinite(partial.acts[0].sq));
    ck_assert(partial.is_role_order);
    lyap_partial_release(&partial);
}
END_TEST

/* Of the linear layer whose weight has as many rows: 15 inputs, each a group. */
START_TEST(gates_of_a_linear_layer_are_kept)
{
    struct lyap_layer *fc = &fixture.declaration.network.layers[4];
    fixture.declaration.set.tensors[0].rank = 2;
    fixture.declaration.set.tensors[0].shape[1] = 1;
    fc->index[LYAP_LAYER_PART_WEIGHT] = 0;
    fixture_step(&fixture, 0);
    fixture_add(&fixture, LYAP_ROLE_PARAM, 0, LYAP_DTYPE_F64, weight);
    add(LYAP_ROLE_GATE, 5, LYAP_DTYPE_F64, gate, shape, 3);
    add(LYAP_ROLE_GATE, 6, LYAP_DTYPE_F64, gate, shape, 3);
    fixture.cut_seed = (uint64_t)_i;
    struct lyap_partial partial = push();
    const struct lyap_gates *gates = partial.acts[5].gates;
    ck_assert_ptr_nonnull(gates);
    ck_assert_uint_eq(gates->units, WIDTH);
    ck_assert_uint_eq(gates->groups, SAMPLES * TOKENS);
    for (int i = 0; i < ELEMENTS; i++)
        ck_assert(gates->largest[i] == fabs(gate[i]));
    ck_assert_ptr_null(partial.acts[6].gates);
    struct lyap_partial sum;
    ck_assert_int_eq(lyap_partial_init(&sum, 1, LYAP_SKETCH_SIZE), LYAP_OK);
    ck_assert_int_eq(lyap_partial_add(&sum, &partial), LYAP_OK);
    ck_assert_ptr_null(sum.acts[5].gates); /* of one rank alone */
    lyap_partial_release(&sum);
    lyap_partial_release(&partial);
}
END_TEST

START_TEST(bad_bodies_are_explained)
{
    const uint64_t fewer[2] = { SAMPLES, TOKENS };
    struct lyap_partial partial;
    struct lyap_memory *memory;
    add(LYAP_ROLE_ACT, 0, LYAP_DTYPE_F64, act, shape, 3);
    add(LYAP_ROLE_ACT_PERTURBED, 0, LYAP_DTYPE_F64, moved, fewer, 2);
    ck_assert_int_eq(fixture_push(&fixture, NULL, NULL, &partial, &memory), LYAP_E_INVALID);
    ck_assert_ptr_nonnull(strstr(fixture_error.text, "number of elements"));
    fixture.arrays[3].role = LYAP_ROLE_ACT;
    ck_assert_int_eq(fixture_push(&fixture, NULL, NULL, &partial, &memory), LYAP_E_CONTRADICTION);
    ck_assert_ptr_nonnull(strstr(fixture_error.text, "given twice"));
}
END_TEST

START_TEST(nonfinite_and_empty_activations)
{
    const uint64_t none[2] = { 0, 7 };
    act[1] = NAN;
    gate[2] = NAN;
    add(LYAP_ROLE_ACT, 0, LYAP_DTYPE_F64, act, shape, 3);
    add(LYAP_ROLE_GATE, 1, LYAP_DTYPE_F64, gate, shape, 3);
    add(LYAP_ROLE_ACT, 5, LYAP_DTYPE_F64, small, none, 2);
    struct lyap_partial partial = push();
    ck_assert(isnan(partial.acts[0].sq) && isnan(partial.acts[1].token_spread));
    ck_assert(isnan(partial.acts[4].token_norm) && isnan(partial.acts[1].gate_max));
    ck_assert(partial.acts[5].sq == 0);
    lyap_partial_release(&partial);
}
END_TEST

START_TEST(ranks_add)
{
    struct lyap_partial a, b;
    add(LYAP_ROLE_ACT, 0, LYAP_DTYPE_F64, act, shape, 3);
    add(LYAP_ROLE_ACT_PERTURBED, 0, LYAP_DTYPE_F64, moved, shape, 3);
    a = push();
    fixture.array_count = 2;
    add(LYAP_ROLE_ACT, 0, LYAP_DTYPE_F64, moved, shape, 3);
    add(LYAP_ROLE_GATE, 5, LYAP_DTYPE_F64, gate, shape, 3);
    b = push();
    const double sum = a.acts[0].sq + b.acts[0].sq, diff = a.acts[0].diff_sq;
    const double least = fmin(a.acts[1].token_spread, b.acts[1].token_spread);
    const double most = fmax(a.acts[4].token_norm, b.acts[4].token_norm);
    ck_assert_int_eq(lyap_partial_add(&a, &b), LYAP_OK);
    ck_assert(a.acts[0].sq == sum && a.acts[0].diff_sq == diff);
    ck_assert(a.acts[1].token_spread == least && a.acts[4].token_norm == most);
    ck_assert(a.acts[5].gate_max == b.acts[5].gate_max);
    lyap_partial_release(&a);
    lyap_partial_release(&b);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    struct lyap_partial partial;
    struct lyap_memory *memory = NULL;
    add(LYAP_ROLE_ACT, 0, LYAP_DTYPE_F64, act, shape, 3);
    add(LYAP_ROLE_ACT_PERTURBED, 0, LYAP_DTYPE_F64, moved, shape, 3);
    const int64_t live = test_alloc_live();
    enum lyap_status status = LYAP_E_NOMEM;
    uint64_t n = 0;
    while (status != LYAP_OK) {
        test_alloc_fail_at(++n);
        status = fixture_push(&fixture, NULL, NULL, &partial, &memory);
        ck_assert(status == LYAP_OK || status == LYAP_E_NOMEM);
        ck_assert(status == LYAP_OK || test_alloc_live() == live);
    }
    test_alloc_fail_at(0);
    ck_assert_uint_gt(n, 15);
    lyap_partial_release(&partial);
    lyap_memory_free(memory);
}
END_TEST

int main(void)
{
    test_alloc_install();
    lyap_blas_one_thread();
    Suite *suite = suite_create("intake_acts");
    TCase *tcase = tcase_create("intake_acts");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, sums_are_those_of_slow_loops, 0, 6);
    tcase_add_test(tcase, the_cut_of_the_bytes_does_not_show);
    tcase_add_test(tcase, narrow_tokens_have_a_gram_matrix);
    tcase_add_test(tcase, what_does_not_fit_has_no_distance);
    tcase_add_loop_test(tcase, gates_of_a_linear_layer_are_kept, 0, 6);
    tcase_add_test(tcase, bad_bodies_are_explained);
    tcase_add_test(tcase, nonfinite_and_empty_activations);
    tcase_add_test(tcase, ranks_add);
    tcase_add_test(tcase, every_allocation_may_fail);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
