/* How often certified inequalities fail in random trials: a Markdown table (docs/accuracy.md).
 *   bench_inequalities [trials]        default 1000 each */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lyap/blas.h"
#include "lyap/spectral.h"
#include "trials.h"

enum { TRIALS = 1000, TRIALS_MAX = 1000000 };
static const double ROUNDING = 1e-9;

uint32_t random_count(struct test_rng *random, uint32_t limit)
{
    return 1 + (uint32_t)(test_rng_u64(random) % limit);
}

void must(bool is_ok, const char *what)
{
    if (is_ok)
        return;
    (void)fprintf(stderr, "bench_inequalities: %s failed\n", what);
    exit(1);
}

double exact_norm(const double *values, uint32_t rows, uint32_t cols)
{
    double norm;
    must(lyap_spectral_norm(&(struct lyap_spectral_matrix){ values, rows, cols }, &norm) == LYAP_OK,
         "singular values");
    return norm;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The number of violations. */
static uint32_t run(const struct trial *trial, uint32_t count, double *slack)
{
    struct test_rng random = { 20251221 };
    uint32_t violations = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct sides sides = trial->draw(&random);
        const double scale = fmax(fmax(fabs(sides.lower), fabs(sides.upper)), 1);
        slack[i] = (sides.upper - sides.lower) / scale;
        violations += !(slack[i] >= -ROUNDING);
    }
    qsort(slack, count, sizeof *slack, compare);
    (void)printf("| %s | %s | %u | %u | %.1e | %.2g |\n", trial->claim, trial->source, count,
                 violations, slack[0], slack[count / 2]);
    return violations;
}

int main(int argc, char **argv)
{
    const long wanted = argc > 1 ? strtol(argv[1], NULL, 10) : TRIALS;
    must(wanted >= 1 && wanted <= TRIALS_MAX, "reading the number of trials");
    const uint32_t count = (uint32_t)wanted;
    double *slack = calloc(count, sizeof *slack);
    must(slack != NULL, "allocation");
    lyap_blas_one_thread();
    (void)printf("| claim | SPEC | trials | violations | least slack | median slack |\n"
                 "| --- | --- | --- | --- | --- | --- |\n");
    uint32_t violations = 0;
    for (uint32_t i = 0; i < gain_trial_count; i++)
        violations += run(&gain_trials[i], count, slack);
    for (uint32_t i = 0; i < energy_trial_count; i++)
        violations += run(&energy_trials[i], count, slack);
    for (uint32_t i = 0; i < update_trial_count; i++)
        violations += run(&update_trials[i], count, slack);
    for (uint32_t i = 0; i < profile_trial_count; i++)
        violations += run(&profile_trials[i], count, slack);
    free(slack);
    return violations > 0;
}
