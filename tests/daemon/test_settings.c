/* The table of settings: precedence, limits, messages, reload. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "settings.h"
#include "support.h"

static char file[] = "/tmp/lyapd-settings-XXXXXX";

static void write_file(const char *text)
{
    FILE *out = fopen(file, "w");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_ge(fputs(text, out), 0);
    ck_assert_int_eq(fclose(out), 0);
}

static enum lyap_status load(struct lyap_settings *settings, struct lyap_error *error, int argc,
                             const char *const *argv)
{
    char *words[16];
    for (int i = 0; i < argc; i++)
        words[i] = (char *)argv[i];
    *error = (struct lyap_error)LYAP_ERROR_NULL;
    return lyap_settings_load(settings, argc, words, error);
}
#define LOAD(settings, error, ...)                                                                 \
    load(settings, error, sizeof((const char *const[]){ "lyapd", __VA_ARGS__ }) / sizeof(char *),  \
         (const char *const[]){ "lyapd", __VA_ARGS__ })

START_TEST(defaults_hold)
{
    struct lyap_settings settings;
    struct lyap_error error;
    ck_assert_int_eq(LOAD(&settings, &error, "--db", "x.db"), LYAP_OK);
    ck_assert_str_eq(settings.listen, "127.0.0.1:9470");
    ck_assert_uint_eq(settings.retention_memory, UINT64_C(2) << 30);
    ck_assert_uint_eq(settings.rank_deadline_s, 60);
    ck_assert(!settings.network_fs);
    lyap_settings_release(&settings);
}
END_TEST

START_TEST(flags_beat_environment_beats_file)
{
    struct lyap_settings settings;
    struct lyap_error error;
    write_file("# a comment\n\n queue_length = 10 # why\nbatch_ms=11\nprune_days = 12\n");
    setenv("LYAPD_BATCH_MS", "21", 1);
    setenv("LYAPD_PRUNE_DAYS", "22", 1);
    ck_assert_int_eq(LOAD(&settings, &error, "--config", file, "--prune-days=32", "--network_fs"),
                     LYAP_OK);
    ck_assert_uint_eq(settings.queue_length, 10);
    ck_assert_uint_eq(settings.batch_ms, 21);
    ck_assert_uint_eq(settings.prune_days, 32);
    ck_assert(settings.network_fs);
    ck_assert_int_eq(settings.origin[LYAP_SETTING_queue_length], LYAP_ORIGIN_FILE);
    ck_assert_int_eq(settings.origin[LYAP_SETTING_batch_ms], LYAP_ORIGIN_ENVIRONMENT);
    ck_assert_int_eq(settings.origin[LYAP_SETTING_prune_days], LYAP_ORIGIN_FLAG);
    unsetenv("LYAPD_BATCH_MS");
    unsetenv("LYAPD_PRUNE_DAYS");
    lyap_settings_release(&settings);
}
END_TEST

/* Text of the file, flag, and what the message must name. */
static const struct {
    const char *text, *flag, *value, *expected;
} refusals[] = {
    { "", "--queue_length", "0", "queue_length = \"0\" (command line)" },
    { "", "--queue_length", "0", "from 1 to 1000000" },
    { "", "--queue_length", "-1", "whole number" },
    { "", "--queue_length", "1e3", "whole number" },
    { "", "--queue_length", "5KiB", "whole number" },
    { "", "--queue_length", "99999999999999999999", "whole number" },
    { "", "--body_bytes_max", "16777216TiB", "whole number" },
    { "", "--batch_ms", "1001", "to 1000" },
    { "", "--listen", "localhost", "ADDR:PORT" },
    { "", "--listen", "127.0.0.1:70000", "ADDR:PORT" },
    { "", "--listen", "::1:9470", "brackets" },
    { "", "--log_level", "loud", "error, warning, info or debug" },
    { "", "--tls_cert", "x.pem", "together" },
    { "", "--network_fs", "maybe", "true or false" },
    { "", "--no_such", "1", "\"no_such\" (command line) is no setting" },
    { "queue_length = 0\n", "--db", "x", "line 1" },
    { "\n\nnonsense\n", "--db", "x", "line 3" },
    { "colour = red\n", "--db", "x", "\"colour\"" },
    { "config = other\n", "--db", "x", "cannot be set" },
};

START_TEST(a_refusal_names_setting_value_limit_and_origin)
{
    struct lyap_settings settings;
    struct lyap_error error;
    write_file(refusals[_i].text);
    ck_assert_int_ne(
        LOAD(&settings, &error, "--config", file, refusals[_i].flag, refusals[_i].value), LYAP_OK);
    ck_assert_msg(strstr(error.text, refusals[_i].expected), "\"%s\" lacks \"%s\"", error.text,
                  refusals[_i].expected);
    lyap_settings_release(&settings);
}
END_TEST

START_TEST(a_weaker_origin_is_checked_all_the_same)
{
    struct lyap_settings settings;
    struct lyap_error error;
    setenv("LYAPD_BATCH_MS", "nonsense", 1);
    ck_assert_int_eq(LOAD(&settings, &error, "--batch_ms", "5"), LYAP_E_INVALID);
    ck_assert_ptr_nonnull(strstr(error.text, "LYAPD_BATCH_MS"));
    unsetenv("LYAPD_BATCH_MS");
    lyap_settings_release(&settings);
}
END_TEST

