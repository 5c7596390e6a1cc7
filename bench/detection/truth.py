"""Ground truth of a run, from its probe loss alone.

The probe loss is the training objective on a fixed probe set, dropout off, at every step; no detector sees it.

    ref      median of the first three values; m = running minimum of the three-step median; p = max(0, ref - m)
    E        max(p / 2, ref / 10)           half of the progress lost, never less than a tenth of the first loss
             l > 3 m:  max(ref, p) / 10     tripled, and visibly so
             l > 10 m: 0.03 max(ref, p)     ten-fold
    onset    first t with l > m + E, or not finite; m and E are frozen there
    recover  first of five consecutive steps below m + E/2, -1: never. Scanning goes on after it; events with less than
             MERGE steps between recovery and next onset are one
    rise     last t < onset with l - m <= E/10: where an eye sees the curve turn
    label    diverged (the last event never recovers), spiked, stable (worst excursion below E/2), borderline
             (E/2 .. E; counted neither way)
"""
import numpy as np

MERGE = 50


def _scale(level, low, ref):
    progress = max(0.0, ref - low)
    if level > 10 * low:
        return max(0.03 * ref, 0.03 * progress)
    if level > 3 * low:
        return max(0.1 * ref, 0.1 * progress)
    return max(0.5 * progress, 0.1 * ref)


def _rise(loss, onset, limit):
    rise = onset
    for u in range(onset - 1, -1, -1):
        rise = u
        if loss[u] <= limit:
            break
    return rise


def _recovery(loss, onset, limit):
    calm = loss < limit
    return next((u for u in range(onset, len(loss) - 4) if calm[u : u + 5].all()), -1)


def label(probe, inject=None):
    """dict(label, events [[onset, rise, recover] ...], inject (-1: no fault), worst excursion / E outside events)"""
    loss = np.array(probe, float)
    loss[~np.isfinite(loss)] = np.inf
    ref = float(np.median(loss[:3]))
    if not np.isfinite(ref):
        ref = float(loss[0])
    low, t, worst, events = float(loss[0]), 0, 0.0, []
    while t < len(loss):
        scale = _scale(loss[t], low, ref)
        excursion = (loss[t] - low) / scale if np.isfinite(loss[t]) else np.inf
        if excursion > 1:
            recover = _recovery(loss, t, low + 0.5 * scale)
            if events and t - events[-1][2] < MERGE:
                events[-1][2] = recover
            else:
                events.append([t, _rise(loss, t, low + 0.1 * scale), recover])
            if recover < 0:
                break
            t = recover
            continue
        worst = max(worst, excursion)
        low = min(low, float(np.median(loss[max(0, t - 2) : t + 1])))
        t += 1
    if events:
        name = "diverged" if events[-1][2] < 0 else "spiked"
    else:
        name = "stable" if worst < 0.5 else "borderline"
    return dict(
        label=name,
        events=events,
        inject=-1 if inject is None else inject,
        worst=round(float(worst), 3),
    )
