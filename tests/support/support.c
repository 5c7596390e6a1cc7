/* Shared helpers of the test programs. */
#include "support.h"

#include <math.h>
#include <stdlib.h>

#include "lyap/alloc.h"

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

static uint64_t fail_at, allocation_count;
static int64_t live_count;

static void *counted_allocate(size_t bytes)
{
    allocation_count++;
    if (fail_at && --fail_at == 0)
        return NULL;
    void *memory = malloc(bytes);
    live_count += memory != NULL;
    return memory;
}

static void counted_free(void *memory)
{
    live_count -= memory != NULL;
    free(memory);
}

void test_alloc_install(void)
{
    static const struct lyap_alloc_hooks hooks = { counted_allocate, counted_free };
    lyap_alloc_set_hooks(&hooks);
    fail_at = allocation_count = 0;
    live_count = 0;
}

void test_alloc_fail_at(uint64_t n)
{
    fail_at = n;
}

uint64_t test_alloc_count(void)
{
    return allocation_count;
}

int64_t test_alloc_live(void)
{
    return live_count;
}

int test_main(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
