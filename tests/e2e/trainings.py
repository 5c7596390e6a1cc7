"""Small trainings in NumPy whose every number is known, and how they are pushed."""
import copy

import numpy as np
from reference import SKETCH, Bound, Optimizer, oracle, sketch

DTYPES = {"F64": "<f8", "F32": "<f4"}


class Network:
    """The golden network of tests/oracle/oracle.py on rows of its data set."""

    rows = 24

    def __init__(self):
        self.net = oracle.GoldenNet()
        self.theta, self.shapes = self.net.th0, {"fc1.weight": (10, 6), "fc1.bias": (10,),
                                                 "fc2.weight": (3, 10), "fc2.bias": (3,)}

    def at(self, theta, rows=None):
        net = self.net
        if rows is not None:
            net = copy.copy(net)
            net.X, net.T = self.net.X[rows], self.net.T[rows]
        return net.loss_grad(theta)

    def hessian(self, theta):
        return self.net.hessian(theta)


class Bowl:
    """0.5 (x - c)'H(x - c) with the eigenvalues 90 .. 0.5, in two tensors of 40 x 5 and 20."""

    def __init__(self, size=220):
        r = oracle.SplitMix64(77)
        q, _ = np.linalg.qr(r.normals(size, size))
        self.h = q * np.concatenate([[90.0, 30.0], np.linspace(0.5, 10, size - 2)]) @ q.T
        self.centre, self.theta = r.normals(size), r.normals(size)
        self.shapes = {"a": (40, 5), "b": (20,)}

    def at(self, theta, rows=None):
        g = self.h @ (theta - self.centre)
        return 0.5 * float((theta - self.centre) @ g), g

    def hessian(self, theta):
        return self.h


class Wide:
    """A separable bowl of many coordinates: enough for sketches to collide."""

    def __init__(self):
        random = np.random.default_rng(8)
        self.shapes = {"a": (100, 150), "b": (5000,), "c": (70,)}
        self.theta, self.h = random.normal(size=20070), random.uniform(0.1, 20, 20070)

    def at(self, theta, rows=None):
        return 0.5 * float(theta @ (self.h * theta)), self.h * theta


class Idle:
    """A slope on which one tensor has no part, and another whose updates are below the precision of
    F32: 1e4 - 5e-7."""

    def __init__(self):
        self.shapes = {"live": (6,), "dead": (4,), "large": (5,)}
        self.g = np.concatenate([np.ones(6), np.zeros(4), np.full(5, 1e-5)])
        self.theta = np.concatenate([np.full(6, 9.0), np.ones(4), np.full(5, 1e4)])

    def at(self, theta, rows=None):
        return float(self.g @ theta), self.g


class Layered(Network):
    """The golden network as its layers are declared, with activations and gates of eight inputs."""

    layers = [{"name": "fc1", "kind": "linear", "tensor": "fc1.weight", "bias": "fc1.bias",
               "activation": "tanh"},
              {"name": "fc2", "kind": "linear", "tensor": "fc2.weight", "bias": "fc2.bias"}]
    layer_tensors = {"fc1": "fc1.weight", "fc2": "fc2.weight"}
    def __init__(self):
        super().__init__()
        self.x = self.net.X[:8]
        self.moved = self.x + 1e-3 * np.random.default_rng(2).normal(size=self.x.shape)

    def forward(self, theta, x):
        w1, b1, w2, b2 = self.net.split(theta)
        hidden = np.tanh(x @ w1.T + b1)
        return {"input": x, "fc1": hidden, "fc2": hidden @ w2.T + b2}

    def activations(self, theta):
        plain, moved = self.forward(theta, self.x), self.forward(theta, self.moved)
        acts = {("act", name): x for name, x in plain.items()}
        acts.update({("act_perturbed", name): x for name, x in moved.items()})
        acts["gate", "fc1"] = 1 - plain["fc1"] ** 2
        return acts

    def bounds(self, theta):
        """forward_bound is at least the product of the exact sigmas and at most that of Frobenius
        norms, the cheapest bound; forward_bound_local at least that at the worst pushed gates."""
        w1, _, w2, _ = self.net.split(theta)
        sigma, head = np.linalg.norm(w1, 2), np.linalg.norm(w2, 2)
        most = float(np.log(np.linalg.norm(w1) * np.linalg.norm(w2)))
        gates = 1 - self.forward(theta, self.x)["fc1"] ** 2
        local = max(np.linalg.norm(gate[:, None] * w1, 2) for gate in gates)
        whole = float(np.log(sigma * head))
        return {"forward_bound": Bound((whole, most)),
                "forward_bound_local": Bound((float(np.log(local * head)), most)),
                "residual_gain": "no-residual-block", "cfl_margin": "no-residual-block"}


