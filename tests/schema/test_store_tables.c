/* Runs, attempts, tensors, events, rules, alerts, profiles: stored, listed, filtered, paged. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
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

START_TEST(a_run_comes_back_and_its_name_is_unique)
{
    struct lyap_run_record run = {
        .name = "gpt-7",
        .created_ns = 1,
        .updated_ns = 2,
        .attempt = 3,
        .state = LYAP_STATE_UNSTABLE,
        .retention = LYAP_RETENTION_SKETCH,
        .sketch_seed = UINT64_MAX - 5,
        .last_step = 77,
        .declaration_json = "{\"data\":\"full-batch\"}",
        .labels_json = "{\"team\":\"vision\",\"n\":\"1\"}",
        .action = { LYAP_ACTION_ROLLBACK, 0.25, "2 / 8", 40 },
        .rollbacks = 2,
        .verdict = LYAP_VERDICT_EDGE,
    };
    struct lyap_store *store = test.store;
    test_begin(store);
    STORE_OK(store, store->ops->put_run(store, &run));
    ck_assert_int_gt(run.id, 0);
    struct lyap_run_record twin = run;
    twin.id = 0;
    ck_assert_int_eq(store->ops->put_run(store, &twin), LYAP_E_EXISTS);
    twin.id = run.id + 1;
    (void)snprintf(twin.name, sizeof twin.name, "other");
    ck_assert_int_eq(store->ops->put_run(store, &twin), LYAP_E_NOT_FOUND);
    test_commit(store);

    run.last_step = 78;
    run.state = LYAP_STATE_HEALTHY;
    run.action = (struct lyap_action){ LYAP_ACTION_CONTINUE, NAN, "", 0 };
    test_begin(store);
    STORE_OK(store, store->ops->put_run(store, &run));
    test_commit(store);

    const struct lyap_query query = test_query(LYAP_TABLE_RUNS, "gpt-7");
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    const struct lyap_run_record *got = &record.u.run;
    ck_assert_int_eq(got->id, run.id);
    ck_assert_str_eq(got->name, "gpt-7");
    ck_assert_int_eq(got->created_ns, 1);
    ck_assert_int_eq(got->updated_ns, 2);
    ck_assert_uint_eq(got->attempt, 3);
    ck_assert_int_eq(got->state, LYAP_STATE_HEALTHY);
    ck_assert_int_eq(got->retention, LYAP_RETENTION_SKETCH);
    ck_assert_uint_eq(got->sketch_seed, UINT64_MAX - 5);
    ck_assert_int_eq(got->last_step, 78);
    ck_assert_str_eq(got->declaration_json, run.declaration_json);
    ck_assert_str_eq(got->labels_json, run.labels_json);
    ck_assert_int_eq(got->action.kind, LYAP_ACTION_CONTINUE);
    ck_assert_double_nan(got->action.lr);
    ck_assert_str_eq(got->action.reason, "");
    ck_assert_uint_eq(got->rollbacks, 2);
    ck_assert_int_eq(got->verdict, LYAP_VERDICT_EDGE);
    cursor->close(cursor);
}
END_TEST

START_TEST(runs_are_filtered_by_name_label_and_state)
{
    struct lyap_store *store = test.store;
    for (int i = 0; i < 20; i++) {
        char name[32], labels[64];
        (void)snprintf(name, sizeof name, "run-%d", i);
        (void)snprintf(labels, sizeof labels, "{\"team\":\"%s\",\"i\":\"%d\"}",
                       i % 2 ? "odd" : "even", i);
        struct lyap_run_record run = test_put_run(store, name, labels);
        run.state = i % 5 ? LYAP_STATE_HEALTHY : LYAP_STATE_UNSTABLE;
        test_begin(store);
        STORE_OK(store, store->ops->put_run(store, &run));
        test_commit(store);
    }
    struct lyap_query query = test_query(LYAP_TABLE_RUNS, NULL);
    ck_assert_uint_eq(test_count(store, &query), 20);
    query.run = "run-3";
    ck_assert_uint_eq(test_count(store, &query), 1);
    query.run = NULL;
    query.label_key = "team";
    query.label_value = "odd";
    ck_assert_uint_eq(test_count(store, &query), 10);
    query.state = LYAP_STATE_UNSTABLE;
    ck_assert_uint_eq(test_count(store, &query), 2);
    query.label_key = NULL;
    ck_assert_uint_eq(test_count(store, &query), 4);
    query.state = -1;
    query.limit = 8;
    uint32_t seen = 0;
    for (int page = 0; page < 3; page++) {
        struct lyap_cursor *cursor = test_open(store, &query);
        struct lyap_record record;
        for (; cursor->next(cursor, &record) == LYAP_OK; seen++) {
            ck_assert(query.after < record.key);
            query.after = record.key;
        }
        cursor->close(cursor);
    }
    ck_assert_uint_eq(seen, 20);
    query.is_descending = true;
    query.after = 4;
    ck_assert_uint_eq(test_count(store, &query), 3);
}
END_TEST

START_TEST(changed_labels_are_found_and_old_ones_are_not)
{
    struct lyap_store *store = test.store;
    struct lyap_run_record run = test_put_run(store, "run-1", "{\"team\":\"a\"}");
    run.labels_json = "{\"team\":\"b\"}";
    test_begin(store);
    STORE_OK(store, store->ops->put_run(store, &run));
    test_commit(store);
    struct lyap_query query = test_query(LYAP_TABLE_RUNS, NULL);
    query.label_key = "team";
    query.label_value = "a";
    ck_assert_uint_eq(test_count(store, &query), 0);
    query.label_value = "b";
    ck_assert_uint_eq(test_count(store, &query), 1);
}
END_TEST

START_TEST(attempts_are_updated_in_place)
{
    struct lyap_store *store = test.store;
    const struct lyap_run_record run = test_put_run(store, "run-1", "{}");
    struct lyap_attempt_record attempt = { .run_id = run.id,
                                           .attempt = 2,
                                           .key = "job-17",
                                           .started_ns = 5,
                                           .first_step = -1,
                                           .last_step = -1,
                                           .reference_loss = NAN,
                                           .healthy_lr = NAN };
    test_begin(store);
    STORE_OK(store, store->ops->put_attempt(store, &attempt));
    attempt.ended_ns = 9;
    attempt.first_step = 0;
    attempt.last_step = 12;
    attempt.reference_loss = 2.5;
    attempt.healthy_lr = 0.1;
    STORE_OK(store, store->ops->put_attempt(store, &attempt));
    attempt.run_id = 99;
    ck_assert_int_eq(store->ops->put_attempt(store, &attempt), LYAP_E_NOT_FOUND);
    test_commit(store);

    struct lyap_query query = test_query(LYAP_TABLE_ATTEMPTS, "run-1");
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    ck_assert_uint_eq(record.u.attempt.attempt, 1);
    ck_assert_int_eq(record.u.attempt.ended_ns, 0);
    ck_assert_int_eq(record.u.attempt.first_step, -1);
    ck_assert_double_nan(record.u.attempt.reference_loss);
    ck_assert_double_nan(record.u.attempt.healthy_lr);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    ck_assert_int_eq(record.key, 2);
    ck_assert_str_eq(record.u.attempt.key, "job-17");
    ck_assert_int_eq(record.u.attempt.ended_ns, 9);
    ck_assert_int_eq(record.u.attempt.first_step, 0);
    ck_assert_int_eq(record.u.attempt.last_step, 12);
    ck_assert_double_eq(record.u.attempt.reference_loss, 2.5);
    ck_assert_double_eq(record.u.attempt.healthy_lr, 0.1);
    cursor->close(cursor);
    query.after = 1;
    ck_assert_uint_eq(test_count(store, &query), 1);
}
END_TEST

/* ---- tensors ---- */

