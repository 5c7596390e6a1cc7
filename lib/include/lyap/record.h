/* record.h - the rows that storage keeps and the API serves: runs, attempts, events, rules, alerts;
 * and the one way to ask for them (query, cursor). Shared vocabulary of schema/, api/ and daemon/.
 * THREADS: plain data, one owner at a time. Strings of a record from a cursor are borrowed until
 * the next call on that cursor. */
#ifndef LYAP_RECORD_H
#define LYAP_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/declaration.h"
#include "lyap/limits.h"
#include "lyap/layer_row.h"
#include "lyap/point.h"
#include "lyap/status.h"

struct lyap_run_record {
    int64_t id;
    char name[LYAP_RUN_NAME_BYTES_MAX + 1];
    int64_t created_ns, updated_ns; /* updated: the last accepted push or PUT */
    uint32_t attempt;               /* the current one, from 1 */
    enum lyap_run_state state;
    enum lyap_retention retention; /* as chosen: exact or sketch */
    uint64_t sketch_seed;
    int64_t last_step;            /* -1: none yet */
    const char *declaration_json; /* canonical JSON of the PUT body's fields */
    const char *labels_json;      /* object of strings */
    struct lyap_action action;    /* current advice */
    uint32_t rollbacks;           /* advised and followed by a new attempt; see daemon/actions.c */
    enum lyap_verdict verdict;
};

struct lyap_attempt_record {
    int64_t run_id;
    uint32_t attempt;
    char key[LYAP_LABEL_BYTES_MAX + 1]; /* attempt_key; empty for the first */
    int64_t started_ns, ended_ns;       /* ended 0: current */
    int64_t first_step, last_step;      /* -1: none */
    double reference_loss;              /* NaN: not yet known */
    double healthy_lr;                  /* of the attempt that was gone back from; NaN: none */
};

/* X(enum, wire name): marks of a run. */
#define LYAP_EVENT_TABLE(X)                                                                        \
    X(ATTEMPT, "attempt")                                                                          \
    X(LR_CHANGE, "lr-change")                                                                      \
    X(NONFINITE, "nonfinite")                                                                      \
    X(SKIPPED, "skipped")                                                                          \
    X(GAP, "step-gap")                                                                             \
    X(RANK_MISSING, "rank-missing")                                                                \
    X(OPTIMIZER_MISMATCH, "optimizer-mismatch")                                                    \
    X(THEOREM_CHECK, "theorem-check-failed")                                                       \
    X(DECLARATION, "declaration")                                                                  \
    X(RETENTION, "retention")                                                                      \
    X(STATE, "state")
enum lyap_event_kind {
#define LYAP_EVENT_ENUM(name, wire) LYAP_EVENT_##name,
    LYAP_EVENT_TABLE(LYAP_EVENT_ENUM)
#undef LYAP_EVENT_ENUM
        LYAP_EVENT_COUNT
};
struct lyap_event_record {
    int64_t id, run_id, step, time_ns;
    uint32_t attempt;
    enum lyap_event_kind kind;
    const char *detail_json; /* object; never NULL */
};

/* What a rule may compare besides expressions over metrics. X(enum, wire name, of the daemon
 * itself: looked at twice a second, else of a point, formula) */
#define LYAP_CONDITION_TABLE(X)                                                                    \
    X(MISSING_RANKS, "missing_ranks", false,                                                       \
      "ranks whose part was not there when the step was closed")                                   \
    X(DROPPED_PUSHES, "dropped_pushes", false,                                                     \
      "snapshots that the client left out before this one: its label x-dropped")                   \
    X(CLOCK_SKEW, "clock_skew_seconds", false,                                                     \
      "lead of the sender's clock (`sent`) over the daemon's; else that of the pushed time, or 0") \
    X(REFUSED_PUSHES, "refused_pushes", true,                                                      \
      "pushes of the last minute refused for want of queue, memory or disk")                       \
    X(QUEUE_FILL, "queue_fill", true, "pushes between admission and answer / queue_length")        \
    X(DISK_HEADROOM, "disk_headroom", true,                                                        \
      "free bytes of the database's file system / disk_reserve")                                   \
    X(DELIVERY_DELAY, "delivery_delay_seconds", true,                                              \
      "age of the oldest notification that waits to be sent; 0 without one")
