/* api.h - the HTTP interface and the ports through which it reaches storage and engine. The daemon
 * fills the ports; tests fill them with a fake. No microhttpd type leaves http.c, no json_t leaves
 * codec*.c. THREADS: api_new, api_free: main. Ports are called from the HTTP pool's threads; their
 * implementations are thread-safe. `done` callbacks may be called from any thread, also before
 * push_submit returns. */
#ifndef LYAP_API_H
#define LYAP_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lyap/declaration.h"
#include "lyap/intake.h"
#include "lyap/partial.h"
#include "lyap/point.h"
#include "lyap/onset.h"
#include "lyap/record.h"
#include "lyap/snapshot.h"

/* PUT /v1/runs/{run}. The declaration is the whole new one: fields the body left out are those
 * stored (codec merges `declaration_json`). */
struct api_run_put {
    const char *run;
    struct lyap_declaration declaration;
    const char *declaration_json; /* canonical JSON to store */
    const char *labels_json;      /* NULL: unchanged */
    bool is_new_attempt;
    const char *attempt_key; /* with is_new_attempt; same key, same answer */
    int ended;               /* 1: the job is over (state `ended`), 0: it is not, -1: not said.
                                A later push reopens the run. */
};
struct api_run_put_result {
    bool is_created;
    uint32_t attempt;
    uint64_t sketch_seed; /* replied as a decimal string: partial pushes are sketched with it */
};

enum api_push_status { API_PUSH_ACCEPTED, API_PUSH_DUPLICATE, API_PUSH_WAITING };
/* What a push is answered with; owned by whoever holds it, freed with api_push_reply_free. */
struct api_push_reply {
    enum lyap_status status;   /* OK, or why it was not stored (error says more) */
    enum api_push_status push; /* when OK */
    struct lyap_error error;
    char run[LYAP_RUN_NAME_BYTES_MAX + 1];
    struct lyap_point point;   /* ACCEPTED, DUPLICATE */
    bool wants_state;          /* "want": exp_avg, exp_avg_sq */
    struct lyap_alert *alerts; /* pending and firing ones of the run; strings owned */
    uint32_t alert_count;
};
void api_push_reply_free(struct api_push_reply *reply);

/* An admitted push: everything the kernels need, all borrowed from the ticket until submit or
 * abort. */
struct api_ticket; /* the daemon's */
struct api_admission {
    struct api_ticket *ticket;
    struct lyap_intake_config intake;
};
typedef void api_push_done(void *arg, struct api_push_reply *take_reply);

/* What became of a test notification. */
struct api_test_outcome {
    bool is_delivered;
    double seconds;
    char error[LYAP_ERROR_TEXT_BYTES]; /* when not */
};
/* `outcome` when OK, `error` (or NULL) when not. */
typedef void api_test_done(void *arg, enum lyap_status status, const struct lyap_error *error,
                           const struct api_test_outcome *outcome);
/* POST /v1/alerts/{id}/ack */
struct api_ack {
    int64_t id, until_ns; /* until_ns 0: without end */
    char by[LYAP_AUTHOR_BYTES_MAX + 1], comment[LYAP_COMMENT_BYTES_MAX + 1];
};
/* PUT /v1/packs/{pack}; no names: every rule of it. */
struct api_pack_put {
    const char *pack;
    bool is_enabled;
    const char **names;
    uint32_t name_count;
};

/* POST /v1/rules/{rule}/replay: a rule on the stored points of an attempt, nothing stored. */
struct api_replay_request {
    const char *run;
    uint32_t attempt;             /* 0: the current one */
    int64_t from_step, to_step;   /* inclusive; points before are looked back at */
    const char *rule;             /* name of a stored or shipped rule */
    const struct lyap_rule *body; /* or NULL: that one */
};
/* How an alert stands to the known end of the run (docs/rules.md). X(enum, wire name) */
#define API_OUTCOME_TABLE(X)                                                                       \
    X(RIGHT, "right")                                                                              \
    X(LATE, "late")                                                                                \
    X(FALSE, "false")                                                                              \
    X(NEITHER, "neither")                                                                          \
    X(UNDECIDED, "undecided")
