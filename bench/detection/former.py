"""Kinds that were unseen when version 3 of the score was tested; now part of the design."""
import math

import numpy as np
import torch
import torch.nn.functional as F

import data as D
import optim
from data import log_uniform, tensor, uniform
from models import MLP, Transformer, parameter
from optim import adamw, sgd
from tasks import digits_net, growing, random_labels, stepped, warmed

FAMILIES = {}


def family(function):
    FAMILIES[function.__name__] = function
    return function


class Equilibrium:
    """z = relu(z A + x U + b) iterated a fixed number of times: diverging sensitivity once |A| is large."""

    def __init__(self, r, d=24, rounds=20, scale=0.6):
        self.rounds = rounds
        self.params = {
            "A": parameter(r.randn(d, d) * scale / math.sqrt(d)),
            "U": parameter(r.randn(64, d) / 8.0),
            "b": parameter(np.zeros(d)),
            "out": parameter(r.randn(d, 10) / math.sqrt(d)),
        }

    def __call__(self, p, batch, train, gen):
        x, y = batch
        drive = x @ p["U"] + p["b"]
        z = torch.zeros_like(drive)
        for _ in range(self.rounds):
            z = torch.relu(z @ p["A"] + drive)
        return F.cross_entropy(z @ p["out"], y)


class Game:
    """Saddle of x'Ay with a little curvature on both sides: one player descends, the other ascends.

    The loss is the squared distance from the saddle; the gradients are those of the game, not of the loss.
    """

    def __init__(self, r, n=12, curvature=0.1):
        self.a = tensor((r.randn(n, n) / math.sqrt(n)).astype(np.float32))
        self.curvature = curvature
        self.params = {"x": parameter(r.randn(n)), "y": parameter(r.randn(n))}

    def __call__(self, p, batch, train, gen):
        return 0.5 * (p["x"] @ p["x"] + p["y"] @ p["y"])

    def replace(self, grads, params, noise):
        x, y = params["x"].detach(), params["y"].detach()
        grads["x"].copy_(self.a @ y + self.curvature * x + noise[0])
        grads["y"].copy_(-(self.a.T @ x) + self.curvature * y + noise[1])


class Policy:
    """Softmax policy on contexts with ten actions; loss = surrogate of the reward with a baseline, probe = regret."""

    def __init__(self, r, hidden=32):
        self.net = MLP(r, [64, hidden, 10], "tanh", "ce")
        self.params = self.net.params

    def __call__(self, p, batch, train, gen):
        x, y = batch
        logits = torch.log_softmax(self.net.forward(p, x, False, None), 1)
        if not train:
            return 1 - torch.exp(logits)[torch.arange(len(y)), y].mean()
        with torch.no_grad():
            chosen = torch.multinomial(torch.exp(logits), 1, generator=gen).squeeze(1)
            reward = (chosen == y).float()
            gain = reward - reward.mean()
        return -(gain * logits[torch.arange(len(y)), chosen]).mean() + 1


# ---------------------------------------------------------------- unstable by design