enum { TENSORS = 10 };

static void put_tensors(struct lyap_store *store, int64_t run_id)
{
    static char names[TENSORS][16];
    struct lyap_tensor tensors[TENSORS] = { { 0 } };
    for (int i = 0; i < TENSORS; i++) {
        (void)snprintf(names[i], sizeof names[i], "layer.%d", TENSORS - i);
        tensors[i].name = names[i];
        tensors[i].rank = (uint32_t)i % (LYAP_TENSOR_RANK_MAX + 1);
        for (uint32_t d = 0; d < tensors[i].rank; d++)
            tensors[i].shape[d] = (uint64_t)i + d;
    }
    const struct lyap_tensor_set set = { .tensors = tensors, .count = TENSORS };
    test_begin(store);
    STORE_OK(store, store->ops->put_tensors(store, run_id, 1, &set));
    test_commit(store);
    test_begin(store);
    ck_assert_int_eq(store->ops->put_tensors(store, run_id, 1, &set), LYAP_E_CONFLICT);
    store->ops->rollback(store);
}

START_TEST(the_tensor_set_comes_back)
{
    const struct lyap_run_record run = test_put_run(test.store, "run-1", "{}");
    struct lyap_tensor_set set = LYAP_TENSOR_SET_NULL;
    STORE_OK(test.store, test.store->ops->get_tensors(test.store, run.id, 1, &set));
    ck_assert_uint_eq(set.count, 0);
    put_tensors(test.store, run.id);
    STORE_OK(test.store, test.store->ops->get_tensors(test.store, run.id, 1, &set));
    ck_assert_uint_eq(set.count, TENSORS);
    for (uint32_t i = 0; i < TENSORS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "layer.%u", TENSORS - i);
        ck_assert_str_eq(set.tensors[i].name, name);
        ck_assert_uint_eq(set.tensors[i].rank, i % (LYAP_TENSOR_RANK_MAX + 1));
        for (uint32_t d = 0; d < set.tensors[i].rank; d++)
            ck_assert_uint_eq(set.tensors[i].shape[d], i + d);
        ck_assert_int_eq(lyap_tensor_set_find(&set, name, strlen(name)), i);
    }
    lyap_tensor_set_release(&set);
}
END_TEST