enum lyap_condition {
#define LYAP_CONDITION_ENUM(name, wire, is_own, formula) LYAP_CONDITION_##name,
    LYAP_CONDITION_TABLE(LYAP_CONDITION_ENUM)
#undef LYAP_CONDITION_ENUM
        LYAP_CONDITION_COUNT
};
LYAP_API const char *lyap_condition_name(enum lyap_condition condition);
LYAP_API const char *lyap_condition_formula(enum lyap_condition condition);
LYAP_API bool lyap_condition_is_own(enum lyap_condition condition);
LYAP_API bool lyap_condition_parse(const char *name, enum lyap_condition *ret_condition);

enum lyap_comparison { LYAP_CMP_GT, LYAP_CMP_GE, LYAP_CMP_LT, LYAP_CMP_LE };
enum lyap_severity { LYAP_SEVERITY_INFO, LYAP_SEVERITY_WARNING, LYAP_SEVERITY_CRITICAL };
struct lyap_rule {
    char name[LYAP_RULE_NAME_BYTES_MAX + 1];
    uint32_t version; /* counts up with each PUT */
    bool is_enabled, is_builtin;
    char metric[LYAP_EXPR_BYTES_MAX + 1]; /* expression over metrics (expr.h); with `tensor_pattern`
                                             of a tensor's; or a condition of the engine:
                                             silent_seconds, nonfinite (elements and losses, skipped
                                             steps excepted) */
    char tensor_pattern[LYAP_PATTERN_BYTES_MAX + 1]; /* empty: the point's metric */
    enum lyap_comparison comparison;
    double threshold, clear; /* clear NaN: the threshold */
    uint32_t for_steps;      /* consecutive points that meet it before it fires, >= 1 */
    uint32_t clear_steps;    /* consecutive points below clear before it resolves, >= 1 */
    bool is_once;            /* at most one alert per attempt */
    uint32_t min_points;     /* points of the attempt before it is evaluated */
    enum lyap_severity severity;
    enum lyap_action_kind action;                 /* CONTINUE: advises nothing */
    char run_pattern[LYAP_PATTERN_BYTES_MAX + 1]; /* glob over run names; empty: every run */
    const char *runs_json;                    /* label selector, object of globs; NULL: every run */
    uint32_t cooldown_steps, cooldown_s;      /* after an alert resolved none opens for so long */
    uint32_t notify_per_hour;                 /* notifications of a run, at most; 0: no limit */
    char cause[LYAP_RULE_NAME_BYTES_MAX + 1]; /* alerts of one cause notify as one; empty: the
                                                 rule's name */
    int64_t updated_ns;                       /* of this version; 0: not stored yet */
    bool is_deleted;         /* of a version in the history: the rule ended with it */
    const char *source;      /* where the default comes from; NULL for users' rules */
    const char *notify_json; /* names of receivers, array of strings; NULL: all that match */
};

/* Rules that the daemon brings, switched on and off as a whole or one by one. */
struct lyap_pack {
    const char *name, *title;
    const struct lyap_rule *rules; /* static */
    uint32_t count;
};

enum lyap_alert_state { LYAP_ALERT_PENDING, LYAP_ALERT_FIRING, LYAP_ALERT_RESOLVED };
/* What people are told by a change of an alert. Decided where the change is (daemon/alerts.h);
 * delivery sends what is not NONE, once for each change. */
enum lyap_notice {
    LYAP_NOTICE_NONE,
    LYAP_NOTICE_FIRING,
    LYAP_NOTICE_RESOLVED, /* the last alert of the group resolved */
    LYAP_NOTICE_ENDED     /* likewise, in silence: nobody is told, what repeats is done */
};
/* Why a firing alert was not told. X(enum, wire name) */
#define LYAP_HELD_TABLE(X)                                                                         \
    X(NO, "no")                                                                                    \
    X(SILENCED, "silenced")                                                                        \
    X(GROUPED, "grouped")                                                                          \
    X(RATE_LIMITED, "rate-limited")
