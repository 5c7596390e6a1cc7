/* JSON and NDJSON bodies: the same events as safetensors, and what is refused. */
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "wire_support.h"

static struct trace run(enum lyap_wire_format format, const char *body)
{
    const struct trace_options options = { .format = format };
    return trace_run(&options, body, strlen(body));
}

START_TEST(document_is_decoded)
{
    struct trace trace = run(
        LYAP_WIRE_JSON, " {\"tensors\":{\"param/w\":{\"shape\":[2,2],\"data\":[1,-2.5,\"NaN\","
                        "\"-Infinity\"]},\"grad/w\":{\"data\":[],\"shape\":[0],\"dtype\":\"F64\"},"
                        "\"param/s\":{\"shape\":[],\"data\":[1e-3]}},\n\"step\":7,\"loss\":0.31,"
                        "\"lr\":[0.1,1e-2],\"rank\":1,\"world\":2.0,\"skipped\":true,"
                        "\"time\":1795453200.5,\"batch_id\":\"b7\",\"grad_norm\":null,"
                        "\"shard\":{\"w\":{\"shape\":[4,2],\"start\":[0,0]}},"
                        "\"x-seed\":3,\"x-amp\":false,\"x-who\":\"me\"}\r\n");
    ck_assert_msg(trace.status == LYAP_OK, "%s", trace.err.text);
    ck_assert_ptr_nonnull(strstr(trace.text,
                                 "step=7 0.31 0.1 0.01 rank=1/2 time=1795453200500000000 skipped=1 "
                                 "batch=b7 shard:w[4,2]@[0,0]0 x-seed=3 x-amp=false x-who=me\n"
                                 "entry param/w F64 [2,2] 4\nentry grad/w F64 [0] 0\n"
                                 "entry param/s F64 [] 1\nvalues param/w 1 -2.5 NaN -Infinity\n"
                                 "values param/s 0.001\nend\n"));
    ck_assert_uint_eq(trace.snapshots, 1);
    trace_release(&trace);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

START_TEST(document_without_tensors)
{
    struct trace trace = run(LYAP_WIRE_JSON, "{\"step\":\"7\",\"loss\":\"NaN\",\"lr\":\"0.1\"}");
    ck_assert_msg(trace.status == LYAP_OK, "%s", trace.err.text);
    ck_assert_ptr_nonnull(strstr(trace.text, "step=7 NaN 0.1 rank=0/1"));
    trace_release(&trace);
}
END_TEST

static const struct {
    const char *body;
    enum lyap_status status;
    const char *fragment;
} broken[] = {
    { "", LYAP_E_FORMAT, "the body is empty" },
    { " ", LYAP_E_FORMAT, "expected an object, found the end" },
    { "[]", LYAP_E_FORMAT, "expected an object, found a list" },
    { "{\"step\":7", LYAP_E_FORMAT, "expected ',' or '}'" },
    { "{\"step\":7}}", LYAP_E_FORMAT, "bytes follow the end" },
    { "{\"step\":7} {\"step\":8}", LYAP_E_FORMAT, "bytes follow the end" },
    { "{\"step\":7,\"step\":7}", LYAP_E_FORMAT, "key \"step\" occurs twice" },
    { "{\"step\":7,\"lr\":0.1,\"lr\":0.1}", LYAP_E_FORMAT, "key \"lr\" occurs twice" },
    { "{\"step\":7,\"shard\":{},\"shard\":{}}", LYAP_E_FORMAT, "key \"shard\" occurs twice" },
    { "{\"step\":7,\"tensors\":{},\"tensors\":{}}", LYAP_E_FORMAT, "key \"tensors\" occurs twice" },
    { "{\"step\":7,\"epoch\":1}", LYAP_E_UNKNOWN_FIELD, "\"epoch\" is not a key of a snapshot" },
    { "{\"loss\":1}", LYAP_E_MISSING_FIELD, "step is required" },
    { "{\"step\":null}", LYAP_E_MISSING_FIELD, "step is required" },
    { "{\"step\":7.5}", LYAP_E_INVALID, "step is \"7.5\", but must be an integer" },
    { "{\"step\":-7}", LYAP_E_INVALID, "from 0 to 9007199254740991" },
    { "{\"step\":12345678901234567890123456789012345678901234567890}", LYAP_E_INVALID, "step is" },
    { "{\"step\":07}", LYAP_E_FORMAT, "malformed number" },
    { "{\"step\":7,\"loss\":NaN}", LYAP_E_FORMAT, "expected a number, found no JSON" },
    { "{\"step\":7,\"loss\":.5}", LYAP_E_FORMAT, "expected a number" },
    { "{\"step\":7,\"loss\":1.}", LYAP_E_FORMAT, "malformed number" },
    { "{\"step\":7,\"loss\":1e}", LYAP_E_FORMAT, "malformed number" },
    { "{\"step\":7,\"loss\":1e999}", LYAP_E_FORMAT, "\"1e999\" is beyond F64" },
    { "{\"step\":7,\"loss\":true}", LYAP_E_INVALID, "loss is \"true\", but must be a number" },
    { "{\"step\":7,\"loss\":{}}", LYAP_E_FORMAT,
      "snapshot, \"loss\": expected a number, string, flag or list" },
    { "{\"step\":7,\"twin_log\":[1,null]}", LYAP_E_FORMAT,
      "\"twin_log\": expected a number, found null" },
    { "{\"step\":7,\"loss\":1 \"lr\":2}", LYAP_E_FORMAT, "snapshot: expected ','" },
    { "{\"step\":7,\"loss\":[1,2]}", LYAP_E_INVALID, "loss is \"1,2\"" },
    { "{\"step\":7,\"lr\":[]}", LYAP_E_INVALID, "lr is \"\"" },
    { "{\"step\":7,\"lr\":[0.1,\"x\"]}", LYAP_E_INVALID, "lr is \"0.1,x\"" },
    { "{\"step\":7,\"twin_name\":[\"a,b\"]}", LYAP_E_FORMAT, "no comma" },
    { "{\"step\":7,\"twin_log\":[1,2]}", LYAP_E_INVALID, "twin_name has 0 names" },
    { "{\"step\":7,\"twin_log\":[1,\"NaN\"],\"twin_name\":[\"a\",\"a\"]}", LYAP_E_INVALID,
      "names \"a\" twice" },
    { "{\"step\":7,\"lr\":[0.1,-1]}", LYAP_E_INVALID, "lr is \"0.1,-1\"" },
    { "{\"step\":7,\"skipped\":1.5}", LYAP_E_INVALID, "true or false" },
    { "{\"step\":7,\"skipped\":tru}", LYAP_E_FORMAT, "expected a value" },
    { "{\"step\":7,\"tensors\":[]}", LYAP_E_FORMAT, "expected an object, found a list" },
    { "{\"step\":7,\"tensors\":null}", LYAP_E_FORMAT, "expected an object, found null" },
#define TENSOR(members) "{\"step\":7,\"tensors\":{\"param/w\":{" members "}}}"
    { TENSOR(""), LYAP_E_FORMAT, "\"param/w\": shape is missing" },
    { TENSOR("\"shape\":[1]"), LYAP_E_FORMAT, "data is missing" },
    { TENSOR("\"data\":[1]"), LYAP_E_FORMAT, "shape is missing" },
    { TENSOR("\"shape\":[2],\"data\":[1]"), LYAP_E_FORMAT, "shape [2] has 2 elements, data 1" },
    { TENSOR("\"shape\":[1],\"data\":[1,2]"), LYAP_E_FORMAT, "shape [1] has 1 elements, data 2" },
    { TENSOR("\"shape\":[2,2],\"data\":[[1,2],[3,4]]"), LYAP_E_FORMAT, "one flat list of numbers" },
    { TENSOR("\"shape\":[1],\"data\":[\"nan\"]"), LYAP_E_FORMAT,
      "\"nan\" is no number; of strings NaN, Infinity, -Infinity are" },
    { TENSOR("\"shape\":[1],\"data\":[null]"), LYAP_E_FORMAT, "expected a number, found null" },
    { TENSOR("\"shape\":[1],\"data\":[1e999]"), LYAP_E_FORMAT, "is beyond F64" },
    { TENSOR("\"shape\":[1],\"data\":[1,]"), LYAP_E_FORMAT, "expected a number" },
    { TENSOR("\"shape\":[1],\"data\":1"), LYAP_E_FORMAT, "expected a list, found a number" },
    { TENSOR("\"shape\":[-1],\"data\":[]"), LYAP_E_FORMAT, "non-negative integer" },
    { TENSOR("\"shape\":[1,1,1,1,1,1,1,1,1],\"data\":[1]"), LYAP_E_FORMAT,
      "more than 8 dimensions" },
    { TENSOR("\"shape\":[562949953421312],\"data\":[1]"), LYAP_E_LIMIT, "more than 2^48 elements" },
    { TENSOR("\"dtype\":\"F32\",\"shape\":[1],\"data\":[1]"), LYAP_E_FORMAT,
      "dtype is \"F32\", but JSON carries F64 alone" },
    { TENSOR("\"shape\":[1],\"shape\":[1]"), LYAP_E_FORMAT, "key shape occurs twice" },
    { TENSOR("\"value\":[1]"), LYAP_E_FORMAT, "unknown key \"value\"" },
    { "{\"step\":7,\"tensors\":{\"a\":{\"shape\":[0],\"data\":[]},\"a\":{\"shape\":[0],\"data\":[]}"
      "}}",
      LYAP_E_FORMAT, "tensor \"a\" occurs twice" },
};

START_TEST(violations_are_named)
{
    struct trace trace = run(LYAP_WIRE_JSON, broken[_i].body);
    trace_assert_failed(&trace, broken[_i].status, broken[_i].fragment);
    ck_assert_uint_eq(trace.snapshots, 0);
    trace_release(&trace);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

/* A NUL byte in the text ends nothing silently. */
START_TEST(nul_bytes_are_refused)
{
    static const char body[] = "{\"step\":7}\0{\"a\"";
    const struct trace_options options = { .format = LYAP_WIRE_JSON };
    struct trace trace = trace_run(&options, body, sizeof body - 1);
    trace_assert_failed(&trace, LYAP_E_FORMAT, "bytes follow the end");
    trace_release(&trace);
    static const char inside[] = "{\"step\":7,\"x-a\":\"b\0c\"}";
    trace = trace_run(&options, inside, sizeof inside - 1);
    trace_assert_failed(&trace, LYAP_E_FORMAT, "a control character");
    trace_release(&trace);
}
END_TEST

START_TEST(documents_have_a_limit)
{
    const size_t length = LYAP_JSON_BYTES_MAX + 1;
    char *body = malloc(length);
    memset(body, ' ', length);
    struct trace_options options = { .format = LYAP_WIRE_JSON, .chunk_bytes = 65536 };
    struct trace trace = trace_run(&options, body, length);
    trace_assert_failed(&trace, LYAP_E_LIMIT, "the JSON document exceeds 16777216 bytes");
    trace_release(&trace);
    options.format = LYAP_WIRE_NDJSON;
    trace = trace_run(&options, body, length);
    trace_assert_failed(&trace, LYAP_E_LIMIT, "a line exceeds 16777216 bytes");
    trace_release(&trace);
    free(body);
}
END_TEST

/* The same numbers through both formats: the same events but for the dtype. */
START_TEST(json_equals_safetensors)
{
    static const char header[] =
        "{\"__metadata__\":{\"step\":\"3\",\"loss\":\"0.25\",\"lr\":\"0.5\",\"x-a\":\"b\"},"
        "\"param/w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
        "\"grad/w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[16,32]}}";
    static const float numbers[8] = { 1, -0.5F, 0.1F, 3e38F, 0, -7, 1e-45F, 0.3F };
    size_t length;
    char *body = body_make(header, sizeof numbers, &length);
    memcpy(body + length - sizeof numbers, numbers, sizeof numbers);
    const struct trace_options binary = { .format = LYAP_WIRE_SAFETENSORS,
                                          .is_dtype_hidden = true };
    struct trace expected = trace_run(&binary, body, length);
    free(body);

    char text[2048];
    int used = snprintf(text, sizeof text,
                        "{\"step\":3,\"loss\":0.25,\"lr\":0.5,\"x-a\":\"b\",\"tensors\":{");
    for (int t = 0; t < 2; t++) {
        used +=
            snprintf(text + used, sizeof text - (size_t)used,
                     "%s\"%s/w\":{\"shape\":[2,2],\"data\":[", t ? "," : "", t ? "grad" : "param");
        for (int i = 0; i < 4; i++)
            used += snprintf(text + used, sizeof text - (size_t)used, "%s%.17g", i ? "," : "",
                             (double)numbers[4 * t + i]);
        used += snprintf(text + used, sizeof text - (size_t)used, "]}");
    }
    snprintf(text + used, sizeof text - (size_t)used, "}}");
    const struct trace_options json = { .format = LYAP_WIRE_JSON, .is_dtype_hidden = true };
    struct trace trace = trace_run(&json, text, strlen(text));
    ck_assert_int_eq(expected.status, LYAP_OK);
    ck_assert_msg(trace.status == LYAP_OK, "%s", trace.err.text);
    ck_assert_str_eq(trace.text, expected.text);
    trace_release(&trace);
    trace_release(&expected);
}
END_TEST

static const char lines[] =
    "{\"step\":1,\"tensors\":{\"param/w\":{\"shape\":[2],\"data\":[1,2]}}}\n"
    "\r\n"
    "  \t\n"
    "{\"step\":2,\"loss\":0.5}\r\n"
    "{\"step\":3,\"tensors\":{\"param/w\":{\"shape\":[1],\"data\":[3]},"
    "\"grad/w\":{\"shape\":[1],\"data\":[4]}}}";

START_TEST(lines_are_decoded)
{
    struct trace whole = run(LYAP_WIRE_NDJSON, lines);
    ck_assert_msg(whole.status == LYAP_OK, "%s", whole.err.text);
    ck_assert_uint_eq(whole.snapshots, 3);
    ck_assert_uint_eq(whole.ends, 3);
    ck_assert_ptr_nonnull(strstr(whole.text, "step=2 0.5"));
    ck_assert_ptr_nonnull(strstr(whole.text, "values grad/w 4\nend\n"));
    for (size_t cut = 1; cut < 2 * sizeof lines; cut++) {
        const struct trace_options options = {
            .format = LYAP_WIRE_NDJSON,
            .first_bytes = cut < sizeof lines ? cut : 0,
            .chunk_bytes = cut < sizeof lines ? 0 : cut - sizeof lines + 1,
        };
        struct trace trace = trace_run(&options, lines, sizeof lines - 1);
        ck_assert_int_eq(trace.status, LYAP_OK);
        ck_assert_str_eq(trace.text, whole.text);
        trace_release(&trace);
    }
    trace_release(&whole);
    struct trace ended = run(LYAP_WIRE_NDJSON, "{\"step\":1}\n");
    ck_assert_int_eq(ended.status, LYAP_OK);
    ck_assert_uint_eq(ended.ends, 1);
    trace_release(&ended);
}
END_TEST

START_TEST(bad_lines_are_numbered)
{
    struct trace trace = run(LYAP_WIRE_NDJSON, "{\"step\":1}\n\n{\"step\":2,}\n{\"step\":3}\n");
    trace_assert_failed(&trace, LYAP_E_FORMAT, "line 3: snapshot: expected a key");
    ck_assert_uint_eq(trace.ends, 1);
    trace_release(&trace);
    trace = run(LYAP_WIRE_NDJSON, "{\"step\":1}\n{\"step\":");
    trace_assert_failed(&trace, LYAP_E_FORMAT, "line 2: snapshot, \"step\": expected");
    trace_release(&trace);
    trace = run(LYAP_WIRE_NDJSON, "\n \n");
    trace_assert_failed(&trace, LYAP_E_FORMAT, "the body has no snapshot");
    trace_release(&trace);
    trace = run(LYAP_WIRE_NDJSON, "");
    trace_assert_failed(&trace, LYAP_E_FORMAT, "the body has no snapshot");
    trace_release(&trace);
}
END_TEST

START_TEST(lines_have_a_limit)
{
    char *body;
    size_t size;
    FILE *stream = open_memstream(&body, &size);
    for (int i = 0; i <= LYAP_NDJSON_LINES_MAX; i++)
        fprintf(stream, "{\"step\":%d}\n", i);
    fclose(stream);
    struct trace trace = run(LYAP_WIRE_NDJSON, body);
    trace_assert_failed(&trace, LYAP_E_LIMIT, "line 10001: more than 10000 snapshots in one body");
    ck_assert_uint_eq(trace.ends, LYAP_NDJSON_LINES_MAX);
    trace_release(&trace);
    free(body);
}
END_TEST

START_TEST(consumer_may_refuse_a_line)
{
    const struct trace_options options = { .format = LYAP_WIRE_NDJSON, .refuse_at = 3 };
    struct trace trace = trace_run(&options, lines, sizeof lines - 1);
    trace_assert_failed(&trace, LYAP_E_CONFLICT, "line 4: refused by the test");
    trace_release(&trace);
}
END_TEST

START_TEST(survives_every_failing_allocation)
{
    static const char body[] =
        "{\"step\":1,\"lr\":[1,2],\"x-a\":1,\"shard\":{\"w\":{\"shape\":[2],\"offset\":0}},"
        "\"tensors\":{\"param/w\":{\"shape\":[2],\"data\":[1,2]},"
        "\"grad/w\":{\"shape\":[20],\"data\":[1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0]}}}\n"
        "{\"step\":2}\n";
    const struct trace_options options = { .format = LYAP_WIRE_NDJSON };
    enum lyap_status status = LYAP_E_NOMEM;
    uint64_t n = 0;
    while (status == LYAP_E_NOMEM) {
        test_alloc_fail_at(++n);
        struct trace trace = trace_run(&options, body, sizeof body - 1);
        status = trace.status;
        trace_release(&trace);
        ck_assert_int_eq(test_alloc_live(), 0);
    }
    test_alloc_fail_at(0);
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_uint_gt(n, 10);
}
END_TEST

int main(void)
{
    test_alloc_install();
    Suite *suite = suite_create("document");
    TCase *tcase = tcase_create("document");
    tcase_add_test(tcase, document_is_decoded);
    tcase_add_test(tcase, document_without_tensors);
    tcase_add_loop_test(tcase, violations_are_named, 0, sizeof broken / sizeof *broken);
    tcase_add_test(tcase, nul_bytes_are_refused);
    tcase_add_test(tcase, documents_have_a_limit);
    tcase_add_test(tcase, json_equals_safetensors);
    tcase_add_test(tcase, lines_are_decoded);
    tcase_add_test(tcase, bad_lines_are_numbered);
    tcase_add_test(tcase, lines_have_a_limit);
    tcase_add_test(tcase, consumer_may_refuse_a_line);
    tcase_add_test(tcase, survives_every_failing_allocation);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
