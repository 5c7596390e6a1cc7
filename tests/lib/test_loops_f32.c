/* The loops over F32 against the loops over doubles, and uploads against those that must take the
 * general way: the same sums to the last bit. */
#include "intake_fixture.h"

#include <math.h>
#include <string.h>

#include "intake_state.h"
#include "kernels/kernels.h"

enum { COUNT = LYAP_CHUNK, LONG = 4096 };

static float param[LONG], grad[LONG], param_prev[LONG], grad_prev[LONG], part_prev[LONG];

static void fill(uint64_t seed)
{
    struct test_rng rng = { seed };
    for (int i = 0; i < LONG; i++) {
        param_prev[i] = (float)test_rng_normal(&rng);
        param[i] =
            i % 7 == 0 ? param_prev[i] : param_prev[i] + (float)(1e-3 * test_rng_normal(&rng));
        grad[i] = i % 61 == 0 ? -0.0F : (float)(exp(9 * test_rng_normal(&rng)) - 1);
        grad_prev[i] = grad[i] + (float)test_rng_normal(&rng);
        part_prev[i] = (float)(1e-3 * test_rng_normal(&rng));
    }
}

/* At an odd address, as chunks of a body lie. */
static const void *unaligned(const float *values, unsigned char *buffer)
{
    memcpy(buffer + 1, values, LONG * sizeof *values);
    return buffer + 1;
}

START_TEST(scan_matches_obvious_loop)
{
    static unsigned char buffer[LONG * sizeof(float) + 1];
    fill(1);
    for (unsigned v = 0; lyap_kernels_variant(v); v++) {
        uint64_t zeros = 0;
        float largest = 0, value;
        struct lyap_scan scan;
        for (int i = 0; i < LONG; i++) {
            zeros += grad[i] == 0;
            largest = fmaxf(largest, fabsf(grad[i]));
        }
        lyap_kernels_variant(v)->scan_f32(unaligned(grad, buffer), LONG, &scan);
        memcpy(&value, &scan.largest, sizeof value);
        ck_assert_uint_eq(scan.zeros, zeros);
        ck_assert(value == largest && scan.largest < LYAP_F32_INFINITY);
    }
}
END_TEST

START_TEST(scan_finds_every_element_that_is_not_finite)
{
    static const float bad[] = { NAN, -NAN, INFINITY, -INFINITY };
    fill(2);
    for (unsigned v = 0; lyap_kernels_variant(v); v++) {
        for (unsigned b = 0; b < sizeof bad / sizeof *bad; b++) {
            for (unsigned i = 0; i < 64; i++) {
                struct lyap_scan scan;
                const float kept = grad[i];
                grad[i] = bad[b];
                lyap_kernels_variant(v)->scan_f32(grad, 64, &scan);
                grad[i] = kept;
                ck_assert_uint_ge(scan.largest, LYAP_F32_INFINITY);
            }
        }
    }
}
END_TEST

START_TEST(absorb_is_moments_and_sketch)
{
    static unsigned char buffer[LONG * sizeof(float) + 1];
    static double wide[LONG], plain[LYAP_SKETCH_SIZE + 64], fused[LYAP_SKETCH_SIZE + 64];
    const struct lyap_sketch_run run = { 99, 1234567, LYAP_SKETCH_SIZE };
    fill(3);
    for (unsigned v = 0; lyap_kernels_variant(v); v++) {
        const struct lyap_kernels *kernels = lyap_kernels_variant(v);
        struct lyap_moment_sums expected = { .sq = 0.1, .abs.lane = { 0.3 } }, sums = expected;
        memset(plain, 0, sizeof plain);
        memset(fused, 0, sizeof fused);
        kernels->widen[LYAP_DTYPE_F32](grad, LONG, wide);
        kernels->moments(wide, LONG, &expected);
        kernels->sketch(wide, LONG / 64, &run, plain);
        kernels->absorb_f32(unaligned(grad, buffer), LONG / 64, &run, &sums, fused);
        ck_assert_mem_eq(fused, plain, sizeof plain);
        ck_assert_mem_eq(&sums.abs, &expected.abs, sizeof sums.abs);
        ck_assert(sums.sq == expected.sq && sums.block_sq == expected.block_sq);
    }
}
END_TEST

