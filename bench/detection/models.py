"""Small networks as functions of a dict of parameters: loss = model(params, batch, train, generator)."""
import math

import numpy as np
import torch
import torch.nn.functional as F

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda z: z}


def parameter(a):
    return torch.tensor(np.asarray(a, np.float32), requires_grad=True)


class MLP:
    def __init__(self, r, sizes, act="tanh", loss="ce", gain=1.0, dropout=0.0):
        self.act, self.loss, self.depth, self.drop = ACTIVATIONS[act], loss, len(sizes) - 1, dropout
        g = (math.sqrt(2) if act == "relu" else 1.0) * gain
        self.params = {}
        for i in range(self.depth):
            self.params["W%d" % i] = parameter(
                r.randn(sizes[i], sizes[i + 1]) * (g / math.sqrt(sizes[i]))
            )
            self.params["b%d" % i] = parameter(np.zeros(sizes[i + 1]))

    def forward(self, p, x, train, gen):
        for i in range(self.depth):
            x = x @ p["W%d" % i] + p["b%d" % i]
            if i < self.depth - 1:
                x = self.act(x)
                if self.drop and train:
                    keep = torch.rand(x.shape, generator=gen) > self.drop
                    x = x * keep.float() / (1 - self.drop)
        return x

    def __call__(self, p, batch, train, gen):
        x, y = self.forward(p, batch[0], train, gen), batch[1]
        if self.loss == "ce":
            return F.cross_entropy(x, y)
        if y.dtype == torch.int64:
            y = F.one_hot(y, x.shape[1]).float()
        return 0.5 * ((x - y) ** 2).sum(1).mean()


class Conv:
    """Two 3x3 convolutions on 8x8 images, pooling, one linear layer."""

    def __init__(self, r, ch=6, k=3):
        self.params = {
            "K0": parameter(r.randn(ch, 1, k, k) * 0.4),
            "c0": parameter(np.zeros(ch)),
            "K1": parameter(r.randn(ch, ch, k, k) * math.sqrt(2 / (ch * 9.0))),
            "c1": parameter(np.zeros(ch)),
            "W": parameter(r.randn(ch * 16, 10) * 0.1),
            "b": parameter(np.zeros(10)),
        }

    def __call__(self, p, batch, train, gen):
        x, y = batch
        x = x.reshape(-1, 1, 8, 8)
        x = torch.relu(F.conv2d(x, p["K0"], p["c0"], padding=1))
        x = torch.relu(F.conv2d(x, p["K1"], p["c1"], padding=1))
        x = F.max_pool2d(x, 2).flatten(1)
        return F.cross_entropy(x @ p["W"] + p["b"], y)


class Residual:
    """x <- x + tau relu(x A) B without normalisation: forward Euler, stable for small tau |J| (CFL)."""

    def __init__(self, r, depth=10, d=32, tau=0.3):
        self.depth, self.tau = depth, tau
        self.params = {"Win": parameter(r.randn(64, d) / 8.0)}
        for i in range(depth):
            self.params["A%d" % i] = parameter(r.randn(d, d) * math.sqrt(2.0 / d))
            self.params["B%d" % i] = parameter(r.randn(d, d) * math.sqrt(1.0 / d))
        self.params["Wout"] = parameter(r.randn(d, 10) / math.sqrt(d))

    def __call__(self, p, batch, train, gen):
        x, y = batch
        x = x @ p["Win"]
        for i in range(self.depth):
            x = x + self.tau * (torch.relu(x @ p["A%d" % i]) @ p["B%d" % i])
        return F.cross_entropy(x @ p["Wout"], y)


class RNN:
    """Vanilla recurrent net on the adding problem; rho is the scale of the recurrent matrix."""

    def __init__(self, r, h=32, rho=1.0, act="tanh"):
        self.act = ACTIVATIONS[act]
        w = r.randn(h, h) / math.sqrt(h)
        w = np.eye(h) * rho + r.randn(h, h) * 0.01 if act == "relu" else w * rho
        self.params = {
            "Wx": parameter(r.randn(2, h) * 0.5),
            "Wh": parameter(w),
            "bh": parameter(np.zeros(h)),
            "Wo": parameter(r.randn(h, 1) / math.sqrt(h)),
            "bo": parameter(np.zeros(1)),
        }

    def __call__(self, p, batch, train, gen):
        x, y = batch
        h = torch.zeros(x.shape[0], p["Wh"].shape[0])
        for t in range(x.shape[1]):
            h = self.act(x[:, t] @ p["Wx"] + h @ p["Wh"] + p["bh"])
        return ((h @ p["Wo"] + p["bo"]).squeeze(1) - y).pow(2).mean()