class Residual:
    """x -> x - h W' tanh(W x), then a linear head; mean of 0.5 |out - t|^2 over 24 samples."""

    h = 0.3
    layers = [{"name": "block", "kind": "residual", "structure": "symmetric", "tensor": "block",
               "activation": "tanh", "step": 0.3},
              {"name": "head", "kind": "linear", "tensor": "head"}]
    layer_tensors = {"block": "block", "head": "head"}

    def __init__(self):
        random = np.random.default_rng(6)
        self.shapes = {"block": (7, 5), "head": (3, 5)}
        self.x, self.t = random.normal(size=(24, 5)), random.normal(size=(24, 3))
        self.theta = np.concatenate([random.normal(size=35), 0.5 * random.normal(size=15)])
        self.moved = self.x + 1e-3 * random.normal(size=self.x.shape)

    def forward(self, theta, x):
        w, v = theta[:35].reshape(7, 5), theta[35:].reshape(3, 5)
        inner = x - self.h * np.tanh(x @ w.T) @ w
        return {"input": x, "block": inner, "head": inner @ v.T}

    def at(self, theta, rows=None):
        w, v = theta[:35].reshape(7, 5), theta[35:].reshape(3, 5)
        phi = np.tanh(self.x @ w.T)
        y = self.x - self.h * phi @ w
        e = (y @ v.T - self.t) / len(self.x)
        back = e @ v  # dL/dy
        slope = (1 - phi**2) * (back @ w.T)
        grad_w = -self.h * (phi.T @ back + slope.T @ self.x)
        return 0.5 * float((e * e).sum()) * len(self.x), np.concatenate([grad_w.ravel(),
                                                                        (e.T @ y).ravel()])

    def activations(self, theta):
        acts = {("act", name): x for name, x in self.forward(theta, self.x).items()}
        acts.update({("act_perturbed", name): x
                     for name, x in self.forward(theta, self.moved).items()})
        return acts

    def bounds(self, theta):
        """J = -W' D W with 0 <= D <= 1 (SPEC 1.4): gain max(1, h sigma^2 - 1), cfl 2 / (h sigma^2),
        with a sigma between the exact one and the Frobenius norm."""
        w, v = theta[:35].reshape(7, 5), theta[35:].reshape(3, 5)
        squares = [float(np.linalg.norm(w, kind)) ** 2 for kind in (2, "fro")]
        low, high = (max(1.0, self.h * square - 1) for square in squares)
        bounds = [float(np.log(gain * np.linalg.norm(v, kind)))
                  for gain, kind in ((low, 2), (high, "fro"))]
        return {"residual_gain": Bound((low, high)), "forward_bound": Bound(bounds),
                "forward_bound_local": Bound(bounds),
                "cfl_margin": Bound(sorted(2 / (self.h * square) for square in squares))}


class Objective:
    """A network with what makes it non-smooth in the loss alone; the gradient is of the smooth
    part. `rule`: the Optimizer whose r or set it is; the start is a point of the set."""

    def __init__(self, kind, constants):
        self.net = Network()
        self.shapes, size = self.net.shapes, self.net.theta.size
        self.rule = Optimizer(kind, size, **constants)
        self.rule.groups = list(slices_of(self.shapes).values())
        self.theta = self.net.theta
        if kind == "projgd":
            self.theta = self.theta + self.rule.update(self.theta, np.zeros(size), 1.0)

    def at(self, theta, rows=None):
        loss, g = self.net.at(theta, rows)
        return loss + self.rule.penalty(theta), g

    def hessian(self, theta):
        return self.net.hessian(theta)


def slices_of(shapes):
    out, start = {}, 0
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        out[name] = slice(start, start + count)
        start += count
    return out


