/* The least a job needs: gradient descent on a quadratic, watched by lyapd.
 *   minimal http://127.0.0.1:9470 my-run 0.05        stable below a learning rate of 2 / 30
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lyap_client.h"

enum { DIMENSIONS = 3, STEPS = 50 };

int main(int argc, char **argv)
{
    const double curvature[DIMENSIONS] = { 1, 5, 30 };
    const uint64_t shape[] = { DIMENSIONS };
    const double lr = argc > 3 ? strtod(argv[3], NULL) : 0.05;
    double w[DIMENSIONS] = { 1, 1, 1 }, g[DIMENSIONS];
    char attempt_key[64]; /* differs at each start: steps count from 0 in an attempt of their own */
    struct lyap_client *client;
    struct lyap_error err = LYAP_ERROR_NULL;
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    snprintf(attempt_key, sizeof attempt_key, "%lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
    const struct lyap_client_options options = {
        .url = argc > 1 ? argv[1] : "http://127.0.0.1:9470",
        .run = argc > 2 ? argv[2] : "quadratic",
        .declaration = "{\"optimizer\":{\"type\":\"sgd\"},\"data\":\"full-batch\"}",
        .attempt_key = attempt_key,
    };
    if (lyap_client_open(&options, &client, &err) != LYAP_OK) {
        fprintf(stderr, "%s\n", lyap_error_text(&err));
        return EXIT_FAILURE;
    }
    for (int step = 0; step < STEPS; step++) {
        double loss = 0;
        for (int i = 0; i < DIMENSIONS; i++) {
            g[i] = curvature[i] * w[i];
            loss += 0.5 * curvature[i] * w[i] * w[i];
        }
        const struct lyap_client_array arrays[] = {
            { LYAP_ROLE_PARAM, "w", LYAP_DTYPE_F64, 1, shape, w },
            { LYAP_ROLE_GRAD, "w", LYAP_DTYPE_F64, 1, shape, g },
        };
        const struct lyap_client_push push = { .step = step,
                                               .has_loss = true,
                                               .loss = loss,
                                               .has_lr = true,
                                               .lr = lr,
                                               .arrays = arrays,
                                               .array_count = 2 };
        struct lyap_client_reply reply;
        err = (struct lyap_error)LYAP_ERROR_NULL; /* it keeps the first error it is given */
        if (lyap_client_push(client, &push, &reply, &err) == LYAP_OK)
            printf("step %d: loss %.4g, %s, advice: %s\n", step, loss,
                   lyap_run_state_name(reply.point.state),
                   lyap_action_name(reply.point.action.kind));
        else
            fprintf(stderr, "step %d is not watched: %s\n", step, lyap_error_text(&err));
        for (int i = 0; i < DIMENSIONS; i++)
            w[i] -= lr * g[i];
    }
    if (lyap_client_end(client, &err) != LYAP_OK)
        fprintf(stderr, "%s\n", lyap_error_text(&err));
    lyap_client_close(client);
    return EXIT_SUCCESS;
}
