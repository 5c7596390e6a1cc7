/* Forward and backward passes on BLAS. */
#include "mlp.h"

#include <assert.h>
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t random_u64(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static double random_uniform(uint64_t *state)
{
    return ((double)(random_u64(state) >> 11) + 0.5) / 9007199254740992.0;
}

double random_normal(uint64_t *state)
{
    const double a = random_uniform(state), b = random_uniform(state);
    return sqrt(-2.0 * log(a)) * cos(2.0 * 3.14159265358979323846 * b);
}

bool mlp_init(struct mlp *mlp, const uint32_t *widths, uint32_t width_count, uint32_t batch_max)
{
    assert(width_count >= 2 && width_count <= MLP_LAYERS_MAX + 1);
    bool is_ok = true;
    *mlp = (struct mlp){ .layer_count = width_count - 1, .batch_max = batch_max };
    memcpy(mlp->width, widths, width_count * sizeof *widths);
    for (uint32_t l = 0; l < mlp->layer_count; l++) {
        const size_t outputs = (size_t)batch_max * widths[l + 1];
        mlp->weight_at[l] = mlp->count;
        mlp->bias_at[l] = mlp->count + (uint64_t)widths[l + 1] * widths[l];
        mlp->count = mlp->bias_at[l] + widths[l + 1];
        mlp->outputs[l] = malloc(outputs * sizeof(float));
        mlp->deltas[l] = malloc(outputs * sizeof(float));
        is_ok = is_ok && mlp->outputs[l] && mlp->deltas[l];
    }
    if (!is_ok)
        mlp_release(mlp);
    return is_ok;
}

void mlp_release(struct mlp *mlp)
{
    for (uint32_t l = 0; l < MLP_LAYERS_MAX; l++) {
        free(mlp->outputs[l]);
        free(mlp->deltas[l]);
    }
    *mlp = (struct mlp){ 0 };
}

void mlp_start(const struct mlp *mlp, uint64_t seed, float *ret_params)
{
    memset(ret_params, 0, mlp->count * sizeof *ret_params);
    for (uint32_t l = 0; l < mlp->layer_count; l++) {
        const double deviation = 1.0 / sqrt(mlp->width[l]);
        for (uint64_t i = mlp->weight_at[l]; i < mlp->bias_at[l]; i++)
            ret_params[i] = (float)(deviation * random_normal(&seed));
    }
}

/* Z = X W' + b, then tanh except in the last layer. */
static void forward(struct mlp *mlp, const float *params, const float *inputs, uint32_t count)
{
    const float *x = inputs;
    for (uint32_t l = 0; l < mlp->layer_count; l++) {
        const int in = (int)mlp->width[l], out = (int)mlp->width[l + 1];
        float *z = mlp->outputs[l];
        for (uint32_t i = 0; i < count; i++)
            memcpy(z + (size_t)i * mlp->width[l + 1], params + mlp->bias_at[l],
                   (size_t)out * sizeof *z);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)count, out, in, 1.0f, x, in,
                    params + mlp->weight_at[l], in, 1.0f, z, out);
        if (l + 1 < mlp->layer_count)
            for (size_t i = 0; i < (size_t)count * mlp->width[l + 1]; i++)
                z[i] = tanhf(z[i]);
        x = z;
    }
}

/* Loss of one row of logits; its delta is (softmax - one-hot) / count. */
static double cross_entropy(const float *logits, uint32_t classes, uint32_t label, double count,
                            float *ret_delta)
{
    double top = logits[0], sum = 0;
    for (uint32_t c = 1; c < classes; c++)
        top = logits[c] > top ? logits[c] : top;
    for (uint32_t c = 0; c < classes; c++)
        sum += exp(logits[c] - top);
    for (uint32_t c = 0; c < classes; c++)
        ret_delta[c] = (float)((exp(logits[c] - top) / sum - (c == label)) / count);
    return log(sum) + top - logits[label];
}

/* dW = delta' X, db = column sums of delta, and delta of the layer below. */
static void backward(struct mlp *mlp, const float *params, const float *inputs, uint32_t count,
                     float *ret_grad)
{
    for (uint32_t l = mlp->layer_count; l-- > 0;) {
        const int in = (int)mlp->width[l], out = (int)mlp->width[l + 1];
        const float *x = l > 0 ? mlp->outputs[l - 1] : inputs, *delta = mlp->deltas[l];
        float *bias = ret_grad + mlp->bias_at[l];
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, out, in, (int)count, 1.0f, delta, out,
                    x, in, 0.0f, ret_grad + mlp->weight_at[l], in);
        for (int c = 0; c < out; c++) {
            double sum = 0;
            for (uint32_t i = 0; i < count; i++)
                sum += delta[(size_t)i * (size_t)out + (size_t)c];
            bias[c] = (float)sum;
        }
        if (l == 0)
            break;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)count, in, out, 1.0f, delta,
                    out, params + mlp->weight_at[l], in, 0.0f, mlp->deltas[l - 1], in);
        for (size_t i = 0; i < (size_t)count * (size_t)in; i++)
            mlp->deltas[l - 1][i] *= 1.0f - x[i] * x[i];
    }
}

double mlp_loss(struct mlp *mlp, const float *params, const float *inputs, const uint8_t *labels,
                uint32_t count, float *ret_grad)
{
    assert(count > 0 && count <= mlp->batch_max);
    const uint32_t last = mlp->layer_count - 1, classes = mlp->width[mlp->layer_count];
    double sum = 0;
    forward(mlp, params, inputs, count);
    for (uint32_t i = 0; i < count; i++)
        sum += cross_entropy(mlp->outputs[last] + (size_t)i * classes, classes, labels[i], count,
                             mlp->deltas[last] + (size_t)i * classes);
    if (ret_grad)
        backward(mlp, params, inputs, count, ret_grad);
    return sum / count;
}

double mlp_accuracy(struct mlp *mlp, const float *params, const float *inputs,
                    const uint8_t *labels, uint32_t count)
{
    const uint32_t classes = mlp->width[mlp->layer_count];
    uint32_t right = 0;
    forward(mlp, params, inputs, count);
    for (uint32_t i = 0; i < count; i++) {
        const float *logits = mlp->outputs[mlp->layer_count - 1] + (size_t)i * classes;
        uint32_t best = 0;
        for (uint32_t c = 1; c < classes; c++)
            best = logits[c] > logits[best] ? c : best;
        right += best == labels[i];
    }
    return (double)right / count;
}
