"""Kinds that no score was ever fitted on: trained for tests alone, to see what a score makes of what it does not know.

Nothing from these families may enter the design: neither their runs nor a decision taken after a look at them.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F

import data as D
import optim
from data import log_uniform, tensor, uniform
from models import MLP, Residual, Transformer, parameter, sharpness
from optim import adamw, group, sgd
from tasks import digits_net, growing, train_before, warmed

FAMILIES = {}


def family(function):
    FAMILIES[function.__name__] = function
    return function


def layers(r, sizes, prefix="W", bias="b", gain=1.0):
    """Weights and biases of a stack of layers, by name."""
    params = {}
    for i, (n, m) in enumerate(zip(sizes, sizes[1:])):
        params["%s%d" % (prefix, i)] = parameter(r.randn(n, m) * (gain / math.sqrt(n)))
        params["%s%d" % (bias, i)] = parameter(np.zeros(m))
    return params


class Variational:
    """Variational autoencoder of the digits: reconstruction (variance 0.05) + `weight` * KL; the probe reconstructs the mean."""

    def __init__(self, r, d=6, hidden=32):
        self.weight, self.d = 1.0, d
        self.params = layers(r, [64, hidden, 2 * d], "E", "e")
        self.params.update(layers(r, [d, hidden, 64], "D", "d", 0.3))
        self.params["d1"] = parameter(D.digits()[0].mean(0))

    def __call__(self, p, batch, train, gen):
        x = batch[0]
        out = torch.tanh(x @ p["E0"] + p["e0"]) @ p["E1"] + p["e1"]
        z, log_var = out[:, : self.d], out[:, self.d :]
        kl = 0.5 * (z * z + torch.exp(log_var) - 1 - log_var).sum(1).mean()
        if train:
            z = z + torch.exp(0.5 * log_var) * torch.randn(z.shape, generator=gen)
        y = torch.tanh(z @ p["D0"] + p["d0"]) @ p["D1"] + p["d1"]
        fit = 10 * ((y - x) ** 2).sum(1).mean()
        return fit + self.weight * kl if train else fit


class SelfTarget:
    """Predicts the slowly following network's embedding of another view; no negatives.

    The probe asks what the embedding is worth: cross entropy of finding the other view of an image among all, by cosine.
    `follow`: share of the way the target goes a step; `leak`: gradients enter the target; `predict`: with the predictor;
    `centred`: embeddings are standardised over the batch, which keeps them apart.
    """

    def __init__(self, r, d=16, hidden=48, follow=0.05):
        self.follow, self.leak, self.predict, self.centred = follow, False, True, True
        self.params = layers(r, [64, hidden, d], "E", "e")
        self.params.update(layers(r, [d, d, d], "P", "p"))
        self.target = {n: p.detach().clone() for n, p in self.params.items() if n[0] in "Ee"}

    def embed(self, p, x):
        z = torch.relu(x @ p["E0"] + p["e0"]) @ p["E1"] + p["e1"]
        return (z - z.mean(0)) / torch.sqrt(z.var(0) + 1e-5) if self.centred else z

    def step(self):
        for n, a in self.target.items():
            a += self.follow * (self.params[n].detach() - a)

    def __call__(self, p, batch, train, gen):
        a, b = batch
        if not train:
            return self.worth(p, a, b)
        goal = self.embed(p if self.leak else self.target, b)
        guess = self.embed(p, a)
        if self.predict:
            guess = torch.relu(guess @ p["P0"] + p["p0"]) @ p["P1"] + p["p1"]
        return 1 - F.cosine_similarity(guess, goal if self.leak else goal.detach(), dim=1).mean()

    def worth(self, p, a, b):
        a, b = (F.normalize(self.embed(p, x), dim=1) for x in (a, b))
        return F.cross_entropy(10 * a @ b.T, torch.arange(len(a)))


class Graph:
    """Two layers of attention over the neighbours of each node; `temperature` divides the scores."""

    def __init__(self, r, x, edges, classes, d=16):
        self.x, self.closed, self.temperature = x, torch.where(edges, 0.0, -1e9), 1.0
        self.params = layers(r, [x.shape[1], d, d, classes])
        for i in range(2):
            self.params["q%d" % i] = parameter(r.randn(d, d) / math.sqrt(d))
            self.params["k%d" % i] = parameter(r.randn(d, d) / math.sqrt(d))

    def __call__(self, p, batch, train, gen):
        nodes, y = batch
        h = torch.relu(self.x @ p["W0"] + p["b0"])
        for i in range(2):
            scores = (h @ p["q%d" % i]) @ (h @ p["k%d" % i]).T / (math.sqrt(h.shape[1]) * self.temperature)
            h = h + torch.softmax(scores + self.closed, 1) @ h
            if i == 0:
                h = torch.relu(h @ p["W1"] + p["b1"])
        return F.cross_entropy(h[nodes] @ p["W2"] + p["b2"], y)


def communities(r, n=240, classes=4, features=12, noise=1.5):
    """(features, edges, labels) of a random graph whose nodes prefer neighbours of their class."""
    y = r.randint(0, classes, n)
    same = y[:, None] == y[None]
    edges = np.triu(r.rand(n, n) < np.where(same, 12.0 / n, 3.0 / n), 1)
    x = r.randn(classes, features)[y] + noise * r.randn(n, features)
    return tensor(x.astype(np.float32)), tensor(edges | edges.T | np.eye(n, dtype=bool)), tensor(y.astype(np.int64))


class Widened:
    """ReLU net of which the first `width` hidden units take part; new ones come with outgoing weights of zero."""

    def __init__(self, r, wide, width, loss="ce"):
        self.net, self.wide, self.width = MLP(r, [64, wide, wide, 10], "relu", loss), wide, width
        self.params = self.net.params
        with torch.no_grad():
            for name in ("W1", "W2"):
                self.params[name][width:] = 0
                self.params[name][:width] *= math.sqrt(wide / width)

    def __call__(self, p, batch, train, gen):
        x, y = batch
        on = (torch.arange(self.wide) < self.width).float()
        x = torch.relu(x @ p["W0"] + p["b0"]) * on
        x = torch.relu(x @ p["W1"] + p["b1"]) * on
        x = x @ p["W2"] + p["b2"]
        if self.net.loss == "ce":
            return F.cross_entropy(x, y)
        return 0.5 * ((x - F.one_hot(y, 10).float()) ** 2).sum(1).mean()


class Preference:
    """Log-sigmoid loss on the margin between a preferred and a rejected text, against a frozen reference.

    The probe is the loss of the preferred texts themselves, a character; `keep` weighs it in training, too.
    """

    def __init__(self, net, beta, keep=0.0):
        self.net, self.params, self.beta, self.keep = net, net.params, beta, keep
        self.reference = {}

    def freeze(self):
        self.reference = {n: p.detach().clone() for n, p in self.params.items()}

    def texts(self, p, x, y):
        """Log-likelihood of each text."""
        net, length = self.net, x.shape[1]
        mask = torch.full((length, length), -1e9).triu(1)
        h = p["emb"][x] + p["pos"][:length]
        for i in range(net.layers):
            h = h + net.attention(p, i, h, mask)
            h = h + net.feed_forward(p, i, h)
        logits = (net.norm(h, p["gf"]) @ p["head"]).transpose(1, 2)
        return -F.cross_entropy(logits, y, reduction="none").sum(1)

    def __call__(self, p, batch, train, gen):
        x, y = batch[:2]
        if not train or not self.reference:
            return -self.texts(p, x, y).mean() / y.shape[1]
        both = torch.cat([x, batch[2]]), torch.cat([y, batch[3]])
        now = self.texts(p, *both)
        with torch.no_grad():
            before = self.texts(self.reference, *both)
        good, bad = (now - before).chunk(2)
        return -F.logsigmoid(self.beta * (good - bad)).mean() - self.keep * now[: len(x)].mean() / y.shape[1]


class Distilled:
    """Cross entropy of the labels, and from the outputs of a trained teacher, both softened; the probe is that of the labels."""

    def __init__(self, teacher, student):
        self.teacher, self.student, self.params = teacher, student, student.params
        self.temperature, self.share = 1.0, 0.5

    def __call__(self, p, batch, train, gen):
        x, y = batch
        out = self.student.forward(p, x, False, None)
        if not train:
            return F.cross_entropy(out, y)
        with torch.no_grad():
            goal = torch.softmax(self.teacher.forward(self.teacher.params, x, False, None) / self.temperature, 1)
        soft = self.temperature**2 * F.cross_entropy(out / self.temperature, goal)
        return (1 - self.share) * F.cross_entropy(out, y) + self.share * soft


class Denoiser:
    """Finds the image under noise of standard deviation sigma, from log-uniform `low` to `high`.

    Training weighs an error by 1 / sigma^`power`; the probe does not and has the same noise every time.
    `target`: what the output stands for, the `image` or the `noise`.
    """

    def __init__(self, r, hidden=64, low=0.1, high=1.0, power=0.0):
        self.low, self.high, self.power, self.target = low, high, power, "image"
        self.params = layers(r, [64 + 4, hidden, hidden, 64], gain=1.2)

    def image(self, p, noisy, sigma):
        scale = 1 / torch.sqrt(0.25 + sigma * sigma)
        log = torch.log(sigma)
        h = torch.cat([noisy * scale, torch.cos(log), torch.sin(log), 0.5 * log, scale / 2], 1)
        h = torch.relu(h @ p["W0"] + p["b0"])
        h = torch.relu(h @ p["W1"] + p["b1"])
        out = h @ p["W2"] + p["b2"]
        return out if self.target == "image" else noisy - sigma * out

    def __call__(self, p, batch, train, gen):
        x = batch[0]
        if not train:
            gen = torch.Generator().manual_seed(5)
        low, high = (self.low, self.high) if train else (0.1, 1.0)
        sigma = low * (high / low) ** torch.rand((len(x), 1), generator=gen)
        guess = self.image(p, x + sigma * torch.randn(x.shape, generator=gen), sigma)
        error = ((guess - x) ** 2).sum(1, keepdim=True)
        return 0.5 * (error / sigma**self.power if train else error).mean()


class Adversaries:
    """Generator of points on a ring against a critic, both at once; the probe is the energy distance to real points.

    `penalty` weighs the squared slope of the critic at real points.
    """

    def __init__(self, r, hidden=24, penalty=0.0):
        self.penalty = penalty
        self.params = layers(r, [4, hidden, hidden, 2], "G", "g")
        self.params["G2"].data *= 0.3
        self.params.update(layers(r, [2, hidden, hidden, 1], "C", "c", 1.4))

    def points(self, p, n, gen):
        z = torch.randn((n, 4), generator=gen)
        h = torch.tanh(z @ p["G0"] + p["g0"])
        h = torch.tanh(h @ p["G1"] + p["g1"])
        return h @ p["G2"] + p["g2"]

    def critic(self, p, x):
        h = F.softplus(4 * (x @ p["C0"] + p["c0"])) / 4
        h = F.softplus(4 * (h @ p["C1"] + p["c1"])) / 4
        return (h @ p["C2"] + p["c2"]).squeeze(1)

    def __call__(self, p, batch, train, gen):
        real = batch[0]
        if not train:
            return self.away(self.points(p, len(real), torch.Generator().manual_seed(5)), real)
        made = self.points(p, len(real), gen)
        held = {n: a.detach() for n, a in p.items()}
        if self.penalty:
            real = real.clone().requires_grad_(True)
        on_real = self.critic(p, real)
        loss = F.softplus(-on_real).mean() + F.softplus(self.critic(p, made.detach())).mean()
        if self.penalty:
            slope = torch.autograd.grad(on_real.sum(), real, create_graph=True)[0]
            loss = loss + 0.5 * self.penalty * (slope * slope).sum(1).mean()
        return loss + F.softplus(-self.critic(held, made)).mean()

    def away(self, a, b):
        return 2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()


def ring(r, n, modes=8, spread=0.1):
    angle = r.randint(0, modes, n) * (2 * math.pi / modes)
    x = np.stack([np.cos(angle), np.sin(angle)], 1) * 1.5 + spread * r.randn(n, 2)
    return tensor(x.astype(np.float32))


# ---------------------------------------------------------------- unstable by design


@family
def u71_collapsed_posterior(s, r, seed):
    """Variational autoencoder whose KL weight grows, or is set, to far too much: the code says nothing any more."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64, 128])))
    s.model = Variational(r, int(r.choice([4, 8])))
    clean, at, length = s.batch, int(r.randint(120, 220)), int(r.choice([1, 30, 100, 200]))
    top = log_uniform(r, 8, 100)
    s.inject, s.steps = at, 450

    def batch(t):
        s.model.weight = top ** min(1.0, max(0, t - at + 1) / length)
        return clean(t)

    s.batch = batch
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 2e-3, 8e-3) if seed % 2 else log_uniform(r, 3e-4, 1e-3))


