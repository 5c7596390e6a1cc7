/* The pool of readers. */
#include "pool.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

#include "lyap/alloc.h"

static enum lyap_status open_reader(struct lyap_reader *reader, const char *path,
                                    uint32_t busy_timeout_ms, struct lyap_error *reterr)
{
    struct lyap_sql *sql = &reader->sql;
    int rc = sqlite3_open_v2(path, &sql->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(sql->db, (int)busy_timeout_ms);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(sql->db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return lyap_sql_fail(sql->db, rc, reterr);
    return lyap_sql_prepare(sql, LYAP_SQL_READ_COUNT, reterr);
}

static enum lyap_status init_locks(struct lyap_pool *pool)
{
    pthread_condattr_t attributes;
    if (pthread_mutex_init(&pool->mutex, NULL) != 0)
        return LYAP_E_NOMEM;
    int rc = pthread_condattr_init(&attributes);
    assert(rc == 0);
    rc = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    assert(rc == 0);
    rc = pthread_cond_init(&pool->given, &attributes);
    assert(rc == 0);
    pthread_condattr_destroy(&attributes);
    pool->has_mutex = true;
    return LYAP_OK;
}

enum lyap_status lyap_pool_open(struct lyap_pool *pool, const char *path, uint32_t count,
                                uint32_t busy_timeout_ms, struct lyap_error *reterr)
{
    *pool = (struct lyap_pool){ 0 };
    if (count == 0 || count > LYAP_POOL_READERS_MAX)
        return lyap_error_set(reterr, LYAP_E_INVALID, "readers: %u is not within 1 .. %d", count,
                              LYAP_POOL_READERS_MAX);
    enum lyap_status status = init_locks(pool);
    if (status != LYAP_OK)
        return lyap_error_set(reterr, status, "locks of the readers");
    pool->readers = lyap_alloc_array(count, sizeof *pool->readers);
    if (!pool->readers)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "%u readers", count);
    pool->count = count;
    for (uint32_t i = 0; status == LYAP_OK && i < count; i++)
        status = open_reader(&pool->readers[i], path, busy_timeout_ms, reterr);
    return status;
}

void lyap_pool_close(struct lyap_pool *pool)
{
    for (uint32_t i = 0; i < pool->count; i++) {
        assert(!pool->readers[i].is_taken);
        lyap_sql_close(&pool->readers[i].sql);
    }
    lyap_free(pool->readers);
    if (pool->has_mutex) {
        pthread_cond_destroy(&pool->given);
        pthread_mutex_destroy(&pool->mutex);
    }
    *pool = (struct lyap_pool){ 0 };
}

static struct lyap_reader *find_free(struct lyap_pool *pool)
{
    for (uint32_t i = 0; i < pool->count; i++)
        if (!pool->readers[i].is_taken)
            return &pool->readers[i];
    return NULL;
}

static struct timespec deadline_in(long ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += ms % 1000 * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

enum lyap_status lyap_pool_take(struct lyap_pool *pool, struct lyap_reader **ret_reader)
{
    const struct timespec deadline = deadline_in(LYAP_POOL_WAIT_MS);
    struct lyap_reader *reader = NULL;
    int rc = 0;
    pthread_mutex_lock(&pool->mutex);
    while (!(reader = find_free(pool)) && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&pool->given, &pool->mutex, &deadline);
    if (reader)
        reader->is_taken = true;
    pthread_mutex_unlock(&pool->mutex);
    if (!reader)
        return LYAP_E_BUSY;

    struct lyap_bind bind = lyap_bind(&reader->sql, LYAP_SQL_BEGIN_READ);
    const enum lyap_status status = lyap_sql_run(&bind, NULL);
    if (status != LYAP_OK) {
        lyap_pool_give(pool, reader);
        return status;
    }
    *ret_reader = reader;
    return LYAP_OK;
}

void lyap_pool_give(struct lyap_pool *pool, struct lyap_reader *reader)
{
    if (!sqlite3_get_autocommit(reader->sql.db)) {
        struct lyap_bind bind = lyap_bind(&reader->sql, LYAP_SQL_COMMIT_READ);
        const enum lyap_status status = lyap_sql_run(&bind, NULL);
        assert(status == LYAP_OK); /* nothing was written, nothing is open */
    }
    pthread_mutex_lock(&pool->mutex);
    assert(reader->is_taken);
    reader->is_taken = false;
    pthread_cond_signal(&pool->given);
    pthread_mutex_unlock(&pool->mutex);
}
