/* client.h - what the ingest and points benches share: a raw HTTP connection that costs next to
 * nothing, a lyapd of their own, times. THREADS: each object has one owner. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { BENCH_REPLY_BYTES_MAX = 1 << 20 };

/* Every failure below prints what failed and ends the process with 1: a bench has no other answer.
 */
__attribute__((noreturn, format(printf, 1, 2))) void bench_die(const char *format, ...);

double bench_seconds(void); /* monotonic */
void bench_sort(double *values, size_t count);
double bench_median(double *values, size_t count); /* sorts */

/* A lyapd started for this bench, with its database in a folder of its own that goes with it. */
struct bench_daemon {
    pid_t pid;
    char folder[256], url[128];
    uint16_t port;
};
void bench_daemon_start(struct bench_daemon *daemon, const char *binary, const char *folder);
void bench_daemon_stop(struct bench_daemon *daemon);
/* Processor seconds that a process has used: unlike times, hardly changed by what else runs. */
double bench_cpu_seconds(pid_t pid);
uint64_t bench_minor_faults(pid_t pid); /* pages that a process has met for the first time */
/* Resident set of the daemon, bytes. */
uint64_t bench_daemon_rss(const struct bench_daemon *daemon);

struct bench_connection {
    int fd;
    char reply[BENCH_REPLY_BYTES_MAX]; /* head and body of the last answer, NUL-terminated */
};
void bench_connect(struct bench_connection *connection, uint16_t port);
void bench_close(struct bench_connection *connection);
/* Ends a safetensors header whose first 8 of `length` bytes are left for its length; room for 8
 * more. Returns the new length. */
size_t bench_header_close(char *header, size_t length);
/* Sends head and pieces, reads the answer; returns its status. */
int bench_exchange(struct bench_connection *connection, const char *method, const char *path,
                   const char *type, const struct iovec *pieces, int piece_count);
/* The same with a text body; ends the process unless the status is 2xx. */
void bench_send_text(struct bench_connection *connection, const char *method, const char *path,
                     const char *type, const char *text);

#endif
