#!/usr/bin/env python3
"""What one NaN does to a detector: is it noticed, and are the spikes after it still found?

    nan_test.py [--lyapd build/bin/lyapd]     prints the table of docs/detection.md

One real training (linear regression, mini-batches) runs twice. In both the parameters are multiplied at SPIKES, so that
the loss jumps about 25-fold and recovers within 25 steps; in the second run step NAN has a NaN loss and one NaN in the gradient, and the
trainer leaves that update out without saying so. Every detector sees the same series; lyapd gets the snapshots by HTTP.
"""
import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from report import replace
from signals import COLUMNS
from spikes import DETECTORS

ROOT = Path(__file__).resolve().parents[2]
STEPS, NAN = 1000, 300
SPIKES = (305, 360, 420, 600, 900)
KICK = 2.2  # a coordinate's distance from the solution after it
RATE = 0.1
AFTERMATH = 25  # steps behind a spike that count as part of it


def training(with_nan):
    """(params, grads, losses), one entry a step."""
    r = np.random.RandomState(5)
    x = r.randn(2000, 20)
    goal = r.randn(20)
    y = x @ goal + 2.0 * r.randn(2000)
    w = np.zeros(20)
    params, grads, losses = [], [], []
    for t in range(STEPS):
        j = r.randint(0, len(x), 32)
        if t in SPIKES:
            w = goal + KICK * r.choice([-1.0, 1.0], 20)
        residual = x[j] @ w - y[j]
        loss, grad = float(0.5 * np.mean(residual**2)), x[j].T @ residual / 32
        params.append(w.copy())
        if with_nan and t == NAN:
            grad = grad.copy()
            grad[3] = loss = np.nan
            grads.append(grad)
            losses.append(loss)
            continue
        grads.append(grad)
        losses.append(loss)
        w = w - RATE * grad
    return params, grads, losses


def signals_of(params, grads, losses):
    columns = {c: np.zeros(STEPS) for c in COLUMNS}
    columns["loss"] = np.array(losses)
    columns["grad_norm"] = np.array([np.sqrt(g @ g) for g in grads])
    columns["nonfinite"] = ~np.isfinite(columns["loss"] + columns["grad_norm"])
    return columns


def lyapd_alarms(lyapd, run, params, grads, losses):
    """Steps at which the daemon's reply says unstable, or that a non-finite value came."""
    sys.path.insert(0, str(ROOT / "clients/python"))
    from lyapd import Run

    alarms = np.zeros(STEPS, bool)
    with tempfile.TemporaryDirectory() as folder:
        daemon = subprocess.Popen(
            [lyapd, "--listen", "127.0.0.1:0", "--db", folder + "/l.db"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        try:
            url = daemon.stdout.readline().split()[-1]
            client = Run(url, run, optimizer={"type": "sgd", "lr": RATE})
            for t in range(STEPS):
                reply = client.push(t, params={"w": params[t]}, grads={"w": grads[t]}, loss=losses[t], lr=RATE)
                alarms[t] = reply["state"] == "unstable"
        finally:
            daemon.terminate()
            daemon.wait(20)
            daemon.stdout.close()
    return alarms


def verdict(clean, dirty):
    """(NaN noticed, spikes found without NaN, with NaN, other steps alarmed after the NaN)"""
    def found(alarm):
        return sum(bool(alarm[s : s + 2].any()) for s in SPIKES)

    calm = np.ones(STEPS, bool)
    calm[: NAN + 1] = False
    for s in SPIKES:
        calm[s : s + AFTERMATH] = False
    return bool(dirty[NAN]), found(clean), found(dirty), int((dirty & calm).sum())


def main(arguments):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--lyapd", default=str(ROOT / "build/bin/lyapd"))
    p.add_argument("--document", type=Path, help="replace the table there, as report.py does")
    a = p.parse_args(arguments)
    runs = [training(False), training(True)]
    rows = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        series = [signals_of(*run) for run in runs]
        for name, function, limit, _ in DETECTORS:
            if name.startswith(("SageMaker", "AdamW", "AdaGC", "SPAM", "gradient norm")):
                continue
            rows.append((name, *verdict(*[np.asarray(function(s), float) > limit for s in series])))
        fixed = 10 * np.median(series[0]["loss"][200:300])
        rows.append(("fixed limit on the loss (Prometheus)", *verdict(*[s["loss"] > fixed for s in series])))
    rows.append(("lyapd", *verdict(*[
        lyapd_alarms(a.lyapd, "nan%d" % i, *run) for i, run in enumerate(runs)
    ])))
    lines = [
        "| detector | NaN noticed | of %d spikes, no NaN before | after one NaN "
        "| other steps alarmed after it |" % len(SPIKES),
        "|---|---|---|---|---|",
    ]
    for name, noticed, clean, dirty, false in rows:
        lines.append("| %s | %s | %d | %d | %d |" % (name, "yes" if noticed else "no", clean, dirty, false))
    print("\n".join(lines))
    if a.document:
        a.document.write_text(replace(a.document.read_text(), "nan", "\n".join(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