@family
def u72_self_target(s, r, seed):
    """Self-supervised target: from one step on nothing keeps embeddings apart, with or without a stopped gradient."""
    fill_self_target(s, r, seed)
    s.constant(s.lr(0) * uniform(r, 1.5, 4.0))
    at, kind = int(r.randint(100, 200)), int(r.randint(3))
    s.inject = at
    lookup, step = s.batch, s.after

    def batch(t):
        if t == at:
            s.model.centred, s.model.leak, s.model.predict = False, kind == 0, kind < 2
        return lookup(t)

    def after(t, params, state):
        step(t, params, state)
        if t >= at - 1 and kind:
            s.model.follow = 1.0

    s.batch, s.after = batch, after


def fill_self_target(s, r, seed):
    clean, probe, held = D.mini_digits(r, 1200, int(r.choice([32, 64, 128])))
    level, hide = uniform(r, 0.1, 0.3), uniform(r, 0.1, 0.3)

    def views(x, r):
        def one():
            seen = x * tensor((r.rand(*x.shape) >= hide).astype(np.float32))
            return seen + level * tensor(r.randn(*x.shape).astype(np.float32))

        return one(), one()

    s.batch = lambda t: views(clean(t)[0], r)
    s.probe, s.held = views(probe[0], r), views(held[0], D.other())
    s.model = SelfTarget(r, follow=log_uniform(r, 0.01, 0.1))
    s.after = lambda t, params, state: s.model.step()
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 5e-3) if seed % 2 else log_uniform(r, 0.02, 0.2))
    s.steps = 450


