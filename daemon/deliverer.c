/* The deliverer's thread. */
#include "deliverer.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "attempt.h"
#include "engine.h"
#include "log.h"
#include "lyap/alloc.h"
#include "message.h"
#include "outbox.h"
#include "receivers.h"

enum {
    SLOTS = 2,        /* attempts at once to one receiver */
    TESTS_MAX = 16,   /* tests of receivers at once */
    REPORTS_MAX = 64, /* attempts whose end the engine has not stored yet */
    ATTEMPTS_MAX = SLOTS * LYAP_RECEIVER_COUNT_MAX + TESTS_MAX,
    REPORT_MS = 1000, /* until a report that failed is made again */
    MAIL_MS = 200,    /* between two looks at processes without a descriptor */
    IDLE_MS = 60000
};
static const int64_t ms_ns = 1000000, second_ns = 1000000000;

struct lyap_deliverer {
    struct lyap_engine *engine;
    CURLM *multi;
    pthread_t thread;
    bool is_started;

    pthread_mutex_t lock; /* guards what follows */
    bool is_stopping, is_woken;
    struct lyap_attempt *tests; /* asked for, not begun: receiver.name and test_done alone */
    uint32_t test_count;        /* those and the begun ones */

    /* The thread's own. */
    struct lyap_attempt *active; /* begun, not over */
    struct lyap_attempt *over;   /* to be reported */
    uint32_t active_count, over_count;
    struct lyap_receivers receivers; /* as stored, read at every look */
    int64_t next_look_ns, report_ns; /* CLOCK_MONOTONIC */
};

/* ---- from any thread ---- */

enum lyap_status lyap_deliverer_new(struct lyap_engine *engine,
                                    struct lyap_deliverer **ret_deliverer)
{
    struct lyap_deliverer *deliverer = lyap_alloc_array(1, sizeof *deliverer);
    if (!deliverer)
        return LYAP_E_NOMEM;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        lyap_free(deliverer);
        return LYAP_E_NOMEM;
    }
    deliverer->engine = engine;
    deliverer->multi = curl_multi_init();
    pthread_mutex_init(&deliverer->lock, NULL);
    if (!deliverer->multi) {
        lyap_deliverer_free(deliverer);
        return LYAP_E_NOMEM;
    }
    *ret_deliverer = deliverer;
    return LYAP_OK;
}

void lyap_deliverer_free(struct lyap_deliverer *deliverer)
{
    if (!deliverer)
        return;
    assert(!deliverer->is_started && !deliverer->active && !deliverer->tests);
    curl_multi_cleanup(deliverer->multi);
    curl_global_cleanup();
    lyap_receivers_release(&deliverer->receivers);
    pthread_mutex_destroy(&deliverer->lock);
    lyap_free(deliverer);
}

void lyap_deliverer_wake(struct lyap_deliverer *deliverer)
{
    pthread_mutex_lock(&deliverer->lock);
    deliverer->is_woken = true;
    pthread_mutex_unlock(&deliverer->lock);
    (void)curl_multi_wakeup(deliverer->multi);
}

/* A place among the tests. E_STOPPING, E_BUSY. */
static enum lyap_status test_enter(struct lyap_deliverer *deliverer, struct lyap_attempt *test)
{
    enum lyap_status status = LYAP_OK;
    pthread_mutex_lock(&deliverer->lock);
    if (deliverer->is_stopping || !deliverer->is_started)
        status = LYAP_E_STOPPING;
    else if (deliverer->test_count == TESTS_MAX)
        status = LYAP_E_BUSY;
    if (status == LYAP_OK) {
        test->next = deliverer->tests;
        deliverer->tests = test;
        deliverer->test_count++;
    }
    pthread_mutex_unlock(&deliverer->lock);
    return status;
}

void lyap_deliverer_test(struct lyap_deliverer *deliverer, const char *receiver,
                         api_test_done *done, void *arg)
{
    struct lyap_error error = LYAP_ERROR_NULL;
    const struct lyap_delivery delivery = { .kind = LYAP_ALERT_FIRING,
                                            .created_ns = lyap_clock_utc_ns() };
    struct lyap_receiver wanted = { .target = NULL };
    struct lyap_attempt *test = NULL;
    (void)snprintf(wanted.name, sizeof wanted.name, "%.*s", LYAP_RULE_NAME_BYTES_MAX, receiver);
    enum lyap_status status = LYAP_OK;
    if (!lyap_rule_name_is_valid(receiver))
        status = lyap_error_set(&error, LYAP_E_NOT_FOUND, "there is no receiver '%.80s'", receiver);
    if (status == LYAP_OK)
        status = lyap_attempt_new(&delivery, &wanted, &test);
    if (status == LYAP_OK) {
        test->test_done = done;
        test->test_arg = arg;
        status = test_enter(deliverer, test);
    }
    if (status == LYAP_OK) {
        (void)curl_multi_wakeup(deliverer->multi);
        return;
    }
    lyap_attempt_free(test, NULL);
    done(arg, lyap_error_set(&error, status, "%s", lyap_status_text(status)), &error, NULL);
}

