/* point.h - all metrics of one step, as computed, stored and served.
 * THREADS: one owner at a time; a published point is immutable. */
#ifndef LYAP_POINT_H
#define LYAP_POINT_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/metric.h"
#include "lyap/status.h"

/* reason NONE: value is there (it may be NaN or infinite: then it was pushed so). Otherwise value
 * is NaN. */
struct lyap_value {
    double value;
    double error;   /* half-width in the metric's unit; NaN when the class states none */
    uint8_t trust;  /* enum lyap_trust */
    uint8_t reason; /* enum lyap_reason */
};

enum lyap_run_state {
    LYAP_STATE_BLIND,
    LYAP_STATE_WARMING_UP,
    LYAP_STATE_HEALTHY,
    LYAP_STATE_UNSTABLE,
    LYAP_STATE_SILENT,
    LYAP_STATE_ENDED,
    LYAP_STATE_COUNT
};
/* X(enum, wire name): the rows of SPEC 4.3, worst last. */
#define LYAP_VERDICT_TABLE(X)                                                                      \
    X(INSUFFICIENT, "insufficient-information")                                                    \
    X(INCONCLUSIVE, "inconclusive")                                                                \
    X(CONSISTENT_STABLE, "consistent-stable")                                                      \
    X(DISSIPATING, "dissipating")                                                                  \
    X(EDGE, "edge")                                                                                \
    X(ONSET, "onset")                                                                              \
    X(UNBOUNDED_PROFILE, "bounded-exponent-unbounded-profile")                                     \
    X(SENSITIVE, "sensitive-but-training")                                                         \
    X(HIDDEN_INSTABILITY, "hidden-instability")                                                    \
    X(CONSISTENT_UNSTABLE, "consistent-unstable")                                                  \
    X(ENERGY_VIOLATION, "energy-violation")
enum lyap_verdict {
#define LYAP_VERDICT_ENUM(name, wire) LYAP_VERDICT_##name,
    LYAP_VERDICT_TABLE(LYAP_VERDICT_ENUM)
#undef LYAP_VERDICT_ENUM
        LYAP_VERDICT_COUNT
};
enum lyap_action_kind {
    LYAP_ACTION_CONTINUE,
    LYAP_ACTION_REDUCE_LR,
    LYAP_ACTION_SKIP,
    LYAP_ACTION_ROLLBACK,
    LYAP_ACTION_STOP,
    LYAP_ACTION_COUNT
};

struct lyap_action {
    enum lyap_action_kind kind;
    double lr;        /* reduce_lr, rollback: advised learning rate; else NaN */
    char reason[160]; /* for people: the formula and the numbers in it */
    int64_t step;     /* skip: whose batch; rollback: go back to it or before. Else no meaning */
};

struct lyap_point {
    int64_t step, time_ns;
    uint32_t attempt;
    bool is_event_only; /* non-finite or skipped: kept, never in a window (SPEC 6.4) */
    bool is_gap;        /* steps between this and the point before were not pushed */
    enum lyap_run_state state;
    enum lyap_verdict verdict;
    struct lyap_action action;
    char *labels_json; /* owned, may be NULL: labels (x-...) of the point */
    /* Whose y_t stands in twin_log ... twin_log_4; empty: nobody's. */
    char twin_names[LYAP_TWIN_COUNT_MAX][LYAP_TWIN_NAME_BYTES_MAX + 1];
    struct lyap_value metrics[LYAP_METRIC_COUNT];
    uint16_t parts_bytes;                      /* of `parts`; 0: there is no score */
    unsigned char parts[LYAP_PARTS_BYTES_MAX]; /* of the scores: lyap/parts.h */
};

/* Per tensor; values NaN where absent, reasons are those of the point's metric of the same name. */
struct lyap_tensor_row {
    uint32_t tensor; /* index in the declared set */
    double values[LYAP_TENSOR_METRIC_COUNT];
};

LYAP_API const char *lyap_run_state_name(enum lyap_run_state state);
LYAP_API const char *lyap_verdict_name(enum lyap_verdict verdict);
LYAP_API const char *lyap_action_name(enum lyap_action_kind kind);
LYAP_API bool lyap_action_parse(const char *name, enum lyap_action_kind *ret_kind);

/* Every metric absent with NOT_PUSHED, default trust, error NaN. */
LYAP_API void lyap_point_init(struct lyap_point *point);
LYAP_API void lyap_point_release(struct lyap_point *point);
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_point_copy(const struct lyap_point *source,
                                                          struct lyap_point *ret_copy);

#endif