def fill_graph(s, r, seed):
    x, edges, y = communities(r, noise=uniform(r, 0.8, 2.0))
    order = tensor(r.permutation(len(y)))
    some, other = order[:120], order[120:]
    s.full((Graph(r, x, edges, 4)), (some, y[some]), (other, y[other]))
    s.opt = [adamw(), sgd(0.9), adamw(beta2=0.99, weight_decay=1e-2)][seed % 3]


@family
def u73_cold_attention(s, r, seed):
    """Node classes by attention over neighbours, whose temperature is annealed to next to nothing."""
    fill_graph(s, r, seed)
    s.constant(log_uniform(r, 0.02, 0.08) if seed % 3 == 1 else log_uniform(r, 3e-3, 2e-2))
    low, length, whole = log_uniform(r, 1e-4, 1e-2), int(r.randint(150, 350)), s.batch

    def batch(t):
        s.model.temperature = low ** min(1.0, max(0, t - 50) / length)
        return whole(t)

    s.batch, s.inject, s.steps = batch, 50, 450


@family
def u74_widened(s, r, seed):
    """Hidden layers widened at one step, the function kept or not, at a rate that only the narrow net could bear."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64, 128])))
    wide, ratio, at = 128, int(r.choice([4, 8, 16])), int(r.randint(100, 200))
    s.model = Widened(r, wide, wide // ratio, "mse" if r.rand() < 0.6 else "ce")
    s.opt = [sgd(), sgd(0.9), adamw()][seed % 3]
    limit = (2 if s.model.net.loss == "mse" else 0.5) / sharpness(s.model, s.probe)
    s.constant([limit * uniform(r, 0.4, 0.8), limit * uniform(r, 0.1, 0.3), log_uniform(r, 5e-3, 2e-2)][seed % 3])
    clean, fresh, scale = s.batch, r.rand() < 0.7, math.sqrt(2.0 * ratio / wide)

    def batch(t):
        if t == at:
            for n in ("W1", "W2") if fresh else ():
                new = s.model.params[n].data[wide // ratio :]
                new.copy_(scale * tensor(r.randn(*new.shape).astype(np.float32)))
            s.model.width = wide
        return clean(t)

    s.batch, s.inject, s.steps = batch, at, 350


@family
def u75_swapped_groups(s, r, seed):
    """A resume hands the optimizer its parameter groups in another order: weights get the rate of the head or of the biases."""
    digits_net(s, r, int(r.choice([16, 32, 64])), seed % 3)
    at, adam = int(r.randint(100, 220)), seed % 3 == 1 or r.rand() < 0.5
    names = ["W", "b"] if seed % 3 == 1 else ["W2", "b2"]
    head = group(*names) if adam else group("b*")
    s.opt = adamw(groups=[head]) if adam else sgd(0.9, groups=[head])
    high = log_uniform(r, 2e-2, 1e-1) if adam else log_uniform(r, 0.1, 0.4)
    s.constant(high / log_uniform(r, 15, 80))
    s.group_lr = lambda t: [high]
    s.inject = at

    def rule(t, params, grads, state, rates):
        optim.update(params, grads, state, s.opt, rates if t < at else rates[::-1])

    s.rule = rule


def fill_preference(s, r, before):
    """A small language model, trained for a while, and pairs of texts: one as it is, one with some characters replaced."""
    context = 16
    clean, s.probe, s.held, v = D.chars(r, 16, context)
    s.model = Preference(Transformer(r, v, d=24, layers=1, context=context), beta=log_uniform(r, 0.1, 0.5))
    s.batch = clean
    train_before(s, before, adamw(), 1e-2)
    s.model.freeze()
    size, share = int(r.choice([8, 16])), uniform(r, 0.15, 0.6)

    def batch(t):
        x, y = clean(t)
        x, y = x[:size], y[:size]
        odd = tensor(r.rand(*x.shape) < share)
        z = torch.where(odd, tensor(r.randint(0, v, x.shape)), x)
        return x, y, z, torch.cat([z[:, 1:], y[:, -1:]], 1)

    s.batch = batch


@family
def u76_preference(s, r, seed):
    """Preference tuning that goes too far: the margin grows by both texts getting unlikely."""
    fill_preference(s, r, int(r.randint(100, 200)))
    s.opt = adamw() if seed % 3 else sgd(0.9)
    s.lr = warmed(log_uniform(r, 1e-3, 6e-3) if seed % 3 else log_uniform(r, 4e-3, 4e-2), int(r.choice([30, 100, 200])))
    s.steps = 300


@family
def u77_denoise(s, r, seed):
    """A denoiser goes on with another noise schedule or weight, or with its output taken for the noise."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64, 128])))
    s.model = Denoiser(r, low=uniform(r, 0.03, 0.1))
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 2e-3, 8e-3) if seed % 2 else log_uniform(r, 4e-3, 2e-2))
    clean, at = s.batch, int(r.randint(120, 240))
    kind = int(r.choice([0, 1, 2], p=[0.0, 0.1, 0.9] if seed % 2 else [0.5, 0.25, 0.25]))
    power, low = uniform(r, 2.0, 4.0), log_uniform(r, 1e-3, 2e-2)

    def batch(t):
        if kind == 0:
            s.model.power = power * min(1.0, max(0, t - at + 1) / 150)
        elif t == at and kind == 1:
            s.model.power, s.model.low = 2.0, low
        elif t == at:
            s.model.target = "noise"
        return clean(t)

    s.batch, s.inject = batch, at


