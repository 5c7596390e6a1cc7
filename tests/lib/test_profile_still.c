/* Dead and stuck tensors: what counts as one, what does not, and what a restart keeps. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
#include "intake_fixture.h"
#include "lyap/profile.h"

enum { TENSORS = 3, ELEMENTS = 4, SUBJECT = 1, STEPS = 100, FAULT = 20 };
static const uint64_t lengths[TENSORS] = { ELEMENTS, ELEMENTS, ELEMENTS };

/* What happens to tensor SUBJECT from step FAULT on; the others train as ever. */
enum fault {
    HEALTHY,
    DEAD,         /* its gradient is exactly zero */
    DEAD_DECAYS,  /* likewise, and weight decay goes on moving it */
    FROZEN,       /* it has no gradient any more */
    ONE_ROW,      /* one element of its gradient is not zero: an embedding row */
    TINY,         /* its gradient is small */
    ALTERNATES,   /* zero at every other step: two losses that take turns */
    ALL_DEAD,     /* every gradient is zero: a hinge loss that is met */
    STANDS,       /* rate 0, and its gradient is zero until it moves: LoRA's first matrix */
    CLIPPED,      /* the gradients are clipped to a tenth */
    ROUNDED_AWAY, /* its update is below half a unit in the last place */
    FADED,        /* likewise, at a thousandth of the rate there was */
    RATE_ZERO,    /* the rate of its own group is zero */
    NONFINITE     /* zero, while the loss is NaN: not a finite point */
};

struct run {
    struct fixture fixture;
    struct lyap_profile *profile;
    struct lyap_memory *memory;
    double theta[TENSORS][ELEMENTS], grad[TENSORS][ELEMENTS];
    bool is_narrow; /* parameters and gradients are rounded to BF16 */
    enum fault fault;
    double lr;
    int64_t step;
    struct lyap_tensor_row rows[TENSORS];
    struct lyap_partial partial;
};

static void init(struct run *r, enum fault fault, bool is_narrow)
{
    *r = (struct run){ .fault = fault, .is_narrow = is_narrow, .lr = .01 };
    fixture_init(&r->fixture, lengths, TENSORS);
    struct lyap_declaration *d = &r->fixture.declaration;
    lyap_optimizer_defaults(&d->optimizer, LYAP_OPTIMIZER_SGD);
    d->optimizer.base.lr = r->lr;
    d->has_optimizer = true;
    for (int i = 0; i < TENSORS; i++)
        for (int j = 0; j < ELEMENTS; j++)
            r->theta[i][j] = i == SUBJECT ? 1 : .25 * (j + 1);
    ck_assert_int_eq(lyap_profile_new(d, NAN, &r->profile), LYAP_OK);
}

static void release(struct run *r)
{
    lyap_profile_free(r->profile);
    lyap_memory_free(r->memory);
    lyap_partial_release(&r->partial);
    fixture_free(&r->fixture);
}

