/* The ring of the live feed: what readers see, what they lose and are told, and its limits. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "feed.h"
#include "request.h"
#include "support.h"

enum { EPOCH = 0xab };
static const struct api_feed_filter all = { .types = (1u << API_FEED_TYPE_COUNT) - 1 };
static const int64_t second = 1000000000;

static void put_point(struct api_feed *feed, const char *run, int64_t step)
{
    struct lyap_point point;
    lyap_point_init(&point);
    point.step = step;
    api_feed_stage_point(feed, run, &point);
}

static struct api_feed_reader *opened(struct api_feed *feed, const char *last_id,
                                      const struct api_feed_filter *filter)
{
    struct api_feed_reader *reader;
    struct lyap_error error = LYAP_ERROR_NULL;
    ck_assert_int_eq(api_feed_open(feed, last_id, filter, &reader, &error), LYAP_OK);
    return reader;
}

/* Everything that there is to read, terminated. */
static char *text_of(struct api_feed_reader *reader)
{
    struct api_text text;
    size_t length;
    api_text_init(&text, 64 << 20);
    do
        ck_assert_int_eq(api_feed_read(reader, &text), LYAP_OK);
    while (api_feed_has_more(reader));
    api_text_append(&text, "", 1);
    return api_text_detach(&text, &length);
}

static int count_of(const char *text, const char *what)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        count++;
    return count;
}

static void check(struct api_feed_reader *reader, const char *expected)
{
    char *text = text_of(reader);
    ck_assert_str_eq(text, expected);
    free(text);
}

static void skip_greeting(struct api_feed_reader *reader)
{
    check(reader, "retry: 3000\nid: ab-0\nevent: hello\ndata: {}\n\n");
}

START_TEST(test_only_what_is_committed_is_read)
{
    struct api_feed *feed = api_feed_new(EPOCH);
    struct api_feed_reader *reader = opened(feed, NULL, &all);
    skip_greeting(reader);
    put_point(feed, "r", 7);
    ck_assert(!api_feed_has_more(reader));
    api_feed_settle(feed, false);
    ck_assert(!api_feed_has_more(reader));
    put_point(feed, "r", 8);
    api_feed_settle(feed, true);
    char *text = text_of(reader);
    ck_assert_ptr_nonnull(strstr(text, "id: ab-1\nevent: point\ndata: {\"run\":\"r\""));
    ck_assert_ptr_nonnull(strstr(text, "\"step\":8,"));
    ck_assert_ptr_nonnull(strstr(text, "}\n\n"));
    ck_assert_int_eq(count_of(text, "event:"), 1);
    free(text);
    api_feed_close(reader);
    api_feed_free(feed);
}
END_TEST

/* What came before the first reader is counted alone: hello says where the stream begins. */
START_TEST(test_events_that_nobody_read_have_numbers)
{
    struct api_feed *feed = api_feed_new(EPOCH);
    put_point(feed, "early", 1);
    put_point(feed, "early", 2);
    api_feed_settle(feed, false);
    put_point(feed, "early", 3);
    api_feed_settle(feed, true);
    struct api_feed_reader *reader = opened(feed, NULL, &all);
    check(reader, "retry: 3000\nid: ab-1\nevent: hello\ndata: {}\n\n");
    api_feed_close(reader);
    api_feed_free(feed);
}
END_TEST

/* Between hello and the commit of a batch that began before it lie reads that do not show it. */
START_TEST(test_a_batch_under_way_is_not_missed_silently)
{
    struct api_feed *feed = api_feed_new(EPOCH);
    put_point(feed, "r", 1);
    put_point(feed, "r", 2);
    struct api_feed_reader *reader = opened(feed, NULL, &all);
    skip_greeting(reader);
    put_point(feed, "r", 3);
    api_feed_settle(feed, true);
    char *text = text_of(reader);
    const char *rest = strstr(text, "event: reset\ndata: {\"lost\":2}\n\n");
    ck_assert_ptr_nonnull(rest);
    ck_assert_ptr_nonnull(strstr(rest, "\"step\":3,"));
    ck_assert_int_eq(count_of(text, "event: point"), 1);
    free(text);
    put_point(feed, "r", 4);
    api_feed_settle(feed, true);
    text = text_of(reader);
    ck_assert_int_eq(count_of(text, "event: reset"), 0);
    free(text);
    api_feed_close(reader);
    api_feed_free(feed);
}
END_TEST

