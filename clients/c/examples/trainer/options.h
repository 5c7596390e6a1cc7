/* options.h - the trainer's command line. THREADS: immutable after parsing. */
#ifndef TRAINER_OPTIONS_H
#define TRAINER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* No step is that late: a fault that does not come. */
enum { NEVER = 10000000 };

enum expectation { EXPECT_NOTHING, EXPECT_CALM, EXPECT_ALERT, EXPECT_RESCUE };

struct options {
    const char *url; /* NULL: train without a daemon */
    const char *token;
    const char *run;
    const char *data;
    long steps, batch, probe_every, report_every, seed;
    long raise_at, poison_at, corrupt_at; /* steps of faults */
    double lr, momentum, raise_lr;
    bool is_obeying, is_partial;
    enum expectation expectation;
};

/* False with a message on standard error; --help prints the list and ends the process. */
bool options_parse(int argc, char **argv, struct options *ret_options);

#endif
