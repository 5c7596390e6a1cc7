/* Messages of every format from arbitrary payloads: the outbox is read back from a file. */
#include <stdlib.h>
#include <string.h>

#include "message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void text_of(const char *payload, enum lyap_receiver_type type,
                    enum lyap_receiver_format format)
{
    const struct lyap_delivery delivery = {
        .alert_id = 1, .receiver = "ops", .kind = LYAP_ALERT_FIRING, .payload_json = payload
    };
    const struct lyap_receiver receiver = {
        .name = "ops", .type = type, .format = format, .target = "root"
    };
    const struct lyap_message message = { &delivery, &receiver, 1, 60 };
    char *text = NULL;
    if (lyap_message_text(&message, &text) != LYAP_OK)
        return;
    if (type == LYAP_RECEIVER_SENDMAIL && strstr(text, "\n.\n"))
        abort();
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *payload = malloc(size + 1);
    if (!payload)
        return 0;
    if (size) /* libFuzzer gives no address for the empty input */
        memcpy(payload, data, size);
    payload[size] = '\0';
    for (int type = 0; type < LYAP_RECEIVER_TYPE_COUNT; type++)
        for (int format = 0; format < LYAP_FORMAT_COUNT; format++)
            text_of(payload, (enum lyap_receiver_type)type, (enum lyap_receiver_format)format);
    free(payload);
    return 0;
}
