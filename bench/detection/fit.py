#!/usr/bin/env python3
"""Fits the tables of the instability score on design runs and writes them as C.

    fit.py DIR [--write] [--left-out] [-j N] [--observe TOOL]
        DIR: filled by corpus.py cache DIR --plan design --others 2/3 --variants ... (those of FIT below) and
        corpus.py cache DIR --plan probes --variants ... (those of PROBES)

What the score sees is computed anew from the points in DIR by bench_observe (TOOL): a new observable needs no training.
Prints what each table does on design runs that a fold did not see (folds by seed) and the operating points. --write:
lib/score_table.h and lib/include/lyap/sensitivity.h. --left-out: instead, by family, into DIR/lofo.json for report.py.

The model, a table for each kind of push (KINDS): log odds = base + what each of some boosted trees says; a tree asks a few
observables in turn, so that it can say "overshoot matters where the loss is not yet back". More of what RISING
lists never lowers the odds. The weight of an event is spread over its last LEAD steps, most of it, in later rounds, on those the score finds itself.
"""
import argparse
import copy
import glob
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

import cache
import protocol
from families import LATER, TEST_SEED, group_of

ROOT = Path(__file__).resolve().parents[2]
VERSION = 4
LOST, SKIPPED = 1, 2  # column `event` of bench_replay
MAIN, SKETCH, BARE_STATE, FIVE, PAIRS, TWENTY = FIT = [
    "k1-exact-state", "k1-sketch-state", "k1-exact-none", "k5-exact-state", "k5-pairs-state", "k20-exact-state",
]
GAPS = [FIVE, PAIRS, TWENTY]
PROBES = ["k1-exact-state-probe%d" % n for n in (10, 5, 1)] + ["k5-pairs-state-probe"]
LEAD, EVENT_WEIGHT = 8, 60.0
AFTERMATH, AFTERMATH_WEIGHT = 50, 30.0  # steps behind an onset, while the run has not recovered, and their weight together
ROUNDS = [(120, 0.1), (120, 0.1), (150, 0.1)]  # trees and their rate; the last round is the table
LEAVES, LEAF, RIDGE = 16, 20, 1.0
HARD, EASY_EVERY = 0.93, 25  # healthy steps above this quantile of a first fit are all used, of the others one in 25
FOLDS = 3  # by seed // 3: what a family does often turns on the seed modulo 2 or 3
FAMILY_FOLDS = 16
# False alarms per 10 000 healthy steps, and share of healthy runs alarmed, on unseen folds.
BUDGETS = {"early": (3.0, 0.08), "default": (0.75, 0.015), "pager": (0.2, 0.004)}
LEFT_OUT_BUDGETS = {"early": BUDGETS["early"], "default": BUDGETS["default"], "one": (1.0, 1.0)}

# What a push without tensors can show: of its loss and rate, and of the norms that it may give.
LOSS = (
    "loss_excess loss_ratio loss_sigmas loss_tail loss_record loss_twice loss_z loss_slope loss_slope_t drift slow_drift level "
    "relapse relapse_twice relapse_median relapse_mean rebound rise_t_20 rise_t_40 excess_noise excess_least_3 excess_least_5 "
    "loss_run_5 loss_run_5_2 loss_shift_30 loss_shift_60 rate_jump rate_above rate_rise_1 rate_rise_5 rate_rise_20 rate_rise_50"
).split()
NORMS = (
    "grad_growth grad_rise grad_run grad_rise_6 grad_run_3 grad_run_5 grad_run_5_2 grad_shift_20 grad_shift_30 grad_shift_60 "
    "param_growth param_step param_rise_5 param_rise_20 param_rise_50"
).split()
COMING = (
    "predicted_decrease decrease_rise decrease_rise_6 predicted_change reach update_z update_z_median second_moment_ratio "
    "decrease_peak decrease_record decrease_jump decrease_sigmas change_sigmas change_share reach_record rate_jump rate_above "
    "rate_rise_1 rate_rise_5 rate_rise_20 rate_rise_50"
).split()
RISING = (  # more of these is never less of an instability
    "loss_excess loss_record loss_twice drift slow_drift level relapse relapse_twice relapse_median relapse_mean excess_least_3 "
    "excess_least_5 overshoot_work overshoot_sum overshoot_peak overshoot_record second_moment_ratio probe_relapse "
    "probe_relapse_twice"
).split()


