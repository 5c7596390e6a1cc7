/* A network that learns handwritten digits and asks lyapd about every step: a real job for lyapd's
 * C client, with a fault (a learning rate that is too large) on demand. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint.h"
#include "data.h"
#include "lyap_client.h"
#include "mlp.h"
#include "options.h"
#include "probe.h"
#include "report.h"

enum {
    HIDDEN = 64,
    LAYERS = 3,
    TENSORS = 2 * LAYERS,
    ROLES_MAX = 5, /* param, grad, probe_grad, pair_s, pair_y */
    PROBE_SAMPLES = 256,
    TEST_SAMPLES = 297, /* the last ones are never trained on: 1500 remain */
    CHECKPOINT_EVERY = 20
};

static const char *const tensor_names[TENSORS] = { "fc1.weight", "fc1.bias",   "fc2.weight",
                                                   "fc2.bias",   "fc3.weight", "fc3.bias" };

/* The advised rate is the limit itself, and the curvature still moves: half of it is safe. */
static const double BELOW_LIMIT = 0.5;
/* A loss this much of what is at stake above its least has begun to rise (docs/api.md). */
static const double RISE_SHARE = 0.1;

struct job {
    struct options options;
    struct data data;
    struct mlp mlp;
    struct probe probe;
    float *params, *grad, *velocity; /* owned */
    float *inputs;                   /* owned; the batch */
    uint8_t *labels;                 /* owned */
    uint32_t *order;                 /* owned; training samples, shuffled once an epoch */
    uint32_t train_count, next;
    uint64_t shuffle;
    uint64_t shapes[TENSORS][2];
    struct lyap_client *client;
    uint32_t opened;         /* attempts of this process */
    double lr_max;           /* what the daemon allows; infinite until it says */
    long pushed_at;          /* step of the last push that was answered */
    long left_out;           /* updates since then that were not made */
    long missed_at;          /* step of the last rollback without a checkpoint */
    struct checkpoints kept; /* states of steps at which nothing was wrong */
    struct report report;
};

static bool prepare(struct job *job)
{
    const uint32_t widths[] = { DATA_PIXELS, HIDDEN, HIDDEN, DATA_CLASSES };
    if (!data_load(job->options.data, &job->data) || job->data.count <= TEST_SAMPLES)
        return false;
    job->train_count = job->data.count - TEST_SAMPLES;
    if (job->options.batch > job->train_count)
        job->options.batch = job->train_count;
    const uint32_t batch = (uint32_t)job->options.batch;
    if (!mlp_init(&job->mlp, widths, LAYERS + 1, job->data.count))
        return false;
    job->params = calloc(job->mlp.count, sizeof *job->params);
    job->grad = calloc(job->mlp.count, sizeof *job->grad);
    job->velocity = calloc(job->mlp.count, sizeof *job->velocity);
    job->inputs = calloc((size_t)batch * DATA_PIXELS, sizeof *job->inputs);
    job->labels = calloc(batch, 1);
    job->order = calloc(job->train_count, sizeof *job->order);
    if (!job->params || !job->grad || !job->velocity || !job->inputs || !job->labels || !job->order)
        return false;
    for (uint32_t i = 0; i < job->train_count; i++)
        job->order[i] = i;
    for (uint32_t l = 0; l < LAYERS; l++) {
        job->shapes[2 * l][0] = job->shapes[2 * l + 1][0] = widths[l + 1];
        job->shapes[2 * l][1] = widths[l];
    }
    job->next = job->train_count;
    job->shuffle = (uint64_t)job->options.seed + 1000;
    job->lr_max = INFINITY;
    job->missed_at = NEVER;
    mlp_start(&job->mlp, (uint64_t)job->options.seed, job->params);
    if (!checkpoints_init(&job->kept, job->mlp.count))
        return false;
    return probe_init(&job->probe, &job->mlp, job->data.pixels, job->data.labels, PROBE_SAMPLES,
                      (uint64_t)job->options.seed + 2000);
}

