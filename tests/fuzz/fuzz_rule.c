/* The reader of rules, and so of every small JSON body, under arbitrary bytes. */
#include <math.h>
#include <stdlib.h>

#include "codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lyap_rule rule;
    struct lyap_error error = LYAP_ERROR_NULL;
    if (api_decode_rule("fuzz", (const char *)data, size, &rule, &error) != LYAP_OK)
        return 0;
    if (isnan(rule.threshold) || rule.for_steps == 0 || !rule.metric[0])
        abort();
    const struct lyap_record record = { .table = LYAP_TABLE_RULES, .u.rule = rule };
    struct api_text text;
    api_text_init(&text, 1 << 20);
    api_encode_rule(&text, &record);
    api_text_release(&text);
    api_rule_release(&rule);
    return 0;
}
