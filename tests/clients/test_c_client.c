/* The C client against scripted answers: bodies, repetition, deadlines, replies, refusals. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "body.h"
#include "fake_server.h"
#include "http.h"
#include "lyap_client.h"
#include "reply.h"
#include "support.h"

#define CLOSING(status, fields, body)                                                              \
    "HTTP/1.1 " status "\r\nConnection: close\r\n" fields "\r\n" body

static const char run_answer[] =
    CLOSING("200 OK", "", "{\"run\":\"r\",\"attempt\":3,\"sketch_seed\":\"18446744073709551615\"}");
static const char push_answer[] = CLOSING(
    "200 OK", "",
    "{\"status\":\"accepted\",\"run\":\"r\",\"attempt\":3,\"step\":7,\"metrics\":{"
    "\"loss\":{\"value\":\"Infinity\",\"trust\":\"I\"},"
    "\"stability_ratio\":{\"value\":1.74,\"trust\":\"C\",\"error\":0.02},"
    "\"sharpness\":{\"value\":null,\"reason\":\"no-probe\"},\"from_the_future\":{\"value\":1}},"
    "\"twins\":[\"random\",null,\"active\",null],"
    "\"state\":\"unstable\",\"verdict\":\"edge\",\"action\":{\"kind\":\"reduce_lr\",\"lr\":0.25},"
    "\"want\":[\"exp_avg\",\"exp_avg_sq\"],\"alerts\":[{\"id\":17,\"rule\":\"instability\","
    "\"state\":\"firing\",\"severity\":\"critical\",\"since_step\":6}],\"new\":[1]}");
static const char busy_answer[] = CLOSING("503 Service Unavailable", "", "{}");
static const char conflict_answer[] =
    CLOSING("409 Conflict", "Content-Type: application/problem+json\r\n",
            "{\"type\":\"https://lyapd.dev/problems/stale-attempt\",\"title\":\"t\",\"status\":409,"
            "\"detail\":\"attempt 1 is over\"}");

static const uint64_t shape[] = { 2, 2 };
static const float theta[] = { 1, 2, 3, 4 }, gradient[] = { 5, 6, 7, 8 };
static const struct lyap_client_array arrays[] = {
    { LYAP_ROLE_PARAM, "w", LYAP_DTYPE_F32, 2, shape, theta },
    { LYAP_ROLE_GRAD, "w", LYAP_DTYPE_F32, 2, shape, gradient },
};
static const struct lyap_client_meta batch = { "batch_id", "b\"1" };
static const struct lyap_client_push snapshot = { .step = 7,
                                                  .has_loss = true,
                                                  .has_lr = true,
                                                  .loss = INFINITY,
                                                  .lr = 0.5,
                                                  .arrays = arrays,
                                                  .array_count = 2,
                                                  .metadata = &batch,
                                                  .metadata_count = 1 };

static struct lyap_client *open_client(const struct fake_server *server, uint32_t deadline_ms)
{
    struct lyap_client *client = NULL;
    struct lyap_error err = LYAP_ERROR_NULL;
    const struct lyap_client_options options = { .url = server->url,
                                                 .run = "r",
                                                 .declaration = "{\"data\":\"full-batch\"}",
                                                 .attempt_key = "k",
                                                 .token = "secret",
                                                 .deadline_ms = deadline_ms };
    ck_assert_msg(lyap_client_open(&options, &client, &err) == LYAP_OK, "%s", err.text);
    return client;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static const char *field(const json_t *header, const char *key)
{
    return json_string_value(json_object_get(json_object_get(header, "__metadata__"), key));
}

START_TEST(sends_a_safetensors_body)
{
    struct fake_server server;
    const char *answers[] = { run_answer, push_answer };
    fake_server_start(&server, answers, 2);
    struct lyap_client *client = open_client(&server, 2000);
    ck_assert_int_eq(lyap_client_push(client, &snapshot, NULL, NULL), LYAP_OK);
    ck_assert_uint_eq(lyap_client_get_stats(client).pushes, 1);
    ck_assert_uint_eq(lyap_client_attempt(client), 3);
    lyap_client_close(client);
    fake_server_stop(&server);

    ck_assert_str_eq(server.requests[0].line, "PUT /v1/runs/r HTTP/1.1");
    ck_assert_ptr_nonnull(strstr(server.requests[0].body, "\"attempt_key\":\"k\""));
    ck_assert_ptr_nonnull(strstr(server.requests[0].head, "Authorization: Bearer secret\r\n"));
    const struct fake_request *request = &server.requests[1];
    static const char pushed[] = "POST /v1/runs/r/snapshots?sent=";
    ck_assert_int_eq(strncmp(request->line, pushed, sizeof pushed - 1), 0);
    const long long sent = strtoll(request->line + sizeof pushed - 1, NULL, 10);
    ck_assert_int_le(llabs(sent - (long long)time(NULL)), 600);
    ck_assert_ptr_nonnull(strstr(request->head, "Content-Type: application/vnd.safetensors\r\n"));
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | (unsigned char)request->body[i];
    ck_assert_uint_eq(length % 8, 0);
    ck_assert_uint_eq(request->length, 8 + length + sizeof theta + sizeof gradient);
    ck_assert_mem_eq(request->body + 8 + length, theta, sizeof theta);
    ck_assert_mem_eq(request->body + 8 + length + sizeof theta, gradient, sizeof gradient);

    json_t *header = json_loadb(request->body + 8, length, 0, NULL);
    ck_assert_str_eq(field(header, "step"), "7");
    ck_assert_str_eq(field(header, "loss"), "Infinity");
    ck_assert_str_eq(field(header, "lr"), "0.5");
    ck_assert_str_eq(field(header, "attempt"), "3");
    ck_assert_str_eq(field(header, "batch_id"), "b\"1");
    char *entry = json_dumps(json_object_get(header, "grad/w"), JSON_COMPACT);
    ck_assert_str_eq(entry, "{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[16,32]}");
    free(entry);
    json_decref(header);
    fake_server_release(&server);
}
END_TEST

START_TEST(understands_the_reply)
{
    struct fake_server server;
    const char *answers[] = { run_answer, push_answer };
    struct lyap_client_reply reply;
    fake_server_start(&server, answers, 2);
    struct lyap_client *client = open_client(&server, 2000);
    ck_assert_int_eq(lyap_client_push(client, &snapshot, &reply, NULL), LYAP_OK);
    lyap_client_close(client);
    fake_server_stop(&server);
    fake_server_release(&server);

    const struct lyap_value *metrics = reply.point.metrics;
    ck_assert_int_eq(reply.answer, LYAP_CLIENT_ACCEPTED);
    ck_assert_int_eq(reply.point.step, 7);
    ck_assert_int_eq(reply.point.state, LYAP_STATE_UNSTABLE);
    ck_assert_int_eq(reply.point.verdict, LYAP_VERDICT_EDGE);
    ck_assert_int_eq(reply.point.action.kind, LYAP_ACTION_REDUCE_LR);
    ck_assert_double_eq(reply.point.action.lr, 0.25);
    ck_assert(isinf(metrics[LYAP_METRIC_LOSS].value));
    ck_assert_double_eq(metrics[LYAP_METRIC_STABILITY_RATIO].value, 1.74);
    ck_assert_double_eq(metrics[LYAP_METRIC_STABILITY_RATIO].error, 0.02);
    ck_assert_int_eq(metrics[LYAP_METRIC_STABILITY_RATIO].trust, LYAP_TRUST_C);
    ck_assert_int_eq(metrics[LYAP_METRIC_SHARPNESS].reason, LYAP_REASON_NO_PROBE);
    ck_assert(isnan(metrics[LYAP_METRIC_SHARPNESS].value));
    ck_assert_int_eq(metrics[LYAP_METRIC_GRAD_NORM].reason, LYAP_REASON_NOT_PUSHED);
    ck_assert_uint_eq(reply.alert_count, 1);
    ck_assert_int_eq(reply.alerts[0].id, 17);
    ck_assert_int_eq(reply.alerts[0].since_step, 6);
    ck_assert_int_eq(reply.alerts[0].severity, LYAP_SEVERITY_CRITICAL);
    ck_assert_str_eq(reply.alerts[0].rule, "instability");
    ck_assert(reply.wants_state);
    ck_assert_str_eq(reply.point.twin_names[0], "random");
    ck_assert_str_eq(reply.point.twin_names[1], "");
    ck_assert_str_eq(reply.point.twin_names[2], "active");
}
END_TEST

START_TEST(sends_twins)
{
    struct fake_server server;
    const char *answers[] = { run_answer, push_answer };
    const struct lyap_client_twin twins[] = {
        { NULL, 0 }, { "active", -INFINITY }, { "b", NAN }, { "c", 0.1 }
    };
    struct lyap_client_push push = snapshot;
    push.twins = twins;
    push.twin_count = 4;
    fake_server_start(&server, answers, 2);
    struct lyap_client *client = open_client(&server, 2000);
    ck_assert_int_eq(lyap_client_push(client, &push, NULL, NULL), LYAP_OK);
    lyap_client_close(client);
    fake_server_stop(&server);
    const char *body = server.requests[1].body;
    json_t *header =
        json_loadb(body + 8, (unsigned char)body[0] | (unsigned char)body[1] << 8, 0, NULL);
    ck_assert_str_eq(field(header, "twin_log"), "0,-Infinity,NaN,0.10000000000000001");
    ck_assert_str_eq(field(header, "twin_name"), "random,active,b,c");
    json_decref(header);
    fake_server_release(&server);
}
END_TEST

START_TEST(refuses_bad_twins)
{
    char longest[LYAP_TWIN_NAME_BYTES_MAX + 2];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const struct lyap_client_twin many[LYAP_TWIN_COUNT_MAX + 1] = { { "a", 0 } };
    const struct lyap_client_twin comma = { "a,b", 0 }, none = { "", 0 }, more = { longest, 0 };
    const struct lyap_client_meta twice = { "twin_log", "1" };
    const struct {
        const struct lyap_client_twin *twins;
        uint32_t count;
        enum lyap_status status;
        const char *text;
    } cases[] = {
        { many, LYAP_TWIN_COUNT_MAX + 1, LYAP_E_LIMIT, "5 twins, at most 4" },
        { &comma, 1, LYAP_E_INVALID, "\"a,b\" must have 1 to 64 bytes and no comma" },
        { &none, 1, LYAP_E_INVALID, "twin 0" },
        { &more, 1, LYAP_E_INVALID, "1 to 64 bytes" },
        { many, 1, LYAP_E_INVALID, "\"twin_log\" is there twice" },
    };
    struct fake_server server;
    const char *answers[] = { run_answer };
    fake_server_start(&server, answers, 1);
    struct lyap_client *client = open_client(&server, 2000);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct lyap_error err = LYAP_ERROR_NULL;
        struct lyap_client_push push = snapshot;
        push.twins = cases[i].twins;
        push.twin_count = cases[i].count;
        push.metadata = &twice;
        push.metadata_count = i == 4;
        ck_assert_int_eq(lyap_client_push(client, &push, NULL, &err), cases[i].status);
        ck_assert_msg(strstr(err.text, cases[i].text) != NULL, "%s", err.text);
    }
    lyap_client_close(client);
    fake_server_stop(&server);
    ck_assert_uint_eq(server.request_count, 1); /* nothing was sent */
    fake_server_release(&server);
}
END_TEST

