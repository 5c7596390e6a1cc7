/* Opening and closing a store on SQLite. */
#include <assert.h>
#include <math.h>
#include <unistd.h>

#include "lyap/alloc.h"
#include "migrate.h"
#include "place.h"
#include "writer.h"

/* Of the writer. Before the first table: auto_vacuum. WAL: readers do not wait. FULL: a commit is
 * on the disk. secure_delete (on in Debian) would write zeros over what prune deletes. The
 * checkpoint comes every 16 MiB of WAL, so that pages that many batches change are copied once; the
 * WAL file shrinks to 64 MiB after a reader had held it long. */
static const char settings[] = "PRAGMA auto_vacuum = INCREMENTAL;"
                               "PRAGMA journal_mode = WAL;"
                               "PRAGMA synchronous = FULL;"
                               "PRAGMA foreign_keys = ON;"
                               "PRAGMA secure_delete = OFF;"
                               "PRAGMA wal_autocheckpoint = 4000;"
                               "PRAGMA journal_size_limit = 67108864;"
                               "PRAGMA cache_size = -32768;";

static bool is_writable(struct lyap_store *store)
{
    return atomic_load(&lyap_writer_of(store)->is_writable);
}

static uint64_t bytes(struct lyap_store *store)
{
    const struct lyap_writer *writer = lyap_writer_of(store);
    return lyap_place_bytes(writer->path, writer->wal_path);
}

static const char *error_text(struct lyap_store *store)
{
    return lyap_error_text(&lyap_writer_of(store)->error);
}

/* Readers first: the last connection folds the WAL into the database. */
static void close_store(struct lyap_store *store)
{
    if (!store)
        return;
    struct lyap_writer *writer = lyap_writer_of(store);
    if (writer->is_batch_open)
        lyap_writer_rollback(store);
    lyap_pool_close(&writer->pool);
    lyap_sql_close(&writer->sql);
    lyap_rollups_release(&writer->rollups);
    if (writer->lock_fd >= 0)
        close(writer->lock_fd);
    lyap_free(writer->path);
    lyap_free(writer->wal_path);
    lyap_free(writer);
}

static const struct lyap_store_ops operations = {
    .close = close_store,
    .begin = lyap_writer_begin,
    .commit = lyap_writer_commit,
    .rollback = lyap_writer_rollback,
    .put_run = lyap_writer_put_run,
    .delete_run = lyap_writer_delete_run,
    .put_attempt = lyap_writer_put_attempt,
    .put_tensors = lyap_writer_put_tensors,
    .put_layers = lyap_writer_put_layers,
    .put_point = lyap_writer_put_point,
    .put_event = lyap_writer_put_event,
    .put_rule = lyap_writer_put_rule,
    .delete_rule = lyap_writer_delete_rule,
    .put_silence = lyap_writer_put_silence,
    .put_alert = lyap_writer_put_alert,
    .put_receiver = lyap_writer_put_receiver,
    .delete_receiver = lyap_writer_delete_receiver,
    .put_delivery = lyap_writer_put_delivery,
    .resolve_deliveries = lyap_writer_resolve_deliveries,
    .update_delivery = lyap_writer_update_delivery,
    .fail_deliveries = lyap_writer_fail_deliveries,
    .prune_deliveries = lyap_writer_prune_deliveries,
    .count_deliveries = lyap_writer_count_deliveries,
    .put_profile = lyap_writer_put_profile,
    .get_profile = lyap_writer_get_profile,
    .get_tensors = lyap_writer_get_tensors,
    .prune = lyap_writer_prune,
    .query = lyap_writer_query,
    .is_writable = is_writable,
    .bytes = bytes,
    .error_text = error_text,
};

/* Where WAL is impossible (no shared memory) SQLite says so only in its answer. */
static enum lyap_status check_wal(sqlite3 *db, struct lyap_error *reterr)
{
    sqlite3_stmt *stmt = NULL;
    enum lyap_status status = LYAP_OK;
    int rc = sqlite3_prepare_v2(db, "PRAGMA journal_mode", -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc != SQLITE_ROW)
        status = lyap_sql_fail(db, rc, reterr);
    else if (sqlite3_stricmp((const char *)sqlite3_column_text(stmt, 0), "wal") != 0)
        status = lyap_error_set(reterr, LYAP_E_IO, "the file system does not allow WAL");
    sqlite3_finalize(stmt);
    return status;
}

/* A newer or foreign file stays as it is: nothing is written before the check, and closing must not
 * fold its WAL either. */
static enum lyap_status open_database(struct lyap_writer *writer, uint32_t busy_timeout_ms,
                                      struct lyap_error *reterr)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int rc = sqlite3_open_v2(writer->path, &writer->sql.db, flags, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(writer->sql.db, (int)busy_timeout_ms);
    if (rc == SQLITE_OK)
        rc = sqlite3_db_config(writer->sql.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    if (rc != SQLITE_OK)
        return lyap_sql_fail(writer->sql.db, rc, reterr);
    const enum lyap_status status = lyap_migrate_check(writer->sql.db, reterr);
    if (status != LYAP_OK)
        return status;

    rc = sqlite3_db_config(writer->sql.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(writer->sql.db, settings, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return lyap_sql_fail(writer->sql.db, rc, reterr);
    return check_wal(writer->sql.db, reterr);
}

static enum lyap_status open_files(struct lyap_writer *writer,
                                   const struct lyap_store_options *options,
                                   struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    writer->path = lyap_alloc_string(options->path);
    writer->wal_path = writer->path ? lyap_place_name(options->path, "-wal") : NULL;
    if (!writer->wal_path)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "names of the database's files");
    if (!options->is_network_forced)
        status = lyap_place_check(options->path, reterr);
    if (status == LYAP_OK)
        status = lyap_place_lock(options->path, &writer->lock_fd, reterr);
    if (status == LYAP_OK)
        status = open_database(writer, options->busy_timeout_ms, reterr);
    return status;
}

enum lyap_status lyap_store_sqlite_open(const struct lyap_store_options *options,
                                        struct lyap_store **ret_store, struct lyap_error *reterr)
{
    struct lyap_writer *writer = lyap_alloc_array(1, sizeof *writer);
    if (!writer)
        return lyap_error_set(reterr, LYAP_E_NOMEM, "the store");
    writer->base.ops = &operations;
    writer->lock_fd = -1;
    atomic_init(&writer->is_writable, true);
    enum lyap_status status = open_files(writer, options, reterr);
    if (status == LYAP_OK)
        status = lyap_migrate(writer->sql.db, reterr);
    if (status == LYAP_OK)
        status = lyap_sql_prepare(&writer->sql, LYAP_SQL_COUNT, reterr);
    if (status == LYAP_OK)
        status = lyap_pool_open(&writer->pool, writer->path, options->reader_count,
                                options->busy_timeout_ms, reterr);
    if (status != LYAP_OK) {
        close_store(&writer->base);
        return status;
    }
    *ret_store = &writer->base;
    return LYAP_OK;
}
