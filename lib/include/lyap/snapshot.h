/* snapshot.h - the scalars and labels that come with one push (`__metadata__`, query string, JSON).
 * THREADS: one owner at a time. */
#ifndef LYAP_SNAPSHOT_H
#define LYAP_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/limits.h"
#include "lyap/status.h"

/* Which keys were given; a NaN loss is a value, so presence is told apart from NaN.
 * X(enum, wire key, type: i integer, d number, b flag, s string, l list, f a few
 * numbers, t time, j json) */
#define LYAP_META_TABLE(X)                                                                         \
    X(STEP, "step", 'i')                                                                           \
    X(LOSS, "loss", 'd')                                                                           \
    X(LR, "lr", 'l')                                                                               \
    X(OPTIMIZER_STEP, "optimizer_step", 'i')                                                       \
    X(UPDATES, "updates", 'i')                                                                     \
    X(PROBE_LOSS, "probe_loss", 'd')                                                               \
    X(SAME_BATCH_LOSS, "same_batch_loss", 'd')                                                     \
    X(HALF_DIFF_SQ, "half_diff_sq", 'd')                                                           \
    X(ATTEMPT, "attempt", 'i')                                                                     \
    X(RANK, "rank", 'i')                                                                           \
    X(WORLD, "world", 'i')                                                                         \
    X(TIME, "time", 't')                                                                           \
    X(SKIPPED, "skipped", 'b')                                                                     \
    X(TWIN_LOG, "twin_log", 'f')                                                                   \
    X(TWIN_NAME, "twin_name", 's')                                                                 \
    X(BATCH_ID, "batch_id", 's')                                                                   \
    X(CLIP_NORM, "clip_norm", 'd')                                                                 \
    X(GRAD_NORM, "grad_norm", 'd')                                                                 \
    X(CLIP_FACTOR, "clip_factor", 'd')                                                             \
    X(LOSS_SCALE, "loss_scale", 'd')                                                               \
    X(SHARD, "shard", 'j')                                                                         \
    X(PARAM_NORM, "param_norm", 'd')                                                               \
    X(UPDATE_NORM, "update_norm", 'd')                                                             \
    X(DELTA_UNIT, "delta_unit", 'd')                                                               \
    X(GRAD_UNIT, "grad_unit", 'd')                                                                 \
    X(STATE_EXACT, "state_exact", 'b')                                                             \
    X(ACT_INPUT_SQ, "act_input_sq", 'd')                                                           \
    X(ACT_INPUT_DIFF_SQ, "act_input_diff_sq", 'd')                                                 \
    X(SENT, "sent", 't')

enum lyap_meta_key {
#define LYAP_META_ENUM(name, wire, type) LYAP_META_##name,
    LYAP_META_TABLE(LYAP_META_ENUM)
#undef LYAP_META_ENUM
        LYAP_META_COUNT
};

/* The part of a tensor that this rank holds; row-major flat range, or a box. */
struct lyap_shard {
    char *tensor;                         /* owned; name without role */
    uint64_t shape[LYAP_TENSOR_RANK_MAX]; /* the whole, unsharded shape */
    uint64_t start[LYAP_TENSOR_RANK_MAX]; /* box corner (is_box) */
    uint64_t offset;                      /* first element of the flat range (!is_box) */
    uint32_t rank;
    bool is_box;
};

struct lyap_label {
    char *key;   /* owned; of a point: with its x- */
    char *value; /* owned */
};

struct lyap_snapshot {
    uint32_t present; /* 1u << LYAP_META_* */
    int64_t step;
    double loss, probe_loss, same_batch_loss, half_diff_sq;
    double *lr; /* owned, lr_count values: of the coming update, one per group or one for all */
    uint32_t lr_count; /* 0: not given */
    int64_t optimizer_step;
    int64_t updates; /* since the snapshot before; without it one a step */
    int64_t attempt;
    uint32_t rank, world; /* default 0 of 1 */
    int64_t time_ns;      /* UTC; the daemon fills it in when not given */
    int64_t sent_ns;      /* UTC, by the sender's clock */
    double ahead_s;       /* sent_ns minus the daemon's clock when the header came */
    bool is_skipped;
    double twin_log[LYAP_TWIN_COUNT_MAX]; /* y_t of each twin (SPEC 2.5) */
    uint32_t twin_count;
    char twin_name[LYAP_TWIN_COUNT_MAX * (LYAP_TWIN_NAME_BYTES_MAX + 1)]; /* comma list */
    char batch_id[LYAP_BATCH_ID_BYTES_MAX + 1];
    double clip_norm, grad_norm, clip_factor, loss_scale;
    double param_norm, update_norm; /* of pushes without tensors */
    /* Of partial pushes: what lyap_partial's fields of these names say, [0, 1); see partial.h. */
    double delta_unit, grad_unit;
    bool is_state_exact;
    double act_input_sq, act_input_diff_sq; /* |x_0|^2, |x'_0 - x_0|^2 */
    struct lyap_shard *shards;              /* owned; sorted by tensor name */
    uint32_t shard_count;
    struct lyap_label *labels; /* owned */
    uint32_t label_count;
};

#define LYAP_TWIN_DEFAULT "random"
#define LYAP_TWIN_ACTIVE  "active" /* along the active direction v (SPEC 2.3) */

LYAP_API void lyap_snapshot_init(struct lyap_snapshot *snapshot);
LYAP_API void lyap_snapshot_release(struct lyap_snapshot *snapshot);
LYAP_API bool lyap_snapshot_has(const struct lyap_snapshot *snapshot, enum lyap_meta_key key);
LYAP_API const char *lyap_meta_name(enum lyap_meta_key key);

/* Sets one key from its wire text. Numbers accept "NaN", "Infinity", "-Infinity" (and Python's nan,
 * inf) where the quantity may be non-finite. E_UNKNOWN_FIELD, E_INVALID (range named),
 * E_CONTRADICTION when the key was set before to another value (the query string may repeat the
 * metadata), E_LIMIT, E_NOMEM. The key `shard` is parsed by wire/ (it is JSON) and refused here. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_snapshot_set(struct lyap_snapshot *snapshot,
                                                            const char *key, const char *value,
                                                            struct lyap_error *reterr);
/* Adds the keys and labels of `other`, with the rules of set. Shards are left alone. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_snapshot_merge(struct lyap_snapshot *snapshot,
                                                              const struct lyap_snapshot *other,
                                                              struct lyap_error *reterr);
/* The i-th name of twin_name, without the spaces around it; of one unnamed twin LYAP_TWIN_DEFAULT.
 * False: there is none, or it is empty or longer than LYAP_TWIN_NAME_BYTES_MAX. */
LYAP_API bool lyap_snapshot_twin_name(const struct lyap_snapshot *snapshot, uint32_t i,
                                      char ret_name[LYAP_TWIN_NAME_BYTES_MAX + 1]);
/* After all keys: step is there, rank < world, each twin has a name of its own. */
LYAP_API LYAP_MUST_CHECK enum lyap_status lyap_snapshot_check(const struct lyap_snapshot *snapshot,
                                                              struct lyap_error *reterr);

#endif
