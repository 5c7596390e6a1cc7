#!/usr/bin/env python3
"""Fits the table of the instability score on design runs and writes it as C.

    fit.py DIR [--write] [--left-out] [--observe TOOL]    DIR: corpus.py cache DIR --plan design --variants FIT PROBES

What the score sees is computed anew from the points in DIR by bench_observe (TOOL): a new observable needs no training.
Prints what the score does on design runs that a fold did not see (folds by seed; --left-out: by family, too) and the operating
points. --write: lib/score_table.h and lib/include/lyap/sensitivity.h. --left-out: DIR/lofo.json, too, for report.py.

The model, one table for each kind of push (TABLES, BARE for pushes without tensors, PROBED for jobs with a probe): log odds = base + sum of shares; each share is
a monotone step function of one observable or of the smaller of two observables in their units (PAIRS). Levels below the NEUTRAL quantile of healthy steps are one level: an observable can speak for an
instability, not against what another one sees. Boosted stumps; the weight of an event is spread over its last LEAD steps, most
of it, in later rounds, on those the score finds itself.
"""
import argparse
import copy
import glob
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

import cache
import protocol

ROOT = Path(__file__).resolve().parents[2]
VERSION = 2
LOST, SKIPPED = 1, 2  # column `event` of bench_replay
MAIN = "k1-exact-state"
FIT = [MAIN, "k5-exact-state", "k1-sketch-state", "k1-exact-none"]
OTHERS_EVERY = 2  # variants without a gap, but for the main one: every second seed
TABLES = ["now", "gap", "blind", "next"]  # everything may be known; after a gap; coming update unknown; it alone
BARE = ["loss", "norms"]  # no tensors: the loss alone; with norms of gradient or parameters
PROBED = ["probe", "probe_loss"]  # a probe's loss is known: with tensors, without
PROBES = ["k1-exact-state-probe%d" % n for n in (10, 5, 1)] + ["k5-pairs-state-probe"]
JUDGED = {"now": [MAIN], "gap": FIT[1:2], "blind": [MAIN] + FIT[2:]}  # whose false alarms limit a table
# What a push without tensors can show: of its loss and rate, and of the norms that it may give.
LOSS = (
    "loss_excess loss_ratio loss_sigmas loss_tail loss_record loss_twice loss_z loss_slope loss_slope_t drift slow_drift level "
    "relapse relapse_twice relapse_median rebound rise_t_20 rise_t_40 excess_noise rate_jump"
).split()
NORMS = "grad_growth grad_rise grad_run param_growth param_step".split()
NEUTRAL, LEAD, EVENT_WEIGHT = 0.95, 8, 60.0
ROUNDS, STUMPS, RATE, LEAF = 4, 300, 0.1, 10
HARD, EASY_EVERY = 0.96, 25  # healthy steps above this quantile of a first fit are all used, of the others one in 25
FOLDS, FAMILY_FOLDS = 3, 8
BUDGETS = {"early": 5.0, "default": 0.7, "pager": 0.25}  # false alarms per 10 000 healthy steps, on unseen folds

