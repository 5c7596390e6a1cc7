/* The table of settings: parsing, printing, documentation. */
#include "settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "log.h"
#include "lyap/alloc.h"

enum kind { TEXT, NUMBER, FLAG };

static const struct row {
    const char *name, *unit, *start, *text;
    enum kind kind;
    uint64_t min, max;
    size_t offset;
    bool is_reloadable;
} rows[LYAP_SETTING_COUNT] = {
#define ROW(field, kind, unit, min, max, start, reload, text)                                      \
    { #field, unit, start, text, kind, min, max, offsetof(struct lyap_settings, field), reload },
    LYAP_SETTING_TABLE(ROW)
#undef ROW
};

static void *field_of(struct lyap_settings *settings, const struct row *row)
{
    return (char *)settings + row->offset;
}

static const void *field_get(const struct lyap_settings *settings, const struct row *row)
{
    return (const char *)settings + row->offset;
}

enum lyap_status lyap_settings_init(struct lyap_settings *settings)
{
    memset(settings, 0, sizeof *settings);
    for (unsigned i = 0; i < LYAP_SETTING_COUNT; i++) {
        const enum lyap_status status = lyap_settings_set(settings, rows[i].name, rows[i].start,
                                                          LYAP_ORIGIN_DEFAULT, "the default", NULL);
        if (status != LYAP_OK)
            return status;
    }
    return LYAP_OK;
}

void lyap_settings_release(struct lyap_settings *settings)
{
    for (unsigned i = 0; i < LYAP_SETTING_COUNT; i++) {
        if (rows[i].kind == TEXT) {
            char **text = field_of(settings, &rows[i]);
            lyap_free(*text);
            *text = NULL;
        }
    }
}

int lyap_settings_find(const char *name)
{
    for (unsigned i = 0; i < LYAP_SETTING_COUNT; i++) {
        const char *row = rows[i].name, *c = name;
        while (*c && (*c == '-' ? '_' : *c) == *row)
            c++, row++;
        if (!*c && !*row)
            return (int)i;
    }
    return -1;
}

const char *lyap_setting_name(enum lyap_setting setting)
{
    return rows[setting].name;
}

bool lyap_setting_is_flag(enum lyap_setting setting)
{
    return rows[setting].kind == FLAG;
}

/* Decimal digits with an optional suffix of bytes; false when it is no such number or overflows. */
static bool number_parse(const struct row *row, const char *value, uint64_t *ret)
{
    static const struct {
        const char *suffix;
        unsigned shift;
    } suffixes[] = { { "", 0 },     { "KiB", 10 }, { "MiB", 20 }, { "GiB", 30 },
                     { "TiB", 40 }, { "K", 10 },   { "M", 20 },   { "G", 30 } };
    if (*value < '0' || *value > '9')
        return false;
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(value, &end, 10);
    if (errno)
        return false;
    const bool takes_suffix = strcmp(row->unit, "bytes") == 0;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (strcmp(end, suffixes[i].suffix) != 0 || (i > 0 && !takes_suffix))
            continue;
        if (number > UINT64_MAX >> suffixes[i].shift)
            return false;
        *ret = (uint64_t)number << suffixes[i].shift;
        return true;
    }
    return false;
}

static enum lyap_status set_number(const struct row *row, uint64_t *field, const char *value,
                                   const char *where, struct lyap_error *reterr)
{
    uint64_t number;
    if (!number_parse(row, value, &number) || number < row->min || number > row->max)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "%s = \"%.64s\" (%s): must be a whole number of %s from %" PRIu64
                              " to %" PRIu64,
                              row->name, value, where, row->unit, row->min, row->max);
    *field = number;
    return LYAP_OK;
}

