/* Active curvature pairs. */
#include "probe.h"

#include <math.h>
#include <stdlib.h>

/* |s| / |theta|: in single precision 1e-5 to 1e-3 give the same curvature (SPEC 2.3). */
static const double relative_step = 1e-4;

static double norm(const float *x, uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += (double)x[i] * x[i];
    return sqrt(sum);
}

bool probe_init(struct probe *probe, struct mlp *model, const float *inputs, const uint8_t *labels,
                uint32_t count, uint64_t seed)
{
    const size_t bytes = model->count * sizeof(float);
    *probe = (struct probe){ .model = model, .inputs = inputs, .labels = labels, .count = count };
    float **const vectors[] = { &probe->direction, &probe->moved, &probe->grad, &probe->pair_s,
                                &probe->pair_y };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        *vectors[i] = malloc(bytes);
        if (!*vectors[i]) {
            probe_release(probe);
            return false;
        }
    }
    for (uint64_t i = 0; i < model->count; i++)
        probe->direction[i] = (float)random_normal(&seed);
    const double length = norm(probe->direction, model->count);
    for (uint64_t i = 0; i < model->count; i++)
        probe->direction[i] = (float)(probe->direction[i] / length);
    return true;
}

void probe_release(struct probe *probe)
{
    free(probe->direction);
    free(probe->moved);
    free(probe->grad);
    free(probe->pair_s);
    free(probe->pair_y);
    *probe = (struct probe){ 0 };
}

void probe_measure(struct probe *probe, const float *params)
{
    const uint64_t count = probe->model->count;
    const double step = relative_step * norm(params, count);
    for (uint64_t i = 0; i < count; i++) {
        probe->moved[i] = (float)(params[i] + step * probe->direction[i]);
        probe->pair_s[i] = probe->moved[i] - params[i]; /* what rounding left of s */
    }
    probe->loss =
        mlp_loss(probe->model, params, probe->inputs, probe->labels, probe->count, probe->grad);
    mlp_loss(probe->model, probe->moved, probe->inputs, probe->labels, probe->count, probe->pair_y);
    for (uint64_t i = 0; i < count; i++)
        probe->pair_y[i] -= probe->grad[i];
    const double length = norm(probe->pair_y, count);
    if (!(length > 0) || !isfinite(length))
        return; /* nothing learnt: keep the direction */
    for (uint64_t i = 0; i < count; i++)
        probe->direction[i] = (float)(probe->pair_y[i] / length);
}
