"""Added families, stable by design: noise, changes of task and schedule, odd objectives, the right kind of repair."""
import math

import numpy as np
import torch

import data as D
import optim
from data import log_uniform, tensor, uniform
from mechanisms import Autoencoder, Bag, BatchNorm, Bootstrap, Experts, Gaussian, Physics, TwoTowers
from models import MLP, Conv, Linear, Residual, RNN, Transformer, sharpness
from optim import adamw, group, sgd
from tasks import digits_net, driven, growing, random_labels, stepped, train_before, warmed

FAMILIES = {}


def family(function):
    FAMILIES[function.__name__] = function
    return function


@family
def s23_parity(s, r, seed):
    """Parity of a few bits: a long plateau, then a sudden drop, with mini-batches."""
    bits, of = 12, int(r.choice([2, 3]))
    x = r.choice([-1.0, 1.0], (800, bits)).astype(np.float32)
    others = D.other().choice([-1.0, 1.0], (D.HELD, bits)).astype(np.float32)

    def parity(x):
        return (x[:, :of].prod(1) > 0).astype(np.int64)

    y = parity(x)
    size = int(r.choice([32, 64]))

    def batch(t):
        j = r.randint(0, len(x), size)
        return tensor(x[j]), tensor(y[j])

    s.batch, s.probe, s.held = batch, (tensor(x[:256]), tensor(y[:256])), (tensor(others), tensor(parity(others)))
    s.model = MLP(r, [bits, 64, 2], "relu", "ce", gain=0.7)
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 2e-3, 8e-3) if seed % 2 else log_uniform(r, 0.03, 0.1))
    s.steps = 600


