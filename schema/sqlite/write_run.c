/* Runs, attempts, tensors and profiles. */
#include "writer.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "words.h"

/* A sqlite constraint that the header names: E_CONFLICT becomes what the caller expects. */
static enum lyap_status constraint_means(enum lyap_status status, enum lyap_status meaning)
{
    return status == LYAP_E_CONFLICT ? meaning : status;
}

void lyap_bind_action(struct lyap_bind *bind, const struct lyap_action *action)
{
    const bool has_step = action->kind == LYAP_ACTION_SKIP || action->kind == LYAP_ACTION_ROLLBACK;
    lyap_bind_text(bind, lyap_action_name(action->kind));
    lyap_bind_double(bind, action->lr);
    lyap_bind_text(bind, action->reason[0] ? action->reason : NULL);
    lyap_bind_step(bind, has_step ? action->step : -1);
}

enum lyap_status lyap_writer_put_run(struct lyap_store *store, struct lyap_run_record *run)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open && lyap_run_name_is_valid(run->name));
    const bool is_new = run->id == 0;
    struct lyap_bind bind =
        lyap_bind(&writer->sql, is_new ? LYAP_SQL_INSERT_RUN : LYAP_SQL_UPDATE_RUN);
    lyap_bind_text(&bind, run->name);
    lyap_bind_int(&bind, run->created_ns);
    lyap_bind_int(&bind, run->updated_ns);
    lyap_bind_int(&bind, run->attempt);
    lyap_bind_text(&bind, lyap_run_state_name(run->state));
    lyap_bind_text(&bind, lyap_verdict_name(run->verdict));
    lyap_bind_action(&bind, &run->action);
    lyap_bind_int(&bind, run->rollbacks);
    lyap_bind_text(&bind, lyap_retention_word(run->retention));
    lyap_bind_int(&bind, (int64_t)run->sketch_seed);
    lyap_bind_step(&bind, run->last_step);
    lyap_bind_text(&bind, run->declaration_json ? run->declaration_json : "{}");
    lyap_bind_text(&bind, run->labels_json ? run->labels_json : "{}");
    if (!is_new)
        lyap_bind_int(&bind, run->id);
    enum lyap_status status = constraint_means(lyap_sql_run(&bind, reterr), LYAP_E_EXISTS);
    if (status != LYAP_OK)
        return status;
    if (is_new)
        run->id = sqlite3_last_insert_rowid(writer->sql.db);
    else if (sqlite3_changes(writer->sql.db) == 0)
        status = lyap_error_set(reterr, LYAP_E_NOT_FOUND, "run id %" PRId64, run->id);
    return status;
}

/* Its rows may be many: they go with prune, a bounded number at a time. */
enum lyap_status lyap_writer_delete_run(struct lyap_store *store, int64_t run_id)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_DELETE_RUN);
    lyap_bind_int(&bind, run_id);
    const enum lyap_status status = lyap_sql_run(&bind, reterr);
    if (status != LYAP_OK)
        return status;
    if (sqlite3_changes(writer->sql.db) == 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "run id %" PRId64, run_id);
    lyap_rollups_forget(&writer->rollups, run_id);
    return LYAP_OK;
}

enum lyap_status lyap_writer_put_attempt(struct lyap_store *store,
                                         const struct lyap_attempt_record *attempt)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PUT_ATTEMPT);
    lyap_bind_int(&bind, attempt->run_id);
    lyap_bind_int(&bind, attempt->attempt);
    lyap_bind_text(&bind, attempt->key);
    lyap_bind_int(&bind, attempt->started_ns);
    lyap_bind_step(&bind, attempt->ended_ns == 0 ? -1 : attempt->ended_ns);
    lyap_bind_step(&bind, attempt->first_step);
    lyap_bind_step(&bind, attempt->last_step);
    lyap_bind_double(&bind, attempt->reference_loss);
    lyap_bind_double(&bind, attempt->healthy_lr);
    return constraint_means(lyap_sql_run(&bind, lyap_writer_call(writer)), LYAP_E_NOT_FOUND);
}

/* ---- tensors ---- */

enum { SHAPE_BYTES = 2 + LYAP_TENSOR_RANK_MAX * 21 };

static void shape_write(const struct lyap_tensor *tensor, char ret_text[SHAPE_BYTES])
{
    int length = snprintf(ret_text, SHAPE_BYTES, "[");
    for (uint32_t i = 0; i < tensor->rank; i++)
        length += snprintf(ret_text + length, (size_t)(SHAPE_BYTES - length),
                           i ? ",%" PRIu64 : "%" PRIu64, tensor->shape[i]);
    (void)snprintf(ret_text + length, (size_t)(SHAPE_BYTES - length), "]");
}

/* "[2,3]"; false when the text is none of ours. */
static bool shape_read(const char *text, struct lyap_tensor *tensor)
{
    if (!text || *text++ != '[')
        return false;
    while (*text != ']') {
        char *end = NULL;
        errno = 0;
        if (tensor->rank == LYAP_TENSOR_RANK_MAX)
            return false;
        tensor->shape[tensor->rank++] = strtoull(text, &end, 10);
        if (errno != 0 || end == text || (*end != ',' && *end != ']'))
            return false;
        text = *end == ',' ? end + 1 : end;
    }
    return true;
}

