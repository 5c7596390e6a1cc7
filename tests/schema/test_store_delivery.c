/* Receivers and the outbox: once per alert, receiver and state; order; what repeats; pruning. */
#include <stdio.h>
#include <string.h>

#include "store_support.h"

static struct test_store test;
static struct lyap_alert alert;

static void setup(void)
{
    test_store_init(&test);
    const struct lyap_run_record run = test_put_run(test.store, "r", "{}");
    alert = (struct lyap_alert){ .run_id = run.id,
                                 .attempt = 1,
                                 .rule = "spike",
                                 .state = LYAP_ALERT_FIRING,
                                 .firing_ns = 5,
                                 .summary = "up",
                                 .evidence_json = "{}" };
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->put_alert(test.store, &alert));
    test_commit(test.store);
}

static void teardown(void)
{
    test_store_release(&test);
}

static struct lyap_delivery delivery_to(const char *receiver, int64_t next_ns)
{
    struct lyap_delivery delivery = { .alert_id = alert.id,
                                      .kind = LYAP_ALERT_FIRING,
                                      .state = LYAP_DELIVERY_WAITING,
                                      .created_ns = next_ns,
                                      .next_ns = next_ns,
                                      .payload_json = "{\"a\":1}" };
    (void)snprintf(delivery.receiver, sizeof delivery.receiver, "%s", receiver);
    return delivery;
}

static int64_t put(const char *receiver, int64_t next_ns)
{
    const struct lyap_delivery delivery = delivery_to(receiver, next_ns);
    int64_t id = -1;
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->put_delivery(test.store, &delivery, &id));
    test_commit(test.store);
    return id;
}

static uint32_t resolve(int64_t now_ns)
{
    uint32_t count = 77;
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->resolve_deliveries(test.store, alert.id, "{\"a\":2}",
                                                             now_ns, &count));
    test_commit(test.store);
    return count;
}

static void update(const struct lyap_delivery *delivery)
{
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->update_delivery(test.store, delivery));
    test_commit(test.store);
}

/* The first row of a query; its strings do not outlive it. E_NOT_FOUND: none. */
static enum lyap_status first(const struct lyap_query *query, struct lyap_record *ret_record)
{
    struct lyap_cursor *cursor = test_open(test.store, query);
    const enum lyap_status status = cursor->next(cursor, ret_record);
    cursor->close(cursor);
    return status;
}

static enum lyap_status first_due(const char *receiver, struct lyap_delivery *ret)
{
    struct lyap_query query = test_query(LYAP_TABLE_DELIVERIES, NULL);
    struct lyap_record record;
    query.is_due_first = true;
    query.receiver = receiver;
    const enum lyap_status status = first(&query, &record);
    if (status == LYAP_OK)
        *ret = record.u.delivery;
    return status;
}

static void assert_waiting(uint64_t expected, int64_t oldest_ns)
{
    uint64_t waiting = 99;
    int64_t oldest = 99;
    STORE_OK(test.store, test.store->ops->count_deliveries(test.store, &waiting, &oldest));
    ck_assert_uint_eq(waiting, expected);
    ck_assert_int_eq(oldest, oldest_ns);
}

START_TEST(receivers_are_replaced_by_name)
{
    struct lyap_store *store = test.store;
    struct lyap_receiver receiver = { .name = "ops",
                                      .type = LYAP_RECEIVER_WEBHOOK,
                                      .format = LYAP_FORMAT_SLACK,
                                      .target = "https://a.example/x",
                                      .secret = "s",
                                      .min_severity = LYAP_SEVERITY_CRITICAL,
                                      .labels_json = "{\"team\":\"a\"}",
                                      .is_from_file = true };
    const struct lyap_query query = test_query(LYAP_TABLE_RECEIVERS, NULL);
    test_begin(store);
    STORE_OK(store, store->ops->put_receiver(store, &receiver));
    receiver.target = "https://b.example/y";
    STORE_OK(store, store->ops->put_receiver(store, &receiver));
    test_commit(store);
    struct lyap_cursor *cursor = test_open(store, &query);
    struct lyap_record record;
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    const struct lyap_receiver *got = &record.u.receiver;
    ck_assert_str_eq(got->name, "ops");
    ck_assert_int_eq(got->type, LYAP_RECEIVER_WEBHOOK);
    ck_assert_int_eq(got->format, LYAP_FORMAT_SLACK);
    ck_assert_str_eq(got->target, "https://b.example/y");
    ck_assert_str_eq(got->secret, "s");
    ck_assert_int_eq(got->min_severity, LYAP_SEVERITY_CRITICAL);
    ck_assert_str_eq(got->labels_json, "{\"team\":\"a\"}");
    ck_assert(got->is_from_file);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_E_NOT_FOUND);
    cursor->close(cursor);
    test_begin(store);
    STORE_OK(store, store->ops->delete_receiver(store, "ops"));
    ck_assert_int_eq(store->ops->delete_receiver(store, "ops"), LYAP_E_NOT_FOUND);
    test_commit(store);
    ck_assert_uint_eq(test_count(store, &query), 0);
}
END_TEST