PAIRS = [  # (observable, unit, observable, unit): of different physics
    ("loss_sigmas", 0.03, "predicted_decrease", 1.2), ("loss_ratio", 4, "net_work_sum", 0.03),
    ("loss_ratio", 2, "overshoot_work", 0.4), ("loss_excess", 0.35, "overshoot_work", 1.25),
    ("loss_ratio", 16, "predicted_decrease", 0.3), ("predicted_change", 0.1, "update_z", 4),
    ("net_work", 0.03, "oscillation", 0.8), ("net_work", 0.2, "loss_slope_t", 0.2),
    ("mismatch", 0.025, "second_moment_ratio", 2.3), ("overshoot_work", 0.3, "grad_z_median", 2),
    ("predicted_decrease", 0.5, "update_z_median", 2), ("loss_tail", 3, "predicted_decrease", 0.5),
    ("loss_twice", 0.02, "overshoot_work", 0.1), ("net_work", 0.03, "second_moment_ratio", 2),
    ("predicted_change", 0.1, "decrease_rise", 3), ("overshoot_work", 0.3, "loss_tail", 2),
    ("net_work_sum", 0.05, "edge_ratio", 0.7), ("loss_excess", 0.2, "update_z", 4),
    ("overshoot_record", 0.1, "loss_z", 2), ("param_growth", 0.03, "overshoot_sum", 0.1),
    ("loss_record", 0.05, "grad_z", 4), ("loss_tail", 6, "loss_excess", 0.4), ("loss_tail", 6, "update_z", 4),
    ("loss_tail", 6, "grad_z_median", 3), ("loss_record", 0.2, "update_z", 3),
    ("loss_record", 0.2, "second_moment_ratio", 2.5), ("mismatch", 0.05, "loss_ratio", 3),
    ("mismatch", 0.05, "loss_tail", 3), ("mismatch", 0.05, "param_growth", 0.02), ("reach", 1, "overshoot_work", 0.3),
    ("loss_twice", 0.05, "grad_z", 3), ("overshoot_growth", 0.5, "loss_z", 1.5), ("update_growth", 1, "net_work", 0.02),
    ("grad_growth", 1, "net_work", 0.02), ("loss_z", 3, "net_work", 0.02), ("edge_ratio", 0.8, "overshoot_growth", 0.5),
    ("update_ratio", 0.05, "overshoot_work", 0.3), ("loss_twice", 0.02, "second_moment_ratio", 2),
    ("mismatch", 0.05, "net_work_sum", 0.03), ("mismatch", 0.05, "loss_excess", 0.3), ("mismatch", 0.05, "drift", 0.2),
    ("loss_twice", 0.3, "loss_tail", 5), ("loss_record", 0.3, "update_z_median", 4), ("loss_record", 0.3, "loss_ratio", 8),
    ("loss_twice", 0.2, "loss_ratio", 5), ("drift", 0.3, "loss_slope_t", 2), ("drift", 0.3, "net_work_sum", 0.05),
    ("drift", 0.3, "loss_ratio", 2), ("slow_drift", 0.2, "loss_slope_t", 1), ("level", 3, "drift", 0.2),
    ("drift", 0.2, "param_growth", 0.03), ("reach", 2, "loss_excess", 0.5), ("reach", 2, "net_work", 0.05),
    ("overshoot_work", 2, "net_work", 0.3), ("predicted_decrease", 5, "reach", 2), ("update_z", 6, "reach", 1),
    ("update_z_median", 4, "predicted_decrease", 0.5), ("second_moment_ratio", 2.5, "predicted_decrease", 0.5),
    ("overshoot_sum", 0.3, "drift", 0.1),
    # Records and relapses; units: one in two hundred healthy steps.
    ("relapse", 2.1, "reach_record", 0.081), ("relapse_twice", 1.2, "overshoot_peak", 0.51),
    ("relapse", 2.1, "overshoot_reach", 1.3), ("relapse", 2.1, "decrease_record", 0.03),
    ("decrease_record", 0.03, "edge_record", 0.024), ("reach_record", 0.081, "grad_rise", 1.6),
    ("reach_record", 0.081, "update_ratio_rise", 1.2), ("relapse_median", 1.5, "rise_t_20", 2.7),
    ("relapse_twice", 1.2, "excess_noise", 4.5), ("relapse_median", 1.5, "unexplained_rise", 1.6),
    ("rate_jump", 0.69, "decrease_sigmas", 3.5), ("overshoot_mads", 5.5, "relapse", 2.1),
    ("overshoot_mads", 5.5, "decrease_record", 0.03), ("decrease_jump", 0.31, "overshoot_mads", 5.5),
    ("decrease_record", 0.03, "update_z", 6.7), ("relapse_twice", 1.2, "grad_z", 5),
    ("relapse", 2.1, "second_moment_ratio", 2.9), ("relapse_twice", 1.2, "second_moment_ratio", 2.9),
    ("decrease_record", 0.03, "second_moment_ratio", 2.9), ("relapse", 2.1, "mismatch", 1.4),
    ("relapse_twice", 1.2, "mismatch", 1.4), ("decrease_record", 0.03, "mismatch", 1.4),
    ("relapse_median", 1.5, "param_growth", 0.11), ("reach_record", 0.081, "overshoot_growth", 0.77),
    ("relapse", 2.1, "overshoot_growth", 0.77), ("overshoot_mads", 5.5, "grad_growth", 2),
    ("relapse_twice", 1.2, "update_ratio_rise", 1.2), ("decrease_record", 0.03, "predicted_change", 0.05),
    ("reach_record", 0.081, "predicted_change", 0.05),
]
PROBE_PAIRS = [  # of the probe and what the training shows since; units: one in two hundred healthy steps
    ("probe_forecast", 0.5, "relapse_twice", 1.2), ("probe_forecast", 0.5, "overshoot_sum", 0.3),
    ("probe_forecast", 0.5, "rise_t_20", 2.7), ("probe_relapse", 0.4, "overshoot_work", 0.3),
    ("probe_relapse", 0.4, "overshoot_reach", 1.3), ("probe_relapse", 0.4, "reach_record", 0.081),
    ("probe_relapse", 0.4, "loss_record", 0.2), ("probe_relapse", 0.4, "mismatch", 0.05),
    ("probe_forecast", 0.5, "param_growth", 0.03), ("probe_forecast", 0.5, "second_moment_ratio", 2.5),
    ("probe_rise", 0.08, "loss_z", 2), ("probe_rise", 0.08, "net_work_sum", 0.05),
    ("probe_rise", 0.08, "update_ratio_rise", 1.2), ("probe_rebound", 0.55, "relapse", 2.1),
    ("probe_record", 0.01, "overshoot_peak", 0.51), ("probe_relapse_twice", 0.34, "relapse_median", 1.5),
]
COMING = (
    "predicted_decrease decrease_rise predicted_change reach update_z update_z_median second_moment_ratio decrease_peak "
    "decrease_record decrease_jump decrease_sigmas change_sigmas change_share reach_record rate_jump"
).split()


