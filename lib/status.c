/* Names and texts of statuses, and error detail. */
#include "lyap/status.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
    const char *slug, *text;
} statuses[LYAP_STATUS_COUNT] = {
#define ROW(name, slug, text) { slug, text },
    LYAP_STATUS_TABLE(ROW)
#undef ROW
};

static const char unknown_status[] = "unknown-status";

static int is_known(enum lyap_status status)
{
    return (unsigned)status < LYAP_STATUS_COUNT;
}

const char *lyap_status_slug(enum lyap_status status)
{
    return is_known(status) ? statuses[status].slug : unknown_status;
}

const char *lyap_status_text(enum lyap_status status)
{
    return is_known(status) ? statuses[status].text : unknown_status;
}

enum lyap_status lyap_error_set(struct lyap_error *reterr, enum lyap_status status,
                                const char *format, ...)
{
    if (!reterr || reterr->status != LYAP_OK)
        return status;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(reterr->text, sizeof reterr->text, format, arguments);
    va_end(arguments);
    reterr->status = status;
    return status;
}

const char *lyap_error_text(const struct lyap_error *err)
{
    return err->text[0] ? err->text : lyap_status_text(err->status);
}
