/* What the profile certifies of every optimizer with an energy, as it is pushed: residuals, H1 and
 * H2 (SPEC 3); and that it sees a divergence. */
#include <math.h>

#include "session.h"
#include "trials.h"

enum { STEPS = 8, FIRST = 3, SEEN = 6, UPDATES_MAX = 10000 };
static const double AT_REST = 1e-6;  /* shorter updates are rounding */
static const double LEADS_AT = 1e12; /* loss, from about 1 */

enum {
    GD,
    GD_L2,
    CLIPPED,
    BALL,
    BALL_L2,
    NESTEROV,
    ADAM,
    ADAM_L2,
    ADAMW,
    RMSPROP,
    RMSPROP_L2,
    L1,
    L2,
    GROUP,
    ELASTIC,
    BOX,
    SPHERE,
    SIMPLEX
};
static const struct training_kind kinds[] = {
    [GD] = { "gd", LYAP_OPTIMIZER_SGD, .rate = 1.5 },
    [GD_L2] = { "gd l2", LYAP_OPTIMIZER_SGD, .weight_decay = 0.1, .rate = 1.5 },
    [CLIPPED] = { "clipped gd", LYAP_OPTIMIZER_SGD, .clip_norm = 0.5, .rate = 1.5 },
    [BALL] = { "ball", LYAP_OPTIMIZER_SGD, .momentum = 0.7, .rate = 1 },
    [BALL_L2] = { "ball l2", LYAP_OPTIMIZER_SGD, .momentum = 0.7, .weight_decay = 0.1, .rate = 1 },
    [NESTEROV] = { "nesterov", LYAP_OPTIMIZER_SGD, .momentum = 0.7, .is_nesterov = true,
                   .rate = 0.5 },
    [ADAM] = { "adam", LYAP_OPTIMIZER_ADAM, .rate = 0.3 },
    [ADAM_L2] = { "adam l2", LYAP_OPTIMIZER_ADAM, .weight_decay = 0.1, .rate = 0.3 },
    [ADAMW] = { "adamw", LYAP_OPTIMIZER_ADAMW, .weight_decay = 0.2, .rate = 0.3 },
    [RMSPROP] = { "rmsprop", LYAP_OPTIMIZER_RMSPROP, .rate = 0.1 },
    [RMSPROP_L2] = { "rmsprop l2", LYAP_OPTIMIZER_RMSPROP, .weight_decay = 0.1, .rate = 0.1 },
    [L1] = { "l1", LYAP_OPTIMIZER_PROXGD, .prox = LYAP_PROX_L1, .rate = 1 },
    [L2] = { "l2", LYAP_OPTIMIZER_PROXGD, .prox = LYAP_PROX_L2, .rate = 1 },
    [GROUP] = { "group l1", LYAP_OPTIMIZER_PROXGD, .prox = LYAP_PROX_GROUP_L1, .rate = 1 },
    [ELASTIC] = { "elastic net", LYAP_OPTIMIZER_PROXGD, .prox = LYAP_PROX_ELASTIC_NET, .rate = 1 },
    [BOX] = { "box", LYAP_OPTIMIZER_PROJGD, .set = LYAP_SET_BOX, .rate = 1 },
    [SPHERE] = { "ball set", LYAP_OPTIMIZER_PROJGD, .set = LYAP_SET_BALL, .rate = 1 },
    [SIMPLEX] = { "simplex", LYAP_OPTIMIZER_PROJGD, .set = LYAP_SET_SIMPLEX, .rate = 1 },
};

static double value_of(const struct lyap_point *point, enum lyap_metric metric)
{
    must(point->metrics[metric].reason == LYAP_REASON_NONE, lyap_metric_info(metric)->name);
    return point->metrics[metric].value;
}

/* The residual above what rounding of the energy and the stated error leave. */
static double excess(const struct lyap_point *point, enum lyap_metric metric)
{
    const double rounding = 1e-14 * fabs(value_of(point, LYAP_METRIC_ENERGY)) /
                            value_of(point, LYAP_METRIC_ENERGY_SCALE);
    const double stated = point->metrics[metric].error;
    return value_of(point, metric) - rounding - (stated > 0 ? stated : 0);
}

