/* readers.h - clients of GET /v1/events that read along while a bench pushes. THREADS: each reader
 * has one of its own; start and stop belong to one caller. */
#ifndef BENCH_READERS_H
#define BENCH_READERS_H

#include <stdint.h>

enum { BENCH_READERS_MAX = 64 };

struct bench_read {
    uint64_t points, lost, bytes; /* over all readers; lost: as `reset` told them */
};
struct bench_readers;
/* Returns when each has read its `hello`. They read points alone. */
struct bench_readers *bench_readers_start(uint16_t port, uint32_t count);
/* Waits until nothing has come for a moment, and ends them. */
struct bench_read bench_readers_stop(struct bench_readers *readers);

#endif