static void release(struct job *job)
{
    lyap_client_close(job->client);
    checkpoints_release(&job->kept);
    probe_release(&job->probe);
    mlp_release(&job->mlp);
    data_release(&job->data);
    free(job->params);
    free(job->grad);
    free(job->velocity);
    free(job->inputs);
    free(job->labels);
    free(job->order);
}

/* Declares the run and opens an attempt of it, another one at each call. */
static bool connect(struct job *job)
{
    char declaration[512], attempt_key[64];
    struct lyap_error err = LYAP_ERROR_NULL;
    if (!job->options.url)
        return true;
    snprintf(attempt_key, sizeof attempt_key, "%lld.%ld.%u", (long long)time(NULL), (long)getpid(),
             (unsigned)job->opened++);
    snprintf(
        declaration, sizeof declaration,
        "{\"optimizer\":{\"type\":\"sgd\",\"lr\":%.17g,\"momentum\":%.17g},"
        "\"layers\":["
        "{\"name\":\"fc1\",\"tensor\":\"fc1.weight\",\"kind\":\"linear\",\"activation\":\"tanh\"},"
        "{\"name\":\"fc2\",\"tensor\":\"fc2.weight\",\"kind\":\"linear\",\"activation\":\"tanh\"},"
        "{\"name\":\"fc3\",\"tensor\":\"fc3.weight\",\"kind\":\"linear\"}],"
        "\"labels\":{\"example\":\"digits\"}}",
        job->options.lr, job->options.momentum);
    const struct lyap_client_options options = {
        .url = job->options.url,
        .token = job->options.token,
        .run = job->options.run,
        .declaration = declaration,
        .attempt_key = attempt_key, /* a run may be trained again */
        .grade = job->options.is_partial ? LYAP_CLIENT_PARTIAL : LYAP_CLIENT_FULL,
    };
    if (lyap_client_open(&options, &job->client, &err) == LYAP_OK)
        return true;
    fprintf(stderr, "trainer: %s\n", lyap_error_text(&err));
    return false;
}

/* The next batch of a shuffled epoch. */
static void next_batch(struct job *job)
{
    const uint32_t batch = (uint32_t)job->options.batch;
    if (job->next + batch > job->train_count) {
        for (uint32_t i = job->train_count - 1; i > 0; i--) {
            const uint32_t j = (uint32_t)(random_u64(&job->shuffle) % (i + 1));
            const uint32_t swapped = job->order[i];
            job->order[i] = job->order[j];
            job->order[j] = swapped;
        }
        job->next = 0;
    }
    for (uint32_t i = 0; i < batch; i++) {
        const uint32_t sample = job->order[job->next + i];
        memcpy(job->inputs + (size_t)i * DATA_PIXELS,
               job->data.pixels + (size_t)sample * DATA_PIXELS, DATA_PIXELS * sizeof(float));
        job->labels[i] = job->data.labels[sample];
    }
    job->next += batch;
}

/* Each fault comes once: a job that went back does not meet it again. */
static bool is_due(long *at, long step)
{
    if (*at != step)
        return false;
    *at = NEVER;
    return true;
}

static double learning_rate(const struct job *job, long step)
{
    const double lr = step >= job->options.raise_at ? job->options.raise_lr : job->options.lr;
    return lr < job->lr_max ? lr : job->lr_max;
}

/* Tensor by tensor, its roles side by side. */
static uint32_t list_arrays(const struct job *job, bool is_probed,
                            struct lyap_client_array *ret_arrays)
{
    const struct {
        enum lyap_role role;
        const float *vector;
    } roles[ROLES_MAX] = { { LYAP_ROLE_PARAM, job->params },
                           { LYAP_ROLE_GRAD, job->grad },
                           { LYAP_ROLE_PROBE_GRAD, job->probe.grad },
                           { LYAP_ROLE_PAIR_S, job->probe.pair_s },
                           { LYAP_ROLE_PAIR_Y, job->probe.pair_y } };
    const uint32_t role_count = is_probed ? ROLES_MAX : 2;
    uint32_t count = 0;
    for (uint32_t t = 0; t < TENSORS; t++) {
        const bool is_bias = t % 2 == 1;
        const uint64_t at = is_bias ? job->mlp.bias_at[t / 2] : job->mlp.weight_at[t / 2];
        for (uint32_t r = 0; r < role_count; r++)
            ret_arrays[count++] = (struct lyap_client_array){ .role = roles[r].role,
                                                              .name = tensor_names[t],
                                                              .dtype = LYAP_DTYPE_F32,
                                                              .rank = is_bias ? 1 : 2,
                                                              .shape = job->shapes[t],
                                                              .data = roles[r].vector + at };
    }
    return count;
}