/* The largest residual that must not be positive. */
static double largest_residual(const struct lyap_point *point)
{
    const double smooth = excess(point, LYAP_METRIC_SMOOTHNESS_RESIDUAL);
    if (value_of(point, LYAP_METRIC_ENERGY_BOUND) < 0)
        return smooth;
    return fmax(smooth, excess(point, LYAP_METRIC_DISSIPATION_RESIDUAL));
}

static struct sides residuals(struct test_rng *random, unsigned kind)
{
    struct session session;
    double largest = -INFINITY;
    session_begin(&session, &kinds[kind], random);
    for (int step = 0; step < STEPS; step++) {
        training_gradient(&session.run);
        const struct lyap_point point = session_push(&session);
        if (step >= FIRST && value_of(&point, LYAP_METRIC_UPDATE_NORM) > AT_REST)
            largest = fmax(largest, largest_residual(&point));
        training_update(&session.run);
    }
    session_end(&session);
    return (struct sides){ isinf(largest) ? 0 : largest, 0 };
}

/* 1 - eta ell/2 - a eta, or b eta - 1 - eta ell: the largest, without rounding. */
static struct sides hypothesis(struct test_rng *random, unsigned kind, bool is_h1)
{
    struct session session;
    double largest = -INFINITY;
    session_begin(&session, &kinds[kind], random);
    const double length = session.run.lr * session.run.ell;
    for (int step = 0; step < STEPS; step++) {
        training_gradient(&session.run);
        const struct lyap_point point = session_push(&session);
        if (step > 0 && value_of(&point, LYAP_METRIC_UPDATE_NORM) > AT_REST) {
            const double norm = value_of(&point, LYAP_METRIC_UPDATE_NORM);
            const double rounding =
                1e-14 * fabs(training_loss(&session.run)) * session.run.lr / (norm * norm);
            const double decrease = value_of(&point, LYAP_METRIC_SUFFICIENT_DECREASE);
            const double error = value_of(&point, LYAP_METRIC_RELATIVE_ERROR);
            largest =
                fmax(largest, (is_h1 ? 1 - length / 2 - decrease : error - 1 - length) - rounding);
        }
        training_update(&session.run);
    }
    session_end(&session);
    return (struct sides){ isinf(largest) ? 0 : largest, 0 };
}

/* A rate at which the leading curvature grows by a tenth a step or more. */
static double diverging_rate(const struct session *session, struct test_rng *random)
{
    const struct training_kind *kind = session->run.kind;
    const double beta = kind->momentum, past = 1.05 + 0.3 * test_rng_uniform(random);
    const double limit = kind->is_nesterov ? 2 * (1 + beta) / (1 + 2 * beta) : 2 * (1 + beta);
    return past * limit / (session->run.ell - 0.3); /* lambda of the penalties: they damp */
}

/* The least residual of the last steps: positive once the mode leads. */
static struct sides divergence(struct test_rng *random, unsigned kind)
{
    struct session session;
    double least = INFINITY;
    session_begin(&session, &kinds[kind], random);
    session.run.lr = diverging_rate(&session, random);
    for (int i = 0; i < TRAINING_SIZE; i++)
        session.run.x[i] *= 100; /* far from the kinks, about which l1 can cycle */
    for (int step = 0; step < SEEN;) {
        training_gradient(&session.run);
        if (training_loss(&session.run) > LEADS_AT) {
            const struct lyap_point point = session_push(&session);
            if (step >= FIRST)
                least = fmin(least, value_of(&point, LYAP_METRIC_DISSIPATION_RESIDUAL));
            step++;
        }
        must(session.run.t < UPDATES_MAX, "a divergence");
        training_update(&session.run);
    }
    session_end(&session);
    return (struct sides){ 0, least };
}

#define RESIDUALS(kind, function)                                                                  \
    static struct sides function(struct test_rng *random)                                          \
    {                                                                                              \
        return residuals(random, kind);                                                            \
    }
