"""The instability score of docs/detection.md once more, in NumPy on plain lists: what it looks at, from the columns of the points so
far, and the table of lib/score_table.h. Absent is NaN."""
import math
import re
from pathlib import Path

import numpy as np

LIB = Path(__file__).resolve().parents[2] / "lib"


def observables():
    text = (LIB / "include/lyap/observe.h").read_text().split("LYAP_OBSERVABLE_TABLE(X)")[1].split("enum lyap_observable")[0]
    return dict(re.findall(r'X\((\w+),\s*"(\w+)"', text))


def finite(values):
    return [v for v in values if math.isfinite(v)]


def log(x):
    return math.log(x) if x > 0 and math.isfinite(x) else math.nan


def least(values):
    return min(values) if values else math.nan


class Observer:
    """push(columns of a finite point) -> {name: value}"""

    COLUMNS = (
        "loss_excess loss_ratio loss_slope loss_slope_t overshoot_work net_work net_work_sum predicted_decrease predicted_change "
        "edge_ratio update_z update_z_median grad_z grad_z_median second_moment_ratio update_ratio"
    ).split()

    def __init__(self):
        self.points, self.probes, self.told = [], [], {}  # probes: (points before it, loss)

    def back(self, name, count):
        """Values of a column in the newest `count` points, oldest first, NaN before the first."""
        values = [p.get(name, math.nan) for p in self.points]
        return [math.nan] * max(0, count - len(values)) + values[len(values) - min(count, len(values)) :]

    def z(self, name, value, change, scaled=True):
        old = finite([change(v) for v in self.back(name, 50)])
        if len(old) < 10 or not math.isfinite(value):
            return math.nan
        middle = float(np.median(old))
        return (value - middle) / (max(1.4826 * float(np.median(np.abs(np.array(old) - middle))), 0.1) if scaled else 1.0)

    def push(self, point, is_gap=False):
        p = {k: v for k, v in point.items() if isinstance(v, float)}
        get = lambda name: p.get(name, math.nan)  # noqa: E731
        out = {name: get(name) for name in self.COLUMNS}
        for name, metric in (("curvature_along_step",) * 2, ("grad_cosine",) * 2, ("update_slope", "update_growth")):
            out[name] = get(metric)
        out["oscillation"] = -get("update_cosine")
        out["level"] = get("loss_level_evidence")
        out["gap"] = float(is_gap)
        out["tensors"] = 1.0 if not all(math.isnan(get("nonfinite_" + role)) for role in ("param", "grad")) else math.nan
        out["loss_sigmas"] = get("loss_excess") - 4 * get("loss_spread")
        self._loss(out, get("loss"), get("progress_scale"))
        self._work(out, get)
        self._relapse(out, get)
        self._records(out, get)
        self._growth(out, get)
        self._trends(out, get)
        self._probe(out, get("probe_loss"), get("progress_scale"))
        self.points.append(dict(p, **self.kept))
        return out

    def _loss(self, out, loss, scale):
        recent = finite(self.back("loss", 50))
        if len(recent) >= 6:
            high = float(np.quantile(recent, 0.9))
            out["loss_tail"] = (loss - high) / max(high - float(np.median(recent)), 0.02 * scale)
        old = finite(self.back("loss", 52)[:50])
        record = max(old) if len(old) >= 6 else math.nan
        before = self.back("loss", 1)[0]
        out["loss_record"] = (loss - record) / scale
        out["loss_twice"] = ((loss if loss < before else before) - record) / scale
        out["loss_z"] = self.z("loss", log(loss), log)
        short, slow = finite(self.back("loss", 4) + [loss]), finite(self.back("loss", 19) + [loss])
        base = least(finite([q.get("median_20", math.nan) for q in self.points]))
        if len(short) >= 5:
            out["drift"] = (float(np.median(short)) - base) / scale
        if len(self.points) >= 19 and len(slow) >= 5:
            self.median = float(np.median(slow))
            out["slow_drift"] = (self.median - base) / scale
        else:
            self.median = math.nan

    def _work(self, out, get):
        work, decrease = get("overshoot_work"), get("predicted_decrease")
        a3, a2, a1 = self.back("overshoot_work", 3)
        out["overshoot_sum"] = work + sum(finite([a1, a2]))
        old = finite(self.back("overshoot_work", 20))
        out["overshoot_record"] = work - max(old) if len(old) >= 5 else math.nan
        base = max(finite([a2, a3]), default=math.nan)
        out["overshoot_growth"] = work * min(max(work / max(base, 1e-9), 1), 10) if math.isfinite(base) else math.nan
        floored = lambda v: math.log(max(v, 1e-6)) if not math.isnan(v) else math.nan  # noqa: E731
        out["decrease_rise"] = self.z("predicted_decrease", floored(decrease), floored, scaled=False)
        if get("loss") > 0:
            out["reach"] = decrease * get("progress_scale") / get("loss")

    def _relapse(self, out, get):
        loss, x, scale, work = get("loss"), get("loss_excess"), get("progress_scale"), get("overshoot_work")
        mean = sum([*self.back("loss", 2), loss]) / 3
        out["relapse_mean"] = self.relapse(mean, loss - x * scale, x + (mean - loss) / scale)
        scaled = loss / scale if scale == scale else math.nan
        change = (loss - self.back("loss", 1)[0]) / scale
        out["relapse"] = self.relapse(loss, loss - x * scale, x)
        relapse, before = out["relapse"], self.back("relapse", 2)
        out["relapse_twice"] = min(relapse, before[1]) if relapse == relapse and before[1] == before[1] else math.nan
        out["relapse_median"] = float(np.median([*before, relapse]))
        noise = finite(self.back("change", 30))
        noise = float(np.median(noise)) if len(noise) >= 8 else math.nan
        out["excess_noise"] = float(np.median([*self.back("loss_excess", 2), x])) / (0.02 + noise)
        for n in (20, 40):
            out["rise_t_%d" % n] = self.rise_t(finite([*self.back("scaled", n - 1), scaled]), n)
        logs = finite([log(v) for v in self.back("loss", 20)])
        out["rebound"] = log(loss) - min(logs) if len(logs) >= 5 else math.nan
        unexplained = change - work
        out["unexplained_rise"] = sum(finite([*self.back("unexplained", 19), unexplained]))
        self.kept = {"relapse": relapse, "change": abs(change), "scaled": scaled, "unexplained": unexplained}

    @staticmethod
    def relapse(loss, least, x):
        out = x
        if least > 0 and loss > 0:
            for factor, excess in ((3, 0.2), (10, 0.06)):
                out = max(out, min(max(log(loss / least) / log(factor), 0), max(x, 0) / excess))
        return out

    def _probe(self, out, loss, progress):
        """Of the newest probe against those before it, for twenty points."""
        at, losses = len(self.points), [v for _, v in self.probes]
        if math.isfinite(loss) and losses:
            least = min(float(np.median(losses[max(0, i - 2) : i + 1])) for i in range(len(losses)))
            first = float(np.median(losses[:3]))
            scale = max(0.5 * (first - least), 0.1 * abs(first), 1e-12, *finite([progress]))
            of = lambda v: self.relapse(v, least, (v - least) / scale)  # noqa: E731
            rise = loss - next((v for t, v in reversed(self.probes[-20:]) if at - t >= 2), math.nan)
            before = self.told.get("probe_relapse", math.nan)
            self.told = {
                "probe_relapse": of(loss), "probe_relapse_twice": min(of(loss), before) if before == before else math.nan,
                "probe_rise": rise / scale, "probe_forecast": of(loss + rise),
                "probe_record": (loss - max(losses[-10:])) / scale if len(losses) >= 4 else math.nan,
                "probe_rebound": log(loss) - log(min(losses[-20:])) if len(losses) >= 5 else math.nan,
            }
        if math.isfinite(loss):
            self.probes.append((at, loss))
        if self.probes and at - self.probes[-1][0] < 20:
            out.update(self.told)

    @staticmethod
    def rise_t(values, length):
        if 4 * len(values) < 3 * length:
            return math.nan
        t = np.arange(len(values)) - (len(values) - 1) / 2
        slope = float(t @ values / (t @ t))
        rest = np.array(values) - np.mean(values) - slope * t
        error = math.sqrt(float(rest @ rest) / max(len(values) - 2, 1) / float(t @ t))
        return slope / (error + 1e-12 + abs(slope) / 1000)

    def record(self, name, value, count, needed):
        old = finite(self.back(name, count))
        return value - max(old) if len(old) >= needed else math.nan

    def _records(self, out, get):
        work, decrease, change = get("overshoot_work"), get("predicted_decrease"), get("predicted_change")
        old = finite(self.back("overshoot_work", 50))
        if len(old) >= 10:
            middle = float(np.median(old))
            spread = 1.4826 * float(np.median(np.abs(np.array(old) - middle)))
            out["overshoot_mads"] = (work - middle) / max(spread, 0.003)
        if get("loss") > 0:
            out["overshoot_reach"] = work * get("progress_scale") / get("loss")
        for name, column, count in (
            ("overshoot_peak", "overshoot_work", 5), ("net_peak", "net_work", 20), ("decrease_peak", "predicted_decrease", 20),
        ):
            out[name] = max(finite([*self.back(column, count - 1), get(column)]), default=math.nan)
        out["decrease_record"] = self.record("predicted_decrease", decrease, 50, 5)
        promised = decrease - out["decrease_record"]
        if promised == promised:
            out["decrease_jump"] = math.log(max(decrease, 1e-6)) - math.log(max(promised, 1e-6))
        out["decrease_sigmas"] = decrease / (0.03 + get("loss_spread"))
        out["change_sigmas"] = change / (0.03 + get("loss_spread"))
        if decrease == decrease:
            out["change_share"] = change / max(decrease, 0.001)
        self.kept["reach"] = out.get("reach", math.nan)
        out["reach_record"] = self.record("reach", self.kept["reach"], 50, 6)
        out["edge_record"] = self.record("edge_ratio", get("edge_ratio"), 50, 5)

    def median_log(self, name, count, needed):
        old = finite([log(v) for v in self.back(name, count)])
        return float(np.median(old)) if len(old) >= needed else math.nan

    def _growth(self, out, get):
        grad, before = log(get("grad_norm")), [log(v) for v in self.back("grad_norm", 3)]
        rises = [grad - before[1], before[2] - before[0]]
        out["grad_run"] = min(rises) if all(v == v for v in rises) else math.nan
        out["grad_rise"] = grad - self.median_log("grad_norm", 100, 20)
        out["update_ratio_rise"] = log(get("update_ratio")) - self.median_log("update_ratio", 100, 20)
        out["rate_jump"] = log(get("lr")) - self.median_log("lr", 20, 3)
        out["param_step"] = log(get("param_norm")) - log(self.back("param_norm", 1)[0])
        out["grad_growth"] = log(get("grad_norm")) - log(self.back("grad_norm", 10)[0])
        out["param_growth"] = log(get("param_norm")) - log(self.back("param_norm", 10)[0])
        norms, rates = self.back("update_norm", 5) + [get("update_norm")], self.back("lr", 6)
        moves = [log(n / r) if r > 0 else math.nan for n, r in zip(norms, rates)]
        out["update_growth"] = moves[-1] - moves[0]

    LOGS = {"rate": "lr", "grad": "grad_norm", "param": "param_norm", "update": "update_norm", "loss": "loss",
            "decrease": "predicted_decrease"}
    RISES = {"rate": (1, 5, 20, 50), "update": (3, 6, 20, 50), "param": (5, 20, 50), "grad": (6,), "decrease": (6,)}
    RUNS = {"loss": ((5, 1), (5, 2)), "grad": ((3, 1), (5, 1), (5, 2)), "update": ((5, 1),)}
    SHIFTS = {"loss": ((30, 30), (30, 60)), "grad": ((10, 20), (30, 30), (30, 60)), "update": ((30, 30), (30, 60))}

    def _trends(self, out, get):
        past = lambda column, n: np.array([*self.back(column, n), get(column)])  # noqa: E731
        logs = {k: np.array([log(v) for v in past(c, 99)]) for k, c in self.LOGS.items()}
        for k, lags in self.RISES.items():
            for n in lags:
                out["%s_rise_%d" % (k, n)] = logs[k][-1] - logs[k][-1 - n]
        for k, shapes in self.RUNS.items():
            for n, lag in shapes:
                name = "%s_run_%d" % (k, n) + ("_%d" % lag if lag > 1 else "")
                out[name] = float((logs[k][-n:] - logs[k][-n - lag : -lag]).min())
        for k, shapes in self.SHIFTS.items():
            for n, lag in shapes:
                name = "%s_shift_%d" % (k, lag)
                out[name] = self.middle(logs[k][-n:]) - self.middle(logs[k][-n - lag : -lag])
        out["rate_above"] = logs["rate"][-1] - self.middle(logs["rate"][-50:])
        losses, scale = past("loss", 99), get("progress_scale")
        for n in (20, 50):
            works = past("overshoot_work", n - 1)
            out["overshoot_sum_%d" % n] = sum(finite(works)) if len(self.points) >= n else math.nan
            rise = self.middle(losses[-10:]) - self.middle(losses[-10 - n : -n])
            out["unexplained_%d" % n] = rise / scale - out["overshoot_sum_%d" % n]
        out["excess_least_3"] = float(past("loss_excess", 2).min())
        out["excess_least_5"] = float(past("loss_excess", 4).min())
        out["net_least_3"] = float(past("net_work", 2).min())
        curvature = get("secant_curvature") * get("lr")
        out["path_curvature"] = math.log(max(curvature, 1e-12)) if curvature == curvature else math.nan

    @staticmethod
    def middle(values):
        known = finite(values)
        return float(np.median(known)) if len(known) >= max(3, len(values) // 3) else math.nan

    def close(self):
        """After push: the median that later points drift from."""
        self.points[-1]["median_20"] = self.median


class Table:
    """lib/score_table.h, read anew."""

    def __init__(self):
        names, text = observables(), (LIB / "score_table.h").read_text()
        block = lambda name: re.search(name + r"\[\] = \{(.*?)\n\};", text, re.S).group(1)  # noqa: E731
        number = r"([-+0-9.eINFTY]+)"
        self.names, self.models, self.asked = list(names.values()), {}, {}
        self.nodes = [
            (int(o), int(absent), int(skip), float(np.float32(edge.replace("INFINITY", "inf"))), float(np.float32(share)))
            for o, absent, skip, edge, share in re.findall(r"\{ (\d+), (\d+), (\d+), %sf?, %sf? \}" % (number, number), block("nodes"))
        ]
        for kind in ("now", "gap", "blind", "next", "loss", "norms", "probe", "probe_loss"):
            base = float(re.search(r"= \{ %s, %s_roots" % (number, kind), text).group(1))
            self.models[kind] = (base, [int(r) for r in re.findall(r"\d+", block(kind + "_roots"))])

    def tree(self, at, seen):
        """Changes of the log odds on the way down, without the root's."""
        observable, absent, skip, edge, _ = self.nodes[at]
        if not skip:
            return 0.0
        value = seen.get(self.names[observable], math.nan)
        at += skip if (absent if math.isnan(value) else value > edge) else 1
        return self.nodes[at][4] + self.tree(at, seen)

    def score(self, kind, seen):
        known = lambda names: any(not math.isnan(seen.get(n, math.nan)) for n in names.split())  # noqa: E731
        tensors, norms = known("tensors"), known("grad_growth grad_rise param_step")
        if kind == "next":
            kind = kind if known("predicted_decrease update_z second_moment_ratio") else None
        elif known("probe_relapse"):
            kind = "probe" if tensors else "probe_loss"
        elif not norms and not known("loss_excess loss_ratio level predicted_decrease overshoot_work grad_z"):
            kind = None
        elif not tensors:
            kind = "norms" if norms else "loss"
        elif seen.get("gap", 0) > 0:
            kind = "gap"
        elif math.isnan(seen.get("predicted_decrease", math.nan)):
            kind = "blind"
        if kind is None:
            return math.nan
        self.asked[kind] = self.asked.get(kind, 0) + 1
        base, roots = self.models[kind]
        return 1 / (1 + math.exp(-base - sum(self.tree(r, seen) for r in roots)))
