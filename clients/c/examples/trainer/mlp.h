/* mlp.h - a multi-layer perceptron: tanh layers, softmax cross-entropy, in single precision. All
 * parameters lie in one vector, gradients in another of the same layout. THREADS: one owner each.
 */
#ifndef TRAINER_MLP_H
#define TRAINER_MLP_H

#include <stdbool.h>
#include <stdint.h>

enum { MLP_LAYERS_MAX = 8 };

struct mlp {
    uint32_t layer_count;
    uint32_t width[MLP_LAYERS_MAX + 1]; /* inputs, hidden layers, classes */
    uint64_t weight_at[MLP_LAYERS_MAX]; /* layer l: width[l+1] x width[l], row-major */
    uint64_t bias_at[MLP_LAYERS_MAX];   /* width[l+1] */
    uint64_t count;                     /* parameters in all */
    uint32_t batch_max;
    float *outputs[MLP_LAYERS_MAX]; /* owned; batch_max x width[l+1]: what layer l puts out */
    float *deltas[MLP_LAYERS_MAX];  /* owned; dLoss / d(pre-activation) of layer l */
};

/* False without memory. */
bool mlp_init(struct mlp *mlp, const uint32_t *widths, uint32_t width_count, uint32_t batch_max);
void mlp_release(struct mlp *mlp);
/* Normal weights of variance 1 / inputs, zero biases; the same seed gives the same model. */
void mlp_start(const struct mlp *mlp, uint64_t seed, float *ret_params);
/* Mean loss over `count` samples (at most batch_max); `ret_grad` may be NULL. */
double mlp_loss(struct mlp *mlp, const float *params, const float *inputs, const uint8_t *labels,
                uint32_t count, float *ret_grad);
/* Share of samples whose largest output is their label. */
double mlp_accuracy(struct mlp *mlp, const float *params, const float *inputs,
                    const uint8_t *labels, uint32_t count);

/* SplitMix64: the next number of a stream, and a normal one. */
uint64_t random_u64(uint64_t *state);
double random_normal(uint64_t *state);

#endif