enum api_outcome {
#define API_OUTCOME_ENUM(name, wire) API_OUTCOME_##name,
    API_OUTCOME_TABLE(API_OUTCOME_ENUM)
#undef API_OUTCOME_ENUM
        API_OUTCOME_COUNT
};
struct api_replay_alert {
    char *tensor;                                     /* owned; NULL: of the run */
    int64_t pending_step, firing_step, resolved_step; /* -1: not reached */
    double value;
    enum lyap_severity severity;
    enum api_outcome outcome; /* of one that fired */
    int64_t lead_steps;       /* RIGHT: from its firing to the onset */
};
struct api_replay { /* released with api_replay_release */
    uint32_t attempt;
    int64_t first_step, last_step; /* evaluated; -1: none */
    uint32_t points, evaluated;    /* points, and those with a value (tensor rules: with rows) */
    uint32_t absent[LYAP_REASON_COUNT];
    bool is_complete;  /* false: LYAP_REPLAY_POINTS_MAX was reached, last_step says where */
    const char *end;   /* static: diverged, spiked, nonfinite, stable, running, unknown */
    const char *truth; /* static: the loss that it was told from; NULL: there was none */
    struct lyap_onset onset;
    struct api_replay_alert *alerts; /* owned; at most LYAP_REPLAY_ALERTS_MAX */
    uint32_t alert_count, omitted;
    uint32_t outcomes[API_OUTCOME_COUNT]; /* of those that fired, the omitted ones left out */
    uint32_t missed;                      /* onsets without a right alarm */
    uint32_t healthy_points, notifications;
};
void api_replay_release(struct api_replay *replay);

/* ---- the live feed, GET /v1/events (feed.c) ---- */

/* X(enum, wire name) */
#define API_FEED_TYPE_TABLE(X)                                                                     \
    X(POINT, "point")                                                                              \
    X(ALERT, "alert")                                                                              \
    X(MARK, "mark")
enum api_feed_type {
#define API_FEED_TYPE_ENUM(name, wire) API_FEED_##name,
    API_FEED_TYPE_TABLE(API_FEED_TYPE_ENUM)
#undef API_FEED_TYPE_ENUM
        API_FEED_TYPE_COUNT
};
enum {
    API_FEED_READERS_MAX = 64,    /* each is a connection that does not end by itself */
    API_FEED_BYTES_MAX = 8 << 20, /* of the ring: about 20 000 points */
    API_FEED_ENTRIES_MAX = 1 << 16,
    API_FEED_HEARTBEAT_S = 15, /* half of what proxies commonly allow a silent connection */
    API_FEED_LINGER_S = 60,    /* the ring is kept so long without readers, for a reconnection */
};
/* A bounded ring of what was committed: who reads along misses nothing that fits into it, and is
 * told when something did not. The engine stages while a batch is made, and settles with it. While
 * nobody reads, events are only counted.
 * THREADS: stage, settle, beat: the engine; counts: any. */
struct api_feed;
/* `epoch` tells one daemon's ids from another's. NULL: out of memory. */
struct api_feed *api_feed_new(int64_t epoch);
void api_feed_free(struct api_feed *feed); /* NULL: nothing */
void api_feed_stage_point(struct api_feed *feed, const char *run, const struct lyap_point *point);
void api_feed_stage_alert(struct api_feed *feed, const struct lyap_alert *alert);
void api_feed_stage_mark(struct api_feed *feed, const char *run,
                         const struct lyap_event_record *event);
/* What was staged becomes visible, or is dropped. */
void api_feed_settle(struct api_feed *feed, bool is_committed);
/* Time passes: heartbeats, and the end of a ring that nobody reads. */
void api_feed_beat(struct api_feed *feed, int64_t monotonic_ns);
struct api_feed_counts {
    uint32_t readers;
    uint64_t sent, lost; /* events, over all readers */
};
struct api_feed_counts api_feed_count(struct api_feed *feed);

struct api_ports {
    void *ctx;
    struct api_feed *feed;

    enum lyap_status (*run_put)(void *ctx, const struct api_run_put *put,
                                struct api_run_put_result *ret, struct lyap_error *reterr);
    enum lyap_status (*run_delete)(void *ctx, const char *run, struct lyap_error *reterr);

    /* Checks run, attempt, step, rank, size and a queue slot when a snapshot's header is known,
     * before its body is worked on. `pushed` is the param set of the body (count 0: no tensors); a
     * run that does not exist is created with defaults. `chain` is the admission before it in the
     * same NDJSON body, or NULL. E_DUPLICATE: *ret_duplicate is the first answer. E_STALE_ATTEMPT,
     * E_STEP_ORDER, E_STEP_CLOSED, E_TENSOR_SET, E_UPLOAD_BUSY, E_QUEUE_FULL, E_STOPPING ... */
    enum lyap_status (*push_admit)(void *ctx, const char *run, const struct lyap_snapshot *snapshot,
                                   const struct lyap_tensor_set *pushed, struct api_ticket *chain,
                                   struct api_admission *ret_admission,
                                   struct api_push_reply **ret_duplicate,
                                   struct lyap_error *reterr);
    /* True when another upload of the same step replaced this one: stop reading. */
    bool (*push_is_replaced)(void *ctx, const struct api_ticket *ticket);
    /* The finished kernels' output of an admitted snapshot; before submit. Takes both. */
    void (*push_attach)(void *ctx, struct api_ticket *ticket, struct lyap_partial *take_partial,
                        struct lyap_memory *take_memory);
    /* Hands `count` attached tickets (one commit) to the engine; each is answered once through
     * `done`, in order, after the commit. Takes the tickets in any case; the array itself stays the
     * caller's. */
    void (*push_submit)(void *ctx, struct api_ticket **take_tickets, uint32_t count,
                        api_push_done *done, void *arg);
    void (*push_abort)(void *ctx, struct api_ticket *take_ticket);

