/* Onset and end of instabilities from a finished loss curve. */
#include "lyap/onset.h"

#include <math.h>
#include <stddef.h>

#include "banned.h"

enum { CALM_STEPS = 5 };

static double median3(const double v[3])
{
    return fmax(fmin(v[0], v[1]), fmin(fmax(v[0], v[1]), v[2]));
}

/* How far above the lowest level counts as an event, for a loss of this height. Multiples of the
 * level say something of positive losses alone. */
static double margin(const struct lyap_onset *onset, double loss)
{
    const double m = onset->lowest, reference = fabs(onset->reference);
    const double progress = fmax(0, onset->reference - m);
    if (m > 0 && loss > 10 * m)
        return 0.03 * fmax(reference, progress);
    if (m > 0 && loss > 3 * m)
        return 0.1 * fmax(reference, progress);
    return fmax(0.5 * progress, 0.1 * reference);
}

static void begin(struct lyap_onset *onset, int64_t step, double loss)
{
    const double excess = isfinite(loss) ? margin(onset, loss) : margin(onset, onset->lowest);
    const bool is_known = onset->seen >= 3;
    onset->is_open = true;
    onset->calm = 0;
    onset->recovered = is_known ? onset->lowest + 0.5 * excess : INFINITY;
    struct lyap_onset_event *last = onset->count ? &onset->events[onset->count - 1] : NULL;
    if (last && last->end_step >= 0 && step - last->end_step < LYAP_ONSET_MERGE) {
        last->end_step = -1;
        last->is_nonfinite |= !isfinite(loss);
        return;
    }
    onset->events[onset->count++] = (struct lyap_onset_event){ .onset_step = step,
                                                               .end_step = -1,
                                                               .is_nonfinite = !isfinite(loss) };
}

static void go_on(struct lyap_onset *onset, int64_t step, double loss)
{
    struct lyap_onset_event *event = &onset->events[onset->count - 1];
    event->is_nonfinite |= !isfinite(loss);
    onset->calm = loss < onset->recovered ? onset->calm + 1 : 0; /* NaN is not calm */
    if (onset->calm < CALM_STEPS)
        return;
    event->end_step = step - CALM_STEPS + 1;
    onset->is_open = false;
}

void lyap_onset_push(struct lyap_onset *onset, int64_t step, double loss)
{
    if (onset->is_open)
        go_on(onset, step, loss);
    else if (onset->count < LYAP_ONSETS_MAX &&
             (!isfinite(loss) || (onset->seen >= 3 && loss > onset->lowest + margin(onset, loss))))
        begin(onset, step, loss);
    if (!isfinite(loss))
        return;
    onset->recent[onset->seen++ % 3] = loss;
    if (onset->seen < 3)
        return;
    const double level = median3(onset->recent);
    if (onset->seen == 3)
        onset->reference = onset->lowest = level;
    if (!onset->is_open)
        onset->lowest = fmin(onset->lowest, level);
}
