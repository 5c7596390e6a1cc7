/* Roll-ups of a growing series. */
#include "rollup.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "annotation.h"
#include "lyap/alloc.h"
#include "lyap/limits.h"

static double weighted(double a, uint32_t a_count, double b, uint32_t b_count)
{
    /* Not a sum divided by a count: sums of diverging losses overflow where means do not. */
    const double total = (double)a_count + (double)b_count;
    return a * ((double)a_count / total) + b * ((double)b_count / total);
}

void lyap_stat_add(struct lyap_stat *stat, double value, bool is_nan)
{
    stat->nans += is_nan;
    if (isnan(value))
        return;
    const struct lyap_stat one = { value, value, value, value, 1, 0 };
    lyap_stat_merge(stat, &one);
}

void lyap_stat_merge(struct lyap_stat *stat, const struct lyap_stat *later)
{
    const uint32_t nans = stat->nans + later->nans;
    if (stat->count == 0) {
        *stat = *later;
    } else if (later->count > 0) {
        stat->min = later->min < stat->min ? later->min : stat->min;
        stat->max = later->max > stat->max ? later->max : stat->max;
        stat->mean = weighted(stat->mean, stat->count, later->mean, later->count);
        stat->last = later->last;
        stat->count += later->count;
    }
    stat->nans = nans;
}

void lyap_stat_read(sqlite3_stmt *stmt, int column, struct lyap_stat *ret_stat)
{
    struct lyap_row row = { .stmt = stmt, .column = column };
    ret_stat->min = lyap_row_double(&row);
    ret_stat->max = lyap_row_double(&row);
    ret_stat->mean = lyap_row_double(&row);
    ret_stat->last = lyap_row_double(&row);
    ret_stat->count = (uint32_t)lyap_row_int(&row);
    ret_stat->nans = (uint32_t)lyap_row_int(&row);
}

static void bin_clear(struct lyap_bin *bin)
{
    bin->first_step = bin->last_step = -1;
    bin->last_ns = 0;
    bin->points = 0;
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        bin->stats[i] = (struct lyap_stat)LYAP_STAT_NULL;
}

static void bin_merge(struct lyap_bin *bin, const struct lyap_bin *later)
{
    if (bin->first_step < 0)
        bin->first_step = later->first_step;
    bin->last_step = later->last_step;
    bin->last_ns = later->last_ns;
    bin->points += later->points;
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        lyap_stat_merge(&bin->stats[i], &later->stats[i]);
}

static enum lyap_status bin_store(const struct lyap_rollup *rollup, int level, struct lyap_sql *sql,
                                  struct lyap_error *reterr)
{
    const struct lyap_bin *bin = &rollup->open[level];
    struct lyap_bind bind = lyap_bind(sql, LYAP_SQL_PUT_ROLLUP);
    lyap_bind_int(&bind, rollup->run_id);
    lyap_bind_int(&bind, rollup->attempt);
    lyap_bind_int(&bind, level);
    lyap_bind_int(&bind, lyap_rollup_bin(bin->first_step, level));
    lyap_bind_int(&bind, bin->first_step);
    lyap_bind_int(&bind, bin->last_step);
    lyap_bind_int(&bind, bin->last_ns);
    lyap_bind_int(&bind, bin->points);
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        const struct lyap_stat *stat = &bin->stats[i];
        lyap_bind_double(&bind, stat->min);
        lyap_bind_double(&bind, stat->max);
        lyap_bind_double(&bind, stat->mean);
        lyap_bind_double(&bind, stat->last);
        lyap_bind_step(&bind, stat->count > 0 ? (int64_t)stat->count : -1);
        lyap_bind_step(&bind, stat->nans > 0 ? (int64_t)stat->nans : -1);
    }
    return lyap_sql_run(&bind, reterr);
}

/* Closes, from the finest level up, every open bin that does not hold `step`. */
static enum lyap_status close_before(struct lyap_rollup *rollup, struct lyap_sql *sql, int64_t step,
                                     struct lyap_error *reterr)
{
    for (int level = 1; level <= LYAP_ROLLUP_LEVELS; level++) {
        struct lyap_bin *bin = &rollup->open[level];
        if (bin->first_step < 0)
            continue;
        if (lyap_rollup_bin(bin->first_step, level) == lyap_rollup_bin(step, level))
            break; /* then every coarser bin holds it too */
        const enum lyap_status status = bin_store(rollup, level, sql, reterr);
        if (status != LYAP_OK)
            return status;
        if (level < LYAP_ROLLUP_LEVELS)
            bin_merge(&rollup->open[level + 1], bin);
        bin_clear(bin);
    }
    return LYAP_OK;
}