static bool push(struct job *job, long step, double loss, double lr, bool is_probed,
                 struct lyap_client_reply *ret_reply)
{
    struct lyap_client_array arrays[TENSORS * ROLES_MAX];
    struct lyap_error err = LYAP_ERROR_NULL;
    char probe_loss[32], updates[32];
    snprintf(probe_loss, sizeof probe_loss, "%.17g", job->probe.loss);
    snprintf(updates, sizeof updates, "%ld", step - job->pushed_at - job->left_out);
    struct lyap_client_meta metadata[2];
    uint32_t metadata_count = 0;
    if (is_probed)
        metadata[metadata_count++] = (struct lyap_client_meta){ "probe_loss", probe_loss };
    if (job->left_out > 0)
        metadata[metadata_count++] = (struct lyap_client_meta){ "updates", updates };
    const struct lyap_client_push snapshot = { .step = step,
                                               .has_loss = true,
                                               .has_lr = true,
                                               .loss = loss,
                                               .lr = lr,
                                               .arrays = arrays,
                                               .array_count = list_arrays(job, is_probed, arrays),
                                               .metadata = metadata,
                                               .metadata_count = metadata_count };
    if (lyap_client_push(job->client, &snapshot, ret_reply, &err) == LYAP_OK) {
        job->pushed_at = step;
        job->left_out = 0;
        return true;
    }
    fprintf(stderr, "trainer: step %ld is not monitored: %s\n", step, lyap_error_text(&err));
    return false;
}

/* Heavy ball. */
static void update(struct job *job, double lr)
{
    for (uint64_t i = 0; i < job->mlp.count; i++) {
        job->velocity[i] = (float)(job->options.momentum * job->velocity[i] + job->grad[i]);
        job->params[i] -= (float)(lr * job->velocity[i]);
    }
}

/* From a checkpoint in a new attempt, with the batches that come next: the daemon wants other ones
 * than those that led here. The step to go on with; -1: there is no checkpoint that old, and the
 * rate alone is lowered, once in a row. */
static long go_back(struct job *job, const struct lyap_action *action, long step)
{
    const long to = checkpoints_restore(&job->kept, action->step, job->params, job->velocity);
    const bool is_new = to >= 0 || job->missed_at != step - 1;
    if (action->lr < job->lr_max && is_new)
        job->lr_max = action->lr;
    if (to < 0) {
        job->missed_at = step;
        return to;
    }
    lyap_client_close(job->client);
    job->client = NULL;
    job->left_out = 0;
    if (!connect(job))
        fprintf(stderr, "trainer: goes on unwatched\n");
    job->report.client = job->client;
    return to;
}

enum course { UPDATE, LEAVE_OUT, GO_BACK, END };

/* What is advised comes before the update that was pushed. *step moves on a rollback alone. */
static enum course follow(struct job *job, const struct lyap_action *action, long *step)
{
    long to = -1;
    enum course course = UPDATE;
    if (!job->options.is_obeying)
        return UPDATE;
    switch (action->kind) {
    case LYAP_ACTION_CONTINUE:
    case LYAP_ACTION_COUNT:
        return UPDATE;
    case LYAP_ACTION_SKIP:
        course = action->step == *step ? LEAVE_OUT : UPDATE;
        break;
    case LYAP_ACTION_REDUCE_LR:
        if (!(action->lr < learning_rate(job, *step)))
            return UPDATE; /* it is followed already */
        job->lr_max = BELOW_LIMIT * action->lr;
        course = LEAVE_OUT; /* it was to be made at the rate that is too high */
        break;
    case LYAP_ACTION_ROLLBACK:
        to = go_back(job, action, *step);
        course = to < 0 ? UPDATE : GO_BACK;
        break;
    case LYAP_ACTION_STOP:
        course = END;
        break;
    }
    report_advice(&job->report, *step, action, job->lr_max, to);
    *step = to < 0 ? *step : to;
    return course;
}

