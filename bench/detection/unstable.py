"""Added families, unstable by design: faults of state, precision, data, targets, and of too bold settings."""
import numpy as np
import torch

import data as D
import optim
from data import log_uniform, tensor, uniform
from mechanisms import BatchNorm, Bootstrap, Experts, Gaussian, Physics, TwoTowers
from models import MLP, RNN, Transformer, sharpness
from optim import adamw, group, sgd
from tasks import copied, driven, digits_net, growing, random_labels, stepped, train_before, warmed

FAMILIES = {}


def family(function):
    FAMILIES[function.__name__] = function
    return function


@family
def u13_stale_state(s, r, seed):
    """Optimizer state restored wrongly: second moment lost, rows shuffled, momentum of an early point, wrong scale."""
    kind = seed % 4
    digits_net(s, r, int(r.choice([32, 64])), int(r.randint(3)))
    at = s.inject = int(r.randint(120, 280))
    momentum = kind == 2
    s.opt = sgd(0.9) if momentum else adamw(beta2=float(r.choice([0.99, 0.999])))
    s.constant(log_uniform(r, 0.02, 0.08) if momentum else log_uniform(r, 2e-3, 1e-2))
    early, shrink = int(r.randint(2, 8)), log_uniform(r, 1e-6, 1e-3)
    factor, saved = log_uniform(r, 3, 30), {}

    def after(t, params, state):
        if t == early:
            saved.update(copied(state))
        if t != at - 1:
            return
        if kind == 2:
            for n in params:
                state[n] = saved[n] * factor
        else:
            for n, v in state["v"].items():
                if kind == 0:
                    v.zero_()
                elif kind == 1:
                    flat = v.reshape(-1)
                    v.copy_(flat[tensor(r.permutation(len(flat)))].reshape(v.shape))
                else:
                    v.mul_(shrink)

    s.after = after


@family
def u14_router(s, r, seed):
    """Routed experts: the router's rate jumps or grows, the balance loss is mis-scaled, or all rates grow."""
    kind = seed % 4
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64])))
    s.model = Experts(r, int(r.choice([4, 8])), balance=float(r.choice([0.0, 0.01, 0.1])))
    s.opt = adamw(beta2=float(r.choice([0.95, 0.999])), groups=[group("router")])
    rate, at = log_uniform(r, 2e-3, 8e-3), int(r.randint(100, 220))
    high = log_uniform(r, 0.3, 5.0)
    s.constant(rate)
    if kind == 0:
        s.group_lr = lambda t: [rate if t < at else high]
        s.inject = at
    elif kind == 1:
        s.group_lr = lambda t: [growing(rate, high, 250)(t)]
    elif kind == 2:
        weight, s.inject = log_uniform(r, 30, 1000), at
        s.group_lr = lambda t: [rate]

        def after(t, params, state):
            if t == at - 1:
                s.model.balance = weight

        s.after = after
    else:
        s.lr = growing(rate, log_uniform(r, 0.05, 0.4), 250)
        s.group_lr = lambda t: [s.lr(t)]


@family
def u15_low_precision(s, r, seed):
    """Second moment kept in half or bfloat16, weights in half precision at a growing rate, eps lost in half."""
    kind = seed % 4
    digits_net(s, r, int(r.choice([32, 64])), int(r.randint(3)))
    s.steps = 500
    s.opt = adamw(beta2=0.999 if kind < 2 else 0.99)
    s.constant(log_uniform(r, 1e-3, 6e-3))
    if kind == 1:
        s.lr = growing(1e-3, log_uniform(r, 2e-2, 1e-1), 350)
    if kind == 2:
        s.opt = sgd(0.9)
        s.lr = growing(1e-3, log_uniform(r, 0.3, 2.0), 350)
    low = torch.bfloat16 if kind == 1 else torch.float16
    declared, at = s.opt, int(r.randint(60, 200))
    if kind == 3:
        s.inject = at

    def rule(t, params, grads, state, rates):
        opt = dict(declared, eps=0.0) if kind == 3 and t >= at else declared
        optim.update(params, grads, state, opt, rates)
        if kind == 2:
            for p in params.values():
                p.copy_(p.to(low).float())
        else:
            for v in state["v"].values():
                v.copy_(v.to(low).float())

    s.rule = rule