static double rounded(const struct run *r, double x)
{
    const float single = (float)x;
    uint32_t bits;
    if (!r->is_narrow)
        return x;
    memcpy(&bits, &single, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    float narrow;
    memcpy(&narrow, &bits, sizeof narrow);
    return (double)narrow;
}

/* A gradient that never repeats and never vanishes. */
static void make_gradients(struct run *r)
{
    const bool is_faulty = r->step >= FAULT;
    const double of_all = is_faulty && r->fault == ALL_DEAD ? 0 : 1;
    double of_subject = 1;
    if (is_faulty && (r->fault == DEAD || r->fault == STANDS || r->fault == ONE_ROW ||
                      r->fault == DEAD_DECAYS || r->fault == NONFINITE))
        of_subject = 0;
    if (is_faulty && r->fault == ALTERNATES)
        of_subject = (double)(r->step % 2);
    if (is_faulty && r->fault == TINY)
        of_subject = 1e-12;
    if (is_faulty && (r->fault == ROUNDED_AWAY || r->fault == FADED))
        of_subject = 1e-3;
    for (int i = 0; i < TENSORS; i++)
        for (int j = 0; j < ELEMENTS; j++)
            r->grad[i][j] = of_all * (i == SUBJECT ? of_subject : 1) *
                            sin(1 + .7 * (double)r->step + 2 * i + j);
    if (is_faulty && r->fault == ONE_ROW)
        r->grad[SUBJECT][2] = 1e-3;
}

static void meta(struct run *r, const char *key, double value)
{
    char text[40];
    snprintf(text, sizeof text, "%.17g", value);
    fixture_meta(&r->fixture, key, text);
}

static struct lyap_point push(struct run *r)
{
    const bool is_faulty = r->step >= FAULT;
    struct lyap_point point;
    struct lyap_memory *memory;
    r->lr = is_faulty && r->fault == STANDS ? 0 : is_faulty && r->fault == FADED ? 1e-5 : .01;
    make_gradients(r);
    fixture_step(&r->fixture, r->step);
    meta(r, "loss", is_faulty && r->fault == NONFINITE ? (double)NAN : 1 + .01 * (double)r->step);
    if (r->fault == RATE_ZERO && is_faulty)
        fixture_meta(&r->fixture, "lr", "0.01,0");
    else
        meta(r, "lr", r->lr);
    if (r->fault == CLIPPED && is_faulty)
        meta(r, "clip_norm", .1);
    for (uint32_t i = 0; i < TENSORS; i++)
        fixture_add(&r->fixture, LYAP_ROLE_PARAM, i, LYAP_DTYPE_F64, r->theta[i]);
    for (uint32_t i = 0; i < TENSORS; i++)
        if (i != SUBJECT || r->fault != FROZEN || !is_faulty)
            fixture_add(&r->fixture, LYAP_ROLE_GRAD, i, LYAP_DTYPE_F64, r->grad[i]);
    lyap_partial_release(&r->partial);
    fixture_must_push(&r->fixture, r->memory, &r->partial, &memory);
    ck_assert_int_eq(lyap_profile_step(r->profile, &r->fixture.snapshot, &r->partial,
                                       LYAP_REASON_NONE, &point, r->rows),
                     LYAP_OK);
    lyap_memory_free(r->memory);
    r->memory = memory;
    return point;
}

static double norm_of(const struct run *r)
{
    double sum = 0;
    for (int i = 0; i < TENSORS; i++)
        for (int j = 0; j < ELEMENTS; j++)
            sum += r->grad[i][j] * r->grad[i][j];
    return sqrt(sum);
}

static void update(struct run *r)
{
    const bool is_faulty = r->step++ >= FAULT;
    const double clip = is_faulty && r->fault == CLIPPED ? .1 / norm_of(r) : 1;
    for (int i = 0; i < TENSORS; i++) {
        if (i == SUBJECT && is_faulty && (r->fault == FROZEN || r->fault == RATE_ZERO))
            continue;
        for (int j = 0; j < ELEMENTS; j++) {
            const double decay = is_faulty && r->fault == DEAD_DECAYS ? .01 * r->theta[i][j] : 0;
            const double moved = r->theta[i][j] - r->lr * (clip * r->grad[i][j] + decay);
            r->theta[i][j] = rounded(r, moved);
        }
    }
}

static double value_of(const struct lyap_point *point, enum lyap_metric metric)
{
    const struct lyap_value *v = &point->metrics[metric];
    ck_assert_msg(v->reason == LYAP_REASON_NONE, "step %lld: %s is absent: %s",
                  (long long)point->step, lyap_metric_info(metric)->name,
                  lyap_reason_name((enum lyap_reason)v->reason));
    return v->value;
}

/* `first`: the step at which the metric must become 1, and stay so; -1: it never is. */
struct expected {
    enum fault fault;
    bool is_narrow;
    int dead_first, stuck_first;
};

static const struct expected cases[] = {
    { HEALTHY, false, -1, -1 },
    { DEAD, false, FAULT + LYAP_STILL_POINTS - 1, -1 },
    { DEAD, true, FAULT + LYAP_STILL_POINTS - 1, -1 },
    { DEAD_DECAYS, false, FAULT + LYAP_STILL_POINTS - 1, -1 },
    { FROZEN, false, -1, -1 },
    { ONE_ROW, false, -1, -1 },
    { TINY, false, -1, -1 },
    { ALTERNATES, false, -1, -1 },
    { ALL_DEAD, false, -1, -1 },
    { STANDS, false, -1, -1 },
    { CLIPPED, false, -1, -1 },
    /* 1e-5 beside 1: BF16 keeps 2^-8 of it, F64 all. */
    { ROUNDED_AWAY, true, -1, FAULT + LYAP_STILL_POINTS },
    { ROUNDED_AWAY, false, -1, -1 },
    { FADED, true, -1, -1 },
    { RATE_ZERO, false, -1, -1 },
};

/* Absent until 32 points were seen, then a count. */
static void check_count(const struct lyap_point *point, enum lyap_metric metric, int first)
{
    const struct lyap_value *v = &point->metrics[metric];
    if (v->reason == LYAP_REASON_WARMING_UP || v->reason == LYAP_REASON_NO_PREVIOUS) {
        ck_assert_int_lt(point->step, FAULT + LYAP_STILL_POINTS);
        return;
    }
    const double expected = first >= 0 && point->step >= first;
    ck_assert_msg(value_of(point, metric) == expected, "step %lld: %s is %g",
                  (long long)point->step, lyap_metric_info(metric)->name, v->value);
}

/* A group of its own for the subject, as one declares to stop it. */
static void give_group(struct run *r)
{
    static struct lyap_optimizer_group group;
    struct lyap_declaration *d = &r->fixture.declaration;
    group = (struct lyap_optimizer_group){ .params = d->optimizer.base };
    d->optimizer.groups = &group;
    d->optimizer.group_count = 1;
    r->fixture.tensors[SUBJECT].group = 1;
    lyap_profile_free(r->profile);
    ck_assert_int_eq(lyap_profile_new(d, NAN, &r->profile), LYAP_OK);
}

START_TEST(test_what_counts)
{
    const struct expected *c = &cases[_i];
    struct run r;
    init(&r, c->fault, c->is_narrow);
    if (c->fault == RATE_ZERO)
        give_group(&r);
    for (; r.step < STEPS; update(&r)) {
        const struct lyap_point point = push(&r);
        /* What stands as a whole is not looked at: nothing is ever counted. */
        if ((c->fault == STANDS || c->fault == ALL_DEAD || c->fault == FADED) && r.step >= FAULT) {
            ck_assert(!(point.metrics[LYAP_METRIC_STUCK_TENSORS].value > 0));
            ck_assert(!(point.metrics[LYAP_METRIC_DEAD_TENSORS].value > 0));
            continue;
        }
        check_count(&point, LYAP_METRIC_DEAD_TENSORS, c->dead_first);
        check_count(&point, LYAP_METRIC_STUCK_TENSORS, c->stuck_first);
        const double dead = r.rows[SUBJECT].values[LYAP_TENSOR_METRIC_DEAD_POINTS];
        if (c->dead_first >= 0)
            test_close(dead, r.step < FAULT ? 0 : (double)(r.step - FAULT + 1), 0);
        if (c->fault == FROZEN && r.step >= FAULT)
            ck_assert(isnan(dead));
        ck_assert(r.rows[0].values[LYAP_TENSOR_METRIC_DEAD_POINTS] == 0);
    }
    r.fixture.declaration.optimizer.groups = NULL;
    r.fixture.declaration.optimizer.group_count = 0;
    release(&r);
}
END_TEST

/* Steps that are no finite points neither count nor forgive. */
START_TEST(test_events_leave_no_trace)
{
    struct run r;
    init(&r, DEAD, false);
    for (; r.step < FAULT + 10; update(&r))
        push(&r);
    r.fault = NONFINITE;
    for (int i = 0; i < 7; i++, update(&r)) {
        const struct lyap_point point = push(&r);
        ck_assert_int_eq(point.metrics[LYAP_METRIC_DEAD_TENSORS].reason, LYAP_REASON_NONFINITE);
    }
    r.fault = DEAD;
    push(&r);
    test_close(r.rows[SUBJECT].values[LYAP_TENSOR_METRIC_DEAD_POINTS], 11, 0);
    r.fault = HEALTHY;
    update(&r);
    push(&r);
    test_close(r.rows[SUBJECT].values[LYAP_TENSOR_METRIC_DEAD_POINTS], 0, 0);
    release(&r);
}
END_TEST

/* Sketches do not tell what a single tensor did. */
START_TEST(test_sketch_retention)
{
    struct run r;
    init(&r, DEAD, false);
    r.fixture.retention = LYAP_RETENTION_SKETCH;
    for (; r.step < STEPS; update(&r)) {
        const struct lyap_point point = push(&r);
        check_count(&point, LYAP_METRIC_DEAD_TENSORS, FAULT + LYAP_STILL_POINTS - 1);
        if (r.step > 0)
            ck_assert_int_eq(point.metrics[LYAP_METRIC_STUCK_TENSORS].reason,
                             LYAP_REASON_SKETCH_RETENTION);
    }
    release(&r);
}
END_TEST

/* Why they are absent: nothing pushed, no gradients, no optimizer. */
START_TEST(test_reasons)
{
    struct run r;
    struct lyap_point point;
    init(&r, HEALTHY, false);
    fixture_step(&r.fixture, 0);
    ck_assert_int_eq(
        lyap_profile_step(r.profile, &r.fixture.snapshot, NULL, LYAP_REASON_NONE, &point, NULL),
        LYAP_OK);
    ck_assert_int_eq(point.metrics[LYAP_METRIC_DEAD_TENSORS].reason, LYAP_REASON_NO_TENSORS);
    ck_assert_int_eq(point.metrics[LYAP_METRIC_STUCK_TENSORS].reason, LYAP_REASON_NO_TENSORS);
    release(&r);
    init(&r, HEALTHY, false);
    r.fixture.declaration.has_optimizer = false;
    lyap_optimizer_defaults(&r.fixture.declaration.optimizer, LYAP_OPTIMIZER_OTHER);
    lyap_profile_free(r.profile);
    ck_assert_int_eq(lyap_profile_new(&r.fixture.declaration, NAN, &r.profile), LYAP_OK);
    for (; r.step < 40; update(&r))
        point = push(&r);
    ck_assert(value_of(&point, LYAP_METRIC_DEAD_TENSORS) == 0);
    ck_assert_int_eq(point.metrics[LYAP_METRIC_STUCK_TENSORS].reason, LYAP_REASON_NO_OPTIMIZER);
    release(&r);
}
END_TEST

/* Saved windows go on counting; without them 32 points are needed again. */
START_TEST(test_restart)
{
    enum { CUT = FAULT + 15 };
    const bool is_saved = _i == 0;
    struct run r;
    struct lyap_profile *other;
    struct lyap_point points[CUT];
    void *bytes;
    uint64_t length;
    init(&r, DEAD, false);
    for (; r.step < CUT; update(&r))
        points[r.step] = push(&r);
    ck_assert_int_eq(lyap_profile_save(r.profile, &bytes, &length), LYAP_OK);
    ck_assert_int_eq(lyap_profile_new(&r.fixture.declaration, NAN, &other), LYAP_OK);
    for (int i = 0; i < CUT; i++)
        ck_assert_int_eq(lyap_profile_replay(other, &points[i]), LYAP_OK);
    if (is_saved)
        ck_assert_int_eq(lyap_profile_load(other, bytes, length), LYAP_OK);
    lyap_free(bytes);
    lyap_profile_free(r.profile);
    r.profile = other;
    const int first = is_saved ? FAULT + LYAP_STILL_POINTS - 1 : CUT + LYAP_STILL_POINTS - 1;
    for (; r.step < STEPS; update(&r)) {
        const struct lyap_point point = push(&r);
        const struct lyap_value *v = &point.metrics[LYAP_METRIC_DEAD_TENSORS];
        if (r.step < first)
            ck_assert(v->reason == LYAP_REASON_WARMING_UP || v->value == 0);
        else
            ck_assert(value_of(&point, LYAP_METRIC_DEAD_TENSORS) == 1);
    }
    release(&r);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile_still");
    TCase *tests = tcase_create("dead and stuck");
    tcase_add_loop_test(tests, test_what_counts, 0, sizeof cases / sizeof *cases);
    tcase_add_test(tests, test_events_leave_no_trace);
    tcase_add_test(tests, test_sketch_retention);
    tcase_add_test(tests, test_reasons);
    tcase_add_loop_test(tests, test_restart, 0, 2);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
