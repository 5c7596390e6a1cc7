/* safetensors: every rule of the format, every way to cut a body. */
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "wire_support.h"

#define META "\"__metadata__\":{\"step\":\"7\"}"
#define ONE(dtype, shape, offsets)                                                                 \
    "{" META ",\"param/w\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets \
    "}}"
#define TENSOR(name, shape, offsets)                                                               \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
    const char *header;
    size_t data_bytes;
    enum lyap_status status;
    const char *fragment;
} broken[] = {
    /* the JSON text */
    { " {}", 0, LYAP_E_FORMAT, "does not begin with '{'" },
    { "[]", 0, LYAP_E_FORMAT, "does not begin with '{'" },
    { "{ ", 0, LYAP_E_FORMAT, "expected a key in double quotes, found the end" },
    { "{\"a\"", 0, LYAP_E_FORMAT, "expected ':' after a key" },
    { "{\"a\":", 0, LYAP_E_FORMAT, "header, \"a\": expected an object, found the end" },
    { "{\"a\":1}", 0, LYAP_E_FORMAT, "header, \"a\": expected an object, found a number" },
    { "{\"a\":null}", 0, LYAP_E_FORMAT, "expected an object, found null" },
    { "{a:{}}", 0, LYAP_E_FORMAT, "a key in double quotes, found no JSON" },
    { "{,}", 0, LYAP_E_FORMAT, "a key in double quotes, found no value" },
    { "{" META ",}", 0, LYAP_E_FORMAT, "a key in double quotes" },
    { "{" META " \"x\":{}}", 0, LYAP_E_FORMAT, "expected ',' or '}'" },
    { "{" META "}{}", 0, LYAP_E_FORMAT, "bytes follow the end of the JSON text" },
    { "{" META "}\n", 0, LYAP_E_FORMAT, "bytes follow the end" },
    { "{\"\\x\":{}}", 0, LYAP_E_FORMAT, "an escape that is not allowed" },
    { "{\"\\u0000\":{}}", 0, LYAP_E_FORMAT, "an escape that is not allowed" },
    { "{\"\\ud800\":{}}", 0, LYAP_E_FORMAT, "an escape that is not allowed" },
    { "{\"\\ud800\\u0041\":{}}", 0, LYAP_E_FORMAT, "an escape that is not allowed" },
    { "{\"\\u12", 0, LYAP_E_FORMAT, "an escape that is not allowed" },
    { "{\"\xFF\":{}}", 0, LYAP_E_FORMAT, "a string is not UTF-8" },
    { "{\"a\tb\":{}}", 0, LYAP_E_FORMAT, "a control character" },
    { "{\"abc", 0, LYAP_E_FORMAT, "a string is not closed" },
    /* an entry */
    { ONE("F32", "[2]", "[0,8]") + 0, 7, LYAP_E_FORMAT, "ends after" },
    { ONE("F8", "[2]", "[0,8]"), 8, LYAP_E_FORMAT,
      "dtype \"F8\" is not supported; F64, F32, F16 and BF16 are" },
    { ONE("I64", "[1]", "[0,8]"), 8, LYAP_E_FORMAT, "F64, F32, F16 and BF16" },
    { ONE("f32", "[2]", "[0,8]"), 8, LYAP_E_FORMAT, "dtype \"f32\"" },
    { ONE("F32", "2", "[0,8]"), 8, LYAP_E_FORMAT, "expected a list, found a number" },
    { ONE("F32", "[-2]", "[0,8]"), 8, LYAP_E_FORMAT, "\"-2\" is not a non-negative integer" },
    { ONE("F32", "[2.0]", "[0,8]"), 8, LYAP_E_FORMAT, "\"2.0\" is not a non-negative integer" },
    { ONE("F32", "[02]", "[0,8]"), 8, LYAP_E_FORMAT, "malformed number" },
    { ONE("F32", "[\"2\"]", "[0,8]"), 8, LYAP_E_FORMAT, "expected a number, found a string" },
    { ONE("F32", "[18446744073709551616]", "[0,8]"), 8, LYAP_E_FORMAT, "does not fit 64 bits" },
    { ONE("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, LYAP_E_FORMAT,
      "more than 8 dimensions, the limit" },
    { ONE("F32", "[4294967296,4294967296]", "[0,0]"), 0, LYAP_E_LIMIT, "more than 2^48 elements" },
    { ONE("F32", "[281474976710657]", "[0,0]"), 0, LYAP_E_LIMIT, "more than 2^48 elements" },
    { ONE("F32", "[4294967296,4294967296,0]", "[0,0]"), 0, LYAP_E_LIMIT, "2^48 elements" },
    { ONE("F32", "[2]", "[0,4]"), 4, LYAP_E_FORMAT,
      "\"param/w\" of shape [2] in F32 needs 8 bytes, but data_offsets give it 4" },
    { ONE("F32", "[2]", "[0,12]"), 12, LYAP_E_FORMAT,
      "needs 8 bytes, but data_offsets give it 12" },
    { ONE("F64", "[]", "[0,4]"), 4, LYAP_E_FORMAT, "of shape [] in F64 needs 8 bytes" },
    { ONE("F32", "[0]", "[0,4]"), 4, LYAP_E_FORMAT, "needs 0 bytes" },
    { ONE("F32", "[2]", "[8,0]"), 8, LYAP_E_FORMAT, "end, 0, before they begin, 8" },
    { ONE("F32", "[2]", "[0]"), 8, LYAP_E_FORMAT, "data_offsets has 1 numbers, not two" },
    { ONE("F32", "[2]", "[]"), 8, LYAP_E_FORMAT, "data_offsets has 0 numbers" },
    { ONE("F32", "[2]", "[0,8,8]"), 8, LYAP_E_FORMAT, "more than two numbers" },
    { ONE("F32", "[2]", "[0,8e0]"), 8, LYAP_E_FORMAT, "\"8e0\" is not a non-negative integer" },
    { "{" META ",\"param/w\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, LYAP_E_FORMAT,
      "\"param/w\": dtype is missing" },
    { "{" META ",\"param/w\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, LYAP_E_FORMAT,
      "shape is missing" },
    { "{" META ",\"param/w\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, LYAP_E_FORMAT,
      "data_offsets is missing" },
    { "{" META ",\"param/w\":{}}", 0, LYAP_E_FORMAT, "dtype is missing" },
    { "{" META ",\"param/w\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, LYAP_E_FORMAT,
      "key \"dtype\" occurs twice" },
    { "{" META ",\"param/w\":{\"dtype\":\"F32\",\"strides\":[1]}}", 0, LYAP_E_FORMAT,
      "unknown key \"strides\"; dtype, shape and data_offsets are known" },
    /* entries among each other */
    { "{" META "," TENSOR("a/w", "[2]", "[0,8]") "," TENSOR("a/w", "[2]", "[8,16]") "}", 16,
      LYAP_E_FORMAT, "tensor \"a/w\" occurs twice" },
    { "{" META "," TENSOR("a/w", "[2]", "[0,8]") "," TENSOR("\\u0061/w", "[2]", "[8,16]") "}", 16,
      LYAP_E_FORMAT, "tensor \"a/w\" occurs twice" },
    { "{" META "," TENSOR("a", "[2]", "[0,8]") "," TENSOR("b", "[2]", "[4,12]") "}", 12,
      LYAP_E_FORMAT, "\"b\" begins at 4, but the tensor before it ends at 8: they overlap" },
    { "{" META "," TENSOR("a", "[2]", "[0,8]") "," TENSOR("b", "[2]", "[0,8]") "}", 8,
      LYAP_E_FORMAT, "they overlap" },
    { "{" META "," TENSOR("a", "[2]", "[0,8]") "," TENSOR("b", "[2]", "[12,20]") "}", 20,
      LYAP_E_FORMAT, "\"b\" begins at 12, but the tensor before it ends at 8: a hole" },
    { "{" META "," TENSOR("a", "[2]", "[4,12]") "}", 12, LYAP_E_FORMAT, "a hole" },
    { "{" META "," TENSOR("a", "[2]", "[0,8]") "," TENSOR("z", "[0]", "[4,4]") "}", 8,
      LYAP_E_FORMAT, "they overlap" },
    /* the body */
    { ONE("F32", "[2]", "[0,8]"), 9, LYAP_E_FORMAT,
      "bytes follow the last tensor; the header describes 8 bytes" },
    { "{" META "}", 1, LYAP_E_FORMAT, "bytes follow the last tensor" },
    { ONE("F32", "[2]", "[0,8]"), 0, LYAP_E_FORMAT, "in tensor data" },
    /* metadata */
    { "{\"__metadata__\":[]}", 0, LYAP_E_FORMAT, "expected an object, found a list" },
    { "{\"__metadata__\":{\"step\":7}}", 0, LYAP_E_FORMAT,
      "\"__metadata__\": expected a string, found a number" },
    { "{" META "," META "}", 0, LYAP_E_FORMAT, "__metadata__ occurs twice" },
    { "{\"__metadata__\":{\"step\":\"7\",\"step\":\"7\"}}", 0, LYAP_E_FORMAT,
      "key \"step\" occurs twice" },
    { "{\"__metadata__\":{\"step\":\"7\",\"x-a\":\"1\",\"x-a\":\"1\"}}", 0, LYAP_E_FORMAT,
      "key \"x-a\" occurs twice" },
    { "{\"__metadata__\":{\"step\":\"7\",\"format\":\"pt\"}}", 0, LYAP_E_UNKNOWN_FIELD,
      "\"format\" is not a key of a snapshot" },
    { "{\"__metadata__\":{\"step\":\"-1\"}}", 0, LYAP_E_INVALID, "step is \"-1\"" },
    { "{\"__metadata__\":{}}", 0, LYAP_E_MISSING_FIELD, "step is required" },
    { "{}", 0, LYAP_E_MISSING_FIELD, "step is required" },
    { "{\"__metadata__\":{\"step\":\"7\",\"rank\":\"2\",\"world\":\"2\"}}", 0, LYAP_E_INVALID,
      "rank is 2, but must be below world, 2" },
#define SHARD(json) "{\"__metadata__\":{\"step\":\"7\",\"shard\":\"" json "\"}}"
    { SHARD("{"), 0, LYAP_E_FORMAT, "shard: expected a key" },
    { SHARD("7"), 0, LYAP_E_FORMAT, "shard: expected an object" },
    { SHARD("{\\\"w\\\":{}}"), 0, LYAP_E_FORMAT,
      "shard, \"w\": a shard has shape, and either offset or start" },
    { SHARD("{\\\"w\\\":{\\\"shape\\\":[2],\\\"offset\\\":0,\\\"start\\\":[0]}}"), 0, LYAP_E_FORMAT,
      "either offset or start" },
    { SHARD("{\\\"w\\\":{\\\"shape\\\":[2],\\\"start\\\":[0,0]}}"), 0, LYAP_E_FORMAT,
      "start has 2 numbers, shape 1" },
    { SHARD("{\\\"w\\\":{\\\"shape\\\":[2],\\\"offset\\\":-1}}"), 0, LYAP_E_FORMAT,
      "non-negative integer" },
    { SHARD("{\\\"w\\\":{\\\"size\\\":[2]}}"), 0, LYAP_E_FORMAT, "unknown key \"size\"" },
    { SHARD("{\\\"w\\\":{\\\"shape\\\":[2],\\\"shape\\\":[2]}}"), 0, LYAP_E_FORMAT,
      "occurs twice" },
    { SHARD("{\\\"w\\\":{\\\"shape\\\":[2],\\\"offset\\\":0},"
            "\\\"w\\\":{\\\"shape\\\":[2],\\\"offset\\\":0}}"),
      0, LYAP_E_FORMAT, "tensor \"w\" occurs twice" },
    { SHARD("{} x"), 0, LYAP_E_FORMAT, "shard: bytes follow the end" },
};

/* Whole, and byte by byte: the same answer. */
START_TEST(violations_are_named)
{
    size_t length;
    char *body = body_make(broken[_i].header, broken[_i].data_bytes, &length);
    for (size_t chunk = 0; chunk < 3; chunk++) {
        const struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS,
                                               .chunk_bytes = chunk };
        struct trace trace = trace_run(&options, body, length);
        trace_assert_failed(&trace, broken[_i].status, broken[_i].fragment);
        ck_assert_uint_eq(trace.ends, 0);
        trace_release(&trace);
    }
    free(body);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

/* Bodies whose first eight bytes lie. */
static const struct {
    uint64_t announced;
    enum lyap_status status;
    const char *fragment;
} lengths[] = {
    { 0, LYAP_E_FORMAT, "the header has 0 bytes, but the shortest, {}, has 2" },
    { 1, LYAP_E_FORMAT, "the header has 1 bytes" },
    { LYAP_HEADER_BYTES_MAX + 1, LYAP_E_LIMIT,
      "the header has 16777217 bytes, the limit is 16777216" },
    { UINT64_MAX, LYAP_E_LIMIT, "is this a safetensors body?" },
    { INT64_MAX, LYAP_E_LIMIT, "the limit is 16777216" },
    { LYAP_HEADER_BYTES_MAX, LYAP_E_FORMAT, "ends in the header, after 4 of 16777216 bytes" },
    { 5, LYAP_E_FORMAT, "ends in the header, after 4 of 5 bytes" },
};

START_TEST(lengths_are_checked)
{
    char body[12] = { 0 };
    for (unsigned i = 0; i < 8; i++)
        body[i] = (char)(lengths[_i].announced >> (8 * i) & 0xFF);
    memcpy(body + 8, "{\"a\"", 4);
    const struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS };
    struct trace trace = trace_run(&options, body, sizeof body);
    trace_assert_failed(&trace, lengths[_i].status, lengths[_i].fragment);
    trace_release(&trace);
}
END_TEST