START_TEST(understands_every_action)
{
    static const struct {
        const char *json;
        enum lyap_action_kind kind;
        double lr;
        int64_t step;
    } cases[] = {
        { "{\"kind\":\"continue\"}", LYAP_ACTION_CONTINUE, NAN, -1 },
        { "{\"kind\":\"skip\",\"step\":7}", LYAP_ACTION_SKIP, NAN, 7 },
        { "{\"kind\":\"skip\",\"step\":0}", LYAP_ACTION_SKIP, NAN, 0 },
        { "{\"kind\":\"rollback\",\"step\":9007199254740993,\"lr\":1e-3}", LYAP_ACTION_ROLLBACK,
          1e-3, 9007199254740993 },
        { "{\"kind\":\"rollback\"}", LYAP_ACTION_ROLLBACK, NAN, -1 },
        { "{\"kind\":\"rollback\",\"step\":\"x\"}", LYAP_ACTION_ROLLBACK, NAN, -1 },
        { "{\"kind\":\"stop\"}", LYAP_ACTION_STOP, NAN, -1 },
        { "{\"kind\":\"dance\",\"lr\":1}", LYAP_ACTION_CONTINUE, NAN, -1 },
        { "7", LYAP_ACTION_CONTINUE, NAN, -1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        struct lyap_client_reply reply;
        const int length = snprintf(
            text, sizeof text, "{\"status\":\"accepted\",\"step\":7,\"action\":%s}", cases[i].json);
        ck_assert_int_eq(reply_parse_push(text, (size_t)length, &reply, NULL), LYAP_OK);
        const struct lyap_action *action = &reply.point.action;
        ck_assert_int_eq(action->kind, cases[i].kind);
        ck_assert_int_eq(action->step, cases[i].step);
        if (isnan(cases[i].lr))
            ck_assert(isnan(action->lr));
        else
            ck_assert_double_eq(action->lr, cases[i].lr);
    }
}
END_TEST

START_TEST(repeats_what_failed_for_now)
{
    struct fake_server server;
    const char *answers[] = { run_answer, busy_answer, NULL, push_answer };
    fake_server_start(&server, answers, 4);
    struct lyap_client *client = open_client(&server, 5000);
    ck_assert_int_eq(lyap_client_push(client, &snapshot, NULL, NULL), LYAP_OK);
    ck_assert_uint_eq(lyap_client_get_stats(client).repetitions, 2);
    lyap_client_close(client);
    fake_server_stop(&server);
    ck_assert_uint_eq(server.request_count, 4);
    ck_assert_uint_eq(server.requests[1].length, server.requests[3].length);
    ck_assert_mem_eq(server.requests[1].body, server.requests[3].body, server.requests[3].length);
    fake_server_release(&server);
}
END_TEST

START_TEST(gives_up_at_the_deadline)
{
    struct fake_server server;
    const char *answers[] = { run_answer, "" };
    struct lyap_error err = LYAP_ERROR_NULL;
    fake_server_start(&server, answers, 2);
    struct lyap_client *client = open_client(&server, 400);
    const double start = seconds();
    ck_assert_int_eq(lyap_client_push(client, &snapshot, NULL, &err), LYAP_E_IO);
    ck_assert_double_lt(seconds() - start, 1.5);
    ck_assert_ptr_nonnull(strstr(err.text, server.url));
    ck_assert_uint_eq(lyap_client_get_stats(client).failures, 1);
    lyap_client_close(client);
    fake_server_stop(&server);
    fake_server_release(&server);
}
END_TEST

START_TEST(gives_up_when_asked_to_wait_longer)
{
    struct fake_server server;
    const char *answers[] = { run_answer,
                              CLOSING("503 Busy", "Retry-After: 60\r\n",
                                      "{\"type\":\"urn:lyapd:queue-full\",\"detail\":\"full\"}") };
    struct lyap_error err = LYAP_ERROR_NULL;
    fake_server_start(&server, answers, 2);
    struct lyap_client *client = open_client(&server, 3000);
    const double start = seconds();
    ck_assert_int_eq(lyap_client_push(client, &snapshot, NULL, &err), LYAP_E_QUEUE_FULL);
    ck_assert_double_lt(seconds() - start, 1.0);
    lyap_client_close(client);
    fake_server_stop(&server);
    fake_server_release(&server);
}
END_TEST

START_TEST(hands_on_a_refusal)
{
    struct fake_server server;
    const char *answers[] = { run_answer, conflict_answer };
    struct lyap_error err = LYAP_ERROR_NULL;
    fake_server_start(&server, answers, 2);
    struct lyap_client *client = open_client(&server, 2000);
    ck_assert_int_eq(lyap_client_push(client, &snapshot, NULL, &err), LYAP_E_STALE_ATTEMPT);
    ck_assert_ptr_nonnull(strstr(err.text, "attempt 1 is over"));
    ck_assert_uint_eq(lyap_client_get_stats(client).repetitions, 0);
    lyap_client_close(client);
    fake_server_stop(&server);
    fake_server_release(&server);
}
END_TEST

START_TEST(fails_without_a_daemon)
{
    struct fake_server server;
    struct lyap_client *client = NULL;
    struct lyap_error err = LYAP_ERROR_NULL;
    fake_server_start(&server, NULL, 0);
    fake_server_stop(&server); /* the port is free again: nobody listens */
    const struct lyap_client_options options = { .url = server.url,
                                                 .run = "r",
                                                 .deadline_ms = 200 };
    ck_assert_int_eq(lyap_client_open(&options, &client, &err), LYAP_E_IO);
    ck_assert_ptr_null(client);
}
END_TEST

START_TEST(refuses_bad_options)
{
    struct lyap_client *client = NULL;
    const struct lyap_client_options no_run = { .url = "http://127.0.0.1:1" };
    const struct lyap_client_options bad_run = { .url = "http://127.0.0.1:1", .run = "a/b" };
    const struct lyap_client_options bad_url = { .url = "ftp://x", .run = "r" };
    const struct lyap_client_options bad_json = { .url = "http://127.0.0.1:1",
                                                  .run = "r",
                                                  .declaration = "[1]" };
    ck_assert_int_eq(lyap_client_open(&no_run, &client, NULL), LYAP_E_INVALID);
    ck_assert_int_eq(lyap_client_open(&bad_run, &client, NULL), LYAP_E_INVALID);
    ck_assert_int_eq(lyap_client_open(&bad_url, &client, NULL), LYAP_E_INVALID);
    ck_assert_int_eq(lyap_client_open(&bad_json, &client, NULL), LYAP_E_FORMAT);
}
END_TEST

START_TEST(refuses_bad_arrays)
{
    const uint64_t huge[] = { UINT64_C(1) << 40, UINT64_C(1) << 40 };
    char name[LYAP_TENSOR_NAME_BYTES_MAX + 2];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    const struct body_array bad[][2] = {
        { { "param", "w", LYAP_DTYPE_F32, 2, shape, theta },
          { "param", "w", LYAP_DTYPE_F32, 2, shape, theta } },
        { { "param", "w", LYAP_DTYPE_F32, 2, shape, theta },
          { "grad", "w", LYAP_DTYPE_F32, 2, shape, NULL } },
        { { "param", "w", LYAP_DTYPE_F32, 2, shape, theta },
          { "grad", "\xff", LYAP_DTYPE_F32, 2, shape, theta } },
        { { "param", "w", LYAP_DTYPE_F32, 2, shape, theta },
          { "grad", name, LYAP_DTYPE_F32, 2, shape, theta } },
        { { "param", "w", LYAP_DTYPE_F32, 2, shape, theta },
          { "grad", "w", LYAP_DTYPE_F32, 2, huge, theta } },
    };
    const enum lyap_status expected[] = { LYAP_E_INVALID, LYAP_E_INVALID, LYAP_E_INVALID,
                                          LYAP_E_INVALID, LYAP_E_LIMIT };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct body body;
        struct lyap_error err = LYAP_ERROR_NULL;
        ck_assert_int_eq(body_build(bad[i], 2, NULL, 0, &body, &err), expected[i]);
        ck_assert_int_ne(err.text[0], '\0');
    }
}
END_TEST

