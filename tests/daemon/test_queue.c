/* Reservation, order, closing and waiting of the queue. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "queue.h"
#include "support.h"

struct number {
    struct lyap_queue_item item;
    int value;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static struct lyap_queue *queue_of(uint32_t length, uint64_t bytes)
{
    struct lyap_queue *queue;
    ck_assert_int_eq(lyap_queue_new(length, bytes, &queue), LYAP_OK);
    return queue;
}

START_TEST(items_come_in_order)
{
    struct lyap_queue *queue = queue_of(4, 100);
    struct number numbers[3] = { { .value = 1 }, { .value = 2 }, { .value = 3 } };
    for (int i = 0; i < 3; i++)
        ck_assert(lyap_queue_push(queue, &numbers[i].item));
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(((struct number *)lyap_queue_pop(queue, 0))->value, i + 1);
    ck_assert_ptr_null(lyap_queue_pop(queue, 0));
    lyap_queue_free(queue);
}
END_TEST

START_TEST(places_and_bytes_are_bounded)
{
    struct lyap_queue *queue = queue_of(2, 100);
    ck_assert_int_eq(lyap_queue_reserve(queue, 60), LYAP_OK);
    ck_assert_int_eq(lyap_queue_reserve(queue, 50), LYAP_E_QUEUE_FULL);
    ck_assert_int_eq(lyap_queue_reserve(queue, 40), LYAP_OK);
    ck_assert_int_eq(lyap_queue_reserve(queue, 0), LYAP_E_QUEUE_FULL); /* places */
    ck_assert_int_eq(lyap_queue_grow(queue, 1), LYAP_E_QUEUE_FULL);
    ck_assert_uint_eq(lyap_queue_depth(queue), 2);
    lyap_queue_unreserve(queue, 1, 40);
    ck_assert_int_eq(lyap_queue_grow(queue, 40), LYAP_OK);
    lyap_queue_unreserve(queue, 0, 40); /* a held part: its place went before */
    lyap_queue_unreserve(queue, 1, 60);
    ck_assert_uint_eq(lyap_queue_depth(queue), 0);
    lyap_queue_free(queue);
}
END_TEST

START_TEST(one_that_is_larger_than_the_budget_passes_alone)
{
    struct lyap_queue *queue = queue_of(4, 100);
    ck_assert_int_eq(lyap_queue_reserve(queue, 1000), LYAP_OK);
    ck_assert_int_eq(lyap_queue_reserve(queue, 1), LYAP_E_QUEUE_FULL);
    lyap_queue_unreserve(queue, 1, 1000);
    ck_assert_int_eq(lyap_queue_reserve(queue, 1), LYAP_OK);
    lyap_queue_unreserve(queue, 1, 1);
    lyap_queue_free(queue);
}
END_TEST

START_TEST(a_sum_of_bytes_does_not_overflow)
{
    struct lyap_queue *queue = queue_of(4, UINT64_MAX);
    ck_assert_int_eq(lyap_queue_reserve(queue, UINT64_MAX - 1), LYAP_OK);
    ck_assert_int_eq(lyap_queue_reserve(queue, 2), LYAP_E_QUEUE_FULL);
    ck_assert_int_eq(lyap_queue_reserve(queue, 1), LYAP_OK);
    lyap_queue_unreserve(queue, 2, UINT64_MAX);
    lyap_queue_free(queue);
}
END_TEST

START_TEST(closing_refuses_but_lets_out)
{
    struct lyap_queue *queue = queue_of(4, 100);
    struct number first = { .value = 7 }, late = { .value = 8 };
    ck_assert(lyap_queue_push(queue, &first.item));
    lyap_queue_close(queue);
    ck_assert(lyap_queue_is_closed(queue));
    ck_assert(!lyap_queue_push(queue, &late.item));
    ck_assert_int_eq(lyap_queue_reserve(queue, 1), LYAP_E_STOPPING);
    ck_assert_ptr_eq(lyap_queue_pop(queue, now_ns() + 60000000000), &first.item);
    ck_assert_ptr_null(lyap_queue_pop(queue, now_ns() + 60000000000)); /* at once */
    lyap_queue_free(queue);
}
END_TEST

START_TEST(waiting_ends_at_the_deadline)
{
    struct lyap_queue *queue = queue_of(4, 100);
    const int64_t start = now_ns();
    ck_assert_ptr_null(lyap_queue_pop(queue, start + 30000000));
    ck_assert_int_ge(now_ns() - start, 30000000);
    lyap_queue_free(queue);
}
END_TEST

enum { THREADS = 4, EACH = 5000 };

struct producer {
    struct lyap_queue *queue;
    struct number *numbers;
};

static void *produce(void *arg)
{
    struct producer *producer = arg;
    for (int i = 0; i < EACH; i++) {
        while (lyap_queue_reserve(producer->queue, 8) != LYAP_OK)
            continue;
        ck_assert(lyap_queue_push(producer->queue, &producer->numbers[i].item));
    }
    return NULL;
}

START_TEST(every_item_of_every_thread_arrives_once)
{
    struct lyap_queue *queue = queue_of(64, 400);
    struct number *numbers = calloc(THREADS * EACH, sizeof *numbers);
    struct producer producers[THREADS];
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++) {
        producers[t] = (struct producer){ queue, numbers + t * EACH };
        ck_assert_int_eq(pthread_create(&threads[t], NULL, produce, &producers[t]), 0);
    }
    for (int i = 0; i < THREADS * EACH; i++) {
        struct number *got = (struct number *)lyap_queue_pop(queue, now_ns() + 60000000000);
        ck_assert_ptr_nonnull(got);
        ck_assert_int_eq(got->value++, 0);
        ck_assert_uint_le(lyap_queue_depth(queue), 50); /* 400 bytes in eights */
        lyap_queue_unreserve(queue, 1, 8);
    }
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    ck_assert_ptr_null(lyap_queue_pop(queue, 0));
    free(numbers);
    lyap_queue_free(queue);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("queue");
    TCase *tests = tcase_create("queue");
    tcase_add_test(tests, items_come_in_order);
    tcase_add_test(tests, places_and_bytes_are_bounded);
    tcase_add_test(tests, one_that_is_larger_than_the_budget_passes_alone);
    tcase_add_test(tests, a_sum_of_bytes_does_not_overflow);
    tcase_add_test(tests, closing_refuses_but_lets_out);
    tcase_add_test(tests, waiting_ends_at_the_deadline);
    tcase_add_test(tests, every_item_of_every_thread_arrives_once);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
