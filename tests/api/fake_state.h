/* fake_state.h - the fake from inside: what fake.c and fake_engine.c share. THREADS: the lock
 * guards all but the ports. */
#ifndef TEST_API_FAKE_STATE_H
#define TEST_API_FAKE_STATE_H

#include <pthread.h>

#include "fake.h"

struct api_ticket {
    char run[LYAP_RUN_NAME_BYTES_MAX + 1];
    struct lyap_declaration declaration; /* the run's, as it was admitted */
    int64_t step;
    double loss, lr;
    uint32_t present;
    bool is_attached;
    struct lyap_partial partial;
    struct lyap_memory *memory;
};

struct batch {
    struct batch *next;
    struct api_ticket **tickets;
    uint32_t count;
    api_push_done *done;
    void *arg;
};

struct fake {
    struct api_ports ports;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t engine;
    bool is_stopping;
    struct batch *first, **last;
    struct fake_run runs[FAKE_RUNS_MAX];
    struct lyap_rule rules[FAKE_RULES_MAX];
    uint32_t rule_count;
    struct lyap_receiver receivers[FAKE_RULES_MAX];
    uint32_t receiver_count;
    api_test_done *test_done; /* of the test that is never answered */
    void *test_arg;
    struct lyap_silence silences[FAKE_SILENCES_MAX]; /* id: index + 1; strings owned */
    uint32_t silence_count;
    struct api_ack ack; /* the last one */
    int64_t acked_ns[FAKE_ALERTS + 1];
    uint64_t admitted, attached, submitted, aborted;
};

struct fake_run *fake_run_create(struct fake *fake, const char *name); /* with the lock held */
void fake_engine_start(struct fake *fake);
void fake_engine_ports(struct api_ports *ports);

#endif