START_TEST(the_last_tensor_rows_are_sorted_and_paged_by_rank)
{
    const struct lyap_run_record run = test_put_run(test.store, "run-1", "{}");
    struct lyap_tensor_row rows[TENSORS];
    struct lyap_point point;
    put_tensors(test.store, run.id);
    test_begin(test.store);
    for (int64_t step = 0; step < 5; step++) {
        for (uint32_t i = 0; i < TENSORS; i++) {
            rows[i].tensor = i;
            for (unsigned m = 0; m < LYAP_TENSOR_METRIC_COUNT; m++)
                rows[i].values[m] = NAN;
            rows[i].values[LYAP_TENSOR_METRIC_UPDATE_RATIO] =
                i == 4 ? NAN : (double)(i * 7 % 10) + (double)step;
        }
        test_point(&point, 1, step, 1.0);
        STORE_OK(test.store, test.store->ops->put_point(test.store, run.id, &point, rows,
                                                        step < 4 ? TENSORS : 0));
    }
    test_commit(test.store);

    struct lyap_query query = test_query(LYAP_TABLE_TENSORS, "run-1");
    query.sort = LYAP_TENSOR_METRIC_UPDATE_RATIO;
    query.limit = 3;
    double before = INFINITY;
    uint32_t seen = 0;
    for (int page = 0; page < 4; page++) {
        struct lyap_cursor *cursor = test_open(test.store, &query);
        struct lyap_record record;
        while (cursor->next(cursor, &record) == LYAP_OK) {
            const struct lyap_tensor_record *tensor = &record.u.tensor;
            const double value = tensor->row.values[LYAP_TENSOR_METRIC_UPDATE_RATIO];
            ck_assert_int_eq(record.key, seen);
            ck_assert_int_eq(tensor->step, 3);
            ck_assert(isnan(value) ? seen == TENSORS - 1 && tensor->row.tensor == 4
                                   : value < before);
            ck_assert_double_nan(tensor->row.values[LYAP_TENSOR_METRIC_PARAM_NORM]);
            if (seen == 0)
                ck_assert_str_eq(tensor->name, "layer.3"); /* index 7: 49 mod 10 is largest */
            before = value;
            query.after = record.key;
            seen++;
        }
        cursor->close(cursor);
    }
    ck_assert_uint_eq(seen, TENSORS);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM tensor_points_named WHERE "
                                             "run = 'run-1' AND tensor_name = 'layer.3'"),
                     4);
}
END_TEST

