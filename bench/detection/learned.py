"""What loss and gradient norm alone can give: boosted trees on every causal statistic of the two that we could think of.

An upper bound for detectors of scalars, not a detector to ship: fitted on the design runs, its threshold set there by
four-fold cross-validation over runs, applied once to the test runs.
"""
import numpy as np

import protocol
from spikes import zclip

BEFORE = 8  # steps ahead of an onset that are taken as positive
WEIGHT = 60.0  # of an event against a healthy step


def rolling(x, n, function, least=2):
    out = np.full(len(x), np.nan)
    for i in range(len(x)):
        part = x[max(0, i - n + 1) : i + 1]
        part = part[np.isfinite(part)]
        if len(part) >= least:
            out[i] = function(part)
    return out


def slope(part):
    t = np.arange(len(part)) - (len(part) - 1) / 2
    return float(t @ part / (t @ t)) * (len(part) - 1)


def before(x):
    """The series one step later: a statistic of the past alone."""
    return np.concatenate([[np.nan], x[:-1]])


def features(signals):
    loss, norm = signals["loss"], signals["grad_norm"]
    with np.errstate(all="ignore"):
        level, size = np.log(np.abs(loss) + 1e-12), np.log(norm + 1e-30)
        first = np.nanmedian(loss[:3])
        low = before(np.fmin.accumulate(rolling(loss, 5, np.median, 1)))
        scale = np.fmax(np.fmax(0.5 * (first - low), 0.1 * abs(first)), 1e-12)
        columns = [zclip(norm), zclip(loss, 3.2), (loss - low) / scale]
        for x, floor in ((level, 0.1), (size, 0.1)):
            middle = before(rolling(x, 50, np.median, 10))
            spread = before(rolling(x, 50, lambda p: np.median(np.abs(p - np.median(p))), 10))
            columns += [(x - middle) / np.fmax(1.4826 * spread, floor), x - before(rolling(x, 20, np.median, 5))]
            columns += [rolling(x, 10, slope, 5), x - before(x)]
        spread = rolling(loss, 50, lambda p: 1.4826 * np.median(np.abs(p - np.median(p))), 6) / scale
        columns += [columns[2] - 4 * spread, rolling(loss / scale, 10, slope, 5)]
        columns += [(loss - before(rolling(loss, 50, np.max, 3))) / scale]
    return np.clip(np.nan_to_num(np.column_stack(columns), nan=-1e9, posinf=1e9), -1e9, 1e9)


def targets(judged):
    """(label, weight) of each step of a run: the last steps before an onset are positive, healthy ones negative."""
    label, weight = np.zeros(judged.steps, int), judged.healthy.astype(float)
    for begin, onset, end in judged.events:
        at = np.arange(max(begin, onset - BEFORE), end)
        label[at], weight[at] = 1, WEIGHT / max(len(at), 1)
    return label, weight


def model():
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.08, max_leaf_nodes=12, min_samples_leaf=25, l2_regularization=1.0,
        random_state=0,
    )


def fit(x, y, w):
    use = w > 0
    return model().fit(x[use], y[use], sample_weight=w[use])


def split(values, judged):
    return np.split(values, np.cumsum([q.steps for q in judged])[:-1])


def trained(design, design_features, test, test_features, budgets):
    """(scores of the test runs, {budget: threshold}); design and test are lists of protocol.Judged."""
    x = np.concatenate(design_features)
    y, w = (np.concatenate(a) for a in zip(*[targets(q) for q in design]))
    run = np.concatenate([np.full(q.steps, i) for i, q in enumerate(design)])
    held_out = np.zeros(len(x))
    for k in range(4):
        m = fit(x[run % 4 != k], y[run % 4 != k], w[run % 4 != k])
        held_out[run % 4 == k] = m.predict_proba(x[run % 4 == k])[:, 1]
    limits = {b: protocol.tuned(design, split(held_out, design), b) for b in budgets}
    scores = fit(x, y, w).predict_proba(np.concatenate(test_features))[:, 1]
    return split(scores, test), limits
