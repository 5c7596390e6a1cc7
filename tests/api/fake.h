/* fake.h - ports filled from memory: a small daemon without storage or formulas, for tests of the
 * HTTP interface. Its engine is a thread, so that pushes really wait. Names of runs steer it:
 *   admit-<slug>    push_admit fails with the status of that slug
 *   answer-<slug>   the engine answers with it
 *   waiting         the engine answers that it waits for other ranks
 *   replaced        push_is_replaced says yes
 *   inline          answered before push_submit returns
 *   slow            answered after a third of a second
 *   never           answered when the engine stops
 * Names of receivers steer their test: fails, never (as above).
 * THREADS: as api.h asks. */
#ifndef TEST_API_FAKE_H
#define TEST_API_FAKE_H

#include "api.h"

enum {
    FAKE_RUNS_MAX = 256,
    FAKE_POINTS_MAX = 20000,
    FAKE_RULES_MAX = 16,
    FAKE_ALERTS = 5,
    FAKE_SILENCES_MAX = 8
};

struct fake_run {
    char name[LYAP_RUN_NAME_BYTES_MAX + 1]; /* empty: deleted */
    uint32_t attempt;
    char attempt_key[LYAP_LABEL_BYTES_MAX + 1];
    bool is_ended;
    char *declaration_json, *labels_json; /* owned */
    struct lyap_declaration declaration;
    struct lyap_point *points; /* owned */
    uint32_t point_count, point_capacity;
};

struct fake;
struct fake *fake_new(void);
void fake_free(struct fake *fake); /* after fake_stop */
/* Answers everything that was submitted and joins the engine. */
void fake_stop(struct fake *fake);
const struct api_ports *fake_ports(struct fake *fake);

/* For fake_query.c; with the lock held. */
struct fake_run *fake_run_find(struct fake *fake, const char *name);
struct fake_run *fake_run_at(struct fake *fake, uint32_t index);
const struct lyap_receiver *fake_receiver_at(struct fake *fake, uint32_t index); /* as below */
struct lyap_rule *fake_rule_at(struct fake *fake, uint32_t index);       /* NULL past the end */
struct lyap_silence *fake_silence_at(struct fake *fake, uint32_t index); /* NULL past the end */
int64_t fake_alert_acked(struct fake *fake, int64_t id);
void fake_lock(struct fake *fake);
void fake_unlock(struct fake *fake);
enum lyap_status fake_query(void *ctx, const struct lyap_query *query,
                            struct lyap_cursor **ret_cursor);

#endif