enum lyap_status lyap_writer_put_tensors(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                         const struct lyap_tensor_set *set)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open);
    for (uint32_t i = 0; i < set->count; i++) {
        char shape[SHAPE_BYTES];
        shape_write(&set->tensors[i], shape);
        struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PUT_TENSOR);
        lyap_bind_int(&bind, run_id);
        lyap_bind_int(&bind, attempt);
        lyap_bind_int(&bind, i);
        lyap_bind_text(&bind, set->tensors[i].name);
        lyap_bind_text(&bind, shape);
        const enum lyap_status status = lyap_sql_run(&bind, reterr);
        if (status != LYAP_OK)
            return status;
    }
    return LYAP_OK;
}

static enum lyap_status read_tensor(struct lyap_row *row, struct lyap_tensor *ret_tensor,
                                    struct lyap_error *reterr)
{
    const char *name = lyap_row_text(row);
    if (!name || !shape_read(lyap_row_text(row), ret_tensor))
        return lyap_error_set(reterr, LYAP_E_IO, "tensor %s: its shape is not a list of sizes",
                              name ? name : "without name");
    ret_tensor->name = lyap_alloc_string(name);
    return ret_tensor->name ? LYAP_OK : lyap_error_set(reterr, LYAP_E_NOMEM, "tensor %s", name);
}

static void free_tensors(struct lyap_tensor *tensors, uint32_t count)
{
    for (uint32_t i = 0; tensors && i < count; i++)
        lyap_free(tensors[i].name);
    lyap_free(tensors);
}

enum lyap_status lyap_writer_get_tensors(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                         struct lyap_tensor_set *ret_set)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    struct lyap_tensor *tensors = NULL;
    uint32_t count = 0, expected = 0;
    enum lyap_status status;
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_TENSOR_SET);
    lyap_bind_int(&bind, run_id);
    lyap_bind_int(&bind, attempt);
    while ((status = lyap_sql_step(&bind, reterr)) == LYAP_OK) {
        struct lyap_row row = { .stmt = bind.stmt };
        if (!tensors) {
            expected = (uint32_t)sqlite3_column_int64(bind.stmt, 2);
            tensors = lyap_alloc_array(expected, sizeof *tensors);
        }
        status = tensors ? read_tensor(&row, &tensors[count], reterr)
                         : lyap_error_set(reterr, LYAP_E_NOMEM, "%u tensors", expected);
        if (status != LYAP_OK) {
            lyap_sql_idle(&bind);
            break;
        }
        count++;
    }
    if (status != LYAP_E_NOT_FOUND) {
        free_tensors(tensors, expected);
        return status;
    }
    if (count == 0) {
        *ret_set = (struct lyap_tensor_set)LYAP_TENSOR_SET_NULL;
        return LYAP_OK;
    }
    return lyap_tensor_set_build(tensors, count, ret_set, reterr);
}

/* ---- profiles ---- */

enum lyap_status lyap_writer_put_profile(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                         int64_t step, const void *bytes, uint64_t length)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(writer->is_batch_open);
    struct lyap_bind bind =
        lyap_bind(&writer->sql, bytes ? LYAP_SQL_PUT_PROFILE : LYAP_SQL_DELETE_PROFILE);
    lyap_bind_int(&bind, run_id);
    lyap_bind_int(&bind, attempt);
    if (bytes) {
        lyap_bind_int(&bind, step);
        lyap_bind_blob(&bind, bytes, length);
    }
    return constraint_means(lyap_sql_run(&bind, lyap_writer_call(writer)), LYAP_E_NOT_FOUND);
}

enum lyap_status lyap_writer_get_profile(struct lyap_store *store, int64_t run_id, uint32_t attempt,
                                         int64_t *ret_step, void **ret_bytes, uint64_t *ret_length)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PROFILE);
    lyap_bind_int(&bind, run_id);
    lyap_bind_int(&bind, attempt);
    enum lyap_status status = lyap_sql_step(&bind, reterr);
    if (status != LYAP_OK)
        return status;

    const void *stored = sqlite3_column_blob(bind.stmt, 1);
    const size_t length = (size_t)sqlite3_column_bytes(bind.stmt, 1);
    void *bytes = lyap_alloc_array(length, 1);
    if (bytes && stored) {
        memcpy(bytes, stored, length);
        *ret_step = sqlite3_column_int64(bind.stmt, 0);
        *ret_bytes = bytes;
        *ret_length = length;
    } else if (bytes && length == 0) {
        *ret_step = sqlite3_column_int64(bind.stmt, 0);
        *ret_bytes = bytes;
        *ret_length = 0;
    } else {
        lyap_free(bytes);
        status = lyap_error_set(reterr, LYAP_E_NOMEM, "profile of %zu bytes", length);
    }
    lyap_sql_idle(&bind);
    return status;
}
