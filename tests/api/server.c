/* The HTTP interface over the fake, as a process: prints its port, obeys words on standard input.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

static const char *value_of(int argc, char **argv, const char *name, const char *fallback)
{
    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return fallback;
}

static uint32_t number_of(int argc, char **argv, const char *name, const char *fallback)
{
    return (uint32_t)strtoul(value_of(argc, argv, name, fallback), NULL, 10);
}

static void obey(struct api_server *server)
{
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "reload\n") == 0) {
            struct lyap_error error = LYAP_ERROR_NULL;
            printf("%s\n", lyap_status_slug(api_reload(server, &error)));
            fflush(stdout);
        } else {
            return;
        }
    }
}

int main(int argc, char **argv)
{
    const struct api_options options = {
        .host = value_of(argc, argv, "--host", "127.0.0.1"),
        .port = (uint16_t)number_of(argc, argv, "--port", "0"),
        .token_file = value_of(argc, argv, "--tokens", NULL),
        .tls_cert_file = value_of(argc, argv, "--cert", NULL),
        .tls_key_file = value_of(argc, argv, "--key", NULL),
        .thread_count = number_of(argc, argv, "--threads", "2"),
        .connection_count_max = number_of(argc, argv, "--connections", "64"),
        .connection_memory_bytes = number_of(argc, argv, "--memory", "65536"),
        .connection_timeout_s = number_of(argc, argv, "--timeout", "20"),
        .body_bytes_max = number_of(argc, argv, "--body", "1048576"),
        .upload_seconds_max = number_of(argc, argv, "--seconds", "60"),
    };
    const bool is_engine_last = strcmp(value_of(argc, argv, "--engine", "first"), "last") == 0;
    struct lyap_error error = LYAP_ERROR_NULL;
    struct api_server *server = NULL;
    (void)signal(SIGPIPE, SIG_IGN);
    struct fake *fake = fake_new();
    const enum lyap_status status = api_new(&options, fake_ports(fake), &server, &error);
    if (status != LYAP_OK) {
        printf("error %s: %s\n", lyap_status_slug(status), lyap_error_text(&error));
    } else {
        printf("port %u\n", api_port(server));
        fflush(stdout);
        obey(server);
        api_quiesce(server);
    }
    if (!is_engine_last)
        fake_stop(fake);
    api_free(server);
    if (is_engine_last)
        fake_stop(fake);
    fake_free(fake);
    printf("stopped\n");
    return status == LYAP_OK ? 0 : 2;
}