def observables(header=ROOT / "lib/include/lyap/observe.h"):
    """[(enum name, name)] in the order of the table in C."""
    import re

    text = header.read_text().split("LYAP_OBSERVABLE_TABLE(X)")[1].split("enum lyap_observable")[0]
    return re.findall(r'X\((\w+),\s*"(\w+)"', text)


NAMES = [name for _, name in observables()]
DECREASE, GAP = NAMES.index("predicted_decrease"), NAMES.index("gap")
TOLD = [n for n in NAMES if n.startswith("probe_")]
RETIRED = ["mismatch"]
SEEN = [n for n in NAMES if n not in TOLD + RETIRED + ["gap", "tensors"]]


class Kind:
    """A kind of push: the variants that show it, the observables its table may ask, and which rows of a variant are of it.

    `masked`: observables that the runs are stripped to, each choice a variant of its own; the default: none is taken away.
    The threshold spends the default budget on the worst of the groups of variants in `judged` (default: each variant by itself)."""

    def __init__(self, name, variants, names, rows=None, masked=None, judged=None):
        self.name, self.variants, self.rows, self.masked = name, variants, rows, masked
        self.columns = np.array([NAMES.index(n) for n in names])
        self.judged = judged


def is_gap(x):
    return x[:, GAP] > 0


def is_blind(x):
    return np.isnan(x[:, DECREASE]) & ~is_gap(x)


def is_whole(x):
    return ~np.isnan(x[:, DECREASE]) & ~is_gap(x)


KINDS = [  # in the order of the enum in score.c
    Kind("now", [MAIN, SKETCH], SEEN, is_whole, judged=[(MAIN,)]),
    Kind("gap", GAPS, SEEN, is_gap),
    Kind("blind", [MAIN, SKETCH, BARE_STATE], SEEN, is_blind),
    Kind("next", [MAIN], COMING),
    Kind("loss", [MAIN, FIVE, TWENTY], LOSS, masked={"loss": LOSS}),
    Kind("norms", [MAIN, FIVE, TWENTY], LOSS + NORMS, masked={"norms": LOSS + NORMS}),
    # Runs without a probe take part: what the rest shows is the same, and there are more of them.
    Kind("probe", PROBES + [MAIN, FIVE], SEEN + TOLD + ["gap"], judged=[PROBES]),
    Kind("probe_loss", PROBES + [MAIN, FIVE], LOSS + NORMS + TOLD, masked={"loss": LOSS + TOLD, "norms": LOSS + NORMS + TOLD},
         judged=[[v + " " + m for v in PROBES] for m in ("loss", "norms")]),
]


RUNS = []  # the design runs: loaded once, and read by the processes that fit a kind each
TOGETHER = ["now", "blind"]  # tables that judge the pushes of one run together, and spend one budget on MAIN


class Run:
    """Ground truth of a run, and what was seen of it in one variant."""

    def __init__(self, folder, truth, variant, tool):
        self.family, self.seed, self.variant, self.hidden = folder.parent.name, int(folder.name), variant, []
        self.judged = protocol.Judged(self.family, self.seed, truth)
        columns, rows = cache.observed(folder / (variant + ".npz"), tool)
        at = {c: i for i, c in enumerate(columns)}
        self.steps = rows[:, 0].astype(int)
        self.lost, self.skipped = rows[:, at["event"]] == LOST, rows[:, at["event"]] == SKIPPED
        with np.errstate(over="ignore"):
            self.x = np.clip(rows[:, [at["seen " + n] for n in NAMES]], -1e30, 1e30).astype(np.float32)

    def stripped(self, name, kept):
        """The run as one sees it who can give these observables alone."""
        out = copy.copy(self)
        out.variant, out.hidden = self.variant + " " + name, [n for n in NAMES if n not in kept]
        return out

    def blank(self):
        """The run without what is seen of it: enough to judge alarms, and small."""
        out = copy.copy(self)
        out.x = None
        return out

    def seen(self, rows, columns):
        """Rows and columns of what is seen, NaN where hidden."""
        x = self.x[rows][:, columns]
        x[:, np.isin(columns, [NAMES.index(n) for n in self.hidden])] = np.nan
        return x

    def dense(self, values):
        """One value a step of the stream, each held until the next push; NaN before the first."""
        out = np.full(self.judged.steps, np.nan)
        out[self.steps] = np.where(self.lost, np.inf, np.where(self.skipped, -np.inf, values))
        last = np.maximum.accumulate(np.where(np.isnan(out), -1, np.arange(len(out))))
        return np.where(last >= 0, out[np.maximum(last, 0)], -np.inf)