@family
def u51_equilibrium(s, r, seed):
    """A weight-tied net of 15 to 40 rounds, rate growing or stepped."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64])))
    s.model = Equilibrium(r, rounds=int(r.randint(15, 40)), scale=uniform(r, 0.5, 0.9))
    s.opt = [sgd(0.0), sgd(0.9), adamw()][seed % 3]
    high = [log_uniform(r, 0.1, 1.0), log_uniform(r, 0.02, 0.2), log_uniform(r, 1e-2, 6e-2)][seed % 3]
    s.lr = growing(high / 50, high, 280) if r.rand() < 0.6 else stepped(high / 20, high, int(r.randint(80, 200)))
    s.steps = 320


@family
def u52_game(s, r, seed):
    """Two players around a saddle: simultaneous steps that spiral outwards once the rate is raised."""
    s.model = Game(r, curvature=uniform(r, 0.05, 0.3))
    s.batch = lambda t: None
    spread, at = uniform(r, 0.0, 0.05), int(r.randint(80, 180))
    gain = float(np.linalg.norm(s.model.a.numpy(), 2))
    c = s.model.curvature
    limit = 2 * c / (c * c + gain * gain)
    s.opt = sgd(0.0)
    s.lr = stepped(limit * uniform(r, 0.3, 0.8), limit * uniform(r, 1.2, 3.0), at)
    s.inject, s.steps = at, 400

    def gradients(t, grads, params):
        n = spread * r.randn(2, len(params["x"])).astype(np.float32)
        s.model.replace(grads, params, [tensor(n[0]), tensor(n[1])])

    s.gradients = gradients


@family
def u53_mixed_checkpoint(s, r, seed):
    """A restart that loads some tensors from a much older checkpoint; in half of the runs square ones transposed."""
    digits_net(s, r, int(r.choice([32, 64])), 0 if seed % 2 else int(r.randint(3)))
    s.opt = adamw() if r.rand() < 0.5 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 4e-3) if s.opt["type"] == "adamw" else log_uniform(r, 0.02, 0.06))
    old, at, saved = int(r.randint(5, 30)), int(r.randint(120, 260)), {}
    s.inject = at
    names = [n for n, p in s.model.params.items() if p.dim() > 1]
    lost = [n for n in names if r.rand() < 0.6] or names[-1:]

    def after(t, params, state):
        if t == old:
            saved.update({n: p.clone() for n, p in params.items()})
        if t == at - 1:
            for n in lost:
                p = params[n]
                square = p.dim() == 2 and p.shape[0] == p.shape[1]
                p.copy_(p.T.clone() if seed % 2 and square else saved[n])

    s.after = after


@family
def u54_pruned(s, r, seed):
    """Nine in ten weights, or more, are set to zero at once, and once more later."""
    digits_net(s, r, int(r.choice([32, 64])), int(r.randint(3)))
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 4e-3) if seed % 2 else log_uniform(r, 0.01, 0.05))
    at, share = int(r.randint(120, 260)), uniform(r, 0.7, 0.98)
    s.inject = at

    def after(t, params, state):
        if t == at - 1:
            for p in params.values():
                if p.dim() > 1:
                    limit = torch.quantile(p.abs().flatten(), share)
                    p.mul_((p.abs() > limit).float())

    s.after = after


@family
def u55_extrapolated(s, r, seed):
    """Weight averaging with the wrong sign: every few steps the parameters move away from their running mean."""
    digits_net(s, r, int(r.choice([32, 64])), int(r.randint(3)))
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 4e-3) if seed % 2 else log_uniform(r, 0.01, 0.04))
    every, push, mean, at = int(r.choice([1, 2, 5, 10])), uniform(r, 0.05, 0.6), {}, int(r.randint(80, 180))
    s.inject = at

    def after(t, params, state):
        for n, p in params.items():
            mean[n] = p.clone() if n not in mean else 0.95 * mean[n] + 0.05 * p
            if t >= at - 1 and t % every == 0:
                p.add_(push * (p - mean[n]))

    s.after = after


@family
def u56_policy(s, r, seed):
    """Policy gradient at a growing rate: the policy commits to wrong actions and gets no gradient back."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64])))
    s.model = Policy(r)
    s.opt = adamw() if seed % 2 else sgd(0.9)
    high = log_uniform(r, 3e-2, 3e-1) if seed % 2 else log_uniform(r, 1.0, 10.0)
    s.lr = growing(high / 60, high, 400)
    s.steps = 500


@family
def u57_unclipped(s, r, seed):
    """Clipping that held the run is switched off, and the job does not say so."""
    s.batch, s.probe, s.held, v = D.chars(r, 16)
    s.model = Transformer(r, v, ln=False, qk_gain=uniform(r, 1.0, 2.0))
    s.opt = sgd(0.9)
    rate, at, limit = log_uniform(r, 0.5, 3.0), int(r.randint(80, 160)), log_uniform(r, 0.02, 0.1)
    whole = {}
    s.clip, s.inject, s.steps = limit, at, 260
    s.lr = warmed(rate, 40)

    def rule(t, params, grads, state, rates):
        if t >= at:
            grads = whole
        optim.update(params, grads, state, s.opt, rates)

    def gradients(t, grads, params):
        whole.update({n: g.clone() for n, g in grads.items()})

    s.rule, s.gradients = rule, gradients


@family
def u58_poison(s, r, seed):
    """A share of wrong labels and outliers that grows step by step."""
    digits_net(s, r, int(r.choice([16, 32, 64])), int(r.randint(3)))
    clean, at = s.batch, int(r.randint(80, 180))
    s.inject = at
    length, top, scale = int(r.randint(20, 150)), uniform(r, 0.5, 1.0), log_uniform(r, 1, 5)

    def batch(t):
        x, y = clean(t)
        bad = tensor(r.rand(len(y)) < top * min(1.0, max(0, t - at) / length))
        return torch.where(bad[:, None], x * scale, x), torch.where(bad, random_labels(r, y), y)

    s.batch = batch
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 2e-3, 6e-3) if seed % 2 else log_uniform(r, 0.02, 0.06))


# ---------------------------------------------------------------- stable by design