START_TEST(nothing_is_truncated_too)
{
    const struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS };
    struct trace trace = trace_run(&options, "", 0);
    trace_assert_failed(&trace, LYAP_E_FORMAT, "ends in the length of the header, after 0 of 8");
    trace_release(&trace);
    trace = trace_run(&options, "\x10\0\0", 3);
    trace_assert_failed(&trace, LYAP_E_FORMAT, "after 3 of 8");
    trace_release(&trace);
}
END_TEST

static size_t largest_allocation;
static void *measured_allocate(size_t bytes)
{
    largest_allocation = bytes > largest_allocation ? bytes : largest_allocation;
    return malloc(bytes);
}

/* Announcing a large header costs nothing until it comes. */
START_TEST(memory_follows_what_arrived)
{
    static const struct lyap_alloc_hooks hooks = { measured_allocate, free };
    static const char body[] = "\0\0\0\x01\0\0\0\0{";
    const struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS };
    lyap_alloc_set_hooks(&hooks);
    struct trace trace = trace_run(&options, body, sizeof body - 1);
    test_alloc_install();
    trace_assert_failed(&trace, LYAP_E_FORMAT, "after 1 of 16777216");
    ck_assert_uint_gt(largest_allocation, 0);
    ck_assert_uint_lt(largest_allocation, 4096);
    trace_release(&trace);
}
END_TEST

