"""What docs/spec.md says of a stream of snapshots, in NumPy float64 and as plainly as possible.
Nothing here knows how lyapd computes: vectors are whole, sums are NumPy's, windows are lists.
Formulas come from tests/oracle/oracle.py where it has them; the names are those of docs/metrics.md.
A value that must be absent is the reason it must have, a string."""
import math
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: threads only cost

import numpy as np  # noqa: E402

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
import oracle  # noqa: E402
import score  # noqa: E402
from detector import Detector  # noqa: E402

SCORES = score.Table()
SKETCH = 4096
MASK = (1 << 64) - 1
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
DEFAULTS = dict(momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0, beta1=0.9,
                beta2=0.999, eps=1e-8)
UNITS = {"F64": 2.0**-53, "F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}
FRESH_STEPS = 20  # an accepted curvature counts for so long (docs/detection.md)


# ---- the sketch of docs/sketch.md, vectorised
def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def tensor_seed(run_seed, name):
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = (h ^ c) * 0x100000001B3 & MASK
    return oracle.mix64(run_seed ^ h)


def sketch(tensors, run_seed, index=None):
    """Of {name: array}; `index` maps a name to the numbers its coordinates have in the whole
    tensor."""
    out = np.zeros(SKETCH)
    with np.errstate(over="ignore"):
        for name, array in tensors.items():
            x = np.ravel(array).astype(np.float64)
            i = np.arange(x.size) if index is None else np.ravel(index[name])
            seed, b = np.uint64(tensor_seed(run_seed, name)), (i // 64).astype(np.uint64)
            signs = mix(seed + GOLDEN * (np.uint64(2) * b + np.uint64(1)))
            place = mix(seed + GOLDEN * (np.uint64(2) * b + np.uint64(2))) >> np.uint64(32)
            start = (place * np.uint64(SKETCH)) >> np.uint64(32)
            j = (i % 64).astype(np.uint64)
            sign = np.where((signs >> j) & np.uint64(1), 1.0, -1.0)
            x = np.where(np.isfinite(x) & (np.abs(x) <= 2.0**480), x, 0.0)
            np.add.at(out, ((start + j) % np.uint64(SKETCH)).astype(np.int64), sign * x)
    return out


# ---- optimizers, as their frameworks define them
class Optimizer:
    """update(theta, g, lr) -> p; afterwards `p_matrix` is the P of SPEC 2.2 with unequal rates
    folded in, `v_hat` the second moment behind it. Constants may be arrays: one value per
    coordinate."""

    def __init__(self, kind, size, **constants):
        self.kind, self.c, self.t = kind, dict(DEFAULTS, **constants), 0
        self.m, self.v, self.v_hat = np.zeros(size), np.zeros(size), None
        self.has_state = True
        self.groups = None  # slices that are one group each, of group_l1

    def copy(self):
        twin = Optimizer(self.kind, self.m.size, **self.c)
        twin.t, twin.m, twin.v, twin.groups = self.t, self.m.copy(), self.v.copy(), self.groups
        return twin

    def effective(self, theta, g):
        """The gradient the rule uses: with coupled decay (SPEC 0.1)."""
        return g if self.kind in ("adamw", "lion") else g + self.c["weight_decay"] * theta

    def update(self, theta, g, lr):
        self.t += 1
        g = self.effective(theta, g)
        lr = np.broadcast_to(np.asarray(lr, float), theta.shape)
        p, precondition = getattr(self, "_" + self.kind)(theta, g, lr)
        self.p_matrix = precondition * np.divide(lr.max(), lr, out=np.ones_like(lr), where=lr > 0)
        return p

    def _sgd(self, theta, g, lr):
        beta = self.c["momentum"]
        if beta:
            self.m = g.copy() if self.t == 1 else beta * self.m + (1 - self.c["dampening"]) * g
            g = g + beta * self.m if self.c["nesterov"] else self.m
        return -lr * g, np.ones_like(theta)

    def _adam(self, theta, g, lr):
        b1, b2, eps = self.c["beta1"], self.c["beta2"], self.c["eps"]
        self.m, self.v = b1 * self.m + (1 - b1) * g, b2 * self.v + (1 - b2) * g * g
        self.v_hat = self.v / (1 - b2**self.t)
        root = np.sqrt(self.v_hat) + eps
        return -lr * self.m / (1 - b1**self.t) / root, (1 - b1**self.t) * root

    def _adamw(self, theta, g, lr):
        p, precondition = self._adam(theta, g, lr)
        return p - lr * self.c["weight_decay"] * theta, precondition

    def _rmsprop(self, theta, g, lr):
        alpha = self.c["beta2"]
        self.v = self.v_hat = alpha * self.v + (1 - alpha) * g * g
        root = np.sqrt(self.v) + self.c["eps"]
        step = g / root
        if self.c["momentum"]:
            self.m = step = self.c["momentum"] * self.m + step
        return -lr * step, root

    def _signsgd(self, theta, g, lr):
        return -lr * np.sign(g), np.ones_like(theta)

    def _lion(self, theta, g, lr):
        step = np.sign(self.c["beta1"] * self.m + (1 - self.c["beta1"]) * g)
        self.m = self.c["beta2"] * self.m + (1 - self.c["beta2"]) * g
        return -lr * (step + self.c["weight_decay"] * theta), np.ones_like(theta)

    def _proxgd(self, theta, g, lr):
        x, c, kind = theta - lr * g, self.c, self.c.get("prox", "l1")
        if kind == "l1":
            new = oracle.prox_l1(x, lr * c["lambda"])
        elif kind == "l2":
            new = x / (1 + lr * c["lambda"])
        elif kind == "elastic_net":
            new = oracle.prox_l1(x, lr * c["l1"]) / (1 + lr * c["l2"])
        else:
            new = np.empty_like(x)
            for cut in self.groups:
                norm = float(np.linalg.norm(x[cut]))
                new[cut] = max(1 - lr[cut][0] * c["lambda"] / norm, 0.0) * x[cut] if norm else 0.0
        return new - theta, np.ones_like(theta)

    def _projgd(self, theta, g, lr):
        x, c, kind = theta - lr * g, self.c, self.c.get("set", "box")
        if kind == "box":
            new = np.clip(x, c["low"], c["high"])
        elif kind == "ball":
            new = x * min(1.0, c["radius"] / float(np.linalg.norm(x)))
        else:  # by sorting (Duchi et al.)
            u = np.sort(x)[::-1]
            excess = (np.cumsum(u) - c["radius"]) / np.arange(1, u.size + 1)
            new = np.maximum(x - excess[np.nonzero(u > excess)[0][-1]], 0.0)
        return new - theta, np.ones_like(theta)

    def penalty(self, theta):
        """r(theta) of a proximal method; 0 for others."""
        if self.kind != "proxgd":
            return 0.0
        c, size, square = self.c, float(np.abs(theta).sum()), float(theta @ theta)
        norms = [float(np.linalg.norm(theta[cut])) for cut in self.groups or ()]
        return {"l1": lambda: c["lambda"] * size, "l2": lambda: c["lambda"] * square / 2,
                "group_l1": lambda: c["lambda"] * sum(norms),
                "elastic_net": lambda: c["l1"] * size + c["l2"] * square / 2}[c["prox"]]()


# ---- robust z of the update (docs/detection.md)
class RobustZ:
    def __init__(self):
        self.kept = []

    def push(self, norm):
        if not norm > 0:
            return None
        value, z = math.log(norm), None
        if len(self.kept) >= 10:
            middle = float(np.median(self.kept))
            mad = float(np.median(np.abs(np.array(self.kept) - middle)))
            z = min(max((value - middle) / max(1.4826 * mad, 0.1), -1e3), 1e3)
        self.kept = (self.kept + [value])[-50:]
        return z


ENERGIES = ("energy", "energy_change", "energy_bound", "energy_scale", "dissipation_residual",
            "smoothness_residual")


class LevelMonitor(oracle.LevelMonitor):
    """With the linear form of SPEC 3.6: a loss <= 0 starts it anew on L itself, with the margin
    max(3 scale, 4 MAD scales)."""

    def __init__(self, linear=False):
        super().__init__(margin=0.0 if linear else math.log(1.5))
        self.linear, self.kept = linear, []

    def push(self, loss):
        if loss <= 0 and not self.linear:
            self.__init__(linear=True)
        if not self.linear:
            return super().push(loss)
        out = None
        if self.ref is not None:
            if self.det is None and len(self.kept) >= self.burn:
                self.det = oracle.EDetector(1.4826 * float(np.median(np.abs(np.diff(self.kept)))))
            if self.det is not None:
                out = self.det.push(loss - self.ref - max(3 * self.det.scale, self.m))
        if self.det is None:
            self.kept.append(loss)
        self.acc.append(loss)
        if len(self.acc) == self.block:
            self.b, self.acc = (self.b + [float(np.mean(self.acc))])[-self.keep:], []
            self.ref = float(np.quantile(self.b, 0.25))
            v, x = np.array(self.b), np.arange(len(self.b)) - 0.5 * (len(self.b) - 1)
            e = v - v.mean() - x * (x @ v) / max(x @ x, 1.0)
            self.m = 4 * 1.4826 * float(np.median(np.abs(e)))
        return out

    def again(self):
        """After an alarm: linear stays linear for the rest of the attempt (docs/detection.md)."""
        return LevelMonitor(self.linear)


class Bound(tuple):
    """(low, high): a certified bound of which only this is known, the truth among it."""

    def holds(self, value):
        low, high = self
        slack = 1e-9 * max(abs(low), abs(high) if math.isfinite(high) else 0.0)
        return low - slack <= value <= high + slack


GROWTHS = ("DECAY", "BOUNDED", "INCONCLUSIVE", "SUBEXPONENTIAL", "GROWTH_UNRESOLVED", "EXPONENTIAL")


class Twins:
    """Fits of pushed log distances over the last 65 of them (SPEC 4.2, 4.3): the longest window of
    these tests."""

    METRICS = ("twin_log", "twin_log_2", "twin_log_3", "twin_log_4")

    def __init__(self):
        self.logs = {}

    def push(self, s, out, steps):
        for name, y in s.get("twins", {}).items():
            slot = list(self.logs).index(name) if name in self.logs else len(self.logs)
            self.logs.setdefault(name, []).append(y)
            out[self.METRICS[slot]] = y
        fits = {name: oracle.verdict(y[-65:]) for name, y in self.logs.items() if len(y) >= 65}
        if not fits:
            return
        codes = {name: self.code(fit) for name, fit in fits.items()}
        fastest = max(fits.values(), key=lambda fit: fit["rate"])
        out["twin_rate"] = fastest["rate"]
        out["twin_growth"] = max(fit["logM"] for fit in fits.values())
        others = [code for name, code in codes.items() if name != "active"]
        if others:
            out["window_verdict"] = float(max(others))
        if "active" in fits:
            out["twin_active_rate"] = fits["active"]["rate"]
            out["active_verdict"] = float(codes["active"])
        is_exponential = 5 in codes.values()
        out["sensitive_horizon"] = "no-horizon"
        if steps is not None:
            out["sensitive_horizon"] = fastest["rate"] * (steps - s["step"]) * is_exponential

    @staticmethod
    def code(fit):
        if fit["verdict"] == "GROWTH_UNRESOLVED" and fit["G"] > math.log(100):
            return 5
        return GROWTHS.index(fit["verdict"])


class Still:
    """Tensors that do not take part although others do (docs/detection.md)."""

    POINTS = 32

    def __init__(self, names):
        self.dead, self.stuck = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        self.looks, self.moves, self.lr_max, self.due = 0, 0, 0.0, {}

    def push(self, s, before, out, rows, cut, delta):
        """`delta`: D_{t-1} of a single update, or None."""
        grads, is_moving = cut(s["g"]), delta is None or bool(np.any(delta))
        if is_moving and any(g.any() for g in grads.values()):
            self.looks += 1
            for name, g in grads.items():
                self.dead[name] = 0 if g.any() else self.dead[name] + 1
        if delta is not None and np.any(delta) and any(self.due.values()):
            self.lr_max = max(self.lr_max, float(np.max(before["lr"])))
            if float(np.max(before["lr"])) >= 0.01 * self.lr_max:
                self.moves += 1
                for name, d in cut(delta).items():
                    is_stuck = self.due[name] and not d.any()
                    self.stuck[name] = self.stuck[name] + 1 if is_stuck else 0
        for metric, counts, looks in (("dead_tensors", self.dead, self.looks),
                                      ("stuck_tensors", self.stuck, self.moves)):
            if looks >= self.POINTS:
                out[metric] = float(sum(n >= self.POINTS for n in counts.values()))
        for name, row in rows.items():
            row["dead_points"] = self.dead[name]
            row["stuck_points"] = self.stuck[name] if "stuck_tensors" in out else None

    def expect(self, update):
        """Whom the coming update should move."""
        self.due = {name: bool(p.any()) for name, p in update.items()}


# ---- the monitor
class Reference:
    """push(snapshot) -> metrics of the point, {tensor: metrics of the tensor}. A snapshot is a dict
    with step, loss, lr (a number, or one per coordinate), theta, g (flat), and what else was
    pushed. `slices` cut the flat vector into tensors."""

    def __init__(self, slices, optimizer, seed, full_batch=False, unit="F64", shortest=64):
        self.slices, self.rule, self.seed = slices, optimizer, seed
        self.full_batch, self.unit = full_batch, UNITS.get(unit, 2.0**-53)
        self.detector, self.level = Detector(), LevelMonitor()
        self.z = {n: RobustZ() for n in slices}
        self.grad_z = {n: RobustZ() for n in slices}
        self.observer = score.Observer()
        self.before = self.last_delta = None
        self.pairs, self.accepted, self.window, self.best_probe = [], None, [], math.inf
        self.alarm = 0
        self.had_probe, self.old, self.shortest = False, None, shortest
        self.path, self.probes, self.growth = [], [], []
        self.least, self.decay, self.batches = None, None, []
        self.probe_losses, self.means, self.drift_log = [], [], None
        self.twins, self.still, self.gains = Twins(), Still(slices), {}
        self.steps = None  # declared number of steps

    def cut(self, vector):
        return {name: vector[s] for name, s in self.slices.items()}

    def push(self, s):
        out, rows = {}, {n: {} for n in self.slices}
        self._norms(s, out, rows)
        self._losses(s, out)
        if self.before is not None:
            self._difference(s, out, rows)
            self._growth(s, out)
        self._curvature(s, out, rows)
        self._unstable(out)
        self._drift(s, out)
        self._decay_metric(s)
        if self.before is not None:
            self._energy(s, out)
        self._anchor(s, out)
        self.twins.push(s, out, self.steps)
        self._layers(s, out, rows)
        delta = self.delta if self.before is not None else None
        self.still.push(s, self.before, out, rows, self.cut, delta)
        self._step(s, out, rows)
        self.still.expect(self.cut(self.predicted))
        self._score(out, self.before is not None and s["step"] != self.before["step"] + 1)
        self.before = s
        return out, rows

    def _layers(self, s, out, rows):
        """Bounds of the network that the model knows, and the gain of pushed activations."""
        out.update(s.get("bounds", {}))
        if "acts" not in s:
            return
        moved = {name: float(np.linalg.norm(s["acts"]["act_perturbed", name] - x))
                 for (role, name), x in s["acts"].items() if role == "act"}
        growths = []
        for name, tensor in s["layer_tensors"].items():
            gain, old = moved[name] / moved["input"], self.gains.get(name, [])
            rows[tensor]["empirical_gain"] = gain
            out["empirical_gain"] = gain  # of the last one
            growths += [gain / min(old)] if old else []
            self.gains[name] = (old + [gain])[-self.shortest:]
        if growths:
            out["empirical_gain_growth"] = max(growths)

    def _growth(self, s, out):
        """Growth of the update norms over 64 steps, the longest window of these tests (SPEC 2.4)."""
        rate = float(np.max(self.before["lr"]))
        if s["step"] == self.before["step"] + 1 and rate > 0 and out.get("update_norm", 0) > 0:
            self.growth = (self.growth + [math.log(out["update_norm"] / rate)])[-65:]
        if len(self.growth) == 65:
            out["update_growth"] = oracle.verdict(self.growth)["rate"]

    def _score(self, out, is_gap):
        seen = self.observer.push(out, is_gap)
        self.observer.close()
        for kind, name in (("now", "instability_score"), ("next", "instability_score_next")):
            value = SCORES.score(kind, seen)
            if not math.isnan(value):
                out[name] = value

    def _decay_metric(self, s):
        """wd/2 |theta|^2 in P_t and how much of it is of P_t - P_{t-1}; P without group rates."""
        self.drift = None
        if self.rule.kind != "adamw":
            return
        after, g = self.rule.copy(), s["g"]
        if s.get("clip_norm"):
            g = g * min(1.0, s["clip_norm"] / (float(np.linalg.norm(g)) + 1e-6))
        after.update(s["theta"], g, 1.0)
        half = 0.5 * self.rule.c["weight_decay"] * s["theta"] ** 2
        self.metric_after = float(np.sum(half * after.p_matrix))
        if self.before is not None:
            lr = np.broadcast_to(np.asarray(self.before["lr"], float), half.shape)
            last = self.p_before * lr / lr.max()
            self.drift = self.metric_after - float(np.sum(half * last))

    def _anchor(self, s, out):
        """|theta - thetabar|^2_P and its change by the identity of SPEC 3.5."""
        if "anchor" not in s:
            return
        if self.before is None:
            if self.rule.v_hat is None and self.rule.kind not in ("adam", "adamw", "rmsprop"):
                out["anchor_energy"] = float(np.sum((s["theta"] - s["anchor"]) ** 2))
            return
        away, p = s["theta"] - s["anchor"], self.p_before
        out["anchor_energy"] = float(away @ (p * away))
        was = away - self.delta
        out["anchor_energy_change"] = out["anchor_energy"] - float(was @ (p * was))

    def _drift(self, s, out):
        """Batch means of 16 changes of the probe's loss, the scale of the first 32 (SPEC 3.6)."""
        if "same_batch_grad" in s and "batch_sharpness" in out:
            self.batches = (self.batches + [out["batch_sharpness"]])[-32:]
        self._mean_square(out)
        if "probe_loss" not in s:
            out["energy_drift"] = out["drift_evidence"] = "insufficient-information"
            return
        self.probe_losses.append(s["probe_loss"])
        changes = np.diff(self.probe_losses)
        if len(changes) and len(changes) % 16 == 0:
            self.means.append(float(changes[-16:].mean()))
            if len(self.means) == 32:
                burn = np.array(self.means)
                self.drift_scale = 1.4826 * float(np.median(np.abs(burn - np.median(burn))))
                self.drift_detector = oracle.EDetector(1.0)
            elif len(self.means) > 32:
                self.drift_log = self.drift_detector.push(self.means[-1] / self.drift_scale)[1]
                if self.drift_log >= math.log(1e4):
                    self.drift_detector = oracle.EDetector(1.0)
        if len(self.means) >= 32:
            newest = np.array(self.means[-64:])
            out["energy_drift"] = float(newest.mean()) / self.drift_scale
        if self.drift_log is not None:
            out["drift_evidence"] = float(self.drift_log)

    def _mean_square(self, out):
        if self.rule.kind not in ("sgd",) or self.rule.c["momentum"]:
            out["mean_square_gain"] = "not-applicable"
        elif len(self.batches) >= 8:
            a = np.array(self.batches) + float(np.max(self.rule.c["weight_decay"]))
            out["mean_square_gain"] = oracle.ms_scalar(out["lr"], a.mean(), a.var())

    def restart(self, keep_sketches):
        """The daemon starts again: no predecessor; the windows of pairs come back after a clean
        stop alone."""
        self.before = self.last_delta = self.old = None
        if not keep_sketches:
            self.pairs, self.path = [], []

    def _norms(self, s, out, rows):
        out["loss"], out["param_norm"] = s["loss"], float(np.linalg.norm(s["theta"]))
        out["grad_norm"], out["lr"] = float(np.linalg.norm(s["g"])), float(np.max(s["lr"]))
        out["nonfinite_param"] = out["nonfinite_grad"] = 0.0
        theta, g = self.cut(s["theta"]), self.cut(s["g"])
        self._shares(s, out, theta, g)
        for name, row in rows.items():
            row["param_norm"] = float(np.linalg.norm(theta[name]))
            row["grad_norm"] = float(np.linalg.norm(g[name]))
            row["abs_max"] = float(np.abs(theta[name]).max())
            row["zero_fraction"] = float((g[name] == 0).mean())
            row["nonfinite_param"] = row["nonfinite_grad"] = 0.0
        if "half_diff_sq" in s:
            nu = s["half_diff_sq"] / 4
            out["noise_fraction"] = nu / (nu + out["grad_norm"] ** 2)

    def _shares(self, s, out, theta, g):
        """Of theta and g; those of D and the probe's gradient may be larger."""
        blocks = coordinates = 0.0
        for parts in (theta, g):
            whole = sum(float(x @ x) for x in parts.values())
            if not whole:
                continue
            most = max(float(np.add.reduceat(x * x, np.arange(0, len(x), 64)).max())
                       for x in parts.values())
            blocks = max(blocks, most / whole)
            coordinates = max(coordinates, max(float((x * x).max()) for x in parts.values()) / whole)
        out["block_share"] = Bound((blocks, 1.0))
        out["coordinate_share"] = Bound((coordinates, 1.0))

    def _losses(self, s, out):
        names = ("progress_scale", "loss_excess", "loss_spread", "loss_ratio", "loss_slope",
                 "loss_slope_t")
        out.update({n: float(v) for n, v in zip(names, self.detector.loss(s["loss"]))
                    if not math.isnan(v)})
        watched, self.alarm = s["loss"], max(self.alarm - 1, 0)
        if "probe_loss" in s:
            out["probe_loss"] = watched = s["probe_loss"]
            self.best_probe = min(self.best_probe, watched)
            out["probe_loss_ratio"] = watched / self.best_probe
            if not self.had_probe:
                self.level, self.had_probe = LevelMonitor(), True
        if "probe_loss" in s or not self.had_probe:
            evidence = self.level.push(watched)
            if evidence:
                out["loss_level_evidence"] = float(evidence[1])
                if evidence[1] >= math.log(1e4):
                    self.level, self.alarm = self.level.again(), 16

    # ---- what the last update did
    def _difference(self, s, out, rows):
        b = self.before
        d = self.delta = s["delta"] if "delta" in s else s["theta"] - b["theta"]
        g0, g1, dd = b["g"], s["g"], float(d @ d)
        dpd = float(d @ (self.p_before * d))
        norm, scale = math.sqrt(dd), out["progress_scale"]
        out["update_norm"], out["update_ratio"] = norm, norm / float(np.linalg.norm(b["theta"]))
        out["grad_cosine"] = float(g1 @ g0) / float(np.linalg.norm(g1) * np.linalg.norm(g0))
        out["curvature_along_step"] = oracle.kappa_grad(float(g0 @ d), float(g1 @ d), dd)
        out["update_norm_p"], out["secant_curvature"] = math.sqrt(dpd), float((g1 - g0) @ d) / dpd
        unit = 0.0 if "delta" in s else self.unit
        out["delta_precision"] = oracle.delta_noise_ratio(out["param_norm"], norm, unit)
        out["overshoot_work"] = float(g1 @ d) / scale
        out["net_work"] = float((g0 + g1) @ d) / 2 / scale
        out["net_work_sum"] = self.detector.work(out["net_work"])
        ema = self.detector.secant(out["secant_curvature"], dpd)
        self.curvature, self.edge = ema
        out["update_identity"] = float(np.linalg.norm(d - self.predicted)) / norm
        if "same_batch_grad" in s:
            out["batch_sharpness"] = float((s["same_batch_grad"] - g0) @ d) / dd
        sk = sketch(self.cut(d), self.seed)
        if self.last_delta is not None:
            norms = float(np.linalg.norm(sk) * np.linalg.norm(self.last_delta))
            out["update_cosine"] = float(sk @ self.last_delta) / norms
        self.last_delta = sk
        for name, cut in self.slices.items():
            row, dl = rows[name], d[cut]
            row["update_norm"] = float(np.linalg.norm(dl))
            was = float(np.linalg.norm(b["theta"][cut]))
            row["update_ratio"] = row["update_norm"] / was if was else None
            norms = float(np.linalg.norm(g1[cut])) * float(np.linalg.norm(g0[cut]))
            row["grad_cosine"] = float(g1[cut] @ g0[cut]) / norms if norms else None
        self._one_function(s, out, d)

    def function(self, s):
        """Loss and gradient before and after the update on one function: full batch, else the
        probe, else a batch id."""
        b = self.before
        same = s.get("batch_id") is not None and s.get("batch_id") == b.get("batch_id")
        if self.full_batch:
            return b["loss"], s["loss"], b["g"], s["g"], True
        if "probe_grad" in s and "probe_grad" in b and "probe_loss" in s:
            return b["probe_loss"], s["probe_loss"], b["probe_grad"], s["probe_grad"], False
        return (b["loss"], s["loss"], b["g"], s["g"], True) if same else None

    def penalties(self, s):
        return self.rule.penalty(self.before["theta"]), self.rule.penalty(s["theta"])

    def _one_function(self, s, out, d):
        found = self.function(s)
        if found is None:
            out["work_residual"] = out["inconsistency"] = out["curvature_of_loss"] = "different-batch"
            return
        l0, l1, g0, g1, _ = found
        work0, work1 = float(g0 @ d), float(g1 @ d)
        r0, r1 = self.penalties(s) if found[4] else (0.0, 0.0)  # the gradient is of f = F - r
        tau = oracle.trapezoid(l0 - r0, l1 - r1, work0, work1)[1]
        bent = oracle.kappa_grad(work0, work1,
                                 float(d @ (self.p_before * d))) * np.max(self.before["lr"])
        single = all(float(np.float32(x)) == x for x in (l0, l1))
        rounding = (2.0**-24 if single else 2.0**-53) * max(abs(l0), abs(l1))
        if 0.5 * (abs(work0) + abs(work1)) < 1e4 * rounding:
            out["work_residual"] = out["inconsistency"] = out["curvature_of_loss"] = "loss-precision"
            return
        out["work_residual"], out["inconsistency"] = tau, abs(tau) if bent < 0.1 else 0.0
        out["curvature_of_loss"] = oracle.kappa_loss(l0 - r0, l1 - r1, work0, float(d @ d))

    # ---- curvature (SPEC 2.2, 2.3; docs/detection.md)
    def _curvature(self, s, out, rows):
        found = None
        if "pair" in s:
            found = self._active(s, rows)
        elif not self.pairs and self.before is not None:
            found = self._passive(s)
        if found:
            value, residual, visited, least, asymmetry = found
            out["curvature_min"] = "no-accepted-curvature" if least is None else least
            out["ritz_asymmetry"] = "warming-up" if asymmetry is None else asymmetry
            if least is not None:
                self.least = (least, s["step"])
            out["visited_curvature"], out["sharpness_residual"] = visited, residual
            out["sharpness"] = "no-accepted-curvature" if value is None else value
            if value is not None:
                self.accepted = (value, s["step"])
        limit, fresh = self.limit(out["lr"]), self.fresh(s)
        shift = self._decay_curvature(s, out, fresh)
        if isinstance(limit, float):
            limit -= shift
            self._least_rate(s, out)
        out["stability_limit"] = limit
        if fresh is not None and isinstance(limit, float):
            out["stability_ratio"] = fresh / limit
            matrix = self.matrix(out["lr"], fresh + shift)
            out["transition_rate"] = math.log(oracle.spectral_radius(matrix))
            stable = out["transition_rate"] < 0
            rate, gain = oracle.energy_prediction(matrix) if stable else ("no-energy", "no-energy")
            out["mode_energy_rate"], out["mode_energy_gain"] = rate, gain
            self._crossing(out)
        elif not isinstance(limit, float):
            out["stability_ratio"] = out["transition_rate"] = limit
            out["mode_energy_rate"] = out["mode_energy_gain"] = out["rate_at_lambda_min"] = limit

    def _decay_curvature(self, s, out, fresh):
        """wd <s,s>/<s,Ps>: the Rayleigh quotient of wd P^-1, with coupled decay beside P^-1 H."""
        wd = self.rule.c["weight_decay"]
        if self.rule.kind not in ("adam", "rmsprop") or not np.any(wd):
            out["decay_curvature"] = "not-applicable"
            return 0.0
        if "pair" in s:
            a = s["pair"][0]
            self.decay = float(np.sum(wd * a * a)) / float(a @ (self.weight(s) * a))
        if self.decay is None or (fresh is None and "pair" not in s):
            return 0.0
        out["decay_curvature"] = self.decay
        return self.decay

    def _least_rate(self, s, out):
        if self.least is None or s["step"] - self.least[1] > FRESH_STEPS:
            return
        out["rate_at_lambda_min"] = "no-accepted-curvature"
        if self.least[0] < 0:
            matrix = self.matrix(out["lr"], self.least[0])
            out["rate_at_lambda_min"] = math.log(oracle.spectral_radius(matrix))

    def fresh(self, s):
        if self.accepted is None or s["step"] - self.accepted[1] > FRESH_STEPS:
            return None
        return self.accepted[0]

    def _active(self, s, rows):
        (a, b), weight = s["pair"], self.weight(s)
        ss, sy, yy = float(a @ (weight * a)), float(a @ b), float(b @ (b / weight))
        rho = visited = sy / ss
        residual = visited_residual = math.sqrt(max(yy / ss - rho * rho, 0.0))
        accepted = rho > 0 and residual <= 0.2 * rho
        for name, cut in self.slices.items():
            if accepted:
                rows[name]["curvature_share"] = float(a[cut] @ b[cut]) / sy
        least, asymmetry = rho if residual <= 0.2 * abs(rho) else None, None
        root = np.sqrt(weight)
        pair = sketch(self.cut(root * a), self.seed), sketch(self.cut(b / root), self.seed)
        self.pairs = (self.pairs + [pair])[-4:]
        if len(self.pairs) > 1:
            values, errors, asymmetry = self.ritz(self.pairs)
            shift = rho - float(pair[0] @ pair[1]) / float(pair[0] @ pair[0])
            low = [i for i in range(len(values)) if asymmetry <= 0.2 and
                   errors[i] <= 0.2 * abs(values[i])]
            if low:
                value = values[low[-1]] + (shift if low[-1] == 0 else 0.0)
                least = value if least is None else min(least, value)
            top, second = values[0] + shift, max(values[1] + shift, 0.0) if len(values) > 1 else 0.0
            if top > visited:
                visited, visited_residual = top, errors[0]
            if asymmetry <= 0.2 and values[0] > 0 and errors[0] <= 0.2 * values[0]:
                share = min(residual / (0.2 * rho), 1.0) if accepted else 1.0
                rho, residual = rho + share * (top - rho), residual + share * (errors[0] - residual)
                accepted = True
            if accepted:
                rho += residual**2 / max(rho - second, residual, 0.1 * rho)
        if not accepted:
            rho, residual = None, visited_residual
        return rho, residual, visited, least, asymmetry

    def weight(self, s):
        """P of SPEC 2.2 as of the push: the state that the optimizer holds, unequal rates folded
        in."""
        lr, rule = np.broadcast_to(np.asarray(s["lr"], float), s["theta"].shape), self.rule
        p = np.ones(s["theta"].shape)
        if rule.kind == "rmsprop":
            p = np.sqrt(rule.v) + rule.c["eps"]
        elif rule.kind in ("adam", "adamw"):
            b1, b2, t = rule.c["beta1"], rule.c["beta2"], max(rule.t, 1)
            p = (1 - b1**t) * (np.sqrt(rule.v / (1 - b2**t)) + rule.c["eps"])
        return p * lr.max() / lr

    def ritz(self, pairs):
        s, y = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
        values, errors, _, asymmetry = oracle.ritz(oracle.gram(s, s), oracle.gram(s, y),
                                                   oracle.gram(y, y), 1e-2)
        return values, errors, asymmetry

    def _passive(self, s):
        """Pairs of the path: the probe's gradients, or the full batch's, in the metric P_{t-1}."""
        b, probe = self.before, "probe_grad" in s and "probe_grad" in self.before
        name = "probe_grad" if probe else "g"
        if not (probe or self.full_batch):
            return None
        root = np.sqrt(self.p_before)
        self.path = (self.path + [(sketch(self.cut(root * self.delta), self.seed),
                                   sketch(self.cut((s[name] - b[name]) / root), self.seed))])[-8:]
        values, errors, asymmetry = self.ritz(self.path)
        small = [v for v, e in zip(values, errors) if asymmetry <= 0.2 and e <= 0.2 * abs(v)]
        more = values[0], small[-1] if small else None, asymmetry if len(self.path) > 1 else None
        for value, error in zip(values, errors):
            if asymmetry <= 0.2 and value > 0 and error <= 0.2 * value:
                return (value, error) + more
        return (None, errors[0]) + more

    def _crossing(self, out):
        ratio, lr = out["stability_ratio"], out["lr"]
        if len(self.probes) >= 3:
            newest = self.probes[-1]
            was_below = np.median([r for r, _ in self.probes]) < 0.95
            crossed = was_below and newest[0] <= 1.2 < ratio and lr > newest[1]
            out["limit_crossing"] = ratio if crossed else 0.0
        if isinstance(out.get("sharpness"), float):
            self.probes = (self.probes + [(ratio, lr)])[-5:]

    def _unstable(self, out):
        if len(self.probes) == 5:
            out["unstable_ratio"] = min(r for r, _ in self.probes) if self.alarm else 0.0

    # ---- energies (SPEC 3.0-3.5)
    def _energy(self, s, out):
        found = self.function(s)
        if found is None:
            out.update({n: "different-batch" for n in ENERGIES})
            return
        terms = self._terms(s, *found)
        out.update({n: v for n, v in terms.items() if v is not None})
        if "dissipation_residual" in out:
            self.window = (self.window + [[out["energy_change"], out["energy_bound"],
                                           out["energy_scale"]]])[-self.shortest:]
            if len(self.window) == self.shortest:
                out["dissipation_window"] = oracle.window_dissipation(*np.array(self.window).T)

    def _terms(self, s, l0, l1, g0, g1, descended):
        b, d, kind, c = self.before, self.delta, self.rule.kind, self.rule.c
        lr = float(np.max(b["lr"])) * (1 - c["dampening"])
        dd, dpd = float(d @ d), float(d @ (self.p_before * d))
        rho = self.fresh(s)
        ell = None if rho is None else 1.1 * rho
        method, beta = self.method()
        h1h2 = None
        has_energy = method not in (None, "nesterov") and not (kind == "rmsprop" and beta)
        if not descended or b.get("clipped") or not has_energy:
            r0, r1 = self.penalties(s) if descended else (0.0, 0.0)
            change, energy, scale = (l1 - r1) - (l0 - r0), l1 - r1, abs(float(g0 @ d))
            bound = None if ell is None else -float(g0 @ d) - 0.5 * ell * dpd
            out = {"sufficient_decrease": "not-applicable" if descended else "different-batch"}
            out["relative_error"] = out["sufficient_decrease"]
        else:
            wd = c["weight_decay"] if kind in ("sgd", "adam", "rmsprop") else 0.0
            decay = lambda x: 0.5 * float(np.sum(wd * x * x))  # noqa: E731
            f0, f1, spent = l0 + decay(b["theta"]), l1 + decay(s["theta"]), decay(d)
            if kind == "adamw" and self.drift is not None:
                # decoupled decay: an energy in the metric P, whose change is a drift (SPEC 3.4)
                f0, f1 = l0 + self.metric_energy, l1 + self.metric_after
                spent = 0.5 * float(np.sum(c["weight_decay"] * d * self.p_before * d)) + self.drift
            change, energy, scale, bound = self._declared(f0, f1, g0 + wd * b["theta"], g0, d, lr,
                                                          beta, ell)
            bound = None if bound is None else bound - spent
            plain = kind in ("proxgd", "projgd") or (method == "gd" and kind == "sgd"
                                                     and np.ptp(b["lr"]) == 0)
            out = {"sufficient_decrease": "not-applicable", "relative_error": "not-applicable"}
            if plain:
                f_g0, f_g1 = g0 + wd * b["theta"], g1 + wd * s["theta"]
                if kind == "sgd":
                    f_g0 = -d / lr  # r = 0: w is the gradient itself, whatever rounding did to D
                h1h2 = oracle.h1h2(f0, f1, f_g0, f_g1, d, lr)
                out = {"sufficient_decrease": h1h2[0], "relative_error": h1h2[1]}
        out["energy"] = energy
        if change is not None:
            out["energy_change"] = change
            if bound is not None:
                out.update(energy_bound=bound, energy_scale=scale)
                out["smoothness_residual"] = (change + bound) / scale
                out["dissipation_residual"] = oracle.dissipation_residual(change, bound, scale)
        return out

    def _declared(self, f0, f1, g_f, g0, d, lr, beta, ell):
        """dE, E, scale, c|D|^2 of the declared optimizer's energy."""
        kind, method = self.rule.kind, self.method()[0]
        dpd = float(d @ (self.p_before * d))
        ell_ = 0.0 if ell is None else ell
        if kind in ("proxgd", "projgd") or (method == "gd" and kind == "sgd"):
            scale = dpd / lr if kind != "sgd" else abs(float(g_f @ d))
            change, energy, bound = f1 - f0, f1, (1 / lr - ell_ / 2) * dpd
        elif method == "heavyball":
            energy, old = f1 + beta / (2 * lr) * dpd, self.old
            scale = lr * float(g0 @ g0)
            change = bound = None
            if old is not None:
                change = energy - f0 - beta / (2 * old["lr"]) * old["dpd"]
                r = oracle.r_heavyball(f0, f1, old["dpd"], dpd, lr, beta, ell_, float(g0 @ g0))
                bound = r * scale - change
                if old["lr"] != lr:  # the same proof with two rates
                    bound = (1 / lr - beta / 2 * (1 / old["lr"] + 1 / lr) - ell_ / 2) * dpd
        else:
            beta = self.rule.c["beta1"] if kind != "rmsprop" else 0.0
            energy, old = f1 + beta / (2 * (1 - beta) * lr) * dpd, self.old
            scale, change, bound = dpd / lr, None, None
            if old is None and beta == 0:
                old = {"lr": lr, "dpd": 0.0, "p": self.p_before}
            if old is not None:
                change = energy - f0 - beta / (2 * (1 - beta) * old["lr"]) * old["dpd"]
                with_old = float(d @ (old["p"] * d))
                r = oracle.r_adam(f0, f1, old["dpd"], dpd, with_old, old["lr"], lr, beta, ell_)
                bound = r * scale - change
        return change, energy, scale, None if ell is None else bound

    # ---- the coming update, and the windows it needs
    def _step(self, s, out, rows):
        g, lr = s["g"], s["lr"]
        if s.get("clip_norm") and out["grad_norm"] > s["clip_norm"]:
            g = g * (s["clip_norm"] / (out["grad_norm"] + 1e-6))  # torch.nn.utils.clip_grad_norm_
        was = self.rule.copy()
        p = self.rule.update(s["theta"], g, lr)
        self._gains(s, out, rows, was, g)
        scale, gp = out["progress_scale"], float(s["g"] @ p)
        out["predicted_decrease"] = -gp / scale
        if self.before is not None:
            quadratic = float(p @ (self.rule.p_matrix * p))
            out["predicted_change"] = (gp + self.curvature * quadratic / 2) / scale
            free = self.limit_free(out["lr"])
            out["edge_ratio"] = out["lr"] * self.edge / free if free else "no-linear-limit"
        if self.rule.v_hat is not None:
            used = self.rule.effective(s["theta"], g)
            ratio = used * used / np.maximum(self.rule.v_hat, self.rule.c["eps"] ** 2)
            for name, cut in self.slices.items():
                rows[name]["second_moment_ratio"] = math.sqrt(float(ratio[cut].mean()))
            out["second_moment_ratio"] = max(rows[n]["second_moment_ratio"] for n in rows)
        for name, cut in self.slices.items():
            rows[name]["update_z"] = self.z[name].push(float(np.linalg.norm(p[cut])))
            rows[name]["grad_z"] = self.grad_z[name].push(rows[name]["grad_norm"])
        for metric in ("update_z", "grad_z"):
            known = [row[metric] for row in rows.values() if row[metric] is not None]
            out[metric] = max(known) if known else "warming-up"
            out[metric + "_median"] = float(np.median(known)) if known else "warming-up"
        s["clipped"] = g is not s["g"]
        if self.before is not None:
            lr0 = float(np.max(self.before["lr"])) * (1 - self.rule.c["dampening"])
            self.old = {"lr": lr0, "dpd": float(self.delta @ (self.p_before * self.delta)),
                        "p": self.p_before}
        self.predicted, self.p_before = p, self.rule.p_matrix
        if self.rule.kind == "adamw":
            self.metric_energy = self.metric_after

    def _gains(self, s, out, rows, was, g):
        """SPEC 1.6 of the coming update; `was`: the rule before it, `g` as clipped."""
        kind, c = self.rule.kind, self.rule.c
        lr = np.broadcast_to(np.asarray(s["lr"], float), s["theta"].shape)
        clip = float(np.linalg.norm(g)) / float(np.linalg.norm(s["g"]))
        none = "not-applicable"
        out["flip_fraction"] = out["flip_bound"] = out["update_gain_total"] = none
        out["update_gain"] = out["update_gain_frozen"] = none
        frozen = gain = total = None
        if kind == "sgd":
            passed = 1 - c["dampening"] if c["momentum"] and was.t else 1.0
            gain = lr * clip * (passed if not c["nesterov"] else 1 + c["momentum"])
            total = lr * clip * (passed if not c["nesterov"] else 1.0) / (1 - c["momentum"])
        elif kind in ("proxgd", "projgd"):
            out["update_gain"] = out["update_gain_total"] = out["lr"] * clip
        elif self.rule.v_hat is not None:
            used = was.effective(s["theta"], g)
            b1 = c["beta1"] if kind != "rmsprop" else 0.0
            t = was.t + 1 if kind != "rmsprop" else math.inf
            gain, frozen = oracle.adam_gain(used, was.m if b1 else 0.0 * used, was.v, t, lr * clip,
                                            b1, c["beta2"], c["eps"])
        elif self.before is not None:
            flips = int(np.sum(self.direction(was, s, g) != self.last_direction))
            out["flip_fraction"] = flips / g.size
            out["flip_bound"] = 2 * out["lr"] * math.sqrt(flips)
        else:
            del out["flip_fraction"], out["flip_bound"]
        if kind in ("lion", "signsgd"):
            self.last_direction = self.direction(was, s, g)
        self._quantiles(out, gain)
        for name, value in (("update_gain", gain), ("update_gain_total", total),
                            ("update_gain_frozen", frozen)):
            if value is not None:
                out[name] = oracle.energy_weighted_gain(value, s["g"])
        for name, cut in self.slices.items():
            rows[name]["update_gain"] = None
            if gain is not None and s["g"][cut].any():
                rows[name]["update_gain"] = oracle.energy_weighted_gain(gain[cut], s["g"][cut])

    @staticmethod
    def _quantiles(out, gain):
        """From counts by powers of two, log-uniform inside a bin."""
        for name, q in (("update_gain_p50", 0.5), ("update_gain_p99", 0.99)):
            out[name] = out["update_gain"]
            if gain is None:
                continue
            bins = np.clip(np.floor(np.log2(np.maximum(np.abs(gain), 1e-300))), -32, 31)
            rank = q * (bins.size - 1)
            b = float(np.sort(bins)[int(rank)])
            share = (rank - float(np.sum(bins < b)) + 0.5) / float(np.sum(bins == b))
            out[name] = 2.0 ** (b + min(max(share, 0.0), 1.0))

    def direction(self, was, s, g):
        """Signs of the coming update of a sign method, decay apart."""
        if self.rule.kind == "signsgd":
            return np.sign(g)
        b1 = self.rule.c["beta1"]
        return np.sign(b1 * was.m + (1 - b1) * g)

    def method(self):
        c, kind = self.rule.c, self.rule.kind
        if kind in ("adam", "adamw"):
            return "adam", c["beta1"]
        if kind in ("sgd", "rmsprop") and c["momentum"]:
            return ("nesterov" if c["nesterov"] else "heavyball"), c["momentum"]
        return ("gd", 0.0) if kind in ("sgd", "rmsprop", "proxgd", "projgd") else (None, 0.0)

    def limit(self, lr, decay=True):
        """SPEC 2.6 at eta_ref; of groups the strictest; the coupled decay of a preconditioned
        method has no number."""
        method, beta = self.method()
        if method is None:
            return "no-linear-limit"
        is_counted = decay and self.rule.kind not in ("adam", "rmsprop")
        wd = float(np.max(self.rule.c["weight_decay"])) if is_counted else 0.0
        eta = lr * (1 - self.rule.c["dampening"]) if method == "heavyball" else lr
        return oracle.limit(method, eta, beta, wd)

    def limit_free(self, lr):
        limit = self.limit(lr, decay=False)
        return lr * limit if isinstance(limit, float) else None

    def matrix(self, lr, rho):
        """A_*() of SPEC 2.6 at the curvature rho, with the decay of the strictest group."""
        method, beta = self.method()
        is_counted = self.rule.kind not in ("adam", "rmsprop")
        wd = float(np.max(self.rule.c["weight_decay"])) if is_counted else 0.0
        if method == "gd":
            return oracle.A_gd(lr, rho, wd)
        if method == "adam":
            return oracle.A_adam(lr, beta, rho, wd)
        if method == "nesterov":
            return oracle.A_nesterov(lr, beta, rho, wd)
        return oracle.A_heavyball(lr * (1 - self.rule.c["dampening"]), beta, rho, wd)