/* ---- events, rules, alerts ---- */

START_TEST(events_are_read_by_id)
{
    struct lyap_store *store = test.store;
    const struct lyap_run_record a = test_put_run(store, "a", "{}");
    const struct lyap_run_record b = test_put_run(store, "b", "{}");
    test_begin(store);
    for (int i = 0; i < LYAP_EVENT_COUNT * 2; i++) {
        const struct lyap_event_record event = { .run_id = i % 2 ? a.id : b.id,
                                                 .step = i - 1,
                                                 .time_ns = i,
                                                 .attempt = 1 + (uint32_t)i / 10,
                                                 .kind = (enum lyap_event_kind)(i / 2),
                                                 .detail_json = "{\"lr\":0.5}" };
        STORE_OK(store, store->ops->put_event(store, &event));
    }
    test_commit(store);
    struct lyap_query query = test_query(LYAP_TABLE_EVENTS, NULL);
    ck_assert_uint_eq(test_count(store, &query), LYAP_EVENT_COUNT * 2);
    query.run = "a";
    ck_assert_uint_eq(test_count(store, &query), LYAP_EVENT_COUNT);
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    for (int i = 0; i < LYAP_EVENT_COUNT; i++) {
        ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
        ck_assert_int_eq(record.u.event.kind, i);
        ck_assert_int_eq(record.u.event.step, 2 * i);
        ck_assert_int_eq(record.u.event.run_id, a.id);
        ck_assert_str_eq(record.u.event.detail_json, "{\"lr\":0.5}");
    }
    cursor->close(cursor);
    query.attempt = 2;
    ck_assert_uint_eq(test_count(store, &query), 5);
    query.attempt = 0;
    query.after = record.key - 2;
    ck_assert_uint_eq(test_count(store, &query), 1);
    query.is_descending = true;
    query.limit = 2;
    ck_assert_uint_eq(test_count(store, &query), 2);
}
END_TEST

