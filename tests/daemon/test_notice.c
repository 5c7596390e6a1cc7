/* Who is told: groups, rates, silences, and what time changes, table-driven. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "alerts.h"
#include "lyap/alloc.h"
#include "silences.h"
#include "support.h"

static const int64_t second_ns = 1000000000;

/* What was stored: the alerts by id, and a log of notices: rule initial, then f r or e. */
struct store {
    struct lyap_alert alerts[32];
    int64_t count;
    char log[128];
};

static enum lyap_status store_put(void *ctx, struct lyap_alert *alert)
{
    static const char letters[] = "-fre";
    struct store *store = ctx;
    if (!alert->id)
        alert->id = ++store->count;
    ck_assert_int_lt(alert->id, 32);
    if (!alert->group_id)
        alert->group_id = alert->id;
    store->alerts[alert->id] = *alert;
    if (alert->notice != LYAP_NOTICE_NONE) {
        const size_t length = strlen(store->log);
        (void)snprintf(store->log + length, sizeof store->log - length, "%c%c", alert->rule[0],
                       letters[alert->notice]);
    }
    return LYAP_OK;
}

struct bench {
    struct lyap_rules rules;
    struct lyap_alerts *alerts;
    struct lyap_silences silences;
    struct lyap_labels labels;
    struct store store;
    struct lyap_alert_sink sink;
    int64_t step, now_ns;
};

static void add_rule(struct bench *bench, const char *name, const char *cause, double threshold,
                     enum lyap_severity severity, uint32_t per_hour)
{
    struct lyap_rule rule = { .is_enabled = true,
                              .metric = "loss",
                              .threshold = threshold,
                              .clear = NAN,
                              .for_steps = 1,
                              .clear_steps = 1,
                              .severity = severity,
                              .notify_per_hour = per_hour };
    (void)snprintf(rule.name, sizeof rule.name, "%s", name);
    (void)snprintf(rule.cause, sizeof rule.cause, "%s", cause);
    ck_assert_int_eq(lyap_rules_put(&bench->rules, &rule, NULL), LYAP_OK);
}

static void setup(struct bench *bench)
{
    *bench = (struct bench){ .now_ns = 1000 * second_ns };
    bench->sink = (struct lyap_alert_sink){ &bench->store, store_put };
    ck_assert_int_eq(lyap_alerts_new(&bench->alerts), LYAP_OK);
}

static void teardown(struct bench *bench)
{
    lyap_alerts_free(bench->alerts);
    lyap_rules_release(&bench->rules);
    lyap_silences_release(&bench->silences);
    lyap_labels_release(&bench->labels);
}

static void feed(struct bench *bench, double loss)
{
    struct lyap_point point;
    lyap_point_init(&point);
    point.step = bench->step++;
    point.attempt = 1;
    point.time_ns = bench->now_ns;
    point.metrics[LYAP_METRIC_LOSS] = (struct lyap_value){ .value = loss, .error = NAN };
    const struct lyap_alert_input input = { .run = "run",
                                            .run_id = 1,
                                            .labels = &bench->labels,
                                            .point = &point,
                                            .points = (uint32_t)bench->step,
                                            .silences = &bench->silences,
                                            .now_ns = bench->now_ns };
    ck_assert_int_eq(lyap_alerts_step(bench->alerts, &bench->rules, &input, &bench->sink), LYAP_OK);
}

static void silence(struct bench *bench, struct lyap_silence wanted, int64_t seconds)
{
    wanted.id = (int64_t)bench->silences.revision + 100;
    wanted.comment = "";
    wanted.created_ns = bench->now_ns;
    wanted.until_ns = bench->now_ns + seconds * second_ns;
    ck_assert_int_eq(lyap_silences_add(&bench->silences, &wanted, NULL), LYAP_OK);
}

static void pass(struct bench *bench, int64_t seconds)
{
    bench->now_ns += seconds * second_ns;
    lyap_silences_expire(&bench->silences, bench->now_ns);
    if (!lyap_alerts_is_look_due(bench->alerts, &bench->silences, bench->now_ns))
        return;
    const struct lyap_alert_watch watch = { .rules = &bench->rules,
                                            .silences = &bench->silences,
                                            .labels = &bench->labels,
                                            .now_ns = bench->now_ns };
    ck_assert_int_eq(lyap_alerts_look(bench->alerts, &watch, &bench->sink), LYAP_OK);
    ck_assert(!lyap_alerts_is_look_due(bench->alerts, &bench->silences, bench->now_ns));
}

