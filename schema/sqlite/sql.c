/* SQLite calls with our statuses. */
#include "sql.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_no_space(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

static int last_errno(sqlite3_file *file)
{
    int error = 0;
    if (file && file->pMethods)
        (void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error);
    return error;
}

/* A quota or a file size limit shows as a failed write, not as SQLITE_FULL, and a failed commit
 * leaves no sqlite3_system_errno: the files themselves remember. */
static bool is_out_of_space(sqlite3 *db)
{
    sqlite3_file *files[2] = { NULL, NULL };
    if (!db || sqlite3_extended_errcode(db) != SQLITE_IOERR_WRITE)
        return false;
    (void)sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &files[0]);
    (void)sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &files[1]);
    return is_no_space(last_errno(files[0])) || is_no_space(last_errno(files[1]));
}

enum lyap_status lyap_sql_status(sqlite3 *db, int rc)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return LYAP_OK;
    case SQLITE_FULL:
        return LYAP_E_DISK_FULL;
    case SQLITE_NOMEM:
        return LYAP_E_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return LYAP_E_BUSY;
    case SQLITE_CONSTRAINT:
        return LYAP_E_CONFLICT;
    case SQLITE_NOTADB:
        return LYAP_E_FORMAT;
    case SQLITE_IOERR:
        if (rc == SQLITE_IOERR_NOMEM)
            return LYAP_E_NOMEM;
        return is_out_of_space(db) ? LYAP_E_DISK_FULL : LYAP_E_IO;
    default:
        return LYAP_E_IO;
    }
}

enum lyap_status lyap_sql_fail(sqlite3 *db, int rc, struct lyap_error *reterr)
{
    const char *detail = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
    return lyap_error_set(reterr, lyap_sql_status(db, rc), "database: %s", detail);
}

enum lyap_status lyap_sql_prepare(struct lyap_sql *sql, int count, struct lyap_error *reterr)
{
    assert(count <= LYAP_SQL_COUNT);
    for (int i = 0; i < count; i++) {
        const char *text = lyap_sql_text((enum lyap_sql_id)i);
        const int rc =
            sqlite3_prepare_v3(sql->db, text, -1, SQLITE_PREPARE_PERSISTENT, &sql->stmts[i], NULL);
        if (rc != SQLITE_OK)
            return lyap_error_set(reterr, lyap_sql_status(sql->db, rc), "statement %d: %s", i,
                                  sqlite3_errmsg(sql->db));
    }
    return LYAP_OK;
}

void lyap_sql_close(struct lyap_sql *sql)
{
    for (int i = 0; i < LYAP_SQL_COUNT; i++)
        sqlite3_finalize(sql->stmts[i]);
    const int rc = sqlite3_close(sql->db);
    assert(rc == SQLITE_OK);
    *sql = (struct lyap_sql){ 0 };
}

struct lyap_bind lyap_bind(struct lyap_sql *sql, enum lyap_sql_id id)
{
    sqlite3_stmt *stmt = sql->stmts[id];
    assert(stmt && !sqlite3_stmt_busy(stmt));
    return (struct lyap_bind){ .sql = sql, .stmt = stmt, .rc = SQLITE_OK };
}

static void bound(struct lyap_bind *bind, int rc)
{
    if (bind->rc == SQLITE_OK)
        bind->rc = rc;
}

void lyap_bind_int(struct lyap_bind *bind, int64_t value)
{
    bound(bind, sqlite3_bind_int64(bind->stmt, ++bind->column, value));
}

void lyap_bind_null(struct lyap_bind *bind)
{
    bind->column++; /* idle statements have no bindings */
}

void lyap_bind_step(struct lyap_bind *bind, int64_t step)
{
    if (step < 0)
        lyap_bind_null(bind);
    else
        lyap_bind_int(bind, step);
}

void lyap_bind_nonzero(struct lyap_bind *bind, int64_t value)
{
    lyap_bind_step(bind, value == 0 ? -1 : value);
}

void lyap_bind_double(struct lyap_bind *bind, double value)
{
    if (isnan(value))
        lyap_bind_null(bind);
    else
        bound(bind, sqlite3_bind_double(bind->stmt, ++bind->column, value));
}

void lyap_bind_text(struct lyap_bind *bind, const char *text)
{
    if (!text)
        lyap_bind_null(bind);
    else
        bound(bind, sqlite3_bind_text(bind->stmt, ++bind->column, text, -1, SQLITE_STATIC));
}

void lyap_bind_copy(struct lyap_bind *bind, const char *text)
{
    if (!text)
        lyap_bind_null(bind);
    else
        bound(bind, sqlite3_bind_text(bind->stmt, ++bind->column, text, -1, SQLITE_TRANSIENT));
}

void lyap_bind_blob(struct lyap_bind *bind, const void *bytes, uint64_t length)
{
    bound(bind, sqlite3_bind_blob64(bind->stmt, ++bind->column, bytes, length, SQLITE_STATIC));
}

void lyap_sql_idle(struct lyap_bind *bind)
{
    sqlite3_reset(bind->stmt); /* repeats the error that step returned */
    sqlite3_clear_bindings(bind->stmt);
}

enum lyap_status lyap_sql_step(struct lyap_bind *bind, struct lyap_error *reterr)
{
    int rc = bind->rc;
    if (rc == SQLITE_OK)
        rc = sqlite3_step(bind->stmt);
    if (rc == SQLITE_ROW)
        return LYAP_OK;
    enum lyap_status status = LYAP_E_NOT_FOUND;
    if (rc != SQLITE_DONE)
        status = lyap_sql_fail(bind->sql->db, rc, reterr);
    lyap_sql_idle(bind);
    return status;
}

enum lyap_status lyap_sql_run(struct lyap_bind *bind, struct lyap_error *reterr)
{
    const enum lyap_status status = lyap_sql_step(bind, reterr);
    assert(status != LYAP_OK); /* it has no rows */
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

int64_t lyap_row_int(struct lyap_row *row)
{
    return sqlite3_column_int64(row->stmt, row->column++);
}

int64_t lyap_row_step(struct lyap_row *row)
{
    const int column = row->column++;
    if (sqlite3_column_type(row->stmt, column) == SQLITE_NULL)
        return -1;
    return sqlite3_column_int64(row->stmt, column);
}

double lyap_row_double(struct lyap_row *row)
{
    const int column = row->column++;
    if (sqlite3_column_type(row->stmt, column) == SQLITE_NULL)
        return NAN;
    return sqlite3_column_double(row->stmt, column);
}

const char *lyap_row_text(struct lyap_row *row)
{
    return (const char *)sqlite3_column_text(row->stmt, row->column++);
}

void lyap_row_copy(struct lyap_row *row, char *ret_text, size_t bytes)
{
    const char *text = lyap_row_text(row);
    (void)snprintf(ret_text, bytes, "%s", text ? text : "");
}

size_t lyap_row_bytes(struct lyap_row *row, unsigned char *ret_bytes, size_t bytes)
{
    const void *blob = sqlite3_column_blob(row->stmt, row->column);
    const size_t length = (size_t)sqlite3_column_bytes(row->stmt, row->column++);
    if (!blob || length > bytes)
        return 0;
    memcpy(ret_bytes, blob, length);
    return length;
}
