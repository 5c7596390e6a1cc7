/* rollup.h - statistics of bins of 8^level steps, as the series grows.
 * Level 0 are the points. A bin of level l holds the steps with step / 8^l equal to its number; it
 * is stored once, when a later step closes it. The open bins of an attempt live in the writer's
 * memory and are rebuilt from the stored rows: level l from the closed bins of level l - 1 in it,
 * level 1 from the points. Readers complete the open end of a series the same way.
 *
 *   level 2  |---------------- closed ----------------|   open: the two closed bins below
 *   level 1  |----|----|----|----|----|----|----|----|----|----|  open: the 3 points below
 *   level 0  ................................................... ...
 *
 * THREADS: pure functions; `struct lyap_rollups` has one owner, the writer. */
#ifndef LYAP_STORE_ROLLUP_H
#define LYAP_STORE_ROLLUP_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/point.h"
#include "sql.h"

enum {
    LYAP_ROLLUP_SHIFT = 3,  /* 8 bins of one level make one of the next */
    LYAP_ROLLUP_LEVELS = 7, /* 8^7 = 2 097 152 steps: 1000 bins cover 2e9 steps */
    LYAP_ROLLUP_COLUMNS = 6 /* per metric, in the order of struct lyap_stat */
};

/* Of the values that are there and not NaN; count 0: min, max, mean, last are NaN. */
struct lyap_stat {
    double min, max, mean, last;
    uint32_t count, nans;
};
#define LYAP_STAT_NULL                                                                             \
    {                                                                                              \
        NAN, NAN, NAN, NAN, 0, 0                                                                   \
    }

struct lyap_bin {
    int64_t first_step, last_step, last_ns; /* first_step -1: empty */
    uint32_t points;
    struct lyap_stat stats[LYAP_METRIC_COUNT];
};

static inline int64_t lyap_rollup_bin(int64_t step, int level)
{
    return step >> (LYAP_ROLLUP_SHIFT * level);
}

void lyap_stat_add(struct lyap_stat *stat, double value, bool is_nan);
/* `later` follows `stat` in time. */
void lyap_stat_merge(struct lyap_stat *stat, const struct lyap_stat *later);
/* Reads the six columns of one metric. */
void lyap_stat_read(sqlite3_stmt *stmt, int column, struct lyap_stat *ret_stat);

/* Open bins of one attempt. */
struct lyap_rollup {
    int64_t run_id;
    uint32_t attempt;
    bool is_dirty;                                /* changed in the open batch */
    int64_t last_step;                            /* -1: no points yet */
    struct lyap_bin open[LYAP_ROLLUP_LEVELS + 1]; /* [0] unused */
};

enum { LYAP_ROLLUP_ATTEMPTS_MAX = 512 }; /* attempts held at once, 20 KiB each */
struct lyap_rollups {
    struct lyap_rollup *slots[LYAP_ROLLUP_ATTEMPTS_MAX];
    uint64_t used_at[LYAP_ROLLUP_ATTEMPTS_MAX]; /* for the least recently used */
    uint64_t clock;
    uint32_t count;
};

/* The open bins of an attempt, rebuilt from the database when they are not held. Borrowed until the
 * next call. `*ret_is_new`: they were rebuilt now. */
LYAP_MUST_CHECK enum lyap_status lyap_rollups_get(struct lyap_rollups *rollups,
                                                  struct lyap_sql *sql, int64_t run_id,
                                                  uint32_t attempt, struct lyap_rollup **ret_rollup,
                                                  bool *ret_is_new, struct lyap_error *reterr);
/* Adds a point beyond the last step; writes the bins that it closes. */
LYAP_MUST_CHECK enum lyap_status lyap_rollup_add(struct lyap_rollup *rollup, struct lyap_sql *sql,
                                                 const struct lyap_point *point,
                                                 struct lyap_error *reterr);
void lyap_rollups_committed(struct lyap_rollups *rollups);
/* Forgets what the batch changed. */
void lyap_rollups_rolled_back(struct lyap_rollups *rollups);
void lyap_rollups_forget(struct lyap_rollups *rollups, int64_t run_id);
void lyap_rollups_release(struct lyap_rollups *rollups);

#endif
