/* migrate.h - the embedded migrations and the version of a database (PRAGMA user_version).
 * THREADS: one owner of the connection. */
#ifndef LYAP_STORE_MIGRATE_H
#define LYAP_STORE_MIGRATE_H

#include <sqlite3.h>

#include "lyap/status.h"

extern const char *const lyap_migrations[]; /* [i] leads to version i + 1; from schema/migrations */
extern const int lyap_migration_count;

/* Reads only. OK: empty or a database of ours that this version can use; E_NEWER; E_FORMAT: not
 * ours. */
LYAP_MUST_CHECK enum lyap_status lyap_migrate_check(sqlite3 *db, struct lyap_error *reterr);
/* Brings the database to the newest version, one transaction per step. */
LYAP_MUST_CHECK enum lyap_status lyap_migrate(sqlite3 *db, struct lyap_error *reterr);

#endif
