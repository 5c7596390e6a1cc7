"""Networks with a mechanism of their own: normalisation statistics, experts, bootstrapped targets, contrast, two players.

Same calling convention as models.py. What is not trained by gradient (running statistics, a target network) is
an attribute of the model and changes only in training mode, or where a family's hook changes it.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F

from models import parameter


class BatchNorm:
    """ReLU MLP with batch normalisation. `use`: statistics of the `batch`, or the `running` ones."""

    def __init__(self, r, sizes, eps=1e-5, rate=0.1, use="batch"):
        self.depth, self.eps, self.rate, self.use = len(sizes) - 1, eps, rate, use
        self.params, self.mean, self.var = {}, {}, {}
        for i in range(self.depth):
            w = r.randn(sizes[i], sizes[i + 1]) * math.sqrt(2.0 / sizes[i])
            self.params["W%d" % i] = parameter(w)
            self.params["b%d" % i] = parameter(np.zeros(sizes[i + 1]))
            if i < self.depth - 1:
                self.params["g%d" % i] = parameter(np.ones(sizes[i + 1]))
                self.mean[i] = torch.zeros(sizes[i + 1])
                self.var[i] = torch.ones(sizes[i + 1])

    def _normalise(self, i, x, train):
        mean, var = x.mean(0), x.var(0, unbiased=False)
        if train:
            self.mean[i] += self.rate * (mean.detach() - self.mean[i])
            self.var[i] += self.rate * (var.detach() - self.var[i])
        if self.use == "running":
            mean, var = self.mean[i], self.var[i]
        return (x - mean) / torch.sqrt(var + self.eps)

    def __call__(self, p, batch, train, gen):
        x, y = batch
        for i in range(self.depth):
            x = x @ p["W%d" % i]
            if i < self.depth - 1:
                x = torch.relu(self._normalise(i, x, train) * p["g%d" % i] + p["b%d" % i])
            else:
                x = x + p["b%d" % i]
        return F.cross_entropy(x, y)


class Experts:
    """Embedding, one layer of routed experts (the best one, weighted by its probability), linear head.

    `balance` weighs the usual auxiliary loss: experts * sum of share * mean probability.
    """

    def __init__(self, r, experts=4, d=24, hidden=24, balance=0.01, router_gain=1.0):
        self.experts, self.balance = experts, balance
        self.params = {
            "in": parameter(r.randn(64, d) / 8.0),
            "router": parameter(r.randn(d, experts) * (router_gain / math.sqrt(d))),
            "up": parameter(r.randn(experts, d, hidden) * math.sqrt(2.0 / d)),
            "down": parameter(r.randn(experts, hidden, d) * math.sqrt(1.0 / hidden)),
            "out": parameter(r.randn(d, 10) / math.sqrt(d)),
        }

    def __call__(self, p, batch, train, gen):
        x, y = batch
        h = torch.tanh(x @ p["in"])
        prob = torch.softmax(h @ p["router"], 1)
        top, index = prob.max(1)
        z = torch.relu(torch.einsum("nd,edh->neh", h, p["up"]))
        z = torch.einsum("neh,ehd->ned", z, p["down"])[torch.arange(len(x)), index]
        h = h + top[:, None] * z
        loss = F.cross_entropy(h @ p["out"], y)
        share = F.one_hot(index, self.experts).float().mean(0)
        return loss + self.balance * self.experts * (share * prob.mean(0)).sum()


class Bootstrap:
    """Semi-gradient temporal differences: |V(s) - r - gamma V'(s')|^2 / 2, V' the frozen target network.

    The target is the network itself when `period` is 1, else a copy that refresh() takes.
    """

    def __init__(self, r, states, hidden=24, gamma=0.95, period=1, act=torch.relu):
        self.gamma, self.period, self.act = gamma, period, act
        self.params = {
            "W0": parameter(r.randn(states, hidden) * math.sqrt(2.0 / states)),
            "b0": parameter(np.zeros(hidden)),
            "W1": parameter(r.randn(hidden, 1) / math.sqrt(hidden)),
        }
        self.target = {}
        self.refresh()

    def refresh(self):
        self.target = {n: p.detach().clone() for n, p in self.params.items()}

    def value(self, p, x):
        return (self.act(x @ p["W0"] + p["b0"]) @ p["W1"]).squeeze(1)

    def __call__(self, p, batch, train, gen):
        now, reward, then = batch
        held = p if self.period == 1 else self.target
        with torch.no_grad():
            goal = reward + self.gamma * self.value(held, then)
        return 0.5 * ((self.value(p, now) - goal) ** 2).mean()


class TwoTowers:
    """Contrast of two views of an image with a learned temperature exp(scale); `cap` bounds the scale."""

    def __init__(self, r, d=16, hidden=32, scale=2.0, cap=None):
        self.cap = cap
        self.params = {"scale": parameter(np.array([scale]))}
        for side in "ab":
            self.params["W" + side] = parameter(r.randn(64, hidden) / 8.0)
            self.params["V" + side] = parameter(r.randn(hidden, d) / math.sqrt(hidden))

    def embed(self, p, side, x):
        return F.normalize(torch.tanh(x @ p["W" + side]) @ p["V" + side], dim=1)

    def __call__(self, p, batch, train, gen):
        a, b = batch
        scale = p["scale"] if self.cap is None else p["scale"].clamp(max=self.cap)
        logits = torch.exp(scale) * self.embed(p, "a", a) @ self.embed(p, "b", b).T
        own = torch.arange(len(a))
        return 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))


class Gaussian:
    """Regression with a predicted variance: negative log-likelihood, which may be negative.

    The predicted log-variance is at least `low`, so the loss is at least low/2.
    """

    def __init__(self, r, inputs=1, hidden=32, low=-12.0):
        self.low = low
        self.params = {
            "W0": parameter(r.randn(inputs, hidden) * 1.5),
            "b0": parameter(r.randn(hidden) * 0.5),
            "W1": parameter(r.randn(hidden, hidden) / math.sqrt(hidden)),
            "b1": parameter(np.zeros(hidden)),
            "W2": parameter(r.randn(hidden, 2) / math.sqrt(hidden)),
            "b2": parameter(np.zeros(2)),
        }

    def __call__(self, p, batch, train, gen):
        x, y = batch
        h = torch.tanh(x @ p["W0"] + p["b0"])
        h = torch.tanh(h @ p["W1"] + p["b1"])
        out = h @ p["W2"] + p["b2"]
        log_var = out[:, 1].clamp(min=self.low)
        return 0.5 * (log_var + (out[:, 0] - y) ** 2 * torch.exp(-log_var)).mean()


class Bag:
    """Mean of word embeddings, one hidden layer: most rows of the table get no gradient in a batch."""

    def __init__(self, r, words=400, d=16, classes=6):
        self.params = {
            "emb": parameter(r.randn(words, d) * 0.5),
            "W0": parameter(r.randn(d, 32) * math.sqrt(2.0 / d)),
            "W1": parameter(r.randn(32, classes) / math.sqrt(32)),
        }

    def __call__(self, p, batch, train, gen):
        x, y = batch
        return F.cross_entropy(torch.relu(p["emb"][x].mean(1) @ p["W0"]) @ p["W1"], y)


class Autoencoder:
    """64 -> hidden -> d -> hidden -> 64, tanh, squared error."""

    def __init__(self, r, d=8, hidden=32):
        sizes = [64, hidden, d, hidden, 64]
        self.params = {}
        for i in range(4):
            self.params["W%d" % i] = parameter(r.randn(sizes[i], sizes[i + 1]) / math.sqrt(sizes[i]))
            self.params["b%d" % i] = parameter(np.zeros(sizes[i + 1]))

    def __call__(self, p, batch, train, gen):
        x = batch[0]
        for i in range(4):
            x = x @ p["W%d" % i] + p["b%d" % i]
            x = torch.tanh(x) if i < 3 else x
        return 0.5 * ((x - batch[0]) ** 2).sum(1).mean()


class Physics:
    """u' + u = f on [0, 1] by a network u(x), from the residual and the value at 0: a stiff, badly scaled loss."""

    def __init__(self, r, hidden=24, weight=10.0):
        self.weight = weight
        self.params = {
            "W0": parameter(r.randn(1, hidden) * 2.0),
            "b0": parameter(r.randn(hidden)),
            "W1": parameter(r.randn(hidden, hidden) / math.sqrt(hidden)),
            "b1": parameter(np.zeros(hidden)),
            "W2": parameter(r.randn(hidden, 1) / math.sqrt(hidden)),
        }

    def value(self, p, x):
        h0 = torch.tanh(x @ p["W0"] + p["b0"])
        d0 = (1 - h0 * h0) * p["W0"]
        h1 = torch.tanh(h0 @ p["W1"] + p["b1"])
        d1 = (1 - h1 * h1) * (d0 @ p["W1"])
        return h1 @ p["W2"], d1 @ p["W2"]

    def __call__(self, p, batch, train, gen):
        x, f = batch
        u, slope = self.value(p, x)
        start, _ = self.value(p, torch.zeros(1, 1))
        return 0.5 * ((slope + u - f) ** 2).mean() + 0.5 * self.weight * ((start - 1) ** 2).mean()