START_TEST(bytes_take_suffixes)
{
    struct lyap_settings settings;
    struct lyap_error error;
    ck_assert_int_eq(LOAD(&settings, &error, "--retention_memory=3GiB", "--body-bytes-max", "7K"),
                     LYAP_OK);
    ck_assert_uint_eq(settings.retention_memory, UINT64_C(3) << 30);
    ck_assert_uint_eq(settings.body_bytes_max, 7 << 10);
    lyap_settings_release(&settings);
}
END_TEST

static const struct {
    const char *listen, *host;
    uint16_t port;
} addresses[] = { { "127.0.0.1:0", "127.0.0.1", 0 },
                  { "[::1]:9470", "::1", 9470 },
                  { "localhost:65535", "localhost", 65535 } };

START_TEST(addresses_split)
{
    struct lyap_settings settings;
    struct lyap_error error;
    char host[64];
    uint16_t port = 1;
    ck_assert_int_eq(LOAD(&settings, &error, "--listen", addresses[_i].listen), LYAP_OK);
    ck_assert_int_eq(lyap_settings_address(&settings, host, sizeof host, &port, NULL), LYAP_OK);
    ck_assert_str_eq(host, addresses[_i].host);
    ck_assert_uint_eq(port, addresses[_i].port);
    lyap_settings_release(&settings);
}
END_TEST

START_TEST(reload_takes_what_is_reloadable)
{
    struct lyap_settings settings, fresh;
    struct lyap_error error;
    enum lyap_setting ignored;
    ck_assert_int_eq(LOAD(&settings, &error, "--batch_ms=5", "--log_level=info"), LYAP_OK);
    ck_assert_int_eq(LOAD(&fresh, &error, "--batch_ms=6", "--log_level=debug"), LYAP_OK);
    ck_assert(!lyap_settings_reload(&settings, &fresh, &ignored));
    ck_assert_uint_eq(settings.batch_ms, 6);
    ck_assert_str_eq(settings.log_level, "debug");
    lyap_settings_release(&fresh);
    ck_assert_int_eq(LOAD(&fresh, &error, "--threads=3"), LYAP_OK);
    ck_assert(lyap_settings_reload(&settings, &fresh, &ignored));
    ck_assert_int_eq(ignored, LYAP_SETTING_threads);
    ck_assert_uint_eq(settings.threads, 0);
    lyap_settings_release(&fresh);
    lyap_settings_release(&settings);
}
END_TEST

START_TEST(what_is_printed_reads_back)
{
    struct lyap_settings settings, again;
    struct lyap_error error;
    struct lyap_buffer text = LYAP_BUFFER_NULL;
    ck_assert_int_eq(LOAD(&settings, &error, "--batch_ms=7", "--db", "a#b.db"), LYAP_OK);
    lyap_settings_print(&settings, &text);
    char *printed = lyap_buffer_detach(&text);
    char *config = strstr(printed, "config =");
    ck_assert_ptr_nonnull(config);
    config[0] = '#';
    write_file(printed);
    ck_assert_int_eq(LOAD(&again, &error, "--config", file), LYAP_OK);
    ck_assert_uint_eq(again.batch_ms, 7);
    ck_assert_str_eq(again.db, "a#b.db");
    free(printed);
    lyap_settings_release(&settings);
    lyap_settings_release(&again);
}
END_TEST

START_TEST(memory_may_end_anywhere)
{
    struct lyap_settings settings;
    struct lyap_error error;
    test_alloc_install();
    for (uint64_t n = 1;; n++) {
        test_alloc_fail_at(n);
        const enum lyap_status status = LOAD(&settings, &error, "--db", "y.db", "--batch_ms=9");
        const bool is_over = status == LYAP_OK;
        ck_assert(is_over || status == LYAP_E_NOMEM);
        lyap_settings_release(&settings);
        ck_assert_int_eq(test_alloc_live(), 0);
        if (is_over)
            break;
    }
    test_alloc_fail_at(0);
}
END_TEST

int main(void)
{
    const int descriptor = mkstemp(file);
    if (descriptor < 0)
        return EXIT_FAILURE;
    close(descriptor);
    Suite *suite = suite_create("settings");
    TCase *tests = tcase_create("settings");
    tcase_add_test(tests, defaults_hold);
    tcase_add_test(tests, flags_beat_environment_beats_file);
    tcase_add_loop_test(tests, a_refusal_names_setting_value_limit_and_origin, 0,
                        sizeof refusals / sizeof *refusals);
    tcase_add_test(tests, a_weaker_origin_is_checked_all_the_same);
    tcase_add_test(tests, bytes_take_suffixes);
    tcase_add_loop_test(tests, addresses_split, 0, sizeof addresses / sizeof *addresses);
    tcase_add_test(tests, reload_takes_what_is_reloadable);
    tcase_add_test(tests, what_is_printed_reads_back);
    tcase_add_test(tests, memory_may_end_anywhere);
    suite_add_tcase(suite, tests);
    const int result = test_main(suite);
    unlink(file);
    return result;
}
