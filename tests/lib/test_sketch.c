/* The sketch: vectors of the reference, linearity, shards, error law and tails. */
#include "support.h"

#include <math.h>
#include <string.h>

#include "../fixtures/sketch_vectors.h"
#include "kernels/kernels.h"
#include "lyap/alloc.h"
#include "lyap/sketch.h"

enum { VECTOR_COUNT = sizeof sketch_vectors / sizeof *sketch_vectors };

static double element(uint64_t i)
{
    return (double)(i * i % 17) - 8;
}

static void sketch_of(const double *x, uint64_t count, uint64_t seed, uint32_t size, double *ret)
{
    struct lyap_sketch sketch;
    ck_assert_int_eq(lyap_sketch_init(&sketch, size), LYAP_OK);
    lyap_sketch_add(&sketch, seed, 0, x, count);
    lyap_sketch_read(&sketch, ret);
    lyap_sketch_release(&sketch);
}

START_TEST(vectors_of_the_reference)
{
    double x[1000], sums[4096];
    for (uint64_t i = 0; i < 1000; i++)
        x[i] = element(i);
    const uint64_t seed = lyap_sketch_seed(sketch_vectors[_i].run_seed, sketch_vectors[_i].name,
                                           strlen(sketch_vectors[_i].name));
    ck_assert_uint_eq(seed, sketch_vectors[_i].seed);
    sketch_of(x, sketch_vectors[_i].count, seed, sketch_vectors[_i].size, sums);
    for (uint32_t i = 0; i < sketch_vectors[_i].size; i++)
        ck_assert_double_eq(sums[i], sketch_vectors[_i].sums[i]);
}
END_TEST

/* Ranges at any offset add up to the whole: flat shards. */
START_TEST(any_cut_adds_up)
{
    enum { COUNT = 1000, SIZE = 256 };
    double x[COUNT], whole[SIZE], sums[SIZE];
    for (uint64_t i = 0; i < COUNT; i++)
        x[i] = element(i);
    sketch_of(x, COUNT, 77, SIZE, whole);
    struct test_rng rng = { 3 };
    for (int round = 0; round < 200; round++) {
        struct lyap_sketch sketch;
        ck_assert_int_eq(lyap_sketch_init(&sketch, SIZE), LYAP_OK);
        for (uint64_t at = 0; at < COUNT;) {
            uint64_t length = test_rng_u64(&rng) % 150;
            length = length > COUNT - at ? COUNT - at : length;
            lyap_sketch_add(&sketch, 77, at, x + at, length);
            at += length;
        }
        lyap_sketch_read(&sketch, sums);
        lyap_sketch_release(&sketch);
        ck_assert_mem_eq(sums, whole, sizeof sums);
    }
}
END_TEST

START_TEST(variants_agree_to_the_last_bit)
{
    enum { COUNT = 4096, SIZE = 4096 };
    static double x[COUNT], first[SIZE + 64], sums[SIZE + 64];
    struct test_rng rng = { 9 };
    test_rng_normals(&rng, x, COUNT);
    const struct lyap_sketch_run run = { 12345, 7, SIZE };
    memset(first, 0, sizeof first);
    lyap_kernels_variant(0)->sketch(x, COUNT / 64, &run, first);
    for (unsigned v = 1; lyap_kernels_variant(v); v++) {
        memset(sums, 0, sizeof sums);
        lyap_kernels_variant(v)->sketch(x, COUNT / 64, &run, sums);
        ck_assert_mem_eq(sums, first, sizeof sums);
    }
}
END_TEST

