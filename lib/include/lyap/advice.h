/* advice.h - what a job is advised to do, from mild to strong, and when the mild did not help:
 *
 *   skip --LYAP_ADVICE_SKIPS in a row--> reduce_lr --LYAP_ADVICE_CUTS times--> rollback
 *        --no step to go back to, or no rollback left--> stop
 *
 * Where more than half of the progress is lost for two points in a row, reduce_lr becomes rollback
 * at once, while there is a step to go back to and a rollback left (docs/rescue.md). So it does
 * where the lower rate would be less than 1/LYAP_ADVICE_SHARE of the healthy one: a fault that
 * stays is no matter of the rate, and ends in stop. The healthy rate is the one at which training
 * last was calm, and where advice has lowered the rate since, what the job's own schedule has made
 * of it.
 *
 * Where an attempt stands on this ladder is a function of its stored points (absorb), so that it
 * goes on after a restart. Embedded by value. THREADS: one owner at a time. */
#ifndef LYAP_ADVICE_H
#define LYAP_ADVICE_H

#include "lyap/optimizer.h"
#include "lyap/point.h"

enum {
    LYAP_ADVICE_SKIPS = 3,      /* batches left out in a row: then it is not the batch */
    LYAP_ADVICE_SKIP_REST = 10, /* quiet points after which skips count from 0 again */
    LYAP_ADVICE_CUTS = 3,       /* lower rates without effect */
    LYAP_ADVICE_PATIENCE = 10,  /* steps for a lower rate to show; half a memory of beta .9 more */
    LYAP_ADVICE_SHARE = 64,     /* three cuts of a job that takes half of what is advised */
    LYAP_ADVICE_CALM = 50,      /* quiet points after which cuts count from 0 again */
    LYAP_ADVICE_REFILL = 1000   /* quiet points after which rollbacks count from 0 again, and the
                                   rate that is in use then is the healthy one */
};

struct lyap_advice {
    int64_t calm_step; /* last step at which nothing was wrong and the loss had not begun to rise:
                          x <= 0.1 + sigma (docs/detection.md); -1: none in this attempt */
    uint32_t skips, cuts;
    uint32_t lost;     /* points in a row at which more than half of the progress was lost */
    uint32_t quiet;    /* points in a row without advice or instability */
    bool is_lowered;   /* advice has lowered the rate: what is calm now is no measure for more */
    bool is_back_due;  /* a rollback was advised, and no calm has come since: what opens an attempt
                          now follows it, also when the answer came late */
    int64_t cut_step;  /* of the last lower rate without a number that was counted; -1: none */
    double lr;         /* the least that was advised; NaN: none since the last calm */
    double pushed_lr;  /* last; NaN: none in this attempt */
    double healthy_lr; /* at which training last was calm by itself, else that of the first advice;
                          while is_lowered it falls and rises with the pushed rates, but for the
                          falls that follow advice, up to what it was. NaN: not known. An attempt
                          that follows a rollback inherits it */
    double healthy_lr_max; /* what it was */
};

/* What is asked at a point, after the alerts were evaluated. */
struct lyap_advice_question {
    enum lyap_action_kind wanted;            /* the strongest action of the firing alerts */
    const struct lyap_optimizer *optimizer;  /* or NULL */
    const struct lyap_point *point;          /* state and metrics are final */
    uint32_t rollbacks_used, rollbacks_left; /* of rollbacks_max (docs/configuration.md) */
};

/* `healthy_lr` of the attempt that was gone back from; else NaN. */
LYAP_API void lyap_advice_init(struct lyap_advice *advice, double healthy_lr);
/* Half of the progress is lost at this point, and was at the one before: x > 1 + sigma. */
LYAP_API bool lyap_advice_is_lost(const struct lyap_advice *advice, const struct lyap_point *point);
/* Takes a point with its final state and action, in step order. */
LYAP_API void lyap_advice_absorb(struct lyap_advice *advice, const struct lyap_point *point);
/* reduce_lr: the largest stable learning rate at the accepted curvature of the point (SPEC 2.6),
 * with the formula and numbers in `reason`; without accepted curvature, or when that is above the
 * present rate, half of it, said so. rollback: to calm_step, with half the present rate, or what
 * the healthy one leaves of it. A
 * rollback that only a gradient or a loss asks for, while the parameters are finite, becomes skip:
 * nothing has entered the weights yet; but only LYAP_ADVICE_SKIPS times in a row. */
LYAP_API void lyap_advice_give(const struct lyap_advice *advice,
                               const struct lyap_advice_question *question,
                               struct lyap_action *ret_action);

#endif
