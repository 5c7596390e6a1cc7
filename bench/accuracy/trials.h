/* trials.h - random trials of certified inequalities: each draws an instance and returns both sides
 * of one "lower <= upper". Dense matrices up to SIDE x SIDE x 16, row-major.
 * THREADS: one owner of a random state at a time. */
#ifndef LYAP_BENCH_TRIALS_H
#define LYAP_BENCH_TRIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "rng.h"

/* 1 .. limit. */
uint32_t random_count(struct test_rng *random, uint32_t limit);
/* Stops the program: a trial of ours that liblyap refuses is an error of the trial. */
void must(bool is_ok, const char *what);
/* sigma_1 of rows x cols values, by a singular value decomposition. */
double exact_norm(const double *values, uint32_t rows, uint32_t cols);

struct sides {
    double lower, upper;
};
struct trial {
    const char *claim, *source;
    struct sides (*draw)(struct test_rng *random);
};

extern const struct trial gain_trials[], energy_trials[], update_trials[], profile_trials[];
extern const uint32_t gain_trial_count, energy_trial_count, update_trial_count, profile_trial_count;

#endif