/* A restart: everything from what was stored. */
static void restart(struct bench *bench)
{
    lyap_alerts_free(bench->alerts);
    ck_assert_int_eq(lyap_alerts_new(&bench->alerts), LYAP_OK);
    for (int64_t id = 1; id <= bench->store.count; id++) {
        struct lyap_alert stored = bench->store.alerts[id];
        stored.summary = "";
        stored.evidence_json = "{}";
        stored.tensor = NULL;
        stored.notice = LYAP_NOTICE_NONE; /* not stored */
        ck_assert_int_eq(lyap_alerts_restore(bench->alerts, &stored), LYAP_OK);
    }
    ck_assert_int_eq(lyap_alerts_replay_begin(bench->alerts, &bench->rules), LYAP_OK);
}

/* Losses, with the rules a > 1, b > 2 (both warnings of cause "c"), x > 4 (critical, of "c"),
 * o > 2 (of its own). 'R' as a value: a restart. */
#define RESTART (-1.0)
static const struct {
    double losses[10];
    int count;
    const char *log;
} groups[] = {
    { { 1.5 }, 1, "af" },
    { { 1.5, 0 }, 2, "afar" },
    { { 3 }, 1, "afof" },             /* b is told with a */
    { { 3, 1.5, 0 }, 3, "afoforar" }, /* b resolves, a goes on */
    { { 1.5, 3, 0 }, 3, "afofbror" }, /* the last of the group tells its end */
    { { 5 }, 1, "afxfof" },           /* more severe: told again */
    { { 5, 3 }, 2, "afxfof" },        /* x resolves, the group goes on */
    { { 5, 3, 0 }, 3, "afxfofbror" },
    { { 3, RESTART, 3, 0 }, 4, "afofbror" }, /* after a restart nobody is told again */
    { { 1.5, RESTART, 3, RESTART, 5 }, 5, "afofxf" },
    { { 1.5, 0, 1.5 }, 3, "afaraf" }, /* a new group */
};

START_TEST(groups_are_told_as_one)
{
    struct bench bench;
    setup(&bench);
    add_rule(&bench, "a", "c", 1, LYAP_SEVERITY_WARNING, 0);
    add_rule(&bench, "b", "c", 2, LYAP_SEVERITY_WARNING, 0);
    add_rule(&bench, "x", "c", 4, LYAP_SEVERITY_CRITICAL, 0);
    add_rule(&bench, "o", "", 2, LYAP_SEVERITY_WARNING, 0);
    for (int i = 0; i < groups[_i].count; i++) {
        if (groups[_i].losses[i] < 0)
            restart(&bench);
        else
            feed(&bench, groups[_i].losses[i]);
    }
    /* Slots move when one resolves, so within one step the order of the resolved ones is free. */
    ck_assert_uint_eq(strlen(bench.store.log), strlen(groups[_i].log));
    ck_assert_msg(strncmp(bench.store.log, groups[_i].log, 4) == 0, "%s, expected %s",
                  bench.store.log, groups[_i].log);
    for (const char *at = groups[_i].log; *at; at += 2) {
        const char entry[] = { at[0], at[1], '\0' };
        if (at[1] == 'f' || at[0] == 'o')
            ck_assert_msg(strstr(bench.store.log, entry), "%s lacks %s", bench.store.log, entry);
    }
    teardown(&bench);
}
END_TEST

START_TEST(members_say_their_group_and_why_they_were_held)
{
    struct bench bench;
    setup(&bench);
    add_rule(&bench, "a", "c", 1, LYAP_SEVERITY_WARNING, 0);
    add_rule(&bench, "b", "c", 2, LYAP_SEVERITY_WARNING, 0);
    feed(&bench, 3);
    const struct lyap_alert *first = &bench.store.alerts[1], *second = &bench.store.alerts[2];
    ck_assert_int_eq(first->group_id, 1);
    ck_assert_int_eq(second->group_id, 1);
    ck_assert_str_eq(second->cause, "c");
    ck_assert_int_eq(first->held, LYAP_HELD_NO);
    ck_assert_int_eq(second->held, LYAP_HELD_GROUPED);
    ck_assert_int_eq(second->notified_ns, first->notified_ns);
    ck_assert_int_eq(first->notified_ns, bench.now_ns);
    ck_assert_int_eq(first->firing_ns, bench.now_ns);
    teardown(&bench);
}
END_TEST

START_TEST(rates_are_by_the_hour_and_survive_a_restart)
{
    struct bench bench;
    setup(&bench);
    add_rule(&bench, "a", "", 1, LYAP_SEVERITY_WARNING, 2);
    for (int i = 0; i < 3; i++) {
        feed(&bench, 5);
        feed(&bench, 0);
    }
    ck_assert_str_eq(bench.store.log, "afarafar");
    ck_assert_int_eq(bench.store.alerts[3].held, LYAP_HELD_RATE_LIMITED);
    restart(&bench);
    feed(&bench, 5); /* still the same hour */
    ck_assert_str_eq(bench.store.log, "afarafar");
    ck_assert(lyap_alerts_is_held(bench.alerts));
    pass(&bench, 3599);
    ck_assert_str_eq(bench.store.log, "afarafar");
    pass(&bench, 2); /* the hour is over, and it still fires */
    ck_assert_str_eq(bench.store.log, "afarafaraf");
    ck_assert(!lyap_alerts_is_held(bench.alerts));
    ck_assert_int_eq(bench.store.alerts[4].held, LYAP_HELD_NO);
    teardown(&bench);
}
END_TEST