    enum lyap_status (*query)(void *ctx, const struct lyap_query *query,
                              struct lyap_cursor **ret_cursor);
    /* The published last point of a run; E_NOT_FOUND: none is in memory, the store may know it.
     * Caller releases with lyap_point_release. */
    enum lyap_status (*latest)(void *ctx, const char *run, struct lyap_point *ret_point);

    enum lyap_status (*rule_put)(void *ctx, const struct lyap_rule *rule, bool *ret_is_created,
                                 struct lyap_error *reterr);
    enum lyap_status (*rule_delete)(void *ctx, const char *name, struct lyap_error *reterr);
    /* The packs of the daemon; NULL past the end. */
    const struct lyap_pack *(*pack)(void *ctx, uint32_t index);
    enum lyap_status (*pack_put)(void *ctx, const struct api_pack_put *put,
                                 struct lyap_error *reterr);
    /* Seconds of the caller's thread at most; E_BUSY: two are under way. */
    enum lyap_status (*replay)(void *ctx, const struct api_replay_request *request,
                               struct api_replay *ret_replay, struct lyap_error *reterr);
    enum lyap_status (*alert_ack)(void *ctx, const struct api_ack *ack, struct lyap_error *reterr);
    /* Sets the id; E_INVALID, E_LIMIT. */
    enum lyap_status (*silence_put)(void *ctx, struct lyap_silence *silence,
                                    struct lyap_error *reterr);
    /* Ends it now. E_NOT_FOUND: none of this id is in force. */
    enum lyap_status (*silence_delete)(void *ctx, int64_t id, struct lyap_error *reterr);

    /* `keeps_secret`: the body said nothing about it, a stored one stays. E_CONFLICT: the file of
     * receivers has it; E_LIMIT. */
    enum lyap_status (*receiver_put)(void *ctx, const struct lyap_receiver *receiver,
                                     bool keeps_secret, bool *ret_is_created,
                                     struct lyap_error *reterr);
    enum lyap_status (*receiver_delete)(void *ctx, const char *name, struct lyap_error *reterr);
    /* Sends a test notification; `done` is called once, from any thread, perhaps before this
     * returns. E_NOT_FOUND, E_BUSY, E_STOPPING, E_NOMEM. */
    void (*receiver_test)(void *ctx, const char *name, api_test_done *done, void *arg);

    bool (*is_ready)(void *ctx, char *ret_why, size_t why_bytes); /* readiness; `why` when not */
    /* Prometheus text and effective settings; malloc'ed, caller frees. NULL: out of memory. */
    char *(*metrics_text)(void *ctx);
    char *(*config_json)(void *ctx);
    int64_t (*now_ns)(void *ctx); /* UTC */
};

/* One receiver as PUT /v1/receivers/{name} takes it, strict; also of the daemon's file of them. The
 * strings of *ret_receiver are owned, api_receiver_release frees them. *ret_keeps_secret: nothing
 * was said about the secret. E_FORMAT, E_INVALID, E_UNKNOWN_FIELD, E_MISSING_FIELD, E_LIMIT,
 * E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status api_decode_receiver(const char *name, const char *json,
                                                     size_t length,
                                                     struct lyap_receiver *ret_receiver,
                                                     bool *ret_keeps_secret,
                                                     struct lyap_error *reterr);
void api_receiver_release(struct lyap_receiver *receiver);
/* An alert as GET /v1/alerts/{id} shows it; free(). NULL: out of memory, or above
 * LYAP_PAYLOAD_BYTES_MAX. */
char *api_alert_text(const struct lyap_alert *alert);

struct api_options {
    const char *host;                         /* address to bind */
    uint16_t port;                            /* 0: any free one */
    const char *token_file;                   /* NULL: no auth, loopback only */
    const char *tls_cert_file, *tls_key_file; /* NULL: plain HTTP */
    uint32_t thread_count;
    uint32_t connection_count_max;
    uint32_t connection_memory_bytes; /* of each connection; chunks come at most half as large */
    uint32_t connection_timeout_s;
    uint64_t body_bytes_max;
    uint32_t upload_seconds_max;
};

struct api_server;
/* Binds and serves. E_INVALID (address, token file), E_IO (port taken). */
LYAP_MUST_CHECK enum lyap_status api_new(const struct api_options *options,
                                         const struct api_ports *ports,
                                         struct api_server **ret_server, struct lyap_error *reterr);
uint16_t api_port(const struct api_server *server);
/* Stops accepting; the caller then stops the engine, which answers every submitted push; then
 * api_free. */
void api_quiesce(struct api_server *server);
void api_free(struct api_server *server);
/* Re-reads the token file. */
LYAP_MUST_CHECK enum lyap_status api_reload(struct api_server *server, struct lyap_error *reterr);

#endif
