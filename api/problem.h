/* problem.h - errors as clients see them: RFC 9457 problem documents and the only table from status
 * to HTTP status. THREADS: pure functions. */
#ifndef LYAP_API_PROBLEM_H
#define LYAP_API_PROBLEM_H

#include "request.h"

struct api_problem_info {
    uint32_t http_status;
    uint32_t retry_after_s; /* 0: none */
};
struct api_problem_info api_problem_info(enum lyap_status status);

/* {"type":"urn:lyapd:problem:<slug>","title":...,"status":...,"detail":...,"instance":...}.
 * `instance` NULL: left out. `line` >= 0: the line of an NDJSON body, from 0. */
void api_problem_encode(struct api_text *text, enum lyap_status status,
                        const struct lyap_error *error, const char *instance, int64_t line);
/* Turns a reply, whatever it held, into the problem document of an error. */
void api_problem_reply(struct api_reply *reply, enum lyap_status status,
                       const struct lyap_error *error, const char *instance);

#endif
