/* Numbers, times and quotes of wire text. */
#include "lyap/text.h"

#include <locale.h>
#include <math.h>
#include <string.h>

#include "support.h"

static bool parse(const char *text, double *ret)
{
    return lyap_text_double(text, strlen(text), ret);
}

static const struct {
    const char *text;
    double value;
} numbers[] = {
    { "0", 0 },        { "-0.5", -0.5 },     { "3e-4", 3e-4 },
    { "1e-05", 1e-5 }, { "+2.5E+3", 2500 },  { ".25", 0.25 },
    { "7.", 7 },       { "5e-324", 5e-324 }, { "1.7976931348623157e308", 1.7976931348623157e308 },
    { "1e-400", 0 },
};

START_TEST(double_reads_decimals)
{
    double value = NAN;
    ck_assert(parse(numbers[_i].text, &value));
    ck_assert(value == numbers[_i].value);
}
END_TEST

START_TEST(double_reads_what_is_not_finite)
{
    double value = 0;
    ck_assert(parse("NaN", &value) && isnan(value));
    ck_assert(parse("nan", &value) && isnan(value));
    ck_assert(parse("-Infinity", &value) && value == -INFINITY);
    ck_assert(parse("+inf", &value) && value == INFINITY);
    ck_assert(parse("Infinity", &value) && value == INFINITY);
}
END_TEST

START_TEST(double_refuses_the_rest)
{
    static const char *const wrong[] = { "",    " 1",      "1 ", "0x10", "1e999", "-1e999",
                                         "1,5", "1.2.3",   "e5", "--1",  "1e",    "nanx",
                                         "in",  "infinit", ".",  "+",    "1_000" };
    double value = 42;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(!parse(wrong[i], &value) && value == 42, "%s was read", wrong[i]);
    char digits[1000];
    memset(digits, '1', sizeof digits);
    ck_assert(!lyap_text_double(digits, sizeof digits, &value));
    ck_assert(!lyap_text_double("1\0002", 3, &value)); /* a NUL is no digit */
}
END_TEST

/* Every F64 survives being written and read. */
START_TEST(double_round_trips)
{
    struct test_rng rng = { 11 };
    for (int i = 0; i < 20000; i++) {
        const uint64_t bits = test_rng_u64(&rng);
        double value, back;
        memcpy(&value, &bits, sizeof value);
        struct lyap_quote quote;
        const char *text = lyap_quote_double(value, &quote);
        ck_assert_msg(parse(text, &back), "%s", text);
        ck_assert(isnan(value) ? isnan(back) : back == value);
    }
    struct lyap_quote quote;
    ck_assert_str_eq(lyap_quote_double(0.1, &quote), "0.1");
    ck_assert_str_eq(lyap_quote_double(7, &quote), "7");
    ck_assert_str_eq(lyap_quote_double(-INFINITY, &quote), "-Infinity");
}
END_TEST

