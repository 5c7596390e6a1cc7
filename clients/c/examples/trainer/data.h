/* data.h - the digits data set (clients/c/examples/data). THREADS: read-only once loaded. */
#ifndef TRAINER_DATA_H
#define TRAINER_DATA_H

#include <stdbool.h>
#include <stdint.h>

enum { DATA_PIXELS = 64, DATA_CLASSES = 10, DATA_SAMPLES_MAX = 10000 };

struct data {
    float *pixels;   /* owned; count x DATA_PIXELS, mean 0 and deviation 1 over the whole set */
    uint8_t *labels; /* owned; count */
    uint32_t count;
};

/* False with a message on standard error that names file and line. */
bool data_load(const char *path, struct data *ret_data);
void data_release(struct data *data);

#endif