enum lyap_status lyap_rollup_add(struct lyap_rollup *rollup, struct lyap_sql *sql,
                                 const struct lyap_point *point, struct lyap_error *reterr)
{
    assert(point->step > rollup->last_step);
    rollup->is_dirty = true;
    const enum lyap_status status = close_before(rollup, sql, point->step, reterr);
    if (status != LYAP_OK)
        return status;

    struct lyap_bin *bin = &rollup->open[1];
    if (bin->first_step < 0)
        bin->first_step = point->step;
    bin->last_step = rollup->last_step = point->step;
    bin->last_ns = point->time_ns;
    bin->points++;
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        const struct lyap_value *value = &point->metrics[i];
        if (value->reason == LYAP_REASON_NONE)
            lyap_stat_add(&bin->stats[i], value->value, isnan(value->value));
    }
    return LYAP_OK;
}

/* ---- rebuilding the open bins ---- */

enum { SERIES_METRICS_COLUMN = 4 }; /* two steps, points, nan_metrics, then metrics */

static void read_point(sqlite3_stmt *stmt, struct lyap_bin *bin)
{
    struct lyap_row row = { .stmt = stmt };
    const int64_t step = lyap_row_int(&row);
    if (bin->first_step < 0)
        bin->first_step = step;
    bin->last_step = step;
    bin->points++;
    row.column = SERIES_METRICS_COLUMN - 1;
    bool is_nan[LYAP_METRIC_COUNT];
    lyap_nans_read(lyap_row_text(&row), is_nan);
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        lyap_stat_add(&bin->stats[i], lyap_row_double(&row), is_nan[i]);
}

