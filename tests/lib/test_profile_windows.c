/* Windows of a profile: replay, save and load; and pushes that lack something:
 * non-finite, skipped, gaps, no tensors, a missing rank, other batches. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "profile_internal.h"
#include "profile_trainer.h"

static const struct lyap_optimizer_params plain = { .lr = .1 };

static enum lyap_reason reason_of(const struct lyap_point *p, enum lyap_metric metric)
{
    return (enum lyap_reason)p->metrics[metric].reason;
}

/* A point as storage gives it back: numbers, presence, flags; nothing else. */
static struct lyap_point stored(const struct lyap_point *point)
{
    struct lyap_point copy;
    lyap_point_init(&copy);
    copy.step = point->step;
    copy.attempt = point->attempt;
    copy.is_event_only = point->is_event_only;
    copy.is_gap = point->is_gap;
    memcpy(copy.twin_names, point->twin_names, sizeof copy.twin_names);
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++)
        if (point->metrics[i].reason == LYAP_REASON_NONE) {
            copy.metrics[i].value = point->metrics[i].value;
            copy.metrics[i].reason = LYAP_REASON_NONE;
        }
    return copy;
}

static void same_bits(double a, double b, const char *what, int64_t step)
{
    ck_assert_msg(memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b)),
                  "step %lld %s: %.17g, continued %.17g", (long long)step, what, a, b);
}

/* Windows of single tensors are saved with the sketches: by a replay alone they fill anew
 * (docs/detection.md), and the scores see them. */
static bool is_refilled(enum lyap_metric metric)
{
    static const enum lyap_metric refilled[] = {
        LYAP_METRIC_UPDATE_Z,
        LYAP_METRIC_UPDATE_Z_MEDIAN,
        LYAP_METRIC_GRAD_Z,
        LYAP_METRIC_GRAD_Z_MEDIAN,
        LYAP_METRIC_DEAD_TENSORS,
        LYAP_METRIC_STUCK_TENSORS,
        LYAP_METRIC_INSTABILITY_SCORE,
        LYAP_METRIC_INSTABILITY_SCORE_NEXT,
    };
    for (unsigned i = 0; i < sizeof refilled / sizeof *refilled; i++)
        if (metric == refilled[i])
            return true;
    return false;
}

static void same_points(const struct lyap_point *a, const struct lyap_point *b, bool is_whole)
{
    for (unsigned i = 0; i < LYAP_METRIC_COUNT; i++) {
        if (!is_whole && is_refilled((enum lyap_metric)i))
            continue;
        const char *name = lyap_metric_info((enum lyap_metric)i)->name;
        ck_assert_msg(a->metrics[i].reason == b->metrics[i].reason, "step %lld %s: %s, then %s",
                      (long long)a->step, name,
                      lyap_reason_name((enum lyap_reason)a->metrics[i].reason),
                      lyap_reason_name((enum lyap_reason)b->metrics[i].reason));
        ck_assert_int_eq(a->metrics[i].trust, b->metrics[i].trust);
        same_bits(a->metrics[i].value, b->metrics[i].value, name, a->step);
        same_bits(a->metrics[i].error, b->metrics[i].error, name, a->step);
    }
    /* the state follows the score */
    if (a->metrics[LYAP_METRIC_INSTABILITY_SCORE].value ==
        b->metrics[LYAP_METRIC_INSTABILITY_SCORE].value)
        ck_assert_int_eq(a->state, b->state);
    ck_assert_int_eq(a->verdict, b->verdict);
    ck_assert_int_eq(a->is_gap, b->is_gap);
}

/* A profile that replays the first k stored points and goes on gives the points of one that ran
 * through, to the last bit: after 3, 30, 90 and 150 points, across an alarm and a change of rate.
 */