START_TEST(rules_are_replaced_by_name)
{
    struct lyap_store *store = test.store;
    struct lyap_rule rule = { .name = "my-rule",
                              .version = 1,
                              .is_enabled = true,
                              .is_once = true,
                              .metric = "grad_norm",
                              .tensor_pattern = "layer.*",
                              .comparison = LYAP_CMP_GE,
                              .threshold = INFINITY,
                              .clear = NAN,
                              .for_steps = 3,
                              .clear_steps = 5,
                              .min_points = 7,
                              .severity = LYAP_SEVERITY_CRITICAL,
                              .action = LYAP_ACTION_STOP,
                              .runs_json = "{\"team\":\"a\"}",
                              .notify_json = "[\"ops\"]" };
    test_begin(store);
    STORE_OK(store, store->ops->put_rule(store, &rule));
    rule.version = 2;
    rule.source = "SPEC 9";
    STORE_OK(store, store->ops->put_rule(store, &rule));
    ck_assert_int_eq(store->ops->delete_rule(store, "none", 9), LYAP_E_NOT_FOUND);
    test_commit(store);
    const struct lyap_query query = test_query(LYAP_TABLE_RULES, NULL);
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    const struct lyap_rule *got = &record.u.rule;
    ck_assert_str_eq(got->name, "my-rule");
    ck_assert_uint_eq(got->version, 2);
    ck_assert(got->is_enabled && !got->is_builtin && got->is_once);
    ck_assert_str_eq(got->metric, "grad_norm");
    ck_assert_str_eq(got->tensor_pattern, "layer.*");
    ck_assert_int_eq(got->comparison, LYAP_CMP_GE);
    ck_assert_double_infinite(got->threshold);
    ck_assert_double_nan(got->clear);
    ck_assert_uint_eq(got->for_steps, 3);
    ck_assert_uint_eq(got->clear_steps, 5);
    ck_assert_uint_eq(got->min_points, 7);
    ck_assert_int_eq(got->severity, LYAP_SEVERITY_CRITICAL);
    ck_assert_int_eq(got->action, LYAP_ACTION_STOP);
    ck_assert_str_eq(got->runs_json, "{\"team\":\"a\"}");
    ck_assert_str_eq(got->source, "SPEC 9");
    ck_assert_str_eq(got->notify_json, "[\"ops\"]");
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_E_NOT_FOUND);
    cursor->close(cursor);
    test_begin(store);
    STORE_OK(store, store->ops->delete_rule(store, "my-rule", 9));
    test_commit(store);
    ck_assert_uint_eq(test_count(store, &query), 0);
}
END_TEST

static struct lyap_alert alert_of(const struct lyap_run_record *run, int i)
{
    struct lyap_alert alert = {
        .run_id = run->id,
        .attempt = 1,
        .rule_version = 1,
        .tensor = i % 2 ? "layer.1" : NULL,
        .state = (enum lyap_alert_state)(i % 3),
        .severity = (enum lyap_severity)(i % 3),
        .pending_step = i,
        .firing_step = i % 3 ? i + 1 : -1,
        .resolved_step = -1,
        .updated_ns = 7,
        .value = i == 0 ? (double)NAN : i,
        .threshold = 0.5,
        .summary = "it rose",
        .evidence_json = "{\"window\":[1,2]}",
    };
    (void)snprintf(alert.rule, sizeof alert.rule, i % 2 ? "nan" : "instability");
    return alert;
}

START_TEST(alerts_are_updated_filtered_and_paged)
{
    struct lyap_store *store = test.store;
    const struct lyap_run_record a = test_put_run(store, "a", "{}");
    const struct lyap_run_record b = test_put_run(store, "b", "{}");
    int64_t first_id = 0;
    test_begin(store);
    for (int i = 0; i < 30; i++) {
        struct lyap_alert alert = alert_of(i < 10 ? &a : &b, i);
        STORE_OK(store, store->ops->put_alert(store, &alert));
        ck_assert_int_gt(alert.id, 0);
        first_id = i == 0 ? alert.id : first_id;
    }
    test_commit(store);
    struct lyap_query query = test_query(LYAP_TABLE_ALERTS, NULL);
    ck_assert_uint_eq(test_count(store, &query), 30);
    query.run = "a";
    ck_assert_uint_eq(test_count(store, &query), 10);
    query.state = LYAP_ALERT_FIRING;
    ck_assert_uint_eq(test_count(store, &query), 3);
    query.run = NULL;
    ck_assert_uint_eq(test_count(store, &query), 10);
    query.rule = "nan";
    ck_assert_uint_eq(test_count(store, &query), 5);
    query.rule = NULL;
    query.state = -1;
    query.severity = LYAP_SEVERITY_INFO;
    ck_assert_uint_eq(test_count(store, &query), 10);
    query.severity = -1;
    query.limit = 25;
    query.is_descending = true;
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    while (cursor->next(cursor, &record) == LYAP_OK)
        query.after = record.key;
    cursor->close(cursor);
    ck_assert_uint_eq(test_count(store, &query), 5);

    struct lyap_alert alert = alert_of(&a, 0);
    alert.id = first_id;
    alert.state = LYAP_ALERT_RESOLVED;
    alert.resolved_step = 40;
    alert.acked_ns = 8;
    test_begin(store);
    STORE_OK(store, store->ops->put_alert(store, &alert));
    alert.id = 999;
    ck_assert_int_eq(store->ops->put_alert(store, &alert), LYAP_E_NOT_FOUND);
    alert.id = 0;
    alert.run_id = 999;
    ck_assert_int_eq(store->ops->put_alert(store, &alert), LYAP_E_NOT_FOUND);
    test_commit(store);
    query = test_query(LYAP_TABLE_ALERTS, "a");
    cursor = test_open(store, &query);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    const struct lyap_alert *got = &record.u.alert;
    ck_assert_int_eq(got->id, first_id);
    ck_assert_str_eq(got->run, "a");
    ck_assert_str_eq(got->rule, "instability");
    ck_assert_ptr_null(got->tensor);
    ck_assert_int_eq(got->state, LYAP_ALERT_RESOLVED);
    ck_assert_int_eq(got->pending_step, 0);
    ck_assert_int_eq(got->firing_step, -1);
    ck_assert_int_eq(got->resolved_step, 40);
    ck_assert_int_eq(got->acked_ns, 8);
    ck_assert_double_nan(got->value);
    ck_assert_double_eq(got->threshold, 0.5);
    ck_assert_str_eq(got->evidence_json, "{\"window\":[1,2]}");
    cursor->close(cursor);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM alerts_named WHERE run = 'b'"),
                     20);
}
END_TEST

