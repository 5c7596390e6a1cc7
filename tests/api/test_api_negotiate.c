/* Accept, Content-Type, Prefer, entity tags and cursors. */
#include "negotiate.h"

#include <string.h>

#include "support.h"

START_TEST(test_accept)
{
    static const char offered[] = "application/json,application/x-ndjson,text/csv";
    static const struct {
        const char *accept;
        int chosen;
    } cases[] = {
        { NULL, 0 },
        { "", 0 },
        { "*/*", 0 },
        { "text/*", 2 },
        { "TEXT/CSV", 2 },
        { "application/*", 0 },
        { "application/x-ndjson, application/json;q=0.5", 1 },
        { "application/json;q=0.2, */*;q=0.1", 0 },
        { "application/json;q=0, */*", 1 },
        { "text/csv;header=present;q=0.9,application/json;q=0.8", 2 },
        { "text/csv ; q=0.001", 2 },
        { "text/html", -1 },
        { "application/json;q=0", -1 },
        { "text", -1 },
        { "/*", -1 },
        { ",;q=,", -1 },
        { "text/csvx", -1 },
        { "text/csv;q=", 2 },
        { "text/csv;q", 2 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(api_accept_choose(cases[i].accept, offered) == cases[i].chosen, "%s",
                      cases[i].accept);
}
END_TEST

START_TEST(test_content_type)
{
    ck_assert(api_content_type_is("application/json", "application/json"));
    ck_assert(api_content_type_is(" Application/JSON ; charset=utf-8", "application/json"));
    ck_assert(!api_content_type_is("application/jsonx", "application/json"));
    ck_assert(!api_content_type_is("", "application/json"));
    ck_assert(!api_content_type_is(NULL, "application/json"));
}
END_TEST

START_TEST(test_prefer)
{
    ck_assert(api_prefer_minimal("return=minimal"));
    ck_assert(api_prefer_minimal("respond-async, Return=\"minimal\"; x=y"));
    ck_assert(!api_prefer_minimal("return=representation"));
    ck_assert(!api_prefer_minimal("return=minimalist"));
    ck_assert(!api_prefer_minimal(NULL));
}
END_TEST

START_TEST(test_etag)
{
    ck_assert(api_etag_matches("\"a\"", "\"a\""));
    ck_assert(api_etag_matches("\"b\" , W/\"a\"", "\"a\""));
    ck_assert(api_etag_matches("*", "\"a\""));
    ck_assert(!api_etag_matches("\"ab\"", "\"a\""));
    ck_assert(!api_etag_matches("a", "\"a\""));
    ck_assert(!api_etag_matches("W/", "\"a\""));
    ck_assert(!api_etag_matches(NULL, "\"a\""));
}
END_TEST

START_TEST(test_cursor_round_trip)
{
    static const struct api_cursor cursors[] = { { 'p', 0, -1 },
                                                 { 'r', 1, 0 },
                                                 { 'p', UINT32_MAX, (INT64_C(1) << 53) - 1 },
                                                 { 'e', 12, 999999999999999999 } };
    for (size_t i = 0; i < sizeof cursors / sizeof *cursors; i++) {
        char text[API_CURSOR_BYTES];
        struct api_cursor back;
        api_cursor_format(&cursors[i], text);
        ck_assert_int_eq(api_cursor_parse(text, cursors[i].table, &back, NULL), LYAP_OK);
        ck_assert_int_eq(back.after, cursors[i].after);
        ck_assert_uint_eq(back.attempt, cursors[i].attempt);
        ck_assert_int_eq(api_cursor_parse(text, 'x', &back, NULL), LYAP_E_INVALID);
    }
}
END_TEST

/* Every text that differs from a cursor in one character is refused, or reads back as it is. */
START_TEST(test_cursor_has_one_spelling)
{
    char text[API_CURSOR_BYTES], again[API_CURSOR_BYTES];
    api_cursor_format(&(struct api_cursor){ 'p', 3, 77 }, text);
    for (char *at = text; *at; at++) {
        const char kept = *at;
        for (int c = 1; c < 256; c++) {
            struct api_cursor back;
            *at = (char)c;
            if (api_cursor_parse(text, 'p', &back, NULL) != LYAP_OK)
                continue;
            api_cursor_format(&back, again);
            ck_assert_str_eq(again, text);
        }
        *at = kept;
    }
    struct lyap_error error = LYAP_ERROR_NULL;
    struct api_cursor cursor;
    ck_assert_int_eq(api_cursor_parse("", 'p', &cursor, &error), LYAP_E_INVALID);
    ck_assert_ptr_nonnull(strstr(error.text, "cursor"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api_negotiate");
    TCase *tests = tcase_create("negotiate");
    tcase_add_test(tests, test_accept);
    tcase_add_test(tests, test_content_type);
    tcase_add_test(tests, test_prefer);
    tcase_add_test(tests, test_etag);
    tcase_add_test(tests, test_cursor_round_trip);
    tcase_add_test(tests, test_cursor_has_one_spelling);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