/* Written order differs from body order; every dtype, a scalar, an empty tensor, padding. */
static const char sample_header[] =
    "{\"__metadata__\":{\"loss\":\"NaN\",\"step\":\"120\",\"lr\":\"0.1,0.01\",\"x-note\":"
    "\"\\u00e9\","
    "\"shard\":\"{\\\"b\\\":{\\\"shape\\\":[9],\\\"offset\\\":2},"
    "\\\"a\\\":{\\\"shape\\\":[4,4],\\\"start\\\":[2,0]}}\"},"
    "\"grad/a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[16,24]},"
    " \"param/a\" : {\"data_offsets\": [0, 16], \"shape\":[2,1],\"dtype\":\"F64\"},"
    "\"param/e\":{\"dtype\":\"F16\",\"shape\":[0,3],\"data_offsets\":[24,24]},"
    "\"param/f\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[24,30]},"
    "\"param/g\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[30,32]}}   ";
enum { SAMPLE_DATA_BYTES = 32 };

START_TEST(every_part_is_decoded)
{
    size_t length;
    char *body = body_make(sample_header, SAMPLE_DATA_BYTES, &length);
    const struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS };
    struct trace trace = trace_run(&options, body, length);
    ck_assert_msg(trace.status == LYAP_OK, "%s", trace.err.text);
    ck_assert_ptr_nonnull(strstr(trace.text, "step=120 NaN 0.1 0.01 rank=0/1"));
    ck_assert_ptr_nonnull(strstr(trace.text, "shard:a[4,4]@[2,0]0 shard:b[9]@2 x-note=\xC3\xA9"));
    const char *entries = strstr(trace.text, "entry ");
    ck_assert_ptr_nonnull(strstr(entries, "entry param/a F64 [2,1] 2\nentry grad/a F32 [2,1] 2\n"
                                          "entry param/e F16 [0,3] 0\nentry param/f F16 [3] 3\n"
                                          "entry param/g BF16 [] 1\nvalues param/a "));
    ck_assert_uint_eq(trace.snapshots, 1);
    ck_assert_uint_eq(trace.ends, 1);
    trace_release(&trace);
    free(body);
}
END_TEST

