/* Old points go, their roll-ups stay; rows of deleted runs go. A bounded number of rows a call. */
#include <assert.h>
#include <stdint.h>

#include "writer.h"

enum {
    PRUNE_STEPS_MAX = 512,  /* per call; with 64 tensor rows each about 50 ms */
    VACUUM_PAGES_MIN = 1024 /* free pages are used again: only many are given back */
};

struct target {
    int64_t run_id;
    uint32_t attempt;
};

/* What to delete of one attempt: points below `cut`; the oldest that then remains. */
struct cut {
    int64_t step;      /* below it */
    int64_t oldest_ns; /* -1: nothing that can be pruned remains */
    bool is_empty;
};

static enum lyap_status run_with_id(struct lyap_writer *writer, enum lyap_sql_id id, int64_t run_id,
                                    int64_t *ret_changes)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, id);
    lyap_bind_int(&bind, run_id);
    const enum lyap_status status = lyap_sql_run(&bind, &writer->error);
    if (status == LYAP_OK)
        *ret_changes = sqlite3_changes(writer->sql.db);
    return status;
}

/* One table of one deleted run. */
static enum lyap_status purge(struct lyap_writer *writer, bool *ret_more)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_DELETED_RUN);
    enum lyap_status status = lyap_sql_step(&bind, &writer->error);
    if (status != LYAP_OK)
        return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
    const int64_t run_id = sqlite3_column_int64(bind.stmt, 0);
    lyap_sql_idle(&bind);
    *ret_more = true;
    int64_t changes = 0;
    for (int id = LYAP_SQL_PURGE_TENSOR_POINTS; id <= LYAP_SQL_PURGE_RUN; id++) {
        status = run_with_id(writer, (enum lyap_sql_id)id, run_id, &changes);
        if (status != LYAP_OK || changes > 0)
            return status;
    }
    return LYAP_OK;
}

static enum lyap_status find_oldest(struct lyap_writer *writer, int64_t before_ns,
                                    struct target *ret_target)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_OLDEST_ATTEMPT);
    lyap_bind_int(&bind, before_ns);
    const enum lyap_status status = lyap_sql_step(&bind, &writer->error);
    if (status != LYAP_OK)
        return status;
    struct lyap_row row = { .stmt = bind.stmt };
    ret_target->run_id = lyap_row_int(&row);
    ret_target->attempt = (uint32_t)lyap_row_int(&row);
    lyap_sql_idle(&bind);
    return LYAP_OK;
}

static enum lyap_status last_step(struct lyap_writer *writer, const struct target *target,
                                  int64_t *ret_step)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_ATTEMPT_STEPS);
    lyap_bind_int(&bind, target->run_id);
    lyap_bind_int(&bind, target->attempt);
    const enum lyap_status status = lyap_sql_step(&bind, &writer->error);
    if (status != LYAP_OK)
        return status;
    struct lyap_row row = { .stmt = bind.stmt };
    *ret_step = lyap_row_step(&row);
    lyap_sql_idle(&bind);
    return LYAP_OK;
}

static int64_t first_of_bin(int64_t step)
{
    return lyap_rollup_bin(step, 1) << LYAP_ROLLUP_SHIFT;
}

/* The points of the open bin of level 1 stay: the end of the series is read from them. Bins that
 * lie before are closed, so that nothing is lost from the roll-ups; whole bins alone are taken. */
static enum lyap_status find_cut(struct lyap_writer *writer, const struct target *target,
                                 int64_t before_ns, struct cut *ret_cut)
{
    int64_t last = -1;
    enum lyap_status status = last_step(writer, target, &last);
    if (status != LYAP_OK)
        return status;
    const int64_t open_step = last < 0 ? 0 : first_of_bin(last);
    struct cut cut = { .step = 0, .oldest_ns = -1, .is_empty = true };
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PRUNABLE_POINTS);
    lyap_bind_int(&bind, target->run_id);
    lyap_bind_int(&bind, target->attempt);
    lyap_bind_int(&bind, PRUNE_STEPS_MAX + 1);
    int64_t count = 0;
    while ((status = lyap_sql_step(&bind, &writer->error)) == LYAP_OK) {
        const int64_t step = sqlite3_column_int64(bind.stmt, 0);
        const int64_t time_ns = sqlite3_column_int64(bind.stmt, 1);
        if (step >= open_step)
            continue; /* at most 8 */
        cut.step = first_of_bin(step);
        cut.oldest_ns = time_ns;
        if (time_ns >= before_ns || count++ == PRUNE_STEPS_MAX)
            goto found;
        cut.is_empty = false;
    }
    if (status != LYAP_E_NOT_FOUND)
        return status;
    cut.step = open_step;
    cut.oldest_ns = -1;
