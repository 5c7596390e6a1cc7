#!/usr/bin/env python3
"""Tables of docs/detection.md from a folder that corpus.py cache has filled.

    report.py DIR [--document FILE] [--only TABLE ...]     prints the tables; with --document replaces what stands there
                                                           between <!-- TABLE --> and <!-- end TABLE -->
"""
import argparse
import copy
import functools
import json
import math
import re
import sys
import warnings
from pathlib import Path

import numpy as np

import cache
import learned
import protocol
from families import FAMILIES, LATER, TEST_SEED, group_of
from spikes import DETECTORS

SEEDS_MAX = 100000
LOST = 1  # column `event` of bench_replay
# What the daemon's rules look at: the score, and that of the coming update alone.
SCORE, NEXT = "instability_score", "instability_score_next"
BUDGETS = (1.0, 5.0)
PARTS = ("original", "added", "both", "unseen")
# What a push without tensors has: columns made of the loss and the rate, and the norms that it may give.
LOSS = "step event loss lr progress_scale loss_excess loss_spread loss_ratio loss_slope loss_slope_t loss_level_evidence".split()
BARE = {"loss and rate": LOSS, "loss, rate and norms": LOSS + ["grad_norm", "param_norm"]}


class Set:
    """Runs of one part of the corpus, judged, with the scores of detectors as they are asked for."""

    def __init__(self, folder, families, seeds, tool):
        self.tool = tool
        self.runs = cache.load(folder, families, seeds)
        self.judged = [protocol.Judged(f, s, truth) for f, s, truth, _ in self.runs]
        self._signals = None

    def without(self, families):
        out = copy.copy(self)
        kept = [i for i, run in enumerate(self.runs) if run[0] not in families]
        out.runs, out.judged = [self.runs[i] for i in kept], [self.judged[i] for i in kept]
        out._signals = None
        return out

    def signals(self):
        if self._signals is None:
            self._signals = [cache.signals_of(path) for _, _, _, path in self.runs]
        return self._signals

    def of(self, function):
        """Scores of a detector of spikes.DETECTORS, a list of arrays."""
        return [scored(function, s) for s in self.signals()]

    def points(self, variant, column=SCORE, kept=None):
        """(judged, score a step) of the runs that have the variant, by the tables of today; +inf where a push held a non-finite
        value: the daemon has a rule of its own for these. `kept`: of pushes that have these columns alone."""
        judged, scores = [], []
        for q, (_, _, truth, path) in zip(self.judged, self.runs):
            file = path / (variant + ".npz")
            if file.exists():
                columns, rows = cache.observed(file, self.tool, kept)
                values = np.where(rows[:, columns.index("event")] == LOST, np.inf, rows[:, columns.index(column)])
                scores.append(cache.held(rows[:, 0].astype(int), values, truth["steps"]))
                judged.append(q)
        return judged, scores


def scored(function, signals):
    """Scores of a run, one a step. Steps that the job itself skips are shown to no detector: NaN there."""
    seen = signals["skipped"] == 0
    out = np.full(len(seen), np.nan)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        out[seen] = function({c: v[seen] for c, v in signals.items()})
    return out


def judge(judged, scores, threshold):
    with np.errstate(invalid="ignore"):
        return [q.judge(v > threshold) for q, v in zip(judged, scores)]


def just_below(limit):
    """For rules that fire at the limit, not only above it."""
    return math.nextafter(limit, -math.inf)


def part(records, kind):
    """Records of a part of the corpus; `both`: the original and the added families together."""
    wanted = ("original", "added") if kind == "both" else (kind,)
    return [q for q in records if group_of(q["family"]) in wanted]


def number(triple, places=2, interval=True):
    value, low, high = triple
    if math.isnan(value):
        return "-"
    text = "%.*f" % (places, value)
    if interval and not math.isnan(low):
        text += " (%.*f-%.*f)" % (places, low, places, high)
    return text


def row(name, s, interval=True):
    cells = [number(s["recall"], 2, interval), number(s["early"], 2, interval), number(s["lead"], 1, interval)]
    cells += [number(s["false"], 1, interval), number(s["alarmed"], 3, interval)]
    return "| %s | %s |" % (name, " | ".join(cells))


HEAD = (
    "| {} | recall | early | median lead | false alarms / 10 000 | healthy runs alarmed |\n"
    "|---|---|---|---|---|---|"
)


def thresholds(header=cache.ROOT / "lib/include/lyap/sensitivity.h"):
    """{sensitivity: threshold} as liblyap has them."""
    found = re.findall(r"#define LYAP_SCORE_(EARLY|DEFAULT|PAGER)\s+([0-9.]+)", header.read_text())
    return {name.lower(): float(value) for name, value in found}