/* All two-part splits, and all equal chunk lengths, give the same events. */
START_TEST(cuts_do_not_matter)
{
    size_t length;
    char *body = body_make(sample_header, SAMPLE_DATA_BYTES, &length);
    struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS };
    struct trace whole = trace_run(&options, body, length);
    for (size_t cut = 1; cut < 2 * length; cut++) {
        options.first_bytes = cut < length ? cut : 0;
        options.chunk_bytes = cut < length ? 0 : cut - length + 1;
        struct trace trace = trace_run(&options, body, length);
        ck_assert_int_eq(trace.status, LYAP_OK);
        ck_assert_str_eq(trace.text, whole.text);
        trace_release(&trace);
    }
    trace_release(&whole);
    free(body);
}
END_TEST

/* Every prefix of a good body is truncated, and says so at finish. */
START_TEST(every_truncation_is_noticed)
{
    size_t length;
    char *body = body_make(sample_header, SAMPLE_DATA_BYTES, &length);
    const struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS };
    for (size_t cut = 0; cut < length; cut++) {
        struct trace trace = trace_run(&options, body, cut);
        trace_assert_failed(&trace, LYAP_E_FORMAT, "the body ends");
        ck_assert_uint_eq(trace.ends, 0);
        trace_release(&trace);
    }
    free(body);
}
END_TEST