START_TEST(test_replay_continues)
{
    static const int cuts[] = { 3, 30, 90, 150 };
    struct trainer t;
    struct lyap_profile *other;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    t.has_sketches = false;
    t.has_probe_loss = true;
    ck_assert_int_eq(lyap_profile_new(&t.fixture.declaration, NAN, &other), LYAP_OK);
    for (; t.step < 230; trainer_update(&t)) {
        t.is_probing = t.step % 5 == 0;
        t.lr = t.step >= 140 && t.step < 160 ? .9 : .1;
        t.loss_factor = t.step >= 170 && t.step < 200 ? 8 : 1;
        const struct lyap_point live = trainer_push(&t);
        if (t.step < cuts[_i]) {
            const struct lyap_point again = stored(&live);
            ck_assert_int_eq(lyap_profile_replay(other, &again), LYAP_OK);
            continue;
        }
        struct lyap_point continued;
        ck_assert_int_eq(lyap_profile_step(other, &t.fixture.snapshot, &t.partial, LYAP_REASON_NONE,
                                           &continued, NULL),
                         LYAP_OK);
        same_points(&live, &continued, false);
    }
    same_bits(lyap_profile_reference_loss(t.profile), lyap_profile_reference_loss(other), "ref",
              t.step);
    lyap_profile_free(other);
    trainer_free(&t);
}
END_TEST

/* With the sketch windows saved and loaded nothing at all is lost; a blob older than the newest
 * point gives its pairs back, but no predecessor. */
START_TEST(test_save_and_load)
{
    enum { CUT = 33 };
    const bool is_stale = _i == 2;
    struct trainer t;
    struct lyap_profile *other;
    struct lyap_point points[CUT + 1] = { { .step = -1 } };
    void *bytes = NULL;
    uint64_t length = 0;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    t.has_probe_loss = true;
    for (; t.step <= CUT; trainer_update(&t)) {
        t.is_probing = t.step % 5 == 0 && _i > 0;
        points[t.step] = trainer_push(&t);
        if (t.step == (is_stale ? CUT - 1 : CUT))
            ck_assert_int_eq(lyap_profile_save(t.profile, &bytes, &length), LYAP_OK);
    }
    ck_assert_int_eq(lyap_profile_new(&t.fixture.declaration, NAN, &other), LYAP_OK);
    for (int i = 0; i <= CUT; i++) {
        const struct lyap_point again = stored(&points[i]);
        ck_assert_int_eq(lyap_profile_replay(other, &again), LYAP_OK);
    }
    ck_assert_int_eq(lyap_profile_load(other, bytes, length), LYAP_OK);
    for (; t.step < 60; trainer_update(&t)) {
        struct lyap_point continued;
        t.is_probing = t.step % 5 == 0 && _i > 0;
        const struct lyap_point live = trainer_push(&t);
        ck_assert_int_eq(lyap_profile_step(other, &t.fixture.snapshot, &t.partial, LYAP_REASON_NONE,
                                           &continued, NULL),
                         LYAP_OK);
        if (!is_stale)
            same_points(&live, &continued, true);
        else if (t.step == CUT + 1) /* the windows of tensors are older than the points: anew */
            ck_assert_int_eq(reason_of(&continued, LYAP_METRIC_GRAD_Z), LYAP_REASON_WARMING_UP);
        if (is_stale && t.step == CUT + 1)
            ck_assert_int_eq(reason_of(&continued, LYAP_METRIC_UPDATE_COSINE),
                             LYAP_REASON_NO_PREVIOUS);
    }
    lyap_free(bytes);
    lyap_profile_free(other);
    trainer_free(&t);
}
END_TEST