START_TEST(double_ignores_the_locale)
{
    static const char *const names[] = { "de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "C" };
    size_t i = 0;
    while (!setlocale(LC_NUMERIC, names[i]))
        i++;
    double value = 0;
    struct lyap_quote quote;
    ck_assert(parse("2.5", &value) && value == 2.5);
    ck_assert(!parse("2,5", &value));
    ck_assert_str_eq(lyap_quote_double(2.5, &quote), "2.5");
    setlocale(LC_NUMERIC, "C");
}
END_TEST

START_TEST(integer_saturates)
{
    int64_t value = 0;
    ck_assert(lyap_text_integer("-42", 3, &value) && value == -42);
    ck_assert(lyap_text_integer("9223372036854775807", 19, &value) && value == INT64_MAX);
    ck_assert(lyap_text_integer("99999999999999999999999", 23, &value) && value == INT64_MAX);
    ck_assert(lyap_text_integer("-99999999999999999999999", 24, &value) && value == -INT64_MAX);
    ck_assert(!lyap_text_integer("", 0, &value));
    ck_assert(!lyap_text_integer("-", 1, &value));
    ck_assert(!lyap_text_integer("1.0", 3, &value));
    ck_assert(!lyap_text_integer("1 ", 2, &value));
}
END_TEST

static const struct {
    const char *text;
    int64_t ns;
} times[] = {
    { "1970-01-01T00:00:00Z", 0 },
    { "2026-11-23T17:00:00Z", INT64_C(1795453200000000000) },
    { "2026-11-23T17:00:00.25Z", INT64_C(1795453200250000000) },
    { "2026-11-23T18:30:00.123456+01:30", INT64_C(1795453200123456000) },
    { "2026-11-23 12:00:00-05:00", INT64_C(1795453200000000000) },
    { "2024-02-29T00:00:00Z", INT64_C(1709164800000000000) },
    { "2000-03-01T00:00:00Z", INT64_C(951868800000000000) },
    { "2016-12-31T23:59:60Z", INT64_C(1483228800000000000) },
    { "1795453200", INT64_C(1795453200000000000) },
    { "1795453200.5", INT64_C(1795453200500000000) },
    { "0.1234567899", 123456789 },
};

START_TEST(time_is_read)
{
    int64_t ns = -1;
    ck_assert(lyap_text_time(times[_i].text, strlen(times[_i].text), &ns));
    ck_assert_int_eq(ns, times[_i].ns);
}
END_TEST

START_TEST(time_refuses_the_rest)
{
    static const char *const wrong[] = { "",
                                         "2026-11-23T17:00:00",
                                         "2026-11-23",
                                         "2023-02-29T00:00:00Z",
                                         "2100-02-29T00:00:00Z",
                                         "2026-13-01T00:00:00Z",
                                         "2026-00-01T00:00:00Z",
                                         "2026-01-32T00:00:00Z",
                                         "2026-01-01T24:00:00Z",
                                         "2026-01-01T00:60:00Z",
                                         "2026-01-01T00:00:00.Z",
                                         "2026-01-01T00:00:00Zx",
                                         "2026-01-01T00:00:00+1:00",
                                         "2026-1-1T00:00:00Z",
                                         "1969-12-31T23:59:59Z",
                                         "9999-01-01T00:00:00Z",
                                         "-5",
                                         "1e9",
                                         "12.",
                                         "99999999999999",
                                         "yesterday" };
    int64_t ns = 7;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(!lyap_text_time(wrong[i], strlen(wrong[i]), &ns), "%s was read", wrong[i]);
}
END_TEST

START_TEST(utf8_is_told_from_the_rest)
{
    static const char *const good[] = { "",
                                        "abc",
                                        "\xC3\xA9",
                                        "\xE2\x82\xAC",
                                        "\xF0\x9F\x98\x80",
                                        "\xED\x9F\xBF",
                                        "\xF4\x8F\xBF\xBF" };
    static const char *const bad[] = { "\x80",
                                       "\xC3",
                                       "\xC0\xAF",
                                       "\xE0\x80\xAF",
                                       "\xED\xA0\x80",
                                       "\xF4\x90\x80\x80",
                                       "\xF8\x88\x80\x80\x80",
                                       "a\xFF",
                                       "\xE2\x82" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert(lyap_text_is_utf8(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!lyap_text_is_utf8(bad[i], strlen(bad[i])), "case %zu", i);
}
END_TEST

START_TEST(quotes_are_short_and_plain)
{
    struct lyap_quote quote;
    char text[500];
    memset(text, 'a', sizeof text);
    ck_assert_str_eq(lyap_quote("a\"b\n\xC3\xA9", 6, &quote), "\"a?b???\"");
    const char *cut = lyap_quote(text, sizeof text, &quote);
    ck_assert_uint_lt(strlen(cut), LYAP_QUOTE_BYTES);
    ck_assert_str_eq(cut + strlen(cut) - 5, "a...\"");
    /* The longest text that is shown whole, and the shortest that is cut. */
    for (size_t length = 50; length < 80; length++)
        ck_assert_uint_lt(strlen(lyap_quote(text, length, &quote)), LYAP_QUOTE_BYTES);

    const uint64_t shape[] = { 2, 3 };
    ck_assert_str_eq(lyap_quote_shape(shape, 2, &quote), "[2,3]");
    ck_assert_str_eq(lyap_quote_shape(shape, 0, &quote), "[]");
    const uint64_t huge[] = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };
    const char *huge_text = lyap_quote_shape(huge, 5, &quote);
    ck_assert_uint_lt(strlen(huge_text), LYAP_QUOTE_BYTES);
    ck_assert_ptr_nonnull(strstr(huge_text, "...]"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("text");
    TCase *tcase = tcase_create("text");
    tcase_add_loop_test(tcase, double_reads_decimals, 0, sizeof numbers / sizeof *numbers);
    tcase_add_test(tcase, double_reads_what_is_not_finite);
    tcase_add_test(tcase, double_refuses_the_rest);
    tcase_add_test(tcase, double_round_trips);
    tcase_add_test(tcase, double_ignores_the_locale);
    tcase_add_test(tcase, integer_saturates);
    tcase_add_loop_test(tcase, time_is_read, 0, sizeof times / sizeof *times);
    tcase_add_test(tcase, time_refuses_the_rest);
    tcase_add_test(tcase, utf8_is_told_from_the_rest);
    tcase_add_test(tcase, quotes_are_short_and_plain);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