@family
def u16_norm_stats(s, r, seed):
    """Batch norm: statistics frozen, wiped, far too slow, or batches that shrink to two or three."""
    kind = seed % 4
    big, s.probe, s.held = D.mini_digits(r, 1200, 64)
    small, *_ = D.mini_digits(r, 1200, int(r.choice([2, 3])))
    s.model = BatchNorm(r, [64, 48, 48, 10], rate=log_uniform(r, 0.001, 0.01) if kind == 2 else 0.1)
    momentum = r.rand() < 0.5
    s.opt = sgd(0.9) if momentum else adamw()
    rate = log_uniform(r, 0.05, 0.5) if momentum else log_uniform(r, 5e-3, 5e-2)
    at = int(r.randint(100, 220))
    s.constant(rate)
    s.batch = (lambda t: big(t) if t < at else small(t)) if kind == 3 else big
    if kind == 2:
        s.model.use = "running"
        s.lr = growing(rate * 0.1, rate * 3, 300)
        return
    s.inject = at

    def after(t, params, state):
        if t == at - 1 and kind < 2:
            s.model.use, s.model.rate = "running", 0.0
            if kind == 1:
                for i in s.model.mean:
                    s.model.mean[i].zero_()
                    s.model.var[i].fill_(1.0)

    s.after = after


@family
def u17_bootstrap(s, r, seed):
    """Temporal differences off policy: targets made by the network itself, with and without a held copy."""
    states, size = int(r.choice([12, 24])), 64
    period = int(r.choice([1, 1, 10, 30]))
    n, at = 400, int(r.randint(60, 160))
    x = np.abs(r.randn(n, states)).astype(np.float32)
    reward = (x @ r.randn(states) / states + 0.1 * r.randn(n)).astype(np.float32)
    stretch, late = uniform(r, 0.95, 1.4), seed % 2
    then = (x[r.permutation(n)] * stretch).astype(np.float32)
    same = x[r.permutation(n)].astype(np.float32)
    s.model = Bootstrap(r, states, gamma=uniform(r, 0.93, 0.99) if not late else 0.9, period=period)
    s.opt = [sgd(0.0), sgd(0.9), adamw()][seed % 3]
    ranges = [(0.01, 0.06), (1e-3, 6e-3), (2e-3, 1e-2)]
    s.lr = warmed(log_uniform(r, *ranges[seed % 3]), 60)
    s.steps = 500
    if late:
        s.inject = at
    gamma = uniform(r, 0.97, 0.999)

    def batch(t):
        j = r.randint(0, n, size)
        follow = same if late and t < at else then
        return tensor(x[j]), tensor(reward[j]), tensor(follow[j])

    def after(t, params, state):
        if t % period == period - 1:
            s.model.refresh()
        if late and t == at - 1:
            s.model.gamma = gamma

    s.batch, s.after = batch, after
    s.probe = (tensor(x[:128]), tensor(reward[:128]), tensor(then[:128]))
    s.held = (tensor(x[-D.HELD :]), tensor(reward[-D.HELD :]), tensor((same if late else then)[-D.HELD :]))


@family
def u18_attention(s, r, seed):
    """Larger transformers with and without qk-norm, rate warmed up to, or growing to, far too much."""
    context, kind = 32, seed % 4
    s.batch, s.probe, s.held, v = D.chars(r, 12, context)
    d, layers = [(48, 3), (64, 2), (64, 3)][int(r.randint(3))]
    s.model = Transformer(
        r, v, d, layers, 4, context, qk_norm=kind % 2 == 1, qk_gain=uniform(r, 1.0, 3.0)
    )
    s.opt = adamw(beta2=float(r.choice([0.95, 0.99, 0.999])), weight_decay=float(r.choice([0.0, 0.1])))
    s.steps = 240
    s.clip = float(r.choice([0.0, 1.0]))
    high = log_uniform(r, 0.05, 0.5) * (2 if kind % 2 else 1)
    rise = int(r.randint(60, 180))
    if kind < 2:
        s.inject, s.lr = rise, stepped(3e-3, high, rise)
    else:
        s.lr = growing(2e-3, 2 * high, 220)


