/* SplitMix64 and Box-Muller. */
#include "rng.h"

#include <math.h>

uint64_t test_rng_u64(struct test_rng *rng)
{
    uint64_t z = rng->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

double test_rng_uniform(struct test_rng *rng)
{
    return ((double)(test_rng_u64(rng) >> 11) + 0.5) / 9007199254740992.0;
}

double test_rng_normal(struct test_rng *rng)
{
    const double a = test_rng_uniform(rng), b = test_rng_uniform(rng);
    return sqrt(-2.0 * log(a)) * cos(2.0 * 3.14159265358979323846 * b);
}

void test_rng_normals(struct test_rng *rng, double *ret, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        ret[i] = test_rng_normal(rng);
}
