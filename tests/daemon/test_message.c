/* What notifications say, in every format: bounded, escaped, stable under want of memory. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attempt.h"
#include "message.h"
#include "support.h"

/* Makes jansson's n-th allocation fail; 0: none. */
static uint64_t fail_at, allocations;

static void *counted_malloc(size_t size)
{
    return ++allocations == fail_at ? NULL : malloc(size);
}

static void fail_from(uint64_t n)
{
    fail_at = n;
    allocations = 0;
    json_set_alloc_funcs(counted_malloc, free);
}

static const struct lyap_action advice = { .kind = LYAP_ACTION_REDUCE_LR, .lr = 0.25 };

static struct lyap_alert alert_of(void)
{
    return (struct lyap_alert){ .id = 17,
                                .run_id = 1,
                                .run = "gpt-7",
                                .attempt = 2,
                                .rule = "instability",
                                .tensor = "fc1.weight",
                                .state = LYAP_ALERT_FIRING,
                                .severity = LYAP_SEVERITY_CRITICAL,
                                .pending_step = 117,
                                .firing_step = 118,
                                .resolved_step = -1,
                                .updated_ns = 1700000000123456789,
                                .firing_ns = 1700000000123456789,
                                .value = INFINITY,
                                .threshold = 0.9,
                                .summary = "score <0.97> & rising",
                                .evidence_json = "{\"window\":[1,2]}" };
}

static const struct {
    enum lyap_receiver_type type;
    enum lyap_receiver_format format;
} kinds[] = {
    { LYAP_RECEIVER_WEBHOOK, LYAP_FORMAT_JSON },
    { LYAP_RECEIVER_WEBHOOK, LYAP_FORMAT_SLACK },
    { LYAP_RECEIVER_WEBHOOK, LYAP_FORMAT_DISCORD },
    { LYAP_RECEIVER_ALERTMANAGER, LYAP_FORMAT_JSON },
    { LYAP_RECEIVER_SENDMAIL, LYAP_FORMAT_JSON },
    { LYAP_RECEIVER_LOG, LYAP_FORMAT_JSON },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static enum lyap_status text_of(int kind, const char *payload, char **ret_text)
{
    const struct lyap_delivery delivery = { .id = 3,
                                            .alert_id = 17,
                                            .receiver = "ops",
                                            .kind = LYAP_ALERT_FIRING,
                                            .created_ns = 0x18c3,
                                            .payload_json = payload };
    const struct lyap_receiver receiver = { .name = "ops",
                                            .type = kinds[kind].type,
                                            .format = kinds[kind].format,
                                            .target = "ops@example.org" };
    const struct lyap_message message = { &delivery, &receiver, 1700000000999000000, 60 };
    return lyap_message_text(&message, ret_text);
}

static json_t *body_of(int kind, const char *payload)
{
    char *text = NULL;
    ck_assert_int_eq(text_of(kind, payload, &text), LYAP_OK);
    json_t *body = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(body);
    free(text);
    return body;
}

static const char *at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    ck_assert_msg(text != NULL, "%s", key);
    return text;
}

START_TEST(the_signature_is_that_of_the_reference)
{
    /* hmac.new(b"key", b'1700000000.{"a":1}', hashlib.sha256).hexdigest() */
    static const char expected[] =
        "t=1700000000,v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
    char text[LYAP_SIGNATURE_BYTES];
    ck_assert_int_eq(lyap_signature("key", 1700000000, "{\"a\":1}", text), LYAP_OK);
    ck_assert_str_eq(text, expected);
    ck_assert_int_eq(lyap_signature("kez", 1700000000, "{\"a\":1}", text), LYAP_OK);
    ck_assert_str_ne(text, expected);
}
END_TEST

START_TEST(a_payload_holds_the_alert_as_the_api_shows_it)
{
    const struct lyap_alert alert = alert_of();
    char *text =
        lyap_message_payload(&alert, "{\"team\":\"vision\"}", &advice, 1700000000500000000);
    json_t *payload = json_loads(text, 0, NULL), *shown = json_object_get(payload, "alert");
    ck_assert_str_eq(at(payload, "since"), "2023-11-14T22:13:20.500Z");
    ck_assert_str_eq(at(shown, "rule"), "instability");
    ck_assert_str_eq(at(shown, "value"), "Infinity");
    ck_assert_str_eq(at(shown, "state"), "firing");
    ck_assert_str_eq(at(json_object_get(payload, "labels"), "team"), "vision");
    ck_assert_double_eq(json_real_value(json_object_get(json_object_get(payload, "action"), "lr")),
                        0.25);
    json_decref(payload);
    free(text);
}
END_TEST