class Job:
    """Trains `model` and yields, for every step, the snapshot as docs/wire.md wants it (flat
    vectors). `batch` rows a step (0: full); `probe_every`: an active pair by power iteration on the
    probe rows; `dtype`: in which the parameters live."""

    def __init__(self, model, optimizer, lr, *, batch=0, probe_every=0, probe=False, dtype="F64",
                 extras=(), clip=None):
        self.model, self.rule, self.lr, self.batch = model, optimizer, lr, batch
        self.dtype = DTYPES[dtype]
        self.theta = self.store(model.theta)
        self.slices = slices_of(model.shapes)
        self.probe_every, self.probe, self.extras, self.clip = probe_every, probe, extras, clip
        self.rows, self.random, self.t = None, np.random.default_rng(5), 0
        self.direction = oracle.SplitMix64(3).normals(self.theta.size)
        self.last_rows = self.delta = None
        self.anchor = self.store(oracle.SplitMix64(9).normals(self.theta.size))
        self.twins = {}
        if "twins" in extras:
            for i, name in enumerate(("random", "active", "third", "fourth")):
                self.inject(name, oracle.SplitMix64(20 + i).normals(self.theta.size))
        if optimizer.kind == "proxgd":
            optimizer.groups = list(self.slices.values())

    def store(self, x):
        return np.asarray(x).astype(self.dtype).astype(np.float64)

    def inject(self, name, direction):
        """A twin: theta and the optimizer's memory, e apart."""
        size = 1e-7 * float(np.linalg.norm(self.theta))
        theta = self.theta + size * direction / np.linalg.norm(direction)
        self.twins[name] = [theta, self.rule.copy(), float(np.linalg.norm(theta - self.theta))]

    def rate(self):
        return self.lr(self.t) if callable(self.lr) else self.lr

    def snapshot(self):
        if self.batch:
            self.rows = self.random.permutation(self.model.rows)[: self.batch]
        loss, g = self.model.at(self.theta, self.rows)
        s = {"step": self.t, "loss": float(loss), "lr": np.asarray(self.rate(), float),
             "theta": self.theta, "g": self.store(g)}
        if self.probe(self.t) if callable(self.probe) else self.probe:
            loss, g = self.model.at(self.theta)
            s["probe_loss"], s["probe_grad"] = float(loss), self.store(g)
        if self.probe_every and self.t % self.probe_every == 0 and self.t > 0:
            s["pair"] = self.pair()
        if "same_batch" in self.extras and self.last_rows is not None:
            s["same_batch_grad"] = self.store(self.model.at(self.theta, self.last_rows)[1])
        if "coarse" in self.extras:
            s["loss"] = float(np.float32(s["loss"]))
        if "halves" in self.extras:
            half = [self.model.at(self.theta, self.rows[i::2])[1] for i in (0, 1)]
            s["half_diff_sq"] = float(np.sum((half[0] - half[1]) ** 2))
        if "anchor" in self.extras:
            s["anchor"] = self.anchor
        if "delta" in self.extras and self.delta is not None:
            s["delta"] = self.delta
        if self.clip:
            s["clip_norm"], s["grad_norm"] = self.clip, float(np.linalg.norm(s["g"]))
        if self.twins:
            s["twins"] = {name: float(np.log(np.linalg.norm(theta - self.theta) / size))
                          for name, (theta, _, size) in self.twins.items()}
        if "acts" in self.extras:
            s["acts"] = self.model.activations(self.theta)
            s["bounds"] = self.model.bounds(self.theta)
            s["layer_tensors"] = self.model.layer_tensors
        return s

    def pair(self):
        v = self.direction / np.linalg.norm(self.direction)
        e = 1e-4 * np.linalg.norm(self.theta)
        a = self.store(e * v)
        y = self.store(self.model.at(self.theta + a)[1] - self.model.at(self.theta)[1])
        weight = np.ones_like(y)
        if self.rule.v_hat is not None:
            weight = self.rule.p_matrix
        self.direction = y / weight
        return a, y

    def advance(self, s):
        """The update, of the gradient as it is clipped."""
        g = s["g"]
        if self.clip:
            g = g * min(1.0, self.clip / (s["grad_norm"] + 1e-6))
        for twin in self.twins.values():  # the same batch
            twin[0] = twin[0] + twin[1].update(twin[0], self.model.at(twin[0], self.rows)[1],
                                               self.rate())
        p = self.rule.update(self.theta, g, self.rate())
        before, self.last_rows, self.t = self.theta, self.rows, self.t + 1
        self.theta = self.store(self.theta + p)
        self.delta = self.store(self.theta - before)

    def __iter__(self):
        while True:
            s = self.snapshot()
            yield s
            self.advance(s)


ROLES = {"theta": "param", "g": "grad", "delta": "delta", "probe_grad": "probe_grad",
         "same_batch_grad": "same_batch_grad", "anchor": "anchor",
         "m": "exp_avg", "v": "exp_avg_sq"}
SCALARS = ("step", "loss", "probe_loss", "half_diff_sq", "batch_id", "skipped", "clip_norm",
           "grad_norm", "optimizer_step",
           "rank", "world", "attempt")


