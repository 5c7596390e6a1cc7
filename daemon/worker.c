/* The worker thread: one job after the other, weight by weight. */
#include "worker.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lyap/alloc.h"

enum { NICE = 10 }; /* below the threads that answer */

struct list {
    struct lyap_worker_item *first, *last;
    uint32_t count;
};

struct lyap_worker {
    struct lyap_registry *registry;
    struct lyap_counters *counters;
    pthread_t thread;
    bool is_started;
    _Atomic bool is_cancelled;

    pthread_mutex_t mutex; /* of the fields below */
    pthread_cond_t offered;
    struct list waiting, done;
    bool is_running;
};

static void list_add(struct list *list, struct lyap_worker_item *item)
{
    item->next = NULL;
    if (list->last)
        list->last->next = item;
    else
        list->first = item;
    list->last = item;
    list->count++;
}

static struct lyap_worker_item *list_take(struct list *list)
{
    struct lyap_worker_item *item = list->first;
    if (!item)
        return NULL;
    list->first = item->next;
    list->last = list->first ? list->last : NULL;
    list->count--;
    item->next = NULL;
    return item;
}

/* Its buffers serve the run's next upload. */
static void memory_drop(struct lyap_registry *registry, struct lyap_worker_item *item)
{
    if (!item->memory)
        return;
    lyap_registry_lock(registry);
    lyap_rank_drop(&item->run->ranks[0], item->memory);
    lyap_registry_unlock(registry);
    item->memory = NULL;
}

void lyap_worker_item_free(struct lyap_registry *registry, struct lyap_worker_item *item)
{
    if (!item)
        return;
    memory_drop(registry, item);
    lyap_run_unref(registry, item->run);
    lyap_spectral_job_free(item->job);
    lyap_layer_job_free(item->layers);
    lyap_shared_declaration_unref(item->declaration);
    lyap_free(item);
}

enum lyap_status lyap_worker_new(struct lyap_registry *registry, struct lyap_counters *counters,
                                 struct lyap_worker **ret_worker)
{
    struct lyap_worker *worker = lyap_alloc_array(1, sizeof *worker);
    if (!worker)
        return LYAP_E_NOMEM;
    worker->registry = registry;
    worker->counters = counters;
    pthread_mutex_init(&worker->mutex, NULL);
    pthread_cond_init(&worker->offered, NULL);
    *ret_worker = worker;
    return LYAP_OK;
}

/* ---- the thread ---- */

struct stop {
    struct lyap_worker *worker;
    const struct lyap_run *run;
};

static bool is_stop_wanted(void *ctx)
{
    const struct stop *stop = ctx;
    if (atomic_load(&stop->worker->is_cancelled))
        return true;
    lyap_registry_lock(stop->worker->registry);
    const bool is_deleted = stop->run->is_deleted;
    lyap_registry_unlock(stop->worker->registry);
    return is_deleted;
}

static void count_task(struct lyap_worker *worker, enum lyap_status status)
{
    lyap_count(status == LYAP_OK ? &worker->counters->worker_tasks
                                 : &worker->counters->worker_failures);
}

static void run_layers(struct lyap_worker *worker, struct lyap_worker_item *item,
                       struct stop *context)
{
    for (uint32_t i = 0; item->layers && i < item->layers->count && !is_stop_wanted(context); i++)
        count_task(worker,
                   lyap_layer_task_run(&item->layers->tasks[i], &item->declaration->declaration,
                                       item->memory->memory));
}

static void run_item(struct lyap_worker *worker, struct lyap_worker_item *item)
{
    struct stop context = { worker, item->run };
    const struct lyap_spectral_stop stop = { is_stop_wanted, &context };
    run_layers(worker, item, &context);
    for (uint32_t i = 0; item->job && i < item->job->count && !is_stop_wanted(&context); i++) {
        struct lyap_spectral_task *task = &item->job->tasks[i];
        double *values = lyap_alloc_array(lyap_spectral_task_elements(task), sizeof *values);
        const bool is_loaded =
            values && lyap_spectral_task_load(task, item->memory->memory, values);
        if (i + 1 == item->job->count)
            memory_drop(worker->registry, item);
        count_task(worker, is_loaded ? lyap_spectral_task_run(task, values, &stop) : LYAP_E_NOMEM);
        lyap_free(values);
    }
    memory_drop(worker->registry, item);
}

static struct lyap_worker_item *next_item(struct lyap_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    while (!worker->waiting.first && !atomic_load(&worker->is_cancelled))
        pthread_cond_wait(&worker->offered, &worker->mutex);
    struct lyap_worker_item *item =
        atomic_load(&worker->is_cancelled) ? NULL : list_take(&worker->waiting);
    worker->is_running = item != NULL;
    pthread_mutex_unlock(&worker->mutex);
    return item;
}

static void *worker_main(void *arg)
{
    struct lyap_worker *worker = arg;
    struct lyap_worker_item *item;
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* Linux: of this thread alone */
    while ((item = next_item(worker))) {
        run_item(worker, item);
        pthread_mutex_lock(&worker->mutex);
        list_add(&worker->done, item);
        worker->is_running = false;
        pthread_mutex_unlock(&worker->mutex);
    }
    return NULL;
}

/* ---- from outside ---- */

enum lyap_status lyap_worker_start(struct lyap_worker *worker)
{
    if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0)
        return LYAP_E_NOMEM;
    worker->is_started = true;
    return LYAP_OK;
}

void lyap_worker_cancel(struct lyap_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    atomic_store(&worker->is_cancelled, true);
    pthread_cond_signal(&worker->offered);
    pthread_mutex_unlock(&worker->mutex);
}

void lyap_worker_stop(struct lyap_worker *worker)
{
    lyap_worker_cancel(worker);
    if (worker->is_started)
        pthread_join(worker->thread, NULL);
    worker->is_started = false;
}

void lyap_worker_free(struct lyap_worker *worker)
{
    if (!worker)
        return;
    assert(!worker->is_started);
    struct list *const lists[] = { &worker->waiting, &worker->done };
    for (unsigned i = 0; i < sizeof lists / sizeof *lists; i++)
        while (lists[i]->first)
            lyap_worker_item_free(worker->registry, list_take(lists[i]));
    pthread_cond_destroy(&worker->offered);
    pthread_mutex_destroy(&worker->mutex);
    lyap_free(worker);
}

bool lyap_worker_offer(struct lyap_worker *worker, struct lyap_worker_item *take_item)
{
    pthread_mutex_lock(&worker->mutex);
    const bool is_taken =
        worker->waiting.count < LYAP_WORKER_JOBS_MAX && !atomic_load(&worker->is_cancelled);
    if (is_taken) {
        list_add(&worker->waiting, take_item);
        pthread_cond_signal(&worker->offered);
    }
    pthread_mutex_unlock(&worker->mutex);
    lyap_count(is_taken ? &worker->counters->worker_jobs : &worker->counters->worker_dropped);
    if (!is_taken)
        lyap_worker_item_free(worker->registry, take_item);
    return is_taken;
}

struct lyap_worker_item *lyap_worker_take(struct lyap_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    struct lyap_worker_item *item = list_take(&worker->done);
    pthread_mutex_unlock(&worker->mutex);
    return item;
}

uint32_t lyap_worker_depth(struct lyap_worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    const uint32_t depth = worker->waiting.count + worker->is_running;
    pthread_mutex_unlock(&worker->mutex);
    return depth;
}