START_TEST(body_limit_is_told_early)
{
    size_t length;
    char *body = body_make(sample_header, SAMPLE_DATA_BYTES, &length);
    struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS, .body_bytes_max = length };
    struct trace trace = trace_run(&options, body, length);
    ck_assert_int_eq(trace.status, LYAP_OK);
    trace_release(&trace);
    /* Known from the header, before any tensor byte came. */
    options.body_bytes_max = length - 1;
    trace = trace_run(&options, body, length - SAMPLE_DATA_BYTES);
    trace_assert_failed(&trace, LYAP_E_LIMIT, "the body will have 32 bytes of tensors");
    ck_assert_uint_eq(trace.snapshots, 0);
    trace_release(&trace);
    options.body_bytes_max = 20;
    trace = trace_run(&options, body, length);
    trace_assert_failed(&trace, LYAP_E_LIMIT, "the body exceeds 20 bytes, the limit");
    trace_release(&trace);
    free(body);
}
END_TEST

START_TEST(too_many_tensors)
{
    char *header;
    size_t size, length;
    FILE *stream = open_memstream(&header, &size);
    fputs("{" META, stream);
    for (int i = 0; i <= LYAP_TENSOR_COUNT_MAX; i++)
        fprintf(stream, "," TENSOR("param/%d", "[0]", "[0,0]"), i);
    fputs("}", stream);
    fclose(stream);
    char *body = body_make(header, 0, &length);
    const struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS };
    struct trace trace = trace_run(&options, body, length);
    trace_assert_failed(&trace, LYAP_E_LIMIT, "more than 100000 tensors in one body");
    trace_release(&trace);
    free(body);
    free(header);
}
END_TEST

static struct lyap_snapshot query_of(const char *const pairs[][2], size_t count)
{
    struct lyap_snapshot query;
    lyap_snapshot_init(&query);
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(lyap_wire_query_set(&query, pairs[i][0], pairs[i][1], NULL), LYAP_OK);
    return query;
}