@family
def u19_corrupt_stretch(s, r, seed):
    """A stretch of bad data: random labels, labels off by one, sorted classes, blank or transposed images."""
    kind = seed % 5
    digits_net(s, r, int(r.choice([16, 64])), int(r.randint(3)))
    clean = s.batch
    at = s.inject = int(r.randint(120, 250))
    n = int(r.randint(10, 80))
    momentum = r.rand() < 0.6
    s.opt = sgd(0.9) if momentum else adamw()
    s.constant(log_uniform(r, 0.02, 0.1) if momentum else log_uniform(r, 2e-3, 1e-2))
    only = int(r.randint(10))
    images, labels = D.digits()
    of_class = np.flatnonzero(labels == only)

    def batch(t):
        x, y = clean(t)
        if not at <= t < at + n:
            return x, y
        if kind == 0:
            return x, random_labels(r, y)
        if kind == 1:
            return x, (y + 1) % 10
        if kind == 2:
            j = of_class[r.randint(0, len(of_class), len(y))]
            return tensor(images[j]), tensor(labels[j])
        if kind == 3:
            return x * 0 + uniform(r, -3, 3), y
        return x.reshape(-1, 8, 8).transpose(1, 2).reshape(-1, 64) * 2, y

    s.batch = batch


@family
def u20_rate_restart(s, r, seed):
    """The rate falls until the loss lies still, then restarts far above its first peak."""
    kind = seed % 3
    digits_net(s, r, int(r.choice([32, 64])), int(r.randint(3)))
    s.opt = [sgd(0.9), adamw(), sgd(0.0)][kind]
    peak = [log_uniform(r, 0.02, 0.06), log_uniform(r, 2e-3, 6e-3), log_uniform(r, 0.1, 0.3)][kind]
    at, factor = int(r.randint(150, 260)), log_uniform(r, 5, 60)
    s.inject = at
    cold = r.rand() < 0.5

    def rate(t):
        return peak * (0.01 + 0.99 * (1 - t / at)) if t < at else peak * factor

    def after(t, params, state):
        if cold and t == at - 1:
            state.clear()

    s.lr, s.after = rate, after


@family
def u21_momentum_change(s, r, seed):
    """Momentum or betas are not, or no longer, those declared; the rate stays."""
    kind = seed % 3
    digits_net(s, r, int(r.choice([32, 64, 128])), int(r.randint(3)))
    at = s.inject = int(r.randint(100, 240))
    s.opt = sgd(0.9) if kind < 2 else adamw()
    s.constant(log_uniform(r, 0.05, 0.2) if kind < 2 else log_uniform(r, 5e-3, 3e-2))
    other = dict(s.opt)
    if kind == 0:
        other["momentum"] = float(1 - log_uniform(r, 1e-3, 2e-2))
    elif kind == 1:
        other["momentum"] = float(1 + log_uniform(r, 1e-3, 3e-2))
    else:
        other["beta1"], other["beta2"] = float(1 - log_uniform(r, 2e-3, 2e-2)), float(r.choice([0.9, 0.99]))
    declared = s.opt
    s.steps = 450

    def rule(t, params, grads, state, rates):
        optim.update(params, grads, state, declared if t < at else other, rates)

    s.rule = rule