START_TEST(silence_holds_until_it_ends)
{
    struct bench bench;
    setup(&bench);
    add_rule(&bench, "a", "", 1, LYAP_SEVERITY_WARNING, 0);
    silence(&bench, (struct lyap_silence){ .rule = "a", .severity = -1 }, 60);
    feed(&bench, 5);
    ck_assert_str_eq(bench.store.log, "");
    ck_assert_int_eq(bench.store.alerts[1].held, LYAP_HELD_SILENCED);
    ck_assert_int_eq(bench.store.alerts[1].silenced_until_ns, bench.now_ns + 60 * second_ns);
    restart(&bench);
    pass(&bench, 59);
    ck_assert_str_eq(bench.store.log, "");
    pass(&bench, 1);
    ck_assert_str_eq(bench.store.log, "af");
    ck_assert_int_eq(bench.store.alerts[1].silence_id, 0);
    feed(&bench, 0);
    ck_assert_str_eq(bench.store.log, "afar");
    teardown(&bench);
}
END_TEST

START_TEST(who_acknowledged_in_silence_is_not_told_until_that_ends)
{
    struct bench bench;
    setup(&bench);
    add_rule(&bench, "a", "", 1, LYAP_SEVERITY_WARNING, 0);
    silence(&bench, (struct lyap_silence){ .rule = "a", .severity = -1 }, 60);
    feed(&bench, 5);
    struct lyap_alert *open = lyap_alerts_find(bench.alerts, 1);
    open->acked_ns = bench.now_ns;
    open->ack_until_ns = bench.now_ns + 100 * second_ns;
    pass(&bench, 61);
    ck_assert_str_eq(bench.store.log, "");
    pass(&bench, 38);
    ck_assert_str_eq(bench.store.log, "");
    pass(&bench, 1);
    ck_assert_str_eq(bench.store.log, "af");
    teardown(&bench);
}
END_TEST

START_TEST(what_resolves_in_silence_is_not_told)
{
    struct bench bench;
    setup(&bench);
    add_rule(&bench, "a", "", 1, LYAP_SEVERITY_WARNING, 0);
    silence(&bench, (struct lyap_silence){ .run = "r*", .severity = -1 }, 60);
    feed(&bench, 5);
    feed(&bench, 0);
    ck_assert_str_eq(bench.store.log, ""); /* nobody knew of it */
    pass(&bench, 61);
    feed(&bench, 5);
    ck_assert_str_eq(bench.store.log, "af");
    silence(&bench, (struct lyap_silence){ .severity = LYAP_SEVERITY_WARNING }, 60);
    pass(&bench, 0);
    feed(&bench, 0);
    ck_assert_str_eq(bench.store.log, "afae"); /* ended, and what repeats is done */
    teardown(&bench);
}
END_TEST

static const struct {
    struct lyap_silence silence;
    bool is_matched;
} matches[] = {
    { { .run = "*", .severity = -1 }, true },
    { { .run = "gpt-?", .severity = -1 }, true },
    { { .run = "gpt", .severity = -1 }, false },
    { { .rule = "inst*", .severity = -1 }, true },
    { { .rule = "inst", .severity = -1 }, false },
    { { .run = "gpt-*", .rule = "edge", .severity = -1 }, false },
    { { .severity = LYAP_SEVERITY_WARNING }, true },
    { { .severity = LYAP_SEVERITY_CRITICAL }, false },
    { { .severity = -1, .labels_json = "{\"team\":\"vis*\"}" }, true },
    { { .severity = -1, .labels_json = "{\"team\":\"vis\"}" }, false },
    { { .severity = -1, .labels_json = "{\"user\":\"*\"}" }, false },
};

START_TEST(silences_match)
{
    struct bench bench;
    setup(&bench);
    const struct lyap_alert alert = { .run = "gpt-7",
                                      .rule = "instability",
                                      .severity = LYAP_SEVERITY_WARNING };
    ck_assert_int_eq(lyap_labels_parse("{\"team\":\"vision\"}", &bench.labels), LYAP_OK);
    silence(&bench, matches[_i].silence, 10);
    const struct lyap_silence *found =
        lyap_silences_match(&bench.silences, &alert, &bench.labels, bench.now_ns);
    ck_assert((found != NULL) == matches[_i].is_matched);
    ck_assert_ptr_null(
        lyap_silences_match(&bench.silences, &alert, &bench.labels, bench.now_ns + 10 * second_ns));
    if (found) { /* the one that lasts longest says until when */
        silence(&bench, (struct lyap_silence){ .run = "*", .severity = -1 }, 20);
        silence(&bench, (struct lyap_silence){ .run = "*", .severity = -1 }, 15);
        found = lyap_silences_match(&bench.silences, &alert, &bench.labels, bench.now_ns);
        ck_assert_int_eq(found->until_ns, bench.now_ns + 20 * second_ns);
    }
    teardown(&bench);
}
END_TEST