def runs_of(tool, variants, path):
    folder, truth = Path(path).parent, json.loads(Path(path).read_text())
    if int(folder.name) >= TEST_SEED or group_of(folder.parent.name) == "unseen":
        return []
    return [Run(folder, truth, v, tool) for v in variants if (folder / (v + ".npz")).exists()]


def load(directory, variants, tool, jobs):
    paths = sorted(glob.glob(os.path.join(directory, "*", "*", "truth.json")))
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        return [r for some in pool.map(partial(runs_of, tool, variants), paths, chunksize=16) for r in some]


class Rows:
    """All pushes of some runs that are of a kind: inputs, labels, weights, and which rows each event may be seen in."""

    def __init__(self, runs, kind):
        self.kind = kind
        runs = [r for r in runs if r.variant in kind.variants]
        if kind.masked:
            runs = [r.stripped(*choice) for r in runs for choice in kind.masked.items()]
        else:  # with tensors no table alarms on an idle run at the default, and those were fitted before there were any
            runs = [r for r in runs if r.family not in LATER]
        self.runs, self.slices, self.events, self.aftermaths, at = runs, [], [], [], 0
        x, used, event = [], [], []
        for run in runs:
            mine = kind.rows(run.x) if kind.rows else np.ones(len(run.steps), bool)
            place = np.cumsum(mine) - 1 + at
            label = np.zeros(len(run.steps), bool)
            for (begin, onset, end), (_, _, recover) in zip(run.judged.events, run.judged.truth["events"]):
                k = (run.steps >= max(begin, onset - LEAD)) & (run.steps < end) & ~run.lost
                label |= k
                if (k & mine).any():
                    self.events.append(place[k & mine])
                lost_until = min(end + AFTERMATH, run.judged.steps if recover < 0 else recover)
                k = (run.steps >= end) & (run.steps < lost_until) & ~run.lost
                if kind.masked and (k & mine).any():  # a loss alone forgets what it was: it must be told that it is not well again
                    label |= k
                    self.aftermaths.append(place[k & mine])
            calm = run.judged.healthy[run.steps] & ~run.lost & ~run.skipped
            x.append(run.seen(mine, kind.columns))
            used.append((calm & ~label)[mine])
            event.append(label[mine])
            self.slices.append((slice(at, at + int(mine.sum())), mine))
            at += int(mine.sum())
        self.x, self.y, self.w = np.vstack(x), np.concatenate(event), np.concatenate(used).astype(float)
        self.run = np.repeat(np.arange(len(runs)), [s.stop - s.start for s, _ in self.slices])
        for k in self.aftermaths:
            self.w[k] = AFTERMATH_WEIGHT / len(k)
        for k in self.events:
            self.w[k] = EVENT_WEIGHT / len(k)
        self._thin()

    def of_runs(self, value):
        """One value a row from one a run."""
        return np.array([value(r) for r in self.runs])[self.run]

    def _thin(self):
        """Of what a first model finds easy one in EASY_EVERY is enough."""
        some = (self.y | (np.arange(len(self.y)) % 16 == 0)) & (self.w > 0)
        score = boost(self, some, self.w, 60, 0.15).decision_function(self.x)
        healthy = ~self.y & (self.w > 0)
        easy = healthy & (score < np.quantile(score[healthy], HARD))
        kept = np.arange(len(self.y)) % EASY_EVERY == 0
        self.w[easy & ~kept] = 0
        self.w[easy & kept] *= EASY_EVERY


def boost(rows, use, weight, trees, rate):
    rising = [int(NAMES[c] in RISING) for c in rows.kind.columns]
    model = HistGradientBoostingClassifier(
        max_iter=trees, learning_rate=rate, max_leaf_nodes=LEAVES, min_samples_leaf=LEAF, l2_regularization=RIDGE,
        early_stopping=False, random_state=0, monotonic_cst=rising,
    )
    k = np.flatnonzero(use)
    return model.fit(rows.x[k], rows.y[k], sample_weight=weight[k])


