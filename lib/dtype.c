/* Names, sizes and widening of the element types. */
#include "lyap/dtype.h"

#include <assert.h>
#include <string.h>

#include "kernels/kernels.h"

static const struct {
    const char *name;
    size_t bytes;
    double unit_roundoff;
} rows[LYAP_DTYPE_COUNT] = {
#define ROW(name, wire, bytes, unit) { wire, bytes, unit },
    LYAP_DTYPE_TABLE(ROW)
#undef ROW
};

const char *lyap_dtype_name(enum lyap_dtype dtype)
{
    return (unsigned)dtype < LYAP_DTYPE_COUNT ? rows[dtype].name : "unknown";
}

size_t lyap_dtype_bytes(enum lyap_dtype dtype)
{
    assert((unsigned)dtype < LYAP_DTYPE_COUNT);
    return rows[dtype].bytes;
}

double lyap_dtype_unit_roundoff(enum lyap_dtype dtype)
{
    assert((unsigned)dtype < LYAP_DTYPE_COUNT);
    return rows[dtype].unit_roundoff;
}

bool lyap_dtype_parse(const char *name, size_t length, enum lyap_dtype *ret_dtype)
{
    for (unsigned i = 0; i < LYAP_DTYPE_COUNT; i++) {
        if (strlen(rows[i].name) == length && memcmp(rows[i].name, name, length) == 0) {
            *ret_dtype = (enum lyap_dtype)i;
            return true;
        }
    }
    return false;
}

void lyap_dtype_widen(enum lyap_dtype dtype, const void *source, size_t count, double *ret)
{
    assert((unsigned)dtype < LYAP_DTYPE_COUNT);
    lyap_kernels_best()->widen[dtype](source, count, ret);
}