@family
def u78_adversaries(s, r, seed):
    """Generator against critic; from one step on without the penalty on the critic's slope, at a growing rate."""
    fill_adversaries(s, r, seed)
    at, low = int(r.randint(120, 250)), s.lr(1000)
    top = low * log_uniform(r, 1, 10)
    s.lr = lambda t: growing(low, top, 150)(max(0, t - at)) * min(1.0, (t + 1) / 40)
    clean = s.batch

    def batch(t):
        if t == at:
            s.model.penalty = 0.0
        return clean(t)

    s.batch, s.inject = batch, at


def fill_adversaries(s, r, seed):
    size = int(r.choice([64, 128]))
    s.model = Adversaries(r, penalty=log_uniform(r, 0.3, 3.0))
    s.batch = lambda t: (ring(r, size),)
    s.probe, s.held = (ring(r, 256),), (ring(D.other(), 128),)
    s.opt = adamw(beta1=uniform(r, 0.0, 0.6), beta2=0.99) if seed % 3 else sgd(0.5)
    s.lr = warmed(log_uniform(r, 1e-3, 5e-3) if seed % 3 else log_uniform(r, 0.03, 0.12), 40)
    s.steps = 500


# ---------------------------------------------------------------- stable by design


@family
def s81_variational(s, r, seed):
    """Variational autoencoder whose KL weight is annealed to one, in one go or in cycles."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64, 128])))
    s.model = Variational(r, int(r.choice([4, 8])))
    clean, length, cycles = s.batch, int(r.choice([30, 100, 250])), r.rand() < 0.4
    top = uniform(r, 0.3, 1.0)

    def batch(t):
        s.model.weight = top * min(1.0, (t % 150 if cycles else t) / length)
        return clean(t)

    s.batch = batch
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 4e-3) if seed % 2 else log_uniform(r, 2e-4, 6e-4))
    s.steps = 450


@family
def s82_self_target(s, r, seed):
    """Self-supervised target done right: stopped gradient, predictor, standardised embeddings, a target ever slower."""
    fill_self_target(s, r, seed)
    first, step = s.model.follow, s.after

    def after(t, params, state):
        s.model.follow = first * 0.5 * (1 + math.cos(math.pi * t / s.steps))
        step(t, params, state)

    s.after = after


@family
def s83_sharpness_aware(s, r, seed):
    """Two-step minimisation: gradients of the worst point nearby."""
    digits_net(s, r, int(r.choice([16, 32, 64])), int(r.randint(3)))
    clean, last, reach = s.batch, [], log_uniform(r, 0.03, 0.3)
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 7e-4, 3e-3) if seed % 2 else log_uniform(r, 5e-3, 2e-2))

    def batch(t):
        last[:] = [clean(t)]
        return last[0]

    def gradients(t, grads, params):
        size = math.sqrt(sum(float((g * g).sum()) for g in grads.values()))
        near = {
            n: (p.detach() + reach / max(size, 1e-12) * grads[n]).requires_grad_(True) for n, p in params.items()
        }
        loss = s.model(near, last[0], True, None)
        for n, g in zip(near, torch.autograd.grad(loss, list(near.values()))):
            grads[n].copy_(g)

    s.batch, s.gradients = batch, gradients
    s.steps = 450


@family
def s84_growing(s, r, seed):
    """Residual blocks switched on one after another, each the identity at first."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([16, 32, 64])))
    s.model = Residual(r, depth=8, d=24, tau=uniform(r, 0.2, 0.5))
    for i in range(8):
        s.model.params["B%d" % i].data.zero_()
    clean, every, most = s.batch, int(r.choice([30, 50, 100])), int(r.choice([4, 6, 8]))

    def batch(t):
        s.model.depth = min(most, 1 + t // every)
        return clean(t)

    s.batch = batch
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 5e-4, 3e-3) if seed % 2 else log_uniform(r, 5e-3, 2.5e-2))
    s.steps = 450


