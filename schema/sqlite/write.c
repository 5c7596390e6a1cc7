/* Batches: begin, commit, rollback. */
#include "writer.h"

#include <assert.h>
#include <string.h>

enum lyap_status lyap_writer_begin(struct lyap_store *store)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(!writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_BEGIN);
    const enum lyap_status status = lyap_sql_run(&bind, lyap_writer_call(writer));
    writer->is_batch_open = status == LYAP_OK;
    return status;
}

enum lyap_status lyap_writer_commit(struct lyap_store *store)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    assert(writer->is_batch_open);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_COMMIT);
    const enum lyap_status status = lyap_sql_run(&bind, lyap_writer_call(writer));
    atomic_store(&writer->is_writable, status == LYAP_OK);
    if (status == LYAP_OK) {
        writer->is_batch_open = false;
        lyap_rollups_committed(&writer->rollups);
    }
    return status;
}

/* Also after a failure that made SQLite roll back on its own (full disk, I/O error). */
void lyap_writer_rollback(struct lyap_store *store)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    if (!sqlite3_get_autocommit(writer->sql.db)) {
        struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_ROLLBACK);
        /* The text of the failure that led here is kept: the first error wins. */
        (void)!lyap_sql_run(&bind, &writer->error);
    }
    if (writer->error.status == LYAP_E_DISK_FULL || writer->error.status == LYAP_E_IO)
        atomic_store(&writer->is_writable, false);
    writer->is_batch_open = false;
    lyap_rollups_rolled_back(&writer->rollups);
    memset(writer->interned, 0, sizeof writer->interned);
}
