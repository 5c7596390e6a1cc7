/* Command line and environment. */
#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"

/* Flags that are no settings. */
static const struct {
    const char *flag, *value; /* value NULL: takes none */
    enum lyap_mode mode;
} modes[] = {
    { "--help", NULL, LYAP_MODE_HELP },
    { "-h", NULL, LYAP_MODE_HELP },
    { "--version", NULL, LYAP_MODE_VERSION },
    { "--print-config", NULL, LYAP_MODE_PRINT_CONFIG },
    { "--docs", "configuration", LYAP_MODE_DOCS_CONFIGURATION },
    { "--docs", "rules", LYAP_MODE_DOCS_RULES },
};

/* How many words the mode flag at argv[i] takes; 0: it is none. */
static int mode_words(int argc, char *const *argv, int i, enum lyap_mode *ret_mode)
{
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        if (strcmp(argv[i], modes[m].flag) != 0)
            continue;
        if (modes[m].value && (i + 1 >= argc || strcmp(argv[i + 1], modes[m].value) != 0))
            continue;
        *ret_mode = modes[m].mode;
        return modes[m].value ? 2 : 1;
    }
    return 0;
}

enum lyap_status lyap_args_mode(int argc, char *const *argv, enum lyap_mode *ret_mode,
                                struct lyap_error *reterr)
{
    enum lyap_mode mode = LYAP_MODE_SERVE;
    for (int i = 1; i < argc; i++) {
        if (mode_words(argc, argv, i, &mode))
            break;
        if (strcmp(argv[i], "--docs") == 0)
            return lyap_error_set(reterr, LYAP_E_INVALID,
                                  "--docs needs one of: configuration, rules");
    }
    *ret_mode = mode;
    return LYAP_OK;
}

/* Name and value of the flag at argv[*i], which moves to its last word. */
static enum lyap_status flag_split(int argc, char *const *argv, int *i, char *ret_name,
                                   size_t name_bytes, const char **ret_value,
                                   struct lyap_error *reterr)
{
    const char *flag = argv[*i];
    if (strncmp(flag, "--", 2) != 0)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "\"%.64s\" (command line) is no flag; lyapd --help lists them", flag);
    const char *equals = strchr(flag, '=');
    (void)snprintf(ret_name, name_bytes, "%.*s",
                   equals ? (int)(equals - flag - 2) : (int)strlen(flag + 2), flag + 2);
    const int setting = lyap_settings_find(ret_name);
    if (setting < 0)
        return lyap_error_set(reterr, LYAP_E_UNKNOWN_FIELD,
                              "\"%s\" (command line) is no setting; lyapd --help lists them",
                              ret_name);
    const bool is_bare = lyap_setting_is_flag((enum lyap_setting)setting) &&
                         (*i + 1 >= argc || strncmp(argv[*i + 1], "--", 2) == 0);
    if (equals)
        *ret_value = equals + 1;
    else if (is_bare)
        *ret_value = "true";
    else if (*i + 1 < argc)
        *ret_value = argv[++*i];
    else
        return lyap_error_set(reterr, LYAP_E_INVALID, "--%s (command line) needs a value",
                              ret_name);
    return LYAP_OK;
}

enum lyap_status lyap_args_apply(int argc, char *const *argv, const char *only,
                                 struct lyap_settings *settings, struct lyap_error *reterr)
{
    for (int i = 1; i < argc; i++) {
        enum lyap_mode mode;
        const int words = mode_words(argc, argv, i, &mode);
        if (words) {
            i += words - 1;
            continue;
        }
        char name[80];
        const char *value = "";
        enum lyap_status status = flag_split(argc, argv, &i, name, sizeof name, &value, reterr);
        if (status == LYAP_OK && (!only || strcmp(name, only) == 0))
            status =
                lyap_settings_set(settings, name, value, LYAP_ORIGIN_FLAG, "command line", reterr);
        if (status != LYAP_OK)
            return status;
    }
    return LYAP_OK;
}

enum lyap_status lyap_environment_apply(const char *only, struct lyap_settings *settings,
                                        struct lyap_error *reterr)
{
    for (unsigned i = 0; i < LYAP_SETTING_COUNT; i++) {
        const char *name = lyap_setting_name((enum lyap_setting)i);
        if (only && strcmp(name, only) != 0)
            continue;
        char variable[80];
        const int length = snprintf(variable, sizeof variable, "LYAPD_%s", name);
        for (int c = 6; c < length; c++)
            if (variable[c] >= 'a' && variable[c] <= 'z')
                variable[c] = (char)(variable[c] - 'a' + 'A');
        const char *value = getenv(variable);
        if (!value)
            continue;
        const enum lyap_status status =
            lyap_settings_set(settings, name, value, LYAP_ORIGIN_ENVIRONMENT, variable, reterr);
        if (status != LYAP_OK)
            return status;
    }
    return LYAP_OK;
}