/* The products of one chunk by the loops over doubles, as intake_products.c takes them. */
static void general(const struct lyap_kernels *kernels, const struct lyap_moved *moved,
                    struct lyap_moved_sums *sums, float *part)
{
    static double wide[5][COUNT], delta[COUNT], rest[COUNT];
    static const double zero[COUNT];
    const void *const sources[5] = { moved->param, moved->grad, moved->param_prev, moved->grad_prev,
                                     moved->part_prev };
    memset(wide, 0, sizeof wide);
    for (int i = 0; i < 5; i++)
        if (sources[i])
            kernels->widen[LYAP_DTYPE_F32](sources[i], COUNT, wide[i]);
    kernels->subtract(wide[0], wide[2], COUNT, delta);
    kernels->moments(delta, COUNT, &sums->moments);
    const double *const pair[4] = { wide[0], wide[1], delta, wide[3] };
    kernels->pair(pair, COUNT, sums->pair);
    const double *const error[4] = { delta, wide[3], wide[2], wide[4] };
    const double step[2] = { moved->step_grad, moved->step_param };
    struct lyap_lanes errors[2] = { sums->error, sums->size };
    kernels->linear_error(error, COUNT, step, errors);
    sums->error = errors[0];
    sums->size = errors[1];
    const double change[2] = { moved->part_delta, moved->part_grad };
    const double decay[2] = { 1, moved->part_param }, shrink[2] = { moved->rest_param, 1 };
    memcpy(rest, zero, sizeof rest);
    if (moved->part_prev) {
        kernels->combine(delta, wide[3], COUNT, change, rest);
        kernels->combine(rest, wide[2], COUNT, decay, rest);
        kernels->narrow(rest, COUNT, part);
    }
    kernels->combine(wide[0], rest, COUNT, shrink, rest);
    kernels->dot(rest, rest, COUNT, &sums->rest_sq);
    kernels->dot(rest, wide[1], COUNT, &sums->rest_grad);
}

START_TEST(moved_is_the_general_way)
{
    static float part[COUNT], expected_part[COUNT];
    static const struct {
        bool has_part;
        double step_param, part_delta, part_grad, part_param, rest_param;
    } forms[] = { { false, 0, 0, 0, 0, 0 },
                  { false, -0.02, 0, 0, 0, -0.03 },
                  { true, 0, 0.9, 0, 0, 0 },
                  { true, -0.01, 0.9, 0.1, 0.02, -0.03 } };
    fill(4);
    for (unsigned v = 0; lyap_kernels_variant(v); v++) {
        for (unsigned f = 0; f < sizeof forms / sizeof *forms; f++) {
            const struct lyap_moved moved = { .param = param,
                                              .grad = grad,
                                              .param_prev = param_prev,
                                              .grad_prev = grad_prev,
                                              .part_prev = forms[f].has_part ? part_prev : NULL,
                                              .part = forms[f].has_part ? part : NULL,
                                              .step_grad = -0.1,
                                              .step_param = forms[f].step_param,
                                              .part_delta = forms[f].part_delta,
                                              .part_grad = forms[f].part_grad,
                                              .part_param = forms[f].part_param,
                                              .rest_param = forms[f].rest_param };
            struct lyap_moved_sums sums = { 0 }, expected = { 0 };
            general(lyap_kernels_variant(v), &moved, &expected, expected_part);
            lyap_kernels_variant(v)->moved_f32(&moved, COUNT, &sums);
            memset(sums.energies, 0, sizeof sums.energies);
            ck_assert_mem_eq(&sums, &expected, sizeof sums);
            if (forms[f].has_part)
                ck_assert_mem_eq(part, expected_part, sizeof part);
        }
    }
}
END_TEST

/* --- whole uploads */

enum { STEPS = 4, TENSORS = 4 };
static const uint64_t lengths[TENSORS] = { 5, 64, 4096 + 640, 9000 };
static double bodies[STEPS][2][TENSORS][9000];

static void fill_bodies(void)
{
    struct test_rng rng = { 5 };
    for (int n = 0; n < STEPS; n++)
        for (int t = 0; t < TENSORS; t++)
            for (uint64_t i = 0; i < lengths[t]; i++) {
                const double before = n ? bodies[n - 1][0][t][i] : test_rng_normal(&rng);
                bodies[n][0][t][i] = before + (n ? 1e-3 * test_rng_normal(&rng) : 0);
                bodies[n][1][t][i] = test_rng_normal(&rng);
            }
}

/* Pushes of STEPS snapshots. A factor of 1 changes nothing but that gradients are divided by it,
 * which the loops over F32 do not do. */
static void push_all(struct fixture *fixture, bool is_general, struct lyap_partial *ret_partials)
{
    struct lyap_memory *memory = NULL, *left;
    for (int n = 0; n < STEPS; n++) {
        fixture_step(fixture, n);
        fixture_meta(fixture, "lr", "0.01");
        if (is_general)
            fixture_meta(fixture, "clip_factor", "1");
        for (uint32_t t = 0; t < TENSORS; t++) {
            fixture_add(fixture, LYAP_ROLE_PARAM, t, LYAP_DTYPE_F32, bodies[n][0][t]);
            fixture_add(fixture, LYAP_ROLE_GRAD, t, LYAP_DTYPE_F32, bodies[n][1][t]);
        }
        fixture_must_push(fixture, memory, &ret_partials[n], &left);
        lyap_memory_free(memory);
        memory = left;
    }
    lyap_memory_free(memory);
}

