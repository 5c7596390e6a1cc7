/* place.h - where a database may lie, and the lock that keeps a second lyapd away.
 * THREADS: any. */
#ifndef LYAP_STORE_PLACE_H
#define LYAP_STORE_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/status.h"

/* Name of a network (or user space) file system by the magic number of statfs(2); NULL: local. */
const char *lyap_place_network_name(uint64_t magic);
/* E_CONFLICT: a network file system; E_IO: the directory cannot be read. */
LYAP_MUST_CHECK enum lyap_status lyap_place_check(const char *path, struct lyap_error *reterr);
/* Holds `<path>.lock` until the descriptor is closed. SQLite's own locks come and go with each
 * transaction, and a person's sqlite3 session must not be kept out: hence a file of its own. The
 * file stays: removing it would race with the next start. E_BUSY: another process holds it. */
LYAP_MUST_CHECK enum lyap_status lyap_place_lock(const char *path, int *ret_fd,
                                                 struct lyap_error *reterr);
/* Bytes of the database and its WAL. */
uint64_t lyap_place_bytes(const char *path, const char *wal_path);
/* `path` with `suffix`; NULL: out of memory. Free with lyap_free. */
char *lyap_place_name(const char *path, const char *suffix);

#endif
