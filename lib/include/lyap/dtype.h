/* dtype.h - the four element types of the wire format, little endian. THREADS: pure functions. */
#ifndef LYAP_DTYPE_H
#define LYAP_DTYPE_H

#include <stdbool.h>
#include <stddef.h>

#include "lyap/status.h"

/* X(enum, wire name, bytes, unit roundoff u: half the gap above 1) */
#define LYAP_DTYPE_TABLE(X)                                                                        \
    X(F64, "F64", 8, 0x1p-53)                                                                      \
    X(F32, "F32", 4, 0x1p-24)                                                                      \
    X(F16, "F16", 2, 0x1p-11)                                                                      \
    X(BF16, "BF16", 2, 0x1p-8)

enum lyap_dtype {
#define LYAP_DTYPE_ENUM(name, wire, bytes, unit) LYAP_DTYPE_##name,
    LYAP_DTYPE_TABLE(LYAP_DTYPE_ENUM)
#undef LYAP_DTYPE_ENUM
        LYAP_DTYPE_COUNT
};

LYAP_API const char *lyap_dtype_name(enum lyap_dtype dtype);
LYAP_API size_t lyap_dtype_bytes(enum lyap_dtype dtype);
LYAP_API double lyap_dtype_unit_roundoff(enum lyap_dtype dtype);
LYAP_API bool lyap_dtype_parse(const char *name, size_t length, enum lyap_dtype *ret_dtype);

/* Exact widening of `count` elements (every F16, BF16 and F32 value is an F64 value; subnormals,
 * NaN and infinities included). `source` need not be aligned; `ret` holds `count` doubles. */
LYAP_API void lyap_dtype_widen(enum lyap_dtype dtype, const void *source, size_t count,
                               double *ret);

#endif