@family
def u22_decay_sign(s, r, seed):
    """Weight decay with the wrong sign in the gradient, not multiplied by the rate, or on one tensor only."""
    kind = seed % 3
    digits_net(s, r, 64, int(r.randint(3)))
    at = s.inject = int(r.randint(60, 180))
    s.steps = 500
    declared = s.opt = sgd(0.9, weight_decay=log_uniform(r, 0.02, 0.2)) if kind == 0 else adamw(weight_decay=0.1)
    s.constant(log_uniform(r, 0.02, 0.06) if kind == 0 else log_uniform(r, 1e-3, 5e-3))
    strength = log_uniform(r, 0.003, 0.1)
    name = list(s.model.params)[int(r.randint(len(s.model.params)))]

    def rule(t, params, grads, state, rates):
        opt = declared
        if t >= at:
            opt = dict(declared, weight_decay=-declared["weight_decay"] if kind == 0 else 0.0)
            for n, p in params.items():
                if kind == 1:
                    p.mul_(1 - strength)
                elif kind == 2 and n == name:
                    p.mul_(1 + strength)
        optim.update(params, grads, state, opt, rates)

    s.rule = rule


@family
def u23_loss_scale(s, r, seed):
    """Loss scaling gone wrong: a few updates with scaled gradients, or overflow that nobody skips."""
    kind = seed % 3
    digits_net(s, r, int(r.choice([32, 64])), int(r.randint(3)))
    at = s.inject = int(r.randint(120, 280))
    n, power = int(r.randint(1, 12)), int(r.randint(3, 10))
    s.opt = sgd(0.9) if kind == 0 else adamw(beta2=float(r.choice([0.95, 0.999])))
    s.constant(log_uniform(r, 0.01, 0.05) if kind == 0 else log_uniform(r, 2e-3, 1e-2))

    def gradients(t, grads, params):
        if kind < 2 and at <= t < at + n:
            for g in grads.values():
                g.mul_(2.0 ** (power if kind == 0 else power + 6))
        if kind == 2 and t >= at:
            scale = 2.0 ** (14 + (t - at) // 4)
            for g in grads.values():
                g.copy_((g * scale).half().float().div(scale))

    s.gradients = gradients


@family
def u24_accumulation(s, r, seed):
    """Gradients never zeroed from one step on, or summed over micro-batches where the mean was meant."""
    kind = seed % 2
    digits_net(s, r, int(r.choice([16, 32, 64])), int(r.randint(3)))
    at = s.inject = int(r.randint(80, 240))
    adam = r.rand() < 0.3
    s.opt = adamw() if adam else sgd(float(r.choice([0.0, 0.9])))
    s.constant(log_uniform(r, 2e-3, 1e-2) if adam else log_uniform(r, 0.01, 0.05))
    times, left = int(r.choice([8, 16, 32, 64])), {}

    def gradients(t, grads, params):
        if t < at:
            return
        for n, g in grads.items():
            if kind == 0:
                g.add_(left.get(n, 0.0))
                left[n] = g.clone()
            else:
                g.mul_(times)

    s.gradients = gradients


@family
def u25_deep_plain(s, r, seed):
    """Deep nets without normalisation: activations explode while the rate grows."""
    depth, width = int(r.randint(6, 14)), int(r.choice([16, 24]))
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64, 128])))
    act = "relu" if seed % 2 else "tanh"
    s.model = MLP(r, [64] + [width] * depth + [10], act, "ce", gain=uniform(r, 0.95, 1.15) if act == "relu" else uniform(r, 1.0, 1.6))
    s.opt = [sgd(0.0), sgd(0.9), adamw()][seed % 3]
    s.steps = 350
    high = [log_uniform(r, 0.3, 2.0), log_uniform(r, 0.05, 0.4), log_uniform(r, 2e-2, 1e-1)][seed % 3]
    s.lr = growing(high / 100, high, 300) if r.rand() < 0.6 else stepped(high / 20, high, int(r.randint(80, 200)))


