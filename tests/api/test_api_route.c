/* The tables of routes and of problems, their documentation, and tokens. */
#include "route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "problem.h"
#include "support.h"

static char path_buffer[512], query_buffer[512];

static enum lyap_status match(const char *method, const char *path, const char *query,
                              struct api_request *ret_request, struct api_match *ret_buffers)
{
    (void)snprintf(path_buffer, sizeof path_buffer, "%s", path);
    (void)snprintf(query_buffer, sizeof query_buffer, "%s", query ? query : "");
    *ret_request = (struct api_request){ 0 };
    *ret_buffers = (struct api_match){ .path = path_buffer, .query = query ? query_buffer : NULL };
    return api_route_match(method, ret_buffers, ret_request, NULL);
}

/* The path of a row with each {name} replaced by a word. */
static void fill(const char *pattern, char *ret)
{
    for (; *pattern; pattern++) {
        if (*pattern == '{') {
            *ret++ = 'x';
            pattern = strchr(pattern, '}');
        } else {
            *ret++ = *pattern;
        }
    }
    *ret = '\0';
}

START_TEST(test_every_row_matches_itself)
{
    const struct api_route *route;
    struct api_request request;
    struct api_match buffers;
    char path[256];
    for (uint32_t i = 0; (route = api_route_at(i)); i++) {
        fill(route->path, path);
        ck_assert_int_eq(match(api_method_name(route->method), path, NULL, &request, &buffers),
                         LYAP_OK);
        ck_assert_ptr_eq(request.route, route);
        ck_assert(route->handler || route->flags & (API_ROUTE_INGEST | API_ROUTE_PENDING));
        ck_assert(route->description[0] && route->path[0] == '/');
        const struct api_param *param;
        for (const char *cursor = route->params; api_route_next_param(&cursor, &param);)
            ck_assert(param->description[0]);
    }
}
END_TEST

START_TEST(test_arguments_are_decoded)
{
    struct api_request request;
    struct api_match buffers;
    ck_assert_int_eq(
        match("GET", "/v1/runs/a%2fb%25/profile", "metric=%61&label=a+b%2B&x", &request, &buffers),
        LYAP_OK);
    ck_assert_str_eq(request.path_args[0], "a/b%");
    ck_assert_str_eq(api_query_get(&request, "metric"), "a");
    ck_assert_str_eq(api_query_get(&request, "label"), "a b+");
    ck_assert_str_eq(api_query_get(&request, "x"), "");
    ck_assert_ptr_null(api_query_get(&request, "y"));
}
END_TEST

START_TEST(test_methods)
{
    struct api_request request;
    struct api_match buffers;
    ck_assert_int_eq(match("HEAD", "/v1/runs/a", NULL, &request, &buffers), LYAP_OK);
    ck_assert_int_eq(request.route->method, API_GET);
    ck_assert_int_eq(match("PATCH", "/v1/runs/a", NULL, &request, &buffers), LYAP_E_METHOD);
    ck_assert_str_eq(buffers.allow, "PUT, GET, HEAD, DELETE");
    ck_assert_int_eq(match("HEAD", "/v1/runs/a/snapshots", NULL, &request, &buffers),
                     LYAP_E_METHOD);
    ck_assert_str_eq(buffers.allow, "POST");
    ck_assert_int_eq(match("get", "/healthz", NULL, &request, &buffers), LYAP_E_METHOD);
}
END_TEST

START_TEST(test_bad_paths)
{
    static const char *const unknown[] = { "",
                                           "x",
                                           "*",
                                           "/v1",
                                           "/v1/",
                                           "//healthz",
                                           "/healthz/",
                                           "/v1/runs//profile",
                                           "/healthzz",
                                           "/health",
                                           "/v1/runs/a/b",
                                           "/////////////" };
    static const char *const broken[] = { "/v1/runs/%", "/v1/runs/%1", "/v1/runs/%0g",
                                          "/v1/runs/%00" };
    struct api_request request;
    struct api_match buffers;
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        ck_assert_msg(match("GET", unknown[i], NULL, &request, &buffers) == LYAP_E_NOT_FOUND, "%s",
                      unknown[i]);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        ck_assert_msg(match("GET", broken[i], NULL, &request, &buffers) == LYAP_E_FORMAT, "%s",
                      broken[i]);
}
END_TEST

