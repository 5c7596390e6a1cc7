/* stream.h - reads a training in the format LYC2 (bench/detection/README.md). THREADS: one owner at
 * a time. */
#ifndef LYAP_BENCH_STREAM_H
#define LYAP_BENCH_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "lyap/declaration.h"

enum {
    STREAM_TENSORS_MAX = 1024,
    STREAM_GROUPS_MAX = 16,
    STREAM_PATTERNS_MAX = 64, /* of one group */
    STREAM_HEADER_BYTES_MAX = 1 << 20
};
enum stream_role { STREAM_PARAM, STREAM_GRAD, STREAM_FIRST, STREAM_SECOND, STREAM_ROLES };

struct stream {
    FILE *file;                          /* borrowed */
    struct lyap_declaration declaration; /* optimizer and tensors of the header */
    double clip;                         /* norm to which gradients are clipped; 0: none */
    bool has_state;                      /* Adam's m and v are there */
    uint64_t elements;                   /* of all tensors */
    float *roles[STREAM_ROLES];          /* owned; of the newest step, tensor after tensor */
    uint32_t step, optimizer_step;
    bool is_updated; /* an update follows this step; false: gradients are still accumulated */
    bool is_skipped; /* the optimizer will skip it */
    double loss, probe_loss, rates[1 + STREAM_GROUPS_MAX];
};

/* Reads the header. Messages go to stderr. */
bool stream_open(struct stream *stream, FILE *file);
/* The next step; false at the end or when the stream breaks off. */
bool stream_next(struct stream *stream);
void stream_close(struct stream *stream);

#endif
