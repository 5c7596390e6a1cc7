/* Versions of rules, silences, groups of alerts, rows of tensors by step. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "store_support.h"

static struct test_store test;

static void setup(void)
{
    test_store_init(&test);
}

static void teardown(void)
{
    test_store_release(&test);
}

static struct lyap_rule rule_of(const char *name, double threshold)
{
    struct lyap_rule rule = { .updated_ns = 5,
                              .is_enabled = true,
                              .metric = "grad_norm / mean(grad_norm, 10)",
                              .comparison = LYAP_CMP_GT,
                              .threshold = threshold,
                              .clear = NAN,
                              .for_steps = 1,
                              .clear_steps = 1,
                              .cooldown_steps = 3,
                              .cooldown_s = 4,
                              .notify_per_hour = 6,
                              .cause = "spike",
                              .run_pattern = "gpt-*",
                              .runs_json = "{\"a\":\"b*\"}",
                              .notify_json = "[\"ops\"]" };
    (void)snprintf(rule.name, sizeof rule.name, "%s", name);
    return rule;
}

static struct lyap_query versions_of(const char *name)
{
    struct lyap_query query = test_query(LYAP_TABLE_RULE_VERSIONS, NULL);
    query.rule = name;
    return query;
}

START_TEST(versions_count_up_and_outlive_the_rule)
{
    struct lyap_store *store = test.store;
    struct lyap_rule rule = rule_of("r", 1), other = rule_of("other", 9);
    test_begin(store);
    STORE_OK(store, store->ops->put_rule(store, &rule));
    ck_assert_uint_eq(rule.version, 1);
    rule.threshold = 2;
    STORE_OK(store, store->ops->put_rule(store, &rule));
    ck_assert_uint_eq(rule.version, 2);
    STORE_OK(store, store->ops->put_rule(store, &other));
    ck_assert_uint_eq(other.version, 1);
    STORE_OK(store, store->ops->delete_rule(store, "r", 77));
    STORE_OK(store, store->ops->put_rule(store, &rule));
    ck_assert_uint_eq(rule.version, 4);
    test_commit(store);
    test_store_reopen(&test);
    store = test.store;
    struct lyap_query query = versions_of("r");
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    static const double thresholds[] = { 1, 2, 2, 2 };
    for (uint32_t version = 1; version <= 4; version++) {
        ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
        const struct lyap_rule *got = &record.u.rule;
        ck_assert_int_eq(record.key, version);
        ck_assert_uint_eq(got->version, version);
        ck_assert_double_eq(got->threshold, thresholds[version - 1]);
        ck_assert(got->is_deleted == (version == 3));
        ck_assert_int_eq(got->updated_ns, version == 3 ? 77 : 5);
        ck_assert_str_eq(got->metric, "grad_norm / mean(grad_norm, 10)");
        ck_assert_uint_eq(got->cooldown_steps, 3);
        ck_assert_uint_eq(got->cooldown_s, 4);
        ck_assert_uint_eq(got->notify_per_hour, 6);
        ck_assert_str_eq(got->cause, "spike");
        ck_assert_str_eq(got->run_pattern, "gpt-*");
        ck_assert_str_eq(got->runs_json, "{\"a\":\"b*\"}");
        ck_assert_str_eq(got->notify_json, "[\"ops\"]");
    }
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_E_NOT_FOUND);
    cursor->close(cursor);
    query.is_descending = true;
    query.limit = 1;
    cursor = test_open(store, &query);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    ck_assert_uint_eq(record.u.rule.version, 4);
    cursor->close(cursor);
    query = versions_of("other");
    ck_assert_uint_eq(test_count(store, &query), 1);
    query = test_query(LYAP_TABLE_RULES, NULL);
    ck_assert_uint_eq(test_count(store, &query), 2);
}
END_TEST

START_TEST(versions_are_bounded)
{
    struct lyap_store *store = test.store;
    struct lyap_rule rule = rule_of("r", 1);
    test_begin(store);
    for (int i = 0; i < LYAP_RULE_VERSIONS_MAX + 5; i++)
        STORE_OK(store, store->ops->put_rule(store, &rule));
    test_commit(store);
    const struct lyap_query query = versions_of("r");
    ck_assert_uint_eq(test_count(store, &query), LYAP_RULE_VERSIONS_MAX);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT min(version) FROM rule_versions"), 6);
}
END_TEST

START_TEST(silences_are_kept_ended_and_filtered)
{
    struct lyap_store *store = test.store;
    struct lyap_silence silence = { .run = "gpt-*",
                                    .rule = "edge",
                                    .severity = LYAP_SEVERITY_INFO,
                                    .labels_json = "{\"a\":\"b\"}",
                                    .comment = "why",
                                    .by = "ann",
                                    .created_ns = 10,
                                    .until_ns = 100 };
    struct lyap_silence any = {
        .run = "*", .severity = -1, .comment = "", .created_ns = 10, .until_ns = 50
    };
    test_begin(store);
    STORE_OK(store, store->ops->put_silence(store, &silence));
    STORE_OK(store, store->ops->put_silence(store, &any));
    ck_assert_int_gt(any.id, silence.id);
    test_commit(store);
    struct lyap_query query = test_query(LYAP_TABLE_SILENCES, NULL);
    ck_assert_uint_eq(test_count(store, &query), 2);
    query.now_ns = 60;
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    const struct lyap_silence *got = &record.u.silence;
    ck_assert_int_eq(got->id, silence.id);
    ck_assert_str_eq(got->run, "gpt-*");
    ck_assert_str_eq(got->rule, "edge");
    ck_assert_int_eq(got->severity, LYAP_SEVERITY_INFO);
    ck_assert_str_eq(got->labels_json, "{\"a\":\"b\"}");
    ck_assert_str_eq(got->comment, "why");
    ck_assert_str_eq(got->by, "ann");
    ck_assert_int_eq(got->created_ns, 10);
    ck_assert_int_eq(got->until_ns, 100);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_E_NOT_FOUND);
    cursor->close(cursor);
    silence.until_ns = 55;
    test_begin(store);
    STORE_OK(store, store->ops->put_silence(store, &silence));
    silence.id = 999;
    ck_assert_int_eq(store->ops->put_silence(store, &silence), LYAP_E_NOT_FOUND);
    test_commit(store);
    ck_assert_uint_eq(test_count(store, &query), 0);
}
END_TEST

/* ---- groups ---- */