class Transformer:
    """Character transformer, pre-norm; qk-norm and LayerNorm can be left out."""

    def __init__(self, r, v, d=32, layers=2, heads=2, context=32, qk_norm=False, ln=True, qk_gain=1.0):
        self.layers, self.heads, self.d, self.qk_norm, self.ln = layers, heads, d, qk_norm, ln
        q = self.params = {
            "emb": parameter(r.randn(v, d) * 0.3),
            "pos": parameter(r.randn(context, d) * 0.1),
        }
        for i in range(layers):
            a = r.randn(d, 3 * d) / math.sqrt(d)
            a[:, : 2 * d] *= qk_gain
            q["qkv%d" % i] = parameter(a)
            q["o%d" % i] = parameter(r.randn(d, d) / math.sqrt(2 * layers * d))
            q["u%d" % i] = parameter(r.randn(d, 2 * d) * math.sqrt(2.0 / d))
            q["w%d" % i] = parameter(r.randn(2 * d, d) / math.sqrt(2 * layers * 2 * d))
            q["g%da" % i] = parameter(np.ones(d))
            q["g%db" % i] = parameter(np.ones(d))
        q["gf"] = parameter(np.ones(d))
        q["head"] = parameter(r.randn(d, v) / math.sqrt(d))

    def norm(self, z, g):
        return F.layer_norm(z, (self.d,)) * g if self.ln else z * g

    def attention(self, p, i, h, mask):
        n, length, width = h.shape[0], h.shape[1], self.d // self.heads
        z = self.norm(h, p["g%da" % i]) @ p["qkv%d" % i]
        q, k, v = (
            a.reshape(n, length, self.heads, width).transpose(1, 2) for a in z.split(self.d, 2)
        )
        if self.qk_norm:
            q, k = F.layer_norm(q, (width,)), F.layer_norm(k, (width,))
        a = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(width) + mask, -1) @ v
        return a.transpose(1, 2).reshape(n, length, self.d) @ p["o%d" % i]

    def feed_forward(self, p, i, h):
        return torch.relu(self.norm(h, p["g%db" % i]) @ p["u%d" % i]) @ p["w%d" % i]

    def __call__(self, p, batch, train, gen):
        x, y = batch
        length = x.shape[1]
        mask = torch.full((length, length), -1e9).triu(1)
        h = p["emb"][x] + p["pos"][:length]
        for i in range(self.layers):
            h = h + self.attention(p, i, h, mask)
            h = h + self.feed_forward(p, i, h)
        return F.cross_entropy((self.norm(h, p["gf"]) @ p["head"]).flatten(0, 1), y.flatten())


class Linear:
    """|X w - y|^2 / 2n, plus l1 |w|_1, which the proximal step handles: train == "smooth" leaves it out."""

    def __init__(self, r, p=40, l1=0.0):
        self.params = {"w": parameter(r.randn(p) * 0.5)}
        self.l1 = l1

    def __call__(self, p, batch, train, gen):
        x, y = batch
        loss = 0.5 * ((x @ p["w"] - y) ** 2).mean()
        return loss + (0 if train == "smooth" else self.l1 * p["w"].abs().sum())


class Factorisation:
    def __init__(self, r, n=20, k=4):
        self.params = {"U": parameter(r.randn(n, k) * 0.3), "V": parameter(r.randn(n, k) * 0.3)}

    def __call__(self, p, batch, train, gen):
        return 0.5 * ((p["U"] @ p["V"].T - batch[0]) ** 2).sum() / batch[0].shape[0]


def top_curvature(model, batch, v, iterations, root=None):
    """(eigenvalue, vector) of the largest |eigenvalue| of R^-1 H R^-1 on `batch`, by power iteration from v (None: random).

    `root` is the diagonal R, one tensor a parameter; None: 1. The vector is None where it was lost.
    """
    params = list(model.params.values())
    grads = torch.autograd.grad(model(model.params, batch, False, None), params, create_graph=True)
    if v is None:
        gen = torch.Generator().manual_seed(1)
        v = [torch.randn(a.shape, generator=gen) for a in params]
    value = float("nan")
    for _ in range(iterations):
        n = torch.sqrt(sum((a * a).sum() for a in v))
        if not torch.isfinite(n) or n == 0:
            return float("inf"), None
        v = [a / n for a in v]
        u = v if root is None else [a / q for a, q in zip(v, root)]
        h = torch.autograd.grad(
            sum((a * b).sum() for a, b in zip(grads, u)), params, retain_graph=True, allow_unused=True
        )
        h = [torch.zeros_like(a) if b is None else b.detach() for a, b in zip(params, h)]
        if root is not None:
            h = [a / q for a, q in zip(h, root)]
        value = float(sum((a * b).sum() for a, b in zip(v, h)))
        v = h
    return value, v


def sharpness(model, batch, iterations=25):
    """Largest |eigenvalue| of the Hessian on `batch`: to choose learning rates around 2/L."""
    return abs(top_curvature(model, batch, None, iterations)[0])
