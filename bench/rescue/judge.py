"""What became of a run, from its hidden probe loss alone; README.md has the definitions in words."""
import numpy as np

from truth import _scale

LAST = 5  # values whose median is the final loss
SEEN = 4  # steps behind the first calm one until a recovery is one
HARM = 0.05  # of the progress that the ignored run made


def _clean(probe, floor):
    loss = np.array(probe, float) - floor
    loss[~np.isfinite(loss)] = np.inf
    return loss


def final(probe, floor):
    return float(np.median(_clean(probe, floor)[-LAST:]))


def line(probe, floor, onset):
    """The level below which a run has recovered from the event at `onset`: m + E/2 of docs/detection.md."""
    loss = _clean(probe, floor)
    ref = float(np.median(loss[:3]))
    low = min([float(loss[0])] + [float(np.median(loss[max(0, t - 2) : t + 1])) for t in range(onset)])
    return low + 0.5 * _scale(loss[onset], low, ref)


def ends_well(probe, floor, truth, level):
    """No event without recovery, and the end below the level."""
    return truth["label"] != "diverged" and final(probe, floor) <= level


def is_cut_short(ignored, followed, steps):
    """The followed run's last event is still open, and began so close to the end that the longest recovery among the
    ignored run's own events would not have shown: five calm steps in a row."""
    own = [recover - onset for onset, _, recover in ignored["events"] if recover >= 0]
    if not own or followed["label"] != "diverged":
        return False
    return followed["events"][-1][0] + max(own) + SEEN > steps - 1


def above(probe, floor, level, onset):
    """Steps above the level from the onset on."""
    return int((_clean(probe, floor)[onset:] > level).sum())


def harm(ignored, followed, floor):
    """Share of the progress of the ignored run that the followed one lacks at its end; below 0: it has more."""
    first, end = float(np.median(_clean(ignored, floor)[:3])), final(ignored, floor)
    if not first > end:
        return 0.0 if final(followed, floor) <= end else np.inf
    return (final(followed, floor) - end) / (first - end)