/* An update that was left out before the save is left out of the count after the load too. */
START_TEST(test_save_and_load_behind_an_event)
{
    enum { CUT = 20 };
    struct trainer t;
    struct lyap_profile *other;
    struct lyap_point points[CUT + 2];
    struct lyap_snapshot event;
    void *bytes = NULL;
    uint64_t length = 0;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    for (; t.step <= CUT; trainer_update(&t))
        points[t.step] = trainer_push(&t);
    lyap_snapshot_init(&event);
    event.step = t.step;
    event.is_skipped = true;
    ck_assert_int_eq(
        lyap_profile_step(t.profile, &event, NULL, LYAP_REASON_NONE, &points[CUT + 1], NULL),
        LYAP_OK);
    ck_assert_int_eq(lyap_profile_save(t.profile, &bytes, &length), LYAP_OK);
    ck_assert_int_eq(lyap_profile_new(&t.fixture.declaration, NAN, &other), LYAP_OK);
    for (int i = 0; i <= CUT + 1; i++) {
        const struct lyap_point again = stored(&points[i]);
        ck_assert_int_eq(lyap_profile_replay(other, &again), LYAP_OK);
    }
    ck_assert_int_eq(lyap_profile_load(other, bytes, length), LYAP_OK);
    t.step++;
    for (int i = 0; i < 5; i++, trainer_update(&t)) {
        struct lyap_point continued;
        const struct lyap_point live = trainer_push(&t);
        ck_assert_int_eq(lyap_profile_step(other, &t.fixture.snapshot, &t.partial, LYAP_REASON_NONE,
                                           &continued, NULL),
                         LYAP_OK);
        same_points(&live, &continued, true);
    }
    lyap_free(bytes);
    lyap_snapshot_release(&event);
    lyap_profile_free(other);
    trainer_free(&t);
}
END_TEST

/* A cut, longer, or foreign blob is refused and changes nothing. */
START_TEST(test_bad_blobs)
{
    struct trainer t;
    unsigned char *bytes;
    void *saved = NULL, *after = NULL;
    uint64_t length = 0, after_length = 0;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    for (; t.step < 12; trainer_update(&t)) {
        t.is_probing = t.step % 5 == 0;
        (void)trainer_push(&t);
    }
    ck_assert_int_eq(lyap_profile_save(t.profile, &saved, &length), LYAP_OK);
    bytes = calloc(length + 8, 1);
    memcpy(bytes, saved, length);
    const uint64_t lengths[] = { 0, 7, 8, 16, 31, 600, length / 2, length - 1, length + 8 };
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++)
        ck_assert_int_eq(lyap_profile_load(t.profile, bytes, lengths[i]), LYAP_E_FORMAT);
    bytes[7] = '2';
    ck_assert_int_eq(lyap_profile_load(t.profile, bytes, length), LYAP_E_FORMAT);
    bytes[7] = '1';
    memset(bytes + 8, 0xff, 8); /* k */
    ck_assert_int_eq(lyap_profile_load(t.profile, bytes, length), LYAP_E_FORMAT);
    ck_assert_int_eq(lyap_profile_save(t.profile, &after, &after_length), LYAP_OK);
    ck_assert_uint_eq(length, after_length);
    ck_assert_int_eq(memcmp(saved, after, length), 0);
    free(bytes);
    lyap_free(saved);
    lyap_free(after);
    trainer_free(&t);
}
END_TEST

/* ---- pushes of scalars alone ---- */

struct scalars {
    struct lyap_declaration declaration;
    struct lyap_profile *profile;
    struct lyap_snapshot snapshot;
};

static void scalars_init(struct scalars *s)
{
    lyap_declaration_init(&s->declaration);
    lyap_snapshot_init(&s->snapshot);
    ck_assert_int_eq(lyap_profile_new(&s->declaration, NAN, &s->profile), LYAP_OK);
}

static void scalars_free(struct scalars *s)
{
    lyap_profile_free(s->profile);
    lyap_snapshot_release(&s->snapshot);
    lyap_declaration_release(&s->declaration);
}