@family
def u26_length_jump(s, r, seed):
    """Longer sequences from one step on, the rate as before: recurrent nets without clipping."""
    short, long = int(r.randint(5, 10)), int(r.randint(25, 50))
    xs, ys = D.adding(r, 600, short)
    xl, yl = D.adding(r, 600, long)
    at = s.inject = int(r.randint(100, 200))
    first, second = D.adding_batches(r, xs, ys, 600, 32), D.adding_batches(r, xl, yl, 600, 32)
    s.batch = lambda t: first(t) if t < at else second(t)
    s.probe, s.held = (xs[:128], ys[:128]), D.adding(D.other(), D.HELD, short)
    relu = seed % 2
    s.model = RNN(r, 24, uniform(r, 1.0, 1.03) if relu else uniform(r, 1.0, 1.5), "relu" if relu else "tanh")
    s.opt = adamw() if seed % 3 == 0 else sgd(0.0)
    s.steps = 350
    rate = log_uniform(r, 2e-3, 2e-2) if seed % 3 == 0 else log_uniform(r, 5e-3, 5e-2) * (0.3 if relu else 3)
    s.lr = warmed(rate, 60)


@family
def u27_batch_shrink(s, r, seed):
    """The batch shrinks to a fraction at a rate that only the large batch could bear."""
    big, s.probe, s.held = D.mini_digits(r, 1200, 256)
    size = int(r.choice([1, 2, 4, 8]))
    small, *_ = D.mini_digits(r, 1200, size)
    at = s.inject = int(r.randint(80, 200))
    s.batch = lambda t: big(t) if t < at else small(t)
    s.model = MLP(r, [64, 32, 10], "relu", "mse") if seed % 2 else MLP(r, [64, 48, 48, 10], "relu", "ce")
    s.opt = sgd(0.9) if seed % 3 else sgd(0.0)
    s.constant(log_uniform(r, 0.05, 0.25) * (1 if seed % 3 else 4))


@family
def u28_contrast(s, r, seed):
    """Contrastive towers whose learned temperature is unbounded, at a growing or jumping rate."""
    clean, _, held = D.mini_digits(r, 1200, int(r.choice([32, 64])))
    noise, at = uniform(r, 0.1, 0.4), int(r.randint(100, 200))

    def views(x, r=r):
        return tuple(x + noise * tensor(r.randn(*x.shape).astype(np.float32)) for _ in range(2))

    s.batch = lambda t: views(clean(t)[0])
    s.probe, s.held = views(clean(0)[0]), views(held[0], D.other())
    s.model = TwoTowers(r, scale=uniform(r, 1.5, 4.0))
    s.opt = adamw(beta2=float(r.choice([0.9, 0.99, 0.999])), groups=[group("scale")])
    rate = log_uniform(r, 2e-3, 5e-3)
    high = log_uniform(r, 5e-2, 4e-1)
    s.lr = growing(rate, high, 300) if seed % 2 else stepped(rate, high, at)
    s.inject = None if seed % 2 else at
    ratio = log_uniform(r, 0.3, 5)
    s.group_lr = lambda t: [s.lr(t) * ratio]


@family
def u29_delay(s, r, seed):
    """The optimizer gets gradients of parameters several updates old: from one step on, or at a growing rate."""
    digits_net(s, r, int(r.choice([32, 64, 128])), int(r.randint(3)))
    late, lag = seed % 2, int(r.randint(4, 24))
    at = int(r.randint(80, 200)) if late else lag
    s.inject = at if late else None
    s.opt = [sgd(0.9), sgd(0.0), adamw()][seed % 3]
    rate = [log_uniform(r, 0.02, 0.1), log_uniform(r, 0.2, 1.0), log_uniform(r, 5e-3, 3e-2)][seed % 3]
    s.lr = stepped(rate, rate, 0) if late else growing(rate / 30, rate * 2, 300)
    past = []

    def gradients(t, grads, params):
        past.append({n: g.clone() for n, g in grads.items()})
        if len(past) > lag:
            old = past.pop(0)
            if t >= at:
                grads.update(old)

    s.gradients = gradients


