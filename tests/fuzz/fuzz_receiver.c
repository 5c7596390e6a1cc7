/* The reader of receivers under arbitrary bytes: what it accepts is shown without secrets. */
#include <stdlib.h>
#include <string.h>

#include "codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lyap_receiver receiver;
    struct lyap_error error = LYAP_ERROR_NULL;
    bool keeps_secret;
    if (api_decode_receiver("fuzz", (const char *)data, size, &receiver, &keeps_secret, &error) !=
        LYAP_OK)
        return 0;
    if (!receiver.target || strpbrk(receiver.target, " \r\n\t") ||
        (receiver.type == LYAP_RECEIVER_SENDMAIL && receiver.target[0] == '-'))
        abort();
    const struct lyap_record record = { .table = LYAP_TABLE_RECEIVERS, .u.receiver = receiver };
    struct api_text text;
    api_text_init(&text, 1 << 20);
    api_encode_receiver(&text, &record);
    api_text_release(&text);
    api_receiver_release(&receiver);
    return 0;
}