static enum lyap_status set_text(const struct row *row, char **field, const char *value,
                                 const char *where, struct lyap_error *reterr)
{
    const size_t length = strlen(value);
    if (length < row->min || length > row->max)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "%s = \"%.64s\" (%s): must have %" PRIu64 " to %" PRIu64
                              " characters",
                              row->name, value, where, row->min, row->max);
    char *copy = lyap_alloc_string(value);
    if (!copy)
        return LYAP_E_NOMEM;
    lyap_free(*field);
    *field = copy;
    return LYAP_OK;
}

static enum lyap_status set_flag(const struct row *row, bool *field, const char *value,
                                 const char *where, struct lyap_error *reterr)
{
    if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s = \"%.64s\" (%s): must be true or false",
                              row->name, value, where);
    *field = value[0] == 't';
    return LYAP_OK;
}

static enum lyap_status set_field(const struct row *row, struct lyap_settings *settings,
                                  const char *value, const char *where, struct lyap_error *reterr)
{
    void *field = field_of(settings, row);
    switch (row->kind) {
    case NUMBER:
        return set_number(row, field, value, where, reterr);
    case FLAG:
        return set_flag(row, field, value, where, reterr);
    case TEXT:
        break;
    }
    return set_text(row, field, value, where, reterr);
}

enum lyap_status lyap_settings_set(struct lyap_settings *settings, const char *name,
                                   const char *value, enum lyap_origin origin, const char *where,
                                   struct lyap_error *reterr)
{
    const int index = lyap_settings_find(name);
    if (index < 0)
        return lyap_error_set(reterr, LYAP_E_UNKNOWN_FIELD,
                              "\"%.64s\" (%s) is no setting; lyapd --help lists them", name, where);
    const struct row *row = &rows[index];
    if (origin >= settings->origin[index]) {
        const enum lyap_status status = set_field(row, settings, value, where, reterr);
        if (status == LYAP_OK)
            settings->origin[index] = (uint8_t)origin;
        return status;
    }
    struct lyap_settings scratch = { 0 };
    const enum lyap_status status = set_field(row, &scratch, value, where, reterr);
    lyap_settings_release(&scratch);
    return status;
}

void lyap_settings_make_folder(const struct lyap_settings *settings)
{
    char folder[LYAP_SETTING_TEXT_BYTES_MAX];
    if (settings->origin[LYAP_SETTING_db] != LYAP_ORIGIN_DEFAULT)
        return;
    (void)snprintf(folder, sizeof folder, "%s", settings->db);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(folder, 0700);
        *slash = '/';
    }
}

static enum lyap_status default_database(struct lyap_settings *settings)
{
    static const struct {
        const char *variable, *below;
    } places[] = { { "STATE_DIRECTORY", "" },
                   { "XDG_STATE_HOME", "/lyapd" },
                   { "HOME", "/.local/state/lyapd" } };
    char path[LYAP_SETTING_TEXT_BYTES_MAX] = "lyapd.db";
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *folder = getenv(places[i].variable);
        if (folder && folder[0] == '/') {
            (void)snprintf(path, sizeof path, "%s%s/lyapd.db", folder, places[i].below);
            break;
        }
    }
    char *copy = lyap_alloc_string(path);
    if (!copy)
        return LYAP_E_NOMEM;
    lyap_free(settings->db);
    settings->db = copy;
    return LYAP_OK;
}

static enum lyap_status settings_check(const struct lyap_settings *settings,
                                       struct lyap_error *reterr)
{
    enum lyap_log_level level;
    if (!lyap_log_level_parse(settings->log_level, &level))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "log_level = \"%s\": must be error, warning, info or debug",
                              settings->log_level);
    if (!settings->tls_cert[0] != !settings->tls_key[0])
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "tls_cert and tls_key must be given together");
    char host[256];
    uint16_t port;
    return lyap_settings_address(settings, host, sizeof host, &port, reterr);
}

