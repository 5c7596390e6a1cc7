/* Matcher, query string, cursor and header readers under arbitrary bytes. The first byte chooses
 * the method, the first line is path and query, the rest a header value. */
#include <stdlib.h>
#include <string.h>

#include "negotiate.h"
#include "problem.h"
#include "route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_header(const char *value)
{
    struct api_cursor cursor;
    const int chosen = api_accept_choose(value, "application/json,application/x-ndjson,text/csv");
    if (chosen < -1 || chosen > 2)
        abort();
    (void)api_content_type_is(value, "application/json");
    (void)api_prefer_minimal(value);
    (void)api_etag_matches(value, "\"0123\"");
    if (api_cursor_parse(value, 'p', &cursor, NULL) == LYAP_OK && cursor.after < -1)
        abort();
}

static void encode(const char *value)
{
    struct api_text text;
    api_text_init(&text, 1 << 20);
    api_problem_encode(&text, LYAP_E_INVALID, NULL, value, 1);
    api_text_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const methods[] = { "GET", "HEAD", "PUT", "POST", "DELETE", "BREW" };
    if (size == 0)
        return 0;
    char *text = malloc(size);
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    char *value = strchr(text, '\n');
    if (value)
        *value++ = '\0';
    char *query = strchr(text, '?');
    if (query)
        *query++ = '\0';
    struct api_request request = { 0 };
    struct api_match buffers = { .path = text, .query = query };
    struct lyap_error error = LYAP_ERROR_NULL;
    const struct api_range range = { 1, 1000, 100 };
    int64_t limit;
    if (api_route_match(methods[data[0] % 6], &buffers, &request, &error) == LYAP_OK &&
        api_route_check_query(&request, &error) == LYAP_OK &&
        api_query_int(&request, "limit", range, &limit, &error) == LYAP_OK &&
        (limit < 1 || limit > 1000))
        abort();
    if (value) {
        read_header(value);
        encode(value);
    }
    free(text);
    return 0;
}