static struct lyap_alert alert_of(const struct lyap_run_record *run, const char *rule,
                                  const char *tensor, int64_t group_id)
{
    struct lyap_alert alert = { .run_id = run->id,
                                .attempt = 1,
                                .tensor = tensor,
                                .state = LYAP_ALERT_FIRING,
                                .severity = LYAP_SEVERITY_WARNING,
                                .pending_step = 4,
                                .firing_step = 5,
                                .resolved_step = -1,
                                .updated_ns = 50,
                                .firing_ns = 40,
                                .cause = "c",
                                .group_id = group_id,
                                .held = LYAP_HELD_GROUPED };
    (void)snprintf(alert.rule, sizeof alert.rule, "%s", rule);
    return alert;
}

START_TEST(groups_of_open_alerts)
{
    struct lyap_store *store = test.store;
    const struct lyap_run_record a = test_put_run(store, "a", "{}");
    const struct lyap_run_record b = test_put_run(store, "b", "{}");
    struct lyap_alert first = alert_of(&a, "one", "t1", 0);
    test_begin(store);
    STORE_OK(store, store->ops->put_alert(store, &first));
    ck_assert_int_eq(first.group_id, first.id);
    struct lyap_alert second = alert_of(&a, "two", "t2", first.id);
    second.severity = LYAP_SEVERITY_CRITICAL;
    second.state = LYAP_ALERT_PENDING;
    second.silence_id = 3;
    second.silenced_until_ns = 90;
    second.notified_ns = 45;
    struct lyap_alert over = alert_of(&a, "one", "t3", first.id),
                      other = alert_of(&b, "one", NULL, 0);
    over.state = LYAP_ALERT_RESOLVED;
    STORE_OK(store, store->ops->put_alert(store, &second));
    STORE_OK(store, store->ops->put_alert(store, &over));
    STORE_OK(store, store->ops->put_alert(store, &other));
    test_commit(store);
    struct lyap_query query = test_query(LYAP_TABLE_ALERT_GROUPS, NULL);
    query.now_ns = 80;
    ck_assert_uint_eq(test_count(store, &query), 2);
    query.run = "a";
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    const struct lyap_alert_group *got = &record.u.group;
    ck_assert_int_eq(got->id, first.id);
    ck_assert_str_eq(got->run, "a");
    ck_assert_str_eq(got->cause, "c");
    ck_assert_str_eq(got->rules, "one,two");
    ck_assert_int_eq(got->severity, LYAP_SEVERITY_CRITICAL);
    ck_assert_uint_eq(got->firing, 1);
    ck_assert_uint_eq(got->pending, 1);
    ck_assert_uint_eq(got->silenced, 1);
    ck_assert_uint_eq(got->tensors, 2);
    ck_assert_int_eq(got->first_step, 4);
    ck_assert_int_eq(got->notified_ns, 45);
    cursor->close(cursor);
    query.run = NULL;
    query.after = first.id;
    ck_assert_uint_eq(test_count(store, &query), 1);
}
END_TEST

