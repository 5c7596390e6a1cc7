/* Products of every optimizer against brute force: real updates are simulated coordinate by
 * coordinate, as torch computes them, and pushed step by step. */
#include "intake_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/sketch.h"

enum { TENSORS = 3, STEPS = 5, LONGEST = 5000 };
static const uint64_t lengths[TENSORS] = { 1, 100, LONGEST };

/* One coordinate of one optimizer. */
struct coordinate {
    double theta, m, v, buffer;
    bool has_buffer;
};

struct setup {
    const char *name;
    enum lyap_optimizer_type type;
    double momentum, dampening, weight_decay;
    bool is_nesterov;
    double clip_norm;  /* 0: none */
    bool is_clip_late; /* grad_norm is not pushed */
    bool is_state_pushed, is_delta_pushed;
    enum lyap_dtype dtype;
    double group_lr; /* of tensor 1; 0: no group */
};

static const double base_lr = 0.01;

static struct lyap_optimizer_params params_of(const struct setup *setup)
{
    return (struct lyap_optimizer_params){ .lr = base_lr,
                                           .momentum = setup->momentum,
                                           .dampening = setup->dampening,
                                           .beta1 = 0.9,
                                           .beta2 =
                                               setup->type == LYAP_OPTIMIZER_LION ? 0.99 : 0.98,
                                           .eps = 1e-6,
                                           .weight_decay = setup->weight_decay,
                                           .is_nesterov = setup->is_nesterov };
}

static double sgn(double x)
{
    return x > 0 ? 1 : x < 0 ? -1 : 0;
}

/* The update of one coordinate, and its state advanced; g is clipped already. n: updates before. */
static double advance(const struct setup *setup, struct coordinate *c, double g, double lr, int n)
{
    const struct lyap_optimizer_params k = params_of(setup);
    double step = 0;
    switch (setup->type) {
    case LYAP_OPTIMIZER_SGD:
        g += k.weight_decay * c->theta;
        if (k.momentum != 0) {
            c->buffer = c->has_buffer ? k.momentum * c->buffer + (1 - k.dampening) * g : g;
            c->has_buffer = true;
            g = k.is_nesterov ? g + k.momentum * c->buffer : c->buffer;
        }
        return -lr * g;
    case LYAP_OPTIMIZER_ADAM:
        g += k.weight_decay * c->theta; /* fall through */
    case LYAP_OPTIMIZER_ADAMW:
        c->m = k.beta1 * c->m + (1 - k.beta1) * g;
        c->v = k.beta2 * c->v + (1 - k.beta2) * g * g;
        step = -lr * (c->m / (1 - pow(k.beta1, n + 1))) /
               (sqrt(c->v / (1 - pow(k.beta2, n + 1))) + k.eps);
        return setup->type == LYAP_OPTIMIZER_ADAMW ? step - lr * k.weight_decay * c->theta : step;
    case LYAP_OPTIMIZER_RMSPROP:
        g += k.weight_decay * c->theta;
        c->v = k.beta2 * c->v + (1 - k.beta2) * g * g;
        c->buffer = k.momentum * c->buffer + g / (sqrt(c->v) + k.eps);
        return -lr * c->buffer;
    case LYAP_OPTIMIZER_LION:
        step = -lr * (sgn(k.beta1 * c->m + (1 - k.beta1) * g) + k.weight_decay * c->theta);
        c->m = k.beta2 * c->m + (1 - k.beta2) * g;
        return step;
    case LYAP_OPTIMIZER_SIGNSGD:
        return -lr * sgn(g);
    case LYAP_OPTIMIZER_PROXGD:
        step = c->theta - lr * g;
        return sgn(step) * fmax(fabs(step) - lr * 0.5, 0) - c->theta;
    case LYAP_OPTIMIZER_PROJGD:
        return fmin(fmax(c->theta - lr * g, -0.9), 1.1) - c->theta;
    default:
        return 0;
    }
}

struct history {
    double theta[LONGEST], grad[LONGEST], m[LONGEST], v[LONGEST], step[LONGEST], next_v[LONGEST];
    double gain[LONGEST];
};

struct simulation {
    struct history now[TENSORS], before[TENSORS], oldest[TENSORS];
    struct coordinate coordinates[TENSORS][LONGEST];
    double clip;
};