/* The pattern costs the same whatever it is; a run matches it or not. */
START_TEST(test_patterns)
{
    static const struct {
        const char *pattern;
        bool is_match; /* of "gpt-12" */
    } cases[] = { { "gpt-12", true }, { "gpt-1", false },      { "*", true },
                  { "g*-??", true },  { "?*?*?*?*?*?", true }, { "*-*-*", false },
                  { "??????", true }, { "?????", false } };
    char longest[LYAP_PATTERN_BYTES_MAX + 2] = "";
    struct api_feed *feed = api_feed_new(EPOCH);
    struct api_feed_reader *reader;
    struct lyap_error error = LYAP_ERROR_NULL;
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct api_feed_filter filter = { cases[i].pattern, all.types };
        reader = opened(feed, NULL, &filter);
        put_point(feed, "gpt-12", 1);
        api_feed_settle(feed, true);
        char *text = text_of(reader);
        ck_assert_msg(count_of(text, "event: point") == cases[i].is_match, "%s", cases[i].pattern);
        free(text);
        api_feed_close(reader);
    }
    memset(longest, '?', LYAP_PATTERN_BYTES_MAX + 1);
    const struct api_feed_filter filter = { longest, all.types };
    ck_assert_int_eq(api_feed_open(feed, NULL, &filter, &reader, &error), LYAP_E_INVALID);
    ck_assert_uint_eq(api_feed_count(feed).readers, 0);
    api_feed_free(feed);
}
END_TEST

START_TEST(test_filters)
{
    struct api_feed *feed = api_feed_new(EPOCH);
    const struct lyap_alert alert = { .id = 3, .run = "gpt-2", .rule = "x", .summary = "s" };
    const struct lyap_alert own = { .id = 4, .run = "", .rule = "disk-low", .summary = "s" };
    const struct lyap_event_record event = { .detail_json = "{}" };
    const struct api_feed_filter runs = { "gpt-*", all.types };
    const struct api_feed_filter alerts = { NULL, 1u << API_FEED_ALERT };
    struct api_feed_reader *of_runs = opened(feed, NULL, &runs);
    struct api_feed_reader *of_alerts = opened(feed, NULL, &alerts);
    skip_greeting(of_runs);
    skip_greeting(of_alerts);
    put_point(feed, "gpt-1", 1);
    put_point(feed, "bert", 1);
    api_feed_stage_alert(feed, &alert);
    api_feed_stage_alert(feed, &own);
    api_feed_stage_mark(feed, "gpt-2", &event);
    api_feed_settle(feed, true);
    char *text = text_of(of_runs);
    ck_assert_int_eq(count_of(text, "event: "), 3);
    ck_assert_int_eq(count_of(text, "\"gpt-"), 3);
    free(text);
    text = text_of(of_alerts);
    ck_assert_int_eq(count_of(text, "event: alert"), 2);
    ck_assert_int_eq(count_of(text, "event: "), 2);
    ck_assert_ptr_nonnull(strstr(text, "\"run\":null"));
    free(text);
    api_feed_close(of_runs);
    api_feed_close(of_alerts);
    api_feed_free(feed);
}
END_TEST

/* An id of the ring goes on behind it; any other is told that something may be missing. */
START_TEST(test_last_event_id)
{
    static const char *const strange[] = { "ab-9",
                                           "ac-2",
                                           "ab-",
                                           "ab",
                                           "-2",
                                           "x",
                                           "ab-2 ",
                                           "ab-2x",
                                           "99999999999999999999-1",
                                           "ab-99999999999999999999" };
    struct api_feed *feed = api_feed_new(EPOCH);
    struct api_feed_reader *first = opened(feed, NULL, &all);
    for (int i = 1; i <= 4; i++)
        put_point(feed, "r", i);
    api_feed_settle(feed, true);
    api_feed_close(first);
    struct api_feed_reader *again = opened(feed, "ab-2", &all);
    char *text = text_of(again);
    ck_assert_int_eq(count_of(text, "event: point"), 2);
    ck_assert_int_eq(count_of(text, "event: reset"), 0);
    ck_assert_ptr_nonnull(strstr(text, "id: ab-3\nevent: point"));
    free(text);
    api_feed_close(again);
    for (unsigned i = 0; i < sizeof strange / sizeof *strange; i++) {
        again = opened(feed, strange[i], &all);
        check(again, "retry: 3000\nid: ab-4\nevent: hello\ndata: {}\n\n"
                     "id: ab-4\nevent: reset\ndata: {\"lost\":null}\n\n");
        api_feed_close(again);
    }
    api_feed_free(feed);
}
END_TEST