enum lyap_held {
#define LYAP_HELD_ENUM(name, wire) LYAP_HELD_##name,
    LYAP_HELD_TABLE(LYAP_HELD_ENUM)
#undef LYAP_HELD_ENUM
        LYAP_HELD_COUNT
};
struct lyap_alert {
    int64_t id;                            /* 0: not stored yet */
    int64_t run_id;                        /* 0: of the daemon itself, attempt 0 */
    char run[LYAP_RUN_NAME_BYTES_MAX + 1]; /* empty: of the daemon itself */
    uint32_t attempt;
    char rule[LYAP_RULE_NAME_BYTES_MAX + 1];
    uint32_t rule_version;
    const char *tensor; /* NULL: the point's metric */
    enum lyap_alert_state state;
    enum lyap_severity severity;
    int64_t pending_step, firing_step, resolved_step; /* -1: not reached */
    int64_t updated_ns;
    int64_t firing_ns, resolved_ns; /* times of those points; 0: not reached */
    int64_t acked_ns;               /* 0: not acknowledged */
    int64_t ack_until_ns;           /* 0: without end */
    char acked_by[LYAP_AUTHOR_BYTES_MAX + 1], ack_comment[LYAP_COMMENT_BYTES_MAX + 1];
    char cause[LYAP_RULE_NAME_BYTES_MAX + 1]; /* what its group is called */
    int64_t group_id;   /* id of the first alert of its group (run, attempt, cause); 0: itself */
    int64_t silence_id; /* 0: not silenced */
    int64_t silenced_until_ns;
    int64_t notified_ns; /* when people were told that it, or its group, fires; 0: not */
    enum lyap_held held;
    enum lyap_notice notice; /* of this change; not stored */
    bool is_turn;            /* this change is one of state; not stored */
    double value, threshold;
    const char *summary;
    const char *evidence_json; /* object: formula, inputs, window, parts, tensors */
};
/* Whether it is acknowledged and that has not ended. */
LYAP_API bool lyap_alert_is_acked(const struct lyap_alert *alert, int64_t now_ns);

/* Keeps the alerts that match from notifying. */
struct lyap_silence {
    int64_t id;                                                             /* 0: not stored yet */
    char run[LYAP_PATTERN_BYTES_MAX + 1], rule[LYAP_PATTERN_BYTES_MAX + 1]; /* globs; empty: any */
    int severity;            /* enum lyap_severity; -1: any */
    const char *labels_json; /* of the run, object of globs; NULL: any */
    const char *comment;     /* never NULL */
    char by[LYAP_AUTHOR_BYTES_MAX + 1];
    int64_t created_ns, until_ns; /* over from until_ns on */
};

/* Open alerts of one run, attempt and cause. */
struct lyap_alert_group {
    int64_t id; /* of its first alert */
    char run[LYAP_RUN_NAME_BYTES_MAX + 1];
    uint32_t attempt;
    char cause[LYAP_RULE_NAME_BYTES_MAX + 1];
    enum lyap_severity severity; /* the worst */
    uint32_t pending, firing, silenced, tensors;
    int64_t first_step, updated_ns, notified_ns; /* 0: not notified */
    const char *rules;                           /* names, separated by commas */
};

/* ---- delivery (docs/delivery.md) ---- */

/* X(enum, wire name) */
#define LYAP_RECEIVER_TYPE_TABLE(X)                                                                \
    X(WEBHOOK, "webhook")                                                                          \
    X(ALERTMANAGER, "alertmanager")                                                                \
    X(SENDMAIL, "sendmail")                                                                        \
    X(LOG, "log")
#define LYAP_RECEIVER_FORMAT_TABLE(X)                                                              \
    X(JSON, "json")                                                                                \
    X(SLACK, "slack")                                                                              \
    X(DISCORD, "discord")
/* WAITING: to be sent. REPEATING: delivered, and sent again while the alert fires. FAILED: given
 * up. */
#define LYAP_DELIVERY_STATE_TABLE(X)                                                               \
    X(WAITING, "waiting")                                                                          \
    X(REPEATING, "repeating")                                                                      \
    X(DELIVERED, "delivered")                                                                      \
    X(FAILED, "failed")