START_TEST(an_alert_is_told_once_per_receiver_and_state)
{
    ck_assert_int_gt(put("ops", 10), 0);
    ck_assert_int_eq(put("ops", 11), 0); /* there already */
    ck_assert_int_gt(put("team", 12), 0);
    struct lyap_delivery again = delivery_to("ops", 13);
    test_begin(test.store);
    again.alert_id = 999;
    int64_t untouched = -5;
    ck_assert_int_eq(test.store->ops->put_delivery(test.store, &again, &untouched),
                     LYAP_E_NOT_FOUND);
    ck_assert_int_eq(untouched, -5);
    test_commit(test.store);
    assert_waiting(2, 10);
    ck_assert_uint_eq(resolve(20), 2);
    ck_assert_uint_eq(resolve(21), 0);
    assert_waiting(4, 10);
    struct lyap_query query = test_query(LYAP_TABLE_DELIVERIES, NULL);
    query.receiver = "ops";
    ck_assert_uint_eq(test_count(test.store, &query), 2);
    query.alert = alert.id;
    query.receiver = NULL;
    ck_assert_uint_eq(test_count(test.store, &query), 4);
    query.alert = alert.id + 1;
    ck_assert_uint_eq(test_count(test.store, &query), 0);
}
END_TEST

START_TEST(resolved_waits_behind_firing)
{
    const int64_t id = put("ops", 100);
    struct lyap_delivery due, sent;
    ck_assert_uint_eq(resolve(50), 1); /* an earlier time, a later row */
    ck_assert_int_eq(first_due("ops", &due), LYAP_OK);
    ck_assert_int_eq(due.id, id);
    ck_assert_int_eq(due.kind, LYAP_ALERT_FIRING);
    ck_assert_int_eq(first_due("team", &sent), LYAP_E_NOT_FOUND);
    due.state = LYAP_DELIVERY_DELIVERED;
    due.attempts = 2;
    due.next_ns = 0;
    due.delivered_ns = 60;
    update(&due);
    ck_assert_int_eq(first_due("ops", &sent), LYAP_OK);
    ck_assert_int_eq(sent.kind, LYAP_ALERT_RESOLVED);
    ck_assert_int_eq(sent.next_ns, 50);
    ck_assert_int_gt(sent.id, id);
    struct lyap_query query = test_query(LYAP_TABLE_DELIVERIES, NULL);
    struct lyap_record record;
    query.state = LYAP_DELIVERY_DELIVERED;
    ck_assert_int_eq(first(&query, &record), LYAP_OK);
    ck_assert_uint_eq(record.u.delivery.attempts, 2);
    ck_assert_int_eq(record.u.delivery.delivered_ns, 60);
    ck_assert_int_eq(record.u.delivery.next_ns, 0);
    due.id = 999;
    test_begin(test.store);
    ck_assert_int_eq(test.store->ops->update_delivery(test.store, &due), LYAP_E_NOT_FOUND);
    test_commit(test.store);
}
END_TEST

START_TEST(what_repeats_ends_with_the_alert)
{
    struct lyap_delivery due, late;
    (void)put("am", 10);
    ck_assert_int_eq(first_due("am", &due), LYAP_OK);
    due.state = LYAP_DELIVERY_REPEATING;
    due.delivered_ns = 11;
    due.next_ns = 70;
    update(&due);
    assert_waiting(0, 0);
    ck_assert_int_eq(first_due("am", &late), LYAP_OK);
    ck_assert_int_eq(late.next_ns, 70);
    ck_assert_uint_eq(resolve(30), 1);
    ck_assert_int_eq(first_due("am", &late), LYAP_OK);
    ck_assert_int_eq(late.kind, LYAP_ALERT_RESOLVED);
    alert.state = LYAP_ALERT_RESOLVED;
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->put_alert(test.store, &alert));
    test_commit(test.store);
    /* The answer to a repetition that was under way comes after the alert resolved. */
    due.next_ns = 130;
    update(&due);
    ck_assert_int_eq(first_due("am", &late), LYAP_OK);
    ck_assert_int_eq(late.kind, LYAP_ALERT_RESOLVED);
    struct lyap_query query = test_query(LYAP_TABLE_DELIVERIES, NULL);
    query.state = LYAP_DELIVERY_REPEATING;
    ck_assert_uint_eq(test_count(test.store, &query), 0);
}
END_TEST