@family
def s61_private(s, r, seed):
    """Clipped gradients with added noise, as private training does."""
    digits_net(s, r, int(r.choice([32, 64])), seed)
    s.opt = sgd(0.9) if seed % 2 else adamw()
    s.constant(log_uniform(r, 0.01, 0.04) if seed % 2 else log_uniform(r, 5e-4, 2e-3))
    noise = log_uniform(r, 3e-3, 3e-2)

    def gradients(t, grads, params):
        n = math.sqrt(sum(float((g * g).sum()) for g in grads.values()))
        for g in grads.values():
            g.mul_(min(1.0, 1.0 / max(n, 1e-12)))
            g.add_(noise * tensor(r.randn(*g.shape).astype(np.float32)))

    s.gradients = gradients
    s.steps = 500


@family
def s62_gradual_pruning(s, r, seed):
    """Weights pruned a little at a time up to 80 %."""
    digits_net(s, r, int(r.choice([32, 64])), seed)
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 3e-3) if seed % 2 else log_uniform(r, 0.01, 0.03))
    top, every = uniform(r, 0.3, 0.8), int(r.choice([1, 5, 20]))

    def after(t, params, state):
        share = top * min(1.0, max(0, t - 100) / 250)
        if share > 0 and t % every == 0:
            for p in params.values():
                if p.dim() > 1:
                    p.mul_((p.abs() > torch.quantile(p.abs().flatten(), share)).float())

    s.after = after
    s.steps = 450


@family
def s63_augmented(s, r, seed):
    """Mixed examples, noise and blanked pixels switched on after a while, and off near the end."""
    digits_net(s, r, int(r.choice([16, 32, 64])), int(r.randint(2)))
    clean, on, off = s.batch, int(r.randint(80, 160)), int(r.randint(300, 400))
    level, hide = uniform(r, 0.1, 0.4), uniform(r, 0.0, 0.3)

    def batch(t):
        x, y = clean(t)
        if not on <= t < off:
            return x, y
        x = x * tensor((r.rand(*x.shape) >= hide).astype(np.float32))
        return x + level * tensor(r.randn(*x.shape).astype(np.float32)), y

    s.batch = batch
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 3e-3) if seed % 2 else log_uniform(r, 5e-3, 2e-2))
    s.steps = 480


@family
def s64_adversarial(s, r, seed):
    """Inputs moved against the model before every step."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64])))
    s.model = MLP(r, [64, 48, 48, 10], "relu", "ce")
    clean, reach, start = s.batch, uniform(r, 0.02, 0.1), int(r.choice([0, 100, 200]))

    def batch(t):
        x, y = clean(t)
        if t < start:
            return x, y
        x = x.clone().requires_grad_(True)
        g = torch.autograd.grad(s.model(s.model.params, (x, y), False, None), x)[0]
        return (x + reach * torch.sign(g)).detach(), y

    s.batch = batch
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 3e-3) if seed % 2 else log_uniform(r, 0.01, 0.03))
    s.steps = 450


@family
def s65_policy(s, r, seed):
    """Policy gradient at a careful rate: the surrogate loss says nothing about progress."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64])))
    s.model = Policy(r)
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 4e-3) if seed % 2 else log_uniform(r, 0.05, 0.3))
    s.steps = 500


@family
def s66_quantised(s, r, seed):
    """Weights rounded to a grid in the forward pass, gradients passed straight through."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64])))
    net = MLP(r, [64, 48, 48, 10], "relu", "ce")
    grid = 2.0 ** -int(r.randint(3, 6))

    class Rounded:
        params = net.params

        def __call__(self, p, batch, train, gen):
            q = {n: a + (torch.round(a / grid) * grid - a).detach() for n, a in p.items()}
            return net(q, batch, train, gen)

    s.model = Rounded()
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 5e-4, 2e-3) if seed % 2 else log_uniform(r, 5e-3, 2e-2))
    s.steps = 450


@family
def s67_ordered(s, r, seed):
    """Data in a fixed order that repeats: each epoch the same batches, sorted in part by class."""
    images, labels = D.digits()
    shuffled = r.permutation(len(images))
    train, s.held = shuffled[:960], D.some_digits(shuffled[960 : 960 + D.HELD])
    size, mixed = int(r.choice([16, 32])), uniform(r, 0.4, 1.0)
    order = np.argsort(labels[train] + mixed * 10 * r.rand(len(train)))
    train = train[order]

    def batch(t):
        j = train[np.arange(t * size, (t + 1) * size) % len(train)]
        return tensor(images[j]), tensor(labels[j])

    s.batch = batch
    some = r.permutation(train)[:256]
    s.probe = (tensor(images[some]), tensor(labels[some]))
    s.model = MLP(r, [64, 48, 48, 10], "relu", "ce")
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 5e-4, 2e-3) if seed % 2 else log_uniform(r, 3e-3, 1e-2))
    s.steps = 500


@family
def s68_saddle(s, r, seed):
    """Two players around a saddle at a rate that lets them settle."""
    u52_game(s, r, seed)
    low = s.lr(0)
    s.constant(low)
    s.inject, s.steps = None, 450