/* More than its usual spread above a part of what is at stake. */
static bool has_risen(const struct lyap_point *point)
{
    const struct lyap_value *excess = &point->metrics[LYAP_METRIC_LOSS_EXCESS],
                            *spread = &point->metrics[LYAP_METRIC_LOSS_SPREAD];
    const double usual = spread->reason == LYAP_REASON_NONE ? spread->value : 0;
    return excess->reason == LYAP_REASON_NONE && !(excess->value <= RISE_SHARE + usual);
}

/* What the step began with, unless something is wrong or the loss has begun to rise: a slow rise
 * would push out all that is worth going back to before it is recognised. */
static void checkpoint(struct job *job, long step, const struct lyap_point *point)
{
    const bool is_time =
        job->kept.used == 0 || step >= job->kept.steps[job->kept.used - 1] + CHECKPOINT_EVERY;
    if (is_time && point->action.kind == LYAP_ACTION_CONTINUE &&
        point->state != LYAP_STATE_UNSTABLE && !has_risen(point))
        checkpoints_keep(&job->kept, step, job->params, job->velocity);
}

/* Forward, backward, push; what is to be done then. */
static enum course train_step(struct job *job, long *step, double lr)
{
    struct lyap_client_reply reply;
    const bool is_probed =
        job->options.probe_every > 0 && *step % job->options.probe_every == 0 && job->client;
    next_batch(job);
    if (is_due(&job->options.poison_at, *step))
        job->inputs[0] = NAN;
    const double loss = mlp_loss(&job->mlp, job->params, job->inputs, job->labels,
                                 (uint32_t)job->options.batch, job->grad);
    if (is_probed)
        probe_measure(&job->probe, job->params);
    const bool is_answered = job->client && push(job, *step, loss, lr, is_probed, &reply);
    report_step(&job->report, *step, loss, lr, is_answered ? &reply : NULL);
    if (!is_answered)
        return UPDATE;
    checkpoint(job, *step, &reply.point);
    return follow(job, &reply.point.action, step);
}

static void train(struct job *job)
{
    long step = 0;
    while (step < job->options.steps) {
        const double lr = learning_rate(job, step);
        const enum course course = train_step(job, &step, lr);
        if (course == END)
            break;
        if (course == GO_BACK)
            continue;
        if (course == LEAVE_OUT)
            job->left_out++;
        else
            update(job, lr);
        if (is_due(&job->options.corrupt_at, step))
            job->params[job->mlp.count - 1] = INFINITY;
        step++;
    }
}

int main(int argc, char **argv)
{
    struct job job = { .client = NULL };
    int exit_status = EXIT_FAILURE;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!options_parse(argc, argv, &job.options))
        return 2;
    if (!prepare(&job) || !connect(&job))
        goto out;
    report_init(&job.report, &job.options, job.client);
    train(&job);
    struct lyap_error err = LYAP_ERROR_NULL;
    if (job.client && lyap_client_end(job.client, &err) != LYAP_OK)
        fprintf(stderr, "trainer: %s\n", lyap_error_text(&err));
    const uint32_t tested = job.data.count - job.train_count;
    const double accuracy =
        mlp_accuracy(&job.mlp, job.params, job.data.pixels + (size_t)job.train_count * DATA_PIXELS,
                     job.data.labels + job.train_count, tested);
    if (report_end(&job.report, accuracy))
        exit_status = EXIT_SUCCESS;
out:
    release(&job);
    return exit_status;
}