enum lyap_status lyap_settings_load(struct lyap_settings *settings, int argc, char *const *argv,
                                    struct lyap_error *reterr)
{
    enum lyap_status status = lyap_settings_init(settings);
    if (status == LYAP_OK)
        status = lyap_environment_apply("config", settings, reterr);
    if (status == LYAP_OK)
        status = lyap_args_apply(argc, argv, "config", settings, reterr);
    if (status == LYAP_OK && settings->config[0])
        status = lyap_config_apply(settings->config, settings, reterr);
    if (status == LYAP_OK)
        status = lyap_environment_apply(NULL, settings, reterr);
    if (status == LYAP_OK)
        status = lyap_args_apply(argc, argv, NULL, settings, reterr);
    if (status == LYAP_OK)
        status = settings_check(settings, reterr);
    if (status == LYAP_OK && !settings->db[0])
        status = default_database(settings);
    return status;
}

static bool field_differs(const struct row *row, const struct lyap_settings *a,
                          const struct lyap_settings *b)
{
    const void *x = field_get(a, row), *y = field_get(b, row);
    switch (row->kind) {
    case NUMBER:
        return *(const uint64_t *)x != *(const uint64_t *)y;
    case FLAG:
        return *(const bool *)x != *(const bool *)y;
    case TEXT:
        break;
    }
    return strcmp(*(char *const *)x, *(char *const *)y) != 0;
}

bool lyap_settings_reload(struct lyap_settings *settings, struct lyap_settings *fresh,
                          enum lyap_setting *ret_ignored)
{
    bool is_ignored = false;
    for (unsigned i = 0; i < LYAP_SETTING_COUNT; i++) {
        const struct row *row = &rows[i];
        if (!field_differs(row, settings, fresh))
            continue;
        if (!row->is_reloadable) {
            *ret_ignored = (enum lyap_setting)i;
            is_ignored = true;
            continue;
        }
        char kept[sizeof(uint64_t)];
        const size_t bytes = row->kind == NUMBER ? sizeof(uint64_t)
                             : row->kind == FLAG ? sizeof(bool)
                                                 : sizeof(char *);
        memcpy(kept, field_of(settings, row), bytes);
        memcpy(field_of(settings, row), field_of(fresh, row), bytes);
        memcpy(field_of(fresh, row), kept, bytes);
        settings->origin[i] = fresh->origin[i];
    }
    return is_ignored;
}

enum lyap_status lyap_settings_address(const struct lyap_settings *settings, char *ret_host,
                                       size_t host_bytes, uint16_t *ret_port,
                                       struct lyap_error *reterr)
{
    const char *listen = settings->listen, *colon = strrchr(listen, ':');
    const bool has_brackets = listen[0] == '[' && colon > listen + 2 && colon[-1] == ']';
    const size_t start = has_brackets ? 1 : 0;
    char *end = NULL;
    const unsigned long port = colon && colon[1] ? strtoul(colon + 1, &end, 10) : 65536;
    const size_t length = colon ? (size_t)(colon - listen) - 2 * start : 0;
    if (!end || *end || colon[1] == '-' || colon[1] == '+' || port > 65535 || length == 0 ||
        length >= host_bytes || (!has_brackets && memchr(listen, ':', length)))
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "listen = \"%s\": must be ADDR:PORT with a port from 0 to 65535, an "
                              "IPv6 address in brackets",
                              listen);
    memcpy(ret_host, listen + start, length);
    ret_host[length] = '\0';
    *ret_port = (uint16_t)port;
    return LYAP_OK;
}

static void value_print(const struct lyap_settings *settings, const struct row *row,
                        struct lyap_buffer *text, bool is_json)
{
    const void *field = field_get(settings, row);
    if (row->kind == NUMBER)
        lyap_buffer_add(text, "%" PRIu64, *(const uint64_t *)field);
    else if (row->kind == FLAG)
        lyap_buffer_add(text, "%s", *(const bool *)field ? "true" : "false");
    else if (is_json)
        lyap_buffer_json_string(text, *(char *const *)field);
    else
        lyap_buffer_add(text, "%s", *(char *const *)field);
}