START_TEST(alerts_say_who_knows)
{
    struct lyap_store *store = test.store;
    const struct lyap_run_record run = test_put_run(store, "a", "{}");
    struct lyap_alert alert = alert_of(&run, "one", NULL, 0);
    alert.resolved_ns = 60;
    alert.acked_ns = 41;
    alert.ack_until_ns = 70;
    alert.silence_id = 8;
    alert.silenced_until_ns = 90;
    alert.notified_ns = 43;
    (void)snprintf(alert.acked_by, sizeof alert.acked_by, "ann");
    (void)snprintf(alert.ack_comment, sizeof alert.ack_comment, "looking");
    test_begin(store);
    STORE_OK(store, store->ops->put_alert(store, &alert));
    test_commit(store);
    struct lyap_query query = test_query(LYAP_TABLE_ALERTS, NULL);
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    const struct lyap_alert *got = &record.u.alert;
    ck_assert_int_eq(got->firing_ns, 40);
    ck_assert_int_eq(got->resolved_ns, 60);
    ck_assert_int_eq(got->acked_ns, 41);
    ck_assert_int_eq(got->ack_until_ns, 70);
    ck_assert_str_eq(got->acked_by, "ann");
    ck_assert_str_eq(got->ack_comment, "looking");
    ck_assert_str_eq(got->cause, "c");
    ck_assert_int_eq(got->group_id, alert.id);
    ck_assert_int_eq(got->silence_id, 8);
    ck_assert_int_eq(got->silenced_until_ns, 90);
    ck_assert_int_eq(got->notified_ns, 43);
    ck_assert_int_eq(got->held, LYAP_HELD_GROUPED);
    ck_assert_int_eq(got->notice, LYAP_NOTICE_NONE);
    cursor->close(cursor);
    static const struct {
        int silenced, acked;
        int64_t now_ns, since_ns;
        uint32_t count;
    } filters[] = {
        { 0, 0, 80, 0, 1 },  { 1, 0, 80, 0, 1 },  { 1, 0, 90, 0, 0 },  { -1, 0, 90, 0, 1 },
        { -1, 0, 80, 0, 0 }, { 0, 1, 69, 0, 1 },  { 0, 1, 70, 0, 0 },  { 0, -1, 70, 0, 1 },
        { 0, -1, 69, 0, 0 }, { 0, 0, 80, 50, 1 }, { 0, 0, 80, 51, 0 },
    };
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        query.silenced = filters[i].silenced;
        query.acked = filters[i].acked;
        query.now_ns = filters[i].now_ns;
        query.since_ns = filters[i].since_ns;
        for (int has_run = 0; has_run < 2; has_run++) {
            query.run = has_run ? "a" : NULL;
            ck_assert_msg(test_count(store, &query) == filters[i].count, "filter %zu", i);
        }
    }
}
END_TEST

START_TEST(rows_of_tensors_come_by_step)
{
    struct lyap_store *store = test.store;
    const struct lyap_run_record run = test_put_run(store, "a", "{}");
    static char names[2][4] = { "t0", "t1" };
    static uint64_t shape[1] = { 3 };
    struct lyap_tensor tensors[2] = {
        { .name = names[0], .shape = { shape[0] }, .rank = 1, .count = 3 },
        { .name = names[1], .shape = { shape[0] }, .rank = 1, .count = 3 },
    };
    const struct lyap_tensor_set set = { .tensors = tensors, .count = 2 };
    test_begin(store);
    STORE_OK(store, store->ops->put_tensors(store, run.id, 1, &set));
    for (int64_t step = 0; step < 10; step++) {
        struct lyap_point point;
        struct lyap_tensor_row rows[2] = { { .tensor = 0 }, { .tensor = 1 } };
        for (int i = 0; i < 2; i++)
            rows[i].values[LYAP_TENSOR_METRIC_GRAD_NORM] = (double)(10 * step + i);
        test_point(&point, 1, step, 1);
        STORE_OK(store, store->ops->put_point(store, run.id, &point, rows, step % 3 ? 0 : 2));
    }
    test_commit(store);
    struct lyap_query query = test_query(LYAP_TABLE_TENSOR_POINTS, "a");
    query.from_step = 1;
    query.to_step = 8;
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    for (int64_t step = 3; step <= 6; step += 3)
        for (int i = 0; i < 2; i++) {
            ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
            ck_assert_int_eq(record.key, step);
            ck_assert_int_eq(record.u.tensor.step, step);
            ck_assert_uint_eq(record.u.tensor.row.tensor, (unsigned)i);
            ck_assert_double_eq(record.u.tensor.row.values[LYAP_TENSOR_METRIC_GRAD_NORM],
                                (double)(10 * step + i));
        }
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_E_NOT_FOUND);
    cursor->close(cursor);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_rules");
    TCase *tests = tcase_create("store_rules");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, versions_count_up_and_outlive_the_rule);
    tcase_add_test(tests, versions_are_bounded);
    tcase_add_test(tests, silences_are_kept_ended_and_filtered);
    tcase_add_test(tests, groups_of_open_alerts);
    tcase_add_test(tests, alerts_say_who_knows);
    tcase_add_test(tests, rows_of_tensors_come_by_step);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
