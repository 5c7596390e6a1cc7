"""The 34 families of the first corpus: 12 unstable by design (u), 22 stable (s)."""
import math

import numpy as np

import data as D
from data import log_uniform, tensor, uniform
from models import MLP, RNN, Conv, Factorisation, Linear, Residual, Transformer, sharpness
from optim import adamw, proxgd, sgd

FAMILIES = {}


def family(function):
    FAMILIES[function.__name__] = function
    return function


def limit_of(s, iterations=25):
    """2/L at the start: the largest stable rate of gradient descent."""
    return 2 / sharpness(s.model, s.probe, iterations)


def linear_map(x, w):
    return tensor(x), tensor((x @ w).astype(np.float32))


def stepped(low, high, at):
    return lambda t: low if t < at else high


# ---------------------------------------------------------------- unstable by design


@family
def u01_gd_lr(s, r, seed):
    """Full-batch GD past 2/L: slowly from the start, by a step of the rate, or on a matrix factorisation."""
    kind, s.steps, at = seed % 4, 300, int(r.randint(60, 180))
    if kind == 0:
        x = D.regression(r, 120, 30, 0.3, 1.5)
        w = r.randn(30)
        s.full(Linear(r, 30), linear_map(x, w), linear_map(D.regression(D.other(), D.HELD, 30, 0.3, 1.5), w))
        s.constant(limit_of(s, 200) * uniform(r, 1.005, 1.06))
    elif kind == 3:
        m = r.randn(20, 3) @ r.randn(3, 20)
        s.full(Factorisation(r), (tensor(m.astype(np.float32)),))
        slope = uniform(r, 0.8, 2.5)
        s.lr = lambda t: 0.05 + slope * t / 300.0
    else:
        sizes, act = ([64, 32, 10], "tanh") if kind == 1 else ([64, 32, 32, 10], "relu")
        s.full(MLP(r, sizes, act, "mse"), *D.full_digits(r, 400))
        c = limit_of(s)
        low, range_ = (0.5 * c, (1.5, 5.0)) if kind == 1 else (0.3 * c, (1.0, 4.0))
        s.lr = stepped(low, c * uniform(r, *range_), at)
        s.inject = at


@family
def u02_sgd_lr(s, r, seed):
    """Mini-batch SGD: rate too high from the start, or a warm-up to a too high peak."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([8, 16, 32, 64])))
    if seed % 2:
        s.model = MLP(r, [64, 32, 10], "relu", "mse")
    else:
        s.model = MLP(r, [64, 48, 48, 10], "relu", "ce", gain=1.3)
    s.steps = 300
    high = limit_of(s) * (uniform(r, 3.0, 12.0) if seed % 2 else uniform(r, 3.0, 10.0))
    n = int(r.randint(60, 200))
    if seed % 4 == 0:
        s.constant(high)
    else:
        s.lr = lambda t: high * min(1.0, (t + 1.0) / n)


@family
def u03_mom_ramp(s, r, seed):
    """Heavy ball with a growing rate."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([32, 64, 128])))
    models = [
        MLP(r, [64, 32, 10], "tanh", "mse"),
        MLP(r, [64, 32, 32, 10], "relu", "ce"),
        Conv(r),
    ]
    s.model = models[seed % 3]
    s.opt = sgd(0.9)
    high = [1.2, 1.5, 1.0][seed % 3] * uniform(r, 0.8, 2.0)
    n = s.steps = int(r.randint(350, 500))
    if r.rand() < 0.5:
        s.lr = lambda t: 1e-3 + high * t / n
    else:
        s.lr = lambda t: 1e-3 * (2 * high / 1e-3) ** (t / n)


