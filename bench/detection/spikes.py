"""Public spike detectors and rules, each written anew from its published description (docs/detection.md names the sources).

A detector is a function of a dict of signals (one array per column of signals.py) and gives a score per step: it fires
where the score is above its published threshold. Where the original is known to let its arithmetic deal with NaN, so
does the code here; else a value that is not finite fires and is kept out of the history.
"""
import math
from collections import deque

import numpy as np

FIRES = 1e30


def zclip(x, limit=2.5, alpha=0.97, warm=25):
    """ZClip: z against running mean and variance, which take the clipped value."""
    out, first, mean, var = np.full(len(x), np.nan), [], None, None
    for i, g in enumerate(x):
        if not np.isfinite(g):
            out[i] = FIRES
            continue
        if mean is None:
            first.append(g)
            if len(first) >= warm:
                mean, var = np.mean(first), np.var(first)
            continue
        deviation = math.sqrt(var)
        z = out[i] = (g - mean) / (deviation + 1e-6)
        taken = mean + limit * deviation * limit / z if z > limit else g
        mean = alpha * mean + (1 - alpha) * taken
        var = alpha * var + (1 - alpha) * (taken - mean) ** 2
    return out


def olmo_rolling(x, window=1000, least=25):
    """OLMo 2's spike score as a detector: deviations from the mean of the last 1000 values."""
    out = np.full(len(x), np.nan)
    held = deque(maxlen=window)
    for i, v in enumerate(x):
        if not np.isfinite(v):
            out[i] = FIRES
            continue
        if len(held) >= least:
            out[i] = (v - np.mean(held)) / (np.std(held) + 1e-12)
        held.append(v)
    return out


def olmo_window(x, window, least):
    """OLMo-core: deviations from mean and deviation of the last `window` values; NaN enters the window as any value."""
    out, held = np.full(len(x), np.nan), deque(maxlen=window)
    for i, v in enumerate(x):
        if len(held) >= least:
            mean, deviation = np.mean(held), np.std(held, ddof=1)
            if deviation == 0:
                out[i] = FIRES if v > mean else 0.0
            else:
                out[i] = (v - mean) / deviation  # NaN in the window: NaN
        held.append(v)
    return out


def olmo_stability(x):
    """OLMo-core StabilityMonitor: 128 values needed."""
    return olmo_window(x, 128, 128)


def olmo_skip(x):
    """OLMo-core SkipStepOptimizer: window 128, from 64 values; the step is skipped unless the value is within the limit."""
    z = olmo_window(x, 128, 64)
    # The original asks `value <= limit`, so a NaN anywhere in it skips.
    z[64:] = np.where(np.isnan(z[64:]), FIRES, z[64:])
    return z


def kill_loss_spike(x, window=100, factor=2.0, patience=5, cap=10.0):
    """LLM Foundry KillLossSpike: `patience` losses in a row at `factor` times the window's mean, or half the window above the cap."""
    out, held, row, limit = np.full(len(x), np.nan), deque(maxlen=window), 0, None
    for i, v in enumerate(x):
        if len(held) == window:
            limit = min(max(held), cap) if limit is None else limit
            row = row + 1 if v >= factor * np.mean(held) else 0
            above = sum(h > limit for h in held) > window / 2
            out[i] = FIRES if above else row / patience
        held.append(v)
    return np.where(out >= 1, out + 1e-9, out)


def lightning(x, window=10, warm=1):
    """Lightning SpikeDetection: relative distance from the mean of the last 10 losses, when above the last one."""
    out, held, last = np.full(len(x), np.nan), deque(maxlen=window), 0.0
    for i, v in enumerate(x):
        if not np.isfinite(v):
            out[i] = FIRES
            continue
        if i >= warm and held:
            mean = np.mean(held)
            out[i] = abs(v - mean) / max(abs(mean), 1e-30) if v > last else 0.0
        if not out[i] >= 2:
            held.append(v)
            last = v
    return out


def megatron(x, samples=100):
    """Megatron-LM's spiky value: ratio to the largest of the first 100; the NaN check is a separate one, on by default."""
    out = np.full(len(x), np.nan)
    first = [v for v in x[:samples] if np.isfinite(v)]
    largest = max(first) if first else math.nan
    for i, v in enumerate(x):
        if not np.isfinite(v):
            out[i] = FIRES
        elif i >= samples:
            out[i] = abs(v) / max(largest, 1e-30)
    return out


def llmc(x, window=128):
    """llm.c: z of the newest value in the window that holds it, by running sums; a NaN stays in the sums."""
    out, held, total, squares = np.full(len(x), np.nan), deque(), 0.0, 0.0
    for i, v in enumerate(x):
        if len(held) == window:
            old = held.popleft()
            total, squares = total - old, squares - old * old
        held.append(v)
        total, squares = total + v, squares + v * v
        if len(held) == window:
            mean = total / window
            deviation = math.sqrt(abs(squares / window - mean * mean)) if np.isfinite(squares) else math.nan
            out[i] = (v - mean) / deviation if deviation != 0 else 0.0
    return out


