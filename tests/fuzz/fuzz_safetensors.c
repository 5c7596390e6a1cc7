/* safetensors bodies; the first byte is the length of the chunks. The announced header length is
 * often replaced by the true one, so that mutations reach the header. */
#include "fuzz_wire.h"

#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8 };

/* Sets the header's length to where its JSON seems to end: after the last '}'. */
static void repair(uint8_t *body, size_t length)
{
    size_t end = length;
    while (end > LENGTH_BYTES && body[end - 1] != '}')
        end--;
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        body[i] = (uint8_t)((uint64_t)(end - LENGTH_BYTES) >> (8 * i));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const uint8_t control = data[0];
    const size_t length = size - 1;
    uint8_t *body = malloc(length + 1);
    if (!body)
        return 0;
    memcpy(body, data + 1, length);
    if (control % 4 != 0 && length > LENGTH_BYTES)
        repair(body, length);
    fuzz_decode(LYAP_WIRE_SAFETENSORS, body, length, control % 64 + 1);
    free(body);
    return 0;
}