START_TEST(profiles_are_bytes)
{
    struct lyap_store *store = test.store;
    const struct lyap_run_record run = test_put_run(store, "a", "{}");
    unsigned char bytes[100000];
    memset(bytes, 0xA5, sizeof bytes);
    void *got = NULL;
    uint64_t length = 0;
    int64_t step = 0;
    ck_assert_int_eq(store->ops->get_profile(store, run.id, 1, &step, &got, &length),
                     LYAP_E_NOT_FOUND);
    test_begin(store);
    STORE_OK(store, store->ops->put_profile(store, run.id, 1, 5, bytes, sizeof bytes));
    STORE_OK(store, store->ops->put_profile(store, run.id, 1, 6, bytes, sizeof bytes - 1));
    ck_assert_int_eq(store->ops->put_profile(store, 99, 1, 6, bytes, 1), LYAP_E_NOT_FOUND);
    test_commit(store);
    STORE_OK(store, store->ops->get_profile(store, run.id, 1, &step, &got, &length));
    ck_assert_int_eq(step, 6);
    ck_assert_uint_eq(length, sizeof bytes - 1);
    ck_assert_int_eq(memcmp(got, bytes, length), 0);
    lyap_free(got);
    test_begin(store);
    STORE_OK(store, store->ops->put_profile(store, run.id, 1, 0, NULL, 0));
    test_commit(store);
    ck_assert_int_eq(store->ops->get_profile(store, run.id, 1, &step, &got, &length),
                     LYAP_E_NOT_FOUND);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_tables");
    TCase *tcase = tcase_create("store_tables");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_run_comes_back_and_its_name_is_unique);
    tcase_add_test(tcase, runs_are_filtered_by_name_label_and_state);
    tcase_add_test(tcase, changed_labels_are_found_and_old_ones_are_not);
    tcase_add_test(tcase, attempts_are_updated_in_place);
    tcase_add_test(tcase, the_tensor_set_comes_back);
    tcase_add_test(tcase, the_last_tensor_rows_are_sorted_and_paged_by_rank);
    tcase_add_test(tcase, events_are_read_by_id);
    tcase_add_test(tcase, rules_are_replaced_by_name);
    tcase_add_test(tcase, alerts_are_updated_filtered_and_paged);
    tcase_add_test(tcase, profiles_are_bytes);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
