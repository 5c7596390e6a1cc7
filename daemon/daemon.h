/* daemon.h - the parts of the daemon, composed in order and stopped in reverse.
 * THREADS: main. */
#ifndef LYAP_DAEMON_H
#define LYAP_DAEMON_H

#include "api.h"
#include "deliverer.h"
#include "engine.h"

enum { LYAP_STOP_SECONDS_MAX = 10 }; /* from SIGTERM to the end, whatever happens */

struct lyap_daemon {
    struct lyap_settings settings;
    struct lyap_counters counters;
    struct lyap_store *store;
    struct lyap_engine *engine;
    struct lyap_deliverer *deliverer;
    struct api_ports ports;
    struct api_server *server;
    int argc;
    char *const *argv;
};

/* SIGTERM, SIGINT and SIGHUP wait for lyap_daemon_wait from here on. E_IO. */
LYAP_MUST_CHECK enum lyap_status lyap_daemon_signals(struct lyap_error *reterr);
/* Settings, store, engine, API; says on stdout and to systemd where it listens. On failure the
 * parts that were made are there for lyap_daemon_close. */
LYAP_MUST_CHECK enum lyap_status lyap_daemon_open(struct lyap_daemon *daemon,
                                                  struct lyap_error *reterr);
/* Returns when it is time to stop. */
void lyap_daemon_wait(struct lyap_daemon *daemon);
/* Drains, commits, saves the windows. Accepts a daemon that was opened in part. */
void lyap_daemon_close(struct lyap_daemon *daemon);
/* --help, --version, --print-config, --docs on stdout. False: an unknown mode, or no memory. */
bool lyap_daemon_print(const struct lyap_daemon *daemon, enum lyap_mode mode);

#endif
