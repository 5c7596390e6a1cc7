/* The readers of silences, acknowledgements and packs under arbitrary bytes. */
#include <stdlib.h>

#include "codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int64_t now_ns = INT64_C(1700000000000000000);
    const char *json = (const char *)data;
    struct lyap_record record = { .table = LYAP_TABLE_SILENCES };
    struct lyap_silence *silence = &record.u.silence;
    struct lyap_error error = LYAP_ERROR_NULL;
    struct api_pack_put put;
    struct api_ack ack;
    if (api_decode_silence(json, size, now_ns, silence, &error) == LYAP_OK) {
        if (silence->until_ns <= now_ns || !silence->comment)
            abort();
        struct api_text text;
        api_text_init(&text, 1 << 20);
        api_encode_silence(&text, &record);
        api_text_release(&text);
        api_silence_release(silence);
    }
    if (api_decode_ack(json, size, now_ns, &ack, &error) == LYAP_OK && ack.until_ns &&
        ack.until_ns <= now_ns)
        abort();
    if (api_decode_pack_put(json, size, &put, &error) == LYAP_OK)
        api_pack_put_release(&put);
    return 0;
}