static double dot_of(const double *a, const double *b, uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* SPEC 5: rms of the relative norm error is sqrt(1/2k), of an inner product |a||b|/sqrt(k). Over
 * SEEDS seeds the rms itself is known to about 1/sqrt(2 SEEDS) = 5 %. */
START_TEST(error_law)
{
    enum { COUNT = 2560, SIZE = 256, SEEDS = 200 };
    static double a[COUNT], b[COUNT];
    double sa[SIZE], sb[SIZE], norm_sq = 0, dot_sq = 0, dot_mean = 0;
    struct test_rng rng = { 11 };
    test_rng_normals(&rng, a, COUNT);
    test_rng_normals(&rng, b, COUNT);
    const double na = sqrt(dot_of(a, a, COUNT)), nb = sqrt(dot_of(b, b, COUNT));
    const double ab = dot_of(a, b, COUNT);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        const uint64_t mixed = lyap_sketch_seed(seed, "t", 1);
        sketch_of(a, COUNT, mixed, SIZE, sa);
        sketch_of(b, COUNT, mixed, SIZE, sb);
        const double norm_error = sqrt(dot_of(sa, sa, SIZE)) / na - 1;
        const double dot_error = (dot_of(sa, sb, SIZE) - ab) / (na * nb);
        norm_sq += norm_error * norm_error / SEEDS;
        dot_sq += dot_error * dot_error / SEEDS;
        dot_mean += dot_error / SEEDS;
    }
    const double norm_ratio = sqrt(norm_sq) / sqrt(0.5 / SIZE);
    const double dot_ratio = sqrt(dot_sq) / sqrt(1.0 / SIZE);
    ck_assert_msg(norm_ratio > 0.8 && norm_ratio < 1.2, "norm error %g of theory", norm_ratio);
    ck_assert_msg(dot_ratio > 0.8 && dot_ratio < 1.2, "product error %g of theory", dot_ratio);
    ck_assert_msg(fabs(dot_mean) < 4 / sqrt(SIZE * (double)SEEDS), "bias %g", dot_mean);
}
END_TEST

/* Two blocks hold all energy: they collide in few seeds, then by much (SPEC 5: kurtosis 10-36). */
START_TEST(two_dense_blocks_have_heavy_tails)
{
    enum { COUNT = 640, SIZE = 1024, SEEDS = 2000 };
    double x[COUNT] = { 0 }, sums[SIZE], second = 0, fourth = 0;
    for (int i = 0; i < 64; i++)
        x[i] = x[320 + i] = 1;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        sketch_of(x, COUNT, lyap_sketch_seed(seed, "t", 1), SIZE, sums);
        const double error = dot_of(sums, sums, SIZE) / 128 - 1;
        second += error * error / SEEDS;
        fourth += error * error * error * error / SEEDS;
    }
    const double kurtosis = fourth / (second * second);
    ck_assert_msg(kurtosis > 8 && kurtosis < 80, "kurtosis %g", kurtosis);
    const double ratio = sqrt(second) / sqrt(2.0 / SIZE);
    ck_assert_msg(ratio > 0.5 && ratio < 1.4, "rms error %g of theory", ratio);
}
END_TEST

START_TEST(nonfinite_elements_are_skipped)
{
    double x[100], clean[100], sums[128], expected[128];
    for (uint64_t i = 0; i < 100; i++)
        x[i] = clean[i] = element(i) + 0.5;
    x[0] = NAN, x[63] = INFINITY, x[64] = -INFINITY, x[99] = 1e200;
    clean[0] = clean[63] = clean[64] = clean[99] = 0;
    sketch_of(x, 100, 5, 128, sums);
    sketch_of(clean, 100, 5, 128, expected);
    ck_assert_mem_eq(sums, expected, sizeof sums);
}
END_TEST

START_TEST(bad_sizes_and_no_memory)
{
    struct lyap_sketch sketch;
    ck_assert_int_eq(lyap_sketch_init(&sketch, 63), LYAP_E_INVALID);
    lyap_sketch_release(&sketch);
    test_alloc_install();
    test_alloc_fail_at(1);
    ck_assert_int_eq(lyap_sketch_init(&sketch, 64), LYAP_E_NOMEM);
    lyap_sketch_release(&sketch);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sketch");
    TCase *tcase = tcase_create("all");
    tcase_add_loop_test(tcase, vectors_of_the_reference, 0, VECTOR_COUNT);
    tcase_add_test(tcase, any_cut_adds_up);
    tcase_add_test(tcase, variants_agree_to_the_last_bit);
    tcase_add_test(tcase, error_law);
    tcase_add_test(tcase, two_dense_blocks_have_heavy_tails);
    tcase_add_test(tcase, nonfinite_elements_are_skipped);
    tcase_add_test(tcase, bad_sizes_and_no_memory);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