def observables(header=ROOT / "lib/include/lyap/observe.h"):
    """[(enum name, name)] in the order of the table in C."""
    import re

    text = header.read_text().split("LYAP_OBSERVABLE_TABLE(X)")[1].split("enum lyap_observable")[0]
    return re.findall(r'X\((\w+),\s*"(\w+)"', text)


NAMES = [name for _, name in observables()]
GAP, DECREASE, PROBE = (NAMES.index(n) for n in ("gap", "predicted_decrease", "probe_relapse"))
TOLD = [n for n in NAMES if n.startswith("probe_")]
INPUTS = np.array([i for i in range(len(NAMES) + len(PAIRS)) if i != GAP and (i >= len(NAMES) or NAMES[i] not in TOLD)])


PAIRS = PAIRS + PROBE_PAIRS  # at the end: the inputs of the other tables are what they were


def inputs_of(names):
    """Inputs that these observables alone give."""
    return np.array(
        [i for i, n in enumerate(NAMES) if n in names]
        + [len(NAMES) + i for i, q in enumerate(PAIRS) if q[0] in names and q[2] in names]
    )


class Run:
    """Ground truth of a run, and what was seen of it in one variant."""

    def __init__(self, folder, truth, variant, tool):
        self.family, self.seed, self.variant = folder.parent.name, int(folder.name), variant
        self.judged = protocol.Judged(self.family, self.seed, truth)
        columns, rows = cache.observed(folder / (variant + ".npz"), tool)
        at = {c: i for i, c in enumerate(columns)}
        self.steps = rows[:, 0].astype(int)
        self.lost, self.skipped = rows[:, at["event"]] == LOST, rows[:, at["event"]] == SKIPPED
        self.inputs = inputs({n: rows[:, at["seen " + n]] for n in NAMES})

    def dense(self, values):
        """One value a step of the stream, each held until the next push; NaN before the first."""
        out = np.full(self.judged.steps, np.nan)
        out[self.steps] = np.where(self.lost, np.inf, np.where(self.skipped, -np.inf, values))
        last = np.maximum.accumulate(np.where(np.isnan(out), -1, np.arange(len(out))))
        return np.where(last >= 0, out[np.maximum(last, 0)], -np.inf)


def inputs(seen):
    """One column an observable, then one a pair, float32."""
    columns = [seen[n] for n in NAMES]
    for a, per_a, b, per_b in PAIRS:
        with np.errstate(over="ignore"):
            columns.append(np.minimum(seen[a] / np.float32(per_a), seen[b] / np.float32(per_b)))
    return np.clip(np.column_stack(columns), -1e30, 1e30).astype(np.float32)