START_TEST(refuses_a_foreign_answer)
{
    struct lyap_client_reply reply;
    struct reply_run run;
    const char *const bad[] = { "", "[]", "{}", "{\"status\":\"maybe\"}", "{\"status\":1}", "nul" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(reply_parse_push(bad[i], strlen(bad[i]), &reply, NULL), LYAP_E_FORMAT);
        ck_assert_int_eq(reply_parse_run(bad[i], strlen(bad[i]), &run, NULL), LYAP_E_FORMAT);
    }
    ck_assert_int_eq(reply_problem(500, "<html>", 6, NULL), LYAP_E_INTERNAL);
    ck_assert_int_eq(reply_problem(400, "{}", 2, NULL), LYAP_E_INVALID);
}
END_TEST

START_TEST(releases_everything_when_memory_ends)
{
    struct fake_server server;
    const char *answers[] = { run_answer, push_answer };
    for (uint64_t n = 1; n < 100; n++) {
        struct lyap_client *client = NULL;
        fake_server_start(&server, answers, 2);
        const struct lyap_client_options options = { .url = server.url, .run = "r", .token = "t" };
        test_alloc_install();
        test_alloc_fail_at(n);
        enum lyap_status status = lyap_client_open(&options, &client, NULL);
        if (status == LYAP_OK)
            status = lyap_client_push(client, &snapshot, NULL, NULL);
        const bool was_reached = test_alloc_count() >= n;
        lyap_client_close(client);
        ck_assert_int_eq(test_alloc_live(), 0);
        fake_server_stop(&server);
        fake_server_release(&server);
        ck_assert_int_eq(status, was_reached ? LYAP_E_NOMEM : LYAP_OK);
        if (!was_reached)
            return;
    }
    ck_abort_msg("the sweep did not end");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("c_client");
    TCase *tcase = tcase_create("client");
    signal(SIGPIPE, SIG_IGN); /* the fake server's side */
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, sends_a_safetensors_body);
    tcase_add_test(tcase, understands_the_reply);
    tcase_add_test(tcase, sends_twins);
    tcase_add_test(tcase, refuses_bad_twins);
    tcase_add_test(tcase, understands_every_action);
    tcase_add_test(tcase, repeats_what_failed_for_now);
    tcase_add_test(tcase, gives_up_at_the_deadline);
    tcase_add_test(tcase, gives_up_when_asked_to_wait_longer);
    tcase_add_test(tcase, hands_on_a_refusal);
    tcase_add_test(tcase, fails_without_a_daemon);
    tcase_add_test(tcase, refuses_bad_options);
    tcase_add_test(tcase, refuses_bad_arrays);
    tcase_add_test(tcase, refuses_a_foreign_answer);
    tcase_add_test(tcase, releases_everything_when_memory_ends);
    return test_main(suite);
}
