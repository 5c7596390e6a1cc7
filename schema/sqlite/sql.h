/* sql.h - one connection with its prepared statements, and how to bind, step and read them.
 * A statement is idle (reset, no bindings) between uses. THREADS: one owner at a time. */
#ifndef LYAP_STORE_SQL_H
#define LYAP_STORE_SQL_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

#include "lyap/status.h"
#include "stmt.h"

struct lyap_sql {
    sqlite3 *db;
    sqlite3_stmt *stmts[LYAP_SQL_COUNT]; /* a reader has the first LYAP_SQL_READ_COUNT */
};

/* E_DISK_FULL, E_NOMEM, E_BUSY, E_CONFLICT (constraint), E_FORMAT (not a database), else E_IO. */
enum lyap_status lyap_sql_status(sqlite3 *db, int rc);
/* lyap_sql_status, with SQLite's text in reterr. */
enum lyap_status lyap_sql_fail(sqlite3 *db, int rc, struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status lyap_sql_prepare(struct lyap_sql *sql, int count,
                                                  struct lyap_error *reterr);
/* Finalizes the statements and closes; accepts a half-opened connection. */
void lyap_sql_close(struct lyap_sql *sql);

/* Binds in order, from ?1; the first failure sticks and lyap_sql_run reports it. Texts and blobs
 * are borrowed until the statement is idle again. */
struct lyap_bind {
    struct lyap_sql *sql;
    sqlite3_stmt *stmt;
    int column, rc;
};
struct lyap_bind lyap_bind(struct lyap_sql *sql, enum lyap_sql_id id);
void lyap_bind_int(struct lyap_bind *bind, int64_t value);
/* Negative: NULL. */
void lyap_bind_step(struct lyap_bind *bind, int64_t step);
/* Of ids and times 0 means none: NULL. */
void lyap_bind_nonzero(struct lyap_bind *bind, int64_t value);
/* NaN: NULL. */
void lyap_bind_double(struct lyap_bind *bind, double value);
/* NULL: NULL. */
void lyap_bind_text(struct lyap_bind *bind, const char *text);
/* As lyap_bind_text, but the text may go at once. */
void lyap_bind_copy(struct lyap_bind *bind, const char *text);
void lyap_bind_blob(struct lyap_bind *bind, const void *bytes, uint64_t length);
void lyap_bind_null(struct lyap_bind *bind);

/* Steps a statement without rows to its end. The statement is idle afterwards. */
LYAP_MUST_CHECK enum lyap_status lyap_sql_run(struct lyap_bind *bind, struct lyap_error *reterr);
/* OK: a row stands in bind->stmt; E_NOT_FOUND: no (further) row. Unless OK the statement is idle.
 */
LYAP_MUST_CHECK enum lyap_status lyap_sql_step(struct lyap_bind *bind, struct lyap_error *reterr);
void lyap_sql_idle(struct lyap_bind *bind);

/* Reads the columns of a row in order. */
struct lyap_row {
    sqlite3_stmt *stmt;
    int column;
};
int64_t lyap_row_int(struct lyap_row *row);
/* NULL: -1. */
int64_t lyap_row_step(struct lyap_row *row);
/* NULL: NaN. */
double lyap_row_double(struct lyap_row *row);
/* Borrowed until the statement steps; NULL: NULL. */
const char *lyap_row_text(struct lyap_row *row);
/* Copied and cut to `bytes`, terminated; NULL: empty. */
void lyap_row_copy(struct lyap_row *row, char *ret_text, size_t bytes);
/* Copies a blob, returns its length; NULL, or longer than `bytes`: 0. */
size_t lyap_row_bytes(struct lyap_row *row, unsigned char *ret_bytes, size_t bytes);

#endif
