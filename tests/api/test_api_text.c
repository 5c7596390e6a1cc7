/* The text buffer, the JSON writer, numbers and times. */
#include "text.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

static struct api_text text;

static void setup(void)
{
    api_text_init(&text, 1 << 20);
}

static void teardown(void)
{
    api_text_release(&text);
}

static void expect(const char *wanted)
{
    ck_assert_int_eq(text.status, LYAP_OK);
    ck_assert_msg(text.length == strlen(wanted) && memcmp(text.bytes, wanted, text.length) == 0,
                  "%.*s, expected %s", (int)text.length, text.bytes, wanted);
}

START_TEST(test_commas_come_by_themselves)
{
    api_json_open(&text, '{');
    api_json_key(&text, "a");
    api_json_open(&text, '[');
    api_json_int(&text, -1);
    api_json_string(&text, "{");
    api_json_string(&text, "x,");
    api_json_null(&text);
    api_json_close(&text, ']');
    api_json_key(&text, "b");
    api_json_open(&text, '{');
    api_json_close(&text, '}');
    api_json_key(&text, "c");
    api_json_bool(&text, true);
    api_json_key(&text, "d");
    api_json_raw(&text, NULL);
    api_json_close(&text, '}');
    expect("{\"a\":[-1,\"{\",\"x,\",null],\"b\":{},\"c\":true,\"d\":null}");
}
END_TEST

START_TEST(test_commas_survive_a_cut)
{
    api_json_open(&text, '[');
    api_json_int(&text, 1);
    api_text_clear(&text);
    api_json_int(&text, 2);
    expect(",2");
}
END_TEST

START_TEST(test_strings_are_escaped)
{
    api_json_string(&text, "\"\\\b\f\n\r\t\x01\x7F");
    expect("\"\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u007f\"");
}
END_TEST

START_TEST(test_only_utf8_passes)
{
    /* valid: 2, 3 and 4 bytes; then overlong, surrogate, above U+10FFFF, lone bytes, cut off */
    api_json_string(&text, "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80");
    api_json_string(&text, "\xC0\xAF"
                           "a"
                           "\xED\xA0\x80"
                           "\xF4\x90\x80\x80"
                           "\xFF"
                           "\xE2\x82");
    const char *bad = "\xEF\xBF\xBD";
    char wanted[200] = "\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\",\"";
    size_t length = strlen(wanted);
    for (int i = 0; i < 2; i++)
        length += (size_t)snprintf(wanted + length, sizeof wanted - length, "%s", bad);
    length += (size_t)snprintf(wanted + length, sizeof wanted - length, "a");
    for (int i = 0; i < 3 + 4 + 1 + 2; i++)
        length += (size_t)snprintf(wanted + length, sizeof wanted - length, "%s", bad);
    (void)snprintf(wanted + length, sizeof wanted - length, "\"");
    expect(wanted);
}
END_TEST

START_TEST(test_the_limit_sticks)
{
    api_text_release(&text);
    api_text_init(&text, 10);
    api_text_puts(&text, "12345678");
    api_text_puts(&text, "901");
    ck_assert_int_eq(text.status, LYAP_E_LIMIT);
    api_text_puts(&text, "9");
    ck_assert_uint_eq(text.length, 8);
}
END_TEST

START_TEST(test_numbers_read_back)
{
    static const double values[] = {
        0,       1,        -1,      0.1,    1e15,     123456789012345,
        1e300,   DBL_MAX,  DBL_MIN, 5e-324, 1.0 / 3,  2.0 / 3,
        1e-7,    -0.0,     3.14159, 1e22,   9e15 + 1, 0.30000000000000004,
        65504.0, 1 - 1e-16
    };
    struct test_rng rng = { 7 };
    char number[API_NUMBER_BYTES];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        api_number_format(values[i], number);
        const double back = strtod(number, NULL);
        ck_assert_msg(back == values[i] && signbit(back) == signbit(values[i]), "%s", number);
    }
    for (int i = 0; i < 20000; i++) {
        double value;
        const uint64_t bits = test_rng_u64(&rng);
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        api_number_format(value, number);
        ck_assert_msg(strtod(number, NULL) == value, "%s is not %.17g", number, value);
    }
}
END_TEST

START_TEST(test_numbers_are_short)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = { { 0.1, "0.1" },    { 1e15 / 8, "125000000000000" },
                  { -0.0, "-0" },    { 3e-4, "0.0003" },
                  { 1e21, "1e+21" }, { 42, "42" } };
    char number[API_NUMBER_BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        api_number_format(cases[i].value, number);
        ck_assert_str_eq(number, cases[i].text);
    }
}
END_TEST

START_TEST(test_non_finite_numbers_are_strings)
{
    api_json_open(&text, '[');
    api_json_number(&text, NAN);
    api_json_number(&text, INFINITY);
    api_json_number(&text, -INFINITY);
    api_json_number(&text, 0.5);
    expect("[\"NaN\",\"Infinity\",\"-Infinity\",0.5");
}
END_TEST

START_TEST(test_times)
{
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        { 0, "1970-01-01T00:00:00Z" },
        { 1700000000000000000, "2023-11-14T22:13:20Z" },
        { 1700000000500000000, "2023-11-14T22:13:20.500Z" },
        { 1700000000000001000, "2023-11-14T22:13:20.000001Z" },
        { 1700000000000000001, "2023-11-14T22:13:20.000000001Z" },
        { -1, "1969-12-31T23:59:59.999999999Z" },
        { INT64_MAX, "2262-04-11T23:47:16.854775807Z" },
    };
    char when[API_TIME_BYTES];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        api_time_format(cases[i].ns, when);
        ck_assert_str_eq(when, cases[i].text);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api_text");
    TCase *tests = tcase_create("text");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_commas_come_by_themselves);
    tcase_add_test(tests, test_commas_survive_a_cut);
    tcase_add_test(tests, test_strings_are_escaped);
    tcase_add_test(tests, test_only_utf8_passes);
    tcase_add_test(tests, test_the_limit_sticks);
    tcase_add_test(tests, test_numbers_read_back);
    tcase_add_test(tests, test_numbers_are_short);
    tcase_add_test(tests, test_non_finite_numbers_are_strings);
    tcase_add_test(tests, test_times);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
