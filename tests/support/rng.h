/* rng.h - the generator of SPEC 7.0. THREADS: one owner of a state at a time. */
#ifndef LYAP_TEST_RNG_H
#define LYAP_TEST_RNG_H

#include <stdint.h>

/* SplitMix64 and its uniform and normal numbers, bit for bit those of spec/oracle.py. */
struct test_rng {
    uint64_t state;
};
uint64_t test_rng_u64(struct test_rng *rng);
double test_rng_uniform(struct test_rng *rng);
double test_rng_normal(struct test_rng *rng);
void test_rng_normals(struct test_rng *rng, double *ret, uint64_t count);

#endif