def load(directory, variants, tool):
    runs = []
    for path in sorted(glob.glob(os.path.join(directory, "*", "*", "truth.json"))):
        folder, truth = Path(path).parent, json.loads(Path(path).read_text())
        if int(folder.name) >= 1000:
            continue
        for variant in variants:
            if (folder / (variant + ".npz")).exists():
                if variant in FIT[:2] + PROBES or int(folder.name) % OTHERS_EVERY == 0:
                    runs.append(Run(folder, truth, variant, tool))
    return runs


COMING_INPUTS, NORM_INPUTS, LOSS_INPUTS = inputs_of(COMING), inputs_of(LOSS + NORMS), inputs_of(LOSS)
PROBE_INPUTS, PROBE_LOSS_INPUTS = inputs_of([n for n in NAMES if n != "gap"]), inputs_of(LOSS + NORMS + TOLD)


def bare(run, kept, name):
    """The run as one sees it who pushes no tensors."""
    out = copy.copy(run)
    out.variant, out.inputs = run.variant + " " + name, np.full_like(run.inputs, np.nan)
    out.inputs[:, kept] = run.inputs[:, kept]
    return out


class Rows:
    """All pushes of all runs: inputs, which table is to judge them, and which rows each event may be seen in."""

    def __init__(self, runs):
        self.runs, self.events, self.slices, at = runs, [], [], 0
        healthy = []
        for run in runs:
            calm = run.judged.healthy[run.steps] & ~run.lost & ~run.skipped
            for begin, onset, end in run.judged.events:
                k = np.flatnonzero((run.steps >= max(begin, onset - LEAD)) & (run.steps < end) & ~run.lost)
                self.events.append(at + k)
            healthy.append(calm)
            self.slices.append(slice(at, at + len(run.steps)))
            at += len(run.steps)
        self.x, self.healthy = np.vstack([r.inputs for r in runs]), np.concatenate(healthy)
        self.run = np.repeat(np.arange(len(runs)), [len(r.steps) for r in runs])
        self.main = np.array([r.variant == MAIN for r in runs])[self.run]
        gap, blind = self.x[:, GAP] > 0, np.isnan(self.x[:, DECREASE])
        self.table = np.where(gap, TABLES.index("gap"), np.where(blind, TABLES.index("blind"), TABLES.index("now")))


class Part:
    """The rows that one table judges, with weights and labels; `trained`: those of them it is fitted on."""

    def __init__(self, rows, chosen, trained):
        self.index = np.flatnonzero(chosen)
        self.x = rows.x[self.index]
        self.y, self.w = np.zeros(len(self.index), bool), (rows.healthy & trained)[self.index].astype(float)
        self.events, place = [], np.full(len(rows.table), -1)
        place[self.index] = np.arange(len(self.index))
        for event in rows.events:
            k = place[event[trained[event]]]
            k = k[k >= 0]
            if len(k):
                self.y[k], self.w[k] = True, EVENT_WEIGHT / len(k)
                self.events.append(k)
        self._neutral(~self.y & (self.w > 0))
        self._thin()

    def _neutral(self, healthy):
        for j in range(self.x.shape[1]):
            values = self.x[healthy, j]
            values = values[~np.isnan(values)]
            if len(values):
                known = ~np.isnan(self.x[:, j])
                self.x[known, j] = np.maximum(self.x[known, j], np.quantile(values, NEUTRAL))

    def _thin(self):
        some = self.y | (np.arange(len(self.y)) % 16 == 0)
        first = boost(self, some & (self.w > 0), self.w, 50, 0.15)
        score = first.decision_function(self.x)
        healthy = ~self.y & (self.w > 0)
        easy = healthy & (score < np.quantile(score[healthy], HARD))
        kept = np.arange(len(self.y)) % EASY_EVERY == 0
        self.w[easy & ~kept] = 0
        self.w[easy & kept] *= EASY_EVERY


def boost(rows, use, weight, stumps, rate, columns=None):
    columns = np.arange(rows.x.shape[1]) if columns is None else columns
    model = HistGradientBoostingClassifier(
        max_iter=stumps, learning_rate=rate, max_leaf_nodes=2, min_samples_leaf=LEAF, l2_regularization=1.0,
        early_stopping=False, random_state=0, monotonic_cst=[1] * len(columns),
    )
    k = np.flatnonzero(use)
    return model.fit(rows.x[k][:, columns], rows.y[k], sample_weight=weight[k])


