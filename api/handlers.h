/* handlers.h - what the handlers of h_*.c share. THREADS: pure functions of their request. */
#ifndef LYAP_API_HANDLERS_H
#define LYAP_API_HANDLERS_H

#include "negotiate.h"
#include "request.h"
#include "route.h"

/* A query with every filter open. */
struct lyap_query api_query_init(enum lyap_table table);

/* A list: rows in slices, `{"<name>":[...],"cursor":...,"more":...}`. */
struct api_list {
    const char *name;        /* of the array */
    char table;              /* of the cursor */
    struct lyap_query query; /* `limit`, `after` and the direction are set from the request */
    void (*encode)(struct api_text *text, const struct lyap_record *record);
    const char *run;  /* NULL, or a member "run" before the array */
    const char *sort; /* NULL, or a member "sort" */
};
LYAP_MUST_CHECK enum lyap_status api_list_reply(const struct api_request *request,
                                                const struct api_list *list,
                                                struct api_reply *reply, struct lyap_error *reterr);

/* E_INVALID names the alphabet. */
LYAP_MUST_CHECK enum lyap_status api_check_run_name(const char *run, struct lyap_error *reterr);
/* Calls `use` with the first row of a query, while its strings are valid. E_NOT_FOUND: no row. */
typedef enum lyap_status api_row_use(void *arg, const struct lyap_record *record);
LYAP_MUST_CHECK enum lyap_status api_first_row(const struct api_request *request,
                                               const struct lyap_query *query, api_row_use *use,
                                               void *arg);
/* The scalars of a run's record (its strings NULL). E_NOT_FOUND with text. */
LYAP_MUST_CHECK enum lyap_status api_find_run(const struct api_request *request, const char *run,
                                              struct lyap_run_record *ret_run,
                                              struct lyap_error *reterr);
/* The last point: published, else stored. E_NOT_FOUND: the run has none. Caller releases. */
LYAP_MUST_CHECK enum lyap_status api_last_point(const struct api_request *request, const char *run,
                                                struct lyap_point *ret_point);
/* A decimal id in the path. E_NOT_FOUND: not one. */
LYAP_MUST_CHECK enum lyap_status api_path_id(const struct api_request *request, int64_t *ret_id,
                                             struct lyap_error *reterr);

#endif