/* A push of `key` = value pairs; the list ends with NULL. */
static struct lyap_point scalars_push(struct scalars *s, const char *const *pairs,
                                      enum lyap_reason missing)
{
    struct lyap_error err = LYAP_ERROR_NULL;
    struct lyap_point point;
    lyap_snapshot_release(&s->snapshot);
    lyap_snapshot_init(&s->snapshot);
    for (; *pairs; pairs += 2)
        ck_assert_msg(lyap_snapshot_set(&s->snapshot, pairs[0], pairs[1], &err) == LYAP_OK, "%s",
                      err.text);
    ck_assert_int_eq(lyap_profile_step(s->profile, &s->snapshot, NULL, missing, &point, NULL),
                     LYAP_OK);
    return point;
}
#define PUSH(s, ...) scalars_push((s), (const char *const[]){ __VA_ARGS__, NULL }, LYAP_REASON_NONE)

START_TEST(test_without_tensors)
{
    struct scalars s;
    scalars_init(&s);
    struct lyap_point p = PUSH(&s, "step", "0");
    ck_assert_int_eq(p.state, LYAP_STATE_BLIND);
    ck_assert_int_eq(p.verdict, LYAP_VERDICT_INSUFFICIENT);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_LOSS), LYAP_REASON_NO_LOSS);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_LR), LYAP_REASON_NO_LR);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_GRAD_NORM), LYAP_REASON_NO_TENSORS);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_NONFINITE_GRAD), LYAP_REASON_NO_TENSORS);
    p = PUSH(&s, "step", "1", "loss", "2.5", "lr", "0.1,0.3", "grad_norm", "4", "param_norm", "10",
             "update_norm", "0.5");
    test_close(trainer_value(&p, LYAP_METRIC_LOSS), 2.5, 0);
    test_close(trainer_value(&p, LYAP_METRIC_LR), .3, 0);
    test_close(trainer_value(&p, LYAP_METRIC_GRAD_NORM), 4, 0);
    test_close(trainer_value(&p, LYAP_METRIC_PARAM_NORM), 10, 0);
    test_close(trainer_value(&p, LYAP_METRIC_UPDATE_NORM), .5, 0);
    test_close(trainer_value(&p, LYAP_METRIC_PROGRESS_SCALE), .25, 1e-15);
    ck_assert_int_eq(p.state, LYAP_STATE_WARMING_UP);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_STABILITY_LIMIT), LYAP_REASON_NO_OPTIMIZER);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_SHARPNESS), LYAP_REASON_NO_TENSORS);
    ck_assert(p.metrics[LYAP_METRIC_INSTABILITY_SCORE].reason ==
              LYAP_REASON_NONE); /* of the loss */
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_INSTABILITY_SCORE_NEXT), LYAP_REASON_NO_TENSORS);
    scalars_free(&s);
}
END_TEST

/* Non-finite and skipped pushes are kept as events and leave every window alone. */
START_TEST(test_events_leave_no_trace)
{
    struct scalars a, b;
    char step[16], loss[32];
    struct test_rng rng = { 8 };
    scalars_init(&a);
    scalars_init(&b);
    for (int i = 0; i < 120; i++) {
        snprintf(step, sizeof step, "%d", i);
        snprintf(loss, sizeof loss, "%.17g", 2 + .1 * test_rng_normal(&rng));
        if (i % 7 == 3) {
            struct lyap_point p = i % 2 ? PUSH(&a, "step", step, "loss", "NaN")
                                        : PUSH(&a, "step", step, "loss", loss, "skipped", "true");
            ck_assert(p.is_event_only);
            ck_assert_int_eq(reason_of(&p, LYAP_METRIC_LOSS), LYAP_REASON_NONE);
            ck_assert_int_eq(reason_of(&p, LYAP_METRIC_PROGRESS_SCALE),
                             i % 2 ? LYAP_REASON_NONFINITE : LYAP_REASON_SKIPPED);
            ck_assert_int_eq(isnan(p.metrics[LYAP_METRIC_LOSS].value), i % 2);
            ck_assert_int_eq(p.state == LYAP_STATE_UNSTABLE, i % 2);
            continue;
        }
        const struct lyap_point p = PUSH(&a, "step", step, "loss", loss);
        const struct lyap_point q = PUSH(&b, "step", step, "loss", loss);
        for (unsigned m = 0; m < LYAP_METRIC_COUNT; m++)
            /* The score knows that q comes after a step that was not pushed. */
            if (m != LYAP_METRIC_INSTABILITY_SCORE || !q.is_gap)
                same_bits(p.metrics[m].value, q.metrics[m].value,
                          lyap_metric_info((enum lyap_metric)m)->name, i);
        ck_assert(!p.is_gap);
        ck_assert_int_eq(q.is_gap, i % 7 == 4);
    }
    scalars_free(&a);
    scalars_free(&b);
}
END_TEST

