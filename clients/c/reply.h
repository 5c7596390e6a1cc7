/* reply.h - the daemon's JSON as plain structs (docs/api.md). THREADS: pure functions. */
#ifndef LYAP_CLIENT_REPLY_H
#define LYAP_CLIENT_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "lyap_client.h"

/* What PUT /v1/runs/{run} answers. */
struct reply_run {
    uint32_t attempt;
    uint64_t sketch_seed;
    bool has_seed;
};

/* E_FORMAT, naming what is missing or of another type. Fields that are not known are ignored: a
 * newer daemon may send more. */
LYAP_MUST_CHECK enum lyap_status reply_parse_push(const char *text, size_t length,
                                                  struct lyap_client_reply *ret_reply,
                                                  struct lyap_error *reterr);
LYAP_MUST_CHECK enum lyap_status reply_parse_run(const char *text, size_t length,
                                                 struct reply_run *ret_run,
                                                 struct lyap_error *reterr);
/* Records a problem document: its type's slug becomes the status, its detail the text. */
enum lyap_status reply_problem(long http_status, const char *text, size_t length,
                               struct lyap_error *reterr);

#endif