@family
def s24_curriculum(s, r, seed):
    """Easy data first: classes join one after another, or noise grows, so the batch loss jumps."""
    images, labels = D.digits()
    shuffled = r.permutation(len(images))
    train, rest = shuffled[:1200], shuffled[1200:]
    every = int(r.randint(40, 80))
    size, first = int(r.choice([16, 32, 64])), int(r.randint(3, 6))
    noise = uniform(r, 0.02, 0.06) * r.randn(1200, 64).astype(np.float32)

    def noisy(j, t):
        return tensor(images[train[j]] + min(t // every, 5) * noise[j]), tensor(labels[train[j]])

    def batch(t):
        if seed % 2:
            newest = min(9, first - 1 + t // every)
            joined = r.rand(len(train)) < min(1.0, (t % every + 1) / every)
            pool = train[(labels[train] < newest) | ((labels[train] == newest) & joined)]
            j = pool[r.randint(0, len(pool), size)]
            return tensor(images[j]), tensor(labels[j])
        return noisy(r.randint(0, len(train), size), t)

    s.batch = batch
    early = train[labels[train] < first][:256]
    s.probe = (tensor(images[early]), tensor(labels[early]))
    s.held = D.some_digits((rest[labels[rest] < first] if seed % 2 else rest)[: D.HELD])
    if seed % 2 == 0:
        s.probe_at = lambda t: noisy(np.arange(256), t)
    s.model = MLP(r, [64, 48, 48, 10], "relu", "ce")
    s.opt = [sgd(0.9), adamw(), sgd(0.0)][seed % 3]
    ranges = [(3e-3, 0.015), (5e-4, 2e-3), (0.03, 0.1)]
    s.constant(log_uniform(r, *ranges[seed % 3]))
    s.steps = 500


@family
def s25_heavy_tail(s, r, seed):
    """Regression on targets with Student noise of 1.5 to 3 degrees of freedom: gradients with heavy tails."""
    n, p = 2000, 20
    x = r.randn(n, p).astype(np.float32)
    freedom, size = uniform(r, 1.5, 3.0), int(r.choice([8, 16, 32]))
    w = r.randn(p)

    def targets(x, r):
        return (x @ w + 0.3 * r.standard_t(freedom, len(x))).astype(np.float32)

    y, others = targets(x, r), D.other().randn(D.HELD, p).astype(np.float32)
    keep = np.argsort(np.abs(y))[:256]

    def batch(t):
        j = r.randint(0, n, size)
        return tensor(x[j]), tensor(y[j])

    s.batch, s.probe = batch, (tensor(x[keep]), tensor(y[keep]))
    s.held = (tensor(others), tensor(targets(others, D.other())))
    s.model = Linear(r, p)
    s.opt = [sgd(0.0), sgd(0.9), adamw()][seed % 3]
    s.constant([log_uniform(r, 0.005, 0.03), log_uniform(r, 1e-3, 4e-3), log_uniform(r, 5e-3, 2e-2)][seed % 3])
    s.clip = float(r.choice([0.0, 0.0, 5.0]))
    s.steps = 600


@family
def s26_finetune(s, r, seed):
    """A trained model goes on at a careful rate: half-way on the same data, or converged on new data or classes."""
    kind = seed % 3
    digits_net(s, r, int(r.choice([16, 32, 64])), int(r.randint(3)))
    train_before(s, 300 if kind else 40, adamw(), 3e-3)
    clean = s.batch
    mean = tensor((0.4 * r.randn(64)).astype(np.float32))
    swapped = np.arange(10)
    swapped[[2, 7]] = [7, 2]
    swapped = tensor(swapped)

    def new(b):
        return b if kind == 0 else ((b[0] + mean, b[1]) if kind == 1 else (b[0], swapped[b[1]]))

    s.batch = lambda t: new(clean(t))
    s.probe, s.held = new(s.probe), new(s.held)
    s.opt = adamw() if r.rand() < 0.5 else sgd(0.9)
    s.lr = warmed(log_uniform(r, 2e-4, 1e-3) if s.opt["type"] == "adamw" else log_uniform(r, 2e-3, 1e-2), 30)
    s.steps = 450


@family
def s27_dropout_small(s, r, seed):
    """Dropout and ReLU on batches of 8 to 64, heavy ball."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([8, 16, 32, 64])))
    s.model = MLP(r, [64, 64, 48, 10], "relu", "ce", dropout=uniform(r, 0.1, 0.5))
    s.opt = sgd(float(r.choice([0.8, 0.9, 0.95])))
    s.constant(log_uniform(r, 3e-3, 2e-2))
    s.steps = 500


@family
def s28_label_noise(s, r, seed):
    """One to four labels in ten are wrong, all the time."""
    digits_net(s, r, int(r.choice([16, 32, 64])), seed)
    clean, share = s.batch, uniform(r, 0.1, 0.4)

    def batch(t):
        x, y = clean(t)
        wrong = tensor(r.rand(len(y)) < share)
        return x, torch.where(wrong, random_labels(r, y), y)

    s.batch = batch
    s.opt = adamw() if r.rand() < 0.5 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 3e-3) if s.opt["type"] == "adamw" else log_uniform(r, 5e-3, 2e-2))
    s.steps = 500


@family
def s29_adaptive_edge(s, r, seed):
    """Full-batch heavy ball or Adam that lives at its edge of stability without losing anything."""
    s.full(MLP(r, [64, 24, 24, 10], "tanh", "mse"), *D.full_digits(r, 250))
    s.steps = 600
    if seed % 2:
        s.opt = adamw(beta2=float(r.choice([0.9, 0.99])))
        s.lr = warmed(log_uniform(r, 2e-3, 6e-3), 50)
    else:
        s.opt = sgd(0.9)
        s.constant(2 / sharpness(s.model, s.probe) * uniform(r, 0.5, 1.2))


@family
def s30_cyclic(s, r, seed):
    """Triangular cycles up to rather high peaks."""
    digits_net(s, r, int(r.choice([16, 32, 64])), seed)
    s.opt = adamw() if seed % 2 else sgd(0.9)
    high = log_uniform(r, 3e-3, 8e-3) if seed % 2 else log_uniform(r, 0.03, 0.08)
    half = int(r.randint(20, 80))
    s.lr = lambda t: high * (0.02 + 0.98 * (1 - abs(t % (2 * half) - half) / half))
    s.steps = 500


@family
def s31_batch_ramp(s, r, seed):
    """The batch doubles step by step from 4 or 8 to 256, the rate with its root or not at all."""
    first, every = int(r.choice([4, 8])), int(r.randint(50, 90))
    images, labels = D.digits()
    shuffled = r.permutation(len(images))
    train, s.held = shuffled[:1500], D.some_digits(shuffled[1500 : 1500 + D.HELD])

    def size(t):
        return min(256, first * 2 ** (t // every))

    def batch(t):
        j = train[r.randint(0, len(train), size(t))]
        return tensor(images[j]), tensor(labels[j])

    s.batch = batch
    s.probe = (tensor(images[train[:256]]), tensor(labels[train[:256]]))
    s.model = MLP(r, [64, 48, 48, 10], "relu", "ce") if seed % 2 else Conv(r)
    s.opt = sgd(0.9)
    rate, root = log_uniform(r, 3e-3, 1e-2), r.rand() < 0.5
    s.lr = lambda t: rate * (math.sqrt(size(t) / first) if root else 1.0)
    s.steps = 450


@family
def s32_freeze(s, r, seed):
    """Layers frozen and thawed in turns by group rates of zero."""
    digits_net(s, r, int(r.choice([32, 64])), 0)
    every = int(r.randint(40, 120))
    groups = [group("W0", "b0"), group("W1", "b1")]
    s.opt = adamw(groups=groups) if seed % 2 else sgd(0.9, groups=groups)
    rate = log_uniform(r, 1e-3, 3e-3) if seed % 2 else log_uniform(r, 0.01, 0.03)
    s.constant(rate)
    s.group_lr = lambda t: [rate if (t // every) % 3 != k else 0.0 for k in (1, 2)]
    s.steps = 500


@family
def s33_averaging(s, r, seed):
    """Weights replaced by their running average now and then; the optimizer goes on."""
    digits_net(s, r, int(r.choice([16, 32])), seed)
    s.opt = adamw() if r.rand() < 0.5 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 4e-3) if s.opt["type"] == "adamw" else log_uniform(r, 0.01, 0.05))
    every, decay, mean = int(r.randint(30, 120)), uniform(r, 0.8, 0.97), {}

    def after(t, params, state):
        for n, p in params.items():
            mean[n] = p.clone() if n not in mean else decay * mean[n] + (1 - decay) * p
            if t % every == every - 1:
                p.copy_(mean[n])

    s.after = after
    s.steps = 500


@family
def s34_sparse(s, r, seed):
    """Word embeddings with a Zipf distribution: rare rows get their first gradients late."""
    words, classes, length = 400, 6, 8
    topic = r.randint(0, classes, words)
    share = 1.0 / np.arange(1, words + 1)
    share /= share.sum()
    size = int(r.choice([16, 32, 64]))

    def batch(t, n=size, r=r):
        x = r.choice(words, (n, length), p=share)
        votes = np.stack([(topic[x] == c).sum(1) for c in range(classes)], 1)
        return tensor(x), tensor(votes.argmax(1))

    s.probe, s.held = batch(0, 256), batch(0, D.HELD, D.other())
    s.batch = batch
    s.model = Bag(r, words, classes=classes)
    s.opt = adamw(beta2=float(r.choice([0.99, 0.999]))) if seed % 3 else sgd(0.9)
    s.constant(log_uniform(r, 2e-3, 8e-3) if seed % 3 else log_uniform(r, 0.05, 0.2))
    s.steps = 500


@family
def s35_value(s, r, seed):
    """Temporal differences on policy with a held target: the targets move each time the copy is taken."""
    states, n, size = 16, 400, 64
    period = int(r.choice([1, 10, 25, 50]))
    x = np.abs(r.randn(n, states)).astype(np.float32)
    reward = (x @ r.randn(states) / states + 0.1 * r.randn(n)).astype(np.float32)
    follow = r.permutation(n)
    s.model = Bootstrap(r, states, gamma=uniform(r, 0.5, 0.9), period=period, act=torch.tanh)

    def batch(t):
        j = r.randint(0, n, size)
        return tensor(x[j]), tensor(reward[j]), tensor(x[follow[j]])

    def after(t, params, state):
        if t % period == period - 1:
            s.model.refresh()

    s.batch, s.after = batch, after
    s.probe = (tensor(x[:128]), tensor(reward[:128]), tensor(x[follow[:128]]))
    s.held = (tensor(x[-D.HELD :]), tensor(reward[-D.HELD :]), tensor(x[follow[-D.HELD :]]))
    s.opt = adamw() if seed % 2 else sgd(0.0)
    s.lr = warmed(log_uniform(r, 1e-3, 3e-3) if seed % 2 else log_uniform(r, 0.01, 0.05), 40)
    s.steps = 500


@family
def s36_experts(s, r, seed):
    """Routed experts with a balance loss at a moderate rate: tokens change their expert all the time."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64])))
    s.model = Experts(r, int(r.choice([4, 8])), balance=float(r.choice([0.01, 0.1])))
    s.opt = adamw(beta2=float(r.choice([0.95, 0.999])), weight_decay=0.01)
    s.lr = warmed(log_uniform(r, 1e-3, 4e-3), 40)
    s.clip = 1.0
    s.steps = 450


@family
def s37_batchnorm(s, r, seed):
    """Batch norm on batches of 8 to 64."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([8, 16, 32, 64])))
    s.model = BatchNorm(r, [64, 48, 48, 10])
    s.opt = [sgd(0.9), adamw(), sgd(0.0)][seed % 3]
    s.constant([log_uniform(r, 5e-3, 3e-2), log_uniform(r, 5e-4, 3e-3), log_uniform(r, 0.05, 0.2)][seed % 3])
    s.steps = 450


@family
def s38_scaler(s, r, seed):
    """Half precision done right: weights in bfloat16 steps or a loss scaler that skips what overflowed."""
    kind = seed % 2
    digits_net(s, r, int(r.choice([32, 64])), int(r.randint(3)))
    s.opt = sgd(0.9) if r.rand() < 0.5 else adamw()
    s.constant(log_uniform(r, 0.01, 0.03) if s.opt["type"] == "sgd" else log_uniform(r, 1e-3, 3e-3))
    s.steps = 450
    scale, grown, every = [2.0 ** int(r.randint(14, 20))], [0], int(r.randint(20, 60))
    declared = s.opt

    def gradients(t, grads, params):
        for g in grads.values():
            g.copy_((g * scale[0]).half().float().div(scale[0]))

    def skip(t, grads):
        bad = any(not bool(torch.isfinite(g).all()) for g in grads.values())
        grown[0] = 0 if bad else grown[0] + 1
        if bad:
            scale[0] /= 2
        elif grown[0] % every == 0:
            scale[0] *= 2
        return bad

    def rule(t, params, grads, state, rates):
        optim.update(params, grads, state, declared, rates)
        for p in params.values():
            low = p.bfloat16().float()
            unit = torch.abs(low) * 2.0**-8
            p.copy_(low + torch.where(p > low, unit, -unit) * (torch.rand(p.shape) < 0.1))

    if kind:
        s.gradients, s.skip = gradients, skip
    else:
        s.rule = rule


@family
def s39_contrast(s, r, seed):
    """Contrastive towers with a capped temperature."""
    clean, _, held = D.mini_digits(r, 1200, int(r.choice([16, 32, 64])))
    noise = uniform(r, 0.1, 0.4)

    def views(x, r=r):
        return tuple(x + noise * tensor(r.randn(*x.shape).astype(np.float32)) for _ in range(2))

    s.batch = lambda t: views(clean(t)[0])
    s.probe, s.held = views(clean(0)[0]), views(held[0], D.other())
    s.model = TwoTowers(r, scale=uniform(r, 1.5, 3.0), cap=3.5)
    s.opt = adamw(beta2=float(r.choice([0.98, 0.999])))
    s.lr = warmed(log_uniform(r, 1e-3, 4e-3), 30)
    s.steps = 450


@family
def s40_transformer(s, r, seed):
    """Larger transformers with and without qk-norm, warm-up, clipping, decay."""
    s.batch, s.probe, s.held, v = D.chars(r, 12)
    d, layers = [(48, 2), (48, 3), (64, 2)][int(r.randint(3))]
    s.model = Transformer(r, v, d, layers, 4, qk_norm=seed % 2 == 1)
    s.opt = adamw(beta2=float(r.choice([0.95, 0.99, 0.999])), weight_decay=0.1)
    s.clip = 1.0
    high, steps = log_uniform(r, 1e-3, 5e-3), 240
    s.lr = lambda t: high * min(1, (t + 1) / 40) * 0.5 * (1 + math.cos(math.pi * t / steps))
    s.steps = steps


@family
def s41_domains(s, r, seed):
    """Each batch comes from one of several domains of very different difficulty, by lot or in blocks."""
    digits_net(s, r, int(r.choice([16, 32])), int(r.randint(2)))
    clean, block = s.batch, int(r.choice([1, 1, 10, 25]))
    scale, level = uniform(r, 0.3, 2.0), uniform(r, 0.3, 1.5)
    order = r.choice(3, 600, p=[0.6, 0.25, 0.15])

    def batch(t):
        x, y = clean(t)
        domain = order[t // block]
        if domain == 1:
            return x * scale, y
        return (x + level * tensor(r.randn(*x.shape).astype(np.float32)), y) if domain == 2 else (x, y)

    s.batch = batch
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 3e-3) if seed % 2 else log_uniform(r, 5e-3, 2e-2))
    s.steps = 500


@family
def s42_likelihood(s, r, seed):
    """Regression with predicted variance at a careful rate: the loss passes through zero."""
    n, size = 300, int(r.choice([32, 64, 300]))
    x = r.uniform(-2, 2, (n, 1)).astype(np.float32)
    noise = uniform(r, 0.05, 0.2)

    def targets(x, r):
        return (np.sin(2 * x[:, 0]) + noise * r.randn(len(x))).astype(np.float32)

    y, others = targets(x, r), D.other().uniform(-2, 2, (D.HELD, 1)).astype(np.float32)

    def batch(t):
        j = r.randint(0, n, size)
        return tensor(x[j]), tensor(y[j])

    s.batch, s.probe, s.held = batch, (tensor(x), tensor(y)), (tensor(others), tensor(targets(others, D.other())))
    s.model = Gaussian(r, low=-6.0)
    s.floor = s.model.low / 2
    s.opt = adamw(beta2=float(r.choice([0.99, 0.999])))
    s.lr = warmed(log_uniform(r, 5e-4, 2e-3), 50)
    s.clip = float(r.choice([0.0, 1.0]))
    s.steps = 600


@family
def s43_delay(s, r, seed):
    """Gradients a few updates old at a rate that bears it."""
    digits_net(s, r, int(r.choice([32, 64])), int(r.randint(3)))
    lag = int(r.randint(1, 4))
    s.opt = [sgd(0.9), sgd(0.0), adamw()][seed % 3]
    ranges = [(1e-3, 5e-3), (0.01, 0.06), (5e-4, 1.5e-3)]
    s.constant(log_uniform(r, *ranges[seed % 3]))
    past = []

    def gradients(t, grads, params):
        past.append({n: g.clone() for n, g in grads.items()})
        if len(past) > lag:
            grads.update(past.pop(0))

    s.gradients = gradients
    s.steps = 450


@family
def s44_resume_warm(s, r, seed):
    """A resume that re-warms the rate, with or without the optimizer's state, once or twice."""
    digits_net(s, r, int(r.choice([16, 32, 64])), int(r.randint(3)))
    s.opt = adamw(weight_decay=0.01) if seed % 2 else sgd(0.9)
    high = log_uniform(r, 2e-3, 5e-3) if seed % 2 else log_uniform(r, 0.02, 0.06)
    at, n, lose = int(r.randint(120, 220)), int(r.randint(20, 60)), r.rand() < 0.5
    s.lr = lambda t: high * min(1.0, ((t % at) + 1) / n)

    def after(t, params, state):
        if lose and (t + 1) % at == 0:
            state.clear()

    s.after = after
    s.steps = 450


@family
def s45_stiff(s, r, seed):
    """Residual of a differential equation at a careful rate: the loss falls by orders of magnitude, rattling."""
    x = np.linspace(0, 1, 64, dtype=np.float32)[:, None]
    force = uniform(r, 3, 9)
    s.full(Physics(r, weight=log_uniform(r, 1, 30)), driven(x, force), driven(D.other().rand(D.HELD, 1).astype(np.float32), force))
    s.steps = 600
    s.opt = adamw(beta2=float(r.choice([0.99, 0.999])))
    s.lr = warmed(log_uniform(r, 1e-3, 4e-3), 30)


@family
def s46_autoencoder(s, r, seed):
    """Autoencoder, mini-batches, Adam or heavy ball."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1500, int(r.choice([8, 32, 64])))
    s.model = Autoencoder(r, int(r.choice([4, 8, 16])))
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 4e-3) if seed % 2 else log_uniform(r, 3e-3, 2e-2))
    s.steps = 500


@family
def s47_hard_batches(s, r, seed):
    """A few batches in a hundred are much harder (noise, wrong labels, x3 inputs) and clipping bears them."""
    digits_net(s, r, int(r.choice([16, 32, 64])), int(r.randint(2)))
    clean, share, kind = s.batch, uniform(r, 0.01, 0.05), seed % 3

    def batch(t):
        x, y = clean(t)
        if r.rand() >= share:
            return x, y
        if kind == 0:
            return x + 1.5 * tensor(r.randn(*x.shape).astype(np.float32)), y
        return (x, random_labels(r, y)) if kind == 1 else (x * 3, y)

    s.batch = batch
    s.opt = sgd(0.9) if r.rand() < 0.5 else adamw()
    s.constant(log_uniform(r, 0.01, 0.03) if s.opt["type"] == "sgd" else log_uniform(r, 1e-3, 3e-3))
    s.clip = 1.0
    s.steps = 500


@family
def s48_bold_decay(s, r, seed):
    """A high rate at first, cut by ten or more: the loss drops at the cut, as with every step schedule."""
    digits_net(s, r, int(r.choice([8, 16, 32])), seed)
    s.opt = sgd(0.9, weight_decay=5e-4) if r.rand() < 0.6 else adamw(weight_decay=0.05)
    high = log_uniform(r, 0.02, 0.06) if s.opt["type"] == "sgd" else log_uniform(r, 2e-3, 5e-3)
    at, cut = int(r.randint(150, 300)), float(r.choice([0.1, 0.05, 0.3]))
    s.lr = lambda t: high * min(1.0, (t + 1) / 20) * (1.0 if t < at else cut)
    s.steps = 450


@family
def s49_length(s, r, seed):
    """Sequences that grow step by step: a transformer from 8 to 32 characters."""
    context, every = 32, int(r.randint(40, 80))
    feed, s.probe, s.held, v = D.chars(r, 16, context)
    lengths = [8, 12, 16, 24, 32]

    def batch(t):
        x, y = feed(t)
        n = lengths[min(len(lengths) - 1, t // every)]
        return x[:, :n], y[:, :n]

    s.batch = batch
    s.model = Transformer(r, v, qk_norm=seed % 2 == 0)
    s.opt = adamw(beta2=float(r.choice([0.95, 0.999])), weight_decay=0.01)
    s.lr = warmed(log_uniform(r, 1e-3, 4e-3), 40)
    s.clip = float(r.choice([0.0, 1.0]))
    s.steps = 360


@family
def s50_deep(s, r, seed):
    """Deep nets without normalisation at a careful rate."""
    depth = int(r.randint(5, 10))
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64])))
    if seed % 2:
        s.model = MLP(r, [64] + [24] * depth + [10], "relu", "ce")
    else:
        s.model = Residual(r, depth, 24, 1.0 / depth)
    s.opt = sgd(0.9) if seed % 3 else adamw()
    high = log_uniform(r, 2e-3, 1e-2) if seed % 3 else log_uniform(r, 5e-4, 2e-3)
    s.lr = growing(high / 10, high, 50) if r.rand() < 0.5 else stepped(high / 3, high, 100)
    s.steps = 450


@family
def s69_idle(s, r, seed):
    """A net that is trained in part goes on at a tiny rate with small batches: a loss that is flat and noisy from its first step."""
    digits_net(s, r, int(r.choice([2, 4, 8, 16])), int(r.randint(3)))
    train_before(s, int(r.choice([20, 60, 200])), adamw(), 3e-3)
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-6, 1e-4) if seed % 2 else log_uniform(r, 1e-5, 1e-3))
    s.steps = 400


@family
def s70_fitted(s, r, seed):
    """Regression that begins at its solution: a loss of nothing but noise, from normal to heavy-tailed."""
    n, p = 2000, 20
    w, freedom, size = r.randn(p), log_uniform(r, 2.0, 30.0), int(r.choice([2, 4, 8, 16]))

    def examples(r, n):
        x = r.randn(n, p).astype(np.float32)
        return tensor(x), tensor((x @ w + r.standard_t(freedom, n)).astype(np.float32))

    (x, y), s.held = examples(r, n), examples(D.other(), D.HELD)

    def batch(t):
        j = r.randint(0, n, size)
        return x[j], y[j]

    s.batch, s.probe = batch, examples(r, 256)
    s.model = Linear(r, p)
    with torch.no_grad():
        s.model.params["w"].copy_(tensor(w.astype(np.float32)))
    s.opt = [sgd(0.0), sgd(0.9), adamw()][seed % 3]
    s.constant(log_uniform(r, 1e-5, 1e-3) if seed % 3 else log_uniform(r, 1e-6, 1e-4))
    s.steps = 400