def fit(rows, use, columns=None):
    """Rounds of boosting; between them the weight of an event moves to the rows that show it."""
    columns = np.arange(rows.x.shape[1]) if columns is None else np.asarray(columns)
    weight = rows.w.copy()
    for i in range(ROUNDS):
        model = boost(rows, use & (weight > 0), weight, STUMPS, RATE, columns)
        if i == ROUNDS - 1:
            return model
        score = model.decision_function(rows.x[:, columns])
        for k in rows.events:
            share = np.exp(np.clip(score[k] - score[k].max(), -30, 0))
            weight[k] = EVENT_WEIGHT * (0.3 / len(k) + 0.7 * share / share.sum())


def unseen(rows, folds, columns=None):
    """Scores by models that did not see the row's fold."""
    columns = np.arange(rows.x.shape[1]) if columns is None else np.asarray(columns)
    out = np.zeros(len(rows.y))
    for fold in np.unique(folds):
        model = fit(rows, folds != fold, columns)
        out[folds == fold] = model.decision_function(rows.x[folds == fold][:, columns])
    return out


def report(title, rows, score, limit, variant=MAIN):
    chosen = [i for i, r in enumerate(rows.runs) if r.variant == variant]
    records = [rows.runs[i].judged.judge(rows.runs[i].dense(score[rows.slices[i]]) > limit) for i in chosen]
    s = protocol.summary(records, resamples=0)
    print("%-34s recall %.3f early %.3f lead %.1f false %.2f alarmed %.3f   (%d events, %d healthy steps)" % (
        title, s["recall"][0], s["early"][0], s["lead"][0], s["false"][0], s["alarmed"][0], s["counts"]["events"],
        s["counts"]["healthy"]), flush=True)
    return records


def limits(rows, score, variant=MAIN):
    chosen = [i for i, r in enumerate(rows.runs) if r.variant == variant]
    judged = [rows.runs[i].judged for i in chosen]
    dense = []
    for i in chosen:  # a lost step alarms by itself, whatever the threshold
        values = rows.runs[i].dense(score[rows.slices[i]])
        dense.append(np.where(np.isposinf(values), -np.inf, values))
    return {name: protocol.tuned(judged, dense, budget) for name, budget in BUDGETS.items()}


def slope_of(rows, score, part):
    """Slope of the log odds of "in the window of an event" over the score, near the default threshold (0)."""
    inside, known = np.zeros(len(score), bool), np.zeros(len(score), bool)
    for i, run in enumerate(rows.runs):
        window = np.zeros(run.judged.steps, bool)
        for begin, _, end in run.judged.events:
            window[begin:end] = True
        inside[rows.slices[i]] = window[run.steps]
        known[rows.slices[i]] = ~run.lost & (window | run.judged.healthy)[run.steps]
    k = part.index[known[part.index]]
    model = LogisticRegression(C=1e3).fit(np.clip(score[k], -8, 8)[:, None], inside[k])
    return float(model.coef_[0, 0])


def parts_of(rows):
    """One Part for each of TABLES; `next` judges every row of the main variant."""
    out = []
    for i, name in enumerate(TABLES):
        if name == "next":
            out.append(Part(rows, rows.main, rows.main))
        else:
            out.append(Part(rows, rows.table == i, rows.main if name == "now" else np.ones(len(rows.main), bool)))
    return out


def judged_apart(rows, parts, folds):
    """Log odds of all rows by tables that did not see the row's fold, 0 where a table alone spends the default budget;
    and for each table how its raw scores become log odds: [(factor, offset)]."""
    total, scales = np.zeros(len(rows.table)), []
    for name, part in zip(TABLES[:3], parts):
        raw = np.full(len(rows.table), -np.inf)
        raw[part.index] = unseen(part, folds[part.index], INPUTS)
        limit = max(limits(rows, raw, v)["default"] for v in JUDGED[name])
        factor = slope_of(rows, raw - limit, part)
        total[part.index] = factor * (raw[part.index] - limit)
        scales.append((factor, -factor * limit))
    shift = max(0.0, limits(rows, total)["default"])  # what `now` and `blind` spend together on the main variant
    return total - np.where(rows.table == TABLES.index("gap"), 0.0, shift), [
        (f, o - (0.0 if name == "gap" else shift)) for name, (f, o) in zip(TABLES, scales)
    ]


