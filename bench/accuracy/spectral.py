"""Reported spectral norms beside torch's singular values: the lower bound's shortfall, the upper
bound's excess, at every snapshot of real trainings, by retention and spacing of the snapshots."""

import statistics

import lyapd
import torch
from jobs import Job
from table import Table, percent

SNAPSHOTS, WARM = 60, 10
SPACINGS = (1, 10, 50)


def train(url, network, kind, retention, spacing, snapshots=SNAPSHOTS):
    """Lists over the snapshots after the warm-up: 1 - reported/true, upper/true - 1; absent
    counts."""
    job = Job(network, kind)
    name = "spectral-%s-%s-%s-%d" % (network, kind, retention, spacing)
    below, above, absent = [], [], 0
    run = lyapd.Run(url, name, optimizer={"type": "other"}, retention=retention)
    with run:
        for snapshot in range(snapshots):
            loss = job.backward()
            named = dict(job.model.named_parameters())
            run.push(snapshot * spacing, named, {k: p.grad for k, p in named.items()},
                     loss=float(loss))
            if snapshot >= WARM:
                absent += compare(run, named, below, above)
            for _ in range(spacing):
                job.optimizer.step()
                loss = job.backward()
    return below, above, absent


def compare(run, named, below, above):
    absent = 0
    rows = {row["tensor"]: row["metrics"] for row in run.tensors()}
    for name, parameter in named.items():
        if parameter.dim() < 2:
            continue
        matrix = parameter.detach().double().reshape(parameter.shape[0], -1)
        true = float(torch.linalg.matrix_norm(matrix, 2))
        lower, upper = (rows[name].get(key) for key in ("spectral_norm", "spectral_norm_upper"))
        if lower is None:
            absent += 1
        else:
            below.append(1 - lower / true)
        if upper is not None and parameter.dim() == 2:  # of a convolution: another operator
            above.append(upper / true - 1)
    return absent


def measure(url, snapshots=SNAPSHOTS):
    result = Table(["network", "optimizer", "retention", "steps between snapshots", "values",
                    "absent", "shortfall, median", "shortfall, largest", "above the true value",
                    "upper bound's excess, median"])
    for network in ("mlp", "cnn", "transformer"):
        for kind in ("heavy-ball", "adamw"):
            for retention in ("exact", "sketch"):
                for spacing in SPACINGS:
                    below, above, absent = train(url, network, kind, retention, spacing, snapshots)
                    result.add([network, kind, retention, spacing, len(below), absent,
                                percent(statistics.median(below), 4), percent(max(below)),
                                sum(value < -1e-9 for value in below),
                                percent(statistics.median(above), 1) if above else "-"])
    return result