static const char *const origins[] = { "default", "file", "environment", "flag" };

void lyap_settings_print(const struct lyap_settings *settings, struct lyap_buffer *text)
{
    for (unsigned i = 0; i < LYAP_SETTING_COUNT; i++) {
        lyap_buffer_add(text, "%s = ", rows[i].name);
        value_print(settings, &rows[i], text, false);
        lyap_buffer_add(text, " # %s\n", origins[settings->origin[i]]);
    }
}

void lyap_settings_json(const struct lyap_settings *settings, struct lyap_buffer *text)
{
    lyap_buffer_add(text, "{\"settings\":{");
    for (unsigned i = 0; i < LYAP_SETTING_COUNT; i++) {
        lyap_buffer_add(text, "%s\"%s\":{\"value\":", i ? "," : "", rows[i].name);
        value_print(settings, &rows[i], text, true);
        lyap_buffer_add(text, ",\"unit\":\"%s\",\"origin\":\"%s\",\"reloadable\":%s}", rows[i].unit,
                        origins[settings->origin[i]], rows[i].is_reloadable ? "true" : "false");
    }
    lyap_buffer_add(text, "}}");
}

void lyap_settings_help(struct lyap_buffer *text)
{
    lyap_buffer_add(text, "lyapd - monitors the stability of training runs\n\n"
                          "Usage: lyapd [--NAME VALUE | --NAME=VALUE]...\n\n"
                          "  --help           this text\n"
                          "  --version        the version\n"
                          "  --print-config   the effective settings, as a configuration file\n"
                          "  --docs configuration|rules   those tables in Markdown\n\n");
    for (unsigned i = 0; i < LYAP_SETTING_COUNT; i++)
        lyap_buffer_add(text, "  --%s %s  (default: %s)%s\n      %s\n", rows[i].name, rows[i].unit,
                        rows[i].start[0] ? rows[i].start : "empty",
                        rows[i].is_reloadable ? " [SIGHUP]" : "", rows[i].text);
    lyap_buffer_add(text,
                    "\nEach is also a line `name = value` of the configuration file and a "
                    "variable LYAPD_NAME.\nFlags win over the environment, that over the file, "
                    "that over the defaults.\n");
}

void lyap_settings_markdown(struct lyap_buffer *text)
{
    lyap_buffer_add(
        text,
        "# Configuration\n\n"
        "Written by `lyapd --docs configuration` from the table in `daemon/settings.h`.\n\n"
        "Every setting is a flag (`--name value` or `--name=value`), an environment variable "
        "(`LYAPD_NAME`)\nand a line `name = value` of the file that `--config` names, where `#` "
        "starts a comment. Flags win over the\nenvironment, the environment over the file, the "
        "file over the defaults. A value out of range stops the\nstart with a line that names "
        "setting, value, limit and origin. Bytes take the suffixes KiB, MiB, GiB, TiB.\n"
        "`lyapd --print-config` and `GET /v1/config` show what is in effect, and where it came "
        "from.\nSettings marked *reload* change with SIGHUP, the others with a restart.\n\n"
        "| setting | unit | range | default | reload | |\n|---|---|---|---|---|---|\n");
    for (unsigned i = 0; i < LYAP_SETTING_COUNT; i++) {
        const struct row *row = &rows[i];
        lyap_buffer_add(text, "| `%s` | ", row->name);
        for (const char *c = row->unit; *c; c++)
            lyap_buffer_add(text, *c == '|' ? "\\|" : "%c", *c);
        if (row->kind == NUMBER)
            lyap_buffer_add(text, " | %" PRIu64 " to %" PRIu64, row->min, row->max);
        else
            lyap_buffer_add(text, " | ");
        lyap_buffer_add(text, " | %s%s%s | %s | %s |\n", row->start[0] ? "`" : "", row->start,
                        row->start[0] ? "`" : "", row->is_reloadable ? "yes" : "", row->text);
    }
}
