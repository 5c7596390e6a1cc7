/* Points with their annotations, tensor rows and roll-ups. */
#include "writer.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* FNV-1a over run and marks, for a slot of the table of interned annotations. */
static uint32_t slot_of(int64_t run_id, const struct lyap_marks *marks)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325) ^ (uint64_t)run_id;
    const uint8_t *bytes = (const uint8_t *)marks;
    for (size_t i = 0; i < sizeof *marks; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001B3);
    return (uint32_t)(hash >> 32) % LYAP_INTERN_SLOTS;
}

static enum lyap_status find_or_put(struct lyap_sql *sql, int64_t run_id, const char *text,
                                    int64_t *ret_id, struct lyap_error *reterr)
{
    struct lyap_bind find = lyap_bind(sql, LYAP_SQL_FIND_ANNOTATION);
    lyap_bind_int(&find, run_id);
    lyap_bind_text(&find, text);
    enum lyap_status status = lyap_sql_step(&find, reterr);
    if (status == LYAP_OK) {
        *ret_id = sqlite3_column_int64(find.stmt, 0);
        lyap_sql_idle(&find);
        return LYAP_OK;
    }
    if (status != LYAP_E_NOT_FOUND)
        return status;
    struct lyap_bind put = lyap_bind(sql, LYAP_SQL_PUT_ANNOTATION);
    lyap_bind_int(&put, run_id);
    lyap_bind_text(&put, text);
    status = lyap_sql_run(&put, reterr);
    if (status == LYAP_OK)
        *ret_id = sqlite3_last_insert_rowid(sql->db);
    return status;
}

/* *ret_id -1: the point needs none. */
static enum lyap_status intern(struct lyap_writer *writer, int64_t run_id,
                               const struct lyap_point *point, int64_t *ret_id)
{
    struct lyap_marks marks;
    lyap_marks_of(point, &marks);
    struct lyap_interned *slot = &writer->interned[slot_of(run_id, &marks)];
    if (slot->run_id == run_id && memcmp(&slot->marks, &marks, sizeof marks) == 0) {
        *ret_id = slot->id;
        return LYAP_OK;
    }

    char text[LYAP_ANNOTATION_BYTES];
    lyap_marks_write(&marks, text);
    int64_t id = -1;
    if (text[0]) {
        const enum lyap_status status =
            find_or_put(&writer->sql, run_id, text, &id, &writer->error);
        if (status != LYAP_OK)
            return status;
    }
    *slot = (struct lyap_interned){ .run_id = run_id, .id = id, .marks = marks };
    *ret_id = id;
    return LYAP_OK;
}

/* The words of the slots up to the last that has a value; NULL: none has. */
static const char *twin_words(const struct lyap_point *point,
                              char ret_text[LYAP_TWIN_COUNT_MAX * (LYAP_TWIN_NAME_BYTES_MAX + 1)])
{
    size_t length = 0, end = 0;
    for (unsigned i = 0; i < LYAP_TWIN_COUNT_MAX; i++) {
        const size_t bytes = strlen(point->twin_names[i]);
        if (i > 0)
            ret_text[length++] = ',';
        memcpy(ret_text + length, point->twin_names[i], bytes);
        length += bytes;
        if (bytes > 0)
            end = length;
    }
    ret_text[end] = '\0';
    return end > 0 ? ret_text : NULL;
}

static enum lyap_status put_row(struct lyap_writer *writer, int64_t run_id,
                                const struct lyap_point *point, int64_t annotation)
{
    char nans[LYAP_ANNOTATION_BYTES];
    char twins[LYAP_TWIN_COUNT_MAX * (LYAP_TWIN_NAME_BYTES_MAX + 1)];
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PUT_POINT);
    lyap_bind_int(&bind, run_id);
    lyap_bind_int(&bind, point->attempt);
    lyap_bind_int(&bind, point->step);
    lyap_bind_int(&bind, point->time_ns);
    lyap_bind_text(&bind, lyap_run_state_name(point->state));
    lyap_bind_text(&bind, lyap_verdict_name(point->verdict));
    lyap_bind_action(&bind, &point->action);
    lyap_bind_int(&bind, point->is_event_only);
    lyap_bind_int(&bind, point->is_gap);
    lyap_bind_text(&bind, point->labels_json);
    lyap_bind_text(&bind, twin_words(point, twins));
    lyap_bind_step(&bind, annotation);
    lyap_bind_text(&bind, lyap_nans_write(point, nans) ? nans : NULL);
    lyap_bind_blob(&bind, point->parts_bytes ? point->parts : NULL, point->parts_bytes);
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        lyap_bind_double(&bind, point->metrics[i].value);
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        lyap_bind_double(&bind, point->metrics[i].error);
    return lyap_sql_run(&bind, &writer->error);
}

static enum lyap_status put_tensor_row(struct lyap_writer *writer, int64_t run_id,
                                       const struct lyap_point *point,
                                       const struct lyap_tensor_row *row)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PUT_TENSOR_POINT);
    lyap_bind_int(&bind, run_id);
    lyap_bind_int(&bind, point->attempt);
    lyap_bind_int(&bind, point->step);
    lyap_bind_int(&bind, row->tensor);
    for (unsigned i = 0; i < LYAP_TENSOR_METRIC_COUNT; i++)
        lyap_bind_double(&bind, row->values[i]);
    return lyap_sql_run(&bind, &writer->error);
}

/* Lets prune find the attempt by age: once per attempt, and after prune took its last point. */
static enum lyap_status set_oldest(struct lyap_writer *writer, int64_t run_id,
                                   const struct lyap_point *point)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_SET_OLDEST);
    lyap_bind_int(&bind, run_id);
    lyap_bind_int(&bind, point->attempt);
    lyap_bind_int(&bind, point->time_ns);
    return lyap_sql_run(&bind, &writer->error);
}

enum lyap_status lyap_writer_put_point(struct lyap_store *store, int64_t run_id,
                                       const struct lyap_point *point,
                                       const struct lyap_tensor_row *rows, uint32_t row_count)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open && point->step >= 0);
    struct lyap_rollup *rollup = NULL;
    bool is_new = false;
    int64_t annotation = -1;
    enum lyap_status status = lyap_rollups_get(&writer->rollups, &writer->sql, run_id,
                                               point->attempt, &rollup, &is_new, reterr);
    if (status != LYAP_OK)
        return status;
    if (point->step <= rollup->last_step)
        return lyap_error_set(reterr, LYAP_E_STEP_ORDER,
                              "step %" PRId64 " is not above the last, %" PRId64, point->step,
                              rollup->last_step);
    status = intern(writer, run_id, point, &annotation);
    if (status == LYAP_OK)
        status = put_row(writer, run_id, point, annotation);
    if (status == LYAP_E_CONFLICT) /* a foreign key: steps were checked above */
        status = LYAP_E_NOT_FOUND;
    for (uint32_t i = 0; status == LYAP_OK && i < row_count; i++)
        status = put_tensor_row(writer, run_id, point, &rows[i]);
    if (status == LYAP_OK && is_new)
        status = set_oldest(writer, run_id, point);
    if (status == LYAP_OK)
        status = lyap_rollup_add(rollup, &writer->sql, point, reterr);
    return status;
}