START_TEST(test_missing_rank)
{
    struct trainer t;
    struct lyap_point p = { .step = -1 };
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    (void)trainer_push(&t);
    trainer_update(&t);
    (void)trainer_push(&t);
    t.fixture.snapshot.step = 2;
    ck_assert_int_eq(lyap_profile_step(t.profile, &t.fixture.snapshot, &t.partial,
                                       LYAP_REASON_RANK_MISSING, &p, t.rows),
                     LYAP_OK);
    test_close(trainer_value(&p, LYAP_METRIC_LOSS), t.loss, 0);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_GRAD_NORM), LYAP_REASON_RANK_MISSING);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_NET_WORK), LYAP_REASON_RANK_MISSING);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_UPDATE_COSINE), LYAP_REASON_RANK_MISSING);
    ck_assert(!isnan(trainer_value(&p, LYAP_METRIC_PROGRESS_SCALE)));
    trainer_free(&t);
}
END_TEST

/* The loss alone at step 3, and at the end once more: D goes back to the snapshot before, further
 * than the point before does. */
START_TEST(test_a_point_without_tensors_is_a_gap)
{
    struct trainer t;
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    for (; t.step < 3; trainer_update(&t))
        (void)trainer_push(&t);
    double before[NET_SIZE], sum = 0;
    memcpy(before, t.theta, sizeof before); /* theta_3; the memory is of step 2 */
    struct lyap_point p = { .step = -1 };
    fixture_step(&t.fixture, 3);
    ck_assert_int_eq(
        lyap_profile_step(t.profile, &t.fixture.snapshot, NULL, LYAP_REASON_NONE, &p, t.rows),
        LYAP_OK);
    (void)golden_net_grad(&t.net, t.theta, t.grad);
    trainer_update(&t);
    t.fixture.updates = 2;
    p = trainer_push(&t);
    for (int i = 0; i < NET_SIZE; i++)
        sum += (t.theta[i] - before[i]) * (t.theta[i] - before[i]);
    ck_assert(trainer_value(&p, LYAP_METRIC_UPDATE_NORM) > 1.5 * sqrt(sum)); /* of two updates */
    static const enum lyap_metric gaps[] = {
        LYAP_METRIC_UPDATE_IDENTITY, LYAP_METRIC_NET_WORK,    LYAP_METRIC_WORK_RESIDUAL,
        LYAP_METRIC_ENERGY,          LYAP_METRIC_GRAD_COSINE,
    };
    for (unsigned i = 0; i < sizeof gaps / sizeof *gaps; i++)
        ck_assert_msg(reason_of(&p, gaps[i]) == LYAP_REASON_STEP_GAP, "%s: %s",
                      lyap_metric_info(gaps[i])->name, lyap_reason_name(reason_of(&p, gaps[i])));
    trainer_update(&t);
    t.fixture.updates = 1;
    p = trainer_push(&t);
    ck_assert(trainer_value(&p, LYAP_METRIC_UPDATE_IDENTITY) < 1e-6);
    trainer_free(&t);
}
END_TEST