static enum lyap_status rebuild_points(struct lyap_rollup *rollup, struct lyap_sql *sql,
                                       struct lyap_error *reterr)
{
    const int64_t first = lyap_rollup_bin(rollup->last_step, 1) << LYAP_ROLLUP_SHIFT;
    struct lyap_bind bind = lyap_bind(sql, LYAP_SQL_SERIES_POINTS);
    lyap_bind_int(&bind, -1);
    lyap_bind_int(&bind, -1);
    lyap_bind_int(&bind, rollup->run_id);
    lyap_bind_int(&bind, rollup->attempt);
    lyap_bind_int(&bind, first);
    lyap_bind_int(&bind, rollup->last_step);
    enum lyap_status status;
    while ((status = lyap_sql_step(&bind, reterr)) == LYAP_OK)
        read_point(bind.stmt, &rollup->open[1]);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

static void read_bin(sqlite3_stmt *stmt, struct lyap_bin *ret_bin)
{
    struct lyap_row row = { .stmt = stmt };
    ret_bin->first_step = lyap_row_int(&row);
    ret_bin->last_step = lyap_row_int(&row);
    ret_bin->points = (uint32_t)lyap_row_int(&row);
    ret_bin->last_ns = 0;
    for (int i = 0; i < LYAP_METRIC_COUNT; i++)
        lyap_stat_read(stmt, SERIES_METRICS_COLUMN + i * LYAP_ROLLUP_COLUMNS, &ret_bin->stats[i]);
}

/* The closed bins of level - 1 inside the open bin of `level`. */
static enum lyap_status rebuild_level(struct lyap_rollup *rollup, int level, struct lyap_sql *sql,
                                      struct lyap_error *reterr)
{
    struct lyap_bin bin;
    struct lyap_bind bind = lyap_bind(sql, LYAP_SQL_SERIES_ROLLUPS);
    lyap_bind_int(&bind, rollup->run_id);
    lyap_bind_int(&bind, rollup->attempt);
    lyap_bind_int(&bind, level - 1);
    lyap_bind_int(&bind, lyap_rollup_bin(rollup->last_step, level) << LYAP_ROLLUP_SHIFT);
    lyap_bind_int(&bind, lyap_rollup_bin(rollup->last_step, level - 1) - 1);
    enum lyap_status status;
    while ((status = lyap_sql_step(&bind, reterr)) == LYAP_OK) {
        read_bin(bind.stmt, &bin);
        bin_merge(&rollup->open[level], &bin);
    }
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

static enum lyap_status read_last_step(struct lyap_rollup *rollup, struct lyap_sql *sql,
                                       struct lyap_error *reterr)
{
    struct lyap_bind bind = lyap_bind(sql, LYAP_SQL_ATTEMPT_STEPS);
    lyap_bind_int(&bind, rollup->run_id);
    lyap_bind_int(&bind, rollup->attempt);
    const enum lyap_status status = lyap_sql_step(&bind, reterr);
    if (status != LYAP_OK)
        return status;
    struct lyap_row row = { .stmt = bind.stmt };
    rollup->last_step = lyap_row_step(&row);
    lyap_sql_idle(&bind);
    return LYAP_OK;
}

static enum lyap_status rebuild(struct lyap_rollup *rollup, struct lyap_sql *sql,
                                struct lyap_error *reterr)
{
    for (int level = 1; level <= LYAP_ROLLUP_LEVELS; level++)
        bin_clear(&rollup->open[level]);
    enum lyap_status status = read_last_step(rollup, sql, reterr);
    if (status != LYAP_OK || rollup->last_step < 0)
        return status;
    status = rebuild_points(rollup, sql, reterr);
    for (int level = 2; status == LYAP_OK && level <= LYAP_ROLLUP_LEVELS; level++)
        status = rebuild_level(rollup, level, sql, reterr);
    return status;
}

/* ---- the attempts held ---- */

static void drop(struct lyap_rollups *rollups, uint32_t index)
{
    lyap_free(rollups->slots[index]);
    rollups->count--;
    rollups->slots[index] = rollups->slots[rollups->count];
    rollups->used_at[index] = rollups->used_at[rollups->count];
    rollups->slots[rollups->count] = NULL;
}

static void drop_least_used(struct lyap_rollups *rollups)
{
    uint32_t least = 0;
    for (uint32_t i = 1; i < rollups->count; i++)
        if (rollups->used_at[i] < rollups->used_at[least])
            least = i;
    drop(rollups, least); /* a dirty one too: it is rebuilt from the rows of the open batch */
}

enum lyap_status lyap_rollups_get(struct lyap_rollups *rollups, struct lyap_sql *sql,
                                  int64_t run_id, uint32_t attempt, struct lyap_rollup **ret_rollup,
                                  bool *ret_is_new, struct lyap_error *reterr)
{
    for (uint32_t i = 0; i < rollups->count; i++) {
        struct lyap_rollup *held = rollups->slots[i];
        if (held->run_id != run_id || held->attempt != attempt)
            continue;
        rollups->used_at[i] = ++rollups->clock;
        *ret_is_new = false;
        *ret_rollup = held;
        return LYAP_OK;
    }

    struct lyap_rollup *rollup = lyap_alloc_array(1, sizeof *rollup);
    if (!rollup)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "open roll-ups of an attempt");
    rollup->run_id = run_id;
    rollup->attempt = attempt;
    rollup->is_dirty = true; /* the rows may be those of the open batch */
    const enum lyap_status status = rebuild(rollup, sql, reterr);
    if (status != LYAP_OK) {
        lyap_free(rollup);
        return status;
    }
    if (rollups->count == LYAP_ROLLUP_ATTEMPTS_MAX)
        drop_least_used(rollups);
    rollups->slots[rollups->count] = rollup;
    rollups->used_at[rollups->count] = ++rollups->clock;
    rollups->count++;
    *ret_is_new = true;
    *ret_rollup = rollup;
    return LYAP_OK;
}

void lyap_rollups_committed(struct lyap_rollups *rollups)
{
    for (uint32_t i = 0; i < rollups->count; i++)
        rollups->slots[i]->is_dirty = false;
}

void lyap_rollups_rolled_back(struct lyap_rollups *rollups)
{
    for (uint32_t i = rollups->count; i-- > 0;)
        if (rollups->slots[i]->is_dirty)
            drop(rollups, i);
}

void lyap_rollups_forget(struct lyap_rollups *rollups, int64_t run_id)
{
    for (uint32_t i = rollups->count; i-- > 0;)
        if (rollups->slots[i]->run_id == run_id)
            drop(rollups, i);
}

void lyap_rollups_release(struct lyap_rollups *rollups)
{
    while (rollups->count > 0)
        drop(rollups, rollups->count - 1);
}