class Table:
    """Step functions of a boosted model: per input the shares where absent, lowest, and above each edge."""

    def __init__(self, model, columns, factor, offset):
        self.base, self.terms = 0.0, {}
        steps = {}
        for (predictor,) in model._predictors:
            root = predictor.nodes[0]
            left, right = predictor.nodes[root["left"]]["value"], predictor.nodes[root["right"]]["value"]
            column = int(columns[root["feature_idx"]])
            edges, entry = steps.setdefault(column, ({}, [0.0, 0.0]))
            edge = float(root["num_threshold"])
            if np.isfinite(edge):  # else it tells what is absent from what is not
                edges[edge] = edges.get(edge, 0.0) + right - left
            entry[0] += left
            entry[1] += left if root["missing_go_to_left"] else right
        base = float(np.ravel(model._baseline_prediction)[0])
        for column, (edges, (low, absent)) in steps.items():
            base += low
            shares, share = [], 0.0
            for edge in sorted(edges):
                share += edges[edge]
                shares.append((edge, share * factor))
            self.terms[column] = ((absent - low) * factor, shares)
        self.base = base * factor + offset

    def log_odds(self, x):
        out = np.full(len(x), self.base)
        for column, (absent, shares) in self.terms.items():
            v = x[:, column]
            edges, values = np.array([e for e, _ in shares]), np.array([0.0] + [s for _, s in shares])
            out += np.where(np.isnan(v), absent, values[np.searchsorted(edges, v, side="left")])
        return out


def write(tables, levels):
    enums = {name: "LYAP_OBSERVABLE_" + enum for enum, name in observables()}
    used = sorted({c for t in tables for c in t.terms if c >= len(NAMES)})
    place = {c: len(NAMES) + i for i, c in enumerate(used)}
    out = ["/* Written by bench/detection/fit.py: the shares of the instability score. Included by score.c alone.",
           " * THREADS: constants. */", "#ifndef LYAP_SCORE_TABLE_H", "#define LYAP_SCORE_TABLE_H", "",
           "enum { SCORE_VERSION = %d };" % VERSION, "", "static const struct score_pair pairs[] = {"]
    for c in used:
        a, per_a, b, per_b = PAIRS[c - len(NAMES)]
        out.append("    { %s, %s, %.9g, %.9g }," % (enums[a], enums[b], np.float32(per_a), np.float32(per_b)))
    out += ["};", "", "static const struct score_bin bins[] = {"]
    at, terms = 0, []
    for table in tables:
        listed = []
        for c in sorted(table.terms):
            absent, shares = table.terms[c]
            out += ["    { %.9g, %.9g }," % pair for pair in shares]
            name = enums[NAMES[c]] if c < len(NAMES) else "LYAP_OBSERVABLE_COUNT + %d" % (place[c] - len(NAMES))
            listed.append("    { %s, %.9g, %d, %d }," % (name, absent, at, len(shares)))
            at += len(shares)
        terms.append(listed)
    out += ["};", ""]
    for name, listed in zip(TABLES + BARE + PROBED, terms):
        out += ["static const struct score_term %s_terms[] = {" % name] + listed + ["};", ""]
    out += ["static const struct score_model models[] = {",
            *("    [SCORE_%s] = { %.17g, %s_terms, sizeof %s_terms / sizeof *%s_terms }," % (n.upper(), table.base, n, n, n)
              for n, table in zip(TABLES + BARE + PROBED, tables)),
            "};", "", "#endif"]
    (ROOT / "lib/score_table.h").write_text("\n".join(out) + "\n")
    (ROOT / "lib/include/lyap/sensitivity.h").write_text(
        "/* Written by bench/detection/fit.py. Thresholds of instability_score at three sensitivities; their operating points\n"
        " * are in docs/detection.md. THREADS: constants. */\n#ifndef LYAP_SENSITIVITY_H\n#define LYAP_SENSITIVITY_H\n\n"
        + "".join("#define LYAP_SCORE_%-8s%.3f\n" % (n.upper(), levels[n]) for n in ("early", "default", "pager"))
        + "\n#endif\n")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("--write", action="store_true")
    p.add_argument("--left-out", action="store_true")
    p.add_argument("--observe", metavar="TOOL", default=str(ROOT / "build/bin/bench_observe"))
    a = p.parse_args()
    rows = Rows(load(a.directory, FIT, a.observe))
    parts = parts_of(rows)
    print("rows: " + ", ".join("%s %d, %d used" % (n, len(p.y), (p.w > 0).sum()) for n, p in zip(TABLES, parts)), flush=True)
    seeds = np.array([r.seed for r in rows.runs])[rows.run] % FOLDS
    score, scales = judged_apart(rows, parts, seeds)
    limit = limits(rows, score)
    for level, value in limit.items():
        records = report("%s, unseen seeds" % level, rows, score, value)
        if level == "default":
            by_family(records)
    for variant in FIT[1:]:
        report("default, %s" % variant, rows, score, 0.0, variant)
    coming = np.full(len(rows.table), -np.inf)
    coming[parts[-1].index] = unseen(parts[-1], seeds[parts[-1].index], COMING_INPUTS)
    alone = limits(rows, coming)["default"]
    report("coming update alone, default", rows, coming, alone)
    factor = slope_of(rows, coming - alone, parts[-1])
    scales.append((factor, -factor * alone))
    if a.left_out:
        families = sorted({r.family for r in rows.runs})
        order = np.random.RandomState(0).permutation(len(families)) % FAMILY_FOLDS
        folds = np.array([order[families.index(r.family)] for r in rows.runs])[rows.run]
        score, _ = judged_apart(rows, parts, folds)
        records = report("default, unseen families", rows, score, limits(rows, score)["default"])
        by_family(records)
        Path(a.directory, "lofo.json").write_text(json.dumps(protocol.families(records)) + "\n")
    levels = {n: sigmoid(0.0 if n == "default" else v) for n, v in limit.items()}
    print("thresholds", {n: round(float(v), 3) for n, v in levels.items()})
    if a.write:
        tables = [full(p, COMING_INPUTS if n == "next" else INPUTS, *s) for n, p, s in zip(TABLES, parts, scales)]
        some = [r for r in rows.runs if r.variant in FIT[:2]]
        for columns, name in ((LOSS_INPUTS, "loss"), (NORM_INPUTS, "norms")):
            tables.append(table_apart([bare(r, columns, name) for r in some], columns))
        write(tables + probe_tables(load(a.directory, PROBES, a.observe)), levels)
    return 0