START_TEST(every_format_tells_what_when_and_where)
{
    const struct lyap_alert alert = alert_of();
    char *payload =
        lyap_message_payload(&alert, "{\"team\":\"vision\"}", &advice, 1700000000500000000);
    char *text = NULL;
    ck_assert_int_eq(text_of(_i, payload, &text), LYAP_OK);
    ck_assert_ptr_nonnull(strstr(text, "instability"));
    ck_assert_ptr_nonnull(strstr(text, "gpt-7"));
    ck_assert_ptr_nonnull(strstr(text, "critical"));
    ck_assert_ptr_nonnull(strstr(text, "vision"));
    ck_assert_ptr_nonnull(strstr(text, "reduce_lr"));
    ck_assert_ptr_nonnull(strstr(text, "fc1.weight"));
    free(text);
    free(payload);
}
END_TEST

START_TEST(alertmanager_gets_an_end_and_our_names_win)
{
    const struct lyap_alert alert = alert_of();
    char *payload =
        lyap_message_payload(&alert, "{\"alertname\":\"spoof\",\"9 a\":\"x\",\"empty\":\"\"}",
                             &advice, 1700000000500000000);
    json_t *body = body_of(3, payload), *first = json_array_get(body, 0);
    const json_t *labels = json_object_get(first, "labels");
    ck_assert_uint_eq(json_array_size(body), 1);
    ck_assert_str_eq(at(first, "startsAt"), "2023-11-14T22:13:20.500Z");
    ck_assert_str_eq(at(first, "endsAt"), "2023-11-14T22:17:20.999Z"); /* 4 x 60 s ahead */
    ck_assert_str_eq(at(labels, "alertname"), "instability");
    ck_assert_str_eq(at(labels, "_9_a"), "x");
    ck_assert_str_eq(at(labels, "alert_id"), "17");
    ck_assert_ptr_null(json_object_get(labels, "empty"));
    json_decref(body);
    free(payload);
}
END_TEST

/* 32 labels of the largest size, in bytes that JSON and quoted-printable blow up. */
static char *large_labels(void)
{
    json_t *labels = json_object();
    for (int i = 0; i < LYAP_LABEL_COUNT_MAX; i++) {
        char key[LYAP_LABEL_BYTES_MAX + 1], value[LYAP_LABEL_BYTES_MAX + 1];
        memset(key, '<', LYAP_LABEL_BYTES_MAX);
        (void)snprintf(key, sizeof key, "%d", i);
        key[strlen(key)] = '&';
        for (int j = 0; j + 1 < LYAP_LABEL_BYTES_MAX; j += 2)
            memcpy(value + j, "\xc3\xbc", 2);
        key[LYAP_LABEL_BYTES_MAX] = value[LYAP_LABEL_BYTES_MAX] = '\0';
        json_object_set_new(labels, key, json_string(value));
    }
    char *text = json_dumps(labels, 0);
    json_decref(labels);
    return text;
}

START_TEST(texts_are_cut_to_the_limits_of_the_format)
{
    struct lyap_alert alert = alert_of();
    char *labels = large_labels(), *summary = malloc(20001), *text = NULL;
    memset(summary, '&', 20000);
    memcpy(summary + 1499, "\xe2\x82\xac", 3); /* a character on the cut */
    summary[20000] = '\0';
    alert.summary = summary;
    memset(alert.run, 'r', LYAP_RUN_NAME_BYTES_MAX);
    memset(alert.rule, 'u', LYAP_RULE_NAME_BYTES_MAX);
    char *payload = lyap_message_payload(&alert, labels, &advice, 1700000000500000000);
    ck_assert_ptr_nonnull(payload);
    ck_assert_int_eq(text_of(_i, payload, &text), LYAP_OK);
    ck_assert_uint_lt(strlen(text), 2 * LYAP_PAYLOAD_BYTES_MAX);
    if (kinds[_i].format == LYAP_FORMAT_DISCORD) {
        json_t *body = body_of(_i, payload);
        const json_t *embed = json_array_get(json_object_get(body, "embeds"), 0);
        ck_assert_uint_le(strlen(at(body, "content")), 2000);
        ck_assert_uint_le(strlen(at(embed, "title")), 256);
        ck_assert_uint_le(strlen(at(embed, "description")), 1499); /* not half a character */
        json_decref(body);
    }
    free(text);
    free(payload);
    free(summary);
    free(labels);
}
END_TEST