#define LYAP_RECEIVER_TYPE_ENUM(name, wire)   LYAP_RECEIVER_##name,
#define LYAP_RECEIVER_FORMAT_ENUM(name, wire) LYAP_FORMAT_##name,
#define LYAP_DELIVERY_STATE_ENUM(name, wire)  LYAP_DELIVERY_##name,
enum lyap_receiver_type {
    LYAP_RECEIVER_TYPE_TABLE(LYAP_RECEIVER_TYPE_ENUM) LYAP_RECEIVER_TYPE_COUNT
};
enum lyap_receiver_format {
    LYAP_RECEIVER_FORMAT_TABLE(LYAP_RECEIVER_FORMAT_ENUM) LYAP_FORMAT_COUNT
};
enum lyap_delivery_state {
    LYAP_DELIVERY_STATE_TABLE(LYAP_DELIVERY_STATE_ENUM) LYAP_DELIVERY_STATE_COUNT
};
#undef LYAP_RECEIVER_TYPE_ENUM
#undef LYAP_RECEIVER_FORMAT_ENUM
#undef LYAP_DELIVERY_STATE_ENUM

struct lyap_receiver {
    char name[LYAP_RULE_NAME_BYTES_MAX + 1];
    enum lyap_receiver_type type;
    enum lyap_receiver_format format; /* of WEBHOOK */
    const char *target;               /* URL, or address of SENDMAIL; never NULL */
    const char *secret;               /* key of the signature; NULL: not signed */
    enum lyap_severity min_severity;
    const char *labels_json; /* label selector of runs, object of strings; NULL: every run */
    bool is_from_file;       /* of the file of receivers, which alone changes it */
};
struct lyap_delivery {
    int64_t id; /* 0: not stored yet */
    int64_t alert_id;
    char receiver[LYAP_RULE_NAME_BYTES_MAX + 1];
    enum lyap_alert_state kind; /* FIRING or RESOLVED */
    enum lyap_delivery_state state;
    uint32_t attempts; /* since it was due */
    int64_t created_ns;
    int64_t next_ns;                   /* 0: no further attempt */
    int64_t delivered_ns;              /* last success; 0: none */
    char error[LYAP_ERROR_TEXT_BYTES]; /* of the last attempt; empty: none or a success */
    const char *payload_json;
};

LYAP_API const char *lyap_receiver_type_name(enum lyap_receiver_type type);
LYAP_API bool lyap_receiver_type_parse(const char *name, enum lyap_receiver_type *ret_type);
LYAP_API const char *lyap_receiver_format_name(enum lyap_receiver_format format);
LYAP_API bool lyap_receiver_format_parse(const char *name, enum lyap_receiver_format *ret_format);
LYAP_API const char *lyap_delivery_state_name(enum lyap_delivery_state state);
LYAP_API bool lyap_delivery_state_parse(const char *name, enum lyap_delivery_state *ret_state);
LYAP_API const char *lyap_event_name(enum lyap_event_kind kind);
LYAP_API const char *lyap_comparison_name(enum lyap_comparison comparison);
LYAP_API bool lyap_comparison_parse(const char *name, enum lyap_comparison *ret_comparison);
LYAP_API const char *lyap_severity_name(enum lyap_severity severity);
LYAP_API bool lyap_severity_parse(const char *name, enum lyap_severity *ret_severity);
LYAP_API const char *lyap_held_name(enum lyap_held held);
LYAP_API const char *lyap_alert_state_name(enum lyap_alert_state state);
LYAP_API bool lyap_alert_state_parse(const char *name, enum lyap_alert_state *ret_state);
/* [A-Za-z0-9._-]{1,128}; rule names likewise up to 64. */
LYAP_API bool lyap_run_name_is_valid(const char *name);
LYAP_API bool lyap_rule_name_is_valid(const char *name);