found:
    lyap_sql_idle(&bind);
    *ret_cut = cut;
    return LYAP_OK;
}

static enum lyap_status delete_below(struct lyap_writer *writer, enum lyap_sql_id id,
                                     const struct target *target, int64_t step)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, id);
    lyap_bind_int(&bind, target->run_id);
    lyap_bind_int(&bind, target->attempt);
    lyap_bind_int(&bind, step);
    return lyap_sql_run(&bind, &writer->error);
}

static enum lyap_status apply(struct lyap_writer *writer, const struct target *target,
                              const struct cut *cut)
{
    enum lyap_status status = LYAP_OK;
    if (!cut->is_empty) {
        status = delete_below(writer, LYAP_SQL_PRUNE_TENSOR_POINTS, target, cut->step);
        if (status == LYAP_OK)
            status = delete_below(writer, LYAP_SQL_PRUNE_POINTS, target, cut->step);
    }
    if (status != LYAP_OK)
        return status;
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_SET_PRUNED);
    lyap_bind_int(&bind, target->run_id);
    lyap_bind_int(&bind, target->attempt);
    lyap_bind_step(&bind, cut->oldest_ns);
    lyap_bind_int(&bind, cut->is_empty ? 0 : cut->step);
    status = lyap_sql_run(&bind, &writer->error);
    /* A later point makes the attempt prunable again: put_point says so once it has to rebuild. */
    if (status == LYAP_OK && cut->oldest_ns < 0)
        lyap_rollups_forget(&writer->rollups, target->run_id);
    return status;
}

/* Points of one attempt before a time; *ret_more when some were deleted. */
static enum lyap_status prune_before(struct lyap_writer *writer, int64_t before_ns, bool *ret_more)
{
    struct target target;
    struct cut cut;
    enum lyap_status status = find_oldest(writer, before_ns, &target);
    if (status != LYAP_OK)
        return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
    status = find_cut(writer, &target, before_ns, &cut);
    if (status == LYAP_OK)
        status = apply(writer, &target, &cut);
    if (status == LYAP_OK)
        *ret_more = true;
    return status;
}

struct pages {
    int64_t count, free, bytes;
};

static enum lyap_status read_pages(struct lyap_writer *writer, struct pages *ret_pages)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PAGES);
    const enum lyap_status status = lyap_sql_step(&bind, &writer->error);
    if (status != LYAP_OK)
        return status;
    struct lyap_row row = { .stmt = bind.stmt };
    ret_pages->count = lyap_row_int(&row);
    ret_pages->free = lyap_row_int(&row);
    ret_pages->bytes = lyap_row_int(&row);
    lyap_sql_idle(&bind);
    return LYAP_OK;
}

static enum lyap_status vacuum(struct lyap_writer *writer)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_VACUUM);
    enum lyap_status status;
    do
        status = lyap_sql_step(&bind, &writer->error); /* a row a page */
    while (status == LYAP_OK);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

static enum lyap_status prune_size(struct lyap_writer *writer, uint64_t bytes_max, bool *ret_more)
{
    struct pages pages;
    enum lyap_status status = read_pages(writer, &pages);
    if (status != LYAP_OK)
        return status;
    const uint64_t bytes = (uint64_t)(pages.count * pages.bytes);
    const uint64_t free_bytes = (uint64_t)(pages.free * pages.bytes);
    const bool is_large = bytes_max > 0 && bytes > bytes_max;
    if (is_large && bytes - free_bytes > bytes_max)
        status = prune_before(writer, INT64_MAX, ret_more);
    if (status == LYAP_OK && pages.free > (is_large ? 0 : VACUUM_PAGES_MIN)) {
        status = vacuum(writer);
        *ret_more = *ret_more || status == LYAP_OK;
    }
    return status;
}

enum lyap_status lyap_writer_prune(struct lyap_store *store, int64_t before_ns, uint64_t bytes_max,
                                   bool *ret_more)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    (void)lyap_writer_call(writer);
    assert(writer->is_batch_open);
    bool is_more = false;
    enum lyap_status status = purge(writer, &is_more);
    if (status == LYAP_OK && !is_more && before_ns > 0)
        status = prune_before(writer, before_ns, &is_more);
    if (status == LYAP_OK && !is_more)
        status = prune_size(writer, bytes_max, &is_more);
    if (status == LYAP_OK)
        *ret_more = is_more;
    return status;
}