static double lr_of(const struct setup *setup, unsigned t)
{
    return t == 1 && setup->group_lr != 0 ? setup->group_lr : base_lr;
}

static double gradient(double theta, uint64_t i, int step)
{
    return (0.5 + (double)(i % 7)) * theta + 0.3 * sin(0.7 * (double)i + 1.3 * step);
}

/* Fills `now` of step n from the coordinates, then advances them. */
static void simulate(const struct setup *setup, struct simulation *sim, int n)
{
    double norm_sq = 0;
    memcpy(sim->oldest, sim->before, sizeof sim->before);
    memcpy(sim->before, sim->now, sizeof sim->now);
    for (unsigned t = 0; t < TENSORS; t++) {
        for (uint64_t i = 0; i < lengths[t]; i++) {
            struct coordinate *c = &sim->coordinates[t][i];
            c->theta = fixture_rounded(setup->dtype, c->theta);
            const double g = fixture_rounded(setup->dtype, gradient(c->theta, i, n));
            sim->now[t].grad[i] = g;
            norm_sq += g * g;
        }
    }
    sim->clip = setup->clip_norm != 0 ? fmin(1, setup->clip_norm / (sqrt(norm_sq) + 1e-6)) : 1;
    for (unsigned t = 0; t < TENSORS; t++) {
        for (uint64_t i = 0; i < lengths[t]; i++) {
            struct coordinate *c = &sim->coordinates[t][i], up = *c, down = *c;
            struct history *h = &sim->now[t];
            const double g = h->grad[i], lr = lr_of(setup, t), e = 1e-4 * fabs(g) + 1e-30;
            h->gain[i] = (advance(setup, &up, sim->clip * (g + e), lr, n) -
                          advance(setup, &down, sim->clip * (g - e), lr, n)) /
                         (2 * e);
            h->theta[i] = c->theta;
            h->m[i] = c->m;
            h->v[i] = c->v;
            h->step[i] = advance(setup, c, sim->clip * g, lr, n);
            h->next_v[i] = c->v;
            c->theta += h->step[i];
        }
    }
}

static void declare(const struct setup *setup, struct fixture *fixture)
{
    static struct lyap_optimizer_group group;
    struct lyap_optimizer *optimizer = &fixture->declaration.optimizer;
    optimizer->type = setup->type;
    optimizer->base = params_of(setup);
    optimizer->prox = LYAP_PROX_L1;
    optimizer->prox_lambda = 0.5;
    optimizer->set = LYAP_SET_BOX;
    optimizer->set_low = -0.9;
    optimizer->set_high = 1.1;
    if (setup->group_lr == 0)
        return;
    group = (struct lyap_optimizer_group){ .params = params_of(setup) };
    group.params.lr = setup->group_lr;
    optimizer->groups = &group;
    optimizer->group_count = 1;
    fixture->tensors[1].group = 1;
}

static void fill_body(const struct setup *setup, struct fixture *fixture,
                      const struct simulation *sim, int n)
{
    static double deltas[TENSORS][LONGEST];
    char text[64];
    fixture_step(fixture, n);
    fixture_meta(fixture, "loss", "1");
    if (setup->is_state_pushed) {
        snprintf(text, sizeof text, "%d", n);
        fixture_meta(fixture, "optimizer_step", text);
    }
    double norm_sq = 0;
    for (unsigned t = 0; t < TENSORS; t++) {
        for (uint64_t i = 0; i < lengths[t]; i++) {
            deltas[t][i] = sim->before[t].step[i];
            norm_sq += sim->now[t].grad[i] * sim->now[t].grad[i];
        }
        fixture_add(fixture, LYAP_ROLE_PARAM, t, setup->dtype, sim->now[t].theta);
        fixture_add(fixture, LYAP_ROLE_GRAD, t, setup->dtype, sim->now[t].grad);
        if (setup->is_delta_pushed && n > 0)
            fixture_add(fixture, LYAP_ROLE_DELTA, t, LYAP_DTYPE_F64, deltas[t]);
        if (setup->is_state_pushed) {
            fixture_add(fixture, LYAP_ROLE_EXP_AVG, t, LYAP_DTYPE_F64, sim->now[t].m);
            fixture_add(fixture, LYAP_ROLE_EXP_AVG_SQ, t, LYAP_DTYPE_F64, sim->now[t].v);
        }
    }
    if (setup->clip_norm != 0) {
        snprintf(text, sizeof text, "%.17g", setup->clip_norm);
        fixture_meta(fixture, "clip_norm", text);
        snprintf(text, sizeof text, "%.17g", sqrt(norm_sq));
        if (!setup->is_clip_late)
            fixture_meta(fixture, "grad_norm", text);
    }
}

