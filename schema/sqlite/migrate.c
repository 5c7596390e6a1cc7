/* Migrations by user_version. */
#include "migrate.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "sql.h"

enum { APPLICATION_ID = 0x6c796170 }; /* "lyap" */

static enum lyap_status read_int(sqlite3 *db, const char *text, int64_t *ret_value,
                                 struct lyap_error *reterr)
{
    sqlite3_stmt *stmt = NULL;
    enum lyap_status status = LYAP_OK;
    int rc = sqlite3_prepare_v2(db, text, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *ret_value = sqlite3_column_int64(stmt, 0);
    else
        status = lyap_sql_fail(db, rc, reterr);
    sqlite3_finalize(stmt);
    return status;
}

static enum lyap_status read_version(sqlite3 *db, int64_t *ret_version, struct lyap_error *reterr)
{
    return read_int(db, "PRAGMA user_version", ret_version, reterr);
}

enum lyap_status lyap_migrate_check(sqlite3 *db, struct lyap_error *reterr)
{
    int64_t version = 0, application = 0, objects = 0;
    enum lyap_status status = read_version(db, &version, reterr);
    if (status == LYAP_OK)
        status = read_int(db, "PRAGMA application_id", &application, reterr);
    if (status == LYAP_OK)
        status = read_int(db, "SELECT count(*) FROM sqlite_schema", &objects, reterr);
    if (status != LYAP_OK)
        return status;

    if (application != APPLICATION_ID && (objects > 0 || version > 0))
        return lyap_error_set(reterr, LYAP_E_FORMAT, "it is another program's database");
    if (version > lyap_migration_count)
        return lyap_error_set(reterr, LYAP_E_NEWER,
                              "its version is %lld, this lyapd knows versions up to %d",
                              (long long)version, lyap_migration_count);
    if (version < 0)
        return lyap_error_set(reterr, LYAP_E_FORMAT, "its version is %lld", (long long)version);
    return LYAP_OK;
}

static enum lyap_status execute(sqlite3 *db, const char *text, struct lyap_error *reterr)
{
    const int rc = sqlite3_exec(db, text, NULL, NULL, NULL);
    return rc == SQLITE_OK ? LYAP_OK : lyap_sql_fail(db, rc, reterr);
}

/* The step sets user_version itself, so that it rolls back with the rest. */
static enum lyap_status migrate_to(sqlite3 *db, int version, struct lyap_error *reterr)
{
    int64_t reached = 0;
    enum lyap_status status = execute(db, "BEGIN IMMEDIATE", reterr);
    if (status == LYAP_OK)
        status = execute(db, lyap_migrations[version - 1], reterr);
    if (status == LYAP_OK)
        status = read_version(db, &reached, reterr);
    if (status == LYAP_OK) {
        assert(reached == version);
        status = execute(db, "COMMIT", reterr);
    }
    if (status != LYAP_OK && !sqlite3_get_autocommit(db))
        (void)execute(db, "ROLLBACK", NULL);
    return status;
}

enum lyap_status lyap_migrate(sqlite3 *db, struct lyap_error *reterr)
{
    int64_t version = 0;
    enum lyap_status status = read_version(db, &version, reterr);
    for (int next = (int)version + 1; status == LYAP_OK && next <= lyap_migration_count; next++)
        status = migrate_to(db, next, reterr);
    return status;
}
