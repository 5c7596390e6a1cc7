"""What several families share: a task on the digits, schedules, training before the stream begins."""
import numpy as np
import torch

import data as D
import optim
from models import MLP, Conv


def digits_net(s, r, size, kind, n=1200):
    """Mini-batches of digits and one of three nets; batch and weights come from r in this order."""
    s.batch, s.probe, s.held = D.mini_digits(r, n, size)
    if kind % 3 == 0:
        s.model = MLP(r, [64, 48, 48, 10], "relu", "ce")
    elif kind % 3 == 1:
        s.model = Conv(r)
    else:
        s.model = MLP(r, [64, 40, 40, 10], "tanh", "mse")


def stepped(low, high, at):
    return lambda t: low if t < at else high


def growing(low, high, n):
    """Geometric from low to high in n steps, then constant."""
    return lambda t: low * (high / low) ** min(1.0, t / n)


def warmed(high, n):
    return lambda t: high * min(1.0, (t + 1.0) / n)


def train_before(s, steps, opt, rate):
    """Trains the model before the stream begins: what a checkpoint brings. Clipped to norm 1."""
    state, params = {}, s.model.params
    for t in range(steps):
        loss = s.model(params, s.batch(t), True, None)
        grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
        grads = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, params.values())]
        optim.update(params, dict(zip(params, optim.clipped(grads, 1.0))), state, opt, [rate])
    return state


def driven(x, force):
    """Points of a differential equation and what drives it there."""
    return D.tensor(x), D.tensor(np.sin(force * x).astype(np.float32))


def copied(state):
    """A deep copy of an optimizer's state."""
    return {
        k: {n: a.clone() for n, a in v.items()} if isinstance(v, dict) else
        (v.clone() if torch.is_tensor(v) else v)
        for k, v in state.items()
    }


def random_labels(r, y):
    return D.tensor(r.randint(0, 10, len(y)).astype(np.int64))