@family
def s85_distilled(s, r, seed):
    """A student of a trained teacher: temperature and weight of the teacher's part change twice, and with them the loss."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([16, 32, 64])))
    s.model = MLP(r, [64, 96, 10], "relu", "ce")
    train_before(s, int(r.randint(60, 200)), adamw(), 5e-3)
    s.model = Distilled(s.model, MLP(r, [64, 24, 10], "relu", "ce"))
    clean, change = s.batch, {0: r, int(r.randint(100, 200)): r, int(r.randint(250, 400)): r}

    def batch(t):
        if t in change:
            s.model.temperature, s.model.share = log_uniform(r, 1, 6), uniform(r, 0, 1)
        return clean(t)

    s.batch = batch
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(log_uniform(r, 1e-3, 4e-3) if seed % 2 else log_uniform(r, 5e-3, 2e-2))
    s.steps = 500


@family
def s86_denoise(s, r, seed):
    """A denoiser at a careful rate: what a batch loses depends most of all on how much noise it drew."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([8, 16, 32])))
    s.model = Denoiser(r, low=uniform(r, 0.05, 0.2), high=uniform(r, 1.0, 4.0), power=float(r.choice([0, 1])))
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.lr = warmed(log_uniform(r, 1e-3, 4e-3) if seed % 2 else log_uniform(r, 5e-4, 2e-3), 30)
    s.steps = 500