/* Mini-batches: no tau, no Ritz pairs, no energies; equal batch ids make one function of two. */
START_TEST(test_different_batches)
{
    struct trainer t;
    struct lyap_point p = { .step = -1 };
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    t.fixture.declaration.data = LYAP_DATA_MINIBATCH;
    ck_assert_int_eq(lyap_profile_redeclare(t.profile, &t.fixture.declaration), LYAP_OK);
    for (; t.step < 5; trainer_update(&t))
        p = trainer_push(&t);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_WORK_RESIDUAL), LYAP_REASON_DIFFERENT_BATCH);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_ENERGY), LYAP_REASON_DIFFERENT_BATCH);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_SHARPNESS), LYAP_REASON_DIFFERENT_BATCH);
    ck_assert_int_eq(p.metrics[LYAP_METRIC_CURVATURE_ALONG_STEP].trust, LYAP_TRUST_C);
    (void)trainer_value(&p, LYAP_METRIC_NET_WORK);
    ck_assert_int_eq(p.verdict, LYAP_VERDICT_INSUFFICIENT);
    t.batch_id = "b1";
    p = trainer_push(&t);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_WORK_RESIDUAL), LYAP_REASON_DIFFERENT_BATCH);
    trainer_update(&t);
    p = trainer_push(&t);
    (void)trainer_value(&p, LYAP_METRIC_WORK_RESIDUAL);
    (void)trainer_value(&p, LYAP_METRIC_VISITED_CURVATURE);
    ck_assert_uint_eq(t.profile->passive.count, 1);
    trainer_update(&t);
    t.batch_id = "b2";
    p = trainer_push(&t);
    ck_assert_uint_eq(t.profile->passive.count, 0);
    trainer_free(&t);
}
END_TEST

/* Sketch retention: D from consecutive sketches, class E, tau and omega absent by name. */
START_TEST(test_sketch_retention)
{
    struct trainer exact, sketched;
    trainer_init(&exact, LYAP_OPTIMIZER_SGD, &plain);
    trainer_init(&sketched, LYAP_OPTIMIZER_SGD, &plain);
    sketched.fixture.retention = LYAP_RETENTION_SKETCH;
    static const enum lyap_metric same[] = { LYAP_METRIC_UPDATE_NORM, LYAP_METRIC_NET_WORK,
                                             LYAP_METRIC_OVERSHOOT_WORK,
                                             LYAP_METRIC_CURVATURE_ALONG_STEP,
                                             LYAP_METRIC_GRAD_COSINE };
    for (int i = 0; i < 20; i++) {
        const struct lyap_point p = trainer_push(&exact), q = trainer_push(&sketched);
        for (unsigned k = 0; i > 1 && k < sizeof same / sizeof *same; k++) {
            const struct lyap_value *v = &q.metrics[same[k]];
            ck_assert_int_eq(v->trust, LYAP_TRUST_E);
            ck_assert(v->error > 0);
            /* The error is an rms: five of them for the tails of a model of four blocks. */
            ck_assert(fabs(trainer_value(&q, same[k]) - trainer_value(&p, same[k])) <=
                      5 * v->error);
        }
        if (i > 0) {
            ck_assert_int_eq(reason_of(&q, LYAP_METRIC_WORK_RESIDUAL),
                             LYAP_REASON_SKETCH_RETENTION);
            ck_assert_int_eq(reason_of(&q, LYAP_METRIC_UPDATE_IDENTITY),
                             LYAP_REASON_SKETCH_RETENTION);
        } else
            ck_assert_int_eq(reason_of(&q, LYAP_METRIC_UPDATE_NORM), LYAP_REASON_NO_PREVIOUS);
        trainer_update(&exact);
        trainer_update(&sketched);
    }
    trainer_free(&exact);
    trainer_free(&sketched);
}
END_TEST

