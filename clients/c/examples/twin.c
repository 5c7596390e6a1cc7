/* A training with a twin: how fast small perturbations of it grow (SPEC 2.5).
 *   twin http://127.0.0.1:9470 my-run 0.07 200      curvatures 1, 5, 30: stable below 2 / 30
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lyap_client.h"

enum { DIMENSIONS = 3 };
static const double curvature[DIMENSIONS] = { 1, 5, 30 };
static const double size = 1e-7, leave = 10; /* e, and how far from it a twin is moved back */

/* One step of gradient descent from w. */
static void update(double *w, double lr)
{
    for (int i = 0; i < DIMENSIONS; i++)
        w[i] -= lr * curvature[i] * w[i];
}

static double distance(const double *twin, const double *w)
{
    double sum = 0;
    for (int i = 0; i < DIMENSIONS; i++)
        sum += (twin[i] - w[i]) * (twin[i] - w[i]);
    return sqrt(sum);
}

/* y_t = log(|twin - w| / e) + what was renormalised. The whole difference is scaled: with momentum
 * or Adam's m and v, that of the optimizer's state too. */
static double twin_log(double *twin, const double *w, double *renormalised)
{
    const double length = distance(twin, w), y = log(length / size) + *renormalised;
    if (length > 0 && (length > leave * size || length < size / leave)) {
        for (int i = 0; i < DIMENSIONS; i++)
            twin[i] = w[i] + size / length * (twin[i] - w[i]);
        *renormalised += log(length / distance(twin, w));
    }
    return y;
}

static struct lyap_client *begin(int argc, char **argv)
{
    char attempt_key[64];
    struct timespec now;
    struct lyap_client *client = NULL;
    struct lyap_error err = LYAP_ERROR_NULL;
    timespec_get(&now, TIME_UTC);
    snprintf(attempt_key, sizeof attempt_key, "%lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
    const struct lyap_client_options options = {
        .url = argc > 1 ? argv[1] : "http://127.0.0.1:9470",
        .run = argc > 2 ? argv[2] : "twin",
        .declaration = "{\"optimizer\":{\"type\":\"sgd\"},\"data\":\"full-batch\"}",
        .attempt_key = attempt_key,
    };
    if (lyap_client_open(&options, &client, &err) != LYAP_OK)
        fprintf(stderr, "%s\n", lyap_error_text(&err));
    return client;
}

/* Pushes step `step`; what the daemon makes of the twin. */
static void push(struct lyap_client *client, int step, const double *w, double lr, double y)
{
    const uint64_t shape[] = { DIMENSIONS };
    double g[DIMENSIONS], loss = 0;
    for (int i = 0; i < DIMENSIONS; i++) {
        g[i] = curvature[i] * w[i];
        loss += 0.5 * g[i] * w[i];
    }
    const struct lyap_client_array arrays[] = {
        { LYAP_ROLE_PARAM, "w", LYAP_DTYPE_F64, 1, shape, w },
        { LYAP_ROLE_GRAD, "w", LYAP_DTYPE_F64, 1, shape, g },
    };
    const struct lyap_client_twin twin = { .name = "random", .log = y };
    const struct lyap_client_push snapshot = { .step = step,
                                               .has_loss = true,
                                               .loss = loss,
                                               .has_lr = true,
                                               .lr = lr,
                                               .arrays = arrays,
                                               .array_count = 2,
                                               .twins = &twin,
                                               .twin_count = 1 };
    struct lyap_client_reply reply;
    struct lyap_error err = LYAP_ERROR_NULL;
    if (lyap_client_push(client, &snapshot, &reply, &err) != LYAP_OK) {
        fprintf(stderr, "step %d is not watched: %s\n", step, lyap_error_text(&err));
        return;
    }
    const struct lyap_value *rate = &reply.point.metrics[LYAP_METRIC_TWIN_RATE];
    if (rate->reason == LYAP_REASON_NONE)
        printf("step %d: twin %s grows by %.9f a step, %s\n", step, reply.point.twin_names[0],
               rate->value, lyap_verdict_name(reply.point.verdict));
    else
        printf("step %d: no rate yet, %s\n", step, lyap_reason_name(rate->reason));
}

int main(int argc, char **argv)
{
    const double lr = argc > 3 ? strtod(argv[3], NULL) : 0.07;
    const long steps = argc > 4 ? strtol(argv[4], NULL, 10) : 200;
    double w[DIMENSIONS] = { 1, 1, 0 }, twin[DIMENSIONS], renormalised = 0;
    struct lyap_error err = LYAP_ERROR_NULL;
    struct lyap_client *client = begin(argc, argv);
    if (!client)
        return EXIT_FAILURE;
    for (int i = 0; i < DIMENSIONS; i++)
        twin[i] = w[i] + size / sqrt(DIMENSIONS); /* any direction of length e */
    for (int step = 0; step < steps; step++) {
        const double y = twin_log(twin, w, &renormalised);
        push(client, step, w, lr, step == 0 ? 0 : y); /* exactly 0: injected here */
        update(w, lr);
        update(twin, lr); /* the same batch, rate and random numbers */
    }
    if (lyap_client_end(client, &err) != LYAP_OK)
        fprintf(stderr, "%s\n", lyap_error_text(&err));
    lyap_client_close(client);
    return EXIT_SUCCESS;
}
