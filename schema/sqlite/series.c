/* Series of a few metrics, at full resolution or in bins of 8^level steps.
 * A range is cut into segments, each read from the coarsest stored level that fits; rows of one
 * output bin are merged. With bins of level 2 (x: steps outside the range):
 *
 *   output  xx|------ bin ------|------ bin ------|------ bin ---|x
 *   source  xx|00|1|1|1|1|1|1|1 |        2        | 1|1|1|1|1|000|x
 *
 * The open end of the series, not yet rolled up, is read in the same way from finer levels. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/limits.h"
#include "query.h"
#include "rollup.h"

enum {
    LEVEL_MAX = 18, /* 8^18 = 2^54: one bin holds every step */
    /* Up to the first full bin and down from the last, at most one per level on each side, and
     * the full bins. */
    SEGMENTS_MAX = 2 * (LYAP_ROLLUP_LEVELS + 1) + 1,
    EVENT_COLUMN = 2,       /* of points: is_event_only */
    FIRST_METRIC_COLUMN = 4 /* first_step, last_step, points, nan_metrics */
};
static_assert(LYAP_STEP_MAX >> (LYAP_ROLLUP_SHIFT * LEVEL_MAX) == 0, "one bin holds every step");

struct segment {
    int level;           /* 0: points */
    int64_t first, last; /* bins of the level, inclusive */
};

struct range {
    int64_t from, to;    /* inclusive */
    int64_t last_step;   /* of the attempt; -1: no points */
    int64_t pruned_step; /* points below it are gone, their bins are not */
};

struct bin {
    bool is_open, is_event_only;
    int64_t number, last_step;
    struct lyap_stat stats[LYAP_SERIES_METRICS_MAX];
};