START_TEST(uploads_do_not_depend_on_the_way)
{
    static const struct {
        double momentum, weight_decay;
        bool is_nesterov;
        uint64_t cut_seed;
    } rules[] = { { 0, 0, false, 0 },     { 0, 0.1, false, 3 }, { 0.9, 0, false, 0 },
                  { 0.9, 0.1, false, 4 }, { 0.9, 0, true, 0 },  { 0.9, 0.1, true, 5 } };
    fill_bodies();
    for (unsigned r = 0; r < sizeof rules / sizeof *rules; r++) {
        struct lyap_partial fast[STEPS], general_way[STEPS];
        struct fixture fixture;
        fixture_init(&fixture, lengths, TENSORS);
        fixture.declaration.optimizer.base.momentum = rules[r].momentum;
        fixture.declaration.optimizer.base.weight_decay = rules[r].weight_decay;
        fixture.declaration.optimizer.base.is_nesterov = rules[r].is_nesterov;
        fixture.cut_seed = rules[r].cut_seed;
        push_all(&fixture, false, fast);
        push_all(&fixture, true, general_way);
        for (int n = 0; n < STEPS; n++) {
            fixture_same(&fast[n], &general_way[n], 0);
            lyap_partial_release(&fast[n]);
            lyap_partial_release(&general_way[n]);
        }
        fixture_free(&fixture);
    }
}
END_TEST

/* The sketch of D is the difference of two sketches, also around elements that D leaves out. */
static void check_delta_sketch(struct fixture *fixture, const struct lyap_partial *partial, int n,
                               uint64_t bad)
{
    static double delta[9000], expected[LYAP_SKETCH_SIZE];
    struct lyap_sketch sketch;
    ck_assert_int_eq(lyap_sketch_init(&sketch, LYAP_SKETCH_SIZE), LYAP_OK);
    for (uint32_t t = 0; t < TENSORS; t++) {
        for (uint64_t i = 0; i < lengths[t]; i++)
            delta[i] = fixture_rounded(LYAP_DTYPE_F32, bodies[n][0][t][i]) -
                       fixture_rounded(LYAP_DTYPE_F32, bodies[n - 1][0][t][i]);
        if (t == TENSORS - 1 && bad < lengths[t])
            delta[bad] = 0;
        const char *name = fixture->declaration.set.tensors[t].name;
        lyap_sketch_add(&sketch, lyap_sketch_seed(99, name, strlen(name)), 0, delta, lengths[t]);
    }
    lyap_sketch_read(&sketch, expected);
    for (int i = 0; i < LYAP_SKETCH_SIZE; i++)
        test_close(partial->sketches[LYAP_SKETCH_DELTA][i], expected[i], 1e-12);
    lyap_sketch_release(&sketch);
}

START_TEST(the_sketch_of_the_difference_is_exact)
{
    static const uint64_t bad_elements[] = { UINT64_MAX, 0, 700, 8999 };
    fill_bodies();
    for (unsigned b = 0; b < sizeof bad_elements / sizeof *bad_elements; b++) {
        struct fixture fixture;
        struct lyap_memory *memory = NULL, *left;
        const uint64_t bad = bad_elements[b];
        fixture_init(&fixture, lengths, TENSORS);
        for (int n = 0; n < 2; n++) {
            struct lyap_partial partial;
            double *last = bodies[n][0][TENSORS - 1], kept = 0;
            if (n == 1 && bad != UINT64_MAX) {
                kept = last[bad];
                last[bad] = NAN;
            }
            fixture_step(&fixture, n);
            for (uint32_t t = 0; t < TENSORS; t++)
                fixture_add(&fixture, LYAP_ROLE_PARAM, t, LYAP_DTYPE_F32, bodies[n][0][t]);
            fixture_must_push(&fixture, memory, &partial, &left);
            if (n == 1)
                check_delta_sketch(&fixture, &partial, n, bad);
            if (n == 1 && bad != UINT64_MAX)
                last[bad] = kept;
            lyap_partial_release(&partial);
            lyap_memory_free(memory);
            memory = left;
        }
        lyap_memory_free(memory);
        fixture_free(&fixture);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loops_f32");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, scan_matches_obvious_loop);
    tcase_add_test(tcase, scan_finds_every_element_that_is_not_finite);
    tcase_add_test(tcase, absorb_is_moments_and_sketch);
    tcase_add_test(tcase, moved_is_the_general_way);
    tcase_add_test(tcase, uploads_do_not_depend_on_the_way);
    tcase_add_test(tcase, the_sketch_of_the_difference_is_exact);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