def corpus_table(test):
    lines = [
        "| part | runs | steps | stable | spiked | diverged | borderline | events | warm | foreseeable "
        "| healthy steps | of controls |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    records = judge(test.judged, [np.zeros(q.steps) for q in test.judged], 1.0)
    for kind in PARTS:
        names = set(q["family"] for q in part(records, kind))
        mine = [q for q in test.judged if q.family in names]
        labels = [q.truth["label"] for q in mine]
        chosen = part(records, kind)
        controls = sum(q["healthy"] for q in chosen if q["family"][0] == "s")
        cells = [len(mine), sum(q.steps for q in mine)]
        cells += [labels.count(x) for x in ("stable", "spiked", "diverged", "borderline")]
        cells += [sum(q[k] for q in chosen) for k in ("events", "warm", "foreseeable", "healthy")] + [controls]
        lines.append("| %s | %s |" % (kind, " | ".join("%d" % c for c in cells)))
    return "\n".join(lines)


def score_table(test, limits):
    lines = [HEAD.format("score, sensitivity and part")]
    judged, scores = test.points("k1-exact-state")
    rows = [(name, scores, limit) for name, limit in limits.items()]
    rows.append(("coming update alone, default", test.points("k1-exact-state", NEXT)[1], limits["default"]))
    for name, values, limit in rows:
        records = judge(judged, values, just_below(limit))
        for kind in PARTS:
            lines.append(row("%s, %s" % (name, kind), protocol.summary(part(records, kind))))
    return "\n".join(lines)


def family_table(test, limits):
    judged, scores = test.points("k1-exact-state")
    names = list(limits)
    by = {n: protocol.families(judge(judged, scores, just_below(limits[n]))) for n in names}
    lines = ["| family | runs | events | " + " | ".join("recall, " + n for n in names) + " | early | lead |"]
    lines.append("|---" * (5 + len(names)) + "|")
    for f in by[names[0]]:
        if f[0] != "u":
            continue
        s = {n: protocol.summary(by[n][f]) for n in names}
        cells = [number(s[n]["recall"]) if n == "default" else number(s[n]["recall"], 2, False) for n in names]
        middle = s["default"]
        lines.append("| %s | %d | %d | %s | %s | %s |" % (
            f, len(by[names[0]][f]), middle["counts"]["events"], " | ".join(cells),
            number(middle["early"], 2, False), number(middle["lead"], 1, False),
        ))
    false = " | ".join("false alarms, " + n for n in names)
    lines += ["", "| control | runs | healthy steps | %s | events (found) |" % false]
    lines.append("|---" * (4 + len(names)) + "|")
    for f in by[names[0]]:
        if f[0] == "s":
            c = {n: protocol.summary(by[n][f], 0)["counts"] for n in names}
            lines.append("| %s | %d | %d | %s | %d (%d) |" % (
                f, len(by[names[0]][f]), c["default"]["healthy"], " | ".join("%d" % c[n]["false"] for n in names),
                c["default"]["events"], c["default"]["found"],
            ))
    return "\n".join(lines)


def baseline_table(test, design):
    """Without the kinds that came last: they were written because of what the score did."""
    test, design = test.without(LATER), design.without(LATER)
    lines = [HEAD.format("detector, as published")]
    tuned = [HEAD.format("detector, threshold for so many false alarms on the design runs")]
    for name, function, limit, tunable in DETECTORS:
        scores = test.of(function)
        lines.append(row(name, protocol.summary(part(judge(test.judged, scores, limit), "both"))))
        if tunable and design.judged:
            before = design.of(function)
            for budget in BUDGETS:
                t = protocol.tuned(design.judged, before, budget)
                s = protocol.summary(part(judge(test.judged, scores, t), "both"), 0)
                short = name.split(" > ")[0].split(" (> ")[0]
                tuned.append(row("%s > %.3g (at most %g)" % (short, t, budget), s, False))
    if design.judged:
        scores, limits = learned.trained(
            design.judged, [learned.features(s) for s in design.signals()],
            test.judged, [learned.features(s) for s in test.signals()], (*BUDGETS, 2.0),
        )
        for budget, t in sorted(limits.items()):
            s = protocol.summary(part(judge(test.judged, scores, t), "both"), 0)
            tuned.append(row("boosted trees on loss and gradient norm (at most %g)" % budget, s, False))
    with_oracle = [i for i, s in enumerate(test.signals()) if "oracle" in s]
    if with_oracle:
        records = judge(
            [test.judged[i] for i in with_oracle], [test.signals()[i]["oracle"] for i in with_oracle], 1.0
        )
        name = "exact sharpness over its limit > 1 (oracle; %d of the runs)" % len(with_oracle)
        lines.append(row(name, protocol.summary(part(records, "both"))))
    return "\n".join(lines + [""] + tuned)


def variant_table(test, limits):
    lines = [HEAD.format("snapshots every, retention, optimizer state")]
    for variant in cache.VARIANTS:
        judged, scores = test.points(variant)
        if judged:
            records = judge(judged, scores, just_below(limits["default"]))
            lines.append(row(variant.replace("-", ", "), protocol.summary(part(records, "both"))))
    return "\n".join(lines)


def bare_table(test, limits):
    lines = [HEAD.format("pushed without tensors")]
    for name, kept in BARE.items():
        for variant, every in (("k1-exact-state", "every step"), ("k5-exact-state", "every fifth")):
            judged, scores = test.points(variant, kept=kept)
            records = judge(judged, scores, just_below(limits["default"]))
            lines.append(row("%s, %s" % (name, every), protocol.summary(part(records, "both"))))
    return "\n".join(lines)


def left_out_table(folder):
    """Each family judged by a score that was fitted without it: DIR/lofo.json, {budget: {family: records of Judged.judge}}."""
    found = json.loads(Path(folder, "lofo.json").read_text())
    lines = [HEAD.format("left out")]
    for key, title in (("early", "early"), ("one", "one false alarm in 10 000 steps"), ("default", "default")):
        every = [q for records in found[key].values() for q in records]
        lines.append(row("all, %s" % title, protocol.summary(every)))
        s = protocol.summary([q for q in every if q["family"][0] == "u"])  # their healthy steps are few, and hard
        cells = [number(s["recall"]), number(s["early"]), number(s["lead"], 1)]
        lines.append("| events of kinds unstable by design, at that | %s | | |" % " | ".join(cells))
    lines += ["", "| left out (default) | events | recall | early | median lead |", "|---|---|---|---|---|"]
    for name, records in found["default"].items():
        s = protocol.summary(records, 0)
        if s["counts"]["events"]:
            lines.append("| %s | %d | %s | %s | %s |" % (
                name, s["counts"]["events"], number(s["recall"]), number(s["early"]), number(s["lead"], 1)))
    return "\n".join(lines)


TABLES = {
    "corpus": lambda a: corpus_table(a.test),
    "score": lambda a: score_table(a.test, a.limits),
    "families": lambda a: family_table(a.test, a.limits),
    "variants": lambda a: variant_table(a.test, a.limits),
    "bare": lambda a: bare_table(a.test, a.limits),
    "leave-one-out": lambda a: left_out_table(a.folder),
    "baselines": lambda a: baseline_table(a.test, a.design),
}


def replace(document, name, table):
    """The document with the table between its marks; ValueError where there are none."""
    begin, end = "<!-- %s -->\n" % name, "<!-- end %s -->" % name
    before, mark, rest = document.partition(begin)
    _, stop, after = rest.partition(end)
    if not mark or not stop:
        raise ValueError("no place for the table %s" % name)
    return before + begin + table + "\n" + end + after


class Inputs:
    def __init__(self, folder, first, tool):
        self.folder = folder
        self.test = Set(folder, FAMILIES, range(first, SEEDS_MAX), tool)
        self.design = Set(folder, [f for f in FAMILIES if group_of(f) != "unseen"], range(TEST_SEED), tool)

    @functools.cached_property
    def limits(self):
        return thresholds()


def main(arguments):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("folder")
    p.add_argument("--document", type=Path)
    p.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES), metavar="TABLE")
    p.add_argument("--first", type=int, default=TEST_SEED, help="first seed of the test runs (default %(default)s)")
    p.add_argument("--observe", metavar="TOOL", default=str(cache.ROOT / "build/bin/bench_observe"))
    a = p.parse_args(arguments)
    inputs = Inputs(a.folder, a.first, a.observe)
    if not inputs.test.judged:
        print("no runs from seed %d on in %s" % (a.first, a.folder), file=sys.stderr)
        return 1
    for name in a.only:
        try:
            table = TABLES[name](inputs)
        except FileNotFoundError as error:
            print("## %s: not made, no %s\n" % (name, error.filename), file=sys.stderr)
            continue
        if a.document:
            a.document.write_text(replace(a.document.read_text(), name, table))
        print("## %s\n\n%s\n" % (name, table), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