/* A late joiner of an Adam run: what needs the state says so, and the state is asked for once. */
START_TEST(test_state_is_asked_for_once)
{
    const struct lyap_optimizer_params params = {
        .lr = .002, .beta1 = .9, .beta2 = .999, .eps = 1e-8
    };
    struct trainer t;
    struct lyap_point p = { .step = -1 };
    trainer_init(&t, LYAP_OPTIMIZER_ADAM, &params);
    t.is_late = true;
    for (; t.step < 3; trainer_update(&t))
        p = trainer_push(&t);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_PREDICTED_DECREASE), LYAP_REASON_NEEDS_STATE);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_SECANT_CURVATURE), LYAP_REASON_NEEDS_STATE);
    (void)trainer_value(&p, LYAP_METRIC_NET_WORK);
    ck_assert(lyap_profile_wants_state(t.profile));
    ck_assert(!lyap_profile_wants_state(t.profile));
    trainer_free(&t);
}
END_TEST

/* An optimizer that is not the declared one: limits and energies are withheld by name. */
START_TEST(test_optimizer_mismatch)
{
    const struct lyap_optimizer_params declared = { .lr = .1, .momentum = .5 };
    struct trainer t;
    struct lyap_point p = { .step = -1 };
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    lyap_profile_free(t.profile);
    t.fixture.declaration.optimizer.base = declared;
    ck_assert_int_eq(lyap_profile_new(&t.fixture.declaration, NAN, &t.profile), LYAP_OK);
    for (int i = 0; i < 6; i++) {
        t.fixture.declaration.optimizer.base = declared;
        p = trainer_push(&t);
        t.fixture.declaration.optimizer.base = plain; /* what really runs */
        trainer_update(&t);
    }
    ck_assert(trainer_value(&p, LYAP_METRIC_UPDATE_IDENTITY) > .05);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_STABILITY_LIMIT), LYAP_REASON_OPTIMIZER_MISMATCH);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_ENERGY), LYAP_REASON_OPTIMIZER_MISMATCH);
    trainer_free(&t);
}
END_TEST

/* Steps that were not pushed: the work over the gap is there, what needs one update is not. */
START_TEST(test_gap)
{
    struct trainer t;
    struct lyap_point p = { .step = -1 };
    trainer_init(&t, LYAP_OPTIMIZER_SGD, &plain);
    for (int i = 0; i < 4; i++) {
        t.fixture.updates = i ? 10 : 1;
        p = trainer_push(&t);
        for (int k = 0; k < 10; k++) {
            golden_net_grad(&t.net, t.theta, t.grad);
            trainer_update(&t);
        }
    }
    ck_assert(p.is_gap);
    (void)trainer_value(&p, LYAP_METRIC_NET_WORK);
    (void)trainer_value(&p, LYAP_METRIC_WORK_RESIDUAL);
    (void)trainer_value(&p, LYAP_METRIC_UPDATE_COSINE);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_ENERGY), LYAP_REASON_STEP_GAP);
    ck_assert_int_eq(reason_of(&p, LYAP_METRIC_UPDATE_IDENTITY), LYAP_REASON_STEP_GAP);
    trainer_free(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile_windows");
    TCase *tests = tcase_create("profile_windows");
    tcase_add_loop_test(tests, test_replay_continues, 0, 4);
    tcase_add_loop_test(tests, test_save_and_load, 0, 3);
    tcase_add_test(tests, test_save_and_load_behind_an_event);
    tcase_add_test(tests, test_bad_blobs);
    tcase_add_test(tests, test_without_tensors);
    tcase_add_test(tests, test_events_leave_no_trace);
    tcase_add_test(tests, test_missing_rank);
    tcase_add_test(tests, test_a_point_without_tensors_is_a_gap);
    tcase_add_test(tests, test_different_batches);
    tcase_add_test(tests, test_sketch_retention);
    tcase_add_test(tests, test_state_is_asked_for_once);
    tcase_add_test(tests, test_optimizer_mismatch);
    tcase_add_test(tests, test_gap);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
