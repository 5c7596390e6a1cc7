/* status.h - the one result type of every fallible call, and the text a person reads.
 * Three kinds are never mixed: a bug aborts (assert), a condition listed in a header is handled by
 * the caller, a fault (memory, disk) travels unchanged to the engine loop or the request boundary.
 * THREADS: pure functions; a struct lyap_error has one owner at a time. */
#ifndef LYAP_STATUS_H
#define LYAP_STATUS_H

#if defined(__GNUC__)
#define LYAP_MUST_CHECK                 __attribute__((warn_unused_result))
#define LYAP_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#define LYAP_API                        __attribute__((visibility("default")))
#else
#define LYAP_MUST_CHECK
#define LYAP_PRINTF(fmt_arg, first_arg)
#define LYAP_API
#endif

/* X(name, slug, text). The slug is the last part of the problem type URI of RFC 9457 and is
 * stable for clients; api/problem.c alone maps a status to an HTTP status. */
#define LYAP_STATUS_TABLE(X)                                                                       \
    X(OK, "ok", "success")                                                                         \
    X(E_INVALID, "invalid-value", "a value is outside what is allowed")                            \
    X(E_NOMEM, "out-of-memory", "the process could not allocate memory")                           \
    X(E_TOO_FEW, "too-few-values", "not enough data for an answer")                                \
    X(E_FORMAT, "malformed-body", "the input violates its format")                                 \
    X(E_LIMIT, "limit-exceeded", "the input exceeds a stated limit")                               \
    X(E_UNKNOWN_FIELD, "unknown-field", "a field is not known")                                    \
    X(E_MISSING_FIELD, "missing-field", "a required field is missing")                             \
    X(E_CONTRADICTION, "contradiction", "the same thing is said twice, differently")               \
    X(E_UNSUPPORTED, "unsupported-media-type", "the content type is not supported")                \
    X(E_NOT_ACCEPTABLE, "not-acceptable", "no representation matches Accept")                      \
    X(E_NOT_FOUND, "not-found", "there is no such thing")                                          \
    X(E_METHOD, "method-not-allowed", "the path has no such method")                               \
    X(E_EXISTS, "already-exists", "it exists already")                                             \
    X(E_CONFLICT, "conflict", "it contradicts what is stored")                                     \
    X(E_DUPLICATE, "duplicate", "this push was accepted before")                                   \
    X(E_STALE_ATTEMPT, "stale-attempt", "the attempt is not the current one")                      \
    X(E_STEP_ORDER, "step-not-above-last", "the step is not above the last one")                   \
    X(E_STEP_CLOSED, "step-closed", "the step was closed without this rank")                       \
    X(E_TENSOR_SET, "tensor-set-changed", "the set of param tensors changed within an attempt")    \
    X(E_SHARD_COVERAGE, "shard-coverage", "the shards do not cover each tensor exactly once")      \
    X(E_UPLOAD_BUSY, "upload-in-progress", "another step of this rank is being uploaded")          \
    X(E_REPLACED, "upload-replaced", "the same step was pushed again and replaced this upload")    \
    X(E_QUEUE_FULL, "queue-full", "the engine's queue is full")                                    \
    X(E_STOPPING, "stopping", "the daemon is shutting down")                                       \
    X(E_UNAUTHORIZED, "unauthorized", "a valid token is needed")                                   \
    X(E_FORBIDDEN, "forbidden", "the token lacks the scope")                                       \
    X(E_BUSY, "busy", "a resource is in use")                                                      \
    X(E_IO, "storage-error", "the storage failed")                                                 \
    X(E_DISK_FULL, "disk-full", "no space is left for the database")                               \
    X(E_NEWER, "newer-database", "the database was written by a newer version")                    \
    X(E_NUMERIC, "numeric-failure", "a numerical routine did not converge")                        \
    X(E_INTERNAL, "internal-error", "an unexpected failure inside the daemon")

enum lyap_status {
#define LYAP_STATUS_ENUM(name, slug, text) LYAP_##name,
    LYAP_STATUS_TABLE(LYAP_STATUS_ENUM)
#undef LYAP_STATUS_ENUM
        LYAP_STATUS_COUNT
};

/* Static strings; never NULL, also for values outside the enum. */
LYAP_API const char *lyap_status_slug(enum lyap_status status);
LYAP_API const char *lyap_status_text(enum lyap_status status);

/* Detail for people: names the field, the value and the limit. An output argument `reterr` may be
 * NULL. The first error set wins, so that the cause survives the clean-up. */
enum { LYAP_ERROR_TEXT_BYTES = 320 };
struct lyap_error {
    enum lyap_status status; /* LYAP_OK: nothing set */
    char text[LYAP_ERROR_TEXT_BYTES];
};
#define LYAP_ERROR_NULL                                                                            \
    {                                                                                              \
        LYAP_OK,                                                                                   \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

/* Records and returns `status`, so that a check reads `return lyap_error_set(reterr, ...)`. */
LYAP_API enum lyap_status lyap_error_set(struct lyap_error *reterr, enum lyap_status status,
                                         const char *format, ...) LYAP_PRINTF(3, 4);
/* The text when set, else the status's own text. */
LYAP_API const char *lyap_error_text(const struct lyap_error *err);

#endif