def marin(x, recent=20, base=240):
    """Marin: least of the recent losses above mean + max(0.05, 6 sd) of an hour; minutes are taken as four steps.

    Its NaN branch is its own: a NaN fires.
    """
    out = np.full(len(x), np.nan)
    clean = np.where(np.isfinite(x), x, np.nan)
    for i in range(len(x)):
        if not np.isfinite(x[i]):
            out[i] = FIRES
            continue
        start = max(0, i - recent + 1)
        last, hour = clean[start : i + 1], clean[max(0, start - base) : start]
        last, hour = last[~np.isnan(last)], hour[~np.isnan(hour)]
        if len(hour) >= 20 and len(last) >= 5:
            out[i] = (last.min() - hour.mean()) / max(0.05, 6 * hour.std())
    return out


def ratio_to_mean(x, alpha=0.95):
    """Loss over its exponential mean (entrenar: 3)."""
    out, mean = np.full(len(x), np.nan), None
    for i, v in enumerate(x):
        if not np.isfinite(v):
            out[i] = FIRES
            continue
        if mean is not None:
            out[i] = v / max(abs(mean), 1e-30)
        mean = v if mean is None else alpha * mean + (1 - alpha) * v
    return out


def not_decreasing(x, steps=10, percent=0.0):
    """SageMaker LossNotDecreasing: every `steps`, a fall of less than `percent` of the earlier loss."""
    out = np.full(len(x), np.nan)
    for i in range(steps, len(x), steps):
        before = x[i - steps]
        out[i] = 0.0 if before - x[i] > abs(before) * percent / 100 else 1.0
    return out


def sagemaker_loss(x, steps=10, fall=0.1, rise=5.0):
    """The same rule as the guide describes it: fall < 0.1 % or rise > 5 %."""
    out = np.full(len(x), np.nan)
    for i in range(steps, len(x), steps):
        change = 100 * (x[i] - x[i - steps]) / max(abs(x[i - steps]), 1e-30)
        out[i] = 0.0 if change <= -fall else 1.0
    return out


def _or_nan(values, signals):
    """The score, and a certain alarm at a non-finite loss, gradient or parameter."""
    return np.where(signals["nonfinite"] > 0, FIRES, np.nan_to_num(values, nan=-FIRES, posinf=FIRES))


def _column(name, nan_fires=True):
    return lambda s: _or_nan(s[name], s) if nan_fires else s[name]


def _of(function, name):
    return lambda s: function(s[name])


def _update_ratio(s):
    ratio = s["update_ratio"]
    return _or_nan(np.where(ratio < 1e-8, FIRES, ratio), s)


DETECTORS = [  # name, score, published threshold (fires above), has a threshold worth tuning
    ("gradient norm > 10", _column("grad_norm"), 10.0, True),
    ("gradient norm > 100", _column("grad_norm"), 100.0, False),
    ("ZClip z > 2.5", _of(zclip, "grad_norm"), 2.5, True),
    ("ZClip z > 4", _of(zclip, "grad_norm"), 4.0, False),
    ("AdaGC, a tensor clipped (> 1.05)", _column("clip_ratio"), 1.05, True),
    ("SPAM, an element's g^2/v > 5000", _column("element"), 5000.0, True),
    ("AdamW RMS_t > 2.3 (Wortsman)", _column("rms"), 2.3, True),
    ("loss, running z > 3.2 (Wortsman)", lambda s: zclip(s["loss"], 3.2), 3.2, True),
    ("OLMo 2 spike score, loss > 7 sd", _of(olmo_rolling, "loss"), 7.0, True),
    ("OLMo 2 spike score, gradient norm > 7 sd", _of(olmo_rolling, "grad_norm"), 7.0, True),
    ("OLMo-core StabilityMonitor, loss", _of(olmo_stability, "loss"), 6.0, True),
    ("OLMo-core StabilityMonitor, gradient norm", _of(olmo_stability, "grad_norm"), 6.0, True),
    ("OLMo-core SkipStep, loss or gradient norm",
     lambda s: np.fmax(olmo_skip(s["loss"]), olmo_skip(s["grad_norm"])), 6.0, True),
    ("LLM Foundry KillLossSpike", _of(kill_loss_spike, "loss"), 1.0, False),
    ("Lightning SpikeDetection", _of(lightning, "loss"), 2.0, True),
    ("Megatron spiky loss or gradient norm",
     lambda s: np.fmax(megatron(s["loss"]), megatron(s["grad_norm"])), 10.0, True),
    ("llm.c loss z > 7", _of(llmc, "loss"), 7.0, True),
    ("llm.c gradient norm z > 7", _of(llmc, "grad_norm"), 7.0, True),
    ("Marin loss floor", _of(marin, "loss"), 1.0, True),
    ("entrenar loss > 3 EMA", _of(ratio_to_mean, "loss"), 3.0, True),
    ("SageMaker ExplodingTensor", lambda s: np.where(s["nonfinite"] > 0, FIRES, 0.0), 0.5, False),
    ("SageMaker VanishingGradient", lambda s: -s["small_gradient"], -1e-7, True),
    ("SageMaker WeightUpdateRatio", _update_ratio, 10.0, True),
    ("SageMaker UnchangedTensor", _column("unchanged", False), 2.5, False),
    ("SageMaker LossNotDecreasing, 10 steps, 0 %", _of(not_decreasing, "loss"), 0.5, False),
    ("SageMaker LossNotDecreasing, 10 steps, 0.1 %", _of(sagemaker_loss, "loss"), 0.5, False),
]