/* A reader that does not read costs nothing, and is told how much it has missed. */
START_TEST(test_slow_reader)
{
    enum { BATCHES = 10, BATCH = 3000 };
    struct api_feed *feed = api_feed_new(EPOCH);
    struct api_feed_reader *slow = opened(feed, NULL, &all);
    skip_greeting(slow);
    for (int i = 0; i < BATCHES; i++) {
        for (int k = 0; k < BATCH; k++)
            put_point(feed, "r", i * BATCH + k);
        api_feed_settle(feed, true);
    }
    char *text = text_of(slow);
    const char *reset = strstr(text, "event: reset\ndata: {\"lost\":");
    ck_assert_ptr_nonnull(reset);
    const long lost = strtol(reset + strlen("event: reset\ndata: {\"lost\":"), NULL, 10);
    ck_assert_int_eq(lost + count_of(text, "event: point"), BATCHES * BATCH);
    ck_assert_int_gt(lost, 0);
    ck_assert_uint_lt(strlen(text), 2 * API_FEED_BYTES_MAX);
    ck_assert_uint_eq(api_feed_count(feed).lost, (uint64_t)lost);
    free(text);
    api_feed_close(slow);
    api_feed_free(feed);
}
END_TEST

/* One batch larger than the ring: its newest part is there, the rest is counted. */
START_TEST(test_large_batch)
{
    enum { BATCH = 30000 }; /* more than the ring holds */
    struct api_feed *feed = api_feed_new(EPOCH);
    struct api_feed_reader *reader = opened(feed, NULL, &all);
    skip_greeting(reader);
    for (int k = 0; k < BATCH; k++)
        put_point(feed, "r", k);
    api_feed_settle(feed, true);
    char *text = text_of(reader);
    const char *reset = strstr(text, "{\"lost\":");
    ck_assert_ptr_nonnull(reset);
    ck_assert_int_eq(strtol(reset + 8, NULL, 10) + count_of(text, "event: point"), BATCH);
    ck_assert_ptr_nonnull(strstr(text, "\"step\":29999,"));
    free(text);
    api_feed_close(reader);
    api_feed_free(feed);
}
END_TEST

START_TEST(test_heartbeats)
{
    struct api_feed *feed = api_feed_new(EPOCH);
    struct api_feed_reader *reader = opened(feed, NULL, &all);
    api_feed_beat(feed, second);
    skip_greeting(reader); /* says that it is alive: no heartbeat beside it */
    api_feed_beat(feed, 2 * second);
    ck_assert(!api_feed_has_more(reader));
    api_feed_beat(feed, (1 + API_FEED_HEARTBEAT_S) * second);
    check(reader, ":\nid: ab-0\n\n");
    ck_assert(!api_feed_has_more(reader));
    api_feed_close(reader);
    api_feed_free(feed);
}
END_TEST

/* What a filter leaves out was read all the same: heartbeats move the place to come back to. */
START_TEST(test_a_heartbeat_carries_the_place)
{
    const struct api_feed_filter alerts = { NULL, 1u << API_FEED_ALERT };
    struct api_feed *feed = api_feed_new(EPOCH);
    struct api_feed_reader *reader = opened(feed, NULL, &alerts);
    skip_greeting(reader);
    for (int i = 0; i < 3; i++)
        put_point(feed, "r", i);
    api_feed_settle(feed, true);
    check(reader, "");
    api_feed_beat(feed, second);
    check(reader, ":\nid: ab-3\n\n");
    api_feed_close(reader);
    api_feed_free(feed);
}
END_TEST

/* Between two heartbeats the ring may go round: a reader that wants nothing of it still knows an id
 * that the ring holds. */
START_TEST(test_the_place_moves_along_with_the_ring)
{
    enum { BATCHES = 30, BATCH = 1000 }; /* more than the ring holds */
    const struct api_feed_filter alerts = { NULL, 1u << API_FEED_ALERT };
    struct api_feed *feed = api_feed_new(EPOCH);
    struct api_feed_reader *reader = opened(feed, NULL, &alerts);
    char id[64] = "";
    int blocks = 0;
    skip_greeting(reader);
    for (int i = 0; i < BATCHES; i++) {
        for (int k = 0; k < BATCH; k++)
            put_point(feed, "r", i * BATCH + k);
        api_feed_settle(feed, true);
        char *text = text_of(reader);
        blocks += sscanf(text, ":\nid: %63s", id) == 1;
        free(text);
    }
    ck_assert_int_gt(blocks, 0);
    ck_assert_int_lt(blocks, BATCHES); /* no block for every commit */
    api_feed_close(reader);
    reader = opened(feed, id, &alerts);
    char *text = text_of(reader);
    ck_assert_int_eq(count_of(text, "event: reset"), 0);
    free(text);
    api_feed_close(reader);
    api_feed_free(feed);
}
END_TEST