static bool is_adaptive(const struct setup *setup)
{
    return setup->type == LYAP_OPTIMIZER_ADAM || setup->type == LYAP_OPTIMIZER_ADAMW ||
           setup->type == LYAP_OPTIMIZER_RMSPROP;
}

/* P of SPEC 2.2 from v after n updates, times eta_ref / eta. */
static double weight(const struct setup *setup, unsigned t, double v, int n)
{
    const struct lyap_optimizer_params k = params_of(setup);
    const double scale = fmax(base_lr, setup->group_lr) / lr_of(setup, t);
    if (!is_adaptive(setup))
        return scale;
    if (setup->type == LYAP_OPTIMIZER_RMSPROP)
        return scale * (sqrt(v) + k.eps);
    return scale * (1 - pow(k.beta1, n)) * (sqrt(v / (1 - pow(k.beta2, n))) + k.eps);
}

static void check_row(const struct setup *setup, const struct lyap_partial *partial,
                      enum lyap_reduce row, unsigned t, double expected, double tolerance)
{
    const double value = partial->rows[row] ? partial->rows[row][t] : NAN;
    ck_assert_msg(fabs(value - expected) <= tolerance * (fabs(expected) + 1e-30),
                  "%s %s[%u] = %.12g, expected %.12g", setup->name, lyap_reduce_name(row), t, value,
                  expected);
}

static void check_step_rows(const struct setup *setup, const struct simulation *sim,
                            const struct lyap_partial *partial, unsigned t, int n, double tolerance)
{
    const struct history *h = &sim->now[t];
    const struct lyap_optimizer_params k = params_of(setup);
    double step_sq = 0, grad_step = 0, step_p = 0, rms_sq = 0, gain_sq = 0;
    for (uint64_t i = 0; i < lengths[t]; i++) {
        const double g = h->grad[i], p = h->step[i];
        const bool is_coupled = setup->type != LYAP_OPTIMIZER_ADAMW;
        const double e = sim->clip * g + (is_coupled ? k.weight_decay * h->theta[i] : 0);
        const double corrected =
            setup->type == LYAP_OPTIMIZER_RMSPROP ? 1 : 1 - pow(k.beta2, n + 1);
        step_sq += p * p;
        grad_step += g * p;
        step_p += p * p * weight(setup, t, h->next_v[i], n + 1);
        rms_sq += e * e / fmax(h->next_v[i] / corrected, k.eps * k.eps);
        gain_sq += g * g * h->gain[i] * h->gain[i];
    }
    check_row(setup, partial, LYAP_REDUCE_STEP_SQ, t, step_sq, tolerance);
    check_row(setup, partial, LYAP_REDUCE_GRAD_STEP, t, grad_step, tolerance);
    check_row(setup, partial, LYAP_REDUCE_STEP_P, t, step_p, tolerance);
    if (is_adaptive(setup))
        check_row(setup, partial, LYAP_REDUCE_RMS_SQ, t, rms_sq, tolerance);
    if (is_adaptive(setup) || setup->type == LYAP_OPTIMIZER_SGD)
        check_row(setup, partial, LYAP_REDUCE_GAIN_SQ, t, gain_sq, fmax(tolerance, 1e-4));
}