def probe_tables(runs):
    """Those of PROBED. The norms may be missing where the tensors are."""
    loss = inputs_of(LOSS + TOLD)
    seen = [bare(r, columns, name) for r in runs for columns, name in ((loss, "loss"), (PROBE_LOSS_INPUTS, "norms"))]
    return [table_apart(runs, PROBE_INPUTS), table_apart(seen, PROBE_LOSS_INPUTS)]


def table_apart(runs, columns):
    """A table of its own for such runs, of which these inputs are known; its threshold spends the default budget of the worst of
    their variants."""
    rows = Rows(runs)
    every = np.ones(len(rows.main), bool)
    part = Part(rows, every, every)
    raw = unseen(part, np.array([r.seed for r in rows.runs])[rows.run] % FOLDS, columns)
    variants = sorted({r.variant for r in rows.runs})
    limit = max(limits(rows, raw, v)["default"] for v in variants)
    for variant in variants:
        report("apart, " + variant, rows, raw, limit, variant)
    factor = slope_of(rows, raw - limit, part)
    return full(part, columns, factor, -factor * limit)


def full(part, columns, factor, offset):
    """The table fitted on all runs."""
    model = fit(part, np.ones(len(part.y), bool), columns)
    table = Table(model, columns, factor, offset)
    x = part.x[:5000]
    error = np.abs(table.log_odds(x) - factor * model.decision_function(x[:, columns]) - offset).max()
    assert error < 1e-4, error
    return table


def by_family(records):
    print("   " + "  ".join(
        "%s %d/%d" % (f, sum(q["found"] for q in g), sum(q["events"] for q in g))
        for f, g in sorted(protocol.families(records).items()) if sum(q["events"] for q in g)))
    print("   false: " + " ".join("%s/%d:%d" % (q["family"], q["seed"], q["false"]) for q in records if q["false"]))


if __name__ == "__main__":
    sys.exit(main())