START_TEST(test_integers)
{
    static const struct {
        const char *text;
        int64_t value; /* -9: refused */
    } cases[] = { { "limit=7", 7 },   { "limit=-5", -5 },  { "limit=-6", -9 },
                  { "limit=11", -9 }, { "limit=", -9 },    { "limit=1x", -9 },
                  { "limit=+1", -9 }, { "limit=0x1", -9 }, { "limit=--1", -9 },
                  { "limit=-", -9 },  { "other=1", 3 },    { "limit=9223372036854775808", -9 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct api_request request;
        struct api_match buffers;
        int64_t value = 0;
        ck_assert_int_eq(match("GET", "/v1/runs", cases[i].text, &request, &buffers), LYAP_OK);
        const struct api_range range = { -5, 10, 3 };
        const enum lyap_status status = api_query_int(&request, "limit", range, &value, NULL);
        ck_assert_msg(status == (cases[i].value == -9 ? LYAP_E_INVALID : LYAP_OK), "%s",
                      cases[i].text);
        if (status == LYAP_OK)
            ck_assert_int_eq(value, cases[i].value);
    }
}
END_TEST

/* ---- problems and documentation ---- */

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s", path);
    char *content = calloc(1, 1 << 20);
    ck_assert_ptr_nonnull(content);
    ck_assert_uint_lt(fread(content, 1, (1 << 20) - 1, file), (1 << 20) - 1);
    fclose(file);
    return content;
}

START_TEST(test_every_status_has_a_row)
{
    for (int i = LYAP_OK + 1; i < LYAP_STATUS_COUNT; i++) {
        const struct api_problem_info info = api_problem_info((enum lyap_status)i);
        ck_assert_msg(info.http_status >= 400 && info.http_status < 600, "%s",
                      lyap_status_slug((enum lyap_status)i));
        ck_assert_int_eq(info.retry_after_s > 0,
                         info.http_status == 503 || info.http_status == 507);
    }
    ck_assert_uint_eq(api_problem_info(LYAP_STATUS_COUNT).http_status, 500);
    ck_assert_uint_eq(api_problem_info((enum lyap_status) - 1).http_status, 500);
}
END_TEST

START_TEST(test_the_manual_has_every_route_and_error)
{
    char *manual = read_file("docs/api.md");
    char line[256];
    const struct api_route *route;
    for (uint32_t i = 0; (route = api_route_at(i)); i++) {
        (void)snprintf(line, sizeof line, "`%s %s`", api_method_name(route->method), route->path);
        ck_assert_msg(strstr(manual, line) != NULL, "docs/api.md lacks %s", line);
    }
    for (int i = LYAP_OK + 1; i < LYAP_STATUS_COUNT; i++) {
        const enum lyap_status status = (enum lyap_status)i;
        (void)snprintf(line, sizeof line, "| %u | `%s` | %s |",
                       api_problem_info(status).http_status, lyap_status_slug(status),
                       lyap_status_text(status));
        ck_assert_msg(strstr(manual, line) != NULL, "docs/api.md lacks %s", line);
    }
    free(manual);
}
END_TEST

/* ---- tokens ---- */

/* SHA-256 of "secret" and of "admin". */
#define SECRET "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
#define ADMIN  "8c6976e5b5410415bde908bd4dee15dfb167a9c873fc4bb8a81f6f2ab448a918"

static enum lyap_status load(const char *content, struct api_tokens **ret_tokens)
{
    char path[] = "/tmp/lyap_tokens_XXXXXX";
    const int handle = mkstemp(path);
    ck_assert_int_ge(handle, 0);
    ck_assert_int_eq((int)write(handle, content, strlen(content)), (int)strlen(content));
    close(handle);
    const enum lyap_status status = api_tokens_load(path, ret_tokens, NULL);
    unlink(path);
    return status;
}

