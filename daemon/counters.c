/* Counters as Prometheus text. */
#include "counters.h"

#include <inttypes.h>

static uint64_t counter_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void lyap_counters_write(const struct lyap_counters *counters, struct lyap_buffer *text)
{
#define ROW(field, name, help)                                                                     \
    lyap_buffer_add(text, "# HELP %s %s\n# TYPE %s counter\n%s %" PRIu64 "\n", name, help, name,   \
                    name, counter_get(&counters->field));
    LYAP_COUNTER_TABLE(ROW)
#undef ROW
    lyap_buffer_add(text, "# HELP lyapd_pushes_refused_total Snapshots not stored, by reason.\n"
                          "# TYPE lyapd_pushes_refused_total counter\n");
    for (unsigned i = 1; i < LYAP_STATUS_COUNT; i++) {
        const uint64_t count = counter_get(&counters->refused[i]);
        if (count)
            lyap_buffer_add(text, "lyapd_pushes_refused_total{reason=\"%s\"} %" PRIu64 "\n",
                            lyap_status_slug((enum lyap_status)i), count);
    }
    lyap_buffer_add(text,
                    "# HELP lyapd_commit_seconds Time spent in commits.\n"
                    "# TYPE lyapd_commit_seconds summary\n"
                    "lyapd_commit_seconds_sum %.9g\nlyapd_commit_seconds_count %" PRIu64 "\n",
                    (double)counter_get(&counters->commit_ns) / 1e9,
                    counter_get(&counters->batches));
}