static void check_pair_rows(const struct setup *setup, const struct simulation *sim,
                            const struct lyap_partial *partial, unsigned t, int n, double tolerance)
{
    const struct history *h = &sim->now[t], *b = &sim->before[t];
    double sq = 0, gd = 0, pd = 0, dg = 0, gg = 0, weighted = 0, weighted_prev = 0, step_sq = 0;
    for (uint64_t i = 0; i < lengths[t]; i++) {
        const double d = setup->is_delta_pushed ? b->step[i] : h->theta[i] - b->theta[i];
        sq += d * d;
        gd += h->grad[i] * d;
        pd += b->grad[i] * d;
        dg += (h->grad[i] - b->grad[i]) * (h->grad[i] - b->grad[i]);
        gg += h->grad[i] * b->grad[i];
        weighted += d * d * weight(setup, t, h->v[i], n);
        weighted_prev += n >= 2 ? d * d * weight(setup, t, b->v[i], n - 1) : 0;
        step_sq += b->step[i] * b->step[i];
    }
    check_row(setup, partial, LYAP_REDUCE_DELTA_SQ, t, sq, 1e-12);
    check_row(setup, partial, LYAP_REDUCE_GRAD_DELTA, t, gd, 1e-11);
    check_row(setup, partial, LYAP_REDUCE_GRAD_PREV_DELTA, t, pd, 1e-11);
    check_row(setup, partial, LYAP_REDUCE_GRAD_DIFF_SQ, t, dg, 1e-12);
    check_row(setup, partial, LYAP_REDUCE_GRAD_GRAD_PREV, t, gg, 1e-11);
    check_row(setup, partial, LYAP_REDUCE_DELTA_P, t, weighted, tolerance);
    if (n >= 2)
        check_row(setup, partial, LYAP_REDUCE_DELTA_P_PREV, t, weighted_prev, tolerance);
    check_row(setup, partial, LYAP_REDUCE_STEP_PREV_SQ, t, step_sq, tolerance);
    const double omega = sqrt(partial->rows[LYAP_REDUCE_UPDATE_ERROR_SQ][t] / sq);
    ck_assert_msg(omega <= sqrt(tolerance) * 1e-2, "%s step %d tensor %u: omega %g", setup->name, n,
                  t, omega);
}

#define F64 LYAP_DTYPE_F64
#define F32 LYAP_DTYPE_F32
static const struct setup setups[] = {
    { "sgd", LYAP_OPTIMIZER_SGD, .dtype = F64 },
    { "sgd f32", LYAP_OPTIMIZER_SGD, .dtype = F32 },
    { "sgd decay groups", LYAP_OPTIMIZER_SGD, .weight_decay = 0.1, .dtype = F64, .group_lr = 0.02 },
    { "sgd clip", LYAP_OPTIMIZER_SGD, .clip_norm = 20, .dtype = F64 },
    { "sgd clip late", LYAP_OPTIMIZER_SGD, .clip_norm = 20, .is_clip_late = true, .dtype = F64 },
    { "heavy ball", LYAP_OPTIMIZER_SGD, .momentum = 0.9, .dtype = F64 },
    { "heavy ball f32", LYAP_OPTIMIZER_SGD, .momentum = 0.9, .dtype = F32 },
    { "heavy ball delta", LYAP_OPTIMIZER_SGD, .momentum = 0.9, .is_delta_pushed = true,
      .dtype = F64 },
    { "heavy ball damped", LYAP_OPTIMIZER_SGD, .momentum = 0.8, .dampening = 0.3,
      .weight_decay = 0.05, .clip_norm = 15, .is_clip_late = true, .dtype = F64,
      .group_lr = 0.003 },
    { "nesterov", LYAP_OPTIMIZER_SGD, .momentum = 0.9, .is_nesterov = true, .weight_decay = 0.02,
      .clip_norm = 30, .dtype = F64 },
    { "adam", LYAP_OPTIMIZER_ADAM, .dtype = F64 },
    { "adam f32", LYAP_OPTIMIZER_ADAM, .dtype = F32 },
    { "adam decay clip", LYAP_OPTIMIZER_ADAM, .weight_decay = 0.1, .clip_norm = 20, .dtype = F64 },
    { "adamw", LYAP_OPTIMIZER_ADAMW, .weight_decay = 0.1, .dtype = F64, .group_lr = 0.02 },
    { "adamw pushed", LYAP_OPTIMIZER_ADAMW, .weight_decay = 0.1, .is_state_pushed = true,
      .dtype = F64 },
    { "adamw pushed delta", LYAP_OPTIMIZER_ADAMW, .is_state_pushed = true, .is_delta_pushed = true,
      .dtype = F32 },
    { "rmsprop", LYAP_OPTIMIZER_RMSPROP, .dtype = F64 },
    { "rmsprop momentum", LYAP_OPTIMIZER_RMSPROP, .momentum = 0.5, .weight_decay = 0.1,
      .dtype = F64 },
    { "lion", LYAP_OPTIMIZER_LION, .weight_decay = 0.1, .dtype = F64 },
    { "signsgd", LYAP_OPTIMIZER_SIGNSGD, .dtype = F64, .group_lr = 0.02 },
    { "prox l1", LYAP_OPTIMIZER_PROXGD, .dtype = F64 },
    { "box", LYAP_OPTIMIZER_PROJGD, .dtype = F64 },
};
enum { SETUPS = sizeof setups / sizeof *setups };

