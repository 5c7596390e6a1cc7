/* Memory through injected hooks. The only file of lib/ that may call malloc. */
#include "lyap/alloc.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static struct lyap_alloc_hooks hooks = { malloc, free };

void lyap_alloc_set_hooks(const struct lyap_alloc_hooks *new_hooks)
{
    hooks = new_hooks ? *new_hooks : (struct lyap_alloc_hooks){ malloc, free };
    assert(hooks.allocate && hooks.deallocate);
}

/* False when the product overflows; a zero product becomes one byte. */
static int array_bytes(size_t count, size_t size, size_t *ret_bytes)
{
    if (size != 0 && count > SIZE_MAX / 2 / size)
        return 0;
    *ret_bytes = count == 0 || size == 0 ? 1 : count * size;
    return 1;
}

void *lyap_alloc_array(size_t count, size_t size)
{
    size_t bytes;
    if (!array_bytes(count, size, &bytes))
        return NULL;
    void *memory = hooks.allocate(bytes);
    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

/* The hooks know no alignment: the block starts at the next multiple of ALIGNMENT, and the address
 * that the hook returned stands in the word before it. */
void *lyap_alloc_aligned(size_t count, size_t size)
{
    size_t bytes;
    if (!array_bytes(count, size, &bytes))
        return NULL;
    unsigned char *raw = hooks.allocate(bytes + ALIGNMENT + sizeof(void *));
    if (!raw)
        return NULL;
    const uintptr_t first = (uintptr_t)raw + sizeof(void *);
    const size_t skip = (ALIGNMENT - first % ALIGNMENT) % ALIGNMENT;
    unsigned char *aligned = raw + sizeof(void *) + skip;
    memcpy(aligned - sizeof raw, &raw, sizeof raw);
    return aligned;
}

char *lyap_alloc_string(const char *text)
{
    const size_t bytes = strlen(text) + 1;
    char *copy = lyap_alloc_array(bytes, 1);
    if (copy)
        memcpy(copy, text, bytes);
    return copy;
}

void lyap_free(void *memory)
{
    hooks.deallocate(memory);
}

void lyap_free_aligned(void *memory)
{
    if (!memory)
        return;
    unsigned char *raw;
    memcpy(&raw, (unsigned char *)memory - sizeof raw, sizeof raw);
    hooks.deallocate(raw);
}