START_TEST(test_tokens)
{
    struct api_tokens *tokens = NULL;
    ck_assert_int_eq(
        load("# people\n\nread,push " SECRET " job # a comment\nadmin\t" ADMIN, &tokens), LYAP_OK);
    static const struct {
        const char *header;
        enum api_scope scope;
        enum lyap_status status;
    } cases[] = {
        { NULL, API_SCOPE_NONE, LYAP_OK },
        { NULL, API_SCOPE_READ, LYAP_E_UNAUTHORIZED },
        { "Bearer secret", API_SCOPE_READ, LYAP_OK },
        { "bearer  secret", API_SCOPE_PUSH, LYAP_OK },
        { "Bearer secret", API_SCOPE_ADMIN, LYAP_E_FORBIDDEN },
        { "Bearer admin", API_SCOPE_PUSH, LYAP_OK },
        { "Bearer admin", API_SCOPE_ADMIN, LYAP_OK },
        { "Bearer secre", API_SCOPE_READ, LYAP_E_UNAUTHORIZED },
        { "Bearer secret ", API_SCOPE_READ, LYAP_E_UNAUTHORIZED },
        { "Bearer " SECRET, API_SCOPE_READ, LYAP_E_UNAUTHORIZED },
        { "Bearer ", API_SCOPE_READ, LYAP_E_UNAUTHORIZED },
        { "Basic secret", API_SCOPE_READ, LYAP_E_UNAUTHORIZED },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(api_tokens_check(tokens, cases[i].header, cases[i].scope, NULL) ==
                          cases[i].status,
                      "%zu: %s", i, cases[i].header);
    api_tokens_free(tokens);
}
END_TEST

START_TEST(test_bad_token_files)
{
    static const char *const files[] = { "",
                                         "# none\n",
                                         "read\n",
                                         "read abc\n",
                                         "write " SECRET "\n",
                                         "none " SECRET "\n",
                                         ", " SECRET "\n",
                                         "read " SECRET "0\n",
                                         SECRET " read\n" };
    struct api_tokens *tokens = NULL;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        ck_assert_msg(load(files[i], &tokens) == LYAP_E_INVALID, "%s", files[i]);
    struct lyap_error error = LYAP_ERROR_NULL;
    ck_assert_int_eq(api_tokens_load("/nonexistent/tokens", &tokens, &error), LYAP_E_IO);
    ck_assert_ptr_nonnull(strstr(error.text, "/nonexistent/tokens"));
    ck_assert_ptr_null(tokens);
}
END_TEST

START_TEST(test_loopback_hosts)
{
    static const char *const yes[] = { "localhost",  "LocalHost:9470", "127.0.0.1", "127.1.2.3:80",
                                       "[::1]:9470", "[::1]",          "::1" };
    static const char *const no[] = { "",
                                      "example.org",
                                      "localhost.example.org",
                                      "10.0.0.1",
                                      "127.example.org",
                                      "[::2]:1",
                                      "::11",
                                      "127.",
                                      "localhos" };
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        ck_assert_msg(api_host_is_loopback(yes[i]), "%s", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        ck_assert_msg(!api_host_is_loopback(no[i]), "%s", no[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api_route");
    TCase *tests = tcase_create("route");
    tcase_add_test(tests, test_every_row_matches_itself);
    tcase_add_test(tests, test_arguments_are_decoded);
    tcase_add_test(tests, test_methods);
    tcase_add_test(tests, test_bad_paths);
    tcase_add_test(tests, test_integers);
    tcase_add_test(tests, test_every_status_has_a_row);
    tcase_add_test(tests, test_the_manual_has_every_route_and_error);
    tcase_add_test(tests, test_tokens);
    tcase_add_test(tests, test_bad_token_files);
    tcase_add_test(tests, test_loopback_hosts);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
