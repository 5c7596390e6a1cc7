"""Both grades give the same point: tensors, and rows and sketches that NumPy makes of the same
tensors by docs/wire.md and docs/sketch.md, without any code of the daemon."""

import math
import unittest

import numpy

from service import Service
import lyapd

K = 4096
MASK = (1 << 64) - 1
LR = 0.05
STEPS = 40
# Functions of sketches: the two runs have different seeds. Everything else agrees to rounding.
SKETCHED = {"update_cosine": 0.15, "sharpness": 0.03, "sharpness_residual": None,
            "visited_curvature": 0.03, "stability_ratio": 0.03, "transition_rate": None,
            "dissipation_residual": 0.1, "dissipation_window": 0.1, "smoothness_residual": 0.1,
            "energy_bound": 0.1, "ritz_asymmetry": None, "curvature_min": None,
            "rate_at_lambda_min": None, "mode_energy_gain": None, "mode_energy_rate": None,
            # One client's estimate from below and bound from above, as the daemon has its own.
            "spectral_norm": 0.02, "spectral_residual": None, "spectral_norm_upper": None}


def mix64(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def fnv1a64(name):
    h = 0xCBF29CE484222325
    for c in name.encode("utf-8"):
        h = ((h ^ c) * 0x100000001B3) & MASK
    return h


def add_sketch(total, name, values, run_seed):
    seed = mix64(run_seed ^ fnv1a64(name))
    flat = numpy.asarray(values, numpy.float64).reshape(-1)
    for b in range(0, (flat.size + 63) // 64):
        h = mix64((seed + 0x9E3779B97F4A7C15 * (2 * b + 1)) & MASK)
        start = ((mix64((seed + 0x9E3779B97F4A7C15 * (2 * b + 2)) & MASK) >> 32) * K) >> 32
        for j, x in enumerate(flat[64 * b:64 * b + 64]):
            total[(start + j) % K] += x if (h >> j) & 1 else -x


def sketch_of(tensors, run_seed):
    total = numpy.zeros(K)
    for name, values in tensors.items():
        add_sketch(total, name, values, run_seed)
    return total


def moments(role, tensors):
    flat = [numpy.asarray(values, numpy.float64).reshape(-1) for values in tensors.values()]
    blocks = [[float(x[i:i + 64] @ x[i:i + 64]) for i in range(0, x.size, 64)] for x in flat]
    rows = {"count": [x.size for x in flat], "sq": [x @ x for x in flat],
            "abs": [abs(x).sum() for x in flat], "zeros": [(x == 0).sum() for x in flat],
            "nonfinite": [(~numpy.isfinite(x)).sum() for x in flat],
            "max": [abs(x).max() for x in flat], "block_sq": [max(b) for b in blocks]}
    return {role + "_" + name: numpy.array(row, numpy.float64) for name, row in rows.items()}


def dots(left, right):
    return numpy.array([float(numpy.vdot(left[name].astype(numpy.float64),
                                         right[name].astype(numpy.float64))) for name in left])


def minus(left, right):
    return {name: left[name].astype(numpy.float64) - right[name] for name in left}


class Network:
    """Two tanh layers on a fixed set, F32; minibatch gradients and those of one probe batch."""

    def __init__(self):
        rng = numpy.random.default_rng(3)
        self.rng = rng
        self.x = rng.normal(size=(256, 12))
        self.y = numpy.sin(self.x[:, :3]).sum(1, keepdims=True)
        self.theta = {"a.weight": rng.normal(size=(12, 20)).astype("f4") * numpy.float32(0.4),
                      "b.weight": rng.normal(size=(20, 1)).astype("f4") * numpy.float32(0.4),
                      "b.bias": numpy.zeros(1, "f4")}

    def gradient(self, pick, theta=None):
        theta = theta or self.theta
        hidden = numpy.tanh(self.x[pick] @ theta["a.weight"])
        error = hidden @ theta["b.weight"] + theta["b.bias"] - self.y[pick]
        back = error @ theta["b.weight"].T * (1 - hidden ** 2)
        n = len(error)
        return float((error ** 2).mean() / 2), {
            "a.weight": (self.x[pick].T @ back / n).astype("f4"),
            "b.weight": (hidden.T @ error / n).astype("f4"),
            "b.bias": (error.sum(0) / n).astype("f4")}


class Grades(unittest.TestCase):
    def setUp(self):
        self.daemon = Service()
        self.addCleanup(self.daemon.close)
        shapes = {name: values.shape for name, values in Network().theta.items()}
        self.runs = []
        for name in ("full", "partial"):
            run = lyapd.Run(self.daemon.url, name, optimizer={"type": "sgd", "lr": LR},
                            tensors=shapes, retention="exact")
            self.addCleanup(run.close)
            self.runs.append(run)

    def rows(self, now, before):
        """Every row that a full push of plain SGD gives, and the sketches."""
        theta, g = now["param"], now["grad"]
        seed = self.runs[1].sketch_seed
        p = {name: -LR * g[name].astype(numpy.float64) for name in g}
        reduce = dict(moments("param", theta), **moments("grad", g))
        reduce.update(grad_param=dots(g, theta), step_sq=dots(p, p), grad_step=dots(g, p),
                      step_p=dots(p, p), gain_sq=LR * LR * dots(g, g))
        counts = numpy.zeros((len(g), 64))  # every |dp/dg| is the rate
        counts[:, math.floor(math.log2(LR)) + 32] = [x.size for x in g.values()]
        reduce["gain_log2"] = counts
        norms = {name: numpy.linalg.norm(w, 2) if w.ndim == 2 else math.nan
                 for name, w in theta.items()}
        reduce["spectral_norm"] = numpy.array([norms[name] for name in theta])
        reduce["spectral_residual"] = numpy.array([0 * norms[name] for name in theta])
        reduce["spectral_upper"] = numpy.array([1.001 * norms[name] for name in theta])
        sketch = {"param": sketch_of(theta, seed), "grad": sketch_of(g, seed)}
        for role in ("probe_grad", "pair_s", "pair_y"):
            if role in now:
                sketch[role] = sketch_of(now[role], seed)
        if "probe_grad" in now:
            reduce.update(moments("probe_grad", now["probe_grad"]))
        if "pair_s" in now:
            s, y = now["pair_s"], now["pair_y"]
            reduce.update(pair_ss=dots(s, s), pair_sy=dots(s, y), pair_yy=dots(y, y),
                          pair_sps=dots(s, s), pair_ypy=dots(y, y))
        if before is not None:
            d, old = minus(theta, before["param"]), before["grad"]
            last = {name: -LR * old[name].astype(numpy.float64) for name in old}
            change = minus(g, old)
            reduce.update(moments("delta", d))
            reduce.update(grad_prev_delta=dots(old, d), grad_delta=dots(g, d),
                          grad_diff_sq=dots(change, change), grad_grad_prev=dots(g, old),
                          delta_p=dots(d, d), delta_p_prev=dots(d, d),
                          update_error_sq=dots(minus(d, last), minus(d, last)),
                          step_prev_sq=dots(last, last))
            if "probe_grad" in now:
                reduce["probe_delta"] = dots(now["probe_grad"], d)
            if "probe_grad" in before:
                reduce["probe_prev_delta"] = dots(before["probe_grad"], d)
                if "probe_grad" in now:
                    change = minus(now["probe_grad"], before["probe_grad"])
                    reduce["probe_diff_sq"] = dots(change, change)
        return reduce, sketch

    def close(self, name, full, partial):
        a, b = full.get("value"), partial.get("value")
        if a is None or b is None:
            return a is None and b is None and full.get("reason") == partial.get("reason")
        tolerance = SKETCHED.get(name, 1e-7)
        if tolerance is None:
            return True
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance if name in SKETCHED
                            else 1e-12)

    def test_same_points(self):
        network, before, compared, v = Network(), None, 0, None
        probe = numpy.arange(128)
        for step in range(STEPS):
            loss, g = network.gradient(network.rng.integers(0, 256, 32))
            now = {"param": network.theta, "grad": g}
            values = {"loss": loss, "lr": LR}
            if step % 5 < 2:
                values["probe_loss"], now["probe_grad"] = network.gradient(probe)
            if step % 5 == 0:
                v = self.pair(network, probe, now, v)
            full = self.runs[0].push(step, now["param"], now["grad"], **values, **{
                role: now[role] for role in ("probe_grad", "pair_s", "pair_y") if role in now})
            reduce, sketch = self.rows(now, before)
            partial = self.runs[1].push(step, reduce=reduce, sketch=sketch, delta_unit=2.0 ** -24,
                                        grad_unit=2.0 ** -24, **values)
            for name, metric in full["metrics"].items():
                self.assertTrue(self.close(name, metric, partial["metrics"][name]),
                                (step, name, metric, partial["metrics"][name]))
                compared += metric.get("value") is not None
            before = now
            network.theta = {name: network.theta[name] - numpy.float32(LR) * g[name] for name in g}
        print("%d metric values of both grades compared" % compared, flush=True)
        self.assertGreater(compared, 20 * STEPS)
        tensors = [{row["tensor"]: row for row in run.tensors()} for run in self.runs]
        self.assertEqual(sorted(tensors[0]), sorted(network.theta))

    def pair(self, network, probe, now, v):
        v = v or {name: values.astype(numpy.float64) for name, values in
                  now["probe_grad"].items()}
        size = math.sqrt(sum(dots(network.theta, network.theta)))
        length = 1e-4 * size / math.sqrt(sum(dots(v, v)))
        moved = {name: (network.theta[name] + length * v[name]).astype("f4") for name in v}
        now["pair_s"] = minus(moved, network.theta)
        now["pair_y"] = minus(network.gradient(probe, moved)[1], now["probe_grad"])
        return now["pair_y"]


if __name__ == "__main__":
    unittest.main()
