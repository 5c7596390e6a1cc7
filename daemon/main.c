/* lyapd: monitors the stability of training runs. */
#include <stdio.h>
#include <stdlib.h>

#include "daemon.h"

static int fail(const struct lyap_error *error)
{
    (void)fprintf(stderr, "lyapd: %s\n", lyap_error_text(error));
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct lyap_daemon daemon = { .argc = argc, .argv = argv };
    struct lyap_error error = LYAP_ERROR_NULL;
    enum lyap_mode mode;
    if (lyap_args_mode(argc, argv, &mode, &error) != LYAP_OK)
        return fail(&error);
    if (mode != LYAP_MODE_SERVE && mode != LYAP_MODE_PRINT_CONFIG)
        return lyap_daemon_print(&daemon, mode) ? EXIT_SUCCESS : EXIT_FAILURE;
    enum lyap_status status = lyap_settings_load(&daemon.settings, argc, argv, &error);
    if (status == LYAP_OK && mode == LYAP_MODE_PRINT_CONFIG)
        status = lyap_daemon_print(&daemon, mode) ? LYAP_OK : LYAP_E_IO;
    if (status == LYAP_OK && mode == LYAP_MODE_SERVE) {
        status = lyap_daemon_signals(&error);
        if (status == LYAP_OK)
            status = lyap_daemon_open(&daemon, &error);
        if (status == LYAP_OK)
            lyap_daemon_wait(&daemon);
    }
    lyap_daemon_close(&daemon);
    return status == LYAP_OK ? EXIT_SUCCESS : fail(&error);
}
