/* Huge pages for what is kept of snapshots. */
#include "pages.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "lyap/alloc.h"

enum {
    HUGE_PAGE_BYTES = 2 << 20,
    LARGE_BYTES_MIN = 4 * HUGE_PAGE_BYTES /* the last page is wasted at worst: a quarter */
};

/* Ingest reads four planes and writes two side by side: on small pages it waits for their
 * translations about as long as for their bytes. */
static void *allocate(size_t bytes)
{
    if (bytes < LARGE_BYTES_MIN)
        return malloc(bytes);
    const size_t pages = (bytes - 1) / HUGE_PAGE_BYTES + 1;
    void *memory = aligned_alloc(HUGE_PAGE_BYTES, pages * HUGE_PAGE_BYTES);
    if (memory)
        (void)madvise(memory, pages * HUGE_PAGE_BYTES, MADV_HUGEPAGE); /* a hint */
    return memory;
}

void lyap_pages_install(void)
{
    static const struct lyap_alloc_hooks hooks = { allocate, free };
    lyap_alloc_set_hooks(&hooks);
}
