/* Shared helpers of the test programs. */
#include "support.h"

#include <math.h>
#include <stdlib.h>

#include "lyap/alloc.h"

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
