/* Bounded queue of intrusive items. */
#include "queue.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "lyap/alloc.h"

struct lyap_queue {
    pthread_mutex_t mutex;
    pthread_cond_t has_item;
    struct lyap_queue_item *head, *tail;
    uint32_t length_max, reserved;
    uint64_t bytes_max, bytes;
    bool is_closed;
};

enum lyap_status lyap_queue_new(uint32_t length_max, uint64_t bytes_max,
                                struct lyap_queue **ret_queue)
{
    assert(length_max > 0);
    struct lyap_queue *queue = lyap_alloc_array(1, sizeof *queue);
    if (!queue)
        return LYAP_E_NOMEM;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->has_item, &monotonic);
    pthread_condattr_destroy(&monotonic);
    queue->length_max = length_max;
    queue->bytes_max = bytes_max;
    *ret_queue = queue;
    return LYAP_OK;
}

void lyap_queue_free(struct lyap_queue *queue)
{
    if (!queue)
        return;
    assert(!queue->head);
    pthread_cond_destroy(&queue->has_item);
    pthread_mutex_destroy(&queue->mutex);
    lyap_free(queue);
}

/* Whether `bytes` more fit beside what the others hold. */
static bool has_room(const struct lyap_queue *queue, uint64_t bytes)
{
    return queue->bytes == 0 ||
           (bytes <= queue->bytes_max && queue->bytes <= queue->bytes_max - bytes);
}

enum lyap_status lyap_queue_reserve(struct lyap_queue *queue, uint64_t bytes)
{
    enum lyap_status status = LYAP_OK;
    pthread_mutex_lock(&queue->mutex);
    if (queue->is_closed)
        status = LYAP_E_STOPPING;
    else if (queue->reserved >= queue->length_max || !has_room(queue, bytes))
        status = LYAP_E_QUEUE_FULL;
    if (status == LYAP_OK) {
        queue->reserved++;
        queue->bytes += bytes;
    }
    pthread_mutex_unlock(&queue->mutex);
    return status;
}

enum lyap_status lyap_queue_grow(struct lyap_queue *queue, uint64_t bytes)
{
    pthread_mutex_lock(&queue->mutex);
    const bool fits = has_room(queue, bytes);
    if (fits)
        queue->bytes += bytes;
    pthread_mutex_unlock(&queue->mutex);
    return fits ? LYAP_OK : LYAP_E_QUEUE_FULL;
}

void lyap_queue_unreserve(struct lyap_queue *queue, uint32_t places, uint64_t bytes)
{
    pthread_mutex_lock(&queue->mutex);
    assert(queue->reserved >= places && queue->bytes >= bytes);
    queue->reserved -= places;
    queue->bytes -= bytes;
    pthread_mutex_unlock(&queue->mutex);
}

uint32_t lyap_queue_depth(struct lyap_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    const uint32_t depth = queue->reserved;
    pthread_mutex_unlock(&queue->mutex);
    return depth;
}

bool lyap_queue_push(struct lyap_queue *queue, struct lyap_queue_item *take_item)
{
    pthread_mutex_lock(&queue->mutex);
    const bool is_open = !queue->is_closed;
    if (is_open) {
        take_item->next = NULL;
        *(queue->tail ? &queue->tail->next : &queue->head) = take_item;
        queue->tail = take_item;
        pthread_cond_signal(&queue->has_item);
    }
    pthread_mutex_unlock(&queue->mutex);
    return is_open;
}

struct lyap_queue_item *lyap_queue_pop(struct lyap_queue *queue, int64_t deadline_ns)
{
    const struct timespec deadline = { .tv_sec = (time_t)(deadline_ns / 1000000000),
                                       .tv_nsec = (long)(deadline_ns % 1000000000) };
    pthread_mutex_lock(&queue->mutex);
    int waited = deadline_ns ? 0 : ETIMEDOUT;
    while (!queue->head && !queue->is_closed && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&queue->has_item, &queue->mutex, &deadline);
    struct lyap_queue_item *item = queue->head;
    if (item) {
        queue->head = item->next;
        if (!queue->head)
            queue->tail = NULL;
        item->next = NULL;
    }
    pthread_mutex_unlock(&queue->mutex);
    return item;
}

void lyap_queue_close(struct lyap_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->is_closed = true;
    pthread_cond_broadcast(&queue->has_item);
    pthread_mutex_unlock(&queue->mutex);
}

bool lyap_queue_is_closed(struct lyap_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    const bool is_closed = queue->is_closed;
    pthread_mutex_unlock(&queue->mutex);
    return is_closed;
}