/* Without readers the ring is kept for a while and then given up: an id from before is told so, and
 * how much is gone; nothing when nothing came. */
START_TEST(test_linger)
{
    const bool is_long = _i & 1, is_quiet = _i & 2;
    struct api_feed *feed = api_feed_new(EPOCH);
    api_feed_close(opened(feed, NULL, &all));
    put_point(feed, "r", 1);
    api_feed_settle(feed, true);
    api_feed_beat(feed, second);
    api_feed_beat(feed, (is_long ? 3 : 1) * API_FEED_LINGER_S * second);
    for (int i = 2; !is_quiet && i < 4; i++)
        put_point(feed, "r", i);
    api_feed_settle(feed, true);
    struct api_feed_reader *again = opened(feed, "ab-1", &all);
    char *text = text_of(again);
    ck_assert_int_eq(count_of(text, "event: reset\ndata: {\"lost\":2}"), is_long && !is_quiet);
    ck_assert_int_eq(count_of(text, "event: reset"), is_long && !is_quiet);
    ck_assert_int_eq(count_of(text, "event: point"), is_long || is_quiet ? 0 : 2);
    free(text);
    api_feed_close(again);
    api_feed_free(feed);
}
END_TEST

START_TEST(test_readers_are_bounded)
{
    struct api_feed *feed = api_feed_new(EPOCH);
    struct api_feed_reader *readers[API_FEED_READERS_MAX], *more;
    struct lyap_error error = LYAP_ERROR_NULL;
    for (int i = 0; i < API_FEED_READERS_MAX; i++)
        readers[i] = opened(feed, NULL, &all);
    ck_assert_int_eq(api_feed_open(feed, NULL, &all, &more, &error), LYAP_E_BUSY);
    ck_assert_ptr_nonnull(strstr(error.text, "64"));
    api_feed_close(readers[0]);
    readers[0] = opened(feed, NULL, &all);
    ck_assert_uint_eq(api_feed_count(feed).readers, API_FEED_READERS_MAX);
    for (int i = 0; i < API_FEED_READERS_MAX; i++)
        api_feed_close(readers[i]);
    api_feed_free(feed);
}
END_TEST

/* ---- threads ---- */

static void *read_along(void *arg)
{
    struct api_feed *feed = arg;
    for (int i = 0; i < 300; i++) {
        struct api_feed_reader *reader = opened(feed, NULL, &all);
        for (int k = 0; k < 5; k++) {
            struct api_text text;
            api_text_init(&text, 1 << 20);
            ck_assert_int_eq(api_feed_read(reader, &text), LYAP_OK);
            (void)api_feed_has_more(reader);
            api_text_release(&text);
        }
        api_feed_close(reader);
    }
    return NULL;
}

START_TEST(test_readers_come_and_go_while_it_is_written)
{
    struct api_feed *feed = api_feed_new(EPOCH);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_along, feed), 0);
    for (int i = 0; i < 3000; i++) {
        put_point(feed, "r", i);
        put_point(feed, "q", i);
        api_feed_settle(feed, i % 3 != 0);
        api_feed_beat(feed, i * second);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(api_feed_count(feed).readers, 0);
    api_feed_free(feed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api_feed");
    TCase *tests = tcase_create("feed");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_only_what_is_committed_is_read);
    tcase_add_test(tests, test_events_that_nobody_read_have_numbers);
    tcase_add_test(tests, test_a_batch_under_way_is_not_missed_silently);
    tcase_add_test(tests, test_patterns);
    tcase_add_test(tests, test_filters);
    tcase_add_test(tests, test_last_event_id);
    tcase_add_test(tests, test_slow_reader);
    tcase_add_test(tests, test_large_batch);
    tcase_add_test(tests, test_heartbeats);
    tcase_add_test(tests, test_a_heartbeat_carries_the_place);
    tcase_add_test(tests, test_the_place_moves_along_with_the_ring);
    tcase_add_loop_test(tests, test_linger, 0, 4);
    tcase_add_test(tests, test_readers_are_bounded);
    tcase_add_test(tests, test_readers_come_and_go_while_it_is_written);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