/* ---- attempts that are over ---- */

/* A random part of base * 2^attempts, bounded by the maximum: many deliveries that failed together
 * do not come again together. */
static int64_t backoff_ns(const struct lyap_outbox_limits *limits, uint32_t attempts)
{
    uint32_t random = 0;
    double most_s = (double)limits->retry_s * exp2(fmin(attempts, 30));
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        random = (uint32_t)lyap_clock_ns();
    most_s = fmin(most_s, (double)limits->retry_max_s);
    return (int64_t)((0.05 + 0.95 * random / UINT32_MAX) * most_s * (double)second_ns);
}

/* What the row becomes. */
static void settle(const struct lyap_outbox_limits *limits, struct lyap_attempt *attempt)
{
    struct lyap_delivery *delivery = &attempt->delivery;
    const int64_t now_ns = lyap_clock_utc_ns();
    const bool was_repeating = delivery->state == LYAP_DELIVERY_REPEATING;
    if (attempt->is_delivered) {
        const bool repeats = attempt->receiver.type == LYAP_RECEIVER_ALERTMANAGER &&
                             delivery->kind == LYAP_ALERT_FIRING;
        delivery->attempts = was_repeating ? 1 : delivery->attempts + 1;
        delivery->state = repeats ? LYAP_DELIVERY_REPEATING : LYAP_DELIVERY_DELIVERED;
        delivery->delivered_ns = now_ns;
        delivery->next_ns = repeats ? now_ns + limits->repeat_s * second_ns : 0;
        delivery->error[0] = '\0';
        return;
    }
    int64_t wait_ns = backoff_ns(limits, delivery->attempts);
    const int64_t asked_s =
        attempt->retry_after_s < limits->retry_max_s ? attempt->retry_after_s : limits->retry_max_s;
    if (wait_ns < asked_s * second_ns)
        wait_ns = asked_s * second_ns;
    delivery->attempts++;
    delivery->next_ns = now_ns + wait_ns;
    memcpy(delivery->error, attempt->error, sizeof delivery->error);
    /* A repetition is tried for as long as the alert fires. */
    if (!was_repeating &&
        (delivery->attempts >= limits->attempts_max ||
         delivery->next_ns - delivery->created_ns > limits->age_max_s * second_ns)) {
        delivery->state = LYAP_DELIVERY_FAILED;
        delivery->next_ns = 0;
    }
}

static void answer_test(struct lyap_deliverer *deliverer, struct lyap_attempt *attempt,
                        enum lyap_status status)
{
    struct lyap_error error = LYAP_ERROR_NULL;
    struct api_test_outcome outcome = {
        .is_delivered = attempt->is_delivered,
        .seconds = (double)(lyap_clock_ns() - attempt->start_ns) / (double)second_ns,
    };
    memcpy(outcome.error, attempt->error, sizeof outcome.error);
    if (status == LYAP_OK)
        attempt->test_done(attempt->test_arg, LYAP_OK, NULL, &outcome);
    else
        attempt->test_done(
            attempt->test_arg,
            lyap_error_set(&error, status, "%s",
                           attempt->error[0] ? attempt->error : lyap_status_text(status)),
            &error, NULL);
    pthread_mutex_lock(&deliverer->lock);
    deliverer->test_count--;
    pthread_mutex_unlock(&deliverer->lock);
    lyap_attempt_free(attempt, deliverer->multi);
}

static void log_outcome(const struct lyap_attempt *attempt)
{
    char error[LYAP_ERROR_TEXT_BYTES + 2];
    const struct lyap_delivery *delivery = &attempt->delivery;
    if (attempt->is_delivered)
        return;
    lyap_log(delivery->state == LYAP_DELIVERY_FAILED ? LYAP_LOG_ERROR : LYAP_LOG_WARNING,
             delivery->state == LYAP_DELIVERY_FAILED ? "delivery-given-up" : "delivery-failed",
             "receiver=%s alert=%lld tells=%s attempts=%u detail=%s", delivery->receiver,
             (long long)delivery->alert_id, lyap_alert_state_name(delivery->kind),
             delivery->attempts, lyap_log_quote(delivery->error, error, sizeof error));
}

