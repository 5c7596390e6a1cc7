/* report.h - what the trainer tells a person, and what it remembers for the verdict at the end.
 * THREADS: one owner. */
#ifndef TRAINER_REPORT_H
#define TRAINER_REPORT_H

#include "lyap_client.h"
#include "options.h"

enum { REPORT_LOSSES = 20, REPORT_ALERTS_MAX = 64 };

struct report {
    const struct options *options; /* borrowed */
    struct lyap_client *client;    /* borrowed; NULL without a daemon */
    long fault_at;                 /* step of the first fault */
    double losses[REPORT_LOSSES];  /* ring of the newest batch losses */
    long loss_count;
    double loss_before;              /* median before the fault; NaN: not reached */
    long alerted_at, tripled_at;     /* steps; -1: not yet */
    char rule[64 + 1];               /* of the first warning or critical alert */
    int64_t seen[REPORT_ALERTS_MAX]; /* alerts already printed */
    uint32_t seen_count;
    long advised_at;
};

void report_init(struct report *report, const struct options *options, struct lyap_client *client);
/* Every step, after the push; `reply` NULL without a daemon. */
void report_step(struct report *report, long step, double loss, double lr,
                 const struct lyap_client_reply *reply);
/* The trainer follows an advice: of a reduced rate, with `lr`; of a rollback, to step `to`, or not
 * when that is -1. */
void report_advice(struct report *report, long step, const struct lyap_action *action, double lr,
                   long to);
/* Prints the summary; true when it came as expected (--expect). */
bool report_end(struct report *report, double accuracy);

#endif
