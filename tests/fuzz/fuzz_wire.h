/* fuzz_wire.h - what the harnesses of the body formats share. */
#ifndef LYAP_FUZZ_WIRE_H
#define LYAP_FUZZ_WIRE_H

#include <stdint.h>

#include "lyap/wire.h"

/* Decodes a body whole and in chunks of `chunk_bytes`; both must raise the same events and end
 * alike. Every snapshot is also resolved against its own param tensors. Aborts when not. */
void fuzz_decode(enum lyap_wire_format format, const uint8_t *body, uint64_t length,
                 uint64_t chunk_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
