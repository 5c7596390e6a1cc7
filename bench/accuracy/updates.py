"""The updates of all declared optimizers as maps in torch, float64: what their exact Jacobians are
taken of. Where torch has the optimizer itself, agree() holds the map against it."""

import torch

DEFAULTS = dict(momentum=0.0, dampening=0.0, nesterov=False, weight_decay=0.0, beta1=0.9,
                beta2=0.999, eps=1e-8)


class Update:
    """new, memory = update(theta, g, memory, t) with t from 1; a memory is a tuple of tensors."""

    def __init__(self, declared, lr, clip=None, cuts=()):
        self.kind, self.lr, self.clip = declared["type"], lr, clip
        self.cuts = tuple(cuts)  # of the tensors, which are the groups of group_l1
        self.c = dict(DEFAULTS, **declared)

    def start(self, theta):
        return torch.zeros_like(theta), torch.zeros_like(theta)

    def __call__(self, theta, g, memory, t, is_frozen=False):
        if self.clip:
            g = g * torch.clamp(self.clip / (g.norm() + 1e-6), max=1.0)
        if self.kind not in ("adamw", "lion"):
            g = g + self.c["weight_decay"] * theta
        return getattr(self, "_" + self.kind)(theta, g, memory, t, is_frozen)

    def _sgd(self, theta, g, memory, t, _):
        m, v = memory
        beta = self.c["momentum"]
        if beta:
            m = g if t == 1 else beta * m + (1 - self.c["dampening"]) * g
            g = g + beta * m if self.c["nesterov"] else m
        return theta - self.lr * g, (m, v)

    def _adam(self, theta, g, memory, t, is_frozen):
        b1, b2 = self.c["beta1"], self.c["beta2"]
        m, v = b1 * memory[0] + (1 - b1) * g, b2 * memory[1] + (1 - b2) * g * g
        root = _root((v.detach() if is_frozen else v) / (1 - b2 ** t)) + self.c["eps"]
        return theta - self.lr * m / (1 - b1 ** t) / root, (m, v)

    def _adamw(self, theta, g, memory, t, is_frozen):
        decayed = theta * (1 - self.lr * self.c["weight_decay"])
        return self._adam(decayed, g, memory, t, is_frozen)

    def _rmsprop(self, theta, g, memory, _, is_frozen):
        m, v = memory[0], self.c["beta2"] * memory[1] + (1 - self.c["beta2"]) * g * g
        step = g / (_root(v.detach() if is_frozen else v) + self.c["eps"])
        if self.c["momentum"]:
            m = step = self.c["momentum"] * m + step
        return theta - self.lr * step, (m, v)

    def _signsgd(self, theta, g, memory, _t, _frozen):
        return theta - self.lr * g.sign(), memory

    def _lion(self, theta, g, memory, _t, _frozen):
        m, v = memory
        step = (self.c["beta1"] * m + (1 - self.c["beta1"]) * g).sign()
        m = self.c["beta2"] * m + (1 - self.c["beta2"]) * g
        return theta - self.lr * (step + self.c["weight_decay"] * theta), (m, v)

    def _proxgd(self, theta, g, memory, _t, _frozen):
        x, prox = theta - self.lr * g, self.c["prox"]
        if prox["kind"] == "l1":
            return _shrink(x, self.lr * prox["lambda"]), memory
        if prox["kind"] == "l2":
            return x / (1 + self.lr * prox["lambda"]), memory
        if prox["kind"] == "group_l1":
            parts = [x[cut] * torch.clamp(1 - self.lr * prox["lambda"] / x[cut].norm(), min=0.0)
                     for cut in self.cuts]
            return torch.cat(parts), memory
        return _shrink(x, self.lr * prox["l1"]) / (1 + self.lr * prox["l2"]), memory

    def _projgd(self, theta, g, memory, _t, _frozen):
        x, bounds = theta - self.lr * g, self.c["set"]
        if bounds["kind"] == "box":
            return x.clamp(bounds["low"], bounds["high"]), memory
        if bounds["kind"] == "ball":
            return x * torch.clamp(bounds["radius"] / x.norm(), max=1.0), memory
        ordered = x.sort(descending=True).values
        excess = (ordered.cumsum(0) - bounds["radius"]) / torch.arange(1, len(x) + 1)
        last = int((ordered > excess).nonzero()[-1])
        return (x - excess[last]).clamp(min=0.0), memory


def _root(v):
    """With derivative 0 where v is 0: what moves v there is of second order."""
    return torch.where(v > 0, torch.where(v > 0, v, torch.ones_like(v)).sqrt(), v)


def _shrink(x, by):
    return torch.where(x.abs() > by, x - by * x.sign(), torch.zeros_like(x))


def torch_optimizer(declared, parameters, lr):
    """torch's own optimizer of these constants, or None."""
    c = dict(DEFAULTS, **declared)
    decay, betas = dict(lr=lr, weight_decay=c["weight_decay"]), (c["beta1"], c["beta2"])
    if c["type"] == "sgd":
        return torch.optim.SGD(parameters, momentum=c["momentum"], dampening=c["dampening"],
                               nesterov=c["nesterov"], **decay)
    if c["type"] == "rmsprop":
        return torch.optim.RMSprop(parameters, alpha=c["beta2"], eps=c["eps"],
                                   momentum=c["momentum"], **decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}.get(c["type"])
    return kind and kind(parameters, betas=betas, eps=c["eps"], **decay)


def agree(ours, theirs):
    """RuntimeError where a map is not what torch does, beyond rounding."""
    distance = float((ours - theirs).norm() / theirs.norm())
    if not distance < 1e-12:
        raise RuntimeError("the map is not torch's optimizer: relative distance %g" % distance)