START_TEST(query_is_merged)
{
    static const char *const pairs[][2] = {
        { "step", "7" },
        { "loss", "0.5" },
        { "x-from", "query" },
        { "shard", "{\"w\":{\"shape\":[4],\"offset\":2}}" },
    };
    struct lyap_snapshot query = query_of(pairs, 4);
    size_t length;
    char *body = body_make(ONE("F32", "[2]", "[0,8]"), 8, &length);
    struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS, .query = &query };
    struct trace trace = trace_run(&options, body, length);
    ck_assert_msg(trace.status == LYAP_OK, "%s", trace.err.text);
    ck_assert_ptr_nonnull(strstr(trace.text, "step=7 0.5 "));
    ck_assert_ptr_nonnull(strstr(trace.text, "shard:w[4]@2 x-from=query"));
    trace_release(&trace);
    free(body);

    body = body_make(SHARD("{\\\"w\\\":{\\\"shape\\\":[4],\\\"offset\\\":2}}"), 0, &length);
    trace = trace_run(&options, body, length);
    ck_assert_msg(trace.status == LYAP_OK, "%s", trace.err.text);
    trace_release(&trace);
    free(body);

    body = body_make(SHARD("{\\\"w\\\":{\\\"shape\\\":[4],\\\"offset\\\":0}}"), 0, &length);
    trace = trace_run(&options, body, length);
    trace_assert_failed(&trace, LYAP_E_CONTRADICTION, "shard is given twice, differently");
    trace_release(&trace);
    free(body);

    body = body_make("{\"__metadata__\":{\"step\":\"8\"}}", 0, &length);
    trace = trace_run(&options, body, length);
    trace_assert_failed(&trace, LYAP_E_CONTRADICTION, "step is given as 8 and as 7");
    ck_assert_uint_eq(trace.snapshots, 0);
    trace_release(&trace);
    free(body);
    lyap_snapshot_release(&query);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

START_TEST(query_alone_may_name_the_step)
{
    static const char *const pairs[][2] = { { "step", "7" } };
    struct lyap_snapshot query = query_of(pairs, 1);
    size_t length;
    char *body = body_make("{}", 0, &length);
    const struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS, .query = &query };
    struct trace trace = trace_run(&options, body, length);
    ck_assert_msg(trace.status == LYAP_OK, "%s", trace.err.text);
    trace_release(&trace);
    free(body);
    lyap_snapshot_release(&query);
}
END_TEST

START_TEST(consumer_may_refuse)
{
    size_t length;
    char *body = body_make(sample_header, SAMPLE_DATA_BYTES, &length);
    for (unsigned event = 1; event <= 2; event++) {
        const struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS,
                                               .refuse_at = event };
        struct trace trace = trace_run(&options, body, length);
        trace_assert_failed(&trace, LYAP_E_CONFLICT, "refused by the test");
        ck_assert_uint_eq(trace.ends, event - 1);
        trace_release(&trace);
    }
    free(body);
}
END_TEST

START_TEST(survives_every_failing_allocation)
{
    size_t length;
    char *body = body_make(sample_header, SAMPLE_DATA_BYTES, &length);
    const struct trace_options options = { .format = LYAP_WIRE_SAFETENSORS, .chunk_bytes = 100 };
    enum lyap_status status = LYAP_E_NOMEM;
    uint64_t n = 0;
    while (status == LYAP_E_NOMEM) {
        test_alloc_fail_at(++n);
        struct trace trace = trace_run(&options, body, length);
        status = trace.status;
        trace_release(&trace);
        ck_assert_int_eq(test_alloc_live(), 0);
    }
    test_alloc_fail_at(0);
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_uint_gt(n, 10);
    free(body);
}
END_TEST

int main(void)
{
    test_alloc_install();
    Suite *suite = suite_create("safetensors");
    TCase *tcase = tcase_create("safetensors");
    tcase_add_loop_test(tcase, violations_are_named, 0, sizeof broken / sizeof *broken);
    tcase_add_loop_test(tcase, lengths_are_checked, 0, sizeof lengths / sizeof *lengths);
    tcase_add_test(tcase, nothing_is_truncated_too);
    tcase_add_test(tcase, memory_follows_what_arrived);
    tcase_add_test(tcase, every_part_is_decoded);
    tcase_add_test(tcase, cuts_do_not_matter);
    tcase_add_test(tcase, every_truncation_is_noticed);
    tcase_add_test(tcase, body_limit_is_told_early);
    tcase_add_test(tcase, too_many_tensors);
    tcase_add_test(tcase, query_is_merged);
    tcase_add_test(tcase, query_alone_may_name_the_step);
    tcase_add_test(tcase, consumer_may_refuse);
    tcase_add_test(tcase, survives_every_failing_allocation);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