/* Takes it out of the active ones: a test is answered, another goes to the report. */
static void finish(struct lyap_deliverer *deliverer, struct lyap_attempt **link)
{
    struct lyap_attempt *attempt = *link;
    struct lyap_counters *counters = deliverer->engine->counters;
    const struct lyap_outbox_limits limits = lyap_outbox_limits(deliverer->engine);
    *link = attempt->next;
    deliverer->active_count--;
    if (attempt->test_done) {
        answer_test(deliverer, attempt, LYAP_OK);
        return;
    }
    settle(&limits, attempt);
    log_outcome(attempt);
    lyap_count(attempt->is_delivered ? &counters->deliveries_done : &counters->delivery_failures);
    if (attempt->delivery.state == LYAP_DELIVERY_FAILED)
        lyap_count(&counters->deliveries_given_up);
    attempt->next = deliverer->over;
    deliverer->over = attempt;
    deliverer->over_count++;
}

static void collect(struct lyap_deliverer *deliverer)
{
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(deliverer->multi, &left));) {
        char *attempt = NULL;
        if (message->msg == CURLMSG_DONE &&
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &attempt) == CURLE_OK)
            lyap_http_end((struct lyap_attempt *)(void *)attempt, message->data.result);
    }
    const int64_t now_ns = lyap_clock_ns();
    struct lyap_attempt **link = &deliverer->active;
    while (*link) {
        if ((*link)->pid != 0)
            lyap_mail_look(*link, now_ns);
        if ((*link)->is_over)
            finish(deliverer, link);
        else
            link = &(*link)->next;
    }
}

/* One call of the engine for everything that is over. What it cannot store is kept, and not sent
 * again, until it can. */
static void report(struct lyap_deliverer *deliverer)
{
    struct lyap_error error = LYAP_ERROR_NULL;
    if (!deliverer->over || lyap_clock_ns() < deliverer->report_ns)
        return;
    const enum lyap_status status =
        lyap_engine_call(deliverer->engine, lyap_command_delivered, deliverer->over, &error);
    if (status != LYAP_OK) {
        deliverer->report_ns = lyap_clock_ns() + REPORT_MS * ms_ns;
        return;
    }
    while (deliverer->over) {
        struct lyap_attempt *attempt = deliverer->over;
        deliverer->over = attempt->next;
        lyap_attempt_free(attempt, deliverer->multi);
    }
    deliverer->over_count = 0;
    deliverer->next_look_ns = 0; /* the next in order may be due */
}

/* ---- attempts that begin ---- */

static void begin(struct lyap_deliverer *deliverer, struct lyap_attempt *attempt)
{
    const struct lyap_outbox_limits limits = lyap_outbox_limits(deliverer->engine);
    const struct lyap_settings *settings = deliverer->engine->settings;
    const struct lyap_attempt_options options = {
        .multi = deliverer->multi,
        .sendmail = settings->sendmail,
        .ca_file = settings->delivery_ca,
        .timeout_s = (uint32_t)limits.timeout_s,
        .repeat_s = (uint32_t)limits.repeat_s,
    };
    attempt->next = deliverer->active;
    deliverer->active = attempt;
    deliverer->active_count++;
    lyap_attempt_begin(attempt, &options);
}