def fit(rows, use):
    """Rounds of boosting; between them the weight of an event moves to the rows that show it."""
    weight = rows.w.copy()
    used = np.flatnonzero(weight > 0)
    for i, (trees, rate) in enumerate(ROUNDS):
        model = boost(rows, use & (weight > 0), weight, trees, rate)
        if i == len(ROUNDS) - 1:
            return model
        score = np.zeros(len(weight))
        score[used] = model.decision_function(rows.x[used])
        for k in rows.events:
            share = np.exp(np.clip(score[k] - score[k].max(), -30, 0))
            weight[k] = EVENT_WEIGHT * (0.3 / len(k) + 0.7 * share / share.sum())


def unseen(rows, folds):
    """Scores by models that did not see the row's fold."""
    out = np.zeros(len(rows.y))
    for fold in np.unique(folds):
        model = fit(rows, folds != fold)
        out[folds == fold] = model.decision_function(rows.x[folds == fold])
    return out


class Alarms:
    """Values of some tables as one a step: {(family, seed, variant): (run, values)}."""

    def __init__(self):
        self.values = {}

    def add(self, rows, score):
        for run, (piece, mine) in zip(rows.runs, rows.slices):
            key, new = (run.family, run.seed, run.variant), np.full(len(run.steps), -np.inf)
            _, values = self.values.setdefault(key, (run.blank(), new))
            values[mine] = score[piece]
        return self

    def lowered(self, fall):
        out = Alarms()
        out.values = {key: (run, values - fall) for key, (run, values) in self.values.items()}
        return out

    def dense(self, *variants):
        return [(r.judged, r.dense(v)) for r, v in self.values.values() if r.variant in variants]

    def variants(self):
        return sorted({variant for _, _, variant in self.values})

    def limits(self, *variants, budgets=BUDGETS):
        """The least threshold within each budget of false alarms and of alarmed runs, over all these variants."""
        chosen = self.dense(*variants)
        chosen = [(j, np.where(np.isposinf(d), -np.inf, d)) for j, d in chosen]  # a lost step alarms, whatever the threshold
        healthy = sum(int(j.healthy.sum()) for j, _ in chosen)
        unharmed = [j.stable and bool(j.healthy.all()) for j, _ in chosen]
        out = {}
        for level, (budget, share) in budgets.items():
            low, high = -60.0, 60.0
            while high - low > 1e-4:
                middle = (low + high) / 2
                false = np.array([protocol.episodes((d > middle) & j.healthy) for j, d in chosen])
                is_within = 1e4 * false.sum() <= budget * healthy and (false[unharmed] > 0).sum() <= share * sum(unharmed)
                low, high = (low, middle) if is_within else (middle, high)
            out[level] = high
        return out

    def line(self, title, variant, limit):
        """(a line about the operating point, what protocol.py says of each run)"""
        records = [j.judge(d > limit) for j, d in self.dense(variant)]
        s = protocol.summary(records, resamples=0)
        return "%-44s recall %.3f early %.3f lead %.1f false %.2f alarmed %.3f   (%d events, %d healthy steps)" % (
            title, s["recall"][0], s["early"][0], s["lead"][0], s["false"][0], s["alarmed"][0], s["counts"]["events"],
            s["counts"]["healthy"]), records

    def report(self, title, variant, limit):
        line, records = self.line(title, variant, limit)
        print(line, flush=True)
        return records


def merged(alarms):
    """Of each push the value of the table that judges it."""
    out = Alarms()
    for some in alarms.values():
        for key, (run, values) in some.values.items():
            out.values[key] = run, np.maximum(values, out.values[key][1]) if key in out.values else values
    return out


def slope_of(rows, raw):
    """How raw scores become log odds of "this step is in the window of an event"."""
    inside, known = np.zeros(len(raw), bool), np.zeros(len(raw), bool)
    for run, (piece, mine) in zip(rows.runs, rows.slices):
        window = np.zeros(run.judged.steps, bool)
        for begin, _, end in run.judged.events:
            window[begin:end] = True
        inside[piece] = window[run.steps][mine]
        known[piece] = (window | run.judged.healthy)[run.steps][mine]
    model = LogisticRegression(C=1e3).fit(np.clip(raw[known], -8, 8)[:, None], inside[known])
    return float(model.coef_[0, 0])


def judged_apart(rows, folds):
    """(scores of all rows, 0 where the table spends the default budget, by models that did not see the row's fold; factor and
    offset that made them of raw scores)"""
    raw = unseen(rows, folds)
    alarms = Alarms().add(rows, raw)
    groups = rows.kind.judged or [(v,) for v in alarms.variants()]
    limit = max(alarms.limits(*g, budgets={"": BUDGETS["default"]})[""] for g in groups)
    factor = slope_of(rows, raw - limit)
    return factor * (raw - limit), factor, -factor * limit