START_TEST(updates_are_predicted)
{
    const struct setup *setup = &setups[_i];
    /* Rounded parameters make D differ from the update by 1e-7 of theta, 1e-4 of D. */
    const double tolerance = setup->dtype == F64 ? 1e-9 : 2e-3;
    struct simulation *sim = calloc(1, sizeof *sim);
    struct fixture fixture;
    struct lyap_memory *previous = NULL;
    struct test_rng rng = { 17 };
    ck_assert_ptr_nonnull(sim);
    fixture_init(&fixture, lengths, TENSORS);
    declare(setup, &fixture);
    fixture.cut_seed = 5;
    for (unsigned t = 0; t < TENSORS; t++)
        for (uint64_t i = 0; i < lengths[t]; i++)
            sim->coordinates[t][i].theta = test_rng_normal(&rng);
    for (int n = 0; n < STEPS; n++) {
        struct lyap_partial partial;
        struct lyap_memory *memory;
        simulate(setup, sim, n);
        fill_body(setup, &fixture, sim, n);
        fixture_must_push(&fixture, previous, &partial, &memory);
        for (unsigned t = 0; t < TENSORS; t++) {
            check_step_rows(setup, sim, &partial, t, n, tolerance);
            if (n > 0)
                check_pair_rows(setup, sim, &partial, t, n, tolerance);
        }
        ck_assert(partial.is_state_exact == is_adaptive(setup));
        ck_assert_ptr_nonnull(memory);
        lyap_partial_release(&partial);
        lyap_memory_free(previous);
        previous = memory;
    }
    lyap_memory_free(previous);
    fixture.declaration.optimizer.groups = NULL;
    fixture.declaration.optimizer.group_count = 0;
    fixture_free(&fixture);
    free(sim);
}
END_TEST

/* --- probes, same-batch gradients and active pairs, with the weights P of SPEC 2.2 */

static double extra[5][2][LONGEST]; /* role, step, element */
enum { PROBE, SAME, PAIR_S, PAIR_Y, SECOND };

static void push_extra(struct fixture *fixture, int n, const struct lyap_memory *previous,
                       struct lyap_partial *ret_partial, struct lyap_memory **ret_memory)
{
    static const enum lyap_role roles[] = { LYAP_ROLE_PROBE_GRAD, LYAP_ROLE_SAME_BATCH_GRAD,
                                            LYAP_ROLE_PAIR_S, LYAP_ROLE_PAIR_Y };
    static double theta[2][LONGEST], grad[2][LONGEST];
    struct test_rng rng = { 31 };
    char text[16];
    fixture_step(fixture, n);
    snprintf(text, sizeof text, "%d", 4 + n);
    fixture_meta(fixture, "optimizer_step", text);
    fixture_meta(fixture, "lr", "0.02,0.005");
    for (int k = 0; k < 2; k++) {
        test_rng_normals(&rng, theta[k], LONGEST);
        test_rng_normals(&rng, grad[k], LONGEST);
        for (int r = 0; r < 5; r++)
            for (int i = 0; i < LONGEST; i++)
                extra[r][k][i] = r == SECOND ? test_rng_uniform(&rng) : test_rng_normal(&rng);
    }
    for (uint32_t t = 0; t < TENSORS; t++) {
        fixture_add(fixture, LYAP_ROLE_PARAM, t, F64, theta[n]);
        fixture_add(fixture, LYAP_ROLE_GRAD, t, F64, grad[n]);
        for (int r = 0; r < 4; r++)
            fixture_add(fixture, roles[r], t, F64, extra[r][n]);
        fixture_add(fixture, LYAP_ROLE_EXP_AVG_SQ, t, F64, extra[SECOND][n]);
    }
    fixture_must_push(fixture, previous, ret_partial, ret_memory);
}

static double sum_of(const double *x, const double *y, uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 0; i < count; i++)
        sum += x[i] * y[i];
    return sum;
}