static enum lyap_status read_receivers(struct lyap_deliverer *deliverer)
{
    const struct lyap_query query = { .table = LYAP_TABLE_RECEIVERS,
                                      .after = -1,
                                      .limit = LYAP_RECEIVER_COUNT_MAX,
                                      .state = -1,
                                      .severity = -1 };
    const struct lyap_store_ops *ops = deliverer->engine->store->ops;
    struct lyap_cursor *cursor;
    struct lyap_record record;
    enum lyap_status status = ops->query(deliverer->engine->store, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    lyap_receivers_release(&deliverer->receivers);
    while ((status = cursor->next(cursor, &record)) == LYAP_OK) {
        status = lyap_receivers_put(&deliverer->receivers, &record.u.receiver, NULL);
        if (status != LYAP_OK)
            break;
    }
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

/* Of this alert and receiver, under way or not reported. Of one receiver: *ret_count of them. */
static bool is_busy(const struct lyap_attempt *list, const struct lyap_delivery *delivery)
{
    for (; list; list = list->next)
        if (!list->test_done && list->delivery.alert_id == delivery->alert_id &&
            strcmp(list->delivery.receiver, delivery->receiver) == 0)
            return true;
    return false;
}

static uint32_t count_of(const struct lyap_attempt *list, const char *receiver)
{
    uint32_t count = 0;
    for (; list; list = list->next)
        count += !list->test_done && strcmp(list->delivery.receiver, receiver) == 0;
    return count;
}

/* Begins what is due to one receiver, as far as it has slots; notes when the next one is. */
static enum lyap_status look_at(struct lyap_deliverer *deliverer,
                                const struct lyap_receiver *receiver, int64_t *next_utc_ns)
{
    const struct lyap_store_ops *ops = deliverer->engine->store->ops;
    uint32_t used = count_of(deliverer->active, receiver->name);
    const uint32_t known = used + count_of(deliverer->over, receiver->name);
    const struct lyap_query query = { .table = LYAP_TABLE_DELIVERIES,
                                      .is_due_first = true,
                                      .receiver = receiver->name,
                                      .limit = known + SLOTS + 1 };
    struct lyap_cursor *cursor;
    struct lyap_record record;
    const int64_t now_ns = lyap_clock_utc_ns();
    if (used >= SLOTS || deliverer->over_count >= REPORTS_MAX)
        return LYAP_OK; /* the end of one looks again */
    enum lyap_status status = ops->query(deliverer->engine->store, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    while (used < SLOTS && (status = cursor->next(cursor, &record)) == LYAP_OK) {
        const struct lyap_delivery *delivery = &record.u.delivery;
        struct lyap_attempt *attempt;
        if (is_busy(deliverer->active, delivery) || is_busy(deliverer->over, delivery))
            continue;
        if (delivery->next_ns > now_ns) {
            *next_utc_ns = delivery->next_ns < *next_utc_ns ? delivery->next_ns : *next_utc_ns;
            break;
        }
        status = lyap_attempt_new(delivery, receiver, &attempt);
        if (status != LYAP_OK)
            break;
        begin(deliverer, attempt);
        used++;
    }
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

/* Reads the outbox, when something was put into it, ended, or has become due. */
static void look(struct lyap_deliverer *deliverer)
{
    const int64_t now_ns = lyap_clock_ns();
    int64_t next_utc_ns = INT64_MAX;
    pthread_mutex_lock(&deliverer->lock);
    const bool is_woken = deliverer->is_woken;
    deliverer->is_woken = false;
    pthread_mutex_unlock(&deliverer->lock);
    if (!is_woken && now_ns < deliverer->next_look_ns)
        return;
    enum lyap_status status = read_receivers(deliverer);
    for (uint32_t i = 0; status == LYAP_OK && i < deliverer->receivers.count; i++)
        status = look_at(deliverer, &deliverer->receivers.entries[i].receiver, &next_utc_ns);
    const int64_t wait_ns =
        next_utc_ns == INT64_MAX ? IDLE_MS * ms_ns : next_utc_ns - lyap_clock_utc_ns();
    deliverer->next_look_ns = now_ns + (wait_ns < IDLE_MS * ms_ns ? wait_ns : IDLE_MS * ms_ns);
    if (status != LYAP_OK) { /* every reader taken, no memory */
        lyap_log(LYAP_LOG_WARNING, "outbox-not-read", "status=%s", lyap_status_slug(status));
        deliverer->next_look_ns = now_ns + REPORT_MS * ms_ns;
    }
}

/* A test becomes an attempt with the receiver as stored. */
static void begin_test(struct lyap_deliverer *deliverer, struct lyap_attempt *test)
{
    struct lyap_attempt *attempt = NULL;
    struct lyap_delivery delivery = test->delivery;
    char *payload = lyap_message_test_payload(delivery.created_ns);
    enum lyap_status status = payload ? read_receivers(deliverer) : LYAP_E_NOMEM;
    const struct lyap_receiver_entry *entry =
        status == LYAP_OK ? lyap_receivers_find(&deliverer->receivers, test->receiver.name) : NULL;
    delivery.payload_json = payload;
    if (entry)
        memcpy(delivery.receiver, entry->receiver.name, sizeof delivery.receiver);
    if (status == LYAP_OK && !entry) {
        lyap_attempt_fail(test, "there is no receiver '%s'", test->receiver.name);
        status = LYAP_E_NOT_FOUND;
    }
    if (status == LYAP_OK)
        status = lyap_attempt_new(&delivery, &entry->receiver, &attempt);
    free(payload);
    if (status != LYAP_OK) {
        answer_test(deliverer, test, status);
        return;
    }
    attempt->test_done = test->test_done;
    attempt->test_arg = test->test_arg;
    lyap_attempt_free(test, deliverer->multi);
    begin(deliverer, attempt);
}

static struct lyap_attempt *take_tests(struct lyap_deliverer *deliverer)
{
    pthread_mutex_lock(&deliverer->lock);
    struct lyap_attempt *tests = deliverer->tests;
    deliverer->tests = NULL;
    pthread_mutex_unlock(&deliverer->lock);
    return tests;
}

/* ---- the thread ---- */

static int clamp_ms(int64_t wait_ns)
{
    const int64_t wait_ms = wait_ns / ms_ns + 1;
    return wait_ns <= 0 ? 0 : wait_ms > IDLE_MS ? IDLE_MS : (int)wait_ms;
}

/* Waits for sockets, processes, a wake-up, or the next time at which there is something to do. */
static void wait(struct lyap_deliverer *deliverer)
{
    struct curl_waitfd fds[ATTEMPTS_MAX];
    uint32_t count = 0;
    const int64_t now_ns = lyap_clock_ns();
    int timeout_ms = clamp_ms(deliverer->next_look_ns - now_ns);
    if (deliverer->over && timeout_ms > clamp_ms(deliverer->report_ns - now_ns))
        timeout_ms = clamp_ms(deliverer->report_ns - now_ns);
    for (const struct lyap_attempt *a = deliverer->active; a; a = a->next) {
        if (a->is_over)
            timeout_ms = 0;
        if (a->pid == 0)
            continue;
        if (a->pid_fd >= 0 && count < ATTEMPTS_MAX)
            fds[count++] = (struct curl_waitfd){ .fd = a->pid_fd, .events = CURL_WAIT_POLLIN };
        const int left_ms = a->pid_fd >= 0 ? clamp_ms(a->end_ns - now_ns) : MAIL_MS;
        timeout_ms = left_ms < timeout_ms ? left_ms : timeout_ms;
    }
    (void)curl_multi_poll(deliverer->multi, fds, count, timeout_ms, NULL);
}

static bool is_stopping(struct lyap_deliverer *deliverer)
{
    pthread_mutex_lock(&deliverer->lock);
    const bool is_stopping = deliverer->is_stopping;
    pthread_mutex_unlock(&deliverer->lock);
    return is_stopping;
}

static void drop_all(struct lyap_deliverer *deliverer, struct lyap_attempt *list)
{
    while (list) {
        struct lyap_attempt *attempt = list;
        list = attempt->next;
        if (attempt->test_done)
            answer_test(deliverer, attempt, LYAP_E_STOPPING);
        else
            lyap_attempt_free(attempt, deliverer->multi);
    }
}

static void *deliverer_main(void *arg)
{
    struct lyap_deliverer *deliverer = arg;
    while (!is_stopping(deliverer)) {
        int running = 0;
        for (struct lyap_attempt *test = take_tests(deliverer), *next; test; test = next) {
            next = test->next;
            begin_test(deliverer, test);
        }
        look(deliverer);
        (void)curl_multi_perform(deliverer->multi, &running);
        collect(deliverer);
        report(deliverer);
        wait(deliverer);
    }
    deliverer->report_ns = 0;
    report(deliverer);
    drop_all(deliverer, take_tests(deliverer));
    drop_all(deliverer, deliverer->active);
    drop_all(deliverer, deliverer->over);
    deliverer->active = deliverer->over = NULL;
    return NULL;
}

enum lyap_status lyap_deliverer_start(struct lyap_deliverer *deliverer)
{
    pthread_mutex_lock(&deliverer->lock);
    deliverer->is_woken = true; /* what an earlier life left */
    deliverer->is_started =
        pthread_create(&deliverer->thread, NULL, deliverer_main, deliverer) == 0;
    pthread_mutex_unlock(&deliverer->lock);
    return deliverer->is_started ? LYAP_OK : LYAP_E_NOMEM;
}

void lyap_deliverer_stop(struct lyap_deliverer *deliverer)
{
    if (!deliverer || !deliverer->is_started)
        return;
    pthread_mutex_lock(&deliverer->lock);
    deliverer->is_stopping = true;
    pthread_mutex_unlock(&deliverer->lock);
    (void)curl_multi_wakeup(deliverer->multi);
    pthread_join(deliverer->thread, NULL);
    pthread_mutex_lock(&deliverer->lock);
    deliverer->is_started = false;
    pthread_mutex_unlock(&deliverer->lock);
}
