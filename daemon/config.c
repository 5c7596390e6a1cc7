/* Configuration file: `name = value` lines, # comments. */
#include "settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = LYAP_SETTING_TEXT_BYTES_MAX + 128 };

/* Cuts white space at both ends. */
static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        end--;
    *end = '\0';
    return text;
}

/* A # starts a comment at the start of a line or after white space: a path may contain one. */
static void cut_comment(char *line)
{
    for (char *c = line; *c; c++) {
        if (*c == '#' && (c == line || isspace((unsigned char)c[-1]))) {
            *c = '\0';
            return;
        }
    }
}

static enum lyap_status line_apply(char *line, const char *where, struct lyap_settings *settings,
                                   struct lyap_error *reterr)
{
    cut_comment(line);
    char *name = trim(line);
    if (!*name)
        return LYAP_OK;
    char *equals = strchr(name, '=');
    if (!equals)
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s: \"%.64s\" is no line `name = value`",
                              where, name);
    *equals = '\0';
    name = trim(name);
    if (strcmp(name, "config") == 0)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "%s: config cannot be set in the configuration file", where);
    return lyap_settings_set(settings, name, trim(equals + 1), LYAP_ORIGIN_FILE, where, reterr);
}

enum lyap_status lyap_config_apply(const char *path, struct lyap_settings *settings,
                                   struct lyap_error *reterr)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return lyap_error_set(reterr, LYAP_E_IO, "configuration file %s: %s", path,
                              strerror(errno));
    enum lyap_status status = LYAP_OK;
    char line[LINE_BYTES];
    for (unsigned number = 1; status == LYAP_OK && fgets(line, sizeof line, file); number++) {
        char where[160];
        (void)snprintf(where, sizeof where, "%.120s line %u", path, number);
        if (!strchr(line, '\n') && !feof(file))
            status = lyap_error_set(reterr, LYAP_E_LIMIT, "%s is longer than %d characters", where,
                                    LINE_BYTES - 2);
        else
            status = line_apply(line, where, settings, reterr);
    }
    if (status == LYAP_OK && ferror(file))
        status = lyap_error_set(reterr, LYAP_E_IO, "configuration file %s cannot be read", path);
    (void)fclose(file);
    return status;
}