START_TEST(silences_are_checked_and_bounded)
{
    struct bench bench;
    struct lyap_error error = LYAP_ERROR_NULL;
    setup(&bench);
    struct lyap_silence wanted = { .severity = -1, .created_ns = 5, .until_ns = 6, .comment = "" };
    ck_assert_int_eq(lyap_silence_check(&wanted, &error), LYAP_E_INVALID);
    ck_assert_ptr_nonnull(strstr(error.text, "run"));
    wanted.run[0] = '*';
    ck_assert_int_eq(lyap_silence_check(&wanted, NULL), LYAP_OK);
    wanted.until_ns = 5;
    ck_assert_int_eq(lyap_silence_check(&wanted, NULL), LYAP_E_INVALID);
    wanted.until_ns = 6 + LYAP_RULE_SECONDS_MAX * second_ns;
    ck_assert_int_eq(lyap_silence_check(&wanted, NULL), LYAP_E_INVALID);
    wanted.labels_json = "[]";
    ck_assert_int_eq(lyap_silences_add(&bench.silences, &wanted, &error), LYAP_E_FORMAT);
    wanted.labels_json = NULL;
    for (int i = 0; i < LYAP_SILENCE_COUNT_MAX; i++) {
        wanted.id = i + 1;
        wanted.until_ns = i < 10 ? 7 : 9;
        ck_assert_int_eq(lyap_silences_add(&bench.silences, &wanted, NULL), LYAP_OK);
    }
    ck_assert_int_eq(lyap_silences_add(&bench.silences, &wanted, NULL), LYAP_E_LIMIT);
    lyap_silences_expire(&bench.silences, 7);
    ck_assert_uint_eq(bench.silences.count, LYAP_SILENCE_COUNT_MAX - 10);
    ck_assert(!lyap_silences_remove(&bench.silences, 3));
    ck_assert(lyap_silences_remove(&bench.silences, 500));
    ck_assert(!lyap_silences_remove(&bench.silences, 500));
    teardown(&bench);
}
END_TEST

START_TEST(acknowledgements_end)
{
    struct lyap_alert alert = { .acked_ns = 0 };
    ck_assert(!lyap_alert_is_acked(&alert, 5));
    alert.acked_ns = 3;
    ck_assert(lyap_alert_is_acked(&alert, 5));
    alert.ack_until_ns = 5;
    ck_assert(lyap_alert_is_acked(&alert, 4) && !lyap_alert_is_acked(&alert, 5));
}
END_TEST

START_TEST(memory_may_end_anywhere)
{
    test_alloc_install();
    for (uint64_t n = 1;; n++) {
        struct bench bench = { .now_ns = second_ns };
        struct lyap_silence wanted = { .id = 1,
                                       .run = "x",
                                       .severity = -1,
                                       .labels_json = "{\"a\":\"b\"}",
                                       .comment = "",
                                       .until_ns = 2 * second_ns };
        test_alloc_fail_at(n);
        const enum lyap_status status = lyap_silences_add(&bench.silences, &wanted, NULL);
        ck_assert(status == LYAP_OK || status == LYAP_E_NOMEM);
        lyap_silences_release(&bench.silences);
        ck_assert_int_eq(test_alloc_live(), 0);
        if (status == LYAP_OK)
            break;
    }
    test_alloc_fail_at(0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("notice");
    TCase *tests = tcase_create("notice");
    tcase_add_loop_test(tests, groups_are_told_as_one, 0, sizeof groups / sizeof *groups);
    tcase_add_test(tests, members_say_their_group_and_why_they_were_held);
    tcase_add_test(tests, rates_are_by_the_hour_and_survive_a_restart);
    tcase_add_test(tests, silence_holds_until_it_ends);
    tcase_add_test(tests, who_acknowledged_in_silence_is_not_told_until_that_ends);
    tcase_add_test(tests, what_resolves_in_silence_is_not_told);
    tcase_add_loop_test(tests, silences_match, 0, sizeof matches / sizeof *matches);
    tcase_add_test(tests, silences_are_checked_and_bounded);
    tcase_add_test(tests, acknowledgements_end);
    tcase_add_test(tests, memory_may_end_anywhere);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