class Table:
    """Trees of a boosted model in preorder: nodes (observable or None, absent above, skip, edge, what coming here changes of the
    log odds), and roots. What all trees say before a question is in `base`."""

    def __init__(self, model, kind, factor, offset):
        self.base = float(np.ravel(model._baseline_prediction)[0]) * factor + offset
        self.nodes, self.roots = [], []
        for (predictor,) in model._predictors:
            said = predictor.nodes["value"] * factor * np.where(predictor.nodes["is_leaf"], 1.0, model.learning_rate)
            change = said.copy()
            for i, n in enumerate(predictor.nodes):
                if not n["is_leaf"]:
                    assert n["left"] == i + 1
                    change[[n["left"], n["right"]]] -= said[i]
            self.base += change[0]
            self.roots.append(len(self.nodes))
            self.nodes += [
                (None, 0, 0, 0.0, share) if n["is_leaf"] else (
                    int(kind.columns[n["feature_idx"]]), int(not n["missing_go_to_left"]), int(n["right"]) - i,
                    float(n["num_threshold"]), share)
                for i, (n, share) in enumerate(zip(predictor.nodes, change))
            ]

    def log_odds(self, x):
        out = np.full(len(x), self.base)
        for row in range(len(x)):
            for at in self.roots:
                while self.nodes[at][2]:
                    column, absent, skip, edge, _ = self.nodes[at]
                    at += skip if (absent if np.isnan(x[row, column]) else x[row, column] > edge) else 1
                    out[row] += self.nodes[at][4]
        return out


