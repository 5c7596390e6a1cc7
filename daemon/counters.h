/* counters.h - what the daemon counts about itself, for GET /metrics (docs/api.md).
 * THREADS: any; every counter is atomic. */
#ifndef LYAP_COUNTERS_H
#define LYAP_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "lyap/status.h"
#include "buffer.h"

/* X(field, name, help) */
#define LYAP_COUNTER_TABLE(X)                                                                      \
    X(pushes_accepted, "lyapd_pushes_accepted_total", "Snapshots stored.")                         \
    X(pushes_duplicate, "lyapd_pushes_duplicate_total",                                            \
      "Repeated snapshots, answered with the first answer.")                                       \
    X(pushes_waiting, "lyapd_pushes_waiting_total",                                                \
      "Snapshots of one rank held until the other ranks arrive.")                                  \
    X(uploads_aborted, "lyapd_uploads_aborted_total",                                              \
      "Admitted uploads that broke off, were replaced or turned out malformed.")                   \
    X(elements, "lyapd_elements_total", "Elements of param and grad tensors taken in.")            \
    X(steps_rank_missing, "lyapd_steps_rank_missing_total",                                        \
      "Steps closed without the part of a rank.")                                                  \
    X(batches, "lyapd_commits_total", "Transactions committed.")                                   \
    X(batch_failures, "lyapd_commit_failures_total", "Transactions rolled back.")                  \
    X(alerts_fired, "lyapd_alerts_fired_total", "Alerts that reached the state firing.")           \
    X(alerts_dropped, "lyapd_alerts_dropped_total",                                                \
      "Alerts not opened because the run had too many open ones.")                                 \
    X(deliveries_done, "lyapd_deliveries_total", "Notifications that a receiver took.")            \
    X(delivery_failures, "lyapd_delivery_failures_total", "Attempts to notify that failed.")       \
    X(deliveries_given_up, "lyapd_deliveries_given_up_total",                                      \
      "Notifications given up after their last attempt.")                                          \
    X(deliveries_dropped, "lyapd_deliveries_dropped_total",                                        \
      "Notifications not made because the outbox was full.")                                       \
    X(runs_loaded, "lyapd_runs_loaded_total", "Runs read back from the store.")                    \
    X(worker_jobs, "lyapd_worker_jobs_total", "Jobs of long bounds handed to the worker.")         \
    X(worker_dropped, "lyapd_worker_dropped_total",                                                \
      "Jobs that the worker's full queue did not take.")                                           \
    X(worker_tasks, "lyapd_worker_tasks_total",                                                    \
      "Weights and layers whose long bounds the worker finished.")                                 \
    X(worker_failures, "lyapd_worker_failures_total",                                              \
      "Weights whose long bounds were given up: the run went, or memory was short.")               \
    X(prune_passes, "lyapd_prune_passes_total", "Passes of the retention by age and size.")

struct lyap_counters {
#define LYAP_COUNTER_FIELD(field, name, help) _Atomic uint64_t field;
    LYAP_COUNTER_TABLE(LYAP_COUNTER_FIELD)
#undef LYAP_COUNTER_FIELD
    _Atomic uint64_t refused[LYAP_STATUS_COUNT]; /* pushes not stored, by status */
    _Atomic uint64_t commit_ns;                  /* spent in the commits of `batches` */
};

static inline void lyap_count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static inline void lyap_count_add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

/* Prometheus text of every counter. */
void lyap_counters_write(const struct lyap_counters *counters, struct lyap_buffer *text);

#endif
