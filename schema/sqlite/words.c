/* Words of text columns. */
#include "words.h"

#include <stddef.h>
#include <string.h>

static const char *const retentions[] = { "auto", "exact", "sketch" };

/* Defines the look-up of `word` among name(0) .. name(count - 1). */
#define DEFINE_WORD(function, type, count, name)                                                   \
    type function(const char *word)                                                                \
    {                                                                                              \
        for (int i = 0; word && i < (int)(count); i++)                                             \
            if (strcmp(name((type)i), word) == 0)                                                  \
                return (type)i;                                                                    \
        return (type)0;                                                                            \
    }

const char *lyap_retention_word(enum lyap_retention retention)
{
    return retentions[retention];
}

DEFINE_WORD(lyap_word_state, enum lyap_run_state, LYAP_STATE_COUNT, lyap_run_state_name)
DEFINE_WORD(lyap_word_verdict, enum lyap_verdict, LYAP_VERDICT_COUNT, lyap_verdict_name)
DEFINE_WORD(lyap_word_action, enum lyap_action_kind, LYAP_ACTION_COUNT, lyap_action_name)
DEFINE_WORD(lyap_word_event, enum lyap_event_kind, LYAP_EVENT_COUNT, lyap_event_name)
DEFINE_WORD(lyap_word_retention, enum lyap_retention, LYAP_RETENTION_SKETCH + 1,
            lyap_retention_word)
DEFINE_WORD(lyap_word_comparison, enum lyap_comparison, LYAP_CMP_LE + 1, lyap_comparison_name)
DEFINE_WORD(lyap_word_severity, enum lyap_severity, LYAP_SEVERITY_CRITICAL + 1, lyap_severity_name)
DEFINE_WORD(lyap_word_receiver_type, enum lyap_receiver_type, LYAP_RECEIVER_TYPE_COUNT,
            lyap_receiver_type_name)
DEFINE_WORD(lyap_word_receiver_format, enum lyap_receiver_format, LYAP_FORMAT_COUNT,
            lyap_receiver_format_name)
DEFINE_WORD(lyap_word_delivery_state, enum lyap_delivery_state, LYAP_DELIVERY_STATE_COUNT,
            lyap_delivery_state_name)
DEFINE_WORD(lyap_word_alert_state, enum lyap_alert_state, LYAP_ALERT_RESOLVED + 1,
            lyap_alert_state_name)
DEFINE_WORD(lyap_word_held, enum lyap_held, LYAP_HELD_COUNT, lyap_held_name)
