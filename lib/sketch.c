/* The blocked CountSketch over any range of coordinates. */
#include "lyap/sketch.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"
#include "lyap/alloc.h"
#include "banned.h"

enum { BLOCK = LYAP_SKETCH_BLOCK };

static uint64_t mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* FNV-1a, 64 bits. */
static uint64_t fnv1a64(const char *text, uint64_t length)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (uint64_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001B3);
    return hash;
}

enum lyap_status lyap_sketch_init(struct lyap_sketch *sketch, uint32_t size)
{
    *sketch = (struct lyap_sketch)LYAP_SKETCH_NULL;
    if (size < BLOCK || size > UINT32_C(1) << 31)
        return LYAP_E_INVALID;
    double *sums = lyap_alloc_array((size_t)size + BLOCK, sizeof *sums);
    if (!sums)
        return LYAP_E_NOMEM;
    *sketch = (struct lyap_sketch){ .sums = sums, .size = size };
    return LYAP_OK;
}

void lyap_sketch_release(struct lyap_sketch *sketch)
{
    lyap_free(sketch->sums);
    *sketch = (struct lyap_sketch)LYAP_SKETCH_NULL;
}

uint64_t lyap_sketch_seed(uint64_t run_seed, const char *name, uint64_t length)
{
    return mix64(run_seed ^ fnv1a64(name, length));
}

void lyap_sketch_add(struct lyap_sketch *sketch, uint64_t seed, uint64_t first, const double *x,
                     uint64_t count)
{
    const struct lyap_kernels *kernels = lyap_kernels_best();
    assert(sketch->sums);
    while (count > 0) {
        const uint64_t lead = first % BLOCK, room = BLOCK - lead;
        const uint64_t taken = count < room ? count : room;
        double block[BLOCK] = { 0 }; /* what is outside the range adds nothing */
        for (uint64_t i = 0; i < taken; i++)
            block[lead + i] = fabs(x[i]) <= LYAP_MAGNITUDE_MAX ? x[i] : 0;
        const struct lyap_sketch_run run = { .seed = seed,
                                             .first_block = first / BLOCK,
                                             .size = sketch->size };
        kernels->sketch(block, 1, &run, sketch->sums);
        first += taken;
        x += taken;
        count -= taken;
    }
}

void lyap_sketch_read(const struct lyap_sketch *sketch, double *ret)
{
    memcpy(ret, sketch->sums, sketch->size * sizeof *ret);
    for (uint32_t i = 0; i < BLOCK; i++)
        ret[i] += sketch->sums[sketch->size + i];
}