@family
def u30_bad_reduce(s, r, seed):
    """One tensor's gradient is wrong from one step on: negated, multiplied, of other elements, or always the same."""
    kind = seed % 4
    digits_net(s, r, int(r.choice([32, 64])), int(r.randint(3)))
    at = s.inject = int(r.randint(80, 240))
    s.opt = sgd(0.9) if seed % 3 else adamw()
    s.constant(log_uniform(r, 0.03, 0.1) if seed % 3 else log_uniform(r, 4e-3, 2e-2))
    s.steps = 500
    matrices = [n for n, p in s.model.params.items() if p.dim() > 1]
    name, factor, held = matrices[int(r.randint(len(matrices)))], log_uniform(r, 16, 512), []

    def gradients(t, grads, params):
        if t < at:
            return
        g = grads[name]
        if kind == 0:
            g.neg_()
        elif kind == 1:
            g.mul_(factor)
        elif kind == 2:
            g.copy_(g.flip(0))
        else:
            held.append(g.clone())
            g.copy_(held[0])

    s.gradients = gradients


@family
def u31_likelihood(s, r, seed):
    """Regression with predicted variance: the variance collapses and the loss, below zero by then, jumps."""
    n, size = 300, int(r.choice([16, 64, 300]))
    x = r.uniform(-2, 2, (n, 1)).astype(np.float32)
    noise = log_uniform(r, 0.01, 0.1)

    def targets(x, r):
        return (np.sin(3 * x[:, 0]) + noise * (1 + x[:, 0] ** 2) * r.randn(len(x))).astype(np.float32)

    y, others = targets(x, r), D.other().uniform(-2, 2, (D.HELD, 1)).astype(np.float32)
    s.probe, s.held = (tensor(x), tensor(y)), (tensor(others), tensor(targets(others, D.other())))

    def batch(t):
        j = r.randint(0, n, size)
        return tensor(x[j]), tensor(y[j])

    s.batch = batch
    s.model = Gaussian(r)
    s.floor = s.model.low / 2
    s.opt = adamw(beta2=float(r.choice([0.99, 0.999]))) if seed % 3 else sgd(0.9)
    s.steps = 600
    high = log_uniform(r, 1e-2, 8e-2) if seed % 3 else log_uniform(r, 3e-3, 3e-2)
    s.lr = warmed(high, int(r.randint(100, 400)))


@family
def u32_stiff(s, r, seed):
    """Residual of a differential equation: a badly scaled loss, Adam or GD at a growing rate."""
    x = np.linspace(0, 1, 64, dtype=np.float32)[:, None]
    force = uniform(r, 3, 9)
    s.full(Physics(r, weight=log_uniform(r, 1, 100)), driven(x, force), driven(D.other().rand(D.HELD, 1).astype(np.float32), force))
    s.steps = 500
    if seed % 2:
        s.opt = adamw(beta2=float(r.choice([0.99, 0.999])))
        s.lr = growing(1e-3, log_uniform(r, 2e-2, 1e-1), int(r.randint(150, 400)))
    else:
        s.opt = sgd(float(r.choice([0.0, 0.9])))
        c = 2 / sharpness(s.model, s.probe)
        s.lr = growing(c * 0.05, c * uniform(r, 2, 8), int(r.randint(150, 400)))


@family
def u33_finetune_hot(s, r, seed):
    """A converged model trained on with new data at far too high a rate, without warm-up."""
    kind = seed % 3
    digits_net(s, r, 32, int(r.randint(3)))
    s.opt = [sgd(0.9), adamw(), adamw(beta2=0.95)][kind]
    train_before(s, 250, adamw(), 3e-3)
    shift = uniform(r, 0.2, 1.0)
    clean = s.batch
    mean = tensor((shift * r.randn(64)).astype(np.float32))
    s.batch = lambda t: (lambda b: (b[0] + mean, b[1]))(clean(t))
    s.probe, s.held = (s.probe[0] + mean, s.probe[1]), (s.held[0] + mean, s.held[1])
    high = log_uniform(r, 0.1, 1.0) if kind == 0 else log_uniform(r, 1e-2, 2e-1)
    s.lr = growing(high / 50, high, int(r.randint(60, 200)))
    s.steps = 300
