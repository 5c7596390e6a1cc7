/* limits.h - every limit a client can meet, in one place, each with its derivation.
 * Limits that an operator may change are settings (daemon/settings.h); these are fixed. */
#ifndef LYAP_LIMITS_H
#define LYAP_LIMITS_H

enum {
    LYAP_RUN_NAME_BYTES_MAX = 128,    /* [A-Za-z0-9._-]: a path of the API without escapes */
    LYAP_TENSOR_NAME_BYTES_MAX = 256, /* torch's deepest module paths stay under 200 */
    LYAP_TENSOR_COUNT_MAX = 100000,   /* a 100-layer transformer has about 1000 */
    LYAP_TENSOR_RANK_MAX = 8,         /* conv3d weights have rank 5 */
    LYAP_HEADER_BYTES_MAX = 16 << 20, /* 100 000 entries of 160 bytes */
    LYAP_JSON_BYTES_MAX = 16 << 20,   /* one JSON document or NDJSON line */
    LYAP_JSON_DEPTH_MAX = 32,         /* no body of ours nests deeper than 6 */
    LYAP_JSON_VALUES_MAX = 1 << 21,   /* of a declaration: 100 000 tensors, 20 000 layers fit */
    LYAP_GROUP_COUNT_MAX = 256,       /* optimizer parameter groups */
    LYAP_PATTERN_BYTES_MAX = 256,     /* glob over tensor or run names */
    LYAP_PATTERN_COUNT_MAX = 4096,    /* patterns over all groups of one optimizer */
    LYAP_WILDCARD_COUNT_MAX = 256,    /* of them with * or ?: each is tried on every tensor */
    LYAP_WORLD_MAX = 4096,            /* ranks of one run */
    LYAP_BATCH_ID_BYTES_MAX = 64,     /* a hash in hex */
    LYAP_TWIN_NAME_BYTES_MAX = 64,
    LYAP_TWIN_COUNT_MAX = 4,    /* of one snapshot, and slots of an attempt: each costs one more
                                   training run */
    LYAP_LABEL_COUNT_MAX = 32,  /* labels of a run or of a point */
    LYAP_LABEL_BYTES_MAX = 256, /* key or value */
    LYAP_LAYER_COUNT_MAX = 20000,
    LYAP_NDJSON_LINES_MAX = 10000, /* one commit: bounds the transaction */
    LYAP_SKETCH_SIZE = 4096,  /* k (docs/sketch.md): norms to 1.1 %, inner products to 2 % (E10) */
    LYAP_SKETCH_BLOCK = 64,   /* one hash gives 64 signs */
    LYAP_GAIN_BINS = 64,      /* of a log2 histogram of gains, one row of counts per tensor */
    LYAP_GAIN_LOG2_MIN = -32, /* bin i: 2^(i-32) <= |gain| < 2^(i-31); eta/eps of a dead coordinate
                                 is 2^17 at Adam's defaults */
    LYAP_GAIN_TENSORS_MAX = 4096,   /* with more, no histogram: 2 MiB of counts a push */
    LYAP_GATE_GROUPS = 16,          /* of the inputs whose gates are pushed: one SVD each */
    LYAP_GATE_VALUES_MAX = 1 << 18, /* gates kept of one push: 2 MiB */
    LYAP_SUM_BLOCK = 4096,          /* elements per closed partial sum (SPEC 6.1) */
    LYAP_HOLD_BYTES_MAX = 32 << 20, /* hold buffer of one upload in sketch retention */
    LYAP_RITZ_WINDOW_MAX = 16,      /* pairs; SPEC 2.2 uses 8, four of them for active pairs */
    LYAP_WINDOW_MAX = 65536,        /* steps of one rolling window */
    LYAP_RULE_NAME_BYTES_MAX = 64,
    LYAP_RULE_COUNT_MAX = 1000,
    LYAP_RECEIVER_COUNT_MAX = 64,          /* each has its own slots and is asked at every turn */
    LYAP_RECEIVER_TARGET_BYTES_MAX = 2048, /* a URL with a token in its path */
    LYAP_RECEIVER_SECRET_BYTES_MAX = 256,
    LYAP_NOTIFY_COUNT_MAX = 16,            /* receivers that one rule names */
    LYAP_PAYLOAD_BYTES_MAX = 128 << 10,    /* of a notification: evidence stays under 4 KiB */
    LYAP_RULE_VERSIONS_MAX = 100,          /* kept of one rule, the newest */
    LYAP_RULE_VERSIONS_TOTAL_MAX = 100000, /* kept of all rules, those that went included */
    LYAP_RULE_SECONDS_MAX = 31536000, /* of a cooldown, an acknowledgement, a silence: a year */
    LYAP_RULE_RATE_MAX = 3600,        /* notifications an hour: one a second */
    LYAP_EXPR_BYTES_MAX = 240,        /* text of what a rule compares */
    LYAP_EXPR_NODES_MAX = 32,         /* operands and operators of it: a window costs the most */
    LYAP_EXPR_DEPTH_MAX = 16,         /* its brackets: the parser's recursion */
    LYAP_EXPR_WINDOW_MAX = 4096,      /* points one looks back at; all metrics of one run: 2 MB */
    LYAP_RULE_WINDOW_VALUES_MAX = 1 << 18, /* of the windows of all rules: 1 to 3 ms a point */
    LYAP_SILENCE_COUNT_MAX = 1000,   /* in force: each is matched against each alert that fires */
    LYAP_SILENCES_KEPT_MAX = 10000,  /* those that ended included */
    LYAP_COMMENT_BYTES_MAX = 512,    /* of a silence or an acknowledgement */
    LYAP_AUTHOR_BYTES_MAX = 64,      /* who said so */
    LYAP_REPLAY_POINTS_MAX = 100000, /* of one replay: seconds of one thread */
    LYAP_REPLAY_ALERTS_MAX = 1000,   /* listed in its answer; the rest is counted */
    LYAP_PARTS_TENSORS_MAX = 6,      /* named beside the parts of a score: a person reads them */
    LYAP_PARTS_BYTES_MAX = 2400,     /* of the parts of a point's scores: 16 parts, 6 names */
    LYAP_LIST_LIMIT_DEFAULT = 100,
    LYAP_LIST_LIMIT_MAX = 1000,        /* rows of one page */
    LYAP_SERIES_METRICS_MAX = 256,     /* metric= parameters of one profile request */
    LYAP_SERIES_POINTS_MAX = 10000,    /* points= of one profile request */
    LYAP_ROLLING_VALUES_MAX = 1 << 20, /* metrics times steps of one request for windows: 9 MiB */
    LYAP_STEP_LOG2_MAX = 53            /* a step survives JSON readers that hold numbers as F64 */
};

#define LYAP_STEP_MAX ((INT64_C(1) << LYAP_STEP_LOG2_MAX) - 1)
/* Larger elements count as non-finite: 2^48 squares of this size still sum to a finite F64. */
#define LYAP_MAGNITUDE_MAX 0x1p480
/* Elements of one tensor: 2^48 F64 are 2 PiB, and 2^48 * 8 cannot overflow 64 bits. */
#define LYAP_TENSOR_ELEMENTS_MAX (UINT64_C(1) << 48)

#endif
