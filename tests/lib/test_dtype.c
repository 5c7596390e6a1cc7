/* Element types: every half and bfloat16, sampled floats, against an independent decoding. */
#include "support.h"

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "lyap/dtype.h"

/* By the definition of the format: sign, exponent and fraction as integers, then ldexp. */
static double decoded(uint64_t pattern, int exponent_bits, int fraction_bits)
{
    const uint64_t fraction = pattern & ((UINT64_C(1) << fraction_bits) - 1);
    const int exponent = (int)((pattern >> fraction_bits) & ((UINT64_C(1) << exponent_bits) - 1));
    const int top = (1 << exponent_bits) - 1, bias = top / 2;
    const double sign = (pattern >> (exponent_bits + fraction_bits)) & 1 ? -1.0 : 1.0;
    if (exponent == top)
        return fraction ? NAN : sign * INFINITY;
    const double significand = (double)fraction + (exponent ? ldexp(1.0, fraction_bits) : 0.0);
    return sign * ldexp(significand, (exponent ? exponent : 1) - bias - fraction_bits);
}

static void check_same(double value, double expected, unsigned long long pattern)
{
    if (isnan(expected))
        ck_assert_msg(isnan(value), "pattern %llx is %g, expected NaN", pattern, value);
    else
        ck_assert_msg(value == expected && signbit(value) == signbit(expected),
                      "pattern %llx is %.17g, expected %.17g", pattern, value, expected);
}

static void check_all_halves(enum lyap_dtype dtype, int exponent_bits, int fraction_bits)
{
    static uint16_t patterns[65536 + 1];
    static double values[65536];
    unsigned char *unaligned = (unsigned char *)patterns + 1;
    for (unsigned i = 0; i < 65536; i++) {
        const uint16_t pattern = (uint16_t)i;
        memcpy(unaligned + 2 * i, &pattern, 2);
    }
    for (unsigned v = 0; lyap_kernels_variant(v); v++) {
        lyap_kernels_variant(v)->widen[dtype](unaligned, 65536, values);
        for (unsigned i = 0; i < 65536; i++)
            check_same(values[i], decoded(i, exponent_bits, fraction_bits), i);
    }
}

START_TEST(every_half)
{
    check_all_halves(LYAP_DTYPE_F16, 5, 10);
}
END_TEST

START_TEST(every_bfloat16)
{
    check_all_halves(LYAP_DTYPE_BF16, 8, 7);
}
END_TEST

START_TEST(sampled_floats)
{
    static const uint32_t special[] = {
        0,          0x80000000, 1,          0x007fffff, 0x00800000,
        0x7f7fffff, 0x7f800000, 0xff800000, 0x7f800001, 0x7fc00000
    };
    struct test_rng rng = { 5 };
    for (unsigned i = 0; i < 100000; i++) {
        const uint32_t pattern =
            i < sizeof special / sizeof *special ? special[i] : (uint32_t)test_rng_u64(&rng);
        double value;
        lyap_dtype_widen(LYAP_DTYPE_F32, &pattern, 1, &value);
        check_same(value, decoded(pattern, 8, 23), pattern);
    }
}
END_TEST

START_TEST(doubles_are_copied)
{
    const double source[] = { 0.1, -0.0, 5e-324, 1.7e308, INFINITY, NAN };
    double values[6];
    unsigned char unaligned[sizeof source + 1];
    memcpy(unaligned + 1, source, sizeof source);
    lyap_dtype_widen(LYAP_DTYPE_F64, unaligned + 1, 6, values);
    ck_assert_mem_eq(values, source, sizeof source);
}
END_TEST

START_TEST(names_and_sizes)
{
    enum lyap_dtype dtype = LYAP_DTYPE_COUNT;
    ck_assert(lyap_dtype_parse("BF16 ", 4, &dtype) && dtype == LYAP_DTYPE_BF16);
    ck_assert(!lyap_dtype_parse("BF1", 3, &dtype) && !lyap_dtype_parse("f32", 3, &dtype));
    ck_assert_str_eq(lyap_dtype_name(LYAP_DTYPE_F16), "F16");
    ck_assert_str_eq(lyap_dtype_name(LYAP_DTYPE_COUNT), "unknown");
    ck_assert_uint_eq(lyap_dtype_bytes(LYAP_DTYPE_F64), 8);
    ck_assert_uint_eq(lyap_dtype_bytes(LYAP_DTYPE_F16), 2);
    /* u is half the gap above 1: 1 + 2u is the next value. */
    ck_assert(lyap_dtype_unit_roundoff(LYAP_DTYPE_F32) == 0x1p-24);
    ck_assert(lyap_dtype_unit_roundoff(LYAP_DTYPE_BF16) == 0x1p-8);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dtype");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, every_half);
    tcase_add_test(tcase, every_bfloat16);
    tcase_add_test(tcase, sampled_floats);
    tcase_add_test(tcase, doubles_are_copied);
    tcase_add_test(tcase, names_and_sizes);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