def arrays_of(s, slices):
    """{name: {role: flat array}} of a snapshot."""
    vectors = {role: s[key] for key, role in ROLES.items() if key in s}
    if "pair" in s:
        vectors["pair_s"], vectors["pair_y"] = s["pair"]
    return {name: {role: v[cut] for role, v in vectors.items()} for name, cut in slices.items()}


def rates_text(rates):
    return ",".join(repr(float(r)) for r in np.atleast_1d(rates))


def metadata_of(s, rates, **more):
    out = {k: s[k] if isinstance(s[k], str) else repr(s[k]) for k in SCALARS if k in s}
    if "twins" in s:
        more = dict(more, twin_log=",".join(repr(y) for y in s["twins"].values()),
                    twin_name=",".join(s["twins"]))
    return dict(out, lr=rates_text(rates), **more)


def tensors_of(s, slices, shapes, dtype="F64", order=None):
    """For blackbox.safetensors: roles of a tensor side by side."""
    out, arrays = {}, arrays_of(s, slices)
    for name in order or slices:
        for role, x in arrays[name].items():
            out["%s/%s" % (role, name)] = (shapes[name], x.astype(DTYPES[dtype]).tobytes(), dtype)
    for (role, name), x in s.get("acts", {}).items():
        out["%s/%s" % (role, name)] = (x.shape, x.astype("<f8").tobytes(), "F64")
    return out


def number(x):
    x = float(x)
    return x if np.isfinite(x) else "NaN" if np.isnan(x) else "Infinity" if x > 0 else "-Infinity"


def document_of(s, slices, shapes, rates):
    """The JSON form."""
    tensors = {}
    for name, roles in arrays_of(s, slices).items():
        for role, x in roles.items():
            tensors["%s/%s" % (role, name)] = {"shape": list(shapes[name]),
                                               "data": [number(v) for v in x]}
    scalars = {k: s[k] for k in SCALARS if k in s}
    return dict(scalars, lr=[float(r) for r in np.atleast_1d(rates)], tensors=tensors)


