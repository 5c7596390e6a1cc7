/* Pushes activations of two layers for three steps: layers_job URL RUN full|partial. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap_client.h"

enum { SAMPLES = 3, INPUT = 2, OUTPUT = 4 };

/* Numbers that tests/clients/test_c_layers.py makes too. */
static void fill(double *x, int count, int seed)
{
    for (int i = 0; i < count; i++)
        x[i] = (double)((i * 37 + seed * 101) % 97) / 97 - 0.5;
}

static struct lyap_client_array act(enum lyap_role role, const char *name, const uint64_t *shape,
                                    const double *data)
{
    return (struct lyap_client_array){ role, name, LYAP_DTYPE_F64, 2, shape, data };
}

int main(int argc, char **argv)
{
    static double w[OUTPUT * INPUT], g[OUTPUT * INPUT], x[2][SAMPLES * INPUT],
        y[2][SAMPLES * OUTPUT], gate[SAMPLES * OUTPUT];
    const uint64_t weight[] = { OUTPUT, INPUT }, inputs[] = { SAMPLES, INPUT },
                   outputs[] = { SAMPLES, OUTPUT };
    struct lyap_client *client = NULL;
    struct lyap_error err = LYAP_ERROR_NULL;
    const struct lyap_client_options options = {
        .url = argv[1],
        .run = argv[2],
        .declaration = "{\"optimizer\":{\"type\":\"sgd\"},\"layers\":[{\"name\":\"fc\",\"kind\":"
                       "\"linear\",\"tensor\":\"w\",\"activation\":\"tanh\"},{\"name\":\"end\","
                       "\"kind\":\"activation\",\"activation\":\"relu\"}]}",
        .grade =
            argc > 3 && strcmp(argv[3], "partial") == 0 ? LYAP_CLIENT_PARTIAL : LYAP_CLIENT_FULL,
    };
    if (argc < 4 || lyap_client_open(&options, &client, &err) != LYAP_OK) {
        fprintf(stderr, "%s\n", lyap_error_text(&err));
        return EXIT_FAILURE;
    }
    for (int step = 0; step < 3; step++) {
        fill(w, OUTPUT * INPUT, step);
        fill(g, OUTPUT * INPUT, step + 10);
        for (int i = 0; i < 2; i++) {
            fill(x[i], SAMPLES * INPUT, step + 20 + i);
            fill(y[i], SAMPLES * OUTPUT, step + 30 + 3 * i);
        }
        const struct lyap_client_array arrays[] = {
            act(LYAP_ROLE_PARAM, "w", weight, w),
            act(LYAP_ROLE_GRAD, "w", weight, g),
            act(LYAP_ROLE_ACT, "input", inputs, x[0]),
            act(LYAP_ROLE_ACT_PERTURBED, "input", inputs, x[1]),
            act(LYAP_ROLE_ACT, "fc", outputs, y[0]),
            act(LYAP_ROLE_ACT_PERTURBED, "fc", outputs, y[1]),
            act(LYAP_ROLE_GATE, "end", outputs, gate),
        };
        const struct lyap_client_push push = { .step = step,
                                               .has_loss = true,
                                               .loss = 1,
                                               .has_lr = true,
                                               .lr = 0.1,
                                               .arrays = arrays,
                                               .array_count = sizeof arrays / sizeof *arrays };
        if (lyap_client_push(client, &push, NULL, &err) != LYAP_OK) {
            fprintf(stderr, "step %d: %s\n", step, lyap_error_text(&err));
            return EXIT_FAILURE;
        }
    }
    lyap_client_close(client);
    return EXIT_SUCCESS;
}