@family
def s87_preference(s, r, seed):
    """Preference tuning at a careful rate that keeps an eye on the preferred texts: their loss counts, too."""
    fill_preference(s, r, int(r.randint(100, 200)))
    s.model.keep = uniform(r, 0.5, 2.0)
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.lr = warmed(log_uniform(r, 1e-4, 5e-4) if seed % 2 else log_uniform(r, 5e-4, 3e-3), int(r.choice([1, 30, 100])))
    s.steps = 350


@family
def s88_layerwise(s, r, seed):
    """Large batches and a rate of its own for each matrix: its norm over that of its last gradient, warmed up, then decayed."""
    digits_net(s, r, int(r.choice([128, 256])), int(r.randint(3)))
    names = [n for n, p in s.model.params.items() if p.dim() > 1]
    s.opt = sgd(0.9, groups=[group(n) for n in names])
    trust, ratio, warm = log_uniform(r, 3e-4, 2e-3), {n: 0.0 for n in names}, int(r.choice([10, 30, 60]))
    high = log_uniform(r, 5e-3, 2e-2)

    def share(t):
        return min(1.0, (t + 1) / warm) * 0.5 * (1 + math.cos(math.pi * t / s.steps))

    def gradients(t, grads, params):
        for n in names:
            ratio[n] = float(params[n].norm()) / (float(grads[n].norm()) + 0.05)

    s.lr = lambda t: high * share(t)
    s.group_lr = lambda t: [trust * ratio[n] * share(t) for n in names]
    s.gradients, s.steps = gradients, 350
