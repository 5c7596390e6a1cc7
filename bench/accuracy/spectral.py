"""Reported spectral norms beside torch's singular values: the lower bound's shortfall, the upper
bound's excess, at every snapshot of real trainings, by retention and spacing of the snapshots."""

import statistics

import jobs
import lyapd
import torch
from torch import nn
from table import Outcome, Table, percent, share

SNAPSHOTS, WARM, ROUNDING = 60, 10, 1e-9


class Chain(nn.Module):
    """Tanh layers of these widths between the 64 pixels and the ten digits."""

    def __init__(self, *widths):
        super().__init__()
        sizes = (64,) + widths + (10,)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)


LARGE = ("1024 x 4",)
# The network of docs/evidence.md E1; and one whose weights exceed what an upload measures for free,
# so that they take turns as those of a large model do.
jobs.NETWORKS.update({"512-512": lambda: Chain(512, 512),
                      "1024 x 4": lambda: Chain(1024, 1024, 1024, 1024)})
for kind, rate in (("heavy-ball", 0.02), ("adamw", 1e-3)):
    jobs.RATES[kind].update({"512-512": rate, "1024 x 4": rate})
# Singular values that cross and steps too far apart are what costs accuracy.
CASES = tuple((network, kind, "exact", spacing) for network in ("mlp", "cnn", "transformer")
              for kind in ("heavy-ball", "adamw") for spacing in (1, 50)) + tuple(
    (network, "adamw", "sketch", 10) for network in ("mlp", "cnn", "transformer")) + tuple(
    (network, kind, retention, 10) for network in ("512-512", "1024 x 4")
    for kind, retention in (("heavy-ball", "exact"), ("adamw", "sketch")))


def train(url, network, kind, retention, spacing, snapshots=SNAPSHOTS):
    """Lists over the snapshots after the warm-up: (1 - reported/true, stated error/true),
    upper/true - 1; absent counts."""
    job = jobs.Job(network, kind)
    name = "spectral-%s-%s-%s-%d" % (network.replace(" ", ""), kind, retention, spacing)
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
            for _ in range(spacing - 1):
                job.optimizer.step()
                job.backward()
            job.optimizer.step()
    return below, above, absent


def norm_of(matrix):
    """Of the smaller Gram matrix: as exact as the singular values for the largest, and quicker."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return float(torch.linalg.eigvalsh(gram)[-1].sqrt())


def compare(run, named, below, above):
    absent = 0
    rows = {row["tensor"]: row["metrics"] for row in run.tensors()}
    for name, parameter in named.items():
        if parameter.dim() < 2:
            continue
        matrix = parameter.detach().double().reshape(parameter.shape[0], -1)
        true = norm_of(matrix)
        lower, upper, error = (rows[name].get("spectral_norm" + key)
                               for key in ("", "_upper", "_error"))
        if lower is None:
            absent += 1
        else:
            below.append((1 - lower / true, error / true))
        if upper is not None and parameter.dim() == 2:  # of a convolution: another operator
            above.append(upper / true - 1)
    return absent


def measure(url, snapshots=SNAPSHOTS, cases=CASES):
    result = Table(["network", "optimizer", "retention", "steps between snapshots", "values",
                    "absent", "shortfall, median", "shortfall, largest",
                    "stated error, median", "outside it", "above the true value",
                    "upper bound's excess, median", "below the true value"])
    shortfalls, excesses, broken, medians, turns, outside = [], [], 0, ([], []), [], 0
    for network, kind, retention, spacing in cases:
        found, above, absent = train(url, network, kind, retention, spacing, snapshots)
        below = [shortfall for shortfall, _ in found]
        missed = sum(shortfall > error + ROUNDING for shortfall, error in found)
        outside += missed
        wrong = [sum(value < -ROUNDING for value in side) for side in (below, above)]
        result.add([network, kind, retention, spacing, len(below), absent,
                    percent(statistics.median(below), 4), percent(max(below)),
                    percent(statistics.median(error for _, error in found), 1), missed, wrong[0],
                    percent(statistics.median(above), 1) if above else "-", wrong[1]])
        medians[network in LARGE].append(statistics.median(below))
        (turns if network in LARGE else shortfalls).extend(below)
        excesses += above
        broken += sum(wrong)
    large = [("the same, of a model whose weights take turns", "within 1 % median, 5 % worst",
              "%s short in the median of the worst training, largest %s" % (
                  share(max(medians[True])), share(max(turns))))] if turns else []
    return Outcome(result, broken, [
        ("`spectral_norm` of a tensor, after ten snapshots", "within 1 % median, 5 % worst",
         "%s short in the median of the worst training, largest %s" % (
             share(max(medians[False])), share(max(shortfalls))))
    ] + large + [
        ("`spectral_norm_error`", "0 outside it",
         "%d of %d outside" % (outside, len(shortfalls + turns))),
        ("`spectral_norm`, `spectral_norm_upper`, as bounds", "0 violations",
         "%d violations in %d values" % (
             broken, len(shortfalls + turns + excesses))),
        ("`spectral_norm_upper`", "",
         "%s above in the median, largest %s" % (share(statistics.median(excesses)),
                                                 share(max(excesses))))])
