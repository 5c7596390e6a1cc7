/* pool.h - read-only connections. A cursor takes one until it is closed, and with it a read
 * snapshot. THREADS: take and give: any; a taken reader belongs to its taker. */
#ifndef LYAP_STORE_POOL_H
#define LYAP_STORE_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "sql.h"

enum {
    LYAP_POOL_WAIT_MS = 2000, /* a page of a list takes milliseconds: longer means overload */
    LYAP_POOL_READERS_MAX = 64
};

struct lyap_reader {
    struct lyap_sql sql;
    bool is_taken;
};
struct lyap_pool {
    struct lyap_reader *readers; /* owned */
    uint32_t count;
    bool has_mutex;
    pthread_mutex_t mutex; /* guards is_taken */
    pthread_cond_t given;
};

/* On failure *pool can be closed. */
LYAP_MUST_CHECK enum lyap_status lyap_pool_open(struct lyap_pool *pool, const char *path,
                                                uint32_t count, uint32_t busy_timeout_ms,
                                                struct lyap_error *reterr);
/* Every reader is given back. */
void lyap_pool_close(struct lyap_pool *pool);
/* Waits at most LYAP_POOL_WAIT_MS: E_BUSY. The reader has begun a transaction. */
LYAP_MUST_CHECK enum lyap_status lyap_pool_take(struct lyap_pool *pool,
                                                struct lyap_reader **ret_reader);
/* Its statements are idle. */
void lyap_pool_give(struct lyap_pool *pool, struct lyap_reader *reader);

#endif
