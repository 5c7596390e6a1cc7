/* lyap_client.h - pushes snapshots of a training run to lyapd and reads its answer
 * (docs/c-client.md). A call never blocks longer than its deadline, never ends the process and
 * never changes the arrays it is given; a push that failed may be forgotten or sent again: the
 * daemon recognises repetitions. Arrays are streamed from the caller's memory, nothing is copied.
 * `reterr` may be NULL; it keeps the first error it is given, so reset it before the next call.
 * THREADS: one client has one owner at a time; different clients are independent. */
#ifndef LYAP_CLIENT_H
#define LYAP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lyap/declaration.h"
#include "lyap/dtype.h"
#include "lyap/point.h"
#include "lyap/record.h"
#include "lyap/role.h"
#include "lyap/status.h"

enum {
    LYAP_CLIENT_DEADLINE_MS = 5000, /* of one call, repetitions included, unless stated */
    LYAP_CLIENT_ALERTS_MAX = 16     /* alerts of one reply; a run rarely has more than three */
};

/* What is sent: the tensors, or what liblyap makes of them here: some hundred kilobytes a push,
 * whatever the size of the model. Both give the same point. */
enum lyap_client_grade { LYAP_CLIENT_FULL, LYAP_CLIENT_PARTIAL };

/* All strings are copied. Zero or NULL: the default. */
struct lyap_client_options {
    const char *url; /* "http://127.0.0.1:9470" */
    const char *run; /* [A-Za-z0-9._-]{1,128} */
    const char
        *declaration; /* the body of PUT /v1/runs/{run} (docs/api.md): JSON object; or NULL */
    const char *attempt_key; /* opens a new attempt; the same key again means the same attempt */
    const char *token;       /* bearer token */
    uint32_t deadline_ms;
    enum lyap_client_grade grade;
    /* Partial grade: EXACT (the default) keeps the last snapshot in this process, SKETCH nothing.
     */
    enum lyap_retention retention;
    bool is_minimal; /* replies without metrics */
};

/* One array of a snapshot: row-major, little endian, borrowed until the call returns. */
struct lyap_client_array {
    enum lyap_role role;
    const char *name; /* of the tensor, without role */
    enum lyap_dtype dtype;
    uint32_t rank; /* 0: a scalar */
    const uint64_t *shape;
    const void *data;
};

/* A second training that started a small distance e away and sees the same batches (SPEC 2.5): the
 * log of its distance over e, renormalisations added; 0 when it is injected (anew). */
struct lyap_client_twin {
    const char *name; /* NULL: "random"; "active": the one along the direction of the probe */
    double log;
};

/* Any other key of the wire format as text (docs/wire.md): batch_id, probe_loss, x-..., */
struct lyap_client_meta {
    const char *key, *value;
};

/* The state after backward and before the update of `step`. Arrays of one tensor side by side
 * (param/a grad/a ... param/b) let the daemon work without holding anything back. */
struct lyap_client_push {
    int64_t step;
    bool has_loss, has_lr;
    double loss; /* a NaN is pushed as such: the daemon wants to know */
    double lr;   /* of the coming update */
    const struct lyap_client_array *arrays;
    uint32_t array_count;
    const struct lyap_client_meta *metadata;
    uint32_t metadata_count;
    const struct lyap_client_twin *twins;
    uint32_t twin_count; /* at most LYAP_TWIN_COUNT_MAX */
};

enum lyap_client_answer { LYAP_CLIENT_ACCEPTED, LYAP_CLIENT_DUPLICATE, LYAP_CLIENT_WAITING };

struct lyap_client_alert {
    int64_t id, since_step;
    char rule[LYAP_RULE_NAME_BYTES_MAX + 1];
    enum lyap_alert_state state;
    enum lyap_severity severity;
};

/* Plain data, owns nothing. */
struct lyap_client_reply {
    enum lyap_client_answer answer;
    struct lyap_point point; /* metrics absent (NOT_PUSHED) where the reply has none */
    struct lyap_client_alert alerts[LYAP_CLIENT_ALERTS_MAX];
    uint32_t alert_count;
    bool wants_state; /* push exp_avg and exp_avg_sq once */
};

/* What this client did since open. */
struct lyap_client_stats {
    uint64_t pushes, repetitions, failures, bytes;
};

struct lyap_client;

/* Declares the run (PUT). E_INVALID (an option, named), E_FORMAT (declaration), E_NOMEM, E_IO (the
 * daemon cannot be reached within the deadline), or what the daemon answers (slug of its problem).
 */
LYAP_API LYAP_MUST_CHECK enum lyap_status
lyap_client_open(const struct lyap_client_options *options, struct lyap_client **ret_client,
                 struct lyap_error *reterr);
/* Accepts NULL. */
LYAP_API void lyap_client_close(struct lyap_client *client);
/* One snapshot. OK also for a repetition. Repeats on transport failures and "try later" answers
 * (503, 507 ...) with growing pauses until the deadline: E_IO then. `ret_reply` may be NULL. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_client_push(struct lyap_client *client,
                                                           const struct lyap_client_push *push,
                                                           struct lyap_client_reply *ret_reply,
                                                           struct lyap_error *reterr);
/* GET of a path such as "/v1/alerts?run=a"; *ret_text is the body, freed with lyap_client_free. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_client_get(struct lyap_client *client,
                                                          const char *path, char **ret_text,
                                                          struct lyap_error *reterr);
/* The job is over: the run's state becomes `ended`, and its silence alarms nobody. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_client_end(struct lyap_client *client,
                                                          struct lyap_error *reterr);
LYAP_API uint32_t lyap_client_attempt(const struct lyap_client *client);
LYAP_API struct lyap_client_stats lyap_client_get_stats(const struct lyap_client *client);
LYAP_API void lyap_client_free(char *text);

#endif
