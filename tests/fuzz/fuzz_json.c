/* JSON and NDJSON bodies; the first byte picks the format and the length of the chunks. */
#include "fuzz_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const enum lyap_wire_format format = data[0] & 1 ? LYAP_WIRE_NDJSON : LYAP_WIRE_JSON;
    fuzz_decode(format, data + 1, size - 1, (data[0] >> 1) % 32 + 1);
    return 0;
}
