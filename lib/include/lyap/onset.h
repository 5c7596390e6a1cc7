/* onset.h - where a run went wrong, told from its own loss afterwards (docs/detection.md): the
 * ground truth that a replayed rule is held against. With ref the median of the first three losses,
 * m the running minimum of their 3-step median and p = max(0, ref - m):
 *
 *     E = max(p/2, ref/10);  above 3m: E = max(ref, p)/10;  above 10m: E = 0.03 max(ref, p)
 *     onset: the first loss above m + E, or not finite; over after 5 losses in a row below m + E/2.
 *
 * THREADS: one owner at a time. */
#ifndef LYAP_ONSET_H
#define LYAP_ONSET_H

#include <stdbool.h>
#include <stdint.h>

#include "lyap/status.h"

enum { LYAP_ONSETS_MAX = 64 };  /* of one attempt; later ones are not looked for */
enum { LYAP_ONSET_MERGE = 50 }; /* steps: a second one so soon is the same event */

struct lyap_onset_event {
    int64_t onset_step;
    int64_t end_step; /* of the recovery; -1: none, the run diverged */
    bool is_nonfinite;
};
struct lyap_onset { /* start from LYAP_ONSET_NULL */
    struct lyap_onset_event events[LYAP_ONSETS_MAX];
    uint32_t count;
    /* private */
    uint32_t seen, calm; /* finite losses; losses in a row on the good side */
    double recent[3];    /* the newest losses, in order of arrival modulo 3 */
    double reference, lowest, bound, recovered;
    bool is_open;
};
#define LYAP_ONSET_NULL                                                                            \
    {                                                                                              \
        .count = 0                                                                                 \
    }

/* The loss of a step, in step order. */
LYAP_API void lyap_onset_push(struct lyap_onset *onset, int64_t step, double loss);

#endif
