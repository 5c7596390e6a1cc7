/* A program of somebody else's, built against the installed libraries alone. */
#include <stdio.h>

#include <lyap/alloc.h>
#include <lyap/metric.h>
#include <lyap/wire.h>
#include <lyap_client.h>

int main(void)
{
    struct lyap_declaration declaration;
    struct lyap_client *client = NULL;
    struct lyap_error err = LYAP_ERROR_NULL;
    const struct lyap_client_options options = { .url = "nowhere", .run = "r" };
    static const char json[] = "{\"optimizer\":{\"type\":\"sgd\"}}";
    char *canonical = NULL;
    if (lyap_wire_declaration(json, sizeof json - 1, NULL, &declaration, &canonical, &err) !=
        LYAP_OK)
        return 1;
    lyap_free(canonical);
    lyap_declaration_release(&declaration);
    if (lyap_client_open(&options, &client, &err) != LYAP_E_INVALID)
        return 2;
    printf("%s: %s\n", lyap_metric_info(LYAP_METRIC_STABILITY_RATIO)->name, lyap_error_text(&err));
    return 0;
}