@family
def u04_adam_shift(s, r, seed):
    """Adam; from one step on inputs scaled, inputs permuted, or labels permuted."""
    clean, probe, s.held = D.mini_digits(r, 1200, 64)
    s.model = MLP(r, [64, 48, 48, 10], "relu", "ce") if seed % 2 else Conv(r)
    s.opt = adamw()
    s.constant(log_uniform(r, 2e-3, 1.5e-2))
    at = s.inject = int(r.randint(120, 250))
    kind, scale = seed % 3, uniform(r, 5, 30)
    pixels = r.permutation(64)
    labels = tensor(r.permutation(10))

    def shifted(b):
        if kind == 0:
            return b[0] * scale, b[1]
        return (b[0][:, pixels], b[1]) if kind == 1 else (b[0], labels[b[1]])

    s.batch = lambda t: shifted(clean(t)) if t >= at else clean(t)
    s.probe_at = lambda t: shifted(probe) if t >= at else probe


@family
def u05_tfm_hilr(s, r, seed):
    """Character transformer, no qk-norm, with and without LayerNorm: the rate jumps or keeps growing."""
    s.batch, s.probe, s.held, v = D.chars(r, 16)
    s.model = Transformer(r, v, ln=seed % 2 == 0, qk_gain=uniform(r, 1, 2))
    s.opt = adamw(beta2=0.999 if seed % 3 else 0.95)
    s.steps = 260
    high = log_uniform(r, 6e-2, 3e-1) if seed % 2 == 0 else log_uniform(r, 2e-2, 1e-1)
    high *= 3 if seed % 4 >= 2 else 1
    n = int(r.randint(90, 180))
    if seed % 4 < 2:
        s.lr = stepped(2e-3, high, n)
    else:
        s.lr = lambda t: 2e-3 * (high / 2e-3) ** min(1.0, t / 180.0)


@family
def u06_rnn_explode(s, r, seed):
    """Vanilla RNN on the adding problem, growing rate, no clipping."""
    length = int(r.randint(15, 25))
    x, y = D.adding(r, 600, length)
    s.probe, s.held = (x[:128], y[:128]), D.adding(D.other(), D.HELD, length)
    s.batch = D.adding_batches(r, x, y, 600, 32)
    rho = uniform(r, 1.0, 1.06) if seed % 2 else uniform(r, 1.2, 1.7)
    s.model = RNN(r, 24, rho, "relu" if seed % 2 else "tanh")
    s.steps = 300
    high = log_uniform(r, 2e-3, 5e-2) if seed % 2 else log_uniform(r, 0.2, 1.5)
    low = 1e-5 if seed % 2 else 0.002
    s.lr = lambda t: low * (high / low) ** min(1.0, t / 250.0)


@family
def u07_bad_batch(s, r, seed):
    """One to five batches with inputs x30-1000, or with scrambled labels and inputs x3."""
    clean, s.probe, s.held = D.mini_digits(r, 1200, 64)
    kind = seed % 3
    at = s.inject = int(r.randint(120, 280))
    n = int(r.randint(1, 6))
    s.model = MLP(r, [64, 48, 48, 10], "relu", "ce") if seed % 2 else Conv(r)
    s.opt = sgd(0.9) if kind else adamw()
    s.constant(log_uniform(r, 0.02, 0.06) if kind else log_uniform(r, 2e-3, 6e-3))
    scale = log_uniform(r, 30, 1000)

    def batch(t):
        x, y = clean(t)
        if not at <= t < at + n:
            return x, y
        return (x * 3, tensor(r.randint(0, 10, 64))) if kind == 2 else (x * scale, y)

    s.batch = batch


