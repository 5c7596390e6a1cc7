/* series.h - the answer of GET .../profile: rows gathered slice by slice into columns of bounded
 * memory, then written as JSON columns, NDJSON or CSV. The read connection is held while gathering
 * only, never while a client reads. THREADS: one owner at a time. */
#ifndef LYAP_API_SERIES_H
#define LYAP_API_SERIES_H

#include "lyap/limits.h"

#include "request.h"

enum api_series_format { API_SERIES_JSON, API_SERIES_NDJSON, API_SERIES_CSV };

struct api_series {
    const struct api_ports *ports;
    struct api_budget *budget;
    enum api_series_format format;
    const char *run;          /* borrowed from the request */
    struct lyap_query query;  /* complete but for metrics; attempt set */
    uint32_t current_attempt; /* of the run: an older series is continued by the next attempt's */
    const char *names[LYAP_SERIES_METRICS_MAX]; /* static */
    enum lyap_metric metrics[LYAP_SERIES_METRICS_MAX];
    enum lyap_tensor_metric tensor_metrics[LYAP_SERIES_METRICS_MAX];
    uint32_t metric_count;
};

/* The metrics (and the tensor) of a request, every one when it names none; fills names, metrics and
 * query.tensor. E_INVALID, E_LIMIT. */
struct api_request;
LYAP_MUST_CHECK enum lyap_status api_series_metrics(const struct api_request *request,
                                                    struct api_series *series,
                                                    struct lyap_error *reterr);
/* Copies `series`; the reply streams it. E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status api_series_reply(const struct api_series *series,
                                                  struct api_reply *reply);

#endif
