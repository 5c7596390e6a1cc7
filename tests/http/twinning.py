"""Trainings on quadratics whose perturbations have closed forms, with twins that are trained beside
them as docs/spec.md 2.5 says: real distances, renormalisation, QR of several."""
import math
import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np  # noqa: E402

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
import oracle  # noqa: E402


def unit(x):
    return np.asarray(x, float) / np.linalg.norm(x)


class State:
    """theta and momentum of one training."""

    def __init__(self, theta, m=None):
        self.theta, self.m = np.array(theta, float), np.zeros(len(theta)) if m is None else m.copy()

    def copy(self):
        return State(self.theta, self.m)

    def move(self, other, factor):
        """The difference to `other` (theta and m), times factor."""
        self.theta = other.theta + factor * (self.theta - other.theta)
        self.m = other.m + factor * (self.m - other.m)


class Training:
    """Gradient descent or heavy ball on 0.5 sum a_i w_i^2; `curvatures` and `lr` may be functions
    of the step: other batches, a schedule. `twins`: {name: direction}; `active` is left out of the
    QR of the others. `pair`: a direction, or a function of the step, along which a curvature pair
    of `probe` (the curvatures at hand when absent) is pushed."""

    def __init__(self, curvatures, lr, momentum=0.0, *, start=None, twins=None, pair=None,
                 probe=None, probe_grad=False, size=1e-6):
        self.curvatures = curvatures if callable(curvatures) else lambda t: curvatures
        self.rate = lr if callable(lr) else lambda t: lr
        count = len(self.curvatures(0))
        self.momentum, self.step, self.pair, self.size = momentum, 0, pair, size
        self.probe = None if probe is None else np.array(probe, float)
        self.probe_grad = probe_grad
        self.now = State(np.ones(count) if start is None else start)
        self.names, self.twins, self.logs = [], [], []
        for name, direction in (twins or {}).items():
            self.inject(name, direction)

    def inject(self, name, direction):
        twin = self.now.copy()
        twin.theta = twin.theta + self.size * unit(direction)
        self.names.append(name)
        self.twins.append(twin)
        self.logs.append(-math.log(self.distance(twin) / self.size))  # as rounded: y_0 = 0

    def distance(self, twin):
        return float(np.linalg.norm(twin.theta - self.now.theta))

    def random(self):
        return [i for i, name in enumerate(self.names) if name != "active"]

    def lengths(self):
        """Distances; of several random twins |R_jj|, so that they tell exponents apart."""
        lengths, random = [self.distance(twin) for twin in self.twins], self.random()
        if len(random) > 1:
            stacked = np.array([self.twins[i].theta - self.now.theta for i in random]).T
            for i, r in zip(random, np.abs(np.diag(np.linalg.qr(stacked)[1]))):
                lengths[i] = float(r)
        return lengths

    def twin_logs(self):
        return [log + (math.log(length / self.size) if length > 0 else -math.inf)
                for log, length in zip(self.logs, self.lengths())]

    def renormalise(self):
        random = self.random()
        if len(random) > 1 and self.step % 5 == 0:
            self.orthogonalise(random)
            return
        for i, twin in enumerate(self.twins):
            length = self.distance(twin)
            if not self.size / 100 <= length <= 100 * self.size and length > 0:
                twin.move(self.now, self.size / length)
                self.logs[i] += math.log(length / self.distance(twin))

    def orthogonalise(self, random):
        """Gram-Schmidt by theta, m goes with it; then all to the size of the injection."""
        for j, i in enumerate(random):
            twin = self.twins[i]
            for k in random[:j]:
                d, e = twin.theta - self.now.theta, self.twins[k].theta - self.now.theta
                weight = float(d @ e) / float(e @ e)
                twin.theta = twin.theta - weight * e
                twin.m = twin.m - weight * (self.twins[k].m - self.now.m)
        for i in random:
            length = self.distance(self.twins[i])
            self.twins[i].move(self.now, self.size / length)
            self.logs[i] += math.log(length / self.distance(self.twins[i]))

    def advance(self):
        a, lr = np.asarray(self.curvatures(self.step), float), self.rate(self.step)
        self.renormalise()
        for state in [self.now] + self.twins:
            g = a * state.theta
            state.m = self.momentum * state.m + g
            state.theta = state.theta - lr * (state.m if self.momentum else g)
        self.step += 1
        return self

    # ---- the push

    def arrays(self):
        a = np.asarray(self.curvatures(self.step), float)
        out = {"param/w": self.now.theta, "grad/w": a * self.now.theta}
        probe = a if self.probe is None else self.probe
        if self.probe_grad:
            out["probe_grad/w"] = probe * self.now.theta
        v = self.pair(self.step) if callable(self.pair) else self.pair
        if v is not None:
            s = 1e-4 * (np.linalg.norm(self.now.theta) or 1.0) * unit(v)
            out["pair_s/w"], out["pair_y/w"] = s, probe * s
        return out

    def scalars(self):
        a = np.asarray(self.curvatures(self.step), float)
        out = {"step": self.step, "loss": 0.5 * float(self.now.theta @ (a * self.now.theta)),
               "lr": self.rate(self.step)}
        if self.probe_grad:
            probe = a if self.probe is None else self.probe
            out["probe_loss"] = 0.5 * float(self.now.theta @ (probe * self.now.theta))
        if self.twins:
            out["twin_log"], out["twin_name"] = self.twin_logs(), ",".join(self.names)
        return out

    def document(self):
        """The JSON form."""
        out = self.scalars()
        if "twin_log" in out:
            out["twin_log"] = [number(y) for y in out["twin_log"]]
        out["tensors"] = {name: {"shape": [x.size], "data": x.tolist()}
                          for name, x in self.arrays().items()}
        return out

    def metadata(self):
        """Of the safetensors form."""
        out = {key: text(value) for key, value in self.scalars().items()}
        return out

    def tensors(self):
        return {name: ([x.size], x.tolist()) for name, x in self.arrays().items()}


def number(y):
    return y if math.isfinite(y) else "NaN" if math.isnan(y) else "Infinity" if y > 0 else "-Infinity"


def text(value):
    if isinstance(value, list):
        return ",".join(str(number(y)) for y in value)
    return str(value)


def tangent_logs(curvatures, lr, momentum, q, steps):
    """log|delta theta_t| of the exact linear map from (q, 0), t = 0 .. steps: state (theta, m) per
    coordinate, by powers of its 2 x 2 matrix."""
    curvatures, q = np.asarray(curvatures, float), unit(q)
    maps = [np.array([[1 - lr * a, -lr * momentum], [a, momentum]]) for a in curvatures]
    if not momentum:
        maps = [np.array([[1 - lr * a, 0.0], [0.0, 0.0]]) for a in curvatures]
    out = []
    for t in range(steps + 1):
        moved = [np.linalg.matrix_power(m, t)[0, 0] * x for m, x in zip(maps, q)]
        out.append(math.log(np.linalg.norm(moved)))
    return out