@family
def u08_bitflip(s, r, seed):
    """Silent data corruption: the top exponent bit of a weight, a 64-byte line x16, or a low exponent bit."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 64)
    at = s.inject = int(r.randint(120, 300))
    models = [MLP(r, [64, 48, 48, 10], "relu", "ce"), Conv(r), Residual(r, 6, 24, 0.2)]
    s.model = models[seed % 3]
    s.opt, rate = [(sgd(0.9), 0.03), (adamw(), 2e-3)][(seed // 3) % 2]
    s.constant(rate)
    large = [n for n, p in s.model.params.items() if p.numel() > 50]
    name = large[r.randint(len(large))]
    where, kind = r.rand(), seed % 4

    def after(t, params, state):
        if t != at - 1:
            return
        a = params[name].data.reshape(-1).numpy()
        n = 16 if kind == 2 else 1
        i = int(where * (a.size - n))
        if kind == 2:
            a[i : i + n] *= 16
        else:
            bits = a[i : i + n].view(np.uint32)
            bits ^= np.uint32(1 << (30 if kind < 2 else 24))

    s.after = after


@family
def u09_neg_wd(s, r, seed):
    """All parameters multiplied by 1 + eps after each update: an undeclared negative decay."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 64)
    at = int(r.randint(60, 160))
    decay = log_uniform(r, 0.01, 0.2)
    s.model = MLP(r, [64, 48, 48, 10], "relu", "ce") if seed % 2 else Conv(r)
    plain = seed % 4 < 2
    s.opt = sgd(0.9) if plain else adamw()
    s.constant(0.03 if plain else 3e-3)
    s.inject, s.steps = at, 500
    rate = decay * (0.2 if plain else 0.3)

    def after(t, params, state):
        if t >= at:
            for p in params.values():
                p.data.mul_(1 + rate)

    s.after = after


@family
def u10_res_cfl(s, r, seed):
    """Un-normalised residual net with a growing rate."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 64)
    s.model = Residual(r, int(r.randint(8, 16)), 24, uniform(r, 0.5, 1.0))
    s.opt = sgd(0.9 if seed % 2 else 0.0)
    s.steps = 300
    high = log_uniform(r, 0.05, 0.4)
    s.lr = lambda t: 5e-4 * (high / 5e-4) ** min(1.0, t / 250.0)


def composite(s, r, seed, low, high):
    """(2/L, factor, step) of a regression with l1 term (even seeds) or box constraint (odd seeds)."""
    n, p = 80, 40
    x = D.regression(r, n, p, 0.2, 1.3)
    w = r.randn(p) * (r.rand(p) < 0.3)
    y = (x @ w + 0.1 * r.randn(n)).astype(np.float32)
    held = linear_map(D.regression(D.other(), D.HELD, p, 0.2, 1.3), w)
    s.full(Linear(r, p, 0.05 if seed % 2 == 0 else 0.0), (tensor(x), tensor(y)), held)
    return limit_of(s, 300), uniform(r, low, high), int(r.randint(50, 150))


def proximal(s, seed, rate):
    """ISTA (even seeds) or projected GD (odd seeds) at a constant rate."""
    kind = "l1" if seed % 2 == 0 else "box"
    s.opt = proxgd(kind, s.model.l1, 3.0)
    s.constant(rate)
    s.steps = 300


@family
def u11_prox(s, r, seed):
    """Step above 2/L: stepped there under (sub)gradient descent, or all along under ISTA and projected GD."""
    c, factor, at = composite(s, r, seed, 1.005, 1.3)
    if seed % 4 < 2:
        s.inject = at
        s.lr = stepped(0.8 * c, factor * c, at)
    else:
        proximal(s, seed, factor * c)


@family
def u12_adam_natural(s, r, seed):
    """Full-batch Adam at a high rate: spikes of its own, no fault at all."""
    kind, s.steps = seed % 3, 600
    if kind == 0:
        s.full(MLP(r, [64, 24, 24, 10], "tanh", "mse"), *D.full_digits(r, 300))
        high = log_uniform(r, 1e-2, 5e-2)
    else:
        x = np.linspace(-1, 1, 100, dtype=np.float32)[:, None]
        between = D.other().uniform(-1, 1, (D.HELD, 1)).astype(np.float32)
        sizes, wave, range_ = (
            ([1, 24, 24, 24, 1], lambda x: np.sin(7 * x), (1.5e-2, 6e-2))
            if kind == 1
            else ([1, 40, 40, 1], lambda x: np.sin(4 * x) + 0.5 * np.sin(11 * x), (2e-2, 8e-2))
        )
        net = MLP(r, sizes, "tanh", "mse", gain=1.5)
        s.full(net, (tensor(x), tensor(wave(x))), (tensor(between), tensor(wave(between))))
        high = log_uniform(r, *range_)
    s.opt = adamw(beta2=float(r.choice([0.99, 0.999, 0.9999])))
    s.lr = lambda t: high * min(1.0, (t + 1) / 150.0)


# ---------------------------------------------------------------- stable by design


@family
def s01_gd(s, r, seed):
    """GD well below 2/L."""
    s.full(MLP(r, [64, 32, 10], "tanh", "mse" if seed % 2 else "ce"), *D.full_digits(r, 400))
    s.constant(limit_of(s) * uniform(r, 0.2, 0.6))


@family
def s02_eos(s, r, seed):
    """GD that settles at the edge of stability."""
    s.full(MLP(r, [64, 24, 24, 10], "tanh", "mse"), *D.full_digits(r, 250))
    s.constant(limit_of(s) * uniform(r, 0.7, 1.1))
    s.steps = 600


@family
def s03_cosine(s, r, seed):
    """Cosine cycles with restarts."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 64)
    s.model = Conv(r) if seed % 2 else MLP(r, [64, 48, 48, 10], "relu", "ce")
    s.opt = sgd(0.9) if seed % 3 else adamw()
    high = uniform(r, 0.02, 0.06) if seed % 3 else uniform(r, 2e-3, 5e-3)
    n = int(r.randint(80, 140))
    s.lr = lambda t: high * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (t % n) / n)))