def whole(rows, factor, offset):
    """The table fitted on all runs."""
    model = fit(rows, np.ones(len(rows.y), bool))
    table = Table(model, rows.kind, factor, offset)
    some = np.flatnonzero(rows.w > 0)[:: max(1, len(rows.y) // 300)][:300]
    x = np.full((len(some), len(NAMES)), np.nan)
    x[:, rows.kind.columns] = rows.x[some]
    error = np.abs(table.log_odds(x) - factor * model.decision_function(rows.x[some]) - offset).max()
    assert error < 1e-4, error
    return table


def kind_of(name):
    return next(k for k in KINDS if k.name == name)


def fitted_kind(is_written, name):
    """Prints what the table of a kind of push does by models that did not see the run; (these alarms where TOGETHER needs them,
    the table if it is written)."""
    rows = Rows(RUNS, kind_of(name))
    score, factor, offset = judged_apart(rows, rows.of_runs(lambda r: r.seed // 3 % FOLDS))
    alarms = Alarms().add(rows, score)
    lines = ["%s: %d rows, %d used" % (rows.kind.name, len(rows.y), (rows.w > 0).sum())]
    lines += [alarms.line("  " + variant, variant, 0.0)[0] for variant in alarms.variants()]
    print("\n".join(lines), flush=True)
    return (alarms if name in TOGETHER else None), whole(rows, factor, offset) if is_written else None


def c_float(value):
    """A float of C, exactly."""
    if not np.isfinite(value):
        return "INFINITY"
    text = "%.9g" % np.float32(value)
    return text + ("f" if "." in text or "e" in text else ".0f")


def c_node(node):
    observable, absent, skip, edge, share = node
    return "{ %d, %d, %d, %s, %s }" % (0 if observable is None else observable, absent, skip, c_float(edge), c_float(share))


def filled(items, width=100):
    """Lines of comma-separated items."""
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > width:
            lines.append(line)
            line = "   "
        line += " " + item + ","
    return lines + [line]


def write(tables, levels):
    names = [k.name for k in KINDS]
    out = ["/* Written by bench/detection/fit.py: the trees of the instability score. Included by score.c alone;",
           " * observables are numbers of enum lyap_observable. THREADS: constants. */",
           "#ifndef LYAP_SCORE_TABLE_H", "#define LYAP_SCORE_TABLE_H", "",
           "enum { SCORE_VERSION = %d, SCORE_OBSERVABLES = %d };" % (VERSION, len(NAMES)), "",
           "/* clang-format off */", "static const struct score_node nodes[] = {"]
    first = 0
    roots = {}
    for name, table in zip(names, tables):
        out += filled(c_node(n) for n in table.nodes)
        roots[name] = [first + r for r in table.roots]
        first += len(table.nodes)
    out += ["};", ""]
    for name in names:
        out += ["static const uint16_t %s_roots[] = {" % name] + filled(str(r) for r in roots[name]) + ["};", ""]
    out += ["static const struct score_model models[] = {",
            *("    [SCORE_%s] = { %.9g, %s_roots, %d }," % (n.upper(), t.base, n, len(t.roots)) for n, t in zip(names, tables)),
            "};", "/* clang-format on */", "", "#endif"]
    assert first < 1 << 16, first  # roots are uint16_t
    (ROOT / "lib/score_table.h").write_text("\n".join(out) + "\n")
    (ROOT / "lib/include/lyap/sensitivity.h").write_text(
        "/* Written by bench/detection/fit.py. Thresholds of instability_score at three\n"
        " * sensitivities; their operating points are in docs/detection.md. THREADS: constants. */\n#ifndef LYAP_SENSITIVITY_H\n#define LYAP_SENSITIVITY_H\n\n"
        + "".join("#define LYAP_SCORE_%-8s%.3f\n" % (n.upper(), levels[n]) for n in ("early", "default", "pager"))
        + "\n#endif\n")


def together(alarms):
    """(thresholds, by how much the tables of TOGETHER must fall)."""
    limit = merged(alarms).limits(MAIN)
    fall = max(0.0, limit["default"])
    both = merged(alarms).lowered(fall)
    for level, value in limit.items():
        records = both.report("%s, unseen seeds" % level, MAIN, value - fall)
        if level == "default":
            by_family(records)
    for variant in both.variants():
        both.report("default, " + variant, variant, 0.0)
    return {n: sigmoid(0.0 if n == "default" else v - fall) for n, v in limit.items()}, fall


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_family(records):
    print("   " + "  ".join(
        "%s %d/%d" % (f, sum(q["found"] for q in g), sum(q["events"] for q in g))
        for f, g in sorted(protocol.families(records).items()) if sum(q["events"] for q in g)))
    print("   false: " + " ".join("%s/%d:%d" % (q["family"], q["seed"], q["false"]) for q in records if q["false"]))


def left_out_kind(name):
    rows = Rows(RUNS, kind_of(name))
    families = sorted({r.family for r in rows.runs})
    order = dict(zip(np.random.RandomState(0).permutation(families), range(len(families))))
    return Alarms().add(rows, judged_apart(rows, rows.of_runs(lambda r: order[r.family] % FAMILY_FOLDS))[0])


def left_out(directory, alarms):
    """The main variant by tables that saw no run of its family, at each of LEFT_OUT_BUDGETS."""
    alarms, found = merged(alarms), {}
    for budget, limit in alarms.limits(MAIN, budgets=LEFT_OUT_BUDGETS).items():
        records = alarms.report("unseen families, %s" % budget, MAIN, limit)
        found[budget] = protocol.families(records)
    by_family(records)
    Path(directory, "lofo.json").write_text(json.dumps(found) + "\n")


def each_kind(jobs, function, kinds):
    """[function(kind) ...], `jobs` at a time, in processes that share RUNS."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(function, kinds))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("--write", action="store_true")
    p.add_argument("--left-out", action="store_true")
    p.add_argument("--observe", metavar="TOOL", default=str(ROOT / "build/bin/bench_observe"))
    p.add_argument("-j", dest="jobs", type=int, default=1, help="processes")
    a = p.parse_args()
    if a.left_out:
        RUNS.extend(load(a.directory, sorted({v for n in TOGETHER for v in kind_of(n).variants}), a.observe, a.jobs))
        return left_out(a.directory, dict(zip(TOGETHER, each_kind(a.jobs, left_out_kind, TOGETHER))))
    RUNS.extend(load(a.directory, FIT + PROBES, a.observe, a.jobs))
    names = [k.name for k in KINDS]
    found = dict(zip(names, each_kind(a.jobs, partial(fitted_kind, a.write), names)))
    levels, fall = together({n: found[n][0] for n in TOGETHER})
    print("thresholds", {n: round(float(v), 3) for n, v in levels.items()})
    if a.write:
        for name in TOGETHER:
            found[name][1].base -= fall
        write([table for _, table in found.values()], levels)


if __name__ == "__main__":
    main()