START_TEST(what_waits_for_a_receiver_that_went_fails)
{
    struct lyap_query query = test_query(LYAP_TABLE_DELIVERIES, NULL);
    struct lyap_record record;
    (void)put("ops", 10);
    (void)put("team", 10);
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->fail_deliveries(test.store, "ops", "it went"));
    test_commit(test.store);
    assert_waiting(1, 10);
    query.state = LYAP_DELIVERY_FAILED;
    ck_assert_int_eq(first(&query, &record), LYAP_OK);
    ck_assert_str_eq(record.u.delivery.receiver, "ops");
    ck_assert_str_eq(record.u.delivery.error, "it went");
}
END_TEST

START_TEST(finished_ones_go_when_their_alert_is_over)
{
    struct lyap_delivery due;
    struct lyap_query query = test_query(LYAP_TABLE_DELIVERIES, NULL);
    const struct {
        int64_t before_ns;
        uint32_t left;
    } steps[] = { { 5, 2 }, { 1000, 0 } };
    (void)put("ops", 10);
    ck_assert_int_eq(first_due("ops", &due), LYAP_OK);
    due.state = LYAP_DELIVERY_DELIVERED;
    due.next_ns = 0;
    update(&due);
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->prune_deliveries(test.store, 1000));
    test_commit(test.store);
    ck_assert_uint_eq(test_count(test.store, &query), 1); /* the alert is open */
    (void)resolve(20);
    alert.state = LYAP_ALERT_RESOLVED;
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->put_alert(test.store, &alert));
    STORE_OK(test.store, test.store->ops->prune_deliveries(test.store, 1000));
    test_commit(test.store);
    ck_assert_uint_eq(test_count(test.store, &query), 2); /* one of it still waits */
    ck_assert_int_eq(first_due("ops", &due), LYAP_OK);
    due.state = LYAP_DELIVERY_FAILED;
    due.next_ns = 0;
    update(&due);
    for (size_t i = 0; i < 2; i++) {
        test_begin(test.store);
        STORE_OK(test.store, test.store->ops->prune_deliveries(test.store, steps[i].before_ns));
        test_commit(test.store);
        ck_assert_uint_eq(test_count(test.store, &query), steps[i].left);
    }
}
END_TEST

START_TEST(alerts_of_the_daemon_itself_have_no_run)
{
    struct lyap_query query = test_query(LYAP_TABLE_ALERTS, NULL);
    struct lyap_record record;
    struct lyap_alert own = { .rule = "disk-low",
                              .state = LYAP_ALERT_FIRING,
                              .pending_step = -1,
                              .firing_step = -1,
                              .resolved_step = -1,
                              .firing_ns = 9 };
    test_begin(test.store);
    STORE_OK(test.store, test.store->ops->put_alert(test.store, &own));
    test_commit(test.store);
    query.rule = "disk-low";
    ck_assert_int_eq(first(&query, &record), LYAP_OK);
    ck_assert_int_eq(record.u.alert.run_id, 0);
    ck_assert_str_eq(record.u.alert.run, "");
    ck_assert_uint_eq(record.u.alert.attempt, 0);
    ck_assert_int_eq(record.u.alert.firing_ns, 9);
    ck_assert_int_eq(test_sql_int(test.path, "SELECT count(*) FROM alerts_named"), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_delivery");
    TCase *tcase = tcase_create("store_delivery");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, receivers_are_replaced_by_name);
    tcase_add_test(tcase, an_alert_is_told_once_per_receiver_and_state);
    tcase_add_test(tcase, resolved_waits_behind_firing);
    tcase_add_test(tcase, what_repeats_ends_with_the_alert);
    tcase_add_test(tcase, what_waits_for_a_receiver_that_went_fails);
    tcase_add_test(tcase, finished_ones_go_when_their_alert_is_over);
    tcase_add_test(tcase, alerts_of_the_daemon_itself_have_no_run);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