@family
def s04_warmup(s, r, seed):
    """Linear warm-up, heavy ball."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 32)
    s.model = MLP(r, [64, 48, 48, 10], "tanh", "ce")
    s.opt = sgd(0.9)
    high = uniform(r, 0.05, 0.15)
    s.lr = lambda t: high * min(1, (t + 1) / 100)


@family
def s05_stepdecay(s, r, seed):
    """Step decay."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 32)
    s.model = Conv(r)
    s.opt = sgd(0.9)
    high = uniform(r, 0.03, 0.08)
    s.lr = lambda t: high * (1 if t < 200 else 0.1 if t < 300 else 0.01)


@family
def s06_noisy(s, r, seed):
    """Batches of one to four."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([1, 2, 4])))
    s.model = MLP(r, [64, 32, 10], "tanh", "ce")
    s.constant(uniform(r, 0.01, 0.05))
    s.steps = 600


@family
def s07_plateau(s, r, seed):
    """A long saddle, then a sudden drop."""
    act = "linear" if seed % 2 else "tanh"
    s.full(MLP(r, [64, 24, 24, 24, 10], act, "mse", gain=0.35), *D.full_digits(r, 300))
    s.constant(uniform(r, 0.08, 0.2))
    s.steps = 700


@family
def s08_accum(s, r, seed):
    """Gradient accumulation over four batches."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 16)
    s.model = MLP(r, [64, 48, 48, 10], "relu", "ce")
    s.opt = sgd(0.9) if seed % 2 else adamw()
    s.constant(0.05 if seed % 2 else 3e-3)
    s.accum = 4


@family
def s09_dropout(s, r, seed):
    """Dropout 0.4."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 32)
    s.model = MLP(r, [64, 64, 64, 10], "relu", "ce", dropout=0.4)
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(2e-3 if seed % 2 else 0.03)


@family
def s10_tfm(s, r, seed):
    """Transformer with warm-up, clipping and cosine decay."""
    s.batch, s.probe, s.held, v = D.chars(r, 16)
    s.model = Transformer(r, v, qk_norm=seed % 2 == 0)
    s.opt = adamw(beta2=0.95 if seed % 2 else 0.999, weight_decay=0.01)
    high = log_uniform(r, 2e-3, 6e-3)
    s.clip, s.steps = 1.0, 300

    def rate(t):
        return high * min(1, (t + 1) / 40) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * t / 300)))

    s.lr = rate


@family
def s11_rnn(s, r, seed):
    """RNN with clipping."""
    x, y = D.adding(r, 600, 15)
    s.probe, s.held = (x[:128], y[:128]), D.adding(D.other(), D.HELD, 15)
    s.batch = D.adding_batches(r, x, y, 600, 32)
    s.model = RNN(r, 24, 0.9, "tanh")
    s.opt = adamw() if seed % 2 else sgd(0.0)
    s.constant(2e-3 if seed % 2 else 0.02)
    s.clip = 1.0


@family
def s12_res(s, r, seed):
    """Un-normalised residual net with a small step."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 64)
    s.model = Residual(r, 8, 24, 0.1)
    s.opt = sgd(0.9)
    s.constant(uniform(r, 0.01, 0.03))


