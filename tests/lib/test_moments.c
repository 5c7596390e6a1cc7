/* The leaf loops against obvious ones, and every variant against every other, to the last bit. */
#include "support.h"

#include <math.h>
#include <string.h>

#include "intake_state.h"
#include "kernels/kernels.h"

enum { COUNT = 4096 };

static double x[COUNT], y[COUNT], w[COUNT];

static void fill(uint64_t seed)
{
    struct test_rng rng = { seed };
    test_rng_normals(&rng, x, COUNT);
    test_rng_normals(&rng, y, COUNT);
    for (int i = 0; i < COUNT; i++) {
        w[i] = test_rng_uniform(&rng);
        x[i] = i % 97 == 0 ? (i % 2 ? 0.0 : -0.0) : x[i] * exp(20 * test_rng_normal(&rng));
    }
}

START_TEST(moments_match_obvious_loops)
{
    fill(1);
    for (unsigned v = 0; lyap_kernels_variant(v); v++) {
        struct lyap_moment_sums sums = { 0 };
        double sq = 0, sum_abs = 0, max = 0, largest = 0;
        uint64_t zeros = 0;
        for (int b = 0; b < COUNT / 64; b++) {
            double block = 0;
            for (int i = 64 * b; i < 64 * b + 64; i++) {
                block += x[i] * x[i];
                sum_abs += fabs(x[i]);
                max = fmax(max, fabs(x[i]));
                zeros += x[i] == 0;
            }
            sq += block;
            largest = fmax(largest, block);
        }
        lyap_kernels_variant(v)->moments(x, COUNT, &sums);
        test_close(sums.sq / sq, 1, 1e-14);
        test_close(lyap_lanes_total(&sums.abs) / sum_abs, 1, 1e-14);
        test_close(sums.block_sq / largest, 1, 1e-14);
        ck_assert_uint_eq(sums.zeros, zeros);
        double lanes_max = 0;
        for (int i = 0; i < LYAP_LANES; i++)
            lanes_max = fmax(lanes_max, sums.max.lane[i]);
        ck_assert(lanes_max == max);
    }
}
END_TEST

/* Everything a variant computes from x, y, w. */
struct outputs {
    struct lyap_moment_sums moments;
    struct lyap_lanes sums[5 + LYAP_PAIR_COUNT];
    double arrays[10][COUNT];
    uint64_t counts[LYAP_GAIN_BINS];
    float narrowed[COUNT];
};

static void run(const struct lyap_kernels *kernels, struct outputs *out)
{
    const double factors[3] = { 0.9, 0.1, 1e-8 };
    const double *const arrays[4] = { x, y, w, x };
    memset(out, 0, sizeof *out);
    kernels->moments(x, COUNT, &out->moments);
    kernels->dot(x, y, COUNT, &out->sums[0]);
    kernels->diff_sq(x, y, COUNT, &out->sums[1]);
    kernels->dot_weighted(x, y, w, COUNT, &out->sums[2]);
    kernels->pair(arrays, COUNT, &out->sums[5]);
    kernels->subtract(x, y, COUNT, out->arrays[0]);
    kernels->combine(x, y, COUNT, factors, out->arrays[1]);
    kernels->combine_sq(x, y, COUNT, factors, out->arrays[2]);
    kernels->precondition(w, COUNT, factors, out->arrays[3]);
    kernels->quotient(x, w, COUNT, -0.3, out->arrays[4]);
    memcpy(out->arrays[5], x, sizeof x);
    kernels->divide(out->arrays[5], COUNT, 3);
    const struct lyap_gain constants = { 0.9, 0.99, 2, 3, 1e-8, 0.1 };
    const double *const state[4] = { x, y, y, w };
    kernels->inverse(w, COUNT, factors, out->arrays[6]);
    kernels->gain(state, COUNT, &constants,
                  (double *const[]){ out->arrays[7], out->arrays[8], out->arrays[9] });
    kernels->histogram(out->arrays[7], COUNT, out->counts);
    kernels->narrow(y, COUNT, out->narrowed);
    kernels->linear_error(arrays, COUNT, factors, &out->sums[3]);
}

START_TEST(variants_agree_to_the_last_bit)
{
    static struct outputs first, other;
    for (uint64_t seed = 1; seed < 6; seed++) {
        fill(seed);
        run(lyap_kernels_variant(0), &first);
        for (unsigned v = 1; lyap_kernels_variant(v); v++) {
            run(lyap_kernels_variant(v), &other);
            ck_assert_mem_eq(&other, &first, sizeof first);
        }
    }
}
END_TEST

START_TEST(products_match_obvious_loops)
{
    static struct outputs out;
    fill(7);
    run(lyap_kernels_best(), &out);
    double dot = 0, diff = 0, weighted = 0, size = 0;
    for (int i = 0; i < COUNT; i++) {
        dot += x[i] * y[i];
        size += fabs(x[i] * y[i]);
        diff += (x[i] - y[i]) * (x[i] - y[i]);
        weighted += x[i] * w[i] * y[i];
        ck_assert(out.arrays[0][i] == x[i] - y[i]);
        ck_assert(out.arrays[1][i] == 0.9 * x[i] + 0.1 * y[i]);
        ck_assert(out.arrays[2][i] == 0.9 * x[i] + 0.1 * y[i] * y[i]);
        ck_assert(out.arrays[3][i] == 0.9 * (sqrt(0.1 * w[i]) + 1e-8));
        ck_assert(out.arrays[4][i] == -0.3 * x[i] / w[i]);
        ck_assert(out.arrays[5][i] == x[i] / 3);
    }
    test_close(lyap_lanes_total(&out.sums[0]) / size, dot / size, 1e-14);
    test_close(lyap_lanes_total(&out.sums[1]) / diff, 1, 1e-14);
    test_close(lyap_lanes_total(&out.sums[2]) / size, weighted / size, 1e-14);
}
END_TEST

/* Sums over x = 1 + i eps: the pairwise sum over blocks keeps its error small (SPEC 6.1). */
START_TEST(pairwise_sum_is_accurate)
{
    static struct lyap_pairwise sums;
    lyap_pairwise_reset(&sums, 1);
    for (int i = 0; i < 100000; i++) {
        const double value = 0.1;
        lyap_pairwise_push(&sums, &value);
    }
    double total;
    lyap_pairwise_total(&sums, &total);
    test_close(total, 10000, 1e-15);
}
END_TEST

START_TEST(nonfinite_and_huge_elements_are_counted_and_skipped)
{
    double values[128] = { 1, NAN, -2, INFINITY, 0, -INFINITY, 0x1p481, -0x1p1000, 0x1p480 };
    struct lyap_moment_sums sums = { 0 };
    const uint64_t nonfinite = lyap_moment_chunk(lyap_kernels_best(), values, 70, &sums);
    ck_assert_uint_eq(nonfinite, 5);
    ck_assert_uint_eq(sums.zeros, 70 - 5 - 3); /* 1, -2 and 2^480 are not */
    ck_assert(sums.sq == 0x1p960 && isfinite(lyap_lanes_total(&sums.abs)));
    ck_assert(values[1] == 0 && values[7] == 0 && values[2] == -2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("moments");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, moments_match_obvious_loops);
    tcase_add_test(tcase, variants_agree_to_the_last_bit);
    tcase_add_test(tcase, products_match_obvious_loops);
    tcase_add_test(tcase, pairwise_sum_is_accurate);
    tcase_add_test(tcase, nonfinite_and_huge_elements_are_counted_and_skipped);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
