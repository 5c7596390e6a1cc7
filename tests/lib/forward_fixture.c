/* A profile of declared layers, fed with exact sums. */
#include "forward_fixture.h"

#include <math.h>

struct test_network net;
struct lyap_declaration declaration;
struct lyap_profile *profile;
struct lyap_partial partial;
struct lyap_point point;
double weights[FORWARD_LAYERS_MAX][FORWARD_WIDTH_MAX * FORWARD_WIDTH_MAX];
double moved_sq, input_diff_sq = NAN;

void forward_forget(void)
{
    moved_sq = 0;
    input_diff_sq = NAN;
    lyap_profile_free(profile);
    profile = NULL;
    lyap_partial_release(&partial);
    lyap_declaration_release(&declaration);
    test_network_release(&net);
}

void forward_teardown(void)
{
    forward_forget();
    ck_assert_int_eq(test_alloc_live(), 0);
}

void forward_begin(void)
{
    test_network_build(&net);
    lyap_declaration_init(&declaration);
    declaration.network = net.network;
    declaration.set = net.set;
    net.network = (struct lyap_network)LYAP_NETWORK_NULL;
    net.set = (struct lyap_tensor_set)LYAP_TENSOR_SET_NULL;
    ck_assert_int_eq(lyap_profile_new(&declaration, NAN, &profile), LYAP_OK);
    ck_assert_int_eq(lyap_partial_init(&partial, declaration.set.count, LYAP_SKETCH_SIZE), LYAP_OK);
}

void forward_put(enum lyap_reduce row, uint32_t tensor, double value)
{
    lyap_partial_row(&partial, row)[tensor] = value;
}

double forward_norm(const double *values, uint32_t rows, uint32_t cols)
{
    double norm;
    const struct lyap_spectral_matrix w = { values, rows, cols };
    ck_assert_int_eq(lyap_spectral_norm(&w, &norm), LYAP_OK);
    return norm;
}

/* One step on the weights. */
const struct lyap_layer_row *forward_step(int64_t at)
{
    struct lyap_snapshot snapshot;
    lyap_snapshot_init(&snapshot);
    snapshot.step = at;
    snapshot.loss = 1;
    snapshot.present = 1u << LYAP_META_STEP | 1u << LYAP_META_LOSS;
    if (!isnan(input_diff_sq)) {
        snapshot.act_input_diff_sq = input_diff_sq;
        snapshot.present |= 1u << LYAP_META_ACT_INPUT_DIFF_SQ;
    }
    for (uint32_t i = 0; i < declaration.set.count; i++) {
        const struct lyap_tensor *tensor = &declaration.set.tensors[i];
        double square = 0, largest = 0, upper;
        for (uint64_t j = 0; j < tensor->count; j++) {
            square += weights[i][j] * weights[i][j];
            largest = fmax(largest, fabs(weights[i][j]));
        }
        for (unsigned m = 0; m < LYAP_MOMENT_ROWS; m++) {
            forward_put((enum lyap_reduce)(LYAP_REDUCE_PARAM_COUNT + m), i, 0);
            forward_put((enum lyap_reduce)(LYAP_REDUCE_GRAD_COUNT + m), i, 0);
            forward_put((enum lyap_reduce)(LYAP_REDUCE_DELTA_COUNT + m), i, 0);
        }
        forward_put(LYAP_REDUCE_DELTA_SQ, i, moved_sq);
        forward_put(LYAP_REDUCE_PARAM_COUNT, i, (double)tensor->count);
        forward_put(LYAP_REDUCE_PARAM_SQ, i, square);
        forward_put(LYAP_REDUCE_PARAM_MAX, i, largest);
        if (tensor->rank == 2) {
            const struct lyap_spectral_matrix w = { weights[i], (uint32_t)tensor->shape[0],
                                                    (uint32_t)tensor->shape[1] };
            ck_assert_int_eq(lyap_spectral_gram_upper(&w, LYAP_SPECTRAL_SQUARINGS, NULL, &upper),
                             LYAP_OK);
            forward_put(LYAP_REDUCE_SPECTRAL_UPPER, i, upper);
        }
    }
    forward_put(LYAP_REDUCE_GRAD_SQ, 0, 1);
    partial.delta_unit = 0x1p-53;
    ck_assert_int_eq(
        lyap_profile_step(profile, &snapshot, &partial, LYAP_REASON_NONE, &point, NULL), LYAP_OK);
    uint32_t count;
    int64_t newest;
    const struct lyap_layer_row *rows = lyap_profile_layers(profile, &count, &newest);
    ck_assert_uint_eq(count, declaration.network.count);
    ck_assert_int_eq(newest, at);
    return rows;
}

/* What the worker would bring for the step that was just made. */
void forward_work(void)
{
    struct lyap_layer_job *job;
    ck_assert_int_eq(lyap_profile_layer_job(profile, 1, &job), LYAP_OK);
    ck_assert_ptr_nonnull(job);
    for (uint32_t i = 0; i < job->count; i++) {
        struct lyap_layer_task *task = &job->tasks[i];
        struct lyap_layer_values values = { { NULL } };
        for (int part = 0; part < LYAP_LAYER_PARTS; part++) {
            const int32_t tensor = declaration.network.layers[task->layer].index[part];
            values.parts[part] = tensor < 0 ? NULL : weights[tensor];
        }
        ck_assert_int_eq(lyap_layer_task_bound(task, &declaration, &values), LYAP_OK);
    }
    lyap_profile_layer_result(profile, job);
    lyap_layer_job_free(job);
}

double forward_value(const struct lyap_layer_row *row, enum lyap_layer_metric metric)
{
    ck_assert_msg(row->values[metric].reason == LYAP_REASON_NONE, "%s: %s",
                  lyap_layer_metric_name(metric),
                  lyap_reason_name((enum lyap_reason)row->values[metric].reason));
    return row->values[metric].value;
}

double forward_metric(enum lyap_metric metric)
{
    ck_assert_msg(point.metrics[metric].reason == LYAP_REASON_NONE, "%s",
                  lyap_reason_name((enum lyap_reason)point.metrics[metric].reason));
    return point.metrics[metric].value;
}

struct lyap_layer forward_layer(enum lyap_layer_kind kind, enum lyap_activation activation)
{
    struct lyap_layer layer = test_network_layer(kind);
    layer.activation =
        (struct lyap_layer_activation){ lyap_activation_lipschitz(activation), activation, true,
                                        lyap_activation_is_gate(activation) };
    return layer;
}