/* ---- reading: one query, one cursor, slices ---- */
enum lyap_table {
    LYAP_TABLE_RUNS,
    LYAP_TABLE_POINTS,
    LYAP_TABLE_SERIES,
    LYAP_TABLE_TENSORS,
    LYAP_TABLE_ATTEMPTS,
    LYAP_TABLE_EVENTS,
    LYAP_TABLE_RULES,
    LYAP_TABLE_ALERTS,
    LYAP_TABLE_RECEIVERS,
    LYAP_TABLE_DELIVERIES,
    LYAP_TABLE_RULE_VERSIONS, /* of `rule` */
    LYAP_TABLE_SILENCES,
    LYAP_TABLE_LAYERS,       /* newest, of an attempt */
    LYAP_TABLE_ALERT_GROUPS, /* of open alerts */
    LYAP_TABLE_TENSOR_POINTS /* of steps from_step to to_step, in order of step and tensor; `limit`
                                is not looked at */
};
struct lyap_query {
    enum lyap_table table;
    const char *run;            /* name; NULL: all (runs, alerts) */
    uint32_t attempt;           /* 0: the current one (events, alerts: every one) */
    int64_t from_step, to_step; /* inclusive; from 0, to LYAP_STEP_MAX */
    int64_t after;      /* keyset cursor: rows beyond this key (id, step, or row rank); -1: start */
    bool is_descending; /* newest first */
    uint32_t limit;     /* 0: without */
    /* runs */
    const char *label_key, *label_value;
    int state; /* enum of the table's state; -1: any */
    /* series */
    const enum lyap_metric *metrics;
    const enum lyap_tensor_metric *tensor_metrics; /* used instead when `tensor` is set */
    uint32_t metric_count;
    const char *tensor;
    uint32_t points; /* > 0: roll up so that at most this many rows come, ascending alone; min and
                        max kept */
    /* tensors */
    enum lyap_tensor_metric sort;
    /* alerts */
    const char *rule;
    int severity;        /* -1: any */
    int silenced, acked; /* 1: such alone, -1: others alone, 0: any; open ones are silenced */
    int64_t since_ns;    /* changed since; 0: ever */
    int64_t now_ns;      /* alerts: what has ended by then is not acked; silences: only those in
                            force then, 0: every one */
    /* deliveries */
    int64_t alert; /* 0: any */
    const char *receiver;
    bool is_due_first; /* of `receiver` those to be sent, by their time and not by key: none that
                          waits behind an earlier one of the same alert */
};
struct lyap_series_row {
    int64_t step;        /* of the last point in the bin */
    uint32_t resolution; /* steps per bin: 1, 8, 64 ... */
    uint32_t count;      /* metric_count */
    bool is_event_only;  /* resolution 1: a skipped or non-finite point, in no window */
    const double *last, *min,
        *max;           /* min, max equal last at resolution 1; absent: NaN with is_nan false */
    const bool *is_nan; /* a NaN was pushed (a value), not absent: last is NaN then, whatever
                           followed in the bin; min and max are those of the other values */
};
struct lyap_tensor_record {
    const char *name;
    int64_t step;
    struct lyap_tensor_row row;
};

struct lyap_layer_record {
    const char *name, *kind, *method; /* row.method is not read back */
    int64_t step;
    struct lyap_layer_row row;
};
struct lyap_record {
    enum lyap_table table;
    int64_t key; /* what `after` takes to continue */
    union {
        struct lyap_run_record run;
        struct lyap_attempt_record attempt;
        struct lyap_event_record event;
        struct lyap_rule rule;
        struct lyap_alert alert;
        struct lyap_receiver receiver;
        struct lyap_delivery delivery;
        struct lyap_silence silence;
        struct lyap_alert_group group;
        struct lyap_point point;
        struct lyap_series_row series;
        struct lyap_tensor_record tensor;
        struct lyap_layer_record layer;
    } u;
};
/* Rows in key order. next: OK, E_NOT_FOUND at the end, E_IO. Each call does bounded work, so that a
 * reply is produced in slices. close releases it; a cursor holds a read snapshot until then. */
struct lyap_cursor {
    enum lyap_status (*next)(struct lyap_cursor *cursor, struct lyap_record *ret_record);
    void (*close)(struct lyap_cursor *cursor);
};

#endif