struct lyap_series {
    int columns[LYAP_SERIES_METRICS_MAX]; /* metric numbers */
    uint32_t count;
    bool is_tensor, is_descending;
    int64_t tensor, run_id;
    uint32_t attempt;
    int64_t after, limit; /* limit < 0: none */
    int level;            /* of the output */
    struct segment segments[SEGMENTS_MAX];
    int segment_count, segment;
    struct bin bin, finished;
    double last[LYAP_SERIES_METRICS_MAX], min[LYAP_SERIES_METRICS_MAX],
        max[LYAP_SERIES_METRICS_MAX];
    bool is_nan[LYAP_SERIES_METRICS_MAX];
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- plan ---- */

/* Bins of `level` that are stored whole inside the range end before this one. */
static int64_t bins_end(const struct range *range, int level)
{
    if (level == 0)
        return range->to + 1;
    return smaller(lyap_rollup_bin(range->to + 1, level), lyap_rollup_bin(range->last_step, level));
}

static bool starts_bin(int64_t step, int level)
{
    return lyap_rollup_bin(step, level) << (LYAP_ROLLUP_SHIFT * level) == step;
}

static void plan(struct lyap_series *series, const struct range *range)
{
    int coarsest = series->level < LYAP_ROLLUP_LEVELS ? series->level : LYAP_ROLLUP_LEVELS;
    if (series->is_tensor)
        coarsest = 0; /* tensors have no roll-ups */
    int64_t step = range->from;
    while (step <= range->to) {
        int level = coarsest;
        while (level > 0 &&
               (!starts_bin(step, level) || lyap_rollup_bin(step, level) >= bins_end(range, level)))
            level--;
        const int64_t first = lyap_rollup_bin(step, level);
        int64_t end = bins_end(range, level);
        if (level < coarsest) /* where the next coarser bin begins, it may fit */
            end = smaller(end, ((first >> LYAP_ROLLUP_SHIFT) + 1) << LYAP_ROLLUP_SHIFT);
        assert(end > first && series->segment_count < SEGMENTS_MAX);
        series->segments[series->segment_count++] = (struct segment){ level, first, end - 1 };
        step = end << (LYAP_ROLLUP_SHIFT * level);
    }
}

static enum lyap_status count_rows(struct lyap_rows *rows, const struct range *range, int level,
                                   uint32_t enough, uint32_t *ret_count)
{
    const struct lyap_series *series = rows->series;
    struct lyap_bind bind =
        lyap_bind(&rows->reader->sql, level == 0 ? LYAP_SQL_COUNT_POINTS : LYAP_SQL_COUNT_ROLLUPS);
    lyap_bind_int(&bind, series->run_id);
    lyap_bind_int(&bind, series->attempt);
    if (level == 0)
        lyap_bind_null(&bind);
    else
        lyap_bind_int(&bind, level);
    lyap_bind_int(&bind, lyap_rollup_bin(range->from, level));
    lyap_bind_int(&bind, lyap_rollup_bin(range->to, level));
    lyap_bind_int(&bind, enough);
    const enum lyap_status status = lyap_sql_step(&bind, NULL);
    if (status != LYAP_OK)
        return status;
    *ret_count = (uint32_t)sqlite3_column_int64(bind.stmt, 0);
    lyap_sql_idle(&bind);
    /* The bin of the last step is open, and not stored at any level above the points. */
    if (level > 0 && lyap_rollup_bin(range->to, level) == lyap_rollup_bin(range->last_step, level))
        ++*ret_count;
    return LYAP_OK;
}

/* The finest level that gives at most `points` bins. */
static enum lyap_status choose_level(struct lyap_rows *rows, const struct range *range,
                                     uint32_t points)
{
    const bool has_points = range->from >= range->pruned_step;
    for (int level = has_points ? 0 : 1; level <= LYAP_ROLLUP_LEVELS; level++) {
        uint32_t count = 0;
        const enum lyap_status status = count_rows(rows, range, level, points + 1, &count);
        if (status != LYAP_OK)
            return status;
        rows->series->level = level;
        if (count <= points)
            return LYAP_OK;
    }
    int64_t bins;
    do {
        const int level = ++rows->series->level;
        bins = lyap_rollup_bin(range->to, level) - lyap_rollup_bin(range->from, level) + 1;
    } while (bins > points);
    return LYAP_OK;
}

static enum lyap_status read_range(struct lyap_rows *rows, const struct lyap_query *query,
                                   struct range *ret_range)
{
    struct lyap_bind bind = lyap_bind(&rows->reader->sql, LYAP_SQL_ATTEMPT_STEPS);
    lyap_bind_int(&bind, rows->series->run_id);
    lyap_bind_int(&bind, rows->series->attempt);
    const enum lyap_status status = lyap_sql_step(&bind, NULL);
    if (status != LYAP_OK)
        return status;
    struct lyap_row row = { .stmt = bind.stmt };
    ret_range->last_step = lyap_row_step(&row);
    ret_range->pruned_step = lyap_row_int(&row);
    ret_range->from = query->from_step > 0 ? query->from_step : 0;
    if (!query->is_descending && query->after >= ret_range->from)
        ret_range->from = query->after + 1;
    ret_range->to = smaller(query->to_step, ret_range->last_step);
    lyap_sql_idle(&bind);
    return LYAP_OK;
}

/* Where points were pruned only whole bins are left: the range grows to their bounds. */
static void widen(struct range *range)
{
    const int64_t mask = (INT64_C(1) << LYAP_ROLLUP_SHIFT) - 1;
    if (range->from < range->pruned_step)
        range->from &= ~mask;
    if (range->to < range->pruned_step)
        range->to |= mask;
}

static enum lyap_status find_tensor(struct lyap_rows *rows, const char *name)
{
    struct lyap_series *series = rows->series;
    struct lyap_bind bind = lyap_bind(&rows->reader->sql, LYAP_SQL_FIND_TENSOR);
    lyap_bind_int(&bind, series->run_id);
    lyap_bind_int(&bind, series->attempt);
    lyap_bind_text(&bind, name);
    const enum lyap_status status = lyap_sql_step(&bind, NULL);
    if (status != LYAP_OK)
        return status;
    series->tensor = sqlite3_column_int64(bind.stmt, 0);
    lyap_sql_idle(&bind);
    return LYAP_OK;
}

static enum lyap_status plan_bins(struct lyap_rows *rows, const struct lyap_query *query)
{
    struct range range;
    enum lyap_status status = read_range(rows, query, &range);
    if (status != LYAP_OK || range.from > range.to)
        return status;
    if (query->points > 0)
        status = choose_level(rows, &range, query->points);
    if (status != LYAP_OK)
        return status;
    if (rows->series->level > 0)
        widen(&range);
    plan(rows->series, &range);
    return LYAP_OK;
}

enum lyap_status lyap_series_open(struct lyap_rows *rows, const struct lyap_query *query,
                                  const struct lyap_query_target *target)
{
    if (query->metric_count == 0 || query->metric_count > LYAP_SERIES_METRICS_MAX)
        return LYAP_E_LIMIT;
    if (query->points > 0 && query->is_descending)
        return LYAP_E_INVALID; /* bins come in ascending order alone */
    struct lyap_series *series = lyap_alloc_array(1, sizeof *series);
    if (!series)
        return LYAP_E_NOMEM;
    rows->series = series;
    series->run_id = target->run_id;
    series->attempt = target->attempt;
    series->count = query->metric_count;
    series->is_tensor = query->tensor != NULL;
    series->is_descending = query->is_descending;
    series->after = lyap_query_after(query);
    series->limit = lyap_query_limit(query);
    for (uint32_t i = 0; i < series->count; i++)
        series->columns[i] =
            series->is_tensor ? (int)query->tensor_metrics[i] : (int)query->metrics[i];
    if (series->is_tensor) {
        const enum lyap_status status = find_tensor(rows, query->tensor);
        if (status != LYAP_OK)
            return status;
    }
    return plan_bins(rows, query);
}

/* ---- rows ---- */

static void open_points(struct lyap_rows *rows, const struct segment *segment)
{
    const struct lyap_series *series = rows->series;
    const int id = (series->is_tensor ? LYAP_SQL_SERIES_TENSOR : LYAP_SQL_SERIES_POINTS) +
                   series->is_descending;
    rows->bind = lyap_bind(&rows->reader->sql, (enum lyap_sql_id)id);
    lyap_bind_int(&rows->bind, series->after);
    lyap_bind_int(&rows->bind, -1);
    lyap_bind_int(&rows->bind, series->run_id);
    lyap_bind_int(&rows->bind, series->attempt);
    lyap_bind_int(&rows->bind, segment->first);
    lyap_bind_int(&rows->bind, segment->last);
    if (series->is_tensor)
        lyap_bind_int(&rows->bind, series->tensor);
}

static void open_segment(struct lyap_rows *rows)
{
    struct lyap_series *series = rows->series;
    const struct segment *segment = &series->segments[series->segment];
    if (segment->level == 0) {
        open_points(rows, segment);
        return;
    }
    rows->bind = lyap_bind(&rows->reader->sql, LYAP_SQL_SERIES_ROLLUPS);
    lyap_bind_int(&rows->bind, series->run_id);
    lyap_bind_int(&rows->bind, series->attempt);
    lyap_bind_int(&rows->bind, segment->level);
    lyap_bind_int(&rows->bind, segment->first);
    lyap_bind_int(&rows->bind, segment->last);
}

static void read_stats(const struct lyap_series *series, sqlite3_stmt *stmt, int level,
                       struct lyap_stat ret_stats[LYAP_SERIES_METRICS_MAX])
{
    bool is_nan[LYAP_METRIC_COUNT];
    if (level == 0)
        lyap_nans_read((const char *)sqlite3_column_text(stmt, FIRST_METRIC_COLUMN - 1), is_nan);
    for (uint32_t i = 0; i < series->count; i++) {
        const int metric = series->columns[i];
        ret_stats[i] = (struct lyap_stat)LYAP_STAT_NULL;
        if (level > 0) {
            lyap_stat_read(stmt, FIRST_METRIC_COLUMN + metric * LYAP_ROLLUP_COLUMNS, &ret_stats[i]);
            continue;
        }
        struct lyap_row row = { .stmt = stmt, .column = FIRST_METRIC_COLUMN + metric };
        lyap_stat_add(&ret_stats[i], lyap_row_double(&row), !series->is_tensor && is_nan[metric]);
    }
}

/* Adds the row that stands to the open bin; true when it begins a new one: then the bin before, if
 * any, is finished. */
static bool add_row(struct lyap_series *series, sqlite3_stmt *stmt)
{
    struct lyap_stat stats[LYAP_SERIES_METRICS_MAX];
    const int64_t number = lyap_rollup_bin(sqlite3_column_int64(stmt, 0), series->level);
    const bool is_same = series->bin.is_open && series->bin.number == number;
    read_stats(series, stmt, series->segments[series->segment].level, stats);
    if (!is_same)
        series->finished = series->bin;
    for (uint32_t i = 0; i < series->count; i++) {
        if (is_same)
            lyap_stat_merge(&series->bin.stats[i], &stats[i]);
        else
            series->bin.stats[i] = stats[i];
    }
    series->bin.is_open = true;
    series->bin.number = number;
    series->bin.last_step = sqlite3_column_int64(stmt, 1);
    series->bin.is_event_only = series->level == 0 && sqlite3_column_int(stmt, EVENT_COLUMN) != 0;
    return !is_same && series->finished.is_open;
}

static uint32_t resolution(int level)
{
    const int bits = LYAP_ROLLUP_SHIFT * level;
    return bits < 32 ? UINT32_C(1) << bits : UINT32_MAX;
}

/* A NaN is never hidden by a later value of its bin: `last` is NaN then; min and max are those of
 * the other values. */
static void emit(struct lyap_series *series, const struct bin *bin, struct lyap_record *ret_record)
{
    for (uint32_t i = 0; i < series->count; i++) {
        const struct lyap_stat *stat = &bin->stats[i];
        series->is_nan[i] = stat->nans > 0;
        series->last[i] = stat->nans > 0 ? NAN : stat->last;
        series->min[i] = stat->min;
        series->max[i] = stat->max;
    }
    ret_record->table = LYAP_TABLE_SERIES;
    ret_record->key = bin->last_step;
    ret_record->u.series = (struct lyap_series_row){
        .step = bin->last_step,
        .resolution = resolution(series->level),
        .count = series->count,
        .is_event_only = bin->is_event_only,
        .last = series->last,
        .min = series->min,
        .max = series->max,
        .is_nan = series->is_nan,
    };
}

/* The next finished bin; E_NOT_FOUND: the rows are over and the last bin was finished before. */
static enum lyap_status next_bin(struct lyap_rows *rows, const struct bin **ret_bin)
{
    struct lyap_series *series = rows->series;
    for (;;) {
        if (!rows->bind.stmt && series->segment == series->segment_count) {
            *ret_bin = &series->finished;
            series->finished = series->bin;
            series->bin.is_open = false;
            return series->finished.is_open ? LYAP_OK : LYAP_E_NOT_FOUND;
        }
        if (!rows->bind.stmt)
            open_segment(rows);
        const enum lyap_status status = lyap_sql_step(&rows->bind, NULL);
        if (status == LYAP_OK && add_row(series, rows->bind.stmt)) {
            *ret_bin = &series->finished;
            return LYAP_OK;
        }
        if (status != LYAP_OK)
            rows->bind.stmt = NULL; /* idle */
        if (status == LYAP_E_NOT_FOUND)
            series->segment++;
        else if (status != LYAP_OK)
            return status;
    }
}

enum lyap_status lyap_series_next(struct lyap_rows *rows, struct lyap_record *ret_record)
{
    struct lyap_series *series = rows->series;
    const struct bin *bin = NULL;
    if (series->limit == 0)
        return LYAP_E_NOT_FOUND;
    const enum lyap_status status = next_bin(rows, &bin);
    if (status != LYAP_OK)
        return status;
    if (series->limit > 0)
        series->limit--;
    emit(series, bin, ret_record);
    return LYAP_OK;
}