START_TEST(too_large_an_alert_is_refused)
{
    struct lyap_alert alert = alert_of();
    char *summary = malloc(LYAP_PAYLOAD_BYTES_MAX + 1);
    memset(summary, 'x', LYAP_PAYLOAD_BYTES_MAX);
    summary[LYAP_PAYLOAD_BYTES_MAX] = '\0';
    alert.summary = summary;
    ck_assert_ptr_null(lyap_message_payload(&alert, NULL, &advice, 1));
    free(summary);
}
END_TEST

START_TEST(a_payload_that_is_none_of_ours_is_said_so)
{
    static const char *const wrong[] = {
        "", "x", "[]", "{}", "{\"alert\":{},\"labels\":{}}", "{\"alert\":1}"
    };
    char *text = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_eq(text_of(_i, wrong[i], &text), LYAP_E_FORMAT);
    ck_assert_ptr_null(text);
}
END_TEST

START_TEST(keys_tell_deliveries_apart)
{
    struct lyap_delivery deliveries[4] = {
        { .alert_id = 1, .kind = LYAP_ALERT_FIRING, .created_ns = 9 }
    };
    char keys[4][LYAP_MESSAGE_KEY_BYTES];
    for (int i = 1; i < 4; i++)
        deliveries[i] = deliveries[0];
    deliveries[1].alert_id = 2;
    deliveries[2].kind = LYAP_ALERT_RESOLVED;
    deliveries[3].created_ns = 10;
    for (int i = 0; i < 4; i++) {
        lyap_message_key(&deliveries[i], keys[i]);
        for (int j = 0; j < i; j++)
            ck_assert_str_ne(keys[i], keys[j]);
    }
    deliveries[1] = deliveries[0];
    deliveries[1].attempts = 7; /* the same one again */
    lyap_message_key(&deliveries[1], keys[1]);
    ck_assert_str_eq(keys[1], keys[0]);
}
END_TEST

START_TEST(want_of_memory_is_said_and_leaves_nothing)
{
    const struct lyap_alert alert = alert_of();
    char *payload = lyap_message_payload(&alert, "{\"team\":\"vision\"}", &advice, 1);
    enum lyap_status status = LYAP_E_NOMEM;
    uint64_t n = 0;
    for (char *text = NULL; status != LYAP_OK; free(text)) {
        fail_from(++n);
        status = text_of(_i, payload, &text);
        ck_assert(status == LYAP_OK || status == LYAP_E_NOMEM || status == LYAP_E_FORMAT);
        ck_assert_int_eq(status == LYAP_OK, text != NULL);
    }
    ck_assert_uint_gt(n, 10);
    fail_from(0);
    free(payload);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("message");
    TCase *tcase = tcase_create("message");
    tcase_add_test(tcase, the_signature_is_that_of_the_reference);
    tcase_add_test(tcase, a_payload_holds_the_alert_as_the_api_shows_it);
    tcase_add_loop_test(tcase, every_format_tells_what_when_and_where, 0, KINDS);
    tcase_add_test(tcase, alertmanager_gets_an_end_and_our_names_win);
    tcase_add_loop_test(tcase, texts_are_cut_to_the_limits_of_the_format, 0, KINDS);
    tcase_add_test(tcase, too_large_an_alert_is_refused);
    tcase_add_loop_test(tcase, a_payload_that_is_none_of_ours_is_said_so, 0, KINDS);
    tcase_add_test(tcase, keys_tell_deliveries_apart);
    tcase_add_loop_test(tcase, want_of_memory_is_said_and_leaves_nothing, 0, KINDS);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
