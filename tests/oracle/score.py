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
        out["oscillation"] = -get("update_cosine")
        out["level"] = get("loss_level_evidence")
        out["gap"] = float(is_gap)
        out["loss_sigmas"] = get("loss_excess") - 4 * get("loss_spread")
        self._loss(out, get("loss"), get("progress_scale"))
        self._work(out, get)
        self._relapse(out, get)
        self._records(out, get)
        self._growth(out, get)
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
        """Of the newest probe against those before it, for fifty points."""
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
        if self.probes and at - self.probes[-1][0] < 50:
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
        omegas = [v for v in [q.get("update_identity", math.nan) for q in self.points] + [get("update_identity")] if v == v]
        recent = finite(self.back("update_identity", 100)) + [get("update_identity")]
        out["mismatch"] = max(finite(recent) + omegas[-1:], default=math.nan)

    def close(self):
        """After push: the median that later points drift from."""
        self.points[-1]["median_20"] = self.median


class Table:
    """lib/score_table.h, read anew."""

    def __init__(self):
        names, text = observables(), (LIB / "score_table.h").read_text()
        block = lambda name: re.search(name + r"\[\] = \{(.*?)\n\};", text, re.S).group(1)  # noqa: E731
        number = r"([-+0-9.einf]+)"
        self.pairs = [
            (names[a], names[b], float(x), float(y))
            for a, b, x, y in re.findall(r"\{ LYAP_OBSERVABLE_(\w+), LYAP_OBSERVABLE_(\w+), %s, %s \}" % (number, number), block("pairs"))
        ]
        self.bins = [(float(x), float(y)) for x, y in re.findall(r"\{ %s, %s \}" % (number, number), block("bins"))]
        self.models = {}
        for kind in ("now", "gap", "blind", "next", "loss", "norms", "probe", "probe_loss"):
            base = float(re.search(r"\{ %s, %s_terms" % (number, kind), text).group(1))
            terms = re.findall(r"\{ LYAP_OBSERVABLE_(\w+)( \+ \d+)?, %s, (\d+), (\d+) \}" % number, block(kind + "_terms"))
            self.models[kind] = (base, [self._term(names, *t) for t in terms])

    def _term(self, names, name, place, absent, first, count):
        key = names[name] if name != "COUNT" else self.pairs[int(place[3:] or 0)]
        return key, float(absent), self.bins[int(first) : int(first) + int(count)]

    @staticmethod
    def value(key, seen):
        if isinstance(key, str):
            return seen.get(key, math.nan)
        a, b, x, y = key
        u, v = seen.get(a, math.nan) / x, seen.get(b, math.nan) / y
        return math.nan if math.isnan(u) or math.isnan(v) else min(u, v)

    def score(self, kind, seen):
        known = lambda names: any(not math.isnan(seen.get(n, math.nan)) for n in names.split())  # noqa: E731
        tensors = known("predicted_decrease overshoot_work grad_z")
        if kind == "now" and known("probe_relapse"):
            kind = "probe" if tensors else "probe_loss"
        elif kind == "now" and not tensors:
            kind = "norms" if known("grad_growth grad_rise param_step") else "loss"
        elif kind == "now" and seen.get("gap", 0) > 0:
            kind = "gap"
        elif kind == "now" and math.isnan(seen.get("predicted_decrease", math.nan)):
            kind = "blind"
        total, terms = self.models[kind]
        known = False
        for key, absent, bins in terms:
            v = self.value(key, seen)
            known = known or not math.isnan(v)
            total += absent if math.isnan(v) else next((s for edge, s in reversed(bins) if v > edge), 0.0)
        return 1 / (1 + math.exp(-total)) if known else math.nan
