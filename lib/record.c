/* Names of record enums and validity of run and rule names. */
#include "lyap/record.h"

#include <string.h>

#include "names.h"

static const char *const events[LYAP_EVENT_COUNT] = {
#define ROW(name, wire) wire,
    LYAP_EVENT_TABLE(ROW)
#undef ROW
};
static const char *const comparisons[] = { ">", ">=", "<", "<=" };
static const char *const severities[] = { "info", "warning", "critical" };
static const char *const helds[LYAP_HELD_COUNT] = {
#define ROW(name, wire) wire,
    LYAP_HELD_TABLE(ROW)
#undef ROW
};
static const char *const alert_states[] = { "pending", "firing", "resolved" };
#define ROW(name, wire) wire,
static const char *const receiver_types[] = { LYAP_RECEIVER_TYPE_TABLE(ROW) };
static const char *const receiver_formats[] = { LYAP_RECEIVER_FORMAT_TABLE(ROW) };
static const char *const delivery_states[] = { LYAP_DELIVERY_STATE_TABLE(ROW) };
#undef ROW

#define ROW(name, wire, is_own, formula) wire,
static const char *const conditions[] = { LYAP_CONDITION_TABLE(ROW) };
#undef ROW
#define ROW(name, wire, is_own, formula) formula,
static const char *const condition_formulas[] = { LYAP_CONDITION_TABLE(ROW) };
#undef ROW
#define ROW(name, wire, is_own, formula) is_own,
static const bool condition_is_own[] = { LYAP_CONDITION_TABLE(ROW) };
#undef ROW

const char *lyap_condition_name(enum lyap_condition condition)
{
    return conditions[condition];
}

const char *lyap_condition_formula(enum lyap_condition condition)
{
    return condition_formulas[condition];
}

bool lyap_condition_is_own(enum lyap_condition condition)
{
    return condition_is_own[condition];
}

bool lyap_condition_parse(const char *name, enum lyap_condition *ret_condition)
{
    const int i = LYAP_NAMES_FIND(conditions, name);
    if (i < 0)
        return false;
    *ret_condition = (enum lyap_condition)i;
    return true;
}

const char *lyap_event_name(enum lyap_event_kind kind)
{
    return events[kind];
}

const char *lyap_comparison_name(enum lyap_comparison comparison)
{
    return comparisons[comparison];
}

bool lyap_comparison_parse(const char *name, enum lyap_comparison *ret_comparison)
{
    const int i = LYAP_NAMES_FIND(comparisons, name);
    if (i < 0)
        return false;
    *ret_comparison = (enum lyap_comparison)i;
    return true;
}

const char *lyap_severity_name(enum lyap_severity severity)
{
    return severities[severity];
}

bool lyap_severity_parse(const char *name, enum lyap_severity *ret_severity)
{
    const int i = LYAP_NAMES_FIND(severities, name);
    if (i < 0)
        return false;
    *ret_severity = (enum lyap_severity)i;
    return true;
}

const char *lyap_held_name(enum lyap_held held)
{
    return helds[held];
}

bool lyap_alert_is_acked(const struct lyap_alert *alert, int64_t now_ns)
{
    return alert->acked_ns != 0 && (alert->ack_until_ns == 0 || alert->ack_until_ns > now_ns);
}

const char *lyap_alert_state_name(enum lyap_alert_state state)
{
    return alert_states[state];
}

bool lyap_alert_state_parse(const char *name, enum lyap_alert_state *ret_state)
{
    const int i = LYAP_NAMES_FIND(alert_states, name);
    if (i < 0)
        return false;
    *ret_state = (enum lyap_alert_state)i;
    return true;
}

const char *lyap_receiver_type_name(enum lyap_receiver_type type)
{
    return receiver_types[type];
}

bool lyap_receiver_type_parse(const char *name, enum lyap_receiver_type *ret_type)
{
    const int i = LYAP_NAMES_FIND(receiver_types, name);
    if (i < 0)
        return false;
    *ret_type = (enum lyap_receiver_type)i;
    return true;
}

const char *lyap_receiver_format_name(enum lyap_receiver_format format)
{
    return receiver_formats[format];
}

bool lyap_receiver_format_parse(const char *name, enum lyap_receiver_format *ret_format)
{
    const int i = LYAP_NAMES_FIND(receiver_formats, name);
    if (i < 0)
        return false;
    *ret_format = (enum lyap_receiver_format)i;
    return true;
}

const char *lyap_delivery_state_name(enum lyap_delivery_state state)
{
    return delivery_states[state];
}

bool lyap_delivery_state_parse(const char *name, enum lyap_delivery_state *ret_state)
{
    const int i = LYAP_NAMES_FIND(delivery_states, name);
    if (i < 0)
        return false;
    *ret_state = (enum lyap_delivery_state)i;
    return true;
}

static bool name_is_valid(const char *name, size_t bytes_max)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const size_t length = strlen(name);
    /* HTTP clients take the path segments . and .. away: what has such a name is out of reach. */
    return length > 0 && length <= bytes_max && strspn(name, alphabet) == length &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

bool lyap_run_name_is_valid(const char *name)
{
    return name_is_valid(name, LYAP_RUN_NAME_BYTES_MAX);
}

bool lyap_rule_name_is_valid(const char *name)
{
    return name_is_valid(name, LYAP_RULE_NAME_BYTES_MAX);
}