#define HYPOTHESES(kind, function)                                                                 \
    static struct sides function##_h1(struct test_rng *random)                                     \
    {                                                                                              \
        return hypothesis(random, kind, true);                                                     \
    }                                                                                              \
    static struct sides function##_h2(struct test_rng *random)                                     \
    {                                                                                              \
        return hypothesis(random, kind, false);                                                    \
    }                                                                                              \
    RESIDUALS(kind, function)
#define DIVERGES(kind, function)                                                                   \
    static struct sides function##_diverges(struct test_rng *random)                               \
    {                                                                                              \
        return divergence(random, kind);                                                           \
    }

RESIDUALS(GD_L2, gd_l2)
RESIDUALS(CLIPPED, clipped)
RESIDUALS(BALL_L2, ball_l2)
RESIDUALS(NESTEROV, nesterov)
RESIDUALS(ADAM, adam)
RESIDUALS(ADAM_L2, adam_l2)
RESIDUALS(ADAMW, adamw)
RESIDUALS(RMSPROP, rmsprop)
RESIDUALS(RMSPROP_L2, rmsprop_l2)
HYPOTHESES(L1, l1)
HYPOTHESES(L2, l2)
HYPOTHESES(GROUP, group)
HYPOTHESES(ELASTIC, elastic)
HYPOTHESES(BOX, box)
HYPOTHESES(SPHERE, sphere)
HYPOTHESES(SIMPLEX, simplex)
DIVERGES(GD, gd)
DIVERGES(GD_L2, gd_l2)
DIVERGES(BALL, ball)
DIVERGES(BALL_L2, ball_l2)
DIVERGES(NESTEROV, nesterov)
DIVERGES(L1, l1)
DIVERGES(L2, l2)
DIVERGES(GROUP, group)
DIVERGES(ELASTIC, elastic)

#define NOT_POSITIVE "no residual that is certified is positive"
#define ALL_OF(name, function)                                                                     \
    { name " (profile): " NOT_POSITIVE, "3.5", function },                                         \
        { name " (profile): a eta >= 1 - eta ell/2", "3.5", function##_h1 },                       \
    {                                                                                              \
        name " (profile): b eta <= 1 + eta ell", "3.5", function##_h2                              \
    }
#define LEADS "past its limit (profile): dissipation residual > 0 once the mode leads"

const struct trial profile_trials[] = {
    { "GD with coupled decay (profile): " NOT_POSITIVE, "3.2", gd_l2 },
    { "clipped GD (profile): " NOT_POSITIVE, "3.0", clipped },
    { "heavy ball with coupled decay (profile): " NOT_POSITIVE, "3.3", ball_l2 },
    { "Nesterov, form of descent (profile): " NOT_POSITIVE, "3.2", nesterov },
    { "Adam (profile): " NOT_POSITIVE, "3.4", adam },
    { "Adam with coupled decay (profile): " NOT_POSITIVE, "3.4", adam_l2 },
    { "AdamW within its stated error (profile): " NOT_POSITIVE, "3.4", adamw },
    { "RMSProp (profile): " NOT_POSITIVE, "3.4", rmsprop },
    { "RMSProp with coupled decay (profile): " NOT_POSITIVE, "3.4", rmsprop_l2 },
    ALL_OF("proximal l1", l1),
    ALL_OF("proximal l2", l2),
    ALL_OF("proximal group l1", group),
    ALL_OF("elastic net", elastic),
    ALL_OF("projection on a box", box),
    ALL_OF("projection on a ball", sphere),
    ALL_OF("projection on a simplex", simplex),
    { "GD " LEADS, "3.0", gd_diverges },
    { "GD with coupled decay " LEADS, "3.0", gd_l2_diverges },
    { "heavy ball " LEADS, "3.0", ball_diverges },
    { "heavy ball with coupled decay " LEADS, "3.0", ball_l2_diverges },
    { "Nesterov " LEADS, "3.0", nesterov_diverges },
    { "proximal l1 " LEADS, "3.0", l1_diverges },
    { "proximal l2 " LEADS, "3.0", l2_diverges },
    { "proximal group l1 " LEADS, "3.0", group_diverges },
    { "elastic net " LEADS, "3.0", elastic_diverges },
};
const uint32_t profile_trial_count = sizeof profile_trials / sizeof *profile_trials;