@family
def s13_prox(s, r, seed):
    """ISTA and projected GD below 2/L."""
    c, factor, _ = composite(s, r, seed, 0.5, 0.95)
    proximal(s, seed, factor * c)


@family
def s14_adam_fb(s, r, seed):
    """Full-batch Adam at a moderate rate."""
    s.full(MLP(r, [64, 24, 24, 10], "tanh", "ce"), *D.full_digits(r, 300))
    s.opt = adamw(beta2=0.99)
    s.constant(log_uniform(r, 1e-3, 4e-3))
    s.steps = 500


@family
def s15_batchsize(s, r, seed):
    """Batch size 128 to 8, or back, at step 200."""
    large, s.probe, s.held = D.mini_digits(r, 1200, 128)
    small, *_ = D.mini_digits(r, 1200, 8)
    first, second = (large, small) if seed % 2 else (small, large)
    s.batch = lambda t: first(t) if t < 200 else second(t)
    s.model = MLP(r, [64, 48, 10], "relu", "ce")
    s.opt = sgd(0.9)
    s.constant(0.02)


@family
def s16_resume(s, r, seed):
    """Optimizer state lost at two resumes."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 64)
    s.model = MLP(r, [64, 48, 48, 10], "relu", "ce")
    s.opt = adamw() if seed % 2 else sgd(0.9)
    s.constant(2e-3 if seed % 2 else 0.03)

    def after(t, params, state):
        if t in (150, 280):
            state.clear()

    s.after = after


@family
def s17_lrdrop_up(s, r, seed):
    """Rate x4, then a tenth."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 64)
    s.model = Conv(r)
    s.opt = sgd(0.9)
    s.lr = lambda t: 0.002 if t < 150 else (0.008 if t < 300 else 0.0008)


@family
def s18_clip(s, r, seed):
    """Clipping always active."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 16)
    s.model = MLP(r, [64, 64, 64, 10], "relu", "ce")
    s.clip = 0.5
    s.opt = sgd(0.9)
    s.constant(0.05)


@family
def s19_unfreeze(s, r, seed):
    """Lower layers frozen until step 150."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, 64)
    s.model = MLP(r, [64, 48, 48, 10], "relu", "ce")
    s.opt = sgd(0.9)
    s.constant(0.03)
    s.frozen = (("W0", "b0", "W1", "b1"), 150)


@family
def s20_rare(s, r, seed):
    """Three batches in a hundred hold inputs four times as large."""
    clean, s.probe, s.held = D.mini_digits(r, 1200, 16)
    s.model = MLP(r, [64, 48, 10], "tanh", "ce")
    s.constant(0.03)

    def batch(t):
        x, y = clean(t)
        return x * (4.0 if r.rand() < 0.03 else 1.0), y

    s.batch = batch


@family
def s21_adam_mini(s, r, seed):
    """Mini-batch AdamW."""
    s.batch, s.probe, s.held = D.mini_digits(r, 1200, int(r.choice([16, 32, 64])))
    s.model = Conv(r)
    s.opt = adamw(weight_decay=0.01)
    s.constant(log_uniform(r, 1e-3, 3e-3))
    s.steps = 500


@family
def s22_linreg(s, r, seed):
    """Linear regression near 2/L, or with heavy ball."""
    x, w = r.randn(120, 30).astype(np.float32), r.randn(30)
    s.full(Linear(r, 30), linear_map(x, w), linear_map(D.other().randn(D.HELD, 30).astype(np.float32), w))
    s.opt = sgd(0.0 if seed % 2 else 0.9)
    low, high = (0.5, 0.97) if seed % 2 else (0.1, 0.4)
    s.constant(limit_of(s, 200) * uniform(r, low, high))