class PartialClient:
    """Makes the partial of docs/wire.md section 3 from snapshots: sums and sketches, by NumPy
    alone."""

    def __init__(self, slices, shapes, optimizer, seed, unit, full_batch=False):
        self.slices, self.shapes, self.rule = slices, shapes, optimizer
        self.full_batch, self.path = full_batch, {}
        self.seed, self.unit = seed, unit
        self.before = self.predicted = self.p_now = self.p_last = None

    def each(self, vector):
        return [float(np.sum(vector[cut])) for cut in self.slices.values()]

    def moments(self, role, x):
        parts = [x[cut] for cut in self.slices.values()]
        blocks = [max(float(np.sum(p[i:i + 64] ** 2)) for i in range(0, p.size, 64)) for p in parts]
        return {role + "_count": [p.size for p in parts], role + "_sq": self.each(x * x),
                role + "_abs": self.each(np.abs(x)),
                role + "_zeros": self.each(x == 0), role + "_nonfinite": self.each(~np.isfinite(x)),
                role + "_max": [float(np.abs(p).max()) for p in parts], role + "_block_sq": blocks}

    def update_rows(self, s):
        """Rows between the predecessor and this snapshot."""
        b, g = self.before, s["g"]
        d = self.delta = s["theta"] - b["theta"]
        rows = self.moments("delta", d)
        error = d - self.predicted
        rows.update(grad_prev_delta=self.each(b["g"] * d), grad_delta=self.each(g * d),
                    grad_diff_sq=self.each((g - b["g"]) ** 2),
                    grad_grad_prev=self.each(g * b["g"]), delta_p=self.each(self.p_now * d * d),
                    update_error_sq=self.each(error**2), step_prev_sq=self.each(self.predicted**2),
                    sign_flips=self.each(np.sign(g) != np.sign(b["g"])))
        if self.rule.kind == "adamw":
            rows["param_p_prev"] = self.each(s["theta"] ** 2 * self.p_now)
        if self.p_last is not None:
            rows["delta_p_prev"] = self.each(self.p_last * d * d)
        if "probe_grad" in s and "probe_grad" in b:
            new, old = s["probe_grad"], b["probe_grad"]
            rows.update(probe_delta=self.each(new * d), probe_prev_delta=self.each(old * d),
                        probe_diff_sq=self.each((new - old) ** 2))
        probe = "probe_grad" in s and "probe_grad" in b
        root = np.sqrt(self.p_now)
        if probe or self.full_batch:
            name = "probe_grad" if probe else "g"
            self.path = {"path_s": root * d, "path_y": (s[name] - b[name]) / root}
        if "anchor" in s:
            away = self.p_now * (s["theta"] - s["anchor"])
            rows.update(anchor_sq=self.each(away * (s["theta"] - s["anchor"])),
                        anchor_delta=self.each(away * d))
        if "same_batch_grad" in s:
            rows["same_delta"] = self.each(s["same_batch_grad"] * d)
        return rows

    def pair_rows(self, s, weight):
        a, y = s["pair"]
        return dict(pair_ss=self.each(a * a), pair_sy=self.each(a * y), pair_yy=self.each(y * y),
                    pair_sps=self.each(a * weight * a), pair_ypy=self.each(y * y / weight))

    def step_rows(self, s):
        """Rows of the coming update."""
        g = s["g"]
        if "clip_norm" in s:
            g = g * min(1.0, s["clip_norm"] / (s["grad_norm"] + 1e-6))
        rows = self.gain_rows(s, g)
        p = self.rule.update(s["theta"], g, s["lr"])
        rows.update(step_sq=self.each(p * p), grad_step=self.each(s["g"] * p),
                    step_p=self.each(p * self.rule.p_matrix * p),
                    grad_param=self.each(s["g"] * s["theta"]))
        if self.rule.v_hat is not None:
            used = self.rule.effective(s["theta"], g)
            rows["rms_sq"] = self.each(used**2 / np.maximum(self.rule.v_hat,
                                                            self.rule.c["eps"] ** 2))
        if self.rule.kind == "adamw":
            rows["param_p"] = self.each(s["theta"] ** 2 * self.rule.p_matrix)
        self.p_last, self.p_now, self.predicted = self.p_now, self.rule.p_matrix, p
        return rows

    def gain_rows(self, s, g):
        """SPEC 1.6: exact and with P held, and the counts by log2; before the rule is updated."""
        rule, c, size = self.rule, self.rule.c, s["theta"].size
        lr = np.broadcast_to(np.asarray(s["lr"], float), s["theta"].shape)
        clip = float(np.linalg.norm(g)) / float(np.linalg.norm(s["g"]))
        if rule.kind == "sgd":
            passed = 1 - c["dampening"] if c["momentum"] and rule.t else 1.0
            gain = lr * clip * (1 + c["momentum"] if c["nesterov"] else passed)
            rows = {}
        elif rule.kind in ("adam", "adamw", "rmsprop"):
            b1, t = (c["beta1"], rule.t + 1) if rule.kind != "rmsprop" else (0.0, np.inf)
            m = rule.m if b1 else np.zeros(size)
            gain, frozen = oracle.adam_gain(rule.effective(s["theta"], g), m, rule.v, t, lr * clip,
                                            b1, c["beta2"], c["eps"])
            rows = {"gain_frozen_sq": self.each((frozen * s["g"]) ** 2)}
        else:
            return {}
        bins = np.clip(np.floor(np.log2(np.maximum(np.abs(gain), 1e-300))) + 32, 0, 63).astype(int)
        return dict(rows, gain_sq=self.each((gain * s["g"]) ** 2),
                    gain_log2=[np.bincount(bins[cut], minlength=64)
                               for cut in self.slices.values()])

    def tensors(self, s, weight):
        cut = lambda x: {n: x[c] for n, c in self.slices.items()}  # noqa: E731
        rows = dict(self.moments("param", s["theta"]), **self.moments("grad", s["g"]))
        sketches = {"param": s["theta"], "grad": s["g"]}
        if self.before is not None:
            rows.update(self.update_rows(s))
            sketches.update(self.path, delta=self.delta)
        if "probe_grad" in s:
            rows.update(self.moments("probe_grad", s["probe_grad"]))
            sketches["probe_grad"] = s["probe_grad"]
        if "pair" in s:
            rows.update(self.pair_rows(s, weight))
            root = np.sqrt(weight)
            sketches["pair_s"], sketches["pair_y"] = s["pair"][0] * root, s["pair"][1] / root
        rows.update(self.step_rows(s))
        self.before = s
        out = {"reduce/" + n: (np.shape(v), np.array(v, "<f8").tobytes(), "F64") for n,
               v in rows.items()}
        for role, x in sketches.items():
            out["sketch/" + role] = ((SKETCH,), sketch(cut(x), self.seed).astype("<f8").tobytes(),
                                     "F64")
        return out

    def keys(self):
        return {"delta_unit": repr(self.unit), "grad_unit": repr(self.unit), "state_exact": "true"}