static void check_extra(const struct setup *setup, const struct fixture *fixture,
                        const struct lyap_partial *partial, const double *delta)
{
    static double s[LONGEST], y[LONGEST], difference[LONGEST];
    struct lyap_sketch sketches[2];
    double sums[LYAP_SKETCH_SIZE];
    for (int k = 0; k < 2; k++)
        ck_assert_int_eq(lyap_sketch_init(&sketches[k], LYAP_SKETCH_SIZE), LYAP_OK);
    for (unsigned t = 0; t < TENSORS; t++) {
        const uint64_t n = lengths[t];
        for (uint64_t i = 0; i < n; i++) {
            const double scale = t == 1 ? 4 : 1; /* 0.02 / 0.005 */
            const double p = scale * weight(setup, 0, extra[SECOND][1][i], 5);
            s[i] = sqrt(p) * extra[PAIR_S][1][i];
            y[i] = extra[PAIR_Y][1][i] / sqrt(p);
            difference[i] = extra[PROBE][1][i] - extra[PROBE][0][i];
        }
        const struct {
            enum lyap_reduce row;
            const double *x, *y;
        } rows[] = { { LYAP_REDUCE_PROBE_DELTA, extra[PROBE][1], delta },
                     { LYAP_REDUCE_PROBE_PREV_DELTA, extra[PROBE][0], delta },
                     { LYAP_REDUCE_PROBE_DIFF_SQ, difference, difference },
                     { LYAP_REDUCE_SAME_DELTA, extra[SAME][1], delta },
                     { LYAP_REDUCE_PAIR_SS, extra[PAIR_S][1], extra[PAIR_S][1] },
                     { LYAP_REDUCE_PAIR_SY, extra[PAIR_S][1], extra[PAIR_Y][1] },
                     { LYAP_REDUCE_PAIR_YY, extra[PAIR_Y][1], extra[PAIR_Y][1] },
                     { LYAP_REDUCE_PAIR_SPS, s, s },
                     { LYAP_REDUCE_PAIR_YPY, y, y } };
        for (unsigned r = 0; r < sizeof rows / sizeof *rows; r++)
            check_row(setup, partial, rows[r].row, t, sum_of(rows[r].x, rows[r].y, n), 1e-10);
        const uint64_t seed = lyap_sketch_seed(99, fixture->names[t], strlen(fixture->names[t]));
        lyap_sketch_add(&sketches[0], seed, 0, s, n);
        lyap_sketch_add(&sketches[1], seed, 0, y, n);
    }
    for (int k = 0; k < 2; k++) {
        lyap_sketch_read(&sketches[k], sums);
        for (int i = 0; i < LYAP_SKETCH_SIZE; i++)
            test_close(partial->sketches[LYAP_SKETCH_PAIR_S + k][i], sums[i], 1e-11);
        lyap_sketch_release(&sketches[k]);
    }
}

START_TEST(pairs_and_probes_match_brute_force)
{
    static const struct setup kinds[] = { { "sgd", LYAP_OPTIMIZER_SGD, .group_lr = 0 },
                                          { "adam", LYAP_OPTIMIZER_ADAM, .group_lr = 0 } };
    static double delta[LONGEST];
    struct setup grouped = kinds[_i];
    struct fixture fixture;
    struct lyap_partial partial;
    struct lyap_memory *memory, *left;
    fixture_init(&fixture, lengths, TENSORS);
    grouped.group_lr = 1; /* declares a group of tensor 1; the rates are pushed */
    declare(&grouped, &fixture);
    push_extra(&fixture, 0, NULL, &partial, &memory);
    lyap_partial_release(&partial);
    for (int i = 0; i < LONGEST; i++)
        delta[i] = -fixture.arrays[0].values[i];
    push_extra(&fixture, 1, memory, &partial, &left);
    for (int i = 0; i < LONGEST; i++)
        delta[i] += fixture.arrays[0].values[i];
    check_extra(&kinds[_i], &fixture, &partial, delta);
    lyap_partial_release(&partial);
    lyap_memory_free(memory);
    lyap_memory_free(left);
    fixture.declaration.optimizer.groups = NULL;
    fixture.declaration.optimizer.group_count = 0;
    fixture_free(&fixture);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("intake_products");
    TCase *tcase = tcase_create("all");
    tcase_add_loop_test(tcase, updates_are_predicted, 0, SETUPS);
    tcase_add_loop_test(tcase, pairs_and_probes_match_brute_force, 0, 2);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
